"""The course of an episode so far, and its picture, drawn with matplotlib's Agg canvas and none of pyplot's global state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from teleport_env.envs.episodes import Episodes
from teleport_env.envs.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP_COLOUR = "#1b5e9b"
TELEPORT_COLOUR = "#d1495b"


@dataclass
class Course:
    """One run's course, an entry per action and one for the start; ``points`` are the parameters, if there are two."""

    cost: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    teleported: list[bool] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)


class History:
    """The courses of ``count`` runs since their last reset; kept only where an environment renders."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.courses = [Course() for _ in range(count)]
        self._teleports = [0] * count

    def begin(self, episodes: Episodes, rows: list[int] | None = None) -> None:
        """Start anew the courses of ``rows`` (None: all)."""
        rows = list(range(len(self.courses))) if rows is None else rows
        for row in rows:
            self.courses[row] = Course()
            self._teleports[row] = 0
        self.add(episodes, rows)

    def add(self, episodes: Episodes, rows: list[int] | None = None) -> None:
        """Append where the runs stand now."""
        progress, runs = episodes.runs.progress, episodes.runs
        for row in range(len(self.courses)) if rows is None else rows:
            course, teleports = self.courses[row], int(progress.teleports[row])
            course.cost.append(float(runs.ledger.cost[row]))
            course.loss.append(float(progress.loss[row]))
            course.grad_norm.append(float(progress.grad_norm2[row]) ** 0.5)
            course.teleported.append(teleports > self._teleports[row])
            self._teleports[row] = teleports
            if runs.params.shape[1] == 2:
                x, y = runs.params[row].tolist()
                course.points.append((x, y))


def draw(history: History, episodes: Episodes, row: int) -> np.ndarray:
    """The course of one run so far, ``(480, 720, 3)`` uint8.

    Level sets with the trajectory where the problem has two parameters, else loss and gradient norm against compute.
    Gradient steps are a blue line with dots, teleports dashed red jumps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    course = history.courses[row]
    if course.points:
        _level_sets(figure.add_subplot(), course, episodes, row)
    else:
        _curves(figure.add_subplot(), course, episodes)
    jumps = sum(course.teleported)
    figure.suptitle(
        f"{episodes.settings.problem.name}: loss {course.loss[-1]:.3g} after {course.cost[-1]:.4g} gradient evaluations, "
        f"{jumps} teleport{'' if jumps == 1 else 's'}",
        fontsize=11,
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _level_sets(axes: Axes, course: Course, episodes: Episodes, row: int) -> None:
    points = np.array(course.points)
    finite = points[np.isfinite(points).all(axis=1)]
    instance = episodes.runs.instance.select(torch.tensor([row], device=episodes.runs.device))
    minimum = episodes.settings.problem.minimum(instance)
    shown = finite if minimum is None else np.vstack([finite, minimum.cpu().numpy()])
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-3)
    low, high = low - margin, high + margin
    xs, ys = np.linspace(low[0], high[0], 160), np.linspace(low[1], high[1], 120)
    grid = torch.tensor(np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2), device="cpu").to(episodes.runs.params)
    with torch.no_grad():
        loss = episodes.settings.problem.loss(grid, instance.repeat(len(grid)))
    values = np.log10(loss.clamp_min(1e-12).cpu().numpy().reshape(120, 160))
    axes.contourf(xs, ys, values, levels=24, cmap="Greys", alpha=0.55)
    # the level sets that the run was on when it teleported are the ones a teleport stays on
    levels = sorted({float(np.log10(max(course.loss[i], 1e-12))) for i in np.flatnonzero(course.teleported)})
    if levels:
        axes.contour(xs, ys, values, levels=levels[-8:], colors=TELEPORT_COLOUR, linewidths=0.7, alpha=0.7)
    for i in range(1, len(points)):
        if course.teleported[i]:
            axes.plot(*points[i - 1 : i + 1].T, "--", color=TELEPORT_COLOUR, linewidth=1.4, marker="o", markersize=4)
        else:
            axes.plot(*points[i - 1 : i + 1].T, "-", color=STEP_COLOUR, linewidth=1.2, marker=".", markersize=3)
    axes.plot(*points[0], "o", color="black", markersize=7, label="start")
    if minimum is not None:
        axes.plot(*minimum[0].cpu().numpy(), "*", color="#e0a100", markersize=13, label="minimum")
    axes.plot([], [], "-", marker=".", color=STEP_COLOUR, label="gradient steps")
    axes.plot([], [], "--", marker="o", markersize=4, color=TELEPORT_COLOUR, label="teleport")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_xlabel("$w_1$")
    axes.set_ylabel("$w_2$")
    axes.legend(loc="best", fontsize=8, framealpha=0.9)


def _curves(axes: Axes, course: Course, episodes: Episodes) -> None:
    cost = np.array(course.cost)
    loss, norm = np.array(course.loss), np.array(course.grad_norm)
    floor = 1e-300  # a logarithmic axis drops zeros without a word
    axes.semilogy(cost, np.maximum(loss, floor), "-", color=STEP_COLOUR, marker=".", markersize=3, label="loss")
    axes.semilogy(cost, np.maximum(norm, floor), "-", color="#4f7a28", linewidth=1.0, label="gradient norm")
    for i in np.flatnonzero(course.teleported):
        axes.axvline(cost[i], color=TELEPORT_COLOUR, linestyle="--", linewidth=0.9, alpha=0.8)
    axes.plot([], [], "--", color=TELEPORT_COLOUR, label="teleport")
    axes.set_xlim(0, max(episodes.settings.budget, float(cost[-1])))
    axes.set_xlabel("gradient evaluations")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(loc="best", fontsize=8, framealpha=0.9)
