"""What every run knows of itself, and what a gradient step makes of it.

`Progress` is the runs' own numbers, from which features and rules are computed. They lie in one block of memory a kind, a
row a number, so that a step works on several numbers at once (`Bookkeeper`) and runs can be set aside together (`Aside`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.optimizers import row_dot

DIVERGED_ABOVE = 1e2
"""A run whose loss exceeds its initial loss by this factor has diverged: the two orders of magnitude lost that a diverged
run counts as, so that no run does worse than a diverged one and blowing up is never the better way out."""

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
    def empty(cls, count: int, dtype: torch.dtype, device: torch.device | str) -> Progress:
        """Zeros for ``count`` runs."""
        return cls.of(Blocks.empty(count, dtype, device))

    @classmethod
    def of(cls, blocks: Blocks) -> Progress:
        """The numbers that lie in ``blocks``."""
        rows: dict[str, Tensor] = {name: blocks.floats[i] for i, name in enumerate(FLOATS)}
        rows |= {name: blocks.integers[i] for i, name in enumerate(INTEGERS)}
        rows["diverged"] = blocks.diverged
        return cls(**{f.name: rows[f.name] for f in fields(cls)})


# Where a number lies. A step works on neighbours at once: `Bookkeeper.book` says which. Names that are no field of Progress
# are what the bookkeeper keeps for itself.
FLOATS = (
    *("loss", "update_norm", "grad_norm2", "turn2"),
    *("last_decrease", "last_grad_decrease", "cosine", "alignment", "curvature"),
    *("log_loss", "log_update_norm", "log_grad_norm2"),
    *("update_length", "grad_norm", "turn_length"),
    # what a step leaves alone
    *("learning_rate", "base_rate", "initial_loss", "initial_grad_norm2", "teleport_gain", "loss_change", "limit"),
)
INTEGERS = ("steps", "since_teleport", "updates", "teleports", "attempts", "status")
AT = {name: row for row, name in enumerate(FLOATS)} | {name: row for row, name in enumerate(INTEGERS)}
"""The row of a number in the block of its kind."""

_STEPPED = AT["learning_rate"]  # floats that a step changes come before this one
_COUNTED = AT["teleports"]  # and integers before this one


@dataclass
class Blocks:
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

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.floats, self.integers, self.diverged

    def clone(self) -> Blocks:
        return Blocks(*(tensor.clone() for tensor in self.tensors()))

    def copy_from(self, other: Blocks) -> None:
        """Overwrite this memory; everybody's views of it stay good."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)

    def select(self, rows: Tensor) -> Blocks:
        """Some runs, in memory of their own."""
        return Blocks(*(tensor[..., rows] for tensor in self.tensors()))

    def put(self, rows: Tensor, part: Blocks) -> None:
        """Write back what `select` gave."""
        for mine, theirs in zip(self.tensors(), part.tensors(), strict=True):
            mine[..., rows] = theirs


class Columns:
    """Parameters and gradients of small problems, ``(P, B)`` each, column by column of ``(B, P)``.

    Attributes:
        params: The parameters.
        work: ``(4, P, B)``: gradient, minus the last update, new gradient, minus the change of the gradient.
    """

    def __init__(self, blocks: Blocks, size: int) -> None:
        count, floats = blocks.floats.shape[1], blocks.floats
        self.params = torch.zeros(size, count, dtype=floats.dtype, device=floats.device)
        self.work = torch.zeros(4, size, count, dtype=floats.dtype, device=floats.device)

    @property
    def gradient(self) -> Tensor:
        return self.work[0]


class Bookkeeper:
    """Keeps `Progress` up to date, in place.

    Args:
        blocks: The numbers' memory.
        columns: The runs' parameters and gradients where these are small, else None.

    Attributes:
        x: What it works with.
        floats: The numbers, as ``x`` sees them; `row` has them by name.
        integers: Likewise.
        diverged: Likewise.
        sane: Whether no run diverged at the last step.
    """

    def __init__(self, blocks: Blocks, columns: Columns | None = None) -> None:
        self.blocks = blocks
        self.x = x = arrays_of(blocks.floats.device)
        dtype, count = blocks.floats.dtype, blocks.floats.shape[1]
        self.tiny = 1e-300 if dtype == torch.float64 else 1e-38
        floats, integers = x.view(blocks.floats), x.view(blocks.integers)
        self.floats, self.integers, self.diverged = floats, integers, x.view(blocks.diverged)

        def rows(first: str, last: str, step: int = 1) -> Array:
            return floats[AT[first] : AT[last] + 1 : step]

        self.row = {name: floats[i] for i, name in enumerate(FLOATS)}
        self._counts = integers[:_COUNTED]
        self._squares, self._lengths = rows("update_norm", "turn2"), rows("update_length", "turn_length")
        self._products, self._ratios = rows("cosine", "alignment"), rows("cosine", "curvature")
        self._logged, self._logs = rows("loss", "grad_norm2"), rows("log_loss", "log_grad_norm2")
        self._two_logs, self._decreases = (
            rows("log_loss", "log_grad_norm2", 2),
            rows("last_decrease", "last_grad_decrease"),
        )
        self.sane = True
        self._three = x.empty(floats, 3, count, dtype=dtype)
        self._sane = x.empty(floats, count, dtype=torch.bool)
        self._finite = x.empty(floats, count, dtype=torch.bool)
        if columns is not None:
            self.work = x.view(columns.work)
            self.params = x.view(columns.params)
            size = columns.params.shape[0]
            gradient, _, new_gradient, turned = self.work
            self._gradients = gradient, new_gradient, turned
            self._moves, self._left, self._right = self.work[1:], self.work[:2], self.work[2:]
            self.scratch = x.empty(floats, 3, size, count, dtype=dtype)
            self._chains = [self.scratch[:, k] for k in range(size)], [self.scratch[:2, k] for k in range(size)]

    def book_columns(self) -> None:
        """After a step: loss, parameters and the first three parts of `Columns.work` are new; make the rest so."""
        x = self.x
        gradient, new_gradient, turned = self._gradients
        x.subtract(gradient, new_gradient, turned)
        x.multiply(self._moves, self._moves, self.scratch)
        self._sum(self._chains[0], self._squares)
        x.multiply(self._left, self._right, self.scratch[:2])
        self._sum(self._chains[1], self._products)
        x.copy(new_gradient, gradient)
        self._book()

    def _sum(self, terms: list[Array], out: Array) -> None:
        """A chain of additions: `row_dot` explains why."""
        if len(terms) == 1:
            self.x.copy(terms[0], out)
            return
        self.x.add(terms[0], terms[1], out)
        for term in terms[2:]:
            self.x.add(out, term, out)

    def book_rows(self, before: Tensor, after: Tensor, gradient: Tensor, new_gradient: Tensor, loss: Tensor) -> None:
        """After a step of runs with many parameters, ``(B, P)`` each: make their numbers those of the new point."""
        moved, turned = before - after, gradient - new_gradient
        view, x = self.x.view, self.x
        x.copy(view(loss), self.row["loss"])
        for vectors, out in ((moved, "update_norm"), (new_gradient, "grad_norm2"), (turned, "turn2")):
            x.copy(view(row_dot(vectors, vectors)), self.row[out])
        x.copy(view(row_dot(gradient, new_gradient)), self.row["cosine"])
        x.copy(view(row_dot(moved, turned)), self.row["alignment"])
        self._book()

    def _book(self) -> None:
        """From the squared lengths of the last update (in the row of its norm), of the new gradient and of the gradient's
        change, and from the products (in the rows of the cosines), all numbers that follow."""
        x, row, three, tiny = self.x, self.row, self._three, self.tiny
        x.copy(self._two_logs, self._decreases)  # of the loss and gradient norm before
        x.copy(row["grad_norm"], three[0])
        x.sqrt(self._squares, self._lengths)
        x.multiply(three[0], row["grad_norm"], three[0])
        x.multiply(row["update_length"], row["turn_length"], three[1])
        x.copy(row["update_norm"], three[2])
        x.copy(row["alignment"], row["curvature"])
        x.maximum(three, tiny, three)
        x.divide(self._ratios, three, self._ratios)
        x.divide(row["update_length"], row["learning_rate"], row["update_norm"])
        x.maximum(self._logged, tiny, three)
        x.log10(three, self._logs)
        x.subtract(self._decreases, self._two_logs, self._decreases)
        x.multiply(row["last_grad_decrease"], 0.5, row["last_grad_decrease"])
        x.add(self._counts, 1, self._counts)
        # comparisons with a NaN are false
        x.less_equal(row["loss"], row["limit"], self._sane)
        x.less(row["grad_norm2"], torch.inf, self._finite)
        x.both(self._sane, self._finite, self._sane)
        self.sane = x.all(self._sane)
        if not self.sane:
            x.opposite(self._sane, self._sane)
            x.either(self.diverged, self._sane, self.diverged)

    def refresh(self) -> None:
        """Make what is kept beside `Progress` agree with it, after its numbers were changed from outside."""
        x, row = self.x, self.row
        x.maximum(self._logged, self.tiny, self._three)
        x.log10(self._three, self._logs)
        x.sqrt(row["grad_norm2"], row["grad_norm"])
        x.multiply(row["initial_loss"], DIVERGED_ABOVE, row["limit"])


class Aside:
    """Some runs, set aside while the others step: the step works on all of them, and these are put back.

    Args:
        blocks: The runs' numbers.
        columns: Their parameters and gradients where these are small.
        rows: ``(R,)``: whom to set aside.
        beside: More memory whose last axis is ``B``.
    """

    def __init__(self, blocks: Blocks, columns: Columns | None, rows: Tensor, beside: Sequence[Tensor] = ()) -> None:
        self._rows = rows
        self._memory: Sequence[Tensor] = (
            blocks.floats[: _STEPPED + 1],  # the learning rate too
            blocks.integers[:_COUNTED],
            blocks.diverged,
            *(() if columns is None else (columns.params, columns.work[0])),
            *beside,
        )
        self._kept = [memory[..., rows] for memory in self._memory]

    def put_back(self) -> None:
        """The runs as they were."""
        for memory, kept in zip(self._memory, self._kept, strict=True):
            memory[..., self._rows] = kept
