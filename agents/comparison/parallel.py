"""Tasks in processes, on this machine or on a Ray cluster.

A task is a function and its arguments, both picklable; what it returns depends on nothing else, so that every backend gives
the same results. ``"processes"`` are joblib's own; ``"ray"`` are joblib's workers on the cluster that the environment
variable ``RAY_ADDRESS`` names, or else on a Ray of this machine that is started for the purpose.

Workers know the problems and agents that this process has registered, and import the modules that it was asked to import
(`teleport_env.registration.import_own`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import cloudpickle  # comes with Gymnasium

from teleport_env.agents.base import AGENTS, register_agent
from teleport_env.agents.known import KNOWN
from teleport_env.problems import PROBLEMS
from teleport_env.reading import known
from teleport_env.registration import IMPORTED, InModule, import_own, register_problem

BACKENDS = ("processes", "ray")

Task = tuple[Callable[..., Any], tuple[Any, ...]]


def check_backend(backend: str) -> None:
    """Say at once what would fail later, and make Ray known to joblib.

    Raises:
        ValueError: There is no such backend.
        ImportError: What it needs is not installed; the message names the extra.
    """
    if known("backend", backend, BACKENDS) == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ImportError('the backend "ray" needs Ray: pip install "teleport-env[ray]"') from error
        register_ray()


def run_tasks(
    tasks: Iterable[Task], *, jobs: int = -1, backend: str = "processes", title: str = "", joining: bool = False
) -> Iterator[Any]:
    """Results of the tasks as they come, in any order, with a progress bar.

    Args:
        tasks: The tasks, the longest first.
        jobs: Number of workers; -1: one per core of the machine or of the cluster.
        backend: One of `BACKENDS`.
        title: Words beside the bar.
        joining: Whether this process is one of the workers. It then saves the imports of another, seconds, and hands over
            what the others have done after each task of its own: for short tasks.

    Raises:
        ValueError: There is no such backend, or a registered problem or agent cannot be sent to other processes.
        ImportError: joblib, rich or Ray is not installed; the message names the extra.
    """
    try:
        from joblib import Parallel, delayed
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError as error:
        raise ImportError('comparisons need more packages: pip install "teleport-env[compare]"') from error
    check_backend(backend)
    chosen = list(tasks)
    if not chosen:
        return
    own = None if jobs == 1 and backend == "processes" else additions()
    calls = [delayed(_quietly)(function, arguments, own) for function, arguments in chosen]
    if backend == "processes" and joining and workers(jobs) > 1:
        results = _joining(calls, workers(jobs))
    elif backend == "processes":
        results = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls)
    else:
        results = _on_ray(calls, jobs)
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("done, after"))
    with Progress(*shown, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()) as progress:
        yield from progress.track(results, description=title, total=len(calls))


def workers(jobs: int) -> int:
    """How many processes of this machine ``jobs`` means, which -1 leaves open."""
    from joblib import effective_n_jobs

    return int(effective_n_jobs(jobs))


_copies: ProcessPoolExecutor | None = None
"""Copies of this process, as long as `beside` has some."""


@contextmanager
def beside(jobs: int, *modules: str) -> Iterator[None]:
    """Processes that are ready for `run_tasks` with ``joining``, and have imported modules.

    They are copies of this process where it can be copied, which saves them the imports. A copy has one thread: what another
    thread held at that moment, such as a lock, it would wait for without end. So they are made at once, and only if this
    process has a single thread, and on Linux. Else other processes start, and import modules meanwhile.
    """
    global _copies
    count = workers(jobs) - 1
    for module in modules:
        import_module(module)
    if count and sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1:
        with ProcessPoolExecutor(count, get_context("fork"), _end_with_parent) as _copies:
            _copies.submit(int)  # the first task is what makes them
            try:
                yield
            finally:
                _copies = None
    else:
        for _ in range(count):
            _helpers(count).submit(_import, modules)
        yield


def _end_with_parent() -> None:
    """For a copy: to wait for tasks of a process that was killed would take forever."""
    parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _helpers(count: int) -> Any:
    """So many processes beside this one: its copies, or else the same ones at every call, which stay for five minutes."""
    from joblib.executor import get_memmapping_executor

    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # joblib's own, and not loky's below it: there is one per process, and joblib cannot go on with another's
    return _copies or get_memmapping_executor(count, timeout=300, env=single, max_nbytes=None)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        import_module(module)


def _unpickled(call: bytes) -> Any:
    function, arguments, _ = cloudpickle.loads(call)
    return function(*arguments)


def _joining(calls: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Results of the calls, each made by whichever of ``jobs`` processes is free, this one among them."""
    import torch

    threads, helpers = torch.get_num_threads(), _helpers(jobs - 1)
    waiting, done, lock = deque(calls), SimpleQueue[Any](), Lock()

    def taken() -> Any:
        with lock:
            return waiting.popleft() if waiting else None

    def feed(ended: Any = None) -> None:
        if ended is not None:
            done.put(ended)
        call = taken()
        if call is not None:
            helpers.submit(_unpickled, cloudpickle.dumps(call)).add_done_callback(feed)

    left = len(calls)
    try:
        for _ in range(jobs - 1):
            feed()
        while left:
            call = taken()
            if call is not None:
                function, arguments, _ = call
                yield function(*arguments)
                left -= 1
            while left and (call is None or not done.empty()):
                yield done.get().result()
                left -= 1
    finally:
        waiting.clear()
        torch.set_num_threads(threads)


def _on_ray(calls: list[Any], jobs: int) -> Iterator[Any]:
    """Joblib's Ray backend hands over results when all are there: portions keep what is done safe from what fails."""
    from joblib import Parallel, effective_n_jobs, parallel_config

    # started once for all portions
    with parallel_config(backend="ray"), Parallel(n_jobs=jobs, batch_size=1) as workers:
        size = 2 * max(1, effective_n_jobs(jobs))
        for begin in range(0, len(calls), size):
            yield from workers(calls[begin : begin + size])


def _is_own(factory: Any) -> bool:
    """Whether a registered factory is a user's."""
    made = factory.func if isinstance(factory, partial) else factory
    return isinstance(made, InModule) or str(getattr(made, "__module__", None)).partition(".")[0] != "teleport_env"


@dataclass(frozen=True)
class Additions:
    """What the user of this process has added to it, for other processes.

    Attributes:
        process: This process.
        folder: Further folder in which modules are looked for.
        modules: Names of those that were imported.
        entries: Registrations: the function that registers, the name, and the pickled factory. Factories of a script or
            notebook go unpickled.
    """

    process: int
    folder: str
    modules: tuple[str, ...]
    entries: tuple[tuple[Callable[..., Any], str, bytes], ...]


def additions() -> Additions:
    """What this process has and others have not.

    Raises:
        ValueError: Something cannot be pickled.
    """
    tables = ((register_problem, PROBLEMS), (register_agent, AGENTS))
    entries = []
    for register, name, factory in [(add, *entry) for add, table in tables for entry in table.items()]:
        if not _is_own(factory):
            continue
        try:
            entries.append((register, name, cloudpickle.dumps((factory, KNOWN.get(name)))))
        except Exception as error:
            raise ValueError(
                f"what is registered as {name!r} cannot be sent to other processes ({type(error).__name__}: {error}): "
                "define it in a module, and import that by --import or import_own; or take jobs=1"
            ) from error
    return Additions(os.getpid(), str(Path.cwd()), tuple(IMPORTED), tuple(entries))


@lru_cache(maxsize=1)
def adopt(own: Additions) -> None:
    """Make this process know what another has added to itself."""
    if own.folder not in sys.path:
        sys.path.append(own.folder)
    for module in own.modules:
        import_own(module)
    for register, name, pickled in own.entries:
        factory, facts = cloudpickle.loads(pickled)
        register(name, factory)
        if facts is not None:
            KNOWN[name] = facts


def _quietly(function: Callable[..., Any], arguments: tuple[Any, ...], own: Additions | None) -> Any:
    """The task, with one thread: processes and threads would fight over the cores."""
    import torch

    if own is not None and own.process != os.getpid():
        adopt(own)
    torch.set_num_threads(1)
    return function(*arguments)
