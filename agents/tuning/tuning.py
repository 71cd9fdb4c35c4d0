"""The one tuner: families of agents, and the member that gains most on the train split.

A family is a grid of settings and what builds an agent of them; `tune` searches it by `teleport_env.agents.tuning.search`.
No instance of the validation or test split is read. `tune_rate` chooses base learning rates for a comparison: plain descent
first, over a wide grid, then every other agent on a narrow grid around its optimizer's best, by the agent's own episodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.tuning.search import Axis, Config, Found, search

WIDE = tuple(2.0**k for k in range(-4, 5))
"""Multiples of the problem's default rate tried for an optimizer without teleports."""

NARROW = (0.25, 0.5, 1.0, 2.0)
"""Multiples of the optimizer's tuned rate tried for an agent."""

TUNING_SEED = 20221
"""Of the choice of train instances, of the search, and of the random numbers that searches of teleports draw."""


@dataclass(frozen=True)
class Family:
    """Agents that differ in settings.

    Attributes:
        axes: The settings.
        build: Settings to the agent, its name and kind left to `agent`.
        name: Name of the tuned agent in tables.
        kind: As `Agent.kind`.
        about: Description of the row, in a sentence.
        canonical: Clears settings that do nothing, so that nothing is tried twice.
        neutral: Values at which a setting does nothing, as in `search`.
    """

    axes: Mapping[str, Axis]
    build: Callable[[Config], Agent]
    name: str = ""
    kind: str = "fixed"
    about: str = ""
    canonical: Callable[[Config], Config] = lambda config: config
    neutral: Mapping[str, Any] = field(default_factory=dict)

    def agent(self, config: Config) -> Agent:
        """The agent with some settings."""
        return dataclasses.replace(self.build(config), name=self.name, kind=self.kind)

    def play(
        self, problem: str, configs: Sequence[Config], ids: np.ndarray, *, split: str, budget: float | None, seed: int
    ) -> np.ndarray:
        """Orders of magnitude gained ``(configurations, instances)``; arguments as those of `play_many`."""
        agents = [self.build(config) for config in configs]
        return play_many(problem, agents, ids, split=split, budget=budget, seed=seed)


def tune(
    families: Mapping[str, Family],
    *,
    count: int,
    instances: int,
    budget: float | None = None,
    finals: int = 10,
    rounds: int = 24,
    settings: Mapping[str, Any] | None = None,
) -> Found:
    """The settings that gain most on the train split: on one problem, or by the mean over several.

    Args:
        families: By problem; all of the same settings.
        count: Configurations tried before the refinement; a grid that has no more is tried in full.
        instances: Of each problem's train split that each is tried on.
        budget: Gradient evaluations per episode, as in the comparison to come; None: the agents' or the problem's.
        finals: The last choice is made on so many times as many other instances; 0: there is none.
        rounds: Of the refinement, at most.
        settings: Keyword arguments of the environment that shape the problem.

    Returns:
        What the search found; its ``episodes`` are those of all problems.
    """
    ids = {p: draw_instances(p, "train", (1 + finals) * instances, TUNING_SEED, settings) for p in families}
    numbers = np.arange(min(map(len, ids.values())))
    # a split that has no others is chosen on again
    many = (numbers[instances:] if len(numbers) > instances else numbers) if finals else numbers[:0]

    def score(configs: Sequence[Config], chosen: np.ndarray) -> np.ndarray:
        gained = [
            family.play(problem, configs, ids[problem][chosen], split="train", budget=budget, seed=TUNING_SEED)
            for problem, family in families.items()
        ]
        means: np.ndarray = np.mean([values.mean(axis=1) for values in gained], axis=0)
        return means

    one = next(iter(families.values()))
    found = search(
        one.axes,
        score,
        count=count,
        few=numbers[:instances],
        many=many,
        generator=np.random.default_rng(np.random.SeedSequence(TUNING_SEED)),
        canonical=one.canonical,
        neutral=one.neutral,
        rounds=rounds,
    )
    return dataclasses.replace(found, episodes=found.episodes * len(families))


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
    settings: Mapping[str, Any] | None = None,
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
    variants = agent.variants()

    def build(config: Config) -> Agent:
        chosen = variants[config["variant"]]
        environment = {**(settings or {}), "learning_rate": config["rate"], **chosen.environment}
        return dataclasses.replace(chosen, environment=environment)

    def best(numbers: Sequence[int], tried: Sequence[float]) -> Found:
        axes = {"variant": Axis(tuple(numbers), ordered=False), "rate": Axis(tuple(map(float, tried)))}
        shared: dict[str, Any] = {"instances": instances, "budget": budget, "settings": settings}
        return tune({problem: Family(axes, build)}, count=len(numbers) * len(tried), finals=0, **shared)

    # variants are told apart at the middle rate, and the rate is then chosen for the best
    first = best(range(len(variants)), [rates[len(rates) // 2]]) if len(variants) > 1 else None
    number = first.config["variant"] if first else 0
    found = best([number], rates)
    rate, runs = found.config["rate"], found.episodes + (first.episodes if first else 0)
    edge = len(rates) > 1 and rate in (rates[0], rates[-1])
    return Tuned(variants[number], rate, found.gained, runs, edge)
