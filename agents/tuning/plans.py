"""Fixed schedules of rates and teleports that play side by side by the hundred.

A `Plan` is `RateAndTeleport` within a menu: one teleport before each of the first gradient steps, then one at an interval;
the rate goes up in a warm-up and down at an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from teleport_env.agents.base import State, feature
from teleport_env.agents.play import ROWS, batches, play
from teleport_env.agents.policies.slots import search_prices
from teleport_env.agents.schedules import SLACK, RateAndTeleport
from teleport_env.envs.settings import Settings


@dataclass(frozen=True)
class Plan:
    """A fixed schedule; times in gradient steps, actions as indices of the menu.

    Attributes:
        learning_rate: The base.
        up: Rate factor of the warm-up.
        warmup: Its length.
        down: Rate factor of the decay.
        decay_every: Steps from one decay to the next; 0: none.
        which: Search.
        first: One teleport before each of the first so many steps.
        every: Then one every so many steps; 0: none.
    """

    learning_rate: float
    up: float = 1.0
    warmup: int = 0
    down: float = 1.0
    decay_every: int = 0
    which: int = 0
    first: int = 0
    every: int = 0

    def agent(self, environment: Mapping[str, Any], **settings: Any) -> RateAndTeleport:
        """The plan as an agent for a comparison.

        Of its menu, ``environment``'s, it gets the one search that it uses; ``settings`` are further ones of the agent.
        """
        menu = list(environment.get("searches", ()))
        own = {"learning_rate": self.learning_rate, "searches": menu[self.which : self.which + 1]}
        times = {name: getattr(self, name) for name in ("warmup", "decay_every", "first", "every")}
        kept = {name: value for name, value in environment.items() if name != "rate_factors"}
        return RateAndTeleport(up=self.up, down=self.down, **times, environment={**kept, **own}, **settings)


NEUTRAL: dict[str, Any] = {"up": 1.0, "warmup": 0, "down": 1.0, "decay_every": 0, "first": 0, "every": 0}
"""Values at which the settings of a plan do nothing."""


def canonical(config: Mapping[str, Any], idle: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A plan's settings without those that do nothing, so that no plan is tried twice.

    Args:
        config: Some of a plan's settings, and others, which stay.
        idle: Values of those that say by which search, where there are no teleports; None: ``which`` is 0.
    """
    cleared = {**NEUTRAL, **config}
    for factor, length in (("up", "warmup"), ("down", "decay_every")):
        if cleared[factor] == 1.0 or not cleared[length]:
            cleared |= {factor: 1.0, length: 0 * cleared[length]}  # 0 of its type
    if not cleared["first"] and not cleared["every"]:
        cleared |= {"which": 0} if idle is None else idle
    return {name: cleared[name] for name in config}


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanRows(RateAndTeleport):
    """Plans beside one another in one environment: its settings are arrays ``(B,)``, a plan per run.

    Attributes:
        plans: One per run.
        prices: Gradient evaluations of a teleport by each search of the menu.
    """

    name: str = "plans"
    plans: tuple[Plan, ...]
    prices: tuple[float, ...]

    def __post_init__(self) -> None:
        for one in fields(Plan)[1:]:
            object.__setattr__(self, one.name, np.array([getattr(plan, one.name) for plan in self.plans]))

    @property
    def steps(self) -> int:
        return 3  # plain, up and down

    @cached_property
    def _menu(self) -> np.ndarray:
        """Actions ``(B, 3)`` of the environment that a plan's steps stand for."""
        factors = list(self.environment["rate_factors"])
        return np.array([[factors.index(factor) for factor in (1.0, plan.up, plan.down)] for plan in self.plans])

    def affordable(self, observation: np.ndarray) -> np.ndarray:
        left = 10.0 ** (4.0 * feature(observation, "log_budget_left").astype(np.float64)) - 1.0
        price = np.array(self.prices or [np.inf])[self.which]
        return left - price >= self.least_steps - SLACK

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        own = super().decide(observation, memory)
        step = self._menu[np.arange(len(own)), np.minimum(own, 2)]
        return np.where(own < self.steps, step, own - self.steps + len(self.environment["rate_factors"]))


def plan_rows(
    problem: str, plans: Sequence[Plan], environment: Mapping[str, Any], budget: float | None = None
) -> PlanRows:
    """Plans of one learning rate as the agent of an environment with a run for each.

    Args:
        problem: Registered name.
        plans: One per run.
        environment: Whose menu they were made for. Without ``rate_factors`` it gets those of the plans.
        budget: Gradient evaluations per episode; None: the environment's.
    """
    factors = sorted({1.0, *(plan.up for plan in plans), *(plan.down for plan in plans)})
    here = {"rate_factors": tuple(factors), **environment, "learning_rate": float(plans[0].learning_rate)}
    if budget is not None:
        here["budget"] = budget
    settings = Settings.build(problem, **here)
    here |= {"searches": settings.searches, "steps_per_action": settings.steps_per_action}
    prices = search_prices(problem, here["searches"], **{k: v for k, v in here.items() if k != "searches"})
    return PlanRows(plans=tuple(plans), prices=prices, environment=here)


def play_plans(
    problem: str,
    plans: Sequence[tuple[Plan, Mapping[str, Any]]],
    instance_ids: np.ndarray,
    *,
    split: str = "train",
    budget: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Orders of magnitude gained ``(plans, instances)``.

    Plans of one environment and learning rate play side by side. A search that draws random numbers draws others for each
    plan.

    Args:
        problem: Registered name.
        plans: Each with its environment, as `plan_rows` takes it.
        instance_ids: ``(instances,)``.
        split: Theirs.
        budget: Gradient evaluations per episode; None: the environment's.
        seed: Of the random numbers that searches draw.
    """
    gained = np.zeros((len(plans), len(instance_ids)))
    alike = [{**environment, "learning_rate": plan.learning_rate} for plan, environment in plans]
    for chosen in batches(alike, ROWS // len(instance_ids)):
        rows = [plans[index][0] for index in chosen for _ in instance_ids]
        agent = plan_rows(problem, rows, plans[chosen[0]][1], budget)
        ids = np.tile(instance_ids, len(chosen))
        gained[chosen] = play(problem, agent, ids, split=split, seed=seed).gained.reshape(len(chosen), -1)
    return gained
