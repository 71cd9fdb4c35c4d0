"""The engine's ledger equals an independent count of forward, backward and Hessian-vector products, equal exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from counting import CountingProblem
from teleport_env.optimizers import OPTIMIZERS
from teleport_env.problems import problem_from
from teleport_env.random import Streams
from teleport_env.runs import Runs

FIELDS = ("forward", "gradient", "hessian_vector")

CASES: list[tuple[str, str | None, list[Any], str]] = [
    *[("Rosenbrock", "rotation", ["virtual_step", "grid"], optimizer) for optimizer in OPTIMIZERS],
    *[("Digits", "scaling", ["mini_batch", "virtual_step_fit_rate"], optimizer) for optimizer in OPTIMIZERS],
    ("MLPRegression", "general_linear", ["normalized_ascent", "random"], "gd_line_search"),
    ("MLPRegression", "general_linear_first_order", ["gradient_ascent"], "adagrad"),
    ("MatrixFactorization", "general_linear", ["balance_gradient", "relative"], "momentum_line_search"),
    ("LinearNetwork", "input_transform", ["random_element"], "gd"),
    ("Booth", "rotation", ["closed_form", "random_element", "reset_optimizer"], "adam"),
]


def seen_equals_booked(runs: Runs, counted: CountingProblem) -> None:
    seen = counted.evaluations()
    for name in FIELDS:
        booked = float(getattr(runs.ledger.counts, name).sum())
        assert booked == getattr(seen, name), (name, booked, getattr(seen, name))


@pytest.mark.parametrize(("name", "symmetry", "searches", "optimizer"), CASES)
def test_ledger_of_runs(name: str, symmetry: str | None, searches: list[Any], optimizer: str) -> None:
    counted = CountingProblem(problem_from(name))
    rate = counted.inner.defaults("train").learning_rate
    runs = Runs(counted, 4, symmetry=symmetry, searches=searches, optimizer=optimizer, learning_rate=rate)
    runs.reset(Streams.from_seeds([0, 1, 2, 3]).keys, torch.arange(4))
    seen_equals_booked(runs, counted)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        action = torch.randint(-1, len(searches) + 1, (4,), generator=generator)
        stepping = action == len(searches)
        if stepping.any():
            runs.step(stepping)
        runs.teleport(torch.where(stepping, -1, action))
    # Rows that a mask leaves out are computed along with the others where that is cheaper than picking rows, and thrown
    # away; the ledger charges a run for what was evaluated on its behalf, so the wrapper sees at least what is booked.
    seen = counted.evaluations()
    for field in FIELDS:
        assert float(getattr(runs.ledger.counts, field).sum()) <= getattr(seen, field)


@pytest.mark.parametrize(("name", "symmetry", "searches", "optimizer"), CASES)
def test_ledger_of_one_run(name: str, symmetry: str | None, searches: list[Any], optimizer: str) -> None:
    """Alone, nothing is computed along: what is booked is what was evaluated, exactly."""
    counted = CountingProblem(problem_from(name))
    rate = counted.inner.defaults("train").learning_rate
    runs = Runs(counted, 1, symmetry=symmetry, searches=searches, optimizer=optimizer, learning_rate=rate)
    runs.reset(Streams.from_seeds([5]).keys, torch.tensor([3]))
    seen_equals_booked(runs, counted)
    for turn in range(10):
        if turn % 2:
            runs.teleport(torch.tensor([turn // 2 % len(searches)]))
        else:
            runs.step()
        seen_equals_booked(runs, counted)


def test_cost_is_the_prices_of_the_counts() -> None:
    runs = Runs(
        problem_from("MatrixFactorization"), 2, symmetry="general_linear", searches=["virtual_step"], learning_rate=0.01
    )
    runs.reset(Streams.from_seeds([0, 1]).keys, torch.arange(2))
    runs.step()
    runs.teleport(torch.tensor([0, -1]))
    counts = runs.ledger.counts
    expected = (
        counts.forward / 3 + counts.gradient + 2 * counts.hessian_vector + counts.flops / runs.ledger.gradient_flops
    )
    assert torch.allclose(runs.ledger.cost, expected, rtol=1e-12)
    assert runs.ledger.cost[1] == 2.0
