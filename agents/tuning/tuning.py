"""Base learning rates, tuned on the train split before anything is compared.

Plain descent is tuned first, over a wide grid; every other agent's base rate is then chosen on a narrow grid around its
optimizer's own best, by the agent's own episodes. What is compared is thus each agent at its best rate among those tried,
never a good rule at a bad rate or the reverse. No instance of the validation or test split is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.play import draw_instances, play

WIDE = tuple(2.0**k for k in range(-4, 5))
"""Multiples of the problem's default rate tried for an optimizer without teleports."""

NARROW = (0.25, 0.5, 1.0, 2.0)
"""Multiples of the optimizer's tuned rate tried for an agent."""

TUNING_SEED = 20221


@dataclass(frozen=True)
class Tuned:
    """A tuned agent.

    Attributes:
        agent: The best of its variants.
        rate: The best of those tried.
        gained: Mean orders of magnitude gained with it on the train split.
        runs: Episodes that the tuning played.
        at_edge: Whether the best lies at an edge of the grid.
    """

    agent: Agent
    rate: float
    gained: float
    runs: int
    at_edge: bool


def tune_rate(
    problem: str,
    agent: Agent,
    rates: Sequence[float],
    *,
    instances: int,
    budget: float | None = None,
    settings: dict[str, Any] | None = None,
) -> Tuned:
    """The variant and the rate with which an agent gains most, on average over instances of the train split.

    Args:
        problem: Registered name.
        agent: Who plays.
        rates: Learning rates to try.
        instances: How many instances each is tried on, the same for all.
        budget: As in the comparison to come.
        settings: Further keyword arguments of the environment.
    """
    ids = draw_instances(problem, "train", instances, TUNING_SEED, settings)

    def score(candidate: Agent, rate: float) -> float:
        arguments = {**(settings or {}), "learning_rate": float(rate)}
        played = play(problem, candidate, ids, split="train", budget=budget, seed=TUNING_SEED, settings=arguments)
        return float(np.mean([row["gained"] for row in played.rows]))

    variants = agent.variants()
    plays = len(rates)
    if len(variants) > 1:  # at the middle rate, and the rate is then chosen for the best
        middle = rates[len(rates) // 2]
        agent = variants[int(np.argmax([score(variant, middle) for variant in variants]))]
        plays += len(variants)
    gained = [score(agent, rate) for rate in rates]
    best = int(np.argmax(gained))
    edge = len(rates) > 1 and best in (0, len(rates) - 1)
    return Tuned(agent, float(rates[best]), gained[best], plays * len(ids), edge)
