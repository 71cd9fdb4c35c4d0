"""Figure 8: ascent steps and rates of the regression's teleport, all of them side by side in one environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.figure import Figure

from reproduction.course import OneEach, converged, play
from reproduction.pictures import panels
from reproduction.pieces import play_all
from reproduction.published import PUBLISHED, RELEASED, REPEATS, PublishedRegression, Times, turns
from reproduction.results import (
    FEWEST,
    Findings,
    Row,
    Setup,
    above,
    interval_of,
    note_of,
    ranked,
    resamples,
    rising,
    rows,
    settings_of,
    verdict,
)
from teleport_env.agents.schedules import Never

STEPS = (1, 2, 4, 8, 16, 32)
RATES = {"gd": (1e-8, 3e-8, 1e-7, 3e-7), "adagrad": (1e-7, 3e-7, 1e-6, 3e-6, 1e-5)}
NAMES = {"gd": "GD", "adagrad": "AdaGrad"}
PLAIN_RATES = {"gd": 1e-4, "adagrad": 0.1}
FIRST = "first order"
"""The form of Section 6.1 up the objective of Algorithm 1, as in Figure 3, which decides on the paper's claims."""

ACTIONS = {FIRST: RELEASED, "exact": PUBLISHED}
SEEDS = 5


def _at(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """``values`` ``(T + 1, B)`` at a step for each run."""
    index = np.where(np.isfinite(steps), steps, 0).astype(int)
    return values[index, np.arange(values.shape[1])]


def _play(optimizer: str, symmetry: str, limit: int) -> pd.DataFrame:
    """A row per ascent and seed."""
    environment: dict[str, Any] = {"optimizer": optimizer, "learning_rate": PLAIN_RATES[optimizer]}
    base = play("MLPRegression", Never(environment=environment), limit, instances=range(SEEDS))
    cells = [(steps, rate) for steps in STEPS[: limit // 10] for rate in RATES[optimizer]]
    environment |= {"symmetry": symmetry, "problem": PublishedRegression()}
    kind: dict[str, Any] = {"search": "released_ascent"}
    if symmetry == RELEASED:
        kind = {"search": "gradient_ascent", "trust_radius": None, "objective": "any"}
    environment["searches"] = [{**kind, "steps": steps, "rate": rate} for steps, rate in cells]
    agent = OneEach(searches=tuple(np.repeat(range(len(cells)), SEEDS)), environment=environment)
    course = play("MLPRegression", agent, limit, instances=list(range(SEEDS)) * len(cells))
    ends = converged(course)
    still = converged(base)
    jump, ended = course.jumps[0], np.isfinite(ends)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.log10(jump.growth)
    return pd.DataFrame(
        {
            "ascent_steps": np.repeat([steps for steps, _ in cells], SEEDS),
            "rate": np.repeat([rate for _, rate in cells], SEEDS),
            "seed": np.tile(range(SEEDS), len(cells)),
            "steps": ends,
            "converged": ends < limit,
            "plain_converged": np.tile(still < limit, len(cells)),
            "cost": np.where(ended, _at(course.cost, ends), np.inf),
            "loss": np.where(ended, _at(course.loss, ends), np.inf),
            "loss_change": jump.loss_change,
            "diverged": course.diverged,
            "moved": jump.moved,
            "unkept": jump.unkept,
            "log10_growth": np.where(jump.moved, growth, np.nan),
            "plain_steps": np.tile(still, len(cells)),
            "plain_cost": np.tile(_at(base.cost, still), len(cells)),
            "plain_loss": np.tile(_at(base.loss, still), len(cells)),
        }
    )


def _cells(frame: pd.DataFrame, timed: Mapping[str, Times]) -> pd.DataFrame:
    """A row per ascent: means over the seeds and the turns, speed-ups as ratios of means.

    Args:
        frame: Rows of `_play`.
        timed: `published.turns`.
    """
    for name, times in timed.items():
        step, ascent = np.mean(times, axis=0)
        frame = frame.assign(
            **{
                name: frame["steps"] * step + frame["ascent_steps"] * ascent,
                f"plain_{name}": frame["plain_steps"] * step,
            }
        )
    means = frame.groupby(["ascent_steps", "rate"], as_index=False).mean(numeric_only=True)
    for name in ("steps", "cost", *timed):
        means[f"speedup_{name}"] = (means[f"plain_{name}"] / means[name]).fillna(0.0)
    means["loss_ratio"] = means["loss"] / means["plain_loss"]
    return means


METRICS = {
    "speedup_steps": "speed-up in steps",
    "speedup_cost": "in gradient evaluations",
    "speedup_seconds": "in seconds (published formulas)",
    "loss_ratio": "loss where it stops / plain",
}


def _picture(tables: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    with panels(len(tables), len(METRICS), width=11.0, height=2.5) as (figure, axes):
        for row, ((optimizer, action), table) in enumerate(tables.items()):
            for column, (metric, title) in enumerate(METRICS.items()):
                axis = axes[row * len(METRICS) + column]
                grid = table.pivot(index="rate", columns="ascent_steps", values=metric)
                values = np.clip(np.where(np.isfinite(grid.to_numpy()), grid.to_numpy(), 1e6), 1e-3, 1e6)
                moved = table.pivot(index="rate", columns="ascent_steps", values="moved").to_numpy()
                loss = metric == "loss_ratio"
                norm = LogNorm(0.3, 3.3) if loss else TwoSlopeNorm(1.0, 0.0, 4.0)
                diverged = (values >= 1e5) | (values <= 2e-3)
                refused = (moved < 1.0) & ~diverged
                shown = np.ma.masked_where(diverged | refused, values)
                axis.set_facecolor("#999999")
                axis.imshow(shown, cmap="RdBu_r" if loss else "RdBu", norm=norm, aspect="auto", origin="lower")
                for (y, x), value in np.ndenumerate(values):
                    text = "-" if diverged[y, x] else "r" if refused[y, x] else f"{value:.2g}"
                    axis.text(x, y, text, ha="center", va="center", fontsize=7)
                axis.set_xticks(range(len(grid.columns)), [str(c) for c in grid.columns])
                axis.set_yticks(range(len(grid.index)), [f"{r:.0e}".replace("e-0", "e-") for r in grid.index])
                axis.grid(False)
                if not row:
                    axis.set_title(title, fontsize=10)
                if row == len(tables) - 1:
                    axis.set_xlabel("ascent steps")
                if not column:
                    axis.set_ylabel(f"{NAMES[optimizer]}, {action}\nrate")
    return figure


UNITS = ("steps", "cost", "seconds")


def _setting(row: pd.Series) -> str:
    speeds = ", ".join(f"{row[f'speedup_{unit}']:.2f} in {unit}" for unit in UNITS)
    return (
        f"{speeds} ({int(row['ascent_steps'])} ascent steps at {row['rate']:g}; stops at {row['loss_ratio']:.2f} times the "
        "plain loss)"
    )


def _sentence(table: pd.DataFrame) -> str:
    """The best settings, of those that count and of those that also stop no higher than plain."""
    usable = _usable(table)
    if usable.empty:
        return "no setting moves every seed and loses none"
    part = f"best {_setting(usable.loc[usable['speedup_steps'].idxmax()])}"
    honest = usable[(usable["loss_ratio"] <= 1.0) & (usable["speedup_steps"] > 1.0)]
    if honest.empty:
        return part + "; none is faster in steps and stops no higher than plain"
    return part + f"; of those that stop no higher than plain {_setting(honest.loc[honest['speedup_steps'].idxmax()])}"


def _ended(table: pd.DataFrame) -> pd.DataFrame:
    """Settings that count and converge for every seed, where plain descent converges too."""
    usable = _usable(table)
    return usable[(usable["converged"] == 1.0) & (usable["plain_converged"] == 1.0)]


def _no_higher(ended: pd.DataFrame, unit: str) -> int:
    """How many settings are faster and stop no higher than plain, of those that have converged."""
    return int(((ended[f"speedup_{unit}"] > 1.0) & (ended["loss_ratio"] <= 1.0)).sum())


def _counts(table: pd.DataFrame) -> tuple[str, list[bool]]:
    """How many settings are faster, in words, and whether most are by our criterion: of all settings, those that are faster
    in seconds and stop no higher."""
    usable, ended = _usable(table), _ended(table)
    faster = [int((ended[f"speedup_{unit}"] > 1.0).sum()) for unit in UNITS]
    honest = [_no_higher(ended, unit) for unit in UNITS]
    refused, lost = int((_lost(table) == 0).sum() - len(usable)), int((_lost(table) > 0).sum())
    slow = len(usable) - len(ended)
    text = (
        f"of {len(table)} settings {lost} lose a seed, {refused} have a teleport refused, "
        + (f"{slow} do not converge, " if slow else "")
        + f"{len(ended)} count; faster in "
        f"{' / '.join(UNITS)} {' / '.join(map(str, faster))}, and stop no higher than plain {' / '.join(map(str, honest))}"
    )
    return text, [honest[2] > 0.5 * len(table)]


class Share(NamedTuple):
    """Settings that are faster, of so many, and the 95 % interval of their number."""

    faster: int
    settings: int
    low: int
    high: int


def _faster(frame: pd.DataFrame, times: Times) -> Share:
    """Settings that converge in less time than plain descent, means over the seeds and the turns, of those that count and
    converge. The interval is that of all draws of the seeds, for all settings together, and of the turns (`resamples`);
    from nothing to all where seeds or turns are fewer than `FEWEST`.

    Args:
        frame: Rows of `_play`.
        times: Seconds of a gradient step and of an ascent step, turn by turn.
    """
    cells = ["ascent_steps", "rate"]
    ended = _ended(frame.groupby(cells, as_index=False).mean(numeric_only=True))
    kept = frame.merge(ended[cells], on=cells)
    saved = kept.assign(saved=kept["plain_steps"] - kept["steps"]).pivot(index="seed", columns=cells, values="saved")
    ascents, turns = saved.columns.get_level_values("ascent_steps").to_numpy(float), np.array(times)

    def faster(seeds: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Number of settings ``(S, T)``, for weights of the seeds ``(S, seeds)`` and of the turns ``(T, turns)``."""
        step, ascent = (drawn @ turns)[:, :, None].transpose(1, 0, 2)
        return (step * (seeds @ saved.to_numpy())[:, None] > ascent * ascents).sum(axis=-1)

    runs, count = len(saved), len(ended)
    if not count:
        return Share(0, 0, 0, 0)
    here = int(faster(np.full((1, runs), 1.0 / runs), np.full((1, len(turns)), 1.0 / len(turns)))[0, 0])
    if min(runs, len(turns)) < FEWEST:
        return Share(here, count, 0, count)
    (seeds, chance), (drawn, other) = resamples(runs), resamples(len(turns))
    chances = np.bincount(
        faster(seeds / runs, drawn / len(turns)).ravel(), np.outer(chance, other).ravel(), minlength=count + 1
    )
    low, high = np.searchsorted(chances.cumsum(), (0.025, 0.975))
    return Share(here, count, int(low), int(high))


def _most(share: Share) -> list[bool | None]:
    """Whether most settings are faster, by the whole interval; no check where fewer than `FEWEST` count and converge."""
    if share.settings < FEWEST:
        return []
    return [True if 2 * share.low > share.settings else False if 2 * share.high < share.settings else None]


def _told(share: Share) -> str:
    return f"{share.faster} of {share.settings} ({share.low} to {share.high})" if share.settings else "none"


def _each_rate(table: pd.DataFrame) -> str:
    """Settings that are faster in seconds, of those that count and converge, rate by rate from the smallest."""
    ended = _ended(table)
    counted = (ended["speedup_seconds"] > 1.0).groupby(ended["rate"]).agg(["sum", "size"])
    return ", ".join(f"{faster}/{size}" for faster, size in counted.to_numpy()) or "none"


def _best_steps(table: pd.DataFrame) -> str:
    usable = _usable(table)
    return (
        ", ".join(
            f"{rate:g}: {int(part.loc[part['speedup_steps'].idxmax(), 'ascent_steps'])} ({part['speedup_steps'].max():.2f})"
            for rate, part in usable.groupby("rate")
        )
        or "none counts"
    )


def _claims(
    played: Mapping[tuple[str, str], pd.DataFrame],
    tables: Mapping[tuple[str, str], pd.DataFrame],
    timed: Mapping[str, Mapping[str, Times]],
) -> list[Row]:
    """The claims from the rows of `_play`, from those of `_cells`, and from the times of each optimizer."""
    claims = []
    for optimizer in NAMES:
        first, exact = tables[optimizer, FIRST], tables[optimizer, "exact"]
        counts = {action: _counts(table) for action, table in ((FIRST, first), ("exact", exact))}
        shares = {
            (action, by): _faster(played[optimizer, action], timed[optimizer][by])
            for action in counts
            for by in timed[optimizer]
        }
        most = {key: _most(share) for key, share in shares.items()}
        low = _no_higher(_ended(first), "seconds")
        growths = [_rank(table, "log10_growth") for table in (first, exact)]
        speeds = [_rank(table) for table in (first, exact)]
        leak = _leak(first)
        correlation = _rank(first.assign(leak=leak), "leak")
        verdicts: dict[str, list[bool | None]] = {
            "figure8.most": most[FIRST, "seconds"],
            "figure8.honest": [check for _, checks in counts.values() for check in checks],
            "figure8.length": [value > 0.5 for value in growths],
        }
        claims += rows(verdicts, globals() | locals())
    return claims + _longer(played)


def _longer(played: Mapping[tuple[str, str], pd.DataFrame]) -> list[Row]:
    """The claims of what more ascent steps and a larger rate do, from the rows of `_play`."""
    more = {key: _along(frame, "ascent_steps", "rate") for key, frame in played.items()}
    larger = {key: _along(frame, "rate", "ascent_steps") for key, frame in played.items()}
    gone = {key: _gone(frame) for key, frame in played.items()}
    decides = [(optimizer, FIRST) for optimizer in NAMES]
    others = [(optimizer, "exact") for optimizer in NAMES]
    checks: dict[str, list[list[bool | None]]] = {
        "figure8.steps": [rising([more[key] for key in keys]) for keys in (decides, others)],
        "figure8.rate": [rising([larger[key] for key in keys]) for keys in (decides, others)],
        "figure8.diverge": [[gone[key][2] for key in keys] for keys in (decides, others)],
    }

    def named(found: Mapping[tuple[str, str], tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {NAMES[optimizer]: found[optimizer, action] for optimizer, action in decides}

    found = []
    for name, (stated, exact) in checks.items():
        otherwise = verdict(exact)
        found += rows({name: stated}, globals() | locals())
    return found


def _along(frame: pd.DataFrame, name: str, given: str) -> tuple[float, float]:
    """Rank correlation of the ascent's steps or rate with the growth of the gradient, the other held: its mean over the
    groups of three settings or more, with an interval over the seeds. Of the teleports that move."""
    kept = frame[frame["moved"].astype(bool)]

    def mean(part: pd.DataFrame) -> float:
        ranks = [ranked(group[name], group["log10_growth"]) for _, group in part.groupby(given) if len(group) > 2]
        return float(np.nanmean(ranks)) if np.isfinite(ranks).any() else np.nan

    return interval_of(np.array([mean(part) for _, part in kept.groupby("seed")]))


def _gone(frame: pd.DataFrame) -> tuple[float, float, bool | None]:
    """Share of the runs that diverge or whose ascent does: a teleport that is refused, but not because it would have changed
    the loss. At the smallest rate, and at the largest; and whether it is larger there, with 95 % confidence by Student's
    interval of the differences over the seeds. More nowhere is no."""
    lost: pd.Series = frame["diverged"].astype(bool) | ~(frame["moved"] | frame["unkept"]).astype(bool)
    shares = lost.groupby(frame["rate"]).mean()
    each = lost.groupby([frame["seed"], frame["rate"]]).mean().unstack()
    difference = (each.iloc[:, -1] - each.iloc[:, 0]).to_numpy()
    more = above(*interval_of(difference)) if (difference > 0.0).any() else False
    return float(shares.iloc[0]), float(shares.iloc[-1]), more


def sweep(setup: Setup) -> Findings:
    """Figure 8."""
    limit = setup.pick(full=2000, quick=2000, tiny=30)
    tables, runs = {}, []
    repeats = setup.pick(full=REPEATS, quick=REPEATS, tiny=1)
    pieces = {(one, action): (_play, (one, form, limit)) for one in RATES for action, form in ACTIONS.items()}
    played = play_all(pieces, "sweeps", setup.jobs)
    timed = {optimizer: turns(optimizer, PLAIN_RATES[optimizer], repeats) for optimizer in RATES}
    for optimizer, action in played:
        tables[optimizer, action] = _cells(played[optimizer, action], timed[optimizer])
        runs.append(tables[optimizer, action].assign(optimizer=optimizer, action=action))
    times = [
        {"optimizer": optimizer, "timing": by, "turn": turn, "step": step, "ascent_step": ascent}
        for optimizer, each in timed.items()
        for by, measured in each.items()
        for turn, (step, ascent) in enumerate(measured)
    ]
    return Findings(
        _claims(played, tables, timed),
        {"figure8": _picture(tables)},
        {"figure8": pd.concat(runs, ignore_index=True), "figure8_times": pd.DataFrame(times)},
        settings_of("figure8"),
        note=note_of("figure8", refused=_reasons(played)),
    )


def _lost(table: pd.DataFrame) -> pd.Series:
    """Seeds that diverge, of each setting."""
    return (SEEDS * table["diverged"]).round().astype(int)


def _usable(table: pd.DataFrame) -> pd.DataFrame:
    """The settings that count: every seed is teleported and none diverges."""
    return table[(_lost(table) == 0) & (table["moved"] == 1.0)]


def _rank(table: pd.DataFrame, name: str = "speedup_steps") -> float:
    usable = _usable(table)
    usable = usable[np.isfinite(usable[name])]
    return float((usable["ascent_steps"] * usable["rate"]).rank().corr(usable[name].rank()))


def _leak(table: pd.DataFrame) -> pd.Series:
    """Mean share of the loss that the teleport took away, of the settings that count; NaN elsewhere."""
    return (-table["loss_change"]).where(table.index.isin(_usable(table).index))


def _reasons(played: Mapping[tuple[str, str], pd.DataFrame]) -> dict[str, int]:
    """Reason -> teleports that are refused for it."""
    every = pd.concat(played.values())
    refused, unkept = ~every["moved"].astype(bool), every["unkept"].astype(bool)
    return {"not finite": int((refused & ~unkept).sum()), "loss": int(unkept.sum())}


def _by_rate(table: pd.DataFrame, counts: pd.Series) -> str:
    told = []
    for rate, part in table.assign(count=counts).groupby("rate"):
        found = part[part["count"] > 0]
        if len(found):
            cells = zip(found["ascent_steps"], found["count"], strict=True)
            told.append(f"{rate:g}: {', '.join(f'{int(steps)} ({count})' for steps, count in cells)}")
    return "; ".join(told) or "none"


def _losses(table: pd.DataFrame) -> str:
    """Settings in which seeds diverge, cell by cell."""
    return _by_rate(table, _lost(table))


def _refusals(table: pd.DataFrame) -> str:
    """Settings in which teleports are refused, cell by cell."""
    return _by_rate(table, (SEEDS * (1.0 - table["moved"])).round().astype(int))
