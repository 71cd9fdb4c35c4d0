"""What all tests share: one torch thread, and a folder of tiny images in MNIST's own format."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for MNIST: 120 random images per file, so that the id can be made and played without the real data."""
    folder = tmp_path_factory.mktemp("mnist")
    generator = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = generator.integers(0, 256, size=(120, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, size=120, dtype=np.uint8)
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())
    os.environ["TELEPORT_ENV_DATA"] = str(folder)
    return folder
