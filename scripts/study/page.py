"""What all pages of results have in common: verdicts on targets, and how they and the versions are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teleport_env.agents.comparison import tables
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.summary import import_pandas
from teleport_env.agents.comparison.tables import Table, listed
from teleport_env.files import write

TEMPLATES = Path(__file__).parent / "templates"


def write_data(page: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Write tables into the folder of a page's data, as ``results-data/PAGE/NAME.csv`` beside it.

    Args:
        page: The page.
        tables: Rows of each table, by its name.

    Returns:
        Their paths by name, as the page links to them.
    """
    pandas, found = import_pandas(), {}
    for name, rows in tables.items():
        found[name] = f"results-data/{page.stem.removeprefix('results-')}/{name}.csv"
        write(page.parent / found[name], pandas.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    return found


@dataclass(frozen=True)
class Finding:
    """A target and what became of it.

    Attributes:
        target: Statement of the target, in a sentence.
        holds: ``"yes"``, ``"no"``, or ``"not measured"``: nothing failed, but not all that the target names was played.
        detail: The figures.
        aside: Whether nothing was trained for it on this page: no target there, but a figure.
    """

    target: str
    holds: str
    detail: str
    aside: bool = False


Verdict = tuple[bool | None, str]
"""Whether a target holds in one case (None: not known), and the figures; empty where there are none."""


def finding(target: str, cases: Iterable[Verdict]) -> Finding:
    """A target that must hold in every case."""
    judged = list(cases)
    details = [f"{detail}{' (no)' if verdict is False else ''}" for verdict, detail in judged if detail]
    return Finding(target, holds(verdict for verdict, _ in judged), "; ".join(details))


def holds(verdicts: Iterable[bool | None]) -> str:
    """Whether all of some verdicts are yes; one no is enough, and None says that something was not measured."""
    listed_ = list(verdicts)
    return "no" if False in listed_ else "not measured" if None in listed_ or not listed_ else "yes"


def not_below(intervals: Iterable[Interval]) -> str:
    """Whether no interval lies below zero; an interval without ends says nothing."""
    return holds(None if math.isnan(one.high) else one.high >= 0 for one in intervals)


def told(interval: Interval) -> str:
    """An estimate with its interval."""
    return str(tables.interval(interval, sign=True))


def table_of_findings(found: Sequence[Finding]) -> Table:
    """A row per target."""
    return listed(("target", "holds", "figures"), [(one.target, one.holds, one.detail) for one in found], words=3)


def versions_in_words(versions: Mapping[str, str]) -> str:
    """Names and versions of the packages."""
    return ", ".join(f"{name} {version}" for name, version in versions.items() if name != "platform")
