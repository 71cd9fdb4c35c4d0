"""Fixed schedules that can be carried from some problems to another: found on some, played on the one left out.

Whatever has a problem's own unit is said in one that all share: a search by its slot (`teleport_env.agents.policies.slots`),
the base learning rate as a multiple of the rate that suits plain descent, times as shares of the budget, the first teleports
by the step actions they precede. One schedule is chosen by its mean over several problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teleport_env.agents.base import Agent
from teleport_env.agents.known import known_of
from teleport_env.agents.learning.settings import Task
from teleport_env.agents.policies.slots import SLOTS, fill
from teleport_env.agents.schedules import Never
from teleport_env.agents.tuning.axes import FACTORS, SHARES
from teleport_env.agents.tuning.plans import NEUTRAL, Plan, canonical
from teleport_env.agents.tuning.roster import tune_rate
from teleport_env.agents.tuning.search import Axis, Config, Found
from teleport_env.agents.tuning.tuning import Family, tune
from teleport_env.envs.settings import Settings

KINDS = ("coordinates", "networks")
"""Of symmetries: each fills slots of its own, so that a schedule has a slot for either."""

_NEUTRAL = {name: value if name == "first" else float(value) for name, value in NEUTRAL.items()}  # shares, not counts
_WIDENINGS = 8


@dataclass(frozen=True)
class Ground:
    """Where policies and schedules for several problems play one of them.

    Attributes:
        problem: Registered name.
        rate: The unit of learning rates: that of plain descent.
        budget: Gradient evaluations per episode.
        steps_per_action: Gradient steps of a step action.
        symmetry: Group that acts.
        kind: One of `KINDS`.
        menu: Slots that are filled, and by which search.
        optimizer: Optimizer of the policies' training; None: the problem's own.
    """

    problem: str
    rate: float
    budget: float
    steps_per_action: int
    symmetry: str
    kind: str
    menu: Mapping[str, Any]
    optimizer: Any = None

    @property
    def asked(self) -> dict[str, Any]:
        """What a policy for several problems needs beside the rate, to play here."""
        return {"steps_per_action": self.steps_per_action, "symmetry": self.symmetry}

    @property
    def environment(self) -> dict[str, Any]:
        """Keyword arguments of the environment that a schedule plays in, all slots in the menu."""
        stepping = {} if self.optimizer is None else {"optimizer": self.optimizer}
        return {**self.asked, **stepping, "searches": [*self.menu.values()]}


def ground(
    problem: str, known: Sequence[str], rate: float, budget: float | None = None, stride: int | None = None
) -> Ground:
    """Where a problem is played by what was made for some problems.

    On one of those an action has the steps and the symmetry of its recipe. On another nothing of its own recipe is used: an
    action is one step, so that what goes wrong is seen at once, and the symmetry is one that they name, if the problem has
    it, or else the problem's own.

    Args:
        problem: Registered name.
        known: The problems.
        rate: Learning rate of plain descent.
        budget: None: the problem's.
        stride: Steps of an action; None: the recipe's, or one.

    Raises:
        ValueError: A problem without a symmetry.
    """
    settings = Settings.build(problem, budget=budget)
    if settings.symmetry is None:
        raise ValueError(f"{problem} has no symmetry: there is nothing to schedule on it; take it out of the problems")
    if problem in known:
        own = known_of(problem).teacher or {}
        stride = stride or int(own.get("steps_per_action", Task.steps_per_action))
        symmetry = own.get("symmetry") or settings.symmetry
    else:
        recipes = {name: known_of(name).teacher or {} for name in known}
        stride = stride or 1
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
        instances: Number of instances of the train split.
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
    times = Axis((0.0, *SHARES), factor=2.0, high=1.0)
    axes = {
        "multiple": Axis(tuple(2.0**k for k in range(-4, 4)), factor=2.0, low=2.0**-12, high=2.0**12),
        "up": FACTORS["up"],
        "warmup": times,
        "down": FACTORS["down"],
        "decay_every": times,
        "first": Axis((0, 1, 2, 4, 8), factor=2.0, high=1024),
        "every": times,
    }
    for kind in kinds:
        axes[kind] = Axis(_serving(kind), ordered=False)
    return axes


def _serving(kind: str) -> tuple[str, ...]:
    """Slots that one of `KINDS` may fill."""
    return tuple(name for name, slot in SLOTS.items() if slot.serves in ("all", kind))


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
    return plan_on(config, place).agent(place.environment, name=name)


def tune_schedule(grounds: Sequence[Ground], *, count: int, instances: int) -> Found:
    """The schedule with the best mean over several problems, each with the same weight, on the train split.

    Args:
        grounds: Grounds on which each is played, and no others.
        count: Schedules tried before the refinement.
        instances: Number of instances of the train split of each problem that every schedule is tried on; ten times as
            many others choose last.

    Returns:
        What the search found; its ``episodes`` are those of all problems.
    """
    kinds = [kind for kind in KINDS if kind in {place.kind for place in grounds}]
    axes, idle = axes_of(kinds), {kind: _serving(kind)[0] for kind in kinds}

    def family(place: Ground) -> Family:
        return Family(
            axes,
            lambda config: plan_on(config, place).agent({**place.environment, "budget": place.budget}),
            canonical=lambda config: canonical(config, idle),
            neutral=_NEUTRAL,
        )

    return tune({place.problem: family(place) for place in grounds}, count=count, instances=instances)
