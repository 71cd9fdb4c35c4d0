"""What the linear actions on a chain of layers share.

Between two neighbouring matrices of a chain, ``V`` below and ``U`` above, lies a hidden space of width ``k`` on which a
matrix ``g`` may act: ``V -> g V`` (the bias, a column of ``V``, with it) and ``U -> U g^-1`` (the bias of ``U`` stays).
Which ``g`` leave the loss alone depends on what stands between the two: every invertible one where nothing does
(`LinearPairs`), positive diagonal ones where the activation is homogeneous (`ScalingSymmetry`), permutations whatever it
is (`PermutationSymmetry`). All of them are linear in the weights and keep the loss on all data.

An inner matrix of a chain of several pairs is the upper one of the pair below and the lower one of the pair above:
``W_l -> g_l W_l g_(l-1)^-1``. The two sides commute, so the order of the pairs does not matter.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from teleport_env.groups import Product
from teleport_env.groups.base import Element, Group
from teleport_env.instances import Batch, Instance
from teleport_env.symmetries.base import Pair, Symmetry
from teleport_env.symmetries.networks import Layers, product


def hidden_group(layers: Layers, factors: list[Group]) -> Product:
    """The product of one group a hidden layer; raises ValueError where the chain has no hidden layer."""
    if not factors:
        raise ValueError(
            f"widths {layers.widths} have no hidden layer for a group to act on: give at least three, "
            "(input, hidden, output)"
        )
    return Product(*factors)


def parts_of(g: Element, count: int) -> tuple[Tensor, ...]:
    """The factors of an element, lowest pair first; raises TypeError unless it is a tuple of ``count``."""
    if not isinstance(g, tuple) or len(g) != count:
        given = f"a tuple of {len(g)}" if isinstance(g, tuple) else f"a {type(g).__name__}"
        raise TypeError(
            f"the element must be a tuple with one tensor for each of the {count} hidden layers, got {given}"
        )
    return g


def gram_matrices(pair: Pair) -> tuple[Tensor, Tensor]:
    """``A = lower lower'`` and ``B = upper' upper``, each ``(B, k, k)``, of a pair of gradients."""
    return product(pair.lower, pair.lower.mT), product(pair.upper.mT, pair.upper)


def gradient_norm2_after(g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The squared gradient norm of one pair after the move by ``g``: ``tr(S^-1 A) + tr(S B)`` with ``S = g'g``.

    Of the pair's two matrices alone; what the pair does not touch adds a constant. In a chain this holds for one pair at
    a time, the neighbours at rest.

    Args:
        g: ``(B, k, k)``, invertible; a singular row comes back as NaN or infinite.
        lower: ``A = G_V G_V'`` ``(B, k, k)``, `gram_matrices` of the gradient before the move.
        upper: ``B = G_U' G_U`` ``(B, k, k)``.

    Returns:
        ``(B,)``, differentiable in ``g``.
    """
    inverse = torch.linalg.inv_ex(g)[0]
    return (product(inverse, inverse.mT) * lower).sum((1, 2)) + (product(g.mT, g) * upper).sum((1, 2))


class PairSymmetry(Symmetry):
    """A group that acts on every hidden space of a chain of layers, linearly in the weights.

    A subclass says how a factor multiplies a matrix.

    Args:
        layers: Layout of the chain.
        name: What a user types for ``symmetry=``.
        group: One factor a hidden layer, lowest first.
    """

    layers: Layers
    linear = True

    def __init__(self, layers: Layers, name: str, group: Product) -> None:
        self.layers = layers
        self.name = name
        self.group = group

    @abstractmethod
    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        """``part matrix`` for ``matrix`` ``(B, k, m)``."""

    @abstractmethod
    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        """``matrix part`` for ``matrix`` ``(B, p, k)``."""

    @abstractmethod
    def _transpose(self, part: Tensor) -> Tensor:
        """The element whose matrix is the transpose of this one's."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``W_l -> g_l W_l g_(l-1)^-1``; where a factor has no inverse, the matrices above it are NaN in that row."""
        parts = parts_of(g, len(self.layers.hidden))
        inverses = parts_of(self.group.inverse(g), len(parts))
        return self._multiply(parts, inverses, params)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        """``G_l -> g_l^-T G_l g_(l-1)^T``: the same action, by the inverse transpose."""
        parts = [self._transpose(part) for part in parts_of(g, len(self.layers.hidden))]
        inverses = parts_of(self.group.inverse(g), len(parts))
        return self._multiply([self._transpose(part) for part in inverses], parts, gradient)

    def _multiply(
        self, lefts: tuple[Tensor, ...] | list[Tensor], rights: tuple[Tensor, ...] | list[Tensor], vector: Tensor
    ) -> Tensor:
        weights = list(self.layers.weights(vector))
        for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            weights[index] = self._left(left, weights[index])
            weights[index + 1] = self._upper(weights[index + 1], right)
        return self.layers.flatten(weights)

    def _upper(self, matrix: Tensor, part: Tensor) -> Tensor:
        """The upper matrix of a pair times ``part`` from the right, its bias column left alone."""
        if not self.layers.bias:
            return self._right(matrix, part)
        return torch.cat([self._right(matrix[:, :, :-1], part), matrix[:, :, -1:]], dim=2)

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        weights = self.layers.weights(vector)
        upper_widths = self.layers.hidden
        return [Pair(weights[index], weights[index + 1][:, :, :width]) for index, width in enumerate(upper_widths)]
