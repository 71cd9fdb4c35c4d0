"""Compare teleport schedules: tune, play, write a table and a page.

python scripts/compare.py --problems Rosenbrock Booth --instances 64 --seeds 2 --out results/compare
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from teleport_env.agents.comparison.study import Study, known_agents, run_study
from teleport_env.agents.comparison.terminal import tables


def settings() -> Study:
    default = Study()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(default.problems), help="registered problems")
    parser.add_argument("--agents", nargs="+", default=[], help=f"default: each problem's roster; of {known_agents()}")
    parser.add_argument("--policies", nargs="+", type=Path, default=[], help="files that scripts/train.py has written")
    parser.add_argument("--split", default=default.split, choices=["paper", "train", "validation", "test"])
    parser.add_argument("--instances", type=int, default=default.instances, help="instances a problem")
    parser.add_argument("--seeds", type=int, default=default.seeds, help="episodes an instance and agent")
    parser.add_argument("--budget", type=float, help="gradient evaluations an episode; default: the problem's")
    parser.add_argument("--tuning-instances", type=int, default=default.tuning_instances, help="0: default rates")
    parser.add_argument("--no-references", dest="references", action="store_false", help="without SciPy's methods")
    parser.add_argument("--seed", type=int, default=default.seed, help="of the choice of instances")
    parser.add_argument("--jobs", type=int, default=default.jobs, help="processes; -1: one a core")
    parser.add_argument("--out", type=Path, default=default.out, help="folder for the results")
    given: dict[str, Any] = vars(parser.parse_args())
    return Study(**{**given, **{name: tuple(given[name]) for name in ("problems", "agents", "policies")}})


def main() -> None:
    console = Console()
    try:
        study = settings()
        found = run_study(study, console.print)
    except (ValueError, ImportError, FileNotFoundError) as error:
        raise SystemExit(f"compare: {error}") from error
    for table in tables(found["summary"], study.split):
        console.print(table)
    console.print(f"{found['settings']['seconds']} s. Open {found['page']}")


if __name__ == "__main__":
    main()
