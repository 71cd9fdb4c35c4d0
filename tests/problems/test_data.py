"""Reading data files, and the order of mini-batches."""

import gzip
import os
import pickle
import struct
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from teleport_env.problems import data
from teleport_env.problems.data import DATA_VARIABLE, MiniBatches, digits, load_idx, mnist
from teleport_env.random import Streams

REAL_DATA = os.environ.get(DATA_VARIABLE)  # before conftest.py points it at its stand-in

IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, IDX_CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, part: str, count: int, ending: str = ".gz") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        content = idx_bytes(array)
        (folder / (name + ending)).write_bytes(gzip.compress(content) if ending else content)
    return images, labels


# -- IDX ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_round_trip(tmp_path, dtype, compressed):
    array = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    content = idx_bytes(array)
    path = tmp_path / "anything"  # gzip is recognized by the content, not by the name
    path.write_bytes(gzip.compress(content) if compressed else content)
    read = load_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("cut", [1, 12])
def test_truncated_idx_is_refused(tmp_path, compressed, cut):
    content = idx_bytes(np.arange(24, dtype=np.uint8).reshape(4, 6))[:-cut]
    path = tmp_path / "cut"
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ValueError, match=rf"cut is truncated.*\(4, 6\) takes 24 bytes, the file has {24 - cut}"):
        load_idx(path)


def test_truncated_header_is_refused(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"\0\0\x08\x03\0\0\0\x05")
    with pytest.raises(ValueError, match="short is truncated: its header states 3 dimensions"):
        load_idx(path)


def test_damaged_gzip_is_refused(tmp_path):
    content = gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))
    path = tmp_path / "damaged.gz"
    for broken in (content[:-20], content[:-6] + b"\0\0\0\0\0\0", content[:12] + b"\xff" * 20 + content[32:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="damaged.gz"):
            load_idx(path)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>", b"", b"\0\0", b"\0\0\x07\x01\0\0\0\0", b"\x01\0\x08\x01\0\0\0\0", b"\0\0\x08\0"]
)
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "page.html"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="page.html is not an IDX file"):
        load_idx(path)


def test_surplus_bytes_are_refused(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(idx_bytes(np.zeros((2, 2), np.uint8)) + b"x")
    with pytest.raises(ValueError, match="more bytes than its header"):
        load_idx(path)


def test_missing_file_names_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no file digits.idx in {tmp_path}"):
        load_idx(tmp_path / "digits.idx")


def claim(*shape: int, content: bytes = bytes(100)) -> bytes:
    return bytes([0, 0, 0x08, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


LIES = {
    "a terabyte": (claim(1 << 20, 1 << 20), "takes 1099511627776 bytes, allowed are 1 to 1073741824"),
    "more than 64 bits": (claim((1 << 32) - 1, (1 << 32) - 1), "allowed are 1 to"),
    "nothing": (claim(0, 28, 28, content=b""), "takes 0 bytes, allowed are 1 to"),
    "nothing of much": (claim(0, *[(1 << 32) - 1] * 4, content=b""), "takes 0 bytes, allowed are 1 to"),
    "more axes than an array has": (claim(*[1] * 99, content=b"x"), "the number of dimensions"),
    "half a gigabyte": (claim(1 << 29), "the file has 100"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", LIES)
def test_a_header_that_promises_too_much_costs_nothing(tmp_path, name, compressed):
    """Regression: a file of 112 bytes asked for a terabyte of memory, or overflowed."""
    content, reason = LIES[name]
    path = tmp_path / "lie"
    path.write_bytes(gzip.compress(content) if compressed else content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason):
            load_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(5, 28, 28), (70_001, 28, 28), (1 << 17, 28, 28)])
def test_no_more_is_unpacked_than_mnist_has(tmp_path, shape):
    """Regression: a gzip file of a few hundred KB took all the memory that it could be unpacked to."""
    write_mnist(tmp_path, "train", 5)
    bomb = claim(*shape, content=bytes(200 << 20))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb, 1))
    del bomb
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz (is refused|has more bytes)"):
            mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# -- MNIST -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_from_a_folder(tmp_path, ending):
    images, labels = write_mnist(tmp_path, "train", 7, ending)
    read = mnist(tmp_path)
    assert len(read) == 7
    assert read.images.dtype == torch.float32
    assert read.labels.dtype == torch.int64
    np.testing.assert_allclose(read.images.numpy(), images.reshape(7, 784) / 255.0, rtol=1e-7)
    np.testing.assert_array_equal(read.labels.numpy(), labels)
    assert "train-images" in read.origin


def test_mnist_prefers_the_training_files_and_takes_t10k_alone(tmp_path):
    write_mnist(tmp_path, "t10k", 4)
    assert len(mnist(tmp_path)) == 4
    write_mnist(tmp_path, "train", 6)
    assert len(mnist(tmp_path)) == 6
    assert len(mnist(tmp_path, part="t10k")) == 4


def test_mnist_from_the_environment_variable_and_its_subfolder(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist", "t10k", 3)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert len(mnist()) == 3
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError, match="other"):  # a folder that was given wins over the variable
        mnist(other)


def test_missing_mnist_says_which_files_to_put_where(tmp_path, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError) as caught:
        mnist()
    for hint in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", DATA_VARIABLE, "folder=", "openml"):
        assert hint in str(caught.value)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        mnist(tmp_path)
    write_mnist(tmp_path, "train", 2)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        mnist(tmp_path)


def test_mnist_files_that_do_not_fit_are_refused(tmp_path):
    write_mnist(tmp_path, "train", 5, "")
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match=r"train-labels.*shape \(4,\), expected uint8 of \(5,\)"):
        mnist(tmp_path)
    labels.write_bytes(idx_bytes(np.full(5, 10, np.uint8)))
    with pytest.raises(ValueError, match="label 10"):
        mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((5, 8, 8), np.uint8)))
    with pytest.raises(ValueError, match=r"train-images.*\(5, 8, 8\)"):
        mnist(tmp_path)


def test_unknown_part_and_source_name_the_known_ones():
    with pytest.raises(ValueError, match="one of 'train', 't10k', got 'test'"):
        mnist(part="test")
    with pytest.raises(ValueError, match="'openml', got 'web'"):
        mnist(source="web")


def test_openml_is_asked_only_on_request(monkeypatch):
    pixels = np.zeros((70_000, 784), dtype=np.uint8)
    pixels[:60_000, 0] = 255
    targets = np.array(["3"] * 60_000 + ["4"] * 10_000, dtype=object)
    asked = []

    def fetch_openml(name, **settings):
        asked.append((name, settings))
        return types.SimpleNamespace(data=pixels, target=targets)

    fake = types.SimpleNamespace(fetch_openml=fetch_openml)
    monkeypatch.setitem(sys.modules, "sklearn", types.SimpleNamespace(datasets=fake))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError):
        mnist()
    assert asked == []
    read = mnist(source="openml", part="t10k")
    assert len(read) == 10_000
    assert set(read.labels.tolist()) == {4}
    assert float(read.images.max()) == 0.0
    assert asked[0][0] == "mnist_784"


@pytest.mark.skipif(not REAL_DATA, reason=f"{DATA_VARIABLE} is not set")
def test_real_mnist_files():
    read = mnist(REAL_DATA)
    assert len(read) in (10_000, 60_000)
    assert set(read.labels.tolist()) == set(range(10))
    assert 0.12 < float(read.images.mean()) < 0.14  # the set's well-known mean is 0.131


# -- digits ------------------------------------------------------------------------------------------------------------


def test_digits_are_sixteenths():
    pytest.importorskip("sklearn")
    read = digits()
    assert read.images.shape == (1797, 64)
    assert read.images.dtype == torch.float64
    assert torch.equal(read.images * 16, (read.images * 16).round())
    assert (float(read.images.min()), float(read.images.max())) == (0.0, 1.0)
    assert read.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_those_that_scikit_learn_loads(monkeypatch):
    pytest.importorskip("sklearn")
    file = data._digits_file()
    assert file is not None  # else every process pays for an import
    read = data._digits()
    monkeypatch.setattr(data, "_digits_file", lambda: None)
    for mine, theirs in zip(read, data._digits.__wrapped__(), strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine == theirs).all()


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    data._digits.cache_clear()  # read once per process, and again by the next that asks
    for call in (digits, lambda: mnist(source="openml")):
        with pytest.raises(ImportError, match=r"pip install teleport-env\[compare\]"):
            call()


# -- mini-batches ------------------------------------------------------------------------------------------------------

KEYS = torch.tensor([5, -9, 5_000_000_000, 0, 77])


def at(batches: MiniBatches, step: int, keys: torch.Tensor = KEYS) -> torch.Tensor:
    return batches.indices(keys, torch.full((len(keys),), step))


def test_every_epoch_is_a_fresh_permutation_of_each_row():
    batches = MiniBatches(24, 6)
    epochs = [torch.cat([at(batches, 4 * epoch + step) for step in range(4)], dim=1) for epoch in range(3)]
    for epoch in epochs:
        assert epoch.dtype == torch.int64
        assert torch.equal(epoch.sort(dim=1).values, torch.arange(24).expand(5, -1))
    assert len({tuple(row.tolist()) for epoch in epochs for row in epoch}) == 15


def test_what_does_not_fill_a_batch_is_left_out_of_that_epoch_only():
    batches = MiniBatches(10, 4)
    assert batches.batches_per_epoch == 2
    seen = [torch.cat([at(batches, 2 * epoch + step) for step in range(2)], dim=1) for epoch in range(12)]
    for epoch in seen:
        assert all(len(set(row.tolist())) == 8 for row in epoch)
    assert set(torch.cat(seen, dim=1)[0].tolist()) == set(range(10))


def test_order_is_that_of_the_documented_stream():
    batches = MiniBatches(30, 7)
    expected = Streams(KEYS).fork(torch.full((5,), 2)).permutation(30)[:, 7:14]
    assert torch.equal(at(batches, 2 * 4 + 1), expected)


def test_the_answer_depends_on_key_and_step_alone():
    steps = torch.randint(0, 60, (200, 5), generator=torch.Generator().manual_seed(1))
    fresh = [MiniBatches(12, 5).indices(KEYS, step) for step in steps]
    used = MiniBatches(12, 5)
    for step, expected in zip(steps, fresh, strict=True):  # forwards and backwards at random, as after a rewind
        assert torch.equal(used.indices(KEYS, step), expected)
    for step, expected in zip(steps[:50], fresh, strict=False):
        for row in range(5):  # alone
            assert torch.equal(used.indices(KEYS[row : row + 1], step[row : row + 1]), expected[row : row + 1])
        order = torch.tensor([3, 1, 1, 4])  # among others, in another place, twice
        assert torch.equal(used.indices(KEYS[order], step[order]), expected[order])


@pytest.mark.parametrize("rows", [5, 100])
def test_the_last_answer_is_used_again_only_where_it_is_the_answer(rows):
    """Keys may be written in place, and rows of a small cache are given to others."""
    batches, keys = MiniBatches(12, 3, cache_bytes=48 * rows), KEYS.clone()
    for step in range(24):
        steps = torch.full((5,), step) + torch.tensor([0, 0, 1, 0, 0])
        for _ in range(2):
            assert torch.equal(batches.indices(keys, steps), MiniBatches(12, 3).indices(keys, steps))
        if step % 5 == 2:
            keys[step % 4] += 1
        if step % 4 == 1:
            batches.indices(KEYS + 100, steps)


@pytest.mark.parametrize("rows", [0, 1, 3, 6])
def test_a_small_cache_changes_nothing_and_stays_small(rows):
    keys = torch.arange(8) * 1_000_003
    bounded, free = MiniBatches(10, 3, cache_bytes=40 * rows + 39), MiniBatches(10, 3)
    for step in torch.randint(0, 30, (100, 8), generator=torch.Generator().manual_seed(2)):
        assert torch.equal(bounded.indices(keys, step), free.indices(keys, step))
        assert len(bounded._known) <= rows
        assert len(free._known) <= 16  # two epochs per run
        assert torch.equal(bounded._known, bounded._known.sort().values)
        assert len(set(bounded._slots.tolist())) == len(bounded._slots)


def test_orders_are_drawn_once_an_epoch(monkeypatch):
    drawn = []

    class Counting(Streams):
        def permutation(self, length):
            drawn.append(self.count)
            return super().permutation(length)

    monkeypatch.setattr(data, "Streams", Counting)
    batches = MiniBatches(20, 5)
    for step in range(12):
        at(batches, step)
        at(batches, step, KEYS[1:3])  # part of the runs, as in a search, meets the same cache
    assert sum(drawn) == 3 * len(KEYS)


def test_pickle_leaves_the_cache_behind():
    batches = MiniBatches(2000, 5)
    empty = len(pickle.dumps(batches))
    expected = at(batches, 3)
    assert len(pickle.dumps(batches)) == empty
    assert torch.equal(at(pickle.loads(pickle.dumps(batches)), 3), expected)


@pytest.mark.parametrize("size", [0, 11])
def test_impossible_batch_size_is_refused(size):
    with pytest.raises(ValueError, match=f"between 1 and the 10 examples there are, got {size}"):
        MiniBatches(10, size)
