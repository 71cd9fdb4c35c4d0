"""Rows about steps of the environments, on every problem.

Where nothing else is said an environment has its default settings on the train split: instances that differ, and episodes
that end and start anew at different times. All of it is in the measured time.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.earlier import UNHURRIED, Earlier
from benchmarks.rows import Curve, Measured, Row, Scale, Work, timed
from teleport_env.agents.play import draw_instances
from teleport_env.envs.features import FEATURES
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.instances import Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Problem
from teleport_env.registration import id_of
from teleport_env.upcoming import AHEAD

CARTPOLE = "CartPole-v1"
WARM = 300  # steps before timing
EPISODES = 160  # steps of a turn at least
FEW = 16  # single environments side by side

COORDINATES = {"Rosenbrock": 0.6, "Ellipse": 0.6, "Booth": 0.6, "RosenbrockND": 0.3, "Quadratic": 0.3}
"""Of CartPole's steps per second, how many a problem should reach."""
NETWORKS = ("MatrixFactorization", "LinearNetwork", "MLPRegression")
OTHERS = ("TwoLayerRegression", "MatrixCompletion", "TensorFactorization", "Digits", "DigitsFull", "Autoencoder")


def vector(problem: str, count: int, **arguments: Any) -> gym.vector.VectorEnv:
    """``count`` runs in the native vector environment."""
    return gym.make_vec(id_of(problem), num_envs=count, vectorization_mode="vector_entry_point", **arguments)


def cartpoles(count: int) -> gym.vector.VectorEnv:
    """Gymnasium's own native vector environment."""
    return gym.make_vec(CARTPOLE, num_envs=count, vectorization_mode="vector_entry_point")


def stepping(envs: gym.vector.VectorEnv, actions: list[np.ndarray], scale: Scale) -> Callable[[], object]:
    """One ``step``, the actions in turn; after a reset and a few hundred steps."""
    envs.reset(seed=0)
    turn = 0

    def step() -> None:
        nonlocal turn
        envs.step(actions[turn % len(actions)])
        turn += 1

    for _ in range(scale.of(WARM)):
        step()
    return step


def whole(problem: str, scale: Scale) -> int:
    """Steps of whole episodes: most begin and end together, and so many at a time are prepared.

    A turn of any other number is quicker where fewer begin in it, and the best turn counts. Of long episodes one is a turn.
    """
    budget = round(problem_from(problem).defaults("train").budget)
    together = budget if budget > EPISODES else AHEAD * budget
    return scale.of(together * math.ceil(EPISODES / together), 1)


def formerly(problem: str, count: int, scale: Scale, mode: str = "vector_entry_point") -> Earlier:
    """The same gradient steps by the earlier state, in one of Gymnasium's vectorization modes."""
    source = f"""
import gymnasium as gym, numpy as np, teleport_env, torch
torch.set_num_threads(1)
envs = gym.make_vec("Teleport/{problem}-v0", num_envs={count}, vectorization_mode="{mode}")
envs.reset(seed=0)
action = np.zeros({count}, dtype=np.int64)
def work():
    envs.step(action)
for _ in range({scale.of(WARM)}):
    work()
"""
    return Earlier(UNHURRIED, source)


def steps(count: int) -> list[np.ndarray]:
    """Gradient steps by everybody."""
    return [np.zeros(count, dtype=np.int64)]


def pushes(count: int) -> list[np.ndarray]:
    """Random pushes of the cart."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 2, count) for _ in range(16)]


def mixed(count: int, actions: int) -> list[np.ndarray]:
    """A random tenth teleports, each by a random search of the menu."""
    generator = np.random.default_rng(0)
    teleports = [generator.random(count) < 0.1 for _ in range(16)]
    return [np.where(some, generator.integers(1, actions, count), 0) for some in teleports]


def numbers_read(problem: Problem, params: torch.Tensor, instance: Instance) -> int:
    """Numbers per instance that loss and gradient depend on: NaN in their place makes either NaN.

    Tensors that hold no floating-point numbers cannot be asked so, and count.
    """
    count = 0
    for name, tensor in instance.tensors.items():
        if tensor.is_floating_point():
            without = replace(instance, tensors={**instance.tensors, name: torch.full_like(tensor, math.nan)})
            if all(found.isfinite().all() for found in problem.loss_and_gradient(params, without)):
                continue
        count += tensor[0].numel()
    return count


def least_bytes(envs: TeleportVectorEnv) -> float:
    """Bytes that a gradient step of one run cannot but read and write: parameters, gradient, data, what is handed out.

    Features in float32, eleven numbers of the info with a mask each, reward, flags.
    """
    runs = envs.episodes.runs
    row = slice(1)
    numbers = 4 * runs.params.shape[1] + numbers_read(runs.problem, runs.params[row], runs.instance.part(row))
    return 8.0 * numbers + 4.0 * len(FEATURES) + 11 * (8.0 + 1.0) + 8.0 + 2.0


def bandwidth(count: int) -> Callable[[], object]:
    """A copy of so many bytes, half of them read and half written."""
    source = np.ones(max(1, count // 16))
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def against_cartpole(problem: str, count: int, scale: Scale) -> Measured:
    """Steps per second, all of them gradient steps, over those of as many carts."""
    count = scale.of(count)
    ours, theirs = vector(problem, count), cartpoles(count)
    work = {
        "ours": stepping(ours, steps(count), scale),
        "theirs": stepping(theirs, pushes(count), scale),
        "limit": bandwidth(int(count * least_bytes(ours.unwrapped))),  # type: ignore[arg-type]
    }
    seconds = timed(work, scale, whole(problem, scale))
    rate, other = count / seconds["ours"], count / seconds["theirs"]
    details = {"us per step": 1e6 * seconds["ours"], "us to copy what a step must touch": 1e6 * seconds["limit"]}
    return Measured(rate / other, rate, other, "steps/s", details)


def against_former(problem: str, count: int, scale: Scale) -> Measured:
    """Steps per second of now and of the earlier state."""
    count = scale.of(count)
    before = formerly(problem, count, scale)
    work: dict[str, Work] = {"now": stepping(vector(problem, count), steps(count), scale), "before": before}
    seconds = timed(work, scale, whole(problem, scale))
    before.close()
    return Measured(seconds["before"] / seconds["now"], count / seconds["now"], count / seconds["before"], "steps/s")


def tenth(problem: str, count: int, scale: Scale) -> Measured:
    """Time of steps of which a random tenth of the runs teleports by the default menu, over the earlier state's without."""
    count = scale.of(count)
    envs, before = vector(problem, count), formerly(problem, count, scale)
    menu = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    work: dict[str, Work] = {
        "with": stepping(envs, mixed(count, menu), scale),
        "without": stepping(vector(problem, count), steps(count), scale),
        "before": before,
    }
    seconds = timed(work, scale, whole(problem, scale))
    before.close()
    details = {"over a step of now": seconds["with"] / seconds["without"]}
    return Measured(seconds["with"] / seconds["before"], 1e6 * seconds["with"], 1e6 * seconds["before"], "us", details)


def against_sync(problem: str, count: int, scale: Scale, *, former: bool) -> Measured:
    """Against a few single environments in Gymnasium's `SyncVectorEnv`: ours, or those of the earlier state."""
    count = scale.of(count)
    work: dict[str, Work] = {"ours": stepping(vector(problem, count), steps(count), scale)}
    before = theirs = None
    if former:
        before = work["theirs"] = formerly(problem, FEW, scale, "sync")
    else:
        theirs = gym.make_vec(id_of(problem), num_envs=FEW, vectorization_mode="sync")
        work["theirs"] = stepping(theirs, steps(FEW), scale)
    seconds = timed(work, scale, whole(problem, scale))
    rate, other = count / seconds["ours"], FEW / seconds["theirs"]
    for one in (before, theirs):
        if one is not None:
            one.close()
    return Measured(rate / other, rate, other, "steps/s", {"us per step of ours": 1e6 * seconds["ours"]})


def bare_loop(name: str) -> Callable[[], object]:
    """A step of gradient descent as anybody writes it, on the problem's own loss, that reads loss and gradient norm."""
    problem = problem_from(name)
    defaults = problem.defaults("train")
    drawn = problem.instances(torch.from_numpy(draw_instances(name, "train", 1, 0)), "train", defaults.dtype)
    w = drawn.start.clone().requires_grad_(True)
    batch = None
    if problem.batch_size is not None:
        batch = torch.arange(problem.batch_size)[None]

    def step() -> tuple[float, float]:
        loss = problem.loss(w, drawn, batch)
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        with torch.no_grad():
            w.sub_(gradient, alpha=defaults.learning_rate)
        return loss.item(), gradient.norm().item()

    return step


def rosenbrock_loop() -> Callable[[], object]:
    """The same with the formula of Rosenbrock's function written out."""
    w = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)

    def step() -> tuple[float, float]:
        x, y = w
        loss = 100.0 * (x * x - y) ** 2 + (x - 1.0) ** 2
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.sub_(gradient, alpha=6e-4)
        return loss.item(), gradient.norm().item()

    return step


def single_step(problem: str, loop: Callable[[], Callable[[], object]], scale: Scale) -> Measured:
    """The single environment as `gym.make` gives it, resets included."""
    env = gym.make(id_of(problem))
    env.reset(seed=0)

    def step() -> None:
        *_, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            env.reset()

    seconds = timed({"ours": step, "theirs": loop()}, scale, whole(problem, scale))
    return Measured(seconds["ours"] / seconds["theirs"], 1e6 * seconds["ours"], 1e6 * seconds["theirs"], "us")


def memory(scale: Scale) -> Measured:
    """Resident memory after the steps over that after the first hundredth of them; every fifth action teleports."""
    total = scale.of(10**5, 200)
    env = gym.make(id_of("Rosenbrock"), budget=1e9)
    env.reset(seed=0)
    early = 0.0
    for turn in range(total):
        *_, terminated, truncated, _ = env.step(int(turn % 5 == 4))
        if terminated or truncated:
            env.reset()
        if turn == total // 100:
            early = _resident()
    late = _resident()
    return Measured(late / early, late, early, "MB", {"steps": float(total)})


def _resident() -> float:
    """Resident memory of this process in megabytes; not a number where the system does not tell."""
    gc.collect()
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return math.nan
    return pages * 4096 / 1e6


def rollouts_against_dummy(scale: Scale) -> Measured:
    from benchmarks.rollouts import against_dummy

    return against_dummy(scale, scale.of(4096), FEW)


def rollouts_against_trivial(scale: Scale) -> Measured:
    from benchmarks.rollouts import against_trivial

    return against_trivial(scale, scale.of(4096))


def growth(scale: Scale) -> dict[str, list[tuple[float, float]]]:
    """Steps per second over ``B``."""
    names = ("Rosenbrock", "Booth", "MatrixFactorization", "MLPRegression")
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in (*names, "CartPoleVectorEnv")}
    shorter, count = replace(scale, repeats=min(scale.repeats, 3)), 1
    while count <= 65536 // scale.divide:
        work = {name: stepping(vector(name, count), steps(count), scale) for name in names}
        work["CartPoleVectorEnv"] = stepping(cartpoles(count), pushes(count), scale)
        for name, seconds in timed(work, shorter, scale.of(EPISODES, 1)).items():
            lines[name].append((count, count / seconds))
        count *= 8
    return lines


ROWS: list[Row] = [
    *[
        Row(
            f"steps per second, {name}, 4096 runs",
            "CartPoleVectorEnv, 4096",
            target,
            "at least",
            partial(against_cartpole, name, 4096),
        )
        for name, target in COORDINATES.items()
    ],
    *[
        Row(
            f"steps per second, {name}, 2048 runs",
            "the old version",
            3.0,
            "at least",
            partial(against_former, name, 2048),
            UNHURRIED,
        )
        for name in NETWORKS
    ],
    *[
        Row(
            f"steps per second, {name}, 2048 runs",
            "CartPoleVectorEnv, 2048",
            0.1,
            "at least",
            partial(against_cartpole, name, 2048),
        )
        for name in NETWORKS
    ],
    *[
        Row(
            "steps per second, MLPRegression, 256 runs",
            f"SyncVectorEnv of {FEW} of {'the old version' if former else 'ours'}",
            400.0,
            "at least",
            partial(against_sync, "MLPRegression", 256, former=former),
            UNHURRIED if former else None,
        )
        for former in (False, True)
    ],
    *[
        Row(
            f"a step with a tenth of teleports, {name}, 4096 runs",
            "a step without, of the old version",
            5.0 if name in COORDINATES else 1.5,
            "at most",
            partial(tenth, name, 4096),
            UNHURRIED,
        )
        for name in (*COORDINATES, *NETWORKS)
    ],
    Row(
        "one env.step of the single environment, Rosenbrock",
        "a bare autograd loop",
        0.6,
        "at most",
        partial(single_step, "Rosenbrock", rosenbrock_loop),
    ),
    *[
        Row(
            f"one env.step of the single environment, {name}",
            "a bare autograd loop",
            1.3,
            "at most",
            partial(single_step, name, partial(bare_loop, name)),
        )
        for name in (*COORDINATES, *NETWORKS, *OTHERS)
    ],
    Row(
        "PPO rollouts, decisions per second, Rosenbrock, 4096 runs, default menu",
        f"DummyVecEnv of {FEW} of our single environments",
        60.0,
        "at least",
        rollouts_against_dummy,
    ),
    Row(
        "PPO rollouts that choose rates, decisions per second, Rosenbrock, 4096 runs",
        "a VecEnv that does nothing",
        0.8,
        "at least",
        rollouts_against_trivial,
    ),
    Row("memory after 100,000 steps with teleports", "after the first 1,000", 1.02, "at most", memory),
]
CURVES: list[Curve] = [Curve("Steps per second over runs side by side", "growth", "runs B", "steps per second", growth)]
