"""Figure 3: regression by a small network, gradient descent and AdaGrad, five seeds, in three variants and with controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from reproduction import regression_starts
from reproduction.course import (
    MOST,
    Course,
    at_equal_loss,
    converged,
    keeps_loss,
    longer_at_equal_loss,
    longer_in_most,
    percent,
    play,
    would_change,
)
from reproduction.pictures import COLOURS, band, nested, panels
from reproduction.pieces import play_all
from reproduction.published import (
    PUBLISHED,
    RELEASED,
    REPEATS,
    RESIDUAL,
    PublishedRegression,
    Times,
    least,
    released_direction,
    turns,
)
from reproduction.results import (
    Findings,
    Row,
    Setup,
    above,
    crossed,
    interval_of,
    largest,
    less,
    note_of,
    of_each,
    rows,
    settings_of,
    sign,
    verdict,
)
from teleport_env.agents.base import Agent
from teleport_env.agents.paper import Preset, paper
from teleport_env.agents.schedules import AtSteps, Never, ResetOptimizer
from teleport_env.problems.base import Evaluator
from teleport_env.random import Streams
from teleport_env.searches.base import Start

SEEDS = range(5)
ASCENTS = {"gd": (8, 1e-7), "adagrad": (2, 1e-5)}
"""Published ascent steps and rate."""

RATES = {
    "gd": (3e-5, 1e-4, 2e-4, 5e-4, 7e-4, 1e-3, 1.4e-3, 2e-3),
    "adagrad": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}
"""Our sweep of plain learning rates; the published ones are 1e-4 and 0.1."""

VARIANTS = {
    "released": (RELEASED, True),
    "published, exact": (PUBLISHED, True),
    "residual, exact": (RESIDUAL, True),
    "released, true norm": (RELEASED, False),
    "published, exact, true norm": (PUBLISHED, False),
    "residual, exact, true norm": (RESIDUAL, False),
}
"""Name -> action, and whether the ascent squares what the released code squares (`published.ReleasedAscent`)."""

FIRST = "first order"
"""The preset as it stands, which decides on the paper's claims: the approximation of Section 6.1, up the objective of
Algorithm 1."""

SHOWN = ("no teleport", FIRST, "released", "published, exact")
"""The schedules that are drawn, and played until they have converged."""

NAMES = {"gd": "GD", "adagrad": "AdaGrad"}
LIMIT = 2000
"""Steps at most until a run has converged, as for Figure 8."""


def _preset(optimizer: str) -> Preset:
    return paper("MLPRegression" if optimizer == "gd" else "MLPRegression/adagrad")


def _teleport(optimizer: str, symmetry: str, as_released: bool, descend: bool = False, **settings: Any) -> Agent:
    preset = _preset(optimizer)
    steps, rate = ASCENTS[optimizer]
    rate = -rate if descend else rate
    search = {"search": "released_ascent", "steps": steps, "rate": rate, "as_released": as_released}
    environment = {"searches": [search], "symmetry": symmetry, "problem": PublishedRegression(), **settings}
    return AtSteps(steps=(5,), environment={**preset.arguments, **environment})


def agents(optimizer: str) -> dict[str, Agent]:
    """Everything that is played with one optimizer at the published learning rate."""
    without = {**_preset(optimizer).arguments, "searches": []}
    played: dict[str, Agent] = {"no teleport": Never(environment=without), FIRST: _preset(optimizer).agent}
    for label, (symmetry, as_released) in VARIANTS.items():
        played[label] = _teleport(optimizer, symmetry, as_released)
    played["published, exact, descent"] = _teleport(optimizer, PUBLISHED, True, descend=True)
    bounded = {"search": "normalized_ascent", "steps": 3, "radius": 0.1}
    played["ours: three short steps up"] = AtSteps(steps=(5,), environment={**without, "searches": [bounded]})
    down = {**bounded, "objective": "balance_gradient"}
    played["ours: three short steps down"] = AtSteps(steps=(5,), environment={**without, "searches": [down]})
    if optimizer == "adagrad":
        reset = {**without, "searches": ["reset_optimizer"]}
        played["reset alone"] = ResetOptimizer(k=10**6, offset=5, environment=reset)
        played["published, exact, and reset"] = _teleport(optimizer, PUBLISHED, True, on_teleport="reset")
    return played


def agreement(optimizer: str) -> dict[str, np.ndarray]:
    """Form -> cosine ``(5,)`` of the direction that the released code climbs and that of the gradient norm's ascent, from
    where the published teleport begins."""
    preset = _preset(optimizer)
    plain = play(
        "MLPRegression", Never(environment={**preset.arguments, "searches": []}), 5, instances=SEEDS, watch_params=True
    )
    problem, params = PublishedRegression(), torch.from_numpy(plain.params[5])
    instance = problem.instances(torch.arange(len(SEEDS)), "paper")
    evaluator = Evaluator(problem, instance)
    loss, gradient = evaluator.loss_and_gradient(params)
    rates, streams = torch.full_like(loss, float(preset.arguments["learning_rate"])), Streams.from_seeds(SEEDS)
    found = {}
    for label, name in (("released", RELEASED), ("published, exact", PUBLISHED), ("residual, exact", RESIDUAL)):
        start = Start(params, loss, gradient, rates, problem.symmetries[name], evaluator, streams)
        climbed, true = (released_direction(start, params, as_released) for as_released in (True, False))
        found[label] = torch.nn.functional.cosine_similarity(climbed, true, dim=1).numpy()
    return found


def _frame(courses: Mapping[str, Mapping[str, Course]]) -> pd.DataFrame:
    runs = []
    for optimizer, played in courses.items():
        for label, course in played.items():
            for seed in range(course.loss.shape[1]):
                values = {f"loss_{step}": course.loss[step, seed] for step in (6, 10, 50, 100) if step <= course.steps}
                runs.append(
                    {
                        "optimizer": optimizer,
                        "schedule": label,
                        "seed": seed,
                        **values,
                        "final_loss": course.loss[-1, seed],
                        "loss_change": course.jumps[0].loss_change[seed] if course.jumps else 0.0,
                        "growth_of_squared_norm": course.jumps[0].growth[seed] ** 2 if course.jumps else 1.0,
                        "cost": course.cost[-1, seed],
                        "seconds": course.seconds[-1] / course.loss.shape[1],
                    }
                )
    return pd.DataFrame(runs)


def _timed(optimizer: str, steps: int, step: float, ascent: float) -> dict[str, np.ndarray]:
    """Seconds ``(T + 1,)`` of one of a schedule's runs, from those of a gradient step and of an ascent step."""
    plain = step * np.arange(steps + 1)
    jumped = plain + np.where(np.arange(steps + 1) >= 5, ASCENTS[optimizer][0] * ascent, 0.0)
    return {name: plain if name == SHOWN[0] else jumped for name in SHOWN}


# -- claims ------------------------------------------------------------------------------------------------------------

AT = (6, 10, 50, 100)
"""Steps after which the released code's losses are known."""


def mean_loss(course: Course, step: int = -1) -> float:
    """Mean loss over the seeds that have not diverged."""
    values = course.loss[step]
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else np.inf


def _end(course: Course) -> str:
    """The mean at the end, and how many seeds it leaves out."""
    lost = int(course.diverged.sum())
    return f"{mean_loss(course):.4g}" + (
        f" ({lost} of {len(course.diverged)} seeds diverged and are left out)" if lost else ""
    )


def _means(course: Course) -> str:
    return ", ".join(f"{mean_loss(course, step):.4g}" for step in AT)


def leak(course: Course) -> np.ndarray:
    """Share of the loss ``(B,)`` that the teleport took away."""
    return -course.jumps[0].loss_change


def changes(courses: Sequence[Course]) -> tuple[np.ndarray, np.ndarray]:
    """Relative changes of the loss in the teleports that moved, and which of all would have changed it and are refused."""
    moved = np.concatenate([leak(course)[course.jumps[0].moved] for course in courses])
    return moved, np.concatenate([course.jumps[0].unkept for course in courses])


def both(course: Course, base: Course, step: int = -1) -> tuple[float, float, int]:
    """Mean losses over the seeds that neither loses, and how many those are."""
    kept = np.isfinite(course.loss[-1]) & np.isfinite(base.loss[-1])
    if not kept.any():
        return np.inf, np.inf, 0
    return float(course.loss[step][kept].mean()), float(base.loss[step][kept].mean()), int(kept.sum())


def against(course: Course, base: Course) -> str:
    """The mean at the end beside the base's on the same seeds, with what is left out."""
    mean, other, kept = both(course, base)
    seeds = len(base.diverged)
    return f"{mean:.4g} against {other:.4g}" + (f" on the {kept} of {seeds} seeds that last" if kept < seeds else "")


def lower(course: Course, base: Course, step: int = -1) -> bool:
    """Whether the mean is lower on the seeds that both have."""
    mean, other, kept = both(course, base, step)
    return kept > 0 and mean < other


def gap(course: Course, base: Course, step: int = -1) -> tuple[float, float]:
    """Mean over the seeds of ``log10`` of the loss against the base's, and half of Student's 95 % interval."""
    kept = np.isfinite(course.loss[-1]) & np.isfinite(base.loss[-1])
    return interval_of(np.log10(course.loss[step][kept] / base.loss[step][kept]))


def no_worse(course: Course, base: Course) -> bool | None:
    """Whether a loss at the end is no lower than the base's, by the `gap`: False where it is lower, None where the interval
    covers both."""
    return above(*gap(course, base))


def chosen(runs: Mapping[float, Course]) -> np.ndarray:
    """Losses at the end ``(B,)`` of runs at several rates, each seed's at the rate whose mean over the *other* seeds is the
    lowest: a rate that is chosen on the seeds that it is judged by looks better than it is."""
    ends = np.stack([np.where(np.isfinite(course.loss[-1]), course.loss[-1], np.inf) for course in runs.values()])
    seeds = np.arange(ends.shape[1])
    best = [int(np.argmin(ends[:, seeds != seed].mean(axis=1))) for seed in seeds]
    return ends[best, seeds]


def ratio(ends: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """`interval_of` ``log10`` of losses ``(B,)`` over others."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval_of(np.log10(ends / others))


def growth(course: Course) -> tuple[float, float]:
    """`interval_of` ``log10`` of the growth of the gradient norm in the teleports that moved; an infinite gradient is none
    that is longer."""
    (jump,) = course.jumps
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval_of(np.log10(jump.growth[jump.moved]))


def lengthened(courses: Sequence[Course]) -> list[bool | None]:
    """Whether the teleports of each lengthen the gradient (`of_each`); of those that move in most of their runs."""
    return of_each([above(*growth(course))] if course.teleported else [] for course in courses)


def _longer(shares: Iterable[np.ndarray]) -> list[bool | None]:
    """`longer_in_most` of each (`of_each`), of the schedules that share losses with plain descent."""
    return of_each(map(longer_in_most, shares))


def _fall_short(longer: Mapping[str, Sequence[np.ndarray]]) -> dict[bool, str]:
    """The seeds of which half of the losses or more do not have the longer gradient, in words: those that have it at the
    first of these losses (True), and those that have not. By name, `at_equal_loss`."""
    found: dict[bool, list[str]] = {}
    for name, runs in longer.items():
        for seed, run in enumerate(runs):
            if len(run) and run.mean() <= 0.5:
                found.setdefault(bool(run[0]), []).append(f"{name}'s seed {seed}")
    return {at_first: ", ".join(seeds) for at_first, seeds in found.items()}


def each_share(shares: np.ndarray) -> str:
    """`longer_at_equal_loss` in per cent, run by run."""
    return ", ".join("none" if np.isnan(share) else f"{100 * share:.0f}" for share in shares)


DRAWN = 0
"""Seed that the released code draws."""


def _apart(
    courses: Mapping[str, Mapping[str, Course]], longer: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Name of an optimizer -> share of its loss at the seed `DRAWN` that the teleport takes away, and by the released form:
    where the two are on different sides of half of the losses, of ``longer`` by optimizer and form."""
    sides = {one: [longer[f"{NAMES[one]}, {form}"][DRAWN] > 0.5 for form in (FIRST, "released")] for one in courses}
    return {
        NAMES[one]: (float(leak(runs[FIRST])[DRAWN]), float(leak(runs["released"])[DRAWN]))
        for one, runs in courses.items()
        if sides[one][0] != sides[one][1] and runs[FIRST].teleported and runs["released"].teleported
    }


def _range(values: np.ndarray) -> str:
    return f"{100 * values.min():.0f}-{100 * values.max():.0f} %"


NUM_WEIGHTS = 5 * 6 + 6 * 7 + 7 * 8


def _seeds(course: Course) -> str:
    """The loss at the end, seed by seed."""
    return ", ".join("diverges" if not np.isfinite(v) else f"{v:.3g}" for v in course.loss[-1])


def claims(
    courses: Mapping[str, Mapping[str, Course]],
    epochs: Mapping[str, Mapping[str, np.ndarray]],
    swept: Mapping[str, Mapping[bool, Mapping[float, Course]]],
    timed: Mapping[str, Mapping[str, Times]],
    cosines: Mapping[str, Mapping[str, np.ndarray]],
    others: Mapping[tuple[str, str], Course],
) -> list[Row]:
    """The rows of figure 3, the regression.

    Args:
        courses: Optimizer -> schedule -> its runs.
        epochs: Optimizer -> schedule -> steps ``(5,)`` until a run has converged, infinite for a diverged one.
        swept: Optimizer -> with the first-order teleport -> rate -> its runs.
        timed: Optimizer -> `published.turns`.
        cosines: Optimizer -> form -> cosine ``(5,)`` of the released direction and the gradient norm's.
        others: `regression_starts.played`.
    """
    gd, ada = courses["gd"], courses["adagrad"]
    plain, first, exact, residual = (gd[k] for k in ("no teleport", FIRST, "published, exact", "residual, exact"))
    ada_plain, ada_first = ada["no teleport"], ada[FIRST]
    early = [step for step in AT if lower(exact, plain, step)]
    agree = [
        (name, label, values)
        for name, found in (("GD", cosines["gd"]), ("AdaGrad", cosines["adagrad"]))
        for label, values in found.items()
    ]
    every = np.concatenate([values for *_, values in agree])
    cosine = float(every.min()), float(every.max())
    down = sum(bool((values <= 0.0).any()) for *_, values in agree)
    remains = {True: "yes", False: "no, a loss", None: "not shown over five seeds"}
    reset, both_reset = ada["reset alone"], ada["published, exact, and reset"]
    named = {optimizer: (NAMES[optimizer], played, played["no teleport"]) for optimizer, played in courses.items()}
    change, unkept = changes([c[k] for c in (gd, ada) for k in ("published, exact", "residual, exact")])
    kept, refused = largest(change), would_change(unkept)

    def wins(course: Course, base: Course) -> str:
        return f"lower on {(course.loss[-1] < base.loss[-1]).sum()} of 5 seeds"

    tuned = {one: {moved: chosen(runs) for moved, runs in found.items()} for one, found in swept.items()}
    # at a rate chosen for it, without a teleport: over a teleport at the published rate, and over one at such a rate too
    larger = {NAMES[one]: ratio(found[False], courses[one][FIRST].loss[-1]) for one, found in tuned.items()}
    both_tuned = {NAMES[one]: ratio(found[True], found[False]) for one, found in tuned.items()}
    no_gain = not any(sign(*found) for found in both_tuned.values())
    fresh = gap(reset, ada_first)

    def close(value: float, reference: float) -> bool:
        return abs(value / reference - 1.0) < 0.01

    charged = {
        optimizer: float((played[FIRST].cost[5] - base.cost[5]).mean())
        for optimizer, (_, played, base) in named.items()
    }
    timings = {"published formulas": "seconds", "environment": "seconds_here"}
    spent = {
        (timing, optimizer, label): _taken(optimizer, epochs[optimizer], label, timed[optimizer][by])
        for timing, by in timings.items()
        for optimizer in courses
        for label in (FIRST, "published, exact")
    }

    def quick(timing: str, optimizer: str, label: str) -> bool | None:
        return less(spent[timing, optimizer, label], lost_against(epochs[optimizer], label))

    otherwise = [quick("environment", optimizer, FIRST) for optimizer in courses]
    times = {
        NAMES[one]: spent["published formulas", one, FIRST] if runs[FIRST].teleported else (np.nan, np.inf)
        for one, runs in courses.items()
    }
    gone = "".join(_lost_of(lost_against(epochs[one], FIRST)) for one in courses)
    named_growths = {
        NAMES[one]: growth(runs[FIRST]) if runs[FIRST].teleported else (np.nan, np.inf) for one, runs in courses.items()
    }
    steps_each = {
        timing: ASCENTS["gd"][0] * least(timed["gd"][by])[1] / least(timed["gd"][by])[0]
        for timing, by in timings.items()
    }
    longer = {
        f"{name}, {label}": longer_at_equal_loss(played[label], base, 5)
        if played[label].teleported
        else np.full(base.loss.shape[1], np.nan)
        for name, played, base in named.values()
        for label in (FIRST, "released", "published, exact")
    }
    fall_short = _fall_short(
        {
            name: at_equal_loss(played[FIRST], base, 5)
            for name, played, base in named.values()
            if played[FIRST].teleported
        }
    )
    drawn = {name: longer[f"{name}, released"][[DRAWN]] for name, *_ in named.values()}
    apart = _apart(courses, longer)
    verdicts: dict[str, list[bool | None]] = {
        "gd": [close(mean_loss(plain), 1.929), close(mean_loss(plain, 6), 507.7)],
        "adagrad": [close(mean_loss(ada_plain), 1.392), close(mean_loss(ada_plain, 6), 122.5)],
        "unchanged": keeps_loss(change, unkept, 1e-6),
        "exact": [sign(*gap(exact, plain, 50)), sign(*gap(exact, plain)), sign(*gap(residual, plain))],
        "climbed": [bool((values > 0.99).all()) for *_, values in agree],
        "state": [no_worse(reset, ada_plain), sign(*gap(both_reset, reset))],
        "rate": [above(*found) for found in larger.values()],
        "direction": [no_worse(played["published, exact, descent"], base) for _, played, base in named.values()],
        "grows": lengthened([played[FIRST] for played in courses.values()]),
        "longer": _longer(shares for label, shares in longer.items() if label.endswith(FIRST)),
        "time": of_each(
            [quick("published formulas", one, FIRST)] if runs[FIRST].teleported else [] for one, runs in courses.items()
        ),
    }
    by_exact: dict[str, list[bool | None]] = {
        "grows": lengthened([played["published, exact"] for played in courses.values()]),
        "longer": _longer(shares for label, shares in longer.items() if label.endswith("published, exact")),
        "time": [quick("published formulas", optimizer, "published, exact") for optimizer in courses],
    }
    found = [
        _faster(optimizer, courses[optimizer], epochs[optimizer], regression_starts.lost_in_words(others, optimizer))
        for optimizer in courses
    ]
    return found + rows(
        {f"figure3.{name}": checks for name, checks in verdicts.items()},
        globals() | locals() | {"percent": percent, "MOST": MOST},
    )


def _taken(optimizer: str, epochs: Mapping[str, np.ndarray], label: str, times: Times) -> tuple[float, float]:
    """Milliseconds until a run has converged against no teleport, over the seeds and turns: `crossed`."""
    with np.errstate(invalid="ignore"):  # of seeds that both lose
        more = epochs[label] - epochs["no teleport"]
    return crossed(1e3 * np.stack([step * more + ascent * ASCENTS[optimizer][0] for step, ascent in times]))


def lost_against(epochs: Mapping[str, np.ndarray], label: str) -> np.ndarray:
    """Seeds ``(B,)`` that a schedule loses and no teleport keeps."""
    return ~np.isfinite(epochs[label]) & np.isfinite(epochs["no teleport"])


def _lost_of(lost: np.ndarray) -> str:
    return f"; {lost.sum()} of {len(lost)} runs diverge" if lost.any() else ""


def _faster(optimizer: str, played: Mapping[str, Course], epochs: Mapping[str, np.ndarray], elsewhere: str = "") -> Row:
    """The claim that a teleport improves an optimizer: its curve, and the epochs until it has converged. ``elsewhere``, a
    part of a sentence, says what is lost from other starts."""
    name, base, first = NAMES[optimizer], played["no teleport"], played[FIRST]
    with np.errstate(invalid="ignore"):  # of seeds that both lose
        fewer = {label: interval_of(epochs[label] - epochs["no teleport"]) for label in epochs}
    others = {label: played[label] for label in played if label in epochs and label not in ("no teleport", FIRST)}

    def judged(label: str, course: Course) -> list[bool | None]:
        if not course.teleported:
            return []
        lost = course.diverged & ~base.diverged, lost_against(epochs, label)
        ends_higher = sign(*gap(course, base)) is False
        return [not ends_higher and less(gap(course, base, 50), lost[0]), less(fewer[label], lost[1])]

    checks, gone = judged(FIRST, first), _lost_of(lost_against(epochs, FIRST))
    verdicts = {label: verdict(judged(label, course)) for label, course in others.items()}
    (row,) = rows({"figure3.faster": checks}, globals() | locals())
    return row


def whole(middle: float, half: float) -> str:
    """An interval of whole numbers in words."""
    if np.isnan(middle):
        return "all diverge"
    return f"{middle:+.0f}" + (f" ± {half:.0f}" if np.isfinite(half) else "")


def _mean(values: np.ndarray) -> str:
    """Mean of the runs that do not diverge, and how many do."""
    lost = int((~np.isfinite(values)).sum())
    mean = f"{values[np.isfinite(values)].mean():.0f}" if lost < len(values) else "all diverge"
    return mean + (f" ({lost} of {len(values)} diverge)" if 0 < lost < len(values) else "")


# -- the picture -------------------------------------------------------------------------------------------------------


def _line(course: Course, values: np.ndarray) -> np.ndarray:
    """Means ``(T + 1,)`` over the seeds that do not diverge."""
    return values[:, ~course.diverged].mean(axis=1) if not course.diverged.all() else np.full(len(values), np.nan)


def _picture(
    courses: Mapping[str, Mapping[str, Course]],
    tuned: Mapping[str, Course],
    seconds: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    with panels(2, 3, width=11.0, height=3.4) as (figure, axes):
        for axis, optimizer, title in zip(axes, ("gd", "adagrad"), ("GD 1e-4", "AdaGrad 0.1"), strict=False):
            for label, colour, width in zip(SHOWN, COLOURS, nested(len(SHOWN)), strict=False):
                course = courses[optimizer][label]
                gone = int(course.diverged.sum())
                told = f"{label} ({gone} of 5 diverges)" if gone else label
                band(axis, np.arange(course.steps + 1), course.loss, told, colour, middle="mean", width=width)
            extra = "reset alone" if optimizer == "adagrad" else "published, exact, descent"
            course = courses[optimizer][extra]
            steps = np.arange(course.steps + 1)
            axis.plot(steps, course.loss.mean(1), color="#56B4E9", linestyle=(0, (1.2, 1.2)), label=extra)
            axis.plot(
                np.arange(tuned[optimizer].steps + 1),
                tuned[optimizer].loss.mean(1),
                color="#777777",
                linestyle=(0, (5, 1.5)),
                label="no teleport, tuned rate",
            )
            axis.set(yscale="log", ylim=(0.5, 2e3), title=f"{title}: loss, mean of 5 seeds", xlabel="epoch")
            axis.set_ylabel("loss")
            axis.legend(fontsize=7.5, loc="upper right")
        lost = axes[2]
        width = 0.38
        # colours are those of the forms, as in the other panels; the optimizers differ in their shade
        marks = (("gd", "GD", 1.0, "v"), ("adagrad", "AdaGrad", 0.45, "^"))
        for shift, (optimizer, name, shade, marker) in enumerate(marks):
            values, exact = (100 * leak(courses[optimizer][label]) for label in (FIRST, "published, exact"))
            places = np.arange(len(values)) + (shift - 0.5) * width
            lost.bar(places, values, width, color=COLOURS[1], alpha=shade, label=f"{FIRST}, {name}")
            lost.plot(places, exact, marker, color=COLOURS[3], markersize=5, label=f"published, exact, {name}")
        lost.set(title="loss that the teleport takes away", xlabel="seed", ylabel="% of the loss", ylim=(-3, 129))
        lost.set_yticks([0, 25, 50, 75, 100])
        lost.legend(fontsize=7, ncols=2, loc="upper center", columnspacing=1.0, handletextpad=0.5)
        for optimizer, dashes in (("gd", "-"), ("adagrad", (0, (4, 1.5)))):
            for label, colour, width in zip(SHOWN, COLOURS, nested(len(SHOWN)), strict=False):
                course = courses[optimizer][label]
                line: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": width}
                axes[3].plot(
                    1e3 * seconds[optimizer][label],
                    _line(course, course.loss),
                    **line,
                    label=label if optimizer == "gd" else None,
                )
                axes[4].plot(_line(course, course.grad_norm) ** 2, **line)
                axes[5].plot(course.loss[:, 0], course.grad_norm[:, 0] ** 2, **line)
        axes[3].set(
            yscale="log",
            ylim=(0.5, 2e3),
            title="against time",
            xlabel="ms per run, by the published formulas",
            ylabel="loss",
        )
        for axis in axes[3:]:
            handles, labels = axes[3].get_legend_handles_labels()
            axis.legend(handles, labels, fontsize=7.5, loc="best", title="GD; dashed: AdaGrad", title_fontsize=7.5)
        axes[4].set(yscale="log", title="squared gradient norm", xlabel="epoch")
        axes[5].set(xscale="log", yscale="log", title="the same against loss, seed 0", xlabel="loss")
    return figure


def regression(setup: Setup) -> Findings:
    """Figure 3."""
    steps = setup.pick(full=300, quick=300, tiny=12)
    problem = "MLPRegression"
    listed: dict[tuple[str, str] | tuple[str, float, bool], Agent] = {}
    for optimizer, rates in RATES.items():
        listed |= {(optimizer, name): agent for name, agent in agents(optimizer).items()}
        preset = _preset(optimizer)
        for rate in rates:
            environment = {**preset.arguments, "learning_rate": rate}
            listed[optimizer, rate, False] = Never(environment={**environment, "searches": []})
            listed[optimizer, rate, True] = replace(preset.agent, environment=environment)
    work = partial(play, instances=SEEDS)
    pieces = {key: (work, (problem, agent, steps)) for key, agent in listed.items()}
    on = [(one, name) for one in RATES for name in (*SHOWN, "released, true norm")]
    limit = setup.pick(full=LIMIT, quick=LIMIT, tiny=12)
    found = play_all(pieces, "regression", setup.jobs)
    long = play_all({key: (work, (problem, listed[key], limit)) for key in on}, "until converged", setup.jobs)
    courses = {one: {name: found[one, name] for name in agents(one)} for one in RATES}
    epochs = {one: {name: converged(long[one, name]) for o, name in on if o == one} for one in RATES}
    swept = {
        one: {moved: {rate: found[one, rate, moved] for rate in rates} for moved in (False, True)}
        for one, rates in RATES.items()
    }
    ends = {
        name: {moved: {rate: mean_loss(course) for rate, course in runs.items()} for moved, runs in each.items()}
        for name, each in swept.items()
    }
    tuned = {
        name: swept[name][False][min(values[False], key=values[False].__getitem__)] for name, values in ends.items()
    }
    losses = [
        (name, moved, rate, seed, loss)
        for name, each in swept.items()
        for moved, runs in each.items()
        for rate, course in runs.items()
        for seed, loss in enumerate(course.loss[-1])
    ]
    sweep = pd.DataFrame(losses, columns=["optimizer", "teleport", "rate", "seed", "final_loss"])
    repeats = setup.pick(full=REPEATS, quick=REPEATS, tiny=1)
    timed = {one: turns(one, float(_preset(one).arguments["learning_rate"]), repeats) for one in courses}
    seconds = {optimizer: _timed(optimizer, steps, *least(timed[optimizer]["seconds"])) for optimizer in courses}
    made = []
    if steps == 300:
        best = {one: {moved: min(found, key=found.__getitem__) for moved, found in ends[one].items()} for one in ends}
        others = regression_starts.played({one: agents(one) for one in best}, best, steps, setup.jobs)
        made = claims(courses, epochs, swept, timed, {name: agreement(name) for name in courses}, others)
        made += regression_starts.claims(others, best)
    return Findings(
        made,
        {"figure3": _picture(courses, tuned, seconds)},
        {"figure3": _frame(courses), "figure3_rates": sweep},
        settings_of("figure3", ends=ends),
        note=note_of("figure3", LIMIT=LIMIT),
    )
