"""The engine: ``B`` optimization runs side by side that step and teleport.

A run can do two things:

* `Runs.step`: one update of the optimizer (`teleport_env.stepping`);
* `Runs.teleport`: a search looks for a group element, and the run moves along its level set if the search finds one that
  keeps the loss and improves the search's objective; or `Runs.move`, by an element that somebody else chose. A teleport does
  not advance the step count. Where the action is linear the new gradient is carried over in closed form and nothing is
  evaluated.

The environments, single and vectorised, are two faces of this class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.progress import SMALLEST, Progress
from teleport_env.random import Streams, fold_in
from teleport_env.reading import known
from teleport_env.searches import Search, search_from
from teleport_env.searches.base import Found, Start, Status, judged
from teleport_env.searches.moves import moved_by, price_of_move
from teleport_env.stepping import RATE_RANGE, Snapshot, SteppingRuns
from teleport_env.symmetries.base import Symmetry


class Runs(SteppingRuns):
    """``B`` runs of one problem.

    Args:
        problem: The problem.
        count: ``B``.
        symmetry: Name of one of the problem's symmetries; None: no teleports.
        searches: The menu of teleports: names, dicts or `Search` objects.
        on_teleport: ``"keep"`` or ``"reset"``: what becomes of the optimizer's state after a teleport that moved.
        settings: The other arguments of `SteppingRuns`.

    Attributes:
        data_element: For symmetries that move data: the composition of all moves so far (Algorithm 3), else None.

    The others are those of `SteppingRuns`.

    Raises:
        ValueError: An unknown name, or a search that cannot serve the symmetry.
    """

    def __init__(
        self,
        problem: Problem,
        count: int,
        *,
        symmetry: str | None = None,
        searches: Sequence[str | dict[str, Any] | Search] = (),
        on_teleport: str = "keep",
        **settings: Any,
    ) -> None:
        super().__init__(problem, count, **settings)
        self.on_teleport = known("on_teleport", on_teleport, ("keep", "reset"))
        symmetries = problem.symmetries
        self.symmetry = (
            None if symmetry is None else symmetries[known(f"symmetry of {problem.name}", symmetry, symmetries)]
        )
        self.searches = tuple(search_from(search) for search in searches)
        if self.searches and self.symmetry is None:
            raise ValueError(f"{problem.name} has no symmetry to search over; give searches=()")
        for search in self.searches:
            search.check(problem, self._symmetry)
        self.data_element: Element | None = None

    @property
    def _symmetry(self) -> Symmetry:
        if self.symmetry is None:
            raise ValueError(f"these runs of {self.problem.name} were built without a symmetry: they cannot teleport")
        return self.symmetry

    def _unit(self, gradient_flops: float) -> float:
        # the work of a teleport may take longer than the gradient's
        return gradient_flops if self.symmetry is None else gradient_flops / self.symmetry.work_price(gradient_flops)

    def reset(
        self,
        keys: Tensor,
        ids: Tensor,
        mask: Tensor | None = None,
        params: Tensor | None = None,
        learning_rate: Tensor | float | None = None,
    ) -> None:
        super().reset(keys, ids, mask, params, learning_rate)
        if self.symmetry is None or not self.symmetry.moves_data:
            return
        neutral = self.symmetry.group.identity(len(keys), self.dtype, self.device)
        if self.data_element is None or mask is None:
            self.data_element = neutral
        else:
            self._assign(self.data_element, mask.nonzero().squeeze(1), neutral)

    # -- teleporting ---------------------------------------------------------------------------------------------------

    def teleport(self, which: Tensor) -> None:
        """Teleport by searches of the menu.

        Args:
            which: ``(B,)`` int64: index of the search, or -1 for the runs that do nothing.
        """
        for index, search in enumerate(self.searches):
            rows = (which == index).nonzero().squeeze(1)
            if len(rows):
                self._teleport(rows, search.find, search.resets_optimizer)

    def move(self, xi: Tensor, mask: Tensor | None = None) -> None:
        """Teleport by the group element ``exp(xi)``.

        The move is refused (see ``progress.status``) where it is not finite or does not keep the loss.

        Args:
            xi: ``(B, d)`` coordinates, see `teleport_env.searches.moves.coordinates`.
            mask: ``(B,)`` bool, which runs move; None: all.
        """
        group = self._symmetry.group
        if not group.continuous:
            raise ValueError(f"the group {group.name} is discrete: it has no coordinates xi to move by")
        rows = (self.everyone if mask is None else mask).nonzero().squeeze(1)
        if len(rows):
            chosen = xi[rows].to(self.dtype)
            self._teleport(rows, lambda start: judged(start, moved_by(start, chosen)))

    def price(self, search: Search) -> float:
        """The most that a teleport by ``search`` can cost, in gradient evaluations; call after the first reset."""
        return float(search.price(self.problem, self._symmetry).cost(self.ledger.gradient_flops))

    def price_of_move(self) -> float:
        """The same of a move by a given element."""
        return float(price_of_move(self._symmetry).cost(self.ledger.gradient_flops))

    def refuse(self, mask: Tensor) -> None:
        """Mark the runs in ``mask`` as having asked for a teleport that the budget cannot pay."""
        self.progress.status.masked_fill_(mask, int(Status.NOT_PAID))
        self.changes += 1

    def _teleport(self, rows: Tensor, find: Callable[[Start], Found], resets_optimizer: bool = False) -> None:
        everyone = len(rows) == self.count
        # Picking every row of a tensor copies it; a whole batch that teleports together is spared that.
        index: Tensor | slice = slice(None) if everyone else rows
        instance = self.instance if everyone else self.instance.select(rows)
        evaluator = Evaluator(self.problem, instance, None if self.batch is None else self.batch[index])
        source = None
        if self._batches is not None:
            source = partial(self._coming_batch, instance["order_key"], self.progress.steps[index])
        # One copy of all their numbers, worked on and written back: an indexed write costs as much as the arithmetic of ten.
        blocks = self._blocks if everyone else self._blocks.select(rows)
        p = self.progress if everyone else Progress.of(blocks)
        start = Start(
            # few parameters lie column by column, in which the rounding of a sum may depend on the number of runs
            params=self.params[index].contiguous(),
            loss=p.loss,
            gradient=self.gradient[index].contiguous(),
            learning_rate=p.learning_rate,
            symmetry=self._symmetry,
            evaluator=evaluator,
            streams=Streams(fold_in(self.keys[index], p.attempts)),
            batches=source,
            scale=p.initial_loss,
            lowest_rate=p.base_rate / RATE_RANGE,
            grad_norm2=p.grad_norm2,
        )
        with self.quiet():
            found = find(start)
        self.ledger.charge(None if everyone else rows, evaluator.counts)
        moved, norm2 = found.moved, found.grad_norm2
        if norm2 is None:
            norm2 = row_dot(found.gradient, found.gradient)
        some_stay = not bool(moved.all())
        self.params[index] = found.params
        self.gradient[index] = found.gradient
        # clamped, so that the logarithm of a zero gradient on either side is finite
        after, before = (squares.clamp_min(SMALLEST[self.dtype]) for squares in (norm2, p.grad_norm2))
        gain = torch.log10(after / before)
        if not bool(torch.isfinite(gain.sum())):  # the quotient is out of range
            gain = torch.where(torch.isfinite(gain), gain, torch.log10(after) - torch.log10(before))
        p.teleport_gain.copy_(gain.masked_fill_(~moved, 0.0) if some_stay else gain)
        p.loss.copy_(found.loss)
        p.grad_norm2.copy_(norm2)
        low, high = p.base_rate / RATE_RANGE, p.base_rate * RATE_RANGE
        p.learning_rate.mul_(found.rate_factor).clamp_(low, high)
        p.attempts += 1
        p.teleports += moved
        p.status.copy_(found.status)
        p.loss_change.copy_(found.loss_change)
        for stale in (p.since_teleport, p.cosine, p.curvature, p.alignment):  # they speak of the place the run has left
            stale.masked_fill_(moved, 0)
        with self.quiet():
            self.books.derive(self.books.xp.view(blocks.floats))
        if not everyone:
            self._blocks.put(rows, blocks)
        self.changes += 1
        if self.data_element is not None and found.element is not None:
            self._move_data(found.element, rows, moved)
        if resets_optimizer or self.on_teleport == "reset":
            self._reset_optimizer(rows[moved])

    def _coming_batch(self, keys: Tensor, steps: Tensor, offset: int) -> Tensor:
        """The mini-batch ``(R, n)`` that runs at ``steps`` meet so many steps later."""
        assert self._batches is not None
        return self._batches.indices(keys, steps + offset)

    def _move_data(self, element: Element, rows: Tensor, moved: Tensor) -> None:
        """Algorithm 3: the data move with the weights, and the moves are composed for inference."""
        symmetry, chosen = self._symmetry, rows[moved]
        element = map_element(lambda part: part[moved], element)
        inputs = self.instance["inputs"]
        inputs[chosen] = symmetry.move_data(element, inputs[chosen], self.instance.select(chosen))
        assert self.data_element is not None
        before = map_element(lambda part: part[chosen], self.data_element)
        self._assign(self.data_element, chosen, symmetry.group.compose(element, before))

    @staticmethod
    def _assign(target: Element, rows: Tensor, value: Element) -> None:
        map_element(lambda part, new: part.index_put_((rows,), new), target, value)

    def _reset_optimizer(self, rows: Tensor) -> None:
        if len(rows):
            for name, fresh in self.optimizer.init(self.params[rows]).items():
                self.optimizer_state[name][rows] = fresh
            self.optimizer_count[rows] = 0

    # -- the whole state -----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        snapshot.content["data_element"] = copy.deepcopy(self.data_element)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self.data_element = copy.deepcopy(snapshot.content["data_element"])
