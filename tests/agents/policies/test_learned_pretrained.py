"""The policies that the package brings: they can be read, are small, say how they were made, and are worth having."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import ship

from teleport_env.agents import agent_for, agent_from
from teleport_env.agents.naming import best_rule, kept_rules
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.agents.policies.learned import (
    GENERALIST,
    PRETRAINED,
    SHIPPED,
    LearnedSchedule,
    rewards,
    shipped,
    shipped_for,
)
from teleport_env.agents.tuned_settings import read_tuned, tuned_settings
from teleport_env.agents.tuning.own_menu import fallback_of
from teleport_env.checks import check_agent
from teleport_env.envs.settings import Settings
from teleport_env.problems import PROBLEMS

OWN = [name for name in shipped() if name in PROBLEMS]


@pytest.fixture(scope="module")
def policy() -> LearnedSchedule:
    return LearnedSchedule.pretrained()


def test_it_says_how_it_was_made(policy: LearnedSchedule) -> None:
    assert PRETRAINED.stat().st_size < 1024 * 1024
    assert policy.name == "generalist"
    assert set(policy.problems) == {*OWN} - {"DigitsFull"}
    training = policy.provenance["training"]
    assert training["problem"] == list(policy.problems)
    assert {"seed", "decisions"} <= set(training)
    assert {"torch", "stable-baselines3", "teleport-env"} <= set(policy.provenance["versions"])
    assert policy.provenance["command"].startswith("python scripts/train.py ")


@pytest.mark.parametrize("problem", sorted({*OWN} - {"DigitsFull"}))
def test_it_beats_plain_descent_and_never_diverges(policy: LearnedSchedule, problem: str) -> None:
    """Its network, also on problems where a rule plays in its place."""
    pytest.importorskip("sklearn")
    ids = draw_instances(problem, "validation", 24, 12345)
    agents = (policy.for_problem(problem), agent_from("never"))
    mine, plain = (play(problem, one, ids, split="validation").rows for one in agents)
    assert not any(row["diverged"] for row in mine)
    assert np.mean([row["gained"] for row in mine]) > np.mean([row["gained"] for row in plain]) + LEAD.get(problem, 0.5)


def test_its_steps_search_for_their_rate_where_it_has_not_been(policy: LearnedSchedule) -> None:
    """A base rate that is off by much, which a policy of rate factors would go by, costs little."""
    assert policy.environment["optimizer"]["optimizer"] == "momentum_line_search"
    assert "orders_left" not in policy.features
    ids = draw_instances("Autoencoder", "validation", 2, 12345)
    usual = policy.for_problem("Autoencoder")
    rate = Settings.build("Autoencoder").learning_rate
    for one in (usual, policy.for_problem("Autoencoder", learning_rate=1000.0 * rate)):
        rows = play("Autoencoder", one, ids, split="validation", budget=30.0).rows
        assert all(row["gained"] > 0 and not row["diverged"] for row in rows)


def test_rules_that_play_in_its_place_are_those_that_are_kept_tuned(policy: LearnedSchedule) -> None:
    """Red: a rule was tuned anew, or another is better by far. `scripts/judge.py` judges the policy again."""
    fallbacks = policy.provenance["fallbacks"]
    assert policy.provenance["judged"]["instances"] >= 1024
    rules = {problem: found["rule"] for problem, found in fallbacks.items() if "rule" in found}
    assert {*fallbacks} == {*rules} == {"Booth", "Quadratic", "RosenbrockND", "MatrixFactorization"}
    for problem, rule in rules.items():
        name, kept = rule["rule"], read_tuned(problem)
        assert kept is not None
        assert kept.agents[name]["gained"] == max(kept.agents[one]["gained"] for one in kept_rules(problem))
        assert tuned_settings(problem)[name] == {**rule["settings"], "environment": rule["environment"]}
        assert agent_for(problem, "generalist").environment == agent_for(problem, name).environment


def test_at_lower_tolerances_its_network_gains_more_than_all_rules_that_are_equal_on_the_train_split(
    policy: LearnedSchedule,
) -> None:
    """Regression: the first of five equal rules was the only rival on Ellipse, and at the usual tolerance alone."""
    kept = read_tuned("Ellipse")
    assert kept is not None
    best = kept.agents[best_rule("Ellipse")]["gained"]
    equal = [name for name in kept_rules("Ellipse") if kept.agents[name]["gained"] == best]
    assert len(equal) > 1
    ids = draw_instances("Ellipse", "validation", 256, 12345)
    agents = [policy.for_problem("Ellipse"), *(agent_for("Ellipse", name) for name in equal)]
    settings = {"tolerance": 1e-6 * Settings.build("Ellipse").tolerance}
    mine, *its = play_many("Ellipse", agents, ids, split="validation", seed=0, settings=settings).mean(axis=1)
    assert mine > max(its) + 0.5
    assert "Ellipse" not in policy.provenance["fallbacks"]


def test_it_is_an_agent_like_all_others(policy: LearnedSchedule) -> None:
    check_agent(policy.for_problem("Booth"), "Booth")


def test_it_plays_what_it_has_not_seen(policy: LearnedSchedule) -> None:
    pytest.importorskip("sklearn")
    check_agent(policy.for_problem("Digits"), "Digits", budget=20.0)


# -- the policies for one problem ----------------------------------------------------------------------------------------


def test_they_are_found_by_name() -> None:
    assert LearnedSchedule.pretrained(GENERALIST).name == LearnedSchedule.pretrained().name == "generalist"
    with pytest.raises(ValueError, match=r"got 'Rosenbrok'. Did you mean 'Rosenbrock'\?"):
        LearnedSchedule.pretrained("Rosenbrok")
    with pytest.raises(ValueError, match=f"{', '.join(map(repr, shipped()))}, got 'MNIST'"):
        LearnedSchedule.pretrained("MNIST")
    assert [one.name for one in shipped_for("Rosenbrock")] == ["specialist", "generalist"]
    assert [one.name for one in shipped_for("MNIST")] == ["generalist"]


def test_all_of_them_are_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*.json")) < 1024 * 1024


@pytest.mark.parametrize("problem", OWN)
def test_a_specialist_says_how_it_was_made_and_beats_plain_descent(problem: str) -> None:
    pytest.importorskip("sklearn")
    policy = LearnedSchedule.pretrained(problem)
    assert (policy.name, policy.problems) == ("specialist", (problem,))
    assert policy.provenance["command"].startswith(f"python scripts/train.py --problem {problem} ")
    assert {"torch", "stable-baselines3", "teleport-env"} <= set(policy.provenance["versions"])
    assert ("fallback" in policy.provenance) == (problem in FALLBACK)
    agent = fallback_of(policy) or policy
    ids = draw_instances(problem, "validation", FEW.get(problem, 24), 12345)
    base = {"learning_rate": policy.environment["learning_rate"]}
    plain = [agent_from("never", environment=environment) for environment in (base, {})]
    own, *others = (play(problem, one, ids, split="validation").rows for one in (agent, *plain))
    assert sum(row["diverged"] for row in own) <= 0.05 * len(ids)
    gained = [float(np.mean([row["gained"] for row in rows])) for rows in (own, *others)]
    assert gained[0] > max(gained[1:]) + LEAD.get(problem, 0.5)


FALLBACK = {"TensorFactorization"}
"""Where the best plan of the training outperforms its policy, and plays in its place."""

FEW = {"DigitsFull": 2}
"""Number of instances that are played, where an episode takes long."""

LEAD: dict[str, float] = {"TwoLayerRegression": 0.05, "DigitsFull": 0.05}
"""Least lead over plain descent in orders of magnitude, where it is not 0.5: where teleports are worth little."""


# -- the policies that were trained to be early --------------------------------------------------------------------------


def test_those_trained_for_the_score_are_found_by_their_reward() -> None:
    assert rewards() == ["score"]
    assert {*shipped("score")} == {*ship.Shipping().problems} <= {*OWN}
    early, usual = (LearnedSchedule.pretrained("Rosenbrock", reward) for reward in ("score", None))
    assert (early.name, usual.name) == ("score_specialist", "specialist")
    with pytest.raises(ValueError, match=r"for the reward 'score' must be one of 'Booth', .*, got 'generalist'"):
        LearnedSchedule.pretrained(reward="score")
    with pytest.raises(ValueError, match=r"reward of a policy that the package brings must be .*'score', got 'scores'"):
        LearnedSchedule.pretrained("Booth", reward="scores")
    assert "score_specialist" not in [one.name for one in shipped_for("Rosenbrock")]


@pytest.mark.parametrize("problem", shipped("score"))
def test_one_trained_for_the_score_says_so_and_is_earlier_than_plain_descent(problem: str) -> None:
    policy = agent_for(problem, "score_specialist")
    assert isinstance(policy, LearnedSchedule)
    assert policy.problems == (problem,)
    assert (policy.provenance["training"]["reward"], policy.provenance["training"]["problem"]) == ("score", problem)
    made = policy.provenance["command"]
    assert made.startswith(f"python scripts/train.py --problem {problem} ")
    assert " --reward score " in made
    assert " --name score_specialist" in made
    assert "fallback" not in policy.provenance
    ids = draw_instances(problem, "validation", 6, 12345)
    agents = (policy, agent_for(problem, "never"))
    own, plain = play_many(problem, agents, ids, split="validation", reward="score").mean(axis=1)
    assert own > 1.1 * plain


def test_no_file_names_a_folder_of_the_machine_that_wrote_it() -> None:
    for path in SHIPPED.rglob("*.json"):
        provenance = json.dumps(LearnedSchedule.load(path).provenance)
        assert not re.search(r"[\s\"'=](/|[A-Z]:\\)\w", provenance), path.name


def test_on_rosenbrock_the_one_for_the_score_is_earlier_than_the_rule_and_the_specialist() -> None:
    ids = draw_instances("Rosenbrock", "validation", 64, 12345)
    agents = [agent_for("Rosenbrock", name) for name in ("score_specialist", "edge_of_stability", "specialist")]
    own, *others = play_many("Rosenbrock", agents, ids, split="validation", reward="score").mean(axis=1)
    assert own > max(others) + 0.3
