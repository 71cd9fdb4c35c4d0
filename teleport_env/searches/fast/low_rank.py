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

from teleport_env.arrays import TINY, Array, Arrays
from teleport_env.groups.matrix import inverse_or_nan

_LARGEST_NORM = 0.8  # |x|^16 / 18! stays below 2^-53 up to there
_SHORT_NORM = 0.05  # and |x|^8 / 10! up to here
_COSH = [1.0 / math.factorial(2 * j) for j in range(9)]  # of x^(2j) in cosh x,
_SINH = [1.0 / math.factorial(2 * j + 1) for j in range(9)]  # in sinh x / x, which is the even part of phi,
_ODD = [1.0 / math.factorial(2 * j + 2) for j in range(9)]  # and in the odd part of phi, over x


@dataclass
class LowRank:
    """``T = P Q'`` ``(R, k, k)``, in arrays (`teleport_env.arrays`) as everything here.

    Attributes:
        left: ``P`` ``(R, k, r)``.
        right: ``Q`` ``(R, k, r)``.
        norm2: The squared Frobenius norm of ``T``, ``(R,)``.
        whole: ``T`` itself where its rank is no smaller than its size, else None.
        inner: Matrix ``N = S^-1 Q'P S`` ``(R, r, r)``, about as small as ``T``: with the diagonal ``S`` for which the
            columns of ``P S`` and of ``Q S^-1`` have equal norms.
        scale: ``s_j / s_i`` ``(R, r, r)``.
    """

    xp: Arrays
    left: Array
    right: Array
    norm2: Array
    whole: Array | None = None
    inner: Array | None = None
    scale: Array | None = None

    @classmethod
    def of(cls, xp: Arrays, sides: Array) -> LowRank:
        """The matrix ``P Q'`` of ``sides``, ``P`` and ``Q`` side by side ``(R, k, 2 r)``."""
        size, rank = sides.shape[1], sides.shape[2] // 2
        left, right = sides[:, :, :rank], sides[:, :, rank:]
        if rank >= size:
            whole = xp.product(left, right.swapaxes(1, 2))
            return cls(xp, left, right, xp.inner(whole, whole), whole)
        grams = xp.product(sides.swapaxes(1, 2), sides)  # of P and Q with themselves and each other
        norm2 = xp.at_least(xp.inner(grams[:, :rank, :rank], grams[:, rank:, rank:]), 0.0)  # tr(P'P Q'Q)
        sizes = xp.at_least(xp.diagonal(grams, 0, 1, 2), TINY[sides.dtype])
        s = ((sizes[:, rank:] / sizes[:, :rank]) ** 0.5) ** 0.5
        scale = s[:, None, :] / s[:, :, None]
        return cls(xp, left, right, norm2, None, grams[:, rank:, :rank] * scale, scale)


@dataclass
class Moved:
    """``g = 1 + P F Q'`` with ``g^-1 = 1 - P B Q'``; or, where that is no saving, ``g`` and ``g^-1`` themselves.

    ``forth`` is ``F`` ``(R, r, r)`` or ``g`` ``(R, k, k)``, ``back`` is ``B`` or ``g^-1``; ``left`` and ``right`` are ``P``
    and ``Q`` ``(R, k, r)``, None where ``g`` is whole.
    """

    xp: Arrays
    forth: Array
    back: Array
    left: Array | None = None
    right: Array | None = None

    def times(self, matrix: Array) -> Array:
        """``g matrix``."""
        xp = self.xp
        if self.left is None or self.right is None:
            return xp.product(self.forth, matrix)
        inside = xp.product(self.right.swapaxes(1, 2), matrix)
        return xp.plus_product(matrix, self.left, xp.product(self.forth, inside))

    def from_right(self, matrix: Array) -> Array:
        """``matrix g^-1``."""
        xp = self.xp
        if self.left is None or self.right is None:
            return xp.product(matrix, self.back)
        inside = xp.product(xp.product(matrix, self.left), self.back)
        return xp.plus_product(matrix, inside, self.right.swapaxes(1, 2), -1.0)


def moved_by(direction: LowRank, factor: Array, retract: bool) -> Moved:
    """The element ``exp(factor T)`` (or its retraction) ``factor`` ``(R,)``; rows that have none are NaN."""
    xp, by = direction.xp, factor[:, None, None]
    if direction.whole is not None:
        return Moved(xp, *(cayley if retract else exponentials)(xp, direction.whole * by))
    assert direction.inner is not None
    inner = direction.inner * by
    weight = by / direction.scale
    if retract:
        forth, back = (_inverse(xp, inner, sign) for sign in (-0.5, 0.5))
    else:
        forth, back = exponentials(xp, inner, phi=True)
    return Moved(xp, forth * weight, back * weight, direction.left, direction.right)


def _inverse(xp: Arrays, matrix: Array, by: float) -> Array:
    """``(1 + by matrix)^-1``."""
    return xp.view(inverse_or_nan(xp.tensor(_diagonal(xp, 1.0, matrix) + by * matrix)))


def cayley(xp: Arrays, matrix: Array) -> tuple[Array, Array]:
    """``(1 - m/2)^-1 (1 + m/2)`` and its inverse, as `GL.retract` has them."""
    identity = _diagonal(xp, 1.0, matrix)
    return 2.0 * _inverse(xp, matrix, -0.5) - identity, 2.0 * _inverse(xp, matrix, 0.5) - identity


def moved_flops(size: int, rank: int, retract: bool) -> float:
    """Floating-point operations of `moved_by`."""
    if rank >= size:
        return 2.0 * size * size * rank + (8.0 if retract else 11.0) * size**3
    return 6.0 * size * rank * rank + (4.0 if retract else 11.0) * rank**3


def times_flops(size: int, rank: int, columns: int) -> float:
    """Of one product of `Moved` with a matrix of so many columns (or rows)."""
    return 2.0 * size * columns * (size if rank >= size else 2 * rank)


def exponentials(xp: Arrays, matrix: Array, phi: bool = False) -> tuple[Array, Array]:
    """``exp(m)`` and ``exp(-m)`` of ``(R, k, k)``, or with ``phi`` ``phi(m)`` and ``phi(-m)``, from powers they share.

    By Taylor's polynomial, scaling and squaring; rows that are not finite are NaN.
    """
    scaled, exponent, norm = _scaled(xp, matrix)
    powers = _Powers(xp, scaled, norm)
    even_terms, odd_terms = (_SINH, _ODD) if phi else (_COSH, _SINH)
    even, odd = powers.sum(even_terms), xp.product(scaled, powers.sum(odd_terms))
    forth, back = even + odd, even - odd
    if exponent is None:
        return forth, back
    both, arguments = xp.concatenate([forth, back], 0), xp.concatenate([scaled, -scaled], 0)
    for active in _squarings(xp, exponent):
        if phi:  # phi(2 m) = phi(m) (1 + m phi(m) / 2)
            longer = xp.plus_product(both, both, xp.product(arguments, both), 0.5)
            arguments = 2.0 * arguments if active is None else xp.where(active, 2.0 * arguments, arguments)
        else:
            longer = xp.product(both, both)
        both = longer if active is None else xp.where(active, longer, both)
    return both[: len(matrix)], both[len(matrix) :]


def _squarings(xp: Arrays, exponent: Array) -> Iterator[Array | None]:
    """For every squaring, which of two such stacks of matrices need it; None: all."""
    exponents = exponent.tolist()
    for done in range(max(exponents)):
        needed = None if min(exponents) > done else done < exponent
        yield None if needed is None else xp.concatenate([needed, needed], 0)[:, None, None]


def _scaled(xp: Arrays, matrix: Array) -> tuple[Array, Array | None, Array]:
    """``m / 2^j``, ``j`` ``(R,)`` (None: all 0), and the Frobenius norm of ``m``; NaN where no digit would be right."""
    norm = xp.inner(matrix, matrix) ** 0.5
    if bool((norm <= _LARGEST_NORM).all()):  # as steps mostly are; multiplying by one would change nothing
        return matrix, None, norm
    sound = norm <= 1.0 / _EPS[matrix.dtype]
    exponent = xp.frexp(xp.where(sound, norm, 0.0) / _LARGEST_NORM)[1]
    exponent = xp.where(exponent < 0, 0 * exponent, exponent)
    factor = xp.where(sound, xp.negative_powers(exponent), math.nan)
    return matrix * xp.like(factor, matrix)[:, None, None], exponent, norm


_EPS = {precision: 2.0 ** (-52 if tiny < 1e-100 else -23) for precision, tiny in TINY.items()}


@lru_cache(maxsize=256)
def _identity(value: float, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return value * torch.eye(size, dtype=dtype, device=device)


def _diagonal(xp: Arrays, value: float, like: Array) -> Array:
    """``value`` times the identity; not to be written to."""
    tensor = xp.tensor(like)
    return xp.view(_identity(value, tensor.shape[1], tensor.dtype, tensor.device))


class _Powers:
    """Even powers of ``m`` ``(R, r, r)``, and polynomials in ``m^2``.

    Rows of small norm need four terms of nine; the others are zero there, so that a row's bits depend on itself alone.
    """

    def __init__(self, xp: Arrays, matrix: Array, norm: Array) -> None:
        self._xp = xp
        self._m2 = xp.product(matrix, matrix)
        self._m4 = xp.product(self._m2, self._m2)
        self._m6 = xp.product(self._m4, self._m2)
        self._m8 = None
        far = norm > _SHORT_NORM
        if bool(far.any()):
            self._m8 = xp.product(self._m4, self._m4)
            if not bool(far.all()):
                self._m8 = xp.where(far[:, None, None], self._m8, 0.0)

    def sum(self, c: list[float]) -> Array:
        """``c_0 + c_1 m^2 + ... `` up to ``m^16``."""
        total = self._low(c[:4])
        if self._m8 is None:
            return total
        return self._xp.plus_product(total, self._m8, self._low(c[4:]) + c[8] * self._m8)

    def _low(self, c: list[float]) -> Array:
        total = c[1] * self._m2
        total += _diagonal(self._xp, c[0], total)
        total += c[2] * self._m4
        total += c[3] * self._m6
        return total
