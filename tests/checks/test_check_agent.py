"""`check_agent` is able to fail: agents with a memory in the wrong place, of the wrong shape, or of the wrong run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from teleport_env.agents import Agent, Every, State
from teleport_env.checks import CheckFailed, check_agent


@dataclass(frozen=True, kw_only=True)
class Third(Agent):
    """A sound agent to break: a teleport at every third action."""

    name: str = "third"

    def initial_state(self, count: int) -> State:
        return {"actions": np.zeros(count, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        memory["actions"] += 1
        return np.where(memory["actions"] % 3 == 0, self.step_actions, 0)


class WritesIntoTheState(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        action, after = super().predict(observation, state, episode_start)
        if state is not None:
            state["actions"] += 1
        return action, after


class WritesIntoTheObservation(Third):
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        observation[:] = 0.0
        return super().decide(observation, memory)


@dataclass(frozen=True, kw_only=True)
class RemembersItself(Third):
    counter: list[int] = field(default_factory=list)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        self.counter.append(1)
        return np.full(len(observation), int(len(self.counter) % 7 == 0))


class DisregardsEpisodeStart(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        return super().predict(observation, state, None)


class ClearsEverybody(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        if episode_start is not None and np.any(episode_start):
            state = None
        return super().predict(observation, state, None)


class OutOfBounds(Third):
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.full(len(observation), 17)


class Fractional(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        action, after = super().predict(observation, state, episode_start)
        return np.asarray(action, dtype=np.float64), after


class OneForAll(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        return np.int64(0), {}


class NeverSingle(Third):
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        observation = np.atleast_2d(observation)
        return super().predict(observation, state, episode_start)


class FollowsTheMajority(Third):
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.full(len(observation), int(len(observation) > 1))


class RemembersOneNumber(Third):
    def initial_state(self, count: int) -> State:
        return {"actions": np.zeros(1, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.zeros(len(observation), dtype=np.int64)


class Crashes(Third):
    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        raise KeyError("rate")


@dataclass(frozen=True, kw_only=True)
class HoldsALambda(Third):
    hook: Any = field(default_factory=lambda: lambda: None)


BROKEN: dict[type[Agent], str] = {
    WritesIntoTheState: r"predict writes into the state it is given \(action 1\).*new arrays",
    WritesIntoTheObservation: r"predict writes into the observation",
    RemembersItself: r"predict chose .* (alone, and .* among 5|when the episodes were played again)",
    DisregardsEpisodeStart: r"(predict|state\['actions'\]) disregards episode_start",
    ClearsEverybody: r"(predict|state\['actions'\]) disregards episode_start.*of no others",
    OutOfBounds: r"predict chose \[17\], outside Discrete\(4\)",
    Fractional: r"predict returned float64 of shape \(5,\).*\(5,\) integers",
    OneForAll: r"predict returned int64 of shape \(\) for 5 observations",
    NeverSingle: r"predict returned shape \(1,\) for one observation \(F,\)",
    FollowsTheMajority: r"predict chose 0 for row 0 alone, and 1 among 5 \(action 0\)",
    RemembersOneNumber: r"state\['actions'\] is no array with leading axis 5",
    Crashes: r"predict raised KeyError",
    HoldsALambda: r"pickling raised .*at the top of a module",
}


def test_a_sound_agent() -> None:
    report = check_agent(Third())
    assert report.notes == ()
    assert "plays whole episodes" in report.passed


@pytest.mark.parametrize("agent", BROKEN, ids=lambda agent: agent.__name__)
def test_a_broken_agent(agent: type[Agent]) -> None:
    with pytest.raises(CheckFailed, match=BROKEN[agent]) as caught:
        check_agent(agent())
    assert str(caught.value).startswith("agent third on Rosenbrock: ")


def test_an_environment_that_cannot_be_made() -> None:
    with pytest.raises(
        CheckFailed, match="making its environment raised ValueError: search must be one of .*got 'quantum'"
    ):
        check_agent(Third(environment={"searches": ["quantum"]}))


def test_no_agent_at_all() -> None:
    with pytest.raises(CheckFailed, match="it has no `predict`"):
        check_agent(object())
    with pytest.raises(ValueError, match="got 'nobody'"):
        check_agent("nobody")
    with pytest.raises(ValueError, match="count must be at least 2"):
        check_agent(Every(), count=1)


class Stateless:
    """A policy as stable-baselines3 has it: no state, no name."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        return np.zeros(np.shape(observation)[:-1], dtype=np.int64), None


def test_a_policy_without_a_state() -> None:
    report = check_agent(Stateless(), "Booth")
    assert report.subject == "agent Stateless on Booth"
    assert "episode_start clears the memory" not in report.passed
