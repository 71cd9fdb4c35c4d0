"""Squared errors of low-rank models of real data: what `MatrixCompletion` and `TensorFactorization` share.

The model is linear in every factor while the others are held, so that the best value of one factor is a least-squares
problem. Alternating them is the field's own solver. It also says how low the loss can go: real data are not of low rank,
and the least squared error of the model, the **floor**, is not 0. The loss of these problems is the error above the floor.

A split has a few data sets of its own. An instance is one of them and a random start.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Problem
from teleport_env.problems.compiled import compiled
from teleport_env.random import Streams, fold_in, key_of

STARTS = 6
"""Starts that the floor of each data set is sought from."""

SWEEPS = 200
"""Sweeps over all factors at most, from each start."""

_SETTLED = 1e-13  # relative change of the error in a sweep
_FOUND: dict[Any, Mapping[str, Tensor]] = {}  # what equal problems need alike, sought once in a process


_KERNEL = compiled("factors", lambda problem, instance, batch: problem.factor_arguments(instance))
_PARTS = ("error", "error_and_gradient")


class FactorModel(Problem):
    """The mean squared error of a low-rank model above the least that is known.

    Instance tensors: those of the data set, and ``floor`` ``(B,)``, the least mean squared error found by alternating least
    squares from `STARTS` starts. A run that gets below it has converged; its loss is negative.

    A subclass says what the data sets are, where runs start, and how well a model fits.

    Args:
        settings: Values that distinguish a problem from others of its class, hashable.
    """

    sets: int
    """Number of data sets per split."""

    def __init__(self, *settings: Any) -> None:
        self._settings = settings

    @abstractmethod
    def data_sets(self, split: str) -> dict[str, Tensor]:
        """The data sets of a split, tensors with a leading axis of `sets`."""

    @abstractmethod
    def starts(self, generator: Streams) -> Tensor:
        """Random starts ``(B, P)``."""

    @abstractmethod
    def error(self, params: Tensor, instance: Instance) -> Tensor:
        """The mean squared error ``(B,)``, differentiable."""

    @abstractmethod
    def error_and_gradient(self, params: Tensor, instance: Instance) -> tuple[Tensor, Tensor]:
        """The same with its gradient ``(B, P)``, without a graph."""

    def factor_arguments(self, instance: Instance) -> tuple[Any, ...] | None:
        """What the kernel of such models needs; None where it would not compute what this problem's methods do."""
        return None

    def _has_parts_of(self, owner: type[Any]) -> bool:
        """Whether the errors are those of a class, and no part of them is replaced."""
        return all(getattr(type(self), part) is getattr(owner, part) and part not in vars(self) for part in _PARTS)

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self.error(params, instance) - instance["floor"]

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            error, gradient = self.error_and_gradient(params, instance)
            return error - instance["floor"], gradient

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        chosen = generator.integers(self.sets)
        tensors = {name: values.to(generator.device)[chosen] for name, values in self._known(split).items()}
        return Instance(self.starts(generator), tensors)

    def _known(self, split: str) -> Mapping[str, Tensor]:
        """The data sets of a split with their floors."""
        key = (type(self), self._settings, split)
        if key not in _FOUND:
            _FOUND[key] = self._with_floors(split)
        return _FOUND[key]

    @torch.inference_mode(False)
    def _with_floors(self, split: str) -> Mapping[str, Tensor]:
        data = self.data_sets(split)
        number = torch.arange(self.sets * STARTS, device="cpu")
        streams = Streams(fold_in(number, key_of(f"{self.name}/{split}/floor")))
        tensors = {name: values.repeat_interleave(STARTS, 0) for name, values in data.items()}
        with torch.no_grad():
            errors = self.settled(Instance(self.starts(streams), tensors))
        return {**data, "floor": errors.view(self.sets, STARTS).min(dim=1).values}

    def settled(self, instance: Instance) -> Tensor:
        """The error ``(B,)`` at which alternating least squares settles from each start, infinite where it breaks down."""
        params, error = instance.start, self.error(instance.start, instance)
        rows = torch.arange(len(params), device=params.device)
        for _ in range(SWEEPS):
            part = instance.select(rows)
            moved = params[rows]
            for block in range(self.blocks):
                moved = self.block_minimum(block, moved, part)
            now = self.error(moved, part)
            going = now < error[rows] * (1.0 - _SETTLED)
            params = params.index_copy(0, rows, moved)
            error[rows] = torch.where(now < error[rows], now, error[rows])
            rows = rows[going]
            if not len(rows):
                break
        return torch.where(torch.isfinite(error), error, torch.inf)
