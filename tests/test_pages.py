"""The form of pages: narrow tables, short result pages that open with a figure and a table, pictures made by a command."""

from __future__ import annotations

import fnmatch
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import compare
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path.insert(0, str(DOCS))
import check_prose  # noqa: E402

ROOT = DOCS.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted(DOCS.glob("*.md"))]

RESULTS = sorted(
    path for start in ("results", "transfer", "factorial", "reproduction") for path in DOCS.glob(f"{start}*.md")
)
COLUMNS = 5
LINES = 150
LONGEST_LINE = 140
APPENDIX = "reproduction-details.md"
"""Full numbers of the reproduction, which its page sums up: longer, and with a figure per experiment."""


def blocks(text: str) -> list[str]:
    """What a page consists of after its title: pieces that blank lines or headings separate; code is one piece."""
    code = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(#+ .*)\n(?=!)", r"\1\n\n", text, flags=re.MULTILINE)
    pieces = re.split(r"\n\s*\n", code.sub(lambda found: re.sub(r"\n\s*\n", "\n", found[0]), text))
    return [piece.strip() for piece in pieces if piece.strip()][1:]


def kind(block: str) -> str:
    for start, name in (
        ("```", "code"),
        ("|", "table"),
        ("![", "figure"),
        ("#", "heading"),
        ("* ", "list"),
        ("- ", "list"),
    ):
        if block.startswith(start):
            return name
    return "prose"


def wide_tables(text: str) -> list[str]:
    """First lines of tables with more columns than a reader can follow."""
    tables = [block for block in blocks("# Title\n\n" + text) if kind(block) == "table"]
    return [
        head
        for head in (table.splitlines()[0] for table in tables)
        if len(re.findall(r"(?<!\\)\|", head)) - 1 > COLUMNS
    ]


def out_of_order(text: str) -> list[str]:
    """What a result page shows before its first figure and its first table, and should not."""
    kinds = [kind(block) for block in blocks(text)]
    if not {"figure", "table"} <= set(kinds):
        return ["a figure or a table is missing"]
    first = max(kinds.index("figure"), kinds.index("table"))
    return [name for name in kinds[:first] if name == "code"] + (
        ["table"] if kinds.index("table") < kinds.index("figure") else []
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_narrow(page: Path) -> None:
    assert not wide_tables(page.read_text(encoding="utf-8")), (
        f"at most {COLUMNS} columns; the rest goes into a CSV file"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_begin_with_what_they_are_for(page: Path) -> None:
    """A short sentence first, and no line too long to read where the page is edited."""
    first = blocks(page.read_text(encoding="utf-8"))[0]
    assert kind(first) == "prose"
    if page.name == "reproduction.md":  # it begins with the reference
        return
    sentence = next(check_prose.sentences(check_prose.plain(first)))
    assert check_prose.words_of(sentence, strict=True) <= check_prose.LONGEST, sentence
    assert len(first.splitlines()[0]) <= LONGEST_LINE


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.name)
def test_result_pages_are_short_and_show_first(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name == APPENDIX or len(text.splitlines()) <= LINES
    assert page.name == APPENDIX or not out_of_order(text)


def test_the_form_is_checked() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    wide = "| a | b | c | d | e | f |\n|---|---|---|---|---|---|"
    assert wide_tables(f"# T\n\n{table}\n\n{wide}\n\n```\n{wide}\n```") == ["| a | b | c | d | e | f |"]
    assert wide_tables(wide) == ["| a | b | c | d | e | f |"]
    assert not wide_tables("| a | `\\|w\\|` | c | d | e |")
    assert out_of_order(f"# T\n\nText.\n\n```\nrun\n\nmore\n```\n\n![F](f.png)\n\n{table}") == ["code"]
    assert out_of_order(f"# T\n\nText.\n\n{table}\n\n![F](f.png)") == ["table"]
    assert out_of_order(f"# T\n\n{table}") == ["a figure or a table is missing"]
    assert not out_of_order(f"# T\n\nText.\n\n![F](f.png)\n\n{table}\n\n```\nrun\n```")
    assert [kind(block) for block in blocks("# T\n\n```\na\n\nb\n```\n\nText")] == ["code", "prose"]


# -- pictures ----------------------------------------------------------------------------------------------------------


def made_by() -> dict[str, str]:
    """Patterns under ``docs/images``, and the command that makes them: the table in CONTRIBUTING.md."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## Pictures\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", section, re.MULTILINE)
    return {pattern: command for patterns, command in rows for pattern in re.findall(r"`([^`]+)`", patterns)}


def test_every_picture_has_a_command() -> None:
    commands = made_by()
    pictures = [path.relative_to(DOCS / "images").as_posix() for path in (DOCS / "images").rglob("*") if path.is_file()]
    for picture in pictures:
        assert len([one for one in commands if fnmatch.fnmatch(picture, one)]) == 1, (
            f"no command is named for {picture}"
        )
    assert all(fnmatch.filter(pictures, pattern) for pattern in commands), "a command is named for no picture"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for command in commands.values() for target in re.findall(r"`make ([a-z-]+)", command)}
    assert named <= targets


def stems(folder: str) -> set[str]:
    return {path.stem for path in (DOCS / "images" / folder).iterdir()}


def test_every_picture_of_an_environment_is_drawn_by_make_pictures() -> None:
    """Regression: the Makefile's list of names lacked one whose picture was there."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    venv = Path(sys.executable).parents[1]  # which is not made anew
    done = subprocess.run(
        ["make", "-n", "-o", f"{venv}/.installed", "pictures", f"VENV={venv}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (names,) = re.findall(r"for name in (.*?);", done.stdout)
    assert {name.lower() for name in names.split()} == stems("environments")


def test_every_picture_is_one_that_its_command_draws() -> None:
    assert stems("tutorials") == {path.stem for path in (DOCS / "tutorials").glob("*.py")}
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts" / "reproduction").rglob("*.py"))
    assert not [part for name in stems("reproduction") for part in name.split("_", 1) if part not in code]
    draw = importlib.import_module("draw_results")  # of docs, like check_prose
    drawn = {*draw.PICTURES, "shipped/gained.png"}
    kept = ("shipped", "transfer", "transfer-clones")
    assert drawn == {
        path.relative_to(DOCS / "images").as_posix() for one in kept for path in (DOCS / "images" / one).iterdir()
    }
    for page in ("results", "results-short", "results-digits", "results-mnist"):
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        (named,) = re.findall(rf"^python scripts/compare\.py (.*) --page docs/{page}\.md", text, re.MULTILINE)
        problems = compare.read("", shlex.split(named)).problems  # type: ignore[union-attr]
        parts = {f"{part}-{problem.lower()}" for part in ("actions", "decisions") for problem in problems}
        scores = {"scores"} if page == "results" else set()  # the others were drawn before there were scores
        assert stems(page) == parts | scores | {"gained", "differences", "curves", "profiles"}


def test_a_result_page_that_is_played_again_has_the_command_that_draws_its_pictures() -> None:
    """Regression: `make factorial` was said to draw pictures that another command on the page had drawn."""
    again = {pattern: re.findall(r"`make again PAGE=([\w-]+)`", command) for pattern, command in made_by().items()}
    assert sum(map(len, again.values())) >= 7
    for pattern, names in again.items():
        for name in names:
            page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
            (words,) = re.findall(rf"^python (scripts/compare\.py .* --page docs/{name}\.md.*)$", page, re.MULTILINE)
            asked = compare.read("", shlex.split(words)[1:])
            assert asked.page == Path("docs") / f"{name}.md"  # type: ignore[union-attr]
            assert f"(images/{pattern.split('/')[0]}/" in page or "make drawn" in made_by()[pattern]


def test_every_picture_is_shown() -> None:
    tutorials = [path.read_text(encoding="utf-8") for path in (DOCS / "tutorials").glob("*.py")]
    text = "\n".join([*(page.read_text(encoding="utf-8") for page in PAGES), *tutorials])
    shown = {re.sub(r"^docs/", "", path) for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)}
    for path in (DOCS / "images").rglob("*.*"):
        name = path.relative_to(DOCS).as_posix()
        assert name in shown or "/environments/" in name or "/tutorials/" in name, f"no page shows {name}"


def test_the_overview_s_picture_has_the_figures_of_readme() -> None:
    draw = importlib.import_module("draw_results")
    figure = draw.overview()
    problems = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    drawn = [[round(float(bar.get_width()), 2) for bar in bars] for bars in figure.axes[0].containers]
    rows = re.findall(
        r"^\| (\w+)(?: \*)? \| ([\d. |]+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    shown = {problem: [float(one) for one in numbers.split("|")] for problem, numbers in rows}
    assert shown == {
        problem: list(numbers) for problem, numbers in zip(problems, zip(*drawn, strict=True), strict=True)
    }
    assert draw.ends("+1.36 [-1.25, +1.48]") == [1.36, -1.25, 1.48]
