"""A greedy look-ahead with hindsight: a reference for what a schedule could gain, and no agent.

At each decision it tries every action of the menu with every factor of the rate, for one horizon each, and takes the action
whose loss is lowest at equal cost. Its episodes pay for what they do. Trials are not charged: no schedule can make them.

It sees no further than its horizon, so that it is no upper bound. Where it gains no more with teleports than without, no
search within such horizons finds anything to schedule.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.playing import instances_of
from teleport_env.agents.play import one_thread, orders_of, rows_at_once
from teleport_env.envs.episodes import runs_of
from teleport_env.envs.rewards import DIVERGED_RETURN
from teleport_env.envs.settings import Settings
from teleport_env.random import Streams, seeds_of_rows

HORIZONS = (4, 16)
"""Horizons in gradient evaluations: a short one does not see what a low rate costs later, a long one hardly changes it."""

OPTIMIZERS: tuple[dict[str, Any], ...] = ({"optimizer": "gd"}, {"optimizer": "momentum", "momentum": 0.9})

FACTORS = (1.0, 0.25, 0.5, 2.0, 4.0)
"""Factors of the learning rate that are tried with every action."""

STAY = -1
"""No teleport, as `Runs.teleport` has it."""

_SLACK = 1e-9  # sums of thirds are not exact


@dataclass(frozen=True)
class Foreseen:
    """Episodes of a look-ahead.

    Attributes:
        gained: ``(B,)`` orders of magnitude, as tables have them.
        teleports: ``(B,)``, how many moved.
        cost: ``(B,)`` gradient evaluations of the episode.
        tried: ``(B,)`` gradient evaluations of the trials, which nothing was charged.
    """

    gained: np.ndarray
    teleports: np.ndarray
    cost: np.ndarray
    tried: np.ndarray


@one_thread()
def look_ahead(
    problem: str,
    ids: np.ndarray,
    *,
    split: str,
    horizon: int,
    teleports: bool = True,
    optimizer: str | Mapping[str, Any] = "gd",
    factors: Sequence[float] = FACTORS,
    budget: float | None = None,
    seed: int = 0,
) -> Foreseen:
    """Play one episode per instance.

    Args:
        problem: Registered name.
        ids: Instances ``(B,)``.
        split: Their split.
        horizon: Gradient evaluations that a trial may spend beside the dearest teleport. A quarter of them is then played.
        teleports: Whether the menu of the problem is tried; rates alone are tried at the same horizon.
        optimizer: Optimizer of the steps.
        factors: Factors of the rate.
        budget: Gradient evaluations per episode; None: the problem's.
        seed: Seed of the random numbers that searches draw.
    """
    settings = Settings.build(problem, split=split, budget=budget, optimizer=optimizer, on_teleport="reset")
    asked: dict[str, Any] = {"teleports": teleports, "horizon": horizon, "factors": tuple(factors)}
    seeds, rows = seeds_of_rows(seed, len(ids)), rows_at_once(problem)
    parts = [
        _Course(settings, torch.as_tensor(ids[at : at + rows]), seeds[at : at + rows], **asked).played()
        for at in range(0, len(ids), rows)
    ]
    return Foreseen(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def foreseen(settings: Mapping[str, Any]) -> dict[str, list[float]]:
    """The best look-ahead of every instance, of all `HORIZONS` and `OPTIMIZERS`, in JSON's types.

    Args:
        settings: Those of `study.playing.instances_of`, ``budget``, ``teleports``, and ``first``, the number of instances.

    Returns:
        Of each instance its ``ids`` and what was ``gained``; over all look-aheads the ``cost`` and what was ``tried``.
    """
    ids = instances_of(settings)[: settings["first"]]
    asked = {name: settings[name] for name in ("split", "budget", "teleports")}
    found = [
        look_ahead(settings["problem"], ids, horizon=horizon, optimizer=optimizer, **asked)
        for horizon in HORIZONS
        for optimizer in OPTIMIZERS
    ]
    sums = {name: np.sum([getattr(one, name) for one in found], axis=0) for name in ("cost", "tried")}
    columns = {"ids": ids, "gained": np.max([one.gained for one in found], axis=0), **sums}
    return {name: values.tolist() for name, values in columns.items()}


class _Course:
    """Episodes side by side."""

    def __init__(
        self, settings: Settings, ids: Tensor, seeds: list[int], teleports: bool, horizon: int, factors: Sequence[float]
    ) -> None:
        self.settings = settings
        self.runs = runs_of(settings, len(ids))
        self.runs.reset(Streams.from_seeds(seeds).keys, ids)
        self.prices = [self.runs.price(search) for search in settings.searches]
        # rates alone are tried for as long, or the two would differ in what they see
        self.reach, self.committed = horizon + max(self.prices, default=0.0), max(1.0, horizon / 4)
        menu = range(STAY, len(self.prices) if teleports else 0)
        self.actions = list(itertools.product(menu, factors))

    def played(self) -> tuple[np.ndarray, ...]:
        """Play to the end: the columns of `Foreseen`."""
        runs, tolerance = self.runs, self.settings.tolerance
        first = runs.evaluate()["loss"].clone()
        tried = torch.zeros_like(runs.ledger.cost)
        while bool((going := self._going(self.settings.budget)).any()):
            saved, before = runs.snapshot(), runs.ledger.cost.clone()
            losses, costs = [], []
            for which, factor in self.actions:
                runs.restore(saved)
                allowed = self._act(going, torch.full_like(runs.progress.status, which), factor, before + self.reach)
                p = runs.progress
                bad = p.diverged | ~allowed | ~torch.isfinite(p.loss)
                losses.append(torch.where(bad, torch.inf, p.loss.clamp_min(tolerance)))
                # what cannot be paid is never taken, not even where all else diverges: it would do nothing for ever
                costs.append(torch.where(allowed, runs.ledger.cost, torch.inf))
                tried += runs.ledger.cost - before
            runs.restore(saved)
            best = _best(torch.stack(losses), torch.stack(costs))
            chosen = torch.tensor([which for which, _ in self.actions])[best]
            factors = torch.tensor([factor for _, factor in self.actions], dtype=self.settings.dtype)[best]
            price = torch.tensor([*self.prices, 0.0], dtype=before.dtype)[chosen]
            self._act(going, chosen, factors, before + price + self.committed)
        last, p = runs.evaluate()["loss"], runs.progress
        gained = orders_of(first, tolerance) - orders_of(last, tolerance)
        gained = np.where(p.diverged.numpy(), DIVERGED_RETURN, gained)
        return gained, p.teleports.numpy().copy(), runs.ledger.cost.numpy().copy(), tried.numpy()

    def _going(self, limit: Tensor | float) -> Tensor:
        """Which runs can make another step below a limit of the cost ``(B,)``."""
        p = self.runs.progress
        room = self.runs.ledger.cost + 1.0 <= torch.clamp(torch.as_tensor(limit), max=self.settings.budget) + _SLACK
        return room & ~p.diverged & (p.loss > self.settings.tolerance)

    def _act(self, going: Tensor, which: Tensor, factor: Tensor | float, limit: Tensor) -> Tensor:
        """Teleport, change the rate, and step up to a limit; whether each run could pay for its teleport ``(B,)``."""
        runs = self.runs
        price = torch.tensor([*self.prices, 0.0], dtype=limit.dtype)[which]
        allowed = going & (runs.ledger.cost + price + 1.0 <= self.settings.budget + _SLACK)
        if bool((which != STAY).any()):
            runs.teleport(torch.where(allowed, which, STAY))
        change = torch.full_like(runs.progress.learning_rate, 1.0) * factor
        mask = self._going(limit) & allowed
        while bool(mask.any()):
            runs.step(mask, change, self.settings.budget + _SLACK - runs.ledger.cost)
            change, mask = torch.ones_like(change), self._going(limit) & allowed
        return allowed


def _best(losses: Tensor, costs: Tensor) -> Tensor:
    """The action ``(B,)`` with the lowest loss, of equals the cheapest; both arguments are ``(actions, B)``."""
    lowest = losses.min(dim=0).values
    return torch.where(losses == lowest, costs, torch.inf).argmin(dim=0)
