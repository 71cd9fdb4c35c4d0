"""The general linear group between the layers of a linear network, or the factors of a factorization."""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.groups import GL
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import small_matrices_price
from teleport_env.symmetries.networks import Layers, product
from teleport_env.symmetries.pairs import PairSymmetry, gram_matrices, hidden_group
from teleport_env.symmetries.shortcuts import LinearChain


class LinearPairs(PairSymmetry):
    """``(V, U) -> (g V, U g^-1)`` for every hidden space of a chain of linear layers (Zhao et al., 2022, eq. 7).

    Exact for all data. The group is the product of one GL(k) a hidden layer, also where there is only one.

    Flops of a move, a hidden layer of width ``k`` between matrices ``(k, m)`` and ``(p, k)``: the inverse ``2 k^3``, the
    products ``2 k^2 (m + p)``. `gradient_after` costs the same.

    Args:
        layers: Layout of the chain.
        name: What a user types for ``symmetry=``.
        gradient_rank: A bound on the rank of every layer's gradient, such as the number of examples; searches then work in
            what the gradients span (`LinearChain`). None: no bound.

    Raises:
        ValueError: The chain has no hidden layer, or the rank is not positive.
    """

    exact_when = "Always, on all data: nothing stands between the two matrices of a pair."

    def __init__(self, layers: Layers, name: str = "general_linear", *, gradient_rank: int | None = None) -> None:
        if gradient_rank is not None and gradient_rank < 1:
            raise ValueError(f"gradient_rank must be at least 1, or None for no bound, got {gradient_rank}")
        self.gradient_rank = self.examples = gradient_rank
        super().__init__(layers, name, hidden_group(layers, [GL(width) for width in layers.hidden]))
        if not layers.bias:  # nothing moves a bias's column, which a smaller chain would have no place for
            self.shortcut = LinearChain(layers, gradient_rank)
        self.move_flops = sum(
            2.0 * width**3 + 2.0 * width**2 * (layers.shapes[index][1] + layers.shapes[index + 1][0])
            for index, width in enumerate(layers.hidden)
        )
        self.gradient_flops = self.move_flops
        # two Gram matrices a pair: the same products without the inverse
        self.direction_flops = self.move_flops - sum(2.0 * width**3 for width in layers.hidden)

    def work_price(self, gradient_flops: float) -> float:
        return small_matrices_price(min(self.layers.hidden))

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        return product(part, matrix)

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        return product(matrix, part)

    def _transpose(self, part: Tensor) -> Tensor:
        return part.mT

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``2 (G_U' G_U - G_V G_V')`` a pair, row by row, one after the other: ``(B, group.dim)``.

        The derivative of ``tr(S^-1 A) + tr(S B)`` at ``S = 1`` (`gradient_norm2_after`). Neighbouring pairs share a
        matrix, but at the identity each pair's derivative leaves the others at rest.
        """
        directions = []
        for pair in self.pairs(gradient.detach(), instance):
            lower, upper = gram_matrices(pair)
            directions.append(2.0 * (upper - lower).flatten(1))
        return torch.cat(directions, dim=1)
