"""The gradient norm along the orbit of positive scalings, from sums of squares.

A scaling multiplies row ``i`` of layer ``l``'s matrix by ``d_l,i`` and its column ``j`` by ``1 / d_(l-1),j``, and the
gradient by the reciprocals. So with ``E_l`` the entrywise squares of a layer's gradient and ``p_l = d_l^-2``,

    |grad L(g.w)|^2 = sum_l p_l' E_l (1 / p_(l-1)),

and a search needs weighted row and column sums of the ``E_l`` and nothing else: no matrix moves until the search is over.
Those of the lowest and the highest layer are summed once. For the weights themselves, in place of their gradient, the
same holds with ``p_l = d_l^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


class SquareSums:
    """Weighted row and column sums of the squares of a chain's matrices, in arrays (`teleport_env.arrays`).

    Args:
        symmetry: The scaling action.
        vector: ``(R, P)``: parameters, or a gradient.

    Attributes:
        xp: What to compute with.
        hidden: Widths of the hidden layers.
        layers: Where each of them lies among the units of all, side by side.
        rest: ``(R,)``, the sum of the squares that no scaling moves.
    """

    def __init__(self, symmetry: ScalingSymmetry, vector: Tensor) -> None:
        xp = self.xp = arrays_of(vector.device)
        layers = symmetry.layers
        self.hidden = layers.hidden
        self.layers = symmetry.units
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
        """``count`` times a number a hidden unit, ``(count, R, K)``, all 1."""
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


def setup_flops(symmetry: ScalingSymmetry) -> float:
    """Of `SquareSums`: a square and a sum an entry."""
    return 2.0 * symmetry.layers.num_params


def move_flops(symmetry: ScalingSymmetry) -> float:
    """Of moving weights and gradient once, where the element and its inverse are known."""
    return 5.0 * symmetry.layers.num_params + 20.0 * sum(symmetry.layers.hidden) + 100.0


def sums_flops(symmetry: ScalingSymmetry) -> float:
    """Of a sweep: two products with every inner matrix, and the best factor of every unit."""
    inner = sum(rows * columns for rows, columns in symmetry.layers.shapes[1:-1])
    return 5.0 * inner + 20.0 * sum(symmetry.layers.hidden) + 100.0


def step_flops(symmetry: ScalingSymmetry) -> float:
    """Of a step of `ScalingOrbit`, with the direction and the judgement that a search adds."""
    return 0.7 * (sums_flops(symmetry) + 5.0 * sum(symmetry.layers.hidden) + 155.0)


@dataclass
class Scaled:
    """Where a scaling takes ``R`` runs, with the hidden units of all layers side by side; arrays.

    Attributes:
        factors: ``d`` ``(R, K)``.
        below: ``(R, K)``: of each unit ``|G_V,i|^2`` there, the squared norm of its row in the gradient below.
        above: ``(R, K)``: ``|G_U,i|^2``, that of its column in the gradient above.
        norm2: ``(R,)``, the whole squared gradient norm.
    """

    factors: Array
    below: Array
    above: Array
    norm2: Array


class ScalingOrbit:
    """The gradients of ``R`` runs along their orbits of scalings.

    Args:
        symmetry: The action.
        gradient: ``(R, P)``, where the runs stand.
    """

    def __init__(self, symmetry: ScalingSymmetry, gradient: Tensor) -> None:
        self._sums = SquareSums(symmetry, gradient)
        self._xp = self._sums.xp
        self._top = symmetry.units[-1]
        self.start = self._at(self._sums.ones(1)[0])

    def _at(self, factors: Array) -> Scaled:
        sums, xp = self._sums, self._xp
        inverse = factors * factors
        weights = 1.0 / inverse
        below, above = sums.ones(2)
        for index in range(len(sums.hidden)):
            sums.rows(inverse, below, index)
            sums.columns(weights, above, index)
        xp.multiply(below, weights, out=below)
        xp.multiply(above, inverse, out=above)
        norm2 = below.sum(1) + above[:, self._top].sum(1) + sums.rest
        return Scaled(factors, below, above, norm2)

    def along(self, point: Scaled, xi: Array, retract: bool) -> Scaled:
        """Further from ``point`` by ``exp(xi)``, or its retraction, ``xi`` ``(R, K)``."""
        return self._at(point.factors * (self._retract(xi) if retract else self._xp.exp(xi)))

    def _retract(self, xi: Array) -> Array:
        """As `PositiveScaling.retract` has it: ``xi + sqrt(1 + xi^2)``, for negative ``xi`` one over that of ``-xi``."""
        xp = self._xp
        size = abs(xi)
        value = size * size
        xp.add(value, 1.0, out=value)
        xp.sqrt(value, out=value)
        xp.add(value, size, out=value)
        return xp.where(xi < 0, 1.0 / value, value)
