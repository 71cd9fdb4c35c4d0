"""What is known to work, problem by problem: the settings that ``scripts/train.py --problem NAME`` begins with.

How they were found, and what did not work, stands in ``docs/learning.md``.
"""

from __future__ import annotations

from typing import Any

_RATES = (1.0, 0.5, 2.0, 4.0)
_FLATTEN = ("balance_weights", "balance_gradient", "relative", "virtual_step_fit_rate")

RECIPES: dict[str, dict[str, Any]] = {
    "Quadratic": {"steps_per_action": 4},
    "Rosenbrock": {"steps_per_action": 4},
    "RosenbrockND": {"steps_per_action": 4},
    "Booth": {"steps_per_action": 1},
    "MatrixFactorization": {"searches": _FLATTEN, "rate_factors": _RATES, "steps_per_action": 2, "warm_start": True},
    "LinearNetwork": {"searches": _FLATTEN, "rate_factors": _RATES, "steps_per_action": 5, "warm_start": True},
    "MLPRegression": {"searches": _FLATTEN, "rate_factors": _RATES, "steps_per_action": 5, "warm_start": True},
}


def recipe(problem: str) -> dict[str, Any]:
    """Settings of a `Training` on a problem; those of a problem without a recipe are the class's defaults."""
    return {"problem": problem, **RECIPES.get(problem, {})}
