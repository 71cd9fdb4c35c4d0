"""Whether two settings are the same: what takes part in a comparison of agents, environments and menus."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_PRINTED = (type(None), bool, int, float, complex, str, bytes, torch.device)
"""Types whose ``repr`` says all there is; it tells -0.0 from 0.0, and finds NaN equal to itself."""


@dataclass(frozen=True, eq=False)
class _Itself:
    """An object that equals no other; it is kept, so that its address is not used again."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def exact(value: Any) -> Hashable:
    """A key that is equal for the same settings, and for no others.

    Numbers and arrays are compared by type and by all their bits, lists, mappings and data classes by what they hold. Two
    objects of any other type are the same where they are one object: they may hold what cannot be compared.
    """
    kind = type(value)
    if kind in _PRINTED:
        return kind, repr(value)
    if isinstance(value, np.generic) or kind is np.ndarray:
        if not value.dtype.hasobject:
            return kind, value.dtype, value.shape, value.tobytes()
    elif kind in (tuple, list):
        return kind, tuple(map(exact, value))
    elif kind in (set, frozenset):
        return kind, frozenset(map(exact, value))
    elif isinstance(value, Mapping):
        return kind, tuple((exact(key), exact(held)) for key, held in value.items())
    elif "__dataclass_fields__" in vars(kind):
        # a class may keep more than its fields
        held = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)} | getattr(
            value, "__dict__", {}
        )
        return kind, tuple((name, exact(one)) for name, one in sorted(held.items()))
    return _Itself(value)
