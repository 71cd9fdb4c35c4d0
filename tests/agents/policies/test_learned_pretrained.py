"""The policy that the package brings: it can be read, it is small, says how it was made, and is worth having."""

from __future__ import annotations

import numpy as np
import pytest

from study.findings import SEVEN
from teleport_env.agents import agent_from
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned import PRETRAINED, LearnedSchedule
from teleport_env.checks import check_agent


@pytest.fixture(scope="module")
def policy() -> LearnedSchedule:
    return LearnedSchedule.pretrained()


def test_it_says_how_it_was_made(policy: LearnedSchedule) -> None:
    assert PRETRAINED.stat().st_size < 1024 * 1024
    assert policy.name == "generalist"
    assert set(policy.problems) == set(SEVEN)
    training = policy.provenance["training"]
    assert training["problem"] == list(policy.problems)
    assert {"seed", "decisions"} <= set(training)
    assert {"torch", "stable-baselines3", "teleport-env"} <= set(policy.provenance["versions"])
    assert policy.provenance["command"].startswith("python scripts/train.py ")


@pytest.mark.parametrize("problem", SEVEN)
def test_it_beats_plain_descent_at_the_same_base_rate_and_at_the_default(policy: LearnedSchedule, problem: str) -> None:
    agent = policy.for_problem(problem)
    ids = draw_instances(problem, "validation", 24, 12345)

    def worth(one: object) -> float:
        return float(np.mean([row["gained"] for row in play(problem, one, ids, split="validation").rows]))  # type: ignore[arg-type]

    base = agent.environment["learning_rate"]
    plain = max(worth(agent_from("never", environment=e)) for e in ({"learning_rate": base}, {}))
    assert worth(agent) > plain + 0.5


def test_it_is_an_agent_like_all_others(policy: LearnedSchedule) -> None:
    check_agent(policy.for_problem("Booth"), "Booth")


def test_it_plays_what_it_has_not_seen(policy: LearnedSchedule) -> None:
    check_agent(policy.for_problem("Ellipse"), "Ellipse", budget=20.0)
