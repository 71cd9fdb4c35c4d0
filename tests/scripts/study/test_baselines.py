"""Families of baselines: what they are, that they play as they were tuned, and that they see training instances alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from study import baselines
from study.baselines import families_of, tune
from study.factorial_cells import tuned_cells
from study.findings import SEVEN
from teleport_env.agents.base import agent_from
from teleport_env.agents.known_score import SCORE
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.tuning import tuning
from teleport_env.agents.tuning.search import Config
from teleport_env.envs.settings import Settings
from teleport_env.searches import search_from, to_dict

RULES = {"stall", "alignment", "relative decrease", "accept if better", "momentum trigger", "edge of stability"}
REFERENCES = {"Adam", "momentum", "momentum with line search", "Polyak's step"}


def drawn(problem: str, name: str, count: int, seed: int = 0) -> list[Config]:
    generator = np.random.default_rng(seed)
    axes = families_of(problem)[name].axes
    return [
        {key: axis.values[generator.integers(len(axis.values))] for key, axis in axes.items()} for _ in range(count)
    ]


def test_every_baseline_of_the_design_is_a_family() -> None:
    kinds: dict[str, set[str]] = {}
    for family in families_of("LinearNetwork").values():
        kinds.setdefault(family.kind, set()).add(family.name)
    assert kinds["fixed"] == {
        "never",
        "fixed schedule",
        "fixed teleports",
        "random timing",
        "random element",
        "best of N random",
    }
    assert kinds["adaptive"] == RULES
    assert kinds["control"] == {"rate schedule", "rate line search", "layer rates"}
    assert kinds["reference"] == REFERENCES | {"whitening cycle"}
    assert not {"layer rates", "whitening cycle"} & families_of("Booth").keys()


def test_the_cycle_of_whitenings_is_alternating_least_squares_of_a_factorization() -> None:
    family = families_of("MatrixFactorization")["whitening cycle"]
    ids = draw_instances("MatrixFactorization", "validation", 16, seed=0)
    configs = [
        {"rate": 0.075, "order": order, "calm": 1e-3, "steps": 1} for order in range(len(family.axes["order"].values))
    ]
    gained = family.play("MatrixFactorization", configs, ids, split="validation", budget=30.0, seed=0)
    # one side alone solves half of the problem; in turn they solve it, whichever begins
    alone, in_turn = gained[:2], gained[2:]
    assert len(in_turn) == 2
    assert (alone.mean(axis=1) < 3).all()
    assert (np.median(in_turn, axis=1) > 11).all()


@pytest.mark.parametrize("problem", ["Booth", "MLPRegression"])
def test_no_menu_of_a_tuned_rule_has_one_search_twice(problem: str) -> None:
    """Regression: the first teleports were by the search of all others, so that the menu had it twice."""
    count = len(baselines.menu_of(problem))
    cells = [family for _, family in tuned_cells(problem, None).items() if "opening" in family.axes]
    for family in (families_of(problem)["edge of stability"], *cells):
        usual = {name: axis.values[0] for name, axis in family.axes.items()} | {"first": 2}
        menus: dict[str, Config] = {}
        for search, opening, looks in itertools.product(range(count), range(count), (0, 1)):
            tried = family.canonical({**usual, "search": search, "opening": opening, "looks": looks})
            environment = family.build(tried).environment
            first, *others = environment["searches"]
            assert first not in others
            # a rule is tried once
            assert menus.setdefault(str((environment["symmetry"], environment["searches"])), tried) == tried


def test_baselines_have_every_search_of_the_policy_under_its_symmetry() -> None:
    for problem in SEVEN:
        full = recipe(problem)
        settings = Settings.build(problem, symmetry=full.get("symmetry"))
        menu = baselines.menu_of(problem)
        for search in full.get("searches") or settings.searches:
            assert (settings.symmetry, to_dict(search_from(search))) in menu
        # and the problem's own, under its own
        assert Settings.build(problem).symmetry in {symmetry for symmetry, _ in menu}


@pytest.mark.parametrize("problem", ["Booth", "MLPRegression"])
def test_every_configuration_of_every_family_makes_an_agent(problem: str) -> None:
    for name, family in families_of(problem).items():
        for config in drawn(problem, name, 6):
            agent = family.agent(config)
            assert (agent.name, agent.kind) == (name, family.kind)
            assert agent.environment["learning_rate"] == config["rate"]


@pytest.mark.parametrize("problem", ["Booth", "MatrixFactorization"])
@pytest.mark.parametrize("name", ["fixed schedule", "rate schedule", "fixed teleports"])
def test_plans_are_scored_as_their_agents_play(name: str, problem: str) -> None:
    ids = draw_instances(problem, "validation", 5, seed=0)
    configs = drawn(problem, name, 8)
    family = families_of(problem, 16.0)[name]
    scored = family.play(problem, configs, ids, split="validation", budget=16.0, seed=4)
    for config, gained in zip(configs, scored, strict=True):
        played = play(problem, family.agent(config), ids, split="validation", budget=16.0, seed=4)
        assert played.gained.tolist() == gained.tolist()


def test_tuning_reads_the_train_split_alone_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = set()
    inner = tuning.play_many

    def spy(*args: Any, **kwargs: Any) -> np.ndarray:
        splits.add(kwargs["split"])
        return inner(*args, **kwargs)

    monkeypatch.setattr(tuning, "play_many", spy)
    for name in ("fixed schedule", "relative decrease"):
        found = [tune("Booth", name, count=8, instances=2, budget=12.0) for _ in range(2)]
        assert found[0] == found[1]
        assert found[0].tried >= 8
    assert splits == {"train"}


def test_layer_rates_of_one_are_plain_descent() -> None:
    ids = draw_instances("LinearNetwork", "train", 2, seed=0)
    families = families_of("LinearNetwork", budget=20.0)
    ones = families["layer rates"].agent({"rate": 0.01, "layer_1": 1.0, "layer_2": 1.0})
    twos = families["layer rates"].agent({"rate": 0.01, "layer_1": 2.0, "layer_2": 1.0})
    plain = families["never"].agent({"rate": 0.01})
    losses = [
        [row["loss"] for row in play("LinearNetwork", agent, ids, split="train", budget=20).rows]
        for agent in (plain, ones, twos)
    ]
    # their optimizer is another class, which rounds the sums of its losses in another order
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_first_teleports_may_be_by_another_search_of_the_same_symmetry() -> None:
    menu = baselines.menu_of("MLPRegression")
    family = families_of("MLPRegression")["edge of stability"]
    for config in drawn("MLPRegression", "edge of stability", 24):
        environment = family.agent(config).environment
        symmetry, search = menu[config["search"]]
        assert environment["searches"][-1] == search
        assert len(environment["searches"]) == 1 + (config["looks"] > 0)
        assert all((symmetry, one) in menu for one in environment["searches"])


@pytest.mark.parametrize("problem", [name for name, one in SCORE.items() if "rule" in one])
def test_a_tuning_tries_what_a_policy_begins_from(problem: str) -> None:
    begins = recipe(problem, reward="score")
    rule = begins["rule"]
    name = "fixed schedule" if rule["agent"] == "rate_and_teleport" else agent_from(rule["agent"]).name
    family = families_of(problem)[name]
    menu = Settings.build(problem, **{key: begins[key] for key in ("symmetry", "searches") if key in begins}).searches
    wanted = [to_dict(menu[index]) for index in rule["searches"]]
    agents = [family.agent(config) for config in family.first]
    found = [
        agent
        for agent in agents
        if [to_dict(search_from(one)) for one in agent.environment["searches"]] == wanted
        and agent.environment["learning_rate"] == rule["learning_rate"]
    ]
    assert len(found) == 1
    own = rule.keys() - {"agent", "learning_rate", "searches"}
    assert {one: getattr(found[0], one) for one in own} == {one: rule[one] for one in own}
    assert all(config[one] in axis.values for config in family.first for one, axis in family.axes.items())
