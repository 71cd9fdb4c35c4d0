"""Whitening: the teleport after which a step of descent solves one layer's least squares.

A teleport is a change of metric. For a pair of layers ``a = V h``, ``z = U a`` a squared error bends along ``U`` as the
second moments of ``a`` do (its Hessian is ``a a'`` for every output), and along ``V`` as ``U'U`` and ``h h'`` together.
The action ``a -> g a``, ``U -> U g^-1`` gives either any shape: with ``g = c^(1/2) (a a')^(-1/2)`` the upper layer's Hessian
becomes ``c`` times the identity, with ``g = c^(-1/2) (U'U)^(1/2)`` the lower one's ``c h h'``. With ``c`` one over the
learning rate the next step of plain descent is Newton's step in that layer: in a factorization, teleports to either side in
turn make alternating least squares of gradient descent. This asks for no Hessian and no gradient, only for activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.groups.general_linear import GL
from teleport_env.groups.product import Product
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.moves import at_start, factors, move, move_price, verified, verify_price
from teleport_env.searches.settings import kind, require_choice, require_common, require_flags, require_positive
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.networks import Layers, product

SIDES = ("inputs", "outputs")
SCALES = ("rate", "trace")


@kind
@dataclass(frozen=True, kw_only=True)
class Whiten(Search):
    """Make one layer's Hessian a multiple of the identity; see the module.

    Attributes:
        side: ``"inputs"``: of the layer above the hidden one, whose inputs become white. ``"outputs"``: of the layer below
            it, as far as the layer above is what bends it: ``U'U`` becomes a multiple of the identity.
        hidden: Which hidden layer, 0 the lowest; negative numbers count from the top.
        scale: ``"rate"``: the next step at the run's learning rate is Newton's in that layer, for problems that know the
            curvature of their loss in the outputs (`Problem.output_curvature`); ``"trace"``: the mean eigenvalue stays
            what it is.
        fit_rate: With ``"rate"``: set the learning rate too, low enough for that step to leave the pair's other layer where
            it is; never above the rate that the run has. Without it the step is Newton's in one layer, and whatever the
            rate makes of it in the others.
        calm: How low: the step's length in the other layer, in units of its own stability, is at most the square.
        floor: Eigenvalues below this part of the largest are directions that the data do not tell apart, or units that
            nothing reads; they are moved as the largest is.
        verify: As in `GradientAscent`.
        objective: ``"any"``: it is the step to come that improves, and not the point.
    """

    kind: ClassVar[str] = "whiten"

    objective: str = "any"
    side: str = "inputs"
    hidden: int = -1
    scale: str = "rate"
    fit_rate: bool = False
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
        require_flags(self, "fit_rate", "verify")
        if self.fit_rate and self.scale != "rate":
            raise ValueError(f"fit_rate of search {self.kind!r} belongs to scale 'rate', got scale {self.scale!r}")

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        layers = getattr(symmetry, "layers", None)
        groups = factors(symmetry.group)
        if not isinstance(layers, Layers) or not all(isinstance(group, GL) for group in groups) or symmetry.moves_data:
            others = [
                repr(name)
                for name, other in problem.symmetries.items()
                if isinstance(getattr(other, "layers", None), Layers)
                and all(isinstance(group, GL) for group in factors(other.group))
                and other.keeps_loss
                and not other.moves_data
            ]
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
        """The forward pass up to the hidden layer, all second moments, eigenvectors, and a product of these."""
        layers: Layers = symmetry.layers  # type: ignore[attr-defined]
        index = self.hidden % len(layers.hidden)
        width, above = layers.hidden[index], layers.shapes[index + 1][0]
        examples = getattr(symmetry, "examples", None) or getattr(symmetry, "gradient_rank", None)
        # a factorization has no data: what goes into its upper factor is the lower one
        forward = sum(2.0 * rows * columns * (examples or 0) for rows, columns in layers.shapes[: index + 1])
        moments = 2.0 * width**2 * (above + (examples or layers.widths[0]))
        small = min(layers.shapes[index][1], examples or 0)
        return forward + moments + (9.0 + 3.0) * width**3 + 4.0 * small**3

    def propose(self, start: Start) -> Candidate:
        symmetry, problem = start.symmetry, start.evaluator.problem
        layers: Layers = symmetry.layers  # type: ignore[attr-defined]
        index = self.hidden % len(layers.hidden)
        start.evaluator.charge(Counts(flops=self._flops(symmetry)))
        with torch.no_grad():
            inputs = problem.layer_inputs(start.params, start.instance, start.batch)
            assert inputs is not None, "call check() first"
            below, a = inputs[index], inputs[index + 1]
            assert a is not None
            upper = layers.weights(start.params)[index + 1][:, :, : layers.hidden[index]]
            moments, weights = product(a, a.mT), product(upper.mT, upper)
            steep = torch.ones_like(start.loss) if below is None else _largest(below)
            white, level = self._root(moments, True) if self.side == "inputs" else self._root(weights, False)
            rate = self._rate(start, (moments * weights).flatten(1).sum(1), steep)
            if self.scale == "rate":
                assert problem.output_curvature is not None
                level = 1.0 / (rate * problem.output_curvature * (steep if self.side == "outputs" else 1.0))
            factor = torch.sqrt(level) if self.side == "inputs" else 1.0 / torch.sqrt(level)
            element = self._element(symmetry, index, factor[:, None, None] * white)
        point = move(start, at_start(start), element)
        loss = verified(start, point.loss, point.params, self.verify, point.element)
        factors_ = rate / start.learning_rate if self.fit_rate else None
        return Candidate(point.params, loss, point.gradient, element=point.element, rate_factor=factors_)

    def _rate(self, start: Start, shared: Tensor, steep: Tensor) -> Tensor:
        """The rate ``(R,)`` of the next step.

        With ``g`` as it is chosen the Hessian of the pair's other layer has eigenvalues of ``rate curvature^2 steep shared``
        at most, ``shared = tr(a a' U'U)``, at least on the diagonal of the two: the more the smaller the rate is.
        """
        if not self.fit_rate:
            return start.learning_rate
        curvature = start.evaluator.problem.output_curvature
        assert curvature is not None
        tiny = torch.finfo(shared.dtype).tiny
        rate = self.calm / (curvature * torch.sqrt((shared * steep).clamp_min(tiny)))
        # no layer was promised more than it bears now, and a run's rate has a lower end
        rate = torch.minimum(rate, start.learning_rate)
        return rate if start.lowest_rate is None else torch.maximum(rate, start.lowest_rate)

    def _root(self, moments: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """The square root of ``moments`` ``(R, k, k)``, or its inverse, and the mean eigenvalue ``(R,)``.

        Rows that are not finite are NaN.
        """
        broken = ~torch.isfinite(moments).all(2).all(1)[:, None, None]
        identity = torch.eye(moments.shape[1], dtype=moments.dtype, device=moments.device)
        values, vectors = torch.linalg.eigh(torch.where(broken, identity, moments))
        largest = values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)
        level = values.clamp_min(0.0).mean(dim=1)
        values = torch.where(values > self.floor * largest, values, largest)
        roots = torch.sqrt(values)
        root = product(vectors * (1.0 / roots if inverse else roots)[:, None, :], vectors.mT)
        return torch.where(broken, torch.nan, root), level

    @staticmethod
    def _element(symmetry: Symmetry, index: int, matrix: Tensor) -> Element:
        identity = symmetry.group.identity(len(matrix), matrix.dtype, matrix.device)
        if not isinstance(symmetry.group, Product):
            return matrix
        return tuple(matrix if place == index else part for place, part in enumerate(identity))


def _largest(h: Tensor) -> Tensor:
    """The largest eigenvalue ``(R,)`` of ``h h'``; NaN in rows that are not finite."""
    gram = product(h, h.mT) if h.shape[1] <= h.shape[2] else product(h.mT, h)
    broken = ~torch.isfinite(gram).all(2).all(1)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    largest = torch.linalg.eigvalsh(torch.where(broken[:, None, None], identity, gram))[:, -1]
    return torch.where(broken, torch.nan, largest)
