"""Schedules with their teleports taken out, and playing side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from study.controls import Replay, without_teleports
from teleport_env.agents import Every, Never, RandomElement, RandomTiming, RateAndTeleport, Stall
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.envs.features import NAMES


def policy(seed: int = 0, **settings: object) -> LearnedSchedule:
    generator = np.random.default_rng(seed)
    sizes = [(16, len(NAMES)), (3, 16)]
    layers = tuple(
        (generator.normal(size=s).astype(np.float32), generator.normal(size=s[0]).astype(np.float32)) for s in sizes
    )
    environment = {"searches": ["random"], "rate_factors": [1.0, 0.7], "steps_per_action": 1, "learning_rate": 0.05}
    return LearnedSchedule(features=NAMES, layers=layers, environment=environment, stochastic=True)


def test_play_many_is_play_bit_for_bit() -> None:
    ids = draw_instances("Booth", "train", 5, seed=2)
    here = {"learning_rate": 0.05}
    agents = [
        RandomTiming(probability=0.3, environment=here),
        Stall(environment=here),
        RandomElement(k=3, environment=here),
        Never(environment=here),
        Every(k=2, environment={"learning_rate": 0.1}),
        RandomTiming(probability=0.5, seed=4, environment=here),
    ]
    together = play_many("Booth", agents, ids, split="train", seed=7, rows=15)
    for gained, agent in zip(together, agents, strict=True):
        alone = play("Booth", agent, ids, split="train", seed=7)
        assert gained.tolist() == [row["gained"] for row in alone.rows]


def test_decisions_without_teleports_are_the_same_steps_at_the_same_budget() -> None:
    ids = draw_instances("Booth", "train", 6, seed=0)
    agent = policy()
    played = play("Booth", agent, ids, split="train", seed=3)
    assert played.actions is not None
    teleports = (played.actions == 2).sum(axis=0)
    assert (teleports > 0).any()
    replay = without_teleports(agent, played)
    again = play("Booth", replay, ids, split="train", seed=3)
    assert again.actions is not None
    assert max(row["teleports"] for row in again.rows) == 0
    for row in range(len(ids)):
        kept = [a for a in played.actions[:, row].tolist() if a in (0, 1)]
        shown = [a for a in again.actions[:, row].tolist() if a >= 0]
        assert shown[: len(kept)] == kept[: len(shown)]
        assert not any(shown[len(kept) :])  # the freed budget goes to plain steps
        assert len(shown) >= len(kept)
        assert again.rows[row]["cost"] > 24 - 1 or again.rows[row]["converged"] or again.rows[row]["diverged"]
        if not teleports[row]:
            assert again.rows[row]["loss"] == played.rows[row]["loss"]


def test_a_replay_of_a_schedule_without_teleports_is_that_schedule() -> None:
    ids = draw_instances("Booth", "train", 4, seed=0)
    environment = {"learning_rate": 0.03}
    plan = RateAndTeleport(up=1.3, warmup=4, down=0.5, decay_every=6, first=0, every=0, environment=environment)
    played = play("Booth", plan, ids, split="train")
    again = play("Booth", without_teleports(plan, played), ids, split="train")
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in played.rows]


def test_a_masked_policy_takes_the_step_that_the_policy_prefers() -> None:
    observation = np.random.default_rng(1).normal(size=(9, len(NAMES))).astype(np.float32)
    agent = dataclasses.replace(policy(), stochastic=False)
    bare = Masked(policy=agent)
    assert bare.predict(observation)[0].tolist() == agent.logits(observation)[:, :2].argmax(axis=1).tolist()
    assert (agent.logits(observation).argmax(axis=1) == 2).any()
    assert (bare.kind, bare.name) == ("control", "learned, teleports masked")
    ids = draw_instances("Booth", "train", 3, seed=0)
    assert max(row["teleports"] for row in play("Booth", bare, ids, split="train").rows) == 0


def test_a_masked_policy_draws_as_the_policy_does_until_that_teleports() -> None:
    ids = draw_instances("Booth", "train", 32, seed=0)
    agent = policy()
    own, bare = (play("Booth", one, ids, split="train").actions for one in (agent, Masked(policy=agent)))
    assert own is not None
    assert bare is not None
    first = np.where((own == 2).any(axis=0), (own == 2).argmax(axis=0), len(own))
    assert (first > 0).any()
    assert {0, 1} <= {*bare.flat} <= {-1, 0, 1}  # it draws, and no teleports
    for row, steps in enumerate(first.tolist()):
        both = bare[:steps, row], own[: len(bare), row][:steps]
        assert both[0].tolist() == both[1].tolist()


def test_a_replay_is_for_its_own_runs() -> None:
    replay = Replay(script=np.zeros((3, 2), dtype=np.int64))
    with pytest.raises(ValueError, match="is for 2 runs, got 3"):
        replay.predict(np.zeros((3, len(NAMES)), dtype=np.float32))
    with pytest.raises(ValueError, match="script must be"):
        Replay(script=np.ones((3, 2), dtype=np.int64))
