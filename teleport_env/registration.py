"""From the table of problems to ids that Gymnasium knows, and modules of one's own that register more of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
from torch import nn

from teleport_env.envs.settings import MODULE
from teleport_env.modules import Autoencoder
from teleport_env.problems import PROBLEMS, Problem
from teleport_env.reading import known, refuse, shown

NAMESPACE = "Teleport"

PROBLEMS[Autoencoder.__name__] = Autoencoder  # modules build on problems, so that it cannot stand in their table

BUILT_IN = frozenset(PROBLEMS)
"""Names that `register_problem` does not give to another problem."""

IMPORTED: list[str] = []
"""Modules of one's own that `import_own` has imported; the processes of a comparison import them too."""


def id_of(name: str) -> str:
    """The environment id of a registered problem, such as ``"Teleport/Rosenbrock-v0"``.

    Raises:
        ValueError: There is no such problem.
    """
    return f"{NAMESPACE}/{known('problem', name, PROBLEMS)}-v0"


def register_problem(name: str, factory: Callable[..., Problem]) -> str:
    """Make a problem known by name and give it an environment id.

    Registering a name of your own again replaces the factory: a notebook's cell may run twice. The names of the built-in
    problems stay theirs, so that results under a name mean one problem.

    Args:
        name: Letters, digits and underscores; the id becomes ``Teleport/<name>-v0``.
        factory: A `Problem` class, or a function that builds one from keyword arguments. It must be importable by name where
            environments are pickled or made in other processes.

    Returns:
        The id.

    Raises:
        ValueError: The name cannot stand in an id, is a built-in problem's, or the factory cannot be called.
    """
    if not isinstance(name, str) or not name or not all(letter.isalnum() or letter == "_" for letter in name):
        refuse("a problem's name", "letters, digits and underscores", name)
    if not callable(factory):
        refuse(f"the factory of {name}", "a Problem class, or a function that builds a Problem", factory)
    taken = {one.casefold(): one for one in BUILT_IN}.get(name.casefold())
    if taken is not None and (name != taken or factory is not PROBLEMS[name]):
        raise ValueError(
            f"{taken} is a built-in problem; register yours under another name, or pass it to any id by problem=..."
        )
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


# -- modules of one's own ----------------------------------------------------------------------------------------------


def import_own(module: str) -> ModuleType:
    """Import a module that registers problems, agents or searches, from the current folder or wherever Python looks.

    Raises:
        ValueError: There is no such module, or its import fails.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # scripts see their own folder alone
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ValueError(
            f"the module {shown(module)} cannot be imported: {type(error).__name__}: {error}. Modules of your own are "
            f"looked for in the current folder, {here}, and where Python looks; write a name without .py"
        ) from error
    if module not in IMPORTED:
        IMPORTED.append(module)
    return found


@dataclass(frozen=True)
class InModule:
    """The factory of a problem that is an attribute of a module: a `Problem`, its class, or a function that builds it."""

    module: str
    name: str

    def __call__(self, **settings: Any) -> Problem:
        found = getattr(import_own(self.module), self.name)
        made: Problem = found if isinstance(found, Problem) and not settings else found(**settings)
        return made


def _is_problem(found: Any) -> bool:
    return isinstance(found, Problem) or (isinstance(found, type) and issubclass(found, Problem))


def problem_named(name: Any) -> str:
    """The registered name that is meant by a name, or by ``"module:Name"`` as Gymnasium has it.

    The module is imported first. The name after the colon is one that the module registers, or an attribute of it that is a
    `Problem`, its class or a function that builds it. Such an attribute is registered under its own name.

    Raises:
        ValueError: There is no such module or problem.
    """
    if not isinstance(name, str) or ":" not in name:
        return known("problem", name, PROBLEMS, "Your own is found as module:Name, or after import_own(module)")
    module, _, own = name.partition(":")
    found, attribute = getattr(import_own(module), own, None), InModule(module, own)
    if isinstance(found, nn.Module):
        refuse(name, "a Problem; wrap it: ModuleProblem(module, loss=..., data=(inputs, targets))", found)
    registered = PROBLEMS.get(own)
    if registered is None:
        if not isinstance(found, Problem) and not callable(found):
            attributes = [key for key, one in vars(sys.modules[module]).items() if _is_problem(one)]
            refuse(
                name,
                f"a problem of the module {module!r}, which has {', '.join(attributes) or 'none'}",
                own if found is None else found,
            )
        register_problem(own, attribute)
    elif found is not None and registered not in (found, attribute) and registered.__module__ != module:
        raise ValueError(f"{name} is not what the name {own!r} is registered for; give yours another name")
    return own
