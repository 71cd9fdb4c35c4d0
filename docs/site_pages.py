"""Pages of the site that are made of the code: the hook that ``mkdocs.yml`` names.

The start page is README. Each registered problem has a page made of its docstring, and each public package a page that lists
its public names.
"""

from __future__ import annotations

import ast
import base64
import importlib
import inspect
import json
import os
import re
import textwrap
import zlib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = (
    "teleport_env",
    "teleport_env.envs",
    "teleport_env.envs.features",
    "teleport_env.envs.recording",
    "teleport_env.problems",
    "teleport_env.problems.data",
    "teleport_env.modules",
    "teleport_env.symmetries",
    "teleport_env.groups",
    "teleport_env.searches",
    "teleport_env.ledger",
    "teleport_env.random",
    "teleport_env.agents",
    "teleport_env.agents.play",
    "teleport_env.agents.policies.learned",
    "teleport_env.agents.policies.learned_moves",
    "teleport_env.agents.learning.recipes",
    "teleport_env.agents.learning.settings",
    "teleport_env.agents.learning.training",
    "teleport_env.agents.learning.sb3",
    "teleport_env.agents.comparison.study",
    "teleport_env.agents.comparison.report",
    "teleport_env.agents.comparison.statistics",
    "teleport_env.agents.comparison.decisions",
    "teleport_env.checks",
)
"""Packages and modules with ``__all__``: together the public interface, which the reference lists."""

SECTION = re.compile(r"^(Args|Attributes):\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
"""A section of a docstring that describes arguments or attributes."""

_KEYWORDS = ("blind", "by_rows")
"""Members that keywords of a class statement set: the class that describes them has their entry."""

OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "README.md": "index.md", "CITATION.cff": "CITATION.cff"}
"""Files at the top level that the site has, and their names there."""


def documented(package: str, name: str) -> bool:
    """Whether a public name has a docstring; the one of a constant is the string below its assignment."""
    thing = getattr(importlib.import_module(package), name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return bool(thing.__doc__)
    return bool(_home_of_constant(package, name))


def undocumented_members(package: str) -> list[str]:
    """Public members of a package's public classes that neither they nor a base class describe: fields and constants too."""
    module = importlib.import_module(package)
    found = set()
    for name in _classes(package):
        for member, owner in owners(getattr(module, name)).items():
            if not any(member in _texts(base) for base in owner.__mro__):
                found.add(f"{owner.__qualname__}.{member}")
    return sorted(found)


def described(docstring: str) -> dict[str, str]:
    """Texts of the arguments and attributes of a docstring, under their names; those of a manual page are a list."""
    found = {}
    listed = docstring.partition("## Arguments\n")[2].partition("\n## ")[0]
    for names, text in re.findall(r"^\* ((?:``\w+``(?:, )?)+): (.*(?:\n  .*)*)", listed, re.MULTILINE):
        found.update({name: " ".join(text.split()) for name in re.findall(r"\w+", names)})
    for _, section in SECTION.findall(docstring):
        for names, text in re.findall(r"^ {4}(\w[\w, *]*): (.*(?:\n {5,}.*|\n(?=\n* {5}))*)", section, re.MULTILINE):
            first, _, more = text.partition("\n")
            found.update({name.strip(): f"{first}\n{inspect.cleandoc(more)}".strip() for name in names.split(",")})
    return found


@cache
def _texts(thing: type) -> set[str]:
    """Members that a class of this package describes, in its docstring or in theirs."""
    if thing.__module__ == "builtins":
        return set()
    body = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0].body  # type: ignore[attr-defined]
    found = set(described(inspect.getdoc(thing) or "")) if thing.__doc__ else set()
    for one, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(one, ast.FunctionDef) and ast.get_docstring(one):
            found.add(one.name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            targets = (
                one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
            )
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def owners(thing: type) -> dict[str, type]:
    """Public members of a class, and the class whose entry in the reference has each: the first listed one that defines it.

    Members of a base that the reference does not have are the class's own, and those of other packages are left out.
    """
    found: dict[str, type] = {}
    for base in thing.__mro__:
        for name in [*vars(base), *vars(base).get("__annotations__", {})]:
            if name.startswith("_") or name in found:
                continue
            found[name] = base
    for name, base in list(found.items()):
        if not base.__module__.startswith("teleport_env"):
            del found[name]
        elif name in _KEYWORDS:
            found[name] = next(one for one in reversed(thing.__mro__) if name in vars(one))
        elif base not in _listed():
            found[name] = thing
    return found


@cache
def _listed() -> frozenset[type]:
    """Public classes."""
    return frozenset(
        getattr(importlib.import_module(package), name) for package in PUBLIC for name in _classes(package)
    )


def inherited_members(thing: type) -> list[str]:
    """Public members of a class that come from a base of this package which the reference does not have."""
    own = {*vars(thing), *vars(thing).get("__annotations__", {})}
    return sorted(name for name, owner in owners(thing).items() if owner is thing and name not in own)


def inherited(thing: type) -> str:
    """A line with links to the members that other entries of the reference have, or ""."""
    elsewhere: dict[type, list[str]] = {}
    for name, owner in owners(thing).items():
        if owner is not thing:
            elsewhere.setdefault(owner, []).append(name)
    lists = [
        f"from [`{owner.__name__}`][{_address(owner)}] "
        + ", ".join(f"[`{name}`][{_address(owner)}.{name}]" for name in sorted(names))
        for owner, names in elsewhere.items()
    ]
    return f"*Inherited by `{thing.__name__}`:* {'; '.join(lists)}." if lists else ""


def _address(thing: type) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def without_address(inventory: Collection[str]) -> list[str]:
    """Addresses of public classes and members that an inventory of the site lacks.

    Args:
        inventory: Names of the built site's ``objects.inv``.
    """
    wanted = {_address(thing) for thing in _listed()}
    wanted |= {f"{_address(owner)}.{name}" for thing in _listed() for name, owner in owners(thing).items()}
    return sorted(wanted - set(inventory))


def on_post_build(config: Any) -> None:
    """A member without an address fails the build."""
    from mkdocs.exceptions import PluginError

    content = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    inventory = {line.split(" ")[0] for line in zlib.decompress(content).decode().splitlines()}
    if missing := without_address(inventory):
        raise PluginError(
            f"the reference lacks {', '.join(missing)}: describe them in a docstring, or begin their names with _"
        )


def _classes(package: str) -> list[str]:
    module = importlib.import_module(package)
    return [name for name in module.__all__ if inspect.isclass(getattr(module, name))]


def _home_of_constant(package: str, name: str) -> str:
    """The module in which a constant is assigned and described, or ""."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for one, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            described = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            return package if described else ""
        if isinstance(one, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in one.names):
            return _home_of_constant(str(one.module), name)
    return ""


def reference(package: str) -> str:
    """The page of a package: what it is for, and every public name.

    A name that a smaller package has too is described there, and linked here: it has one address.
    """
    module = importlib.import_module(package)
    lines = [f"# {package}", "", inspect.getdoc(module) or "", ""]
    for name in sorted(module.__all__, key=str.lower):
        thing = getattr(module, name)
        own = inspect.isclass(thing) or inspect.isfunction(thing)
        home = thing.__module__ if own else _home_of_constant(package, name)
        elsewhere = [
            other
            for other in PUBLIC[1:]
            if (package == PUBLIC[0] or (own and other == home != package))
            and name in importlib.import_module(other).__all__
        ]
        if elsewhere:
            lines += [f"## {name}", "", f"See [`{elsewhere[0]}.{name}`]({elsewhere[0]}.md#{home}.{name}).", ""]
        else:
            lines += [f"::: {home}.{name}"]
            if inspect.isclass(thing) and (more := inherited_members(thing)):
                lines += ["    options:", f"      inherited_members: [{', '.join(more)}]"]
            lines += ["", inherited(thing) if inspect.isclass(thing) else "", ""]
    return "\n".join(lines)


def environment(name: str) -> str:
    """The page of an environment: a picture of an episode, then the docstring of its problem."""
    from teleport_env.problems import PROBLEMS
    from teleport_env.registration import id_of

    picture = f"images/environments/{name.lower()}.png"
    shown = f"![An episode](../{picture})\n\n" if (ROOT / "docs" / picture).exists() else ""
    page = inspect.getdoc(PROBLEMS[name]) or ""
    title, _, rest = page.partition("\n")
    return (
        f"# {name}\n\n{shown}{title}\n\n```python\nimport gymnasium as gym\n\n"
        f'env = gym.make("teleport_env:{id_of(name)}", split="train")\n```\n\n'
        f"Budget, tolerance and menu by default: [Problems](../problems.md#defaults).\n{rest}\n"
    )


def notebook(cells: list[dict[str, Any]], name: str) -> tuple[str, dict[str, bytes]]:
    """A tutorial as Markdown, and the pictures that its cells have drawn, under their file names."""
    text, pictures = [], {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text.append(source)
            continue
        text.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}-{len(pictures)}.png"
                pictures[file] = base64.b64decode("".join(data["image/png"]))
                text.append(f"![Output of the cell above]({file})")
            else:
                text.append("```text\n" + "".join(output.get("text", data.get("text/plain", ""))).rstrip() + "\n```")
    return "\n\n".join(text) + "\n", pictures


def relinked(text: str, folder: str) -> str:
    """Links from a page in ``folder`` of the repository, as the site has them; plain text where it lacks the file."""

    def changed(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = os.path.normpath(os.path.join(folder, target))
        if path in OUTSIDE:
            return f"[{label}]({OUTSIDE[path]}{anchor})"
        page = os.path.relpath(path, "docs").replace(".ipynb", ".md")
        return f"[{label}]({page}{anchor})" if path.startswith("docs/") else label

    return re.sub(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)", changed, text)


def on_config(config: Any) -> Any:
    from teleport_env.problems import PROBLEMS

    for section in config.nav:
        if "Environments" in section:
            section["Environments"] += [{name: f"environments/{name.lower()}.md"} for name in PROBLEMS]
        if "API reference" in section:
            section["API reference"] = [
                {package.removeprefix("teleport_env."): f"reference/{package}.md"} for package in PUBLIC
            ]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    from teleport_env.problems import PROBLEMS

    def add(uri: str, content: str | bytes) -> None:
        files.append(File.generated(config, uri, content=content))

    for source, uri in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        add(uri, relinked(text, "") if source.endswith(".md") else text)
    for name in PROBLEMS:
        add(f"environments/{name.lower()}.md", environment(name))
    for package in PUBLIC:
        add(f"reference/{package}.md", reference(package))
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        page, pictures = notebook(json.loads(path.read_text(encoding="utf-8"))["cells"], path.stem)
        add(f"tutorials/{path.stem}.md", page)
        for file, content in pictures.items():
            add(f"tutorials/{file}", content)
    return files


def _bars(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    # GitHub needs a backslash before a bar within the code of a table, and Python-Markdown would show it
    markdown = re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]*`", _bars, row[0]), markdown, flags=re.MULTILINE)
    written = page.file.generated_by is None and "/" not in page.file.src_uri
    return relinked(markdown, "docs") if written else markdown
