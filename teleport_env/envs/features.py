"""What a policy sees: bounded, scale-free features of a run's own numbers.

One table, `FEATURES`, makes the observation space, the vector and the documentation. Each feature is a function of
`teleport_env.progress.Progress` and of what the run may still spend, never of the environment around it, so that a trained
schedule can be fed the same numbers in somebody's own training loop.

`compute_features` computes the table from any `Progress`. `FeatureWriter` computes it again and again for the runs of an
environment, from the logarithms that these keep.

All features are dimensionless: multiplying a loss by a constant and dividing the learning rate by it changes none but
``orders_left`` (which measures against an absolute tolerance). Every value is clipped to its bounds, and a diverged run's
are finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.bookkeeping import Bookkeeper
from teleport_env.progress import AT, SMALLEST, Progress
from teleport_env.runs import RATE_RANGE, Runs


@dataclass(frozen=True)
class Allowance:
    """What a run may still spend and what things cost, in gradient evaluations.

    Attributes:
        cost: ``(B,)`` float64, spent so far.
        budget: What the episode may spend.
        tolerance: The loss at which a run has converged.
        cheapest: ``(B,)`` float32: price of the cheapest teleport on offer; infinite if there is none.
    """

    cost: Tensor
    budget: float
    tolerance: float
    cheapest: Tensor


class Numbers:
    """What the definitions of features read: the fields of `Progress` as arrays ``(B,)``, and what follows from them.

    Logarithms are decimal and in float32 before they are subtracted, which is exact enough for features and halves the
    memory that the work goes through.

    Args:
        progress: The runs' own numbers.
        allowance: What they may spend.
        books: What keeps the numbers and their logarithms; None: nothing does.

    Attributes:
        xp: What works with the arrays.
        left: Gradient evaluations left, float32; `positive_left` likewise, at least 1e-9.
        log_loss: Logarithm of the loss; likewise `log_grad_norm2`, `log_update_norm`, `log_initial_loss`,
            `log_initial_grad_norm2` (of which
            `half_log_initial_grad_norm2` is half), `log_rate` and `log_base_rate`.
        log_tolerance: Logarithm of the tolerance.
        per_budget: One over the budget.
        cheapest: Price of the cheapest teleport.
    """

    def __init__(self, progress: Progress, allowance: Allowance, books: Bookkeeper | None = None) -> None:
        self._progress = progress
        self.xp = xp = arrays_of(progress.loss.device) if books is None else books.xp
        like, single = self.loss, torch.float32
        self.per_budget, self.log_tolerance = (
            1.0 / allowance.budget,
            math.log10(max(allowance.tolerance, SMALLEST[torch.float64])),
        )
        self.cheapest = xp.view(allowance.cheapest)
        counts = torch.arange(1, _COUNTS + 2, device=progress.loss.device).to(torch.float64)
        self._thirds_of_logs = xp.view((torch.log10(counts) / 3.0).to(single))
        self._budget = xp.view(allowance.cost.new_full((1,), allowance.budget))
        self._cost, self._tiny = xp.view(allowance.cost), SMALLEST[progress.loss.dtype]
        self._kept = None if books is None else books.floats[AT["log_loss"] : AT["log_update_norm"] + 1]
        self._stepped, self._lasting = (xp.empty(like, rows, len(like), dtype=single) for rows in (3, 4))
        self.log_loss, self.log_grad_norm2, self.log_update_norm = self._stepped
        self.log_initial_loss, self.log_initial_grad_norm2, self.log_rate, self.log_base_rate = self._lasting
        self.left, self.positive_left, self.half_log_initial_grad_norm2, self._third = (
            xp.empty(like, len(like), dtype=single) for _ in range(4)
        )
        self._some_fresh = True  # a run that has not taken a step

    def __getattr__(self, name: str) -> Array:
        if name.startswith("_"):  # not there yet, in a copy that is being made
            raise AttributeError(name)
        found = self.xp.view(getattr(self._progress, name))
        setattr(self, name, found)
        return found

    def look(self, lasting: bool = True) -> None:
        """Compute what follows from the numbers as they are now; without ``lasting`` only what a gradient step changes."""
        if self._kept is None:
            self._write_logs(self._stepped, self.loss, self.grad_norm2, self.update_norm)
        else:
            self._stepped[...] = self._kept
        self.left[...] = self._budget - self._cost
        self.xp.at_least(self.left, 1e-9, out=self.positive_left)
        if lasting:
            self._write_logs(
                self._lasting, self.initial_loss, self.initial_grad_norm2, self.learning_rate, self.base_rate
            )
            self.xp.multiply(self.log_initial_grad_norm2, 0.5, out=self.half_log_initial_grad_norm2)
            self._some_fresh = True

    def _write_logs(self, out: Array, *values: Array) -> None:
        for row, value in zip(out, values, strict=True):
            row[...] = self.xp.log10(self.xp.at_least(value, self._tiny))

    def once_stepped(self, values: Array) -> Array:
        """``values``, overwritten by 0 for runs that have not taken a step."""
        if self._some_fresh:
            fresh = self.steps == 0
            values[fresh] = 0.0
            self._some_fresh = bool(fresh.any())
        return values

    def third_of_log(self, counts: Array) -> Array:
        """``log10(1 + counts) / 3``, from a table."""
        self.xp.take(self._thirds_of_logs, counts, out=self._third)
        return self._third


class Feature(NamedTuple):
    """One entry of the observation.

    Attributes:
        name: Its name.
        low: Lower bound.
        high: Upper bound.
        sentence: What it says.
        compute: Its definition, ``(B,)``, but for `scale`; overwrites none of the numbers.
        scale: Factor of what `compute` gives.
        lasting: Whether a gradient step leaves it alone.
    """

    name: str
    low: float
    high: float
    sentence: str
    compute: Callable[[Any], Array]
    scale: float = 1.0
    lasting: bool = False

    def write(self, numbers: Numbers, out: Array) -> None:
        """Write it to ``out`` ``(B,)`` float32."""
        if self.scale == 1.0:
            out[...] = self.compute(numbers)
        else:
            numbers.xp.multiply(self.compute(numbers), self.scale, out=out)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "log_loss",
        -2.0,
        2.0,
        "log10 of the loss over the initial loss, divided by 12",
        lambda n: n.log_loss - n.log_initial_loss,
        1.0 / 12.0,
    ),
    Feature(
        "log_grad_norm",
        -2.0,
        2.0,
        "log10 of the gradient norm over its initial value, divided by 6",
        lambda n: n.log_grad_norm2 - n.log_initial_grad_norm2,
        1.0 / 12.0,
    ),
    Feature(
        "orders_left",
        0.0,
        2.0,
        "log10 of the loss over the tolerance, divided by 12",
        lambda n: n.log_loss - n.log_tolerance,
        1.0 / 12.0,
    ),
    Feature(
        "loss_drop", -1.0, 1.0, "log10 of the loss before over after the last gradient step", lambda n: n.last_decrease
    ),
    Feature(
        "grad_drop",
        -1.0,
        1.0,
        "log10 of the gradient norm before over after the last gradient step",
        lambda n: n.last_grad_decrease,
    ),
    Feature(
        "cosine",
        -1.0,
        1.0,
        "cosine of the gradients before and after the last step; 0 right after a teleport",
        lambda n: n.cosine,
    ),
    Feature(
        "rate_decrease",
        -2.0,
        2.0,
        "log10 of learning rate times squared gradient norm over loss, divided by 2: the relative decrease that the next "
        "step promises",
        lambda n: n.log_grad_norm2 - n.log_loss + n.log_rate,
        0.5,
    ),
    Feature(
        "rate_curvature",
        -1.0,
        2.0,
        "learning rate times the curvature along the last step, divided by 2: descent is stable below 1; 0 right after a "
        "teleport",
        lambda n: n.learning_rate * n.curvature,
        0.5,
    ),
    Feature(
        "alignment",
        -1.0,
        1.0,
        "cosine of the last step and the change of gradient along it: 1 where the gradient is Newton's direction and a "
        "teleport has nothing to gain (Lemma C.4); 0 right after a teleport",
        lambda n: n.alignment,
    ),
    Feature(
        "rate",
        -1.0,
        1.0,
        "log of the learning rate over its base, in units of its range",
        lambda n: n.log_rate - n.log_base_rate,
        1.0 / math.log10(RATE_RANGE),
        lasting=True,
    ),
    Feature(
        "update_norm",
        -2.0,
        2.0,
        "log10 of the last step's length over learning rate and initial gradient norm, divided by 6 (for momentum, of its "
        "buffer); 0 before the first step",
        lambda n: n.once_stepped(n.log_update_norm - n.half_log_initial_grad_norm2),
        1.0 / 6.0,
    ),
    Feature("budget_left", 0.0, 1.0, "share of the budget that is left", lambda n: n.left * n.per_budget),
    Feature(
        "log_budget_left",
        0.0,
        1.0,
        "log10 of one plus the gradient evaluations left, divided by 4",
        lambda n: n.xp.log10(n.positive_left + 1.0),
        0.25,
    ),
    Feature(
        "price",
        0.0,
        1.0,
        "price of the cheapest teleport over the budget left, at most 1",
        lambda n: n.cheapest / n.positive_left,
    ),
    Feature(
        "since_teleport",
        0.0,
        1.0,
        "log10 of one plus the gradient steps since the last teleport (or the start), divided by 3",
        lambda n: n.third_of_log(n.since_teleport),
    ),
    Feature(
        "teleport_gain",
        -2.0,
        2.0,
        "log10 of the gradient norm after over before the last teleport; 0 if it was refused or there was none",
        lambda n: n.teleport_gain,
        0.5,
        lasting=True,
    ),
    Feature(
        "teleports",
        0.0,
        1.0,
        "log10 of one plus the number of teleports asked for, divided by 3",
        lambda n: n.third_of_log(n.attempts),
        lasting=True,
    ),
    Feature(
        "refused",
        0.0,
        1.0,
        "1 if the last teleport asked for was refused, else 0",
        lambda n: n.status > 1,
        lasting=True,
    ),
)

NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
INDEX: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
"""Where a feature stands in the observation."""

LOW = torch.tensor([feature.low for feature in FEATURES], dtype=torch.float32, device="cpu")
HIGH = torch.tensor([feature.high for feature in FEATURES], dtype=torch.float32, device="cpu")


def markdown_table() -> str:
    """The page ``docs/features.md``: one row a feature, in the order in which they stand in the observation."""
    rows = [
        f"| {index} | `{feature.name}` | {feature.low:g} | {feature.high:g} | {feature.sentence} |"
        for index, feature in enumerate(FEATURES)
    ]
    return "\n".join(
        [
            "# The observation",
            "",
            'With `observation="features"` (the default) an environment shows a `Box` of these float32 numbers. They are '
            "computed from a run's own losses, gradients and cost, and never from the environment around it, so that a "
            "schedule can be fed the same numbers in another training loop (`teleport_env.envs.compute_features`). All are "
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
    numbers = Numbers(progress, allowance)
    found = torch.empty(len(FEATURES), len(progress.loss), dtype=torch.float32, device=progress.loss.device)
    low, high = LOW.to(found.device)[:, None], HIGH.to(found.device)[:, None]
    with numbers.xp.quiet():
        numbers.look()
        for feature, row in zip(FEATURES, numbers.xp.view(found), strict=True):
            feature.write(numbers, row)
    return torch.where(torch.isnan(found), high, found).clamp(low, high).t().contiguous()


_COUNTS = 1000
"""So many decimal logarithms of counts are tabulated; beyond it both features that use them are at their bound."""

_MANY = 128  # runs from which on torch's minimum is faster than NumPy's


class FeatureWriter:
    """The features of `Runs`, into the same memory again and again.

    What a gradient step changes is written anew at every call, the rest when the runs say that something else has changed.

    Args:
        runs: The runs, after their first reset.
        allowance: What they may spend.
    """

    def __init__(self, runs: Runs, allowance: Allowance) -> None:
        self._runs, self._numbers = runs, Numbers(runs.progress, allowance, runs.books)
        self._table = torch.empty(len(FEATURES), runs.count, dtype=torch.float32, device=runs.device)
        self._low, self._high = LOW.to(runs.device)[:, None], HIGH.to(runs.device)[:, None]
        rows = [*zip(FEATURES, runs.books.xp.view(self._table), strict=True)]
        self._stepped = [(feature.write, row) for feature, row in rows if not feature.lasting]
        self._lasting = [(feature.write, row) for feature, row in rows if feature.lasting]
        self._seen = -1

    def write(self, rows: Tensor | None = None) -> Tensor:
        """``(len(FEATURES), B)`` float32 in memory of its own: the transpose of the observation.

        Args:
            rows: ``(R,)``, for whom; None: all.
        """
        numbers, changed = self._numbers, self._seen != self._runs.changes
        numbers.look(changed)
        if changed:
            for write, row in self._lasting:
                write(numbers, row)
            self._seen = self._runs.changes
        for write, row in self._stepped:
            write(numbers, row)
        return self._clipped(self._table if rows is None else self._table[:, rows])

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
        if self._runs.books.some_diverged and bool(torch.isnan(out.sum())):
            rows = torch.isnan(out.sum(dim=0)).nonzero().squeeze(1)  # few
            found = out[:, rows]
            out[:, rows] = torch.where(torch.isnan(found), high, found)
        return out
