"""The next episodes of many runs, prepared together.

Of thousands of runs some end at almost every step. To draw the instances of a few and to evaluate loss and gradient at
their starts takes a hundred calls, as many as a step of them all; to draw the next episodes of everybody takes hardly more
calls and serves for a hundred steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from teleport_env.random import Streams
from teleport_env.runs import Runs

AHEAD = 3
"""Episodes a run that are prepared: a run may diverge at once more than once before the others have ended."""


class Upcoming:
    """Episodes to come, started but not played.

    They are runs like those that will play them, a row an episode. An episode depends on its run's key and number alone, so
    that it does not matter when it is prepared.

    Args:
        runs: Who will play them.
        keys: ``(B,)`` int64: the runs' keys; fixed for this object's life.
        draw_ids: From the keys of episodes to their instances.
    """

    def __init__(self, runs: Runs, keys: Tensor, draw_ids: Callable[[Tensor], Tensor]) -> None:
        self._keys, self._draw_ids = keys.clone(), draw_ids
        self._first = np.full(len(keys), -1, dtype=np.int64)  # number of the first episode prepared; -1: none
        self._runs = runs.of_count(len(keys) * AHEAD)

    @staticmethod
    def serves(runs: Runs) -> bool:
        """Whether these runs are of a kind that is worth it: small instances, and a step that costs as much as a reset."""
        return runs.plain and runs.count >= 16

    def play(self, runs: Runs, rows: Tensor, numbers: Tensor) -> None:
        """Let ``runs`` play the episodes with ``numbers`` ``(R,)`` in ``rows`` ``(R,)``."""
        at, wanted = rows.numpy(), numbers.numpy()
        offset = wanted - self._first[at]
        if (self._first[at] < 0).any() or (offset < 0).any() or (offset >= AHEAD).any():
            self._prepare(at, wanted)
            offset = wanted - self._first[at]
        runs.adopt(rows.to(runs.device), self._runs, torch.from_numpy(at * AHEAD + offset).to(runs.device))
        # what a row has begun it may not need again; the one after is the first that it may
        self._first_unplayed[at] = wanted + 1

    def _prepare(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Anew for all rows that have begun what was prepared for them."""
        if self._first[0] < 0:
            self._first_unplayed = np.zeros(len(self._first), dtype=np.int64)
            stale = np.ones(len(self._first), dtype=bool)
        else:
            stale = self._first_unplayed > self._first
            stale[rows] = True
        self._first_unplayed[rows] = numbers
        chosen = torch.from_numpy(np.flatnonzero(stale))
        self._first[stale] = self._first_unplayed[stale]
        ahead = torch.from_numpy(self._first)[chosen][:, None] + torch.arange(AHEAD, device="cpu")
        keys = Streams(self._keys[chosen].repeat_interleave(AHEAD)).fork(ahead.flatten()).keys
        mask = None
        if len(chosen) < len(stale):
            mask = torch.from_numpy(stale).repeat_interleave(AHEAD).to(self._runs.device)
        self._runs.reset(keys, self._draw_ids(keys), mask)
