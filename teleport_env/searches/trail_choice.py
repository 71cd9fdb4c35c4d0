"""Which trail a search walks on, and what that costs."""

from __future__ import annotations

from teleport_env.ledger import Counts
from teleport_env.searches import hidden_trail, linear_chain
from teleport_env.searches.base import Start
from teleport_env.searches.directions import direction_price, relative_price, uses_hessian
from teleport_env.searches.hidden_trail import HiddenTrail
from teleport_env.searches.linear_chain import LinearTrail
from teleport_env.searches.moves import along_price, times
from teleport_env.searches.scaling_sums import move_flops, setup_flops, step_flops
from teleport_env.searches.trails import PointTrail, ScalingTrail, Trail
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.hidden_units import HiddenUnits
from teleport_env.symmetries.linear_pair import LinearPairs
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


def trail_of(start: Start, derivative: str) -> Trail:
    """The cheapest trail that the symmetry has."""
    if uses_hessian(start.symmetry, derivative):
        return PointTrail(start, evaluates=False)
    if isinstance(start.symmetry, ScalingSymmetry):
        return ScalingTrail(start)
    if linear_chain.serves(start.symmetry):
        return LinearTrail(start)
    if hidden_trail.serves(start.symmetry):
        trail = HiddenTrail(start)
        if trail.as_announced:
            return trail
    return PointTrail(start)


def trail_price(
    symmetry: Symmetry,
    steps: int,
    derivative: str,
    retract: bool,
    relative: bool = False,
    by_points: bool = False,
) -> Counts:
    """What ``steps`` steps cost a run, beginning and end included, on the trail of `trail_of` or a `PointTrail`."""
    if uses_hessian(symmetry, derivative):
        step = direction_price(symmetry, derivative) + along_price(symmetry, retract, gradient=False)
        return times(steps, step)
    if isinstance(symmetry, ScalingSymmetry) and not by_points:
        return Counts(flops=setup_flops(symmetry) + (steps + 1) * step_flops(symmetry) + move_flops(symmetry))
    if linear_chain.serves(symmetry) and not by_points:
        assert isinstance(symmetry, LinearPairs)
        return linear_chain.price(symmetry, steps, retract, relative)
    if hidden_trail.serves(symmetry) and not by_points:
        assert isinstance(symmetry, HiddenUnits)
        return hidden_trail.price(symmetry, steps, retract)
    direction = relative_price(symmetry) if relative else direction_price(symmetry, derivative)
    return times(steps, direction + along_price(symmetry, retract))
