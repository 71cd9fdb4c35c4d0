"""The compiled kernels: whether there are any, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from teleport_env.native import KERNELS, VARIANT

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")


def test_without_kernels_on_request() -> None:
    code = "import teleport_env.native as native; print(native.KERNELS, native.VARIANT)"
    environment = {**os.environ, "TELEPORT_ENV_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None"]


@needs_kernels
def test_the_instruction_set_is_named() -> None:
    assert VARIANT in ("avx512", "avx2", "plain")


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
    params.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        KERNELS.descend(params, np.ones((2, 5)), rate, None, False)
    assert (params == 1).all()
