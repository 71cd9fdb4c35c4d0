"""The vector environment's infos: dicts whose arrays are made when somebody looks at them."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any

import numpy as np
import torch

from teleport_env.envs.episodes import Numbers

_MISSING = object()
_KEYS = tuple(key for name in Numbers.NAMES for key in (name, "_" + name))
_UNMADE: dict[str, Any] = dict.fromkeys(_KEYS, _MISSING)


class Infos(dict[str, Any]):
    """Gymnasium's vector info: an array a key, and under ``_key`` which rows have it.

    A dict like any other for whoever reads it, writes into it, copies or pickles it (the copy is a plain dict). Its numbers
    are those of the moment it was made; an array is made the first time it is read, because most are never read and
    making two dozen of them takes as long as a third of a step of thousands of runs.

    Args:
        numbers: The numbers.
        rows: ``(B,)`` bool: which rows have them; None: all ``count``.
        count: ``B``.
        output: ``"numpy"`` or ``"torch"``.
    """

    def __init__(self, numbers: Numbers, rows: np.ndarray | None, count: int, output: str) -> None:
        super().__init__(_UNMADE)
        self._numbers, self._rows, self._count, self._output = numbers, rows, count, output

    def _make(self, key: str) -> Any:
        value: Any
        if key.startswith("_"):
            value = np.ones(self._count, dtype=bool) if self._rows is None else self._rows.copy()
        else:
            value = self._numbers[key]
        if self._output == "torch":
            value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        elif isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        super().__setitem__(key, value)
        return value

    def _make_all(self) -> None:
        for key in _KEYS:
            if super().get(key) is _MISSING:
                self._make(key)

    # -- whatever hands out values -------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return self._make(key) if value is _MISSING else value

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            return self[key]
        return default

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self[key]
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        self._make_all()
        return super().popitem()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self._make_all()
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._make_all()
        return super().values()

    def __iter__(self) -> Iterator[str]:
        # Python copies the values of a dict behind its back where a subclass leaves this method alone
        return super().__iter__()

    def copy(self) -> dict[str, Any]:
        self._make_all()
        return dict(self)

    def __eq__(self, other: object) -> bool:
        self._make_all()
        return super().__eq__(other)

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return {**other, **self.copy()}

    def __repr__(self) -> str:
        self._make_all()
        return super().__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()
