"""The training of a policy that gives the group parameters itself: the same course with a Gaussian in place of the menu."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from teleport_env.agents.learning.algorithm import build, generators
from teleport_env.agents.learning.course import Course, plain
from teleport_env.agents.learning.moves_env import Moves
from teleport_env.agents.learning.warm_start import clone_moves, shown_by_moves
from teleport_env.agents.policies.learned_moves import LearnedMoves
from teleport_env.agents.policies.moves import MovePlan
from teleport_env.agents.tuning.own_menu import Menu, Searched, search_move_plans


class MovesCourse(Course):
    """A training of the group mode under way."""

    env: Moves

    def _environment(self) -> Moves:
        (game,) = self.games.values()
        return Moves(self._runs(game), self.training.task.directions, self.training.learner.reward_scale)

    def _network(self) -> OnPolicyAlgorithm:
        start = {"log_std_init": float(np.log(self.training.learner.deviation))}
        return build(self.training, ActorCriticPolicy, self.env, self.env.width, start)

    def _plan_from(self, content: dict[str, Any]) -> Any:
        return MovePlan(**{**content, "xi": tuple(content["xi"])})

    def _search_plans(self, menu: Menu) -> Searched:
        return search_move_plans(menu)

    def _warm_start(self) -> None:
        """Teach the network to do what the best plan does; the Gaussian around it goes on trying."""
        ((problem, game),) = self.games.items()
        teacher = self.plans[problem].plan.agent(game.training.policy_environment(game.learning_rate))
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
        shared["provenance"]["plan"] = plain(self.plans).get(training.only)
        network: Any = self.model.policy
        deviation = np.exp(network.log_std.detach().numpy())
        return LearnedMoves(
            **shared,
            directions=training.task.directions,
            deviation=deviation if temperature == 0.0 else deviation * np.float32(temperature),
            environment=training.policy_environment(self.games[training.only].learning_rate),
        )
