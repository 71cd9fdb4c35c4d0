"""Propositions of Zhao et al. (NeurIPS 2022) that quadratic functions make exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.problems.booth import Booth
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock
from teleport_env.random import Streams
from teleport_env.searches import search_from
from teleport_env.searches.base import Start
from teleport_env.symmetries.coordinate_change import CoordinateChange


def steepest(problem: Quadratic, instance: Instance, level: Tensor) -> Tensor:
    """The point ``sqrt(c / lambda_max) e_max`` of the level set ``c`` ``(B,)``."""
    top = torch.zeros_like(instance.start)
    top[:, 0] = torch.sqrt(level)
    return problem.backward(top, instance)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1) / torch.sqrt((a * a).sum(dim=1) * (b * b).sum(dim=1))


def squared_norm(problem: Problem, instance: Instance, params: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and squared gradient norm ``(B,)``."""
    loss, gradient = problem.loss_and_gradient(params, instance)
    return loss, (gradient**2).sum(dim=1)


def level_set(problem: Quadratic | Booth, instance: Instance, count: int) -> Iterator[Tensor]:
    """Points ``(B, n)`` of the starts' level sets, spread over the sphere that it is in other coordinates."""
    radius = torch.sqrt(problem.loss(instance.start, instance))[:, None]
    size = instance.start.shape
    for seed in range(count):
        drawn = Streams.from_seeds([seed]).normal((size[0], size[1]))[0]
        yield problem.backward(radius * drawn / drawn.norm(dim=1, keepdim=True), instance)


def start_at(problem: Quadratic, instance: Instance, params: Tensor | None = None) -> Start:
    params = instance.start if params is None else params
    evaluator = Evaluator(problem, instance)
    loss, gradient = evaluator.loss_and_gradient(params)
    rates, streams = torch.full_like(loss, 0.01), Streams.from_seeds(range(len(params)))
    return Start(params, loss, gradient, rates, problem.symmetries["rotation"], evaluator, streams)


def teleported(problem: Quadratic, instance: Instance, params: Tensor) -> Tensor:
    """Where the closed-form teleport leads."""
    return search_from("closed_form").find(start_at(problem, instance, params)).params


def test_one_teleport_is_enough_for_descent_on_a_convex_quadratic(
    case: tuple[Quadratic, Instance, Tensor],
) -> None:
    """Proposition 5.5 with a finite rate, ours: once teleported a run has nothing to gain by another teleport at any later
    step, and is ahead of the run without throughout; that run has much to gain."""
    problem, instance, _ = case
    rate = 0.05
    jumped, plain = teleported(problem, instance, instance.start), instance.start
    for step in range(15):
        norms = [squared_norm(problem, instance, params)[1] for params in (jumped, plain)]
        again = [squared_norm(problem, instance, teleported(problem, instance, p))[1] for p in (jumped, plain)]
        torch.testing.assert_close(again[0], norms[0], rtol=1e-6, atol=0)
        assert bool((again[1] > 1.01 * norms[1]).all())
        losses = [problem.loss(params, instance) for params in (jumped, plain)]
        assert bool((losses[0] < losses[1]).all()) or step == 0
        jumped, plain = (p - rate * problem.loss_and_gradient(p, instance)[1] for p in (jumped, plain))


@pytest.fixture
def case() -> tuple[Quadratic, Instance, Tensor]:
    problem = Quadratic(dimension=8)
    instance = problem.instances(torch.arange(12), "train")
    return problem, instance, problem.loss(instance.start, instance)


def test_proposition_c_1_a_level_set_is_one_orbit(case: tuple[Quadratic, Instance, Tensor]) -> None:
    """A level set is one orbit: for any two of its points the proof's orthogonal ``Q`` with ``Q u = v`` leads from one to
    the other, by the library's action. Its transpose leads back, and a ``Q`` of other columns elsewhere."""
    problem, instance, level = case
    action = problem.symmetries["rotation"]
    here, there = level_set(problem, instance, 2)
    radius = torch.sqrt(level)[:, None]
    u, v = (problem.forward(params, instance) / radius for params in (here, there))
    q = basis_from(v) @ basis_from(u).mT
    torch.testing.assert_close(torch.linalg.det(q), torch.ones_like(level), rtol=1e-10, atol=0)
    torch.testing.assert_close((q @ u[:, :, None])[:, :, 0], v, rtol=0, atol=1e-12)
    torch.testing.assert_close(action.act(q, here, instance), there, rtol=0, atol=1e-10)
    torch.testing.assert_close(action.act(q.mT, there, instance), here, rtol=0, atol=1e-10)
    wrong = action.act(basis_from(v) @ basis_from(v).mT, here, instance)
    assert bool(((wrong - there).norm(dim=1) > 0.1 * radius[:, 0]).all())


def basis_from(first: Tensor) -> Tensor:
    """An orthonormal basis ``(B, n, n)`` of determinant 1 whose first column is the unit vector ``first`` ``(B, n)``."""
    rest = torch.eye(first.shape[1], dtype=first.dtype).expand(len(first), -1, -1)[:, :, 1:]
    basis = torch.linalg.qr(torch.cat([first[:, :, None], rest], dim=2))[0]
    basis = basis * torch.sign((basis[:, :, 0] * first).sum(dim=1))[:, None, None]  # QR may turn a column round
    last = torch.linalg.det(basis)[:, None]
    return torch.cat([basis[:, :, :-1], basis[:, :, -1:] * last[:, :, None]], dim=2)


@pytest.mark.parametrize("steep", [True, False])
def test_proposition_5_5_the_norm_stays_maximal_along_the_gradient_flow(
    case: tuple[Quadratic, Instance, Tensor], steep: bool
) -> None:
    """Along the gradient flow ``w(t) = exp(-2 A t) w(0)``, exactly, from a level set's steepest point and from the start."""
    problem, instance, level = case
    begin = steepest(problem, instance, level) if steep else instance.start
    top = instance["eigenvalues"][:, 0]
    for time in (0.0, 0.1, 1.0, 5.0):
        flow = torch.linalg.matrix_exp(-2.0 * time * instance["matrix"])
        loss, squared = squared_norm(problem, instance, (flow @ begin[:, :, None])[:, :, 0])
        short = 1.0 - squared / (4.0 * top * loss)  # of the most that the level set has, by Proposition C.2
        assert bool((short.abs() < 1e-9).all()) is steep


def test_proposition_c_2_largest_gradient_of_a_level_set(case: tuple[Quadratic, Instance, Tensor]) -> None:
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


@pytest.mark.parametrize("problem", [Quadratic(dimension=8), Booth()], ids=lambda p: p.name)
@pytest.mark.parametrize("maximise", [True, False])
def test_proposition_c_2_is_what_the_closed_form_reaches(problem: Quadratic | Booth, maximise: bool) -> None:
    """The library's best rotation against the largest (smallest) gradient of many points of the level set, and its value:
    ``4 lambda L`` with the extreme eigenvalue of the quadratic form."""
    instance = problem.instances(torch.arange(6), "train")
    action = problem.symmetries["rotation"]
    assert isinstance(action, CoordinateChange)
    objective = "gradient_norm" if maximise else "balance_gradient"
    moved = action.act(action.optimal_element(objective, instance.start, instance), instance.start, instance)
    level, squared = squared_norm(problem, instance, moved)
    torch.testing.assert_close(level, problem.loss(instance.start, instance), rtol=1e-11, atol=0)
    assert action.matrix is not None
    matrix = action.matrix(instance)
    values = torch.linalg.eigvalsh(matrix @ matrix.mT)
    torch.testing.assert_close(squared, 4.0 * values[:, -1 if maximise else 0] * level, rtol=1e-9, atol=0)
    for points in level_set(problem, instance, 200):
        found = squared_norm(problem, instance, points)[1]
        beyond = found - squared if maximise else squared - found
        assert bool((beyond < 1e-9 * squared).all())


@pytest.mark.parametrize("objective", ["gradient_norm", "balance_gradient"])
def test_proposition_c_2_is_where_the_closed_form_search_goes(
    objective: str, case: tuple[Quadratic, Instance, Tensor]
) -> None:
    problem, instance, level = case
    start = start_at(problem, instance)
    found = search_from({"search": "closed_form", "objective": objective}).find(start)
    eigenvalue = instance["eigenvalues"].max(dim=1).values
    if objective == "balance_gradient":
        eigenvalue = instance["eigenvalues"].min(dim=1).values
    squared = squared_norm(problem, instance, found.params)[1]
    torch.testing.assert_close(squared, 4.0 * eigenvalue * level, rtol=1e-9, atol=0)


def test_proposition_5_6_and_c_3_steepest_point_is_the_nearest_to_the_minimum(
    case: tuple[Quadratic, Instance, Tensor],
) -> None:
    problem, instance, level = case
    point = steepest(problem, instance, level)
    distance = (point**2).sum(dim=1)
    torch.testing.assert_close(distance, level / instance["eigenvalues"][:, 0], rtol=1e-12, atol=0)
    assert bool((distance < (instance.start**2).sum(dim=1)).all())
    farthest = level / instance["eigenvalues"].min(dim=1).values
    for points in level_set(problem, instance, 500):
        torch.testing.assert_close(problem.loss(points, instance), level, rtol=1e-11, atol=0)
        away = (points**2).sum(dim=1)
        assert bool(((distance <= away * (1 + 1e-12)) & (away <= farthest * (1 + 1e-12))).all())


def test_descent_stays_on_the_ray_and_shrinks_by_a_constant(
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


def test_lemma_c_4_hessian_times_gradient_is_parallel_to_it(case: tuple[Quadratic, Instance, Tensor]) -> None:
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


def at_the_longest_gradient(problem: Booth | Rosenbrock) -> tuple[Instance, Tensor, Tensor]:
    """An instance, and two points ``(1, 2)`` of a level set of it: that of the longest gradient, and one 0.3 radians on."""
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
    longest, other = (point(torch.tensor([best + offset], dtype=torch.float64)) for offset in (0.0, 0.3))
    return instance, longest, other


@pytest.mark.parametrize("problem", [Booth(), Rosenbrock()], ids=lambda p: p.name)
def test_lemma_c_4_at_a_critical_angle(problem: Booth | Rosenbrock) -> None:
    """The Hessian times the gradient where the level set is a skew ellipse or a bent curve."""
    instance, longest, other = at_the_longest_gradient(problem)
    for params, parallel in ((longest, True), (other, False)):
        _, gradient, _ = Evaluator(problem, instance).hessian_vector(params, params)
        _, _, product = Evaluator(problem, instance).hessian_vector(params, gradient)
        across = (1.0 - cosine(product, gradient) ** 2).clamp_min(0.0)
        assert bool(across < 1e-10) is parallel


def test_proposition_5_7_on_rosenbrocks_function_that_is_not_quadratic() -> None:
    """Newton's direction is the gradient's where the gradient is longest on a bent level set. It is not beside that point,
    nor by the Hessian at the minimum, which is another."""
    problem = Rosenbrock()
    instance, longest, other = at_the_longest_gradient(problem)
    minimum = torch.ones_like(longest)

    def angle(params: Tensor, curved: Tensor) -> float:
        """One less the cosine between the gradient and Newton's direction by the Hessian at ``curved``."""
        gradient = problem.loss_and_gradient(params, instance)[1]
        vectors = torch.eye(2, dtype=torch.float64)
        columns = [Evaluator(problem, instance).hessian_vector(curved, vector[None])[2] for vector in vectors]
        newton = torch.linalg.solve(torch.cat(columns).mT, gradient[0])[None]
        return float(1.0 - cosine(newton, gradient))

    assert angle(longest, longest) < 1e-9
    assert angle(other, other) > 1e-3
    assert angle(longest, minimum) > 1e-3


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
