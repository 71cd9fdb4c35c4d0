"""Tasks in processes and on Ray: the same results, and a missing Ray is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from joblib._parallel_backends import ThreadingBackend

from teleport_env.agents.comparison.parallel import run_tasks
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.comparison.summary import COLUMNS


def square(number: int) -> int:
    return number * number


def tiny(out: Path, **settings: Any) -> Study:
    few: dict[str, Any] = {"instances": 3, "seeds": 1, "budget": 8.0, "tuning_instances": 2}
    return Study(problems=("Booth",), agents=("never", "every"), out=out, jobs=2, references=False, **few, **settings)


def same_results(one: Study, other: Study) -> None:
    kept = [column for column in COLUMNS if column != "seconds"]
    found = [run_study(study, report=lambda line: None)["results"][kept] for study in (one, other)]
    assert found[0].equals(found[1])


def test_every_task_is_done_once() -> None:
    assert sorted(run_tasks([(square, (n,)) for n in range(7)], jobs=2)) == [n * n for n in range(7)]
    assert list(run_tasks([], jobs=2)) == []


def where(number: int) -> tuple[int, int]:
    time.sleep(0.01)
    return number, os.getpid()


def fail(number: int) -> int:
    raise ArithmeticError(number)


def test_this_process_is_one_of_the_workers() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = list(run_tasks([(where, (n,)) for n in range(12)], jobs=2, joining=True))
        assert torch.get_num_threads() == 2, "tasks have one thread, and what follows has its own"
    finally:
        torch.set_num_threads(threads)
    assert sorted(number for number, _ in found) == list(range(12))
    assert os.getpid() in {process for _, process in found}
    with pytest.raises(ArithmeticError):
        list(run_tasks([(fail, (n,)) for n in range(3)], jobs=2, joining=True))
    assert sorted(run_tasks([(square, (n,)) for n in range(3)], jobs=2, joining=True)) == [0, 1, 4]


COPIES = """
import os, signal, sys, time
from multiprocessing import active_children
from teleport_env.agents.comparison.parallel import beside, run_tasks

def where(number):
    time.sleep(0.05)
    return number, os.getpid(), "late" in sys.modules

with beside(3):
    copies = {one.pid for one in active_children()}
    sys.modules["late"] = sys
    found = list(run_tasks([(where, (n,)) for n in range(12)], jobs=3, joining=True))
    assert sorted(n for n, *_ in found) == list(range(12))
    assert {process for _, process, _ in found} == {os.getpid(), *copies} and len(copies) == 2
    assert {process for _, process, late in found if late} == {os.getpid()}
    print(*copies, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not copied")
def test_copies_of_this_process_are_workers_and_end_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COPIES], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    for process in done.stdout.splitlines()[-1].split():
        status, patience = Path(f"/proc/{process}/stat"), 100
        while status.exists() and ") Z " not in status.read_text() and patience:
            time.sleep(0.1)
            patience -= 1
        assert patience, "the copy is still there"


def test_a_backend_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backend must be one of 'processes', 'ray', got 'dask'"):
        Study(backend="dask", out=tmp_path)


def test_a_missing_ray_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    with pytest.raises(ImportError, match=r"teleport-env\[ray\]"):
        Study(backend="ray", out=tmp_path)


class StandIn(ThreadingBackend):
    """A backend that counts, and hands over results when all are there, like Ray's."""

    supports_return_generator = False
    calls = 0

    def submit(self, func: Any, callback: Any = None) -> Any:
        StandIn.calls += 1
        return super().submit(func, callback)


def test_the_ray_backend_is_what_runs_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("ray.util.joblib")
    module.register_ray = lambda: joblib.register_parallel_backend("ray", StandIn)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.util.joblib", module)
    StandIn.calls = 0
    assert sorted(run_tasks([(square, (n,)) for n in range(9)], jobs=2, backend="ray")) == [n * n for n in range(9)]
    assert StandIn.calls == 9
    same_results(tiny(tmp_path / "a"), tiny(tmp_path / "b", backend="ray"))
    assert StandIn.calls > 9


def test_ray_gives_the_results_of_processes(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
    try:
        same_results(tiny(tmp_path / "a"), tiny(tmp_path / "b", backend="ray"))
    finally:
        ray.shutdown()


def test_processes_that_joined_leave_joblib_as_it_was() -> None:
    """Regression: loky has one pool per process, and joblib could not go on with that of a comparison."""
    for joining in (True, False, True):
        found = run_tasks([(square, (n,)) for n in range(4)], jobs=2, joining=joining)
        assert sorted(found) == [0, 1, 4, 9], joining
