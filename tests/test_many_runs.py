"""A run is bit for bit the same among hundreds of others: nothing may be chosen by the number of runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from teleport_env.arrays import NUMPY
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.random import Streams
from teleport_env.runs import Runs

MANY = {"Digits": 80, "DigitsFull": 8, "MNISTSmall": 24, "Autoencoder": 24}
CASES = [
    (name, symmetry)
    for name in PROBLEMS
    if name != "MNIST" and PROBLEMS[name].__module__.startswith("teleport_env.")
    for problem in (problem_from(name),)
    for symmetry in problem.symmetries
    if symmetry != "permutation" and problem.searches_for(symmetry, "train")
]


def same(alone: torch.Tensor, among: torch.Tensor) -> bool:
    return np.array_equal(alone.numpy(), among.numpy(), equal_nan=True)  # some diverge


@pytest.mark.parametrize(("name", "symmetry"), CASES)
def test_among_many(name: str, symmetry: str) -> None:
    """Regression: from 2^15 parameters of all runs together a scaling was rounded in another way."""
    problem = problem_from(name)
    searches = problem.searches_for(symmetry, "train")
    many = MANY.get(name, 400)
    settings: dict[str, Any] = {"symmetry": symmetry, "searches": searches}
    settings["learning_rate"] = problem.defaults("train").learning_rate

    def runs(keys: list[int]) -> Runs:
        made = Runs(problem, len(keys), **settings)
        made.reset(Streams.from_seeds(keys).keys, torch.tensor(keys))
        return made

    together, few = runs([*range(many)]), [0, 1, many // 2, many - 1]
    alone = [runs([row]) for row in few]
    for round_ in range(2 * len(searches)):
        chosen = (torch.arange(many) + round_) % len(searches)
        together.teleport(chosen)
        together.step()
        for row, one in zip(few, alone, strict=True):
            one.teleport(chosen[row : row + 1])
            one.step()
            assert same(one.params[0], together.params[row])
            assert same(one.gradient[0], together.gradient[row])
            assert same(one.progress.loss[0], together.progress.loss[row])


@pytest.mark.parametrize("width", [3, 64, 65, 91, 200])
def test_inner_products_of_large_matrices(width: int) -> None:
    """Regression: einsum cut its sums where its buffer ended, wherever in a row that was."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((9, width, width + 1)) for _ in range(2))
    together = NUMPY.inner(left, right)
    for row in range(9):
        np.testing.assert_array_equal(
            NUMPY.inner(left[row : row + 1].copy(), right[row : row + 1].copy())[0], together[row]
        )
    np.testing.assert_allclose(together, (left * right).sum((1, 2)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("given", "expected"), [(None, "AUTO"), ("COMPATIBLE", "COMPATIBLE")])
def test_mkl_is_asked_for_results_that_do_not_depend_on_memory(given: str | None, expected: str) -> None:
    """On AMD's processors every second matrix of odd size would be rounded in another way."""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    environment |= {} if given is None else {"MKL_CBWR": given}
    code = (
        "import os, torch, teleport_env\n"
        "matrices = torch.randn(8, 17, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))\n"
        "for make in (torch.linalg.inv, lambda m: torch.linalg.qr(m)[0], lambda m: torch.bmm(m, m)):\n"
        "    together = make(matrices)\n"
        "    assert all(torch.equal(make(matrices[i : i + 1])[0], together[i]) for i in range(8))\n"
        "print(os.environ['MKL_CBWR'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
