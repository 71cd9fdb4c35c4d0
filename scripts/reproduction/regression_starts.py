"""The regression of figure 3 from other starts than the five published ones: which runs diverge, and what a teleport adds at
learning rates that are tuned on the five."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from reproduction.course import Course, play, play_on
from reproduction.pieces import play_all
from reproduction.results import Row, interval_of, rows, sign
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Never

STARTS = 400
PUBLISHED_RATE = ("no teleport", "first order", "released")
TELEPORTS = PUBLISHED_RATE[1:]
TUNED = ("none, tuned", "first order, tuned")
ON = " without the limit"
"""What the label of a schedule of `TELEPORTS` ends with, played by `play_on`."""

NAMES = {"gd": "GD", "adagrad": "AdaGrad"}


def played(
    schedules: Mapping[str, Mapping[str, Agent]], tuned: Mapping[str, Mapping[bool, float]], steps: int, jobs: int
) -> dict[tuple[str, str], Course]:
    """Optimizer and label -> runs from `STARTS` starts that are drawn as the published ones are, with the split ``"test"``.

    Args:
        schedules: Optimizer -> label -> schedule; those of `PUBLISHED_RATE` are played, and those of `TELEPORTS` also
            without the environment's limit (`ON`).
        tuned: Optimizer -> with a teleport -> learning rate of `TUNED`.
    """
    listed: dict[tuple[str, str], Agent] = {}
    for optimizer, agents in schedules.items():
        listed |= {(optimizer, label): agents[label] for label in PUBLISHED_RATE}
        teleporting = agents["first order"]
        for moves, label in zip((False, True), TUNED, strict=True):
            environment = {**teleporting.environment, "learning_rate": tuned[optimizer][moves]}
            agent = replace(teleporting, environment=environment)
            listed[optimizer, label] = agent if moves else Never(environment={**environment, "searches": []})
    starts: dict[str, Any] = {"instances": range(STARTS), "split": "test"}
    pieces = {key: (partial(play, **starts), ("MLPRegression", agent, steps)) for key, agent in listed.items()}
    for optimizer, agents in schedules.items():
        for label in TELEPORTS:
            pieces[optimizer, label + ON] = (partial(play_on, **starts), ("MLPRegression", agents[label], steps))
    return play_all(pieces, "other starts", jobs)


def gained(course: Course, base: Course, step: int = -1) -> tuple[float, float]:
    """`interval_of` ``log10`` of the losses at a step against the base's, of the runs that neither loses; with teleports, of
    those that move."""
    both = _kept(course) & _kept(base)
    return interval_of(np.log10(course.loss[step][both] / base.loss[step][both]), normal=True)


def _kept(course: Course) -> np.ndarray:
    """Runs ``(B,)`` that last, and whose teleports move."""
    moved = [jump.moved for jump in course.jumps]
    return np.isfinite(course.loss[-1]) & np.all([~course.diverged, *moved], axis=0)


def raised(course: Course) -> np.ndarray:
    """Runs ``(B,)`` whose loss the teleport raises, whether it is finite then or not."""
    (jump,) = course.jumps
    return jump.moved & ~(jump.loss_change <= 0.0)


def not_finite(course: Course) -> int:
    """Teleports that are refused, and not because they would change the loss: their ascent ends in no finite numbers."""
    return sum(int((jump.refused & ~jump.unkept).sum()) for jump in course.jumps)


def thousandths(middle: float, half: float) -> str:
    """An interval in words, to the third place."""
    return f"{middle:+.3f} ± {half:.3f}"


def lost_in_words(courses: Mapping[tuple[str, str], Course], optimizer: str) -> str:
    """How many runs of `played` diverge at the published rate with a teleport, how many teleports more are refused because
    they are `not_finite`, and how many diverge without one, in words after a semicolon."""
    plain, first = (courses[optimizer, label] for label in PUBLISHED_RATE[:2])
    more = f" and {not_finite(first)} are refused" if not_finite(first) else ""
    return (
        f"; of {STARTS} other starts {first.diverged.sum()} [diverge](#diverge){more}, {plain.diverged.sum()} without"
    )


def claims(courses: Mapping[tuple[str, str], Course], tuned: Mapping[str, Mapping[bool, float]]) -> list[Row]:
    """The question of ours on other starts; see `played` for ``tuned``."""
    lost = {key: int(course.diverged.sum()) for key, course in courses.items()}
    refused = {key: not_finite(course) for key, course in courses.items()}
    raises = {(one, label): raised(courses[one, label]) for one in tuned for label in TELEPORTS}
    among = {key: int((found & courses[key].diverged).sum()) for key, found in raises.items()}
    # a loss that is no number has not come back
    high = {
        (one, label): int((~(on.loss[-1] <= on.loss[0])).sum())
        for one in tuned
        for label in TELEPORTS
        for on in [courses[one, label + ON]]
    }
    gains = {one: gained(courses[one, TUNED[1]], courses[one, TUNED[0]]) for one in tuned}
    published = {
        one: [gained(courses[one, "first order"], courses[one, "no teleport"], step) for step in (50, -1)]
        for one in tuned
    }
    kept = {one: int((_kept(courses[one, "first order"]) & _kept(courses[one, "no teleport"])).sum()) for one in tuned}
    both = {one: courses[one, "first order"].diverged & courses[one, "released"].diverged for one in tuned}
    shared = {one: int(found.sum()) for one, found in both.items()}
    lower = [one for one, found in gains.items() if sign(*found)]
    higher = [one for one, found in gains.items() if sign(*found) is False]
    return rows({"figure3.starts": "not comparable"}, globals() | locals())
