"""Files of others are read without trust; ours are written whole, and it is known beforehand that they can be."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from teleport_env.files import check_file, check_folder, checksum, draft, read_bytes, write

SIZE = 1 << 16


def test_a_file_is_written_with_its_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b" / "c.txt", "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["c.txt"]


def test_a_file_has_the_usual_rights(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.write_text("x")
    assert write(tmp_path / "ours", "x").stat().st_mode == usual.stat().st_mode


def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", "old")
    with pytest.raises(KeyboardInterrupt), draft(path) as made:  # noqa: PT012
        assert made.suffix == ".png"
        assert made.parent == path.parent
        made.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(UnicodeEncodeError):
        write(path, "\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_drafts_of_killed_processes_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    """Regression: checkpoints left a draft per killed process."""
    path = tmp_path / "[a].json"
    with draft(path) as dead, draft(tmp_path / "b.json") as other:
        for made in (dead, other):
            made.write_text("half")
            long_ago = time.time() - 3600
            os.utime(made, (long_ago, long_ago))
        with draft(path) as alive:
            alive.write_text("whole")
            assert not dead.exists()
            assert other.exists()
            write(path, "quick")
            assert alive.exists()
        dead.write_text("again")
    assert path.read_text() == "again"


def _write_often(path: Path, letter: str, failures: multiprocessing.Queue[str]) -> None:
    try:
        for _ in range(200):
            write(path, letter * SIZE)
    except Exception as error:
        failures.put(repr(error))


def test_processes_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Regression: a draft of a fixed name was moved away by the other process."""
    path = write(tmp_path / "piece.json", "a" * SIZE)
    failures: multiprocessing.Queue[str] = multiprocessing.Queue()
    writers = [multiprocessing.Process(target=_write_often, args=(path, letter, failures)) for letter in "ab"]
    for one in writers:
        one.start()
    while any(one.is_alive() for one in writers):
        seen = path.read_text()
        assert seen in ("a" * SIZE, "b" * SIZE)
    for one in writers:
        one.join()
    assert failures.empty(), failures.get()
    assert [entry.name for entry in tmp_path.iterdir()] == ["piece.json"]


WRITES = r"\.write_(text|bytes)\(|shutil\.(copy|move)|os\.(replace|rename)\(|mkstemp|open\([^)]*[\"'][wax]b?[\"']"


def test_every_file_of_the_project_is_written_here() -> None:
    """A file that is written in place is half a file for a while, and for ever where its process is killed."""
    root = Path(__file__).parents[1]
    sources = [path for part in ("agents", "scripts", "teleport_env") for path in (root / part).rglob("*.py")]
    sources.remove(root / "teleport_env" / "files.py")
    assert len(sources) > 100
    for path in sources:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if re.search(WRITES, line)] == [], path


# -- before the work ---------------------------------------------------------------------------------------------------


def test_a_good_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    check_file(tmp_path / "c" / "page.md")
    assert list((tmp_path / "c").iterdir()) == []


def test_a_folder_that_is_a_file_or_under_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (
        tmp_path / "file",
        tmp_path / "file" / "results",
        tmp_path / "nul\0",
        tmp_path / "x" / ("long" * 100),
    ):
        with pytest.raises(ValueError, match="nothing can be written into the folder"):
            check_folder(folder)
    with pytest.raises(ValueError, match="is a folder: name a file"):
        check_file(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder in which writing is forbidden to all")
def test_a_folder_that_is_read_only_is_refused() -> None:
    for folder in ("/proc", "/proc/results/here"):
        with pytest.raises(ValueError, match="nothing can be written into the folder"):
            check_folder(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_a_full_disk_is_found(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ValueError, match="nothing can be written into the folder"):
            check_folder(tmp_path / "a" / "b")
        check_folder(tmp_path, room=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


# -- files of others ---------------------------------------------------------------------------------------------------


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(ValueError, match="it has 5 bytes, and 4 are allowed"):
        read_bytes(path, 4)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 5)
    with pytest.raises(ValueError, match="not a regular file"):
        read_bytes(tmp_path, 5)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such devices")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    """Regression: a pipe held the reader up, and /dev/zero filled the memory."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_bytes(path, 1 << 20)


def test_the_checksum_is_of_everything_else() -> None:
    content = {"b": [1, 2.5, None], "a": {"x": "ä"}}
    first = checksum(content)
    assert checksum({"a": {"x": "ä"}, "b": [1, 2.5, None], "sha256": first}) == first
    assert checksum({**content, "c": 0}) != first
    assert checksum({**content, "b": [1, 2.5000001, None]}) != first
