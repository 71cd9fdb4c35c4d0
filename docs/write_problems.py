"""Writes the page ``docs/problems.md``: ``python docs/write_problems.py > docs/problems.md``."""

from __future__ import annotations

import inspect
import re
from typing import Any

from teleport_env.envs import Settings
from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.problems.base import SPLITS
from teleport_env.registration import id_of


def markdown_table() -> str:
    """What each registered problem is, and what its environments use by default."""
    problems = {name: problem_from(name) for name in PROBLEMS}
    return "\n".join(
        [
            "# Problems",
            "",
            "Each problem's docstring is its manual page: formula, symmetries, distribution of instances, arguments "
            "(`help(teleport_env.problems.Rosenbrock)`). Arguments are given as "
            '`gym.make("Teleport/Rosenbrock-v0", problem={"curvature": (10.0, 100.0)})`.',
            "",
            "| id | what it is | loss | symmetries |",
            "|---|---|---|---|",
            *(_described(name, problem) for name, problem in problems.items()),
            "",
            "## Defaults",
            "",
            "Budgets are in gradient evaluations. The menu are the teleports of the schedule mode, in the order of their "
            "actions.",
            "",
            "| id | split | instances | symmetry | optimizer | rate | budget | tolerance | menu |",
            "|---|---|---|---|---|---|---|---|---|",
            *(row for name, problem in problems.items() for row in _defaults(name, problem)),
            "",
        ]
    )


def _described(name: str, problem: Problem) -> str:
    page = " ".join((inspect.getdoc(type(problem)) or "").split())
    first = page.split(" ## ")[0].split(". ")[0].rstrip(".")
    formula = re.search(r"``(L\b[^`]*=[^`]*)``", page)
    sentence = page.partition("## Description ")[2].split(". ")[0]  # where the loss is no one-line formula
    first, loss = (text.replace("``", "`").replace("|", "\\|") for text in (first, formula[0] if formula else sentence))
    symmetries = ", ".join(f"`{symmetry}`" for symmetry in problem.symmetries)
    return f"| `{id_of(name)}` | {first} | {loss} | {symmetries} |"


def _defaults(name: str, problem: Problem) -> list[str]:
    """A row for every set of splits that share their defaults."""
    rows: dict[str, list[str]] = {}
    for split in SPLITS:
        settings = Settings.build(name, split=split)
        limit = problem.num_instances(split)
        chosen = problem.defaults(split)
        cells = [
            "unlimited" if limit is None else str(limit),
            f"`{settings.symmetry}`" if settings.symmetry else "",
            settings.optimizer.name,
            f"{settings.learning_rate:g}",
            f"{settings.budget:g}",
            f"{settings.tolerance:g}",
            ", ".join(_named(search) for search in (chosen.searches if settings.symmetry else ())),
        ]
        rows.setdefault(" | ".join(cells), []).append(split)
    return [f"| `{id_of(name)}` | {', '.join(splits)} | {cells} |" for cells, splits in rows.items()]


def _named(search: Any) -> str:
    """A search of a menu in a few words: its name, and the settings that differ from it."""
    if not isinstance(search, dict):
        return f"`{search}`"
    settings = ", ".join(f"{key}={_named(value).strip('`')}" for key, value in search.items() if key not in ("search",))
    return f"`{search['search']}({settings})`" if settings else f"`{search['search']}`"


if __name__ == "__main__":
    print(markdown_table(), end="")
