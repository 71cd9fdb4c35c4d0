"""Positive scalings of the hidden units of a network with a homogeneous activation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays, arrays_of
from teleport_env.groups import PositiveScaling
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import elementwise_price
from teleport_env.symmetries.activations import Activation, Identity, homogeneous_names
from teleport_env.symmetries.base import Shortcut
from teleport_env.symmetries.networks import Layers
from teleport_env.symmetries.pairs import PairSymmetry, parts_of

_FEW = 1 << 13  # parameters up to which a factor for each of them is quicker than two passes


@dataclass(frozen=True)
class Scalings(Shortcut):
    """One positive factor per hidden unit: its row is multiplied by it, its column divided, its gradient the other way.

    Searches walk on the factors alone, and move the matrices once (`both`).

    Attributes:
        layers: Layout of the chain.
    """

    layers: Layers

    @cached_property
    def units(self) -> list[slice]:
        """Where the units of every hidden layer lie among those of all layers, side by side."""
        return [slice(*ends) for ends in pairwise(accumulate(self.layers.hidden, initial=0))]

    def both(self, element: Array, inverse: Array, params: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters and their gradient moved at once, without a graph.

        Args:
            element: The factors of all units side by side ``(R, K)``, an array of `teleport_env.arrays`.
            inverse: Their reciprocals.
            params, gradient: ``(R, P)``.
        """
        xp = arrays_of(params.device)
        # both round in their own way: to choose by the number of runs would make a run depend on its company
        if params.shape[1] > _FEW:
            return self.passes(xp, element, inverse, params), self.passes(xp, inverse, element, gradient)
        # Few numbers: calls are what costs. One factor per parameter, by which the gradient is divided.
        factors = torch.empty_like(params, memory_format=torch.contiguous_format)
        for index, target in enumerate(self.layers.views(xp.view(factors))):
            last = index == len(self.units)
            if index == 0:
                target[...] = element[:, self.units[0], None]
                continue
            columns = inverse[:, None, self.units[index - 1]]
            if self.layers.bias:
                target[:, :, columns.shape[2] :] = 1.0 if last else element[:, self.units[index], None]
                target = target[:, :, : columns.shape[2]]
            if last:
                target[...] = columns
            else:
                xp.multiply(element[:, self.units[index], None], columns, out=target)
        return params * factors, torch.div(gradient, factors, out=factors)

    def passes(self, xp: Arrays, rows: Array, columns: Array, vector: Tensor) -> Tensor:
        """One pass per matrix, and a second one in place, straight into the result."""
        moved = torch.empty_like(vector, memory_format=torch.contiguous_format)
        sources, targets = (self.layers.views(xp.view(v)) for v in (vector, moved))
        # views are cheaper of arrays, products of large matrices of tensors
        for index, (source, target) in enumerate(zip(sources, targets, strict=True)):
            last = index == len(self.units)
            if not last:
                torch.mul(xp.tensor(source), xp.tensor(rows[:, self.units[index], None]), out=xp.tensor(target))
            if index == 0:
                continue
            below = columns[:, None, self.units[index - 1]]
            width = below.shape[2]
            inner = xp.tensor(target[:, :, :width])
            torch.mul(xp.tensor(source[:, :, :width]) if last else inner, xp.tensor(below), out=inner)
            if last and self.layers.bias:
                target[:, :, width:] = source[:, :, width:]
        return moved


class ScalingSymmetry(PairSymmetry):
    """``V, b -> D V, D b`` and ``U -> U D^-1`` with ``D`` diagonal and positive, one factor per hidden unit.

    Exact for all data because ``s(d z) = d s(z)`` for ``d > 0``. No inverse of a matrix: its arithmetic is linear in the
    number of parameters.

    Args:
        layers: Layout of the network.
        activation: Activation of the hidden layers.
        name: Name by which ``symmetry=`` chooses it.

    Raises:
        ValueError: The activation is not homogeneous, or the network has no hidden layer.
    """

    weightwise = True
    exact_when = "Always, on all data: a homogeneous activation commutes with positive factors."

    def __init__(
        self,
        layers: Layers,
        activation: Activation = Identity(),  # noqa: B008 (immutable)
        name: str = "scaling",
    ) -> None:
        if not activation.homogeneous:
            raise ValueError(
                f"scaling needs a homogeneous activation (one of {', '.join(map(repr, homogeneous_names()))}), got "
                f"{activation.name!r}: use 'general_linear' or 'permutation' with it"
            )
        super().__init__(layers, name, PositiveScaling)
        self.shortcut: Scalings = Scalings(layers)
        # No matrix products, but a few operations on every weight and unit (a random element is part of its move).
        self.move_flops = self.gradient_flops = 9.0 * layers.num_params + 54.0 * sum(layers.hidden) + 160.0
        self._activated = activation != Identity()
        self.direction_flops = 4.0 * layers.num_params  # the sums of squares on both sides of every hidden unit

    def work_price(self, gradient_flops: float) -> float:
        return elementwise_price(gradient_flops, self._activated)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self._scale(*self._factors(g), params)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        factors, reciprocals = self._factors(g)
        return self._scale(reciprocals, factors, gradient)

    def _factors(self, g: Element) -> tuple[Tensor, Tensor]:
        """The factors of all units side by side ``(B, K)`` and their reciprocals, NaN in rows without an inverse."""
        together = torch.cat(parts_of(g, len(self.widths)), dim=1)
        return together, PositiveScaling(sum(self.widths)).inverse(together)

    def _scale(self, rows: Tensor, columns: Tensor, vector: Tensor) -> Tensor:
        """Every unit's row times ``rows`` and its column times ``columns``, ``(B, K)``."""
        if torch.is_grad_enabled() and (vector.requires_grad or rows.requires_grad):
            widths = list(self.layers.hidden)
            return self._multiply(rows.split(widths, dim=1), columns.split(widths, dim=1), vector)
        xp = arrays_of(vector.device)
        return self.shortcut.passes(xp, xp.view(rows.detach()), xp.view(columns.detach()), vector.detach())

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        return part[:, :, None] * matrix

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        return matrix * part[:, None, :]

    def _transpose(self, part: Tensor) -> Tensor:
        return part

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``2 (|G_U,i|^2 - |G_V,i|^2)`` per hidden unit ``i``, ``(B, group.dim)``.

        The derivative at ``xi = log d = 0`` of ``sum_i |G_V,i|^2 / d_i^2 + d_i^2 |G_U,i|^2``.
        """
        pairs = self.pairs(gradient.detach(), instance)
        return torch.cat([2.0 * (pair.upper.square().sum(1) - pair.lower.square().sum(2)) for pair in pairs], dim=1)
