"""From the table of problems to ids that Gymnasium knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from teleport_env.envs.settings import MODULE
from teleport_env.problems import PROBLEMS, Problem
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
        ValueError: The name cannot stand in an id, or the factory cannot be called.
    """
    if not isinstance(name, str) or not name or not all(letter.isalnum() or letter == "_" for letter in name):
        refuse("a problem's name", "letters, digits and underscores", name)
    if not callable(factory):
        refuse(f"the factory of {name}", "a Problem class, or a function that builds a Problem", factory)
    PROBLEMS[name] = factory
    return _register(id_of(name), name)


def _register(env_id: str, name: str) -> str:
    if env_id not in gym.registry:  # the id does not change with the factory, and Gymnasium warns of overriding
        gym.register(
            id=env_id,
            entry_point="teleport_env.envs:TeleportEnv",
            vector_entry_point="teleport_env.envs:TeleportVectorEnv",
            kwargs={"name": name},
            # the environment checks order itself, and its own methods would lie behind the wrappers
            order_enforce=False,
            disable_env_checker=True,
        )
    return env_id


def register_all() -> None:
    """Register every built-in problem, and the id that takes a module of one's own; done by ``import teleport_env``,
    harmless when done again."""
    for name, factory in tuple(PROBLEMS.items()):
        register_problem(name, factory)
    _register(f"{NAMESPACE}/{MODULE}-v0", MODULE)


def list_ids() -> dict[str, Any]:
    """Environment ids to problem names."""
    return {id_of(name): name for name in PROBLEMS}
