"""Fixed schedules of rates and teleports, searched for by the hundred on the train split.

A `Plan` is `RateAndTeleport` within a policy's menu: one teleport before each of the first gradient steps, then one at an
interval; the rate goes up in a warm-up and down at an interval. The best plan is the baseline that a policy has to beat with
the same menu, it brings the base learning rate, and it is the teacher of a warm start.

Plans are played side by side, many plans and instances in one tensor. What is tried is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch

from teleport_env.agents.base import Agent
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances
from teleport_env.agents.policies.learned_moves import LearnedMoves, Policy
from teleport_env.agents.policies.moves import MovePlan
from teleport_env.agents.schedules import RateAndTeleport
from teleport_env.envs.settings import DIVERGED_RETURN
from teleport_env.envs.vector import TeleportVectorEnv

MULTIPLES = tuple(2.0**k for k in range(-4, 4))
"""Of the problem's default learning rate, tried as bases."""

TUNING_SEED = 20221
"""Of the choice of train instances, and of the search."""

_ROWS = 2048  # side by side


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

        Args:
            environment: That of the policy whose menu the plan was found in; of the menu it gets the one search it uses.
            settings: Further settings of the agent.
        """
        menu = list(environment.get("searches", ()))
        own = {"learning_rate": self.learning_rate, "searches": menu[self.which : self.which + 1]}
        times = {name: getattr(self, name) for name in ("warmup", "decay_every", "first", "every")}
        kept = {name: value for name, value in environment.items() if name != "rate_factors"}
        return RateAndTeleport(up=self.up, down=self.down, **times, environment={**kept, **own}, **settings)


class Players:
    """Plans as players of the rows of one environment, a plan a row."""

    def __init__(self, env: TeleportVectorEnv, plans: Sequence[Plan]) -> None:
        self._env = env
        table = np.array([astuple(plan) for plan in plans])
        _, up, self._warmup, down, self._decay, which, self._first, self._every = table.T
        factors = list(env.settings.rate_factors)
        self._plain = factors.index(1.0)
        self._up = np.array([factors.index(factor) for factor in up])
        self._down = np.array([factors.index(factor) for factor in down])
        self._teleport = len(factors) + which.astype(np.int64)
        self._stride = env.settings.steps_per_action
        prices = env.episodes.prices.numpy()
        self._price = prices[which.astype(np.int64)] if len(prices) else np.full(len(plans), np.inf)
        self._taken = np.zeros(len(plans))
        self._since = np.full(len(plans), np.inf)
        self._next_decay = np.where(self._decay > 0, self._warmup + self._decay, np.inf)
        self._asked = np.zeros(len(plans), dtype=bool)

    def decide(self, cost: np.ndarray) -> np.ndarray:
        """Actions ``(B,)``, given what was spent."""
        wants = self._taken < self._first
        wants |= (self._every > 0) & (self._taken > 0) & (self._since >= self._every)
        payable = self._env.settings.budget - cost - self._price >= 1.0 - 1e-3
        teleport = wants & ~self._asked & payable
        decays = self._taken >= self._next_decay
        step = np.where(self._taken < self._warmup, self._up, self._plain)
        step = np.where(decays, self._down, step)
        self._next_decay = self._next_decay + np.where(decays & ~teleport, self._decay, 0)
        self._taken = self._taken + np.where(teleport, 0, self._stride)
        self._since = np.where(teleport, 0, self._since + self._stride)
        self._asked = teleport
        return np.where(teleport, self._teleport, step)


@dataclass(frozen=True)
class Lesson:
    """What plans saw and did: ``observations (N, F)`` float32 and ``actions (N,)`` int64."""

    observations: np.ndarray
    actions: np.ndarray


def play_plans(
    training: Training,
    plans: Sequence[Plan],
    instance_ids: np.ndarray,
    seed: int = 0,
    lesson: bool = False,
    split: str = "train",
) -> tuple[np.ndarray, Lesson | None]:
    """Orders of magnitude gained ``(plans, instances)`` on a split, and what was seen and done if asked."""
    gained = np.zeros((len(plans), len(instance_ids)))
    seen: list[np.ndarray] = []
    done: list[np.ndarray] = []
    rates = np.array([plan.learning_rate for plan in plans])
    at_once = max(1, _ROWS // len(instance_ids))
    for rate in np.unique(rates):
        same = np.flatnonzero(rates == rate)
        for begin in range(0, len(same), at_once):
            chosen = same[begin : begin + at_once]
            rows = [plans[index] for index in chosen for _ in instance_ids]
            env = TeleportVectorEnv(
                training.only,
                len(rows),
                autoreset_mode="Disabled",
                split=split,
                **{**training.environment, "learning_rate": float(rate)},
            )
            with torch.no_grad():
                found = _play(env, rows, np.tile(instance_ids, len(chosen)), seed, (seen, done) if lesson else None)
            gained[chosen] = found.reshape(len(chosen), -1)
    return gained, Lesson(np.concatenate(seen), np.concatenate(done)) if lesson else None


def _play(
    env: TeleportVectorEnv,
    rows: list[Plan],
    ids: np.ndarray,
    seed: int,
    record: tuple[list[np.ndarray], list[np.ndarray]] | None,
) -> np.ndarray:
    observation, info = env.reset(seed=seed, options={"instance_id": ids})
    players = Players(env, rows)
    over = np.zeros(len(rows), dtype=bool)
    while not over.all():
        action = players.decide(info["cost"])
        if record is not None:
            record[0].append(observation[~over])
            record[1].append(action[~over])
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated | truncated
    returns = env.episodes.returns.numpy()
    if env.episodes.measures_apart:
        # what an episode gained is told by the whole training set, not by its last mini-batch
        last = _orders(env)
        env.reset(seed=seed, options={"instance_id": ids})
        first = _orders(env)
        returns = np.where(info["diverged"].astype(bool), DIVERGED_RETURN, first - last)
    return returns


def _orders(env: TeleportVectorEnv) -> np.ndarray:
    """``log10`` of the loss on the whole training set, floored at the tolerance."""
    loss = np.asarray(env.measure()["training_loss"], dtype=np.float64)
    return np.log10(np.clip(loss, env.settings.tolerance, 1e300))


# -- the search --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searched:
    """What the search for a plan found.

    Attributes:
        plan: The best; a `Plan`, or in the group mode a `MovePlan`.
        gained: Its mean on instances of the train split that did not choose the last few.
        tried: Plans played.
        episodes: Episodes played.
    """

    plan: Any
    gained: float
    tried: int
    episodes: int


def search_plans(training: Training, instances: int = 32) -> Searched:
    """The best fixed schedule within a menu: random plans, then variations of the best, then a last choice.

    A quarter of ``plans`` are random; six rounds of an eighth each vary the eight best so far, one setting or two at a
    time, to a neighbouring value or to any. The eight best of all are played again on ten times as many other
    instances.

    Args:
        training: Menu, budget and number of plans.
        instances: Of the train split, that each plan is tried on.
    """
    generator = np.random.default_rng(np.random.SeedSequence(TUNING_SEED))
    ids = draw_instances(training.only, "train", 11 * instances, TUNING_SEED)
    few, many = ids[:instances], ids[instances:] if len(ids) > instances else ids
    choices = _choices(training)
    # plain descent at each rate is always among them
    tried = {Plan(rate) for rate in choices["learning_rate"]}
    for _ in range(training.teaching.plans // 4):
        tried.add(_canonical(Plan(**{name: any_of(values, generator) for name, values in choices.items()})))
    scores = _score(training, sorted(tried, key=astuple), few)
    for _ in range(6):
        parents = sorted(scores, key=lambda plan: -scores[plan])[:8]
        children: set[Plan] = set()
        for _ in range(training.teaching.plans // 8):
            parent = parents[generator.integers(len(parents))]
            names = generator.choice(list(choices), size=generator.integers(1, 3), replace=False).tolist()
            changed = {name: vary(getattr(parent, name), choices[name], generator) for name in names}
            children.add(_canonical(replace(parent, **changed)))
        scores |= _score(training, sorted(children - scores.keys(), key=astuple), few)
    finalists = sorted(scores, key=lambda plan: -scores[plan])[:8]
    final = _score(training, finalists, many)
    best = max(final, key=lambda plan: final[plan])
    episodes = len(scores) * len(few) + len(final) * len(many)
    return Searched(best, final[best], len(scores), episodes)


def _score(training: Training, plans: Sequence[Plan], ids: np.ndarray) -> dict[Plan, float]:
    if not plans:
        return {}
    gained, _ = play_plans(training, plans, ids, seed=TUNING_SEED)
    return dict(zip(plans, gained.mean(axis=1).tolist(), strict=True))


def any_of(values: Sequence[Any], generator: np.random.Generator) -> Any:
    """One of some values."""
    return values[int(generator.integers(len(values)))]


def vary(value: Any, values: Sequence[Any], generator: np.random.Generator) -> Any:
    """A neighbour in an ordered list, or any of its entries."""
    if generator.integers(2):
        return any_of(values, generator)
    place = values.index(value) + (1 if generator.integers(2) else -1)
    return values[min(max(place, 0), len(values) - 1)]


def _choices(training: Training) -> dict[str, list[Any]]:
    """What each setting of a plan may be; times on a scale from one action to the whole budget."""
    settings = training.settings()
    stride, budget = settings.steps_per_action, settings.budget
    times = sorted({stride * max(1, round(budget * share / stride)) for share in (0.01, 0.02, 0.04, 0.08, 0.15, 0.3)})
    factors = settings.rate_factors
    base = settings.learning_rate
    fixed = training.task.learning_rate is not None
    return {
        "learning_rate": [base] if fixed else [base * multiple for multiple in MULTIPLES],
        "up": sorted(factor for factor in factors if factor >= 1.0),
        "warmup": [0, *(stride * count for count in (1, 2, 3, 4, 6, 8))],
        "down": sorted(factor for factor in factors if factor <= 1.0),
        "decay_every": [0, *times],
        "which": [*range(max(1, len(settings.searches)))],
        "first": [0, 1, stride + 1, 2 * stride + 1, 4 * stride + 1] if settings.searches else [0],
        "every": [0, *times] if settings.searches else [0],
    }


def _canonical(plan: Plan) -> Plan:
    """The plan without settings that do nothing, so that none is tried twice."""
    if plan.up == 1.0 or plan.warmup == 0:
        plan = replace(plan, up=1.0, warmup=0)
    if plan.down == 1.0 or plan.decay_every == 0:
        plan = replace(plan, down=1.0, decay_every=0)
    return plan if plan.first or plan.every else replace(plan, which=0)


def plan_of(policy: Policy) -> Agent | None:
    """The best fixed schedule that the training of a policy found, as an agent; None if it searched for none.

    Raises:
        ValueError: The policy's file says something else than a plan.
    """
    found = policy.provenance.get("plan")
    if found is None:
        return None
    try:
        if isinstance(policy, LearnedMoves):
            return MovePlan(**found["plan"]).agent(policy.environment, name=f"best plan of {policy.name}")
        plan = Plan(**found["plan"])
        return plan.agent(policy.environment, name=f"best plan of {policy.name}")
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the plan in the file of the policy {policy.name!r} is none: {error}") from error
