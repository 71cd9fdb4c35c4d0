"""A grid that knows the gradient norms along the circle finds what one finds that evaluates every candidate."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from teleport_env.problems import problem_from
from teleport_env.random import Streams
from teleport_env.runs import Runs
from teleport_env.searches import sampling
from teleport_env.searches.base import Status


def runs_after(steps: int, points: int, count: int = 150) -> Runs:
    """Runs that took some steps and then teleported; so many that more than one chunk of them is needed."""
    problem = problem_from("Rosenbrock")
    search = {"search": "grid", "points": points}
    runs = Runs(problem, count, learning_rate=6e-4, symmetry="rotation", searches=[search])
    runs.reset(Streams.from_seeds(list(range(count))).keys, torch.arange(count))
    for _ in range(steps):
        runs.step()
    runs.teleport(torch.zeros(count, dtype=torch.int64))
    return runs


@pytest.mark.parametrize(("steps", "points"), [(0, 64), (5, 64), (30, 7), (3, 1)])
def test_the_same_points_at_the_same_price(steps: int, points: int) -> None:
    known = runs_after(steps, points)
    with mock.patch.object(sampling, "knows_norms", return_value=False):
        evaluated = runs_after(steps, points)
    assert torch.allclose(known.params, evaluated.params, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert torch.equal(known.progress.status, evaluated.progress.status)
    assert torch.equal(known.ledger.cost, evaluated.ledger.cost)
    assert torch.equal(known.ledger.counts.gradient, evaluated.ledger.counts.gradient)
    assert (known.progress.status == Status.MOVED).any()


def test_a_candidate_that_fails_gives_way_to_the_next_best() -> None:
    """Where the best angle does not keep the loss the second best is taken, and nothing is booked twice."""
    best, keeps, asked = runs_after(0, 5), sampling.loss_kept, 0

    def fails_once(*arguments: object) -> torch.Tensor:
        nonlocal asked
        asked += 1
        return keeps(*arguments) & (asked > 1)  # type: ignore[arg-type]

    with mock.patch.object(sampling, "loss_kept", fails_once):
        second = runs_after(0, 5)
    assert asked == 2
    moved = (best.progress.status == Status.MOVED) & (second.progress.status == Status.MOVED)
    assert moved.any()
    assert (second.progress.grad_norm2[moved] < best.progress.grad_norm2[moved]).all()
    assert torch.allclose(second.progress.loss, best.progress.loss, rtol=1e-10)
    assert (second.ledger.counts.gradient == 1.0 + 5.0).all()
