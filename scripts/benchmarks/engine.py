"""Rows about the engine and its environments.

Where nothing else is said an environment has its default settings on Rosenbrock's train split: starts and curvatures that
differ, a budget of 80, episodes that end and start anew at different times. All of it is in the measured time.
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

from benchmarks.rows import Curve, Measured, Row, Scale, timed

RUNS = 4096
FEW = 16  # single environments side by side
ID = "Teleport/Rosenbrock-v0"
CARTPOLE = "CartPole-v1"
GRID = ({"search": "grid", "points": 64},)
WARM = 300  # steps before timing
EPISODES = 160  # steps of a turn at least: most episodes of 80 still begin and end together


def vector(count: int, **arguments: Any) -> gym.vector.VectorEnv:
    """``count`` runs in the native vector environment."""
    return gym.make_vec(ID, num_envs=count, vectorization_mode="vector_entry_point", **arguments)


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


def steps(count: int) -> list[np.ndarray]:
    """Gradient steps by everybody."""
    return [np.zeros(count, dtype=np.int64)]


def random_actions(count: int) -> list[np.ndarray]:
    """Random pushes of the cart."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 2, count) for _ in range(16)]


def _throughput(
    ours: gym.vector.VectorEnv,
    theirs: gym.vector.VectorEnv,
    actions: Callable[[int], list[np.ndarray]],
    scale: Scale,
) -> Measured:
    """Steps a second of ours, all of them gradient steps, and of theirs by some actions."""
    work = {
        "ours": stepping(ours, steps(ours.num_envs), scale),
        "theirs": stepping(theirs, actions(theirs.num_envs), scale),
    }
    seconds = timed(work, scale, scale.of(EPISODES, 1))
    rate, other = ours.num_envs / seconds["ours"], theirs.num_envs / seconds["theirs"]
    ours.close()
    theirs.close()
    return Measured(rate / other, rate, other, "steps/s", {"us a vector step": 1e6 * seconds["ours"]})


def against_cartpole_vector(scale: Scale, **arguments: Any) -> Measured:
    count = scale.of(RUNS)
    return _throughput(vector(count, **arguments), cartpoles(count), random_actions, scale)


def against_sync(name: str, actions: Callable[[int], list[np.ndarray]], scale: Scale) -> Measured:
    """Against a few single environments of some name."""
    return _throughput(
        vector(scale.of(RUNS)), gym.make_vec(name, num_envs=FEW, vectorization_mode="sync"), actions, scale
    )


def tenth_of_teleports(scale: Scale) -> Measured:
    """Time of steps of which a random tenth of the runs teleports, over that of steps alone; budgets never end."""
    count = scale.of(RUNS)
    generator = np.random.default_rng(0)
    mixed = [(generator.random(count) < 0.1).astype(np.int64) for _ in range(16)]
    made = [vector(count, searches=GRID, budget=1e9) for _ in range(2)]
    work = {"with": stepping(made[0], mixed, scale), "without": stepping(made[1], steps(count), scale)}
    seconds = timed(work, scale, scale.of(EPISODES, 1))
    return Measured(seconds["with"] / seconds["without"], 1e6 * seconds["with"], 1e6 * seconds["without"], "us")


def bare_loop() -> Callable[[], object]:
    """A step of gradient descent as anybody writes it, that reads loss and gradient norm."""
    w = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    rate = 6e-4

    def step() -> tuple[float, float]:
        x, y = w
        loss = 100.0 * (x * x - y) ** 2 + (x - 1.0) ** 2
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.sub_(gradient, alpha=rate)
        return loss.item(), gradient.norm().item()

    return step


def single_step(scale: Scale) -> Measured:
    """The single environment as `gym.make` gives it, resets included."""
    env = gym.make(ID)
    env.reset(seed=0)

    def step() -> None:
        *_, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            env.reset()

    seconds = timed({"ours": step, "theirs": bare_loop()}, scale, scale.of(EPISODES, 1))
    return Measured(seconds["ours"] / seconds["theirs"], 1e6 * seconds["ours"], 1e6 * seconds["theirs"], "us")


def memory(scale: Scale) -> Measured:
    """Resident memory after the steps over that after the first hundredth of them; every fifth action teleports."""
    total = scale.of(10**5, 200)
    env = gym.make(ID, searches=GRID, budget=1e9)
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

    return against_dummy(scale, scale.of(RUNS), FEW)


def rollouts_against_trivial(scale: Scale) -> Measured:
    from benchmarks.rollouts import against_trivial

    return against_trivial(scale, scale.of(RUNS))


def growth(scale: Scale) -> dict[str, list[tuple[float, float]]]:
    """Steps a second over ``B``."""
    lines: dict[str, list[tuple[float, float]]] = {"Rosenbrock, gradient steps": [], "CartPoleVectorEnv": []}
    shorter, count = replace(scale, repeats=min(scale.repeats, 3)), 1
    while count <= 65536 // scale.divide:
        made = stepping(vector(count), steps(count), scale), stepping(cartpoles(count), random_actions(count), scale)
        work = dict(zip(lines, made, strict=True))
        for name, seconds in timed(work, shorter, scale.of(EPISODES, 1)).items():
            lines[name].append((count, count / seconds))
        count *= 4
    return lines


STEPS = f"schedule-mode steps a second, Rosenbrock, {RUNS} runs, gradient steps"
ROWS: list[Row] = [
    Row(STEPS, f"CartPoleVectorEnv, {RUNS}", 1.0, "at least", against_cartpole_vector),
    Row(
        "the same on the paper's split, episodes of 1000 steps and more",
        f"CartPoleVectorEnv, {RUNS}",
        1.0,
        "at least",
        partial(against_cartpole_vector, split="paper"),
    ),
    Row(STEPS, f"SyncVectorEnv of {FEW} CartPoles", 100.0, "at least", partial(against_sync, CARTPOLE, random_actions)),
    Row(
        STEPS,
        f"SyncVectorEnv of {FEW} of our single environments",
        1000.0,
        "at least",
        partial(against_sync, ID, steps),
    ),
    Row(
        "time of a step when a random tenth of the runs teleports, best of 64 angles",
        "all runs step",
        2.5,
        "at most",
        tenth_of_teleports,
    ),
    Row("one env.step of the single environment, Rosenbrock", "a bare autograd loop", 1.3, "at most", single_step),
    Row(
        f"PPO rollouts, decisions a second, {RUNS} runs",
        f"DummyVecEnv of {FEW} of our single environments",
        60.0,
        "at least",
        rollouts_against_dummy,
    ),
    Row(
        f"PPO rollouts that choose rates, decisions a second, {RUNS} runs",
        "a VecEnv that does nothing",
        0.9,
        "at least",
        rollouts_against_trivial,
    ),
    Row("memory after 100,000 steps with teleports", "after the first 1,000", 1.02, "at most", memory),
]
CURVES: list[Curve] = [Curve("Steps a second over runs side by side", "growth", "runs B", "steps a second", growth)]
