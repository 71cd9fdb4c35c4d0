"""Compiled searches over the hidden layers of small networks: by invertible matrices, or by positive scalings.

A kernel does for a few runs at a time what `NormalizedAscent` and the sweeps of `ClosedForm` do on arrays, at the same
price: one call in place of a hundred (``teleport_env/native/chains.inc`` and ``scalings.inc``). Sums agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from teleport_env.native import KERNELS, OBJECTIVES
from teleport_env.problems.compiled import packed
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.fast.linear_chain import reduced
from teleport_env.searches.pair_algebra import Sweeps
from teleport_env.symmetries.activations import Identity
from teleport_env.symmetries.networks import Layers
from teleport_env.symmetries.pairs import LinearChain
from teleport_env.symmetries.positive_scaling import Scalings


@lru_cache(maxsize=64)
def _packed(layers: Layers) -> bytes | None:
    return packed(layers, Identity())


@dataclass(frozen=True)
class Chains:
    """The kernels for where some runs stand.

    Attributes:
        start: Starting points of the runs.
        shortcut: The chain of layers that the symmetry acts on.
        packed: Its layers, as kernels read them.
    """

    start: Start
    shortcut: LinearChain | Scalings
    packed: bytes

    @classmethod
    def of(cls, start: Start) -> Chains | None:
        """None where there are no kernels for the runs' symmetry."""
        shortcut = start.symmetry.shortcut
        if not hasattr(KERNELS, "chain_ascend") or start.params.dtype != torch.float64:
            return None
        if type(shortcut) is not LinearChain and type(shortcut) is not Scalings:
            return None
        layers = _packed(shortcut.layers)
        return None if layers is None else cls(start, shortcut, layers)

    @property
    def _whole(self) -> bool:
        """Whether searches by the gradient work on the chain as it is, and not on what the gradients span."""
        return isinstance(self.shortcut, Scalings) or reduced(self.shortcut).layers == self.shortcut.layers

    def ascended(self, lengths: Sequence[float], trust: float, shrink: float, sign: float) -> Candidate | None:
        """What `NormalizedAscent` proposes after steps of these lengths, by `Group.retract`; not charged."""
        if not self._whole:
            return None
        steps = torch.tensor(lengths, dtype=torch.float64, device="cpu")
        return self._found("ascend", steps, trust, shrink, sign)

    def settled(self, sweeps: Sweeps) -> Candidate | None:
        """What sweeps find; not charged. None also where matrices are to be anything but balanced."""
        if not (sweeps.on_weights or self._whole):
            return None
        passes = sweeps.count_of(len(self.shortcut.layers.hidden))
        what = OBJECTIVES[sweeps.objective], sweeps.on_weights, passes, 2.0 * sweeps.trust_radius
        return self._found("settle", *what)

    def _found(self, what: str, *settings: Any) -> Candidate | None:
        start, scales = self.start, isinstance(self.shortcut, Scalings)
        kernel = getattr(KERNELS, f"scaling_{what}" if scales else f"chain_{what}")
        found = kernel(start.params, start.gradient, self.packed, *settings)
        if found is None:
            return None
        params, gradient, score, start_score, elements = found
        widths = list(self.shortcut.layers.hidden)
        element: tuple[Tensor, ...] = elements.split(widths if scales else [width**2 for width in widths], dim=1)
        if not scales:
            element = tuple(part.view(-1, width, width) for part, width in zip(element, widths, strict=True))
        return Candidate(params, start.loss, gradient, score=score, start_score=start_score, element=element)
