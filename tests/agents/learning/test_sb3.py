"""The adapter for stable-baselines3, and a learner that must really learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import teleport_env
from teleport_env.agents import Agent, agent_from
from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.learning.vec_env import Shares
from teleport_env.envs import TeleportEnv, TeleportVectorEnv
from teleport_env.groups import SO2
from teleport_env.ledger import Counts
from teleport_env.problems import PROBLEMS, Defaults
from teleport_env.random import Streams, seeds_of_rows
from teleport_env.searches import Candidate, Start

# -- a problem whose best schedule is known ----------------------------------------------------------------------------


class Turn(teleport_env.Symmetry):
    """Rotations of ``(sqrt(a) x, sqrt(b) y)``, which keep ``a x^2 + b y^2``."""

    name = "turn"
    group = SO2()
    exact_when = "always"

    def act(self, g: Any, params: torch.Tensor, instance: teleport_env.Instance, batch: Any = None) -> torch.Tensor:
        root = instance["curvature"].sqrt()
        return (g * (params * root)[:, None, :]).sum(dim=2) / root


@dataclass(frozen=True, kw_only=True)
class ToAxis(teleport_env.Search):
    """Onto one axis of the ellipse, in closed form, for one gradient evaluation."""

    kind: ClassVar[str] = "to_axis"
    axis: int = 0

    def propose(self, start: Start) -> Candidate:
        params = torch.zeros_like(start.params)
        params[:, self.axis] = (start.loss / start.instance["curvature"][:, self.axis]).sqrt()
        loss, gradient = start.evaluator.loss_and_gradient(params)
        return Candidate(params, loss, gradient)

    def price(self, problem: teleport_env.Problem, symmetry: teleport_env.Symmetry) -> Counts:
        return Counts(gradient=1.0)


class Trough(teleport_env.Problem):
    """``a x^2 + b y^2`` with ``a = 100 b``: along x a step gains 1.4 orders, along y next to nothing.

    A run on the x axis gains 1.4 orders per step; so the best is to go there first and to step ever after.
    """

    name = "Trough"

    def sample(self, generator: Streams, count: int, split: str) -> teleport_env.Instance:
        angle = generator.uniform(0.7, 1.4)
        curvature = torch.tensor([[1.0, 0.01]], dtype=torch.float64).repeat(count, 1)
        start = torch.stack((torch.cos(angle), torch.sin(angle)), dim=1) / curvature.sqrt()
        return teleport_env.Instance(start, {"curvature": curvature})

    def loss(self, params: torch.Tensor, instance: teleport_env.Instance, batch: Any = None) -> torch.Tensor:
        return (instance["curvature"] * params * params).sum(dim=1)

    @property
    def symmetries(self) -> dict[str, teleport_env.Symmetry]:
        return {"turn": Turn()}

    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(
            learning_rate=0.4, searches=(ToAxis(axis=1), ToAxis(axis=0)), symmetry="turn", budget=6.0, tolerance=1e-12
        )


STEP, TO_FLAT, TO_STEEP = 0, 1, 2


@pytest.fixture(scope="module", autouse=True)
def trough() -> Iterator[None]:
    teleport_env.register_problem("Trough", Trough)
    yield
    PROBLEMS.pop("Trough")
    gym.registry.pop("Teleport/Trough-v0")


def best_return(env: TeleportEnv, gained: float = 0.0) -> tuple[float, list[int]]:
    """The largest return over all schedules from where the environment stands, and the schedule."""
    here, best = env.snapshot(), (-np.inf, [])
    for action in range(int(env.action_space.n)):
        env.restore(here)
        _, reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            found = (gained + reward, [action])
        else:
            total, rest = best_return(env, gained + reward)
            found = (total, [action, *rest])
        best = max(best, found, key=lambda pair: pair[0])
    env.restore(here)
    return best


def return_of(agent: Any, seed: int, env_id: str = "Teleport/Trough-v0", **arguments: Any) -> float:
    """One episode's return in the single environment."""
    env = gym.make(env_id, **arguments)
    observation, _ = env.reset(seed=seed)
    state, over, total, start = None, False, 0.0, np.ones(1, dtype=bool)
    while not over:
        action, state = agent.predict(observation, state=state, episode_start=start, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        over, total, start = terminated or truncated, total + float(reward), np.zeros(1, dtype=bool)
    return total


def test_a_learner_really_learns() -> None:
    seeds = [1001, 1002, 1003]
    best, schedules = [], []
    for seed in seeds:
        env = gym.make("Teleport/Trough-v0").unwrapped
        assert isinstance(env, TeleportEnv)
        env.reset(seed=seed)
        value, schedule = best_return(env)
        best.append(value)
        schedules.append(schedule)
    assert schedules == [[TO_STEEP] + [STEP] * 4] * 3, "one teleport at the start, then steps"
    # (1 - 2 * 0.4)^2 a step
    np.testing.assert_allclose(best, -4 * np.log10(0.04), rtol=1e-9)

    envs = SB3VecEnv("Teleport/Trough-v0", 32, bootstrap_truncated=False)
    model = sb3.PPO(
        "MlpPolicy",
        envs,
        n_steps=16,
        batch_size=128,
        n_epochs=8,
        learning_rate=3e-3,
        gamma=1.0,
        gae_lambda=0.95,
        ent_coef=0.01,
        seed=0,
        device="cpu",
    )
    untrained = np.mean([return_of(model, seed) for seed in seeds])
    model.learn(6_000)
    trained = np.mean([return_of(model, seed) for seed in seeds])
    never = np.mean([return_of(agent_from("never", environment={"searches": ["random"] * 2}), seed) for seed in seeds])
    optimum = np.mean(best)
    assert trained >= 0.95 * optimum, f"{trained:.2f} of {optimum:.2f}"
    assert untrained < 0.95 * optimum
    assert never < 0.95 * optimum
    # the adapter logged what was learned, without a Monitor
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 0.7 * optimum


# -- all kinds of algorithms run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN"])
def test_algorithms_run_on_the_schedule_mode(name: str) -> None:
    settings = {
        "PPO": {"n_steps": 16, "batch_size": 32, "n_epochs": 2},
        "A2C": {},
        "DQN": {"learning_starts": 50, "buffer_size": 500},
    }[name]
    envs = SB3VecEnv("Teleport/Booth-v0", 4)
    model = getattr(sb3, name)("MlpPolicy", envs, seed=0, device="cpu", **settings)
    model.learn(256)
    assert model.num_timesteps >= 256
    assert len(model.ep_info_buffer) > 0
    assert all(np.isfinite(episode["r"]) for episode in model.ep_info_buffer)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_algorithms_run_on_the_group_mode(name: str) -> None:
    settings = {"PPO": {"n_steps": 16, "batch_size": 32, "n_epochs": 2}, "SAC": {"learning_starts": 100}}[name]
    envs = SB3VecEnv("Teleport/Booth-v0", 4, action_mode="group", observation="both")
    model = getattr(sb3, name)("MlpPolicy", envs, seed=0, device="cpu", **settings)
    model.learn(200)
    assert model.num_timesteps >= 200
    assert len(model.ep_info_buffer) > 0


def test_a_normaliser_changes_its_own_copy_of_the_last_observation() -> None:
    """VecNormalize writes into the infos it is given."""
    envs = VecNormalize(SB3VecEnv("Teleport/Booth-v0", 2, budget=4.0), norm_reward=False)
    envs.reset()
    for _ in range(8):
        observation, _, done, infos = envs.step(np.zeros(2, dtype=np.int64))
        if done.any():
            assert np.isfinite(infos[0]["terminal_observation"]).all()
        assert np.isfinite(observation).all()


# -- what the adapter says ---------------------------------------------------------------------------------------------


def test_rows_agree_with_single_environments_across_episodes() -> None:
    """The last observation is that of the episode that ended, and the two kinds of ends are distinguished."""
    count, settings = 3, {"tolerance": 0.5}
    envs = SB3VecEnv("Teleport/Booth-v0", count, **settings)
    seeds = envs.seed(7)
    assert seeds == seeds_of_rows(7, count)
    observations = envs.reset()
    singles = [gym.make("Teleport/Booth-v0", **settings) for _ in range(count)]
    for row, env in enumerate(singles):
        first, info = env.reset(seed=seeds[row])
        np.testing.assert_array_equal(observations[row], first)
        np.testing.assert_equal(envs.reset_infos[row], info)
    chooser, ends = np.random.default_rng(0), []
    returns, lengths = np.zeros(count), np.zeros(count, dtype=int)
    for _ in range(120):
        actions = chooser.choice(4, size=count, p=[0.55, 0.15, 0.15, 0.15])
        observations, rewards, dones, infos = envs.step(actions)
        assert rewards.dtype == np.float32
        for row, env in enumerate(singles):
            last, reward, terminated, truncated, info = env.step(actions[row])
            assert rewards[row] == np.float32(reward)
            assert dones[row] == (terminated or truncated)
            returns[row] += reward
            lengths[row] += 1
            if not dones[row]:
                assert infos[row] == {}
                np.testing.assert_array_equal(observations[row], last)
                continue
            ends.append(terminated)
            ended = infos[row]
            np.testing.assert_array_equal(ended["terminal_observation"], last)
            assert ended["TimeLimit.truncated"] is (truncated and not terminated)
            assert (ended["episode"]["r"], ended["episode"]["l"]) == (pytest.approx(returns[row]), lengths[row])
            np.testing.assert_equal({name: ended[name] for name in info}, info)
            assert all(type(ended[name]) in (bool, int, float) for name in info if name != "action_mask")
            returns[row], lengths[row] = 0.0, 0
            first, info = env.reset()
            np.testing.assert_array_equal(observations[row], first)
            assert not np.array_equal(first, last)
            np.testing.assert_equal(envs.reset_infos[row], info)
    assert {True, False} == set(ends), "both kinds of ends were seen"


def test_infos_of_running_rows_are_empty_and_cannot_be_written_to_and_full_on_request() -> None:
    envs = SB3VecEnv("Teleport/Booth-v0", 2)
    envs.reset()
    _, _, _, infos = envs.step(np.zeros(2, dtype=np.int64))
    for write in (
        lambda info: info.__setitem__("mine", 1),
        lambda info: info.update(mine=1),
        lambda info: info.setdefault("mine", 1),
        lambda info: info.__ior__({"mine": 1}),
    ):
        with pytest.raises(TypeError, match="full_infos=True"):
            write(infos[0])
    copied = {**infos[0], "mine": 1}
    assert copied == {"mine": 1}
    _, _, _, again = envs.step(np.zeros(2, dtype=np.int64))
    assert infos == again == [{}, {}]
    full = SB3VecEnv("Teleport/Booth-v0", 2, full_infos=True)
    full.reset()
    _, _, _, infos = full.step(np.array([0, 1]))
    assert [info["step"] for info in infos] == [1, 0]
    assert all(type(info["loss"]) is float for info in infos)


def test_bootstrapping_at_the_end_of_the_budget_can_be_turned_off() -> None:
    for bootstrap in (True, False):
        envs = SB3VecEnv("Teleport/Booth-v0", 1, budget=2.0, bootstrap_truncated=bootstrap)
        envs.reset()
        _, _, done, infos = envs.step(np.zeros(1, dtype=np.int64))
        assert done[0]
        assert infos[0]["TimeLimit.truncated"] is bootstrap


def test_seeds_and_options_serve_one_reset() -> None:
    envs = SB3VecEnv("Teleport/Booth-v0", 2)
    envs.seed(3)
    first = envs.reset()
    assert not np.array_equal(first, envs.reset())
    envs.seed(3)
    np.testing.assert_array_equal(first, envs.reset())
    envs.set_options([{"instance_id": 4}, {"instance_id": 9}])
    envs.reset()
    assert [info["instance_id"] for info in envs.reset_infos] == [4, 9]
    envs.reset()
    assert [info["instance_id"] for info in envs.reset_infos] != [4, 9]
    envs.set_options([{"instance_id": 4}, {}])
    with pytest.raises(ValueError, match="'instance_id' must be given for all rows"):
        envs.reset()
    assert not set(envs.seed(3)) & set(envs.seed(4)), "neighbouring seeds share no row"


HEURISTICS = ["never", "every", "relative_decrease", "accept_if_better", "random_timing"]


@pytest.mark.parametrize("name", HEURISTICS)
def test_evaluate_policy_plays_our_agents_and_agrees_with_our_totals(name: str) -> None:
    agent: Agent = agent_from(name)
    count = 3
    envs = SB3VecEnv("Teleport/Rosenbrock-v0", count, **agent.environment)
    seeds = envs.seed(21)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no complaint about a missing Monitor
        returns, lengths = evaluate_policy(agent, envs, n_eval_episodes=2 * count, return_episode_rewards=True)
    assert len(lengths) == 2 * count
    expected = []
    for seed in seeds:
        env = gym.make("Teleport/Rosenbrock-v0", **agent.environment)
        for episode in range(2):
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            state, over, total = None, False, 0.0
            while not over:
                action, state = agent.predict(observation, state)
                observation, reward, terminated, truncated, _ = env.step(action)
                over, total = terminated or truncated, total + float(reward)
            expected.append(total)
    np.testing.assert_allclose(sorted(returns), sorted(expected), rtol=1e-12)


def test_vec_monitor_agrees() -> None:
    inner = SB3VecEnv("Teleport/Booth-v0", 2)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        envs = VecMonitor(inner)
    agent = agent_from("every")
    inner.seed(5)
    monitored, _ = evaluate_policy(agent, envs, n_eval_episodes=4, return_episode_rewards=True)
    inner.seed(5)
    ours, _ = evaluate_policy(agent, inner, n_eval_episodes=4, return_episode_rewards=True)
    np.testing.assert_allclose(monitored, ours, rtol=1e-5)


def test_attributes_and_methods() -> None:
    envs = SB3VecEnv("Teleport/Booth-v0", 3, render_mode="rgb_array")
    envs.reset()
    envs.step(np.zeros(3, dtype=np.int64))
    assert envs.render_mode == "rgb_array"
    assert envs.get_attr("render_mode", [0, 2]) == ["rgb_array", "rgb_array"]
    masks = np.stack(envs.env_method("action_masks"))
    assert masks.shape == (3, 5)
    assert masks.all()
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("no_such_thing")
    params = envs.get_attr("params", 1)
    np.testing.assert_array_equal(params[0], envs.env.params[1])
    assert set(envs.env_method("measure", indices=0)[0]) == {"training_loss"}
    assert envs.env_is_wrapped(Monitor) == [True] * 3
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, indices=[1]) == [False]
    envs.set_attr("note", "mine")
    assert envs.get_attr("note") == ["mine"] * 3
    with pytest.raises(ValueError, match="'note' can be set for all of them only"):
        envs.set_attr("note", "yours", indices=[0])
    images = envs.get_images()
    assert len(images) == 3
    assert images[0].dtype == np.uint8
    assert envs.render().shape[2] == 3
    envs.close()


def test_only_same_step_environments_are_taken() -> None:
    with pytest.raises(ValueError, match="autoreset_mode='SameStep'"):
        SB3VecEnv(TeleportVectorEnv("Booth", 2))
    made = TeleportVectorEnv("Booth", 2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert SB3VecEnv(made).num_envs == 2
    with pytest.raises(TypeError, match="already made"):
        SB3VecEnv(made, budget=3.0)
    with pytest.raises(ValueError, match="output='numpy'"):
        SB3VecEnv("Teleport/Booth-v0", 2, output="torch")
    with pytest.raises(ValueError, match="not 'hybrid'"):
        SB3VecEnv("Teleport/Booth-v0", 2, action_mode="hybrid")
    with pytest.raises(TypeError, match="got TeleportEnv"):
        SB3VecEnv(TeleportEnv("Booth"))
    for seed in (-1, 1.5, "a"):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0, got"):
            SB3VecEnv(made).seed(seed)  # type: ignore[arg-type]


def test_a_divergence_is_charged_once_and_in_training_alone() -> None:
    rewards, returns = {}, {}
    for cost in (0.0, 3.0):
        runs = SB3VecEnv(
            "teleport_env:Teleport/Booth-v0", 2, learning_rate=100.0, rate_factors=(1.0, 1e-4), searches=()
        )
        charged = Shares(runs, (), None, 0, 2, reward_scale=0.5, divergence_cost=cost)
        charged.seed(4)
        charged.reset()
        for _ in range(100):
            _, rewards[cost], done, infos = charged.step(np.array([0, 1]))
            if done.any():
                break
        assert done.tolist() == [True, False]
        assert infos[0]["episode"]["diverged"]
        returns[cost] = infos[0]["episode"]["r"]
    assert returns[0.0] == returns[3.0]
    assert (rewards[0.0] - rewards[3.0]).tolist() == [1.5, 0.0]
