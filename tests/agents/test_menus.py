"""Every search that a problem supports and can pay stands in a menu, or there is a reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from teleport_env.agents.known import default_symmetry, known_of
from teleport_env.agents.policies.slots import LARGEST_SHARE, SLOTS, candidates, fill, kind_of, search_prices, serves
from teleport_env.agents.presets import default_agents
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.searches import NAMED, Search, search_from

pytest.importorskip("sklearn")

# on MNIST the same searches serve as on Digits; the others stand for them
NAMES = [
    name for name in PROBLEMS if not name.startswith("MNIST") and PROBLEMS[name].__module__.startswith("teleport_env.")
]

LEFT_OUT: dict[tuple[str, str], str] = {
    ("gradient_ascent", ""): "its rate belongs to one problem; normalized_ascent walks the same way",
    ("reset_optimizer", ""): "it moves nothing; the agent of that name has it",
    ("mini_batch", ""): "it averages another search over mini-batches, which the published setting has",
    ("grid", ""): "every angle costs an evaluation; a few at random, judged by the step after them, cost less",
    ("virtual_step_fit_rate", ""): "it chooses the rate like a line search, which is a control of its own",
    ("random_element", ""): "any point, better or not: a control of its own",
    ("random", ""): "it takes the steepest point, where the next step may diverge; menus judge points by that step",
    ("virtual_step", "networks"): "two look-aheads cost more steps than the better of the two is worth there",
    ("relative", ""): "one bounded step of the same direction as normalized_ascent",
    ("normalized_descent", "coordinates"): "a slower point of a coordinate change is only slower",
    ("balance_gradient", "coordinates"): "a slower point of a coordinate change is only slower",
    ("closed_form", "networks"): "the gradient norm has no maximum there: the trust region would decide, not the loss",
}
"""Named searches by what they move (empty: anything) that stand in no menu, with the reason."""


def menu(problem: str) -> list[Search]:
    """Everything that agents on a problem choose from at its default symmetry."""
    made, known = problem_from(problem), known_of(problem)
    symmetry = default_symmetry(made)
    assert symmetry is not None
    settings = made.defaults("train")
    named: list[Any] = [*settings.searches, *made.searches_for(symmetry), *known.whitening, known.search]
    for slot in SLOTS:
        named += candidates(made, symmetry, slot)
    return [search_from(one) for one in named]


def missing(problem: str, offered: list[Search]) -> list[str]:
    """Named searches that can be made and paid and that nothing offered stands for, as far as there is no reason."""
    made = problem_from(problem)
    symmetry = default_symmetry(made)
    assert symmetry is not None
    kind, budget = kind_of(made, symmetry), made.defaults("train").budget
    alike = {(one.kind, one.objective) for one in offered}
    found = []
    for name, search in NAMED.items():
        if (name, "") in LEFT_OUT or (name, kind) in LEFT_OUT or not serves(search, made, symmetry):
            continue
        share = SLOTS["steepest"].share if search.kind == "closed_form" else LARGEST_SHARE
        payable = search_prices(problem, [search])[0] <= share * budget
        if payable and (search.kind, search.objective) not in alike:
            found.append(name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_search_that_can_be_paid_stands_in_a_menu(name: str) -> None:
    offered = menu(name)
    assert missing(name, offered) == []
    # the check can fail: without its closed forms the menu is not complete, where one can be paid
    made, symmetry = problem_from(name), default_symmetry(problem_from(name))
    assert symmetry is not None
    if serves("closed_form", made, symmetry):
        others = [search for search in offered if search.kind != "closed_form"]
        assert bool(missing(name, others)) == any(search.kind == "closed_form" for search in offered)


def test_reasons_are_given_for_searches_that_there_are() -> None:
    assert {name for name, _ in LEFT_OUT} <= set(NAMED)


@pytest.mark.parametrize("name", ["Ellipse", "Quadratic", "Booth"])
def test_fixed_schedules_rules_and_policies_have_the_steepest_point(name: str) -> None:
    closed = search_from("closed_form")
    for agent in default_agents(name):
        own = [search_from(one) for one in agent.environment.get("searches", ())]
        if own and agent.name != "random element":
            assert closed in own, agent.name
    training = known_of(name).training
    assert training is not None
    assert closed in [search_from(one) for one in training["searches"]]
    assert fill(name, ["steepest"]) == [{"search": "closed_form"}]
    assert closed in [search_from(one) for one in problem_from(name).defaults("train").searches]
