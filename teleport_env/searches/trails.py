"""Walking along an orbit towards larger or smaller gradient norms.

An ascent asks the same of every action: in which direction does the gradient norm grow here, and what is it further along?
How that is answered differs, and so do the costs:

* `PointTrail`: the parameters move with every step, and loss and gradient are carried along or evaluated.
* `ScalingTrail`: positive scalings. Row and column sums of the squared gradient answer both (`scaling_sums`); parameters
  and gradient move once, at the end.

* `hidden_trail.HiddenTrail`: the general linear group on hidden units, from cached activations.

`trail_choice` picks one and prices it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from teleport_env.arrays import TINY, Array, Arrays, arrays_of
from teleport_env.ledger import Counts
from teleport_env.searches.base import Start, finite_rows
from teleport_env.searches.directions import (
    ascent_direction,
    relative_direction,
)
from teleport_env.searches.moves import Point, at_start, move_along, where_points
from teleport_env.searches.objectives import squared_norm
from teleport_env.searches.pair_algebra import scaling_logs
from teleport_env.searches.scaling_sums import Scaled, ScalingOrbit, move_flops, setup_flops, step_flops
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


class Place:
    """Where ``R`` runs are on their trails; what a trail needs to know of it is its own.

    A number a run is an array of `teleport_env.arrays`, here and in `Trail`.

    Attributes:
        state: The trail's.
        loss: ``(R,)``, evaluated or carried over.
        norm2: ``(R,)``, the squared gradient norm; None where it was not evaluated.
        finite: ``(R,)`` bool.
    """

    def __init__(self, state: Any, loss: Array, norm2: Array | None, finite: Array) -> None:
        self.state, self.loss, self.norm2, self.finite = state, loss, norm2, finite


class Trail(ABC):
    """A way for ``R`` runs to walk along their orbits."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._xp = arrays_of(start.loss.device)
        self._loss = self._xp.view(start.loss)

    @abstractmethod
    def begin(self) -> Place:
        """Where the runs stand."""

    @abstractmethod
    def direction(self, place: Place, derivative: str, relative: bool) -> Any:
        """Where the gradient norm grows: its gradient (`directions.ascent_direction`), or with ``relative`` the bounded
        direction (`directions.relative_direction`). What it is made of is the trail's own."""

    @abstractmethod
    def length(self, direction: Any) -> Array:
        """Length ``(R,)`` of a direction in the algebra's coordinates."""

    @abstractmethod
    def along(self, place: Place, direction: Any, factor: Array, retract: bool) -> Place:
        """Further by ``exp(factor direction)``, or its retraction; ``factor`` ``(R,)``."""

    @abstractmethod
    def _choose(self, mask: Array, chosen: Place, other: Place) -> Any:
        """Row by row the state of ``chosen`` where ``mask`` ``(R,)`` is true, that of ``other`` elsewhere."""

    def choose(self, mask: Array, chosen: Place, other: Place) -> Place:
        """Row by row ``chosen`` where ``mask`` ``(R,)`` is true, ``other`` elsewhere."""
        if bool(mask.all()):  # as mostly
            return chosen
        if not bool(mask.any()):
            return other
        where = self._xp.where
        norm2 = None
        if chosen.norm2 is not None and other.norm2 is not None:
            norm2 = where(mask, chosen.norm2, other.norm2)
        return Place(
            self._choose(mask, chosen, other),
            where(mask, chosen.loss, other.loss),
            norm2,
            where(mask, chosen.finite, other.finite),
        )

    @abstractmethod
    def end(self, place: Place) -> Point:
        """Parameters, loss, gradient and element there."""


class VectorTrail(Trail):
    """A trail whose directions are vectors ``(R, d)``, tensors."""

    def length(self, direction: Tensor) -> Array:
        return vector_length(self._xp, self._xp.view(direction))

    def scaled(self, direction: Tensor, factor: Array) -> Tensor:
        """``factor direction``; zero where that is not finite, which an exponential need not see."""
        xi = direction * self._xp.tensor(factor)[:, None]
        return torch.where(finite_rows(xi)[:, None], xi, 0.0)


def vector_length(xp: Arrays, vectors: Array) -> Array:
    """``(R,)`` of arrays ``(R, d)``."""
    # scaled first: squares of tiny numbers vanish
    size = xp.at_least(xp.amax(abs(vectors), 1), TINY[vectors.dtype])
    scaled = vectors / size[:, None]
    xp.multiply(scaled, scaled, out=scaled)
    return size * scaled.sum(1) ** 0.5


class PointTrail(VectorTrail):
    """Parameters and gradient move with every step; without ``evaluates`` the gradient is left to the caller."""

    def __init__(self, start: Start, evaluates: bool = True) -> None:
        super().__init__(start)
        self._evaluates = evaluates

    def at(self, point: Point) -> Place:
        """The place of a point."""
        view = self._xp.view
        norm2 = view(squared_norm(point.gradient)) if self._evaluates else None
        return Place(point, view(point.loss), norm2, view(point.finite))

    def begin(self) -> Place:
        return self.at(at_start(self._start))

    def direction(self, place: Place, derivative: str, relative: bool) -> Tensor:
        if relative:
            return relative_direction(self._start, place.state)
        return ascent_direction(self._start, place.state, derivative)

    def along(self, place: Place, direction: Tensor, factor: Array, retract: bool) -> Place:
        xi = self.scaled(direction, factor)
        return self.at(move_along(self._start, place.state, xi, retract, gradient=self._evaluates))

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Point:
        return where_points(self._start, self._xp.tensor(mask), chosen.state, other.state)

    def end(self, place: Place) -> Point:
        point: Point = place.state
        return point


class ScalingTrail(Trail):
    """Positive scalings: vectors walk, arrays, and the matrices follow once at the end."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        assert isinstance(start.symmetry, ScalingSymmetry)
        self._symmetry = start.symmetry
        self._step = Counts(flops=step_flops(self._symmetry))

    def _place(self, scaled: Scaled) -> Place:
        return Place(scaled, self._loss, scaled.norm2, scaled.norm2 < math.inf)

    def begin(self) -> Place:
        self._start.evaluator.charge(Counts(flops=setup_flops(self._symmetry)) + self._step)
        self._orbit = ScalingOrbit(self._symmetry, self._start.gradient)
        place = self._place(self._orbit.start)
        place.finite = place.finite & (abs(self._loss + self._xp.view(self._start.params.sum(1))) < math.inf)
        return place

    def direction(self, place: Place, derivative: str, relative: bool) -> Array:
        below, above = place.state.below, place.state.above
        if relative:
            return scaling_logs(self._xp, "relative", below, above, 0.5)
        return 2.0 * (above - below)

    def length(self, direction: Array) -> Array:
        return vector_length(self._xp, direction)

    def along(self, place: Place, direction: Array, factor: Array, retract: bool) -> Place:
        self._start.evaluator.charge(self._step)
        # what is not finite stays so, and is found in the norm
        return self._place(self._orbit.along(place.state, direction * factor[:, None], retract))

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Scaled:
        where, column, a, b = self._xp.where, mask[:, None], chosen.state, other.state
        return Scaled(
            where(column, a.factors, b.factors),
            where(column, a.below, b.below),
            where(column, a.above, b.above),
            where(mask, a.norm2, b.norm2),
        )

    def end(self, place: Place) -> Point:
        start, symmetry = self._start, self._symmetry
        start.evaluator.charge(Counts(flops=move_flops(symmetry)))
        factors = place.state.factors
        params, gradient = symmetry.scale_both(factors, 1.0 / factors, start.params, start.gradient)
        element = self._xp.tensor(factors).split(list(symmetry.layers.hidden), dim=1)
        return Point(params, self._xp.tensor(place.loss), gradient, element)
