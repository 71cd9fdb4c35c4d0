"""Adaptive rules, searched for by the hundred on the train split: the other baseline of a learned schedule.

Threshold, cooldown, guard of the budget, search, learning rate and gradient steps of an action are chosen together, within
the policy's menu of searches. Rules have no rate factors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent, agent_from
from teleport_env.agents.learning.plans import MULTIPLES, TUNING_SEED, any_of, vary
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned_moves import Policy
from teleport_env.agents.policies.settings import check_environment

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "relative_decrease": {"threshold": (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)},
    "stall": {
        "threshold": (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        "patience": (1, 2, 3),
        "watch": ("loss", "gradient"),
    },
    "alignment": {"threshold": (-0.5, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99), "above": (False, True)},
    "accept_if_better": {"k": (1, 2, 4, 8, 16), "longest": (64, 1024), "least_gain": (0.0, 0.03, 0.1, 0.3)},
}
"""Rules, and the values of their settings that are tried."""

_SHARED: dict[str, tuple[Any, ...]] = {"cooldown": (1, 2, 3, 5, 8, 12, 20), "least_steps": (1, 3, 6, 12)}


@dataclass(frozen=True)
class FoundRule:
    """What the search for a rule found.

    Attributes:
        rule: Its registered name.
        settings: Of the rule.
        environment: That it plays in.
        gained: Its mean on instances of the train split that did not choose the last few.
        tried: Rules played.
        episodes: Episodes played.
    """

    rule: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    gained: float
    tried: int
    episodes: int


def search_rules(training: Training, instances: int = 32) -> FoundRule:
    """The best rule within a menu, searched for as `teleport_env.agents.learning.plans.search_plans` does.

    Args:
        training: Menu, budget, and ``rules``, how many to try.
        instances: Of the train split, that each is tried on.
    """
    generator = np.random.default_rng(np.random.SeedSequence(TUNING_SEED))
    ids = draw_instances(training.only, "train", 11 * instances, TUNING_SEED)
    few, many = ids[:instances], ids[instances:] if len(ids) > instances else ids
    grids = {name: {**grid, **_SHARED, **_environments(training)} for name, grid in GRIDS.items()}
    scores: dict[str, float] = {}  # by a candidate's JSON

    def try_all(candidates: list[dict[str, Any]]) -> None:
        for candidate in candidates:
            key = json.dumps(candidate, sort_keys=True)
            if key not in scores:
                scores[key] = _score(training, candidate, few)

    def best(count: int) -> list[dict[str, Any]]:
        return [json.loads(key) for key in sorted(scores, key=lambda key: -scores[key])[:count]]

    names = list(grids)
    first = [{"rule": names[i % len(names)]} for i in range(max(1, training.teaching.rules // 4))]
    try_all([one | {k: any_of(values, generator) for k, values in grids[one["rule"]].items()} for one in first])
    for _ in range(6):
        parents, children = best(8), []
        for _ in range(training.teaching.rules // 8):
            parent = any_of(parents, generator)
            grid = grids[parent["rule"]]
            changed = generator.choice(list(grid), size=generator.integers(1, 3), replace=False).tolist()
            children.append(parent | {name: vary(parent[name], grid[name], generator) for name in changed})
        try_all(children)
    final = [(_score(training, candidate, many), candidate) for candidate in best(4)]
    gained, chosen = max(final, key=lambda pair: pair[0])
    rule, settings, environment = _parts(training, chosen)
    return FoundRule(rule, settings, environment, gained, len(scores), len(scores) * len(few) + len(final) * len(many))


def rule_of(policy: Policy) -> Agent | None:
    """The best rule that the training of a policy found, as an agent; None if it searched for none.

    Raises:
        ValueError: The policy's file says something else than a rule.
    """
    found = policy.provenance.get("rule")
    if found is None:
        return None
    try:
        check_environment(found["environment"])
        if found["rule"] not in GRIDS:
            raise ValueError(f"{found['rule']!r} is none of {', '.join(GRIDS)}")
        agent = agent_from(found["rule"], **found["settings"], environment=found["environment"])
        return replace(agent, name=f"best rule of {policy.name}")
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the rule in the file of the policy {policy.name!r} is none: {error}") from error


def _environments(training: Training) -> dict[str, tuple[Any, ...]]:
    settings = training.settings()
    base = settings.learning_rate
    rates = (base,) if training.task.learning_rate is not None else tuple(base * multiple for multiple in MULTIPLES)
    strides = tuple(sorted({1, settings.steps_per_action}))
    return {"learning_rate": rates, "search": tuple(range(len(settings.searches))), "steps_per_action": strides}


def _parts(training: Training, candidate: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name and settings of the rule, and its environment."""
    chosen = dict(candidate)
    environment = training.policy_environment(chosen.pop("learning_rate"))
    del environment["rate_factors"]
    environment["searches"] = [environment["searches"][chosen.pop("search")]]
    environment["steps_per_action"] = chosen.pop("steps_per_action")
    return chosen.pop("rule"), chosen, environment


def _score(training: Training, candidate: Mapping[str, Any], ids: np.ndarray) -> float:
    rule, settings, environment = _parts(training, candidate)
    agent = agent_from(rule, **settings, environment=environment)
    played = play(training.only, agent, ids, split="train", budget=training.task.budget, seed=TUNING_SEED)
    return float(np.mean([row["gained"] for row in played.rows]))
