"""The next episodes of many runs, prepared together.

Of thousands of runs some end at almost every step. To draw the instances of a few and to evaluate loss and gradient at
their starts takes a hundred calls, as many as a step of them all; to draw the next episodes of everybody takes hardly more
calls and serves for a hundred steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.ledger import Counts
from teleport_env.progress import FLOATS, INTEGERS, Put, instances_put, runs_put
from teleport_env.random import Streams
from teleport_env.stepping import SteppingRuns

AHEAD = 3
"""Episodes per run that are prepared: a run may diverge at once more than once before the others have ended."""

_OWN = {"loss", "grad_norm2", "log_loss", "log_grad_norm2", "grad_norm", "limit"}
_OWN |= {f"{log}initial_{name}" for log in ("", "log_") for name in ("loss", "grad_norm2")}
CONSTANTS = [
    np.array([name not in _OWN for name in FLOATS]),
    np.ones(len(INTEGERS), dtype=bool),
    None,
    np.ones(1 + len(fields(Counts)), dtype=bool),
]
"""Numbers, as `SteppingRuns.memory` has them, in which all agree that have not begun, so that one run's serve for all.

None: not to be looked for."""


class Upcoming:
    """Episodes to come, started but not played: runs like those that will play them, one row per episode.

    An episode depends on its run's key and number alone, so that it does not matter when it is prepared. Episode ``m`` of
    run ``b`` lies in row ``(m % AHEAD) B + b``: runs that end together find theirs side by side.

    Args:
        runs: The runs that will play them.
        keys: ``(B,)`` int64: the runs' keys; fixed for this object's life.
        draw_ids: Function from the keys of episodes to their instances.
    """

    def __init__(self, runs: SteppingRuns, keys: Tensor, draw_ids: Callable[[Tensor], Tensor]) -> None:
        self._keys, self._draw_ids, self._count = keys.clone(), draw_ids, len(keys)
        self._prepared = np.full((AHEAD, self._count), -1, dtype=np.int64)  # numbers of the episodes there; -1: none
        self._puts: list[Put] = []
        self._memory: list[Any] = []  # that these put into and take from
        self._runs = SteppingRuns(
            runs.problem,
            self._count * AHEAD,
            split=runs.split,
            optimizer=runs.optimizer,
            learning_rate=runs.base_rate,
            dtype=runs.dtype,
            device=runs.device,
        )

    @staticmethod
    def serves(runs: SteppingRuns) -> bool:
        """Whether these runs are of a kind that is worth it: small, so that a reset costs as much as a step."""
        return runs.small and runs.count >= 16

    def prepare(self, numbers: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Rows ``(R,)`` of the next episodes of the runs ``at`` ``(R,)``, which are prepared where they were not.

        Args:
            numbers: ``(B,)``: those of the episodes that all runs play or have played last.
            at: The runs whose next episodes begin.
        """
        wanted = numbers[at] + 1
        of: np.ndarray = wanted % AHEAD * self._count + at
        if np.count_nonzero(self._prepared.take(of) != wanted):
            self._prepare(numbers + 1)
        return of

    def play(self, runs: SteppingRuns, at: Array, of: Array) -> bool:
        """Let the runs ``at`` ``(R,)`` play the episodes in the rows ``of`` ``(R,)``; whether some may begin diverged."""
        for put in self._puts_into(runs):
            put(at, of)
        diverged = self._runs.books.some_diverged
        runs.books.some_diverged |= diverged
        runs.changes += 1
        return diverged

    def _puts_into(self, runs: SteppingRuns) -> list[Put]:
        """What puts the episodes in place; found again where the memory of either side is another."""
        changing = [
            (one.instance, one.params, one.gradient, one.batch, *one.optimizer_state.values())
            for one in (runs, self._runs)
        ]
        memory = [*changing[0], *changing[1]]
        if len(memory) != len(self._memory) or any(a is not b for a, b in zip(memory, self._memory, strict=True)):
            xp = runs.books.xp
            self._puts = [
                *runs.memory().puts(self._runs.memory(), CONSTANTS),
                runs_put(xp.view(runs.keys), xp.view(self._runs.keys)),
                *instances_put(xp, runs.instance, self._runs.instance),
            ]
            self._memory = memory
        return self._puts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_puts": [], "_memory": []}  # a copy has memory of its own

    def _prepare(self, following: np.ndarray) -> None:
        """What is missing, for all runs that have one episode left at most; ``following`` ``(B,)``: their next ones.

        Those would soon ask for more, a few at every step; of the others more would be thrown away than is saved.
        """
        ahead = np.empty_like(self._prepared)  # the numbers that belong into the slots
        for slot in range(AHEAD):
            ahead[slot] = following + (slot - following) % AHEAD
        missing = self._prepared != ahead
        missing &= np.count_nonzero(missing, axis=0) >= AHEAD - 1
        rows = np.flatnonzero(missing)
        keys = self._keys[torch.from_numpy(rows % self._count)]
        keys = Streams(keys).fork(torch.from_numpy(ahead.reshape(-1)[rows])).keys
        everything = len(rows) == missing.size  # as at first
        mask = None if everything else torch.from_numpy(missing.reshape(-1)).to(self._runs.device)
        self._runs.reset(keys, self._draw_ids(keys), mask)
        self._prepared[missing] = ahead[missing]
