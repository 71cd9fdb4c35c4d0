"""Moving a point along its orbit, and knowing loss and gradient at the other end.

Where the action is linear and keeps the loss, both are carried over from the point before (`gradient_after`), and a move
costs its matrix work alone; elsewhere the new point is evaluated, at the price of one gradient. All searches move through
the functions here, so that they charge alike and can price themselves; each names its price beside it.

A search moves by a group element, or along a direction in the algebra. Along a direction, rotations in space need no element
(`plane_rotation`): there a direction is an angle vector ``(R, P)``, everywhere else coordinates ``xi`` ``(R, group.dim)``.

Composing the elements of successive moves is not charged: only callers whose action moves the data as well read them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element, where
from teleport_env.ledger import Counts
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Evaluator
from teleport_env.searches.base import Candidate, Start, finite_rows
from teleport_env.searches.plane_rotation import random_angles, rotate
from teleport_env.symmetries.base import Symmetry


@dataclass
class Point:
    """Points on the orbits of ``R`` runs.

    Attributes:
        params: ``(R, P)``.
        loss: ``(R,)``, evaluated or carried over.
        gradient: ``(R, P)``, evaluated or carried over.
        element: What moved them here from the start; None at the start itself, and where a move needs no element.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    element: Element | None = None

    @property
    def finite(self) -> Tensor:
        """``(R,)`` bool."""
        return torch.isfinite(self.loss) & finite_rows(self.params) & finite_rows(self.gradient)


def at_start(start: Start) -> Point:
    """The point where the runs stand, whose loss and gradient are known."""
    return Point(start.params, start.loss, start.gradient)


def times(number: float, counts: Counts) -> Counts:
    """``number`` times the work of ``counts``."""
    return Counts(*(number * getattr(counts, field.name) for field in fields(Counts)))


def element_flops(symmetry: Symmetry, retract: bool) -> float:
    """Floating-point operations of `element_at` for one run."""
    if not symmetry.keeps_loss:
        return 0.0
    return symmetry.group.retract_flops if retract else symmetry.group.exp_flops


def element_at(start: Start, xi: Tensor, retract: bool = False, copies: int = 1) -> Element:
    """``exp(xi)``, or with ``retract`` its cheap stand-in; charged `element_flops`.

    The first-order variant, which does not keep the loss, is defined by ``1 + T`` with ``T`` the matrix of ``xi``, and gets
    that.

    Args:
        xi: ``(R * copies, group.dim)``.
    """
    symmetry = start.symmetry
    start.evaluator.charge(Counts(flops=copies * element_flops(symmetry, retract)))
    return elements(symmetry, xi, retract)


def elements(symmetry: Symmetry, xi: Tensor, retract: bool = False) -> Element:
    """`element_at` without a charge, differentiable in ``xi``."""
    group = symmetry.group
    if symmetry.keeps_loss:
        return group.retract(xi) if retract else group.exp(xi)
    identity = group.identity(len(xi), xi.dtype, xi.device)
    return map_element(torch.add, identity, group.algebra(xi))


def move_price(symmetry: Symmetry, gradient: bool = True) -> Counts:
    """What one `move` of one run costs; ``gradient``: whether it ends with the gradient known."""
    if not gradient:
        return Counts(flops=symmetry.move_flops)
    if symmetry.carries:
        return Counts(flops=symmetry.move_flops + symmetry.gradient_flops)
    return Counts(gradient=1.0, flops=symmetry.move_flops)


def move(start: Start, point: Point, g: Element, gradient: bool = True) -> Point:
    """``g.w`` with loss and gradient there; charged `move_price`.

    Without ``gradient`` loss and gradient are left as they were, for a caller that evaluates later.
    """
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
    return Point(params, loss, slope, element)


def along_price(symmetry: Symmetry, retract: bool, gradient: bool = True) -> Counts:
    """What `move_along` costs a run."""
    if symmetry.sphere is not None:
        return Counts(gradient=1.0 if gradient else 0.0, flops=symmetry.sphere.flops)
    return Counts(flops=element_flops(symmetry, retract)) + move_price(symmetry, gradient)


def move_along(start: Start, point: Point, direction: Tensor, retract: bool, gradient: bool = True) -> Point:
    """``exp(direction).w``, or by the retraction; charged `along_price`. ``gradient``: as in `move`."""
    sphere = start.symmetry.sphere
    if sphere is None:
        return move(start, point, element_at(start, direction, retract), gradient)
    start.evaluator.charge(Counts(flops=sphere.flops))
    with torch.no_grad():
        params = rotate(sphere, point.params, direction, start.instance)
        if not gradient:
            return Point(params, point.loss, point.gradient)
        loss, slope = start.evaluator.loss_and_gradient(params)
    return Point(params, loss, slope)


def random_price(symmetry: Symmetry, count: int) -> Counts:
    """What `random_candidates` costs a run."""
    if symmetry.sphere is not None:
        return Counts(flops=count * symmetry.sphere.flops)
    return Counts(flops=count * (symmetry.group.exp_flops + symmetry.move_flops))


@dataclass
class Candidates:
    """Several points a run, not yet evaluated.

    Attributes:
        params: ``(R, K, P)``.
        elements: The ``R * K`` elements that moved them here from the start, run by run; None where there are none.
    """

    params: Tensor
    elements: Element | None

    def element_of(self, index: Tensor) -> Element | None:
        """The elements of the ``index[i]``-th ``(R,)`` candidate of run ``i``."""
        if self.elements is None:
            return None
        rows = torch.arange(len(index), device=index.device) * self.params.shape[1] + index
        return map_element(lambda part: part[rows], self.elements)


def candidates_at(start: Start, elements: Element, count: int) -> Candidates:
    """Where ``R * count`` elements take the start, those of run ``i`` at ``i * count, ..., (i + 1) * count - 1``.

    Charged ``count`` moves.
    """
    symmetry = start.symmetry
    start.evaluator.charge(Counts(flops=count * symmetry.move_flops))
    batch = None if start.batch is None else start.batch.repeat_interleave(count, dim=0)
    with torch.no_grad():
        repeated = start.params.repeat_interleave(count, dim=0)
        params = symmetry.act(elements, repeated, start.instance.repeat(count), batch)
    return Candidates(params.reshape(len(start), count, -1), elements)


def candidates_along(start: Start, directions: Tensor, retract: bool) -> Candidates:
    """Where ``directions`` ``(R, K, d)`` take the start; charged ``K`` times `along_price` without the gradient."""
    sphere, (runs, count, _) = start.symmetry.sphere, directions.shape
    if sphere is None:
        return candidates_at(start, element_at(start, directions.flatten(0, 1), retract, copies=count), count)
    start.evaluator.charge(Counts(flops=count * sphere.flops))
    with torch.no_grad():
        repeated = start.params.repeat_interleave(count, dim=0)
        params = rotate(sphere, repeated, directions.flatten(0, 1), start.instance.repeat(count))
    return Candidates(params.reshape(runs, count, -1), None)


def random_candidates(start: Start, count: int, scale: float, begins: bool = False) -> Candidates:
    """Where ``count`` random elements take the start; charged `random_price`.

    Drawn by `Group.sample`, or with ``begins`` by `Group.sample_start`.
    """
    symmetry, dtype = start.symmetry, start.params.dtype
    if symmetry.sphere is not None:
        start.evaluator.charge(random_price(symmetry, count))
        with torch.no_grad():
            params = []
            for _ in range(count):
                angles = random_angles(symmetry.sphere, start.params, start.instance, start.streams, scale)
                params.append(rotate(symmetry.sphere, start.params, angles, start.instance))
        return Candidates(torch.stack(params, dim=1), None)
    start.evaluator.charge(Counts(flops=count * symmetry.group.exp_flops))
    sample = symmetry.group.sample_start if begins else symmetry.group.sample
    drawn = [sample(start.streams, scale, dtype) for _ in range(count)]
    stacked = map_element(lambda *parts: torch.stack(parts, dim=1).flatten(0, 1), *drawn)
    return candidates_at(start, stacked, count)


def known_price(symmetry: Symmetry, count: int) -> Counts:
    """What `known` costs a run."""
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


def where_points(start: Start, mask: Tensor, chosen: Point, other: Point) -> Point:
    """Row by row ``chosen`` where ``mask`` ``(R,)`` is true, ``other`` elsewhere; a start's element is the identity."""
    element = None
    if chosen.element is not None or other.element is not None:
        identity = start.symmetry.group.identity(len(start), start.params.dtype, start.params.device)
        element = where(
            mask,
            identity if chosen.element is None else chosen.element,
            identity if other.element is None else other.element,
        )
    column = mask[:, None]
    return Point(
        torch.where(column, chosen.params, other.params),
        torch.where(mask, chosen.loss, other.loss),
        torch.where(column, chosen.gradient, other.gradient),
        element,
    )


def distrusts(symmetry: Symmetry) -> bool:
    """Whether a loss that was carried over is looked at before a move is accepted, whatever the search's ``verify`` says.

    The mathematics keeps it exactly, the arithmetic only as well as ``g`` and the weights are conditioned, and a run may
    teleport many times between two steps.
    """
    return symmetry.carries and not symmetry.weightwise


def verified(start: Start, loss: Tensor, params: Tensor, verify: bool, element: Element | None = None) -> Tensor:
    """The loss ``(R,)`` to report at ``params``: a forward pass in place of one that was carried, with ``verify`` or where
    the carried one is not to be trusted (`distrusts`).

    Args:
        element: What moved the runs there, for actions that move the data along.
    """
    symmetry = start.symmetry
    if not (distrusts(symmetry) or (verify and symmetry.carries)):
        return loss
    if not symmetry.moves_data or element is None:
        return start.evaluator.loss(params)
    with torch.no_grad():
        inputs = symmetry.move_data(element, start.instance["inputs"], start.instance)
    moved = replace(start.instance, tensors={**start.instance.tensors, "inputs": inputs})
    start.evaluator.charge(Counts(forward=1.0))
    return Evaluator(start.evaluator.problem, moved, start.batch).loss(params)


def verify_price(symmetry: Symmetry, verify: bool) -> Counts:
    """What `verified` costs a run."""
    return Counts(forward=1.0 if distrusts(symmetry) or (verify and symmetry.carries) else 0.0)


# -- a move by an element that somebody else chose ---------------------------------------------------------------------


def coordinates(symmetry: Symmetry) -> int:
    """How many coordinates a given element has: those of the Lie algebra, or ``n`` for rotations in ``n > 2`` dimensions.

    A rotation of space acts on the one vector ``u`` alone, and all but ``n - 1`` of its ``n (n - 1) / 2`` coordinates move
    nothing. It is given by a vector whose part normal to ``u`` is the direction and the angle by which ``u`` turns.
    """
    return symmetry.group.dim if symmetry.sphere is None else symmetry.sphere.dimension


def moved_by(start: Start, xi: Tensor) -> Candidate:
    """The point that ``exp(xi)`` moves every run to; ``xi``: ``(R, coordinates(symmetry))``; charged `price_of_move`.

    Where the action is linear loss and gradient are carried over, and a forward pass looks whether rounding kept the loss;
    elsewhere one gradient evaluation tells them.
    """
    sphere = start.symmetry.sphere
    if sphere is not None:
        u = sphere.forward(start.params, start.instance)
        norm2 = row_dot(u, u).clamp_min(torch.finfo(u.dtype).tiny)
        point = move_along(start, at_start(start), xi - (row_dot(xi, u) / norm2)[:, None] * u, retract=False)
        return Candidate(point.params, point.loss, point.gradient)
    start.evaluator.charge(Counts(flops=start.symmetry.group.exp_flops))
    point = move(start, at_start(start), start.symmetry.group.exp(xi))
    loss = verified(start, point.loss, point.params, False, point.element)
    return Candidate(point.params, loss, point.gradient, element=point.element)


def price_of_move(symmetry: Symmetry) -> Counts:
    """Price of `moved_by` per run, at most."""
    if symmetry.sphere is not None:
        return along_price(symmetry, retract=False)
    return Counts(flops=symmetry.group.exp_flops) + move_price(symmetry) + verify_price(symmetry, False)
