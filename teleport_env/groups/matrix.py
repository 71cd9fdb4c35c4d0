"""What groups of matrices share: storage, product, inverse and the matrix exponential.

Everything here is row-independent bit for bit in float64. That is why the exponential is written out: the routine of
torch treats one matrix differently from several, and picks its degree from the whole batch. Here the degree of the
Taylor polynomial is fixed and only the number of squarings differs, chosen for each row from that row's norm (scaling
and squaring, Higham, *Functions of Matrices*, 2008, ch. 10; the polynomial is evaluated as by Paterson and Stockmeyer,
1973).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, single
from teleport_env.native import KERNELS

_COEFFICIENTS = [1.0 / math.factorial(j) for j in range(17)]
_POLYNOMIAL_PRODUCTS = 6  # in blocks of four: three products for the powers, three for the blocks
# The polynomial's relative error |X|^16 / 17! is below 2^-53 up to this 1-norm.
_LARGEST_NORM = 0.8
_COUNTED_SQUARINGS = 3


def exponential_flops(n: int) -> float:
    """Floating-point operations of the exponential of one ``n x n`` matrix: ``2 n^3`` a product, nine products.

    Six are made for every matrix and ``max(0, ceil(log2(|A|_1 / 0.8)))`` are squarings. A price must be known before the
    element is, so three squarings are counted: right for 1-norms between 3.2 and 6.4, up to three products too many
    below, and one too few for each doubling above.
    """
    return 2.0 * n**3 * (_POLYNOMIAL_PRODUCTS + _COUNTED_SQUARINGS)


def matrix_exponential(matrix: Tensor) -> Tensor:
    """The exponential of ``(B, n, n)`` matrices, row by row; any number of times differentiable.

    The exponential of zero is exactly the identity. The relative error grows as ``eps |A|``, the condition of the problem
    itself: below 1e-14 for rotations by an angle of ten pi. Rows that are not finite, or whose 1-norm exceeds
    ``1 / eps`` so that no digit of the result would be right, come back as NaN.
    """
    count, n, _ = matrix.shape
    squarings, scale = _squarings(matrix.detach())
    x = matrix * scale[:, None, None]
    x2 = x @ x
    x3 = x2 @ x
    x4 = x2 @ x2
    identity = torch.eye(n, dtype=matrix.dtype, device=matrix.device)

    def block(start: int) -> Tensor:
        c = _COEFFICIENTS[start : start + 4]
        return c[0] * identity + c[1] * x + c[2] * x2 + c[3] * x3

    result = block(12) + _COEFFICIENTS[16] * x4
    for start in (8, 4, 0):
        result = block(start) + x4 @ result
    for done in range(int(squarings.max()) if count else 0):
        result = torch.where((done < squarings)[:, None, None], result @ result, result)
    return result


def _squarings(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the number of squarings ``(B,)`` int32 and the power of two ``(B,)`` that undoes them, or NaN."""
    norm = matrix.abs().sum(dim=-2).amax(dim=-1)
    usable = norm <= 1.0 / torch.finfo(norm.dtype).eps  # false for NaN
    exponent = torch.frexp(norm / _LARGEST_NORM).exponent.clamp_min(0)
    squarings = torch.where(usable, exponent, torch.zeros_like(exponent))
    # A table, because powers computed by pow need not be exact, and only exact ones scale without rounding.
    powers = torch.tensor([2.0**-j for j in range(64)], dtype=norm.dtype, device=norm.device)
    scale = powers[squarings.to(torch.int64)]
    return squarings, torch.where(usable, scale, torch.full_like(scale, torch.nan))


def inverse_or_nan(matrix: Tensor) -> Tensor:
    """The inverse of ``(B, n, n)`` matrices; numerically singular ones are NaN and nothing is raised.

    Numerically singular: the factorization met a zero pivot, the result is not finite, or the condition number in the
    1-norm exceeds ``1 / eps``, which leaves the inverse without a right digit.
    """
    if KERNELS is not None and not matrix.requires_grad:
        found = KERNELS.inverses(matrix)  # of small ones, at a tenth of LAPACK's time
        if found is not None:
            return found.view(matrix.shape)
    inverse, info = torch.linalg.inv_ex(matrix)
    with torch.no_grad():
        condition = matrix.abs().sum(dim=-2).amax(dim=-1) * inverse.abs().sum(dim=-2).amax(dim=-1)
        regular = (info == 0) & (condition <= 1.0 / torch.finfo(matrix.dtype).eps)
    return torch.where(regular[:, None, None], inverse, torch.full_like(inverse, torch.nan))


class MatrixGroup(Group):
    """A group whose elements are ``(B, n, n)`` matrices, composed by their product."""

    n: int

    def identity(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        return torch.eye(self.n, dtype=dtype, device=device).repeat(count, 1, 1)

    def compose(self, second: Element, first: Element) -> Tensor:
        return single(second) @ single(first)

    def as_matrices(self, element: Element) -> Tensor:
        return single(element)
