"""Elementwise nonlinearities with their inverses and derivatives.

The general linear group moves a network through its activation's *inverse*, so the activations here are bijections of the
real line where they can be: tanh and the sigmoid are continued beyond ``|z| = c`` by their tangents. The publication does so
for both (Zhao et al., NeurIPS 2022, section 4.2 asks for a bijective activation). With ``c = 2`` for tanh and
``c = 4`` for the sigmoid, which is a tanh of half the argument, the slope out there is 7 % of the slope at the origin:
small enough to keep the shape, large enough that the inverse magnifies an error at most 14-fold beyond what the origin
does. The continuation is C^1: the second derivative jumps at ``c``, as it does at the kink of a leaky ReLU.

All functions are elementwise, so that a row's numbers never depend on its neighbours, and twice differentiable by
autograd away from kinks. The sigmoid is written through tanh because ``torch.sigmoid`` differs in the last bit between
the vectorised body of a tensor and its tail.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.reading import known


class Activation(ABC):
    """An elementwise nonlinearity ``s``; all methods take and return tensors of one shape.

    Attributes:
        name: Name by which `activation` finds it.
        homogeneous: ``s(d z) = d s(z)`` for every ``d > 0``.
        bijective: ``s`` is a bijection of the real line, and `inverse` is its inverse.
        curved: ``s''`` is not zero everywhere that it exists.
    """

    name: ClassVar[str]
    homogeneous: ClassVar[bool] = False
    bijective: ClassVar[bool] = True
    curved: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, z: Tensor) -> Tensor:
        """``s(z)``."""

    def inverse(self, a: Tensor) -> Tensor:
        """``s^-1(a)``; raises ValueError where the activation is not a bijection."""
        raise ValueError(
            f"activation {self.name!r} has no inverse; use one of {', '.join(map(repr, bijective_names()))}, "
            "or a symmetry that needs none (scaling, permutation)"
        )

    @abstractmethod
    def derivative(self, z: Tensor) -> Tensor:
        """``s'(z)``; at a kink the value that autograd takes."""

    def second_derivative(self, z: Tensor) -> Tensor:
        """``s''(z)``; zero at a kink, and everywhere unless `curved`."""
        return torch.zeros_like(z)

    def inverse_and_slope(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """``z = s^-1(a)`` and ``s'(z)``, without a graph."""
        z = self.inverse(a)
        return z, self.derivative(z)


@dataclass(frozen=True)
class Identity(Activation):
    """``s(z) = z``: a linear network."""

    name = "identity"
    homogeneous = True
    curved = False

    def __call__(self, z: Tensor) -> Tensor:
        return z

    def inverse(self, a: Tensor) -> Tensor:
        return a

    def derivative(self, z: Tensor) -> Tensor:
        return torch.ones_like(z)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """``s(z) = z`` for positive ``z``, ``slope z`` otherwise; the publication's networks use slope 0.1."""

    slope: float = 0.1

    name = "leaky_relu"
    homogeneous = True
    curved = False

    def __post_init__(self) -> None:
        if not 0.0 < self.slope < math.inf:
            raise ValueError(f"slope must be positive for a bijection, got {self.slope}; for slope 0 use 'relu'")

    def __call__(self, z: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(z, self.slope)

    def inverse(self, a: Tensor) -> Tensor:
        return torch.where(a > 0, a, a / self.slope)

    def derivative(self, z: Tensor) -> Tensor:
        # the kernel of its backward pass: a quarter of the time of a comparison and a choice
        return torch.ops.aten.leaky_relu_backward(torch.ones_like(z), z, self.slope, False)

    def inverse_and_slope(self, a: Tensor) -> tuple[Tensor, Tensor]:
        slope = self.derivative(a)  # a has the sign of z
        return a / slope, slope


@dataclass(frozen=True)
class ReLU(Activation):
    """``s(z) = max(z, 0)``: homogeneous, so that scaling and permutation act, but not a bijection."""

    name = "relu"
    homogeneous = True
    curved = False
    bijective = False

    def __call__(self, z: Tensor) -> Tensor:
        return torch.relu(z)

    def derivative(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype)


@dataclass(frozen=True)
class Tanh(Activation):
    """``tanh`` on ``|z| <= 2``, continued by its tangents."""

    name = "tanh"
    limit: ClassVar[float] = 2.0  # ``c``, where the tangents begin

    def __call__(self, z: Tensor) -> Tensor:
        # clamp's derivative is 1 on the closed interval and 0 outside, so this sum is C^1 for autograd as well
        inner = z.clamp(-self.limit, self.limit)
        return torch.tanh(inner) + _TANH_SLOPE * (z - inner)

    def inverse(self, a: Tensor) -> Tensor:
        inner = a.clamp(-_TANH_LIMIT, _TANH_LIMIT)
        # through log1p: accurate at 0, and the same bits in a tensor's body and tail
        artanh = 0.5 * (torch.log1p(inner) - torch.log1p(-inner))
        return artanh + (a - inner) / _TANH_SLOPE

    def derivative(self, z: Tensor) -> Tensor:
        return 1.0 - torch.tanh(z.clamp(-self.limit, self.limit)).square()

    def second_derivative(self, z: Tensor) -> Tensor:
        value = torch.tanh(z)
        return torch.where(z.abs() <= self.limit, -2.0 * value * (1.0 - value.square()), torch.zeros_like(z))


_TANH_LIMIT = math.tanh(Tanh.limit)
_TANH_SLOPE = 1.0 - _TANH_LIMIT**2


@dataclass(frozen=True)
class Sigmoid(Activation):
    """``1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2`` on ``|z| <= 4``, continued by its tangents."""

    name = "sigmoid"
    limit: ClassVar[float] = 2.0 * Tanh.limit

    def __call__(self, z: Tensor) -> Tensor:
        return 0.5 + 0.5 * _TANH(0.5 * z)

    def inverse(self, a: Tensor) -> Tensor:
        return 2.0 * _TANH.inverse(2.0 * a - 1.0)

    def derivative(self, z: Tensor) -> Tensor:
        return 0.25 * _TANH.derivative(0.5 * z)

    def second_derivative(self, z: Tensor) -> Tensor:
        return 0.125 * _TANH.second_derivative(0.5 * z)


_TANH = Tanh()


@dataclass(frozen=True)
class ArSinh(Activation):
    """``asinh(z)``: a smooth bijection that grows like a logarithm."""

    name = "asinh"

    def __call__(self, z: Tensor) -> Tensor:
        return torch.asinh(z)

    def inverse(self, a: Tensor) -> Tensor:
        # not torch.sinh, which differs between a tensor's body and its tail; both terms have one sign: nothing cancels
        return 0.5 * (torch.expm1(a) - torch.expm1(-a))

    def derivative(self, z: Tensor) -> Tensor:
        return 1.0 / torch.sqrt(1.0 + z.square())

    def second_derivative(self, z: Tensor) -> Tensor:
        return -z / ((1.0 + z.square()) * torch.sqrt(1.0 + z.square()))


_ALL: tuple[Activation, ...] = (Identity(), LeakyReLU(), Tanh(), Sigmoid(), ArSinh(), ReLU())


def activation_names() -> list[str]:
    """The names that `activation` knows."""
    return [function.name for function in _ALL]


def bijective_names() -> list[str]:
    return [function.name for function in _ALL if function.bijective]


def homogeneous_names() -> list[str]:
    return [function.name for function in _ALL if function.homogeneous]


def activation(name: str) -> Activation:
    """The activation of that name; raises ValueError where it is unknown."""
    return {function.name: function for function in _ALL}[known("activation", name, activation_names())]
