"""Gymnasium's own loop: one run, a rule instead of a policy.

python examples/gymnasium_loop.py
"""

from __future__ import annotations

import argparse

import gymnasium as gym

import teleport_env  # registers the ids

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def mean_return(every: int, episodes: int, env_id: str = "Teleport/Booth-v0", action: int = 2) -> float:
    """Mean return of gradient descent with a teleport before every so many steps; 0: never.

    Args:
        every: Gradient steps from one teleport to the next.
        episodes: Episodes to play, those of the seeds 0, 1, 2, ...
        env_id: Environment.
        action: Action that teleports; `describe_status` says what became of it.
    """
    env, total = gym.make(env_id, split="test", searches=SEARCHES), 0.0
    for seed in range(episodes):
        _, info = env.reset(seed=seed)
        over, teleports = False, 0
        while not over:
            due = every > 0 and info["step"] // every >= teleports and info["action_mask"][action] == 1
            teleports += due
            _, reward, terminated, truncated, info = env.step(action if due else 0)
            total += float(reward)
            over = terminated or truncated
    env.close()
    return total / episodes


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns without and with teleports, orders of magnitude by which the loss went down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    asked = parser.parse_args(words)
    if asked.episodes < 1:
        parser.error("--episodes must be at least 1")
    before, after = mean_return(0, asked.episodes), mean_return(2, asked.episodes)
    print(
        f"return {before:.2f} -> {after:.2f}: never, and before every second step (teleport-env {teleport_env.__version__})"
    )
    return before, after


if __name__ == "__main__":
    main()
