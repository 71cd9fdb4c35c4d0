"""What a training plays on: native vector environments with the inputs that a policy reads beside the features.

With a menu these are, for each teleport of the policy, its price over the budget left (`price_shares`): 1 for what cannot be
paid and for an empty slot. So the mask of the actions is part of the observation, also of a stored one. In the group mode
they are directions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.policies.learned_moves import follow, fresh_trail, unpayable
from teleport_env.agents.policies.slots import price_shares
from teleport_env.envs.features import HIGH, LOW, NAMES

Indices = int | Iterable[int] | None


class Wider(VecEnvWrapper):
    """Runs whose observations are the features and then further numbers from ``least`` to 1.

    Args:
        env: The runs.
        more: Number of further numbers.
        least: Their lower bound.
        reward_scale: Factor of the rewards, for the critic's sake; the returns in infos stay what they are.
        divergence_cost: Subtracted from the reward of an action by which a run diverged, before the scale.
    """

    def __init__(
        self, env: SB3VecEnv, more: int, least: float, reward_scale: float, divergence_cost: float = 0.0
    ) -> None:
        self._scale, self._divergence_cost = np.float32(reward_scale), np.float32(divergence_cost)
        low, high = (
            np.concatenate([bound.numpy(), np.full(more, end, dtype=np.float32)])
            for bound, end in ((LOW, least), (HIGH, 1.0))
        )
        super().__init__(env, gym.spaces.Box(low, high, dtype=np.float32))

    @abstractmethod
    def wider(self, observation: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """Observations ``(B, F)`` of some rows with the further numbers, ``(B, features + more)``."""

    def begin(self, rows: slice | np.ndarray) -> None:
        """Forget the episodes of some rows: others begin there."""

    @property
    def reset_infos(self) -> list[dict[str, Any]]:
        """Those of the runs."""
        return self.venv.reset_infos

    @reset_infos.setter
    def reset_infos(self, infos: list[dict[str, Any]]) -> None:  # by the base class, before there are any
        pass

    def reset(self) -> np.ndarray:
        seen: Any = self.venv.reset()
        self.begin(slice(None))
        return self.wider(seen, slice(None))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        seen: Any
        seen, reward, done, infos = self.venv.step_wait()
        over = np.flatnonzero(done)
        if len(over):
            last = self.wider(np.stack([infos[row]["terminal_observation"] for row in over]), over)
            for row, one in zip(over.tolist(), last, strict=True):
                infos[row]["terminal_observation"] = one
                if infos[row]["diverged"]:
                    reward[row] -= self._divergence_cost
            self.begin(over)
        return self.wider(seen, slice(None)), reward * self._scale, done, infos


class Moves(Wider):
    """Runs of the group mode, with the directions that a policy reads.

    A teleport that cannot be paid becomes a step, as in the policy's play.

    Args:
        env: Environments in the group mode.
        directions: Directions, as in `teleport_env.agents.policies.learned_moves.LearnedMoves`.
        reward_scale: Factor of the rewards, as in `Wider`.
        divergence_cost: Charge for a divergence, as in `Wider`.
    """

    def __init__(
        self, env: SB3VecEnv, directions: tuple[str, ...], reward_scale: float, divergence_cost: float = 0.0
    ) -> None:
        assert env.observation_space.shape is not None
        parameters = env.observation_space.shape[0] - len(NAMES) if directions else 0
        self._directions, self.width = directions, parameters * len(directions)
        self._trail = fresh_trail(env.num_envs, parameters)
        self._broke = np.zeros(env.num_envs, dtype=bool)
        super().__init__(env, self.width, -1.0, reward_scale, divergence_cost)

    def step_async(self, actions: np.ndarray) -> None:
        asked = np.array(actions, dtype=np.float32)
        asked[self._broke, 0] = -1.0
        self.venv.step_async(asked)

    def begin(self, rows: slice | np.ndarray) -> None:
        for values in self._trail.values():
            values[rows] = 0

    def wider(self, observation: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        features = observation[:, : len(NAMES)]
        self._broke[rows] = unpayable(features)
        if not self._directions:
            return features.copy()
        trail = {name: values[rows] for name, values in self._trail.items()}
        more = follow(observation[:, len(NAMES) :], trail, self._directions)
        for name, values in trail.items():
            self._trail[name][rows] = values
        return np.concatenate([features, more], axis=1)


class Shares(Wider):
    """Runs of one problem, played by the actions of a policy that may know more teleports than its menu.

    Args:
        env: The runs.
        slots: Place among the policy's teleports, of each search of the menu.
        prices: Prices of the searches, in units of the cheapest; None: taken for nothing, so that nothing is masked.
        teleports: Number of teleports of the policy.
        steps: Number of actions that are steps.
        reward_scale: Factor of the rewards, as in `Wider`.
        divergence_cost: Charge for a divergence, as in `Wider`.
    """

    def __init__(
        self,
        env: SB3VecEnv,
        slots: tuple[int, ...],
        prices: tuple[float, ...] | None,
        teleports: int,
        steps: int,
        reward_scale: float,
        divergence_cost: float = 0.0,
    ) -> None:
        self._seen = (slots, prices, teleports)
        self._actions = np.full(steps + teleports, -1)  # of the policy -> of the menu; -1: none
        self._actions[[*range(steps), *(steps + slot for slot in slots)]] = np.arange(steps + len(slots))
        super().__init__(env, teleports, 0.0, reward_scale, divergence_cost)

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(self._actions[actions])

    def wider(self, observation: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        return with_shares(observation, *self._seen)


class Mixture(VecEnv):
    """Several parts side by side, in one environment with one action space.

    Args:
        parts: Environments with the same actions and observations.
        actions: Number of actions.
    """

    def __init__(self, parts: Sequence[Wider], actions: int) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([part.num_envs for part in parts])
        super().__init__(int(self._ends[-1]), parts[0].observation_space, gym.spaces.Discrete(actions))

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds for the next `reset`; each part gets its own."""
        words = np.random.SeedSequence(seed).generate_state(len(self._parts))
        self._seeds = [one for part, word in zip(self._parts, words, strict=True) for one in part.seed(int(word))]
        return self._seeds

    def reset(self) -> np.ndarray:
        """Start all runs anew; observations ``(runs, features + teleports)``."""
        seen: list[Any] = [part.reset() for part in self._parts]
        self.reset_infos = [info for part in self._parts for info in part.reset_infos]
        return np.concatenate(seen)

    def step_async(self, actions: np.ndarray) -> None:
        for part, asked in zip(self._parts, np.split(actions, self._ends[:-1]), strict=True):
            part.step_async(asked)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """As `SB3VecEnv.step_wait`, of all parts."""
        seen, reward, done, infos = zip(*[part.step_wait() for part in self._parts], strict=True)
        return (
            np.concatenate(seen),
            np.concatenate(reward),
            np.concatenate(done),
            [info for some in infos for info in some],
        )

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        values = [value for part in self._parts for value in part.get_attr(attr_name)]
        return [values[row] for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        for part in self._parts:
            part.set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        answers = [one for part in self._parts for one in part.env_method(method_name, *method_args, **method_kwargs)]
        return [answers[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Indices = None) -> list[bool]:
        return [self._parts[0].env_is_wrapped(wrapper_class, 0)[0] for _ in self._get_indices(indices)]


def with_shares(
    observation: np.ndarray, slots: Sequence[int], prices: Sequence[float] | None, teleports: int
) -> np.ndarray:
    """Observations ``(B, F)`` with the share of every teleport of the policy, ``(B, F + teleports)``; see `Shares`."""
    shares = np.zeros((len(observation), teleports), dtype=np.float32)
    if prices is not None:
        shares[:] = 1.0
        shares[:, list(slots)] = price_shares(observation, prices)
    return np.concatenate([observation, shares], axis=1)
