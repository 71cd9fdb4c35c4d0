"""The way of an action: from a plain step of the vector environment to the weights and back through few files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import teleport_env
from teleport_env.envs import TeleportVectorEnv

HOME = Path(teleport_env.__file__).parent
MOST = 8


def walk(play: Callable[[], object]) -> tuple[list[str], list[str]]:
    """The package's files that ``play`` enters, in order; and its turns back, a sentence each: calls of a file into one
    that has called another file since, further up in the same stack."""
    files: list[str] = []
    turns: list[str] = []
    stack: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            name = path.relative_to(HOME).as_posix() if path.is_relative_to(HOME) else ""
            if name:
                files.append(name)
                above = [other for other in stack if other]
                if name in above and above[-1] != name:
                    turns.append(f"{above[-1]} calls {frame.f_code.co_name} of {name}")
            stack.append(name)
        elif event == "return" and stack:
            stack.pop()

    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(None)
    return list(dict.fromkeys(files)), turns


def stepper(**arguments: Any) -> Callable[[], object]:
    """A step of the paper's runs, none of which ends so early."""
    env = TeleportVectorEnv("Rosenbrock", 32, split="paper", **arguments)
    env.reset(seed=0)
    actions = np.zeros(32, dtype=np.int64)
    for _ in range(3):
        env.step(actions)
    return lambda: env.step(actions)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_plain_step_enters_few_files(mode: str) -> None:
    files, turns = walk(stepper(autoreset_mode=mode))
    assert files[0] == "envs/vector.py"
    assert len(files) <= MOST, f"{len(files)} files: {', '.join(files)}"
    assert not turns, "\n".join(turns)


def test_the_walk_sees_more_files_and_turns_back() -> None:
    """Adam goes through the optimizers; a function that calls back into this package is a turn."""
    files, _ = walk(stepper(optimizer="adam"))
    assert "optimizers.py" in files
    assert len(files) > MOST
    env = TeleportVectorEnv("Rosenbrock", 2, searches=["grid"])
    env.reset(seed=0)
    files, turns = walk(lambda: env.step(np.ones(2, dtype=np.int64)))
    assert "searches/sampling.py" in files
    assert turns
