"""What holds for every problem with a closed formula, in float64 against autograd or exactly."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from teleport_env.arrays import NUMPY
from teleport_env.instances import Instance
from teleport_env.problems.analytic import AnalyticProblem, positive_range
from teleport_env.problems.base import SPLITS, Evaluator, Problem
from teleport_env.problems.booth import Booth
from teleport_env.problems.ellipse import Ellipse
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock, RosenbrockND
from teleport_env.progress import instances_put
from teleport_env.random import Streams
from teleport_env.searches import search_from

PROBLEMS = (
    Ellipse(),
    Quadratic(),
    Quadratic(dimension=24),  # where a batched matrix-vector product would round differently at B = 1
    Rosenbrock(),
    RosenbrockND(),
    RosenbrockND(pairs=1),
    Booth(),
)
every_problem = pytest.mark.parametrize(
    "problem", PROBLEMS, ids=lambda p: f"{p.name}-{p.symmetries['rotation'].group.name}"
)


def draw(problem: Problem, count: int, split: str = "train") -> tuple[Tensor, Instance]:
    """Points around the starts of some instances."""
    instance = problem.instances(
        torch.zeros(count, dtype=torch.int64) if split == "paper" else torch.arange(count), split
    )
    noise = Streams.from_seeds(list(range(count))).normal((instance.start.shape[1],))
    return instance.start + 0.3 * noise, instance


def columns(params: Tensor) -> Tensor:
    """The same numbers with runs side by side in memory, as `Runs` may keep them."""
    return params.t().contiguous().t()


def rotated(problem: AnalyticProblem, params: Tensor, instance: Instance) -> Tensor:
    group = problem.symmetries["rotation"].group
    g = group.sample(Streams.from_seeds(list(range(100, 100 + len(instance)))))
    return problem.symmetries["rotation"].act(g, params, instance)


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_gradient_equals_autograd(problem: AnalyticProblem, split: str) -> None:
    params, instance = draw(problem, 16, split)
    loss, gradient = problem.loss_and_gradient(params, instance)
    expected_loss, expected = Problem.loss_and_gradient(problem, params, instance)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
    assert not loss.requires_grad
    assert not gradient.requires_grad


@every_problem
def test_gradient_leaves_its_arguments_alone(problem: AnalyticProblem) -> None:
    params, instance = draw(problem, 5)
    before, kept = params.clone(), instance.clone()
    first = problem.loss_and_gradient(params, instance)
    again = problem.loss_and_gradient(params.clone().requires_grad_(True), instance)
    assert torch.equal(params, before)
    assert all(torch.equal(instance[name], kept[name]) for name in kept.tensors)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not again[1].requires_grad


@every_problem
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, columns])
def test_rows_are_independent_bit_for_bit(problem: AnalyticProblem, layout: object) -> None:
    params, instance = draw(problem, 7)
    assert callable(layout)
    loss, gradient = problem.loss_and_gradient(layout(params), instance)
    plain = problem.loss(layout(params), instance)
    forward = problem.forward(layout(params), instance)
    backward = problem.backward(layout(params), instance)
    for i in range(7):
        alone = problem.instances(torch.tensor([i]), "train")
        w = params[i : i + 1].clone()
        single_loss, single_gradient = problem.loss_and_gradient(w, alone)
        assert torch.equal(single_loss, loss[i : i + 1])
        assert torch.equal(single_gradient, gradient[i : i + 1])
        assert torch.equal(problem.loss(w, alone), plain[i : i + 1])
        assert torch.equal(problem.forward(w, alone), forward[i : i + 1])
        assert torch.equal(problem.backward(w, alone), backward[i : i + 1])


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_an_instance_is_the_same_in_any_company(problem: AnalyticProblem, split: str) -> None:
    ids = torch.zeros(3, dtype=torch.int64) if split == "paper" else torch.tensor([5, 123_456_789_012, 0])
    together = problem.instances(ids, split)
    for i in range(3):
        alone = problem.instances(ids[i : i + 1], split)
        assert torch.equal(alone.start, together.start[i : i + 1])
        assert alone.tensors.keys() == together.tensors.keys()
        assert all(torch.equal(alone[name], together[name][i : i + 1]) for name in alone.tensors)


@every_problem
def test_splits_share_nothing(problem: AnalyticProblem) -> None:
    starts = torch.cat([problem.instances(torch.arange(50), split).start for split in SPLITS[1:]])
    assert len({tuple(row) for row in starts.tolist()}) == 150


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_single_precision_is_double_precision_rounded(problem: AnalyticProblem, split: str) -> None:
    ids = torch.zeros(1, dtype=torch.int64)
    double = problem.instances(ids, split)
    single = problem.instances(ids, split, dtype=torch.float32)
    assert torch.equal(single.start, double.start.float())
    assert all(torch.equal(single[name], double[name].float()) for name in double.tensors)
    loss, gradient = problem.loss_and_gradient(single.start, single)
    assert loss.dtype == gradient.dtype == problem.forward(single.start, single).dtype == torch.float32


@every_problem
def test_the_paper_split_has_one_instance(problem: AnalyticProblem) -> None:
    assert problem.num_instances("paper") == 1
    assert problem.num_instances("test") is None
    with pytest.raises(ValueError, match=r"instance_id \[1\].*0\.\.0"):
        problem.instances(torch.tensor([1]), "paper")


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_instances_can_be_overwritten_in_place(problem: AnalyticProblem, split: str) -> None:
    """Regression: an expanded tensor shares its rows, and writing one instance would write them all."""
    ids = torch.zeros(3, dtype=torch.int64)
    instance, fresh = problem.instances(ids, split), problem.instances(ids[:1].clone(), split)
    fresh.start.fill_(7.0)
    for tensor in fresh.tensors.values():
        tensor.fill_(7.0)
    untouched = problem.instances(ids, split)
    for put in instances_put(NUMPY, instance, fresh):
        put(np.array([1]), np.array([0]))
    for now, before in ((instance.start, untouched.start), *((instance[n], untouched[n]) for n in instance.tensors)):
        assert torch.equal(now[[0, 2]], before[[0, 2]])
        assert bool((now[1] == 7.0).all())


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_loss_is_the_squared_norm_of_the_coordinates(problem: AnalyticProblem, split: str) -> None:
    params, instance = draw(problem, 16, split)
    coordinates = problem.forward(params, instance)
    torch.testing.assert_close((coordinates**2).sum(dim=1), problem.loss(params, instance), rtol=1e-11, atol=0)


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_forward_and_backward_undo_each_other(problem: AnalyticProblem, split: str) -> None:
    params, instance = draw(problem, 16, split)
    torch.testing.assert_close(
        problem.backward(problem.forward(params, instance), instance), params, rtol=0, atol=1e-11
    )
    torch.testing.assert_close(
        problem.forward(problem.backward(params, instance), instance), params, rtol=0, atol=1e-11
    )


@every_problem
def test_matrix_is_the_linear_part(problem: AnalyticProblem) -> None:
    if not isinstance(problem, Ellipse | Quadratic | Booth):
        assert not problem.symmetries["rotation"].linear
        return
    params, instance = draw(problem, 5)
    origin = torch.zeros_like(params)
    expected = problem.forward(params, instance) - problem.forward(origin, instance)
    product = (problem.matrix(instance) * params[:, None, :]).sum(dim=2)
    torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-12)
    assert problem.symmetries["rotation"].linear


@every_problem
def test_a_rotation_keeps_the_loss(problem: AnalyticProblem) -> None:
    params, instance = draw(problem, 8)
    moved = rotated(problem, params, instance)
    assert bool(((moved - params).abs().amax(dim=1) > 1e-3).all())
    torch.testing.assert_close(problem.loss(moved, instance), problem.loss(params, instance), rtol=1e-10, atol=0)


@every_problem
def test_a_wrong_backward_map_loses_the_loss(problem: AnalyticProblem) -> None:
    """The law above can fail: coordinates of one instance, parameters of another."""
    params, instance = draw(problem, 8)
    other = problem.instances(torch.arange(50, 58), "train")
    wrong = problem.backward(problem.forward(params, instance), other)
    relative = problem.loss(wrong, instance) / problem.loss(params, instance) - 1.0
    assert bool((relative.abs() > 1e-6).any())


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_the_minimum_has_no_loss(problem: AnalyticProblem, split: str) -> None:
    _, instance = draw(problem, 16, split)
    minimum = problem.minimum(instance)
    assert minimum is not None
    loss, gradient = problem.loss_and_gradient(minimum, instance)
    assert float(loss.abs().max()) < 1e-24
    assert float(gradient.abs().max()) < 1e-11


@every_problem
def test_starts_are_worth_twelve_orders(problem: AnalyticProblem) -> None:
    instance = problem.instances(torch.arange(512), "train")
    typical = float(problem.loss(instance.start, instance).median())
    assert 11.5 < torch.log10(torch.tensor(typical / problem.defaults("train").tolerance)) < 13.0


@every_problem
def test_the_default_rate_is_usable(problem: AnalyticProblem) -> None:
    """Plain descent at the default rate makes progress within the budget and hardly ever diverges."""
    if type(problem) is RosenbrockND and problem.pairs == 1:
        return
    settings = problem.defaults("train")
    instance = problem.instances(torch.arange(128), "train")
    params = instance.start
    for _ in range(int(settings.budget)):
        _, gradient = problem.loss_and_gradient(params, instance)
        params = params - settings.learning_rate * gradient
    gained = torch.log10(problem.loss(instance.start, instance) / problem.loss(params, instance))
    diverged = ~(gained > 0)
    assert float(diverged.double().mean()) < 0.02
    assert 1.5 < float(gained[~diverged].mean()) < 6.0


@every_problem
def test_problems_pickle(problem: AnalyticProblem) -> None:
    params, instance = draw(problem, 3)
    copy = pickle.loads(pickle.dumps(problem))
    assert torch.equal(copy.loss(params, instance), problem.loss(params, instance))
    assert torch.equal(rotated(copy, params, instance), rotated(problem, params, instance))


@every_problem
def test_candidates_go_through_the_evaluator(problem: AnalyticProblem) -> None:
    params, instance = draw(problem, 4)
    candidates = torch.stack((params, instance.start, 0.5 * params), dim=1)
    loss, gradient = Evaluator(problem, instance).loss_and_gradient(candidates)
    for k in range(3):
        expected_loss, expected = problem.loss_and_gradient(candidates[:, k], instance)
        assert torch.equal(loss[:, k], expected_loss)
        assert torch.equal(gradient[:, k], expected)


@every_problem
def test_symmetries_are_built_once(problem: AnalyticProblem) -> None:
    assert problem.symmetries["rotation"] is problem.symmetries["rotation"]
    assert (
        problem.symmetries["rotation"].group.dim == len(draw(problem, 1)[0][0]) * (len(draw(problem, 1)[0][0]) - 1) // 2
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Ellipse(a=0.5), "a must be .*0.5"),
        (lambda: Ellipse(a=float("nan")), "a must be .*nan"),
        (lambda: Ellipse(condition=(0.5, 2.0)), r"condition must be .*1.*\(0.5, 2.0\)"),
        (lambda: Quadratic(dimension=1), "dimension must be an integer of at least 2, got 1"),
        (lambda: Quadratic(condition=(100.0, 10.0)), r"condition must be .*\(100.0, 10.0\)"),
        (lambda: Rosenbrock(curvature=(0.0, 1.0)), r"curvature must be .*\(0.0, 1.0\)"),
        (lambda: Rosenbrock(curvature=(1.0,)), "curvature must be .*low, high"),
        (lambda: RosenbrockND(pairs=0), "pairs must be an integer of at least 1, got 0"),
        (lambda: Booth(largest=(1.0, float("inf"))), "largest must be .*finite"),
    ],
)
def test_settings_are_checked(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()


def test_a_range_may_be_a_point() -> None:
    assert positive_range("condition", [3, 3], least=1.0) == (3.0, 3.0)
    instance = Rosenbrock(curvature=(100.0, 100.0)).instances(torch.arange(4), "train")
    torch.testing.assert_close(instance["curvature"], torch.full((4,), 100.0, dtype=torch.float64), rtol=1e-14, atol=0)


@every_problem
@pytest.mark.parametrize("split", SPLITS)
def test_default_searches_serve_the_symmetry(problem: AnalyticProblem, split: str) -> None:
    for spec in problem.defaults(split).searches:
        search_from(spec).check(problem, problem.symmetries["rotation"])


class Careless(Rosenbrock):
    """Breaks one law at a time."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def loss_and_gradient(
        self, params: Tensor, instance: Instance, batch: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance, batch)
        if self.fault == "gradient":
            gradient = gradient * torch.tensor([1.0, 1.0 + 1e-9], dtype=torch.float64)
        if self.fault == "neighbours":
            loss = loss + 1e-16 * loss.sum()
        return loss, gradient

    def backward(self, coordinates: Tensor, instance: Instance) -> Tensor:
        return (
            -super().backward(coordinates, instance)
            if self.fault == "backward"
            else super().backward(coordinates, instance)
        )


def test_the_laws_can_fail() -> None:
    for fault, law, arguments in (
        ("gradient", test_gradient_equals_autograd, ("train",)),
        ("neighbours", test_rows_are_independent_bit_for_bit, (columns,)),
        ("backward", test_forward_and_backward_undo_each_other, ("train",)),
        ("backward", test_a_rotation_keeps_the_loss, ()),
    ):
        law(Careless("none"), *arguments)
        with pytest.raises(AssertionError):
            law(Careless(fault), *arguments)


@pytest.mark.parametrize("value", ["23", ("2", "3"), (True, 3.0), (2.0, 1j), {2.0: 1, 3.0: 1}, 5, (1.0, 10**400)])
def test_a_range_is_read_and_not_guessed(value: Any) -> None:
    """Regression: the range "23" went from 2 to 3."""
    with pytest.raises(ValueError, match=r"(an entry of )?ratio must be .*, got "):
        positive_range("ratio", value)
