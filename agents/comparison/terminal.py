"""The summary of a comparison on a terminal, one table a problem, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def tables(summary: pd.DataFrame, split: str) -> Iterator[Table]:
    """Tables of `teleport_env.agents.comparison.summary.summary_table`'s rows: schedules, then references.

    Args:
        summary: The table.
        split: Where the instances came from, for the titles.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    for problem, part in summary.groupby("problem", sort=False):
        table = Table(
            title=f"{problem}, {split} split: orders of magnitude gained", title_justify="left", box=SIMPLE_HEAD
        )
        table.pad_edge = False
        table.add_column("agent", no_wrap=True, max_width=24)
        table.add_column("mean", justify="right", no_wrap=True)
        table.add_column("minus best [95 %]", justify="right", no_wrap=True)
        table.add_column("div.", justify="right", no_wrap=True)
        table.add_column("tel.", justify="right", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
        before = ""
        for row in part.itertuples(index=False):
            if row.kind in ("reference", "oracle") and before not in ("", row.kind):
                table.add_section()
            before = row.kind if row.kind in ("reference", "oracle") else "schedule"
            table.add_row(*_cells(row))
        yield table


def _cells(row: Any) -> list[str]:
    versus = f"{row.difference:+.2f} [{row.difference_low:+.2f}, {row.difference_high:+.2f}]"
    return [
        "best fixed in hindsight" if row.kind == "oracle" else row.agent,
        f"{row.mean:.2f}",
        "best baseline" if row.verdict == "baseline" else versus,
        f"{row.diverged:.0%}",
        f"{row.teleports:.1f}",
        f"{row.cost:.0f}",
    ]
