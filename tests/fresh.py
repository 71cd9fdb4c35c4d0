"""Fresh processes without the seconds that importing torch costs: forks of a process that did it once.

That process imports packages of others alone, so that a program still imports from ours all that it uses.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PRELOADED = "gymnasium, numpy, torch"

SERVER = f"""
import atexit, json, os, runpy, sys, traceback
import {PRELOADED}

for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

os.chdir(task["folder"])
os.environ.clear()
os.environ.update(task["environment"])
for target, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))):
    os.dup2(os.open(task["streams"] + "/" + path if target else path, flags | os.O_CREAT), target)
try:
    first, *sys.argv = task["arguments"]
    if first == "-c":
        code, sys.argv[0] = sys.argv[0], "-c"
        exec(code, {{"__name__": "__main__"}})
    else:
        sys.argv.insert(0, first)
        sys.path[0] = os.path.dirname(os.path.abspath(first))
        runpy.run_path(first, run_name="__main__")
    code = 0
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    if code == 1 and end.code != 1:
        print(end.code, file=sys.stderr)
except BaseException:
    code = 1
    traceback.print_exc()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # without the clearing of modules, which would copy the memory of the other process
"""


@functools.cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    atexit.register(server.communicate)  # the end of its input ends it
    return server


def run(
    arguments: list[str], folder: Path | None = None, timeout: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """As ``python *arguments`` in a folder: a script or ``-c code``, then its arguments.

    After ``timeout`` seconds the program is killed. Variables that torch reads when it is imported have no effect: their
    tests start a process of their own.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as streams:
        task = {
            "arguments": arguments,
            "folder": str(folder or Path.cwd()),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1", **environment},
            "streams": streams,
        }
        print(json.dumps(task), file=server.stdin, flush=True)
        child = int(server.stdout.readline())
        killer = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
        killer.start()
        try:
            code = int(server.stdout.readline())
        finally:
            killer.cancel()
        output, errors = (Path(streams, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(arguments, code, output, errors)
