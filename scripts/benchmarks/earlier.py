"""An earlier state of the project, in a process of its own, that is timed in turns with this one."""

from __future__ import annotations

import atexit
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNHURRIED = "57bfdec"
"""The state before the work on speed: what the page calls the old version."""
ONE_AT_A_TIME = "1918b65"
"""The state before configurations were rows, with the present search over settings."""

_SERVER = """
import json, sys, time
names = {}
for line in sys.stdin:
    asked = json.loads(line)
    if "make" in asked:
        exec(asked["make"], names)
        answer = None
    else:
        work = names["work"]
        began = time.process_time()
        for _ in range(asked["turns"]):
            found = work()
        answer = [time.process_time() - began, repr(found) if asked["tell"] else ""]
    print(json.dumps(answer), flush=True)
"""


@cache
def checkout(commit: str) -> Path:
    """The files of a commit in a temporary folder, which is deleted when this process exits.

    Raises:
        ValueError: There is no history here that has it.
    """
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise ValueError(f"the history here does not hold the commit {commit}: {done.stderr.decode().strip()}")
    folder = tempfile.TemporaryDirectory(prefix="teleport-env-")
    atexit.register(folder.cleanup)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder.name, filter="data")
    return Path(folder.name)


def environment_of(folder: Path) -> dict[str, str]:
    """Environment variables for a process that imports the package from a folder, with one thread."""
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


class Earlier:
    """A piece of work done by an earlier state.

    Args:
        commit: The state.
        source: Python that defines ``work()``; what it imports is the earlier state's.
    """

    def __init__(self, commit: str, source: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=checkout(commit),
            env=environment_of(checkout(commit)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)  # before its folder goes: what was registered last is called first
        self._ask({"make": source})

    def turn(self, calls: int) -> float:
        """Seconds of the processor that so many calls take there."""
        return float(self._ask({"turns": calls, "tell": False})[0])

    def told(self) -> tuple[float, str]:
        """Seconds of one call, and what it returned, as Python shows it."""
        seconds, text = self._ask({"turns": 1, "tell": True})
        return float(seconds), str(text)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, what: dict[str, object]) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the earlier state's process has ended; its error stands above")
        answer: list[Any] = json.loads(line)
        return answer
