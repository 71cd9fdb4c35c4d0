"""Scores of points."""

from __future__ import annotations

import pytest
import torch
from search_cases import parts, problem_named, start_of

from teleport_env.random import Streams
from teleport_env.searches.objectives import OBJECTIVES, objective_named, squared_norm

SCORED = [name for name, objective in OBJECTIVES.items() if objective is not None]


@pytest.mark.parametrize("name", SCORED)
def test_candidates_score_as_single_points_do(name: str) -> None:
    problem = problem_named("MatrixFactorization")
    start = start_of(problem, problem.symmetries["scaling"], [0, 1, 2], 0.01)
    objective = objective_named(name)
    params = torch.stack((start.params, 0.9 * start.params, -start.params), dim=1)
    gradient = torch.stack((start.gradient, 2 * start.gradient, start.gradient), dim=1)
    together = objective.score(start, params, gradient)
    assert together.shape == (3, 3)
    for index in range(3):
        single = objective.score(start, params[:, index], gradient[:, index])
        assert torch.equal(together[:, index], single)
    assert torch.equal(together[:, 0], objective.start_score(start))


@pytest.mark.parametrize("name", SCORED)
def test_a_score_costs_what_it_says(name: str) -> None:
    problem = problem_named("Booth")
    start = start_of(problem, problem.symmetries["rotation"], [0, 1], 0.01)
    objective = objective_named(name)
    objective.score(start, start.params, start.gradient)
    assert parts(start.evaluator.counts, 2)["forward"].tolist() == [objective.forwards] * 2
    assert parts(start.evaluator.counts, 2)["gradient"].tolist() == [0.0] * 2


def test_the_scores_themselves() -> None:
    problem = problem_named("Booth")
    start = start_of(problem, problem.symmetries["rotation"], [0, 1], 0.01)
    norm = (start.gradient**2).sum(1)
    expected = {
        "gradient_norm": norm,
        "relative": norm,
        "balance_gradient": -norm,
        "balance_weights": -(start.params**2).sum(1),
        "virtual_step": -problem.loss(start.params - 0.01 * start.gradient, start.instance),
    }
    assert set(expected) == set(SCORED)
    for name, value in expected.items():
        torch.testing.assert_close(objective_named(name).start_score(start), value)


def test_the_norm_of_the_weights_counts_each_layer_once() -> None:
    """In a chain an inner matrix belongs to two pairs."""
    problem = problem_named("LinearNetwork")
    start = start_of(problem, problem.symmetries["scaling"], [0, 1])
    layers = problem.layers.weights(start.params)  # type: ignore[attr-defined]
    expected = -sum(layer.square().sum((1, 2)) for layer in layers)
    torch.testing.assert_close(objective_named("balance_weights").start_score(start), expected)


def test_a_score_that_is_not_a_number_is_the_worst() -> None:
    problem = problem_named("Rosenbrock")
    start = start_of(problem, problem.symmetries["rotation"], [0, 1], 1e200)
    assert objective_named("virtual_step").start_score(start).tolist() == [-torch.inf] * 2
    nan = torch.full_like(start.gradient, torch.nan)
    assert objective_named("gradient_norm").score(start, start.params, nan).tolist() == [-torch.inf] * 2


def test_a_gradient_that_is_missing_is_named() -> None:
    problem = problem_named("Booth")
    start = start_of(problem, problem.symmetries["rotation"], [0])
    for name in SCORED:
        if objective_named(name).needs_gradient:
            with pytest.raises(ValueError, match=f"{name!r} needs the gradient"):
                objective_named(name).score(start, start.params, None)


def test_norms_do_not_depend_on_the_memory_layout() -> None:
    """With one run every layout counts as row-major, so a column-major tensor of many must be summed like it."""
    rows = Streams.from_seeds(list(range(7))).normal((257,))
    columns = rows.t().contiguous().t()
    assert not columns.is_contiguous()
    assert not torch.equal((rows * rows).sum(1), (columns * columns).sum(1))  # the reason
    assert torch.equal(squared_norm(rows), squared_norm(columns))
    for row in range(7):
        assert torch.equal(squared_norm(columns)[row], squared_norm(columns[row : row + 1])[0])
