"""A learned schedule plays what its network says; a training learns, and is the same whether interrupted or not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import types
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fresh
from study.findings import SEVEN
from teleport_env.agents import Agent, agent_from
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.edge_rule import EdgeOfStability
from teleport_env.agents.known_score import SCORE
from teleport_env.agents.learning.course import VALIDATION_SEED, Course
from teleport_env.agents.learning.recipes import rate_only, recipe, teacher, whitening
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.learning.warm_start import check_rule, rule_from
from teleport_env.agents.learning.warm_start import shown as shown_by
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.agents.policies.file import CHECKPOINT, PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.slots import search_prices
from teleport_env.agents.schedules import Never
from teleport_env.agents.tuning.own_menu import Menu, plan_of, rule_of, search_plans, search_rules
from teleport_env.agents.tuning.plans import Plan
from teleport_env.agents.tuning.tuning import TUNING_SEED
from teleport_env.checks import check_agent
from teleport_env.envs.features import INDEX, NAMES
from teleport_env.files import checksum

MENU = {"searches": ["random", "virtual_step"], "rate_factors": [1.0, 0.5, 2.0]}


def network(*widths: int, seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    generator = np.random.default_rng(seed)
    return tuple(
        (generator.normal(size=(b, a)).astype(np.float32), generator.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(widths)
    )


def schedule(seed: int = 0, **settings: Any) -> LearnedSchedule:
    chosen: dict[str, Any] = {"features": NAMES, "environment": MENU, "layers": network(len(NAMES), 16, 5, seed=seed)}
    return LearnedSchedule(**{**chosen, **settings})


def observations(count: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES))).astype(np.float32)


# -- playing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"stochastic": True}, {"prices": (1.0, 2.5)}])
def test_it_is_an_agent_like_all_others(settings: dict[str, Any]) -> None:
    check_agent(schedule(**settings))


def test_the_network_is_the_usual_one() -> None:
    agent = schedule(layers=network(len(NAMES), 16, 8, 5))
    (w1, b1), (w2, b2), (w3, b3) = agent.layers
    seen = observations().astype(np.float64)
    expected = np.tanh(np.tanh(seen @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    np.testing.assert_allclose(agent.logits(observations()), expected, rtol=1e-12)
    np.testing.assert_array_equal(agent.predict(observations())[0], expected.argmax(axis=1))


def test_a_run_decides_alike_alone_and_among_others_bit_for_bit() -> None:
    agent, seen = schedule(), observations(301)
    together = agent.logits(seen)
    for row in (0, 1, 7, 300):
        np.testing.assert_array_equal(agent.logits(seen[row : row + 1])[0], together[row])


def test_features_are_read_by_name_and_in_the_policys_order() -> None:
    names = ("price", "log_loss")
    agent = schedule(features=names, layers=network(2, 5))
    weight, bias = agent.layers[0]
    seen = observations()
    expected = seen[:, [INDEX["price"], INDEX["log_loss"]]].astype(np.float64) @ weight.T + bias
    np.testing.assert_allclose(agent.logits(seen), expected, rtol=1e-12)
    more = np.concatenate([seen, np.full((len(seen), 3), 1e6, dtype=np.float32)], axis=1)  # observation="both"
    np.testing.assert_array_equal(agent.predict(more)[0], agent.predict(seen)[0])


def test_stochastic_play_draws_from_the_softmax() -> None:
    agent, count = schedule(layers=network(len(NAMES), 5)), 4000
    seen = np.repeat(0.3 * observations(1), count, axis=0)
    seen[:, INDEX["teleports"]] += np.linspace(
        0, 1e-4, count, dtype=np.float32
    )  # other runs, as good as the same place
    action, state = agent.predict(seen, deterministic=False)
    share = np.bincount(action, minlength=5) / count
    np.testing.assert_allclose(share, agent.probabilities(seen[:1])[0], atol=4 * 0.5 / count**0.5)
    again, _ = agent.predict(seen, deterministic=False)
    np.testing.assert_array_equal(action, again)
    later, _ = agent.predict(seen, state, deterministic=False)
    assert (later != action).any()
    other, _ = dataclasses.replace(agent, seed=1).predict(seen, deterministic=False)
    assert (other != action).any()


def test_the_mask_leaves_teleports_that_can_be_paid() -> None:
    free, masked = schedule(), schedule(prices=(1.0, 2.5))
    seen = observations(400)
    for price, payable in ((0.1, (True, True)), (0.5, (True, False)), (1.0, (False, False))):
        seen[:, INDEX["price"]] = price
        chosen = set(masked.predict(seen)[0].tolist())
        assert chosen == {0, 1, 2, *(3 + which for which in (0, 1) if payable[which])}
        assert set(free.predict(seen)[0].tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"features": ("log_loss", "astrology"), "layers": network(2, 5)}, "astrology"),
        ({"features": ()}, "features must be"),
        ({"features": ("price", "price"), "layers": network(2, 5)}, "different names"),
        ({"layers": network(len(NAMES), 16, 4)}, "4 outputs, but rate_factors and searches make 3 \\+ 2"),
        ({"layers": network(17, 16, 5)}, "layer 0 must map 18"),
        ({"layers": ()}, "18 outputs"),
        ({"activation": "swish"}, "tanh"),
        ({"prices": (1.0,)}, "prices must be 2"),
        ({"kind": "oracle"}, "kind of a learned schedule"),
    ],
)
def test_what_does_not_fit_is_told(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        schedule(**settings)


def test_observations_without_features_are_told() -> None:
    with pytest.raises(ValueError, match='observation="features"'):
        schedule().predict(np.zeros((3, 2), dtype=np.float32))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_loaded_policy_plays_as_the_saved_one(tmp_path: Path) -> None:
    agent = schedule(prices=(1.0, 2.0), name="mine", problems=("Booth",), provenance={"seed": 3})
    loaded = LearnedSchedule.load(agent.save(tmp_path / "policy.json"))
    np.testing.assert_array_equal(loaded.logits(observations()), agent.logits(observations()))
    for f in dataclasses.fields(agent):
        if f.name not in ("layers", "environment"):
            assert getattr(loaded, f.name) == getattr(agent, f.name)
    assert loaded.environment == MENU


CHANGES: dict[str, tuple[Mapping[str, Any], str]] = {
    "an unknown search": ({"environment": {**MENU, "searches": ["random", "os.system"]}}, "os.system"),
    "a setting of a search": ({"environment": {**MENU, "searches": ["random", {"search": "grid", "x": 1}]}}, "'x'"),
    "another argument": ({"environment": {**MENU, "problem": {"folder": "/"}}}, "cannot set problem"),
    "a device": ({"environment": {**MENU, "device": "cuda"}}, "cannot set device"),
    "rates": ({"environment": {**MENU, "rate_factors": [1.0, -1.0, 2.0]}}, "positive numbers"),
    "steps": ({"environment": {**MENU, "steps_per_action": 1.5}}, "steps_per_action"),
    "an optimizer": ({"environment": {**MENU, "optimizer": "lion"}}, "lion"),
    "a menu of another type": ({"environment": {**MENU, "searches": "random"}}, "wrong type"),
    "a name of another type": ({"name": 3}, "wrong type"),
    "a seed of another type": ({"seed": True}, "wrong type"),
    "a feature of another type": ({"features": [3] * 18}, "must be names"),
    "an unknown feature": ({"features": [*NAMES[:-1], "astrology"]}, "astrology"),
    "one setting more": ({"code": "print(1)"}, "the settings are"),
    "another activation": ({"activation": "eval"}, "tanh"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_asks_for_more_is_refused(tmp_path: Path, change: str) -> None:
    path = schedule().save(tmp_path / "policy.json")
    found = read_policy_file(path)
    more, reason = CHANGES[change]
    write_policy_file(path, {**found.settings, **more}, found.tensors)
    with pytest.raises(PolicyFileError, match=reason):
        LearnedSchedule.load(path)


NAMES_TO_REFUSE = {
    "markup": "<script>alert(1)</script>",
    "an entity": "a&lt;b",
    "a formula": "=HYPERLINK(1)",
    "another formula": "+1",
    "a switch": "-rf",
    "a path": "../../etc/passwd",
    "five thousand letters": "x" * 5000,
    "nothing": "",
    "a blank": " learned",
    "two lines": "learned\nlearned",
    "terminal codes": "\x1b[2Jlearned",
    "a lone surrogate": "learned\ud800",
    "letters from right to left": "learned\u202e",
    "a cell": "a|b",
}


@pytest.mark.parametrize("what", ["name", "problems"])
@pytest.mark.parametrize("name", NAMES_TO_REFUSE)
def test_a_name_that_tables_and_terminals_should_not_meet_is_refused(tmp_path: Path, name: str, what: str) -> None:
    """Regression: the name in a policy's file went unread into pages, spreadsheets and terminals."""
    bad = NAMES_TO_REFUSE[name]
    path = schedule().save(tmp_path / "policy.json")
    content = json.loads(path.read_text())
    content["settings"][what] = bad if what == "name" else [bad]
    content["sha256"] = checksum(content)
    path.write_text(json.dumps(content))
    with pytest.raises(PolicyFileError, match=r"a name must be 1 to 80 letters|control characters"):
        LearnedSchedule.load(path)
    with pytest.raises(ValueError, match="a name must be 1 to 80 letters"):
        schedule(**{what: bad if what == "name" else (bad,)})  # or it would be written and not be read


def test_names_of_all_languages_are_allowed(tmp_path: Path) -> None:
    agent = schedule(name="Règle no 2, 学習 (plan 3; rate *0.5)")
    assert LearnedSchedule.load(agent.save(tmp_path / "policy.json")).name == agent.name


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    path = schedule().save(tmp_path / "policy.json")
    found = read_policy_file(path)
    for tensors in ({**found.tensors, "more": np.zeros(1)}, {}, {**found.tensors, "layer.1.weight": np.zeros((5, 15))}):
        write_policy_file(path, found.settings, tensors)
        with pytest.raises(PolicyFileError, match="is refused"):
            LearnedSchedule.load(path)


def test_playing_loads_no_training_library(tmp_path: Path) -> None:
    path = schedule().save(tmp_path / "policy.json")
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.split('.')[0] == 'stable_baselines3':
            raise ImportError('stable-baselines3 is not installed')
sys.meta_path.insert(0, Absent())
import gymnasium as gym
from teleport_env.agents.policies.learned import LearnedSchedule
agent = LearnedSchedule.load({str(path)!r})
env = gym.make('teleport_env:Teleport/Rosenbrock-v0', **agent.environment)
observation, _ = env.reset(seed=0)
env.step(agent.predict(observation)[0])
print('played')
"""
    done = fresh.run(["-c", code])
    assert done.stdout == "played\n", done.stderr


# -- plans -------------------------------------------------------------------------------------------------------------

FLATTEN = Training.of(
    problem="MatrixFactorization",
    searches=("balance_weights", "virtual_step_fit_rate"),
    rate_factors=(1.0, 0.5, 2.0, 4.0),
    steps_per_action=2,
    plans=12,
)


def test_plans_play_side_by_side_as_alone() -> None:
    plans = [
        Plan(0.05),
        Plan(0.01, up=4.0, warmup=4, down=0.5, decay_every=10, which=0, first=3, every=12),
        Plan(0.02, up=2.0, warmup=2, which=1, every=6),
        Plan(0.02, down=0.5, decay_every=6, which=0, first=1),
    ]
    ids = draw_instances(FLATTEN.task.problem, "train", 6, 0)
    environment = FLATTEN.policy_environment(0.05)
    agents = [plan.agent(environment) for plan in plans]
    gained = play_many(FLATTEN.only, agents, ids, split="train", seed=5)
    for agent, expected in zip(agents, gained, strict=True):
        alone = play(FLATTEN.task.problem, agent, ids, split="train", seed=5)
        assert alone.gained.tolist() == expected.tolist()
    assert len({round(float(row.mean()), 6) for row in gained}) == len(plans)


def test_the_search_for_plans_finds_better_than_plain_descent() -> None:
    base = FLATTEN.settings().learning_rate
    environment = FLATTEN.policy_environment(base)
    found = search_plans(Menu(FLATTEN.only, environment, 64, instances=16))
    plain = [Plan(base * 2.0**k) for k in range(-4, 5)]
    ids = draw_instances(FLATTEN.task.problem, "train", 40, 77)
    agents = [plan.agent(environment) for plan in (Plan(**found["plan"]), *plain)]
    gained = play_many(FLATTEN.only, agents, ids, split="train")
    assert gained[0].mean() > gained[1:].mean(axis=1).max() + 0.5
    assert found["gained"] == pytest.approx(gained[0].mean(), abs=1.5)
    assert 60 <= found["tried"] <= 64 + 4 * 2 * 8  # and four rounds of refinement, two neighbours of each setting
    assert found["episodes"] >= found["tried"] * 16 + 8 * 160


def test_a_search_for_plans_chooses_by_the_return_of_the_reward() -> None:
    """A schedule that ends low late is worth less by the score than one that is early."""
    menu = Menu(FLATTEN.only, FLATTEN.policy_environment(FLATTEN.settings().learning_rate), 32, instances=8)
    found = [search_plans(dataclasses.replace(menu, reward=reward)) for reward in (None, "score")]
    ids = draw_instances(FLATTEN.only, "train", 88, TUNING_SEED)[8:]
    agents = [Plan(**one["plan"]).agent(menu.environment) for one in found]
    returned = play_many(FLATTEN.only, agents, ids, split="train", seed=TUNING_SEED, reward="score").mean(axis=1)
    assert found[1]["gained"] == pytest.approx(returned[1])
    assert returned[1] > returned[0]


# -- rules -------------------------------------------------------------------------------------------------------------


def test_the_search_for_rules_finds_better_than_the_first_ones() -> None:
    training = Training.of(problem="Rosenbrock")
    found = search_rules(
        Menu("Rosenbrock", training.policy_environment(training.settings().learning_rate), 32, instances=8)
    )
    policy = schedule(provenance={"rule": json.loads(json.dumps(found))})
    agent = rule_of(policy)
    assert agent is not None
    assert agent.kind == "adaptive"
    assert agent.name == "best rule of learned"
    ids = draw_instances("Rosenbrock", "train", 40, 77)

    def worth(one: Agent) -> float:
        return float(np.mean([row["gained"] for row in play("Rosenbrock", one, ids, split="train").rows]))

    assert worth(agent) > worth(agent_from("stall")) + 0.4
    assert found["gained"] == pytest.approx(worth(agent), abs=1.5)
    assert 32 <= found["tried"] <= 32 + 2 * 40
    assert found["episodes"] >= found["tried"] * 8 + 8 * 80


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "never"},
        {"settings": {"threshold": -1.0}},
        {"settings": {"code": 1}},
        {"environment": {"device": "cuda"}},
        {"environment": 3},
    ],
)
def test_a_wrong_rule_in_a_file_is_told(change: dict[str, Any]) -> None:
    found = {"rule": "stall", "settings": {"threshold": 0.1}, "environment": {"searches": ["random"]}}
    assert rule_of(schedule(provenance={"rule": found})) is not None
    with pytest.raises(ValueError, match="is none"):
        rule_of(schedule(provenance={"rule": {**found, **change}}))
    assert rule_of(schedule()) is None


# -- training ----------------------------------------------------------------------------------------------------------

TINY = Training.of(
    problem="Booth",
    searches=("random",),
    rate_factors=(1.0, 2.0),
    steps_per_action=1,
    decisions=4 * 8 * 8 * 2,
    runs=8,
    rollout=8,
    segment=2,
    minibatches=2,
    hidden=(8, 8),
    plans=3,
    rules=2,
    warm_start=True,
    critic_segments=1,
    validation_instances=4,
)


def silent(line: str) -> None:
    pass


GOALS: dict[str, Any] = {"goals": 4, "tolerance_multiples": (1e-6, 1.0), "budget_multiples": (0.5, 2.0)}


@pytest.mark.parametrize("settings", [GOALS, {"algorithm": "a2c"}], ids=["ppo, goals", "a2c"])
def test_a_training_that_is_cut_off_ends_where_it_would_have_ended(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = TINY.changed(**settings, out=tmp_path / "whole")
    parts = whole.changed(out=tmp_path / "parts")
    assert whole.schedule.segments == 4
    train(whole, silent)
    for until in (1, 3, None):
        np.random.seed(until)  # noqa: NPY002 (what others draw globally does not matter)
        torch.manual_seed(until or 7)
        train(parts, silent, until=until)
    assert_same_files(whole.out, parts.out)


def assert_same_files(*folders: Path) -> None:
    """Two trainings wrote the same, but for where."""
    for name in ("checkpoint.json", "policy.json", "training.json"):
        first, second = (json.loads((folder / name).read_text()) for folder in folders)
        for content in (first, second):
            content.pop("sha256", None)
            content.get("settings", content).get("training", {}).pop("out", None)
        assert first == second, name


class Late(Executor):
    """Does what it was given when somebody waits for the answer; ``asked`` has the names."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        self.asked.append(function.__name__)
        answer: Future[Any] = Future()
        answer.result = lambda timeout=None: function(*arguments, **named)  # type: ignore[method-assign]
        return answer


@pytest.mark.parametrize(
    ("settings", "beside"),
    [
        ({}, ["search_rules"]),
        ({"warm_start": False, "critic_segments": 0, "learning_rate": 0.05}, ["search_plans", "search_rules"]),
    ],
    ids=["learns from the plan", "needs no search"],
)
def test_searches_beside_a_training_change_nothing(tmp_path: Path, settings: dict[str, Any], beside: list[str]) -> None:
    before = TINY.changed(**settings, decisions=256, out=tmp_path / "before")
    during = before.changed(out=tmp_path / "during")
    train(before, silent)
    late, said = Late(), list[str]()
    train(during, said.append, until=1, beside=late)
    assert late.asked == beside
    assert sum(line.startswith("The best of") for line in said) == 2  # an interruption waits for the searches too
    assert not [line for line in said if "Plan(" in line or "{" in line], "a reader wants words"
    train(during, silent, beside=late)
    assert_same_files(before.out, during.out)


def test_every_segment_has_other_finish_lines(tmp_path: Path) -> None:
    """Each part of the runs has its own, the parts cover the range, and the policy is chosen at both ends of it."""
    usual = TINY.settings()
    course = Course(TINY.changed(**GOALS, out=tmp_path), silent)
    seen = []
    for segment in (0, 1):
        course.segment(segment)
        runs = course.env.get_attr("settings")
        ends = list(dict.fromkeys((s.tolerance / usual.tolerance, s.budget / usual.budget) for s in runs))
        assert len(ends) == 4
        quarters = np.sort(np.log10([tolerance for tolerance, _ in ends]))
        assert (quarters >= [-6, -4.5, -3, -1.5]).all()
        assert (quarters <= [-4.5, -3, -1.5, 0]).all()
        assert all(0.5 <= budget <= 2 for _, budget in ends)
        seen += ends
    assert len(set(seen)) == 8
    course.env.close()
    _, policy = course.best
    assert policy is not None
    ids = course.games["Booth"].ids
    gained = [
        play_many("Booth", [policy], ids, split="validation", seed=VALIDATION_SEED, settings={"tolerance": tolerance})
        for tolerance in (usual.tolerance, 1e-6 * usual.tolerance)
    ]
    best = max(course.history, key=lambda entry: entry["gained"])
    assert best["gained"] == pytest.approx(np.mean(gained))


def test_a_training_chooses_policies_and_plans_by_the_return_of_its_reward(tmp_path: Path) -> None:
    training = TINY.changed(reward="score", rules=0, out=tmp_path)
    course = Course(training, silent)
    assert {settings.reward.name for settings in course.env.get_attr("settings")} == {"score"}
    environment = training.policy_environment(training.settings().learning_rate)
    menu = Menu("Booth", environment, 3, instances=2 * training.schedule.validation_instances, reward="score")
    assert course.plans["Booth"] == search_plans(menu)
    policy, _, worth = course._best_play()
    ids = course.games["Booth"].ids
    returned = play_many("Booth", [policy], ids, split="validation", seed=VALIDATION_SEED, reward="score")
    assert worth["Booth"] == pytest.approx(returned.mean())
    course.env.close()


RULE = {
    "agent": "edge_of_stability",
    "learning_rate": 0.0525,
    "searches": [1],
    "up": 1.3,
    "down": 0.5,
    "edge": 1.0,
}
RULED = TINY.changed(
    rule=RULE,
    searches=("random", {"search": "normalized_ascent", "steps": 1}),
    rate_factors=(0.5, 1.0, 1.3),
    warm_start=False,
    plans=0,
    rules=0,
)


def test_a_rule_is_cloned_action_by_action(tmp_path: Path) -> None:
    rule = rule_from(RULED)
    assert rule is not None
    # the rule's own factors are 1, up, down, and its one search is the menu's second
    assert check_rule(RULED, rule).tolist() == [1, 2, 0, 4]
    shown = shown_by(RULED, rule, instances=64)
    likeliest = shown.probabilities.argmax(axis=1)
    assert set(likeliest) == {0, 2, 4}
    assert shown.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert shown.probabilities.min() == pytest.approx(0.1 / 5)
    surer = shown_by(RULED.changed(smoothing=0.02), rule, instances=64)
    assert surer.probabilities.min() == pytest.approx(0.02 / 5)
    assert (surer.probabilities.argmax(axis=1) == likeliest).all()
    # it is what the rule does: at the edge of stability the rate falls, and where a step promises little it teleports
    promise = 10.0 ** (2.0 * shown.observations[:, INDEX["rate_decrease"]].astype(np.float64))
    assert np.median(promise[likeliest == 4]) < 1.0 < np.median(promise[likeliest == 0])
    # so a network that was taught, and learned no more, plays like the rule
    lines: list[str] = []
    taught = RULED.changed(critic_segments=4, temperatures=(0.0,), hidden=(64, 64), out=tmp_path)
    policy = train(taught, lines.append).policy
    assert isinstance(policy, LearnedSchedule)
    assert policy.environment["learning_rate"] == 0.0525
    ids = draw_instances("Booth", "validation", 64, seed=3)
    its, bare = (
        np.mean([row["gained"] for row in play("Booth", agent, ids, split="validation").rows])
        for agent in (rule, Never(environment={"learning_rate": 0.0525}))
    )
    mine = np.mean([row["gained"] for row in play("Booth", policy, ids, split="validation").rows])
    assert mine - bare > 0.8 * (its - bare) > 2.0


@pytest.mark.parametrize(("rate", "cloned"), [(0.0525, EdgeOfStability), (1e-6, Plan)])
def test_the_better_of_rule_and_plan_is_cloned(rate: float, cloned: type, tmp_path: Path) -> None:
    training = RULED.changed(rule={**RULE, "learning_rate": rate}, warm_start=True, plans=2, out=tmp_path)
    course = Course(training, silent)
    game = course.games["Booth"]
    assert isinstance(game.teacher, cloned)
    assert (game.learning_rate == rate) == (cloned is EdgeOfStability)
    course.env.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agent": "astrology"}, "astrology"),
        ({"up": 7.0}, r"rate factor 7.0, but the training \[0.5, 1.0, 1.3\]"),
        ({"searches": [5]}, "searches of the rule must be indices of the menu, below 2"),
        ({"learning_rate": None}, "learning_rate"),
        ({"searches": []}, r"search 0 of its own, but its searches are \[\]"),
        ({"which": 1}, r"search 1 of its own, but its searches are \[1\]"),
        ({"agent": "momentum", "searches": [], "up": None, "down": None, "edge": None}, "asks for optimizer"),
    ],
)
def test_a_rule_that_cannot_teach_is_told(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    changed = {key: value for key, value in {**RULE, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=reason):
        train(RULED.changed(rule=changed, out=tmp_path), silent)


def test_a_segment_that_is_too_short_for_an_episode_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    short = TINY.changed(decisions=1, plans=0, rules=0, warm_start=False, critic_segments=0, out=tmp_path)
    assert (short.task.longest, short.schedule.rollout * short.schedule.segment) == (24, 16)
    train(short, lines.append)
    assert any("up to 24 decisions, but a segment ends after 16" in line for line in lines)
    lines.clear()
    train(short.changed(segment=3, out=tmp_path / "long"), lines.append)
    assert not any("a segment ends" in line for line in lines)


def test_seeds_make_different_trainings(tmp_path: Path) -> None:
    """Without which the test above could not fail."""
    found = [train(TINY.changed(seed=seed, decisions=128, out=tmp_path / str(seed)), silent) for seed in (0, 1)]
    assert (found[0].policy.layers[0][0] != found[1].policy.layers[0][0]).any()


def test_a_training_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    """Regression: it left torch with one thread."""
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        train(TINY.changed(decisions=128, out=tmp_path), silent)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_checkpoint_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    train(TINY.changed(out=tmp_path), silent, until=1)
    with pytest.raises(ValueError, match="other settings"):
        train(TINY.changed(out=tmp_path, seed=5), silent)
    path = tmp_path / "checkpoint.json"
    saved = read_policy_file(path, CHECKPOINT)
    for settings, tensors in (
        (saved.settings, {name: value for name, value in saved.tensors.items() if not name.startswith("policy.")}),
        (saved.settings, {**saved.tensors, "policy.action_net.bias": np.zeros(7)}),
        ({name: value for name, value in saved.settings.items() if name != "history"}, saved.tensors),
    ):
        write_policy_file(path, settings, tensors, CHECKPOINT)
        with pytest.raises(PolicyFileError, match="is refused"):
            train(TINY.changed(out=tmp_path), silent)
    write_policy_file(path, saved.settings, saved.tensors, CHECKPOINT)
    train(TINY.changed(out=tmp_path), silent, until=2)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(PolicyFileError, match="is refused"):
        train(TINY.changed(out=tmp_path), silent)


def test_a_saved_policy_is_the_trained_network(tmp_path: Path) -> None:
    found = train(TINY.changed(out=tmp_path), silent)
    loaded = LearnedSchedule.load(tmp_path / "policy.json")
    np.testing.assert_array_equal(loaded.logits(observations()), found.policy.logits(observations()))
    assert found.gained == max(entry["gained"] for entry in found.history)
    assert plan_of(loaded) == Plan(**found.plans["Booth"]["plan"]).agent(
        loaded.environment, name="best plan of learned"
    )
    check_agent(loaded, "Booth")


def test_the_way_of_playing_that_gains_most_is_kept(tmp_path: Path) -> None:
    """Drawing from sharper logits is a stochastic policy with a larger last layer, through files and checkpoints too."""
    training = TINY.changed(temperatures=(0.5,), out=tmp_path)
    train(training, silent, until=1)
    found = train(training, silent, until=2)
    loaded = LearnedSchedule.load(tmp_path / "policy.json")
    assert loaded.stochastic
    run = Course(training, silent)
    assert run.best[1] is not None
    assert run.best[1].stochastic
    plain, sharp = run._policy(), run._policy(0.5)
    assert not plain.stochastic
    seen = observations()
    np.testing.assert_allclose(sharp.logits(seen), 2 * plain.logits(seen), rtol=1e-5)
    assert all(entry["temperature"] == 0.5 for entry in found.history)
    both = Course(training.changed(temperatures=(0.0, 0.5, 1.0), out=tmp_path / "other"), silent)
    ids = draw_instances("Booth", "validation", both.training.schedule.validation_instances, VALIDATION_SEED)
    settings = {"split": "validation", "budget": both.training.task.budget, "seed": VALIDATION_SEED}
    worth = {t: play("Booth", both._policy(t), ids, **settings).gained.mean() for t in (0.0, 0.5, 1.0)}
    assert len(set(worth.values())) > 1
    _, temperature, gained = both._best_play()
    assert worth[temperature] == max(worth.values()) == np.mean([*gained.values()])


def test_a_wrong_plan_in_a_file_is_told() -> None:
    with pytest.raises(ValueError, match="is none"):
        plan_of(schedule(provenance={"plan": {"plan": {"learning_rate": 0.1, "code": 1}}}))
    assert plan_of(schedule()) is None


def test_a_learner_learns(tmp_path: Path) -> None:
    """On Booth's function one step with four times the rate and then none like it; 20 thousand decisions suffice."""
    training = TINY.changed(
        decisions=24_000, runs=64, rollout=16, minibatches=4, hidden=(32, 32), warm_start=False, critic_segments=0
    )
    training = training.changed(searches=None, rate_factors=(1.0,), plans=24, rules=0, segment=4, out=tmp_path)
    found = train(training, silent)
    ids = draw_instances("Booth", "validation", 128, 5)

    def worth(agent: Agent) -> float:
        return float(np.mean([row["gained"] for row in play("Booth", agent, ids, split="validation").rows]))

    plain = agent_from("never", environment={"learning_rate": found.policy.environment["learning_rate"]})
    assert worth(found.policy) > worth(plain) + 1.0


def test_tensorboard_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    found = train(TINY.changed(decisions=256, tensorboard=True, out=tmp_path), silent)
    gained = [(value, step) for name, value, step in written if name == "schedule/gained"]
    assert gained == [(entry["gained"], entry["decisions"]) for entry in found.history]
    assert any(name == "train/value_loss" for name, _, _ in written)
    last = {name: value for name, value, _ in written}
    assert last["rollout/ep_rew_mean"] == pytest.approx(found.history[-1]["return"])
    assert last["rollout/ep_len_mean"] >= 1
    assert 0 <= last["rollout/diverged_share"] <= 1
    assert last["rollout/teleports_mean"] >= 0
    assert last["time/fps"] > 0
    assert written[-1][0] == "closed"
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"teleport-env\[train\]"):
        train(TINY.changed(tensorboard=True, out=tmp_path / "other"), silent)


def test_a_policy_is_a_row_of_the_comparison(tmp_path: Path) -> None:
    found = train(TINY.changed(decisions=128, out=tmp_path / "t", name="mine"), silent)
    mine = "mine, fallback" if found.below else "mine"
    study = Study(
        problems=("Booth", "Rosenbrock"),
        agents=("never",),
        policies=(tmp_path / "t" / "policy.json",),
        split="validation",
        instances=3,
        seeds=1,
        budget=12,
        tuning_instances=2,
        references=False,
        jobs=1,
        out=tmp_path / "c",
    )
    results = run_study(study, silent)["results"]
    agents = {problem: set(rows["agent"]) for problem, rows in results[results["kind"] != "oracle"].groupby("problem")}
    assert agents == {"Booth": {"never", mine, "best plan of mine", "best rule of mine"}, "Rosenbrock": {"never"}}
    assert set(results[results["agent"] == mine]["kind"]) == {"learned"}
    other = tmp_path / "other.json"
    other.write_bytes(study.policies[0].read_bytes())
    with pytest.raises(ValueError, match="--name"):
        run_study(dataclasses.replace(study, policies=(*study.policies, other)), silent)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", sorted({*SEVEN, *SCORE}))
def test_every_recipe_is_a_training(problem: str) -> None:
    momentum = Training.of(**{"optimizer": "momentum", **recipe(problem, "momentum")})
    assert momentum.task.on_teleport == "reset"
    assert momentum.task.searches == tuple(teacher(problem)["searches"])
    assert momentum.schedule.rollout * momentum.schedule.segment >= momentum.task.longest
    assert recipe(problem, "gd_line_search") == recipe(problem)
    for reward in (None, "score"):
        control = Training.of(**rate_only(problem, reward=reward))
        assert not control.teaching.rule
        assert not control.settings().searches
        assert control.control
        training = Training.of(**recipe(problem, reward=reward))
        assert (training.task.problem, training.task.reward) == (problem, reward)
        rule_from(training)  # its rule, if it has one, does what its actions can
        assert training.schedule.rollout * training.schedule.segment >= training.task.longest
        environment = json.loads(json.dumps(training.policy_environment(0.1)))
        assert environment["rate_factors"] == list(training.task.rate_factors)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"runs": 0}, "runs must be an integer of at least 1 and at most 1000000, got 0"),
        ({"algorithm": "dqn"}, "'ppo', 'a2c'"),
        ({"features": ("astrology",)}, "astrology"),
        ({"rate_factors": (2.0,)}, "1.0 must be among"),
        ({"plans": 0, "warm_start": True}, "plans must be"),
        ({"minibatches": 3}, "minibatches must divide"),
        ({"discount": 1.5}, "discount"),
        ({"step_size": 0.0}, "step_size"),
        ({"temperatures": (-1.0,)}, "temperatures"),
        ({"searches": ("astrology",)}, "astrology"),
        ({"rule": {"agent": "stall"}, "teachers": (Path("p"),)}, "asked for: teachers. A recipe may bring"),
        (
            {"rule": {"agent": "stall", "learning_rate": 0.1}, "learning_rate": 0.2},
            "rate, 0.1; learning_rate must be None",
        ),
        ({"problem": "Both"}, "got 'Both'"),
    ],
)
def test_a_wrong_setting_is_told(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Training.of(**settings)


@pytest.mark.parametrize("problem", ["MatrixFactorization", "LinearNetwork", "MLPRegression"])
def test_whitening_recipes_can_be_trained_and_paid(problem: str) -> None:
    training = Training.of(**whitening(problem))
    prices = search_prices(problem, training.settings().searches, **training.environment)
    assert max(prices) < training.settings().budget / 4
    with pytest.raises(ValueError, match="whitening serves .* not 'Booth'"):
        whitening("Booth")


# -- before the work ---------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """Regression: it was found when the first segment was over."""
    (tmp_path / "file").write_text("mine")
    lines: list[str] = []
    for out in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(ValueError, match="nothing can be written into the folder .*file"):
            train(TINY.changed(out=out), lines.append)
    assert lines == []
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("problem", ["MNISTSmall", ("Booth", "MNISTSmall")])
def test_missing_data_are_told_before_the_work(problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: those of a single problem were missed within the search for its schedules."""
    monkeypatch.setenv("TELEPORT_ENV_DATA", str(tmp_path))
    lines: list[str] = []
    with pytest.raises(FileNotFoundError, match="MNIST"):
        train(Training.of(problem=problem, plans=2, rules=0, out=tmp_path / "t"), lines.append)
    assert lines == []


def test_a_training_leaves_whole_files_and_no_drafts(tmp_path: Path) -> None:
    """Regression: what a killed process had begun to write stayed for ever."""
    left = tmp_path / ".checkpoint.json.draft-0123456789abcdef.json"
    left.write_text("half")
    os.utime(left, (0, 0))
    train(TINY.changed(decisions=128, plans=0, rules=0, warm_start=False, out=tmp_path), silent)
    assert {path.name for path in tmp_path.iterdir()} == {"policy.json", "checkpoint.json", "training.json"}
