"""The tutorials: their scripts run, and their notebooks are those scripts, executed."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_docs import ROOT, run

TUTORIALS = ROOT / "docs" / "tutorials"
NAMES = sorted(path.stem for path in TUTORIALS.glob("*.py"))
SHORT = {"training": {"DECISIONS = 300_000": "DECISIONS = 5_000", "PLANS = 64": "PLANS = 2"}}
"""What a test replaces, so that nothing takes minutes."""


def notebook(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return content


def percent(cells: list[dict[str, Any]]) -> str:
    """The script of a notebook in jupytext's percent format, without blank lines."""
    lines = []
    for cell in cells:
        text = "".join(cell["source"]).splitlines()
        if cell["cell_type"] == "markdown":
            lines += ["# %% [markdown]", *(f"# {line}".rstrip() for line in text)]
        else:
            tags = cell["metadata"].get("tags")
            lines.append(f"# %% tags={json.dumps(tags)}" if tags else "# %%")
            lines += [f"# {line}" if line.startswith("%") else line for line in text]
    return "\n".join(line for line in lines if line)


def script(name: str) -> str:
    return (TUTORIALS / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_script_of_a_tutorial_runs(name: str, tmp_path: Path) -> None:
    text = script(name)
    for usual, short in SHORT.get(name, {}).items():
        assert text.count(usual) == 1
        text = text.replace(usual, short)
    (tmp_path / "tutorial.py").write_text(text, encoding="utf-8")
    done = run([str(tmp_path / "tutorial.py")], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_is_the_script_executed(name: str) -> None:
    cells = notebook(name)["cells"]
    kept = "\n".join(line for line in script(name).splitlines() if line)
    assert percent(cells) == kept, f"{name}.ipynb is out of date: make tutorials ARGS={name}"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_opens_with_its_picture(name: str) -> None:
    cells = notebook(name)["cells"]
    assert re.match(r"# .*\n\n!\[.+\]\(\.\./images/tutorials/" + name + r"\.png\)\n\n", "".join(cells[0]["source"]))
    (drawn,) = [
        output["data"]["image/png"]
        for cell in cells
        if "opening" in cell["metadata"].get("tags", ())
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    picture = ROOT / "docs" / "images" / "tutorials" / f"{name}.png"
    assert base64.b64decode("".join(drawn)) == picture.read_bytes()


def test_links_of_tutorials_lead_somewhere() -> None:
    links = [link for name in NAMES for link in re.findall(r"\]\(([^)#\s]+)", script(name)) if "://" not in link]
    missing = [link for link in links if not (TUTORIALS / link.replace(".md", ".py")).exists()]
    assert not [link for link in missing if not (TUTORIALS / link).exists()]
    assert links
