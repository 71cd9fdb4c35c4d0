"""The examples of a training loop of one's own run, with a tiny budget, and print what the page says of them."""

from __future__ import annotations

import re
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("mlp", "cnn", "transformer", "lora")
TINY = ["--steps", "2", "--seeds", "1", "--turns", "1"]


def run(model: str, *words: str) -> None:
    program = runpy.run_path(str(ROOT / "examples" / f"own_loop_{model}.py"))
    program["main"]([*TINY, *words])


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delitem(sys.modules, "own_loop", raising=False)


@pytest.mark.parametrize("model", EXAMPLES)
def test_the_example_runs(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(model)
    *ways, last = capsys.readouterr().out.splitlines()
    assert len(ways) == 8
    assert all(re.fullmatch(r".{32} loss \d+\.\d{4} \(\d+\.\d{4} to \d+\.\d{4}\)", line) for line in ways)
    assert re.fullmatch(
        r"training step [\d.]+ ms; in such steps: teleport [-\d.]+, .+, step, other schedule [-\d.]+", last
    )


def test_an_example_runs_on_files_of_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (200, 28, 28), dtype=np.uint8), draw.integers(0, 10, 200, dtype=np.uint8)
    for name, values in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (tmp_path / name).write_bytes(header + values.tobytes())
    run("mlp", "--data-dir", str(tmp_path), "--width", "8", "--costs-only")
    assert capsys.readouterr().out.count("teleport") == 1


def test_the_page_names_every_example() -> None:
    page = (ROOT / "docs" / "own-loop.md").read_text(encoding="utf-8")
    named = set(re.findall(r"examples/own_loop_(\w+)\.py", page))
    assert (
        named
        == set(EXAMPLES)
        == {path.stem.removeprefix("own_loop_") for path in (ROOT / "examples").glob("own_loop_*.py")}
    )
    for model in EXAMPLES:
        assert f"python examples/own_loop_{model}.py\n" in (ROOT / "examples" / f"own_loop_{model}.py").read_text(
            "utf-8"
        )
