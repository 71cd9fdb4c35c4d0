"""What the problems with a closed formula have in common.

Each is ``L(w) = |phi(w)|^2`` with an invertible ``phi``, so that the rotations of ``phi`` are its symmetry, and has one
published (or fixed) instance beside a distribution of instances whose ranges are its constructor's arguments.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.instances import Instance
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.reading import entries, number, refuse
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coordinate_change import CoordinateChange

Range = tuple[float, float]
"""``(low, high)``."""

Seen: TypeAlias = "Instance | Mapping[str, Any]"
"""Instances, or what they are on arrays."""

CHEAP_SEARCHES: tuple[dict[str, Any], ...] = (
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
)
"""The menu outside the paper's split: searches that cost a few evaluations, because budgets there are short. Random elements
are judged by the step that follows: the steepest of a few makes the next step of Rosenbrock's function diverge."""

AFFINE_SEARCHES: tuple[dict[str, Any], ...] = ({"search": "closed_form"}, *CHEAP_SEARCHES)
"""The same where the coordinates are affine: the steepest point of the level set is known in closed form (Zhao et al.,
NeurIPS 2022, Proposition C.2), and from there descent runs straight to the minimum."""


def positive_range(name: str, value: Sequence[float], least: float = 0.0) -> Range:
    """``value`` as a pair of floats, checked: finite, ``low <= high``, both above 0 and not below ``least``.

    Args:
        name: Name of the range, for the message.
        value: ``(low, high)``.
        least: Smallest number allowed, 1 for a condition number.

    Raises:
        ValueError: It is not such a range.
    """
    allowed = f"two finite numbers 0 < low <= high{f', neither below {least:g}' if least > 0 else ''}"
    read = [number(f"an entry of {name}", entry, finite=False) for entry in entries(name, value, "two numbers")]
    if len(read) != 2 or not (0 < read[0] <= read[1] < math.inf and read[0] >= least):
        refuse(name, f"(low, high), {allowed}", value)
    return read[0], read[1]


def log_uniform(generator: Streams, bounds: Range, size: Sequence[int] = ()) -> Tensor:
    """``(B, *size)`` float64 whose logarithm is uniform between the logarithms of ``bounds``."""
    return torch.exp(generator.uniform(math.log(bounds[0]), math.log(bounds[1]), size))


def on_circle(generator: Streams, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Two coordinates, each ``(B,)``, of a uniformly random direction times ``radius`` ``(B,)``."""
    angle = generator.uniform(0.0, 2.0 * math.pi)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def runs_innermost(tensor: Tensor) -> Tensor:
    """The same ``(B, ...)`` tensor with its leading axis innermost in memory.

    One entry of many runs then lies side by side, which makes elementwise work on columns two to four times faster.
    """
    return tensor.movedim(0, -1).contiguous().movedim(-1, 0)


Turns: TypeAlias = "tuple[str, Callable[[Any, Instance], tuple[Tensor, ...]]]"
"""Name of coordinates in `teleport_env.native`, and from problem and instances to what a kernel needs to turn them."""


class AnalyticProblem(Problem):
    """A loss ``|phi(w)|^2`` with rotations as its symmetry and one instance in the split ``"paper"``.

    Args:
        dimension: Number of parameters ``P``.
        matrix: The linear part of ``phi`` as a function of the instance, where ``phi`` is affine.
    """

    turns: ClassVar[Turns | None] = None
    """The coordinates that compiled searches know beside the formulas written here (`teleport_env.searches.fast.turns`)."""

    def __init__(self, dimension: int, matrix: Callable[[Instance], Tensor] | None = None) -> None:
        rotation = CoordinateChange(
            self.forward, self.backward, dimension, matrix=matrix, slope=self.slope, on_arrays=True
        )
        self._symmetries = {"rotation": rotation}

    # The three take tensors, then differentiably, or arrays of `teleport_env.arrays` and `Instance.seen_by`.

    @abstractmethod
    def forward(self, params: Array, instance: Seen) -> Array:
        """The coordinates ``phi(w)`` ``(B, P)`` in which the loss is their squared norm."""

    @abstractmethod
    def backward(self, coordinates: Array, instance: Seen) -> Array:
        """The parameters ``(B, P)`` at ``coordinates`` ``(B, P)``, the inverse of `forward`."""

    @abstractmethod
    def slope(self, params: Array, gradient: Array, instance: Seen) -> Array:
        """The derivative ``(B, P)`` of ``|grad L|^2`` in the coordinates, from the parameters and ``grad L`` there.

        Where ``phi`` is affine, ``u = A w + c``, the gradient is ``2 A' u`` and this is ``4 A grad L``.
        """

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return self._symmetries

    def residuals(self, params: Tensor, instance: Instance) -> Tensor:
        """The coordinates."""
        return self.forward(params, instance)

    def jacobian_price(self, instance: Instance) -> float:
        """The derivative of the coordinates, from which gradients are made."""
        return 1.0

    def num_instances(self, split: str) -> int | None:
        return 1 if split == "paper" else None
