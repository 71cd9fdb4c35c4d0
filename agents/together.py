"""Agents that play side by side in one environment, each in rows of its own.

Agents that ask for the same environment but for learning rate, rate factors and searches share one: its menu and rate
factors are those of all, and each row has its own base rate and its own searches. So a row meets what its agent would meet
alone, and numbers do not depend on the company, bit for bit. Actions are translated on the way to the environment.

Agents of one class decide in one call, where the class can (`teleport_env.agents.base.merged`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent, likeness, merged
from teleport_env.agents.identity import exact
from teleport_env.agents.outside import Outside
from teleport_env.envs.settings import Settings
from teleport_env.reading import shown

_OWN = ("learning_rate", "rate_factors", "searches")
"""What agents in one environment need not agree on."""


@dataclass(frozen=True)
class Part:
    """Some agents that decide in one call.

    Attributes:
        agent: Agent that decides.
        rows: Rows of its runs, side by side.
        actions: ``(rows, actions)`` of the environment that the agent's stand for, -1 where it has fewer; None: they are
            the same, and as many.
    """

    agent: Agent
    rows: slice
    actions: np.ndarray | None

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Masks ``(B, actions)`` of the environment as those of the agent's own actions ``(rows, actions)``."""
        mine = masks[self.rows]
        if self.actions is None:
            return mine
        return np.where(self.actions < 0, 0, np.take_along_axis(mine, self.actions, axis=1)).astype(mine.dtype)

    def there(self, action: np.ndarray) -> np.ndarray:
        """Actions ``(rows,)`` of the agent as those of the environment.

        Raises:
            ValueError: The agent does not have such an action.
        """
        if self.actions is None:
            return action
        width = self.actions.shape[1]
        fits = action.shape == self.actions.shape[:1] and action.dtype.kind in "iu"
        chosen = self.actions[np.arange(len(action)), np.where(action < width, action, -1)] if fits else None
        if chosen is None or (action < 0).any() or (action >= width).any() or (chosen < 0).any():
            raise ValueError(
                f"agent {self.agent.name!r} gave the actions {shown(action)}; it must give integers below the number of "
                "actions of its own environment"
            )
        return chosen


@dataclass(frozen=True)
class Ensemble:
    """Agents in one environment.

    Attributes:
        numbers: Numbers of these agents among all; each has as many rows as there are instances, in this order.
        environment: Keyword arguments of the environment.
        options: Options of its reset: the rows' own learning rates and searches.
        parts: Agents, each with the rows for which it decides.
        settings: Settings of each agent's own environment, as if it played alone.
    """

    numbers: list[int]
    environment: Mapping[str, Any]
    options: Mapping[str, np.ndarray]
    parts: Sequence[Part]
    settings: Sequence[Settings]

    @property
    def masked(self) -> bool:
        """Whether an agent wants to know which actions can be paid."""
        return any(isinstance(part.agent, Outside) and part.agent.masked for part in self.parts)

    def predict(
        self,
        observation: np.ndarray,
        state: list[Any] | None,
        episode_start: np.ndarray,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, list[Any]]:
        """As `Agent.predict`, for all rows; ``action_masks`` ``(B, actions)`` where it is `masked`."""
        found, states = [], []
        for part, memory in zip(self.parts, state or [None] * len(self.parts), strict=True):
            more: dict[str, Any] = {}
            if action_masks is not None and isinstance(part.agent, Outside) and part.agent.masked:
                more["action_masks"] = part.masks(action_masks)
            action, memory = part.agent.predict(observation[part.rows], memory, episode_start[part.rows], **more)
            found.append(part.there(action))
            states.append(memory)
        return (found[0] if len(found) == 1 else np.concatenate(found)), states

    def own(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``(T, B)`` of the environment as those of each row's agent; negative ones stay."""
        found = actions.copy()
        for part in self.parts:
            if part.actions is not None:
                same = part.actions[None, :, :] == actions[:, part.rows, None]
                found[:, part.rows] = np.where(actions[:, part.rows] < 0, -1, same.argmax(axis=2))
        return found


def ensembles(
    problem: str,
    agents: Sequence[Agent],
    runs: int,
    most: int,
    wanted: Mapping[str, Any],
    imposed: Mapping[str, Any],
) -> Iterator[Ensemble]:
    """The fewest ensembles in which agents can play.

    Args:
        problem: Registered name.
        agents: Agents that play.
        runs: Rows of each agent.
        most: Rows of an ensemble, at most; an agent always has all of its own in one.
        wanted: Keyword arguments of the environment, where an agent asks for no others.
        imposed: Keyword arguments of the environment, whatever an agent asks for.
    """
    asked = [{**wanted, **agent.environment, **imposed} for agent in agents]
    settings = [Settings.build(problem, **one) for one in asked]
    alike: dict[Any, dict[Any, list[int]]] = {}
    for number, agent in enumerate(agents):
        if isinstance(agent, Outside):
            agent.check_actions(settings[number])
        kinds = alike.setdefault(_shared(settings[number], asked[number]), {})
        kinds.setdefault(likeness(agent), []).append(number)
    size = max(1, most // runs)
    for kinds in alike.values():
        numbers = list(itertools.chain(*kinds.values()))
        for begin in range(0, len(numbers), size):
            chosen = numbers[begin : begin + size]
            players, theirs = [agents[number] for number in chosen], [settings[number] for number in chosen]
            yield _ensemble(chosen, players, theirs, asked[chosen[0]], runs)


def _shared(settings: Settings, asked: Mapping[str, Any]) -> Any:
    """What agents in one environment must agree on."""
    # in the group modes actions do not speak of the menu
    apart = ("problem", *_OWN) if settings.action_mode == "schedule" else ("problem", "learning_rate")
    built = [getattr(settings, one.name) for one in fields(settings) if one.name not in apart]
    return settings.action_mode, exact((asked.get("problem"), built))


def _joined(lists: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[int]]]:
    """A list that has all entries of each, as often as it does, and the places there of the entries of each."""
    whole: dict[Any, tuple[int, Any]] = {}
    places = []
    for values in lists:
        keys = [exact(value) for value in values]
        mine = [(key, keys[:place].count(key)) for place, key in enumerate(keys)]
        places.append([whole.setdefault(key, (len(whole), value))[0] for key, value in zip(mine, values, strict=True)])
    return [value for _, value in whole.values()], places


def _ensemble(
    numbers: list[int], agents: Sequence[Agent], settings: Sequence[Settings], asked: Mapping[str, Any], runs: int
) -> Ensemble:
    """Agents that can share an environment in one; ``asked`` is what the first asks for."""
    environment, options, tables, count = dict(asked), {}, None, 0
    if len(agents) > 1:
        options["learning_rate"] = np.repeat([one.learning_rate for one in settings], runs)
    if len(agents) > 1 and settings[0].action_mode == "schedule":
        factors, steps = _joined([one.rate_factors for one in settings])
        searches, teleports = _joined([one.searches for one in settings])
        count = len(factors) + len(searches)
        environment |= {"rate_factors": factors, "searches": searches}
        offered = [[place in own for place in range(len(searches))] for own in teleports]
        options["searches"] = np.repeat(np.array(offered, dtype=bool).reshape(len(agents), -1), runs, axis=0)
        tables = [[*step, *(len(factors) + one for one in own)] for step, own in zip(steps, teleports, strict=True)]
    parts: list[Part] = []
    for _, group in itertools.groupby(range(len(agents)), key=lambda place: likeness(agents[place])):
        places = list(group)
        chosen = None if tables is None else [tables[place] for place in places]
        rows = slice(places[0] * runs, (places[-1] + 1) * runs)
        parts.append(Part(merged([agents[place] for place in places], runs), rows, _actions(chosen, count, runs)))
    return Ensemble(numbers, environment, options, parts, settings)


def _actions(tables: Sequence[list[int]] | None, count: int, runs: int) -> np.ndarray | None:
    """`Part.actions` of agents of ``runs`` rows each, in an environment with ``count`` actions."""
    if tables is None or all(table == [*range(count)] for table in tables):
        return None
    width = max(map(len, tables))
    return np.repeat(np.array([[*table, *[-1] * (width - len(table))] for table in tables]), runs, axis=0)
