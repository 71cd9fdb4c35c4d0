"""Playing a schedule and recording its course, gradient step by gradient step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

from reproduction.results import largest
from teleport_env import bookkeeping
from teleport_env.agents.base import Agent, State
from teleport_env.envs.boundary import EnvSnapshot
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.registration import id_of
from teleport_env.searches.base import Status

Tensors = dict[str, np.ndarray]

_RECORDED = ("loss", "grad_norm", "cost", "diverged")


@dataclass
class Jump:
    """A teleport of all runs at once.

    Attributes:
        step: Gradient steps taken before it.
        moved: ``(B,)`` bool.
        refused: ``(B,)`` bool, of the runs that were not over before it: nothing moved.
        loss_change: ``(B,)``, the relative change of the loss on the data it used.
        growth: ``(B,)``, of the gradient norm: after over before.
        left: ``(B, P)``, the parameters before it, where parameters are recorded.
        before, after: Measurements by `TeleportVectorEnv.measure` and ``look`` of `play`, where they were asked for.
        unkept: ``(B,)`` bool, of the refused: because the move would have changed the loss.
    """

    step: int
    moved: np.ndarray
    refused: np.ndarray
    loss_change: np.ndarray
    growth: np.ndarray
    left: np.ndarray
    before: Tensors = field(default_factory=dict)
    after: Tensors = field(default_factory=dict)
    unkept: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=bool))


@dataclass
class Course:
    """``B`` runs of one schedule. Index ``t`` of ``T + 1`` is right before update ``t``, teleports included.

    A run that is over (diverged, or converged to the tolerance) keeps its last numbers. A diverged one's loss is infinite;
    the environment ends a run whose loss is far above its start, although some would have come back.

    Attributes:
        loss: ``(T + 1, B)``.
        grad_norm: ``(T + 1, B)``.
        cost: ``(T + 1, B)``, gradient evaluations.
        seconds: ``(T + 1,)``, processor time of all runs together, which a busy machine does not stretch.
        params: ``(T + 1, B, P)`` where asked for, else empty.
        jumps: The teleports.
        measured: Steps and measurements ``(B,)`` taken after them, where asked for.
        diverged: ``(B,)`` bool.
    """

    loss: np.ndarray
    grad_norm: np.ndarray
    cost: np.ndarray
    seconds: np.ndarray
    params: np.ndarray
    jumps: list[Jump]
    measured: list[tuple[int, Tensors]]
    diverged: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.loss) - 1

    @property
    def teleported(self) -> bool:
        """Whether most of the teleports moved: where they did not, the runs say nothing of teleports."""
        return bool(self.jumps) and float(np.mean([jump.moved for jump in self.jumps])) > 0.5

    def then(self, rest: Course) -> Course:
        """This course, and the one that went on from its end: of both together."""

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(self, name)[:-1], getattr(rest, name)])

        return replace(
            rest,
            loss=joined("loss"),
            grad_norm=joined("grad_norm"),
            cost=joined("cost"),
            seconds=joined("seconds"),
            params=joined("params"),
            jumps=[*self.jumps, *rest.jumps],
        )

    def measurements(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps ``(M,)`` and values ``(M, B)`` of one measurement."""
        return np.array([step for step, _ in self.measured]), np.stack([values[name] for _, values in self.measured])


@dataclass(frozen=True)
class Begun:
    """Gradient steps that several schedules begin with, played once (`begin`), to go on from.

    Attributes:
        course: Its course.
        snapshot: The environment at its end.
    """

    course: Course
    snapshot: EnvSnapshot


@dataclass(frozen=True, kw_only=True)
class OneEach(Agent):
    """A teleport after ``at`` gradient steps, and after each of the next, each run by a search of its own.

    Attributes:
        at: Gradient steps before the first.
        searches: Index of the search of each run.
        times: Number of teleports.
    """

    name: str = "one each"
    at: int = 5
    searches: tuple[int, ...] = ()
    times: int = 1

    def initial_state(self, count: int) -> State:
        return {"taken": np.zeros(count, dtype=np.int64), "done": np.zeros(count, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        due = (memory["done"] < self.times) & (memory["taken"] >= self.at + memory["done"])
        memory["done"] += due
        memory["taken"] += ~due
        return np.where(due, self.step_actions + np.asarray(self.searches), 0)


def play(
    name: str,
    agent: Agent,
    steps: int,
    /,
    *,
    instances: Sequence[int] = (0,),
    seed: int = 0,
    watch_params: bool = False,
    measure_every: int = 0,
    measure_jumps: bool = False,
    look: Callable[[TeleportVectorEnv], Tensors] | None = None,
    begin: Callable[[TeleportVectorEnv], np.ndarray | None] | None = None,
    begun: Begun | None = None,
    finish: Callable[[TeleportVectorEnv], None] | None = None,
    **arguments: Any,
) -> Course:
    """Play ``steps`` gradient steps of one schedule on several instances.

    Args:
        name: Name of the registered problem.
        agent: Agent that plays. It must ask all runs for steps, or all for teleports, at a time: a schedule by
            counts.
        steps: Gradient steps, those of ``begun`` included.
        instances: Ids, one per run; a repeated id is the same start with other random numbers of the searches.
        seed: Seed of those random numbers.
        watch_params: Record the parameters.
        measure_every: Gradient steps between two measurements by `TeleportVectorEnv.measure`; 0: none.
        measure_jumps: Whether to measure around every teleport too.
        look: Function of the environment whose result is recorded around every teleport.
        begin: Function from the new environment to parameters ``(B, P)`` to start from.
        begun: The first steps, played with the same arguments but for symmetry and searches, none of which they used.
        finish: Callback for the environment at the end.
        arguments: Keyword arguments of the environment, which go before the agent's. The budget is no limit by default: runs
            are compared after equally many steps, with their cost beside them.

    Raises:
        ValueError: The agent teleports amid ``begun``, or that is of another environment.
    """
    env = gym.make_vec(
        id_of(name),
        num_envs=len(instances),
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        **{"split": "paper", **agent.environment, "budget": 1e9, **arguments},
    ).unwrapped
    assert isinstance(env, TeleportVectorEnv)

    def seen(known: Tensors | None = None) -> Tensors:
        return {**((known or _numbers(env)) if measure_jumps else {}), **(look(env) if look else {})}

    with torch.no_grad():
        recorder = _Recorder(env, watch_params)
        options: dict[str, Any] = {"instance_id": np.asarray(instances)}
        start = begin(env) if begin else None
        if start is not None:
            options["params"] = start
        observation, info = env.reset(seed=seed, options=options)
        state, first = None, np.ones(len(instances), dtype=bool)
        taken, spent = 0, 0.0
        if begun is not None:
            # a symmetry has moved nothing yet, so that the snapshot is one of this environment too
            made_for = {**begun.snapshot.made_for, "symmetry": env.settings.symmetry}
            observation, info = env.restore(replace(begun.snapshot, made_for=made_for))
            recorder.measured += begun.course.measured
            while taken < begun.course.steps:
                action, state = agent.predict(observation, state, first)
                if (action >= agent.step_actions).any():
                    raise ValueError(
                        f"agent {agent.name!r} teleports after {taken} steps: {begun.course.steps} are begun"
                    )
                first = np.zeros_like(first)
                taken += env.settings.steps_per_action
            spent = float(begun.course.seconds[-1])
        over = env.episodes.ended.cpu().numpy()
        recorder.add(info, spent)
        if measure_every and begun is None:
            recorder.measured.append((0, _numbers(env)))
        while taken < steps and not over.all():
            action, state = agent.predict(observation, state, first)
            first = np.zeros_like(first)
            stepping = bool((action[~over] < agent.step_actions).all())
            before, norms = ({} if stepping else seen(recorder.measured_at(taken))), info["grad_norm"]
            moves = info["teleports"]
            began = time.process_time()
            observation, _, terminated, truncated, info = env.step(action)
            spent += time.process_time() - began
            gone, over = over, terminated | truncated
            if stepping:
                taken += env.settings.steps_per_action
                recorder.add(info, spent)
                if measure_every and taken % measure_every == 0:
                    recorder.measured.append((taken, _numbers(env)))
                continue
            moved = info["teleports"] > moves
            refused = ~moved & ~gone
            jump = Jump(
                taken,
                moved,
                refused,
                info["loss_change"],
                info["grad_norm"] / np.maximum(norms, 1e-300),
                recorder.params[-1] if watch_params else np.zeros((len(instances), 0)),
                before,
                seen(),
                refused & (info["teleport_status"] == Status.LOSS_MOVED),
            )
            recorder.jumped(info, spent, jump)
        if finish:
            finish(env)
        course = recorder.course(info["diverged"].astype(bool))
        return course if begun is None else begun.course.then(course)


def play_on(name: str, agent: Agent, steps: int, /, **arguments: Any) -> Course:
    """As `play`, but no run ends because its loss passes the environment's limit (`progress.DIVERGED_ABOVE`), which the
    paper's code has not: it has diverged where its numbers overflow."""
    with patch.object(bookkeeping, "DIVERGED_ABOVE", np.inf):
        return play(name, agent, steps, **arguments)


def begin(name: str, agent: Agent, steps: int, /, **arguments: Any) -> Begun:
    """Play the steps before any teleport, once for all schedules that begin with them; as `play`."""
    ends: list[EnvSnapshot] = []
    course = play(name, agent, steps, finish=lambda env: ends.append(env.snapshot()), **arguments)
    return Begun(course, *ends)


STILL = 1e-3
"""A run has converged where a step changes its loss by less. The paper's number is lost in our copy of its text, and stands
nowhere in its released code."""


def converged(course: Course) -> np.ndarray:
    """Steps ``(B,)`` after which a run has converged; the last where it has not; infinite for a diverged one."""
    still = np.abs(np.diff(np.where(np.isfinite(course.loss), course.loss, 1e300), axis=0)) < STILL
    still[:6] = False  # the teleport comes first
    first = np.where(still.any(axis=0), still.argmax(axis=0) + 1, course.steps)
    return np.where(course.diverged, np.inf, first)


def measured_frame(courses: Iterable[tuple[Mapping[str, Any], Course]], epoch: int) -> pd.DataFrame:
    """A row per measurement and run, with what names the course; ``epoch`` is how many steps one has."""
    return pd.DataFrame(
        [
            {**named, "seed": seed, "epoch": step / epoch, **{name: value[seed] for name, value in values.items()}}
            for named, course in courses
            for step, values in course.measured
            for seed in range(len(values["training_loss"]))
        ]
    )


def at_equal_loss(course: Course, base: Course, since: int) -> list[np.ndarray]:
    """Run by run, whether the gradient is longer than that of ``base`` at the same loss, by linear interpolation of the
    logarithms: at each of its losses from step ``since`` on that both pass. Empty where they share none, and for a
    diverged run.

    ``base`` has one run for each of ``course``, or one for all.
    """
    longer = [np.zeros(0, dtype=bool)] * course.loss.shape[1]
    for run in np.flatnonzero(~course.diverged):
        other = run if base.loss.shape[1] > 1 else 0
        usable = np.isfinite(base.loss[:, other]) & (base.loss[:, other] > 0.0) & (base.grad_norm[:, other] > 0.0)
        known_loss, known_norm = np.log(base.loss[usable, other]), np.log(base.grad_norm[usable, other])
        order = np.argsort(known_loss)
        loss, norm = course.loss[since:, run], course.grad_norm[since:, run]
        usable = np.isfinite(loss) & (loss > 0.0) & (norm > 0.0)
        loss, norm = np.log(loss[usable]), np.log(norm[usable])
        shared = (loss >= known_loss.min()) & (loss <= known_loss.max())
        longer[run] = (norm > np.interp(loss, known_loss[order], known_norm[order]))[shared]
    return longer


def longer_at_equal_loss(course: Course, base: Course, since: int) -> np.ndarray:
    """Share ``(B,)`` of a run's losses at which its gradient is the longer one (`at_equal_loss`); NaN of none."""
    return np.array([found.mean() if len(found) else np.nan for found in at_equal_loss(course, base, since)])


def mostly(shares: np.ndarray) -> float | None:
    """Median of the `longer_at_equal_loss` of runs; None where half of them or more diverge or share no loss with the
    base."""
    known = shares[np.isfinite(shares)]
    return float(np.median(known)) if len(known) > 0.5 * len(shares) else None


MOST = 0.95
"""Share of the runs in which something takes place, where a claim is one of a single picture."""


def longer_in_most(shares: np.ndarray) -> list[bool | None]:
    """Whether the gradient is longer at more than half of the losses, in the median run and in `MOST` of the runs, by
    `longer_at_equal_loss`; no check where too few runs share losses with the base."""
    middle, known = mostly(shares), shares[np.isfinite(shares)]
    return [] if middle is None else [middle > 0.5, float((known > 0.5).mean()) > MOST]


def keeps_loss(changes: np.ndarray, unkept: np.ndarray, limit: float) -> list[bool | None]:
    """Whether teleports leave the loss where it is: ``changes`` of those that move are below ``limit``, and none is refused
    because it would have changed it (``unkept``). The engine moves none that does, so that the first alone cannot fail.
    No check where there are neither."""
    if unkept.any():
        return [False]
    return [largest(changes) < limit] if len(changes) else []


def would_change(unkept: np.ndarray) -> str:
    """How many teleports are refused because they would have changed the loss, in words after a semicolon."""
    return f"; {unkept.sum()} more would change it and are refused" if unkept.any() else ""


def percent(shares: np.ndarray) -> str:
    """`mostly` in words."""
    middle = mostly(shares)
    return "none" if middle is None else f"{100 * middle:.0f} %"


def _numbers(env: TeleportVectorEnv) -> Tensors:
    return {name: np.asarray(value) for name, value in env.measure().items()}


class _Recorder:
    def __init__(self, env: TeleportVectorEnv, watch_params: bool) -> None:
        self.env, self.watch_params = env, watch_params
        self.numbers: list[Mapping[str, np.ndarray]] = []
        self.seconds: list[float] = []
        self.params: list[np.ndarray] = []
        self.jumps: list[Jump] = []
        self.measured: list[tuple[int, Tensors]] = []

    def add(self, info: Mapping[str, np.ndarray], seconds: float) -> None:
        self.numbers.append({name: np.array(info[name]) for name in _RECORDED})
        self.seconds.append(seconds)
        if self.watch_params:
            self.params.append(np.asarray(self.env.params))

    def measured_at(self, step: int) -> Tensors | None:
        """The measurement after so many steps, if there is one and no teleport has come since: measuring takes long."""
        here = bool(self.measured) and self.measured[-1][0] == step
        return self.measured[-1][1] if here and not (self.jumps and self.jumps[-1].step == step) else None

    def jumped(self, info: Mapping[str, np.ndarray], seconds: float, jump: Jump) -> None:
        """A teleport replaces the record of the moment: no step was taken."""
        self.numbers.pop()
        self.seconds.pop()
        if self.watch_params:
            self.params.pop()
        self.add(info, seconds)
        self.jumps.append(jump)

    def course(self, diverged: np.ndarray) -> Course:
        loss, norm, cost, ended = (np.stack([n[key] for n in self.numbers]) for key in _RECORDED)
        loss = np.where(np.isfinite(loss) & ~ended, loss, np.inf)
        params = np.stack(self.params) if self.params else np.zeros((0, loss.shape[1], 0))
        return Course(loss, norm, cost, np.array(self.seconds), params, self.jumps, self.measured, diverged)
