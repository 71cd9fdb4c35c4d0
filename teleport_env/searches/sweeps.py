"""Sweeps over the pairs of a chain: each pair is moved to its best element given the others (Gauss and Seidel).

Neighbouring pairs share a matrix, so that a chain is swept several times. What the best element of one pair is stands in
`teleport_env.searches.pair_algebra`; no sweep makes the objective worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.base import Group, single, where
from teleport_env.ledger import Counts
from teleport_env.searches.base import Start
from teleport_env.searches.pair_algebra import grams, size_of, solve, solve_flops
from teleport_env.symmetries.base import Pair, Symmetry
from teleport_env.symmetries.networks import product

# Of one pair and sweep after the first: the earlier element undone on two Gram matrices, the new one applied to them to
# see whether it is better, and two products of elements.
_REVISIT_PRODUCTS = 2 * 2 + 2 * 2 + 2


@dataclass(frozen=True)
class Sweeps:
    """What is swept for.

    Attributes:
        objective: One of `pair_algebra.PAIR_OBJECTIVES`.
        trust_radius: Bound on the eigenvalues of each pair's ``log g``.
        count: Passes over a chain of two or more pairs.
    """

    objective: str
    trust_radius: float
    count: int

    @property
    def on_weights(self) -> bool:
        """Whether the norm at stake is that of the weights, and not of the gradient."""
        return self.objective == "balance_weights"

    @property
    def sign(self) -> float:
        """1 where the norm is to grow, else -1."""
        return 1.0 if self.objective in ("gradient_norm", "relative") else -1.0

    def count_of(self, pairs: int) -> int:
        """Sweeps over so many pairs: one suffices for one."""
        return self.count if pairs > 1 else 1

    def flops(self, symmetry: Symmetry) -> float:
        """Floating-point operations of `run` for one run."""
        return sum(self._flops(symmetry, sweep) for sweep in range(self.count_of(len(symmetry.group.factors))))

    def _flops(self, symmetry: Symmetry, sweep: int) -> float:
        """Two Gram matrices a pair and moving the two matrices: each as many products as one gradient carried over."""
        flops = 2.0 * symmetry.gradient_flops
        for factor in symmetry.group.factors:
            flops += solve_flops(self.objective, factor)
            if sweep > 0:
                flops += 2.0 * _REVISIT_PRODUCTS * size_of(factor) ** 3
        return flops

    def run(self, start: Start, symmetry: Symmetry, vector: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The element of every pair and its inverse; charged `flops`.

        Args:
            start: Where the runs stand; pays.
            symmetry: The action on the pairs.
            vector: Weights or gradients ``(R, P)``, which are moved there in place.
        """
        groups = symmetry.group.factors
        # views: moving one pair moves what its neighbours see
        pairs = symmetry.pairs(vector, start.instance)
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(groups)
        for sweep in range(self.count_of(len(groups))):
            start.evaluator.charge(Counts(flops=self._flops(symmetry, sweep)))
            for index, (group, pair) in enumerate(zip(groups, pairs, strict=True)):
                found[index] = self._improve(group, pair, found[index])
        return [entry for entry in found if entry is not None]

    def _improve(self, group: Group, pair: Pair, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The best ``(g, g^-1)`` of one pair, counted from the start; moves ``pair`` there from ``before``, in place."""
        diagonal, on_weights = group.metrics == "diagonal", self.on_weights
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
            if self.sign < 0:
                # The trust region's minimum is known in one basis only, and may lie above what another sweep found.
                there = _trace(_between(inverse, a)) + _trace(_between(element, b))
                worse = there > here
                element, inverse = single(where(worse, before[0], element)), single(where(worse, before[1], inverse))
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


def _trace(matrix: Tensor) -> Tensor:
    """``(R,)`` of matrices ``(R, k, k)``, or of diagonals ``(R, k)``."""
    return (torch.diagonal(matrix, dim1=1, dim2=2) if matrix.ndim == 3 else matrix).contiguous().sum(dim=1)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Of two matrices, or of two diagonals."""
    return product(first, second) if first.ndim == 3 else first * second
