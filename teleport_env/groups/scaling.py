"""Positive scalings of ``n`` coordinates: the symmetry of units with a homogeneous activation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, single
from teleport_env.random import Streams
from teleport_env.reading import integer, number


@dataclass(frozen=True)
class PositiveScaling(Group):
    """Diagonal matrices with positive entries; elements are the diagonal ``(B, n)``, ``xi`` its logarithm.

    Attributes:
        n: Number of diagonal entries.
    """

    n: int

    metrics = "diagonal"

    def __post_init__(self) -> None:
        n = integer("the n of PositiveScaling(n)", self.n, least=1)
        # set once, past the guard of a frozen dataclass
        self.__dict__.update(n=n, name=f"R+^{n}", dim=n)

    def identity(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        return torch.ones(count, self.n, dtype=dtype, device=device)

    def compose(self, second: Element, first: Element) -> Tensor:
        return single(second) * single(first)

    def inverse(self, element: Element) -> Tensor:
        """The reciprocal; rows with an entry that is not positive, or whose reciprocal is not finite, are NaN."""
        diagonal = single(element)
        reciprocal = 1.0 / diagonal
        regular = self.contains(diagonal) & self.contains(reciprocal)
        return torch.where(regular[:, None], reciprocal, torch.full_like(reciprocal, torch.nan))

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        """Whether all entries of a row are positive and finite, ``(B,)`` bool; ``tolerance`` plays no part."""
        diagonal = single(element)
        return ((diagonal > 0) & torch.isfinite(diagonal)).all(dim=1)

    def exp(self, xi: Tensor) -> Tensor:
        return torch.exp(self._checked(xi))

    def retract(self, xi: Tensor) -> Tensor:
        """``xi + sqrt(1 + xi^2)``, which is ``exp(asinh xi)``: positive everywhere, agrees with `exp` to second order.

        It grows linearly where `exp` grows exponentially. (Cayley's ``(1 + xi / 2) / (1 - xi / 2)`` turns negative
        beyond 2.)
        """
        self._checked(xi)
        # For negative xi the sum cancels, so take the reciprocal of the value at -xi. Not abs: its slope at 0 is 0.
        negative = xi < 0
        size = torch.where(negative, -xi, xi)
        value = size + torch.sqrt(1.0 + size * size)
        return torch.where(negative, 1.0 / value, value)

    def algebra(self, xi: Tensor) -> Tensor:
        """The diagonal ``(B, n)`` of the algebra element, which is ``xi`` itself."""
        return self._checked(xi)

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, n)`` of a diagonal ``(B, n)``; inverse of `algebra`."""
        return single(matrix)

    def as_matrices(self, element: Element) -> Tensor:
        return torch.diag_embed(single(element))

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Log-normal entries: the exponential of independent normals of standard deviation ``scale``."""
        return self.exp(number("scale", scale, least=0) * streams.normal((self.n,))).to(dtype)
