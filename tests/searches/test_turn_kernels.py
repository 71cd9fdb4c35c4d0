"""Compiled searches over rotations find what the same searches on arrays find."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from teleport_env.arrays import CHAIN
from teleport_env.instances import Batch, Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Problem
from teleport_env.problems.booth import Booth
from teleport_env.random import Streams
from teleport_env.runs import Runs
from teleport_env.searches import search_from
from teleport_env.searches.base import Status
from teleport_env.searches.fast import turns
from teleport_env.symmetries.coordinate_change import CoordinateChange, Matrix

NAMES = ("Rosenbrock", "RosenbrockND", "Ellipse", "Booth", "Quadratic")
SEARCHES: tuple[Any, ...] = (
    {"search": "normalized_ascent"},
    {"search": "normalized_ascent", "steps": 5, "trust_radius": 0.9, "loss_tolerance": 1e-12},
    "normalized_descent",
    {"search": "random", "candidates": 4, "objective": "virtual_step"},
    {"search": "random", "candidates": 5, "scale": 0.3},
    {"search": "random", "candidates": 3, "objective": "balance_gradient"},
    {"search": "virtual_step", "radii": [0.1, 0.4]},
    {"search": "grid", "points": 7},
    {"search": "grid", "objective": "virtual_step"},
    "closed_form",
    {"search": "closed_form", "objective": "balance_gradient"},
)
SERVED = {"grid": ("Rosenbrock", "Ellipse", "Booth"), "closed_form": ("Ellipse", "Booth")}
CASES = [(name, search) for name in NAMES for search in SEARCHES if name in SERVED.get(search_from(search).kind, NAMES)]

needs_kernels = pytest.mark.skipif(not hasattr(turns.KERNELS, "turn_choose"), reason="built without kernels")


def runs_after(problem: Problem, search: Any, ids: list[int], broken: bool = False) -> Runs:
    """Runs that took a few steps and then teleported."""
    rate = problem.defaults("train").learning_rate
    runs = Runs(problem, len(ids), learning_rate=rate, symmetry="rotation", searches=[search])
    runs.reset(Streams.from_seeds(ids).keys, torch.tensor(ids))
    for _ in range(4):
        runs.step()
    if broken:
        for row, value in enumerate((torch.nan, torch.inf, 1e160)):
            runs.params[row, 0] = value
            loss, gradient = problem.loss_and_gradient(
                runs.params[: row + 1].clone(), runs.instance.part(slice(row + 1))
            )
            runs.progress.loss[row], runs.gradient[row] = loss[row], gradient[row]
    with runs.quiet():
        runs.teleport(torch.zeros(len(ids), dtype=torch.int64))
    return runs


def on_arrays(problem: Problem, search: Any, ids: list[int], broken: bool = False) -> Runs:
    with mock.patch.object(turns, "KERNELS", None):
        return runs_after(problem, search, ids, broken)


@needs_kernels
@pytest.mark.parametrize(("name", "search"), CASES)
def test_the_same_points_at_the_same_price(name: str, search: Any) -> None:
    problem, ids = problem_from(name), list(range(300))
    compiled, plain = runs_after(problem, search, ids), on_arrays(problem, search, ids)
    assert torch.equal(compiled.progress.status, plain.progress.status)
    torch.testing.assert_close(compiled.params, plain.params, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(compiled.progress.loss, plain.progress.loss, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(compiled.progress.grad_norm2, plain.progress.grad_norm2, rtol=1e-7, atol=0.0)
    assert torch.equal(compiled.ledger.accounts, plain.ledger.accounts)
    assert bool((compiled.progress.status == Status.MOVED).any())


@needs_kernels
@pytest.mark.parametrize(("name", "search"), CASES)
def test_numbers_out_of_bounds_fail_alike_and_alone(name: str, search: Any) -> None:
    problem, ids = problem_from(name), list(range(8))
    compiled, plain = runs_after(problem, search, ids, broken=True), on_arrays(problem, search, ids, broken=True)
    sound = runs_after(problem, search, ids)
    assert torch.equal(compiled.progress.status[3:], sound.progress.status[3:])
    assert torch.equal(compiled.params[3:], sound.params[3:])
    assert not bool((compiled.progress.status[:3] == Status.MOVED).any())
    assert not bool((plain.progress.status[:3] == Status.MOVED).any())


@needs_kernels
@pytest.mark.parametrize(("name", "search"), CASES)
def test_a_run_has_the_same_bits_alone_and_among_others(name: str, search: Any) -> None:
    problem, ids = problem_from(name), [3, 1, 4, 15, 9, 2, 6]
    together = runs_after(problem, search, ids)
    for row in (0, 3, 6):
        alone = runs_after(problem, search, [ids[row]])
        assert torch.equal(alone.params[0], together.params[row])
        assert torch.equal(alone.gradient[0], together.gradient[row])
        assert torch.equal(alone.progress.loss[0], together.progress.loss[row])


@needs_kernels
def test_directions_of_a_virtual_step_and_of_random_candidates_have_kernels_of_their_own() -> None:
    for name, size in (("RosenbrockND", 8), ("Quadratic", 10)):
        for search, kernel in (("virtual_step", "turn_ahead"), ("random", "turn_tangents")):
            with mock.patch.object(turns, "KERNELS", mock.Mock(wraps=turns.KERNELS)) as kernels:
                runs_after(problem_from(name), search, [0, 1])
            assert getattr(kernels, kernel).called == (size <= CHAIN)


class Shifted(Booth):
    """Booth's function, and one more."""

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance, batch) + 1.0


def test_a_formula_that_is_replaced_is_not_bypassed() -> None:
    """By a subclass, or on an instance; both keep the kernels away."""
    watched = Booth()
    seen: list[int] = []

    def loss_and_gradient(params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        seen.append(len(params))
        return Booth.loss_and_gradient(watched, params, instance, batch)

    watched.loss_and_gradient = loss_and_gradient  # type: ignore[method-assign]
    with mock.patch.object(turns.Turns, "_found") as found:
        runs_after(Shifted(), "normalized_ascent", [0, 1])
        runs_after(watched, "normalized_ascent", [0, 1])
    found.assert_not_called()
    assert len(seen) > 5


def test_the_kernel_of_the_optimum_serves_affine_coordinates_with_the_usual_closed_form() -> None:
    """A symmetry that has an optimum of its own keeps it."""

    class Still(CoordinateChange):
        def optimal_element(self, objective: str, params: Tensor, instance: Instance) -> Tensor:
            return torch.eye(2, dtype=params.dtype).expand(len(params), 2, 2)

    def affine(kind: type[CoordinateChange], matrix: Matrix | None) -> bool:
        sphere = kind(lambda w, _: w, lambda u, _: u, 2, matrix=matrix).sphere
        return sphere is not None and sphere.affine

    def identity(instance: Instance) -> Tensor:
        return torch.eye(2, dtype=torch.float64).expand(len(instance), 2, 2)

    assert affine(CoordinateChange, identity)
    assert not affine(CoordinateChange, None)
    assert not affine(Still, identity)
