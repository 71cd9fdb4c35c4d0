"""The documentation does what it says: its Python runs, its tables are those of the code, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import fresh

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES = [page for page in PAGES if page.exists()]

GENERATED = {
    "docs/features.md": ["-c", "import teleport_env.envs.features as page; print(page.markdown_table(), end='')"],
    "docs/problems.md": [str(ROOT / "docs" / "write_problems.py")],
}
"""Pages that are written by the code, and the arguments of the Python that writes them."""

FILES = {("own-comparison.md", f'```python title="{name}.py"') for name in ("sensing", "cnn", "ppo")}
"""Blocks that a reader saves under the name in their title; tests/scripts/test_own_comparison.py runs them."""


def script_of(text: str) -> str:
    """The Python of a page, each line at its place: a traceback then shows the page's line numbers.

    Blocks that are `FILES` and blocks of other languages are left out.
    """
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside and line.strip() == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return fresh.run(arguments, folder, MPLBACKEND="Agg")


WITH_PYTHON = [page for page in PAGES if script_of(page.read_text(encoding="utf-8")).strip()]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """All blocks of a page, in order, in one namespace."""
    script = tmp_path / f"{page.stem.replace('-', '_')}.py"
    script.write_text(script_of(page.read_text(encoding="utf-8")), encoding="utf-8")
    done = run([str(script)], tmp_path)
    assert done.returncode == 0, f"{page.relative_to(ROOT)} does not run (its own line numbers):\n{done.stderr[-3000:]}"


PROGRAM = r"^\s*(import|from) \w|\bpython3? -c (['\"])(?!.*\2)|\bpython3? .*<<"
"""Lines of a block with Python of more than one line."""


def passed_over(text: str) -> list[str]:
    """Openings of blocks that have Python and are not run: by language, by an import, or by a `python -c` over lines."""
    found, opening = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            opening = "" if opening else line
            if re.match(r"\s*```\s*\{?\W?py", opening) and opening != "```python":
                found.append(opening)
        elif opening and opening not in ("```python", *found) and re.search(PROGRAM, line):
            found.append(opening)
    return found


def test_all_python_runs() -> None:
    found = {(page.name, opening) for page in PAGES for opening in passed_over(page.read_text(encoding="utf-8"))}
    assert found == FILES


def test_python_that_would_not_run_is_found() -> None:
    run, elsewhere = "```python\nimport a\n```\n", '```bash\npython -c "import a"\n```\n'
    assert passed_over(run + elsewhere + run) == []
    for line in ('python -c "from a import b', "python3 -c 'a = 1", "python - <<END"):
        assert passed_over(f"{run}```bash\n{line}\n```\n") == ["```bash"]
    for opening in ("```python no-run", "```python3", "``` python", "    ```python", "```{.python}", "```", "```text"):
        assert passed_over(f"{run}{opening}\nimport a\n```\n{run}") == [opening]


def test_a_broken_page_is_found(tmp_path: Path) -> None:
    skipped = '```bash\nexit 1\n```\n\n```python title="file.py"\n1 / 0\n```'
    text = f"# Title\n\n```python\nx = 1\n```\n\n{skipped}\n\n```python\nx / 0\n```\n"
    script = tmp_path / "page.py"
    script.write_text(script_of(text), encoding="utf-8")
    done = run([str(script)], tmp_path)
    assert done.returncode == 1
    assert "line 16" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    script.write_text(script_of(text.replace("x / 0", "x")), encoding="utf-8")
    assert run([str(script)], tmp_path).returncode == 0


@pytest.mark.parametrize("page", GENERATED)
def test_generated_pages_are_up_to_date(page: str, tmp_path: Path) -> None:
    done = run(GENERATED[page], tmp_path)
    assert done.returncode == 0, done.stderr
    written = (ROOT / page).read_text(encoding="utf-8")
    assert written == done.stdout, f"{page} is out of date; refresh it: python {shlex.join(GENERATED[page])} > {page}"


def test_generated_pages_hold_every_entry() -> None:
    from teleport_env.envs.features import FEATURES

    features, problems = ((ROOT / page).read_text(encoding="utf-8") for page in GENERATED)
    assert all(f"| `{feature.name}` | {feature.low:g} | {feature.high:g} |" in features for feature in FEATURES)
    for name in ("Ellipse", "Quadratic", "Rosenbrock", "RosenbrockND", "Booth", "MatrixFactorization", "LinearNetwork"):
        assert problems.count(f"| `Teleport/{name}-v0` |") >= 3
    for name in ("MLPRegression", "MNIST", "MNISTSmall"):  # their paper split has defaults and a menu of its own
        assert problems.count(f"| `Teleport/{name}-v0` |") == 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}, which do not exist"


def test_the_problem_of_ones_own_is_short() -> None:
    """The promise of the page: a whole problem in under 40 lines."""
    text = (ROOT / "docs" / "own-problem.md").read_text(encoding="utf-8")
    first = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert first is not None
    assert len(first[1].splitlines()) < 40
