"""Measure the rows and curves, show them and save them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import engine, networks
from benchmarks.rows import Curve, Measured, Row, Scale
from teleport_env.agents.versions import versions

if TYPE_CHECKING:
    from rich.table import Table

ROWS: tuple[Row, ...] = (*engine.ROWS, *networks.ROWS)
CURVES: tuple[Curve, ...] = (*engine.CURVES, *networks.CURVES)


def chosen(words: Sequence[str]) -> tuple[tuple[Row, ...], tuple[Curve, ...]]:
    """The rows and curves with any of the words in their text; without words all.

    Raises:
        ValueError: A word that no row and no curve has.
    """

    def has(text: str, word: str) -> bool:
        return word.lower() in text.lower()

    texts = [f"{row.name} {row.against}" for row in ROWS] + [curve.name for curve in CURVES]
    for word in words:
        if not any(has(text, word) for text in texts):
            raise ValueError(f"no row and no curve says {word!r}; there are: {'; '.join(texts)}")
    rows = tuple(r for r in ROWS if not words or any(has(f"{r.name} {r.against}", word) for word in words))
    curves = tuple(c for c in CURVES if not words or any(has(c.name, word) for word in words))
    return rows, curves


def run(
    rows: Sequence[Row], curves: Sequence[Curve], scale: Scale, say: Callable[[str], object] = print
) -> dict[str, Any]:
    """Measure; returns what `save` writes.

    Args:
        rows: The rows.
        curves: The curves.
        scale: How long and how large.
        say: Told what is being measured.
    """
    found: dict[str, Any] = {"settings": settings(scale), "rows": [], "curves": []}
    for row in rows:
        say(f"{row.name}, against {row.against}")
        measured = row.measure(scale)
        found["rows"].append(_record(row, measured))
    for curve in curves:
        say(curve.name)
        lines = {name: [[float(x), float(y)] for x, y in points] for name, points in curve.measure(scale).items()}
        found["curves"].append({"name": curve.name, "file": curve.file, "x": curve.x, "y": curve.y, "lines": lines})
    return found


def settings(scale: Scale) -> dict[str, Any]:
    """What the figures depend on: threads, versions, machine and scale."""
    return {
        "threads": {
            "torch": torch.get_num_threads(),
            "torch_interop": torch.get_num_interop_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "cores": os.cpu_count(),
        "processor": _processor(),
        "device": "cpu",
        "versions": versions(),
        "scale": asdict(scale),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _record(row: Row, measured: Measured) -> dict[str, Any]:
    return {
        "name": row.name,
        "against": row.against,
        "target": row.target,
        "bound": row.bound,
        "reached": row.reached(measured),
        **asdict(measured),
    }


def save(found: dict[str, Any], folder: Path) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and a picture a curve into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmark.md").write_text(markdown(found), encoding="utf-8")
    for curve in found["curves"]:
        picture(curve).savefig(folder / f"{curve['file']}.png", dpi=120)


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cells(record: dict[str, Any]) -> list[str]:
    """One row of the table as text: what, against, target, got, ours, theirs, reached."""
    sign = ">=" if record["bound"] == "at least" else "<="
    unit = record["unit"]
    return [
        record["name"],
        record["against"],
        f"{sign} {record['target']:g} x",
        f"{number(record['ratio'])} x",
        f"{number(record['ours'])} {unit}",
        f"{number(record['theirs'])} {unit}",
        "yes" if record["reached"] else "NO",
    ]


HEADS = ("what", "against", "target", "got", "ours", "theirs", "reached")


def table(found: dict[str, Any]) -> Table:
    """The rows for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(title="Speed", title_justify="left", box=SIMPLE_HEAD)
    for head in HEADS:
        shown.add_column(head, justify="left" if head in ("what", "against") else "right")
    for record in found["rows"]:
        shown.add_row(*cells(record), style=None if record["reached"] else "red")
    return shown


def markdown(found: dict[str, Any]) -> str:
    """The rows, their details and what they were measured with, as a page."""
    given = found["settings"]
    scale, threads = given["scale"], given["threads"]
    lines = [
        "# Benchmark",
        "",
        f"{given['processor']}, {given['cores']} cores; {threads['torch']} thread(s) of torch; "
        + ", ".join(f"{name} {version}" for name, version in given["versions"].items())
        + f". Best of {scale['repeats']} interleaved turns of {scale['seconds']} s"
        + (
            "." if scale["divide"] == 1 else f"; **sizes divided by {scale['divide']}: not what the targets speak of**."
        ),
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *("| " + " | ".join(cells(record)) + " |" for record in found["rows"]),
        "",
    ]
    for record in found["rows"]:
        if record["details"]:
            figures = ", ".join(f"{name}: {number(value)}" for name, value in record["details"].items())
            lines += [f"* {record['name']}, against {record['against']}: {figures}"]
    for curve in found["curves"]:
        lines += ["", f"## {curve['name']}", "", f"| {curve['x']} | " + " | ".join(curve["lines"]) + " |"]
        lines += ["|" + "---|" * (1 + len(curve["lines"]))]
        columns = {name: dict(map(tuple, points)) for name, points in curve["lines"].items()}
        for x in sorted({x for points in columns.values() for x in points}):
            shown = (number(points[x]) if x in points else "" for points in columns.values())
            lines += [f"| {x:g} | " + " | ".join(shown) + " |"]
    return "\n".join(lines) + "\n"


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
