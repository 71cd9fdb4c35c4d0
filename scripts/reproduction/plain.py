"""The published formulas as they stand: what the runtime figure and the benchmark time ours against.

This module alone does not go through the environment: it is what a reader of the paper would write. Eq. 11 with a
pseudo-inverse per layer, and an ascent on the gradient norm (Algorithm 1) that differentiates twice through the whole
network. Every step takes two pseudo-inverses of the same layer input per pair, one in the loss that is differentiated and
one in the move.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from teleport_env.problems.mlp_regression import MLPRegression

SLOPE = 0.1


def loss(weights: list[Tensor], inputs: Tensor, targets: Tensor, slope: float = SLOPE) -> Tensor:
    """``0.5 |W_L s(... s(W_1 X)) - Y|^2`` with leaky ReLUs of a slope; of slope 1 the network is linear."""
    value = inputs
    for weight in weights[:-1]:
        value = leaky_relu(weight @ value, slope)
    return 0.5 * (weights[-1] @ value - targets).square().sum()


def gradient_step(weights: list[Tensor], inputs: Tensor, targets: Tensor, rate: float) -> list[Tensor]:
    """One step of gradient descent."""
    leaves = [weight.detach().requires_grad_(True) for weight in weights]
    slopes = torch.autograd.grad(loss(leaves, inputs, targets), leaves)
    return [weight.detach() - rate * slope for weight, slope in zip(leaves, slopes, strict=True)]


def adagrad_step(
    weights: list[Tensor], sums: list[Tensor], inputs: Tensor, targets: Tensor, rate: float
) -> tuple[list[Tensor], list[Tensor]]:
    """One step of AdaGrad: the weights, and the sums of the squared gradients."""
    leaves = [weight.detach().requires_grad_(True) for weight in weights]
    slopes = torch.autograd.grad(loss(leaves, inputs, targets), leaves)
    sums = [total + slope**2 for total, slope in zip(sums, slopes, strict=True)]
    return [
        weight.detach() - rate * slope / (total.sqrt() + 1e-10)
        for weight, slope, total in zip(leaves, slopes, sums, strict=True)
    ], sums


def act(
    weights: list[Tensor], inputs: Tensor, increments: list[Tensor], slope: float = SLOPE, released: bool = False
) -> list[Tensor]:
    """Eq. 11 on every pair in turn, with ``g = 1 + T`` and its true inverse, and layer inputs from the weights moved so far.

    ``released``: as the released code has it, with ``1 - T`` for the inverse and layer inputs from before the move.
    """
    moved, value = list(weights), inputs
    for index, increment in enumerate(increments):
        identity = torch.eye(len(increment), dtype=increment.dtype)
        target = leaky_relu((identity + increment) @ leaky_relu(moved[index] @ value, slope), 1.0 / slope)
        moved[index] = target @ torch.linalg.pinv(value)
        inverse = identity - increment if released else torch.linalg.inv(identity + increment)
        moved[index + 1] = moved[index + 1] @ inverse
        value = leaky_relu((weights if released else moved)[index] @ value, slope)
    return moved


def teleport(
    weights: list[Tensor],
    inputs: Tensor,
    targets: Tensor,
    steps: int,
    rate: float,
    slope: float = SLOPE,
    released: bool = False,
) -> list[Tensor]:
    """The weights ``(out, in)``, lowest first, after ``steps`` steps of ascent on the squared gradient norm."""
    weights = [weight.detach() for weight in weights]
    for _ in range(steps):
        increments = [
            torch.zeros(len(w), len(w), dtype=w.dtype, requires_grad=True)  # T at the identity
            for w in weights[:-1]
        ]
        moved = act(weights, inputs, increments, slope, released)
        slopes = torch.autograd.grad(loss(moved, inputs, targets, slope), moved, create_graph=True)
        squared = torch.stack([each.square().sum() for each in slopes]).sum()
        directions = torch.autograd.grad(squared, increments)
        with torch.no_grad():
            weights = act(weights, inputs, [rate * d for d in directions], slope, released)
    return weights


def seconds(optimizer: str, repeats: int, steps: int = 16) -> tuple[float, float]:
    """Processor seconds of a step of an optimizer, ``"gd"`` or ``"adagrad"``, and of an ascent step on the regression, the
    least of several.

    Both are these formulas, in torch: against the environment's compiled steps an ascent by autograd would look dearer than
    the paper's own was.
    """
    problem = MLPRegression()
    instance = problem.instances(torch.zeros(1, dtype=torch.int64), "paper")
    weights = [matrix[0] for matrix in problem.layers.weights(instance.start)]
    inputs, targets = instance["inputs"][0], instance["targets"][0]

    def least(action: Callable[[], object]) -> float:
        found = []
        for _ in range(repeats):
            began = time.process_time()
            action()
            found.append((time.process_time() - began) / steps)
        return min(found)

    def descend() -> None:
        moved, sums = weights, [torch.zeros_like(weight) for weight in weights]
        for _ in range(steps):
            if optimizer == "adagrad":
                moved, sums = adagrad_step(moved, sums, inputs, targets, 0.1)
            else:
                moved = gradient_step(moved, inputs, targets, 1e-4)

    return least(descend), least(lambda: teleport(weights, inputs, targets, steps, 1e-9))
