"""The one episode loop, and paired play: all agents meet the same instances, starts and mini-batch orders.

`episodes` is the loop; whatever plays whole episodes plays through it. `play` makes the environment and measures: one
episode is one row of the results. An agent's episodes of one seed run side by side in one native vector environment.
Losses in tables are measured on the whole training set, which no budget pays for; an agent sees its own current data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from teleport_env.agents.base import Agent
from teleport_env.envs.rewards import DIVERGED_RETURN
from teleport_env.envs.settings import Settings
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.random import seeds_of_rows
from teleport_env.registration import id_of

ROWS = 2048
"""Episodes that `play_many` and its kin play side by side at most."""


@dataclass(frozen=True)
class Moment:
    """A point in the course of some episodes: before the first action, when only info and ``over`` are known, or after one.

    Attributes:
        info: The environment's, now.
        over: ``(B,)`` bool, episodes that have ended; ``()`` in an environment of one run.
        reward: Of the action, ``(B,)`` or a number.
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
    env: Any, agent: Agent | _Chorus, *, seed: int | list[int], options: dict[str, Any] | None = None
) -> Iterator[Moment]:
    """Play every run of an environment to its end.

    Args:
        env: Of one run, or a vector environment that resets no run by itself.
        agent: Who plays.
        seed: For the reset.
        options: For the reset.

    Yields:
        The start, and the state after every action.
    """
    observation, info = env.reset(seed=seed, options=options)
    over = np.zeros(np.shape(info["cost"]), dtype=bool)
    state, start = None, np.ones_like(over)
    yield Moment(info, over)
    while not over.all():
        action, state = agent.predict(observation, state, start)
        seen, acting = observation.copy(), over
        observation, reward, terminated, truncated, info = env.step(action)
        over, start = np.logical_or(terminated, truncated), np.zeros_like(over)
        yield Moment(info, over, reward, action, seen, ~acting)


@dataclass(frozen=True)
class Played:
    """What came of one agent on one problem and seed.

    Attributes:
        rows: One dict an episode, with the keys `COLUMNS` of the summary.
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
        count: How many.
        seed: Any integer.
        settings: Keyword arguments of the environment that shape the problem (``problem``).
    """
    limit = Settings.build(problem, split=split, **(settings or {})).problem.num_instances(split)
    if limit is not None and limit <= count:
        return np.arange(limit)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    if limit is not None:
        return np.sort(generator.choice(limit, size=count, replace=False))
    return generator.integers(1 << 53, size=count)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread: rows of several threads may depend on how many rows there are (docs/design.md)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def play(
    problem: str,
    agent: Agent | _Chorus,
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    seeds: list[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    observations: bool = False,
) -> Played:
    """Play one episode per instance, with one thread of torch, so that episodes do not depend on their company.

    Args:
        problem: Registered name.
        agent: Who plays; its ``environment`` is used.
        instance_ids: ``(B,)``, the instances.
        split: Their split.
        budget: Gradient evaluations per episode; None: the agent's environment's, or the problem's default.
        seed: Of the random numbers that searches draw; not of the instances.
        seeds: One per episode in place of the ones that follow from ``seed``.
        settings: Further keyword arguments of the environment; the agent's own go before them.
        observations: Keep what every action was decided on.
    """
    arguments = {**(settings or {}), **agent.environment, **({} if budget is None else {"budget": budget})}
    env = gym.make_vec(
        id_of(problem),
        num_envs=len(instance_ids),
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        split=split,
        **arguments,
    ).unwrapped
    assert isinstance(env, TeleportVectorEnv)
    began = time.perf_counter()
    course: dict[str, list[np.ndarray]] = {name: [] for name in _RECORDED}
    asked, seen = [], []
    with torch.no_grad():
        for moment in episodes(env, agent, seed=seeds or seed, options={"instance_id": instance_ids}):
            for name, values in course.items():
                values.append(moment.info[name])
            if moment.seen is None:
                first = env.measure()["training_loss"]
                continue
            asked.append(np.where(moment.acting, _kinds(moment.action), -1))
            if observations:
                seen.append(moment.seen)
        last = env.measure()["training_loss"]
    seconds = (time.perf_counter() - began) / len(instance_ids)

    tolerance, info = env.settings.tolerance, moment.info
    diverged = info["diverged"].astype(bool)
    gained = np.where(diverged, DIVERGED_RETURN, orders_of(first, tolerance) - orders_of(last, tolerance))
    shared = {"problem": problem, "agent": agent.name, "kind": agent.kind, "seed": seed, "split": split}
    rows = rows_of(
        {**shared, "budget": env.settings.budget, "seconds": seconds},
        instance_id=instance_ids,
        cost=info["cost"],
        gained=gained,
        initial_loss=first,
        loss=last,
        steps=info["step"],
        teleports=info["teleports"],
        converged=info["converged"].astype(bool),
        diverged=diverged,
    )
    loss, teleports, cost, norm, lost, rate = (np.stack(values) for values in course.values())
    orders = orders_of(loss, tolerance) - orders_of(loss[:1], tolerance)
    # a run that is over stands still; a diverged one has no loss to show from there on
    orders = np.where(lost.astype(bool), np.nan, orders)
    moved = np.diff(teleports, axis=0, prepend=teleports[:1]) > 0
    return Played(
        rows, cost, loss, orders, norm, moved, np.stack(asked), rate, np.stack(seen) if observations else None
    )


def rows_of(shared: Mapping[str, Any], **columns: Any) -> list[dict[str, Any]]:
    """One dict per episode, of Python's types: what all episodes share, and columns ``(B,)``."""
    values = [np.asarray(column).tolist() for column in columns.values()]
    return [{**shared, **dict(zip(columns, row, strict=True))} for row in zip(*values, strict=True)]


_RECORDED = ("loss", "teleports", "cost", "grad_norm", "diverged", "learning_rate")


def _kinds(action: np.ndarray) -> np.ndarray:
    """Menu indices as they are; of actions of the group mode whether they ask for a teleport."""
    return action if np.ndim(action) == 1 else (np.asarray(action)[:, 0] > 0).astype(np.int64)


@dataclass(frozen=True)
class _Chorus:
    """Agents of one environment that play the same instances beside one another, each its own rows."""

    agents: Sequence[Agent]
    name: str = "chorus"
    kind: str = "fixed"

    @property
    def environment(self) -> Mapping[str, Any]:
        return self.agents[0].environment

    def predict(self, observation: np.ndarray, state: Any, episode_start: np.ndarray) -> tuple[np.ndarray, Any]:
        count = len(self.agents)
        states = state or [None] * count
        parts = zip(self.agents, np.split(observation, count), states, np.split(episode_start, count), strict=True)
        found = [agent.predict(seen, memory, start) for agent, seen, memory, start in parts]
        return np.concatenate([actions for actions, _ in found]), [memory for _, memory in found]


def batches(environments: Sequence[Mapping[str, Any]], at_once: int) -> Iterator[list[int]]:
    """Indices of equal environments, at most so many at once: they can play side by side in one."""
    alike: dict[str, list[int]] = {}
    for index, environment in enumerate(environments):
        alike.setdefault(json.dumps(dict(environment), sort_keys=True, default=repr), []).append(index)
    for indices in alike.values():
        for begin in range(0, len(indices), max(1, at_once)):
            yield indices[begin : begin + max(1, at_once)]


def play_many(
    problem: str,
    agents: Sequence[Agent],
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    rows: int = ROWS,
) -> np.ndarray:
    """Orders of magnitude gained ``(agents, B)``: what `play` finds agent by agent, in less time.

    Agents that ask for the same environment play side by side in one, at most ``rows`` episodes at once.
    """
    gained = np.zeros((len(agents), len(instance_ids)))
    # row by row the random numbers that a row has when its agent plays alone
    seeds = seeds_of_rows(seed, len(instance_ids))
    for chosen in batches([agent.environment for agent in agents], rows // len(instance_ids)):
        chorus, ids = _Chorus([agents[index] for index in chosen]), np.tile(instance_ids, len(chosen))
        played = play(problem, chorus, ids, split=split, budget=budget, seed=seed, seeds=seeds * len(chosen))
        gained[chosen] = played.gained.reshape(len(chosen), -1)
    return gained


def orders_of(loss: Any, tolerance: float) -> np.ndarray:
    """``log10`` of losses, floored at the tolerance; a loss that is not finite counts as the largest number, 1e300."""
    finite = np.nan_to_num(np.asarray(loss, dtype=np.float64), nan=np.inf, posinf=1e300)
    return np.log10(np.clip(finite, tolerance, 1e300))


def curve(played: Sequence[Played], budget: float, points: int = 120) -> dict[str, np.ndarray]:
    """Quartiles of the loss over compute.

    Args:
        played: One agent's episodes on one problem.
        budget: The right end.
        points: Of the grid.

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


def cost_to_target(played: Played, target: float) -> np.ndarray:
    """``(B,)`` gradient evaluations until ``target`` orders were gained; infinite where they never were."""
    reached = played.orders <= -target
    first = reached.argmax(axis=0)
    return np.where(reached.any(axis=0), played.cost[first, np.arange(played.cost.shape[1])], np.inf)


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
