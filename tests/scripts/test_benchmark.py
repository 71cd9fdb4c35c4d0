"""The benchmark measures, says what it measured and saves it. No test asserts a time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import benchmark
import pytest
from benchmark import Benchmark

from benchmarks import machine, running, shares, steps, waits
from benchmarks.earlier import ROOT, UNHURRIED, Earlier, checkout
from benchmarks.rows import Curve, Measured, Row, Scale, timed
from teleport_env.native import VARIANT
from teleport_env.upcoming import AHEAD

TINY = Scale(repeats=1, seconds=1e-4, divide=512)


HISTORY = not subprocess.run(["git", "cat-file", "-e", UNHURRIED], cwd=ROOT, capture_output=True).returncode
needs_history = pytest.mark.skipif(not HISTORY, reason="the old version is in the history, which is not here")


@pytest.mark.parametrize(
    "row",
    [row for row in steps.ROWS if row.commit is None],
    ids=lambda row: f"{row.name}, against {row.against}"[:60],
)
def test_rows_of_steps_measure(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(steps, "Earlier")  # no row that says it needs no history runs an earlier state
    measured = row.measure(TINY)
    assert measured.ratio > 0
    assert math.isfinite(measured.ratio)
    assert measured.ours > 0
    assert measured.theirs > 0


@pytest.mark.parametrize("problem", ["Booth", "MatrixFactorization", "Rosenbrock"])
def test_a_turn_covers_whole_episodes(problem: str) -> None:
    """Regression: turns of 40 steps missed the ends of episodes of 60, and the best turn counted."""
    length = steps.whole(problem, Scale())
    assert length >= steps.EPISODES
    envs = steps.vector(problem, 64)
    envs.reset(seed=0)
    action, ends = steps.steps(64)[0], []
    for _ in range(2 * length):
        *_, terminated, truncated, _ = envs.step(action)
        ends.append((terminated | truncated).sum() > 32)  # most of them
    turns = [sum(ends[begin : begin + length]) for begin in range(0, length, 7)]
    assert turns[0] > 0
    assert turns[0] % AHEAD == 0
    assert set(turns) == {turns[0]}


def test_calls_of_a_turn_are_a_multiple() -> None:
    class Counted:
        turns: list[int]

        def turn(self, calls: int) -> float:
            self.turns.append(calls)
            return 0.011 * calls

    work = Counted()
    work.turns = []
    timed({"it": work}, Scale(repeats=3, seconds=0.3), 12)
    assert work.turns == [1, 1, 24, 24, 24]


@needs_history
@pytest.mark.parametrize(
    "row", {row.measure.func: row for row in steps.ROWS if row.commit}.values(), ids=lambda row: row.name
)
def test_an_earlier_state_is_timed_in_turns(row: Row) -> None:
    """One row of each kind."""
    measured = row.measure(TINY)
    over = measured.ours / measured.theirs
    assert measured.ratio == pytest.approx(over if row.bound == "at most" else measured.ratio)
    assert min(measured.ours, measured.theirs, measured.ratio) > 0


@needs_history
def test_an_earlier_state_tells_what_it_found_and_fails_aloud() -> None:
    earlier = Earlier(UNHURRIED, "import teleport_env\ndef work():\n    return teleport_env.__file__")
    seconds, told = earlier.told()
    assert seconds >= 0
    assert str(checkout(UNHURRIED)) in told
    earlier.close()
    with pytest.raises(RuntimeError, match="has ended"):
        Earlier(UNHURRIED, "import nothing_of_that_name")


@needs_history
def test_a_checkout_ends_with_its_process() -> None:
    """Regression: each process left its folders behind, with what they hold."""
    source = "from benchmarks.earlier import UNHURRIED, Earlier, checkout\n"
    source += "assert checkout(UNHURRIED) is checkout(UNHURRIED)\n"
    source += "Earlier(UNHURRIED, 'def work(): pass')\n"
    source += "print(checkout(UNHURRIED), (checkout(UNHURRIED) / 'teleport_env').is_dir())"
    told = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    folder, held = told.stdout.split()
    assert held == "True"
    assert not Path(folder).exists()


def test_more_threads_are_refused_where_an_earlier_state_is_timed() -> None:
    """Regression: one side was timed on the wall with two threads, the other by its process's clock with one."""
    with pytest.raises(
        ValueError, match=r"threads is 2, and rows against an earlier state are timed with 1: a step with"
    ):
        Benchmark(only=("tenth",), threads=2)
    assert Benchmark(only=("CartPole",), threads=2).threads == 2


@pytest.mark.parametrize("script", [benchmark, shares], ids=["rows", "shares"])
def test_nothing_is_timed_without_kernels_but_on_purpose(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: where the kernels were older than their sources a benchmark timed NumPy and printed its figures."""
    timed: list[str] = []
    monkeypatch.setattr(machine, "KERNELS", None)
    monkeypatch.setattr(machine, "MISSING", "the compiled kernels are older than their sources")
    monkeypatch.setattr(benchmark, "run", lambda *_: timed.append("rows") or {"rows": []})
    monkeypatch.setattr(shares, "shares", lambda _: timed.append("shares") or {})
    monkeypatch.setattr(shares, "work_of", lambda *_, **__: None)
    words = ["--only", "memory", "--out", str(tmp_path)] if script is benchmark else ["step", "Booth"]
    monkeypatch.setattr(sys, "argv", ["it", *words])
    monkeypatch.delenv("TELEPORT_ENV_NATIVE", raising=False)
    with pytest.raises(SystemExit, match="older than their sources.*pip install.*TELEPORT_ENV_NATIVE=0"):
        script.main()
    assert not timed
    monkeypatch.setenv("TELEPORT_ENV_NATIVE", "0")
    script.main()
    assert len(timed) == 1


@pytest.mark.parametrize(("problem", "numbers"), [("Quadratic", 100), ("MLPRegression", 52)])
def test_a_step_is_said_to_read_what_its_gradient_depends_on(problem: str, numbers: int) -> None:
    """Regression: eigenvectors and eigenvalues of Quadratic were counted, which no gradient reads."""
    envs = steps.vector(problem, 2)
    envs.reset(seed=0)
    runs = envs.unwrapped.episodes.runs
    assert steps.numbers_read(runs.problem, runs.params, runs.instance) == numbers


def test_the_search_for_rules_says_whether_both_sides_tried_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    class Former:
        def __init__(self, commit: str, source: str) -> None:
            pass

        def told(self) -> tuple[float, str]:
            return 6.0, "('stall', {}, 1.0, 157)"

        def close(self) -> None:
            pass

    monkeypatch.setattr(waits, "Earlier", Former)
    monkeypatch.setattr(waits, "RULES", "def work():\n    return 'stall', {{}}, 1.5, 158")
    details = waits.rules("Booth", TINY).details
    assert (details["as many configurations"], details["the same winner"]) == (0.0, 1.0)
    assert (details["configurations tried"], details["formerly tried"]) == (158.0, 157.0)


def test_a_lower_bound_is_marked() -> None:
    row = Row("now", "stopped", 3.0, "at least", lambda scale: Measured(10.0, 60.0, 600.0, "s", stopped=True))
    heard: list[str] = []
    found = running.run([row], [], TINY, heard.append)
    assert heard[1] == "  at least 10.0 x (target >= 3 x); 60.0 s against at least 600 s; reached"
    assert [str(cell) for cell in running.table(found).rows[0]][3:6] == ["at least 10.0 x", "60.0 s", "at least 600 s"]


@pytest.mark.parametrize("former", [(4.0, 4.5), (9.0,), None])
def test_a_training_is_timed_up_to_the_score_of_the_former_one(
    former: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old version that was stopped has a lower bound; one that gained more is compared with the training in full."""
    asked: list[str] = []

    def command(folder: Path, *words: str, limit: int | None = None) -> tuple[float, float]:
        gained = (3.0, 5.0, 7.0) if folder == waits.ROOT else former
        if "-c" in words:
            asked.append(words[1])
            return 10.0, 12.0
        if gained is not None:
            history = json.dumps({"history": [{"gained": one} for one in gained]})
            Path(words[words.index("--out") + 1], "training.json").write_text(history)
        return (30.0, 40.0) if folder == waits.ROOT else (500.0, 600.0)

    monkeypatch.setattr(waits, "command", command)
    monkeypatch.setattr(waits, "checkout", lambda commit: Path(commit))
    waits.training.cache_clear()
    compared, alone = waits.trained("Booth", Scale()), waits.waited("Booth", Scale())
    waits.training.cache_clear()
    assert (compared.ratio, compared.stopped) == ((50.0, False) if asked else (15.0, former is None))
    assert bool(asked) == (former == (4.0, 4.5))
    assert all("until=2" in source and "Booth" in source for source in asked)
    assert (compared.details["segments timed"], compared.details["gained by then"]) == ((2, 5) if asked else (3, 7))
    assert (alone.ratio, alone.details["orders of magnitude gained on validation instances"]) == (0.5, 7.0)


def test_a_commit_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold the commit 0123456"):
        checkout("0123456")


def test_waits_measure() -> None:
    measured = waits.comparison(TINY)
    assert measured.ratio == pytest.approx(measured.ours / waits.COMPARED)
    with pytest.raises(RuntimeError, match="there_is_none"):
        waits.command(waits.ROOT, "scripts/there_is_none.py")
    _, seconds = waits.command(waits.ROOT, "-c", "while True: pass", limit=1)
    assert 0.5 < seconds < 3.0, "what takes too long is stopped"


def test_curves_of_steps_measure() -> None:
    for curve in steps.CURVES:
        lines = curve.measure(TINY)
        assert all(len(points) >= 2 for points in lines.values())
        assert all(x > 0 and y > 0 for points in lines.values() for x, y in points)


def test_run_and_save(tmp_path: Path) -> None:
    rows = [
        Row("fast", "slow", 2.0, "at least", lambda scale: Measured(3.0, 6.0, 2.0, "us", {"repeats": scale.repeats})),
        Row("slow", "fast", 1.5, "at most", lambda scale: Measured(3.0, 6.0, 2.0, "us")),
    ]
    curves = [Curve("growth", "grown", "n", "us", lambda scale: {"a": [(1, 2), (4, 8)], "b": [(4, 3)]})]
    heard: list[str] = []
    found = running.run(rows, curves, TINY, heard.append, partial(running.save, folder=tmp_path))
    assert len(heard) == 5
    assert heard[1] == "  3.00 x (target >= 2 x); 6.00 us against 2.00 us; repeats 1.00; reached"
    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["reached"] for row in saved["rows"]] == [True, False]
    assert saved["settings"]["threads"]["torch"] >= 1
    assert saved["settings"]["versions"]["torch"]
    assert saved["settings"]["kernels"] == (VARIANT or "none")
    page = (tmp_path / "benchmark.md").read_text()
    assert f"compiled kernels: {VARIANT or 'none'};" in page
    assert "| fast | slow | >= 2 x | 3.00 x | 6.00 us | 2.00 us | yes |" in page
    assert "| slow | fast | <= 1.5 x | 3.00 x | 6.00 us | 2.00 us | NO |" in page
    assert "repeats: 1.00" in page
    assert "| 4 | 8.00 | 3.00 |" in page
    assert "divided by 512" in page, "sizes that are not the targets' are said to be so"
    assert (tmp_path / "grown.png").stat().st_size > 1000
    assert len(running.table(found).rows) == 2


def test_rows_outlast_an_interrupted_run(tmp_path: Path) -> None:
    """Regression: a run interrupted in its last row had printed and saved none of the others."""

    def stopped(scale: Scale) -> Measured:
        raise KeyboardInterrupt

    heard: list[str] = []
    rows = [Row("fast", "slow", 2.0, "at least", lambda scale: Measured(3.0, 6.0, 2.0, "us"))]
    rows.append(Row("slow", "fast", 2.0, "at least", stopped))
    with pytest.raises(KeyboardInterrupt):
        running.run(rows, [], TINY, heard.append, partial(running.save, folder=tmp_path))
    assert any("3.00 x" in line for line in heard)
    assert [row["name"] for row in json.loads((tmp_path / "benchmark.json").read_text())["rows"]] == ["fast"]


def test_a_figure_that_is_none_is_said_to_be_missing(tmp_path: Path) -> None:
    """Regression: where a system does not tell the resident memory, the page said nan and the JSON was none."""
    row = Row("memory", "early", 1.0, "at most", lambda scale: Measured(math.nan, math.nan, math.inf, "MB"))
    running.save(running.run([row], [], TINY, lambda text: None), tmp_path)
    page = (tmp_path / "benchmark.md").read_text()
    assert "| memory | early | <= 1 x | n/a x | n/a MB | n/a MB | NO |" in page
    saved = json.loads((tmp_path / "benchmark.json").read_text(), parse_constant=pytest.fail)
    assert saved["rows"][0]["ratio"] is None


def test_reached() -> None:
    more = Row("a", "b", 2.0, "at least", lambda scale: Measured(0.0, 0.0, 0.0, ""))
    less = Row("a", "b", 2.0, "at most", lambda scale: Measured(0.0, 0.0, 0.0, ""))
    for ratio, enough, little in ((1.9, False, True), (2.0, True, True), (2.1, True, False), (math.nan, False, False)):
        measured = Measured(ratio, 1.0, 1.0, "us")
        assert more.reached(measured) is enough
        assert less.reached(measured) is little


def test_timed_calls_everything_and_knows_fast_from_slow() -> None:
    calls = {"short": 0, "long": 0}

    def work(name: str, loops: int) -> None:
        calls[name] += 1
        sum(range(loops))

    seconds = timed({"short": lambda: work("short", 10), "long": lambda: work("long", 10**5)}, Scale(3, 1e-3))
    assert set(seconds) == {"short", "long"}
    assert min(calls.values()) >= 2 + 3
    assert all(value > 0 for value in seconds.values())


def test_words_choose_rows() -> None:
    rows, _ = running.chosen(["cartpole"])
    assert 0 < len(rows) < len(running.ROWS)
    assert len(running.chosen([])[0]) == len(running.ROWS)
    with pytest.raises(ValueError, match="no row and no curve says 'nonsense'"):
        running.chosen(["nonsense"])


def spin() -> int:
    return sum(range(200_000))


def test_shares_name_what_takes_the_time() -> None:
    found = shares.shares(spin, 0.1)
    assert found["spin (test_benchmark.py)"] > 0.8
    assert max(found.values()) <= 1.0
    shares.work_of("tenth", "Booth", TINY)()
    shares.work_of("step", "MatrixFactorization", TINY)()
    shares.work_of("step", "MLPRegression", replace(TINY, divide=1), count=3)()
