"""A deep linear network on its own regression data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from teleport_env.instances import Instance
from teleport_env.problems.base import Defaults
from teleport_env.problems.network_problem import CLOSED_FORM_MENU, SquaredErrorProblem, own_inputs
from teleport_env.random import Streams
from teleport_env.reading import integer, number
from teleport_env.symmetries.activations import Identity
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.input_transform import InputTransform
from teleport_env.symmetries.networks import FeedForward, Layers, product
from teleport_env.symmetries.pairs import LinearPairs, PermutationSymmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


class LinearNetwork(SquaredErrorProblem):
    """Regression by a product of matrices.

    ## Description
    ``L(W1, W2, W3) = 0.5 |W3 W2 W1 X - Y|^2`` with data ``X`` and realizable targets ``Y``: the minimum is 0. The loss
    is convex in the product and not in the factors. Its conditioning depends on how the product is shared among them,
    which a teleport changes.

    ## Symmetry
    ``(W_l, W_(l+1)) -> (g W_l, W_(l+1) g^-1)`` for every hidden layer keeps the loss for all data: ``general_linear``
    (default), its diagonal part ``scaling``, and ``permutation`` of hidden units. ``input_transform`` moves the data along,
    ``X -> g X`` and ``W1 -> W1 g^-1`` (Zhao et al., NeurIPS 2022, Algorithm 3).

    ## Starting State
    ``X`` is standard normal. ``Y`` is a random network's output on ``X``, whose entries are normal with variance ``1 /``
    columns. The start is drawn alike, then hidden unit ``i`` is imbalanced. What goes into it is multiplied by
    ``exp(z_i)``, what leaves it divided by that, ``z_i`` normal with deviation ``imbalance``. Every split draws alike,
    from streams of its own.

    ## Arguments
    * ``widths``: input, hidden layers, output.
    * ``samples``: columns of ``X``.
    * ``imbalance``: see above.
    """

    name = "LinearNetwork"

    def __init__(self, widths: Sequence[int] = (5, 6, 6, 4), samples: int = 8, imbalance: float = 0.3) -> None:
        layers = Layers(tuple(widths), bias=False)
        if layers.count < 2:
            raise ValueError(f"widths must have a hidden layer between input and output, got {tuple(widths)}")
        super().__init__(FeedForward(layers, Identity(), own_inputs))
        self.samples = integer("samples", samples, least=1)
        self.imbalance = number("imbalance", imbalance, least=0)

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Invertible maps between layers, their scalings and permutations, and transforms of the inputs."""
        return {
            "general_linear": LinearPairs(self.layers, gradient_rank=self.samples),
            "scaling": ScalingSymmetry(self.layers),
            "permutation": PermutationSymmetry(self.layers, activated=False),
            "input_transform": InputTransform(self.layers),
        }

    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(learning_rate=0.012, searches=CLOSED_FORM_MENU, symmetry="general_linear", budget=300.0)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        inputs = generator.normal((self.layers.widths[0], self.samples))
        targets = inputs
        for rows, columns in self.layers.shapes:
            targets = product(generator.normal((rows, columns)) * columns**-0.5, targets)
        weights = [generator.normal((rows, columns)) * columns**-0.5 for rows, columns in self.layers.shapes]
        for index, width in enumerate(self.layers.hidden):
            factor = torch.exp(self.imbalance * generator.normal((width,)))
            weights[index] = weights[index] * factor[:, :, None]
            weights[index + 1] = weights[index + 1] / factor[:, None, :]
        return Instance(self.layers.flatten(weights), {"inputs": inputs, "targets": targets})
