"""Specs, pickling and other processes."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

import fresh
import teleport_env
from envs.cases import IDS
from teleport_env.envs import TeleportEnv, TeleportVectorEnv
from teleport_env.envs.rewards import REWARDS
from teleport_env.optimizers import OPTIMIZERS
from teleport_env.problems import PROBLEMS, Booth, MLPRegression
from teleport_env.random import seeds_of_rows
from teleport_env.searches import search_from

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
    kept = PROBLEMS["Booth"]
    with pytest.raises(ValueError, match="Booth is a built-in problem; register yours under another name"):
        teleport_env.register_problem("Booth", PROBLEMS["Rosenbrock"])
    assert teleport_env.register_problem("Booth", kept) == "Teleport/Booth-v0"
    assert PROBLEMS["Booth"] is kept
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
    assert data_equivalence(a[1], b[1], exact=True)
    env.action_space.seed(0)
    for _ in range(10):
        action = env.action_space.sample()
        a, b = env.step(action), again.step(action)
        assert np.array_equal(a[0], b[0])
        assert data_equivalence(a[1:], b[1:], exact=True)


@pytest.mark.parametrize("env_id", [i for i in IDS if "MNIST-" not in i])
def test_pickling_in_the_middle_of_an_episode(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    env.step(0)
    copy = pickle.loads(pickle.dumps(env))
    for action in (0, env.action_space.n - 1, 0):
        a, b = env.step(action), copy.step(action)
        assert np.array_equal(a[0], b[0])
        assert data_equivalence(a[1:], b[1:], exact=True)
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
        assert data_equivalence(pool.map(episode, [7])[0], episode(7), exact=True)


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


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_given_as_objects_survive_json(name: str) -> None:
    """Every argument of a problem's constructor is an attribute, or its settings could not be read back."""
    env = gym.make("Teleport/Booth-v0", problem=PROBLEMS[name](), dtype=torch.float64)
    assert env.spec is not None
    text = env.spec.to_json()
    again = gym.make(EnvSpec.from_json(text))
    assert again.spec is not None
    assert again.spec.to_json() == text
    assert np.array_equal(env.reset(seed=0)[0], again.reset(seed=0)[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arguments_given_as_objects_survive_json(name: str) -> None:
    optimizer = OPTIMIZERS[name](**({"sizes": (10, 16), "factors": (1.0, 0.5)} if name == "layer_rates" else {}))
    arguments: dict[str, Any] = {
        "problem": MLPRegression(widths=(3, 4, 2), samples=np.int64(5), bias=True),
        "optimizer": optimizer,
        "searches": [search_from("random"), search_from({"search": "random", "candidates": 3})],
        "rate_factors": np.array([1.0, 0.5]),
        "reward": REWARDS["terminal"],
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "budget": 20,
    }
    envs = gym.make_vec(
        "Teleport/Quadratic-v0", num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=7, **arguments
    )
    assert envs.spec is not None
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json())).unwrapped
    mine = envs.unwrapped
    assert isinstance(again, TeleportVectorEnv)
    assert isinstance(mine, TeleportVectorEnv)
    assert again.autoreset_mode is AutoresetMode.SAME_STEP
    same = ("optimizer", "searches", "rate_factors", "reward", "dtype", "device", "budget", "max_episode_steps")
    assert all(getattr(again.settings, key) == getattr(mine.settings, key) for key in same)
    assert again.settings.problem.layers == mine.settings.problem.layers  # type: ignore[attr-defined]
    assert np.array_equal(mine.reset(seed=3)[0], again.reset(seed=3)[0])


def test_what_has_no_plain_form_is_left_and_refused_by_json() -> None:
    class Mine(Booth):
        pass

    env = gym.make("Teleport/Booth-v0", problem=Mine())
    assert env.spec is not None
    assert isinstance(env.spec.kwargs["problem"], Mine)
    with pytest.raises(TypeError, match="Mine is not JSON serializable"):
        env.spec.to_json()


@pytest.mark.parametrize("reward", [*REWARDS])
def test_most_actions_of_an_episode(reward: str) -> None:
    """`max_episode_steps` cuts episodes where Gymnasium's `TimeLimit` does; only so the reward knows of the end."""
    arguments: dict[str, Any] = {"max_episode_steps": 4, "reward": reward}
    envs = gym.make_vec("Teleport/Rosenbrock-v0", num_envs=2, autoreset_mode="Disabled", **arguments)
    singles = [gym.make("Teleport/Rosenbrock-v0", **arguments) for _ in range(2)]
    assert all(isinstance(env, gym.wrappers.TimeLimit) for env in singles)
    envs.reset(seed=0)
    for env, seed in zip(singles, seeds_of_rows(0, 2), strict=True):
        env.reset(seed=seed)
    for turn in range(4):
        _, rewards, terminated, truncated, _ = envs.step(np.array([0, 1]))
        assert truncated.tolist() == [turn == 3] * 2
        assert not terminated.any()
        for row, env in enumerate(singles):
            _, reward_of_one, _, cut, _ = env.step(row)
            assert cut == truncated[row]
            assert reward == "terminal" or reward_of_one == rewards[row]
    assert rewards[0] != 0, "the run of gradient steps; a reward at the end is paid"
    with pytest.raises(ValueError, match="max_episode_steps must be an integer of at least 1, got 0"):
        gym.make_vec("Teleport/Booth-v0", max_episode_steps=0)


def test_gymnasium_says_what_to_do_about_an_id_it_does_not_find() -> None:
    program = "import gymnasium as gym\ngym.make({!r})"
    said = {}
    for env_id in ("Teleport/Booth-v0", "teleport_env:Teleport/Both-v0", "teleport_env:Teleport/Booth-v7"):
        done = fresh.run(["-c", program.format(env_id)])
        said[env_id] = done.stderr.strip().splitlines()[-1]
    assert "NamespaceNotFound" in said["Teleport/Booth-v0"]
    assert "installed the proper package for Teleport" in said["Teleport/Booth-v0"]
    assert "Did you mean: `Booth`?" in said["teleport_env:Teleport/Both-v0"]
    assert "VersionNotFound" in said["teleport_env:Teleport/Booth-v7"]


def test_missing_data_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium's own tests over all ids pass over these."""
    monkeypatch.delenv("TELEPORT_ENV_DATA")
    for make in (gym.make, gym.make_vec):
        with pytest.raises(gym.error.DependencyNotInstalled, match="MNIST was not found"):
            make("Teleport/MNIST-v0")
    with pytest.raises(FileNotFoundError):
        gym.make("Teleport/MNISTSmall-v0")
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"teleport-env\[compare\]"):
        gym.make("Teleport/Digits-v0")


def test_a_missing_problem_is_a_missing_argument() -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(gym.error.MissingArgument, match=r"pass problem=teleport_env.ModuleProblem"):
            make("Teleport/Module-v0")
