"""Every script runs, with a tiny budget, as its user would call it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import fresh

ROOT = Path(__file__).parents[2]


def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = fresh.run([str(ROOT / "scripts" / script), *arguments], cwd)
    done.stderr = " ".join(done.stderr.replace("│", " ").split())  # messages are framed and wrapped
    return done


def test_compare(tmp_path: Path) -> None:
    tiny = ["--problems", "Booth", "--agents", "never", "every", "--instances", "3", "--seeds", "1"]
    done = call(
        "compare.py", *tiny, "--budget", "8", "--tuning-instances", "2", "--jobs", "1", "--out", "r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Booth" in done.stdout
    assert "report.html" in done.stdout
    assert {"results.csv", "settings.json", "report.html"} <= {path.name for path in (tmp_path / "r").iterdir()}


def test_workers_find_what_lies_beside_the_scripts(tmp_path: Path) -> None:
    """As ``python scripts/compare.py`` in another folder: the first place to import from is the script's own."""
    script = tmp_path / "there" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path[0] = {str(ROOT / 'scripts')!r}\n"
        "from study.pieces import Piece, complete\nfrom study.transfer_work import digest\n"
        "pieces = [Piece(f'{n}.json', {}, digest, (str(n),)) for n in range(4)]\n"
        "print(len(set(complete(pieces, Path('r'), jobs=2).values())), 'done')\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "4 done" in done.stdout


def test_compare_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    done = call("compare.py", "--problems", "Booth", "--out", "r", cwd=tmp_path)
    assert done.returncode != 0
    assert "nothing can be written into the folder 'r'" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_names_what_is_wrong(tmp_path: Path) -> None:
    done = call("compare.py", "--problems", "Both", cwd=tmp_path)
    assert done.returncode != 0
    assert "got 'Both'" in done.stderr
    assert "Traceback" not in done.stderr


def test_train(tmp_path: Path) -> None:
    tiny = [
        "--problem",
        "Booth",
        "--decisions",
        "64",
        "--runs",
        "4",
        "--rollout",
        "8",
        "--segment",
        "1",
        "--plans",
        "2",
    ]
    done = call("train.py", *tiny, "--validation-instances", "2", "--rate-only", "--out", "t", cwd=tmp_path)
    assert done.returncode == 3, done.stderr  # so little training makes no policy as good as the best plan
    assert "Warning: on Booth the policy gains" in done.stdout
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"policy.json", "checkpoint.json", "training.json"}
    again = call("train.py", *tiny, "--out", "t", cwd=tmp_path)
    assert "other settings" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("arguments", [["--paper", "Booth"], ["--problem", "MatrixFactorization", "--agent", "every"]])
def test_rollout_saves_a_picture(tmp_path: Path, arguments: list[str]) -> None:
    done = call("rollout.py", *arguments, "--out", "a/b.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "orders of magnitude" in done.stdout
    with Image.open(tmp_path / "a" / "b.png") as image:
        assert image.size == (720, 480)


def test_rollout_saves_an_animation_and_a_page(tmp_path: Path) -> None:
    files = ("--out", "b.gif", "--html", "b.html")
    done = call("rollout.py", "--problem", "Booth", "--frames", "5", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "b.html").read_text()
    assert '"problem":"Booth"' in page
    assert f'"step":{done.stdout.partition(" gradient steps")[0].split()[-1]},' in page
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 5


def test_rollout_writes_what_was_asked_for_alone(tmp_path: Path) -> None:
    """Regression: a page alone also left rollout.png where the command ran."""
    done = call("rollout.py", "--problem", "Booth", "--html", "b.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["b.html"]


def test_rollout_names_what_is_wrong(tmp_path: Path) -> None:
    done = call("rollout.py", "--out", "b.jpg", cwd=tmp_path)
    assert done.returncode != 0
    assert ".png or .gif" in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_are_thin() -> None:
    """But for their options, which are dataclasses with a sentence each."""
    for path in (ROOT / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text())
        lines = [node.end_lineno - node.lineno + 1 for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert max(lines) < 45, path
        assert len(path.read_text().splitlines()) < 160, path
