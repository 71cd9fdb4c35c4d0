"""Section 5 of Zhao et al. (NeurIPS 2022): when a teleport speeds descent up, and how it relates to Newton's method.

``test_quadratic_propositions.py`` has those that quadratic functions make exact.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.instances import Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock
from teleport_env.random import Streams
from teleport_env.searches import search_from
from teleport_env.searches.base import Start
from teleport_env.symmetries.base import Symmetry

COUNT = 6

ACTIONS = (
    ("Ellipse", "rotation"),
    ("Booth", "rotation"),
    ("Rosenbrock", "rotation"),
    ("RosenbrockND", "rotation"),
    ("MatrixFactorization", "general_linear"),
    ("LinearNetwork", "general_linear"),
    ("LinearNetwork", "scaling"),
    ("MLPRegression", "general_linear"),
    ("MLPRegression", "scaling"),
)


def case(name: str, symmetry: str) -> tuple[Problem, Instance, Symmetry, Element]:
    problem = problem_from(name)
    instance = problem.instances(torch.arange(COUNT), "test")
    action = problem.symmetries[symmetry]
    g = action.group.sample(Streams.from_seeds(range(COUNT)), scale=1.0 if symmetry == "rotation" else 0.15)
    return problem, instance, action, g


def jacobian(action: Symmetry, g: Element, instance: Instance, params: Tensor) -> Tensor:
    """``J[b, i, j] = d (g.w)_i / d w_j``."""
    w = params.clone().requires_grad_(True)
    moved = action.act(g, w, instance)
    rows = [torch.autograd.grad(moved[:, i].sum(), w, retain_graph=True)[0] for i in range(moved.shape[1])]
    return torch.stack(rows, dim=1)


def predicted(matrix: Tensor, gradient: Tensor) -> Tensor:
    """``J^-T grad``."""
    return torch.linalg.solve(matrix.mT, gradient[:, :, None])[:, :, 0]


@pytest.mark.parametrize(("name", "symmetry"), ACTIONS)
def test_proposition_5_1_gradient_after_a_move(name: str, symmetry: str) -> None:
    """``grad L(g.w) = J^-T grad L(w)``, on which eq. 13 rests; with J itself, or its transpose alone, it is wrong."""
    problem, instance, action, g = case(name, symmetry)
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    moved = action.act(g, instance.start, instance)
    there = problem.loss_and_gradient(moved, instance)[1]
    matrix = jacobian(action, g, instance, instance.start)
    torch.testing.assert_close(predicted(matrix, gradient), there, rtol=1e-6, atol=1e-8 * float(there.abs().max()))
    wrongs = [(matrix @ gradient[:, :, None])[:, :, 0]]
    if symmetry != "scaling":  # whose J is diagonal
        wrongs.append(predicted(matrix.mT, gradient))
    for wrong in wrongs:
        error = (wrong - there).norm(dim=1) / there.norm(dim=1)
        assert bool((error > 1e-3).all())


@pytest.mark.parametrize(("name", "symmetry"), ACTIONS)
@pytest.mark.parametrize("rates", ["one", "many"])
def test_proposition_5_1_a_move_speeds_descent_up_where_the_transported_gradient_is_longer(
    name: str, symmetry: str, rates: str
) -> None:
    """``dL/dt = -|grad|^2`` in the norm of the learning rates, so that a teleport accelerates the flow if and only if
    ``|J^-T grad L(w)|`` in that norm exceeds ``|grad L(w)|``; measured by a tiny step on both sides."""
    problem, instance, action, g = case(name, symmetry)
    size = instance.start.shape[1]
    rate = torch.ones(size, dtype=torch.float64)
    if rates == "many":
        rate = torch.linspace(0.2, 3.0, size, dtype=torch.float64)
    _, gradient = problem.loss_and_gradient(instance.start, instance)
    moved = action.act(g, instance.start, instance)
    transported = predicted(jacobian(action, g, instance, instance.start), gradient)
    claimed = (rate * transported**2).sum(dim=1) / (rate * gradient**2).sum(dim=1)

    def decrease(params: Tensor, slope: Tensor) -> Tensor:
        """Of a step so short that it is the flow, by a central difference."""
        short = 1e-5 / (rate * slope).norm(dim=1, keepdim=True)
        up, down = (problem.loss(params + sign * short * rate * slope, instance) for sign in (1.0, -1.0))
        return (up - down) / (2.0 * short[:, 0])

    there = problem.loss_and_gradient(moved, instance)[1]
    measured = decrease(moved, there) / decrease(instance.start, gradient)
    torch.testing.assert_close(measured, claimed, rtol=1e-4, atol=0.0)
    clear = (claimed - 1.0).abs() > 1e-3
    assert bool(((measured > 1.0) == (claimed > 1.0))[clear].all())


def test_proposition_5_1_has_both_outcomes() -> None:
    """Some moves accelerate and some do not: otherwise the "if and only if" above would be empty."""
    faster = 0
    for name, symmetry in ACTIONS:
        problem, instance, action, g = case(name, symmetry)
        gradient = problem.loss_and_gradient(instance.start, instance)[1]
        there = problem.loss_and_gradient(action.act(g, instance.start, instance), instance)[1]
        faster += int((there.norm(dim=1) > gradient.norm(dim=1)).sum())
    assert 5 < faster < COUNT * len(ACTIONS) - 5


def orthogonal(seed: int, n: int) -> Tensor:
    return torch.linalg.qr(Streams.from_seeds([seed]).normal((n, n)))[0]


@pytest.mark.parametrize("orthogonal_element", [True, False])
def test_corollary_5_2_orthogonal_actions_change_nothing(orthogonal_element: bool) -> None:
    """Where J is orthogonal the gradient keeps its length, and descent from g.w is g of descent from w, step by step."""
    problem = problem_from("LinearNetwork")
    instance = problem.instances(torch.arange(COUNT), "test")
    action = problem.symmetries["general_linear"]
    parts = []
    for index, width in enumerate(problem.layers.hidden):  # type: ignore[attr-defined]
        part = orthogonal(index, width)
        if not orthogonal_element:
            part = part + 0.1 * torch.eye(width, dtype=torch.float64)
        parts.append(part.expand(COUNT, -1, -1).contiguous())
    g = tuple(parts)
    here, there = instance.start, action.act(g, instance.start, instance)
    for _ in range(5):
        (_, gradient), (_, moved_gradient) = (problem.loss_and_gradient(w, instance) for w in (here, there))
        same_length = torch.isclose(gradient.norm(dim=1), moved_gradient.norm(dim=1), rtol=1e-11, atol=0.0)
        same_place = torch.isclose(action.act(g, here, instance), there, rtol=1e-9, atol=1e-11).all(dim=1)
        if not orthogonal_element:
            break
        assert bool((same_length & same_place).all())
        here, there = here - 0.01 * gradient, there - 0.01 * moved_gradient
    assert bool(same_length.all()) is orthogonal_element


@pytest.mark.parametrize("rates", ["one", "one per layer", "many"])
def test_corollary_5_2_needs_the_learning_rates_kept(rates: str) -> None:
    """The flow's speed is the gradient in the norm of the learning rates: an orthogonal action leaves it alone where it also
    leaves the rates alone, such as one rate per matrix, and changes it where every weight has its own."""
    problem = problem_from("LinearNetwork")
    instance = problem.instances(torch.arange(COUNT), "test")
    action = problem.symmetries["general_linear"]
    layers = problem.layers  # type: ignore[attr-defined]
    g = tuple(orthogonal(i, width).expand(COUNT, -1, -1).contiguous() for i, width in enumerate(layers.hidden))
    rate = torch.ones(1, instance.start.shape[1], dtype=torch.float64)
    if rates == "one per layer":
        rate = layers.flatten([torch.full_like(w, 0.5 + i) for i, w in enumerate(layers.weights(rate))])
    elif rates == "many":
        rate = torch.linspace(0.2, 3.0, rate.shape[1], dtype=torch.float64)[None]
    moved = action.act(g, instance.start, instance)
    speeds = [(rate * problem.loss_and_gradient(w, instance)[1] ** 2).sum(dim=1) for w in (instance.start, moved)]
    change = (speeds[1] / speeds[0] - 1.0).abs()
    assert bool((change < 1e-11).all()) is (rates != "many")
    assert bool((change > 1e-3).all()) is (rates == "many")


@pytest.mark.parametrize("name", ["LinearNetwork", "MLPRegression", "Digits"])
def test_corollary_5_2_permutations(name: str) -> None:
    problem = problem_from(name)
    instance = problem.instances(torch.arange(COUNT), "test")
    action = problem.symmetries["permutation"]
    g = action.group.sample(Streams.from_seeds(range(COUNT)))
    gradient = problem.loss_and_gradient(instance.start, instance)[1]
    there = problem.loss_and_gradient(action.act(g, instance.start, instance), instance)[1]
    torch.testing.assert_close(there.norm(dim=1), gradient.norm(dim=1), rtol=1e-12, atol=0.0)
    assert not torch.allclose(there, gradient, rtol=1e-3, atol=0.0)


def squared_norms_on_level_set(problem: Problem, instance: Instance, level: Tensor, angles: Tensor) -> Tensor:
    """Squared gradient norms ``(angles,)`` of one instance's level set, walked along by angle."""
    circle = torch.sqrt(level) * torch.stack((torch.cos(angles), torch.sin(angles)), dim=1)
    many = instance.repeat(len(angles))
    points = problem.backward(circle, many)  # type: ignore[attr-defined]
    return (problem.loss_and_gradient(points, many)[1] ** 2).sum(dim=1)


def start_at(name: str, params: Tensor | None = None, symmetry: str = "rotation", count: int = 1) -> Start:
    problem = problem_from(name)
    instance = problem.instances(torch.arange(count), "paper" if symmetry == "rotation" else "test")
    params = instance.start if params is None else params
    evaluator = Evaluator(problem, instance)
    loss, gradient = evaluator.loss_and_gradient(params)
    rates, streams = torch.full_like(loss, 0.01), Streams.from_seeds(range(count))
    return Start(params, loss, gradient, rates, problem.symmetries[symmetry], evaluator, streams)


def shares_of_the_most(name: str, rate: float, steps: int, teleport: bool) -> list[float]:
    """Squared gradient norm over the most that the run's level set has, at every step of a descent that is teleported to the
    best angle before the first."""
    begin = start_at(name)
    problem, instance, params = begin.evaluator.problem, begin.evaluator.instance, begin.params
    if teleport:
        affine = name != "Rosenbrock"
        found = search_from("closed_form" if affine else {"search": "grid", "points": 20001}).find(begin)
        assert bool(found.moved.all())
        params = found.params
    angles = torch.linspace(0.0, 2.0 * torch.pi, 20001, dtype=torch.float64)
    shares = []
    for _ in range(steps):
        loss, gradient = problem.loss_and_gradient(params, instance)
        most = squared_norms_on_level_set(problem, instance, loss, angles).max()
        shares.append(float((gradient**2).sum() / most))
        params = params - rate * gradient
    return shares


@pytest.mark.parametrize("name", ["Booth", "Ellipse"])
def test_one_teleport_is_enough_where_descent_keeps_to_the_longest_gradients(name: str) -> None:
    """Ours, with steps of a finite rate in place of Proposition 5.5's gradient flow: on Booth's function and the ellipse
    the teleported run stays at the longest gradient of each level set that it comes to. Further teleports have nothing to
    gain. Without the first it is not there."""
    shares = shares_of_the_most(name, 0.03, 12, teleport=True)
    assert min(shares) > 1.0 - 1e-5
    assert max(shares) < 1.0 + 1e-5
    assert min(shares_of_the_most(name, 0.03, 12, teleport=False)) < 0.9


def test_one_teleport_is_not_enough_on_rosenbrocks_function() -> None:
    """Ours, where Proposition 5.5 says nothing: on Rosenbrock's function the path leaves the ridge of longest gradients,
    which is why the publication teleports ten times there and once on Booth's."""
    shares = shares_of_the_most("Rosenbrock", 1e-4, 12, teleport=True)
    assert shares[0] > 1.0 - 1e-5
    assert min(shares) < 0.9


class LogQuadratic(Quadratic):
    """``log(1 + w'Aw)``: the level sets and so the symmetry of a quadratic form, but neither quadratic nor convex."""

    def loss(self, params: Tensor, instance: Instance, batch: Tensor | None = None) -> Tensor:
        return torch.log1p(super().loss(params, instance, batch))

    def loss_and_gradient(
        self, params: Tensor, instance: Instance, batch: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        value, gradient = super().loss_and_gradient(params, instance, batch)
        return torch.log1p(value), gradient / (1.0 + value)[:, None]


def largest_curvature(instance: Instance, run: int, points: Tensor) -> float:
    """The largest spectral norm of the Hessian of Rosenbrock's function on the box that holds all points ``(..., 2)``.

    Its entries are ``12 b x^2 - 4 b y + 2``, ``-4 b x`` and ``2 b``: affine in y, so that its norm is largest at an end.
    """
    low, high = points.reshape(-1, 2).min(dim=0).values, points.reshape(-1, 2).max(dim=0).values
    x = torch.linspace(float(low[0]), float(high[0]), 2001, dtype=torch.float64)[:, None]
    y = torch.stack([low[1], high[1]])[None]
    b = float(instance["curvature"][run])
    corner = 12.0 * b * x**2 - 4.0 * b * y + 2.0
    across = (-4.0 * b * x).expand_as(corner)
    rows = (torch.stack([corner, across], dim=-1), torch.stack([across, torch.full_like(corner, 2.0 * b)], dim=-1))
    return float(torch.linalg.matrix_norm(torch.stack(rows, dim=-2), ord=2).max())


@pytest.mark.parametrize("name", ["LogQuadratic", "Rosenbrock"])
def test_proposition_5_4_for_losses_that_are_not_quadratic(name: str) -> None:
    """With a gradient of Lipschitz constant ``l`` (Assumption 5.3) the teleported run has the longer gradient for at least
    as many steps as ``((1 + lr l) / (1 - lr l))^T`` stays below the ratio of the gradients at the start."""
    problem = LogQuadratic(dimension=6) if name == "LogQuadratic" else Rosenbrock()
    instance = problem.instances(torch.arange(4), "train" if name == "LogQuadratic" else "test")
    action = problem.symmetries["rotation"]
    if name == "LogQuadratic":  # the same level sets as the quadratic form's, so that the best rotation is the same
        g = action.optimal_element("gradient_norm", instance.start, instance)  # type: ignore[attr-defined]
        teleported = action.act(g, instance.start, instance)
    else:
        evaluator, streams = Evaluator(problem, instance), Streams.from_seeds(range(4))
        loss, gradient = evaluator.loss_and_gradient(instance.start)
        start = Start(instance.start, loss, gradient, torch.full_like(loss, 0.01), action, evaluator, streams)
        teleported = search_from({"search": "grid", "points": 2001}).find(start).params
    level = problem.loss(instance.start, instance)
    torch.testing.assert_close(problem.loss(teleported, instance), level, rtol=1e-9, atol=0.0)
    rate, steps = (0.01, 200) if name == "LogQuadratic" else (2e-6, 400)
    paths, norms = [], []
    for params in (teleported, instance.start):
        path, lengths = [params], []
        for _ in range(steps):
            slope = problem.loss_and_gradient(path[-1], instance)[1]
            lengths.append(slope.norm(dim=1))
            path.append(path[-1] - rate * slope)
        paths.append(torch.stack(path))
        norms.append(torch.stack(lengths))
    held = []
    for run in range(4):
        if name == "LogQuadratic":  # of its Hessian no eigenvalue is beyond those of 2 A
            smooth = 2.0 * float(instance["eigenvalues"][run].max())
        else:
            smooth = largest_curvature(instance, run, torch.stack([path[:, run] for path in paths]))
        assert rate * smooth < 1.0
        ratio = float(norms[0][0, run] / norms[1][0, run])
        promised = int(math.log(ratio) / math.log((1.0 + rate * smooth) / (1.0 - rate * smooth)))
        held.append(min(promised, steps - 1))
        assert bool((norms[0][: held[-1] + 1, run] >= norms[1][: held[-1] + 1, run]).all())
    assert max(held) >= 5, "the proposition must promise something"


@pytest.mark.parametrize(("name", "symmetry"), [pair for pair in ACTIONS if pair[1] != "rotation"])
@pytest.mark.parametrize("rate", [1e-8, 1e-3])
def test_algorithm_1_ascends(name: str, symmetry: str, rate: float) -> None:
    """A walk of the published search lengthens the gradient, and a short one by its rate times the squared length of the
    derivative, which is taken here by differentiating through the action."""
    begin = start_at(name, symmetry=symmetry, count=COUNT)
    problem, instance, action = begin.evaluator.problem, begin.evaluator.instance, begin.symmetry
    coordinates = torch.zeros(COUNT, action.group.dim, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        moved = action.act(action.group.exp(coordinates), begin.params, instance)
        slope = torch.autograd.grad(problem.loss(moved, instance).sum(), moved, create_graph=True)[0]
        derivative = torch.autograd.grad((slope**2).sum(), coordinates)[0]
    rate = rate / float((derivative**2).sum(dim=1).max() ** 0.5)  # the longest step has this length
    found = search_from({"search": "gradient_ascent", "steps": 1, "rate": rate, "objective": "any"}).find(begin)
    grown = (found.gradient**2).sum(dim=1) - (begin.gradient**2).sum(dim=1)
    assert bool((grown > 0.0).all())
    there = problem.loss_and_gradient(found.params, instance)[1]  # at the point itself
    torch.testing.assert_close((there**2).sum(dim=1) - (begin.gradient**2).sum(dim=1), grown, rtol=0.2, atol=0.0)
    torch.testing.assert_close(grown, rate * (derivative**2).sum(dim=1), rtol=0.2, atol=0.0)
