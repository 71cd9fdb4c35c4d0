"""Propositions of Zhao et al. (NeurIPS 2022) that quadratic functions make exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from teleport_env.problems.base import Evaluator, Instance
from teleport_env.problems.booth import Booth
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock
from teleport_env.random import Streams


def steepest(problem: Quadratic, instance: Instance, level: Tensor) -> Tensor:
    """The point ``sqrt(c / lambda_max) e_max`` of the level set ``c`` ``(B,)``."""
    top = torch.zeros_like(instance.start)
    top[:, 0] = torch.sqrt(level)
    return problem.backward(top, instance)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1) / torch.sqrt((a * a).sum(dim=1) * (b * b).sum(dim=1))


@pytest.fixture
def case() -> tuple[Quadratic, Instance, Tensor]:
    problem = Quadratic(dimension=8)
    instance = problem.instances(torch.arange(12), "train")
    return problem, instance, problem.loss(instance.start, instance)


def test_proposition_c1_largest_gradient_of_a_level_set(case: tuple[Quadratic, Instance, Tensor]) -> None:
    problem, instance, level = case
    top = instance["eigenvalues"][:, 0]
    loss, gradient = problem.loss_and_gradient(steepest(problem, instance, level), instance)
    torch.testing.assert_close(loss, level, rtol=1e-11, atol=0)
    squared = (gradient**2).sum(dim=1)
    torch.testing.assert_close(squared, 4.0 * top * level, rtol=1e-11, atol=0)
    group = problem.symmetries["rotation"].group
    for seed in range(20):
        g = group.sample(Streams.from_seeds([seed * 100 + i for i in range(12)]))
        moved = problem.symmetries["rotation"].act(g, instance.start, instance)
        assert bool(((problem.loss_and_gradient(moved, instance)[1] ** 2).sum(dim=1) <= squared * (1 + 1e-12)).all())


def test_proposition_c2_steepest_point_is_the_nearest_to_the_minimum(case: tuple[Quadratic, Instance, Tensor]) -> None:
    problem, instance, level = case
    point = steepest(problem, instance, level)
    distance = (point**2).sum(dim=1)
    torch.testing.assert_close(distance, level / instance["eigenvalues"][:, 0], rtol=1e-12, atol=0)
    assert bool((distance < (instance.start**2).sum(dim=1)).all())


def test_proposition_c3_descent_stays_on_the_ray_and_shrinks_by_a_constant(
    case: tuple[Quadratic, Instance, Tensor],
) -> None:
    problem, instance, level = case
    rate, top = 0.3, instance["eigenvalues"][:, 0]
    params = steepest(problem, instance, level)
    for _ in range(10):
        loss, gradient = problem.loss_and_gradient(params, instance)
        torch.testing.assert_close((gradient**2).sum(dim=1), 4.0 * top * loss, rtol=1e-8, atol=0)
        params = params - rate * gradient
        torch.testing.assert_close(problem.loss(params, instance), loss * (1 - 2 * rate * top) ** 2, rtol=1e-8, atol=0)


def test_lemma_c4_hessian_times_gradient_is_parallel_to_it(case: tuple[Quadratic, Instance, Tensor]) -> None:
    problem, instance, level = case
    evaluator = Evaluator(problem, instance)
    for params, parallel in ((steepest(problem, instance, level), True), (instance.start, False)):
        gradient = problem.loss_and_gradient(params, instance)[1]
        _, _, product = evaluator.hessian_vector(params, gradient)
        angle = 1.0 - cosine(product, gradient)
        assert bool((angle < 1e-12).all()) is parallel
        assert bool((angle > 1e-3).all()) is not parallel


def test_proposition_5_7_newton_direction_is_the_gradient(case: tuple[Quadratic, Instance, Tensor]) -> None:
    problem, instance, level = case
    hessian = 2.0 * instance["matrix"]
    for params, parallel in ((steepest(problem, instance, level), True), (instance.start, False)):
        gradient = problem.loss_and_gradient(params, instance)[1]
        newton = torch.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        angle = 1.0 - cosine(newton, gradient)
        assert bool((angle < 1e-9).all()) is parallel
        assert bool((angle > 1e-3).all()) is not parallel


@pytest.mark.parametrize("problem", [Booth(), Rosenbrock()], ids=lambda p: p.name)
def test_lemma_c4_at_a_critical_angle(problem: Booth | Rosenbrock) -> None:
    """The same where the level set is a skew ellipse or a bent curve: at the angle of the longest gradient."""
    instance = problem.instances(torch.zeros(1, dtype=torch.int64), "paper")
    level = problem.loss(instance.start, instance)

    def point(angle: Tensor) -> Tensor:
        circle = torch.sqrt(level)[:, None] * torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
        return problem.backward(circle, instance.repeat(len(angle)))

    def squared(angle: Tensor) -> Tensor:
        return (problem.loss_and_gradient(point(angle), instance.repeat(len(angle)))[1] ** 2).sum(dim=1)

    low, high = 0.0, 6.283185307179586
    for _ in range(8):  # zoom in on the best of a grid
        grid = torch.linspace(low, high, 2001, dtype=torch.float64)
        best = float(grid[squared(grid).argmax()])
        width = (high - low) / 500
        low, high = best - width, best + width
    for offset, parallel in ((0.0, True), (0.3, False)):
        params = point(torch.tensor([best + offset], dtype=torch.float64))
        _, gradient, _ = Evaluator(problem, instance).hessian_vector(params, params)
        _, _, product = Evaluator(problem, instance).hessian_vector(params, gradient)
        across = (1.0 - cosine(product, gradient) ** 2).clamp_min(0.0)
        assert bool(across < 1e-10) is parallel


def test_proposition_5_4_how_long_the_advantage_lasts(case: tuple[Quadratic, Instance, Tensor]) -> None:
    problem, instance, level = case
    rate = 0.01
    smoothness = 2.0 * instance["eigenvalues"][:, 0]
    norms = []
    for params in (steepest(problem, instance, level), instance.start):
        history = []
        for _ in range(400):
            gradient = problem.loss_and_gradient(params, instance)[1]
            history.append(torch.sqrt((gradient**2).sum(dim=1)))
            params = params - rate * gradient
        norms.append(torch.stack(history))
    ahead = norms[0] >= norms[1]  # (step, run)
    promised = torch.log(norms[0][0] / norms[1][0]) / torch.log((1 + rate * smoothness) / (1 - rate * smoothness))
    assert bool((promised.floor() >= 5).any())
    for run, steps in enumerate(promised.floor().long().tolist()):
        assert bool(ahead[: steps + 1, run].all())
    assert not bool(ahead[-1].any())  # it does end: what was gained is a faster, not an endless descent
