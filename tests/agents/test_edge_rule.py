"""The rule that chooses rate and teleports together: what triggers what, in natural units, and the gain of each half."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from teleport_env.agents import EdgeOfStability, Never, agent_from
from teleport_env.agents.play import draw_instances, play
from teleport_env.envs.features import INDEX, NAMES

STEP, UP, DOWN, FIRST, SECOND = range(5)


def seen(promise: float = 1.5, reach: float = 0.8, **values: float) -> np.ndarray:
    """``(F,)``: ``lr |g|^2 / L`` and ``lr * curvature`` in natural units, money for everything, and other features."""
    made = np.zeros(len(NAMES), dtype=np.float32)
    told = {"price": 0.01, "log_budget_left": 0.5, "budget_left": 1.0, "loss_drop": 0.1, **values}
    told |= {"rate_decrease": 0.5 * np.log10(promise), "rate_curvature": 0.5 * reach}
    for name, value in told.items():
        made[INDEX[name]] = value
    return made


def actions_of(agent: EdgeOfStability, course: list[np.ndarray]) -> list[int]:
    state, found = None, []
    for one in course:
        action, state = agent.predict(one, state)
        found.append(int(action))
    return found


def test_the_rate_goes_up_below_the_edge_and_down_beyond_it() -> None:
    agent = EdgeOfStability(edge=1.2)
    assert agent.environment["rate_factors"] == (1.0, 1.3, 0.5)
    # the first sight tells nothing of the curvature: half of lr |g|^2 / L stands in
    assert actions_of(agent, [seen(promise=2.39), seen(reach=1.19), seen(reach=1.21)]) == [UP, UP, DOWN]
    assert actions_of(agent, [seen(promise=2.41), seen(loss_drop=-0.01)]) == [DOWN, DOWN]


def test_it_teleports_where_a_step_promises_little_and_strides_on_from_there() -> None:
    slow, fast, steep = seen(promise=0.99), seen(promise=1.01, reach=0.0), seen(promise=2.5, reach=0.0)
    agent = EdgeOfStability(slow=1.0)
    assert actions_of(agent, [fast, slow, fast, slow, steep]) == [UP, FIRST, UP, FIRST, DOWN]
    same = dataclasses.replace(agent, landing="same")
    assert actions_of(same, [fast, slow, fast, fast]) == [UP, FIRST, STEP, UP]
    assert actions_of(dataclasses.replace(agent, slow=0.0), [fast, slow, slow]) == [UP, UP, UP]


def test_it_teleports_where_it_is_too_steep_for_the_rate() -> None:
    agent = EdgeOfStability(slow=0.0, edge=1.2, flatten=2.0, landing="down", cooldown=2)
    over, known = seen(reach=2.1), seen(reach=1.3)
    # the first sight of a run with a cooldown over; then the edge alone lowers the rate
    assert actions_of(agent, [seen(), known, over, seen(reach=0.0), over, over]) == [UP, DOWN, FIRST, DOWN, DOWN, FIRST]
    never = dataclasses.replace(agent, flatten=4.0)
    assert actions_of(never, [seen(), seen(reach=4.0)]) == [UP, DOWN]


def test_a_refused_teleport_is_no_landing() -> None:
    agent = EdgeOfStability(slow=1.0, landing="same")
    slow = seen(promise=0.5, reach=1.3)
    refused = seen(promise=0.5, reach=1.3, refused=1.0)
    # the curvature is still known, and says that the rate is at its edge
    assert actions_of(agent, [seen(), slow, refused]) == [UP, FIRST, DOWN]
    assert actions_of(agent, [seen(), slow, slow]) == [UP, FIRST, STEP]


def test_teleports_before_the_first_step_and_those_that_look_ahead() -> None:
    agent = EdgeOfStability(first=2, looks=3, which=1, slow=1.0, environment={"searches": ["virtual_step", "random"]})
    fast, slow = seen(reach=0.5), seen(promise=0.5)
    assert actions_of(agent, [fast, fast, fast, slow, fast, slow]) == [FIRST, FIRST, UP, FIRST, UP, SECOND]
    # what cannot be paid counts as no teleport
    poor = seen(price=1.0)
    assert actions_of(agent, [poor, poor, poor, slow]) == [UP, UP, UP, FIRST]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"landing": "sideways"}, "landing of EdgeOfStability must be one of 'up', 'same', 'down', got 'sideways'"),
        ({"up": 0.9}, "up of EdgeOfStability"),
        ({"down": 1.1}, "down of EdgeOfStability"),
        ({"flatten": 4.1}, "flatten of EdgeOfStability"),
        ({"edge": float("nan")}, "edge of EdgeOfStability"),
        ({"slow": -1.0}, "slow of EdgeOfStability"),
        ({"first": -1}, "first of EdgeOfStability"),
        ({"looks": 0.5}, "looks of EdgeOfStability"),
    ],
)
def test_wrong_settings_are_told(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        agent_from("edge_of_stability", **settings)


def test_on_booth_it_is_worth_orders_and_its_rates_and_its_teleports_each_a_part() -> None:
    ids = draw_instances("Booth", "train", 48, 3)

    def gained(agent: EdgeOfStability | Never) -> float:
        return float(np.mean([row["gained"] for row in play("Booth", agent, ids, split="train").rows]))

    here = {"searches": [{"search": "normalized_ascent", "steps": 1, "radius": 1.0}], "learning_rate": 0.0525}
    whole = EdgeOfStability(environment=here)
    constant = dataclasses.replace(whole, up=1.0, down=1.0)
    still = dataclasses.replace(whole, slow=0.0)
    assert gained(whole) > max(gained(constant), gained(still)) + 0.5
    assert min(gained(constant), gained(still)) > 0
    assert gained(whole) > 10.0
