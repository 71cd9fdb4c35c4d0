"""A name means one agent: on a problem, with its menu, its settings and its rate."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teleport_env import agents, registration
from teleport_env.agents import AGENTS, AtSteps, Cycle, Every, Never, Stall, agent_for, agent_from, default_agents
from teleport_env.agents.comparison import decisions, report
from teleport_env.agents.comparison import study as study_module
from teleport_env.agents.comparison.described import settings_of
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.known import KNOWN, known_of
from teleport_env.agents.naming import described_agents, first_teleport, parse
from teleport_env.agents.play import draw_instances, play, play_many
from teleport_env.agents.presets import reference, roster, with_menu
from teleport_env.agents.tuned_settings import tuned_settings
from teleport_env.envs.settings import Settings
from teleport_env.problems import PROBLEMS
from teleport_env.registration import import_own, problem_named
from teleport_env.searches import describe, search_from

FEW: dict[str, Any] = {"instances": 3, "budget": 12.0, "references": False, "tuning_instances": 0, "jobs": 1}


def silent(line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else."""
    monkeypatch.setattr(report, "_drawings", lambda *_: [])
    monkeypatch.setattr(decisions, "decision_drawings", lambda *_: [])


@pytest.mark.parametrize("problem", ["Booth", "MLPRegression", "MatrixFactorization"])
def test_the_roster_and_the_names_are_the_same_agents(problem: str) -> None:
    """Regression: the agent that was named played another menu at another interval than the roster's of that name."""
    assert [agent_for(problem, name) for name in roster(problem)] == default_agents(problem)
    assert [agent_for(problem, agent.name) for agent in default_agents(problem)] == default_agents(problem)


def test_a_named_agent_gains_what_the_roster_s_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {**FEW, "pretrained": False}
    named = run_study(Study(problems=("Booth",), agents=("every", "never"), out=tmp_path / "a", **shared), silent)
    kept = [agent for agent in default_agents("Booth", budget=12.0) if agent.name in ("every", "never")]
    monkeypatch.setattr(study_module, "default_agents", lambda problem, **how: kept)
    whole = run_study(Study(problems=("Booth",), out=tmp_path / "b", **shared), silent)
    one, other = (found["summary"].set_index("agent") for found in (named, whole))
    for column in ("mean", "menu", "learning_rate", "teleports"):
        assert one.loc["every", column] == other.loc["every", column]
    menu = describe(search_from(known_of("Booth").search))
    assert one.loc["every", "menu"] == menu
    assert one.loc["every", "learning_rate"] == Settings.build("Booth").learning_rate
    assert f'<td class="words more">{menu}</td>' in (tmp_path / "a" / "report.html").read_text()


def test_settings_in_a_name() -> None:
    assert parse("never") == ("never", {})
    assert parse("every:k=3,offset=2") == ("every", {"k": 3, "offset": 2})
    assert parse('x:a=[4,8],b={"c": [1, 2]},d=True,e=up,f="a,b"') == (
        "x",
        {"a": [4, 8], "b": {"c": [1, 2]}, "d": True, "e": "up", "f": "a,b"},
    )
    assert parse("my_module:mine") == ("my_module:mine", {})
    assert parse("my.module:mine:k=3") == ("my.module:mine", {"k": 3})
    assert parse("a/model.zip:rate_factors=[1,2]") == ("a/model.zip", {"rate_factors": [1, 2]})
    menu = [known_of("Booth").search]
    kept = tuned_settings("Booth")["every"]["environment"]
    assert agent_for("Booth", "every:k=3") == Every(name="every:k=3", k=3, environment=kept)
    assert agent_for("Booth", "every:k=3", tuned=False) == Every(name="every:k=3", k=3, environment={"searches": menu})
    assert agent_for("Booth", "at_steps:steps=[4,8]") == AtSteps(
        name="at_steps:steps=[4,8]", steps=(4, 8), environment={"searches": menu}
    )
    own = agent_for("Booth", 'stall:patience=3,learning_rate=0.05,searches=["random"],name=patient')
    assert own == Stall(name="patient", patience=3, environment={"learning_rate": 0.05, "searches": ["random"]})
    # what the roster sets stays where nothing else is asked for
    assert agent_for("MLPRegression", "edge_of_stability:cooldown=3", tuned=False).flatten == 2.0  # type: ignore[attr-defined]
    # the rate may be another, but tuned thresholds belong to the menu that they were tuned with
    tuned = agent_for("Booth", "edge_of_stability")
    assert agent_for("Booth", "edge_of_stability:learning_rate=0.05").environment == {
        **tuned.environment,
        "learning_rate": 0.05,
    }
    asked = agent_for("Booth", 'edge_of_stability:searches=["random"]')
    assert asked.edge == agent_from("edge_of_stability").edge != tuned.edge  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evry", r"got 'evry'. Did you mean 'every'\?"),
        ("every:q=3", r"agent 'every' has no setting 'q'; it has .* k, offset"),
        ("every:k=0", "k of Every must be an integer of at least 1, got 0"),
        ("every:k=two", "k of agent 'every' must be an integer, got 'two'"),
        ("every:k", "'k' is no setting"),
        ("every:k=3,k=4", "'k=4' is no setting, or stands twice"),
        ("adam:momentum=3", "agent 'adam' has no setting 'momentum'; it has name, kind, environment, and what it asks"),
        ("every:serches=[]", "Did you mean 'searches'"),
        ("at_steps:at=[4,8]", "agent 'at_steps' has no setting 'at'; it has .*, steps, and"),
        ("every:rate_factors=2", "rate_factors must be a list of numbers, got 2"),
        ("every:action_mode=group", "it needs action_mode='schedule'"),
        ('every:environment={"serches":[]}', "environment of agent 'every' has no argument 'serches'"),
        ("L-BFGS:k=3", "the solver L-BFGS must be named without settings"),
        ("mine.json", "there is no file 'mine.json'. Policies are written by scripts/train.py"),
        ("at_steps", r"'at steps' cannot teleport on Booth: its first teleport comes after 99 gradient steps"),
        ("at_steps:steps=4", "steps of agent 'at_steps' must be a list of integers, got 4"),
        ("at_steps:steps=[4,-1]", "a step count of AtSteps must be an integer of at least 0, got -1"),
        ("at_steps:steps=[]", "its settings name no teleport"),
        ("cycle", "its settings name no teleport"),
        ("cycle:pattern=[2,0]", "its menu has 1 searches, and actions 0 to 1"),
        ("first:k=0", "its settings name no teleport"),
        ("random_timing:probability=0", "its settings name no teleport"),
        ("every:which=1", "its menu has 1 searches"),
        ("stall:searches=[]", "its menu is empty"),
        ("every:offset=23", "its first teleport comes after 23 gradient steps"),
        ("every:learning_rate=0", "learning_rate must be a positive number, got 0"),
        ('every:searches=["rndom"]', "Did you mean 'random'"),
        (
            "whitening",
            "problem of whitening must be one of .*'MLPRegression', got 'Booth'. Elsewhere play another agent",
        ),
        ("whitening:k=3", "whitening has no settings"),
        ("no_such_module:mine", "the module 'no_such_module' cannot be imported"),
        ("mine.zip", "pass --trust"),
    ],
)
def test_what_cannot_play_is_refused_before_the_work(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_study(Study(problems=("Booth",), agents=(text,), out=tmp_path / "r"), silent)
    assert not (tmp_path / "r").exists()


def test_an_object_that_cannot_teleport_is_refused(tmp_path: Path) -> None:
    """Regression: an agent whose first teleport lay beyond the budget was played, and its table said 0.0 teleports."""
    for agent in (AtSteps(environment={"searches": ["random"]}), Every(environment={"searches": []})):
        with pytest.raises(ValueError, match="cannot teleport on Booth"):
            run_study(Study(problems=("Booth",), agents=(agent,), out=tmp_path), silent)


def test_what_no_agent_can_be_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="environment of agent 'every' has no argument 'serches'.* mean 'searches'"):
        Every(environment={"serches": []})
    with pytest.raises(ValueError, match="environment of agent 'never' must be a dict of keyword arguments"):
        Never(environment=["searches"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="environment of reference 'adam' must be a dict of keyword .*, got 3"):
        reference("adam", environment=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="agent must be an Agent, such as agent_from.*, got 'every'"):
        with_menu("Booth", "every")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name of Cycle must be a string, got 3"):
        Cycle(name=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an agent's name must be text such as 'every:k=3', got 3"):
        agent_for("Booth", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["every:offset=3", "at_steps:steps=[2,5]", "rate_and_teleport:first=0,every=4", "first"]
)
def test_the_first_teleport_comes_when_it_is_said_to(text: str) -> None:
    agent = agent_for("Booth", text)
    played = play("Booth", agent, draw_instances("Booth", "test", 3, 0), split="test")
    assert played.actions is not None
    assert (played.actions >= agent.step_actions).argmax(axis=0).tolist() == [first_teleport(agent)] * 3


@pytest.mark.parametrize("asked", ["L-BFGS", "l_bfgs", "newton_cg"])
def test_a_reference_is_played_by_name(asked: str, tmp_path: Path) -> None:
    found = run_study(Study(problems=("Booth",), agents=("never", asked), out=tmp_path, **FEW), silent)
    table = found["summary"].set_index("agent")
    name = "Newton-CG" if asked == "newton_cg" else "L-BFGS"
    assert set(table.index) == {"never", name, "oracle"}
    assert table.loc[name, "kind"] == "reference"
    assert table.loc[name, "menu"] == "none"


def test_settings_that_are_asked_for_are_not_tuned(tmp_path: Path) -> None:
    study = Study(
        problems=("Booth",),
        agents=("stall:patience=7", "random_element:scale=0.2", "stall"),
        **{**FEW, "tuning_instances": 2, "tuning_rules": 12},
        out=tmp_path,
    )
    tuned = run_study(study, silent)["settings"]["learning_rates"]
    assert "patience" not in tuned["Booth/stall:patience=7"]["settings"]
    assert "patience" in tuned["Booth/stall"]["settings"]
    assert "'scale': 0.2" in tuned["Booth/random_element:scale=0.2"]["environment"]["searches"]


def test_the_help_has_every_agent_with_its_settings() -> None:
    said = described_agents()
    assert all(f"\n{name} (" in said for name in AGENTS)
    for text in ("k=10, offset=0", "patience=2", "whitening", "pretrained", "model.zip", "steps=[4,8]"):
        assert text in said


def test_shipped_policies_are_asked_for_by_the_names_that_tables_give_them() -> None:
    """Regression: reports said "specialist" and "generalist", and both were unknown agents."""
    for name in ("specialist", "generalist"):
        agent = agent_for("Rosenbrock", name)
        assert agent.name == name
        assert isinstance(agent, agents.LearnedSchedule)
    assert agent_for("Quadratic", "generalist").name == "generalist, fallback"
    # Regression: the text itself is no name that a policy may have, so that it had no settings
    asked = agent_for("Quadratic", "generalist:learning_rate=0.1")
    assert (asked.name, asked.environment["learning_rate"]) == ("generalist:learning_rate 0.1", 0.1)
    assert agent_for("Booth", "pretrained").name == "specialist"
    with pytest.raises(
        ValueError, match="brings no specialist for Digits; it brings one for Booth, .*'generalist' plays"
    ):
        agent_for("Digits", "specialist")
    assert agent_for("Booth", "score_specialist").name == "score_specialist"
    assert agent_for("Booth", "best plan of score_specialist").name == "best plan of score_specialist"
    with pytest.raises(ValueError, match="brings no score_specialist for Digits; it brings one for Booth, Ellipse, "):
        agent_for("Digits", "score_specialist")
    for name in ("generalist_seven", "generalist of seven", "Generalist_Seven"):
        assert (
            agent_for("Booth", name).environment
            == agents.LearnedSchedule.pretrained("generalist_seven").for_problem("Booth").environment
        )
    with pytest.raises(
        ValueError,
        match="agent must be one of .*'specialist', 'score_specialist', 'generalist', 'generalist_seven', got 'spec'",
    ):
        agent_for("Booth", "spec")


@pytest.mark.parametrize("problem", ["Booth", "TensorFactorization", "MLPRegression", "Digits"])
def test_every_row_of_a_comparison_can_be_asked_for_or_the_error_says_why(problem: str) -> None:
    """Regression: "best plan of specialist" stood first in a table, and no name gave that agent."""
    rows = study_module._roster(problem, Study(problems=(problem,)), silent)
    assert len(rows) > 15
    for agent in rows:
        assert agent_for(problem, agent.name) == agent
    for solver in ("L-BFGS", "oracle"):
        with pytest.raises(ValueError, match="Solvers such as L-BFGS, the oracle, .* play in comparisons alone"):
            agent_for(problem, solver)


def test_what_a_training_did_not_find_is_not_there() -> None:
    for name in ("best rule of specialist", "specialist, fallback", "best plan of generalist_seven"):
        with pytest.raises(ValueError, match=f"there is no '{name}': the training of that policy kept none"):
            agent_for("Booth", name)
    with pytest.raises(ValueError, match="'best plan of specialist' has no settings, got k"):
        agent_for("Booth", "best plan of specialist:k=3")
    # where no search of the roster suits, a title is one all the same
    with pytest.raises(ValueError, match="'at steps' cannot teleport on Booth"):
        agent_for("Booth", "at steps")


def test_what_readme_names_can_be_pasted() -> None:
    """Regression: the table of situations named classes that no import of README or of the package gave."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = text.split("## What to use, when?")[1].split("## ")[0]
    imports = re.findall(r"^(?:from [\w.]+ )?import .*$", text, re.MULTILINE) + re.findall(r"`(from [^`]+)`", rows)
    namespace: dict[str, Any] = {}
    exec("\n".join(imports), namespace)
    called = re.findall(r"`([A-Za-z_]\w*)[(.]", rows)
    assert len(called) >= 2
    assert len(imports) >= 4
    assert [
        name for name in called if name not in {*namespace, "env", "scipy", "torch"}
    ] == []  # env is that of the example above, the others are whole paths of other packages


def test_the_package_s_own_policy_plays_any_problem(tmp_path: Path) -> None:
    """One that it was not trained on, and that has no policy of its own. By its name among the agents it plays the same."""
    pytest.importorskip("sklearn")
    shared = {**FEW, "policies": (Path("pretrained"),), "agents": ("never", "pretrained:name=named")}
    found = run_study(Study(problems=("Digits",), out=tmp_path, **shared), silent)
    table = found["summary"].set_index("agent")
    assert table.loc["named", "mean"] == table.loc["generalist", "mean"] != table.loc["never", "mean"]
    assert table.loc["generalist", "kind"] == "learned"
    assert table.loc["generalist", "menu"]


MINE = """
import numpy as np
import teleport_env
from teleport_env.agents import Stall, register_agent
from teleport_env.problems import Booth, Quadratic


class Own(Booth):
    name = "Own"


class Mine(Booth):
    name = "Mine"


kept = Quadratic()
teleport_env.register_problem("Own", Own)
register_agent("my_rule", lambda **settings: Stall(**{"name": "my rule", "patience": 3, **settings}))
"""


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "some_module.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    imported = [*registration.IMPORTED]
    registration.IMPORTED.clear()
    before, paths = {id(table): dict(table) for table in (PROBLEMS, AGENTS, KNOWN)}, list(sys.path)
    yield "some_module"
    registration.IMPORTED[:] = imported
    for table in (PROBLEMS, AGENTS, KNOWN):
        table.clear()
        table.update(before[id(table)])
    sys.modules.pop("some_module", None)
    sys.path[:] = paths


def test_names_in_a_module_of_one_s_own(my_module: str) -> None:
    assert problem_named("Booth") == "Booth"
    assert problem_named("some_module:Own") == "Own"  # registered there
    assert problem_named("some_module:Mine") == "Mine"  # a class there
    assert problem_named("some_module:kept") == "kept"  # an object there
    assert problem_named("some_module:Mine") == "Mine"
    assert PROBLEMS["kept"]() is sys.modules["some_module"].kept
    assert type(PROBLEMS["Mine"]()).__name__ == "Mine"
    with pytest.raises(
        ValueError, match=r"some_module:Nine must be a problem of the module 'some_module', which has .*, got 'Nine'"
    ):
        problem_named("some_module:Nine")
    with pytest.raises(ValueError, match="No module named 'none_such'"):
        problem_named("none_such:Mine")
    some: Any = sys.modules["some_module"]
    some.Booth = some.Mine
    with pytest.raises(ValueError, match="is not what the name 'Booth' is registered for"):
        problem_named("some_module:Booth")
    agent = agent_for("Mine", "some_module:my_rule:threshold=0.1")
    assert isinstance(agent, Stall)
    assert (agent.patience, agent.threshold) == (3, 0.1)
    assert agent.environment["searches"] == [known_of("Mine").search]


def test_workers_know_what_this_process_knows(my_module: str, tmp_path: Path) -> None:
    """Regression: there was no problem 'Mine' in every worker. One lives in a module, one in this process alone."""
    problem_named("some_module:Mine")
    registration.register_problem("Here", lambda: PROBLEMS["Own"]())
    few: dict[str, Any] = {**FEW, "jobs": 2, "instances": 2}
    asked = {"problems": ("Mine", "Here"), "agents": ("never", "my_rule")}
    together = run_study(Study(**asked, out=tmp_path / "a", **few), silent)["results"]
    alone = run_study(Study(**asked, out=tmp_path / "b", **{**few, "jobs": 1}), silent)["results"]
    same = [column for column in together.columns if column != "seconds"]
    assert together[same].equals(alone[same])
    assert set(together["agent"]) == {"never", "my rule", "oracle"}


def test_what_cannot_be_sent_to_workers_is_named(my_module: str, tmp_path: Path) -> None:
    here = (line for line in "abc")
    registration.register_problem("Here", lambda: here)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match=r"'Here' cannot be sent to other processes .*or take jobs=1"):
        run_study(Study(problems=("Booth",), agents=("never",), out=tmp_path, **{**FEW, "jobs": 2}), silent)
    assert run_study(Study(problems=("Booth",), agents=("never",), out=tmp_path, **FEW), silent)["page"].exists()


def test_a_module_whose_import_fails_is_named(my_module: str, tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match="'broken_module' cannot be imported: ZeroDivisionError: division by zero"):
        import_own("broken_module")
    assert registration.IMPORTED == []


def test_all_that_is_named_plays_as_its_object_does() -> None:
    ids = draw_instances("Booth", "test", 2, seed=0)
    agent = agent_for("Booth", "every:k=3", tuned=False)
    other = agent_from("every", k=3, environment={"searches": [known_of("Booth").search]})
    assert np.array_equal(*play_many("Booth", [agent, other], ids, split="test"))


@pytest.mark.parametrize("problem", ["Booth", "MatrixFactorization"])
def test_settings_in_tables_can_be_typed(problem: str) -> None:
    shown = 0
    for agent in default_agents(problem):
        text = settings_of(agent)
        if text:
            again = agent_for(problem, text)
            assert type(again) is type(agent)
            assert settings_of(again) == text
            shown += 1
    assert shown > 8
    assert settings_of(Every(k=3)) == "every:k=3,offset=0"
    assert settings_of(Stall(watch="gradient")).endswith('watch="gradient"')
    assert not settings_of(Never())
