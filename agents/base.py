"""What an agent is.

An agent decides from observations: `Agent.predict` has the signature of stable-baselines3's policies, batched, so that its
``evaluate_policy``, this project's comparison and a user's own loop play all agents alike. Whatever an agent remembers (how
many gradient steps it has asked for, whether a cooldown is running) is in the ``state`` it returns and is given back; the
object itself does not change while it plays.

Most agents act in the schedule mode: action ``0 .. F-1`` is a gradient step with one of ``F`` rate factors, action ``F + k``
a teleport by search ``k`` of the menu. An agent names the environment it wants by `Agent.requirements`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from teleport_env.envs.features import INDEX
from teleport_env.reading import arguments, known

State = dict[str, np.ndarray]
"""What an agent remembers of each run, arrays with leading axis ``B``."""

KINDS = ("fixed", "adaptive", "learned", "control", "reference", "oracle")


@dataclass(frozen=True, kw_only=True)
class Agent(ABC):
    """A policy over the schedule mode.

    Attributes:
        name: What tables call it.
        kind: One of `KINDS`.
        environment: Keyword arguments for `gym.make` that this agent needs: its menu of ``searches``, its ``rate_factors``,
            ``learning_rate``, ``optimizer``, ``on_teleport``. What it leaves open is the problem's default.
    """

    name: str = ""
    kind: str = "fixed"
    environment: Mapping[str, Any] = field(default_factory=dict)

    action_type: ClassVar[type[np.generic]] = np.int64
    """Of its actions: float32 where the agent plays the group mode."""

    @property
    def steps(self) -> int:
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
            state: What the last call returned; None at the start.
            episode_start: ``(B,)`` bool: runs that begin an episode now, whose memory is cleared.
            deterministic: Unused by rules, which are deterministic given their state.

        Returns:
            Actions ``(B,)`` int64 (an int64 scalar for one run) and the new state.
        """
        observation = np.asarray(observation)
        single = observation.ndim == 1
        batch = observation[None] if single else observation
        count = len(batch)
        fresh = self.initial_state(count)
        if state is None:
            memory = fresh
        else:
            # the caller's state is not touched: it may be replayed
            memory = {name: values.copy() for name, values in state.items()}
            if episode_start is not None:
                begins = np.broadcast_to(np.asarray(episode_start, dtype=bool), (count,))
                for name, values in memory.items():
                    values[begins] = fresh[name][begins]
        actions = np.asarray(self.decide(batch, memory), dtype=self.action_type)
        return (actions[0] if single else actions), memory

    @abstractmethod
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        """Actions ``(B,)`` for observations ``(B, F)``; ``memory`` is updated in place."""


def feature(observation: np.ndarray, name: str) -> np.ndarray:
    """One feature ``(B,)`` of observations ``(B, F)``, by its name in `teleport_env.envs.features.FEATURES`."""
    return observation[:, INDEX[known("feature", name, INDEX)]]


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
