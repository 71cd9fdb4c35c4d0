"""Moving without a matrix ends where the matrix does."""

from __future__ import annotations

import copy

import pytest
import torch
from search_cases import LEARNING_RATES, problem_named, start_of

from teleport_env.groups.rotations import SO
from teleport_env.problems import problem_from
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.random import Streams
from teleport_env.searches import Start
from teleport_env.searches.directions import ascent_direction, pull_back
from teleport_env.searches.moves import at_start, move_along, random_candidates
from teleport_env.symmetries import Symmetry
from teleport_env.symmetries.coordinate_change import CoordinateChange

NAMES = ("RosenbrockND", "Quadratic")


def direction(start: Start) -> torch.Tensor:
    """The direction of ascent as angle vectors ``(R, n)``."""
    return ascent_direction(start, at_start(start))


def rotate(start: Start, angles: torch.Tensor) -> torch.Tensor:
    """The parameters turned by angle vectors ``(R, n)``."""
    return move_along(start, at_start(start), angles, retract=False, gradient=False).params


def replace_sphere(symmetry: Symmetry, **settings: object) -> Symmetry:
    """The same action that offers another sphere."""
    assert symmetry.sphere is not None
    other = copy.copy(symmetry)
    other.sphere = symmetry.sphere._replace(**settings)  # type: ignore[arg-type]
    return other


def setting(name: str) -> tuple[Problem, CoordinateChange, Start]:
    problem = problem_named(name)
    symmetry = problem.symmetries["rotation"]
    assert isinstance(symmetry, CoordinateChange)
    start = start_of(problem, symmetry, [0, 1, 2, 3, 4], LEARNING_RATES[name])
    return problem, symmetry, start


@pytest.mark.parametrize("name", NAMES)
def test_the_angle_vector_is_the_gradient_over_the_group(name: str) -> None:
    """As the coordinates of the group say it: the same length, and the same point after a move along it."""
    _, symmetry, start = setting(name)
    angles = direction(start)
    xi = symmetry.ascent_direction(start.params, start.gradient, start.instance)
    torch.testing.assert_close(angles.norm(dim=1), xi.norm(dim=1), rtol=1e-9, atol=0.0)
    rate = (0.4 / xi.norm(dim=1))[:, None]
    by_matrix = symmetry.act(symmetry.group.exp(rate * xi), start.params, start.instance)
    torch.testing.assert_close(rotate(start, rate * angles), by_matrix)


@pytest.mark.parametrize("name", ["Rosenbrock", "Ellipse", "Booth", *NAMES])
def test_written_slopes_are_what_the_coordinates_give(name: str) -> None:
    """In arrays, with the slope in closed form, and in tensors, from the derivatives of the coordinates."""
    problem = problem_from(name)
    symmetry = problem.symmetries["rotation"]
    plain = replace_sphere(symmetry, on_arrays=False, slope=None)
    start, other = (start_of(problem, chosen, [0, 1, 2, 3, 4], 1e-3) for chosen in (symmetry, plain))
    written, found = direction(start), direction(other)
    torch.testing.assert_close(written, found, rtol=1e-9, atol=1e-9 * float(found.abs().max()))
    angles = 0.3 * found / found.norm(dim=1, keepdim=True)
    torch.testing.assert_close(rotate(start, angles), rotate(other, angles), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_the_other_sense_of_rotation_ends_elsewhere(name: str) -> None:
    start = setting(name)[2]
    angles = direction(start)
    angles = 0.4 * angles / angles.norm(dim=1, keepdim=True)
    there, back = (rotate(start, sign * angles) for sign in (1.0, -1.0))
    assert float((there - back).norm(dim=1).min()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_double_backward_direction_agrees(name: str) -> None:
    start = setting(name)[2]
    product = start.evaluator.hessian_vector(start.params)[2]
    through_loss = pull_back(start, start.params, 2.0 * product)
    hessian_free = direction(start)
    scale = through_loss.norm(dim=1, keepdim=True)
    torch.testing.assert_close(hessian_free / scale, through_loss / scale, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [0.0, 1e-9, 0.3, 3.0, 50.0])
def test_any_angle_keeps_the_loss(name: str, length: float) -> None:
    problem, _, start = setting(name)
    angles = direction(start)
    angles = length * angles / angles.norm(dim=1, keepdim=True)
    moved = rotate(start, angles)
    torch.testing.assert_close(problem.loss(moved, start.instance), start.loss, rtol=1e-11, atol=0.0)
    if length == 0.0:
        torch.testing.assert_close(moved, start.params, rtol=1e-13, atol=1e-13)


def test_random_rotations_are_uniform_on_the_sphere_and_shrink_with_the_scale() -> None:
    problem = problem_named("Quadratic")
    symmetry = problem.symmetries["rotation"]
    assert isinstance(symmetry, CoordinateChange)
    assert isinstance(symmetry.group, SO)
    count = 4000
    instance = problem.instances(torch.zeros(count, dtype=torch.int64), "train")
    u = symmetry.forward(instance.start, instance)
    unit = u / u.norm(dim=1, keepdim=True)
    evaluator, rate = Evaluator(problem, instance), torch.ones(count, dtype=u.dtype)

    def turned(scale: float) -> torch.Tensor:
        streams = Streams.from_seeds(list(range(count)))
        start = Start(instance.start, *evaluator.loss_and_gradient(instance.start), rate, symmetry, evaluator, streams)
        moved = symmetry.forward(random_candidates(start, 1, scale).params[:, 0], instance)
        return moved / moved.norm(dim=1, keepdim=True)

    uniform = turned(1.0)
    assert float(uniform.mean(dim=0).abs().max()) < 4 / count**0.5
    second = uniform.T @ uniform / count
    torch.testing.assert_close(second, torch.eye(5, dtype=second.dtype) / 5, rtol=0.0, atol=0.02)
    small = turned(0.05)
    # an element exp of a normal xi of this scale moves u by a normal tangent vector of this deviation, in n - 1 directions
    assert float((small - unit).square().sum(1).mean()) == pytest.approx(4 * 0.05**2, rel=0.05)
    assert float((turned(1e-6) - unit).abs().max()) < 1e-5
