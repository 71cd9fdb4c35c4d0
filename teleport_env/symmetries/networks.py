"""Feed-forward networks over a flat parameter vector, batched over runs.

A network of ``B`` runs is one tensor ``(B, P)``. `Layers` says where the matrices lie in it, `FeedForward` adds the
activation and where the data comes from. Symmetries and problems share both, so that they agree on the layout.

Every matrix product is a `product`, with the runs as its batch axis: ``B`` never becomes a dimension of a matrix product,
whose blocking, and with it the last bit, would then depend on how many runs share the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from teleport_env.arrays import Array
from teleport_env.instances import Batch, Instance
from teleport_env.reading import read_fields
from teleport_env.symmetries.activations import Activation


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` for ``(B, m, k)`` and ``(B, k, n)``, each row the same bits alone and among others (float64, CPU).

    A 3-D ``bmm``, also with expanded operands (stride 0 along ``B``), except where it, or its gradient, is a
    matrix-vector product in disguise: that one takes another path through BLAS when ``B`` is 1, and is written as an
    elementwise product and a sum. Tiny matrices go to NumPy where nothing is differentiated. Torch multiplies those by a
    plain loop, NumPy by a BLAS call each, in a third of the time.
    """
    inner = left.shape[2]
    if inner == 1:
        return (left * right).contiguous()  # elementwise results have the memory layout of their operands
    if right.shape[2] == 1:
        return (left * right.mT).contiguous().sum(2, keepdim=True)
    if inner * left.shape[1] * right.shape[2] < _TINY and left.device.type == "cpu" and _only_numbers(left, right):
        return torch.from_numpy(_matmul(left.detach().resolve_neg().numpy(), right.detach().resolve_neg().numpy()))
    return torch.bmm(left, right)


def _only_numbers(left: Tensor, right: Tensor) -> bool:
    """Whether torch does no more with tensors than to compute with their numbers, so that NumPy may do it.

    It does more where a gradient or a tangent is asked for, a mode sees its calls, or a function is transformed or traced.
    Kernels ask the same (``teleport_env/native/tensors.c``).
    """
    if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
        return False
    return forward_ad._current_level < 0 and not (_modes() or _is_tracing()) and _transforms() is None


def put_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """`product` written into ``out``, a part of a larger tensor, without a graph: large results are made once."""
    inner, columns = left.shape[2], right.shape[2]
    if min(inner, columns) == 1 or inner * left.shape[1] * columns < _TINY:
        out.copy_(product(left, right))
    else:
        torch.bmm(left, right, out=out)


@np.errstate(all="ignore")  # a run that diverges is no reason to warn
def _matmul(left: Array, right: Array) -> Array:
    return np.matmul(_dense(left), _dense(right))


def _dense(matrices: Array) -> Array:
    """Matrices ``(B, m, k)`` each of which lies in one piece, row by row or column by column.

    NumPy chooses among several loops by how matrices lie in memory, and where parameters are stored column by column that
    depends on the number of runs. Rows stay rows, and columns columns.
    """
    item, (_, down, across), (_, rows, columns) = matrices.itemsize, matrices.strides, matrices.shape
    if min(rows, columns) > 1:
        if (across == item and down == columns * item) or (down == item and across == rows * item):
            return matrices
        if down < across:
            return np.ascontiguousarray(matrices.swapaxes(1, 2)).swapaxes(1, 2)
    return np.ascontiguousarray(matrices)


_modes, _is_tracing = torch._C._len_torch_dispatch_stack, torch._C._is_tracing
_transforms = torch._C._functorch.maybe_current_level
_TINY = 400  # products of numbers in a matrix product, below which torch's `bmm` is its plain loop


def plus_product(matrix: Tensor, left: Tensor, right: Tensor, by: float = 1.0) -> Tensor:
    """``matrix + by left @ right`` of `product`, in one call."""
    if left.shape[2] == 1 or right.shape[2] == 1:
        return torch.add(matrix, product(left, right), alpha=by)
    return torch.baddbmm(matrix, left, right, alpha=by)


@dataclass(frozen=True)
class Layers:
    """The flat layout of a chain of layers.

    Layer ``l`` is a matrix ``(widths[l + 1], widths[l])``, with a bias ``(widths[l + 1], widths[l] + 1)`` whose last column
    is the bias. The matrices are stored row by row, one layer after the other, the lowest first.

    Attributes:
        widths: Width of the input, of every hidden layer, and of the output.
        bias: Whether the layers have one.
    """

    widths: tuple[int, ...]
    bias: bool = False

    def __post_init__(self) -> None:
        read_fields("the layers", self)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths must be at least two positive integers (input, ..., output), got {self.widths}")

    @property
    def count(self) -> int:
        """Number of weight matrices."""
        return len(self.widths) - 1

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers; empty for a single matrix."""
        return self.widths[1:-1]

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of every matrix, bias column included."""
        return [(out, into + self.bias) for into, out in pairwise(self.widths)]

    @cached_property
    def num_params(self) -> int:
        """``P``."""
        return sum(rows * columns for rows, columns in self.shapes)

    def weights(self, vector: Tensor) -> list[Tensor]:
        """The matrices ``(B, out, in + bias)`` in ``vector`` ``(B, P)``, the lowest first, as views.

        Raises:
            ValueError: The vector has another length.
        """
        if vector.ndim != 2 or vector.shape[1] != self.num_params:
            raise ValueError(
                f"a network of widths {self.widths} {'with' if self.bias else 'without'} bias has "
                f"(B, {self.num_params}) parameters, got {tuple(vector.shape)}"
            )
        count = vector.shape[0]
        return [
            part.view(count, rows, columns)
            for part, (rows, columns) in zip(vector.split(self._sizes, dim=1), self.shapes, strict=True)
        ]

    @cached_property
    def _sizes(self) -> list[int]:
        return [rows * columns for rows, columns in self.shapes]

    @cached_property
    def places(self) -> list[tuple[slice, int, int]]:
        """Where every matrix lies in a vector, its rows and its columns."""
        ends = pairwise(accumulate(self._sizes, initial=0))
        return [(slice(*both), *shape) for both, shape in zip(ends, self.shapes, strict=True)]

    def views(self, vectors: Array) -> list[Array]:
        """`weights` of an array of `teleport_env.arrays`, unchecked."""
        count = len(vectors)
        return [vectors[:, place].reshape(count, rows, columns) for place, rows, columns in self.places]

    def flatten(self, weights: Sequence[Tensor]) -> Tensor:
        """The vector ``(B, P)`` of the matrices; the inverse of `weights`."""
        if len(weights) != self.count:
            raise ValueError(f"a network of widths {self.widths} has {self.count} matrices, got {len(weights)}")
        return torch.cat([matrix.flatten(1) for matrix in weights], dim=1)


Inputs: TypeAlias = Callable[[Instance, Batch], Tensor]
"""``(instance, batch) -> (B, widths[0], n)``, the current data, one column per example.

Data that all runs share may come back expanded (stride 0 along the runs)."""


@dataclass(frozen=True)
class FeedForward:
    """A network whose last layer is linear and whose other layers end in an activation.

    Attributes:
        layers: Layout of the parameters.
        activation: Activation of the hidden layers.
        inputs: Function that finds the data in an instance.
    """

    layers: Layers
    activation: Activation
    inputs: Inputs

    def forward(self, params: Tensor, inputs: Tensor) -> Tensor:
        """Outputs ``(B, widths[-1], n)`` at ``params`` ``(B, P)`` on ``inputs`` ``(B, widths[0], n)``."""
        return self.layer_values(params, inputs)[1][-1]

    def layer_values(self, params: Tensor, inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What goes into every layer ``(B, in, n)`` and comes out of it before the activation ``(B, out, n)``.

        The inputs are without the row of ones that a bias multiplies (`augmented`).
        """
        values = [inputs]
        outputs: list[Tensor] = []
        for index, weight in enumerate(self.layers.weights(params)):
            outputs.append(self.apply(weight, values[-1]))
            if index + 1 < self.layers.count:
                values.append(self.activation(outputs[-1]))
        return values, outputs

    def apply(self, weight: Tensor, value: Tensor) -> Tensor:
        """One layer before its activation: ``weight`` ``(B, out, in + bias)`` on ``value`` ``(B, in, n)``."""
        if self.layers.bias:
            return product(weight[:, :, :-1], value) + weight[:, :, -1:]
        return product(weight, value)

    def augmented(self, value: Tensor) -> Tensor:
        """A layer's input as its matrix sees it: with a row of ones below it if there is a bias."""
        if not self.layers.bias:
            return value
        return torch.cat([value, value.new_ones(value.shape[0], 1, value.shape[2])], dim=1)

    def gradient_flops(self, examples: int) -> float:
        """Floating-point operations of one loss and gradient of one run.

        A product and a sum per weight and example on the way forth, and twice that on the way back.
        """
        return 6.0 * examples * self.layers.num_params
