"""The machine that something was timed on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from teleport_env.native import KERNELS, MISSING


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def check_kernels() -> None:
    """Refuse to time NumPy and torch in place of compiled kernels, but where that is asked for.

    Raises:
        ValueError: There are no kernels, and `TELEPORT_ENV_NATIVE` is not 0.
    """
    if KERNELS is None and os.environ.get("TELEPORT_ENV_NATIVE") != "0":
        raise ValueError(
            f"{MISSING}, and NumPy and torch in their place take longer: build them by `pip install -e .`, or set "
            "TELEPORT_ENV_NATIVE=0 to measure without them on purpose"
        )
