"""The page of a comparison: what won, curves that answer the pointer, tables that sort, in one file without a network.

Curves are drawn by uPlot (MIT licence, ``templates/uplot``), which the page holds as a whole.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from teleport_env.agents.comparison import plots, summary, verdict
from teleport_env.agents.comparison.tables import listed, number, render, setting, to_json
from teleport_env.agents.comparison.targets import STEP, reached_within, running_times

if TYPE_CHECKING:
    import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"

ROOM = 1_900_000
"""Bytes that pictures take on a page at most; the others stay in the folder beside it."""

_POINTS = 60  # of a curve on the page
_L_BFGS = "L-BFGS"
_KINDS = {
    "fixed": "A schedule that is fixed before the run.",
    "adaptive": "A rule that decides from what it sees.",
    "learned": "A trained policy.",
    "control": "A control, which shows what remains without the part in question.",
    "reference": "A solver of a library.",
    "structure": "A solver that knows the problem's structure.",
    "oracle": "The best fixed schedule of each episode, chosen afterwards. It cannot be played.",
}


def render_page(
    results: pd.DataFrame,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    targets: pd.DataFrame | None,
    pictures: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    about: Mapping[str, str],
) -> str:
    """The page's HTML.

    Args:
        results: Episodes.
        table: Their summary.
        curves: Curves, as in `report.write_report`.
        targets: Targets, as in `report.write_report`.
        pictures: ``title``, ``caption``, ``file`` and ``data``, a WebP's bytes.
        settings: Settings, as in `report.write_report`, of JSON's types.
        about: A sentence on each agent, by name; of others the page says what kind they are.
    """
    shown = [key for key in settings if key not in ("title", "command", "versions", "tuning")]
    plain = table["agent"].eq(summary.PLAIN).any()
    embedded, left = _embedded(pictures)
    return render(
        "report.html",
        title=settings.get("title", "Teleport schedules at equal compute"),
        settings={"command": None, "tuning": None, **settings},
        listed_settings={key.replace("_", " "): text for key in shown if (text := _in_words(settings[key]))}
        | {f"version of {key}": value for key, value in settings["versions"].items()},
        episodes=len(results),
        agents=table["agent"].nunique(),
        seeds=results["seed"].nunique(),
        splits=sorted({str(split) for split in results["split"]}),
        instances=results.groupby("problem")["instance_id"].nunique().max(),
        budgets={problem: summary.budget_of(results, problem) for problem in results["problem"].unique()},
        advice=verdict.advice(table),
        overall=verdict.overall(table),
        winners=verdict.winners(table),
        statements=summary.statements(table),
        below=_below(table),
        plain=plain,
        tables={problem: summary.table_of(rows) for problem, rows in table.groupby("problem", sort=False)},
        agents_told=_agents(table, about),
        pictures=embedded,
        left=left,
        charts=Markup(to_json(_charts(table, curves, targets), separators=(",", ":")).replace("<", "\\u003c")),
        styles=_static("uplot/uPlot.min.css") + _static("report.css"),
        scripts=_scripts(),
    )


def _static(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _scripts() -> Markup:
    licence = Markup("/*\n") + _static("uplot/LICENSE") + Markup("*/\n")
    return licence + _static("uplot/uPlot.iife.min.js") + _static("report.js")


def _in_words(value: Any) -> str:
    """A setting that fits into a line, and nothing for one that does not: the file of settings has it."""
    if isinstance(value, Mapping) or value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(setting, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else setting(value)


def _embedded(pictures: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, str]], list[str]]:
    """Pictures as long as there is room; and the files of the others."""
    found, left, room = [], [], ROOM
    for picture in pictures:
        data = b64encode(picture["data"]).decode("ascii")
        room -= len(data)
        if room < 0:
            left.append(picture["file"])
            continue
        found.append({"title": picture["title"], "caption": picture["caption"], "data": data})
    return found, left


# -- tables -------------------------------------------------------------------------------------------------------------


def _below(table: pd.DataFrame) -> Any:
    """The table of those that are significantly worse than plain descent; None where there is none."""
    rows = summary.below_plain(table)
    if rows.empty:
        return None
    cells = [
        (
            row["problem"],
            row["agent"],
            row["kind"],
            number(row["mean"]),
            summary.spread(row, "plain_difference", sign=True),
        )
        for row in rows.to_dict("records")
    ]
    return listed(("Problem", "Agent", "Kind", "Mean", "To plain descent [95\u00a0%]"), cells, words=3)


def _agents(table: pd.DataFrame, about: Mapping[str, str]) -> Any:
    first = table.drop_duplicates("agent")
    kinds = dict(zip(first["agent"], first["kind"], strict=True))
    cells = [(name, kind, about.get(name) or _KINDS[kind]) for name, kind in kinds.items()]
    return listed(("Agent", "Kind", "What it does"), cells, words=3)


# -- the charts --------------------------------------------------------------------------------------------------------


def _charts(table: pd.DataFrame, curves: pd.DataFrame, targets: pd.DataFrame | None) -> dict[str, Any]:
    """What the page's script draws: per problem its agents, and per view the horizontal axis with the agents' values."""
    styles = plots.agent_styles(table)
    found = {}
    for problem, rows in table.groupby("problem", sort=False):
        adaptive = rows[rows["kind"] == "adaptive"]
        shown = (
            {summary.PLAIN, _L_BFGS}
            | set(adaptive["agent"].head(1))
            | set(rows.loc[rows["kind"] == "learned", "agent"])
        )
        views = {}
        own = curves[curves["problem"] == problem]
        if len(own):
            views["loss"] = _loss_view(own, styles)
        if targets is not None and len(some := targets[targets["problem"] == problem]):
            views |= _target_views(some)
        agents = [
            {
                "name": row["agent"],
                "kind": row["kind"],
                "colour": styles[row["agent"]].color,
                "on": row["agent"] in shown,
            }
            for row in rows.to_dict("records")
            if any(row["agent"] in view["y"] for view in views.values())
        ]
        if views:
            found[str(problem)] = {"agents": agents, "views": views}
    return found


def _thin(values: Any, digits: int) -> list[float | None]:
    """Figures rounded to so many significant digits; None where they are not finite."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]


def _loss_view(curves: pd.DataFrame, styles: Mapping[str, plots.Style]) -> dict[str, Any]:
    ends = float(curves["cost"].min()), float(curves["cost"].max())
    grid = np.linspace(*ends, _POINTS)
    view: dict[str, Any] = {"x": _thin(grid, 5), "y": {}, "low": {}, "high": {}}
    for agent, part in curves.groupby("agent", sort=False):
        ordered = part.sort_values("cost")
        for name, column in {"y": "median", **({"low": "q25", "high": "q75"} if styles[agent].strong else {})}.items():
            view[name][agent] = _thin(np.interp(grid, ordered["cost"], ordered[column]), 4)
    return view


def _target_views(targets: pd.DataFrame) -> dict[str, Any]:
    by_agent = list(targets.groupby("agent", sort=False))
    budget = max(2.0, float(targets["budget"].max()))
    costs = np.geomspace(1.0, budget, _POINTS)
    paces = targets["pace"][np.isfinite(targets["pace"]) & (targets["pace"] > 0)]
    views = {
        "reached": {
            "x": _thin(costs, 4),
            "y": {agent: _thin(reached_within(part["costs"], costs), 4) for agent, part in by_agent},
        }
    }
    if len(paces):
        seconds = np.geomspace(paces.min(), paces.max() * budget, _POINTS)
        views["time"] = {
            "x": _thin(seconds, 4),
            "y": {agent: _thin(reached_within(part["seconds"], seconds), 4) for agent, part in by_agent},
        }
    expected = {agent: running_times(part) for agent, part in by_agent}
    most = max(map(len, expected.values()), default=0)
    if most:
        views["expected"] = {
            "x": [STEP * (place + 1) for place in range(most)],
            "y": {agent: _thin(np.append(one, np.full(most - len(one), np.inf)), 4) for agent, one in expected.items()},
        }
    return views
