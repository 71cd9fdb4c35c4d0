"""Compiled kernels, where the package was built with a C compiler; without them NumPy and torch do the same work.

A kernel takes NumPy arrays, checks their types and shapes, and writes into memory that it is given; those of losses take
tensors, where torch has ``torch.Tensor.__dlpack_c_exchange_api__`` (2.6 has not). Kernels exist for
float64 on the CPU alone. What is elementwise has the same bits with and without them; sums of products agree to rounding.

Set ``TELEPORT_ENV_NATIVE=0`` before the first import to do without them.
"""

from __future__ import annotations

import importlib
import os
from typing import Any


def _load() -> Any:
    """The module of the kernels, or None."""
    if os.environ.get("TELEPORT_ENV_NATIVE") == "0":
        return None
    try:
        return importlib.import_module("teleport_env.native._kernels")
    except ImportError:
        return None


KERNELS: Any = _load()
"""The module of the kernels; None where there are none."""

VARIANT: str | None = None if KERNELS is None else KERNELS.variant
"""The instruction set that the kernels were chosen for: ``avx512``, ``avx2`` or ``plain``; None where there are none."""
