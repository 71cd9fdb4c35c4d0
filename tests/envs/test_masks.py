"""Action masks: in infos, through wrappers, and in observations."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from teleport_env.envs import MaskedObservation, MaskedVectorObservation, TeleportEnv

SEARCHES: list[Any] = [{"search": "random", "candidates": 2}, {"search": "random", "candidates": 5}]
MODES = ("NextStep", "SameStep", "Disabled")


def payable(env: TeleportEnv) -> list[int]:
    """From the prices, one by one."""
    settings, runs = env.settings, env.episodes.runs
    left = settings.budget - float(runs.ledger.cost[0])
    prices = [1.0] * len(settings.rate_factors) + [runs.price(search) for search in settings.searches]
    return [int(price <= left + 1e-9) for price in prices]


def test_the_mask_says_what_the_rest_of_the_budget_pays() -> None:
    env = gym.make("Teleport/Booth-v0", budget=12.0, rate_factors=(1.0, 0.5), searches=SEARCHES)
    _, info = env.reset(seed=0)
    inner, seen, over = env.unwrapped, set(), False
    assert isinstance(inner, TeleportEnv)
    while not over:
        mask = info["action_mask"]
        assert mask.dtype == np.int8
        assert mask.tolist() == payable(inner)
        assert np.array_equal(env.action_masks(), mask)  # type: ignore[attr-defined]  # through what `make` returns
        assert mask[env.action_space.sample(mask=mask)] == 1
        seen.add(tuple(mask.tolist()))
        _, _, terminated, truncated, info = env.step(0)
        over = terminated or truncated
    assert len(seen) > 2, "all was always payable"
    assert info["action_mask"].tolist() == [1, 0, 0, 0], "an ended episode has the action that does nothing"


@pytest.mark.parametrize("alike", [True, False])
def test_masks_by_kernels_are_those_without(alike: bool) -> None:
    """Where all episodes have all searches and where they have not, and where some have ended."""
    envs: Any = gym.make_vec(
        "Teleport/Booth-v0", num_envs=9, budget=9.0, searches=SEARCHES, autoreset_mode="Disabled"
    ).unwrapped
    offered = None if alike else {"searches": np.arange(18).reshape(9, 2) % 3 > 0}
    envs.reset(seed=0, options=offered)
    generator, seen, books = np.random.default_rng(0), set(), envs.episodes.runs.books
    assert (envs.episodes.menu.common is not None) == alike
    for _ in range(10):
        mask, kernels = envs.action_masks(), books.kernels
        books.kernels = None
        plain = envs.action_masks()
        books.kernels = kernels
        assert mask.dtype == plain.dtype == np.int8
        assert np.array_equal(mask, plain)
        seen |= {tuple(row) for row in mask.tolist()}
        envs.step(generator.integers(0, 3, 9))
    assert len(seen) > 2
    assert envs.episodes.ended.any(), "none ended"


def test_masks_are_found_through_wrappers() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("Teleport/Booth-v0", max_episode_steps=5))
    env.reset(seed=0)
    assert env.get_wrapper_attr("action_masks")().tolist() == [1, 1, 1, 1, 1]
    assert MaskedObservation(env).action_masks().tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_vector_observations_with_masks(mode: str, output: str) -> None:
    """They are the plain ones beside the masks of the infos, and so are those of episodes that have ended."""
    arguments: dict[str, Any] = {"budget": 6.0, "searches": SEARCHES, "autoreset_mode": mode, "output": output}
    plain, inner = (gym.make_vec("Teleport/Booth-v0", num_envs=3, **arguments) for _ in range(2))
    masked = MaskedVectorObservation(inner)
    expected, _ = plain.reset(seed=0)
    found, infos = masked.reset(seed=0)
    kinds, finals = set(), 0
    for turn in range(9):
        assert found in masked.observation_space if output == "numpy" else torch.is_tensor(found["action_mask"])
        assert np.array_equal(found["observations"], expected)
        assert np.array_equal(found["action_mask"], infos["action_mask"])
        kinds |= {tuple(row) for row in found["action_mask"].tolist()}
        actions = np.array([0, turn % 2, 0])
        expected, *_, wanted = plain.step(actions)
        found, _, _, _, infos = masked.step(actions)
        assert masked.action_masks().dtype == found["action_mask"].dtype
        assert ("final_obs" in infos) == ("final_obs" in wanted)
        for row in np.flatnonzero(infos.get("_final_obs", np.zeros(0))):
            finals += 1
            last = infos["final_obs"]
            last = {key: value[row] for key, value in last.items()} if output == "torch" else last[row]
            assert np.array_equal(last["observations"], wanted["final_obs"][row])
            assert np.array_equal(last["action_mask"], wanted["final_info"]["action_mask"][row])
    assert len(kinds) > 1
    assert (finals > 0) == (mode == "SameStep")


def test_a_masked_environment_passes_gymnasiums_check_and_survives_json() -> None:
    env = MaskedObservation(gym.make("Teleport/Booth-v0", budget=9.0))
    with pytest.warns(UserWarning, match="different from the unwrapped version"):
        check_env(env, skip_render_check=True)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, MaskedObservation)
    first, second = (one.reset(seed=1)[0] for one in (env, again))
    assert all(np.array_equal(first[key], second[key]) for key in ("observations", "action_mask"))


@pytest.mark.parametrize("mode", ["group", "hybrid"])
def test_other_action_modes_have_no_masks(mode: str) -> None:
    env = gym.make("Teleport/Booth-v0", action_mode=mode)
    _, info = env.reset(seed=0)
    assert "action_mask" not in info
    with pytest.raises(ValueError, match="action_mode='schedule'"):
        env.action_masks()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="action_mode='schedule'"):
        MaskedObservation(env)
    with pytest.raises(ValueError, match="action_mode='schedule'"):
        MaskedVectorObservation(gym.make_vec("Teleport/Booth-v0", num_envs=2, action_mode=mode))
