"""The general linear group and positive scalings: conventions, retractions, what is singular."""

import math

import pytest
import torch

from teleport_env.groups import GL, PositiveScaling
from teleport_env.random import Streams


def test_xi_is_the_matrix_row_by_row() -> None:
    group = GL(2)
    xi = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    assert group.algebra(xi).tolist() == [[[1, 2], [3, 4]]]
    assert torch.equal(group.coordinates(group.algebra(xi)), xi)
    diagonal = torch.tensor([[1.0, 0.0, 0.0, -2.0]], dtype=torch.float64)
    expected = torch.diag(torch.tensor([math.e, math.exp(-2)], dtype=torch.float64))
    torch.testing.assert_close(group.exp(diagonal)[0], expected, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("group", [GL(3), PositiveScaling(4)], ids=repr)
def test_exp_starts_along_the_algebra(group: GL | PositiveScaling) -> None:
    xi = Streams.from_seeds([1, 2, 3]).normal((group.dim,))
    step = 1e-5
    slope = (group.exp(step * xi) - group.exp(-step * xi)) / (2 * step)
    torch.testing.assert_close(slope, group.algebra(xi), rtol=1e-8, atol=1e-8)
    assert torch.equal(group.coordinates(group.algebra(xi)), xi)


def test_determinant_is_the_exponential_of_the_trace() -> None:
    group = GL(4)
    xi = Streams(torch.arange(9)).normal((16,))
    trace = group.algebra(xi).diagonal(dim1=1, dim2=2).sum(dim=1)
    torch.testing.assert_close(torch.linalg.det(group.exp(xi)), torch.exp(trace), rtol=1e-11, atol=0.0)


def test_singular_elements_are_nan_and_neighbours_untouched() -> None:
    group = GL(2)
    element = group.sample(Streams(torch.arange(6)))
    sound = group.inverse(element)
    spoiled = element.clone()
    spoiled[1] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    spoiled[3] = 0.0
    spoiled[4, 1, 1] = torch.inf
    inverse = group.inverse(spoiled)
    assert bool(torch.isnan(inverse[[1, 3, 4]]).all())
    assert torch.equal(inverse[[0, 2, 5]], sound[[0, 2, 5]])
    assert group.contains(spoiled).tolist() == [True, False, True, False, False, True]


def test_retraction_of_gl_fails_where_it_says() -> None:
    """Eigenvalue 2: no such matrix. Eigenvalue -2: it would be singular. Both NaN; neighbours keep their bits."""
    group = GL(2)
    diagonals = torch.tensor([[0.5, -0.5], [2.0, 0.0], [-2.0, 1.0], [-1.0, -1.9], [7.0, -5.0]], dtype=torch.float64)
    xi = group.coordinates(torch.diag_embed(diagonals))
    element = group.retract(xi)
    assert torch.isnan(element).all(dim=-1).all(dim=-1).tolist() == [False, True, True, False, False]
    sound = torch.tensor([0, 3, 4])
    expected = torch.diag_embed((1 + diagonals / 2) / (1 - diagonals / 2))[sound]
    torch.testing.assert_close(element[sound], expected, rtol=1e-14, atol=1e-15)
    for row in sound.tolist():
        assert torch.equal(group.retract(xi[row : row + 1])[0], element[row])
    # the obvious retraction, 1 + T, is singular at the eigenvalue -1 already
    assert bool(group.contains(element[3:4]))
    assert not bool(group.contains(torch.diag(1 + diagonals[3])[None]))


def test_retraction_of_gl_has_its_inverse_at_minus_xi() -> None:
    group = GL(3)
    xi = 0.4 * Streams(torch.arange(7)).normal((9,))
    torch.testing.assert_close(group.retract(-xi), group.inverse(group.retract(xi)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("group", [GL(3), PositiveScaling(3)], ids=repr)
@pytest.mark.parametrize("length", [0.0, 1e-7, 0.5])
def test_retractions_are_twice_differentiable(group: GL | PositiveScaling, length: float) -> None:
    xi = (length * Streams.from_seeds([1, 2]).normal((group.dim,))).requires_grad_(True)
    assert torch.autograd.gradcheck(group.retract, (xi,))
    weight = torch.ones_like(group.retract(xi).detach())
    assert torch.autograd.gradgradcheck(group.retract, (xi,), grad_outputs=[weight])


def test_retraction_of_scalings_is_positive_and_accurate_everywhere() -> None:
    """Regression: x + sqrt(1 + x^2) cancels to exactly zero at x = -1e9."""
    xi = torch.tensor([[-1e9, -3.0, -1e-8, 0.0, 1e-8, 3.0, 1e9]], dtype=torch.float64)
    value = PositiveScaling(7).retract(xi)
    torch.testing.assert_close(value, torch.exp(torch.asinh(xi)), rtol=1e-14, atol=0.0)
    assert bool(PositiveScaling(7).contains(value))


def test_scalings_that_are_not_positive_have_no_inverse() -> None:
    group = PositiveScaling(2)
    element = torch.tensor([[2.0, 4.0], [0.0, 1.0], [-1.0, 1.0], [torch.inf, 1.0], [torch.nan, 1.0], [1e-310, 1.0]])
    inverse = group.inverse(element.to(torch.float64))
    assert inverse[0].tolist() == [0.5, 0.25]
    assert bool(torch.isnan(inverse[1:5]).all())
    subnormal = group.inverse(torch.tensor([[1e-310, 1.0]], dtype=torch.float64))
    assert bool(torch.isnan(subnormal).all())  # its reciprocal overflows


def test_scaling_matrices_are_diagonal() -> None:
    assert PositiveScaling(2).as_matrices(torch.tensor([[2.0, 3.0]])).tolist() == [[[2, 0], [0, 3]]]


@pytest.mark.parametrize("group", [GL(2), PositiveScaling(3)], ids=repr)
def test_samples_scale_with_scale(group: GL | PositiveScaling) -> None:
    element = group.sample(Streams(torch.arange(20_000)), scale=1e-3)
    deviation = element - group.identity(20_000)
    assert abs(float(deviation.std()) / 1e-3 - 1.0) < 0.02
    assert abs(float(deviation.mean())) < 5e-5
