"""Families, and the one tuner: by the mean over problems, on train instances, and what plays side by side plays as alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from teleport_env.agents import Never
from teleport_env.agents.play import draw_instances, episodes, play
from teleport_env.agents.policies.learned_moves import MovePlan
from teleport_env.agents.tuning.plans import Plan, canonical
from teleport_env.agents.tuning.search import Axis
from teleport_env.agents.tuning.tuning import Family, tune
from teleport_env.envs.vector import TeleportVectorEnv

RATES = (0.001, 0.01, 0.1, 0.3)


def plain(rates: tuple[float, ...] = RATES) -> Family:
    return Family({"rate": Axis(rates)}, lambda c: Never(environment={"learning_rate": c["rate"]}), name="plain")


def test_several_problems_are_tuned_by_their_mean() -> None:
    """Each alone has another best rate, and the one for both is neither chosen by one alone nor by the sum of ranks."""
    shared: dict[str, Any] = {"count": len(RATES), "instances": 4, "budget": 12.0, "finals": 0}
    alone = {problem: tune({problem: plain()}, **shared) for problem in ("Booth", "Quadratic")}
    both = tune({"Booth": plain(), "Quadratic": plain()}, **shared)

    def gained(problem: str, rate: float) -> float:
        ids = draw_instances(problem, "train", 4, 20221)
        agent = Never(environment={"learning_rate": rate})
        return float(play(problem, agent, ids, split="train", budget=12.0).gained.mean())

    means = {rate: np.mean([gained(problem, rate) for problem in ("Booth", "Quadratic")]) for rate in RATES}
    assert both.gained == pytest.approx(max(means.values()))
    assert both.config["rate"] == max(means, key=lambda rate: means[rate])
    for problem, found in alone.items():
        assert found.gained == pytest.approx(max(gained(problem, rate) for rate in RATES))
    assert both.episodes == 2 * alone["Booth"].episodes == 2 * 4 * len(RATES)


def test_a_plan_without_what_does_nothing() -> None:
    config = {
        "learning_rate": 0.1,
        "up": 2.0,
        "warmup": 0,
        "down": 1.0,
        "decay_every": 8,
        "which": 3,
        "first": 0,
        "every": 0,
    }
    cleared = {"up": 1.0, "warmup": 0, "down": 1.0, "decay_every": 0, "which": 0}
    assert canonical(config) == {**config, **cleared}
    teleporting = {**config, "up": 2.0, "warmup": 2, "down": 0.5, "every": 4}
    assert canonical(teleporting) == teleporting
    # settings that a family has not are not added, and another choice of the search is cleared to what it is asked
    assert canonical({"rate": 0.1, "kind": "look"}, {"kind": "ascend"}) == {"rate": 0.1, "kind": "ascend"}
    shares = canonical({"up": 1.0, "warmup": 0.3})
    assert type(shares["warmup"]) is float


def test_the_loop_shows_what_each_action_was_decided_on() -> None:
    env = TeleportVectorEnv("Booth", 3, autoreset_mode="Disabled", budget=4.0, searches=[])
    moments = list(episodes(env, Never(), seed=0))
    begin, *course = moments
    assert begin.action is None
    assert not begin.over.any()
    assert len(course) > 1
    for before, moment in zip(moments, course, strict=False):
        assert (moment.acting == ~before.over).all()
        assert moment.seen.shape == (3, env.single_observation_space.shape[0])
    assert course[-1].over.all()
    # what was seen is the observation before the action, not the one that came of it
    again = TeleportVectorEnv("Booth", 3, autoreset_mode="Disabled", budget=4.0, searches=[])
    observation, _ = again.reset(seed=0)
    for moment in course:
        np.testing.assert_array_equal(moment.seen, observation)
        observation, *_ = again.step(moment.action)


def test_plans_are_said_in_words() -> None:
    menu = {"searches": ["virtual_step", "closed_form"]}
    plan = Plan(0.00125, up=2.0, warmup=4, down=0.5, decay_every=20, which=1, first=3, every=10)
    assert plan.in_words(menu) == (
        "learning rate 0.00125, times 2 for the first 4 steps, times 0.5 every 20 steps; a teleport (closed form, gradient "
        "norm, sweeps 2) before each of the first 3 steps and then every 10 steps"
    )
    assert Plan(0.5).in_words({}) == "learning rate 0.5; no teleports"
    move = MovePlan(0.1, (0.25, -1.0), every=3, first=2)
    assert (
        move.in_words({}) == "learning rate 0.1; a teleport by xi = (0.25, -1) every 3 steps, the first after 2 steps"
    )
    assert MovePlan(0.1, (0.25,)).in_words({}) == "learning rate 0.1; no teleports"


def test_of_several_searches_the_best_counts_and_all_are_counted() -> None:
    family = Family(
        {"rate": Axis(tuple(0.001 * 1.3**k for k in range(40)))},
        lambda config: Never(environment={"learning_rate": config["rate"]}),
    )
    shared: dict[str, Any] = {"count": 8, "instances": 3, "rounds": 1}
    one, three = (tune({"Booth": family}, starts=starts, **shared) for starts in (1, 3))
    assert three.gained >= one.gained
    assert three.tried > 2 * one.tried
    assert three.episodes > 2 * one.episodes


def test_without_a_last_choice_there_is_no_polish_either() -> None:
    """Regression: it had no instances, and divided by their number."""
    axes = {"rate": Axis(RATES, closest=1.02)}
    family = Family(axes, lambda c: Never(environment={"learning_rate": c["rate"]}), name="plain", polish=2)
    settings: dict[str, Any] = {"count": 4, "instances": 4, "budget": 12.0, "thorough": True}
    alone = tune({"Booth": family}, finals=0, **settings)
    assert alone.config["rate"] in RATES
    assert tune({"Booth": family}, finals=1, **settings).episodes > alone.episodes
