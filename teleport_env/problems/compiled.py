"""The way from a problem's loss and gradient to the kernel that computes the same.

A method that has a kernel is written in torch, as all are, and decorated by `compiled`. The kernel takes its place where it
serves: float64 on the CPU, no graph asked for. What it replaces stays as its attribute ``plain``, which `check_problem`
compares it with. A subclass that overrides the method, or an instance on which it is patched, is never bypassed: the
kernel belongs to the method that it was written for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS
from teleport_env.symmetries.activations import Activation, Identity, LeakyReLU, ReLU
from teleport_env.symmetries.networks import Layers

Arguments = Callable[[Any, Instance, Batch], tuple[Any, ...] | None]
"""From the problem, the instances and the mini-batches to what a kernel (``teleport_env/native/gradients.c``) needs beside
the parameters.

None: the kernel does not serve."""


def compiled(name: str, arguments: Arguments) -> Callable[[Any], Any]:
    """A decorator for ``loss`` and ``loss_and_gradient`` of a problem that the kernel ``name`` can compute.

    The kernel's result is bit for bit that of the method where sums have one order, and differs by rounding elsewhere.
    Its gradient has the memory layout of the parameters.

    Args:
        name: Name of the kernel in `teleport_env.native`. Without kernels the methods stay what they are.
        arguments: Function from the problem, the instances and the mini-batches to the kernel's own arguments.
    """
    kernel = getattr(KERNELS, name, None)

    def decorate(method: Any) -> Any:
        if kernel is None:
            return method

        def computed(self: Any, params: Tensor, instance: Instance, batch: Batch, gradient: bool) -> Any:
            own = arguments(self, instance, batch)
            return None if own is None else kernel(params, gradient, *own)

        @wraps(method)
        def loss(self: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            # where gradients are on, the loss is perhaps to be differentiated
            found = None if torch.is_grad_enabled() else computed(self, params, instance, batch, False)
            return method(self, params, instance, batch) if found is None else found

        @wraps(method)
        def loss_and_gradient(
            self: Any, params: Tensor, instance: Instance, batch: Batch = None
        ) -> tuple[Tensor, Tensor]:
            found = computed(self, params, instance, batch, True)
            return method(self, params, instance, batch) if found is None else found

        chosen: Any = loss if method.__name__ == "loss" else loss_and_gradient
        chosen.plain = method
        return chosen

    return decorate


_MOST_LAYERS = 16


def packed(layers: Layers, activation: Activation, scale: float = 1.0) -> bytes | None:
    """A network as kernels read it. Of squared errors the loss is ``scale / 2`` times the sum.

    None: it is too deep for kernels, or its activation is no piecewise linear one. The kernels themselves leave large
    networks on many samples to the library's matrix products.
    """
    slopes = {Identity: 1.0, ReLU: 0.0}
    slope = activation.slope if type(activation) is LeakyReLU else slopes.get(type(activation))
    if slope is None or layers.count > _MOST_LAYERS:
        return None
    return struct.pack(f"={1 + len(layers.widths)}q2d", layers.bias, *layers.widths, slope, scale)
