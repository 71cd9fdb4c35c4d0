"""A control that needs neither training nor tuning: what is left of a schedule when its teleports are taken out.

`Replay` plays the very decisions of an episode without its teleports: in order, every gradient step with the rate factor
that was chosen for it. Their cost is spent on further gradient steps at the rate reached, so that the budget is the same.
The decisions are those that were made on the run with teleports: this is open-loop, and no schedule that could be played on
a run of which nothing is known. The closed-loop control is `teleport_env.agents.policies.learned.Masked`: a policy decides
again, on the run as it is without teleports. A plan or a rule that plays in a policy's place has the same two controls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from teleport_env.agents.base import Agent, State
from teleport_env.agents.play import Played
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.schedules import plain_step


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay(Agent):
    """Steps that were settled beforehand, run by run.

    It plays the instances of the episodes that the steps come from, in their order.

    Attributes:
        script: ``(T, B)`` int64 indices of ``rate_factors``; -1: nothing is said, and the plain step is taken.
    """

    name: str = "replay"
    kind: str = "control"
    script: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "environment", {**self.environment, "searches": []})
        if self.script.ndim != 2 or (self.script >= self.step_actions).any() or (self.script < -1).any():
            raise ValueError(
                f"script must be (T, B) indices below {self.step_actions} of rate factors, or -1, got {self.script!r}"
            )

    def initial_state(self, count: int) -> State:
        if count != self.script.shape[1]:
            raise ValueError(f"the script of {self.name!r} is for {self.script.shape[1]} runs, got {count}")
        return {"played": np.zeros(count, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        said = np.vstack([self.script, np.full((1, self.script.shape[1]), -1)])
        now = said[np.minimum(memory["played"], len(self.script)), np.arange(len(observation))]
        memory["played"] = memory["played"] + 1
        return np.where(now < 0, plain_step(self), now)


def without_teleports(agent: Agent, played: Played) -> Replay:
    """An agent's decisions in some episodes with the teleports taken out; see the module."""
    assert played.actions is not None
    steps = agent.step_actions
    script = np.full_like(played.actions, -1)
    for row, actions in enumerate(played.actions.T):
        kept = actions[(actions >= 0) & (actions < steps)]
        script[: len(kept), row] = kept
    return Replay(name=f"{agent.name}, teleports taken out", environment=agent.environment, script=script)


def masked(agent: Agent) -> Agent:
    """An agent that decides anew at every step, among gradient steps alone; see the module.

    Of a policy it is `Masked`. A plan or a rule gets an empty menu: it cannot pay for what is not there, and takes the
    gradient step that it takes wherever it cannot pay. What is masked already stays as it is, under the name of a control.
    """
    name = f"{agent.name}, teleports masked"
    if isinstance(agent, LearnedSchedule):
        return Masked(policy=agent)
    if isinstance(agent, Masked):
        return replace(agent, name=name, kind="control")
    return replace(agent, name=name, kind="control", environment={**agent.environment, "searches": []})
