"""An ellipse: the smallest problem on which a teleport pays."""

from __future__ import annotations

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
from teleport_env.reading import number

PAPER_START = (2.4, 0.6)  # u = (2.4, 1.8) for a = 9: on the level 9, between the flat and the steep end

_KERNEL = compiled("ellipse", lambda problem, instance, batch: (instance["curvatures"],))


class Ellipse(AnalyticProblem):
    """A quadratic bowl of two variables whose level sets are ellipses.

    ## Description
    ``L(x, y) = s (x^2 + a y^2)``, minimum 0 at the origin. The picture behind the publication (Zhao et al., NeurIPS
    2022, Figure 1 and eq. 20). On one level set the gradient is longest at the ends of the short axis. From there
    steepest descent runs straight to the minimum.

    ## Symmetries
    ``"rotation"``: SO(2) turns ``(u, v) = (sqrt(s) x, sqrt(s a) y)``, in which ``L = u^2 + v^2``. Exact everywhere and
    linear in the parameters: the gradient after a move is known from the one before.

    ## Starting State
    * ``"paper"``: one instance, ``s = 1`` and the curvature ``a`` from (2.4, 0.6). The publication only draws the
      picture; start and rate are this project's.
    * ``"train"``, ``"validation"``, ``"test"``: ``a`` log-uniform in ``condition``, the steep coefficient ``s a``
      log-uniform in ``largest``; the start lies at a uniformly random angle ``(u, v)`` on a level log-uniform in [1, 10].

    ## Arguments
    * ``a``: curvature ratio of the paper's split.
    * ``condition``: range ``(low, high)`` of ``a`` on the others, not below 1.
    * ``largest``: range of ``s a`` on the others; it bounds the usable learning rate.

    ## Defaults
    Gradient descent. ``"paper"``: rate 0.05, 10 steps of ascent on the angle. Otherwise the best constant rate for plain
    descent within 24 evaluations on the train split.

    Raises:
        ValueError: ``a`` is below 1, or a range is not a positive range.
    """

    name = "Ellipse"
    turns = ("ellipse", lambda problem, instance: (instance["curvatures"],))

    def __init__(
        self, a: float = 9.0, condition: Sequence[float] = (5.0, 200.0), largest: Sequence[float] = (4.5, 9.0)
    ) -> None:
        self.a = number("a", a, least=1)  # y is the steep direction
        self.condition = positive_range("condition", condition, least=1.0)
        self.largest = positive_range("largest", largest)
        super().__init__(2, matrix=self.matrix)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        if split == "paper":
            start = torch.tensor([PAPER_START], dtype=torch.float64, device=generator.device).repeat(count, 1)
            curvatures = torch.tensor([[1.0, self.a]], dtype=torch.float64, device=generator.device).repeat(count, 1)
        else:
            steep = log_uniform(generator, self.largest)
            curvatures = torch.stack((steep / log_uniform(generator, self.condition), steep), dim=1)
            start = torch.stack(on_circle(generator, torch.sqrt(log_uniform(generator, (1.0, 10.0)))), dim=1)
            start = start / torch.sqrt(curvatures)
        return Instance(start, {"curvatures": runs_innermost(curvatures)})

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        x, y = params.unbind(1)
        flat, steep = instance["curvatures"].unbind(1)
        return flat * x * x + steep * y * y

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        params = params.detach()
        half_gradient = instance["curvatures"] * params
        x, y = (half_gradient * params).unbind(1)
        return x + y, half_gradient.mul_(2.0)

    def forward(self, params: Array, instance: Seen) -> Array:
        """``(u, v)`` ``(B, 2)`` with ``L = u^2 + v^2``."""
        return library(params).sqrt(instance["curvatures"]) * params

    def backward(self, coordinates: Array, instance: Seen) -> Array:
        """The parameters ``(B, 2)`` of ``(u, v)``."""
        return coordinates / library(coordinates).sqrt(instance["curvatures"])

    def slope(self, params: Array, gradient: Array, instance: Seen) -> Array:
        return 4.0 * self.forward(gradient, instance)

    def matrix(self, instance: Instance) -> Tensor:
        """The linear part of `forward`, ``(B, 2, 2)``."""
        return torch.diag_embed(torch.sqrt(instance["curvatures"]))

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            ascent = {"search": "gradient_ascent", "steps": 10, "rate": 1e-3, "start": "random"}
            return Defaults(learning_rate=0.05, searches=(ascent,), budget=40, tolerance=1e-11, group_scale=torch.pi)
        return Defaults(learning_rate=0.105, searches=AFFINE_SEARCHES, budget=24, tolerance=3e-12, group_scale=torch.pi)

    def minimum(self, instance: Instance) -> Tensor:
        return torch.zeros_like(instance.start)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 7.0  # the products and sums of `loss_and_gradient`
