"""The solvers of libraries: evaluations counted exactly, the budget never exceeded, solutions right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from teleport_env.agents.comparison.references import play_reference
from teleport_env.agents.comparison.solvers import SOLVERS, solvers_of
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.instances import Batch, Instance
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.problems.base import Problem
from teleport_env.random import Streams

GENERIC = [name for name, solver in SOLVERS.items() if solver.kind == "reference"]
STRUCTURED = [name for name, solver in SOLVERS.items() if solver.kind == "structure"]


class Bowl(Problem):
    """``w' A w / 2`` with a random, ill-conditioned A a row; counts its own evaluations, apart from any ledger."""

    name = "Bowl"
    size = 6

    def __init__(self) -> None:
        self.losses = 0
        self.gradients = 0
        self.points: list[bytes] = []

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        basis = torch.linalg.qr(generator.normal((self.size, self.size)))[0]
        curvature = 10 ** generator.uniform(0.0, 3.0, (self.size,))
        matrix = (basis * curvature[:, None, :]) @ basis.transpose(1, 2)
        return Instance(3 * generator.normal((self.size,)), {"matrix": matrix})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        self.losses += 1
        self.points.append(params.detach().numpy().tobytes())
        return 0.5 * (params * (instance["matrix"] * params[:, None, :]).sum(2)).sum(1)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        self.gradients += 1
        return super().loss_and_gradient(params, instance, batch)


class Valley(Bowl):
    """Rosenbrock's function, where line searches have something to do."""

    name = "Valley"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.uniform(-2.0, 2.0, (2,)))

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        self.losses += 1
        self.points.append(params.detach().numpy().tobytes())
        x, y = params[:, 0], params[:, 1]
        return 100 * (x * x - y) ** 2 + (x - 1) ** 2


def draw(problem: Problem, count: int = 3) -> Instance:
    return problem.instances(torch.arange(count), "test")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts backward passes through a gradient's graph: autograd calls that keep the graph for the next."""
    calls: list[int] = []
    original = torch.autograd.grad

    def counting(*arguments: Any, **keywords: Any) -> Any:
        if keywords.get("retain_graph"):
            calls.append(1)
        return original(*arguments, **keywords)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    return calls


@pytest.mark.parametrize("budget", [0.0, 0.9, 1.0, 2.0, 7.0, 10.5, 40.0, 400.0])
@pytest.mark.parametrize("kind", [Bowl, Valley])
@pytest.mark.parametrize("name", GENERIC)
def test_the_cost_is_what_an_independent_counter_sees(
    name: str, kind: type[Bowl], budget: float, products: list[int]
) -> None:
    problem = kind()
    instance = draw(problem)
    played = play_reference(name, problem, instance, budget, tolerance=1e-14)
    evaluations = problem.losses if budget >= 1 else 0  # below one, the start is measured without being paid for
    assert played["steps"].sum() == evaluations
    assert played["hessian_products"].sum() == len(products)
    assert played["cost"].sum() == evaluations + 2 * len(products)
    assert (played["cost"] <= budget).all()
    assert (problem.gradients == evaluations) == (name != "newton_cg" or evaluations == 0)
    assert (played["loss"] <= played["initial_loss"]).all()


@pytest.mark.parametrize("name", GENERIC)
def test_the_budget_is_spent_unless_the_tolerance_is_met(name: str) -> None:
    played = play_reference(name, Valley(), draw(Valley(), 8), budget=9.0, tolerance=0.0)
    assert not played["converged"].any()
    assert (9.0 - played["cost"] < 2.0).all()  # what is left pays for no further product


@pytest.mark.parametrize("name", GENERIC)
@pytest.mark.parametrize("kind", [Bowl, Valley])
def test_references_solve_what_they_are_made_for(name: str, kind: type[Bowl]) -> None:
    played = play_reference(name, kind(), draw(kind(), 8), budget=2000.0, tolerance=1e-12)
    assert played["converged"].all()
    assert (played["loss"] <= 1e-12).all()
    np.testing.assert_allclose(played["params"], 1.0 if kind is Valley else 0.0, atol=1e-4)
    np.testing.assert_allclose(played["gained"], np.log10(played["initial_loss"] / 1e-12), rtol=1e-12)


def test_l_bfgs_solves_a_quadratic_to_the_last_digits() -> None:
    problem = Bowl()
    played = play_reference("l_bfgs", problem, draw(problem, 5), budget=500.0, tolerance=0.0)
    assert (played["loss"] < 1e-10 * played["initial_loss"]).all()
    assert (played["loss"] < 1e-20).all()


@pytest.mark.parametrize("name", GENERIC)
def test_the_loss_is_that_of_the_best_point_evaluated(name: str) -> None:
    problem = Valley()
    instance = draw(problem, 4)
    played = play_reference(name, problem, instance, budget=12.0, tolerance=1e-12)
    again = Valley().loss(torch.from_numpy(played["params"]), instance)
    np.testing.assert_array_equal(played["loss"], again.numpy())
    trace = played["trace_loss"]
    np.testing.assert_array_equal(trace[:, 0], played["initial_loss"])
    np.testing.assert_array_equal(trace[:, -1], played["loss"])
    np.testing.assert_array_equal(played["trace_cost"][:, 0], 0.0)
    assert (np.diff(trace, axis=1) <= 0).all()
    assert (np.diff(played["trace_cost"], axis=1) >= 0).all()
    assert (played["trace_cost"][:, -1] <= played["cost"]).all()


@pytest.mark.parametrize("name", GENERIC)
def test_rows_do_not_depend_on_their_neighbours(name: str) -> None:
    instance = draw(Bowl(), 4)
    together = play_reference(name, Bowl(), instance, 15.0, 1e-12)
    alone = play_reference(name, Bowl(), instance.select(torch.tensor([2])), 15.0, 1e-12)
    for key in ("loss", "cost", "gained", "params"):
        np.testing.assert_array_equal(together[key][2], alone[key][0])


def test_no_point_is_evaluated_twice_in_a_row() -> None:
    problem = Valley()
    play_reference("newton_cg", problem, draw(problem, 1), 200.0, 1e-12)
    assert all(first != second for first, second in zip(problem.points, problem.points[1:], strict=False))


def test_the_iterates_are_scipys_own() -> None:
    problem = Valley()
    instance = draw(problem, 1)

    def plain(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = Valley().loss_and_gradient(torch.tensor(x)[None], instance)
        return float(loss), gradient[0].numpy()

    visited: list[float] = []
    scipy.optimize.minimize(
        lambda x: (visited.append(plain(x)[0]), plain(x))[1],
        instance.start[0].numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": 15},
    )
    played = play_reference("l_bfgs", problem, instance, 10.0, 0.0)
    np.testing.assert_allclose(played["trace_loss"][0, 1:], np.minimum.accumulate(visited[:10]), rtol=1e-12)


def test_mini_batches_are_not_played() -> None:
    class Batched(Bowl):
        batch_size = 20  # type: ignore[assignment]

        def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            assert batch is None
            return super().loss(params, instance, batch)

    problem = Batched()
    played = play_reference("l_bfgs", problem, draw(problem, 1), 4.0, 1e-12)
    assert played["cost"][0] == played["steps"][0] == problem.losses == 4


def test_a_budget_from_another_unit_may_miss_a_whole_number_by_its_last_bit() -> None:
    budget = 3 * (0.1 + 0.2) / 0.3 - 1e-15 * 3
    assert budget < 3
    assert play_reference("l_bfgs", Bowl(), draw(Bowl(), 1), budget, 1e-12)["steps"][0] == 3


def test_a_loss_that_is_not_finite_ends_the_row_and_no_other() -> None:
    class Broken(Bowl):
        def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            return super().loss(params, instance, batch) + instance["offset"]

    instance = draw(Bowl(), 3)
    offset = torch.tensor([0.0, torch.nan, 0.0], dtype=torch.float64)
    instance = Instance(instance.start, {**instance.tensors, "offset": offset}, ids=instance.ids)
    played = play_reference("l_bfgs", Broken(), instance, 100.0, 1e-12)
    assert played["diverged"].tolist() == [False, True, False]
    assert played["converged"].tolist() == [True, False, True]
    assert played["gained"][1] == -2.0
    assert (played["gained"][[0, 2]] > 10).all()


def test_errors_name_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Bowl()
    with pytest.raises(ValueError, match="one of 'l_bfgs', .*, got 'adam'"):
        play_reference("adam", problem, draw(problem), 10.0, 1e-12)
    for budget in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="budget"):
            play_reference("l_bfgs", problem, draw(problem), budget, 1e-12)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"teleport-env\[compare\]"):
        play_reference("l_bfgs", problem, draw(problem), 10.0, 1e-12)


# -- what knows the structure ------------------------------------------------------------------------------------------


class Counting:
    """Counts calls of a problem's methods, apart from any ledger."""

    NAMES = ("loss", "loss_and_gradient", "residuals", "block_minimum", "minimum")

    def __init__(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = dict.fromkeys(self.NAMES, 0)
        for name in self.NAMES:
            monkeypatch.setattr(problem, name, self._counted(name, getattr(problem, name)))

    def _counted(self, name: str, method: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **keywords)

        return call


def play(name: str, problem: Problem, budget: float = 400.0, tolerance: float = 1e-12, rows: int = 3) -> dict[str, Any]:
    return play_reference(name, problem, problem.instances(torch.arange(rows), "validation"), budget, tolerance)


def test_solvers_serve_the_problems_whose_structure_they_know() -> None:
    served = {
        name: {
            problem
            for problem in ("Quadratic", "Rosenbrock", "MatrixFactorization", "MLPRegression", "Digits")
            if name in solvers_of(problem_from(problem))
        }
        for name in STRUCTURED
    }
    assert served == {
        "closed_form": {"Quadratic", "Rosenbrock", "MatrixFactorization"},
        "conjugate_gradients": {"Quadratic"},
        "alternating_least_squares": {"MatrixFactorization"},
        "variable_projection": {"MatrixFactorization", "MLPRegression"},
        "levenberg_marquardt": {"Quadratic", "Rosenbrock", "MLPRegression"},
    }
    assert solvers_of(Bowl()) == GENERIC
    with pytest.raises(ValueError, match=r"a reference for Bowl .*'l_bfgs'.*got 'closed_form'"):
        play_reference("closed_form", Bowl(), draw(Bowl()), 10.0, 1e-12)


def test_a_comparison_refuses_a_solver_that_does_not_serve(tmp_path: Path) -> None:
    study = Study(problems=("Rosenbrock",), agents=("never", "conjugate gradients"), instances=2, out=tmp_path)
    with pytest.raises(ValueError, match="a solver that serves Rosenbrock must be 'l_bfgs' or .*'conjugate gradients'"):
        run_study(study, report=lambda line: None)


@pytest.mark.parametrize(
    ("problem", "name", "most"),
    [
        ("Booth", "closed_form", 4.0),
        ("RosenbrockND", "closed_form", 60.0),
        ("MatrixFactorization", "closed_form", 10.0),
        ("Quadratic", "conjugate_gradients", 16.0),
        ("MatrixFactorization", "alternating_least_squares", 6.0),
        ("LinearNetwork", "variable_projection", 4.0),
        ("MLPRegression", "variable_projection", 4.0),
        ("Rosenbrock", "levenberg_marquardt", 80.0),
    ],
)
def test_what_knows_the_structure_solves_these_problems(problem: str, name: str, most: float) -> None:
    played = play(name, problem_from(problem))
    assert played["converged"].all()
    assert (played["cost"] <= most).all()
    assert (played["loss"] <= 1e-12).all()


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (p, n)
        for p in ("Quadratic", "MatrixFactorization", "MLPRegression")
        for n in STRUCTURED
        if n in solvers_of(problem_from(p))
    ],
)
def test_the_cost_of_structure_is_what_an_independent_counter_sees(
    problem: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = problem_from(problem)
    instance = made.instances(torch.arange(1), "validation")
    unit = made.gradient_flops(instance)
    count = Counting(made, monkeypatch)
    played = play_reference(name, made, instance, 30.0, 0.0)
    calls = count.calls
    assert played["cost"][0] <= 30.0
    assert calls["loss_and_gradient"] == played["steps"][0]
    spent = calls["loss_and_gradient"] + 0.0
    if name == "closed_form":
        spent += calls["minimum"] * made.minimum_flops(instance) / unit
    if name == "alternating_least_squares":
        spent += (
            calls["loss"] / 3 + sum(made.block_flops(k % 2, instance) for k in range(calls["block_minimum"])) / unit
        )
        # what could not be paid for any more was not computed
        assert calls["block_minimum"] - calls["loss"] in (0, 1)
    if name == "variable_projection":
        spent += calls["block_minimum"] * made.block_flops(made.blocks - 1, instance) / unit
        assert calls["block_minimum"] - calls["loss_and_gradient"] in (0, -1)
    if name != "levenberg_marquardt":
        assert played["cost"][0] == pytest.approx(spent, rel=1e-12)


def test_levenberg_and_marquardt_pay_for_every_derivative() -> None:
    """Of one instance whose solver takes one derivative and one new residual at least."""
    made = problem_from("Quadratic")
    instance = made.instances(torch.arange(1), "validation")
    unit, n = made.gradient_flops(instance), made.dimension  # type: ignore[attr-defined]
    step = made.jacobian_price(instance) + 2.0 * n**3 / unit
    short, enough = (play_reference("levenberg_marquardt", made, instance, b, 0.0) for b in (step + 0.9, step + 1.4))
    assert short["gained"][0] == 0.0
    assert enough["gained"][0] > 10
    assert enough["cost"][0] == pytest.approx(1.0 + step + 1 / 3)


@pytest.mark.parametrize("name", ["alternating_least_squares", "variable_projection"])
def test_real_tables_are_not_solved_by_structure_alone(name: str) -> None:
    pytest.importorskip("sklearn")
    problem = problem_from("MatrixCompletion")
    played = play(name, problem, problem.defaults().budget, problem.defaults().tolerance, rows=6)
    assert (played["gained"] > 1.0).all()
    assert not played["converged"].all()
    assert (played["cost"] <= problem.defaults().budget * (1 + 1e-9)).all()


def test_a_structured_row_does_not_depend_on_its_neighbours() -> None:
    for problem, name in (("Quadratic", "conjugate_gradients"), ("MatrixFactorization", "alternating_least_squares")):
        made = problem_from(problem)
        instance = made.instances(torch.arange(4), "test")
        together = play_reference(name, made, instance, 9.0, 1e-12)
        alone = play_reference(name, made, instance.select(torch.tensor([2])), 9.0, 1e-12)
        np.testing.assert_array_equal(together["params"][2], alone["params"][0])


def test_every_problem_has_a_solver_that_knows_it_or_no_structure_to_know() -> None:
    without = {name for name in PROBLEMS if not set(solvers_of(problem_from(name))) & set(STRUCTURED)}
    assert {name for name in without if PROBLEMS[name].__module__.startswith("teleport_env.")} <= {
        "Digits",
        "DigitsFull",
        "MNIST",
        "MNISTSmall",
        "Autoencoder",
    }
