"""What the rest of the budget cannot pay is never drawn, neither in training nor in play."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from teleport_env.agents.learning.algorithm import MaskedPolicy
from teleport_env.agents.learning.course import Course
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.play import draw_instances
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.slots import price_shares, relative, search_prices
from teleport_env.envs import TeleportVectorEnv

DEAR = Training.of(
    problem="Booth",
    searches=("random", "virtual_step", "random_element"),
    rate_factors=(1.0, 2.0),
    steps_per_action=1,
    budget=8.0,
    decisions=8 * 8 * 2,
    runs=8,
    rollout=8,
    segment=1,
    minibatches=2,
    hidden=(8, 8),
    plans=0,
    rules=0,
    validation_instances=4,
)
TELEPORTS = 3


def silent(line: str) -> None:
    pass


@pytest.fixture
def run(tmp_path: Path) -> Course:
    return Course(DEAR.changed(out=tmp_path), silent)


def test_the_mask_is_the_environments() -> None:
    """But where a teleport would take the budget to its last hundred millionth, which leaves nothing to gain."""
    assert isinstance(DEAR.task.problem, str)
    prices = search_prices(DEAR.task.problem, DEAR.task.searches or ())
    env = TeleportVectorEnv(DEAR.task.problem, 64, autoreset_mode="Disabled", **DEAR.environment)
    observation, info = env.reset(seed=0, options={"instance_id": draw_instances(DEAR.task.problem, "train", 64, 0)})
    generator, seen = np.random.default_rng(0), set()
    over = np.zeros(64, dtype=bool)
    while not over.all():
        payable = price_shares(observation, relative(prices)) < 1.0
        left = DEAR.settings().budget - info["cost"]
        exact = env.action_masks()[:, 2:] & (np.abs(left[:, None] - np.asarray(prices)) > 1e-5)
        np.testing.assert_array_equal(payable[~over], exact[~over])
        seen |= {tuple(row) for row in payable[~over].tolist()}
        observation, _, terminated, truncated, info = env.step(generator.integers(5, size=64))
        over = terminated | truncated
    assert len(seen) >= 3  # of the menu something, all and nothing could be paid


def test_what_cannot_be_paid_is_never_drawn_and_the_update_sees_the_same_probabilities(run: Course) -> None:
    model = run.model
    policy = model.policy
    assert isinstance(policy, MaskedPolicy)
    with torch.no_grad():
        policy.action_net.bias[2:] = 20.0  # it would do nothing but teleport
    callback = model._setup_learn(64)[1]
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=8)
    buffer = model.rollout_buffer
    masked = drawn = 0
    for part in buffer.get(16):
        _, log_probability, entropy = policy.evaluate_actions(part.observations, part.actions.flatten())
        torch.testing.assert_close(log_probability, part.old_log_prob, rtol=1e-6, atol=1e-6)
        assert torch.isfinite(entropy).all()
        assert (log_probability > -100).all()
        shares = part.observations[:, -TELEPORTS:]
        action = part.actions.flatten().long()
        teleports = action >= 2
        assert (shares[teleports, action[teleports] - 2] < 1).all()
        masked += int((shares == 1).sum())
        drawn += int(teleports.sum())
    assert masked > 20
    assert drawn > 5


def test_gradients_of_masked_actions_are_numbers(run: Course) -> None:
    policy = run.model.policy
    seen = torch.zeros(5, 18 + TELEPORTS)
    seen[:, -TELEPORTS:] = 1.0
    seen[0, -1] = 0.5
    _, log_probability, entropy = policy.evaluate_actions(seen, torch.tensor([4, 0, 1, 0, 1]))
    (log_probability.sum() + entropy.sum()).backward()
    gradients = [parameter.grad for parameter in policy.action_net.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert (policy.action_net.bias.grad[2:4] == 0).all()
    assert entropy[1] < np.log(2) + 1e-6


def test_play_masks_as_training_does(run: Course) -> None:
    policy, network = run._policy(), run.model.policy
    assert policy.prices == relative(search_prices("Booth", DEAR.task.searches or ()))
    observation = run.env.reset()
    for share in (0.2, 0.5, 1.0):
        observation[:, 13] = share
        observation[:, -TELEPORTS:] = price_shares(observation, policy.prices)
        with torch.no_grad():
            expected = network.get_distribution(torch.from_numpy(observation)).distribution.probs.numpy()
        np.testing.assert_allclose(policy.probabilities(observation[:, :18]), expected, rtol=1e-5, atol=1e-7)


def test_masks_can_be_left_out(tmp_path: Path) -> None:
    found = train(DEAR.changed(masks=False, out=tmp_path), silent)
    assert found.policy.prices is None
    with pytest.raises(ValueError, match="price_inputs need masks"):
        DEAR.changed(masks=False, price_inputs=True)


def test_prices_can_be_read(tmp_path: Path) -> None:
    training = DEAR.changed(price_inputs=True, out=tmp_path)
    run = Course(training, silent)
    policy = LearnedSchedule.load(run._policy().save(tmp_path / "p.json"))
    observation = run.env.reset()
    observation[:, 13] = np.linspace(0.0, 1.0, 8)
    observation[:, -TELEPORTS:] = price_shares(observation, policy.prices or ())
    with torch.no_grad():
        expected = run.model.policy.get_distribution(torch.from_numpy(observation)).distribution.probs.numpy()
    np.testing.assert_allclose(policy.probabilities(observation[:, :18]), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="prices is None"):
        dataclasses.replace(policy, prices=None)


def test_a_search_for_nothing_has_no_relative_price() -> None:
    with pytest.raises(ValueError, match="without masks"):
        relative((0.0, 1.0))
