"""Checks of what groups are given, so that every group complains in the same words."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from torch import Tensor

from teleport_env.groups.base import Element


def check_size(n: SupportsIndex, least: int, group: str) -> int:
    """``n`` as a Python int; what a group's constructor says about sizes.

    Raises:
        TypeError: ``n`` is not an integer.
        ValueError: ``n`` is below ``least``.
    """
    if isinstance(n, bool):
        raise TypeError(f"the n of {group} must be an integer, got {n!r}")
    try:
        size = operator.index(n)
    except TypeError:
        raise TypeError(f"the n of {group} must be an integer, got {n!r} of type {type(n).__name__}") from None
    if size < least:
        raise ValueError(f"the n of {group} must be at least {least}, got {size}")
    return size


def check_scale(scale: float) -> float:
    """A sampling scale; raises ValueError unless it is finite and not negative."""
    if not 0.0 <= scale < float("inf"):
        raise ValueError(f"scale must be finite and at least 0 (0 is the identity), got {scale}")
    return scale


def check_coordinates(xi: Tensor, dim: int, group: str) -> Tensor:
    """Lie-algebra coordinates; raises ValueError unless their shape is ``(B, dim)``."""
    if xi.ndim != 2 or xi.shape[1] != dim:
        raise ValueError(f"xi of {group} must have shape (B, {dim}), got {tuple(xi.shape)}")
    return xi


def single(element: Element) -> Tensor:
    """The element as the one tensor it is for every group but a product; raises TypeError for a tuple."""
    if isinstance(element, tuple):
        raise TypeError(
            f"this group's elements are one tensor, got a tuple of {len(element)}, which belongs to a Product; "
            "pass one of its parts"
        )
    return element
