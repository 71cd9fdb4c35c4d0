"""Rotations of the plane and of ``n``-dimensional space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from teleport_env.groups.base import Element, default_tolerance, single
from teleport_env.groups.matrix import MatrixGroup, exponential_flops, matrix_exponential
from teleport_env.random import Streams
from teleport_env.reading import integer, number


class _Rotations(MatrixGroup):
    """What the two classes share: the inverse is the transpose."""

    compact = True

    def inverse(self, element: Element) -> Tensor:
        return single(element).mT.contiguous()

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        """Whether each row is orthogonal with determinant +1, entry by entry within ``tolerance``: ``(B,)`` bool."""
        matrix = single(element)
        tolerance = default_tolerance(matrix) if tolerance is None else tolerance
        product = matrix.mT @ matrix
        identity = torch.eye(self.n, dtype=matrix.dtype, device=matrix.device)
        orthogonal = (product - identity).abs().amax(dim=(-2, -1)) <= tolerance
        return orthogonal & (torch.linalg.slogdet(matrix).sign > 0)


@dataclass(frozen=True)
class SO2(_Rotations):
    """Rotations of the plane; ``xi`` ``(B, 1)`` is the angle in radians, counterclockwise.

    The element is ``[[cos, -sin], [sin, cos]]``. Sine and cosine take any angle, so there is nothing cheaper to retract
    by.
    """

    n = 2
    """Dimension of the plane."""
    name = "SO(2)"
    dim = 1
    on_circle = True

    def exp(self, xi: Tensor) -> Tensor:
        angle = self._checked(xi)[:, 0]
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.stack((cos, -sin, sin, cos), dim=-1).reshape(-1, 2, 2)

    def algebra(self, xi: Tensor) -> Tensor:
        """The skew matrix ``[[0, -xi], [xi, 0]]``, ``(B, 2, 2)``."""
        angle = self._checked(xi)[:, 0]
        zero = torch.zeros_like(angle)
        return torch.stack((zero, -angle, angle, zero), dim=-1).reshape(-1, 2, 2)

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, 1)`` of skew matrices ``(B, 2, 2)``; inverse of `algebra`."""
        return single(matrix)[:, 1, 0][:, None]

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """An angle uniform on ``scale * [-pi, pi)``; uniform on the group (Haar) from ``scale = 1`` on."""
        bound = math.pi * min(number("scale", scale, least=0), 1.0)
        return self.exp(streams.uniform(-bound, bound, (1,))).to(dtype)

    def sample_start(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """An angle uniform on ``(0, pi * scale)``, as published (Zhao et al., NeurIPS 2022)."""
        return self.exp(streams.uniform(0.0, math.pi * scale, (1,), dtype))


@dataclass(frozen=True)
class SO(_Rotations):
    """Rotations of ``n``-dimensional space, ``n >= 2``.

    ``xi`` ``(B, n (n - 1) / 2)`` is the strict upper triangle, row by row, of a skew matrix ``A``, and the element is
    the exponential of ``A``. Mind the sign in the plane: ``SO(2)`` turns clockwise for positive ``xi``, `SO2`
    counterclockwise.

    Attributes:
        n: Dimension of the space.
    """

    n: int

    def __post_init__(self) -> None:
        n = integer("the n of SO(n)", self.n, least=2)
        # set once, past the guard of a frozen dataclass
        dim, flops = n * (n - 1) // 2, exponential_flops(n)
        self.__dict__.update(n=n, name=f"SO({n})", dim=dim, exp_flops=flops, on_circle=n == 2)

    @property
    def retract_flops(self) -> float:
        return 8.0 / 3.0 * self.n**3  # one factorization, n right sides

    def exp(self, xi: Tensor) -> Tensor:
        return matrix_exponential(self.algebra(xi))

    def retract(self, xi: Tensor) -> Tensor:
        """Cayley's transform ``(1 - A / 2)^-1 (1 + A / 2)``: an exact rotation for every ``xi``.

        It agrees with `exp` to second order, and never reaches a half turn. A linear solve in place of nine products.
        """
        half = 0.5 * self.algebra(xi)
        identity = self.identity(len(xi), xi.dtype, xi.device)
        result: Tensor = torch.linalg.solve_ex(identity - half, identity + half)[0]
        return result

    def algebra(self, xi: Tensor) -> Tensor:
        """The skew matrices ``A`` ``(B, n, n)`` of coordinates ``xi`` ``(B, dim)``."""
        self._checked(xi)
        upper = xi.new_zeros(xi.shape[0], self.n, self.n)
        rows, columns = _upper_triangle(self.n, xi.device)
        upper[:, rows, columns] = xi
        return upper - upper.mT

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, dim)`` of skew matrices ``(B, n, n)``; inverse of `algebra`."""
        matrix = single(matrix)
        rows, columns = _upper_triangle(self.n, matrix.device)
        return matrix[:, rows, columns]

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Uniform (Haar) from ``scale = 1`` on; below, the exponential of a normal ``xi`` times ``scale``.

        The orthogonal factor of a matrix of normals is uniform on O(n) once the signs of the triangular factor's
        diagonal are made positive (Mezzadri, Notices of the AMS 54, 2007). Turning one column over where the determinant
        is -1 brings it to SO(n), still uniform.
        """
        if number("scale", scale, least=0) < 1.0:
            return self.exp(scale * streams.normal((self.dim,))).to(dtype)
        factor, triangle = torch.linalg.qr(streams.normal((self.n, self.n)))
        factor = _flip(factor, triangle.diagonal(dim1=-2, dim2=-1) < 0)
        first = torch.arange(self.n, device=factor.device) == 0
        return _flip(factor, first & (torch.linalg.slogdet(factor).sign < 0)[:, None]).to(dtype)


def _flip(matrix: Tensor, columns: Tensor) -> Tensor:
    """``(B, n, n)`` with the sign of the marked columns ``(B, n)`` bool changed."""
    return torch.where(columns[:, None, :], -matrix, matrix)


@lru_cache(maxsize=64)
def _upper_triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    # a tensor born in inference mode could never be used by autograd afterwards
    with torch.inference_mode(False):
        rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    return rows, columns
