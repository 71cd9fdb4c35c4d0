"""Walking along an orbit towards larger or smaller gradient norms.

An ascent asks the same of every action: in which direction does the gradient norm grow here, and what is it further along?
How that is answered differs, and so do the costs:

* `PointTrail`: the parameters move with every step, and loss and gradient are carried along or evaluated.
* `FastTrail`: something smaller moves, which the symmetry offers (`Symmetry.shortcut`); parameters and gradient follow once,
  at the end. Those of `teleport_env.searches.fast` are such.

`trail_choice` picks one and prices it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from teleport_env.arrays import TINY, TORCH, Array, Arrays, arrays_of
from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start, finite_rows
from teleport_env.searches.directions import ascent_direction, relative_direction
from teleport_env.searches.moves import at_start, move_along, where_points
from teleport_env.searches.objectives import squared_norm
from teleport_env.symmetries.base import Shortcut


@dataclass
class Place:
    """Where ``R`` runs are on their trails; numbers are arrays of `teleport_env.arrays`, here and in `Trail`.

    Attributes:
        state: Values that the trail needs at this place.
        loss: ``(R,)``, evaluated or carried over.
        norm2: ``(R,)``, the squared gradient norm; None where it was not evaluated.
        finite: ``(R,)`` bool.
    """

    state: Any
    loss: Array
    norm2: Array | None
    finite: Array


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
        """`directions.ascent_direction`, or with ``relative`` `relative_direction` there, in the trail's own form."""

    @abstractmethod
    def length(self, direction: Any) -> Array:
        """Length ``(R,)`` of a direction in the algebra's coordinates."""

    @abstractmethod
    def along(self, place: Place, direction: Any, factor: Array, retract: bool) -> Place:
        """Further by ``exp(factor direction)``, or its retraction; ``factor`` ``(R,)``."""

    @abstractmethod
    def _choose(self, mask: Array, chosen: Place, other: Place) -> Any:
        """The states' part of `choose`."""

    def choose(self, mask: Array, chosen: Place, other: Place) -> Place:
        """Row by row ``chosen`` where ``mask`` ``(R,)`` is true, ``other`` elsewhere."""
        if bool(mask.all()):  # as mostly
            return chosen
        if not bool(mask.any()):
            return other
        pairs = (chosen.loss, other.loss), (chosen.norm2, other.norm2), (chosen.finite, other.finite)
        numbers = (None if one is None else self._xp.where(mask, one, two) for one, two in pairs)
        return Place(self._choose(mask, chosen, other), *numbers)

    @abstractmethod
    def end(self, place: Place) -> Candidate:
        """Parameters, loss, gradient and element there."""


def vector_length(xp: Arrays, vectors: Array) -> Array:
    """``(R,)`` of arrays ``(R, d)``."""
    # scaled first: squares of tiny numbers vanish
    size = xp.at_least(xp.amax(abs(vectors), 1), TINY[vectors.dtype])
    scaled = vectors / size[:, None]
    xp.multiply(scaled, scaled, out=scaled)
    return size * scaled.sum(1) ** 0.5


class PointTrail(Trail):
    """Parameters and, with ``evaluates``, the gradient move with every step. A direction is a tensor ``(R, d)``."""

    def __init__(self, start: Start, evaluates: bool = True) -> None:
        super().__init__(start)
        self._evaluates = evaluates

    def at(self, point: Candidate) -> Place:
        """The place of a point."""
        view = self._xp.view
        norm2 = view(squared_norm(point.gradient)) if self._evaluates else None
        return Place(point, view(point.loss), norm2, view(point.finite))

    def begin(self) -> Place:
        return self.at(at_start(self._start))

    def direction(self, place: Place, derivative: str, relative: bool) -> Tensor:
        if relative:
            return relative_direction(self._start, self._start.symmetry, place.state.gradient)
        return ascent_direction(self._start, place.state, derivative)

    def length(self, direction: Tensor) -> Array:
        return vector_length(self._xp, self._xp.view(direction))

    def along(self, place: Place, direction: Tensor, factor: Array, retract: bool) -> Place:
        xi = direction * self._xp.tensor(factor)[:, None]
        xi = torch.where(finite_rows(xi)[:, None], xi, 0.0)  # an exponential need not see what is not finite
        return self.at(move_along(self._start, place.state, xi, retract, gradient=self._evaluates))

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Candidate:
        return where_points(self._start, self._xp.tensor(mask), chosen.state, other.state)

    def end(self, place: Place) -> Candidate:
        point: Candidate = place.state
        return point


S = TypeVar("S", bound=Shortcut)


class FastTrail(Trail, Generic[S]):
    """A trail on what their symmetry's ``shortcut`` describes."""

    def __init__(self, start: Start, shortcut: S) -> None:
        super().__init__(start)
        self._shortcut = shortcut
        self._m = self._xp  # for matrices: a subclass takes torch's where they are large

    @staticmethod
    @abstractmethod
    def price(shortcut: S, steps: int, retract: bool, relative: bool) -> Counts:
        """What a walk of so many steps costs a run, beginning and end included."""

    @property
    def as_announced(self) -> bool:
        """Whether the data are as the price has them."""
        return True

    def _place(self, state: Any, norm2: Array) -> Place:
        """Where the carried loss holds and the squared gradient norm, an array for matrices, is ``norm2``."""
        norm2 = self._number(norm2)
        return Place(state, self._loss, norm2, norm2 < math.inf)

    def _choose(self, mask: Array, chosen: Place, other: Place) -> Any:
        """Of a dataclass of arrays, or lists of arrays, each with one row per run, or per run for one pair after another."""
        runs = self._for_matrices(mask)

        def pick(one: Any, two: Any) -> Any:
            if one is two:
                return one
            if isinstance(one, list):
                return [pick(*both) for both in zip(one, two, strict=True)]
            repeats = len(one) // len(runs)
            rows = runs if repeats == 1 else self._m.concatenate([runs] * repeats, 0)
            return self._m.where(rows.reshape(-1, *[1] * (one.ndim - 1)), one, two)

        a, b = chosen.state, other.state
        return type(a)(*(pick(getattr(a, field.name), getattr(b, field.name)) for field in fields(a)))

    def _sum_of_products(self, ones: Sequence[Array], others: Sequence[Array]) -> Array:
        """``(R,)``, the sums of the products of the entries of several matrices."""
        total: Array = 0.0
        for one, other in zip(ones, others, strict=True):
            total = total + self._m.inner(one, other)
        return total

    def _matrices_up_to(self, small: bool) -> None:
        """NumPy is quicker for ``small`` matrices, torch for others."""
        self._m = self._xp if small else TORCH

    def _number(self, values: Array) -> Array:
        """One per run, from an array for matrices."""
        return values if self._m is self._xp else self._xp.view(self._m.tensor(values))

    def _for_matrices(self, values: Array) -> Array:
        """The same in the other direction."""
        return values if self._m is self._xp else self._m.view(self._xp.tensor(values))
