"""The page of the factorial: what teleports contribute to each problem. Every figure is computed from what was played."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from study.factorial import Factored
from study.factorial_cells import CELLS, OPTIMIZERS, RATES, Cell
from study.look_ahead import HORIZONS
from study.page import TEMPLATES, Finding, table_of_findings, told, versions_in_words, write_data
from study.shared import NEW
from study.worth import GAINED, Worth
from teleport_env.agents.comparison import statistics, summary
from teleport_env.agents.comparison.plots import SETTINGS, panels
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.tables import Table, interval, listed, number, render, significant
from teleport_env.agents.comparison.targets import MEASURES
from teleport_env.files import write

_NEW = {name.split(":")[-1] for name in NEW}


def write_factorial(found: Factored) -> dict[str, Any]:
    """Write the page where the settings say, its picture and its table of all cells beside it.

    Returns:
        ``findings``, ``markdown`` (the page's path) and ``details`` (that of the table of all cells).
    """
    factorial, results = found.factorial, Contributions(found)
    path = factorial.page or factorial.out / "factorial.md"
    images = Path("images") / path.stem if factorial.page else Path()
    write(path.parent / images / "contributions.png", _drawn(results))
    rows = [row for problem in factorial.problems for row in results.rows_of(problem)]
    details = write_data(path, {"cells": rows})["cells"]
    verdicts = findings_of(results)
    text = render(
        "factorial.md.j2",
        TEMPLATES,
        command=found.command,
        protocol=factorial,
        versions=versions_in_words(found.versions),
        findings=table_of_findings(verdicts),
        best=_best(results),
        scores=_scores(results),
        foreseen=_foreseen(results),
        horizons=HORIZONS,
        worth=worth(results),
        still=[
            (problem, told(one), told(best) if (best := results.hindsight(problem)) and best.low > 0 else "")
            for problem in factorial.problems
            if (one := results.beyond(problem)) and not one.low > 0
        ],
        trials=results.trials(),
        pairs=[(optimizer, _pairs(results, optimizer)) for optimizer in OPTIMIZERS],
        picture=images / "contributions.png",
        details=details,
        tuned=found.judged + sum(one["episodes"] for one in found.tuned.values()),
        decisions=sum(one["decisions"] for seeds in found.trained.values() for one in seeds),
    )
    write(path, text.rstrip() + "\n")
    return {"findings": verdicts, "markdown": path, "details": path.parent / details}


class Contributions:
    """Cells with teleports minus cells without, on the same episodes.

    Args:
        found: Evidence that was gathered.
    """

    def __init__(self, found: Factored) -> None:
        self.found, self.worth = found, Worth(found.rows, found.targets)
        self.results = summary.import_pandas().DataFrame(found.rows)

    def mean(self, problem: str, cell: Cell, measure: str = GAINED) -> float:
        """Mean over the episodes of a cell."""
        return self.worth.mean(problem, cell.name, measure)

    def difference(self, problem: str, first: Cell, second: Cell, measure: str = GAINED) -> Interval:
        """Mean paired difference of two cells with its interval."""
        return self.worth.difference(problem, first.name, second.name, measure)

    def best(self, problem: str, teleports: bool) -> Cell:
        """The best cell by the train split, or of policies by the validation split: test instances choose nothing."""

        def known(cell: Cell) -> float:
            pairs = self.found.pairs[problem, cell.with_teleports]
            return float(np.mean([pair.known(cell) for pair in pairs]))

        return max((cell for cell in CELLS if cell.teleports == teleports), key=known)

    def contribution(self, problem: str, measure: str = GAINED) -> Interval:
        """The best cell with teleports minus the best without."""
        return self.difference(problem, self.best(problem, True), self.best(problem, False), measure)

    def teleports(self, problem: str, cell: Cell) -> float:
        """Mean number of teleports per episode of a cell."""
        own = self.results[(self.results["problem"] == problem) & (self.results["agent"] == cell.name)]
        return float(own["teleports"].mean())

    def adds(self, problem: str, measure: str = GAINED) -> bool:
        """Whether the best cell with teleports is better, and teleports at all."""
        return self.contribution(problem, measure).low > 0 and self.teleports(problem, self.best(problem, True)) > 0

    def hindsight(self, problem: str) -> Interval | None:
        """The same of what could be had in hindsight: per instance the best of all settings with teleports, and without."""
        best: dict[bool, list[list[float]]] = {True: [], False: []}
        for (where, cell), values in self.found.oracles.items():
            if where == problem:
                best[cell.teleports].append(values)
        if not best[True] or not best[False]:
            return None
        return self._paired(np.max(best[True], axis=0), np.max(best[False], axis=0))

    def foreseen(self, problem: str, teleports: bool) -> np.ndarray | None:
        """Orders gained by the look-ahead, per instance ``(B,)``; None where it did not play."""
        found = self.found.foreseen.get((problem, teleports))
        return None if found is None else np.array(found["gained"])

    def foresight(self, problem: str) -> Interval | None:
        """What teleports add to the look-ahead."""
        return self._paired(self.foreseen(problem, True), self.foreseen(problem, False))

    def beyond(self, problem: str) -> Interval | None:
        """The look-ahead with teleports minus the best cell without, on the same instances."""
        found = self.found.foreseen.get((problem, True))
        if found is None:
            return None
        cell = self.best(problem, False).name
        own = self.results[(self.results["problem"] == problem) & (self.results["agent"] == cell)]
        means = own.groupby("instance_id")[GAINED].mean()
        return self._paired(self.foreseen(problem, True), means.loc[found["ids"]].to_numpy())

    def trials(self) -> int:
        """Evaluations that the look-aheads tried per evaluation that they were charged; 0 where none played."""
        spent = {name: sum(sum(one[name]) for one in self.found.foreseen.values()) for name in ("tried", "cost")}
        return round(spent["tried"] / spent["cost"]) if spent["cost"] else 0

    @staticmethod
    def _paired(first: np.ndarray | None, second: np.ndarray | None) -> Interval | None:
        if first is None or second is None:
            return None
        versus = first - second
        return statistics.crossed_bootstrap(versus, np.zeros(len(versus)), np.arange(len(versus)), statistics.mean)

    def rows_of(self, problem: str) -> list[dict[str, Any]]:
        """Every cell of a problem with its means, its settings and what teleports add to it."""
        rows = []
        for cell in CELLS:
            own = self.results[(self.results["problem"] == problem) & (self.results["agent"] == cell.name)]
            row: dict[str, Any] = {"problem": problem, "cell": cell.name}
            row |= {measure: self.mean(problem, cell, measure) for measure in (GAINED, *MEASURES)}
            row |= {name: float(own[name].mean()) for name in ("teleports", "diverged", "cost")}
            for measure in (GAINED, "score", "time_score") if cell.teleports else ():
                ends = self.difference(problem, cell, cell.without, measure)
                row |= dict(zip([f"adds_{measure}{end}" for end in ("", "_low", "_high")], ends, strict=True))
            row["borrowed"] = sum(pair.borrows(cell) for pair in self.found.pairs[problem, cell.with_teleports])
            config = self.found.configs.get((problem, cell))
            rows.append({**row, "settings": json.dumps(config) if config else ""})
        return rows


# -- in words ----------------------------------------------------------------------------------------------------------


def findings_of(results: Contributions) -> list[Finding]:
    """Whether teleports contribute, on the problems on real or noisy data and on all."""
    problems = results.found.factorial.problems
    new = [problem for problem in problems if problem in _NEW]
    above, explained, details = [], [], []
    for problem in new:
        found = results.contribution(problem)
        oracles = {"in hindsight": results.hindsight(problem), "looking ahead": results.foresight(problem)}
        possible = {name: one for name, one in oracles.items() if one is not None}
        if results.adds(problem):
            above.append(problem)
        elif possible and not any(one.low > 0 for one in possible.values()):
            explained.append(problem)
        none = "" if results.teleports(problem, results.best(problem, True)) else " without a teleport"
        figures = [told(found) + none, *(f"{name} {told(one)}" for name, one in possible.items())]
        details.append(f"{problem}: {', '.join(figures)}")
    reached = len(above) >= 4 or len(above) + len(explained) == len(_NEW)
    verdict = "yes" if reached else "not measured" if len(new) < len(_NEW) else "no"
    intervals = {problem: results.contribution(problem) for problem in problems}
    below = [f"{problem} {told(one)}" for problem, one in intervals.items() if one.high < 0]
    up = sum(map(results.adds, problems))
    scored = [problem for problem in problems if results.contribution(problem, "score").high < 0]
    timed = {problem: results.contribution(problem, "time_score") for problem in problems}
    slower = [f"{problem} {interval(one, 3, sign=True)}" for problem, one in timed.items() if one.high < 0]
    return [
        Finding(
            "On real or noisy data teleports contribute on 4 of 5 problems, or neither hindsight nor a look-ahead gains",
            verdict,
            ". ".join(details) or "none of them was played",
        ),
        Finding(
            "Nowhere do teleports harm the best cell, by final loss",
            "no" if below else "yes",
            ("; ".join(below) or f"better on {up} of {len(intervals)} problems, worse on none")
            + f"; by score worse on {', '.join(scored) or 'none'}",
        ),
        Finding(
            "In equal processor time teleports do not lower the score of the best cell",
            "no" if slower else "yes",
            "; ".join(slower) or f"on none of {len(timed)} problems",
        ),
    ]


def worth(results: Contributions) -> str:
    """On which problems teleports are worth their price, in each of the two prices."""
    sentences = []
    idle = [one for one in results.found.factorial.problems if not results.teleports(one, results.best(one, True))]
    for measure, price in ((GAINED, "gradient evaluations"), ("time_score", "processor time")):
        found = {problem: results.contribution(problem, measure) for problem in results.found.factorial.problems}
        up = [problem for problem in found if results.adds(problem, measure)]
        unclear = [problem for problem, one in found.items() if problem not in (*up, *idle) and one.high >= 0]
        sentences.append(
            f"In {price} teleports are worth their price on {' and '.join(up) or 'none of these problems'}"
            + (f"; on {' and '.join(unclear)} that is not shown." if unclear else ".")
        )
    if idle:
        sentences.append(f"On {' and '.join(idle)} the best cell that may teleport does not.")
    return " ".join(sentences)


def _best(results: Contributions) -> Table:
    def cells(problem: str) -> Sequence[Any]:
        possible, named = results.hindsight(problem), []
        for cell in (results.best(problem, False), results.best(problem, True)):
            count = f", {significant(results.teleports(problem, cell))} teleports" * cell.teleports
            named.append(f"{number(results.mean(problem, cell))} ({_short(cell)}{count})")
        adds = interval(results.contribution(problem), sign=True)
        return (problem, *named, adds, interval(possible, sign=True) if possible else "")

    heads = ("problem", "best without teleports", "best with teleports", "teleports add", "in hindsight")
    return listed(heads, map(cells, results.found.factorial.problems))


def _foreseen(results: Contributions) -> Table | None:
    """What a look-ahead gains; None where none played."""

    def cells(problem: str) -> Sequence[Any]:
        with_, without = (results.foreseen(problem, teleports) for teleports in (True, False))
        means = [number(float(np.mean(values))) for values in (without, with_) if values is not None]
        ends = [interval(one, sign=True) for one in (results.foresight(problem), results.beyond(problem)) if one]
        return (problem, *means, *ends)

    heads = ("problem", "without teleports", "with teleports", "teleports add", "minus the best cell without")
    played = [problem for problem in results.found.factorial.problems if (problem, True) in results.found.foreseen]
    return listed(heads, map(cells, played)) if played else None


def _short(cell: Cell) -> str:
    return f"{cell.rates}, {cell.optimizer}"


def _scores(results: Contributions) -> Table:
    def cells(problem: str) -> Sequence[Any]:
        row: list[Any] = [problem]
        for measure in ("score", "time_score"):
            pair = [str(number(results.mean(problem, results.best(problem, on), measure), 3)) for on in (False, True)]
            row += [", ".join(pair), interval(results.contribution(problem, measure), 3, sign=True)]
        return row

    heads = ("problem", "score without, with", "teleports add", "the same in equal time", "teleports add in equal time")
    return listed(heads, map(cells, results.found.factorial.problems))


def _pairs(results: Contributions, optimizer: str) -> Table:
    def cells(problem: str) -> Sequence[Any]:
        pairs = [Cell(rates, optimizer, True) for rates in RATES]
        return (problem, *(interval(results.difference(problem, one, one.without), sign=True) for one in pairs))

    return listed(("problem", *RATES), map(cells, results.found.factorial.problems))


# -- the picture -------------------------------------------------------------------------------------------------------

_COLOURS = dict(zip(RATES, ("#0072B2", "#D55E00", "#009E73"), strict=True))
_MARKERS = dict(zip(OPTIMIZERS, "os", strict=True))


@matplotlib.rc_context(SETTINGS)
def _drawn(results: Contributions) -> bytes:
    """What teleports add to each cell, in orders gained, with intervals: a row per problem."""
    problems = results.found.factorial.problems
    figure, (axis,) = panels(1, 0.62 * len(problems) + 0.6)
    pairs = [cell for cell in CELLS if cell.teleports]
    for row, problem in enumerate(problems):
        for place, cell in enumerate(pairs):
            ends = results.difference(problem, cell, cell.without)
            height, colour = row + 0.13 * (place - 2.5), _COLOURS[cell.rates]
            axis.plot(ends[1:], [height, height], color=colour, linewidth=1.4)
            filled = colour if cell.optimizer == OPTIMIZERS[0] else "white"
            look: dict[str, Any] = {"markersize": 5, "markerfacecolor": filled, "linestyle": "none", "color": colour}
            label = _short(cell) if row == 0 else None
            axis.plot(ends[0], height, marker=_MARKERS[cell.optimizer], label=label, **look)
    axis.axvline(0.0, color="#333333", linewidth=1.0)
    axis.set_yticks(range(len(problems)), problems)
    axis.set_ylim(len(problems) - 0.5, -0.5)
    axis.set_xlabel("orders of magnitude that teleports add at equal cost (95 %)")
    axis.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()
