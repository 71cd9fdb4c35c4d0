"""Slots: teleports with one meaning for all problems, so that one policy serves many.

A policy for several problems chooses among slots. Each problem fills a slot with the first search on the slot's list that
serves its symmetry and that its budget can pay a few times, and leaves it empty where there is none; an empty slot is never
chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from teleport_env.envs.settings import Settings
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.searches import search_from

LARGEST_SHARE = 0.25
"""Of the budget, that one teleport of a slot may cost."""

_Searches = tuple[Any, ...]


def _descent(radius: float) -> dict[str, Any]:
    return {"search": "normalized_ascent", "objective": "balance_gradient", "steps": 1, "radius": radius}


SLOTS: dict[str, _Searches] = {
    "balance_weights": ({"search": "closed_form", "objective": "balance_weights", "sweeps": 1},),
    "balance_gradient": ({"search": "closed_form", "objective": "balance_gradient", "sweeps": 1}, _descent(1.5)),
    "flatten": (_descent(0.5),),
    "ascend": ({"search": "normalized_ascent", "objective": "gradient_norm", "steps": 3},),
    "look": ({"search": "virtual_step"},),
    "sample": ({"search": "random", "candidates": 4, "objective": "virtual_step"},),
}
"""Names to searches, the better ones first: the sides of a pair made equal; the least gradient norm; a step towards it; the
publication's ascent; the best of a few points after one virtual step, in the direction of the ascent and at random."""


def search_prices(problem: str, searches: Sequence[Any], /, **environment: Any) -> tuple[float, ...]:
    """What teleports by some searches cost at most on a problem, in gradient evaluations.

    Args:
        problem: Registered name.
        searches: As the environment takes them.
        environment: Further keyword arguments of the environment.

    Raises:
        ValueError: A search that does not serve the problem's symmetry.
    """
    if not searches:
        return ()
    env = TeleportVectorEnv(problem, 1, autoreset_mode="Disabled", **{**environment, "searches": list(searches)})
    env.reset(seed=0)
    prices = tuple(env.episodes.prices.tolist())
    env.close()
    return prices


def fill(problem: str, slots: Sequence[str], /, **environment: Any) -> list[Any]:
    """The search of each slot on a problem, None where it has none.

    Args:
        problem: Registered name.
        slots: Names of slots.
        environment: Keyword arguments of the environment that decide what a teleport is and costs.

    Raises:
        ValueError: There is no such slot.
    """
    unknown = [name for name in slots if name not in SLOTS]
    if unknown:
        raise ValueError(
            f"there is no slot {', '.join(map(repr, unknown))}; a policy for several problems chooses among "
            f"{', '.join(SLOTS)}"
        )
    settings = Settings.build(problem, **{**environment, "searches": []})
    if settings.symmetry is None:
        return [None] * len(slots)
    found: list[Any] = []
    for name in slots:
        serving = [one for one in SLOTS[name] if _serves(settings, one)]
        payable = [
            one for one in serving if search_prices(problem, [one], **environment)[0] <= LARGEST_SHARE * settings.budget
        ]
        # on another problem's list two slots may come to the same search
        found.append(next((one for one in payable if one not in found), None))
    return found


def _serves(settings: Settings, search: Any) -> bool:
    assert settings.symmetry is not None
    try:
        search_from(search).check(settings.problem, settings.problem.symmetries[settings.symmetry])
    except ValueError:
        return False
    return True
