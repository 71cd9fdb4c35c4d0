"""How a check answers: a report, or a sentence that says what is wrong, where, and what to do.

Rows must not depend on each other. In float64 the built-in problems promise that bit for bit (a run alone and among
others are the same run); of what users bring only agreement up to rounding is demanded, and a difference in the last bits
is a note that names the operations behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

ROUNDING = 1e-9
"""Largest difference, relative to the largest number beside it, between a row alone and among others that is a note."""

ROUNDING_REMEDY = (
    "A run alone and among others then differ in the last bits. What does that: a matrix product in which the batch axis B "
    "is a dimension (`params @ W` with a shared W: write a 3-D torch.bmm, one matrix per row), a batched "
    "matrix-vector product (write it as an elementwise product and a sum), sigmoid (0.5 + 0.5 * tanh(x / 2)), atan2, hypot, "
    "x ** 1.5, matrix_exp, and a sum over a tensor whose memory layout depends on B (call .contiguous() first)"
)


SAFE_REMEDY = "Use inv_ex, solve_ex and cholesky_ex, which mark a bad row instead of raising, and let NaN through"

DTYPE_REMEDY = (
    "Make every tensor in the precision of the parameters (dtype=params.dtype), or from the instance's own tensors"
)


class CheckFailed(AssertionError):
    """Something does not do what its interface promises; the message says what, where, and what to do."""


@dataclass(frozen=True)
class Report:
    """What a check found in order.

    Attributes:
        subject: Name of the thing that was checked.
        passed: Laws that hold, one phrase each.
        notes: Remarks on things that are allowed but worth knowing, one sentence each.
    """

    subject: str
    passed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.subject}: {len(self.passed)} checks passed", *(f"  ok    {what}" for what in self.passed)]
        return "\n".join([*lines, *(f"  note  {note}" for note in self.notes)])


class Checks:
    """What was found out about one subject so far."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.passed: list[str] = []
        self.notes: list[str] = []

    def fail(self, wrong: str, remedy: str, cause: Exception | None = None) -> NoReturn:
        raise CheckFailed(f"{self.subject}: {wrong}. {remedy}.") from cause

    def require(self, holds: bool | Tensor, wrong: str, remedy: str) -> None:
        if not bool(holds):
            self.fail(wrong, remedy)

    @contextmanager
    def trying(self, what: str, remedy: str) -> Iterator[None]:
        """Whatever is raised within becomes a failure that names ``what``."""
        try:
            yield
        except CheckFailed:
            raise
        except Exception as error:
            self.fail(f"{what} raised {type(error).__name__}: {error}", remedy, error)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def laws(self, found: list[tuple[str, bool, str]], remedies: Mapping[str, str]) -> None:
        """Fail with the first broken law that has something to say, and name the others."""
        broken = [(name, reason) for name, ok, reason in found if not ok]
        if broken:
            name, reason = min(broken, key=lambda law: [*remedies, law[0]].index(law[0]))
            others = ", ".join(other for other, _ in broken if other != name)
            remedy = remedies.get(name, "See the law of that name")
            self.fail(f"the law {name} is broken: {reason}", remedy + (f". Also broken: {others}" if others else ""))
        self.passed += [name.replace("_", " ") for name, _, _ in found]

    def same_row(self, what: str, alone: Tensor, together: Tensor, row: int, count: int, remedy: str) -> None:
        """A row computed alone must be the same as among ``count``: bit for bit, or up to rounding with a note."""
        if alone.shape != together.shape or alone.dtype != together.dtype:
            self.fail(
                f"{what} gives row {row} {alone.dtype} {tuple(alone.shape)} alone, and {together.dtype} "
                f"{tuple(together.shape)} among {count}",
                remedy,
            )
        if identical(alone, together):
            return
        a, b = alone.to(torch.float64), together.to(torch.float64)
        size = float(torch.nan_to_num(torch.maximum(a.abs(), b.abs())).max())
        error = float((a - b).abs().max()) / max(size, 1e-300)
        if not error <= ROUNDING:  # NaN counts as different
            where = int((a - b).abs().flatten().nan_to_num(math.inf).argmax())
            numbers = f"{float(a.flatten()[where]):.6g} alone and {float(b.flatten()[where]):.6g} among {count}"
            self.fail(f"{what}: row {row} is {numbers} (entry {where})", remedy)
        self.note(f"{what} is not the same alone and among {count} (relative {error:.1g}). {ROUNDING_REMEDY}.")

    def returned(self, what: str, value: object, shape: Sequence[int], dtype: torch.dtype, remedy: str = "") -> None:
        """``value`` must be a tensor of that shape and precision without a graph."""
        remedy = remedy or f"Return {dtype} {tuple(shape)} without a graph, one entry of the first axis per run"
        if isinstance(value, Tensor):
            graph = " with a graph" if value.requires_grad else ""
            right = value.shape == tuple(shape) and value.dtype == dtype and not graph
            self.require(right, f"{what} is {value.dtype} {tuple(value.shape)}{graph}", remedy)
        else:
            self.fail(f"{what} is a {type(value).__name__}", remedy)

    def finite(self, what: str, value: Tensor, remedy: str) -> None:
        """Every number must be finite; the message names the first row ``(B, ...)`` in which one is not."""
        broken = ~torch.isfinite(value)
        if broken.any():
            row = int(broken.nonzero()[0, 0])
            self.fail(f"{what} is {float(value[broken][0])} in row {row}", remedy)

    def report(self) -> Report:
        return Report(self.subject, tuple(self.passed), tuple(self.notes))


def worst(got: Tensor, wanted: Tensor, least: float = 1e-300) -> tuple[Tensor, int]:
    """The relative errors ``(B,)`` of numbers, infinite for NaN, and the row of the largest."""
    off = ((got - wanted).abs() / wanted.abs().clamp_min(least)).nan_to_num(math.inf)
    return off, int(off.argmax())


def identical(a: Tensor, b: Tensor) -> bool:
    """Equal entry by entry; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())
