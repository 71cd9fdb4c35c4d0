"""Settings of agents that were tuned once, on the train split, and are kept as data in the package.

``agents/tuned/`` has one file per problem, made by ``scripts/tune.py``. A comparison plays these agents without tuning them
again. They hold for the budget, the menu and the other settings of the problem that they were found with: where one of these
differs, nothing is read from the file, and `why_not` says so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from teleport_env.agents.known import known_of
from teleport_env.envs.settings import Settings
from teleport_env.files import read_bytes, write
from teleport_env.searches import search_from, to_dict

FOLDER = Path(__file__).parent / "tuned"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class TunedSettings:
    """What was tuned on a problem.

    Attributes:
        problem: Registered name.
        holds_for: Settings of the problem that the tuning met, as `circumstances` has them.
        command: Command that tuned.
        versions: Versions of what computed.
        agents: Entry of each agent, by registered name: its ``settings``, as `agent_from` takes them; the orders of
            magnitude ``gained`` on average over the ``instances`` of the train split that made the last choice; the
            number of configurations ``tried``, and of ``episodes`` played.
    """

    problem: str
    holds_for: Mapping[str, Any]
    command: str
    versions: Mapping[str, str]
    agents: Mapping[str, Mapping[str, Any]]

    def save(self, folder: Path = FOLDER) -> Path:
        """Write the file of the problem."""
        return write(folder / f"{self.problem}.json", json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def circumstances(problem: str, budget: float | None = None) -> dict[str, Any]:
    """Settings of a problem that tuned agents depend on, in JSON's types.

    Args:
        problem: Registered name.
        budget: Gradient evaluations per episode; None: the problem's.
    """
    settings, search = Settings.build(problem, budget=budget), known_of(problem).search
    return {
        "budget": settings.budget,
        "tolerance": settings.tolerance,
        "learning_rate": settings.learning_rate,
        "optimizer": settings.optimizer.name,
        "symmetry": settings.symmetry,
        "menu": [json.loads(json.dumps(to_dict(one))) for one in settings.searches],
        "search": None if search is None else json.loads(json.dumps(to_dict(search_from(search)))),
    }


def read_tuned(problem: str, folder: Path = FOLDER) -> TunedSettings | None:
    """What the package keeps for a problem; None where it keeps nothing."""
    found = _read(folder / f"{problem}.json")
    return found if found is None else copy.deepcopy(found)


@cache
def _read(path: Path) -> TunedSettings | None:
    if not path.exists():
        return None
    return TunedSettings(**json.loads(read_bytes(path, _MOST_BYTES)))


def why_not(problem: str, budget: float | None = None) -> str | None:
    """A sentence that says why no settings are kept for a problem, or do not hold; None where they hold.

    Args:
        problem: Registered name.
        budget: Gradient evaluations per episode; None: the problem's.
    """
    kept = read_tuned(problem)
    if kept is None:
        return f"the package keeps no tuned settings for {problem}"
    now = circumstances(problem, budget)
    other = [name for name in now if kept.holds_for.get(name) != now[name]]
    if not other:
        return None
    changes = ", ".join(f"{name} is {_short(now[name])} and was {_short(kept.holds_for.get(name))}" for name in other)
    return f"the tuned settings that the package keeps for {problem} do not hold: {changes}"


def _short(value: Any) -> str:
    return "another" if isinstance(value, list | dict) else str(value)


def tuned_settings(problem: str, budget: float | None = None) -> dict[str, dict[str, Any]]:
    """Settings of the agents that were tuned on a problem, by registered name; empty where none hold (`why_not`).

    Args:
        problem: Registered name.
        budget: Gradient evaluations per episode; None: the problem's.
    """
    kept = read_tuned(problem)
    if kept is None or why_not(problem, budget) is not None:
        return {}
    return {name: dict(entry["settings"]) for name, entry in kept.agents.items()}
