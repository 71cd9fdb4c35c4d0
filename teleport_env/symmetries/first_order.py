"""The first-order action that the publication's released code uses, for its reproduction only.

With ``g = 1 + T`` it takes ``1 - T`` for ``g^-1``, and the inputs of every layer from the weights before the move. Neither
is right: ``(1 - T)(1 + T) = 1 - T^2``, and the layer below has moved. The loss changes, on the publication's regression by
39 to 98 % at one teleport, and that leak is part of the published gain. `HiddenUnits` is the action that keeps the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import small_matrices_price
from teleport_env.symmetries.hidden_units import OnData, times_pseudo_inverse
from teleport_env.symmetries.networks import FeedForward, product
from teleport_env.symmetries.pairs import parts_of


class FirstOrder(OnData):
    """``U -> U (1 - T)``, ``V -> s^-1((1 + T) s(V h)) h^+`` with ``T = g - 1`` and ``h`` from the weights before the move.

    Pairs are moved in order, so that the ``V`` of a pair is already the ``U`` of the pair below. For a single pair the error
    of the loss is ``O(|T|^2)``. For several it is so in the residual form; the published form projects ``V`` onto the old
    inputs, and where the batch does not span the layer (``n < m``) its error is ``O(|T|)``. Not an action of the group: it
    does not compose.

    The element is ``1 + T`` itself, whatever ``T``: a search over this variant takes ``T`` as its coordinates and builds
    ``1 + T``, not an exponential.

    Flops of a move, with the letters of `HiddenUnits`: two forward passes of a layer ``4 k m n``, ``g a`` ``2 k^2 n``, the
    factorization ``4 m n^2``, ``h^+`` applied ``k n^2 + 2 k m n``, ``U (1 - T)`` ``2 p k^2``.

    Args:
        network: The network, with its inputs.
        name: What a user types for ``symmetry=``.
        form: ``"published"``, as the released code has it, or ``"residual"``.
        examples: ``n``, for `move_flops`; by default the narrowest layer input.

    Raises:
        ValueError: The activation is not a bijection, the form is unknown, or there is no hidden layer.
    """

    keeps_loss = False
    exact_when = "Never: g^-1 is replaced by 1 - T, and layer inputs are taken from the weights before the move."

    def __init__(
        self,
        network: FeedForward,
        name: str = "general_linear_first_order",
        form: str = "published",
        *,
        examples: int | None = None,
    ) -> None:
        super().__init__(network, name, form, examples)
        layers, n = self.layers, self.examples
        self.move_flops = sum(
            6.0 * k * m * n + 2.0 * k * k * n + 4.0 * m * n * n + 1.0 * k * n * n + 2.0 * p * k * k
            for (k, m), (p, _) in zip(layers.shapes, layers.shapes[1:], strict=False)
        )

    def work_price(self, gradient_flops: float) -> float:
        return small_matrices_price(min(self.layers.hidden))

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        network = self.network
        old = self.layers.weights(params)
        weights = list(old)
        value = network.inputs(instance, batch)
        for index, part in enumerate(parts_of(g, len(self.layers.hidden))):
            width = self.layers.hidden[index]
            output = network.apply(weights[index], value)
            target = network.activation.inverse(product(part, network.activation(output)))
            h = network.augmented(value)
            if self.form == "residual":
                weights[index] = weights[index] + times_pseudo_inverse(target - output, h)
            else:
                weights[index] = times_pseudo_inverse(target, h)
            upper = weights[index + 1]
            # U (1 - T) = 2 U - U g
            moved = 2.0 * upper[:, :, :width] - product(upper[:, :, :width], part)
            weights[index + 1] = torch.cat([moved, upper[:, :, width:]], dim=2)
            value = network.activation(network.apply(old[index], value))
        return self.layers.flatten(weights)

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """Raises NotImplementedError: the formula rests on the loss being kept, which this variant does not."""
        raise NotImplementedError(
            f"{self.name} does not keep the loss, so the gradient after the move does not follow from the one before: "
            "differentiate |grad L(g.w)|^2 twice through the loss instead, or use 'general_linear'"
        )
