"""The command line that the settings of a training make, and back."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teleport_env.agents.learning.settings import Training
from teleport_env.envs.features import NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option a setting, named like it and with its sentence; what is not given is left out of the result."""
    sentences = _sentences()
    hints = typing.get_type_hints(Training)
    for f in dataclasses.fields(Training):
        kind, many = _type(hints[f.name])
        sentence = sentences.get(f.name, "").replace("``", "")
        if f.default not in (None, NAMES):
            sentence += f" Default: {f.default}"
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": sentence.replace("%", "%%"), "dest": f.name}
        if kind is bool:
            parser.add_argument(_flag(f.name), action=argparse.BooleanOptionalAction, **options)
        else:
            parser.add_argument(_flag(f.name), type=kind, nargs="*" if many else None, **options)


def from_arguments(given: Mapping[str, Any], recipe: Mapping[str, Any]) -> Training:
    """The settings: what was given goes before the recipe. A bare name of the recipe's optimizer keeps its settings."""
    own = recipe.get("optimizer")
    if isinstance(own, Mapping) and given.get("optimizer") == own["optimizer"]:
        given = {**given, "optimizer": own}
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Training(**{**recipe, **tuples})


def command(training: Training, start: Mapping[str, Any]) -> str:
    """The command that asks for a training, but for the folder it writes to.

    Args:
        training: The settings.
        start: The recipe that the command line begins with.
    """
    usual = Training(**start)
    words = ["python", "scripts/train.py", "--problem", *training.problems]
    for f in dataclasses.fields(training):
        value = getattr(training, f.name)
        # the optimizer decides which recipe the command begins with, so that it is said even where the recipe says it too
        said = f.name == "optimizer" and value is not None
        if said and isinstance(value, str) and isinstance(usual.optimizer, Mapping):
            value = {"optimizer": value}  # a bare name would be read as the recipe's, with its settings
        if f.name in ("problem", "out", "tensorboard") or (value == getattr(usual, f.name) and not said):
            continue
        if isinstance(value, bool):
            words.append(_flag(f.name) if value else "--no-" + _flag(f.name)[2:])
        elif f.name == "rule" and not value:
            words += [_flag(f.name), "{}"]
        else:
            words += [_flag(f.name), *map(_word, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, Path) and value.is_absolute():
        return value.name  # where it lay on somebody's machine tells nobody anything
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _type(hint: Any) -> tuple[Any, bool]:
    """How to read one word of a setting, and whether there are many words."""
    if hint == float | None:
        return _number_or_none, False
    if hint == str | None:
        return _word_or_none, False
    if isinstance(hint, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
        if len(parts) == 2 and parts[0] is str and typing.get_origin(parts[1]) is Mapping:
            return search_of_word, False  # a name, or the dict as JSON
        hint = parts[-1]  # one or several: several
    if typing.get_origin(hint) is Mapping:
        return _mapping, False
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return (search_of_word if inner is Any else inner), True
    return hint, False


def search_of_word(word: str) -> Any:
    """A search, or an optimizer, from a word of the command line: its name, or its dict as JSON.

    Raises:
        argparse.ArgumentTypeError: JSON that is none.
    """
    return _mapping(word) if word.startswith("{") else word


def _number_or_none(word: str) -> float | None:
    try:
        return None if word == "None" else float(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number or None, got {word!r}") from error


def _word_or_none(word: str) -> str | None:
    return None if word == "None" else word


def _mapping(word: str) -> Any:
    try:
        found = json.loads(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, got {word!r}")
    return found


def _sentences() -> dict[str, str]:
    """The sentence of each attribute in the class's docstring."""
    lines = (Training.__doc__ or "").partition("Attributes:")[2].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        text = line.strip()
        if line.startswith(" " * 8) and not line.startswith(" " * 9) and ":" in text:
            name, _, text = text.partition(":")
        if name:
            found[name] = f"{found.get(name, '')} {text}".strip()
    return found
