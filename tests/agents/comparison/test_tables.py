"""One description of a table, three ways to show it: the same figures, names as they stand, no figure that is none."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from teleport_env.agents import default_agents
from teleport_env.agents.comparison import summary, tables
from teleport_env.agents.comparison.described import sentences
from teleport_env.agents.comparison.rollout import Rollout
from teleport_env.agents.comparison.tables import Cell, Column, Table, interval, number, significant

AWKWARD = "a|b\n<img src=x> [red]*bold*[/red] [x](http://y) `code` \x1b[31m"
SHOWN = "a|b <img src=x> [red]*bold*[/red] [x](http://y) `code` \ufffd[31m"
"""What a reader sees of it."""


def described(rows: list[dict[str, Any]]) -> Table:
    columns = (
        Column("name", lambda row: row["name"], words=True),
        Column("mean", lambda row: Cell(number(row["mean"]), look="top")),
        Column("difference", lambda row: interval(row["ends"], sign=True)),
        Column("cost", lambda row: significant(row["cost"])),
    )
    return Table(columns, rows)


ROWS = [
    {"name": AWKWARD, "mean": -1234.567, "ends": (0.5, -0.25, 1.25), "cost": 59.96},
    {"name": "nan", "mean": 0.0, "ends": (1.0, math.nan, math.nan), "cost": 0.00123},
]


class _Html(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def in_html(table: Table) -> list[list[str]]:
    shown = _Html(str(tables.html(table)))
    assert shown.tags == {"div", "table", "thead", "tbody", "tr", "th", "td", "span"}
    cells, count = [cell.replace("\u2212", "-") for cell in shown.cells], len(table.columns)
    return [cells[i : i + count] for i in range(0, len(cells), count)]


def in_markdown(table: Table) -> list[list[str]]:
    lines = tables.markdown(table).splitlines()
    assert re.fullmatch(r"\|(---\|)+", lines.pop(1))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(\W)", r"\1", re.sub(r"^\*\*(.*)\*\*$", r"\1", cell.strip())) for cell in row] for row in rows]


def in_terminal(table: Table) -> list[list[str]]:
    shown = tables.terminal(table)
    columns = [[str(column.header), *(str(cell) for cell in column.cells)] for column in shown.columns]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("rendered", [in_html, in_markdown, in_terminal])
def test_all_three_show_the_same(rendered: Callable[[Table], list[list[str]]]) -> None:
    assert rendered(described(ROWS)) == [
        ["name", "mean", "difference", "cost"],
        [SHOWN, "-1,234.57", "+0.50 [-0.25, +1.25]", "60.0"],
        ["nan", "0.00", "+1.00", "0.00123"],
    ]


def test_a_terminal_takes_no_markup_from_names() -> None:
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=False).print(tables.terminal(described(ROWS)))
    assert SHOWN in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("value", "keywords", "text"),
    [
        (1234.5678, {}, "1,234.57"),
        (-0.5, {"sign": True}, "-0.50"),
        (0.5, {"sign": True}, "+0.50"),
        (-0.001, {"sign": True}, "0.00"),
        (12.34, {"digits": 1, "unit": " %"}, "12.3 %"),
        (math.nan, {}, "n/a"),
        (-math.inf, {"sign": True}, "n/a"),
    ],
)
def test_numbers_read_well(value: float, keywords: dict[str, Any], text: str) -> None:
    assert number(value, **keywords) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.5, 0.25, 0.75), "50 % [25 %, 75 %]"),
        ((0.5, -math.inf, 0.75), "50 % [?, 75 %]"),
        ((0.5, -math.inf, math.inf), "50 % [?, ?]"),
        ((0.5, math.nan, math.nan), "50 %"),
        ((math.nan, math.nan, math.nan), "n/a"),
    ],
)
def test_an_interval_shows_what_is_known_of_it(ends: tuple[float, float, float], text: str) -> None:
    assert str(interval(ends, 0, unit=" %", scale=100.0)) == text


def test_listed_cells_stand_where_they_were_put() -> None:
    table = tables.listed(("a", "b", "c"), [("x", Cell("1", look="top"), "`p|q`")], words=1, prose=True)
    assert tables.markdown(table).splitlines() == ["| a | b | c |", "|---|---|---|", "| x | **1** | `p\\|q` |"]


def test_lines_of_settings_may_end_after_a_comma() -> None:
    """Regression: they ended within the name of a setting."""
    table = tables.listed(["agent", "settings"], [["every", "every:k=3,x=<"]], words=2)
    assert "every:k=3,<wbr>x=&lt;" in str(tables.html(table))
    said = tables.listed(["agent", "menu"], [["every", "closed form, sweeps 2"]], words=2)
    assert "closed form, sweeps 2" in str(tables.html(said))


def test_prose_keeps_its_markup_and_shows_no_figure_that_is_none() -> None:
    assert tables.in_markdown("`a|b` is *+nan ± nan* of inf", prose=True) == "`a\\|b` is *n/a* of n/a"
    assert tables.in_markdown("nothing, an infant and nano stay", prose=True) == "nothing, an infant and nano stay"


def test_json_holds_numbers_or_null() -> None:
    text = tables.to_json({"a": [1.5, math.nan], "b": {"c": (math.inf, 2, "nan")}})
    assert json.loads(text) == {"a": [1.5, None], "b": {"c": [None, 2, "nan"]}}
    assert "NaN" not in text


def test_a_missing_jinja_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"teleport-env\[compare\]"):
        tables.render("table.md.j2", table=described(ROWS))


def one_episode(agents: dict[str, str]) -> pd.DataFrame:
    row = dict.fromkeys(summary.COLUMNS, 0.0) | {"problem": "Booth", "split": "test", "converged": False}
    row |= {"diverged": False, "budget": 10.0, "menu": "none", "learning_rate": 0.3}
    return pd.DataFrame(
        [{**row, "agent": agent, "kind": kind, "gained": float(i)} for i, (agent, kind) in enumerate(agents.items())]
    )


def test_a_single_instance_has_no_interval_and_says_so() -> None:
    """Regression: the terminal showed ``+1.00 [+nan, +nan]`` where one instance was played."""
    results = one_episode({"never": "fixed", "every": "fixed", "mine": "learned", "L-BFGS": "reference"})
    table = summary.summary_table(results)
    (shown,) = summary.terminal_tables(table, "test")
    assert in_terminal(shown)[1:] == [
        ["mine", "0.3", "2.00", "+1.00", "0.0 %", "0.0"],
        ["every", "0.3", "1.00", "best baseline", "0.0 %", "0.0"],
        ["never", "0.3", "0.00", "-1.00", "0.0 %", "0.0"],
        ["L-BFGS", "0.3", "3.00", "+2.00", "0.0 %", "0.0"],
    ]
    for rendered in (tables.html, tables.markdown):
        assert not re.search(r"\b(nan|inf)\b", str(rendered(summary.table_of(table))))


def test_a_rollout_that_diverged_says_no_nan() -> None:
    """Regression: the terminal said ``loss nan after ...``."""
    info = {"loss": math.nan, "step": 3, "cost": 4.0, "teleports": 0, "teleport_status": 0}
    assert "loss n/a after 3 gradient steps" in str(Rollout([], info, -2.0, "every"))


def test_menus_are_listed_by_who_has_them() -> None:
    results = one_episode({"never": "fixed", "every": "fixed", "stall": "adaptive", "L-BFGS": "reference"})
    results.loc[results["agent"].isin(["every", "stall"]), "menu"] = "virtual step"
    assert summary.menus_of(summary.summary_table(results)) == [
        "Menu of stall, every: virtual step",
        "No teleports: never, L-BFGS",
    ]


def test_a_report_shows_six_columns_at_first() -> None:
    row = {"kind": "fixed", "mean": 1.0, "iqm": 1.0, "score": 0.1, "settings": ""}
    shown = [column.title for column in summary.table_of(pd.DataFrame([row])).columns if not column.more]
    assert shown[:3] == ["Agent", "Kind", "Mean"]
    assert len(shown) <= 6, "the others appear with All columns"


@pytest.mark.parametrize("problem", ["Booth", "MatrixFactorization"])
def test_agents_are_said_in_words(problem: str) -> None:
    for name, text in sentences(default_agents(problem)).items():
        assert len(text.split()) > 1, f"nothing is said of {name}"
        assert not re.search(r"[{}`*]", text), text
