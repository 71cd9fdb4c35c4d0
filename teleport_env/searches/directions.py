"""Directions in the Lie algebra in which the gradient norm grows."""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.arrays import TINY, Array, Arrays, row_dots
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.fast.turns import Turns
from teleport_env.searches.moves import element_at, element_flops
from teleport_env.searches.pair_algebra import grams, solve, solve_flops
from teleport_env.searches.plane_rotation import Turning
from teleport_env.symmetries.base import Symmetry

DERIVATIVES = ("auto", "hessian_free", "double_backward")


def uses_hessian(symmetry: Symmetry, derivative: str) -> bool:
    """Whether the direction comes from a double backward pass.

    The Hessian-free form follows from the invariance of the loss, so ``"auto"`` takes it wherever the action keeps it.
    """
    return derivative == "double_backward" or (derivative == "auto" and not symmetry.keeps_loss)


def direction_price(symmetry: Symmetry, derivative: str) -> Counts:
    """Price of `ascent_direction` per run."""
    if uses_hessian(symmetry, derivative):
        return Counts(gradient=1.0, hessian_vector=1.0, flops=pull_back_flops(symmetry))
    if symmetry.sphere is not None:
        return Counts(flops=symmetry.sphere.flops)
    if symmetry.direction_flops is not None:
        return Counts(flops=symmetry.direction_flops)
    return Counts(flops=4.0 * (symmetry.group.exp_flops + symmetry.move_flops))


def ascent_direction(start: Start, point: Candidate, derivative: str = "auto") -> Tensor:
    """``d |grad L(exp(xi).w)|^2 / d xi`` at ``xi = 0``, at any point of the orbit; charged `direction_price`.

    ``(R, group.dim)``, or for rotations in space angle vectors ``(R, P)`` (`plane_rotation`).

    Args:
        derivative: ``"hessian_free"``: from the action alone (`Symmetry.ascent_direction`). ``"double_backward"``: through
            the loss, the way of the publication; right also where the action does not keep the loss. ``"auto"``: see
            `uses_hessian`.
    """
    symmetry = start.symmetry
    if uses_hessian(symmetry, derivative):
        product = start.evaluator.hessian_vector(point.params)[2]
        return pull_back(start, point.params, 2.0 * product)
    start.evaluator.charge(direction_price(symmetry, derivative))
    if symmetry.sphere is not None:
        turns = Turns.of(start)
        found = None if turns is None else turns.direction(point.params.detach(), point.gradient.detach())
        if found is not None:
            return found
        turning = Turning(symmetry.sphere, start.evaluator)
        xp, params = turning.xp, turning.xp.view(point.params.detach())
        return xp.tensor(turning.direction(turning.coordinates(params), params, xp.view(point.gradient.detach())))
    with torch.no_grad():
        return symmetry.ascent_direction(point.params, point.gradient, start.instance, start.batch).detach()


def pull_back_flops(symmetry: Symmetry) -> float:
    """Floating-point operations of `pull_back` for one run: a move and its way back."""
    if symmetry.sphere is not None:
        return 2.0 * symmetry.sphere.flops
    return 2.0 * (element_flops(symmetry, retract=False) + symmetry.move_flops)


def pull_back(start: Start, params: Tensor, covector: Tensor) -> Tensor:
    """``d <covector, exp(xi).w> / d xi`` at ``xi = 0``, a direction as in `ascent_direction`; charged `pull_back_flops`."""
    symmetry = start.symmetry
    start.evaluator.charge(Counts(flops=pull_back_flops(symmetry)))
    if symmetry.sphere is not None:
        return Turning(symmetry.sphere, start.evaluator).pulled_back(params, covector)
    with torch.enable_grad():
        xi = params.new_zeros(len(params), symmetry.group.dim, requires_grad=True)
        moved = symmetry.act(element_at(symmetry, xi), params.detach(), start.instance, start.batch)
        (direction,) = torch.autograd.grad((moved * covector).sum(), xi)
    return direction


def relative_price(symmetry: Symmetry) -> Counts:
    """Price of `relative_direction` per run: two Gram matrices per pair, about one move, and their decompositions."""
    return Counts(
        flops=symmetry.gradient_flops + sum(solve_flops("relative", factor) for factor in symmetry.group.factors)
    )


def relative_direction(start: Start, symmetry: Symmetry, gradient: Tensor) -> Tensor:
    """``(B - A) / (A + B)`` of every pair as algebra coordinates ``(R, group.dim)``, eigenvalues in [-1, 1]; charged.

    ``symmetry`` is the action on the pairs and ``gradient`` ``(R, P)`` their gradient; ``start`` pays.
    """
    start.evaluator.charge(relative_price(symmetry))
    coordinates = []
    for factor, pair in zip(symmetry.group.factors, symmetry.pairs(gradient, start.instance), strict=True):
        a, b = grams(pair, factor.metrics == "diagonal")
        # the coordinates of GL are a matrix row by row, those of a scaling the logarithms
        coordinates.append(solve("relative", a, b, radius=1.0).log_element().flatten(1))
    return torch.cat(coordinates, dim=1)


def unit(xp: Arrays, direction: Array) -> Array:
    """Directions ``(R, d)`` over their lengths; zero stays zero. Scaled first: squares of tiny numbers vanish."""
    tiny = TINY[direction.dtype]
    scaled = direction / xp.at_least(xp.amax(abs(direction), 1), tiny)[:, None]
    return scaled / xp.at_least(xp.sqrt(row_dots(xp, scaled, scaled)), tiny)[:, None]


def require_reach(search: Search, symmetry: Symmetry, retract: bool, length: float) -> None:
    """Raise ValueError where the retraction of a step that long is not defined."""
    reach = symmetry.group.retract_reach
    if retract and length >= reach:
        raise ValueError(
            f"steps of length {length:g} of search {search.kind!r} are too long for the retraction of "
            f"{symmetry.group.name}, which is defined below {reach:g}; use retract=False or shorter steps"
        )


def require_resting_data(search: Search, symmetry: Symmetry, evaluates: bool) -> None:
    """Raise ValueError where a loss would be evaluated at moved weights on data that did not move along."""
    if symmetry.moves_data and (evaluates or not symmetry.carries):
        raise ValueError(
            f"search {search.kind!r} with these settings evaluates losses at moved weights, but symmetry {symmetry.name!r} "
            f"moves the data along with them; use 'gradient_ascent', 'normalized_ascent' or 'random' with objective "
            f"'gradient_norm', verify=False and derivative='auto', which carry the loss over"
        )


def require_direction(search: Search, symmetry: Symmetry, derivative: str, evaluates: bool) -> None:
    """Raise ValueError where `ascent_direction` is not to be had; ``evaluates``: as in `require_resting_data`."""
    if not symmetry.group.continuous:
        raise ValueError(
            f"search {search.kind!r} moves in a Lie algebra, but {symmetry.group.name} of symmetry {symmetry.name!r} is "
            f"discrete; use the search 'random' or 'random_element'"
        )
    if derivative == "hessian_free" and not symmetry.keeps_loss:
        raise ValueError(
            f"derivative='hessian_free' of search {search.kind!r} assumes a kept loss, which symmetry {symmetry.name!r} "
            f"does not keep; use 'auto' or 'double_backward'"
        )
    require_resting_data(search, symmetry, evaluates or uses_hessian(symmetry, derivative))


def require_pairs(search: Search, problem: Problem, symmetry: Symmetry) -> None:
    """Raise ValueError for a symmetry that does not act linearly on pairs of matrices."""
    if symmetry.acts_on_pairs:
        return
    others = [repr(name) for name, other in problem.symmetries.items() if other.acts_on_pairs]
    raise ValueError(
        f"search {search.kind!r} with objective {search.objective!r} needs a general linear or scaling action on pairs of "
        f"weight matrices, which symmetry {symmetry.name!r} is not; "
        + (f"use symmetry {' or '.join(others)}" if others else "use another objective, such as 'gradient_norm'")
    )
