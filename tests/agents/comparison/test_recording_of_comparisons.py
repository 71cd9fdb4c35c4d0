"""A comparison's recorded trajectories are those of its results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from teleport_env.agents.comparison.recording import file_of
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.envs.recording import episodes_of

HERE: dict[str, Any] = {"problems": ("Booth",), "agents": ("every", "never"), "references": False}


def test_what_is_recorded_is_what_was_played(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    amounts = {"instances": 3, "seeds": 2, "tuning_instances": 0, "tuning_rules": 0, "budget": 9.0, "jobs": 1}
    study = Study(**HERE, **amounts, out=tmp_path / "out", record=tmp_path / "kept")
    results = run_study(study, lambda line: None)["results"]
    played = results[results["agent"].isin(HERE["agents"])]
    assert len(played) == 3 * 2 * len(HERE["agents"])
    for (agent, seed), rows in played.groupby(["agent", "seed"]):
        found = list(episodes_of(file_of(tmp_path / "kept", "Booth", agent, seed)))
        assert len(found) == 3
        assert {one["instance_id"][0] for one in found} == set(rows["instance_id"])
        by_id = rows.set_index("instance_id")
        for one in found:
            row = by_id.loc[one["instance_id"][0]]
            assert set(one["agent"]) == {agent}
            assert one["cost"][-1] == row["cost"]
            assert one["loss"][-1] == row["loss"]
            assert (one["step"][-1], one["teleports"][-1]) == (row["steps"], row["teleports"])
            assert one["terminated"][-1] or one["truncated"][-1]
    assert len(list((tmp_path / "kept" / "Booth").iterdir())) == 4


def test_without_pyarrow_nothing_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"teleport-env\[record\]"):
        run_study(Study(**HERE, out=tmp_path / "out", record=tmp_path / "kept"), lambda line: None)
    assert not (tmp_path / "kept").exists()
    assert not list((tmp_path / "out").iterdir())
