"""``B`` instances of a problem, side by side in tensors.

What differs between runs (the start, a curvature, data, targets, the order of mini-batches) is an `Instance`, a record of
tensors with leading axis ``B``: ``B`` runs are ``B`` rows, and a row's numbers never depend on its neighbours. Symmetries
act on parameters *for* an instance and problems draw them, so that the record belongs to neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays

Batch: TypeAlias = "Tensor | None"
"""The examples of the current mini-batch, ``(B, n)`` int64 indices into the problem's training set; None: all of them."""


@dataclass(frozen=True)
class Instance:
    """``B`` instances of a problem.

    Attributes:
        start: ``(B, P)``, where the runs begin.
        tensors: Named tensors with leading axis ``B``.
        shared: Data that all rows have in common, such as a data set; never indexed by row. Tensors in it are moved
            between devices and precisions with the rest.
        ids: ``(B,)`` int64; which instance of its split a row is.
    """

    start: Tensor
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        if self.start.ndim != 2:
            raise ValueError(f"start must have shape (B, P), got {tuple(self.start.shape)}")
        for name, tensor in self.tensors.items():
            if tensor.shape[:1] != self.start.shape[:1]:
                raise ValueError(
                    f"tensor {name!r} of the instance has shape {tuple(tensor.shape)}; its leading axis must be "
                    f"B = {self.start.shape[0]}. What all rows share belongs into `shared`"
                )

    def __len__(self) -> int:
        return self.start.shape[0]

    def __getitem__(self, name: str) -> Any:
        """A tensor of the rows, or else a shared object, by name."""
        if name in self.tensors:
            return self.tensors[name]
        return self.shared[name]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Instance:
        """The same with every tensor of the rows changed."""
        tensors = {name: change(tensor) for name, tensor in self.tensors.items()}
        return Instance(change(self.start), tensors, self.shared, None if self.ids is None else change(self.ids))

    def select(self, rows: Tensor) -> Instance:
        """Some rows; ``rows``: an index ``(R,)`` or mask ``(B,)``."""
        if self.start.device.type == "cpu":
            at = rows.numpy()
            return self._each(lambda tensor: torch.from_numpy(_picked(tensor.numpy(), at)))
        return self._each(lambda tensor: tensor[rows])

    def part(self, rows: slice) -> Instance:
        """Rows that follow each other, as views."""
        return self._each(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> Instance:
        """Every row ``times`` times in a row: row ``i`` becomes rows ``i * times, ..., (i + 1) * times - 1``."""
        if self.start.device.type == "cpu":
            return self._each(lambda tensor: torch.from_numpy(_repeated(tensor.numpy(), times)))
        return self._each(lambda tensor: tensor.repeat_interleave(times, 0))

    def seen_by(self, xp: Arrays) -> Mapping[str, Any]:
        """What ``instance[name]`` is, with the tensors of the rows as arrays of `teleport_env.arrays`."""
        return {**self.shared, **{name: xp.view(tensor) for name, tensor in self.tensors.items()}}

    def clone(self) -> Instance:
        """A copy that shares no tensor with this one."""
        return self._each(Tensor.clone)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Instance:
        """Floating-point tensors in ``dtype``, everything on ``device``."""

        def move(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return replace(self._each(move), shared={name: move(value) for name, value in self.shared.items()})


def _picked(array: Array, rows: Array) -> Array:
    """``array[rows]``; runs that lie side by side in memory still do."""
    if array.ndim > 1 and array.strides[0] == array.itemsize:
        return array.T[..., rows].T
    return array[rows]


def _repeated(array: Array, times: int) -> Array:
    """Every row ``times`` times in a row; runs that lie side by side in memory still do."""
    if array.strides[0] == array.itemsize:
        return np.repeat(array.T, times, axis=-1).T
    return np.repeat(array, times, axis=0)
