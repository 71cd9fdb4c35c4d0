"""Command lines made from dataclasses by tyro: an option a setting, with its sentence from the docstring and its default.

Settings of nested dataclasses are options of one level. A search, an optimizer or another table of settings is a name or
JSON; what a setting's own class refuses is told with its reason, before anything is computed.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def read(
    kind: type[T], words: Sequence[str] | None = None, *, default: T | None = None, description: str | None = None
) -> T:
    """The settings that a command line asks for.

    Args:
        kind: A dataclass of settings.
        words: The command line without the script's name; None: that of this process.
        default: What is not asked for; None: the defaults of the class.
        description: Of the script, for ``--help``; None: the docstring of the class.

    Raises:
        SystemExit: With status 2 and the reason on stderr where the words are not allowed; after ``--help``.
    """
    return _read(kind, words, default, description)


def glance(kind: type[T], words: Sequence[str] | None = None) -> T:
    """What a command line says of some settings; all other words are passed over.

    A script whose defaults depend on some of its options looks at these first and then calls `read`.

    Args:
        kind: A dataclass of these settings.
        words: As in `read`.

    Raises:
        SystemExit: As `read`.
    """
    found, _ = _read(kind, words, None, None, return_unknown_args=True, add_help=False)
    return found


def _read(kind: Any, words: Sequence[str] | None, default: Any, description: str | None, **more: Any) -> Any:
    try:
        import tyro
    except ImportError as error:
        raise SystemExit('command lines need tyro: pip install "teleport-env[train]"') from error
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_rule)
    given: Any = {} if default is None else {"default": default}
    with registry:
        return tyro.cli(
            kind,
            args=sys.argv[1:] if words is None else words,
            description=description,
            config=(tyro.conf.OmitArgPrefixes,),
            **given,
            **more,
        )


def _rule(info: Any) -> Any:
    """How tyro reads one word that is a name or JSON; None leaves the type to tyro."""
    from tyro.constructors import PrimitiveConstructorSpec

    parts = typing.get_args(info.type) if typing.get_origin(info.type) in (typing.Union, types.UnionType) else ()
    kinds = [typing.get_origin(part) or part for part in parts or (info.type,)]
    if not any(one in (Any, Mapping, dict) for one in kinds):
        return None
    named, optional = Any in kinds or str in kinds, types.NoneType in kinds

    def value_of(words: list[str]) -> Any:
        (word,) = words
        if word == "None" and optional:
            return None
        return word if named and not word.startswith("{") else _table(word)

    def word_of(value: Any) -> list[str]:
        return [str(value) if value is None or isinstance(value, str) else json.dumps(value)]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME|JSON" if named else "JSON",
        instance_from_str=value_of,
        is_instance=lambda value: True,
        str_from_instance=word_of,
    )


def _table(word: str) -> dict[str, Any]:
    try:
        found = json.loads(word)
    except ValueError as error:
        raise ValueError(f"{word!r} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {word!r}")
    return found
