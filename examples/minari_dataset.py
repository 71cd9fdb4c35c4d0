"""Minari: record episodes, load them, recover their environment and replay them.

python examples/minari_dataset.py
"""

from __future__ import annotations

import argparse
import os
import tempfile

import gymnasium as gym
import minari
import numpy as np

import teleport_env  # noqa: F401  (registers the ids)

NAME = "teleport/booth-v0"

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def record(episodes: int, every: int) -> minari.MinariDataset:
    """A data set of descent, of which every second episode teleports before every so many steps."""
    env = minari.DataCollector(gym.make("Teleport/Booth-v0", searches=SEARCHES), record_infos=True, data_format="arrow")
    for number in range(episodes):
        _, info = env.reset(seed=number)
        over, teleports = False, 0
        while not over:
            due = number % 2 == 1 and info["step"] // every >= teleports and info["action_mask"][2] == 1
            teleports += due
            _, _, terminated, truncated, info = env.step(2 if due else 0)
            over = terminated or truncated
    made = env.create_dataset(NAME, algorithm_name="a rule", author="teleport-env", description="half of it teleports")
    env.close()
    return made


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns of the recorded episodes without and with teleports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100)
    asked = parser.parse_args(words)
    if asked.episodes < 1:
        parser.error("--episodes must be at least 1")
    if asked.episodes < 2:
        parser.error("--episodes must be at least 2: every second one teleports")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        record(asked.episodes, every=2)
        dataset = minari.load_dataset(NAME)
        env = dataset.recover_environment()
        seeds = [kept["seed"] for kept in dataset.storage.get_episode_metadata(dataset.episode_indices)]
        returns = []
        for episode in dataset.iterate_episodes():
            returns.append(float(episode.rewards.sum()))
            observation, _ = env.reset(seed=seeds[episode.id])
            seen, rewards = [observation], []
            for action in episode.actions:
                observation, reward, *_ = env.step(action)
                seen.append(observation)
                rewards.append(reward)
            assert np.array_equal(seen, episode.observations), "the replay is that episode, bit for bit"
            assert np.array_equal(rewards, episode.rewards)
        env.close()
    before, after = float(np.mean(returns[::2])), float(np.mean(returns[1::2]))
    print(f"return {before:.2f} -> {after:.2f}: {len(returns)} episodes recorded, loaded and replayed bit for bit")
    return before, after


if __name__ == "__main__":
    main()
