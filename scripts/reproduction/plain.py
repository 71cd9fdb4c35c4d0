"""The published formulas as they stand: a plain implementation that the runtime figure times ours against.

This module alone does not go through the environment: it is what a reader of the paper would write. Eq. 8 with a
pseudo-inverse a layer, and an ascent that differentiates twice through the whole network (Algorithm 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOPE = 0.1


def activation(z: Tensor) -> Tensor:
    """Leaky ReLU."""
    return torch.nn.functional.leaky_relu(z, SLOPE)


def inverse(a: Tensor) -> Tensor:
    """Its inverse."""
    return torch.nn.functional.leaky_relu(a, 1.0 / SLOPE)


def loss(weights: list[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """``0.5 |W_L s(... s(W_1 X)) - Y|^2``."""
    value = inputs
    for weight in weights[:-1]:
        value = activation(weight @ value)
    return 0.5 * (weights[-1] @ value - targets).square().sum()


def gradient_step(weights: list[Tensor], inputs: Tensor, targets: Tensor, rate: float) -> list[Tensor]:
    """One step of gradient descent."""
    leaves = [weight.detach().requires_grad_(True) for weight in weights]
    slopes = torch.autograd.grad(loss(leaves, inputs, targets), leaves)
    return [weight.detach() - rate * slope for weight, slope in zip(leaves, slopes, strict=True)]


def act(weights: list[Tensor], inputs: Tensor, increments: list[Tensor]) -> list[Tensor]:
    """Eq. 8 on every pair in turn, with ``g = 1 + T`` and its true inverse."""
    moved, value = list(weights), inputs
    for index, increment in enumerate(increments):
        element = torch.eye(len(increment), dtype=increment.dtype) + increment
        target = inverse(element @ activation(moved[index] @ value))
        moved[index] = target @ torch.linalg.pinv(value)
        moved[index + 1] = moved[index + 1] @ torch.linalg.inv(element)
        value = activation(moved[index] @ value)
    return moved


def teleport(weights: list[Tensor], inputs: Tensor, targets: Tensor, steps: int, rate: float) -> list[Tensor]:
    """Algorithm 1's teleport by ``steps`` steps of ascent on the squared gradient norm."""
    weights = [weight.detach() for weight in weights]
    for _ in range(steps):
        increments = [
            torch.zeros(len(w), len(w), dtype=w.dtype, requires_grad=True)  # T at the identity
            for w in weights[:-1]
        ]
        moved = act(weights, inputs, increments)
        slopes = torch.autograd.grad(loss(moved, inputs, targets), moved, create_graph=True)
        squared = torch.stack([slope.square().sum() for slope in slopes]).sum()
        directions = torch.autograd.grad(squared, increments)
        weights = [w.detach() for w in act(weights, inputs, [rate * d for d in directions])]
    return weights
