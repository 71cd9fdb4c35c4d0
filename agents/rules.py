"""Adaptive rules: teleport when the run's own numbers ask for it.

Every rule reads features alone (`teleport_env.envs.features.FEATURES`), so that it can drive an optimizer outside of the
environment as well. Thresholds are settings in natural units and are converted to the feature's scale. All rules share a
cooldown and a guard of the budget: no teleport that would leave too little to profit from it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from teleport_env.agents.base import State, as_feature, feature, register_agent
from teleport_env.agents.schedules import Schedule, require_count, require_number


@dataclass(frozen=True, kw_only=True)
class Rule(Schedule):
    """A rule teleports when its `signal` says so, the cooldown is over and the budget allows.

    Attributes:
        cooldown: Least number of gradient steps from one teleport asked for to the next.
        least_steps: No teleport unless what is left after it pays for so many gradient steps.
        most_price: No teleport that costs more than this share of the budget that is left.
        least_budget: No teleport once less than this share of the whole budget is left.
    """

    kind: str = "adaptive"
    cooldown: int = 5
    least_steps: int = 3
    most_price: float = 1.0
    least_budget: float = 0.0

    def check(self) -> None:
        require_count(self, "cooldown")
        require_number(self, "most_price", 0.0, 1.0)
        require_number(self, "least_budget", 0.0, 1.0)

    @abstractmethod
    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        """Which runs ``(B,)`` bool give reason to teleport."""

    def due(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return self.signal(observation, memory) & (memory["since"] >= self.cooldown)

    def affordable(self, observation: np.ndarray) -> np.ndarray:
        cheap = feature(observation, "price") <= as_feature(self.most_price)
        early = feature(observation, "budget_left") >= as_feature(self.least_budget)
        return super().affordable(observation) & cheap & early


@dataclass(frozen=True, kw_only=True)
class Stall(Rule, by_rows=True):
    """Teleport when the loss, or the gradient norm, has stopped moving.

    Attributes:
        watch: ``"loss"``: its decrease per gradient step is below the threshold; ``"gradient"``: the gradient norm changes
            by less than the threshold, up or down.
        threshold: Threshold in orders of magnitude (``log10``) per gradient step; 0.01 is 2.3 %.
        patience: Step actions in a row that must be so.
    """

    name: str = "stall"
    watch: str = "loss"
    threshold: float = 0.02
    patience: int = 2

    def check(self) -> None:
        super().check()
        if self.watch not in ("loss", "gradient"):
            raise ValueError(f"watch of Stall must be 'loss' or 'gradient', got {self.watch!r}")
        require_number(self, "threshold", 0.0, 1.0)
        require_count(self, "patience")

    def initial_state(self, count: int) -> State:
        return {**super().initial_state(count), "still": np.zeros(count, dtype=np.int64)}

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        change = np.abs(feature(observation, "grad_drop"))
        watched = np.where(np.asarray(self.watch) == "loss", feature(observation, "loss_drop"), change)
        still = watched < as_feature(self.threshold)
        # the features speak of the last gradient step: a teleport adds no evidence and begins the count anew
        stepped = (memory["taken"] > 0) & ~memory["asked"]
        memory["still"] = np.where(stepped & still, memory["still"] + 1, 0)
        return memory["still"] >= self.patience


@dataclass(frozen=True, kw_only=True)
class Alignment(Rule, by_rows=True):
    """Teleport while the gradient is not Newton's direction.

    The feature is the cosine of the last step and of the change of gradient along it. It is 1 where the gradient norm is
    critical on the level set (Lemma C.4), and there the gradient has Newton's direction. So the rule acts *below* the
    threshold. The shortest gradient is critical too: along the flattest direction a teleport would gain, and the rule waits.

    Attributes:
        threshold: Cosine.
        above: Act above the threshold instead.
    """

    name: str = "alignment"
    threshold: float = 0.9
    above: bool = False

    def check(self) -> None:
        super().check()
        require_number(self, "threshold", -1.0, 1.0)

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        cosine = feature(observation, "alignment")
        # 0 stands for "unknown" before the first step at a place
        known = (memory["taken"] > 0) & (cosine != 0.0)
        bound = as_feature(self.threshold)
        return known & np.where(self.above, cosine > bound, cosine < bound)


@dataclass(frozen=True, kw_only=True)
class RelativeDecrease(Rule, by_rows=True):
    """Teleport when the next step promises little: ``lr |g|^2 / L`` is below the threshold.

    To first order a gradient step lowers the loss by ``lr |g|^2``, so the ratio is the share of the loss that it
    promises to take away. It is known at the start already and does not depend on the loss's scale.

    Attributes:
        threshold: Threshold of ``lr |g|^2 / L``, between 1e-4 and 1e4 (where the feature is clipped).
    """

    name: str = "relative decrease"
    threshold: float = 0.5

    def check(self) -> None:
        super().check()
        require_number(self, "threshold", 1e-4, 1e4)

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return feature(observation, "rate_decrease") < as_feature(0.5 * np.log10(self.threshold))


@dataclass(frozen=True, kw_only=True)
class AcceptIfBetter(Rule, by_rows=True):
    """Teleport after a number of gradient steps that doubles when a teleport changed little, up to a limit.

    A teleport that was refused, or that changed the gradient norm by less than ``least_gain`` orders of magnitude in either
    direction (some searches lower it on purpose), doubles the interval to the next. A better one halves it.

    Attributes:
        k: Gradient steps between the first teleports; the first is at the start.
        longest: The interval never exceeds this.
        least_gain: Least gain, in orders of magnitude of the gradient norm.
    """

    name: str = "accept if better"
    cooldown: int = 1
    k: int = 4
    longest: int = 1024
    least_gain: float = 0.1

    def check(self) -> None:
        super().check()
        require_count(self, "k")
        require_count(self, "longest", least=self.k)
        require_number(self, "least_gain", 0.0)

    def initial_state(self, count: int) -> State:
        fresh = {"interval": np.full(count, self.k, dtype=np.int64), "next": np.zeros(count, dtype=np.int64)}
        return {**super().initial_state(count), **fresh}

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        good = (feature(observation, "refused") < 0.5) & (
            np.abs(feature(observation, "teleport_gain")) >= as_feature(self.least_gain)
        )
        interval = memory["interval"]
        learned = np.where(good, np.maximum(interval // 2, self.cooldown), np.minimum(2 * interval, self.longest))
        memory["interval"] = np.where(memory["asked"], learned, interval)
        memory["next"] = np.where(memory["asked"], memory["taken"] + memory["interval"], memory["next"])
        return memory["taken"] >= memory["next"]


@dataclass(frozen=True, kw_only=True)
class MomentumTrigger(Rule, by_rows=True):
    """Teleport when the optimizer has lost its speed: the last update is short.

    The follow-up's rule for momentum, whose buffer it watches; for plain descent the same number is the gradient norm.

    Attributes:
        threshold: The length of the last update over learning rate and *initial* gradient norm.
        after: Gradient steps that the run must have taken.
    """

    name: str = "momentum trigger"
    threshold: float = 0.1
    after: int = 5

    def check(self) -> None:
        super().check()
        require_number(self, "threshold", 1e-12, 1e12)
        require_count(self, "after")

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        slow = feature(observation, "update_norm") < as_feature(np.log10(self.threshold) / 6.0)
        return slow & (memory["taken"] >= self.after)


register_agent("stall", Stall)
register_agent("alignment", Alignment)
register_agent("relative_decrease", RelativeDecrease)
register_agent("accept_if_better", AcceptIfBetter)
register_agent("momentum_trigger", MomentumTrigger)
