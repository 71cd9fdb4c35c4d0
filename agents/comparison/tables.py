"""One description of a table, shown in three ways: as HTML, as Markdown, and on a terminal.

A `Table` has columns and rows; a `Column` has a heading and makes the `Cell` of a row. The three renderers take the same
description, so that a figure reads the same wherever it stands. Two things happen here and nowhere else: names are escaped,
so that they are shown as they stand whatever they hold, and figures that are not finite are replaced (`MISSING`).

Pages are Jinja2 templates: `render` fills one in. Those that end in ``.html`` escape everything that they are given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

MISSING = "n/a"
"""What stands in place of a figure that is not finite."""

_STYLES = {"": "", "top": "bold", "win": "green", "loss": "red"}  # on a terminal
_TEMPLATES = Path(__file__).parent / "templates"
# what f-strings make of a float that is not finite; in prose alone, since an agent may be called "nan"
_NOT_FINITE = re.compile(r"[+-]?\b(?:nan|inf)\b(?:\s*(?:%|±\s*(?:nan|inf)\b))?")


class Cell(NamedTuple):
    """What a table shows at one place.

    Attributes:
        text: The figure or the words.
        range: The interval of the figure, ``"[low, high]"``; empty where there is none.
        look: ``"top"`` (bold), ``"win"``, ``"loss"`` or nothing. The latter two are colours, which Markdown does not have.
    """

    text: str
    range: str = ""
    look: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.range}" if self.range else self.text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        show: Function that makes the cell of a row.
        about: A sentence on what stands in it, shown where the pointer rests on the heading of an HTML table.
        words: Whether it holds words, on the left; otherwise figures, on the right.
        prose: Whether it holds Markdown of ours in place of names, which are escaped.
        short: Its heading on a terminal; empty: the same.
        width: The most characters that it takes on a terminal, which then wraps no row of the table; None: any number.
        more: A page may leave it out until it is asked for.
    """

    title: str
    show: Callable[[Any], Cell | str]
    about: str = ""
    words: bool = False
    prose: bool = False
    short: str = ""
    width: int | None = None
    more: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Its columns, the first of which names the row.
        rows: Records, each an argument of `Column.show`.
        asides: Rows apart from the others, with the label that stands above them.
        title: A heading on a terminal.
        best: Whether a row is the one that the others are measured by; HTML shades it.
    """

    columns: Sequence[Column]
    rows: Sequence[Any]
    asides: Sequence[tuple[str, Sequence[Any]]] = ()
    title: str = ""
    best: Callable[[Any], bool] = lambda row: False

    def only(self, *titles: str) -> Table:
        """The same table with these columns alone, in this order."""
        columns = {column.title: column for column in self.columns}
        return replace(self, columns=[columns[title] for title in titles])

    @property
    def parts(self) -> list[tuple[str, list[Any]]]:
        """Labels and rows that there are; the first part has no label."""
        return [(label, list(rows)) for label, rows in [("", self.rows), *self.asides] if len(rows)]

    def cells(self, row: Any) -> list[tuple[Column, Cell]]:
        """A row's cells beside their columns."""
        made = [(column, column.show(row)) for column in self.columns]
        cells = [(column, cell if isinstance(cell, Cell) else Cell(cell)) for column, cell in made]
        return [(column, cell._replace(text=one_line(cell.text))) for column, cell in cells]


def listed(heads: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, words: int = 1, prose: bool = False) -> Table:
    """A table of rows that are their cells; the first ``words`` columns hold words, which are ``prose`` or not."""

    def column(place: int) -> Column:
        return Column(heads[place], lambda row: row[place], words=place < words, prose=prose)

    return Table([column(place) for place in range(len(heads))], list(rows))


# -- figures -----------------------------------------------------------------------------------------------------------


def number(value: float, digits: int = 2, *, sign: bool = False, unit: str = "") -> str:
    """A figure with thousands apart; `MISSING` where it is not finite."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")  # no "+0.00"
    return text + unit


def significant(value: float) -> str:
    """A figure of a kind whose sizes differ by orders, such as a cost: three digits."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    return number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def percent(share: float, digits: int = 1) -> str:
    """A share in percent."""
    return number(100.0 * share, digits, unit=" %")


def interval(ends: Sequence[float], digits: int = 2, *, sign: bool = False, unit: str = "", scale: float = 1.0) -> Cell:
    """An estimate with the ends of its interval, ``(estimate, low, high)``.

    An infinite end is open (``"?"``). The interval is left out where its ends are NaN, as that of a single episode.
    """
    middle, low, high = (number(scale * value, digits, sign=sign, unit=unit) for value in ends)
    if middle == MISSING or math.isnan(ends[1]) or math.isnan(ends[2]):
        return Cell(middle)
    return Cell(middle, f"[{low.replace(MISSING, '?')}, {high.replace(MISSING, '?')}]")


def setting(value: Any) -> str:
    """The value of a setting: floats with four digits."""
    return str(value) if not isinstance(value, float) else f"{value:.4g}" if math.isfinite(value) else MISSING


def to_json(content: Any, **options: Any) -> str:
    """The content as JSON that every reader takes: figures that are not finite are null."""

    def finite(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: finite(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [finite(value) for value in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(finite(content), ensure_ascii=False, allow_nan=False, **options) + "\n"


# -- text --------------------------------------------------------------------------------------------------------------


def one_line(text: object) -> str:
    """The text without line breaks, and with a replacement character for what is no character of a text."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(text).split()))


def in_markdown(text: object, prose: bool = False) -> str:
    """The text as it stands in Markdown, in a table too: what would be markup is escaped, but for that of ``prose``."""
    shown = one_line(text)
    if prose:
        return _NOT_FINITE.sub(MISSING, shown).replace("|", "\\|")
    # a bracket begins a link only before a parenthesis, and "<" a tag only before a letter or one of "/!?"
    shown = re.sub(r"([\\|*`]|<(?=[A-Za-z/!?])|\](?=\())", r"\\\1", shown)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", shown)


# -- the three ways ----------------------------------------------------------------------------------------------------


def html(table: Table) -> Any:
    """The table as HTML (markup, which a template does not escape again)."""
    from markupsafe import Markup

    return Markup(render("table.html", table=table))


def _breakable(text: str) -> Any:
    """The text as HTML whose lines may end after a comma, as between the settings of an agent, and not within "L-BFGS"."""
    from markupsafe import Markup, escape

    shown = re.sub(r",(?!\s)", ",<wbr>", str(escape(text)))  # a space lets a line end by itself
    return Markup(re.sub(r"\b[A-Za-z]-\w+", r'<span class="whole-word">\g<0></span>', shown))


def _code(text: str) -> Any:
    """The text as HTML, with code where it has backticks."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def markdown(table: Table) -> str:
    """The table as Markdown, its parts one after the other."""
    return render("table.md.j2", table=table).rstrip("\n")


def terminal(table: Table) -> TerminalTable:
    """The table for a terminal, as rich prints it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as TerminalTable
    from rich.text import Text

    shown = TerminalTable(title=Text(one_line(table.title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    narrow = any(column.width for column in table.columns)  # then every row keeps to its line
    for column in table.columns:
        justify: Any = "left" if column.words else "right"
        shown.add_column(Text(column.short or column.title), justify=justify, no_wrap=narrow, max_width=column.width)
    for _, rows in table.parts:
        shown.add_section()
        for row in rows:
            shown.add_row(*(Text(str(cell), _STYLES[cell.look]) for _, cell in table.cells(row)))
    return shown


def render(template: str, folder: Path | None = None, **values: Any) -> str:
    """A template filled in.

    Args:
        template: The name of its file, which escapes for HTML where it ends in ``.html``.
        folder: Folder of the template; None: beside this module. The templates beside this module may be included from
            anywhere.
        values: Values of the names in the template. A `Table` is shown by the filters ``html`` and ``markdown``, a name
            by ``plain``, a figure by ``significant``.

    Raises:
        ImportError: Jinja2 is not installed; the message names the extra.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
    except ImportError as error:
        raise ImportError('reports need Jinja2: pip install "teleport-env[compare]"') from error
    made = Environment(
        loader=FileSystemLoader([path for path in (folder, _TEMPLATES) if path]),
        autoescape=select_autoescape(("html",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"html": html, "markdown": markdown, "plain": in_markdown, "significant": significant}
    made.filters |= {"breakable": _breakable, "code": _code}
    return made.get_template(template).render(**values)
