"""Rosenbrock's banana-shaped valley in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.problems.analytic import CHEAP_SEARCHES, AnalyticProblem, log_uniform, positive_range
from teleport_env.problems.base import Defaults
from teleport_env.random import Streams

PAPER_CURVATURE = 100.0
START_X = (-1.5, 0.5)
START_Y = (-2.0, 0.0)


class Rosenbrock(AnalyticProblem):
    """Rosenbrock's function of two variables, the publication's first test function.

    ## Description
    ``L(x, y) = b (x^2 - y)^2 + (x - 1)^2`` with minimum 0 at (1, 1) for every curvature ``b > 0`` (Rosenbrock, 1960;
    Zhao et al., NeurIPS 2022, section on test functions, with ``b = 100``). A steep parabolic valley with a nearly flat
    floor: gradient descent reaches the floor at once and then creeps along it.

    ## Symmetries
    ``"rotation"``: SO(2) turns ``(u, v) = (sqrt(b) (x^2 - y), x - 1)``, in which ``L = u^2 + v^2``; back by ``x = v + 1``,
    ``y = x^2 - u / sqrt(b)``. Exact everywhere. Not linear in the parameters, so the gradient after a move costs an
    evaluation.

    ## Starting State
    * ``"paper"``: one instance, ``b = 100`` from (-1, -1).
    * ``"train"``, ``"validation"``, ``"test"``: ``b`` log-uniform in ``curvature``; ``x`` uniform in [-1.5, 0.5] and ``y``
      uniform in [-2, 0], outside the valley like the paper's start.

    ## Arguments
    * ``curvature``: range ``(low, high)`` of ``b`` outside the paper's split.

    ## Defaults
    Gradient descent. ``"paper"``: rate 1e-3, 10 steps of ascent on the angle at rate 0.1 from an angle uniform in (0, pi);
    the budget pays for 1000 steps and 10 such teleports, and the tolerance is low enough not to end such a run early.
    Otherwise rate 6e-4, the best constant one for plain descent within 80 evaluations on the train split; tolerance
    about 12 orders of magnitude below a typical initial loss.

    Raises:
        ValueError: ``curvature`` is not a positive range.
    """

    name = "Rosenbrock"

    def __init__(self, curvature: Sequence[float] = (30.0, 300.0)) -> None:
        self.curvature = positive_range("curvature", curvature)
        super().__init__(2)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        if split == "paper":
            curvature = torch.full((count,), PAPER_CURVATURE, dtype=torch.float64, device=generator.device)
            start = torch.full((count, 2), -1.0, dtype=torch.float64, device=generator.device)
        else:
            curvature = log_uniform(generator, self.curvature)
            start = torch.stack((generator.uniform(*START_X), generator.uniform(*START_Y)), dim=1)
        return Instance(start, {"curvature": curvature})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        x, y = params.unbind(1)
        r = x * x - y
        v = x - 1.0
        return instance["curvature"] * r * r + v * v

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        x, y = params.detach().unbind(1)
        r = x * x - y
        v = x - 1.0
        scaled = instance["curvature"] * r
        along_y = scaled * -2.0
        along_x = (v - along_y * x).mul_(2.0)
        # rows of (2, B), turned: columns of many runs lie side by side, which is how elementwise work is fast
        return scaled.mul_(r).add_(v.mul_(v)), torch.stack((along_x, along_y)).t()

    def forward(self, params: Tensor, instance: Instance) -> Tensor:
        """``(u, v)`` ``(B, 2)`` with ``L = u^2 + v^2``."""
        x, y = params.unbind(1)
        return torch.stack((torch.sqrt(instance["curvature"]) * (x * x - y), x - 1.0), dim=1)

    def backward(self, coordinates: Tensor, instance: Instance) -> Tensor:
        """The parameters ``(B, 2)`` of ``(u, v)``."""
        u, v = coordinates.unbind(1)
        x = v + 1.0
        return torch.stack((x, x * x - u / torch.sqrt(instance["curvature"])), dim=1)

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            ascent = {"search": "gradient_ascent", "steps": 10, "rate": 0.1, "start": "random", "objective": "any"}
            return Defaults(
                learning_rate=1e-3,
                searches=(ascent,),
                budget=1000 + 10 * (10 * 3 + 2),
                tolerance=1e-30,
                group_scale=torch.pi,
            )
        return Defaults(learning_rate=6e-4, searches=CHEAP_SEARCHES, budget=80, tolerance=2e-10, group_scale=torch.pi)

    def minimum(self, instance: Instance) -> Tensor:
        return torch.ones_like(instance.start)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 11.0  # the products and sums of `loss_and_gradient`
