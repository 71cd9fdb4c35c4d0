"""The picture of figure 3."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from reproduction.course import Course
from reproduction.pictures import COLOURS, band, panels
from reproduction.regression_claims import leak

SHOWN = ("no teleport", "released", "published, exact", "residual, exact")
"""The schedules that are drawn."""


def _line(course: Course, values: np.ndarray) -> np.ndarray:
    """Means ``(T + 1,)`` over the seeds that do not diverge."""
    return values[:, ~course.diverged].mean(axis=1) if not course.diverged.all() else np.full(len(values), np.nan)


def regression_picture(
    courses: Mapping[str, Mapping[str, Course]],
    tuned: Mapping[str, Course],
    seconds: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    with panels(2, 3, width=11.0, height=3.4) as (figure, axes):
        for axis, optimizer, title in zip(axes, ("gd", "adagrad"), ("GD 1e-4", "AdaGrad 0.1"), strict=False):
            for label, colour in zip(SHOWN, COLOURS, strict=False):
                course = courses[optimizer][label]
                band(axis, np.arange(course.steps + 1), course.loss, label, colour, middle="mean")
            extra = "reset alone" if optimizer == "adagrad" else "published, exact, descent"
            course = courses[optimizer][extra]
            steps = np.arange(course.steps + 1)
            axis.plot(steps, course.loss.mean(1), color="#56B4E9", linestyle=(0, (1.2, 1.2)), label=extra)
            axis.plot(
                np.arange(tuned[optimizer].steps + 1),
                tuned[optimizer].loss.mean(1),
                color="#777777",
                linestyle=(0, (5, 1.5)),
                label="no teleport, tuned rate",
            )
            axis.set(yscale="log", ylim=(0.5, 2e3), title=f"{title}: loss, mean of 5 seeds", xlabel="epoch")
            axis.set_ylabel("loss")
            axis.legend(fontsize=7.5, loc="upper right")
        lost = axes[2]
        width = 0.38
        for shift, (optimizer, name, colour) in enumerate(
            (("gd", "GD", COLOURS[1]), ("adagrad", "AdaGrad", COLOURS[2]))
        ):
            values = 100 * leak(courses[optimizer]["released"])
            lost.bar(
                np.arange(len(values)) + (shift - 0.5) * width, values, width, color=colour, label=f"released, {name}"
            )
        for shift, (optimizer, marker) in enumerate((("gd", "v"), ("adagrad", "^"))):
            values = 100 * leak(courses[optimizer]["published, exact"])
            lost.plot(np.arange(len(values)) + (shift - 0.5) * width, values, marker, color="#111111", markersize=5)
        lost.plot([], [], "v", color="#111111", label="exact")
        lost.set(title="loss lost in the teleport itself", xlabel="seed", ylabel="% of the loss", ylim=(-3, 119))
        lost.set_yticks([0, 25, 50, 75, 100])
        lost.legend(fontsize=7, ncols=3, loc="upper center", columnspacing=1.0, handletextpad=0.5)
        for optimizer, dashes in (("gd", "-"), ("adagrad", (0, (4, 1.5)))):
            for label, colour in zip(SHOWN, COLOURS, strict=False):
                course = courses[optimizer][label]
                axes[3].plot(
                    1e3 * seconds[optimizer][label],
                    _line(course, course.loss),
                    color=colour,
                    linestyle=dashes,
                    label=label if optimizer == "gd" else None,
                )
                axes[4].plot(_line(course, course.grad_norm) ** 2, color=colour, linestyle=dashes)
                axes[5].plot(
                    course.loss[:, 0], course.grad_norm[:, 0] ** 2, color=colour, linestyle=dashes, linewidth=1.2
                )
        axes[3].set(
            yscale="log", ylim=(0.5, 2e3), title="against time", xlabel="processor milliseconds a run", ylabel="loss"
        )
        axes[3].legend(fontsize=7.5, loc="upper right", title="GD; dashed: AdaGrad", title_fontsize=7.5)
        axes[4].set(yscale="log", title="squared gradient norm", xlabel="epoch")
        axes[5].set(xscale="log", yscale="log", title="the same against loss, seed 0", xlabel="loss")
    return figure
