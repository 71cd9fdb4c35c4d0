"""Rollouts of stable-baselines3's PPO over our vector environment, over single ones, and over one that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.rows import Measured, Scale, timed
from teleport_env.agents.learning.sb3 import SB3VecEnv

ID = "Teleport/Rosenbrock-v0"
LENGTH = 32  # steps of a rollout
RATES = (0.5, 1.0, 2.0)


class Nothing(VecEnv):
    """Observations and rewards of zeros; episodes never end."""

    def __init__(self, like: VecEnv) -> None:
        super().__init__(like.num_envs, like.observation_space, like.action_space)
        self._shape = (like.num_envs, *(like.observation_space.shape or ()))

    def reset(self) -> np.ndarray:
        return np.zeros(self._shape, dtype=np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        pass

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        count = self.num_envs
        nothing = np.zeros(self._shape, dtype=np.float32)
        return nothing, np.zeros(count, dtype=np.float32), np.zeros(count, dtype=bool), [{} for _ in range(count)]

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        pass

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def rollout(env: VecEnv, length: int) -> Callable[[], object]:
    """One rollout of ``length`` steps by a policy that has learned nothing."""
    model = PPO("MlpPolicy", env, n_steps=length, batch_size=length * env.num_envs, device="cpu", seed=0)
    _, callback = model._setup_learn(10**9)
    return lambda: model.collect_rollouts(env, callback, model.rollout_buffer, length)


def _decisions(ours: VecEnv, theirs: VecEnv, scale: Scale) -> Measured:
    length = scale.of(LENGTH)
    seconds = timed({"ours": rollout(ours, length), "theirs": rollout(theirs, length)}, scale)
    rate, other = (env.num_envs * length / seconds[name] for name, env in (("ours", ours), ("theirs", theirs)))
    return Measured(rate / other, rate, other, "decisions/s")


def against_dummy(scale: Scale, count: int, few: int) -> Measured:
    """The default menu on both sides: a step and three teleports."""
    return _decisions(SB3VecEnv(ID, count), DummyVecEnv([lambda: gym.make(ID)] * few), scale)


def against_trivial(scale: Scale, count: int) -> Measured:
    """Actions are gradient steps at a rate to be chosen: the work of a teleport is no part of the adapter.

    As in training, the end of a budget is no truncation that calls for a value: it would be asked for row by row.
    """
    ours = SB3VecEnv(ID, count, bootstrap_truncated=False, searches=(), rate_factors=RATES)
    return _decisions(ours, Nothing(ours), scale)
