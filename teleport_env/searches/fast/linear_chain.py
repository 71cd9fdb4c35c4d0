"""The general linear group on a chain of linear layers, in the space that the gradients span.

Gradients on ``n`` examples have rank ``n`` at most: ``G_l = L_l R_l'``. What a search over the group wants to know of the
hidden space between ``G_l`` below and ``G_(l+1)`` above happens in the span of ``L_l`` and ``R_(l+1)``, of dimension
``2 n``, because the norm, its direction of ascent (`LinearPairs.ascent_direction`) and every element made of it leave the
rest alone.
With an orthonormal basis ``Q_l`` of that span, ``Q_l' G_l Q_(l-1)`` is the gradient of a chain whose widths are ``2 n``; it
has the same norm and the same searches, and ``g = 1 + Q (g~ - 1) Q'`` leads back.

The factors come from the gradient alone, by its product with a fixed random matrix (Halko, Martinsson and Tropp, *Finding
structure with randomness*, 2011, algorithm 4.1, exact for a matrix of that rank). Where ``2 n`` is no smaller than a hidden
layer, that layer is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor

from teleport_env.arrays import TINY, Array
from teleport_env.ledger import Counts
from teleport_env.searches.base import Candidate, Start
from teleport_env.searches.directions import relative_direction, relative_price
from teleport_env.searches.fast.low_rank import cayley, exponentials
from teleport_env.searches.moves import times
from teleport_env.searches.objectives import ordered, squared_norm
from teleport_env.searches.pair_algebra import Sweeps
from teleport_env.searches.trails import FastTrail, Place
from teleport_env.symmetries.networks import Layers, product
from teleport_env.symmetries.pairs import LinearChain, LinearPairs

_WORTH = 0.75  # of a layer's width: a larger span is no saving


@lru_cache(maxsize=64)
def _probe(size: int, rank: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A fixed matrix of normal numbers ``(1, size, rank)``."""
    generator = torch.Generator("cpu").manual_seed(size * 1_000_003 + rank)
    drawn = torch.randn(1, size, rank, generator=generator, dtype=torch.float64, device="cpu")
    return drawn.to(device, dtype)


def spans(chain: LinearChain) -> list[bool]:
    """Of every hidden layer, whether its gradients span little enough of it."""
    rank = chain.gradient_rank
    return [rank is not None and 2 * rank <= _WORTH * width for width in chain.layers.hidden]


Elements: TypeAlias = "list[tuple[Tensor, Tensor]]"
"""An element of each pair and its inverse, on the chain that is searched."""


class ReducedChain:
    """The gradient ``(R, P)`` of ``R`` runs on the smaller chain, and the way back; `symmetry` acts there (`reduced`)."""

    def __init__(self, chain: LinearChain, gradient: Tensor) -> None:
        self._full = chain.layers
        self._bases: list[Tensor | None] = [None] * len(chain.layers.hidden)
        self.symmetry, self.gradient = reduced(chain), gradient
        self._lowest: Tensor | None = None
        self._highest: Tensor | None = None
        if chain.gradient_rank is not None and self.symmetry.layers != chain.layers:
            self._reduce(chain, chain.gradient_rank)

    def _reduce(self, chain: LinearChain, rank: int) -> None:
        lefts: list[Tensor | None] = []  # G = left right'; None where a layer is too small to have a factor
        rights: list[Tensor] = []
        for matrix in chain.layers.weights(self.gradient):
            probe = _probe(matrix.shape[2], rank, matrix.dtype, matrix.device).expand(len(matrix), -1, -1)
            if min(matrix.shape[1:]) <= rank:
                lefts.append(None)
                rights.append(matrix.mT)
                continue
            left = torch.linalg.qr(product(matrix, probe))[0]
            lefts.append(left)
            rights.append(product(matrix.mT, left))
        for index, saves in enumerate(spans(chain)):
            if saves:
                below = lefts[index]
                sides = rights[index].mT if below is None else below, rights[index + 1]
                self._bases[index] = torch.linalg.qr(torch.cat(sides, dim=2))[0]
        small = []
        for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            basis = self._bases[index - 1] if index > 0 else None
            if index == 0 and right.shape[2] < right.shape[1]:
                self._lowest, right = torch.linalg.qr(right)
            elif basis is not None:
                right = product(basis.mT, right)
            span = self._bases[index] if index < len(self._bases) else None
            if left is None:
                small.append(right.mT if span is None else product(span.mT, right.mT))
            elif index + 1 == len(lefts):
                self._highest = left
                small.append(right.mT)
            else:
                small.append(product(left if span is None else product(span.mT, left), right.mT))
        self.gradient = self.symmetry.layers.flatten(small)

    def weights(self, elements: Elements, params: Tensor) -> Tensor:
        weights = list(self._full.weights(params))
        for index, (forth, back) in enumerate(elements):
            weights[index] = self._times(index, forth, weights[index])
            weights[index + 1] = self._from_right(index, weights[index + 1], back)
        return self._full.flatten(weights)

    def _times(self, index: int, element: Tensor, matrix: Tensor) -> Tensor:
        basis = self._bases[index]
        if basis is None:
            return product(element, matrix)
        inside = product(basis.mT, matrix)
        return torch.baddbmm(matrix, basis, product(element, inside) - inside)

    def _from_right(self, index: int, matrix: Tensor, element: Tensor) -> Tensor:
        basis = self._bases[index]
        if basis is None:
            return product(matrix, element)
        inside = product(matrix, basis)
        return torch.baddbmm(matrix, product(inside, element) - inside, basis.mT)

    def gradients(self, gradient: Tensor) -> Tensor:
        """A gradient ``(R, P)`` from the smaller chain's."""
        if self.symmetry.layers == self._full:
            return gradient
        parts = []
        bases = [self._lowest, *self._bases, self._highest]
        for below, above, matrix in zip(bases, bases[1:], self.symmetry.layers.weights(gradient), strict=False):
            if above is not None:
                matrix = product(above, matrix)
            parts.append(matrix if below is None else product(matrix, below.mT))
        return self._full.flatten(parts)

    def element(self, elements: Elements) -> tuple[Tensor, ...] | None:
        """The element on the whole chain, where that was searched; else None, since no search needs it."""
        return tuple(forth for forth, _ in elements) if self.symmetry.layers == self._full else None


_SMALL = 100  # widths up to which NumPy is quicker


@dataclass
class Carried:
    """Where ``R`` runs are, in arrays: the gradient's matrices on the smaller chain, and the elements that led there.

    ``forth`` and ``back`` (the inverses) are ``(R, k, k)`` each, or one after the other where all are of one size.
    """

    gradient: list[Array]
    forth: list[Array]
    back: list[Array]


class LinearTrail(FastTrail[LinearChain]):
    """Gradients walk, on the smaller chain; the weights follow. A direction is a factor and a matrix per pair."""

    @staticmethod
    def price(shortcut: LinearChain, steps: int, retract: bool, relative: bool) -> Counts:
        small = reduced(shortcut)
        direction = relative_price(small) if relative else Counts(flops=small.direction_flops or 0.0)
        walked = times(steps, direction + Counts(flops=along_flops(small, retract)))
        return walked + Counts(flops=begin_flops(shortcut) + end_flops(shortcut))

    def begin(self) -> Place:
        self._start.evaluator.charge(Counts(flops=begin_flops(self._shortcut)))
        with torch.no_grad():
            self._chain = ReducedChain(self._shortcut, self._start.gradient)
        symmetry = self._symmetry = self._chain.symmetry
        self._direction_price = Counts(flops=symmetry.direction_flops or 0.0)
        self._along_price = [Counts(flops=along_flops(symmetry, retract)) for retract in (False, True)]
        hidden, runs = symmetry.layers.hidden, len(self._start)
        self._matrices_up_to(max(hidden) <= _SMALL)
        m = self._m
        self._together = len(set(hidden)) == 1
        sizes = [(len(hidden) * runs, hidden[0])] if self._together else [(runs, width) for width in hidden]
        like = self._chain.gradient
        identity = [
            m.view(torch.eye(width, dtype=like.dtype, device=like.device).repeat(count, 1, 1)) for count, width in sizes
        ]
        gradient = symmetry.layers.views(m.view(like))
        return self._place(Carried(gradient, identity, identity), self._sum_of_products(gradient, gradient))

    def direction(self, place: Place, derivative: str, relative: bool) -> tuple[float, list[Array]]:
        m, gradient = self._m, place.state.gradient
        if relative:
            flat = self._symmetry.layers.flatten([m.tensor(matrix) for matrix in gradient])
            parts = self._symmetry.group.algebra(relative_direction(self._start, self._symmetry, flat))
            return 1.0, [m.view(part) for part in parts]
        self._start.evaluator.charge(self._direction_price)
        directions = []  # as in `LinearPairs.ascent_direction`
        for lower, upper in pairwise(gradient):
            above = m.product(upper.swapaxes(1, 2), upper)
            directions.append(m.plus_product(above, lower, lower.swapaxes(1, 2), -1.0))
        return 2.0, directions

    def length(self, direction: tuple[float, list[Array]]) -> Array:
        m, (by, matrices) = self._m, direction
        # scaled first: squares of tiny numbers vanish
        size: Any = TINY[matrices[0].dtype]
        for matrix in matrices:
            size = m.at_least(m.amax(abs(matrix.reshape(len(matrix), -1)), 1), size)
        column = size[:, None, None]
        scaled = [matrix / column for matrix in matrices]
        return self._number(by * size * self._sum_of_products(scaled, scaled) ** 0.5)

    def along(self, place: Place, direction: tuple[float, list[Array]], factor: Array, retract: bool) -> Place:
        self._start.evaluator.charge(self._along_price[retract])
        m, at = self._m, place.state
        by = (direction[0] * self._for_matrices(factor))[:, None, None]
        parts = [matrix * by for matrix in direction[1]]
        function = cayley if retract else exponentials
        moves = [function(m, part) for part in ([m.concatenate(parts, 0)] if self._together else parts)]
        gradient = list(at.gradient)
        for index, (forth, back) in enumerate(self._by_pair(moves)):
            gradient[index] = m.product(back.swapaxes(1, 2), gradient[index])
            gradient[index + 1] = m.product(gradient[index + 1], forth.swapaxes(1, 2))
        forths = [m.product(forth, before) for (forth, _), before in zip(moves, at.forth, strict=True)]
        backs = [m.product(before, back) for (_, back), before in zip(moves, at.back, strict=True)]
        return self._place(Carried(gradient, forths, backs), self._sum_of_products(gradient, gradient))

    def _by_pair(self, elements: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        """Elements and inverses of every pair, from those of all."""
        if not self._together:
            return elements
        runs, (forth, back) = len(self._start), elements[0]
        rows = [slice(begin, begin + runs) for begin in range(0, len(forth), runs)]
        return [(forth[at], back[at]) for at in rows]

    def end(self, place: Place) -> Candidate:
        start, chain, m, at = self._start, self._chain, self._m, place.state
        start.evaluator.charge(Counts(flops=end_flops(self._shortcut)))
        pairs = self._by_pair(list(zip(at.forth, at.back, strict=True)))
        elements = [(m.tensor(forth), m.tensor(back)) for forth, back in pairs]
        with torch.no_grad():
            params = chain.weights(elements, start.params)
            gradient = chain.gradients(self._symmetry.layers.flatten([m.tensor(matrix) for matrix in at.gradient]))
        return Candidate(params, self._xp.tensor(place.loss), gradient, element=chain.element(elements))


class ChainForm:
    """Sweeps over what the gradients span, then one move of the weights."""

    moves_weights = False  # weights lie outside of what the gradients span

    def __init__(self, chain: LinearChain, sweeps: Sweeps) -> None:
        self._chain, self._sweeps = chain, sweeps

    def price(self) -> Counts:
        return Counts(
            flops=self._sweeps.flops(reduced(self._chain)) + begin_flops(self._chain) + end_flops(self._chain)
        )

    def propose(self, start: Start) -> Candidate:
        start.evaluator.charge(Counts(flops=begin_flops(self._chain) + end_flops(self._chain)))
        chain = ReducedChain(self._chain, start.gradient)
        gradient = chain.gradient.clone()
        before = squared_norm(gradient)
        elements = self._sweeps.run(start, chain.symmetry, gradient)
        sign = self._sweeps.sign
        return Candidate(
            chain.weights(elements, start.params),
            start.loss,
            chain.gradients(gradient),
            score=ordered(sign * squared_norm(gradient)),
            start_score=ordered(sign * before),
            element=chain.element(elements),
        )


# -- prices: floating-point operations for one run ---------------------------------------------------------------------


_STEP = 0.85  # a step of a walk works in place on arrays: measured beside a move, which goes through calls of torch


@lru_cache(maxsize=64)
def reduced(chain: LinearChain) -> LinearPairs:
    """The action on the smaller chain of `ReducedChain`; on the whole one where nothing is to be saved."""
    saves, rank, layers = spans(chain), chain.gradient_rank, chain.layers
    if not any(saves) or rank is None:
        return LinearPairs(layers)
    around = zip(layers.widths, layers.widths[2:], strict=False)
    hidden = [
        min(rank, below) + min(rank, above) if saved else width
        for saved, width, (below, above) in zip(saves, layers.hidden, around, strict=True)
    ]
    lowest = min(rank, layers.widths[0], layers.widths[1])
    top = layers.shapes[-1]
    highest = rank if min(top) > rank else top[0]
    return LinearPairs(Layers((lowest, *hidden, highest)))


def begin_flops(chain: LinearChain) -> float:
    """The factors of every gradient, the bases, and the small matrices."""
    saves, rank, layers = spans(chain), chain.gradient_rank, chain.layers
    if not any(saves) or rank is None:
        return 0.0
    factors = sum(4.0 * rows * columns * rank + 4.0 * rows * rank**2 for rows, columns in layers.shapes)
    bases = sum(16.0 * k * rank**2 for k, saved in zip(layers.hidden, saves, strict=True) if saved)
    onto = sum(8.0 * k * rank**2 for k, saved in zip(layers.hidden, saves, strict=True) if saved)
    return factors + bases + onto + 4.0 * layers.widths[0] * rank**2


def along_flops(symmetry: LinearPairs, retract: bool) -> float:
    """Of `LinearTrail.along` on the smaller chain: two exponentials, the gradients moved, the elements composed."""
    shapes = symmetry.layers.shapes
    return _STEP * sum(
        (8.0 if retract else 11.0) * k**3 + 4.0 * k**3 + 2.0 * k * k * (shapes[index][1] + shapes[index + 1][0])
        for index, k in enumerate(symmetry.layers.hidden)
    )


def end_flops(chain: LinearChain) -> float:
    """Of the weights' move and the way back of the gradients."""
    small, layers, total = reduced(chain).layers, chain.layers, 0.0
    for index, (k, r) in enumerate(zip(layers.hidden, small.hidden, strict=True)):
        sides = layers.shapes[index][1] + layers.shapes[index + 1][0]
        total += 2.0 * k * k * sides if r == k else (4.0 * k * r + 2.0 * r * r) * sides
    if small != layers:
        total += sum(
            2.0 * rows * r * c + 2.0 * rows * c * columns
            for (rows, columns), (r, c) in zip(layers.shapes, small.shapes, strict=True)
        )
    return total
