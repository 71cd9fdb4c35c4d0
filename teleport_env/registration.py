"""From the table of problems to ids that Gymnasium knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import gymnasium as gym

from teleport_env.envs import Settings
from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.problems.base import SPLITS
from teleport_env.reading import known, refuse

NAMESPACE = "Teleport"


def id_of(name: str) -> str:
    """The environment id of a registered problem, such as ``"Teleport/Rosenbrock-v0"``.

    Raises:
        ValueError: There is no such problem.
    """
    return f"{NAMESPACE}/{known('problem', name, PROBLEMS)}-v0"


def register_problem(name: str, factory: Callable[..., Problem]) -> str:
    """Make a problem known by name and give it an environment id.

    Registering the same name again replaces the factory: a notebook's cell may run twice.

    Args:
        name: Letters, digits and underscores; the id becomes ``Teleport/<name>-v0``.
        factory: A `Problem` class, or a function that builds one from keyword arguments. It must be importable by name where
            environments are pickled or made in other processes.

    Returns:
        The id.

    Raises:
        ValueError: The name cannot stand in an id.
    """
    if not isinstance(name, str) or not name or not all(letter.isalnum() or letter == "_" for letter in name):
        refuse("a problem's name", "letters, digits and underscores", name)
    PROBLEMS[name] = factory
    env_id = id_of(name)
    if env_id not in gym.registry:  # the id does not change with the factory, and Gymnasium warns of overriding
        gym.register(
            id=env_id,
            entry_point="teleport_env.envs:TeleportEnv",
            vector_entry_point="teleport_env.envs:TeleportVectorEnv",
            kwargs={"name": name},
        )
    return env_id


def register_all() -> None:
    """Register every built-in problem; done by ``import teleport_env``, harmless when done again."""
    for name, factory in tuple(PROBLEMS.items()):
        register_problem(name, factory)


def list_ids() -> dict[str, Any]:
    """Environment ids to problem names."""
    return {id_of(name): name for name in PROBLEMS}


# -- documentation -----------------------------------------------------------------------------------------------------


def markdown_table(names: Iterable[str] | None = None) -> str:
    """The page ``docs/problems.md``: what each registered problem is, and what its environments use by default.

    Args:
        names: Registered problems; None: all.
    """
    problems = {name: problem_from(name) for name in (PROBLEMS if names is None else names)}
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
