"""Paired play: every agent meets the same instances, starts and mini-batch orders, under the same budget.

One episode is one row of the results. An agent's episodes of one seed run side by side in one native vector environment;
different agents and problems go to different processes. What a table says of loss is measured on the whole training set,
which no budget pays for; what an agent sees and pays for is its own current data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from teleport_env.agents.base import Agent
from teleport_env.envs.settings import DIVERGED_RETURN, Settings
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.random import seeds_of_rows
from teleport_env.registration import id_of


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


def draw_instances(
    problem: str, split: str, count: int, seed: int, settings: dict[str, Any] | None = None
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


def play(
    problem: str,
    agent: Agent,
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    observations: bool = False,
) -> Played:
    """Play one episode an instance.

    Args:
        problem: Registered name.
        agent: Who plays; its ``environment`` is used.
        instance_ids: ``(B,)``, the instances.
        split: Their split.
        budget: Gradient evaluations an episode; None: the problem's default.
        seed: Of the random numbers that searches draw; not of the instances.
        settings: Further keyword arguments of the environment; the agent's own go before them.
        observations: Keep what every action was decided on.

    Returns:
        The results.
    """
    env = _make(problem, len(instance_ids), split, budget, {**(settings or {}), **agent.environment})
    with torch.no_grad():
        return _play(env, problem, agent, instance_ids, seed, seed, observations)


def _make(
    problem: str, count: int, split: str, budget: float | None, arguments: Mapping[str, Any]
) -> TeleportVectorEnv:
    env = gym.make_vec(
        id_of(problem),
        num_envs=count,
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        split=split,
        **{**arguments, **({} if budget is None else {"budget": budget})},
    ).unwrapped
    assert isinstance(env, TeleportVectorEnv)
    return env


@dataclass(frozen=True)
class _Chorus:
    """Agents of one environment that play the same instances beside one another, each its own rows."""

    agents: Sequence[Agent]
    name: str = "chorus"
    kind: str = "fixed"

    def predict(self, observation: np.ndarray, state: Any, episode_start: np.ndarray) -> tuple[np.ndarray, Any]:
        count = len(self.agents)
        states = state or [None] * count
        found = [
            agent.predict(seen, memory, start)
            for agent, seen, memory, start in zip(
                self.agents, np.split(observation, count), states, np.split(episode_start, count), strict=True
            )
        ]
        return np.concatenate([actions for actions, _ in found]), [memory for _, memory in found]


def play_many(
    problem: str,
    agents: Sequence[Agent],
    instance_ids: np.ndarray,
    *,
    split: str,
    budget: float | None = None,
    seed: int = 0,
    rows: int = 2048,
) -> np.ndarray:
    """Orders of magnitude gained ``(agents, B)``: what `play` finds agent by agent, in less time.

    Agents that ask for the same environment play side by side in one.

    Args:
        rows: So many episodes side by side at most.
    """
    gained = np.zeros((len(agents), len(instance_ids)))
    alike: dict[str, list[int]] = {}
    for index, agent in enumerate(agents):
        alike.setdefault(json.dumps(dict(agent.environment), sort_keys=True, default=repr), []).append(index)
    at_once = max(1, rows // len(instance_ids))
    # row by row the random numbers that a row has when its agent plays alone
    seeds = seeds_of_rows(seed, len(instance_ids))
    for indices in alike.values():
        for begin in range(0, len(indices), at_once):
            chosen = indices[begin : begin + at_once]
            env = _make(problem, len(chosen) * len(instance_ids), split, budget, agents[chosen[0]].environment)
            chorus = _Chorus([agents[index] for index in chosen])
            ids = np.tile(instance_ids, len(chosen))
            with torch.no_grad():
                played = _play(env, problem, chorus, ids, seed, seeds * len(chosen))
            gained[chosen] = np.reshape([row["gained"] for row in played.rows], (len(chosen), -1))
    return gained


def _play(
    env: TeleportVectorEnv,
    problem: str,
    agent: Agent | _Chorus,
    instance_ids: np.ndarray,
    seed: int,
    seeds: int | list[int],
    observations: bool = False,
) -> Played:
    began = time.perf_counter()
    observation, info = env.reset(seed=seeds, options={"instance_id": instance_ids})
    first = env.measure()["training_loss"]
    count = len(instance_ids)
    state: Any = None
    start = np.ones(count, dtype=bool)
    over = np.zeros(count, dtype=bool)
    costs, losses, norms, jumps = [info["cost"]], [info["loss"]], [info["grad_norm"]], [np.zeros(count, dtype=bool)]
    lost = [info["diverged"].astype(bool)]
    before = info["teleports"]
    asked, rates, seen = [], [info["learning_rate"]], []
    while not over.all():
        action, state = agent.predict(observation, state, start)
        # of an action of the group mode: whether it asks for a teleport
        kind = action if np.ndim(action) == 1 else (np.asarray(action)[:, 0] > 0).astype(np.int64)
        asked.append(np.where(over, -1, kind))
        if observations:
            seen.append(observation.copy())
        observation, _, terminated, truncated, info = env.step(action)
        start = np.zeros(count, dtype=bool)
        over = terminated | truncated
        costs.append(info["cost"])
        losses.append(info["loss"])
        norms.append(info["grad_norm"])
        lost.append(info["diverged"].astype(bool))
        jumps.append(info["teleports"] > before)
        rates.append(info["learning_rate"])
        before = info["teleports"]
    last = env.measure()["training_loss"]
    seconds = (time.perf_counter() - began) / count

    tolerance = env.settings.tolerance
    diverged = info["diverged"].astype(bool)
    gained = np.where(diverged, DIVERGED_RETURN, _orders(first, tolerance) - _orders(last, tolerance))
    rows = [
        {
            "problem": problem,
            "agent": agent.name,
            "kind": agent.kind,
            "seed": seed,
            "instance_id": int(instance_ids[i]),
            "split": env.settings.split,
            "budget": env.settings.budget,
            "cost": float(info["cost"][i]),
            "gained": float(gained[i]),
            "initial_loss": float(first[i]),
            "loss": float(last[i]),
            "steps": int(info["step"][i]),
            "teleports": int(info["teleports"][i]),
            "converged": bool(info["converged"][i]),
            "diverged": bool(diverged[i]),
            "seconds": seconds,
        }
        for i in range(count)
    ]
    loss = np.stack(losses)
    orders = _orders(loss, tolerance) - _orders(loss[:1], tolerance)
    # a run that is over stands still; a diverged one has no loss to show from there on
    orders = np.where(np.stack(lost), np.nan, orders)
    return Played(
        rows,
        np.stack(costs),
        loss,
        orders,
        np.stack(norms),
        np.stack(jumps),
        actions=np.stack(asked),
        rate=np.stack(rates),
        observations=np.stack(seen) if observations else None,
    )


def _orders(loss: np.ndarray, tolerance: float) -> np.ndarray:
    """``log10`` of the loss, floored at the tolerance; a loss that is not finite counts as the largest number."""
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
