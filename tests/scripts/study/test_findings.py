"""What is said of the numbers is what the numbers say: verdicts, shares of gaps, costs to a target, on made-up episodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.findings import GAPS, MATRICES, SEVEN, Measured, findings
from study.page import Finding
from study.protocol import Evidence, Oracle, Protocol
from study.results_page import _gained, _scores, _times
from study.worth import orders
from teleport_env.agents.comparison import tables
from teleport_env.agents.comparison.summary import COLUMNS, summary_table
from teleport_env.agents.comparison.targets import STEP

INSTANCES = 40
RUNGS = STEP * np.arange(1, 66)
KINDS = {
    "never": "fixed",
    "fixed schedule": "fixed",
    "relative decrease": "adaptive",
    "edge of stability": "adaptive",
    "learned rate only": "control",
    "learned": "learned",
    "learned, momentum": "learned",
    "learned, whitening": "learned",
    "whitening cycle": "reference",
    "momentum with line search": "reference",
    "momentum": "reference",
    "Adam": "reference",
    "Polyak's step": "reference",
    "L-BFGS": "reference",
}
MEANS = {
    "never": 2.0,
    "fixed schedule": 6.0,
    "relative decrease": 6.5,
    "edge of stability": 6.4,
    "learned rate only": 5.0,
    "learned": 8.0,
    "learned, momentum": 9.0,
    "learned, whitening": 8.5,
    "whitening cycle": 7.5,
    "momentum with line search": 7.0,
    "momentum": 6.0,
    "Adam": 6.0,
    "Polyak's step": 6.0,
    "L-BFGS": 12.0,
}


def measured(
    problems: tuple[str, ...] = SEVEN,
    oracle: float = 9.0,
    diverged: float = 0.0,
    instances: int = INSTANCES,
    seeds: int = 2,
    **means: float,
) -> Measured:
    """Episodes of agents with some means on every problem; names in ``means`` with spaces written as underscores."""
    generator = np.random.default_rng(0)
    own = {**MEANS, **{name.replace("_", " "): value for name, value in means.items()}}
    evidence = Evidence(Protocol(problems=problems, out=Path("x")))
    for problem in problems:
        easy = generator.normal(size=instances)
        for agent, mean in own.items():
            for seed in range(seeds):
                gained = mean + easy + 0.2 * generator.normal(size=instances)
                gained = gained - gained.mean() + mean
                evidence.rows += [
                    {
                        **dict.fromkeys(COLUMNS, 0.0),
                        "problem": problem,
                        "agent": agent,
                        "kind": KINDS[agent],
                        "seed": seed,
                        "instance_id": instance,
                        "split": "test",
                        "budget": 100.0,
                        "cost": 100.0,
                        "gained": float(gained[instance]),
                        "converged": False,
                        "diverged": agent == "learned" and instance < diverged * instances,
                    }
                    for instance in range(instances)
                ]
        evidence.targets += [ladder(row, own[row["agent"]]) for row in evidence.rows if row["problem"] == problem]
        for name, value in (("fixed schedules", oracle), ("rate schedules", 4.0)):
            best = {instance: value + float(easy[instance] - easy.mean()) for instance in range(instances)}
            evidence.oracles[problem, f"oracle of {name}"] = Oracle(best, 100)
        evidence.trained[problem, "learned"] = [{"resumed": False, "seconds": 100.0}]
    results = pd.DataFrame(evidence.rows, columns=list(COLUMNS))
    return Measured(evidence, results, summary_table(results, resamples=50))


def ladder(row: dict[str, Any], mean: float) -> dict[str, Any]:
    """An order of magnitude for 10 evaluations, as many as the agent gains on average; an evaluation takes 2 ms."""
    costs = np.where(mean + 1e-9 >= RUNGS, 10.0 * RUNGS, np.inf)
    names = ("problem", "agent", "seed", "instance_id", "budget")
    own = {"spent": 100.0, "pace": 0.002, "costs": (*costs.tolist(),), "seconds": (*(0.002 * costs).tolist(),)}
    return {**{name: row[name] for name in names}, **own}


def verdict(found: list[Finding], begins: str) -> Finding:
    return next(one for one in found if one.target.startswith(begins))


@pytest.fixture(scope="module")
def good() -> Measured:
    return measured()


def test_every_target_holds_where_the_numbers_say_so(good: Measured) -> None:
    found = findings(good)
    held = {one.target: one.holds for one in found if not one.target.startswith("With mini-batches")}
    assert set(held.values()) == {"yes"}, held
    assert verdict(found, "With mini-batches").holds == "not measured"
    assert "Quadratic +1.50 [" in verdict(found, "Minus the best").detail
    assert "MLPRegression +3.00 [" in verdict(found, "Minus learned rate only").detail


def test_what_was_left_out_on_purpose_is_no_open_question(good: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    before = findings(good)
    monkeypatch.setattr(good.evidence, "protocol", Protocol(problems=SEVEN, trained=("learned",), out=Path("x")))
    after = findings(good)
    assert [one for one in before if one.holds != "not measured"] == after
    assert len(after) < len(before)


def test_shares_are_of_the_means(good: Measured) -> None:
    assert good.best("Booth", ["fixed"]) == "fixed schedule"
    assert good.gap_closed("Booth", "learned").estimate == pytest.approx((8 - 6) / (9 - 6), abs=0.02)
    assert good.gap_closed("Booth", "fixed schedule").estimate == 0.0
    closed = good.distance_closed("Booth", "learned")
    assert closed.estimate == pytest.approx((8 - 2) / (12 - 2))
    assert closed.low < closed.estimate < closed.high
    assert good.oracle_difference("Booth").estimate == pytest.approx(9.0 - 4.0)


def test_the_gap_is_to_the_better_of_both_oracles() -> None:
    few = measured(("Booth",), oracle=3.0)  # below that of rate schedules, 4, and below the best fixed schedule, 6
    best = few.oracle("Booth")
    assert best is not None
    assert np.mean([*best.best.values()]) == pytest.approx(4.0)
    assert best.among == 200
    share = few.gap_closed("Booth", "learned")
    assert np.isnan(share.estimate) or share.estimate > 1  # no gap to speak of


def test_the_cost_to_the_target_is_to_what_the_best_baseline_reaches(good: Measured) -> None:
    place = good.target("Booth")
    assert good.best_by("Booth", "score") == "relative decrease"
    assert orders(place) == pytest.approx(6.4)  # 6.5 is no target
    assert good.worth.expected_time("Booth", "learned", place).estimate == pytest.approx(64.0)
    assert good.worth.expected_time("Booth", "learned", place, "seconds").estimate == pytest.approx(0.128)
    assert np.isnan(good.worth.expected_time("Booth", "never", place).estimate)


@pytest.mark.parametrize(
    ("begins", "changes"),
    [
        ("Minus the best", {"learned": 6.5}),
        ("Minus the best", {"learned_rate_only": 8.2}),
        ("Nowhere significantly worse than the best", {"learned": 6.0}),
        (
            "Minus the best baseline or control on the same episodes, edge of stability among",
            {"edge_of_stability": 8.0},
        ),
        ("Nowhere significantly worse than edge of stability", {"edge_of_stability": 8.3}),
        ("At least 60 %", {"oracle": 11.0}),
        ("Minus learned rate only", {"learned": 6.9}),
        ("Better than tuned momentum", {"momentum_with_line_search": 8.0}),
        ("On momentum", {"Adam": 9.5}),
        ("With whitenings in the menu: minus", {"learned,_whitening": 6.9}),
        ("With whitenings in the menu: better than", {"momentum_with_line_search": 8.6}),
        ("With whitenings in the menu: not", {"whitening_cycle": 8.7}),
        ("With whitenings in the menu: the policy", {"whitening_cycle": 8.2}),
        ("No more divergences", {"diverged": 0.1}),
        ("Nowhere significantly more divergences", {"diverged": 0.2}),
    ],
)
def test_a_target_that_is_missed_is_told(begins: str, changes: dict[str, float]) -> None:
    missed = verdict(findings(measured(("Quadratic", "LinearNetwork", "MLPRegression"), **changes)), begins)
    assert missed.holds == "no"
    assert "(no)" in missed.detail


def test_the_rule_read_off_policies_is_told_apart_and_nowhere_left_out() -> None:
    strong = measured(("Booth",), edge_of_stability=9.0)
    found = findings(strong)
    assert "Booth +1.50 [" in verdict(found, "Minus the best").detail  # to relative decrease
    assert "Booth -1.00 [" in verdict(found, "Nowhere significantly worse than edge of stability").detail
    assert strong.best("Booth", ["adaptive"]) == "edge of stability"
    assert strong.row("Booth", "learned")["baseline"] == "edge of stability"


def test_what_was_not_played_is_not_said_to_hold() -> None:
    found = findings(measured(("Booth",)))
    assert verdict(found, "Minus the best").holds == "not measured"
    assert verdict(found, "Nowhere significantly worse than the best").holds == "yes"
    assert {verdict(found, begins).holds for begins in ("At least 60 %", "Better than tuned momentum")} == {
        "not measured"
    }
    missed = findings(measured(("Booth",), learned=6.0))
    assert verdict(missed, "Minus the best").holds == "no"  # one is enough


def test_a_divergence_in_a_hundred_is_counted_but_is_no_difference() -> None:
    found = findings(measured(("Booth",), diverged=0.025))  # one instance of forty
    assert verdict(found, "No more divergences").holds == "no"
    told = verdict(found, "Nowhere significantly more divergences")
    assert told.holds == "yes"
    assert told.detail.startswith("Booth +2.50 [0.00")


def test_an_edge_and_a_saturated_budget_are_told(good: Measured) -> None:
    fresh = measured(("Booth",))
    fresh.evidence.tuned["Booth", "stall"] = {"edges": ["rate"], "episodes": 1}
    fresh.results.loc[fresh.results["agent"] == "relative decrease", "converged"] = True
    found = findings(fresh)
    assert verdict(found, "No tuned baseline").detail == "Booth, stall: rate"
    assert verdict(found, "No tuned baseline").holds == "no"
    assert verdict(found, "Budgets do not saturate").holds == "no"


def test_the_problems_of_the_targets() -> None:
    assert set(GAPS) | set(MATRICES) < set(SEVEN)


def test_a_training_by_the_score_has_no_targets_by_final_loss(good: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the page by the score said "no" to targets of trainings for the final loss."""
    assert not any(one.aside for one in findings(good))
    monkeypatch.setattr(good.evidence, "protocol", Protocol(problems=SEVEN, reward="score", out=Path("x")))
    found = findings(good)
    assert [one.target[:10] for one in found[:2]] == ["By targets", "By targets"]
    beginnings = ("Minus the best", "Nowhere significantly worse", "Better than tuned", "Minus learned rate only")
    assert all(verdict(found, begins).aside for begins in beginnings)
    kept = [one for one in found if not one.aside]
    assert found[: len(kept)] == kept
    assert not re.search("orders|worse than the best baseline", " ".join(one.target for one in kept))


def test_scores_are_those_of_the_targets(good: Measured) -> None:
    """Learned reaches 40 of the 60 targets within reach, each at ten evaluations per order."""
    costs = np.clip(np.where(RUNGS[:60] <= 8.0, 10.0 * RUNGS[:60], 100.0), 1.0, 100.0)
    assert good.worth.mean("Booth", "learned", "score") == pytest.approx(1.0 - np.mean(np.log(costs)) / np.log(100.0))
    assert good.worth.mean("Booth", "learned", "reached") == pytest.approx(40 / 60)
    assert good.worth.mean("Booth", "learned", "time_score") == pytest.approx(
        good.worth.mean("Booth", "learned", "score")
    )
    held = [one for one in findings(good) if one.target.startswith("By targets")]
    assert [one.holds for one in held] == ["yes", "yes"]
    assert held[0].detail.startswith("better on 7, worse on 0. Quadratic +0.")
    missed = findings(measured(("Booth",), learned=6.0))
    assert verdict(missed, "By targets, at equal cost").holds == "no"


def test_the_table_of_scores_names_the_rival_in_equal_time(good: Measured) -> None:
    """Regression: the column read as if its rival were the one at equal cost."""
    rows = tables.markdown(_scores(good)).splitlines()[2:]
    assert len(rows) == len(good.problems)
    for problem, row in zip(good.problems, rows, strict=True):
        assert f"({good.best_by(problem, 'time_score')}) |" in row.rpartition("] ")[2]


def test_one_episode_is_no_evidence() -> None:
    """Regression: an interval that there is too little for was an error, or a verdict."""
    one = measured(("Booth",), instances=1, seeds=1)
    found = {finding.target: finding for finding in findings(one)}
    compared = [
        finding for target, finding in found.items() if "worse than" in target or "interval lies above" in target
    ]
    assert len(compared) >= 5
    assert {finding.holds for finding in compared} == {"not measured"}
    shown = [finding.detail for finding in found.values()]
    shown += [tables.markdown(table(one)) for table in (_scores, _times, _gained)]
    assert not re.search(r"\b(nan|inf)\b", " ".join(shown))
