"""The ledger: prices, whom it charges, and that it forgets and remembers on demand."""

import pytest
import torch

from teleport_env.ledger import (
    FORWARD,
    GRADIENT,
    HESSIAN_VECTOR,
    Counts,
    Ledger,
    elementwise_price,
    small_matrices_price,
)
from teleport_env.problems import problem_from
from teleport_env.random import Streams
from teleport_env.runs import Runs


def account(count: int = 4, gradient_flops: float = 100.0) -> Ledger:
    return Ledger(count, gradient_flops)


def test_prices() -> None:
    assert (FORWARD, GRADIENT, HESSIAN_VECTOR) == (1 / 3, 1.0, 2.0)
    assert Counts(forward=3, gradient=2, hessian_vector=5, flops=50).cost(100.0) == 1 + 2 + 10 + 0.5
    assert Counts().cost(1.0) == 0.0


def test_counts_add_field_by_field_floats_and_tensors_alike() -> None:
    per_run = torch.tensor([1.0, 2.0], dtype=torch.float64)
    total = Counts(forward=per_run, flops=3.0) + Counts(forward=1.0, gradient=per_run)
    assert total.forward.tolist() == [2.0, 3.0]  # type: ignore[union-attr]
    assert total.gradient.tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    assert (total.hessian_vector, total.flops) == (0.0, 3.0)
    assert per_run.tolist() == [1.0, 2.0]


def test_everyone_pays() -> None:
    ledger = account()
    ledger.charge(None, Counts(gradient=1.0))
    ledger.charge(None, Counts(forward=torch.tensor([0.0, 3.0, 6.0, 9.0], dtype=torch.float64)))
    assert ledger.cost.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert ledger.counts.gradient.tolist() == [1.0] * 4  # type: ignore[union-attr]


def test_a_mask_charges_its_runs_alone() -> None:
    ledger = account()
    mask = torch.tensor([True, False, True, False])
    ledger.charge(mask, Counts(gradient=torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)))
    assert ledger.cost.tolist() == [1.0, 0.0, 100.0, 0.0]
    ledger.charge(mask, Counts(hessian_vector=1.0, flops=50.0))
    assert ledger.cost.tolist() == [3.5, 0.0, 102.5, 0.0]
    assert ledger.counts.flops.tolist() == [50.0, 0.0, 50.0, 0.0]  # type: ignore[union-attr]


def test_what_is_outside_a_mask_cannot_spoil_it() -> None:
    """Regression: multiplying by the mask makes NaN of an infinite amount outside it."""
    ledger = account(2)
    amount = torch.tensor([1.0, torch.inf], dtype=torch.float64)
    ledger.charge(torch.tensor([True, False]), Counts(gradient=amount, flops=torch.tensor([50.0, torch.nan])))
    assert ledger.cost.tolist() == [1.5, 0.0]


def test_an_index_charges_its_runs_in_its_order() -> None:
    ledger = account()
    ledger.charge(torch.tensor([3, 1]), Counts(gradient=torch.tensor([5.0, 7.0], dtype=torch.float64)))
    ledger.charge(torch.tensor([3]), Counts(gradient=1.0))
    assert ledger.cost.tolist() == [0.0, 7.0, 0.0, 6.0]
    ledger.charge(torch.tensor([], dtype=torch.int64), Counts(gradient=1.0))
    assert ledger.cost.tolist() == [0.0, 7.0, 0.0, 6.0]


def test_cost_is_the_price_of_the_counts() -> None:
    ledger = account(3, gradient_flops=8.0)
    ledger.charge(None, Counts(forward=2.0, flops=4.0))
    ledger.charge(torch.tensor([True, False, True]), Counts(gradient=3.0, hessian_vector=1.0))
    ledger.charge(torch.tensor([0]), Counts(flops=12.0))
    torch.testing.assert_close(ledger.cost, ledger.counts.cost(8.0))


def test_accounts_are_double_precision_and_exact_for_a_long_time() -> None:
    ledger = account(1)
    assert ledger.cost.dtype == torch.float64
    ledger.charge(None, Counts(gradient=2.0**40))
    ledger.charge(None, Counts(gradient=1.0))
    assert ledger.cost.tolist() == [2.0**40 + 1]


def test_a_part_is_a_copy_of_some_accounts() -> None:
    ledger = account(3, 60.0)
    ledger.charge(torch.tensor([True, False, True]), Counts(1.0, 2.0, 3.0, 4.0))
    part = ledger.select(torch.tensor([2, 1]))
    assert part.cost.tolist() == [float(ledger.cost[2]), 0.0]
    part.charge(None, Counts(flops=60.0))
    assert part.cost.tolist() == [float(ledger.cost[2]) + 1.0, 1.0]
    assert ledger.counts.flops.tolist() == [4.0, 0.0, 4.0]


def test_the_steps_view_is_of_the_same_account() -> None:
    ledger = account(2)
    ledger.gradients += 1.0
    assert ledger.cost.tolist() == ledger.counts.gradient.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan")])
def test_the_unit_must_be_positive(flops: float) -> None:
    with pytest.raises(ValueError, match=r"gradient_flops must be positive, got"):
        Ledger(1, flops)


def test_elementwise_work_takes_longer_than_its_operations() -> None:
    """The constants are measured; what is tested is where they were measured, and that they stay within reason."""
    assert elementwise_price(1.0) == 1.0
    assert elementwise_price(2832.0) == pytest.approx(2.3, rel=0.05)  # MLPRegression
    assert elementwise_price(3840.0, activated=False) == pytest.approx(3.2, rel=0.05)  # LinearNetwork
    assert elementwise_price(332720.0) == pytest.approx(9.5, rel=0.05)  # Digits
    assert elementwise_price(1e12) == 30.0
    assert small_matrices_price(3) == pytest.approx(4.95, rel=0.02)
    assert small_matrices_price(512) == pytest.approx(1.0, abs=0.1)


def test_runs_charge_the_work_price() -> None:
    """What a teleport computes beside evaluations costs its operations times the price of one."""
    problem = problem_from("MLPRegression")
    runs = Runs(problem, 1, symmetry="scaling", searches=["balance_gradient"], learning_rate=1e-4)
    runs.reset(Streams.from_seeds([0]).keys, torch.arange(1))
    flops = problem.gradient_flops(runs.instance)
    before = float(runs.ledger.cost)
    runs.teleport(torch.tensor([0]))
    assert float(runs.ledger.counts.flops) > 0
    expected = float(runs.ledger.counts.flops) * elementwise_price(flops) / flops
    assert float(runs.ledger.cost) - before == pytest.approx(expected)
