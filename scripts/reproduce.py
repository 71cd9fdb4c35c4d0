"""Reproduce the paper: a figure's picture, CSV and rows of claims.

python scripts/reproduce.py figure2                   # the quick form, minutes
python scripts/reproduce.py figure4 --full --data-dir data/mnist
python scripts/reproduce.py all --page docs/reproduction.md
python scripts/reproduce.py --page docs/reproduction.md    # of earlier results, nothing is played
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

import command_line
from reproduction import FIGURES, Setup, reproduce
from reproduction.figures import details_of, write_page
from teleport_env.files import check_file, check_folder
from teleport_env.reading import integer, known


@dataclass(frozen=True)
class Reproduction:
    """Which figures, and how thoroughly.

    Attributes:
        figures: Names of figures and claims: all, figure1 to figure8, algorithm3, discussion; none: only the page.
        full: Play the published sizes, for hours.
        quick: Play few seeds and small sizes, which is the default.
        data_dir: Folder with MNIST's IDX files, for the classification and its schedules, figures 4 and 5; None: without.
        epochs: Epochs of both; None: the form's own.
        seeds: Seeds of both; None: the form's own.
        jobs: Processes; -1: one per core. Results do not depend on it, but for what is timed.
        out: Folder for the results.
        page: Page of all results in ``out`` to write, its pictures beside it; None: no page.
    """

    figures: tuple[str, ...]
    full: bool = False
    quick: bool = False
    data_dir: Path | None = None
    epochs: int | None = None
    seeds: int | None = None
    jobs: int = -1
    out: Path = Path("results/reproduction")
    page: Path | None = None

    def __post_init__(self) -> None:
        named = [known("figure", name, ("all", *FIGURES)) for name in self.figures]
        if len(set(named)) < len(named):
            raise ValueError(f"figures must be different names, got {' '.join(named)}")
        if not named and self.page is None:
            raise ValueError("figures must be one or more names where --page is not given, got none")
        object.__setattr__(self, "figures", tuple(FIGURES) if "all" in named else tuple(named))
        if self.full and self.quick:
            raise ValueError("--full and --quick exclude each other: give one of them")
        for name, least in (("epochs", 2), ("seeds", 1)):  # the teleport comes after the first epoch
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), least, 10_000)
        if self.jobs != -1:
            integer("jobs", self.jobs, 1, 10_000)
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise ValueError(f"--data-dir must be a folder with MNIST's files, got {self.data_dir}: no such folder")


def main() -> None:
    given = command_line.read(Reproduction, description=__doc__)
    torch.set_num_threads(1)  # small tensors; the figures are reproducible to the last bit this way
    try:
        setup = Setup(
            quick=not given.full,
            data_dir=given.data_dir,
            epochs=given.epochs,
            seeds=given.seeds,
            jobs=given.jobs,
        )
        check_folder(given.out)
        if given.page:
            check_file(given.page)
        for name in given.figures:
            began = time.perf_counter()
            files = reproduce(name, setup, given.out)
            print(
                f"{name}: {time.perf_counter() - began:.0f} s",
                *(f"  {file.resolve()}" for file in files),
                sep="\n",
                flush=True,
            )
        if given.page:
            older = [name for name in FIGURES if name not in given.figures and (given.out / f"{name}.json").exists()]
            if older:
                print(f"from earlier runs, found in {given.out.resolve()}: {', '.join(older)}")
            write_page(given.page, given.out)
            print(f"wrote {given.page.resolve()} and {details_of(given.page).resolve()}")
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SystemExit(f"reproduce: {error}") from error


if __name__ == "__main__":
    main()
