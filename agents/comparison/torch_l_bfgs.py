"""The minimizer `torch.optim.LBFGS` with its strong Wolfe search, to the last bit and with fewer calls.

The line search is torch's own, and so are all operations on vectors, in their order. What torch's recursion keeps in tensors
of one number are numbers here: half of its calls were made for these. Nor is an `Optimizer` made, the first of which
imports torch's compiler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe

Vector = NDArray[np.float64]

_LEAST = 1e-10
"""Product of a step and its gradient change above which torch keeps the pair."""
_EVALUATIONS = 10**9


@torch.no_grad()
def minimize(loss_and_gradient: Callable[[Vector], tuple[float, Vector]], start: Vector, pairs: int) -> None:
    """What `torch.optim.LBFGS` does in one call of ``step``, without tolerances and without a bound on its evaluations.

    It ends where no direction descends or no weight moves, or by what the loss raises.

    Args:
        loss_and_gradient: Function from a point ``(P,)`` to its loss and its gradient ``(P,)``.
        start: Start ``(P,)``.
        pairs: Number of steps and gradient changes from which the curvature is estimated.
    """

    def at(point: Vector) -> tuple[float, Tensor]:
        loss, gradient = loss_and_gradient(point)
        return loss, torch.tensor(gradient)  # in memory of torch: sums of products may depend on how it is aligned

    def along(weights: Tensor, step: float | Tensor, direction: Tensor) -> tuple[float, Tensor]:
        return at(weights.add(direction, alpha=step).numpy())  # type: ignore[arg-type]  # a tensor of one number, too

    weights = torch.tensor(start)
    loss, gradient = at(start)
    memory: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=pairs)
    # a tensor, since one over a tensor and one over a number are rounded differently in the line search
    direction, step = gradient.neg(), min(1.0, 1.0 / gradient.abs().sum())
    while bool(gradient.any()):
        slope = gradient.dot(direction)
        if slope > 0.0:
            return
        before = gradient
        searched = _strong_wolfe(along, weights, step, direction, loss, gradient, slope, max_ls=_EVALUATIONS)
        loss, gradient, taken, _ = searched
        weights.add_(direction, alpha=taken)
        moved, change = direction.mul(taken), gradient.sub(before)
        if not bool(moved.any()):
            return
        curvature = change.dot(moved).item()
        if curvature > _LEAST:
            memory.append((moved, change, 1.0 / curvature))
            scale = curvature / change.dot(change).item()
        direction, step = _direction(gradient, memory, scale if memory else 1.0), 1.0


def _direction(gradient: Tensor, memory: Iterable[tuple[Tensor, Tensor, float]], scale: float) -> Tensor:
    """Minus the product of the estimated inverse Hessian and a gradient ``(P,)``.

    Args:
        gradient: ``(P,)``.
        memory: Steps, gradient changes, and one over the product of both, the oldest first.
        scale: Estimate of the inverse Hessian without the pairs, a multiple of the identity.
    """
    kept = list(memory)
    found, shares = gradient.neg(), []
    for moved, change, inverse in reversed(kept):
        share = moved.dot(found).item() * inverse
        found.add_(change, alpha=-share)
        shares.append(share)
    found.mul_(scale)
    for (moved, change, inverse), share in zip(kept, reversed(shares), strict=True):
        found.add_(moved, alpha=share - change.dot(found).item() * inverse)
    return found
