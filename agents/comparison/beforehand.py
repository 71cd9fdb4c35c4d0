"""What a comparison looks at before it works for hours: its numbers, its problems' data, and the folder of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from teleport_env.agents.comparison.parallel import check_backend
from teleport_env.envs.settings import Settings
from teleport_env.files import check_file, check_folder
from teleport_env.problems import PROBLEMS
from teleport_env.problems.base import SPLITS
from teleport_env.reading import entries, integer, known, read_fields, refuse

MOST = 1_000_000
"""Largest count that a comparison takes, of instances, seeds or configurations."""


def check_settings(asked: Any, **least: int) -> None:
    """Read the settings that every comparison has; for the ``__post_init__`` of its frozen dataclass.

    Args:
        asked: The settings, with ``problems``, ``policies``, ``split``, ``seed``, ``jobs``, ``backend`` and ``budget``.
        least: Smallest value of each of its counts.

    Raises:
        ValueError: A value that is not allowed.
        ImportError: The backend needs what is not installed.
    """
    read_fields("a comparison", asked)
    for name, bound in least.items():
        integer(name, getattr(asked, name), bound, MOST)
    integer("seed", asked.seed, 0, (1 << 63) - 1)
    if asked.jobs != -1:
        integer("jobs (-1: one per core)", asked.jobs, 1, MOST)
    check_backend(asked.backend)
    object.__setattr__(asked, "split", known("split", asked.split, SPLITS))
    problems = entries("problems", asked.problems, "names")
    object.__setattr__(asked, "problems", tuple(known("problem", name, PROBLEMS) for name in problems))
    policies = entries("policies", asked.policies, "files")
    if not all(isinstance(file, str | Path) for file in policies):
        refuse("policies", "a list of files", asked.policies)
    object.__setattr__(asked, "policies", tuple(map(Path, policies)))
    for name in ("problems", "policies"):
        given = getattr(asked, name)
        if len(set(given)) < len(given):
            refuse(name, "different from each other", [str(one) for one in given])
    if not asked.problems:
        raise ValueError(f"problems is empty; name one or more of {', '.join(PROBLEMS)}")
    budgets = asked.budget if isinstance(asked.budget, Mapping) else dict.fromkeys(asked.problems, asked.budget)
    for problem in asked.problems:
        Settings.build(problem, budget=budgets.get(problem))


def check_work(problems: Sequence[str], splits: Sequence[str], out: Path, page: Path | None = None) -> None:
    """See that instances can be made and that results can be written.

    Args:
        problems: Registered names.
        splits: The splits whose instances are played.
        out: Folder of the results.
        page: A further file; None: there is none.

    Raises:
        FileNotFoundError: A problem's data are missing.
        ImportError: A problem's data come with a package that is not installed.
        ValueError: A problem's data are damaged, or the folder or the file cannot be written.
    """
    for problem in problems:
        for split in splits:
            Settings.build(problem, split=split).problem.instances(torch.zeros(1, dtype=torch.int64), split)
    check_folder(out)
    if page is not None:
        check_file(page)
