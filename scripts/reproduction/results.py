"""What a figure finds, and the page that tells of it."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import combinations, combinations_with_replacement
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jinja2
import numpy as np
from scipy import stats

from teleport_env.agents.comparison.tables import MISSING, Table, listed, render, to_json
from teleport_env.files import draft, write
from teleport_env.progress import DIVERGED_ABOVE
from teleport_env.reading import known

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HOLDS = ("yes", "partly", "no", "not shown", "not comparable")
"""What may become of a claim. *Not shown*: the interval covers both outcomes. *Not comparable*: there is
nothing to compare with, or what would decide does not take place, as where too few runs last."""

APPROXIMATE = "yes, first-order form only"
"""What the page says of a ``"yes"`` by the paper's approximate action, where the exact one gives another verdict."""

UNEXPLAINED = "Not known: earlier runs gave another verdict."
"""The reason of a row whose words explain another verdict."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How thoroughly a figure is made.

    Attributes:
        quick: Few seeds and small sizes: the figures of the page, in minutes. Otherwise the published sizes.
        tiny: Whether sizes are so small that nothing is learned from them; for tests of the code alone.
        data_dir: Folder with MNIST's IDX files for the classification figures; None: scikit-learn's digits, and the files
            in the folder that ``TELEPORT_ENV_DATA`` names, if it is set.
        epochs, seeds: Epochs and seeds of the classification figures and, at most as many, of their sweeps, in place of
            the form's own; None: the form's own.
        jobs: Processes that play; -1: one per core. Results do not depend on it.
    """

    quick: bool = True
    tiny: bool = False
    data_dir: Path | None = None
    epochs: int | None = None
    seeds: int | None = None
    jobs: int = 1

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
        claim: Statement of the paper, or result of its released code; in our words.
        obtained: Result that we got, with numbers.
        holds: One of `HOLDS`.
        why: Reason, where it does not hold; else anything worth knowing.
        short: Result that we got, in a line, for the page; empty: the row is in the appendix alone.
        because: The reason in one sentence, for the page.
        exact: Verdict by the paper's exact action, where the approximate one decides; else empty.
        literal: Verdict by the paper's action as it is, side effects included, where that is not comparable; else empty.
        headline: Sentence for the top of the page; it may be empty.
        ours: A question of this project's, no claim of the paper's.
    """

    claim: str
    obtained: str
    holds: str
    why: str = ""
    short: str = ""
    because: str = ""
    exact: str = ""
    literal: str = ""
    headline: str = ""
    ours: bool = False

    def __post_init__(self) -> None:
        known("holds", self.holds, HOLDS)
        for name in ("exact", "literal"):
            known(name, getattr(self, name), ("", *HOLDS))


def rows(verdicts: Mapping[str, str | Sequence[bool | None]], names: Mapping[str, Any]) -> list[Row]:
    """Claims whose texts are in ``claims.toml``.

    Args:
        verdicts: Name there, such as ``figure2.valley``, to one of `HOLDS` or to the checks of a `verdict`.
        names: Values that the texts may name: ``globals() | locals()`` where the claims are made.
    """
    found = []
    for name, checks in verdicts.items():
        figure, claim = name.split(".")
        written = _texts()[figure][claim]
        texts = {key: _filled(text, names) for key, text in written.items() if isinstance(text, str)}
        holds = checks if isinstance(checks, str) else verdict(checks)
        if texts.pop("explains", holds) != holds:
            texts |= {"because": UNEXPLAINED, "headline": ""}
        found.append(Row(holds=holds, ours=written.get("ours", False), **texts))
    return found


def settings_of(figure: str, **figures: Any) -> list[str]:
    """The sentences above a figure's claims, from ``claims.toml``."""
    return [_filled(text, figures) for text in _texts()[figure]["settings"]]


def note_of(figure: str, **figures: Any) -> str:
    """The sentences under a figure's heading, from ``claims.toml``."""
    return _filled(_texts()[figure]["note"], figures)


def _filled(text: str, figures: Mapping[str, Any]) -> str:
    return jinja2.Template(text, undefined=jinja2.StrictUndefined).render(
        {"median": np.median, "signed": signed, "undecided": undecided, "verdict": verdict, **figures}
    )


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))


@dataclass
class Findings:
    """Everything a figure found.

    Attributes:
        rows: Its claims.
        pictures: File name without ending -> picture.
        tables: File name without ending -> frame, written as CSV.
        settings: One sentence each: what was played, and which settings are ours because the paper has none.
        form: ``"quick"`` or ``"full"``, as it was made.
        note: Remark on the experiment for the page, a sentence or two; it may be empty.
        seconds, processor_seconds: Time that it took by the clock, and of all processes together; 0: not taken.
        machine: Machine on which it was made.
    """

    rows: list[Row]
    pictures: dict[str, Figure]
    tables: dict[str, pd.DataFrame]
    settings: list[str] = field(default_factory=list)
    form: str = "quick"
    note: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    machine: str = ""

    def write(self, name: str, folder: Path) -> list[Path]:
        """Write all under ``folder`` and return the files; the rows go to ``<name>.json``."""
        files = []
        for stem, picture in self.pictures.items():
            files.append(folder / f"{stem}.png")
            with draft(files[-1]) as made:
                picture.savefig(made, dpi=110)
        for stem, table in self.tables.items():
            if table.empty:  # nothing was swept
                continue
            files.append(folder / f"{stem}.csv")
            write(files[-1], table.to_csv(index=False, float_format="%.6g"))
        files.append(folder / f"{name}.json")
        content = {
            "form": self.form,
            "note": self.note,
            "seconds": round(self.seconds, 1),
            "processor_seconds": round(self.processor_seconds, 1),
            "machine": self.machine,
            "settings": self.settings,
            "rows": [asdict(row) for row in self.rows],
            "pictures": list(self.pictures),
        }
        write(files[-1], to_json(content, indent=1))
        return files


def tally(verdicts: Sequence[str], literal: Sequence[str] = ()) -> str:
    """How many claims hold, in words; the verdicts are of `HOLDS` or `APPROXIMATE`, and ``literal`` are `Row.literal` of
    those that are not comparable."""
    counts = Counter(verdicts)
    only = counts[APPROXIMATE]
    told = f"{counts['yes'] + only} of {len(verdicts)} claims hold"
    told += f" ({only} of them only with the paper's first-order form)" if only else ""
    others = ", ".join(f"{one} {counts[one]}" for one in HOLDS[1:] if counts[one])
    counted = Counter(literal)
    as_it_is = ", ".join(f"{one} {counted[one]}" for one in HOLDS if counted[one])
    return (f"{told}. The others: {others}" if others else told) + (f" (as it is: {as_it_is})" if as_it_is else "")


class Section(Protocol):
    """What the page says above an experiment's rows."""

    @property
    def title(self) -> str: ...
    @property
    def part(self) -> str: ...


def page(figures: Mapping[str, Section], folder: Path, images: str, template: str = "page.md.j2") -> str:
    """The page ``docs/reproduction.md``, or by ``details.md.j2`` its appendix, from what was written into ``folder``.

    Args:
        figures: Table of figures, in the page's order; those whose JSON is missing are left out.
        folder: Folder in which `Findings.write` wrote.
        images: Path of the pictures from the page.
        template: File in ``templates``.
    """
    files = {name: folder / f"{name}.json" for name in figures}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    parts: dict[str, list[str]] = {}
    literal: dict[str, list[str]] = {}
    for name, content in found.items():
        shown = [row for row in content["rows"] if row["short"] and not row["ours"]]
        for row in content["rows"]:
            only = row["holds"] == "yes" and row.get("exact") not in (None, "", "yes")
            row["verdict"] = APPROXIMATE if only else row["holds"]
            beside = row.get("literal") if row["holds"] == "not comparable" else ""
            row["verdicts"] = row["verdict"] + (f" (as it is: {beside})" if beside else "")
        parts.setdefault(figures[name].part, []).extend(row["verdict"] for row in shown)
        asked = (row.get("literal") for row in shown if row["holds"] == "not comparable")
        literal.setdefault(figures[name].part, []).extend(one for one in asked if one)

    def table(content: Mapping[str, Any], keys: Sequence[str], heads: Sequence[str], ours: bool) -> Table | None:
        chosen = [row for row in content["rows"] if row["ours"] is ours and row[keys[1]]]
        return listed(heads, ([row[key] for key in keys] for row in chosen), words=4, prose=True) if chosen else None

    def tables(content: Mapping[str, Any]) -> dict[str, Table | None]:
        brief = ("claim", "short", "verdict", "because"), ("claim", "what came out", "holds", "why")
        whole = ("claim", "obtained", "verdicts", "why"), ("claim", "obtained", "holds", "")
        asked = ("claim", "obtained", "why"), ("question", "obtained", "")
        return {
            "brief": table(content, *brief, False),
            "whole": table(content, *whole, False),
            "asked": table(content, *asked, True),
        }

    everything = [row for content in found.values() for row in content["rows"]]
    questions = [row for row in everything if row["short"] and row["ours"]]
    filled = render(
        template,
        Path(__file__).parent / "templates",
        work=sum(content["processor_seconds"] for content in found.values()) / 60.0,
        machines=sorted({content["machine"] for content in found.values() if content["machine"]}),
        all_claims=tally(*([one for each in found.values() for one in each] for found in (parts, literal))),
        parts={name: tally(verdicts, literal[name]) for name, verdicts in parts.items() if verdicts},
        headlines=[row["headline"] for row in everything if row.get("headline")],
        figures=[{**content, "title": figures[name].title, **tables(content)} for name, content in found.items()],
        questions=listed(
            ("question", "what came out", "why"),
            ([row["claim"], row["short"], row["because"]] for row in questions),
            words=3,
            prose=True,
        ),
        images=images,
        diverged_above=f"{DIVERGED_ABOVE:g}",
    )
    return filled.rstrip("\n") + "\n"


FEWEST = 5
"""Values that an interval takes at least."""


def interval_of(values: np.ndarray, normal: bool = False) -> tuple[float, float]:
    """Mean of the finite values and half the width of its 95 % interval: Student's, or the ``normal`` one of many values.

    The half is infinite where there are fewer than `FEWEST` values, and the mean NaN where there is none.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        return float(values.mean()) if len(values) else np.nan, np.inf
    quantile = 1.96 if normal else float(stats.t.ppf(0.975, len(values) - 1))
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def crossed(values: np.ndarray) -> tuple[float, float]:
    """Mean of the finite values ``(turns, seeds)`` and half the width of its 95 % interval: that over the seeds and that
    over the turns of a measurement of time, each Student's, as the sides of a right angle.

    The half is infinite where seeds or turns are fewer than `FEWEST`.
    """
    kept = values[:, np.isfinite(values).all(axis=0)]
    if not kept.size:
        return np.nan, np.inf
    (middle, seeds), (_, turns) = (interval_of(kept.mean(axis=axis)) for axis in (0, 1))
    return middle, float(np.hypot(seeds, turns))


def resamples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """All draws of so many values with replacement, without their order: how often each is drawn ``(draws, count)``, and
    the probabilities ``(draws,)``. For few values: of five there are 126."""
    drawn = combinations_with_replacement(range(count), count)
    times = np.array([np.bincount(values, minlength=count) for values in drawn])
    return times, stats.multinomial.pmf(times, count, np.full(count, 1.0 / count))


def subsets(count: int) -> tuple[list[list[int]], np.ndarray]:
    """What is drawn at all in ``count`` draws with replacement from so many, which is what the least of the draws depends
    on: all subsets, and their probabilities ``(2^count - 1,)``."""
    sizes = range(1, count + 1)
    chance = {
        size: sum((-1) ** gone * comb(size, gone) * ((size - gone) / count) ** count for gone in range(size + 1))
        for size in sizes
    }
    found = [list(drawn) for size in sizes for drawn in combinations(range(count), size)]
    return found, np.array([chance[len(drawn)] for drawn in found])


def signed(middle: float, half: float, missing: str = MISSING) -> str:
    """An interval in words."""
    if np.isnan(middle):
        return missing
    return f"{middle:+.2f}" + (f" ± {half:.2f}" if np.isfinite(half) else "")


def verdict(checks: Sequence[bool | None]) -> str:
    """``"yes"`` where all hold, ``"partly"`` where some do, ``"no"`` where all fail; None is a check that is undecided, and
    where none holds and one is undecided the claim is ``"not shown"``. Without checks it is ``"not comparable"``."""
    if not checks:
        return "not comparable"
    if all(checks):
        return "yes"
    if any(checks):
        return "partly"
    return "not shown" if None in checks else "no"


def of_each(cases: Iterable[Sequence[bool | None]]) -> list[bool | None]:
    """Checks of a claim of several cases. One without a check is undecided beside others that hold, which alone are no
    ``"yes"``; a claim that fails elsewhere does so without it."""
    each = list(cases)
    checks = [check for case in each for check in case]
    return [*checks, None] if True in checks and not all(each) else checks


def sign(middle: float, half: float, clean: bool = True) -> bool | None:
    """Whether an interval lies below 0 (True), above (False), or covers it (None); an unclean one is never below."""
    if middle + half < 0.0:
        return True if clean else None
    return False if middle - half > 0.0 else None


def undecided(found: Mapping[str, tuple[float, float]]) -> str:
    """Why intervals do not decide on which side of 0 their values lie, in words after a semicolon; empty where all do."""

    def why(middle: float, half: float) -> str:
        if np.isnan(middle):
            return "nothing can be compared"
        if np.isinf(half):
            return f"fewer than {FEWEST} runs last"
        return "an interval covers 0" if sign(middle, half) is None and (middle or half) else ""

    told: dict[str, list[str]] = {}
    for name, interval in found.items():
        told.setdefault(why(*interval), []).append(name)
    return "".join(f"; {reason} ({', '.join(names)})" for reason, names in told.items() if reason)


def within(middle: float, half: float, margin: float) -> bool | None:
    """Whether an interval lies within ``margin`` of 0 (True), outside (False), or across its edge (None)."""
    if abs(middle) + half < margin:
        return True
    return False if abs(middle) - half > margin else None


def both_of(*checks: bool | None) -> bool | None:
    """Whether all hold; False where one fails, None where one is undecided."""
    return False if False in checks else None if None in checks else True


def less(found: tuple[float, float], lost: np.ndarray) -> bool | None:
    """`sign` of an interval over runs, of which ``lost`` ``(B,)`` diverge: with one of them it is never below 0, and
    with half of them it is above, whatever the others do."""
    return False if lost.mean() >= 0.5 else sign(*found, clean=not lost.any())


def above(middle: float, half: float) -> bool | None:
    """Whether an interval lies above 0 (True), below (False), or covers it (None)."""
    return sign(-middle, half)


def ranked(values: pd.Series, outcome: pd.Series) -> float:
    """Rank correlation; 0 where the outcome is the same for all values, and NaN where one is none or no value differs."""
    if outcome.isna().any() or values.nunique() < 2:
        return np.nan
    return float(values.rank().corr(outcome.rank())) if outcome.nunique() > 1 else 0.0


def rising(found: Iterable[tuple[float, float]]) -> list[bool | None]:
    """Whether rank correlations lie above 0, case by case (`of_each`); one of 0 for every seed does not rise, and a missing
    one is no check."""
    return of_each([] if np.isnan(one[0]) else [False if one == (0.0, 0.0) else above(*one)] for one in found)


def largest(changes: np.ndarray) -> float:
    """The largest size of some changes; infinite where one is no number, and 0 of none."""
    return float(np.max(np.where(np.isnan(changes), np.inf, np.abs(changes)), initial=0.0))
