"""Booth's function: two linear equations in the sense of least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from teleport_env.arrays import Array, library
from teleport_env.instances import Batch, Instance
from teleport_env.problems.analytic import (
    AFFINE_SEARCHES,
    AnalyticProblem,
    Seen,
    log_uniform,
    on_circle,
    positive_range,
    runs_innermost,
)
from teleport_env.problems.base import Defaults
from teleport_env.problems.compiled import compiled
from teleport_env.random import Streams

PAPER_MAP = ((1.0, 2.0), (2.0, 1.0))
PAPER_OFFSET = (7.0, 5.0)
PAPER_START = (5.0, -5.0)

_KERNEL = compiled("booth", lambda problem, instance, batch: (instance["map"], instance["offset"]))


class Booth(AnalyticProblem):
    """Booth's function of two variables, the publication's second test function, and random linear maps like it.

    ## Description
    ``L(w) = |M w - c|^2``; Booth's function is ``(x + 2y - 7)^2 + (2x + y - 5)^2`` with minimum 0 at (1, 3) (Zhao et al.,
    NeurIPS 2022, eq. 4). On a level set the squared gradient norm is at most ``4 sigma_max^2 L``, 36 L
    for Booth's own map.

    ## Symmetries
    ``"rotation"``: SO(2) turns ``(u, v) = M w - c``, in which ``L = u^2 + v^2``. Exact everywhere; affine, so the gradient
    after a move is known from the one before.

    ## Starting State
    * ``"paper"``: one instance, Booth's function from (5, -5).
    * ``"train"``, ``"validation"``, ``"test"``: ``M`` has its largest singular value log-uniform in ``largest``, the
      ratio of the two log-uniform in ``ratio`` and singular vectors at uniformly random angles. The minimum is uniform
      in [-5, 5]^2, and the start lies at a random angle and a distance uniform in [4, 10] from it.

    ## Arguments
    * ``ratio``: range ``(low, high)`` of the ratio of the singular values, not below 1 (3 for Booth's own map).
    * ``largest``: range of the largest singular value (3 for Booth's own map); it bounds the usable learning rate.

    ## Defaults
    Gradient descent. ``"paper"``: rate 0.08, 10 steps of ascent on the angle at rate 1e-3 from an angle uniform in (0,
    pi), kept wherever it ends. The budget pays for 10 steps and one such teleport. Otherwise rate 0.105, the best
    constant one for plain descent within 24 evaluations on the train split. The tolerance is about 12 orders of
    magnitude below a typical initial loss.

    Raises:
        ValueError: A range is not a positive range.
    """

    name = "Booth"
    turns = ("booth", lambda problem, instance: (instance["map"], instance["offset"]))

    def __init__(self, ratio: Sequence[float] = (2.0, 6.0), largest: Sequence[float] = (2.0, 3.0)) -> None:
        self.ratio = positive_range("ratio", ratio, least=1.0)
        self.largest = positive_range("largest", largest)
        super().__init__(2, matrix=self.matrix)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        if split == "paper":
            linear = torch.tensor([PAPER_MAP], dtype=torch.float64, device=generator.device).repeat(count, 1, 1)
            offset = torch.tensor([PAPER_OFFSET], dtype=torch.float64, device=generator.device).repeat(count, 1)
            start = torch.tensor([PAPER_START], dtype=torch.float64, device=generator.device).repeat(count, 1)
            return Instance(start, {"map": runs_innermost(linear), "offset": runs_innermost(offset)})
        large = log_uniform(generator, self.largest)
        small = large / log_uniform(generator, self.ratio)
        left, right = generator.uniform(0.0, 2.0 * math.pi), generator.uniform(0.0, 2.0 * math.pi)
        ca, sa, cb, sb = torch.cos(left), torch.sin(left), torch.cos(right), torch.sin(right)
        # R(left) diag(large, small) R(right)', written out: a product of 2 x 2 matrices needs no kernel
        a, b = ca * large * cb + sa * small * sb, ca * large * sb - sa * small * cb
        c, d = sa * large * cb - ca * small * sb, sa * large * sb + ca * small * cb
        x, y = generator.uniform(-5.0, 5.0), generator.uniform(-5.0, 5.0)
        dx, dy = on_circle(generator, generator.uniform(4.0, 10.0))
        # one entry of many runs lies side by side, as `runs_innermost` would lay it
        linear = torch.stack((a, b, c, d)).view(2, 2, count).movedim(2, 0)
        offset = torch.stack((a * x + b * y, c * x + d * y)).t()
        start = torch.stack((x + dx, y + dy)).t()
        return Instance(start, {"map": linear, "offset": offset})

    @staticmethod
    def _mapped(params: Array, instance: Seen) -> Array:
        """``M w`` as the rows of ``(2, B)``."""
        products = library(params).moveaxis(instance["map"], 0, -1) * params.T  # (row of M, parameter, B)
        return products[:, 0] + products[:, 1]

    def _residual(self, params: Array, instance: Seen) -> Array:
        """``(u, v)`` as the rows of ``(2, B)``."""
        return self._mapped(params, instance) - instance["offset"].T

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        residual = self._residual(params, instance)
        u, v = (residual * residual).unbind(0)
        return u + v

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        residual = self._residual(params.detach(), instance)
        products = instance["map"].permute(1, 2, 0) * residual[:, None, :]  # (row of M, parameter, B)
        u, v = (residual * residual).unbind(0)
        return u + v, (products[0] + products[1]).mul_(2.0).t()

    def forward(self, params: Array, instance: Seen) -> Array:
        """``(u, v) = M w - c`` ``(B, 2)`` with ``L = u^2 + v^2``."""
        return self._residual(params, instance).T

    def backward(self, coordinates: Array, instance: Seen) -> Array:
        """The parameters ``(B, 2)`` of ``(u, v)``, by Cramer's rule."""
        p, q = (coordinates + instance["offset"]).T
        (a, b), (c, d) = library(coordinates).moveaxis(instance["map"], 0, -1)
        determinant = a * d - b * c
        return library(coordinates).stack(((d * p - b * q) / determinant, (a * q - c * p) / determinant)).T

    def slope(self, params: Array, gradient: Array, instance: Seen) -> Array:
        return 4.0 * self._mapped(gradient, instance).T

    def matrix(self, instance: Instance) -> Tensor:
        """The linear part of `forward`, ``(B, 2, 2)``."""
        return instance["map"].contiguous()

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            ascent = {"search": "gradient_ascent", "steps": 10, "rate": 1e-3, "start": "random", "objective": "any"}
            return Defaults(
                learning_rate=0.08, searches=(ascent,), budget=10 + 10 * 3 + 2, tolerance=1e-10, group_scale=torch.pi
            )
        return Defaults(learning_rate=0.105, searches=AFFINE_SEARCHES, budget=24, tolerance=1e-10, group_scale=torch.pi)

    def minimum(self, instance: Instance) -> Tensor:
        return self.backward(torch.zeros_like(instance.start), instance)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 19.0  # 8 for the residual, 3 for the loss, 8 for the gradient
