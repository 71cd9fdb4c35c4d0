"""What would be found after hours of work is found before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.protocol import Protocol, gather
from study.transfer import RATES, Transfer, gather_transfer
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.problems.data import DATA_VARIABLE

COMPARISONS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "study": (Study(problems=("Booth",)), run_study),
    "full": (Protocol(problems=("Booth",)), gather),
    "transfer": (Transfer(problems=("Booth",), questions=(RATES,)), gather_transfer),
}


def refuses(name: str, reason: str, **changes: Any) -> None:
    """The comparison is refused, and nothing was reported or done before."""
    asked, work = COMPARISONS[name]
    heard: list[str] = []
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        work(dataclasses.replace(asked, **changes), heard.append)
    assert heard == []


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_folder_that_is_a_file_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    """Regression: it was found when the first result was to be written."""
    (tmp_path / "out").write_text("mine")
    refuses(name, "nothing can be written into the folder", out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder in which writing is forbidden to all")
@pytest.mark.parametrize("name", COMPARISONS)
def test_a_read_only_folder_is_refused_before_the_work(name: str) -> None:
    refuses(name, "nothing can be written into the folder", out=Path("/proc/results"))


@pytest.mark.parametrize("name", ["full", "transfer"])
def test_a_page_that_is_a_folder_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    refuses(name, "is a folder: name a file", out=tmp_path / "out", page=tmp_path)


@pytest.mark.parametrize("name", COMPARISONS)
def test_missing_data_are_found_before_the_work(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: MNIST without its files was refused after "tuning 0 %"."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    refuses(name, "MNIST was not found", problems=("MNIST",), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a problem twice": ({"problems": ("Booth", "Booth")}, "problems must be different from each other"),
    "a problem twice, in other letters": ({"problems": ("Booth", "booth")}, "problems must be different"),
    "no problem": ({"problems": ()}, "problems is empty"),
    "a string of problems": ({"problems": "Booth"}, "problems must be a list of names"),
    "an unknown problem": ({"problems": ("Both",)}, "got 'Both'.*Did you mean 'Booth'"),
    "an unknown split": ({"split": "tests"}, "got 'tests'.*Did you mean 'test'"),
    "a policy twice": ({"policies": ("a.json", "a.json")}, "policies must be different"),
    "no jobs": ({"jobs": 0}, "jobs .* must be an integer of at least 1 and at most 1000000, got 0"),
    "many jobs": ({"jobs": 10**9}, "jobs"),
    "a budget below 0": ({"budget": -5.0}, "budget"),
    "a budget that is no number": ({"budget": float("nan")}, "budget"),
    "an infinite budget": ({"budget": float("inf")}, "budget"),
    "half an instance": ({"instances": 2.5}, "instances"),
    "no instance": ({"instances": 0}, "instances"),
    "more instances than fit": ({"instances": 10**30}, "instances must be an integer of at least"),
    "a flag": ({"instances": True}, "instances"),
    "a seed below 0": ({"seed": -1}, "seed must be an integer of at least 0"),
    "a seed of 70 bits": ({"seed": 1 << 70}, "seed"),
}


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_are_not_allowed_are_refused_at_once(name: str, wrong: str) -> None:
    changes, reason = WRONG[wrong]
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(COMPARISONS[name][0], **changes)


def test_names_match_whatever_their_case() -> None:
    found = Study(problems=("booth", "MLPREGRESSION"), split="TEST")
    assert found == Study(problems=("Booth", "MLPRegression"), split="test")


def test_agents_of_one_name_and_several_kinds_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: they were refused when all had been played, and what was played was lost."""
    from teleport_env.agents.comparison import study
    from teleport_env.agents.schedules import Every, Never

    named = {"Booth": Never(name="mine", kind="fixed"), "Ellipse": Every(name="mine", kind="adaptive")}
    monkeypatch.setattr(study, "_roster", lambda problem, *rest: [named[problem]])
    refuses(
        "study", "mine is fixed on one problem and adaptive on another", problems=("Booth", "Ellipse"), out=tmp_path
    )


def test_what_plays_in_the_place_of_the_generalist_is_of_one_kind() -> None:
    """Regression: a rule in its place had a rule's kind, so that it could be in no comparison with the policy itself."""
    from teleport_env.agents.comparison.study import _roster

    asked = Study(problems=("Quadratic", "RosenbrockND"), agents=("never",), policies=(Path("pretrained"),))
    fallbacks = [
        a for p in asked.problems for a in _roster(p, asked, lambda line: None) if a.name == "generalist, fallback"
    ]
    assert [one.kind for one in fallbacks] == ["learned", "learned"]
