"""``B`` episodes over ``B`` runs: observations, rewards and ends. Both Gymnasium faces are thin over this.

An episode is one optimization run under a budget of gradient evaluations. Evaluating loss and gradient at the start costs
1, as it would in anybody's script, so a budget of 11 pays for the start and 10 gradient steps.

* **terminated**: the loss reached the tolerance (converged), or is not finite or far above its start (diverged);
* **truncated**: the rest of the budget cannot pay for one gradient step, or the episode took ten times as many actions as
  its budget has gradient evaluations (teleports can be nearly free), or ``max_episode_steps`` of them.

A teleport that the rest of the budget cannot pay for is refused: it costs nothing, moves nothing, and the episode goes on.

The undiscounted return with the reward ``log_decrease`` is the orders of magnitude gained, ``log10`` of the initial loss
over the last; of an episode that diverged it is -2 whatever came before. With ``score`` early orders are worth more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.envs.actions import Actions
from teleport_env.envs.features import HIGH, LOW, Allowance, FeatureWriter
from teleport_env.envs.menu import Menu
from teleport_env.envs.rewards import Turn
from teleport_env.envs.settings import Settings
from teleport_env.optimizers import LineSearch
from teleport_env.problems.base import Problem
from teleport_env.progress import AT, SMALLEST, Progress
from teleport_env.random import Streams, fold_in, key_of
from teleport_env.runs import Runs, Snapshot
from teleport_env.upcoming import Upcoming

PARAMS_BOUND = 1e6
"""Parameters are clipped to this in observations: a diverged run's stay finite."""

_SLACK = 1e-9  # sums of thirds are not exact: a budget of 12 pays for 1 + 33 thirds


@dataclass
class Outcome:
    """What came of it, each ``(B,)`` and in memory of its own: NumPy arrays on the CPU, tensors elsewhere.

    Attributes:
        reward: float64; 0 for runs that did nothing.
        terminated: bool; stays true while an ended run waits.
        truncated: bool; likewise.
        ended: bool: the episodes that this action ended; None if there are none.
    """

    reward: Array
    terminated: Array
    truncated: Array
    ended: Tensor | None


class _Part:
    """The numbers of some runs: those that are asked for are picked, and no others."""

    def __init__(self, progress: Progress, rows: Tensor) -> None:
        self._progress, self._rows = progress, rows

    def __getattr__(self, name: str) -> Tensor:
        found: Tensor = getattr(self._progress, name)[self._rows]
        setattr(self, name, found)
        return found


def _same(array: Array) -> Array:
    return array


def runs_of(settings: Settings, count: int) -> Runs:
    """New runs side by side, by an environment's settings."""
    return Runs(
        settings.problem,
        count,
        split=settings.split,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        symmetry=settings.symmetry,
        searches=settings.searches,
        on_teleport=settings.on_teleport,
        dtype=settings.dtype,
        device=settings.device,
    )


@dataclass(frozen=True)
class EpisodesSnapshot:
    """The whole state of the episodes; made by ``snapshot()``, handed to ``restore()``."""

    runs: Snapshot
    numbers: tuple[Tensor, ...]
    menu: Menu


class Episodes:
    """``B`` episodes side by side.

    Args:
        settings: Settings of the environment.
        count: ``B``.

    A run whose episode is over waits, whatever it is asked.

    Attributes:
        runs: The engine.
        terminated: ``(B,)`` bool.
        truncated: ``(B,)`` bool.
        returns: ``(B,)`` float64: the sum of rewards so far.
        menu: Prices of the teleports, and the offers of each episode; known after the first reset.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.runs = runs_of(settings, count)
        self.count = count
        device = settings.device
        self.terminated = torch.zeros(count, dtype=torch.bool, device=device)
        self.truncated = torch.zeros(count, dtype=torch.bool, device=device)
        self.actions = torch.zeros(count, dtype=torch.int64, device=device)
        self.returns = torch.zeros(count, dtype=torch.float64, device=device)
        # the reward needs the whole training set where the loss of a mini-batch is only a sample
        self.initial_full_loss = torch.zeros(count, dtype=settings.dtype, device=device)
        self.lowest = torch.full((count,), math.inf, dtype=torch.float64, device=device)  # orders, for the reward
        self.most_actions = math.ceil(10 * settings.budget)
        if settings.max_episode_steps is not None:
            self.most_actions = min(self.most_actions, settings.max_episode_steps)
        self.menu: Menu  # made by the first reset
        self._priced = False
        self._orders = torch.zeros(2, count, dtype=torch.float64, device=device)
        self._wire()

    def _wire(self) -> None:
        """Views of the episodes' memory, and what is made when it is needed."""
        self._xp = xp = self.runs.books.xp
        self._now, self._next = xp.view(self._orders)
        self._action_counts, self._return_sums = xp.view(self.actions), xp.view(self.returns)
        self._terminated, self._truncated = xp.view(self.terminated), xp.view(self.truncated)
        self._lowest = xp.view(self.lowest)
        self._loss_floor = max(self.settings.tolerance, SMALLEST[torch.float64])
        # through an array, because Python's own logarithm may differ in the last bit
        floor = xp.view(torch.full((1,), self._loss_floor, dtype=torch.float64, device=self.settings.device))
        self._floor = xp.empty(floor, 1, dtype=torch.float64)
        xp.log10(floor, out=self._floor)
        self._room = self.settings.budget + _SLACK
        self._mask_type: Any = np.int8 if isinstance(self._terminated, np.ndarray) else torch.int8
        self._some_wait = True  # not known either
        self._writer: FeatureWriter | None = None

    def __getstate__(self) -> dict[str, Any]:
        views = {"_xp", "_now", "_next", "_floor", "_writer", "_costs", "_mask_type"}
        views |= {"_action_counts", "_return_sums", "_terminated", "_truncated", "_lowest"}
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._wire()
        if self._priced:
            self._look()

    def _look(self) -> None:
        """After something else than an action: what actions count on."""
        stopped = self._terminated, self._truncated, self.runs.books.diverged
        self._some_wait = any(int(self._xp.count_nonzero(flags)) for flags in stopped)
        self._write_orders(self._now)
        self._costs = self._xp.view(self.menu.costs)

    @property
    def ended(self) -> Tensor:
        """``(B,)`` bool: whose episode is over."""
        return self.terminated | self.truncated

    @property
    def measures_apart(self) -> bool:
        """Whether the problem measures something that the current loss does not say (mini-batches, a validation set)."""
        return type(self.settings.problem).evaluate is not Problem.evaluate

    @property
    def measures_first(self) -> bool:
        """Whether an episode begins with such a measurement, for the reward."""
        return self.settings.reward.measures and self.measures_apart

    # -- beginning -----------------------------------------------------------------------------------------------------

    def draw_ids(self, keys: Tensor) -> Tensor:
        """The instances ``(R,)`` int64 that new episodes with these keys play."""
        limit = self.settings.problem.num_instances(self.settings.split)
        streams = Streams(fold_in(keys, key_of("instance")))
        return streams.integers(1 << 53 if limit is None else limit)

    def reset(
        self, keys: Tensor, ids: Tensor, mask: Tensor | None = None, offered: Tensor | None = None, **further: Tensor
    ) -> None:
        """Start new episodes; as `Runs.reset`, and ``offered`` ``(R, searches)`` bool: the searches that each has."""
        self.runs.reset(keys, ids, mask, **further)
        rows = slice(None) if mask is None else self._xp.view(mask.nonzero().squeeze(1))
        if not self._priced:
            prices = [self.runs.price(search) for search in self.settings.searches]
            move = None if self.settings.action_mode == "schedule" else self.runs.price_of_move()
            steps = len(self.settings.rate_factors)
            self.menu, self._priced = Menu(prices, self.count, move, self.settings.device, steps), True
        self._clear(rows, offered)
        if self.measures_first:
            which = None if mask is None else mask.nonzero().squeeze(1)
            self.initial_full_loss[rows] = self.runs.evaluate(which)["loss"]
        self._look()

    def _clear(self, at: Array | slice, offered: Tensor | None = None) -> None:
        self.menu.begin(at, offered)
        self._terminated[at] = False
        self._truncated[at] = False
        self._action_counts[at] = 0
        self._return_sums[at] = 0.0
        self._lowest[at] = math.inf

    def adopt(self, upcoming: Upcoming, rows: np.ndarray, of: np.ndarray) -> None:
        """Start the episodes ``of`` ``(R,)`` that were prepared, in ``rows`` ``(R,)``: all whose episodes are over."""
        at = self._xp.beside(self._now, rows)
        self._some_wait = upcoming.play(self.runs, at, self._xp.beside(self._now, of))
        self._clear(at)
        if self.settings.dtype == torch.float64:
            self._now[at] = self._xp.at_least(self.runs.books.row["log_loss"][at], self._floor)
        else:
            self._now[at] = self._orders_of(self.runs.progress.loss[at])

    # -- acting --------------------------------------------------------------------------------------------------------

    def act(self, actions: Actions, waiting: Tensor | None = None, begin: Callable[[], None] | None = None) -> Outcome:
        """Do what is asked.

        Args:
            actions: Requests, one per run.
            waiting: ``(B,)`` bool: runs that do nothing this time, as those do whose episode is over.
            begin: Call that starts new episodes in those that wait, all whose episodes are over; None: that is done.
                It comes when the others have acted. What it overwrites may step along, which costs less than to keep it.
        """
        s, runs = self.settings, self.runs
        cost = runs.ledger.cost
        cost_before = cost.clone() if s.cost_weight else None
        together = actions.step is None and not (self._some_wait and begin is None) and s.steps_per_action == 1
        if together:
            # no other episode is over, and no budget was too small for another step, or it would be
            left = self.left if isinstance(runs.optimizer, LineSearch) else None
            stays = None if begin is not None and left is None else waiting
            runs.step(None if stays is None else ~stays, actions.factor, left)
            idle = waiting
        else:
            idle = self.ended if waiting is None else self.ended | waiting
            self._act_apart(actions, idle)
        if begin is not None:
            begin()
        pays = s.reward.pays_decrease and cost_before is None
        lost = self._diverged(idle) if pays and not (together and runs.books.sane) else None
        sums = None if lost is None else self._return_sums[lost]
        reward, ended = self._settle(idle, pays)
        before, self._now, self._next = self._now, self._next, self._now
        if not pays or lost is not None:
            with runs.quiet():
                if pays:
                    reward[lost] = paid = self._paid(before, ended, lost)
                    self._return_sums[lost] = sums + paid
                else:
                    reward = self._pay(before, ended, cost_before, idle)
        self._some_wait |= ended is not None
        over = None if ended is None else self._xp.tensor(ended)
        return Outcome(reward, self._xp.copied(self._terminated), self._xp.copied(self._truncated), over)

    def _diverged(self, idle: Tensor | None) -> Array | None:
        """Which of the runs that acted have diverged, ``(R,)``; None: none. Not all of them are paid the decrease."""
        rows = self._xp.argwhere(
            self.runs.books.diverged if idle is None else self.runs.books.diverged & ~self._xp.view(idle)
        )
        return rows[:, 0] if len(rows) else None

    def _settle(self, idle: Tensor | None, pays: bool) -> tuple[Array, Array | None]:
        """Count the action, write the orders after it, and see which episodes it ends.

        Args:
            idle: ``(B,)`` bool: runs that did nothing; None: all acted.
            pays: Whether runs are paid the decrease and nothing else.

        Returns:
            The rewards ``(B,)``, to be ignored where something else is paid; and ``(B,)`` bool, whose episodes ended, None
            if there are none.
        """
        xp, s, row, cost = self._xp, self.settings, self.runs.books.row, self.runs.ledger.cost_view
        kernels, diverged = self.runs.books.kernels, self.runs.books.diverged
        if kernels is not None:
            reward, ended = np.empty(self.count), np.empty(self.count, dtype=bool)
            numbers = row["log_loss"], row["loss"], cost, self._now, self._next, reward, self._return_sums
            ends = self._action_counts, diverged, self._terminated, self._truncated, ended
            stays = None if idle is None else idle.numpy()
            bounds = self._floor.item(), s.tolerance, s.budget + _SLACK, self.most_actions
            return reward, ended if kernels.settle(*numbers, *ends, stays, *bounds, pays) else None
        with self.runs.quiet():
            self._action_counts += 1
            if idle is not None:
                xp.subtract(self._action_counts, xp.view(idle.to(torch.int64)), out=self._action_counts)
            self._write_orders(self._next)
            reward = self._now - self._next
            terminated = (row["loss"] <= s.tolerance) | diverged
            truncated = (cost + 1.0 > s.budget + _SLACK) | (self._action_counts >= self.most_actions)
        truncated &= ~terminated
        if idle is not None:
            reward[xp.view(idle)] = 0.0
            playing = ~xp.view(idle)
            terminated &= playing
            truncated &= playing
        if pays:
            xp.add(self._return_sums, reward, out=self._return_sums)
        ended = terminated | truncated
        if not bool(ended.any()):
            return reward, None
        xp.logical_or(self._terminated, terminated, out=self._terminated)
        xp.logical_or(self._truncated, truncated, out=self._truncated)
        return reward, ended

    def _act_apart(self, actions: Actions, idle: Tensor) -> None:
        """Do what is asked of those who are not idle."""
        step = ~idle if actions.step is None else actions.step & ~idle
        if bool(step.any()):
            self._step(step, actions.factor)
        if actions.step is not None:
            teleporting = ~actions.step & ~idle
            if bool(teleporting.any()):
                self._teleport(teleporting, actions)

    def _pay(self, before: Array, ended: Array | None, cost_before: Tensor | None, idle: Tensor | None) -> Array:
        """The rewards ``(B,)``, paid."""
        xp, s = self._xp, self.settings
        reward = self._paid(before, ended)
        if cost_before is not None:
            reward -= s.cost_weight * (self.runs.ledger.cost_view - xp.view(cost_before))
        if idle is not None:
            reward[xp.view(idle)] = 0.0
        xp.add(self._return_sums, reward, out=self._return_sums)
        return reward

    def _step(self, stepping: Tensor, factor: Tensor | None) -> None:
        s, runs = self.settings, self.runs
        for turn in range(s.steps_per_action):
            left = self.left
            mask = stepping & (left >= 1.0)
            if turn:
                p = runs.progress
                mask &= ~p.diverged & (p.loss > s.tolerance)
                if not bool(mask.any()):
                    return
            runs.step(mask, factor if turn == 0 else None, left)

    def _teleport(self, teleporting: Tensor, actions: Actions) -> None:
        """Make the teleports that can be paid, refuse the others."""
        if actions.which is None:
            assert actions.xi is not None
            payable = teleporting & (self.menu.price_of_move <= self.left)
            self.runs.move(actions.xi, payable)
            refused = teleporting & ~payable
            if bool(refused.any()):
                self.runs.refuse(refused)
            return
        xp = self._xp
        rows = xp.argwhere(xp.view(teleporting))[:, 0]
        asked = xp.view(actions.which)[rows]
        paid = self.menu.prices_of(xp, rows, asked) <= self._room - self.runs.ledger.cost_view[rows]
        if bool(paid.all()):
            self.runs.teleport_rows(rows, asked)
            return
        self.runs.teleport_rows(rows[paid], asked[paid])
        refused = torch.zeros_like(teleporting)
        refused[xp.tensor(rows[~paid])] = True
        self.runs.refuse(refused)

    @property
    def left(self) -> Tensor:
        """What each run may still spend, ``(B,)``, with a grain for sums that are not exact."""
        return self._room - self.runs.ledger.cost

    def _write_orders(self, out: Array) -> None:
        """``log10`` of the loss, floored at the tolerance; float64."""
        xp, row = self._xp, self.runs.books.row
        if self.settings.dtype == torch.float64:
            xp.at_least(row["log_loss"], self._floor, out=out)
        else:
            out[...] = self._orders_of(self.runs.progress.loss)

    def _orders_of(self, loss: Tensor) -> Array:
        """The same of any losses ``(B,)``, in memory of its own."""
        xp = self._xp
        floored = xp.view(loss.to(torch.float64).clamp_min(self._loss_floor))
        found = xp.empty(floored, len(loss), dtype=torch.float64)
        xp.log10(floored, out=found)
        return found

    def _paid(self, before: Array, ended: Array | None, rows: Array | None = None) -> Array:
        """What the reward pays, in memory of its own: ``(B,)``, or ``(R,)`` to the runs ``rows`` ``(R,)``.

        Raises:
            ValueError: It pays something else than a number per run.
        """
        xp, reward, count = self._xp, self.settings.reward, self.count
        over = torch.zeros_like(self.terminated) if ended is None else xp.tensor(ended)
        orders = xp.tensor(before), xp.tensor(self._now)
        p, lowest, spent, first = self.runs.progress, self.lowest, self.runs.ledger.cost, self.initial_full_loss
        if rows is None:
            torch.minimum(lowest, orders[0], out=lowest)
        else:
            at, count = xp.tensor(rows), len(rows)
            p = cast(Progress, _Part(p, at))
            orders = orders[0][at], orders[1][at]
            over, lowest, spent, first = (one[at] for one in (over, lowest, spent, first))

        def whole() -> tuple[Tensor, Tensor]:
            if not (self.measures_apart and bool(over.any())):
                return p.initial_loss, p.loss
            chosen, final = over.nonzero().squeeze(1), p.loss.clone()
            final[chosen] = self.runs.evaluate(chosen if rows is None else at[chosen])["loss"]
            return first, final

        def orders_of(loss: Tensor) -> Tensor:
            return xp.tensor(self._orders_of(loss))

        paid = reward.pay(Turn(p, *orders, lowest, spent, self.settings.budget, over, orders_of, whole))
        if not isinstance(paid, Tensor) or paid.shape != (count,):
            shape = tuple(paid.shape) if isinstance(paid, Tensor) else type(paid).__name__
            raise ValueError(f"the reward {reward.name!r} must pay a tensor of shape {(count,)}, got {shape}")
        return xp.view(paid.to(torch.float64, copy=True))

    # -- looking -------------------------------------------------------------------------------------------------------

    def observation(self, rows: Tensor | None = None) -> Tensor:
        """``(B, length)`` float32, finite; or ``(R, length)`` of ``rows`` ``(R,)`` alone."""
        kind = self.settings.observation
        parts = []
        if kind != "params":
            parts.append(self.features(rows))
        if kind != "features":
            params = self.runs.params if rows is None else self.runs.params[rows]
            params = torch.nan_to_num(params, nan=PARAMS_BOUND)
            parts.append(params.clamp(-PARAMS_BOUND, PARAMS_BOUND).to(torch.float32))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def features(self, rows: Tensor | None = None) -> Tensor:
        """The features ``(B, F)`` or ``(R, F)`` float32, whatever the observation is made of.

        In memory of their own, column by column.
        """
        return self._xp.tensor(self.feature_rows(rows)).t()

    def feature_rows(self, rows: Tensor | None = None) -> Array:
        """The same turned, ``(F, B)`` or ``(F, R)``, as `teleport_env.arrays` sees it."""
        if self._writer is None:
            self._writer = FeatureWriter(self.runs.books, self.allowance())
        return self._writer.write(self.runs.changes, rows)

    def allowance(self) -> Allowance:
        """What features need to know of cost and budget: what each run has spent, and what it may spend."""
        s = self.settings
        return Allowance(self.runs.ledger.cost, s.budget, s.tolerance, self.menu.cheapest)

    def observation_space(self) -> spaces.Box:
        """The space of one run's observation."""
        low, high = [], []
        if self.settings.observation != "params":
            low.append(LOW)
            high.append(HIGH)
        if self.settings.observation != "features":
            probe = self.settings.problem.instances(
                torch.zeros(1, dtype=torch.int64, device="cpu"), self.settings.split
            )
            bound = torch.full((probe.start.shape[1],), PARAMS_BOUND, dtype=torch.float32, device="cpu")
            low.append(-bound)
            high.append(bound)
        return spaces.Box(torch.cat(low).numpy(), torch.cat(high).numpy(), dtype=np.float32)

    def action_mask(self) -> Array:
        """What the rest of each budget can pay, ``(B, actions)`` int8 in memory of its own; 1: it can.

        An episode that is over has its first action, which does nothing there, so that no mask is empty.

        Raises:
            ValueError: Another action mode than ``"schedule"``.
        """
        if self.settings.action_mode != "schedule":
            mode = self.settings.action_mode
            raise ValueError(f"action masks belong to action_mode='schedule', this is {mode!r}")
        kernels, cost = self.runs.books.kernels, self.runs.ledger.cost_view
        if kernels is not None:
            found = np.empty((self._costs.shape[1], self.count), dtype=np.int8)
            costs = self._costs.T if self.menu.common is None else self.menu.common.numpy()
            over = (self._terminated, self._truncated) if self._some_wait else (None, None)
            kernels.payable(costs, cost, self._room, *over, found)
            return found.T
        payable = self._costs <= (self._room - cost)[:, None]
        if self._some_wait:
            payable[:, 0] |= self._terminated | self._truncated
        return payable.view(self._mask_type)

    def numbers(self, last: bool = True) -> dict[str, Array]:
        """The numbers of an info, now, by name.

        Each is ``(B,)``, but for the ``action_mask`` ``(B, actions)`` of the schedule mode.

        Args:
            last: Whether they are in memory of their own; else the next action may write to it.
        """
        runs, copied = self.runs, self._xp.copied if last else _same
        row, whole, ids = runs.books.row, runs.books.integers, runs.instance.ids
        assert ids is not None
        found = {
            "loss": copied(row["loss"]),
            "grad_norm": copied(row["grad_norm"]),
            "learning_rate": copied(row["learning_rate"]),
            "step": copied(whole[AT["steps"]]),
            "teleports": copied(whole[AT["teleports"]]),
            "cost": copied(self.runs.ledger.cost_view),
            "loss_change": copied(row["loss_change"]),
            "teleport_status": copied(whole[AT["status"]]),
            "converged": row["loss"] <= self.settings.tolerance,
            "diverged": copied(runs.books.diverged),
            "instance_id": copied(self._xp.view(ids)),
        }
        if self.settings.action_mode == "schedule":
            found["action_mask"] = self.action_mask()
        return found

    def measure(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Loss on the whole training set and validation figures; no budget pays for them."""
        found = self.runs.evaluate(rows)
        return {("training_loss" if name == "loss" else name): value for name, value in found.items()}

    def snapshot(self) -> EpisodesSnapshot:
        """All that the course of the episodes depends on, as copies; `restore` takes it."""
        numbers = (self.terminated, self.truncated, self.actions, self.returns, self.initial_full_loss, self.lowest)
        return EpisodesSnapshot(self.runs.snapshot(), tuple(tensor.clone() for tensor in numbers), self.menu.clone())

    def restore(self, snapshot: EpisodesSnapshot) -> None:
        """Go back to a snapshot of these episodes."""
        self.runs.restore(snapshot.runs)
        memory = (self.terminated, self.truncated, self.actions, self.returns, self.initial_full_loss, self.lowest)
        for mine, saved in zip(memory, snapshot.numbers, strict=True):
            mine.copy_(saved)
        self.menu.restore(snapshot.menu)
        self._look()
