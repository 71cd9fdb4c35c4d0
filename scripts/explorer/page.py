"""The page as one HTML text: style, script and data inline, so that it needs no network and, exported, no server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PARTS = Path(__file__).parent


def page(data: dict[str, Any]) -> str:
    """The page.

    Args:
        data: ``{"choices": ...}`` for the page that the server gives, or ``{"episode": ...}`` for an export, where the
            value is what `explorer.course.Course.document` or `explorer.session.Session.state` gives.
    """
    # neither of the two marks may end the element that they stand in
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    html = (_PARTS / "page.html").read_text(encoding="utf-8")
    parts = {"STYLE": (_PARTS / "page.css").read_text(encoding="utf-8")}
    parts["SCRIPT"] = "\n".join((_PARTS / name).read_text(encoding="utf-8") for name in ("draw.js", "page.js"))
    for name, part in {**parts, "DATA": text}.items():
        html = html.replace(f"@@{name}@@", part)
    return html


def export(episode: dict[str, Any]) -> str:
    """An episode as a page that plays without the server."""
    return page({"episode": episode})
