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
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.groups.base import Element, map_element
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.progress import AT, SMALLEST, columns_put
from teleport_env.random import Streams, fold_in
from teleport_env.reading import known
from teleport_env.searches import Search, search_from
from teleport_env.searches.base import Found, Start, Status, judged
from teleport_env.searches.moves import moved_by, price_of_move
from teleport_env.stepping import RATE_RANGE, Snapshot, SteppingRuns
from teleport_env.symmetries.base import Symmetry


@dataclass(frozen=True)
class Asked:
    """Teleports of ``count`` runs that are found alike, by ``find``; ``resets_optimizer``: as `Search` has it."""

    count: int
    find: Callable[[Start], Found]
    resets_optimizer: bool = False


_READ = ("loss", "learning_rate", "initial_loss", "grad_norm2")  # of a run's numbers, what a search begins with


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
        data_element: Composition of all moves so far (Algorithm 3), for symmetries that move data; else None.

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
        neutral = None
        if self.symmetry is not None and self.symmetry.moves_data:
            neutral = self.symmetry.group.identity(len(keys), self.dtype, self.device)
        super().reset(keys, ids, mask, params, learning_rate)
        if neutral is None:
            return
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
        asked = self.books.xp.view(which)
        rows = self.books.xp.argwhere(asked >= 0)[:, 0]
        self.teleport_rows(rows, asked[rows])

    def teleport_rows(self, rows: Array, asked: Array) -> None:
        """The same of ``rows`` ``(R,)`` by the searches ``asked`` ``(R,)``, arrays of the books' library."""
        xp = self.books.xp
        if not len(rows):
            return
        rows = rows[xp.argsort(asked, stable=True)]
        counts = xp.bincount(asked, minlength=len(self.searches)).tolist()
        self._teleport(
            xp.tensor(rows),
            [
                Asked(count, search.find, search.resets_optimizer)
                for count, search in zip(counts, self.searches, strict=True)
                if count
            ],
        )

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
            self._teleport(rows, [Asked(len(rows), lambda start: judged(start, moved_by(start, chosen)))])

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

    def _teleport(self, rows: Tensor, parts: Sequence[Asked]) -> None:
        """Teleport ``rows`` ``(R,)``, of which each of ``parts`` has its share, one after the other."""
        xp, view, tensor = self.books.xp, self.books.xp.view, self.books.xp.tensor
        # Picking every row of a tensor copies it; a whole batch that teleports together is spared that.
        everyone = len(rows) == self.count and len(parts) == 1
        at = slice(None) if everyone else view(rows)
        # One copy of all their numbers, worked on and written back: an indexed write costs as much as the arithmetic of ten.
        floats, integers = self.books.floats, self.books.integers
        if not everyone:
            floats, integers = xp.picked(floats, at), xp.picked(integers, at)
        # few parameters lie column by column, in which the rounding of a sum may depend on the number of runs
        params, gradient = (tensor(view(memory)[at]).contiguous() for memory in (self.params, self.gradient))
        instance = self.instance if everyone else self.instance.select(rows)
        batch = None if self.batch is None else self.batch[slice(None) if everyone else rows]
        keys = fold_in(tensor(view(self.keys)[at]), tensor(integers[AT["attempts"]]))
        lowest = floats[AT["base_rate"]] / RATE_RANGE
        answers: list[Found] = []
        changes = xp.empty(floats, 4, len(rows), dtype=self.dtype)
        moved, status = (xp.empty(floats, len(rows), dtype=dtype) for dtype in (torch.bool, torch.int64))
        end = 0
        for part in parts:
            here = slice(end, end + part.count)
            end = here.stop
            alone = instance if part.count == len(rows) else instance.part(here)
            evaluator = Evaluator(self.problem, alone, None if batch is None else batch[here])
            source = None
            if self._batches is not None:
                source = partial(self._coming_batch, alone["order_key"], tensor(integers[AT["steps"], here]))
            loss, rate, scale, norm2 = (tensor(floats[AT[name], here]) for name in _READ)
            start = Start(
                params[here],
                loss,
                gradient[here],
                rate,
                self._symmetry,
                evaluator,
                Streams(keys[here]),
                source,
                scale,
                tensor(lowest[here]),
                norm2,
            )
            with self.quiet():
                found = part.find(start)
            self.ledger.charge(None if everyone else rows[here], evaluator.counts)
            if len(parts) > 1:  # a search may keep its tensors, and write to them when it is asked the next time
                params[here], gradient[here] = found.params, found.gradient
            else:
                params, gradient = found.params, found.gradient
            answers.append(found)
            norm2 = row_dot(found.gradient, found.gradient) if found.grad_norm2 is None else found.grad_norm2
            for target, new in zip(changes, (found.loss, norm2, found.loss_change, found.rate_factor), strict=True):
                target[here] = view(new)
            moved[here], status[here] = view(found.moved), view(found.status)
        view(self.params)[at], view(self.gradient)[at] = view(params), view(gradient)
        with self.quiet():
            self._book_teleports(floats, changes, moved)
        self._count_teleports(integers, moved, status)
        if not everyone:
            every = xp.view(torch.arange(len(rows), device=self.device))
            columns_put(self.books.floats, floats)(at, every)
            columns_put(self.books.integers, integers)(at, every)
        self.changes += 1
        end = 0
        for part, found in zip(parts, answers, strict=True):
            here = slice(end, end + part.count)
            end = here.stop
            if self.data_element is not None and found.element is not None:
                self._move_data(found.element, rows[here], found.moved)
            if part.resets_optimizer or self.on_teleport == "reset":
                self._reset_optimizer(rows[here][found.moved])

    def _book_teleports(self, floats: Array, changes: Array, moved: Array) -> None:
        """Write down what became of ``R`` runs that teleported.

        Args:
            floats: ``(len(FLOATS), R)``, their numbers.
            changes: ``(4, R)``: loss and squared gradient norm where they are now, the loss's change, the rate's factor.
            moved: ``(R,)`` bool.
        """
        xp = self.books.xp
        loss, norm2, change, factor = changes
        # clamped, so that the logarithm of a zero gradient on either side is finite
        smallest = SMALLEST[self.dtype]
        after, before = xp.at_least(norm2, smallest), xp.at_least(floats[AT["grad_norm2"]], smallest)
        gain = self._log10(after / before)
        if not bool(abs(gain.sum()) < math.inf):  # the quotient is out of range
            gain = xp.where(abs(gain) < math.inf, gain, self._log10(after) - self._log10(before))
        floats[AT["teleport_gain"]] = xp.where(moved, gain, 0.0)
        floats[AT["loss"]], floats[AT["grad_norm2"]], floats[AT["loss_change"]] = loss, norm2, change
        base = floats[AT["base_rate"]]
        rate = xp.at_least(floats[AT["learning_rate"]] * factor, base / RATE_RANGE)
        floats[AT["learning_rate"]] = xp.at_most(rate, base * RATE_RANGE)
        for name in ("cosine", "curvature", "alignment"):  # they speak of the place the run has left
            floats[AT[name]][moved] = 0.0
        self.books.derive(floats)

    @staticmethod
    def _count_teleports(integers: Array, moved: Array, status: Array) -> None:
        """The same of their counts; all but ``integers`` also numbers."""
        integers[AT["attempts"]] += 1
        integers[AT["teleports"]] += moved
        integers[AT["status"]] = status
        integers[AT["since_teleport"]][moved] = 0

    def _log10(self, values: Array) -> Array:
        # torch's, whose last bit may be another than NumPy's
        return self.books.xp.view(torch.log10(self.books.xp.tensor(values)))

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
