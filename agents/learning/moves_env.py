"""What a training of the group mode plays on: a native vector environment, with the inputs that directions give."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper

from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.policies.moves import follow, fresh_trail, unpayable
from teleport_env.envs.features import HIGH, LOW, NAMES


class Moves(VecEnvWrapper):
    """Runs whose observations are the features and then the directions that a policy reads.

    A teleport that cannot be paid becomes a step, as in the policy's play.

    Args:
        env: In the group mode.
        directions: As in `teleport_env.agents.policies.learned_moves.LearnedMoves`.
        reward_scale: Factor of the rewards, for the critic's sake; the returns in infos stay what they are.
    """

    def __init__(self, env: SB3VecEnv, directions: tuple[str, ...], reward_scale: float) -> None:
        self._directions, self._scale = directions, np.float32(reward_scale)
        assert env.observation_space.shape is not None
        self._parameters = env.observation_space.shape[0] - len(NAMES) if directions else 0
        more = np.ones(self._parameters * len(directions), dtype=np.float32)
        low, high = np.concatenate([LOW.numpy(), -more]), np.concatenate([HIGH.numpy(), more])
        self._broke = np.zeros(env.num_envs, dtype=bool)
        super().__init__(env, gym.spaces.Box(low, high, dtype=np.float32))

    @property
    def width(self) -> int:
        """How many numbers of an observation are directions."""
        return self._parameters * len(self._directions)

    def reset(self) -> np.ndarray:
        """Start all runs anew; observations ``(runs, features + directions)``."""
        self._trail = fresh_trail(self.num_envs, self._parameters)
        seen: Any = self.venv.reset()
        self.reset_infos = self.venv.reset_infos
        return self._with_directions(seen, slice(None))

    def step_async(self, actions: np.ndarray) -> None:
        asked = np.array(actions, dtype=np.float32)
        asked[self._broke, 0] = -1.0
        self.venv.step_async(asked)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """As `SB3VecEnv.step_wait`."""
        seen: Any
        seen, reward, done, infos = self.venv.step_wait()
        over = np.flatnonzero(done)
        if len(over):
            last = self._with_directions(np.stack([infos[row]["terminal_observation"] for row in over]), over)
            for row, one in zip(over.tolist(), last, strict=True):
                infos[row]["terminal_observation"] = one
            fresh = fresh_trail(len(over), self._parameters)
            for name, values in fresh.items():
                self._trail[name][over] = values
        return self._with_directions(seen, slice(None)), reward * self._scale, done, infos

    def _with_directions(self, observation: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        features = observation[:, : len(NAMES)]
        self._broke[rows] = unpayable(features)
        if not self._directions:
            return features.copy()
        trail = {name: values[rows] for name, values in self._trail.items()}
        more = follow(observation[:, len(NAMES) :], trail, self._directions)
        for name, values in trail.items():
            self._trail[name][rows] = values
        return np.concatenate([features, more], axis=1)
