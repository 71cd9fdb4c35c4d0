"""Gymnasium's vector wrappers agree with our own totals, where Gymnasium lets them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics

import teleport_env  # noqa: F401

SAME_STEP = pytest.mark.skipif(
    tuple(map(int, gym.__version__.split(".")[:2])) < (1, 4),
    reason="Gymnasium counts ended episodes wrongly before 1.4",
)


def make(mode: str, count: int = 6) -> gym.vector.VectorEnv:
    return gym.make_vec(
        "Teleport/Booth-v0",
        num_envs=count,
        vectorization_mode="vector_entry_point",
        autoreset_mode=mode,
        budget=9.0,
    )


@pytest.mark.parametrize("mode", ["NextStep", pytest.param("SameStep", marks=SAME_STEP)])
def test_record_episode_statistics(mode: str) -> None:
    envs = RecordEpisodeStatistics(make(mode), buffer_length=10_000)
    envs.reset(seed=0)
    ours = np.zeros(6)
    lengths = np.zeros(6, dtype=int)
    returns: list[float] = []
    counts: list[int] = []
    over = np.zeros(6, dtype=bool)
    envs.action_space.seed(1)
    for _ in range(80):
        _, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
        playing = np.ones(6, dtype=bool) if mode == "SameStep" else ~over
        ours[playing] += rewards[playing]
        lengths[playing] += 1
        assert np.all(rewards[~playing] == 0)
        over = terminated | truncated
        for i in np.flatnonzero(over):
            returns.append(ours[i])
            counts.append(lengths[i])
            ours[i], lengths[i] = 0.0, 0
    assert len(returns) > 20
    assert np.allclose(returns, list(envs.return_queue), rtol=0, atol=1e-12)
    assert counts == list(envs.length_queue)


@SAME_STEP
def test_returns_are_the_orders_of_magnitude_gained() -> None:
    envs = RecordEpisodeStatistics(make("SameStep"), buffer_length=10_000)
    _, infos = envs.reset(seed=2)
    initial = infos["loss"].copy()
    gained: list[float] = []
    for _ in range(60):
        _, _, terminated, truncated, infos = envs.step(np.zeros(6, dtype=np.int64))
        over = terminated | truncated
        for i in np.flatnonzero(over):
            final = infos["final_info"]
            diverged = bool(final["diverged"][i])
            gained.append(-2.0 if diverged else float(np.log10(initial[i] / final["loss"][i])))
            initial[i] = infos["loss"][i]
    assert len(gained) > 12
    assert np.allclose(gained, list(envs.return_queue), rtol=0, atol=1e-9)


def test_normalize_reward_runs_over_it() -> None:
    envs = NormalizeReward(make("NextStep"))
    envs.reset(seed=0)
    _, rewards, *_ = envs.step(np.zeros(6, dtype=np.int64))
    assert np.isfinite(rewards).all()


def test_info_arrays_are_not_shared_between_calls() -> None:
    """Regression: an array handed out and later written to corrupts what a replay buffer kept."""
    envs = make("NextStep")
    first, infos = envs.reset(seed=0)
    kept = first.copy(), {k: v.copy() for k, v in infos.items()}
    out = envs.step(np.zeros(6, dtype=np.int64))
    kept_out = [np.copy(part) for part in out[:4]]
    envs.step(np.ones(6, dtype=np.int64))
    assert np.array_equal(first, kept[0])
    assert all(np.array_equal(infos[k], v) for k, v in kept[1].items())
    assert all(np.array_equal(a, b) for a, b in zip(out[:4], kept_out, strict=True))


def test_a_refused_action_or_reset_changes_nothing() -> None:
    """Regression: an action outside the space used up the reset that was due."""
    envs, twin = (
        gym.make_vec("Teleport/Booth-v0", num_envs=2, vectorization_mode="vector_entry_point", budget=2.0)
        for _ in range(2)
    )
    for each in (envs, twin):
        each.reset(seed=0)
        each.step(np.zeros(2, dtype=np.int64))  # the budget is spent: the next step resets
    with pytest.raises(ValueError, match="outside"):
        envs.step(np.array([0, 99]))
    with pytest.raises(ValueError, match="shape"):
        envs.reset(options={"params": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="instance_id"):
        envs.reset(options={"instance_id": np.arange(3)})
    a, b = envs.step(np.zeros(2, dtype=np.int64)), twin.step(np.zeros(2, dtype=np.int64))
    assert np.array_equal(a[0], b[0])
    assert (a[1] == 0).all()
    assert np.array_equal(envs.reset()[0], twin.reset()[0])


def test_a_list_of_seeds_may_hold_none() -> None:
    envs = make("NextStep", 3)
    _, a = envs.reset(seed=[1, None, 3])
    _, b = envs.reset(seed=[1, None, 3])
    assert a["instance_id"][[0, 2]].tolist() == b["instance_id"][[0, 2]].tolist()
    assert a["instance_id"][1] != b["instance_id"][1]
