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

import torch
from torch import Tensor

from teleport_env.groups.scaling import PositiveScaling
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

_ELEMENTWISE = 1 << 13  # entries of a matrix up to which a product and a sum are quicker than a matrix product


class SquareSums:
    """Weighted row and column sums of the squares of a chain's matrices.

    Args:
        symmetry: The scaling action.
        vector: ``(R, P)``: parameters, or a gradient.

    Attributes:
        hidden: Widths of the hidden layers.
        total: ``(R,)``, the sum of all squares.
        rest: ``(R,)``, that of the entries that no scaling moves.
    """

    def __init__(self, symmetry: ScalingSymmetry, vector: Tensor) -> None:
        layers = symmetry.layers
        self.hidden = layers.hidden
        matrices = layers.weights(vector)
        self._lowest = matrices[0].square().sum(2)
        top = matrices[-1].square().sum(1)
        self._highest = top[:, : self.hidden[-1]]
        self.rest = top[:, self.hidden[-1] :].sum(1)  # a bias above the last hidden layer, which nothing moves
        self._inner: list[Tensor] = []
        self._bias: list[Tensor | None] = []
        self.total = self._lowest.sum(1) + top.sum(1)
        for matrix, width in zip(matrices[1:-1], self.hidden, strict=False):
            squares = matrix.square()
            self.total = self.total + squares.flatten(1).sum(1)
            self._inner.append(squares[:, :, :width])
            self._bias.append(squares[:, :, width] if layers.bias else None)

    def rows(self, index: int, factors: list[Tensor]) -> Tensor:
        """Of the matrix below hidden layer ``index`` the row sums ``(R, k)``, its columns weighted by ``1 / p``."""
        if index == 0:
            return self._lowest
        sums = _times(self._inner[index - 1], 1.0 / factors[index - 1])
        bias = self._bias[index - 1]
        return sums if bias is None else sums + bias

    def columns(self, index: int, factors: list[Tensor]) -> Tensor:
        """Of the matrix above hidden layer ``index`` the column sums ``(R, k)``, its rows weighted by ``p``."""
        if index + 1 == len(self.hidden):
            return self._highest
        return _transposed_times(self._inner[index], factors[index + 1])


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
    return sums_flops(symmetry) + 5.0 * sum(symmetry.layers.hidden) + 155.0


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``(R, k, m)`` times ``(R, m)``, each row the same bits alone and among others in float64.

    Large ones as a product with two equal columns: a matrix-vector product takes another path where ``R`` is 1.
    """
    if matrix.shape[1] * matrix.shape[2] <= _ELEMENTWISE:
        return (matrix * vector[:, None, :]).sum(2)
    return torch.bmm(matrix, torch.stack([vector, vector], dim=2))[:, :, 0]


def _transposed_times(matrix: Tensor, vector: Tensor) -> Tensor:
    """The same of ``(R, k, m)`` transposed and ``(R, k)``."""
    if matrix.shape[1] * matrix.shape[2] <= _ELEMENTWISE:
        return (matrix * vector[:, :, None]).sum(1)
    return torch.bmm(torch.stack([vector, vector], dim=1), matrix)[:, 0]


@dataclass
class Scaled:
    """Where a scaling takes ``R`` runs, with the hidden units of all layers side by side.

    Attributes:
        factors: ``d`` ``(R, K)``.
        below: ``(R, K)``: of each unit ``|G_V,i|^2`` there, the squared norm of its row in the gradient below.
        above: ``(R, K)``: ``|G_U,i|^2``, that of its column in the gradient above.
        norm2: ``(R,)``, the whole squared gradient norm.
    """

    factors: Tensor
    below: Tensor
    above: Tensor
    norm2: Tensor

    @property
    def finite(self) -> Tensor:
        """``(R,)`` bool."""
        return torch.isfinite(self.norm2)


class ScalingOrbit:
    """The gradients of ``R`` runs along their orbits of scalings.

    Args:
        symmetry: The action.
        gradient: ``(R, P)``, where the runs stand.
    """

    def __init__(self, symmetry: ScalingSymmetry, gradient: Tensor) -> None:
        self._sums = SquareSums(symmetry, gradient)
        self._group = PositiveScaling(sum(symmetry.layers.hidden))
        self._sizes = list(symmetry.layers.hidden)
        self.start = self._at(torch.ones(len(gradient), self._group.n, dtype=gradient.dtype, device=gradient.device))

    def _at(self, factors: Tensor) -> Scaled:
        weights = 1.0 / (factors * factors)
        parts = list(weights.split(self._sizes, dim=1))
        layers = range(len(self._sizes))
        below = weights * torch.cat([self._sums.rows(index, parts) for index in layers], dim=1)
        above = torch.cat([self._sums.columns(index, parts) for index in layers], dim=1) / weights
        norm2 = below.sum(1) + above[:, -self._sizes[-1] :].sum(1) + self._sums.rest
        return Scaled(factors, below, above, norm2)

    def along(self, point: Scaled, xi: Tensor, retract: bool) -> Scaled:
        """Further from ``point`` by ``exp(xi)``, or its retraction, ``xi`` ``(R, K)``."""
        return self._at(point.factors * (self._group.retract(xi) if retract else self._group.exp(xi)))

    def element(self, point: Scaled) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The group element that leads to ``point``, and its inverse."""
        inverse = self._group.inverse(point.factors)
        return point.factors.split(self._sizes, dim=1), inverse.split(self._sizes, dim=1)
