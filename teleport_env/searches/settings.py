"""Names of searches and the way between a search and JSON.

A kind of search is a class, ``{"search": kind, **settings}`` one of its instances, and a name in `NAMED` a ready-made
instance. The classes enter themselves into `KINDS` with the decorator `kind`, a user's own ones too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

from teleport_env.searches.base import Search

KINDS: dict[str, type[Search]] = {}
"""Kinds of searches, filled by `kind`."""

NAMED: dict[str, Search] = {}
"""Ready-made searches by name, filled in `teleport_env.searches`."""

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
        ValueError: An unknown name, an unknown setting, or a value that the setting does not allow.
        TypeError: Something else than the three.
    """
    if isinstance(spec, Search):
        return spec
    if isinstance(spec, str):
        return _by_name(spec)
    if not isinstance(spec, Mapping):
        raise TypeError(f"a search is a name, a dict with the key 'search', or a Search object; got {spec!r}")
    if "search" not in spec:
        raise ValueError(f"the search {dict(spec)!r} lacks the key 'search'; its value is one of {_known()}")
    search = _by_name(spec["search"])
    settings = {key: value for key, value in spec.items() if key != "search"}
    allowed = [field.name for field in fields(search) if field.init]
    for key in settings:
        if key not in allowed:
            raise ValueError(f"search {spec['search']!r} has no setting {key!r}; it has {', '.join(allowed)}")
    return replace(search, **settings) if settings else search


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


def _by_name(name: Any) -> Search:
    if name in NAMED:
        return NAMED[name]
    if name in KINDS:
        return KINDS[name]()
    raise ValueError(f"search {name!r} is unknown; choose one of {_known()}")


def _known() -> str:
    return ", ".join(map(repr, dict.fromkeys([*NAMED, *KINDS])))


def _plain(value: Any) -> Any:
    if isinstance(value, Search):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


# -- validation: each names the setting, its value, and what is allowed ------------------------------------------------


def require_count(search: Search, name: str) -> None:
    """A setting must be an integer of at least 1."""
    value = getattr(search, name)
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} of search {search.kind!r} must be an integer of at least 1, got {value!r}")


def require_positive(search: Search, *names: str, most: float = math.inf) -> None:
    """Settings must be finite positive numbers, and at most ``most``."""
    for name in names:
        value = getattr(search, name)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 < float(value) < math.inf or float(value) > most:
            allowed = "a positive number" if most == math.inf else f"a number above 0 and at most {most:g}"
            raise ValueError(f"{name} of search {search.kind!r} must be {allowed}, got {value!r}")


def require_flags(search: Search, *names: str) -> None:
    """Settings must be booleans."""
    for name in names:
        value = getattr(search, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} of search {search.kind!r} must be True or False, got {value!r}")


def require_choice(search: Search, name: str, allowed: Sequence[str]) -> None:
    """A setting must be one of some names."""
    value = getattr(search, name)
    if value not in allowed:
        raise ValueError(
            f"{name} of search {search.kind!r} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
        )


def require_common(search: Search, objectives: Sequence[str]) -> None:
    """What every search asks of the settings of `Search` itself; ``objectives``: those it can serve."""
    require_choice(search, "objective", objectives)
    require_flags(search, "resets_optimizer")
    if search.loss_tolerance is not None:
        require_positive(search, "loss_tolerance")
