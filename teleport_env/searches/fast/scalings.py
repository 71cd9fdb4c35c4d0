"""The gradient norm along the orbit of positive scalings, from sums of squares.

A scaling multiplies row ``i`` of layer ``l``'s matrix by ``d_l,i`` and its column ``j`` by ``1 / d_(l-1),j``, and the
gradient by the reciprocals. So with ``E_l`` the entrywise squares of a layer's gradient and ``p_l = d_l^-2``,

    |grad L(g.w)|^2 = sum_l p_l' E_l (1 / p_(l-1)),

and a search needs weighted row and column sums of the ``E_l`` and nothing else: no matrix moves until the search is over.
Those of the lowest and the highest layer are summed once. For the weights themselves, in place of their gradient, the
same holds with ``p_l = d_l^2``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.objectives import ordered
from teleport_env.searches.pair_algebra import Sweeps, scaling_logs
from teleport_env.searches.trails import FastTrail, Place, vector_length
from teleport_env.symmetries.positive_scaling import Scalings


class SquareSums:
    """Weighted row and column sums of the squares of a chain's matrices, in arrays (`teleport_env.arrays`).

    ``vector`` ``(R, P)`` are parameters or a gradient; `rest` ``(R,)`` is the sum of the squares that no scaling moves.
    """

    def __init__(self, scalings: Scalings, vector: Tensor) -> None:
        xp = self.xp = arrays_of(vector.device)
        layers = scalings.layers
        self.hidden = layers.hidden
        self.layers = scalings.units
        matrices = layers.views(xp.view(vector.detach()))
        top, width = matrices[-1], self.hidden[-1]
        self._lowest = xp.row_squares(matrices[0])
        self._highest = xp.column_squares(top[:, :, :width])
        self._squares: list[Array] = []
        self._inner: list[Array] = []
        self._bias: list[Array | None] = []
        for matrix, columns in zip(matrices[1:-1], self.hidden, strict=False):
            squares = matrix * matrix
            self._squares.append(squares.reshape(len(squares), -1))
            self._inner.append(squares[:, :, :columns])
            self._bias.append(squares[:, :, columns] if layers.bias else None)
        # a bias above the last hidden layer, which nothing moves
        self.rest = xp.column_squares(top[:, :, width:])[:, 0] if layers.bias else 0.0 * self._lowest[:, 0]

    def ones(self, count: int) -> Array:
        """``count`` times a number per hidden unit, ``(count, R, K)``, all 1."""
        return self.xp.full(self._lowest, count, len(self._lowest), self.layers[-1].stop, value=1.0)

    def total(self) -> Array:
        """``(R,)``, the sum of all squares."""
        total = self._lowest.sum(1) + self._highest.sum(1) + self.rest
        for squares in self._squares:
            total = total + squares.sum(1)
        return total

    def rows(self, inverse: Array, out: Array, index: int) -> None:
        """Of the matrix below hidden layer ``index`` the row sums, its columns weighted by ``inverse``, ``1 / p``."""
        here = self.layers[index]
        if index == 0:
            out[:, here] = self._lowest
            return
        self.xp.times(self._inner[index - 1], inverse[:, self.layers[index - 1]], out[:, here])
        bias = self._bias[index - 1]
        if bias is not None:
            out[:, here] += bias

    def columns(self, weights: Array, out: Array, index: int) -> None:
        """Of the matrix above hidden layer ``index`` the column sums, its rows weighted by ``weights``, ``p``."""
        here = self.layers[index]
        if index + 1 == len(self.hidden):
            out[:, here] = self._highest
            return
        self.xp.transposed_times(self._inner[index], weights[:, self.layers[index + 1]], out[:, here])


# Elementwise operations for one run; the constants were fitted to the times that the benchmark measured with 1024 runs.


def setup_flops(scalings: Scalings) -> float:
    """Of `SquareSums`: a square and a sum per entry."""
    return 2.0 * scalings.layers.num_params


def move_flops(scalings: Scalings) -> float:
    """Of moving weights and gradient once, where the element and its inverse are known."""
    return 5.0 * scalings.layers.num_params + 20.0 * sum(scalings.layers.hidden) + 100.0


def sums_flops(scalings: Scalings) -> float:
    """Of a sweep: two products with every inner matrix, and the best factor of every unit."""
    inner = sum(rows * columns for rows, columns in scalings.layers.shapes[1:-1])
    return 5.0 * inner + 20.0 * sum(scalings.layers.hidden) + 100.0


def step_flops(scalings: Scalings) -> float:
    """Of a step of `ScalingTrail`, with the direction and the judgement that a search adds."""
    return 0.7 * (sums_flops(scalings) + 5.0 * sum(scalings.layers.hidden) + 155.0)


@dataclass
class Scaled:
    """Points on the orbits of ``R`` runs, in arrays ``(R, K)`` of all hidden units side by side.

    Attributes:
        factors: ``d``.
        below: Squared gradient norm of the matrix row below each unit.
        above: The same of the column above it.
    """

    factors: Array
    below: Array
    above: Array


class ScalingTrail(FastTrail[Scalings]):
    """Vectors walk, and the matrices follow once at the end."""

    @staticmethod
    def price(shortcut: Scalings, steps: int, retract: bool, relative: bool) -> Counts:
        return Counts(flops=setup_flops(shortcut) + (steps + 1) * step_flops(shortcut) + move_flops(shortcut))

    def begin(self) -> Place:
        self._step = Counts(flops=step_flops(self._shortcut))
        self._start.evaluator.charge(Counts(flops=setup_flops(self._shortcut)) + self._step)
        self._sums = SquareSums(self._shortcut, self._start.gradient)
        place = self._at(self._sums.ones(1)[0])
        place.finite = place.finite & (abs(self._loss + self._xp.view(self._start.params.sum(1))) < math.inf)
        return place

    def _at(self, factors: Array) -> Place:
        sums, xp = self._sums, self._xp
        inverse = factors * factors
        weights = 1.0 / inverse
        below, above = sums.ones(2)
        for index in range(len(sums.hidden)):
            sums.rows(inverse, below, index)
            sums.columns(weights, above, index)
        xp.multiply(below, weights, out=below)
        xp.multiply(above, inverse, out=above)
        norm2 = below.sum(1) + above[:, sums.layers[-1]].sum(1) + sums.rest
        return self._place(Scaled(factors, below, above), norm2)

    def direction(self, place: Place, derivative: str, relative: bool) -> Array:
        below, above = place.state.below, place.state.above
        if relative:
            return scaling_logs(self._xp, "relative", below, above, 0.5)
        return 2.0 * (above - below)

    def length(self, direction: Array) -> Array:
        return vector_length(self._xp, direction)

    def along(self, place: Place, direction: Array, factor: Array, retract: bool) -> Place:
        self._start.evaluator.charge(self._step)
        xi = direction * factor[:, None]
        # what is not finite stays so, and is found in the norm
        return self._at(place.state.factors * (self._retract(xi) if retract else self._xp.exp(xi)))

    def _retract(self, xi: Array) -> Array:
        """As `PositiveScaling.retract` has it: ``xi + sqrt(1 + xi^2)``, for negative ``xi`` one over that of ``-xi``."""
        xp = self._xp
        size = abs(xi)
        value = size * size
        xp.add(value, 1.0, out=value)
        xp.sqrt(value, out=value)
        xp.add(value, size, out=value)
        return xp.where(xi < 0, 1.0 / value, value)

    def end(self, place: Place) -> Candidate:
        start, factors = self._start, place.state.factors
        start.evaluator.charge(Counts(flops=move_flops(self._shortcut)))
        params, gradient = self._shortcut.both(factors, 1.0 / factors, start.params, start.gradient)
        element = self._xp.tensor(factors).split(list(self._sums.hidden), dim=1)
        return Candidate(params, self._xp.tensor(place.loss), gradient, element=element)


class ScalingForm:
    """Every unit's best factor from sums of squares, in sweeps over the layers, then one move."""

    moves_weights = True  # it serves objectives on the weights too

    def __init__(self, scalings: Scalings, sweeps: Sweeps) -> None:
        self._scalings, self._sweeps = scalings, sweeps

    def price(self) -> Counts:
        scalings = self._scalings
        count = self._sweeps.count_of(len(scalings.layers.hidden))
        return Counts(flops=setup_flops(scalings) + count * sums_flops(scalings) + move_flops(scalings))

    def propose(self, start: Start) -> Candidate:
        start.evaluator.charge(self.price())
        on_weights = self._sweeps.on_weights
        sums = SquareSums(self._scalings, start.params if on_weights else start.gradient)
        xp, layers = sums.xp, sums.layers
        # squares below a unit are multiplied by `weights`, those above by `inverse`
        logs, weights, inverse, below, above = sums.ones(5)
        for _ in range(self._sweeps.count_of(len(layers))):
            for index, here in enumerate(layers):
                # without the pair's own factors: the coefficients where this pair has not moved
                sums.rows(inverse, below, index)
                sums.columns(weights, above, index)
                a, b = (above, below) if on_weights else (below, above)
                found = scaling_logs(xp, self._sweeps.objective, a[:, here], b[:, here], self._sweeps.trust_radius)
                logs[:, here] = found
                weights[:, here] = xp.exp(found if on_weights else -found)
                inverse[:, here] = 1.0 / weights[:, here]
        # the squares as the last sweep leaves them
        top = layers[-1]
        total = (below * weights).sum(1) + (above[:, top] * inverse[:, top]).sum(1) + sums.rest
        xp.multiply(logs, 0.5, out=logs)
        element = xp.exp(logs)
        params, gradient = self._scalings.both(element, xp.exp(-logs), start.params, start.gradient)
        sign = self._sweeps.sign
        return Candidate(
            params,
            start.loss,
            gradient,
            score=ordered(sign * xp.tensor(total)),
            start_score=ordered(sign * xp.tensor(sums.total())),
            element=xp.tensor(element).split(list(sums.hidden), dim=1),
        )
