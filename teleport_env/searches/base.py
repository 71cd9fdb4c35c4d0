"""Finding the group element of a teleport.

A search is given where ``R`` runs stand (`Start`) and answers where each should be moved (`Found`). It may evaluate what it
likes through ``start.evaluator``, which counts it; for linear actions it need not evaluate anything, because loss and
gradient after the move are known from before (see `teleport_env.symmetries.base`).

Three rules hold for every search, and `Search.find` enforces them around the subclass's `Search.propose`:

1. **A teleport keeps the loss.** A candidate whose loss differs by more than `Search.loss_tolerance` is rejected
   (except for the published first-order variant, whose leak is being studied).
2. **A teleport improves the search's objective** by more than rounding, or the run stays where it is.
3. **A run that fails harms no other.** A candidate that is not finite (a singular element, an overflow), or so large that
   the run would count as diverged there, rejects that run alone and says so in `Found.status`.

Whether it moves or not, a run pays for what was evaluated on its behalf.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import CHAIN, TINY, TORCH, Array, Arrays, arrays_of, row_dots
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.native import KERNELS
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.progress import HUGE
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry

BatchSource: TypeAlias = Callable[[int], Tensor]
"""Gives mini-batches, examples ``(R, n)`` int64, by their offset from the current one."""


class Status(IntEnum):
    """What became of a run's last teleport action: a number with a ``name``, and the reason in `words`."""

    NONE = 0
    """No teleport yet."""
    MOVED = 1
    """The run moved."""
    NO_GAIN = 2
    """No candidate improved the objective."""
    LOSS_MOVED = 3
    """The best candidate did not keep the loss."""
    NOT_FINITE = 4
    """The search ended in numbers that are not finite."""
    NOT_PAID = 5
    """The remaining budget could not pay for it."""

    @property
    def words(self) -> str:
        """Sentence without a full stop: what happened, and why where the run did not move."""
        return _WORDS[self]


_WORDS = {
    Status.NONE: "no teleport yet",
    Status.MOVED: "moved",
    Status.NO_GAIN: "refused: no candidate improved the objective",
    Status.LOSS_MOVED: "refused: the loss would have changed",
    Status.NOT_FINITE: "refused: not finite",
    Status.NOT_PAID: "refused: the budget cannot pay for it",
}


def finite_rows(vectors: Tensor) -> Tensor:
    """Which rows of ``(R, ..., P)`` are finite throughout, ``(R, ...)`` bool.

    Their sums tell, in one pass over the entries: one that is not finite makes the sum so. A sum that overflows counts too.
    """
    return vectors.sum(-1).abs() < math.inf


def in_bounds(xp: Arrays, params: Array, loss: Array, norm2: Array) -> Array:
    """Which points ``(R, P)`` are finite and none where a run counts as diverged, an array ``(R,)`` of bool.

    ``loss`` and ``norm2``, the squared norm of the gradient, are arrays ``(R,)`` there.
    """
    huge = HUGE[xp.tensor(loss).dtype]
    return (abs(params.sum(1)) < math.inf) & (abs(loss) <= huge) & (norm2 < huge)


@dataclass
class Start:
    """Where ``R`` runs stand when a search begins.

    Attributes:
        params: ``(R, P)``.
        loss: ``(R,)``, on the evaluator's data.
        gradient: ``(R, P)``, of the same.
        learning_rate: ``(R,)``, the rate that the next gradient step would use.
        symmetry: The action to search over.
        evaluator: The loss of these runs, counted.
        streams: Random numbers, one stream per run.
        batches: Examples ``(R, n)`` of the run's ``b``-th coming mini-batch, given the offset ``b`` (0: the current one);
            None where the problem has no mini-batches.
        scale: ``(R,)`` the loss that the runs began with, against which rounding is measured; None: the current one.
        lowest_rate: ``(R,)`` below which a search cannot set the learning rate; None: 0.
        grad_norm2: ``(R,)``, the squared norm of ``gradient`` as `row_dot` has it, where the caller has it at hand.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    learning_rate: Tensor
    symmetry: Symmetry
    evaluator: Evaluator
    streams: Streams
    batches: BatchSource | None = None
    scale: Tensor | None = None
    lowest_rate: Tensor | None = None
    grad_norm2: Tensor | None = None

    @property
    def instance(self) -> Instance:
        """The instances of the runs."""
        return self.evaluator.instance

    @property
    def batch(self) -> Batch:
        """The mini-batches that the runs look at, ``(B, n)`` int64; None where they look at all data."""
        return self.evaluator.batch

    def __len__(self) -> int:
        return self.params.shape[0]


@dataclass
class Candidate:
    """One point per run, on its orbit.

    Attributes:
        params: ``(R, P)``.
        loss: ``(R,)`` at ``params``; equal to the start's where it was carried over by an exact linear action.
        gradient: ``(R, P)`` at ``params``, evaluated or carried over.
        score: ``(R,)`` the objective there, larger is better; None: the search has no objective and any kept loss will do.
        start_score: ``(R,)`` the objective at the start, compared with ``score``.
        element: The element that moved them from the start; None at the start and where a move needs none.
        rate_factor: ``(R,)`` by which the learning rate is multiplied if the move is accepted, or None.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    score: Tensor | None = None
    start_score: Tensor | None = None
    element: Element | None = None
    rate_factor: Tensor | None = None

    @property
    def finite(self) -> Tensor:
        """``(R,)`` bool."""
        return torch.isfinite(self.loss) & finite_rows(self.params) & finite_rows(self.gradient)


@dataclass
class Found:
    """The answer of a search.

    Attributes:
        params: ``(R, P)``; a rejected run's are its start's.
        loss: ``(R,)`` at ``params``.
        gradient: ``(R, P)`` at ``params``.
        moved: ``(R,)`` bool.
        status: ``(R,)`` int64 of `Status`.
        loss_change: ``(R,)``: the loss of the proposed point over the start's, minus one: the invariance error on the data
            the search used, whether accepted or not; 0 where the loss was carried over, 0 where nothing was proposed.
        rate_factor: ``(R,)``, 1 where the rate stays.
        element: The element that moved each run, as in `Candidate`; rows that did not move are not to be read.
        grad_norm2: ``(R,)``, the squared norm of the gradient, where the search has it at hand.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    moved: Tensor
    status: Tensor
    loss_change: Tensor
    rate_factor: Tensor
    element: Element | None = None
    grad_norm2: Tensor | None = None


def loss_kept(start: Start, loss: Tensor, tolerance: float | None) -> Tensor:
    """Whether losses ``(R,)`` or ``(R, K)`` are those of the start, as bool; all true where the action need not keep it.

    A ``tolerance`` is relative to the loss. Without one it is 1e-10 (float32: 5e-6) and rounding besides: a residual ``r``
    is known to ``eps`` times the residuals that the run began with, and its square to ``eps |r| |r_0|``.
    """
    xp = arrays_of(loss.device)
    with xp.quiet():
        return xp.tensor(kept_loss(xp, start, xp.view(loss), tolerance))


def allowance(precision: torch.dtype, tolerance: float | None) -> tuple[float, float]:
    """What a loss ``L`` may change by, over ``|L|`` and over ``sqrt(|L| |L_0|)`` beside it: `loss_kept`."""
    if tolerance is not None:
        return tolerance, 0.0
    return 1e-10 if precision == torch.float64 else 5e-6, 32.0 * _EPS[precision]


def kept_loss(xp: Arrays, start: Start, loss: Array, tolerance: float | None) -> Array:
    """`loss_kept` of arrays."""
    if not start.symmetry.keeps_loss:
        return xp.where(loss < math.inf, True, True)
    here = xp.view(start.loss)
    before = abs(here)
    relative, rounding = allowance(start.loss.dtype, tolerance)
    allowed = relative * before
    if rounding:
        scale = before if start.scale is None else xp.at_least(abs(xp.view(start.scale)), before)
        allowed = allowed + rounding * before**0.5 * scale**0.5
    if loss.ndim == 2:
        here, allowed = here[:, None], allowed[:, None]
    kept: Array = abs(loss - here) <= allowed
    return kept


@dataclass(frozen=True, kw_only=True)
class Search(ABC):
    """How the element of a teleport is found; settings only, immutable, and a dict away from JSON.

    Attributes:
        objective: Name of what to improve (see `teleport_env.searches.objectives`).
        loss_tolerance: Largest relative change of the loss a move may make; None: 1e-10 in float64, 5e-6 in float32, and
            what rounding of the residuals makes inevitable (`loss_kept`).
        resets_optimizer: Whether a teleport by this search clears the optimizer's state, whatever the environment's
            ``on_teleport`` says.
    """

    objective: str = "gradient_norm"
    loss_tolerance: float | None = None
    resets_optimizer: bool = False

    kind: ClassVar[str]
    """The name of the search in dicts, ``{"search": kind, ...}``."""

    @abstractmethod
    def propose(self, start: Start) -> Candidate:
        """The best candidate of each run; the subclass's whole work."""

    @abstractmethod
    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        """The most that one teleport by this search can cost a run, before it is made; floats."""

    def check(self, problem: Problem, symmetry: Symmetry) -> None:  # noqa: B027 (most searches serve every symmetry)
        """Raise ValueError, with what to use instead, where this search cannot serve that symmetry or objective."""

    def find(self, start: Start) -> Found:
        """Search from ``start`` and keep what the three rules at the head of this module allow."""
        with arrays_of(start.loss.device).quiet():
            return judged(start, self.propose(start), self.loss_tolerance)


def judged(start: Start, proposed: Candidate, tolerance: float | None = None) -> Found:
    """What the three rules at the head of this module allow of a proposal; ``tolerance``: as in `loss_kept`."""
    xp = arrays_of(start.loss.device)
    found = _judged(start, proposed, tolerance)
    if found is not None:
        return found

    def view(tensor: Tensor) -> Array:
        return xp.view(tensor.detach())  # a user's search may have left a graph, which ends here

    tensor, precision = xp.tensor, start.loss.dtype
    before, after = xp.view(start.loss), view(proposed.loss)
    params, gradient = view(proposed.params), view(proposed.gradient)
    norm2 = row_dots(xp, gradient, gradient)
    moved = finite = in_bounds(xp, params, after, norm2)
    change = after - before
    kept = improved = None
    if proposed.loss is not start.loss:  # else it was carried over
        change = change / xp.at_least(abs(before), TINY[precision])
        if start.symmetry.keeps_loss:
            kept = kept_loss(xp, start, after, tolerance)
            moved = moved & kept
    if proposed.score is not None and proposed.start_score is not None:
        # a permutation keeps the gradient norm but for its last bits, which is no improvement
        score, staying = view(proposed.score), view(proposed.start_score)
        rounding = 16.0 * _EPS[precision] * abs(staying)
        improved = score > staying + xp.where(rounding < math.inf, rounding, 0.0)
        moved = moved & improved
    if proposed.rate_factor is None:
        factor = xp.full(xp.view(start.learning_rate), len(start), value=1.0)
    else:
        factor = view(proposed.rate_factor)
        factor = xp.where(moved & (factor < math.inf) & (factor > 0), factor, 1.0)
    status = xp.where(moved, int(Status.MOVED), int(Status.NONE))
    found = Found(
        params=proposed.params.detach(),
        loss=proposed.loss.detach(),
        gradient=proposed.gradient.detach(),
        moved=tensor(moved),
        status=tensor(status),
        loss_change=tensor(xp.where(change < math.inf, change, math.inf)),
        rate_factor=tensor(factor),
        element=proposed.element,
    )
    if bool(moved.all()):  # nothing has to be copied
        found.grad_norm2 = tensor(norm2)
        return found
    column = moved[:, None]
    found.params = tensor(xp.where(column, params, view(start.params)))
    found.loss = tensor(xp.where(moved, after, before))
    found.gradient = tensor(xp.where(column, gradient, view(start.gradient)))
    if start.grad_norm2 is not None:
        found.grad_norm2 = tensor(xp.where(moved, norm2, view(start.grad_norm2)))
    for passed, failure in ((improved, Status.NO_GAIN), (kept, Status.LOSS_MOVED), (finite, Status.NOT_FINITE)):
        if passed is not None:
            status[~passed] = int(failure)
    return found


def _judged(start: Start, proposed: Candidate, tolerance: float | None) -> Found | None:
    """`judged` by a kernel: of float64 on the CPU; None for others."""
    runs, size = start.params.shape
    if KERNELS is None or not size or start.loss.dtype != torch.float64:
        return None
    # of longer gradients the sum of squares is the library's, whose order of additions is another
    squares = row_dots(TORCH, *(2 * [proposed.gradient.detach()])) if size > CHAIN else None
    scored = proposed.score is not None and proposed.start_score is not None
    params, gradient = np.empty((2, runs, size))
    loss, change, factor, norm2 = np.empty((4, runs))
    moved, status = np.empty(runs, dtype=bool), np.empty(runs, dtype=np.int64)
    carried = proposed.loss is start.loss
    all_moved = KERNELS.judge(
        *(proposed.params, proposed.gradient, start.params, start.gradient),
        *(start.loss, proposed.loss, start.loss if start.scale is None else start.scale),
        *((proposed.score, proposed.start_score) if scored else (None, None)),
        *(proposed.rate_factor, start.grad_norm2, *allowance(torch.float64, tolerance), HUGE[torch.float64]),
        *(carried, not carried and start.symmetry.keeps_loss, _STATUSES, squares),
        *(params, gradient, loss, change, factor, norm2, moved, status),
    )
    if all_moved is None:
        return None
    tensor = torch.from_numpy
    return Found(
        params=proposed.params.detach() if all_moved else tensor(params),
        loss=tensor(loss),
        gradient=proposed.gradient.detach() if all_moved else tensor(gradient),
        moved=tensor(moved),
        status=tensor(status),
        loss_change=tensor(change),
        rate_factor=tensor(factor),
        element=proposed.element,
        grad_norm2=tensor(norm2) if all_moved or start.grad_norm2 is not None else None,
    )


_STATUSES = tuple(map(int, (Status.MOVED, Status.NO_GAIN, Status.LOSS_MOVED, Status.NOT_FINITE)))
_EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32)}
