"""Rotations: their convention, retraction and samples."""

import math

import pytest
import torch

from teleport_env.groups import SO, SO2
from teleport_env.groups.rotations import _upper_triangle
from teleport_env.random import Streams

QUARTER = math.pi / 2


def test_so2_turns_counterclockwise() -> None:
    quarter = SO2().exp(torch.tensor([[QUARTER]], dtype=torch.float64))[0]
    east = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(quarter @ east, torch.tensor([0.0, 1.0], dtype=torch.float64))
    # and SO(2), whose xi is the upper triangle, clockwise
    other = SO(2).exp(torch.tensor([[QUARTER]], dtype=torch.float64))[0]
    torch.testing.assert_close(other, quarter.mT)


def test_angle_reads_what_exp_wrote() -> None:
    angle = torch.linspace(-3.1, 3.1, 9, dtype=torch.float64)
    element = SO2().exp(angle[:, None])
    torch.testing.assert_close(torch.atan2(element[:, 1, 0], element[:, 0, 0]), angle)


def test_xi_is_the_upper_triangle_row_by_row() -> None:
    matrix = SO(3).algebra(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    assert matrix.tolist() == [[0, 1, 2], [-1, 0, 3], [-2, -3, 0]]


@pytest.mark.parametrize("group", [SO2(), SO(2), SO(3), SO(5)], ids=repr)
def test_coordinates_invert_algebra_and_exp_starts_along_it(group: SO2 | SO) -> None:
    xi = Streams.from_seeds([1, 2, 3]).normal((group.dim,))
    assert torch.equal(group.coordinates(group.algebra(xi)), xi)
    step = 1e-5
    slope = (group.exp(step * xi) - group.exp(-step * xi)) / (2 * step)
    torch.testing.assert_close(slope, group.algebra(xi), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("length", [1e-7, 1.0, 10 * math.pi, 1e4])
def test_cayley_is_a_rotation_for_every_xi(n: int, length: float) -> None:
    group = SO(n)
    xi = length * Streams(torch.arange(7)).normal((group.dim,))
    element = group.retract(xi)
    tolerance = 1e-13 if length < 100 else 1e-10  # the condition of the solve grows with |xi|
    assert bool(group.contains(element, tolerance).all())
    torch.testing.assert_close(group.retract(-xi), group.inverse(element), rtol=0.0, atol=tolerance)


def test_cayley_in_the_plane_is_the_double_arctangent() -> None:
    xi = torch.tensor([[0.3], [-2.0], [5.0]], dtype=torch.float64)
    torch.testing.assert_close(SO(2).retract(xi), SO(2).exp(2 * torch.atan(xi / 2)))


def test_contains_refuses_reflections_and_stretches() -> None:
    elements = torch.eye(2, dtype=torch.float64).repeat(4, 1, 1)
    elements[1, 0, 0] = -1.0
    elements[2] *= 1.0 + 1e-9
    elements[3] = torch.nan
    assert SO2().contains(elements).tolist() == [True, False, False, False]
    assert SO2().contains(elements, tolerance=1e-8).tolist() == [True, False, True, False]


@pytest.mark.parametrize("group", [SO2(), SO(2), SO(3), SO(4), SO(5)], ids=repr)
def test_samples_have_the_moments_of_the_uniform_distribution(group: SO2 | SO) -> None:
    """E[R] = 0, E[R_ij^2] = 1/n; for n > 2 the trace has mean 0 and mean square 1."""
    count, n = 20_000, group.n
    element = group.sample(Streams(torch.arange(count)))
    assert bool((torch.linalg.det(element) > 0).all())
    noise = 5.0 / math.sqrt(count)  # five standard errors of a variable of variance at most 1
    assert float(element.mean(dim=0).abs().max()) < noise
    assert float((element.square().mean(dim=0) - 1 / n).abs().max()) < noise
    trace_square = element.diagonal(dim1=1, dim2=2).sum(dim=1).square().mean()
    # the trace is 2 cos in the plane; else the character of an irreducible representation, of norm 1
    assert abs(float(trace_square) - (2.0 if n == 2 else 1.0)) < 3 * noise


def test_uniform_samples_do_not_change_under_rotation() -> None:
    """The angle of SO(3) has density (1 - cos) / pi, so the mean of its cosine is -1/2."""
    element = SO(3).sample(Streams(torch.arange(20_000)))
    cosine = (element.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    assert abs(float(cosine.mean()) + 0.5) < 0.02


def test_qr_without_its_sign_fix_would_be_seen() -> None:
    """Why the moments above matter: without the fix the first entries do not average to zero."""
    factor = torch.linalg.qr(Streams(torch.arange(20_000)).normal((3, 3))).Q
    assert float(factor.mean(dim=0).abs().max()) > 5.0 / math.sqrt(20_000)


@pytest.mark.parametrize("group", [SO2(), SO(3)], ids=repr)
def test_small_scales_stay_near(group: SO2 | SO) -> None:
    streams = Streams(torch.arange(100))
    distance = (group.sample(streams, scale=1e-3) - group.identity(100)).abs().flatten(1).amax(dim=1)
    assert 1e-5 < float(distance.median()) < 1e-2
    assert torch.equal(group.sample(Streams(torch.arange(5)), scale=3.0), group.sample(Streams(torch.arange(5))))


def test_a_first_call_in_inference_mode_leaves_autograd_usable() -> None:
    """Regression: index tensors cached there cannot be saved for a backward pass."""
    group = SO(6)
    xi = torch.zeros(1, group.dim, dtype=torch.float64)
    _upper_triangle.cache_clear()
    with torch.inference_mode():
        group.exp(xi)
    (gradient,) = torch.autograd.grad(group.exp(xi.requires_grad_(True))[0, 0, 1], xi)
    assert gradient[0].tolist() == [1.0] + [0.0] * 14
