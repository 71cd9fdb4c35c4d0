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

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.searches.base import Start, finite_rows
from teleport_env.searches.directions import (
    ascent_direction,
    relative_direction,
)
from teleport_env.searches.moves import Point, at_start, move_along, where_points
from teleport_env.searches.objectives import squared_norm
from teleport_env.searches.scaling_sums import Scaled, ScalingOrbit, move_flops, setup_flops, step_flops
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


class Place:
    """Where ``R`` runs are on their trails; what a trail needs to know of it is its own.

    Attributes:
        state: The trail's.
        loss: ``(R,)``, evaluated or carried over.
        norm2: ``(R,)``, the squared gradient norm; None where it was not evaluated.
        finite: ``(R,)`` bool.
    """

    def __init__(self, state: Any, loss: Tensor, norm2: Tensor | None, finite: Tensor) -> None:
        self.state, self.loss, self.norm2, self.finite = state, loss, norm2, finite


class Trail(ABC):
    """A way for ``R`` runs to walk along their orbits."""

    def __init__(self, start: Start) -> None:
        self._start = start

    @abstractmethod
    def begin(self) -> Place:
        """Where the runs stand."""

    @abstractmethod
    def direction(self, place: Place, derivative: str, relative: bool) -> Any:
        """Where the gradient norm grows: its gradient (`directions.ascent_direction`), or with ``relative`` the bounded
        direction (`directions.relative_direction`). What it is made of is the trail's own."""

    @abstractmethod
    def length(self, direction: Any) -> Tensor:
        """Length ``(R,)`` of a direction in the algebra's coordinates."""

    @abstractmethod
    def along(self, place: Place, direction: Any, factor: Tensor, retract: bool) -> Place:
        """Further by ``exp(factor direction)``, or its retraction; ``factor`` ``(R,)``."""

    @abstractmethod
    def choose(self, mask: Tensor, chosen: Place, other: Place) -> Place:
        """Row by row ``chosen`` where ``mask`` ``(R,)`` is true, ``other`` elsewhere."""

    @abstractmethod
    def end(self, place: Place) -> Point:
        """Parameters, loss, gradient and element there."""


class VectorTrail(Trail):
    """A trail whose directions are vectors ``(R, d)``."""

    def length(self, direction: Tensor) -> Tensor:
        # scaled first: squares of tiny numbers vanish
        size = direction.abs().amax(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
        return size * torch.sqrt(squared_norm(direction / size[:, None]))

    def scaled(self, direction: Tensor, factor: Tensor) -> Tensor:
        """``factor direction``; zero where that is not finite, which an exponential need not see."""
        xi = direction * factor[:, None]
        return torch.where(finite_rows(xi)[:, None], xi, 0.0)


class PointTrail(VectorTrail):
    """Parameters and gradient move with every step; without ``evaluates`` the gradient is left to the caller."""

    def __init__(self, start: Start, evaluates: bool = True) -> None:
        super().__init__(start)
        self._evaluates = evaluates

    def at(self, point: Point) -> Place:
        """The place of a point."""
        norm2 = squared_norm(point.gradient) if self._evaluates else None
        return Place(point, point.loss, norm2, point.finite)

    def begin(self) -> Place:
        return self.at(at_start(self._start))

    def direction(self, place: Place, derivative: str, relative: bool) -> Tensor:
        if relative:
            return relative_direction(self._start, place.state)
        return ascent_direction(self._start, place.state, derivative)

    def along(self, place: Place, direction: Tensor, factor: Tensor, retract: bool) -> Place:
        xi = self.scaled(direction, factor)
        return self.at(move_along(self._start, place.state, xi, retract, gradient=self._evaluates))

    def choose(self, mask: Tensor, chosen: Place, other: Place) -> Place:
        norm2 = None
        if chosen.norm2 is not None and other.norm2 is not None:
            norm2 = torch.where(mask, chosen.norm2, other.norm2)
        point = where_points(self._start, mask, chosen.state, other.state)
        return Place(point, point.loss, norm2, torch.where(mask, chosen.finite, other.finite))

    def end(self, place: Place) -> Point:
        point: Point = place.state
        return point


class ScalingTrail(VectorTrail):
    """Positive scalings: vectors walk, and the matrices follow once at the end."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        assert isinstance(start.symmetry, ScalingSymmetry)
        self._symmetry = start.symmetry

    def _place(self, scaled: Scaled) -> Place:
        return Place(scaled, self._start.loss, scaled.norm2, scaled.finite)

    def begin(self) -> Place:
        self._start.evaluator.charge(Counts(flops=setup_flops(self._symmetry) + step_flops(self._symmetry)))
        self._orbit = ScalingOrbit(self._symmetry, self._start.gradient)
        place = self._place(self._orbit.start)
        place.finite = place.finite & torch.isfinite(self._start.loss) & finite_rows(self._start.params)
        return place

    def direction(self, place: Place, derivative: str, relative: bool) -> Tensor:
        below, above = place.state.below, place.state.above
        if relative:
            return (above - below) / (above + below).clamp_min(torch.finfo(above.dtype).tiny)
        return 2.0 * (above - below)

    def along(self, place: Place, direction: Tensor, factor: Tensor, retract: bool) -> Place:
        self._start.evaluator.charge(Counts(flops=step_flops(self._symmetry)))
        return self._place(self._orbit.along(place.state, self.scaled(direction, factor), retract))

    def choose(self, mask: Tensor, chosen: Place, other: Place) -> Place:
        column, a, b = mask[:, None], chosen.state, other.state
        scaled = Scaled(
            torch.where(column, a.factors, b.factors),
            torch.where(column, a.below, b.below),
            torch.where(column, a.above, b.above),
            torch.where(mask, a.norm2, b.norm2),
        )
        return Place(
            scaled,
            torch.where(mask, chosen.loss, other.loss),
            scaled.norm2,
            torch.where(mask, chosen.finite, other.finite),
        )

    def end(self, place: Place) -> Point:
        start, symmetry = self._start, self._symmetry
        start.evaluator.charge(Counts(flops=move_flops(symmetry)))
        element, inverse = self._orbit.element(place.state)
        params, gradient = symmetry.scale_both(element, inverse, start.params, start.gradient)
        return Point(params, place.loss, gradient, element)
