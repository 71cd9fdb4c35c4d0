"""The algorithms of stable-baselines3 with a training's settings: network, masked actions, generators and log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from teleport_env.agents.eager import Adam
from teleport_env.agents.learning.settings import Training
from teleport_env.envs.features import INDEX

_NEVER = -1e8
"""Logit of an action that cannot be paid: its probability is 0 in float32, and no gradient becomes NaN."""


class Inputs(BaseFeaturesExtractor):
    """What a network reads of observations: features by ``names``, and so many of the last columns, ``shares``."""

    def __init__(self, observation_space: gym.Space[Any], names: tuple[str, ...], shares: int) -> None:
        super().__init__(observation_space, features_dim=len(names) + shares)
        assert observation_space.shape is not None
        width = observation_space.shape[0]
        columns = [*(INDEX[name] for name in names), *range(width - shares, width)]
        first = columns[0]
        together = columns == [*range(first, first + len(columns))]  # most often: nothing to pick
        self._columns = slice(first, first + len(columns)) if together else columns

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, self._columns]


class MaskedPolicy(ActorCriticPolicy):
    """Actor and critic whose actions are masked: a teleport whose share of the budget left is 1 has probability 0.

    The share is part of the observation, so the update sees the mask under which the action was drawn.

    Args:
        arguments: Those of `ActorCriticPolicy`.
        teleports: Number of teleports: the last columns of an observation, and the last actions.
    """

    def __init__(self, *arguments: Any, teleports: int = 0, **settings: Any) -> None:
        self.teleports = teleports
        super().__init__(*arguments, **settings)

    @property
    def actor(self) -> nn.Sequential:
        """Observations to logits, before the mask."""
        return nn.Sequential(self.features_extractor, self.mlp_extractor.policy_net, self.action_net)

    def get_distribution(self, obs: Any) -> Distribution:
        """The distribution of actions ``(B,)``."""
        logits = self.actor(obs)
        if self.teleports:
            unpayable = obs[:, -self.teleports :] >= 1.0
            steps = logits.shape[1] - self.teleports
            logits = torch.cat([logits[:, :steps], logits[:, steps:].masked_fill(unpayable, _NEVER)], dim=1)
        return self.action_dist.proba_distribution(action_logits=logits)

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions ``(B,)``, values ``(B, 1)`` and log-probabilities ``(B,)``."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(B, 1)``, log-probabilities and entropies ``(B,)`` of stored actions."""
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()


def build(
    training: Training, kind: type[ActorCriticPolicy], env: VecEnv, more: int, settings: Mapping[str, Any]
) -> OnPolicyAlgorithm:
    """The algorithm of a training, whose actor and critic, of a ``kind``, read ``more`` of an observation's last numbers."""
    learner, schedule = training.learner, training.schedule
    shared: dict[str, Any] = {
        "n_steps": schedule.rollout,
        "learning_rate": learner.step_size,
        "gamma": learner.discount,
        "gae_lambda": learner.trace,
        "ent_coef": learner.entropy,
        "device": "cpu",
        "policy_kwargs": {
            "net_arch": {"pi": list(learner.hidden), "vf": list(learner.hidden)},
            "activation_fn": nn.Tanh,
            "features_extractor_class": Inputs,
            "features_extractor_kwargs": {"names": training.task.features, "shares": more},
            "optimizer_class": Adam,
            "optimizer_kwargs": {"eps": 1e-5},  # stable-baselines3 gives it to torch's own class alone
            **settings,
        },
    }
    if learner.algorithm == "a2c":
        return A2C(kind, env, use_rms_prop=False, **shared)
    size = schedule.runs * schedule.rollout // learner.minibatches
    return PPO(kind, env, batch_size=size, n_epochs=learner.epochs, **shared)


@contextmanager
def generators(seed: int, number: int) -> Iterator[int]:
    """The global generators seeded from two numbers, and put back at the end; gives a seed for the episodes."""
    words = np.random.SeedSequence([seed, number]).generate_state(3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 (the library draws from it)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    try:
        yield int(words[2])
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def writer(training: Training) -> Any:
    """TensorBoard's, into the training's folder.

    Raises:
        ImportError: It is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard is missing: pip install "teleport-env[train]"') from error
    return SummaryWriter(str(training.out / "tensorboard"))
