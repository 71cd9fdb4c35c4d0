"""The way from a problem's loss and gradient to the kernel that computes the same.

A method that has a kernel is written in torch, as all are, and decorated by `compiled`. The kernel takes its place where it
serves (float64 on the CPU, no graph asked for); what it replaces stays as ``__wrapped__``, which `check_problem` compares it
with. A subclass that overrides the method, or an instance on which it is patched, is never bypassed: the kernel belongs to
the method that it was written for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS

Arguments = Callable[[Any, Instance], tuple[Any, ...]]
"""From the problem and the instances to what a kernel needs beside the parameters (``teleport_env/native/gradients.c``)."""


def compiled(name: str, arguments: Arguments) -> Callable[[Any], Any]:
    """A decorator for ``loss`` and ``loss_and_gradient`` of a problem that the kernel ``name`` can compute.

    The kernel's result is bit for bit that of the method where sums have one order, and differs by rounding elsewhere.
    Its gradient has the memory layout of the parameters.

    Args:
        name: Name of the kernel in `teleport_env.native`. Without kernels the methods stay what they are.
        arguments: From the problem and the instances to the kernel's own arguments.
    """
    kernel = getattr(KERNELS, name, None)

    def decorate(method: Any) -> Any:
        if kernel is None:
            return method

        @wraps(method)
        def loss(self: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            if torch.is_grad_enabled():  # perhaps to differentiate it
                return method(self, params, instance, batch)
            found = kernel(params, None, False, *arguments(self, instance))
            return method(self, params, instance, batch) if found is None else found

        @wraps(method)
        def loss_and_gradient(
            self: Any, params: Tensor, instance: Instance, batch: Batch = None
        ) -> tuple[Tensor, Tensor]:
            found = kernel(params, None, True, *arguments(self, instance))
            return method(self, params, instance, batch) if found is None else found

        def written(self: Any, params: Tensor, instance: Instance, loss: Tensor, gradient: Tensor) -> bool:
            return kernel(params, loss, gradient, *arguments(self, instance)) is not None

        loss_and_gradient.written = written  # type: ignore[attr-defined]
        return loss if method.__name__ == "loss" else loss_and_gradient

    return decorate
