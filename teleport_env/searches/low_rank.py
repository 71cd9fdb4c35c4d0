"""Group elements that differ from the identity by a matrix of low rank.

A loss on ``n`` examples moves a space of ``k`` units along directions ``T = P Q'`` with ``P``, ``Q`` ``(k, 2 n)``. For
``2 n < k`` nothing of size ``k x k`` has to be built: with ``N = Q'P``

    exp(T) = 1 + P phi(N) Q',   phi(x) = (exp(x) - 1) / x,    (1 - T/2)^-1 (1 + T/2) = 1 + P (1 - N/2)^-1 Q',

and the inverses are the same of ``-T`` (Woodbury).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.matrix import inverse_or_nan
from teleport_env.symmetries.networks import product

_LARGEST_NORM = 0.8  # |x|^16 / 18! stays below 2^-53 up to there
_SHORT_NORM = 0.05  # and |x|^8 / 10! up to here
_POWERS = torch.tensor([2.0**-j for j in range(64)], dtype=torch.float64)  # exact, which pow need not be
_COSH = [1.0 / math.factorial(2 * j) for j in range(9)]  # of x^(2j) in cosh x,
_SINH = [1.0 / math.factorial(2 * j + 1) for j in range(9)]  # in sinh x / x, which is the even part of phi,
_ODD = [1.0 / math.factorial(2 * j + 2) for j in range(9)]  # and in the odd part of phi, over x


@dataclass
class LowRank:
    """``T = P Q'`` ``(R, k, k)``.

    Attributes:
        left: ``P`` ``(R, k, r)``.
        right: ``Q`` ``(R, k, r)``.
    """

    left: Tensor
    right: Tensor

    @classmethod
    def balanced(cls, left: Tensor, right: Tensor) -> LowRank:
        """With columns of equal norm on both sides, so that ``Q'P`` is about as small as ``T`` is."""
        tiny = torch.finfo(left.dtype).tiny
        sizes = [matrix.square().sum(1).clamp_min(tiny) for matrix in (left, right)]
        scale = (sizes[1] / sizes[0]).sqrt().sqrt()[:, None, :]
        return cls(left * scale, right / scale)

    @property
    def narrow(self) -> bool:
        """Whether the rank is below the size."""
        return self.left.shape[2] < self.left.shape[1]

    def norm2(self) -> Tensor:
        """The squared Frobenius norm ``(R,)``, ``tr(P'P Q'Q)``."""
        grams = product(self.left.mT, self.left) * product(self.right.mT, self.right)
        return grams.flatten(1).sum(1).clamp_min(0.0)


@dataclass
class Moved:
    """``g = 1 + A B'`` with ``g^-1 = 1 - P C'``; or, where that is no saving, ``g`` and ``g^-1`` themselves.

    Attributes:
        a, b: ``(R, k, r)``; None where ``g`` is whole.
        p, c: the inverse's.
        whole, inverse: ``(R, k, k)``.
    """

    a: Tensor | None = None
    b: Tensor | None = None
    p: Tensor | None = None
    c: Tensor | None = None
    whole: Tensor | None = None
    inverse: Tensor | None = None

    def times(self, matrix: Tensor) -> Tensor:
        """``g matrix``."""
        if self.whole is not None:
            return product(self.whole, matrix)
        assert self.a is not None
        assert self.b is not None
        return torch.baddbmm(matrix, self.a, product(self.b.mT, matrix))

    def from_right(self, matrix: Tensor) -> Tensor:
        """``matrix g^-1``."""
        if self.inverse is not None:
            return product(matrix, self.inverse)
        assert self.p is not None
        assert self.c is not None
        return torch.baddbmm(matrix, product(matrix, self.p), self.c.mT, alpha=-1.0)

    def inverse_transposed_times(self, matrix: Tensor) -> Tensor:
        """``g^-T matrix``."""
        if self.inverse is not None:
            return product(self.inverse.mT, matrix)
        assert self.p is not None
        assert self.c is not None
        return torch.baddbmm(matrix, self.c, product(self.p.mT, matrix), alpha=-1.0)


def moved_by(direction: LowRank, factor: Tensor, retract: bool) -> Moved:
    """The element ``exp(factor T)`` (or its retraction) ``factor`` ``(R,)``; rows that have none are NaN."""
    left = direction.left * factor[:, None, None]
    if not direction.narrow:
        whole = product(left, direction.right.mT)
        forth, back = cayley(whole) if retract else exponentials(whole)
        return Moved(whole=forth, inverse=back)
    inner = product(direction.right.mT, left)
    if retract:
        identity = torch.eye(inner.shape[1], dtype=inner.dtype, device=inner.device)
        forth, back = inverse_or_nan(identity - 0.5 * inner), inverse_or_nan(identity + 0.5 * inner)
    else:
        forth, back = _phi(inner)
    return Moved(a=product(left, forth), b=direction.right, p=left, c=product(direction.right, back.mT))


def cayley(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(1 - x/2)^-1 (1 + x/2)`` and its inverse, as `GL.retract` has them."""
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    forth = 2.0 * inverse_or_nan(identity - 0.5 * x) - identity
    back = 2.0 * inverse_or_nan(identity + 0.5 * x) - identity
    return forth, back


def moved_flops(size: int, rank: int, retract: bool) -> float:
    """Floating-point operations of `moved_by`."""
    if rank >= size:
        return 2.0 * size * size * rank + (8.0 if retract else 11.0) * size**3
    return 6.0 * size * rank * rank + (4.0 if retract else 11.0) * rank**3


def times_flops(size: int, rank: int, columns: int) -> float:
    """Of one product of `Moved` with a matrix of so many columns (or rows)."""
    return 2.0 * size * columns * (size if rank >= size else 2 * rank)


def _phi(x: Tensor) -> tuple[Tensor, Tensor]:
    """``phi(x)`` and ``phi(-x)`` of ``(R, r, r)``, from powers they share; by Taylor's polynomial, scaling and squaring."""
    scaled, exponent, norm = _scaled(x)
    powers = _Powers(scaled, norm)
    even, odd = powers.sum(_SINH), product(scaled, powers.sum(_ODD))
    forth, back = even + odd, even - odd
    if exponent is None:
        return forth, back
    for done in range(int(exponent.max())):  # phi(2 x) = phi(x) (1 + x phi(x) / 2)
        active = (done < exponent)[:, None, None]
        longer_forth = forth + 0.5 * product(forth, product(scaled, forth))
        longer_back = back - 0.5 * product(back, product(scaled, back))
        forth, back = torch.where(active, longer_forth, forth), torch.where(active, longer_back, back)
        scaled = torch.where(active, 2.0 * scaled, scaled)
    return forth, back


def exponentials(x: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(x)`` and ``exp(-x)`` of ``(R, k, k)``, from powers they share; rows that are not finite are NaN."""
    scaled, exponent, norm = _scaled(x)
    powers = _Powers(scaled, norm)
    even, odd = powers.sum(_COSH), product(scaled, powers.sum(_SINH))
    forth, back = even + odd, even - odd
    if exponent is None:
        return forth, back
    for done in range(int(exponent.max())):
        active = (done < exponent)[:, None, None]
        forth = torch.where(active, product(forth, forth), forth)
        back = torch.where(active, product(back, back), back)
    return forth, back


def _scaled(x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """``x / 2^j`` with a 1-norm that the polynomials are right for, ``j`` ``(R,)`` (None: all 0), and the 1-norm of ``x``;
    NaN where ``x`` is not finite or so large that no digit would be right."""
    norm = x.abs().sum(1).amax(1)
    if bool((norm <= _LARGEST_NORM).all()):  # as steps mostly are; multiplying by one would change nothing
        return x, None, norm
    usable = norm <= 1.0 / torch.finfo(norm.dtype).eps
    broken = ~usable
    exponent = torch.frexp(norm.masked_fill(broken, 0.0) / _LARGEST_NORM).exponent.clamp_min(0)
    factor = _POWERS.to(norm.device, norm.dtype)[exponent.to(torch.int64)].masked_fill(broken, torch.nan)
    return x * factor[:, None, None], exponent, norm.masked_fill(broken, torch.nan)


class _Powers:
    """Even powers of ``x`` ``(R, r, r)``, and polynomials in ``x^2``.

    Rows of small norm need four terms of eight or nine; where all are such, the others are not computed, and elsewhere
    they are multiplied by zero for those rows, so that a row's bits depend on itself alone.
    """

    def __init__(self, x: Tensor, norm: Tensor) -> None:
        self._identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self._x2 = product(x, x)
        self._x4 = product(self._x2, self._x2)
        self._x6 = product(self._x4, self._x2)
        far = norm > _SHORT_NORM
        self._x8 = product(self._x4, self._x4) * far.to(x.dtype)[:, None, None] if bool(far.any()) else None

    def sum(self, c: list[float]) -> Tensor:
        """``c_0 + c_1 x^2 + ... `` up to ``x^16``."""
        total = self._low(c[:4])
        if self._x8 is None:
            return total
        high = torch.add(self._low(c[4:]), self._x8, alpha=c[8])
        return total + product(self._x8, high)

    def _low(self, c: list[float]) -> Tensor:
        total = torch.add(c[0] * self._identity, self._x2, alpha=c[1])
        return total.add_(self._x4, alpha=c[2]).add_(self._x6, alpha=c[3])
