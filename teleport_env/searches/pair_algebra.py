"""The best element for one pair of matrices, in closed form, and sweeps over the pairs of a chain.

``(V, U) -> (g V, U g^-1)`` is linear, so with ``S = g'g`` and the gradients ``G_V, G_U`` before the move

    |grad L(g.w)|^2 = tr(S^-1 a) + tr(S b) + rest,    a = G_V G_V',  b = G_U' G_U,

and the squared norm of the weights after the move is the same expression with ``a = U'U`` and ``b = V V'``. Every search
in a pair is thus about one function ``f(S) = tr(S^-1 a) + tr(S b)`` of a symmetric positive definite ``S``. Elements with
the same ``S`` differ by a rotation, which changes neither norm: we return the symmetric root ``g = S^(1/2)``, and bound the
eigenvalues of ``log g`` by the trust radius ``r``, those of ``log S`` by ``2 r``.

* **Minimum** (``balance_gradient``, ``balance_weights``). ``f`` is convex, and stationary where ``S b S = a``, the geometric
  mean of ``b^-1`` and ``a``. Given the eigenbasis of ``S``, ``f`` separates into ``a_ii exp(-x_i) + b_ii exp(x_i)`` with
  ``x`` the eigenvalues of ``log S``, so ``x_i = log(a_ii / b_ii) / 2``, clamped to the trust region: the exact minimum where
  that is inside, and the exact minimum over the box *in this basis* where it is not. It never lies above ``f(1)``,
  whatever rounding did to the basis. Where ``a`` or ``b`` lacks full rank the infimum lies at infinity and the box decides.
* **Maximum** (``gradient_norm``). A convex function on the convex set ``exp(-2r) <= S <= exp(2r)`` is largest at an extreme
  point, ``S = exp(2r) Q + exp(-2r) (1 - Q)`` with an orthogonal projector ``Q``; then
  ``f = const + 2 sinh(2r) tr(Q (b - a))``, so ``Q`` is the projector on the eigenvectors of ``b - a`` with positive
  eigenvalues: the *global* maximum in the trust region, ``cosh(2r) tr(a + b) + sinh(2r) |b - a|_nuclear``.
* **Bounded ascent** (``relative``). ``log g = r c^(-1/2) (b - a) c^(-1/2)`` with ``c = a + b``, whose eigenvalues lie in
  ``[-r, r]``; elementwise ``log d_i = r (b_i - a_i) / (a_i + b_i)`` for scalings. ``f`` increases along it: its derivative
  at 0 is not negative, and ``t -> f(exp(t X))`` is convex. Unlike the gradient it does not depend on the loss's scale.

For positive scalings ``S`` is diagonal, ``a`` and ``b`` are vectors, and all of this holds unit by unit; the minimum is then
exact in the box, and for the weights it is ``d_i = sqrt(|U_i| / |V_i|)``.

Everything is row-independent bit for bit in float64, `torch.linalg.eigh` included: LAPACK takes the matrices one by one
(measured for k = 1 to 64; tests/searches/test_pair_algebra.py repeats it). Minima of matrices with up to eight rows come
from a kernel (``teleport_env/native/balances.inc``), a few at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.arrays import TINY, TORCH, Array, Arrays, arrays_of
from teleport_env.groups.base import Group, single, where
from teleport_env.ledger import Counts
from teleport_env.native import KERNELS
from teleport_env.searches.base import Start
from teleport_env.symmetries.base import Pair, Symmetry
from teleport_env.symmetries.networks import product
from teleport_env.symmetries.pairs import gram_matrices

PAIR_OBJECTIVES = ("balance_weights", "balance_gradient", "gradient_norm", "relative")

# Multiples of k^3 of what follows for one matrix pair: a symmetric eigendecomposition with vectors takes 9, a product 2, a
# Cholesky factor 1/3, a triangular solve 1 (Golub and Van Loan, Matrix Computations, 2013).
_SPECTRUM_FLOPS = {
    "balance_weights": 1 / 3 + 2 * 2 + 9 + 1 + 2 + 9 + 2 * 2,
    "balance_gradient": 1 / 3 + 2 * 2 + 9 + 1 + 2 + 9 + 2 * 2,
    "gradient_norm": 9.0,
    "relative": 9 + 2 + 2 * 2 + 9,
}
_ELEMENT_FLOPS = 2 * 2.0
# Of one pair and sweep after the first: the earlier element undone on two Gram matrices, the new one applied to them to
# see whether it is better, and two products of elements.
_REVISIT_PRODUCTS = 2 * 2 + 2 * 2 + 2


@dataclass
class Spectrum:
    """A symmetric positive definite ``S = Q diag(exp(x)) Q'`` per row.

    Attributes:
        log: ``x`` ``(R, k)``.
        basis: ``Q`` ``(R, k, k)``, or None for a diagonal ``S``.
    """

    log: Tensor
    basis: Tensor | None

    def function(self, values: Tensor) -> Tensor:
        """``Q diag(values) Q'`` ``(R, k, k)``, or ``values`` ``(R, k)`` for a diagonal ``S``."""
        if self.basis is None:
            return values
        return product(self.basis * values[:, None, :], self.basis.mT)

    def element(self) -> Tensor:
        """``g = S^(1/2)``."""
        return self.function(torch.exp(0.5 * self.log))

    def inverse(self) -> Tensor:
        """``g^-1``."""
        return self.function(torch.exp(-0.5 * self.log))

    def log_element(self) -> Tensor:
        """``log g``."""
        return self.function(0.5 * self.log)


def grams(pair: Pair, diagonal: bool) -> tuple[Tensor, Tensor]:
    """``V V'`` and ``U' U`` ``(R, k, k)``, or their diagonals ``(R, k)``, of a pair of weights or of gradients."""
    if diagonal:
        return pair.lower.square().sum(dim=2), pair.upper.square().sum(dim=1)
    return gram_matrices(pair)


def solve(objective: str, a: Tensor, b: Tensor, radius: float) -> Spectrum:
    """The best ``S`` for ``f(S) = tr(S^-1 a) + tr(S b)``: least for the balances, largest otherwise.

    Args:
        objective: One of `PAIR_OBJECTIVES`.
        a, b: ``(R, k, k)`` symmetric, positive semidefinite, or their diagonals ``(R, k)`` for scalings.
        radius: Bound on the eigenvalues of ``log g``.

    Returns:
        ``S``; a row that is not finite has NaN logarithms and leaves the others alone.
    """
    if a.ndim == 2:
        xp = arrays_of(a.device)
        with xp.quiet():
            return Spectrum(xp.tensor(scaling_logs(xp, objective, xp.view(a), xp.view(b), radius)), None)
    if objective == "gradient_norm":
        return _maximum(a, b, radius)
    if objective == "relative":
        return _relative(a, b, radius)
    return _minimum(a, b, radius)


def size_of(group: Group) -> int:
    """``k`` of a group of all metrics, whose coordinates are ``k x k`` matrices; 0 for a diagonal one, which is free."""
    return math.isqrt(group.dim) if group.metrics == "all" else 0


def solve_flops(objective: str, group: Group) -> float:
    """Floating-point operations of `solve` and of ``g`` and ``g^-1`` for one pair; for scaling ``O(n)``, free."""
    return (_SPECTRUM_FLOPS[objective] + _ELEMENT_FLOPS) * size_of(group) ** 3


def scaling_logs(xp: Arrays, objective: str, a: Array, b: Array, radius: float) -> Array:
    """`solve` for scalings: the logarithms of ``S`` ``(R, k)`` of arrays."""
    if objective == "gradient_norm":
        return 2.0 * radius * xp.sign(b - a)
    tiny = TINY[a.dtype]
    if objective == "relative":
        return 2.0 * radius * (b - a) / xp.at_least(a + b, tiny)
    ratio = (a + tiny) / (b + tiny)  # of two zeros: 1
    return xp.at_most(xp.at_least(0.5 * xp.log(ratio), -2.0 * radius), 2.0 * radius)


def _size(matrix: Tensor) -> Tensor:
    """Largest entry of each matrix ``(R, 1, 1)``, to divide by."""
    return matrix.abs().amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)


def _is_finite(matrix: Tensor) -> Tensor:
    """Whether all entries are, ``(R,)``; a maximum takes less time than `torch.isfinite`, and a NaN stays in it."""
    return matrix.abs().amax(dim=(1, 2)) < torch.inf


def eigh_or_nan(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`torch.linalg.eigh`, which raises for the whole batch if one matrix is not finite; here that row is NaN."""
    finite = _is_finite(matrix)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, identity))
    return torch.where(finite[:, None], values, torch.nan), vectors


def _maximum(a: Tensor, b: Tensor, radius: float) -> Spectrum:
    values, basis = eigh_or_nan((b - a) / _size(a + b))
    # Directions in which rounding alone decides the sign have no gradient to gain: leave them where they are.
    noise = 8.0 * a.shape[-1] * torch.finfo(a.dtype).eps
    sign = torch.where(values.abs() <= noise, torch.zeros_like(values), TORCH.sign(values))
    return Spectrum(2.0 * radius * sign, basis)


def _relative(a: Tensor, b: Tensor, radius: float) -> Spectrum:
    size = _size(a + b)
    values, vectors = eigh_or_nan((a + b) / size)
    # Where a + b is zero so is b - a; the floor keeps 0 / 0 out and the quotient below 1.
    floor = 64.0 * torch.finfo(a.dtype).eps
    root = vectors * torch.rsqrt(values.clamp_min(floor))[:, None, :]
    # In the eigenbasis of c: c^(-1/2) (b - a) c^(-1/2) = vectors (root' (b - a) root) vectors'.
    inner, rotation = eigh_or_nan(product(root.mT, product((b - a) / size, root)))
    return Spectrum(2.0 * radius * inner.clamp(-1.0, 1.0), product(vectors, rotation))


def _minimum(a: Tensor, b: Tensor, radius: float) -> Spectrum:
    found = None if KERNELS is None else KERNELS.balances(a.contiguous(), b.contiguous(), 2.0 * radius)
    if found is not None:
        return Spectrum(found[0], found[1].view(a.shape))
    eps, tiny = torch.finfo(a.dtype).eps, torch.finfo(a.dtype).tiny
    # The eigenbasis of S does not depend on the scales of a and b, so each is taken in its own.
    size_a, size_b = _size(a), _size(b)
    scaled_a, scaled_b = a / size_a, b / size_b
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    # With b = K K' and c = K' a K:  S = K^-T c^(1/2) K^-1  solves  S b S = a. The ridge lets a rank-deficient b pass.
    # Where a lacks rank, eigenvalues of c would be rounding without it, and their roots, 1e-8, would turn the basis.
    ridge = 64.0 * a.shape[-1] * eps * identity
    lower, info = torch.linalg.cholesky_ex(scaled_b + ridge)
    lower = torch.where((info == 0)[:, None, None], lower, torch.nan)
    values, vectors = eigh_or_nan(product(lower.mT, product(scaled_a + ridge, lower)))
    safe = torch.where(_is_finite(lower)[:, None, None], lower, identity)
    turned = torch.linalg.solve_triangular(safe.mT, vectors, upper=True)
    mean = product(turned * torch.sqrt(values.clamp_min(0.0))[:, None, :], turned.mT)
    certain, basis = eigh_or_nan(mean / _size(mean))
    along_a = (basis * product(scaled_a, basis)).sum(dim=1) + 4.0 * eps
    along_b = (basis * product(scaled_b, basis)).sum(dim=1) + 4.0 * eps
    log = torch.log(along_a.clamp_min(tiny)) - torch.log(along_b.clamp_min(tiny))
    log = log + (torch.log(size_a) - torch.log(size_b))[:, :, 0]
    log = (0.5 * log).clamp(-2.0 * radius, 2.0 * radius)
    return Spectrum(torch.where(torch.isfinite(certain), log, torch.nan), basis)


@dataclass(frozen=True)
class Sweeps:
    """Passes ``count`` over a chain for one of `PAIR_OBJECTIVES`, within ``trust_radius`` on each pair's ``log g``."""

    objective: str
    trust_radius: float
    count: int

    @property
    def on_weights(self) -> bool:
        """Whether the norm at stake is that of the weights, and not of the gradient."""
        return self.objective == "balance_weights"

    @property
    def sign(self) -> float:
        """1 where the norm is to grow, else -1."""
        return 1.0 if self.objective in ("gradient_norm", "relative") else -1.0

    def count_of(self, pairs: int) -> int:
        """Sweeps over so many pairs: one suffices for one."""
        return self.count if pairs > 1 else 1

    def flops(self, symmetry: Symmetry) -> float:
        """Floating-point operations of `run` for one run."""
        return sum(self._flops(symmetry, sweep) for sweep in range(self.count_of(len(symmetry.group.factors))))

    def _flops(self, symmetry: Symmetry, sweep: int) -> float:
        """Two Gram matrices per pair and moving the two matrices: each as many products as one gradient carried over."""
        flops = 2.0 * symmetry.gradient_flops
        for factor in symmetry.group.factors:
            flops += solve_flops(self.objective, factor)
            if sweep > 0:
                flops += 2.0 * _REVISIT_PRODUCTS * size_of(factor) ** 3
        return flops

    def run(self, start: Start, symmetry: Symmetry, vector: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The element of every pair and its inverse; charged `flops`; moves ``vector`` ``(R, P)`` there in place."""
        groups = symmetry.group.factors
        # views: moving one pair moves what its neighbours see
        views = [] if symmetry.gathered else symmetry.pairs(vector, start.instance)
        found: list[tuple[Tensor, Tensor] | None] = [None] * len(groups)
        for sweep in range(self.count_of(len(groups))):
            start.evaluator.charge(Counts(flops=self._flops(symmetry, sweep)))
            for index, group in enumerate(groups):
                pair = symmetry.pair_at(index, vector, start.instance) if symmetry.gathered else views[index]
                found[index] = self._improve(group, pair, found[index])
                symmetry.put_pair(index, pair, vector)
        return [entry for entry in found if entry is not None]

    def _improve(self, group: Group, pair: Pair, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The best ``(g, g^-1)`` of one pair, counted from the start; moves ``pair`` there from ``before``, in place."""
        diagonal, on_weights = group.metrics == "diagonal", self.on_weights
        below, above = grams(pair, diagonal)
        a, b = (above, below) if on_weights else (below, above)  # the coefficients of S^-1 and S
        if before is None:
            spectrum = solve(self.objective, a, b, self.trust_radius)
            element, inverse = spectrum.element(), spectrum.inverse()
            forward, backward = element, inverse
        else:
            here = _trace(a) + _trace(b)
            a, b = _between(before[0], a), _between(before[1], b)  # as they would be with this pair where it started
            spectrum = solve(self.objective, a, b, self.trust_radius)
            element, inverse = spectrum.element(), spectrum.inverse()
            if self.sign < 0:
                # The trust region's minimum is known in one basis only, and may lie above what another sweep found.
                there = _trace(_between(inverse, a)) + _trace(_between(element, b))
                worse = there > here
                element, inverse = single(where(worse, before[0], element)), single(where(worse, before[1], inverse))
            # from `before` to here, for the lower weights: h = g g_before^-1, and for the upper ones h^-1 from the right
            forward, backward = _product(element, before[1]), _product(before[0], inverse)
        if diagonal:
            left, right = (forward, backward) if on_weights else (backward, forward)
            pair.lower.mul_(left[:, :, None])
            pair.upper.mul_(right[:, None, :])
            return element, inverse
        # gradients move by h^-T and h^T
        left, right = (forward, backward) if on_weights else (backward.mT, forward.mT)
        pair.lower.copy_(product(left, pair.lower))
        pair.upper.copy_(product(pair.upper, right))
        return element, inverse


def _between(outer: Tensor, inner: Tensor) -> Tensor:
    """``outer inner outer`` for symmetric matrices, or diagonals."""
    return _product(outer, _product(inner, outer))


def _trace(matrix: Tensor) -> Tensor:
    """``(R,)`` of matrices ``(R, k, k)``, or of diagonals ``(R, k)``."""
    return (torch.diagonal(matrix, dim1=1, dim2=2) if matrix.ndim == 3 else matrix).contiguous().sum(dim=1)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Of two matrices, or of two diagonals."""
    return product(first, second) if first.ndim == 3 else first * second
