"""The optimum itself, where algebra gives it: nothing is evaluated to find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.groups.base import Group
from teleport_env.groups.general_linear import GL
from teleport_env.groups.product import Product
from teleport_env.groups.scaling import PositiveScaling
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches import linear_chain
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.linear_chain import Elements, LinearChain
from teleport_env.searches.moves import at_start, factors, move, move_price, verified, verify_price
from teleport_env.searches.objectives import objective_named, ordered, squared_norm
from teleport_env.searches.pair_algebra import (
    PAIR_OBJECTIVES,
    acts_on_pairs,
    grams,
    scaling_logs,
    solve,
    solve_flops,
)
from teleport_env.searches.scaling_sums import SquareSums, move_flops, setup_flops, sums_flops
from teleport_env.searches.settings import kind, require_common, require_count, require_positive
from teleport_env.symmetries.base import Pair, Symmetry
from teleport_env.symmetries.coordinate_change import CoordinateChange
from teleport_env.symmetries.linear_pair import LinearPairs
from teleport_env.symmetries.networks import product
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

# Of one pair and sweep after the first: the earlier element undone on two Gram matrices, the new one applied to them to
# see whether it is better, and two products of elements.
_REVISIT_PRODUCTS = 2 * 2 + 2 * 2 + 2


@kind
@dataclass(frozen=True, kw_only=True)
class ClosedForm(Search):
    """The best element in closed form, at the price of its matrix work.

    * Affine coordinate changes: `CoordinateChange.optimal_element`, the global optimum of the gradient norm on the level
      set. The group is compact, so the trust radius plays no part. In more than two dimensions the point found costs one
      gradient, which is less than carrying the old one there (`moves.carries`).
    * Pairs of matrices under the general linear group or positive scalings: `teleport_env.searches.pair_algebra` pair by
      pair from the lowest up. Neighbours share a matrix, so a chain is swept several times (Gauss and Seidel); each pair's
      element is the best given the others', within the trust region around where the run stands (what optimum that is,
      where the region cuts it, stands there), and no sweep makes the objective worse. For one pair one sweep suffices.

    Attributes:
        trust_radius: ``r``: the eigenvalues of each pair's ``log g`` stay in ``[-r, r]``.
        sweeps: Passes over a chain of two or more pairs.
        verify: As in `GradientAscent`.
        objective: ``"balance_weights"``, ``"balance_gradient"``, ``"gradient_norm"`` or ``"relative"``; for coordinate
            changes the middle two. ``"relative"`` bounds its step by the trust radius and has no optimum to sweep to: each
            sweep starts anew from what the neighbours did.
    """

    kind: ClassVar[str] = "closed_form"

    trust_radius: float = 2.0
    sweeps: int = 2
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, PAIR_OBJECTIVES)
        require_positive(self, "trust_radius", most=100.0)
        require_count(self, "sweeps")

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        if acts_on_pairs(symmetry):
            return
        affine = isinstance(symmetry, CoordinateChange) and symmetry.linear
        if affine and self.objective in ("gradient_norm", "balance_gradient"):
            return
        if affine:
            hint = "here use objective 'gradient_norm' or 'balance_gradient'"
        else:
            others = [repr(name) for name, other in problem.symmetries.items() if acts_on_pairs(other)]
            hint = "use the search 'normalized_ascent'" + (f" or symmetry {' or '.join(others)}" if others else "")
        raise ValueError(
            f"search {self.kind!r} with objective {self.objective!r} knows no closed form for symmetry "
            f"{symmetry.name!r}; {hint}"
        )

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        work = _optimum_flops(symmetry)
        if isinstance(symmetry, ScalingSymmetry):
            work = setup_flops(symmetry) + self._sweeps(symmetry) * sums_flops(symmetry) + move_flops(symmetry)
            return Counts(flops=work) + verify_price(symmetry, self.verify)
        elif linear_chain.serves(symmetry):
            assert isinstance(symmetry, LinearPairs)
            on_weights = self.objective == "balance_weights"
            small = symmetry if on_weights else linear_chain.reduced(symmetry)
            work = sum(self._sweep_flops(small, sweep) for sweep in range(self._sweeps(small)))
            if not on_weights:
                work += linear_chain.begin_flops(symmetry) + linear_chain.end_flops(symmetry)
                return Counts(flops=work) + verify_price(symmetry, self.verify)
        elif acts_on_pairs(symmetry):
            work = sum(self._sweep_flops(symmetry, sweep) for sweep in range(self._sweeps(symmetry)))
        return Counts(flops=work) + move_price(symmetry) + verify_price(symmetry, self.verify)

    def propose(self, start: Start) -> Candidate:
        symmetry = start.symmetry
        with torch.no_grad():
            if isinstance(symmetry, ScalingSymmetry):
                return self._scaled(start, symmetry)
            if linear_chain.serves(symmetry) and self.objective != "balance_weights":
                return self._on_chain(start)
        with torch.no_grad():
            if acts_on_pairs(symmetry):
                vector = (start.params if self.objective == "balance_weights" else start.gradient).clone()
                found = self._sweep(start, symmetry, vector)
                elements = tuple(forth for forth, _ in found)
                element = elements if isinstance(symmetry.group, Product) else elements[0]
            else:
                assert isinstance(symmetry, CoordinateChange), "call check() first"
                maximise = self.objective == "gradient_norm"
                element = symmetry.optimal_element(start.params, start.instance, maximise)
                start.evaluator.charge(Counts(flops=_optimum_flops(symmetry)))
        # Moved as a whole by the symmetry itself, so that nothing rests on the sweeps but how good the element is.
        point = move(start, at_start(start), element)
        objective = objective_named(self.objective)
        return Candidate(
            point.params,
            verified(start, point.loss, point.params, self.verify, point.element),
            point.gradient,
            score=objective.score(start, point.params, point.gradient),
            start_score=objective.start_score(start),
            element=point.element,
        )

    def _sweeps(self, symmetry: Symmetry) -> int:
        return self.sweeps if len(factors(symmetry.group)) > 1 else 1

    def _sweep_flops(self, symmetry: Symmetry, sweep: int) -> float:
        """Two Gram matrices a pair and moving the two matrices: each as many products as one gradient carried over."""
        flops = 2.0 * symmetry.gradient_flops
        for factor in factors(symmetry.group):
            flops += solve_flops(self.objective, factor)
            if sweep > 0 and isinstance(factor, GL):
                flops += 2.0 * _REVISIT_PRODUCTS * factor.n**3
        return flops

    def _scaled(self, start: Start, symmetry: ScalingSymmetry) -> Candidate:
        """Positive scalings: every unit's best factor from sums of squares (`scaling_sums`), then one move."""
        sweeps = self._sweeps(symmetry)
        flops = setup_flops(symmetry) + sweeps * sums_flops(symmetry) + move_flops(symmetry)
        start.evaluator.charge(Counts(flops=flops))
        on_weights = self.objective == "balance_weights"
        sums = SquareSums(symmetry, start.params if on_weights else start.gradient)
        xp, layers = sums.xp, sums.layers
        # squares below a unit are multiplied by `weights`, those above by `inverse`
        logs, weights, inverse, below, above = sums.ones(5)
        for _ in range(sweeps):
            for index, here in enumerate(layers):
                # without the pair's own factors: the coefficients where this pair has not moved
                sums.rows(inverse, below, index)
                sums.columns(weights, above, index)
                a, b = (above, below) if on_weights else (below, above)
                found = scaling_logs(xp, self.objective, a[:, here], b[:, here], self.trust_radius)
                logs[:, here] = found
                weights[:, here] = xp.exp(found if on_weights else -found)
                inverse[:, here] = 1.0 / weights[:, here]
        # the squares as the last sweep leaves them
        top = layers[-1]
        total = (below * weights).sum(1) + (above[:, top] * inverse[:, top]).sum(1) + sums.rest
        xp.multiply(logs, 0.5, out=logs)
        element = xp.exp(logs)
        params, gradient = symmetry.scale_both(element, xp.exp(-logs), start.params, start.gradient)
        sign = 1.0 if self.objective in ("gradient_norm", "relative") else -1.0
        return Candidate(
            params,
            verified(start, start.loss, params, self.verify),
            gradient,
            score=ordered(sign * xp.tensor(total)),
            start_score=ordered(sign * xp.tensor(sums.total())),
            element=xp.tensor(element).split(list(sums.hidden), dim=1),
        )

    def _on_chain(self, start: Start) -> Candidate:
        """Chains of linear layers: sweeps over what the gradients span (`linear_chain`), then one move."""
        symmetry = start.symmetry
        assert isinstance(symmetry, LinearPairs)
        start.evaluator.charge(Counts(flops=linear_chain.begin_flops(symmetry) + linear_chain.end_flops(symmetry)))
        chain = LinearChain(symmetry, start.gradient)
        gradient = chain.gradient.clone()
        before = squared_norm(gradient)
        found = self._sweep(start, chain.symmetry, gradient)
        elements = Elements([forth for forth, _ in found], [back for _, back in found])
        params = chain.weights(elements, start.params)
        sign = 1.0 if self.objective in ("gradient_norm", "relative") else -1.0
        element = chain.element(elements)
        return Candidate(
            params,
            verified(start, start.loss, params, self.verify, element),
            chain.gradients(gradient),
            score=ordered(sign * squared_norm(gradient)),
            start_score=ordered(sign * before),
            element=element,
        )

    def _sweep(self, start: Start, symmetry: Symmetry, vector: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The element of every pair and its inverse; moves ``vector``, weights or gradients, there, in place."""
        groups = factors(symmetry.group)
        on_weights = self.objective == "balance_weights"
        # views: moving one pair moves what its neighbours see
        pairs = symmetry.pairs(vector, start.instance)
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(groups)
        for sweep in range(self._sweeps(symmetry)):
            start.evaluator.charge(Counts(flops=self._sweep_flops(symmetry, sweep)))
            for index, (group, pair) in enumerate(zip(groups, pairs, strict=True)):
                found[index] = self._improve(group, pair, found[index], on_weights)
        return [entry for entry in found if entry is not None]

    def _improve(
        self, group: Group, pair: Pair, before: tuple[Tensor, Tensor] | None, on_weights: bool
    ) -> tuple[Tensor, Tensor]:
        """The best ``(g, g^-1)`` of one pair, counted from the start; moves ``pair`` there from ``before``, in place."""
        diagonal = isinstance(group, PositiveScaling)
        below, above = grams(pair, diagonal)
        a, b = (above, below) if on_weights else (below, above)  # the coefficients of S^-1 and S
        if before is None:
            spectrum = solve(self.objective, a, b, self.trust_radius)
            element, inverse = spectrum.element(), spectrum.inverse()
            forward, backward = element, inverse
        else:
            here = _trace(a) + _trace(b)
            a, b = _between(before[0], a), _between(before[1], b)  # as they would be with this pair where it started
            spectrum = solve(self.objective, a, b, self.trust_radius)
            element, inverse = spectrum.element(), spectrum.inverse()
            if self.objective in ("balance_weights", "balance_gradient"):
                # The trust region's minimum is known in one basis only, and may lie above what another sweep found.
                there = _trace(_between(inverse, a)) + _trace(_between(element, b))
                worse = there > here
                element, inverse = _where(worse, before[0], element), _where(worse, before[1], inverse)
            # from `before` to here, for the lower weights: h = g g_before^-1, and for the upper ones h^-1 from the right
            forward, backward = _product(element, before[1]), _product(before[0], inverse)
        if diagonal:
            left, right = (forward, backward) if on_weights else (backward, forward)
            pair.lower.mul_(left[:, :, None])
            pair.upper.mul_(right[:, None, :])
            return element, inverse
        # gradients move by h^-T and h^T
        left, right = (forward, backward) if on_weights else (backward.mT, forward.mT)
        pair.lower.copy_(product(left, pair.lower))
        pair.upper.copy_(product(pair.upper, right))
        return element, inverse


def _between(outer: Tensor, inner: Tensor) -> Tensor:
    """``outer inner outer`` for symmetric matrices, or diagonals."""
    return _product(outer, _product(inner, outer))


def _where(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *([1] * (other.ndim - 1))), chosen, other)


def _trace(matrix: Tensor) -> Tensor:
    """``(R,)`` of matrices ``(R, k, k)``, or of diagonals ``(R, k)``."""
    return (torch.diagonal(matrix, dim1=1, dim2=2) if matrix.ndim == 3 else matrix).contiguous().sum(dim=1)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Of two matrices, or of two diagonals."""
    return product(first, second) if first.ndim == 3 else first * second


def _optimum_flops(symmetry: Symmetry) -> float:
    """Of `CoordinateChange.optimal_element`: ``A A'``, its eigenvectors, a product of reflections; free in the plane."""
    if isinstance(symmetry, CoordinateChange) and symmetry.dimension > 2:
        return (2.0 + 9.0 + 2.0) * symmetry.dimension**3
    return 0.0
