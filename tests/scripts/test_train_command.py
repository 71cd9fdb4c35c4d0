"""The command line of trainings: what it says goes before the recipe, and a policy's own command asks for its training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from train import settings

from study.findings import SEVEN
from teleport_env.agents.learning.recipes import command, rate_only, recipe, teacher, whitening
from teleport_env.agents.learning.settings import Training


def words_of(training: Training, start: dict[str, Any]) -> list[str]:
    words = shlex.split(command(training, start))
    assert words[:2] == ["python", "scripts/train.py"]
    return words[2:]


def test_the_command_line_goes_before_the_recipe() -> None:
    words = ["--searches", "random", '{"search": "grid", "points": 8}', "--rate-factors", "1", "3", "--warm-start"]
    training = settings([*words, "--problem", "MatrixFactorization", "--out", "x"])
    assert training.task.searches == ("random", {"search": "grid", "points": 8})
    assert training.task.rate_factors == (1.0, 3.0)
    assert training.teaching.warm_start
    assert training.out == Path("x")
    assert training.task.steps_per_action == recipe("MatrixFactorization")["steps_per_action"]
    assert settings(["--searches"]).task.searches == ()
    assert settings([]) == Training.of(**recipe("Rosenbrock"))


def test_flags_choose_the_recipe() -> None:
    assert settings(["--problem", "Booth", "--rate-only"]) == Training.of(**rate_only("Booth"))
    assert settings(["--problem", "Booth", "--teacher"]) == Training.of(**teacher("Booth"))
    words = ["--problem", "LinearNetwork", "--whitening"]
    assert settings(words) == Training.of(**whitening("LinearNetwork"))
    words = ["--problem", "Rosenbrock", "--budget", "30"]
    assert settings(words) == Training.of(**recipe("Rosenbrock", budget=30.0), budget=30.0)
    assert settings(words).task.steps_per_action == 1
    by_score = settings(["--reward", "score"])
    assert by_score == Training.of(**recipe("Rosenbrock", reward="score"))
    assert by_score.teaching.rule
    assert settings(words_of(by_score, recipe("Rosenbrock", reward="score"))) == by_score
    assert settings(["--problem", "booth", "--teacher"]).task.problem == "Booth"
    with pytest.raises(ValueError, match="--whitening goes with neither"):
        settings(["--whitening", "--teacher"])


def test_several_problems() -> None:
    words = ["--problem", "Booth", "LinearNetwork", "--searches", "ascend", "--families", '{"Booth": {"plans": 7}}']
    training = settings(words)
    assert training.task.problems == ("Booth", "LinearNetwork")
    assert training.alone("Booth").teaching.plans == 7
    assert training.task.slots == ("ascend",)
    assert training.schedule.runs == 128
    one = Training.of(**recipe(["Booth"]))
    assert one.task.problem == "Booth"
    assert not one.task.several
    control = Training.of(**rate_only(SEVEN))
    assert control.task.slots == ()
    assert control.alone("Booth").settings().searches == ()


def test_a_coefficient_of_momentum_is_the_recipe_s_or_the_command_line_s() -> None:
    problem = "MatrixFactorization"
    for words, coefficient in (
        (["--optimizer", "momentum"], 0.5),
        (["--optimizer", '{"optimizer": "momentum", "momentum": 0.7}'], 0.7),
    ):
        training = settings(["--problem", problem, *words])
        assert training.task.optimizer == {"optimizer": "momentum", "momentum": coefficient}
        assert training.task.learning_rate == 0.075
        # and its own command asks for the same
        assert settings(words_of(training, recipe(problem, training.task.optimizer))) == training


def test_the_command_of_a_training_is_read_back_as_it_was() -> None:
    """Regression: a bare "momentum" was read back as the recipe's, with its coefficient, and None as a word."""
    start = recipe("MatrixFactorization", "momentum")
    plain = Training.of(**{**start, "optimizer": "momentum", "on_teleport": None})
    assert settings(words_of(plain, start)) == plain.changed(optimizer={"optimizer": "momentum"})


@pytest.mark.parametrize("problem", [("Booth", "LinearNetwork"), "LinearNetwork"])
def test_the_command_of_a_training_asks_for_it(problem: Any) -> None:
    start = recipe(problem)
    more: dict[str, Any] = {"seed": 4, "masks": True, "teachers": (Path("a/b.json"), Path("/somewhere/me/c.json"))}
    if isinstance(problem, str):
        more |= {"masks": False, "searches": ("random", {"search": "grid", "points": 8}), "warm_start": True}
    else:
        more |= {"families": {"Booth": {"plans": 7}}, "warm_start": False}
    training = Training.of(**{**start, **more, "out": Path("/somewhere/me/out")})
    assert "/somewhere" not in command(training, start)
    again = settings(words_of(training, start))
    assert again == training.changed(out=Training.out, teachers=(Path("a/b.json"), Path("c.json")))


def test_the_command_of_the_group_mode_asks_for_it(tmp_path: Path) -> None:
    """Regression: it left the mode out, which its recipe has, but which no other recipe has."""
    start = recipe("Booth", action_mode="group")
    training = Training.of(**{**start, "directions": ("change",), "group_scale": 2.0, "seed": 3, "out": tmp_path})
    assert settings(words_of(training, start)).changed(out=tmp_path) == training
    assert training.settings().group_scale == 2.0
    assert Training.of(**{**start, "directions": ()}).settings().observation == "features"


@pytest.mark.parametrize(
    "wanted",
    [
        teacher("MLPRegression"),
        rate_only("MLPRegression"),
        whitening("MatrixFactorization"),
        whitening("MLPRegression"),
    ],
)
def test_what_the_recipe_has_and_a_training_has_not_is_in_its_command(wanted: dict[str, Any]) -> None:
    training = Training.of(**wanted)
    again = settings(words_of(training, recipe(training.only)))
    assert again.changed(rule=None) == training.changed(rule=None)
    assert (again.teaching.rule or None) == (training.teaching.rule or None)


NUMBERS = ("seed", "runs", "rollout", "segment", "decisions", "epochs", "minibatches", "validation-instances", "plans")
NUMBERS += ("rules", "critic-segments", "steps-per-action", "hidden")
WRONG = [[f"--{name}", value] for name in NUMBERS for value in ("-1", "nan", "1e400", "1.5")]
REALS = ("step-size", "entropy", "discount", "trace", "reward-scale", "deviation", "temperatures", "budget")
REALS += ("learning-rate", "rate-multiples", "rate-factors")
WRONG += [[f"--{name}", value] for name in REALS for value in ("-1", "nan", "inf")]
WRONG += [[f"--{name}", "0"] for name in NUMBERS if name not in ("seed", "plans", "rules", "critic-segments")]


@pytest.mark.parametrize("words", [*WRONG, ["--name", "=cmd()"], ["--name", ""]], ids=" ".join)
def test_every_number_is_checked_before_the_work(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: a seed of -1 was refused by NumPy after the search for plans, and an entropy of NaN not at all."""
    with pytest.raises(SystemExit) as stopped:
        settings(["--problem", "Booth", *words])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert words[1] in said or "nan" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["--optimizer", "{bad"], ["--rule", "3"], ["--astrology", "1"]])
def test_what_cannot_be_read_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings(words)
    assert words[0] in capsys.readouterr().err or words[1] in capsys.readouterr().err


def test_help_has_a_sentence_and_a_default_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: one option's default was printed as an object of the module dataclasses."""
    with pytest.raises(SystemExit) as stopped:
        settings(["--problem", "Booth", "--help"])
    assert stopped.value.code == 0
    page = capsys.readouterr().out
    assert "MISSING" not in page
    flat = " ".join(page.replace("│", " ").split())
    names = [*Training().flat(), "rate_only", "whitening", "teacher"]
    for name in names:
        assert f"--{name.replace('_', '-')}" in flat
    assert flat.count("(default: ") == len(names)
    assert "Gradient steps of a step action. (default: 1)" in flat  # the recipe's, not the class's
