"""Compare teleport schedules: tune, play, write a table and a page.

python scripts/compare.py --problems Rosenbrock Booth --instances 64 --seeds 2 --out results/compare
python scripts/compare.py --problems my_module:Mine --agents never every:k=3 model.zip --trust --out results/mine
python scripts/compare.py --protocol full --out results/full --page docs/results.md
python scripts/compare.py --protocol transfer --out results/transfer --page docs/transfer.md
python scripts/compare.py --protocol factorial --out results/factorial --page docs/factorial.md
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console

import command_line
from study.factorial import Factorial, gather_factorial
from study.page import table_of_findings
from study.protocol import Protocol, gather
from study.transfer import Transfer, gather_transfer
from teleport_env.agents.comparison.references import REFERENCES
from teleport_env.agents.comparison.study import Study, run_study
from teleport_env.agents.comparison.summary import menus_of, terminal_tables
from teleport_env.agents.comparison.tables import terminal
from teleport_env.agents.naming import described_agents

PROTOCOLS: dict[str, type[Study] | type[Protocol] | type[Transfer] | type[Factorial]] = {
    "study": Study,
    "full": Protocol,
    "transfer": Transfer,
    "factorial": Factorial,
}

QUICK: dict[str, Any] = {
    "instances": 6,
    "train_seeds": 1,
    "train_decisions": 512,
    "plans": 8,
    "rules": 8,
    "oracle": 8,
    "look_ahead": 2,
    "tuning_instances": 1,
    "training": {"runs": 32, "rollout": 8, "segment": 1, "plans": 8, "validation_instances": 8},
}
"""The full protocol, transfer and the factorial, so small that nothing is learned from it."""
QUICK_PROBLEMS = {
    "full": ("Booth",),
    "transfer": ("Booth", "Rosenbrock", "MatrixFactorization"),
    "factorial": ("Booth",),
}
"""Problems of such a rehearsal, where none is named. To leave one out of training takes two others that are not its kin."""


@dataclass(frozen=True)
class Which:
    """Which comparison.

    Attributes:
        protocol: ``full``: tune, train, play, and say what holds; ``transfer``: the same where policies were not trained;
            ``factorial``: what teleports add to each way to choose the rate; ``study``: tune and play. Each has options of
            its own, which ``--protocol NAME --help`` lists.
        quick: Everything tiny, and one problem (of ``transfer`` three) where none is named: a rehearsal of the code of
            ``full``, ``transfer`` and ``factorial``.
    """

    protocol: Literal["study", "full", "transfer", "factorial"] = "study"
    quick: bool = False

    def __post_init__(self) -> None:
        if self.quick and self.protocol == "study":
            raise ValueError("--quick makes a protocol small: give --protocol full, transfer or factorial")


def read(description: str, words: Sequence[str] | None = None) -> Study | Protocol | Transfer | Factorial:
    """The settings that were asked for.

    Args:
        description: Description of the script.
        words: The command line; None: that of this process.

    Raises:
        SystemExit: An option of another protocol, or a value that is not allowed; the reason is on stderr. Also after
            ``--agents help``.
    """
    which = command_line.glance(Which, words)
    kind = PROTOCOLS[which.protocol]
    small = {name: value for name, value in QUICK.items() if which.quick and name in kind.__dataclass_fields__}
    if which.quick:
        small["problems"] = QUICK_PROBLEMS[which.protocol]
    fields: list[Any] = [("which", Which, which), ("asked", kind, kind(**small))]
    foreign = {name for other in PROTOCOLS.values() for name in other.__dataclass_fields__} - set(
        kind.__dataclass_fields__
    )
    command_line.refuse(foreign, words, f"no option of --protocol {which.protocol}")
    command: Any = command_line.read(dataclasses.make_dataclass("Command", fields), words, description=description)
    asked: Study | Protocol | Transfer | Factorial = command.asked
    if isinstance(asked, Study) and "help" in asked.agents:
        print(described_agents())
        print(f"Solvers, without settings: {', '.join(REFERENCES)}.")
        raise SystemExit(0)
    return asked


def _page_of(asked: Transfer | Factorial, console: Console) -> dict[str, Any]:
    if isinstance(asked, Factorial):
        from study.factorial_page import write_factorial

        return write_factorial(gather_factorial(asked, console.print))
    from study.transfer_page import write_transfer

    return write_transfer(gather_transfer(asked, console.print))


def main() -> None:
    began = time.perf_counter()
    console, asked = Console(), read(__doc__ or "")
    try:
        if isinstance(asked, Transfer | Factorial):
            written = _page_of(asked, console)
            console.print(terminal(table_of_findings(written["findings"])))
            console.print(f"The page: {written['markdown'].resolve()}")
            return
        if isinstance(asked, Protocol):
            from study.results_page import write_results

            found = write_results(gather(asked, console.print))
        else:
            found = run_study(asked, console.print)
    except (ValueError, ImportError, FileNotFoundError) as error:
        raise SystemExit(f"compare: {error}") from error
    for table, (_, rows) in zip(
        terminal_tables(found["summary"], asked.split), found["summary"].groupby("problem", sort=False), strict=True
    ):
        console.print(terminal(table))
        console.print(*menus_of(rows), "", sep="\n", markup=False, highlight=False)
    if isinstance(asked, Protocol):
        targets = [one for one in found["findings"] if not one.aside]
        console.print(terminal(table_of_findings(targets).only("holds", "target")))
        console.print(f"The page: {found['markdown'].resolve()}")
    console.print(f"Done after {time.perf_counter() - began:.0f} s, pictures included. Open {found['page'].resolve()}")


if __name__ == "__main__":
    main()
