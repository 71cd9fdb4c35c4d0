"""The general linear group: all invertible real matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.base import Element, single
from teleport_env.groups.matrix import MatrixGroup, exponential_flops, inverse_or_nan, matrix_exponential
from teleport_env.random import Streams
from teleport_env.reading import integer, number


@dataclass(frozen=True)
class GL(MatrixGroup):
    """Invertible ``n x n`` matrices; ``xi`` ``(B, n^2)`` is a matrix ``T``, row by row, and the element its exponential.

    The exponential reaches matrices of positive determinant only. The group is not compact, so `sample` has no uniform
    distribution to draw from.

    Attributes:
        n: Size of the matrices.
    """

    n: int

    metrics = "all"
    retract_reach = 2.0

    def __post_init__(self) -> None:
        n = integer("the n of GL(n)", self.n, least=1)
        # set once, past the guard of a frozen dataclass
        self.__dict__.update(n=n, name=f"GL({n})", dim=n * n, exp_flops=exponential_flops(n))

    @property
    def retract_flops(self) -> float:
        return 4.0 * self.n**3  # two inverses, one of them to tell whether it is regular

    def inverse(self, element: Element) -> Tensor:
        """The inverse, a real one: not the first-order ``1 - T``. Numerically singular rows are NaN."""
        return inverse_or_nan(single(element))

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        """Whether each row is finite and not numerically singular, ``(B,)`` bool; ``tolerance`` plays no part."""
        return torch.isfinite(inverse_or_nan(single(element))).all(dim=-1).all(dim=-1)

    def exp(self, xi: Tensor) -> Tensor:
        return matrix_exponential(self.algebra(xi))

    def retract(self, xi: Tensor) -> Tensor:
        """Cayley's form ``(1 - T / 2)^-1 (1 + T / 2)``, which agrees with `exp` to second order.

        ``1 + T``, the obvious choice, is singular as soon as ``T`` has the eigenvalue -1. Cayley's form fails where
        ``T`` has an eigenvalue 2 (no such matrix) or -2 (a singular one): such rows come back as NaN. Any norm of ``T``
        below 2 excludes both. Its inverse is its value at ``-xi``.
        """
        half = 0.5 * self.algebra(xi)
        identity = self.identity(len(xi), xi.dtype, xi.device)
        element = 2.0 * inverse_or_nan(identity - half) - identity
        with torch.no_grad():
            far = half.abs().sum(dim=-2).amax(dim=-1) >= 1.0
            if not bool(far.any()):
                return element
            singular = far & ~self.contains(identity + half)
        return torch.where(singular[:, None, None], torch.full_like(element, torch.nan), element)

    def algebra(self, xi: Tensor) -> Tensor:
        """The matrices ``T`` ``(B, n, n)`` of coordinates ``xi`` ``(B, n^2)``."""
        return self._checked(xi).reshape(-1, self.n, self.n)

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, n^2)`` of matrices ``(B, n, n)``; inverse of `algebra`."""
        return single(matrix).reshape(-1, self.dim)

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """The exponential of ``xi`` with independent normal entries of standard deviation ``scale``.

        Such a matrix has eigenvalues up to ``scale * sqrt(n)`` in modulus: take ``scale`` below ``1 / sqrt(n)`` for
        well-conditioned elements.
        """
        return self.exp(number("scale", scale, least=0) * streams.normal((self.dim,))).to(dtype)
