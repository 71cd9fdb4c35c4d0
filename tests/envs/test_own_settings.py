"""Episodes side by side with learning rates and menus of their own are those of environments made with them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import teleport_env  # noqa: F401
from teleport_env.envs.features import INDEX
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.random import seeds_of_rows

FACTORS = (1.0, 0.5, 4.0)
CASES: dict[str, tuple[list[Any], list[float]]] = {
    "Rosenbrock": (["random", "virtual_step", "reset_optimizer"], [1e-3, 3e-4, 1e-2, 5e-4]),
    "MLPRegression": (["random", "balance_weights", "normalized_ascent"], [1e-4, 1e-3, 3e-4, 0.5]),
}
OWN = [[0], [1, 2], [], [2, 0]]
"""Searches of each row, by their place in the whole menu."""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("problem", CASES)
def test_a_row_is_the_environment_of_its_own_settings(problem: str, dtype: str) -> None:
    menu, rates = CASES[problem]
    shared: dict[str, Any] = {"rate_factors": FACTORS, "budget": 30.0, "dtype": dtype}
    offered = np.array([[place in own for place in range(len(menu))] for own in OWN])
    env = TeleportVectorEnv(problem, len(rates), searches=menu, autoreset_mode="Disabled", **shared)
    seen, _ = env.reset(seed=5, options={"learning_rate": rates, "searches": offered})
    generator = np.random.default_rng(1)
    actions = [
        [int(generator.integers(len(FACTORS) + len(own))) for own in OWN] for _ in range(40)
    ]  # by each row's own menu
    table = [[*range(len(FACTORS)), *(len(FACTORS) + place for place in sorted(own))] for own in OWN]
    course = [(seen, env.action_masks())]
    for chosen in actions:
        seen, *_, info = env.step(np.array([table[row][action] for row, action in enumerate(chosen)]))
        course.append((seen, env.action_masks()))
    for row, (rate, own, seed) in enumerate(zip(rates, OWN, seeds_of_rows(5, len(rates)), strict=True)):
        alone = gym.make(
            f"Teleport/{problem}-v0", searches=[menu[place] for place in sorted(own)], learning_rate=rate, **shared
        ).unwrapped
        observation, _ = alone.reset(seed=seed)
        for number, (wide, masks) in enumerate(course):
            np.testing.assert_array_equal(observation, wide[row])
            np.testing.assert_array_equal(alone.action_masks(), masks[row, table[row]])  # type: ignore[attr-defined]
            assert not np.delete(masks[row], table[row]).any()
            if number == len(actions):
                break
            observation, _, terminated, truncated, last = alone.step(np.int64(actions[number][row]))
            if terminated or truncated:
                break
        for name in ("loss", "learning_rate", "cost", "teleports", "teleport_status"):
            assert last[name] == info[name][row] or np.isnan(last[name]), name
    # the rates lie within a range around each row's own base
    assert len({observation.tolist()[INDEX["price"]] for observation in course[0][0]}) > 1


def test_a_rate_stays_within_the_range_around_its_own_base() -> None:
    env = TeleportVectorEnv("Booth", 2, searches=[], rate_factors=(0.125,), budget=60.0)
    env.reset(seed=0, options={"learning_rate": [1e-3, 1e-6]})
    for _ in range(8):
        *_, info = env.step(np.zeros(2, dtype=np.int64))
    assert info["learning_rate"].tolist() == [1e-3 / 1024, 1e-6 / 1024]


def test_a_search_that_an_episode_does_not_have_is_refused() -> None:
    env = TeleportVectorEnv("Booth", 2, searches=["random", "virtual_step"])
    env.reset(seed=0, options={"searches": [True, False]})
    *_, info = env.step(np.array([1, 2]))
    assert info["teleport_status"].tolist()[1] == 5
    assert info["teleport_status"].tolist()[0] != 5
    assert info["cost"][1] == 1.0


def test_later_episodes_have_the_environments_own_settings_and_a_snapshot_has_an_episodes() -> None:
    env = gym.make("Teleport/Booth-v0", searches=["random", "virtual_step"], learning_rate=0.01).unwrapped
    first, _ = env.reset(seed=3, options={"learning_rate": 0.02, "searches": [False, False]})
    saved = env.snapshot()  # type: ignore[attr-defined]
    assert env.action_masks().tolist() == [True, False, False]  # type: ignore[attr-defined]
    _, info = env.reset()
    assert info["learning_rate"] == 0.01
    assert env.action_masks().tolist() == [True, True, True]  # type: ignore[attr-defined]
    again, info = env.restore(saved)  # type: ignore[attr-defined]
    assert info["learning_rate"] == 0.02
    assert again.tolist() == first.tolist()
    assert env.action_masks().tolist() == [True, False, False]  # type: ignore[attr-defined]
    # in an environment with another menu the episode has all of it
    other = gym.make("Teleport/Booth-v0", searches=["random"], learning_rate=0.01).unwrapped
    other.reset(seed=0)
    other.restore(saved)  # type: ignore[attr-defined]
    assert other.action_masks().tolist() == [True, True]  # type: ignore[attr-defined]


def test_rows_that_are_reset_alone() -> None:
    env = TeleportVectorEnv("Booth", 3, searches=["random"], learning_rate=0.01, autoreset_mode="Disabled")
    env.reset(seed=0, options={"learning_rate": 0.03, "searches": np.zeros((3, 1), dtype=bool)})
    mask = np.array([False, True, False])
    _, info = env.reset(options={"reset_mask": mask, "learning_rate": [9.0, 0.05, 9.0]})
    assert info["learning_rate"].tolist() == [0.03, 0.05, 0.03]
    assert env.action_masks()[:, 1].tolist() == [False, True, False]
