"""What every search promises on every symmetry it serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from search_cases import Case, cases, parts, same_bits, start_of_case

from counting import CountingProblem
from teleport_env.instances import Instance
from teleport_env.ledger import Counts
from teleport_env.problems.base import Evaluator
from teleport_env.searches import Found, Search, Status, search_from
from teleport_env.searches.objectives import objective_named

CASES = cases()
IDS = [3, 1, 4, 15, 9, 2, 6]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def score(search: Search, start: Any, params: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return objective_named(search.objective).score(start, params, gradient)


def with_moved_data(case: Case, instance: Instance, found: Found) -> Instance:
    """The instances after the teleport: some actions move the data along with the weights."""
    if not case.symmetry.moves_data or found.element is None:
        return instance
    moved = case.symmetry.move_data(found.element, instance["inputs"], instance)
    inputs = torch.where(found.moved[:, None, None], moved, instance["inputs"])
    return replace(instance, tensors={**instance.tensors, "inputs": inputs})


@every_case
def test_the_objective_never_worsens_and_staying_changes_nothing(case: Case) -> None:
    start = start_of_case(case, IDS)
    found = case.search.find(start)
    if case.search.objective != "any":
        before = score(case.search, start, start.params, start.gradient)
        rate = start.learning_rate
        start.learning_rate = rate * found.rate_factor  # virtual_step promises the loss at the rate it chose
        after = score(case.search, start, found.params, found.gradient)
        assert bool((after[found.moved] > before[found.moved]).all())
    stayed = ~found.moved
    assert torch.equal(found.params[stayed], start.params[stayed])
    assert torch.equal(found.loss[stayed], start.loss[stayed])
    assert torch.equal(found.gradient[stayed], start.gradient[stayed])
    assert bool((found.rate_factor[stayed] == 1).all())
    assert torch.equal(found.moved, found.status == int(Status.MOVED))


@every_case
def test_loss_and_gradient_are_those_of_the_new_point(case: Case) -> None:
    start = start_of_case(case, IDS)
    found = case.search.find(start)
    loss, gradient = case.problem.loss_and_gradient(found.params, with_moved_data(case, start.instance, found))
    torch.testing.assert_close(found.loss, loss, rtol=1e-10, atol=0.0)
    scale = gradient.abs().amax()
    torch.testing.assert_close(found.gradient / scale, gradient / scale, rtol=1e-8, atol=1e-9)


@every_case
def test_an_invariant_action_keeps_the_loss(case: Case) -> None:
    if not case.symmetry.keeps_loss:
        pytest.skip("the first-order variant does not keep the loss")
    start = start_of_case(case, IDS)
    found = case.search.find(start)
    loss = case.problem.loss(found.params, with_moved_data(case, start.instance, found))
    moved = found.moved
    torch.testing.assert_close(loss[moved], start.loss[moved], rtol=_allowed(case), atol=0.0)


def _allowed(case: Case) -> float:
    # published form of the residual's action, and all that is built from pseudo-inverses, loses digits to conditioning
    return 1e-6 if case.symmetry.data_dependent else 1e-10


@every_case
def test_the_ledger_is_an_independent_count(case: Case) -> None:
    counted = CountingProblem(case.problem)
    start = start_of_case(case, IDS, counted=counted)
    case.search.find(start)
    seen = counted.evaluations()
    booked = parts(start.evaluator.counts, len(IDS))
    for name in ("forward", "gradient", "hessian_vector"):
        assert float(booked[name].sum()) == getattr(seen, name), name


@every_case
def test_the_price_is_what_is_charged(case: Case) -> None:
    """Every search here costs the same whatever it finds, so the bound is met exactly."""
    start = start_of_case(case, IDS)
    case.search.find(start)
    price = case.search.price(case.problem, case.symmetry)
    for name, charged in parts(start.evaluator.counts, len(IDS)).items():
        assert torch.allclose(charged, torch.full_like(charged, getattr(price, name)), rtol=1e-12), name


@every_case
def test_rows_are_independent_bit_for_bit(case: Case) -> None:
    together = case.search.find(start_of_case(case, IDS))
    for row, identity in enumerate(IDS):
        alone = case.search.find(start_of_case(case, [identity]))
        assert same_bits(together, row, alone), f"row {row} differs from the same run alone"


@every_case
def test_no_graph_is_left(case: Case) -> None:
    found = case.search.find(start_of_case(case, IDS[:2]))
    assert not any(tensor.requires_grad for tensor in (found.params, found.loss, found.gradient))


# Evaluations of one teleport. Don't allow them to increase.
GOLDEN: list[tuple[dict[str, Any], str, str, Counts]] = [
    ({"search": "gradient_ascent", "steps": 10}, "Rosenbrock", "rotation", Counts(gradient=10)),
    (
        {"search": "gradient_ascent", "steps": 10, "start": "random"},
        "Rosenbrock",
        "rotation",
        Counts(gradient=11),
    ),
    (
        {"search": "gradient_ascent", "steps": 10, "derivative": "double_backward"},
        "Rosenbrock",
        "rotation",
        Counts(gradient=11, hessian_vector=10),
    ),
    ({"search": "gradient_ascent", "steps": 8}, "MLPRegression", "general_linear", Counts(gradient=1)),
    (
        {"search": "gradient_ascent", "steps": 8},
        "MLPRegression",
        "general_linear_first_order",
        Counts(gradient=9, hessian_vector=8),
    ),
    ({"search": "gradient_ascent", "steps": 10}, "LinearNetwork", "general_linear", Counts(forward=1)),
    ({"search": "gradient_ascent", "steps": 10, "verify": True}, "LinearNetwork", "scaling", Counts(forward=1)),
    ({"search": "normalized_ascent", "steps": 3}, "RosenbrockND", "rotation", Counts(gradient=3)),
    ({"search": "normalized_ascent", "steps": 3}, "Quadratic", "rotation", Counts(gradient=3)),
    ({"search": "normalized_ascent", "steps": 3}, "Booth", "rotation", Counts(gradient=3)),
    ({"search": "normalized_ascent", "steps": 3, "objective": "relative"}, "LinearNetwork", "scaling", Counts()),
    ({"search": "random", "candidates": 6}, "Rosenbrock", "rotation", Counts(gradient=6)),
    ({"search": "random", "candidates": 6}, "MatrixFactorization", "general_linear", Counts(forward=1)),
    (
        {"search": "random", "candidates": 6, "objective": "virtual_step"},
        "MatrixFactorization",
        "general_linear",
        Counts(forward=8),
    ),
    (
        {"search": "random", "candidates": 6, "objective": "balance_weights"},
        "Rosenbrock",
        "rotation",
        Counts(gradient=1),
    ),
    ({"search": "random_element"}, "Rosenbrock", "rotation", Counts(gradient=1)),
    ({"search": "random_element"}, "MLPRegression", "permutation", Counts()),
    ({"search": "grid"}, "Rosenbrock", "rotation", Counts(gradient=64)),
    ({"search": "grid"}, "Booth", "rotation", Counts(gradient=64)),
    ({"search": "closed_form"}, "Booth", "rotation", Counts(gradient=1)),
    ({"search": "closed_form"}, "Quadratic", "rotation", Counts(gradient=1)),
    ({"search": "closed_form"}, "LinearNetwork", "general_linear", Counts(forward=1)),
    ({"search": "balance_weights"}, "MLPRegression", "scaling", Counts()),
    ({"search": "balance_gradient"}, "MLPRegression", "scaling", Counts()),
    ({"search": "virtual_step"}, "Rosenbrock", "rotation", Counts(gradient=2, forward=3)),
    ({"search": "virtual_step", "radii": [0.1, 0.3]}, "LinearNetwork", "scaling", Counts(forward=5)),
    ({"search": "virtual_step", "fit_rate": True}, "LinearNetwork", "scaling", Counts(forward=4)),
    ({"search": "reset_optimizer"}, "Rosenbrock", "rotation", Counts()),
]


@pytest.mark.parametrize(
    ("spec", "problem", "symmetry", "golden"),
    GOLDEN,
    ids=[f"{spec['search']}-{number}" for number, (spec, *_) in enumerate(GOLDEN)],
)
def test_golden_evaluation_counts(spec: dict[str, Any], problem: str, symmetry: str, golden: Counts) -> None:
    case = Case(problem, symmetry, search_from(spec))
    counted = CountingProblem(case.problem)
    start = start_of_case(case, [0, 1], counted=counted)
    case.search.find(start)
    seen = counted.evaluations()
    for name in ("forward", "gradient", "hessian_vector"):
        assert getattr(seen, name) == 2 * getattr(golden, name), name


def test_the_counter_sees_an_evaluation_that_is_not_booked() -> None:
    case = next(case for case in CASES if case.problem_name == "Rosenbrock")
    counted = CountingProblem(case.problem)
    start = start_of_case(case, [0, 1], counted=counted)
    start.evaluator.loss_and_gradient(start.params)
    start.evaluator.hessian_vector(start.params)
    start.evaluator.loss(start.params)
    seen = counted.evaluations()
    booked = parts(start.evaluator.counts, 2)
    assert (seen.forward, seen.gradient, seen.hessian_vector) == (2.0, 4.0, 2.0)
    assert all(float(booked[name].sum()) == getattr(seen, name) for name in ("forward", "gradient", "hessian_vector"))
    counted.loss_and_gradient(start.params, start.instance)  # past the evaluator
    assert counted.evaluations().gradient == 6.0


def test_a_row_that_looks_at_its_neighbours_is_noticed() -> None:
    case = next(case for case in CASES if case.problem_name == "Booth" and case.search.kind == "normalized_ascent")
    together = case.search.find(start_of_case(case, IDS))
    start = start_of_case(case, IDS[:1])
    start.evaluator = Evaluator(case.problem, start.instance)
    start.params = start.params * (1 + 2e-16)
    assert not same_bits(together, 0, case.search.find(start))
