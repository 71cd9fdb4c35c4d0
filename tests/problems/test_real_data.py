"""Problems on real and noisy data: nothing that a teleport knows solves them, and what solves them is known elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.problems.data import measurements
from teleport_env.random import Streams
from teleport_env.runs import Runs

pytest.importorskip("sklearn")

REAL: dict[str, dict[str, Any]] = {
    "MatrixCompletion": {},
    "TensorFactorization": {},
    "TwoLayerRegression": {},
    "DigitsFull": {"hidden": (16,)},
}
ROWS = 6


def best_after_teleports(problem: Problem, search: Any, symmetry: str, rows: int = ROWS) -> torch.Tensor:
    """Orders of magnitude gained by three teleports and the best of many gradient steps after them, on average."""
    instance = problem.instances(torch.arange(rows), "validation")
    runs = Runs(problem, rows, symmetry=symmetry, searches=(search,), learning_rate=1e-30)
    runs.reset(Streams.from_seeds(list(range(rows))).keys, torch.arange(rows))
    before = problem.loss(runs.params, runs.instance)
    for _ in range(3):
        runs.teleport(torch.zeros(rows, dtype=torch.int64))
    torch.testing.assert_close(problem.loss(runs.params, runs.instance), before, rtol=1e-9, atol=0.0)
    loss, gradient = problem.loss_and_gradient(runs.params, runs.instance)
    # the rate at which the loss as a parabola along the gradient would vanish, and others around it
    rate = (loss / gradient.square().sum(1))[:, None]
    found = [problem.loss(runs.params - rate * 2.0**k * gradient, runs.instance) for k in np.arange(-6, 4, 0.5)]
    best = torch.stack([loss, *found]).nan_to_num(torch.inf).min(dim=0).values
    assert len(instance) == rows
    return torch.log10(before / best.clamp_min(1e-12)).mean()


@pytest.mark.parametrize("name", REAL)
def test_no_teleport_is_the_answer(name: str) -> None:
    problem = problem_from(name, **REAL[name])
    for symmetry, action in problem.symmetries.items():
        if action.group.continuous:
            for search in problem.searches_for(symmetry):
                assert best_after_teleports(problem, search, symmetry) < 0.5


def test_where_a_teleport_is_the_answer_the_check_says_so() -> None:
    """The steepest point of a quadratic form lies on a ray to the minimum."""
    assert best_after_teleports(problem_from("Quadratic"), "closed_form", "rotation") > 0.9
    assert best_after_teleports(problem_from("Booth"), "closed_form", "rotation") > 0.9


@pytest.mark.parametrize(
    "problem",
    [
        *(problem_from(name, **REAL[name]) for name in REAL if name != "DigitsFull"),
        problem_from("MatrixCompletion", ridge=0.3),
        problem_from("MLPRegression"),
        problem_from("MLPRegression", bias=True),
        problem_from("LinearNetwork"),
        problem_from("MatrixFactorization"),
    ],
    ids=lambda problem: problem.name,
)
def test_a_block_at_its_minimum_has_no_gradient(problem: Problem) -> None:
    instance = problem.instances(torch.arange(ROWS), "train")
    assert problem.blocks > 0
    params, moved = instance.start, torch.zeros(instance.start.shape, dtype=torch.bool)
    for block in range(problem.blocks):
        found = problem.block_minimum(block, params, instance)
        _, before = problem.loss_and_gradient(params, instance)
        loss, gradient = problem.loss_and_gradient(found, instance)
        changed = (found != params).any(dim=0)
        assert changed.any()
        assert not (moved & changed).any()  # blocks have no weight in common
        moved |= changed
        size = before[:, changed].abs().max()
        assert float(gradient[:, changed].abs().max()) < 1e-9 * float(size)
        assert bool((loss <= problem.loss(params, instance) * (1 + 1e-12)).all())
        assert problem.block_flops(block, instance) > 0
        alone = instance.select(torch.tensor([2]))
        assert torch.equal(problem.block_minimum(block, params[2:3], alone)[0], found[2])
        params = found


def test_problems_without_blocks_say_so() -> None:
    problem = problem_from("Booth")
    instance = problem.instances(torch.arange(2), "train")
    assert problem.blocks == 0
    with pytest.raises(NotImplementedError, match="Booth has no block"):
        problem.block_minimum(0, instance.start, instance)


def test_the_floor_is_what_alternating_least_squares_finds() -> None:
    """Written anew with NumPy's least squares, row by row."""
    problem: Any = problem_from("MatrixCompletion")
    instance = problem.instances(torch.arange(1), "test")
    target, observed = instance["target"][0].numpy(), instance["observed"][0].numpy().astype(bool)
    generator = np.random.default_rng(0)
    best = np.inf
    for _ in range(3):
        lower = generator.standard_normal((30, problem.rank))
        for _ in range(60):
            upper = np.stack([np.linalg.lstsq(lower[o], t[o])[0] for t, o in zip(target, observed, strict=True)])
            lower = np.stack([np.linalg.lstsq(upper[o], t[o])[0] for t, o in zip(target.T, observed.T, strict=True)])
        best = min(best, np.square((upper @ lower.T - target)[observed]).mean())
    assert float(instance["floor"][0]) == pytest.approx(best, rel=2e-3)
    params = torch.from_numpy(np.concatenate([lower.T.ravel(), upper.ravel()]))[None]
    error = np.square((upper @ lower.T - target)[observed]).mean()
    assert float(problem.error(params, instance)) == pytest.approx(error, rel=1e-12)


def test_the_model_of_a_tensor_is_a_sum_of_products() -> None:
    problem: Any = problem_from("TensorFactorization", images=4, rank=2)
    instance = problem.instances(torch.arange(3), "test")
    first, second, third = (part.numpy() for part in problem._factors(instance.start))
    model = np.einsum("bri,brj,brk->bijk", first, second, third)
    error = np.square(model.reshape(3, 4, 64) - instance["target"].numpy()).sum((1, 2))
    np.testing.assert_allclose(problem.error(instance.start, instance), error, rtol=1e-12)
    np.testing.assert_allclose(instance["target"].square().sum((1, 2)), 1.0, rtol=1e-12)


@pytest.mark.parametrize("table", ["breast_cancer", "diabetes"])
def test_a_patient_belongs_to_one_split(table: str) -> None:
    whole = measurements(table)
    pools = [whole.pool(split, "x") for split in ("train", "validation", "test")]
    rows = [{tuple(row) for row in torch.cat([p.values, p.targets[:, None]], 1).tolist()} for p in pools]
    assert all(len(row) >= len(whole) // 3 - 2 for row in rows)  # hardly any two patients are equal
    assert not rows[0] & rows[1] | rows[0] & rows[2] | rows[1] & rows[2]
    assert len(whole.pool("paper", "x")) == len(whole)


def test_splits_of_the_tensors_and_tables_share_nothing() -> None:
    for name in ("MatrixCompletion", "TensorFactorization"):
        problem: Any = problem_from(name)
        seen = [
            {tuple(row) for row in problem.data_sets(split)["target"].flatten(0, 1).tolist()}
            for split in ("train", "validation", "test")
        ]
        assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_hidden_entries_and_other_patients_are_measured() -> None:
    for name in ("MatrixCompletion", "TwoLayerRegression"):
        problem = problem_from(name)
        instance = problem.instances(torch.arange(3), "test")
        found = problem.evaluate(instance.start, instance)
        assert set(found) == {"loss", "validation_loss"}
        assert bool((found["validation_loss"] > 0).all())
        torch.testing.assert_close(found["loss"], problem.loss(instance.start, instance))
    assert set(problem_from("MatrixCompletion", observed=1.0).evaluate(*whole_table())) == {"loss"}


def whole_table() -> tuple[torch.Tensor, Any]:
    instance = problem_from("MatrixCompletion", observed=1.0).instances(torch.arange(2), "test")
    return instance.start, instance


def test_a_ridge_leaves_permutations_alone() -> None:
    assert set(problem_from("MatrixCompletion", ridge=0.1).symmetries) == {"permutation"}
    assert set(PROBLEMS["DigitsFull"]().symmetries) == {"scaling", "permutation"}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MatrixCompletion", {"rank": 4, "observed": 0.1}, "leaves 3 entries per row"),
        ("MatrixCompletion", {"rows": 500}, "at most the patients"),
        ("TensorFactorization", {"images": 51}, "images"),
        ("TwoLayerRegression", {"samples": 200}, "samples"),
    ],
)
def test_settings_that_the_data_do_not_have(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem_from(name, **settings)
