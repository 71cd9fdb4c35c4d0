"""A teleport that is searched for on several mini-batches, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from teleport_env.arrays import arrays_of
from teleport_env.groups.base import Element, where
from teleport_env.ledger import Counts
from teleport_env.optimizers import row_dot
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.searches.ascent import GradientAscent
from teleport_env.searches.base import Candidate, Found, Search, Start, Status, in_bounds
from teleport_env.searches.directions import require_resting_data
from teleport_env.searches.moves import times
from teleport_env.searches.settings import kind, require_common, require_count, search_from
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class MiniBatch(Search):
    """The inner search on each of ``batches`` mini-batches in turn, without a gradient step in between.

    A variant of Algorithm 2 of Zhao et al., NeurIPS 2022, in one action. As it is written there, every one of the first
    mini-batches is teleported on *and* stepped on before the next. A schedule of the inner search plays that:
    ``AtSteps(steps=(2400, 2401, 2402, 2403))`` for four mini-batches after an epoch of 2,400 steps.

    The first is the current one, whose loss and gradient are known. Each further one costs one gradient before its
    search begins, and a last gradient brings the run back to its current batch. Every batch accepts its own move, on its
    own data. An action that is exact on one batch alone may well move the loss of another, also the current one's.

    ``Found.loss_change`` is the largest (in modulus) of the batches' invariance errors. A run has moved if any of its
    batches' moves was accepted; otherwise its status is the first batch's.

    Attributes:
        batches: Number of mini-batches.
        inner: The search on each: a name, a dict or a `Search`.
        objective: The inner search's, whatever is given here.
    """

    kind: ClassVar[str] = "mini_batch"

    batches: int = 4
    inner: Any = field(default_factory=GradientAscent)

    def __post_init__(self) -> None:
        require_count(self, "batches")
        if not isinstance(self.inner, str | Mapping | Search):
            raise ValueError(f"inner of search {self.kind!r} must be a name, a dict or a Search, got {self.inner!r}")
        inner = search_from(self.inner)
        if isinstance(inner, MiniBatch):
            raise ValueError(
                f"inner of search {self.kind!r} cannot be a {self.kind!r} itself, got {self.inner!r}; "
                f"use its own inner search and multiply the batches"
            )
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "objective", inner.objective)
        require_common(self, (inner.objective,))

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        if problem.batch_size is None:
            raise ValueError(
                f"search {self.kind!r} needs mini-batches, which {problem.name or type(problem).__name__} does not have; "
                f"use its inner search {self.inner.kind!r} by itself"
            )
        require_resting_data(self, symmetry, evaluates=True)
        self.inner.check(problem, symmetry)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return times(self.batches, self.inner.price(problem, symmetry)) + Counts(gradient=float(self.batches))

    def propose(self, start: Start) -> Candidate:
        """The outcome of `find` as a candidate without a score."""
        found = self.find(start)
        return Candidate(found.params, found.loss, found.gradient, element=found.element, rate_factor=found.rate_factor)

    def find(self, start: Start) -> Found:
        """As in `Search.find`, but accepting batch by batch.

        Raises:
            ValueError: The start has no mini-batches.
        """
        if start.batches is None:
            raise ValueError(f"search {self.kind!r} needs Start.batches; this problem has no mini-batches")
        params = start.params
        moved = torch.zeros(len(start), dtype=torch.bool, device=params.device)
        status = torch.zeros(len(start), dtype=torch.int64, device=params.device)
        change, rate_factor = torch.zeros_like(start.loss), torch.ones_like(start.learning_rate)
        element: Element | None = None
        for offset in range(self.batches):
            found = self.inner.find(self._on_batch(start, start.batches(offset), params, rate_factor, offset))
            status = status if offset else found.status
            element = _composed(start, element, moved, found)
            params = found.params
            moved = moved | found.moved
            change = torch.where(found.loss_change.abs() > change.abs(), found.loss_change, change)
            rate_factor = rate_factor * found.rate_factor
        loss, gradient = start.evaluator.loss_and_gradient(params)
        xp = arrays_of(loss.device)
        finite = xp.tensor(in_bounds(xp, *map(xp.view, (params, loss, row_dot(gradient, gradient)))))
        status = torch.where(moved, int(Status.MOVED), status)
        status = torch.where(moved & ~finite, int(Status.NOT_FINITE), status)
        moved = moved & finite
        column = moved[:, None]
        return Found(
            params=torch.where(column, params, start.params),
            loss=torch.where(moved, loss, start.loss),
            gradient=torch.where(column, gradient, start.gradient),
            moved=moved,
            status=status,
            loss_change=change,
            rate_factor=torch.where(moved, rate_factor, torch.ones_like(rate_factor)),
            element=element,
        )

    @staticmethod
    def _on_batch(start: Start, batch: Tensor, params: Tensor, rate_factor: Tensor, offset: int) -> Start:
        """The runs at ``params`` with the ``offset``-th batch as their data; what is evaluated there they pay for."""
        evaluator = _Forwarding(start.evaluator, batch)
        loss, gradient = evaluator.loss_and_gradient(params) if offset else (start.loss, start.gradient)
        rate = start.learning_rate * rate_factor
        return Start(params, loss, gradient, rate, start.symmetry, evaluator, start.streams)


class _Forwarding(Evaluator):
    """An evaluator on another mini-batch whose charges go to the first one's account."""

    def __init__(self, payer: Evaluator, batch: Tensor) -> None:
        super().__init__(payer.problem, payer.instance, batch)
        self.payer = payer

    def charge(self, counts: Counts) -> None:
        self.payer.charge(counts)


def _composed(start: Start, element: Element | None, moved: Tensor, found: Found) -> Element | None:
    """The product of the accepted elements so far; rows that did not move keep what they had."""
    if found.element is None:
        return element
    if element is None:
        return found.element
    group = start.symmetry.group
    # A row that has not moved before holds a rejected element: start it from the identity.
    before = where(moved, element, group.identity(len(start), start.params.dtype, start.params.device))
    return where(found.moved, group.compose(found.element, before), before)
