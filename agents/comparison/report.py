"""Writes a comparison to a folder: the episodes, the settings, the pictures, and one self-contained page."""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

from teleport_env.agents.comparison import plots, summary
from teleport_env.agents.comparison.page import render_page
from teleport_env.agents.comparison.parallel import run_tasks
from teleport_env.agents.comparison.tables import to_json
from teleport_env.agents.comparison.targets import to_csv
from teleport_env.agents.versions import versions
from teleport_env.files import write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["drawn", "read_results", "write_report"]

SMALL_SVG = 400_000
"""Pictures whose SVG is larger, in bytes, are written as PNG alone."""

_INTERACTIVE = ("curves", "profiles")
"""Pictures that the page draws anew, so that they answer the pointer."""

_PIXELS = 1100
"""Width of a picture on the page: as small as it can be read."""

_FLOATS = ("budget", "cost", "gained", "initial_loss", "loss", "seconds", "learning_rate")
_INTEGERS = ("seed", "instance_id", "steps", "teleports")
_BOOLEANS = ("converged", "diverged")
_TOLD = {
    "curves": (
        "Loss against compute",
        "Median loss relative to the start against compute. Bands: quartiles over episodes, of learned agents and plain "
        "descent. Hollow, grey: references.",
    ),
    "gained": (
        "Orders gained",
        "Interquartile mean of the orders of magnitude gained with its 95 % interval. Below the dashed line: references and "
        "hindsight oracles, which are no schedules.",
    ),
    "differences": (
        "Against the best baseline",
        "Mean paired difference to the problem's best baseline on the same episodes, with its 95 % interval. Right of the "
        "line is better. The baseline was chosen on these episodes, which favours it.",
    ),
    "profiles": (
        "Performance profiles",
        "The share of runs that gained at least so many orders; higher is better. Diverged runs count as -2 orders.",
    ),
    "teleports": (
        "What teleports bought",
        "Orders gained against teleports used. Small dots: single episodes; large markers: means. Agents that never "
        "teleport stand side by side around zero.",
    ),
    "episodes": (
        "Single episodes",
        "Single episodes. A marker stands right after a teleport: the loss stays, the gradient norm jumps.",
    ),
}
"""Pictures of a report in their order: heading and caption by the name of their files."""


@dataclass(frozen=True)
class Drawing:
    """A picture that is still to be drawn; ``name`` is that of its files."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def _drawings(
    results: pd.DataFrame,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    traces: Sequence[Mapping[str, Any]],
    shown: Collection[tuple[str, str]] | None,
) -> list[Drawing]:
    if shown is not None:
        results, curves = (
            frame[[pair in shown for pair in zip(frame["problem"], frame["agent"], strict=True)]]
            for frame in (results, curves)
        )
        traces = [one for one in traces if (one["problem"], one["agent"]) in shown]
    styles = plots.agent_styles(table)
    drawings = {
        "gained": lambda: plots.gained_forest(table, styles),
        "profiles": lambda: plots.performance_profiles(results, styles),
        "teleports": lambda: plots.gained_against_teleports(results, styles),
    }
    if len(curves):
        drawings["curves"] = lambda: plots.loss_curves(curves, styles)
    if table["difference"].notna().any():
        drawings["differences"] = lambda: plots.difference_forest(table, styles)
    if traces:
        drawings["episodes"] = lambda: plots.episode_traces(traces, styles)
    return [Drawing(name, *_TOLD[name], drawings[name]) for name in _TOLD if name in drawings]


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn: the bytes of its files by their names' endings, ``webp`` the one for the page."""

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]


def drawn(drawing: Drawing, more: bool) -> Picture:
    """A picture for the page, and with ``more`` as PNG and small SVG too."""
    figure = drawing.draw()
    # no dates and no program versions: equal results give equal files
    page, png, svg = io.BytesIO(), io.BytesIO(), io.BytesIO()
    found = {}
    if drawing.name not in _INTERACTIVE:
        compressed = {"quality": 60, "method": 2}  # 4 is a twentieth smaller and takes a quarter longer
        resolution = _PIXELS / figure.get_figwidth()
        _lay_out(figure, resolution)
        figure.savefig(page, format="webp", dpi=resolution, pil_kwargs=compressed)
        found["webp"] = page.getvalue()
    if more:
        if drawing.name in _INTERACTIVE:
            _lay_out(figure, figure.dpi)
        figure.savefig(png, format="png", metadata={"Software": None})
        with matplotlib.rc_context({"svg.hashsalt": "teleport_env"}):
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        found |= {"png": png.getvalue(), "svg": svg.getvalue()}
    return Picture(drawing.name, drawing.title, drawing.caption, found)


def _lay_out(figure: Figure, resolution: float) -> None:
    """Lay a figure out for good, as it would be at so many dots per inch; with an engine a picture is gone through twice."""
    engine, before = figure.get_layout_engine(), figure.dpi
    assert engine is not None
    figure.set_dpi(resolution)
    engine.execute(figure)
    figure.set_dpi(before)
    figure.set_layout_engine(None)


def read_results(path: Path | str) -> pd.DataFrame:
    """The frame of episodes that `write_report` wrote: the same values to the last bit, the same names.

    Raises:
        ImportError: pandas is not installed.
    """
    # Read as text and converted here: an agent may be called "NA", a diverged run's loss is empty, and whether pandas's own
    # conversion is exact depends on its version.
    frame = summary.import_pandas().read_csv(path, dtype="str", keep_default_na=False)
    for column in frame.columns:
        if column in _FLOATS:
            frame[column] = [float(text) if text else math.nan for text in frame[column]]
        elif column in _INTEGERS:
            frame[column] = frame[column].astype("int64")
        elif column in _BOOLEANS:
            frame[column] = frame[column] == "True"
    return frame


def write_report(
    folder: Path | str,
    results: pd.DataFrame,
    curves: pd.DataFrame,
    traces: Sequence[Mapping[str, Any]] | None,
    settings: Mapping[str, Any],
    table: pd.DataFrame | None = None,
    shown: Collection[tuple[str, str]] | None = None,
    further: Sequence[Drawing] = (),
    jobs: int = 1,
    targets: pd.DataFrame | None = None,
    about: Mapping[str, str] | None = None,
    files: bool = False,
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write ``results.csv``, ``targets.csv.gz``, ``settings.json``, ``report.html`` and its pictures.

    Args:
        folder: Folder of the report, made if it does not exist; files of the same names are overwritten.
        results: One row per episode, columns `summary.COLUMNS`.
        curves: Columns ``problem, agent, cost, q25, median, q75``; may be empty.
        traces: Single episodes, see `plots.episode_traces`; or None.
        settings: Settings of the comparison. ``title`` and ``command`` are shown as such, ``versions`` is filled in,
            and everything else is listed.
        table: `summary.summary_table` of ``results``, where it is at hand; it takes seconds on many episodes.
        shown: Pairs of problem and agent that curves, profiles and single episodes show, where all would be too many to
            tell apart; None: all. Forests always show all.
        further: Pictures after the usual ones.
        jobs: Processes that draw; -1: one per core.
        targets: One row per episode with its costs to targets (`targets.rows_of_targets`); None: they are not known.
        about: A sentence on each agent, by name.
        files: Write every picture as PNG and as SVG too, those among them that the page draws by itself.
        pictures: Pictures that were drawn before (`drawn`); they come first.

    Returns:
        The path of the page.

    Raises:
        ValueError: ``results`` is malformed or pairs are missing (see `summary.summary_table`).
        ImportError: pandas is not installed.
    """
    if table is None:
        table = summary.summary_table(results)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**settings, "versions": {**versions(), **settings.get("versions", {})}}
    text = to_json(settings, indent=2, default=str)
    settings = json.loads(text)  # the page shows what the file says
    write(folder / "results.csv", results[list(summary.COLUMNS)].to_csv(index=False))
    write(folder / "settings.json", text)
    if targets is not None:
        write(folder / "targets.csv.gz", gzip.compress(to_csv(targets).encode(), mtime=0))
    usual = [
        one
        for one in _drawings(results, table, curves, list(traces or ()), shown)
        if files or one.name not in _INTERACTIVE
    ]
    tasks = [(drawn, (drawing, files)) for drawing in (*further, *usual)]
    saved = {one.name: one for one in run_tasks(tasks, jobs=jobs, title="drawing", joining=True)}
    pictures = [*pictures, *(saved[one.name] for one in (*further, *usual))]
    for picture in pictures:
        for ending, data in picture.files.items():
            file = folder / f"{picture.name}.{ending}"
            if ending == "svg" and len(data) > SMALL_SVG:
                file.unlink(missing_ok=True)
            else:
                write(file, data)
    embedded = [
        {"title": one.title, "caption": one.caption, "file": f"{one.name}.webp", "data": one.files["webp"]}
        for one in pictures
        if "webp" in one.files
    ]
    page = render_page(results, table, curves, targets, embedded, settings, about or {})
    return write(folder / "report.html", page)
