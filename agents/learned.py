"""`LearnedSchedule`: a trained policy as an agent like all others.

It reads features by name, runs a small network (`teleport_env.agents.policy_network`) and acts in the schedule mode, so that
it needs neither the training library nor the environment that trained it. `teleport_env.agents.learning` trains one
(``scripts/train.py``), `teleport_env.agents.policy_file` writes and reads it. A policy for several problems chooses among
*slots* (`teleport_env.agents.learning.slots`); `LearnedSchedule.for_problem` makes of it the agent of one problem.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from teleport_env.agents.base import State
from teleport_env.agents.policy_families import agent_of, check_families
from teleport_env.agents.policy_file import PolicyFileError, read_policy_file
from teleport_env.agents.policy_network import NetworkAgent
from teleport_env.agents.policy_prices import price_shares
from teleport_env.agents.policy_settings import Family, settings_of

PRETRAINED = Path(__file__).parent / "pretrained" / "generalist.json"
"""The policy that the package brings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSchedule(NetworkAgent):
    """A policy network over named features, whose outputs are the logits of the actions.

    Attributes:
        prices: Of each search of the menu, in units of the cheapest. With it, no teleport is chosen that the rest of the
            budget cannot pay; None: whatever the network prefers.
        price_inputs: The network reads, after the features, what each search costs of the budget left (`price_shares`).
        families: Of a policy for several problems: how it plays each. It decides nothing itself, and its ``environment``
            says what all of them share; see `for_problem`.
        slots: Of such a policy: the names of its teleports.
    """

    prices: tuple[float, ...] | None = None
    price_inputs: bool = False
    families: Mapping[str, Family] = field(default_factory=dict, repr=False)
    slots: tuple[str, ...] = ()

    apart: ClassVar[tuple[str, ...]] = (*NetworkAgent.apart, "families")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "slots", tuple(self.slots))
        outputs = self.check_layers(len(self.features) + self.price_inputs * self._teleports)
        if outputs != self.steps + self._teleports or not self.layers:
            raise ValueError(
                f"the network has {outputs} outputs, but rate_factors and searches make {self.steps} + {self._teleports} "
                "actions"
            )
        check_families(self)
        if self.price_inputs and self.prices is None and not self.families:
            raise ValueError("a network that reads prices must be told them: prices is None")
        if self.prices is not None:
            object.__setattr__(self, "prices", tuple(float(price) for price in self.prices))
            if len(self.prices) != self._teleports or not all(0 <= price < math.inf for price in self.prices):
                raise ValueError(f"prices must be {self._teleports} numbers, one a search, got {self.prices}")

    @property
    def _teleports(self) -> int:
        return len(self.slots) or len(self.environment.get("searches", ()))

    # -- several problems ----------------------------------------------------------------------------------------------

    def for_problem(self, problem: str, **environment: Any) -> Self:
        """The agent of one problem: its ``environment`` fits, and its name is this policy's.

        A policy for several problems plays others as well, with the searches that fill its slots there; it is said to work
        best from the learning rate that suits plain descent.

        Args:
            problem: Registered name.
            environment: Other keyword arguments of the environment than this policy's own for that problem.

        Raises:
            ValueError: This policy was trained on other problems, and on one menu, which means nothing elsewhere; or the
                environment cannot be made.
        """
        if self.families:
            return agent_of(self, problem, environment)
        return super().for_problem(problem, **environment)

    @classmethod
    def pretrained(cls) -> LearnedSchedule:
        """The policy for many problems that the package brings; ask it `for_problem`.

        The command that trained it, its seed and the versions are in its ``provenance``; ``docs/learning.md`` says what it
        is worth.
        """
        return cls.load(PRETRAINED)

    # -- playing -------------------------------------------------------------------------------------------------------

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if self.families:
            raise ValueError(
                f"the policy {self.name!r} is for several problems: play agent.for_problem(name), for example "
                f"for_problem({self.problems[0]!r})"
            )
        logits = self.logits(observation)
        if self.stochastic:
            uniform = self.streams(observation, memory).uniform(size=(logits.shape[1],)).clamp(1e-15, 1.0 - 1e-15)
            # the largest of logits and Gumbel noise is a draw from their softmax
            logits = logits - np.log(-np.log(uniform.numpy()))
        return logits.argmax(axis=1)

    def logits(self, observation: np.ndarray) -> np.ndarray:
        """Logits ``(B, actions)`` float64 for observations ``(B, F)``; -inf for teleports that cannot be paid."""
        inputs = self.named(observation)
        shares = price_shares(observation, self.prices) if self.prices else None
        if self.price_inputs and shares is not None:
            inputs = np.concatenate([inputs, shares], axis=1)
        logits = self.evaluate(inputs)
        if shares is not None:
            logits[:, self.steps :][shares >= 1.0] = -np.inf
        return logits

    def probabilities(self, observation: np.ndarray) -> np.ndarray:
        """Probabilities ``(B, actions)`` of stochastic play."""
        logits = self.logits(observation)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    # -- files ---------------------------------------------------------------------------------------------------------

    def more_settings(self) -> dict[str, Any]:
        return {"families": {problem: dataclasses.asdict(family) for problem, family in self.families.items()}}

    @classmethod
    def load(cls, path: Path | str) -> LearnedSchedule:
        """Read a policy that `save` has written.

        Raises:
            FileNotFoundError: There is none.
            PolicyFileError: The file is not such a policy; nothing of it was used.
        """
        found = read_policy_file(path)
        try:
            return cls(**settings_of(found), **cls.parts(found.tensors))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise PolicyFileError(f"{path} is refused: {error}") from error
