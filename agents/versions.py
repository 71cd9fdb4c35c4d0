"""Versions of what computes a result, to be kept beside it."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("teleport-env", "torch", "numpy", "gymnasium", "stable-baselines3")
_EXTRAS = ("scipy", "pandas", "scikit-learn", "matplotlib")


def versions() -> dict[str, str]:
    """Versions of Python, of the platform, and of the packages that results depend on, as far as they are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in (*_PACKAGES, *_EXTRAS):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
