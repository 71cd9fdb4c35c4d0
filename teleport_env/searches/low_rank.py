"""Group elements that differ from the identity by a matrix of low rank.

A loss on ``n`` examples moves a space of ``k`` units along directions ``T = P Q'`` with ``P``, ``Q`` ``(k, 2 n)``. For
``2 n < k`` nothing of size ``k x k`` has to be built: with ``N = Q'P``

    exp(T) = 1 + P phi(N) Q',   phi(x) = (exp(x) - 1) / x,    (1 - T/2)^-1 (1 + T/2) = 1 + P (1 - N/2)^-1 Q',

and the inverses are the same of ``-T`` (Woodbury).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from teleport_env.arrays import TINY, Array, arrays_of
from teleport_env.groups.matrix import inverse_or_nan
from teleport_env.symmetries.networks import plus_product, product

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
        norm2: The squared Frobenius norm of ``T``, ``(R,)``.
        whole: ``T`` itself, where its rank is no smaller than its size; else None, and there are
        inner: ``N = S^-1 Q'P S`` ``(R, r, r)`` with the diagonal ``S`` for which the columns of ``P S`` and of ``Q S^-1``
            have equal norms, so that ``N`` is about as small as ``T`` is, and
        scale: ``s_j / s_i`` ``(R, r, r)``.
    """

    left: Tensor
    right: Tensor
    norm2: Tensor
    whole: Tensor | None = None
    inner: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def of(cls, sides: Tensor) -> LowRank:
        """The matrix ``P Q'`` of ``sides``, ``P`` and ``Q`` side by side ``(R, k, 2 r)``."""
        size, rank = sides.shape[1], sides.shape[2] // 2
        left, right = sides[:, :, :rank], sides[:, :, rank:]
        x = arrays_of(sides.device)
        if rank >= size:
            whole = product(left, right.mT)
            return cls(left, right, x.tensor(x.inner(x.view(whole), x.view(whole))), whole)
        grams = product(sides.mT, sides)  # of P and Q with themselves and each other
        squares = x.view(grams)
        norm2 = x.inner(squares[:, :rank, :rank], squares[:, rank:, rank:])  # tr(P'P Q'Q)
        sizes = x.at_least(x.view(torch.diagonal(grams, dim1=1, dim2=2)), TINY[sides.dtype])
        s = (sizes[:, rank:] / sizes[:, :rank]) ** 0.25
        scale = x.tensor(s[:, None, :] / s[:, :, None])
        return cls(left, right, x.tensor(x.at_least(norm2, 0.0)), None, grams[:, rank:, :rank] * scale, scale)


@dataclass
class Moved:
    """``g = 1 + P F Q'`` with ``g^-1 = 1 - P B Q'``; or, where that is no saving, ``g`` and ``g^-1`` themselves.

    Attributes:
        forth: ``F`` ``(R, r, r)``, or ``g`` ``(R, k, k)``.
        back: ``B``, or ``g^-1``.
        left: ``P`` ``(R, k, r)``; None where ``g`` is whole.
        right: ``Q``.
    """

    forth: Tensor
    back: Tensor
    left: Tensor | None = None
    right: Tensor | None = None

    def times(self, matrix: Tensor) -> Tensor:
        """``g matrix``."""
        if self.left is None or self.right is None:
            return product(self.forth, matrix)
        return plus_product(matrix, self.left, product(self.forth, product(self.right.mT, matrix)))

    def from_right(self, matrix: Tensor) -> Tensor:
        """``matrix g^-1``."""
        if self.left is None or self.right is None:
            return product(matrix, self.back)
        return plus_product(matrix, product(product(matrix, self.left), self.back), self.right.mT, -1.0)

    def inverse_transposed_times(self, matrix: Tensor) -> Tensor:
        """``g^-T matrix``."""
        if self.left is None or self.right is None:
            return product(self.back.mT, matrix)
        return plus_product(matrix, self.right, product(self.back.mT, product(self.left.mT, matrix)), -1.0)


def moved_by(direction: LowRank, factor: Tensor, retract: bool) -> Moved:
    """The element ``exp(factor T)`` (or its retraction) ``factor`` ``(R,)``; rows that have none are NaN."""
    by = factor[:, None, None]
    if direction.whole is not None:
        return Moved(*(cayley if retract else exponentials)(direction.whole * by))
    assert direction.inner is not None
    assert direction.scale is not None
    inner = direction.inner * by
    weight = by / direction.scale
    if retract:
        identity = _diagonal(1.0, inner.shape[1], inner.dtype, inner.device)
        forth, back = inverse_or_nan(identity - 0.5 * inner), inverse_or_nan(identity + 0.5 * inner)
        return Moved(forth * weight, back * weight, direction.left, direction.right)
    forth, back = (_phi(inner).unflatten(0, (2, -1)) * weight).unbind()
    return Moved(forth, back, direction.left, direction.right)


def cayley(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(1 - x/2)^-1 (1 + x/2)`` and its inverse, as `GL.retract` has them."""
    identity = _diagonal(1.0, x.shape[1], x.dtype, x.device)
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


def _phi(x: Tensor) -> Tensor:
    """``phi(x)`` and ``phi(-x)`` of ``(R, r, r)``, one after the other ``(2 R, r, r)``, from powers they share; by Taylor's
    polynomial, scaling and squaring."""
    scaled, exponent, norm = _scaled(x)
    powers = _Powers(scaled, norm)
    both = _either_sign(powers.sum(_SINH), product(scaled, powers.sum(_ODD)))
    if exponent is None:
        return both
    arguments = torch.cat([scaled, -scaled])
    for _, active in _squarings(exponent):  # phi(2 x) = phi(x) (1 + x phi(x) / 2)
        longer = plus_product(both, both, product(arguments, both), 0.5)
        both = longer if active is None else torch.where(active, longer, both)
        arguments = 2.0 * arguments if active is None else torch.where(active, 2.0 * arguments, arguments)
    return both


def exponentials(x: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(x)`` and ``exp(-x)`` of ``(R, k, k)``, from powers they share; rows that are not finite are NaN."""
    scaled, exponent, norm = _scaled(x)
    powers = _Powers(scaled, norm)
    both = _either_sign(powers.sum(_COSH), product(scaled, powers.sum(_SINH)))
    if exponent is not None:
        for _, active in _squarings(exponent):
            squared = product(both, both)
            both = squared if active is None else torch.where(active, squared, both)
    count = len(x)
    return both[:count], both[count:]


def _either_sign(even: Tensor, odd: Tensor) -> Tensor:
    """``even + odd`` and ``even - odd``, one after the other."""
    count = len(even)
    both = torch.empty(2 * count, *even.shape[1:], dtype=even.dtype, device=even.device)
    torch.add(even, odd, out=both[:count])
    torch.sub(even, odd, out=both[count:])
    return both


def _squarings(exponent: Tensor) -> Iterator[tuple[int, Tensor | None]]:
    """For every squaring, which of two such stacks of matrices need it; None: all."""
    exponents = exponent.tolist()
    for done in range(max(exponents)):
        if min(exponents) > done:
            yield done, None
        else:
            yield done, (done < torch.cat([exponent, exponent]))[:, None, None]


def _scaled(x: Tensor) -> tuple[Tensor, Tensor | None, Array]:
    """``x / 2^j`` with a norm that the polynomials are right for, ``j`` ``(R,)`` (None: all 0), and the Frobenius norm of
    ``x``; NaN where ``x`` is not finite or so large that no digit would be right."""
    arrays = arrays_of(x.device)
    entries = arrays.view(x)
    norm = arrays.inner(entries, entries) ** 0.5
    if arrays.all(norm <= _LARGEST_NORM):  # as steps mostly are; multiplying by one would change nothing
        return x, None, norm
    norms = arrays.tensor(norm)
    broken = ~(norms <= 1.0 / torch.finfo(norms.dtype).eps)
    exponent = torch.frexp(norms.masked_fill(broken, 0.0) / _LARGEST_NORM).exponent.clamp_min(0)
    factor = _POWERS.to(norms.device, norms.dtype)[exponent.to(torch.int64)].masked_fill(broken, torch.nan)
    return x * factor[:, None, None], exponent, norm


@lru_cache(maxsize=256)
def _diagonal(value: float, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``value`` times the identity; not to be written to."""
    return value * torch.eye(size, dtype=dtype, device=device)


class _Powers:
    """Even powers of ``x`` ``(R, r, r)``, and polynomials in ``x^2``.

    Rows of small norm need four terms of eight or nine; where all are such, the others are not computed, and elsewhere
    they are multiplied by zero for those rows, so that a row's bits depend on itself alone.
    """

    def __init__(self, x: Tensor, norm: Array) -> None:
        self._like = (x.shape[1], x.dtype, x.device)
        self._x2 = product(x, x)
        self._x4 = product(self._x2, self._x2)
        self._x6 = product(self._x4, self._x2)
        self._x8 = None
        arrays = arrays_of(x.device)
        far = norm > _SHORT_NORM
        if arrays.any(far):
            self._x8 = product(self._x4, self._x4)
            if not arrays.all(far):
                self._x8 = self._x8 * arrays.tensor(far).to(x.dtype)[:, None, None]

    def sum(self, c: list[float]) -> Tensor:
        """``c_0 + c_1 x^2 + ... `` up to ``x^16``."""
        total = self._low(c[:4])
        if self._x8 is None:
            return total
        high = self._low(c[4:]).add_(self._x8, alpha=c[8])
        return plus_product(total, self._x8, high)

    def _low(self, c: list[float]) -> Tensor:
        total = torch.add(_diagonal(c[0], *self._like), self._x2, alpha=c[1])
        return total.add_(self._x4, alpha=c[2]).add_(self._x6, alpha=c[3])
