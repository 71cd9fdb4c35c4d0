"""What is computed several numbers at once, in place or ahead of time is what the plain definition says."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import teleport_env  # noqa: F401
from teleport_env.arrays import TORCH
from teleport_env.bookkeeping import Bookkeeper
from teleport_env.envs.features import DERIVED, FEATURES, HIGH, LOW, NAMES, Allowance, FeatureWriter, compute_features
from teleport_env.native import KERNELS
from teleport_env.progress import FLOATS, INTEGERS, Blocks
from teleport_env.random import seeds_of_rows
from teleport_env.upcoming import AHEAD, Upcoming

ROWS = 18


def make(name: str, count: int = ROWS, **arguments: Any) -> Any:
    return gym.make_vec(f"Teleport/{name}-v0", num_envs=count, vectorization_mode="vector_entry_point", **arguments)


def mixed(envs: Any, generator: np.random.Generator) -> np.ndarray:
    """Random actions, most of them gradient steps."""
    count = envs.num_envs
    return generator.integers(envs.single_action_space.n, size=count) * (generator.random(count) < 0.3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Rosenbrock", {}),
        ("Rosenbrock", {"dtype": "float32"}),
        ("Rosenbrock", {"optimizer": "adam", "rate_factors": (0.5, 1.0, 2.0)}),
        ("Booth", {"optimizer": "momentum"}),
        ("Quadratic", {}),
        ("MLPRegression", {}),
    ],
)
def test_features_are_those_of_the_table(name: str, arguments: dict[str, Any]) -> None:
    """`FeatureWriter` against `compute_features`, after steps, teleports, resets and divergence, asked once or twice."""
    envs = make(name, 9, budget=12.0, **arguments).unwrapped
    observation, _ = envs.reset(seed=0)
    generator = np.random.default_rng(0)
    for _ in range(50):
        plain = compute_features(envs.episodes.runs.progress, envs.episodes.allowance())
        assert np.allclose(observation, plain.numpy(), rtol=0, atol=3e-6), name
        assert torch.equal(envs.episodes.observation(), envs.episodes.observation())
        rows = torch.tensor([7, 2])
        assert torch.equal(envs.episodes.observation(rows), envs.episodes.observation()[rows])
        observation = envs.step(mixed(envs, generator))[0]


@pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")
@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_features_by_kernels_have_numpys_bits(count: int) -> None:
    """Whatever the numbers are."""
    draw = np.random.default_rng(count)
    blocks = Blocks.empty(count, torch.float64, "cpu")
    values = draw.normal(size=(len(FLOATS), count)) * 10.0 ** draw.integers(-3, 3, size=(len(FLOATS), count))
    odd = draw.random(values.shape) < 0.05
    values[odd] = draw.choice([np.nan, np.inf, -np.inf, 0.0, 1e300, 1e-300, 1e-320, -1e200], size=int(odd.sum()))
    blocks.floats.copy_(torch.from_numpy(values))
    blocks.integers.copy_(torch.from_numpy(draw.integers(-1, 5, size=(len(INTEGERS), count)) ** 5))
    cost = torch.from_numpy(draw.uniform(0, 30, size=count))
    allowance = Allowance(cost, 20.0, 1e-12, torch.from_numpy(draw.uniform(0, 9, size=count).astype(np.float32)))
    books = Bookkeeper(blocks)
    books.some_diverged = True
    found = FeatureWriter(books, allowance).write()
    books.kernels = None
    assert np.array_equal(found, FeatureWriter(books, allowance).write())
    assert bool(((LOW.numpy() <= found.T) & (HIGH.numpy() >= found.T)).all())


def test_the_terms_have_the_names_that_kernels_know() -> None:
    assert KERNELS is None or KERNELS.derived_rows.split() == list(DERIVED)
    for feature in FEATURES:
        assert 1 <= len(feature.terms) <= 3
        assert set(feature.terms) <= {*FLOATS, *DERIVED}


def test_features_of_a_diverged_run_are_finite() -> None:
    envs = make("Rosenbrock", 200, learning_rate=10.0, autoreset_mode="Disabled").unwrapped
    envs.reset(seed=0)
    for _ in range(8):
        observation = envs.step(np.zeros(200, dtype=np.int64))[0]
        assert np.isfinite(observation).all()
        assert (observation >= LOW.numpy()).all()
        assert (observation <= HIGH.numpy()).all()
    assert envs.episodes.runs.progress.diverged.all()


@pytest.mark.parametrize(
    ("problem", "search", "mode"),
    [
        ("Rosenbrock", {"search": "grid", "points": 2}, "NextStep"),
        ("Rosenbrock", {"search": "grid", "points": 2}, "SameStep"),
        ("MatrixFactorization", {"search": "closed_form"}, "SameStep"),  # too many parameters to lie column by column
    ],
)
def test_prepared_episodes_are_those_of_single_environments(problem: str, search: dict[str, Any], mode: str) -> None:
    """Of as many rows as are worth preparing for, through more episodes than are prepared at a time."""
    arguments: dict[str, Any] = {"budget": 6.0, "searches": [search]}
    envs = make(problem, autoreset_mode=mode, **arguments).unwrapped
    assert Upcoming.serves(envs.episodes.runs) is False, "not before the first reset"
    observations, _ = envs.reset(seed=3)
    singles = [gym.make(f"Teleport/{problem}-v0", **arguments) for _ in range(ROWS)]
    for single, seed, observation in zip(singles, seeds_of_rows(3, ROWS), observations, strict=True):
        assert np.array_equal(single.reset(seed=seed)[0], observation)
    over, ends = [False] * ROWS, [0] * ROWS
    generator = np.random.default_rng(1)
    for _ in range(40):
        actions = mixed(envs, generator)
        observations, rewards, _, _, infos = envs.step(actions)
        for i, single in enumerate(singles):
            reward = 0.0
            if over[i] and mode == "NextStep":
                observation, info = single.reset()
                over[i] = False
            else:
                observation, reward, terminated, truncated, info = single.step(actions[i])
                over[i] = terminated or truncated
                ends[i] += over[i]
                if over[i] and mode == "SameStep":
                    assert np.array_equal(infos["final_obs"][i], observation)
                    observation, info = single.reset()
            assert np.array_equal(observations[i], observation)
            assert rewards[i] == reward
            assert all(np.array_equal(infos[key][i], value) for key, value in info.items())
    assert envs._upcoming is not None
    assert min(ends) > AHEAD


def test_prepared_episodes_are_forgotten_with_their_keys() -> None:
    envs = make("Rosenbrock", budget=4.0).unwrapped
    envs.reset(seed=0)
    saved = envs.snapshot()

    def ids() -> list[int]:
        found = []
        for _ in range(16):
            found += envs.step(np.zeros(ROWS, dtype=np.int64))[4]["instance_id"].tolist()
        return found

    first = ids()
    envs.reset(seed=1)
    assert ids() != first
    envs.restore(saved)
    assert ids() == first
    again = pickle.loads(pickle.dumps(saved))
    envs.restore(again)
    twin = copy.deepcopy(envs)
    assert ids() == first
    envs = twin
    assert ids() == first


@pytest.mark.parametrize(
    ("name", "count", "often"),
    [("Rosenbrock", 40, True), ("Rosenbrock", 1, False), ("Booth", 1, False), ("MatrixFactorization", 1, True)],
)
def test_torch_and_numpy_do_the_same(monkeypatch: pytest.MonkeyPatch, name: str, count: int, often: bool) -> None:
    """What runs on other devices, on the CPU: equal but for logarithms' last bits; also where all wait and all step."""

    def play() -> list[np.ndarray]:
        envs = make(name, count, budget=14.0)
        found = [envs.reset(seed=0)[0]]
        generator = np.random.default_rng(0)
        for _ in range(40):
            found += envs.step(mixed(envs, generator) if often else np.zeros(count, dtype=np.int64))[:2]
        return found

    usual = play()
    modules = (
        "bookkeeping",
        "ledger",
        *(f"searches.{name}" for name in ("base", "fast.scalings", "pair_algebra")),
    )
    for module in modules:
        monkeypatch.setattr(f"teleport_env.{module}.arrays_of", lambda device: TORCH)
    for a, b in zip(usual, play(), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_observation_is_named_in_order() -> None:
    assert len(NAMES) == len(set(NAMES)) == len(LOW) == len(HIGH)
