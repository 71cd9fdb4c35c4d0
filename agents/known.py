"""What is known to work on each problem: the one table that a comparison and a training look problems up in.

A problem of which nothing is entered is compared and trained all the same, by what follows from the problem itself: whether
its symmetry changes coordinates or moves the layers of a network, and whether its gradients are those of mini-batches. An
entry says what is better than that. How entries were found, and what did not work, stands in ``docs/learning-log.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from teleport_env.agents.known_score import SCORE
from teleport_env.agents.policies.slots import SLOTS, candidates, kind_of, serves
from teleport_env.envs.features import NAMES
from teleport_env.problems import PROBLEMS, Problem, problem_from
from teleport_env.reading import known

RATES = (1.0, 0.5, 1.3, 2.0, 4.0)
"""Rate factors that policies share, so that one for a single problem can teach one for several. Finer than doubling: at the
edge of stability a rate is found by small steps up and larger ones down."""

NO_FINISH: dict[str, Any] = {
    "features": tuple(name for name in NAMES if name != "orders_left"),
    "goals": 4,
    "tolerance_multiples": (1e-7, 1.0),
    "budget_multiples": (0.5, 1.5),
}
"""Of a policy that is to play to any tolerance: it does not see how far the tolerance is, and meets many of them."""

_ROLLOUT = 16
_WIDE: dict[str, Any] = {
    **NO_FINISH,
    "runs": 1024,
    "rollout": _ROLLOUT,
    "minibatches": 8,
    "step_size": 3e-3,
    "decisions": 320_000,
}
"""Of a training for one problem where every gradient is that of the whole training set. A step of 1024 runs takes hardly
more time than one of 256; what so many decisions agree on bears longer steps."""

# Matrices and networks: one step or two per action, and small factors, so that the rate follows the edge of stability.
_FINE = (1.0, 0.25, 0.5, 0.7, 1.3, 1.6, 2.0)
_SMALL_UPDATES: dict[str, Any] = {
    "rate_factors": _FINE,
    "runs": 512,
    "minibatches": 4,
    "step_size": 1.5e-3,
    "entropy": 0.015,
}
"""Of long episodes, where more, smaller updates learn more."""
_FROM_A_RULE: dict[str, Any] = {
    "symmetry": "scaling",
    "searches": (
        {"search": "closed_form", "objective": "balance_gradient", "sweeps": 2},
        {"search": "closed_form", "objective": "balance_weights", "sweeps": 2},
        {"search": "normalized_ascent", "objective": "gradient_norm", "steps": 1, "radius": 1.0},
    ),
    "steps_per_action": 1,
    "minibatches": 4,
    "critic_segments": 1,
    "step_size": 4e-4,
    "entropy": 0.0,
    "trace": 0.99,
    "decisions": 400_000,
}
"""Where teleports cost little and most of them do harm: a policy that begins by chance never finds a schedule there."""
_NETWORKS = tuple(slot.searches[0] for slot in SLOTS.values() if slot.serves != "coordinates")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known to work on a problem; None where nothing is, which `known_of` fills in.

    Settings are those of `teleport_env.agents.learning.settings.Training`, by name.

    Attributes:
        compared: Whether a comparison that names no problems includes this one.
        search: Search that serves fixed schedules and rules best, untuned, on 32 instances of the train split.
        whitening: Searches that `teleport_env.agents.presets.whitening` goes through in turn, the best of a few tried on the
            validation split; empty: no such cycle is known.
        whitening_menu: Menu of a policy that whitens, where it is not that of the cycle.
        teacher: Settings of a training whose policy can teach one for several problems, beside what every problem of its
            kind has. `known_of` leaves None where gradients are those of mini-batches: a step takes far longer there.
        training: The same of a training for the problem alone; None: as a teacher.
        score: Further settings of a training by the reward ``score``.
        short: Further settings of a training at no more than half of the default budget: few steps, each of them a
            decision.
        momentum: Settings of a training on momentum in place of the teacher's and of those that all on momentum share.
        group: Further settings of a training of the group mode: one rate serves the whole run, and the best plan's need
            not be it.
    """

    compared: bool = False
    search: Any = None
    whitening: tuple[Any, ...] = ()
    whitening_menu: tuple[Any, ...] | None = None
    teacher: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    score: Mapping[str, Any] | None = None
    short: Mapping[str, Any] | None = None
    momentum: Mapping[str, Any] | None = None
    group: Mapping[str, Any] | None = None


def whiten_search(side: str, hidden: int, calm: float) -> dict[str, Any]:
    """The search `teleport_env.searches.whiten.Whiten` with these settings, as a dict."""
    return {"search": "whiten", "side": side, "hidden": hidden, "calm": calm}


_EVERY_STEP_AT_SHORT_BUDGETS = {"steps_per_action": 1}
_FACTORS: dict[str, Any] = {
    "symmetry": "general_linear",
    "rate_factors": _FINE,
    "steps_per_action": 1,
    "learning_rate": 0.075,
}

KNOWN: dict[str, Known] = {
    "Quadratic": Known(group={"directions": (), "learning_rate": 0.475, "decisions": 500_000}),
    "Rosenbrock": Known(
        compared=True,
        teacher={"steps_per_action": 4},
        short=_EVERY_STEP_AT_SHORT_BUDGETS,
        group={"learning_rate": 6e-4},
    ),
    "RosenbrockND": Known(
        search="virtual_step",
        teacher={"steps_per_action": 4},
        training={"steps_per_action": 4, "decisions": 520_000},
        short=_EVERY_STEP_AT_SHORT_BUDGETS,
    ),
    "Booth": Known(compared=True, group={"learning_rate": 0.07}),
    "MatrixFactorization": Known(
        whitening=(whiten_search("inputs", -1, 1e-3), whiten_search("outputs", -1, 1e-3)),
        training={**_FACTORS, "decisions": 520_000},
        # the coefficient that suits momentum alone there
        momentum={
            **_FACTORS,
            "optimizer": {"optimizer": "momentum", "momentum": 0.5},
            "on_teleport": "reset",
            "decisions": 800_000,
        },
    ),
    "MatrixCompletion": Known(
        training={**_SMALL_UPDATES, "learning_rate": 7.0, "segment": 10, "decisions": 450_000},
    ),
    "TensorFactorization": Known(
        training={
            **_FROM_A_RULE,
            "rate_factors": (1.0, 0.125, 0.5, 1.3, 2.0),
            "rule": {
                "agent": "edge_of_stability",
                "learning_rate": 0.085,
                "searches": [0],
                "first": 1,
                "slow": 0.0,
                "edge": 1.5,
                "up": 1.3,
                "down": 0.125,
                "cooldown": 20,
            },
        },
    ),
    "TwoLayerRegression": Known(
        training={
            **_FROM_A_RULE,
            "rate_factors": (1.0, 0.25, 0.7, 1.3, 1.6),
            "rule": {
                "agent": "edge_of_stability",
                "learning_rate": 0.006,
                "searches": [0, 1],
                "which": 1,
                "looks": 1,
                "first": 2,
                "flatten": 1.5,
                "slow": 0.3,
                "edge": 1.5,
                "up": 1.6,
                "down": 0.25,
                "cooldown": 20,
            },
        },
    ),
    "LinearNetwork": Known(
        whitening=(
            whiten_search("inputs", 0, 3e-3),
            whiten_search("inputs", -1, 3e-3),
            whiten_search("outputs", -1, 3e-3),
        ),
        teacher={"steps_per_action": 5, "entropy": 0.02, "decisions": 600_000},
        # episodes of 150 decisions; a segment holds two
        training={**_SMALL_UPDATES, "learning_rate": 0.006, "segment": 20, "decisions": 800_000},
    ),
    "MLPRegression": Known(
        compared=True,
        whitening=(whiten_search("inputs", 0, 0.03), whiten_search("inputs", -1, 0.03)),
        whitening_menu=(
            whiten_search("inputs", -1, 3e-4),
            whiten_search("inputs", 0, 0.03),
            whiten_search("outputs", 0, 3e-4),
            whiten_search("outputs", -1, 3e-4),
        ),
        teacher={"steps_per_action": 5, "warm_start": True, "critic_segments": 1},
        training={
            "searches": (
                *_NETWORKS,
                {"search": "closed_form", "objective": "balance_gradient", "sweeps": 2},
            ),
            "rate_factors": (1.0, 0.5, 0.7, 1.3, 2.0, 4.0),
            "steps_per_action": 1,
            # tuned on the train split as the rules of the full protocol are
            "rule": {
                "agent": "edge_of_stability",
                "learning_rate": 0.000175,
                "searches": [5, 2],
                "which": 1,
                "looks": 3,
                "first": 4,
                "flatten": 1.5,
                "slow": 0.0,
                "edge": 1.0,
                "up": 2.0,
                "down": 0.7,
                "cooldown": 20,
                "least_steps": 48,
            },
            "critic_segments": 1,
            "step_size": 4e-4,
            "entropy": 0.0,
            "trace": 0.99,
            "decisions": 620_000,
        },
    ),
    "Digits": Known(compared=True),
    "MNISTSmall": Known(training={"plans": 24, "decisions": 30_000, "validation_instances": 32}),
}
"""What `known_of` knows of problems by name, besides what follows from their attributes; filled by `register_known` too."""


def register_known(problem: str, **facts: Any) -> None:
    """Enter what is known to work on a problem; again replaces.

    Args:
        problem: Registered name, or one that will be.
        facts: Attributes of `Known`.
    """
    KNOWN[problem] = Known(**facts)


def compared() -> tuple[str, ...]:
    """Names of the problems of a comparison that names none."""
    return tuple(name for name, one in KNOWN.items() if one.compared)


def known_of(problem: str) -> Known:
    """What is known of a problem, and where nothing is entered what its attributes suggest.

    ``search`` is None on a problem without symmetries alone, ``teacher`` there and where gradients are of mini-batches.

    Raises:
        ValueError: There is no such problem.
    """
    made, entry = problem_from(problem), KNOWN.get(known("problem", problem, PROBLEMS), Known())
    whole = made.batch_size is None
    kind = _whole(made) if whole else _batches()
    teacher = {**kind, **(entry.teacher or {})}
    training = teacher if entry.training is None else {**kind, **entry.training}
    return replace(
        entry,
        search=entry.search or _search(made),
        whitening_menu=entry.whitening if entry.whitening_menu is None else entry.whitening_menu,
        teacher=teacher if whole and made.symmetries else None,
        training=_wider(made, training) if whole else training,
        momentum=entry.momentum and {**kind, **entry.momentum},
        score=entry.score or SCORE.get(problem, {}),
        short=entry.short or {},
        group=entry.group or {},
    )


def default_symmetry(problem: Problem) -> str | None:
    """The symmetry that environments of a problem have where none is asked for; None: it has none."""
    return problem.defaults("train").symmetry or next(iter(problem.symmetries), None)


def _search(problem: Problem) -> Any:
    """A search that fixed schedules and rules are served by: weights balanced, or the first of the menu that can be made."""
    symmetry = default_symmetry(problem)
    if symmetry is None:
        return None
    menu = (*problem.defaults("train").searches, *problem.searches_for(symmetry, "train"))
    balanced = ("balance_weights",) if kind_of(problem, symmetry) == "networks" else ()
    return next(search for search in (*balanced, *menu) if serves(search, problem, symmetry))


def _whole(problem: Problem) -> dict[str, Any]:
    """Settings of a training where every gradient is that of the whole training set."""
    found: dict[str, Any] = {"rate_factors": RATES, "steps_per_action": 1}
    symmetry = default_symmetry(problem)
    if symmetry is None:
        return found
    kind = kind_of(problem, symmetry)
    if kind == "networks":
        symmetry = "scaling" if "scaling" in problem.symmetries else symmetry
        found |= {"symmetry": symmetry, "steps_per_action": 2}
    menu: list[Any] = []
    for name in SLOTS:
        menu += [one for one in candidates(problem, symmetry, name) if one not in menu][:1]
    return {**found, "searches": tuple(menu)}


def _wider(problem: Problem, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training for one problem with many runs side by side; those that it has already go before."""
    budget = NO_FINISH["budget_multiples"][1] * problem.defaults("train").budget
    longest = math.ceil(budget / settings["steps_per_action"])
    return {**_WIDE, "segment": max(4, math.ceil(longest / _ROLLOUT)), **settings}


def _batches() -> dict[str, Any]:
    """The same where gradients are those of mini-batches."""
    return {
        "rate_factors": (1.0, 0.5, 0.7, 1.3, 2.0),
        "steps_per_action": 15,
        "warm_start": True,
        "critic_segments": 1,
        "plans": 64,
        "runs": 128,
        "rollout": 20,
        "decisions": 60_000,
        "validation_instances": 64,
    }
