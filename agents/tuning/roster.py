"""Tuning the agents of a comparison: base learning rates, and of rules their thresholds too.

Plain descent comes first, over a wide grid, then every other agent around its optimizer's best, by the agent's own episodes.
What is tried of all agents in a round plays in one call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from teleport_env.agents.base import AGENTS, Agent
from teleport_env.agents.tuning.axes import rule_axes
from teleport_env.agents.tuning.search import Axis, Config
from teleport_env.agents.tuning.tuning import Family, tune_all
from teleport_env.envs.settings import Settings

WIDE = tuple(2.0**k for k in range(-4, 5))
"""Multiples of the problem's default rate tried for an optimizer without teleports."""

NARROW = (0.25, 0.5, 1.0, 2.0)
"""Multiples of the optimizer's tuned rate tried for an agent."""


@dataclass(frozen=True)
class Tuned:
    """A tuned agent.

    Attributes:
        agent: The best of its variants, or of a rule's settings.
        rate: The best of those tried.
        gained: Mean orders of magnitude gained with it on the train split.
        runs: Episodes that the tuning played.
        at_edge: Whether the best rate lies at an edge of the grid.
        settings: Settings of a rule that were chosen with the rate.
    """

    agent: Agent
    rate: float
    gained: float
    runs: int
    at_edge: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


EVERYTHING = ("*",)
"""All settings of an agent."""


def axes_of(agent: Agent, problem: str, budget: float | None = None) -> dict[str, Axis]:
    """The settings of a rule that are tuned, its own values among those tried; none of an agent that is no rule."""
    most = Settings.build(problem, **{**agent.environment, **({} if budget is None else {"budget": budget})}).budget
    axes = next((axes for name, axes in rule_axes(most).items() if AGENTS[name] is type(agent)), {})
    # with a menu of one there is nothing to choose the first teleports from
    return {
        name: including(axis, getattr(agent, name)) for name, axis in axes.items() if name not in ("looks", "opening")
    }


def including(axis: Axis, value: Any) -> Axis:
    """The axis with a value among those tried."""
    if value in axis.values:
        return axis
    values = (*axis.values, value)
    return dataclasses.replace(axis, values=tuple(sorted(values)) if axis.ordered else values)


def tune_rate(problem: str, agent: Agent, rates: Sequence[float], **settings: Any) -> Tuned:
    """`tune_roster` of one agent."""
    return tune_roster(problem, [(agent, rates)], **settings)[0]


def tune_roster(
    problem: str,
    roster: Sequence[tuple[Agent, Sequence[float]]],
    *,
    instances: int,
    rules: int = 0,
    budget: float | None = None,
    settings: Mapping[str, Any] | None = None,
    settled: Mapping[str, Sequence[str]] | None = None,
) -> list[Tuned]:
    """The settings with which each agent gains most, on average over instances of the train split.

    Args:
        problem: Registered name.
        roster: Agents, each with the learning rates to try.
        instances: Number of instances that each configuration is tried on, the same for all.
        rules: Configurations tried per rule, rate and thresholds together; 0: its thresholds are settled. Its own
            thresholds are among them, with each rate.
        budget: Gradient evaluations per episode, as in the comparison to come.
        settings: Further keyword arguments of the environment.
        settled: Settings that stay as they are, by the agent's name; `EVERYTHING`: all but the learning rate.
    """
    fixed = settled or {}
    shared: dict[str, Any] = {"instances": instances, "budget": budget, "settings": settings, "finals": 0, "rounds": 0}

    def family(choices: Sequence[Agent], rates: Sequence[float], own: Mapping[str, Axis]) -> dict[str, Family]:
        def build(config: Config) -> Agent:
            chosen = choices[config["variant"]]
            environment = {**(settings or {}), "learning_rate": config["rate"], **chosen.environment}
            return dataclasses.replace(chosen, environment=environment, **{name: config[name] for name in own})

        axes = {"variant": Axis(tuple(range(len(choices))), ordered=False), "rate": Axis(tuple(map(float, rates)))}
        asis = {name: getattr(choices[0], name) for name in own}
        first = [{"variant": 0, "rate": float(rate), **asis} for rate in rates] if own else []
        return {problem: Family({**axes, **own}, build, first=first)}

    # variants are compared at the middle rate, and the rate is then chosen for the best
    variants = [(agent,) if fixed.get(agent.name) else agent.variants() for agent, _ in roster]
    several = [place for place, choices in enumerate(variants) if len(choices) > 1]
    middle = [family(variants[place], [roster[place][1][len(roster[place][1]) // 2]], {}) for place in several]
    count = max([1, *(len(variants[place]) for place in several)])
    told = dict(zip(several, tune_all(middle, count=count, **shared), strict=True))
    chosen = [choices[told[place].config["variant"] if place in told else 0] for place, choices in enumerate(variants)]

    own = [axes_of(agent, problem, budget) if rules else {} for agent in chosen]
    own = [
        {name: axis for name, axis in axes.items() if not {name, *EVERYTHING} & set(fixed.get(agent.name, ()))}
        for agent, axes in zip(chosen, own, strict=True)
    ]
    families = [family([agent], rates, axes) for agent, axes, (_, rates) in zip(chosen, own, roster, strict=True)]
    count = max([rules, *(len(rates) for _, rates in roster)])
    result = []
    for place, found in enumerate(tune_all(families, count=count, **shared)):
        rates, rate = roster[place][1], found.config["rate"]
        thresholds = {name: found.config[name] for name in own[place]}
        runs = found.episodes + (told[place].episodes if place in told else 0)
        edge = len(rates) > 1 and rate in (rates[0], rates[-1])
        agent = dataclasses.replace(chosen[place], **thresholds) if thresholds else chosen[place]
        result.append(Tuned(agent, rate, found.gained, runs, edge, thresholds))
    return result
