"""Descriptions of members in the reference: the extension of griffe that ``mkdocs.yml`` names.

A field is described in its class's docstring, and an override by what it overrides. Here each gets that text as its own, so
that it has an entry with an address. The section ``Attributes`` of a docstring then stands in these entries alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).resolve().parent))
from site_pages import SECTION, described


def _moved(docstring: str, members: Any) -> str:
    """A docstring without its attributes, if all of them are members with entries of their own."""

    def kept(section: re.Match[str]) -> str:
        moved = section[1] == "Attributes" and set(described(section[0])) <= set(members)
        return "" if moved else section[0]

    return SECTION.sub(kept, docstring).strip()


class Members(griffe.Extension):
    """Give fields and overrides the text that describes them."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        texts: dict[str, dict[str, str]] = {}
        classes = list(_classes(pkg))
        for one in classes:
            own = described(one.docstring.value) if one.docstring else {}
            own |= {name: member.docstring.value for name, member in _members(one).items() if member.docstring}
            texts[one.path] = own
        for one in classes:
            for name, member in _members(one).items():
                if name.startswith("_") or member.docstring:
                    continue
                text = next((texts[c.path][name] for c in (one, *one.mro()) if name in texts.get(c.path, {})), None)
                if text is not None:
                    member.docstring = griffe.Docstring(text, parent=member)
            if one.docstring:
                one.docstring.value = _moved(one.docstring.value, one.members)


def _members(one: griffe.Class) -> dict[str, Any]:
    return {name: member for name, member in one.members.items() if not member.is_alias}


def _classes(module: Any) -> Any:
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_class:
            yield member
        if member.is_module:
            yield from _classes(member)
