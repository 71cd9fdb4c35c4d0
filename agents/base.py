"""The base class of agents.

An agent decides from observations: `Agent.predict` has the signature of stable-baselines3's policies, batched, so that its
``evaluate_policy``, this project's comparison and a user's own loop play all agents alike. Whatever an agent remembers, such
as how many gradient steps it has asked for, is in the ``state`` it returns and is given back; the
object itself does not change while it plays.

Most agents act in the schedule mode: action ``0 .. F-1`` is a gradient step with one of ``F`` rate factors, action ``F + k``
a teleport by search ``k`` of the menu. An agent names the environment it wants by its ``environment``.

Agents of one class that differ in settings can decide in one call, as one agent whose settings are arrays with an entry per
run: see `merged`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from teleport_env.agents.identity import exact
from teleport_env.envs.features import INDEX
from teleport_env.envs.settings import check_arguments
from teleport_env.reading import arguments, choose, entries, known, refuse

State = dict[str, np.ndarray]
"""What an agent remembers of each run, arrays with leading axis ``B``."""

KINDS = ("fixed", "adaptive", "learned", "control", "reference", "structure", "oracle")
"""Kinds of agents, by which tables sort them."""


@dataclass(frozen=True, kw_only=True)
class Agent(ABC):
    """A policy over the schedule mode.

    ``class MyRule(Rule, by_rows=True)`` promises that `decide` and `initial_state` also work with settings that are arrays
    ``(B, ...)``, an entry per run, in place of each number, flag, text or tuple of numbers. ``blind=True`` promises that it
    reads nothing of an observation but what is left of the budget, the price, and whether the last teleport was refused:
    a `Teleporter` then spares the loop the rest. A class does not inherit either.

    Attributes:
        name: Name in tables.
        kind: One of `KINDS`.
        environment: Keyword arguments for `gym.make` that this agent needs: its menu of ``searches``, its ``rate_factors``,
            ``learning_rate``, ``optimizer``, ``on_teleport``. What it leaves open is the problem's default.
    """

    name: str = ""
    kind: str = "fixed"
    environment: Mapping[str, Any] = field(default_factory=dict)

    action_type: ClassVar[type[np.generic]] = np.int64
    """Type of the actions: float32 where the agent plays the group mode."""
    by_rows: ClassVar[bool] = False
    """Whether `decide` and `initial_state` also work with settings that are arrays, an entry per run."""
    blind: ClassVar[bool] = False
    """Whether the agent reads nothing but what is left of the budget, the price, and a refused teleport."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            refuse(f"name of {type(self).__name__}", "a string", self.name)
        choose(type(self).__name__, self, "kind", KINDS)
        check_arguments(f"environment of agent {self.name!r}", self.environment)
        entries("rate_factors", self.environment.get("rate_factors", ()), "numbers")

    def __init_subclass__(cls, by_rows: bool = False, blind: bool = False, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.by_rows, cls.blind = by_rows, blind

    @property
    def step_actions(self) -> int:
        """How many of the actions are gradient steps."""
        return len(self.environment.get("rate_factors", (1.0,)))

    def variants(self) -> tuple[Agent, ...]:
        """This agent with the settings that a comparison should choose among on the train split; by default as it is."""
        return (self,)

    def initial_state(self, count: int) -> State:
        """The memory of ``count`` runs at the start of their episodes."""
        return {}

    def predict(
        self,
        observation: np.ndarray,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, State]:
        """Choose actions.

        Args:
            observation: ``(B, F)`` features, or ``(F,)`` of one run.
            state: State that the last call returned; None at the start.
            episode_start: ``(B,)`` bool: runs that begin an episode now, whose memory is cleared.
            deterministic: Unused by rules, which are deterministic given their state.

        Returns:
            Actions ``(B,)`` int64 (an int64 scalar for one run) and the new state.
        """
        observation = np.asarray(observation)
        single = observation.ndim == 1
        batch = observation[None] if single else observation
        count = len(batch)
        if state is None:
            memory = self.initial_state(count)
        else:
            # the caller's state is not touched: it may be replayed
            memory = {name: values.copy() for name, values in state.items()}
            if episode_start is not None and np.any(episode_start):
                begins = np.broadcast_to(np.asarray(episode_start, dtype=bool), (count,))
                for name, fresh in self.initial_state(count).items():
                    memory[name][begins] = fresh[begins]
        actions = np.asarray(self.decide(batch, memory), dtype=self.action_type)
        return (actions[0] if single else actions), memory

    @abstractmethod
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        """Actions ``(B,)`` for observations ``(B, F)``; ``memory`` is updated in place."""


def feature(observation: np.ndarray, name: str) -> np.ndarray:
    """One feature ``(B,)`` of observations ``(B, F)``, by its name in `teleport_env.envs.features.FEATURES`."""
    return observation[:, INDEX[known("feature", name, INDEX)]]


def as_feature(setting: Any) -> np.ndarray:
    """A setting, a number or an array ``(B,)``, in the precision of features: what it is compared with."""
    return np.asarray(setting, dtype=np.float32)


def entry(values: Any, places: np.ndarray) -> np.ndarray:
    """The entries ``(B,)`` at ``places`` ``(B,)`` of a list ``(n,)``, or of one list per run ``(B, n)``."""
    array = np.asarray(values)
    return array[places] if array.ndim == 1 else array[np.arange(len(places)), places]


_OUTSIDE = ("name", "kind", "environment")  # settings that no decision is made by, but for `Agent.step_actions`


def likeness(agent: Agent) -> Any:
    """What agents have in common that `merged` can make one of; an object of its own for an agent that it cannot."""
    if not type(agent).by_rows:
        return id(agent)
    named = {one.name for one in fields(agent)}
    settings = [(name, _shape(getattr(agent, name))) for name in sorted(named.difference(_OUTSIDE))]
    more = {name: value for name, value in vars(agent).items() if name not in named}
    factors = [float(factor) for factor in agent.environment.get("rate_factors", (1.0,))]
    step = factors.index(1.0) if 1.0 in factors else -1
    asked = exact((more, agent.environment.get("steps_per_action")))
    return type(agent), len(factors), step, asked, tuple(settings)


_EXACT = 2**53
"""Integers up to here are the same as floats, so that both can lie in one array."""


def _shape(setting: Any) -> Any:
    """Of settings that can lie in one array the same; of others what they are."""
    kind = type(setting)
    if kind in (bool, str) or issubclass(kind, np.number | np.bool):
        return kind
    if kind is float or (kind is int and abs(setting) <= _EXACT):
        return float
    if kind is tuple and all(type(one) in (int, float) for one in setting):
        return tuple(map(_shape, setting))
    return exact(setting)


def merged(agents: Sequence[Agent], runs: int) -> Agent:
    """Agents of one `likeness` as one, which decides for ``runs`` runs of the first, as many of the second and so on.

    Its settings are arrays where the agents differ, and its name and environment are those of the first.
    """
    whole = copy.copy(agents[0])
    for one in fields(whole):
        values = [getattr(agent, one.name) for agent in agents]
        if one.name not in _OUTSIDE and len(set(map(exact, values))) > 1:
            object.__setattr__(whole, one.name, np.repeat(np.array(values), runs, axis=0))
    return whole


AGENTS: dict[str, Callable[..., Agent]] = {}
"""Names to what builds an agent; filled by `register_agent`."""


def register_agent(name: str, factory: Callable[..., Agent]) -> Callable[..., Agent]:
    """Make an agent known by name; again replaces."""
    AGENTS[name] = factory
    return factory


def agent_from(name: str, **settings: Any) -> Agent:
    """The agent of that name.

    Raises:
        ValueError: There is none, or it does not take these settings.
    """
    name = known("agent", name, AGENTS)
    read = arguments(f"agent {name!r}", AGENTS[name], settings)
    try:
        return AGENTS[name](**read)
    except TypeError as error:  # a setting that is missing
        raise ValueError(f"agent {name!r} cannot be built with {settings}: {error}") from error
