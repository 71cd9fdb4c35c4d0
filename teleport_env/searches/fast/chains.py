"""Compiled searches over the general linear group on a chain of small layers.

A kernel does for eight runs at a time what `NormalizedAscent` and the sweeps of `ClosedForm` do on arrays, at the same
price: one call in place of a hundred (``teleport_env/native/chains.inc``). Sums of products agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from teleport_env.native import KERNELS
from teleport_env.problems.compiled import packed
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.fast.linear_chain import reduced
from teleport_env.searches.pair_algebra import Sweeps
from teleport_env.symmetries.activations import Identity
from teleport_env.symmetries.networks import Layers
from teleport_env.symmetries.pairs import LinearChain


@lru_cache(maxsize=64)
def _packed(layers: Layers) -> bytes | None:
    return packed(layers, Identity())


@dataclass(frozen=True)
class Chains:
    """The kernels for where some runs stand.

    Attributes:
        start: Starting points of the runs.
        chain: The chain that the symmetry acts on.
        packed: Its layers, as kernels read them.
    """

    start: Start
    chain: LinearChain
    packed: bytes

    @classmethod
    def of(cls, start: Start) -> Chains | None:
        """None where there are no kernels for the runs' symmetry."""
        chain = start.symmetry.shortcut
        if (
            not hasattr(KERNELS, "chain_ascend")
            or type(chain) is not LinearChain
            or start.params.dtype != torch.float64
        ):
            return None
        layers = _packed(chain.layers)
        return None if layers is None else cls(start, chain, layers)

    @property
    def _whole(self) -> bool:
        """Whether searches by the gradient work on the chain as it is, and not on what the gradients span."""
        return reduced(self.chain).layers == self.chain.layers

    def ascended(self, lengths: Sequence[float], trust: float, shrink: float, sign: float) -> Candidate | None:
        """What `NormalizedAscent` proposes after steps of these lengths, by `GL.retract`; not charged."""
        if not self._whole:
            return None
        steps = torch.tensor(lengths, dtype=torch.float64, device="cpu")
        found = KERNELS.chain_ascend(*self._standing, steps, trust, shrink, sign)
        return None if found is None else self._candidate(*found)

    def balanced(self, sweeps: Sweeps) -> Candidate | None:
        """What sweeps of a balance find; not charged. None also for other objectives."""
        if sweeps.objective not in ("balance_weights", "balance_gradient") or not (sweeps.on_weights or self._whole):
            return None
        passes = sweeps.count_of(len(self.chain.layers.hidden))
        found = KERNELS.chain_balance(*self._standing, sweeps.on_weights, passes, 2.0 * sweeps.trust_radius)
        return None if found is None else self._candidate(*found)

    @property
    def _standing(self) -> tuple[Tensor, Tensor, bytes]:
        return self.start.params, self.start.gradient, self.packed

    def _candidate(
        self, params: Tensor, gradient: Tensor, score: Tensor, start_score: Tensor, elements: Tensor
    ) -> Candidate:
        widths = self.chain.layers.hidden
        parts = elements.split([width * width for width in widths], dim=1)
        element = tuple(part.view(-1, width, width) for part, width in zip(parts, widths, strict=True))
        return Candidate(params, self.start.loss, gradient, score=score, start_score=start_score, element=element)
