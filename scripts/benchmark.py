"""Measure speed as ratios to other environments and to bare loops; print and save each row as it is measured.

OMP_NUM_THREADS=1 python scripts/benchmark.py --quick --out results/benchmark
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

import command_line
from benchmarks.machine import check_kernels
from benchmarks.rows import FULL, QUICK
from benchmarks.running import chosen, run, save, table
from teleport_env.agents.comparison.tables import terminal
from teleport_env.files import check_folder
from teleport_env.reading import integer


@dataclass(frozen=True)
class Benchmark:
    """What is measured.

    Attributes:
        quick: Take shorter and fewer turns, of the same sizes.
        only: Words: rows and curves whose text has one of them; none: all.
        curves: Measure the curves beside the table.
        threads: Threads of torch; 1 for rows against an earlier state.
        out: Folder for the results.
    """

    quick: bool = False
    only: tuple[str, ...] = ()
    curves: bool = True
    threads: int = 1
    out: Path = Path("results/benchmark")

    def __post_init__(self) -> None:
        rows, _ = chosen(self.only)  # a word that nothing has is refused before anything is measured
        integer("threads", self.threads, 1, 1024)
        earlier = [row.name for row in rows if row.commit]
        if self.threads > 1 and earlier:
            raise ValueError(
                f"threads is {self.threads}, and rows against an earlier state are timed with 1: {earlier[0]} is one of "
                f"{len(earlier)}; ask for other rows with --only"
            )


def main() -> None:
    given = command_line.read(Benchmark, description=__doc__)
    torch.set_num_threads(given.threads)
    console = Console()
    try:
        check_kernels()
        check_folder(given.out)
    except ValueError as error:
        raise SystemExit(f"benchmark: {error}") from error
    rows, curves = chosen(given.only)
    scale = QUICK if given.quick else FULL
    found = run(
        rows, curves if given.curves else (), scale, partial(print, flush=True), partial(save, folder=given.out)
    )
    console.print(terminal(table(found)))
    console.print(f"Saved as {given.out.resolve() / 'benchmark.md'} and benchmark.json")


if __name__ == "__main__":
    main()
