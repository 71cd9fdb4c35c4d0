"""How a tuned or trained agent plays for a page: its episodes on the instances asked for, timed, with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.study import play_alone
from teleport_env.agents.comparison.targets import paces_of, rows_of_targets
from teleport_env.agents.play import Played, curve, draw_instances, play, trace
from teleport_env.envs.settings import Settings

Paces = Mapping[int, float]


def instances_of(settings: Mapping[str, Any]) -> np.ndarray:
    """Ids ``(B,)`` of the instances that are played."""
    return draw_instances(settings["problem"], settings["split"], settings["instances"], settings["seed"])


def play_one(settings: Mapping[str, Any], agent: Agent, seed: int) -> Played:
    """An agent's episodes, with a seed of the searches' random numbers."""
    shared = {name: settings[name] for name in ("split", "budget")}
    return play(settings["problem"], agent, instances_of(settings), seed=seed, **shared)


def timed(settings: Mapping[str, Any], agent: Agent, played: Sequence[Played]) -> dict[int, float]:
    """The paces of an agent's actions, from a few episodes played one at a time."""
    shared = {name: settings[name] for name in ("split", "budget")}
    alone = play_alone(settings["problem"], agent, instances_of(settings), played, **shared)
    return paces_of(alone, agent.step_actions)


def entry(
    played: Sequence[Played], about: str, paces: Paces | Sequence[Paces], steps: int | Sequence[int] = 1
) -> dict[str, Any]:
    """One agent's episodes, in JSON's types.

    Args:
        played: Its episodes, one per seed.
        about: Description of the row, in a sentence.
        paces: Paces from `timed`; several where each seed plays a schedule of its own.
        steps: Number of its actions that are gradient steps; as many as there are paces.
    """
    each = paces if isinstance(paces, Sequence) else [paces] * len(played)
    counts = steps if isinstance(steps, Sequence) else [steps] * len(played)
    first = played[0].rows[0]
    tolerance = Settings.build(first["problem"], split=first["split"]).tolerance
    quartiles = curve(played, first["budget"])
    return {
        "agent": first["agent"],
        "about": about,
        "rows": [row for found in played for row in found.rows],
        "targets": [
            row
            for found, pace, count in zip(played, each, counts, strict=True)
            for row in rows_of_targets(found, tolerance, pace, count)
        ],
        "curve": {name: values.tolist() for name, values in quartiles.items()},
        "trace": trace(played[0], 0, first["problem"], first["agent"]),
    }
