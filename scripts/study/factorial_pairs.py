"""What the two cells of a pair play, so that teleports alone remain between them.

The tuning of a cell with teleports begins from the best settings without, and tries as many again. So each cell of a pair
may also play what the other was tuned to: the cell with teleports by never teleporting, the cell without with the teleports
taken away (settings without triggers, a policy with its teleports masked). Each plays the better of its two on the instances
that chose its own. Where settings found with teleports never teleport on these, both cells play the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.factorial_cells import Cell, family_of, tuned_cells
from study.pieces import Piece
from study.shared import digest, slug
from teleport_env.agents.learning.course import VALIDATION_SEED
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.policies.learned_moves import Policy, policy_of
from teleport_env.agents.tuning.search import Axis, Config
from teleport_env.agents.tuning.tuning import tune


@dataclass(frozen=True)
class Pair:
    """Orders gained by what a pair may play, of one tuning or one training seed.

    Attributes:
        own: Gain of what the cell without teleports was tuned to.
        teleporting: Gain of what the cell with teleports was tuned to.
        stripped: Gain of the latter with its teleports taken away.
    """

    own: float
    teleporting: float
    stripped: float

    def borrows(self, cell: Cell) -> bool:
        """Whether a cell plays what its counterpart was tuned to; of equals, both play what was found without teleports."""
        return self.own >= self.teleporting if cell.teleports else self.stripped > self.own

    def known(self, cell: Cell) -> float:
        """The gain of what a cell plays."""
        return max(self.own, self.teleporting if cell.teleports else self.stripped)


def stripped(problem: str, budget: float | None, cell: Cell, config: Config) -> Config:
    """The settings of a cell with teleports that the cell without has too."""
    return {name: config[name] for name in tuned_cells(problem, budget)[cell.without].axes}


def judging(asked: Mapping[str, Any], cell: Cell, config: Config) -> Piece:
    """The piece that plays a tuned cell's settings without teleports, where the last choice of its tuning was made.

    Args:
        asked: Settings of the tuning that found them.
        cell: The cell with teleports.
        config: Settings that it was tuned to.
    """
    problem, bare = asked["problem"], stripped(asked["problem"], asked["budget"], cell, config)
    settings = {**asked, "config": bare}
    return Piece(f"{problem}/stripped/{slug(cell.without.name)}.json", settings, _judge_settings, (settings,))


def _judge_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    family = family_of(settings["problem"], settings["budget"], settings["family"])
    only = {name: Axis((value,)) for name, value in settings["config"].items()}
    asked = {name: settings[name] for name in ("instances", "budget")}
    return dataclasses.asdict(tune({settings["problem"]: dataclasses.replace(family, axes=only)}, count=1, **asked))


def masked(policy: Policy) -> Masked:
    """A policy with its teleports taken away."""
    assert isinstance(policy, LearnedSchedule)  # the factorial trains no others
    return Masked(policy=policy)


def judging_policies(training: Training, cell: Cell, texts: Sequence[str]) -> Piece:
    """The piece that plays both policies of a pair, and the one with teleports masked, on the instances that chose them.

    Args:
        training: The training of one of them.
        cell: The cell with teleports.
        texts: The policies' files, that of the cell without teleports first.
    """
    problem = training.only
    settings = {
        "problem": problem,
        "budget": training.task.budget,
        "instances": training.schedule.validation_instances,
        "policies": [*map(digest, texts)],
    }
    path = f"{problem}/stripped/{slug(cell.without.name)}-{training.seed}.json"
    return Piece(path, settings, _judge_policies, (settings, texts))


def _judge_policies(settings: Mapping[str, Any], texts: Sequence[str]) -> list[float]:
    """Mean gains: without teleports, with them, and with them masked."""
    problem = settings["problem"]
    own, teleporting = (policy_of(text).for_problem(problem) for text in texts)
    ids = draw_instances(problem, "validation", settings["instances"], VALIDATION_SEED)
    shared: dict[str, Any] = {"split": "validation", "budget": settings["budget"], "seed": VALIDATION_SEED}
    gained = play_many(problem, [own, teleporting, masked(teleporting)], ids, **shared)
    found: list[float] = gained.mean(axis=1).tolist()
    return found
