"""Every angle of a circle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.fast.rosenbrock import knows_norms, norms_on_circle
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.moves import best_of, best_of_price, candidates_at, loss_kept, verified, verify_price
from teleport_env.searches.objectives import OBJECTIVES, objective_named
from teleport_env.searches.settings import kind, require_common, require_count
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class Grid(Search):
    """The best of ``points`` angles, for rotations of the plane.

    The angles ``2 pi j / (points + 1)``, ``j = 1, ..., points``, and the identity, which needs no evaluation, are
    equally spaced on the circle. A grid of 64 costs 64 gradients where the action is not linear.

    Attributes:
        points: Number of angles besides the identity.
        verify: As in `GradientAscent`.
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
        # Once for the whole circle, then repeated: every run turns by the same angles.
        circle = start.symmetry.group.exp(angle[:, None])
        assert isinstance(circle, torch.Tensor)
        start.evaluator.charge(Counts(flops=self.points * start.symmetry.group.exp_flops))
        if self.objective == "gradient_norm" and knows_norms(start.evaluator.problem, start.symmetry):
            return self._by_norms(start, circle)
        candidates = candidates_at(start, circle.repeat(len(start), 1, 1), self.points)
        candidate = best_of(start, candidates, objective_named(self.objective), self.loss_tolerance)
        candidate.loss = verified(start, candidate.loss, candidate.params, self.verify, candidate.element)
        return candidate

    def _by_norms(self, start: Start, circle: Tensor) -> Candidate:
        """The same without all the candidates' gradients, whose norms the problem knows; they are paid for all the same."""
        symmetry, problem = start.symmetry, start.evaluator.problem
        objective = objective_named(self.objective)
        start.evaluator.charge(Counts(gradient=float(self.points), flops=self.points * symmetry.move_flops))
        with torch.no_grad():
            scores = norms_on_circle(problem, start.params, start.instance, circle)
            # A candidate may fail `Search.find`'s rules after all, where rounding is large; then the next best is asked.
            for _ in range(self.points):
                chosen = _first_largest(scores)
                element = circle[chosen]
                params = symmetry.act(element, start.params, start.instance, start.batch)
                loss, gradient = problem.loss_and_gradient(params, start.instance, start.batch)
                sane = torch.isfinite(params).all(dim=1) & torch.isfinite(gradient).all(dim=1) & torch.isfinite(loss)
                failed = ~(sane & loss_kept(start, loss, self.loss_tolerance)) & (scores.amax(dim=1) > -torch.inf)
                if not bool(failed.any()):
                    break
                scores[failed, chosen[failed]] = -torch.inf
        score = objective.score(start, params, gradient)
        return Candidate(params, loss, gradient, score, objective.start_score(start), element)


def _first_largest(scores: Tensor) -> Tensor:
    """Where ``scores`` ``(R, K)`` are largest; NumPy's search is vectorised, torch's is not."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.argmax(dim=1)
