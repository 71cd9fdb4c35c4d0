"""Rows about what a person waits for: trainings, comparisons, tunings. Each is measured once, in processes of its own."""

from __future__ import annotations

import ast
import json
import math
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from train import BELOW

from benchmarks.earlier import ONE_AT_A_TIME, ROOT, UNHURRIED, Earlier, checkout, environment_of
from benchmarks.rows import Measured, Row, Scale

TRAINED = ("Rosenbrock", "MLPRegression", "Quadratic", "RosenbrockND", "Booth", "MatrixFactorization", "LinearNetwork")
AGAINST_OLD = (*TRAINED[:3], *TRAINED[4:])
"""Those that the old version has a recipe for that seeks the same."""
LIMIT = 600
"""Seconds of the processor after which the old version is stopped; its time is then a lower bound."""
COMPARED = 40.0
"""Seconds that a comparison of the default problems may take."""
PATIENCE = 60.0
"""Seconds that a training may take."""


def command(folder: Path, *words: str, limit: int | None = None) -> tuple[float, float]:
    """Seconds on the wall and of the processor that a script of a checkout takes.

    A training that says that its policy gains less than a rival is done.

    Args:
        folder: The checkout.
        words: The script and its arguments.
        limit: Seconds of the processor after which it is stopped; None: never.

    Raises:
        RuntimeError: It failed; its last lines stand in the message.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()

    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment_of(folder),
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    stopped = limit and -done.returncode in (signal.SIGXCPU, signal.SIGKILL)
    if done.returncode not in (0, BELOW) and not stopped:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


AS_LONG = """
import sys
sys.path.insert(0, "scripts")
from train import second_process, settings
from teleport_env.agents.learning.training import train
with second_process() as beside:
    train(settings({words}), print, until={until}, beside=beside)
"""
"""The segments of a training that its command line asks for, up to one of them."""


@cache
def training(problem: str, scale: Scale, *, old: bool, words: tuple[str, ...] = ()) -> tuple[float, float, list[float]]:
    """Seconds on the wall and of the processor of a training by its recipe, searches included, and what it gained.

    That is after each segment, on validation instances. Each is trained once per process: two rows speak of the present one.
    Nothing was gained where the old version was stopped.
    """
    more = ("--decisions", "2000", "--plans", "8", "--rules", "0") if scale.divide > 1 else ()
    with tempfile.TemporaryDirectory() as place:
        words = ("scripts/train.py", "--problem", problem, "--out", place, *words, *more)
        wall, seconds = command(checkout(UNHURRIED) if old else ROOT, *words, limit=LIMIT if old else None)
        told = Path(place) / "training.json"
        history = json.loads(told.read_text(encoding="utf-8"))["history"] if told.exists() else []
    return wall, seconds, [float(segment["gained"]) for segment in history]


def waited(problem: str, scale: Scale) -> Measured:
    """Seconds on the wall of a training by its recipe."""
    wall, seconds, gained = training(problem, scale, old=False)
    details = {"orders of magnitude gained on validation instances": max(gained), "seconds of the processor": seconds}
    return Measured(wall / PATIENCE, wall, PATIENCE, "s", details)


def trained(problem: str, scale: Scale) -> Measured:
    """Seconds of the processor of a training until it gains what the former one gained in the end, and of that.

    The former one met a single tolerance. So does this one, and is otherwise by its recipe: it is timed up to the segment
    that gained as much. Where none did, it is timed in full, and the details say so.
    """
    single = ("--tolerance-multiples", "1", "1")
    _, whole, gained = training(problem, scale, old=False, words=single)
    _, before, former = training(problem, scale, old=True)
    wanted = max(former, default=math.nan)
    enough = [number for number, one in enumerate(gained, 1) if one >= wanted]
    seconds = whole
    if enough and enough[0] < len(gained):
        with tempfile.TemporaryDirectory() as place:
            words = ["--problem", problem, "--out", place, *single]
            _, seconds = command(ROOT, "-c", AS_LONG.format(words=words, until=enough[0]))
    details = {
        "formerly gained; not a number: stopped": wanted,
        "segments timed": float(min([*enough, len(gained)])),
        "of": float(len(gained)),
        "gained by then": max(gained[: min([*enough, len(gained)])]),
        "the training in full, seconds": whole,
    }
    return Measured(before / seconds, seconds, before, "s", details, math.isnan(wanted))


def comparison(scale: Scale) -> Measured:
    """Seconds on the wall of a comparison by its defaults, as ``make compare`` plays it."""
    small = scale.divide > 1
    words = ("--problems", "Booth", "--agents", "never", "--instances", "4", "--tuning-instances", "0", "--jobs", "1")
    with tempfile.TemporaryDirectory() as place:
        out = str(Path(place) / "compare")
        wall, seconds = command(ROOT, "scripts/compare.py", "--out", out, *(words if small else ()))
    return Measured(wall / COMPARED, wall, COMPARED, "s", {"seconds of the processor": seconds})


def processes(scale: Scale, *, whole: bool = False) -> Measured:
    """Seconds on the wall of a comparison by one process, over those by two; ``whole``: one by its defaults."""
    few = not whole or scale.divide > 1
    small: tuple[str, ...] = ("--problems", "Booth", "MLPRegression", "--no-references") if few else ()
    small += ("--instances", "4", "--tuning-instances", "2") if scale.divide > 1 else ()
    found = []
    with tempfile.TemporaryDirectory() as place:
        for jobs in ("1", "2"):
            out = str(Path(place) / jobs)
            found.append(command(ROOT, "scripts/compare.py", "--out", out, "--jobs", jobs, *small))
    (one, alone), (two, together) = found
    return Measured(one / two, two, one, "s", {"processor seconds of one": alone, "of two": together})


RULES = """
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.tuning.own_menu import Menu, search_rules
from teleport_env.agents.play import one_thread
training = Training.of(**recipe("{problem}"))
settings = training.settings()
menu = Menu("{problem}", training.policy_environment(settings.learning_rate), {count})
@one_thread()
def work():
    found = search_rules(menu)
    return found["rule"], found["settings"], found["gained"], found["tried"]
"""


def rules(problem: str, scale: Scale) -> Measured:
    """Seconds of the processor to search rules, now and one configuration at a time.

    The details say whether both sides tried as many configurations, and whether the winner is the same.
    """
    source = RULES.format(problem=problem, count=max(8, 128 // scale.divide))
    names: dict[str, object] = {}
    exec(source, names)
    work = names["work"]
    assert callable(work)
    began = time.process_time()
    now: Any = work()
    seconds = time.process_time() - began
    before = Earlier(ONE_AT_A_TIME, source)
    former, told = before.told()
    before.close()
    then = ast.literal_eval(told)
    details = {"the same winner": float(now[:2] == then[:2]), "as many configurations": float(now[3] == then[3])}
    details |= {"configurations tried": float(now[3]), "formerly tried": float(then[3])}
    details |= {"orders that the winner gains": now[2], "that the former gained": then[2]}
    return Measured(former / seconds, seconds, former, "s", details)


ROWS: list[Row] = [
    *[
        Row(
            f"training on {name} to a former score",
            "the old version",
            3.0,
            "at least",
            partial(trained, name),
            UNHURRIED,
        )
        for name in AGAINST_OLD
    ],
    *[
        Row(
            f"training on {name} by its recipe",
            "a minute on the wall",
            1.0,
            "at most",
            partial(waited, name),
        )
        for name in TRAINED
    ],
    *[
        Row(
            f"search for rules on {name}",
            "one configuration at a time",
            4.0,
            "at least",
            partial(rules, name),
            ONE_AT_A_TIME,
        )
        for name in ("Rosenbrock", "MLPRegression")
    ],
    Row("a comparison by its defaults", f"{COMPARED:g} seconds on the wall", 1.0, "at most", comparison),
    Row("a comparison of two problems by two processes", "by one", 1.7, "at least", processes),
    Row("a comparison by its defaults by two processes", "by one", 1.7, "at least", partial(processes, whole=True)),
]
