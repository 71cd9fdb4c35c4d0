"""Elementwise work on preallocated memory, through NumPy where the tensors lie on the CPU.

A call of a NumPy function on a few numbers takes a third of a torch call's time, and comparisons of thousands a fifth. A
gradient step of a small problem is some sixty such calls and nothing else, so that this is what bounds its speed. Code
written once against a backend, `NUMPY` or `TORCH`, works in place on NumPy views of CPU tensors, and on tensors elsewhere.

A backend has every function that the two libraries offer under one name with one order of arguments (``add``, ``divide``,
``sqrt``, ``where``, ``concatenate``, ..., most with ``out=``), and those of `Arrays`, in which the libraries differ or a row
would depend on its neighbours. Methods that arrays and tensors share (``sum``, ``all``, ``max``, ``out[...] = source``) are
called on them.

Logarithms, exponentials, sums and products of matrices may differ in their last bit between the two: a number of a run must
come from one of them, always.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from teleport_env.native import KERNELS

Array: TypeAlias = Any
"""A NumPy array, or a tensor; whatever `Arrays.view` gives."""

TINY: dict[Any, float] = {
    precision: torch.finfo(dtype).tiny
    for dtype, like in ((torch.float64, np.float64), (torch.float32, np.float32))
    for precision in (dtype, np.dtype(like))
}
"""The smallest normal number of a precision, of tensors or of NumPy."""


_NUMPY_TYPES = {torch.float64: np.float64, torch.float32: np.float32, torch.int64: np.int64, torch.bool: np.bool_}

_FEW = 1 << 18  # multiplications up to which a product is quicker in NumPy, whose library does not use threads below
_BUFFER = 1 << 12  # numbers of a run up to which einsum's buffer, 8192 of all runs, does not cut a run's sum
_POWERS = torch.tensor([2.0**-j for j in range(64)], dtype=torch.float64, device="cpu")  # exact, which pow need not be


class Arrays:
    """A backend, this one through NumPy; what runs have in common is the first axis.

    Attributes:
        library: NumPy or torch, which has every function that is not named here.
        view: The memory of a tensor as an array.
        tensor: The memory of an array as a tensor.
        copied: A copy of an array.
        at_least: ``(values, bound, out=None)``: the larger of the two; ``bound`` may be a number, and a NaN stays one.
        at_most: Function that writes the smaller of the two, likewise.
        sign: -1, 0 or 1; a NaN stays one.
        take: ``(table, indices, out=)``: ``table[indices]``, indices clamped to the table.
        quiet: A context in which numbers that are not finite are no cause for warnings.
    """

    library: Any = np
    view: Callable[[Tensor], Array] = staticmethod(Tensor.numpy)
    tensor: Callable[[Array], Tensor] = staticmethod(torch.from_numpy)
    copied: Callable[[Array], Array] = staticmethod(np.ndarray.copy)
    at_least: Callable[..., Array] = staticmethod(np.maximum)
    at_most: Callable[..., Array] = staticmethod(np.minimum)
    take: Callable[..., Any] = staticmethod(partial(np.take, mode="clip"))  # other modes copy through a buffer
    quiet: Callable[[], AbstractContextManager[object]] = staticmethod(partial(np.errstate, all="ignore"))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.library, name)
        setattr(self, name, found)  # looked up once
        return found

    def empty(self, like: Array, *shape: int, dtype: torch.dtype) -> Array:
        """Memory of its own beside ``like``."""
        return np.empty(shape, _NUMPY_TYPES[dtype])

    def full(self, like: Array, *shape: int, value: float) -> Array:
        """An array of one number, in the precision of ``like`` and beside it."""
        return np.full(shape, value, like.dtype)

    def beside(self, like: Array, array: np.ndarray) -> Array:
        """A NumPy array as one of these, on the device of ``like``."""
        return array

    def picked(self, array: Array, at: Array) -> Array:
        """``(..., R)`` of the entries ``at`` ``(R,)`` of the last axis, in memory of its own, row by row."""
        if KERNELS is None or array.ndim != 2 or array.dtype.char not in "dl":
            return array.take(at, -1)  # which copies all of an array that is not in one piece
        found = np.empty((len(array), len(at)), array.dtype)
        KERNELS.adopt(found, np.arange(len(at)), array, at, False, None)
        return found

    # The loops of einsum and of matmul take the matrices one by one.

    def row_squares(self, matrices: Array) -> Array:
        """``(R, k)``, the sums of squares of the rows of ``(R, k, m)``."""
        return np.einsum("rij,rij->ri", matrices, matrices)

    def column_squares(self, matrices: Array) -> Array:
        """``(R, m)``, the sums of squares of the columns of ``(R, k, m)``."""
        return np.einsum("rij,rij->rj", matrices, matrices)

    def product(self, left: Array, right: Array) -> Array:
        """``(R, k, m)`` times ``(R, m, n)``."""
        if left.shape[1] * left.shape[2] * right.shape[2] <= _FEW:
            return np.matmul(left, right)
        return torch.bmm(torch.from_numpy(left), torch.from_numpy(right)).numpy()

    def plus_product(self, matrix: Array, left: Array, right: Array, by: float = 1.0) -> Array:
        """``matrix + by left right``."""
        found = self.product(left, right)
        if by == -1.0:
            return np.subtract(matrix, found, found)
        if by != 1.0:
            np.multiply(found, by, found)
        return np.add(matrix, found, found)

    def negative_powers(self, exponents: Array) -> Array:
        """``2^-j``, exactly, for ``j`` from 0 to 63; float64."""
        return np.ldexp(1.0, -exponents)

    def like(self, values: Array, other: Array) -> Array:
        """In the precision of ``other``."""
        return values.astype(other.dtype, copy=False)

    def doubles(self, values: Array) -> Array:
        """In float64."""
        return values.astype(np.float64)

    def inner(self, one: Array, other: Array) -> Array:
        """``(R,)``, the sums of the products of the entries of ``(R, k, m)``."""
        if one.shape[1] * one.shape[2] > _BUFFER:
            flat = len(one), 1, one.shape[1] * one.shape[2]
            return np.matmul(one.reshape(flat), other.reshape(flat).transpose(0, 2, 1))[:, 0, 0]
        return np.einsum("rij,rij->r", one, other)

    def times(self, matrices: Array, vectors: Array, out: Array) -> None:
        """``(R, k, m)`` times ``(R, m)``."""
        np.matmul(matrices, vectors[:, :, None], out[:, :, None])

    def transposed_times(self, matrices: Array, vectors: Array, out: Array) -> None:
        """``(R, k, m)`` transposed times ``(R, k)``."""
        np.matmul(vectors[:, None, :], matrices, out[:, None, :])


class _Torch(Arrays):
    """The same through torch."""

    library = torch

    @staticmethod
    def view(tensor: Tensor) -> Array:
        return tensor

    tensor = view
    copied = staticmethod(Tensor.clone)

    @staticmethod
    def at_least(values: Array, bound: Any, out: Array = None) -> Array:
        return (torch.maximum if isinstance(bound, Tensor) else torch.clamp_min)(values, bound, out=out)

    @staticmethod
    def at_most(values: Array, bound: Any, out: Array = None) -> Array:
        return (torch.minimum if isinstance(bound, Tensor) else torch.clamp_max)(values, bound, out=out)

    quiet = staticmethod(nullcontext)

    @staticmethod
    def take(table: Array, indices: Array, out: Array) -> None:
        torch.index_select(table, 0, indices.clamp(0, len(table) - 1), out=out)

    @staticmethod
    def sign(values: Array) -> Array:
        return torch.where(torch.isnan(values), values, torch.sign(values))  # which makes a zero of NaN

    def empty(self, like: Array, *shape: int, dtype: torch.dtype) -> Array:
        return torch.empty(shape, dtype=dtype, device=like.device)

    def full(self, like: Array, *shape: int, value: float) -> Array:
        return torch.full(shape, value, dtype=like.dtype, device=like.device)

    def beside(self, like: Array, array: np.ndarray) -> Array:
        return torch.from_numpy(array).to(like.device)

    def picked(self, array: Array, at: Array) -> Array:
        return array[..., at]

    def row_squares(self, matrices: Array) -> Array:
        return matrices.square().sum(2)

    def column_squares(self, matrices: Array) -> Array:
        return matrices.square().sum(1)

    # Products with a vector take another path where there is one run.

    def product(self, left: Array, right: Array) -> Array:
        if left.shape[2] == 1:
            return left * right
        if right.shape[2] == 1:
            return (left * right.mT).sum(2, keepdim=True)
        return torch.bmm(left, right)

    def plus_product(self, matrix: Array, left: Array, right: Array, by: float = 1.0) -> Array:
        if left.shape[2] == 1 or right.shape[2] == 1:
            return torch.add(matrix, self.product(left, right), alpha=by)
        return torch.baddbmm(matrix, left, right, alpha=by)

    def negative_powers(self, exponents: Array) -> Array:
        return _POWERS.to(exponents.device)[exponents.to(torch.int64)]

    def like(self, values: Array, other: Array) -> Array:
        return values.to(other.dtype)

    def doubles(self, values: Array) -> Array:
        return values.to(torch.float64)

    def inner(self, one: Array, other: Array) -> Array:
        return (one * other).flatten(1).sum(1)

    # A product with two equal columns: one with a vector takes another path where there is one run.

    def times(self, matrices: Array, vectors: Array, out: Array) -> None:
        out.copy_(torch.bmm(matrices, torch.stack([vectors, vectors], dim=2))[:, :, 0])

    def transposed_times(self, matrices: Array, vectors: Array, out: Array) -> None:
        out.copy_(torch.bmm(torch.stack([vectors, vectors], dim=1), matrices)[:, 0])


NUMPY = Arrays()
TORCH: Arrays = _Torch()


CHAIN = 8  # up to so many numbers a sum is quicker as a chain of additions
_BLOCK = 4096  # longer rows are summed in blocks of so many


def row_dots(xp: Arrays, a: Array, b: Array) -> Array:
    """``(...)``, the inner products of the rows of ``(..., P)``; the same bits whatever their number, layout and threads.

    A library's sum orders its additions by the memory layout, and torch's shares one long row out among the threads.
    """
    products = a * b
    count = products.shape[-1]
    if count <= CHAIN:
        total = products[..., 0]
        for column in range(1, count):
            total = total + products[..., column]
        return total
    rows = xp.tensor(products).contiguous()
    if count < 2 * _BLOCK:
        return xp.view(rows.sum(-1))
    whole = count - count % _BLOCK
    blocks = rows[..., :whole].reshape(*rows.shape[:-1], -1, _BLOCK).sum(-1).sum(-1)
    return xp.view(blocks + rows[..., whole:].sum(-1))


def library(array: Array) -> Any:
    """The library of an array or tensor, for functions that take both; without `Arrays`' functions in place."""
    return torch if isinstance(array, Tensor) else np


def arrays_of(device: torch.device) -> Arrays:
    """What to work with on a device."""
    return NUMPY if device.type == "cpu" else TORCH
