"""Slots: teleports with one meaning for all problems, so that one policy serves many.

A policy for several problems chooses among slots. Each problem fills a slot with the first search on the slot's list that
serves its symmetry and that its budget can pay a few times, and leaves it empty where there is none; an empty slot is never
chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teleport_env.envs.features import INDEX
from teleport_env.envs.settings import Settings
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.problems import Problem
from teleport_env.reading import known
from teleport_env.searches import search_from

LARGEST_SHARE = 0.25
"""Of the budget, that one teleport of a slot may cost, unless one is enough."""


@dataclass(frozen=True)
class Slot:
    """A teleport by what it is for.

    Attributes:
        searches: The better ones first.
        serves: ``"networks"``: it lowers the gradient norm or balances weights, so that a larger rate holds, which is no use
            to coordinate changes, where a slower point is only slower. ``"coordinates"``: it tries points at random, which
            find little in the many dimensions of matrices. ``"all"``: both.
        share: Largest share of the budget that one teleport may cost.
    """

    searches: tuple[Any, ...]
    serves: str = "all"
    share: float = LARGEST_SHARE


def _closed_form(objective: str) -> dict[str, Any]:
    return {"search": "closed_form", "objective": objective, "sweeps": 1}


def _one_step(objective: str, radius: float) -> dict[str, Any]:
    return {"search": "normalized_ascent", "objective": objective, "steps": 1, "radius": radius}


def _sample(candidates: int) -> dict[str, Any]:
    return {"search": "random", "candidates": candidates, "objective": "virtual_step"}


SLOTS: dict[str, Slot] = {
    "balance_weights": Slot((_closed_form("balance_weights"),), serves="networks"),
    "balance_gradient": Slot((_closed_form("balance_gradient"), _one_step("balance_gradient", 1.5)), serves="networks"),
    "flatten": Slot((_one_step("balance_gradient", 0.5),), serves="networks"),
    "ascend": Slot((_one_step("gradient_norm", 1.0),)),
    "look": Slot(({"search": "virtual_step"},)),
    "sample": Slot((_sample(4),), serves="coordinates"),
    "guess": Slot((_sample(1),), serves="coordinates"),
    # one is enough: descent from the steepest point of a quadratic form runs straight to the minimum
    "steepest": Slot(({"search": "closed_form"},), serves="coordinates", share=0.9),
}
"""The sides of a pair made equal; the least gradient norm; a step towards it; a step to a steeper point; of two points along
the ascent, of four and of one at random, the best after one virtual step; the steepest point of the level set."""


def search_prices(problem: str, searches: Sequence[Any], /, **environment: Any) -> tuple[float, ...]:
    """What teleports by some searches cost at most on a problem, in gradient evaluations.

    ``environment`` holds further keyword arguments of the environment.

    Raises:
        ValueError: A search that does not serve the problem's symmetry.
    """
    if not searches:
        return ()
    env = TeleportVectorEnv(problem, 1, autoreset_mode="Disabled", **{**environment, "searches": list(searches)})
    env.reset(seed=0)
    prices = tuple(env.episodes.menu.prices.tolist())
    env.close()
    return prices


def price_shares(observation: np.ndarray, prices: Sequence[float]) -> np.ndarray:
    """Price of each search over the budget left, at most 1, ``(B, searches)`` float32, from observations ``(B, F)``.

    ``prices`` are in units of the cheapest, whose share is a feature; features are the first columns. 1 means that the
    teleport cannot be paid, or that nothing would be left.
    """
    cheapest = observation[:, INDEX["price"], None].astype(np.float64)
    return np.minimum(cheapest * np.asarray(prices, dtype=np.float64), 1.0).astype(np.float32)


def relative(prices: Sequence[float]) -> tuple[float, ...]:
    """Prices in units of the cheapest.

    Raises:
        ValueError: One is 0, beside which the others have no finite price.
    """
    if prices and min(prices) <= 0:
        raise ValueError(
            "a search that costs nothing leaves nothing to measure the others' prices by: take it out of the menu, or "
            "train without masks"
        )
    return tuple(price / min(prices) for price in prices)


def fill(problem: str, slots: Sequence[str], /, **environment: Any) -> list[Any]:
    """The search of each named slot on a problem, None where it has none.

    ``environment`` holds keyword arguments of the environment that decide the element and the price of a teleport.

    Raises:
        ValueError: There is no such slot.
    """
    slots = [known("a slot of a policy for several problems", name, SLOTS) for name in slots]
    settings = Settings.build(problem, **{**environment, "searches": []})
    made, symmetry = settings.problem, settings.symmetry
    if symmetry is None:
        return [None] * len(slots)
    found: list[Any] = []
    for name in slots:
        payable = [
            one
            for one in candidates(made, symmetry, name)
            if search_prices(problem, [one], **environment)[0] <= SLOTS[name].share * settings.budget
        ]
        # on another problem's list two slots may come to the same search
        found.append(next((one for one in payable if one not in found), None))
    return found


def kind_of(problem: Problem, symmetry: str) -> str:
    """What a symmetry moves: ``"coordinates"``, or the layers of ``"networks"``."""
    return "coordinates" if problem.symmetries[symmetry].changes_coordinates else "networks"


def candidates(problem: Problem, symmetry: str, name: str) -> list[Any]:
    """The searches of a slot that can be made with a symmetry of a problem and are of use there, the better ones first."""
    slot = SLOTS[name]
    useful = slot.serves in ("all", kind_of(problem, symmetry))
    return [one for one in slot.searches if useful and serves(one, problem, symmetry)]


def serves(search: Any, problem: Problem, symmetry: str) -> bool:
    """Whether a search can be made with a symmetry of a problem."""
    try:
        search_from(search).check(problem, problem.symmetries[symmetry])
    except ValueError:
        return False
    return True
