"""A teleport by an element that somebody else chose, given by its coordinates: a policy in the group mode, or a person.

There is nothing to search for: the run moves by ``exp(xi)`` and stays there if the point is finite and keeps the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.optimizers import row_dot
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.moves import at_start, move, move_price, verified, verify_price
from teleport_env.searches.plane_rotation import rotate
from teleport_env.symmetries.base import Symmetry


def coordinates(symmetry: Symmetry) -> int:
    """How many coordinates a given element has: those of the Lie algebra, or ``n`` for rotations in ``n > 2`` dimensions.

    A rotation of space acts on the one vector ``u`` alone, so that of its ``n (n - 1) / 2`` coordinates all but ``n - 1``
    move nothing; it is given by a vector whose part normal to ``u`` says whither and by what angle ``u`` turns.
    """
    return symmetry.group.dim if symmetry.sphere is None else symmetry.sphere.dimension


def moved_by(start: Start, xi: Tensor) -> Candidate:
    """The point that ``exp(xi)`` moves every run to; ``xi``: ``(R, coordinates(symmetry))``.

    Where the action is linear loss and gradient are carried over, and a forward pass looks whether rounding kept the loss;
    elsewhere one gradient evaluation tells them.
    """
    symmetry, evaluator = start.symmetry, start.evaluator
    sphere = symmetry.sphere
    if sphere is not None:
        u = sphere.forward(start.params, start.instance)
        norm2 = row_dot(u, u).clamp_min(torch.finfo(u.dtype).tiny)
        across = xi - (row_dot(xi, u) / norm2)[:, None] * u
        params = rotate(sphere, start.params, across, start.instance)
        evaluator.charge(Counts(flops=sphere.flops))
        return Candidate(params, *evaluator.loss_and_gradient(params))
    evaluator.charge(Counts(flops=symmetry.group.exp_flops))
    point = move(start, at_start(start), symmetry.group.exp(xi))
    loss = verified(start, point.loss, point.params, False, point.element)
    return Candidate(point.params, loss, point.gradient, element=point.element)


def price_of_move(symmetry: Symmetry) -> Counts:
    """What `moved_by` costs a run at most."""
    if symmetry.sphere is not None:
        return Counts(gradient=1.0, flops=symmetry.sphere.flops)
    return Counts(flops=symmetry.group.exp_flops) + move_price(symmetry) + verify_price(symmetry, False)
