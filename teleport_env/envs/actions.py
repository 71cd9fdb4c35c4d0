"""Actions: their space, their masks, and how they are read into what the episodes understand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from teleport_env.envs.settings import Settings
from teleport_env.reading import counted, refuse, tensor


@dataclass
class Actions:
    """What each run is asked to do.

    Attributes:
        step: ``(B,)`` bool: gradient steps; the others teleport. None: all are gradient steps.
        factor: ``(B,)``: multiplies the learning rate of the runs that step, or None.
        which: ``(B,)`` int64: the search of the runs that teleport (ignored for the others); None in the group modes.
        xi: ``(B, group.dim)``: the element they move by, in the group modes.
    """

    step: Tensor | None
    factor: Tensor | None = None
    which: Tensor | None = None
    xi: Tensor | None = None


def action_space(settings: Settings) -> spaces.Space[Any]:
    """The space of one run's actions."""
    if settings.action_mode == "schedule":
        return spaces.Discrete(settings.action_count)
    dim = settings.group_dim
    if settings.action_mode == "group":
        return spaces.Box(-1.0, 1.0, (1 + dim,), dtype=np.float32)
    return spaces.Dict(
        teleport=spaces.Discrete(2),
        group=spaces.Box(-1.0, 1.0, (dim,), dtype=np.float32),
    )


class ActionReader:
    """Reads a batch of actions: ``(B,)`` integers, ``(B, 1 + dim)`` floats, or a dict of ``(B,)`` and ``(B, dim)``.

    Args:
        settings: Settings of the environment.
        count: ``B``.

    Attributes:
        zeros: The request that an action of zeros makes, where the environment has one rate and zeros mean a gradient
            step by it for every run; else None.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings, self._count, self._device = settings, count, settings.device
        self._factors = torch.tensor(settings.rate_factors, dtype=settings.dtype, device=settings.device)
        self._one_rate = settings.rate_factors == (1.0,)
        plain = settings.action_mode == "schedule" and settings.rate_factors[0] == 1.0
        self.zeros = Actions(None) if plain else None

    def __call__(self, action: Any) -> Actions:
        """What the actions ask.

        Raises:
            ValueError: A wrong shape, kind or value; the message names it.
        """
        mode = self._settings.action_mode
        if mode == "schedule":
            return self._schedule(action)
        teleport, group = self._group(action) if mode == "group" else self._hybrid(action)
        # policies overshoot the box; Gymnasium does not clip. The corner of the box is `group_scale` long, whatever the
        # dimension.
        scale = self._settings.group_scale / math.sqrt(group.shape[1])
        return Actions(~teleport, xi=scale * group.clamp(-1.0, 1.0).to(self._settings.dtype))

    def _schedule(self, action: Any) -> Actions:
        """One gradient step per rate factor, then one teleport per search."""
        settings, count = self._settings, self._count
        steps, total = len(settings.rate_factors), settings.action_count
        checked = False
        if isinstance(action, np.ndarray) and action.dtype == np.int64 and action.shape == (count,):
            # as unsigned integers, in which negative ones are large
            largest = action.view(np.uint64).max()
            if largest < steps:
                return Actions(
                    None, None if self._one_rate else self._factors.take(self._tensor(action, integers=True))
                )
            checked = bool(largest < total)
        chosen = self._tensor(action, integers=True)
        if not checked:
            if chosen.shape != (count,):
                raise ValueError(f"actions of the schedule mode are {count} integers, got shape {tuple(chosen.shape)}")
            outside = (chosen < 0) | (chosen >= total)
            if bool(outside.any()):
                kinds, teleports = counted(steps, "kind"), counted(len(settings.searches), "teleport")
                raise ValueError(
                    f"action {chosen[outside][0].item()} is outside 0..{total - 1}: {kinds} of gradient step, "
                    f"then {teleports}"
                )
        step = chosen < steps
        factor = None if self._one_rate else self._factors[chosen.clamp_max(steps - 1)]
        return Actions(None, factor) if bool(step.all()) else Actions(step, factor, which=chosen - steps)

    def _group(self, action: Any) -> tuple[Tensor, Tensor]:
        chosen, shape = self._tensor(action), (self._count, 1 + self._settings.group_dim)
        if chosen.shape != shape:
            raise ValueError(f"actions of the group mode have shape {shape}, got {tuple(chosen.shape)}")
        _require_finite(chosen)
        return chosen[:, 0] > 0, chosen[:, 1:]

    def _hybrid(self, action: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(action, dict) or set(action) != {"teleport", "group"}:
            raise ValueError(f"actions of the hybrid mode are a dict with 'teleport' and 'group', got {action!r}")
        teleport, group = self._tensor(action["teleport"], integers=True, flags=True), self._tensor(action["group"])
        shape = (self._count, self._settings.group_dim)
        if teleport.shape != shape[:1] or group.shape != shape:
            raise ValueError(
                f"'teleport' must have shape {shape[:1]} and 'group' {shape}, got {tuple(teleport.shape)} and "
                f"{tuple(group.shape)}"
            )
        if bool(((teleport != 0) & (teleport != 1)).any()):
            raise ValueError(f"'teleport' must be 0 or 1, got {teleport.tolist()}")
        _require_finite(group)
        return teleport == 1, group

    def _tensor(self, value: Any, **kinds: bool) -> Tensor:
        return tensor(f"actions of the {self._settings.action_mode} mode", value, **kinds).to(self._device)


def _require_finite(action: Tensor) -> None:
    if not bool(torch.isfinite(action).all()):
        refuse("a group action", "finite numbers", action[~torch.isfinite(action)][0].item())
