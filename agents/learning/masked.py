"""A policy that never draws what cannot be paid: the masked categorical."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from teleport_env.envs.features import INDEX

_NEVER = -1e8
"""Logit of an action that cannot be paid: its probability is 0 in float32, and no gradient becomes NaN."""


class Inputs(BaseFeaturesExtractor):
    """What a network reads of the observations of `teleport_env.agents.learning.vec_env.Mixture`.

    Args:
        observation_space: Theirs.
        names: Of the features it reads.
        shares: How many teleports' shares of the budget it reads, the last columns; 0 or all.
    """

    def __init__(self, observation_space: gym.Space[Any], names: tuple[str, ...], shares: int) -> None:
        super().__init__(observation_space, features_dim=len(names) + shares)
        assert observation_space.shape is not None
        width = observation_space.shape[0]
        self._columns = [*(INDEX[name] for name in names), *range(width - shares, width)]

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, self._columns]


class MaskedPolicy(ActorCriticPolicy):
    """Actor and critic of stable-baselines3 over observations that say what each teleport costs of the budget left.

    A teleport whose share is 1 has probability 0. The share is part of the observation, so the update sees the mask under
    which the action was drawn.

    Args:
        arguments: Those of `ActorCriticPolicy`.
        teleports: How many of the last columns of an observation, and of the last actions, are teleports.
    """

    def __init__(self, *arguments: Any, teleports: int = 0, **settings: Any) -> None:
        self.teleports = teleports
        super().__init__(*arguments, **settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "teleports": self.teleports}

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
            payable, wanted = logits[:, :steps], logits[:, steps:].masked_fill(unpayable, _NEVER)
            logits = torch.cat([payable, wanted], dim=1)
        return self.action_dist.proba_distribution(action_logits=logits)

    def predict_values(self, obs: Any) -> Tensor:
        """The critic's values ``(B, 1)``."""
        values: Tensor = self.value_net(self.mlp_extractor.value_net(self.features_extractor(obs)))
        return values

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions ``(B,)``, values ``(B, 1)`` and log-probabilities ``(B,)``."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values ``(B, 1)``, log-probabilities and entropies ``(B,)`` of stored actions."""
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()
