"""The example of a training loop of one's own runs for each of its models."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_loop.py"


@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer", "lora"])
def test_the_example_runs(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["own_loop.py", "--model", model, "--steps", "2", "--seeds", "1", "--turns", "1"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count(" loss ") == 6
    assert len(printed.splitlines()[-1].split()) == 5
    assert printed.splitlines()[-1].startswith(model)
