"""What the full protocol's numbers say: shares of gaps, and for each target whether it holds. Everything is computed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from study.baselines import DISTILLED, FIXED, RATE_SCHEDULE, WHITENING_CYCLE
from study.contestants import LEARNED, MOMENTUM, RATE_ONLY, WHITENED
from study.page import Finding, Verdict, finding, told
from study.protocol import Evidence, Oracle, further_policies
from study.shared import SEVEN
from study.worth import Worth
from teleport_env.agents.comparison import statistics, summary
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.tables import interval, number, percent
from teleport_env.envs.rewards import Score

if TYPE_CHECKING:
    import pandas as pd

MATRICES = ("MatrixFactorization", "LinearNetwork", "MLPRegression")
BATCHES = ("Digits", "MNISTSmall")
GAPS = ("Quadratic", "Rosenbrock", "RosenbrockND")
L_BFGS = "L-BFGS"
_NONE = Interval(math.nan, math.nan, math.nan)


class Measured:
    """The episodes of a protocol, problem by problem.

    Args:
        evidence: Evidence that was gathered.
        results: The frame of its rows.
        table: `summary.summary_table` of them.
    """

    def __init__(self, evidence: Evidence, results: pd.DataFrame, table: pd.DataFrame) -> None:
        self.evidence, self.results, self.table = evidence, results, table
        self.worth = Worth(evidence.rows, evidence.targets)
        self.problems = list(dict.fromkeys(results["problem"]))
        self._gained: dict[tuple[str, str], Any] = {
            key: frame.set_index(["seed", "instance_id"])["gained"]
            for key, frame in results.groupby(["problem", "agent"], sort=False)
        }

    def has(self, problem: str, agent: str) -> bool:
        """Whether the agent was played on the problem."""
        return (problem, agent) in self._gained

    def row(self, problem: str, agent: str) -> Mapping[str, Any]:
        """The agent's row of the summary."""
        found = self.table[(self.table["problem"] == problem) & (self.table["agent"] == agent)]
        return dict(found.iloc[0])

    def best(self, problem: str, kinds: Sequence[str], apart: Sequence[str] = ()) -> str | None:
        """The agent of some kinds with the highest mean on these episodes, some agents apart; None where there is none."""
        rows = self.table[(self.table["problem"] == problem) & self.table["kind"].isin(list(kinds))]
        rows = rows[~rows["agent"].isin(list(apart))]
        return str(rows.loc[rows["mean"].idxmax(), "agent"]) if len(rows) else None

    def _paired(self, problem: str, first: str, *others: str) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Agents' values on the first one's episodes, and the units of resampling."""
        index = self._gained[problem, first].index
        values = [self._gained[problem, agent].loc[index].to_numpy(dtype=np.float64) for agent in (first, *others)]
        units = {"seeds": index.get_level_values(0).to_numpy(), "instances": index.get_level_values(1).to_numpy()}
        return values, units

    def difference(self, problem: str, agent: str, other: str) -> Interval:
        """Mean paired difference with its interval."""
        (x, y), units = self._paired(problem, agent, other)
        return statistics.crossed_bootstrap(x - y, **units, statistic=statistics.mean)

    def divergences(self, problem: str, agent: str, other: str) -> Interval:
        """Diverged runs of an agent minus those of another, in percent of the runs, with its interval."""
        rows = self.results[self.results["problem"] == problem]
        x, y = (
            rows[rows["agent"] == name].set_index(["seed", "instance_id"])["diverged"].astype(np.float64)
            for name in (agent, other)
        )
        seeds, instances = (x.index.get_level_values(level).to_numpy() for level in (0, 1))
        return statistics.crossed_bootstrap(100.0 * (x - y.loc[x.index]).to_numpy(), seeds, instances, statistics.mean)

    def improvement(self, problem: str, agent: str, other: str) -> float:
        """Probability that an episode gains more, ties half."""
        (x, y), _ = self._paired(problem, agent, other)
        return float(statistics.improvement(x, y).mean())

    def oracle(self, problem: str) -> Oracle | None:
        """The best of each instance among all fixed schedules that were tried, with teleports or without."""
        found = [
            one
            for name in (FIXED, RATE_SCHEDULE)
            if (one := self.evidence.oracles.get((problem, f"oracle of {name}s")))
        ]
        if not found:
            return None
        best = {instance: max(one.best[instance] for one in found) for instance in found[0].best}
        return Oracle(best, sum(one.among for one in found))

    def gap_closed(self, problem: str, agent: str) -> Interval:
        """Share of the gap from the best fixed schedule to the `oracle` that an agent closes.

        Instance by instance the oracle is at least as good as the best fixed schedule's mean over its seeds.
        """
        fixed, found = self.best(problem, ["fixed"]), self.oracle(problem)
        if fixed is None or found is None:
            return _NONE
        (x, y), units = self._paired(problem, agent, fixed)
        instances = units["instances"].tolist()
        mean = {instance: y[units["instances"] == instance].mean() for instance in set(instances)}
        ceiling = np.array([max(found.best[instance], mean[instance]) for instance in instances])
        return statistics.ratio_of_means(x - y, ceiling - y, **units)

    def oracle_difference(self, problem: str) -> Interval:
        """Oracle of fixed schedules minus that of rate schedules, instance by instance: what teleports give in hindsight.

        Each is the best of what its own search tried, so that it may be negative where teleports give nothing.
        """
        found = [self.evidence.oracles.get((problem, f"oracle of {name}s")) for name in (FIXED, RATE_SCHEDULE)]
        if found[0] is None or found[1] is None:
            return _NONE
        ids = sorted(found[0].best)
        x, y = (np.array([one.best[instance] for instance in ids]) for one in (found[0], found[1]))
        return statistics.crossed_bootstrap(x - y, np.zeros(len(ids)), ids, statistics.mean)

    def distance_closed(self, problem: str, agent: str) -> Interval:
        """Share of the distance from plain descent to L-BFGS that an agent closes."""
        if not self.has(problem, summary.PLAIN) or not self.has(problem, L_BFGS):
            return _NONE
        (x, plain, top), units = self._paired(problem, agent, summary.PLAIN, L_BFGS)
        return statistics.ratio_of_means(x - plain, top - plain, **units)

    def rivals(self, problem: str) -> list[str]:
        """Baselines and controls that were played."""
        rows = self.table[(self.table["problem"] == problem) & self.table["kind"].isin(list(summary.BASELINES))]
        return [str(agent) for agent in rows["agent"]]

    def best_by(self, problem: str, measure: str) -> str | None:
        """The best baseline or control by another measure than orders gained, on these episodes."""
        return self.worth.best(problem, self.rivals(problem), measure)

    def target(self, problem: str) -> int:
        """The hardest target that half of the episodes of the best baseline or control reach, as an index of the ladder."""
        best = self.best_by(problem, "score")
        return 0 if best is None else self.worth.target(problem, best)


# -- the targets -------------------------------------------------------------------------------------------------------


LINE_SEARCH = "momentum with line search"
ORDERS = "at least +2 orders of magnitude"


def findings(measured: Measured) -> list[Finding]:
    """Every target of the comparison, in the order of the page; where only some are trained, those that were measured.

    Trainings by the score have no targets by final loss: these come last there, aside.
    """
    best = "best baseline or control"

    def everywhere(
        target: str,
        problems: Sequence[str],
        value: Callable[[str], Interval | None],
        good: Callable[[Interval], bool],
    ) -> Finding:
        """A target that must hold on each of some problems."""

        def judge(problem: str) -> Verdict:
            found = value(problem) if measured.has(problem, LEARNED) else None
            if found is None or math.isnan(found.low):
                return None, ""
            return good(found), f"{problem} {told(found)}"

        return finding(target, map(judge, problems))

    def versus(agent: str, other: str) -> Callable[[str], Interval | None]:
        return lambda problem: _versus(measured, problem, agent, other)

    def to_best(*apart: str) -> Callable[[str], Interval | None]:
        def value(problem: str) -> Interval | None:
            other = measured.best(problem, summary.BASELINES, apart)
            return None if other is None else _versus(measured, problem, LEARNED, other)

        return value

    apart, minus, menu = f"{DISTILLED} apart", f"Minus the {best} on the same episodes", "With whitenings in the menu:"
    zero, cycle = "the interval lies above zero", "cycle of whitenings"
    without = f"the policy without them is not worse than a tuned {cycle}"
    gap = "At least 60 % of the gap from the best fixed schedule to the oracle of each instance is closed"
    rule = f"Nowhere significantly worse than {DISTILLED}, the rule that was read off learned policies"
    scored = [
        _by_targets(measured, "score", "By targets, at equal cost"),
        _by_targets(measured, "time_score", "By targets, at equal processor seconds"),
    ]
    by_final_loss = [
        everywhere(f"{minus}, {apart}: {zero}", SEVEN, to_best(DISTILLED), _above),
        everywhere(
            f"Nowhere significantly worse than the {best}, {apart}", measured.problems, to_best(DISTILLED), _not_below
        ),
        everywhere(f"{minus}, {DISTILLED} among them: {zero}", SEVEN, to_best(), _above),
        everywhere(rule, measured.problems, versus(LEARNED, DISTILLED), _not_below),
        everywhere(
            gap, GAPS, lambda problem: measured.gap_closed(problem, LEARNED), lambda share: share.estimate >= 0.6
        ),
        everywhere(f"Minus {RATE_ONLY}: {ORDERS}", MATRICES, versus(LEARNED, RATE_ONLY), _two_orders),
        everywhere(f"Better than tuned {LINE_SEARCH}", MATRICES, versus(LEARNED, LINE_SEARCH), _above),
        # the policy whose menu is whitenings against what it has to beat, and the other one against their cycle
        everywhere(f"{menu} minus {RATE_ONLY}, {ORDERS}", MATRICES, versus(WHITENED, RATE_ONLY), _two_orders),
        everywhere(f"{menu} better than tuned {LINE_SEARCH}", MATRICES, versus(WHITENED, LINE_SEARCH), _above),
        everywhere(f"{menu} not worse than the tuned {cycle}", MATRICES, versus(WHITENED, WHITENING_CYCLE), _not_below),
        everywhere(f"{menu} {without}", MATRICES, versus(LEARNED, WHITENING_CYCLE), _not_below),
        _momentum(measured),
        _batches(measured),
        *_generalists(measured),
    ]
    of_the_run = [*_divergence(measured), _training_time(measured), _saturation(measured), _edges(measured)]
    if measured.evidence.protocol.reward == Score.name:
        every = [*scored, *of_the_run, *(dataclasses.replace(one, aside=True) for one in by_final_loss)]
    else:
        every = [*scored, *by_final_loss, *of_the_run]
    # what was left out on purpose is no open question
    some = measured.evidence.protocol.trained
    return [one for one in every if not (some and one.holds == "not measured")]


def _above(interval: Interval) -> bool:
    return interval.low > 0


def _not_below(interval: Interval) -> bool:
    return interval.high >= 0


def _two_orders(interval: Interval) -> bool:
    return interval.estimate >= 2.0


def _versus(measured: Measured, problem: str, agent: str, other: str) -> Interval | None:
    """The difference of two agents; None where one was not played, or too little for an interval."""
    if not measured.has(problem, agent) or not measured.has(problem, other):
        return None
    found = measured.difference(problem, agent, other)
    return None if math.isnan(found.low) else found


def _by_targets(measured: Measured, measure: str, how: str) -> Finding:
    """Learned against the best of all baselines and controls by the score, on half of the problems and worse on none."""
    found = {}
    for problem in measured.problems:
        other = measured.best_by(problem, measure)
        if other is not None and measured.has(problem, LEARNED):
            found[problem] = measured.worth.difference(problem, LEARNED, other, measure)
    known = {problem: one for problem, one in found.items() if not math.isnan(one.low)}
    above, below = ([name for name, one in known.items() if test(one)] for test in (_above, lambda one: one.high < 0))
    enough = not below and 2 * len(above) >= len(measured.problems)
    verdict = "not measured" if not known else "yes" if enough else "no"
    details = "; ".join(f"{problem} {interval(one, 3, sign=True)}" for problem, one in known.items())
    target = f"{how}: better than the best of all baselines and controls on half of the problems, worse on none"
    return Finding(target, verdict, f"better on {len(above)}, worse on {len(below)}. {details}")


def _momentum(measured: Measured) -> Finding:
    names = ("Adam", "momentum", LINE_SEARCH, "Polyak's step")
    target = f"On momentum: better than tuned {', '.join(names[:-1])} and {names[-1]}, all four, on at least 5 problems"
    above, details = 0, []
    for problem in measured.problems:
        known = {name: value for name in names if (value := _versus(measured, problem, MOMENTUM, name)) is not None}
        if problem not in SEVEN or len(known) < len(names):
            continue
        worst = min(known, key=lambda name: known[name].estimate)
        wins = all(map(_above, known.values()))
        above += wins
        details.append(f"{problem}: to {worst} {told(known[worst])}{'' if wins else ' (no)'}")
    possible = above + len(SEVEN) - len(details)
    verdict = "yes" if above >= 5 else "no" if possible < 5 else "not measured"
    return Finding(target, verdict, f"better on {above} of {len(details)}. " + "; ".join(details))


def _batches(measured: Measured) -> Finding:
    """Where the prototypes found nothing that a rate schedule does not give."""

    def judge(problem: str) -> Verdict:
        found = _versus(measured, problem, LEARNED, RATE_SCHEDULE)
        if found is None:
            return None, ""
        used = f"with {number(measured.row(problem, LEARNED)['teleports'], 1)} teleports per episode"
        gains = f"teleports give the oracle {told(measured.oracle_difference(problem))}"
        return _not_below(found), f"{problem} {told(found)} {used}; {gains}"

    target = "With mini-batches: not worse than the best rate schedule, with what the oracle gains by teleports"
    return finding(target, map(judge, BATCHES))


def _generalists(measured: Measured) -> Iterator[Finding]:
    """Further policies that were trained on several problems: on those, and on others."""
    for name, (policy, _) in further_policies(measured.evidence.protocol).items():
        if len(policy.problems) < 2:
            continue
        fixed = {problem: measured.best(problem, ["fixed"]) for problem in measured.problems}
        versus = {problem: one and _versus(measured, problem, name, one) for problem, one in fixed.items()}
        found = {problem: value for problem, value in versus.items() if isinstance(value, Interval)}
        known = {problem: value for problem, value in found.items() if problem in policy.problems}
        above = sum(map(_above, known.values()))
        missing = set(SEVEN) - set(known)
        fine = all(map(_not_below, known.values()))
        verdict = "no" if not fine or above + len(missing) < 5 else "not measured" if missing else "yes"
        details = "; ".join(f"{problem} {told(value)}" for problem, value in known.items())
        target = f"One policy ({name}): nowhere significantly worse than the best fixed schedule, better on at least 5"
        yield Finding(target, verdict, f"better on {above} of {len(known)}. {details}")
        others = {problem: value for problem, value in found.items() if problem not in policy.problems}
        if others:
            # the best fixed schedule that was tuned on the problem itself is at least as good as one tuned on others
            verdict = "yes" if all(map(_not_below, others.values())) else "not measured"
            details = "; ".join(f"{problem} {told(value)}" for problem, value in others.items())
            target = f"{name} on what it has not seen: no worse than a fixed schedule that has not seen it either"
            yield Finding(target, verdict, f"minus the best that was tuned on it, which is harder: {details}")


def _divergence(measured: Measured) -> Iterator[Finding]:
    """Counted, and with the interval of the difference: one run in a thousand more is counted, but is no difference."""

    def fixed_on(problem: str) -> str | None:
        return measured.best(problem, ["fixed"]) if measured.has(problem, LEARNED) else None

    def counted(problem: str) -> Verdict:
        fixed = fixed_on(problem)
        if fixed is None:
            return None, ""
        mine, its = (float(measured.row(problem, agent)["diverged"]) for agent in (LEARNED, fixed))
        return mine <= its, f"{problem} {percent(mine)} against {percent(its)}"

    def compared(problem: str) -> Verdict:
        fixed = fixed_on(problem)
        more = None if fixed is None else measured.divergences(problem, LEARNED, fixed)
        if more is None or math.isnan(more.low):
            return None, ""
        return more.low <= 0, f"{problem} {told(more)}"

    yield finding("No more divergences than the best fixed schedule", map(counted, measured.problems))
    target = "Nowhere significantly more divergences than the best fixed schedule (percent of the runs)"
    yield finding(target, map(compared, measured.problems))


def _training_time(measured: Measured) -> Finding:
    def judge(problem: str) -> Verdict:
        found = [one for one in measured.evidence.trained.get((problem, LEARNED), []) if not one["resumed"]]
        slowest = max((one["seconds"] for one in found), default=None)
        return (None, "") if slowest is None else (slowest < 300, f"{problem} {slowest:.0f} s")

    target = "One training takes less than 5 minutes (the slowest seed; one process, with others beside it)"
    return finding(target, map(judge, measured.problems))


def _saturation(measured: Measured) -> Finding:
    def judge(problem: str) -> Verdict:
        best = measured.best(problem, summary.BASELINES)
        rows = measured.results[(measured.results["problem"] == problem) & (measured.results["agent"] == best)]
        share = float(rows["converged"].mean())
        return (None, "") if math.isnan(share) else (share < 0.5, f"{problem} {percent(share, 0)}")

    target = "Budgets do not saturate: less than half of the best baseline's episodes reach the tolerance"
    return finding(target, map(judge, measured.problems))


def _edges(measured: Measured) -> Finding:
    edges = [
        f"{problem}, {family}: {', '.join(found['edges'])}"
        for (problem, family), found in measured.evidence.tuned.items()
        if found["edges"]
    ]
    target = "No tuned baseline lies at an edge of its grid beyond which a better one might lie"
    return Finding(target, "no" if edges else "yes", "; ".join(edges) or f"{len(measured.evidence.tuned)} tuned")


def hindsight(measured: Measured, problem: str) -> dict[str, tuple[float, int]]:
    """Means of the choices in hindsight by name, and how many candidates each chose among."""
    every = measured.oracle(problem)
    found = {} if every is None else {"oracle of all fixed schedules": every}
    found |= {name: one for (where, name), one in measured.evidence.oracles.items() if where == problem}
    return {name: (float(np.mean([*one.best.values()])), one.among) for name, one in found.items()}
