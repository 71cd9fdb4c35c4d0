"""What is refused has not happened: an environment that refused a call goes on as its twin, which was never asked."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from teleport_env import TeleportEnv, TeleportVectorEnv
from teleport_env.problems import PROBLEMS, Booth
from teleport_env.random import seeds_of_rows

Env = TeleportEnv | TeleportVectorEnv
PLAYED = [name for name in PROBLEMS if not name.startswith("MNIST")]
ROWS = 3


def single(name: str = "Rosenbrock", **arguments: Any) -> Env:
    return TeleportEnv(name, **arguments)


def vector(name: str = "Rosenbrock", **arguments: Any) -> Env:
    return TeleportVectorEnv(name, ROWS, **arguments)


FACES = pytest.mark.parametrize("face", [single, vector])


def action(env: Env, index: int) -> Any:
    return index if isinstance(env, TeleportEnv) else np.full(ROWS, index)


def seen(value: Any) -> Any:
    """Everything in a value that can be compared with ``==``."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return (str(value.dtype), value.tolist())
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if is_dataclass(value):
        return {field.name: seen(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): seen(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [seen(item) for item in value]
    return repr(value)


def future(env: Env) -> list[Any]:
    """What follows: two steps, the state, and two further episodes that no seed was given for."""
    found = [seen(env.step(action(env, 1))), seen(env.step(action(env, 0)))]
    found += [seen(env.snapshot()), env.np_random.bit_generator.state]
    found += [seen(env.reset()), seen(env.reset()), seen(env.np_random.integers(1 << 60))]
    return found


def check_twins(
    face: Callable[..., Env], refused: Callable[[Env], Any], error: Any, *name: str, **arguments: Any
) -> None:
    env, twin = face(*name, **arguments), face(*name, **arguments)
    for one in (env, twin):
        one.reset(seed=4)
        one.step(action(one, 0))
    with pytest.raises(error):
        refused(env)
    assert future(env) == future(twin)


RESETS: dict[str, dict[str, Any]] = {
    "params of a wrong shape": {"options": {"params": np.zeros(999)}},
    "params of three axes": {"options": {"params": np.zeros((1, 1, 2))}},
    "params that are no numbers": {"options": {"params": "ab"}},
    "complex params": {"options": {"params": [1j, 1j]}},
    "params that are not finite": {"options": {"params": [np.nan, 0.0]}},
    "infinite params": {"options": {"params": [0.0, -np.inf]}},
    "a fractional id": {"options": {"instance_id": 1.5}},
    "an id beyond 64 bits": {"options": {"instance_id": 2**63}},
    "a negative id": {"options": {"instance_id": -1}},
    "a learning rate of 0": {"options": {"learning_rate": 0.0}},
    "an infinite learning rate": {"options": {"learning_rate": np.inf}},
    "a learning rate that is no number": {"options": {"learning_rate": "0.1"}},
    "learning rates of another number of rows": {"options": {"learning_rate": [0.1, 0.2, 0.3, 0.4]}},
    "searches that are no flags": {"options": {"searches": [2]}},
    "searches of another menu": {"options": {"searches": [True, False, True, True, False]}},
    "an unknown option": {"options": {"parms": [0.0, 0.0]}},
    "options that are no dict": {"options": "params"},
    "a negative seed": {"seed": -1},
    "a fractional seed": {"seed": 1.7},
    "a seed in a string": {"seed": "3"},
    "a flag as seed": {"seed": True},
}


@FACES
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("case", RESETS)
def test_a_refused_reset(face: Callable[..., Env], case: str, seed: int | None) -> None:
    arguments = {"seed": seed, **RESETS[case]}
    check_twins(face, lambda env: env.reset(**arguments), ValueError)


@FACES
@pytest.mark.parametrize("name", PLAYED)
def test_a_refused_reset_of_every_problem(face: Callable[..., Env], name: str) -> None:
    check_twins(face, lambda env: env.reset(seed=1, options={"params": np.zeros(3333)}), ValueError, name)


@pytest.mark.parametrize(
    "seed", [[1.7, 2, 3], ["3", 1, 2], [1, 2], [1, 2, -3], [True, 1, 2], np.array([1.5, 2, 3]), [[1], 2, 3]], ids=repr
)
def test_refused_seeds_of_rows(seed: Any) -> None:
    check_twins(vector, lambda env: env.reset(seed=seed), ValueError)


@pytest.mark.parametrize(
    "seed", [(5, None, 7), np.array([5, 6, 7], dtype=np.uint16), torch.tensor([5, 6, 7]), np.int64(5)]
)
def test_seeds_of_every_library(seed: Any) -> None:
    """A row without a seed draws one of its own."""
    env = vector()
    env.reset(seed=seed)
    alone = single()
    alone.reset(seed=int(seeds_of_rows(5, 1)[0]) if np.ndim(seed) == 0 else 5)
    assert env.params[0].tolist() == alone.params.tolist()


@FACES
@pytest.mark.parametrize("case", ["params of a wrong shape", "an unknown option"])
def test_a_refused_first_reset(face: Callable[..., Env], case: str) -> None:
    """Regression: all rows kept the same key, so that the next reset gave every row the same instance."""
    env, twin = face(), face()
    for one in (env, twin):
        one.np_random = np.random.default_rng(5)
    for seed in (None, 3):
        with pytest.raises(ValueError, match="must"):
            env.reset(**{"seed": seed, **RESETS[case]})
    with pytest.raises(gym.error.ResetNeeded):
        env.step(action(env, 0))
    assert seen(env.reset()) == seen(twin.reset())
    assert future(env) == future(twin)
    if isinstance(env, TeleportVectorEnv):
        assert len(np.unique(env.params, axis=0)) == ROWS


class Moody(Booth):
    """A problem that fails on demand, in the midst of a reset."""

    broken = False

    def loss_and_gradient(self, *arguments: Any) -> Any:
        if self.broken:
            raise RuntimeError("not today")
        return super().loss_and_gradient(*arguments)


class MoodyAtTheEnd(Booth):
    """One that fails where the reward measures the start, when the runs have changed already."""

    broken = False

    def evaluate(self, *arguments: Any) -> Any:
        if self.broken:
            raise RuntimeError("not today")
        return super().evaluate(*arguments)


@FACES
def test_an_interrupt_amid_the_writes_of_a_reset_needs_a_reset(
    face: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    env = face("Booth")
    env.reset(seed=4)
    with monkeypatch.context() as patch:
        patch.setattr(env.episodes.runs.ledger, "amounts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            env.reset()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(action(env, 0))
    twin = face("Booth")
    for one in (env, twin):
        one.reset(seed=5)
    assert future(env) == future(twin)


@FACES
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("problem", [Moody, MoodyAtTheEnd])
def test_a_problem_that_fails_in_a_reset(face: Callable[..., Env], problem: type[Booth], seed: int | None) -> None:
    def fail(env: Env) -> None:
        env.settings.problem.broken = True  # type: ignore[attr-defined]
        try:
            env.reset(seed=seed)
        finally:
            env.settings.problem.broken = False  # type: ignore[attr-defined]

    env, twin = (face(problem=problem(), optimizer="adam", reward="terminal") for _ in range(2))
    for one in (env, twin):
        one.reset(seed=4)
        one.step(action(one, 0))
    with pytest.raises(RuntimeError, match="not today"):
        fail(env)
    assert future(env) == future(twin)


def test_a_refused_partial_reset() -> None:
    mask = np.array([True, False, False])
    check_twins(vector, lambda env: env.reset(options={"reset_mask": mask, "params": np.zeros((ROWS, 9))}), ValueError)
    for wrong in ([True], np.array([1, 0, 0]), np.zeros(ROWS, dtype=bool), np.ones(2, dtype=bool)):
        check_twins(
            vector,
            lambda env, wrong=wrong: env.reset(options={"reset_mask": wrong}),
            (ValueError, TypeError),  # type: ignore[misc]
        )


@FACES
@pytest.mark.parametrize("value", [None, "a", 0.5, 99, -1, True, [[0], [0, 1]], 1j])
def test_a_refused_action(face: Callable[..., Env], value: Any) -> None:
    def act(env: Env) -> None:
        env.step(value if isinstance(env, TeleportEnv) else [value] * ROWS)

    check_twins(face, act, ValueError)


STRANGERS: dict[str, tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "problem": (("Booth", {}), ("Ellipse", {})),
    "problem of like tensors": (("LinearNetwork", {}), ("MLPRegression", {})),
    "dimension": (("Quadratic", {"problem": {"dimension": 4}}), ("Quadratic", {"problem": {"dimension": 6}})),
    "optimizer": (("Booth", {"optimizer": "gd"}), ("Booth", {"optimizer": "adam"})),
    "stateless optimizer": (("Booth", {"optimizer": "gd"}), ("Booth", {"optimizer": "normalized_gd"})),
    "optimizer's settings": (
        ("Booth", {"optimizer": "momentum"}),
        ("Booth", {"optimizer": {"optimizer": "momentum", "momentum": 0.5}}),
    ),
    "dtype": (("Booth", {}), ("Booth", {"dtype": "float32"})),
    "symmetry": (("LinearNetwork", {}), ("LinearNetwork", {"symmetry": "scaling"})),
    "symmetry that moves data": (("LinearNetwork", {}), ("LinearNetwork", {"symmetry": "input_transform"})),
    "split": (("Booth", {}), ("Booth", {"split": "test"})),
    "problem's settings": (("Rosenbrock", {}), ("Rosenbrock", {"problem": {"curvature": (1.0, 2.0)}})),
    "activation": (
        ("MLPRegression", {"problem": {"activation": "tanh"}}),
        ("MLPRegression", {"problem": {"activation": "sigmoid"}}),
    ),
    "batches": (("Digits", {}), ("Digits", {"problem": {"batch_size": None}})),
}


@FACES
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", STRANGERS)
def test_a_snapshot_of_another_environment(face: Callable[..., Env], kind: str, turned: bool) -> None:
    (name, arguments), (other, others) = STRANGERS[kind][:: -1 if turned else 1]
    stranger = face(other, **others)
    stranger.reset(seed=0)
    check_twins(face, lambda env: env.restore(stranger.snapshot()), ValueError, name, **arguments)


@FACES
@pytest.mark.parametrize("value", [None, "x", {}, 5])
def test_what_is_no_snapshot(face: Callable[..., Env], value: Any) -> None:
    check_twins(face, lambda env: env.restore(value), TypeError)


def test_a_snapshot_of_another_number_of_rows() -> None:
    stranger = TeleportVectorEnv("Rosenbrock", ROWS + 1)
    stranger.reset(seed=0)
    check_twins(vector, lambda env: env.restore(stranger.snapshot()), ValueError)


@FACES
def test_before_the_first_reset(face: Callable[..., Env]) -> None:
    """Regression: a restore before the first reset left an environment that could never step."""
    other = face()
    other.reset(seed=0)
    env, twin = face(), face()
    calls: dict[str, Callable[[], Any]] = {
        "restore": lambda: env.restore(other.snapshot()),
        "snapshot": lambda: env.snapshot(),
        "measure": lambda: env.measure(),
        "action_masks": lambda: env.action_masks(),
        "params": lambda: env.params,
        "data_element": lambda: env.data_element,
        "step": lambda: env.step(action(env, 0)),
    }
    for name, call in calls.items():
        with pytest.raises(gym.error.ResetNeeded, match=rf"call reset\(\) before {name}"):
            call()
    assert seen(env.reset(seed=2)) == seen(twin.reset(seed=2))
    assert future(env) == future(twin)


@FACES
@pytest.mark.parametrize("name", PLAYED)
def test_all_that_follows_a_restore_is_repeated(face: Callable[..., Env], name: str) -> None:
    """Regression: after a restore the next reset of a single environment went on counting episodes."""
    env = face(name, optimizer="momentum")
    env.reset(seed=3)
    env.reset()
    env.step(action(env, 1))
    saved = env.snapshot()
    first = future(env)
    env.restore(saved)
    assert future(env) == first
    other = face(name, optimizer="momentum")
    other.reset(seed=8)
    other.restore(pickle.loads(pickle.dumps(copy.deepcopy(saved))))
    assert future(other) == first


def test_both_faces_agree_after_a_restore() -> None:
    env, alone = vector(), single()
    env.reset(seed=3)
    alone.reset(seed=int(seeds_of_rows(3, ROWS)[1]))
    for one in (env, alone):
        saved = one.snapshot()
        one.reset()
        one.restore(saved)
        one.reset()
    assert env.params[1].tolist() == alone.params.tolist()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_restore_to_ended_episodes(mode: str) -> None:
    env = TeleportVectorEnv("Booth", ROWS, autoreset_mode=mode, budget=4)
    env.reset(seed=3)
    for _ in range(3):
        over = env.step(np.zeros(ROWS, dtype=np.int64))[3]
    assert over.all()
    saved = env.snapshot()
    first = future(env)
    env.restore(saved)
    assert future(env) == first
