"""Look for words that the rules for prose forbid, and for long sentences: `make lint`.

Read are README, CONTRIBUTING, CHANGELOG, the pages and tutorials of ``docs/``, the docstrings of everything public, and the
texts in them that become ``--help``. Machine-written tables and pages are not read: lines of a table, and pages that say in
their first lines which command writes them. Code, links and quotations are left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 25
"""Words of a sentence, not counting code and what stands in parentheses."""
CODE = "CODE"

_EACH = r"run|row|episode|step|search|problem|process|setting|command|segment|action|teleport|column|instance|agent|option"
FORBIDDEN = {
    r"\btold\b": "say who rejects, reads or prints",
    r"\b(whoever|nobody|whither)\b": "name the subject",
    r"\bone another\b": "each other",
    r"\b(one|two|row|rows|entry|entries|number|numbers|array|arrays|evaluations|seconds|times|draws|columns?|files?|threads?|magnitude|"
    rf"gradients?|steps|teleports|actions|decisions) an? (gradient |played |rate )?({_EACH}|factor)\b": "per",
}
"""Patterns, and what to write instead."""


def plain(markdown: str) -> str:
    """Prose alone: without blocks of code, tables, headings, quotations and targets of links; inline code is `CODE`."""
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    kept = []
    for line in text.splitlines():
        line = line.strip()
        if re.match(r"[|#>=]|---|:::|!\[", line):
            line = ""
        if re.match(r"[*-] |\d+\. ", line):
            kept.append("")  # an item is a paragraph of its own
        kept.append(re.sub(r"^([*-]|\d+\.) ", "", line))
    text = re.sub(r"``.*?``|`[^`]*`", CODE, "\n".join(kept), flags=re.DOTALL)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def sentences(text: str) -> Iterator[str]:
    """Sentences of plain prose; a colon or a semicolon does not end one."""
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        yield from (one for one in re.split(r"(?<=[.!?])[)\"*]* (?=[A-Z*\"(])", line) if one)


def complaints(markdown: str, longest: int = LONGEST) -> Iterator[str]:
    """What is wrong with a text."""
    for sentence in sentences(plain(markdown)):
        for pattern, better in FORBIDDEN.items():
            for match in re.finditer(pattern, sentence, re.IGNORECASE):
                yield f'"{match[0]}" ({better}): {sentence[:90]}'
        words = [word for word in re.sub(r"\([^()]*\)", "", sentence).split() if re.search(r"\w", word) and CODE not in word]
        count = len(words)
        if count > longest:
            yield f"{count} words: {sentence[:90]}"
