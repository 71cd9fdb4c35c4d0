"""Compare teleport schedules: tune, play, write a table and a page.

python scripts/compare.py --problems Rosenbrock Booth --instances 64 --seeds 2 --out results/compare
python scripts/compare.py --protocol full --out results/full --page docs/results.md
python scripts/compare.py --protocol transfer --out results/transfer --page docs/transfer.md
"""

from __future__ import annotations

from rich.console import Console

from study.command import read
from study.protocol import Protocol, gather
from study.transfer import Transfer, gather_transfer
from teleport_env.agents.comparison.study import run_study
from teleport_env.agents.comparison.summary import terminal_tables
from teleport_env.agents.comparison.tables import terminal


def main() -> None:
    console, asked = Console(), read(__doc__ or "")
    try:
        if isinstance(asked, Transfer):
            from study.transfer_page import table_of_findings, write_transfer

            written = write_transfer(gather_transfer(asked, console.print))
            console.print(terminal(table_of_findings(written["findings"])))
            console.print(f"The page: {written['markdown']}")
            return
        if isinstance(asked, Protocol):
            from study.results_page import table_of_findings, write_results

            found = write_results(gather(asked, console.print))
        else:
            found = run_study(asked, console.print)
    except (ValueError, ImportError, FileNotFoundError) as error:
        raise SystemExit(f"compare: {error}") from error
    for table in terminal_tables(found["summary"], asked.split):
        console.print(terminal(table))
    if isinstance(asked, Protocol):
        console.print(terminal(table_of_findings(found["findings"]).only("holds", "target")))
        console.print(f"The page: {found['markdown']}")
    console.print(f"{found['settings']['seconds']} s. Open {found['page']}")


if __name__ == "__main__":
    main()
