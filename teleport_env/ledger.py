"""What everything costs.

Compute is counted, not guessed, in one unit: the **gradient evaluation**, one loss and its gradient on a run's current
data. The prices of the other evaluations are the field's usual ratios of arithmetic (Griewank and Walther, *Evaluating
Derivatives*, 2008: a gradient costs three to four forward passes, a Hessian-vector product costs two gradients).

What a teleport computes beside evaluations (products, solves, factorizations, exponentials, and a symmetry's elementwise
work on the weights) is charged by its floating-point operations over those of one gradient of the same problem, corrected
where operations of the two kinds take different time (`Symmetry.work_price`, `elementwise_price`): such constants were
measured once by the benchmark's rows on prices, with 1024 runs on one thread (64 runs for `Digits`), and are part of the
code; nothing is measured while runs are charged. The update of the optimizer itself is free, and so are the few operations
by which a change of coordinates comes and goes in the plane: there every candidate costs the evaluation that it ends with.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from teleport_env.arrays import arrays_of

__all__ = ["Counts", "Ledger"]

FORWARD = 1.0 / 3.0
GRADIENT = 1.0
HESSIAN_VECTOR = 2.0


def elementwise_price(gradient_flops: float, activated: bool = True) -> float:
    """How long an elementwise operation takes, in operations of the gradient of a network.

    An operation on an entry of memory takes about a nanosecond whatever the network. One of a matrix product takes as long
    in products of five rows, and a thirtieth of that in wide ones: measured 1.6 (`MatrixFactorization`), 2.1
    (`MLPRegression`), 3.4 (`LinearNetwork`), 10 (`Digits`), 22 (width 512, 20 examples). In between a power of the
    gradient's operations fits them, and a quarter more where the gradient is nothing but products.

    Args:
        gradient_flops: Floating-point operations of one gradient.
        activated: Whether the network has activations, which its gradient spends time on.
    """
    return min(30.0, max(1.0, 0.21 * gradient_flops**0.3) * (1.0 if activated else 1.25))


def small_matrices_price(size: int) -> float:
    """How long an operation on matrices of that size takes in operations of a gradient whose matrices are as small.

    The work around their products is elementwise (`elementwise_price`): measured 4.6 for size 3, 3.2 for size 6 and 1.5
    for size 32.
    """
    return float(1.0 + 8.8 / size**0.73)


@dataclass
class Counts:
    """What a piece of work evaluated; every field is ``(B,)`` float64, or a float that holds for every run.

    Attributes:
        forward: Forward passes alone (a loss without its gradient).
        gradient: Loss-and-gradient evaluations.
        hessian_vector: Hessian-vector products.
        flops: Floating-point operations of matrix work outside these evaluations.
    """

    forward: Tensor | float = 0.0
    gradient: Tensor | float = 0.0
    hessian_vector: Tensor | float = 0.0
    flops: Tensor | float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.forward + other.forward,
            self.gradient + other.gradient,
            self.hessian_vector + other.hessian_vector,
            self.flops + other.flops,
        )

    def cost(self, gradient_flops: float) -> Tensor | float:
        """The price in gradient evaluations, ``(B,)`` or a float; ``gradient_flops``: flops of one gradient."""
        evaluations = FORWARD * self.forward + GRADIENT * self.gradient + HESSIAN_VECTOR * self.hessian_vector
        return evaluations + self.flops / gradient_flops


class Ledger:
    """The account of ``B`` runs since their last reset.

    Args:
        count: Number of runs ``B``.
        gradient_flops: Floating-point operations of one loss-and-gradient evaluation of one run.
        device: Device of the account.

    Attributes:
        cost: ``(B,)`` float64, gradient evaluations spent.
        counts: The evaluations behind it, each ``(B,)`` float64.
        accounts: ``(5, B)``: both in one memory.
        gradients: `cost` and the gradients of `counts` ``(2, B)``, as `teleport_env.arrays` sees them.
        cost_view: `cost` likewise.
    """

    def __init__(self, count: int, gradient_flops: float, device: torch.device | str = "cpu") -> None:
        if not gradient_flops > 0:
            raise ValueError(f"gradient_flops must be positive, got {gradient_flops}")
        self.gradient_flops = float(gradient_flops)
        self.accounts = torch.zeros(1 + len(fields(Counts)), count, dtype=torch.float64, device=device)
        self._wire()

    def _wire(self) -> None:
        self.cost, gradient, forward, hessian_vector, flops = self.accounts
        self.counts = Counts(forward, gradient, hessian_vector, flops)
        self.gradients = arrays_of(self.accounts.device).view(self.accounts[:2])
        self.cost_view = self.gradients[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"gradient_flops": self.gradient_flops, "accounts": self.accounts}  # the rest are views

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._wire()

    def charge(self, rows: Tensor | None, counts: Counts) -> None:
        """Book ``counts`` for ``rows``: an index ``(R,)``, a boolean mask ``(B,)``, or None for every run.

        With a mask, per-run counts are ``(B,)`` and those outside the mask are ignored; with an index they are ``(R,)``.
        """
        masked = rows is not None and rows.dtype == torch.bool
        kinds = (counts.gradient, counts.forward, counts.hessian_vector, counts.flops)
        if not masked and not any(isinstance(amount, Tensor) for amount in kinds):
            xp = arrays_of(self.accounts.device)
            at = slice(None) if rows is None else xp.view(rows)
            for account, amount in zip(xp.view(self.accounts), (counts.cost(self.gradient_flops), *kinds), strict=True):
                if amount != 0:  # most kinds are not evaluated
                    account[at] += amount
            return
        self._book(self.cost, rows, counts.cost(self.gradient_flops))
        for field in fields(Counts):
            amount = getattr(counts, field.name)
            if isinstance(amount, Tensor) or amount != 0:
                self._book(getattr(self.counts, field.name), rows, amount)

    def amounts(self, counts: Counts) -> Tensor:
        """What counts that are numbers add to the `accounts` of a run, ``(5, 1)``."""
        kinds = (counts.gradient, counts.forward, counts.hessian_vector, counts.flops)
        amounts = [counts.cost(self.gradient_flops), *kinds]
        return torch.tensor(amounts, dtype=torch.float64, device=self.accounts.device)[:, None]

    @staticmethod
    def _book(account: Tensor, rows: Tensor | None, amount: Tensor | float) -> None:
        if rows is None:
            account += amount
        elif rows.dtype == torch.bool:
            # multiplication by the mask would turn an infinite amount outside it into NaN
            account += torch.where(rows, amount, torch.zeros((), dtype=account.dtype, device=account.device))
        else:
            account[rows] += amount

    def select(self, rows: Tensor) -> Ledger:
        """A copy of the account of some runs."""
        part = Ledger(len(rows), self.gradient_flops, self.accounts.device)
        part.accounts.copy_(self.accounts[:, rows])
        return part
