"""A policy below one of its rivals says so and keeps that as its fallback, and the script warns; teleports must pay."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import judge as judging
import numpy as np
import pytest
import train as script

from teleport_env.agents import Agent, Never, agent_for
from teleport_env.agents.comparison import report
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.learning import fallback
from teleport_env.agents.learning.fallback import JUDGE_SEED, MASKED, PLAIN, PLAN, RULE, SHIPPED_RULE, judge, judged
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.learning.warm_start import rule_from
from teleport_env.agents.naming import best_rule
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.policies.learned_moves import LearnedMoves, load_policy
from teleport_env.agents.tuning.own_menu import fallback_of
from teleport_env.agents.tuning.plans import Plan
from teleport_env.envs.features import INDEX, NAMES

TINY: dict[str, Any] = {"runs": 4, "rollout": 4, "segment": 1, "minibatches": 1, "decisions": 16}
TINY |= {"validation_instances": 6, "rules": 0, "plans": 0}
IDS = draw_instances("Booth", "validation", 6, JUDGE_SEED)


def gained(agent: Any, reward: str | None = None, **settings: Any) -> float:
    shared: dict[str, Any] = {"split": "validation", "seed": JUDGE_SEED, "settings": settings}
    return float(play_many("Booth", [agent], IDS, reward=reward, **shared).mean())


def always(action: int, training: Training, rate: float) -> LearnedSchedule:
    environment = training.policy_environment(rate)
    outputs = len(environment["rate_factors"]) + len(environment["searches"])
    bias = np.where(np.arange(outputs) == action, 1.0, 0.0).astype(np.float32)
    layer = (np.zeros((outputs, len(NAMES)), dtype=np.float32), bias)
    return LearnedSchedule(problems=("Booth",), features=NAMES, layers=(layer,), environment=environment)


def test_only_a_policy_below_its_rivals_has_a_fallback(tmp_path: Path) -> None:
    training = Training.of(**{**recipe("Booth"), **TINY})
    usual = training.settings().learning_rate
    plain = always(0, training, usual)  # plain descent itself: it is not below
    assert judged(plain, {"Booth": (training, usual)}, {}) == (plain, {})
    lower = always(1, training, usual)  # it halves its rate before every step
    policy, said = judged(lower, {"Booth": (training, usual)}, {})
    own, other = gained(lower), gained(Never(environment={"learning_rate": usual}))
    assert own < other
    assert said == {
        "Booth": f"on Booth the policy gains {own:.2f} orders of magnitude, and {PLAIN} {other:.2f}, both on "
        "other validation instances than those that chose the policy"
    }
    plays = fallback_of(policy)
    assert plays is not None
    assert (plays.name, plays.kind) == ("learned, fallback", "learned")
    assert gained(plays) == other
    assert fallback_of(plain) is None
    # Regression: by its name it was refused, because it names no teleport
    path = policy.save(tmp_path / "policy.json")
    assert gained(agent_for("Booth", str(path))) == other
    assert agent_for("Booth", f"{path}:name=mine").name == "mine"
    # a plan that is better than both is the fallback
    content = {"learning_rate": 1.5 * usual}
    planned = gained(Plan(**content).agent(lower.environment))
    assert planned != other
    better, _ = judged(lower, {"Booth": (training, usual)}, {"Booth": {"plan": content}})
    assert better.provenance["fallback"]["what"] == (PLAN if planned > other else PLAIN)
    assert better.provenance["fallback"]["gained"] == max(planned, other)


def teleporting(training: Training, rate: float, search: int, **settings: Any) -> LearnedSchedule:
    """It teleports by a search of the menu while more than three quarters of the budget are left, and steps after that."""
    environment = training.policy_environment(rate)
    weight = np.zeros((len(environment["rate_factors"]) + len(environment["searches"]), len(NAMES)), dtype=np.float32)
    bias = np.full(len(weight), -900.0, dtype=np.float32)
    bias[0], bias[-len(environment["searches"]) + search] = 0.0, -75.0
    weight[-len(environment["searches"]) + search, INDEX["budget_left"]] = 100.0
    return LearnedSchedule(
        problems=("Booth",), features=NAMES, layers=((weight, bias),), environment=environment, **settings
    )


BEST, WASTED = {"search": "closed_form"}, {"search": "normalized_descent"}
"""The best teleport on a level set, and one towards flat ground, which costs evaluations too."""


@pytest.mark.parametrize("stochastic", [False, True])
def test_a_policy_keeps_its_teleports_only_where_they_pay(stochastic: bool, tmp_path: Path) -> None:
    training = Training.of(**{**recipe("Booth"), **TINY, "searches": (BEST, WASTED)})
    usual = training.settings().learning_rate
    pays, harms = (teleporting(training, usual, search, stochastic=stochastic) for search in (0, 1))
    for policy in (pays, harms):
        assert all(row["teleports"] for row in play("Booth", policy, IDS, split="validation").rows)
    trainings = {"Booth": (training, usual)}
    assert gained(pays) > gained(Masked(policy=pays))
    assert judged(pays, trainings, {}) == (pays, {})
    without, said = judged(harms, trainings, {})
    content = without.provenance["fallback"]
    assert content == {"masked": True, "what": MASKED, "gained": content["gained"], "policy_gained": gained(harms)}
    assert f"and {MASKED} " in said["Booth"]
    # the file holds the policy as it was trained, and what plays are its steps alone
    path = without.save(tmp_path / "policy.json")
    for agent in (fallback_of(load_policy(path)), agent_for("Booth", str(path))):
        assert isinstance(agent, Masked)
        assert (agent.name, agent.kind) == ("learned, fallback", "learned")
        assert gained(agent) == content["gained"] == gained(Masked(policy=harms)) > gained(harms)
        own, control = (play("Booth", one, IDS, split="validation") for one in (agent, Masked(policy=harms)))
        assert own.actions is not None
        assert own.actions.max() == 0
        np.testing.assert_array_equal(own.actions, control.actions)
    # settings of the environment were not judged
    assert isinstance(agent_for("Booth", f"{path}:learning_rate=0.1"), LearnedSchedule)
    moves = of_the_group_mode()
    with pytest.raises(
        ValueError, match="the fallback in the file of the policy 'learned' is none: a policy of the group"
    ):
        fallback_of(dataclasses.replace(moves, provenance={"fallback": content}))


def of_the_group_mode() -> LearnedMoves:
    bias = np.zeros(2, dtype=np.float32)
    layer = (np.zeros((2, len(NAMES)), dtype=np.float32), bias)
    return LearnedMoves(features=NAMES, layers=(layer,), deviation=bias, environment={"action_mode": "group"})


def play_as(monkeypatch: pytest.MonkeyPatch, gained: dict[str, tuple[list[float], list[float]]]) -> None:
    """Let a policy, with its teleports and without, gain this on each problem, and all others 2.0 throughout."""

    def scores(problem: str, agents: list[Any], ids: Any, **settings: Any) -> np.ndarray:
        return np.array([*gained[problem], *([[2.0, 2.0]] * (len(agents) - 2))])

    monkeypatch.setattr(fallback, "play_many", scores)


def test_a_tie_takes_teleports_out_but_what_never_teleports_has_none_to_take_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = Training.of(**{**recipe("Booth"), **TINY})
    usual = training.settings().learning_rate
    policy, trainings = always(0, training, usual), {"Booth": (training, usual)}
    play_as(monkeypatch, {"Booth": ([1.0, 3.0], [2.5, 1.5])})
    assert judged(policy, trainings, {})[0].provenance["fallback"]["what"] == MASKED
    play_as(monkeypatch, {"Booth": ([1.0, 3.0], [1.0, 3.0])})
    assert judged(policy, trainings, {}) == (policy, {})


def test_teleports_are_taken_out_on_the_problem_where_they_do_not_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = LearnedSchedule.pretrained("generalist_seven")
    whole = Training.of(**{**recipe(("Booth", "Quadratic")), **TINY, "warm_start": False, "critic_segments": 0})
    trainings = {problem: (whole.alone(problem), 0.05) for problem in ("Booth", "Quadratic")}
    with monkeypatch.context() as patched:
        play_as(patched, {"Booth": ([5.0, 6.0], [5.0, 7.0]), "Quadratic": ([5.0, 6.0], [5.0, 5.0])})
        policy, said = judged(policy, trainings, {})
    assert said.keys() == policy.provenance["fallbacks"].keys() == {"Booth"}
    again = load_policy(policy.save(tmp_path / "masked.json"))
    plays = fallback_of(again.for_problem("Booth"))
    assert isinstance(plays, Masked)
    assert gained(plays) == gained(Masked(policy=policy.for_problem("Booth")))
    assert fallback_of(again.for_problem("Quadratic")) is None
    with pytest.raises(ValueError, match=r"for several problems: play agent.for_problem"):
        Masked(policy=policy).predict(np.zeros((1, len(NAMES)), dtype=np.float32))


def test_a_policy_is_judged_by_the_return_of_its_reward() -> None:
    training = Training.of(**{**recipe("Booth"), **TINY}, reward="score")
    usual = training.settings().learning_rate
    lower = always(1, training, usual)
    policy, said = judged(lower, {"Booth": (training, usual)}, {})
    other = gained(Never(environment={"learning_rate": usual}), "score")
    assert policy.provenance["fallback"]["gained"] == other != gained(Never(environment={"learning_rate": usual}))
    assert f"gains {gained(lower, 'score'):.2f} by the reward score, and {PLAIN} {other:.2f}" in said["Booth"]


def test_a_base_rate_that_is_off_does_not_hide_what_plain_descent_gains() -> None:
    training = Training.of(**{**recipe("Booth"), **TINY})
    policy, said = judged(always(0, training, 1e-5), {"Booth": (training, 1e-5)}, {})
    assert "Booth" in said
    assert policy.provenance["fallback"]["plan"]["learning_rate"] == training.settings().learning_rate


@pytest.mark.parametrize("mode", ["schedule", "group"])
def test_a_file_keeps_the_fallback_and_a_comparison_plays_it(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_drawings", lambda *_: [])
    tiny = {**recipe("Booth", action_mode=mode), **TINY, "out": tmp_path, "learning_rate": 1e-5, "directions": ()}
    found = train(Training.of(**tiny), lambda line: None)
    assert set(found.below) == {"Booth"}
    policy = load_policy(tmp_path / "policy.json")
    plays = fallback_of(policy)
    assert plays is not None
    assert gained(plays) == policy.provenance["fallback"]["gained"] > gained(policy)
    lines: list[str] = []
    study = Study(
        problems=("Booth",),
        agents=("never",),
        policies=(tmp_path / "policy.json",),
        instances=2,
        tuning_instances=0,
        references=False,
        jobs=1,
        out=tmp_path / "c",
    )
    results = run_study(study, lines.append)["results"]
    assert set(results["agent"]) == {"never", "learned, fallback", "oracle"}
    assert any("'learned, fallback' plays in its place" in line for line in lines)
    # the file's words are still read and not trusted
    wrong = dataclasses.replace(policy, provenance={"fallback": {"plan": {"colour": 3}}})
    with pytest.raises(ValueError, match="the fallback in the file of the policy 'learned' is none"):
        fallback_of(wrong)


def test_a_policy_for_several_problems_has_the_best_rule_as_shipped_for_a_rival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {**recipe(("Booth", "Quadratic")), **TINY, "out": tmp_path, "warm_start": False, "critic_segments": 0}
    found = train(Training.of(**tiny, budget=24.0), lambda line: None)
    path = tmp_path / "policy.json"
    policy = LearnedSchedule.load(path)
    content = policy.provenance["fallbacks"]["Booth"]
    rule = agent_for("Booth", "edge_of_stability")
    assert content["what"] == SHIPPED_RULE
    assert f"{SHIPPED_RULE} {gained(rule):.2f}" in found.below["Booth"]
    plays = fallback_of(policy.for_problem("Booth"))
    assert plays is not None
    assert gained(agent_for("Booth", str(path))) == gained(plays) == gained(rule) == content["gained"]
    # settings that were tuned for another budget do not hold
    assert best_rule("Quadratic", 24.0) is None
    assert policy.provenance["fallbacks"].get("Quadratic", {"what": PLAIN})["what"] == PLAIN
    # in another environment than it was judged in the policy plays itself
    assert agent_for("Booth", f"{path}:learning_rate=0.1").kind == "learned"
    # judged anew it is what it was, whatever the file said before
    without = dataclasses.replace(policy, provenance={**policy.provenance, "fallbacks": {}})
    without.save(path)
    monkeypatch.setattr(
        sys, "argv", ["judge.py", "--policy", str(path), "--out", str(tmp_path / "again.json"), "--instances", "6"]
    )
    judging.main()
    assert f"on Booth the policy gains {content['policy_gained']:.2f}" in " ".join(capsys.readouterr().out.split())
    again = LearnedSchedule.load(tmp_path / "again.json")
    assert again.provenance["fallbacks"] == policy.provenance["fallbacks"]
    assert again.provenance["judged"]["instances"] == 6
    with pytest.raises(ValueError, match="does not say how it was trained"):
        judge(dataclasses.replace(policy, provenance={}), 6)


@pytest.mark.parametrize(
    ("best", "other", "plays"),
    [
        ((12.5, 8.5), (11.0, 8.0), True),  # the policy loses 0.5, and this rule nothing to any
        ((12.5, 8.5), (11.0, 9.5), False),  # each loses 0.5 or more: the policy to the best at the first end
        ((12.0, 1.0), (0.0, 0.0), False),
    ],
)
def test_of_a_policy_for_several_problems_and_the_rules_as_shipped_the_one_that_loses_least_at_either_end_plays(
    best: tuple[float, float], other: tuple[float, float], plays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {**recipe(("Booth", "Quadratic")), **TINY, "warm_start": False, "critic_segments": 0}
    training = Training.of(**tiny)
    policy = LearnedSchedule.pretrained("generalist")
    trainings = {"Booth": (training.alone("Booth"), 0.105), "Quadratic": (training.alone("Quadratic"), 0.01)}

    def of_ends(alone: Training, problem: str, agents: list[Agent], ids: np.ndarray, seed: int) -> np.ndarray:
        found = np.zeros((2, len(agents), len(ids)))
        found[:, 0] = [[12.0], [9.0]]
        if problem == "Booth":
            found[:, -1], found[:, -2] = np.array([best, other])[:, :, None]
        return found

    monkeypatch.setattr(fallback, "gained_over_tolerances", of_ends)
    found, said = judged(policy, trainings, {}, 4)
    named = found.provenance["fallbacks"] if said else {}
    assert (set(named) == {"Booth"}) == plays
    if plays:
        assert (named["Booth"]["gained"], named["Booth"]["policy_gained"]) == (12.5, 12.0)
        assert named["Booth"]["what"] == SHIPPED_RULE


def test_a_rival_that_gains_more_in_the_mean_and_loses_more_at_one_end_does_not_play(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: where the policy had the lower mean, the rival with the highest one played, whatever it lost."""
    tiny = {**recipe(("Booth", "Quadratic")), **TINY, "warm_start": False, "critic_segments": 0}
    training = Training.of(**tiny)

    def of_ends(alone: Training, problem: str, agents: list[Agent], ids: np.ndarray, seed: int) -> np.ndarray:
        found = np.zeros((2, len(agents), len(ids)))
        found[:, 0] = [[11.5], [11.5]]  # loses 0.5 to a rule
        found[:, -1] = [[12.0], [9.0]]
        found[:, -2] = [[7.0], [20.0]]  # the highest mean, and loses 5
        found[:, -3] = [[8.0], [20.0]]  # so does plain descent
        found[1, -2:] = [[9.0], [12.0]]
        return found

    monkeypatch.setattr(fallback, "gained_over_tolerances", of_ends)
    policy = LearnedSchedule.pretrained("generalist")
    assert judged(policy, {"Booth": (training.alone("Booth"), 0.105)}, {}, 4) == (policy, {})


def test_the_script_ends_with_a_warning_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {**TINY, "learning_rate": 1e-5, "out": tmp_path}
    words = [word for name, value in tiny.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setattr(sys, "argv", ["train.py", "--problem", "Booth", *words])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == script.BELOW == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "Warning: on Booth the policy gains" in said
    assert "and plain descent" in said
    assert said.endswith("--policies pretrained needs no training")


def test_where_few_instances_choose_the_policy_few_choose_a_plan(tmp_path: Path) -> None:
    """Regression: where an episode takes long, the search for plans took longer than the training."""
    asked = {**recipe("Booth"), **TINY, "plans": 1, "validation_instances": 1, "out": tmp_path}
    plan = train(Training.of(**asked)).policy.provenance["plan"]
    # 2 instances for each that is tried, and 20 others for the last few
    assert plan["episodes"] <= 2 * plan["tried"] + 20 * 8


def test_a_rule_that_is_better_than_the_policy_it_taught_is_the_fallback() -> None:
    rule = {"agent": "edge_of_stability", "learning_rate": 0.105, "searches": [0], "first": 1, "up": 1.3, "down": 0.5}
    training = Training.of(**{**recipe("Booth"), **TINY}, rule=rule)
    lower = always(1, training, 0.105)
    policy, said = judged(lower, {"Booth": (training, 0.105)}, {})
    plays, taught = fallback_of(policy), rule_from(training)
    assert plays is not None
    assert taught is not None
    assert policy.provenance["fallback"]["what"] == RULE
    assert gained(plays) == gained(taught) > gained(lower)
    usual, (low, high) = training.settings().tolerance, training.task.tolerance_multiples
    assert low < high
    both = [gained(plays, tolerance=multiple * usual) for multiple in (low, high)]
    assert policy.provenance["fallback"]["gained"] == pytest.approx(sum(both) / 2, rel=1e-14)
    assert RULE in said["Booth"]
