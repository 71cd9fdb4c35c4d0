"""A schedule that tries many searches side by side, for sweeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teleport_env.agents.base import Agent, State


@dataclass(frozen=True, kw_only=True)
class OneEach(Agent):
    """One teleport after ``at`` gradient steps, each run by a search of its own.

    Attributes:
        at: Gradient steps before it.
        searches: Index of the search of each run.
    """

    name: str = "one each"
    at: int = 5
    searches: tuple[int, ...] = ()

    def initial_state(self, count: int) -> State:
        return {"taken": np.zeros(count, dtype=np.int64), "done": np.zeros(count, dtype=bool)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        due = (memory["taken"] == self.at) & ~memory["done"]
        memory["done"] |= due
        memory["taken"] += ~due
        return np.where(due, self.steps + np.asarray(self.searches), 0)
