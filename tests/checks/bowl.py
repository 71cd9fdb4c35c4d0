"""A small problem to break in every way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from teleport_env.groups import PositiveScaling
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Defaults, Problem
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry


class Squeeze(Symmetry):
    """``(u, v) -> (d u, v / d)``."""

    name = "squeeze"
    exact_when = "Always."
    linear = True

    def __init__(self) -> None:
        self.group = PositiveScaling(2)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        assert isinstance(g, Tensor)
        u, v = params.chunk(2, dim=1)
        return torch.cat([u * g, v / g], dim=1)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        assert isinstance(g, Tensor)
        u, v = gradient.chunk(2, dim=1)
        return torch.cat([u / g, v * g], dim=1)


class Products(Problem):
    """``L(u, v) = sum_i (u_i v_i - c_i)^2`` with its symmetry and its gradient."""

    name = "Products"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.normal((4,)), {"c": generator.uniform(0.5, 2.0, (2,))})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return (u * v - instance["c"]).square().sum(1)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        u, v = params.detach().chunk(2, dim=1)
        r = u * v - instance["c"]
        return r.square().sum(1), torch.cat([2.0 * r * v, 2.0 * r * u], dim=1)

    def minimum(self, instance: Instance) -> Tensor | None:
        root = instance["c"].sqrt()
        return torch.cat([root, root], dim=1)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {"squeeze": Squeeze()}

    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(learning_rate=0.05, budget=30.0, searches=("normalized_ascent", "random"))


class Samples(Products):
    """``L(w) = mean_k |w - x_k|^2`` over a mini-batch of a training set that all runs share."""

    name = "Samples"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        data = Streams(torch.arange(12)).normal((4,))
        return Instance(generator.normal((4,)), {"order_key": generator.bits()}, {"data": data})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        chosen = instance["data"].expand(len(params), -1, -1) if batch is None else instance["data"][batch]
        return (params[:, None, :] - chosen).square().sum(2).mean(1)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        return Problem.loss_and_gradient(self, params, instance, batch)

    def minimum(self, instance: Instance) -> Tensor | None:
        return None

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {}

    @property
    def batch_size(self) -> int | None:
        return 3

    def num_examples(self, instance: Instance) -> int:
        return len(instance["data"])
