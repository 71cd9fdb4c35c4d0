"""The wheel, as a user gets it: built, looked into, installed beside a foreign package ``agents``, and tested there.

Everything happens on a copy of the source, in virtual environments of its own that see this environment's dependencies
but not its installation of the project. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from teleport_env.native import KERNELS

ROOT = Path(__file__).resolve().parents[2]

# A few seconds' worth of the tests, run against the installed wheel.
QUICK_TESTS = ("envs/test_episodes.py", "agents/test_schedules.py")

# Files that later versions ship beside the agents' code: trained schedules and their settings.
POLICY_FILES = ("trained/schedule.json",)


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Standard output of a command that must succeed, run outside the repository and without its paths.

    ``variables`` are added to its environment.
    """
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST", "TELEPORT_ENV_DATA"))
        }
        | variables,
    )
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass
class Environment:
    """A virtual environment with this one's dependencies, but without this one's editable projects."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
        environment = cls(folder)
        # a path named in a .pth file is not searched for .pth files itself, so editable installs stay behind
        (environment.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return environment

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def pip(self, *arguments: str | Path) -> None:
        run(
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "--python",
            self.python,
            *arguments,
            cwd=self.folder,
        )

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-deps", "--no-index", wheel)

    def evaluate(self, code: str) -> str:
        return run(self.python, "-c", code, cwd=self.folder).strip()

    def run_tests(self, paths: Sequence[str]) -> str:
        """Run test files or folders, named relative to ``tests/``, against what is installed here.

        The whole of ``tests/`` is copied out of the repository, because tests import each other's cases.
        """
        place = self.folder / "checkout"
        shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)  # pytest's settings
        guard = place / "tests" / "test_where_the_package_is.py"
        guard.write_text(
            "import teleport_env, teleport_env.agents\n\n"
            "def test_where_the_package_is():\n"
            f"    assert teleport_env.__file__.startswith({str(self.site)!r})\n"
            f"    assert teleport_env.agents.__file__.startswith({str(self.site)!r})\n"
        )
        chosen = [guard, *(place / "tests" / path for path in paths)]
        return run(self.python, "-m", "pytest", "-p", "no:cacheprovider", *chosen, cwd=place)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with policy files beside the agents; building in place would leave folders behind."""
    copy = tmp_path_factory.mktemp("source") / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("teleport_env", "agents", "scripts", "tests"):
        if (ROOT / name).exists():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    assert (copy / "teleport_env" / "agents").is_symlink()
    for name in POLICY_FILES:
        path = copy / "agents" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    (copy / "scripts").mkdir(exist_ok=True)
    (copy / "scripts" / "some_script.py").write_text("")
    return copy


@pytest.fixture(scope="module")
def wheels(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel from the source tree where no compiler works, and the one from the source distribution with a compiler."""
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation")
    run(*build, "--outdir", out / "sdist", source, cwd=out)  # an sdist, and the wheel from it
    run(*build, "--wheel", "--outdir", out / "tree", source, cwd=out, CC="false")
    return {way: next((out / way).glob("*.whl")) for way in ("tree", "sdist")}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of somebody else's, whose package is called ``agents``."""
    path = tmp_path_factory.mktemp("foreign") / "foreign_agents-1.0-py3-none-any.whl"
    info = "foreign_agents-1.0.dist-info"
    files = {
        "agents/__init__.py": "OWNER = 'foreign'\n",
        "agents/base.py": "OWNER = 'foreign'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: foreign-agents\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


@pytest.mark.parametrize("way", ["tree", "sdist"])
def test_contents(wheels: dict[str, Path], source: Path, way: str) -> None:
    """Every module of ours once, the agents under ``teleport_env``, the data files, and nothing else."""
    names = _names(wheels[way])
    assert len(names) == len(set(names))
    code = {
        path.relative_to(source).as_posix()
        for path in (source / "teleport_env").rglob("*.py")
        if "agents" not in path.relative_to(source).parts
    }
    code |= {f"teleport_env/{path.relative_to(source).as_posix()}" for path in (source / "agents").rglob("*.py")}
    data = {"teleport_env/py.typed"} | {
        f"teleport_env/{path.relative_to(source).as_posix()}"
        for shape in ("*.json", "*.pt", "*.html", "*.j2", "*.css", "*.js", "LICENSE")
        for path in (source / "agents").rglob(shape)
    }
    assert {f"teleport_env/agents/{name}" for name in POLICY_FILES} <= data
    shipped = {name for name in names if ".dist-info/" not in name}
    compiled = {name for name in shipped if name.startswith("teleport_env/native/_kernels.")}
    assert shipped - compiled == code | data
    # where a compiler is there for the one, it is for the other
    assert len(compiled) == (way == "sdist" and KERNELS is not None)
    assert KERNELS is None or "-cp311-abi3-" in wheels[way].name


@pytest.mark.parametrize("foreign_first", [True, False])
def test_beside_a_foreign_package_agents(
    wheels: dict[str, Path], foreign: Path, tmp_path: Path, foreign_first: bool
) -> None:
    """Both are importable in either order, and the foreign one survives when ours is uninstalled."""
    environment = Environment.create(tmp_path / "environment")
    for wheel in (foreign, wheels["tree"]) if foreign_first else (wheels["tree"], foreign):
        environment.install(wheel)
    show = "import agents, agents.base, teleport_env, teleport_env.agents as ours; "
    where = environment.evaluate(
        show + "print(teleport_env.__file__, ours.__file__, agents.__file__, agents.base.OWNER)"
    )
    site = environment.site
    expected = [
        site / "teleport_env/__init__.py",
        site / "teleport_env/agents/__init__.py",
        site / "agents/__init__.py",
    ]
    assert where.split() == [*map(str, expected), "foreign"]

    environment.pip("uninstall", "--yes", "teleport-env")
    assert not (site / "teleport_env").exists()
    assert environment.evaluate("import agents.base; print(agents.base.OWNER)") == "foreign"


def test_a_top_level_agents_would_be_noticed(foreign: Path, tmp_path: Path) -> None:
    """What the mapping prevents: a second package of that name overwrites the first, and takes it along when it goes."""
    environment = Environment.create(tmp_path / "environment")
    rival = tmp_path / "rival_agents-1.0-py3-none-any.whl"
    with zipfile.ZipFile(foreign) as old, zipfile.ZipFile(rival, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode().replace("foreign", "rival")
            new.writestr(name.replace("foreign", "rival"), text)
    environment.install(foreign)
    environment.install(rival)
    assert environment.evaluate("import agents; print(agents.OWNER)") == "rival"
    environment.pip("uninstall", "--yes", "rival-agents")
    assert not (environment.site / "agents" / "__init__.py").exists()


def test_the_tests_pass_on_the_installed_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    environment = Environment.create(tmp_path / "environment")
    environment.install(wheels["sdist"])
    output = environment.run_tests([path for path in QUICK_TESTS if (ROOT / "tests" / path).exists()])
    assert "passed" in output
    assert "failed" not in output
