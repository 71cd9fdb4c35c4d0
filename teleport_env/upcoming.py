"""The next episodes of many runs, prepared together.

Of thousands of runs some end at almost every step. To draw the instances of a few and to evaluate loss and gradient at
their starts takes a hundred calls, as many as a step of them all; to draw the next episodes of everybody takes hardly more
calls and serves for a hundred steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array
from teleport_env.progress import put_runs
from teleport_env.random import Streams
from teleport_env.stepping import SteppingRuns

AHEAD = 3
"""Episodes per run that are prepared: a run may diverge at once more than once before the others have ended."""


class Upcoming:
    """Episodes to come, started but not played: runs like those that will play them, one row per episode.

    An episode depends on its run's key and number alone, so that it does not matter when it is prepared.

    Args:
        runs: The runs that will play them.
        keys: ``(B,)`` int64: the runs' keys; fixed for this object's life.
        draw_ids: Function from the keys of episodes to their instances.
    """

    def __init__(self, runs: SteppingRuns, keys: Tensor, draw_ids: Callable[[Tensor], Tensor]) -> None:
        self._keys, self._draw_ids = keys.clone(), draw_ids
        self._first = np.full(len(keys), -1, dtype=np.int64)  # number of the first episode prepared; -1: none
        self._runs = SteppingRuns(
            runs.problem,
            len(keys) * AHEAD,
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

    def play(self, runs: SteppingRuns, rows: Tensor, wanted: np.ndarray) -> None:
        """Let ``runs`` play the episodes with the numbers ``wanted`` ``(R,)`` in ``rows`` ``(R,)``."""
        at = rows.numpy()
        first = self._first[at]
        offset = wanted - first
        if np.count_nonzero((first < 0) | (offset < 0) | (offset >= AHEAD)):
            self._prepare(at, wanted)
            offset = wanted - self._first[at]
        theirs = torch.from_numpy(at * AHEAD + offset).to(runs.device)
        adopt(runs, rows.to(runs.device), self._runs, theirs, self._constants)
        # what a row has begun it may not need again; the one after is the first that it may
        self._first_unplayed[at] = wanted + 1

    def _prepare(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Anew for these rows, and for all that have one episode left at most.

        Those would soon ask for more, a few at every step; of the others more would be thrown away than is saved.
        """
        if self._first[0] < 0:
            self._first_unplayed = np.ones(len(self._first), dtype=np.int64)  # the episode 0 is being played
            stale = np.ones(len(self._first), dtype=bool)
        else:
            stale = self._first_unplayed - self._first >= AHEAD - 1
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
        self._constants = self._runs.memory().constants()  # most numbers of runs that have not begun are


def adopt(
    runs: SteppingRuns, rows: Tensor, others: SteppingRuns, theirs: Tensor, constants: Sequence[Array | None]
) -> None:
    """Let ``rows`` ``(R,)`` of ``runs`` go on as ``theirs`` ``(R,)`` of others of the same kind; `Memory.constants`."""
    runs.memory().adopt(rows, others.memory(), theirs, constants)
    view = runs.books.xp.view
    at, of = view(rows), view(theirs)
    pairs = [(runs.keys, others.keys), (runs.instance.start, others.instance.start)]
    pairs += [(tensor, others.instance.tensors[name]) for name, tensor in runs.instance.tensors.items()]
    if runs.instance.ids is not None and others.instance.ids is not None:
        pairs.append((runs.instance.ids, others.instance.ids))
    for mine, other in pairs:
        put_runs(view(mine), at, view(other), of)
    runs.books.some_diverged = True  # perhaps
    runs.changes += 1
