"""One episode that a person plays: the real environment, an agent's advice, and the level set before one moves on it."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from explorer.course import Course, finite
from teleport_env.agents import Agent, default_agents
from teleport_env.agents.known import RATES
from teleport_env.agents.naming import agent_for
from teleport_env.agents.policies.learned import LearnedSchedule, shipped_for
from teleport_env.envs import Settings, TeleportEnv
from teleport_env.envs.boundary import EnvSnapshot
from teleport_env.problems import PROBLEMS
from teleport_env.problems.base import SPLITS, Evaluator
from teleport_env.random import Streams
from teleport_env.reading import integer, known, number, refuse
from teleport_env.registration import id_of
from teleport_env.searches import Search, Start, Status, search_from
from teleport_env.searches.base import judged
from teleport_env.searches.directions import ascent_direction
from teleport_env.searches.moves import at_start, moved_by

LEARNED = "learned schedule"
"""What the page calls the policy that the package brings."""

DIRECTIONS = ("ascent", "random")
MOST_AT_ONCE = 500
"""Actions that an agent takes in one request."""

_MEMORY = 64 << 20  # bytes of snapshots that one session keeps
_PLANE, _SPACE = 181, 41  # points of a level set that are looked at: a closed curve, a path


@dataclass(frozen=True)
class Wish:
    """Which episode a person wants to play.

    Attributes:
        problem: Registered name.
        agent: Name of the agent that advises, see `roster`; None: none.
        split: Split of the instance.
        instance: Number of the instance; None: drawn from the seed.
        seed: Seed of the environment.
    """

    problem: str = "Rosenbrock"
    agent: str | None = None
    split: str = "test"
    instance: int | None = None
    seed: int = 0

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Wish:
        """A wish from a request.

        Raises:
            ValueError: An unknown name, or a number that is not allowed.
        """
        for name in given:
            known("a setting of an episode", name, cls.__dataclass_fields__)
        wish = cls(**given)
        problem, split = known("problem", wish.problem, PROBLEMS), known("split", wish.split, SPLITS)
        most = (1 << 53) - 1
        instance = None if wish.instance is None else integer("instance", wish.instance, 0, most)
        agent = None if wish.agent is None else known("agent", wish.agent, roster(problem))
        return cls(problem, agent, split, instance, integer("seed", wish.seed, 0, most))


@lru_cache(maxsize=64)
def roster(problem: str) -> dict[str, Agent]:
    """The agents that can advise on a problem, by name: those of a comparison, and the policy that the package brings."""
    agents = {agent.name: agent for agent in default_agents(problem)}
    with suppress(ValueError, FileNotFoundError):  # no search fills its slots there, or the data are missing
        agents[LEARNED] = shipped_for(problem)[0].for_problem(problem)
    return {name: one for name, one in agents.items() if one.environment.get("action_mode", "schedule") == "schedule"}


def admit(problem: str, name: str, trust: bool = False) -> str:
    """The name in the roster of an agent that a command line names; one that is not there is entered.

    Args:
        problem: Registered name.
        name: Name of an agent, as in `roster`, or as `teleport_env.agents.naming.agent_for` reads it, which may import
            a module.
        trust: Whether the file of a model may be unpickled, which can run any code.

    Raises:
        ValueError: There is no such agent, or it acts by elements of its own.
    """
    agents = roster(problem)
    if name in agents:
        return name
    agent = agent_for(problem, name, trust=trust)
    if agent.environment.get("action_mode", "schedule") != "schedule":
        raise ValueError(f"the agent {name!r} chooses elements itself: only agents with a menu can advise")
    agents[agent.name] = agent
    return agent.name


class Session:
    """An episode in play.

    The person has all rate factors and all teleports of the problem, the agent those that it was made for. So the agent
    is asked in an environment of its own, which is put where the person stands.

    Args:
        wish: Request for an episode.
        agent: One that is not in the roster, to advise in place of the one that the wish names.

    Raises:
        ValueError: The episode cannot be played; the reason.
        FileNotFoundError: The problem's data are missing.
    """

    def __init__(self, wish: Wish, agent: Agent | None = None) -> None:
        self.wish = wish
        self._agent = agent if agent is not None or wish.agent is None else roster(wish.problem)[wish.agent]
        own = {} if self._agent is None else dict(self._agent.environment)
        plain = Settings.build(wish.problem, split=wish.split, **{k: v for k, v in own.items() if k != "searches"})
        wanted = [search_from(one) for one in own.get("searches", ())]
        menu: list[Search] = [*wanted, *(one for one in plain.searches if one not in wanted)]
        factors = tuple(dict.fromkeys([*map(float, own.get("rate_factors", (1.0,))), *RATES]))
        shared = {**own, "split": wish.split, "searches": menu}
        make: Any = gym.make
        self.env: TeleportEnv = make(id_of(wish.problem), **{**shared, "rate_factors": factors}).unwrapped
        options = None if wish.instance is None else {"instance_id": wish.instance}
        _, info = self.env.reset(seed=wish.seed, options=options)
        self._adviser: TeleportEnv | None = None
        if self._agent is not None:
            self._adviser = make(id_of(wish.problem), **{**own, "split": wish.split}).unwrapped
            self._adviser.reset(seed=wish.seed, options=options)
            searches = [menu.index(search) for search in wanted]
            rates = [factors.index(float(factor)) for factor in own.get("rate_factors", (1.0,))]
            self._own_actions = [*rates, *(len(factors) + place for place in searches)]
        self._by_hand, self.no_hand = self._hand(shared)
        if self._by_hand is not None:
            self._by_hand.reset(seed=wish.seed, options=options)
        title = {"problem": wish.problem, "seed": wish.seed, "agent": wish.agent if agent is None else agent.name}
        self.course = Course(self.env, info, title)
        depth = _MEMORY // len(pickle.dumps(self.env.snapshot()))
        self._past: deque[tuple[EnvSnapshot, Any, float, bool]] = deque(maxlen=max(2, min(1000, depth)))
        self._memory: Any = None
        self._next_memory: Any = None
        self._gained, self.over, self._direction, self._draws = 0.0, False, "ascent", 0
        self._near = False
        self.advice: dict[str, Any] | None = None
        self._look()

    def _hand(self, shared: Mapping[str, Any]) -> tuple[TeleportEnv | None, str]:
        """An environment that moves by given elements, or the reason why there is none."""
        settings = self.env.settings
        if settings.symmetry is None:
            return None, f"{settings.problem.name} has no symmetry"
        try:
            length = settings.group_scale * max(1, settings.group_dim) ** 0.5  # a discrete group has none
            made: Any = gym.make(
                id_of(self.wish.problem),
                **{**shared, "rate_factors": (1.0,), "action_mode": "hybrid", "group_scale": length},
            )
        except ValueError as error:  # a discrete group, or too many coordinates
            return None, str(error)
        return made.unwrapped, ""

    # -- acting --------------------------------------------------------------------------------------------------------

    def act(self, action: Any) -> None:
        """Take one action of the menu.

        Raises:
            ValueError: The episode is over, or there is no such action.
        """
        self._require_play()
        self._act(integer(f"an action of {self.wish.problem}", action, 0, len(self.env.action_names) - 1))
        self._look_along()

    def _act(self, action: int) -> None:
        before, advice = self._keep(), self.advice
        _, reward, terminated, truncated, info = self.env.step(action)
        self._done(before, reward, terminated or truncated)
        self.course.add_action(action, info, reward, advice)
        self.advice = self._ask()

    def move(self, along: Any) -> None:
        """Teleport by a group element that the person chose.

        Args:
            along: Share of the longest move, in [-1, 1], along the direction of `level_set`.

        Raises:
            ValueError: The episode is over, there is no such move, or the number is not allowed.
        """
        self._require_play()
        if self._by_hand is None or self._ray is None:
            raise ValueError(f"no element can be chosen by hand here: {self.no_hand}")
        along = number("the place on the slider", along, least=-1.0, most=1.0)
        before = self._keep()
        self._by_hand.restore(before[0])
        group = (along * self._ray).cpu().numpy()
        _, reward, terminated, truncated, info = self._by_hand.step({"teleport": 1, "group": group})
        self.env.restore(self._by_hand.snapshot())
        self._done(before, reward, terminated or truncated)
        self.course.add_move(along * self.env.settings.group_scale, info, reward)
        self._look()

    def undo(self) -> None:
        """Go back to before the last action.

        Raises:
            ValueError: There is nothing to undo.
        """
        if not self._past:
            raise ValueError("there is nothing to undo: this is the start, or the snapshots before it were dropped")
        snapshot, self._memory, self._gained, self.over = self._past.pop()
        self.env.restore(snapshot)
        self.course.entries.pop()
        self._look()

    def finish(self) -> None:
        """Let the agent play on to the end, or for `MOST_AT_ONCE` actions.

        Raises:
            ValueError: The episode is over, or no agent advises.
        """
        self._require_play()
        if self._agent is None:
            raise ValueError("no agent advises: choose an agent and start a new episode")
        for _ in range(MOST_AT_ONCE):
            if self.advice is None:  # the episode is over
                break
            self._act(self.advice["action"])
        self._look_along()

    def turn(self, direction: Any) -> None:
        """Choose the direction of the slider anew: ``"ascent"`` of the gradient norm, or a ``"random"`` one."""
        self._direction = known("direction", direction, DIRECTIONS)
        self._draws += 1
        self._look_along()

    def view(self, near: Any) -> None:
        """Draw level sets around the point alone (True), or around the whole course (False).

        Raises:
            ValueError: Neither of the two.
        """
        if not isinstance(near, bool):
            refuse("near", "true or false", near)
        self._near = near

    def _require_play(self) -> None:
        if self.over:
            raise ValueError("the episode is over: undo, or start a new one")

    def _keep(self) -> tuple[EnvSnapshot, Any, float, bool]:
        return self.env.snapshot(), self._memory, self._gained, self.over

    def _done(self, before: tuple[EnvSnapshot, Any, float, bool], reward: float, over: bool) -> None:
        self._past.append(before)
        self._memory, self._gained, self.over = self._next_memory, self._gained + reward, over

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.advice = self._ask()
        self._look_along()

    def _ask(self) -> dict[str, Any] | None:
        """What the agent would do: ``action``, and ``probabilities`` ``(actions,)`` where it has any."""
        if self._agent is None or self._adviser is None or self.over:
            return None
        observation, _ = self._adviser.restore(self.env.snapshot())
        batch, start = observation[None], np.array([self._memory is None])
        action, self._next_memory = self._agent.predict(batch, self._memory, start)
        chances = [0.0] * len(self.env.action_names)
        if isinstance(self._agent, LearnedSchedule):
            for place, chance in zip(self._own_actions, self._agent.probabilities(batch)[0].tolist(), strict=True):
                chances[place] += chance
        else:
            chances[self._own_actions[int(action[0])]] = 1.0
        return {"action": self._own_actions[int(action[0])], "probabilities": chances}

    def _look_along(self) -> None:
        """Where moves by hand lead, along a direction in the Lie algebra."""
        self._ray: torch.Tensor | None = None
        self.level_set: dict[str, Any] | None = None
        if self._by_hand is None or self.over:
            return
        runs, settings = self.env.episodes.runs, self.env.settings
        dim = settings.group_dim
        with torch.no_grad():
            ray = torch.ones(1, dim, dtype=runs.dtype) if dim == 1 else self._draw(dim)
            count = _PLANE if dim == 1 else _SPACE
            shares = torch.linspace(-1.0, 1.0, count, dtype=runs.dtype)
            start = self._start(count)
            found = judged(start, moved_by(start, settings.group_scale * shares[:, None] * ray))
        norm = found.gradient.norm(dim=1)
        self._ray = ray[0]
        points = None
        if found.params.shape[1] == 2:
            points = [[finite(value) for value in point] for point in found.params.tolist()]
        self.level_set = {
            "shares": shares.tolist(),
            "length": settings.group_scale,
            "direction": "turn" if dim == 1 else self._direction,
            "price": runs.price_of_move(),
            "grad_norm": [finite(value) for value in norm.tolist()],
            "refused": [None if status == Status.MOVED else Status(status).words for status in found.status.tolist()],
            "points": points,
        }

    def _draw(self, dim: int) -> torch.Tensor:
        """A direction ``(1, dim)`` of length 1."""
        if self._direction == "ascent":
            start = self._start(1)
            ray = ascent_direction(start, at_start(start))
            if bool(torch.isfinite(ray).all()) and float(ray.norm()) > 0:
                ray = ray / ray.abs().max()  # squares of tiny numbers vanish
                return ray / ray.norm()
        generator = torch.Generator().manual_seed(self.wish.seed + self._draws)
        ray = torch.randn(1, dim, dtype=self.env.episodes.runs.dtype, generator=generator)
        return ray / ray.norm()

    def _start(self, count: int) -> Start:
        """The run as ``count`` equal rows for the engine to search from; what they evaluate is charged to no run."""
        runs = self.env.episodes.runs
        batch = None if runs.batch is None else runs.batch.repeat_interleave(count, 0)
        numbers = runs.progress
        evaluator = Evaluator(runs.problem, runs.instance.repeat(count), batch)
        symmetry = runs.symmetry
        assert symmetry is not None  # or there would be no slider
        return Start(
            runs.params.repeat(count, 1).contiguous(),
            numbers.loss.repeat(count),
            runs.gradient.repeat(count, 1).contiguous(),
            numbers.learning_rate.repeat(count),
            symmetry,
            evaluator,
            Streams.from_seeds([self.wish.seed] * count),
            scale=numbers.initial_loss.repeat(count),
        )

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        ended = ""
        if self.over:
            numbers = self.env.episodes.numbers()
            ended = next((name for name in ("converged", "diverged") if bool(numbers[name][0])), "budget spent")
        points = None if self.level_set is None else self.level_set["points"]
        orbit = [point for point in points or [] if None not in point]
        return {
            **self.course.document(orbit, self._near),
            "gained": finite(self._gained),
            "over": ended,
            "payable": [bool(one) for one in self.env.action_masks()],
            "advice": self.advice,
            "level_set": self.level_set,
            "no_hand": self.no_hand,
            "undo": len(self._past),
            "near": self._near,
        }
