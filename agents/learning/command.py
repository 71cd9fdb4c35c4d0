"""The command that asks for a training, as its policy says where it comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from teleport_env.agents.learning.settings import Training


def command(training: Training, start: Mapping[str, Any]) -> str:
    """The command that asks for a training, but for the folder it writes to.

    Args:
        training: The settings.
        start: The recipe that the command line begins with.
    """
    usual = Training.of(**start).flat()
    words = ["python", "scripts/train.py", "--problem", *training.task.problems]
    for name, value in training.flat().items():
        # these decide which recipe the command begins with, so that they are said even where the recipe says them too
        said = (name == "optimizer" and value is not None) or (name == "action_mode" and value == "group")
        if name == "optimizer" and isinstance(value, str) and isinstance(usual[name], Mapping):
            value = {"optimizer": value}  # a bare name would be read as the recipe's, with its settings
        if name in ("problem", "out", "tensorboard") or (value == usual[name] and not said):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name == "rule" and not value:
            words += [f"--{flag}", "{}"]
        else:
            words += [f"--{flag}", *map(_word, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, Path) and value.is_absolute():
        return value.name  # where it lay on somebody's machine tells nobody anything
    return json.dumps(value) if isinstance(value, Mapping) else str(value)
