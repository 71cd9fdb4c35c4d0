"""An action on the data and the first layer together (Zhao et al., NeurIPS 2022, Algorithm 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.groups import GL, SO, Group
from teleport_env.groups.base import Element, single
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import small_matrices_price
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.networks import FeedForward, Layers, product


class InputTransform(Symmetry):
    """``X -> g X`` and ``W_1 -> W_1 g^-1`` (its bias stays): a change of coordinates of the input space.

    Weights and data together keep the loss, for every network, activation and data set; the weights alone do not. So an
    engine applies both at once, and keeps the moved data for the following steps::

        params = symmetry.act(g, params, instance)
        instance = replace(instance, tensors={**instance.tensors, "X": symmetry.move_data(g, instance["X"], instance)})
        total = symmetry.group.compose(g, total)   # from the identity; an input at inference goes through `total` first

    `gradient_after` gives the gradient at the moved weights *on the moved data*, and a search that evaluates a candidate
    must do so on moved data too.

    Flops: the inverse ``2 m^3`` and ``W_1 g^-1`` ``2 k m^2`` for ``W_1`` ``(k, m)``. Moving ``n`` inputs takes ``2 m^2 n``
    more, which is up to the engine because only it knows how many there are.

    Args:
        model: The network, or its layout.
        name: Name by which ``symmetry=`` chooses it.
        group: ``GL(m)`` by default; ``SO(m)`` keeps the gradient's norm in the first layer and the inputs' lengths.

    Raises:
        ValueError: The group does not act on the input space.
    """

    layers: Layers
    linear = True
    exact_when = "On all data, if the inputs move along with the weights."

    def __init__(
        self, model: Layers | FeedForward, name: str = "input_transform", group: GL | SO | None = None
    ) -> None:
        self.layers = model.layers if isinstance(model, FeedForward) else model
        width = self.layers.widths[0]
        self.name = name
        chosen = GL(width) if group is None else group
        if chosen.n != width:
            raise ValueError(f"the inputs have {width} components, and {chosen.name} acts on {chosen.n}")
        self.group: Group = chosen
        self.move_flops = 2.0 * width**3 + 2.0 * self.layers.widths[1] * width**2
        self.direction_flops = 2.5 * (chosen.exp_flops + self.move_flops)  # the action and its derivatives, as measured
        self.gradient_flops = 2.0 * self.layers.widths[1] * width**2

    def work_price(self, gradient_flops: float) -> float:
        return 1.75 * small_matrices_price(self.layers.widths[0])  # for its random elements, as measured

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """``W_1 -> W_1 g^-1``; the other layers are unchanged."""
        return self._first_times(params, single(self.group.inverse(g)))

    def move_data(self, g: Element, data: Tensor, instance: Instance) -> Tensor:
        """``g X`` for inputs ``X`` ``(B, m, n)``, one column per example."""
        return product(single(g), data)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        """``G_1 -> G_1 g'``: the gradient at the moved weights on the moved data."""
        return self._first_times(gradient, single(g).mT)

    def _first_times(self, vector: Tensor, matrix: Tensor) -> Tensor:
        first, *rest = self.layers.weights(vector)
        width = self.layers.widths[0]
        moved = torch.cat([product(first[:, :, :width], matrix), first[:, :, width:]], dim=2)
        return self.layers.flatten([moved, *rest])
