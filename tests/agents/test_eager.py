"""Torch's optimizers without its compiler: the same steps, and nothing of it is imported."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

import fresh
from teleport_env.agents.eager import LBFGS, Adam
from teleport_env.agents.learning.algorithm import MaskedPolicy, build
from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.learning.settings import Training

TRAINING = """
import sys
from pathlib import Path
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
small = {"decisions": 400, "runs": 8, "plans": 4, "rules": 0, "warm_start": True}
trained = train(Training.of(problem="Booth", out=Path(sys.argv[1]), **small), lambda line: None)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(("kind", "own"), [(torch.optim.Adam, Adam), (torch.optim.LBFGS, LBFGS)])
def test_an_eager_optimizer_steps_as_torchs_own(
    kind: type[torch.optim.Optimizer], own: type[torch.optim.Optimizer]
) -> None:
    ends = []
    for made in (kind, own):
        weights = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
        optimizer = made([weights], lr=0.1)  # type: ignore[call-arg]

        def closure(weights: torch.Tensor = weights, optimizer: torch.optim.Optimizer = optimizer) -> float:
            optimizer.zero_grad()
            loss = (weights**4).sum()
            loss.backward()
            return float(loss)

        for _ in range(3):
            optimizer.step(closure)
        ends.append(weights.detach())
    assert torch.equal(*ends)


def test_a_training_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Regression: its optimizer did, which took 1.5 s."""
    done = fresh.run(["-c", TRAINING, str(tmp_path)])
    assert done.stdout == "\nFalse\n", done.stderr


@pytest.mark.parametrize("kind", [MaskedPolicy, ActorCriticPolicy])
def test_the_policys_optimizer_has_the_settings_of_stable_baselines3(kind: type[ActorCriticPolicy]) -> None:
    """And a policy with it can be pickled, as by ``policy.save``."""
    training = Training.of(problem="Booth", out=Path("unused"), runs=8)
    env = SB3VecEnv("Teleport/Booth-v0", 8)
    policy = build(training, kind, env, 0, {}).policy
    usual = ActorCriticPolicy(env.observation_space, env.action_space, lambda _: training.learner.step_size).optimizer
    assert isinstance(policy.optimizer, Adam)
    assert policy.optimizer.defaults == usual.defaults
    assert isinstance(pickle.loads(pickle.dumps(policy.optimizer)), Adam)
