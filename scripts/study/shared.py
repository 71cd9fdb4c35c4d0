"""What the full protocol and the comparison of transfers have in common."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.pieces import Piece, complete
from teleport_env.agents.policies.learned_moves import Policy, load_policy
from teleport_env.agents.policies.settings import check_name
from teleport_env.agents.versions import versions

SEVEN = ("Quadratic", "Rosenbrock", "RosenbrockND", "Booth", "MatrixFactorization", "LinearNetwork", "MLPRegression")
"""The problems of this project's own study."""

NEW = (
    "MatrixCompletion",
    "TensorFactorization",
    "TwoLayerRegression",
    "DigitsFull",
    "Autoencoder",
)
"""Problems on real or noisy data, which no element of a group solves."""


@dataclass(frozen=True)
class Shared:
    """Settings of both.

    Attributes:
        problems: Registered names.
        split: Split from which the played instances come; anything but ``"test"`` is a rehearsal.
        instances: Number of instances per problem.
        train_decisions: Decisions of each training; None: the recipe's.
        tuning_instances: Number of instances of the train split that every configuration is tried on; the last choice
            sees ten times as many.
        training: Further settings that all trainings share.
        seed: Seed of the choice of instances.
        jobs: Workers; -1: one per core.
        backend: ``"processes"`` or ``"ray"``.
        page: Path of the page, pictures beside it; None: in the folder alone.
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

    def episodes(self, problem: str, budget: float | None, seeds: int) -> dict[str, Any]:
        """What every played episode of a problem depends on beside the agent."""
        shared = {name: getattr(self, name) for name in ("split", "instances", "seed")}
        return {"problem": problem, "budget": budget, "seeds": seeds, **shared}

    def complete(self, pieces: Iterable[Piece], out: Path, title: str, report: Callable[[str], None]) -> dict[str, Any]:
        """The results of all pieces by path; see `study.pieces.complete`."""
        return complete(pieces, out, title=title, jobs=self.jobs, backend=self.backend, report=report)


@dataclass(kw_only=True)
class Gathered:
    """What is said of every run.

    Attributes:
        versions: Versions of the software that computed it.
        command: Command that computed it.
        seconds: Seconds of this run; pieces that were done before took none.
    """

    versions: dict[str, str] = field(default_factory=versions)
    command: str = ""
    seconds: float = 0.0


def command() -> str:
    """The command line of this process, to be typed again."""
    return shlex.join(["scripts/compare.py", *sys.argv[1:]])


def slug(name: str) -> str:
    """A name as part of a file's name: letters and digits, everything else a hyphen."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")


def digest(text: str) -> str:
    """A text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def given_policies(paths: Sequence[Path], taken: Iterable[str]) -> dict[str, tuple[Policy, str]]:
    """Policies by their names in tables, each with its file's text.

    A policy goes by its own name, or by its file's where others have that name too.

    Args:
        paths: Their files.
        taken: Names of other rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is refused, or two policies have one name, or names that make one name of a file.
    """
    loaded = [(path, load_policy(path)) for path in paths]
    own, others = [policy.name for _, policy in loaded], set(taken)
    found: dict[str, tuple[Policy, str]] = {}
    files = {slug(name).casefold(): name for name in others}
    for path, policy in loaded:
        name = path.stem if policy.name in others or own.count(policy.name) > 1 else policy.name
        check_name(name)
        other = files.setdefault(slug(name).casefold(), name)
        if other != name or name in found or name in others:
            raise ValueError(
                f"{path} would go by the name {name!r} and lie in the file of {other!r}; give it another name, or train it "
                "with --name"
            )
        found[name] = policy, path.read_text(encoding="utf-8")
    return found
