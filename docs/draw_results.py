"""Draw the pictures of kept result pages from the tables beside them: `make drawn`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from teleport_env.agents.comparison.plots import SETTINGS, panels
from teleport_env.files import write

DOCS = Path(__file__).resolve().parent
LEARNED = "#D55E00"

Panel = tuple[str, str, str, str | None, str]
"""Title, table (CSV), column of the row's name, column of what sets rows of one name apart, and column of the difference."""

TRANSFER: tuple[Panel, ...] = (
    ("Left out: minus plain descent", "transfer/left-out", "left out", None, "minus plain descent"),
    (
        "Longer budget: minus a schedule of it",
        "transfer/budgets",
        "problem",
        "budget",
        "minus fixed schedule of this budget",
    ),
    ("Another rate: minus the schedule", "transfer/rates", "problem", "rate", "learned minus fixed"),
    ("Another size: minus the schedule", "transfer/sizes", "size", None, "learned minus fixed"),
)
CLONES: tuple[Panel, ...] = (
    ("Minus plain descent", "transfer-clones/left-out", "left out", None, "minus plain descent"),
    (
        "Minus the fixed schedule of the others",
        "transfer-clones/left-out",
        "left out",
        None,
        "minus the fixed schedule",
    ),
)
PICTURES = {"transfer/transfer.png": TRANSFER, "transfer-clones/transfer.png": CLONES}
"""Pictures under ``docs/images``, and their panels."""


def ends(text: str) -> list[float]:
    """Estimate, lower and upper end of an interval as the tables write it: "+1.36 [+1.25, +1.48]"."""
    estimate, low, high = map(float, re.findall(r"[-+]?[\d.]+", text))
    return [estimate, low, high]


@matplotlib.rc_context(SETTINGS)
def drawn(shown: Sequence[Panel]) -> Figure:
    """Differences with their intervals: a panel per table, a row per problem, a colour per variant."""
    tables = [_rows(f"{one[1]}.csv") for one in shown]
    names = [list(dict.fromkeys(_name(row, one[2]) for row in table)) for one, table in zip(shown, tables, strict=True)]
    figure, axes = panels(len(shown), 0.42 * max(map(len, names)) + 0.8)
    for axis, (title, _, column, apart, difference), table, rows in zip(axes, shown, tables, names, strict=True):
        variants = list(dict.fromkeys(_variant(row[apart]) for row in table)) if apart else [""]
        for row in table:
            place = variants.index(_variant(row[apart])) if apart else 0
            height = rows.index(_name(row, column)) + 0.7 * ((place + 0.5) / len(variants) - 0.5)
            colour = f"C{place}" if apart else LEARNED
            estimate, low, high = ends(row[difference])
            axis.plot([low, high], [height, height], color=colour, linewidth=1.4)
            label = variants[place] if apart and rows.index(_name(row, column)) == 0 else None
            axis.plot(estimate, height, "o", color=colour, markersize=4, label=label)
        axis.axvline(0.0, color="#333333", linewidth=1.0)
        axis.set(title=title, xlabel="orders of magnitude gained, difference (95 %)", ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticks(range(len(rows)), rows)
        if apart:
            axis.legend()
    return figure


SHIPPED = {"never": ("plain descent", "#111111"), "edge of stability": ("rule edge_of_stability", "#0072B2")}
SHIPPED |= {"generalist": ("shipped generalist", LEARNED), "L-BFGS": ("L-BFGS", "#8A8A8A")}
"""Agents of the overview by their names in its table, with what a reader calls them and a colour."""


@matplotlib.rc_context(SETTINGS)
def overview() -> Figure:
    """Orders gained by four agents, a group of bars per problem; wide enough to be read on a telephone."""
    rows = [row | {"agent": row["agent"].removesuffix(", fallback")} for row in _rows("shipped/agents.csv")]
    rows = [row for row in rows if row["agent"] in SHIPPED]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, (axis,) = panels(1, 0.5 * len(problems) + 0.8)
    figure.set_size_inches(6.4, 0.55 * len(problems) + 1.2)
    for place, (agent, (label, colour)) in enumerate(SHIPPED.items()):
        found = {row["problem"]: float(row["gained"]) for row in rows if row["agent"] == agent}
        gained = [found[problem] for problem in problems]
        axis.barh([row + 0.2 * (place - 1.5) for row in range(len(problems))], gained, 0.18, color=colour, label=label)
    axis.set(xlabel="orders of magnitude gained (mean)", ylim=(len(problems) - 0.5, -0.5))
    axis.set_yticks(range(len(problems)), problems)
    axis.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _rows(name: str) -> list[dict[str, str]]:
    """A table, without the rows at a policy's own rate, which is no transfer."""
    with (DOCS / "results-data" / name).open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("rate") != "x 1"]


def _name(row: dict[str, str], column: str) -> str:
    size = row[column].partition(" (")[0]
    return f"{row['problem']}, {size}" if column == "size" else row[column]


def _variant(text: str) -> str:
    """ "2 x, 160" and "x 2" as "x 2"."""
    return f"x {text.split(' x,')[0]}" if " x," in text else text


def main() -> None:
    figures = {name: drawn(shown) for name, shown in PICTURES.items()} | {"shipped/gained.png": overview()}
    for name, figure in figures.items():
        written = io.BytesIO()
        figure.savefig(written, format="png", metadata={"Software": None})
        path = DOCS / "images" / name
        path.parent.mkdir(exist_ok=True)
        write(path, written.getvalue())
        print(path)


if __name__ == "__main__":
    main()
