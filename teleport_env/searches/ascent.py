"""Ascent on the gradient norm within the group, step by step from where the last step ended.

Each step is re-based: ``xi = 0`` is the point reached so far, so that only first derivatives at the identity are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from teleport_env.arrays import TINY, Array, Arrays, arrays_of
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start, kept_loss
from teleport_env.searches.directions import (
    DERIVATIVES,
    require_direction,
    require_pairs,
    require_reach,
    uses_hessian,
)
from teleport_env.searches.fast.chains import Chains
from teleport_env.searches.fast.turns import Turns
from teleport_env.searches.moves import (
    known_price,
    random_point,
    random_price,
    verified,
    verify_price,
)
from teleport_env.searches.objectives import squared_norm
from teleport_env.searches.settings import (
    kind,
    require_choice,
    require_common,
    require_count,
    require_positive,
)
from teleport_env.searches.trail_choice import trail_of, trail_price
from teleport_env.searches.trails import PointTrail, Trail
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class GradientAscent(Search):
    """The publication's search: ``T = rate * d |grad L(exp(xi).w)|^2 / d xi``, then ``w <- exp(T).w``, ``steps`` times.

    Zhao et al., NeurIPS 2022, Algorithm 1. The direction needs no Hessian where the action keeps the loss, and the loss is
    evaluated only where it cannot be carried over. All steps count, the last one too.

    A run whose step ends in numbers that are not finite stays at the point before it and is rejected in the end.

    Attributes:
        steps: Number of ascent steps.
        rate: Step size on ``|grad L|^2``; not scale-free, so it is each problem's own.
        start: ``"identity"``, or ``"random"``: first move by a random element. For SO(2) that is an angle uniform in
            ``(0, pi * start_scale)``, as published; for other groups ``group.sample(scale=start_scale)``.
        start_scale: Distance of the random element from the identity.
        trust_radius: Bound on the sum of the steps' lengths for groups that are not compact, where a rate too large ends in
            elements so ill-conditioned that the loss is lost to rounding. The steps are shortened to it. None: no bound,
            as published.
        retract: Move by ``group.retract`` in place of ``exp``. (The first-order variant of the publication's networks is
            ``1 + T`` either way.)
        derivative: ``"hessian_free"``, ``"double_backward"`` (one gradient and one Hessian-vector product per step, and a
            last gradient), or ``"auto"``: Hessian-free unless the action does not keep the loss.
        verify: Spend a forward pass on the loss where it was carried over, and report its real change.
        objective: ``"gradient_norm"``: stay unless it grew. ``"any"``: move wherever the ascent ended, as published.
    """

    kind: ClassVar[str] = "gradient_ascent"

    steps: int = 10
    rate: float = 0.1
    start: str = "identity"
    start_scale: float = 1.0
    trust_radius: float | None = 5.0
    retract: bool = False
    derivative: str = "auto"
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, ("gradient_norm", "any"))
        require_count(self, "steps")
        require_positive(self, "rate", "start_scale")
        if self.trust_radius is not None:
            require_positive(self, "trust_radius")
        require_choice(self, "start", ("identity", "random"))
        require_choice(self, "derivative", DERIVATIVES)

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        require_direction(self, symmetry, self.derivative, self.verify)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        evaluates = not uses_hessian(symmetry, self.derivative)
        counts = verify_price(symmetry, self.verify)
        by_points = self.start == "random"
        if by_points:
            counts = counts + random_price(symmetry, 1) + (known_price(symmetry, 1) if evaluates else Counts())
        counts = counts + trail_price(symmetry, self.steps, self.derivative, self.retract, by_points=by_points)
        return counts if evaluates else counts + Counts(gradient=1.0)

    def propose(self, start: Start) -> Candidate:
        evaluates = not uses_hessian(start.symmetry, self.derivative)
        xp = arrays_of(start.loss.device)
        trail: Trail
        if self.start == "random":
            trail = points = PointTrail(start, evaluates)
            begun = trail.begin()
            moved = points.at(random_point(start, self.start_scale, begins=True, gradient=evaluates))
            sound = begun.finite & moved.finite
            place = trail.choose(sound, moved, begun)
        else:
            trail = trail_of(start, self.derivative)
            place = begun = trail.begin()
            sound = place.finite
        reach = math.inf if self.trust_radius is None or start.symmetry.group.compact else self.trust_radius
        left = xp.full(xp.view(start.loss), len(start), value=float(reach))
        for _ in range(self.steps):
            direction = trail.direction(place, self.derivative, relative=False)
            length = self.rate * trail.length(direction)
            # untouched where it fits, so that the bound costs no rounding
            factor = self.rate * xp.where(length > left, left / length, 1.0)
            tried = trail.along(place, direction, factor, self.retract)
            sound = sound & (length < math.inf) & tried.finite
            left = xp.at_least(left - length, 0.0)
            place = trail.choose(sound, tried, place)
        point = trail.end(place)
        if not evaluates:  # the double backward pass evaluates where each step begins, but not where the last one ends
            point.loss, point.gradient = start.evaluator.loss_and_gradient(point.params)
        verified(start, point, self.verify)
        if not bool(sound.all()):
            point.loss = torch.where(xp.tensor(sound), point.loss, torch.nan)
        if self.objective == "gradient_norm":
            ends = place.norm2, begun.norm2
            if not evaluates:
                ends = xp.view(squared_norm(point.gradient)), xp.view(squared_norm(start.gradient))
            point.score, point.start_score = (xp.tensor(_score(xp, norm2, 1.0)) for norm2 in ends)
        return point


@kind
@dataclass(frozen=True, kw_only=True)
class NormalizedAscent(Search):
    """A few steps of fixed, shrinking length, each kept only if it helps.

    Step ``i`` is ``radius * decay^i`` long in the direction of the gradient's, so that no rate needs tuning to the loss's
    scale. A step that is not finite, does not keep the loss, or does not improve the objective is undone, and this run's
    further steps are ``shrink`` times as long.

    Attributes:
        steps: Number of steps.
        radius: Length of the first, in the group's coordinates: an angle, or a logarithm. For ``"relative"`` it is the
            bound on the eigenvalues of that step's ``log g`` instead.
        decay: Ratio of a step's length to the one before.
        shrink: Further ratio after a step that was undone.
        trust_radius: Bound on the sum of the lengths.
        retract: Move by ``group.retract`` in place of ``exp``: for matrices a quarter of the work, and to second order the
            same. It is defined for lengths below 2.
        derivative: Method of differentiation; the values are those of `GradientAscent`.
        verify: Whether to spend a forward pass on the loss where it was carried over, and report its real change.
        objective: ``"gradient_norm"`` (ascent), ``"balance_gradient"`` (descent), or ``"relative"``: ascent along
            ``(B - A) / (A + B)``, for actions on pairs of matrices.
    """

    kind: ClassVar[str] = "normalized_ascent"

    steps: int = 3
    radius: float = 0.5
    decay: float = 0.7
    shrink: float = 0.5
    trust_radius: float = 2.0
    retract: bool = True
    derivative: str = "auto"
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, ("gradient_norm", "balance_gradient", "relative"))
        require_count(self, "steps")
        require_positive(self, "radius", "trust_radius")
        require_positive(self, "decay", "shrink", most=1.0)
        require_choice(self, "derivative", DERIVATIVES)

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        require_direction(self, symmetry, self.derivative, self.verify)
        require_reach(self, symmetry, self.retract, min(self.radius, self.trust_radius))
        if self.objective == "relative":
            require_pairs(self, problem, symmetry)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        relative = self.objective == "relative"
        walked = trail_price(symmetry, self.steps, self.derivative, self.retract, relative, judged=True)
        return walked + verify_price(symmetry, self.verify)

    def propose(self, start: Start) -> Candidate:
        sign = -1.0 if self.objective == "balance_gradient" else 1.0
        relative = self.objective == "relative"
        found = None if relative or uses_hessian(start.symmetry, self.derivative) else self._compiled(start, sign)
        if found is not None:
            start.evaluator.charge(trail_price(start.symmetry, self.steps, self.derivative, self.retract))
            return verified(start, found, self.verify)
        trail = trail_of(start, self.derivative, judged=True)
        xp = arrays_of(start.loss.device)
        place = tried = trail.begin()
        start_score = score = tried_score = _score(xp, place.norm2, sign)
        like = xp.view(start.loss)
        accepted: Array = None
        length_factor, travelled = (xp.full(like, len(start), value=value) for value in (1.0, 0.0))
        for step in range(self.steps):
            length = self.radius * self.decay**step * length_factor
            length = xp.at_most(length, self.trust_radius - travelled)
            direction = trail.direction(place, self.derivative, relative)
            size = trail.length(direction)
            usable = size < math.inf
            factor = length if relative else sign * length / xp.at_least(size, TINY[size.dtype])
            tried = trail.along(place, direction, factor, self.retract)
            tried_score = _score(xp, tried.norm2, sign)
            helped = tried.finite & usable & (tried_score > score)
            if not bool(usable.all()):
                tried.loss = xp.where(usable, tried.loss, math.nan)
            if not start.symmetry.carries:
                helped = helped & kept_loss(xp, start, tried.loss, self.loss_tolerance)
            accepted = helped if accepted is None else accepted | helped
            if bool(helped.all()):
                place, score, travelled = tried, tried_score, travelled + length
                continue
            place = trail.choose(helped, tried, place)
            score = xp.where(helped, tried_score, score)
            travelled = xp.where(helped, travelled + length, travelled)
            length_factor = xp.where(helped, length_factor, self.shrink * length_factor)
        # A run without an accepted step proposes its last one, for `find` to say what was wrong with it.
        if not bool(accepted.all()):
            place = trail.choose(accepted, place, tried)
            score = xp.where(accepted, score, tried_score)
        point = trail.end(place)
        point.score, point.start_score = xp.tensor(score), xp.tensor(start_score)
        return verified(start, point, self.verify)

    def _compiled(self, start: Start, sign: float) -> Candidate | None:
        """By a kernel, where there is one."""
        walk = [self.radius * self.decay**step for step in range(self.steps)], self.trust_radius, self.shrink, sign
        turns = Turns.of(start)
        if turns is not None:
            return turns.ascended(*walk, self.loss_tolerance)
        chains = Chains.of(start) if self.retract else None
        return None if chains is None else chains.ascended(*walk)


def _score(xp: Arrays, norm2: Array | None, sign: float) -> Array:
    """As `ordered` has it."""
    assert norm2 is not None, "a trail without gradients has no score"
    return xp.where(norm2 == norm2, sign * norm2, -math.inf)
