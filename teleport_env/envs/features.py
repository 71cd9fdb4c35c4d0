"""What a policy sees: bounded, scale-free features of a run's own numbers.

One table, `FEATURES`, makes the observation space, the vector and the documentation. Each feature is a function of
`teleport_env.progress.Progress` and of what the run may still spend, never of the environment around it, so that a trained
schedule can be fed the same numbers in somebody's own training loop.

The table is data, which a compiled kernel and NumPy both go by. `compute_features` computes it from any `Progress`;
`FeatureWriter` computes it again and again for the runs of an environment, from the logarithms that these keep.

All features are dimensionless: multiplying a loss by a constant and dividing the learning rate by it changes none but
``orders_left`` (which measures against an absolute tolerance). Every value is clipped to its bounds, and a diverged run's
are finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.bookkeeping import Bookkeeper
from teleport_env.progress import AT, FLOATS, SMALLEST, Blocks, Progress
from teleport_env.runs import RATE_RANGE

__all__ = ["INDEX", "NAMES"]


@dataclass(frozen=True)
class Allowance:
    """What a run may still spend and what things cost, in gradient evaluations.

    Attributes:
        cost: ``(B,)`` float64, spent so far.
        budget: Gradient evaluations that an episode may spend.
        tolerance: The loss at which a run has converged.
        cheapest: ``(B,)`` float32: price of the cheapest teleport on offer; infinite if there is none.
    """

    cost: Tensor
    budget: float
    tolerance: float
    cheapest: Tensor


DERIVED = (
    *("log_tolerance", "relative_update", "rate_times_curvature", "share_left", "log_left", "price"),
    *("log_since_teleport", "log_attempts", "refused"),
)
"""Terms of features that are neither a number of a run nor kept beside one. Kernels know the same (`native/rows.h`)."""

_LASTING = {
    "log_rate",
    "log_base_rate",
    "teleport_gain",
    "log_attempts",
    "refused",
}  # what a gradient step leaves alone

_COUNTS = 1000
"""So many decimal logarithms of counts are tabulated; beyond it both features that use them are at their bound."""


class Terms:
    """What features are sums of, by name: float32 arrays ``(B,)``.

    Logarithms are decimal and in float32 before they are subtracted, which is exact enough for features and halves the
    memory that the work goes through.

    Args:
        books: Keeper of the runs' numbers.
        allowance: Compute that the runs may spend.

    Attributes:
        xp: Array library of the numbers.
        left: Gradient evaluations left, at least 1e-9; `log_left` the logarithm of one more.
        share: Gradient evaluations left; may be negative.
    """

    def __init__(self, books: Bookkeeper, allowance: Allowance) -> None:
        self.xp, self.integers, floats, self._kernels = books.xp, books.integers, books.floats, books.kernels
        xp, self.count = self.xp, floats.shape[1]
        single, like = torch.float32, floats
        self.per_budget = 1.0 / allowance.budget
        self.log_tolerance = math.log10(max(allowance.tolerance, SMALLEST[torch.float64]))
        self.cheapest = xp.view(allowance.cheapest)
        counts = torch.arange(1, _COUNTS + 2, device=allowance.cost.device).to(torch.float64)
        self.thirds_of_logs = xp.view((torch.log10(counts) / 3.0).to(single))
        self._budget, self._cost = allowance.budget, xp.view(allowance.cost)
        self.share, self.left, self.log_left = (xp.empty(like, self.count, dtype=single) for _ in range(3))
        self._derived = xp.empty(like, len(DERIVED), self.count, dtype=single)
        kept = slice(AT["log_loss"], AT["log_base_rate"] + 1)
        self._kept, self._logs = floats[kept], xp.empty(like, kept.stop - kept.start, self.count, dtype=single)
        self.rows = {name: floats[row] for row, name in enumerate(FLOATS)}
        self.rows |= dict(zip(FLOATS[kept], self._logs, strict=True)) | dict(zip(DERIVED, self._derived, strict=True))
        self.rows["log_left"] = self.log_left
        self._some_fresh = True  # a run that has not taken a step
        self.rows["log_tolerance"][...] = self.log_tolerance

    def look(self) -> None:
        """What is left, and its logarithm."""
        xp = self.xp
        if self._kernels is not None:
            self._kernels.left(self._cost, self._budget, self.share, self.left, self.log_left)
        else:
            self.share[...] = self._budget - self._cost
            xp.at_least(self.share, 1e-9, out=self.left)
            xp.add(self.left, 1.0, out=self.log_left)
        xp.log10(self.log_left, out=self.log_left)

    def allow(self) -> None:
        """What the budget still allows, after `look`."""
        self.xp.multiply(self.share, self.per_budget, out=self.rows["share_left"])
        self.xp.divide(self.cheapest, self.left, out=self.rows["price"])

    def derive(self, lasting: bool = True) -> None:
        """Compute all other terms; without ``lasting`` only what a gradient step changes."""
        xp, rows, counts = self.xp, self.rows, self.integers
        self._logs[...] = self._kept
        xp.multiply(rows["log_initial_grad_norm2"], 0.5, out=rows["relative_update"])
        xp.subtract(rows["log_update_norm"], rows["relative_update"], out=rows["relative_update"])
        self._some_fresh |= lasting
        if self._some_fresh:
            fresh = counts[AT["steps"]] == 0
            rows["relative_update"][fresh] = 0.0
            self._some_fresh = bool(fresh.any())
        xp.multiply(rows["learning_rate"], rows["curvature"], out=rows["rate_times_curvature"])
        self.allow()
        xp.take(self.thirds_of_logs, counts[AT["since_teleport"]], out=rows["log_since_teleport"])
        if lasting:
            xp.take(self.thirds_of_logs, counts[AT["attempts"]], out=rows["log_attempts"])
            rows["refused"][...] = counts[AT["status"]] > 1


class Feature(NamedTuple):
    """One entry of the observation: a scale times the first term minus the second plus the third.

    Attributes:
        name: Its name.
        low: Lower bound.
        high: Upper bound.
        sentence: Description of the feature, one sentence.
        terms: Names of one to three terms: numbers of a run, logarithms kept beside them, or `DERIVED`.
        scale: Factor.
    """

    name: str
    low: float
    high: float
    sentence: str
    terms: tuple[str, ...]
    scale: float = 1.0

    def write(self, terms: Terms, out: Array) -> None:
        """Write it to ``out`` ``(B,)`` float32, not clipped."""
        xp, (first, *others) = terms.xp, [terms.rows[name] for name in self.terms]
        if others:
            xp.subtract(first, others[0], out=out)
            if len(others) > 1:
                xp.add(out, others[1], out=out)
        else:
            out[...] = first
        if self.scale != 1.0:
            xp.multiply(out, self.scale, out=out)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "log_loss",
        -2.0,
        2.0,
        "log10 of the loss over the initial loss, divided by 12",
        ("log_loss", "log_initial_loss"),
        1.0 / 12.0,
    ),
    Feature(
        "log_grad_norm",
        -2.0,
        2.0,
        "log10 of the gradient norm over its initial value, divided by 6",
        ("log_grad_norm2", "log_initial_grad_norm2"),
        1.0 / 12.0,
    ),
    Feature(
        "orders_left",
        0.0,
        2.0,
        "log10 of the loss over the tolerance, divided by 12",
        ("log_loss", "log_tolerance"),
        1.0 / 12.0,
    ),
    Feature("loss_drop", -1.0, 1.0, "log10 of the loss before over after the last gradient step", ("last_decrease",)),
    Feature(
        "grad_drop",
        -1.0,
        1.0,
        "log10 of the gradient norm before over after the last gradient step",
        ("last_grad_decrease",),
    ),
    Feature(
        "cosine",
        -1.0,
        1.0,
        "cosine of the gradients before and after the last step; 0 right after a teleport",
        ("cosine",),
    ),
    Feature(
        "rate_decrease",
        -2.0,
        2.0,
        "log10 of learning rate times squared gradient norm over loss, divided by 2: the relative decrease that the next "
        "step promises",
        ("log_grad_norm2", "log_loss", "log_rate"),
        0.5,
    ),
    Feature(
        "rate_curvature",
        -1.0,
        2.0,
        "learning rate times the curvature along the last step, divided by 2: descent is stable below 1; 0 right after a "
        "teleport",
        ("rate_times_curvature",),
        0.5,
    ),
    Feature(
        "alignment",
        -1.0,
        1.0,
        "cosine of the last step and the change of gradient along it: 1 where the gradient has Newton's direction, "
        "as where its norm is critical on the level set (Lemma C.4), longest or shortest; 0 right after a teleport",
        ("alignment",),
    ),
    Feature(
        "rate",
        -1.0,
        1.0,
        "log of the learning rate over its base, in units of its range",
        ("log_rate", "log_base_rate"),
        1.0 / math.log10(RATE_RANGE),
    ),
    Feature(
        "update_norm",
        -2.0,
        2.0,
        "log10 of the last step's length over learning rate and initial gradient norm, divided by 6 (for momentum, of its "
        "buffer); 0 before the first step",
        ("relative_update",),
        1.0 / 6.0,
    ),
    Feature("budget_left", 0.0, 1.0, "share of the budget that is left", ("share_left",)),
    Feature(
        "log_budget_left",
        0.0,
        1.0,
        "log10 of one plus the gradient evaluations left, divided by 4",
        ("log_left",),
        0.25,
    ),
    Feature(
        "price",
        0.0,
        1.0,
        "price of the cheapest teleport over the budget left, at most 1",
        ("price",),
    ),
    Feature(
        "since_teleport",
        0.0,
        1.0,
        "log10 of one plus the gradient steps since the last teleport (or the start), divided by 3",
        ("log_since_teleport",),
    ),
    Feature(
        "teleport_gain",
        -2.0,
        2.0,
        "log10 of the gradient norm after over before the last teleport; 0 if it was refused or there was none",
        ("teleport_gain",),
        0.5,
    ),
    Feature(
        "teleports",
        0.0,
        1.0,
        "log10 of one plus the number of teleports asked for, divided by 3",
        ("log_attempts",),
    ),
    Feature(
        "refused",
        0.0,
        1.0,
        "1 if the last teleport asked for was refused, else 0",
        ("refused",),
    ),
)
"""Entries of the observation, in their order."""

NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
"""Names of the features, in the order of the observation."""
INDEX: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
"""Where a feature stands in the observation."""

_LEFT = [INDEX[name] for name in ("budget_left", "log_budget_left", "price")]

LOW = torch.tensor([feature.low for feature in FEATURES], dtype=torch.float32, device="cpu")
HIGH = torch.tensor([feature.high for feature in FEATURES], dtype=torch.float32, device="cpu")

# The table as the kernel reads it: the places of the terms (numbers of the runs, then `DERIVED`; -1: none), and bounds.
_TERMS = np.array(
    [
        [(FLOATS + DERIVED).index(term) for term in feature.terms] + [-1] * (3 - len(feature.terms))
        for feature in FEATURES
    ],
    dtype=np.int64,
)
_BOUNDS = np.array([(feature.scale, feature.low, feature.high) for feature in FEATURES], dtype=np.float32)


def markdown_table() -> str:
    """The page ``docs/features.md``: one row per feature, in the order in which they stand in the observation."""
    rows = [
        f"| {index} | `{feature.name}` | {feature.low:g} | {feature.high:g} | {feature.sentence} |"
        for index, feature in enumerate(FEATURES)
    ]
    return "\n".join(
        [
            "# The observation",
            "",
            "This page lists the numbers of an observation. After it you know what an agent sees of a run.",
            "",
            'With `observation="features"` (the default) an environment shows a `Box` of these float32 numbers. They are',
            "computed from a run's own losses, gradients and cost, and never from the environment around it. So a schedule",
            "can be fed the same numbers in another training loop (`teleport_env.envs.compute_features`). All are",
            "dimensionless and clipped to their bounds, and those of a diverged run are finite.",
            "",
            "| | name | low | high | what it says |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def compute_features(progress: Progress, allowance: Allowance) -> Tensor:
    """The observation ``(B, len(FEATURES))`` float32 of every run, finite and within bounds whatever the run's numbers."""
    blocks = Blocks.empty(len(progress.loss), progress.loss.dtype, progress.loss.device)
    mine = Progress.of(blocks)
    for field in fields(Progress):
        getattr(mine, field.name).copy_(getattr(progress, field.name))
    writer = FeatureWriter(Bookkeeper(blocks), allowance, derived=False)
    return writer.books.xp.tensor(writer.write()).t().contiguous()


_MANY = 128  # runs from which on torch's minimum is faster than NumPy's


class FeatureWriter:
    """The features of the runs that a bookkeeper keeps, again and again.

    Args:
        books: Keeper of the runs' numbers.
        allowance: Compute that the runs may spend.
        derived: Whether the logarithms kept beside the numbers are up to date.
    """

    def __init__(self, books: Bookkeeper, allowance: Allowance, derived: bool = True) -> None:
        self.books, self._allowance, self._xp = books, allowance, books.xp
        device = allowance.cost.device
        if not derived:
            with self._xp.quiet():
                self._derive_all()
        self._terms = Terms(books, allowance)
        self._low, self._high = LOW.to(device)[:, None], HIGH.to(device)[:, None]
        self._seen: Any = None
        if books.kernels is None:
            self._table = torch.empty(len(FEATURES), self._terms.count, dtype=torch.float32, device=device)
            rows = [*zip(FEATURES, self._xp.view(self._table), strict=True)]
            self._lasting = [(feature.write, row) for feature, row in rows if _LASTING.issuperset(feature.terms)]
            self._stepped = [(feature.write, row) for feature, row in rows if not _LASTING.issuperset(feature.terms)]

    def _derive_all(self) -> None:
        books, xp = self.books, self._xp
        books.refresh()
        xp.at_least(books.row["update_norm"], books.tiny, out=books.row["log_update_norm"])
        xp.log10(books.row["log_update_norm"], out=books.row["log_update_norm"])

    def write(self, changes: int = -1, rows: Tensor | None = None) -> Array:
        """``(len(FEATURES), B)`` float32 in memory of its own: the transpose of the observation.

        Args:
            changes: A number that goes up when the runs' numbers change by something else than a gradient step.
            rows: ``(R,)``, for whom; None: all.
        """
        terms, books = self._terms, self.books
        terms.look()
        if books.kernels is not None:
            found = np.empty((len(FEATURES), terms.count), dtype=np.float32)
            books.kernels.features(
                *(books.floats, books.integers, terms.share, terms.left, terms.log_left, terms.cheapest),
                *(terms.thirds_of_logs, _TERMS, _BOUNDS, terms.per_budget, terms.log_tolerance, found),
            )
            return found if rows is None else found[:, rows.numpy()]
        lasting = self._seen != changes
        with self._xp.quiet():
            terms.derive(lasting)
            for write, row in self._stepped + self._lasting if lasting else self._stepped:
                write(terms, row)
        self._seen = changes
        return self._xp.view(self._clipped(self._table if rows is None else self._table[:, rows]))

    def write_left(self, out: Tensor) -> None:
        """Bring what is left of the budget up to date in ``(len(FEATURES), B)``, and nothing else."""
        with self._xp.quiet():
            self._terms.look()
            self._terms.allow()
            for index in _LEFT:
                FEATURES[index].write(self._terms, self._xp.view(out[index]))
                out[index].clamp_(FEATURES[index].low, FEATURES[index].high)

    def _clipped(self, table: Tensor) -> Tensor:
        low, high = self._low, self._high
        if table.shape[1] < _MANY and table.device.type == "cpu":
            array = np.minimum(table.numpy(), high.numpy())
            np.maximum(array, low.numpy(), out=array)
            out = torch.from_numpy(array)
        else:
            out = torch.minimum(table, high)
            torch.maximum(out, low, out=out)
        # a run that has not diverged has no NaN: its numbers are too small to overflow
        if self.books.some_diverged and bool(torch.isnan(out.sum())):
            rows = torch.isnan(out.sum(dim=0)).nonzero().squeeze(1)  # few
            found = out[:, rows]
            out[:, rows] = torch.where(torch.isnan(found), high, found)
        return out
