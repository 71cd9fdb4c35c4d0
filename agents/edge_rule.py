"""A rule that chooses rate and teleports together, read off learned policies.

The policies of `teleport_env.agents.learning` hold the rate at the edge of stability and teleport for one of two reasons:
the next step promises little (coordinate changes), or the place is too steep for the rate (matrices and networks). What they
do, with figures, stands in ``docs/learning-log.md``; here it is in eight settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from teleport_env.agents.base import State, feature, register_agent
from teleport_env.agents.rules import Rule
from teleport_env.agents.schedules import require_count, require_number
from teleport_env.reading import choose

LANDINGS = ("up", "same", "down")
NEVER_FLATTEN = 4.0
"""The largest ``lr * curvature`` that the feature shows; nothing lies above."""


@dataclass(frozen=True, kw_only=True)
class EdgeOfStability(Rule, by_rows=True):
    """Raise the rate until the run is at its edge, lower it there, and teleport where a step promises little or overshoots.

    With ``kappa`` the curvature along the last step, ``lr kappa = 1`` is Newton's step along it, and beyond 2 descent is
    unstable. A run is *at its edge* if ``lr kappa`` is above ``edge`` or its loss has risen. Where no step was taken yet,
    half of ``lr |g|^2 / L`` stands in: on a quadratic with the minimum 0 it is ``lr`` times an average of the curvatures.

    Attributes:
        edge: Value of ``lr kappa`` beyond which a run is at its edge.
        up: Factor of the rate before a step away from the edge.
        down: Factor of the rate before a step at the edge.
        slow: Value of ``lr |g|^2 / L`` below which the rule teleports; 0: not for this reason.
        flatten: Value of ``lr kappa`` above which the rule teleports; 4 (where the feature is clipped): not for this reason.
        first: Teleports before the first gradient step.
        looks: The first so many teleports are by search 0 of the menu, all others by search ``which``. Far from the minimum
            one that looks ahead serves better than one that only looks for steeper ground.
        landing: The rate before the first step after a teleport that moved: ``"up"``, ``"same"`` or ``"down"``; down in any
            case where half of ``lr |g|^2 / L`` is above ``edge``.
    """

    name: str = "edge of stability"
    cooldown: int = 1
    least_steps: int = 1
    edge: float = 1.2
    up: float = 1.3
    down: float = 0.5
    slow: float = 1.0
    flatten: float = NEVER_FLATTEN
    first: int = 0
    looks: int = 0
    landing: str = "up"

    def check(self) -> None:
        super().check()
        require_number(self, "edge", 0.0, 4.0)
        require_number(self, "up", 1.0, 2.0**10)
        require_number(self, "down", 2.0**-10, 1.0)
        require_number(self, "slow", 0.0, 1e4)
        require_number(self, "flatten", 0.0, NEVER_FLATTEN)
        require_count(self, "first", least=0)
        require_count(self, "looks", least=0)
        choose("EdgeOfStability", self, "landing", LANDINGS)

    def imposed(self) -> dict[str, Any]:
        return {"rate_factors": (1.0, float(self.up), float(self.down))}

    def initial_state(self, count: int) -> State:
        """Beside a schedule's: how many teleports were due before the first step, how many were asked for, and the rate of
        the next step as an index of ``rate_factors``."""
        fresh = {name: np.zeros(count, dtype=np.int64) for name in ("opened", "teleports", "factor")}
        return {**super().initial_state(count), **fresh}

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        opening = (memory["taken"] == 0) & (memory["opened"] < self.first)
        memory["opened"] = memory["opened"] + opening
        now = opening | super().due(observation, memory)
        promise, reach = _natural(observation)
        landed = memory["asked"] & (feature(observation, "refused") < 0.5)
        unknown = landed | (memory["taken"] == 0)
        at_edge = np.where(
            unknown, promise > 2.0 * self.edge, (reach > self.edge) | (feature(observation, "loss_drop") < 0.0)
        )
        landing = np.asarray(self.landing)
        onward = np.where(landed & (landing != "up"), np.where(landing == "same", 0, 2), 1)
        memory["factor"] = np.where(at_edge, 2, onward)
        return now

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        promise, reach = _natural(observation)
        return (promise < self.slow) | (reach > self.flatten)

    def step_action(self, memory: State) -> np.ndarray:
        return memory["factor"]

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        action = super().decide(observation, memory)
        looking = memory["asked"] & (memory["teleports"] < self.looks)
        memory["teleports"] = memory["teleports"] + memory["asked"]
        return np.where(looking, self.step_actions, action)


def _natural(observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``lr |g|^2 / L`` and ``lr * curvature``, each ``(B,)`` float64."""
    promise = 10.0 ** (2.0 * feature(observation, "rate_decrease").astype(np.float64))
    return promise, 2.0 * feature(observation, "rate_curvature").astype(np.float64)


register_agent("edge_of_stability", EdgeOfStability)
