"""Positive scalings of the hidden units of a network with a homogeneous activation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.groups import PositiveScaling
from teleport_env.groups.base import Element
from teleport_env.ledger import elementwise_price
from teleport_env.symmetries.activations import Activation, Identity, homogeneous_names
from teleport_env.symmetries.networks import Layers
from teleport_env.symmetries.pairs import PairSymmetry, hidden_group, parts_of

if TYPE_CHECKING:
    from teleport_env.problems.base import Batch, Instance


_SMALL = 1 << 15  # numbers up to which a factor for each of them is quicker than two passes


class ScalingSymmetry(PairSymmetry):
    """``V, b -> D V, D b`` and ``U -> U D^-1`` with ``D`` diagonal and positive, one factor a hidden unit.

    Exact for all data because ``s(d z) = d s(z)`` for ``d > 0``. No inverse of a matrix: its arithmetic is linear in the
    number of parameters.

    Args:
        layers: Layout of the network.
        activation: Of its hidden layers.
        name: What a user types for ``symmetry=``.
        unchecked: Accept any activation, to show that the action then does not keep the loss.

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
        *,
        unchecked: bool = False,
    ) -> None:
        if not (activation.homogeneous or unchecked):
            raise ValueError(
                f"scaling needs a homogeneous activation (one of {', '.join(map(repr, homogeneous_names()))}), got "
                f"{activation.name!r}: use 'general_linear' or 'permutation' with it"
            )
        super().__init__(layers, name, hidden_group(layers, [PositiveScaling(width) for width in layers.hidden]))
        # No matrix products, but a few operations on every weight and unit (a random element is part of its move).
        self.move_flops = self.gradient_flops = 8.0 * layers.num_params + 50.0 * sum(layers.hidden) + 150.0
        self.direction_flops = 4.0 * layers.num_params  # the sums of squares on both sides of every hidden unit

    def work_price(self, gradient_flops: float) -> float:
        return elementwise_price(gradient_flops)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        parts = parts_of(g, len(self.layers.hidden))
        return self._scale(parts, self._reciprocals(parts), params)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        parts = parts_of(g, len(self.layers.hidden))
        return self._scale(self._reciprocals(parts), parts, gradient)

    def _reciprocals(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """All layers' at once; rows without an inverse are NaN."""
        together = PositiveScaling(sum(self.layers.hidden)).inverse(torch.cat(parts, dim=1))
        return together.split(list(self.layers.hidden), dim=1)

    @cached_property
    def units(self) -> list[slice]:
        """Where the units of every hidden layer lie among those of all layers, side by side."""
        ends = [0]
        for width in self.layers.hidden:
            ends.append(ends[-1] + width)
        return [slice(*ends[index : index + 2]) for index in range(len(self.layers.hidden))]

    def scale_both(self, element: Array, inverse: Array, params: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """`act` and `gradient_after` at once, without a graph.

        Args:
            element: The factors of all units side by side ``(R, K)``, an array of `teleport_env.arrays`.
            inverse: Their reciprocals.
            params, gradient: ``(R, P)``.
        """
        x = arrays_of(params.device)
        if params.numel() > _SMALL:
            parts, reciprocals = ([x.tensor(a)[:, units] for units in self.units] for a in (element, inverse))
            return self._scale(parts, reciprocals, params), self._scale(reciprocals, parts, gradient)
        # Few numbers: calls are what costs. One factor a parameter, by which the gradient is divided.
        weights, slopes = x.view(params), x.view(gradient)
        factors = x.empty(weights, *weights.shape, dtype=params.dtype)
        for index, target in enumerate(self.layers.views(factors)):
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
                x.multiply(element[:, self.units[index], None], columns, target)
        moved = weights * factors
        x.divide(slopes, factors, factors)
        return x.tensor(moved), x.tensor(factors)

    def _scale(self, rows: Sequence[Tensor], columns: Sequence[Tensor], vector: Tensor) -> Tensor:
        """Row ``i`` of layer ``l`` times ``rows[l][i]``, its column ``j`` times ``columns[l - 1][j]``."""
        if torch.is_grad_enabled() and (vector.requires_grad or any(part.requires_grad for part in rows)):
            return self._multiply(list(rows), list(columns), vector)
        # one pass a matrix, and a second one in place, straight into the result
        moved = torch.empty_like(vector, memory_format=torch.contiguous_format)
        targets = self.layers.weights(moved)
        for index, (source, target) in enumerate(zip(self.layers.weights(vector), targets, strict=True)):
            if index < len(rows):
                torch.mul(source, rows[index][:, :, None], out=target)
                if index > 0:
                    target[:, :, : columns[index - 1].shape[1]].mul_(columns[index - 1][:, None, :])
                continue
            width = columns[-1].shape[1]
            torch.mul(source[:, :, :width], columns[-1][:, None, :], out=target[:, :, :width])
            if self.layers.bias:
                target[:, :, width:] = source[:, :, width:]
        return moved

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        return part[:, :, None] * matrix

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        return matrix * part[:, None, :]

    def _transpose(self, part: Tensor) -> Tensor:
        return part

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``2 (|G_U,i|^2 - |G_V,i|^2)`` a hidden unit ``i``, ``(B, group.dim)``.

        The derivative at ``xi = log d = 0`` of ``sum_i |G_V,i|^2 / d_i^2 + d_i^2 |G_U,i|^2``.
        """
        pairs = self.pairs(gradient.detach(), instance)
        return torch.cat([2.0 * (pair.upper.square().sum(1) - pair.lower.square().sum(2)) for pair in pairs], dim=1)
