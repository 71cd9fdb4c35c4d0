"""What the losses of feed-forward networks have in common: forward pass, backpropagation, price.

Gradients are written out as backpropagation, which is quicker than autograd, most of all for few runs. The runs are never
a dimension of a matrix product, so that a row's bits do not depend on its neighbours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Defaults, Problem
from teleport_env.problems.compiled import compiled, packed
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.hidden_units import FirstOrder, HiddenUnits, times_pseudo_inverse
from teleport_env.symmetries.networks import FeedForward, Inputs, Layers, product, put_product
from teleport_env.symmetries.pairs import PairSymmetry, PermutationSymmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

CLOSED_FORM_MENU: tuple[dict[str, Any], ...] = (
    {"search": "closed_form", "objective": "balance_gradient"},
    {"search": "closed_form", "objective": "balance_weights"},
    {"search": "normalized_ascent", "steps": 3},
)
"""Searches offered by default where the action is linear and its gradient norm a function of two Gram matrices."""

ASCENT_MENU: tuple[dict[str, Any], ...] = (
    {"search": "normalized_ascent", "steps": 3, "objective": "balance_gradient"},
    {"search": "normalized_ascent", "steps": 3},
)
"""Searches offered by default where the action is not linear: lower, or raise, the gradient norm."""


class NetworkProblem(Problem):
    """A loss of the outputs of a `FeedForward` network.

    A subclass says what the loss of the outputs is, how many examples there are, and draws the instances.

    Args:
        network: The network, with the function that finds its inputs in an instance.
        examples: Number of examples that a gradient sees; None: as many as an action built from them is exact on.
    """

    def __init__(self, network: FeedForward, examples: int | None = None) -> None:
        self.network = network
        self._examples = examples

    @property
    def layers(self) -> Layers:
        """Layout of the parameters."""
        return self.network.layers

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers that go into every layer, and those that come out of the last."""
        return self.layers.widths

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return self.layers.hidden

    @property
    def bias(self) -> bool:
        """Whether the layers have one."""
        return self.layers.bias

    @property
    def activation(self) -> str:
        """Name of the activation of the hidden layers."""
        return self.network.activation.name

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """What the activation allows: general linear for bijections, scaling for homogeneous functions, permutation."""
        offered: dict[str, Symmetry] = {}
        if self.network.activation.bijective:
            n = self._examples
            offered["general_linear"] = HiddenUnits(self.network, examples=n)
            offered["general_linear_published"] = HiddenUnits(
                self.network, name="general_linear_published", form="published", examples=n
            )
            offered["general_linear_first_order"] = FirstOrder(self.network, examples=n)
        if self.network.activation.homogeneous:
            offered["scaling"] = ScalingSymmetry(self.layers, self.network.activation)
        offered["permutation"] = PermutationSymmetry(self.layers)
        return offered

    @property
    def published_search(self) -> dict[str, Any]:
        """The publication's ascent, with this problem's rate."""
        return {"search": "gradient_ascent"}

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        action = self.symmetries[symmetry]
        if not action.group.continuous:
            return super().searches_for(symmetry, split)
        if not action.keeps_loss:  # the released code moves by 1 + T
            return ({**self.published_search, "retract": True},)
        if isinstance(action, PairSymmetry):
            return CLOSED_FORM_MENU
        return (self.published_search,) if split == "paper" else ASCENT_MENU

    def _learning_defaults(self, learning_rate: float, **settings: Any) -> Defaults:
        """Defaults for splits on which schedules are learned: scaling where there is one, because it is exact for all data
        and its searches are closed forms; else the general linear action."""
        if self.network.activation.homogeneous:
            return Defaults(learning_rate=learning_rate, symmetry="scaling", searches=CLOSED_FORM_MENU, **settings)
        return Defaults(learning_rate=learning_rate, symmetry="general_linear", searches=ASCENT_MENU, **settings)

    @abstractmethod
    def output_loss(self, outputs: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """The loss ``(B,)`` of the network's outputs ``(B, widths[-1], n)``, differentiable."""

    @abstractmethod
    def output_loss_and_gradient(
        self, outputs: Tensor, instance: Instance, batch: Batch = None
    ) -> tuple[Tensor, Tensor]:
        """The same, with its gradient with respect to the outputs ``(B, widths[-1], n)``."""

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """The loss ``(B,)`` at ``params`` ``(B, P)``, by a forward pass."""
        losses = []
        for few, own, examples in self._few(params, instance, batch):
            outputs = self.network.forward(few, self.network.inputs(own, examples))
            losses.append(self.output_loss(outputs, own, examples))
        return _joined(losses)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        """Loss ``(B,)`` and gradient ``(B, P)`` by backpropagation."""
        losses, gradients = [], []
        with torch.no_grad():
            for few, own, examples in self._few(params, instance, batch):
                values, outputs = self.network.layer_values(few, self.network.inputs(own, examples))
                loss, delta = self.output_loss_and_gradient(outputs[-1], own, examples)
                losses.append(loss)
                gradients.append(self.backward(few, values, outputs, delta))
            return _joined(losses), _joined(gradients)

    def _few(self, params: Tensor, instance: Instance, batch: Batch) -> Iterator[tuple[Tensor, Instance, Batch]]:
        """Parameters, instances and mini-batches of as many runs at a time as keep the values of a layer small.

        On the CPU values of many runs leave the cache, and every layer takes memory for them from the system anew.
        """
        examples = self.num_examples(instance) if batch is None else batch.shape[1]
        runs = max(1, _LAYER_ELEMENTS // (max(self.widths[1:]) * examples))
        if runs >= len(params) or params.device.type != "cpu":
            yield params, instance, batch
            return
        for first in range(0, len(params), runs):
            rows = slice(first, first + runs)
            yield params[rows], instance.part(rows), None if batch is None else batch[rows]

    def layer_inputs(self, params: Tensor, instance: Instance, batch: Batch = None) -> list[Tensor | None]:
        """Without the row of ones that a bias multiplies."""
        return [*self.network.layer_values(params, self.network.inputs(instance, batch))[0]]

    def backward(self, params: Tensor, values: list[Tensor], outputs: list[Tensor], delta: Tensor) -> Tensor:
        """The gradient ``(B, P)`` from the gradient ``delta`` ``(B, widths[-1], n)`` of the outputs.

        ``values`` and ``outputs`` are those of `FeedForward.layer_values`.
        """
        weights = self.layers.weights(params)
        gradient = params.new_empty(params.shape)
        for index, part in reversed(list(enumerate(self.layers.weights(gradient)))):
            if self.layers.bias:
                torch.sum(delta, dim=2, out=part[:, :, -1])
                part = part[:, :, :-1]
            put_product(part, delta, values[index].transpose(1, 2))
            if index > 0:
                weight = weights[index][:, :, :-1] if self.layers.bias else weights[index]
                slope = self.network.activation.derivative(outputs[index - 1])
                delta = product(weight.transpose(1, 2), delta) * slope
        return gradient

    def packed_for(self, owner: type[Any], inputs: Inputs) -> bytes | None:
        """The network as kernels read it; None where they would not compute what this problem's methods do.

        Args:
            owner: The class whose loss of the outputs a kernel computes. No part of it may be replaced.
            inputs: Function that finds the data for a kernel in an instance.
        """
        if not _PARTS.isdisjoint(self.__dict__) or self.network.inputs is not inputs:
            return None
        if any(getattr(type(self), part) is not getattr(owner, part) for part in _PARTS):
            return None
        return self._packed

    @cached_property
    def _packed(self) -> bytes | None:
        if type(self.network) is not FeedForward:
            return None
        return packed(self.layers, self.network.activation, self.output_curvature or 1.0)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """A multiplication and an addition a weight and example, for the forward pass, for the gradient of the weights, and
        for that of the layer inputs, which the lowest layer does not need."""
        examples = self.num_examples(instance) if batch_size is None else batch_size
        out, into = self.layers.shapes[0]
        return self.network.gradient_flops(examples) - 2.0 * examples * out * into


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


_LAYER_ELEMENTS = 1 << 19
"""Bounds the values of one layer, over runs and examples."""

_PARTS = frozenset({"output_loss", "output_loss_and_gradient", "backward"})
"""Methods that a kernel of the whole takes the place of."""


_KERNEL = compiled("network", lambda problem, instance, batch: problem.network_arguments(instance, batch))


class SquaredErrorProblem(NetworkProblem):
    """``L = 0.5 |f(X) - Y|^2``, the sum over outputs and examples; an instance holds its own X and Y.

    Instance tensors: ``inputs`` ``(B, widths[0], n)`` and ``targets`` ``(B, widths[-1], n)``.
    """

    loss = _KERNEL(NetworkProblem.loss)
    loss_and_gradient = _KERNEL(NetworkProblem.loss_and_gradient)

    def network_arguments(self, instance: Instance, batch: Batch = None) -> tuple[Any, ...] | None:
        """What the kernel of networks needs; None where it would not compute what this problem's methods do."""
        own = self.packed_for(SquaredErrorProblem, own_inputs)
        return None if own is None else (own, instance["inputs"], instance["targets"])

    @property
    def output_curvature(self) -> float:
        """Of half a square."""
        return 1.0

    def output_loss(self, outputs: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return 0.5 * (outputs - instance["targets"]).square().flatten(1).sum(dim=1)

    def output_loss_and_gradient(
        self, outputs: Tensor, instance: Instance, batch: Batch = None
    ) -> tuple[Tensor, Tensor]:
        residual = outputs - instance["targets"]
        return 0.5 * residual.square().flatten(1).sum(dim=1), residual

    def num_examples(self, instance: Instance) -> int:
        return instance["inputs"].shape[2]

    def residuals(self, params: Tensor, instance: Instance) -> Tensor:
        """The errors of all outputs on all examples."""
        outputs = self.network.forward(params, self.network.inputs(instance, None))
        return (outputs - instance["targets"]).flatten(1)

    def jacobian_price(self, instance: Instance) -> float:
        """One pass back for each output, as an example's error is no other example's."""
        return float(self.layers.widths[-1])

    @property
    def blocks(self) -> int:
        """The top layer, in which the outputs are linear."""
        return 1

    def block_minimum(self, block: int, params: Tensor, instance: Instance) -> Tensor:
        """The top layer that fits the targets best, and of several the smallest (Moore and Penrose)."""
        values, _ = self.network.layer_values(params, self.network.inputs(instance, None))
        weights = self.layers.weights(params)
        top = times_pseudo_inverse(instance["targets"], self.network.augmented(values[-1]))
        return self.layers.flatten([*weights[:-1], top])

    def block_flops(self, block: int, instance: Instance) -> float:
        """A forward pass through the layers below, an orthogonal factorization of what they give, and its products."""
        (outputs, inputs), examples = self.layers.shapes[-1], self.num_examples(instance)
        below = 2.0 * examples * (self.layers.num_params - outputs * inputs)
        few, many = sorted((inputs, examples))
        return below + 4.0 * many * few**2 + 4.0 * outputs * inputs * examples


def own_inputs(instance: Instance, batch: Batch) -> Tensor:
    """The inputs of problems whose instances hold their own: the tensor ``inputs`` ``(B, widths[0], n)``."""
    return instance["inputs"]
