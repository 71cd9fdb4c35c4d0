"""A policy that gives the group parameters itself plays what its network says, and is trained as any other."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fresh
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.training import MovesCourse, train
from teleport_env.agents.learning.vec_env import Moves
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.file import PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.learned_moves import ConstantMove, LearnedMoves, follow, fresh_trail, load_policy
from teleport_env.agents.tuning.own_menu import Menu, fallback_of, plan_from, plan_of, search_plans
from teleport_env.envs import TeleportVectorEnv
from teleport_env.envs.actions import ActionReader
from teleport_env.envs.features import INDEX, NAMES

BOTH = {"action_mode": "group", "observation": "both"}
SMALL = Training.of(
    **{
        **recipe("Booth", action_mode="group"),
        "learning_rate": None,
        "budget": 12.0,
        "decisions": 2 * 8 * 8,
        "runs": 8,
        "rollout": 8,
        "segment": 1,
        "minibatches": 2,
        "hidden": (8, 8),
        "plans": 12,
        "validation_instances": 4,
    }
)


def silent(line: str) -> None:
    pass


def network(*widths: int, seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    generator = np.random.default_rng(seed)
    return tuple(
        (generator.normal(size=(b, a)).astype(np.float32), generator.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(widths)
    )


def moves(seed: int = 0, **settings: Any) -> LearnedMoves:
    chosen: dict[str, Any] = {
        "features": NAMES,
        "directions": ("change", "place"),
        "layers": network(len(NAMES) + 4, 16, 2, seed=seed),
        "deviation": np.array([0.25, 0.5], dtype=np.float32),
        "environment": BOTH,
    }
    return LearnedMoves(**{**chosen, **settings})


def observations(count: int = 9, seed: int = 0) -> np.ndarray:
    seen = np.random.default_rng(seed).normal(size=(count, len(NAMES) + 2)).astype(np.float32)
    seen[:, INDEX["price"]] = 0.1
    return seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moves")
    train(SMALL.changed(out=folder), silent)
    return folder / "policy.json"


# -- playing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("problem", ["Booth", "Rosenbrock"])
def test_a_run_decides_alike_alone_and_among_others_bit_for_bit(problem: str, stochastic: bool) -> None:
    """Whole episodes, row by row in an environment of their own, and all together."""
    agent, count = moves(stochastic=stochastic), 7
    ids = draw_instances(problem, "train", count, 0)

    def actions(rows: list[int]) -> np.ndarray:
        env = TeleportVectorEnv(problem, len(rows), autoreset_mode="Disabled", budget=12.0, **agent.environment)
        observation, _ = env.reset(seed=[100 + row for row in rows], options={"instance_id": ids[rows]})
        begins, state, over = np.ones(len(rows), dtype=bool), None, np.zeros(len(rows), dtype=bool)
        done = []
        while not over.all():
            action, state = agent.predict(observation, state, begins)
            assert action.dtype == np.float32
            assert env.action_space.contains(action)
            done.append(np.where(over[:, None], np.nan, action))
            observation, _, terminated, truncated, _ = env.step(action)
            begins, over = np.zeros(len(rows), dtype=bool), terminated | truncated
        return np.stack(done)

    together = actions(list(range(count)))
    assert np.nanmax(together[:, :, 0]) > 0 > np.nanmin(together[:, :, 0])
    for row in range(count):
        alone = actions([row])
        np.testing.assert_array_equal(alone[:, 0], together[: len(alone), row])


def test_the_network_is_the_usual_one() -> None:
    agent, seen = moves(), observations()
    (w1, b1), (w2, b2) = agent.layers
    params = seen[:, len(NAMES) :]
    inputs = np.concatenate([seen[:, : len(NAMES)], np.zeros((9, 2)), params / (1 + np.abs(params))], axis=1)
    expected = np.tanh(inputs.astype(np.float64) @ w1.T + b1) @ w2.T + b2
    action, _ = agent.predict(seen)
    np.testing.assert_allclose(action, np.clip(expected, -1, 1), rtol=1e-5)
    one, _ = agent.predict(seen[0])
    np.testing.assert_array_equal(one, action[0])


def test_the_direction_of_the_last_change_has_no_scale() -> None:
    steps = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    expected = [[0.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, -1.0]]
    for scale in (1e-6, 1.0, 1e5):
        trail = fresh_trail(1, 2)
        path = np.cumsum(np.concatenate([np.zeros((1, 2)), scale * steps]), axis=0).astype(np.float32)
        found = [follow(place[None], trail, ("change",))[0] for place in path]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_episodes_start_clears_the_direction() -> None:
    agent = moves()
    first, second = observations(seed=1), observations(seed=2)
    _, state = agent.predict(first, None, np.ones(9, dtype=bool))
    begins = np.arange(9) % 2 == 0
    mixed, _ = agent.predict(second, state, begins)
    going, _ = agent.predict(second, state, np.zeros(9, dtype=bool))
    fresh, _ = agent.predict(second)
    np.testing.assert_array_equal(mixed, np.where(begins[:, None], fresh, going))
    assert (going != fresh).any(axis=1).sum() >= 3  # of others both are at the edge of the box


def test_stochastic_play_is_a_gaussian_around_the_network() -> None:
    agent, count = moves(layers=((np.zeros((2, 22), np.float32), np.array([0.1, -0.2], np.float32)),)), 4000
    seen = np.repeat(observations(1), count, axis=0)
    seen[:, INDEX["teleports"]] = np.linspace(0, 1, count, dtype=np.float32)  # other runs, which the network ignores
    agent = dataclasses.replace(agent, deviation=np.array([0.1, 0.2], dtype=np.float32))
    action, state = agent.predict(seen, deterministic=False)
    np.testing.assert_allclose(action.mean(axis=0), [0.1, -0.2], atol=0.015)
    np.testing.assert_allclose(action.std(axis=0), [0.1, 0.2], rtol=0.05)
    again, _ = agent.predict(seen, deterministic=False)
    np.testing.assert_array_equal(action, again)
    later, _ = agent.predict(seen, state, deterministic=False)
    other, _ = dataclasses.replace(agent, seed=1).predict(seen, deterministic=False)
    assert (later != action).all()
    assert (other != action).all()
    settled, _ = agent.predict(seen)
    np.testing.assert_allclose(settled, np.tile([0.1, -0.2], (count, 1)), rtol=1e-6)


def test_what_cannot_be_paid_is_not_asked_for() -> None:
    agent, seen = moves(), observations(200)
    assert (agent.predict(seen)[0][:, 0] > 0).any()
    seen[:, INDEX["price"]] = 1.0
    assert (agent.predict(seen)[0][:, 0] <= 0).all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"environment": {}}, 'action_mode="group"'),
        ({"environment": {"action_mode": "group"}}, "observation='both'"),
        ({"directions": ("change", "astrology")}, "directions must be"),
        ({"directions": ("change", "change")}, "directions must be"),
        ({"directions": ()}, "layer 0 must map 18"),
        ({"deviation": np.ones(3, dtype=np.float32)}, "deviations of shape"),
        ({"deviation": -np.ones(2, dtype=np.float32)}, "at least 0"),
        ({"layers": ()}, "outputs"),
        ({"features": ("astrology",)}, "astrology"),
    ],
)
def test_what_does_not_fit_is_told(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        moves(**settings)


def test_observations_of_another_kind_are_told() -> None:
    with pytest.raises(ValueError, match='observation="both"'):
        moves().predict(observations()[:, : len(NAMES)])
    with pytest.raises(ValueError, match="features"):
        moves().predict(np.zeros((3, 2), dtype=np.float32))


# -- the fixed schedule ------------------------------------------------------------------------------------------------


def test_a_constant_move_is_made_when_it_is_due() -> None:
    agent = ConstantMove(xi=(0.5,), every=2, first=1, environment={"action_mode": "group"})
    seen, state, begins, gates = observations(2)[:, : len(NAMES)], None, np.ones(2, dtype=bool), []
    for _ in range(8):
        action, state = agent.predict(seen, state, begins)
        gates.append(action[:, 0].tolist())
        begins = np.zeros(2, dtype=bool)
        np.testing.assert_array_equal(action[:, 1], np.where(action[:, 0] > 0, 0.5, 0.0))
    assert [first for first, _ in gates] == [-1, 1, -1, -1, 1, -1, -1, 1]
    never = dataclasses.replace(agent, every=0)
    assert (never.predict(seen)[0][:, 0] == -1).all()
    with pytest.raises(ValueError, match="between -1 and 1"):
        ConstantMove(xi=(1.5,), environment={"action_mode": "group"})


def test_the_search_for_constant_moves_finds_better_than_plain_descent() -> None:
    environment = SMALL.policy_environment(SMALL.settings().learning_rate)
    found = search_plans(Menu("Booth", environment, 64, 24.0, instances=4))
    assert found["plan"]["every"] > 0
    ids = draw_instances("Booth", "validation", 32, 5)
    plan = plan_from(found["plan"], environment).agent(environment)
    worth = [
        np.mean([row["gained"] for row in play("Booth", agent, ids, split="validation").rows])
        for agent in (plan, dataclasses.replace(plan, every=0))
    ]
    assert worth[0] > worth[1] + 0.5


def test_a_plan_has_a_rate_of_its_own_where_the_policys_is_given(tmp_path: Path) -> None:
    training = SMALL.changed(learning_rate=0.01, plans=64, out=tmp_path)
    run = MovesCourse(training, silent)
    assert run._policy().environment["learning_rate"] == 0.01
    assert run.plans["Booth"]["plan"]["learning_rate"] != 0.01


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_loaded_policy_plays_as_the_saved_one(tmp_path: Path) -> None:
    agent = moves(name="mine", problems=("Booth",), provenance={"seed": 3})
    path = agent.save(tmp_path / "policy.json")
    loaded = load_policy(path)
    assert isinstance(loaded, LearnedMoves)
    for deterministic in (True, False):
        mine, its = (one.predict(observations(), deterministic=deterministic)[0] for one in (agent, loaded))
        np.testing.assert_array_equal(mine, its)
    for f in dataclasses.fields(agent):
        if f.name not in ("layers", "environment", "deviation"):
            assert getattr(loaded, f.name) == getattr(agent, f.name)
    np.testing.assert_array_equal(loaded.deviation, agent.deviation)


def test_each_kind_of_policy_refuses_the_others_file(tmp_path: Path) -> None:
    schedule = LearnedSchedule(features=NAMES, layers=network(18, 2), environment={"searches": ["random"]})
    ours, theirs = moves().save(tmp_path / "moves.json"), schedule.save(tmp_path / "schedule.json")
    with pytest.raises(PolicyFileError, match="is refused"):
        LearnedSchedule.load(ours)
    with pytest.raises(PolicyFileError, match="is refused"):
        LearnedMoves.load(theirs)
    assert isinstance(load_policy(theirs), LearnedSchedule)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a menu": ({"environment": {**BOTH, "searches": ["random"]}}, "cannot set searches"),
    "a device": ({"environment": {**BOTH, "device": "cuda"}}, "cannot set device"),
    "a problem": ({"environment": {**BOTH, "problem": {"folder": "/"}}}, "cannot set problem"),
    "a scale": ({"environment": {**BOTH, "group_scale": -1.0}}, "positive numbers"),
    "a scale of another type": ({"environment": {**BOTH, "group_scale": "1"}}, "positive numbers"),
    "another observation": ({"environment": {**BOTH, "observation": "params"}}, "observation"),
    "an observation of another type": ({"environment": {**BOTH, "observation": 3}}, "wrong type"),
    "an optimizer": ({"environment": {**BOTH, "optimizer": "lion"}}, "lion"),
    "a direction": ({"directions": ["change", "os.system"]}, "directions must be"),
    "a direction of another type": ({"directions": ["change", 3]}, "must be names"),
    "directions of another type": ({"directions": "change"}, "wrong type"),
    "one setting more": ({"code": "print(1)"}, "the settings are"),
    "prices": ({"prices": [1.0]}, "the settings are"),
    "another activation": ({"activation": "eval"}, "tanh"),
    "a switch of another type": ({"stochastic": 1}, "wrong type"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_asks_for_more_is_refused(tmp_path: Path, change: str) -> None:
    path = moves().save(tmp_path / "policy.json")
    found = read_policy_file(path)
    more, reason = CHANGES[change]
    write_policy_file(path, {**found.settings, **more}, found.tensors)
    with pytest.raises(PolicyFileError, match=reason):
        load_policy(path)


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    path = moves().save(tmp_path / "policy.json")
    found = read_policy_file(path)
    none = {name: value for name, value in found.tensors.items() if name != "deviation"}
    others: list[dict[str, np.ndarray]] = [
        none,
        {},
        {**found.tensors, "more": np.zeros(1)},
        {**found.tensors, "deviation": np.ones(5)},
        {**found.tensors, "deviation": np.array([-1.0, 1.0])},
        {**found.tensors, "layer.1.weight": np.zeros((2, 15))},
    ]
    for tensors in others:
        write_policy_file(path, found.settings, tensors)
        with pytest.raises(PolicyFileError, match="is refused"):
            load_policy(path)


def test_damage_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = moves().save(tmp_path / "policy.json")
    whole = path.read_text()
    torch.save({"w": torch.zeros(2)}, tmp_path / "torch")
    damaged: list[bytes] = [
        whole[: len(whole) // 2].encode(),
        whole.replace('"change"', '"place"').encode(),  # the checksum does not fit
        pickle.dumps({"a": 1}),
        (tmp_path / "torch").read_bytes(),
        b"",
    ]
    for raw in damaged:
        path.write_bytes(raw)
        with pytest.raises(PolicyFileError, match="is refused"):
            load_policy(path)


def test_playing_loads_no_training_library(tmp_path: Path) -> None:
    path = moves().save(tmp_path / "policy.json")
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.split('.')[0] == 'stable_baselines3':
            raise ImportError('stable-baselines3 is not installed')
sys.meta_path.insert(0, Absent())
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned_moves import load_policy
agent = load_policy({str(path)!r})
print(len(play('Booth', agent, draw_instances('Booth', 'train', 3, 0), split='train', budget=8.0).rows))
"""
    done = fresh.run(["-c", code])
    assert done.stdout.strip() == "3", done.stderr


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_training_that_is_cut_off_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole = SMALL.changed(warm_start=True, out=tmp_path / "whole")
    parts = whole.changed(out=tmp_path / "parts")
    train(whole, silent)
    train(parts, silent, until=1)
    train(parts, silent)
    for name in ("checkpoint.json", "policy.json", "training.json"):
        first, second = (json.loads((folder / name).read_text()) for folder in (whole.out, parts.out))
        for content in (first, second):
            content.pop("sha256", None)
            content.get("settings", content).get("training", {}).pop("out", None)
        assert first == second, name


def test_the_agent_is_the_trained_network_on_what_the_training_saw(tmp_path: Path) -> None:
    """Step by step through ends of episodes: the mean of the Gaussian, and the directions behind it."""
    run = MovesCourse(SMALL.changed(out=tmp_path), silent)
    with torch.no_grad():
        for parameter in run.model.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    agent = run._policy()
    inner = run.env.venv
    seen: list[np.ndarray] = []
    first, after = inner.reset, inner.step_wait

    def reset() -> np.ndarray:
        seen.append(first())
        return seen[-1]

    def step_wait() -> Any:
        found = after()
        seen.append(found[0])
        return found

    inner.reset, inner.step_wait = reset, step_wait  # type: ignore[method-assign]
    run.env.seed(3)
    observation, state, begins, ended = run.env.reset(), None, np.ones(8, dtype=bool), 0
    for _ in range(30):
        action, state = agent.predict(seen[-1], state, begins)
        with torch.no_grad():
            mean = run.model.policy.get_distribution(torch.from_numpy(observation)).distribution.mean.numpy()
        payable = seen[-1][:, INDEX["price"]] < 1.0
        np.testing.assert_allclose(action[payable], np.clip(mean, -1, 1)[payable], atol=1e-5)
        observation, _, begins, infos = run.env.step(mean)
        ended += sum("terminal_observation" in info for info in infos)
    assert ended > 8


def test_the_last_observation_of_an_episode_keeps_its_direction() -> None:
    env = Moves(
        SB3VecEnv("Teleport/Booth-v0", 2, bootstrap_truncated=False, budget=4.0, **BOTH), ("change", "place"), 1.0
    )
    env.seed(0)
    env.reset()
    step = np.array([[-1.0, 0.0]] * 2)
    before = None
    for _ in range(8):
        observation, _, done, infos = env.step(step)
        for row in np.flatnonzero(done):
            last = infos[row]["terminal_observation"]
            assert last.shape == (22,)
            np.testing.assert_allclose(np.linalg.norm(last[18:20]), 1.0, rtol=1e-5)
            assert (observation[row, 18:20] == 0).all()
            before = row
    assert before is not None


def test_a_broken_run_steps_in_training_as_in_play() -> None:
    env = Moves(SB3VecEnv("Teleport/Booth-v0", 2, bootstrap_truncated=False, budget=4.0, **BOTH), (), 1.0)
    env.reset()
    asked: list[np.ndarray] = []
    inner = env.venv.step_async
    env.venv.step_async = lambda actions: (asked.append(actions), inner(actions))[1]  # type: ignore[method-assign]
    for price, gate in ((1.0, -1.0), (0.2, 1.0)):
        env._broke = np.full(2, price >= 1.0)
        env.step(np.array([[1.0, 0.5]] * 2))
        assert (asked[-1][:, 0] == gate).all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"action_mode": "hybrid"}, "must be 'schedule' or 'group'"),
        ({"rate_factors": (1.0, 2.0)}, "change rate_factors"),
        ({"searches": None}, "change searches"),
        ({"problem": ("Booth", "Rosenbrock"), "runs": 8}, "one problem"),
        ({"directions": ("astrology",)}, "directions of a training must be"),
        ({"deviation": 0.0}, "deviation must be a positive number, got 0.0"),
        ({"action_mode": "schedule"}, "belong to action_mode='group'"),
    ],
)
def test_a_training_that_makes_no_sense_is_told(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SMALL.changed(**settings)


def test_a_comparison_plays_it_beside_its_plan(trained: Path, tmp_path: Path) -> None:
    policy = load_policy(trained)
    plan = plan_of(policy)
    assert isinstance(plan, ConstantMove)
    assert plan.environment["learning_rate"] == policy.environment["learning_rate"]
    study = Study(
        problems=("Booth",),
        agents=("never",),
        policies=(trained,),
        split="validation",
        instances=3,
        tuning_instances=0,
        references=False,
        jobs=1,
        out=tmp_path,
    )
    found = run_study(study, silent)
    own = fallback_of(policy) or policy  # so short a training may end worse than plain descent
    assert {own.name, "best plan of learned"} <= set(found["results"]["agent"])


def test_played_actions_say_who_teleported() -> None:
    agent = ConstantMove(xi=(0.5,), every=3, environment={"action_mode": "group"})
    played = play("Booth", agent, draw_instances("Booth", "train", 3, 0), split="train", budget=12.0)
    assert played.actions is not None
    np.testing.assert_array_equal((played.actions == 1).sum(axis=0), [row["teleports"] for row in played.rows])


def test_an_action_reaches_the_environment_as_it_is() -> None:
    env = TeleportVectorEnv("Booth", 2, autoreset_mode="Disabled", **BOTH)
    observation, _ = env.reset(seed=0)
    action, _ = moves().predict(observation)
    asked = ActionReader(env.settings, 2)(action)
    assert asked.step is not None
    np.testing.assert_array_equal(asked.step.numpy(), action[:, 0] <= 0)
    assert asked.xi is not None
    np.testing.assert_allclose(asked.xi.numpy(), np.pi * action[:, 1:], rtol=1e-6)
