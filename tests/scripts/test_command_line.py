"""A command line is made from a dataclass: flat options, each with its sentence and default, checked by the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

import command_line


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A part.

    Attributes:
        searches: The menu.
        own: Further settings by name.
        optimizer: A name or a table of settings.
        rate: Of learning.
    """

    searches: tuple[Any, ...] | None = None
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optimizer: str | Mapping[str, Any] | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """All of it.

    Attributes:
        inner: The part.
        masks: Whether to mask.
        problem: One name or several.
    """

    inner: Inner = Inner()
    masks: bool = True
    problem: str | tuple[str, ...] = "Bowl"


def test_what_is_not_given_is_the_default() -> None:
    assert command_line.read(Whole, []) == Whole()
    default = Whole(inner=Inner(searches=("random", {"search": "grid"}), optimizer={"optimizer": "momentum"}))
    assert command_line.read(Whole, [], default=default) == default
    again = command_line.read(Whole, ["--no-masks", "--rate", "0.5"], default=default)
    assert (again.masks, again.inner.rate, again.inner.searches) == (False, 0.5, default.inner.searches)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (
            ["--searches", "random", '{"search": "grid", "points": 8}'],
            "searches",
            ("random", {"search": "grid", "points": 8}),
        ),
        (["--searches"], "searches", ()),
        (["--searches", "None"], "searches", None),
        (["--own", '{"Bowl": {"plans": 7}}'], "own", {"Bowl": {"plans": 7}}),
        (["--optimizer", "momentum"], "optimizer", "momentum"),
        (["--optimizer", '{"optimizer": "momentum"}'], "optimizer", {"optimizer": "momentum"}),
        (["--optimizer", "None"], "optimizer", None),
        (["--rate", "None"], "rate", None),
    ],
)
def test_options_of_parts_are_flat(words: list[str], name: str, value: Any) -> None:
    found = command_line.read(Whole, words, default=Whole(inner=Inner(searches=("grid",), rate=1.0, optimizer="adam")))
    assert getattr(found.inner, name) == value


def test_one_name_or_several() -> None:
    assert command_line.read(Whole, ["--problem", "Booth"]).problem == "Booth"
    assert command_line.read(Whole, ["--problem", "Booth", "Bowl"]).problem == ("Booth", "Bowl")


def test_a_glance_passes_over_everything_else() -> None:
    assert command_line.glance(Inner, ["--problem", "Booth", "--rate", "2", "--no-masks", "--help"]) == Inner(rate=2.0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rate", "-1"], "rate must be positive, got -1.0"),
        (["--rate", "nan"], "rate must be positive, got nan"),
        (["--rate", "fast"], "could not convert"),
        (["--optimizer", "{bad"], "'{bad' is not JSON"),
        (["--own", "3"], "expected a JSON object, got '3'"),
        (["--astrology", "3"], "--astrology"),
    ],
)
def test_what_is_wrong_is_told_with_its_reason(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line.read(Whole, words)
    assert stopped.value.code == 2
    assert reason in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_help_has_a_sentence_and_the_default_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line.read(Whole, ["--help"], description="What it does.")
    assert stopped.value.code == 0
    page = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for said in ("What it does.", "The menu. (default: None)", "Whether to mask. (default: True)", "(default: Bowl)"):
        assert said in page
    assert "MISSING" not in page
