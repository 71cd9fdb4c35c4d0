"""The group mode: `LearnedMoves`, a trained policy that gives group parameters, and the fixed schedule it must beat.

In the group mode an action is ``(1 + d)`` numbers: where the first is above 0 the run teleports by ``exp(xi)``, with ``xi``
the others times ``group_scale / sqrt(d)``, else it takes a gradient step. The policy is a Gaussian around what a small
network says; deterministic play does what the network says. A teleport that the rest of the budget cannot pay becomes a
step. The file is that of all policies (`teleport_env.agents.policies.file`), and `load_policy` reads either kind.

Features do not say at which angle a run stands. What does, whatever the scale of parameters and of their changes, is the
direction of the last change: after a gradient step that of the gradient. It comes from two observations, so an agent
remembers the parameters that it saw last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from teleport_env.agents.base import Agent, State
from teleport_env.agents.policies.file import PolicyFile, parse_policy, read_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.network import NetworkAgent
from teleport_env.agents.policies.settings import GROUP_ENVIRONMENT
from teleport_env.envs.features import INDEX, NAMES
from teleport_env.reading import integer, refuse

__all__ = ["LearnedMoves", "load_policy", "policy_of"]

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
    """The inputs ``(B, P * len(directions))`` float32 that parameters ``(B, P)`` float32 give; ``trail`` is updated.

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
class LearnedMoves(NetworkAgent):
    """A policy network whose outputs are an action of the group mode.

    Attributes:
        directions: Further inputs, after the features, some of `DIRECTIONS`; they need ``observation="both"``.
        deviation: ``(1 + d,)`` float32, the standard deviations of stochastic play.
    """

    directions: tuple[str, ...] = ()
    deviation: np.ndarray = field(repr=False)

    action_type: ClassVar[type[np.generic]] = np.float32
    in_tensors: ClassVar[tuple[str, ...]] = (*NetworkAgent.in_tensors, "deviation")
    may_ask: ClassVar[tuple[str, ...]] = GROUP_ENVIRONMENT

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", tuple(self.directions))
        if self.environment.get("action_mode") != "group":
            raise ValueError(f'the environment of {self.name!r} must say action_mode="group"')
        if len(set(self.directions)) != len(self.directions) or not set(self.directions) <= set(DIRECTIONS):
            raise ValueError(f"directions must be different names among {', '.join(DIRECTIONS)}, got {self.directions}")
        wanted = "both" if self.directions else "features"
        if self.environment.get("observation", "features") not in (wanted, "both"):
            raise ValueError(f"a policy that reads directions needs observation={wanted!r} in its environment")
        outputs = self.check_layers(len(self.features) + self.parameters * len(self.directions))
        deviation = np.asarray(self.deviation)
        if outputs < 2 or not self.layers or deviation.shape != (outputs,) or not (deviation >= 0).all():
            raise ValueError(
                f"the network has {outputs} outputs, which must be 1 + the group's coordinates, with as many deviations of "
                f"at least 0; got deviations of shape {deviation.shape}"
            )

    @property
    def parameters(self) -> int:
        """How many parameters the problem has, as far as the network reads them; else 0."""
        if not self.directions or not self.layers or self.layers[0][0].ndim != 2:
            return 0
        return (self.layers[0][0].shape[1] - len(self.features)) // len(self.directions)

    # -- playing -------------------------------------------------------------------------------------------------------

    def initial_state(self, count: int) -> State:
        """The memory of draws, and of the parameters seen last (`fresh_trail`)."""
        return {**super().initial_state(count), **fresh_trail(count, self.parameters)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        inputs = self.named(observation)
        if self.directions:
            params = observation[:, len(INDEX) :]
            if params.shape[1] != self.parameters:
                raise ValueError(
                    f"the policy {self.name!r} reads {self.parameters} parameters after the features, got "
                    f'{params.shape[1]}; make the environment with observation="both"'
                )
            inputs = np.concatenate([inputs, follow(params, memory, self.directions)], axis=1)
        action = self.evaluate(inputs)
        if self.stochastic:
            noise = self.streams(observation, memory).normal(size=(action.shape[1],)).numpy()
            action = action + self.deviation.astype(np.float64) * noise
        action = np.clip(action, -1.0, 1.0)
        action[unpayable(observation), 0] = -1.0
        return action

    # -- files ---------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        return {**super().tensors(), "deviation": self.deviation}

    @classmethod
    def parts(cls, tensors: Any) -> dict[str, Any]:
        rest = dict(tensors)
        if "deviation" not in rest:
            raise ValueError("there is no tensor 'deviation'")
        deviation = rest.pop("deviation")
        return {**super().parts(rest), "deviation": deviation}


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantMove(Agent, by_rows=True):
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
        super().__post_init__()
        if self.environment.get("action_mode") != "group":
            raise ValueError(f'the environment of {self.name!r} must say action_mode="group"')
        object.__setattr__(self, "xi", tuple(float(value) for value in self.xi))
        if not self.xi or not all(abs(value) <= 1.0 for value in self.xi):
            refuse("xi", "numbers between -1 and 1", self.xi)
        for name in ("every", "first"):
            integer(name, getattr(self, name), 0)

    def initial_state(self, count: int) -> State:
        return {"wait": np.full(count, np.where(np.asarray(self.every) > 0, self.first, np.inf))}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if observation.shape[1] < len(NAMES):
            raise ValueError(
                f'{self.name!r} reads features; make the environment with observation="features" or "both"'
            )
        teleport = (memory["wait"] <= 0) & ~unpayable(observation)
        memory["wait"] = np.where(teleport, self.every, memory["wait"] - 1.0)
        gate = np.where(teleport, 1.0, -1.0)[:, None]
        return np.concatenate([gate, np.where(teleport[:, None], self.xi, 0.0)], axis=1)


@dataclass(frozen=True)
class MovePlan:
    """A fixed schedule of the group mode: the learning rate, and the other attributes of `ConstantMove`."""

    learning_rate: float
    xi: tuple[float, ...]
    every: int = 0
    first: int = 0

    def in_words(self, environment: Mapping[str, Any]) -> str:
        """The plan in a line; the group mode's ``environment`` has no menu."""
        rate = f"learning rate {self.learning_rate:.4g}"
        if not self.every:
            return f"{rate}; no teleports"
        wait = f", the first after {self.first} steps" * bool(self.first)
        xi = ", ".join(f"{value:.3g}" for value in self.xi)
        return f"{rate}; a teleport by xi = ({xi}) every {self.every} steps{wait}"

    def agent(self, environment: Mapping[str, Any], **settings: Any) -> ConstantMove:
        """The plan as an agent for a comparison; ``environment``: that of the policy."""
        own = {**environment, "learning_rate": self.learning_rate}
        return ConstantMove(xi=self.xi, every=self.every, first=self.first, environment=own, **settings)


Policy = LearnedSchedule | LearnedMoves
"""Of whichever mode."""


def load_policy(path: Path | str) -> Policy:
    """Read a policy, of whichever mode it plays.

    Raises:
        FileNotFoundError: There is none.
        PolicyFileError: The file is no policy; nothing of it was used.
    """
    return _policy_of(read_policy_file(path), path)


def policy_of(text: str) -> Policy:
    """The policy that the text of a file is; raises the PolicyFileError of `load_policy`."""
    return _policy_of(parse_policy(text), "this policy")


def _policy_of(found: PolicyFile, where: Path | str) -> Policy:
    environment = found.settings.get("environment")
    moves = isinstance(environment, dict) and environment.get("action_mode") == "group"
    return LearnedMoves.of_file(found, where) if moves else LearnedSchedule.of_file(found, where)
