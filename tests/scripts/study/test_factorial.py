"""The factorial, so small that nothing is learned from it: cells that differ in teleports alone, verdicts, the page."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.baselines import menu_of
from study.factorial import Factored, Factorial, gather_factorial
from study.factorial_cells import (
    CELLS,
    CONTROLLER,
    DESCENT,
    LEARNED_RATES,
    Cell,
    begun_from,
    trained_cells,
    tuned_cells,
)
from study.factorial_page import Contributions, findings_of, worth, write_factorial
from study.factorial_pairs import Pair
from study.pieces import content_of, write_piece
from study.shared import slug
from teleport_env.agents.comparison.tables import significant
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned import Masked
from teleport_env.agents.policies.learned_moves import policy_of

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
RATES = Cell(LEARNED_RATES, DESCENT, False)


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


def judged_as(made: Factored, out: Path, pair: Pair, changes: dict[str, Any]) -> Factored:
    """The same with other gains of a pair of tuned cells and one of trained cells, and the former's settings changed."""
    shutil.copytree(made.factorial.out, out)
    names = slug(RIVAL.name), slug(RATES.name)
    tuned, judged, masked = (
        out / "Booth" / name
        for name in (f"tuned/{names[0]}.json", f"stripped/{names[0]}.json", f"stripped/{names[1]}-0.json")
    )
    settings, (own, teleporting) = (content_of(tuned)[name] for name in ("settings", "result"))
    changed = {**teleporting, "gained": pair.teleporting, "config": {**teleporting["config"], **changes}}
    write_piece(tuned, settings, [{**own, "gained": pair.own}, changed])
    write_piece(masked, content_of(masked)["settings"], dataclasses.astuple(pair))
    if changes:
        judged.unlink()
        (out / "Booth" / "played" / f"{slug(BEST.name)}.json").unlink(missing_ok=True)
    return gather_factorial(dataclasses.replace(made.factorial, out=out), quiet)


def episodes(found: Factored, cell: Cell) -> list[tuple[float, float]]:
    return [(row["gained"], row["teleports"]) for row in found.rows if row["agent"] == cell.name]


def test_a_cell_with_teleports_that_makes_none_adds_nothing(made: Factored, tmp_path: Path) -> None:
    """Regression: it was tuned for longer than the cell without, and the difference counted as that of teleports."""
    never = {"slow": 0.0, "flatten": 4.0, "first": 0, "rate": 0.5 * made.tuned["Booth", RIVAL]["config"]["rate"]}
    found = judged_as(made, tmp_path / "out", Pair(-50.0, 9.0, 9.0), never)
    assert found.pairs["Booth", BEST][0].stripped > -50.0  # judged anew
    assert episodes(found, BEST) == episodes(found, RIVAL) != episodes(made, RIVAL)
    assert Contributions(found).difference("Booth", BEST, RIVAL) == (0.0, 0.0, 0.0)
    assert set(found.configs["Booth", RIVAL] or ()) == set(made.tuned["Booth", RIVAL]["config"])
    policy = policy_of(made.trained["Booth", RATES.with_teleports][0]["policy"]).for_problem("Booth")
    ids = draw_instances("Booth", "validation", 3, made.factorial.seed)
    masked = play("Booth", Masked(policy=policy), ids, split="validation", budget=8.0)
    assert episodes(found, RATES) == [(row["gained"], 0) for row in masked.rows]


def test_a_cell_with_teleports_may_play_as_the_cell_without(made: Factored, tmp_path: Path) -> None:
    found = judged_as(made, tmp_path / "out", Pair(50.0, 9.0, 8.0), {})
    for cell in (BEST, RATES.with_teleports):
        assert episodes(found, cell) == episodes(found, cell.without)
        assert found.configs["Booth", cell] == found.configs["Booth", cell.without]
        assert Contributions(found).difference("Booth", cell, cell.without, "time_score").high == 0.0


def test_policies_of_a_pair_are_judged_where_they_were_chosen(made: Factored) -> None:
    for cell in made.trained.keys() - {one for one in made.trained if not one[1].teleports}:
        (pair,), (own,), (teleporting,) = (made.pairs[cell], made.trained[cell[0], cell[1].without], made.trained[cell])
        judged = [pair.own, pair.teleporting]
        assert judged == pytest.approx([own["validation"], teleporting["validation"]], abs=1e-12)


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
    count = np.mean([row["teleports"] for row in made.rows if row["agent"] == teleporting.name])
    assert f"({teleporting.rates}, {teleporting.optimizer}, {significant(count)} teleports) |" in row
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
        pairs={(problem, cell): one for (_, cell), one in made.pairs.items()},
        oracles=oracles,
        foreseen={(problem, on): {**one, "gained": [oracle * on] * 2} for (_, on), one in made.foreseen.items()},
    )


def test_verdicts_follow_the_intervals(made: Factored) -> None:
    wins = findings_of(Contributions(shifted(made, "MatrixCompletion", 1.0, 1.0)))
    assert [one.holds for one in wins][:2] == ["not measured", "yes"]  # one of five
    assert wins[1].detail.startswith("better on 1 of 1")
    idle = shifted(made, "MatrixCompletion", 1.0, 1.0)
    idle.rows = [{**row, "teleports": 0} for row in idle.rows]
    none = findings_of(Contributions(idle))
    assert worth(Contributions(idle)).endswith("On MatrixCompletion the best cell that may teleport does not.")
    assert "+1.00 [+1.00, +1.00] without a teleport" in none[0].detail
    assert none[1].detail.startswith("better on 0 of 1")
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
