"""Playing the group mode: what a policy knows of directions, and the fixed schedule that it has to beat.

Features do not say at which angle a run stands. What does, whatever the scale of parameters and of their changes, is the
direction of the last change: after a gradient step that of the gradient. It comes from two observations, so an agent
remembers the parameters that it saw last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from teleport_env.agents.base import Agent, State
from teleport_env.envs.features import INDEX, NAMES

DIRECTIONS = ("change", "place")
"""Inputs beside features, each as many numbers as there are parameters: the direction of their last change, a unit vector
(where nothing changed the one before; 0 before the first), and ``w / (1 + |w|)`` of each, bounded but of a scale."""


def fresh_trail(count: int, parameters: int) -> State:
    """What is remembered of ``count`` runs at their start: parameters seen last, whether there are any, and a direction."""
    return {
        "seen": np.zeros((count, parameters), dtype=np.float32),
        "some": np.zeros(count, dtype=bool),
        "change": np.zeros((count, parameters), dtype=np.float32),
    }


def follow(params: np.ndarray, trail: State, directions: tuple[str, ...]) -> np.ndarray:
    """The inputs ``(B, P * len(directions))`` float32 that parameters ``(B, P)`` float32 give; ``trail`` is moved on.

    Observations are float32: a change that is too small for them has no direction.
    """
    change = params.astype(np.float64) - trail["seen"]
    # the sum of squares column by column: how a sum over an axis rounds depends on how the rows lie in memory
    length2 = np.zeros(len(params))
    for column in change.T:
        length2 = length2 + column * column
    moved = trail["some"] & (length2 > 0) & np.isfinite(length2)
    unit = change / np.sqrt(np.where(moved, length2, 1.0))[:, None]
    trail["change"] = np.where(moved[:, None], unit.astype(np.float32), trail["change"])
    trail["seen"], trail["some"] = params.copy(), np.ones(len(params), dtype=bool)
    found = {"change": trail["change"], "place": params / (1.0 + np.abs(params))}
    return np.concatenate([found[name] for name in directions], axis=1)


def unpayable(observation: np.ndarray) -> np.ndarray:
    """``(B,)`` bool: runs whose rest of the budget pays for no move."""
    return observation[:, INDEX["price"]] >= 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantMove(Agent):
    """The same group element again and again: a fixed schedule of the group mode.

    Attributes:
        xi: Group parameters in [-1, 1], as the action has them.
        every: Actions that are steps between two teleports; 0: no teleports.
        first: Actions that are steps before the first teleport.
    """

    name: str = "constant move"
    xi: tuple[float, ...] = ()
    every: int = 1
    first: int = 0

    action_type: ClassVar[type[np.generic]] = np.float32

    def __post_init__(self) -> None:
        if self.environment.get("action_mode") != "group":
            raise ValueError(f'the environment of {self.name!r} must say action_mode="group"')
        object.__setattr__(self, "xi", tuple(float(value) for value in self.xi))
        if not self.xi or not all(abs(value) <= 1.0 for value in self.xi):
            raise ValueError(f"xi must be numbers between -1 and 1, got {self.xi}")
        for name in ("every", "first"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")

    def initial_state(self, count: int) -> State:
        return {"wait": np.full(count, float(self.first) if self.every else math.inf)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if observation.shape[1] < len(NAMES):
            raise ValueError(
                f'{self.name!r} reads features; make the environment with observation="features" or "both"'
            )
        teleport = (memory["wait"] <= 0) & ~unpayable(observation)
        memory["wait"] = np.where(teleport, self.every, memory["wait"] - 1.0)
        action = np.zeros((len(observation), 1 + len(self.xi)))
        action[:, 0] = np.where(teleport, 1.0, -1.0)
        action[teleport, 1:] = self.xi
        return action


@dataclass(frozen=True)
class MovePlan:
    """A fixed schedule of the group mode; the attributes are those of `ConstantMove`.

    Attributes:
        learning_rate: Of the steps.
        xi: Group parameters in [-1, 1].
        every: Steps between two teleports; 0: none.
        first: Steps before the first.
    """

    learning_rate: float
    xi: tuple[float, ...]
    every: int = 0
    first: int = 0

    def agent(self, environment: Mapping[str, Any], **settings: Any) -> ConstantMove:
        """The plan as an agent for a comparison; ``environment``: that of the policy."""
        own = {**environment, "learning_rate": self.learning_rate}
        return ConstantMove(xi=self.xi, every=self.every, first=self.first, environment=own, **settings)
