"""Compiled kernels, where the package was built with a C compiler; without them NumPy and torch do the same work.

A kernel takes NumPy arrays, checks their types and shapes, and writes into memory that it is given; those of losses take
tensors, where torch has ``torch.Tensor.__dlpack_c_exchange_api__`` (2.6 has not). Kernels exist for
float64 on the CPU alone. What is elementwise has the same bits with and without them; sums of products agree to rounding.

Set ``TELEPORT_ENV_NATIVE=0`` before the first import to do without them. A name of `VARIANTS` in place of 0 asks for the
kernels of that instruction set.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

VARIANTS = ("avx512", "avx2", "plain")
"""Names of the instruction sets that kernels are compiled for; ``plain`` is that of every processor."""


def _load() -> tuple[Any, str]:
    """The module of the kernels and an empty text; or None and why there is none."""
    asked = os.environ.get("TELEPORT_ENV_NATIVE", "")
    if asked == "0":
        return None, "TELEPORT_ENV_NATIVE is 0"
    if asked not in ("", "1", *VARIANTS):
        raise ValueError(f"TELEPORT_ENV_NATIVE must be 0, 1, {' or '.join(VARIANTS)}, or unset, got {asked!r}")
    try:
        module = importlib.import_module("teleport_env.native._kernels")
    except ImportError as error:
        return None, f"the compiled kernels could not be loaded ({error})"
    if is_older(Path(str(module.__file__))):
        # what is new in the sources would be missing, or would take other arguments
        why = f"the compiled kernels {module.__file__} are older than their sources"
        warnings.warn(
            f"{why}, so that NumPy and torch do their work, slower: build them anew by `pip install -e .`, or set "
            "TELEPORT_ENV_NATIVE=0",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, why
    if asked in VARIANTS and module.variant != asked:
        raise ValueError(
            f"TELEPORT_ENV_NATIVE is {asked!r}, which this processor or compiler does not have; it has {module.variant!r}"
        )
    return module, ""


def is_older(built: Path) -> bool:
    """Whether a built file is older than a source beside it, as after a pull into an editable install."""
    sources = (path for path in built.parent.iterdir() if path.suffix in {".c", ".h", ".inc"})
    return any(path.stat().st_mtime > built.stat().st_mtime for path in sources)


KERNELS: Any
"""The module of the kernels; None where there are none."""
MISSING: str
"""Why there are none; empty where there are."""
KERNELS, MISSING = _load()

OBJECTIVES = {"balance_weights": 0, "balance_gradient": 0, "gradient_norm": 1, "relative": 2}
"""The number by which kernels know an objective of the closed form (``BALANCE`` and on in ``kernels.h``)."""

VARIANT: str | None = None if KERNELS is None else KERNELS.variant
"""The instruction set of the kernels, one of `VARIANTS`; None where there are none."""
