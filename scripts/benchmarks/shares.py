"""Shares of processor time by function, from samples of the stack every millisecond: what a step or a script spends it on.

PYTHONPATH=.:scripts OMP_NUM_THREADS=1 python -m benchmarks.shares step Ellipse
PYTHONPATH=.:scripts OMP_NUM_THREADS=1 python -m benchmarks.shares step MLPRegression 256
PYTHONPATH=.:scripts OMP_NUM_THREADS=1 python -m benchmarks.shares tenth RosenbrockND
PYTHONPATH=.:scripts OMP_NUM_THREADS=1 python -m benchmarks.shares run scripts/train.py --problem Quadratic

A share includes what the function calls, so that shares add up to more than the whole.
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch

from benchmarks.machine import check_kernels
from benchmarks.rows import QUICK, Scale
from benchmarks.steps import COORDINATES, mixed, stepping, steps, vector

SECONDS = 5.0
PERIOD = 1e-3
LEAST = 0.02
"""Smallest share that is printed."""


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Counts of the functions on the stack, each once per sample, and under the empty name of all samples."""
    counts: Counter[str] = Counter()

    def look(number: int, frame: FrameType | None) -> None:
        names = {""}
        while frame is not None:
            names.add(f"{frame.f_code.co_qualname} ({frame.f_code.co_filename.rpartition('/')[2]})")
            frame = frame.f_back
        counts.update(names)

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)
    try:
        yield counts
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def shares(work: Callable[[], object], seconds: float = SECONDS) -> dict[str, float]:
    """Share of each function while ``work`` is called for so long, the largest first."""
    with sampled() as counts:
        began = time.process_time()
        work()
        while time.process_time() - began < seconds:
            work()
    total = max(1, counts.pop("", 0))
    return {name: count / total for name, count in counts.most_common()}


def work_of(kind: str, problem: str, scale: Scale = QUICK, count: int | None = None) -> Callable[[], object]:
    """A ``step``, or one in which a random ``tenth`` of the runs teleports.

    Without a ``count`` of runs 4096, but for the steps of networks, which are of 2048.
    """
    if kind == "tenth":
        envs = vector(problem, scale.of(count or 4096))
        return stepping(envs, mixed(envs.num_envs, int(envs.single_action_space.n)), scale)  # type: ignore[attr-defined]
    count = scale.of(count or (4096 if problem in COORDINATES else 2048))
    return stepping(vector(problem, count), steps(count), scale)


def main() -> None:
    kind, name, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    try:
        check_kernels()
    except ValueError as error:
        raise SystemExit(f"shares: {error}") from error
    if kind == "run":
        sys.argv = [name, *rest]

        def script() -> None:
            with suppress(SystemExit):  # a script may end so
                runpy.run_path(name, run_name="__main__")

        found = shares(script, 0.0)
    else:
        found = shares(work_of(kind, name, count=int(rest[0]) if rest else None))
    for function, share in found.items():
        if share >= LEAST:
            print(f"{share:6.1%}  {function}")


if __name__ == "__main__":
    main()
