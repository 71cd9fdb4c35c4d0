"""Look one step ahead, on both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start, finite_rows, loss_kept
from teleport_env.searches.directions import (
    DERIVATIVES,
    ascent_direction,
    direction_price,
    require_direction,
    require_reach,
    unit,
)
from teleport_env.searches.moves import (
    Candidates,
    along_price,
    at_start,
    best,
    candidates_along,
    known,
    known_price,
    times,
    verified,
    verify_price,
)
from teleport_env.searches.objectives import VirtualStep as NextLoss
from teleport_env.searches.objectives import squared_norm
from teleport_env.searches.settings import (
    kind,
    require_choice,
    require_common,
    require_positive,
)
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class VirtualStep(Search):
    """Of ``exp(+-rho xi)`` along the ascent direction, and of staying, the one whose next gradient step ends lowest.

    Whether a steeper or a flatter point is better depends on the learning rate, so both directions are tried. A candidate
    costs its gradient (nothing where the action is linear) and one forward pass, staying one forward pass.

    With ``fit_rate`` the candidates also choose their rate. The parabola through ``L`` at 0 with slope ``-|G|^2`` and
    through the virtual step's loss, which has been paid for, has its minimum at the rate
    ``|G|^2 lr^2 / (2 (L_next - L + lr |G|^2))``. The candidate whose parabola promises least is evaluated once more, there,
    and moves if that loss is below what staying at its old rate promises; so the fit costs one forward pass, and no
    move rests on a promise. Where the old rate turns out better, the rate stays. Staying never changes the rate.

    Attributes:
        radii: Lengths ``rho`` to try.
        fit_rate: See above.
        max_factor: The fitted rate stays within this factor of the run's rate.
        retract: As in `NormalizedAscent`.
        derivative: As in `GradientAscent`.
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
        count = 2 * len(self.radii)
        moves = times(count, along_price(symmetry, self.retract, gradient=False) + Counts(forward=1.0))
        staying = Counts(forward=2.0 if self.fit_rate else 1.0)
        seen = verify_price(symmetry, False)
        return direction_price(symmetry, self.derivative) + moves + known_price(symmetry, count) + staying + seen

    def propose(self, start: Start) -> Candidate:
        objective = NextLoss()
        candidates = self._candidates(start)
        params = candidates.params
        loss, gradient = known(start, candidates)
        score = objective.score(start, params, gradient)
        factor = promised = torch.ones_like(score)
        if self.fit_rate:
            factor, promised = self._fit(start, loss, gradient, -score)
        sane = (
            finite_rows(params)
            & finite_rows(gradient)
            & torch.isfinite(loss)
            & loss_kept(start, loss, self.loss_tolerance)
        )
        ranking = -promised if self.fit_rate else score
        chosen = best(torch.where(sane & ~torch.isnan(ranking), ranking, -torch.inf))
        rows = torch.arange(len(start), device=chosen.device)
        candidate = Candidate(
            params[rows, chosen],
            loss[rows, chosen],
            gradient[rows, chosen],
            score=score[rows, chosen],
            start_score=objective.start_score(start),
            element=candidates.element_of(chosen),
        )
        if self.fit_rate:
            self._try_rate(start, candidate, factor[rows, chosen])
        candidate.loss = verified(start, candidate.loss, candidate.params, False, candidate.element)
        return candidate

    def _candidates(self, start: Start) -> Candidates:
        """``2 len(radii)`` a run: ``+rho, -rho`` for one radius after the other."""
        signed = [sign * rho for rho in self.radii for sign in (1.0, -1.0)]
        direction = unit(ascent_direction(start, at_start(start), self.derivative))
        # A direction that is not finite leaves NaN in the gradients below; the exponential need not see it.
        usable = torch.isfinite(direction).all(dim=1, keepdim=True)
        steps = torch.where(usable, direction, 0.0)[:, None, :] * direction.new_tensor(signed)[None, :, None]
        return candidates_along(start, steps, self.retract)

    def _fit(self, start: Start, loss: Tensor, gradient: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        """Rate factors ``(R, K)`` at the parabola's minimum, within bounds, and the losses promised there."""
        rate = start.learning_rate.to(loss.dtype)[:, None]
        drop = rate * squared_norm(gradient)  # what the slope alone promises for one step
        bend = following - loss + drop
        # Without curvature, or with a negative one, the parabola has no minimum: as far as allowed.
        factor = torch.where(bend > 0, 0.5 * drop / bend, self.max_factor)
        factor = factor.clamp(1.0 / self.max_factor, self.max_factor)
        return factor, loss - factor * drop + factor * factor * bend

    @staticmethod
    def _try_rate(start: Start, candidate: Candidate, factor: Tensor) -> None:
        """One forward pass at the fitted rate; keeps the better of the two rates, in place."""
        assert candidate.score is not None
        rate = (factor * start.learning_rate.to(factor.dtype))[:, None]
        fitted = -start.evaluator.loss(candidate.params - rate * candidate.gradient)
        better = fitted > candidate.score  # false for NaN
        candidate.score = torch.where(better, fitted, candidate.score)
        candidate.rate_factor = torch.where(better, factor, torch.ones_like(factor)).to(start.learning_rate.dtype)
