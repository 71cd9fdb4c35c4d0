"""Writes the page ``docs/problems.md``: ``python docs/write_problems.py > docs/problems.md``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from teleport_env.envs import Settings
from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.problems.base import SPLITS
from teleport_env.registration import id_of


def markdown_table() -> str:
    """Descriptions of the registered problems, and the defaults of their environments."""
    problems = {name: problem_from(name) for name in PROBLEMS}
    used = {Settings.build(name, split=split).optimizer.name for name in PROBLEMS for split in SPLITS}
    optimizers = " or ".join(f"`{name}`" for name in sorted(used))
    return "\n".join(
        [
            "# Problems",
            "",
            "This page lists the built-in problems, their defaults and their teleports. After it you know which id to take.",
            "",
            "Each problem's docstring is its manual page: formula, symmetries, distribution of instances, arguments",
            "(`help(teleport_env.problems.Rosenbrock)`). Arguments are given as",
            '`gym.make("Teleport/Rosenbrock-v0", problem={"curvature": (10.0, 100.0)})`.',
            "",
            "| id | what it is | loss | symmetries |",
            "|---|---|---|---|",
            *(_described(name, problem) for name, problem in problems.items()),
            "",
            "## Defaults",
            "",
            "Budgets are in gradient evaluations. An episode ends at its tolerance: the loss at which a run has converged. "
            f"The optimizer is {optimizers}, unless `optimizer=` names another.",
            "",
            "| id | split | learning rate | budget | tolerance |",
            "|---|---|---|---|---|",
            *_rows(problems, _numbers),
            "",
            "## Menus",
            "",
            "The teleports that an action chooses among, in the order of their actions, and the number of instances.",
            "The presets of `teleport_env.agents.paper` have ascent rates of their own, which their `source` explains.",
            "",
            "| id | split | instances | symmetry | menu |",
            "|---|---|---|---|---|",
            *_rows(problems, _menu),
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


def _rows(problems: dict[str, Problem], cells: Callable[[Settings, Problem], list[str]]) -> Iterator[str]:
    """A row for every set of splits of a problem that share their cells."""
    for name, problem in problems.items():
        rows: dict[str, list[str]] = {}
        for split in SPLITS:
            rows.setdefault(" | ".join(cells(Settings.build(name, split=split), problem)), []).append(split)
        yield from (f"| `{id_of(name)}` | {', '.join(splits)} | {row} |" for row, splits in rows.items())


def _numbers(settings: Settings, problem: Problem) -> list[str]:
    return [f"{number:g}" for number in (settings.learning_rate, settings.budget, settings.tolerance)]


def _menu(settings: Settings, problem: Problem) -> list[str]:
    limit = problem.num_instances(settings.split)
    searches = problem.defaults(settings.split).searches if settings.symmetry else ()
    return [
        "unlimited" if limit is None else str(limit),
        f"`{settings.symmetry}`" if settings.symmetry else "",
        ", ".join(map(_named, searches)),
    ]


def _named(search: Any) -> str:
    """A search of a menu in a few words: its name, and the settings that differ from it."""
    if not isinstance(search, dict):
        return f"`{search}`"
    settings = ", ".join(f"{key}={_named(value).strip('`')}" for key, value in search.items() if key not in ("search",))
    return f"`{search['search']}({settings})`" if settings else f"`{search['search']}`"


if __name__ == "__main__":
    print(markdown_table(), end="")
