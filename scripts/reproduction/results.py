"""What a figure finds, and the page that tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HOLDS = ("yes", "partly", "no", "not shown", "not comparable")
"""What may become of a claim. *Not shown*: the interval covers both outcomes. *Not comparable*: nothing is against it."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How thoroughly a figure is made.

    Attributes:
        quick: Few seeds and small sizes: the figures of the page, in minutes. Otherwise the published sizes.
        tiny: So small that nothing is learned from it; for tests of the code alone.
        data_dir: Folder with MNIST's IDX files for the classification figures; None: scikit-learn's digits, and the files
            in the folder that ``TELEPORT_ENV_DATA`` names, if it is set.
        epochs, seeds: Of the classification figures and, at most as many, of their sweeps, in place of the form's own; None:
            the form's own.
    """

    quick: bool = True
    tiny: bool = False
    data_dir: Path | None = None
    epochs: int | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("epochs", self.epochs, 2), ("seeds", self.seeds, 1)):
            if value is not None and value < least:  # the teleport comes after the first epoch
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def pick(self, *, full: int, quick: int, tiny: int) -> int:
        """One of three sizes."""
        return tiny if self.tiny else quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim.

    Attributes:
        claim: What the paper says or shows, or what its released code gives; in our words.
        obtained: What we got, with numbers.
        holds: One of `HOLDS`.
        why: Where it does not hold, the reason; else anything worth knowing.
    """

    claim: str
    obtained: str
    holds: str
    why: str = ""

    def __post_init__(self) -> None:
        if self.holds not in HOLDS:
            raise ValueError(f"holds must be one of {', '.join(map(repr, HOLDS))}, got {self.holds!r}")


@dataclass
class Findings:
    """Everything a figure found.

    Attributes:
        rows: Its claims.
        pictures: File name without ending -> picture.
        tables: File name without ending -> frame, written as CSV.
        settings: One sentence each: what was played, and which settings are ours because the paper has none.
        form: ``"quick"`` or ``"full"``, as it was made.
    """

    rows: list[Row]
    pictures: dict[str, Figure]
    tables: dict[str, pd.DataFrame]
    settings: list[str] = field(default_factory=list)
    form: str = "quick"

    def write(self, name: str, folder: Path) -> list[Path]:
        """Write all under ``folder`` and return the files; the rows go to ``<name>.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for stem, picture in self.pictures.items():
            files.append(folder / f"{stem}.png")
            picture.savefig(files[-1], dpi=110)
        for stem, table in self.tables.items():
            if table.empty:  # nothing was swept
                continue
            files.append(folder / f"{stem}.csv")
            table.to_csv(files[-1], index=False, float_format="%.6g")
        files.append(folder / f"{name}.json")
        content = {
            "form": self.form,
            "settings": self.settings,
            "rows": [asdict(row) for row in self.rows],
            "pictures": list(self.pictures),
        }
        files[-1].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return files


def page(titles: Mapping[str, str], folder: Path, images: str) -> str:
    """The page ``docs/reproduction.md`` from what was written into ``folder``.

    Args:
        titles: Figure -> its heading, in the page's order; figures whose JSON is missing are left out.
        folder: Where `Findings.write` wrote.
        images: Path of the pictures from the page.
    """
    found = {name: folder / f"{name}.json" for name in titles}
    content = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}
    lines = [
        "# The paper, reproduced",
        "",
        "Zhao, Dehmamy, Walters, Yu, *Symmetry Teleportation for Accelerated Optimization*, NeurIPS 2022 "
        "([arXiv 2205.10637](https://arxiv.org/abs/2205.10637)). Every experiment is played through the public "
        "environments by "
        "a schedule that issues the teleports. This page is written by `make reproduce` (the quick form; "
        "`scripts/reproduce.py FIGURE --full` plays the published sizes; the table says which form a figure has here). The "
        "propositions are in `tests/theory/`.",
        "",
        "What the released code does was read in that code; it covers figures 2, 3 and 7. The claims of figures 4, 5, 6 "
        "and 8 and of the discussion were checked against public reading notes of the paper's third version, not against "
        "the paper itself, whose text was not to be had; the numbers of its propositions, but for 5.1, are unchecked. "
        "*Steps* are counted from 0. Published settings are called published, all others are ours.",
        "",
        "*Not shown* are claims whose 95 % interval covers both outcomes; *not comparable* those that nothing stands "
        "against: findings of ours, and single runs.",
        "",
        "| | form | claims | hold | partly | do not hold | not shown | not comparable |",
        "|---|---|---|---|---|---|---|---|",
        *_overview(titles, content),
        "",
    ]
    for name, part in content.items():
        lines += [f"## {titles[name]}", ""]
        lines += [f"![{titles[name]}]({images}/{picture}.png)" for picture in part["pictures"]]
        lines += ["", *(f"* {sentence}" for sentence in part["settings"]), ""]
        lines += ["| claim | obtained | holds | |", "|---|---|---|---|"]
        lines += [
            "| " + " | ".join(_cell(row[key]) for key in ("claim", "obtained", "holds", "why")) + " |"
            for row in part["rows"]
        ]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _overview(titles: Mapping[str, str], content: Mapping[str, dict]) -> Iterable[str]:
    for name, part in content.items():
        verdicts = [row["holds"] for row in part["rows"]]
        counts = " | ".join(str(verdicts.count(verdict) or "") for verdict in HOLDS)
        yield f"| {titles[name]} | {part['form']} | {len(verdicts)} | {counts} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def verdict(checks: Sequence[bool | None]) -> str:
    """``"yes"`` where all hold, ``"partly"`` where some do, ``"no"`` where all fail; None is a check that is undecided, and
    where none holds and one is undecided the claim is ``"not shown"``."""
    if all(checks):
        return "yes"
    if any(checks):
        return "partly"
    return "not shown" if None in checks else "no"


def sign(middle: float, half: float, clean: bool = True) -> bool | None:
    """Whether an interval lies below 0 (True), above (False), or covers it (None); an unclean one is never below."""
    if middle + half < 0.0:
        return True if clean else None
    return False if middle - half > 0.0 else None
