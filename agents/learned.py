"""`LearnedSchedule`: a trained policy as an agent like all others.

It reads features by name, runs a small network and acts in the schedule mode, so that it needs neither the training library
nor the environment that trained it. The network is evaluated column by column in float64: a run's decisions do not depend
on how many runs are decided together. `teleport_env.agents.learning` trains one (``scripts/train.py``),
`teleport_env.agents.policy_file` writes and reads it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from teleport_env.agents.base import Agent, State
from teleport_env.agents.policy_file import PolicyFile, PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.schedules import episode_keys
from teleport_env.envs.features import INDEX
from teleport_env.optimizers import optimizer_from
from teleport_env.random import Streams, fold_in
from teleport_env.searches import search_from

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
KINDS = ("learned", "control")
ENVIRONMENT = ("searches", "rate_factors", "steps_per_action", "learning_rate", "optimizer", "on_teleport", "symmetry")
"""What a policy may ask of its environment. Problem, split, budget and device are the player's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSchedule(Agent):
    """A policy network over named features.

    The environment must show these features; where they stand, and what else it shows, does not matter.

    Attributes:
        problems: Names of those it was trained on, which a comparison lets it play; empty: any.
        features: Names of the inputs, in the network's order.
        layers: ``(weight (out, in), bias (out,))``, float32, from the first layer to the logits of the actions.
        activation: Between the layers: ``"tanh"`` or ``"relu"``.
        prices: Of each search of the menu, in units of the cheapest. With it, no teleport is chosen that the rest of the
            budget cannot pay, which would end the episode; None: whatever the network prefers.
        stochastic: Draw actions from the network's distribution even where `predict` is asked for deterministic play.
        seed: Of those draws. A run's key is a hash of it and of its episode's first features, so a run draws the same
            whether alone or in any row of a batch.
        provenance: How it was trained: settings, seeds, versions, and the best fixed schedule it began from.
    """

    name: str = "learned"
    kind: str = "learned"
    problems: tuple[str, ...] = ()
    features: tuple[str, ...]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = field(repr=False)
    activation: str = "tanh"
    prices: tuple[float, ...] | None = None
    stochastic: bool = False
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("problems", "features"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in KINDS:
            raise ValueError(f"kind of a learned schedule must be one of {', '.join(KINDS)}, got {self.kind!r}")
        missing = [name for name in self.features if name not in INDEX]
        if missing:
            raise ValueError(
                f"the policy {self.name!r} was trained on features that this release does not compute: "
                f"{', '.join(missing)}; there are {', '.join(INDEX)}. Train it anew"
            )
        if not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"features must be different names of features, got {self.features}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        self._check_layers()
        if self.prices is not None:
            object.__setattr__(self, "prices", tuple(float(price) for price in self.prices))
            if len(self.prices) != self._teleports or not all(0 <= price < math.inf for price in self.prices):
                raise ValueError(f"prices must be {self._teleports} numbers, one a search, got {self.prices}")

    def _check_layers(self) -> None:
        width = len(self.features)
        for number, (weight, bias) in enumerate(self.layers):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise ValueError(
                    f"layer {number} must map {width} numbers, got a weight of shape {weight.shape} and a bias of shape "
                    f"{bias.shape}"
                )
            width = len(weight)
        if width != self.steps + self._teleports or not self.layers:
            raise ValueError(
                f"the network has {width} outputs, but rate_factors and searches make {self.steps} + {self._teleports} "
                "actions"
            )

    @property
    def _teleports(self) -> int:
        return len(self.environment.get("searches", ()))

    # -- playing -------------------------------------------------------------------------------------------------------

    def predict(
        self,
        observation: np.ndarray,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, State]:
        """As `Agent.predict`; ``deterministic=False`` draws actions from the network's distribution."""
        if not deterministic and not self.stochastic:
            return dataclasses.replace(self, stochastic=True).predict(observation, state, episode_start)
        return super().predict(observation, state, episode_start)

    def initial_state(self, count: int) -> State:
        """The memory: the ``key`` of a run's draws, whether it is ``keyed``, and how many it has ``drawn``."""
        return {
            "key": np.zeros(count, dtype=np.int64),
            "keyed": np.zeros(count, dtype=bool),
            "drawn": np.zeros(count, dtype=np.int64),
        }

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if observation.shape[1] < len(INDEX):
            raise ValueError(
                f"the policy {self.name!r} reads features, but the observation has {observation.shape[1]} numbers and the "
                f'features are {len(INDEX)}; make the environment with observation="features" or "both"'
            )
        logits = self.logits(observation)
        if self.stochastic:
            # the largest of logits and Gumbel noise is a draw from their softmax
            logits = logits - np.log(-np.log(self._uniform(observation, memory, logits.shape[1])))
        return logits.argmax(axis=1)

    def logits(self, observation: np.ndarray) -> np.ndarray:
        """Logits ``(B, actions)`` float64 for observations ``(B, F)``; -inf for teleports that cannot be paid."""
        chosen = observation[:, [INDEX[name] for name in self.features]]
        outputs = torch.from_numpy(chosen.astype(np.float64))
        for number, (weight, bias) in enumerate(self.layers):
            inputs = outputs if number == 0 else ACTIVATIONS[self.activation](outputs)
            # not a matrix product: its rounding depends on the number of rows
            outputs = torch.from_numpy(bias.astype(np.float64)).expand(len(inputs), -1)
            for value, column in zip(
                inputs.unbind(1), torch.from_numpy(weight.astype(np.float64)).unbind(1), strict=True
            ):
                outputs = torch.addcmul(outputs, value[:, None], column)
        logits = outputs.numpy().copy()
        if self.prices:
            shares = observation[:, INDEX["price"], None] * np.asarray(self.prices)
            logits[:, self.steps :][shares >= 1.0] = -np.inf  # the feature says 1 for all that is too much
        return logits

    def probabilities(self, observation: np.ndarray) -> np.ndarray:
        """Probabilities ``(B, actions)`` of stochastic play."""
        logits = self.logits(observation)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _uniform(self, observation: np.ndarray, memory: State, size: int) -> np.ndarray:
        if not memory["keyed"].all():
            memory["key"] = np.where(memory["keyed"], memory["key"], episode_keys(observation, self.seed))
            memory["keyed"] = np.ones_like(memory["keyed"])
        keys = fold_in(torch.from_numpy(memory["key"]), torch.from_numpy(memory["drawn"]))
        memory["drawn"] = memory["drawn"] + 1
        return Streams(keys).uniform(size=(size,)).clamp(1e-15, 1.0 - 1e-15).numpy()

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write the policy as one JSON file; see `teleport_env.agents.policy_file`.

        Raises:
            ValueError: The environment names a search or optimizer that is an object of a class of one's own.
        """
        tensors: dict[str, np.ndarray] = {}
        for number, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layer.{number}.weight": weight, f"layer.{number}.bias": bias}
        settings = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("layers", "environment", "provenance")
        }
        settings |= {"environment": dict(self.environment), "provenance": dict(self.provenance)}
        return write_policy_file(path, settings, tensors)

    @classmethod
    def load(cls, path: Path | str) -> LearnedSchedule:
        """Read a policy that `save` has written.

        Raises:
            FileNotFoundError: There is none.
            PolicyFileError: The file is not such a policy; nothing of it was used.
        """
        found = read_policy_file(path)
        try:
            return cls(**_settings(found), layers=_layers(found))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise PolicyFileError(f"{path} is refused: {error}") from error


def _settings(found: PolicyFile) -> dict[str, Any]:
    """The settings of a file, each of the type that the class takes."""
    types: dict[str, Any] = {
        "name": str,
        "kind": str,
        "problems": list,
        "features": list,
        "activation": str,
        "prices": (list, type(None)),
        "stochastic": bool,
        "seed": int,
        "environment": dict,
        "provenance": dict,
    }
    settings = found.settings
    if set(settings) != set(types):
        raise ValueError(f"the settings are {sorted(settings)}, expected {sorted(types)}")
    for name, expected in types.items():
        if not isinstance(settings[name], expected) or (expected is int and isinstance(settings[name], bool)):
            raise ValueError(f"{name} has the wrong type, {type(settings[name]).__name__}")
    if not all(isinstance(name, str) for name in settings["features"] + settings["problems"]):
        raise ValueError("features and problems must be names")
    if settings["prices"] and not all(isinstance(price, (int, float)) for price in settings["prices"]):
        raise ValueError("prices must be numbers")
    check_environment(settings["environment"])
    return settings


def check_environment(environment: Mapping[str, Any]) -> None:
    """Raise ValueError unless a policy may ask for this environment, and all it names is known here."""
    unknown = sorted(set(environment) - set(ENVIRONMENT))
    if unknown:
        raise ValueError(f"a policy cannot set {', '.join(unknown)} of its environment, but {', '.join(ENVIRONMENT)}")
    for name, expected in (("searches", list), ("rate_factors", list), ("on_teleport", str), ("symmetry", str)):
        if name in environment and not isinstance(environment[name], expected):
            raise ValueError(f"{name} has the wrong type, {type(environment[name]).__name__}")
    for search in environment.get("searches", ()):
        search_from(search)
    if "optimizer" in environment:
        optimizer_from(environment["optimizer"])
    for factor in [*environment.get("rate_factors", ()), environment.get("learning_rate", 1.0)]:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
            raise ValueError(f"rates and their factors must be positive numbers, got {factor!r}")
    steps = environment.get("steps_per_action", 1)
    if type(steps) is not int or not 1 <= steps <= 1_000_000:
        raise ValueError(f"steps_per_action must be an integer of at least 1, got {steps!r}")


def _layers(found: PolicyFile) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    count = len(found.tensors) // 2
    names = [(f"layer.{number}.weight", f"layer.{number}.bias") for number in range(count)]
    if {name for pair in names for name in pair} != set(found.tensors):
        raise ValueError(f"the tensors are {sorted(found.tensors)}, expected a weight and a bias a layer")
    return tuple((found.tensors[weight], found.tensors[bias]) for weight, bias in names)
