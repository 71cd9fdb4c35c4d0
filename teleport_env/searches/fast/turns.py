"""Compiled searches over rotations, for problems whose coordinates a kernel knows.

A kernel does for every run what `NormalizedAscent`, the choice among candidates and `Turning` do on arrays, at the same
price: an ascent of three steps takes one call in place of a hundred. The problem names its coordinates
(`AnalyticProblem.turns`). A subclass that overrides one of its formulas is not bypassed, nor an instance on which one is
patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from teleport_env.arrays import CHAIN
from teleport_env.native import KERNELS
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Start, allowance

_FORMULAS = ("turns", "forward", "backward", "slope", "loss", "loss_and_gradient", "matrix")


@lru_cache(maxsize=64)
def _served(kind: type[Problem]) -> bool:
    """Whether a class has all the formulas beside which it names the kernel, and none that a subclass has put in between."""
    bases = kind.__mro__
    owners = [next((at for at, base in enumerate(bases) if name in vars(base)), len(bases)) for name in _FORMULAS]
    return owners[0] <= min(owners)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _reached(reach: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Angles with their cosines and sines, ``(K,)`` each; not to be written to."""
    angles = torch.tensor(reach, dtype=torch.float64, device="cpu")
    return angles, torch.cos(angles), torch.sin(angles)


@dataclass(frozen=True)
class Turns:
    """The kernels for where some runs stand.

    Attributes:
        start: Starting points of the runs.
        kind: Name of the coordinates.
        data: The problem's own data.
    """

    start: Start
    kind: str
    data: tuple[Tensor, ...]

    @classmethod
    def of(cls, start: Start) -> Turns | None:
        """None where there are no kernels for the runs' problem and symmetry."""
        problem, symmetry = start.evaluator.problem, start.symmetry
        named: Any = getattr(problem, "turns", None)
        if (
            not hasattr(KERNELS, "turn_choose")
            or named is None
            or symmetry.sphere is None
            or start.params.dtype != torch.float64
        ):
            return None
        if problem.symmetries.get(symmetry.name) is not symmetry or vars(problem).keys() & set(_FORMULAS):
            return None
        if not _served(type(problem)):
            return None
        kind, data = named
        return cls(start, kind, data(problem, start.instance))

    def direction(self, params: Tensor, gradient: Tensor) -> Tensor | None:
        """`Turning.direction` of tensors."""
        found: Tensor | None = KERNELS.turn_direction(self.kind, params, gradient, *self.data)
        return found

    def ascended(
        self, lengths: Sequence[float], trust: float, shrink: float, sign: float, tolerance: float | None
    ) -> Candidate | None:
        """What `NormalizedAscent` proposes after steps of these lengths; not charged."""
        steps = torch.tensor(lengths, dtype=torch.float64, device="cpu")
        return self._found("turn_ascend", (steps, trust, shrink, sign), tolerance)

    def chosen(self, angles: Tensor, sign: float, by_next_step: bool, tolerance: float | None) -> Candidate | None:
        """The best of ``R x K`` points at ``angles`` ``(R, K, d)``, as `best_of` has it; not charged."""
        in_plane = self.start.params.shape[1] == 2
        turned = (angles, torch.cos(angles), torch.sin(angles)) if in_plane else (angles, None, None)
        rate = self.start.learning_rate if by_next_step else None
        return self._found("turn_choose", (rate, *turned, sign), tolerance)

    def ahead(self, reach: tuple[float, ...], sign: float, tolerance: float | None) -> Candidate | None:
        """The best of the points that turns of these lengths along the direction of ascent lead to; not charged.

        The loss of the next step decides, as `VirtualStep` has it.
        """
        if self.start.params.shape[1] > CHAIN:  # the lengths of longer directions are the library's sums
            return None
        return self._found("turn_ahead", (self.start.learning_rate, *_reached(reach), sign), tolerance)

    def tangents(self, drawn: Tensor) -> tuple[Tensor, Tensor] | None:
        """Make tangents of random vectors ``(R, K, n)``, in place; see `Turning.random`.

        Returns:
            Cosines ``(R, K)`` of the angles to them, and lengths ``(R, K)`` of the tangents; None where nothing was done.
        """
        if drawn.shape[2] > CHAIN:
            return None
        cosine, length = drawn.new_empty(2, *drawn.shape[:2])
        standing = self.start.params, self.start.gradient
        done = KERNELS.turn_tangents(self.kind, *standing, drawn, cosine, length, *self.data)
        return None if done is None else (cosine, length)

    def extreme(self, sign: float, tolerance: float | None) -> Candidate | None:
        """The point of the longest gradient, or the shortest for a negative sign (`optimal_element`); not charged.

        None also where the coordinates are no affine ones of the plane.
        """
        if self.start.symmetry.sphere is None or not self.start.symmetry.sphere.affine:
            return None
        return self._found("turn_settle", (sign,), tolerance)

    def _found(self, kernel: str, settings: tuple[Any, ...], tolerance: float | None) -> Candidate | None:
        start = self.start
        scale = start.loss if start.scale is None else start.scale
        standing = (start.params, start.gradient, start.loss, scale)
        found = getattr(KERNELS, kernel)(
            self.kind, *standing, *settings, *allowance(start.loss.dtype, tolerance), *self.data
        )
        return None if found is None else Candidate(*found)
