"""PPO of RLlib on the native vector environment, actions masked; RLlib brings a Gymnasium of its own.

python examples/rllib_ppo.py
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from teleport_env.envs import MaskedObservation, MaskedVectorObservation

ENV = "MaskedTeleport/Booth-v0"

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def single(**arguments: Any) -> gym.Env:
    return MaskedObservation(gym.make("teleport_env:Teleport/Booth-v0", searches=SEARCHES, **arguments))


def vector(num_envs: int, **arguments: Any) -> gym.vector.VectorEnv:
    envs = gym.make_vec("teleport_env:Teleport/Booth-v0", num_envs=num_envs, searches=SEARCHES, **arguments)
    return MaskedVectorObservation(envs)


class Masked(TorchRLModule, ValueFunctionAPI):
    """Actor and critic on ``observations``; actions that the ``action_mask`` forbids are never drawn."""

    def setup(self) -> None:
        inputs, actions = self.observation_space["observations"].shape[0], self.action_space.n
        self.actor = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, actions))
        self.critic = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 1))

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        seen = batch[Columns.OBS]
        logits = self.actor(seen["observations"]).masked_fill(seen["action_mask"] == 0, -1e8)
        return {Columns.ACTION_DIST_INPUTS: logits}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        return self.critic(batch[Columns.OBS]["observations"]).squeeze(-1)


@torch.no_grad()
def mean_return(module: Any, runs: int = 256) -> float:
    """Mean return of the most probable actions, on instances that training never sees."""
    envs = vector(runs, split="test", autoreset_mode="Disabled")
    observation, _ = envs.reset(seed=0)
    total, over = np.zeros(runs), np.zeros(runs, dtype=bool)
    while not over.all():
        seen = {name: torch.from_numpy(value) for name, value in observation.items()}
        action = module._forward({Columns.OBS: seen})[Columns.ACTION_DIST_INPUTS].argmax(dim=1)
        observation, reward, terminated, truncated, _ = envs.step(action.numpy())
        total += reward
        over = terminated | truncated
    return float(total.mean())


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns before and after training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--updates", type=int, default=40)
    asked = parser.parse_args(words)
    if min(asked.runs, asked.updates) < 1:
        parser.error("--runs and --updates must be at least 1")
    torch.manual_seed(0)
    if ENV not in gym.registry:
        gym.register(ENV, entry_point=single, vector_entry_point=vector, order_enforce=False, disable_env_checker=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = (
        PPOConfig()
        .environment(ENV, env_config={"split": "train"})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=asked.runs,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=32,
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=Masked))
        .training(
            train_batch_size_per_learner=32 * asked.runs,
            minibatch_size=8 * asked.runs,
            num_epochs=4,
            lr=1e-3,
            gamma=1.0,
            lambda_=0.95,
            entropy_coeff=0.01,
            vf_clip_param=100.0,
            grad_clip=0.5,
        )
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    before = mean_return(algorithm.get_module())
    for _ in range(asked.updates):
        algorithm.train()
    after = mean_return(algorithm.get_module())
    algorithm.stop()
    ray.shutdown()
    print(f"return {before:.2f} -> {after:.2f}: before and after {asked.updates} updates (Gymnasium {gym.__version__})")
    return before, after


if __name__ == "__main__":
    main()
