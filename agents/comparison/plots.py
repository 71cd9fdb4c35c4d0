"""Pictures of a comparison. Every function returns a `matplotlib.figure.Figure` on an Agg canvas and leaves pyplot alone.

An agent keeps one colour and one marker through all pictures of a report (`agent_styles`). Colours are Okabe and Ito's,
then Tol's muted ones, which stay apart for colour-blind readers; markers and dashes say the same without colour.
References and oracles are grey and hollow: they are not schedules and do not compete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.summary import ASIDE, PLAIN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PALETTE = {
    "learned": ("#D55E00", "#CC3377", "#8E0152"),
    "plain": ("#111111",),
    "other": ("#0072B2", "#009E73", "#E69F00", "#56B4E9", "#AA6FC9")
    + ("#999933", "#332288", "#44AA99", "#A05195", "#6B4C2A"),
    "aside": ("#555555", "#8A8A8A", "#6E6E6E", "#A3A3A3"),
}
_MARKERS = {"learned": "osD", "plain": "X", "other": "^vsDP<>phd", "aside": "osD^"}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1.2, 1, 1.2)), (0, (1.2, 1.2)))
_WIDTH = 10.0  # inches; shown at 1000 pixels a point of type is 1.4 pixels
SETTINGS: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "teleport_env",  # equal figures give equal files
}


@dataclass(frozen=True)
class Style:
    """How an agent is drawn everywhere.

    Attributes:
        aside: A reference or an oracle: hollow marker, thin line.
        strong: A learned agent or plain descent: thick line, quartile band.
    """

    color: str
    marker: str
    dashes: Any
    aside: bool
    strong: bool

    @property
    def line(self) -> dict[str, Any]:
        """Its line, as matplotlib's keywords."""
        width = 2.3 if self.strong else 1.2 if self.aside else 1.5
        return {"color": self.color, "linestyle": self.dashes, "linewidth": width}

    @property
    def point(self) -> dict[str, Any]:
        """Its marker, as matplotlib's keywords; the edge has the colour of the line where nothing else is said."""
        return {"marker": self.marker, "markerfacecolor": "white" if self.aside else self.color}

    @property
    def spot(self) -> dict[str, Any]:
        """A marker that stands alone: filled ones have a white edge."""
        edge = self.color if self.aside else "white"
        return {**self.point, "linestyle": "none", "color": self.color, "markeredgecolor": edge}


def agent_styles(results: pd.DataFrame) -> dict[str, Style]:
    """Agent -> style, from the frame of episodes or its summary; learned agents first, those aside last."""
    order = {"learned": 0, "control": 2, "adaptive": 1, "fixed": 1, "reference": 3, "structure": 4, "oracle": 5}
    kinds = dict(zip(results["agent"], results["kind"], strict=True))
    used = dict.fromkeys(_PALETTE, 0)
    styles = {}
    for agent in sorted(kinds, key=lambda name: (order[kinds[name]], name)):
        aside = kinds[agent] in ASIDE
        role = "plain" if agent == PLAIN else "aside" if aside else "learned" if kinds[agent] == "learned" else "other"
        index = used[role]
        used[role] += 1
        colors, markers = _PALETTE[role], _MARKERS[role]
        marker = "*" if kinds[agent] == "oracle" else markers[index % len(markers)]
        # once the colours run out the dashes change, so that no two agents look the same
        dashes = _DASHES[(index // len(colors) + (2 if aside else 0)) % len(_DASHES)]
        styles[agent] = Style(colors[index % len(colors)], marker, dashes, aside, role in ("learned", "plain"))
    return styles


def _plain_text(name: object) -> str:
    """A name as matplotlib shows it literally: no mathematics, and no underscore that hides it from a legend."""
    text = str(name).replace("$", r"\$")
    return " " + text if text.startswith("_") else text


def panels(count: int, height: float, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, rows of ``height`` inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(_WIDTH, height * rows + 0.9), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _legend(figure: Figure, styles: Mapping[str, Style], agents: Sequence[str], line: bool) -> None:
    """One legend below all panels, where it covers nothing."""
    shown = [agent for agent in styles if agent in set(agents)]
    dashes = {} if line else {"linestyle": "none"}
    columns = max(1, min(5, int(125 // max(len(agent) + 8 for agent in shown)), len(shown)))
    figure.legend(
        [Line2D([], [], **{**styles[agent].line, **dashes}, **styles[agent].point, markersize=6) for agent in shown],
        [_plain_text(agent) for agent in shown],
        loc="outside lower center",
        ncols=columns,
        handlelength=3.2 if line else 1.5,
        columnspacing=1.6,
    )


def _panels(frame: pd.DataFrame, height: float, x: str, y: str = "") -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with a panel per problem, each beside the problem's rows; ``x`` and ``y`` are labels."""
    if frame.empty:
        raise ValueError("there is nothing to draw: the frame has no rows")
    groups = list(frame.groupby("problem", sort=False))
    figure, axes = panels(len(groups), height)
    for axis, (problem, _) in zip(axes, groups, strict=True):
        axis.set(xlabel=x, ylabel=y)
        axis.set_title(_plain_text(problem))
    return figure, [(axis, rows) for axis, (_, rows) in zip(axes, groups, strict=True)]


def _drawn(rows: pd.DataFrame, styles: Mapping[str, Style]) -> list[tuple[str, Style, pd.DataFrame]]:
    """Agents with their styles and rows, those of learned agents last, so that they lie on top."""
    parts = dict(list(rows.groupby("agent", sort=False)))
    return [(agent, styles[agent], parts[agent]) for agent in reversed(list(styles)) if agent in parts]


@matplotlib.rc_context(SETTINGS)
def loss_curves(curves: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Loss against compute, a panel per problem: medians, with the quartile band of learned agents and plain descent.

    Args:
        curves: Columns ``problem, agent, cost, q25, median, q75``, the latter three log10 of the loss relative to the
            start.
    """
    figure, drawn = _panels(curves, 3.1, "compute (gradient evaluations)", r"$\log_{10}$ loss / initial loss")
    for axis, rows in drawn:
        agents = _drawn(rows, styles)
        for index, (_, style, part) in enumerate(agents):
            curve = part.sort_values("cost")
            cost = curve["cost"]
            if style.strong:
                axis.fill_between(cost, curve["q25"], curve["q75"], color=style.color, alpha=0.15, linewidth=0)
            every = max(1, len(curve) // 6)
            places = (index * every // max(1, len(agents)), every)  # so that markers do not pile up
            look = {**style.line, **style.point, "markersize": 5, "markeredgewidth": 1}
            axis.plot(cost, curve["median"], **look, markevery=places)
        axis.set_xlim(rows["cost"].min(), rows["cost"].max())
    _legend(figure, styles, curves["agent"].unique(), line=True)
    return figure


@matplotlib.rc_context(SETTINGS)
def episode_traces(traces: Sequence[Mapping[str, Any]], styles: Mapping[str, Style]) -> Figure:
    """Single episodes, a row per problem: loss and gradient norm against compute, every teleport marked.

    Args:
        traces: Mappings with ``problem``, ``agent``, and rows of one length ``cost``, ``loss``, ``grad_norm``, and
            ``teleports``, the indices into them right after a teleport.
    """
    if not traces:
        raise ValueError("there is nothing to draw: no traces")
    problems = list(dict.fromkeys(trace["problem"] for trace in traces))
    figure, axes = panels(2 * len(problems), 2.8)
    for trace in traces:
        row, style = problems.index(trace["problem"]), styles[trace["agent"]]
        cost, marks = np.asarray(trace["cost"], float), np.asarray(trace["teleports"], dtype=int)
        for axis, key, label in zip(
            axes[2 * row : 2 * row + 2], ("loss", "grad_norm"), ("loss", "gradient norm"), strict=True
        ):
            values = np.asarray(trace[key], float)
            # a logarithmic axis has no others
            values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            axis.plot(cost, values, **style.line)
            axis.plot(
                cost[marks], values[marks], style.marker, color=style.color, markersize=6.5, markeredgecolor="white"
            )
            axis.set(yscale="log", ylabel=label)
            axis.set_title(_plain_text(trace["problem"]))
            axis.set_xlabel("compute (gradient evaluations); markers: right after a teleport")
    _legend(figure, styles, [trace["agent"] for trace in traces], line=True)
    return figure


def _forest(
    table: pd.DataFrame, styles: Mapping[str, Style], columns: tuple[str, str, str], label: str, zero: bool
) -> Figure:
    """Rows of intervals, a panel per problem; schedules by falling estimate, then a line, references and oracles."""
    estimate, low, high = columns
    most = int(table.groupby("problem", sort=False).size().max()) if len(table) else 0
    figure, drawn = _panels(table, 0.9 + 0.225 * most, label)
    for axis, rows in drawn:
        aside = rows["kind"].isin(ASIDE).to_numpy()
        rows = rows.iloc[np.lexsort((-rows[estimate].to_numpy(), aside))]
        count = int((~aside).sum())
        places = np.arange(len(rows)) + np.where(np.arange(len(rows)) >= count, 0.6, 0.0)
        for place, row in zip(places, rows.to_dict("records"), strict=True):
            style = styles[row["agent"]]
            bar: dict[str, Any] = {"marker": "|", "markersize": 7, "markeredgewidth": 1.2, "zorder": 2}
            width = 1.2 if style.aside else 2.0
            axis.plot([row[low], row[high]], [place, place], color=style.color, linewidth=width, **bar)
            edge = 1.1 if style.aside else 0.5
            axis.plot(row[estimate], place, **style.spot, markersize=5.5, markeredgewidth=edge, zorder=3)
        if 0 < count < len(rows):
            axis.axhline(count - 0.2, color="#777777", linewidth=0.8, linestyle=(0, (4, 3)))
        if zero:
            axis.axvline(0.0, color="#333333", linewidth=1.0)
        axis.set_yticks(places, [_plain_text(agent) for agent in rows["agent"]])
        for tick, agent in zip(axis.get_yticklabels(), rows["agent"], strict=True):
            style = styles[agent]
            tick.set_color("#777777" if style.aside else "#111111")
            tick.set_fontstyle("italic" if style.aside else "normal")
            tick.set_fontweight("bold" if style.strong and agent != PLAIN else "normal")
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(places[-1] + 0.7, -0.7)
        axis.grid(visible=False, axis="y")
    return figure


@matplotlib.rc_context(SETTINGS)
def gained_forest(table: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Interquartile mean of the orders gained with its interval, from `summary.summary_table`."""
    return _forest(table, styles, ("iqm", "iqm_low", "iqm_high"), "orders of magnitude gained\n(IQM, 95 %)", zero=False)


@matplotlib.rc_context(SETTINGS)
def difference_forest(table: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean paired difference to each problem's best baseline with its interval and the line of no difference.

    Raises:
        ValueError: No problem has a baseline and another agent.
    """
    compared = table[np.isfinite(table["difference"])]
    columns = ("difference", "difference_low", "difference_high")
    figure = _forest(compared, styles, columns, "", zero=True)
    versus = compared.groupby("problem", sort=False)["baseline"].first()
    for axis, baseline in zip(figure.axes, versus, strict=True):
        axis.set_xlabel("orders over the best\nbaseline (95 %),\n" + _plain_text(baseline))
    return figure


@matplotlib.rc_context(SETTINGS)
def performance_profiles(results: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """The share of runs that gained at least so many orders, a panel per problem (Agarwal et al. 2021, section 4.2)."""
    x, y = r"orders of magnitude $\tau$", r"share of runs with gained $\geq \tau$"
    figure, drawn = _panels(results, 3.1, x, y)
    for axis, rows in drawn:
        taus = np.linspace(rows["gained"].min(), rows["gained"].max() + 1e-9, 300)
        agents = _drawn(rows, styles)
        for index, (_, style, part) in enumerate(agents):
            share = statistics.performance_profile(part["gained"], taus)
            places = (20 + 50 * index // max(1, len(agents)), 50)
            axis.plot(taus, share, **style.line, **style.point, markersize=5, markevery=places)
        axis.set(ylim=(-0.02, 1.02), xlim=(taus[0], taus[-1]))
    _legend(figure, styles, results["agent"].unique(), line=True)
    return figure


@matplotlib.rc_context(SETTINGS)
def gained_against_teleports(results: pd.DataFrame, styles: Mapping[str, Style], episodes: int = 100) -> Figure:
    """Orders gained against the number of teleports: small dots are episodes, large markers the agents' means.

    Args:
        episodes: Most episodes per agent that are drawn, evenly spaced over its rows; means are over all.
    """
    figure, drawn = _panels(results, 3.1, "teleports in an episode", "orders of magnitude gained")
    for axis, rows in drawn:
        agents = _drawn(rows, styles)
        still = [agent for agent, _, part in reversed(agents) if not part["teleports"].any()]
        # those that never teleport would hide each other at zero
        places = np.linspace(-0.3, 0.3, len(still)) if len(still) > 1 else np.zeros(len(still))
        beside = dict(zip(still, places, strict=True))
        for agent, style, part in agents:
            shift = beside.get(agent, 0.0)
            if not style.aside:
                some = part.iloc[np.unique(np.linspace(0, len(part) - 1, min(len(part), episodes)).astype(int))]
                dots: dict[str, Any] = {"s": 7, "color": style.color, "alpha": 0.22, "linewidths": 0, "zorder": 1}
                axis.scatter(some["teleports"] + shift, some["gained"], **dots)
            size, order = (10, 3) if style.strong else (8, 2.5)
            middle = part["teleports"].mean() + shift, part["gained"].mean()
            axis.plot(*middle, **style.spot, markersize=size, zorder=order)
        axis.set_xscale("symlog", linthresh=1.0)
        most = max(1.0, float(rows["teleports"].max()))
        ticks = [tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= most * 1.3]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.set_xlim(-0.5, most * 1.3)
    _legend(figure, styles, results["agent"].unique(), line=False)
    return figure
