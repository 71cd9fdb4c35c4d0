"""Costs to targets, from made-up courses whose costs are known."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.targets import (
    STEP,
    area,
    expected_time,
    paces_of,
    reached_within,
    rows_of_targets,
    running_times,
    scores,
    to_csv,
    with_scores,
    within_reach,
)
from teleport_env.agents.play import Played, draw_instances, orders_of, play, play_all, play_many
from teleport_env.agents.schedules import Every, Never, RateAndTeleport

TOLERANCE = 1e-3


def played(losses: list[list[float]], costs: list[list[float]], agent: str = "never", seeds: int = 1) -> Played:
    """Episodes of one agent, with a row per episode of its losses and costs."""
    loss, cost = np.array(losses).T, np.array(costs).T
    shared = {"problem": "Booth", "agent": agent, "budget": 8.0}
    rows = [
        {**shared, "seed": seed, "instance_id": place, "cost": cost[-1, place]}
        for seed in range(seeds)
        for place in range(len(losses))
    ]
    with np.errstate(invalid="ignore"):
        orders = orders_of(loss, TOLERANCE) - orders_of(loss[:1], TOLERANCE)
    unknown, nowhere = np.full(loss.shape, np.nan), np.zeros(loss.shape, dtype=bool)
    return Played(rows, cost, loss, np.where(np.isfinite(loss), orders, np.nan), unknown, nowhere)


def frame(*episodes: Played, pace: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame([row for one in episodes for row in rows_of_targets(one, TOLERANCE, {0: pace})])


def at(row: tuple[float, ...], orders: float) -> float:
    """What a target costs."""
    return row[round(orders / STEP) - 1]


ONE = [1.0, 0.2, 0.2, 0.05, 0.0005]  # orders 0, 0.7, 0.7, 1.3, 3 with the floor at the tolerance
TWO = [0.1, 0.1, 0.2, 0.01, 0.01]  # orders 0, 0, -0.3, 1, 1
COSTS = [0.0, 1.0, 3.0, 4.0, 6.0]


def test_a_target_costs_what_was_spent_when_the_loss_first_met_it() -> None:
    one, two = frame(played([ONE, TWO], [COSTS, COSTS]))["costs"]
    # 0.7 orders at cost 1, 1.3 at cost 4; the tolerance itself is the last one, whatever its logarithm rounds to
    assert one == (*[1.0] * 3, *[4.0] * 3, *[6.0] * 9)
    assert two == (*[4.0] * 5, *[math.inf] * 5)


def test_what_has_no_room_has_no_targets() -> None:
    found = frame(played([[math.inf] * 5, [1.5e-3] * 5, ONE], [COSTS] * 3))
    assert [len(costs) for costs in found["costs"]] == [0, 0, 15]
    assert scores(found).loc[("Booth", "never"), "reached"] == 1.0  # of those that have targets


def test_a_run_that_diverges_keeps_what_it_reached() -> None:
    (costs,) = frame(played([[1.0, 0.09, math.nan, math.nan]], [[0.0, 1.0, 2.0, 2.0]]))["costs"]
    assert costs == (*[1.0] * 5, *[math.inf] * 10)


def test_the_area_is_that_below_the_curve() -> None:
    """The closed form against the curve itself, summed finely over the logarithm of the cost."""
    costs, budget = (0.5, 1.7, 4.0, 4.0, 6.0, math.inf), 8.0
    grid = np.geomspace(1.0, budget, 200_001)
    curve = reached_within([costs], grid)
    assert area(costs, budget) == pytest.approx(curve[:-1].mean(), abs=1e-4)
    assert area((0.2, 1.0), budget) == 1.0
    assert area((math.inf, 9.0), budget) == 0.0


def test_the_reward_score_returns_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times the orders of the targets, where these lie close; losses rise on the way, and runs diverge."""
    monkeypatch.setattr("teleport_env.agents.comparison.targets.STEP", 2e-3)
    # the rate doubles every four steps, until it is too large
    agents = [
        RateAndTeleport(down=2.0, decay_every=4, environment={"learning_rate": 1e-3}),
        Never(environment={"optimizer": "momentum"}),
        Every(k=3),
    ]
    ids, budget = draw_instances("Rosenbrock", "train", 12, 3), 30.0
    tolerance = 1e-3
    shared: dict[str, Any] = {"split": "train", "budget": budget, "settings": {"tolerance": tolerance}}
    episodes = play_all("Rosenbrock", agents, ids, **shared)
    returns = play_many("Rosenbrock", agents, ids, **shared, reward="score")
    kept = 0.0
    for one, returned in zip(episodes, returns, strict=True):
        found = rows_of_targets(one, tolerance, {0: 1.0})
        expected = [2e-3 * len(row["costs"]) * area(row["costs"], budget) for row in found]
        np.testing.assert_allclose(returned, expected, atol=4e-3)
        # the area below the orders gained, column by column of the curve
        gained = np.maximum.accumulate(np.nan_to_num(-one.orders, nan=0.0))
        at = np.log(np.concatenate([np.minimum(one.cost, budget), np.full((1, len(ids)), budget)]))
        np.testing.assert_allclose(returned, (gained * np.diff(at, axis=0)).sum(axis=0) / np.log(budget), rtol=1e-12)
        kept += returned[np.array([row["diverged"] for row in one.rows])].sum()
    assert kept > 0, "no run diverged that had gained something"
    assert any((np.diff(one.orders, axis=0) > 0).any() for one in episodes), "no loss rose"


def test_the_curve_weighs_episodes_alike() -> None:
    costs = [(1.0, 2.0), (4.0, 4.0, math.inf, math.inf), ()]
    np.testing.assert_allclose(reached_within(costs, [0.5, 1.0, 2.0, 4.0, np.inf]), [0, 0.25, 0.5, 0.75, 0.75])


def test_equal_time_is_that_of_plain_descent() -> None:
    slow = frame(played([ONE], [COSTS], agent="dear"), pace=1.0)
    found = scores(pd.concat([frame(played([ONE], [COSTS])), slow], ignore_index=True))
    # plain descent spends 8 evaluations in 4 seconds, in which the dear one affords 4 evaluations: 6 targets of 15
    assert found.loc[("Booth", "never"), "time_reached"] == 1.0
    assert found.loc[("Booth", "dear"), "time_reached"] == pytest.approx(6 / 15)
    assert found.loc[("Booth", "dear"), "score"] == found.loc[("Booth", "never"), "score"]
    assert found.loc[("Booth", "never"), "time_score"] == found.loc[("Booth", "never"), "score"]
    assert found.loc[("Booth", "dear"), "time_score"] == area([2 * cost for cost in slow["costs"][0]], 8.0)
    assert np.isnan(scores(slow).loc[("Booth", "dear"), "time_reached"])


def test_expected_running_times_are_cocos() -> None:
    both = frame(played([ONE, TWO], [COSTS, COSTS]))
    found = tuple(running_times(both))
    expected = {
        0.4: (1 + 4) / 2,
        1.0: (4 + 4) / 2,
        1.2: 4 + 6,
        1.6: 6 + 6,
        2.2: 6.0,
    }  # the last: the first episode's alone
    assert {orders: at(found, orders) for orders in expected} == expected
    assert at(found, 1.6) == statistics.expected_cost_to_target([6.0, math.inf], [6.0, 6.0])
    for orders, value in expected.items():
        place = round(orders / STEP) - 1
        assert expected_time(both, place).estimate == pytest.approx(value)
        assert expected_time(both, place, "seconds").estimate == pytest.approx(0.5 * value)


def test_the_expected_time_of_what_half_reach_has_an_open_interval_where_few_did() -> None:
    missed = frame(played([TWO] * 8, [COSTS] * 8))
    assert np.isnan(expected_time(missed, round(1.6 / STEP) - 1).estimate)
    some = frame(played([[1.0, 1.0, 1.0, 1.0, 1.0]] * 6 + [ONE] * 6, [COSTS] * 12))
    found = expected_time(some, round(1.0 / STEP) - 1)
    assert found.estimate == 6.0 + 4.0
    assert found.low < found.estimate < found.high


def test_targets_beyond_everyones_reach_are_left_out() -> None:
    never, dear = frame(played([ONE, TWO], [COSTS] * 2)), frame(played([TWO, TWO], [COSTS] * 2, agent="dear"))
    found = within_reach(pd.concat([never, dear], ignore_index=True))
    assert [len(costs) for costs in found["costs"]] == [15, 5, 10, 5]
    assert [len(costs) for costs in found["seconds"]] == [15, 5, 10, 5]
    alone = within_reach(dear)
    assert set(alone["costs"]) == {(4.0,) * 5}


def test_a_deterministic_course_stands_for_every_seed() -> None:
    found = frame(played([ONE, TWO], [COSTS, COSTS], seeds=2))
    assert found["seed"].tolist() == [0, 0, 1, 1]
    assert found["costs"].tolist()[:2] == found["costs"].tolist()[2:]


def test_the_file_tells_missed_targets_from_those_that_there_are_not() -> None:
    text = to_csv(frame(played([ONE, TWO], [COSTS, COSTS])))
    read = pd.read_csv(io.StringIO(text))
    assert list(read.columns[-16:-13]) == ["3", "0.2 seconds", "0.4 seconds"]
    assert np.isinf(read.loc[1, "1.6"])
    assert np.isnan(read.loc[1, "3"])
    assert read.loc[0, "1"] == 4.0
    assert read.loc[0, "1 seconds"] == 2.0


def test_a_table_is_joined_by_problem_and_agent() -> None:
    table = pd.DataFrame({"problem": ["Booth", "Booth"], "agent": ["oracle", "never"]})
    joined = with_scores(table, frame(played([ONE], [COSTS])))
    assert np.isnan(joined.loc[0, "score"])
    assert joined.loc[1, "reached"] == 1.0


def test_a_clock_too_coarse_for_single_episodes_gives_their_mean_pace() -> None:
    """Regression: the median was 0, seconds were divided by it, and NumPy warned in the reader's terminal."""
    bare = played([ONE] * 4, [COSTS] * 4)
    ticks = [0.0, 0.0, 0.0, 0.016]
    rows = [{**row, "seconds": seconds, "cost": 8.0} for row, seconds in zip(bare.rows, ticks, strict=True)]
    assert paces_of([dataclasses.replace(bare, rows=rows)]) == {0: pytest.approx(0.0005)}
    still = [{**row, "seconds": 0.0} for row in rows]
    assert np.isnan(paces_of([dataclasses.replace(bare, rows=still)])[0])


def test_the_pace_of_a_solver_is_that_of_the_middle_episode() -> None:
    rows: list[dict[str, Any]] = [
        {"seconds": s, "cost": c} for s, c in ((1.0, 2.0), (9.0, 1.0), (0.4, 1.0), (0.0, 0.0))
    ]
    bare = played([ONE], [COSTS])
    assert paces_of([dataclasses.replace(bare, rows=rows)]) == {0: 0.5}
    assert np.isnan(paces_of([dataclasses.replace(bare, rows=rows[-1:])])[0])


def test_teleports_take_their_own_time() -> None:
    """Regression: seconds were costs times one pace of the agent, so that a slow teleport made its steps slow instead."""
    bare = played([ONE], [COSTS])
    # steps of 0.1 s; the first teleport takes 6 s and the second 1 s, each 2 evaluations
    did = {"actions": np.array([[0], [2], [1], [3]]), "seconds": np.array([[0.1], [6.0], [0.1], [1.0]])}
    timed = dataclasses.replace(bare, **did)
    paces = paces_of([timed], steps=2)
    assert paces == {0: pytest.approx(0.1), 1: 3.0, 2: 0.5}
    (row,) = rows_of_targets(timed, TOLERANCE, paces, steps=2)
    assert [at(row["seconds"], orders) for orders in (0.6, 1.2, 3.0)] == pytest.approx([0.1, 6.2, 7.2])
    assert row["pace"] == pytest.approx(7.2 / 6.0)
    # one that was never timed takes as long as the others, the middle of them
    del paces[2]
    assert rows_of_targets(timed, TOLERANCE, paces, steps=2)[0]["seconds"][-1] == pytest.approx(12.2)


def test_every_action_of_a_run_is_timed() -> None:
    look = Every(k=2, environment={"searches": ["virtual_step"]})
    found = play("Rosenbrock", look, draw_instances("Rosenbrock", "test", 1, 0), split="test", budget=20.0)
    assert found.seconds is not None
    assert found.actions is not None
    assert found.seconds.shape == found.actions.shape
    assert (found.seconds > 0).all()
    assert found.seconds.sum() < found.rows[0]["seconds"]  # which holds the reset and the recording too
    assert set(paces_of([found], look.step_actions)) == {0, 1}


def test_targets_agree_with_the_orders_that_an_episode_gained() -> None:
    ids = draw_instances("Booth", "test", 6, 0)
    found = play("Booth", Never(), ids, split="test")
    for row, mine in zip(rows_of_targets(found, 1e-10, {0: 1.0}), found.rows, strict=True):
        assert np.isfinite(row["costs"]).sum() == math.floor(mine["gained"] / STEP + 1e-8)
        assert max(cost for cost in row["costs"] if np.isfinite(cost)) <= mine["cost"]
