"""Regression of a noisy measurement by a small network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.base import Defaults
from teleport_env.problems.data import measurements, table_loader
from teleport_env.problems.network_problem import SquaredErrorProblem, own_inputs
from teleport_env.random import Streams
from teleport_env.reading import integer, number
from teleport_env.symmetries.activations import activation as activation_named
from teleport_env.symmetries.networks import FeedForward, Layers

VARIABLES = 10
POOL = 442 // 3


class TwoLayerRegression(SquaredErrorProblem):
    """Predict the progression of diabetes by a network of two layers: real, noisy targets, more examples than weights.

    ## Description
    ``L = 0.5 |U s(V X + b) + c - Y|^2``, the sum over the examples; ``X`` ``(10, samples)`` holds variables of patients,
    ``Y`` the progression of their disease after a year, ``s`` is ReLU. The minimum is not 0 and not known: the targets are
    noisy, and the network has fewer weights than there are examples. A measurement has ``validation_loss``, half the mean
    squared error on other patients, per example of the training set as ``loss`` is.

    ## Symmetry
    ``scaling`` of hidden units (default, exact for all data) and ``permutation``. Neither changes the outputs, so that no
    teleport lowers the loss by itself.

    ## Starting State
    Each instance draws ``samples`` patients from those of its split to train on and 30 others for validation. A patient
    belongs to one split; ``"paper"`` draws from all (the publication has no such experiment). Every variable and the target
    are shifted and scaled to mean 0 and variance 1 on the training patients. Weights are normal with variance 2 / fan-in (He
    et al., ICCV 2015), biases 0. Then hidden unit ``i`` is imbalanced: what goes into it is multiplied by ``exp(z_i)``,
    what leaves it divided by that, ``z_i`` normal with deviation ``imbalance``.

    ## Arguments
    * ``hidden``: widths of the hidden layers, one by default.
    * ``samples``: examples to train on.
    * ``imbalance``: see above.
    * ``activation``: ``"relu"``, or another of `MLPRegression`; the general linear action is not exact here, so that
      activations that are not homogeneous leave ``permutation`` alone.

    ## Defaults
    Gradient descent within 150 evaluations. The rate lies between the two best constant ones of seven tried on 128
    instances of the train split. At the larger one two of them diverge.

    Needs scikit-learn (``pip install teleport-env[compare]``), at the first instance and not before.
    """

    name = "TwoLayerRegression"
    held_out = 30
    """Patients of an instance that the loss leaves out, for the error on unseen data."""

    def __init__(
        self, hidden: Sequence[int] = (6,), samples: int = 100, imbalance: float = 0.5, activation: str = "relu"
    ) -> None:
        if not hidden:
            raise ValueError("hidden must name the width of at least one hidden layer, got ()")
        self.samples = integer("samples", samples, least=2, most=POOL - self.held_out)
        self.imbalance = number("imbalance", imbalance, least=0)
        layers = Layers((VARIABLES, *hidden, 1), bias=True)
        super().__init__(FeedForward(layers, activation_named(activation), own_inputs), examples=samples)

    def defaults(self, split: str = "train") -> Defaults:
        return self._learning_defaults(learning_rate=1.5e-3, budget=150.0)

    def check_data(self) -> None:
        table_loader("diabetes")

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        patients = measurements("diabetes").pool(split, self.name)
        chosen = generator.permutation(len(patients))[:, : self.samples + self.held_out].cpu()
        inputs, targets = (
            self._standardised(values[chosen].transpose(1, 2)).to(generator.device)
            for values in (patients.values, patients.targets[:, None])
        )
        weights = []
        for index, (rows, columns) in enumerate(self.layers.shapes):
            weight = generator.normal((rows, columns)) * (2.0 / self.layers.widths[index]) ** 0.5
            weight[:, :, -1] = 0.0
            weights.append(weight)
        for index, width in enumerate(self.layers.hidden):
            factor = torch.exp(self.imbalance * generator.normal((width,)))
            weights[index] = weights[index] * factor[:, :, None]
            weights[index + 1][:, :, :-1] /= factor[:, None, :]
        train, rest = slice(None, self.samples), slice(self.samples, None)
        return Instance(
            self.layers.flatten(weights),
            {
                "inputs": inputs[:, :, train].contiguous(),
                "targets": targets[:, :, train].contiguous(),
                "validation_inputs": inputs[:, :, rest].contiguous(),
                "validation_targets": targets[:, :, rest].contiguous(),
            },
        )

    def _standardised(self, values: Tensor) -> Tensor:
        """``(B, d, n)`` with mean 0 and variance 1 on the examples to train on."""
        centred = values - values[:, :, : self.samples].contiguous().sum(dim=2, keepdim=True) / self.samples
        square = centred[:, :, : self.samples].contiguous().square()
        return centred / (square.sum(dim=2, keepdim=True) / self.samples).sqrt()

    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        """``loss`` and ``validation_loss``, both for as many examples as are trained on."""
        found = super().evaluate(params, instance)
        outputs = self.network.forward(params, instance["validation_inputs"])
        wrong = (outputs - instance["validation_targets"]).square().flatten(1).mean(dim=1)
        return {**found, "validation_loss": 0.5 * self.samples * wrong}
