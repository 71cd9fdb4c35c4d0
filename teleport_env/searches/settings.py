"""Names of searches and the way between a search and JSON.

A kind of search is a class, ``{"search": kind, **settings}`` one of its instances, and a name in `NAMED` a ready-made
instance. The classes enter themselves into `KINDS` with the decorator `kind`, a user's own ones too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from teleport_env.reading import arguments, choose, integer, known, number, read_fields, refuse, shown
from teleport_env.searches.base import Search

KINDS: dict[str, type[Search]] = {}
"""Kinds of searches, filled by `kind`."""

NAMED: dict[str, Search] = {}
"""Ready-made searches by name, filled in `teleport_env.searches`."""

_TELLING = ("steps", "radius", "sweeps", "candidates", "side", "hidden")
"""Settings that `describe` shows: those that menus most often differ in."""

S = TypeVar("S", bound=type[Search])


def kind(cls: S) -> S:
    """Class decorator: let `search_from` find a search by its ``kind``.

    Raises:
        ValueError: Another class has that kind.
    """
    if KINDS.get(cls.kind, cls) is not cls:
        raise ValueError(
            f"the kind {cls.kind!r} is taken by {KINDS[cls.kind].__name__}; give {cls.__name__} another one"
        )
    KINDS[cls.kind] = cls
    return cls


def search_from(spec: str | Mapping[str, Any] | Search) -> Search:
    """The search that a user means.

    Args:
        spec: A name, a dict ``{"search": name or kind, **settings}`` whose settings override the named search's, or a
            `Search`, which is returned as it is.

    Raises:
        ValueError: Something else than the three, an unknown name or setting, or a value that a setting does not allow.
    """
    if isinstance(spec, Search):
        return spec
    if isinstance(spec, str):
        return _by_name(spec)
    if not isinstance(spec, Mapping):
        refuse("a search", "a name, a dict with the key 'search', or a Search", spec)
    if "search" not in spec:
        listed = ", ".join(map(repr, dict.fromkeys([*NAMED, *KINDS])))
        raise ValueError(f"the search {shown(dict(spec))} lacks the key 'search'; its value is one of {listed}")
    search = _by_name(spec["search"])
    settings = {key: value for key, value in spec.items() if key != "search"}
    return replace(search, **arguments(f"search {search.kind!r}", type(search), settings)) if settings else search


def to_dict(search: Search) -> dict[str, Any]:
    """The search as a dict of JSON's types with all its settings; `search_from` gives an equal search back.

    Raises:
        ValueError: A class that is not in `KINDS` (`search_from` could not read it back).
    """
    if KINDS.get(search.kind) is not type(search):
        raise ValueError(
            f"{type(search).__name__} cannot be written as a dict: its kind {search.kind!r} is not registered. "
            f"Decorate the class with teleport_env.searches.kind"
        )
    return {"search": search.kind} | {field.name: _plain(getattr(search, field.name)) for field in fields(search)}


def describe(search: Search) -> str:
    """The search in a few words: its kind, its objective, and the settings that menus most often differ in."""
    shown = [search.kind.replace("_", " ")]
    if search.objective != search.kind:
        shown.append(search.objective.replace("_", " "))
    shown += [f"{name} {getattr(search, name)}" for name in _TELLING if hasattr(search, name)]
    flags = (one for one in fields(search) if isinstance(one.default, bool) and one.name != "resets_optimizer")
    for flag in flags:
        if getattr(search, flag.name) is not flag.default:
            shown.append(("no " if flag.default else "") + flag.name.replace("_", " "))
    return ", ".join(shown)


def _by_name(name: Any) -> Search:
    name = known("search", name, [*NAMED, *KINDS])
    return NAMED[name] if name in NAMED else KINDS[name]()


def _plain(value: Any) -> Any:
    if isinstance(value, Search):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


# -- validation: each names the setting, its value, and what is allowed ------------------------------------------------


def require_count(search: Search, name: str) -> None:
    """A setting must be an integer of at least 1."""
    integer(f"{name} of search {search.kind!r}", getattr(search, name), least=1)


def require_positive(search: Search, *names: str, most: float | None = None) -> None:
    """Settings must be finite positive numbers, and at most ``most``."""
    for name in names:
        number(f"{name} of search {search.kind!r}", getattr(search, name), above=0, most=most)


def require_choice(search: Search, name: str, allowed: Sequence[str]) -> None:
    """A setting must be one of some names."""
    choose(f"search {search.kind!r}", search, name, allowed)


def require_common(search: Search, objectives: Sequence[str]) -> None:
    """Read the fields as their annotations say (`teleport_env.reading.read_fields`), and check those of `Search` itself."""
    read_fields(f"search {search.kind!r}", search)
    require_choice(search, "objective", objectives)
    if search.loss_tolerance is not None:
        require_positive(search, "loss_tolerance")
