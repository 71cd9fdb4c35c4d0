"""Objectives of teleports: scores of the points on a level set, larger is better.

========================  ======================================================  ====================================
name                      score of a point ``w`` with gradient ``G``              needs
========================  ======================================================  ====================================
``gradient_norm``         ``|G|^2``, the publication's                            the gradient there
``relative``              ``|G|^2``; the name stands for a bounded way to move,   the gradient there
                          along ``(B - A) / (A + B)`` (`pair_algebra`)
``balance_gradient``      ``-|G|^2``                                              the gradient there
``balance_weights``       ``-|w|^2``                                              nothing
``virtual_step``          ``-L(w - lr G)``                                        the gradient and one forward pass
``any``                   none: whatever keeps the loss will do                   nothing
========================  ======================================================  ====================================

The gradient costs an evaluation only where the action is not linear (`teleport_env.searches.moves`). The score of staying
is needed too; the start's loss and gradient are known, so that it costs one forward pass for ``virtual_step`` and nothing
for the others.

``balance_weights`` is the sum of the squared Frobenius norms of the layers, each once. Parameters that the action does not
move add the same constant to every point of the orbit, so the sum runs over all of them. Along an orbit of
``(V, U) -> (g V, U g^-1)`` it is stationary exactly where ``V V' = U' U``: equal norms on the two sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from teleport_env.arrays import arrays_of
from teleport_env.optimizers import row_dot
from teleport_env.reading import known
from teleport_env.searches.base import Start


def squared_norm(vectors: Tensor) -> Tensor:
    """``|v|^2`` over the last axis."""
    return row_dot(vectors, vectors)


@dataclass(frozen=True)
class Objective:
    """A score of points, batched over runs and, optionally, candidates.

    Attributes:
        name: Name by which users choose it.
        sign: 1 for a score that is a squared norm, -1 for one that is minus a squared norm or a loss.
        needs_gradient: Whether the gradient at a point must be known to score it; the norm is then the gradient's.
        forwards: Forward passes that the score of one point costs: those of the loss after one step.
    """

    name: str
    sign: float
    needs_gradient: bool = True
    forwards: int = 0

    def score(self, start: Start, params: Tensor, gradient: Tensor | None) -> Tensor:
        """Scores ``(R,)`` of points ``(R, P)`` or ``(R, K)`` of points ``(R, K, P)``; a NaN comes back as -inf.

        Args:
            start: Starting points of the runs; their evaluator is charged `forwards` per point.
            params: The points.
            gradient: The gradient there, of the same shape; None if not `needs_gradient`.

        Raises:
            ValueError: A gradient that is needed is missing.
        """
        if not self.needs_gradient:
            return ordered(self.sign * squared_norm(params))
        if gradient is None:
            raise ValueError(
                f"objective {self.name!r} needs the gradient at the points it scores; evaluate or carry it first"
            )
        if not self.forwards:
            return ordered(self.sign * squared_norm(gradient))
        xp = arrays_of(params.device)
        rate = xp.view(start.learning_rate.to(params.dtype)).reshape(-1, *([1] * (params.ndim - 1)))
        following = xp.view(params.detach()) - rate * xp.view(gradient.detach())
        return ordered(self.sign * start.evaluator.loss(xp.tensor(following)))

    def start_score(self, start: Start) -> Tensor:
        """The score ``(R,)`` of staying; charged `forwards`."""
        return self.score(start, start.params, start.gradient)


def ordered(score: Tensor) -> Tensor:
    """Scores with a NaN turned to -inf, since a finite candidate must not lose against a start that is a NaN."""
    xp = arrays_of(score.device)
    numbers = xp.view(score)
    return xp.tensor(xp.where(numbers == numbers, numbers, -math.inf))


OBJECTIVES: dict[str, Objective | None] = {
    objective.name: objective
    for objective in (
        Objective("gradient_norm", 1.0),  # Zhao et al., NeurIPS 2022, Algorithm 1, its objective
        Objective("balance_gradient", -1.0),  # a flat point, from which a larger learning rate holds
        Objective("balance_weights", -1.0, needs_gradient=False),
        Objective("relative", 1.0),
        Objective("virtual_step", -1.0, forwards=1),
    )
} | {"any": None}
"""All objectives by name; None for ``"any"``, which scores nothing."""


def objective_named(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ValueError: The name is unknown, or ``"any"``, which has no score.
    """
    scored = {other: value for other, value in OBJECTIVES.items() if value is not None}
    return scored[known("objective with a score", name, scored)]
