"""A problem is compared and trained without an entry anywhere; what is known of built-in ones stands in one table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checks.bowl import Products, Samples

import teleport_env
from teleport_env.agents import default_agents, known_of, register_known
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.known import KNOWN
from teleport_env.agents.learning.recipes import recipe, teacher
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import train
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.slots import SLOTS, fill
from teleport_env.problems import PROBLEMS

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("agents/known.py", "agents/known_score.py", "agents/paper.py")
# a problem made of a module lies with the modules
OWN = ("teleport_env/problems/", "teleport_env/modules/autoencoder.py", "teleport_env/modules/__init__.py")
TINY: dict[str, Any] = {"decisions": 64, "runs": 4, "rollout": 8, "segment": 1, "plans": 2, "rules": 2}


@pytest.fixture(params=[Products, Samples])
def mine(request: pytest.FixtureRequest) -> Iterator[str]:
    """A user's problem: one whose symmetry is its own, and one of mini-batches without any."""
    teleport_env.register_problem("Mine", request.param)
    yield "Mine"
    del PROBLEMS["Mine"]
    KNOWN.pop("Mine", None)


def silent(line: str) -> None:
    pass


def test_a_new_problem_is_trained_and_compared_without_another_edit(mine: str, tmp_path: Path) -> None:
    symmetric = bool(PROBLEMS[mine]().symmetries)
    names = [agent.name for agent in default_agents(mine)]
    assert ("edge of stability" in names) == symmetric
    assert any(fill(mine, tuple(SLOTS))) == symmetric
    settings = {**recipe(mine), **TINY, "validation_instances": 2, "out": tmp_path / "t"}
    found = train(Training.of(**settings), silent)
    policy = LearnedSchedule.load(tmp_path / "t" / "policy.json")
    assert policy.problems == (mine,)
    assert bool(policy.environment["searches"]) == symmetric
    assert found.history
    study = Study(
        problems=(mine,),
        agents=("never", "every" if symmetric else "adam"),
        policies=(tmp_path / "t" / "policy.json",),
        instances=2,
        budget=8,
        tuning_instances=2,
        references=False,
        jobs=1,
        out=tmp_path / "c",
    )
    results = run_study(study, silent)["results"]
    learned = "learned, fallback" if found.below else "learned"
    assert {"never", learned, "every" if symmetric else "Adam"} <= set(results["agent"])


def test_what_a_problem_of_whole_gradients_learns_can_be_taught(mine: str) -> None:
    if PROBLEMS[mine]().batch_size is None:
        alone = Training.of(**{**teacher(mine), "rules": 0})
        together = Training.of(**recipe((mine, "Booth"))).alone(mine)
        assert set(map(str, together.task.searches or ())) <= set(map(str, alone.task.searches or ()))
        assert together.settings().symmetry == alone.settings().symmetry == "squeeze"
    else:
        with pytest.raises(ValueError, match="not 'Mine'"):
            teacher(mine)


def test_an_entry_goes_before_what_follows_from_the_problem(mine: str) -> None:
    usual = known_of(mine)
    register_known(mine, search="random", training={"decisions": 7}, compared=True)
    assert known_of(mine).search == "random"
    assert known_of(mine).training == {**(usual.training or {}), "decisions": 7}
    assert recipe(mine)["decisions"] == 7
    register_known(mine)
    assert known_of(mine) == usual


def named_in(source: str, names: set[str]) -> list[str]:
    """Problems that a module's code names, its docstrings apart."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    return sorted(str(node.value) for node in texts if node.value in names)


def test_nobody_outside_the_table_names_a_built_in_problem() -> None:
    names = set(PROBLEMS)
    found = {}
    for folder in ("agents", "teleport_env"):
        for path in (ROOT / folder).rglob("*.py"):
            place = path.relative_to(ROOT).as_posix()
            if place not in TABLES and not place.startswith((*OWN, "teleport_env/agents/")):
                found[place] = named_in(path.read_text(encoding="utf-8"), names)
    assert {place: some for place, some in found.items() if some} == {}
    assert len(found) > 100
    assert named_in('"""Booth."""\nX = ("Booth", "y")\ndef f(name="Digits"):\n    """MNIST"""', names) == [
        "Booth",
        "Digits",
    ]
