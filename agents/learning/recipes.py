"""What is known to work, problem by problem: the settings that ``scripts/train.py --problem NAME`` begins with.

How they were found, and what did not work, stands in ``docs/learning.md``.
"""

from __future__ import annotations

from typing import Any

# Finer than doubling: at the edge of stability a rate is found by small steps up and larger ones down.
_RATES = (1.0, 0.5, 1.3, 2.0, 4.0)


def _flatten(radius: float) -> dict[str, Any]:
    """One step down the gradient norm: a third of the price of the closed form under the general linear group."""
    return {"search": "normalized_ascent", "objective": "balance_gradient", "steps": 1, "radius": radius}


RECIPES: dict[str, dict[str, Any]] = {
    "Quadratic": {"steps_per_action": 1},
    "Rosenbrock": {"steps_per_action": 4, "decisions": 300_000},
    "RosenbrockND": {"steps_per_action": 4},
    "Booth": {"steps_per_action": 1, "rate_factors": _RATES},
    "MatrixFactorization": {
        "searches": ("balance_weights", "balance_gradient", _flatten(0.5), _flatten(1.5)),
        "rate_factors": _RATES,
        "steps_per_action": 2,
    },
    "LinearNetwork": {
        "searches": (_flatten(0.5), _flatten(1.5)),
        "rate_factors": _RATES,
        "steps_per_action": 5,
        "entropy": 0.02,
        "decisions": 1_000_000,
    },
    "MLPRegression": {
        "searches": ("balance_weights", "balance_gradient", "relative"),
        "rate_factors": _RATES,
        "steps_per_action": 5,
        "warm_start": True,
        "critic_segments": 1,
    },
}


def recipe(problem: str) -> dict[str, Any]:
    """Settings of a `Training` on a problem; those of a problem without a recipe are the class's defaults."""
    return {"problem": problem, **RECIPES.get(problem, {})}


def rate_only(problem: str) -> dict[str, Any]:
    """The control: the recipe without teleports, with the rate factors of all that have any."""
    return {**recipe(problem), "searches": (), "rate_factors": _RATES, "name": "learned rate only", "control": True}
