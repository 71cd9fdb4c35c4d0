"""TorchRL: its collector and ClipPPOLoss on the native vector environment, which stays in tensors.

python examples/torchrl_ppo.py
python examples/torchrl_ppo.py --mode SameStep --output numpy
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, GymWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from teleport_env.envs import MaskedVectorObservation

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


def make(runs: int, split: str, mode: str, output: str) -> EnvBase:
    """``runs`` runs as one batched environment of TorchRL, whose observations carry the action mask."""
    made = {"num_envs": runs, "split": split, "autoreset_mode": mode, "output": output, "searches": SEARCHES}
    envs = gym.make_vec("Teleport/Booth-v0", **made)
    return GymWrapper(MaskedVectorObservation(envs), categorical_action_encoding=True, device="cpu")


class Allowed(nn.Module):
    """Logits, and the mask as `MaskedCategorical` takes it."""

    def __init__(self, inputs: int, actions: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, actions))

    def forward(self, observations: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(observations), mask.bool()


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns before and after training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=128)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--mode", choices=("Disabled", "SameStep"), default="Disabled")
    parser.add_argument("--output", choices=("torch", "numpy"), default="torch")
    asked = parser.parse_args(words)
    if min(asked.runs, asked.updates) < 1:
        parser.error("--runs and --updates must be at least 1")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    envs = make(asked.runs, "train", asked.mode, asked.output)
    inputs, actions = envs.observation_spec["observations"].shape[-1], envs.action_spec.space.n
    policy = ProbabilisticActor(
        TensorDictModule(
            Allowed(inputs, actions), in_keys=["observations", "action_mask"], out_keys=["logits", "mask"]
        ),
        in_keys=["logits", "mask"],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
        spec=envs.action_spec,
    )
    critic = ValueOperator(nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 1)), in_keys=["observations"])

    def mean_return() -> float:
        test = make(256, "test", "Disabled", asked.output)
        test.set_seed(0)
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            played = test.rollout(250, policy, break_when_any_done=False, break_when_all_done=True)
        reward, done = played["next", "reward"].squeeze(-1), played["next", "done"].squeeze(-1)
        first = done.cumsum(1) - done.int() == 0  # up to the end of the first episode of each run
        return float((reward * first).sum(1).mean())

    before = mean_return()
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic, average_gae=True)
    loss = ClipPPOLoss(policy, critic, clip_epsilon=0.2, entropy_coeff=0.01, critic_coeff=0.5, normalize_advantage=True)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    frames = asked.runs * 32
    total = frames * asked.updates
    collector = Collector(
        envs, policy, frames_per_batch=frames, total_frames=total, auto_register_policy_transforms=True
    )
    for batch in collector:
        # the budget is a part of the observation: at the end of an episode nothing is left to gain, and the discount is 1
        batch["next", "terminated"] = batch["next", "done"]
        with torch.no_grad():
            advantage(batch)
        flat = batch.reshape(-1)
        for _ in range(4):
            for rows in torch.randperm(len(flat)).chunk(4):
                found = loss(flat[rows])
                optimizer.zero_grad()
                sum(value for name, value in found.items() if name.startswith("loss_")).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
    collector.shutdown()
    after = mean_return()
    print(
        f"return {before:.2f} -> {after:.2f}: before and after {asked.updates} updates ({asked.mode}, {asked.output})"
    )
    return before, after


if __name__ == "__main__":
    main()
