"""Closed forms on one pair of matrices, against derivatives and random elements."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from teleport_env.native import KERNELS
from teleport_env.random import Streams
from teleport_env.searches import pair_algebra
from teleport_env.searches.pair_algebra import PAIR_OBJECTIVES, Spectrum, grams, solve
from teleport_env.symmetries.base import Pair

RADIUS = 0.7
BALANCES = ("balance_gradient", "balance_weights")


def random_grams(count: int, k: int, m: int, p: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``V V'`` and ``U'U`` of normal matrices, of rank ``min(k, m)`` and ``min(k, p)``."""
    streams = Streams.from_seeds([seed + row for row in range(count)])
    return grams(Pair(streams.normal((k, m)), 0.3 * streams.normal((p, k))), diagonal=False)


def value(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """``f(S) = tr(S^-1 a) + tr(S b)``."""
    return (torch.linalg.inv(s) * a).sum((1, 2)) + (s * b).sum((1, 2))


def matrix(spectrum: Spectrum) -> Tensor:
    return spectrum.function(torch.exp(spectrum.log))


def random_in_trust_region(count: int, k: int, radius: float, seed: int) -> Tensor:
    """Random ``S`` with eigenvalues of ``log S`` in ``[-2r, 2r]``, half of them at the bounds."""
    streams = Streams.from_seeds([seed + row for row in range(count)])
    basis = torch.linalg.qr(streams.normal((k, k)))[0]
    inner = streams.uniform(-2 * radius, 2 * radius, (k,))
    ends = 2 * radius * streams.sign((k,))
    log = torch.where(torch.arange(count)[:, None] % 2 == 0, ends, inner)
    return torch.bmm(basis * torch.exp(log)[:, None, :], basis.mT)


@pytest.mark.parametrize("objective", BALANCES)
def test_the_minimum_is_the_geometric_mean(objective: str) -> None:
    a, b = random_grams(5, 4, 7, 6)
    s = matrix(solve(objective, a, b, radius=50.0))
    torch.testing.assert_close(s @ b @ s, a, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")
@pytest.mark.parametrize(
    "shape", [(1, 3, 2), (3, 5, 4), (6, 7, 6), (8, 8, 9), (6, 4, 7), (6, 7, 4), (6, 4, 4), (8, 1, 2)]
)
def test_the_kernel_finds_a_minimum_as_low_as_lapacks(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = random_grams(203, *shape)
    found = solve("balance_gradient", a, b, RADIUS)
    least = value(a, b, matrix(found))
    monkeypatch.setattr(pair_algebra, "KERNELS", None)
    wanted = solve("balance_gradient", a, b, RADIUS)
    off = torch.log(least / value(a, b, matrix(wanted)))
    if shape[0] > min(shape[1:]):  # the bound decides in a basis that depends on rounding
        assert float(off.abs().max()) < 0.1
        assert abs(float(off.mean())) < 2e-3
    else:
        assert float(off.abs().max()) < 1e-10
        torch.testing.assert_close(found.log.sort().values, wanted.log.sort().values, rtol=0.0, atol=1e-6)
    identity = torch.eye(shape[0], dtype=a.dtype).expand_as(a)
    assert found.basis is not None
    torch.testing.assert_close(found.basis.mT @ found.basis, identity, rtol=0.0, atol=1e-14)


def test_without_full_rank_neither_matrix_is_treated_apart() -> None:
    """Regression: a ridge on one of them alone left eigenvalues of rounding, so that minima were percents too high."""
    a, b = random_grams(200, 6, 2, 2)
    one, other = (value(*both, matrix(solve("balance_gradient", *both, RADIUS))) for both in ((a, b), (b, a)))
    assert abs(float(torch.log(one / other).mean())) < 2e-3


@pytest.mark.parametrize("objective", BALANCES)
def test_the_minimum_is_stationary(objective: str) -> None:
    a, b = random_grams(5, 4, 7, 6)
    s = matrix(solve(objective, a, b, radius=50.0)).requires_grad_(True)
    (slope,) = torch.autograd.grad(value(a, b, s).sum(), s)
    assert float(slope.abs().max()) < 1e-10 * float(b.abs().max())
    at_identity = torch.eye(4, dtype=a.dtype).expand_as(a).clone().requires_grad_(True)
    (other,) = torch.autograd.grad(value(a, b, at_identity).sum(), at_identity)
    assert float(other.abs().max()) > 1e-2  # and elsewhere it is not


@pytest.mark.parametrize("shape", [(4, 7, 6), (4, 2, 6), (4, 7, 1), (4, 1, 1), (1, 3, 2)])
@pytest.mark.parametrize("radius", [0.1, RADIUS, 5.0])
@pytest.mark.parametrize("objective", PAIR_OBJECTIVES)
def test_no_objective_worsens_also_without_full_rank(
    objective: str, radius: float, shape: tuple[int, int, int]
) -> None:
    a, b = random_grams(6, *shape)
    spectrum = solve(objective, a, b, radius)
    before = a.diagonal(dim1=1, dim2=2).sum(1) + b.diagonal(dim1=1, dim2=2).sum(1)
    after = value(a, b, matrix(spectrum))
    assert bool((spectrum.log.abs() <= 2 * radius + 1e-15).all())
    assert bool(((after < before) if objective in BALANCES else (after > before)).all())


def test_the_maximum_is_global_in_the_trust_region() -> None:
    a, b = random_grams(1, 3, 5, 4)
    best = value(a, b, matrix(solve("gradient_norm", a, b, RADIUS)))
    tried = random_in_trust_region(4000, 3, RADIUS, seed=7)
    values = value(a.expand_as(tried), b.expand_as(tried), tried)
    assert float(values.max()) <= float(best) * (1.0 + 1e-14)  # some of the sample are the maximum, but for rounding
    assert float(values.max()) > 0.9 * float(best)  # the sample came near: the bound is not slack
    nuclear = torch.linalg.eigvalsh(b - a).abs().sum()
    trace = a.diagonal(dim1=1, dim2=2).sum() + b.diagonal(dim1=1, dim2=2).sum()
    expected = math.cosh(2 * RADIUS) * trace + math.sinh(2 * RADIUS) * nuclear
    torch.testing.assert_close(best[0], expected, rtol=1e-12, atol=0.0)


def test_the_unbounded_minimum_beats_random_elements() -> None:
    a, b = random_grams(1, 3, 5, 4)
    best = value(a, b, matrix(solve("balance_gradient", a, b, 50.0)))
    tried = random_in_trust_region(4000, 3, 2.0, seed=11)
    assert float(value(a.expand_as(tried), b.expand_as(tried), tried).min()) >= float(best)


@pytest.mark.parametrize("objective", ["gradient_norm", *BALANCES])
def test_scalings_beat_every_random_scaling_in_the_trust_region(objective: str) -> None:
    streams = Streams.from_seeds(list(range(5)))
    a, b = streams.uniform(0.1, 3.0, (6,)), streams.uniform(0.0, 30.0, (6,))
    sign = 1.0 if objective == "gradient_norm" else -1.0

    def total(log: Tensor) -> Tensor:
        return sign * (a * torch.exp(-log) + b * torch.exp(log)).sum(1)

    best = total(solve(objective, a, b, RADIUS).log)
    for _ in range(500):
        assert bool((total(streams.uniform(-2 * RADIUS, 2 * RADIUS, (6,))) <= best).all())


def test_balanced_weights_of_a_scaling_have_equal_norms() -> None:
    streams = Streams.from_seeds([0, 1])
    pair = Pair(streams.normal((4, 3)), streams.normal((5, 4)))
    below, above = grams(pair, diagonal=True)
    d = solve("balance_weights", above, below, radius=50.0).element()
    torch.testing.assert_close(d, (above / below) ** 0.25)
    torch.testing.assert_close(d**2 * below, above / d**2)


def test_balanced_weights_of_the_general_linear_group_have_equal_grams() -> None:
    streams = Streams.from_seeds([0, 1])
    pair = Pair(streams.normal((4, 6)), streams.normal((5, 4)))
    below, above = grams(pair, diagonal=False)
    spectrum = solve("balance_weights", above, below, radius=50.0)
    g, inverse = spectrum.element(), spectrum.inverse()
    torch.testing.assert_close(g @ below @ g.mT, inverse.mT @ above @ inverse, rtol=1e-10, atol=1e-10)


def test_element_and_inverse_belong_together() -> None:
    a, b = random_grams(3, 4, 6, 6)
    spectrum = solve("balance_gradient", a, b, RADIUS)
    identity = torch.eye(4, dtype=a.dtype).expand_as(a)
    torch.testing.assert_close(spectrum.element() @ spectrum.inverse(), identity)
    torch.testing.assert_close(torch.matrix_exp(spectrum.log_element()), spectrum.element())


def test_relative_directions_are_bounded_and_scale_free() -> None:
    a, b = random_grams(4, 3, 5, 5)
    direction = solve("relative", a, b, 1.0).log_element()
    assert bool((torch.linalg.eigvalsh(direction).abs() <= 1.0).all())
    torch.testing.assert_close(solve("relative", 1e8 * a, 1e8 * b, 1.0).log_element(), direction)
    c = torch.linalg.eigh(a + b)
    root = c.eigenvectors @ torch.diag_embed(c.eigenvalues.rsqrt()) @ c.eigenvectors.mT
    torch.testing.assert_close(direction, root @ (b - a) @ root)


def test_a_dead_unit_stays_where_it_is() -> None:
    zero, one = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    for objective in PAIR_OBJECTIVES:
        assert bool((solve(objective, zero, zero, 1.0).log == 0).all())
        full = torch.zeros(1, 2, 2, dtype=torch.float64)
        assert bool((solve(objective, full, full, 1.0).log == 0).all())
    assert bool((solve("balance_gradient", zero, one, 1.0).log == -2.0).all())


@pytest.mark.parametrize("k", [1, 2, 3, 8, 17, 40])
@pytest.mark.parametrize("objective", PAIR_OBJECTIVES)
def test_rows_are_independent_bit_for_bit(objective: str, k: int) -> None:
    a, b = random_grams(7, k, k + 1, k + 2)
    together = solve(objective, a, b, RADIUS)
    for row in range(7):
        alone = solve(objective, a[row : row + 1], b[row : row + 1], RADIUS)
        assert torch.equal(together.log[row], alone.log[0])
        assert torch.equal(together.element()[row], alone.element()[0])


@pytest.mark.parametrize("objective", PAIR_OBJECTIVES)
def test_a_row_that_is_not_finite_harms_nobody(objective: str) -> None:
    a, b = random_grams(3, 4, 5, 6)
    sound = solve(objective, a, b, RADIUS)
    broken = a.clone()
    broken[1, 2, 2] = torch.nan
    found = solve(objective, broken, b, RADIUS)
    assert bool(torch.isnan(found.element()[1]).all())
    for row in (0, 2):
        assert torch.equal(found.element()[row], sound.element()[row])
