"""Resumable work: every finished piece lies in a file and is not done again.

A file holds the settings that its result depends on, and a checksum of all. A piece whose file says other settings, or was
edited, is an error, not a silent reuse.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teleport_env.agents.comparison.parallel import run_tasks
from teleport_env.files import checksum, read_bytes, write

MAX_BYTES = 1 << 30
"""Largest file of a piece that is read."""


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    Attributes:
        path: Path of its file, relative to the folder.
        settings: All that its result depends on, in JSON's types.
        work: Function that does it, which can be pickled, and whose result is in JSON's types.
        arguments: Arguments of the function.
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
        ValueError: A file belongs to other settings, or is none of this kind; or two pieces have one file.
    """
    listed: dict[str, Piece] = {}
    for piece in pieces:
        if listed.setdefault(piece.path, piece).settings != piece.settings:
            raise ValueError(f"different pieces of work would be written to one file, {piece.path}: change their names")
    done = {name: read(folder / name, piece.settings) for name, piece in listed.items() if (folder / name).exists()}
    missing = [piece for name, piece in listed.items() if name not in done]
    if done:
        report(f"{title}: {len(done)} of {len(listed)} were done before")
    tasks = [(_named, (piece.path, piece.work, piece.arguments)) for piece in missing]
    began, bar = time.perf_counter(), sys.stdout.isatty()
    for count, (name, result) in enumerate(run_tasks(tasks, jobs=jobs, backend=backend, title=title), 1):
        write_piece(folder / name, listed[name].settings, result)
        done[name] = result
        if not bar:  # a log has no bar to look at
            took = time.perf_counter() - began
            left = took / count * (len(missing) - count)
            report(f"{title}: {len(done)} of {len(listed)} done after {took:.0f} s, about {left:.0f} s left: {name}")
    return {name: done[name] for name in listed}


def _named(path: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    return path, work(*arguments)


def read(path: Path, settings: Mapping[str, Any] | None = None) -> Any:
    """The result in a piece's file.

    Args:
        path: The file.
        settings: Settings that the piece must have been made with; None: any.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It belongs to other settings, or is none of this kind; damage is found by a checksum.
    """
    content = content_of(path)
    now = content["settings"] if settings is None else json.loads(json.dumps(settings))
    before = content["settings"]
    # a setting that is None is one that there was not when the piece was made
    differ = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if differ:
        raise ValueError(
            f"{path} was made with other settings ({', '.join(differ)}); give another folder with --out, or remove it"
        )
    return content["result"]


def content_of(path: Path) -> dict[str, Any]:
    """The settings and the result in a piece's file; raises as `read`."""
    try:
        content = json.loads(read_bytes(path, MAX_BYTES))
        whole = content["sha256"] == checksum(content) and set(content) == {"settings", "result", "sha256"}
        if not whole or not isinstance(content["settings"], dict):
            raise ValueError("its checksum does not fit: it was damaged or edited")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a finished piece of a comparison ({error}); remove it") from error
    return dict(content)


def write_piece(path: Path, settings: Mapping[str, Any], result: Any) -> None:
    """Write a finished piece, whole or not at all: a process may be killed while it writes."""
    # through text once, so that the checksum is of what will be read
    content = json.loads(json.dumps({"settings": settings, "result": result}))
    write(path, json.dumps({**content, "sha256": checksum(content)}))
