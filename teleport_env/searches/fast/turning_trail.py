"""Ascent over rotations, in the coordinates that they turn.

The coordinates walk and the parameters follow, as arrays: what a step costs is calls on a few numbers per run. Loss and
gradient are evaluated where a step ends, as on any trail of points, and at the same price.
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
class Turned:
    """Where ``R`` runs are, ``(R, n)`` each: coordinates, parameters, and the loss's gradient there."""

    u: Array
    params: Array
    gradient: Array


class TurningTrail(Trail):
    """A trail of points on spheres. A direction is an array ``(R, d)``, see `Turning`."""

    def __init__(self, start: Start, sphere: Sphere) -> None:
        super().__init__(start)
        self._turning = Turning(sphere, start.evaluator)
        self._m = self._turning.xp
        self._direction_price = direction_price(start.symmetry, "hessian_free")
        # `Evaluator` charges the gradient
        self._along_price = Counts(flops=along_price(start.symmetry, retract=False, gradient=False).flops)

    def begin(self) -> Place:
        start, view = self._start, self._m.view
        params, gradient = view(start.params.detach()), view(start.gradient.detach())
        return self._place(Turned(self._turning.coordinates(params), params, gradient), self._loss)

    def _place(self, at: Turned, loss: Array) -> Place:
        m = self._m
        norm2 = self._number(row_dots(m, at.gradient, at.gradient))
        # sums are finite only if all their terms are
        total = abs(self._number(at.params.sum(1)) + loss)
        return Place(at, loss, norm2, (total < math.inf) & (norm2 < math.inf))

    def direction(self, place: Place, derivative: str, relative: bool) -> Array:
        self._start.evaluator.charge(self._direction_price)
        at: Turned = place.state
        with torch.no_grad():
            return self._turning.direction(at.u, at.params, at.gradient)

    def length(self, direction: Array) -> Array:
        if direction.shape[1] == 1:
            return self._number(abs(direction[:, 0]))
        return self._number(vector_length(self._m, direction))

    def along(self, place: Place, direction: Array, factor: Array, retract: bool) -> Place:
        m, start = self._m, self._start
        start.evaluator.charge(self._along_price)
        by = m.view(self._xp.tensor(factor))[:, None]
        angles = direction * by
        usable = abs(angles.sum(1)) < math.inf
        if not bool(usable.all()):  # sine and cosine need not see what is not finite
            angles = m.where(usable[:, None], angles, 0.0)
        with torch.no_grad():
            u = self._turning.turned(place.state.u, angles)
            params = self._turning.back(u)
            loss, gradient = start.evaluator.loss_and_gradient(m.tensor(params))
        return self._place(Turned(u, params, m.view(gradient)), self._xp.view(loss))

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Any:
        m = self._m
        rows = m.view(self._xp.tensor(mask))[:, None]
        a, b = chosen.state, other.state
        return Turned(
            *(m.where(rows, one, two) for one, two in ((a.u, b.u), (a.params, b.params), (a.gradient, b.gradient)))
        )

    def end(self, place: Place) -> Candidate:
        at, tensor = place.state, self._m.tensor
        return Candidate(tensor(at.params), self._xp.tensor(place.loss), tensor(at.gradient))

    def _number(self, values: Array) -> Array:
        """One per run, from an array of the coordinates' kind."""
        return values if self._m is self._xp else self._xp.view(self._m.tensor(values))
