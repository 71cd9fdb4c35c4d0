"""The settings that ``scripts/train.py`` begins with, and the command that asks for a training.

A recipe has the settings that all trainings of a sort share, and those of the problem.

What is known of each problem stands in `teleport_env.agents.known`; how it was found, and what did not work, in
``docs/learning-log.md``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from teleport_env.agents.known import KNOWN, RATES, known_of
from teleport_env.agents.learning.settings import Training
from teleport_env.envs.settings import Settings
from teleport_env.registration import IMPORTED, problem_named

__all__ = ["command", "rate_only", "recipe", "teacher", "whitening", "without_teleports"]

SEVERAL: dict[str, Any] = {
    "rate_factors": RATES,
    "price_inputs": True,
    "warm_start": True,
    "critic_segments": 2,
    "decisions": 1_000_000,
    "validation_instances": 128,
    "rules": 0,
    "name": "generalist",
}
"""Of one policy for several problems."""

MOMENTUM: dict[str, Any] = {"on_teleport": "reset", "warm_start": True, "critic_segments": 1, "decisions": 400_000}
"""What momentum needs besides: a buffer that is kept belongs to the point before the teleport, and its good schedules are
found by the search for plans, not by chance."""

GROUP: dict[str, Any] = {
    "action_mode": "group",
    "searches": (),
    "steps_per_action": 1,
    "rules": 0,
    "directions": ("change", "place"),
    "deviation": 0.2,
    "step_size": 3e-3,
    "entropy": 0.0,
    "plans": 512,
    "decisions": 400_000,
}
"""What a policy that gives the group parameters itself begins from, whatever the problem. From a wider Gaussian, or by
shorter steps, most of what it does stays noise."""

WHITENING: dict[str, Any] = {
    "symmetry": "general_linear",
    "rate_factors": (1.0, 0.5, 2.0, 8.0, 64.0),
    "steps_per_action": 1,
    "decisions": 250_000,
    "name": "learned whitening",
}
"""Of a policy whose teleports make the next step Newton's in one layer. Whitening lowers the rate as far as it must; the
larger factors bring it back."""


def recipe(
    problem: str | Sequence[str],
    optimizer: str | Mapping[str, Any] | None = None,
    action_mode: str = "schedule",
    budget: float | None = None,
    reward: str | None = None,
) -> dict[str, Any]:
    """Settings of a `Training` on a problem, or on several.

    Args:
        problem: Registered name, or several.
        optimizer: Optimizer of the runs, if it is not the problem's own, as in `Training`; a policy on momentum begins
            from other settings, and a coefficient of its own may be among them.
        action_mode: ``"schedule"`` or ``"group"``.
        budget: Gradient evaluations per episode, if not the problem's own; it is not among the settings returned.
        reward: Name of the reward, if not the usual one; it is among the settings returned.

    Raises:
        ValueError: There is no such problem.
    """
    found = _recipe(problem, optimizer, action_mode, budget, reward)
    return found if reward is None else {**found, "reward": reward}


def _recipe(
    problem: str | Sequence[str],
    optimizer: str | Mapping[str, Any] | None,
    action_mode: str,
    budget: float | None,
    reward: str | None,
) -> dict[str, Any]:
    asked = (problem,) if isinstance(problem, str) else problem
    names = tuple(map(problem_named, asked))
    facts = {name: known_of(name) for name in names}
    kind = optimizer.get("optimizer") if isinstance(optimizer, Mapping) else optimizer
    momentum = MOMENTUM if kind == "momentum" else {}
    if len(names) != 1:
        if action_mode == "group":
            return {"problem": names, **GROUP}
        families = {name: _family(one.teacher or {}) for name, one in facts.items()}
        return {**SEVERAL, "problem": names, "families": families, "runs": 64 * len(names), **momentum}
    own, begins = facts[names[0]], {"problem": names[0]}
    if action_mode == "group":
        return {**begins, **GROUP, **(own.group or {})}
    if momentum and own.momentum:
        return {**begins, **own.momentum}
    short = budget is not None and budget <= 0.5 * Settings.build(names[0]).budget
    settings = {**(own.training or {}), **((short and own.short) or {})}
    if not momentum:
        return {**begins, **settings, **((reward == "score" and own.score) or {})}
    if own.teacher is None:  # a step takes far longer there: as many decisions as without momentum
        return {**begins, **settings, **momentum, "decisions": settings["decisions"]}
    return {**begins, **own.teacher, **((short and own.short) or {}), **momentum}


def _family(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What one of several problems has for itself, as its teacher has."""
    return {name: teacher[name] for name in ("steps_per_action", "symmetry") if name in teacher}


def teacher(problem: str) -> dict[str, Any]:
    """Settings of a training whose policy can teach one for several problems.

    Raises:
        ValueError: No such problem, or one that has no teacher.
    """
    problem = problem_named(problem)
    own = known_of(problem).teacher
    if own is None:
        raise ValueError(
            f"teachers are for problems with symmetries and without mini-batches, not {problem!r}: leave --teacher out"
        )
    return {"problem": problem, **own}


def whitening(problem: str) -> dict[str, Any]:
    """Settings of a training whose teleports make the next step Newton's in one layer (`teleport_env.searches.whiten`).

    Raises:
        ValueError: No such problem, or one without such a menu.
    """
    problem = problem_named(problem)
    menu = known_of(problem).whitening_menu
    if not menu:
        names = ", ".join(name for name, one in KNOWN.items() if one.whitening or one.whitening_menu)
        raise ValueError(f"whitening serves {names}, not {problem!r}")
    return {"problem": problem, **WHITENING, "searches": menu}


def rate_only(
    problem: str | Sequence[str],
    optimizer: str | Mapping[str, Any] | None = None,
    budget: float | None = None,
    reward: str | None = None,
) -> dict[str, Any]:
    """The control of a recipe: see `without_teleports`."""
    return without_teleports(recipe(problem, optimizer, budget=budget, reward=reward))


def without_teleports(settings: dict[str, Any]) -> dict[str, Any]:
    """The control of a training: the same without teleports, with all its rate factors.

    Where a training begins from a rule, which teleports, the control begins from the best plan of rates.
    """
    found = {"rate_factors": RATES, **plan_first(settings)}
    return {**found, "searches": (), "name": "learned rate only", "control": True}


def plan_first(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training that clones the best plan where they would clone a rule."""
    return {**settings, "rule": None, "warm_start": True} if "rule" in settings else settings


def command(training: Training, start: Mapping[str, Any]) -> str:
    """The command that asks for a training, but for its folder; ``start`` is the recipe that it begins with."""
    usual = Training.of(**start).flat()
    imports = [word for module in IMPORTED for word in ("--import", module)]
    words = ["python", "scripts/train.py", *imports, "--problem", *training.task.problems]
    for name, value in training.flat().items():
        # these decide which recipe the command begins with: they are said even where the recipe says them too
        said = (name == "optimizer" and value is not None) or (name == "action_mode" and value == "group")
        said |= name == "reward" and value is not None
        if name == "optimizer" and isinstance(value, str) and isinstance(usual[name], Mapping):
            value = {"optimizer": value}  # a bare name would be read as the recipe's, with its settings
        if name in ("problem", "out", "tensorboard") or (value == usual[name] and not said):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name == "rule" and not value:
            words += [f"--{flag}", "{}"]
        else:
            words += [f"--{flag}", *map(_word, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, Path) and value.is_absolute():
        return value.name  # its folder on one machine means nothing on another
    return json.dumps(value) if isinstance(value, Mapping) else str(value)
