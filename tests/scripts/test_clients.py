"""The recipes in `examples/` for clients: each runs as its first lines say.

With ``TELEPORT_ENV_CLIENTS=1`` (`make clients`) they are started as commands, with their own budgets, and returns must rise.
Else those whose libraries are there play as little as they can.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHOLE = os.environ.get("TELEPORT_ENV_CLIENTS") == "1"

# file, the library that it shows, and arguments that make it tiny
RECIPES = [
    ("gymnasium_loop", "gymnasium", ["--episodes", "3"]),
    ("vector_loop", "gymnasium", ["--runs", "8", "--steps", "40"]),
    ("ppo", "torch", ["--runs", "8", "--updates", "1"]),
    ("stable_baselines3_ppo", "stable_baselines3", ["--runs", "4", "--decisions", "128"]),
    ("maskable_ppo", "sb3_contrib", ["--runs", "4", "--decisions", "128"]),
    ("recurrent_ppo", "sb3_contrib", ["--runs", "4", "--decisions", "128"]),
    ("torchrl_ppo", "torchrl", ["--runs", "4", "--updates", "1"]),
    ("torchrl_ppo", "torchrl", ["--runs", "4", "--updates", "1", "--mode", "SameStep", "--output", "numpy"]),
    ("rllib_ppo", "ray.rllib", ["--runs", "4", "--updates", "1"]),
    ("minari_dataset", "minari", ["--episodes", "4"]),
    ("optuna_search", "optuna", ["--trials", "2", "--instances", "4"]),
]
RESULT = re.compile(r"^return (-?\d+\.\d+) -> (-?\d+\.\d+): ", re.MULTILINE)


def installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ImportError:  # its parent is not
        return False


@pytest.mark.parametrize(("name", "library", "tiny"), RECIPES, ids=[f"{name}{len(tiny)}" for name, _, tiny in RECIPES])
def test_a_recipe_runs(
    name: str, library: str, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not installed(library):
        pytest.skip(f"{library} is not installed; make clients makes environments that have it")
    script = ROOT / "examples" / f"{name}.py"
    if not WHOLE:
        runpy.run_path(str(script))["main"](tiny)
        assert RESULT.search(capsys.readouterr().out)
        return
    command = [sys.executable, str(script), *tiny[4:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = RESULT.search(done.stdout)
    assert result is not None, done.stdout
    with capsys.disabled():
        print(f"\n{' '.join(['examples/' + name + '.py', *tiny[4:]])}: {done.stdout[result.start() :].strip()}")
    assert float(result[2]) > float(result[1]) + 0.5


def test_every_recipe_is_listed() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    for name, _, _ in RECIPES:
        first = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").splitlines()[2]
        assert first == f"python examples/{name}.py"
        assert f"`{first}" in page
    assert {f"python examples/{name}.py" for name, _, _ in RECIPES} == set(re.findall(r"python examples/\w+\.py", page))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gymnasium_loop --episodes 0", "--episodes must be at least 1"),
        ("gymnasium_loop --episodes many", "argument --episodes: invalid int value: 'many'"),
        ("vector_loop --runs -1", "--runs and --steps must be at least 1"),
        ("vector_loop --runs 2 --steps 1", "no episode ended within 1 actions: give more"),
    ],
)
def test_a_recipe_refuses_what_it_cannot_play(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: no episodes were divided by zero, and runs that were cut short had a mean of nan."""
    name, *rest = words.split()
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](rest)
    assert message in f"{stopped.value} {capsys.readouterr().err}"
