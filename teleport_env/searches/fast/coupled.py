"""The best factors of coupled units, from sums of squares.

As for a chain (`teleport_env.searches.fast.scalings`), with ``p = d^-2`` the squared gradient norm after a scaling is a sum
over weights of their squares, times ``p`` of the unit that each writes, over ``p`` of the unit that it reads. So the squares
are summed once: per unit, and per pair of units where two couplings share weights. Sweeps then are products of small
matrices with vectors, and all weights move once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.objectives import ordered
from teleport_env.searches.pair_algebra import Sweeps, solve
from teleport_env.symmetries.coupled import CoupledUnits, Link
from teleport_env.symmetries.networks import product


class CoupledForm:
    """Every unit's best factor from sums of squares, in sweeps over the couplings, then one move."""

    moves_weights = True

    def __init__(self, units: CoupledUnits, sweeps: Sweeps) -> None:
        self._units, self._sweeps = units, sweeps

    def price(self) -> Counts:
        units, sweeps = self._units, self._sweeps.count_of(len(self._units.couplings))
        shared = sum(link.place.stop - link.place.start for link in units.links)
        # elementwise operations; the constants were fitted to times of modules with 64 runs on one thread
        return Counts(flops=14.0 * units.size + sweeps * 10.0 * shared + (sweeps + 1) * (40.0 * units.count + 200.0))

    def propose(self, start: Start) -> Candidate:
        start.evaluator.charge(self.price())
        units, on_weights, sign = self._units, self._sweeps.on_weights, self._sweeps.sign
        squares = (start.params if on_weights else start.gradient).square()
        sums = units.sums(squares)
        # what a unit writes is multiplied by the first, what it reads by the second
        weights, inverse, logs = torch.ones(3, len(sums), units.count, dtype=sums.dtype, device=sums.device)
        for _ in range(self._sweeps.count_of(len(units.couplings))):
            for index, here in enumerate(units.units):
                below, above = self._around(index, sums, weights, inverse)
                a, b = (above, below) if on_weights else (below, above)
                logs[:, here] = solve(self._sweeps.objective, a, b, self._sweeps.trust_radius).log
                weights[:, here] = torch.exp(logs[:, here] if on_weights else -logs[:, here])
                inverse[:, here] = 1.0 / weights[:, here]
        rest = squares.sum(1) - sums.sum(1)
        after = (sums[:, : units.count] * weights + sums[:, units.count : 2 * units.count] * inverse).sum(1)
        for link in units.links:
            first, second = self._factors(link, 0, weights, inverse), self._factors(link, 1, weights, inverse)
            after = after + (first * product(self._matrix(link, sums), second[:, :, None])[:, :, 0]).sum(1)
        element, reciprocal = torch.exp(0.5 * logs), torch.exp(-0.5 * logs)
        factors = units.factors(element, reciprocal, squares.shape[1])
        return Candidate(
            start.params * factors,
            start.loss,
            start.gradient / factors,
            score=ordered(sign * (after + rest)),
            start_score=ordered(sign * (sums.sum(1) + rest)),
            element=element.split([coupling.width for coupling in units.couplings], dim=1),
        )

    def _around(self, index: int, sums: Tensor, weights: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Squares that the units of a coupling write and read ``(R, k)``, with the factors of all others."""
        here, count = self._units.units[index], self._units.count
        sides = [sums[:, count + here.start : count + here.stop], sums[:, here]]  # above, below
        for link in self._units.links:
            for own in (0, 1):
                if link.couplings[own] != index:
                    continue
                matrix = self._matrix(link, sums)
                other = self._factors(link, 1 - own, weights, inverse)
                found = product(matrix if own == 0 else matrix.mT, other[:, :, None])[:, :, 0]
                sides[link.below[own]] = sides[link.below[own]] + found
        return sides[1], sides[0]

    def _matrix(self, link: Link, sums: Tensor) -> Tensor:
        widths = (self._units.couplings[number].width for number in link.couplings)
        return sums[:, link.place].view(len(sums), *widths)

    def _factors(self, link: Link, which: int, weights: Tensor, inverse: Tensor) -> Tensor:
        return (weights if link.below[which] else inverse)[:, self._units.units[link.couplings[which]]]
