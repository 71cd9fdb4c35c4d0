"""The roster of a comparison: baselines, rules, controls and references for a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from teleport_env.agents import edge_rule, rules  # noqa: F401  # register the rules
from teleport_env.agents.base import Agent, agent_from, register_agent
from teleport_env.agents.known import KNOWN, default_symmetry, known_of
from teleport_env.agents.policies.slots import kind_of
from teleport_env.agents.schedules import Cycle, Never, Schedule
from teleport_env.agents.tuned_settings import tuned_settings
from teleport_env.optimizers import OPTIMIZERS, optimizer_from
from teleport_env.problems import problem_from
from teleport_env.reading import known, refuse

REFERENCES: dict[str, str] = {
    "adam": "Adam",
    "momentum": "momentum",
    "momentum_line_search": "momentum with line search",
    "polyak": "Polyak's step",
}
"""Optimizers that a user would take instead of any schedule of gradient descent, and what tables call them."""


def reference(
    optimizer: str, *, name: str | None = None, kind: str = "reference", environment: Mapping[str, Any] | None = None
) -> Never:
    """An optimizer without teleports, of kind ``"reference"``; its rate is the problem's default until it is tuned.

    Raises:
        ValueError: There is no such optimizer, or ``environment`` is no dict of the environment's keyword arguments.
    """
    optimizer = known("optimizer", optimizer, OPTIMIZERS)
    if environment is not None and not isinstance(environment, Mapping):
        refuse(f"environment of reference {optimizer!r}", "a dict of keyword arguments of the environment", environment)
    called = REFERENCES.get(optimizer, optimizer) if name is None else name
    return Never(name=called, kind=kind, environment={"optimizer": optimizer, **(environment or {})})


for _optimizer in REFERENCES:
    register_agent(_optimizer, partial(reference, _optimizer))


def whitening(problem_name: str, *, tuned: bool = True, budget: float | None = None) -> Cycle:
    """Teleport, step, next teleport, step: every step is Newton's in one layer (`teleport_env.searches.whiten`).

    On a factorization this is alternating least squares. Plain descent, whose rate the teleports lower.

    Args:
        problem_name: Registered name.
        tuned: Take the rate that the package keeps, where it holds; else it is left open.
        budget: Gradient evaluations per episode; None: the problem's.

    Raises:
        ValueError: A problem for which no such teleports are known.
    """
    searches = [dict(search) for search in known_of(problem_name).whitening]
    if not searches:
        names = [name for name, one in KNOWN.items() if one.whitening]
        known("problem of whitening", problem_name, names, "Elsewhere play another agent of `roster`, such as 'every'")
    kept = tuned_settings(problem_name, budget).get("whitening") if tuned else None
    rate = {} if kept is None else {"learning_rate": kept["environment"]["learning_rate"]}
    pattern = tuple(action for number in range(len(searches)) for action in (1 + number, 0))
    environment = {"symmetry": "general_linear", "searches": searches, **rate}
    return Cycle(name="whitening", pattern=pattern, environment=environment)


FLATTENING: dict[str, Any] = {
    "slow": 0.0,
    "flatten": 2.0,
    "edge": 1.5,
    "first": 1,
    "cooldown": 20,
    "landing": "same",
}
"""`EdgeOfStability` on matrices and networks, where a teleport makes room for a larger rate; its own defaults suit
coordinate changes, where a teleport makes the next step promise more."""


def with_menu(problem_name: str, agent: Agent) -> Agent:
    """An agent with the menu of the roster, one search, where it is a schedule that leaves its menu open.

    Raises:
        ValueError: There is no such problem, or ``agent`` is none.
    """
    if not isinstance(agent, Agent):
        refuse("agent", "an Agent, such as agent_from('every') makes", agent)
    search = known_of(problem_name).search
    if search is None or "searches" in agent.environment or not isinstance(agent, Schedule | Cycle):
        return agent
    return dataclasses.replace(agent, environment={**agent.environment, "searches": [search]})


def roster(problem_name: str, *, tuned: bool = True, budget: float | None = None) -> dict[str, dict[str, Any]]:
    """Settings of the agents that a comparison plays on a problem, by registered name; `whitening` is not registered.

    Args:
        problem_name: Registered name.
        tuned: Take the settings that the package keeps for these agents (`teleport_env.agents.tuned_settings`), where they
            hold.
        budget: Gradient evaluations per episode; None: the problem's.

    Raises:
        ValueError: There is no such problem.
    """
    kept = tuned_settings(problem_name, budget) if tuned else {}
    return {name: kept.get(name, settings) for name, settings in _untuned(problem_name).items()}


def _untuned(problem_name: str) -> dict[str, dict[str, Any]]:
    problem = problem_from(problem_name)
    defaults = problem.defaults("train")
    still: dict[str, dict[str, Any]] = {"never": {}, "line_search": {}, "rate_warmup_decay": {}}
    references: dict[str, dict[str, Any]] = {optimizer: {} for optimizer in REFERENCES}
    symmetry, facts = default_symmetry(problem), known_of(problem_name)
    if symmetry is None:
        return still | references
    period = max(2, round(defaults.budget / 12))
    edge = {} if kind_of(problem, symmetry) == "coordinates" else FLATTENING
    searching: dict[str, dict[str, Any]] = {
        "first": {"k": 3},
        "every": {"k": period},
        "random_timing": {"probability": min(1.0, 1.0 / period)},
        "random_element": {"k": period},
        "rate_and_teleport": {"every": period},
        "stall": {},
        "alignment": {},
        "relative_decrease": {},
        "accept_if_better": {},
        "momentum_trigger": {},
        "edge_of_stability": dict(edge),
    }
    if facts.whitening:
        searching["whitening"] = {}
    if optimizer_from(defaults.optimizer).init(torch.zeros(1, 1)):
        searching["reset_optimizer"] = {"k": period, "offset": period}
    return still | searching | references


def default_agents(problem_name: str, *, tuned: bool = True, budget: float | None = None) -> list[Agent]:
    """The agents that a comparison plays on a problem: baselines, rules, controls and references.

    Where the package keeps tuned settings, every agent has its own menu, rate and thresholds. Elsewhere all that search
    have the same menu of one, so that they know its price and differ in timing alone, but for `whitening`, whose searches
    are its own; their learning rates are left open: they are tuned per agent, or else the problem's default.

    Args:
        problem_name: A registered name. On a problem without symmetries only agents that do not teleport are left.
        tuned: Whether tuned settings are taken, as in `roster`.
        budget: Gradient evaluations per episode, as in `roster`.

    Raises:
        ValueError: There is no such problem.
    """
    which: dict[str, Any] = {"tuned": tuned, "budget": budget}
    return [
        whitening(problem_name, **which)
        if name == "whitening"
        else with_menu(problem_name, agent_from(name, **settings))
        for name, settings in roster(problem_name, **which).items()
    ]
