"""An episode that a person plays is the environment's own, and what the page foretells comes true."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.course import COLUMNS, ROWS
from explorer.session import LEARNED, Session, Wish, admit, roster
from teleport_env.agents.play import episodes
from teleport_env.instances import Instance
from teleport_env.problems import PROBLEMS as KNOWN
from teleport_env.problems import Problem
from teleport_env.random import Streams
from teleport_env.registration import id_of, register_problem

# a plane, a sphere in space, layers, and a network whose inputs are data
PROBLEMS = ("Rosenbrock", "Quadratic", "MatrixFactorization", "Digits")


class Bowl(Problem):
    name = "a bowl"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(torch.ones(count, 3, dtype=torch.float64))

    def loss(self, params: Tensor, instance: Instance, batch: Tensor | None = None) -> Tensor:
        return params.square().sum(1)


def session(problem: str, agent: str | None = None, **wish: Any) -> Session:
    return Session(Wish.read({"problem": problem, "agent": agent, **wish}))


def numbers(played: Session) -> list[tuple[Any, ...]]:
    return [(entry["loss"], entry["grad_norm"], entry["cost"], entry["name"]) for entry in played.course.entries]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_move_by_hand_leads_where_the_slider_said(problem: str) -> None:
    played = session(problem)
    played.act(0)
    seen = played.level_set
    assert seen is not None
    place = next(k for k, refused in enumerate(seen["refused"]) if refused is None and seen["shares"][k] > 0.3)
    before = played.course.entries[-1]
    played.move(seen["shares"][place])
    after = played.course.entries[-1]
    assert after["moved"]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-5 if problem == "Digits" else 1e-10)
    assert after["grad_norm"] == pytest.approx(seen["grad_norm"][place], rel=1e-4 if problem == "Digits" else 1e-9)
    assert after["grad_norm"] != pytest.approx(before["grad_norm"], rel=1e-3), "else the test shows nothing"
    assert before["cost"] < after["cost"] <= before["cost"] + seen["price"] + 1e-9
    if seen["points"]:
        assert after["point"] == pytest.approx(seen["points"][place], rel=1e-9)


def test_looking_along_the_level_set_costs_nothing_and_changes_nothing() -> None:
    played, env = session("MatrixFactorization"), gym.make(id_of("MatrixFactorization"), split="test").unwrapped
    _, info = env.reset(seed=0)
    for action in (0, 0, 0):
        played.turn("random")
        played.act(action)
        info = env.step(action)[4]
    entry = played.course.entries[-1]
    assert (entry["loss"], entry["grad_norm"], entry["cost"]) == (info["loss"], info["grad_norm"], info["cost"])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_undo_goes_back_exactly(problem: str) -> None:
    played = session(problem, "random timing")
    teleport = len(played.env.settings.rate_factors)
    actions = [0, teleport, 3, 0, teleport]
    for action in actions:
        played.act(action)
    played.move(0.2)
    first, observation = numbers(played), played.env.episodes.observation()
    for _ in range(6):
        played.undo()
    assert len(played.course.entries) == 1
    with pytest.raises(ValueError, match="nothing to undo"):
        played.undo()
    for action in actions:
        played.act(action)
    played.move(0.2)
    assert numbers(played) == first
    assert torch.equal(played.env.episodes.observation(), observation)


@pytest.mark.parametrize(("problem", "agent"), [("Booth", "relative decrease"), ("Rosenbrock", LEARNED)])
def test_an_agent_that_finishes_plays_as_it_does_alone(problem: str, agent: str) -> None:
    """The person's menu is larger than the agent's, which must not show in what the agent sees."""
    played, player = session(problem, agent), roster(problem)[agent]
    played.finish()
    env = gym.make(id_of(problem), split="test", **player.environment)
    alone = [moment.info for moment in episodes(env, player, seed=0)]
    assert [(entry["loss"], entry["cost"]) for entry in played.course.entries] == [
        (i["loss"], i["cost"]) for i in alone
    ]
    assert len(played.env.action_names) > env.action_space.n
    assert played.over
    assert played.advice is None
    assert (
        played.state()["gained"] == pytest.approx(np.log10(alone[0]["loss"] / alone[-1]["loss"]), rel=1e-9)
        or (alone[-1]["converged"])
    )


def test_a_command_line_brings_an_agent_of_its_own() -> None:
    name = admit("Booth", "every:k=2")
    played = session("Booth", name)
    played.finish()
    assert [entry["kind"] for entry in played.course.entries[1:5]] == ["teleport", "step", "step", "teleport"]
    assert admit("Booth", LEARNED) == LEARNED
    with pytest.raises(ValueError, match="got 'nobody'"):
        admit("Booth", "nobody")


def test_advice_is_on_the_page_and_in_the_record() -> None:
    played = session("Rosenbrock", LEARNED)
    advice = played.advice
    assert advice is not None
    assert sum(advice["probabilities"]) == pytest.approx(1.0)
    assert advice["probabilities"][advice["action"]] == max(advice["probabilities"])
    played.act(advice["action"])
    assert played.course.entries[-1]["advice"] == advice
    assert session("Rosenbrock").advice is None
    with pytest.raises(ValueError, match="no agent advises"):
        session("Rosenbrock").finish()


def test_what_is_refused_has_not_happened() -> None:
    played = session("Booth")
    before = json.dumps(played.state())
    for refused in (
        lambda: played.act(99),
        lambda: played.act("0"),
        lambda: played.move(1.5),
        lambda: played.turn("up"),
    ):
        with pytest.raises(ValueError, match="must be"):
            refused()
    with pytest.raises(ValueError, match="near must be true or false"):
        played.view(1)
    assert json.dumps(played.state()) == before
    for name, value in (("problem", "Both"), ("agent", "unknown agent"), ("seed", -1), ("split", "best")):
        with pytest.raises(ValueError, match=f"{name}.* got '?{value}"):
            Wish.read({name: value})
    with pytest.raises(ValueError, match="got 'speed'"):
        Wish.read({"speed": 1})


def test_a_refused_teleport_says_why() -> None:
    played = session("Booth")
    while played.env.action_masks()[-1]:
        played.act(1)
    teleport = len(played.env.action_names) - 1
    played.act(teleport)
    entry = played.course.entries[-1]
    assert not entry["moved"]
    assert entry["words"] == "refused: the budget cannot pay for it"


def test_an_episode_that_diverges_is_still_json() -> None:
    played = session("Booth")
    fourfold = played.env.action_names.index("rate x4")
    while not played.over:
        played.act(fourfold)
    state = played.state()
    assert state["over"] == "diverged"
    assert state["level_set"] is None
    json.dumps(state, allow_nan=False)
    with pytest.raises(ValueError, match="the episode is over"):
        played.act(0)


def test_no_slider_where_the_group_is_discrete() -> None:
    agent = dataclasses.replace(roster("MatrixFactorization")["never"], environment={"symmetry": "permutation"})
    played = Session(Wish("MatrixFactorization"), agent)
    assert played.level_set is None
    assert re.search("continuous group", played.state()["no_hand"])
    with pytest.raises(ValueError, match="no element can be chosen by hand here"):
        played.move(0.1)


def test_a_problem_without_symmetries_is_played_by_steps() -> None:
    register_problem("PlainBowl", Bowl)
    try:
        played = session("PlainBowl", "Adam")
        assert played.state()["no_hand"] == "a bowl has no symmetry"
        played.finish()
        assert {entry["kind"] for entry in played.course.entries} == {"start", "step"}
    finally:
        del gym.registry[id_of("PlainBowl")], KNOWN["PlainBowl"]


def test_level_sets_are_those_of_the_loss() -> None:
    played = session("Rosenbrock")
    levels = played.state()["levels"]
    values = np.frombuffer(base64.b64decode(levels["values"]), "<u2").reshape(ROWS, COLUMNS)
    orders = levels["least"] + values / 65535 * (levels["most"] - levels["least"])
    runs = played.env.episodes.runs
    for row, column in ((0, 0), (10, 70), (ROWS - 1, COLUMNS - 1)):
        share = np.array([column / (COLUMNS - 1), row / (ROWS - 1)])
        point = np.array(levels["low"]) + share * (np.array(levels["high"]) - np.array(levels["low"]))
        loss = runs.problem.loss(torch.tensor(point[None]), runs.instance)
        assert orders[row, column] == pytest.approx(float(loss.log10()), abs=1e-3)
    assert levels["low"] < played.course.entries[0]["point"] < levels["high"]
    played.view(True)
    near = played.state()["levels"]
    assert near["high"][0] - near["low"][0] <= levels["high"][0] - levels["low"][0]
    assert session("Quadratic").state()["levels"] is None
