"""Tasks in processes, on this machine or on a Ray cluster.

A task is a function and its arguments, both picklable; what it returns depends on nothing else, so that every backend gives
the same results. ``"processes"`` are joblib's own; ``"ray"`` are joblib's workers on the cluster that the environment
variable ``RAY_ADDRESS`` names, or else on a Ray of this machine that is started for the purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from teleport_env.reading import known

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


def run_tasks(tasks: Iterable[Task], *, jobs: int = -1, backend: str = "processes", title: str = "") -> Iterator[Any]:
    """Results of the tasks as they come, in any order, with a progress bar.

    There are ``jobs`` workers; -1: one per core of the machine or of the cluster. ``backend`` is one of `BACKENDS`.

    Raises:
        ValueError: There is no such backend.
        ImportError: joblib, rich or Ray is not installed; the message names the extra.
    """
    try:
        from joblib import Parallel, delayed
        from rich.progress import track
    except ImportError as error:
        raise ImportError('comparisons need more packages: pip install "teleport-env[compare]"') from error
    check_backend(backend)
    calls = [delayed(_quietly)(function, arguments) for function, arguments in tasks]
    if not calls:
        return
    if backend == "processes":
        results = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls)
    else:
        results = _on_ray(calls, jobs)
    yield from track(results, description=title, total=len(calls))


def _on_ray(calls: list[Any], jobs: int) -> Iterator[Any]:
    """Joblib's Ray backend hands over results when all are there: portions keep what is done safe from what fails."""
    from joblib import Parallel, effective_n_jobs, parallel_config

    # started once for all portions
    with parallel_config(backend="ray"), Parallel(n_jobs=jobs, batch_size=1) as workers:
        size = 2 * max(1, effective_n_jobs(jobs))
        for begin in range(0, len(calls), size):
            yield from workers(calls[begin : begin + size])


def _quietly(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The task, with one thread: processes and threads would fight over the cores."""
    import torch

    torch.set_num_threads(1)
    return function(*arguments)
