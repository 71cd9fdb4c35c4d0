"""What is particular to the two ascents."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from search_cases import LEARNING_RATES, RATES, problem_named, start_of

from teleport_env.groups import Product
from teleport_env.searches import GradientAscent, NormalizedAscent, Start, Status
from teleport_env.searches.directions import ascent_direction
from teleport_env.searches.moves import at_start
from teleport_env.symmetries import CoordinateChange

EXACT = [
    ("Rosenbrock", "rotation"),
    ("RosenbrockND", "rotation"),
    ("Booth", "rotation"),
    ("Quadratic", "rotation"),
    ("MatrixFactorization", "general_linear"),
    ("LinearNetwork", "general_linear"),
    ("LinearNetwork", "scaling"),
    ("MLPRegression", "general_linear"),
    ("MLPRegression", "scaling"),
]


def start_at(problem_name: str, symmetry_name: str, ids: list[int] | None = None) -> Start:
    problem = problem_named(problem_name)
    symmetry = problem.symmetries[symmetry_name]
    return start_of(problem, symmetry, [0, 1, 2] if ids is None else ids, LEARNING_RATES[problem_name])


@pytest.mark.parametrize(("problem", "symmetry"), EXACT)
def test_the_direction_needs_no_hessian(problem: str, symmetry: str) -> None:
    start = start_at(problem, symmetry)
    free = ascent_direction(start, at_start(start), "hessian_free")
    through_loss = ascent_direction(start, at_start(start), "double_backward")
    scale = through_loss.norm(dim=1, keepdim=True)
    torch.testing.assert_close(free / scale, through_loss / scale, rtol=1e-8, atol=1e-9)


def test_the_hessian_free_direction_is_wrong_where_the_loss_is_not_kept() -> None:
    """The reason for ``derivative="auto"``: the first-order variant of one and the same network."""
    start = start_at("MLPRegression", "general_linear_first_order")
    other = start_at("MLPRegression", "general_linear")
    through_loss = ascent_direction(start, at_start(start), "auto")
    free = ascent_direction(other, at_start(other), "hessian_free")
    assert float((through_loss - free).norm() / free.norm()) > 1e-2


@pytest.mark.parametrize(("problem", "symmetry"), EXACT)
def test_both_derivatives_end_at_the_same_point(problem: str, symmetry: str) -> None:
    settings: dict[str, Any] = {"steps": 3, "rate": RATES[problem], "trust_radius": None}
    free = GradientAscent(derivative="hessian_free", **settings).find(start_at(problem, symmetry))
    through = GradientAscent(derivative="double_backward", **settings).find(start_at(problem, symmetry))
    assert bool(free.moved.all())
    torch.testing.assert_close(free.params, through.params, rtol=1e-7, atol=1e-8)


def test_the_last_step_is_taken() -> None:
    """Regression: the released code computes its last direction and throws it away."""
    start = start_at("Rosenbrock", "rotation")
    found = GradientAscent(steps=1, rate=1e-7).find(start)
    again = start_at("Rosenbrock", "rotation")
    xi = 1e-7 * ascent_direction(again, at_start(again))
    group = again.symmetry.group
    torch.testing.assert_close(found.params, again.symmetry.act(group.exp(xi), again.params, again.instance))
    assert bool((found.params != start.params).any())


@pytest.mark.parametrize("symmetry", ["general_linear", "scaling"])
def test_the_steps_compose_to_the_element(symmetry: str) -> None:
    start = start_at("LinearNetwork", symmetry)
    assert isinstance(start.symmetry.group, Product)
    for search in (GradientAscent(steps=4, rate=1e-4), NormalizedAscent(steps=4, radius=0.9, decay=1.0, shrink=0.1)):
        found = search.find(start_at("LinearNetwork", symmetry))
        assert bool(found.moved.all())
        assert found.element is not None
        moved = start.symmetry.act(found.element, start.params, start.instance)
        torch.testing.assert_close(moved, found.params)


def test_random_starts_on_the_circle_are_uniform_up_to_pi() -> None:
    """As published: theta_0 ~ U(0, pi)."""
    ids = list(range(3000))
    start = start_at("Booth", "rotation", ids)
    found = GradientAscent(steps=1, rate=1e-300, start="random", objective="any").find(start)
    symmetry = start.symmetry
    assert isinstance(symmetry, CoordinateChange)
    (u, v), (x, y) = (symmetry.forward(params, start.instance).T for params in (start.params, found.params))
    angle = torch.atan2(u * y - v * x, u * x + v * y)
    assert bool(((angle >= 0) & (angle <= math.pi)).all())
    counts = torch.histc(angle, 10, 0.0, math.pi)
    assert float((counts - 300).square().sum() / 300) < 30  # chi-squared with 9 degrees of freedom: beyond 1e-3


def test_the_trust_radius_shortens_the_ascent_where_the_group_is_not_compact() -> None:
    bound = 0.5
    wild = GradientAscent(steps=5, rate=1e3, trust_radius=bound).find(start_at("LinearNetwork", "scaling"))
    assert isinstance(wild.element, tuple)
    total = torch.cat(wild.element, dim=1).log().norm(dim=1)
    assert bool((total <= bound * (1 + 1e-12)).all())
    assert bool((total > 0.4 * bound).all())
    turned = GradientAscent(steps=5, rate=1e3, trust_radius=bound, objective="any")
    assert bool(turned.find(start_at("Booth", "rotation")).moved.all())


def test_an_unbounded_ascent_ends_in_numbers_that_are_not_finite() -> None:
    start = start_at("LinearNetwork", "general_linear")
    found = GradientAscent(steps=5, rate=1e3, trust_radius=None).find(start)
    assert set(found.status.tolist()) == {int(Status.NOT_FINITE)}
    assert torch.equal(found.params, start.params)


def test_the_first_order_variant_is_one_plus_t() -> None:
    """Its loss leaks, it moves all the same, and the leak is reported."""
    start = start_at("MLPRegression", "general_linear_first_order")
    found = GradientAscent(steps=1, rate=1e-7, objective="any").find(start)
    again = start_at("MLPRegression", "general_linear_first_order")
    xi = 1e-7 * ascent_direction(again, at_start(again))
    assert isinstance(again.symmetry.group, Product)
    identity = again.symmetry.group.identity(3)
    element = tuple(one + t for one, t in zip(identity, again.symmetry.group.algebra(xi), strict=True))
    torch.testing.assert_close(found.params, again.symmetry.act(element, again.params, again.instance))
    assert bool(found.moved.all())
    assert bool((found.loss_change.abs() > 1e-6).all())


@pytest.mark.parametrize("objective", ["gradient_norm", "balance_gradient", "relative"])
def test_more_steps_are_never_worse(objective: str) -> None:
    sign = -1.0 if objective == "balance_gradient" else 1.0
    norms = []
    for steps in (1, 2, 4, 8):
        search = NormalizedAscent(
            steps=steps, objective=objective, decay=1.0, trust_radius=10.0, loss_tolerance=1e-4
        )  # g gets ill-conditioned on the way; what is asked here is where the ascent goes
        found = search.find(start_at("LinearNetwork", "general_linear"))
        norms.append(sign * found.gradient.square().sum(dim=1))
    for fewer, more in pairwise(norms):
        assert bool((more >= fewer).all())
    assert bool((norms[-1] > norms[0]).all())


def test_a_step_that_overshoots_is_undone_and_shortened() -> None:
    """Beyond the best angle each further step of a quarter turn is useless; only shrinking comes closer to it."""
    stubborn = NormalizedAscent(steps=12, radius=math.pi / 2, decay=1.0, shrink=1.0, trust_radius=100.0)
    patient = NormalizedAscent(steps=12, radius=math.pi / 2, decay=1.0, shrink=0.5, trust_radius=100.0)
    ids = list(range(20))
    before = start_at("Booth", "rotation", ids)
    largest = 4 * torch.linalg.matrix_norm(before.instance["map"], ord=2) ** 2 * before.loss
    reached = [
        search.find(start_at("Booth", "rotation", ids)).gradient.square().sum(dim=1) / largest
        for search in (stubborn, patient)
    ]
    assert float(reached[1].min()) > 0.999
    assert float(reached[0].min()) < 0.99


def test_the_total_length_stays_within_the_trust_radius() -> None:
    search = NormalizedAscent(steps=10, radius=0.5, decay=1.0, trust_radius=0.8, retract=False)
    found = search.find(start_at("LinearNetwork", "scaling"))
    assert isinstance(found.element, tuple)
    length = torch.cat(found.element, dim=1).log().norm(dim=1)
    assert bool((length <= 0.8 + 1e-12).all())
    assert bool((length > 0.7).all())


def test_too_long_a_step_for_the_retraction_is_refused() -> None:
    problem = problem_named("LinearNetwork")
    search = NormalizedAscent(radius=2.5, trust_radius=5.0)
    with pytest.raises(ValueError, match="retract=False"):
        search.check(problem, problem.symmetries["general_linear"])
    search.check(problem, problem.symmetries["scaling"])
    NormalizedAscent(radius=2.5, trust_radius=5.0, retract=False).check(problem, problem.symmetries["general_linear"])
