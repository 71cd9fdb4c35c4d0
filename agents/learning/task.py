"""What a training plays: problems, actions and the environment, and what the policy sees of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from teleport_env.agents.policies.learned_moves import DIRECTIONS
from teleport_env.agents.policies.settings import ENVIRONMENT
from teleport_env.agents.policies.slots import SLOTS, fill
from teleport_env.envs.features import INDEX, NAMES
from teleport_env.envs.settings import Settings
from teleport_env.problems import DEFAULT_PROBLEM
from teleport_env.reading import choose_some, integer, known, number, read_fields, refuse
from teleport_env.registration import problem_named
from teleport_env.searches import to_dict

OWN = ("steps_per_action", "symmetry", "learning_rate", "budget", "optimizer")
"""Settings of a task that one of several problems may have for itself, and those of the teaching."""
OWN_TEACHING = ("plans", "rules", "warm_start")

_GOALS = 4711  # of the stream that goals are drawn from, beside a training's other streams


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is played: problems, actions and the environment, and what the policy sees of it.

    Attributes:
        problem: Registered name, or ``module:Name``; or several: one policy for all of them.
        action_mode: ``"schedule"``, a menu of searches and rate factors, or ``"group"``: the policy gives the group
            parameters itself, on one problem at one rate, without menu, rules and teachers.
        group_scale: Length of the largest group parameters; None: the problem's.
        directions: Further inputs of a policy of the group mode: ``change``, ``place``
            (`teleport_env.agents.policies.learned_moves.DIRECTIONS`).
        searches: The menu; None: the problem's. For several problems names of slots (`SLOTS`); None: all of them.
        families: Settings of a training that one of several problems has for itself, by problem, such as
            ``steps_per_action``, ``symmetry`` and ``optimizer``.
        rate_factors: Rate factors of the step actions; one of them is 1.
        steps_per_action: Gradient steps of a step action.
        learning_rate: The base; None: that of the best plan.
        rate_multiples: Multiples of the base: equal parts of a problem's runs begin at these, and validation instances
            are played at each. A policy so trained finds its rate where the base is off, as on a problem that it has
            not seen.
        goals: Equal parts of a problem's runs that have a tolerance and a budget of their own, drawn anew for every segment.
            Without them a policy learns where the finish is, and falls when that moves.
        tolerance_multiples: Smallest and largest multiple of the tolerance; drawn log-uniformly. Validation instances are
            played at both ends.
        budget_multiples: The same of the budget; validation instances are played within the budget itself.
        optimizer: Optimizer of the runs, a name or a dict of its settings; None: the problem's.
        symmetry: Group that acts; None: the problem's.
        on_teleport: Treatment of the optimizer's state, ``"keep"`` or ``"reset"``; None: kept.
        budget: Gradient evaluations per episode; None: the problem's.
        features: Inputs of the policy, in this order.
        price_inputs: Further inputs: what each search costs of the budget left.
        reward: Name of the reward, by whose return policies, plans and rules are chosen, too; None: ``"log_decrease"``, and
            what is chosen gains most orders of magnitude on the whole training set.
        divergence_cost: Charge for an episode that diverges, in training alone, in the unit of the reward. Where little is
            left to gain the reward ``"score"``, which keeps what was reached before, gives no reason to avoid it.
        masks: Never choose what the rest of the budget cannot pay, in training and play; several problems need it.
    """

    problem: str | tuple[str, ...] = DEFAULT_PROBLEM
    action_mode: str = "schedule"
    group_scale: float | None = None
    directions: tuple[str, ...] = ()
    searches: tuple[Any, ...] | None = None
    families: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rate_factors: tuple[float, ...] = (1.0,)
    steps_per_action: int = 4
    learning_rate: float | None = None
    rate_multiples: tuple[float, ...] = (1.0,)
    goals: int = 1
    tolerance_multiples: tuple[float, float] = (1.0, 1.0)
    budget_multiples: tuple[float, float] = (1.0, 1.0)
    optimizer: str | Mapping[str, Any] | None = None
    symmetry: str | None = None
    on_teleport: str | None = None
    budget: float | None = None
    features: tuple[str, ...] = NAMES
    price_inputs: bool = False
    reward: str | None = None
    divergence_cost: float = 0.0
    masks: bool = True

    def __post_init__(self) -> None:
        read_fields("a training", self)
        names = tuple(map(problem_named, self.problems))
        object.__setattr__(self, "problem", names[0] if len(names) == 1 else names)
        self._check_problems()
        if 1.0 not in self.rate_factors:
            raise ValueError(f"1.0 must be among the rate_factors, got {self.rate_factors}")
        if not self.rate_multiples or not all(0 < one < math.inf for one in self.rate_multiples):
            raise ValueError(f"rate_multiples must be one or more positive numbers, got {self.rate_multiples}")
        integer("goals", self.goals, 1, 4096)
        number("divergence_cost", self.divergence_cost, least=0)
        for name in ("tolerance_multiples", "budget_multiples"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1] < math.inf:
                refuse(name, "two positive numbers, the smaller one first", ends)
        choose_some("a training", self, "features", INDEX)
        if self.price_inputs and not self.masks:
            raise ValueError("price_inputs need masks, which know the prices: leave masks on")
        if self.action_mode == "group":
            self._check_group()
        elif self.action_mode != "schedule":
            raise ValueError(f"action_mode must be 'schedule' or 'group', got {self.action_mode!r}")
        elif self.directions or self.group_scale is not None:
            raise ValueError("directions and group_scale belong to action_mode='group'")
        if not self.several:
            self.settings()  # rejects what is wrong with the environment before anything is computed

    def _check_problems(self) -> None:
        names = self.problems
        if not names or len(set(names)) != len(names):
            raise ValueError(f"problem must be one name or several different ones, got {names}")
        strangers = sorted(set(self.families) - set(names))
        if strangers:
            raise ValueError(f"families has settings for {', '.join(strangers)}, but problem names {', '.join(names)}")
        for problem, own in self.families.items():
            for name in own:
                known(f"a setting of the family {problem}", name, (*OWN, *OWN_TEACHING))
        if self.several and not self.masks:
            raise ValueError("several problems need masks: some have no search for a slot")

    def _check_group(self) -> None:
        usual = {"searches": (), "rate_factors": (1.0,), "rate_multiples": (1.0,), "price_inputs": False, "masks": True}
        usual |= {"goals": 1, "tolerance_multiples": (1.0, 1.0), "budget_multiples": (1.0, 1.0)}
        other = [name for name, value in usual.items() if getattr(self, name) != value]
        if other or self.several:
            raise ValueError(
                f"action_mode='group' is for one problem, and leaves {', '.join(usual)} at "
                f"{', '.join(map(repr, usual.values()))}; change {', '.join(other) or 'problem'}"
            )
        choose_some("a training", self, "directions", DIRECTIONS, least=0)

    @property
    def problems(self) -> tuple[str, ...]:
        """Names of all problems."""
        return (self.problem,) if isinstance(self.problem, str) else tuple(self.problem)

    @property
    def several(self) -> bool:
        """Whether the policy is for several problems."""
        return not isinstance(self.problem, str)

    @property
    def only(self) -> str:
        """The problem of a training on one.

        Raises:
            ValueError: There are several, each with an environment of its own: ask `alone`.
        """
        if not isinstance(self.problem, str):
            raise ValueError(f"this training has several problems, {', '.join(self.problem)}: ask alone(problem)")
        return self.problem

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots of a policy for several problems."""
        if not self.several:
            return ()
        return tuple(SLOTS) if self.searches is None else self.searches

    def filled(self, problem: str) -> list[Any]:
        """The search of each slot on one of several problems; None where it is empty."""
        return fill(problem, self.slots, **self._with_own(problem, ()).environment)

    def alone(self, problem: str) -> Task:
        """The same on one of the problems: with its own settings, and the searches that fill its slots."""
        if not self.several:
            return self
        return self._with_own(problem, tuple(search for search in self.filled(problem) if search is not None))

    def _with_own(self, problem: str, searches: tuple[Any, ...]) -> Task:
        own = {name: value for name, value in self.families.get(problem, {}).items() if name in OWN}
        return replace(self, problem=problem, families={}, searches=searches, **own)

    @property
    def longest(self) -> int:
        """Decisions of an episode that spends its budget on steps, of the problem where they are most."""
        alone = [self.alone(problem).settings() for problem in self.problems]
        return max(math.ceil(self.budget_multiples[1] * one.budget / one.steps_per_action) for one in alone)

    def drawn(self, seed: int, segment: int) -> list[dict[str, float]]:
        """Of each of the ``goals``, what its part of a problem's runs plays for in a segment.

        Each end of a range is reached by some part of some segment: the parts share the range evenly, in an order of chance.

        Returns:
            For each part multiples by name: ``tolerance`` and ``budget``.
        """
        generator = np.random.default_rng(np.random.SeedSequence([seed, segment, _GOALS]))
        found = {}
        for name, (low, high) in {"tolerance": self.tolerance_multiples, "budget": self.budget_multiples}.items():
            places = (generator.permutation(self.goals) + generator.random(self.goals)) / self.goals
            found[name] = low * (high / low) ** places
        return [{name: float(values[part]) for name, values in found.items()} for part in range(self.goals)]

    @property
    def environment(self) -> dict[str, Any]:
        """What the environment is asked for in training and, but for the budget, by the policy."""
        chosen = {name: getattr(self, name) for name in (*ENVIRONMENT, "budget", "reward")}
        if self.action_mode == "group":
            observation = "both" if self.directions else "features"
            chosen |= {"action_mode": "group", "observation": observation, "group_scale": self.group_scale}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def unit(self) -> str:
        """Unit of what a policy gains, in words."""
        return "orders of magnitude" if self.reward is None else f"by the reward {self.reward}"

    def settings(self, split: str = "train") -> Settings:
        """The environment's, checked, of a training on one problem."""
        return Settings.build(self.only, split=split, **self.environment)

    def policy_environment(self, learning_rate: float) -> dict[str, Any]:
        """What the policy asks of its environment: everything that decides what its actions mean, in JSON's types."""
        settings = self.settings()
        environment: dict[str, Any] = {"steps_per_action": settings.steps_per_action, "learning_rate": learning_rate}
        if self.action_mode == "group":
            environment |= {name: getattr(settings, name) for name in ("action_mode", "observation", "group_scale")}
        else:
            searches = [to_dict(search) for search in settings.searches]
            environment |= {"searches": searches, "rate_factors": list(settings.rate_factors)}
        asked = {name: getattr(self, name) for name in ("optimizer", "symmetry", "on_teleport")}
        return environment | {name: value for name, value in asked.items() if value is not None}
