"""Infos are plain dicts of arrays of their own: whatever walks over dicts can use them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils import _pytree

from teleport_env.envs import TeleportVectorEnv, describe_status
from teleport_env.searches import Status

MODES = ("NextStep", "SameStep", "Disabled")
NUMBERS = {
    *("loss", "grad_norm", "learning_rate", "step", "teleports", "cost", "loss_change", "teleport_status"),
    *("converged", "diverged", "instance_id", "action_mask"),
}


def infos_of(envs: Any, steps: int = 12) -> Iterator[dict[str, Any]]:
    """The infos of a reset and of steps, a third of them teleports, through several episodes of five evaluations."""
    yield envs.reset(seed=0)[1]
    generator = np.random.default_rng(0)
    over = np.zeros(envs.num_envs, dtype=bool)
    for _ in range(steps):
        if over.any() and envs.unwrapped.autoreset_mode.value == "Disabled":
            yield envs.reset(options={"reset_mask": over})[1]
        actions = envs.single_action_space.n * (generator.random(envs.num_envs) < 0.3) - 1
        _, _, terminated, truncated, infos = envs.step(actions.clip(0))
        over = np.asarray(terminated) | np.asarray(truncated)
        yield infos


def leaves(infos: dict[str, Any]) -> dict[str, Any]:
    """Every array by its path."""
    found: dict[str, Any] = {}
    for key, value in infos.items():
        inner = leaves(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}/{path}": leaf for path, leaf in inner.items()}
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    mine, theirs = leaves(one), leaves(other)
    if mine.keys() != theirs.keys():
        return False
    return all(
        all(np.array_equal(a, b) for a, b in zip(mine[key], theirs[key], strict=True) if a is not None)
        if mine[key].dtype == object
        else np.array_equal(mine[key], theirs[key], equal_nan=True)
        for key in mine
    )


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_infos_are_plain_dicts(mode: str, output: str) -> None:
    """Regression: a dict that made its arrays when they were read showed placeholders to all that copies dicts in C."""
    envs = TeleportVectorEnv("Digits", 4, autoreset_mode=mode, output=output, budget=5.0)
    array = torch.Tensor if output == "torch" else np.ndarray
    finals = 0
    for infos in infos_of(envs):
        assert type(infos) is dict
        assert set(infos) >= NUMBERS | {"_" + name for name in NUMBERS}
        if "final_info" in infos:
            finals += 1
            assert type(infos["final_info"]) is dict
            assert set(infos["final_info"]) >= {"validation_loss", "_validation_loss", *NUMBERS}
        assert all(type(leaf) is array or "final_obs" in path for path, leaf in leaves(infos).items())
        for path, leaf in leaves(infos).items():
            columns = (envs.single_action_space.n,) if path.split("/")[-2] == "action_mask" else ()
            assert leaf.shape == (4, *columns) or "final_obs" in path, path
        twins = [copy.deepcopy(infos), pickle.loads(pickle.dumps(infos)), _pytree.tree_map(lambda leaf: leaf, infos)]
        assert all(type(twin) is dict and same(twin, infos) for twin in twins)
    assert bool(finals) == (mode == "SameStep")


def test_infos_of_a_single_environment_are_python_numbers() -> None:
    env = gym.make("Teleport/Booth-v0")
    _, info = env.reset(seed=0)
    for found in (info, env.step(1)[4]):
        assert type(found) is dict
        assert set(found) == NUMBERS
        mask = found.pop("action_mask")
        assert mask.dtype == np.int8
        assert mask.tolist() == [1] * env.action_space.n
        assert all(type(value) in (int, float, bool, Status) for value in found.values())
        assert json.loads(json.dumps(found)) == found


def test_what_became_of_a_teleport_has_a_name_and_words() -> None:
    env = gym.make("Teleport/Booth-v0", searches=["grid"], budget=6.0)
    _, info = env.reset(seed=0)
    assert (info["teleport_status"].name, info["teleport_status"].words) == ("NONE", "no teleport yet")
    info = env.step(1)[4]  # 64 losses, of which each costs a third
    assert info["teleport_status"] == 5
    assert info["teleport_status"].name == "NOT_PAID"
    assert info["teleport_status"].words == describe_status(5) == "refused: the budget cannot pay for it"
    assert {describe_status(status) for status in Status} == {status.words for status in Status}


def test_many_runs_have_names_for_what_became_of_teleports() -> None:
    envs = gym.make_vec(
        "Teleport/Booth-v0", num_envs=2, vectorization_mode="vector_entry_point", searches=["grid"], budget=6.0
    )
    _, infos = envs.reset(seed=0)
    names = np.array(envs.unwrapped.status_names)
    assert names[infos["teleport_status"]].tolist() == ["NONE", "NONE"]
    infos = envs.step(np.array([1, 0]))[4]
    assert names[infos["teleport_status"]].tolist() == ["NOT_PAID", "NONE"]
    assert [Status[name] for name in envs.unwrapped.status_names] == list(range(len(Status)))


def test_the_page_has_every_status() -> None:
    page = (Path(__file__).parents[2] / "docs" / "playing.md").read_text(encoding="utf-8")
    for status in Status:
        assert f"| {status.value} | `{status.name}` | {status.words} |" in page


def test_actions_have_names() -> None:
    menu = ["virtual_step_fit_rate", {"search": "closed_form", "objective": "balance_weights"}, "whiten_outputs"]
    env = TeleportVectorEnv("MatrixFactorization", 2, searches=menu, rate_factors=(1.0, 0.5))
    assert env.action_names == (
        *("step", "rate x0.5", "teleport: virtual step, fit rate"),
        "teleport: closed form, balance weights, sweeps 2",
        "teleport: whiten, any, side outputs, hidden -1",
    )
    assert len(env.action_names) == env.single_action_space.n
    assert gym.make("Teleport/Booth-v0", action_mode="group").unwrapped.action_names == ("step", "teleport")


@pytest.mark.parametrize("mode", MODES)
def test_a_wrapper_that_converts_arrays_converts_infos(mode: str) -> None:
    """Regression: Gymnasium's `NumpyToTorch` handed on placeholders."""
    from gymnasium.wrappers.vector import NumpyToTorch

    plain, wrapped = (TeleportVectorEnv("Booth", 3, autoreset_mode=mode, budget=5.0) for _ in range(2))
    converted = NumpyToTorch(wrapped)
    _, expected = plain.reset(seed=0)
    _, found = converted.reset(seed=0)
    actions = np.array([0, 1, 0])
    for _ in range(3 if mode == "SameStep" else 8):  # its `final_obs` is Gymnasium's array of objects
        assert all(isinstance(found[key], torch.Tensor) for key in expected)
        assert all(np.array_equal(found[key].numpy(), value) for key, value in expected.items())
        expected, found = plain.step(actions)[4], converted.step(torch.from_numpy(actions))[4]


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_infos_speak_of_their_moment(mode: str, output: str) -> None:
    """Later actions do not change them, and writing into them harms neither the environment nor other infos."""
    kept, spoilt = (
        TeleportVectorEnv("Booth", 4, autoreset_mode=mode, output=output, budget=6.0, rate_factors=(1.0, 0.5))
        for _ in range(2)
    )
    infos, copies = [], []
    for one, other in zip(infos_of(kept, 20), infos_of(spoilt, 20), strict=True):
        assert same(one, other)
        infos.append(one)
        copies.append(copy.deepcopy(one))
        for path, leaf in leaves(other).items():
            if "final_obs" not in path:
                leaf[:] = 1
    assert len({tuple(info["step"].tolist()) for info in infos}) > 4
    assert all(map(same, infos, copies))
