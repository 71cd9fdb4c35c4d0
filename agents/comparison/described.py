"""A comparison in words: what its agents do, the settings they played with, and how they were tuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from teleport_env.agents.base import AGENTS, Agent
from teleport_env.agents.comparison.solvers import SOLVERS
from teleport_env.agents.naming import about, typed
from teleport_env.agents.tuning.roster import NARROW, WIDE, Tuned

_MACHINERY = ("which", "steps_per_action", "least_steps", "retry", "seed")


def sentences(agents: Iterable[Agent]) -> dict[str, str]:
    """A sentence on each agent, and on each solver of `SOLVERS`, by its name in tables."""
    found = {agent.name: about(agent) for agent in agents} | {one.title: one.about for one in SOLVERS.values()}
    return {name: text.replace("`", "") for name, text in found.items()}


def settings_of(agent: Agent | None) -> str:
    """An agent with the numbers and words that it decides by, as one types them: ``every:k=3,offset=0``.

    Nothing of a trained agent, and of one that has no settings.
    """
    if agent is None or agent.kind == "learned":
        return ""
    own = {field.name for field in dataclasses.fields(agent)} - {field.name for field in dataclasses.fields(Agent)}
    values = {name: getattr(agent, name) for name in sorted(own - set(_MACHINERY))}
    shown = {name: _short(one) for name, one in values.items() if isinstance(one, int | float | str)}
    registered = [name for name, factory in AGENTS.items() if factory is type(agent)]
    return typed(registered[0] if registered else agent.name, shown) if shown else ""


def _short(value: Any) -> Any:
    """A float with four significant digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def described(tuned: Tuned) -> dict[str, Any]:
    """What was found for an agent, in JSON's types."""
    found = {f.name: getattr(tuned, f.name) for f in dataclasses.fields(tuned) if f.name != "agent"}
    return {**found, "environment": {key: str(value) for key, value in tuned.agent.environment.items()}}


def tuning_in_words(
    instances: int, configurations: int, tuned: Mapping[tuple[str, str], Tuned], kept: Mapping[str, str]
) -> str:
    """How agents were tuned.

    Args:
        instances: Number of instances of each problem's train split that agents were tuned on.
        configurations: Number of configurations tried per rule.
        tuned: Agents tuned in this run, by problem and agent.
        kept: Commands that made the tuned settings which agents of a problem play with, by problem.
    """
    before = [
        f"on {problem} agents without settings of their own play with those that `{command}` chose on the train split"
        for problem, command in kept.items()
    ]
    if not tuned:
        return "; ".join(before) or "nothing: every problem's default learning rate"
    edges = sorted(f"{agent} on {problem}" for (problem, agent), found in tuned.items() if found.at_edge)
    rules = "thresholds are not tuned"
    if configurations:
        rules = (
            f"of rules thresholds, cooldown and rate together, {configurations} configurations each and a third of so "
            "many on problems with mini-batches, their untuned thresholds among them"
        )
    who = "every agent" if not kept else f"{len(tuned)} agents"
    now = (
        f"the base learning rate of {who}, on {instances} instances per problem of the train split: first "
        f"each optimizer without teleports over {len(WIDE)} rates, then each agent over {len(NARROW)} around its "
        f"optimizer's best, and the scale of random elements; {rules}; {sum(t.runs for t in tuned.values())} episodes in "
        "all. Intervals of fixed schedules are not tuned now."
    )
    said = "; ".join([*before, now])
    return said + (f" The best rate lay at an edge of the grid for {', '.join(edges)}." if edges else "")
