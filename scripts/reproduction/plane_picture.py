"""The pictures of figures 1, 2 and 7: a run through the plane, its loss and gradient norm, and where many runs end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from reproduction.course import Course
from reproduction.pictures import PLAIN, TELEPORT, band, level_sets, panels, trajectory
from teleport_env.problems import problem_from


def plane_picture(
    problem_name: str, courses: Mapping[str, Course], xlim: tuple[float, float], ylim: tuple[float, float]
) -> Figure:
    """Trajectories on level sets, loss, gradient norm, gradient norm against loss, and the distribution of the end."""
    plain, jumping = courses["GD"], courses["GD + teleport"]
    order = np.argsort(np.where(np.isfinite(jumping.loss[-1]), jumping.loss[-1], np.inf))
    run = int(order[len(order) // 2])  # the median run, not the luckiest
    with panels(2, 3, height=3.2) as (figure, axes):
        problem = problem_from(problem_name)
        instance = problem.instances(torch.zeros(1, dtype=torch.int64), "paper")
        xs, ys = np.linspace(*xlim, 240), np.linspace(*ylim, 200)
        grid = torch.tensor(np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2))
        loss = problem.loss(grid, instance.repeat(len(grid))).reshape(200, 240).numpy()
        level_sets(axes[0], xs, ys, loss)
        trajectory(axes[0], plain.params[:, 0], [], "GD", PLAIN)
        points, jumps = _path(jumping, run)
        trajectory(axes[0], points, jumps, "GD + teleport (median run)", TELEPORT)
        minimum = problem.minimum(instance)
        assert minimum is not None
        axes[0].plot(*minimum[0].numpy(), "*", color="#E69F00", markersize=12, zorder=5)
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
