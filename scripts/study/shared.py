"""What the full protocol and the comparison of transfers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.pieces import Piece, complete

SEVEN = ("Quadratic", "Rosenbrock", "RosenbrockND", "Booth", "MatrixFactorization", "LinearNetwork", "MLPRegression")
"""The problems of this project's own study."""


@dataclass(frozen=True)
class Shared:
    """Settings of both.

    Attributes:
        problems: Registered names.
        split: Where the played instances come from; anything but ``"test"`` is a rehearsal.
        instances: How many a problem.
        train_decisions: Of each training; None: the recipe's.
        tuning_instances: Of the train split that every configuration is tried on; the last choice sees ten times as many.
        training: Further settings that all trainings share.
        seed: Of the choice of instances.
        jobs: Workers; -1: one a core.
        backend: ``"processes"`` or ``"ray"``.
        page: Write the page here, pictures beside it; None: into the folder alone.
    """

    problems: tuple[str, ...] = SEVEN
    split: str = "test"
    instances: int = 256
    train_decisions: int | None = None
    tuning_instances: int = 32
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1
    jobs: int = -1
    backend: str = "processes"
    page: Path | None = None

    def changed(self, budget: float | None) -> dict[str, Any]:
        """What trainings at a budget have other than their recipes."""
        own = {"decisions": self.train_decisions, "budget": budget}
        return {**self.training, **{name: value for name, value in own.items() if value is not None}}

    def complete(self, pieces: Iterable[Piece], out: Path, title: str, report: Callable[[str], None]) -> dict[str, Any]:
        """The results of all pieces by path; see `study.pieces.complete`."""
        return complete(pieces, out, title=title, jobs=self.jobs, backend=self.backend, report=report)
