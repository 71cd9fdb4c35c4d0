"""What a comparison shows: the table of a problem, and one self-contained HTML file without any other request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.tables import Cell, Column, Table, interval, number, percent, render, significant

if TYPE_CHECKING:
    import pandas as pd


_ASIDE = {
    "reference": "References: what one would take instead. Not schedules of gradient descent; not baselines.",
    "oracle": "Hindsight: chosen after the fact, at no charge. Nobody can play it; over random agents part of it is luck.",
}


def spread(row: Mapping[str, Any], name: str, **how: Any) -> Cell:
    """An estimate of a row of the summary with its interval; `tables.interval` says what ``how`` may hold."""
    return interval([row[name], row[f"{name}_low"], row[f"{name}_high"]], **how)


def versus_best(row: Mapping[str, Any]) -> Cell:
    """The mean paired difference to the best baseline; won or lost where the agent is a learned one."""
    if row["verdict"] == "baseline":
        return Cell("best baseline")
    # the claim is the learned agents'; that other baselines lie below the best of them goes without saying
    look = row["verdict"] if row["verdict"] in ("win", "loss") and row["kind"] == "learned" else ""
    return spread(row, "difference", sign=True)._replace(look=look)


def table_of(summary_rows: pd.DataFrame, title: str = "") -> Table:
    """The table of one problem: its schedules, then references, then what is known in hindsight.

    Args:
        summary_rows: The problem's rows of `summary.summary_table`.
        title: Its heading on a terminal.
    """
    rows = summary_rows.to_dict("records")
    schedules = [row for row in rows if row["kind"] not in _ASIDE]
    best = {name: max((row[name] for row in schedules), default=None) for name in ("mean", "iqm")}

    def leading(row: Mapping[str, Any], name: str) -> bool:
        return row["kind"] not in _ASIDE and row[name] == best[name]

    columns = (
        Column("Agent", lambda row: row["agent"], "the agent", words=True, short="agent", width=22),
        Column("Kind", lambda row: row["kind"], "fixed, adaptive, learned, control, reference or oracle", words=True),
        Column("n", lambda row: str(row["n"]), "episodes: instances times seeds"),
        Column(
            "IQM gained [95\u00a0%]",
            lambda row: spread(row, "iqm")._replace(look="top" if leading(row, "iqm") else ""),
            "interquartile mean of the orders of magnitude gained",
        ),
        Column(
            "Mean",
            lambda row: Cell(number(row["mean"]), look="top" if leading(row, "mean") else ""),
            "mean of the orders gained; it counts divergences in full",
            short="mean",
        ),
        Column(
            "To best baseline [95\u00a0%]",
            versus_best,
            "mean paired difference to the best fixed, adaptive or control agent",
            short="minus best [95 %]",
        ),
        Column(
            "P(beats plain)",
            lambda row: number(row["improvement"]),
            "probability that an episode gains more than plain descent's on the same instance, ties half",
        ),
        Column("Diverged", lambda row: percent(row["diverged"]), "share of episodes that diverged", short="div."),
        Column("Teleports", lambda row: number(row["teleports"], 1), "mean number in an episode", short="tel."),
        Column("Cost", lambda row: significant(row["cost"]), "mean cost in gradient evaluations", short="cost"),
        Column(
            "Cost to target",
            lambda row: cost_to_target(row["expected_cost"]),
            "expected cost to reach the tolerance: total cost over the number of runs that did",
        ),
        Column(
            "Seconds",
            lambda row: significant(row["seconds"]),
            "mean wall-clock of an episode, for orientation; runs that share a batch share its time",
        ),
    )
    asides = [(label, [row for row in rows if row["kind"] == kind]) for kind, label in _ASIDE.items()]
    return Table(columns, schedules, asides, title, lambda row: leading(row, "mean"))


def cost_to_target(cost: float) -> str:
    """An expected cost, which is infinite where no run reached the target."""
    return "never" if cost == float("inf") else significant(cost)


def terminal_tables(summary_table: pd.DataFrame, split: str) -> list[Table]:
    """The tables of all problems with what fits into 80 columns; ``split`` is named in their titles."""
    titles = ("Agent", "Mean", "To best baseline [95\u00a0%]", "Diverged", "Teleports", "Cost")
    return [
        table_of(rows, f"{problem}, {split} split: orders of magnitude gained").only(*titles)
        for problem, rows in summary_table.groupby("problem", sort=False)
    ]


def render_page(
    results: pd.DataFrame, table: pd.DataFrame, pictures: Sequence[Mapping[str, str]], settings: Mapping[str, Any]
) -> str:
    """The page's HTML.

    Args:
        results: One row an episode.
        table: Its `summary.summary_table`.
        pictures: ``title``, ``caption`` and ``data`` (a PNG in base64) of each, in the order they are shown.
        settings: ``title``, ``command``, ``tuning`` (a sentence) and ``versions`` have their places; the rest is listed.
    """
    listed = {key: value for key, value in settings.items() if key not in ("title", "command", "versions")}
    listed |= {f"version of {key}": value for key, value in settings["versions"].items()}
    plain = (table["agent"] == summary.PLAIN).any()
    return render(
        "report.html",
        title=settings.get("title", "Teleport schedules at equal compute"),
        settings={"command": None, "tuning": None, **settings},
        listed_settings={
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in listed.items()
        },
        episodes=len(results),
        agents=table["agent"].nunique(),
        seeds=results["seed"].nunique(),
        splits=sorted({str(split) for split in results["split"]}),
        instances=results.groupby("problem")["instance_id"].nunique().max(),
        budgets={problem: budget_of(results, problem) for problem in results["problem"].unique()},
        statements=summary.statements(table),
        below=[
            f"{row.problem}: {row.agent} is {-row.plain_difference:.2f} orders below plain descent "
            f"[{-row.plain_difference_high:.2f}, {-row.plain_difference_low:.2f}]"
            for row in summary.below_plain(table).itertuples(index=False)
        ],
        nothing_below="Nowhere, by these intervals."
        if plain
        else f"Not known: plain descent ({summary.PLAIN}) was not played.",
        tables={problem: table_of(rows) for problem, rows in table.groupby("problem", sort=False)},
        pictures=pictures,
    )


def budget_of(results: pd.DataFrame, problem: str) -> str:
    """The budgets that a problem was played at, in words."""
    return ", ".join(f"{budget:g}" for budget in sorted(set(results.loc[results["problem"] == problem, "budget"])))
