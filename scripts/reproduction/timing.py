"""Figure 5: when to teleport, how often, and on how many mini-batches; SGD on digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.classification_runs import (
    ALONE,
    BATCH,
    FORMS,
    MINI_BATCHES,
    NAMES,
    STILL,
    Dataset,
    below,
    datasets,
    final,
    interval,
    tune,
)
from reproduction.course import Course, measured_frame
from reproduction.pictures import COLOURS, band, panels
from reproduction.results import Findings, Setup, interval_of, rows, settings_of, sign, signed
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import AtSteps, Never

ACTIONS = ("general_linear_published", "general_linear")
SHOWN = {**{action: FORMS[action] for action in ACTIONS}, ALONE: ALONE}
OPTIMIZER = "gd"
TELEPORTS = 5


def _schedules(data: Dataset) -> dict[str, dict[str, tuple[tuple[int, ...], int]]]:
    """Panel -> label -> step counts of the teleports, and mini-batches of each."""
    epoch = data.epoch
    whens = [when for when in (0, 1, 2, 4, 8) if when < data.epochs]
    counts = (1, 2, 4, 8, 16, 32) if data.epochs > 2 else (1, 2)
    intervals = [i for i in (0.125, 0.25, 0.5, 1.0, 2.0) if 1 + (TELEPORTS - 1) * i < data.epochs]
    return {
        "when": {
            f"after epoch {when}" if when else "before training": ((when * epoch,), MINI_BATCHES) for when in whens
        },
        "how often": {
            f"every {i:g} epochs": (tuple(epoch + round(n * i * epoch) for n in range(TELEPORTS)), MINI_BATCHES)
            for i in intervals
        },
        "mini-batches": {f"{count}": ((epoch,), count) for count in counts},
    }


def _play(data: Dataset, ascents: Mapping[str, float], rate: float) -> dict[tuple[str, str, str], Course]:
    """(action, panel, label) -> runs; the plain ones under empty names."""
    environment = {"optimizer": OPTIMIZER, "learning_rate": rate}
    seeds = range(data.seeds)
    plain = data.play(Never(environment=environment), data.epochs, seeds, measure_every=data.epoch)
    courses = {("", "", ""): plain}
    for action in SHOWN:
        alone = action == ALONE  # one step of no length, by the published action
        for panel, schedules in _schedules(data).items():
            for label, (at, batches) in schedules.items():
                search = data.algorithm2(STILL, batches, 1) if alone else data.algorithm2(ascents[action], batches)
                symmetry = ACTIONS[0] if alone else action
                agent: Agent = AtSteps(at=at, environment={**environment, "symmetry": symmetry, "searches": [search]})
                courses[action, panel, label] = data.play(
                    agent, data.epochs, seeds, measure_every=data.epoch, measure_jumps=True
                )
    return courses


def _picture(data: Dataset, courses: Mapping[tuple[str, str, str], Course]) -> Figure:
    plain = courses["", "", ""]
    with panels(len(SHOWN), 3, width=11.0, height=3.0) as (figure, axes):
        for row, action in enumerate(SHOWN):
            for axis, panel in zip(axes[3 * row :], ("when", "how often", "mini-batches"), strict=False):
                steps, values = plain.measurements("training_loss")
                axis.plot(
                    steps / data.epoch, np.median(values, axis=1), color="#111111", linewidth=2.2, label="no teleport"
                )
                labels = [label for a, p, label in courses if a == action and p == panel]
                for label, colour in zip(labels, COLOURS[1:], strict=False):
                    steps, values = courses[action, panel, label].measurements("training_loss")
                    band(axis, steps / data.epoch, values, label, colour)
                top = 3.0 * float(np.median(values[0]))
                axis.set(yscale="log", ylim=(None, top), title=f"{SHOWN[action]}: {panel}", xlabel="epoch")
                axis.legend(fontsize=7)
            axes[3 * row].set_ylabel("training loss, median and quartiles")
    return figure


def _logs(course: Course) -> np.ndarray:
    """``log10`` of the training loss at the end ``(B,)``, infinite for a diverged run."""
    with np.errstate(divide="ignore"):
        return np.log10(np.maximum(final(course), 1e-12))


def _told(middle: float, half: float) -> str:
    return signed(middle, half, missing="no seed lasts")


def _rank(courses: Sequence[Course]) -> tuple[float, float]:
    """Rank correlation of the loss at the end with the place of the schedule, over the seeds; a diverged run ranks last."""
    ranks = pd.DataFrame(np.stack([_logs(course) for course in courses])).rank()
    place = pd.Series(range(len(courses)), dtype=float)
    return interval_of(ranks.corrwith(place).fillna(0.0).to_numpy())


def _gain(courses: Sequence[Course], plain: Course) -> tuple[float, float]:
    """Mean over the schedules of ``log10`` of the loss against none, over the seeds; of the runs that do not diverge."""
    difference = np.stack([_logs(course) - _logs(plain) for course in courses])
    difference = np.where(np.isfinite(difference), difference, np.nan)
    counts = np.isfinite(difference).sum(axis=0)
    return interval_of(np.where(counts > 0, np.nansum(difference, axis=0) / np.maximum(counts, 1), np.nan))


def _order(panel: str, courses: Sequence[Course]) -> tuple[str, list[bool | None]]:
    """The claimed order in numbers, and whether it is there."""
    checks: list[bool | None] = []
    told = ""
    if panel == "when":  # the first is before training
        first, rest = _logs(courses[0]), np.stack([_logs(course) for course in courses[1:]])
        with np.errstate(invalid="ignore"):
            late = interval_of(rest.mean(axis=0) - first)
        checks.append(sign(*late))
        told = f"; the later ones against the one before training {_told(*late)}"
        courses = courses[1:]
    middle, half = _rank(courses)
    wanted = -1.0 if panel == "mini-batches" else 1.0
    checks.append(sign(-wanted * middle, half))
    name = {"when": "later", "how often": "a longer interval", "mini-batches": "more mini-batches"}[panel]
    return f"rank correlation of {name} with the loss {middle:+.2f} ± {half:.2f}{told}", checks


def _whole(courses: Mapping[str, Course]) -> str:
    """By how much the teleports of a run multiply the loss of the whole training set, medians over the seeds."""
    told = []
    for label, course in courses.items():
        ratios = [jump.after["training_loss"] / jump.before["training_loss"] for jump in course.jumps]
        value = float(np.median(np.nan_to_num(np.stack(ratios), nan=np.inf)))
        told.append(f"{label}: {value:.3g}" if value < 1e3 else f"{label}: > 1000")
    return ", ".join(told)


def timing(setup: Setup) -> Findings:
    """Figure 5."""
    data = datasets(setup)[0 if setup.quick else -1]
    tuned = tune(data, [OPTIMIZER], ACTIONS)
    ascents = {action: tuned.ascents[OPTIMIZER, action] for action in ACTIONS}
    courses = _play(data, ascents, tuned.rates[OPTIMIZER])
    plain = courses["", "", ""]
    claims = {
        "when": "(a) One teleport speeds training up; before training it does least, after that the earlier the better",
        "how often": f"(b) {TELEPORTS} teleports from the first epoch on speed training up, closely spaced ones most",
        "mini-batches": "(c) The more mini-batches a teleport uses, the faster the training loss falls",
    }
    found = []
    for panel in claims:
        told, orders, checks, wholes = [], [], [], []
        lower, count = 0, 0
        for action, name in SHOWN.items():
            played = {label: course for (a, p, label), course in courses.items() if a == action and p == panel}
            told.append(
                f"{name}: " + "; ".join(f"{label} {interval(course, plain)}" for label, course in played.items())
            )
            wholes.append(f"{name} {_whole(played)}")
            if action == ALONE:
                continue
            gain = _gain(list(played.values()), plain)
            diverged = np.stack([course.diverged for course in played.values()])
            checks.append(False if diverged.mean() >= 0.5 else sign(*gain, clean=not diverged.any()))
            order, ordered = _order(panel, list(played.values()))
            checks += ordered
            orders.append(f"{name}: mean of all schedules {_told(*gain)}; {order}")
            lower += sum(below(course, plain) is True for course in played.values())
            count += len(played)
        verdicts = {"figure5.panel": "not comparable" if data.seeds < 2 else checks}
        found += rows(verdicts, globals() | locals())
    named = (
        ({"action": action, "panel": panel, "schedule": label}, course)
        for (action, panel, label), course in courses.items()
    )
    table = measured_frame(named, data.epoch)
    given = {"optimizer": NAMES[OPTIMIZER], "rate": tuned.rates[OPTIMIZER], "batch": BATCH, "ascents": ascents}
    settings = settings_of("figure5", data=data, forms=FORMS, alone=ALONE, **given)
    return Findings(
        found, {"figure5": _picture(data, courses)}, {"figure5": table, "figure5_sweep": tuned.table}, settings
    )
