"""Fixed schedules: when to teleport is settled before the run begins.

What a published schedule calls "teleport before step t" is, here and everywhere in this project: *once the run has taken
exactly t gradient steps, teleport, then take the next step*. The publication counts its steps from 0, so that ``at_steps``
with ``(99, 199, ...)`` is its "before steps 99, 199, ..." of the Rosenbrock experiment. A teleport is no gradient step.

An agent counts its gradient steps as its step actions times ``steps_per_action``. It asks for each teleport of its schedule
once: one that is refused is gone, unless ``retry`` is set. It asks for none that the rest of the budget cannot pay, because
that would end the episode.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from teleport_env.agents.base import Agent, State, entry, feature, register_agent
from teleport_env.envs.features import NAMES
from teleport_env.random import Streams, fold_in
from teleport_env.reading import entries, integer, number

LONG_AGO = 1 << 40
"""Gradient steps since the last teleport where there was none."""

SLACK = 1e-3
"""Of a gradient step: features are float32."""


def require_count(agent: Agent, name: str, least: int = 1) -> None:
    """Raise ValueError unless the setting is an integer of at least ``least``."""
    integer(f"{name} of {type(agent).__name__}", getattr(agent, name), least=least)


def require_number(agent: Agent, name: str, low: float | None = None, high: float | None = None) -> None:
    """Raise ValueError unless the setting is a finite number within the bounds, which are allowed themselves."""
    number(f"{name} of {type(agent).__name__}", getattr(agent, name), least=low, most=high)


def plain_step(agent: Agent) -> int:
    """The action that steps and leaves the learning rate alone.

    Raises:
        ValueError: The agent's ``rate_factors`` do not hold 1.0.
    """
    factors = [float(factor) for factor in agent.environment.get("rate_factors", (1.0,))]
    if 1.0 not in factors:
        raise ValueError(f"{type(agent).__name__} needs 1.0 among its rate_factors to step by, got {tuple(factors)}")
    return factors.index(1.0)


@dataclass(frozen=True, kw_only=True)
class Never(Agent, by_rows=True, blind=True):
    """Gradient steps alone: plain descent, or the optimizer in ``environment["optimizer"]`` without teleports.

    The environment is asked for an empty menu unless it names one.
    """

    name: str = "never"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "environment", {"searches": [], **self.environment})
        plain_step(self)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.full(len(observation), plain_step(self), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Schedule(Agent):
    """What all agents that teleport have in common; a subclass says when in `due`.

    Attributes:
        which: Index of the search in the menu.
        steps_per_action: Gradient steps of one step action, also asked of the environment; None: what ``environment`` says,
            else 1.
        least_steps: No teleport unless what is left after it pays for so many gradient steps. The agent sees the price of
            the *cheapest* search of the menu: give it a menu of one where prices differ.
        retry: Ask once more for a refused teleport, after the next step action.
    """

    which: int = 0
    steps_per_action: int | None = None
    least_steps: int = 1
    retry: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(self, "which", least=0)
        require_count(self, "least_steps", least=0)
        # A setting goes before the environment's entry: dataclasses.replace carries over the latter.
        environment = {"steps_per_action": 1, **self.wanted(), **self.environment, **self.imposed()}
        if self.steps_per_action is not None:
            require_count(self, "steps_per_action")
            environment["steps_per_action"] = int(self.steps_per_action)
        object.__setattr__(self, "environment", environment)
        plain_step(self)
        self.check()

    def check(self) -> None:
        """Raise ValueError for a setting that is not allowed."""

    def wanted(self) -> dict[str, Any]:
        """Keyword arguments of the environment that hold unless ``environment`` has others."""
        return {}

    def imposed(self) -> dict[str, Any]:
        """Keyword arguments of the environment that follow from the agent's settings, whatever ``environment`` says."""
        return {}

    @property
    def stride(self) -> int:
        """Gradient steps of one step action."""
        return int(self.environment["steps_per_action"])

    def initial_state(self, count: int) -> State:
        """The memory: ``taken`` gradient steps, ``since`` the last teleport asked for, whether the last action ``asked`` for
        one, and whether one is ``owed``."""
        return {
            "taken": np.zeros(count, dtype=np.int64),
            "since": np.full(count, LONG_AGO, dtype=np.int64),
            "asked": np.zeros(count, dtype=bool),
            "owed": np.zeros(count, dtype=bool),
        }

    @abstractmethod
    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        """Which runs ``(B,)`` bool should teleport now; may update its own entries of ``memory``."""

    def step_action(self, memory: State) -> np.ndarray:
        """The gradient step ``(B,)`` of the runs that do not teleport, an index of ``rate_factors``."""
        return np.full(len(memory["taken"]), plain_step(self), dtype=np.int64)

    def affordable(self, observation: np.ndarray) -> np.ndarray:
        """Which runs ``(B,)`` bool can pay for a teleport and ``least_steps`` gradient steps after it."""
        price = feature(observation, "price").astype(np.float64)
        left = 10.0 ** (4.0 * feature(observation, "log_budget_left").astype(np.float64)) - 1.0
        return (price < 1.0) & (left * (1.0 - price) >= self.least_steps - SLACK)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        asked = memory["asked"]
        wants = self.due(observation, memory)
        if np.any(self.retry):
            refused = feature(observation, "refused") > 0.5
            memory["owed"] = np.where(asked, refused, memory["owed"])
            wants = wants | (self.retry & memory["owed"] & ~asked)
        if not wants.any():  # most calls, for which the rest is the same in fewer operations
            action = self.step_action(memory)
            memory["taken"] = memory["taken"] + self.stride
            memory["since"] = memory["since"] + self.stride
            memory["asked"] = wants
            return action
        teleport = wants & self.affordable(observation)
        action = np.where(teleport, self.step_actions + self.which, self.step_action(memory))
        memory["taken"] = memory["taken"] + np.where(teleport, 0, self.stride)
        memory["since"] = np.where(teleport, 0, memory["since"] + self.stride)
        memory["owed"] = memory["owed"] & ~teleport
        memory["asked"] = teleport
        return action


@dataclass(frozen=True, kw_only=True)
class AtSteps(Schedule, by_rows=True, blind=True):
    """The publication's set K: one teleport at each entry of ``steps``.

    Attributes:
        steps: Gradient steps taken before each teleport, in ascending order; a number that stands twice is two teleports in
            a row. With several gradient steps per action, the first count that is not below it.
    """

    name: str = "at steps"
    steps: tuple[int, ...] = (99, 199, 299, 399, 499, 599, 699, 799, 899, 999)

    def check(self) -> None:
        counts = entries("steps of AtSteps", self.steps, "step counts")
        object.__setattr__(self, "steps", tuple(integer("a step count of AtSteps", step, 0) for step in counts))
        if list(self.steps) != sorted(self.steps):
            raise ValueError(f"steps of AtSteps must be step counts of at least 0 in ascending order, got {self.steps}")

    def initial_state(self, count: int) -> State:
        return {**super().initial_state(count), "passed": np.zeros(count, dtype=np.int64)}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        times, count = np.asarray(self.steps, dtype=np.int64), np.shape(self.steps)[-1]
        left = memory["passed"] < count
        now = left & (memory["taken"] >= entry(times, np.minimum(memory["passed"], count - 1))) if count else left
        memory["passed"] = memory["passed"] + now
        return now


@dataclass(frozen=True, kw_only=True)
class Every(Schedule, by_rows=True, blind=True):
    """A teleport every ``k`` gradient steps.

    Attributes:
        k: Gradient steps from one teleport to the next.
        offset: Gradient steps before the first; 0: the run begins with a teleport.
    """

    name: str = "every"
    k: int = 10
    offset: int = 0

    def check(self) -> None:
        require_count(self, "k")
        require_count(self, "offset", least=0)

    def initial_state(self, count: int) -> State:
        return {**super().initial_state(count), "next": np.full(count, self.offset, dtype=np.int64)}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        now = memory["taken"] >= memory["next"]
        # the next multiple beyond what was taken: a long action may pass several, which are one teleport
        following = memory["next"] + self.k * ((memory["taken"] - memory["next"]) // self.k + 1)
        memory["next"] = np.where(now, following, memory["next"])
        return now


@dataclass(frozen=True, kw_only=True)
class Cycle(Agent, by_rows=True, blind=True):
    """The same actions over and over, such as a teleport, a step, another teleport, a step.

    An action that the rest of the budget cannot pay is refused by the environment, and the cycle goes on.

    Attributes:
        pattern: Indices of actions: first the step actions, one per rate factor, then the teleports of the menu.
    """

    name: str = "cycle"
    pattern: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pattern", tuple(self.pattern))
        if not self.pattern or not all(isinstance(a, (int, np.integer)) and a >= 0 for a in self.pattern):
            raise ValueError(f"pattern of Cycle must be indices of actions, at least one, got {self.pattern!r}")
        if not any(action < self.step_actions for action in self.pattern):
            raise ValueError(
                f"pattern of Cycle must hold a gradient step (an index below {self.step_actions}), got {self.pattern!r}"
            )

    def initial_state(self, count: int) -> State:
        return {"played": np.zeros(count, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        actions = entry(self.pattern, memory["played"] % np.shape(self.pattern)[-1])
        memory["played"] = memory["played"] + 1
        return actions


@dataclass(frozen=True, kw_only=True)
class First(Schedule, by_rows=True, blind=True):
    """One teleport before each of the first ``k`` gradient steps (or step actions that begin within them).

    Attributes:
        k: Number of those gradient steps.
    """

    name: str = "first"
    k: int = 1

    def check(self) -> None:
        require_count(self, "k", least=0)

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return ~memory["asked"] & (memory["taken"] < self.k)


@dataclass(frozen=True, kw_only=True)
class RandomTiming(Schedule, by_rows=True):
    """A teleport before each step action with a fixed probability, which tests whether the time of a teleport matters.

    Draws are counter-based. A run's key is a hash of ``seed`` and of its episode's first features, so that a run draws the
    same whether alone or in any row of a batch. Two episodes on one instance draw alike.

    Attributes:
        probability: Probability of a teleport before a step action.
        seed: Any integer.
    """

    name: str = "random timing"
    probability: float = 0.1
    seed: int = 0

    def check(self) -> None:
        require_number(self, "probability", 0.0, 1.0)

    def initial_state(self, count: int) -> State:
        fresh = {"key": np.zeros(count, dtype=np.int64), "keyed": np.zeros(count, dtype=bool)}
        return {**super().initial_state(count), **fresh}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if not memory["keyed"].all():
            memory["key"] = np.where(memory["keyed"], memory["key"], episode_keys(observation, self.seed))
            memory["keyed"] = np.ones_like(memory["keyed"])
        numbers = torch.from_numpy(memory["taken"])
        drawn = Streams(fold_in(torch.from_numpy(memory["key"]), numbers)).uniform().numpy()
        return ~memory["asked"] & (drawn < self.probability)


def episode_keys(observation: np.ndarray, seed: int | np.ndarray) -> np.ndarray:
    """Keys ``(B,)`` int64 of the runs' own random numbers, a hash of ``seed``, one or ``(B,)``, and of the first features
    ``(B, F)``."""
    features = np.ascontiguousarray(observation[:, : len(NAMES)], dtype=np.float32)
    bits = torch.from_numpy(features.view(np.int32).astype(np.int64))
    keys = Streams.from_seeds(np.atleast_1d(seed).tolist()).keys.expand(len(bits))
    for column in bits.unbind(1):
        keys = fold_in(keys, column)
    return keys.numpy()


@dataclass(frozen=True, kw_only=True)
class RandomElement(Every, by_rows=True, blind=True):
    """A teleport by a random group element every ``k`` gradient steps, which tests whether the destination matters.

    Attributes:
        scale: Distance of the elements from the identity, as in `Group.sample`. 1 is uniform on compact groups and far
            too far on others, so that a comparison tries several.
    """

    name: str = "random element"
    scale: float = 0.1

    def wanted(self) -> dict[str, Any]:
        return {"searches": [{"search": "random_element", "scale": self.scale}]}

    def variants(self) -> tuple[Agent, ...]:
        # the menu is derived from the scale anew
        bare = {key: value for key, value in self.environment.items() if key != "searches"}
        return tuple(dataclasses.replace(self, scale=scale, environment=bare) for scale in (0.03, 0.1, 0.3, 1.0))


@dataclass(frozen=True, kw_only=True)
class ResetOptimizer(Every, by_rows=True, blind=True):
    """A cleared optimizer state every ``k`` gradient steps and no move, which tests how much of a gain is the reset."""

    name: str = "reset optimizer"
    kind: str = "control"
    offset: int = 10

    def wanted(self) -> dict[str, Any]:
        return {"searches": ["reset_optimizer"]}


@dataclass(frozen=True, kw_only=True)
class RateWarmupDecay(Schedule, by_rows=True):
    """A fixed schedule of the learning rate without teleports, which tests whether teleports are needed at all.

    The rate is multiplied by ``up`` before each step action that begins within the first ``warmup`` gradient steps, and by
    ``down`` after every ``decay_every`` gradient steps from there on.

    Attributes:
        up: Factor of the warm-up.
        warmup: Its length in gradient steps.
        down: Factor of the decay.
        decay_every: Gradient steps from one decay to the next; 0: none.
    """

    name: str = "rate warm-up and decay"
    kind: str = "control"
    up: float = 1.2
    warmup: int = 5
    down: float = 0.7
    decay_every: int = 20

    def check(self) -> None:
        require_count(self, "warmup", least=0)
        require_count(self, "decay_every", least=0)
        for name in ("up", "down"):
            require_number(self, name, 2.0**-10, 2.0**10)

    def wanted(self) -> dict[str, Any]:
        return {"searches": []}

    def imposed(self) -> dict[str, Any]:
        return {"rate_factors": (1.0, float(self.up), float(self.down))}

    def initial_state(self, count: int) -> State:
        first = np.full(count, self.warmup + self.decay_every, dtype=np.int64)
        never = LONG_AGO * (np.asarray(self.decay_every) == 0)
        return {**super().initial_state(count), "decay": first + never}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.zeros(len(observation), dtype=bool)

    def step_action(self, memory: State) -> np.ndarray:
        action = np.where(memory["taken"] < self.warmup, 1, 0)
        return np.where(memory["taken"] >= memory["decay"], 2, action)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        action = super().decide(observation, memory)
        memory["decay"] = memory["decay"] + np.where(action == 2, self.decay_every, 0)
        return action


@dataclass(frozen=True, kw_only=True)
class RateAndTeleport(RateWarmupDecay, by_rows=True):
    """A fixed schedule of teleports and of learning rates: flatten by teleports, then take steps with a larger rate.

    Attributes:
        first: One teleport before each of the first so many gradient steps.
        every: Gradient steps from one of the later teleports to the next; 0: none.
    """

    name: str = "rate and teleport"
    kind: str = "fixed"
    first: int = 3
    every: int = 20

    def check(self) -> None:
        super().check()
        require_count(self, "first", least=0)
        require_count(self, "every", least=0)

    def wanted(self) -> dict[str, Any]:
        return {}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        again = (self.every > 0) & (memory["taken"] > 0) & (memory["since"] >= self.every)
        return ((memory["taken"] < self.first) | again) & ~memory["asked"]


def line_search(
    *, name: str = "line search", kind: str = "control", environment: Mapping[str, Any] | None = None
) -> Never:
    """Plain descent whose steps search for their rate and pay for it: a control, since a teleport changes the metric."""
    return Never(name=name, kind=kind, environment={"optimizer": "gd_line_search", **(environment or {})})


register_agent("never", Never)
register_agent("at_steps", AtSteps)
register_agent("every", Every)
register_agent("cycle", Cycle)
register_agent("first", First)
register_agent("random_timing", RandomTiming)
register_agent("random_element", RandomElement)
register_agent("reset_optimizer", ResetOptimizer)
register_agent("rate_warmup_decay", RateWarmupDecay)
register_agent("rate_and_teleport", RateAndTeleport)
register_agent("line_search", line_search)
