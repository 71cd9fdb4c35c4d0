"""The algorithms of stable-baselines3 with a training's settings, what they draw from, and where they log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from teleport_env.agents.learning.masked import Inputs
from teleport_env.agents.learning.settings import Training


def build(
    training: Training, kind: type[ActorCriticPolicy], env: VecEnv, more: int, settings: Mapping[str, Any]
) -> OnPolicyAlgorithm:
    """The algorithm of a training.

    Args:
        training: The settings.
        kind: Actor and critic.
        env: What they play on.
        more: How many of the last numbers of an observation they read beside the named features.
        settings: Further settings of ``kind``.
    """
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
