"""Groups and their elements, batched.

A group here is what a symmetry needs of it: an identity, a product, an inverse, and for Lie groups a way from the flat
coordinates ``xi`` of the Lie algebra, which searches and policies move in, to an element and back. ``xi = 0`` is always
the identity. A group knows nothing of weights or losses.

Elements of a batch of ``B`` are one tensor with leading axis ``B``:

* matrix groups: ``(B, k, k)``;
* the diagonal group (positive scaling): its diagonal, ``(B, k)``;
* permutations: the image of every index, ``(B, k)`` int64;
* a product of groups: a tuple with one such tensor per factor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from teleport_env.random import Streams

Element: TypeAlias = "Tensor | tuple[Tensor, ...]"
"""Group elements of a batch: one tensor with leading axis ``B``, or one per factor of a product."""


def map_element(function: Callable[..., Tensor], *elements: Element) -> Element:
    """Apply ``function`` to the tensors of one or several elements, factor by factor for a product group."""
    if isinstance(elements[0], tuple):
        return tuple(function(*parts) for parts in zip(*elements, strict=True))
    return function(*elements)


def parts(element: Element) -> tuple[Tensor, ...]:
    """The tensors of an element: one, or one per factor."""
    return element if isinstance(element, tuple) else (element,)


def single(element: Element) -> Tensor:
    """The element as the one tensor it is for every group but a product; raises TypeError for a tuple."""
    if isinstance(element, tuple):
        raise TypeError(
            f"this group's elements are one tensor, got a tuple of {len(element)}, which belongs to a Product; "
            "pass one of its parts"
        )
    return element


def select(element: Element, rows: Tensor) -> Element:
    """The elements of some rows; ``rows``: an index ``(R,)`` or mask ``(B,)``."""
    return map_element(lambda part: part[rows], element)


def where(mask: Tensor, chosen: Element, other: Element) -> Element:
    """Row by row ``chosen`` where ``mask`` ``(B,)`` bool is true, ``other`` elsewhere."""
    return map_element(lambda a, b: torch.where(mask.reshape(-1, *([1] * (a.ndim - 1))), a, b), chosen, other)


def default_tolerance(part: Tensor) -> float:
    """How far from exact an element's entries may be by rounding: 1e-10 in float64, 1e-4 in float32."""
    return 1e-10 if part.dtype == torch.float64 else 1e-4


class Group(ABC):
    """A group whose elements come in batches.

    Attributes:
        name: The field's name of the group, such as ``"SO(2)"``.
        dim: Dimension of the Lie algebra, the length of ``xi``; 0 for a discrete group.
        exp_flops: Floating-point operations of one ``exp``, for the ledger; 0 where it is elementwise.
        compact: Whether the group is compact, so that no step in it is too long.
        metrics: The set of matrices ``g'g`` that the group reaches: ``"all"`` symmetric positive definite matrices, the
            ``"diagonal"`` ones, or neither (None). Searches know the best element in closed form where it is one of the
            two.
        retract_reach: Length of ``xi`` below which `retract` is defined.
        on_circle: Whether ``xi`` is an angle that runs through the whole group once.
    """

    name: str
    dim: int
    exp_flops: float = 0.0
    compact: bool = False
    metrics: Literal["all", "diagonal"] | None = None
    retract_reach: float = math.inf
    on_circle: bool = False

    @property
    def factors(self) -> tuple[Group, ...]:
        """The factors of a product, or the group itself."""
        return (self,)

    def of_factors(self, parts: Sequence[Tensor]) -> Element:
        """The element whose factors are these, one per group of `factors`."""
        return parts[0]

    @property
    def retract_flops(self) -> float:
        """Floating-point operations of one `retract`."""
        return self.exp_flops

    @property
    def continuous(self) -> bool:
        """Whether the group has a Lie algebra to move in."""
        return self.dim > 0

    @abstractmethod
    def identity(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Element:
        """``count`` copies of the neutral element."""

    @abstractmethod
    def compose(self, second: Element, first: Element) -> Element:
        """The product ``second . first``: as an action, ``first`` is done first."""

    @abstractmethod
    def inverse(self, element: Element) -> Element:
        """The inverse; rows without one (numerically singular) come back as NaN, the other rows never notice."""

    @abstractmethod
    def exp(self, xi: Tensor) -> Element:
        """The exponential of ``xi`` ``(B, dim)``; twice differentiable everywhere, ``xi = 0`` included.

        Raises:
            TypeError: The group is discrete.
        """

    def retract(self, xi: Tensor) -> Element:
        """A cheap stand-in for ``exp`` that agrees with it to first order at 0 and is an exact group element."""
        return self.exp(xi)

    def algebra(self, xi: Tensor) -> Element:
        """The matrices of the Lie algebra that ``xi`` ``(B, dim)`` are the coordinates of.

        Raises:
            TypeError: The group does not offer them.
        """
        raise TypeError(f"{self.name} does not offer the matrices of its Lie algebra; use one that does, such as GL")

    def coordinates(self, matrix: Element) -> Tensor:
        """The ``xi`` ``(B, dim)`` of matrices of the Lie algebra; inverse of `algebra`.

        Raises:
            TypeError: The group does not offer them.
        """
        raise TypeError(f"{self.name} does not offer the matrices of its Lie algebra; use one that does, such as GL")

    @abstractmethod
    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Element:
        """One random element per row: for compact groups uniform (Haar) at ``scale = 1``, else ``exp`` of a normal ``xi``.

        Args:
            streams: One stream per row.
            scale: Distance from the identity; 0 is the identity.
        """

    def sample_start(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Element:
        """The random element from which an ascent begins: `sample`, unless a publication draws another."""
        return self.sample(streams, scale, dtype)

    @abstractmethod
    def as_matrices(self, element: Element) -> Element:
        """The element as ``(B, k, k)`` matrices (a tuple of them for a product)."""

    def contains(self, element: Element, tolerance: float | None = None) -> Tensor:
        """Whether each row lies in the group, ``(B,)`` bool, within ``tolerance``; None: `default_tolerance`.

        This version asks for finite numbers only. A group with a condition on its elements (orthogonal, positive)
        overrides it, and `teleport_env.groups.laws` then checks that no operation leaves the group.
        """
        return torch.stack([torch.isfinite(part).flatten(1).all(dim=1) for part in parts(element)]).all(dim=0)

    def _checked(self, xi: Tensor) -> Tensor:
        """``xi``; raises ValueError unless its shape is ``(B, dim)``."""
        if xi.ndim != 2 or xi.shape[1] != self.dim:
            raise ValueError(f"xi of {self.name} must have shape (B, {self.dim}), got {tuple(xi.shape)}")
        return xi

    def __repr__(self) -> str:
        return f"<{self.name}, dim {self.dim}>"
