"""Elementwise work on preallocated memory, through NumPy where the tensors lie on the CPU.

A call of a NumPy function on a few numbers takes a third of a torch call's time, and comparisons of thousands a fifth. A
gradient step of a small problem is some sixty such calls and nothing else, so that this is what bounds its speed. `NUMPY`
and `TORCH` offer the same functions under the same names: code written once against them works in place on NumPy views of
CPU tensors, and on tensors elsewhere.

The first ones take their result's memory as the last argument. Logarithms, exponentials, sums and products of matrices may
differ in their last bit between the two: a number of a run must come from one of them, always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = Any
"""A NumPy array, or a tensor; whatever `Arrays.view` gives."""

TINY: dict[Any, float] = {
    precision: torch.finfo(dtype).tiny
    for dtype, like in ((torch.float64, np.float64), (torch.float32, np.float32))
    for precision in (dtype, np.dtype(like))
}
"""The smallest normal number of a precision, of tensors or of NumPy."""


class Arrays:
    """The functions; each ``f(operands..., out)`` but for the last groups, which answer.

    The first operand is an array, the second may be a number. Operands of float64 may be written to float32.
    """

    add: Callable[[Array, Any, Array], Any]
    subtract: Callable[[Array, Any, Array], Any]
    multiply: Callable[[Array, Any, Array], Any]
    divide: Callable[[Array, Any, Array], Any]
    maximum: Callable[[Array, Any, Array], Any]
    minimum: Callable[[Array, Any, Array], Any]
    sqrt: Callable[[Array, Array], Any]
    log10: Callable[[Array, Array], Any]
    less: Callable[[Array, Any, Array], Any]
    less_equal: Callable[[Array, Any, Array], Any]
    both: Callable[[Array, Array, Array], Any]
    either: Callable[[Array, Array, Array], Any]
    opposite: Callable[[Array, Array], Any]

    def copy(self, source: Array, out: Array) -> None:
        """``source`` into ``out``."""
        raise NotImplementedError

    def take(self, table: Array, indices: Array, out: Array) -> None:
        """``table[indices]``, indices clamped to the table."""
        raise NotImplementedError

    def view(self, tensor: Tensor) -> Array:
        """The same memory."""
        raise NotImplementedError

    def tensor(self, array: Array) -> Tensor:
        """The same memory."""
        raise NotImplementedError

    def empty(self, like: Array, *shape: int, dtype: torch.dtype) -> Array:
        """Memory of its own beside ``like``."""
        raise NotImplementedError

    def copied(self, array: Array) -> Array:
        """A copy."""
        raise NotImplementedError

    def all(self, mask: Array) -> bool:
        """Whether all of a bool array are true."""
        raise NotImplementedError

    def any(self, mask: Array) -> bool:
        """Whether any of a bool array is true."""
        raise NotImplementedError

    def largest(self, values: Array) -> float:
        """The largest number; a NaN if there is one."""
        raise NotImplementedError

    def smallest(self, values: Array) -> float:
        """The smallest number; a NaN if there is one."""
        raise NotImplementedError

    # -- functions that answer in memory of their own; what runs have in common is the first axis --------------------------

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    where: Callable[[Array, Any, Any], Array]

    def quiet(self) -> AbstractContextManager[object]:
        """In which numbers that are not finite are no cause for warnings."""
        raise NotImplementedError

    def sign(self, values: Array) -> Array:
        """-1, 0 or 1; a NaN stays one."""
        raise NotImplementedError

    def at_least(self, values: Array, bound: Any) -> Array:
        """The larger of the two; a NaN stays one."""
        raise NotImplementedError

    def at_most(self, values: Array, bound: Any) -> Array:
        """The smaller of the two; a NaN stays one."""
        raise NotImplementedError

    def full(self, like: Array, *shape: int, value: float) -> Array:
        """An array of one number, in the precision of ``like`` and beside it."""
        raise NotImplementedError

    def joined(self, parts: Sequence[Array]) -> Array:
        """``(R, K)`` of several ``(R, k)``."""
        raise NotImplementedError

    def sums(self, values: Array) -> Array:
        """``(R,)`` of ``(R, k)``."""
        raise NotImplementedError

    def sizes(self, values: Array) -> Array:
        """``(R,)``, the largest absolute value of each row of ``(R, k)``."""
        raise NotImplementedError

    def row_squares(self, matrices: Array) -> Array:
        """``(R, k)``, the sums of squares of the rows of ``(R, k, m)``."""
        raise NotImplementedError

    def column_squares(self, matrices: Array) -> Array:
        """``(R, m)``, the sums of squares of the columns of ``(R, k, m)``."""
        raise NotImplementedError

    def beside(self, parts: Sequence[Array]) -> Array:
        """``(R, k, m)`` of several with the same ``k``."""
        raise NotImplementedError

    def stacked(self, parts: Sequence[Array]) -> Array:
        """One after the other along the first axis."""
        raise NotImplementedError

    def product(self, left: Array, right: Array) -> Array:
        """``(R, k, m)`` times ``(R, m, n)``: each run's bits do not depend on the others."""
        raise NotImplementedError

    def plus_product(self, matrix: Array, left: Array, right: Array, by: float = 1.0) -> Array:
        """``matrix + by left right``: each run's bits do not depend on the others."""
        raise NotImplementedError

    def diagonals(self, matrices: Array) -> Array:
        """``(R, k)`` of ``(R, k, k)``."""
        raise NotImplementedError

    def exponents(self, values: Array) -> Array:
        """The least ``j`` with ``values < 2^j``, integers; of finite values."""
        raise NotImplementedError

    def negative_powers(self, exponents: Array) -> Array:
        """``2^-j``, exactly, for ``j`` from 0 to 63; float64."""
        raise NotImplementedError

    def like(self, values: Array, other: Array) -> Array:
        """In the precision of ``other``."""
        raise NotImplementedError

    def inner(self, one: Array, other: Array) -> Array:
        """``(R,)``, the sums of the products of the entries of ``(R, k, m)``."""
        raise NotImplementedError

    def times(self, matrices: Array, vectors: Array, out: Array) -> None:
        """``(R, k, m)`` times ``(R, m)``: each run's bits do not depend on the others."""
        raise NotImplementedError

    def transposed_times(self, matrices: Array, vectors: Array, out: Array) -> None:
        """``(R, k, m)`` transposed times ``(R, k)``: each run's bits do not depend on the others."""
        raise NotImplementedError


_NUMPY_TYPES = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}


_FEW = 1 << 18  # multiplications up to which a product is quicker in NumPy, whose library does not use threads below
_BUFFER = 1 << 12  # numbers of a run up to which einsum's buffer, 8192 of all runs, does not cut a run's sum
_POWERS = torch.tensor([2.0**-j for j in range(64)], dtype=torch.float64)  # exact, which pow need not be


def _ending(function: Any) -> Callable[..., Any]:
    """``function`` with its result's memory as the last argument."""

    def call(*arguments: Any) -> Any:
        return function(*arguments[:-1], out=arguments[-1])

    return call


class _NumPy(Arrays):
    def __init__(self) -> None:
        self.add, self.subtract, self.multiply, self.divide = np.add, np.subtract, np.multiply, np.divide
        self.sqrt, self.log10 = np.sqrt, np.log10
        # these two take their result's memory by name only
        self.maximum, self.minimum = _ending(np.maximum), _ending(np.minimum)
        self.exp, self.log, self.where = np.exp, np.log, np.where
        self.less, self.less_equal = np.less, np.less_equal
        self.both, self.either, self.opposite = np.logical_and, np.logical_or, np.logical_not

    def copy(self, source: Array, out: Array) -> None:
        out[...] = source

    def take(self, table: Array, indices: Array, out: Array) -> None:
        table.take(indices, out=out, mode="clip")  # other modes copy through a buffer

    def view(self, tensor: Tensor) -> Array:
        return tensor.numpy()

    def tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array)

    def empty(self, like: Array, *shape: int, dtype: torch.dtype) -> Array:
        return np.empty(shape, _NUMPY_TYPES[dtype])

    def copied(self, array: Array) -> Array:
        return array.copy()

    def all(self, mask: Array) -> bool:
        return bool(np.count_nonzero(mask) == mask.size)  # a sixth of the time of `all` on a few

    def any(self, mask: Array) -> bool:
        return bool(np.count_nonzero(mask))

    def largest(self, values: Array) -> float:
        return float(values.max())

    def smallest(self, values: Array) -> float:
        return float(values.min())

    def quiet(self) -> AbstractContextManager[object]:
        return np.errstate(all="ignore")

    def sign(self, values: Array) -> Array:
        return np.sign(values)

    def at_least(self, values: Array, bound: Any) -> Array:
        return np.maximum(values, bound)

    def at_most(self, values: Array, bound: Any) -> Array:
        return np.minimum(values, bound)

    def full(self, like: Array, *shape: int, value: float) -> Array:
        return np.full(shape, value, like.dtype)

    def joined(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts, 1)

    def sums(self, values: Array) -> Array:
        return np.add.reduce(values, 1)

    def sizes(self, values: Array) -> Array:
        return np.maximum.reduce(np.abs(values), 1)

    # The loops of einsum and of matmul take the matrices one by one.

    def row_squares(self, matrices: Array) -> Array:
        return np.einsum("rij,rij->ri", matrices, matrices)

    def column_squares(self, matrices: Array) -> Array:
        return np.einsum("rij,rij->rj", matrices, matrices)

    def beside(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts, 2)

    def stacked(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts, 0)

    def product(self, left: Array, right: Array) -> Array:
        if left.shape[1] * left.shape[2] * right.shape[2] <= _FEW:
            return np.matmul(left, right)
        return torch.bmm(torch.from_numpy(left), torch.from_numpy(right)).numpy()

    def plus_product(self, matrix: Array, left: Array, right: Array, by: float = 1.0) -> Array:
        found = self.product(left, right)
        if by == -1.0:
            return np.subtract(matrix, found, found)
        if by != 1.0:
            np.multiply(found, by, found)
        return np.add(matrix, found, found)

    def diagonals(self, matrices: Array) -> Array:
        return np.diagonal(matrices, axis1=1, axis2=2)

    def exponents(self, values: Array) -> Array:
        return np.frexp(values)[1]

    def negative_powers(self, exponents: Array) -> Array:
        return np.ldexp(1.0, -exponents)

    def like(self, values: Array, other: Array) -> Array:
        return values.astype(other.dtype, copy=False)

    def inner(self, one: Array, other: Array) -> Array:
        if one.shape[1] * one.shape[2] > _BUFFER:
            flat = len(one), 1, one.shape[1] * one.shape[2]
            return np.matmul(one.reshape(flat), other.reshape(flat).transpose(0, 2, 1))[:, 0, 0]
        return np.einsum("rij,rij->r", one, other)

    def times(self, matrices: Array, vectors: Array, out: Array) -> None:
        np.matmul(matrices, vectors[:, :, None], out[:, :, None])

    def transposed_times(self, matrices: Array, vectors: Array, out: Array) -> None:
        np.matmul(vectors[:, None, :], matrices, out[:, None, :])


def _extreme(of_two: Any, of_number: Any) -> Callable[[Array, Any, Array], Any]:
    def call(a: Tensor, b: Any, out: Tensor) -> Tensor:
        result: Tensor = (of_two if isinstance(b, Tensor) else of_number)(a, b, out=out)
        return result

    return call


class _Torch(Arrays):
    def __init__(self) -> None:
        self.add, self.subtract = _ending(torch.add), _ending(torch.sub)
        self.multiply, self.divide = _ending(torch.mul), _ending(torch.div)
        self.maximum = _extreme(torch.maximum, torch.clamp_min)
        self.minimum = _extreme(torch.minimum, torch.clamp_max)
        self.sqrt, self.log10 = _ending(torch.sqrt), _ending(torch.log10)
        self.less, self.less_equal = _ending(torch.lt), _ending(torch.le)
        self.both, self.either = _ending(torch.logical_and), _ending(torch.logical_or)
        self.opposite = _ending(torch.logical_not)
        self.exp, self.log, self.where = torch.exp, torch.log, torch.where

    def copy(self, source: Array, out: Array) -> None:
        out.copy_(source)

    def take(self, table: Array, indices: Array, out: Array) -> None:
        torch.index_select(table, 0, indices.clamp(0, len(table) - 1), out=out)

    def view(self, tensor: Tensor) -> Array:
        return tensor

    def tensor(self, array: Array) -> Tensor:
        return array

    def empty(self, like: Array, *shape: int, dtype: torch.dtype) -> Array:
        return torch.empty(shape, dtype=dtype, device=like.device)

    def copied(self, array: Array) -> Array:
        return array.clone()

    def all(self, mask: Array) -> bool:
        return bool(mask.all())

    def any(self, mask: Array) -> bool:
        return bool(mask.any())

    def largest(self, values: Array) -> float:
        return float(values.max())

    def smallest(self, values: Array) -> float:
        return float(values.min())

    def quiet(self) -> AbstractContextManager[object]:
        return nullcontext()

    def sign(self, values: Array) -> Array:
        return torch.where(torch.isnan(values), values, torch.sign(values))  # which makes a zero of NaN

    def at_least(self, values: Array, bound: Any) -> Array:
        return torch.maximum(values, bound) if isinstance(bound, Tensor) else values.clamp_min(bound)

    def at_most(self, values: Array, bound: Any) -> Array:
        return torch.minimum(values, bound) if isinstance(bound, Tensor) else values.clamp_max(bound)

    def full(self, like: Array, *shape: int, value: float) -> Array:
        return torch.full(shape, value, dtype=like.dtype, device=like.device)

    def joined(self, parts: Sequence[Array]) -> Array:
        return torch.cat(list(parts), dim=1)

    def sums(self, values: Array) -> Array:
        return values.sum(1)

    def sizes(self, values: Array) -> Array:
        return values.abs().amax(1)

    def row_squares(self, matrices: Array) -> Array:
        return matrices.square().sum(2)

    def column_squares(self, matrices: Array) -> Array:
        return matrices.square().sum(1)

    def beside(self, parts: Sequence[Array]) -> Array:
        return torch.cat(list(parts), dim=2)

    def stacked(self, parts: Sequence[Array]) -> Array:
        return torch.cat(list(parts))

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

    def diagonals(self, matrices: Array) -> Array:
        return torch.diagonal(matrices, dim1=1, dim2=2)

    def exponents(self, values: Array) -> Array:
        return torch.frexp(values).exponent

    def negative_powers(self, exponents: Array) -> Array:
        return _POWERS.to(exponents.device)[exponents.to(torch.int64)]

    def like(self, values: Array, other: Array) -> Array:
        return values.to(other.dtype)

    def inner(self, one: Array, other: Array) -> Array:
        return (one * other).flatten(1).sum(1)

    # A product with two equal columns: one with a vector takes another path where there is one run.

    def times(self, matrices: Array, vectors: Array, out: Array) -> None:
        out.copy_(torch.bmm(matrices, torch.stack([vectors, vectors], dim=2))[:, :, 0])

    def transposed_times(self, matrices: Array, vectors: Array, out: Array) -> None:
        out.copy_(torch.bmm(torch.stack([vectors, vectors], dim=1), matrices)[:, 0])


NUMPY: Arrays = _NumPy()
TORCH: Arrays = _Torch()


def arrays_of(device: torch.device) -> Arrays:
    """What to work with on a device."""
    return NUMPY if device.type == "cpu" else TORCH
