"""Searches that look at several points at once and take the best: random ones, a circle's, and those one step ahead.

`ResetOptimizer` looks at none: it is the control that does not move.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays, arrays_of
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start, finite_rows, kept_loss
from teleport_env.searches.directions import (
    DERIVATIVES,
    ascent_direction,
    direction_price,
    require_direction,
    require_pairs,
    require_reach,
    require_resting_data,
    unit,
    uses_hessian,
)
from teleport_env.searches.fast.turns import Turns
from teleport_env.searches.moves import (
    Candidates,
    TurnedCandidates,
    along_price,
    at_start,
    candidates_along,
    candidates_at,
    known,
    known_price,
    random_candidates,
    random_point,
    random_price,
    times,
    verified,
    verify_price,
)
from teleport_env.searches.objectives import OBJECTIVES, Objective, objective_named, ordered, squared_norm
from teleport_env.searches.settings import kind, require_choice, require_common, require_count, require_positive
from teleport_env.symmetries.base import Symmetry


def _first_largest(xp: Arrays, scores: Array) -> Array:
    """Index ``(R,)`` of the largest score ``(R, K)``, the first among equals, which torch's `argmax` does not promise."""
    if not isinstance(scores, Tensor):
        return scores.argmax(1)
    count = scores.shape[1]
    order = torch.arange(count, device=scores.device)
    return torch.where(scores == scores.amax(dim=1, keepdim=True), order, count).amin(dim=1)


def best_of(
    start: Start,
    candidates: Candidates,
    objective: Objective,
    tolerance: float | None,
    rank: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Candidate:
    """The best candidate of each run, scored all at once; charged `best_of_price`.

    Candidates that are not finite or do not keep the loss (within ``tolerance``, `Search.loss_tolerance`) rank below all
    others. A run that has no other gets such a one, and `Search.find` says what was wrong with it.

    Args:
        rank: Ranking ``(R, K)`` from losses, gradients and scores; None: by the score.
    """
    if isinstance(candidates, TurnedCandidates) and objective.needs_gradient and rank is None:
        turns, virtual = Turns.of(start), objective.forwards > 0
        found = None if turns is None else turns.chosen(candidates.angles, objective.sign, virtual, tolerance)
        if found is not None:
            start.evaluator.charge(best_of_price(start.symmetry, candidates.angles.shape[1], objective))
            return found
    xp = arrays_of(start.params.device)
    view, tensor = xp.view, xp.tensor
    rows = view(torch.arange(len(start), device=start.params.device))
    params = candidates.params
    if not objective.needs_gradient:  # scored without an evaluation: the winner alone needs one
        score = objective.score(start, params, None)
        chosen = _first_largest(xp, xp.where(view(finite_rows(params)), view(score), -math.inf))
        element = candidates.element_of(tensor(chosen))
        winner = Candidates(tensor(view(params)[rows, chosen])[:, None], element)
        losses, gradients = known(start, winner)
        loss, gradient = losses[:, 0], gradients[:, 0]
    else:
        losses, gradients = known(start, candidates)
        score = objective.score(start, params, gradients)
        ranking = score if rank is None else rank(losses, gradients, score)
        # a sum is finite only if all its terms are
        total = view(params).sum(-1) + view(gradients).sum(-1) + view(losses)
        usable = (abs(total) < math.inf) & kept_loss(xp, start, view(losses), tolerance)
        chosen = _first_largest(xp, xp.where(usable, view(ranking), -math.inf))
        element = candidates.element_of(tensor(chosen))
        loss, gradient = (tensor(view(found)[rows, chosen]) for found in (losses, gradients))
    return Candidate(
        tensor(view(params)[rows, chosen]),
        loss,
        gradient,
        score=tensor(view(score)[rows, chosen]),
        start_score=objective.start_score(start),
        element=element,
    )


def best_of_price(symmetry: Symmetry, count: int, objective: Objective) -> Counts:
    """Price of `best_of` per run."""
    gradients = known_price(symmetry, count if objective.needs_gradient else 1)
    return gradients + Counts(forward=float((count + 1) * objective.forwards))


@kind
@dataclass(frozen=True, kw_only=True)
class RandomSampling(Search):
    """The best of ``candidates`` random elements; serves every group, discrete ones too.

    With ``objective="any"`` and one candidate it is the neural teleportation of Armenta et al. (2020): move and do not
    look. Candidates cost one gradient each, or matrix work alone where the action is linear.

    Attributes:
        candidates: Elements drawn.
        scale: Distance from the identity, as in `Group.sample`; at 1 uniform on compact groups.
        verify: Whether to spend a forward pass on the loss where it was carried over, and report its real change.
        objective: Any of them.
    """

    kind: ClassVar[str] = "random"

    candidates: int = 8
    scale: float = 1.0
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, tuple(OBJECTIVES))
        require_count(self, "candidates")
        require_positive(self, "scale")
        if self.objective == "any" and self.candidates > 1:
            raise ValueError(
                f"candidates of search {self.kind!r} must be 1 for objective 'any', which cannot tell the best, got "
                f"{self.candidates}; use candidates=1 or the objective 'gradient_norm'"
            )

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        require_resting_data(self, symmetry, self.verify or self.objective == "virtual_step")
        if self.objective == "relative":
            require_pairs(self, problem, symmetry)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        counts = random_price(symmetry, self.candidates) + verify_price(symmetry, self.verify)
        if self.objective == "any":
            return counts + known_price(symmetry, 1)
        return counts + best_of_price(symmetry, self.candidates, objective_named(self.objective))

    def propose(self, start: Start) -> Candidate:
        if self.objective == "any":
            return verified(start, random_point(start, self.scale), self.verify)
        candidates = random_candidates(start, self.candidates, self.scale)
        chosen = best_of(start, candidates, objective_named(self.objective), self.loss_tolerance)
        return verified(start, chosen, self.verify)


@kind
@dataclass(frozen=True, kw_only=True)
class Grid(Search):
    """The best of ``points`` angles, for rotations of the plane.

    The angles ``2 pi j / (points + 1)``, ``j = 1, ..., points``, and the identity, which needs no evaluation, are
    equally spaced on the circle. A grid of 64 costs 64 gradients where the action is not linear.

    Attributes:
        points: Number of angles besides the identity.
        verify: Whether to spend a forward pass on the loss where it was carried over, and report its real change.
        objective: Any but ``"any"`` and ``"relative"``.
    """

    kind: ClassVar[str] = "grid"

    points: int = 64
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, tuple(name for name in OBJECTIVES if name not in ("any", "relative")))
        require_count(self, "points")

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        group = symmetry.group
        if not group.on_circle:
            raise ValueError(
                f"search {self.kind!r} covers the circle of SO(2), not {group.name} of symmetry {symmetry.name!r}; use "
                f"the search 'random' or 'normalized_ascent'"
            )

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return (
            Counts(flops=self.points * (symmetry.group.exp_flops + symmetry.move_flops))
            + best_of_price(symmetry, self.points, objective_named(self.objective))
            + verify_price(symmetry, self.verify)
        )

    def propose(self, start: Start) -> Candidate:
        dtype, device = start.params.dtype, start.params.device
        angle = torch.arange(1, self.points + 1, dtype=dtype, device=device) * (2.0 * math.pi / (self.points + 1))
        group, sphere = start.symmetry.group, start.symmetry.sphere
        start.evaluator.charge(Counts(flops=self.points * group.exp_flops))
        if sphere is None:
            # Once for the whole circle, then repeated: every run turns by the same angles.
            circle = group.exp(angle[:, None])
            assert isinstance(circle, Tensor)
            candidates = candidates_at(start, circle.repeat(len(start), 1, 1), self.points)
        else:
            candidates = candidates_along(start, angle[None, :, None].expand(len(start), -1, 1), retract=False)
        best = best_of(start, candidates, objective_named(self.objective), self.loss_tolerance)
        return verified(start, best, self.verify)


@kind
@dataclass(frozen=True, kw_only=True)
class VirtualStep(Search):
    """Of ``exp(+-rho xi)`` along the ascent direction, and of staying, the one whose next gradient step ends lowest.

    Whether a steeper or a flatter point is better depends on the learning rate, so both directions are tried. A candidate
    costs its gradient (nothing where the action is linear) and one forward pass, staying one forward pass.

    With ``fit_rate`` the candidates also choose their rate. The parabola through ``L`` at 0 with slope ``-|G|^2`` and
    through the virtual step's loss, which has been paid for, has its minimum at the rate
    ``|G|^2 lr^2 / (2 (L_next - L + lr |G|^2))``. The candidate whose parabola promises least is evaluated once more, there,
    and moves if that loss is below what staying at its old rate promises. So the fit costs one forward pass, and no
    move rests on a promise. Where the old rate turns out better, the rate stays. Staying never changes the rate.

    Attributes:
        radii: Lengths ``rho`` to try.
        fit_rate: Whether the candidates also choose their rate, by the parabola of the text before.
        max_factor: Bound on the fitted rate over the run's rate, and on its inverse.
        retract: Whether to move by ``group.retract`` in place of ``exp``, as in `NormalizedAscent`.
        derivative: Method of differentiation; the values are those of `GradientAscent`.
        objective: ``"virtual_step"``.
    """

    kind: ClassVar[str] = "virtual_step"

    radii: tuple[float, ...] = (0.3,)
    fit_rate: bool = False
    max_factor: float = 16.0
    retract: bool = True
    derivative: str = "auto"
    objective: str = "virtual_step"

    def __post_init__(self) -> None:
        require_common(self, ("virtual_step",))
        require_choice(self, "derivative", DERIVATIVES)
        require_positive(self, "max_factor")
        if self.max_factor < 1:
            raise ValueError(f"max_factor of search {self.kind!r} must be at least 1, got {self.max_factor!r}")
        radii = tuple(self.radii) if isinstance(self.radii, list | tuple) else ()
        if not radii or not all(isinstance(rho, int | float) and 0 < rho < math.inf for rho in radii):
            raise ValueError(f"radii of search {self.kind!r} must be a tuple of positive numbers, got {self.radii!r}")
        object.__setattr__(self, "radii", radii)  # JSON brings lists

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        require_direction(self, symmetry, self.derivative, evaluates=True)
        require_reach(self, symmetry, self.retract, max(self.radii))

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return self._looking(symmetry) + Counts(forward=float(self.fit_rate)) + verify_price(symmetry, False)

    def _looking(self, symmetry: Symmetry) -> Counts:
        """Price of the best candidate by its old rate."""
        moves = times(2 * len(self.radii), along_price(symmetry, self.retract, gradient=False))
        scored = best_of_price(symmetry, 2 * len(self.radii), objective_named(self.objective))
        return direction_price(symmetry, self.derivative) + moves + scored

    def propose(self, start: Start) -> Candidate:
        def promises(loss: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
            return ordered(-self._fit(start, loss, gradient, -score)[1])

        rank = promises if self.fit_rate else None
        objective = objective_named(self.objective)
        turns = None if self.fit_rate or uses_hessian(start.symmetry, self.derivative) else Turns.of(start)
        found = None if turns is None else turns.ahead(self._signed, objective.sign, self.loss_tolerance)
        if found is not None:
            start.evaluator.charge(self._looking(start.symmetry))
            return verified(start, found, False)
        candidate = best_of(start, self._candidates(start), objective, self.loss_tolerance, rank)
        if self.fit_rate:
            self._try_rate(start, candidate)
        return verified(start, candidate, False)

    @property
    def _signed(self) -> tuple[float, ...]:
        return tuple(sign * rho for rho in self.radii for sign in (1.0, -1.0))

    def _candidates(self, start: Start) -> Candidates:
        """``2 len(radii)`` per run: ``+rho, -rho`` for one radius after the other."""
        xp = arrays_of(start.params.device)
        direction = unit(xp, xp.view(ascent_direction(start, at_start(start), self.derivative)))
        # A direction that is not finite leaves NaN in the gradients below; the exponential need not see it.
        usable = abs(direction.sum(1)) < math.inf
        if not bool(usable.all()):
            direction = xp.where(usable[:, None], direction, 0.0)
        steps = xp.stack([by * direction for by in self._signed], 1)
        return candidates_along(start, xp.tensor(steps), self.retract)

    def _fit(self, start: Start, loss: Tensor, gradient: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        """Rate factors ``(R, K)`` at the parabola's minimum, within bounds, and the losses promised there."""
        rate = start.learning_rate.to(loss.dtype)[:, None]
        drop = rate * squared_norm(gradient)  # what the slope alone promises for one step
        bend = following - loss + drop
        # Without curvature, or with a negative one, the parabola has no minimum: as far as allowed.
        factor = torch.where(bend > 0, 0.5 * drop / bend, self.max_factor)
        factor = factor.clamp(1.0 / self.max_factor, self.max_factor)
        return factor, loss - factor * drop + factor * factor * bend

    def _try_rate(self, start: Start, candidate: Candidate) -> None:
        """One forward pass at the fitted rate; keeps the better of the two rates, in place."""
        assert candidate.score is not None
        column = candidate.loss[:, None], candidate.gradient[:, None], -candidate.score[:, None]
        factor = self._fit(start, *column)[0][:, 0]
        rate = (factor * start.learning_rate.to(factor.dtype))[:, None]
        fitted = -start.evaluator.loss(candidate.params - rate * candidate.gradient)
        better = fitted > candidate.score  # false for NaN
        candidate.score = torch.where(better, fitted, candidate.score)
        candidate.rate_factor = torch.where(better, factor, torch.ones_like(factor)).to(start.learning_rate.dtype)


@kind
@dataclass(frozen=True, kw_only=True)
class ResetOptimizer(Search):
    """Moves nothing, clears the optimizer's state, costs nothing.

    For adaptive optimizers a part of what teleports gain comes from the state that is cleared with them; this action is
    the comparison that tells.
    """

    kind: ClassVar[str] = "reset_optimizer"

    objective: str = "any"
    resets_optimizer: bool = True

    def __post_init__(self) -> None:
        require_common(self, ("any",))
        if not self.resets_optimizer:
            raise ValueError(
                f"resets_optimizer of search {self.kind!r} must be True, got {self.resets_optimizer!r}: it does nothing else"
            )

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return Counts()

    def propose(self, start: Start) -> Candidate:
        return Candidate(start.params, start.loss, start.gradient)
