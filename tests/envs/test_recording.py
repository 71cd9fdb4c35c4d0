"""Recorded trajectories are what was played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from teleport_env.envs.recording import NUMBERS, RecordTrajectories, RecordVectorTrajectories, episodes_of, to_minari
from teleport_env.random import seeds_of_rows

pytest.importorskip("pyarrow")
MODES = ("NextStep", "SameStep", "Disabled")


def played(seed: int, episodes: int, actions: Any, path: Path, **arguments: Any) -> list[list[tuple[Any, ...]]]:
    """Episodes of a single environment, which is recorded, as they were seen."""
    env = RecordTrajectories(gym.make("Teleport/Booth-v0", budget=7.0, **arguments), path, {"agent": "mine"})
    found = []
    for number in range(episodes):
        observation, info = env.reset(seed=seed if number == 0 else None)
        course: list[tuple[Any, ...]] = [(None, observation, None, False, False, info)]
        while not (course[-1][3] or course[-1][4]):
            action = actions(len(course))
            course.append((action, *env.step(action)))
        found.append(course)
    env.close()
    return found


def agrees(found: dict[str, np.ndarray], course: list[tuple[Any, ...]]) -> None:
    assert len(found["moment"]) == len(course)
    assert found["moment"].tolist() == list(range(len(course)))
    for row, (action, observation, reward, terminated, truncated, info) in enumerate(course):
        assert np.array_equal(np.float32(found["observation"][row]), observation)
        assert (found["terminated"][row], found["truncated"][row]) == (terminated, truncated)
        assert found["reward"][row] == reward
        assert found["action"][row] is None if action is None else np.array_equal(found["action"][row], action)
        assert all(np.array_equal(found[name][row], info[name], equal_nan=True) for name in NUMBERS)


def test_a_single_environment(tmp_path: Path) -> None:
    courses = played(3, 4, lambda turn: turn % 3, tmp_path / "file.parquet")
    found = list(episodes_of(tmp_path / "file.parquet"))
    assert [one["episode"][0] for one in found] == [0, 1, 2, 3]
    assert set(found[0]["agent"]) == {"mine"}
    for one, course in zip(found, courses, strict=True):
        agrees(one, course)


def test_actions_of_a_group(tmp_path: Path) -> None:
    def action(turn: int) -> np.ndarray:
        return np.array([0.5 - turn % 2, 0.3], dtype=np.float32)

    (course,) = played(0, 1, action, tmp_path / "file.parquet", action_mode="group")
    (found,) = episodes_of(tmp_path / "file.parquet")
    assert np.array_equal([np.float32(row) for row in found["action"][1:]], [row[0] for row in course[1:]])


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_runs_side_by_side(mode: str, output: str, tmp_path: Path) -> None:
    """Every run's episodes are those of a single environment of its seed; waiting rows are left out."""
    made = gym.make_vec("Teleport/Booth-v0", num_envs=3, budget=7.0, autoreset_mode=mode, output=output)
    envs = RecordVectorTrajectories(made, tmp_path / "many.parquet")
    envs.reset(seed=5)
    over = np.zeros(3, dtype=bool)
    for _ in range(20):
        if mode == "Disabled" and over.all():
            envs.reset(options={"reset_mask": over})
        *_, terminated, truncated, _ = envs.step(np.array([0, 2, 0]))
        over = np.asarray(terminated) | np.asarray(truncated)
    envs.close()
    assert [path.name for path in tmp_path.iterdir()] == ["many.parquet"]
    expected = {
        (course[0][5]["instance_id"]): course
        for row, seed in enumerate(seeds_of_rows(5, 3))
        for course in played(seed, 3, lambda _, row=row: (0, 2, 0)[row], tmp_path / "one.parquet")
    }
    whole = 0
    for found in episodes_of(tmp_path / "many.parquet"):
        course = expected.get(found["instance_id"][0])
        if course is None or not (found["terminated"][-1] or found["truncated"][-1]):
            continue  # a later one, or an interrupted one
        whole += 1
        if output == "torch":  # rewards are float32 there
            found["reward"] = np.array([row[2] for row in course])
        agrees(found, course)
    assert whole >= 6


def test_the_file_names_its_environment(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    envs = gym.make_vec("Teleport/Booth-v0", num_envs=2, budget=5.0, autoreset_mode="Disabled")
    recorded = RecordVectorTrajectories(envs, tmp_path / "file.parquet")
    recorded.reset(seed=0)
    recorded.close()
    spec = json.loads(parquet.read_schema(tmp_path / "file.parquet").metadata[b"spec"])
    assert spec["kwargs"] == {"name": "Booth", "budget": 5.0}
    pytest.importorskip("minari")
    with pytest.raises(ValueError, match="no episode that came to its end"):
        to_minari(tmp_path / "file.parquet", "teleport/none-v0")


def test_dicts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="modes 'schedule' and 'group'"):
        RecordTrajectories(gym.make("Teleport/Booth-v0", action_mode="hybrid"), tmp_path / "file.parquet")
    with pytest.raises(ValueError, match="is a folder: name a file"):
        RecordTrajectories(gym.make("Teleport/Booth-v0"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_data_set_of_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    courses = played(1, 3, lambda turn: turn % 2, tmp_path / "file.parquet")
    to_minari(tmp_path / "file.parquet", "teleport/booth-v0", author="teleport-env")
    dataset = minari.load_dataset("teleport/booth-v0")
    env = dataset.recover_environment()
    for episode, course in zip(dataset.iterate_episodes(), courses, strict=True):
        assert np.array_equal(episode.observations, [row[1] for row in course])
        assert episode.rewards.tolist() == [row[2] for row in course[1:]]
        _, info = env.reset(options={"instance_id": course[0][5]["instance_id"]})
        assert info["loss"] == course[0][5]["loss"]
