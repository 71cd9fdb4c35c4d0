"""How one policy for several problems becomes the agent of one; see `teleport_env.agents.learned.LearnedSchedule`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from teleport_env.agents.learning.slots import SLOTS, fill, search_prices
from teleport_env.agents.policy_prices import relative
from teleport_env.agents.policy_settings import ENVIRONMENT, Family

if TYPE_CHECKING:
    from teleport_env.agents.learned import LearnedSchedule

Policy = TypeVar("Policy", bound="LearnedSchedule")


def check_families(policy: LearnedSchedule) -> None:
    """Raise ValueError unless families and slots fit each other and the policy."""
    if bool(policy.families) != bool(policy.slots):
        raise ValueError("a policy for several problems has families and slots, any other has neither")
    unknown = [name for name in policy.slots if name not in SLOTS]
    if unknown or len(set(policy.slots)) != len(policy.slots):
        raise ValueError(f"slots must be different names among {', '.join(SLOTS)}, got {policy.slots}")
    if policy.families and (set(policy.families) != set(policy.problems) or "searches" in policy.environment):
        raise ValueError(
            "a policy for several problems has a family for each, and a menu in each family's environment alone"
        )
    for problem, family in policy.families.items():
        count = len(family.environment.get("searches", ()))
        sane = all(type(slot) is int and 0 <= slot < len(policy.slots) for slot in family.slots)
        if not sane or not len(family.slots) == len(set(family.slots)) == len(family.prices) == count:
            raise ValueError(f"the family {problem!r} must have a slot and a price for each of its {count} searches")
        if list(family.environment.get("rate_factors", (1.0,))) != list(policy.environment.get("rate_factors", (1.0,))):
            raise ValueError(f"the family {problem!r} has other rate_factors than the policy")


def agent_of(policy: Policy, problem: str, environment: Mapping[str, Any]) -> Policy:
    """The agent of one problem, cut from a policy for several: of the network it keeps the slots that the problem fills.

    Args:
        policy: For several problems.
        problem: Registered name.
        environment: Other keyword arguments of the environment than the policy's own for that problem.

    Raises:
        ValueError: The environment cannot be made, or has other rate factors.
    """
    family = policy.families.get(problem)
    if family is None or environment:
        family = _new_family(policy, problem, environment, family)
    count = len(policy.features)
    absent = [slot for slot in range(len(policy.slots)) if slot not in family.slots]
    outputs = [*range(policy.steps), *(policy.steps + slot for slot in family.slots)]
    layers = list(policy.layers)
    if policy.price_inputs:
        # an empty slot costs more than there is: its share is 1 throughout
        weight, bias = layers[0]
        kept = [*range(count), *(count + slot for slot in family.slots)]
        gone = weight[:, [count + slot for slot in absent]].sum(axis=1, dtype=np.float64)
        layers[0] = weight[:, kept], (bias + gone).astype(np.float32)
    weight, bias = layers[-1]
    layers[-1] = weight[outputs], bias[outputs]
    provenance = dict(policy.provenance)
    for kind in ("plan", "rule"):
        found = provenance.pop(f"{kind}s", {}).get(problem)
        if found is not None:
            provenance[kind] = found
    return dataclasses.replace(
        policy,
        problems=(problem,),
        environment=dict(family.environment),
        prices=tuple(family.prices),
        layers=tuple(layers),
        families={},
        slots=(),
        provenance=provenance,
    )


def _new_family(policy: LearnedSchedule, problem: str, environment: Mapping[str, Any], known: Family | None) -> Family:
    """How to play a problem that the policy was not trained on, or in another environment."""
    start = policy.environment if known is None else known.environment
    asked = {name: value for name, value in {**start, **environment}.items() if name != "searches"}
    if list(asked.get("rate_factors", (1.0,))) != list(policy.environment.get("rate_factors", (1.0,))):
        raise ValueError(f"the policy {policy.name!r} chooses among its own rate_factors")
    menu = fill(problem, policy.slots, **asked)
    filled = [(slot, search) for slot, search in enumerate(menu) if search is not None]
    searches = [search for _, search in filled]
    prices = relative(search_prices(problem, searches, **asked))
    kept = {name: value for name, value in asked.items() if name in ENVIRONMENT}
    return Family({**kept, "searches": searches}, tuple(slot for slot, _ in filled), prices)
