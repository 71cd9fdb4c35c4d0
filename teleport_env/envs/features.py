"""What a policy sees: bounded, scale-free features of a run's own numbers.

One table, `FEATURES`, makes the observation space, the vector and the documentation. Each feature is a function of
`teleport_env.progress.Progress` and of what the run may still spend, never of the environment around it, so that a trained
schedule can be fed the same numbers in somebody's own training loop.

`compute_features` computes the table feature by feature. `FeatureWriter` computes the same for runs, in place and several at
once, from the logarithms that the runs keep; a test holds them together.

All features are dimensionless: multiplying a loss by a constant and dividing the learning rate by it changes none but
``orders_left`` (which measures against an absolute tolerance). Every value is clipped to its bounds, and a diverged run's
are finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from teleport_env.progress import AT, Progress
from teleport_env.runs import RATE_RANGE, Runs


@dataclass(frozen=True)
class Allowance:
    """What a run may still spend and what things cost, in gradient evaluations.

    Attributes:
        cost: ``(B,)`` float64, spent so far.
        budget: What the episode may spend.
        tolerance: The loss at which a run has converged.
        cheapest: Price of the cheapest teleport on offer; infinite if there is none.
    """

    cost: Tensor
    budget: float
    tolerance: float
    cheapest: float

    @property
    def left(self) -> Tensor:
        return self.budget - self.cost


class Logs(NamedTuple):
    """Decimal logarithms that several features share, each ``(B,)``."""

    loss: Tensor
    initial_loss: Tensor
    grad_norm2: Tensor
    initial_grad_norm2: Tensor
    rate: Tensor


class Feature(NamedTuple):
    """One entry of the observation.

    Attributes:
        name: Its name.
        low: Lower bound.
        high: Upper bound.
        sentence: What it says.
        compute: The function behind it; ``(B,)``.
    """

    name: str
    low: float
    high: float
    sentence: str
    compute: Callable[[Progress, Allowance, Logs], Tensor]


FEATURES: tuple[Feature, ...] = (
    Feature(
        "log_loss",
        -2.0,
        2.0,
        "log10 of the loss over the initial loss, divided by 12",
        lambda p, a, logs: (logs.loss - logs.initial_loss) / 12.0,
    ),
    Feature(
        "log_grad_norm",
        -2.0,
        2.0,
        "log10 of the gradient norm over its initial value, divided by 6",
        lambda p, a, logs: (logs.grad_norm2 - logs.initial_grad_norm2) / 12.0,
    ),
    Feature(
        "orders_left",
        0.0,
        2.0,
        "log10 of the loss over the tolerance, divided by 12",
        lambda p, a, logs: (logs.loss - _log10(a.tolerance)) / 12.0,
    ),
    Feature(
        "loss_drop",
        -1.0,
        1.0,
        "log10 of the loss before over after the last gradient step",
        lambda p, a, logs: p.last_decrease,
    ),
    Feature(
        "grad_drop",
        -1.0,
        1.0,
        "log10 of the gradient norm before over after the last gradient step",
        lambda p, a, logs: p.last_grad_decrease,
    ),
    Feature(
        "cosine",
        -1.0,
        1.0,
        "cosine of the gradients before and after the last step; 0 right after a teleport",
        lambda p, a, logs: p.cosine,
    ),
    Feature(
        "rate_decrease",
        -2.0,
        2.0,
        "log10 of learning rate times squared gradient norm over loss, divided by 2: the relative decrease that the next "
        "step promises",
        lambda p, a, logs: 0.5 * (logs.rate + logs.grad_norm2 - logs.loss),
    ),
    Feature(
        "rate_curvature",
        -1.0,
        2.0,
        "learning rate times the curvature along the last step, divided by 2: descent is stable below 1; 0 right after a "
        "teleport",
        lambda p, a, logs: 0.5 * p.learning_rate * p.curvature,
    ),
    Feature(
        "alignment",
        -1.0,
        1.0,
        "cosine of the last step and the change of gradient along it: 1 where the gradient is Newton's direction and a "
        "teleport has nothing to gain (Lemma C.4); 0 right after a teleport",
        lambda p, a, logs: p.alignment,
    ),
    Feature(
        "rate",
        -1.0,
        1.0,
        "log of the learning rate over its base, in units of its range",
        lambda p, a, logs: (logs.rate - torch.log10(p.base_rate)) / _log10(RATE_RANGE),
    ),
    Feature(
        "update_norm",
        -2.0,
        2.0,
        "log10 of the last step's length over learning rate and initial gradient norm, divided by 6 (for momentum, of its "
        "buffer); 0 before the first step",
        lambda p, a, logs: torch.where(
            p.steps > 0,
            (torch.log10(p.update_norm.clamp_min(_tiny(p.loss))) - 0.5 * logs.initial_grad_norm2) / 6.0,
            0.0,
        ),
    ),
    Feature(
        "budget_left",
        0.0,
        1.0,
        "share of the budget that is left",
        lambda p, a, logs: (a.left / a.budget).to(p.loss.dtype),
    ),
    Feature(
        "log_budget_left",
        0.0,
        1.0,
        "log10 of one plus the gradient evaluations left, divided by 4",
        lambda p, a, logs: (torch.log10(1.0 + a.left.clamp_min(0.0)) / 4.0).to(p.loss.dtype),
    ),
    Feature(
        "price",
        0.0,
        1.0,
        "price of the cheapest teleport over the budget left, at most 1",
        lambda p, a, logs: (a.cheapest / a.left.clamp_min(1e-9)).to(p.loss.dtype),
    ),
    Feature(
        "since_teleport",
        0.0,
        1.0,
        "log10 of one plus the gradient steps since the last teleport (or the start), divided by 3",
        lambda p, a, logs: torch.log10(1.0 + p.since_teleport.to(p.loss.dtype)) / 3.0,
    ),
    Feature(
        "teleport_gain",
        -2.0,
        2.0,
        "log10 of the gradient norm after over before the last teleport; 0 if it was refused or there was none",
        lambda p, a, logs: 0.5 * p.teleport_gain,
    ),
    Feature(
        "teleports",
        0.0,
        1.0,
        "log10 of one plus the number of teleports asked for, divided by 3",
        lambda p, a, logs: torch.log10(1.0 + p.attempts.to(p.loss.dtype)) / 3.0,
    ),
    Feature(
        "refused",
        0.0,
        1.0,
        "1 if the last teleport asked for was refused, else 0",
        lambda p, a, logs: (p.status > 1).to(p.loss.dtype),
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


def _log10(value: float) -> float:
    return math.log10(max(value, 1e-300))


def _tiny(like: Tensor) -> float:
    return 1e-300 if like.dtype == torch.float64 else 1e-38


def compute_features(progress: Progress, allowance: Allowance) -> Tensor:
    """The observation ``(B, len(FEATURES))`` float32 of every run, finite and within bounds whatever the run's numbers."""
    tiny = _tiny(progress.loss)
    logs = Logs(
        torch.log10(progress.loss.clamp_min(tiny)),
        torch.log10(progress.initial_loss.clamp_min(tiny)),
        torch.log10(progress.grad_norm2.clamp_min(tiny)),
        torch.log10(progress.initial_grad_norm2.clamp_min(tiny)),
        torch.log10(progress.learning_rate),
    )
    # feature by feature into rows, transposed once at the end: stacking along the other axis costs five times as much
    out = torch.empty(len(FEATURES), len(progress.loss), dtype=torch.float32, device=progress.loss.device)
    for row, feature in zip(out, FEATURES, strict=True):
        row.copy_(feature.compute(progress, allowance, logs))
    low, high = LOW.to(out.device)[:, None], HIGH.to(out.device)[:, None]
    out = torch.where(torch.isnan(out), high, out)
    return torch.clamp(out, low, high).t().contiguous()


_COUNTS = 1000
"""So many decimal logarithms of counts are tabulated; beyond it both features that use them are at their bound."""


class FeatureWriter:
    """`compute_features` for `Runs`, in place.

    What a gradient step changes is written anew at every call, the rest when the runs say that something else has changed.
    Logarithms are cast to float32 before they are subtracted, which is exact enough for features and halves the memory
    that the work goes through.

    Args:
        runs: The runs, after their first reset.
        budget: As in `Allowance`.
        tolerance: As in `Allowance`.
        cheapest: As in `Allowance`.
    """

    def __init__(self, runs: Runs, budget: float, tolerance: float, cheapest: float) -> None:
        self._runs, self._books = runs, runs.books
        self._xp = xp = runs.books.xp
        device, count = runs.device, runs.count
        single = torch.float32
        self._table = torch.zeros(len(FEATURES), count, dtype=single, device=device)
        self._low, self._high = LOW.to(device)[:, None], HIGH.to(device)[:, None]
        self._left64 = xp.view(torch.zeros(count, dtype=torch.float64, device=device))
        self._wide, self._wide_logs = (
            xp.view(torch.zeros(2, count, dtype=runs.dtype, device=device)) for _ in range(2)
        )
        # float32 logarithms: of loss, gradient norm and update norm; of the initial loss and gradient norm; of rate and base
        self._logs, self._initial, self._rates = (
            xp.view(torch.zeros(rows, count, dtype=single, device=device)) for rows in (3, 2, 2)
        )
        self._two_logs = self._logs[:2]
        self._half_initial, self._spare = (xp.view(torch.zeros(count, dtype=single, device=device)) for _ in range(2))
        self._counts = xp.view(
            (torch.log10(torch.arange(1, _COUNTS + 2, device=device).to(torch.float64)) / 3.0).to(single)
        )
        self._budget = xp.view(torch.tensor([budget], dtype=torch.float64, device=device))
        self._cheapest = xp.view(torch.tensor([cheapest], dtype=single, device=device))
        self._per_budget, self._log_tolerance = 1.0 / budget, _log10(tolerance)
        self._cost = xp.view(runs.ledger.cost)
        rows = xp.view(self._table)
        self._row = {name: rows[index] for name, index in INDEX.items()}
        self._since_initial, self._on_loss = rows[:2], rows[:3]
        self._drops, self._cosines = rows[3:5], rows[5:9:3]
        floats = runs.books.floats
        self._kept_logs = floats[AT["log_loss"] : AT["log_update_norm"] + 1]
        self._kept_drops = floats[AT["last_decrease"] : AT["last_grad_decrease"] + 1]
        self._kept_cosines = floats[AT["cosine"] : AT["alignment"] + 1]
        self._starts = floats[AT["initial_loss"] : AT["initial_grad_norm2"] + 1]
        self._kept_rates = floats[AT["learning_rate"] : AT["base_rate"] + 1]
        self._seen, self._some_fresh = -1, True  # fresh: not a step yet

    def write(self, rows: Tensor | None = None) -> Tensor:
        """``(len(FEATURES), B)`` float32 in memory of its own: the transpose of the observation.

        Args:
            rows: ``(R,)``, for whom; None: all.
        """
        xp, row, kept = self._xp, self._row, self._books.row
        if self._runs.changes != self._seen:
            self._write_rest()
        loss, gradient, update = self._logs
        self._logs[...] = self._kept_logs
        xp.subtract(self._two_logs, self._initial, out=self._since_initial)
        xp.subtract(loss, self._log_tolerance, out=row["orders_left"])
        xp.multiply(self._on_loss, 1.0 / 12.0, out=self._on_loss)
        self._drops[...] = self._kept_drops
        self._cosines[...] = self._kept_cosines
        xp.subtract(gradient, loss, out=row["rate_decrease"])
        xp.add(row["rate_decrease"], self._rates[0], out=row["rate_decrease"])
        xp.multiply(row["rate_decrease"], 0.5, out=row["rate_decrease"])
        xp.multiply(kept["learning_rate"], kept["curvature"], out=self._wide[0])
        row["rate_curvature"][...] = self._wide[0]
        xp.multiply(row["rate_curvature"], 0.5, out=row["rate_curvature"])
        xp.subtract(update, self._half_initial, out=row["update_norm"])
        xp.multiply(row["update_norm"], 1.0 / 6.0, out=row["update_norm"])
        if self._some_fresh:
            fresh = self._books.integers[AT["steps"]] == 0
            row["update_norm"][fresh] = 0.0
            self._some_fresh = bool(fresh.any())
        xp.subtract(self._budget, self._cost, out=self._left64)
        left, log_left, price = row["budget_left"], row["log_budget_left"], row["price"]
        left[...] = self._left64
        xp.at_least(left, 1e-9, out=price)
        xp.add(price, 1.0, out=log_left)
        xp.divide(self._cheapest, price, out=price)
        xp.log10(log_left, out=self._spare)
        xp.multiply(self._spare, 0.25, out=log_left)
        xp.multiply(left, self._per_budget, out=left)
        xp.take(self._counts, self._books.integers[AT["since_teleport"]], out=row["since_teleport"])
        return self._clipped(self._table if rows is None else self._table[:, rows])

    def _write_rest(self) -> None:
        """What a gradient step leaves alone."""
        xp, row, kept, integers = self._xp, self._row, self._books.row, self._books.integers
        xp.at_least(self._starts, _tiny(self._runs.progress.loss), out=self._wide)
        xp.log10(self._wide, out=self._wide_logs)
        self._initial[...] = self._wide_logs
        xp.multiply(self._initial[1], 0.5, out=self._half_initial)
        xp.log10(self._kept_rates, out=self._wide_logs)
        self._rates[...] = self._wide_logs
        xp.subtract(self._rates[0], self._rates[1], out=row["rate"])
        xp.multiply(row["rate"], 1.0 / _log10(RATE_RANGE), out=row["rate"])
        row["teleport_gain"][...] = kept["teleport_gain"]
        xp.multiply(row["teleport_gain"], 0.5, out=row["teleport_gain"])
        xp.take(self._counts, integers[AT["attempts"]], out=row["teleports"])
        row["refused"][...] = integers[AT["status"]] > 1
        self._seen, self._some_fresh = self._runs.changes, True

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
        if self._books.some_diverged and bool(torch.isnan(out.sum())):
            rows = torch.isnan(out.sum(dim=0)).nonzero().squeeze(1)  # few
            found = out[:, rows]
            out[:, rows] = torch.where(torch.isnan(found), high, found)
        return out


_MANY = 128  # runs from which on torch's minimum is faster than NumPy's
