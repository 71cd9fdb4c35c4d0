"""The reader of numbers, arrays, names and settings: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from teleport_env import reading

HUGE = 10**400


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_integers_of_every_library(value: Any) -> None:
    found = reading.integer("count", value, least=3, most=3)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 3.0, "3", None, [3], np.array([3]), 2, 5, HUGE, 3j]
)
def test_what_is_no_such_integer_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="count must be an integer of at least 3 and at most 4, got "):
        reading.integer("count", value, least=3, most=4)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1), torch.tensor(1.0), np.array(1.0), Fraction(1)])
def test_numbers_of_every_library(value: Any) -> None:
    found = reading.number("rate", value, above=0, most=1)
    assert found == 1.0
    assert type(found) is float


@pytest.mark.parametrize(
    "value",
    [
        True,
        "1",
        None,
        [1.0],
        np.array([1.0]),
        1j,
        torch.tensor(True),
        HUGE,
        pytest.param(10**5000, id="5001 digits"),
        np.nan,
        np.inf,
        0,
        -1,
        2,
    ],
)
def test_what_is_no_such_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="rate must be a finite number above 0 and at most 1, got ") as caught:
        reading.number("rate", value, above=0, most=1)
    assert len(str(caught.value)) < 300


def test_infinity_where_it_is_allowed() -> None:
    assert reading.number("cap", np.inf, finite=False) == np.inf
    with pytest.raises(ValueError, match="cap must be a number, got nan"):
        reading.number("cap", np.nan, finite=False)


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)])
def test_lists(value: Any) -> None:
    assert reading.entries("factors", value) == [1, 2]


@pytest.mark.parametrize("value", ["12", b"12", 12, None, {1, 2}, {1: 2}, np.ones((2, 2)), torch.tensor(1)])
def test_what_is_no_list(value: Any) -> None:
    with pytest.raises(ValueError, match="factors must be a list of numbers, got "):
        reading.entries("factors", value, "numbers")


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "value",
    [
        [0, 2],
        (np.int8(0), torch.tensor(2)),
        np.array([0, 2], dtype=object),
        _read_only(np.array([0, 2])),
        *(np.array([0, 2], dtype=kind) for kind in ("u1", "u2", "u4", "u8", "<i8", ">i8", ">u2", "i1")),
        *(torch.tensor([0, 2], dtype=kind) for kind in (torch.uint8, torch.uint16, torch.uint64, torch.int32)),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_arrays_of_integers(value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = reading.tensor("actions", value, integers=True)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 2]
    if isinstance(value, np.ndarray):
        before = value.tolist()
        found[0] = 5
        assert value.tolist() == before, "the caller's memory is not shared"


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            "a",
            ["a"],
            [1.5],
            [True],
            [True, 1],
            [1, None],
            [[1], [1, 2]],
            [1j],
            {"a": 1},
            [2**63],
            [HUGE],
            [1.5, HUGE],
        ),
        *(np.array([2**63], dtype=np.uint64), torch.tensor([2**63], dtype=torch.uint64), torch.tensor([True])),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_are_no_integers(value: Any) -> None:
    with pytest.raises(ValueError, match="actions must be integers of at most 64 bits, got ") as caught:
        reading.tensor("actions", value, integers=True)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([0.5, 2], torch.float64),
        (np.array([0.5, 2], dtype=object), torch.float64),
        (np.array([0.5, 2], dtype=">f8"), torch.float64),
        (np.array([0.5, 2], dtype=np.longdouble), torch.float64),
        (_read_only(np.array([0.5, 2], dtype=np.float32)), torch.float32),
        (np.array([0.5, 2], dtype=">f4"), torch.float32),
        (np.array([0.5, 2], dtype=np.float16), torch.float32),
        (torch.tensor([0.5, 2], dtype=torch.bfloat16), torch.float32),
        (torch.tensor([0.5, 2], dtype=torch.float64, requires_grad=True), torch.float64),
    ],
)
def test_arrays_of_numbers(value: Any, dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = reading.tensor("params", value)
    assert found.dtype == dtype
    assert found.tolist() == [0.5, 2.0]
    assert not found.requires_grad


def test_flags_where_they_are_allowed() -> None:
    assert reading.tensor("teleport", np.array([True, False]), integers=True, flags=True).tolist() == [1, 0]
    with pytest.raises(ValueError, match="params must be numbers"):
        reading.tensor("params", np.array([True, False]))
    with pytest.raises(ValueError, match="params must be numbers"):
        reading.tensor("params", torch.tensor([1j]))


def test_names_match_whatever_their_case() -> None:
    assert reading.known("problem", "booth", ("Booth", "Ellipse")) == "Booth"
    assert reading.known("problem", np.str_("Booth"), ("Booth", "Ellipse")) == "Booth"
    with pytest.raises(ValueError, match="must be one of"):  # two that differ by their case alone
        reading.known("problem", "BOOTH", ("Booth", "booth"))


@pytest.mark.parametrize("name", ["Boot", "boothe", "BOTH"])
def test_an_unknown_name_gets_a_suggestion(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"problem must be one of .*'Ellipse', got '{name}'\. Did you mean 'Booth'\? Help\."
    ):
        reading.known("problem", name, ("Booth", "Ellipse"), "Help.")


@pytest.mark.parametrize("name", [None, 5, [], "", "zzz"])
def test_a_name_like_no_other_gets_the_list(name: Any) -> None:
    with pytest.raises(ValueError, match="problem must be one of 'Booth', 'Ellipse', got [^.]*$"):
        reading.known("problem", name, ("Booth", "Ellipse"))


@dataclass(frozen=True, kw_only=True)
class _Rule:
    decay: float = 0.5
    capped: bool = True
    steps: int | None = None
    name: str = "a"
    sizes: tuple[int, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    other: Any = None

    def __post_init__(self) -> None:
        reading.read_fields("rule 'x'", self)


class _Thing:
    def __init__(self, decay: float = 0.5, capped: bool = True, sizes: Sequence[int] = ()) -> None:
        self.all = (decay, capped, sizes)


class _Heir(_Thing):
    def __init__(self, name: str = "a", **others: Any) -> None:
        super().__init__(**others)


WRONG = (("decay", "0.5"), ("decay", True), ("capped", "false"), ("capped", 1), ("sizes", "12"), ("sizes", [1.5]))


@pytest.mark.parametrize("factory", [_Rule, _Thing, _Heir])
@pytest.mark.parametrize(("name", "value"), [*WRONG, ("name", 5), ("steps", 1.5), ("span", (1,)), ("span", "ab")])
def test_settings_are_read_by_their_annotations(factory: Callable[..., Any], name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="of rule 'x' (must be|has no setting)|rule 'x' has no setting"):
        reading.arguments("rule 'x'", factory, {name: value})


@pytest.mark.parametrize("value", [{"decay": "0.5"}, {"capped": "false"}, {"steps": True}, {"span": (1.0,)}])
def test_a_dataclass_reads_its_fields(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(value))} of rule 'x' must be"):
        _Rule(**value)
    made = _Rule(decay=np.float32(0.5), sizes=[np.int64(3)], steps=np.int64(2), capped=np.True_)  # type: ignore[arg-type]
    assert repr(made) == "_Rule(decay=0.5, capped=True, steps=2, name='a', sizes=(3,), span=(0.0, 1.0), other=None)"


def test_an_unknown_setting_gets_a_suggestion() -> None:
    with pytest.raises(
        ValueError, match=r"rule 'x' has no setting 'cap'.*name, decay, capped, sizes. Did you mean 'capped'"
    ):
        reading.arguments("rule 'x'", _Heir, {"cap": True})
    assert reading.arguments("rule 'x'", lambda **others: others, {"cap": True}) == {"cap": True}


def test_several_names() -> None:
    @dataclass(frozen=True)
    class Asked:
        names: Any

        def __post_init__(self) -> None:
            reading.choose_some("a question", self, "names", ("Booth", "Ellipse"))

    assert Asked(["ellipse", "BOOTH"]).names == ("Ellipse", "Booth")
    for wrong in ((), ("Booth", "booth")):
        with pytest.raises(
            ValueError, match="names of a question must be 1 or more different names among Booth, Ellipse"
        ):
            Asked(wrong)
    with pytest.raises(ValueError, match="names of a question must be a list of names, got 'Booth'"):
        Asked("Booth")
    with pytest.raises(ValueError, match="an entry of names of a question must be one of .*Did you mean 'Booth'"):
        Asked(["Boot"])


def test_one_is_no_plural() -> None:
    """Regression: messages said "1 kinds of gradient step" and "Searching 1 fixed schedules"."""
    assert [reading.counted(count, "kind") for count in (0, 1, 2)] == ["0 kinds", "1 kind", "2 kinds"]
    env = gymnasium.make("teleport_env:Teleport/Rosenbrock-v0", split="train", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="outside 0..3: 1 kind of gradient step, then 3 teleports"):
        env.step(99)
