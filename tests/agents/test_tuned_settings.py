"""Settings that are kept as data: they hold, they play as they did, and they are what a comparison plays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tune as script

from study import keeping
from teleport_env.agents import agent_for, agent_from, default_agents
from teleport_env.agents.comparison import report
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.known import compared
from teleport_env.agents.naming import check_player
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.presets import roster
from teleport_env.agents.tuned_settings import FOLDER, read_tuned, tuned_settings, why_not
from teleport_env.agents.tuning.tuning import TUNING_SEED

pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else."""
    monkeypatch.setattr(report, "_drawings", lambda *_: [])


KEPT = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_the_problems_of_a_comparison_have_them() -> None:
    assert set(compared()) <= set(KEPT) <= {*keeping.TUNED, *keeping.SLOW}


@pytest.mark.parametrize("problem", KEPT)
def test_they_hold_for_the_problem_as_it_is(problem: str) -> None:
    """Red: the problem or its menu has changed, and ``python scripts/tune.py --problems NAME`` has to tune anew."""
    assert why_not(problem) is None
    kept = read_tuned(problem)
    assert kept is not None
    assert kept.agents.keys() == roster(problem, tuned=False).keys()
    for agent in default_agents(problem):
        assert "learning_rate" in agent.environment
        check_player(problem, agent)
        menu = agent.environment.get("searches", [])
        assert all(one not in menu[:place] for place, one in enumerate(menu)), f"{agent.name} has one search twice"


@pytest.mark.parametrize("problem", ["Booth", "Rosenbrock"])
def test_they_gain_what_the_file_says(problem: str) -> None:
    kept, effort = read_tuned(problem), keeping.Tuning()
    assert kept is not None
    ids = draw_instances(problem, "train", (1 + effort.finals) * effort.instances, TUNING_SEED)[effort.instances :]
    for name in ("edge_of_stability", "momentum"):
        agent = agent_from(name, **kept.agents[name]["settings"])
        played = play(problem, agent, ids, split="train", seed=TUNING_SEED)
        gained = sum(row["gained"] for row in played.rows) / len(ids)
        assert gained == pytest.approx(
            kept.agents[name]["gained"], abs=0.02
        )  # last bits differ from machine to machine


def test_other_circumstances_are_told_and_nothing_is_taken() -> None:
    assert tuned_settings("Booth")
    assert why_not("Booth", budget=12.0) is not None
    assert "budget is 12.0 and was 24.0" in str(why_not("Booth", budget=12.0))
    assert tuned_settings("Booth", budget=12.0) == {}
    assert "learning_rate" not in agent_for("Booth", "stall", budget=12.0).environment
    assert "keeps no tuned settings for MNIST" in str(why_not("MNIST"))


def test_what_is_kept_cannot_be_changed_by_a_reader() -> None:
    tuned_settings("Booth")["stall"]["environment"].clear()
    assert tuned_settings("Booth")["stall"]["environment"]


def test_a_comparison_plays_them_and_tunes_only_what_is_asked_for_otherwise(tmp_path: Path) -> None:
    few: dict[str, Any] = {"problems": ("Booth",), "instances": 2, "tuning_instances": 2, "tuning_rules": 4}
    few |= {"references": False, "jobs": 1, "agents": ("stall", "every:k=3")}
    said: list[str] = []
    found = run_study(Study(**few, out=tmp_path / "a"), said.append)
    table = found["summary"].set_index("agent")
    kept = agent_for("Booth", "stall")
    assert table.loc["stall", "learning_rate"] == kept.environment["learning_rate"]
    assert f"threshold={kept.threshold}" in table.loc["stall", "settings"]  # type: ignore[attr-defined]
    assert list(found["settings"]["learning_rates"]) == ["Booth/every:k=3"]
    assert "those that `python scripts/tune.py --problems Booth` chose" in found["settings"]["tuning"]
    anew = run_study(Study(**few, tune=True, out=tmp_path / "b"), said.append)["settings"]
    assert set(anew["learning_rates"]) == {"Booth/stall", "Booth/every:k=3"}
    assert "scripts/tune.py" not in anew["tuning"]
    assert not any("Note:" in line for line in said)
    run_study(Study(**{**few, "agents": ("never",)}, budget=12.0, out=tmp_path / "c"), said.append)
    assert "Note: the tuned settings that the package keeps for Booth do not hold: budget is 12.0" in "".join(said)
    with pytest.raises(ValueError, match="takes tuning_instances of at least 1, got 0"):
        Study(tune=True, tuning_instances=0)


def test_the_command_writes_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = keeping.families("Ellipse")
    few = {name: every[name] for name in ("rate_and_teleport", "edge_of_stability", "adam")}
    monkeypatch.setattr(keeping, "families", lambda problem: few)
    options = ["--problems", "Ellipse", "--count", "2", "--instances", "2", "--finals", "1"]
    monkeypatch.setattr("sys.argv", ["tune", *options, "--out", str(tmp_path)])
    script.main()
    kept = read_tuned("Ellipse", tmp_path)
    assert kept is not None
    assert kept.command == " ".join(["python scripts/tune.py", *options])
    assert kept.agents.keys() == few.keys()
    for name, entry in kept.agents.items():
        agent = agent_from(name, **entry["settings"])
        assert json.loads(json.dumps(keeping.settings_of(name, agent))) == entry["settings"]
        assert entry["tried"] >= 2


@pytest.mark.parametrize("problem", ["Booth", "MatrixFactorization"])
def test_every_agent_of_the_roster_has_a_family_whose_members_are_of_its_class(problem: str) -> None:
    families, untuned = keeping.families(problem), default_agents(problem, tuned=False)
    assert list(families) == list(roster(problem, tuned=False))
    for family, agent in zip(families.values(), untuned, strict=True):
        member = family.build({name: axis.values[0] for name, axis in family.axes.items()})
        assert type(member) is type(agent)
        assert member.environment.get("optimizer") is None or "optimizer" in agent.environment
