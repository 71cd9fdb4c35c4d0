"""What the settings of a policy file may say: checked before a policy is made of them.

`teleport_env.agents.policies.file` promises that they are JSON's types; here each gets its meaning, or is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from teleport_env.optimizers import optimizer_from
from teleport_env.searches import search_from

ENVIRONMENT = ("searches", "rate_factors", "steps_per_action", "learning_rate", "optimizer", "on_teleport", "symmetry")
"""What a policy may ask of its environment. Problem, split, budget and device are the player's."""

GROUP_ENVIRONMENT = ("action_mode", "observation", "group_scale", *ENVIRONMENT[2:])
"""The same of a policy that gives the group parameters itself: it has neither searches nor rate factors."""

_NAME = re.compile(r"\w[\w .,:;+*()~-]{0,79}")


@dataclass(frozen=True)
class Family:
    """How a policy for several problems plays one of them.

    Attributes:
        environment: Keyword arguments of the environment there.
        slots: Place among the policy's slots of each search of that menu.
        prices: Prices of these searches, as in `LearnedSchedule`.
    """

    environment: Mapping[str, Any]
    slots: tuple[int, ...]
    prices: tuple[float, ...]


def settings_of(
    policy: Any, settings: Mapping[str, Any], tensors: Collection[str], allowed: Sequence[str]
) -> dict[str, Any]:
    """The settings of a file, each of the type that the policy's dataclass says in its annotations.

    The file holds the attributes ``tensors`` elsewhere. The policy may ask for what is ``allowed`` of its environment.

    Raises:
        ValueError: One that does not; what is wrong with it.
    """
    found = get_type_hints(policy)
    hints = {f.name: found[f.name] for f in fields(policy) if f.name not in tensors}
    if set(settings) != set(hints):
        raise ValueError(f"the settings are {sorted(settings)}, expected {sorted(hints)}")
    for name, hint in hints.items():
        if type(settings[name]) not in _json_types(hint):
            raise ValueError(f"{name} has the wrong type, {type(settings[name]).__name__}")
    lists = [name for name, hint in hints.items() if get_args(hint)[:1] == (str,) and get_origin(hint) is tuple]
    if not all(isinstance(entry, str) for name in lists for entry in settings[name]):
        raise ValueError(f"{', '.join(lists)} must be names")
    _check_prices(settings.get("prices") or [])
    check_environment(settings["environment"], allowed)
    if "families" not in hints:
        return dict(settings)
    families = {problem: _family(problem, content) for problem, content in settings["families"].items()}
    return {**settings, "families": families}


def _json_types(hint: Any) -> tuple[type, ...]:
    """JSON's types of an annotation."""
    if get_origin(hint) is UnionType:
        return tuple(kind for part in get_args(hint) for kind in _json_types(part))
    origin = get_origin(hint)
    return (list if origin is tuple else dict if origin is Mapping else hint,)


def check_name(name: str) -> None:
    """Raise ValueError unless a policy may be called so in tables, on pages and terminals, and in names of files."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name must be 1 to 80 letters, digits, spaces and _ . , : ; + * ( ) ~ -, the first a letter, digit or _; got "
            f"{name[:80]!a}"
        )


def _check_prices(prices: Any) -> None:
    if not isinstance(prices, list) or not all(type(price) in (int, float) for price in prices):
        raise ValueError("prices must be numbers")


def _family(problem: str, content: Any) -> Family:
    sane = isinstance(content, dict) and set(content) == {"environment", "slots", "prices"}
    if not sane or not isinstance(content["environment"], dict) or not isinstance(content["slots"], list):
        raise ValueError(f"the family {problem!r} must have an environment, a list of slots, and prices")
    check_environment(content["environment"])
    _check_prices(content["prices"])
    return Family(content["environment"], tuple(content["slots"]), tuple(content["prices"]))


def check_environment(environment: Mapping[str, Any], allowed: Sequence[str] = ENVIRONMENT) -> None:
    """Raise ValueError unless a policy may ask for this environment, and all it names is known here."""
    unknown = sorted(set(environment) - set(allowed))
    if unknown:
        raise ValueError(f"a policy cannot set {', '.join(unknown)} of its environment, but {', '.join(allowed)}")
    kinds = {"searches": list, "rate_factors": list, "on_teleport": str, "symmetry": str, "observation": str}
    for name, expected in kinds.items():
        if name in environment and not isinstance(environment[name], expected):
            raise ValueError(f"{name} has the wrong type, {type(environment[name]).__name__}")
    for search in environment.get("searches", ()):
        search_from(search)
    if "optimizer" in environment:
        optimizer_from(environment["optimizer"])
    scale = environment.get("group_scale", 1.0)
    for factor in [*environment.get("rate_factors", ()), environment.get("learning_rate", 1.0), scale]:
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise ValueError(f"rates, their factors and group_scale must be positive numbers, got {factor!r}")
    steps = environment.get("steps_per_action", 1)
    if type(steps) is not int or not 1 <= steps <= 1_000_000:
        raise ValueError(f"steps_per_action must be an integer of at least 1, got {steps!r}")
