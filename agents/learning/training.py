"""Training a schedule: a `Course` from its checkpoint, or from the beginning, to its end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from teleport_env.agents.learning.algorithm import build, generators
from teleport_env.agents.learning.course import Course, Trained
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.vec_env import Moves
from teleport_env.agents.learning.warm_start import clone_moves, shown_by_moves
from teleport_env.agents.play import one_thread
from teleport_env.agents.policies.learned_moves import LearnedMoves, MovePlan

__all__ = ["train"]


class MovesCourse(Course):
    """A training of the group mode under way: a Gaussian in place of the menu."""

    env: Moves

    def _environment(self, segment: int = 0) -> Moves:
        (game,) = self.games.values()
        task, scale = self.training.task, self.training.learner.reward_scale
        return Moves(self._runs(game), task.directions, scale, task.divergence_cost)

    def _network(self) -> OnPolicyAlgorithm:
        start = {"log_std_init": float(np.log(self.training.learner.deviation))}
        return build(self.training, ActorCriticPolicy, self.env, self.env.width, start)

    def _warm_start(self) -> None:
        """Teach the network to do what the best plan does; the Gaussian around it goes on trying."""
        (game,) = self.games.values()
        assert isinstance(game.teacher, MovePlan)
        teacher = game.teacher.agent(game.training.policy_environment(game.learning_rate))
        with generators(self.training.seed, -1 % 2**32) as seed:
            self.env.seed(seed)
            lesson = shown_by_moves(self.env, teacher, int(game.training.settings().budget))
        policy: Any = self.model.policy
        network = nn.Sequential(policy.features_extractor, policy.mlp_extractor.policy_net, policy.action_net)
        error = clone_moves(network, lesson, torch.Generator().manual_seed(self.training.seed))
        self.report(f"The warm start is off by {error:.3f} (root mean square) from what it was shown")

    def _policy(self, temperature: float = 0.0) -> LearnedMoves:
        """The network as it is now; a temperature above 0 is a factor of the deviations that it draws with."""
        training, shared = self.training, self._shared(temperature)
        shared["provenance"] |= self._found()
        network: Any = self.model.policy
        deviation = np.exp(network.log_std.detach().numpy())
        return LearnedMoves(
            **shared,
            directions=training.task.directions,
            deviation=deviation if temperature == 0.0 else deviation * np.float32(temperature),
            environment=training.policy_environment(self.games[training.only].learning_rate),
        )


@one_thread()  # the tensors are small
def train(
    training: Training,
    report: Callable[[str], None] = print,
    until: int | None = None,
    beside: Executor | None = None,
) -> Trained:
    """Train a schedule, or go on with a training whose checkpoint lies in ``training.out``.

    Args:
        training: The settings.
        report: Callback for a line of text on progress.
        until: Segment before which it stops, as if interrupted; None: train to the end.
        beside: Executor that searches for plans and rules run on, beside the training that does not need what they
            find, such as a `concurrent.futures.ProcessPoolExecutor`; None: here, before it. What is trained and found
            is the same.

    Raises:
        ValueError: The folder holds the checkpoint of another training, or cannot be written.
        FileNotFoundError: The data of a problem are missing.
        PolicyFileError: The checkpoint is damaged.
    """
    run = (MovesCourse if training.task.action_mode == "group" else Course)(training, report, beside)
    for segment in run.remaining(until):
        run.segment(segment)
    return run.finish()
