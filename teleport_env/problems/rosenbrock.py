"""Rosenbrock's banana-shaped valley in two dimensions, and several such valleys joined by one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from teleport_env.arrays import Array, library
from teleport_env.instances import Batch, Instance
from teleport_env.problems.analytic import (
    CHEAP_SEARCHES,
    AnalyticProblem,
    Seen,
    log_uniform,
    positive_range,
    runs_innermost,
)
from teleport_env.problems.base import Defaults
from teleport_env.problems.compiled import compiled
from teleport_env.random import Streams
from teleport_env.reading import integer

PAPER_CURVATURE = 100.0
START_X = (-1.5, 0.5)
START_Y = (-2.0, 0.0)

_KERNEL = compiled("rosenbrock", lambda problem, instance, batch: (instance["curvature"],))


class RosenbrockND(AnalyticProblem):
    """The sum of ``N`` Rosenbrock functions in ``2N`` variables, on which a teleport may trade loss between the terms.

    ## Description
    ``L = sum_i b_i (x_i^2 - y_i)^2 + (x_i - 1)^2`` with minimum 0 where every variable is 1 (the form in 2N variables of
    Zhao et al., NeurIPS 2022, eq. 3 and section B.1.2). Parameters are ordered ``x_1, ..., x_N, y_1, ..., y_N``.

    ## Symmetries
    ``"rotation"``: SO(2N) turns ``(u_1, ..., u_N, v_1, ..., v_N)``, ``u_i = sqrt(b_i) (x_i^2 - y_i)`` and ``v_i = x_i - 1``,
    whose squared norm is ``L``. Exact everywhere, not linear in the parameters.

    ## Starting State
    * ``"paper"``: one instance, the two-dimensional experiment in every pair: ``b_i = 100`` from (-1, -1).
    * ``"train"``, ``"validation"``, ``"test"``: per pair ``b_i`` log-uniform in ``curvature``, ``x_i`` uniform in
      [-1.5, 0.5] and ``y_i`` in [-2, 0], as in `Rosenbrock`.

    ## Arguments
    * ``pairs``: ``N``, 1 or more.
    * ``curvature``: range ``(low, high)`` of ``b_i`` outside the paper's split.

    ## Defaults
    Gradient descent. ``"paper"``: as `Rosenbrock`. Otherwise the best constant rate for plain descent within 160
    evaluations on the train split. The tolerance is about 12 orders of magnitude below a typical initial loss.

    Raises:
        ValueError: ``pairs`` is not a positive integer, or ``curvature`` is not a positive range.
    """

    name = "RosenbrockND"
    turns = ("rosenbrock", lambda problem, instance: (problem.curvature_of(instance),))

    def __init__(self, pairs: int = 4, curvature: Sequence[float] = (30.0, 300.0)) -> None:
        self.pairs = pairs = integer("pairs", pairs, least=1)
        self.curvature = positive_range("curvature", curvature)
        super().__init__(2 * pairs)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        size = (self.pairs,)
        if split == "paper":
            curvature = torch.full((count, self.pairs), PAPER_CURVATURE, dtype=torch.float64, device=generator.device)
            start = torch.full((count, 2 * self.pairs), -1.0, dtype=torch.float64, device=generator.device)
        else:
            curvature = log_uniform(generator, self.curvature, size)
            start = torch.cat((generator.uniform(*START_X, size), generator.uniform(*START_Y, size)), dim=1)
        return Instance(start, {"curvature": runs_innermost(curvature)})

    def curvature_of(self, instance: Seen) -> Array:
        """``b`` of every pair, ``(B, N)``."""
        return instance["curvature"]

    @staticmethod
    def _total(terms: Tensor) -> Tensor:
        """The sum over pairs of ``(B, N)``, term after term: the order of a reduction would follow the memory layout."""
        return reduce(add, terms.unbind(1))

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        x, y = params[:, : self.pairs], params[:, self.pairs :]
        r = x * x - y
        v = x - 1.0
        return self._total(self.curvature_of(instance) * r * r + v * v)

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        params = params.detach()
        x, y = params[:, : self.pairs], params[:, self.pairs :]
        r = x * x - y
        v = x - 1.0
        scaled = self.curvature_of(instance) * r
        along_y = scaled * -2.0
        along_x = (v - along_y * x).mul_(2.0)
        # rows of (2N, B), turned: columns of many runs lie side by side, which is how elementwise work is fast
        return self._total(scaled.mul_(r).add_(v.mul_(v))), torch.cat((along_x.t(), along_y.t())).t()

    def forward(self, params: Array, instance: Seen) -> Array:
        """``(u_1, ..., u_N, v_1, ..., v_N)`` ``(B, 2N)`` with ``L`` its squared norm."""
        xp, x, y = library(params), params[:, : self.pairs], params[:, self.pairs :]
        return xp.concatenate((xp.sqrt(self.curvature_of(instance)) * (x * x - y), x - 1.0), 1)

    def backward(self, coordinates: Array, instance: Seen) -> Array:
        """The parameters ``(B, 2N)`` of ``(u, v)``."""
        xp, x = library(coordinates), coordinates[:, self.pairs :] + 1.0
        return xp.concatenate((x, x * x - coordinates[:, : self.pairs] / xp.sqrt(self.curvature_of(instance))), 1)

    def slope(self, params: Array, gradient: Array, instance: Seen) -> Array:
        """With the gradient ``(p, q)`` of a pair: ``4 sqrt(b) (2 x p - q)`` along ``u``, ``4 p (1 - q)`` along ``v``."""
        xp, x = library(params), params[:, : self.pairs]
        p, q = gradient[:, : self.pairs], gradient[:, self.pairs :]
        along_u = 4.0 * xp.sqrt(self.curvature_of(instance)) * (2.0 * x * p - q)
        return xp.concatenate((along_u, 4.0 * p * (1.0 - q)), 1)

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            ascent = {"search": "gradient_ascent", "steps": 10, "rate": 0.1, "start": "random", "objective": "any"}
            budget = 1000 + 10 * (10 * 3 + 2)
            return Defaults(
                learning_rate=1e-3, searches=(ascent,), budget=budget, tolerance=1e-30, group_scale=torch.pi
            )
        tolerance = 2.5e-10 * self.pairs
        return Defaults(
            learning_rate=4.8e-4, searches=CHEAP_SEARCHES, budget=160, tolerance=tolerance, group_scale=torch.pi
        )

    def minimum(self, instance: Instance) -> Tensor:
        return torch.ones_like(instance.start)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 12.0 * self.pairs - 1.0  # the products and sums of `loss_and_gradient`


class Rosenbrock(RosenbrockND):
    """Rosenbrock's function of two variables, the publication's first test function.

    ## Description
    ``L(x, y) = b (x^2 - y)^2 + (x - 1)^2`` with minimum 0 at (1, 1) for every curvature ``b > 0`` (Rosenbrock, 1960;
    Zhao et al., NeurIPS 2022, eq. 3, with ``b = 100``). A steep parabolic valley with a nearly flat
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
    Gradient descent. ``"paper"``: rate 1e-3, 10 steps of ascent on the angle at rate 0.1 from an angle uniform in (0,
    pi). The budget pays for 1000 steps and 10 such teleports, and the tolerance is low enough not to end such a run
    early. Otherwise rate 6e-4, the best constant one for plain descent within 80 evaluations on the train split. The
    tolerance is about 12 orders of magnitude below a typical initial loss.

    Raises:
        ValueError: ``curvature`` is not a positive range.
    """

    name = "Rosenbrock"

    def __init__(self, curvature: Sequence[float] = (30.0, 300.0)) -> None:
        super().__init__(1, curvature)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        drawn = super().sample(generator, count, split)
        return replace(drawn, tensors={"curvature": drawn["curvature"].squeeze(1)})

    def curvature_of(self, instance: Seen) -> Array:
        return instance["curvature"][:, None]

    def defaults(self, split: str = "train") -> Defaults:
        chosen = super().defaults(split)
        return chosen if split == "paper" else replace(chosen, learning_rate=6e-4, budget=80, tolerance=2e-10)
