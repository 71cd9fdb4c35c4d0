"""Permutations of ``n`` things, such as the hidden units of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, single
from teleport_env.random import Streams
from teleport_env.reading import integer, number


@dataclass(frozen=True)
class Permutations(Group):
    """The symmetric group of ``n`` indices; discrete.

    Elements are ``p`` ``(B, n)`` int64, the image of every index: ``p`` carries what is at place ``i`` to place ``p[i]``,
    ``(p.x)[p[i]] = x[i]``, which `apply` does. As a matrix, column ``i`` has its one in row ``p[i]``. The product is
    ``(q p)[i] = q[p[i]]``.

    Attributes:
        n: Number of indices.
    """

    n: int

    compact = True

    def __post_init__(self) -> None:
        n = integer("the n of Permutations(n)", self.n, least=1)
        # set once, past the guard of a frozen dataclass
        self.__dict__.update(n=n, name=f"S({n})", dim=0)

    def identity(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """``count`` copies of ``0, ..., n - 1``, int64 whatever ``dtype`` says."""
        return torch.arange(self.n, device=device).repeat(count, 1)

    def compose(self, second: Element, first: Element) -> Tensor:
        return single(second).gather(1, single(first))

    def inverse(self, element: Element) -> Tensor:
        permutation = single(element)
        return torch.argsort(permutation, dim=1, stable=True)

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        """Whether every index occurs once in a row, ``(B,)`` bool; ``tolerance`` plays no part."""
        permutation = single(element)
        return (permutation.sort(dim=1).values == torch.arange(self.n, device=permutation.device)).all(dim=1)

    def exp(self, xi: Tensor) -> Tensor:
        """Raises TypeError: a discrete group has no Lie algebra."""
        raise TypeError(
            f"{self.name} is discrete and has no exponential: draw elements with sample(streams), or choose a search "
            "that samples"
        )

    def apply(self, element: Element, values: Tensor) -> Tensor:
        """``values`` ``(B, n, ...)`` carried along their second axis: the entry at ``i`` goes to ``p[i]``."""
        source = self.inverse(element)
        index = source.reshape(*source.shape, *([1] * (values.ndim - 2))).expand(values.shape)
        return values.gather(1, index)

    def as_matrices(self, element: Element) -> Tensor:
        """``(B, n, n)`` float64 with ``matrix @ x`` equal to ``apply(element, x)``."""
        columns = single(element)
        matrix = torch.zeros(*columns.shape, self.n, dtype=torch.float64, device=columns.device)
        return matrix.scatter(1, columns[:, None, :], 1.0)

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        """Uniform from ``scale = 1`` on; int64 whatever ``dtype`` says.

        Below 1 every index takes part with probability ``scale``, and those that do are permuted among themselves.
        """
        chosen = streams.uniform(size=(self.n,)) < number("scale", scale, least=0)
        rank = streams.permutation(self.n)
        own = torch.arange(self.n, device=rank.device)
        last = self.n + own
        # Two lists of the same indices, chosen ones first: in order, and shuffled. The rest are in order in both.
        places = torch.argsort(torch.where(chosen, own, last), dim=1)
        images = torch.argsort(torch.where(chosen, rank, last), dim=1)
        return torch.empty_like(rank).scatter_(1, places, images)
