"""Agents side by side: in any company an agent plays as alone, bit for bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from teleport_env.agents import (
    AGENTS,
    AtSteps,
    Cycle,
    EdgeOfStability,
    Every,
    Never,
    RandomTiming,
    RateAndTeleport,
    Rule,
    Stall,
    agent_from,
    default_agents,
)
from teleport_env.agents.base import Agent, State, feature, likeness, merged
from teleport_env.agents.identity import exact
from teleport_env.agents.outside import as_agent
from teleport_env.agents.play import draw_instances, play, play_all, play_many
from teleport_env.agents.policies.learned_moves import ConstantMove
from teleport_env.agents.together import Part, _joined, ensembles
from teleport_env.agents.tuning.axes import rule_axes
from teleport_env.envs.features import FEATURES, HIGH, LOW
from teleport_env.searches import Search

BUDGETS = {"Rosenbrock": 40.0, "Booth": 14.0, "MLPRegression": 20.0, "Digits": 8.0}
MENUS: dict[str, list[list[Any]]] = {
    "Rosenbrock": [["random"], ["virtual_step", "random"], [{"search": "normalized_ascent", "steps": 2}]],
    "Booth": [["random"], ["virtual_step", "reset_optimizer"], []],
    "MLPRegression": [["random"], ["balance_weights", "virtual_step"], ["normalized_ascent"]],
    "Digits": [["balance_weights"], ["random"]],
}


def drawn(count: int, budget: float, seed: int) -> list[Agent]:
    """Rules of all kinds with settings of the grid that tuning tries, ``count`` of each."""
    generator = np.random.default_rng(seed)

    def choose(name: str) -> dict[str, Any]:
        axes = {key: axis.values for key, axis in rule_axes(budget)[name].items() if key != "opening"}
        return {key: values[generator.integers(len(values))] for key, values in axes.items()}

    return [agent_from(name, **choose(name)) for name in rule_axes(budget) for _ in range(count)]


def with_settings(agent: Agent, **environment: Any) -> Agent:
    return dataclasses.replace(agent, environment={**agent.environment, **environment})


@pytest.mark.parametrize("problem", BUDGETS)
def test_rules_plans_rates_and_menus_all_at_once(problem: str) -> None:
    """Each scores what it scores alone, and its course is the same."""
    budget, default = BUDGETS[problem], default_agents(problem)[0]
    rules = drawn(2 if problem == "Digits" else 4, budget, seed=1)
    plans: list[Agent] = [
        RateAndTeleport(up=up, warmup=3, down=down, decay_every=5, first=first, every=4)
        for up, down, first in ((1.0, 0.5, 1), (2.0, 1.0, 0), (1.3, 0.7, 3))
    ]
    generator = np.random.default_rng(2)
    rates = [1e-4, 1e-3, 1e-2, 0.05]
    chosen: list[Agent] = [
        with_settings(agent, learning_rate=rates[generator.integers(4)], searches=menu)
        for agent in (*rules, *plans)
        for menu in [MENUS[problem][generator.integers(len(MENUS[problem]))]]
    ]
    everybody = [default, *chosen, *default_agents(problem)]
    ids = draw_instances(problem, "train", 3, seed=4)
    shared: dict[str, Any] = {"split": "train", "budget": budget, "seed": 9}
    together, scores = (
        play_all(problem, everybody, ids, **shared),
        play_many(problem, everybody, ids, **shared, rows=30),
    )
    for agent, found, gained in zip(everybody, together, scores, strict=True):
        alone = play(problem, agent, ids, **shared)
        rows = [[{**row, "seconds": 0.0} for row in one.rows] for one in (alone, found)]
        assert repr(rows[0]) == repr(rows[1])
        assert gained.tolist() == alone.gained.tolist()
        for field in dataclasses.fields(alone)[1:]:
            first, second = getattr(alone, field.name), getattr(found, field.name)
            if field.name == "seconds":  # of the processor: no two plays take the same
                assert first.shape == second.shape
                continue
            np.testing.assert_array_equal(first, second, err_msg=f"{agent.name}: {field.name}")
    # and they share few environments, in which those of a class decide in one call
    made = list(ensembles(problem, everybody, len(ids), 4096, {}, {}))
    assert len(made) < len(everybody) / 4
    assert max(len(one.parts) for one in made) < len(everybody) / 2
    assert len({round(float(score.mean()), 9) for score in scores}) > 5


def test_plans_with_random_searches_draw_what_they_draw_alone() -> None:
    """Regression: side by side, plans drew other random numbers than by themselves."""
    plans = [RateAndTeleport(first=2, every=every, environment={"searches": ["random"]}) for every in (2, 3, 5)]
    ids = draw_instances("Booth", "train", 4, seed=1)
    together = play_many("Booth", plans, ids, split="train", seed=3)
    for plan, gained in zip(plans, together, strict=True):
        assert play("Booth", plan, ids, split="train", seed=3).gained.tolist() == gained.tolist()


def test_moves_of_the_group_mode_share_an_environment() -> None:
    here = {"action_mode": "group", "symmetry": "rotation"}
    moves = [
        ConstantMove(xi=(xi,), every=every, first=first, environment={**here, "learning_rate": rate})
        for xi, every, first, rate in ((0.5, 3, 0, 0.05), (-0.3, 0, 1, 0.02), (0.9, 1, 2, 0.05))
    ]
    ids = draw_instances("Booth", "train", 4, seed=1)
    (made,) = ensembles("Booth", moves, 4, 4096, {}, {})
    assert len(made.parts) == 1
    for move, found in zip(moves, play_all("Booth", moves, ids, split="train"), strict=True):
        alone = play("Booth", move, ids, split="train")
        assert found.gained.tolist() == alone.gained.tolist()
        np.testing.assert_array_equal(found.actions, alone.actions)


def observations(count: int, seed: int) -> np.ndarray:
    """Features in bounds, of which some stand at a bound, at zero or at a threshold."""
    generator = np.random.default_rng(seed)
    low, high = LOW.numpy(), HIGH.numpy()
    seen = generator.uniform(low, high, size=(count, len(FEATURES))).astype(np.float32)
    special = np.array([0.0, 0.02, -0.9, 0.9, 0.3, 1.0], dtype=np.float32)[generator.integers(6, size=seen.shape)]
    return np.clip(np.where(generator.random(seen.shape) < 0.2, special, seen), low, high)


TABLE: dict[str, list[dict[str, Any]]] = {
    "never": [{}],
    "at_steps": [{"steps": (0, 2, 3)}, {"steps": (1, 1, 5)}, {"steps": ()}],
    "every": [{"k": 2}, {"k": 3, "offset": 1, "retry": True, "which": 1}],
    "cycle": [{"pattern": (0, 1)}, {"pattern": (1, 0)}, {"pattern": (0, 1, 0)}],
    "first": [{"k": 0}, {"k": 4}],
    "random_timing": [{"probability": 0.3}, {"probability": 0.6, "seed": 5}],
    "random_element": [{"k": 2, "scale": 0.1}, {"k": 4, "scale": 0.2}],
    "reset_optimizer": [{"k": 2}, {"k": 5, "offset": 0}],
    "rate_warmup_decay": [{"up": 2.0, "warmup": 2}, {"down": 0.25, "decay_every": 3}, {"decay_every": 0}],
    "rate_and_teleport": [{"first": 0, "every": 0}, {"first": 2, "every": 3, "up": 1.1}],
    "line_search": [{}],
}


@pytest.mark.parametrize("name", AGENTS)
def test_one_agent_of_many_settings_decides_as_the_many(name: str) -> None:
    if name in TABLE:
        agents = [agent_from(name, **settings) for settings in TABLE[name]]
    else:
        agents = [agent for agent in drawn(6, 60.0, seed=3) if type(agent) is AGENTS.get(name)] or [agent_from(name)]
    runs = 5
    groups: dict[Any, list[Agent]] = {}
    for agent in agents:
        groups.setdefault(likeness(agent), []).append(agent)
    assert len(groups) < max(2, len(agents))
    for group in groups.values():
        one = merged(group, runs)
        together, apart = None, [None] * len(group)
        for step in range(12):
            seen = observations(runs * len(group), seed=step)
            # some begin an episode in the midst
            begins = np.random.default_rng(step).random(len(seen)) < 0.1
            actions, together = one.predict(seen, together, begins)
            for place, agent in enumerate(group):
                mine = slice(place * runs, (place + 1) * runs)
                own, apart[place] = agent.predict(seen[mine], apart[place], begins[mine])  # type: ignore[arg-type]
                np.testing.assert_array_equal(actions[mine], own, err_msg=f"{agent}")


@dataclass(frozen=True, kw_only=True)
class Own(Stall):
    """A user's rule, written for one number."""

    patient: bool = False

    def signal(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if self.patient:
            return np.zeros(len(observation), dtype=bool)
        return feature(observation, "loss_drop") < self.threshold


def test_an_agent_that_knows_single_settings_alone_decides_apart() -> None:
    assert issubclass(Own, Rule)
    agents = [Own(patient=True), Own(threshold=0.5), Stall(), Stall(threshold=0.4)]
    (made,) = ensembles("Booth", agents, 2, 4096, {}, {})
    assert [part.rows for part in made.parts] == [slice(0, 2), slice(2, 4), slice(4, 8)]
    ids = draw_instances("Booth", "train", 2, seed=1)
    for agent, found in zip(agents, play_many("Booth", agents, ids, split="train"), strict=True):
        assert play("Booth", agent, ids, split="train").gained.tolist() == found.tolist()


def test_what_needs_another_environment_is_played_in_another() -> None:
    agents = [
        Never(),
        Never(environment={"optimizer": "adam"}),
        Every(steps_per_action=2),
        AtSteps(steps=(1,), environment={"symmetry": "rotation"}),
        Cycle(pattern=(0, 1)),
        RandomTiming(),
        EdgeOfStability(),
    ]
    numbers = [one.numbers for one in ensembles("Booth", agents, 2, 4096, {}, {})]
    assert sorted(map(sorted, numbers)) == [[0, 3, 4, 5, 6], [1], [2]]
    # no more rows than asked for, but an agent's own are together
    assert [len(one.numbers) for one in ensembles("Booth", [Never()] * 5, 4, 9, {}, {})] == [2, 2, 1]
    assert [len(one.numbers) for one in ensembles("Booth", [Never()] * 2, 4, 3, {}, {})] == [1, 1]


@dataclass
class Payable:
    """A player that takes masks, and teleports by the last of its own actions that can be paid."""

    actions: int

    def predict(
        self, observation: np.ndarray, state: Any = None, *_: Any, action_masks: Any = None, **__: Any
    ) -> tuple[np.ndarray, None]:
        assert action_masks.shape == (len(observation), self.actions), "masks of the player's own actions"
        assert action_masks.dtype == np.int8
        return np.where(action_masks > 0, np.arange(self.actions), -1).max(axis=1), None


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("menu", [["random"], ["random", "virtual_step"], []])
def test_masks_are_those_of_the_players_own_actions(place: int, menu: list[str]) -> None:
    """Regression: a player whose actions come first in the joined menu got the masks of the whole of it."""
    player = as_agent(Payable(1 + len(menu)), name="mine", environment={"searches": menu})
    company: list[Agent] = [Every(k=3), Never(environment={"searches": ["random", "reset_optimizer"]})]
    ids = draw_instances("Booth", "train", 4, seed=1)
    everybody = [*company[:place], player, *company[place:]]
    (made,) = ensembles("Booth", everybody, 4, 4096, {}, {})
    assert made.masked
    (alone,) = play_all("Booth", [player], ids, split="train", budget=9.0)
    found = play_all("Booth", everybody, ids, split="train", budget=9.0)[place]
    assert found.gained.tolist() == alone.gained.tolist()
    np.testing.assert_array_equal(found.actions, alone.actions)


def test_an_action_that_an_agent_does_not_have_is_masked_out_and_refused() -> None:
    part = Part(Never(name="mine"), slice(1, 3), np.array([[0, 2, -1], [0, 1, 3]]))
    masks = np.array([[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 1, 1]], dtype=np.int8)
    assert part.masks(masks).tolist() == [[1, 0, 0], [0, 1, 1]]
    assert part.there(np.array([1, 2])).tolist() == [2, 3]
    for wrong in ([2, 0], [0, 3], [-1, 0], [0.0, 1.0], [True, False], [[0], [0]]):
        with pytest.raises(ValueError, match="agent 'mine' gave the actions"):
            part.there(np.array(wrong))


def test_a_player_beside_others_may_not_ask_for_their_actions() -> None:
    """Regression: action 2 of a player with two was another agent's search."""
    player = as_agent(lambda seen: np.full(len(seen), 2), name="mine", environment={"searches": ["random"]})
    ids = draw_instances("Booth", "train", 2, seed=1)
    for everybody in ([player], [player, Every(k=3)]):
        with pytest.raises(ValueError, match="action"):
            play_all("Booth", everybody, ids, split="train")


@dataclass(frozen=True, kw_only=True)
class Table(Agent, by_rows=True):
    """A teleport at the steps that an array names."""

    table: Any

    def initial_state(self, count: int) -> State:
        return {"step": np.zeros(count, dtype=np.int64)}

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        memory["step"] += 1
        return (np.asarray(self.table)[memory["step"]] > 0.5).astype(np.int64)


def test_arrays_that_print_alike_are_two_settings() -> None:
    """Regression: settings were compared as NumPy prints them, to eight digits and without the midst of long arrays."""
    first = np.zeros(4000)
    second, third = first.copy(), first.copy()
    second[5], third[7] = 1.0, 0.5 + 1e-12
    agents = [Table(table=one) for one in (first, second, third)]
    assert len({likeness(agent) for agent in agents}) == 3
    assert likeness(agents[1]) == likeness(Table(table=second.copy()))
    ids = draw_instances("Booth", "train", 3, seed=1)
    together = [gained.tolist() for gained in play_many("Booth", agents, ids, split="train")]
    assert together == [play("Booth", agent, ids, split="train").gained.tolist() for agent in agents]
    assert together[0] != together[1] != together[2]


ALMOST: list[tuple[Any, Any]] = [
    (np.array([0.1234567891]), np.array([0.1234567899])),
    (np.zeros(2), np.zeros(2, dtype=np.float32)),
    (np.zeros((2, 1)), np.zeros((1, 2))),
    (np.array([0.0]), np.array([-0.0])),
    (np.float32(0.1), 0.1),
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    ((1, 2), [1, 2]),
    ({"a": np.zeros(2000)}, {"a": np.eye(2000, 1, -1000)[:, 0]}),
    (torch.zeros(2000), torch.zeros(2000)),  # of what cannot be compared each is its own
    (object(), object()),
]


@pytest.mark.parametrize("pair", ALMOST)
def test_settings_are_the_same_to_the_last_bit_or_not_at_all(pair: tuple[Any, Any]) -> None:
    first, second = pair
    assert exact(first) != exact(second)
    for one in pair:
        assert exact(one) == exact(one)
        assert exact((one, [one], {"key": one})) == exact((one, [one], {"key": one}))
    assert exact(np.array([np.nan, 1.0])) == exact(np.array([np.nan, 1.0]))


@dataclass(frozen=True, kw_only=True)
class Written(Search):
    """A user's search whose direction is an array that prints alike."""

    direction: Any = None

    def propose(self, start: Any) -> Any:
        raise NotImplementedError

    def price(self, problem: Any, symmetry: Any) -> Any:
        raise NotImplementedError


def test_searches_with_arrays_are_joined_by_all_their_values() -> None:
    """Regression: two such searches could not be compared, or the second was taken for the first."""
    first, second = np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-12])
    menus = [[Written(direction=one), Written(direction=one)] for one in (first, second, first.copy())]
    joined, places = _joined(menus)
    assert len(joined) == 4
    assert places == [[0, 1], [2, 3], [0, 1]]


class More(Table, by_rows=True):
    """A class that keeps more than its fields."""

    def __init__(self, shift: int) -> None:
        super().__init__(table=(0.0, 1.0))
        object.__setattr__(self, "shift", shift)


def test_what_an_agent_keeps_beside_its_fields_is_a_setting_too() -> None:
    assert likeness(More(1)) == likeness(More(1))
    assert likeness(More(1)) != likeness(More(2))
