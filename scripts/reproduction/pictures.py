"""How the reproduction's pictures are drawn: an Agg canvas, none of pyplot's global state, one colour per schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from teleport_env.agents.comparison.plots import SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN, TELEPORT = "#111111", "#D55E00"
COLOURS = ("#111111", "#D55E00", "#0072B2", "#009E73", "#AA6FC9", "#E69F00", "#56B4E9", "#8E0152", "#999933")
COUNTED = ("epoch", "gradient step", "seed", "layers")
"""Labels of axes whose ticks are whole numbers."""

_OWN: dict[Any, Any] = {
    "axes.titlesize": 10.5,
    "axes.labelsize": "medium",
    "grid.color": "#E8E8E8",
    "legend.fontsize": 8.5,
}
_SETTINGS = {**SETTINGS, **_OWN, "xtick.color": "black", "ytick.color": "black", "lines.linewidth": 1.6}


@contextmanager
def panels(
    rows: int, columns: int, width: float = 10.0, height: float = 3.1
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure and its axes, row by row; drawn in the project's style inside the context."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel())
        yield figure, axes
        for axis in axes:
            if axis.get_xscale() == "linear" and axis.get_xlabel() in COUNTED:
                axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        # ticks are made when a figure is drawn: do so while the style holds
        figure.canvas.draw()


def nested(count: int) -> list[float]:
    """Widths of lines that are drawn after each other, so that of lines that coincide the later lie on the earlier and all
    are seen."""
    return [float(width) for width in np.linspace(min(4.6, 0.3 + 0.7 * count), 1.0, count)]


def band(
    axes: Axes,
    x: np.ndarray,
    values: np.ndarray,
    label: str,
    colour: str,
    dashes: Any = "-",
    middle: str = "median",
    width: float = 1.6,
) -> None:
    """The median (or mean) of ``values`` ``(T, B)`` over ``x`` ``(T,)`` and a band of quartiles (or one deviation)."""
    values = np.where(np.isfinite(values), values, np.nan)
    if not values.shape[1]:  # no run is left: the legend names the schedule all the same
        axes.plot([], [], color=colour, linestyle=dashes, linewidth=width, label=label)
        return
    with np.errstate(all="ignore"):
        if middle == "median":
            low, line, high = np.nanpercentile(values, [25, 50, 75], axis=1)
        else:
            line, deviation = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
            low, high = np.maximum(line - deviation, np.nanmin(values, axis=1)), line + deviation
    axes.plot(x, line, color=colour, linestyle=dashes, linewidth=width, label=label)
    if values.shape[1] > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def level_sets(axes: Axes, xs: np.ndarray, ys: np.ndarray, loss: np.ndarray, levels: int = 18) -> None:
    """Level sets of ``log10`` of the loss ``(len(ys), len(xs))``."""
    values = np.log10(np.maximum(loss, 1e-6))
    axes.contour(xs, ys, values, levels=levels, colors="#B8B8B8", linewidths=0.7, linestyles="solid")
    axes.grid(False)


def trajectory(axes: Axes, points: np.ndarray, jumps: Sequence[int], label: str, colour: str) -> None:
    """A run through the plane: ``points`` ``(T, 2)`` with the jumps (indices of the points they begin at) dashed."""
    begin = 0
    for index in [*jumps, len(points) - 1]:
        part = points[begin : index + 1]
        axes.plot(*part.T, color=colour, marker=".", markersize=2.5, linewidth=1.2, label=label if not begin else None)
        if index in jumps and index + 1 < len(points):
            axes.plot(*points[index : index + 2].T, color=colour, linestyle=(0, (3, 2)), linewidth=0.9)
        begin = index + 1
    axes.plot(*points[0], "o", color="#111111", markersize=5)
