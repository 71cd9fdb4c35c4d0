"""One policy for several problems: trained on all, made the agent of one, the same whichever way it is asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.findings import SEVEN
from teleport_env.agents.learning.course import VALIDATION_SEED, Course
from teleport_env.agents.learning.recipes import (
    recipe,
    teacher,
    without_teleports,
)
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.learning.warm_start import shown as shown_by
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.file import PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.slots import SLOTS, fill, search_prices
from teleport_env.agents.tuning.own_menu import plan_of
from teleport_env.checks import check_agent
from teleport_env.envs.features import INDEX

MIXED = Training.of(
    problem=("Booth", "MatrixFactorization", "Rosenbrock"),
    searches=("balance_weights", "ascend", "look"),
    families={
        "MatrixFactorization": {"symmetry": "scaling", "steps_per_action": 2, "plans": 4, "budget": 80.0},
        "Rosenbrock": {"optimizer": {"optimizer": "momentum_line_search", "momentum": 0.5}},
    },
    optimizer="gd_line_search",
    rate_factors=(1.0, 0.5, 2.0),
    steps_per_action=1,
    budget=24.0,
    price_inputs=True,
    decisions=2 * 12 * 8,
    runs=12,
    rollout=8,
    segment=1,
    minibatches=2,
    hidden=(8, 8),
    plans=3,
    rules=0,
    warm_start=True,
    validation_instances=4,
)


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LearnedSchedule:
    folder = tmp_path_factory.mktemp("mixed")
    train(MIXED.changed(out=folder), silent)
    return LearnedSchedule.load(folder / "policy.json")


def test_a_training_of_several_that_is_cut_off_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole = MIXED.changed(out=tmp_path / "whole")
    parts = whole.changed(out=tmp_path / "parts")
    found = train(whole, silent)
    train(parts, silent, until=1)
    train(parts, silent)
    for name in ("checkpoint.json", "policy.json", "training.json"):
        first, second = (json.loads((folder / name).read_text()) for folder in (whole.out, parts.out))
        for content in (first, second):
            content.pop("sha256", None)
            content.get("settings", content).get("training", {}).pop("out", None)
        assert first == second, name
    means = [found.history[0][f"gained_{problem}"] for problem in MIXED.task.problems]
    assert found.history[0]["gained"] == pytest.approx(np.mean(means))


@pytest.mark.parametrize("problem", MIXED.task.problems)
def test_it_plays_each_of_its_problems(trained: LearnedSchedule, problem: str) -> None:
    agent = trained.for_problem(problem)
    assert agent.problems == (problem,)
    assert agent.environment == {
        **MIXED.alone(problem).policy_environment(agent.environment["learning_rate"]),
    }
    check_agent(agent, problem, budget=24.0)
    plan = plan_of(agent)
    assert plan is not None
    assert plan.environment["learning_rate"] == agent.environment["learning_rate"]
    played = play(problem, agent, draw_instances(problem, "validation", 4, 0), split="validation", budget=24.0)
    assert len(played.rows) == 4


def test_optimizers_are_each_familys_own_and_go_along_to_another_problem(trained: LearnedSchedule) -> None:
    asked = {p: trained.for_problem(p).environment["optimizer"] for p in MIXED.task.problems}
    own = {"optimizer": "momentum_line_search", "momentum": 0.5}
    assert asked == {"Booth": "gd_line_search", "MatrixFactorization": "gd_line_search", "Rosenbrock": own}
    assert trained.for_problem("Quadratic", learning_rate=0.5).environment["optimizer"] == "gd_line_search"


def test_rates_are_each_familys_own(trained: LearnedSchedule) -> None:
    rates = {p: trained.for_problem(p).environment["learning_rate"] for p in MIXED.task.problems}
    assert len(set(rates.values())) == 3
    assert trained.for_problem("MatrixFactorization").environment["steps_per_action"] == 2
    assert trained.for_problem("Booth").environment["steps_per_action"] == 1


def test_the_agent_of_a_problem_is_the_trained_network(tmp_path: Path) -> None:
    """What the training computes in rows of all problems, the agent computes with the outputs of its own."""
    run = Course(MIXED.changed(out=tmp_path), silent)
    with torch.no_grad():  # a network at rest would prefer nothing
        for parameter in run.model.policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    policy = run._policy()
    observation = run.env.reset()
    with torch.no_grad():
        every = run.model.policy.get_distribution(torch.from_numpy(observation)).distribution.probs.numpy()
    for index, problem in enumerate(MIXED.task.problems):
        rows = slice(4 * index, 4 * index + 4)
        agent, game = policy.for_problem(problem), run.games[problem]
        outputs = [0, 1, 2, *(3 + slot for slot in game.slots)]
        np.testing.assert_allclose(agent.probabilities(observation[rows, :18]), every[rows][:, outputs], rtol=1e-4)
        gone = [column for column in range(6) if column not in outputs]
        assert (every[rows][:, gone] == 0).all()
    assert [run.games[problem].slots for problem in MIXED.task.problems] == [(1, 2), (0, 1, 2), (1, 2)]


def test_actions_reach_the_right_search(tmp_path: Path) -> None:
    """Slot 1 ascends and slot 2 looks one step ahead wherever they stand in a problem's own menu."""
    run = Course(MIXED.changed(budget=40.0, out=tmp_path), silent)
    run.env.seed(3)
    run.env.reset()
    for slot, names in ((1, ("normalized_ascent",)), (2, ("virtual_step",))):
        before = [part.venv.env.episodes.runs.ledger.cost.clone() for part in run.env._parts]
        run.env.step(np.full(12, 3 + slot))
        for part, problem, first in zip(run.env._parts, MIXED.task.problems, before, strict=True):
            environment = run.games[problem].training.environment
            chosen = [s for s in environment["searches"] if s["search"] in names]
            price = search_prices(problem, chosen, **environment)[0]
            spent = (part.venv.env.episodes.runs.ledger.cost - first).numpy()
            assert (spent <= price + 1e-9).all()
            assert spent.max() > 0.5 * price
        assert run.env.num_envs == 12


def test_it_plays_a_problem_it_has_not_seen(trained: LearnedSchedule) -> None:
    agent = trained.for_problem("Quadratic", learning_rate=0.5)
    assert agent.environment["learning_rate"] == 0.5
    assert agent.environment["rate_factors"] == [1.0, 0.5, 2.0]
    assert [s["search"] for s in agent.environment["searches"]] == ["normalized_ascent", "virtual_step"]
    check_agent(agent, "Quadratic")
    other = trained.for_problem("MatrixFactorization", symmetry="general_linear")
    assert other.environment["steps_per_action"] == 2
    assert other.prices != trained.for_problem("MatrixFactorization").prices
    with pytest.raises(ValueError, match="rate_factors"):
        trained.for_problem("Quadratic", rate_factors=[1.0, 3.0, 9.0])


def test_a_policy_for_one_problem_is_itself_there_and_nothing_elsewhere(trained: LearnedSchedule) -> None:
    booth = trained.for_problem("Booth")
    assert booth.for_problem("Booth") is booth
    assert booth.for_problem("Booth", learning_rate=0.1).environment["learning_rate"] == 0.1
    with pytest.raises(ValueError, match="trained on Booth, not on 'Rosenbrock'"):
        booth.for_problem("Rosenbrock")


def test_the_policy_for_several_says_whom_to_ask(trained: LearnedSchedule) -> None:
    with pytest.raises(ValueError, match="for_problem"):
        trained.predict(np.zeros((2, 18), dtype=np.float32))


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a slot twice": ({"slots": [1, 1]}, "a slot and a price"),
    "a slot beyond": ({"slots": [1, 3]}, "a slot and a price"),
    "a price less": ({"prices": [1.0]}, "a slot and a price"),
    "a slot that is no number": ({"slots": [1, "2"]}, "a slot and a price"),
    "a price that is none": ({"prices": [1.0, "2"]}, "prices must be numbers"),
    "slots of another type": ({"slots": 3}, "list of slots"),
    "another argument": ({"environment": {"device": "cuda"}}, "cannot set device"),
    "other rates": (
        {"environment": {"searches": [], "rate_factors": [1.0]}, "slots": [], "prices": []},
        "rate_factors",
    ),
    "more": ({"code": 1}, "must have an environment"),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_file_with_broken_families_is_refused(trained: LearnedSchedule, tmp_path: Path, change: str) -> None:
    path = trained.save(tmp_path / "policy.json")
    found = read_policy_file(path)
    more, reason = BROKEN[change]
    families = found.settings["families"]
    write_policy_file(
        path, {**found.settings, "families": {**families, "Booth": {**families["Booth"], **more}}}, found.tensors
    )
    with pytest.raises(PolicyFileError, match=reason):
        LearnedSchedule.load(path)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"slots": []}, "layer 0 must map"),
        ({"families": {}}, "families and slots"),
        ({"slots": ["balance_weights", "ascend", "astrology"]}, "slots must be"),
        ({"problems": ["Booth"]}, "a family for each"),
        ({"slots": [1, 2, 3]}, "must be names"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(
    trained: LearnedSchedule, tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    path = trained.save(tmp_path / "policy.json")
    found = read_policy_file(path)
    write_policy_file(path, {**found.settings, **more}, found.tensors)
    with pytest.raises(PolicyFileError, match=reason):
        LearnedSchedule.load(path)


# -- teachers ----------------------------------------------------------------------------------------------------------


def specialist(problem: str, out: Path, **settings: Any) -> Path:
    """A policy that is sure of one action in the first half of the budget and of another in the second."""
    alone = MIXED.alone(problem).changed(price_inputs=False, teachers=(), out=out, **settings)
    agent = LearnedSchedule(
        problems=(problem,),
        features=("budget_left",),
        layers=(
            (
                np.array([[8.0], [0.0], [-8.0], *[[0.0]] * (alone.settings().action_count - 3)], dtype=np.float32),
                np.array([-4.0, -9.0, 4.0, *[-9.0] * (alone.settings().action_count - 3)], dtype=np.float32),
            ),
        ),
        environment=alone.policy_environment(0.07),
    )
    return agent.save(out / f"{problem}.json")


def test_a_policy_is_cloned_from_its_teachers(tmp_path: Path) -> None:
    teacher = specialist("Booth", tmp_path)
    training = MIXED.changed(
        teachers=(teacher,), warm_start=False, hidden=(32, 32), plans=0, families={}, out=tmp_path / "t"
    )
    run = Course(training, silent)
    policy = run._policy().for_problem("Booth")
    assert policy.environment["learning_rate"] == 0.07
    shown = shown_by(training.alone("Booth"), LearnedSchedule.load(teacher), instances=16)
    np.testing.assert_allclose(shown.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    early = shown.observations[:, INDEX["budget_left"]] > 0.6
    late = shown.observations[:, INDEX["budget_left"]] < 0.4
    assert (shown.probabilities[early].argmax(axis=1) == 0).all()
    assert (shown.probabilities[late].argmax(axis=1) == 2).all()
    agrees = policy.logits(shown.observations).argmax(axis=1) == shown.probabilities.argmax(axis=1)
    assert agrees[early | late].mean() > 0.9
    # one without a teacher keeps the rate of the problem
    rate = run._policy().for_problem("Rosenbrock").environment["learning_rate"]
    assert rate == training.alone("Rosenbrock").settings().learning_rate


@pytest.mark.parametrize("problem", SEVEN)
def test_a_teacher_acts_in_the_generalists_environment(problem: str) -> None:
    together, alone = Training.of(**recipe(SEVEN)), Training.of(**teacher(problem))
    mine, its = (one.policy_environment(0.1) for one in (together.alone(problem), alone))
    # the generalist may have further searches; what both do, they call alike
    assert {name: mine[name] for name in mine if name != "searches"} == {
        name: its[name] for name in its if name != "searches"
    }
    assert [search for search in its["searches"] if search not in mine["searches"]] == []
    control = Training.of(**without_teleports(teacher(problem)))
    assert (control.task.searches, control.task.rate_factors) == ((), alone.task.rate_factors)


def test_a_problem_without_a_teacher_is_told() -> None:
    with pytest.raises(ValueError, match="not 'Digits'"):
        teacher("Digits")


def test_a_teacher_of_another_menu_is_told(tmp_path: Path) -> None:
    teacher = specialist("Booth", tmp_path, searches=("random",))
    with pytest.raises(ValueError, match="the teacher .* plays Booth in"):
        Course(MIXED.changed(teachers=(teacher,), out=tmp_path / "t"), silent)


# -- slots -------------------------------------------------------------------------------------------------------------


def test_slots_are_filled_with_what_serves_the_symmetry_and_can_be_paid() -> None:
    names = list(SLOTS)
    quadratic = dict(zip(names, fill("Quadratic", names), strict=True))
    assert [name for name, search in quadratic.items() if search] == ["ascend", "look", "sample", "guess", "steepest"]
    network = dict(zip(names, fill("MLPRegression", names), strict=True))
    assert network["balance_gradient"]["search"] == "closed_form"
    assert network["sample"] is None
    assert fill("MLPRegression", names, symmetry="permutation") == [None] * len(names)
    # a slot is empty where one teleport takes more than a quarter of the budget, and for no other reason
    matrix = {"symmetry": "scaling"}
    (look,) = fill("MatrixFactorization", ["look"], **matrix)
    (price,) = search_prices("MatrixFactorization", [look], **matrix)
    assert fill("MatrixFactorization", ["look"], budget=4.0 * price + 0.1, **matrix) == [look]
    assert fill("MatrixFactorization", ["look"], budget=4.0 * price - 0.1, **matrix) == [None]
    with pytest.raises(ValueError, match="slot .*got 'astrology'"):
        fill("Booth", ["astrology"])


def test_runs_begin_at_multiples_of_the_base_rate(tmp_path: Path) -> None:
    multiples = (0.5, 1.0, 8.0)
    training = MIXED.changed(plans=0, warm_start=False, families={}, runs=18, rate_multiples=multiples)
    course = Course(training.changed(out=tmp_path), silent)
    course.env.seed(0)
    course.env.reset()
    rates = [info["learning_rate"] for info in course.env.reset_infos]
    bases = [course.games[problem].learning_rate for problem in training.task.problems]
    assert rates == [multiple * base for base in bases for multiple in multiples for _ in range(2)]
    # the policy is chosen by what it gains at all of them, and plays from the base
    course.segment(0)
    course.env.close()
    policy = course.best[1]
    assert policy is not None
    for problem, game in course.games.items():
        agent = policy.for_problem(problem)
        assert agent.environment["learning_rate"] == game.learning_rate
        gained = []
        for multiple in multiples:
            changed = {**agent.environment, "learning_rate": multiple * game.learning_rate}
            one = dataclasses.replace(agent, environment=changed)
            played = play(
                problem, one, game.ids, split="validation", budget=game.training.task.budget, seed=VALIDATION_SEED
            )
            gained.append(np.mean([row["gained"] for row in played.rows]))
        assert len(set(gained)) > 1
        assert course.history[0][f"gained_{problem}"] == pytest.approx(np.mean(gained))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"runs": 13}, "multiple of 3, for 3 problems"),
        ({"rate_multiples": (0.25, 1.0, 4.0)}, "multiple of 9, .*3 rate_multiples and 1 goals, got 12"),
        ({"goals": 8}, "multiple of 24, .*8 goals, got 12"),
        ({"tolerance_multiples": (1.0, 1e-6)}, "the smaller one first"),
        ({"budget_multiples": (0.0, 1.0)}, "two positive numbers"),
        ({"rate_multiples": ()}, "one or more positive"),
        ({"rate_multiples": (1.0, 0.0)}, "one or more positive"),
        ({"masks": False, "price_inputs": False}, "need masks"),
        ({"families": {"Ellipse": {}}}, "Ellipse"),
        ({"families": {"Booth": {"rate_factors": (1.0,)}}}, "the family Booth must be .*got .rate_factors."),
        ({"problem": ("Booth", "Booth"), "families": {}}, "several different"),
        ({"searches": ("virtual_step",)}, "slot .*got 'virtual_step'"),
        ({"problem": ("Booth", "Bath"), "families": {}}, "got 'Bath'"),
    ],
)
def test_a_wrong_mixture_is_told(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MIXED.changed(**settings)
    with pytest.raises(ValueError, match="alone"):
        MIXED.settings()
