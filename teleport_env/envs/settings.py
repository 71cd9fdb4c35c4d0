"""The keyword arguments of the environments, checked once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import torch

from teleport_env.optimizers import Optimizer, optimizer_from
from teleport_env.problems import problem_from
from teleport_env.problems.base import SPLITS, Problem
from teleport_env.searches import Search, search_from
from teleport_env.searches.coordinates import coordinates

ACTION_MODES = ("schedule", "group", "hybrid")
OBSERVATIONS = ("features", "params", "both")
REWARDS = ("log_decrease", "terminal")
ON_TELEPORT = ("keep", "reset")
OUTPUTS = ("numpy", "torch")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

DIVERGED_RETURN = -2.0
"""The undiscounted return, in orders of magnitude, of an episode that diverged."""

MAX_GROUP_DIM = 4096
"""Most algebra coordinates that a group action may have: a policy cannot act in the half million of two GL(512)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `gym.make` and `gym.make_vec` were asked for, with the problem's defaults filled in.

    Built by `Settings.build`; the attributes are the keyword arguments of the environments.
    """

    problem: Problem
    split: str
    optimizer: Optimizer
    learning_rate: float
    action_mode: str
    searches: tuple[Search, ...]
    rate_factors: tuple[float, ...]
    symmetry: str | None
    group_scale: float
    steps_per_action: int
    budget: float
    tolerance: float
    observation: str
    reward: str
    cost_weight: float
    on_teleport: str
    dtype: torch.dtype
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def build(
        cls,
        name: str,
        *,
        problem: Problem | Mapping[str, Any] | None = None,
        split: str = "train",
        optimizer: str | Mapping[str, Any] | Optimizer | None = None,
        learning_rate: float | None = None,
        action_mode: str = "schedule",
        searches: Sequence[str | Mapping[str, Any] | Search] | None = None,
        rate_factors: Sequence[float] = (1.0,),
        symmetry: str | None = None,
        group_scale: float | None = None,
        steps_per_action: int | None = None,
        budget: float | None = None,
        tolerance: float | None = None,
        observation: str = "features",
        reward: str = "log_decrease",
        cost_weight: float = 0.0,
        on_teleport: str = "keep",
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> Settings:
        """Check the arguments and fill in the problem's defaults for the split.

        Raises:
            ValueError: A value that is not allowed; the message names it, what is, and what to do.
        """
        _one_of("split", split, SPLITS)
        _one_of("action_mode", action_mode, ACTION_MODES)
        _one_of("observation", observation, OBSERVATIONS)
        _one_of("reward", reward, REWARDS)
        _one_of("on_teleport", on_teleport, ON_TELEPORT)
        made = problem if isinstance(problem, Problem) else problem_from(name, **(dict(problem) if problem else {}))
        defaults = made.defaults(split)
        if symmetry is None:
            symmetry = defaults.symmetry or next(iter(made.symmetries), None)
        elif symmetry not in made.symmetries:
            known = ", ".join(map(repr, made.symmetries)) or "none"
            raise ValueError(f"symmetry {symmetry!r} is unknown to {made.name}; it has {known}")
        menu: Sequence[Any]
        if searches is None:
            menu = defaults.searches if symmetry is not None else ()
            if symmetry is not None and symmetry != (defaults.symmetry or next(iter(made.symmetries))):
                menu = made.searches_for(symmetry, split)
        else:
            menu = searches
        if isinstance(menu, (str, Mapping, Search)):
            raise ValueError(f"searches must be a list of searches, got the single {menu!r}; write [{menu!r}]")
        factors = tuple(float(factor) for factor in rate_factors)
        if not factors or not all(0 < factor < float("inf") for factor in factors):
            raise ValueError(f"rate_factors must be one or more positive numbers, got {tuple(rate_factors)}")
        settings = cls(
            problem=made,
            split=split,
            optimizer=optimizer_from(defaults.optimizer if optimizer is None else optimizer),
            learning_rate=_positive(
                "learning_rate", defaults.learning_rate if learning_rate is None else learning_rate
            ),
            action_mode=action_mode,
            searches=tuple(search_from(search) for search in menu),
            rate_factors=factors,
            symmetry=symmetry,
            group_scale=_positive("group_scale", defaults.group_scale if group_scale is None else group_scale),
            steps_per_action=_count(defaults.steps_per_action if steps_per_action is None else steps_per_action),
            budget=_positive("budget", defaults.budget if budget is None else budget),
            tolerance=_positive("tolerance", defaults.tolerance if tolerance is None else tolerance),
            observation=observation,
            reward=reward,
            cost_weight=float(cost_weight),
            on_teleport=on_teleport,
            dtype=_dtype(defaults.dtype if dtype is None else dtype),
            device=torch.device(device),
        )
        settings._check_whole()
        return settings

    def _check_whole(self) -> None:
        if not 0 <= self.cost_weight < float("inf"):
            raise ValueError(f"cost_weight must be finite and not negative, got {self.cost_weight}")
        if self.budget < 2:
            raise ValueError(
                f"budget must be at least 2 gradient evaluations (one at the start, one for a step), got {self.budget}"
            )
        if self.action_mode != "schedule":
            if len(self.rate_factors) > 1:
                raise ValueError(
                    f"rate_factors {self.rate_factors} need action_mode='schedule'; with action_mode={self.action_mode!r} "
                    "leave them at (1.0,)"
                )
            if self.symmetry is None:
                raise ValueError(f"action_mode={self.action_mode!r} needs a symmetry, and {self.problem.name} has none")
            group = self.problem.symmetries[self.symmetry].group
            if not group.continuous:
                raise ValueError(
                    f"action_mode={self.action_mode!r} needs a continuous group; symmetry={self.symmetry!r} acts by "
                    f"{group.name}. Use action_mode='schedule' with searches=['random']"
                )
            if self.group_dim > MAX_GROUP_DIM:
                raise ValueError(
                    f"action_mode={self.action_mode!r} with symmetry={self.symmetry!r} would have {self.group_dim} "
                    f"coordinates and may have {MAX_GROUP_DIM}; use symmetry='scaling' or action_mode='schedule'"
                )

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Settings:
        """`build` with an error that lists the arguments there are where one is unknown."""
        known = [key for key in inspect.signature(cls.build).parameters if key != "name"]
        unknown = [key for key in arguments if key not in known]
        if unknown:
            raise ValueError(f"unknown argument {unknown[0]!r}; an environment takes {', '.join(known)}, render_mode")
        return cls.build(name, **arguments)

    @property
    def action_count(self) -> int:
        """Number of actions of the schedule mode."""
        return len(self.rate_factors) + len(self.searches)

    @property
    def group_dim(self) -> int:
        """Length of ``xi``; 0 without a symmetry."""
        return 0 if self.symmetry is None else coordinates(self.problem.symmetries[self.symmetry])


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def _count(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"steps_per_action must be an integer of at least 1, got {value!r}")
    return int(value)


def _dtype(value: str | torch.dtype) -> torch.dtype:
    """Names survive an `EnvSpec`'s JSON, torch's objects do not; both are accepted."""
    found = DTYPES.get(value) if isinstance(value, str) else value
    if found is None or found not in DTYPES.values():
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {value!r}")
    return found
