"""`LearnedSchedule`: a trained policy as an agent like all others.

It reads features by name, runs a small network (`policies.network`) and acts in the schedule mode, so that it
needs neither the training library nor the environment that trained it. `teleport_env.agents.learning` trains one
(``scripts/train.py``), `teleport_env.agents.policies.file` writes and reads it. A policy for several problems chooses among
*slots* (`teleport_env.agents.policies.slots`); `LearnedSchedule.for_problem` makes of it the agent of one problem.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent, State
from teleport_env.agents.policies.network import NetworkAgent
from teleport_env.agents.policies.settings import ENVIRONMENT, Family
from teleport_env.agents.policies.slots import SLOTS, fill, price_shares, relative, search_prices
from teleport_env.envs.settings import check_arguments
from teleport_env.reading import known

__all__ = ["LearnedSchedule", "Masked", "shipped", "shipped_for"]

SHIPPED = Path(__file__).parents[1] / "pretrained"
"""Folder of the policies that the package brings: one for each problem that has one, named after it, and the generalist.

A folder in it, named after a reward, has those that were trained by that reward."""
GENERALIST = "generalist"
PRETRAINED = SHIPPED / f"{GENERALIST}.json"
"""The policy for many problems."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSchedule(NetworkAgent):
    """A trained policy: a small network gives each action a logit, from features that it knows by name.

    Attributes:
        prices: Price of each search of the menu, in units of the cheapest. With it, no teleport is chosen that the rest
            of the budget cannot pay; None: whatever the network prefers.
        price_inputs: The network reads, after the features, what each search costs of the budget left (`price_shares`).
        families: Settings for each problem, of a policy for several problems. That policy decides nothing itself, and its
            ``environment`` says what all of them share; see `for_problem`.
        slots: Names of the teleports of such a policy.
    """

    prices: tuple[float, ...] | None = None
    price_inputs: bool = False
    families: Mapping[str, Family] = field(default_factory=dict, repr=False)
    slots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "slots", tuple(self.slots))
        outputs = self.check_layers(len(self.features) + self.price_inputs * self._teleports)
        if outputs != self.step_actions + self._teleports or not self.layers:
            raise ValueError(
                f"the network has {outputs} outputs, but rate_factors and searches make "
                f"{self.step_actions} + {self._teleports} actions"
            )
        _check_families(self)
        if self.price_inputs and self.prices is None and not self.families:
            raise ValueError("a network that reads prices needs them: prices is None")
        if self.prices is not None:
            object.__setattr__(self, "prices", tuple(float(price) for price in self.prices))
            if len(self.prices) != self._teleports or not all(0 <= price < math.inf for price in self.prices):
                raise ValueError(f"prices must be {self._teleports} numbers, one per search, got {self.prices}")

    @property
    def _teleports(self) -> int:
        return len(self.slots) or len(self.environment.get("searches", ()))

    # -- several problems ----------------------------------------------------------------------------------------------

    def for_problem(self, problem: str, **environment: Any) -> LearnedSchedule:
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
        check_arguments(f"environment of the policy {self.name!r}", environment)
        if not self.families:
            return super().for_problem(problem, **environment)
        # of the network the agent keeps the slots that the problem fills
        family = self.families.get(problem)
        if family is None or environment:
            family = _new_family(self, problem, environment, family)
        count = len(self.features)
        absent = [slot for slot in range(len(self.slots)) if slot not in family.slots]
        outputs = [*range(self.step_actions), *(self.step_actions + slot for slot in family.slots)]
        layers = list(self.layers)
        if self.price_inputs:
            # an empty slot costs more than there is: its share is 1 throughout
            weight, bias = layers[0]
            kept = [*range(count), *(count + slot for slot in family.slots)]
            gone = weight[:, [count + slot for slot in absent]].sum(axis=1, dtype=np.float64)
            layers[0] = weight[:, kept], (bias + gone).astype(np.float32)
        weight, bias = layers[-1]
        layers[-1] = weight[outputs], bias[outputs]
        provenance = dict(self.provenance)
        for kind in ("plan", "rule", "fallback"):
            found = provenance.pop(f"{kind}s", {}).get(problem)
            if found is not None:
                provenance[kind] = found
        return dataclasses.replace(
            self,
            problems=(problem,),
            environment=dict(family.environment),
            prices=tuple(family.prices),
            layers=tuple(layers),
            families={},
            slots=(),
            provenance=provenance,
        )

    @classmethod
    def pretrained(cls, name: str = GENERALIST, reward: str | None = None) -> LearnedSchedule:
        """A policy that the package brings.

        Its ``provenance`` holds the command that trained it, the seed and the versions. What it gains stands in
        ``docs/learning.md``.

        Args:
            name: Problem that has a policy of its own, or ``"generalist"``: the policy for many problems, which plays by
                `for_problem`.
            reward: Reward that the policy was trained by: ``"score"``, to be early; None: the orders of magnitude gained.

        Raises:
            ValueError: The package brings no such policy; the names that there are.
        """
        what = "a policy that the package brings"
        if reward is not None:
            what += f" for the reward {known('reward of a policy that the package brings', reward, rewards())!r}"
        return cls.load(_folder(reward) / f"{known(what, name, shipped(reward))}.json")

    # -- playing -------------------------------------------------------------------------------------------------------

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return self.choose(self.logits(observation), observation, memory)

    def choose(self, logits: np.ndarray, observation: np.ndarray, memory: State) -> np.ndarray:
        """Actions ``(B,)``: the likeliest by the logits ``(B, actions)``, or draws where the policy is stochastic."""
        if self.stochastic:
            uniform = self.streams(observation, memory).uniform(size=(logits.shape[1],)).clamp(1e-15, 1.0 - 1e-15)
            # the largest of logits and Gumbel noise is a draw from their softmax
            logits = logits - np.log(-np.log(uniform.numpy()))
        return logits.argmax(axis=1)

    def logits(self, observation: np.ndarray) -> np.ndarray:
        """Logits ``(B, actions)`` float64 for observations ``(B, F)``; -inf for teleports that cannot be paid.

        Raises:
            ValueError: This policy is for several problems, or the observation is too short to hold features.
        """
        if self.families:
            raise ValueError(
                f"the policy {self.name!r} is for several problems: play agent.for_problem(name), for example "
                f"for_problem({self.problems[0]!r})"
            )
        inputs = self.named(observation)
        shares = price_shares(observation, self.prices) if self.prices else None
        if self.price_inputs and shares is not None:
            inputs = np.concatenate([inputs, shares], axis=1)
        logits = self.evaluate(inputs)
        if shares is not None:
            logits[:, self.step_actions :][shares >= 1.0] = -np.inf
        return logits

    def probabilities(self, observation: np.ndarray) -> np.ndarray:
        """Probabilities ``(B, actions)`` of stochastic play."""
        logits = self.logits(observation)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    # -- files ---------------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        families = {problem: dataclasses.asdict(family) for problem, family in self.families.items()}
        return {**super().settings(), "families": families}


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked(Agent):
    """A policy that may only choose among its gradient steps: its teleports have probability 0, and it draws as ever.

    It decides on the run as it is without teleports. The environment has the policy's menu all the same: prices are among
    the features that the policy was trained on. Until the policy would teleport, it does what the policy does, bit for bit.

    Attributes:
        policy: The policy; one for several problems must be that of one of them (`LearnedSchedule.for_problem`).
    """

    kind: str = "control"
    policy: LearnedSchedule

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"{self.policy.name}, teleports masked")
        object.__setattr__(self, "environment", self.environment or self.policy.environment)
        super().__post_init__()

    def initial_state(self, count: int) -> State:
        return self.policy.initial_state(count)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        logits = self.policy.logits(observation)
        logits[:, self.policy.step_actions :] = -np.inf
        return self.policy.choose(logits, observation, memory)


def _folder(reward: str | None) -> Path:
    return SHIPPED if reward is None else SHIPPED / reward


def rewards() -> list[str]:
    """Rewards, besides the orders of magnitude gained, by which shipped policies were trained."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())


def shipped(reward: str | None = None) -> list[str]:
    """Names of the policies that the package brings; of those trained by a ``reward``, if one is named."""
    return sorted(path.stem for path in _folder(reward).glob("*.json"))


def specialists(reward: str | None = None) -> list[str]:
    """Problems that have a shipped policy of their own; as `shipped`."""
    return [name for name in shipped(reward) if not name.startswith(GENERALIST)]


def generalists() -> list[str]:
    """Names of the shipped policies for several problems."""
    return [name for name in shipped() if name.startswith(GENERALIST)]


def shipped_for(problem: str) -> list[LearnedSchedule]:
    """The policies that the package brings for a problem: its own where there is one, then the generalist."""
    return [LearnedSchedule.pretrained(name) for name in (problem, GENERALIST) if name in shipped()]


# -- policies for several problems --------------------------------------------------------------------------------------


def _check_families(policy: LearnedSchedule) -> None:
    """Raise ValueError unless families and slots fit each other and the policy."""
    if bool(policy.families) != bool(policy.slots):
        raise ValueError("a policy for several problems has families and slots, any other has neither")
    unknown = [name for name in policy.slots if name not in SLOTS]
    if unknown or len(set(policy.slots)) != len(policy.slots):
        raise ValueError(f"slots must be different names among {', '.join(SLOTS)}, got {policy.slots}")
    if policy.families and (set(policy.families) != set(policy.problems) or "searches" in policy.environment):
        raise ValueError(
            "a policy for several problems has a family for each, and a menu in each family's environment alone"
        )
    for problem, family in policy.families.items():
        count = len(family.environment.get("searches", ()))
        sane = all(type(slot) is int and 0 <= slot < len(policy.slots) for slot in family.slots)
        if not sane or not len(family.slots) == len(set(family.slots)) == len(family.prices) == count:
            raise ValueError(f"the family {problem!r} must have a slot and a price for each of its {count} searches")
        if list(family.environment.get("rate_factors", (1.0,))) != list(policy.environment.get("rate_factors", (1.0,))):
            raise ValueError(f"the family {problem!r} has other rate_factors than the policy")


def _new_family(policy: LearnedSchedule, problem: str, environment: Mapping[str, Any], known: Family | None) -> Family:
    """How to play a problem that the policy was not trained on, or in another environment."""
    start = policy.environment if known is None else known.environment
    asked = {name: value for name, value in {**start, **environment}.items() if name != "searches"}
    if list(asked.get("rate_factors", (1.0,))) != list(policy.environment.get("rate_factors", (1.0,))):
        raise ValueError(f"the policy {policy.name!r} chooses among its own rate_factors")
    menu = fill(problem, policy.slots, **asked)
    filled = [(slot, search) for slot, search in enumerate(menu) if search is not None]
    searches = [search for _, search in filled]
    prices = relative(search_prices(problem, searches, **asked))
    kept = {name: value for name, value in asked.items() if name in ENVIRONMENT}
    return Family({**kept, "searches": searches}, tuple(slot for slot, _ in filled), prices)
