"""Figure 8: ascent steps and rates of the regression's teleport, all of them side by side in one environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.figure import Figure

from teleport_env.agents.base import Agent, State
from teleport_env.agents.reproduction.course import Course, play
from teleport_env.agents.reproduction.pictures import panels
from teleport_env.agents.reproduction.published import PUBLISHED, RELEASED, PublishedRegression
from teleport_env.agents.reproduction.results import Findings, Row, Setup, verdict
from teleport_env.agents.schedules import AtSteps, Never

STEPS = (1, 2, 4, 8, 16, 32)
RATES = {"gd": (1e-8, 3e-8, 1e-7, 3e-7), "adagrad": (1e-7, 3e-7, 1e-6, 3e-6, 1e-5)}
PLAIN_RATES = {"gd": 1e-4, "adagrad": 0.1}
ACTIONS = {"released": RELEASED, "exact": PUBLISHED}
STILL = 1e-3
"""A run has converged, for the paper, where a step changes its loss by less."""

SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class OneEach(Agent):
    """One teleport after ``at`` gradient steps, each run by a search of its own.

    Attributes:
        at: Gradient steps before it.
        searches: Index of the search of each run.
    """

    name: str = "one each"
    at: int = 5
    searches: tuple[int, ...] = ()

    def initial_state(self, count: int) -> State:
        return {"taken": np.zeros(count, dtype=np.int64), "done": np.zeros(count, dtype=bool)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        due = (memory["taken"] == self.at) & ~memory["done"]
        memory["done"] |= due
        memory["taken"] += ~due
        return np.where(due, self.steps + np.asarray(self.searches), 0)


def _converged(course: Course) -> np.ndarray:
    """Steps ``(B,)`` after which a run has converged; the last where it has not; infinite for a diverged one."""
    still = np.abs(np.diff(np.where(np.isfinite(course.loss), course.loss, 1e300), axis=0)) < STILL
    still[:6] = False  # the teleport comes first
    first = np.where(still.any(axis=0), still.argmax(axis=0) + 1, course.steps)
    return np.where(course.diverged, np.inf, first)


def _at(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """``values`` ``(T + 1, B)`` at a step for each run."""
    index = np.where(np.isfinite(steps), steps, 0).astype(int)
    return values[index, np.arange(values.shape[1])]


def _seconds(optimizer: str, setup: Setup) -> tuple[float, float]:
    """Seconds of a gradient step and of an ascent step of a single run: the least of several."""
    environment: dict[str, Any] = {"optimizer": optimizer, "learning_rate": PLAIN_RATES[optimizer]}
    environment |= {"problem": PublishedRegression(), "symmetry": PUBLISHED}
    repeats, steps = setup.pick(full=20, quick=8, tiny=1), 16
    plain, jump = [], []
    for _ in range(repeats):
        search = {"search": "released_ascent", "steps": steps, "rate": 1e-9}
        agent = AtSteps(at=(5,), environment={**environment, "searches": [search]})
        course = play("MLPRegression", agent, 40)
        gaps = np.diff(course.seconds)
        plain.append(float(np.median(gaps)))
        jump.append((float(gaps[4]) - plain[-1]) / steps)
    return min(plain), min(jump)


def _play(optimizer: str, symmetry: str, limit: int) -> tuple[pd.DataFrame, Course]:
    """A row an ascent and seed, and the plain runs."""
    environment: dict[str, Any] = {"optimizer": optimizer, "learning_rate": PLAIN_RATES[optimizer]}
    plain = play("MLPRegression", Never(environment=environment), limit, instances=range(SEEDS))
    cells = [(steps, rate) for steps in STEPS[: limit // 10] for rate in RATES[optimizer]]
    environment |= {"symmetry": symmetry, "problem": PublishedRegression()}
    environment["searches"] = [{"search": "released_ascent", "steps": steps, "rate": rate} for steps, rate in cells]
    agent = OneEach(searches=tuple(np.repeat(range(len(cells)), SEEDS)), environment=environment)
    course = play("MLPRegression", agent, limit, instances=list(range(SEEDS)) * len(cells))
    ends = _converged(course)
    rows = []
    for run, (cell, seed) in enumerate((cell, seed) for cell in cells for seed in range(SEEDS)):
        rows.append(
            {
                "ascent_steps": cell[0],
                "rate": cell[1],
                "seed": seed,
                "steps": ends[run],
                "cost": _at(course.cost, ends)[run] if np.isfinite(ends[run]) else np.inf,
                "loss": _at(course.loss, ends)[run] if np.isfinite(ends[run]) else np.inf,
                "loss_change": course.jumps[0].loss_change[run],
                "moved": bool(course.jumps[0].moved[run]),
                "log10_growth": np.log10(course.jumps[0].growth[run]) if course.jumps[0].moved[run] else np.nan,
            }
        )
    frame = pd.DataFrame(rows)
    still = _converged(plain)
    for name, values in (
        ("plain_steps", still),
        ("plain_cost", _at(plain.cost, still)),
        ("plain_loss", _at(plain.loss, still)),
    ):
        frame[name] = np.tile(values, len(cells))
    return frame, plain


def _cells(frame: pd.DataFrame, seconds: tuple[float, float]) -> pd.DataFrame:
    """A row an ascent: means over the seeds, speed-ups as ratios of means."""
    step, ascent = seconds
    frame = frame.assign(
        seconds=frame["steps"] * step + frame["ascent_steps"] * ascent, plain_seconds=frame["plain_steps"] * step
    )
    means = frame.groupby(["ascent_steps", "rate"], as_index=False).mean(numeric_only=True)
    for name in ("steps", "cost", "seconds"):
        means[f"speedup_{name}"] = (means[f"plain_{name}"] / means[name]).fillna(0.0)
    means["loss_ratio"] = means["loss"] / means["plain_loss"]
    return means


METRICS = {
    "speedup_steps": "speed-up in steps",
    "speedup_cost": "in ledger cost",
    "speedup_seconds": "in seconds",
    "loss_ratio": "loss where it stops / plain",
}


def _picture(tables: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    with panels(len(tables), len(METRICS), width=11.0, height=2.5) as (figure, axes):
        for row, ((optimizer, action), table) in enumerate(tables.items()):
            for column, (metric, title) in enumerate(METRICS.items()):
                axis = axes[row * len(METRICS) + column]
                grid = table.pivot(index="rate", columns="ascent_steps", values=metric)
                values = np.clip(np.where(np.isfinite(grid.to_numpy()), grid.to_numpy(), 1e6), 1e-3, 1e6)
                loss = metric == "loss_ratio"
                norm = LogNorm(0.3, 3.3) if loss else TwoSlopeNorm(1.0, 0.0, 4.0)
                diverged = (values >= 1e5) | (values <= 2e-3)
                shown = np.ma.masked_where(diverged, values)
                axis.set_facecolor("#999999")
                axis.imshow(shown, cmap="RdBu_r" if loss else "RdBu", norm=norm, aspect="auto", origin="lower")
                for (y, x), value in np.ndenumerate(values):
                    text = "-" if diverged[y, x] else f"{value:.2g}"
                    axis.text(x, y, text, ha="center", va="center", fontsize=7)
                axis.set_xticks(range(len(grid.columns)), [str(c) for c in grid.columns])
                axis.set_yticks(range(len(grid.index)), [f"{r:.0e}".replace("e-0", "e-") for r in grid.index])
                axis.grid(False)
                name = {"gd": "GD", "adagrad": "AdaGrad"}[optimizer]
                if not row:
                    axis.set_title(title, fontsize=10)
                if row == len(tables) - 1:
                    axis.set_xlabel("ascent steps")
                if not column:
                    axis.set_ylabel(f"{name}, {action}\nrate")
    return figure


def _sentence(table: pd.DataFrame) -> str:
    usable = _usable(table)
    best = usable.loc[usable["speedup_steps"].idxmax()]
    honest = usable[usable["loss_ratio"] <= 1.0]
    part = (
        f"up to {best['speedup_steps']:.2f} in steps ({int(best['ascent_steps'])} at {best['rate']:g}: "
        f"{best['speedup_cost']:.2f} in "
        f"cost, {best['speedup_seconds']:.2f} in seconds, stops at {best['loss_ratio']:.2f} times the plain loss)"
    )
    if len(honest) == 0:
        return part + "; no setting also stops at or below the plain loss"
    best = honest.loc[honest["speedup_steps"].idxmax()]
    return part + (
        f"; among those that stop no higher than plain {best['speedup_steps']:.2f} in steps, "
        f"{best['speedup_cost']:.2f} in cost, "
        f"{best['speedup_seconds']:.2f} in seconds ({int(best['ascent_steps'])} at {best['rate']:g})"
    )


def sweep(setup: Setup) -> Findings:
    """Figure 8."""
    limit = setup.pick(full=2000, quick=2000, tiny=30)
    tables, runs = {}, []
    for optimizer in RATES:
        seconds = _seconds(optimizer, setup)
        for action, symmetry in ACTIONS.items():
            frame, _ = _play(optimizer, symmetry, limit)
            tables[optimizer, action] = _cells(frame, seconds)
            runs.append(tables[optimizer, action].assign(optimizer=optimizer, action=action))
    rows = []
    for optimizer, name in (("gd", "GD"), ("adagrad", "AdaGrad")):
        released, exact = tables[optimizer, "released"], tables[optimizer, "exact"]
        shares = {
            action: [(_usable(table)[f"speedup_{unit}"] > 1.0).mean() for unit in ("steps", "cost", "seconds")]
            for action, table in (("released", released), ("exact", exact))
        }
        rows.append(
            Row(
                claim=f"{name}: most combinations of ascent steps and rates converge in less time",
                obtained=f"released: {_sentence(released)}. Exact: {_sentence(exact)}",
                holds=verdict([bool(share[2] > 0.5) for share in shares.values()]),
                why="Of the settings in which no seed diverges, faster in steps / cost / seconds: "
                + ", ".join(
                    f"{action} {' / '.join(f'{100 * s:.0f}' for s in share)} %" for action, share in shares.items()
                )
                + "; stop higher than plain: "
                + ", ".join(
                    f"{action} {100 * (_usable(table)['loss_ratio'] > 1).mean():.0f} %"
                    for action, table in (("released", released), ("exact", exact))
                )
                + ".",
            )
        )
        rows.append(
            Row(
                claim=f"{name}: more ascent steps and a larger rate find longer gradients, until runs diverge",
                obtained="rank correlation of the ascent's length, steps times rate, with the growth of the gradient norm / "
                f"with the speed-up in steps where that is finite: released {_rank(released, 'log10_growth'):.2f} / "
                f"{_rank(released):.2f}, exact {_rank(exact, 'log10_growth'):.2f} / {_rank(exact):.2f}. Settings in "
                f"which a seed diverges: released {_lost(released)}, exact {_lost(exact)}. Best ascent steps a rate, exact: "
                + ", ".join(
                    f"{rate:g}: {int(part.loc[part['speedup_steps'].idxmax(), 'ascent_steps'])} "
                    f"({part['speedup_steps'].max():.2f})"
                    for rate, part in exact.groupby("rate")
                ),
                holds=verdict([_rank(table, "log10_growth") > 0.5 for table in (released, exact)]),
                why="`-` in the picture: a seed diverged. A longer gradient is not yet a faster run: the speed-up follows "
                "the length of the ascent less, or not at all. As released, a longer ascent also loses more of the loss, "
                "and of the gradient with it.",
            )
        )
    return Findings(
        rows,
        {"figure8": _picture(tables)},
        {"figure8": pd.concat(runs, ignore_index=True)},
        [
            "Published: a run has converged where a step changes the loss by less than 1e-3, at most 2000 steps; one "
            "teleport before "
            "step 5; the five seeds. Speed-ups are ratios of means over the seeds, without over with the teleport.",
            "A small step far from a minimum also changes the loss by less than 1e-3, and where a run stops may be "
            "higher or lower: "
            "hence the last column. A teleport whose ascent ends in numbers that are not finite is refused: a run "
            "without it, which "
            "has paid for it. Seconds are steps times the measured seconds of a single run's step and ascent step.",
        ],
    )


def _usable(table: pd.DataFrame) -> pd.DataFrame:
    """The settings in which no seed diverges."""
    return table[np.isfinite(table["loss"])]


def _rank(table: pd.DataFrame, name: str = "speedup_steps") -> float:
    usable = _usable(table)
    usable = usable[np.isfinite(usable[name])]
    return float((usable["ascent_steps"] * usable["rate"]).rank().corr(usable[name].rank()))


def _lost(table: pd.DataFrame) -> str:
    """Ascents in which a seed diverges, as ``rate: least ascent steps``."""
    lost = table[~np.isfinite(table["loss"])]
    return (
        ", ".join(f"{rate:g} from {int(part['ascent_steps'].min())} steps" for rate, part in lost.groupby("rate"))
        or "none"
    )
