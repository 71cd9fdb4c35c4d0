"""PPO in one file, in the style of CleanRL, on the native vector environment: tensors in, tensors out, actions masked.

python examples/ppo.py
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import teleport_env  # noqa: F401  (registers the ids)

SEARCHES = [
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "virtual_step"},
]  # without the default menu's closed form, which leaves little to learn


class Agent(nn.Module):
    """Actor and critic; actions that cannot be paid have probability 0."""

    def __init__(self, envs: gym.vector.VectorEnv, width: int = 64) -> None:
        super().__init__()
        inputs = int(np.prod(envs.single_observation_space.shape or ()))
        self.actor = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, envs.single_action_space.n))
        self.critic = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))

    def policy(self, observation: Tensor, mask: Tensor) -> Categorical:
        return Categorical(logits=self.actor(observation).masked_fill(mask == 0, -1e8))

    def value(self, observation: Tensor) -> Tensor:
        return self.critic(observation).squeeze(-1)


def make(runs: int, split: str, mode: str) -> gym.vector.VectorEnv:
    made = {"num_envs": runs, "split": split, "autoreset_mode": mode, "output": "torch", "searches": SEARCHES}
    return gym.make_vec("Teleport/Booth-v0", **made)


@torch.no_grad()
def mean_return(agent: Agent, runs: int = 256) -> float:
    """Mean return of the most probable actions, on instances that training never sees."""
    envs = make(runs, "test", "Disabled")
    observation, infos = envs.reset(seed=0)
    total, over = torch.zeros(runs), torch.zeros(runs, dtype=torch.bool)
    while not over.all():  # an episode that is over waits, with reward 0
        action = agent.policy(observation, infos["action_mask"]).probs.argmax(dim=1)
        observation, reward, terminated, truncated, infos = envs.step(action)
        total += reward
        over = terminated | truncated
    return total.mean().item()


def train(agent: Agent, runs: int, updates: int, length: int = 32, epochs: int = 4, batches: int = 4) -> None:
    """PPO with discount 1: the budget is a part of the observation, so that the end of an episode is no surprise."""
    envs = make(runs, "train", "SameStep")
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    observation, infos = envs.reset(seed=0)
    mask, smoothing = infos["action_mask"], 0.95
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1.0 - update / updates)
        kept: list[tuple[Tensor, ...]] = []
        for _ in range(length):
            with torch.no_grad():
                policy, value = agent.policy(observation, mask), agent.value(observation)
                action = policy.sample()
            following, reward, terminated, truncated, infos = envs.step(action)
            done = (terminated | truncated).float()
            kept.append((observation, mask, action, policy.log_prob(action), value, reward, done))
            observation, mask = following, infos["action_mask"]

        observations, masks, actions, log_probs, values, rewards, dones = map(torch.stack, zip(*kept, strict=True))
        advantages = torch.zeros_like(rewards)
        with torch.no_grad():
            after, running = agent.value(observation), torch.zeros(runs)
        for t in reversed(range(length)):
            error = rewards[t] + (1.0 - dones[t]) * after - values[t]
            running = error + smoothing * (1.0 - dones[t]) * running
            advantages[t], after = running, values[t]
        flat = [x.flatten(0, 1) for x in (observations, masks, actions, log_probs, advantages, advantages + values)]
        for _ in range(epochs):
            for rows in torch.randperm(runs * length).chunk(batches):
                seen, allowed, taken, before, advantage, goal = (x[rows] for x in flat)
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy = agent.policy(seen, allowed)
                ratio = (policy.log_prob(taken) - before).exp()
                gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                loss = 0.5 * (agent.value(seen) - goal).square().mean() - gain - 0.01 * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Returns before and after training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--updates", type=int, default=60)
    asked = parser.parse_args(words)
    if min(asked.runs, asked.updates) < 1:
        parser.error("--runs and --updates must be at least 1")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    agent = Agent(make(1, "train", "SameStep"))
    before = mean_return(agent)
    train(agent, asked.runs, asked.updates)
    after = mean_return(agent)
    print(f"return {before:.2f} -> {after:.2f}: before and after {asked.updates} updates")
    return before, after


if __name__ == "__main__":
    main()
