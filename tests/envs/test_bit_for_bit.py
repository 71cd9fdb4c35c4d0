"""Row i of the vector environment is the single environment, bit for bit in float64."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import teleport_env  # noqa: F401
from envs.cases import arguments_for
from teleport_env.problems import PROBLEMS, LinearNetwork, MatrixFactorization, MLPRegression
from teleport_env.problems.base import Problem
from teleport_env.progress import COLUMNS
from teleport_env.random import Streams, seeds_of_rows
from teleport_env.runs import Runs

ROWS = 5
STEPS = 40

SMALL = {"DigitsFull": {"hidden": (16,)}, "Autoencoder": {"hidden": 8, "code": 3, "images": 20}}
CASES = [
    *[(name, "schedule", {"problem": SMALL[name]} if name in SMALL else {}) for name in PROBLEMS if name != "MNIST"],
    ("Rosenbrock", "group", {}),
    ("RosenbrockND", "group", {}),
    ("MLPRegression", "group", {}),
    ("MatrixFactorization", "group", {}),
    ("Quadratic", "hybrid", {}),
    ("Rosenbrock", "schedule", {"optimizer": "adam", "rate_factors": (1.0, 0.5, 2.0), "steps_per_action": 3}),
    ("Booth", "schedule", {"optimizer": "momentum_line_search", "on_teleport": "reset"}),
    ("MLPRegression", "schedule", {"symmetry": "general_linear", "optimizer": "adagrad"}),
    ("MLPRegression", "schedule", {"split": "paper"}),
    ("LinearNetwork", "schedule", {"reward": "terminal", "cost_weight": 0.01}),
    ("Digits", "schedule", {"symmetry": "general_linear", "reward": "terminal"}),
]


SMALL = [
    (LinearNetwork((2, 2, 1), samples=7), "scaling"),
    (LinearNetwork((5, 1, 3), samples=4), "general_linear"),
    (MLPRegression((2, 2, 1), samples=7), "scaling"),
    (MatrixFactorization(rows=3, columns=2, rank=1), "scaling"),
    (MatrixFactorization(rows=6, columns=2, rank=1), "general_linear"),
]


@pytest.mark.parametrize(("problem", "symmetry"), SMALL)
def test_networks_whose_parameters_lie_column_by_column(problem: Problem, symmetry: str) -> None:
    """Regression: in memory that depends on the number of runs a product, and a sum, took another path."""
    assert len(problem.instances(torch.arange(1), "train").start[0]) <= COLUMNS
    searches = problem.searches_for(symmetry, "train")

    def runs(keys: list[int]) -> Runs:
        made = Runs(problem, len(keys), symmetry=symmetry, searches=searches, learning_rate=1e-3)
        made.reset(Streams.from_seeds(keys).keys, torch.tensor(keys))
        return made

    together, alone = runs([0, 1, 2, 3, 4, 5, 6]), [runs([row]) for row in range(7)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        which = torch.randint(-1, len(searches), (7,), generator=generator)
        for part, chosen in [(together, which), *((one, which[row : row + 1]) for row, one in enumerate(alone))]:
            part.teleport(chosen)
            part.step()
        for row, one in enumerate(alone):
            assert torch.equal(one.params[0], together.params[row])
            assert torch.equal(one.gradient[0], together.gradient[row])
            assert torch.equal(one.progress.loss[0], together.progress.loss[row])


def budgeted(name: str, mode: str, arguments: dict[str, Any]) -> dict[str, Any]:
    # a short budget, so that rows end and are reset at different times
    return {"budget": 14.0, "dtype": "float64", **arguments_for(name, mode), **arguments}


def same_info(row: dict[str, Any], infos: dict[str, Any], i: int) -> None:
    for key, value in row.items():
        assert infos["_" + key][i], key
        np.testing.assert_array_equal(infos[key][i], value, err_msg=key)


class Replica:
    """A single environment that follows row i of a vector environment through its resets."""

    def __init__(self, env_id: str, seed: int, arguments: dict[str, Any]) -> None:
        self.env = gym.make(env_id, disable_env_checker=True, **arguments).unwrapped
        self.first = self.env.reset(seed=seed)
        self.over = False


def sample(vector: Any, generator: np.random.Generator) -> Any:
    """Random actions, half of the schedule mode's being gradient steps: teleports can be nearly free."""
    actions = vector.action_space.sample()
    if isinstance(actions, np.ndarray) and actions.ndim == 1:
        actions[generator.random(len(actions)) < 0.5] = 0
    return actions


def row_of(actions: Any, i: int) -> Any:
    return {key: value[i] for key, value in actions.items()} if isinstance(actions, dict) else actions[i]


@pytest.mark.parametrize(("name", "mode", "arguments"), CASES)
def test_next_step(name: str, mode: str, arguments: dict[str, Any]) -> None:
    kwargs = budgeted(name, mode, arguments)
    vector = gym.make_vec(f"Teleport/{name}-v0", num_envs=ROWS, vectorization_mode="vector_entry_point", **kwargs)
    observations, infos = vector.reset(seed=11)
    replicas = [Replica(f"Teleport/{name}-v0", seed, kwargs) for seed in seeds_of_rows(11, ROWS)]
    for i, replica in enumerate(replicas):
        assert np.array_equal(observations[i], replica.first[0])
        same_info(replica.first[1], infos, i)
    vector.action_space.seed(5)
    generator = np.random.default_rng(1)
    ends = 0
    for _ in range(STEPS):
        actions = sample(vector, generator)
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for i, replica in enumerate(replicas):
            if replica.over:
                observation, info = replica.env.reset()
                reward, ended, cut = 0.0, False, False
            else:
                observation, reward, ended, cut, info = replica.env.step(row_of(actions, i))
            assert np.array_equal(observations[i], observation)
            assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, cut)
            same_info(info, infos, i)
            replica.over = ended or cut
            ends += replica.over
    assert ends >= ROWS


@pytest.mark.parametrize(("name", "mode", "arguments"), CASES)
def test_same_step(name: str, mode: str, arguments: dict[str, Any]) -> None:
    kwargs = budgeted(name, mode, arguments)
    vector = gym.make_vec(
        f"Teleport/{name}-v0",
        num_envs=ROWS,
        vectorization_mode="vector_entry_point",
        autoreset_mode="SameStep",
        **kwargs,
    )
    vector.reset(seed=12)
    replicas = [Replica(f"Teleport/{name}-v0", seed, kwargs) for seed in seeds_of_rows(12, ROWS)]
    vector.action_space.seed(6)
    generator = np.random.default_rng(2)
    ends = 0
    for _ in range(STEPS):
        actions = sample(vector, generator)
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for i, replica in enumerate(replicas):
            observation, reward, ended, cut, info = replica.env.step(row_of(actions, i))
            assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, cut)
            if ended or cut:
                ends += 1
                assert np.array_equal(infos["final_obs"][i], observation)
                assert infos["_final_obs"][i]
                same_info(info, infos["final_info"], i)
                observation, info = replica.env.reset()
            elif "_final_obs" in infos:
                assert not infos["_final_obs"][i]
            assert np.array_equal(observations[i], observation)
            same_info(info, infos, i)
    assert ends >= ROWS


@pytest.mark.parametrize(("name", "mode", "arguments"), CASES)
def test_disabled_with_partial_resets(name: str, mode: str, arguments: dict[str, Any]) -> None:
    kwargs = budgeted(name, mode, arguments)
    vector = gym.make_vec(
        f"Teleport/{name}-v0",
        num_envs=ROWS,
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        **kwargs,
    )
    vector.reset(seed=13)
    replicas = [Replica(f"Teleport/{name}-v0", seed, kwargs) for seed in seeds_of_rows(13, ROWS)]
    vector.action_space.seed(7)
    generator = np.random.default_rng(3)
    resets = 0
    for _ in range(STEPS):
        actions = sample(vector, generator)
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for i, replica in enumerate(replicas):
            if replica.over:  # waits, and goes on saying that it is over
                assert rewards[i] == 0.0
                assert terminated[i] or truncated[i]
                continue
            observation, reward, ended, cut, info = replica.env.step(row_of(actions, i))
            assert np.array_equal(observations[i], observation)
            assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, cut)
            same_info(info, infos, i)
            replica.over = ended or cut
        # rows are reset when they are over, and sometimes in the middle of an episode
        mask = np.array([replica.over for replica in replicas]) & (generator.random(ROWS) < 0.5)
        mask |= generator.random(ROWS) < 0.05
        if mask.any():
            observations, infos = vector.reset(options={"reset_mask": mask})
            for i in np.flatnonzero(mask):
                observation, info = replicas[i].env.reset()
                assert np.array_equal(observations[i], observation)
                same_info(info, infos, i)
                replicas[i].over = False
                resets += 1
    assert resets >= ROWS


def test_seeds_share_no_instance() -> None:
    """Regression: with the usual ``seed + i`` the seeds s and s + 1 share all but one sub-environment."""
    seen: set[int] = set()
    vector = gym.make_vec("Teleport/Rosenbrock-v0", num_envs=64, vectorization_mode="vector_entry_point")
    for seed in range(20):
        ids = set(vector.reset(seed=seed)[1]["instance_id"].tolist())
        assert len(ids) == 64
        assert not ids & seen
        seen |= ids


def test_a_row_does_not_depend_on_the_number_of_rows() -> None:
    few = gym.make_vec("Teleport/Quadratic-v0", num_envs=3, vectorization_mode="vector_entry_point")
    many = gym.make_vec("Teleport/Quadratic-v0", num_envs=17, vectorization_mode="vector_entry_point")
    few.reset(seed=4)
    many.reset(seed=4)
    generator = np.random.default_rng(0)
    for _ in range(30):
        actions = generator.integers(few.single_action_space.n, size=17)
        a, b = few.step(actions[:3]), many.step(actions)
        assert np.array_equal(a[0], b[0][:3])
        assert np.array_equal(a[1], b[1][:3])


def test_a_divergence_beside_a_run_that_begins_anew_is_seen_at_once() -> None:
    """Regression: while another run was reset, a big network's divergence was noticed one action too late."""
    arguments: dict[str, Any] = {"learning_rate": 0.1}
    vector = gym.make_vec(
        "Teleport/MLPRegression-v0", num_envs=40, vectorization_mode="vector_entry_point", **arguments
    )
    vector.reset(seed=3)
    generator = np.random.default_rng(0)
    over, beside = np.zeros(40, dtype=bool), 0
    for _ in range(60):
        actions = np.where(generator.random(40) < 0.5, 0, generator.integers(0, vector.single_action_space.n, 40))
        # one run rests in the environment while others may diverge: those step apart
        actions[over] = 0
        if over.any():
            actions[:] = 0
        resting = over
        _, _, terminated, truncated, infos = vector.step(actions)
        late = infos["diverged"].astype(bool) & ~terminated & ~resting
        assert not late.any()
        beside += int((terminated & ~resting).sum()) if resting.any() else 0
        over = terminated | truncated
    assert beside > 5
