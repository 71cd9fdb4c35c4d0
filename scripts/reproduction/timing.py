"""Figure 5: when to teleport, how often, and on how many mini-batches; SGD on digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reproduction.classification import sweep_sentence
from reproduction.classification_data import (
    BATCH,
    FORMS,
    MINI_BATCHES,
    NAMES,
    WITH_PROJECTION,
    Dataset,
    datasets,
)
from reproduction.classification_measures import below, final, interval, loses_half, lost_runs, paired, times
from reproduction.classification_rates import LONGER, Tuned, first_epochs, tune
from reproduction.classification_runs import played, teleporting
from reproduction.course import Course, measured_frame
from reproduction.pictures import COLOURS, nested, panels
from reproduction.pieces import play_all
from reproduction.results import (
    FEWEST,
    Findings,
    Setup,
    above,
    interval_of,
    less,
    note_of,
    rows,
    settings_of,
    sign,
    signed,
    verdict,
)
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Never

ACTIONS = ("general_linear_published", "general_linear")
DECIDES = "general_linear_published"
"""The form whose runs decide on the paper's claims."""
SHOWN = {action: FORMS[action] for action in ACTIONS}
OPTIMIZER = "gd"
TELEPORTS = 5
SMALL_ASCENT_RATES: dict[str, tuple[float, ...]] = {
    "general_linear_published": (1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8),
    "general_linear": (2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5),
}
"""They must last the teleports of the largest schedule."""


def _schedules(data: Dataset) -> dict[str, dict[str, tuple[tuple[int, ...], int]]]:
    """Panel -> label -> epochs after which teleports come, and mini-batches of each (Algorithm 2's K and B)."""
    whens = [when for when in (0, 1, 2, 4, 8) if when < data.epochs]
    counts = (1, 2, 4, 8, 16) if data.epochs > 2 else (1, 2)
    # five mean intervals, from one epoch to what fits; each teleport in the epoch next to its place
    spans = np.linspace(1, max(1, min(5, (data.epochs - 2) / (TELEPORTS - 1))), 5)
    often = {tuple(1 + round(n * i) for n in range(TELEPORTS) if 1 + round(n * i) < data.epochs) for i in spans}
    return {
        "when": {f"after epoch {when}" if when else "before training": ((when,), MINI_BATCHES) for when in whens},
        "how often": {", ".join(map(str, epochs)): (epochs, MINI_BATCHES) for epochs in sorted(often)},
        "mini-batches": {f"{count}": ((1,), count) for count in counts},
    }


def _play(data: Dataset, ascents: Mapping[str, float], rate: float, jobs: int) -> dict[tuple[str, str, str], Course]:
    """(action, panel, label) -> runs; the plain ones under empty names."""
    agents: dict[tuple[str, tuple[int, ...]], Agent] = {
        ("", ()): Never(environment={"optimizer": OPTIMIZER, "learning_rate": rate})
    }
    plays: dict[tuple[str, str, str], tuple[str, tuple[int, ...]]] = {("", "", ""): ("", ())}
    for action in SHOWN:
        for panel, schedules in _schedules(data).items():
            for label, (epochs, batches) in schedules.items():
                at, search = data.algorithm2(epochs, batches), data.ascent(ascents[action])
                agents[action, at] = teleporting(data, OPTIMIZER, rate, action, search, at)
                plays[action, panel, label] = action, at  # a schedule of two panels is played once
    first = first_epochs(data, {OPTIMIZER: rate}, range(data.seeds), jobs)[OPTIMIZER]
    pieces = {
        (action, at): (played, (data, agents[action, at], None if 0 in at else first))
        for action, at in sorted(agents, key=lambda one: -len(one[1]))  # long pieces first
    }
    found = play_all(pieces, f"{data.label}, schedules", jobs)
    return {key: found[one] for key, one in plays.items()}


LEGENDS = {"when": "teleport", "how often": "teleports after epochs", "mini-batches": "mini-batches of the teleport"}
"""Panel -> title of its legend."""


def _picture(data: Dataset, courses: Mapping[tuple[str, str, str], Course]) -> Figure:
    plain, panel_names = courses["", "", ""], ("when", "how often", "mini-batches")
    with panels(len(SHOWN), 3, width=11.0, height=3.2) as (figure, axes):
        for row, action in enumerate(SHOWN):
            for axis, panel, letter in zip(axes[3 * row :], panel_names, "abc", strict=False):
                labels = [label for a, p, label in courses if a == action and p == panel]
                named = [("no teleport", plain), *((label, courses[action, panel, label]) for label in labels)]
                for (label, course), colour, width in zip(named, COLOURS, nested(len(named)), strict=False):
                    steps, values = course.measurements("training_loss")
                    axis.plot(steps / data.epoch, _median(values), color=colour, label=label, linewidth=width)
                    steps, values = course.measurements("validation_loss")
                    axis.plot(steps / data.epoch, _median(values), color=colour, linewidth=1.0, linestyle=(0, (4, 2)))
                steps, values = plain.measurements("training_loss")
                limits = 0.3 * float(np.median(values[-1])), 3.0 * float(np.median(values[0]))
                axis.set(yscale="log", ylim=limits, title=f"({letter}) {SHOWN[action]}: {panel}", xlabel="epoch")
                axis.legend(fontsize=6.5, ncols=2, title=LEGENDS[panel], title_fontsize=6.5)
            axes[3 * row].set_ylabel("loss, median of seeds;\ndashed: validation")
    return figure


def _median(values: np.ndarray) -> np.ndarray:
    """Medians ``(M,)`` over the runs; a diverged run's loss is infinite, and a median that is one is not drawn."""
    middle = np.median(np.nan_to_num(values, nan=np.inf), axis=1)
    return np.where(np.isfinite(middle), middle, np.nan)


def _logs(course: Course) -> np.ndarray:
    """``log10`` of the training loss at the end ``(B,)``, infinite for a diverged run."""
    with np.errstate(divide="ignore"):
        return np.log10(np.maximum(final(course), 1e-12))


def _falling(course: Course) -> np.ndarray:
    """``log10`` of the training loss ``(B,)``, its mean over the epochs after a teleport that follows the first: the lower,
    the faster it falls. Infinite for a diverged run."""
    last = len(course.measured) - 1
    values = np.stack([final(course, epoch=epoch) for epoch in range(min(2, last), last + 1)])
    return np.log10(np.maximum(values, 1e-12)).mean(axis=0)


def _told(middle: float, half: float) -> str:
    if np.isnan(middle):
        return "all diverge"
    return signed(middle, half) if np.isfinite(half) else f"fewer than {FEWEST} seeds last"


def _rank(courses: Sequence[Course], measure: Callable[[Course], np.ndarray] = _logs) -> tuple[float, float]:
    """Rank correlation of a measure of the loss with the place of the schedule, over the seeds. A diverged run ranks last,
    and a seed for which all diverge is left out."""
    ranks = pd.DataFrame(np.stack([measure(course) for course in courses])).rank()
    place = pd.Series(range(len(courses)), dtype=float)
    return interval_of(ranks.corrwith(place).to_numpy())


def _gain(courses: Sequence[Course], plain: Course) -> tuple[float, float]:
    """Mean over the schedules of ``log10`` of the loss against none, over the seeds; of the runs that do not diverge."""
    difference = np.stack([_logs(course) - _logs(plain) for course in courses])
    difference = np.where(np.isfinite(difference), difference, np.nan)
    counts = np.isfinite(difference).sum(axis=0)
    return interval_of(np.where(counts > 0, np.nansum(difference, axis=0) / np.maximum(counts, 1), np.nan))


def _of_order(panel: str, courses: Mapping[str, Course]) -> dict[str, Course]:
    """The schedules of which a panel's order is claimed. Of the panel on times the first is none of them: it is teleported
    before training, of which there is another claim (`_later`)."""
    return dict(list(courses.items())[1:] if panel == "when" else courses)


def _order(panel: str, courses: Sequence[Course]) -> tuple[str, bool | None]:
    """The order of these schedules in numbers, and whether it is the claimed one: of all, and of those that last. What
    diverges makes no order by itself."""
    lost, runs = sum(int(course.diverged.sum()) for course in courses), sum(len(course.diverged) for course in courses)
    refused = sum(int(jump.refused.sum()) for course in courses for jump in course.jumps)
    wrong = [f"{lost} of {runs} runs diverge"] if lost else []
    wrong += [f"{refused} teleports refused"] if refused else []
    told = f" ({', '.join(wrong)})" if wrong else ""
    measure = _falling if panel == "mini-batches" else _logs
    middle, half = _rank(courses, measure)
    wanted = -1.0 if panel == "mini-batches" else 1.0
    last = [course for course in courses if not loses_half(course)]
    found = [sign(-wanted * each, part) for each, part in ((middle, half), _rank(last, measure))] if last else [None]
    return f"{_told(middle, half)}{told}", found[0] if len({*found}) == 1 else None


def _later(courses: Mapping[str, Course]) -> tuple[str, list[bool | None]]:
    """Which schedule after the first ends highest against the first, and the check whether the first is worst: True if all
    others end below it with 95 % confidence, False if one ends above it. No check where all lose half of their runs."""
    (label, first), *rest = courses.items()
    lower = [_ends_lower(course, first) for _, course in rest]
    highest, course = max(rest, key=lambda named: (loses_half(named[1]), np.nan_to_num(paired(named[1], first)[0])))
    lost = f", {label}{lost_runs(first)}" if first.diverged.any() else ""
    checks = [] if _all_lost(courses.values()) else [all(lower) or (False if False in lower else None)]
    return f"{highest} {times(course, first)}{lost}", checks


def _ends_lower(course: Course, first: Course) -> bool | None:
    """`below`, of runs that both may lose: what one loses and the other keeps ends higher."""
    gone, kept = course.diverged & ~first.diverged, first.diverged & ~course.diverged
    if kept.mean() >= 0.5 and not gone.any():
        return True
    return less(paired(course, first), gone)


def _all_lost(courses: Iterable[Course]) -> bool:
    """Whether every schedule loses half of its runs or more: too few are left to compare."""
    return all(loses_half(course) for course in courses)


def _few(courses: Iterable[Course]) -> bool:
    """Whether fewer than `FEWEST_SCHEDULES` keep more than half of their runs."""
    return sum(not loses_half(course) for course in courses) < FEWEST_SCHEDULES


def _holds(panel: str, ordered: bool | None, lower: bool | None) -> bool | None:
    """Whether a panel's claim holds. An acceleration that is said to grow must be one: the mean of the schedules lies below
    none. Of mini-batches the paper says only that more are faster than fewer."""
    if panel == "mini-batches" or ordered is False:
        return ordered
    return lower if ordered else (False if lower is False else None)


def _overfits(courses: Sequence[Course]) -> tuple[float, float]:
    """Rank correlation of the place of the schedule with the validation loss over the training loss at the end, over the
    seeds: how far a run's fit goes beyond what it knows. A diverged run is left out, and a seed of which fewer than
    `FEWEST_SCHEDULES` last."""
    gaps = []
    for course in courses:
        with np.errstate(divide="ignore", invalid="ignore"):
            gaps.append(np.log10(final(course, "validation_loss")) - np.log10(final(course)))
    frame = pd.DataFrame(np.where(np.isfinite(gaps), gaps, np.nan))
    place = pd.Series(range(len(courses)), dtype=float)
    ranks = frame.rank().corrwith(place).where(frame.count() >= FEWEST_SCHEDULES)
    return interval_of(ranks.to_numpy())


CLAIMS = {
    "when": "(a) One teleport after an epoch: the earlier, the stronger its effect",
    "how often": f"(b) {TELEPORTS} teleports: the smaller the interval, the more they accelerate convergence",
    "mini-batches": "(c) The more mini-batches, the faster the training loss falls",
}

ORDERED = {"when": "a later teleport", "how often": "a longer interval", "mini-batches": "more mini-batches"}

OF_PROJECTION = {
    "when": "a later one multiplies the loss by more",
    "how often": "at longer intervals more of it comes late",
    "mini-batches": "each mini-batch projects once more",
}
"""Why the published form gives a panel's order where its ascents do nothing."""


def _data(setup: Setup) -> Dataset:
    """MNIST where its files are, in the quick form with a small network; else the digits of scikit-learn."""
    data = datasets(setup)[-1]
    if not setup.quick or setup.tiny:
        return data
    data = replace(data, ascent_rates=SMALL_ASCENT_RATES)
    if data.problem == "Digits":
        return replace(data, epochs=setup.epochs or 22)  # five teleports five epochs apart
    return replace(
        data,
        label=data.label.replace("MNIST,", "MNIST with a network 784-32-32-10,"),
        problem="MNISTSmall",
        epochs=setup.epochs or 10,
        tuning_seeds=min(8, setup.seeds or 8),
        by_growth=False,
        retract=False,
    )


GONE = "Half of the runs or more of every schedule diverge."

FEWEST_SCHEDULES = 3
"""Schedules that a verdict takes at least, of those that last: of two, every seed's rank correlation is 1 or -1."""

FEW = f"Fewer than {FEWEST_SCHEDULES} schedules keep more than half of their runs."


def _grown(tuned: Tuned) -> dict[str, float]:
    """Form -> by how much its teleports lengthen the gradient beyond teleports of no length, at the chosen rate; empty where
    nothing was swept."""
    if "chosen" not in tuned.table:
        return {}
    chosen = tuned.table[tuned.table["chosen"] == True]  # noqa: E712
    return {SHOWN[form]: float(growth) - 1.0 for form, growth in zip(chosen["symmetry"], chosen["growth"], strict=True)}


def timing(setup: Setup) -> Findings:
    """Figure 5."""
    data = _data(setup)
    most = max(len(epochs) * batches for panel in _schedules(data).values() for epochs, batches in panel.values())
    tuned = tune(data, [OPTIMIZER], ACTIONS, setup.jobs, most)
    ascents = {action: tuned.ascents[OPTIMIZER, action] for action in ACTIONS}
    courses = _play(data, ascents, tuned.rates[OPTIMIZER], setup.jobs)
    plain, found = courses["", "", ""], []
    grown = _grown(tuned)
    moves = grown.get(SHOWN[DECIDES], np.inf) >= LONGER - 1.0
    comparable = moves and data.seeds > 1
    after = {
        name: _later({label: course for (a, p, label), course in courses.items() if a == action and p == "when"})
        for action, name in SHOWN.items()
    }
    panels_of = {
        panel: {label: course for (a, p, label), course in courses.items() if a == DECIDES and p == panel}
        for panel in CLAIMS
    }
    lost, few = _all_lost(panels_of["when"].values()), _few(panels_of["when"].values())
    names = globals() | {"WITH_PROJECTION": WITH_PROJECTION}
    literal = verdict(after[SHOWN[DECIDES]][1])
    found += rows({"figure5.before": after[SHOWN[DECIDES]][1] if comparable and not few else []}, names | locals())
    for panel in CLAIMS:
        told, orders, brief = [], [], []
        checks: list[bool | None] = []
        what = ORDERED[panel]
        lower, count = 0, 0
        measure = "over the epochs after the teleport" if panel == "mini-batches" else "at the end"
        for action, name in SHOWN.items():
            played = {label: course for (a, p, label), course in courses.items() if a == action and p == panel}
            told.append(
                f"{name}: " + "; ".join(f"{label} {interval(course, plain)}" for label, course in played.items())
            )
            ranked = _of_order(panel, played)
            gain = _gain(list(ranked.values()), plain)
            order, ordered = _order(panel, list(ranked.values()))
            checks += [_holds(panel, ordered, sign(*gain))] if action == DECIDES else []
            orders.append(f"{name}: mean of these schedules {_told(*gain)}; rank correlation of {what} {order}")
            brief.append(f"{name} {order}")
            lower += sum(below(course, plain) is True for course in ranked.values())
            count += len(ranked)
        deciding = _of_order(panel, panels_of[panel]).values()
        few, lost = _few(deciding), _all_lost(deciding)
        literal = verdict(checks)
        found += rows({"figure5.panel": checks if comparable and not few else []}, names | locals())
    gaps = {
        name: _overfits([course for (a, p, _), course in courses.items() if a == action and p == "mini-batches"])
        for action, name in SHOWN.items()
    }
    lost, few = _all_lost(panels_of["mini-batches"].values()), _few(panels_of["mini-batches"].values())
    as_it_is = [above(*gaps[SHOWN[DECIDES]])]
    over, literal = as_it_is if comparable and not few else [], verdict(as_it_is)
    ends = [
        f"{SHOWN[action]}, {label}: {100 * float(np.nanmean(_finite(final(course, 'validation_accuracy')))):.1f} %"
        for (action, panel, label), course in courses.items()
        if panel == "mini-batches" and not course.diverged.all()
    ]
    accuracy = 100.0 * float(final(plain, "validation_accuracy").mean())
    found += rows({"figure5.overfitting": over}, names | locals())
    named = (
        ({"action": action, "panel": panel, "schedule": label}, course)
        for (action, panel, label), course in courses.items()
    )
    table = measured_frame(named, data.epoch)
    given = {"optimizer": NAMES[OPTIMIZER], "rate": tuned.rates[OPTIMIZER], "batch": BATCH, "ascents": ascents}
    settings = settings_of("figure5", data=data, forms=FORMS, most=most, **given)
    if len(tuned.table):
        settings.append(sweep_sentence(data.label, tuned.table))
    return Findings(
        found,
        {"figure5": _picture(data, courses)},
        {"figure5": table, "figure5_sweep": tuned.table},
        settings,
        note=note_of("figure5", data=data, batch=BATCH, grown=grown, moves=moves),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)
