"""Figure 5: when to teleport, how often, and on how many mini-batches; SGD on digits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from teleport_env.agents.base import Agent
from teleport_env.agents.reproduction.classification_runs import (
    BATCH,
    FORMS,
    MINI_BATCHES,
    NAMES,
    Dataset,
    algorithm2,
    better,
    datasets,
    final,
    interval,
    paired,
    tune,
)
from teleport_env.agents.reproduction.course import Course
from teleport_env.agents.reproduction.pictures import COLOURS, band, panels
from teleport_env.agents.reproduction.results import Findings, Row, Setup, verdict
from teleport_env.agents.schedules import AtSteps, Never

ACTIONS = ("general_linear_published", "general_linear")
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
    for action in ACTIONS:
        for panel, schedules in _schedules(data).items():
            for label, (at, batches) in schedules.items():
                search = algorithm2(ascents[action], batches)
                agent: Agent = AtSteps(at=at, environment={**environment, "symmetry": action, "searches": [search]})
                courses[action, panel, label] = data.play(agent, data.epochs, seeds, measure_every=data.epoch)
    return courses


def _picture(data: Dataset, courses: Mapping[tuple[str, str, str], Course]) -> Figure:
    plain = courses["", "", ""]
    with panels(len(ACTIONS), 3, width=11.0, height=3.0) as (figure, axes):
        for row, action in enumerate(ACTIONS):
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
                axis.set(yscale="log", ylim=(None, top), title=f"{FORMS[action]}: {panel}", xlabel="epoch")
                axis.legend(fontsize=7)
            axes[3 * row].set_ylabel("training loss, median and quartiles")
    return figure


def _ordered(panel: str, middles: list[float]) -> bool:
    """Whether mean differences to plain runs, in the order of the schedules, are in the claimed order."""
    if panel == "when":  # the first is before training
        return middles[0] == max(middles) and all(np.diff(middles[1:]) >= 0.0)
    if panel == "how often":  # from short to long intervals
        return all(np.diff(middles) >= 0.0)
    return all(np.diff(middles) <= 0.0)


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
    rows = []
    for panel, claim in claims.items():
        told, orders, faster, count = [], [], 0, 0
        for action in ACTIONS:
            played = {label: course for (a, p, label), course in courses.items() if a == action and p == panel}
            told.append(
                f"{FORMS[action]}: "
                + "; ".join(f"{label} {interval(course, plain)}" for label, course in played.items())
            )
            middles = [np.inf if c.diverged.all() else paired(c, plain)[0] for c in played.values()]
            orders.append(_ordered(panel, middles))
            faster += sum(better(course, plain) for course in played.values())
            count += len(played)
        rows.append(
            Row(
                claim=f"{data.label}: {claim}",
                obtained=f"log10 of the training loss after {data.epochs} epochs against no teleport "
                f"({final(plain).mean():.3g}): " + ". ".join(told),
                holds="not comparable"
                if data.seeds < 2
                else "no"
                if not faster
                else verdict([faster == count, *orders]),
                why=f"Below plain with 95 % confidence in {faster} of {count}. The claimed order of the means: "
                + ", ".join(
                    f"{FORMS[action]} {'yes' if order else 'no'}" for action, order in zip(ACTIONS, orders, strict=True)
                )
                + f". Every mini-batch's move is exact on its own {BATCH} images and moves the loss on all others: the more "
                "of them, the more is undone.",
            )
        )
    table = pd.DataFrame(
        [
            {"action": action, "panel": panel, "schedule": label, "seed": seed, "epoch": step / data.epoch}
            | {name: value[seed] for name, value in values.items()}
            for (action, panel, label), course in courses.items()
            for step, values in course.measured
            for seed in range(data.seeds)
        ]
    )
    sentence = (
        f"{data.label}, {NAMES[OPTIMIZER]} with rate {tuned.rates[OPTIMIZER]:g}, batch {BATCH}, {data.seeds} seeds; "
        "ascent rates "
        + ", ".join(f"{FORMS[action]} {ascents[action]:g}" for action in ACTIONS)
        + ". Rates, epochs and intervals are ours, the rates by the sweep of figure 4; the paper plays MNIST."
    )
    return Findings(
        rows, {"figure5": _picture(data, courses)}, {"figure5": table, "figure5_sweep": tuned.table}, [sentence]
    )
