"""Measure speed as ratios to other environments and to bare loops; print the table and save it.

OMP_NUM_THREADS=1 python scripts/benchmark.py --quick --out results/benchmark
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.rows import FULL, QUICK
from benchmarks.running import chosen, run, save, table
from teleport_env.agents.comparison.tables import terminal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter and fewer turns, of the same sizes")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows and curves whose text has a WORD")
    parser.add_argument("--no-curves", dest="curves", action="store_false", help="the table alone")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"), help="folder for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    try:
        rows, curves = chosen(arguments.only)
    except ValueError as error:
        raise SystemExit(f"benchmark: {error}") from error
    found = run(rows, curves if arguments.curves else (), QUICK if arguments.quick else FULL, console.print)
    save(found, arguments.out)
    console.print(terminal(table(found)))
    console.print(f"Saved as {arguments.out / 'benchmark.md'} and benchmark.json")


if __name__ == "__main__":
    main()
