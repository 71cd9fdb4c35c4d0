"""Wrappers that put the action mask into the observation, where RLlib and TorchRL look for it.

An observation becomes ``{"observations": ..., "action_mask": ...}``; the mask is int8, 1 for what the rest of the budget can
pay. stable-baselines3 needs none of this: ``MaskablePPO`` calls ``action_masks()``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor


class MaskedObservation(gym.ObservationWrapper[dict[str, np.ndarray], Any, np.ndarray], RecordConstructorArgs):
    """The action mask in the observation of a `TeleportEnv`.

    Args:
        env: Environment with ``action_mode="schedule"``, wrapped or not.

    Raises:
        ValueError: Its actions have no mask.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space: Any = _space(env.observation_space, env.action_space)
        self._masks = env.get_wrapper_attr("action_masks")

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """``observations`` ``(F,)`` float32 and ``action_mask`` ``(actions,)`` int8."""
        return {"observations": observation, "action_mask": self._masks()}

    def action_masks(self) -> np.ndarray:
        """``(actions,)`` int8; see `TeleportEnv.action_masks`."""
        return self._masks()


class MaskedVectorObservation(VectorWrapper, RecordConstructorArgs):
    """The action masks in the observations of a `TeleportVectorEnv`, under every autoreset mode and output.

    Under ``"SameStep"`` the entries of ``final_obs`` become dicts as well; with ``output="torch"`` it becomes one dict of
    tensors.

    Args:
        env: Vector environment with ``action_mode="schedule"``.

    Raises:
        ValueError: Its actions have no mask.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.single_observation_space = _space(env.single_observation_space, env.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.autoreset_mode = env.metadata["autoreset_mode"]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As `TeleportVectorEnv.reset`."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return _joined(observations, infos), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As `TeleportVectorEnv.step`."""
        observations, reward, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            last, final = infos["final_obs"], infos["final_info"]
            if isinstance(last, Tensor):
                infos["final_obs"] = _joined(last, final)
            else:
                for row in np.flatnonzero(infos["_final_obs"]):
                    last[row] = {"observations": last[row], "action_mask": final["action_mask"][row]}
        return _joined(observations, infos), reward, terminated, truncated, infos

    def action_masks(self) -> Any:
        """``(num_envs, actions)`` int8; see `TeleportVectorEnv.action_masks`."""
        return self.env.unwrapped.action_masks()  # type: ignore[attr-defined]  # of our own class


def _joined(observations: Any, infos: dict[str, Any]) -> dict[str, Any]:
    return {"observations": observations, "action_mask": infos["action_mask"]}


def _space(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> spaces.Dict:
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(
            f"action masks belong to action_mode='schedule', whose actions are Discrete; these are {actions}"
        )
    mask = spaces.Box(0, 1, (int(actions.n),), dtype=np.int8)
    return spaces.Dict({"observations": observations, "action_mask": mask})
