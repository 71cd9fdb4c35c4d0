"""The factorial, so small that nothing is learned from it: cells that differ in teleports alone, verdicts, the page."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.baselines import menu_of
from study.factorial import Factored, Factorial, gather_factorial
from study.factorial_cells import CELLS, CONTROLLER, DESCENT, Cell, begun_from, trained_cells, tuned_cells
from study.factorial_page import Contributions, findings_of, write_factorial
from teleport_env.agents.play import draw_instances, play

TINY: dict[str, Any] = {
    "problems": ("Booth",),
    "split": "validation",
    "instances": 3,
    "train_seeds": 1,
    "train_decisions": 64,
    "rules": 8,
    "oracle": 4,
    "look_ahead": 2,
    "tuning_instances": 1,
    "budget": 8.0,
    "training": {"runs": 4, "rollout": 8, "segment": 1, "minibatches": 1, "plans": 2, "validation_instances": 2},
    "jobs": 1,
}
BEST, RIVAL = Cell(CONTROLLER, DESCENT, True), Cell(CONTROLLER, DESCENT, False)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Factored:
    folder = tmp_path_factory.mktemp("factorial")
    return gather_factorial(Factorial(**TINY, out=folder / "out", page=folder / "docs" / "factorial.md"), quiet)


def test_every_cell_plays_the_same_episodes_and_only_those_that_may_teleport_do(made: Factored) -> None:
    played: dict[str, set[tuple[int, int]]] = {}
    for row in made.rows:
        played.setdefault(row["agent"], set()).add((row["seed"], row["instance_id"]))
    assert set(played) == {"never", *(cell.name for cell in CELLS)}
    assert all(episodes == played["never"] for episodes in played.values())
    still = {cell.name for cell in CELLS if not cell.teleports} | {"never"}
    assert not any(row["teleports"] for row in made.rows if row["agent"] in still)
    assert any(row["teleports"] for row in made.rows)
    assert len(made.targets) == len(made.rows)


def test_a_cell_with_teleports_holds_the_cell_without() -> None:
    """From the settings found without, its tuning begins at the same episodes, bit for bit."""
    ids = draw_instances("Rosenbrock", "train", 4, 0)
    for cell, family in tuned_cells("Rosenbrock", 20.0).items():
        if cell.teleports:
            continue
        bare = {name: axis.values[len(axis.values) // 2] for name, axis in family.axes.items()}
        bare["rate"] = 1.5 * bare["rate"]  # not on the grid, as after an extension
        wider = begun_from(tuned_cells("Rosenbrock", 20.0)[cell.with_teleports], [bare])
        (first,) = wider.first
        assert set(first) == set(wider.axes)
        assert all(first[name] in axis.values for name, axis in wider.axes.items())
        assert wider.canonical(first) == first
        with_, without = (
            play("Rosenbrock", one, ids, split="train") for one in (wider.build(first), family.build(bare))
        )
        np.testing.assert_array_equal(with_.loss, without.loss)


def test_policies_with_and_without_teleports_learn_alike(tmp_path: Path) -> None:
    for problem in ("Booth", "MLPRegression"):
        trainings = {cell: one.training(0, tmp_path, {}) for cell, one in trained_cells(problem, None).items()}
        assert len(trainings) == 4
        for cell, training in trainings.items():
            other = trainings[cell.without]
            assert training.teaching.warm_start
            assert training.schedule.decisions == other.schedule.decisions
            assert training.teaching.plans == other.teaching.plans
            assert bool(training.settings().searches) == cell.teleports


def test_a_search_of_every_menu_may_open_and_follow() -> None:
    family = tuned_cells("Booth", None)[BEST]
    config = {name: axis.values[0] for name, axis in family.axes.items()}
    agent = family.build({**config, "looks": 1, "opening": 1, "first": 2})
    assert len(agent.environment["searches"]) == 2
    assert len(menu_of("Booth")) == len(family.axes["search"].values)


def test_the_page_says_what_the_episodes_say(made: Factored) -> None:
    written = write_factorial(made)
    page = written["markdown"].read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    results = Contributions(made)
    teleporting, without = results.best("Booth", True), results.best("Booth", False)
    gained = {
        cell: np.array([row["gained"] for row in made.rows if row["agent"] == cell.name])
        for cell in (teleporting, without)
    }
    adds = (gained[teleporting] - gained[without]).mean()
    row = next(line for line in page.splitlines() if line.startswith("| Booth |"))
    assert f"| {gained[without].mean():.2f} ({without.rates}, {without.optimizer}) |" in row
    assert f"| {adds:+.2f} [".replace("+0.00", "0.00").replace("-0.00", "0.00") in row
    assert (written["markdown"].parent / "images/factorial/contributions.png").exists()
    with written["details"].open(encoding="utf-8") as file:
        cells = {line["cell"]: line for line in csv.DictReader(file)}
    assert set(cells) == {cell.name for cell in CELLS}
    assert float(cells[BEST.name]["gained"]) == pytest.approx(results.mean("Booth", BEST), abs=1e-4)
    assert cells[RIVAL.name]["adds_gained"] == ""
    for one in written["findings"]:
        assert f"| {one.target} | {one.holds} |" in page


def shifted(made: Factored, problem: str, shift: float, oracle: float) -> Factored:
    """The same under another problem's name, with teleports worth so much, and so much in hindsight."""
    rows = [
        {
            **row,
            "problem": problem,
            "gained": (shift if "teleports" in row["agent"] else 0.0) + 0.01 * row["instance_id"] % 1,
        }
        for row in made.rows
    ]
    oracles = {
        (problem, cell): [oracle * cell.teleports + 0.01 * place for place in range(3)] for _, cell in made.oracles
    }
    return dataclasses.replace(
        made,
        factorial=dataclasses.replace(made.factorial, problems=(problem,)),
        rows=rows,
        targets=[{**row, "problem": problem} for row in made.targets],
        tuned={(problem, cell): one for (_, cell), one in made.tuned.items()},
        trained={(problem, cell): one for (_, cell), one in made.trained.items()},
        oracles=oracles,
        foreseen={(problem, on): {**one, "gained": [oracle * on] * 2} for (_, on), one in made.foreseen.items()},
    )


def test_verdicts_follow_the_intervals(made: Factored) -> None:
    wins = findings_of(Contributions(shifted(made, "MatrixCompletion", 1.0, 1.0)))
    assert [one.holds for one in wins][:2] == ["not measured", "yes"]  # one of five
    harm = findings_of(Contributions(shifted(made, "MatrixCompletion", -1.0, -1.0)))
    assert harm[1].holds == "no"
    assert "MatrixCompletion -1.00" in harm[1].detail
    assert "in hindsight -1.00" in harm[0].detail
    assert "looking ahead -1.00" in harm[0].detail


def test_what_an_oracle_says_is_on_the_page(made: Factored, tmp_path: Path) -> None:
    for oracle, still in ((0.0, True), (1.0, False)):
        found = shifted(made, "MatrixCompletion", 0.0, oracle)
        found.factorial = dataclasses.replace(found.factorial, page=tmp_path / "page.md")
        page = write_factorial(found)["markdown"].read_text(encoding="utf-8")
        assert ("**On MatrixCompletion the look-ahead does not beat the best cell" in page) == still
        assert "In gradient evaluations teleports are worth their price on none of these problems; on Matr" in page
    assert "looking ahead +1.00" in page


def test_what_is_done_is_not_done_again(made: Factored) -> None:
    lines: list[str] = []
    again = gather_factorial(made.factorial, lines.append)
    assert again.rows == made.rows
    assert again.targets == json.loads(json.dumps(made.targets))  # a file has no tuples
    assert all("were done before" in line for line in lines)


def test_a_problem_without_symmetries_is_refused() -> None:
    with pytest.raises(ValueError, match="rules must be an integer of at least 8"):
        Factorial(rules=2)
