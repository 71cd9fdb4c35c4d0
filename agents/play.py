"""The one episode loop, and paired play: all agents meet the same instances, starts and mini-batch orders.

`episodes` is the loop; whatever plays whole episodes plays through it. `play_all` makes the environments and measures: one
episode is one row of the results. Episodes of one seed run side by side in native vector environments, those of all agents
that can share one (`teleport_env.agents.together`); no number depends on who plays beside whom, but for the time. Losses in
tables are measured on the whole training set, which no budget pays for; an agent sees its own current data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from teleport_env.agents.base import Agent
from teleport_env.agents.outside import Outside, as_agent
from teleport_env.agents.together import Ensemble, ensembles
from teleport_env.envs.rewards import DIVERGED_RETURN
from teleport_env.envs.settings import Settings, check_arguments
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.random import seeds_of_rows
from teleport_env.reading import flag, integer, refuse, tensor
from teleport_env.registration import id_of
from teleport_env.searches import describe

__all__ = ["Moment", "Played", "draw_instances", "episodes", "play", "play_all", "play_many"]

ROWS, NUMBERS = 4096, 1 << 19
"""Episodes that play side by side at most, and parameters: of big networks fewer, whose numbers should lie in a cache."""


NO_MENU = "none"
"""Menu of those that do not teleport."""


@dataclass(frozen=True)
class Moment:
    """A point in the course of some episodes: before the first action, when only info and ``over`` are known, or after one.

    Attributes:
        info: The environment's, now.
        over: ``(B,)`` bool, episodes that have ended; ``()`` in an environment of one run.
        reward: Reward of the action, ``(B,)`` or a number.
        action: The action.
        seen: Observation that the action was decided on.
        acting: ``(B,)`` bool, episodes that had not ended before the action.
    """

    info: dict[str, Any]
    over: np.ndarray
    reward: Any = None
    action: Any = None
    seen: Any = None
    acting: Any = None


def episodes(
    env: Any, agent: Agent | Ensemble, *, seed: int | list[int], options: dict[str, Any] | None = None
) -> Iterator[Moment]:
    """Play every run of an environment to its end.

    Args:
        env: Environment of one run, or a vector environment that resets no run by itself.
        agent: Agent that plays.
        seed: Seed of the reset.
        options: Options of the reset.

    Yields:
        The start, and the state after every action.
    """
    observation, info = env.reset(seed=seed, options=options)
    over = np.zeros(np.shape(info["cost"]), dtype=bool)
    state: Any = None
    start, masked = np.ones_like(over), isinstance(agent, Ensemble | Outside) and agent.masked
    yield Moment(info, over)
    while not over.all():
        masks = {"action_masks": env.unwrapped.action_masks()} if masked else {}
        action, state = agent.predict(observation, state, start, **masks)
        seen, acting = observation, over
        observation, reward, terminated, truncated, info = env.step(action)
        over, start = np.logical_or(terminated, truncated), np.zeros_like(over)
        yield Moment(info, over, reward, action, seen, ~acting)


@dataclass(frozen=True)
class Played:
    """What came of one agent on one problem and seed.

    Attributes:
        rows: One dict per episode, with the keys `COLUMNS` of the summary.
        cost: ``(T + 1, B)`` gradient evaluations spent after each action; an ended episode's stay where they are.
        loss: ``(T + 1, B)`` on the run's current data (one mini-batch, where there are mini-batches).
        orders: ``(T + 1, B)`` ``log10`` of ``loss`` over its first entry, floored at the tolerance; NaN from where a run
            has diverged.
        grad_norm: ``(T + 1, B)``.
        teleported: ``(T + 1, B)`` bool, whether the action was a teleport that moved.
        actions: ``(T, B)`` int64, what was asked for (in the group mode 0 for a step, 1 for a teleport); -1 once the episode
            was over. None where there are no actions.
        rate: ``(T + 1, B)``, the learning rate; None where there is none.
        observations: ``(T, B, F)`` float32, what each action was decided on, where `play` was asked to keep it.
        seconds: ``(T, B)`` processor seconds of each action, decision included: a run's share of what all took that played
            side by side. None where there are no actions.
    """

    rows: list[dict[str, Any]]
    cost: np.ndarray
    loss: np.ndarray
    orders: np.ndarray
    grad_norm: np.ndarray
    teleported: np.ndarray
    actions: np.ndarray | None = None
    rate: np.ndarray | None = None
    observations: np.ndarray | None = None
    seconds: np.ndarray | None = None

    @property
    def gained(self) -> np.ndarray:
        """Orders of magnitude gained ``(B,)``."""
        return np.array([row["gained"] for row in self.rows])


def draw_instances(
    problem: str, split: str, count: int, seed: int, settings: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Ids ``(count,)`` int64 of instances of a split, drawn from a seed; all of a split that holds fewer.

    Args:
        problem: Registered name.
        split: The split.
        count: Number of instances.
        seed: An integer of at least 0.
        settings: Keyword arguments of the environment that shape the problem (``problem``).

    Raises:
        ValueError: An argument that is not allowed.
    """
    count, seed = integer("count", count, 0), integer("seed", seed, 0)
    check_arguments("settings", settings or {})
    limit = Settings.build(problem, split=split, **(settings or {})).problem.num_instances(split)
    if limit is not None and limit <= count:
        return np.arange(limit)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    if limit is not None:
        return np.sort(generator.choice(limit, size=count, replace=False))
    return generator.integers(1 << 53, size=count)


def rows_at_once(problem: str, settings: Mapping[str, Any] | None = None) -> int:
    """How many episodes of a problem pay side by side; ``settings`` as in `play_all`."""
    made = Settings.build(problem, **{"split": "train", **(settings or {})}).problem
    parameters = made.instances(torch.zeros(1, dtype=torch.int64), "train").start.shape[1]
    return max(128, min(ROWS, NUMBERS // parameters))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread: rows of several threads may depend on how many rows there are (docs/design.md)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def play(problem: str, agent: Any, instance_ids: np.ndarray, **settings: Any) -> Played:
    """`play_all` of one agent."""
    return play_all(problem, [agent], instance_ids, **settings)[0]


@one_thread()
def play_all(
    problem: str,
    agents: Sequence[Any],
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    observations: bool = False,
    rows: int | None = None,
    actions: int | None = None,
) -> list[Played]:
    """Play one episode per agent and instance, with one thread of torch, so that episodes do not depend on their company.

    Args:
        problem: Registered name.
        agents: Agents that play, each in any form that `as_agent` takes; the ``environment`` of each is used.
        instance_ids: ``(B,)``, the instances.
        split: Their split.
        budget: Gradient evaluations per episode; None: the agent's environment's, or the problem's default.
        seed: Seed of the random numbers that searches draw; not of the instances. They are the same for all agents.
        settings: Further keyword arguments of the environment; the agent's own go before them.
        observations: Keep what every action was decided on.
        rows: Episodes side by side, at most; None: `rows_at_once`.
        actions: Actions after which episodes are left, at most; None: they are played to their ends.

    Returns:
        One for each agent. The ``seconds`` of its episodes are their share of the processor time of those that played beside
        them.

    Raises:
        ValueError: One is nothing that plays, or was made for other actions; or an argument is not allowed.
    """
    instance_ids = tensor("instance_ids", instance_ids, integers=True).numpy()
    if instance_ids.ndim != 1 or not len(instance_ids):
        refuse("instance_ids", "a list of one or more integers", instance_ids)
    check_arguments("settings", settings or {})
    seed, rows = integer("seed", seed, 0), None if rows is None else integer("rows", rows, 1)
    actions = None if actions is None else integer("actions", actions, 1)
    flag("observations", observations)
    agents = [as_agent(agent) for agent in agents]
    for agent in agents:
        if isinstance(agent, Outside):
            agent.check_actions(Settings.build(problem, **{"split": split, **(settings or {}), **agent.environment}))
    found: dict[int, Played] = {}
    asked: dict[str, Any] = {"split": split, "budget": budget, "seed": seed, "settings": settings, "most": rows}
    asked |= {"observations": observations, "actions": actions}
    for numbers, episodes_of_all, course in _played(problem, agents, instance_ids, **asked):
        for place, number in enumerate(numbers):
            mine = slice(place * len(instance_ids), (place + 1) * len(instance_ids))
            found[number] = _one_of(episodes_of_all[mine], {name: values[:, mine] for name, values in course.items()})
    return [found[number] for number in range(len(agents))]


@one_thread()
def play_many(
    problem: str,
    agents: Sequence[Agent],
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    rows: int | None = None,
    reward: str | None = None,
) -> np.ndarray:
    """Orders of magnitude gained ``(agents, B)``, as `play_all` finds them, and nothing else.

    With the name of a ``reward`` the returns of the environment by that reward in their place.
    """
    gained = np.zeros((len(agents), len(instance_ids)))
    asked: dict[str, Any] = {"split": split, "budget": budget, "seed": seed, "settings": settings, "most": rows}
    for numbers, episodes_of_all, _ in _played(problem, agents, instance_ids, course=False, reward=reward, **asked):
        gained[numbers] = np.reshape([row["gained"] for row in episodes_of_all], (len(numbers), -1))
    return gained


def _played(
    problem: str,
    agents: Sequence[Agent],
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None,
    seed: int,
    settings: Mapping[str, Any] | None,
    most: int | None,
    course: bool = True,
    observations: bool = False,
    reward: str | None = None,
    actions: int | None = None,
) -> Iterator[tuple[list[int], list[dict[str, Any]], dict[str, np.ndarray]]]:
    """For each environment: which agents played in it, their episodes as rows, and the course ``(T, B)`` of them."""
    imposed = {name: value for name, value in (("budget", budget), ("reward", reward)) if value is not None}
    # row by row the random numbers that a row has when its agent plays alone
    seeds = seeds_of_rows(seed, len(instance_ids))
    most = most or rows_at_once(problem, settings)
    for ensemble in ensembles(problem, agents, len(instance_ids), most, settings or {}, imposed):
        players = [agents[number] for number in ensemble.numbers]
        ids = np.tile(instance_ids, len(players))
        env = gym.make_vec(
            id_of(problem),
            num_envs=len(ids),
            vectorization_mode="vector_entry_point",
            autoreset_mode="Disabled",
            split=split,
            **ensemble.environment,
        ).unwrapped
        assert isinstance(env, TeleportVectorEnv)
        began = time.process_time()
        kept: dict[str, list[np.ndarray]] = {name: [] for name in (*_RECORDED, "asked", "seen", "seconds")}
        options = {**ensemble.options, "instance_id": ids}
        with torch.no_grad():
            since = began
            course_of_all = episodes(env, ensemble, seed=seeds * len(players), options=options)
            for moment in islice(course_of_all, None if actions is None else actions + 1):
                took = (time.process_time() - since) / len(ids)
                for name in _RECORDED if course else ():
                    kept[name].append(moment.info[name])
                if moment.seen is None:
                    first = env.measure()["training_loss"]
                elif course:
                    kept["asked"].append(np.where(moment.acting, _kinds(moment.action), -1))
                    kept["seconds"].append(np.full(len(ids), took))
                    if observations:
                        kept["seen"].append(moment.seen)
                since = time.process_time()  # recording belongs to no action
            last = env.measure()["training_loss"]
        seconds = (time.process_time() - began) / len(ids)

        tolerance, info = env.settings.tolerance, moment.info
        diverged = info["diverged"].astype(bool)
        gained = np.where(diverged, DIVERGED_RETURN, orders_of(first, tolerance) - orders_of(last, tolerance))
        if reward is not None:
            gained = env.episodes.returns.numpy()
        shared = {"problem": problem, "seed": seed, "split": split, "budget": env.settings.budget, "seconds": seconds}
        made = rows_of(
            shared,
            agent=np.repeat([agent.name for agent in players], len(instance_ids)),
            kind=np.repeat([agent.kind for agent in players], len(instance_ids)),
            menu=np.repeat([menu_of(one) if course else "" for one in ensemble.settings], len(instance_ids)),
            learning_rate=np.repeat([one.learning_rate for one in ensemble.settings], len(instance_ids)),
            instance_id=ids,
            cost=info["cost"],
            gained=gained,
            initial_loss=first,
            loss=last,
            steps=info["step"],
            teleports=info["teleports"],
            converged=info["converged"].astype(bool),
            diverged=diverged,
        )
        found = {name: np.stack(values) for name, values in kept.items() if values}
        if course:
            found["asked"] = ensemble.own(found["asked"])
            found["orders"] = orders_of(found["loss"], tolerance) - orders_of(found["loss"][:1], tolerance)
        yield ensemble.numbers, made, found


def _one_of(rows: list[dict[str, Any]], course: dict[str, np.ndarray]) -> Played:
    """One agent's part of what was played side by side, up to the end of its last episode."""
    length = int((course["asked"] >= 0).any(axis=1).sum())
    of_actions = ("asked", "seen", "seconds")
    cut = {name: values[: length + (name not in of_actions)] for name, values in course.items()}
    teleports = cut["teleports"]
    return Played(
        rows,
        cost=cut["cost"],
        loss=cut["loss"],
        # a run that is over stands still; a diverged one has no loss to show from there on
        orders=np.where(cut["diverged"].astype(bool), np.nan, cut["orders"]),
        grad_norm=cut["grad_norm"],
        teleported=np.diff(teleports, axis=0, prepend=teleports[:1]) > 0,
        actions=cut["asked"],
        rate=cut["learning_rate"],
        observations=cut.get("seen"),
        seconds=cut["seconds"],
    )


def menu_of(settings: Settings) -> str:
    """The teleports that an environment offers, in words for tables."""
    if settings.action_mode != "schedule":
        return "group parameters"
    return "; ".join(map(describe, settings.searches)) or NO_MENU


def rows_of(shared: Mapping[str, Any], **columns: Any) -> list[dict[str, Any]]:
    """One dict per episode, of Python's types: what all episodes share, and columns ``(B,)``."""
    values = [np.asarray(column).tolist() for column in columns.values()]
    return [{**shared, **dict(zip(columns, row, strict=True))} for row in zip(*values, strict=True)]


_RECORDED = ("loss", "teleports", "cost", "grad_norm", "diverged", "learning_rate")


def _kinds(action: np.ndarray) -> np.ndarray:
    """Menu indices as they are; of actions of the group mode whether they ask for a teleport."""
    return action if np.ndim(action) == 1 else (np.asarray(action)[:, 0] > 0).astype(np.int64)


def orders_of(loss: Any, tolerance: float) -> np.ndarray:
    """``log10`` of losses, floored at the tolerance; a loss that is not finite counts as the largest number, 1e300."""
    finite = np.nan_to_num(np.asarray(loss, dtype=np.float64), nan=np.inf, posinf=1e300)
    return np.log10(np.clip(finite, tolerance, 1e300))


def curve(played: Sequence[Played], budget: float, points: int = 120) -> dict[str, np.ndarray]:
    """Quartiles of the loss over compute.

    Args:
        played: One agent's episodes on one problem.
        budget: The right end.
        points: Number of points of the grid.

    Returns:
        ``cost``, ``q25``, ``median``, ``q75``, each ``(points,)``: ``log10`` of loss over initial loss at each cost, the
        last value known there; diverged runs count as -`DIVERGED_RETURN`, orders lost.
    """
    grid = np.linspace(1.0, budget, points)
    values = np.concatenate([np.stack(list(_on_grid(p, grid))) for p in played])
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    return {"cost": grid, "q25": low, "median": middle, "q75": high}


def _on_grid(played: Played, grid: np.ndarray) -> Iterator[np.ndarray]:
    for i in range(played.cost.shape[1]):
        last = np.searchsorted(played.cost[:, i], grid + 1e-9, side="right") - 1
        values = played.orders[np.clip(last, 0, None), i]
        yield np.where(np.isnan(values), -DIVERGED_RETURN, values)


def cost_to_target(played: Played, target: float, clock: np.ndarray | None = None) -> np.ndarray:
    """``(B,)`` gradient evaluations until ``target`` orders were gained; infinite where they never were.

    Another ``clock`` ``(T + 1, B)`` than the cost gives what it showed then.
    """
    reached = played.orders <= -target
    first = reached.argmax(axis=0)
    clock = played.cost if clock is None else clock
    return np.where(reached.any(axis=0), clock[first, np.arange(clock.shape[1])], np.inf)


def trace(played: Played, row: int, problem: str, agent: str) -> dict[str, Any]:
    """One episode's course, for a picture."""
    cost = played.cost[:, row]
    length = int(np.argmax(cost >= cost[-1] - 1e-12)) + 1  # without the part where the ended run only waits
    return {
        "problem": problem,
        "agent": agent,
        "cost": cost[:length].tolist(),
        "loss": played.loss[:length, row].tolist(),
        "grad_norm": played.grad_norm[:length, row].tolist(),
        "teleports": np.flatnonzero(played.teleported[:length, row]).tolist(),
    }
