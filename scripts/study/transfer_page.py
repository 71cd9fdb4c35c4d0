"""The page of the comparison of transfers: tables, verdicts and effort, all computed from what was played."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from study.page import TEMPLATES, Finding, holds, not_below, table_of_findings, told, versions_in_words, write_data
from study.transfer import BUDGETS, FAMILIES, RATES, SIZES, TOLERANCES, Carried, Key
from study.transfer_work import (
    CARRIED,
    CARRIED_STEPS,
    LEFT_OUT,
    LINES,
    LONGER,
    OWN,
    OWN_FIXED,
    PLAIN,
    RULE,
    SHIPPED_TOO,
    STEPS,
)
from study.worth import GAINED, Worth
from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.plots import SETTINGS, panels
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.tables import Cell, Table, interval, listed, render
from teleport_env.agents.comparison.targets import MEASURES
from teleport_env.files import write

MOST_LOST = 0.5
"""Orders of magnitude that a policy may lose against the best rule where the tolerance is lowered."""

MOST_DIVERGED = 0.05
"""Share of the episodes in which a policy may diverge on a problem that it has not seen."""


def write_transfer(found: Carried) -> dict[str, Any]:
    """Write the page where the settings say, and tables of all cases beside it.

    Returns:
        ``findings``, and ``markdown`` (the page's path).
    """
    transfer = found.transfer
    results = Results(found)
    verdicts = verdicts_of(results)
    path = transfer.page or transfer.out / "transfer.md"
    shown = {FAMILIES: _families, BUDGETS: _budgets, RATES: _rates, SIZES: _sizes, TOLERANCES: _tolerances}
    pictures = Path("images") / path.stem if transfer.page else Path()
    write(path.parent / pictures / "transfer.png", _drawn(results))
    data = {"cases": results.rows(), "effort": [*_effort(found)]}
    if FAMILIES in transfer.questions:
        data["carried"] = [*_carried(found)]
    details = write_data(path, data)
    text = render(
        "transfer.md.j2",
        TEMPLATES,
        command=found.command,
        protocol=transfer,
        versions=versions_in_words(found.versions),
        findings=table_of_findings(verdicts),
        questions=[(question, shown[question](results)) for question in transfer.questions],
        further=[(_titled(agent), _tolerances(results, agent)) for agent in _further(results)],
        orders=_orders(results) if FAMILIES in transfer.questions else (),
        episodes=sum(one["episodes"] for one in found.rates.values()),
        retaught=found.retaught,
        picture=(pictures / "transfer.png").as_posix(),
        details=details,
    )
    write(path, text.rstrip() + "\n")
    return {"findings": verdicts, "markdown": path}


def _case(question: str, problem: str, variant: str) -> str:
    return " / ".join((question, problem, variant))


class Results:
    """The episodes of a run, compared in pairs: each case, a question, problem and variant, stands for a problem."""

    def __init__(self, found: Carried) -> None:
        self.found = found
        self.worth = Worth(
            [{**row, **_named_as(key)} for key, rows in found.played.items() for row in rows],
            [{**row, **_named_as(key)} for key, rows in found.targets.items() for row in rows],
        )

    def variants(self, question: str, problem: str) -> list[str]:
        """Budgets, factors, sizes or tolerances that a problem was played at."""
        return list(dict.fromkeys(key[2] for key in self.found.played if key[:2] == (question, problem)))

    def difference(
        self, question: str, problem: str, first: tuple[str, str], second: tuple[str, str], measure: str = GAINED
    ) -> Interval:
        """Mean of the first minus the second, each a variant and an agent, over the same episodes, with its interval."""
        one, other = (_named_as((question, problem, *pair)) for pair in (first, second))
        return self.worth.between((one["problem"], one["agent"]), (other["problem"], other["agent"]), measure)

    def rows(self) -> list[dict[str, Any]]:
        """All figures of every agent in every case."""
        return [self._row(key) for key in self.found.played]

    def _row(self, key: Key) -> dict[str, Any]:
        named = _named_as(key)
        row: dict[str, Any] = dict(zip(("question", "problem", "variant", "agent"), key, strict=True))
        for measure in (GAINED, *MEASURES):
            ends = self.worth.interval(named["problem"], named["agent"], measure)
            row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), ends, strict=True))
        return row | {name: self.share(key, name) for name in ("diverged", "teleports")}

    def share(self, key: Key, name: str) -> float:
        """Mean of ``"diverged"`` or ``"teleports"`` over the episodes of an agent in a case."""
        played = self.found.played[key]
        return sum(float(one[name]) for one in played) / len(played)


def _named_as(key: Key) -> dict[str, str]:
    """Case and agent; plain descent by its own name, since processor time is counted in its steps."""
    question, problem, variant, agent = key
    return {"problem": _case(question, problem, variant), "agent": summary.PLAIN if agent == PLAIN else agent}


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
            target = (
                f"{problem} left out: not significantly worse than the best fixed schedule tuned on the other families"
            )
            found.append(Finding(target, not_below([one]), told(one)))
        above = [problem for problem, one in versus.items() if one.low > 0]
        below = [problem for problem, one in versus.items() if one.high < 0]
        detail = f"significantly better on {_listed(above, versus)}; significantly worse on {_listed(below, versus)}"
        target = "Left out, each in turn: nowhere significantly worse than the best fixed schedule tuned on the others"
        found.append(Finding(target, not_below(versus.values()), detail))
        found += _of_plain_descent(results)
        found += _of_steps(results)
    pairs = {
        BUDGETS: {
            "At a longer budget: nowhere significantly worse than the fixed schedule of the ordinary one": OWN_FIXED,
            "At a longer budget: nowhere significantly worse than the fixed schedule tuned for it": LONGER,
        },
        RATES: {
            "At another rate: nowhere significantly worse than the fixed schedule at its rate off by as much": OWN_FIXED
        },
        SIZES: {"At another size: nowhere significantly worse than the fixed schedule carried there": OWN_FIXED},
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
            detail = f"significantly better in {len(above)} of {len(versus)} cases, worse in {len(below)}"
            found.append(Finding(target, not_below(versus.values()), f"{detail}: {named}" if below else detail))
    if TOLERANCES in transfer.questions:
        found += _of_tolerances(results)
    return found


def _of_plain_descent(results: Results) -> Iterator[Finding]:
    """On how many problems left out the policies outperform plain descent, and where they diverge."""
    problems = results.found.transfer.problems
    versus = {one: results.difference(FAMILIES, one, ("", LEFT_OUT), ("", PLAIN)) for one in problems}
    above, below = ([one for one in problems if test(versus[one])] for test in (_wins, _loses))
    # of 12 problems 8
    target = "Left out, each in turn: better than plain descent on two thirds of the problems"
    detail = f"significantly better on {_listed(above, versus)}; significantly worse on {_listed(below, versus)}"
    yield Finding(target, "yes" if 3 * len(above) >= 2 * len(problems) else "no", detail)
    shares = {one: results.share((FAMILIES, one, "", LEFT_OUT), "diverged") for one in problems}
    often = {one: share for one, share in shares.items() if share > MOST_DIVERGED}
    target = f"Left out, each in turn: diverges in at most {100 * MOST_DIVERGED:.0f} % of the episodes"
    named = ", ".join(f"{one} {100 * share:.1f} %" for one, share in often.items())
    most = max(shares, key=shares.__getitem__)
    detail = f"more on {len(often)} of {len(problems)}: {named}" if often else f"at most {100 * shares[most]:.1f} %"
    yield Finding(target, "no" if often else "yes", detail)


def _of_steps(results: Results) -> Iterator[Finding]:
    """Whether the policies are worth more than steps that search for their rate, and more than teleports by a schedule."""
    rivals = (LINES,) if results.found.transfer.optimizer is None else (LINES, STEPS, CARRIED_STEPS)
    for rival in rivals:
        versus = {
            problem: results.difference(FAMILIES, problem, ("", LEFT_OUT), ("", rival))
            for problem in results.found.transfer.problems
        }
        above, below = ([one for one in versus if test(versus[one])] for test in (_wins, _loses))
        detail = f"significantly better on {_listed(above, versus)}; significantly worse on {_listed(below, versus)}"
        target = f"Left out, each in turn: nowhere significantly worse than {rival}"
        yield Finding(target, not_below(versus.values()), detail)


def _of_tolerances(results: Results) -> Iterator[Finding]:
    """What each policy loses against the rule, down to the lowest tolerance; and all of them by targets."""
    transfer = results.found.transfer
    for problem in transfer.problems:
        worst, verdict, said = _worst(results, problem, OWN)
        target = f"{problem}: at lower tolerances the policy loses no more than {MOST_LOST} orders against the {RULE}"
        yield Finding(target, verdict, f"at the worst, tolerance x {worst}: {said}")
    for agent in (further := _further(results)):
        found = {problem: _worst(results, problem, agent) for problem in _playing(results, agent)}
        verdicts = {verdict == "yes" for _, verdict, _ in found.values()}
        detail = "; ".join(f"{problem} {said} (x {worst})" for problem, (worst, _, said) in found.items())
        target = f"{_titled(agent)}: at lower tolerances no more than {MOST_LOST} orders lost against the {RULE}"
        yield Finding(target, holds(verdicts), detail)
    for agent in (OWN, *further):
        problems = _playing(results, agent)
        cases = [(problem, variant) for problem in problems for variant in results.variants(TOLERANCES, problem)]
        scores = {
            case: results.difference(TOLERANCES, case[0], (case[1], agent), (case[1], RULE), "score") for case in cases
        }
        above, below = ([case for case, one in scores.items() if test(one)] for test in (_wins, _loses))
        where = list(dict.fromkeys(problem for problem, _ in below))
        detail = f"significantly better in {len(above)} of {len(cases)} cases, worse in {len(below)}"
        target = "By targets (how early each loss is reached), at all tolerances"
        named = f": {', '.join(where)}" if below else ""
        target = f"{'' if agent == OWN else f'{_titled(agent)}. '}{target}: nowhere significantly worse than the {RULE}"
        yield Finding(target, not_below(scores.values()), detail + named)


def _worst(results: Results, problem: str, agent: str) -> tuple[str, str, str]:
    """The tolerance at which an agent loses most to the rule, whether that is little enough, and the difference."""
    versus = {
        variant: results.difference(TOLERANCES, problem, (variant, agent), (variant, RULE))
        for variant in results.variants(TOLERANCES, problem)
    }
    worst = min(versus, key=lambda variant: versus[variant].estimate)
    return worst, "yes" if versus[worst].estimate >= -MOST_LOST else "no", told(versus[worst])


def _playing(results: Results, agent: str) -> list[str]:
    """Problems on which an agent was played at other tolerances."""
    return list(dict.fromkeys(key[1] for key in results.found.played if key[0] == TOLERANCES and key[3] == agent))


def _further(results: Results) -> list[str]:
    """Policies of `SHIPPED_TOO` that were played."""
    return [agent for agent in SHIPPED_TOO if _playing(results, agent)]


def _titled(agent: str) -> str:
    return agent[0].upper() + agent[1:]


def _wins(one: Interval) -> bool:
    return one.low > 0


def _loses(one: Interval) -> bool:
    return one.high < 0


def _listed(names: Sequence[str], of: Mapping[str, Any]) -> str:
    return f"{len(names)} of {len(of)}" + (f" ({', '.join(names)})" if names else "")


def _named(question: str, variant: str) -> str:
    return {BUDGETS: f"budget x {variant}", RATES: f"rate x {variant}"}.get(question, variant)


# -- tables ------------------------------------------------------------------------------------------------------------


def _versus(results: Results, question: str, problem: str, variant: str, agents: tuple[str, str], measure: str) -> Cell:
    """What the first of two agents is worth more than the second."""
    ends = results.difference(question, problem, (variant, agents[0]), (variant, agents[1]), measure)
    return interval(ends, 2 if measure == GAINED else 3, sign=True)


def _families(results: Results) -> Table:
    def cells(problem: str) -> Iterator[Cell | str]:
        case = _case(FAMILIES, problem, "")
        yield problem
        yield interval(results.worth.interval(case, LEFT_OUT, "score"), 3)._replace(look="top")
        for other in (CARRIED, PLAIN, LINES):
            yield _versus(results, FAMILIES, problem, "", (LEFT_OUT, other), "score")

    heads = ["left out", f"**{LEFT_OUT}**: score", "minus the fixed schedule", "minus plain descent"]
    return listed([*heads, "minus line search"], ([*cells(problem)] for problem in results.found.transfer.problems))


def _orders(results: Results) -> list[Table]:
    """Orders gained on the problems left out: beside plain descent and the same steps, and beside agents that know them."""
    found = results.found

    def mean(problem: str, agent: str) -> str:
        if (key := (FAMILIES, problem, "", agent)) not in found.played:
            return ""
        lost = 100 * results.share(key, "diverged")
        said = f"{results.worth.mean(_case(FAMILIES, problem, ''), _named_as(key)['agent'], GAINED):.2f}"
        return f"{said} ({lost:.1f} %)" if lost else said

    def table(agents: Sequence[str], rivals: Sequence[str]) -> Table:
        def cells(problem: str) -> list[Cell | str]:
            more = [_versus(results, FAMILIES, problem, "", (LEFT_OUT, rival), GAINED) for rival in rivals]
            return [problem, *(mean(problem, agent) for agent in agents), *more]

        return listed(
            ["left out", *agents, *(f"minus {rival}" for rival in rivals)], map(cells, found.transfer.problems)
        )

    alike = [] if found.transfer.optimizer is None else [STEPS]
    knowing = [RULE, OWN, OWN_FIXED]
    return [table([PLAIN, LEFT_OUT], [PLAIN, *alike]), table([LEFT_OUT, *knowing], [])]


def _pivoted(
    results: Results,
    question: str,
    variants: Sequence[str],
    others: Sequence[str],
    head: Callable[[str, str], str],
    measure: str,
    policy: str = OWN,
) -> Table:
    """A row per problem that a policy was played on; a column per variant and rival: the difference in worth there."""
    columns = [(variant, other) for variant in variants for other in others]
    asked = [key for key in results.found.played if key[0] == question]

    def cells(problem: str) -> list[Cell | str]:
        found = results.found.played
        return [problem] + [
            _versus(results, question, problem, variant, (policy, other), measure)
            if (question, problem, variant, other) in found
            else ""
            for variant, other in columns
        ]

    played = [
        one for one in results.found.transfer.problems if any(key[1] == one and key[3] == policy for key in asked)
    ]
    return listed(["problem", *(head(*one) for one in columns)], map(cells, played))


def _budgets(results: Results) -> Table:
    variants = [f"{factor:g}" for factor in results.found.transfer.longer]
    others = {OWN_FIXED: "that of the ordinary budget", LONGER: "that tuned for it"}
    head = lambda variant, other: f"x {variant}, minus {others[other]}"  # noqa: E731
    return _pivoted(results, BUDGETS, variants, [*others], head, "score")


def _rates(results: Results) -> Table:
    variants = [f"{factor:g}" for factor in results.found.transfer.factors if factor != 1.0]
    return _pivoted(results, RATES, variants, [OWN_FIXED], lambda variant, _: f"x {variant}", "score")


def _tolerances(results: Results, policy: str = OWN) -> Table:
    variants = [f"{factor:g}" for factor in results.found.transfer.tolerances]
    return _pivoted(results, TOLERANCES, variants, [RULE], lambda variant, _: f"x {variant}", GAINED, policy)


def _sizes(results: Results) -> Table:
    def cells(problem: str, variant: str) -> Iterator[Cell | str]:
        yield f"{problem}, {variant}"
        yield interval(results.worth.interval(_case(SIZES, problem, variant), OWN, "score"), 3)._replace(look="top")
        for other in (OWN_FIXED, PLAIN):
            yield _versus(results, SIZES, problem, variant, (OWN, other), "score")
        yield _versus(results, SIZES, problem, variant, (OWN, OWN_FIXED), GAINED)

    problems = results.found.transfer.problems
    cases = [(problem, variant) for problem in problems for variant in results.variants(SIZES, problem)]
    heads = [
        "problem, size",
        f"**{OWN}**: score",
        "minus the fixed schedule",
        "minus plain descent",
        "orders, minus the fixed",
    ]
    return listed(heads, ([*cells(*case)] for case in cases))


RIVALS = {
    FAMILIES: (LEFT_OUT, CARRIED),
    BUDGETS: (OWN, LONGER),
    RATES: (OWN, OWN_FIXED),
    SIZES: (OWN, OWN_FIXED),
    TOLERANCES: (OWN, RULE),
}
"""Who is compared in the picture of a question."""


@matplotlib.rc_context(SETTINGS)
def _drawn(results: Results) -> bytes:
    """Differences in score between the policies and their rivals: a panel per question, a row per problem."""
    transfer = results.found.transfer
    figure, axes = panels(len(transfer.questions), 0.42 * len(transfer.problems) + 0.8)
    for axis, question in zip(axes, transfer.questions, strict=True):
        policy, rival = RIVALS[question]
        for row, problem in enumerate(transfer.problems):
            variants = results.variants(question, problem)
            for place, variant in enumerate(variants):
                ends = results.difference(question, problem, (variant, policy), (variant, rival), "score")
                height = row + 0.7 * ((place + 0.5) / len(variants) - 0.5)
                colour = f"C{place % 10}"
                axis.plot(ends[1:], [height, height], color=colour, linewidth=1.4)
                label = f"x {variant}" if row == 0 and question in (BUDGETS, RATES, TOLERANCES) else None
                axis.plot(ends[0], height, "o", color=colour, markersize=4, label=label)
        axis.axvline(0.0, color="#333333", linewidth=1.0)
        axis.set_yticks(range(len(transfer.problems)), transfer.problems)
        axis.set_ylim(len(transfer.problems) - 0.5, -0.5)
        axis.set_title(f"{question}: policies minus the {rival}")
        axis.set_xlabel("difference of the score (95 %)")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=7)
        axis.grid(visible=False, axis="y")
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _carried(found: Carried) -> Iterator[dict[str, Any]]:
    """The schedules that were carried, and where they were played."""
    kinds = [CARRIED] if found.transfer.optimizer is None else [CARRIED, CARRIED_STEPS]
    for problem in found.transfer.problems:
        place = found.grounds[problem]
        for kind in kinds:
            yield {
                "what": kind,
                "left out": " and ".join(found.transfer.together(problem)),
                "played on": problem,
                **{name: getattr(place, name) for name in ("rate", "steps_per_action", "symmetry")},
                **found.tuned[kind, problem]["config"],
            }


def _effort(found: Carried) -> Iterator[dict[str, Any]]:
    for (kind, problem), one in found.tuned.items():
        if (where := _place(found, kind, problem, (CARRIED, CARRIED_STEPS))) is not None:
            edges = ", ".join(one["edges"])
            yield {
                "what": kind,
                "problem": where,
                **{name: one[name] for name in ("tried", "episodes")},
                "edges": edges,
            }
    for (kind, problem), trained in found.trained.items():
        if (where := _place(found, kind, problem, (LEFT_OUT,))) is not None:
            yield {"what": kind, "problem": where, "decisions": sum(one["decisions"] for one in trained)}


def _place(found: Carried, kind: str, problem: str, without: tuple[str, ...]) -> str | None:
    """Where something was made; None where its kin, which has the same, is listed."""
    if kind not in without:
        return problem
    return _others(found, problem) if problem == found.transfer.together(problem)[0] else None


def _others(found: Carried, problem: str) -> str:
    return f"all but {' and '.join(found.transfer.together(problem))}"
