"""Fixed schedules of the group mode, searched for on the train split: the same element again and again.

As for the menus (`teleport_env.agents.learning.plans`): the best is the baseline that a policy of the group mode has to
beat, and it brings the learning rate. What is tried is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from teleport_env.agents.learning.plans import TUNING_SEED, Searched, any_of, vary
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.policies.moves import MovePlan

RATES = tuple(2.0 ** (k / 4) for k in range(-16, 13))
"""Of the given or default learning rate. Finer than for menus, whose rate factors make up for it: on Booth a quarter turn is
worth two orders of magnitude more at 0.07 than at 0.105."""

EVERY = (0, 1, 2, 3, 4, 6, 8)
FIRST = (0, 1, 2, 4)


def search_move_plans(training: Training, instances: int = 32) -> Searched:
    """The best fixed schedule of the group mode: random ones, then variations of the best, then a last choice.

    The course is that of `teleport_env.agents.learning.plans.search_plans`, but that the rate is searched for even where the
    policy's is given, which need not suit a plan. Elements are drawn from the whole box or along
    one coordinate, and varied by little or by much.

    Args:
        training: Of the group mode.
        instances: Of the train split, that each plan is tried on.
    """
    generator = np.random.default_rng(np.random.SeedSequence(TUNING_SEED))
    ids = draw_instances(training.only, "train", 11 * instances, TUNING_SEED)
    few, many = ids[:instances], ids[instances:] if len(ids) > instances else ids
    settings = training.settings()
    dim, base = settings.group_dim, settings.learning_rate
    choices: dict[str, Sequence[Any]] = {
        "learning_rate": [base * multiple for multiple in RATES],
        "every": EVERY,
        "first": FIRST,
    }
    nowhere = (0.0,) * dim
    # plain descent at each rate is always among them
    tried = {MovePlan(rate, nowhere) for rate in choices["learning_rate"][::4]}
    for _ in range(training.teaching.plans // 4):
        drawn = {name: any_of(values, generator) for name, values in choices.items()}
        drawn["learning_rate"] = any_of(choices["learning_rate"][::4], generator)
        tried.add(_canonical(MovePlan(xi=_element(dim, generator), **drawn)))
    scores = _score(training, sorted(tried, key=astuple), few)
    for _ in range(6):
        parents = sorted(scores, key=lambda plan: -scores[plan])[:8]
        children: set[MovePlan] = set()
        for _ in range(training.teaching.plans // 8):
            parent = parents[generator.integers(len(parents))]
            changed: dict[str, Any] = {}
            for name in generator.choice([*choices, "xi"], size=generator.integers(1, 3), replace=False).tolist():
                if name == "xi":
                    changed[name] = _varied(parent.xi, generator)
                else:
                    changed[name] = vary(getattr(parent, name), choices[name], generator)
            children.add(_canonical(replace(parent, **changed)))
        scores |= _score(training, sorted(children - scores.keys(), key=astuple), few)
    finalists = sorted(scores, key=lambda plan: -scores[plan])[:8]
    final = _score(training, finalists, many)
    best = max(final, key=lambda plan: final[plan])
    return Searched(best, final[best], len(scores), len(scores) * len(few) + len(final) * len(many))


def _score(training: Training, plans: Sequence[MovePlan], ids: np.ndarray) -> dict[MovePlan, float]:
    if not plans:
        return {}
    environment = {name: value for name, value in training.environment.items() if name != "budget"}
    agents = [plan.agent(environment) for plan in plans]
    gained = play_many(training.only, agents, ids, split="train", budget=training.task.budget, seed=TUNING_SEED)
    return dict(zip(plans, gained.mean(axis=1).tolist(), strict=True))


def _element(dim: int, generator: np.random.Generator) -> tuple[float, ...]:
    """Group parameters from the whole box, or along one coordinate."""
    drawn = generator.uniform(-1.0, 1.0, dim)
    if dim > 1 and generator.integers(2):
        drawn *= np.arange(dim) == generator.integers(dim)
    return tuple(drawn.tolist())


def _varied(xi: Sequence[float], generator: np.random.Generator) -> tuple[float, ...]:
    """Group parameters near others, or any."""
    if not generator.integers(4):
        return _element(len(xi), generator)
    width = 0.3 if generator.integers(2) else 0.05
    return tuple(np.clip(np.asarray(xi) + width * generator.normal(size=len(xi)), -1.0, 1.0).tolist())


def _canonical(plan: MovePlan) -> MovePlan:
    """The plan without settings that do nothing, so that none is tried twice."""
    return plan if plan.every else replace(plan, xi=(0.0,) * len(plan.xi), first=0)
