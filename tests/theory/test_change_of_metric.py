"""What this project adds to the publication's propositions: a teleport is a change of metric, and needs no Hessian."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.instances import Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry

COUNT = 5

LINEAR = (
    ("MatrixFactorization", "general_linear"),
    ("MatrixFactorization", "scaling"),
    ("LinearNetwork", "general_linear"),
    ("LinearNetwork", "scaling"),
    ("LinearNetwork", "permutation"),
    ("MLPRegression", "scaling"),
    ("MLPRegression", "permutation"),
    ("Booth", "rotation"),
    ("Quadratic", "rotation"),
)


def case(name: str, symmetry: str, scale: float = 0.2) -> tuple[Problem, Instance, Symmetry, Element]:
    problem = problem_from(name)
    instance = problem.instances(torch.arange(COUNT), "test")
    action = problem.symmetries[symmetry]
    return problem, instance, action, action.group.sample(Streams.from_seeds(range(COUNT)), scale=scale)


@pytest.mark.parametrize(("name", "symmetry"), LINEAR)
def test_gradient_after_a_linear_move_is_a_closed_form(name: str, symmetry: str) -> None:
    """No loss is evaluated; the inverse element gives something else."""
    problem, instance, action, g = case(name, symmetry, scale=1.0 if symmetry == "permutation" else 0.2)
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    there = problem.loss_and_gradient(action.act(g, instance.start, instance), instance)[1]
    scale = float(there.abs().max())
    torch.testing.assert_close(action.gradient_after(g, gradient, instance), there, rtol=1e-8, atol=1e-9 * scale)
    wrong = action.gradient_after(action.group.inverse(g), gradient, instance)
    differs = (wrong - there).norm(dim=1) > 1e-3 * there.norm(dim=1)
    assert bool(differs.any() if symmetry == "permutation" else differs.all())  # some permutations are their inverse


@pytest.mark.parametrize("wrong", ["", "S for S^-1", "g for S"])
def test_teleport_then_step_is_a_preconditioned_step(wrong: str) -> None:
    """Teleport by g, step, teleport back: ``V - lr S^-1 G_V`` and ``U - lr G_U S`` with ``S = g'g``."""
    problem, instance, action, g = case("MatrixFactorization", "general_linear")
    rate = 0.03
    moved = action.act(g, instance.start, instance)
    stepped = moved - rate * problem.loss_and_gradient(moved, instance)[1]
    back = action.act(action.group.inverse(g), stepped, instance)

    assert isinstance(g, tuple)
    metric = g[0].mT @ g[0] if wrong != "g for S" else g[0]
    below, above = (metric, torch.linalg.inv(metric)) if wrong == "S for S^-1" else (torch.linalg.inv(metric), metric)
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    (lower, upper), (lower_slope, upper_slope) = (problem.layers.weights(v) for v in (instance.start, gradient))  # type: ignore[attr-defined]
    claimed = problem.layers.flatten([lower - rate * below @ lower_slope, upper - rate * upper_slope @ above])  # type: ignore[attr-defined]
    error = (claimed - back).norm(dim=1) / (back - instance.start).norm(dim=1)
    assert bool((error < 1e-10).all()) is not bool(wrong)


def test_gradient_norm_after_a_move_from_two_gram_matrices() -> None:
    problem, instance, action, g = case("MatrixFactorization", "general_linear")
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    (pair,) = action.pairs(gradient, instance)
    assert isinstance(g, tuple)
    metric = g[0].mT @ g[0]
    claimed = (torch.linalg.inv(metric) * (pair.lower @ pair.lower.mT)).sum((1, 2))
    claimed += (metric * (pair.upper.mT @ pair.upper)).sum((1, 2))
    there = problem.loss_and_gradient(action.act(g, instance.start, instance), instance)[1]
    torch.testing.assert_close(claimed, (there**2).sum(dim=1), rtol=1e-10, atol=0.0)


def through_the_loss(problem: Problem, instance: Instance, action: Symmetry) -> Tensor:
    """``d |grad L(exp(xi).w)|^2 / d xi`` at 0 by differentiating twice through the loss: the publication's way."""
    product = Evaluator(problem, instance).hessian_vector(instance.start)[2]
    xi = torch.zeros(COUNT, action.group.dim, dtype=torch.float64, requires_grad=True)
    moved = action.act(action.group.exp(xi), instance.start, instance)
    return torch.autograd.grad((moved * 2.0 * product).sum(), xi)[0]


@pytest.mark.parametrize(
    ("name", "symmetry"),
    [
        ("Rosenbrock", "rotation"),
        ("RosenbrockND", "rotation"),
        ("Quadratic", "rotation"),
        ("MatrixFactorization", "general_linear"),
        ("LinearNetwork", "general_linear"),
        ("LinearNetwork", "scaling"),
        ("MLPRegression", "scaling"),
        ("MLPRegression", "general_linear"),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ascent_direction_without_a_hessian(name: str, symmetry: str, sign: float) -> None:
    """``grad' H X = -<grad, DX[grad]>`` from the action alone; with the other sign it is the way down."""
    problem, instance, action, _ = case(name, symmetry)
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    direction = sign * action.ascent_direction(instance.start, gradient, instance)
    expected = through_the_loss(problem, instance, action)
    error = (direction - expected).norm(dim=1) / expected.norm(dim=1)
    assert bool((error < 1e-8).all()) is (sign > 0)


@pytest.mark.parametrize("transposed", [False, True])
def test_ascent_direction_of_a_pair_is_a_difference_of_gram_matrices(transposed: bool) -> None:
    """``2 (G_U' G_U - G_V G_V')``."""
    problem, instance, action, _ = case("MatrixFactorization", "general_linear")
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    (pair,) = action.pairs(gradient, instance)
    a, b = pair.lower @ pair.lower.mT, pair.upper.mT @ pair.upper
    claimed = 2.0 * (a - b if transposed else b - a).flatten(1)
    agrees = torch.allclose(claimed, through_the_loss(problem, instance, action), rtol=1e-9, atol=1e-9)
    assert agrees is not transposed


def invariant_of(name: str) -> Callable[[Problem, Tensor], Tensor]:
    def gram_difference(problem: Problem, params: Tensor) -> Tensor:
        lower, upper = problem.layers.weights(params)[:2]  # type: ignore[attr-defined]
        return lower @ lower.mT - upper.mT @ upper

    def row_difference(problem: Problem, params: Tensor) -> Tensor:
        lower, upper = problem.layers.weights(params)[:2]  # type: ignore[attr-defined]
        return (lower**2).sum(2) - (upper**2).sum(1)

    return row_difference if name == "MLPRegression" else gram_difference


@pytest.mark.parametrize(
    ("name", "symmetry"),
    [("MatrixFactorization", "general_linear"), ("LinearNetwork", "general_linear"), ("MLPRegression", "scaling")],
)
def test_gradient_flow_keeps_the_imbalance_and_a_teleport_changes_it(name: str, symmetry: str) -> None:
    """``V V' - U'U`` (its diagonal behind an activation): descent changes it by O(rate^2) a step, a teleport at once."""
    problem, instance, action, g = case(name, symmetry)
    imbalance = invariant_of(name)
    before = imbalance(problem, instance.start)

    def drift(rate: float) -> Tensor:
        params = instance.start
        for _ in range(4):
            params = params - rate * problem.loss_and_gradient(params, instance)[1]
        return (imbalance(problem, params) - before).flatten(1).norm(dim=1)

    rate = 1e-7
    quarter = drift(rate) / drift(rate / 2)
    torch.testing.assert_close(quarter, torch.full_like(quarter, 4.0), rtol=0.05, atol=0.0)
    moved = imbalance(problem, action.act(g, instance.start, instance))
    assert bool(((moved - before).flatten(1).norm(dim=1) > 100 * drift(rate)).all())
