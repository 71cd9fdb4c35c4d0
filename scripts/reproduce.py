"""Reproduce the paper: a figure's picture, CSV and rows of claims.

python scripts/reproduce.py figure2                   # the quick form, minutes
python scripts/reproduce.py figure4 --full --data-dir data/mnist
python scripts/reproduce.py all --page docs/reproduction.md
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from reproduction import FIGURES, Setup, reproduce
from reproduction.figures import write_page


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["all", *FIGURES]
    parser.add_argument("figures", nargs="+", choices=names, metavar="FIGURE", help=", ".join(names))
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", dest="quick", action="store_false", help="the published sizes: hours")
    form.add_argument("--quick", action="store_true", default=True, help="few seeds, small sizes (default)")
    parser.add_argument("--data-dir", type=Path, help="folder with MNIST's IDX files, for figures 4 and 5")
    parser.add_argument("--epochs", type=int, help="of figures 4 and 5, in place of the form's own")
    parser.add_argument("--seeds", type=int, help="likewise")
    parser.add_argument("--out", type=Path, default=Path("results/reproduction"), help="folder for the results")
    parser.add_argument("--page", type=Path, help="write the page of all results in --out, its pictures beside it")
    given = parser.parse_args()
    if given.data_dir is not None and not given.data_dir.is_dir():
        parser.error(f"--data-dir must be a folder with MNIST's files, got {given.data_dir}: there is no such folder")
    return given


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)  # small tensors; the figures are reproducible to the last bit this way
    try:
        setup = Setup(quick=given.quick, data_dir=given.data_dir, epochs=given.epochs, seeds=given.seeds)
        named = list(FIGURES) if "all" in given.figures else given.figures
        for name in named:
            began = time.perf_counter()
            files = reproduce(name, setup, given.out)
            print(f"{name}: {time.perf_counter() - began:.0f} s, {', '.join(file.name for file in files)}", flush=True)
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SystemExit(f"reproduce: {error}") from error
    if given.page:
        older = [name for name in FIGURES if name not in named and (given.out / f"{name}.json").exists()]
        if older:
            print(f"from earlier runs, found in {given.out}: {', '.join(older)}")
        write_page(given.page, given.out)
        print(f"wrote {given.page}")


if __name__ == "__main__":
    main()
