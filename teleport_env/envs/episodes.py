"""``B`` episodes over ``B`` runs: actions, observations, rewards and ends. Both Gymnasium faces are thin over this.

An episode is one optimization run under a budget of gradient evaluations. Evaluating loss and gradient at the start costs
1, as it would in anybody's script, so a budget of 11 pays for the start and 10 gradient steps.

* **terminated**: the loss reached the tolerance (converged), or is not finite or far above its start (diverged);
* **truncated**: the rest of the budget cannot pay for one gradient step, or the action asked for a teleport that it cannot
  pay for, or the episode took ten times as many actions as its budget has gradient evaluations (teleports can be nearly
  free).

The undiscounted return with the reward ``log_decrease`` is the orders of magnitude gained, ``log10`` of the initial loss
over the last; of an episode that diverged it is -2 whatever came before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.envs.features import HIGH, LOW, Allowance, compute_features
from teleport_env.envs.settings import DIVERGED_RETURN, Settings
from teleport_env.problems.base import Problem
from teleport_env.random import Streams, fold_in, key_of
from teleport_env.runs import Runs, Snapshot
from teleport_env.searches.base import Status

PARAMS_BOUND = 1e6
"""Parameters are clipped to this in observations: a diverged run's stay finite."""

_SLACK = 1e-9  # sums of thirds are not exact: a budget of 12 pays for 1 + 33 thirds


@dataclass
class Actions:
    """What each run is asked to do.

    Attributes:
        step: ``(B,)`` bool: gradient steps; the others teleport.
        factor: ``(B,)``: multiplies the learning rate of the runs that step, or None.
        which: ``(B,)`` int64: the search of the runs that teleport (ignored for the others); None in the group modes.
        xi: ``(B, group.dim)``: the element they move by, in the group modes.
    """

    step: Tensor
    factor: Tensor | None = None
    which: Tensor | None = None
    xi: Tensor | None = None


@dataclass
class Outcome:
    """What came of it, each ``(B,)``.

    Attributes:
        reward: float64; 0 for runs that did nothing.
        terminated: bool; stays true while an ended run waits.
        truncated: bool; likewise.
        ended: bool: the episodes that this action ended.
    """

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    ended: Tensor


@dataclass(frozen=True)
class EpisodesSnapshot:
    """The whole state of the episodes; made by ``snapshot()``, handed to ``restore()``."""

    runs: Snapshot
    numbers: tuple[Tensor, ...]


class Episodes:
    """``B`` episodes side by side.

    Args:
        settings: What to play.
        count: ``B``.

    A run whose episode is over waits, whatever it is asked.

    Attributes:
        runs: The engine.
        terminated: ``(B,)`` bool.
        truncated: ``(B,)`` bool.
        returns: ``(B,)`` float64: the sum of rewards so far.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.runs = Runs(
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
        self.count = count
        device = settings.device
        self.terminated = torch.zeros(count, dtype=torch.bool, device=device)
        self.truncated = torch.zeros(count, dtype=torch.bool, device=device)
        self.actions = torch.zeros(count, dtype=torch.int64, device=device)
        self.returns = torch.zeros(count, dtype=torch.float64, device=device)
        # the reward needs the whole training set where the loss of a mini-batch is only a sample
        self.initial_full_loss = torch.zeros(count, dtype=settings.dtype, device=device)
        self.factors = torch.tensor(settings.rate_factors, dtype=settings.dtype, device=device)
        self.most_actions = math.ceil(10 * settings.budget)
        self.prices = torch.zeros(0, dtype=torch.float64, device=device)  # known after the first reset
        self._move_price = math.inf

    @property
    def ended(self) -> Tensor:
        """``(B,)`` bool: whose episode is over."""
        return self.terminated | self.truncated

    @property
    def measures_apart(self) -> bool:
        """Whether the problem measures something that the current loss does not say (mini-batches, a validation set)."""
        return type(self.settings.problem).evaluate is not Problem.evaluate

    # -- beginning -----------------------------------------------------------------------------------------------------

    def draw_ids(self, keys: Tensor) -> Tensor:
        """The instances ``(R,)`` int64 that new episodes with these keys play."""
        limit = self.settings.problem.num_instances(self.settings.split)
        streams = Streams(fold_in(keys, key_of("instance")))
        return streams.integers(1 << 53 if limit is None else limit)

    def reset(self, keys: Tensor, ids: Tensor, mask: Tensor | None = None, params: Tensor | None = None) -> None:
        """Start new episodes; arguments as in `Runs.reset`."""
        self.runs.reset(keys, ids, mask, params)
        rows = slice(None) if mask is None else mask.nonzero().squeeze(1)
        self.terminated[rows] = False
        self.truncated[rows] = False
        self.actions[rows] = 0
        self.returns[rows] = 0.0
        if not len(self.prices):
            prices = [self.runs.price(search) for search in self.settings.searches]
            self.prices = torch.tensor(prices, dtype=torch.float64, device=self.settings.device)
            if self.settings.action_mode != "schedule":
                self._move_price = self.runs.price_of_move()
        if self.settings.reward == "terminal" and self.measures_apart:
            which = None if mask is None else mask.nonzero().squeeze(1)
            self.initial_full_loss[rows] = self.runs.evaluate(which)["loss"]

    # -- acting --------------------------------------------------------------------------------------------------------

    def from_schedule(self, action: Tensor) -> Actions:
        """Actions ``(B,)`` int64 of the schedule mode: one step a rate factor, then one teleport a search."""
        steps = len(self.factors)
        step = action < steps
        factor = None if steps == 1 and self.factors[0] == 1.0 else self.factors[action.clamp_max(steps - 1)]
        return Actions(step, factor, which=action - steps)

    def from_group(self, teleport: Tensor, group: Tensor) -> Actions:
        """Actions of the group modes: ``teleport`` ``(B,)`` bool, ``group`` ``(B, dim)`` in [-1, 1]."""
        return Actions(~teleport, xi=self.settings.group_scale * group.to(self.settings.dtype))

    def act(self, actions: Actions, waiting: Tensor | None = None) -> Outcome:
        """Do what is asked.

        Args:
            actions: What each run is asked.
            waiting: ``(B,)`` bool: runs that do nothing this time, as those do whose episode is over.
        """
        s, runs = self.settings, self.runs
        p, cost = runs.progress, runs.ledger.cost
        idle = self.ended if waiting is None else self.ended | waiting
        before = self._orders(p.loss)
        cost_before = cost.clone() if s.cost_weight else cost

        stepping = actions.step & ~idle
        if bool(stepping.any()):
            self._step(stepping, actions.factor)
        unpaid = torch.zeros_like(idle)
        teleporting = ~actions.step & ~idle
        if bool(teleporting.any()):
            unpaid = self._teleport(teleporting, actions)

        p = runs.progress
        terminated = ((p.loss <= s.tolerance) | p.diverged) & ~idle
        self.actions += ~idle
        spent = (runs.ledger.cost + 1.0 > s.budget + _SLACK) | (self.actions >= self.most_actions)
        truncated = (spent | unpaid) & ~terminated & ~idle
        ended = terminated | truncated
        reward = self._reward(before, runs.ledger.cost - cost_before if s.cost_weight else None, p.diverged, ended)
        reward = torch.where(idle, 0.0, reward)
        self.returns += reward
        self.terminated |= terminated
        self.truncated |= truncated
        return Outcome(reward, self.terminated.clone(), self.truncated.clone(), ended)

    def _step(self, stepping: Tensor, factor: Tensor | None) -> None:
        s, runs = self.settings, self.runs
        for turn in range(s.steps_per_action):
            left = s.budget + _SLACK - runs.ledger.cost
            mask = stepping & (left >= 1.0)
            if turn:
                p = runs.progress
                mask &= ~p.diverged & (p.loss > s.tolerance)
                if not bool(mask.any()):
                    return
            runs.step(mask, factor if turn == 0 else None, left)

    def _teleport(self, teleporting: Tensor, actions: Actions) -> Tensor:
        """Make the teleports that can be paid; returns which cannot."""
        left = self.settings.budget + _SLACK - self.runs.ledger.cost
        if actions.which is not None:
            price = self.prices[actions.which.clamp_min(0)]
        else:
            price = torch.full_like(left, self._move_price)
        payable = teleporting & (price <= left)
        if actions.which is not None:
            self.runs.teleport(torch.where(payable, actions.which, -1))
        elif actions.xi is not None:
            self.runs.move(actions.xi, payable)
        unpaid = teleporting & ~payable
        self.runs.refuse(unpaid)
        return unpaid

    def _orders(self, loss: Tensor) -> Tensor:
        """``log10`` of the loss, floored at the tolerance; float64."""
        return torch.log10(loss.to(torch.float64).clamp_min(self.settings.tolerance))

    def _reward(self, before: Tensor, cost: Tensor | None, diverged: Tensor, ended: Tensor) -> Tensor:
        p = self.runs.progress
        start = self._orders(p.initial_loss)
        if self.settings.reward == "log_decrease":
            reward = before - self._orders(p.loss)
            penalty = DIVERGED_RETURN - (start - before)
        else:
            final = p.loss
            if self.measures_apart and bool(ended.any()):
                rows = ended.nonzero().squeeze(1)
                final = p.loss.clone()
                final[rows] = self.runs.evaluate(rows)["loss"]
                start = self._orders(self.initial_full_loss)
            reward = torch.where(ended, start - self._orders(final), 0.0)
            penalty = torch.full_like(reward, DIVERGED_RETURN)
        reward = torch.where(diverged, penalty, reward)
        if cost is not None:
            reward = reward - self.settings.cost_weight * cost
        return reward

    # -- looking -------------------------------------------------------------------------------------------------------

    def observation(self) -> Tensor:
        """``(B, length)`` float32, finite."""
        kind = self.settings.observation
        parts = []
        if kind != "params":
            parts.append(self.features())
        if kind != "features":
            params = torch.nan_to_num(self.runs.params, nan=PARAMS_BOUND)
            parts.append(params.clamp(-PARAMS_BOUND, PARAMS_BOUND).to(torch.float32))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def features(self) -> Tensor:
        """The features ``(B, F)`` float32, whatever the observation is made of."""
        return compute_features(self.runs.progress, self.allowance())

    def allowance(self) -> Allowance:
        s = self.settings
        cheapest = float(self.prices.min()) if len(self.prices) else self._move_price
        return Allowance(self.runs.ledger.cost, s.budget, s.tolerance, cheapest)

    def observation_bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(length,)`` of the observation."""
        low, high = [], []
        if self.settings.observation != "params":
            low.append(LOW)
            high.append(HIGH)
        if self.settings.observation != "features":
            probe = self.settings.problem.instances(torch.zeros(1, dtype=torch.int64), self.settings.split)
            bound = torch.full((probe.start.shape[1],), PARAMS_BOUND, dtype=torch.float32)
            low.append(-bound)
            high.append(bound)
        return torch.cat(low), torch.cat(high)

    def action_masks(self) -> Tensor:
        """``(B, actions)`` bool: which actions of the schedule mode the rest of the budget can pay."""
        left = self.settings.budget + _SLACK - self.runs.ledger.cost
        steps = (left >= 1.0)[:, None].expand(-1, len(self.factors))
        return torch.cat([steps, self.prices[None, :] <= left[:, None]], dim=1)

    def info(self) -> dict[str, Tensor]:
        """The numbers of `Gymnasium`'s info, each ``(B,)``."""
        p, ids = self.runs.progress, self.runs.instance.ids
        assert ids is not None
        return {
            "loss": p.loss,
            "grad_norm": p.grad_norm2.sqrt(),
            "learning_rate": p.learning_rate,
            "step": p.steps,
            "teleports": p.teleports,
            "cost": self.runs.ledger.cost,
            "loss_change": p.loss_change,
            "teleport_status": p.status,
            "converged": p.loss <= self.settings.tolerance,
            "diverged": p.diverged,
            "instance_id": ids,
        }

    def measure(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Loss on the whole training set and validation figures; no budget pays for them."""
        found = self.runs.evaluate(rows)
        return {("training_loss" if name == "loss" else name): value for name, value in found.items()}

    def snapshot(self) -> EpisodesSnapshot:
        numbers = (self.terminated, self.truncated, self.actions, self.returns, self.initial_full_loss)
        return EpisodesSnapshot(self.runs.snapshot(), tuple(tensor.clone() for tensor in numbers))

    def restore(self, snapshot: EpisodesSnapshot) -> None:
        self.runs.restore(snapshot.runs)
        copies = [tensor.clone() for tensor in snapshot.numbers]
        self.terminated, self.truncated, self.actions, self.returns, self.initial_full_loss = copies


def describe_status(status: int) -> str:
    """In words what became of the last teleport."""
    return {
        Status.NONE: "no teleport yet",
        Status.MOVED: "moved",
        Status.NO_GAIN: "refused: no candidate improved the objective",
        Status.LOSS_MOVED: "refused: the loss would have changed",
        Status.NOT_FINITE: "refused: not finite",
        Status.NOT_PAID: "refused: the budget cannot pay for it",
    }[Status(status)]
