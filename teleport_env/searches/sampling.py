"""Random elements: the best of a few, or simply one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.directions import require_pairs, require_resting_data
from teleport_env.searches.moves import (
    best_of,
    best_of_price,
    known,
    known_price,
    random_candidates,
    random_price,
    verified,
    verify_price,
)
from teleport_env.searches.objectives import OBJECTIVES, objective_named
from teleport_env.searches.settings import kind, require_common, require_count, require_positive
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class RandomSampling(Search):
    """The best of ``candidates`` random elements; serves every group, discrete ones too.

    With ``objective="any"`` and one candidate it is the neural teleportation of Armenta et al. (2020): move and do not
    look. Candidates cost one gradient each, or matrix work alone where the action is linear.

    Attributes:
        candidates: Elements drawn.
        scale: How far from the identity, as in `Group.sample`; at 1 uniform on compact groups.
        verify: As in `GradientAscent`.
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
        candidates = random_candidates(start, self.candidates, self.scale)
        if self.objective == "any":
            loss, gradient = known(start, candidates)
            chosen = Candidate(candidates.params[:, 0], loss[:, 0], gradient[:, 0], element=candidates.elements)
        else:
            chosen = best_of(start, candidates, objective_named(self.objective), self.loss_tolerance)
        chosen.loss = verified(start, chosen.loss, chosen.params, self.verify, chosen.element)
        return chosen
