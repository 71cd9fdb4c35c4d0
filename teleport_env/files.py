"""Files that are not ours are read without trust; ours are written whole or not at all, where it is known that they can be.

Every file of the project is written by `draft` or `write`: a name of its own in the same folder first, then put in the place
of the old file in one move. Readers see the old file or the new one, two processes that write the same file do not disturb
each other, and a failure leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOM = 1 << 20
"""Bytes that `check_folder` writes."""

_ABANDONED = 600.0
"""Seconds after which an untouched draft belongs to a process that was killed."""


def read_bytes(path: Path | str, most: int) -> bytes:
    """The content of a regular file.

    Args:
        path: The file. A pipe or a device is refused without waiting for it.
        most: Largest size in bytes; no more is read, even where the file grows meanwhile.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not a regular file, or too large; the reason, without the path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            raw = b"" if state.st_size > most else file.read(most + 1)
    finally:
        os.close(descriptor)
    size = max(state.st_size, len(raw))
    if size > most:
        raise ValueError(f"it has {size} bytes, and {most} are allowed")
    return raw


@contextmanager
def draft(path: Path | str) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends and is removed when it raises.

    Args:
        path: The file; its folder is made. Its suffix is that of the draft too, for writers that go by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name[:100]}.draft-"
    for other in path.parent.iterdir():
        if other.name.startswith(prefix):
            with suppress(OSError):  # its owner may just have moved it
                if time.time() - other.stat().st_mtime > _ABANDONED:
                    other.unlink()
    made = path.with_name(f"{prefix}{secrets.token_hex(8)}{path.suffix}")
    try:
        yield made
        os.replace(made, path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def write(path: Path | str, content: str | bytes) -> Path:
    """Write a file, text as UTF-8; the old one stays whole until the new one is.

    Args:
        path: The file; its folder is made.
        content: All of it.
    """
    with draft(path) as made:
        made.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


def check_folder(folder: Path | str, room: int = ROOM) -> None:
    """Make a folder and see that files can be written into it, before work whose results go there.

    Args:
        folder: The folder.
        room: Bytes that are written and removed again, to find a full disk.

    Raises:
        ValueError: They cannot; the folders made for the check are removed.
    """
    folder = Path(folder)
    made: list[Path] = []
    try:
        for place in reversed([folder, *folder.parents]):
            if not place.exists():
                place.mkdir(exist_ok=True)
                made.append(place)
        probe = folder / f".room-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(bytes(room))
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir()
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"nothing can be written into the folder {str(folder)!r} ({reason}): name another, or make room there"
        ) from error


def check_file(path: Path | str) -> None:
    """The same for one file.

    Raises:
        ValueError: It cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: name a file")
    check_folder(path.parent)


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON's types but for the key ``sha256``; spaces and the order of keys do not matter.

    It finds damage. It is no signature: who can write a file can write its checksum.
    """
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
