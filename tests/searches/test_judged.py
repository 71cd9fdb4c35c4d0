"""What is allowed of a proposal: the kernel and NumPy agree, bit for bit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from teleport_env.native import KERNELS
from teleport_env.searches import base
from teleport_env.searches.base import Candidate, Found, Start, Status, judged

needs_kernels = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")


class Exact:
    """All that is asked of a symmetry here."""

    keeps_loss = True


class Approximate:
    keeps_loss = False


def spoiled(draw: np.random.Generator, *arrays: np.ndarray) -> None:
    """Put a number that is not finite or huge into some of them."""
    for array in arrays:
        if array.size and draw.random() < 0.3:
            array.reshape(-1)[draw.integers(array.size)] = draw.choice([np.nan, np.inf, -np.inf, 1e301, 1e200])


def proposal(draw: np.random.Generator, runs: int, size: int) -> tuple[Start, Candidate]:
    """Where some runs stand and what a search proposes, of every kind."""
    loss = draw.lognormal(size=runs)
    params, gradient, point, slope = draw.normal(size=(4, runs, size))
    after = loss * (1.0 + draw.choice([0.0, 1e-13, 1e-6, 1e-3], runs))
    score = draw.normal(size=runs)
    staying = score + draw.choice([0.0, 1e-17, -1e-16, 1.0, -1.0], runs)
    spoiled(draw, loss, after, point, slope, score, staying)
    here: dict[str, Any] = dict.fromkeys(("evaluator", "streams"))
    if draw.random() < 0.5:
        here["scale"] = torch.from_numpy(10.0 * draw.lognormal(size=runs))
    if draw.random() < 0.7:
        here["grad_norm2"] = torch.from_numpy((gradient * gradient).sum(1))
    symmetry: Any = Exact if draw.random() < 0.7 else Approximate
    loss, after, params, gradient, point, slope, score, staying = (
        torch.from_numpy(a.copy()) for a in (loss, after, params, gradient, point, slope, score, staying)
    )
    start = Start(params, loss, gradient, torch.ones(runs, dtype=torch.float64), symmetry, **here)
    proposed = Candidate(point, loss if draw.random() < 0.3 else after, slope)
    if draw.random() < 0.7:
        proposed.score, proposed.start_score = score, staying
    if draw.random() < 0.4:
        proposed.rate_factor = torch.from_numpy(draw.choice([1.0, 2.0, 0.5, -1.0, np.inf, np.nan, 0.0], runs))
    return start, proposed


@needs_kernels
def test_the_kernel_judges_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, seen = np.random.default_rng(0), set()
    for case in range(150):
        start, proposed = proposal(draw, int(draw.integers(0, 20)), 1 + case % 16 if case % 5 else 17 + case)
        tolerance = None if draw.random() < 0.6 else 1e-5
        answers = []
        for kernels in (KERNELS, None):
            monkeypatch.setattr(base, "KERNELS", kernels)
            with np.errstate(all="ignore"):
                answers.append(judged(start, proposed, tolerance))
        for field in fields(Found):
            mine, other = (getattr(answer, field.name) for answer in answers)
            assert isinstance(mine, Tensor) == isinstance(other, Tensor), field.name
            if isinstance(mine, Tensor):
                assert mine.dtype == other.dtype
                assert torch.equal(mine.nan_to_num(nan=7.25), other.nan_to_num(nan=7.25)), (case, field.name)
        seen |= set(answers[0].status.tolist())
    assert seen == {int(status) for status in Status} - {int(Status.NONE), int(Status.NOT_PAID)}


@needs_kernels
def test_what_does_not_fit_is_not_judged() -> None:
    start, proposed = proposal(np.random.default_rng(1), 5, 2)
    proposed.params = proposed.params[:, :1].contiguous()
    with pytest.raises(ValueError, match="does not fit"):
        judged(start, proposed)
    start, proposed = proposal(np.random.default_rng(1), 5, 2)
    proposed.loss = proposed.loss[:3]
    with pytest.raises(ValueError, match="entries"):
        judged(start, proposed)
