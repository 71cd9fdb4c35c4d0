"""The native vector loop: a thousand runs in one tensor, each reset when its episode is over.

python examples/vector_loop.py
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np

import teleport_env  # noqa: F401  (registers the ids)

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def mean_return(teleport_share: float, runs: int, steps: int, action: int = 2) -> float:
    """Mean return of the episodes that ended while actions were drawn at random.

    Args:
        teleport_share: Probability of a teleport.
        runs: Runs side by side.
        steps: Actions of each.
        action: Action that teleports.
    """
    envs = gym.make_vec("Teleport/Booth-v0", num_envs=runs, autoreset_mode="SameStep", split="test", searches=SEARCHES)
    generator = np.random.default_rng(0)
    _, infos = envs.reset(seed=0)
    returns, finished = np.zeros(runs), []
    for _ in range(steps):
        teleports = (generator.random(runs) < teleport_share) & (infos["action_mask"][:, action] == 1)
        _, rewards, terminated, truncated, infos = envs.step(np.where(teleports, action, 0))
        returns += rewards
        over = terminated | truncated  # these runs have begun anew; how they ended is in infos["final_info"]
        finished += returns[over].tolist()
        returns[over] = 0.0
    envs.close()
    if not finished:
        raise SystemExit(f"no episode ended within {steps} actions: give more, such as --steps 100")
    return float(np.mean(finished))


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns without and with teleports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    asked = parser.parse_args(words)
    if min(asked.runs, asked.steps) < 1:
        parser.error("--runs and --steps must be at least 1")
    before, after = (mean_return(share, asked.runs, asked.steps) for share in (0.0, 0.3))
    print(f"return {before:.2f} -> {after:.2f}: no teleports, and three in ten actions")
    return before, after


if __name__ == "__main__":
    main()
