"""Moving a point along its orbit, and knowing loss and gradient at the other end.

Where the action is linear and keeps the loss, both are carried over from the point before (`gradient_after`), and a move
costs its matrix work alone; elsewhere the new point is evaluated, at the price of one gradient. All searches move through
the functions here, so that they charge alike and can price themselves; each names its price beside it.

A search moves by a group element, or along a direction in the algebra. Along a direction rotations need no element
(`plane_rotation`). There a direction is an angle vector ``(R, P)``, or the angle ``(R, 1)`` in the plane; everywhere else it
is coordinates ``xi`` ``(R, group.dim)``.

Composing the elements of successive moves is not charged: only callers whose action moves the data as well read them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element, where
from teleport_env.ledger import Counts
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Evaluator
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.fast.turns import Turns
from teleport_env.searches.plane_rotation import Turning
from teleport_env.symmetries.base import Symmetry


def at_start(start: Start) -> Candidate:
    """The point where the runs stand, whose loss and gradient are known."""
    return Candidate(start.params, start.loss, start.gradient)


def times(number: float, counts: Counts) -> Counts:
    """``number`` times the work of ``counts``."""
    return Counts(*(number * getattr(counts, field.name) for field in fields(Counts)))


def element_flops(symmetry: Symmetry, retract: bool) -> float:
    """Floating-point operations of `element_at` for one run."""
    if not symmetry.keeps_loss:
        return 0.0
    return symmetry.group.retract_flops if retract else symmetry.group.exp_flops


def element_at(symmetry: Symmetry, xi: Tensor, retract: bool = False) -> Element:
    """``exp(xi)``, or with ``retract`` its cheap stand-in, for ``xi`` ``(R, group.dim)``; differentiable, not charged.

    The first-order variant, which does not keep the loss, is defined by ``1 + T`` with ``T`` the matrix of ``xi``.
    """
    group = symmetry.group
    if symmetry.keeps_loss:
        return group.retract(xi) if retract else group.exp(xi)
    identity = group.identity(len(xi), xi.dtype, xi.device)
    return map_element(torch.add, identity, group.algebra(xi))


def move_price(symmetry: Symmetry, gradient: bool = True) -> Counts:
    """Price of `move` per run; ``gradient``: whether it ends with the gradient known."""
    if not gradient:
        return Counts(flops=symmetry.move_flops)
    if symmetry.carries:
        return Counts(flops=symmetry.move_flops + symmetry.gradient_flops)
    return Counts(gradient=1.0, flops=symmetry.move_flops)


def move(start: Start, point: Candidate, g: Element, gradient: bool = True) -> Candidate:
    """``g.w`` with loss and gradient there, or without ``gradient`` those of before; charged `move_price`."""
    symmetry = start.symmetry
    start.evaluator.charge(Counts(flops=symmetry.move_flops))
    with torch.no_grad():
        params = symmetry.act(g, point.params, start.instance, start.batch)
        loss, slope = point.loss, point.gradient
        if gradient and symmetry.carries:
            start.evaluator.charge(Counts(flops=symmetry.gradient_flops))
            slope = symmetry.gradient_after(g, slope, start.instance)
        elif gradient:
            loss, slope = start.evaluator.loss_and_gradient(params)
        element = g if point.element is None else symmetry.group.compose(g, point.element)
    return Candidate(params, loss, slope, element=element)


def along_price(symmetry: Symmetry, retract: bool, gradient: bool = True) -> Counts:
    """Price of `move_along` per run."""
    if symmetry.sphere is not None:
        return Counts(gradient=1.0 if gradient else 0.0, flops=symmetry.sphere.flops)
    return Counts(flops=element_flops(symmetry, retract)) + move_price(symmetry, gradient)


def move_along(start: Start, point: Candidate, direction: Tensor, retract: bool, gradient: bool = True) -> Candidate:
    """``exp(direction).w``, or by the retraction; charged `along_price`. ``gradient``: as in `move`."""
    sphere = start.symmetry.sphere
    if sphere is None:
        start.evaluator.charge(Counts(flops=element_flops(start.symmetry, retract)))
        return move(start, point, element_at(start.symmetry, direction, retract), gradient)
    start.evaluator.charge(Counts(flops=sphere.flops))
    turning = Turning(sphere, start.evaluator)
    view, tensor = turning.xp.view, turning.xp.tensor
    with torch.no_grad():
        u = turning.coordinates(view(point.params.detach()))
        params = tensor(turning.back(turning.turned(u, view(direction.detach()))))
        if not gradient:
            return Candidate(params, point.loss, point.gradient)
        return Candidate(params, *start.evaluator.loss_and_gradient(params))


def random_price(symmetry: Symmetry, count: int) -> Counts:
    """Price of `random_candidates` per run."""
    if symmetry.sphere is not None:
        return Counts(flops=count * symmetry.sphere.flops)
    return Counts(flops=count * (symmetry.group.exp_flops + symmetry.move_flops))


@dataclass
class Candidates:
    """Several points per run, not yet evaluated.

    Attributes:
        params: ``(R, K, P)``.
        elements: The ``R * K`` elements that moved them here from the start, run by run; None where there are none.
    """

    params: Tensor
    elements: Element | None = None

    def element_of(self, index: Tensor) -> Element | None:
        """The elements of the ``index[i]``-th ``(R,)`` candidate of run ``i``."""
        if self.elements is None:
            return None
        rows = torch.arange(len(index), device=index.device) * self.params.shape[1] + index
        return map_element(lambda part: part[rows], self.elements)


class TurnedCandidates(Candidates):
    """Points that rotations lead to; `params` are computed when they are asked for.

    Attributes:
        angles: ``(R, K, d)``, how each run turns: `Turning`.
    """

    def __init__(self, start: Start, turning: Turning, angles: Tensor) -> None:
        self.angles, self.elements = angles, None
        self._start, self._turning = start, turning

    @cached_property
    def params(self) -> Tensor:  # type: ignore[override]
        turning, view = self._turning, self._turning.xp.view
        with torch.no_grad():
            u = turning.coordinates(view(self._start.params.detach()))
            return turning.xp.tensor(turning.back(turning.turned(u[:, None, :], view(self.angles))))


def candidates_at(start: Start, elements: Element, count: int) -> Candidates:
    """Where ``R * count`` elements take the start, run by run; charged ``count`` moves."""
    symmetry = start.symmetry
    start.evaluator.charge(Counts(flops=count * symmetry.move_flops))
    batch = None if start.batch is None else start.batch.repeat_interleave(count, dim=0)
    with torch.no_grad():
        repeated = start.params.repeat_interleave(count, dim=0)
        params = symmetry.act(elements, repeated, start.instance.repeat(count), batch)
    return Candidates(params.reshape(len(start), count, -1), elements)


def candidates_along(start: Start, directions: Tensor, retract: bool) -> Candidates:
    """Where ``directions`` ``(R, K, d)`` take the start; charged ``K`` times `along_price` without the gradient."""
    sphere, count = start.symmetry.sphere, directions.shape[1]
    if sphere is None:
        start.evaluator.charge(Counts(flops=count * element_flops(start.symmetry, retract)))
        return candidates_at(start, element_at(start.symmetry, directions.flatten(0, 1), retract), count)
    start.evaluator.charge(Counts(flops=count * sphere.flops))
    return TurnedCandidates(start, Turning(sphere, start.evaluator), directions.detach())


def random_candidates(start: Start, count: int, scale: float, begins: bool = False) -> Candidates:
    """Where ``count`` elements of `Group.sample` take the start, or with ``begins`` of `Group.sample_start`; charged."""
    symmetry, dtype = start.symmetry, start.params.dtype
    if symmetry.sphere is not None:
        start.evaluator.charge(random_price(symmetry, count))
        turning = Turning(symmetry.sphere, start.evaluator)
        with torch.no_grad():
            params, turns = turning.xp.view(start.params.detach()), Turns.of(start)
            angles = turning.random(params, start.streams, count, scale, begins, turns)
        return TurnedCandidates(start, turning, turning.xp.tensor(angles))
    start.evaluator.charge(Counts(flops=count * symmetry.group.exp_flops))
    sample = symmetry.group.sample_start if begins else symmetry.group.sample
    drawn = [sample(start.streams, scale, dtype) for _ in range(count)]
    stacked = map_element(lambda *parts: torch.stack(parts, dim=1).flatten(0, 1), *drawn)
    return candidates_at(start, stacked, count)


def known_price(symmetry: Symmetry, count: int) -> Counts:
    """Price of `known` per run."""
    if symmetry.carries:
        return Counts(flops=count * symmetry.gradient_flops)
    return Counts(gradient=float(count))


def known(start: Start, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Losses ``(R, K)`` and gradients ``(R, K, P)`` of the candidates, carried over or evaluated; charged `known_price`."""
    symmetry, (runs, count, size) = start.symmetry, candidates.params.shape
    if candidates.elements is None or not symmetry.carries:
        return start.evaluator.loss_and_gradient(candidates.params)
    start.evaluator.charge(known_price(symmetry, count))
    with torch.no_grad():
        repeated = start.gradient.repeat_interleave(count, dim=0)
        carried = symmetry.gradient_after(candidates.elements, repeated, start.instance.repeat(count))
    return start.loss[:, None].expand(runs, count), carried.reshape(runs, count, size)


def random_point(start: Start, scale: float, begins: bool = False, gradient: bool = True) -> Candidate:
    """The one point of `random_candidates`; without ``gradient`` with the start's loss and gradient, not evaluated."""
    candidates = random_candidates(start, 1, scale, begins)
    params, element = candidates.params[:, 0], candidates.elements
    if not gradient:
        return Candidate(params, start.loss, start.gradient, element=element)
    losses, gradients = known(start, candidates)
    return Candidate(params, losses[:, 0], gradients[:, 0], element=element)


def where_points(start: Start, mask: Tensor, chosen: Candidate, other: Candidate) -> Candidate:
    """Row by row ``chosen`` where ``mask`` ``(R,)`` is true, ``other`` elsewhere; a start's element is the identity."""
    element, (one, two) = None, (chosen.element, other.element)
    if one is not None or two is not None:
        identity = start.symmetry.group.identity(len(start), start.params.dtype, start.params.device)
        element = where(mask, identity if one is None else one, identity if two is None else two)
    column = mask[:, None]
    return Candidate(
        torch.where(column, chosen.params, other.params),
        torch.where(mask, chosen.loss, other.loss),
        torch.where(column, chosen.gradient, other.gradient),
        element=element,
    )


def verifies(symmetry: Symmetry, verify: bool) -> bool:
    """Whether a loss that was carried over is evaluated before a move is accepted, also where ``verify`` does not ask.

    The mathematics keeps it exactly, the arithmetic only as well as ``g`` and the weights are conditioned, and a run may
    teleport many times between two steps.
    """
    return symmetry.carries and (verify or not symmetry.weightwise)


def verified(start: Start, point: Candidate, verify: bool) -> Candidate:
    """The point, with a loss from a forward pass in place of one that was carried, where `verifies`; charged."""
    if verifies(start.symmetry, verify):
        point.loss = _loss_at(start, point.params, point.element)
    return point


def _loss_at(start: Start, params: Tensor, element: Element | None) -> Tensor:
    """The loss ``(R,)`` at weights that ``element`` moved, on data that move along."""
    symmetry = start.symmetry
    if not symmetry.moves_data or element is None:
        return start.evaluator.loss(params)
    with torch.no_grad():
        inputs = symmetry.move_data(element, start.instance["inputs"], start.instance)
    moved = replace(start.instance, tensors={**start.instance.tensors, "inputs": inputs})
    start.evaluator.charge(Counts(forward=1.0))
    return Evaluator(start.evaluator.problem, moved, start.batch).loss(params)


def verify_price(symmetry: Symmetry, verify: bool) -> Counts:
    """Price of `verified` per run."""
    return Counts(forward=float(verifies(symmetry, verify)))


# -- a move by an element that somebody else chose ---------------------------------------------------------------------


def coordinates(symmetry: Symmetry) -> int:
    """How many coordinates a given element has: those of the Lie algebra, or ``n`` for rotations in ``n > 2`` dimensions.

    A rotation of space acts on the one vector ``u`` alone, and all but ``n - 1`` of its ``n (n - 1) / 2`` coordinates move
    nothing. It is given by a vector whose part normal to ``u`` is the direction and the angle by which ``u`` turns.
    """
    return symmetry.group.dim if symmetry.sphere is None or symmetry.group.dim == 1 else symmetry.sphere.dimension


def moved_by(start: Start, xi: Tensor) -> Candidate:
    """The point that ``exp(xi)`` moves every run to; ``xi``: ``(R, coordinates(symmetry))``; charged `price_of_move`.

    Where the action is linear loss and gradient are carried over and the loss is `verified`; elsewhere both are evaluated.
    """
    sphere = start.symmetry.sphere
    if sphere is not None:
        if sphere.dimension > 2:
            u = sphere.forward(start.params, start.instance)
            norm2 = row_dot(u, u).clamp_min(torch.finfo(u.dtype).tiny)
            xi = xi - (row_dot(xi, u) / norm2)[:, None] * u
        return move_along(start, at_start(start), xi, retract=False)
    start.evaluator.charge(Counts(flops=start.symmetry.group.exp_flops))
    return verified(start, move(start, at_start(start), start.symmetry.group.exp(xi)), False)


def price_of_move(symmetry: Symmetry) -> Counts:
    """Price of `moved_by` per run, at most."""
    if symmetry.sphere is not None:
        return along_price(symmetry, retract=False)
    return Counts(flops=symmetry.group.exp_flops) + move_price(symmetry) + verify_price(symmetry, False)
