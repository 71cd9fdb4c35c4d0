"""The keyword arguments of the environments, checked once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import torch

from teleport_env.envs.rewards import Reward, reward_from
from teleport_env.optimizers import Optimizer, optimizer_from
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.problems.base import SPLITS, Problem
from teleport_env.reading import entries, integer, known, number, refuse, shown, suggestion
from teleport_env.searches import Search, describe, search_from
from teleport_env.searches.moves import coordinates

ACTION_MODES = ("schedule", "group", "hybrid")
OBSERVATIONS = ("features", "params", "both")
ON_TELEPORT = ("keep", "reset")
OUTPUTS = ("numpy", "torch")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

MODULE = "Module"
"""Name in the id of environments that take a problem and have none of their own."""

MAX_GROUP_DIM = 4096
"""Most algebra coordinates that a group action may have: a policy cannot act in the half million of two GL(512)."""


class ProblemMissing(ValueError, gym.error.MissingArgument):
    """An id that needs a problem was made without one; Gymnasium's own tests pass over such ids."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `gym.make` and `gym.make_vec` were asked for, with the problem's defaults filled in.

    Built by `Settings.build`; the attributes are the keyword arguments of the environments.

    Attributes:
        problem: Loss, symmetries and instances.
        split: ``"paper"``, the published start, or ``"train"``, ``"validation"``, ``"test"``: disjoint sets of instances.
        optimizer: Update rule of a gradient step.
        learning_rate: Base learning rate; rate factors multiply it.
        action_mode: ``"schedule"``, ``"group"`` or ``"hybrid"``: the kind of actions.
        searches: Menu of teleports of the schedule mode.
        rate_factors: Factors of the learning rate, one step action for each.
        symmetry: Name of the symmetry by which a run teleports; None where the problem has none.
        group_scale: Length of ``xi`` at the edge of a group action.
        steps_per_action: Gradient steps of one step action.
        budget: Gradient evaluations that an episode may spend.
        max_episode_steps: Actions that an episode may have; None: no bound.
        tolerance: Loss at which a run has converged.
        observation: ``"features"``, ``"params"`` or ``"both"``.
        reward: Reward of an action.
        cost_weight: Price of a gradient evaluation in the reward.
        on_teleport: ``"keep"`` or ``"reset"``: treatment of the optimizer's state at a teleport.
        dtype: Precision of the runs.
        device: Device that the runs are computed on.
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
    max_episode_steps: int | None
    tolerance: float
    observation: str
    reward: Reward
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
        max_episode_steps: int | None = None,
        tolerance: float | None = None,
        observation: str = "features",
        reward: str | Reward = "log_decrease",
        cost_weight: float = 0.0,
        on_teleport: str = "keep",
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> Settings:
        """Check the arguments and fill in the problem's defaults for the split.

        Raises:
            ValueError: A value that is not allowed; the message names it, what is, and what to do.
        """
        split = known("split", split, SPLITS)
        made = _problem(name, problem)
        defaults = made.defaults(split)
        if symmetry is not None:
            symmetry = known(f"symmetry of {made.name}", symmetry, made.symmetries)
        else:
            symmetry = defaults.symmetry or next(iter(made.symmetries), None)
        menu: Sequence[Any]
        if searches is None:
            menu = defaults.searches if symmetry is not None else ()
            if symmetry is not None and symmetry != (defaults.symmetry or next(iter(made.symmetries))):
                menu = made.searches_for(symmetry, split)
        elif isinstance(searches, str | Mapping | Search):
            one = shown(searches)
            raise ValueError(f"searches must be a list of searches, got the single {one}; write [{one}]")
        else:
            menu = entries("searches", searches, "searches")
        factors = [
            number("an entry of rate_factors", f, above=0) for f in entries("rate_factors", rate_factors, "numbers")
        ]
        if not factors:
            refuse("rate_factors", "one or more positive numbers", rate_factors)
        settings = cls(
            problem=made,
            split=split,
            optimizer=optimizer_from(_or(optimizer, defaults.optimizer)),
            learning_rate=number("learning_rate", _or(learning_rate, defaults.learning_rate), above=0),
            action_mode=known("action_mode", action_mode, ACTION_MODES),
            searches=tuple(search_from(search) for search in menu),
            rate_factors=tuple(factors),
            symmetry=symmetry,
            group_scale=number("group_scale", _or(group_scale, defaults.group_scale), above=0),
            steps_per_action=integer("steps_per_action", _or(steps_per_action, defaults.steps_per_action), 1, 10**9),
            # one evaluation at the start and one for a step; beyond 2^53 counts in float64 stand still
            budget=number("budget", _or(budget, defaults.budget), least=2, most=1e15),
            max_episode_steps=None
            if max_episode_steps is None
            else integer("max_episode_steps", max_episode_steps, least=1),
            tolerance=number("tolerance", _or(tolerance, defaults.tolerance), above=0),
            observation=known("observation", observation, OBSERVATIONS),
            reward=reward_from(reward),
            cost_weight=number("cost_weight", cost_weight, least=0),
            on_teleport=known("on_teleport", on_teleport, ON_TELEPORT),
            dtype=_dtype(_or(dtype, defaults.dtype)),
            device=_device(device),
        )
        settings._check_whole()
        return settings

    def _check_whole(self) -> None:
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
    def for_face(cls, face: type, name: str, arguments: Mapping[str, Any]) -> Settings:
        """`build` for an environment class; an unknown argument is refused as Python refuses one.

        Raises:
            TypeError: An unknown argument.
            ValueError: As `build`.
            DataMissing: The problem's data are not there; an ImportError where a package brings them.
        """
        allowed = [*inspect.signature(cls.build).parameters, *inspect.signature(face.__init__).parameters]  # type: ignore[misc]
        allowed = [key for key in dict.fromkeys(allowed) if key not in ("self", "arguments")]
        for key in arguments:
            if key not in allowed:
                raise TypeError(
                    f"{face.__name__}.__init__() got an unexpected keyword argument {key!r}.{suggestion(key, allowed)} "
                    f"It takes {', '.join(allowed)}"
                )
        settings = cls.build(name, **arguments)
        settings.problem.check_data()
        return settings

    @property
    def action_count(self) -> int:
        """Number of actions of the schedule mode."""
        return len(self.rate_factors) + len(self.searches)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of each action of the schedule mode, in their order; of the other modes ``("step", "teleport")``."""
        if self.action_mode != "schedule":
            return "step", "teleport"
        steps = ("step" if factor == 1.0 else f"rate x{factor:g}" for factor in self.rate_factors)
        return *steps, *(f"teleport: {describe(search)}" for search in self.searches)

    @property
    def group_dim(self) -> int:
        """Length of ``xi``; 0 without a symmetry."""
        return 0 if self.symmetry is None else coordinates(self.problem.symmetries[self.symmetry])


def check_arguments(what: str, arguments: Any) -> None:
    """See that something is a table of keyword arguments of the environments; their values are not looked at.

    Raises:
        ValueError: It is none, or has a name that there is not; the message begins with ``what``.
    """
    if not isinstance(arguments, Mapping):
        refuse(what, "a dict of keyword arguments of the environment", arguments)
    for key in arguments:
        if key not in ARGUMENTS:
            listed = ", ".join(ARGUMENTS)
            raise ValueError(f"{what} has no argument {shown(key)}; it has {listed}.{suggestion(key, ARGUMENTS)}")


ARGUMENTS = tuple(inspect.signature(Settings.build).parameters)[1:]
"""Names of the keyword arguments that the single and the vector environment share."""


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _problem(name: str, problem: Any) -> Problem:
    if isinstance(problem, Problem):
        return problem
    wrap = "teleport_env.ModuleProblem(module, loss=..., data=(inputs, targets))"
    if name == MODULE and problem is None and MODULE not in PROBLEMS:
        raise ProblemMissing(f"Teleport/{MODULE}-v0 trains a torch.nn.Module of your own: pass problem={wrap}")
    if problem is not None and not isinstance(problem, Mapping):
        module = f" An nn.Module is no problem: pass {wrap}." * isinstance(problem, torch.nn.Module)
        raise ValueError(
            f"problem must be a Problem, or a dict of settings of {name}, got {shown(problem)}.{module} "
            f"A registered problem is chosen by its id, such as 'Teleport/{name}-v0'"
        )
    for key in problem or {}:
        if not isinstance(key, str):
            refuse(f"a setting of {name}", "a name", key)
    return problem_from(name, **(problem or {}))


def _dtype(value: Any) -> torch.dtype:
    """Names survive an `EnvSpec`'s JSON, torch's objects do not; both are accepted."""
    return value if value in DTYPES.values() else DTYPES[known("dtype", value, DTYPES)]


def _device(value: Any) -> torch.device:
    """A device that can compute; torch itself says so only when it is used."""
    allowed = "a device of this machine that holds numbers, such as 'cpu'"
    try:
        device = torch.device(value) if isinstance(value, str | torch.device) else refuse("device", allowed, value)
        torch.zeros(1, device=device).item()
    except ValueError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device must be {allowed}, got {shown(value)}: {reason}") from error
    return device
