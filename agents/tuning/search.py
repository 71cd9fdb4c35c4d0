"""A search for the best configuration on a grid that grows where the best lies at its edge.

A quarter of the configurations are random; six rounds of an eighth each vary the eight best so far, one setting or two at a
time. Then the best is refined: all its neighbours are tried, and where it lies at an edge of the grid the grid is extended
first, until no neighbour is better. So the winner lies inside the grid, or at a limit that is one by nature. The eight best
of all are tried again on other, more instances, which choose. Everything tried is counted.

After a long search the first eight may fit their few instances alone, with a better one far behind them. A thorough last
choice is among an eighth of all that was tried, and refines the best of it on its own instances. That changes one setting at
a time. So it may end on a ridge, where only two that change together are better: a polish draws all numbers beside the best.

Optuna's samplers were measured against it (``docs/design.md``) and found less at the same number of configurations.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_WIDEST, _DRAWN = 0.25, 64
"""Of a polish: the first draws' standard deviation of logarithms, and the number of draws in a round."""

Config = dict[str, Any]
Round = tuple[Sequence[Config], np.ndarray]
"""Configurations to try, and the ids of the instances to try them on."""
Search = Generator[Round, np.ndarray, "Found"]
"""Yields rounds, takes the mean orders of magnitude gained ``(configurations,)`` in each, and returns what it found."""


@dataclass(frozen=True)
class Axis:
    """Values that one setting may take.

    Attributes:
        values: Values in ascending order, or in any where they are not ordered.
        ordered: Whether neighbours resemble each other.
        factor: The grid is extended by this factor; 0: it ends where it ends.
        low: No extension below.
        high: No extension above.
        finest: The refinement halves the steps beside the best value down to this one; 0: it halves none.
        closest: A thorough refinement puts geometric means beside the best value, down to neighbours that differ by this
            factor, or by 1 between integers; 0: it puts none.
    """

    values: tuple[Any, ...]
    ordered: bool = True
    factor: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    finest: float = 0.0
    closest: float = 0.0

    def beyond(self, value: Any, up: bool) -> Any:
        """The next value beyond an end, the limit at the furthest, or None where there is none."""
        if not self.factor or not value:
            return None
        further = value * self.factor if up else value / self.factor
        if isinstance(value, int):
            further = max(round(further), value + 1) if up else min(round(further), value - 1)
        further = type(value)(min(max(further, self.low), self.high))
        return further if (further > value) == up and further != value else None

    def between(self, low: Any, high: Any, thorough: bool) -> Any:
        """The value that a refinement puts between two, or None where they are close enough."""
        if self.finest and high - low >= 2 * self.finest:
            return (low + high) / 2
        if thorough and self.closest and low > 0 and high / low >= self.closest**2:
            middle = math.sqrt(low * high)
            whole = min(max(round(middle), low + 1), high - 1)
            # no integer lies between neighbours
            return (whole if whole > low else None) if isinstance(low, int) else middle
        return None


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        config: The best.
        gained: Its mean, on the instances that made the last choice.
        tried: Configurations played.
        episodes: Episodes played.
        edges: Settings whose best value still lies at an edge that could be moved: the rounds were too few.
        candidates: Everything tried, the best first, by the first instances.
    """

    config: Config
    gained: float
    tried: int
    episodes: int
    edges: tuple[str, ...]
    candidates: tuple[Config, ...]


def search(
    axes: Mapping[str, Axis],
    *,
    count: int,
    few: np.ndarray,
    many: np.ndarray,
    generator: np.random.Generator,
    canonical: Callable[[Config], Config] = lambda config: config,
    neutral: Mapping[str, Any] | None = None,
    rounds: int = 24,
    first: Sequence[Config] = (),
    thorough: bool = False,
    together: Sequence[Sequence[str]] = (),
    polish: np.ndarray | None = None,
) -> Search:
    """Find the best configuration; see the module.

    Args:
        axes: Settings and their values.
        count: Configurations tried before the refinement; a grid that has no more is tried in full.
        few: Ids of the instances that everything is tried on.
        many: Ids of the instances of the last choice; empty: there is none.
        generator: Generator of the random choices.
        canonical: Clears settings that do nothing, so that nothing is tried twice.
        neutral: Values at which a setting does nothing. Half of the random ones have them, or simple configurations, which
            are often the best, would hardly be among many settings.
        rounds: Most rounds of the refinement.
        first: Configurations of the grid that are tried in any case, among the ``count``.
        thorough: Whether the last choice is thorough; see the module.
        together: Groups of settings that act together. A variation may draw a group anew, and where a group has no more than
            64 combinations the refinement tries them all.
        polish: Ids of the instances on which a last choice ends with draws beside the best, of all settings that have a
            ``closest``; None: there are no such draws. The more settings, the more instances these should be.

    Raises:
        ValueError: There is nothing to choose from.
    """
    if not axes or not all(axis.values for axis in axes.values()) or count < 1:
        raise ValueError(f"a search needs axes with values and a count of at least 1, got {dict(axes)} and {count}")
    shared = canonical, generator, neutral or {}, together, polish
    return _Search(axes, *shared).run(count, few, many, rounds, first, thorough)


def run(searches: Sequence[Search], score: Callable[[Mapping[int, Round]], Mapping[int, np.ndarray]]) -> list[Found]:
    """Run searches side by side.

    Args:
        searches: Searches that `search` returns.
        score: Function from the rounds of all searches that go on to their results, both by a search's place in
            ``searches``.
    """
    found: dict[int, Found] = {}
    answers: dict[int, np.ndarray | None] = dict.fromkeys(range(len(searches)))
    while len(found) < len(searches):
        asked: dict[int, Round] = {}
        for number, answer in answers.items():
            try:
                asked[number] = next(searches[number]) if answer is None else searches[number].send(answer)
            except StopIteration as end:
                found[number] = end.value
        answers = dict(score(asked)) if asked else {}
    return [found[number] for number in range(len(searches))]


@dataclass
class _Search:
    axes: Mapping[str, Axis]
    canonical: Callable[[Config], Config]
    generator: np.random.Generator
    neutral: Mapping[str, Any]
    together: Sequence[Sequence[str]] = ()
    polish: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.values = {name: list(axis.values) for name, axis in self.axes.items()}
        self.scores: dict[str, float] = {}
        self.episodes = 0

    def run(
        self, count: int, few: np.ndarray, many: np.ndarray, rounds: int, first: Sequence[Config], thorough: bool
    ) -> Search:
        if math.prod(map(len, self.values.values())) <= count:
            whole = itertools.product(*self.values.values())
            yield from self.try_all([dict(zip(self.values, values, strict=True)) for values in whole], few)
        else:
            drawn = self.new(self.random, max(1, count // 4 - len(first)))
            yield from self.try_all([*first, *drawn], few)
            for _ in range(6):
                parents = self.best(8)
                yield from self.try_all(self.new(functools.partial(self.varied, parents), count // 8), few)
        yield from self.refine(few, rounds)
        candidates = self.best(len(self.scores))
        tried = len(self.scores)
        if len(many):
            # the last choice, on instances that had no part in the others
            self.scores = {}
            yield from self.try_all(candidates[: max(8, tried // 8) if thorough else 8], many)
            known = len(self.scores)
            yield from self.refine(many, rounds, edges_only=not thorough, thorough=thorough)
            tried += len(self.scores) - known
        if self.polish is not None:
            finalists, self.scores = self.best(8), {}
            yield from self.try_all(finalists, self.polish)
            yield from self.polished(self.polish)
            tried += len(self.scores) - len(finalists)
        config = self.best(1)[0]
        gained = self.scores[_key(config)]
        edges = tuple(name for name in self.axes if self.extensions(config, name))
        return Found(config, gained, tried, self.episodes, edges, tuple(candidates))

    # -- configurations ------------------------------------------------------------------------------------------------

    def try_all(self, configs: Sequence[Config], ids: np.ndarray) -> Generator[Round, np.ndarray, None]:
        new = {_key(c): c for c in map(self.canonical, configs) if _key(c) not in self.scores}
        if new:
            found = yield list(new.values()), ids
            self.scores |= dict(zip(new, map(float, found), strict=True))
            self.episodes += len(new) * len(ids)

    def best(self, count: int) -> list[Config]:
        ranked = sorted(self.scores, key=lambda key: -self.scores[key])  # stable: of equals the first tried
        return [json.loads(key) for key in ranked[:count]]

    def new(self, draw: Callable[[], Config], count: int) -> list[Config]:
        """Configurations that were not tried yet, as far as there are any."""
        found: dict[str, Config] = {}
        for _ in range(20 * count):
            config = self.canonical(draw())
            if _key(config) not in self.scores:
                found.setdefault(_key(config), config)
            if len(found) == count:
                break
        return list(found.values())

    def random(self) -> Config:
        drawn = {name: values[int(self.generator.integers(len(values)))] for name, values in self.values.items()}
        return {
            name: self.neutral[name] if name in self.neutral and self.generator.integers(2) else value
            for name, value in drawn.items()
        }

    def varied(self, parents: Sequence[Config]) -> Config:
        child = dict(parents[int(self.generator.integers(len(parents)))])
        size = min(len(self.axes), int(self.generator.integers(1, 3)))
        units = [(name,) for name in self.axes] + [tuple(group) for group in self.together]
        for unit in (units[place] for place in self.generator.choice(len(units), size=size, replace=False).tolist()):
            if len(unit) > 1:
                child |= {
                    name: self.values[name][int(self.generator.integers(len(self.values[name])))] for name in unit
                }
                continue
            (name,) = unit
            values = self.values[name]
            if self.axes[name].ordered and self.generator.integers(2):
                place = values.index(child[name]) + (1 if self.generator.integers(2) else -1)
                child[name] = values[min(max(place, 0), len(values) - 1)]
            else:
                child[name] = values[int(self.generator.integers(len(values)))]
        return child

    # -- refinement ----------------------------------------------------------------------------------------------------

    def refine(
        self, ids: np.ndarray, rounds: int, edges_only: bool = False, thorough: bool = False
    ) -> Generator[Round, np.ndarray, None]:
        for _ in range(rounds):
            best = self.best(1)[0]
            neighbours: list[Config] = []
            for name, axis in self.axes.items():
                further = self.extensions(best, name)
                self.values[name] = sorted({*self.values[name], *further}) if further else self.values[name]
                values = self.values[name]
                near = self.near(best, name) if axis.ordered else values
                near = further if edges_only else near
                neighbours += [{**best, name: value} for value in near if value != best[name]]
            for group in () if edges_only else self.together:
                combinations = list(itertools.product(*(self.values[name] for name in group)))
                if len(combinations) <= 64:
                    neighbours += [{**best, **dict(zip(group, values, strict=True))} for values in combinations]
            yield from self.try_all(neighbours, ids)
            if self.best(1)[0] == best and (edges_only or not self.halve(best, thorough)):
                return

    def polished(self, ids: np.ndarray) -> Generator[Round, np.ndarray, None]:
        """Draw beside the best, and on where the last improvement led, in ever smaller steps: down to the closest values."""
        closest = {name: axis.closest for name, axis in self.axes.items() if axis.closest}
        size, former = _WIDEST, self.best(1)[0]
        while closest and size > math.log(min(closest.values())) / 2:
            best = self.best(1)[0]
            steps = [{name: size * self.generator.normal() for name in closest} for _ in range(_DRAWN)]
            for step in steps[::2]:  # some change few settings
                step |= {name: 0.0 for name in closest if self.generator.integers(2)}
            led = {name: math.log(best[name] / former[name]) for name in closest if best[name] and former[name]}
            steps += [{name: far * one for name, one in led.items()} for far in (1.0, 2.0, 4.0) if any(led.values())]
            yield from self.try_all([self.moved(best, step) for step in steps], ids)
            former = best
            if self.best(1)[0] == best:
                size /= 2
        drawn = [json.loads(key) for key in self.scores]
        for name in closest:  # an edge is now one of all that was tried
            self.values[name] = sorted({*self.values[name], *(config[name] for config in drawn)})

    def moved(self, config: Config, step: Mapping[str, float]) -> Config:
        """Settings times the exponential of a step, within their limits; one that is 0 may be drawn anew."""
        child = dict(config)
        for name, one in step.items():
            axis, value = self.axes[name], config[name]
            if one and not value:
                value = self.values[name][int(self.generator.integers(len(self.values[name])))]
            # an order of magnitude beyond the grid's ends lies an edge
            low, high = max(axis.low, self.values[name][0] / 10), min(axis.high, 10 * self.values[name][-1])
            further = min(max(value * math.exp(min(one, 99.0)), low), high)
            child[name] = type(value)(round(further) if isinstance(value, int) else further)
        return child

    def halve(self, best: Config, thorough: bool) -> bool:
        """Put values between the best and its neighbours; whether there was room for any."""
        sizes = sum(map(len, self.values.values()))
        for name, axis in self.axes.items():
            pairs = itertools.pairwise(self.near(best, name)) if axis.ordered else ()
            middle = [value for low, high in pairs if (value := axis.between(low, high, thorough)) is not None]
            self.values[name] = sorted({*self.values[name], *middle}) if middle else self.values[name]
        return sum(map(len, self.values.values())) > sizes

    def near(self, config: Config, name: str) -> list[Any]:
        """A configuration's value of a setting, and those beside it."""
        place = self.values[name].index(config[name])
        return self.values[name][max(0, place - 1) : place + 2]

    def extensions(self, config: Config, name: str) -> list[Any]:
        """Values beyond the ends of the grid that this configuration lies at."""
        axis, values = self.axes[name], self.values[name]
        if not axis.ordered:
            return []
        ends = [(values[-1], True)] * (config[name] == values[-1]) + [(values[0], False)] * (config[name] == values[0])
        return [further for value, up in ends if (further := axis.beyond(value, up)) is not None]


def _key(config: Config) -> str:
    return json.dumps(config, sort_keys=True)
