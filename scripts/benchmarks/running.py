"""Measure the rows and curves, show them and save them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import networks, steps, waits
from benchmarks.machine import processor
from benchmarks.rows import Curve, Row, Scale
from teleport_env.agents.comparison.tables import Cell, Table, listed, render, significant, to_json
from teleport_env.agents.versions import versions
from teleport_env.files import draft, write
from teleport_env.native import VARIANT

ROWS: tuple[Row, ...] = (*steps.ROWS, *waits.ROWS, *networks.ROWS)
CURVES: tuple[Curve, ...] = (*steps.CURVES, *networks.CURVES)


def chosen(words: Sequence[str]) -> tuple[tuple[Row, ...], tuple[Curve, ...]]:
    """The rows and curves with any of the words in their text; without words all.

    Raises:
        ValueError: A word that no row and no curve has.
    """

    def has(text: str, word: str) -> bool:
        return word.lower() in text.lower()

    texts = [_text(row) for row in ROWS] + [curve.name for curve in CURVES]
    for word in words:
        if not any(has(text, word) for text in texts):
            raise ValueError(f"no row and no curve says {word!r}; there are: {'; '.join(texts)}")
    rows = tuple(r for r in ROWS if not words or any(has(_text(r), word) for word in words))
    curves = tuple(c for c in CURVES if not words or any(has(c.name, word) for word in words))
    return rows, curves


def _text(row: Row) -> str:
    """Text that a row is found by: its words, and the line that is printed as it begins."""
    return f"{row.name} {row.against}; {row.name}, against {row.against}"


def run(
    rows: Sequence[Row],
    curves: Sequence[Curve],
    scale: Scale,
    say: Callable[[str], object] = print,
    keep: Callable[[dict[str, Any]], object] = lambda found: None,
) -> dict[str, Any]:
    """Measure; returns what `save` writes.

    Args:
        rows: The rows.
        curves: The curves.
        scale: Length and sizes of the measurement.
        say: Callback for the name of each measurement as it begins, and for each row as it is measured.
        keep: Callback for everything found so far, after each measurement: an interrupted run then loses one at most.
    """
    found: dict[str, Any] = {"settings": settings(scale), "rows": [], "curves": []}
    for row in rows:
        say(f"{row.name}, against {row.against}")
        measured = row.measure(scale)
        said = {name: getattr(row, name) for name in ("name", "against", "target", "bound")}
        found["rows"].append({**said, "reached": row.reached(measured), **asdict(measured)})
        say(line(found["rows"][-1]))
        keep(found)
    for curve in curves:
        say(curve.name)
        lines = {name: [[float(x), float(y)] for x, y in points] for name, points in curve.measure(scale).items()}
        found["curves"].append({"name": curve.name, "file": curve.file, "x": curve.x, "y": curve.y, "lines": lines})
        keep(found)
    return found


def line(record: dict[str, Any]) -> str:
    """A measured row in one line, details included."""
    sign, (ratio, ours, theirs) = ">=" if record["bound"] == "at least" else "<=", _figures(record)
    more = [f"{name} {significant(value)}" for name, value in record["details"].items()]
    told = f"{ratio} (target {sign} {record['target']:g} x)", f"{ours} against {theirs}", *more
    return "  " + "; ".join((*told, "reached" if record["reached"] else "missed"))


def _figures(record: dict[str, Any]) -> tuple[str, str, str]:
    """Ratio, ours and theirs of a measured row; a lower bound is marked as one."""
    least, unit = "at least " if record["stopped"] else "", record["unit"]
    ratio, ours, theirs = (significant(record[name]) for name in ("ratio", "ours", "theirs"))
    return f"{least}{ratio} x", f"{ours} {unit}", f"{least}{theirs} {unit}"


def settings(scale: Scale) -> dict[str, Any]:
    """What the figures depend on: threads, versions, machine, kernels and scale."""
    return {
        "threads": {
            "torch": torch.get_num_threads(),
            "torch_interop": torch.get_num_interop_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "cores": os.cpu_count(),
        "processor": processor(),
        "device": "cpu",
        "kernels": VARIANT or "none",
        "versions": versions(),
        "scale": asdict(scale),
    }


def save(found: dict[str, Any], folder: Path) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and a picture per curve into ``folder``."""
    write(folder / "benchmark.json", to_json(found, indent=1))
    write(folder / "benchmark.md", markdown(found))
    for curve in found["curves"]:
        with draft(folder / f"{curve['file']}.png") as made:
            picture(curve).savefig(made, dpi=120)


def table(found: dict[str, Any]) -> Table:
    """A row per comparison: what, against, target, got, ours, theirs, reached."""

    def cells(record: dict[str, Any]) -> list[str | Cell]:
        sign = ">=" if record["bound"] == "at least" else "<="
        reached = Cell("yes") if record["reached"] else Cell("NO", look="loss")
        return [record["name"], record["against"], f"{sign} {record['target']:g} x", *_figures(record), reached]

    heads = ("what", "against", "target", "got", "ours", "theirs", "reached")
    return replace(listed(heads, map(cells, found["rows"]), words=2), title="Speed")


def _grown(curve: dict[str, Any]) -> Table:
    """A row per size, a column per line of a curve."""
    columns = {name: dict(map(tuple, points)) for name, points in curve["lines"].items()}
    sizes = sorted({x for points in columns.values() for x in points})
    rows = ([f"{x:g}", *(significant(points[x]) if x in points else "" for points in columns.values())] for x in sizes)
    return listed((curve["x"], *columns), rows, words=0)


def markdown(found: dict[str, Any]) -> str:
    """The rows, their details and what they were measured with, as a page."""
    versions = found["settings"]["versions"].items()
    return render(
        "page.md.j2",
        Path(__file__).parent / "templates",
        given=found["settings"],
        versions=", ".join(f"{name} {version}" for name, version in versions if name != "platform"),
        table=table(found),
        records=found["rows"],
        curves=[(curve, _grown(curve)) for curve in found["curves"]],
    )


def picture(curve: dict[str, Any]) -> Any:
    """A curve as a `matplotlib.figure.Figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, points), marker in zip(curve["lines"].items(), "osD^vPX*" * 4, strict=False):
        axes.loglog(*zip(*points, strict=True), marker=marker, label=name)
    axes.set(title=curve["name"], xlabel=curve["x"], ylabel=curve["y"])
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure
