"""Cloning: a network learns to do what a plan does, before it learns to do better."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from teleport_env.agents.comparison.play import draw_instances
from teleport_env.agents.learning.plans import Lesson, Plan, play_plans
from teleport_env.agents.learning.settings import Training

_SMOOTHING = 0.1
"""Share of probability spread over all actions: a policy that is sure of everything would not try anything."""

_PASSES = 30
_BATCH = 2048


def lesson_of(training: Training, plan: Plan, instances: int = 512) -> Lesson:
    """What a plan sees and does on instances of the train split."""
    ids = draw_instances(training.only, "train", instances, training.seed + 1)
    lesson = play_plans(training, [plan], ids, seed=training.seed, lesson=True)[1]
    assert lesson is not None
    return lesson


def clone(network: nn.Module, lesson: Lesson, generator: torch.Generator, passes: int = _PASSES) -> float:
    """Teach a network the actions of a lesson.

    Args:
        network: Observations ``(N, F)`` to logits ``(N, actions)``; changed in place.
        lesson: What to learn.
        generator: Of the order of examples.
        passes: Over the lesson.

    Returns:
        The share of the lesson's actions that the network would choose.
    """
    observations = torch.as_tensor(lesson.observations)
    actions = torch.as_tensor(np.asarray(lesson.actions))
    loss = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for number in range(passes):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1.0 - number / passes)
        for rows in torch.randperm(len(actions), generator=generator).split(_BATCH):
            optimizer.zero_grad()
            loss(network(observations[rows]), actions[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((network(observations).argmax(dim=1) == actions).float().mean())
