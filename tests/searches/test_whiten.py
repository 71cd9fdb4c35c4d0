"""Whitening: what the action makes of second moments, and what the next step makes of that."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from search_cases import problem_named, start_of

from teleport_env.instances import Instance
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.runs import Runs
from teleport_env.searches import Whiten

IDS = [0, 1, 2, 3]
RATE = 1e-3


def hessian(problem: Problem, params: torch.Tensor, instance: Instance, layer: int) -> torch.Tensor:
    """Of the loss in one layer's weights, for a single run, by double backward."""
    layers = problem.layers  # type: ignore[attr-defined]
    weights = [weight.detach() for weight in layers.weights(params)]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        changed = [flat.reshape(weight.shape) if index == layer else weight for index, weight in enumerate(weights)]
        return problem.loss(layers.flatten(changed), instance)[0]

    found = torch.autograd.functional.hessian(loss, weights[layer].flatten())
    assert isinstance(found, torch.Tensor)
    return found


SERVED = [
    ("MatrixFactorization", -1, "inputs"),
    ("MatrixFactorization", -1, "outputs"),
    ("LinearNetwork", -1, "inputs"),
    ("LinearNetwork", 0, "inputs"),
    ("LinearNetwork", -1, "outputs"),
    ("LinearNetwork", 0, "outputs"),
]


@pytest.mark.parametrize(("name", "hidden", "side"), SERVED)
def test_the_largest_eigenvalue_is_one_over_the_rate(name: str, hidden: int, side: str) -> None:
    """By a Hessian that knows nothing of whitening; and every eigenvalue of the top layer with inputs is it, or zero."""
    problem = problem_named(name)
    layers = problem.layers  # type: ignore[attr-defined]
    for row in IDS:
        start = start_of(problem, problem.symmetries["general_linear"], [row], RATE)
        found = Whiten(hidden=hidden, side=side, fit_rate=False).find(start)
        assert bool(found.moved.all())
        layer = hidden % len(layers.hidden) + (side == "inputs")
        values = torch.linalg.eigvalsh(hessian(problem, found.params, start.instance, layer)) * RATE
        assert float(values.max()) == pytest.approx(1.0, rel=1e-6)
        if layer == layers.count - 1:
            assert bool(((values - 1.0).abs().minimum(values.abs()) < 1e-6).all())


@pytest.mark.parametrize(("name", "hidden", "side"), SERVED)
def test_the_other_layer_is_left_where_it_is(name: str, hidden: int, side: str) -> None:
    """A fitted rate times the largest eigenvalue of the pair's other layer is at most the square of ``calm``."""
    problem = problem_named(name)
    layers = problem.layers  # type: ignore[attr-defined]
    calm = 0.02
    for row in IDS:
        start = start_of(problem, problem.symmetries["general_linear"], [row], RATE)
        found = Whiten(hidden=hidden, side=side, calm=calm).find(start)
        layer = hidden % len(layers.hidden) + (side == "outputs")
        values = torch.linalg.eigvalsh(hessian(problem, found.params, start.instance, layer))
        assert float(values.max() * RATE * found.rate_factor[0]) <= calm**2 * (1.0 + 1e-9)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_layer_of_zeros_has_no_shape_to_change(side: str) -> None:
    """Regression: it was scaled by 1e154, and the run could never move again."""
    problem = problem_named("LinearNetwork")
    start = start_of(problem, problem.symmetries["general_linear"], IDS, RATE)
    weights = list(problem.layers.weights(start.params))  # type: ignore[attr-defined]
    index = 1 if side == "inputs" else 2
    weights[index] = torch.zeros_like(weights[index])
    params = problem.layers.flatten(weights)  # type: ignore[attr-defined]
    loss, gradient = problem.loss_and_gradient(params, start.instance)
    found = Whiten(side=side).find(dataclasses.replace(start, params=params, loss=loss, gradient=gradient))
    assert not bool(found.moved.any())
    assert torch.equal(found.params, params)


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
    searches = ["whiten_inputs", "whiten_outputs"]
    problem = problem_named("MatrixFactorization")
    runs = Runs(problem, 16, symmetry="general_linear", searches=searches, learning_rate=0.075)
    runs.reset(Streams.from_seeds(list(range(16))).keys, torch.arange(16))
    for search in (0, 1):
        runs.teleport(torch.full((16,), search))
        runs.step()
    gained = torch.log10(runs.progress.initial_loss / runs.progress.loss)
    assert float(gained.median()) > 10.0
    assert float(gained.min()) > 4.0


def test_the_next_step_solves_the_upper_layer() -> None:
    problem = problem_named("LinearNetwork")
    runs = Runs(problem, 8, symmetry="general_linear", searches=[Whiten(calm=1e-4)], learning_rate=0.012)
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
    found = Whiten().find(start)
    assert bool((found.rate_factor <= 1.0).all())


def test_refusals() -> None:
    factorization, network = problem_named("MatrixFactorization"), problem_named("MLPRegression")
    with pytest.raises(ValueError, match="use the symmetry 'general_linear'"):
        Whiten().check(factorization, factorization.symmetries["scaling"])
    with pytest.raises(ValueError, match="hidden .* between -1 and 0"):
        Whiten(hidden=1).check(factorization, factorization.symmetries["general_linear"])
    with pytest.raises(ValueError, match="an action that keeps the loss"):
        Whiten().check(network, network.symmetries["general_linear_first_order"])
    with pytest.raises(ValueError, match="side .* one of 'inputs', 'outputs'"):
        Whiten(side="above")
