"""`LearnedSchedule`: a trained policy as an agent like all others.

It reads features by name, runs a small network and acts in the schedule mode, so that it needs neither the training library
nor the environment that trained it. The network is evaluated column by column in float64: a run's decisions do not depend
on how many runs are decided together. `teleport_env.agents.learning` trains one (``scripts/train.py``),
`teleport_env.agents.policy_file` writes and reads it. A policy for several problems chooses among *slots*
(`teleport_env.agents.learning.slots`); `LearnedSchedule.for_problem` makes of it the agent of one problem.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from teleport_env.agents.base import Agent, State
from teleport_env.agents.learning.slots import SLOTS, fill, search_prices
from teleport_env.agents.policy_file import PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policy_settings import ENVIRONMENT, Family, layers_of, settings_of
from teleport_env.agents.schedules import episode_keys
from teleport_env.envs.features import INDEX
from teleport_env.random import Streams, fold_in

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
KINDS = ("learned", "control")
PRETRAINED = Path(__file__).parent / "pretrained" / "generalist.json"
"""The policy that the package brings."""


def price_shares(observation: np.ndarray, prices: Sequence[float]) -> np.ndarray:
    """Price of each search over the budget left, at most 1, ``(B, searches)`` float32, from observations ``(B, F)``.

    The feature says what the cheapest teleport costs; the others are multiples of it. 1 means that it cannot be paid, or
    that nothing would be left.

    Args:
        observation: Whose first columns are the features.
        prices: Of the searches, in units of the cheapest.
    """
    cheapest = observation[:, INDEX["price"], None].astype(np.float64)
    return np.minimum(cheapest * np.asarray(prices, dtype=np.float64), 1.0).astype(np.float32)


def relative(prices: Sequence[float]) -> tuple[float, ...]:
    """Prices in units of the cheapest.

    Raises:
        ValueError: One is 0, beside which the others have no finite price.
    """
    if prices and min(prices) <= 0:
        raise ValueError(
            "a search that costs nothing leaves nothing to measure the others' prices by: take it out of the menu, or "
            "train without masks"
        )
    return tuple(price / min(prices) for price in prices)


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
            budget cannot pay; None: whatever the network prefers.
        price_inputs: The network reads, after the features, what each search costs of the budget left (`price_shares`).
        families: Of a policy for several problems: how it plays each. It decides nothing itself, and its ``environment``
            says what all of them share; see `for_problem`.
        slots: Of such a policy: the names of its teleports.
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
    price_inputs: bool = False
    families: Mapping[str, Family] = field(default_factory=dict, repr=False)
    slots: tuple[str, ...] = ()
    stochastic: bool = False
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("problems", "features", "slots"):
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
        self._check_families()
        if self.price_inputs and self.prices is None and not self.families:
            raise ValueError("a network that reads prices must be told them: prices is None")
        if self.prices is not None:
            object.__setattr__(self, "prices", tuple(float(price) for price in self.prices))
            if len(self.prices) != self._teleports or not all(0 <= price < math.inf for price in self.prices):
                raise ValueError(f"prices must be {self._teleports} numbers, one a search, got {self.prices}")

    def _check_layers(self) -> None:
        width = len(self.features) + self.price_inputs * self._teleports
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

    def _check_families(self) -> None:
        if bool(self.families) != bool(self.slots):
            raise ValueError("a policy for several problems has families and slots, any other has neither")
        unknown = [name for name in self.slots if name not in SLOTS]
        if unknown or len(set(self.slots)) != len(self.slots):
            raise ValueError(f"slots must be different names among {', '.join(SLOTS)}, got {self.slots}")
        if self.families and (set(self.families) != set(self.problems) or "searches" in self.environment):
            raise ValueError(
                "a policy for several problems has a family for each, and a menu in each family's environment alone"
            )
        for problem, family in self.families.items():
            count = len(family.environment.get("searches", ()))
            sane = all(type(slot) is int and 0 <= slot < len(self.slots) for slot in family.slots)
            if not sane or not len(family.slots) == len(set(family.slots)) == len(family.prices) == count:
                raise ValueError(
                    f"the family {problem!r} must have a slot and a price for each of its {count} searches"
                )
            if list(family.environment.get("rate_factors", (1.0,))) != list(
                self.environment.get("rate_factors", (1.0,))
            ):
                raise ValueError(f"the family {problem!r} has other rate_factors than the policy")

    @property
    def _teleports(self) -> int:
        return len(self.slots) or len(self.environment.get("searches", ()))

    # -- several problems ----------------------------------------------------------------------------------------------

    def for_problem(self, problem: str, **environment: Any) -> LearnedSchedule:
        """The agent of one problem: its ``environment`` fits, and its name is this policy's.

        A policy for several problems plays others as well, with the searches that fill its slots there; it is said to work
        best from the learning rate that suits plain descent.

        Args:
            problem: Registered name.
            environment: Other keyword arguments of the environment than this policy's own for that problem.

        Raises:
            ValueError: This policy was trained on other problems, and on one menu, which means nothing elsewhere; or the
                environment cannot be made.
        """
        if not self.families:
            if self.problems and problem not in self.problems:
                raise ValueError(
                    f"the policy {self.name!r} was trained on {', '.join(self.problems)}, not on {problem!r}"
                )
            return dataclasses.replace(self, environment={**self.environment, **environment}) if environment else self
        family = self.families.get(problem)
        if family is None or environment:
            family = self._new_family(problem, environment, family)
        count = len(self.features)
        absent = [slot for slot in range(len(self.slots)) if slot not in family.slots]
        outputs = [*range(self.steps), *(self.steps + slot for slot in family.slots)]
        layers = list(self.layers)
        if self.price_inputs:
            # an empty slot costs more than there is: its share is 1 throughout
            weight, bias = layers[0]
            kept = [*range(count), *(count + slot for slot in family.slots)]
            gone = weight[:, [count + slot for slot in absent]].sum(axis=1, dtype=np.float64)
            layers[0] = weight[:, kept], (bias + gone).astype(np.float32)
        weight, bias = layers[-1]
        layers[-1] = weight[outputs], bias[outputs]
        provenance = dict(self.provenance)
        for kind in ("plan", "rule"):
            found = provenance.pop(f"{kind}s", {}).get(problem)
            if found is not None:
                provenance[kind] = found
        return dataclasses.replace(
            self,
            problems=(problem,),
            environment=dict(family.environment),
            prices=tuple(family.prices),
            layers=tuple(layers),
            families={},
            slots=(),
            provenance=provenance,
        )

    def _new_family(self, problem: str, environment: Mapping[str, Any], known: Family | None) -> Family:
        """How to play a problem that the policy was not trained on, or in another environment."""
        start = self.environment if known is None else known.environment
        asked = {name: value for name, value in {**start, **environment}.items() if name != "searches"}
        if list(asked.get("rate_factors", (1.0,))) != list(self.environment.get("rate_factors", (1.0,))):
            raise ValueError(f"the policy {self.name!r} chooses among its own rate_factors")
        menu = fill(problem, self.slots, **asked)
        filled = [(slot, search) for slot, search in enumerate(menu) if search is not None]
        searches = [search for _, search in filled]
        prices = relative(search_prices(problem, searches, **asked))
        kept = {name: value for name, value in asked.items() if name in ENVIRONMENT}
        return Family({**kept, "searches": searches}, tuple(slot for slot, _ in filled), prices)

    @classmethod
    def pretrained(cls) -> LearnedSchedule:
        """The policy for many problems that the package brings; ask it `for_problem`.

        The command that trained it, its seed and the versions are in its ``provenance``; ``docs/learning.md`` says what it
        is worth.
        """
        return cls.load(PRETRAINED)

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
        if self.families:
            raise ValueError(
                f"the policy {self.name!r} is for several problems: play agent.for_problem(name), for example "
                f"for_problem({self.problems[0]!r})"
            )
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
        shares = price_shares(observation, self.prices) if self.prices else None
        if self.price_inputs and shares is not None:
            chosen = np.concatenate([chosen, shares], axis=1)
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
        if shares is not None:
            logits[:, self.steps :][shares >= 1.0] = -np.inf
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
            if f.name not in ("layers", "environment", "provenance", "families")
        }
        settings |= {"environment": dict(self.environment), "provenance": dict(self.provenance)}
        settings["families"] = {problem: dataclasses.asdict(family) for problem, family in self.families.items()}
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
            return cls(**settings_of(found), layers=layers_of(found))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise PolicyFileError(f"{path} is refused: {error}") from error
