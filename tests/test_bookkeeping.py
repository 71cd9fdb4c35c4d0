"""A step's numbers: kernels against NumPy, whatever the numbers are; rows apart from each other; runs that wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from teleport_env.arrays import TORCH
from teleport_env.bookkeeping import Bookkeeper
from teleport_env.native import KERNELS
from teleport_env.progress import AT, FLOATS, INTEGERS, Blocks

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")
COUNTS = [1, 7, 64, 1000]
SCRATCH = ("turn2", "turn_length")  # of NumPy's way alone
ODD = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e300, -1e300, 1e-300, 1e-320, 1e160)


class Case:
    """Runs before and after a step, with odd numbers among them."""

    def __init__(self, count: int, size: int, seed: int = 0, few: bool = True) -> None:
        self.draw, self.count, self.size, self.few = np.random.default_rng(seed), count, size, few
        self.floats = self.numbers(len(FLOATS), count)
        for name in ("grad_norm2", "grad_norm", "learning_rate", "initial_loss", "loss"):
            self.floats[AT[name]].abs_()
        self.floats[AT["limit"]] = 10.0
        self.gradient, self.new_gradient, self.params, self.moved = (self.numbers(count, size) for _ in range(4))
        self.loss = self.numbers(count)

    def numbers(self, *shape: int) -> Tensor:
        values = self.draw.normal(size=shape) * 10.0 ** self.draw.integers(-3, 3, size=shape)
        odd = self.draw.random(shape) < 0.03
        values[odd] = self.draw.choice(ODD, size=int(odd.sum()))
        return torch.from_numpy(values)

    def books(self, kernels: Any = None) -> Bookkeeper:
        blocks = Blocks.empty(self.count, torch.float64, "cpu")
        blocks.floats.copy_(self.floats)
        columns = None
        if self.few:
            columns = torch.zeros(5, self.size, self.count, dtype=torch.float64)
            columns[0], columns[1] = self.params.t(), self.gradient.t()
        books = Bookkeeper(blocks, columns)
        books.kernels = kernels
        return books

    def play(self, kernels: Any, general: bool = False, waiting: Tensor | None = None) -> dict[str, np.ndarray]:
        """All that a step leaves."""
        books, accounts = self.books(kernels), np.zeros((2, self.count))
        gradient, params = self.gradient.clone(), self.params.clone()
        with books.xp.quiet():
            if general:
                at = (params, self.moved, gradient, self.new_gradient)
                gradient = books.book(self.loss, *at, accounts)
            else:
                params = books.descend(params, gradient, waiting)
                gradient = books.book_descent(self.loss, gradient, self.new_gradient, accounts, waiting)
        found = {name: row for name, row in books.row.items() if name not in SCRATCH}
        found |= {name: books.integers[row] for row, name in enumerate(INTEGERS)}
        found["gradient"] = books.gradient.T if self.few else gradient.numpy()
        found["params"] = books.params.T if self.few else params.numpy()
        found |= {"accounts": accounts.T, "diverged": books.diverged, "sane": np.array([books.sane] * self.count)}
        return found


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], where: Any = ...) -> None:
    for name, values in expected.items():
        assert np.array_equal(found[name][where], values[where], equal_nan=values.dtype.kind == "f"), name


@needs_kernels
def test_the_rows_have_the_names_that_kernels_know() -> None:
    assert KERNELS.float_rows.split() == list(FLOATS)
    assert KERNELS.integer_rows.split() == list(INTEGERS)


@needs_kernels
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", COUNTS)
def test_of_few_parameters_kernels_have_numpys_bits(count: int, size: int, general: bool) -> None:
    case = Case(count, size, seed=count + size)
    check_same(case.play(KERNELS, general), case.play(None, general))


@needs_kernels
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("size", [9, 16, 67])
@pytest.mark.parametrize("count", COUNTS)
def test_of_many_parameters_kernels_agree_to_rounding(count: int, size: int, general: bool) -> None:
    case = Case(count, size, seed=count + size, few=False)
    for numbers in (case.gradient, case.new_gradient, case.params, case.moved):
        numbers.copy_(torch.from_numpy(case.draw.normal(size=(count, size))))
    found, expected = case.play(KERNELS, general), case.play(None, general)
    for name, values in expected.items():
        if values.dtype.kind == "f":  # the cosine is 1 where nothing is lost, and a sum of terms that cancel may lose
            assert np.allclose(found[name], values, rtol=1e-11, atol=1e-13, equal_nan=True), name
        else:
            assert np.array_equal(found[name], values), name
    assert np.array_equal(found["params"], expected["params"], equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_runs_that_wait_keep_everything(count: int, few: bool) -> None:
    case = Case(count, 4 if few else 20, seed=count, few=few)
    waiting = torch.from_numpy(case.draw.random(count) < 0.4)
    found, everybody = case.play(KERNELS, waiting=waiting), case.play(KERNELS)
    assert found.pop("sane")[0] == (not (found["diverged"] & ~waiting.numpy()).any())
    check_same(found, {name: values for name, values in everybody.items() if name != "sane"}, ~waiting.numpy())
    untouched = {name: case.floats[row].numpy() for row, name in enumerate(FLOATS) if name not in SCRATCH}
    # the logarithms are those of the numbers kept, as they are of runs in earnest
    for name, of in (("log_loss", "loss"), ("log_grad_norm2", "grad_norm2")):
        with np.errstate(all="ignore"):
            untouched[name] = np.where(waiting.numpy(), found[name], np.log10(np.maximum(untouched[of], 1e-300)))
    untouched |= {"params": case.params.numpy(), "gradient": case.gradient.numpy(), "accounts": np.zeros((count, 2))}
    check_same(found, untouched, waiting.numpy())
    assert not found["diverged"][waiting.numpy()].any()
    assert not found["steps"][waiting.numpy()].any()


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("few", [True, False])
def test_rows_are_independent(few: bool, general: bool) -> None:
    """Run 5 alone and among others: in each way that there is."""
    case = Case(70, 6 if few else 21, seed=3, few=few)
    alone = Case(1, case.size, few=few)
    row = slice(5, 6)
    alone.floats, alone.loss = case.floats[:, row].clone(), case.loss[row].clone()
    for name in ("gradient", "new_gradient", "params", "moved"):
        setattr(alone, name, getattr(case, name)[row].clone())
    for kernels in {KERNELS, None}:
        many, one = case.play(kernels, general), alone.play(kernels, general)
        for name in set(many) - {"sane"}:
            assert np.array_equal(many[name][row], one[name], equal_nan=many[name].dtype.kind == "f"), name


def test_rates_keep_to_their_range_and_logarithm() -> None:
    case = Case(9, 2)
    case.floats[AT["base_rate"]] = 0.5
    case.floats[AT["learning_rate"]] = 1.0
    books = case.books()
    books.scale_rates(torch.tensor([0.0, 1e-9, 0.5, 1.0, 2.0, 3.0, 500.0, 512.0, 1e9], dtype=torch.float64), 1024.0)
    expected = [0.5 / 1024, 0.5 / 1024, 0.5, 1.0, 2.0, 3.0, 500.0, 512.0, 512.0]
    assert books.row["learning_rate"].tolist() == expected
    assert np.array_equal(books.row["log_rate"], np.log10(expected))


def test_what_is_derived_belongs_to_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(40, 2)
    case.floats.abs_()
    books = case.books()
    with books.xp.quiet():
        books.refresh()
        expected = np.log10(np.maximum(case.floats[AT["initial_loss"]].numpy(), 1e-300))
    assert np.array_equal(books.row["log_initial_loss"], expected, equal_nan=True)
    monkeypatch.setattr("teleport_env.bookkeeping.arrays_of", lambda device: TORCH)
    elsewhere = case.books()
    elsewhere.refresh()
    assert elsewhere.kernels is None
    assert torch.allclose(elsewhere.floats, torch.from_numpy(books.floats), equal_nan=True)
