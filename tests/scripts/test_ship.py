"""Shipping: of a problem's training seeds the best on validation instances that needs no fallback."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ship
from train import settings

from study.pieces import write_piece
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.tuning.plans import Plan

PLAN: dict[str, Any] = {
    "plan": dataclasses.asdict(Plan(0.05)),
    "what": "plain descent",
    "gained": 1.0,
    "policy_gained": 0.0,
}


def trained(folder: Path, seed: int, validation: float, **more: Any) -> LearnedSchedule:
    """A piece as the full protocol writes one."""
    policy = LearnedSchedule.pretrained("Booth", reward="score")
    training = {**policy.provenance["training"], "name": "learned", "seed": seed}
    (weight, bias), *others = policy.layers
    made = dataclasses.replace(
        policy,
        name="learned",
        layers=((weight + np.float32(seed), bias), *others),
        provenance={**policy.provenance, "training": training, "command": "another", **more},
    )
    text = made.save(folder / "policy.json").read_text(encoding="utf-8")
    write_piece(folder / f"learned-{seed}.json", {}, {"policy": text, "validation": validation})
    return made


def test_the_best_seed_without_a_fallback_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Booth" / "trained"
    trained(folder, 0, 5.0)
    best = trained(folder, 1, 6.0)
    trained(folder, 2, 7.0, fallback=PLAN)
    write_piece(folder / "learned-rate-only-3.json", {}, {"policy": "of a control", "validation": 9.0})
    words = ["--study", str(tmp_path), "--problems", "Booth", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["ship.py", *words])
    ship.main()
    assert "Booth: seed 1, 6.000 on validation instances" in capsys.readouterr().out
    found = LearnedSchedule.load(tmp_path / "out" / "Booth.json")
    assert found.name == found.provenance["training"]["name"] == "score_specialist"
    assert np.array_equal(found.layers[0][0], best.layers[0][0])
    # the command asks for that training
    asked = settings(shlex.split(found.provenance["command"])[2:])
    plans = best.provenance["training"]["plans"]
    assert (asked.name, asked.seed, asked.task.reward, asked.teaching.plans) == ("score_specialist", 1, "score", plans)


def test_nothing_is_shipped_where_a_rival_plays_in_every_policys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "Booth" / "trained", 0, 7.0, fallback=PLAN)
    words = ["--study", str(tmp_path), "--problems", "Booth", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["ship.py", *words])
    with pytest.raises(SystemExit, match="ship: of 1 policies in .* none is without a fallback"):
        ship.main()
    assert not (tmp_path / "out").exists()
