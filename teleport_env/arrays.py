"""Elementwise work on preallocated memory, through NumPy where the tensors lie on the CPU.

A call of a NumPy function on a few numbers takes a third of a torch call's time, and comparisons of thousands a fifth. A
gradient step of a small problem is some sixty such calls and nothing else, so that this is what bounds its speed. `NUMPY`
and `TORCH` offer the same functions under the same names: code written once against them works in place on NumPy views of
CPU tensors, and on tensors elsewhere.

All take their result's memory as the last argument. Logarithms are the one function here whose last bit the two may
disagree on: a number of a run must come from one of them, always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = Any
"""A NumPy array, or a tensor; whatever `Arrays.view` gives."""


class Arrays:
    """The functions; each ``f(operands..., out)`` but for the last group, which answers.

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


_NUMPY_TYPES = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}


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
        return bool(mask.all())

    def any(self, mask: Array) -> bool:
        return bool(mask.any())

    def largest(self, values: Array) -> float:
        return float(values.max())

    def smallest(self, values: Array) -> float:
        return float(values.min())


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


NUMPY: Arrays = _NumPy()
TORCH: Arrays = _Torch()


def arrays_of(device: torch.device) -> Arrays:
    """What to work with on a device."""
    return NUMPY if device.type == "cpu" else TORCH
