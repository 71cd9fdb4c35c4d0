"""Reading and writing policies and checkpoints without running anything: the security boundary, alone in its file.

A file is one JSON document: settings, and tensors as shape and base64 of their little-endian float32 numbers.

    {"format": "teleport-env policy", "version": 1,
     "settings": {...},
     "tensors": {"hidden.0.weight": {"shape": [64, 18], "float32": "..."}, ...},
     "sha256": "..."}

Why not another: ``torch.save`` and pickles can name code to run, and what ``weights_only`` lets through is a list that
somebody else keeps; an ``.npz`` is an archive whose members say how much memory they want before any of it is there. JSON
has one standard parser, which builds dicts, lists, strings and numbers and nothing else, the settings can be read in any
editor, and the size of a tensor is bounded by the size of the text. A policy of 2 x 64 units takes 35 KB.

What is promised of `read_policy_file`, for whatever bytes: it returns settings (JSON's types, finite numbers, bounded depth,
short text without control characters) and float32 arrays (finite, of the stated shapes), or raises
`PolicyFileError` with the reason; it reads no more than `MAX_BYTES`, and imports, calls and writes nothing. The checksum
finds damage and is no signature. What the settings may say is checked where they are used.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from teleport_env.files import checksum, read_bytes, write
from teleport_env.reading import refuse

POLICY = "teleport-env policy"
CHECKPOINT = "teleport-env checkpoint"
VERSION = 1
MAX_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 256
MAX_DEPTH = 16
MAX_TEXT = 4000
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_KEYS = {"format", "version", "settings", "tensors", "sha256"}


class PolicyFileError(ValueError):
    """The file is not what it should be; nothing of it was used."""


@dataclass(frozen=True)
class PolicyFile:
    """What a file holds: settings in JSON's types, and float32 arrays by name."""

    settings: dict[str, Any]
    tensors: dict[str, np.ndarray]


def write_policy_file(
    path: Path | str, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], kind: str = POLICY
) -> Path:
    """Write a file; the old one stays whole until the new one is.

    Args:
        path: Path of the file; folders are made.
        settings: Settings, of JSON's types.
        tensors: Names (letters, digits, ``_`` and ``.``) to arrays that float32 holds exactly.
        kind: `POLICY` or `CHECKPOINT`: the ``format`` in the file.

    Raises:
        ValueError: Something that could not be read back.
    """
    content: dict[str, Any] = {"format": kind, "version": VERSION}
    try:
        # through text once, so that tuples are lists and what cannot be written is rejected before the file is touched
        content["settings"] = json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the settings cannot be written as JSON: {error}") from error
    content["tensors"] = {name: _encode(name, tensor) for name, tensor in tensors.items()}
    content["sha256"] = checksum(content)
    text = json.dumps(content, indent=1, allow_nan=False)
    _check(content, kind, "this policy")
    if len(text) > MAX_BYTES:
        raise ValueError(f"the policy would take {len(text)} bytes and may take {MAX_BYTES}; use a smaller network")
    return write(path, text + "\n")


def read_policy_file(path: Path | str, kind: str = POLICY) -> PolicyFile:
    """Read a regular file of at most `MAX_BYTES`, whose ``format`` must be ``kind``.

    Raises:
        FileNotFoundError: There is none.
        PolicyFileError: Anything about it is not as `write_policy_file` writes it.
    """
    if not isinstance(path, str | Path):
        refuse("a policy's file", "a path", path)
    try:
        raw = read_bytes(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. Policies are written by scripts/train.py") from error
    except ValueError as error:
        _refuse(path, str(error))
    return _parse(raw, kind, path)


def parse_policy(text: str) -> PolicyFile:
    """Read a policy from the text of its file, with all checks and errors of `read_policy_file`."""
    return _parse(text.encode("utf-8", "replace"), POLICY, "this policy")


def _parse(raw: bytes, kind: str, path: Path | str) -> PolicyFile:
    try:
        content = json.loads(raw.decode("ascii"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError:
        _refuse(path, "it is not text")
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not whole JSON ({error})")
    return _check(content, kind, path)


def _check(content: Any, kind: str, path: Path | str) -> PolicyFile:
    if not isinstance(content, dict) or set(content) != _KEYS:
        _refuse(path, f"it must be an object with the keys {', '.join(sorted(_KEYS))}")
    if content["format"] != kind:
        _refuse(path, f"its format is {str(content['format'])[:60]!r}, expected {kind!r}")
    if content["version"] != VERSION or isinstance(content["version"], bool):
        _refuse(path, f"its version is {str(content['version'])[:20]}, and this release reads {VERSION}")
    settings, tensors = content["settings"], content["tensors"]
    if not isinstance(settings, dict) or not isinstance(tensors, dict):
        _refuse(path, "settings and tensors must be objects")
    if len(tensors) > MAX_TENSORS:
        _refuse(path, f"it has {len(tensors)} tensors, and {MAX_TENSORS} are allowed")
    # form first: the checksum walks the content, which may be nested deeper than Python goes
    _check_plain(settings, path, MAX_DEPTH)
    found = PolicyFile(settings, {name: _decode(name, entry, path) for name, entry in tensors.items()})
    if content["sha256"] != checksum(content):
        _refuse(path, "its checksum does not fit: it was damaged or edited")
    return found


def _check_plain(value: Any, path: Path | str, depth: int) -> None:
    """Finite numbers, bounded depth and harmless text; the parser makes nothing but JSON's types."""
    if depth < 0:
        _refuse(path, f"its settings are nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for entry in value:
            _check_plain(entry, path, depth - 1)
    elif isinstance(value, str):
        # all of it may come to be shown: in tables, on a page, on a terminal, which obeys control characters
        if len(value) > MAX_TEXT or not value.replace("\n", "").isprintable():
            wrong = f"a text of over {MAX_TEXT} letters or with control characters"
            _refuse(path, f"its settings hold {wrong}, {value[:40]!a}")
    elif isinstance(value, float) and not math.isfinite(value):
        _refuse(path, "its settings hold a number that is not finite")
    elif isinstance(value, int) and abs(value) > 1 << 63:
        _refuse(path, "its settings hold an integer of more than 64 bits")


def _encode(name: str, tensor: np.ndarray) -> dict[str, Any]:
    array = np.asarray(tensor)
    small = np.ascontiguousarray(array, dtype="<f4").reshape(array.shape)
    if not np.array_equal(small, array) or not np.isfinite(small).all():
        raise ValueError(f"tensor {name!r} must hold finite numbers that float32 holds exactly; convert it first")
    return {"shape": list(small.shape), "float32": base64.b64encode(small.tobytes()).decode("ascii")}


def _decode(name: str, entry: Any, path: Path | str) -> np.ndarray:
    if not _NAME.fullmatch(name):
        _refuse(path, f"{name[:100]!r} is no name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"shape", "float32"} or not isinstance(entry["float32"], str):
        _refuse(path, f"tensor {name!r} must have a shape and float32 numbers")
    shape = entry["shape"]
    sane = isinstance(shape, list) and len(shape) <= 4
    if not sane or not all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape):
        _refuse(path, f"tensor {name!r} has the shape {str(shape)[:60]}, which is none")
    try:
        data = base64.b64decode(entry["float32"], validate=True)
    except (binascii.Error, ValueError):
        _refuse(path, f"the numbers of tensor {name!r} are not base64")
    if len(data) != 4 * math.prod(shape):
        _refuse(path, f"tensor {name!r} of shape {shape} needs {4 * math.prod(shape)} bytes and has {len(data)}")
    array = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        _refuse(path, f"tensor {name!r} holds numbers that are not finite")
    return array


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse(path: Path | str, reason: str) -> NoReturn:
    raise PolicyFileError(f"{path} is refused: {reason}. Policies are written by scripts/train.py")
