"""Scalings of hidden units, found and applied where a model's weights lie: `UnitsInPlace`.

A teleport in a training loop must be short beside a training step. So no vector of all weights is made: a compiled kernel
sums squares per unit in the tensors of the model, sweeps to the best factors, and multiplies weights, gradients and the
optimizer's state once. It serves the closed forms of scalings (`Symmetry.unit_slots`) for dense float32 or float64 tensors
on the CPU. For everything else the general way remains (`Course.teleport`, `Transport`), which tests compare with this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import TINY
from teleport_env.groups.base import Element
from teleport_env.native import KERNELS, OBJECTIVES
from teleport_env.progress import HUGE
from teleport_env.searches import Search
from teleport_env.searches.base import Status
from teleport_env.searches.closed_form import ClosedForm
from teleport_env.symmetries.base import Symmetry

POWERS = {"covector": -1, "covector squared": -2, "vector": 1, "vector squared": 2}
"""What a scaling by ``F`` makes of the kinds of tensors in `teleport_env.agents.transport`: it multiplies by ``F^power``."""


class Squares(NamedTuple):
    """Squared norms of weights and gradients, before and after a move."""

    weights: float
    moved_weights: float
    gradient: float
    moved_gradient: float


class UnitsInPlace:
    """The best factors of a model's hidden units, and the moves by them.

    Made by `in_place`.

    Args:
        widths: Numbers of units, coupling by coupling.
        params: The parameters, in the order in which they lie in the symmetry's vector.
        slots: Slots of the rows and of the columns of each parameter (`separated`).
    """

    def __init__(self, widths: list[int], params: Sequence[Tensor], slots: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._params, self._dtype = params, params[0].dtype
        ends = np.cumsum(widths, dtype=np.int64)
        self._widths, units = widths, int(ends[-1])
        owner = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))  # of a unit its coupling
        touched = np.zeros((len(params), 2, len(widths)), dtype=np.bool_)
        for here, sides in zip(touched, slots, strict=True):
            for row, side in zip(here, sides, strict=True):
                row[owner[(side[side > 0] - 1) % units].unique().numpy()] = True
        entries = 1 + 2 * units
        widest = max(len(columns) for _, columns in slots)
        self._layout = (
            np.array([[len(side) for side in sides] for sides in slots], dtype=np.int64),
            torch.cat([side for sides in slots for side in sides]).numpy(),
            touched.reshape(-1),
            ends,
            np.empty(3 * entries + widest),
        )
        self._table, self._squares = np.ones(entries), np.zeros(4)

    @staticmethod
    def serves(search: Search) -> bool:
        """Whether the best factors of a search are known here."""
        return type(search) is ClosedForm and search.objective in OBJECTIVES and not search.verify

    def find(self, search: Search) -> Squares | None:
        """Find the factors of a search that `serves`; None where the kernel cannot read the tensors."""
        assert isinstance(search, ClosedForm)
        found = KERNELS.find_units(
            *self._layout,
            tuple([p.data for p in self._params]),
            tuple([p.grad for p in self._params]),
            OBJECTIVES[search.objective],
            search.objective == "balance_weights",
            search.sweeps if len(self._widths) > 1 else 1,
            float(search.trust_radius),
            TINY[self._dtype],
            self._table,
            self._squares,
        )
        return Squares(*self._squares.tolist()) if found else None

    def judge(self, search: Search, loss: float, squares: Squares) -> Status:
        """What `teleport_env.searches.base.judged` says of the move, whose loss is carried over."""
        huge = HUGE[self._dtype]
        if not (squares.moved_weights < math.inf and abs(loss) <= huge and squares.moved_gradient < huge):
            return Status.NOT_FINITE
        before, after = squares[:2] if search.objective == "balance_weights" else squares[2:]
        rounding = 16.0 * torch.finfo(self._dtype).eps * before
        grows = search.objective in ("gradient_norm", "relative")
        return Status.MOVED if (after - before if grows else before - after) > rounding else Status.NO_GAIN

    def move(self, tensors: Sequence[Tensor | None], role: str) -> bool:
        """Move tensors of a kind by the factors found, in place; False, and nothing moved, where the kernel cannot."""
        if role == "ratio" or all(tensor is None for tensor in tensors):
            return True
        return bool(KERNELS.scale_units(*self._layout, tuple(tensors), self._table, POWERS[role]))

    @property
    def element(self) -> Element:
        """The group element of the factors found, a batch of one."""
        factors = torch.from_numpy(self._table[1 : 1 + sum(self._widths)].copy())[None].to(self._dtype)
        return factors.split(self._widths, dim=1)


def in_place(symmetry: Symmetry, params: Sequence[Tensor]) -> UnitsInPlace | None:
    """The scalings of a model in place; None where they must be made in a vector of all weights."""
    dtype = params[0].dtype
    found = symmetry.unit_slots(sum(p.numel() for p in params))
    if KERNELS is None or found is None or dtype not in TINY:
        return None
    if symmetry.shortcut is None or any(p.dtype != dtype or p.device.type != "cpu" for p in params):
        return None
    whole = found.slots
    sizes = [p.numel() for p in params]
    first, second = (slot.split(sizes) for slot in (whole if len(whole) == 2 else [*whole, torch.zeros_like(whole[0])]))
    slots = [
        separated(*(slot.view(_matrix(p)) for slot in pair)) for p, *pair in zip(params, first, second, strict=True)
    ]
    return None if None in slots else UnitsInPlace(found.widths, params, [pair for pair in slots if pair is not None])


def _matrix(param: Tensor) -> tuple[int, int]:
    """The shape of a parameter as a matrix; a vector is one row."""
    rows = param.shape[0] if param.ndim > 1 else 1
    return rows, param.numel() // rows


def separated(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor] | None:
    """Slots ``(n,)`` and ``(m,)`` of rows and columns, of which every entry of a matrix has both.

    Args:
        first: ``(n, m)`` int64, one slot of every entry, 0 where there is none.
        second: The other slot.

    Returns:
        None where there are no such rows and columns.
    """
    for turned in (False, True):
        one, other = (slot.t() if turned else slot for slot in (first, second))
        rows = torch.zeros_like(one[:, 0])
        for candidate in (other[:, 0], one[:, 0]):
            common = ((one == candidate[:, None]) | (other == candidate[:, None])).all(dim=1)
            rows = torch.where(common & (candidate > 0), candidate, rows)
        rest = torch.where(one == rows[:, None], other, one)
        if bool((rest == rest[:1]).all()) and bool(((one == rows[:, None]) | (other == rows[:, None])).all()):
            return (rest[0], rows) if turned else (rows, rest[0])
    return None
