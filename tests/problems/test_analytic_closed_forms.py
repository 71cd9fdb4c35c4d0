"""The published settings, and what is known of the test functions in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.analytic import AnalyticProblem
from teleport_env.problems.booth import Booth
from teleport_env.problems.ellipse import Ellipse
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock, RosenbrockND


def paper(problem: AnalyticProblem) -> Instance:
    return problem.instances(torch.zeros(1, dtype=torch.int64), "paper")


def descend(
    problem: AnalyticProblem, instance: Instance, start: Tensor, steps: int, rate: float
) -> tuple[Tensor, list[float]]:
    """Plain descent: the last parameters, and the loss before each step and after the last one."""
    params, losses = start, []
    for _ in range(steps):
        loss, gradient = problem.loss_and_gradient(params, instance)
        losses.append(float(loss[0]))
        params = params - rate * gradient
    losses.append(float(problem.loss(params, instance)[0]))
    return params, losses


def best_on_level(
    problem: AnalyticProblem, instance: Instance, level: float, angles: int = 40_001
) -> tuple[Tensor, float]:
    """The point ``(1, 2)`` of a level set with the longest gradient, and its squared norm, on a grid of angles."""
    angle = torch.linspace(0.0, 2.0 * math.pi, angles, dtype=torch.float64)
    circle = math.sqrt(level) * torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
    many = instance.repeat(angles)
    points = problem.backward(circle, many)
    squared = (problem.loss_and_gradient(points, many)[1] ** 2).sum(dim=1)
    index = int(squared.argmax())
    return points[index : index + 1], float(squared[index])


def test_booth_descends_as_published() -> None:
    instance = paper(Booth())
    _, losses = descend(Booth(), instance, instance.start, 10, Booth().defaults("paper").learning_rate)
    published = [144, 64.74, 38.55, 25.82, 17.95, 12.61, 8.89, 6.27, 4.42, 3.12, 2.20]
    assert losses == pytest.approx(published, abs=0.006)


def test_booth_teleport_reaches_36_times_the_loss_and_then_shrinks_by_a_constant_factor() -> None:
    problem, instance = Booth(), paper(Booth())
    params, losses = descend(problem, instance, instance.start, 4, 0.08)
    point, squared = best_on_level(problem, instance, losses[-1])
    assert squared == pytest.approx(36.0 * losses[-1], rel=1e-6)
    assert squared > 5 * float((problem.loss_and_gradient(params, instance)[1] ** 2).sum())
    _, after = descend(problem, instance, point, 6, 0.08)
    # the grid point is 1e-4 rad off the ray: the slow direction's share of the loss shrinks more slowly, from 1e-8 on
    assert after[1] / after[0] == pytest.approx((1 - 0.08 * 18) ** 2, rel=1e-5)
    assert after[-1] / after[0] == pytest.approx(0.1936**6, rel=1e-2)


def test_booth_has_its_minimum_at_1_3() -> None:
    assert Booth().minimum(paper(Booth())).tolist() == [[1.0, 3.0]]


def test_booth_maps_have_the_singular_values_they_were_drawn_with() -> None:
    values = torch.linalg.svdvals(
        Booth(ratio=(2.0, 6.0), largest=(2.0, 3.0)).instances(torch.arange(200), "train")["map"]
    )
    ratio = values[:, 0] / values[:, 1]
    assert 2.0 <= values[:, 0].min() < 2.1 < 2.9 < values[:, 0].max() <= 3.0
    assert 2.0 - 1e-9 <= ratio.min() < 2.1 < 5.8 < ratio.max() <= 6.0 + 1e-9


def test_rosenbrock_descends_as_published() -> None:
    problem, instance = Rosenbrock(), paper(Rosenbrock())
    params, losses = descend(problem, instance, instance.start, 1000, problem.defaults("paper").learning_rate)
    assert losses[0] == 404.0
    assert losses[-1] == pytest.approx(0.11134, abs=5e-6)
    assert params[0].tolist() == pytest.approx([0.6667, 0.4429], abs=5e-5)


def test_rosenbrock_has_the_published_coordinates() -> None:
    instance = paper(Rosenbrock())
    assert Rosenbrock().forward(torch.tensor([[2.0, 3.0]], dtype=torch.float64), instance).tolist() == [[10.0, 1.0]]


def test_rosenbrock_nd_is_a_sum_of_rosenbrocks() -> None:
    many, instance = RosenbrockND(pairs=3), RosenbrockND(pairs=3).instances(torch.arange(5), "train")
    loss, gradient = many.loss_and_gradient(instance.start, instance)
    total = torch.zeros(5, dtype=torch.float64)
    for i in range(3):
        part = Instance(instance.start[:, [i, i + 3]], {"curvature": instance["curvature"][:, i]})
        one_loss, one_gradient = Rosenbrock().loss_and_gradient(part.start, part)
        total += one_loss
        assert torch.equal(gradient[:, [i, i + 3]], one_gradient)
    torch.testing.assert_close(loss, total, rtol=1e-15, atol=0)


def test_the_published_rosenbrock_run_in_every_pair() -> None:
    single, nd = paper(Rosenbrock()), paper(RosenbrockND(pairs=4))
    _, one = descend(Rosenbrock(), single, single.start, 50, 1e-3)
    _, four = descend(RosenbrockND(pairs=4), nd, nd.start, 50, 1e-3)
    assert four == pytest.approx([4 * loss for loss in one], rel=1e-12)


def test_ellipse_is_steepest_on_its_short_axis() -> None:
    problem, instance = Ellipse(a=9.0), paper(Ellipse(a=9.0))
    level = float(problem.loss(instance.start, instance)[0])
    assert level == pytest.approx(9.0, rel=1e-15)
    point, squared = best_on_level(problem, instance, level)
    assert squared == pytest.approx(4.0 * 9.0 * level, rel=1e-6)
    assert point[0].abs().tolist() == pytest.approx([0.0, 1.0], abs=1e-3)


def test_quadratic_spectrum_is_what_it_was_drawn_with() -> None:
    instance = Quadratic(dimension=6, condition=(10.0, 1e4), largest=(0.5, 1.0)).instances(torch.arange(100), "test")
    values = torch.linalg.eigvalsh(instance["matrix"]).flip(1)
    torch.testing.assert_close(values, instance["eigenvalues"], rtol=1e-9, atol=1e-15)
    condition = values[:, 0] / values[:, -1]
    assert 10.0 <= condition.min() < 20.0 < 5e3 < condition.max() <= 1e4
    assert 0.5 <= values[:, 0].min() < values[:, 0].max() <= 1.0
    assert bool((values.diff(dim=1) < 0).all())


def test_quadratic_bases_are_uniform_on_the_orthogonal_group() -> None:
    basis = Quadratic(dimension=3).instances(torch.arange(4000), "train")["basis"]
    torch.testing.assert_close(
        basis @ basis.mT, torch.eye(3, dtype=torch.float64).expand(4000, 3, 3), rtol=0, atol=1e-13
    )
    # every entry of a uniform orthogonal matrix has mean 0 and variance 1 / n; LAPACK's own signs fail this
    assert float(basis.mean(dim=0).abs().max()) < 4.0 / math.sqrt(3 * 4000)
    torch.testing.assert_close(basis.var(dim=0), torch.full((3, 3), 1 / 3, dtype=torch.float64), rtol=0.1, atol=0)
