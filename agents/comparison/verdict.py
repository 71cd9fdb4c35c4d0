"""A comparison's outcome in sentences: what to use on each problem, what it gains, and where a solver gains as much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.tables import number
from teleport_env.agents.tuning.own_menu import found_in_menu

if TYPE_CHECKING:
    import pandas as pd

EQUAL = 0.005
"""Difference of means, in orders of magnitude, below which tables show both as equal."""

_SIMPLEST = ("fixed", "control", "adaptive", "learned")  # first what needs no training


def _range(row: Any, name: str) -> str:
    """A difference with its interval, of which one may be missing."""
    cell = summary.spread(row, name, sign=True)
    return str(cell).replace("-", "\N{MINUS SIGN}")


def _schedules(rows: pd.DataFrame) -> tuple[Any, list[Any]]:
    """The schedule to use, and the others that gain the same; None and nothing where there is none.

    Among equals it is the cheapest that a reader can ask for by name, and the simplest of equal costs; plain descent comes
    before all.
    """
    played = rows[~rows["kind"].isin(list(summary.ASIDE))]
    if played.empty:
        return None, []

    def order(row: Mapping[str, Any]) -> tuple[bool, bool, float, int]:
        """Costs that a sentence shows as equal are equal."""
        plain, askable = row["agent"] == summary.PLAIN, not found_in_menu(row["agent"])
        return not plain, not askable, float(_cost(row)), _SIMPLEST.index(row["kind"])

    best, *others = sorted(_equal(played), key=order)
    return best, others


def _equal(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows whose means are equal to the highest."""
    return rows[rows["mean"] > rows["mean"].max() - EQUAL].to_dict("records")


def _cost(row: Mapping[str, Any]) -> str:
    return f"{row['cost']:.3g}"


def _best(rows: pd.DataFrame, *kinds: str) -> Any:
    """The row with the highest mean among some kinds, of equals the cheapest; None where there is none."""
    some = rows[rows["kind"].isin(kinds)]
    return None if some.empty else min(_equal(some), key=lambda row: float(_cost(row)))


def _solver(rows: pd.DataFrame) -> Any:
    return _best(rows, "reference", "structure")


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = list(names[:most])
    if len(names) > most:
        left = len(names) - most
        shown.append(f"{left} other{'s' if left > 1 else ''}")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _use(best: Mapping[str, Any]) -> str:
    name, gained = best["agent"], f"{number(best['mean'])} orders of magnitude"
    versus, cost = _range(best, "plain_difference"), f"It cost {_cost(best)} gradient evaluations on average."
    if name == summary.PLAIN:
        return f"Use plain descent ({name}): {gained} gained, and no agent that teleports gained more. {cost}"
    if best["plain_difference_low"] > 0:
        return f"Use {name}: {gained} gained, {versus} against plain descent. {cost}"
    if np.isfinite(best["plain_difference"]):
        return (
            f"Plain descent ({summary.PLAIN}) is enough: {name} gained the most, {gained}, but is not separated from plain "
            f"descent: {versus}."
        )
    return f"Use {name}: {gained} gained. {cost}"


def _compared(solver: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """What a solver gained, beside the best schedule where there is one."""
    if best is None:
        return number(solver["mean"])
    more = float(solver["mean"] - best["mean"])
    if abs(more) < EQUAL:
        return f"the same at a cost of {_cost(solver)}"
    return f"{number(abs(more))} {'more' if more > 0 else 'less'}"


def winners(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Per problem its name and sentences: which schedule to use, which equal it, and how learned agents and solvers did."""
    said = []
    for problem, rows in table.groupby("problem", sort=False):
        best, equal = _schedules(rows)
        learned, solver = _best(rows, "learned"), _solver(rows)
        words = [] if best is None else [_use(best)]
        if equal:
            costs = [f"{row['agent']} ({_cost(row)})" for row in equal]
            words.append(f"The same was gained, at the cost in brackets, by {_listed(costs)}.")
        if learned is not None and learned["agent"] not in [row["agent"] for row in (best, *equal)]:
            versus = f", {_range(learned, 'difference')} against the best baseline" * bool(
                np.isfinite(learned["difference"])
            )
            words.append(f"The best learned agent, {learned['agent']}, gained {number(learned['mean'])}{versus}.")
        if solver is not None:
            words.append(f"The best solver, {solver['agent']}, gained {_compared(solver, best)}.")
        said.append((str(problem), " ".join(words)))
    return said


def _grouped(pairs: Iterable[tuple[str, str]]) -> str:
    """Agents with the problems that they are meant for, from pairs of agent and problem."""
    groups: dict[str, list[str]] = {}
    for agent, problem in pairs:
        groups.setdefault(agent, []).append(problem)
    return "; ".join(f"{agent} on {_listed(problems, len(problems))}" for agent, problems in groups.items())


def advice(table: pd.DataFrame) -> str:
    """What to use: per problem the cheapest of the best schedules, and where a solver gains at least as much."""
    schedules, solvers = [], []
    for problem, rows in table.groupby("problem", sort=False):
        best, solver = _schedules(rows)[0], _solver(rows)
        if best is not None:
            enough = best["agent"] != summary.PLAIN and best["plain_difference_low"] <= 0
            schedules.append((f"plain descent ({summary.PLAIN})" if enough else best["agent"], str(problem)))
        if solver is not None and (best is None or solver["mean"] > best["mean"] - EQUAL):
            solvers.append((solver["agent"], str(problem)))
    words = [f"Schedule to use: {_grouped(schedules)}."] if schedules else []
    if solvers:
        words.append(f"A solver gains at least as much, and needs no schedule: {_grouped(solvers)}.")
    elif schedules and table["kind"].isin(["reference", "structure"]).any():
        words.append("No solver gains as much.")
    return " ".join(words)


def overall(table: pd.DataFrame) -> str:
    """One line on all problems: on how many the best schedule outperforms plain descent, and solvers the schedules.

    Empty for one problem, which `winners` say all of.
    """
    groups = [rows for _, rows in table.groupby("problem", sort=False)]
    if len(groups) == 1:
        return ""
    words = []
    played = [row for rows in groups if (row := _schedules(rows)[0]) is not None]
    if table["agent"].eq(summary.PLAIN).any() and played:
        won = sum(bool(row["plain_difference_low"] > 0) for row in played)
        words.append(f"The best schedule outperforms plain descent on {won} of {len(groups)} problems.")
    learned = [row for rows in groups if (row := _best(rows, "learned")) is not None and row["baseline"]]
    if learned:
        wins, losses = (sum(row["verdict"] == one for row in learned) for one in ("win", "loss"))
        words.append(
            f"The best learned agent outperforms the best baseline on {wins} of {len(learned)}, and loses to it on {losses}."
        )
    pairs = [(_schedules(rows)[0], _solver(rows)) for rows in groups]
    solved = [(schedule, solver) for schedule, solver in pairs if schedule is not None and solver is not None]
    if solved:
        won = sum(bool(solver["mean"] >= schedule["mean"] + EQUAL) for schedule, solver in solved)
        words.append(f"The best solver gains more than every schedule on {won} of {len(solved)}.")
    return " ".join(words)
