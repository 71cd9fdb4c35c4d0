"""Whatever a run is asked, its numbers and observations are finite, or it has diverged, or the teleport was refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, arguments_for

from teleport_env.envs import TeleportVectorEnv
from teleport_env.envs.settings import MAX_GROUP_DIM
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.progress import HUGE, Progress
from teleport_env.searches.base import Status
from teleport_env.searches.moves import coordinates

ROWS = 3
DTYPES = ("float64", "float32")


def not_finite(envs: TeleportVectorEnv, observation: np.ndarray) -> list[str]:
    """What is not finite and has no excuse."""
    runs = envs.episodes.runs
    p = runs.progress
    wrong = [] if np.isfinite(observation).all() else ["observation"]
    for field in fields(Progress):
        values = getattr(p, field.name)
        excused = p.diverged.clone()
        if field.name == "loss_change":  # of the point that was refused
            excused |= p.status > Status.MOVED
        if not bool((torch.isfinite(values) | excused).all()):
            wrong.append(field.name)
    for name, values in (("params", runs.params), ("gradient", runs.gradient)):
        if not bool((torch.isfinite(values).all(1) | p.diverged).all()):
            wrong.append(name)
    # what has these is diverged, so that none of what is computed from them overflows
    if not bool(((p.grad_norm2 <= HUGE[runs.dtype]) & (p.loss <= HUGE[runs.dtype]) | p.diverged).all()):
        wrong.append("larger than diverged runs")
    return wrong


def asked(envs: TeleportVectorEnv, turn: int) -> Any:
    """Teleports by the corner of the box, one run's in turns with steps, and now and then a step of all."""
    mode = envs.settings.action_mode
    flags = np.array([1, turn % 2, 1]) * (turn % 5 != 4)
    if mode == "schedule":
        actions = envs.single_action_space.n  # type: ignore[attr-defined]
        return flags * (actions - 1 - turn % max(1, actions - 1))
    ones = np.ones((ROWS, envs.settings.group_dim), dtype=np.float32)
    if mode == "group":
        return np.concatenate([2.0 * flags[:, None] - 1.0, ones], axis=1).astype(np.float32)
    return {"teleport": flags, "group": ones}


def play(envs: TeleportVectorEnv, turns: int, options: dict[str, Any] | None = None) -> None:
    observation, _ = envs.reset(seed=0, options=options)
    assert not not_finite(envs, observation), "at the reset"
    for turn in range(turns):
        observation, reward, *_ = envs.step(asked(envs, turn))
        assert np.isfinite(reward).all()
        assert not not_finite(envs, observation), f"after action {turn}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_far_teleports(name: str, mode: str, dtype: str) -> None:
    """By every symmetry with few enough coordinates; gradients of 1e150 were neither refused nor diverged."""
    arguments = arguments_for(name, mode) | {"dtype": dtype, "autoreset_mode": "Disabled", "observation": "both"}
    if mode == "schedule":
        play(TeleportVectorEnv(name, ROWS, **arguments), 16)
        return
    problem = problem_from(name)
    for symmetry in problem.symmetries:
        action = problem.symmetries[symmetry]
        if action.group.continuous and coordinates(action) <= MAX_GROUP_DIM:
            for scale in (10.0, 100.0, 1000.0) if name != "MNIST" else (100.0,):
                play(TeleportVectorEnv(name, ROWS, **arguments | {"symmetry": symmetry, "group_scale": scale}), 16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["schedule", "hybrid"])
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "MNIST"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e20, 1e140])
def test_strange_starts(name: str, mode: str, dtype: str, value: float) -> None:
    envs = TeleportVectorEnv(name, ROWS, dtype=dtype, autoreset_mode="Disabled", **arguments_for(name, mode))
    size = envs.settings.problem.instances(torch.zeros(1, dtype=torch.int64), "train").start.shape[1]
    play(envs, 6, {"params": np.full(size, value)})
