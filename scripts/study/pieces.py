"""Work that can be cut off: every finished piece lies in a file and is not done again.

A file holds the settings that its result depends on. A piece whose file says other settings is an error, not a silent reuse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teleport_env.agents.comparison.parallel import run_tasks


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    Attributes:
        path: Of its file, relative to the folder.
        settings: All that its result depends on, in JSON's types.
        work: What does it: a function that can be pickled, and whose result is in JSON's types.
        arguments: Of the function.
    """

    path: str
    settings: dict[str, Any]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


def complete(
    pieces: Iterable[Piece],
    folder: Path,
    *,
    jobs: int = -1,
    backend: str = "processes",
    title: str = "",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The results of all pieces by path: read where they are done, worked out where they are not.

    Raises:
        ValueError: A file belongs to other settings, or is none of this kind.
    """
    listed = list(pieces)
    results: dict[str, Any] = {}
    missing = []
    for piece in listed:
        path = folder / piece.path
        if path.exists():
            results[piece.path] = _read(path, piece.settings)
        else:
            missing.append(piece)
    if len(missing) < len(listed):
        report(f"{title}: {len(listed) - len(missing)} of {len(listed)} were done before")
    settings = {piece.path: piece.settings for piece in missing}
    tasks = [(_named, (piece.path, piece.work, piece.arguments)) for piece in missing]
    for path_, result in run_tasks(tasks, jobs=jobs, backend=backend, title=title):
        _write(folder / path_, {"settings": settings[path_], "result": result})
        results[path_] = result
    return {piece.path: results[piece.path] for piece in listed}


def _named(path: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    return path, work(*arguments)


def _read(path: Path, settings: dict[str, Any]) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        before, result = content["settings"], content["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a finished piece of a comparison ({error}); remove it") from error
    now = json.loads(json.dumps(settings))
    if before != now:
        differ = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        raise ValueError(
            f"{path} was made with other settings ({', '.join(differ)}); give another folder with --out, or remove it"
        )
    return result


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: a process may be killed while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, path)
