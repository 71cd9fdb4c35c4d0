"""What all policies share that a network plays: their inputs by name, the network, and draws that belong to a run.

The network is evaluated row by row in float64, and a run's random numbers follow from its own first features: a run's
decisions do not depend on how many runs are decided together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from teleport_env.agents.base import Agent, State
from teleport_env.agents.policies.file import PolicyFile, PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policies.settings import ENVIRONMENT, check_name, settings_of
from teleport_env.agents.schedules import episode_keys
from teleport_env.envs.features import INDEX
from teleport_env.envs.settings import check_arguments
from teleport_env.random import Streams, fold_in
from teleport_env.reading import choose

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
"""``(weight (out, in), bias (out,))``, float32, from the first layer to the last."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
KINDS = ("learned", "control")


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkAgent(Agent):
    """An agent whose decisions a small network makes.

    The environment must show the features it reads; where they stand, and what else it shows, does not matter.

    Attributes:
        problems: Names of those it was trained on, which a comparison lets it play; empty: any.
        features: Names of the inputs, in the network's order.
        layers: Layers of the network.
        activation: Activation between the layers: ``"tanh"`` or ``"relu"``.
        stochastic: Draw actions from the policy's distribution even where `predict` is asked for deterministic play.
        seed: Seed of those draws. A run's key is a hash of it and of its episode's first features, so a run draws the
            same whether alone or in any row of a batch.
        provenance: Record of the training: settings, seeds, versions, and the best fixed schedule it began from.
    """

    name: str = "learned"
    kind: str = "learned"
    problems: tuple[str, ...] = ()
    features: tuple[str, ...]
    layers: Layers = field(repr=False)
    activation: str = "tanh"
    stochastic: bool = False
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    in_tensors: ClassVar[tuple[str, ...]] = ("layers",)
    """Attributes that a file holds as tensors; the others are its settings."""
    may_ask: ClassVar[tuple[str, ...]] = ENVIRONMENT
    """What a file may ask of the environment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("problems", "features"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (self.name, *self.problems):
            check_name(name)
        missing = [name for name in self.features if name not in INDEX]
        if missing:
            raise ValueError(
                f"the policy {self.name!r} was trained on features that this release does not compute: "
                f"{', '.join(missing)}; there are {', '.join(INDEX)}. Train it anew"
            )
        if not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"features must be different names of features, got {self.features}")
        for name, allowed in (("kind", KINDS), ("activation", ACTIVATIONS)):
            choose("a learned schedule", self, name, allowed)

    def check_layers(self, inputs: int) -> int:
        """How many outputs the network has; raises ValueError where it does not map so many inputs."""
        width = inputs
        for number, (weight, bias) in enumerate(self.layers):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise ValueError(
                    f"layer {number} must map {width} numbers, got a weight of shape {weight.shape} and a bias of shape "
                    f"{bias.shape}"
                )
            width = len(weight)
        return width

    def for_problem(self, problem: str, **environment: Any) -> Self:
        """The agent of one problem, with other keyword arguments of the environment where they are given.

        Raises:
            ValueError: This policy was trained on other problems: its actions mean nothing elsewhere.
        """
        check_arguments(f"environment of the policy {self.name!r}", environment)
        if self.problems and problem not in self.problems:
            raise ValueError(f"the policy {self.name!r} was trained on {', '.join(self.problems)}, not on {problem!r}")
        return dataclasses.replace(self, environment={**self.environment, **environment}) if environment else self

    # -- playing -------------------------------------------------------------------------------------------------------

    def predict(
        self,
        observation: np.ndarray,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, State]:
        """As `Agent.predict`; ``deterministic=False`` draws actions from the policy's distribution."""
        if not deterministic and not self.stochastic:
            return dataclasses.replace(self, stochastic=True).predict(observation, state, episode_start)
        return super().predict(observation, state, episode_start)

    def initial_state(self, count: int) -> State:
        """The memory: the ``key`` of a run's draws, whether it is ``keyed``, and how many it has ``drawn``."""
        key, drawn = np.zeros((2, count), dtype=np.int64)
        return {"key": key, "keyed": np.zeros(count, dtype=bool), "drawn": drawn}

    def named(self, observation: np.ndarray) -> np.ndarray:
        """The named features ``(B, len(features))`` of observations ``(B, F)``.

        Raises:
            ValueError: The observation is too short to hold features.
        """
        if observation.shape[1] < len(INDEX):
            raise ValueError(
                f"the policy {self.name!r} reads features, but the observation has {observation.shape[1]} numbers and the "
                f'features are {len(INDEX)}; make the environment with observation="features" or "both"'
            )
        return observation[:, [INDEX[name] for name in self.features]]

    @cached_property
    def _matrices(self) -> Layers:
        """The layers in float64, weights ``(in, out)``."""
        return tuple(
            (np.ascontiguousarray(weight.T, np.float64), bias.astype(np.float64)) for weight, bias in self.layers
        )

    def evaluate(self, inputs: np.ndarray) -> np.ndarray:
        """The network's outputs ``(B, out)`` float64 for inputs ``(B, in)``."""
        outputs = inputs.astype(np.float64)
        for number, (weight, bias) in enumerate(self._matrices):
            values = outputs if number == 0 else ACTIVATIONS[self.activation](torch.from_numpy(outputs)).numpy()
            # a product per row: the rounding of one product for all depends on the number of rows
            outputs = np.matmul(values[:, None, :], weight)[:, 0] + bias
        return outputs

    def streams(self, observation: np.ndarray, memory: State) -> Streams:
        """The next random numbers of each run; ``memory`` is moved on."""
        if not memory["keyed"].all():
            memory["key"] = np.where(memory["keyed"], memory["key"], episode_keys(observation, self.seed))
            memory["keyed"] = np.ones_like(memory["keyed"])
        keys = fold_in(torch.from_numpy(memory["key"]), torch.from_numpy(memory["drawn"]))
        memory["drawn"] = memory["drawn"] + 1
        return Streams(keys)

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write the policy as one JSON file; see `teleport_env.agents.policies.file`.

        Raises:
            ValueError: The environment names a search or optimizer that is an object of a class of one's own.
        """
        return write_policy_file(path, self.settings(), self.tensors())

    def settings(self) -> dict[str, Any]:
        """The settings of the file."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in self.in_tensors]
        mappings = {"environment": dict(self.environment), "provenance": dict(self.provenance)}
        return {name: getattr(self, name) for name in names} | mappings

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of the file."""
        found: dict[str, np.ndarray] = {}
        for number, (weight, bias) in enumerate(self.layers):
            found |= {f"layer.{number}.weight": weight, f"layer.{number}.bias": bias}
        return found

    @classmethod
    def parts(cls, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The attributes that `tensors` has written; raises ValueError where the tensors are others."""
        names = [(f"layer.{number}.weight", f"layer.{number}.bias") for number in range(len(tensors) // 2)]
        if {name for pair in names for name in pair} != set(tensors):
            raise ValueError(f"the tensors are {sorted(tensors)}, expected a weight and a bias per layer")
        return {"layers": tuple((tensors[weight], tensors[bias]) for weight, bias in names)}

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a policy that `save` has written.

        Raises:
            FileNotFoundError: There is none.
            PolicyFileError: The file is not such a policy; nothing of it was used.
        """
        return cls.of_file(read_policy_file(path), path)

    @classmethod
    def of_file(cls, found: PolicyFile, where: Path | str) -> Self:
        """The policy that a file's content is; raises PolicyFileError, which names the file, where it is none."""
        try:
            return cls(**settings_of(cls, found.settings, cls.in_tensors, cls.may_ask), **cls.parts(found.tensors))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise PolicyFileError(f"{where} is refused: {error}") from error
