"""The regression of figure 3 from other starts than the five published ones: which runs diverge, and what a teleport adds at
learning rates that are tuned on the five."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from reproduction.course import Course, play
from reproduction.pieces import play_all
from reproduction.results import Row, interval_of, rows, sign
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Never

STARTS = 400
PUBLISHED_RATE = ("no teleport", "first order", "released")
TUNED = ("none, tuned", "first order, tuned")
NAMES = {"gd": "GD", "adagrad": "AdaGrad"}


def played(
    schedules: Mapping[str, Mapping[str, Agent]], tuned: Mapping[str, Mapping[bool, float]], steps: int, jobs: int
) -> dict[tuple[str, str], Course]:
    """Optimizer and label -> runs from `STARTS` starts that are drawn as the published ones are, with the split ``"test"``.

    Args:
        schedules: Optimizer -> label -> schedule; those of `PUBLISHED_RATE` are played.
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
    work = partial(play, instances=range(STARTS), split="test")
    pieces = {key: (work, ("MLPRegression", agent, steps)) for key, agent in listed.items()}
    return play_all(pieces, "other starts", jobs)


def gained(course: Course, base: Course) -> tuple[float, float]:
    """`interval_of` ``log10`` of the losses at the end against the base's, of the runs that neither loses."""
    both = np.isfinite(course.loss[-1]) & np.isfinite(base.loss[-1])
    return interval_of(np.log10(course.loss[-1][both] / base.loss[-1][both]), normal=True)


def thousandths(middle: float, half: float) -> str:
    """An interval in words, to the third place."""
    return f"{middle:+.3f} ± {half:.3f}"


def lost_in_words(courses: Mapping[tuple[str, str], Course], optimizer: str) -> str:
    """How many runs of `played` diverge at the published rate with a teleport and without, in words after a semicolon."""
    plain, first = (int(courses[optimizer, label].diverged.sum()) for label in PUBLISHED_RATE[:2])
    return f"; of {STARTS} other starts {first} diverge, {plain} without"


def claims(courses: Mapping[tuple[str, str], Course], tuned: Mapping[str, Mapping[bool, float]]) -> list[Row]:
    """The question of ours on other starts; see `played` for ``tuned``."""
    lost = {key: int(course.diverged.sum()) for key, course in courses.items()}
    refused = {key: sum(int(jump.refused.sum()) for jump in course.jumps) for key, course in courses.items()}
    gains = {one: gained(courses[one, TUNED[1]], courses[one, TUNED[0]]) for one in tuned}
    both = {one: courses[one, "first order"].diverged & courses[one, "released"].diverged for one in tuned}
    shared = {one: int(found.sum()) for one, found in both.items()}
    alone = {one: lost[one, "first order"] - shared[one] for one in tuned}
    lower = [one for one, found in gains.items() if sign(*found)]
    higher = [one for one, found in gains.items() if sign(*found) is False]
    return rows({"figure3.starts": "not comparable"}, globals() | locals())
