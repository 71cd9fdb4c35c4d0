"""Fixed schedules that can be carried from some problems to another: found on some, played on the one left out.

Whatever has a problem's own unit is said in one that all share: a search by its slot (`teleport_env.agents.policies.slots`),
the base learning rate as a multiple of the rate that suits plain descent, times as shares of the budget, the first teleports
by the step actions they precede. One schedule is chosen by its mean over several problems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teleport_env.agents.base import Agent
from teleport_env.agents.known import known_of
from teleport_env.agents.learning.plans import Plan, play_plans
from teleport_env.agents.learning.settings import Task, Training
from teleport_env.agents.play import draw_instances
from teleport_env.agents.policies.slots import SLOTS, fill
from teleport_env.agents.schedules import Never
from teleport_env.agents.tuning.search import Axis, Config, Found, search
from teleport_env.agents.tuning.tuning import TUNING_SEED, tune_rate
from teleport_env.envs.settings import Settings

KINDS = ("coordinates", "networks")
"""Of symmetries: each fills slots of its own, so that a schedule has a slot for either."""

_SHARES = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3)
_NEUTRAL: dict[str, Any] = {"up": 1.0, "warmup": 0.0, "down": 1.0, "decay_every": 0.0, "first": 0, "every": 0.0}
_WIDENINGS = 8


@dataclass(frozen=True)
class Ground:
    """Where policies and schedules for several problems play one of them.

    Attributes:
        problem: Registered name.
        rate: The unit of learning rates: that of plain descent.
        budget: Gradient evaluations an episode.
        steps_per_action: Gradient steps of a step action.
        symmetry: Which group acts.
        kind: One of `KINDS`.
        menu: Slots that are filled, and by which search.
    """

    problem: str
    rate: float
    budget: float
    steps_per_action: int
    symmetry: str
    kind: str
    menu: Mapping[str, Any]

    @property
    def asked(self) -> dict[str, Any]:
        """What a policy for several problems is told beside the rate, to play here."""
        return {"steps_per_action": self.steps_per_action, "symmetry": self.symmetry}


def ground(problem: str, known: Sequence[str], rate: float, budget: float | None = None) -> Ground:
    """Where a problem is played by what was made for some problems.

    On one of those an action has the steps and the symmetry of its recipe. On another nothing of its own recipe is used: an
    action is one step, so that what goes wrong is seen at once, and the symmetry is one that they name, if the problem has
    it, or else the problem's own.

    Args:
        problem: Registered name.
        known: The problems.
        rate: Of plain descent.
        budget: None: the problem's.

    Raises:
        ValueError: A problem without a symmetry.
    """
    settings = Settings.build(problem, budget=budget)
    if settings.symmetry is None:
        raise ValueError(f"{problem} has no symmetry: there is nothing to schedule on it; take it out of the problems")
    if problem in known:
        own = known_of(problem).teacher or {}
        stride = int(own.get("steps_per_action", Task.steps_per_action))
        symmetry = own.get("symmetry") or settings.symmetry
    else:
        recipes = {name: known_of(name).teacher or {} for name in known}
        stride = 1
        named = [one["symmetry"] for one in recipes.values() if one.get("symmetry") in settings.problem.symmetries]
        symmetry = named[0] if named else settings.symmetry
    asked = {"steps_per_action": stride, "symmetry": symmetry}
    more = asked if budget is None else {**asked, "budget": budget}
    menu = {name: found for name, found in zip(SLOTS, fill(problem, tuple(SLOTS), **more), strict=True) if found}
    coordinates = settings.problem.symmetries[symmetry].changes_coordinates
    return Ground(problem, rate, settings.budget, stride, symmetry, KINDS[not coordinates], menu)


# -- the unit of learning rates ----------------------------------------------------------------------------------------


def plain_rate(
    problem: str, *, instances: int, budget: float | None, shape: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The constant rate with which plain descent gains most on the train split, to a factor of the square root of 2.

    Args:
        problem: Registered name.
        instances: Of the train split.
        budget: None: the problem's.
        shape: Arguments of the problem; None: its defaults.

    Returns:
        ``rate``, ``gained`` there, and ``episodes`` that were played.
    """
    settings: dict[str, Any] = {"problem": dict(shape)} if shape else {}
    default = Settings.build(problem, **settings).learning_rate
    shared: dict[str, Any] = {"instances": instances, "budget": budget, "settings": settings}
    found = tune_rate(problem, Never(), [default * 2.0**k for k in range(-4, 5)], **shared)
    episodes = found.runs
    for _ in range(_WIDENINGS):
        if not found.at_edge:
            break
        found = tune_rate(problem, Never(), [found.rate * 2.0**k for k in range(-2, 3)], **shared)
        episodes += found.runs
    found = tune_rate(problem, Never(), [found.rate * 2.0**k for k in (-0.5, 0.0, 0.5)], **shared)
    return {"rate": found.rate, "gained": found.gained, "episodes": episodes + found.runs}


# -- schedules ---------------------------------------------------------------------------------------------------------


def axes_of(kinds: Sequence[str]) -> dict[str, Axis]:
    """The settings of a schedule for problems of some `KINDS`."""
    times = Axis((0.0, *_SHARES), factor=2.0, high=1.0)
    axes = {
        "multiple": Axis(tuple(2.0**k for k in range(-4, 4)), factor=2.0, low=2.0**-12, high=2.0**12),
        "up": Axis((1.0, 1.1, 1.3, 2.0, 4.0), factor=2.0, low=1.0, high=64.0),
        "warmup": times,
        "down": Axis((0.25, 0.5, 0.7, 0.9, 1.0), factor=2.0, low=1.0 / 64.0, high=1.0),
        "decay_every": times,
        "first": Axis((0, 1, 2, 4, 8), factor=2.0, high=1024),
        "every": times,
    }
    for kind in kinds:
        serving = tuple(name for name, slot in SLOTS.items() if slot.serves in ("all", kind))
        axes[kind] = Axis(serving, ordered=False)
    return axes


def plan_on(config: Config, place: Ground) -> Plan:
    """A schedule in the units of one problem; its search is one of the values of the ground's menu, by number.

    Where the problem leaves the slot empty, the schedule is of rates alone.
    """
    stride = place.steps_per_action

    def length(share: float) -> int:
        return max(1, round(place.budget * share / stride)) * stride if share else 0

    # tuned on the other kind alone, it has a slot of that kind only, which may serve here too
    slot: str = config.get(place.kind) or next((config[kind] for kind in KINDS if kind in config), "")
    filled = slot in place.menu
    first = config["first"] if filled else 0
    return Plan(
        learning_rate=config["multiple"] * place.rate,
        up=config["up"],
        warmup=length(config["warmup"]),
        down=config["down"],
        decay_every=length(config["decay_every"]),
        which=[*place.menu].index(slot) if filled else 0,
        first=(first - 1) * stride + 1 if first else 0,
        every=length(config["every"]) if filled else 0,
    )


def schedule_on(config: Config, place: Ground, name: str) -> Agent:
    """A schedule as an agent of one problem."""
    environment = {**place.asked, "searches": [*place.menu.values()]}
    return plan_on(config, place).agent(environment, name=name)


def tune_schedule(grounds: Sequence[Ground], *, count: int, instances: int) -> Found:
    """The schedule with the best mean over several problems, each with the same weight, on the train split.

    Args:
        grounds: Where each is played. Nothing else is.
        count: Schedules tried before the refinement.
        instances: Of the train split of each problem that every schedule is tried on; ten times as many others choose last.

    Returns:
        What the search found; its ``episodes`` are those of all problems.
    """
    ids = {place.problem: draw_instances(place.problem, "train", 11 * instances, TUNING_SEED) for place in grounds}
    numbers = np.arange(min(map(len, ids.values())))
    few, many = numbers[:instances], numbers[instances:] if len(numbers) > instances else numbers

    def score(configs: Sequence[Config], chosen: np.ndarray) -> np.ndarray:
        return np.mean([_gained(configs, place, ids[place.problem][chosen]) for place in grounds], axis=0)

    found = search(
        axes_of([kind for kind in KINDS if kind in {place.kind for place in grounds}]),
        score,
        count=count,
        few=few,
        many=many,
        generator=np.random.default_rng(np.random.SeedSequence(TUNING_SEED)),
        canonical=_canonical,
        neutral=_NEUTRAL,
    )
    return dataclasses.replace(found, episodes=found.episodes * len(grounds))


def _gained(configs: Sequence[Config], place: Ground, ids: np.ndarray) -> np.ndarray:
    """Mean orders of magnitude gained ``(configurations,)`` on one problem."""
    plans = [plan_on(config, place) for config in configs]
    training = Training.of(
        problem=place.problem,
        searches=tuple(place.menu.values()),
        rate_factors=tuple(sorted({1.0, *(factor for plan in plans for factor in (plan.up, plan.down))})),
        budget=place.budget,
        **place.asked,
    )
    gained, _ = play_plans(training, plans, ids, seed=TUNING_SEED)
    means: np.ndarray = gained.mean(axis=1)
    return means


def _canonical(config: Config) -> Config:
    """Without settings that do nothing, so that none is tried twice."""
    cleared = dict(config)
    for factor, length in (("up", "warmup"), ("down", "decay_every")):
        if cleared[factor] == 1.0 or not cleared[length]:
            cleared |= {factor: 1.0, length: 0.0}
    if not cleared["first"] and not cleared["every"]:
        for kind in KINDS:
            if kind in cleared:
                cleared[kind] = next(name for name, slot in SLOTS.items() if slot.serves in ("all", kind))
    return cleared
