"""The site names what exists: its navigation, the anchors of its links, and every public name with a docstring."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from teleport_env import TeleportEnv, TeleportVectorEnv
from teleport_env.problems import PROBLEMS
from teleport_env.registration import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def _site_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site_pages = _site_pages()


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, by the rule of Python-Markdown, which the site and GitHub share on ours."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    kept = [re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in kept} | set(re.findall(r'<a id="([^"]+)"', text))


def broken_anchors(page: Path) -> list[str]:
    """Links of a page to a heading that does not exist."""
    found = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if file.suffix == ".md" and (not file.exists() or anchor not in anchors(file.read_text(encoding="utf-8"))):
            found.append(f"{target}#{anchor}")
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    assert not broken_anchors(page), f"{page.name} links to headings that do not exist"


def test_a_link_to_a_missing_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title: with `code`\n\n[good](#a-title-with-code) [bad](#a-title)\n", encoding="utf-8")
    assert broken_anchors(page) == ["#a-title"]


def test_the_navigation_has_every_page_once() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r": ([\w/.-]+\.md)$", nav, re.MULTILINE)
    assert len(listed) == len(set(listed))
    tutorials = {f"tutorials/{path.stem}.md" for path in (DOCS / "tutorials").glob("*.ipynb")}
    written = {path.name for path in DOCS.glob("*.md")}
    assert set(listed) == written | tutorials | {"index.md", "contributing.md"}, "mkdocs.yml and docs/ differ"


def test_every_environment_has_a_page() -> None:
    for name in sorted(BUILT_IN):  # other tests register problems of their own
        page = site_pages.environment(name)
        assert "![An episode]" in page, f"{name} has no picture: make pictures"
        assert str(PROBLEMS[name].__doc__).split("\n")[0] in page
        assert "## Description" in page, f"the docstring of {name} is no manual page"


@pytest.mark.parametrize("package", site_pages.PUBLIC)
def test_every_public_name_is_documented(package: str) -> None:
    names = importlib.import_module(package).__all__
    assert not [name for name in names if not site_pages.documented(package, name)], "public names without a docstring"
    page = site_pages.reference(package)
    missing = [name for name in names if not re.search(rf"^::: [\w.]+\.{name}$", page, re.MULTILINE)]
    for name in missing:  # a name has one address: a smaller package's page has it
        (other,) = re.findall(rf"\[`([\w.]+)\.{name}`\]", page)
        assert package in ("teleport_env", "teleport_env.agents")
        assert re.search(rf"^::: [\w.]+\.{name}$", site_pages.reference(other), re.MULTILINE)


def test_members_that_pages_call_have_an_address() -> None:
    """Regression: what environments inherit, such as ``snapshot``, stood on no page, though guides call it."""
    texts = [*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.py"), DOCS.parent / "README.md"]
    texts += (DOCS.parent / "examples").glob("*.py")
    called = {name for path in texts for name in re.findall(r"\.unwrapped\.(\w+)", path.read_text(encoding="utf-8"))}
    assert {"action_names", "snapshot", "status_names"} <= called
    page = site_pages.reference("teleport_env.envs")
    for thing in (TeleportEnv, TeleportVectorEnv):
        entry = page.split(f"::: {thing.__module__}.{thing.__name__}\n")[1].split(":::")[0]
        inherited = set(re.findall(r"\w+", entry.partition("inherited_members:")[2]))
        assert called - set(vars(thing)) <= inherited
    entry = site_pages.reference("teleport_env.agents.policies.learned")
    assert re.search(
        r"LearnedSchedule\n    options:\n      inherited_members: \[.*\bload\b.*\bpredict\b.*\bsave\b", entry
    )


def test_no_public_name_has_two_addresses() -> None:
    """Regression: names on two pages made a hundred warnings, which a quiet build did not count."""
    addresses = [line for package in site_pages.PUBLIC for line in site_pages.reference(package).splitlines()]
    named = [line for line in addresses if line.startswith(":::")]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("package", site_pages.PUBLIC)
def test_every_public_member_is_documented(package: str) -> None:
    assert not site_pages.undocumented_members(package), "public members without a docstring"


def test_members_without_an_address_are_found() -> None:
    """Regression: values of ``Status`` and fields of dataclasses had no address, so that no page could link to them."""
    inventory = set(site_pages.without_address(()))
    members = (
        "searches.base.Status.NOT_PAID",
        "agents.comparison.statistics.Interval.low",
        "problems.booth.Booth.loss",
    )
    assert {f"teleport_env.{name}" for name in members} <= inventory
    assert site_pages.without_address(inventory) == []
    for name in members:
        assert site_pages.without_address(inventory - {f"teleport_env.{name}"}) == [f"teleport_env.{name}"]


@pytest.mark.parametrize("lacking", [None, "teleport_env.searches.base.Status.NOT_PAID"])
def test_the_build_reads_the_inventory_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str | None
) -> None:
    class PluginError(Exception):
        """Stands for the one of mkdocs, which tests do without."""

    monkeypatch.setitem(sys.modules, "mkdocs", ModuleType("mkdocs"))
    monkeypatch.setitem(sys.modules, "mkdocs.exceptions", SimpleNamespace(PluginError=PluginError))
    lines = "".join(f"{name} py:data 2 page.html#$ -\n" for name in site_pages.without_address(()) if name != lacking)
    (tmp_path / "objects.inv").write_bytes(b"# 1\n# 2\n# 3\n# 4\n" + zlib.compress(lines.encode()))
    config = SimpleNamespace(site_dir=str(tmp_path))
    if lacking is None:
        site_pages.on_post_build(config)
    else:
        with pytest.raises(PluginError, match=f"lacks {lacking}:"):
            site_pages.on_post_build(config)


def test_the_reference_links_to_what_a_class_inherits() -> None:
    page = site_pages.reference("teleport_env.problems")
    base = "teleport_env.problems.base.Problem"
    assert re.search(rf"\*Inherited by `Booth`:\*.*from \[`Problem`\]\[{base}\] .*\[`blocks`\]\[{base}.blocks\]", page)


def test_bars_in_the_code_of_tables_have_no_backslash() -> None:
    page = SimpleNamespace(file=SimpleNamespace(generated_by=None, src_uri="problems.md"))
    shown = site_pages.on_page_markdown("| a |\n|---|\n| `\\|w\\|^2` \\| |\n\n`\\|`\n", page)
    assert shown == "| a |\n|---|\n| `|w|^2` \\| |\n\n`\\|`\n"


def test_every_package_with_public_names_is_in_the_reference() -> None:
    """Packages and modules that declare ``__all__``; all others are inner."""
    public = set()
    for package, folder in (("teleport_env", ROOT / "teleport_env"), ("teleport_env.agents", ROOT / "agents")):
        for path in folder.rglob("*.py"):  # it passes over the link to agents/
            if re.search(r"^__all__", path.read_text(encoding="utf-8"), re.MULTILINE):
                parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__"]
                public.add(".".join([package, *parts]))
    assert public == set(site_pages.PUBLIC)


def imported(source: str) -> set[tuple[str, str]]:
    """Modules of the package, and the names that Python imports from them."""
    return {
        (str(node.module), alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "teleport_env"
        for alias in node.names
    }


def not_in_the_reference(source: str) -> list[str]:
    return [
        f"{module}.{name}"
        for module, name in sorted(imported(source))
        if module not in site_pages.PUBLIC
        or (name not in importlib.import_module(module).__all__ and f"{module}.{name}" not in site_pages.PUBLIC)
    ]


SHOWN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "tutorials").glob("*.py")),
    *sorted((ROOT / "examples").glob("*.py")),
]
"""What users copy from: pages, tutorials and examples."""


@pytest.mark.parametrize("shown", SHOWN, ids=lambda path: path.name)
def test_what_pages_and_examples_import_is_in_the_reference(shown: Path) -> None:
    text = shown.read_text(encoding="utf-8")
    blocks = (
        re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if shown.suffix == ".md" else [text]
    )
    missing = [name for block in blocks for name in not_in_the_reference(block)]
    assert not missing, f"{shown.name} imports names that no page of the reference has: add them to an __all__"


def test_a_name_without_an_entry_is_found() -> None:
    source = "from teleport_env.agents.play import curve, play\nfrom teleport_env.reading import integer\n"
    assert not_in_the_reference(source) == ["teleport_env.agents.play.curve", "teleport_env.reading.integer"]


def test_an_undocumented_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '__all__ = ["A", "B", "f"]\nA = 1\n"""Described."""\nB = 2\n\n\ndef f():\n    return 1\n'
    (tmp_path / "named_badly.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [name for name in ("A", "B", "f") if not site_pages.documented("named_badly", name)]
    assert found == ["B", "f"]


def test_an_undocumented_method_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        '__all__ = ["C"]\n\n\nclass Base:\n    def inherited(self):\n        "Described."\n\n\nclass C(Base):\n'
        "    def inherited(self): ...\n    def bare(self): ...\n    Z = 1\n    A = 1\n    'Described.'\n    b: int = 1\n"
        "    @property\n    def seen(self): ...\n    def _inner(self): ...\n"
    )
    (tmp_path / "teleport_env_named_badly.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert site_pages.undocumented_members("teleport_env_named_badly") == ["C.Z", "C.b", "C.bare", "C.seen"]
