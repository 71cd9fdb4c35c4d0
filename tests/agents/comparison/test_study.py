"""Paired play, tuning, and a whole study with a tiny budget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teleport_env.agents import Every, Never, agent_from
from teleport_env.agents import play as play_module
from teleport_env.agents.comparison import study as study_module
from teleport_env.agents.comparison.report import read_results
from teleport_env.agents.comparison.solvers import SOLVERS, solvers_of
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.comparison.summary import COLUMNS
from teleport_env.agents.play import cost_to_target, curve, draw_instances, play
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.tuning.roster import tune_rate
from teleport_env.envs.features import NAMES
from teleport_env.problems import problem_from


def test_agents_meet_the_same_instances_and_starts() -> None:
    ids = draw_instances("Digits", "test", 4, seed=3)
    a = play("Digits", Never(), ids, split="test", budget=6, seed=0)
    b = play("Digits", Every(k=2), ids, split="test", budget=6, seed=0)
    assert [row["instance_id"] for row in a.rows] == [row["instance_id"] for row in b.rows] == ids.tolist()
    assert [row["initial_loss"] for row in a.rows] == [row["initial_loss"] for row in b.rows]
    assert set(a.rows[0]) == set(COLUMNS)


def test_splits_share_no_instance_and_small_splits_are_played_whole() -> None:
    drawn = {
        split: set(draw_instances("Booth", split, 50, seed=1).tolist()) for split in ("train", "validation", "test")
    }
    assert all(len(ids) == 50 for ids in drawn.values())
    assert draw_instances("MLPRegression", "paper", 50, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_gained_is_what_the_environment_says() -> None:
    ids = draw_instances("Booth", "test", 5, seed=0)
    every = agent_from("every", environment={"searches": ["virtual_step"]})
    played = play("Booth", every, ids, split="test", budget=12)
    for row in played.rows:
        assert row["gained"] == pytest.approx(np.log10(row["initial_loss"] / row["loss"]))
        assert row["cost"] <= 12 + 1e-6
    assert np.allclose(-played.orders[-1], [row["gained"] for row in played.rows])
    assert (np.diff(played.cost, axis=0) >= 0).all()


def test_diverged_runs_count_as_two_orders_lost() -> None:
    ids = draw_instances("Booth", "test", 3, seed=0)
    played = play("Booth", Never(), ids, split="test", budget=60, settings={"learning_rate": 1e3})
    assert all(row["diverged"] and row["gained"] == -2.0 for row in played.rows)
    # Regression: only a loss that was not finite counted as diverged, and the curve ended seven orders up.
    assert np.nanmax(curve([played], 60.0)["q75"]) == 2.0
    assert curve([played], 60.0)["median"][-1] == 2.0


def test_cost_to_target() -> None:
    ids = draw_instances("Booth", "test", 6, seed=0)
    played = play("Booth", Never(), ids, split="test", budget=24)
    cost = cost_to_target(played, 2.0)
    for i, row in enumerate(played.rows):
        assert np.isinf(cost[i]) == (row["gained"] < 2.0 and not (played.orders[:, i] <= -2.0).any())
        if np.isfinite(cost[i]):
            at = np.flatnonzero(played.cost[:, i] == cost[i])[0]
            assert played.orders[at, i] <= -2.0 < played.orders[at - 1, i]


def test_tuning_finds_the_best_rate_tried_on_the_train_split_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from teleport_env.agents.tuning import tuning

    splits = []
    inner = tuning.play_many

    def spy(*args: Any, **kwargs: Any) -> np.ndarray:
        splits.append(kwargs["split"])
        return inner(*args, **kwargs)

    monkeypatch.setattr(tuning, "play_many", spy)
    tuned = tune_rate("Booth", Never(), [1e-4, 0.1, 10.0], instances=8)
    assert tuned.rate == 0.1
    assert not tuned.at_edge
    assert tuned.runs == 24
    assert set(splits) == {"train"}
    assert tune_rate("Booth", Never(), [1e-4, 1e-3], instances=4).at_edge


def test_a_whole_study(tmp_path: Path) -> None:
    study = Study(
        problems=("Booth",),
        agents=("never", "every"),
        instances=4,
        seeds=2,
        budget=10.0,
        tuning_instances=2,
        jobs=1,
        out=tmp_path / "study",
    )
    found = run_study(study, report=lambda line: None)
    results = read_results(tmp_path / "study" / "results.csv")
    assert tuple(results.columns) == COLUMNS
    names = {"never", "every", "oracle", *(SOLVERS[name].title for name in solvers_of(problem_from("Booth")))}
    assert set(results["agent"]) == names
    assert len(results) == len(names) * 4 * 2
    best = results[results["kind"] == "fixed"].groupby(["seed", "instance_id"])["gained"].max()
    oracle = results[results["agent"] == "oracle"].set_index(["seed", "instance_id"])["gained"]
    assert np.allclose(oracle.sort_index(), best.sort_index())
    assert found["page"].exists()
    assert found["settings"]["tuning_runs"] > 0
    again = run_study(study, report=lambda line: None)["results"]
    same = [column for column in COLUMNS if column != "seconds"]
    assert again[same].equals(found["results"][same])


def test_rules_are_tuned_and_no_result_depends_on_how_agents_are_dealt_to_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(
        problems=("Booth",),
        agents=("never", "stall", "edge_of_stability", "relative_decrease", "every", "adam"),
        instances=4,
        budget=12.0,
        tuning_instances=3,
        tuning_rules=16,
        references=False,
        jobs=1,
        out=tmp_path / "wide",
    )
    wide = run_study(study, report=lambda line: None)
    monkeypatch.setattr(study_module, "rows_at_once", lambda problem: 1)
    monkeypatch.setattr(play_module, "rows_at_once", lambda problem, settings=None: 1)
    narrow = run_study(dataclasses.replace(study, out=tmp_path / "narrow"), report=lambda line: None)
    same = [column for column in COLUMNS if column != "seconds"]
    assert wide["results"][same].equals(narrow["results"][same])
    assert wide["settings"]["learning_rates"] == narrow["settings"]["learning_rates"]
    # rules have other thresholds than their own, and are no worse on the instances that chose them
    settled = run_study(dataclasses.replace(study, tuning_rules=0, out=tmp_path / "settled"), report=lambda line: None)
    before, after = (found["settings"]["learning_rates"] for found in (settled, wide))
    for name in ("stall", "edge of stability", "relative decrease"):
        assert not before[f"Booth/{name}"]["settings"]
        assert after[f"Booth/{name}"]["settings"]
        assert after[f"Booth/{name}"]["gained"] >= before[f"Booth/{name}"]["gained"]
    for name in ("never", "every", "Adam"):
        assert after[f"Booth/{name}"] == before[f"Booth/{name}"]
    assert any(after[name]["gained"] > before[name]["gained"] for name in after)


def test_errors_come_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'Both'"):
        run_study(Study(problems=("Booth", "Both"), out=tmp_path))
    with pytest.raises(ValueError, match="got 'evry'"):
        run_study(Study(agents=("evry",), out=tmp_path))
    with pytest.raises(ValueError, match="instances"):
        Study(instances=0)
    for name, value in (
        ("problems", 5),
        ("problems", "Booth"),
        ("policies", 5),
        ("policies", [5]),
        ("agents", "never"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be a list of (names|files), got "):
            Study(**{name: value})  # type: ignore[arg-type]


def test_a_trained_policy_is_played_where_it_knows_the_problem_and_its_decisions_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    layer = (generator.normal(size=(2, len(NAMES))).astype(np.float32), np.zeros(2, dtype=np.float32))
    environment = {"searches": ["virtual_step"], "learning_rate": 0.05, "steps_per_action": 1}
    policy = LearnedSchedule(name="ours", problems=("Booth",), features=NAMES, layers=(layer,), environment=environment)
    monkeypatch.setattr(study_module, "shipped_for", lambda problem: [policy])
    monkeypatch.setattr(study_module, "default_agents", lambda problem, **how: [Never()])
    shared: dict[str, Any] = {"instances": 3, "budget": 8.0, "tuning_instances": 0, "references": False, "jobs": 1}
    found = run_study(Study(problems=("Booth", "Quadratic"), out=tmp_path / "a", **shared), report=lambda line: None)
    played = found["results"].groupby("problem")["agent"].unique()
    assert set(played["Booth"]) == {"never", "ours", "oracle"}
    assert set(played["Quadratic"]) == {"never", "oracle"}
    assert (tmp_path / "a" / "decisions-booth-ours.webp").exists()
    assert not list((tmp_path / "a").glob("*.png"))  # unless asked for
    without = Study(problems=("Booth",), pretrained=False, out=tmp_path / "b", **shared)
    assert "ours" not in set(run_study(without, report=lambda line: None)["results"]["agent"])


@pytest.mark.parametrize(
    ("agent", "actions"), [(Never(), [8]), (agent_from("first", k=3), [11, 5, 3]), (agent_from("first"), [9, 1, 1])]
)
def test_an_agent_is_timed_until_each_of_its_actions_was_seen_often_enough(agent: Any, actions: list[int]) -> None:
    ids = draw_instances("Booth", "test", 5, seed=0)
    shared: dict[str, Any] = {"split": "test", "budget": 40.0}
    alone = study_module.play_alone("Booth", agent, ids, [play("Booth", agent, ids, **shared)], **shared)
    assert [len(one.cost) - 1 for one in alone] == actions


def test_an_agent_that_draws_is_timed_in_the_episodes_that_it_played() -> None:
    ids = draw_instances("Booth", "test", 5, seed=0)
    shared: dict[str, Any] = {"split": "test", "budget": 40.0}
    agent = agent_from("random_timing", probability=0.3)
    for seed in range(4):
        played = play("Booth", agent, ids, seed=seed, **shared)
        assert played.actions is not None
        for place, one in enumerate(study_module.play_alone("Booth", agent, ids, [played], **shared)):
            assert one.actions is not None
            assert one.actions[:, 0].tolist() == played.actions[: len(one.actions), place].tolist()
