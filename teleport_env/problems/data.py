"""Data sets read from files, and the order in which mini-batches draw from them.

Nothing here is downloaded unless it was asked for, and nothing is read when the module is imported. MNIST is looked for
in the folder that was given, else in the one that the environment variable ``TELEPORT_ENV_DATA`` names; the files may
also lie in a folder ``mnist`` inside it. They are the four of the original distribution, gzip-compressed or not:
``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte``.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from teleport_env.random import Streams, fold_in, key_of
from teleport_env.reading import known

__all__ = ["DataMissing", "LabelledImages", "Measurements", "digits", "load_idx", "mnist"]

DATA_VARIABLE = "TELEPORT_ENV_DATA"
"""Environment variable with the folder of the data files."""


class DataMissing(FileNotFoundError, gym.error.DependencyNotInstalled):
    """A file of a data set is missing; for Gymnasium a dependency that is not installed, so that its tests pass over it."""


# Third byte of the magic number to the type of the entries, which are stored big-endian (Y. LeCun, "The MNIST
# database", section "The IDX file format").
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

MAX_BYTES = 1 << 30
"""Largest array that `load_idx` takes from a file, by default."""

_MAX_DIMENSIONS = 8

_MNIST_PARTS = ("train", "t10k")
_MNIST_BYTES = 70_000 * 28 * 28


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        images: ``(N, d)`` floats in ``[0, 1]``, a flattened image per row.
        labels: ``(N,)`` int64, ``0, ..., 9``.
        origin: Source of the images, for messages and records.
    """

    images: Tensor
    labels: Tensor
    origin: str

    def __len__(self) -> int:
        return self.labels.shape[0]


def load_idx(path: str | Path, most: int = MAX_BYTES) -> np.ndarray:
    """Read one file in IDX format, gzip-compressed or not (its content decides, not its name).

    No more is read and unpacked than the header states, and nothing where that is too much.

    Args:
        path: The file.
        most: Largest array in bytes that a header may state.

    Returns:
        An array of the type and shape that the file's header states, in native byte order.

    Raises:
        FileNotFoundError: There is no such regular file.
        ValueError: The file is not IDX, is too large, damaged or truncated, or has more bytes than its header states.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name} in {path.parent}: put the IDX file (or its .gz) there")
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if compressed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _read_idx(unpacked, path, most)  # type: ignore[arg-type]
            return _read_idx(raw, path, most)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}): fetch a fresh copy of it") from error


def _read_idx(stream: BinaryIO, path: Path, most: int) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 0 < magic[3] <= _MAX_DIMENSIONS:
        known = ", ".join(f"0x{code:02x}" for code in _IDX_TYPES)
        raise ValueError(
            f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, expected 00 00, a type ({known}) "
            f"and the number of dimensions (1 to {_MAX_DIMENSIONS}). Is it the file that its name says, or a saved web page?"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path} is truncated: its header states {magic[3]} dimensions and ends before their sizes")
    shape = struct.unpack(f">{magic[3]}I", header)
    kind = np.dtype(_IDX_TYPES[magic[2]])
    expected = math.prod(shape) * kind.itemsize
    if not 0 < expected <= most:
        raise ValueError(
            f"{path} is refused: its header's shape {shape} takes {expected} bytes, allowed are 1 to {most}. Fetch it again"
        )
    # piece by piece: a header that promises more than there is must not cost the memory that it promises
    pieces, missing = [], expected
    while missing and (piece := stream.read(min(missing, 1 << 20))):
        pieces.append(piece)
        missing -= len(piece)
    if missing:
        raise ValueError(
            f"{path} is truncated: shape {shape} takes {expected} bytes, the file has {expected - missing}. Fetch it again"
        )
    if stream.read(1):
        raise ValueError(f"{path} has more bytes than its header's shape {shape} takes ({expected}). Fetch it again")
    return np.frombuffer(b"".join(pieces), kind).reshape(shape).astype(kind.newbyteorder("="))


def mnist(folder: str | Path | None = None, part: str | None = None, source: str = "files") -> LabelledImages:
    """The MNIST digits, 28 x 28 grey values in float32.

    Args:
        folder: Folder of the IDX files; None: the environment variable ``TELEPORT_ENV_DATA``.
        part: ``"train"`` (60,000 images), ``"t10k"`` (10,000), or None: the training files if they are there, else t10k.
        source: ``"files"``, or ``"openml"``: let scikit-learn download the set (kept in its own cache; `folder`, if
            given, is used as that cache).

    Raises:
        DataMissing: A file is missing; the message names it and the folders that were searched.
        ValueError: A file is not what its name says.
        ImportError: ``"openml"`` without scikit-learn.
    """
    part = part and known("part of MNIST", part, _MNIST_PARTS)
    if known("source of MNIST", source, ("files", "openml")) == "openml":
        return _mnist_from_openml(folder, part or "train")
    return _checked_mnist(*mnist_files(folder, part))


def mnist_files(folder: str | Path | None = None, part: str | None = None) -> tuple[Path, Path]:
    """The files of images and of labels that `mnist` reads; nothing is read.

    Raises:
        DataMissing: As `mnist`.
    """
    folders = _data_folders(folder)
    parts = (part,) if part is not None else _MNIST_PARTS
    for name in parts:
        images = _find(folders, f"{name}-images-idx3-ubyte")
        if images is None:
            continue
        labels = _find((images.parent,), f"{name}-labels-idx1-ubyte")
        if labels is None:
            raise DataMissing(f"{images} is there, but not {name}-labels-idx1-ubyte(.gz): put it beside the images")
        return images, labels

    searched = " or ".join(str(place) for place in folders) if folders else "no folder"
    wanted = " or ".join(f"{name}-images-idx3-ubyte(.gz) and {name}-labels-idx1-ubyte(.gz)" for name in parts)
    raise DataMissing(
        f"MNIST was not found (searched {searched}). Put the files {wanted} into a folder and give it as folder=... or in "
        f"the environment variable {DATA_VARIABLE}; or ask for a download by source='openml' (needs scikit-learn)"
    )


def _data_folders(folder: str | Path | None) -> tuple[Path, ...]:
    chosen = folder if folder is not None else os.environ.get(DATA_VARIABLE)
    if not chosen:
        return ()
    return (Path(chosen).expanduser(), Path(chosen).expanduser() / "mnist")


def _find(folders: tuple[Path, ...], name: str) -> Path | None:
    candidates = (folder / (name + ending) for folder in folders for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _checked_mnist(images_path: Path, labels_path: Path) -> LabelledImages:
    images, labels = load_idx(images_path, _MNIST_BYTES), load_idx(labels_path, _MNIST_BYTES)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"{images_path} holds {images.dtype} of shape {images.shape}, expected uint8 of (N, 28, 28)")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_path} holds {labels.dtype} of shape {labels.shape}, expected uint8 of {images.shape[:1]}, a label for "
            f"every image of {images_path.name}"
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_path} holds the label {labels.max()}; digits are 0..9")
    return _labelled(images.reshape(len(images), -1), labels, str(images_path))


def _labelled(images: np.ndarray, labels: np.ndarray, origin: str) -> LabelledImages:
    scaled = torch.from_numpy(np.ascontiguousarray(images)).to(torch.float32) / 255.0
    return LabelledImages(scaled, torch.from_numpy(labels.astype(np.int64)), origin)


def _mnist_from_openml(cache: str | Path | None, part: str) -> LabelledImages:
    try:
        from sklearn.datasets import fetch_openml
    except ImportError as error:
        raise ImportError("downloading MNIST needs scikit-learn: pip install teleport-env[compare]") from error
    home = None if cache is None else str(cache)
    bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff", data_home=home)
    # OpenML's copy is the training files followed by the test files.
    rows = slice(0, 60_000) if part == "train" else slice(60_000, 70_000)
    return _labelled(bunch.data[rows], bunch.target[rows].astype(np.int64), f"openml mnist_784 ({part})")


def digits_loader() -> Callable[[], Any]:
    """scikit-learn's function that loads the 8 x 8 digits.

    Raises:
        ImportError: scikit-learn is missing.
    """
    return _loader("load_digits", "the 8 x 8 digits come")


def _loader(name: str, come: str) -> Callable[..., Any]:
    try:
        import sklearn.datasets as datasets
    except ImportError as error:
        raise ImportError(
            f"{come} with scikit-learn, which is not installed: pip install teleport-env[compare]"
        ) from error
    loader: Callable[..., Any] = getattr(datasets, name)
    return loader


def digits() -> LabelledImages:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn, in float64; grey values ``k / 16``.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.

    Raises:
        ImportError: scikit-learn is missing.
    """
    images, labels = _digits()
    return LabelledImages(torch.from_numpy(images) / 16.0, torch.from_numpy(labels.copy()), "scikit-learn load_digits")


def check_digits() -> None:
    """Raise ImportError where the digits cannot be read; nothing is read."""
    if _digits_file() is None:
        digits_loader()


def _digits_file() -> Path | None:
    """scikit-learn's file of the digits, whose library takes a second to import; None where it is not in its place."""
    found = find_spec("sklearn")
    folders = [] if found is None else found.submodule_search_locations or []
    files = [Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders]
    return next((file for file in files if file.is_file()), None)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Grey values ``k`` and labels of the digits, read once per process."""
    file = _digits_file()
    if file is not None:
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].copy(), table[:, -1].astype(np.int64)
    bunch = digits_loader()()
    return np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target, dtype=np.int64)


TABLES: dict[str, dict[str, Any]] = {"breast_cancer": {}, "diabetes": {"scaled": False}}
"""Tables of measurements that come with scikit-learn, with what loads them as they were measured."""


@dataclass(frozen=True)
class Measurements:
    """Measurements of patients.

    Attributes:
        values: ``(N, d)`` float64, one patient per row.
        targets: ``(N,)`` float64: a class, or what is to be predicted.
    """

    values: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.targets.shape[0]

    def pool(self, split: str, owner: str) -> Measurements:
        """The patients of a split, in a fixed random order: a third each, which no other split has; ``"paper"``: all."""
        order = Streams(torch.tensor([key_of(f"{owner}/patients")], device="cpu")).permutation(len(self))[0]
        if split != "paper":
            third = len(self) // 3
            start = (("train", "validation", "test").index(split)) * third
            order = order[start : start + third]
        return Measurements(self.values[order], self.targets[order])


def table_loader(name: str) -> Callable[..., Any]:
    """scikit-learn's function that loads one of `TABLES`.

    Raises:
        ValueError: There is no such table.
        ImportError: scikit-learn is missing.
    """
    name = known("table", name, TABLES)
    return _loader(f"load_{name}", f"the table {name} comes")


@cache
@torch.inference_mode(False)
def measurements(name: str) -> Measurements:
    """One of `TABLES`, as measured; read once.

    * ``"breast_cancer"``: 30 features of cell nuclei of 569 patients, and the diagnosis (Street, Wolberg and Mangasarian,
      UCI Machine Learning Repository, 1993).
    * ``"diabetes"``: ten variables of 442 patients, and the progression of the disease after one year (Efron, Hastie,
      Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics 32, 2004).

    Raises:
        ImportError: scikit-learn is missing.
    """
    bunch = table_loader(name)(**TABLES[name])
    values, targets = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target, dtype=np.float64)
    return Measurements(torch.from_numpy(values), torch.from_numpy(targets))


class MiniBatches:
    """Which examples a run's mini-batch holds, as a function of the run's key and its step.

    Every epoch visits the training set in a fresh random order without replacement; what does not fill a last mini-batch
    is left out of that epoch (another part each time). The answer depends on ``(key, step)`` alone, so that a restored
    snapshot, a look-ahead and a run played beside others meet the same mini-batches. Orders are cached by the key of
    their random stream; the cache changes the speed and never the answer, is bounded, and is not pickled.

    Args:
        num_examples: Size ``N`` of the training set.
        batch_size: Examples ``n`` in a mini-batch.
        cache_bytes: Bound of the cache. Keep it above ``8 N`` bytes per run, else orders are drawn anew at every step.
    """

    _last: tuple[Tensor, Tensor, Tensor] | None
    """Keys and epochs of the last answer, and their rows of ``_orders``: the next step mostly asks for the same."""

    def __init__(self, num_examples: int, batch_size: int, cache_bytes: int = 1 << 28) -> None:
        if not 1 <= batch_size <= num_examples:
            raise ValueError(
                f"batch_size must be between 1 and the {num_examples} examples there are, got {batch_size}"
            )
        self.num_examples = num_examples
        self.batch_size = batch_size
        self._max_slots = cache_bytes // (4 * num_examples)
        self._forget()

    @property
    def batches_per_epoch(self) -> int:
        """Whole mini-batches in one pass over the examples."""
        return self.num_examples // self.batch_size

    def indices(self, keys: Tensor, steps: Tensor) -> Tensor:
        """Examples ``(B, n)`` int64 of the mini-batches that the runs meet.

        Args:
            keys: ``(B,)`` int64, the key of each run's order.
            steps: ``(B,)`` int64, how many mini-batches each run has met before.
        """
        if self._known.device != keys.device:
            self._forget(keys.device)
        epochs = torch.div(steps, self.batches_per_epoch, rounding_mode="floor")
        first = (steps - epochs * self.batches_per_epoch) * self.batch_size
        columns = first[:, None] + torch.arange(self.batch_size, device=keys.device)
        if self._last is not None and torch.equal(epochs, self._last[1]) and torch.equal(keys, self._last[0]):
            return self._orders[self._last[2][:, None], columns].to(torch.int64)
        # The key of the stream that draws the order: equal keys mean equal orders, whatever run and epoch they are of.
        wanted = fold_in(keys, epochs)

        place = torch.searchsorted(self._known, wanted)
        place.clamp_(max=max(len(self._known) - 1, 0))
        hit = self._known[place] == wanted if len(self._known) else torch.zeros_like(wanted, dtype=torch.bool)
        if bool(hit.all()):
            slots = self._slots[place]
            self._last = keys.clone(), epochs, slots
            return self._orders[slots[:, None], columns].to(torch.int64)

        chosen = torch.empty_like(columns)
        chosen[hit] = self._orders[self._slots[place[hit]][:, None], columns[hit]].to(torch.int64)
        missing = (~hit).nonzero().squeeze(1)
        new_keys, which = torch.unique(wanted[missing], return_inverse=True)
        rows_at_once = max(1, (1 << 22) // self.num_examples)  # bounds the memory of the sort
        for start in range(0, len(new_keys), rows_at_once):
            part = new_keys[start : start + rows_at_once]
            orders = Streams(part).permutation(self.num_examples)
            here = (which >= start) & (which < start + len(part))
            chosen[missing[here]] = orders[(which[here] - start)[:, None], columns[missing[here]]]
            self._remember(part, orders, runs=len(keys))
        return chosen

    @torch.inference_mode(False)  # the cache outlives an inference mode it is first filled in
    def _forget(self, device: torch.device | str = "cpu") -> None:
        self._known = torch.empty(0, dtype=torch.int64, device=device)  # stream keys in the cache, sorted
        self._slots = torch.empty(0, dtype=torch.int64, device=device)  # the row of `_orders` of each
        self._orders = torch.empty(0, self.num_examples, dtype=torch.int32, device=device)
        self._oldest = 0
        self._last = None

    @torch.inference_mode(False)
    def _remember(self, keys: Tensor, orders: Tensor, runs: int) -> None:
        """Put orders into the cache, in place of the oldest where it is full."""
        # Twice the runs: the runs of one tensor may straddle two epochs.
        capacity = min(max(2 * runs, len(self._orders)), self._max_slots)
        if capacity > len(self._orders):
            grown = self._orders.new_empty(capacity, self.num_examples)
            grown[: len(self._orders)] = self._orders
            if len(self._known) == len(self._orders):
                self._oldest = len(self._orders) % capacity  # it was full: the free rows are behind it
            self._orders = grown
        keys, orders = keys[:capacity], orders[:capacity]
        if not len(keys):
            return
        slots = (self._oldest + torch.arange(len(keys), device=keys.device)) % capacity
        self._orders[slots] = orders.to(torch.int32)
        self._last = None
        self._oldest = (self._oldest + len(keys)) % capacity
        kept = ~torch.isin(self._slots, slots)
        known = torch.cat([self._known[kept], keys])
        self._known, rank = torch.sort(known)
        self._slots = torch.cat([self._slots[kept], slots])[rank]

    def __getstate__(self) -> dict[str, int]:
        return {"num_examples": self.num_examples, "batch_size": self.batch_size, "_max_slots": self._max_slots}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        self._forget()
