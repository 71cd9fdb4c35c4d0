"""A teleport by an element that somebody else chose: a policy in the group mode, or a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.symmetries.base import Symmetry


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenElement(Search):
    """No search: move by ``exp(xi)``, accepted if it is finite and keeps the loss.

    Where the action is linear loss and gradient are carried over; elsewhere one gradient evaluation tells them.

    Attributes:
        xi: ``(R, group.dim)`` algebra coordinates.
    """

    kind: ClassVar[str] = "given"

    xi: Tensor
    objective: str = "any"

    def propose(self, start: Start) -> Candidate:
        symmetry = start.symmetry
        element = symmetry.group.exp(self.xi)
        params = symmetry.act(element, start.params, start.instance, start.batch)
        flops = symmetry.group.exp_flops + symmetry.move_flops
        if symmetry.linear and symmetry.keeps_loss:
            gradient = symmetry.gradient_after(element, start.gradient, start.instance)
            start.evaluator.charge(Counts(flops=flops + symmetry.gradient_flops))
            return Candidate(params, start.loss, gradient, element=element)
        start.evaluator.charge(Counts(flops=flops))
        loss, gradient = start.evaluator.loss_and_gradient(params)
        return Candidate(params, loss, gradient, element=element)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        flops = symmetry.group.exp_flops + symmetry.move_flops
        if symmetry.linear and symmetry.keeps_loss:
            return Counts(flops=flops + symmetry.gradient_flops)
        return Counts(gradient=1.0, flops=flops)
