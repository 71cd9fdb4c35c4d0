"""Checks of what groups are given, so that every group complains in the same words."""

from __future__ import annotations

from typing import SupportsIndex

from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.reading import integer, number


def check_size(n: SupportsIndex, least: int, group: str) -> int:
    """``n`` as a Python int; raises ValueError unless it is an integer of at least ``least``, the group's smallest size."""
    return integer(f"the n of {group}", n, least=least)


def check_scale(scale: float) -> float:
    """A sampling scale; raises ValueError unless it is finite and not negative (0 gives the identity)."""
    return number("scale", scale, least=0)


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
