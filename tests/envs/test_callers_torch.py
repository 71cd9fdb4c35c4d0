"""The global state of torch and NumPy is the caller's: an environment works under any of it and leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from cases import arguments_for

from teleport_env.envs import TeleportVectorEnv
from teleport_env.problems import PROBLEMS

ROWS = 3


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "device meta": lambda: default_device("meta"),
    "float32 by default": lambda: default_dtype(torch.float32),
    "float64 by default": lambda: default_dtype(torch.float64),
    "inference mode": torch.inference_mode,
    "no gradients": lambda: torch.set_grad_enabled(False),
    "gradients": lambda: torch.set_grad_enabled(True),
    "deterministic": deterministic,
}
MODES = ("schedule", "hybrid")


def state() -> tuple[Any, ...]:
    """What belongs to the caller."""
    return (
        torch.get_default_device(),
        torch.get_default_dtype(),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002 (the legacy state is the caller's too)
        np.geterr(),
    )


def made(name: str, mode: str) -> TeleportVectorEnv:
    return TeleportVectorEnv(name, ROWS, **arguments_for(name, mode))


def actions(envs: TeleportVectorEnv) -> Iterator[Any]:
    """Every action of the menu, twice, all of them beside a step."""
    settings = envs.settings
    generator = np.random.default_rng(0)
    if settings.action_mode == "schedule":
        for action in 2 * [*range(envs.single_action_space.n)]:  # type: ignore[attr-defined]
            yield np.array([action, 0, action])
        return
    for turn in range(4):
        group = generator.uniform(-0.1, 0.1, envs.action_space["group"].shape).astype(np.float32)  # type: ignore[index]
        yield {"teleport": np.array([turn % 2, 0, 1]), "group": group}


def play(envs: TeleportVectorEnv) -> list[Any]:
    """Everything that is seen of some actions, a snapshot that is gone back to and a reset of one row."""
    seen = [envs.reset(seed=0)[0]]
    snapshot = envs.snapshot()
    for asked in actions(envs):
        seen += envs.step(asked)[:4]
    seen.append(envs.restore(snapshot)[0])
    seen += envs.measure().values()
    seen.append(envs.reset(options={"reset_mask": np.array([False, True, False])})[0])
    seen.append(envs.params)
    return seen


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_same_under_any_state(name: str, mode: str) -> None:
    usual = play(made(name, mode))
    for what, enter in STATES.items():
        with enter():
            before = state()
            found = play(made(name, mode))
            assert state() == before, what
        assert same(found, usual), what


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["Booth", "MLPRegression", "Digits"])
def test_one_state_after_the_other(name: str, mode: str) -> None:
    """Tensors made in inference mode cannot be written to outside it."""
    usual = made(name, mode)
    expected = [usual.reset(seed=0)[0], *(usual.step(asked)[0] for asked in actions(usual))]
    for what, enter in STATES.items():
        with enter():
            envs = made(name, mode)
            found = [envs.reset(seed=0)[0]]
        for turn, asked in enumerate(actions(envs)):
            if turn % 2:
                found.append(envs.step(asked)[0])
            else:
                with enter():
                    found.append(envs.step(asked)[0])
        assert same(found, expected), what


def test_autocast_does_not_reach_a_run_in_float32() -> None:
    """Regression: the caller's bfloat16 changed observations of a network by 0.02."""
    usual = play(TeleportVectorEnv("Digits", ROWS, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = play(TeleportVectorEnv("Digits", ROWS, dtype=torch.float32))
        assert torch.is_autocast_enabled("cpu")
    assert same(found, usual)
