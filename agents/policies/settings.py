"""What the settings of a policy file may say: checked before a policy is made of them.

`teleport_env.agents.policies.file` promises that they are JSON's types; here each gets its meaning, or is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        environment: What it asks of the environment there.
        slots: Of each search of that menu: its place among the policy's slots.
        prices: As in `LearnedSchedule`.
    """

    environment: Mapping[str, Any]
    slots: tuple[int, ...]
    prices: tuple[float, ...]


_SHARED: dict[str, Any] = {
    "name": str,
    "kind": str,
    "problems": list,
    "features": list,
    "activation": str,
    "stochastic": bool,
    "seed": int,
    "environment": dict,
    "provenance": dict,
}
"""Settings that every policy's file has, and their types."""


def settings_of(settings: Mapping[str, Any], own: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """The settings of a file, each of the type that the policy's class takes.

    Args:
        settings: What the file says.
        own: Settings that files of this class have beside the shared ones, and their types; lists but ``prices`` hold names.
        allowed: What the policy may ask of its environment.

    Raises:
        ValueError: One that does not; what is wrong with it.
    """
    _check_types(settings, {**_SHARED, **own})
    lists = [name for name, kind in {**_SHARED, **own}.items() if kind is list]
    if not all(isinstance(entry, str) for name in lists for entry in settings[name]):
        raise ValueError(f"{', '.join(lists)} must be names")
    _check_prices(settings.get("prices") or [])
    check_environment(settings["environment"], allowed)
    if "families" not in own:
        return dict(settings)
    families = {problem: _family(problem, content) for problem, content in settings["families"].items()}
    return {**settings, "families": families}


def check_name(name: str) -> None:
    """Raise ValueError unless a policy may be called so in tables, on pages and terminals, and in names of files."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name must be 1 to 80 letters, digits, spaces and _ . , : ; + * ( ) ~ -, the first a letter, digit or _; got "
            f"{name[:80]!a}"
        )


def _check_types(settings: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    if set(settings) != set(types):
        raise ValueError(f"the settings are {sorted(settings)}, expected {sorted(types)}")
    for name, expected in types.items():
        if not isinstance(settings[name], expected) or (expected is int and isinstance(settings[name], bool)):
            raise ValueError(f"{name} has the wrong type, {type(settings[name]).__name__}")


def _check_prices(prices: Any) -> None:
    sane = isinstance(prices, list) and all(isinstance(price, (int, float)) for price in prices)
    if not sane or any(isinstance(price, bool) for price in prices):
        raise ValueError("prices must be numbers")


def _family(problem: str, content: Any) -> Family:
    if not isinstance(content, dict) or set(content) != {"environment", "slots", "prices"}:
        raise ValueError(f"the family {problem!r} must have an environment, slots and prices")
    if not isinstance(content["environment"], dict) or not isinstance(content["slots"], list):
        raise ValueError(f"the family {problem!r} must have an environment and a list of slots")
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
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
            raise ValueError(f"rates, their factors and group_scale must be positive numbers, got {factor!r}")
    steps = environment.get("steps_per_action", 1)
    if type(steps) is not int or not 1 <= steps <= 1_000_000:
        raise ValueError(f"steps_per_action must be an integer of at least 1, got {steps!r}")
