"""Gymnasium's vector wrappers over the native environment do what they do over its own vector of single environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import vector as wrappers

from teleport_env.random import seeds_of_rows

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "ClipReward": lambda envs: wrappers.ClipReward(envs, -0.2, 0.3),
    "DtypeObservation": lambda envs: wrappers.DtypeObservation(envs, np.float64),
    "FlattenObservation": wrappers.FlattenObservation,
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "ReshapeObservation": lambda envs: wrappers.ReshapeObservation(envs, (2, 9)),
    "TransformAction": lambda envs: wrappers.TransformAction(envs, lambda actions: (actions + 1) % 3),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_agrees(name: str) -> None:
    arguments: dict[str, Any] = {"num_envs": 3, "budget": 7.0}
    native = WRAPPERS[name](gym.make_vec("Teleport/Booth-v0", **arguments))
    single = WRAPPERS[name](gym.make_vec("Teleport/Booth-v0", vectorization_mode="sync", **arguments))
    found, expected = native.reset(seed=0)[0], single.reset(seed=list(seeds_of_rows(0, 3)))[0]
    assert native.observation_space == single.observation_space
    generator = np.random.default_rng(0)
    ends = 0
    for _ in range(40):
        np.testing.assert_array_equal(found, expected)
        actions = generator.integers(0, 3, size=3)
        found, *turn, infos = native.step(actions)
        expected, *wanted, told = single.step(actions)
        for one, other in zip(turn, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        ends += int(np.sum(turn[1] | turn[2]))
        if "episode" in told:
            rows = told["_episode"]
            np.testing.assert_array_equal(infos["_episode"], rows)
            for key in ("r", "l"):
                np.testing.assert_array_equal(infos["episode"][key][rows], told["episode"][key][rows])
    assert ends > 6
