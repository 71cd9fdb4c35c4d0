"""The layout's promises: imports point one way, the base install stays light, and no file names a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fresh

ROOT = Path(__file__).resolve().parents[2]

# Who may import whom: a part imports what stands in its own row or above, never below.
ORDER = (
    ("native",),
    ("files", "arrays", "random", "ledger", "groups", "instances", "optimizers", "progress", "bookkeeping", "reading"),
    ("symmetries",),
    ("problems",),
    ("modules",),
    ("searches", "stepping"),
    ("runs", "upcoming"),
    ("envs",),
    ("registration",),
    ("agents", "checks"),
    ("scripts",),
)
RANK = {part: rank for rank, row in enumerate(ORDER) for part in row}
# The same within `agents/`, whose own module of that name shows what stands in it.
AGENT_ORDER = (
    ("identity",),
    ("base", "eager", "in_place", "loop_inputs", "own_loop", "versions"),
    ("schedules", "outside", "transport", "known_score"),
    ("together",),
    ("rules", "policies", "play", "paper"),
    ("edge_rule", "known"),
    ("tuned_settings",),
    ("presets", "tuning", "saved"),
    ("naming",),
    ("learning", "comparison", "teleporter"),
)
AGENT_RANK = {room: rank for rank, row in enumerate(AGENT_ORDER) for room in row}
# `import teleport_env` registers the environments and may show the checks; to import it is to import the registration.
FACADE_IMPORTS, FACADE_IMPORTED = RANK["checks"], RANK["registration"]

# The training library is loaded by these alone: policies run without it.
TRAINERS = (
    "teleport_env.agents.learning.algorithm",
    "teleport_env.agents.learning.course",
    "teleport_env.agents.learning.sb3",
    "teleport_env.agents.learning.training",
    "teleport_env.agents.learning.vec_env",
    "teleport_env.agents.saved",
    "benchmarks.rollouts",
)
LAZY = (
    "matplotlib",
    "scipy",
    "sklearn",
    "pandas",
    "joblib",
    "rich",
    "jinja2",
    "stable_baselines3",
    "tensorboard",
    "ray",
    "starlette",
    "tyro",
    "uvicorn",
)


# What `scripts/` holds: its command lines, and the packages beside them.
EXPERIMENTS = ("scripts", "benchmarks", "explorer", "reproduction", "study")


@dataclass(frozen=True)
class Import:
    """One imported module, ``name`` absolute; ``line`` where."""

    name: str
    line: int


def _statements(tree: ast.AST, typed: bool) -> Iterator[ast.stmt]:
    """The import statements of a module, wherever they stand; ``typed``: those under ``if TYPE_CHECKING:`` too."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not typed:
            for other in child.orelse:
                yield from _statements(ast.Module([other], []), typed)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from _statements(child, typed)


def modules() -> dict[str, Path]:
    """Dotted names of every module of the package and of the scripts."""
    files = {}
    for folder, name in (("teleport_env", "teleport_env"), ("agents", "teleport_env.agents"), ("scripts", "scripts")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "teleport_env" and parts[0] == "agents":
                continue  # the link to agents/, on the Pythons that follow links
            # a script finds the packages beside it by their own names
            names = parts if name == "scripts" and len(parts) > 1 else (name, *parts)
            files[".".join(names).removesuffix(".__init__")] = path
    return files


MODULES = modules()


def imports(source: str, module: str, is_package: bool, typed: bool = True) -> list[Import]:
    """What ``source`` imports; of ``from x import y`` it is ``x.y`` if that is a module of ours, else ``x``.

    ``typed``: whether imports for type checkers alone count.
    """
    found = []
    for node in _statements(ast.parse(source), typed):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                stem = package[: len(package) - node.level + 1]
                base = ".".join([*stem, base] if base else stem)
            names = {full if (full := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
            found += [Import(name, node.lineno) for name in sorted(names)]
    return found


def part_of(module: str) -> str | None:
    """Which part in `ORDER` a module belongs to; ``""`` for ``teleport_env`` itself, None for foreign modules."""
    first, _, rest = module.partition(".")
    if first in EXPERIMENTS:
        return "scripts"
    if first != "teleport_env":
        return None
    return rest.split(".")[0]


def imported_by(module: str, typed: bool = True) -> list[Import]:
    path = MODULES[module]
    return imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py", typed)


def wrong_way(module: str, imported: list[Import]) -> list[str]:
    """A sentence for each import that points to the right."""
    part = part_of(module)
    assert part is not None
    rank = RANK[part] if part else FACADE_IMPORTS
    wrong = []
    for item in imported:
        other = part_of(item.name)
        if other is None or (other not in RANK and other != ""):
            continue  # foreign
        other_rank = RANK[other] if other else FACADE_IMPORTED
        if other_rank > rank:
            wrong.append(f"{module}, line {item.line}, imports {item.name}, which stands to its right")
    return wrong


def wrong_way_among_agents(module: str, imported: list[Import]) -> list[str]:
    """The same between the rooms of `agents/`; two rooms of one row do not know each other either."""
    agents = "teleport_env.agents."
    room = module.removeprefix(agents).split(".")[0]
    wrong = []
    for item in imported:
        other = item.name.removeprefix(agents).split(".")[0]
        if item.name.startswith(agents) and other != room and AGENT_RANK[other] >= AGENT_RANK[room]:
            wrong.append(f"{module}, line {item.line}, imports {item.name}, which does not stand to its left")
    return wrong


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Some cycle of a directed graph, or None."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in sorted(graph[node]):
            found = visit(following, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    for start in sorted(graph):
        found = visit(start, [])
        if found:
            return found
    return None


def test_every_part_has_its_place() -> None:
    unknown = {part for module in MODULES if (part := part_of(module)) and part not in RANK}
    assert not unknown, f"say in ORDER, and in docs/, where {sorted(unknown)} stand among the layers"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_to_the_left(module: str) -> None:
    assert wrong_way(module, imported_by(module)) == []


@pytest.mark.parametrize("module", [name for name in sorted(MODULES) if name.startswith("teleport_env.agents.")])
def test_the_rooms_of_the_agents_stand_in_order(module: str) -> None:
    assert wrong_way_among_agents(module, imported_by(module)) == []


def test_an_import_to_the_right_is_found() -> None:
    def wrong(module: str, source: str) -> int:
        return len(wrong_way(module, imports(source, module, False)))

    assert wrong("teleport_env.groups.rotations", "from teleport_env.symmetries.base import Symmetry") == 1
    assert wrong("teleport_env.groups.rotations", "from ..problems import base") == 1
    assert wrong("teleport_env.problems.booth", "def f():\n    import teleport_env.runs") == 1
    assert wrong("teleport_env.runs", "from teleport_env import registration") == 1
    assert wrong("teleport_env.runs", "import teleport_env") == 1
    assert wrong("teleport_env.checks", "import scripts.compare") == 1
    assert wrong("teleport_env.agents.rules", "import teleport_env\nfrom .schedules import Never") == 0
    assert (
        wrong("teleport_env.symmetries.base", "from teleport_env import random\nfrom ..groups.base import Group") == 0
    )
    study = "teleport_env.agents.comparison.study"
    assert wrong_way_among_agents(study, [Import("teleport_env.agents.learning.course", 1)])
    assert wrong_way_among_agents("teleport_env.agents.play", [Import("teleport_env.agents.tuning", 1)])
    assert not wrong_way_among_agents(study, [Import("teleport_env.agents.play", 1), Import("numpy", 2)])
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from teleport_env.runs import Runs\n"
    assert wrong("teleport_env.groups.base", typed) == 1


def above(module: str) -> list[str]:
    """The packages that a module lies in."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def test_no_circles() -> None:
    """An import also runs the packages above a module: a circle through one is a circle."""
    graph = {}
    for module in MODULES:
        names = {item.name for item in imported_by(module)}
        names |= {package for name in names for package in above(name) if package not in above(module)}
        graph[module] = names & MODULES.keys() - {module}
    assert cycle(graph) is None
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def _python_files() -> list[Path]:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.is_file()]
    return [*MODULES.values(), *tests]


def test_nobody_imports_the_top_level_agents() -> None:
    """That name belongs to published packages; ours is ``teleport_env.agents``."""
    guilty = [
        f"{path.relative_to(ROOT)}:{item.line}"
        for path in _python_files()
        for item in imports(path.read_text(encoding="utf-8"), "tests.module", False)
        if item.name.split(".")[0] == "agents"
    ]
    assert not guilty
    assert [item.name for item in imports("import agents.base", "x", False)] == ["agents.base"]


def test_the_training_library_is_imported_by_the_training_code_alone() -> None:
    guilty = [
        f"{module}, line {item.line}"
        for module in MODULES
        if module not in TRAINERS
        for item in imported_by(module, typed=False)
        if item.name.split(".")[0] == "stable_baselines3"
    ]
    assert not guilty


def _loaded(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = fresh.run(["-c", program])
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_is_light() -> None:
    assert _loaded("import teleport_env").isdisjoint(LAZY)


def test_policies_load_without_the_training_library() -> None:
    assert "stable_baselines3" not in _loaded("import teleport_env, teleport_env.agents")
    assert "rich" in _loaded("import rich"), "otherwise the two tests above could not fail"


def test_every_package_is_shipped() -> None:
    """``pyproject.toml`` lists the packages one by one, so a new folder must be added there."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    present = [
        module for module, path in MODULES.items() if path.name == "__init__.py" and part_of(module) != "scripts"
    ]
    assert sorted(listed) == sorted(present)


def test_test_modules_have_names_of_their_own() -> None:
    """pytest imports test files by base name, and no folder of tests is a package."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    repeated = [name for name, times in Counter(path.name for path in files).items() if times > 1]
    assert not repeated
    assert "__init__.py" not in {path.name for path in files}


# Put together from pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w./~<>-])/(?:" + "|".join(("work", "root", "home", "Users")) + r")\b")


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_path_of_some_machine() -> None:
    found = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # binary
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('open("{}work/main/x")', True),
        ("cd {}root", True),
        ("see {}home/someone/.venv", True),
        ("frame{}work", False),
        ("https://example.org{}home", False),
        ("the bias/weight ratio", False),
    ],
)
def test_paths_of_machines_are_recognised(text: str, names: bool) -> None:
    assert bool(MACHINE_PATH.search(text.format("/"))) == names


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    assert re.search(
        rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
