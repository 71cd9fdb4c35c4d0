"""The publication's regression by a small network on random data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.base import Defaults
from teleport_env.problems.network_problem import SquaredErrorProblem, own_inputs
from teleport_env.random import Streams
from teleport_env.reading import integer
from teleport_env.symmetries.activations import activation as activation_named
from teleport_env.symmetries.networks import FeedForward, Layers

PAPER_SEEDS = tuple(n * n * 12345 for n in range(5))
"""Seeds of the publication's five starts, ids 0 to 4 of the split ``"paper"``."""


class MLPRegression(SquaredErrorProblem):
    """Fit random targets by a three-layer network with leaky ReLU (section 6.1 of Zhao et al., 2022; settings: section D.2).

    ## Description
    ``L = 0.5 |W3 s(W2 s(W1 X)) - Y|^2``, the sum over outputs and examples; ``X`` 5 x 4, ``W1`` 6 x 5, ``W2`` 7 x 6, ``W3``
    8 x 7, ``Y`` 8 x 4. There are more parameters than targets.

    ## Symmetry
    * ``general_linear`` (default of the paper split): ``g`` acts on a layer's activations, in the residual form; exact on
      the data because there are no more examples than units. ``general_linear_published`` is the publication's own form and
      ``general_linear_first_order`` that of its released code, which does not keep the loss. These need a bijective
      activation.
    * ``scaling`` (default elsewhere: linear, exact for all data, searched in closed form): homogeneous activations only.
    * ``permutation`` of hidden units.

    ## Starting State
    All entries of ``W1, W2, W3, X, Y`` are uniform on ``[0, 1)``, drawn in this order. The split ``"paper"`` has the five
    published starts, drawn in float32 from a torch generator seeded with ``n * n * 12345``. The other splits draw alike
    from streams of their own. Biases, which the publication does not have, start at 0.

    ## Published settings
    Gradient descent with rate 1e-4, one teleport before step 5 by 8 ascent steps of rate 1e-7 (the default search of the
    paper split). AdaGrad with rate 0.1 and eps 1e-10, the same with 2 ascent steps of rate 1e-5:
    ``{"search": "gradient_ascent", "steps": 2, "rate": 1e-5}``. 300 steps each.

    ## Arguments
    * ``widths``: input, hidden layers, output.
    * ``samples``: columns of ``X``; beyond the smallest width of a layer's input, the general linear actions are not exact.
    * ``activation``: ``"leaky_relu"`` (slope 0.1), ``"tanh"``, ``"sigmoid"``, ``"asinh"``, ``"relu"`` or ``"identity"``.
    * ``bias``: whether the layers have one.
    """

    name = "MLPRegression"

    def __init__(
        self,
        widths: Sequence[int] = (5, 6, 7, 8),
        samples: int = 4,
        activation: str = "leaky_relu",
        bias: bool = False,
    ) -> None:
        layers = Layers(tuple(widths), bias=bias)
        if layers.count < 2:
            raise ValueError(f"widths must have a hidden layer between input and output, got {tuple(widths)}")
        samples = integer("samples", samples, least=1)
        super().__init__(FeedForward(layers, activation_named(activation), own_inputs), examples=samples)
        self.samples = samples

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            return Defaults(learning_rate=1e-4, searches=(self.published_search,), budget=300.0)
        return self._learning_defaults(learning_rate=7e-4, budget=300.0)

    @property
    def published_search(self) -> dict[str, Any]:
        return {"search": "gradient_ascent", "steps": 8, "rate": 1e-7}

    def num_instances(self, split: str) -> int | None:
        return len(PAPER_SEEDS) if split == "paper" else None

    def instances(
        self, ids: Tensor, split: str, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Instance:
        drawn = super().instances(ids, split)
        if split == "paper":
            assert drawn.ids is not None
            drawn = replace(self._published.select(drawn.ids), ids=drawn.ids)
        return drawn.to(dtype, device)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        """Draw ``count`` instances; of the split ``"paper"`` one of the five published starts each."""
        if split == "paper":
            chosen = generator.integers(len(PAPER_SEEDS)).cpu()
            return self._published.select(chosen).to(torch.float64, generator.device)
        return self._instance([generator.uniform(size=size) for size in self._sizes])

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        """Of the weights, lowest first, of ``X`` and of ``Y``: the order in which they are drawn."""
        widths = self.layers.widths
        weights = [(out, into) for into, out in pairwise(widths)]
        return [*weights, (widths[0], self.samples), (widths[-1], self.samples)]

    @cached_property
    @torch.inference_mode(False)
    def _published(self) -> Instance:
        """The five starts of the publication."""
        generators = [torch.Generator(device="cpu").manual_seed(seed) for seed in PAPER_SEEDS]

        def draw(size: tuple[int, int]) -> Tensor:
            drawn = [torch.rand(size, generator=each, dtype=torch.float32, device="cpu") for each in generators]
            return torch.stack(drawn).to(torch.float64)

        return self._instance([draw(size) for size in self._sizes])

    def _instance(self, drawn: list[Tensor]) -> Instance:
        *weights, inputs, targets = drawn
        if self.layers.bias:
            weights = [torch.cat([weight, torch.zeros_like(weight[:, :, :1])], dim=2) for weight in weights]
        return Instance(self.layers.flatten(weights), {"inputs": inputs, "targets": targets})
