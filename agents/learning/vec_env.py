"""What a training plays on: native vector environments, one a problem, as one vector environment with one action space.

An observation is the features and then, for each teleport of the policy, its price over the budget left (`price_shares`): 1
for what cannot be paid and for an empty slot. So the mask of the actions is part of the observation, and whoever reads a
stored one knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.policies.prices import price_shares

Indices = int | Iterable[int] | None


@dataclass(frozen=True)
class Part:
    """The runs of one problem.

    Attributes:
        env: The runs.
        slots: Of each search of its menu: its place among the policy's teleports.
        prices: Of the searches, in units of the cheapest; None: taken for nothing, so that nothing is masked.
    """

    env: SB3VecEnv
    slots: tuple[int, ...]
    prices: tuple[float, ...] | None


class Mixture(VecEnv):
    """Several parts side by side.

    Args:
        parts: With the same number of step actions.
        teleports: Of the policy: how many.
        steps: Step actions.
        reward_scale: Factor of the rewards, for the critic's sake; the returns in infos stay what they are.
    """

    def __init__(self, parts: Sequence[Part], teleports: int, steps: int, reward_scale: float) -> None:
        self._parts, self._teleports, self._steps = tuple(parts), teleports, steps
        self._scale = np.float32(reward_scale)
        counts = [part.env.num_envs for part in parts]
        ends = np.cumsum(counts)
        self._rows = [slice(end - count, end) for end, count in zip(ends.tolist(), counts, strict=True)]
        self._actions = []  # of the policy -> of each part; -1: none
        for part in self._parts:
            table = np.full(steps + teleports, -1)
            table[:steps] = np.arange(steps)
            table[[steps + slot for slot in part.slots]] = steps + np.arange(len(part.slots))
            self._actions.append(table)
        box = self._parts[0].env.observation_space
        assert isinstance(box, gym.spaces.Box)
        one, nothing = np.ones(teleports, dtype=np.float32), np.zeros(teleports, dtype=np.float32)
        space = gym.spaces.Box(np.concatenate([box.low, nothing]), np.concatenate([box.high, one]), dtype=np.float32)
        super().__init__(int(ends[-1]), space, gym.spaces.Discrete(steps + teleports))

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds for the next `reset`; each part gets its own."""
        words = np.random.SeedSequence(seed).generate_state(len(self._parts))
        self._seeds = [one for part, word in zip(self._parts, words, strict=True) for one in part.env.seed(int(word))]
        return self._seeds

    def reset(self) -> np.ndarray:
        """Start all runs anew; observations ``(runs, features + teleports)``."""
        seen = [self._with_shares(part, part.env.reset()) for part in self._parts]
        self.reset_infos = [info for part in self._parts for info in part.env.reset_infos]
        return np.concatenate(seen)

    def step_async(self, actions: np.ndarray) -> None:
        for part, rows, table in zip(self._parts, self._rows, self._actions, strict=True):
            part.env.step_async(table[actions[rows]])

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """As `SB3VecEnv.step_wait`, of all parts."""
        found = [part.env.step_wait() for part in self._parts]
        infos: list[dict[str, Any]] = [info for _, _, _, some in found for info in some]
        for part, rows, (_, _, done, _) in zip(self._parts, self._rows, found, strict=True):
            for row in np.flatnonzero(done).tolist():
                info = infos[rows.start + row]
                last = np.asarray(info["terminal_observation"])
                info["terminal_observation"] = self._with_shares(part, last[None])[0]
        seen = [self._with_shares(part, one) for part, (one, _, _, _) in zip(self._parts, found, strict=True)]
        reward = np.concatenate([reward for _, reward, _, _ in found]) * self._scale
        return np.concatenate(seen), reward, np.concatenate([done for _, _, done, _ in found]), infos

    def close(self) -> None:
        for part in self._parts:
            part.env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        values = [value for part in self._parts for value in part.env.get_attr(attr_name)]
        return [values[row] for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        for part in self._parts:
            part.env.set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        answers = [
            answer for part in self._parts for answer in part.env.env_method(method_name, *method_args, **method_kwargs)
        ]
        return [answers[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Indices = None) -> list[bool]:
        return [self._parts[0].env.env_is_wrapped(wrapper_class, 0)[0] for _ in self._get_indices(indices)]

    def _with_shares(self, part: Part, observation: np.ndarray) -> np.ndarray:
        return with_shares(observation, part.slots, part.prices, self._teleports)


def with_shares(
    observation: np.ndarray, slots: Sequence[int], prices: Sequence[float] | None, teleports: int
) -> np.ndarray:
    """Observations ``(B, F)`` with the share of every teleport of the policy, ``(B, F + teleports)``.

    Args:
        observation: The environment's.
        slots: As in `Part`.
        prices: As in `Part`.
        teleports: Of the policy: how many.
    """
    shares = np.zeros((len(observation), teleports), dtype=np.float32)
    if prices is not None:
        shares[:] = 1.0
        shares[:, list(slots)] = price_shares(observation, prices)
    return np.concatenate([observation, shares], axis=1)
