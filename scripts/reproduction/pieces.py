"""Independent pieces of a figure, played in several processes, with word of how far they are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from teleport_env.agents.comparison.parallel import Task, run_tasks

Key = TypeVar("Key")

QUIET = 5.0
"""Seconds between two lines of progress where the output is no terminal; on a terminal there is a bar."""


def play_all(pieces: Mapping[Key, Task], title: str, jobs: int) -> dict[Key, Any]:
    """Results of the pieces under their keys, in the order of the pieces.

    Args:
        pieces: Key -> a function and its arguments, both picklable. The result depends on nothing else, so that it is the
            same for every number of processes. Long pieces first, so that no process waits for another at the end.
        title: Title of the work, for the lines of progress.
        jobs: Processes; -1: one per core.
    """
    began = last = time.monotonic()
    found: dict[Key, Any] = {}
    tasks = [(_named, (key, *task)) for key, task in pieces.items()]
    for key, result, process, spent in run_tasks(tasks, jobs=jobs, title=title):
        found[key] = result
        if process != os.getpid():
            _elsewhere[0] += spent
        now = time.monotonic()
        if now - last > QUIET and not sys.stdout.isatty():
            print(f"  {title}: {progress(len(found), len(pieces), now - began)}", flush=True)
            last = now
    return {key: found[key] for key in pieces}


def progress(done: int, total: int, seconds: float) -> str:
    """What is done and what is left, in words; the rest is taken to be as slow as what is done."""
    left = f", about {seconds * (total - done) / done:.0f} s left" if done < total else ""
    return f"{done} of {total} done after {seconds:.0f} s{left}"


def _named(key: Key, work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Key, Any, int, float]:
    """The key, the result, and which process spent how many seconds on it."""
    began = time.process_time()
    return key, work(*arguments), os.getpid(), time.process_time() - began


_elsewhere = [0.0]  # processor seconds of other processes


def processor_seconds() -> float:
    """Of this process, and of those that have played pieces for it. A busy machine does not stretch them."""
    return time.process_time() + _elsewhere[0]
