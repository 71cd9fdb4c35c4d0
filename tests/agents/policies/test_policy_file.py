"""A policy's file gives back what was saved, or says what is wrong with it; nothing else happens."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_env.agents.policies.file import (
    CHECKPOINT,
    MAX_BYTES,
    PolicyFileError,
    read_policy_file,
    write_policy_file,
)
from teleport_env.files import checksum

SETTINGS = {"name": "mine", "environment": {"rate_factors": [1.0, 0.5]}, "seed": 3, "prices": None}
TENSORS = {
    "layer.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "layer.0.bias": np.array([1e-30, -3.5], dtype=np.float32),
    "scalar": np.float32(2.0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_policy_file(tmp_path / "a" / "policy.json", SETTINGS, TENSORS)


def edited(path: Path, change: Any, sign: bool = True) -> Path:
    """The file with its content changed, and the checksum made to fit."""
    content = json.loads(path.read_text())
    change(content)
    if sign and "sha256" in content:
        content["sha256"] = checksum(content)
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read(path: Path) -> None:
    found = read_policy_file(path)
    assert found.settings == SETTINGS
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
        assert found.tensors[name].shape == np.shape(tensor)
        assert found.tensors[name].dtype == np.float32
    assert [entry.name for entry in path.parent.iterdir()] == ["policy.json"]  # no draft is left behind


def test_floats_are_little_endian_whatever_the_machine(path: Path) -> None:
    data = json.loads(path.read_text())["tensors"]["layer.0.bias"]["float32"]
    assert np.frombuffer(base64.b64decode(data), dtype="<f4").tolist() == TENSORS["layer.0.bias"].tolist()


def set_tensor(key: str, value: Any) -> Any:
    return lambda content: content["tensors"]["layer.0.bias"].update({key: value})


WRONG: dict[str, tuple[Any, str]] = {
    "format": (lambda c: c.update(format="another tool's"), "its format is"),
    "checkpoint": (lambda c: c.update(format=CHECKPOINT), "its format is"),
    "version": (lambda c: c.update(version=2), "its version is 2"),
    "version true": (lambda c: c.update(version=True), "its version is True"),
    "missing key": (lambda c: c.pop("tensors"), "object with the keys"),
    "extra key": (lambda c: c.update(code="print(1)"), "object with the keys"),
    "settings": (lambda c: c.update(settings=[1]), "must be objects"),
    "tensors": (lambda c: c.update(tensors=[1]), "must be objects"),
    "tensor": (lambda c: c["tensors"].update(x=[1]), "must have a shape"),
    "tensor name": (lambda c: c["tensors"].update({"a/b": c["tensors"].pop("scalar")}), "no name of a tensor"),
    "negative shape": (set_tensor("shape", [-2]), "which is none"),
    "huge shape": (set_tensor("shape", [1 << 60]), "which is none"),
    "large shape": (set_tensor("shape", [1 << 20, 1 << 20, 1 << 20]), "needs"),
    "shape of floats": (set_tensor("shape", [2.0]), "which is none"),
    "shape of bools": (set_tensor("shape", [True, 2]), "which is none"),
    "five axes": (set_tensor("shape", [1, 1, 1, 1, 2]), "which is none"),
    "too few numbers": (set_tensor("float32", "AAAA"), "needs 8 bytes and has 3"),
    "not base64": (set_tensor("float32", "!!!!"), "not base64"),
    "not ascii base64": (set_tensor("float32", "ää"), "not base64"),
    "nan": (set_tensor("float32", base64.b64encode(np.array([np.nan, 0], "<f4").tobytes()).decode()), "not finite"),
    "deep": (lambda c: c["settings"].update(x=json.loads("[" * 40 + "]" * 40)), "nested deeper"),
    "deep tensor": (lambda c: c["tensors"].update(x=json.loads("[" * 900 + "]" * 900)), "must have a shape"),
    "many": (lambda c: c["tensors"].update({f"t{i}": c["tensors"]["scalar"] for i in range(300)}), "are allowed"),
    "infinite": (lambda c: c["settings"].update(x=float("1e999")), "no JSON number"),
    "terminal codes": (lambda c: c["settings"].update(x="\x1b]0;title\x07"), "control characters"),
    "terminal codes in a key": (lambda c: c["settings"].update({"\x1b[2J": 1}), "control characters"),
    "lone surrogate": (lambda c: c["settings"].update(x=["\ud800"]), "control characters"),
    "long text": (lambda c: c["settings"].update(x="x" * 5000), "over 4000 letters"),
    "big integer": (lambda c: c["settings"].update(x=1 << 70), "more than 64 bits"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_the_reason(path: Path, name: str) -> None:
    change, reason = WRONG[name]
    with pytest.raises(PolicyFileError, match=reason):
        read_policy_file(edited(path, change))


def test_an_edit_without_the_checksum_is_found(path: Path) -> None:
    edited(path, lambda c: c["settings"].update(seed=4), sign=False)
    with pytest.raises(PolicyFileError, match="checksum does not fit"):
        read_policy_file(path)


def test_layout_does_not_matter_to_the_checksum(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_policy_file(path).settings == SETTINGS


def test_a_number_that_overflows_is_refused(path: Path) -> None:
    """``1e999`` is JSON, and infinite."""
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 1e999'))
    with pytest.raises(PolicyFileError, match="not finite"):
        read_policy_file(path)


def test_a_key_that_stands_twice_is_refused(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4, "seed": 3'))
    with pytest.raises(PolicyFileError, match="stands twice"):
        read_policy_file(path)


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_foreign_files_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    foreign = {"pickle": pickle.dumps(Evil(target)), "empty": b"", "json": b"[1, 2]", "deep": b"[" * 100_000}
    torch.save({"w": torch.zeros(2)}, tmp_path / "torch")
    np.savez(tmp_path / "numpy.npz", w=np.zeros(2))
    foreign |= {name: (tmp_path / name).read_bytes() for name in ("torch", "numpy.npz")}
    for name, data in foreign.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(data)
        with pytest.raises(PolicyFileError, match="is refused"):
            read_policy_file(path)
    assert not target.exists()
    pickle.loads(foreign["pickle"])  # the file was armed
    assert target.exists()


def test_an_oversized_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: takes no space
    with pytest.raises(PolicyFileError, match="are allowed"):
        read_policy_file(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such devices")
def test_a_device_is_not_read() -> None:
    with pytest.raises(PolicyFileError, match="not a regular file"):
        read_policy_file("/dev/zero")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_does_not_hold_the_reader_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyFileError, match="not a regular file"):
        read_policy_file(tmp_path / "pipe")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="not a regular file"):
        read_policy_file(tmp_path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_policy_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("more", "tensors", "reason"),
    [
        ({"x": object()}, {}, "cannot be written as JSON"),
        ({"x": float("nan")}, {}, "cannot be written as JSON"),
        ({}, {"w": np.array([np.inf])}, "finite"),
        ({}, {"w": np.array([0.1])}, "float32 holds exactly"),
        ({}, {"a b": np.zeros(1)}, "no name"),
    ],
)
def test_what_could_not_be_read_is_not_written(path: Path, more: Any, tensors: Any, reason: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match=reason):
        write_policy_file(path, {**SETTINGS, **more}, tensors)
    assert path.read_bytes() == before


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut, flipped, spliced: the file reads as it was saved or not at all."""
    path = write_policy_file(tmp_path_factory.mktemp("fuzz") / "policy.json", SETTINGS, TENSORS)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1), label="place")
    match data.draw(st.sampled_from(["cut", "flip", "insert", "delete"]), label="damage"):
        case "cut":
            raw = raw[:place]
        case "flip":
            raw[place] ^= 1 << data.draw(st.integers(0, 7))
        case "insert":
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        case _:
            del raw[place : place + data.draw(st.integers(1, 20))]
    path.write_bytes(raw)
    try:
        found = read_policy_file(path)
    except PolicyFileError:
        return
    assert found.settings == SETTINGS  # the damage was white space
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "policy.json"
    path.write_bytes(raw)
    with pytest.raises(PolicyFileError):
        read_policy_file(path)
