"""Whitening: what the action makes of second moments, and what the next step makes of that."""

from __future__ import annotations

import pytest
import torch
from search_cases import problem_named, start_of

from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.runs import Runs
from teleport_env.searches import Whiten

IDS = [0, 1, 2, 3]
RATE = 1e-3


def moments(problem: Problem, params: torch.Tensor, start: object, hidden: int) -> torch.Tensor:
    """Second moments of what goes into the layer above a hidden one."""
    inputs = problem.layer_inputs(params, start.instance)  # type: ignore[attr-defined]
    assert inputs is not None
    a = inputs[hidden + 1]
    assert a is not None
    return a @ a.mT


@pytest.mark.parametrize("hidden", [0, -1])
def test_inputs_become_white(hidden: int) -> None:
    """At the scale at which a step at the run's rate is Newton's: one over rate and curvature."""
    for name, curvature in (("MatrixFactorization", 2.0), ("LinearNetwork", 1.0)):
        problem = problem_named(name)
        start = start_of(problem, problem.symmetries["general_linear"], IDS, RATE)
        found = Whiten(hidden=hidden).find(start)
        assert bool(found.moved.all())
        place = hidden % len(problem.symmetries["general_linear"].layers.hidden)  # type: ignore[attr-defined]
        after = moments(problem, found.params, start, place)
        found_values = torch.linalg.eigvalsh(after) * RATE * curvature
        # inputs of a lower rank than the layer's width leave directions that nothing fills
        rank = torch.linalg.matrix_rank(moments(problem, start.params, start, place))
        count = found_values.shape[1]
        expected = (torch.arange(count) >= count - rank[:, None]).to(torch.float64)
        torch.testing.assert_close(found_values, expected, rtol=1e-8, atol=1e-8)


def test_the_layer_above_becomes_orthonormal_up_to_scale() -> None:
    problem = problem_named("MatrixFactorization")
    start = start_of(problem, problem.symmetries["general_linear"], IDS, RATE)
    found = Whiten(side="outputs", scale="trace").find(start)
    upper = problem.layers.weights(found.params)[1]  # type: ignore[attr-defined]
    before = problem.layers.weights(start.params)[1]  # type: ignore[attr-defined]
    level = (before.mT @ before).diagonal(dim1=1, dim2=2).mean(1)
    expected = level[:, None, None] * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(upper.mT @ upper, expected, rtol=1e-9, atol=1e-9)


def test_descent_becomes_alternating_least_squares() -> None:
    """A factorization of exact rank is solved by a step in either factor; no optimizer without teleports does it."""
    searches = [{"search": "whiten_inputs", "fit_rate": True}, {"search": "whiten_outputs", "fit_rate": True}]
    runs = Runs(
        problem_named("MatrixFactorization"), 16, symmetry="general_linear", searches=searches, learning_rate=0.075
    )
    runs.reset(Streams.from_seeds(list(range(16))).keys, torch.arange(16))
    for search in (0, 1):
        runs.teleport(torch.full((16,), search))
        runs.step()
    gained = torch.log10(runs.progress.initial_loss / runs.progress.loss)
    assert float(gained.median()) > 10.0
    assert float(gained.min()) > 4.0


def test_the_next_step_solves_the_upper_layer() -> None:
    problem = problem_named("LinearNetwork")
    runs = Runs(problem, 8, symmetry="general_linear", searches=[Whiten(fit_rate=True, calm=1e-4)], learning_rate=0.012)
    runs.reset(Streams.from_seeds(list(range(8))).keys, torch.arange(8))
    inputs = problem.layer_inputs(runs.params, runs.instance)
    assert inputs is not None
    a, target = inputs[-1], runs.instance["targets"]
    assert a is not None
    best = 0.5 * (target - target @ torch.linalg.pinv(a) @ a).square().flatten(1).sum(1)
    before = runs.progress.loss.clone()
    runs.teleport(torch.zeros(8, dtype=torch.int64))
    torch.testing.assert_close(runs.progress.loss, before, rtol=1e-9, atol=0.0)
    runs.step()
    # a rate's lower end is what keeps the step from being the solution: the other layers move a little
    assert bool(((runs.progress.loss - best) < 1e-3 * (before - best)).all())


def test_a_rate_is_never_raised() -> None:
    problem = problem_named("LinearNetwork")
    start = start_of(problem, problem.symmetries["general_linear"], IDS, 1e-9)
    found = Whiten(fit_rate=True).find(start)
    assert bool((found.rate_factor <= 1.0).all())


def test_refusals() -> None:
    factorization, network = problem_named("MatrixFactorization"), problem_named("MLPRegression")
    with pytest.raises(ValueError, match="use the symmetry 'general_linear'"):
        Whiten().check(factorization, factorization.symmetries["scaling"])
    with pytest.raises(ValueError, match="hidden .* between -1 and 0"):
        Whiten(hidden=1).check(factorization, factorization.symmetries["general_linear"])
    with pytest.raises(ValueError, match="an action that keeps the loss"):
        Whiten().check(network, network.symmetries["general_linear_first_order"])
    with pytest.raises(ValueError, match="fit_rate .* scale 'rate'"):
        Whiten(scale="trace", fit_rate=True)
    with pytest.raises(ValueError, match="side .* one of 'inputs', 'outputs'"):
        Whiten(side="above")
