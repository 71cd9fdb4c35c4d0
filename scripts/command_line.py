"""Command lines made from dataclasses by tyro: an option per setting, with its sentence from the docstring and its default.

Settings of nested dataclasses are options of one level. A search, an optimizer or another table of settings is a name or
JSON; what a setting's own class refuses ends the command with the reason, before any work.

Every command takes ``--import MODULE``, any number of times: these modules are imported first, and so they can register what
the other options name.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from imports import IMPORTS, own_words

T = TypeVar("T")


def read(
    kind: type[T], words: Sequence[str] | None = None, *, default: T | None = None, description: str | None = None
) -> T:
    """The settings that a command line asks for.

    Args:
        kind: A dataclass of settings.
        words: The command line without the script's name; None: that of this process.
        default: Settings where nothing is asked for; None: the defaults of the class.
        description: Description of the script, for ``--help``; None: the docstring of the class.

    Raises:
        SystemExit: With status 2 and the reason on stderr where the words are not allowed; after ``--help``.
    """
    return _read(kind, words, default, description)


def glance(kind: type[T], words: Sequence[str] | None = None) -> T:
    """What a command line says of some settings; all other words are passed over.

    A script whose defaults depend on some of its options looks at these first and then calls `read`.

    Args:
        kind: A dataclass of these settings.
        words: Words of the command line, as in `read`.

    Raises:
        SystemExit: As `read`.
    """
    found, _ = _read(kind, words, None, None, return_unknown_args=True, add_help=False)
    return found


def refuse(names: Collection[str], words: Sequence[str] | None, reason: str) -> None:
    """Refuse options that another command has, and this one has not.

    Args:
        names: Names of the other's settings.
        words: Words of the command line, as in `read`.
        reason: Reason that the message gives.

    Raises:
        SystemExit: With status 2, where the command line has one.
    """
    flags = {word.partition("=")[0] for word in own_words(words) if word.startswith("--")}
    asked = {f"--{prefix}{name.replace('_', '-')}" for name in names for prefix in ("", "no-")} & flags
    if asked:
        print(f"{', '.join(sorted(asked))}: {reason}", file=sys.stderr)
        raise SystemExit(2)


def _paragraphs(description: str | None) -> str | None:
    """A description whose commands each keep a line of their own: tyro joins the lines of a paragraph."""
    if description is None:
        return None
    parts = [*description.strip().split("\n\n"), IMPORTS]
    return "\n\n".join(part.replace("\n", "\n\n") if "python scripts/" in part else part for part in parts)


def _read(kind: Any, words: Sequence[str] | None, default: Any, description: str | None, **more: Any) -> Any:
    try:
        import tyro
    except ImportError as error:
        raise SystemExit('command lines need tyro: pip install "teleport-env[train]"') from error
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_rule)
    given: Any = {} if default is None else {"default": default}
    try:
        with registry:
            return tyro.cli(
                kind,
                args=own_words(words),
                description=_paragraphs(description),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs),
                **given,
                **more,
            )
    except ValueError as error:  # what a class of settings refuses, which older versions of tyro hand on
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


def _rule(info: Any) -> Any:
    """How tyro reads one word that is a name or JSON; None leaves the type to tyro."""
    from tyro.constructors import PrimitiveConstructorSpec

    parts = typing.get_args(info.type) if typing.get_origin(info.type) in (typing.Union, types.UnionType) else ()
    kinds = [typing.get_origin(part) or part for part in parts or (info.type,)]
    if not any(one in (Any, Mapping, dict) for one in kinds):
        return None
    if float in kinds:
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="NUMBER|NAME=NUMBER ...",
            instance_from_str=_numbers,
            is_instance=lambda value: True,
            str_from_instance=lambda value: ["None" if value is None else json.dumps(value)],
        )
    named, optional = Any in kinds or str in kinds, types.NoneType in kinds

    def value_of(words: list[str]) -> Any:
        (word,) = words
        if word == "None" and optional:
            return None
        return word if named and not word.startswith("{") else _table(word)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME|JSON" if named else "JSON",
        instance_from_str=value_of,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value) if value is None or isinstance(value, str) else json.dumps(value)],
    )


def _numbers(words: list[str]) -> float | dict[str, float] | None:
    """One number for everything, or one for each that is named; ``None`` alone."""
    if words == ["None"]:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return float(words[0])
    parts = [word.partition("=") for word in words]
    if not parts or not all(name and sign for name, sign, _ in parts) or len({name for name, *_ in parts}) < len(parts):
        raise ValueError(f"expected a number, or NAME=NUMBER for different names, got {' '.join(words) or 'nothing'}")
    return {name: float(text) for name, _, text in parts}


def _table(word: str) -> dict[str, Any]:
    try:
        found = json.loads(word)
    except ValueError as error:
        raise ValueError(f"{word!r} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {word!r}")
    return found
