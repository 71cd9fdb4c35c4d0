"""Figures 1, 2 and 7: the ellipse, both test functions and their gradients, over many angles at which the ascent begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.course import (
    MOST,
    Course,
    keeps_loss,
    longer_at_equal_loss,
    longer_in_most,
    percent,
    play,
    would_change,
)
from reproduction.pictures import PLAIN, TELEPORT, band, level_sets, panels, trajectory
from reproduction.pieces import play_all
from reproduction.results import Findings, Row, Setup, largest, note_of, rows, settings_of
from teleport_env.agents.base import Agent
from teleport_env.agents.paper import Preset, paper
from teleport_env.agents.schedules import Never
from teleport_env.problems import problem_from

TARGET = 1e-2
"""Loss of Rosenbrock's function that counts as the target, the largest end of the released code's runs rounded up."""

_NO_END = 1e-300  # a tolerance that nothing reaches: runs are compared after equally many steps


def _with_search(preset: Preset, search: Any) -> Agent:
    return replace(preset.agent, environment={**preset.arguments, "searches": [search]})


def _played(preset: Preset, seeds: int, others: Mapping[str, Any], jobs: int) -> dict[str, Course]:
    """The preset with and without its teleports, and with other searches in their place."""
    arguments: dict[str, Any] = {"tolerance": _NO_END, "watch_params": True}
    without = {key: value for key, value in preset.arguments.items() if key != "searches"}
    plain = Never(name="GD", environment=without)
    agents = {"GD": plain, "GD + teleport": preset.agent} | {
        name: _with_search(preset, s) for name, s in others.items()
    }
    pieces = {}
    for label, agent in agents.items():
        runs = 1 if label in ("GD", "best angle") else seeds  # these two draw nothing
        works = partial(play, instances=[0] * runs, **arguments)
        pieces[label] = works, (preset.problem, agent, preset.steps)
    return play_all(pieces, preset.problem, jobs)


def _table(courses: Mapping[str, Course]) -> pd.DataFrame:
    """A row per run: the end of it, and what its teleports did."""
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


def _range(values: np.ndarray) -> str:
    """The least, the middle and the greatest of the runs that do not diverge."""
    low, middle, high = np.percentile(values[np.isfinite(values)], [0, 50, 100])
    return f"{low:.2g} / {middle:.2g} / {high:.2g}"


def _middle(values: np.ndarray) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(values, [25, 50, 75]))


def _medians(values: np.ndarray, count: int = 100) -> np.ndarray:
    """Medians of successive draws of ``count``."""
    whole = len(values) // count
    draws = values[: whole * count].reshape(whole, count) if whole else values[None]
    return np.median(draws, axis=1)


def _growth_between(course: Course, low: float = 1e-4, high: float = 1e-2) -> float:
    """Median growth of the squared norm in teleports from such losses."""
    found = [j.growth[(course.loss[j.step] > low) & (course.loss[j.step] < high)] ** 2 for j in course.jumps]
    return float(np.median(np.concatenate(found))) if sum(map(len, found)) else float("nan")


def _growth(course: Course, which: int = 0) -> np.ndarray:
    return course.jumps[which].growth ** 2


_ROUNDING = 1e-8
"""Where a loss is smaller, the rounding of the parameters shows in it, and no action keeps it to many digits."""


def _rises(course: Course, gentle: Course | None = None) -> tuple[list[bool | None], dict[str, Any]]:
    """Checks and figures of what every teleport does: in most runs each makes the gradient longer, and none that is proposed
    changes a loss in which rounding does not show. ``gentle``: the same teleports at `GENTLE`, which decide nothing."""

    def each(name: str) -> np.ndarray:
        """``(T, B)``, teleport by teleport."""
        return np.stack([getattr(jump, name) for jump in course.jumps])

    moved, growth, change = each("moved"), each("growth"), np.abs(each("loss_change"))
    large = np.stack([course.loss[jump.step] > _ROUNDING for jump in course.jumps])
    unkept = each("unkept") & large
    in_all = (moved | each("refused")).any(axis=0) & ~((moved & ~(growth > 1.0)) | each("refused")).any(axis=0)
    kept = keeps_loss(change[moved & large], unkept, 1e-8)
    checks: list[bool | None] = [bool(in_all.mean() > MOST), *(kept or [None])] if course.teleported else kept
    return checks, {
        "up": growth[moved] > 1.0,
        "in_all": in_all,
        "shortest": float(np.min(growth[moved], initial=np.inf)),
        "change": change[moved],
        "large": large[moved],
        "most": largest(change[moved & large]),
        "refused": would_change(unkept),
        "checks_kept": kept[0] if kept else None,
        "gentle": None if gentle is None else _rises(gentle)[1],
    }


def _middle_run(course: Course) -> int:
    """The run of the median loss at the end, not the luckiest."""
    order = np.argsort(np.where(np.isfinite(course.loss[-1]), course.loss[-1], np.inf))
    return int(order[len(order) // 2])


def _level_sets(axes: Axes, problem_name: str, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    """Level sets of a function on a part of the plane, and its minimum."""
    problem = problem_from(problem_name)
    instance = problem.instances(torch.zeros(1, dtype=torch.int64), "paper")
    xs, ys = np.linspace(*xlim, 240), np.linspace(*ylim, 200)
    grid = torch.tensor(np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2))
    level_sets(axes, xs, ys, problem.loss(grid, instance.repeat(len(grid))).reshape(200, 240).numpy())
    minimum = problem.minimum(instance)
    assert minimum is not None
    axes.plot(*minimum[0].numpy(), "*", color="#E69F00", markersize=12, zorder=5)


def _picture(
    problem_name: str, courses: Mapping[str, Course], xlim: tuple[float, float], ylim: tuple[float, float]
) -> Figure:
    """Trajectories on level sets, loss, gradient norm, gradient norm against loss, and the distribution of the end."""
    plain, jumping = courses["GD"], courses["GD + teleport"]
    run = _middle_run(jumping)
    with panels(2, 3, height=3.2) as (figure, axes):
        _level_sets(axes[0], problem_name, xlim, ylim)
        trajectory(axes[0], plain.params[:, 0], [], "GD", PLAIN)
        points, jumps = _path(jumping, run)
        trajectory(axes[0], points, jumps, "GD + teleport (median run)", TELEPORT)
        axes[0].set(xlim=xlim, ylim=ylim, title="trajectories", xlabel="$w_1$", ylabel="$w_2$")
        axes[0].legend(loc="upper left", frameon=True, framealpha=0.85)
        steps = np.arange(plain.steps + 1)
        for label, course, colour in (("GD", plain, PLAIN), ("GD + teleport", jumping, TELEPORT)):
            band(axes[1], steps, np.maximum(course.loss, 1e-32), label, colour)
            band(axes[2], steps, np.maximum(course.grad_norm, 1e-16), label, colour)
        axes[1].set(yscale="log", title="loss: median and quartiles", xlabel="gradient step")
        axes[2].set(yscale="log", title="gradient norm", xlabel="gradient step")
        axes[1].legend()
        axes[3].plot(plain.loss[:, 0], plain.grad_norm[:, 0], color=PLAIN, label="GD")
        axes[3].plot(
            jumping.loss[:, run], jumping.grad_norm[:, run], color=TELEPORT, marker=".", markersize=2, linewidth=0.8
        )
        axes[3].set(
            xscale="log", yscale="log", title="gradient norm against loss", xlabel="loss", ylabel="gradient norm"
        )
        for (label, course), colour in zip(courses.items(), (PLAIN, TELEPORT, "#0072B2", "#009E73"), strict=False):
            ends = np.sort(np.where(np.isfinite(course.loss[-1]), course.loss[-1], np.inf))
            finite = np.maximum(ends[np.isfinite(ends)], 1e-32)
            share = np.arange(1, len(finite) + 1) / len(ends)
            if len(ends) == 1:
                axes[4].axvline(finite[0], color=colour, linestyle=(0, (4, 2)), label=label)
            else:
                axes[4].step(finite, share, where="post", color=colour, label=label)
        ends = np.concatenate([course.loss[-1] for course in courses.values()])
        limits = 0.05 * max(1e-32, ends.min()), 20.0 * float(ends[np.isfinite(ends)].max())
        axes[4].set(
            xscale="log", xlim=limits, ylim=(0, 1.02), title="final loss: share of runs below", xlabel="final loss"
        )
        axes[4].legend(loc="center left", fontsize=7.5, frameon=True, framealpha=0.9)
        growth = np.concatenate([jump.growth**2 for jump in jumping.jumps[:1]])
        orders = np.log10(np.maximum(growth, 1e-3))
        bins = np.linspace(min(-0.2, orders.min()), 1.1 * orders.max() + 0.05, 30)
        axes[5].hist(orders, bins=bins.tolist(), color=TELEPORT, alpha=0.8)
        axes[5].axvline(0.0, color="#666666", linewidth=1)
        axes[5].set(title="first teleport", xlabel="$\\log_{10}$ growth of the squared norm", ylabel="runs")
    return figure


def _path(course: Course, run: int) -> tuple[np.ndarray, list[int]]:
    """The points of a run with a jump from each point before a teleport to the one after."""
    points, jumps = list(course.params[:, run]), []
    for shift, jump in enumerate(course.jumps):
        # the record at a teleport's step is the point after it
        points.insert(jump.step + shift, jump.left[run])
        jumps.append(jump.step + shift)
    return np.stack(points), jumps


def ellipse(setup: Setup) -> Findings:
    """Figure 1, a picture without published numbers: start, rate and ascent are ours."""
    preset = paper("Ellipse")
    seeds = setup.pick(full=1000, quick=1000, tiny=4)
    courses = _played(preset, seeds, {"best angle": "closed_form"}, setup.jobs)
    plain, jumping, best = courses["GD"], courses["GD + teleport"], courses["best angle"]
    final = jumping.loss[-1]
    kept, reached = _keeps(best), np.median(np.nanmin(_longest(jumping), axis=0))
    steepest = np.nanmin(_longest(best))
    rises, figures = _rises(jumping)
    label, shown = "Ellipse", True
    claims = rows(
        {
            "plane.rises": rises,
            "figure1.optimal": kept,
            "figure1.reached": [bool(reached > 1 - 1e-6)],
        },
        globals() | locals() | figures,
    )
    return Findings(
        claims,
        {"figure1": _picture("Ellipse", courses, (-3.0, 3.0), (-1.6, 1.6))},
        {"figure1": _table(courses)},
        settings_of("figure1"),
    )


def _longest(course: Course) -> np.ndarray:
    """Gradient norms from the teleport on ``(T, B)``, over the longest of their level sets of ``x^2 + 9 y^2``, which is
    ``6 sqrt(L)``; NaN where the loss is so small that rounding shows."""
    loss, norm = (values[course.jumps[0].step :] for values in (course.loss, course.grad_norm))
    return np.where(loss > _ROUNDING, norm / (6.0 * np.sqrt(np.maximum(loss, _ROUNDING))), np.nan)


def _keeps(course: Course) -> list[bool | None]:
    """Whether the gradient is the longest all along, at the losses that can tell; no check where a run has none."""
    shares = _longest(course)
    known = course.teleported and bool((~np.isnan(shares)).any(axis=0).all())
    return [bool(np.nanmin(shares) > 1 - 1e-6)] if known else []


GENTLE = 1e-4
"""An ascent rate on Rosenbrock's function that is ours, a thousandth of the published one."""

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


VIEWS = {"Rosenbrock": ((-2.2, 2.2), (-1.2, 4.2)), "Booth": ((-6.0, 8.0), (-7.0, 9.0))}
"""Function -> what of the plane is drawn."""


@cache
def _both(seeds: int, jobs: int) -> dict[str, dict[str, Course]]:
    """Function -> schedule -> its runs; figures 2 and 7 look at the same."""
    rosenbrock = {"random angle": _RANDOM_ANGLE, "best angle": {"search": "grid", "points": 65535}}
    return {
        "Rosenbrock": _played(paper("Rosenbrock"), seeds, rosenbrock, jobs),
        "Booth": _played(paper("Booth"), seeds, {"best angle": "closed_form"}, jobs),
    }


def _seeds(setup: Setup) -> int:
    return setup.pick(full=1000, quick=1000, tiny=3)


def test_functions(setup: Setup) -> Findings:
    """Figure 2."""
    seeds = _seeds(setup)
    played = _both(seeds, setup.jobs)
    claims = [*_rosenbrock_rows(played["Rosenbrock"], seeds, setup), *_booth_rows(played["Booth"], seeds)]
    tables = {f"figure2_{name.lower()}": _table(courses) for name, courses in played.items()}
    pictures = {"figure2": _paths(played)} | {
        f"figure2_{name.lower()}": _picture(name, courses, *VIEWS[name]) for name, courses in played.items()
    }
    return Findings(claims, pictures, tables, settings_of("figure2", seeds=seeds), note=note_of("figure2"))


test_functions.__test__ = False  # type: ignore[attr-defined]  # for pytest, which would collect it where it is imported


def _rosenbrock_rows(courses: Mapping[str, Course], seeds: int, setup: Setup) -> list[Row]:
    plain, final = courses["GD"], courses["GD + teleport"].loss[-1]
    random_end, best_end = courses["random angle"].loss[-1], float(courses["best angle"].loss[-1, 0])
    below = float((final < TARGET).mean()), float((final < 1e-8).mean())
    lower, lost = float((final < plain.loss[-1, 0]).mean()), int(courses["GD + teleport"].diverged.sum())
    chance, growth = first_growths(setup.pick(full=20000, quick=20000, tiny=3))
    end = plain.loss[-1, 0]
    needed = _needed(setup.pick(full=10000, quick=10000, tiny=100))
    ahead, early = _ahead(courses["GD + teleport"], TARGET, needed // 2)
    preset = paper("Rosenbrock")
    slow = _with_search(preset, {**preset.arguments["searches"][0], "rate": GENTLE})
    gentle = play("Rosenbrock", slow, preset.steps, instances=[0] * seeds, tolerance=_NO_END)
    rises, figures = _rises(courses["GD + teleport"], gentle)
    at_random = _rises(courses["random angle"])[1]["in_all"]
    label, shown = "Rosenbrock", True
    return rows(
        {
            "figure2.valley": _misses(plain),
            "plane.rises": rises,
            "figure2.converges": [early > MOST, below[0] > MOST] if courses["GD + teleport"].teleported else [],
            "figure2.angles": [below[0] == 1.0, 0.35 < below[1] < 0.75],
            "figure2.ascent": [
                bool(np.median(growth) > 1.5 * np.median(chance)),
                bool(np.median(final) < np.median(random_end)),
            ],
        },
        globals() | locals() | figures,
    )


def _misses(plain: Course) -> list[bool | None]:
    """Whether descent never comes below the target; no check where it diverges, so that nothing was to be reached."""
    return [] if plain.diverged.all() else [bool(plain.loss.min() >= TARGET)]


def _needed(limit: int) -> int:
    """Steps that plain descent takes to the target, at most ``limit``."""
    environment = {key: value for key, value in paper("Rosenbrock").arguments.items() if key != "searches"}
    below = play("Rosenbrock", Never(environment=environment), limit, tolerance=_NO_END).loss[:, 0] < TARGET
    return int(below.argmax()) if below.any() else limit


def _ahead(course: Course, end: float, within: int) -> tuple[float, float]:
    """Steps (median) until a run's loss is below ``end``, and the share of runs that are so within so many steps."""
    passed = course.loss < end
    first = np.where(passed.any(axis=0) & ~course.diverged, passed.argmax(axis=0), np.inf)
    return float(np.median(first)), float((first <= within).mean())


def _shrinks(course: Course, plain: Course) -> tuple[float, float, float]:
    """Factor on the loss by a step, the geometric mean over those from the teleport on: the median of the runs and that of
    ``plain``, and the share of runs that descend and in which it is smaller. A run that reaches 0 has the factor 0."""
    since = course.jumps[0].step

    def mean(loss: np.ndarray) -> np.ndarray:
        return (loss[-1] / loss[since]) ** (1.0 / (len(loss) - 1 - since))

    factors, other = mean(course.loss), float(mean(plain.loss)[0])
    return float(np.median(factors)), other, float((factors < min(other, 1.0)).mean())


def _booth_rows(courses: Mapping[str, Course], seeds: int) -> list[Row]:
    plain, jumping, best = courses["GD"], courses["GD + teleport"], courses["best angle"]
    published = [144.0, 64.74, 38.55, 25.82, 17.95, 12.61, 8.89, 6.27, 4.42, 3.12, 2.20]
    error = float(np.abs(plain.loss[:, 0] - published).max())
    ratio, without, faster = _shrinks(jumping, plain)
    squared = jumping.grad_norm[4] ** 2
    reached = float((squared > 0.99 * 36.0 * jumping.loss[4]).mean())
    close = float((np.abs(jumping.loss[-1] / 9.45e-4 - 1.0) < 0.05).mean())
    rises, figures = _rises(jumping)
    label, shown = "Booth", True
    return rows(
        {
            "booth.plain": [error < 6e-3],
            "plane.rises": rises,
            "booth.longest": [reached > 0.9],
            "booth.shrinks": [faster > MOST] if jumping.teleported else [],
        },
        globals() | locals() | figures,
    )


def _paths(played: Mapping[str, Mapping[str, Course]]) -> Figure:
    """The panels of the paper: trajectories without and with teleports, loss, and gradient norm."""
    with panels(2, 4, width=12.0, height=2.9) as (figure, axes):
        for row, (name, courses) in enumerate(played.items()):
            part = axes[4 * row : 4 * row + 4]
            plain, jumping = courses["GD"], courses["GD + teleport"]
            run = _middle_run(jumping)
            for axis in part[:2]:
                _level_sets(axis, name, *VIEWS[name])
            trajectory(part[0], plain.params[:, 0], [], "GD", PLAIN)
            trajectory(part[1], *_path(jumping, run), "GD + teleport", TELEPORT)
            for axis, title in zip(part[:2], ("descent", "teleports"), strict=True):
                axis.set(title=f"{name}: {title}", xlim=VIEWS[name][0], ylim=VIEWS[name][1])
            steps = np.arange(plain.steps + 1)
            for axis, one, title in ((part[2], "loss", "loss"), (part[3], "grad_norm", "gradient norm")):
                axis.plot(steps, getattr(plain, one)[:, 0], color=PLAIN, label="GD")
                band(axis, steps, getattr(jumping, one), "GD + teleport: median, quartiles", TELEPORT)
                axis.set(yscale="log", title=title, xlabel="gradient step")
            part[2].legend(fontsize=7)
    return figure


def gradients(setup: Setup) -> Findings:
    """Figure 7."""
    seeds = _seeds(setup)
    played, claims, table = _both(seeds, setup.jobs), [], []
    for label, courses in played.items():
        course = courses["GD + teleport"]
        shares = longer_at_equal_loss(course, courses["GD"], course.jumps[0].step)
        checks, shares = longer_in_most(shares) if course.teleported else [], shares[np.isfinite(shares)]
        at_most, at_all = ((float(held.mean()) if len(shares) else 0.0) for held in (shares > 0.5, shares == 1.0))
        claims += rows({"figure7.longer": checks}, globals() | locals() | {"percent": percent})
        table.append(pd.DataFrame({"function": label, "share_of_losses_with_the_longer_gradient": shares}))
    with panels(1, 2, width=9.0, height=3.3) as (figure, axes):
        for axis, (label, courses) in zip(axes, played.items(), strict=True):
            jumping = courses["GD + teleport"]
            for run in range(min(20, jumping.loss.shape[1])):
                axis.plot(jumping.loss[:, run], jumping.grad_norm[:, run], color=TELEPORT, alpha=0.25, linewidth=0.7)
            axis.plot([], [], color=TELEPORT, alpha=0.4, linewidth=0.7, label="20 other runs")
            run = _middle_run(jumping)
            axis.plot(
                jumping.loss[:, run], jumping.grad_norm[:, run], color=TELEPORT, label="GD + teleport (median run)"
            )
            axis.plot(courses["GD"].loss[:, 0], courses["GD"].grad_norm[:, 0], color=PLAIN, linewidth=2.0, label="GD")
            low = 0.5 * float(courses["GD"].loss.min())
            axis.set(xscale="log", yscale="log", title=label, xlabel="loss", ylabel="gradient norm", xlim=(low, None))
            axis.set_ylim(0.3 * float(courses["GD"].grad_norm.min()), None)
            axis.legend()
    settings = settings_of("figure7", seeds=seeds)
    return Findings(claims, {"figure7": figure}, {"figure7": pd.concat(table, ignore_index=True)}, settings)
