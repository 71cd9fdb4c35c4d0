"""Figures 1, 2 and 7: the ellipse, Rosenbrock's and Booth's function, over many angles at which the ascent begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reproduction.course import Course, longer_at_equal_loss, play
from reproduction.plane_picture import plane_picture
from reproduction.results import Findings, Setup, rows, settings_of
from teleport_env.agents.base import Agent
from teleport_env.agents.paper import Preset, paper
from teleport_env.agents.schedules import Never

_NO_END = 1e-300  # a tolerance that nothing reaches: runs are compared after equally many steps


def _with_search(preset: Preset, search: Any) -> Agent:
    return replace(preset.agent, environment={**preset.arguments, "searches": [search]})


def _played(preset: Preset, seeds: int, others: Mapping[str, Any]) -> dict[str, Course]:
    """The preset with and without its teleports, and with other searches in their place."""
    arguments: dict[str, Any] = {"tolerance": _NO_END, "watch_params": True}
    without = {key: value for key, value in preset.arguments.items() if key != "searches"}
    plain = Never(name="GD", environment=without)
    courses = {"GD": play(preset.problem, plain, preset.steps, **arguments)}
    agents = {"GD + teleport": preset.agent} | {name: _with_search(preset, s) for name, s in others.items()}
    for label, agent in agents.items():
        deterministic = label == "best angle"
        runs = 1 if deterministic else seeds
        courses[label] = play(preset.problem, agent, preset.steps, instances=[0] * runs, **arguments)
    return courses


def _table(courses: Mapping[str, Course]) -> pd.DataFrame:
    """A row a run: the end of it, and what its teleports did."""
    rows = []
    for label, course in courses.items():
        for run in range(course.loss.shape[1]):
            growth = [jump.growth[run] ** 2 for jump in course.jumps]
            rows.append(
                {
                    "schedule": label,
                    "run": run,
                    "final_loss": course.loss[-1, run],
                    "final_grad_norm": course.grad_norm[-1, run],
                    "cost": course.cost[-1, run],
                    "teleports": sum(int(jump.moved[run]) for jump in course.jumps),
                    "first_growth_of_squared_norm": growth[0] if growth else np.nan,
                    "largest_loss_change": max((abs(jump.loss_change[run]) for jump in course.jumps), default=0.0),
                    "diverged": bool(course.diverged[run]),
                }
            )
    return pd.DataFrame(rows)


def _quartiles(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{low:.2g} / {middle:.2g} / {high:.2g}"


def _middle(values: np.ndarray) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(values, [25, 50, 75]))


def _medians(values: np.ndarray, count: int = 100) -> np.ndarray:
    """Medians of successive draws of ``count``."""
    whole = len(values) // count
    return (
        np.median(values[: whole * count].reshape(whole, count), axis=1) if whole else np.median(values, keepdims=True)
    )


def _growth_between(course: Course, low: float = 1e-4, high: float = 1e-2) -> float:
    """Median growth of the squared norm in teleports from such losses."""
    found = [j.growth[(course.loss[j.step] > low) & (course.loss[j.step] < high)] ** 2 for j in course.jumps]
    return float(np.median(np.concatenate(found))) if sum(map(len, found)) else float("nan")


def _growth(course: Course, which: int = 0) -> np.ndarray:
    return course.jumps[which].growth ** 2


_ROUNDING = 1e-8
"""Where a loss is smaller, the rounding of the parameters shows in it, and no action keeps it to many digits."""


def _shared(courses: Mapping[str, Course]) -> tuple[dict[str, list[bool | None]], dict[str, Any]]:
    """Checks and figures of the claims that several of the three figures make."""
    course = courses["GD + teleport"]
    up = np.concatenate([jump.growth > 1.0 for jump in course.jumps])
    change = np.concatenate([np.abs(jump.loss_change) for jump in course.jumps])
    large = np.concatenate([course.loss[jump.step] > _ROUNDING for jump in course.jumps])
    shares = longer_at_equal_loss(course, courses["GD"], course.jumps[0].step)
    shares = shares[np.isfinite(shares)]
    checks: dict[str, list[bool | None]] = {
        "plane.rises": [up.mean() > 0.95, change[large].max() < 1e-8],
        "plane.longer": [bool(np.median(shares) > 0.5), bool((shares > 0.5).mean() > 0.95)],
    }
    return checks, {"up": up, "change": change, "large": large, "shares": shares}


def ellipse(setup: Setup) -> Findings:
    """Figure 1, a picture without published numbers: start, rate and ascent are ours."""
    preset = paper("Ellipse")
    seeds = setup.pick(full=1000, quick=1000, tiny=4)
    courses = _played(preset, seeds, {"best angle": "closed_form"})
    plain, jumping, best = courses["GD"], courses["GD + teleport"], courses["best angle"]
    final = jumping.loss[-1]
    below = float((final < plain.loss[-1, 0]).mean())
    checks, figures = _shared(courses)
    verdicts: dict[str, list[bool | None]] = {"plane.rises": checks["plane.rises"], "figure1.axes": [below > 0.95]}
    claims = rows(verdicts, globals() | locals() | figures)
    return Findings(
        claims,
        {"figure1": plane_picture("Ellipse", courses, (-3.0, 3.0), (-1.6, 1.6))},
        {"figure1": _table(courses)},
        settings_of("figure1"),
    )


# the published start, and a rate that moves nothing: the same angles without the ascent
_RANDOM_ANGLE = {"search": "gradient_ascent", "steps": 1, "rate": 1e-300, "start": "random", "objective": "any"}


def first_growths(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Growth of the squared gradient norm at the first teleport on Rosenbrock's function, ``(count,)`` each: at an angle
    drawn from (0, pi), and where the published ascent from such an angle ends."""
    preset = paper("Rosenbrock")
    step = 100  # the first teleport is before the hundredth
    agents = (_with_search(preset, _RANDOM_ANGLE), preset.agent)
    random, ascent = (_growth(play("Rosenbrock", agent, step, instances=[0] * count)) for agent in agents)
    return random, ascent


def rosenbrock(setup: Setup) -> Findings:
    """Figure 2."""
    preset = paper("Rosenbrock")
    seeds = setup.pick(full=1000, quick=1000, tiny=3)
    others = {"random angle": _RANDOM_ANGLE, "best angle": {"search": "grid", "points": 65535}}
    courses = _played(preset, seeds, others)
    plain, final = courses["GD"], courses["GD + teleport"].loss[-1]
    random_end, best_end = courses["random angle"].loss[-1], float(courses["best angle"].loss[-1, 0])
    below = float((final < 1e-2).mean()), float((final < 1e-8).mean())
    draws = setup.pick(full=20000, quick=20000, tiny=3)
    chance, growth = first_growths(draws)
    end = plain.loss[-1, 0]
    shared, figures = _shared(courses)
    claims = rows(
        {
            "figure2.valley": [abs(end - 0.11134) < 1e-4],
            **shared,
            "figure2.converges": [below[0] == 1.0, 0.35 < below[1] < 0.75],
            "figure2.ascent": [
                bool(np.median(growth) > 1.5 * np.median(chance)),
                bool(np.median(final) < np.median(random_end)),
            ],
        },
        globals() | locals() | figures,
    )
    return Findings(
        claims,
        {"figure2": plane_picture("Rosenbrock", courses, (-2.2, 2.2), (-1.2, 4.2))},
        {"figure2": _table(courses)},
        settings_of("figure2", seeds=seeds),
    )


def booth(setup: Setup) -> Findings:
    """Figure 7."""
    preset = paper("Booth")
    seeds = setup.pick(full=1000, quick=1000, tiny=3)
    courses = _played(preset, seeds, {"best angle": "closed_form"})
    plain, jumping, best = courses["GD"], courses["GD + teleport"], courses["best angle"]
    published = [144.0, 64.74, 38.55, 25.82, 17.95, 12.61, 8.89, 6.27, 4.42, 3.12, 2.20]
    error = float(np.abs(plain.loss[:, 0] - published).max())
    ratio = float(best.loss[-1, 0] / best.loss[-2, 0])
    squared = jumping.grad_norm[4] ** 2
    reached = float((squared > 0.99 * 36.0 * jumping.loss[4]).mean())
    close = float((np.abs(jumping.loss[-1] / 9.45e-4 - 1.0) < 0.05).mean())
    shared, figures = _shared(courses)
    claims = rows(
        {
            "figure7.plain": [error < 6e-3],
            **shared,
            "figure7.longest": [reached > 0.9],
            "figure7.shrinks": [abs(ratio - 0.1936) < 2e-3, close > 0.5],
        },
        globals() | locals() | figures,
    )
    return Findings(
        claims,
        {"figure7": plane_picture("Booth", courses, (-6.0, 8.0), (-7.0, 9.0))},
        {"figure7": _table(courses)},
        settings_of("figure7", seeds=seeds),
    )
