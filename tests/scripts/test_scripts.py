"""Every script runs, with a tiny budget, as its user would call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_compare(tmp_path: Path) -> None:
    tiny = ["--problems", "Booth", "--agents", "never", "every", "--instances", "3", "--seeds", "1"]
    done = call(
        "compare.py", *tiny, "--budget", "8", "--tuning-instances", "2", "--jobs", "1", "--out", "r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Booth" in done.stdout
    assert "report.html" in done.stdout
    assert {"results.csv", "settings.json", "report.html"} <= {path.name for path in (tmp_path / "r").iterdir()}


def test_compare_names_what_is_wrong(tmp_path: Path) -> None:
    done = call("compare.py", "--problems", "Both", cwd=tmp_path)
    assert done.returncode != 0
    assert "got 'Both'" in done.stderr
    assert "Traceback" not in done.stderr


def test_train(tmp_path: Path) -> None:
    tiny = [
        "--problem",
        "Booth",
        "--decisions",
        "64",
        "--runs",
        "4",
        "--rollout",
        "8",
        "--segment",
        "1",
        "--plans",
        "2",
    ]
    done = call("train.py", *tiny, "--validation-instances", "2", "--rate-only", "--out", "t", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"policy.json", "checkpoint.json", "training.json"}
    again = call("train.py", *tiny, "--out", "t", cwd=tmp_path)
    assert "other settings" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("arguments", [["--paper", "Booth"], ["--problem", "MatrixFactorization", "--agent", "every"]])
def test_rollout_saves_a_picture(tmp_path: Path, arguments: list[str]) -> None:
    done = call("rollout.py", *arguments, "--out", "a/b.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "orders of magnitude" in done.stdout
    with Image.open(tmp_path / "a" / "b.png") as image:
        assert image.size == (720, 480)


def test_rollout_saves_an_animation(tmp_path: Path) -> None:
    done = call("rollout.py", "--problem", "Booth", "--frames", "5", "--out", "b.gif", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 5


def test_rollout_names_what_is_wrong(tmp_path: Path) -> None:
    done = call("rollout.py", "--out", "b.jpg", cwd=tmp_path)
    assert done.returncode != 0
    assert ".png or .gif" in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_are_thin() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path
