"""The compiled kernels: whether there are any, and what they refuse."""

from __future__ import annotations

import math
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fresh
from teleport_env import native
from teleport_env.native import KERNELS, MISSING, VARIANT, VARIANTS, is_older
from teleport_env.progress import runs_put
from teleport_env.random import Streams, mix

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")


def test_without_kernels_on_request() -> None:
    code = "import teleport_env.native as native; print(native.KERNELS, native.VARIANT)"
    done = fresh.run(["-c", code], TELEPORT_ENV_NATIVE="0")
    assert done.stdout.split() == ["None", "None"]


def test_kernels_older_than_a_source_are_told_from_newer_ones(tmp_path: Path) -> None:
    """Regression: after a pull into an editable install, a missing kernel was an AttributeError amid a reset."""
    built, source, other = (tmp_path / name for name in ("_kernels.abi3.so", "steps.c", "__init__.py"))
    for path, time in ((built, 100), (source, 90), (other, 110)):
        path.touch()
        os.utime(path, (time, time))
    assert not is_older(built)
    os.utime(source, (101, 101))
    assert is_older(built)


@needs_kernels
def test_why_there_are_no_kernels_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MISSING == ""
    monkeypatch.setattr(native, "is_older", lambda built: True)
    with pytest.warns(RuntimeWarning, match="older than their sources"):
        assert native._load() == (None, f"the compiled kernels {KERNELS.__file__} are older than their sources")
    monkeypatch.setitem(sys.modules, "teleport_env.native._kernels", None)
    module, why = native._load()
    assert module is None
    assert why.startswith("the compiled kernels could not be loaded (")


@pytest.mark.skipif(os.environ.get("TELEPORT_ENV_NATIVE") == "0", reason="kernels are switched off")
def test_kernels_are_there_where_they_can_be_built() -> None:
    """Without this a build that fails would only skip the tests of kernels."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if shutil.which("gcc") and headers.exists():
        assert KERNELS is not None


STEPS = """
import hashlib
import gymnasium as gym
import numpy as np
import torch
import teleport_env
from teleport_env.native import VARIANT
torch.set_num_threads(1)
print(VARIANT)
models = ("MatrixFactorization", "LinearNetwork", "MLPRegression", "MatrixCompletion", "TensorFactorization")
for name in ("Quadratic", *models):
    seen = hashlib.sha256()
    for count in (1, 3, 9):
        env = gym.make_vec(f"Teleport/{name}-v0", num_envs=count, vectorization_mode="vector_entry_point", optimizer="adam")
        env.reset(seed=count)
        draw = np.random.default_rng(count)
        for _ in range(6):
            env.step(draw.integers(env.single_action_space.n, size=count))
        seen.update(np.ascontiguousarray(env.unwrapped.params).tobytes())
    print(name, seen.hexdigest())
"""
"""Adam's updates are sums over rows, and the menus' searches work on tiles of runs."""


@needs_kernels
def test_instruction_sets_have_the_same_bits() -> None:
    """A set decides how many runs share a vector, and how many vectors a sum goes through."""
    assert VARIANT in VARIANTS
    lesser = VARIANTS[VARIANTS.index(VARIANT) :]
    told = {name: fresh.run(["-c", STEPS], TELEPORT_ENV_NATIVE=name) for name in lesser}
    for name, done in told.items():
        chosen, *bits = done.stdout.splitlines()
        assert chosen == name, done.stderr
        assert bits == told["plain"].stdout.splitlines()[1:]


@needs_kernels
@pytest.mark.parametrize("asked", ["yes", "avx512"])
def test_an_instruction_set_that_there_is_not_is_refused(asked: str) -> None:
    done = fresh.run(["-c", "import teleport_env.native"], TELEPORT_ENV_NATIVE=asked)
    if asked == VARIANT:
        assert done.returncode == 0
    else:
        assert "TELEPORT_ENV_NATIVE" in done.stderr
        assert repr(asked) in done.stderr


@needs_kernels
def test_what_does_not_fit_is_refused_and_nothing_is_written() -> None:
    params, rate = np.ones((2, 5)), np.ones(5)
    for gradient, error in (
        (np.ones((2, 4)), ValueError),
        (np.ones((2, 5), dtype=np.float32), TypeError),
        (np.ones((2, 10))[:, ::2], ValueError),
        (np.ones(10), ValueError),
        (None, TypeError),
    ):
        with pytest.raises(error):
            KERNELS.descend(params, gradient, rate, None, False)
    with pytest.raises(TypeError, match="takes 5 arguments"):
        KERNELS.descend(params, params)
    cost, integers, floats = np.ones(5, np.float32), np.zeros((6, 5), np.int64), np.ones((25, 5))
    good = [floats, integers, cost, cost, cost, cost, cost, np.full((1, 3), 0), np.ones((1, 3), np.float32), 1.0, 1.0]
    KERNELS.features(*good, np.empty((1, 5), np.float32))
    for place, bad in (
        (7, np.full((1, 3), 99)),
        (7, np.full((1, 3), -1)),
        (1, integers[1:]),
        (6, cost[:0]),
        (2, cost[1:]),
    ):
        with pytest.raises(ValueError, match="fit|entries"):
            KERNELS.features(*good[:place], bad, *good[place + 1 :], np.empty((1, 5), np.float32))
    whole = np.ones(5), 2.0, None, None, np.empty((3, 5), np.int8)
    for costs in (np.ones((3, 2)), np.ones((2, 1)), np.ones((2, 5))):
        with pytest.raises(ValueError, match="columns|fit"):
            KERNELS.payable(costs, *whole)
    with pytest.raises(ValueError, match="entries"):
        KERNELS.left(np.ones(5), 2.0, cost, cost[1:].copy(), cost)
    params.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        KERNELS.descend(params, np.ones((2, 5)), rate, None, False)
    assert (params == 1).all()


@needs_kernels
def test_runs_are_adopted_by_place() -> None:
    target, source = np.zeros((3, 6)), np.arange(15.0).reshape(3, 5)
    KERNELS.adopt(target, np.array([5, 0]), source, np.array([1, 4]), False, None)
    assert np.array_equal(target[:, [5, 0]], source[:, [1, 4]])
    assert not target[:, 1:5].any()
    for to, of in (([6, 0], [1, 4]), ([0, 1], [-1, 4]), ([0, 1], [0, 5])):
        with pytest.raises(IndexError):
            KERNELS.adopt(target, np.array(to), source, np.array(of), False, None)
    fields = np.zeros(3, np.dtype([("small", "f4"), ("numbers", "f8", (4,))]))  # not aligned
    for bad in (
        source.astype(np.int64),
        source.astype(object),
        source.astype(np.complex64),
        source.astype(">f8"),
        fields["numbers"],
        np.zeros((3, 5), np.dtype([("one", "f4"), ("other", "i4")])),
    ):
        for taker in (target, bad.copy() if bad.dtype != np.int64 else target, np.zeros_like(fields)["numbers"]):
            with pytest.raises(TypeError, match="format"):
                KERNELS.adopt(taker, np.array([0]), bad, np.array([0]), False, None)
    for constant in (np.array([True, False]), np.zeros(3)):
        with pytest.raises((ValueError, TypeError)):
            KERNELS.adopt(target, np.array([0]), source, np.array([0]), False, constant)
    alike = np.array([[2.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], [np.nan] * 5])
    KERNELS.adopt(target, np.array([1, 3]), alike, np.array([4, 0]), False, np.array([True, False, True]))
    assert np.array_equal(target[:, [1, 3]], alike[:, [4, 0]], equal_nan=True)
    KERNELS.adopt(target, np.array([], np.int64), alike, np.array([], np.int64), False, np.array([True, False, True]))
    whole = np.zeros((3, 6), np.int64)
    KERNELS.adopt(whole, np.array([2]), source.astype(np.int64), np.array([4]), False, None)
    assert np.array_equal(whole[:, 2], source[:, 4])
    with pytest.raises(ValueError, match="rows"):
        KERNELS.adopt(target, np.array([0]), source[1:], np.array([0]), False, None)
    rows, others = np.zeros((4, 3)), np.arange(15.0).reshape(5, 3)
    KERNELS.adopt(rows, np.array([3, 0]), others, np.array([4, 1]), True, None)
    assert np.array_equal(rows[[3, 0]], others[[4, 1]])
    assert not rows[1:3].any()
    for to, of in (([4], [0]), ([0], [5]), ([-1], [0])):
        with pytest.raises(IndexError):
            KERNELS.adopt(rows, np.array(to), others, np.array(of), True, None)
    with pytest.raises(ValueError, match="columns"):
        KERNELS.adopt(rows, np.array([0]), others[:, 1:], np.array([0]), True, None)


@needs_kernels
def test_numbers_are_drawn_as_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits and uniform numbers of few and of many streams, short and long, from wherever they have got to."""
    for count, size in ((1, ()), (3, (2,)), (70, (7,)), (70, (8,)), (5, (3, 50)), (200, (1,)), (2, (0,))):
        found = []
        for kernels in (KERNELS, None):
            monkeypatch.setattr("teleport_env.random.KERNELS", kernels)
            streams = Streams(mix(torch.arange(2 * count))[::2])
            found.append([streams.bits(size), streams.uniform(size=size), streams.normal(size), streams.bits()])
        for mine, other in zip(*found, strict=True):
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)
    for out in (np.empty((3, 2)), np.empty((2, 4))[:, :2], np.empty((2, 2), np.float32)):
        with pytest.raises((ValueError, TypeError)):
            KERNELS.draw(np.zeros(2, np.int64), 0, out)


def test_runs_are_put_in_every_layout() -> None:
    at, of = np.array([5, 0, 3]), np.array([2, 0, 1])
    for shape in ((), (1,), (2,), (2, 3)):
        for turned in (False, True):
            for kind in (np.float64, np.int64, np.float32, bool):
                size = math.prod(shape)
                mine, other = (np.arange(n * size).reshape(n, *shape).astype(kind) for n in (6, 4))
                if turned:
                    mine, other = (np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0) for a in (mine, other))
                mine[...] = 0
                wanted = mine.copy()
                wanted[at] = other[of]
                runs_put(mine, other)(at, of)
                assert np.array_equal(mine, wanted)
                if turned:  # one side alone
                    plain = np.zeros((6, *shape), kind)
                    runs_put(plain, other)(at, of)
                    assert np.array_equal(plain, wanted)


class Undecided:
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@needs_kernels
def test_a_step_is_refused_without_parameters_and_where_a_truth_raises() -> None:
    def book(gradient: np.ndarray, by_rows: Any, runs: int = 4) -> Any:
        floats, integers, logged = np.ones((25, runs)), np.zeros((6, runs), np.int64), np.zeros((2, runs))
        numbers = floats, integers, np.zeros(runs, bool), np.zeros((2, runs)), np.ones(runs), gradient, gradient.copy()
        return KERNELS.book(*numbers, None, by_rows, logged, None, 1.0, 1e-300, 1e300)

    assert book(np.ones((1, 4)), False) is True
    for gradient, by_rows in ((np.ones((0, 4)), False), (np.ones((4, 0)), True)):
        with pytest.raises(ValueError, match="at least one parameter"):
            book(gradient, by_rows)
    with pytest.raises(RuntimeError, match="neither"):
        book(np.ones((1, 4)), Undecided())
    with pytest.raises(RuntimeError, match="neither"):
        KERNELS.descend(np.ones((4, 4)), np.ones((4, 4)), np.ones(4), None, Undecided())


@needs_kernels
@pytest.mark.parametrize("idles", [False, True])
def test_an_action_is_settled(idles: bool) -> None:
    """Everything as one would write it down."""
    draw, count = np.random.default_rng(0), 40
    for case in range(60):
        loss, cost = draw.uniform(1.0, 2.0, count), draw.uniform(0.0, 5.0, count)
        actions, returns = draw.integers(0, 5, count), draw.normal(size=count)
        if case % 5 == 1:
            loss[draw.integers(count)] = draw.choice([0.5, np.nan, 0.9])
        if case % 5 == 2:
            cost[draw.integers(count)] = 5.5
        if case % 5 == 3:
            actions[draw.integers(count)] = 6
        log_loss, before = np.log10(loss), draw.normal(size=count)
        idle = draw.random(count) < 0.3 if idles else None
        acts = np.ones(count, dtype=bool) if idle is None else ~idle
        pays = case % 5 != 4
        after, reward, sums, counts = np.empty(count), np.empty(count), returns.copy(), actions.copy()
        diverged = np.isnan(loss)
        if case % 7 == 1:
            diverged[draw.integers(count)] = True
        over_before = draw.random((2, count)) < 0.1
        terminated, truncated = over_before.copy()
        ended = np.empty(count, bool)
        numbers = (
            log_loss,
            loss,
            cost,
            before,
            after,
            reward,
            sums,
            counts,
            diverged,
            terminated,
            truncated,
            ended,
            idle,
        )
        some = KERNELS.settle(*numbers, 0.1, 0.9, 6.0, 7, pays)
        assert np.array_equal(after, np.maximum(log_loss, 0.1), equal_nan=True)
        assert np.array_equal(reward, np.where(acts, before - after, 0.0), equal_nan=True)
        assert np.array_equal(counts, actions + acts)
        terminates = acts & ((loss <= 0.9) | diverged)
        truncates = acts & ~terminates & ((cost + 1.0 > 6.0) | (counts >= 7))
        assert some == (terminates | truncates).any()
        if some:
            assert np.array_equal(ended, terminates | truncates)
        assert np.array_equal(terminated, over_before[0] | terminates)
        assert np.array_equal(truncated, over_before[1] | truncates)
        assert np.array_equal(sums, returns + reward if pays else returns, equal_nan=True)


@needs_kernels
def test_units_that_do_not_fit_are_refused_and_nothing_is_written() -> None:
    """One coupling of two units, written by the rows of a matrix (2, 3) and read by the columns of another (1, 2)."""
    shapes, slots = np.array([[2, 3], [1, 2]]), np.array([1, 2, 0, 0, 0, 0, 3, 4])
    layout = [shapes, slots, np.array([True, False, False, True]), np.array([2]), np.empty(18)]
    tensors, table = (torch.ones(2, 3), torch.ones(1, 2)), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for place, bad, error in (
        (0, np.array([[2, 3], [1, 3]]), ValueError),
        (0, np.array([[2, 3], [1, 0]]), ValueError),
        (1, np.array([1, 2, 0, 0, 0, 0, 3, 5]), ValueError),
        (1, np.array([1, 2, 0, 0, 0, 0, -3, 4]), ValueError),
        (1, slots.astype(np.int32), TypeError),
        (2, np.ones(3, dtype=np.bool_), ValueError),
        (3, np.array([-1]), ValueError),
        (3, np.empty(0, dtype=np.int64), ValueError),
        (4, np.empty(17), ValueError),
    ):
        with pytest.raises(error):
            KERNELS.scale_units(*layout[:place], bad, *layout[place + 1 :], tensors, table, 1)
    squares = np.full(4, 7.0)
    for objective in (-1, 3, 99, 2**32):
        with pytest.raises(ValueError, match="objective must be 0, 1 or 2"):
            KERNELS.find_units(*layout, tensors, tensors, objective, False, 1, 1.0, 1e-30, table, squares)
    assert (squares == 7.0).all()
    for others, numbers, power in ((tensors[:1], table, 1), (tensors, table[1:], 1), (tensors, table, 0)):
        with pytest.raises(ValueError, match="must|entries"):
            KERNELS.scale_units(*layout, others, numbers, power)
    for unfit in (torch.ones(3, 2).t(), torch.ones(2, 4), torch.ones(2, 3).half(), torch.ones(2, 3, device="meta")):
        assert KERNELS.scale_units(*layout, (unfit, tensors[1]), table, 1) is None
    assert KERNELS.scale_units(*layout, (tensors[0], tensors[1].double()), table, 1) is None
    assert all(bool((tensor == 1).all()) for tensor in tensors)
    assert KERNELS.scale_units(*layout, (tensors[0], None), table, -2)
    torch.testing.assert_close(tensors[0][:, 0], torch.tensor([1 / 4, 1 / 9]))
    assert KERNELS.scale_units(*layout, (None, tensors[1]), table, 1)
    torch.testing.assert_close(tensors[1], torch.tensor([[4.0, 5.0]]))
