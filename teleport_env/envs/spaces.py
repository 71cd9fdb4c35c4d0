"""The spaces of an environment, and actions from them to what the engine understands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from teleport_env.envs.episodes import Actions, Episodes
from teleport_env.envs.settings import Settings


def observation_space(episodes: Episodes) -> spaces.Box:
    low, high = episodes.observation_bounds()
    return spaces.Box(low.numpy(), high.numpy(), dtype=np.float32)


def action_space(settings: Settings) -> spaces.Space[Any]:
    if settings.action_mode == "schedule":
        return spaces.Discrete(len(settings.rate_factors) + len(settings.searches))
    dim = settings.group_dim
    if settings.action_mode == "group":
        return spaces.Box(-1.0, 1.0, (1 + dim,), dtype=np.float32)
    return spaces.Dict(
        teleport=spaces.Discrete(2),
        group=spaces.Box(-1.0, 1.0, (dim,), dtype=np.float32),
    )


def read_actions(episodes: Episodes, action: Any) -> Actions:
    """Actions of a batch: ``(B,)`` integers, ``(B, 1 + dim)`` floats, or a dict of ``(B,)`` and ``(B, dim)``.

    Raises:
        ValueError: A wrong shape, kind or value; the message names it.
    """
    settings, count, device = episodes.settings, episodes.count, episodes.settings.device
    if settings.action_mode == "schedule":
        if isinstance(action, np.ndarray) and action.dtype == np.int64 and action.shape == (count,):
            quick = _steps_of_all(episodes, action)
            if quick is not None:
                return quick
            if action.view(np.uint64).max() < settings.action_count:
                return episodes.from_schedule(torch.from_numpy(action).to(device))
        chosen = _tensor(action, device)
        if chosen.is_floating_point() or chosen.dtype == torch.bool or chosen.shape != (count,):
            raise ValueError(
                f"actions of the schedule mode are {count} integers, got shape {tuple(chosen.shape)} of {chosen.dtype}"
            )
        total = settings.action_count
        if bool(((chosen < 0) | (chosen >= total)).any()):
            bad = chosen[(chosen < 0) | (chosen >= total)][0].item()
            raise ValueError(
                f"action {bad} is outside 0..{total - 1}: {len(settings.rate_factors)} kinds of gradient step, then "
                f"{len(settings.searches)} teleports"
            )
        return episodes.from_schedule(chosen.to(torch.int64))
    dim = settings.group_dim
    if settings.action_mode == "group":
        chosen = _tensor(action, device)
        if chosen.shape != (count, 1 + dim):
            raise ValueError(f"actions of the group mode have shape {(count, 1 + dim)}, got {tuple(chosen.shape)}")
        _require_finite(chosen)
        teleport, group = chosen[:, 0] > 0, chosen[:, 1:]
    else:
        if not isinstance(action, dict) or set(action) != {"teleport", "group"}:
            raise ValueError(f"actions of the hybrid mode are a dict with 'teleport' and 'group', got {action!r}")
        teleport, group = _tensor(action["teleport"], device), _tensor(action["group"], device)
        if teleport.shape != (count,) or group.shape != (count, dim):
            raise ValueError(
                f"'teleport' must have shape {(count,)} and 'group' {(count, dim)}, got {tuple(teleport.shape)} and "
                f"{tuple(group.shape)}"
            )
        if bool(((teleport != 0) & (teleport != 1)).any()):
            raise ValueError(f"'teleport' must be 0 or 1, got {teleport.tolist()}")
        teleport = teleport == 1
        _require_finite(group)
    # policies overshoot the box; Gymnasium clips for nobody
    return episodes.from_group(teleport, group.clamp(-1.0, 1.0))


def _steps_of_all(episodes: Episodes, action: np.ndarray) -> Actions | None:
    """The actions where everybody is asked for a gradient step, which is told with few calls; else None."""
    if episodes.plain_step is not None and not np.count_nonzero(action):
        return episodes.plain_step
    # as unsigned integers, in which negative ones are large
    if action.view(np.uint64).max() >= len(episodes.settings.rate_factors):
        return None
    return Actions(None, episodes.factors.take(torch.from_numpy(action).to(episodes.settings.device)))


def _require_finite(action: Tensor) -> None:
    if not bool(torch.isfinite(action).all()):
        raise ValueError("a group action holds a number that is not finite")


def _tensor(value: Any, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to(device)
    return torch.as_tensor(np.asarray(value), device=device)
