"""Units of hidden spaces, and which of them are one and the same.

While a module runs on an example, every number between its layers belongs to a unit: a feature, a channel, a dimension of
a head. A unit is a number above 0, and its negative stands for the inverse factor: a weight that reads unit 5 is moved by
``-5``, one that writes it by ``+5``. 0 is what no action moves. Operations say that units are equal (the two sides of a
residual addition), or that one is fixed, with the reason; union-find with signs keeps the books.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Reason(NamedTuple):
    """Why units do not move.

    Attributes:
        why: The reason in words.
        place: The submodule where that was found; empty: the module itself.
    """

    why: str
    place: str = ""


Labels = np.ndarray
"""Signed units, int64."""


class Units:
    """Equivalence classes of signed units.

    Args:
        signed: Whether a unit that equals its own inverse is fixed, which is so for scalings and not for permutations.
    """

    def __init__(self, signed: bool) -> None:
        self._signed = signed
        self._parent = [0]
        self._sign = [1]  # towards the parent
        self._table: np.ndarray | None = None  # of all roots, while nothing changes
        self._reason: list[Reason | None] = [Reason("it is fixed")]  # of a root, why it is fixed

    def fresh(self, count: int) -> Labels:
        """So many new units ``(count,)``."""
        self._table = None
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self._sign.extend([1] * count)
        self._reason.extend([None] * count)
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        """The root that stands for a signed unit, signed."""
        unit, sign = abs(label), 1 if label > 0 else -1
        path = []
        while self._parent[unit] != unit:
            path.append(unit)
            unit = self._parent[unit]
        total = 1
        for inner in reversed(path):  # shorten, with the sign towards the root
            total *= self._sign[inner]
            self._parent[inner], self._sign[inner] = unit, total
        return sign * total * unit

    def roots(self, labels: Labels) -> Labels:
        """`find` of every entry; 0 where it is fixed."""
        if self._table is None:
            found = (self.find(unit) for unit in range(len(self._parent)))
            self._table = np.array([0 if self._reason[abs(root)] else root for root in found], dtype=np.int64)
        return self._table[np.abs(labels)] * np.sign(labels)

    def reason(self, label: int) -> Reason | None:
        """Why a unit is fixed; None: it is free."""
        return self._reason[abs(self.find(label))] if label else self._reason[0]

    def fix(self, labels: Labels, reason: Reason) -> None:
        """These units are not moved; the first reason stays."""
        self._table = None
        for label in np.unique(np.abs(labels)):
            root = abs(self.find(int(label))) if label else 0
            self._reason[root] = self._reason[root] or reason

    def join(self, one: Labels, other: Labels, reason: Reason) -> None:
        """The units are equal, entry by entry; ``reason``: what fixes one that is to equal 0 or its own inverse."""
        self._table = None
        one, other = np.broadcast_arrays(one, other)
        for a, b in zip(*distinct_pairs(one.ravel(), other.ravel()), strict=True):
            a, b = int(a), int(b)
            if a == b:
                continue
            if a == 0 or b == 0:
                self.fix(np.array([a or b]), reason)
                continue
            a, b = self.find(a), self.find(b)
            if abs(a) == abs(b):
                if a != b and self._signed:
                    self.fix(np.array([a]), reason)
                continue
            low, high = sorted((abs(a), abs(b)))
            self._parent[high], self._sign[high] = low, 1 if (a > 0) == (b > 0) else -1
            self._reason[low] = self._reason[low] or self._reason[high]


def distinct_pairs(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of entries of two integer arrays ``(N,)``, each once, in order."""
    span = int(np.abs(other).max(initial=0)) + 1
    codes = np.sort(
        one.astype(np.int64) * (2 * span) + other + span
    )  # one number per pair; `np.unique` takes ten times longer
    codes = codes[np.r_[True, codes[1:] != codes[:-1]]] if len(codes) else codes
    first = codes // (2 * span)
    return first, codes - first * (2 * span) - span
