"""The page's ways from an empty folder to a comparison: its files and its commands, as they stand."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import compare
import pandas as pd
import pytest
import rollout
import train as training_script

from teleport_env import registration
from teleport_env.agents.comparison import decisions, report
from teleport_env.checks import check_problem
from teleport_env.problems import PROBLEMS

PAGE = (Path(__file__).parents[2] / "docs" / "own-comparison.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
MAINS = {"compare.py": compare.main, "train.py": training_script.main, "rollout.py": rollout.main}
# so little that nothing is learned
TINY = {
    "compare.py": "--tuning-instances 2 --tuning-rules 2 --no-references --jobs 1 --instances 2 --budget 8",
    "train.py": "--runs 4 --rollout 4 --segment 1 --minibatches 1 --plans 1 --rules 1 --validation-instances 4 "
    "--decisions 16",
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "_drawings", lambda *_: [])  # they take longer than all else
    monkeypatch.setattr(decisions, "decision_drawings", lambda *_: [])
    imported = [*registration.IMPORTED]
    registration.IMPORTED.clear()
    problems, modules, paths = dict(PROBLEMS), set(sys.modules), list(sys.path)
    yield
    registration.IMPORTED[:] = imported
    PROBLEMS.clear()
    PROBLEMS.update(problems)
    for name in set(sys.modules) - modules:
        if f"{name}.py" in FILES or name == "registers":
            del sys.modules[name]
    sys.path[:] = paths


def call(command: str, monkeypatch: pytest.MonkeyPatch, more: str = "") -> int:
    """Run a command of the page in this process; its exit status."""
    program, *words = shlex.split(command)[1:]
    name = program.rpartition("/")[2]
    if name not in MAINS:
        runpy.run_path(name)
        return 0
    monkeypatch.setattr(sys, "argv", [name, *words, *shlex.split(more or TINY.get(name, ""))])
    try:
        MAINS[name]()
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            raise ValueError(stopped.code) from stopped
        return stopped.code or 0
    return 0


def results(folder: str = "results/compare") -> pd.DataFrame:
    return report.read_results(Path(folder) / "results.csv")


def commands(part: str) -> list[str]:
    found = [command for command in COMMANDS if part in command]
    assert found
    return found


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_short(name: str) -> None:
    assert len(FILES[name].splitlines()) < 20


def test_a_problem_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sensing.py").write_text(FILES["sensing.py"])
    (first,) = [command for command in commands("sensing:Sensing") if "L-BFGS" in command]
    assert call(first, monkeypatch) == 0
    found = results()
    assert set(found["problem"]) == {"Sensing"}
    assert set(found["agent"]) == {"never", "every:k=5", "L-BFGS", "generalist", "oracle"}
    assert check_problem("Sensing").passed
    # training, then what it wrote in a comparison
    status = call(*commands("train.py"), monkeypatch)
    (second,) = commands("trained/policy.json")
    fallback = json.loads(Path("trained/policy.json").read_text())["settings"]["provenance"].get("fallback")
    assert status == (3 if fallback else 0)
    assert call(second.replace("--out", "--agents never --out"), monkeypatch) == 0
    name = "learned, fallback" if fallback else "learned"
    assert {name, "best plan of learned", "never", "generalist"} <= set(results("compared")["agent"])
    assert call("python rollout.py --problem sensing:Sensing --agent every:k=5 --out a.png", monkeypatch) == 0
    assert Path("a.png").exists()


def test_a_module_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cnn.py").write_text(FILES["cnn.py"])
    assert call(*commands("cnn:DigitsCNN"), monkeypatch) == 0
    found = results()
    assert set(found["agent"]) == {"never", "every:k=5", "stall:patience=3", "oracle"}
    assert (found["learning_rate"] > 0).all()


def test_the_id_for_modules_by_import(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cnn.py").write_text(FILES["cnn.py"])
    Path("registers.py").write_text(
        "import cnn\nfrom teleport_env import register_problem\nregister_problem('Module', lambda: cnn.DigitsCNN)\n"
    )
    asked = "--import registers --problem Module --budget 4"
    untaught = TINY["train.py"].replace("--plans 1", "--plans 0 --no-warm-start --critic-segments 0")
    assert call(f"python train.py {asked} --out t", monkeypatch, untaught) in (0, 3)
    policy = json.loads(Path("t/policy.json").read_text())["settings"]
    assert policy["problems"] == ["Module"]
    assert "--import registers --problem Module" in policy["provenance"]["command"]
    asked = asked.replace("--problem", "--problems")
    assert (
        call(
            f"python compare.py {asked} --agents never first:k=1 --tuning-instances 0 --policies t/policy.json",
            monkeypatch,
        )
        == 0
    )
    assert set(results()["problem"]) == {"Module"}


def test_a_model_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ppo.py").write_text(FILES["ppo.py"].replace("learn(4096)", "learn(1024)"))
    train, play = commands("ppo")
    call(train, monkeypatch)
    assert call(play, monkeypatch) == 0
    found = results()
    assert set(found["agent"]) == {"never", "ppo", "oracle"}
    with pytest.raises(ValueError, match="can run any code: pass --trust"):
        call(play.replace("--trust", ""), monkeypatch)
    with pytest.raises(ValueError, match="was made for the actions"):
        call("python compare.py --problems Booth --agents ppo.zip:rate_factors=[1.0,0.5] --trust", monkeypatch)


def test_help_lists_agents_and_the_import(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compare.py --agents help", "rollout.py --agent help"):
        assert call(f"python {command}", monkeypatch, " ") == 0
        assert "every (fixed): A teleport every ``k`` gradient steps." in capsys.readouterr().out
    for command in MAINS:
        assert call(f"python {command} --help", monkeypatch, " ") == 0
        assert "--import MODULE" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_an_import_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("--import none_such", "--import=none_such", "--import"):
        assert call(f"python compare.py {words}", monkeypatch) == 2
        assert "--import: the module " in capsys.readouterr().err
