"""Worth of episodes: orders gained and the score by targets, at equal cost and at equal processor seconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from teleport_env.agents.comparison import statistics, summary
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.targets import STEP, expected_time, measures, within_reach

GAINED = "gained"
UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
_KEYS = ["problem", "agent", "seed", "instance_id"]


class Worth:
    """Episodes of agents on problems, compared in pairs.

    Args:
        rows: One dict per episode, with the keys of `_KEYS` and ``gained``.
        targets: One dict per episode, see `teleport_env.agents.comparison.targets.rows_of_targets`.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]]) -> None:
        pandas = summary.import_pandas()
        results = pandas.DataFrame(rows)[[*_KEYS, GAINED]].set_index(_KEYS)
        self.targets = within_reach(pandas.DataFrame(targets))
        # an episode without a target that anyone reached says nothing of targets
        self.values = results.join(measures(self.targets).set_index(_KEYS), how="left").sort_index()

    @cached_property
    def agents(self) -> set[tuple[str, str]]:
        """Pairs of problem and agent that were played."""
        return set(zip(*(self.values.index.get_level_values(level) for level in _KEYS[:2]), strict=True))

    @cached_property
    def _by_agent(self) -> dict[tuple[str, str], Any]:
        """The targets of each problem and agent; to look for them takes longer than what is asked of them."""
        return dict(list(self.targets.groupby(["problem", "agent"], sort=False)))

    def mean(self, problem: str, agent: str, measure: str = GAINED) -> float:
        """Mean over an agent's episodes."""
        return float(self.values.loc[(problem, agent), measure].mean())

    def interval(self, problem: str, agent: str, measure: str = GAINED) -> Interval:
        """The same with its interval."""
        return _interval(self.values.loc[(problem, agent), measure])

    def difference(self, problem: str, agent: str, other: str, measure: str = GAINED) -> Interval:
        """Mean paired difference of two agents with its interval."""
        return self.between((problem, agent), (problem, other), measure)

    def between(self, one: tuple[str, str], other: tuple[str, str], measure: str = GAINED) -> Interval:
        """The same of pairs of problem and agent, which may have played the instances at different settings."""
        first, second = (self.values.loc[pair, measure] for pair in (one, other))
        return _interval(first - second)

    def best(self, problem: str, agents: Sequence[str], measure: str) -> str | None:
        """The agent with the highest mean; None where none was played."""
        played = [agent for agent in agents if (problem, agent) in self.agents]
        return max(played, key=lambda agent: self.mean(problem, agent, measure), default=None)

    def target(self, problem: str, agent: str) -> int:
        """The hardest target that half of an agent's episodes reach, as an index of the ladder; at least the first."""
        rows = self._episodes(problem, agent)
        reached = np.array([np.isfinite(costs).sum() for costs in rows["costs"]])
        return max(0, int(np.floor(np.median(reached))) - 1)

    def expected_time(self, problem: str, agent: str, place: int, column: str = "costs") -> Interval:
        """The expected running time of a target with its interval: evaluations, or seconds by ``column``; NaN: never."""
        return expected_time(self._episodes(problem, agent), place, column)

    def _episodes(self, problem: str, agent: str) -> Any:
        return self._by_agent.get((problem, agent), self.targets.iloc[:0])


def orders(place: int) -> float:
    """Orders of magnitude from the start to a target."""
    return STEP * (place + 1)


def _interval(values: Any) -> Interval:
    known = values.dropna()
    if known.empty:
        return UNKNOWN
    seeds, instances = (known.index.get_level_values(level).to_numpy() for level in ("seed", "instance_id"))
    return statistics.crossed_bootstrap(known.to_numpy(), seeds, instances, statistics.mean)
