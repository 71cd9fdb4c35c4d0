"""The course of one episode as numbers that JSON can hold: what the page draws and what an export contains."""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from teleport_env.agents.play import Moment
from teleport_env.envs import TeleportEnv
from teleport_env.searches import Status

COLUMNS, ROWS = 120, 90
"""Points of the grid that level sets are drawn from."""

_LOWEST = 1e-16  # of a loss whose logarithm is drawn


class Course:
    """What happened in one episode, an entry per action and one for the start.

    Args:
        env: Environment that is played; its episode has just begun.
        info: Info of its reset.
        title: Title of the episode on the page, beside the problem: the agent, the seed.

    Attributes:
        entries: Dicts of JSON's types. ``kind`` is ``"start"``, ``"step"``, ``"teleport"`` or ``"move"``; ``moved`` says
            whether a teleport moved, and ``words`` why not; ``point`` are the parameters where there are two.
    """

    def __init__(self, env: TeleportEnv, info: dict[str, Any], title: dict[str, Any]) -> None:
        self._env, self._title = env, title
        self.entries: list[dict[str, Any]] = []
        self._add(info, kind="start", name="start", reward=0.0)

    def add_action(self, action: Any, info: dict[str, Any], reward: float, advice: Any = None) -> None:
        """An action, as the environment took it; ``advice``: what an agent would have done, as `Session.advice` has it."""
        steps, names = len(self._env.settings.rate_factors), self._env.action_names
        mode = self._env.settings.action_mode
        place = (
            int(action) if mode == "schedule" else int(action[0] > 0) if mode == "group" else int(action["teleport"])
        )
        kind = "step" if place < steps else "teleport"
        self._add(info, kind=kind, name=names[place], reward=float(reward), action=place, advice=advice)

    def add_move(self, along: float, info: dict[str, Any], reward: float) -> None:
        """A teleport by an element that a person chose: ``along``, the length of its coordinates."""
        self._add(info, kind="move", name=f"teleport by hand: {along:+.3f}", reward=float(reward))

    def _add(self, info: dict[str, Any], **entry: Any) -> None:
        status = Status(info["teleport_status"])
        teleported = entry["kind"] in ("teleport", "move")
        params = self._env.params
        self.entries.append(
            {
                **entry,
                **{name: finite(info[name]) for name in ("loss", "grad_norm", "learning_rate", "cost")},
                "step": int(info["step"]),
                "moved": teleported and status == Status.MOVED,
                "words": status.words if teleported else "",
                "point": [finite(value) for value in params] if len(params) == 2 else None,
            }
        )

    def document(self, orbit: Sequence[list[float]] = (), near: bool = False) -> dict[str, Any]:
        """All that the page needs to show the course.

        Args:
            orbit: Points that the picture of the level sets shows besides the course.
            near: Whether it leaves out what lies far from the last points.
        """
        env = self._env
        settings, problem = env.settings, env.settings.problem
        schedule = settings.action_mode == "schedule"
        prices = env.episodes.menu.prices.tolist() if schedule else [env.episodes.runs.price_of_move()]
        steps = len(settings.rate_factors)
        return {
            **self._title,
            "sentence": sentence(problem),
            "split": settings.split,
            "instance": int(env.episodes.numbers()["instance_id"][0]),
            "optimizer": settings.optimizer.name,
            "symmetry": settings.symmetry,
            "budget": settings.budget,
            "tolerance": settings.tolerance,
            "steps_per_action": settings.steps_per_action,
            "parameters": len(env.params),
            "actions": [
                {
                    "name": name,
                    "factor": settings.rate_factors[place] if place < steps else None,
                    "price": float(settings.steps_per_action) if place < steps else prices[place - steps],
                }
                for place, name in enumerate(env.action_names)
            ],
            "course": self.entries,
            "levels": self._levels(orbit, near),
        }

    def _levels(self, orbit: Sequence[list[float]], near: bool) -> dict[str, Any] | None:
        """The loss around the course, where there are two parameters."""
        course = [entry["point"] for entry in self.entries[-3 if near else 0 :]]
        points = [point for point in course if point and None not in point] + list(orbit)
        return level_sets(self._env, points, not near) if points else None


class Recorder:
    """Watches an episode that somebody else plays (`teleport_env.agents.comparison.rollout.roll_out`).

    Args:
        env: Environment that is played.
        title: Title of the episode, as in `Course`.
    """

    def __init__(self, env: gym.Env[Any, Any], title: dict[str, Any]) -> None:
        unwrapped: Any = env.unwrapped
        self._env: TeleportEnv = unwrapped
        self._title = {"problem": self._env.settings.problem.name, **title}
        self._course: Course | None = None

    def __call__(self, moment: Moment) -> None:
        """The start, or what came of an action."""
        if self._course is None:
            self._course = Course(self._env, moment.info, self._title)
        else:
            self._course.add_action(moment.action, moment.info, moment.reward)

    def document(self) -> dict[str, Any]:
        """As `Course.document`; call after the start."""
        assert self._course is not None
        return self._course.document()


def level_sets(env: TeleportEnv, points: list[list[float]], whole: bool) -> dict[str, Any]:
    """``log10`` of the loss on a grid that holds some points, and with ``whole`` the minimum.

    Returns:
        ``low`` and ``high``: corners of the grid; ``least`` and ``most``: range of the values; ``values``: base64 of
        little-endian uint16, row by row from below, 65535 for ``most``; ``minimum``: the minimiser, or None.
    """
    problem, runs = env.settings.problem, env.episodes.runs
    minimum = problem.minimum(runs.instance)
    shown = np.array([*points, minimum[0].tolist()] if whole and minimum is not None else points)
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    low, high = low - margin, high + margin
    axes = np.linspace(low[0], high[0], COLUMNS), np.linspace(low[1], high[1], ROWS)
    grid = torch.tensor(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2), device="cpu").to(runs.params)
    with torch.no_grad():
        loss = problem.loss(grid, runs.instance.repeat(len(grid)))
    values = np.log10(loss.to(torch.float64).clamp(_LOWEST, 1e300).cpu().numpy())
    least, most = float(values.min()), float(values.max())
    scaled = np.round((values - least) / max(most - least, 1e-12) * 65535).astype("<u2")
    return {
        "low": low.tolist(),
        "high": high.tolist(),
        "columns": COLUMNS,
        "rows": ROWS,
        "least": least,
        "most": most,
        "values": base64.b64encode(scaled.tobytes()).decode("ascii"),
        "minimum": None if minimum is None else minimum[0].tolist(),
    }


def sentence(problem: Any) -> str:
    """The first sentence of the problem's manual page."""
    page = " ".join((inspect.getdoc(type(problem)) or problem.name).split()).replace("`", "")
    return page.split(" ## ")[0].split(". ")[0].rstrip(".")


def finite(value: Any) -> float | None:
    """A number, or None where it is not finite: JSON has no other way to say so."""
    return float(value) if math.isfinite(value) else None
