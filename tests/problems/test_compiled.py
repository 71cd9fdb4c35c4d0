"""The kernels of problems against the torch code that they stand for."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from teleport_env.checks import CheckFailed, check_problem
from teleport_env.checks.losses import check_kernels
from teleport_env.checks.report import Checks, identical
from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS
from teleport_env.problems import (
    Booth,
    Ellipse,
    LinearNetwork,
    MatrixCompletion,
    MatrixFactorization,
    MLPRegression,
    Quadratic,
    Rosenbrock,
    RosenbrockND,
    TensorFactorization,
    quadratic,
)
from teleport_env.problems.base import Problem
from teleport_env.problems.compiled import compiled

pytestmark = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")

EXACT = (Rosenbrock(), RosenbrockND(), RosenbrockND(pairs=1), Ellipse(), Booth())  # elementwise: the same bits
FORMS = tuple(Quadratic(dimension=n) for n in (2, 3, 5, 8, 10, 17, 64))
NETWORKS = (
    MatrixFactorization(),
    MatrixFactorization(rows=1, columns=1, rank=1),
    MatrixFactorization(rows=9, columns=2, rank=2),
    MatrixFactorization(rows=5, columns=5, rank=10),
    LinearNetwork(),
    LinearNetwork(widths=(1, 1, 1), samples=1),
    LinearNetwork(widths=(3, 9, 2, 11, 5, 7), samples=3),
    MLPRegression(),
    MLPRegression(bias=True),
    MLPRegression(activation="relu", widths=(2, 13, 3), samples=9, bias=True),
    MLPRegression(activation="identity", widths=(4, 32, 1), samples=1),
)
FACTORS = (
    MatrixCompletion(),
    MatrixCompletion(rows=8, rank=1),
    MatrixCompletion(rows=9, rank=5, observed=1.0),
    TensorFactorization(),
    TensorFactorization(images=2, rank=1),
    TensorFactorization(images=7, rank=6),
)
EVERY = EXACT + FORMS + NETWORKS + FACTORS  # those that are not exact are sums of products


def label(problem: Problem) -> str:
    return f"{problem.name}-{len(problem.instances(torch.arange(1), 'train').start[0])}"


every_problem = pytest.mark.parametrize("problem", EVERY, ids=label)


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """The same numbers, lying in memory in several ways."""
    spread = torch.full((2 * len(tensor), *tensor.shape[1:]), torch.nan, dtype=tensor.dtype)
    spread[::2] = tensor
    return {"rows": tensor.contiguous(), "columns": tensor.t().contiguous().t(), "every second": spread[::2]}


def points(problem: Problem, instance: Instance) -> Tensor:
    """Starts, some of them moved far away or beyond all numbers."""
    w = instance.start.clone()
    for row, value in enumerate((torch.nan, torch.inf, -torch.inf, 1e200, 0.0, 1e-320)):
        w[2 * row + 1 :: 20] = value
        w[2 * row + 2 :: 20, 0] = value
    return w


def plain(problem: Problem, w: Tensor, instance: Instance) -> tuple[Tensor, Tensor]:
    return type(problem).loss_and_gradient.plain(problem, w, instance)  # type: ignore[attr-defined]


def loss_of(problem: Problem, w: Tensor, instance: Instance) -> Tensor:
    with torch.no_grad():
        return problem.loss(w, instance)


@every_problem
@pytest.mark.parametrize("count", [1, 7, 8, 64, 1000])
def test_kernels_agree_with_torch(problem: Problem, count: int) -> None:
    instance = problem.instances(torch.arange(count), "train")
    w = points(problem, instance)
    wanted_loss, wanted = plain(problem, w.contiguous(), instance)
    size = (wanted.abs().amax(dim=1) + 1e-300)[:, None]
    for name, laid in layouts(w).items():
        loss, gradient = problem.loss_and_gradient(laid, instance)
        assert identical(loss, loss_of(problem, laid, instance)), name
        if problem in EXACT:
            assert identical(loss, wanted_loss), name
            assert identical(gradient, wanted), name
        else:
            sound = torch.isfinite(wanted_loss)
            assert torch.equal(torch.isfinite(loss), sound), name
            # residuals that cancel amplify rounding, also the library's, which differs between processors
            assert ((gradient - wanted).abs() <= 1e-14 * size)[sound].all(), name
            assert ((loss - wanted_loss).abs() <= 4e-15 * wanted_loss)[sound].all(), name
        if count > 1 and hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):  # what kernels see tensors by
            assert (gradient.stride(0) == 1) == (name == "columns")


@every_problem
def test_a_row_has_the_same_bits_alone_and_in_company(problem: Problem) -> None:
    instance = problem.instances(torch.arange(600), "train")
    w = points(problem, instance)
    for laid in layouts(w).values():
        loss, gradient = problem.loss_and_gradient(laid, instance)
        for rows in (torch.tensor([0]), torch.tensor([255, 256, 257]), torch.arange(3, 20), torch.arange(599, 99, -1)):
            alone = problem.loss_and_gradient(laid[rows], instance.select(rows))
            assert identical(alone[0], loss[rows])
            assert identical(alone[1], gradient[rows])


@every_problem
def test_what_asks_for_a_graph_or_another_precision_goes_the_way_of_torch(problem: Problem) -> None:
    instance = problem.instances(torch.arange(3), "train")
    w = instance.start.clone().requires_grad_(True)
    (automatic,) = torch.autograd.grad(problem.loss(w, instance).sum(), w)
    loss, gradient = problem.loss_and_gradient(w, instance)
    assert not loss.requires_grad
    assert not gradient.requires_grad
    torch.testing.assert_close(gradient, automatic, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        by_func = torch.func.grad(lambda point: problem.loss(point, instance).sum())(instance.start)
        torch.testing.assert_close(by_func, automatic, rtol=1e-12, atol=1e-12)
    single = problem.instances(torch.arange(3), "train", dtype=torch.float32)
    assert problem.loss_and_gradient(single.start, single)[1].dtype == torch.float32
    assert loss_of(problem, single.start, single).dtype == torch.float32


@every_problem
def test_results_are_memory_of_their_own_and_arguments_stay(problem: Problem) -> None:
    instance = problem.instances(torch.arange(9), "train")
    before = instance.start.clone()
    loss, gradient = problem.loss_and_gradient(instance.start, instance)
    kept = loss.clone(), gradient.clone()
    loss.zero_()
    gradient.zero_()
    again = problem.loss_and_gradient(instance.start, instance)
    assert torch.equal(again[0], kept[0])
    assert torch.equal(again[1], kept[1])
    assert torch.equal(instance.start, before)


class Doubled(Rosenbrock):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return 2.0 * super().loss(params, instance, batch)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance, batch)
        return 2.0 * loss, 2.0 * gradient


def test_an_override_is_never_bypassed() -> None:
    problem, inner = Doubled(), Rosenbrock()
    instance = inner.instances(torch.arange(4), "train")
    expected = 2.0 * loss_of(inner, instance.start, instance)
    assert torch.equal(problem.loss_and_gradient(instance.start, instance)[0], expected)
    assert torch.equal(loss_of(problem, instance.start, instance), expected)


class Twice(Ellipse):
    """Says that the kernel of `Ellipse` computes its loss, which is twice as large."""

    @compiled("ellipse", lambda problem, instance, batch: (instance["curvatures"],))
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return 2.0 * Ellipse.loss.plain(self, params, instance)  # type: ignore[attr-defined]


def test_check_problem_compares_both() -> None:
    assert "kernels: they agree with the torch code" in check_problem(Ellipse()).passed
    assert "kernels: they agree with the torch code" in check_problem("Digits").passed
    problem = Twice()
    instance = problem.instances(torch.arange(3), "train")
    with pytest.raises(CheckFailed, match="the kernel of loss and the torch code"):
        check_kernels(Checks("problem"), problem, instance, None)


@pytest.mark.parametrize("problem", NETWORKS, ids=label)
def test_networks_are_served_unless_a_part_is_replaced(problem: Any) -> None:
    instance = problem.instances(torch.arange(3), "train")
    kernel = partial(KERNELS.network, instance.start, True)
    assert kernel(*problem.network_arguments(instance)) is not None


def test_large_networks_are_left_to_the_librarys_products() -> None:
    problem = MLPRegression(widths=(64, 64, 64, 64), samples=20)
    instance = problem.instances(torch.arange(3), "train")
    assert KERNELS.network(instance.start, True, *problem.network_arguments(instance)) is None
    got, wanted = problem.loss_and_gradient(instance.start, instance), plain(problem, instance.start, instance)
    assert torch.equal(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])


def test_networks_with_parts_of_their_own_are_not_bypassed() -> None:
    class Weighted(MLPRegression):
        def output_loss(self, outputs: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            return 3.0 * super().output_loss(outputs, instance, batch)

    usual, weighted, patched = MLPRegression(), Weighted(), MLPRegression()
    instance = usual.instances(torch.arange(3), "train")
    assert weighted.network_arguments(instance) is None
    torch.testing.assert_close(
        loss_of(weighted, instance.start, instance), 3.0 * loss_of(usual, instance.start, instance)
    )
    assert patched.network_arguments(instance) is not None
    patched.output_loss = weighted.output_loss  # type: ignore[method-assign]
    assert patched.network_arguments(instance) is None
    assert MLPRegression(activation="tanh").network_arguments(instance) is None
    assert MLPRegression(widths=(2,) * 20).network_arguments(instance) is None


@pytest.mark.parametrize("problem", [MatrixCompletion(), TensorFactorization()], ids=label)
def test_models_of_low_rank_are_served_unless_a_part_is_replaced(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = problem.instances(torch.arange(3), "train")
    data = problem.factor_arguments(instance)
    assert KERNELS.factors(instance.start, True, *data) is not None
    monkeypatch.setattr(problem, "error", lambda params, instance: params.sum(dim=1), raising=True)
    assert problem.factor_arguments(instance) is None
    assert torch.equal(loss_of(problem, instance.start, instance), instance.start.sum(dim=1) - instance["floor"])
    assert MatrixCompletion(ridge=0.1).factor_arguments(instance) is None
    for place, unfit in ((0, data[0][:2]), (0, data[0].mT), (1, data[0]), (3, data[3] + 1), (4, 7), (3, 0), (4, -1)):
        others = [*data[:place], unfit, *data[place + 1 :]]
        assert KERNELS.factors(instance.start, True, *others) is None
    with pytest.raises(TypeError, match="takes 8 arguments"):
        KERNELS.factors(instance.start, True, *data[1:])


def test_packed_networks_that_make_no_sense_are_refused() -> None:
    w, y = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    for packed in (
        b"",
        b"123",
        struct.pack("=4q2d", 0, 1, 0, 1, 1.0, 1.0),
        struct.pack("=4q2d", 2, 1, 1, 1, 1.0, 1.0),
        struct.pack("=3q2d", 0, 2**40, 1, 1.0, 1.0),
    ):
        with pytest.raises(ValueError, match="network has|width must"):
            KERNELS.network(w, True, packed, y, y)
    sound = struct.pack("=4q2d", 0, 1, 1, 1, 1.0, 1.0)
    assert KERNELS.network(w, True, sound, y, y) is not None
    assert KERNELS.network(w, True, sound, y, y.expand(1, 1, 2)) is None
    with pytest.raises(TypeError):
        KERNELS.network(w, True, "1", y, y)


def test_what_does_not_fit_is_not_served() -> None:
    w, data = torch.ones(5, 2, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    assert KERNELS.ellipse(w, True, data) is not None
    for arguments in (
        (w[:4], True, data),
        (w[:, :1], True, data),
        (w.float(), True, data),
        (w, True, data[0]),
        (w, True, data.to("meta")),
        (w.numpy(), True, data),
        (torch.nn.Parameter(w), True, data),
        (w[:0], True, data[:0]),
    ):
        assert KERNELS.ellipse(*arguments) is None
    with pytest.raises(TypeError, match="takes 3 arguments"):
        KERNELS.ellipse(w, True)


@pytest.mark.parametrize("dimension", [2, 3, 10, 16, 17])
def test_a_quadratic_form_is_drawn_as_lapack_draws_it(dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its eigenvectors with their signs, alone and in company."""
    problem, ids = Quadratic(dimension), torch.arange(1001)
    drawn = problem.instances(ids, "train")
    basis, matrix = drawn["basis"], drawn["matrix"]
    for rows in (torch.tensor([7]), torch.arange(992, 1001)):
        alone = problem.instances(ids[rows], "train")
        assert all(torch.equal(tensor, drawn[name][rows]) for name, tensor in alone.tensors.items())
    assert torch.equal(matrix, matrix.transpose(1, 2))
    torch.testing.assert_close(
        basis @ basis.transpose(1, 2), torch.eye(dimension, dtype=torch.float64).expand_as(basis)
    )
    torch.testing.assert_close(basis * drawn["eigenvalues"][:, None, :], matrix @ basis, rtol=0.0, atol=1e-14)
    monkeypatch.setattr(quadratic, "KERNELS", None)
    wanted = problem.instances(ids, "train")
    for name, atol in (("basis", 1e-11), ("matrix", 1e-13), ("eigenvalues", 0.0)):
        torch.testing.assert_close(drawn[name], wanted[name], rtol=0.0, atol=atol)
    assert torch.equal(drawn.start, wanted.start)
