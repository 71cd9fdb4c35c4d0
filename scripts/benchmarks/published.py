"""One ascent within the general linear group as the publication writes it, plainly: what our teleports are timed against.

Zhao et al., NeurIPS 2022, eq. 8 and Algorithm 1, with the first-order inverse of the released code: for every pair of layers
``V -> s^-1((1 + T) s(V h)) h^+`` and ``U -> U (1 - T)``, and ``T`` along the gradient of ``|grad L|^2`` by a second backward
pass through the loss. Every step takes two pseudo-inverses of the same layer input a pair, as the formulas are written: one
in the loss that is differentiated, one in the move.
"""

from __future__ import annotations

import torch
from torch import Tensor


def published_ascent(
    weights: list[Tensor], inputs: Tensor, targets: Tensor, slope: float, steps: int, rate: float
) -> list[Tensor]:
    """The weights after ``steps`` steps of ascent.

    Args:
        weights: Matrices ``(out, in)``, lowest first.
        inputs: ``(in, n)``.
        targets: ``(out, n)``.
        slope: Of the leaky ReLU; 1: a linear network.
        steps, rate: Of the ascent.
    """

    def activation(z: Tensor) -> Tensor:
        return torch.where(z > 0, z, slope * z)

    def inverse(a: Tensor) -> Tensor:
        return torch.where(a > 0, a, a / slope)

    for _ in range(steps):
        moved = list(weights)
        algebra = [torch.zeros(len(w), len(w), dtype=w.dtype, requires_grad=True) for w in weights[:-1]]
        h = inputs
        for index, xi in enumerate(algebra):
            identity = torch.eye(len(xi), dtype=xi.dtype)
            activated = activation(weights[index] @ h)
            moved[index] = inverse((identity + xi) @ activation(moved[index] @ h)) @ torch.linalg.pinv(h)
            moved[index + 1] = moved[index + 1] @ (identity - xi)
            h = activated
        value = inputs
        for index, weight in enumerate(moved):
            value = weight @ value
            if index + 1 < len(moved):
                value = activation(value)
        loss = 0.5 * (value - targets).square().sum()
        gradients = torch.autograd.grad(loss, moved, create_graph=True)
        norm2 = sum((g.square().sum() for g in gradients), torch.zeros((), dtype=inputs.dtype))
        directions = torch.autograd.grad(norm2, algebra)
        with torch.no_grad():
            new = list(weights)
            h = inputs
            for index, direction in enumerate(directions):
                step = rate * direction
                identity = torch.eye(len(step), dtype=step.dtype)
                activated = activation(weights[index] @ h)
                new[index] = inverse((identity + step) @ activation(new[index] @ h)) @ torch.linalg.pinv(h)
                new[index + 1] = new[index + 1] @ (identity - step)
                h = activated
            weights = new
    return weights
