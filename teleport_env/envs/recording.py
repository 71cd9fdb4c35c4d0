"""Trajectories as files: every moment of every episode as a row of a Parquet file, and data sets of Minari from these.

A row is the state after an action, or at moment 0 the start: ``episode`` (a number), ``moment``, ``action`` and ``reward``
(none at the start), ``terminated``, ``truncated``, ``observation``, and the numbers of the info (`NUMBERS`). Episodes of
runs side by side lie among each other; ``pandas.read_parquet(path).sort_values(["episode", "moment"])`` puts them in order.
The file's metadata hold the spec of a single environment as JSON, under ``spec``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from torch import Tensor

from teleport_env.files import check_file, draft

__all__ = ["RecordTrajectories", "RecordVectorTrajectories", "episodes_of", "to_minari"]

NUMBERS = (
    *("loss", "grad_norm", "learning_rate", "step", "teleports", "cost", "loss_change", "teleport_status"),
    *("converged", "diverged", "instance_id"),
)
"""Numbers of an info that are recorded, under their names."""

_ROWS = 1 << 16  # kept in memory before they are written
_OF_VECTORS = ("num_envs", "vectorization_mode", "autoreset_mode", "output")


class _Writer:
    """A Parquet file that grows.

    Args:
        path: The file.
        spec: Specification of the environment, or None.
        observations: Space of one observation.
        actions: Space of one action.
        labels: Constant columns.
    """

    def __init__(
        self,
        path: Path | str,
        spec: EnvSpec | None,
        observations: spaces.Space[Any],
        actions: spaces.Space[Any],
        labels: Mapping[str, Any],
    ) -> None:
        self._arrow = require_pyarrow()
        check_file(path)
        if not isinstance(observations, spaces.Box) or not isinstance(actions, spaces.Discrete | spaces.Box):
            raise ValueError(
                f"recorded are observations of a Box and actions of the modes 'schedule' and 'group', got {observations} "
                f"and {actions}; record below the wrapper that makes dicts"
            )
        self._path, self._labels = path, dict(labels)
        self._about = {} if spec is None else {"spec": replace(spec, kwargs=_of_one(spec.kwargs)).to_json()}
        self._stack = ExitStack()
        self._file: Any = None
        self._parts: list[dict[str, np.ndarray]] = []
        self._count = 0

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Rows, ``(R, ...)`` of each column."""
        self._parts.append(columns)
        self._count += len(columns["episode"])
        if self._count >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._parts:
            return
        pa = self._arrow
        joined = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        starts = joined["moment"] == 0
        found: dict[str, Any] = {name: pa.array([value] * len(starts)) for name, value in self._labels.items()}
        for name, values in joined.items():
            mask = starts if name in ("action", "reward") else None
            found[name] = pa.array(list(values), mask=mask) if values.ndim > 1 else pa.array(values, mask=mask)
        table = pa.table(found).replace_schema_metadata(self._about)
        if self._file is None:
            self._file = self._stack.enter_context(
                pa.parquet.ParquetWriter(self._stack.enter_context(draft(self._path)), table.schema, compression="zstd")
            )
        self._file.write_table(table)
        self._parts, self._count = [], 0

    def close(self) -> None:
        """Put the file in its place; harmless when done again."""
        self._flush()
        self._stack.close()


class RecordTrajectories(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """Record every moment of a `TeleportEnv`.

    Args:
        env: The environment, with array observations and actions.
        path: The Parquet file, which is there once the wrapper is closed.
        labels: Constant columns, such as ``{"agent": "every"}``.

    Raises:
        ImportError: pyarrow is missing; the message names the extra.
        ValueError: Observations or actions are dicts.
    """

    def __init__(
        self, env: gym.Env[np.ndarray, Any], path: Path | str, labels: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(env)
        self._writer = _Writer(path, env.spec, env.observation_space, env.action_space, labels or {})
        self._episode, self._moment = -1, 0

    def reset(self, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """As the environment's."""
        observation, info = self.env.reset(**arguments)
        self._episode, self._moment = self._episode + 1, 0
        blank = np.zeros_like(self.action_space.sample())
        self._add(blank, observation, 0.0, False, False, info)
        return observation, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        turn = self.env.step(action)
        self._moment += 1
        self._add(action, *turn)
        return turn

    def _add(self, action: Any, *turn: Any) -> None:
        columns = [[np.asarray(_array(value))] for value in (self._episode, self._moment, action, *turn[:4])]
        self._writer.add(_columns(np.stack, columns, {name: [turn[4][name]] for name in NUMBERS}))

    def close(self) -> None:
        """Put the file in its place, and close the environment."""
        self._writer.close()
        super().close()


class RecordVectorTrajectories(VectorWrapper):
    """Record every moment of every run of a `TeleportVectorEnv`, under every autoreset mode and output.

    An episode is numbered when it begins. A run that waits for its reset is not recorded.

    Args:
        env: The vector environment.
        path: The file, as in `RecordTrajectories`.
        labels: Constant columns, as in `RecordTrajectories`.

    Raises:
        ImportError: pyarrow is missing; the message names the extra.
        ValueError: Observations or actions are dicts.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], path: Path | str, labels: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(env)
        self.autoreset_mode = env.metadata["autoreset_mode"]
        spaces_of_one = env.single_observation_space, env.single_action_space
        self._writer = _Writer(path, env.spec, *spaces_of_one, labels or {})
        self._episodes = np.zeros(env.num_envs, dtype=np.int64)
        self._moments = np.zeros(env.num_envs, dtype=np.int64)
        self._over = np.ones(env.num_envs, dtype=bool)
        self._next = 0

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        observations, infos = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        self._begin(np.ones(self.num_envs, dtype=bool) if mask is None else _array(mask), observations, infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environment's."""
        turn = self.env.step(actions)
        observations, rewards, terminated, truncated, infos = turn
        waiting, over = self._over.copy(), _array(terminated) | _array(truncated)
        last, numbers = _array(observations), infos
        if "final_obs" in infos:  # only of rows that ended, which have begun anew
            ended, final = np.flatnonzero(_array(infos["_final_obs"])), infos["final_info"]
            last, finals = last.copy(), infos["final_obs"]
            last[ended] = np.stack([_array(finals[row]) for row in ended])
            numbers = {name: np.where(over, _array(final[name]), _array(infos[name])) for name in NUMBERS}
        self._moments += ~waiting
        self._add(~waiting, _array(actions), last, rewards, terminated, truncated, numbers)
        self._over = over.copy()
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            self._begin(waiting, observations, infos)
        elif self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._begin(over, observations, infos)
        return turn

    def _begin(self, rows: np.ndarray, observations: Any, infos: dict[str, Any]) -> None:
        count = int(rows.sum())
        self._episodes[rows] = np.arange(self._next, self._next + count)
        self._next += count
        self._moments[rows], self._over[rows] = 0, False
        nothing = np.zeros(self.num_envs)
        self._add(
            rows, np.zeros_like(self.action_space.sample()), observations, nothing, nothing > 0, nothing > 0, infos
        )

    def _add(self, rows: np.ndarray, actions: Any, *turn: Any) -> None:
        if rows.any():
            columns = [_array(value)[rows] for value in (self._episodes, self._moments, actions, *turn[:4])]
            self._writer.add(_columns(np.array, columns, {name: _array(turn[4][name])[rows] for name in NUMBERS}))

    def close(self, **arguments: Any) -> None:
        """Put the file in its place, and close the environment."""
        self._writer.close()
        super().close(**arguments)


def episodes_of(path: Path | str) -> Iterator[dict[str, np.ndarray]]:
    """The episodes of a recorded file in the order of their numbers, each a dict of columns ``(T + 1, ...)``.

    Actions and rewards are arrays of objects, whose first entry is None.

    Raises:
        ImportError: pyarrow is missing.
        FileNotFoundError: There is no such file.
    """
    table = require_pyarrow().parquet.read_table(path).sort_by([("episode", "ascending"), ("moment", "ascending")])
    numbers = table.column("episode").to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for begin, end in pairwise(bounds):
        part = table.slice(begin, end - begin)
        yield {name: _read(part.column(name)) for name in part.column_names}


def to_minari(path: Path | str, dataset_id: str, **about: Any) -> Any:
    """A data set of Minari from the whole episodes of a recorded file.

    Each episode keeps its instance as a reset option. The environment is recovered by ``dataset.recover_environment()``.

    Args:
        path: A file of `RecordTrajectories` or of a comparison.
        dataset_id: Its name, such as ``"teleport/booth-v0"``.
        about: Further arguments of ``minari.create_dataset_from_buffers``, such as ``author``.

    Returns:
        The ``minari.MinariDataset``.

    Raises:
        ImportError: Minari or pyarrow is missing; the message names the extra.
        ValueError: No episode of the file came to its end, or it says nothing of its environment.
    """
    pa = require_pyarrow()
    try:
        from minari import create_dataset_from_buffers
        from minari.data_collector.episode_buffer import EpisodeBuffer
    except ImportError as error:
        raise ImportError('data sets of Minari need it: pip install "teleport-env[clients]"') from error
    spec = (pa.parquet.read_schema(path).metadata or {}).get(b"spec")
    buffers: list[Any] = []
    for found in episodes_of(path):
        if not (found["terminated"][-1] or found["truncated"][-1]):
            continue
        buffers.append(
            EpisodeBuffer(
                id=len(buffers),
                options={"instance_id": int(found["instance_id"][0])},
                observations=[np.array(row, dtype=np.float32) for row in found["observation"]],
                actions=[np.array(action) for action in found["action"][1:]],
                rewards=found["reward"][1:].astype(np.float64).tolist(),
                terminations=found["terminated"][1:].tolist(),
                truncations=found["truncated"][1:].tolist(),
                infos={name: list(found[name]) for name in NUMBERS},
            )
        )
    if spec is None or not buffers:
        raise ValueError(f"{path} holds no episode that came to its end" if spec else f"{path} names no environment")
    return create_dataset_from_buffers(dataset_id, buffers, env=EnvSpec.from_json(spec), data_format="arrow", **about)


def _columns(join: Any, values: list[Any], numbers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    names = ("episode", "moment", "action", "observation", "reward", "terminated", "truncated")
    return {
        **{name: join(one) for name, one in zip(names, values, strict=True)},
        **{k: np.asarray(v) for k, v in numbers.items()},
    }


def _read(column: Any) -> np.ndarray:
    """A column as an array; one of objects where some entries are missing."""
    values = column.to_pylist()
    if column.null_count == 0:
        return np.array(values)
    found = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        found[row] = np.array(value) if isinstance(value, list) else value
    return found


def _array(value: Any) -> Any:
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _of_one(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a single environment from those of many."""
    return {key: value for key, value in kwargs.items() if key not in _OF_VECTORS}


def require_pyarrow() -> Any:
    """pyarrow; raises ImportError, which names the extra, where it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('recorded trajectories need pyarrow: pip install "teleport-env[record]"') from error
    return pyarrow
