"""Products of groups: one element for each pair of layers of a network, say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, single
from teleport_env.random import Streams


@dataclass(frozen=True, init=False, repr=False)
class Product(Group):
    """The direct product of groups; elements are tuples with one tensor per factor, also for a single factor.

    ``xi`` ``(B, dim)`` holds the factors' coordinates one after the other. Where any factor is discrete the product has
    no exponential, and ``dim`` is 0 as it is for every group without one; such elements are sampled.

    Attributes:
        groups: The factors.

    Raises:
        TypeError: A factor is not a group.
        ValueError: There is no factor, or one is itself a product.
    """

    groups: tuple[Group, ...]

    def __init__(self, *groups: Group) -> None:
        if not groups:
            raise ValueError("Product needs at least one group, got none: Product(GL(3), GL(2)), say")
        for group in groups:
            if not isinstance(group, Group):
                raise TypeError(f"the factors of Product must be groups, got {group!r} of type {type(group).__name__}")
            if isinstance(group, Product):
                raise ValueError(
                    f"a factor of Product may not be a product itself: unpack it, Product(*{group!r}.factors)"
                )
        continuous = all(group.continuous for group in groups)
        # set once, past the guard of a frozen dataclass
        self.__dict__.update(
            groups=groups,
            name=" x ".join(group.name for group in groups),
            dim=sum(group.dim for group in groups) if continuous else 0,
            exp_flops=sum(group.exp_flops for group in groups) if continuous else 0.0,
            compact=all(group.compact for group in groups),
            retract_reach=min(group.retract_reach for group in groups),
        )

    @property
    def factors(self) -> tuple[Group, ...]:
        return self.groups

    @property
    def retract_flops(self) -> float:
        return sum(group.retract_flops for group in self.groups)

    def of_factors(self, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(parts)

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"

    def split(self, xi: Tensor) -> tuple[Tensor, ...]:
        """The coordinates of each factor, views of ``xi`` ``(B, dim)``.

        Raises:
            TypeError: A factor is discrete.
        """
        discrete = [group.name for group in self.factors if not group.continuous]
        if discrete:
            raise TypeError(
                f"{self.name} has no exponential because {', '.join(discrete)} is discrete: draw elements with "
                "sample(streams), or use the continuous factors in a product of their own"
            )
        self._checked(xi)
        return torch.split(xi, [group.dim for group in self.factors], dim=1)

    def identity(
        self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:
        return self._collect(group.identity(count, dtype, device) for group in self.factors)

    def compose(self, second: Element, first: Element) -> tuple[Tensor, ...]:
        parts = zip(self.factors, self._parts(second), self._parts(first), strict=True)
        return self._collect(group.compose(a, b) for group, a, b in parts)

    def inverse(self, element: Element) -> tuple[Tensor, ...]:
        return self._collect(group.inverse(part) for group, part in self._zip(element))

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        inside = [group.contains(part, tolerance) for group, part in self._zip(element)]
        return torch.stack(inside).all(dim=0)

    def exp(self, xi: Tensor) -> tuple[Tensor, ...]:
        return self._collect(group.exp(part) for group, part in zip(self.factors, self.split(xi), strict=True))

    def retract(self, xi: Tensor) -> tuple[Tensor, ...]:
        return self._collect(group.retract(part) for group, part in zip(self.factors, self.split(xi), strict=True))

    def algebra(self, xi: Tensor) -> tuple[Tensor, ...]:
        """The factors' algebra elements, each from its own `algebra`."""
        return self._collect(group.algebra(part) for group, part in zip(self.factors, self.split(xi), strict=True))

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, dim)`` of the factors' algebra elements; inverse of `algebra`."""
        return torch.cat([group.coordinates(part) for group, part in self._zip(matrix)], dim=1)

    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """One sample per factor, independent of each other, all at the same ``scale``."""
        return self._collect(group.sample(streams, scale, dtype) for group in self.factors)

    def as_matrices(self, element: Element) -> tuple[Tensor, ...]:
        return self._collect(group.as_matrices(part) for group, part in self._zip(element))

    def _parts(self, element: Element) -> tuple[Tensor, ...]:
        if not isinstance(element, tuple) or len(element) != len(self.factors):
            given = f"a tuple of {len(element)}" if isinstance(element, tuple) else type(element).__name__
            raise TypeError(f"an element of {self.name} is a tuple of {len(self.factors)} tensors, got {given}")
        return element

    def _zip(self, element: Element) -> Iterator[tuple[Group, Tensor]]:
        return zip(self.factors, self._parts(element), strict=True)

    @staticmethod
    def _collect(parts: Iterator[Element]) -> tuple[Tensor, ...]:
        return tuple(map(single, parts))  # no factor is a product
