"""Adaptive rules: each teleports when its feature says so, and not otherwise."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

import teleport_env  # noqa: F401 (registers the environments)
from teleport_env.agents import (
    AcceptIfBetter,
    Agent,
    Alignment,
    MomentumTrigger,
    RelativeDecrease,
    Rule,
    Stall,
    agent_from,
)
from teleport_env.envs.features import INDEX, NAMES

RICH = {"price": 0.01, "log_budget_left": 0.5, "budget_left": 1.0}


def observation(**values: float) -> np.ndarray:
    """``(F,)``: zeros but for the named features; by default there is money for everything."""
    made = np.zeros(len(NAMES), dtype=np.float32)
    for name, value in {**RICH, **values}.items():
        made[INDEX[name]] = value
    return made


def actions_of(agent: Agent, seen: list[np.ndarray]) -> list[int]:
    """One run's actions for what it sees, one after the other."""
    state, found = None, []
    for one in seen:
        action, state = agent.predict(one, state)
        found.append(int(action))
    return found


def test_stall_waits_for_patience_and_starts_anew_after_a_teleport() -> None:
    agent = Stall(threshold=0.05, patience=2, cooldown=1)
    still, moving = observation(loss_drop=0.04), observation(loss_drop=0.06)
    # nothing is known at the start; then the drop of each step counts, and after the teleport two new ones are needed
    assert actions_of(agent, [still] * 7) == [0, 0, 1, 0, 0, 1, 0]
    assert actions_of(agent, [still, still, moving, still, moving]) == [0] * 5
    assert actions_of(agent, [moving] * 5) == [0] * 5


def test_stall_can_watch_the_gradient_which_may_move_either_way() -> None:
    agent = Stall(watch="gradient", threshold=0.05, patience=1, cooldown=1)
    assert actions_of(agent, [observation(grad_drop=-0.04)] * 2) == [0, 1]
    assert actions_of(agent, [observation(grad_drop=-0.06)] * 2) == [0, 0]
    assert actions_of(agent, [observation(grad_drop=0.06)] * 2) == [0, 0]


def test_alignment_acts_below_its_threshold_and_not_on_the_unknown() -> None:
    agent = Alignment(threshold=0.8, cooldown=1)
    assert actions_of(agent, [observation(alignment=0.7)] * 3) == [0, 1, 0]
    assert actions_of(agent, [observation(alignment=0.9)] * 3) == [0, 0, 0]
    assert actions_of(agent, [observation(alignment=0.0)] * 3) == [0, 0, 0]
    above = dataclasses.replace(agent, above=True)
    assert actions_of(above, [observation(alignment=0.9)] * 3) == [0, 1, 0]


def test_relative_decrease_compares_in_natural_units() -> None:
    """``lr |g|^2 / L`` of 0.2 is the feature 0.5 log10 0.2."""
    agent = RelativeDecrease(threshold=0.2, cooldown=3)
    below, above = 0.5 * np.log10(0.199), 0.5 * np.log10(0.201)
    assert actions_of(agent, [observation(rate_decrease=below)] * 6) == [1, 0, 0, 0, 1, 0]
    assert actions_of(agent, [observation(rate_decrease=above)] * 6) == [0] * 6


def test_accept_if_better_backs_off_and_comes_closer() -> None:
    agent = AcceptIfBetter(k=2, longest=8, least_gain=0.1)
    poor = [observation(teleport_gain=0.05)] * 24
    # the first at the start, then after 4, 8 and 8 gradient steps
    assert [i for i, action in enumerate(actions_of(agent, poor)) if action] == [0, 5, 14, 23]
    refused = [observation(teleport_gain=0.5, refused=1.0)] * 24
    assert actions_of(agent, refused) == actions_of(agent, poor)
    good = [observation(teleport_gain=-0.5)] * 8  # a search that lowers the gradient norm
    assert actions_of(agent, good) == [1, 0, 1, 0, 1, 0, 1, 0]


def test_momentum_trigger_compares_in_natural_units_after_some_steps() -> None:
    agent = MomentumTrigger(threshold=0.01, after=2, cooldown=4)
    slow = observation(update_norm=np.log10(0.009) / 6.0)
    fast = observation(update_norm=np.log10(0.011) / 6.0)
    assert actions_of(agent, [slow] * 9) == [0, 0, 1, 0, 0, 0, 0, 1, 0]
    assert actions_of(agent, [fast] * 9) == [0] * 9


ALWAYS: list[tuple[Rule, dict[str, float]]] = [
    (Stall(threshold=0.5, patience=1, cooldown=1), {}),
    (Alignment(cooldown=1), {"alignment": 0.1}),
    (RelativeDecrease(cooldown=1), {"rate_decrease": -1.0}),
    (AcceptIfBetter(k=1), {"teleport_gain": 1.0}),
    (MomentumTrigger(after=1, cooldown=1), {"update_norm": -1.0}),
]


@pytest.mark.parametrize(("agent", "reason"), ALWAYS, ids=lambda value: getattr(value, "name", ""))
def test_every_rule_keeps_to_cooldown_and_budget(agent: Rule, reason: dict[str, float]) -> None:
    def teleports(rule: Rule, **values: float) -> int:
        return sum(actions_of(rule, [observation(**reason, **values)] * 13))

    assert teleports(agent) >= 6
    assert 1 <= teleports(dataclasses.replace(agent, cooldown=4)) <= 3
    assert teleports(agent, price=1.0) == 0
    assert teleports(dataclasses.replace(agent, most_price=0.2), price=0.25) == 0
    assert teleports(dataclasses.replace(agent, most_price=0.2), price=0.15) >= 6
    assert teleports(dataclasses.replace(agent, least_budget=0.3), budget_left=0.25) == 0
    ten = {"log_budget_left": np.log10(11.0) / 4.0, "price": 0.5}
    assert teleports(dataclasses.replace(agent, least_steps=6), **ten) == 0
    assert teleports(dataclasses.replace(agent, least_steps=5), **ten) >= 6


def test_rules_count_gradient_steps_in_long_actions() -> None:
    agent = RelativeDecrease(cooldown=8, steps_per_action=4)
    assert actions_of(agent, [observation(rate_decrease=-1.0)] * 7) == [1, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("stall", {"watch": "weights"}, "watch of Stall must be 'loss' or 'gradient', got 'weights'"),
        ("stall", {"patience": 0}, "patience of Stall"),
        ("alignment", {"threshold": 2.0}, "threshold of Alignment"),
        ("relative_decrease", {"threshold": 0.0}, "threshold of RelativeDecrease"),
        ("accept_if_better", {"k": 8, "longest": 4}, "longest of AcceptIfBetter must be an integer of at least 8"),
        ("momentum_trigger", {"cooldown": 0}, "cooldown of MomentumTrigger"),
    ],
)
def test_wrong_settings_are_told(name: str, settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        agent_from(name, **settings)


def mean_return(agent: Agent, count: int = 32) -> float:
    """Mean orders of magnitude gained on Rosenbrock's train split."""
    env = gym.make_vec(
        "Teleport/Rosenbrock-v0",
        num_envs=count,
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        **agent.environment,
    )
    seen, _ = env.reset(seed=11)
    state, over, total = None, np.zeros(count, dtype=bool), np.zeros(count)
    while not over.all():
        action, state = agent.predict(seen, state)
        seen, reward, terminated, truncated, _ = env.step(action)
        total += reward
        over = terminated | truncated
    return float(total.mean())


def test_the_strongest_rule_beats_plain_descent_by_orders_of_magnitude() -> None:
    plain = mean_return(agent_from("never"))
    assert mean_return(RelativeDecrease()) > plain + 3.0
    assert mean_return(RelativeDecrease(least_budget=1.0)) == pytest.approx(plain), "the guard takes its teleports out"
