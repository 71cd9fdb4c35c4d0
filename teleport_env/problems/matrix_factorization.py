"""Low-rank matrix factorization."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Defaults, Problem
from teleport_env.problems.compiled import compiled, packed
from teleport_env.problems.network_problem import CLOSED_FORM_MENU
from teleport_env.random import Streams
from teleport_env.reading import integer, number
from teleport_env.symmetries.activations import Identity
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.hidden_units import times_pseudo_inverse
from teleport_env.symmetries.networks import Layers, product
from teleport_env.symmetries.pairs import LinearPairs, PermutationSymmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

_KERNEL = compiled("network", lambda problem, instance, batch: problem.network_arguments(instance, batch))


class MatrixFactorization(Problem):
    """Factor a matrix of no higher rank than the factors.

    ## Description
    ``L(U, V) = |Y - U V'|^2`` (squared Frobenius norm) with ``Y`` ``(rows, columns)``, ``U`` ``(rows, rank)``, ``V``
    ``(columns, rank)``. The minimum is 0. The flat parameters are a two-layer chain without bias: first ``V'``, row by
    row, then ``U``.

    ## Symmetry
    ``(U, V') -> (U g^-1, g V')`` keeps the loss for every invertible ``g`` and all data: ``general_linear`` (default), its
    diagonal part ``scaling``, and ``permutation`` of the factors. Gradient flow keeps ``U'U - V'V``; a teleport
    changes it, and with it the speed.

    ## Starting State
    ``Y = A B' / sqrt(rank)`` with standard normal ``A`` and ``B``. ``U`` and ``V`` are standard normal times
    ``rank^(-1/4)``, then imbalanced: factor ``i`` of ``V`` is multiplied by ``exp(z_i)`` and that of ``U`` divided by
    it, ``z_i`` normal with deviation ``imbalance``. Every split draws alike, from streams of its own (the publication has
    no such experiment).

    ## Arguments
    * ``rows``, ``columns``, ``rank``: the sizes. A rank above the smaller of rows and columns over-parametrises the problem,
      whose target then has full rank.
    * ``imbalance``: see above; 0 starts with factors of equal size.
    """

    name = "MatrixFactorization"

    def __init__(self, rows: int = 6, columns: int = 5, rank: int = 3, imbalance: float = 0.3) -> None:
        rows, columns = integer("rows", rows, least=1), integer("columns", columns, least=1)
        rank = integer("rank", rank, least=1)
        self.rows, self.columns, self.rank = rows, columns, rank
        self.layers = Layers((columns, rank, rows), bias=False)
        self.imbalance = number("imbalance", imbalance, least=0)

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Invertible maps between the factors, their scalings and permutations."""
        return {
            "general_linear": LinearPairs(self.layers),
            "scaling": ScalingSymmetry(self.layers),
            "permutation": PermutationSymmetry(self.layers, activated=False),
        }

    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(learning_rate=0.075, searches=CLOSED_FORM_MENU, symmetry="general_linear", budget=60.0)

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        return super().searches_for(symmetry, split) if symmetry == "permutation" else CLOSED_FORM_MENU

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        columns, rank, rows = self.layers.widths
        left, right = generator.normal((rows, rank)), generator.normal((rank, columns))
        start = self.layers.weights(generator.normal((self.layers.num_params,)) * rank**-0.25)
        factor = torch.exp(self.imbalance * generator.normal((rank,)))
        lower, upper = start[0] * factor[:, :, None], start[1] / factor[:, None, :]
        return Instance(self.layers.flatten([lower, upper]), {"target": product(left, right) * rank**-0.5})

    def network_arguments(self, instance: Instance, batch: Batch = None) -> tuple[Any, ...] | None:
        """For the kernel this is a network without activations that the identity goes into."""
        return None if self._packed is None else (self._packed, None, instance["target"])

    @cached_property
    def _packed(self) -> bytes | None:
        return packed(self.layers, Identity(), self.output_curvature)

    def _residual(self, params: Tensor, instance: Instance) -> tuple[Tensor, Tensor, Tensor]:
        lower, upper = self.layers.weights(params)
        return lower, upper, product(upper, lower) - instance["target"]

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self._residual(params, instance)[2].square().flatten(1).sum(dim=1)

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        """With ``R = U V' - Y``: ``dL/dV' = 2 U'R`` and ``dL/dU = 2 R V``."""
        with torch.no_grad():
            lower, upper, residual = self._residual(params, instance)
            twice = 2.0 * residual
            gradient = [product(upper.transpose(1, 2), twice), product(twice, lower.transpose(1, 2))]
            return residual.square().flatten(1).sum(dim=1), self.layers.flatten(gradient)

    @property
    def output_curvature(self) -> float:
        """Of a square."""
        return 2.0

    def layer_inputs(self, params: Tensor, instance: Instance, batch: Batch = None) -> list[Tensor | None]:
        """The identity goes into ``V'``, and ``V'`` into ``U``."""
        return [None, self.layers.weights(params)[0]]

    def minimum(self, instance: Instance) -> Tensor:
        """The truncated singular value decomposition (Eckart and Young, "The approximation of one matrix by another of lower
        rank", Psychometrika 1, 1936), shared evenly between the factors."""
        target = instance["target"]
        broken = ~torch.isfinite(target).all(2).all(1)[:, None, None]  # one such row would raise for all
        u, s, vh = torch.linalg.svd(torch.where(broken, torch.zeros_like(target), target), full_matrices=False)
        rank = self.layers.widths[1]
        root, spare = s[:, :rank].sqrt(), max(0, rank - s.shape[1])
        lower, upper = root[:, :, None] * vh[:, :rank], u[:, :, :rank] * root[:, None, :]
        pad = torch.nn.functional.pad  # factors beyond the rank of the target are 0
        return self.layers.flatten([pad(lower, (0, 0, 0, spare)), pad(upper, (0, spare))])

    def minimum_flops(self, instance: Instance) -> float:
        """Of a singular value decomposition (Golub and Van Loan, *Matrix Computations*, 4th edition, figure 8.6.1)."""
        few, many = sorted((self.layers.widths[0], self.layers.widths[2]))
        return 6.0 * many * few**2 + 20.0 * few**3

    @property
    def blocks(self) -> int:
        """``V'``, then ``U``."""
        return 2

    def block_minimum(self, block: int, params: Tensor, instance: Instance) -> Tensor:
        """``V' = U^+ Y``, or ``U = Y V'^+``."""
        lower, upper = self.layers.weights(params)
        target = instance["target"]
        if block == 0:
            lower = times_pseudo_inverse(target.transpose(1, 2), upper.transpose(1, 2)).transpose(1, 2)
        else:
            upper = times_pseudo_inverse(target, lower)
        return self.layers.flatten([lower, upper])

    def block_flops(self, block: int, instance: Instance) -> float:
        """An orthogonal factorization of the factor that is held, and two products with it."""
        columns, rank, rows = self.layers.widths
        held, solved = (rows, columns) if block == 0 else (columns, rows)
        return 4.0 * held * rank**2 + 4.0 * solved * rank * held

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """Three products of the sizes of ``U V'``, a multiplication and an addition each."""
        columns, rank, rows = self.layers.widths
        return 6.0 * rows * rank * columns
