"""Which environments the registry-driven tests play."""

from __future__ import annotations

from typing import Any

from teleport_env.problems import PROBLEMS

IDS = [f"Teleport/{name}-v0" for name in PROBLEMS]

# the group modes of two GL(512) have half a million coordinates and are refused; scaling is the symmetry to act by there
_SYMMETRY: dict[str, str] = {"MNIST": "scaling", "MNISTSmall": "scaling", "Digits": "scaling", "DigitsFull": "scaling"}


def arguments_for(name: str, mode: str) -> dict[str, Any]:
    """Keyword arguments under which a problem can be played in an action mode."""
    arguments: dict[str, Any] = {"action_mode": mode}
    if mode != "schedule" and name in _SYMMETRY:
        arguments["symmetry"] = _SYMMETRY[name]
    if name == "MNIST":
        arguments["budget"] = 12.0
    return arguments


CASES = [(name, mode) for name in PROBLEMS for mode in ("schedule", "group", "hybrid")]
