"""What every run knows of itself, and what a gradient step makes of it.

`Progress` is the runs' own numbers, from which features and rules are computed. They lie in one block of memory a kind, a
row a number, so that a step works on several numbers at once (`Bookkeeper`) and runs can be set aside together (`Aside`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays, arrays_of
from teleport_env.optimizers import row_dot

DIVERGED_ABOVE = 1e2
"""A run whose loss exceeds its initial loss by this factor has diverged: the two orders of magnitude lost that a diverged
run counts as, so that no run does worse than a diverged one and blowing up is never the better way out."""

HUGE = {torch.float64: 1e300, torch.float32: 1e36}
"""So has a run whose loss or squared gradient norm exceeds this: what is computed from them overflows. By precision."""

SMALLEST = {torch.float64: 1e-300, torch.float32: 1e-38}
"""What logarithms and divisors are clamped to, by precision."""

COLUMNS = 8
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
            gradient, by a finite difference that costs nothing (Lemma C.4: 1 where teleporting has nothing left to gain);
            0 as above.
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


# Where a number lies. A step works on neighbours at once: `Bookkeeper.book` says which. Names that are no field of Progress
# are what the bookkeeper keeps for itself.
FLOATS = (
    *("loss", "grad_norm2", "turn2"),
    *("last_decrease", "last_grad_decrease", "cosine", "alignment", "curvature"),
    *("log_loss", "log_grad_norm2", "log_update_norm"),
    *("grad_norm", "turn_length", "update_norm"),
    # what a step leaves alone
    *("learning_rate", "base_rate", "initial_loss", "initial_grad_norm2", "teleport_gain", "loss_change", "limit"),
)
INTEGERS = ("steps", "since_teleport", "updates", "teleports", "attempts", "status")
AT = {name: row for row, name in enumerate(FLOATS)} | {name: row for row, name in enumerate(INTEGERS)}
"""The row of a number in the block of its kind."""

_COUNTED = AT["teleports"]  # integers that every step raises come before this one


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
            torch.zeros(len(FLOATS), count, dtype=dtype, device=device),
            torch.zeros(len(INTEGERS), count, dtype=torch.int64, device=device),
            torch.zeros(count, dtype=torch.bool, device=device),
        )

    def select(self, rows: Tensor) -> Blocks:
        """Some runs, in memory of their own."""
        return Blocks(*(tensor[..., rows] for tensor in self))

    def put(self, rows: Tensor | slice, part: Blocks) -> None:
        """Overwrite some runs by as many others; views of this memory stay good."""
        for mine, theirs in zip(self, part, strict=True):
            mine[..., rows] = theirs


class Bookkeeper:
    """Keeps `Progress` up to date, in place.

    Args:
        blocks: The numbers' memory; ``floats`` (by name: ``row``), ``integers`` and ``diverged`` are views of it.
        columns: ``(5, P, B)`` for runs with few parameters, else None: parameters, gradient, new gradient, minus the change
            of the gradient, minus the update.

    Attributes:
        sane: Whether no run diverged at the last step.
        some_diverged: False if no run here has diverged, true if one may have.
    """

    def __init__(self, blocks: Blocks, columns: Tensor | None = None) -> None:
        self.blocks = blocks
        self.xp = xp = arrays_of(blocks.floats.device)
        dtype, count = blocks.floats.dtype, blocks.floats.shape[1]
        self.tiny, self.huge = SMALLEST[dtype], HUGE[dtype]
        floats, integers = xp.view(blocks.floats), xp.view(blocks.integers)
        self.floats, self.integers, self.diverged = floats, integers, xp.view(blocks.diverged)

        def rows(first: str, last: str, step: int = 1) -> Array:
            return floats[AT[first] : AT[last] + 1 : step]

        self.row = {name: floats[i] for i, name in enumerate(FLOATS)}
        self._counts = integers[:_COUNTED]
        self._squares, self._lengths = rows("grad_norm2", "turn2"), rows("grad_norm", "turn_length")
        self._ratios, self._decreases = rows("cosine", "curvature"), rows("last_decrease", "last_grad_decrease")
        self._logged, self._logs = rows("loss", "grad_norm2"), rows("log_loss", "log_grad_norm2")
        self.sane, self.some_diverged = True, True
        self._parts = xp.empty(floats, 3, count, dtype=dtype)  # what the ratios are divided by
        self._two, self._third = self._parts[:2], self._parts[2]
        self._sane = xp.empty(floats, count, dtype=torch.bool)
        self._finite = xp.empty(floats, count, dtype=torch.bool)
        if columns is not None:
            self.params, self.gradient, self.new_gradient, self.turned, self.update = xp.view(columns)
            self._both = xp.view(columns)[2:4]
            size = columns.shape[1]
            self._products = xp.empty(floats, 2, size, count, dtype=dtype)
            self.scratch = self._products[0]
            self._chain, self._two_chains = list(self.scratch), [self._products[:, k] for k in range(size)]

    # The four ways to book a step write the squared lengths of the new gradient and of the gradient's change, the norm of
    # the update over the rate and its logarithm, in the rows of the cosine, the alignment and the curvature the products,
    # and into `_parts` what these are to be divided by.

    def book_descent(self) -> None:
        """After a step ``w - lr g``: loss, parameters and new gradient are new; make all else so.

        The update is a multiple of the gradient before, so that one product of it with the change of the gradient, ``s``,
        does for all: ``<g, g'> = |g|^2 - s`` and ``<dw, dg> = lr s``, and the factors of ``lr`` cancel.
        """
        xp, row = self.xp, self.row
        xp.subtract(self.gradient, self.new_gradient, out=self.turned)
        xp.multiply(self.gradient, self.turned, out=self.scratch)
        self._sum(self._chain, row["curvature"])
        self._begin_descent()
        self._end_columns()
        xp.multiply(self._lengths, row["update_norm"], out=self._two)
        self._follow()

    def book_columns(self) -> None:
        """After any step: loss, parameters, minus the update and the new gradient are new; make all else so."""
        xp, row = self.xp, self.row
        xp.subtract(self.gradient, self.new_gradient, out=self.turned)
        for a, b, out in (
            (self.update, self.turned, row["curvature"]),
            (self.gradient, self.new_gradient, row["cosine"]),
            (self.update, self.update, self._third),
        ):
            xp.multiply(a, b, out=self.scratch)
            self._sum(self._chain, out)
        row["update_norm"][...] = row["grad_norm"]
        self._end_columns()
        self._end_any()

    def book_rows(self, before: Tensor, after: Tensor, gradient: Tensor, new_gradient: Tensor, loss: Tensor) -> None:
        """After a step of runs with many parameters, ``(B, P)`` each: make their numbers those of the new point."""
        update, turned = before - after, gradient - new_gradient
        view, xp, row = self.xp.view, self.xp, self.row
        row["loss"][...] = view(loss)
        row["curvature"][...] = view(row_dot(update, turned))
        row["cosine"][...] = view(row_dot(gradient, new_gradient))
        self._third[...] = view(row_dot(update, update))
        row["grad_norm2"][...] = view(row_dot(new_gradient, new_gradient))
        row["turn2"][...] = view(row_dot(turned, turned))
        row["update_norm"][...] = row["grad_norm"]
        xp.sqrt(self._squares, out=self._lengths)
        self._end_any()

    def book_descent_rows(self, gradient: Tensor, new_gradient: Tensor, loss: Tensor) -> None:
        """`book_descent` of runs with many parameters, ``(B, P)`` each."""
        turned = gradient - new_gradient
        view, xp, row = self.xp.view, self.xp, self.row
        row["curvature"][...] = view(row_dot(gradient, turned))
        self._begin_descent()
        row["loss"][...] = view(loss)
        row["grad_norm2"][...] = view(row_dot(new_gradient, new_gradient))
        row["turn2"][...] = view(row_dot(turned, turned))
        xp.sqrt(self._squares, out=self._lengths)
        xp.multiply(self._lengths, row["update_norm"], out=self._two)
        self._follow()

    def _begin_descent(self) -> None:
        """From the product ``s`` in the row of the curvature, and the numbers before the step."""
        xp, row = self.xp, self.row
        row["alignment"][...] = row["curvature"]
        xp.subtract(row["grad_norm2"], row["curvature"], out=row["cosine"])
        xp.multiply(row["grad_norm2"], row["learning_rate"], out=self._third)
        row["update_norm"][...] = row["grad_norm"]
        xp.multiply(row["log_grad_norm2"], 0.5, out=row["log_update_norm"])

    def _end_columns(self) -> None:
        """Squared lengths and lengths of the new gradient and of the change; the new gradient becomes the gradient."""
        xp = self.xp
        xp.multiply(self._both, self._both, out=self._products)
        self._sum(self._two_chains, self._squares)
        self.gradient[...] = self.new_gradient
        xp.sqrt(self._squares, out=self._lengths)

    def _end_any(self) -> None:
        """With the gradient norm before in the row of the update norm, and the squared length of the update in `_parts`."""
        xp, row, (first, second, third) = self.xp, self.row, self._parts
        row["alignment"][...] = row["curvature"]
        xp.multiply(row["update_norm"], row["grad_norm"], out=first)
        xp.sqrt(third, out=row["update_norm"])
        xp.multiply(row["update_norm"], row["turn_length"], out=second)
        xp.divide(row["update_norm"], row["learning_rate"], out=row["update_norm"])
        xp.at_least(row["update_norm"], self.tiny, out=row["turn2"])  # which nobody needs any more
        xp.log10(row["turn2"], out=row["log_update_norm"])
        self._follow()

    def _sum(self, terms: list[Array], out: Array) -> None:
        """A chain of additions: `row_dot` explains why."""
        if len(terms) == 1:
            out[...] = terms[0]
            return
        self.xp.add(terms[0], terms[1], out=out)
        for term in terms[2:]:
            self.xp.add(out, term, out=out)

    def _follow(self) -> None:
        """What follows from the numbers written by the four."""
        xp, row = self.xp, self.row
        xp.at_least(self._parts, self.tiny, out=self._parts)
        xp.divide(self._ratios, self._parts, out=self._ratios)
        self._decreases[...] = self._logs  # of the loss and gradient norm before
        xp.at_least(self._logged, self.tiny, out=self._two)
        xp.log10(self._two, out=self._logs)
        xp.subtract(self._decreases, self._logs, out=self._decreases)
        xp.multiply(row["last_grad_decrease"], 0.5, out=row["last_grad_decrease"])
        xp.add(self._counts, 1, out=self._counts)
        # comparisons with a NaN are false
        xp.less_equal(row["loss"], row["limit"], out=self._sane)
        xp.less(row["grad_norm2"], self.huge, out=self._finite)
        xp.logical_and(self._sane, self._finite, out=self._sane)
        self.sane = bool(xp.count_nonzero(self._sane) == len(self._sane))  # a third of the time of `all` on a few
        if not self.sane:
            self.some_diverged = True
            xp.logical_not(self._sane, out=self._sane)
            xp.logical_or(self.diverged, self._sane, out=self.diverged)

    def refresh(self, rows: Tensor | None = None) -> None:
        """Make what is kept beside `Progress` agree with it, after the numbers of ``rows`` ``(R,)`` (None: all) changed."""
        self.some_diverged = bool(self.diverged.any())
        if rows is None:
            self.derive(self.floats)
            return
        index = self.xp.view(rows)
        part = self.floats[:, index]  # a copy
        self.derive(part)
        self.floats[:, index] = part

    def derive(self, floats: Array) -> None:
        """The same within ``floats`` ``(len(FLOATS), R)``, whoever's they are."""
        xp = self.xp
        two = xp.copied(floats[:2])
        xp.at_least(two, self.tiny, out=two)
        xp.log10(two, out=floats[AT["log_loss"] : AT["log_grad_norm2"] + 1])
        xp.sqrt(floats[AT["grad_norm2"]], out=floats[AT["grad_norm"]])
        xp.multiply(floats[AT["initial_loss"]], DIVERGED_ABOVE, out=floats[AT["limit"]])
        xp.at_most(floats[AT["limit"]], self.huge, out=floats[AT["limit"]])


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
