"""Everything built in passes the checks that users have."""

from __future__ import annotations

from typing import Any

import pytest

import teleport_env
from teleport_env.agents import AGENTS
from teleport_env.checks import (
    CheckFailed,
    Report,
    check_agent,
    check_group,
    check_problem,
    check_search,
    check_symmetry,
)
from teleport_env.groups import BUILT_IN
from teleport_env.groups.base import Group
from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.searches import NAMED

SMALL: dict[str, dict[str, Any]] = {
    "Autoencoder": {"hidden": 8, "code": 3, "images": 20},
    "DigitsFull": {"hidden": (12,)},
    "Digits": {"hidden": (12, 10), "batch_size": 8},
    "MNIST": {"hidden": (8, 6), "batch_size": 5},
    "MNISTSmall": {"hidden": (8, 6), "batch_size": 5},
}
"""Settings with which a problem is checked in a second; the others as they are."""

NOT_BUILT_IN = {name for name in PROBLEMS if not PROBLEMS[name].__module__.startswith("teleport_env.")}
NAMES = [name for name in PROBLEMS if name not in NOT_BUILT_IN]


def small(name: str) -> Problem:
    return problem_from(name, **SMALL.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_problems(name: str) -> None:
    """The built-in problems without a note: bit for bit."""
    report = check_problem(small(name))
    assert report.notes == ()
    assert {f"symmetry {key!r}" for key in small(name).symmetries} <= {what.split(":")[0] for what in report.passed}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Quadratic", {"dimension": 33}),
        ("RosenbrockND", {}),
        ("MLPRegression", {"activation": "tanh", "bias": True}),
        ("Digits", {"batch_size": None, "hidden": (5,)}),
        ("LinearNetwork", {"widths": (3, 1, 2), "samples": 1}),
    ],
)
def test_problems_of_other_shapes(name: str, settings: dict[str, Any]) -> None:
    problem = problem_from(name, **settings)
    if name == "Digits":  # actions built from the whole training set are not exact, see the next test
        symmetries = ("scaling", "permutation")
        assert all(not check_symmetry(symmetry, problem).notes for symmetry in symmetries)
    else:
        assert check_problem(problem).notes == ()


def test_an_action_that_is_not_exact_here_says_when_it_is() -> None:
    """The general linear action on more examples than a layer has inputs. (With leaky ReLU all values here are positive,
    where it is linear and any number of examples will do.)"""
    problem = problem_from("MLPRegression", samples=9, activation="tanh")
    with pytest.raises(CheckFailed, match=r"'general_linear' of MLPRegression: .*loss_is_kept.*at most 5 examples"):
        check_symmetry("general_linear", problem)


@pytest.mark.parametrize("name", NAMES)
def test_searches(name: str) -> None:
    """Every named search with every symmetry that it serves."""
    problem, checked = small(name), 0
    for key, symmetry in problem.symmetries.items():
        for search in NAMED.values():
            try:
                search.check(problem, symmetry)
            except ValueError:
                continue
            report = check_search(search, problem, key)
            assert not [note for note in report.notes if not note.startswith("no run moved")], (key, search)
            checked += 1
    assert checked >= 5


TELEPORTING = {"at_steps": "at_steps:steps=[2,5]", "cycle": "cycle:pattern=[1,0]"}
"""Agents that would not teleport with the settings that they have of their own, and are refused then."""


@pytest.mark.parametrize("name", list(AGENTS))
def test_agents(name: str) -> None:
    report = check_agent(TELEPORTING.get(name, name), "MatrixFactorization", budget=25.0)
    assert "episode_start clears the memory" in report.passed


@pytest.mark.parametrize("group", [pytest.param(group, id=group.name) for group in BUILT_IN])
def test_groups(group: Group) -> None:
    assert len(check_group(group).passed) >= 11


def test_a_report_reads_well() -> None:
    report = Report("problem Mine", ("loss",), ("a note.",))
    assert str(report) == "problem Mine: 1 checks passed\n  ok    loss\n  note  a note."


def test_names_and_objects_are_both_taken() -> None:
    rosenbrock = problem_from("Rosenbrock")
    assert check_symmetry("rotation", "Rosenbrock") == check_symmetry(rosenbrock.symmetries["rotation"], rosenbrock)
    assert check_search("random", "Rosenbrock") == check_search({"search": "random"}, rosenbrock, "rotation")


def test_what_is_no_subject_at_all() -> None:
    with pytest.raises(TypeError, match="call it first"):
        check_problem(teleport_env.problems.Rosenbrock)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'Nowhere'"):
        check_problem("Nowhere")
    with pytest.raises(ValueError, match="one of 'rotation', got 'scaling'"):
        check_symmetry("scaling", "Rosenbrock")
    with pytest.raises(TypeError, match="takes a Group, got int"):
        check_group(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count must be at least 2"):
        check_problem("Rosenbrock", count=1)
    with pytest.raises(ValueError, match="use symmetry|use the search"):
        check_search("closed_form", "Rosenbrock")
