"""Modules of one's own on a command line: ``--import MODULE``, any number of times."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from teleport_env.registration import import_own

IMPORT = "--import"
IMPORTS = (
    f"{IMPORT} MODULE (any number of times) first imports a module of your own, which registers problems, agents or "
    "searches. It is looked for in the current folder too, and worker processes import it as well."
)


def own_words(words: Sequence[str] | None) -> list[str]:
    """The command line without its ``--import``, which are done.

    Raises:
        SystemExit: With status 2, where a module cannot be imported.
    """
    rest: list[str] = []
    given = iter(sys.argv[1:] if words is None else words)
    for word in given:
        flag, sign, module = word.partition("=")
        if flag != IMPORT:
            rest.append(word)
            continue
        try:
            import_own(module if sign else next(given, ""))
        except ValueError as error:
            print(f"{IMPORT}: {error}", file=sys.stderr)
            raise SystemExit(2) from error
    return rest
