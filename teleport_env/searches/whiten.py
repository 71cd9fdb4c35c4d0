"""Whitening: the teleport after which a step of descent solves one layer's least squares.

A teleport is a change of metric. For a pair of layers ``a = V h``, ``z = U a`` a squared error bends along ``U`` like
the second moments of ``a``, and along ``V`` like ``J'J`` and ``h h'`` together, with ``J`` all that lies above ``a``
in one matrix. The action ``a -> g a``, ``U -> U g^-1`` gives either any shape: with ``g = c^(1/2) (a a')^(-1/2)`` the
upper layer's Hessian becomes a multiple of the identity, with ``g = c^(-1/2) (J'J)^(1/2)`` the lower one's a multiple
of ``h h'``. With ``c`` one over the learning rate and the curvature of the loss in the outputs, the next step of
plain descent is Newton's step in the top layer, or, where ``h`` is white, in the lower one, provided that the rate is
low enough for the pair's other layer to stay where it is (``fit_rate``). In a factorization, teleports to either side
in turn make alternating least squares of gradient descent. This asks for no Hessian and no gradient, only for
activations. All of it is about plain descent and linear layers; through activations ``J`` is an upper bound where
slopes are at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.moves import at_start, move, move_price, verified, verify_price
from teleport_env.searches.pair_algebra import eigh_or_nan
from teleport_env.searches.settings import kind, require_choice, require_common, require_positive
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.networks import product

SIDES = ("inputs", "outputs")
SCALES = ("rate", "trace")


@kind
@dataclass(frozen=True, kw_only=True)
class Whiten(Search):
    """Make one layer's Hessian a multiple of the identity; see the module.

    Attributes:
        side: ``"inputs"``: of the layer above the hidden one, whose inputs become white. ``"outputs"``: of the layer below
            it, as far as what lies above is what bends it: ``J'J`` becomes a multiple of the identity.
        hidden: Number of the hidden layer, 0 the lowest; negative numbers count from the top.
        scale: ``"rate"``: the largest eigenvalue of that layer's Hessian becomes one over the learning rate, for problems
            that know the curvature of their loss in the outputs (`Problem.output_curvature`); ``"trace"``: the mean of
            the eigenvalues above the floor stays what it is.
        fit_rate: Whether to set the learning rate too, with ``"rate"``: low enough for the next step to leave the
            pair's other layer where it is. It is never above the rate that the run has, nor below the lower end of its
            range. Without it the step is Newton's in one layer, and the rate decides the step in the other.
        calm: Square root of the bound for `fit_rate`: the rate times the largest eigenvalue of the other layer's
            Hessian is at most the square of this, unless the lower end of the rate's range is above it.
        floor: Eigenvalues below this part of the largest are directions that the data do not tell apart, or units that
            nothing reads. They are moved as the largest is.
        verify: Whether to spend a forward pass on the loss where it was carried over, and report its real change.
        objective: ``"any"``: it is the step to come that improves, and not the point.
    """

    kind: ClassVar[str] = "whiten"

    objective: str = "any"
    side: str = "inputs"
    hidden: int = -1
    scale: str = "rate"
    fit_rate: bool = True
    calm: float = 0.03
    floor: float = 1e-6
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, ("any",))
        require_choice(self, "side", SIDES)
        require_choice(self, "scale", SCALES)
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, int):
            raise ValueError(f"hidden of search {self.kind!r} must be an integer, got {self.hidden!r}")
        require_positive(self, "floor", most=0.5)
        require_positive(self, "calm", most=1.0)

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        groups = symmetry.group.factors
        if not _serves(symmetry):
            others = [repr(name) for name, other in problem.symmetries.items() if _serves(other) and other.keeps_loss]
            hint = f"use the symmetry {' or '.join(others)}" if others else "use the search 'normalized_ascent'"
            raise ValueError(
                f"search {self.kind!r} needs the general linear group of hidden units, not {symmetry.name!r}; {hint}"
            )
        if not symmetry.keeps_loss or type(problem).layer_inputs is Problem.layer_inputs:
            raise ValueError(
                f"search {self.kind!r} needs an action that keeps the loss and a problem that tells what goes into its "
                f"layers (Problem.layer_inputs), not {symmetry.name!r} of {problem.name}; use 'normalized_ascent'"
            )
        if not -len(groups) <= self.hidden < len(groups):
            raise ValueError(
                f"hidden of search {self.kind!r} must be between {-len(groups)} and {len(groups) - 1}: {problem.name} has "
                f"{len(groups)} hidden layers, got {self.hidden}"
            )
        if self.scale == "rate" and problem.output_curvature is None:
            raise ValueError(
                f"search {self.kind!r} with scale 'rate' needs the curvature of the loss in the outputs, which "
                f"{problem.name} does not know (Problem.output_curvature); use scale 'trace'"
            )

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return Counts(flops=self._flops(symmetry)) + move_price(symmetry) + verify_price(symmetry, self.verify)

    def _flops(self, symmetry: Symmetry) -> float:
        """A forward pass, the layers above in one matrix, all second moments, eigenvectors, and a product of these."""
        layers = symmetry.layers
        assert layers is not None, "call check() first"
        index = self.hidden % len(layers.hidden)
        width, top = layers.hidden[index], layers.shapes[-1][0]
        examples = symmetry.examples
        # a factorization has no data: what goes into its upper factor is the lower one
        forward = sum(2.0 * rows * columns * (examples or 0) for rows, columns in layers.shapes)
        above = sum(2.0 * top * rows * columns for rows, columns in layers.shapes[index + 1 : -1])
        moments = 2.0 * width**2 * (top + (examples or layers.widths[0]))
        steep = 0.0
        higher = layers.shapes[index + 1][0] if index + 2 < layers.count else 0
        for sides in ((layers.shapes[index][1], examples or 0), (higher, top)):
            small, large = sorted(sides)
            steep += 2.0 * small**2 * large + 4.0 * small**3
        return forward + above + moments + (9.0 + 4.0) * width**3 + steep

    def propose(self, start: Start) -> Candidate:
        symmetry, problem = start.symmetry, start.evaluator.problem
        layers = symmetry.layers
        assert layers is not None, "call check() first"
        index = self.hidden % len(layers.hidden)
        start.evaluator.charge(Counts(flops=self._flops(symmetry)))
        with torch.no_grad():
            inputs = problem.layer_inputs(start.params, start.instance, start.batch)
            assert inputs is not None, "call check() first"
            below, a = inputs[index], inputs[index + 1]
            assert a is not None
            weights = [w[:, :, :k] for w, k in zip(layers.weights(start.params)[1:], layers.hidden, strict=True)]
            upper, *higher_ones = weights[index:]
            # what the layers above the pair make of its outputs, as if there were no activations
            above = reduce(lambda found, weight: product(weight, found), higher_ones) if higher_ones else None
            seen = upper if above is None else product(above, upper)
            moments, reading = product(a, a.mT), product(seen.mT, seen)
            steep = torch.ones_like(start.loss) if below is None else _largest(below)
            higher = torch.ones_like(start.loss) if above is None else _largest(above.mT)
            inverse = self.side == "inputs"
            white, filled, level = self._root(moments if inverse else reading, inverse)
            rate = start.learning_rate
            if self.scale == "rate":
                curvature = problem.output_curvature
                assert curvature is not None, "call check() first"
                if self.fit_rate:
                    shared = (filled * (reading if inverse else moments)).flatten(1).sum(1)
                    rate = self._rate(start, curvature, shared * steep * higher)
                level = 1.0 / (rate * curvature * (higher if inverse else steep))
            factor = torch.sqrt(level) if inverse else 1.0 / torch.sqrt(level)
            matrix, identity = factor[:, None, None] * white, symmetry.group.identity(len(start), a.dtype, a.device)
            parts = identity if isinstance(identity, tuple) else (identity,)
            element = symmetry.group.of_factors([matrix if at == index else part for at, part in enumerate(parts)])
        point = verified(start, move(start, at_start(start), element), self.verify)
        point.rate_factor = rate / start.learning_rate
        return point

    def _rate(self, start: Start, curvature: float, shared: Tensor) -> Tensor:
        """The rate ``(R,)`` at which the other layer moves little: its Hessian is at most ``rate curvature^2 shared``."""
        rate = self.calm / (curvature * torch.sqrt(shared.clamp_min(torch.finfo(shared.dtype).tiny)))
        # no layer was promised more than it bears now, and a run's rate has a lower end
        rate = torch.minimum(rate, start.learning_rate)
        return rate if start.lowest_rate is None else torch.maximum(rate, start.lowest_rate)

    def _root(self, moments: Tensor, inverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The square root of ``moments`` ``(R, k, k)``, or its inverse; NaN in rows that are zero or not finite.

        Beside it ``moments`` with the directions filled that nothing fills, and the mean ``(R,)`` eigenvalue of the others.
        """
        values, vectors = eigh_or_nan(moments)
        largest = values[:, -1:]
        sound = largest > torch.finfo(values.dtype).tiny ** 0.5
        full = values > self.floor * largest
        level = torch.where(full, values, 0.0).sum(1) / full.sum(1).clamp_min(1)
        values = torch.where(full, values, largest)
        roots = torch.sqrt(values)
        root = product(vectors * (1.0 / roots if inverse else roots)[:, None, :], vectors.mT)
        filled = product(vectors * values[:, None, :], vectors.mT)
        return torch.where(sound[:, :, None], root, torch.nan), filled, level


def _serves(symmetry: Symmetry) -> bool:
    """Whether the action is that of invertible matrices on the hidden units of a chain of layers."""
    groups = symmetry.group.factors
    return symmetry.layers is not None and all(group.metrics == "all" for group in groups) and not symmetry.moves_data


def _largest(h: Tensor) -> Tensor:
    """The largest eigenvalue ``(R,)`` of ``h h'``; NaN in rows that are not finite."""
    gram = product(h, h.mT) if h.shape[1] <= h.shape[2] else product(h.mT, h)
    broken = ~torch.isfinite(gram).all(2).all(1)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    largest = torch.linalg.eigvalsh(torch.where(broken[:, None, None], identity, gram))[:, -1]
    return torch.where(broken, torch.nan, largest)
