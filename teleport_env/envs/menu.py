"""The menu of teleports: what each costs, and which of them an episode has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays
from teleport_env.searches.base import Status


class Menu:
    """Prices of teleports, by run: episodes side by side need not have the same searches.

    Args:
        prices: Highest cost of one teleport by each search, in gradient evaluations.
        count: ``B``.
        move: Price of a move by a given element, which the group modes make; None: there are no such moves.
        device: Device of the prices.
        steps: Number of kinds of gradient step, which cost 1 each.

    Attributes:
        prices: ``(searches,)`` float64.
        costs: ``(B, steps + searches)`` float64: of every action of the schedule mode.
        offers: ``(B, searches)`` float64: those of teleports, infinite for a search that an episode does not have.
        common: ``(steps + searches, 1)`` float64: the same of a run, where all have the same; else None.
        cheapest: ``(B,)`` float32: price of the cheapest one on offer, infinite if there is none; always the same memory.
    """

    def __init__(
        self, prices: Sequence[float], count: int, move: float | None, device: torch.device, steps: int = 1
    ) -> None:
        self.prices = torch.tensor(prices, dtype=torch.float64, device=device)
        self._steps = steps
        # an action of many runs lies side by side in memory, because masks compare it with what is left of each run's budget
        self.costs = torch.cat([self.prices.new_ones(steps), self.prices])[:, None].repeat(1, count).t()
        self._wire()
        self._move = None if move is None else torch.full((count,), move, dtype=torch.float64, device=device)
        self.common: Tensor | None
        self.cheapest = torch.zeros(count, dtype=torch.float32, device=device)
        self._whole = True  # everybody has all searches
        self._look()

    def _wire(self) -> None:
        self.offers = self.costs[:, self._steps :]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "offers"}  # a view

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._wire()

    def __repr__(self) -> str:
        return f"Menu({self.offers.tolist()})"

    def begin(self, rows: Array | slice, offered: Tensor | None) -> None:
        """Episodes of ``rows`` ``(R,)`` begin.

        Args:
            rows: The runs whose episodes begin.
            offered: ``(R, searches)`` bool, the searches that each has; None: all.
        """
        if self._whole and offered is None:
            return
        self.offers[rows] = self.prices if offered is None else self.prices.where(offered, torch.inf)
        self._look()

    def prices_of(self, xp: Arrays, rows: Array, asked: Array) -> Array:
        """Prices ``(R,)`` of teleports of ``rows`` ``(R,)`` by the searches ``asked`` ``(R,)``, arrays of ``xp``."""
        return xp.view(self.prices)[asked] if self._whole else xp.view(self.offers)[rows, asked]

    @property
    def price_of_move(self) -> Tensor:
        """Price ``(B,)`` of a move."""
        assert self._move is not None
        return self._move

    def clone(self) -> Menu:
        """A copy in memory of its own."""
        copied = Menu(self.prices.tolist(), len(self.offers), None, self.offers.device, self._steps)
        copied.offers.copy_(self.offers)
        return copied

    def restore(self, other: Menu) -> None:
        """What each episode had in ``other``; everything where that is another menu."""
        same = torch.equal(self.prices, other.prices)
        self.offers.copy_(other.offers if same else self.prices.expand_as(self.offers))
        self._look()

    def _look(self) -> None:
        self._whole = bool((self.offers == self.prices).all())
        self.common = self.costs[:1].t().contiguous() if self._whole else None
        least = self._move
        if least is None:
            # beside a column of infinities, because an empty menu has no minimum
            least = torch.nn.functional.pad(self.offers, (0, 1), value=torch.inf).amin(dim=1)
        self.cheapest.copy_(least)


def describe_status(status: int) -> str:
    """In words what became of the last teleport; ``status``: a number of `Status`, as infos have it."""
    return Status(status).words
