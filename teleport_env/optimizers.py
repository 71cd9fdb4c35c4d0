"""Batched update rules. (interfaces; the rules follow)"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

State = dict[str, Tensor]
"""What a rule remembers, tensors with leading axis ``B``; empty for plain gradient descent."""


@dataclass
class Step:
    """What an update rule works from.

    Attributes:
        params: ``(B, P)``.
        loss: ``(B,)`` at ``params`` on the current data.
        gradient: ``(B, P)`` of the same.
        learning_rate: ``(B,)``.
        count: ``(B,)`` int64: updates made since the optimizer's state was last cleared, 0 before the first.
        state: The rule's state; a rule returns a new one and leaves this alone.
        mask: ``(B,)`` bool or None: the runs that really step. Rules that evaluate losses do so for these alone.
        evaluate: ``(params, where) -> losses``: a counted forward pass on the current data for the runs in ``where``.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    learning_rate: Tensor
    count: Tensor
    state: State
    mask: Tensor | None
    evaluate: Callable[[Tensor, Tensor], Tensor]


class Optimizer(ABC):
    """An update rule for ``B`` runs at once."""

    name: ClassVar[str]

    def init(self, params: Tensor) -> State:
        """A fresh state for ``params`` ``(B, P)``."""
        return {}

    @abstractmethod
    def update(self, step: Step) -> tuple[Tensor, State]:
        """New parameters ``(B, P)`` and new state. Rows outside ``step.mask`` are ignored by the caller."""
