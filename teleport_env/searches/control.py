"""Controls: what a teleport does besides moving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.settings import kind, require_common
from teleport_env.symmetries.base import Symmetry


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
