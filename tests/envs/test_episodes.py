"""Budgets, rewards, ends, errors: what an episode promises."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence

import teleport_env
from teleport_env.envs.actions import ActionReader
from teleport_env.envs.features import FEATURES, INDEX
from teleport_env.searches.base import Status


def make(name: str = "Rosenbrock", **kwargs: Any) -> Any:
    return gym.make(f"Teleport/{name}-v0", disable_env_checker=True, **kwargs).unwrapped


def play(env: Any, actions: Any = 0, seed: int = 0, options: Any = None) -> tuple[list[float], dict[str, Any], Any]:
    env.reset(seed=seed, options=options)
    rewards, over = [], False
    while not over:
        _, reward, terminated, truncated, info = env.step(actions)
        rewards.append(reward)
        over = terminated or truncated
    return rewards, info, (terminated, truncated)


def test_booth_of_the_paper() -> None:
    """The losses of plain descent: Booth from (5, -5) with rate 0.08 (published experiment)."""
    env = make("Booth", split="paper", budget=11)
    _, info = env.reset(seed=0)
    losses = [info["loss"]]
    for _ in range(10):
        *_, truncated, info = env.step(0)
        losses.append(info["loss"])
    expected = [144, 64.74, 38.55, 25.82, 17.95, 12.61, 8.89, 6.27, 4.42, 3.12, 2.20]
    assert np.allclose(losses, expected, atol=6e-3)
    assert truncated
    assert info["cost"] == 11.0
    assert info["step"] == 10


def test_booth_best_teleport() -> None:
    """At the maximum on a level set of Booth's function g2 = 36 L, and each step after it multiplies the loss by 0.1936."""
    env = make("Booth", split="paper", searches=["closed_form"], budget=30)
    env.reset(seed=0)
    for _ in range(3):
        *_, info = env.step(0)
    before = info["loss"]
    *_, info = env.step(1)
    assert info["step"] == 3
    assert info["teleports"] == 1
    assert info["loss"] == pytest.approx(before, rel=1e-12)
    assert info["grad_norm"] ** 2 == pytest.approx(36 * before, rel=1e-10)
    for _ in range(5):
        before = info["loss"]
        *_, info = env.step(0)
        assert info["loss"] / before == pytest.approx(0.1936, rel=1e-8)


def test_rosenbrock_of_the_paper() -> None:
    env = make("Rosenbrock", split="paper", budget=1001)
    _, info, _ = play(env)
    assert info["step"] == 1000
    assert info["loss"] == pytest.approx(0.11134, abs=5e-6)
    assert env.params == pytest.approx([0.6667, 0.4429], abs=5e-5)


@pytest.mark.parametrize("name", ["Rosenbrock", "Quadratic", "MLPRegression", "MatrixFactorization"])
def test_rewards_telescope(name: str) -> None:
    env = make(name)
    rewards, info, _ = play(env)
    _, start = env.reset(seed=0)
    if info["diverged"]:
        assert sum(rewards) == pytest.approx(-2.0, abs=1e-9)
    else:
        floor = env.settings.tolerance
        assert sum(rewards) == pytest.approx(np.log10(start["loss"] / max(info["loss"], floor)), abs=1e-9)


def test_cost_weight() -> None:
    free, weighted = play(make(budget=20)), play(make(budget=20, cost_weight=0.25))
    assert sum(free[0]) - sum(weighted[0]) == pytest.approx(0.25 * (weighted[1]["cost"] - 1.0))


def test_terminal_reward_comes_at_the_end_and_is_the_same_sum() -> None:
    rewards, _, _ = play(make(reward="terminal", budget=20))
    assert rewards[:-1] == [0.0] * (len(rewards) - 1)
    assert rewards[-1] == pytest.approx(sum(play(make(budget=20))[0]))


def test_divergence_terminates_with_a_bounded_penalty_and_finite_features() -> None:
    env = make("Quadratic", learning_rate=1e6, budget=200)
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        observation, reward, terminated, truncated, info = env.step(0)
        assert np.isfinite(observation).all()
        assert env.observation_space.contains(observation)
        rewards.append(reward)
        over = terminated or truncated
    assert terminated
    assert info["diverged"]
    assert sum(rewards) == pytest.approx(-2.0)


def test_tolerance_terminates() -> None:
    env = make("Booth", split="paper", tolerance=10.0, budget=50)
    _, info, (terminated, truncated) = play(env)
    assert terminated
    assert not truncated
    assert info["converged"]
    assert info["loss"] <= 10.0
    assert info["step"] == 6


def test_the_budget_is_never_exceeded_and_the_start_is_paid() -> None:
    for arguments in (
        {"budget": 10.0},
        {"budget": 10.5, "steps_per_action": 4},
        {"budget": 9.0, "optimizer": "gd_line_search", "learning_rate": 0.5},
    ):
        env = make("Rosenbrock", **arguments)
        _, info = env.reset(seed=1)
        assert info["cost"] == 1.0
        _, info, (terminated, truncated) = play(env, seed=1)
        assert info["cost"] <= arguments["budget"] + 1e-6
        assert truncated or terminated
        assert info["cost"] + 1.0 > arguments["budget"]


def test_a_teleport_that_cannot_be_paid_is_refused_and_masked() -> None:
    env = make("Rosenbrock", searches=["grid"], budget=40)
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True, False]
    before = env.params
    _, reward, terminated, truncated, info = env.step(1)
    assert not terminated
    assert not truncated
    assert reward == 0.0
    assert info["teleport_status"] == Status.NOT_PAID
    assert info["cost"] == 1.0
    assert np.array_equal(env.params, before)
    _rewards, info, _ = play(env)
    assert info["step"] == 39
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(0)


def test_nobody_does_worse_than_a_diverged_run() -> None:
    """Regression: with a penalty of two orders and divergence at six, blowing up paid."""
    worst = 0.0
    for rate in np.geomspace(0.05, 5.0, 12):
        for seed in range(4):
            rewards, _, _ = play(make("Booth", learning_rate=float(rate), budget=8), seed=seed)
            worst = min(worst, sum(rewards))
    assert worst == pytest.approx(-2.0)


@pytest.mark.parametrize("start", [[1e200, 0.0], [1e160, -1e160]])
@pytest.mark.parametrize("reward", ["log_decrease", "terminal"])
def test_a_start_whose_loss_is_not_finite_has_a_finite_penalty(start: list[float], reward: str) -> None:
    env = make("Booth", reward=reward)
    observation, info = env.reset(options={"params": start})
    assert info["diverged"]
    assert np.isfinite(observation).all()
    observation, penalty, terminated, _, _ = env.step(0)
    assert terminated
    assert penalty == pytest.approx(-2.0)
    assert np.isfinite(observation).all()


@pytest.mark.parametrize(("mode", "index"), [("group", "price"), ("hybrid", "price")])
def test_the_price_feature_is_that_of_what_is_on_offer(mode: str, index: str) -> None:
    """Regression: in the group modes it was the price of a menu that is not on offer there."""
    env = make("Quadratic", action_mode=mode)
    observation, info = env.reset(seed=0)
    price = env.episodes.runs.price_of_move()
    assert observation[INDEX[index]] == pytest.approx(price / (env.settings.budget - info["cost"]), rel=1e-5)


def test_a_group_action_at_the_corner_is_as_long_as_said() -> None:
    env = make("LinearNetwork", action_mode="group", group_scale=0.5)
    actions = ActionReader(env.settings, 1)(np.ones((1, 1 + env.settings.group_dim)))
    assert actions.xi is not None
    assert float(actions.xi.norm()) == pytest.approx(0.5)


def test_free_actions_cannot_go_on_for_ever() -> None:
    env = make("Rosenbrock", searches=["reset_optimizer"], budget=5)
    env.reset(seed=0)
    actions, truncated = 0, False
    while not truncated:
        _, _, _, truncated, info = env.step(1)
        actions += 1
    assert actions == 50
    assert info["cost"] == 1.0


def test_a_teleport_does_not_advance_the_step_count() -> None:
    env = make("Rosenbrock", searches=["grid"], budget=200)
    env.reset(seed=0)
    *_, info = env.step(1)
    assert info["step"] == 0
    assert info["teleports"] == 1
    assert info["cost"] == 65.0
    assert abs(info["loss_change"]) < 1e-10


def test_rate_factors_accumulate_within_their_range() -> None:
    env = make("Rosenbrock", rate_factors=(1.0, 0.25), searches=[], budget=100)
    _, info = env.reset(seed=0)
    base = info["learning_rate"]
    for k in range(1, 8):
        *_, info = env.step(1)
        assert info["learning_rate"] == pytest.approx(base * max(0.25**k, 1 / 1024))


def test_snapshot_answers_what_if() -> None:
    for name in ("Rosenbrock", "Digits", "MLPRegression"):
        env = make(name, optimizer="adam")
        env.reset(seed=5)
        env.step(0)
        saved = env.snapshot()
        first = [env.step(a) for a in (1, 0, 0)]
        observation, info = env.restore(saved)
        again = [env.step(a) for a in (1, 0, 0)]
        for a, b in zip(first, again, strict=True):
            assert np.array_equal(a[0], b[0])
            assert data_equivalence(a[1:], b[1:], exact=True)
        observation_2, info_2 = env.restore(saved)
        assert np.array_equal(observation, observation_2)
        assert data_equivalence(info, info_2, exact=True)


def test_options() -> None:
    env = make("Rosenbrock")
    _, a = env.reset(seed=0, options={"instance_id": 1234})
    _, b = env.reset(seed=9, options={"instance_id": 1234})
    assert a["loss"] == b["loss"]
    assert a["instance_id"] == 1234
    env.reset(options={"params": [0.5, 0.25]})
    assert env.params.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="'start'"):
        env.reset(options={"start": 0})
    with pytest.raises(ValueError, match="shape"):
        env.reset(options={"params": [0.5]})
    with pytest.raises(ValueError, match="instance_id must be an integer .*, got 3.7"):
        env.reset(options={"instance_id": 3.7})
    assert make("Rosenbrock", budget=np.int64(20)).settings.budget == 20.0
    paper = make("MLPRegression", split="paper")
    with pytest.raises(ValueError, match=r"0\.\.4"):
        paper.reset(options={"instance_id": 5})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "dev"}, "'paper', 'train', 'validation', 'test', got 'dev'"),
        ({"optimizer": "lion"}, "lion"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, got -1.0"),
        ({"searches": ["nope"]}, "nope"),
        ({"searches": "random"}, "must be a list"),
        ({"symmetry": "general_linear"}, "symmetry of Rosenbrock must be one of 'rotation', got 'general_linear'"),
        ({"rate_factors": ()}, "rate_factors"),
        ({"rate_factors": (1.0, 2.0), "action_mode": "group"}, "schedule"),
        ({"budget": 1}, "at least 2"),
        ({"dtype": "float16"}, "float32"),
        ({"problem": {"sides": 3}}, "sides"),
        ({"steps_per_action": 0}, "at least 1"),
        ({"steps_per_action": 2.7}, "integer"),
        ({"cost_weight": float("inf")}, "finite"),
        ({"observation": "pixels"}, "features"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        teleport_env.TeleportEnv("Rosenbrock", **arguments)


def test_discrete_groups_have_no_group_mode() -> None:
    with pytest.raises(ValueError, match="continuous"):
        make("MLPRegression", symmetry="permutation", action_mode="group")


def test_wrong_actions() -> None:
    env = make("Rosenbrock")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="outside"):
        env.step(99)
    with pytest.raises(ValueError, match="integers"):
        env.step(0.5)
    group = make("Rosenbrock", action_mode="group")
    group.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        group.step(np.zeros(3, dtype=np.float32))
    for bad in ([1.0, np.nan], [np.nan, 0.1], [np.inf, 0.0]):
        with pytest.raises(ValueError, match="finite"):
            group.step(np.array(bad, dtype=np.float32))


def test_torch_output() -> None:
    envs = gym.make_vec(
        "Teleport/Rosenbrock-v0", num_envs=3, vectorization_mode="vector_entry_point", output="torch"
    ).unwrapped
    observation, infos = envs.reset(seed=0)
    assert isinstance(observation, torch.Tensor)
    out = envs.step(torch.zeros(3, dtype=torch.int64))
    assert all(isinstance(part, torch.Tensor) for part in out[:4])
    assert isinstance(infos["loss"], torch.Tensor)


def test_the_table_of_features_is_the_observation() -> None:
    env = make("Rosenbrock")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (len(FEATURES),)
    assert env.observation_space.low.tolist() == [np.float32(f.low) for f in FEATURES]
    observation, _, _, _, info = env.step(0)
    rate = 0.5 * np.log10(info["learning_rate"] * info["grad_norm"] ** 2 / info["loss"])
    assert observation[INDEX["rate_decrease"]] == pytest.approx(np.clip(rate, -2, 2), abs=1e-5)
    assert observation[INDEX["budget_left"]] == pytest.approx(1 - info["cost"] / env.settings.budget, abs=1e-6)


def test_features_are_scale_free() -> None:
    """Multiplying the loss and dividing the rate by a constant changes no feature but the distance to the tolerance."""
    from teleport_env.problems import Rosenbrock

    class Scaled(Rosenbrock):
        def loss(self, params: Any, instance: Any, batch: Any = None) -> Any:
            return 64.0 * super().loss(params, instance, batch)

        def loss_and_gradient(self, params: Any, instance: Any, batch: Any = None) -> Any:
            loss, gradient = super().loss_and_gradient(params, instance, batch)
            return 64.0 * loss, 64.0 * gradient

    plain, scaled = Rosenbrock(), Scaled()
    rate = plain.defaults("train").learning_rate
    a = make("Rosenbrock", problem=plain, searches=[], learning_rate=rate)
    b = make("Rosenbrock", problem=scaled, searches=[], learning_rate=rate / 64.0)
    a.reset(seed=3)
    b.reset(seed=3)
    rest = [i for name, i in INDEX.items() if name != "orders_left"]
    for _ in range(10):
        x, y = a.step(0)[0], b.step(0)[0]
        assert np.allclose(x[rest], y[rest], atol=1e-5)


def test_rendering_draws_level_sets_and_curves() -> None:
    for name in ("Rosenbrock", "MLPRegression"):
        env = make(name, render_mode="rgb_array")
        env.reset(seed=0)
        before = env.render()
        for action in (0, 1, 0, 0):
            env.step(action)
        after = env.render()
        assert after.shape == (480, 720, 3)
        assert after.dtype == np.uint8
        assert (before != after).any()
        assert after.std() > 5


def test_algorithm_3_data_element_is_what_new_inputs_go_through() -> None:
    """Algorithm 3: the composition over two teleports undoes what the weights did; a copy, and None where data stay."""
    settings = {"split": "test", "symmetry": "input_transform", "searches": ["random_element"]}
    env = gym.make_vec(
        "Teleport/LinearNetwork-v0", num_envs=3, vectorization_mode="vector_entry_point", **settings
    ).unwrapped
    _, _ = env.reset(seed=0, options={"instance_id": np.arange(3)})
    problem = env.settings.problem
    inputs = problem.instances(torch.arange(3), "test")["inputs"]
    before = problem.network.forward(torch.from_numpy(env.params), inputs)
    for _ in range(2):
        env.step(np.ones(3, dtype=np.int64))
    element = env.data_element
    instance = problem.instances(torch.arange(3), "test")
    moved = problem.symmetries["input_transform"].move_data(element, inputs, instance)
    after = problem.network.forward(torch.from_numpy(env.params), moved)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(problem.network.forward(torch.from_numpy(env.params), inputs), before, rtol=1e-3)
    element.zero_()
    assert float(env.data_element.abs().max()) > 0.0
    single = gym.make("Teleport/LinearNetwork-v0", **settings).unwrapped
    single.reset(seed=0)
    assert single.data_element.shape[0] == 1
    booth = gym.make("Teleport/Booth-v0").unwrapped
    booth.reset(seed=0)
    assert booth.data_element is None
