"""What every run knows of itself, and what a gradient step makes of it.

`Progress` is the runs' own numbers, from which features and rules are computed. They lie in one block of memory a kind, a
row a number, so that a step works on several numbers at once (`teleport_env.bookkeeping`) and runs can be set aside together
(`Memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays
from teleport_env.instances import Instance
from teleport_env.native import KERNELS

DIVERGED_ABOVE = 1e2
"""A run whose loss exceeds its initial loss by this factor has diverged: the two orders of magnitude lost that a diverged
run counts as, so that no run does worse than a diverged one and blowing up is never the better way out."""

HUGE = {torch.float64: 1e300, torch.float32: 1e36}
"""So has a run whose loss or squared gradient norm exceeds this: what is computed from them overflows. By precision."""

SMALLEST = {torch.float64: 1e-300, torch.float32: 1e-38}
"""What logarithms and divisors are clamped to, by precision."""

COLUMNS = 16
"""Parameters of up to so many are stored column by column."""


@dataclass
class Progress:
    """What every run knows of itself; each ``(B,)``. Features and rules are computed from this and nothing else.

    Attributes:
        loss: Loss on the current data.
        grad_norm2: Squared norm of the gradient on the current data.
        initial_loss: Loss after the reset.
        initial_grad_norm2: Squared gradient norm after the reset.
        learning_rate: The rate the next step uses.
        base_rate: The rate at reset.
        steps: Gradient steps taken.
        teleports: Teleports that moved.
        attempts: Teleports asked for, moved or not.
        last_decrease: ``log10`` of the loss before over after the last gradient step.
        last_grad_decrease: The same of the gradient norm.
        cosine: Cosine of the gradients before and after the last step; 0 when there was none since the last teleport.
        curvature: ``<dw, dg> / |dw|^2`` of the last step: the curvature along it; 0 as above.
        alignment: ``<dw, dg> / (|dw| |dg|)``: for gradient descent the cosine of the gradient and the Hessian times the
            gradient, by a finite difference that costs nothing. It is 1 where the
            gradient norm is critical on the level set (Lemma C.4), longest or shortest; 0 as above.
        update_norm: ``|dw| / learning rate`` of the last step: for momentum the norm of its buffer.
        since_teleport: Gradient steps since the last teleport that moved; since the start if there was none.
        teleport_gain: ``log10`` of the squared gradient norm after over before the last teleport; 0 if there was none.
        loss_change: Relative change of the loss by the last teleport.
        status: `teleport_env.searches.base.Status` of the last teleport, int64.
        diverged: bool; sticky.
    """

    loss: Tensor
    grad_norm2: Tensor
    initial_loss: Tensor
    initial_grad_norm2: Tensor
    learning_rate: Tensor
    base_rate: Tensor
    steps: Tensor
    teleports: Tensor
    attempts: Tensor
    last_decrease: Tensor
    last_grad_decrease: Tensor
    cosine: Tensor
    curvature: Tensor
    alignment: Tensor
    update_norm: Tensor
    since_teleport: Tensor
    teleport_gain: Tensor
    loss_change: Tensor
    status: Tensor
    diverged: Tensor

    @classmethod
    def of(cls, blocks: Blocks) -> Progress:
        """The numbers that lie in ``blocks``."""
        rows = dict(zip(FLOATS + INTEGERS, (*blocks.floats, *blocks.integers), strict=True))
        rows["diverged"] = blocks.diverged
        return cls(**{f.name: rows[f.name] for f in fields(cls)})


# Where a number lies. Neighbours are worked on at once. Names that are no field of Progress are what the bookkeeper keeps
# for itself. The kernels know the same rows (`native/rows.h`).
FLOATS = (
    *("loss", "grad_norm2", "turn2"),
    *("last_decrease", "last_grad_decrease", "cosine", "alignment", "curvature"),
    *("log_loss", "log_grad_norm2", "log_update_norm"),
    *("log_initial_loss", "log_initial_grad_norm2", "log_rate", "log_base_rate"),
    *("grad_norm", "turn_length", "update_norm"),
    # what a step leaves alone
    *("initial_loss", "initial_grad_norm2", "learning_rate", "base_rate"),
    *("teleport_gain", "loss_change", "limit"),
)
INTEGERS = ("steps", "since_teleport", "updates", "teleports", "attempts", "status")
AT = {name: row for row, name in enumerate(FLOATS)} | {name: row for row, name in enumerate(INTEGERS)}
"""The row of a number in the block of its kind."""

_APART = (
    24  # numbers between one row's end and the next one's beginning: rows 4 KB apart share their places in the cache
)


class Blocks(NamedTuple):
    """The memory of `Progress`.

    Attributes:
        floats: ``(len(FLOATS), B)``.
        integers: ``(len(INTEGERS), B)`` int64.
        diverged: ``(B,)`` bool.
    """

    floats: Tensor
    integers: Tensor
    diverged: Tensor

    @classmethod
    def empty(cls, count: int, dtype: torch.dtype, device: torch.device | str) -> Blocks:
        return cls(
            torch.zeros(len(FLOATS), count + _APART, dtype=dtype, device=device)[:, :count],
            torch.zeros(len(INTEGERS), count + _APART, dtype=torch.int64, device=device)[:, :count],
            torch.zeros(count, dtype=torch.bool, device=device),
        )

    def select(self, rows: Tensor) -> Blocks:
        """Some runs, in memory of their own."""
        return Blocks(*(tensor[..., rows] for tensor in self))

    def put(self, rows: Tensor | slice, part: Blocks) -> None:
        """Overwrite some runs by as many others; views of this memory stay good."""
        for mine, theirs in zip(self, part, strict=True):
            mine[..., rows] = theirs


Put: TypeAlias = "Callable[[Array, Array], None]"
"""Puts what runs ``of`` ``(R,)`` of others have in the place of what ``at`` ``(R,)`` have."""


def columns_put(mine: Array, other: Array, constant: Array | None = None) -> Put:
    """``mine[..., at] = other[..., of]``, in a seventh of the time where there are kernels.

    ``constant``, a bool per row of ``other``: whether all its columns agree there, which saves to look for each.
    """
    if KERNELS is not None and isinstance(mine, np.ndarray) and mine.ndim == 2 and mine.dtype.char in "dl":
        return lambda at, of: KERNELS.adopt(mine, at, other, of, False, constant)

    def put(at: Array, of: Array) -> None:
        mine[..., at] = other[..., of]

    return put


def runs_put(mine: Array, other: Array) -> Put:
    """``mine[at] = other[of]``, where the first axis are the runs; without a copy between where there are kernels."""
    if KERNELS is not None and isinstance(mine, np.ndarray) and mine.dtype.char in "dl":
        (target, by_rows), (source, by_rows_too) = _matrix(mine), _matrix(other)
        if target is not None and source is not None and by_rows == by_rows_too:
            return lambda at, of: KERNELS.adopt(target, at, source, of, by_rows, None)

    def put(at: Array, of: Array) -> None:
        mine[at] = other[of]

    return put


def instances_put(xp: Arrays, mine: Instance, other: Instance) -> list[Put]:
    """All of the instances; ``at`` and ``of`` are arrays of ``xp``."""
    pairs = [(mine.start, other.start), *((tensor, other.tensors[name]) for name, tensor in mine.tensors.items())]
    if mine.ids is not None and other.ids is not None:
        pairs.append((mine.ids, other.ids))
    return [runs_put(xp.view(target), xp.view(source)) for target, source in pairs]


def _matrix(array: np.ndarray) -> tuple[np.ndarray | None, bool]:
    """The same memory as a matrix, and whether its rows are the runs rather than its columns; None if it is no matrix."""
    turned = array.transpose(*range(1, array.ndim), 0)
    if turned.flags.c_contiguous:
        return turned.reshape(-1, len(array)), False
    return (array.reshape(len(array), -1), True) if array.flags.c_contiguous else (None, False)


class Memory(NamedTuple):
    """Memory of runs that is read and written together: the last axis of columns is ``B``, the first axis of rows."""

    xp: Arrays
    columns: Sequence[Array]
    rows: Sequence[Tensor]

    def read(self, rows: Tensor) -> Memory:
        """A copy of what some runs ``(R,)`` have."""
        at = self.xp.view(rows)
        return Memory(self.xp, [array[..., at] for array in self.columns], [tensor[rows] for tensor in self.rows])

    def write(self, rows: Tensor, part: Memory) -> None:
        """Overwrite what some runs ``(R,)`` have by as many others'."""
        at = self.xp.view(rows)
        for array, values in zip(self.columns, part.columns, strict=True):
            array[..., at] = values
        for tensor, new in zip(self.rows, part.rows, strict=True):
            tensor[rows] = new

    def puts(self, others: Memory, constants: Sequence[Array | None]) -> list[Put]:
        """All of it; ``constants``: for the first columns, in which rows all others agree (`columns_put`)."""
        columns = zip_longest(self.columns, others.columns, constants)
        rows = zip(self.rows, others.rows, strict=True)
        view = self.xp.view
        return [*(columns_put(*each) for each in columns), *(runs_put(view(mine), view(other)) for mine, other in rows)]
