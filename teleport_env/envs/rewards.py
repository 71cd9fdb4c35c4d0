"""What an action is paid: three rewards under their names, and the base class of a user's own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from teleport_env.progress import Progress
from teleport_env.reading import known

DIVERGED_RETURN = -2.0
"""The undiscounted return, in orders of magnitude, of an episode that diverged."""


@dataclass(frozen=True)
class Turn:
    """What one action made of ``B`` runs. *Orders* are ``log10`` of a loss, floored at the tolerance, in float64.

    Attributes:
        progress: The runs' own numbers after the action; not to be written to.
        before: ``(B,)``: the orders before the action.
        after: ``(B,)``: the orders after it.
        lowest: ``(B,)``: the lowest orders of the episode before the action; not for rewards with `Reward.pays_decrease`.
        spent: ``(B,)`` float64: cost of the episode after the action, in gradient evaluations; not to be written to.
        budget: Gradient evaluations that an episode may spend.
        ended: ``(B,)`` bool: whose episodes the action ended.
        orders: Function from losses ``(R,)`` to their orders ``(R,)``.
        whole: Function that gives the losses ``(B,)`` at the start and at the end of the episodes that ended, on the whole
            training set (of the others on their current data); for rewards that set `Reward.measures`.
    """

    progress: Progress
    before: Tensor
    after: Tensor
    lowest: Tensor
    spent: Tensor
    budget: float
    ended: Tensor
    orders: Callable[[Tensor], Tensor]
    whole: Callable[[], tuple[Tensor, Tensor]]


class Reward(ABC):
    """How an action is paid; the sum over an episode is what the episode returns.

    The environment subtracts ``cost_weight`` times the cost of the action, and pays runs that wait nothing.

    Attributes:
        name: Its name, for messages.
        measures: Whether it reads `Turn.whole`: the loss on the whole training set is then measured at every start.
        pays_decrease: Whether a run that has not diverged is paid ``before - after`` and nothing else, which the
            environment then pays without asking.
    """

    name: ClassVar[str]
    measures: ClassVar[bool] = False
    pays_decrease: ClassVar[bool] = False

    @abstractmethod
    def pay(self, turn: Turn) -> Tensor:
        """The reward of every run, ``(B,)`` float64; a row depends on that row of ``turn`` alone."""


class LogDecrease(Reward):
    """The orders of magnitude that the loss went down by. An episode that diverged returns -2 in all."""

    name = "log_decrease"
    pays_decrease = True

    def pay(self, turn: Turn) -> Tensor:
        reward, diverged = turn.before - turn.after, turn.progress.diverged.nonzero().squeeze(1)
        if len(diverged):
            start = turn.orders(turn.progress.initial_loss[diverged])
            # a run that starts at a loss that is not finite has gained nothing before
            gained = torch.nan_to_num(start - turn.before[diverged], nan=0.0, posinf=0.0, neginf=0.0)
            reward[diverged] = DIVERGED_RETURN - gained
        return reward


class Terminal(Reward):
    """The same sum at the end of the episode, on the whole training set."""

    name = "terminal"
    measures = True

    def pay(self, turn: Turn) -> Tensor:
        start, end = map(turn.orders, turn.whole())
        return torch.where(turn.ended, start - end, 0.0).masked_fill_(turn.progress.diverged, DIVERGED_RETURN)


class Score(Reward):
    """The area below the orders gained over the logarithm of the cost: early orders are worth more than late ones.

    An action that takes the lowest orders of the episode from ``a`` to ``b``, when ``c`` of the budget ``B`` are spent, is
    paid ``(a - b) (1 - log c / log B)``. The return is the score of a comparison times the orders from the start to the
    tolerance, for targets that lie close together (Hansen et al., "COCO: a platform for comparing continuous optimizers in
    a black-box setting", 2021). What was reached stays reached: a loss that rises costs nothing, and an episode
    that diverges keeps what it was paid.
    """

    name = "score"

    def pay(self, turn: Turn) -> Tensor:
        gained = (turn.lowest - turn.after).clamp_min(0.0)
        left = 1.0 - turn.spent.clamp(1.0, turn.budget).log() / math.log(turn.budget)
        return (gained * left).masked_fill_(turn.progress.diverged, 0.0)


REWARDS: dict[str, Reward] = {reward.name: reward for reward in (LogDecrease(), Terminal(), Score())}


def reward_from(value: Any) -> Reward:
    """The reward of that name, or the `Reward` itself.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, Reward):
        return value
    return REWARDS[known("reward", value, REWARDS, "Rewards of your own derive from teleport_env.envs.Reward.")]
