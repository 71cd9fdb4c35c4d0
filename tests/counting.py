"""An independent count of what is evaluated, to hold the ledger against.

`CountingProblem` wraps a problem and sends the parameters of every loss through an autograd function that sees each forward
pass, each backward pass and each backward pass of a backward pass, however they come about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry


@dataclass
class Seen:
    """Rows that went through: losses without a graph, losses with one, backward passes, backward passes of those."""

    forward_alone: int = 0
    forward: int = 0
    backward: int = 0
    double: int = 0


class _Backward(torch.autograd.Function):
    """The tap's backward pass; its own backward is the second derivative's."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, seen: Seen) -> Tensor:
        ctx.seen = seen
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.seen.double += len(gradient)
        return gradient, None


class _Tap(torch.autograd.Function):
    """The identity on parameters ``(R, P)``."""

    @staticmethod
    def forward(ctx: Any, params: Tensor, seen: Seen) -> Tensor:
        ctx.seen = seen
        return params.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.seen.backward += len(gradient)
        return _Backward.apply(gradient, ctx.seen), None


class CountingProblem(Problem):
    """A problem whose evaluations are counted, a row at a time; gradients come from autograd.

    Attributes:
        seen: The raw counts.
    """

    def __init__(self, inner: Problem) -> None:
        self.inner = inner
        self.name = inner.name
        self.seen = Seen()

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return self.inner.sample(generator, count, split)

    def instances(self, *args: Any, **kwargs: Any) -> Instance:
        return self.inner.instances(*args, **kwargs)

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if torch.is_grad_enabled() and params.requires_grad:
            self.seen.forward += len(params)
        else:
            self.seen.forward_alone += len(params)
        return self.inner.loss(_Tap.apply(params, self.seen), instance, batch)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return self.inner.symmetries

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return self.inner.gradient_flops(instance, batch_size)

    @property
    def output_curvature(self) -> float | None:
        return self.inner.output_curvature

    def layer_inputs(self, params: Tensor, instance: Instance, batch: Batch = None) -> list[Tensor | None] | None:
        return self.inner.layer_inputs(params, instance, batch)

    @property
    def batch_size(self) -> int | None:
        return self.inner.batch_size

    def num_examples(self, instance: Instance) -> int:
        return self.inner.num_examples(instance)

    def evaluations(self) -> Counts:
        """All rows' evaluations since `clear`, in the ledger's terms; its ``flops`` are not counted here.

        A gradient is one forward and one backward pass; a Hessian-vector product after it passes once through the
        backward pass's own backward and once more through the backward pass.
        """
        seen = self.seen
        assert seen.forward == seen.backward - seen.double, f"graphs without exactly one gradient each: {seen}"
        return Counts(
            forward=float(seen.forward_alone),
            gradient=float(seen.forward),
            hessian_vector=float(seen.double),
        )

    def clear(self) -> None:
        """Count from zero."""
        self.seen = Seen()
