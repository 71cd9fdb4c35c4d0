"""Which trail or closed form a search uses, and what a trail costs.

The choice goes by what the symmetry offers, its shortcut. A shortcut of one's own, with a `FastTrail` for it, is entered in
`TRAILS`; one with a closed form in `FORMS`.
"""

from __future__ import annotations

from typing import Any, Protocol

from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.directions import direction_price, relative_price, uses_hessian
from teleport_env.searches.fast.coupled import CoupledForm
from teleport_env.searches.fast.hidden_trail import HiddenTrail
from teleport_env.searches.fast.linear_chain import ChainForm, LinearTrail
from teleport_env.searches.fast.scalings import ScalingForm, ScalingTrail
from teleport_env.searches.fast.turning_trail import TurningTrail
from teleport_env.searches.moves import along_price, times
from teleport_env.searches.pair_algebra import Sweeps
from teleport_env.searches.trails import FastTrail, PointTrail, Trail
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coupled import CoupledUnits
from teleport_env.symmetries.hidden_units import CachedActivations
from teleport_env.symmetries.pairs import LinearChain
from teleport_env.symmetries.positive_scaling import Scalings


class FastForm(Protocol):
    """A closed form on what a shortcut describes; made of the shortcut and the `Sweeps` to make."""

    def price(self) -> Counts:
        """Price of `propose` per run."""
        ...

    def propose(self, start: Start) -> Candidate:
        """The point found, with the loss carried over; charged `price`."""
        ...


TRAILS: dict[type, type[FastTrail[Any]]] = {
    Scalings: ScalingTrail,
    LinearChain: LinearTrail,
    CachedActivations: HiddenTrail,
}
"""The trail for each kind of shortcut."""

FORMS: dict[type, type[Any]] = {Scalings: ScalingForm, LinearChain: ChainForm, CoupledUnits: CoupledForm}
"""The closed form for each kind of shortcut that has one."""


def trail_of(start: Start, derivative: str, judged: bool = False) -> Trail:
    """The cheapest trail that the symmetry has; ``judged``: every step is judged by its gradient, needed or not."""
    if uses_hessian(start.symmetry, derivative):
        return PointTrail(start, evaluates=judged)
    if start.symmetry.sphere is not None:
        return TurningTrail(start, start.symmetry.sphere)
    kind = TRAILS.get(type(start.symmetry.shortcut))
    trail = None if kind is None else kind(start, start.symmetry.shortcut)
    return trail if trail is not None and trail.as_announced else PointTrail(start)


def trail_price(
    symmetry: Symmetry,
    steps: int,
    derivative: str,
    retract: bool,
    relative: bool = False,
    by_points: bool = False,
    judged: bool = False,
) -> Counts:
    """Price of ``steps`` steps per run, beginning and end included, on the trail of `trail_of` or a `PointTrail`."""
    if uses_hessian(symmetry, derivative):
        step = direction_price(symmetry, derivative) + along_price(symmetry, retract, gradient=judged)
        return times(steps, step)
    kind = None if by_points else TRAILS.get(type(symmetry.shortcut))
    if kind is not None:
        return kind.price(symmetry.shortcut, steps, retract, relative)
    direction = relative_price(symmetry) if relative else direction_price(symmetry, derivative)
    return times(steps, direction + along_price(symmetry, retract))


def form_of(symmetry: Symmetry, sweeps: Sweeps) -> FastForm | None:
    """The closed form on the symmetry's shortcut; None where there is none for that objective."""
    kind = FORMS.get(type(symmetry.shortcut))
    if kind is None or (sweeps.on_weights and not kind.moves_weights):
        return None
    form: FastForm = kind(symmetry.shortcut, sweeps)
    return form
