"""A teleport by an element that somebody else chose: a policy in the group mode, or a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.moves import at_start, move, move_price, verified, verify_price
from teleport_env.searches.plane_rotation import rotate, turn_flops, turns_in_space
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coordinate_change import CoordinateChange


def coordinates(symmetry: Symmetry) -> int:
    """How many coordinates a given element has: those of the Lie algebra, or ``n`` for rotations in ``n > 2`` dimensions.

    A rotation of space acts on the one vector ``u`` alone, so that of its ``n (n - 1) / 2`` coordinates all but ``n - 1``
    move nothing; it is given by a vector whose part normal to ``u`` says whither and by what angle ``u`` turns.
    """
    return symmetry.dimension if turns_in_space(symmetry) else symmetry.group.dim


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenElement(Search):
    """No search: move by ``exp(xi)``, accepted if it is finite and keeps the loss.

    Where the action is linear loss and gradient are carried over, and a forward pass looks whether rounding kept the loss;
    elsewhere one gradient evaluation tells them.

    Attributes:
        xi: ``(R, coordinates(symmetry))``.
    """

    kind: ClassVar[str] = "given"

    xi: Tensor
    objective: str = "any"

    def propose(self, start: Start) -> Candidate:
        symmetry = start.symmetry
        if turns_in_space(symmetry):
            params = self._turned(start, symmetry)
            start.evaluator.charge(Counts(flops=turn_flops(symmetry)))
            loss, gradient = start.evaluator.loss_and_gradient(params)
            return Candidate(params, loss, gradient)
        start.evaluator.charge(Counts(flops=symmetry.group.exp_flops))
        point = move(start, at_start(start), symmetry.group.exp(self.xi))
        loss = verified(start, point.loss, point.params, False, point.element)
        return Candidate(point.params, loss, point.gradient, element=point.element)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        if turns_in_space(symmetry):
            return Counts(gradient=1.0, flops=turn_flops(symmetry))
        return Counts(flops=symmetry.group.exp_flops) + move_price(symmetry) + verify_price(symmetry, False)

    def _turned(self, start: Start, symmetry: CoordinateChange) -> Tensor:
        u = symmetry.forward(start.params, start.instance)
        norm2 = row_dot(u, u).clamp_min(torch.finfo(u.dtype).tiny)
        return rotate(symmetry, start.params, self.xi - (row_dot(self.xi, u) / norm2)[:, None] * u, start.instance)
