"""What figure 3 claims, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reproduction.course import Course, longer_at_equal_loss
from reproduction.results import Row, interval_of, rows, sign

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


def gap(course: Course, base: Course) -> tuple[float, float]:
    """Mean over the seeds of ``log10`` of the loss at the end against the base's, and half of Student's 95 % interval."""
    kept = np.isfinite(course.loss[-1]) & np.isfinite(base.loss[-1])
    return interval_of(np.log10(course.loss[-1][kept] / base.loss[-1][kept]))


def _range(values: np.ndarray) -> str:
    return f"{100 * values.min():.0f}-{100 * values.max():.0f} %"


NUM_WEIGHTS = 5 * 6 + 6 * 7 + 7 * 8


def _seeds(course: Course) -> str:
    """The loss at the end, seed by seed."""
    return ", ".join("diverges" if not np.isfinite(v) else f"{v:.3g}" for v in course.loss[-1])


def claims(
    courses: Mapping[str, Mapping[str, Course]],
    ends: Mapping[str, Mapping[float, float]],
    best: Mapping[str, float],
    seconds: Mapping[str, np.ndarray],
    cosines: Mapping[str, Mapping[str, np.ndarray]],
) -> list[Row]:
    """The rows of figure 3.

    Args:
        courses: Optimizer -> schedule -> its runs.
        ends: Optimizer -> rate -> mean loss at the end of plain descent.
        best: Optimizer -> the rate of the lowest of them.
        seconds: Schedule of GD -> processor seconds ``(T + 1,)`` of one run.
        cosines: Optimizer -> form -> cosine ``(5,)`` of the released direction and the gradient norm's.
    """
    gd, ada = courses["gd"], courses["adagrad"]
    plain, released, exact, residual = (
        gd[k] for k in ("no teleport", "released", "published, exact", "residual, exact")
    )
    ada_plain, ada_released, ada_exact = (ada[k] for k in ("no teleport", "released", "published, exact"))
    leaks = np.concatenate([leak(released), leak(ada_released)])
    early = [step for step in AT if lower(exact, plain, step)]
    agree = [
        (name, label, values)
        for name, found in (("GD", cosines["gd"]), ("AdaGrad", cosines["adagrad"]))
        for label, values in found.items()
    ]
    down = sum(bool((values <= 0.0).any()) for *_, values in agree)
    reset, both_reset = ada["reset alone"], ada["published, exact, and reset"]
    named = (("GD", gd, plain), ("AdaGrad", ada, ada_plain))
    kept = max(float(np.abs(leak(c[k])).max()) for c in (gd, ada) for k in ("published, exact", "residual, exact"))

    def wins(course: Course, base: Course) -> str:
        return f"lower on {(course.loss[-1] < base.loss[-1]).sum()} of 5 seeds"

    def close(value: float, reference: float) -> bool:
        return abs(value / reference - 1.0) < 0.01

    jumped = exact.cost[5] - plain.cost[5]
    allowed = plain.cost[-1, 0] + 1e-6
    equal = [mean_loss(course, int((course.cost[:, 0] <= allowed).sum()) - 1) for course in (released, exact)]
    timed = [
        mean_loss(gd[label], int((seconds[label] <= seconds["no teleport"][-1]).sum()) - 1)
        for label in ("released", "published, exact")
    ]
    longer = {
        f"{name}, {label}": longer_at_equal_loss(played[label], base, 5)
        for name, played, base in named
        for label in ("released", "published, exact")
    }
    verdicts: dict[str, list[bool | None]] = {
        "gd": [close(mean_loss(plain), 1.929), close(mean_loss(plain, 6), 507.7)],
        "adagrad": [close(mean_loss(ada_plain), 1.392), close(mean_loss(ada_plain, 6), 122.5)],
        "faster": [close(mean_loss(released), 1.580), mean_loss(released) < mean_loss(plain)],
        "unchanged": [bool((np.abs(leaks) < 1e-6).all()), kept < 1e-6],
        "exact": [lower(exact, plain, 50), sign(*gap(exact, plain)), sign(*gap(residual, plain))],
        "climbed": [bool((values > 0.99).all()) for *_, values in agree],
        "adagrad_faster": [lower(ada_released, ada_plain), lower(ada_exact, ada_plain)],
        "state": [not lower(reset, ada_plain), lower(both_reset, reset)],
        "rate": [ends[name][best[name]] > mean_loss(played["released"]) for name, played in courses.items()],
        "direction": [not lower(played["published, exact, descent"], base) for _, played, base in named],
        "longer": [bool(np.nanmedian(shares) > 0.5) for shares in longer.values()],
        "time": [value < mean_loss(plain) for value in (*equal, *timed)],
    }
    return rows({f"figure3.{name}": checks for name, checks in verdicts.items()}, globals() | locals())
