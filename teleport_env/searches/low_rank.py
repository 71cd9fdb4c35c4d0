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

from teleport_env.groups.general_linear import GL
from teleport_env.groups.matrix import inverse_or_nan
from teleport_env.symmetries.networks import product

_LARGEST_NORM = 0.8  # |x|^16 / 18! stays below 2^-53 up to there
_SHORT_NORM = 0.05  # and |x|^8 / 10! up to here
_EVEN = [1.0 / math.factorial(2 * j + 1) for j in range(9)]  # of x^(2j) in phi
_ODD = [1.0 / math.factorial(2 * j + 2) for j in range(8)]  # of x^(2j + 1)


@dataclass
class LowRank:
    """``T = P Q'`` ``(R, k, k)``.

    Attributes:
        left: ``P`` ``(R, k, r)``.
        right: ``Q`` ``(R, k, r)``.
    """

    left: Tensor
    right: Tensor

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
        xi = product(left, direction.right.mT).flatten(1)
        group = GL(direction.left.shape[1])
        element = group.retract(xi) if retract else group.exp(xi)
        return Moved(whole=element, inverse=group.retract(-xi) if retract else group.inverse(element))
    inner = product(direction.right.mT, left)
    if retract:
        identity = torch.eye(inner.shape[1], dtype=inner.dtype, device=inner.device)
        forth, back = inverse_or_nan(identity - 0.5 * inner), inverse_or_nan(identity + 0.5 * inner)
    else:
        forth, back = _phi(inner)
    return Moved(a=product(left, forth), b=direction.right, p=left, c=product(direction.right, back.mT))


def moved_flops(size: int, rank: int, retract: bool) -> float:
    """Floating-point operations of `moved_by`."""
    if rank >= size:
        group = GL(size)
        return 2.0 * size * size * rank + (8.0 * size**3 if retract else group.exp_flops + 2.0 * size**3)
    return 6.0 * size * rank * rank + (4.0 if retract else 14.0) * rank**3


def times_flops(size: int, rank: int, columns: int) -> float:
    """Of one product of `Moved` with a matrix of so many columns (or rows)."""
    return 2.0 * size * columns * (size if rank >= size else 2 * rank)


def _phi(x: Tensor) -> tuple[Tensor, Tensor]:
    """``phi(x)`` and ``phi(-x)`` of ``(R, r, r)``, from powers they share; by Taylor's polynomial, scaling and squaring.

    What a row does not need is multiplied by zero for it, so that its bits depend on itself alone.
    """
    norm = x.abs().sum(1).amax(1)
    usable = norm <= 1.0 / torch.finfo(norm.dtype).eps
    exponent = torch.frexp(torch.where(usable, norm, 0.0) / _LARGEST_NORM).exponent.clamp_min(0)
    most = int(exponent.max()) if len(x) else 0
    if most:
        x = x * torch.ldexp(torch.ones_like(norm), -exponent)[:, None, None]
    long = bool((norm > _SHORT_NORM).any())
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    x2 = product(x, x)
    x4 = product(x2, x2)
    x6 = product(x4, x2)
    even = _EVEN[0] * identity + _EVEN[1] * x2 + _EVEN[2] * x4 + _EVEN[3] * x6
    odd = _ODD[0] * identity + _ODD[1] * x2 + _ODD[2] * x4 + _ODD[3] * x6
    if long:
        needs = (norm > _SHORT_NORM).to(x.dtype)[:, None, None]
        x8 = product(x4, x4) * needs
        high = _EVEN[4] * identity + _EVEN[5] * x2 + _EVEN[6] * x4 + _EVEN[7] * x6 + _EVEN[8] * x8
        even = even + product(x8, high)
        odd = odd + product(x8, _ODD[4] * identity + _ODD[5] * x2 + _ODD[6] * x4 + _ODD[7] * x6)
    odd = product(x, odd)
    forth, back = even + odd, even - odd
    for done in range(most):  # phi(2 x) = phi(x) (1 + x phi(x) / 2)
        active = (done < exponent)[:, None, None]
        longer_forth = forth + 0.5 * product(forth, product(x, forth))
        longer_back = back - 0.5 * product(back, product(x, back))
        forth, back = torch.where(active, longer_forth, forth), torch.where(active, longer_back, back)
        x = torch.where(active, 2.0 * x, x)
    blank = ~usable[:, None, None]
    return forth.masked_fill(blank, torch.nan), back.masked_fill(blank, torch.nan)
