"""The linear actions on a chain of layers: invertible matrices, permutations, and what they share with positive scalings.

Between two neighbouring matrices of a chain, ``V`` below and ``U`` above, lies a hidden space of width ``k`` on which a
matrix ``g`` may act: ``V -> g V`` (the bias, a column of ``V``, with it) and ``U -> U g^-1`` (the bias of ``U`` stays).
Which ``g`` leave the loss alone depends on what stands between the two: every invertible one where nothing does
(`LinearPairs`), positive diagonal ones where the activation is homogeneous (`ScalingSymmetry`), permutations whatever it
is (`PermutationSymmetry`). All of them are linear in the weights and keep the loss on all data.

An inner matrix of a chain of several pairs is the upper one of the pair below and the lower one of the pair above:
``W_l -> g_l W_l g_(l-1)^-1``. The two sides commute, so the order of the pairs does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from teleport_env.groups import GL, Permutations, Product
from teleport_env.groups.base import Element, Group
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import elementwise_price, small_matrices_price
from teleport_env.symmetries.base import Pair, Shortcut, Symmetry
from teleport_env.symmetries.networks import Layers, product


def hidden_group(layers: Layers, factors: list[Group]) -> Product:
    """The product of one group per hidden layer; raises ValueError where the chain has no hidden layer."""
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


class PairSymmetry(Symmetry):
    """A group that acts on every hidden space of a chain of layers, linearly in the weights.

    Args:
        layers: Layout of the chain.
        name: Name by which ``symmetry=`` chooses it.
        factor: Function that makes the group that acts on a hidden space of a given width.

    Raises:
        ValueError: The chain has no hidden layer.
    """

    layers: Layers
    widths: tuple[int, ...]
    """Widths of the hidden spaces, one per factor of the group."""
    linear = True

    def __init__(self, layers: Layers, name: str, factor: Callable[[int], Group]) -> None:
        self.layers = layers
        self.widths = layers.hidden
        self.name = name
        self.group = hidden_group(layers, [factor(width) for width in layers.hidden])

    # products of a factor with a matrix (B, k, m) or (B, p, k), and its transpose: as matrices, unless overridden
    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        return product(part, matrix)

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        return product(matrix, part)

    def _transpose(self, part: Tensor) -> Tensor:
        return part.mT

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``W_l -> g_l W_l g_(l-1)^-1``; where a factor has no inverse, the matrices above it are NaN in that row."""
        parts = parts_of(g, len(self.widths))
        inverses = parts_of(self.group.inverse(g), len(parts))
        return self._multiply(parts, inverses, params)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        """``G_l -> g_l^-T G_l g_(l-1)^T``: the same action, by the inverse transpose."""
        parts = [self._transpose(part) for part in parts_of(g, len(self.widths))]
        inverses = parts_of(self.group.inverse(g), len(parts))
        return self._multiply([self._transpose(part) for part in inverses], parts, gradient)

    def _multiply(self, lefts: Sequence[Tensor], rights: Sequence[Tensor], vector: Tensor) -> Tensor:
        weights = list(self.layers.weights(vector))
        for index, (left, right, width) in enumerate(zip(lefts, rights, self.layers.hidden, strict=True)):
            weights[index] = self._left(left, weights[index])
            upper = weights[index + 1]
            weights[index + 1] = self._right(upper[:, :, :width], right)
            if self.layers.bias:  # its column stays
                weights[index + 1] = torch.cat([weights[index + 1], upper[:, :, width:]], dim=2)
        return self.layers.flatten(weights)

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        weights = self.layers.weights(vector)
        return [Pair(weights[i], weights[i + 1][:, :, :width]) for i, width in enumerate(self.layers.hidden)]


@dataclass(frozen=True)
class LinearChain(Shortcut):
    """Invertible matrices between the layers of a chain without biases and activations; walks on the gradients.

    Attributes:
        layers: Layout of the chain.
        gradient_rank: A bound on the rank of every layer's gradient, such as the number of examples; None: no bound.
    """

    layers: Layers
    gradient_rank: int | None = None


class LinearPairs(PairSymmetry):
    """``(V, U) -> (g V, U g^-1)`` for every hidden space of a chain of linear layers (Zhao et al., 2022, eq. 6).

    Exact for all data. The group is the product of one GL(k) a hidden layer, also where there is only one.

    Flops of a move, a hidden layer of width ``k`` between matrices ``(k, m)`` and ``(p, k)``: the inverse ``2 k^3``, the
    products ``2 k^2 (m + p)``. `gradient_after` costs the same.

    Args:
        layers: Layout of the chain.
        name: Name by which ``symmetry=`` chooses it.
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
        super().__init__(layers, name, GL)
        if not layers.bias:  # nothing moves a bias's column, which a smaller chain would have no place for
            self.shortcut = LinearChain(layers, gradient_rank)
        self.move_flops = sum(2.0 * k**3 + 2.0 * k**2 * (m + p) for (k, m), (p, _) in pairwise(layers.shapes))
        self.gradient_flops = self.move_flops
        # two Gram matrices per pair: the same products without the inverse
        self.direction_flops = self.move_flops - sum(2.0 * width**3 for width in layers.hidden)

    def work_price(self, gradient_flops: float) -> float:
        return small_matrices_price(min(self.widths))

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``2 (G_U' G_U - G_V G_V')`` a pair, row by row, one after the other: ``(B, group.dim)``.

        After a move of one pair by ``g``, its squared gradient norm is ``tr(S^-1 A) + tr(S B)`` with ``S = g'g`` and the
        Gram matrices ``A = G_V G_V'`` and ``B = G_U' G_U``; this is the derivative at ``S = 1``. Neighbouring pairs share
        a matrix, but at the identity each pair's derivative leaves the others at rest.
        """
        directions = []
        for pair in self.pairs(gradient.detach(), instance):
            lower, upper = gram_matrices(pair)
            directions.append(2.0 * (upper - lower).flatten(1))
        return torch.cat(directions, dim=1)


class PermutationSymmetry(PairSymmetry):
    """``V, b -> P V, P b`` and ``U -> U P'``: hidden unit ``i`` takes place ``p[i]``.

    Exact for every activation and all data, and orthogonal: no norm changes, neither of the weights nor of the gradient
    (Zhao et al., 2022, Cor. 5.2), so a search by gradient norm finds nothing here. It is a control, and a symmetry for
    optimizers whose state does not move along. Discrete: searched by sampling.

    Args:
        layers: Layout of the network.
        name: Name by which ``symmetry=`` chooses it.
        activated: Whether the network has activations, for `work_price`.

    Raises:
        ValueError: The network has no hidden layer.
    """

    weightwise = True
    exact_when = "Always, on all data: an elementwise activation commutes with permutations."

    def __init__(self, layers: Layers, name: str = "permutation", *, activated: bool = True) -> None:
        super().__init__(layers, name, Permutations)
        self._activated = activated
        # every weight is gathered by an index; the random order of the units is part of it
        self.move_flops = 12.0 * layers.num_params + 75.0 * sum(layers.hidden)
        self.gradient_flops = 1.5 * self.move_flops  # of several candidates it goes through colder memory, as measured

    def work_price(self, gradient_flops: float) -> float:
        return elementwise_price(gradient_flops, self._activated)

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        # (P V)[p[i]] = V[i], so row j of P V is row p^-1[j] of V
        source = part.argsort(dim=1)
        return matrix.gather(1, source[:, :, None].expand_as(matrix))

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        # column i of U P is column p[i] of U
        return matrix.gather(2, part[:, None, :].expand_as(matrix))

    def _transpose(self, part: Tensor) -> Tensor:
        return part.argsort(dim=1)

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        """Empty: closed-form searches move along a Lie algebra, and this group has none."""
        return []
