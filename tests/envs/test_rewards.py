"""Rewards are objects: three have names, a user's own is handed in."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from teleport_env.envs import Reward, Settings, TeleportVectorEnv, Turn
from teleport_env.envs.rewards import REWARDS
from teleport_env.random import seeds_of_rows


class GradientDecrease(Reward):
    """The orders of magnitude by which the squared gradient norm is below its start, at the end of an episode."""

    name = "gradient_decrease"

    def pay(self, turn: Turn) -> Tensor:
        p = turn.progress
        gained = torch.log10(p.initial_grad_norm2) - torch.log10(p.grad_norm2)
        return torch.where(turn.ended & ~p.diverged, gained, 0.0)


class OwnDecrease(Reward):
    """What `log_decrease` pays runs that do not diverge, without the attribute by which the environment does not ask."""

    name = "own_decrease"

    def pay(self, turn: Turn) -> Tensor:
        return turn.before - turn.after


class WholeLoss(Reward):
    """What the episode gained on the whole training set, as `terminal` pays it."""

    name = "whole_loss"
    measures = True

    def pay(self, turn: Turn) -> Tensor:
        first, last = turn.whole()
        return torch.where(turn.ended, turn.orders(first) - turn.orders(last), 0.0)


def played(reward: Any, name: str = "Booth", **arguments: Any) -> np.ndarray:
    """Rewards of 12 steps of three runs with a teleport now and then."""
    envs = TeleportVectorEnv(name, 3, reward=reward, budget=9.0, **arguments)
    envs.reset(seed=0)
    generator = np.random.default_rng(0)
    return np.stack([envs.step((generator.random(3) < 0.2).astype(np.int64))[1] for _ in range(12)])


def test_an_own_reward_is_paid() -> None:
    envs = gym.make_vec(
        "Teleport/Booth-v0", 3, vectorization_mode="vector_entry_point", reward=GradientDecrease(), budget=6.0
    )
    _, start = envs.reset(seed=0)
    single = gym.make("Teleport/Booth-v0", reward=GradientDecrease(), budget=6.0)
    single.reset(seed=5)
    for step in range(5):
        _, rewards, _, truncated, infos = envs.step(np.zeros(3, dtype=np.int64))
        _, reward, *_ = single.step(0)
        assert isinstance(reward, float)
        if step < 4:
            assert not rewards.any()
            assert reward == 0.0
    assert truncated.all()
    assert np.allclose(rewards, 2 * np.log10(start["grad_norm"] / infos["grad_norm"]), rtol=1e-12)
    assert reward != 0.0


@pytest.mark.parametrize(("own", "name"), [(OwnDecrease(), "log_decrease"), (WholeLoss(), "terminal")])
@pytest.mark.parametrize("problem", ["Booth", "Digits"])
@pytest.mark.parametrize("arguments", [{}, {"cost_weight": 0.1}])
def test_a_reward_that_defines_the_same_pays_the_same(
    own: Reward, name: str, problem: str, arguments: dict[str, Any]
) -> None:
    assert np.array_equal(played(own, problem, **arguments), played(name, problem, **arguments))


def test_a_reward_may_hand_out_what_it_was_given() -> None:
    """The environment writes into a copy: costs are subtracted, and runs that wait are paid nothing."""

    class Before(Reward):
        name = "before"

        def pay(self, turn: Turn) -> Tensor:
            return turn.before

    envs = TeleportVectorEnv("Booth", 2, reward=Before(), cost_weight=1.0, budget=20.0)
    _, infos = envs.reset(seed=0)
    for _ in range(3):
        expected = np.log10(infos["loss"]) - 1.0
        _, rewards, _, _, infos = envs.step(np.zeros(2, dtype=np.int64))
        assert np.allclose(rewards, expected, rtol=1e-12)


def test_names_and_objects() -> None:
    for name, reward in REWARDS.items():
        assert reward.name == name
        assert Settings.build("Booth", reward=name).reward is reward
        assert Settings.build("Booth", reward=reward).reward is reward
    with pytest.raises(
        ValueError, match=r"reward must be one of 'log_decrease', 'terminal', 'score', got 'log_decrese'.*Did you"
    ):
        Settings.build("Booth", reward="log_decrese")
    with pytest.raises(ValueError, match=r"reward must be one of .*got 5.*Reward"):
        Settings.build("Booth", reward=5)  # type: ignore[arg-type]


def test_the_score_pays_a_run_the_same_alone_and_goes_on_from_a_snapshot() -> None:
    """What it pays hangs on the lowest loss so far, which a snapshot keeps and a reset forgets."""
    arguments: dict[str, Any] = {"reward": "score", "budget": 9.0, "split": "train"}
    envs = TeleportVectorEnv("Rosenbrock", 3, **arguments)
    for _ in range(2):
        envs.reset(seed=10)
        singles = [gym.make("Teleport/Rosenbrock-v0", **arguments) for _ in range(3)]
        for single, seed in zip(singles, seeds_of_rows(10, 3), strict=True):
            single.reset(seed=seed)
        for step in range(6):
            if step == 3:
                saved = envs.snapshot()
                for _ in range(2):
                    envs.step(np.zeros(3, dtype=np.int64))
                envs.restore(saved)
            rewards = envs.step(np.zeros(3, dtype=np.int64))[1]
            assert rewards.tolist() == [single.step(0)[1] for single in singles]
            assert (rewards > 0).all()


@pytest.mark.parametrize("pays", [1.0, torch.zeros(3), torch.zeros(2, 1)])
def test_a_reward_of_a_wrong_shape_is_refused(pays: Any) -> None:
    class Wrong(Reward):
        name = "wrong"

        def pay(self, turn: Turn) -> Tensor:
            return pays

    envs = TeleportVectorEnv("Booth", 2, reward=Wrong())
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"the reward 'wrong' must pay a tensor of shape \(2,\)"):
        envs.step(np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("mixed", [False, True])
def test_diverged_runs_are_paid_apart_and_the_others_as_ever(mixed: bool) -> None:
    """Returns are the sums of rewards, and -2 in all where an episode diverged, in steps of all and among teleports."""
    envs = TeleportVectorEnv("Rosenbrock", 12, autoreset_mode="Disabled", budget=30.0)
    rates = np.where(np.arange(12) % 2, 0.05, 1e-3)
    sums, generator = np.zeros(12), np.random.default_rng(0)
    envs.reset(seed=0, options={"learning_rate": rates})
    for _ in range(30):
        reward = envs.step(generator.integers(0, 2, 12) * mixed)[1]
        sums += reward
        assert np.array_equal(envs.episodes.returns.numpy(), sums)
    diverged = envs.episodes.runs.progress.diverged.numpy()
    assert 0 < diverged.sum() < 12
    assert np.allclose(sums[diverged], -2.0)
    assert not np.isclose(sums[~diverged], -2.0).any()
