"""RecurrentPPO of sb3-contrib: a policy with memory.

python examples/recurrent_ppo.py
"""

from __future__ import annotations

import argparse

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.evaluation import evaluate_policy

from teleport_env.agents.learning.sb3 import SB3VecEnv

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns before and after training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=128)
    parser.add_argument("--decisions", type=int, default=60_000)
    asked = parser.parse_args(words)
    if min(asked.runs, asked.decisions) < 1:
        parser.error("--runs and --decisions must be at least 1")
    torch.set_num_threads(1)
    train = SB3VecEnv("Teleport/Booth-v0", asked.runs, split="train", searches=SEARCHES, bootstrap_truncated=False)
    test = SB3VecEnv("Teleport/Booth-v0", 128, split="test", searches=SEARCHES)
    settings = {"n_steps": 32, "batch_size": 32 * asked.runs // 4, "n_epochs": 4, "learning_rate": 2e-3, "gamma": 1.0}
    memory = {"lstm_hidden_size": 32, "net_arch": [32]}
    model = RecurrentPPO("MlpLstmPolicy", train, seed=0, device="cpu", policy_kwargs=memory, **settings)

    def mean_return() -> float:
        test.seed(0)
        return float(evaluate_policy(model, test, n_eval_episodes=256)[0])

    before = mean_return()
    model.learn(asked.decisions)
    after = mean_return()
    print(f"return {before:.2f} -> {after:.2f}: before and after {model.num_timesteps} decisions")
    return before, after


if __name__ == "__main__":
    main()
