"""Tune the agents of comparisons once, on the train split, and keep their settings as data in the package.

python scripts/tune.py --problems Booth Rosenbrock

A comparison then plays these agents as they are. One file per problem is written, `agents/tuned/<problem>.json`.
"""

from __future__ import annotations

import sys

from rich.console import Console

import command_line
from study.keeping import Tuning, tune
from teleport_env.files import check_folder


def main() -> None:
    console = Console()
    try:
        tuning = command_line.read(Tuning, description=__doc__)
        check_folder(tuning.out)
        for problem in tuning.problems:
            kept = tune(problem, tuning)
            for name, entry in kept.agents.items():
                console.print(f"{problem} {name}: {entry['gained']:.2f} of {entry['tried']}", highlight=False)
            console.print(f"Written: {kept.save(tuning.out)}")
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"tune: {error}")


if __name__ == "__main__":
    main()
