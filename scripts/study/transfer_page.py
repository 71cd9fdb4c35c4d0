"""The page of the comparison of transfers: tables, verdicts and effort, all computed from what was played."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from study.page import TEMPLATES, Finding, not_below, table_of_findings, told, versions_in_words
from study.transfer import BUDGETS, FAMILIES, RATES, SIZES, Carried
from study.transfer_work import CARRIED, LEFT_OUT, LONGER, OWN, OWN_FIXED, PLAIN
from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.tables import Cell, Table, interval, listed, number, percent, render, setting
from teleport_env.files import write


def write_transfer(found: Carried) -> dict[str, Any]:
    """Write the page where the settings say.

    Returns:
        ``findings``, and ``markdown`` (the page's path).
    """
    transfer = found.transfer
    results = Results(found)
    verdicts = verdicts_of(results)
    path = transfer.page or transfer.out / "transfer.md"
    shown = {FAMILIES: _families, BUDGETS: _budgets, RATES: _rates, SIZES: _sizes}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = render(
        "transfer.md.j2",
        TEMPLATES,
        command=found.command,
        protocol=transfer,
        versions=versions_in_words(found.versions),
        findings=table_of_findings(verdicts),
        questions=[(question, shown[question](results)) for question in transfer.questions],
        carried=_carried(found) if FAMILIES in transfer.questions else (),
        effort=_effort(found),
        episodes=sum(one["episodes"] for one in found.rates.values()),
        retaught=found.retaught,
    )
    write(path, text.rstrip() + "\n")
    return {"findings": verdicts, "markdown": path}


class Results:
    """The episodes of a run, compared in pairs."""

    def __init__(self, found: Carried) -> None:
        self.found = found
        self._gained = {
            key: {(row["seed"], row["instance_id"]): float(row["gained"]) for row in rows}
            for key, rows in found.played.items()
        }

    def variants(self, question: str, problem: str) -> list[str]:
        """Budgets, factors or sizes that a problem was played at."""
        return list(dict.fromkeys(key[2] for key in self._gained if key[:2] == (question, problem)))

    def agents(self, question: str, problem: str, variant: str = "") -> list[str]:
        """Who played."""
        return [key[3] for key in self._gained if key[:3] == (question, problem, variant)]

    def mean(self, question: str, problem: str, variant: str, agent: str, of: str = "gained") -> float:
        """Mean over the episodes of what was gained, of whether they diverged, or of their teleports."""
        return float(np.mean([float(row[of]) for row in self.found.played[question, problem, variant, agent]]))

    def means(self, question: str, problem: str, variant: str, others: Iterable[str], own: str) -> Iterator[Cell]:
        """The means of some agents, and that of the one that the table is about."""
        for agent in others:
            yield Cell(number(self.mean(question, problem, variant, agent)))
        yield Cell(number(self.mean(question, problem, variant, own)), look="top")

    def versus(
        self, question: str, problem: str, first: tuple[str, str], others: Iterable[tuple[str, str]]
    ) -> Iterator[Cell]:
        """The `difference` to each of the others."""
        for other in others:
            yield interval(self.difference(question, problem, first, other), sign=True)

    def divergences(self, question: str, problem: str, variant: str, *agents: str) -> str:
        """The share of diverged episodes of each agent."""
        return ", ".join(percent(self.mean(question, problem, variant, agent, "diverged")) for agent in agents)

    def cases(self, question: str) -> list[tuple[str, str]]:
        """Problems and `variants` that were played."""
        problems = self.found.transfer.problems
        return [(problem, variant) for problem in problems for variant in self.variants(question, problem)]

    def difference(self, question: str, problem: str, first: tuple[str, str], second: tuple[str, str]) -> Interval:
        """Mean of the first minus the second, each a variant and an agent, over the same episodes, with its interval."""
        x, y = self._gained[question, problem, *first], self._gained[question, problem, *second]
        keys, left, right = statistics.match_pairs(x, [*x.values()], y, [*y.values()], (first[1], second[1]))
        seeds, instances = zip(*keys, strict=True)
        return statistics.crossed_bootstrap(left - right, seeds, instances, statistics.mean)


# -- verdicts ----------------------------------------------------------------------------------------------------------


def verdicts_of(results: Results) -> list[Finding]:
    """What holds, question by question."""
    transfer = results.found.transfer
    found: list[Finding] = []
    if FAMILIES in transfer.questions:
        versus = {
            problem: results.difference(FAMILIES, problem, ("", LEFT_OUT), ("", CARRIED))
            for problem in transfer.problems
        }
        for problem, one in versus.items():
            target = f"{problem} left out: not significantly below the best fixed schedule tuned on the other families"
            found.append(Finding(target, not_below([one]), told(one)))
        above = [problem for problem, one in versus.items() if one.low > 0]
        below = [problem for problem, one in versus.items() if one.high < 0]
        detail = f"significantly above on {_listed(above, versus)}; significantly below on {_listed(below, versus)}"
        target = "Left out, each in turn: nowhere significantly below the best fixed schedule tuned on the others"
        found.append(Finding(target, not_below(versus.values()), detail))
    pairs = {
        BUDGETS: {
            "At a longer budget: nowhere significantly below the fixed schedule of the ordinary one": OWN_FIXED,
            "At a longer budget: nowhere significantly below the fixed schedule tuned for it": LONGER,
        },
        RATES: {
            "At another rate: nowhere significantly below the fixed schedule at its rate off by as much": OWN_FIXED
        },
        SIZES: {"At another size: nowhere significantly below the fixed schedule carried there": OWN_FIXED},
    }
    for question in transfer.questions:
        for target, other in pairs.get(question, {}).items():
            versus = {
                f"{problem} {_named(question, variant)}": results.difference(
                    question, problem, (variant, OWN), (variant, other)
                )
                for problem in transfer.problems
                for variant in results.variants(question, problem)
                if (question, variant) != (RATES, "1")  # its own rate is no transfer
            }
            if not versus:
                found.append(Finding(target, "not measured", ""))
                continue
            below = [name for name, one in versus.items() if one.high < 0]
            above = [name for name, one in versus.items() if one.low > 0]
            named = "; ".join(f"{name} {told(versus[name])}" for name in below)
            detail = f"significantly above in {len(above)} of {len(versus)} cases, below in {len(below)}"
            found.append(Finding(target, not_below(versus.values()), f"{detail}: {named}" if below else detail))
    return found


def _listed(names: Sequence[str], of: Mapping[str, Any]) -> str:
    return f"{len(names)} of {len(of)}" + (f" ({', '.join(names)})" if names else "")


def _named(question: str, variant: str) -> str:
    return {BUDGETS: f"budget x {variant}", RATES: f"rate x {variant}"}.get(question, variant)


# -- tables ------------------------------------------------------------------------------------------------------------


def _families(results: Results) -> Table:
    problems = results.found.transfer.problems
    played = {problem: results.agents(FAMILIES, problem) for problem in problems}
    further = [agent for agents in played.values() for agent in agents if agent not in (LEFT_OUT, CARRIED, PLAIN)]
    heads = ["left out", PLAIN, CARRIED, f"**{LEFT_OUT}**", "minus the fixed schedule", "minus plain descent"]
    heads += ["diverged, the fixed schedule", "teleports, the fixed schedule", *dict.fromkeys(further)]

    def cells(problem: str) -> Iterator[Cell | str]:
        yield problem
        yield from results.means(FAMILIES, problem, "", (PLAIN, CARRIED), LEFT_OUT)
        yield from results.versus(FAMILIES, problem, ("", LEFT_OUT), [("", CARRIED), ("", PLAIN)])
        yield results.divergences(FAMILIES, problem, "", LEFT_OUT, CARRIED)
        teleports = (results.mean(FAMILIES, problem, "", agent, "teleports") for agent in (LEFT_OUT, CARRIED))
        yield ", ".join(number(one, 1) for one in teleports)
        for agent in dict.fromkeys(further):
            yield number(results.mean(FAMILIES, problem, "", agent)) if agent in played[problem] else ""

    return listed(heads, ([*cells(problem)] for problem in problems))


def _carried(found: Carried) -> Iterator[str]:
    """The schedules that were carried, and where they were played."""
    for problem in found.transfer.problems:
        config, place = found.tuned[CARRIED, problem]["config"], found.grounds[problem]
        chosen = ", ".join(f"{name} {setting(value)}" for name, value in sorted(config.items()))
        yield (
            f"{_others(found, problem)}: {chosen}. On {problem}: rate {place.rate:.4g}, "
            f"{place.steps_per_action} steps per action, symmetry {place.symmetry}"
        )


def _budgets(results: Results) -> Table:
    others = (OWN_FIXED, LONGER)

    def cells(problem: str, variant: str) -> Iterator[Cell | str]:
        yield problem
        yield f"{variant} x, {float(variant) * results.found.transfer.budget_of(problem):g}"
        yield from results.means(BUDGETS, problem, variant, others, OWN)
        yield from results.versus(BUDGETS, problem, (variant, OWN), [(variant, name) for name in others])
        yield results.divergences(BUDGETS, problem, variant, OWN)

    heads = ["problem", "budget", *others, f"**{OWN}**", *(f"minus {name}" for name in others), "diverged"]
    return listed(heads, ([*cells(*case)] for case in results.cases(BUDGETS)))


def _rates(results: Results) -> Table:
    def cells(problem: str, variant: str) -> Iterator[Cell | str]:
        yield problem
        yield f"x {variant}"
        yield from results.means(RATES, problem, variant, (OWN_FIXED,), OWN)
        yield from results.versus(RATES, problem, (variant, OWN), [(variant, OWN_FIXED)])
        for name in (OWN, OWN_FIXED):
            lost = results.versus(RATES, problem, ("1", name), [(variant, name)])
            yield from ("",) if variant == "1" else lost
        yield results.divergences(RATES, problem, variant, OWN, OWN_FIXED)

    heads = ["problem", "rate", OWN_FIXED, f"**{OWN}**", "learned minus fixed", "learned loses", "fixed loses"]
    heads.append("diverged, the fixed schedule")
    return listed(heads, ([*cells(*case)] for case in results.cases(RATES)))


def _sizes(results: Results) -> Table:
    rates, shapes = results.found.rates, results.found.transfer.shapes

    def cells(problem: str, variant: str) -> Iterator[Cell | str]:
        yield problem
        yield f"{variant} ({_shape(shapes[problem][variant])})"
        yield f"x {rates[problem, variant]['rate'] / rates[problem, '']['rate']:.3g}"
        yield from results.means(SIZES, problem, variant, (PLAIN, OWN_FIXED), OWN)
        yield from results.versus(SIZES, problem, (variant, OWN), [(variant, OWN_FIXED), (variant, PLAIN)])
        yield results.divergences(SIZES, problem, variant, OWN, OWN_FIXED)

    heads = ["problem", "size", "rate of plain descent, of the ordinary one", PLAIN, OWN_FIXED, f"**{OWN}**"]
    heads += ["learned minus fixed", "minus plain descent", "diverged, the fixed schedule"]
    return listed(heads, ([*cells(*case)] for case in results.cases(SIZES)))


def _effort(found: Carried) -> Table:
    def rows() -> Iterator[Sequence[str]]:
        for (kind, problem), one in found.tuned.items():
            if (where := place(kind, problem, CARRIED)) is not None:
                edges = ", ".join(one["edges"]) or "none"
                yield kind, where, f"{one['tried']:,}", f"{one['episodes']:,}", "", edges
        for (kind, problem), trained in found.trained.items():
            if (where := place(kind, problem, LEFT_OUT)) is not None:
                yield kind, where, "", "", f"{sum(one['decisions'] for one in trained):,}", ""

    def place(kind: str, problem: str, without: str) -> str | None:
        """Where it was made; None where its kin, which has the same, is listed."""
        if kind != without:
            return problem
        return _others(found, problem) if problem == found.transfer.together(problem)[0] else None

    return listed(("what", "problem", "schedules tried", "episodes", "decisions, all seeds", "edges"), rows(), words=2)


def _others(found: Carried, problem: str) -> str:
    return f"all but {' and '.join(found.transfer.together(problem))}"


def _shape(shape: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {'-'.join(map(str, value)) if isinstance(value, (tuple, list)) else value}"
        for name, value in shape.items()
    )
