"""The paper's networks as its released code moves them, with the mistakes taken out one at a time.

The released code takes ``g = 1 + T`` for the group element where this project takes the exponential, and moves wherever its
ascent ends. `PublishedRegression` offers the actions of that form, so that three variants differ in one thing each:

* ``published_increments``: eq. 11 with ``g = 1 + T``, the true inverse, and layer inputs from the weights moved so far;
* ``residual_increments``: the same in the residual form;
* ``general_linear_first_order`` (the problem's own): as released, with ``1 - T`` for the inverse and stale layer inputs.

It is a problem as any user could bring it, and is handed to the environment as one (``problem=``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reproduction import plain
from reproduction.course import play
from teleport_env.agents.schedules import AtSteps
from teleport_env.groups.general_linear import GL
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.problems.mlp_regression import MLPRegression
from teleport_env.problems.network_problem import NetworkProblem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.moves import along_price, at_start, move_along, where_points
from teleport_env.searches.settings import kind, require_common, require_count
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.hidden_units import FirstOrder, HiddenUnits, times_pseudo_inverse
from teleport_env.symmetries.networks import FeedForward, product
from teleport_env.symmetries.pairs import hidden_group

PUBLISHED, RESIDUAL, RELEASED = "published_increments", "residual_increments", "general_linear_first_order"


@dataclass(frozen=True)
class Increments(GL):
    """Invertible matrices whose coordinates are ``g - 1`` in place of a logarithm: ``exp(xi)`` is ``1 + T``.

    Agrees with the exponential to first order, which is all that an ascent re-based at every step needs for its direction.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__.update(exp_flops=0.0)

    def exp(self, xi: Tensor) -> Tensor:
        """``1 + T`` ``(B, n, n)``."""
        return self.identity(len(xi), xi.dtype, xi.device) + self.algebra(xi)

    def retract(self, xi: Tensor) -> Tensor:
        return self.exp(xi)


class IncrementalHiddenUnits(HiddenUnits):
    """`HiddenUnits` whose elements are given by their increments."""

    def __init__(self, network: FeedForward, name: str, form: str, *, examples: int | None = None) -> None:
        super().__init__(network, name, form, examples=examples)
        self.group = hidden_group(self.layers, [Increments(width) for width in self.layers.hidden])


class PublishedRegression(MLPRegression):
    """`MLPRegression` with the two actions by increments beside its own."""

    @cached_property
    def _increments(self) -> dict[str, Symmetry]:
        forms = {PUBLISHED: "published", RESIDUAL: "residual"}
        return {
            name: IncrementalHiddenUnits(self.network, name, form, examples=self.samples)
            for name, form in forms.items()
        }

    @property
    def symmetries(self) -> dict[str, Symmetry]:
        return {**super().symmetries, **self._increments}


@kind
@dataclass(frozen=True, kw_only=True)
class ReleasedAscent(Search):
    """The ascent of the released code: ``T = rate * d/dT``, ``g = 1 + T``, all steps, no bound, wherever it ends.

    The released code differentiates a sum of squares that is not quite ``|grad L(g.w)|^2``. The upper weights of a pair are
    built from the inputs of their layer, which depend on the weights below; its derivative by those follows this path too,
    so that what it squares is the gradient of another function of the lower weights.

    Attributes:
        steps: Number of steps of the ascent.
        rate: Its step size; negative descends, which is a control.
        as_released: Square what the released code squares; else the gradient itself.
    """

    kind: ClassVar[str] = "released_ascent"

    steps: int = 8
    rate: float = 1e-7
    as_released: bool = True
    objective: str = "any"

    def __post_init__(self) -> None:
        require_common(self, ("any",))
        require_count(self, "steps")
        if self.rate == 0.0 or not math.isfinite(self.rate):
            raise ValueError(f"rate of search {self.kind!r} must be a number other than 0, got {self.rate!r}")

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        """Raise ValueError unless the symmetry is one of this module's, on a network problem."""
        if not isinstance(symmetry, HiddenUnits | FirstOrder) or not isinstance(problem, NetworkProblem):
            raise ValueError(
                f"search {self.kind!r} moves the hidden units of a network through its activation; symmetry "
                f"{symmetry.name!r} does not. Use one of {PUBLISHED!r}, {RESIDUAL!r}, {RELEASED!r}"
            )

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        flops = self.steps * (along_price(symmetry, False, gradient=False).flops + 2.0 * symmetry.move_flops)
        return Counts(gradient=self.steps + 1.0, hessian_vector=float(self.steps), flops=flops)

    def propose(self, start: Start) -> Candidate:
        point = at_start(start)
        failed = ~point.finite
        for _ in range(self.steps):
            start.evaluator.charge(Counts(gradient=1.0, hessian_vector=1.0, flops=2.0 * start.symmetry.move_flops))
            direction = self.rate * released_direction(start, point.params, self.as_released)
            usable = torch.isfinite(direction).all(dim=1)
            moved = move_along(start, point, torch.where(usable[:, None], direction, 0.0), False, gradient=False)
            failed |= ~usable | ~torch.isfinite(moved.params).all(dim=1)
            point = where_points(start, ~failed, moved, point)
        loss, gradient = start.evaluator.loss_and_gradient(point.params)
        return Candidate(point.params, torch.where(failed, torch.nan, loss), gradient, element=point.element)


def released_direction(start: Start, params: Tensor, as_released: bool) -> Tensor:
    """The derivative by ``T`` at 0 of the sum of squares that `ReleasedAscent` climbs, ``(R, group.dim)``."""
    problem, symmetry = start.evaluator.problem, start.symmetry
    assert isinstance(problem, NetworkProblem)
    assert isinstance(symmetry, HiddenUnits | FirstOrder)
    network = symmetry.network
    with torch.enable_grad():
        weights = [matrix.detach().requires_grad_(True) for matrix in symmetry.layers.weights(params)]
        value = network.inputs(start.instance, start.batch)
        increments = []
        for index, width in enumerate(symmetry.layers.hidden):
            increment = params.new_zeros(len(params), width, width, requires_grad=True)
            element = torch.eye(width, dtype=params.dtype) + increment
            lower, upper = weights[index], weights[index + 1]
            output = network.apply(lower, value)
            target = network.activation.inverse(product(element, network.activation(output)))
            if symmetry.form == "residual":
                weights[index] = lower + times_pseudo_inverse(target - output, value)
            else:
                weights[index] = times_pseudo_inverse(target, value)
            weights[index + 1] = upper - product(upper, increment)  # of first order in T the inverse is 1 - T
            value = network.activation(network.apply(weights[index], value))
            increments.append(increment)
        # Zeros added to the weights take the partial derivatives; the weights themselves, the released code's.
        places = weights if as_released else [torch.zeros_like(w, requires_grad=True) for w in weights]
        used = weights if as_released else [w + place for w, place in zip(weights, places, strict=True)]
        value = network.inputs(start.instance, start.batch)
        for weight in used[:-1]:
            value = network.activation(network.apply(weight, value))
        loss = problem.output_loss(network.apply(used[-1], value), start.instance, start.batch)
        slopes = torch.autograd.grad(loss.sum(), places, create_graph=True)
        squared = sum((slope**2).sum() for slope in slopes)
        assert isinstance(squared, Tensor)
        directions = torch.autograd.grad(squared, increments)
    return torch.cat([direction.flatten(1) for direction in directions], dim=1)


TURNS, REPEATS = 5, 8
"""Turns of a measurement of time, which give its interval, and repetitions of each, the least of which counts."""

Times = tuple[tuple[float, float], ...]
"""Processor seconds of a gradient step and of an ascent step, turn by turn."""


@cache
def turns(optimizer: str, learning_rate: float, repeats: int = REPEATS) -> dict[str, Times]:
    """`Times` of ``"seconds"``, by what the paper writes down, and of ``"seconds_here"``, by the environment. Measured once
    per process: the regression and its sweep have the same (figures 3 and 8)."""
    return {
        "seconds": tuple(plain.seconds(optimizer, repeats) for _ in range(TURNS)),
        "seconds_here": tuple(seconds(optimizer, learning_rate, repeats) for _ in range(TURNS)),
    }


def least(times: Times) -> tuple[float, float]:
    """Seconds of a gradient step and of an ascent step, the least of the turns."""
    return min(step for step, _ in times), min(ascent for _, ascent in times)


def seconds(optimizer: str, learning_rate: float, repeats: int, steps: int = 16) -> tuple[float, float]:
    """Processor seconds of a step and of an ascent step of a single run in the environment, the least of several.

    Its gradient step is compiled and its ascent is autograd's: beside a step an ascent looks dearer here than by the
    published formulas, which `plain.seconds` times.
    """
    search = {"search": "released_ascent", "steps": steps, "rate": 1e-9}
    environment = {"optimizer": optimizer, "learning_rate": learning_rate, "problem": PublishedRegression()}
    agent = AtSteps(steps=(5,), environment={**environment, "symmetry": PUBLISHED, "searches": [search]})
    stepping, ascending = [], []
    for _ in range(repeats):
        gaps = np.diff(play("MLPRegression", agent, 40).seconds)
        stepping.append(float(np.median(gaps)))
        ascending.append((float(gaps[4]) - stepping[-1]) / steps)
    return min(stepping), min(ascending)
