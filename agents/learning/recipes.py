"""What is known to work, problem by problem: the settings that ``scripts/train.py --problem NAME`` begins with.

How they were found, and what did not work, stands in ``docs/learning.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from teleport_env.agents import presets
from teleport_env.agents.policies.slots import SLOTS
from teleport_env.agents.presets import whiten_search
from teleport_env.envs.settings import Settings

# Finer than doubling: at the edge of stability a rate is found by small steps up and larger ones down.
_RATES = (1.0, 0.5, 1.3, 2.0, 4.0)


def _menu(*slots: str) -> tuple[Any, ...]:
    """The first searches of some slots, so that a policy for one problem can teach one for several."""
    return tuple(SLOTS[slot].searches[0] for slot in slots)


_COORDINATES = _menu("ascend", "look", "sample", "guess")
_NETWORKS = _menu("balance_weights", "balance_gradient", "flatten", "ascend", "look")

TEACHERS: dict[str, dict[str, Any]] = {
    "Quadratic": {"searches": _COORDINATES, "rate_factors": _RATES, "steps_per_action": 1},
    "Rosenbrock": {"searches": _COORDINATES, "rate_factors": _RATES, "steps_per_action": 4},
    "RosenbrockND": {"searches": _COORDINATES, "rate_factors": _RATES, "steps_per_action": 4},
    "Booth": {"searches": _COORDINATES, "rate_factors": _RATES, "steps_per_action": 1},
    "MatrixFactorization": {
        "symmetry": "scaling",
        "searches": _NETWORKS,
        "rate_factors": _RATES,
        "steps_per_action": 2,
    },
    "LinearNetwork": {
        "symmetry": "scaling",
        "searches": _NETWORKS,
        "rate_factors": _RATES,
        "steps_per_action": 5,
        "entropy": 0.02,
        "decisions": 600_000,
    },
    "MLPRegression": {
        "symmetry": "scaling",
        "searches": _NETWORKS,
        "rate_factors": _RATES,
        "steps_per_action": 5,
        "warm_start": True,
        "critic_segments": 1,
    },
}
"""With the rate factors that policies for several problems share, so that such a policy can learn from these."""

# Matrices and networks: one step or two an action, and small factors, so that the rate follows the edge of stability.
_FINE = (1.0, 0.25, 0.5, 0.7, 1.3, 1.6, 2.0)

RECIPES: dict[str, dict[str, Any]] = {
    **TEACHERS,
    "MatrixFactorization": {
        "symmetry": "general_linear",
        "searches": _NETWORKS,
        "rate_factors": _FINE,
        "steps_per_action": 1,
        "learning_rate": 0.075,
        "decisions": 800_000,
    },
    "LinearNetwork": {
        "symmetry": "scaling",
        "searches": _NETWORKS,
        "rate_factors": _FINE,
        "steps_per_action": 2,
        "learning_rate": 0.006,
        "segment": 8,
        "decisions": 800_000,
    },
    "MLPRegression": {
        "symmetry": "scaling",
        "searches": (*_NETWORKS, {"search": "closed_form", "objective": "balance_gradient", "sweeps": 2}),
        "rate_factors": (1.0, 0.5, 0.7, 1.3, 2.0, 4.0),
        "steps_per_action": 1,
        # tuned on the train split as the rules of the full protocol are
        "rule": {
            "agent": "edge_of_stability",
            "learning_rate": 0.000175,
            "searches": [5, 2],
            "which": 1,
            "looks": 3,
            "first": 4,
            "flatten": 1.5,
            "slow": 0.0,
            "edge": 1.0,
            "up": 2.0,
            "down": 0.7,
            "cooldown": 20,
            "least_steps": 48,
        },
        "critic_segments": 1,
        "step_size": 4e-4,
        "entropy": 0.0,
        "trace": 0.99,
        "segment": 12,
        "decisions": 1_400_000,
    },
}

SHORT: dict[str, dict[str, Any]] = {name: {"steps_per_action": 1} for name in ("Rosenbrock", "RosenbrockND")}
"""What some problems have besides at no more than half of their default budget: few steps, each of them a decision."""

_BATCHES: dict[str, Any] = {
    "rate_factors": (1.0, 0.5, 0.7, 1.3, 2.0),
    "steps_per_action": 15,
    "warm_start": True,
    "critic_segments": 1,
    "plans": 64,
    "runs": 128,
    "rollout": 20,
    "decisions": 60_000,
    "validation_instances": 64,
}

BATCHES: dict[str, dict[str, Any]] = {
    "Digits": _BATCHES,
    "MNISTSmall": {**_BATCHES, "plans": 24, "decisions": 30_000, "validation_instances": 32},
}
"""Of problems with mini-batches. They are no part of `GENERALIST`: a step takes far longer than on the others."""

GENERALIST: dict[str, Any] = {
    "problem": tuple(RECIPES),
    "families": {
        name: {key: one[key] for key in ("steps_per_action", "symmetry") if key in one}
        for name, one in TEACHERS.items()
    },
    "rate_factors": _RATES,
    "price_inputs": True,
    "warm_start": True,
    "critic_segments": 2,
    "runs": 64 * len(RECIPES),
    "decisions": 1_000_000,
    "validation_instances": 128,
    "rules": 0,
    "name": "generalist",
}
"""One policy for all problems of `RECIPES`."""


WHITENING: dict[str, tuple[dict[str, Any], ...]] = {
    **presets.WHITENING,
    "MLPRegression": (
        whiten_search("inputs", -1, 3e-4),
        whiten_search("inputs", 0, 0.03),
        whiten_search("outputs", 0, 3e-4),
        whiten_search("outputs", -1, 3e-4),
    ),
}
"""Menus of a policy that whitens: those of the fixed cycle, but for MLPRegression."""


def whitening(problem: str) -> dict[str, Any]:
    """Settings of a training whose teleports make the next step Newton's in one layer (`teleport_env.searches.whiten`).

    Whitening lowers the rate as far as it must; the larger factors bring it back.

    Raises:
        ValueError: A problem without such a menu.
    """
    if problem not in WHITENING:
        raise ValueError(f"whitening serves {', '.join(WHITENING)}, not {problem!r}")
    return {
        "problem": problem,
        "symmetry": "general_linear",
        "searches": WHITENING[problem],
        "rate_factors": (1.0, 0.5, 2.0, 8.0, 64.0),
        "steps_per_action": 1,
        "decisions": 250_000,
        "name": "learned whitening",
    }


MOMENTUM: dict[str, Any] = {"on_teleport": "reset", "warm_start": True, "critic_segments": 1, "decisions": 400_000}
"""What momentum needs besides: a buffer that is kept belongs to the point before the teleport, and its good schedules are
found by the search for plans, not by chance."""

MOMENTUM_OWN: dict[str, dict[str, Any]] = {
    "MatrixFactorization": {
        **RECIPES["MatrixFactorization"],
        # the coefficient that suits momentum alone there
        "optimizer": {"optimizer": "momentum", "momentum": 0.5},
        "on_teleport": "reset",
    }
}
"""And what some problems have for themselves on momentum, in place of that."""


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

GROUP_OWN: dict[str, dict[str, Any]] = {
    "Quadratic": {"directions": (), "learning_rate": 0.475, "decisions": 500_000},
    "Rosenbrock": {"learning_rate": 6e-4},
    "Booth": {"learning_rate": 0.07},
}
"""And what some problems have for themselves: one rate serves the whole run, and the best plan's need not be it."""


def recipe(
    problem: str | Sequence[str],
    optimizer: str | Mapping[str, Any] | None = None,
    action_mode: str = "schedule",
    budget: float | None = None,
) -> dict[str, Any]:
    """Settings of a `Training` on a problem, or on several; those of a problem without a recipe are the class's defaults.

    Args:
        problem: Registered name, or several.
        optimizer: Of the runs, if it is not the problem's own, as in `Training`; a policy on momentum begins from other
            settings, and a coefficient of its own may be among them.
        action_mode: ``"schedule"`` or ``"group"``.
        budget: Gradient evaluations an episode, if not the problem's own; it is not among the settings returned.
    """
    names = (problem,) if isinstance(problem, str) else tuple(problem)
    several = len(names) > 1
    if action_mode == "group":
        own = {} if several else GROUP_OWN.get(names[0], {})
        return {"problem": names if several else names[0], **GROUP, **own}
    kind = optimizer.get("optimizer") if isinstance(optimizer, Mapping) else optimizer
    momentum = MOMENTUM if kind == "momentum" else {}
    if several:
        families = {name: GENERALIST["families"].get(name, {}) for name in names}
        return {**GENERALIST, "problem": names, "families": families, "runs": 64 * len(names), **momentum}
    if momentum and names[0] in MOMENTUM_OWN:
        return {"problem": names[0], **MOMENTUM_OWN[names[0]]}
    own = (TEACHERS if momentum else RECIPES).get(names[0], BATCHES.get(names[0], {}))
    if names[0] in BATCHES:
        momentum = {name: value for name, value in momentum.items() if name != "decisions"}
    return {"problem": names[0], **own, **_short(names[0], budget), **momentum}


def _short(problem: str, budget: float | None) -> dict[str, Any]:
    """What a problem has besides at a budget."""
    if problem not in SHORT or budget is None or budget > 0.5 * Settings.build(problem).budget:
        return {}
    return SHORT[problem]


def teacher(problem: str) -> dict[str, Any]:
    """Settings of a training whose policy can teach one for several problems.

    Raises:
        ValueError: Several problems, or one that has none.
    """
    if problem not in TEACHERS:
        raise ValueError(f"teachers are for one of {', '.join(TEACHERS)}, not {problem!r}")
    return {"problem": problem, **TEACHERS[problem]}


def rate_only(
    problem: str | Sequence[str], optimizer: str | Mapping[str, Any] | None = None, budget: float | None = None
) -> dict[str, Any]:
    """The control of a recipe: see `without_teleports`."""
    return without_teleports(recipe(problem, optimizer, budget=budget))


def without_teleports(settings: dict[str, Any]) -> dict[str, Any]:
    """The control of a training: the same without teleports, with all its rate factors.

    Where a training begins from a rule, which teleports, the control begins from the best plan of rates.
    """
    found = plan_first(settings)
    own = {"searches": (), "rate_factors": found.get("rate_factors", _RATES)}
    return {**found, **own, "name": "learned rate only", "control": True}


def plan_first(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training that clones the best plan where they would clone a rule."""
    if "rule" not in settings:
        return settings
    return {**settings, "rule": None, "warm_start": True}
