"""Looking one step ahead."""

from __future__ import annotations

import torch
from search_cases import problem_named, start_of

from teleport_env.searches import Start, VirtualStep

IDS = list(range(12))


def start_at(problem_name: str, symmetry: str, learning_rate: float) -> Start:
    problem = problem_named(problem_name)
    return start_of(problem, problem.symmetries[symmetry], IDS, learning_rate)


def following(start: Start, params: torch.Tensor, gradient: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    return start.evaluator.problem.loss(params - rate[:, None] * gradient, start.instance)


def test_both_directions_are_taken() -> None:
    """At a small rate a steeper point is better, at a large one a flatter."""
    for rate, sign in ((1e-3, 1.0), (0.3, -1.0)):
        start = start_at("Booth", "rotation", rate)
        found = VirtualStep().find(start)
        change = found.gradient.square().sum(1) - start.gradient.square().sum(1)
        assert int(found.moved.sum()) >= 8
        assert bool((sign * change[found.moved] > 0).all())


def test_the_next_step_ends_lower() -> None:
    start = start_at("Rosenbrock", "rotation", 2e-3)
    found = VirtualStep().find(start)
    stay = following(start, start.params, start.gradient, start.learning_rate)
    go = following(start, found.params, found.gradient, start.learning_rate)
    assert bool(found.moved.any())
    assert bool((~found.moved).any())
    assert bool((go[found.moved] < stay[found.moved]).all())
    assert bool((found.rate_factor == 1).all())


def test_more_radii_are_never_worse() -> None:
    start = start_at("Rosenbrock", "rotation", 2e-3)
    few = VirtualStep(radii=(0.3,)).find(start_at("Rosenbrock", "rotation", 2e-3))
    many = VirtualStep(radii=(0.3, 0.1, 1.0)).find(start_at("Rosenbrock", "rotation", 2e-3))
    loss = [following(start, found.params, found.gradient, start.learning_rate) for found in (few, many)]
    assert bool((loss[1] <= loss[0]).all())
    assert bool((loss[1] < loss[0]).any())


def test_the_fitted_rate_is_exact_on_a_parabola() -> None:
    """Along the gradient a quadratic is its own parabola, and its best rate is |G|^2 / (G' H G)."""
    start = start_at("Booth", "rotation", 1e-3)
    found = VirtualStep(fit_rate=True, max_factor=1000.0).find(start)
    assert bool(found.moved.any())
    matrix = start.instance["map"]
    gradient = found.gradient[found.moved]
    curvature = 2.0 * (matrix[found.moved] @ gradient[:, :, None]).square().sum((1, 2))
    best = gradient.square().sum(1) / curvature
    torch.testing.assert_close(found.rate_factor[found.moved] * 1e-3, best, rtol=1e-7, atol=0.0)
    assert bool((found.rate_factor[~found.moved] == 1).all())


def test_fitting_the_rate_promises_what_the_step_keeps() -> None:
    start = start_at("LinearNetwork", "general_linear", 1e-3)
    found = VirtualStep(fit_rate=True).find(start)
    stay = following(start, start.params, start.gradient, start.learning_rate)
    go = following(start, found.params, found.gradient, start.learning_rate * found.rate_factor)
    assert bool((go[found.moved] < stay[found.moved]).all())
    assert bool((found.rate_factor[found.moved] > 1).any())


def test_the_factor_is_bounded() -> None:
    found = VirtualStep(fit_rate=True, max_factor=2.0).find(start_at("Booth", "rotation", 1e-6))
    assert float(found.rate_factor.max()) == 2.0


def test_a_rate_at_which_every_virtual_step_diverges_is_cut() -> None:
    start = start_at("Booth", "rotation", 1e3)
    found = VirtualStep(fit_rate=True, max_factor=1e6).find(start)
    stay = following(start, start.params, start.gradient, start.learning_rate)
    go = following(start, found.params, found.gradient, start.learning_rate * found.rate_factor)
    assert bool(found.moved.all())
    assert bool((found.rate_factor < 1e-2).all())
    assert bool((go < 1e-3 * stay).all())
