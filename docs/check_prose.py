"""Look for words that make prose hard to read, and for long sentences: `make lint`.

Words are looked for in README, CONTRIBUTING, CHANGELOG, the pages and tutorials of ``docs/``, in all docstrings,
comments, messages and texts of ``--help``, in tests, in templates, in the pages' scripts, in C, in the tables beside result
pages, in the claims of the reproduction, in the Makefile and in ``mkdocs.yml``. The text of an argument or attribute begins
with a noun, or with what a switch does. Sentences are counted in
pages, tutorials and the docstrings that are pages. Cells of tables, and comments and texts in blocks of
code, are searched for words alone. Code, quotations and targets of links are left out.

Checkers of prose from the registries do not fit: proselint has a list of its own and takes no other, and Vale is a program
in Go that has to be fetched apart.
"""

from __future__ import annotations

import ast
import csv
import inspect
import math
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LONGEST = 25
"""Words of a sentence, not counting code and what stands in parentheses; the strict count has both."""
CODE = "CODE"
ASIDE = 12
"""Words that a parenthesis may have, where it is no source and no list of versions."""
NOTES = ("learning-log.md", "performance-networks.md", "reproduction-details.md")
"""Logs of experiments and an appendix, whose sentences may be as long as their lists of numbers."""
STRICT = ("README.md", "results*.md", "transfer*.md", "factorial*.md", "reproduction.md")
"""Pages whose sentences are counted with code and parentheses."""

_COUNTED = (
    "one|two|once|twice|us|elements?|rows?|entry|entries|numbers?|arrays?|evaluations|seconds|times|draws|columns?|files?|threads?|magnitude|"
    "gradients?|steps|teleports|actions|decisions|instances|episodes|seeds|configurations|losses|products|parameters|"
    "points?|values?|panels?|pictures?|dicts?|tensors?|rates?|calls|trainings|draws|bytes"
)
_EACH = (
    "run|row|episode|step|search|problem|process|setting|command|segment|action|teleport|column|instance|agent|option|"
    "seed|pair|layer|factor|core|training|example|task|case|panel|policy|feature|rate|unit|image|group|file|line|machine|"
    "thread|second|minute|hour|day|question|family|claim|cell|method|solver|page|curve|point|matrix|block|batch|key|draw|"
    "entry|schedule|size|width|configuration|plan|rule|update|evaluation|decision|gradient"
)
_NO_MEASURE = (
    "a|about|after|against|along|also|among|an|and|are|as|at|be|before|beside|between|both|but|by|call|called|can|cannot|cost|costs|did|"
    "do|does|down|during|for|from|gave|give|gives|had|has|have|how|if|in|instead|into|is|it|its|like|looks|lose|made|make|makes|may|must|"
    "need|needs|never|no|nor|not|of|off|on|once|only|onto|or|out|over|per|should|since|so|such|take|takes|than|that|the|then|"
    "they|this|through|to|took|under|until|up|via|was|were|what|when|where|whether|which|while|who|whose|will|with|within|"
    "without|would"
)
"""Words between a number and "a run" that make the run no measure: verbs, prepositions, conjunctions."""
_NOUN = rf"(?!(?:{_NO_MEASURE})\b)[\w'-]+"
_MEASURED = f"{_NOUN} "
_PER = rf"an? (?:(?:gradient|played|rate|base|training|hidden) )?(?:{_EACH})\b"
_NO_SUBJECT = (
    r"(?! (?:\w+(?<!s)s|can|cannot|could|may|must|of|should|that|took|where|which|whose|will|with|without|would)\b)"
)
"""What follows tells that the run is no subject of a clause: "after two steps a run stops"."""
_MANY = r"\d[\d,.]*|two|three|four|five|six|seven|eight|nine|ten|many|few|more|fewer"
_PLAYER = (
    r"rule(?:'s)?|policy|policies|specialists?|generalist|schedules?|oracle|baseline|solvers?|control|agents?|rivals?"
)
_RIVAL = (
    r"(?:plain descent|(?:\w+'s )?L-BFGS|Adam|Newton|its like|the latter|"
    rf"(?:that of )?(?:an?|the|its|that|every|any|each|all) (?:\w+ )?(?:{_PLAYER}))\b"
)
_ONE = rf"(?:one|1|an?|the same) (?:{_MEASURED}){{0,2}}(?=\w*[^\Ws] |\w*ss ){_MEASURED}{_PER}"
_ONE_PER = rf"^{_ONE}|(?<!make )(?<!makes )(?<!gives )\b{_ONE}{_NO_SUBJECT}"
"""One key a row."""
_MANY_PER = rf"\b(?:{_MANY}) (?:{_MEASURED}){{0,2}}(?=[\w'-]+s ){_MEASURED}{_PER}{_NO_SUBJECT}"
"""Two new inputs a run."""
_END = r"(?=[.,;:)]|$)"
"""End of a clause: there "two losses a word" is a measure, whatever the word."""
_IS = r"\b(?:is|are|was|were|be|lies?|stays?|ends?|remains?) (?:\w+ly |far |well |just |never |not )?"
_NO_AGENT = (
    "an?|the|its|this|that|these|those|what|it|them|zero|none|half|is|which|one|both|any|each|all|in|and|or|as|by"
)
"""Words after "is above" that do not name an agent without an article."""
FORBIDDEN = {
    r"\btold\b": "say who rejects, reads or prints",
    r"\b(whoever|nobody|whither)\b": "name the subject",
    r"\bone another\b": "each other",
    _ONE_PER: "per",
    _MANY_PER: "per",
    rf"\b({_COUNTED}) {_PER}": "per",
    rf"\b(?:{_MANY}) (?:{_MEASURED})?{_NOUN}(?<=s) an? [\w-]+{_END}": "per",
    rf"\b(?:one|1) (?:{_MEASURED})?{_NOUN}(?<!s) an? [\w-]+{_END}": "per",
    r"\d (?:[num]?s|[KMG]B) an? \w+": "per",
    r"\b(a|one) (row|panel|line|column|file|dict) an? \w+ (and|each|of|,)": "per",
    r"\bsignificantly (above|below)\b|\b(is|are|was|were) (above|below) (every|all)\b": "better or worse than",
    rf"(?<!magnitude )\b(above|below) {_RIVAL}": "better or worse than",
    rf"{_IS}(?:above|below) (?!(?:{_NO_AGENT}|{CODE})\b)(?=[a-z])": "better or worse than",
    r"\bcut off\b": "resumable, resumed, interrupted",
    r"\bwhat (?:[\w'-]+ ){1,3}(?:is|are|was|were|would have been|could be) worth\b(?! \w+ing\b)": "a noun, such as the gain",
    r"\bas (?!(?:often|much|many|well|it|they|those|far|long) )([\w'-]+ ){1,5}(does|do|did)\b": "a plain statement",
    r"(?<!says )(?<!say )\bwhat (an?|the|its|their|this|each|every) ([\w'-]+ ){1,3}(is|are)(?! \w+(ed|id|en)\b)\b": "a noun",
}
"""Patterns, and what to write instead."""
_COMPILED = [(re.compile(pattern, re.IGNORECASE), better) for pattern, better in FORBIDDEN.items()]
_WITHOUT_ARTICLE = [one for one in _COMPILED if one[1] != "per"]
_WORD = re.compile(r"\S*\w\S*")
_NO_NOUN = (
    "Of|What|How|Where|Which|As|Who|Whose|When|If|By|For|From|To|With|Among|At|In|Before|After|Under|Until|Then|And|That|"
    "Called|Made|Gives|Sees|Whether so|Given|Is|Are|Has|Can|May|Must|Does|Goes|Makes|Decides|Evaluates|It|Per|Not|Used|"
    "Taken|Applied|Left|Likewise|Else|Such|See|On|Off|Over|Between|Within|Without|Through|Because|So|But|While|Also|Only"
)
"""Words that the text of an argument does not begin with."""


_SOURCE = re.compile(r"\b(19|20)\d\d\b|\d+\.\d+\.\d+|arXiv")
"""What a parenthesis has that names a publication or versions."""


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


def words_of(text: str, strict: bool = False) -> int:
    """Number of words, with or without code; no signs."""
    return sum(strict or CODE not in word for word in _WORD.findall(text))


def forbidden(sentence: str) -> Iterator[str]:
    """Words of a plain sentence that are not to be written."""
    found: list[re.Match[str]] = []
    article = " a " in sentence or " an " in sentence  # a bare "a" for "per" is costly to look for
    for pattern, better in _COMPILED if article else _WITHOUT_ARTICLE:
        for match in pattern.finditer(sentence):
            if any(match.start() < one.end() and one.start() < match.end() for one in found):
                continue
            found.append(match)
            yield f'"{match[0]}" ({better}): {sentence[:90]}'


def asides(markdown: str) -> Iterator[str]:
    """Plain text of a page beside its prose: cells of tables, comments and texts in blocks of code."""
    for row in re.findall(r"^\|(.*)\|$", markdown, re.MULTILINE):
        yield from (plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", row))
    for _, language, code in re.findall(r"^(```|~~~)(\w*)[^\n]*\n(.*?)^\1$", markdown, re.DOTALL | re.MULTILINE):
        yield from re.findall(r"(?:^|\s)# (.*)$", code, re.MULTILINE)
        if language == "python":
            yield from (plain(text) for text in texts(ast.parse(code)))


def complaints(text: str, longest: float = LONGEST, aside: float = ASIDE, strict: bool = False) -> Iterator[str]:
    """What is wrong with a text in Markdown; ``longest`` sentence and ``aside`` in words."""
    for beside in asides(text):
        yield from forbidden(" ".join(beside.split()))
    for sentence in sentences(plain(text)):
        yield from forbidden(sentence)
        for found in re.findall(r"\([^()]*\)", sentence):
            if words_of(found) > aside and not _SOURCE.search(found):
                yield f"{words_of(found)} words in parentheses: {found[:90]}"
        count = words_of(
            re.sub(r"\([^()]*\)", lambda one: one[0] * (strict and not _SOURCE.search(one[0])), sentence), strict
        )
        if count > longest:
            yield f"{count} words: {sentence[:90]}"


def openings(docstring: str) -> Iterator[str]:
    """Arguments and attributes of a docstring whose text does not begin with a noun."""
    for section in re.findall(r"^(?:Args|Attributes):\n((?: {4}.*\n?|\n)+)", docstring, re.MULTILINE):
        for name, word in re.findall(rf"^ {{4}}(\S[^:\n]*): ({_NO_NOUN})\b", section, re.MULTILINE):
            yield f'"{name}: {word} ..." (begin with a noun)'


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """`ast.walk` in half its time: most of a check is spent there."""
    nodes = deque([tree])
    while nodes:
        node = nodes.popleft()
        yield node
        for value in vars(node).values():
            if isinstance(value, list):
                nodes.extend(one for one in value if isinstance(one, ast.AST))
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                nodes.append(value)


def texts(tree: ast.AST) -> Iterator[str]:
    """Strings of a module with a blank between words; an f-string is one text, with `CODE` for its values."""
    pieces: set[ast.AST] = set()
    for node in _walk(tree):  # an f-string comes before its pieces
        text = ""
        if isinstance(node, ast.JoinedStr):
            pieces.update(node.values)
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else CODE for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            text = node.value
        if re.search(r"\w \w", text):
            yield inspect.cleandoc(text)


_STRING_OR_COMMENT = re.compile(r"""(\"\"\"|\'\'\'|\"|\')(?:\\.|(?!\1).)*?\1|#[^\n]*(?:\n[ \t]*#[^\n]*)*""", re.DOTALL)


def comments(code: str, strings: bool = False) -> Iterator[str]:
    """Comments of a module, lines below each other as one, and where asked its strings; `tokenize` is far slower."""
    for found in _STRING_OR_COMMENT.finditer(code):
        if found[0].startswith("#"):
            yield re.sub(r"^[ \t]*# ?", "", found[0], flags=re.MULTILINE)
        elif strings and re.search(r"\w \w", found[0]):
            yield found[0].strip(found[1])


def of_page(path: Path) -> Iterator[str]:
    """Complaints about a page."""
    free = path.name in NOTES
    strict = any(path.match(one) for one in STRICT) and not free
    longest, aside = (math.inf, math.inf) if free else (LONGEST, ASIDE)
    yield from complaints(path.read_text(encoding="utf-8"), longest, aside, strict)


def of_tutorial(path: Path) -> Iterator[str]:
    cells = re.split(r"^# %%(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for kind, text in zip(cells[1::2], cells[2::2], strict=True):
        if "[markdown]" in kind:
            yield from complaints(re.sub(r"^# ?", "", text, flags=re.MULTILINE))


def of_code(path: Path) -> Iterator[str]:
    """Complaints about docstrings, messages and comments, and about long sentences of manual pages."""
    code = path.read_text(encoding="utf-8")
    for text in comments(code):
        yield from complaints(text, math.inf, math.inf)
    for text in texts(ast.parse(code)):
        items = re.sub(r"^ +(?=\w+: )", "\n* ", text, flags=re.MULTILINE)  # an argument each
        yield from complaints(items, LONGEST if "\n## Description\n" in text else math.inf)
        yield from openings(text)


def of_test(path: Path) -> Iterator[str]:
    """Complaints about words in the comments, docstrings and texts of tests."""
    for text in comments(path.read_text(encoding="utf-8"), strings=True):
        yield from complaints(text, math.inf, math.inf)


def of_table(path: Path) -> Iterator[str]:
    """Complaints about words in the cells of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row if re.search(r"[a-z] [a-z]", cell)}
    for cell in sorted(cells):
        yield from complaints(cell, math.inf, math.inf)


def of_template(path: Path) -> Iterator[str]:
    """Complaints about words in the template of a page or of a report."""
    yield from complaints(path.read_text(encoding="utf-8"), math.inf, math.inf)


def of_source(path: Path) -> Iterator[str]:
    """Complaints about words in a whole file of another language: its comments and its texts, without Jinja's code."""
    text = re.sub(r"{{.*?}}|{%.*?%}", CODE, path.read_text(encoding="utf-8"))
    text = re.sub(r"^\s*(#+|//) ?|`", "", re.sub(r"/\*|\*/", "\n\n", text), flags=re.MULTILINE)
    yield from complaints(text, math.inf, math.inf)


def main() -> int:
    pages = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.glob("*.md"))]
    tutorials = sorted((DOCS / "tutorials").glob("*.py"))
    folders = [ROOT / name for name in ("teleport_env", "agents", "scripts", "examples")]
    code = [
        path for folder in folders for path in sorted(folder.rglob("*.py")) if "teleport_env/agents" not in str(path)
    ]
    code += [path for path in sorted(DOCS.glob("*.py")) if path != Path(__file__).resolve()]  # which names the words
    templates = [path for folder in folders for end in ("j2", "html") for path in sorted(folder.rglob(f"*.{end}"))]
    tests = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.name != "test_prose.py"]  # likewise
    patterns = ("scripts/explorer/*.js", "agents/comparison/templates/*.js", "teleport_env/native/*.[ch]")
    patterns += ("teleport_env/native/*.inc", "scripts/reproduction/claims.toml", "Makefile", "mkdocs.yml", ".ci/run")
    sources = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    found = [
        f"{path.relative_to(ROOT)}: {complaint}"
        for read, paths in (
            (of_page, pages),
            (of_tutorial, tutorials),
            (of_code, code),
            (of_test, tests),
            (of_table, sorted((DOCS / "results-data").rglob("*.csv"))),
            (of_template, templates),
            (of_source, sources),
        )
        for path in paths
        for complaint in read(path)
    ]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
