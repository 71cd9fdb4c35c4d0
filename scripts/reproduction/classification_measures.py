"""Classification of digits: what became of the runs of a schedule, against those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reproduction.course import Course
from reproduction.results import interval_of, largest, less, signed
from teleport_env.agents.comparison.tables import MISSING


def final(course: Course, name: str = "training_loss", epoch: int = -1) -> np.ndarray:
    """``(B,)``, the measurement after an epoch, or the last; infinite for a diverged run. ``"overfit"``: the validation loss
    over the training loss, not a number for a diverged run."""
    last = len(course.measured) - 1
    if name == "overfit":
        with np.errstate(invalid="ignore"):
            return final(course, "validation_loss", epoch) / final(course, epoch=epoch)
    return np.where(course.diverged, np.inf, course.measured[min(epoch, last)][1][name])


def differences(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> np.ndarray:
    """To the base, of the seeds that neither loses. A loss's is that of ``log10``, an accuracy's in percentage points."""
    values, others = final(course, name, epoch), final(base, name, epoch)
    both = np.isfinite(values) & np.isfinite(others)
    if name.endswith("accuracy"):
        return 100.0 * (values[both] - others[both])
    return np.log10(np.maximum(values[both], 1e-12)) - np.log10(np.maximum(others[both], 1e-12))


def paired(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> tuple[float, float]:
    """Mean of the `differences`, and half the width of its 95 % interval (Student's t, over seeds; infinite where fewer than
    `results.FEWEST` last)."""
    return interval_of(differences(course, base, name, epoch))


def interval(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> str:
    """`paired` in words, or each seed's where too few last for an interval, with what went wrong."""
    if course.diverged.all():
        return "all diverge"
    middle, half = paired(course, base, name, epoch)
    each = differences(course, base, name, epoch)
    told = signed(middle, half) if np.isfinite(half) else " / ".join(f"{value:+.2f}" for value in each)
    return told + mishaps(course)


def times(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> str:
    """`paired` as a factor on the base's loss, its interval in brackets, with what went wrong."""
    if course.diverged.all():
        return "all diverge"
    return factor(*paired(course, base, name, epoch)) + mishaps(course)


def factor(middle: float, half: float) -> str:
    """An interval of ``log10`` in words, as factors."""
    if np.isnan(middle):
        return MISSING
    least, most = 10.0 ** (middle - half), 10.0 ** (middle + half)
    return f"{10.0**middle:.2f}" + (f" ({least:.2f} to {most:.2f})" if np.isfinite(half) else "")


def mishaps(course: Course) -> str:
    """How many runs diverged, and how many teleports were refused, in brackets; nothing where there are none."""
    lost, runs = int(course.diverged.sum()), len(course.diverged)
    refused = np.sum([jump.refused for jump in course.jumps], axis=0) if course.jumps else np.zeros(1)
    told = [f"{lost} of {runs} diverge"] if lost else []
    told += [f"{refused.sum()} teleports refused, in {(refused > 0).sum()} of {runs} runs"] if refused.any() else []
    return f" ({'; '.join(told)})" if told else ""


def lost_runs(course: Course) -> str:
    """How many runs diverged, in brackets; nothing where none did."""
    lost = int(course.diverged.sum())
    return f" ({lost} of {len(course.diverged)} diverge)" if lost else ""


def loses_half(course: Course) -> bool:
    """Whether half of the runs or more diverge, so that the median run does."""
    return bool(course.diverged.mean() >= 0.5)


def below(course: Course, base: Course, epoch: int = -1) -> bool | None:
    """Whether the training loss is lower: True or False with 95 % confidence, else None. A schedule that loses a run is not
    lower, and one that loses half of them is higher, whatever the others do."""
    return less(paired(course, base, epoch=epoch), course.diverged)


def effect(course: Course) -> dict[str, np.ndarray]:
    """What the teleports that moved did together, ``(B,)`` each: the `largest` change of the loss of a batch, the factors on
    the loss of the whole training set (where it was measured) and on the gradient norm. Also whether any moved, how many
    were refused, and whether one of these because it would have changed the loss."""
    moved = np.stack([jump.moved for jump in course.jumps])

    def over(values: Sequence[np.ndarray], otherwise: float) -> np.ndarray:
        return np.where(moved, np.stack(values), otherwise)

    found = {
        "batch": np.apply_along_axis(largest, 0, over([jump.loss_change for jump in course.jumps], 0.0)),
        "growth": over([jump.growth for jump in course.jumps], 1.0).prod(axis=0),
        "moved": moved.any(axis=0),
        "refused": np.sum([jump.refused for jump in course.jumps], axis=0),
        "unkept": np.any([jump.unkept for jump in course.jumps], axis=0),
    }
    if course.jumps[0].before:
        ratios = [jump.after["training_loss"] / jump.before["training_loss"] for jump in course.jumps]
        found["set"] = over(ratios, 1.0).prod(axis=0)
    return found


def beyond(did: Mapping[str, np.ndarray], control: Mapping[str, np.ndarray]) -> np.ndarray:
    """Factor ``(B,)`` on the gradient norm by which teleports do more than a control; 0 where it is no finite number, which
    is no longer gradient. Both are an `effect`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = did["growth"] / control["growth"]
    return np.where(np.isfinite(ratio), ratio, 0.0)
