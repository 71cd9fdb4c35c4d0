"""Every command line checks its numbers before any work, and says of every option what it is."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmark
import explore
import pytest
import reproduce
import rollout
from compare import PROTOCOLS, read

import command_line
from study.factorial import Factorial
from study.protocol import Protocol
from study.transfer import Transfer
from teleport_env.agents.comparison.study import Study

ALLOWED_ZERO = {
    "seed",
    "teacher_seed",
    "tuning_instances of study",
    "tuning_rules of study",
    "instance",
    "port",
    "oracle of full",
    "oracle of factorial",
    "look_ahead of factorial",
}


def comparison(name: str) -> Callable[[Sequence[str]], Any]:
    return lambda words: read("", ["--protocol", name, *words])


COMMANDS: dict[str, tuple[type, Callable[[Sequence[str]], Any]]] = {
    **{name: (kind, comparison(name)) for name, kind in PROTOCOLS.items()},
    "rollout": (rollout.Episode, lambda words: command_line.read(rollout.Episode, words)),
    "explore": (explore.Explorer, lambda words: command_line.read(explore.Explorer, words)),
    "reproduce": (reproduce.Reproduction, lambda words: command_line.read(reproduce.Reproduction, [*words, "all"])),
    "benchmark": (benchmark.Benchmark, lambda words: command_line.read(benchmark.Benchmark, words)),
}


def numbers(kind: type) -> dict[str, str]:
    """Options that take numbers, and whether ``int`` or ``float``."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        inside = {hint, *typing.get_args(hint)}
        if inside & {int, float}:
            found[name] = "int" if int in inside else "float"
    return found


WRONG = [
    (command, name, value)
    for command, (kind, _) in COMMANDS.items()
    for name, number in numbers(kind).items()
    for value in ("-5", "nan", "inf", "1" + "0" * 400, "1e400", "many", *(["2.5"] if number == "int" else []), "0")
    if value != "0" or not {name, f"{name} of {command}"} & ALLOWED_ZERO
]


def test_all_options_that_take_numbers_are_tried() -> None:
    assert len({(command, name) for command, name, _ in WRONG}) >= 25
    assert numbers(rollout.Episode) == {"instance": "int", "seed": "int", "frames": "int"}
    assert numbers(Protocol)["budget"] == "float"


@pytest.mark.parametrize(("command", "name", "value"), WRONG, ids=[f"{c} {n} {v[:6]}" for c, n, v in WRONG])
def test_a_number_that_is_not_allowed_is_refused(
    command: str, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression: ``--frames 0``, ``--seed -1`` and ``--budget -5`` were found after the work had begun, or never."""
    with pytest.raises(SystemExit) as stopped:
        COMMANDS[command][1]([f"--{name.replace('_', '-')}", value])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert name in said or name.replace("_", "-") in said or name.removesuffix("s") in said
    assert "Traceback" not in said


def refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read("", words)
    assert stopped.value.code == 2
    assert reason in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_help_has_a_sentence_and_the_default_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, asked in COMMANDS.values():
        with pytest.raises(SystemExit) as stopped:
            asked(["--help"])
        assert stopped.value.code == 0
        page = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "MISSING" not in page
        fields = dataclasses.fields(kind)
        assert page.count("(default:") >= sum(one.default is not dataclasses.MISSING for one in fields)
        for one in fields:
            pages = [base.__doc__ or "" for base in kind.__mro__ if dataclasses.is_dataclass(base)]
            sentence = "".join(text.partition(f" {one.name}: ")[2] for text in pages).split()
            assert sentence, f"{kind.__name__}.{one.name} has no sentence"
            assert " ".join(sentence[:2]) in page


def test_the_command_line_makes_either_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    study = read("", ["--problems", "Booth", "--seeds", "3", "--no-references"])
    assert study == Study(problems=("Booth",), seeds=3, references=False)
    words = [
        "--protocol",
        "full",
        "--quick",
        "--plans",
        "50",
        "--split",
        "validation",
        "--no-momentum",
        "--page",
        "p.md",
    ]
    full = read("", words)
    assert isinstance(full, Protocol)
    assert (full.plans, full.rules, full.split, full.momentum, full.page) == (50, 8, "validation", False, Path("p.md"))
    assert read("", ["--protocol", "full"]) == Protocol()
    asked = read("", ["--protocol", "transfer", "--teachers", "full", "--teacher-seed", "3", "--questions", "rates"])
    assert asked == Transfer(teachers=Path("full"), teacher_seed=3, questions=("rates",))
    quick = read("", ["--protocol", "transfer", "--quick", "--cloned"])
    assert isinstance(quick, Transfer)
    assert (quick.cloned, quick.plans, quick.instances) == (True, 8, 6)
    tiny = read("", ["--protocol", "factorial", "--quick"])
    assert isinstance(tiny, Factorial)
    assert (tiny.problems, tiny.oracle, tiny.train_decisions) == (("Booth",), 8, 512)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--protocol", "full", "--seeds", "3"], "--seeds: no option of --protocol full"),
        (["--plans=3", "--no-momentum"], "--no-momentum, --plans: no option of --protocol study"),
        (["--protocol", "full", "--teachers", "x"], "--teachers: no option of --protocol full"),
        (["--protocol", "transfer", "--seeds", "9"], "--seeds: no option of --protocol transfer"),
        (["--quick"], "give --protocol full, transfer or factorial"),
        (["--protocol", "half"], "half"),
        (["--astrology"], "--astrology"),
        (["--problems", "Booth", "Booth"], "problems must be different from each other"),
        (["--problems"], "problems is empty"),
        (["--problems", "Booth", "--budget", "Booth=3"], "--budget"),
        (["--protocol", "full", "--budget", "Nowhere=3"], "budget names Nowhere"),
        *(
            (["--protocol", "full", "--budget", *words], "expected a number, or NAME=NUMBER")
            for words in (["Booth=3", "Booth=4"], ["3", "4"], ["=3"], [])
        ),
        *((["--protocol", "full", "--budget", word], "budget") for word in ("many", "Booth=few", "Booth=", "Booth=-3")),
    ],
)
def test_what_cannot_be_asked_is_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(words, reason, capsys)


def test_budgets_by_problem() -> None:
    words = ["--protocol", "full", "--problems", "Booth", "Rosenbrock", "--budget"]
    assert read("", [*words, "Rosenbrock=20", "Booth=12"]).budget == {"Rosenbrock": 20.0, "Booth": 12.0}
    assert read("", [*words, "7"]).budget == 7.0


def test_figures_of_the_reproduction() -> None:
    one = command_line.read(reproduce.Reproduction, ["figure4", "--full", "--seeds", "2"])
    assert (one.figures, one.full, one.seeds) == (("figure4",), True, 2)
    assert command_line.read(reproduce.Reproduction, ["--epochs", "3", "all"]).figures == tuple(reproduce.FIGURES)
    for words in ([], ["figure9"], ["figure1", "FIGURE1"], ["figure1", "--full", "--quick"]):
        with pytest.raises(SystemExit):
            command_line.read(reproduce.Reproduction, words)
