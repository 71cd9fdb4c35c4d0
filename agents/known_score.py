"""What is known to work where a training is by the reward ``score``: a rule to begin from, tuned by the score as well.

The score counts the first evaluations most, so that every step is a decision there. The rules were tuned on the train split
as the protocol's are, 48 configurations and their refinement, by the return of the reward. Problems without an
entry have their usual settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FROM_A_RULE: dict[str, Any] = {
    "steps_per_action": 1,
    "learning_rate": None,
    "runs": 512,
    "minibatches": 4,
    "critic_segments": 1,
    "step_size": 1e-3,
    "entropy": 0.002,
    "trace": 0.97,
    "decisions": 400_000,
}

SCORE: dict[str, Mapping[str, Any]] = {
    "Rosenbrock": {
        **_FROM_A_RULE,
        "segment": 8,
        "rate_factors": (1.0, 1.6, 0.25, 0.5, 1.3, 2.0),
        "rule": {
            "agent": "edge_of_stability",
            "learning_rate": 0.0024,
            "searches": [0],
            "cooldown": 2,
            "least_steps": 12,
            "edge": 1.0,
            "up": 1.6,
            "down": 0.25,
            "slow": 0.3,
            "flatten": 2.0,
        },
    },
}
"""Settings of a training by the reward ``score``, by problem; they go before those of the problem's other trainings."""
