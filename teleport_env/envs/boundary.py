"""What both faces check before the episodes see it: options, seeds and snapshots. What is refused has not happened."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from torch import Tensor

from teleport_env.envs.episodes import Episodes, EpisodesSnapshot
from teleport_env.envs.settings import Settings
from teleport_env.envs.specs import plain_spec
from teleport_env.groups.base import Element, map_element
from teleport_env.random import Streams
from teleport_env.reading import integer, known, parameters, refuse, shown, tensor
from teleport_env.searches import Status


@contextmanager
def own_modes() -> Iterator[None]:
    """Without the caller's inference mode, whose tensors could not be written to later, and without autocast."""
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@dataclass(frozen=True)
class EnvSnapshot:
    """The whole state of an environment; made by ``snapshot()``, handed to ``restore()``.

    Attributes:
        made_for: Properties that an environment must share with the one that made the snapshot.
        episodes: The episodes and their runs.
        keys: ``(B,)`` int64: the key of each row's random numbers.
        numbers: ``(B,)`` int64: the number of each row's episode since its key was drawn.
        generator: The environment's ``np_random``.
        seed: Its ``np_random_seed``.
    """

    made_for: Mapping[str, Any]
    episodes: EpisodesSnapshot
    keys: Tensor
    numbers: Tensor
    generator: np.random.Generator
    seed: int


class Boundary:
    """The part of an environment that refuses, and that both faces share.

    Attributes:
        settings: The arguments of the environment, checked.
        episodes: The episodes in progress.
    """

    settings: Settings
    episodes: Episodes
    _keys: Tensor
    _numbers: Tensor  # of each row's episode since its key was drawn
    _started: bool
    _many: ClassVar[bool]  # whether options may have an entry per row
    _np_random: np.random.Generator | None
    _np_random_seed: int | None
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What `gym.make` was asked for, in a form that survives JSON where there is one; see `plain_spec`."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec and plain_spec(spec)

    def snapshot(self) -> EnvSnapshot:
        """The whole state, so that "what if I teleported now?" is two lines: ``s = env.unwrapped.snapshot()``, ...,
        ``env.unwrapped.restore(s)``.

        Raises:
            gymnasium.error.ResetNeeded: There has been no reset.
        """
        self._need_reset("snapshot()")
        s = self.settings
        made_for = {
            "problem": s.problem.name,
            # by the names of the constructor's arguments: other attributes may be caches and counters
            "problem's settings": {key: shown(getattr(s.problem, key, None)) for key in parameters(type(s.problem))[0]},
            "split": s.split,
            "optimizer": s.optimizer,
            "symmetry": s.symmetry,
            "dtype": s.dtype,
            "device": s.device,
        }
        return EnvSnapshot(
            made_for,
            self.episodes.snapshot(),
            self._keys.clone(),
            self._numbers.clone(),
            copy.deepcopy(self.np_random),  # type: ignore[attr-defined]  # of Gymnasium's classes
            self.np_random_seed,  # type: ignore[attr-defined]
        )

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of each action, see `Settings.action_names`."""
        return self.settings.action_names

    @property
    def status_names(self) -> tuple[str, ...]:
        """Name of each number in ``info["teleport_status"]``; `describe_status` gives the reason in words."""
        return tuple(status.name for status in Status)

    @property
    def data_element(self) -> Element | None:
        """For a symmetry that moves data, a copy of what new inputs must go through at inference (Algorithm 3): the moves of
        all teleports so far, composed, ``(B, ...)``. None for other symmetries."""
        self._need_reset("data_element")
        element = self.episodes.runs.data_element
        return None if element is None else map_element(torch.clone, element)

    def _need_reset(self, call: str) -> None:
        if not self._started:
            raise gym.error.ResetNeeded(f"call reset() before {call}")

    def _load(self, snapshot: EnvSnapshot) -> None:
        """Go back to a snapshot that fits."""
        self.episodes.restore(snapshot.episodes)
        self._keys, self._numbers = snapshot.keys.clone(), snapshot.numbers.clone()
        self._np_random, self._np_random_seed = copy.deepcopy(snapshot.generator), snapshot.seed

    def _check_snapshot(self, snapshot: Any) -> None:
        """Refuse what `_load` cannot use.

        Raises:
            gymnasium.error.ResetNeeded: There has been no reset.
            TypeError: It is no snapshot.
            ValueError: It was made by an environment of another kind.
        """
        self._need_reset("restore()")
        if not isinstance(snapshot, EnvSnapshot):
            raise TypeError(f"restore() takes what snapshot() returned, got {shown(snapshot)}")
        own = self.snapshot()
        mine = dict(own.made_for) | _layout(own.episodes, "episodes") | _layout(own.keys, "keys")
        theirs = dict(snapshot.made_for) | _layout(snapshot.episodes, "episodes") | _layout(snapshot.keys, "keys")
        for name in dict.fromkeys([*mine, *theirs]):
            if mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"the snapshot is of an environment of another kind: its {name} is {shown(theirs.get(name))}, here "
                    f"it is {shown(mine.get(name))}. Restore it where it was made, or in an environment made with the "
                    "same arguments"
                )

    @contextmanager
    def _undone_if_refused(self, draws: bool) -> Iterator[None]:
        """Whatever raises inside leaves the environment as it was.

        An interrupt amid the writes may not: the environment then needs a reset of every row.

        Args:
            draws: Whether ``np_random`` may be drawn from.
        """
        # the runs change when nothing can fail any more (`SteppingRuns.reset`), but for a reward that measures them then
        saved = self.episodes.snapshot() if self._started and self.episodes.measures_first else None
        generator = copy.deepcopy(self._np_random) if draws else self._np_random
        state = self._keys.clone(), self._numbers.clone(), generator, self._np_random_seed
        changes = self.episodes.runs.changes
        try:
            yield
        except BaseException:
            if saved is not None:
                self.episodes.restore(saved)
            elif self.episodes.runs.changes != changes:
                self._started = False
            self._keys, self._numbers, self._np_random, self._np_random_seed = state
            raise

    def _beginnings(self, options: dict[str, Any], keys: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """What `Episodes.reset` takes for the rows that begin, from the options; instances are else drawn.

        Args:
            options: Some of `OPTIONS`, each one or one per row of the environment.
            keys: ``(R,)``: the keys of the new episodes.
            rows: ``(R,)`` int64: which rows begin.
        """
        count = self.episodes.count
        found = {"ids": self.episodes.draw_ids(keys)}
        if "instance_id" in options:
            value = options["instance_id"]
            if self._many and _is_list(value):
                wanted = tensor("instance_id", value, integers=True).cpu()
                if wanted.shape != (count,) or bool((wanted < 0).any()):
                    refuse("instance_id", f"one integer of at least 0 or {count} of them", value)
            else:
                wanted = torch.tensor(integer("instance_id", value, least=0, most=(1 << 63) - 1), device="cpu")
            found["ids"] = wanted.expand(count)[rows].clone()
        if "params" in options:
            given = tensor("params", options["params"]).cpu()
            self._check_shape("params", given, "P")
            if not bool(torch.isfinite(given).all()):
                refuse("params", "finite numbers", options["params"])
            found["params"] = given.expand(count, given.shape[-1])[rows]
        if "learning_rate" in options:
            value = options["learning_rate"]
            rate = tensor("learning_rate", value).cpu().to(torch.float64)
            many = self._many and rate.shape == (count,)
            if not (many or rate.ndim == 0) or not bool((torch.isfinite(rate) & (rate > 0)).all()):
                refuse("learning_rate", f"a positive number{f' or {count} of them' * self._many}", value)
            found["learning_rate"] = rate.expand(count)[rows]
        if "searches" in options:
            offered = tensor("searches", options["searches"], integers=True, flags=True).cpu()
            menu = len(self.settings.searches)
            self._check_shape("searches", offered, str(menu))
            if offered.shape[-1] != menu or bool(((offered != 0) & (offered != 1)).any()):
                refuse("searches", f"a bool for each of the {menu} searches of the menu", options["searches"])
            found["offered"] = (offered == 1).expand(count, menu)[rows].to(self.settings.device)
        return found

    def _check_shape(self, name: str, given: Tensor, length: str) -> None:
        """Raise ValueError unless ``given`` is one list, or one per row of the environment."""
        count = self.episodes.count
        if given.ndim != 1 and not (self._many and given.ndim == 2 and len(given) == count):
            allowed = f"({length},) or ({count}, {length})" if self._many else f"({length},)"
            raise ValueError(f"{name} must have shape {allowed}, got {tuple(given.shape)}")


OPTIONS = ("instance_id", "params", "learning_rate", "searches")
"""Options of a reset, of both faces."""


def read_options(options: Any, *allowed: str) -> dict[str, Any]:
    """The options of a reset.

    Raises:
        ValueError: They are no dict, or one is unknown.
    """
    if not isinstance(options, Mapping | None):
        refuse("options", "a dict or None", options)
    return {known("a reset option", name, allowed): value for name, value in (options or {}).items()}


def read_seed(seed: Any) -> int | None:
    """A seed; raises ValueError unless it is None or an integer of at least 0."""
    return None if seed is None else integer("seed", seed, least=0)


def read_seeds(seed: Any, rows: int) -> int | list[int | None] | None:
    """A seed, or one per row, of which each may be None.

    Raises:
        ValueError: It is neither, or there are not as many as rows.
    """
    if not _is_list(seed):
        return read_seed(seed)
    if len(seed) != rows:
        refuse("seed", f"one integer or a list of {rows}, one per row", seed)
    return [None if one is None else integer(f"seed of row {row}", one, least=0) for row, one in enumerate(seed)]


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def first_keys(generators: list[np.random.Generator]) -> Tensor:
    """The keys ``(B,)`` of the episodes to come, one drawn from each generator."""
    return torch.tensor([int(g.integers((1 << 63) - 1)) for g in generators], dtype=torch.int64, device="cpu")


def first_episode(seed: int) -> Tensor:
    """The key ``(1,)`` of the first episode of a single environment after ``reset(seed=seed)``."""
    return Streams(first_keys([seeding.np_random(seed)[0]])).fork(torch.zeros(1, dtype=torch.int64)).keys


def _layout(value: Any, path: str) -> dict[str, str]:
    """Precision and shape of every tensor in a snapshot by its path, and the types of what else is in it."""
    if isinstance(value, Tensor | np.ndarray):
        return {path: f"{value.dtype} {tuple(value.shape)}"}
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple | list):
        value = dict(enumerate(value))
    elif not isinstance(value, Mapping):
        return {path: type(value).__name__}
    return {key: text for name, item in value.items() for key, text in _layout(item, f"{path}.{name}").items()}
