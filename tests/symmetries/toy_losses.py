"""Small losses with known symmetries, one row of data a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.random import Streams
from teleport_env.symmetries import (
    CoordinateChange,
    CoupledLinear,
    CoupledPermutation,
    CoupledScaling,
    Coupling,
    FeedForward,
    HiddenUnits,
    InputTransform,
    Layers,
    LinearPairs,
    PermutationSymmetry,
    ScalingSymmetry,
    Symmetry,
    activation,
)
from teleport_env.symmetries.laws import SymmetryCase

B = 7


@dataclass(frozen=True)
class Toy:
    """A symmetry of a loss at some point."""

    symmetry: Symmetry
    loss: Callable[[Tensor, Instance, Batch], Tensor]
    params: Tensor
    instance: Instance
    data: str = "inputs"

    def case(self, symmetry: Symmetry | None = None, **changes: Any) -> SymmetryCase:
        return SymmetryCase(
            symmetry or self.symmetry,
            self.loss,
            self.params,
            self.instance,
            data=self.data,
            **changes,
        )

    def to(self, dtype: torch.dtype) -> Toy:
        return replace(self, params=self.params.to(dtype), instance=self.instance.to(dtype, "cpu"))


def inputs(instance: Instance, batch: Batch) -> Tensor:
    data: Tensor = instance["X"]
    return data


def network(widths: tuple[int, ...], name: str = "identity", bias: bool = False) -> FeedForward:
    return FeedForward(Layers(widths, bias), activation(name), inputs)


def squared_error(net: FeedForward) -> Callable[[Tensor, Instance, Batch], Tensor]:
    def loss(params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return 0.5 * (net.forward(params, net.inputs(instance, batch)) - instance["Y"]).square().sum((1, 2))

    return loss


def network_toy(
    symmetry: Callable[[FeedForward], Symmetry], net: FeedForward, examples: int, seed: int = 0, count: int = B
) -> Toy:
    """Normal data and weights; columns of the weights scaled so that activations stay of order one."""
    streams = Streams(torch.arange(count)).fork(seed)
    widths = net.layers.widths
    data = streams.normal((widths[0], examples))
    targets = streams.normal((widths[-1], examples))
    params = net.layers.flatten([streams.normal(shape) / shape[1] ** 0.5 for shape in net.layers.shapes])
    instance = Instance(params.clone(), {"X": data, "Y": targets})
    return Toy(symmetry(net), squared_error(net), params, instance)


# -- coordinate changes ------------------------------------------------------------------------------------------------


def _affine_matrix(instance: Instance) -> Tensor:
    matrix: Tensor = instance["A"]
    return matrix


def _affine_forward(params: Tensor, instance: Instance) -> Tensor:
    return (instance["A"] * params[:, None, :]).sum(2) + instance["c"]


def _affine_backward(u: Tensor, instance: Instance) -> Tensor:
    solution: Tensor = torch.linalg.solve(instance["A"], (u - instance["c"])[:, :, None])[:, :, 0]
    return solution


def affine_toy(n: int) -> Toy:
    streams = Streams(torch.arange(B)).fork(n)
    matrix = streams.normal((n, n)) + 2.0 * torch.eye(n, dtype=torch.float64)
    params = streams.normal((n,))
    instance = Instance(params.clone(), {"A": matrix, "c": streams.normal((n,))})
    symmetry = CoordinateChange(_affine_forward, _affine_backward, n, matrix=_affine_matrix)
    return Toy(symmetry, lambda w, i, b=None: _affine_forward(w, i).square().sum(1), params, instance)


def _rosenbrock_forward(w: Tensor, instance: Instance) -> Tensor:
    return torch.stack([10.0 * (w[:, 0].square() - w[:, 1]), w[:, 0] - 1.0], dim=1)


def _rosenbrock_backward(u: Tensor, instance: Instance) -> Tensor:
    x = u[:, 1] + 1.0
    return torch.stack([x, x.square() - 0.1 * u[:, 0]], dim=1)


def rosenbrock_toy() -> Toy:
    params = Streams(torch.arange(B)).normal((2,))
    symmetry = CoordinateChange(_rosenbrock_forward, _rosenbrock_backward, 2)
    return Toy(
        symmetry, lambda w, i, b=None: _rosenbrock_forward(w, i).square().sum(1), params, Instance(params.clone())
    )


# -- all of them -------------------------------------------------------------------------------------------------------


def input_toy(bias: bool) -> Toy:
    toy = network_toy(InputTransform, network((4, 5, 3), "tanh", bias), examples=6)

    return replace(toy, data="X")


def _linear(net: FeedForward) -> LinearPairs:
    return LinearPairs(net.layers)


def _scaling(net: FeedForward) -> ScalingSymmetry:
    return ScalingSymmetry(net.layers, net.activation)


def _permutation(net: FeedForward) -> PermutationSymmetry:
    return PermutationSymmetry(net.layers)


def couplings_of(layers: Layers) -> list[Coupling]:
    """The hidden spaces of a chain, as places in its vector."""
    places = layers.weights(torch.arange(layers.num_params)[None])
    return [Coupling(places[i][0], places[i + 1][0][:, :width]) for i, width in enumerate(layers.hidden)]


def _coupled_linear(net: FeedForward) -> CoupledLinear:
    return CoupledLinear(couplings_of(net.layers))


def _coupled_scaling(net: FeedForward) -> CoupledScaling:
    return CoupledScaling(couplings_of(net.layers))


def _coupled_permutation(net: FeedForward) -> CoupledPermutation:
    return CoupledPermutation(couplings_of(net.layers))


def toys() -> dict[str, Toy]:
    """Every symmetry where it is exact, with and without biases, one pair and several, batches up to the largest."""
    every = {
        "rosenbrock": rosenbrock_toy(),
        "affine 2": affine_toy(2),
        "affine 5": affine_toy(5),
    }
    for bias in (False, True):
        mark = " with bias" if bias else ""
        every |= {
            "linear, one pair" + mark: network_toy(_linear, network((3, 4, 5), bias=bias), 6),
            "linear, three pairs" + mark: network_toy(_linear, network((3, 4, 2, 5, 3), bias=bias), 6),
            "linear, width one" + mark: network_toy(_linear, network((1, 1, 1), bias=bias), 1),
            "scaling, leaky ReLU" + mark: network_toy(_scaling, network((3, 4, 6, 2), "leaky_relu", bias), 8),
            "scaling, ReLU" + mark: network_toy(_scaling, network((3, 8, 2), "relu", bias), 8),
            "permutation, tanh" + mark: network_toy(_permutation, network((3, 4, 6, 2), "tanh", bias), 8),
            "coupled linear" + mark: network_toy(_coupled_linear, network((3, 4, 2, 5, 3), bias=bias), 6),
            "coupled scaling" + mark: network_toy(_coupled_scaling, network((3, 4, 6, 2), "leaky_relu", bias), 8),
            "coupled permutation" + mark: network_toy(_coupled_permutation, network((3, 4, 6, 2), "tanh", bias), 8),
            "input transform" + mark: input_toy(bias),
        }
        for name in ("leaky_relu", "tanh", "sigmoid", "asinh", "identity"):
            net = network((6, 7, 5, 3), name, bias)
            every[f"hidden units, {name}{mark}"] = network_toy(HiddenUnits, net, 4)
        every["hidden units, one pair" + mark] = network_toy(HiddenUnits, network((6, 5, 3), "asinh", bias), 3)
        every["hidden units, largest batch" + mark] = network_toy(
            HiddenUnits, network((4, 4, 6, 3), "asinh", bias), 4 + bias, seed=1
        )
        every["hidden units, published, one pair" + mark] = network_toy(
            lambda net: HiddenUnits(net, form="published"), network((6, 5, 3), "asinh", bias), 3
        )
    return every
