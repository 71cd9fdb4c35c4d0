"""`LearnedMoves`: a trained policy that gives the group parameters itself.

In the group mode an action is ``(1 + d)`` numbers: where the first is above 0 the run teleports by ``exp(xi)``, with ``xi``
the others times ``group_scale / sqrt(d)``, else it takes a gradient step. The policy is a Gaussian around what a small
network says; deterministic play does what the network says. A teleport that the rest of the budget cannot pay becomes a
step. The file is that of all policies (`teleport_env.agents.policies.file`), and `load_policy` reads either kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from teleport_env.agents.base import State
from teleport_env.agents.policies.file import PolicyFile, parse_policy, read_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.moves import DIRECTIONS, follow, fresh_trail, unpayable
from teleport_env.agents.policies.network import NetworkAgent
from teleport_env.agents.policies.settings import GROUP_ENVIRONMENT
from teleport_env.envs.features import INDEX


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
    apart: ClassVar[tuple[str, ...]] = (*NetworkAgent.apart, "deviation")
    own: ClassVar[Mapping[str, Any]] = {"directions": list}
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
        """The memory of draws, and of the parameters seen last (`teleport_env.agents.policies.moves`)."""
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
    """The policy that the text of a file is; it passes the same checks.

    Raises:
        PolicyFileError: It is none.
    """
    return _policy_of(parse_policy(text), "this policy")


def _policy_of(found: PolicyFile, where: Path | str) -> Policy:
    environment = found.settings.get("environment")
    moves = isinstance(environment, dict) and environment.get("action_mode") == "group"
    return LearnedMoves.of_file(found, where) if moves else LearnedSchedule.of_file(found, where)
