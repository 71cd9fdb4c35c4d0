"""The table of figures, and making one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.machine import processor
from reproduction.pieces import processor_seconds
from reproduction.results import Findings, Setup, page
from teleport_env.files import write
from teleport_env.reading import known


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, or a claim without one.

    Attributes:
        module: Module of this package that makes it.
        function: Its function, ``Setup -> Findings``.
        title: Heading on the page.
        part: Part of the paper under which the top of the page counts its claims.
    """

    module: str
    function: str
    title: str
    part: str

    def make(self, setup: Setup) -> Findings:
        """Play the experiment, and take the time of it."""
        began, worked = time.perf_counter(), processor_seconds()
        module = import_module(f"reproduction.{self.module}")
        function: Callable[[Setup], Findings] = getattr(module, self.function)
        found = function(setup)
        found.form = "quick" if setup.quick else "full"
        found.seconds, found.processor_seconds = time.perf_counter() - began, processor_seconds() - worked
        found.machine = machine(setup.jobs)
        return found


def machine(jobs: int) -> str:
    """The processor, its cores, and the processes that played on them."""
    cores = os.cpu_count() or 1
    processes = cores if jobs < 0 else jobs
    return f"{processor()}, {cores} cores, {processes} process{'es' if processes > 1 else ''}"


FIGURES: dict[str, Figure] = {
    "figure1": Figure("plane", "ellipse", "Figure 1: the ellipse", "Test functions"),
    "figure2": Figure("plane", "test_functions", "Figure 2: the Rosenbrock and Booth functions", "Test functions"),
    "figure3": Figure("regression", "regression", "Figure 3: regression by a network", "Regression"),
    "figure4": Figure("classification", "classification", "Figure 4: classification of digits", "Classification"),
    "figure5": Figure("timing", "timing", "Figure 5: when, how often, on how many mini-batches", "Classification"),
    "figure6": Figure(
        "runtime", "runtime", "Figure 6: runtime against width and depth", "Runtime, moving data, factorization"
    ),
    "figure7": Figure("plane", "gradients", "Figure 7: gradient against loss on both functions", "Test functions"),
    "figure8": Figure("sweep", "sweep", "Figure 8: ascent steps and rates", "Regression"),
    "algorithm3": Figure(
        "data_transform", "data_transform", "Algorithm 3: data that move too", "Runtime, moving data, factorization"
    ),
    "discussion": Figure(
        "discussion",
        "discussion",
        "Discussion: factorization, imbalance, permutations",
        "Runtime, moving data, factorization",
    ),
}


def write_page(path: Path, folder: Path) -> None:
    """Write the page of all results that lie in ``folder`` to ``path``, its appendix and its pictures beside it.

    Raises:
        ValueError: There are none.
    """
    if not any((folder / f"{name}.json").exists() for name in FIGURES):
        raise ValueError(f"no results in {folder}: name figures to play, or by --out the folder of an earlier run")
    images = path.parent / "images" / "reproduction"
    for picture in folder.glob("*.png"):
        write(images / picture.name, picture.read_bytes())
    write(path, page(FIGURES, folder, "images/reproduction"))
    write(details_of(path), page(FIGURES, folder, "images/reproduction", "details.md.j2"))


def details_of(path: Path) -> Path:
    """The appendix beside a page."""
    return path.with_name(f"{path.stem}-details.md")


def reproduce(name: str, setup: Setup, folder: Path) -> list[Path]:
    """Make a figure and write it; returns the files.

    Raises:
        ValueError: There is no such figure.
    """
    name = known("figure", name, FIGURES)
    return FIGURES[name].make(setup).write(name, folder)
