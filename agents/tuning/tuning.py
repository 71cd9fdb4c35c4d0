"""The one tuner: families of agents, and the member that gains most on the train split.

A family is a grid of settings and what builds an agent of them; `tune` searches it by `teleport_env.agents.tuning.search`,
and `tune_all` searches several side by side: what they try in a round plays in one call. No instance of the validation or
test split is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.tuning.search import Axis, Config, Found, Round, Search, run, search

TUNING_SEED = 20221
"""Of the choice of train instances, of the search, and of the random numbers that searches of teleports draw."""


@dataclass(frozen=True)
class Family:
    """Agents that differ in settings.

    Attributes:
        axes: The settings.
        build: Settings to the agent, its name and kind left to `agent`.
        name: Name of the tuned agent in tables.
        kind: Kind of agent, as `Agent.kind`.
        about: Description of the row, in a sentence.
        canonical: Clears settings that do nothing, so that nothing is tried twice.
        neutral: Values at which a setting does nothing, as in `search`.
        first: Settings that are tried in any case.
        together: Groups of settings that act together, as in `search`.
        polish: A thorough tuning ends with a polish, as in `search`, on so many times the instances of the last choice; 0:
            it has none.
    """

    axes: Mapping[str, Axis]
    build: Callable[[Config], Agent]
    name: str = ""
    kind: str = "fixed"
    about: str = ""
    canonical: Callable[[Config], Config] = lambda config: config
    neutral: Mapping[str, Any] = field(default_factory=dict)
    first: Sequence[Config] = ()
    together: Sequence[Sequence[str]] = ()
    polish: int = 0

    def agent(self, config: Config) -> Agent:
        """The agent with some settings."""
        return dataclasses.replace(self.build(config), name=self.name, kind=self.kind)

    def play(self, problem: str, configs: Sequence[Config], ids: np.ndarray, **settings: Any) -> np.ndarray:
        """Orders of magnitude gained ``(configurations, instances)``; ``settings`` are those of `play_many`."""
        return play_many(problem, [self.build(config) for config in configs], ids, **settings)


def tune(families: Mapping[str, Family], **settings: Any) -> Found:
    """`tune_all` of one family, by problem."""
    return tune_all([families], **settings)[0]


def tune_all(
    several: Sequence[Mapping[str, Family]],
    *,
    count: int,
    instances: int,
    budget: float | None = None,
    finals: int = 10,
    rounds: int = 24,
    settings: Mapping[str, Any] | None = None,
    reward: str | None = None,
    thorough: bool = False,
    starts: int = 1,
) -> list[Found]:
    """The settings that gain most on the train split: on one problem, or by the mean over several.

    Args:
        several: Families by problem, one mapping for each separate tuning; its families have the same settings.
        count: Configurations tried before the refinement; a grid that has no more is tried in full.
        instances: Number of instances of each problem's train split that each is tried on.
        budget: Gradient evaluations per episode, as in the comparison to come; None: the agents' or the problem's.
        finals: The last choice is made on so many times as many other instances; 0: there is none.
        rounds: Most rounds of the refinement.
        settings: Keyword arguments of the environment that shape the problem.
        reward: Name of the reward whose return chooses; None: orders gained choose.
        thorough: Whether the last choice is thorough, as in `search`: it takes about as long as the search before it.

        starts: Number of searches of each family, which draw other configurations; the one whose last choice gained most
            counts, with what all of them played.

    Returns:
        What each search found; its ``episodes`` are those of all problems.
    """
    problems = dict.fromkeys(problem for families in several for problem in families)
    most = max((one.polish for families in several for one in families.values() if thorough), default=0)
    drawn = (1 + finals * max(1, most)) * instances
    ids = {p: draw_instances(p, "train", drawn, TUNING_SEED, settings) for p in problems}

    def started(families: Mapping[str, Family], start: int) -> Search:
        numbers = np.arange(min(len(ids[problem]) for problem in families))
        # a split that has no others is chosen on again
        others = numbers[instances:] if len(numbers) > instances else numbers
        many = others[: finals * instances]
        one = next(iter(families.values()))
        return search(
            one.axes,
            count=count,
            few=numbers[:instances],
            many=many,
            generator=np.random.default_rng(np.random.SeedSequence((TUNING_SEED, start) if start else TUNING_SEED)),
            canonical=one.canonical,
            neutral=one.neutral,
            rounds=rounds,
            first=one.first,
            thorough=thorough,
            together=one.together,
            polish=others if one.polish and thorough and finals else None,
        )

    searches = [started(families, start) for start in range(starts) for families in several]

    def score(asked: Mapping[int, Round]) -> dict[int, np.ndarray]:
        gained: dict[int, list[np.ndarray]] = {number: [] for number in asked}
        for problem in problems:
            mine = {number: one for number, one in asked.items() if problem in several[number % len(several)]}
            # searches of one round may stand at other instances: the few, or those of the last choice
            for chosen in {one[1].tobytes(): one[1] for one in mine.values()}.values():
                same = [number for number, one in mine.items() if np.array_equal(one[1], chosen)]
                agents = [
                    several[number % len(several)][problem].build(config)
                    for number in same
                    for config in mine[number][0]
                ]
                ends = np.cumsum([len(mine[number][0]) for number in same])
                shared: dict[str, Any] = {"split": "train", "budget": budget, "seed": TUNING_SEED, "reward": reward}
                scores = play_many(problem, agents, ids[problem][chosen], **shared).mean(axis=1)
                for number, values in zip(same, np.split(scores, ends[:-1]), strict=True):
                    gained[number].append(values)
        return {number: np.mean(values, axis=0) for number, values in gained.items()}

    found = run(searches, score)
    best: list[Found] = []
    for number, families in enumerate(several):
        mine = found[number :: len(several)]
        one = max(mine, key=lambda each: each.gained)
        episodes = sum(each.episodes for each in mine) * len(families)
        best.append(dataclasses.replace(one, tried=sum(each.tried for each in mine), episodes=episodes))
    return best
