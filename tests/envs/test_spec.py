"""Specs, pickling and other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import teleport_env
from envs.cases import IDS
from teleport_env.envs import TeleportEnv
from teleport_env.problems import PROBLEMS

KWARGS: dict[str, Any] = {
    "split": "validation",
    "optimizer": {"optimizer": "momentum", "momentum": 0.8},
    "searches": ["random", {"search": "normalized_ascent", "steps": 2}],
    "rate_factors": [1.0, 0.5, 2.0],
    "problem": {"dimension": 4},
    "dtype": "float32",
    "budget": 200,
}


def test_import_registers_every_problem_once() -> None:
    assert set(teleport_env.list_ids()) >= set(IDS)
    before = dict(gym.registry)
    with pytest.warns() as seen:  # noqa: PT031 (the block must hold the calls whose warnings are counted)
        import warnings

        warnings.warn("sentinel", stacklevel=1)
        from teleport_env.registration import register_all

        register_all()
    assert [str(w.message) for w in seen] == ["sentinel"]
    assert dict(gym.registry) == before


def test_what_makes_no_problem_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the factory of Nothing must be a Problem class, .*, got 5"):
        teleport_env.register_problem("Nothing", 5)  # type: ignore[arg-type]
    assert "Nothing" not in PROBLEMS
    monkeypatch.setitem(PROBLEMS, "Nothing", lambda: 5)
    with pytest.raises(ValueError, match="what the factory of Nothing returns must be a Problem, got 5"):
        TeleportEnv("Nothing")


@pytest.mark.parametrize("env_id", IDS)
def test_json_round_trip(env_id: str) -> None:
    spec = gym.spec(env_id)
    assert EnvSpec.from_json(spec.to_json()) == spec


def test_json_round_trip_with_arguments_plays_the_same() -> None:
    env = gym.make("Teleport/Quadratic-v0", **KWARGS)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    a, b = env.reset(seed=3), again.reset(seed=3)
    assert np.array_equal(a[0], b[0])
    assert a[1] == b[1]
    env.action_space.seed(0)
    for _ in range(10):
        action = env.action_space.sample()
        a, b = env.step(action), again.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]


@pytest.mark.parametrize("env_id", [i for i in IDS if "MNIST-" not in i])
def test_pickling_in_the_middle_of_an_episode(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    env.step(0)
    copy = pickle.loads(pickle.dumps(env))
    for action in (0, env.action_space.n - 1, 0):
        a, b = env.step(action), copy.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]
    vector = gym.make_vec(env_id, num_envs=2, vectorization_mode="vector_entry_point").unwrapped
    vector.reset(seed=0)
    copies = pickle.loads(pickle.dumps(vector))
    assert np.array_equal(vector.step(np.zeros(2, dtype=np.int64))[0], copies.step(np.zeros(2, dtype=np.int64))[0])


def episode(seed: int) -> list[Any]:
    """One seeded episode; runs in other processes, which have not imported teleport_env themselves."""
    env = gym.make("teleport_env:Teleport/Rosenbrock-v0", budget=30)
    observation, info = env.reset(seed=seed)
    trail: list[Any] = [observation.tolist(), info]
    env.action_space.seed(seed)
    over = False
    while not over:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        trail += [observation.tolist(), reward, info]
        over = terminated or truncated
    return trail


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_play_the_same(method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(episode, [7])[0] == episode(7)


def test_async_vector_environment_of_gymnasium() -> None:
    """Gymnasium's own process-based vector environment works over the single one."""
    envs = gym.make_vec(
        "teleport_env:Teleport/Booth-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"}
    )
    try:
        observations, _ = envs.reset(seed=1)
        assert observations.shape[0] == 2
        envs.step(np.zeros(2, dtype=np.int64))
    finally:
        envs.close()
