"""Random numbers that do not depend on how many runs share a tensor.

``B`` runs live side by side in one tensor, and run ``i`` must draw the same numbers whether it is alone, row 3 of 4 or
row 3 of 65,536, and whether its neighbours were reset or not. One sequential generator cannot do that, and a list of
``B`` generators costs a Python call per run. So a stream is *counter based*: number ``c`` of the stream with key ``k`` is
a hash of ``(k, c)``, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The hash is
SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose state is already ``key + c * gamma``; it passes BigCrush and is a
dozen integer operations on a whole tensor.

Keys themselves come from NumPy: an environment draws one from ``self.np_random``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from teleport_env.arrays import Array, arrays_of
from teleport_env.native import KERNELS

__all__ = ["Streams", "seeds_of_rows"]

# SplitMix64's constants, written as signed 64-bit integers because torch has no unsigned multiplication.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(bits: Array, count: int) -> Array:
    """Logical right shift of int64; the operator ``>>`` copies the sign bit."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mixed(bits: Array) -> Array:
    """`mix` of arrays (`teleport_env.arrays`)."""
    if KERNELS is not None and isinstance(bits, np.ndarray):
        found = np.empty((bits.size, 1), np.int64)
        KERNELS.draw(np.ascontiguousarray(bits).reshape(-1), -1, found)  # of the number before the first: no counter
        return found.reshape(bits.shape)
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def mix(bits: Tensor) -> Tensor:
    """SplitMix64's output function: a bijection of 64-bit integers in which every input bit moves every output bit."""
    xp = arrays_of(bits.device)
    return xp.tensor(_mixed(xp.view(bits)))


def fold_in(keys: Tensor, data: Tensor | int) -> Tensor:
    """New keys ``(B,)`` int64 from ``keys`` ``(B,)`` and ``data`` ``(B,)`` or an int: independent streams per datum."""
    xp = arrays_of(keys.device)
    folded = _folded_number(data, keys.device) if isinstance(data, int) else _folded(xp.view(data))
    return xp.tensor(_mixed(_mixed(xp.view(keys) + _GAMMA) ^ folded))


def _folded(data: Array) -> Array:
    return _mixed(data * _GAMMA + _MIX_2)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _folded_number(data: int, device: torch.device) -> Array:
    """`_folded` of one number ``(1,)``; not to be written to."""
    return _folded(arrays_of(device).view(torch.tensor([_signed(data)], dtype=torch.int64, device=device)))


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def key_of(text: str) -> int:
    """A 63-bit key from a name, the same in every process (Python's own ``hash`` of a string is not)."""
    value = 0xCBF29CE484222325
    for byte in text.encode():  # FNV-1a
        value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return value >> 1


def seeds_of_rows(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` sub-environments under one seed.

    ``seed + i`` would let the seeds ``s`` and ``s + 1`` share all but one sub-environment; a ``SeedSequence`` does not.
    Row ``i``'s seed does not depend on ``count``.
    """
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint64)]


class Streams:
    """``B`` independent streams of random numbers, one per row.

    Row ``i``'s numbers depend on ``keys[i]`` and on how many it has drawn, on nothing else. This is the generator that
    ``Problem.sample`` and ``Search.find`` are given.

    Args:
        keys: ``(B,)`` int64, one key per row.
    """

    def __init__(self, keys: Tensor) -> None:
        if keys.dtype != torch.int64 or keys.ndim != 1:
            raise ValueError(
                f"keys must be a one-dimensional int64 tensor, got {keys.dtype} of shape {tuple(keys.shape)}"
            )
        self.keys = keys
        self._position = 0  # all rows draw together, so that one counter serves them

    @classmethod
    def from_seeds(cls, seeds: int | Sequence[int], device: torch.device | str = "cpu") -> Streams:
        """Streams for one integer seed or one per row; any Python integers."""
        if isinstance(seeds, int):
            seeds = [seeds]
        keys = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int64, device=device)
        return cls(mix(keys + _GAMMA))

    @property
    def count(self) -> int:
        """Number of rows ``B``."""
        return self.keys.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the keys lie, and the numbers that are drawn."""
        return self.keys.device

    def fork(self, data: Tensor | int) -> Streams:
        """Fresh streams whose keys are this one's keys with ``data`` folded in; this one's position is not moved."""
        return Streams(fold_in(self.keys, data))

    def select(self, rows: Tensor) -> Streams:
        """The streams of some rows, at this one's position."""
        chosen = Streams(self.keys[rows])
        chosen._position = self._position
        return chosen

    def bits(self, size: Sequence[int] = ()) -> Tensor:
        """``(B, *size)`` int64, all 64 bits random."""
        return arrays_of(self.device).tensor(self._bits(size))

    def _bits(self, size: Sequence[int]) -> Array:
        """The same as an array."""
        xp, amount = arrays_of(self.device), math.prod(size)
        if KERNELS is not None and self.device.type == "cpu":
            return self._drawn(amount, np.int64).reshape(self.count, *size)
        counter = xp.view(torch.arange(self._position + 1, self._position + amount + 1, device=self.device))
        self._position += amount
        return _mixed(xp.view(self.keys)[:, None] + counter * _GAMMA).reshape(self.count, *size)

    def _units(self, size: Sequence[int]) -> Array:
        """`uniform` on ``[0, 1)``, an array of float64."""
        if KERNELS is not None and self.device.type == "cpu":
            return self._drawn(math.prod(size), np.float64).reshape(self.count, *size)
        return arrays_of(self.device).doubles(_shift_right(self._bits(size), 11)) * 2.0**-53

    def _drawn(self, amount: int, kind: type) -> np.ndarray:
        """`_bits` or `_units` ``(B, amount)`` in a tenth of the time."""
        found: np.ndarray = np.empty((self.count, amount), kind)
        KERNELS.draw(np.ascontiguousarray(self.keys.numpy()), self._position, found)
        self._position += amount
        return found

    def uniform(
        self, low: float = 0.0, high: float = 1.0, size: Sequence[int] = (), dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """``(B, *size)`` uniform on ``[low, high)``."""
        return arrays_of(self.device).tensor(low + (high - low) * self._units(size)).to(dtype)

    def normal(self, size: Sequence[int] = (), dtype: torch.dtype = torch.float64) -> Tensor:
        """``(B, *size)`` standard normal, by Box and Muller's transform."""
        return self.normals(1, size, dtype)[:, 0]

    def normals(self, count: int, size: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        """``(B, count, *size)``: what so many draws of `normal` give, in one."""
        units = arrays_of(self.device).tensor(self._units((count, 2, *size)))
        radius = units[:, :, 0].neg().log1p_().mul_(-2.0).sqrt_()  # in place: new memory costs as much as a logarithm
        return radius.mul_(units[:, :, 1].mul(2.0 * math.pi).cos_()).to(dtype)

    def integers(self, high: int, size: Sequence[int] = ()) -> Tensor:
        """``(B, *size)`` int64, uniform on ``0, ..., high - 1``; ``high`` is at most 2**53."""
        if not 1 <= high <= 1 << 53:
            raise ValueError(f"high must be between 1 and 2**53, got {high}")
        # The largest uniform below 1 can round up to `high` for large `high`, hence the clamp.
        return (self.uniform(size=size) * high).to(torch.int64).clamp_(max=high - 1)

    def permutation(self, length: int) -> Tensor:
        """``(B, length)`` int64: a uniformly random order of ``0, ..., length - 1`` per row."""
        return torch.argsort(self.bits((length,)), dim=1, stable=True)

    def sign(self, size: Sequence[int] = (), dtype: torch.dtype = torch.float64) -> Tensor:
        """``(B, *size)`` of -1 and +1 with equal probability."""
        return (2 * self.integers(2, size) - 1).to(dtype)
