"""One episode, watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.tables import setting
from teleport_env.agents.play import Moment, episodes
from teleport_env.envs import describe_status
from teleport_env.files import draft


@dataclass(frozen=True)
class Rollout:
    """What was seen.

    Attributes:
        frames: Pictures ``(height, width, 3)`` uint8: the start, each action if they were asked for, and the end.
        info: The last info.
        gained: The undiscounted return.
        name: The agent's.
    """

    frames: list[np.ndarray]
    info: dict[str, Any]
    gained: float
    name: str

    def __str__(self) -> str:
        status = describe_status(self.info["teleport_status"])
        return (
            f"{self.name} gained {self.gained:.2f} orders of magnitude: loss {setting(float(self.info['loss']))} after "
            f"{self.info['step']} gradient steps and {self.info['cost']:.1f} gradient evaluations; teleports: "
            f"{self.info['teleports']}, the last one asked for: {status}"
        )

    def save(self, path: Path, frames: int = 60) -> None:
        """The end as a picture (.png), or the course as an animation (.gif) of at most ``frames`` frames.

        Raises:
            ValueError: Another ending.
        """
        from PIL import Image  # comes with matplotlib

        check_ending(path)
        if path.suffix == ".png":
            with draft(path) as made:
                Image.fromarray(self.frames[-1]).save(made)
            return
        kept = np.unique(np.linspace(0, len(self.frames) - 1, frames).astype(int))
        first, *rest = [Image.fromarray(self.frames[i]) for i in kept]
        with draft(path) as made:
            first.save(made, save_all=True, append_images=rest, duration=[100] * len(rest) + [1500], loop=0)


def check_ending(path: Path) -> None:
    """Raise ValueError unless the path ends in .png or .gif."""
    if path.suffix not in (".png", ".gif"):
        raise ValueError(f"a rollout is saved as .png or .gif, got {str(path)!r}")


def roll_out(
    env: gym.Env[Any, Any],
    agent: Agent,
    *,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    steps: int | None = None,
    animate: bool = False,
    watch: Callable[[Moment], None] | None = None,
) -> Rollout:
    """Play one episode.

    Args:
        env: Environment made with ``render_mode="rgb_array"``.
        agent: Agent that plays.
        seed: Seed of the environment.
        options: Options of its reset.
        steps: Gradient steps after which it stops; None: at the episode's end.
        animate: Keep a frame of every action.
        watch: Callback that gets the start, and the result of every action.
    """
    frames: list[Any] = []
    gained = 0.0
    for moment in episodes(env, agent, seed=seed, options=options):
        if watch:
            watch(moment)
        if moment.reward is not None:
            gained += float(moment.reward)
        if animate or moment.reward is None:
            frames.append(env.render())
        if moment.info["step"] == steps:
            break
    frames.append(env.render())
    return Rollout(frames, moment.info, gained, agent.name)
