"""Ascent over rotations, in the coordinates that they turn.

Loss and gradient are evaluated where a step ends, as on any trail of points and at the same price. All else is elementwise
work on a few numbers per run, and so done on arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from teleport_env.arrays import Array, row_dots
from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.directions import direction_price
from teleport_env.searches.moves import along_price
from teleport_env.searches.plane_rotation import Turning
from teleport_env.searches.trails import Place, Trail, vector_length
from teleport_env.symmetries.base import Sphere


@dataclass
class Point:
    """Where ``R`` runs are: parameters and the loss's gradient there, ``(R, n)`` each."""

    params: Array
    gradient: Array


class TurningTrail(Trail):
    """A trail of points on spheres. A direction is where it begins, in coordinates, and what `Turning.direction` says."""

    def __init__(self, start: Start, sphere: Sphere) -> None:
        super().__init__(start)
        self._turning = Turning(sphere, start.evaluator)
        self._m = self._turning.xp
        self._direction_price = direction_price(start.symmetry, "hessian_free")
        # `Evaluator` charges the gradient
        self._along_price = Counts(flops=along_price(start.symmetry, retract=False, gradient=False).flops)

    def begin(self) -> Place:
        start, view = self._start, self._m.view
        return self._place(Point(view(start.params.detach()), view(start.gradient.detach())), self._loss)

    def _place(self, at: Point, loss: Array) -> Place:
        norm2 = self._number(row_dots(self._m, at.gradient, at.gradient))
        # sums are finite only if all their terms are
        total = self._number(at.params.sum(1) + at.gradient.sum(1)) + loss
        return Place(at, loss, norm2, abs(total) < math.inf)

    def direction(self, place: Place, derivative: str, relative: bool) -> tuple[Array, Array]:
        self._start.evaluator.charge(self._direction_price)
        at: Point = place.state
        with torch.no_grad():
            u = self._turning.coordinates(at.params)
            return u, self._turning.direction(u, at.params, at.gradient)

    def length(self, direction: tuple[Array, Array]) -> Array:
        angles = direction[1]
        return self._number(abs(angles[:, 0]) if angles.shape[1] == 1 else vector_length(self._m, angles))

    def along(self, place: Place, direction: tuple[Array, Array], factor: Array, retract: bool) -> Place:
        m, start = self._m, self._start
        start.evaluator.charge(self._along_price)
        angles = direction[1] * m.view(self._xp.tensor(factor))[:, None]
        usable = abs(angles.sum(1)) < math.inf
        if not bool(usable.all()):  # sine and cosine need not see what is not finite
            angles = m.where(usable[:, None], angles, 0.0)
        with torch.no_grad():
            params = self._turning.back(self._turning.turned(direction[0], angles))
            loss, gradient = start.evaluator.loss_and_gradient(m.tensor(params))
        return self._place(Point(params, m.view(gradient)), self._xp.view(loss))

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Any:
        m, a, b = self._m, chosen.state, other.state
        rows = m.view(self._xp.tensor(mask))[:, None]
        return Point(m.where(rows, a.params, b.params), m.where(rows, a.gradient, b.gradient))

    def end(self, place: Place) -> Candidate:
        at, tensor = place.state, self._m.tensor
        return Candidate(tensor(at.params), self._xp.tensor(place.loss), tensor(at.gradient))

    def _number(self, values: Array) -> Array:
        """One per run, from an array of the coordinates' kind."""
        return values if self._m is self._xp else self._xp.view(self._m.tensor(values))
