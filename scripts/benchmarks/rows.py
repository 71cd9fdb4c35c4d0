"""What one row of the benchmark is, and how two pieces of work are timed against each other.

Seconds say something about a machine; a ratio of two pieces of work that were timed in turns, within one process, says
something about the code. So a row is a ratio. Turns are interleaved, and the best of each side counts: whatever else
runs on a machine makes a turn longer, never shorter.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch

Work: TypeAlias = "Callable[[], object] | Elsewhere"
"""What is timed: it is called, or timed where it is done."""


@dataclass(frozen=True)
class Scale:
    """How long and how large to measure.

    Attributes:
        repeats: Turns that each piece of work gets.
        seconds: About how long one turn lasts.
        divide: Numbers of runs and of steps are divided by this. Anything but 1 measures something else than the targets
            speak of; tests of the benchmark itself do so.
    """

    repeats: int = 7
    seconds: float = 0.3
    divide: int = 1

    def of(self, size: int, least: int = 2) -> int:
        """``size`` runs (or steps) at this scale, at least ``least``."""
        return max(least, size // self.divide)


FULL = Scale()
QUICK = Scale(repeats=3, seconds=0.08)


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes:
        ratio: The number that the target speaks of.
        ours: Our side, in ``unit``.
        theirs: The other side, in ``unit``.
        unit: Unit such as ``"steps/s"`` or ``"us"``; figures of this machine, not to be compared with another's.
        details: More figures worth keeping, by name.
        stopped: Whether the other side was stopped before it was done: its time and the ratio are then lower bounds.
    """

    ratio: float
    ours: float
    theirs: float
    unit: str
    details: Mapping[str, float] = field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: Name of the thing measured.
        against: Name of the thing it is compared with.
        target: Value that ``Measured.ratio`` should reach.
        bound: Whether the ratio should be ``"at least"`` or ``"at most"`` the target.
        measure: Measures it.
        commit: Earlier state that it is compared with, of the project's history; None: none. Such a state works with one
            thread and is timed by its process's clock.
    """

    name: str
    against: str
    target: float
    bound: Literal["at least", "at most"]
    measure: Callable[[Scale], Measured]
    commit: str | None = None

    def reached(self, measured: Measured) -> bool:
        """Whether the target was reached; never by a ratio that is not a number."""
        if math.isnan(measured.ratio):
            return False
        return measured.ratio >= self.target if self.bound == "at least" else measured.ratio <= self.target


@runtime_checkable
class Elsewhere(Protocol):
    """A piece of work that another process does and times."""

    def turn(self, calls: int) -> float:
        """Seconds of the processor that so many calls take."""


def timed(works: Mapping[str, Work], scale: Scale, least: int = 1) -> dict[str, float]:
    """Seconds that one call of each piece of work takes: the best of ``scale.repeats`` interleaved turns.

    Each is called once beforehand, which pays for what is built at a first call, and once more to find out how often a
    turn should call it. The garbage collector waits meanwhile.

    With one thread of torch the clock is the processor's time for this process: none of the work waits for anything, and
    others who share the processor do not count. With more threads it is the time on the wall.

    Args:
        works: Pieces of work by name.
        least: Calls of a turn, however long they take, or a multiple of it: where calls differ, such as steps that end
            episodes, every turn must see as many of each kind.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def turn(work: Work, count: int) -> float:
        if isinstance(work, Elsewhere):
            return work.turn(count)
        turns = range(count)
        began = clock()
        for _ in turns:
            work()
        return clock() - began

    calls = {}
    for name, work in works.items():
        turn(work, 1)
        calls[name] = least * max(1, round(scale.seconds / max(turn(work, 1), 1e-7) / least))
    best = dict.fromkeys(works, math.inf)
    collecting = gc.isenabled()
    try:
        for _ in range(scale.repeats):
            gc.collect()
            gc.disable()
            for name, work in works.items():
                best[name] = min(best[name], turn(work, calls[name]) / calls[name])
            if collecting:
                gc.enable()
    finally:
        if collecting:
            gc.enable()
    return best


@dataclass(frozen=True)
class Curve:
    """How something grows; plotted on logarithmic axes.

    Attributes:
        name: Name of the thing measured; the picture's title.
        file: Name of the picture, without its ending.
        x: The horizontal axis.
        y: The vertical axis.
        measure: Measures it: points ``(x, y)`` by the name of their line.
    """

    name: str
    file: str
    x: str
    y: str
    measure: Callable[[Scale], Mapping[str, Sequence[tuple[float, float]]]]
