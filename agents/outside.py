"""Whatever decides from observations as an agent: `as_agent`, the one way in for players that are not made here.

A player is a model of stable-baselines3 or sb3-contrib, a `torch.nn.Module`, a function, or anything else with ``predict``.
It decides in the environment that it was made for: its arguments (menu, rate factors, learning rate, ...) go with it.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from teleport_env.agents.base import Agent, State
from teleport_env.envs.features import NAMES
from teleport_env.envs.settings import Settings, check_arguments
from teleport_env.reading import flag, refuse, shown

ARGUMENTS = (
    "searches",
    "rate_factors",
    "steps_per_action",
    "learning_rate",
    "optimizer",
    "on_teleport",
    "symmetry",
    "action_mode",
    "observation",
    "group_scale",
)
"""Arguments of the environment that decide what a player sees and what its actions mean. Others are the comparison's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outside(Agent):
    """A player that is not made here, as an agent; `as_agent` makes one.

    Attributes:
        player: Model that decides by ``predict(observation, state, episode_start, deterministic)``.
        prepare: Function of the observation that comes first, such as a normalization; None: nothing.
        row_by_row: Ask for each run's action by itself. Then a run's decisions do not depend on its company bit for bit,
            whatever the player computes; it takes as many calls as there are runs.
    """

    name: str = "outside"
    kind: str = "learned"
    player: Any
    prepare: Callable[[np.ndarray], np.ndarray] | None = None
    row_by_row: bool = False

    @cached_property
    def masked(self) -> bool:
        """Whether the player wants to know which actions can be paid (``action_masks``)."""
        return "action_masks" in inspect.signature(self.player.predict).parameters

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[Any, Any]:
        """The player's own, for observations ``(B, F)`` or ``(F,)``; its state is handed on as it is."""
        seen = observation if self.prepare is None else self.prepare(observation)
        if episode_start is None:
            episode_start = np.full(np.shape(seen)[:-1], state is None)
        if not self.row_by_row or np.ndim(seen) == 1:
            return self._ask(seen, state, episode_start, deterministic, action_masks)
        rows = range(len(seen))
        begins = np.asarray(episode_start)
        found = [
            self._ask(
                seen[row : row + 1],
                state and state[row],
                begins[row : row + 1],
                deterministic,
                None if action_masks is None else action_masks[row : row + 1],
            )
            for row in rows
        ]
        return np.concatenate([action for action, _ in found]), [memory for _, memory in found]

    def _ask(self, seen: np.ndarray, state: Any, begins: Any, deterministic: bool, masks: Any) -> tuple[Any, Any]:
        more = {"action_masks": masks} if masks is not None and self.masked else {}
        with torch.no_grad():
            action, state = self.player.predict(
                seen, state=state, episode_start=np.atleast_1d(begins), deterministic=deterministic, **more
            )
        action = np.asarray(action)
        if action.shape[:1] != np.shape(seen)[:-1]:
            raise ValueError(
                f"{self.name!r} gave actions of shape {action.shape} for observations of shape {np.shape(seen)}; it must "
                "give one action per run"
            )
        return action, state

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        return np.asarray(self.predict(observation)[0])

    def check_actions(self, settings: Settings) -> None:
        """Raise ValueError where the player was made for other actions or observations than an environment has."""
        remedy = (
            "Give the arguments of the environment that it was made for, such as searches, rate_factors and "
            "steps_per_action: as_agent(..., environment=...), or model.zip:searches=[...]"
        )
        space = getattr(self.player, "action_space", None)
        schedule = settings.action_mode == "schedule"
        theirs = getattr(space, "n", None) if schedule else getattr(space, "shape", None)
        ours: Any = settings.action_count if schedule else (1 + settings.group_dim,)
        if space is not None and theirs != ours:
            there = f"{ours} actions" if schedule else f"actions of shape {ours}"
            raise ValueError(
                f"{self.name!r} was made for the actions {space}, and its environment has {there} on "
                f"{settings.problem.name}. {remedy}"
            )
        shape = getattr(getattr(self.player, "observation_space", None), "shape", None)
        if shape is not None and settings.observation == "features" and shape != (len(NAMES),):
            raise ValueError(
                f"{self.name!r} was made for observations of shape {shape}, and its environment shows the {len(NAMES)} "
                f"features. {remedy}; observation is one of them"
            )


def as_agent(
    player: Any,
    *,
    name: str | None = None,
    kind: str | None = None,
    environment: Mapping[str, Any] | None = None,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    row_by_row: bool = False,
) -> Agent:
    """Make an agent of whatever plays.

    Args:
        player: One of these.

            * An `Agent`: it stays as it is, but for the arguments given here.
            * A model of stable-baselines3 or sb3-contrib: its policy plays, recurrent and maskable ones too. An
              observation normalization (``VecNormalize``) that the model has goes with it.
            * A ``torch.nn.Module``: it maps observations ``(B, F)`` float32 to one score per action, ``(B, actions)``, and
              the highest is taken; with ``action_mode="group"`` to the actions themselves.
            * Something else with ``predict(observation, state, episode_start, deterministic)``, as stable-baselines3 has it.
            * A function of observations ``(B, F)`` that returns actions ``(B,)``.
        name: Name in tables; None: the player's, or that of its class.
        kind: One of `teleport_env.agents.base.KINDS`; None: the player's, or ``"learned"``. Of a ``"learned"`` agent a
            comparison tunes nothing.
        environment: Arguments of the environment that the player was made for; None: those of a model's own environment,
            if it has one, else the problem's defaults.
        prepare: Function of observations that comes first; None: nothing, or the model's normalization.
        row_by_row: Whether the agent plays row by row, as in `Outside`.

    Raises:
        ValueError: It is nothing that plays, or an argument is not allowed.
    """
    if environment is not None:
        check_arguments("environment of the agent", environment)
    if prepare is not None and not callable(prepare):
        refuse("prepare", "a function of observations, or None", prepare)
    flag("row_by_row", row_by_row)
    given = {"name": name, "kind": kind, "environment": environment, "prepare": prepare}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if isinstance(player, str):
        refuse("an agent", "an object; teleport_env.agents.naming.agent_for(problem, name) makes one of a name", player)
    if isinstance(player, Agent):
        if environment is not None:
            settings["environment"] = {**player.environment, **environment}
        return dataclasses.replace(player, **settings) if settings else player
    usual: dict[str, Any] = {"name": str(getattr(player, "name", None) or type(player).__name__)}
    policy = getattr(player, "policy", None)
    if isinstance(player, nn.Module) and not callable(getattr(player, "predict", None)):
        player = _Scores(player, (environment or {}).get("action_mode") == "group")
    elif callable(getattr(policy, "predict", None)):
        usual |= _made_for(player)
        player = policy  # without what trains it: it goes to other processes
    elif not callable(getattr(player, "predict", None)):
        if not callable(player):
            refuse("an agent", "an Agent, something with `predict`, a torch.nn.Module, or a function", player)
        _check_signature(player)
        usual["name"] = getattr(player, "__name__", usual["name"]).strip("<>")
        player = _Function(player)
    environment = {**usual.pop("environment", {}), **settings.pop("environment", {})}
    return Outside(**{**usual, **settings}, player=player, environment=environment, row_by_row=row_by_row)


def _check_signature(function: Callable[..., Any]) -> None:
    """Raise ValueError for a function that cannot be called with observations alone."""
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise ValueError(
            f"an agent's function must take observations (B, F) alone, and {shown(function)} does not: {error}"
        ) from error
    except ValueError:  # a function in C that does not say what it takes
        return


def _made_for(model: Any) -> dict[str, Any]:
    """What a model of stable-baselines3 knows of the environment that it was made for."""
    found: dict[str, Any] = {}
    env = model.get_env() if callable(getattr(model, "get_env", None)) else None
    if env is None:
        return found
    normalization = model.get_vec_normalize_env()
    if normalization is not None and normalization.norm_obs:
        found["prepare"] = normalization.normalize_obs
    specs = [getattr(env, "spec", None)] if getattr(env, "spec", None) else env.get_attr("spec")
    arguments = dict(getattr(specs[0], "kwargs", None) or {})
    found["environment"] = {key: arguments[key] for key in ARGUMENTS if key in arguments}
    return found


@dataclass(frozen=True)
class _Function:
    """A function of observations as a player without memory."""

    function: Callable[[np.ndarray], Any]

    def predict(self, observation: np.ndarray, state: Any = None, **_: Any) -> tuple[Any, Any]:
        single = np.ndim(observation) == 1
        actions = np.asarray(self.function(observation[None] if single else observation))
        return (actions[0] if single else actions), state


class _Scores:
    """A `torch.nn.Module` as a player: the action of the highest score, or its output where that is the action."""

    def __init__(self, module: nn.Module, is_action: bool) -> None:
        self.module, self.is_action = copy.deepcopy(module).eval(), is_action

    def predict(self, observation: np.ndarray, state: Any = None, **_: Any) -> tuple[Any, Any]:
        single = np.ndim(observation) == 1
        inputs = torch.from_numpy(np.asarray(observation, dtype=np.float32))
        batch = inputs[None] if single else inputs
        try:
            outputs = self.module(batch).detach().cpu()
        except RuntimeError as error:
            raise ValueError(
                f"the module {type(self.module).__name__} cannot play observations of shape {tuple(batch.shape)}: {error}"
            ) from error
        actions = (outputs if self.is_action else outputs.argmax(dim=1)).numpy()
        return (actions[0] if single else actions), state
