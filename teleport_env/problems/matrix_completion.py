"""Completion of a table of real measurements."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.base import Defaults
from teleport_env.problems.data import measurements, table_loader
from teleport_env.problems.factor_model import FactorModel
from teleport_env.problems.network_problem import CLOSED_FORM_MENU
from teleport_env.random import Streams, fold_in, key_of
from teleport_env.reading import integer, number
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.networks import Layers, product
from teleport_env.symmetries.pairs import LinearPairs, PermutationSymmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

FEATURES = 30


class MatrixCompletion(FactorModel):
    """Complete a table of real measurements by a matrix of low rank.

    ## Description
    ``L(U, V) = (|M o (U V' - Y)|^2 + ridge (|U|^2 + |V|^2)) / |M|^2 - floor``: the mean squared error on the observed
    entries, ``M`` being 1 there and 0 elsewhere, above the least that is known. ``Y`` ``(rows, 30)`` holds measurements of
    breast cancer patients, which are not of low rank; ``U`` ``(rows, rank)``, ``V`` ``(30, rank)``. The flat parameters are
    a two-layer chain without bias: first ``V'``, row by row, then ``U``.

    The floor is the least error that alternating least squares found from six starts. A run that reaches it has
    converged. A measurement has ``validation_loss``, the mean squared error on the hidden entries.

    ## Symmetry
    ``(U, V') -> (U g^-1, g V')`` keeps the loss for every invertible ``g``: ``general_linear`` (default), its diagonal part
    ``scaling``, and ``permutation`` of the factors. With a ridge the first two do not keep it, and ``permutation`` alone is
    offered. No element of the group changes ``U V'``, so that no teleport lowers the error by itself.

    ## Starting State
    A split has eight tables of its own, each with ``rows`` of its patients. A share ``observed`` of each patient's
    entries is observed, and every feature is shifted and scaled to mean 0 and variance 1 on these. An instance is one
    of them, with normal ``U`` and ``V`` of deviation ``scale``, then imbalanced. Factor ``i`` of ``V`` is multiplied by
    ``exp(z_i)`` and that of ``U`` divided by it, ``z_i`` normal with deviation ``imbalance``. A patient belongs to one
    split; ``"paper"`` draws from all (the publication has no such experiment).

    ## Arguments
    * ``rows``, ``rank``: the sizes.
    * ``observed``: share of each row's entries that is observed.
    * ``ridge``: penalty on the factors.
    * ``scale``, ``imbalance``: of the start, see above.

    ## Defaults
    Gradient descent within 100 evaluations. The rate is the best constant one of eight tried on 128 instances of the
    train split. At most two of them diverge at it.
    """

    name = "MatrixCompletion"
    sets = 8

    def __init__(
        self,
        rows: int = 30,
        rank: int = 3,
        observed: float = 0.6,
        ridge: float = 0.0,
        scale: float = 0.5,
        imbalance: float = 0.5,
    ) -> None:
        self.rows = rows = integer("rows (at most the patients of a split)", rows, least=2, most=189)
        self.rank = integer("rank (at most rows and features)", rank, least=1, most=min(rows, FEATURES))
        self.observed = number("observed, a share", observed, above=0, most=1)
        if round(self.observed * FEATURES) < rank:
            raise ValueError(
                f"observed {observed} leaves {round(self.observed * FEATURES)} entries per row, which do not determine "
                f"{rank} factors: observe more, or lower rank"
            )
        self.ridge = number("ridge", ridge, least=0)
        self.scale, self.imbalance = number("scale", scale, above=0), number("imbalance", imbalance, least=0)
        self.layers = Layers((FEATURES, rank, rows), bias=False)
        super().__init__(rows, rank, observed, ridge, scale, imbalance)

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Invertible maps between the factors, their scalings and permutations; with a ridge, permutations alone."""
        permutation = PermutationSymmetry(self.layers, activated=False)
        if self.ridge > 0:
            return {"permutation": permutation}
        return {
            "general_linear": LinearPairs(self.layers),
            "scaling": ScalingSymmetry(self.layers),
            "permutation": permutation,
        }

    def defaults(self, split: str = "train") -> Defaults:
        first = next(iter(self.symmetries))
        searches = self.searches_for(first, split)
        return Defaults(learning_rate=14.0, searches=searches, symmetry=first, budget=100.0, tolerance=1e-8)

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        return super().searches_for(symmetry, split) if symmetry == "permutation" else CLOSED_FORM_MENU

    def check_data(self) -> None:
        table_loader("breast_cancer")

    def data_sets(self, split: str) -> dict[str, Tensor]:
        pool = measurements("breast_cancer").pool(split, self.name).values
        keys = fold_in(torch.arange(self.sets, device="cpu"), key_of(f"{self.name}/{split}/tables"))
        streams = Streams(keys)
        rows = self.layers.widths[2]
        table = pool[streams.permutation(len(pool))[:, :rows]]
        places = torch.argsort(streams.bits((rows, FEATURES)), dim=2, stable=True)
        observed = (places < round(self.observed * FEATURES)).to(torch.float64)
        count = observed.sum(dim=1, keepdim=True).clamp_min(1.0)
        mean = (observed * table).sum(dim=1, keepdim=True) / count
        deviation = ((observed * (table - mean).square()).sum(dim=1, keepdim=True) / count).sqrt()
        return {"target": (table - mean) / deviation, "observed": observed}

    def starts(self, generator: Streams) -> Tensor:
        lower, upper = self.layers.weights(generator.normal((self.layers.num_params,)) * self.scale)
        factor = torch.exp(self.imbalance * generator.normal((self.rank,)))
        return self.layers.flatten([lower * factor[:, :, None], upper / factor[:, None, :]])

    def _residual(self, params: Tensor, instance: Instance) -> tuple[Tensor, Tensor, Tensor]:
        lower, upper = self.layers.weights(params)
        return lower, upper, instance["observed"] * (product(upper, lower) - instance["target"])

    def _mean(self, residual: Tensor, params: Tensor) -> Tensor:
        total = residual.square().flatten(1).sum(dim=1)
        if self.ridge > 0:
            total = total + self.ridge * params.contiguous().square().sum(dim=1)
        return total / self.num_observed

    @property
    def num_observed(self) -> int:
        """Number of observed entries."""
        return self.layers.widths[2] * round(self.observed * FEATURES)

    def error(self, params: Tensor, instance: Instance) -> Tensor:
        return self._mean(self._residual(params, instance)[2], params)

    def error_and_gradient(self, params: Tensor, instance: Instance) -> tuple[Tensor, Tensor]:
        """With ``R = M o (U V' - Y)``: ``dL/dV' = 2 U'R / |M|^2`` and ``dL/dU = 2 R V / |M|^2``, and the ridge's part."""
        lower, upper, residual = self._residual(params, instance)
        scaled = residual * (2.0 / self.num_observed)
        gradient = [product(upper.transpose(1, 2), scaled), product(scaled, lower.transpose(1, 2))]
        flat = self.layers.flatten(gradient)
        if self.ridge > 0:
            flat = flat + params * (2.0 * self.ridge / self.num_observed)
        return self._mean(residual, params), flat

    def factor_arguments(self, instance: Instance) -> tuple[Any, ...] | None:
        if self.ridge > 0 or not self._has_parts_of(MatrixCompletion):
            return None
        return instance["target"], instance["floor"], instance["observed"], self.rank, 0, 1.0 / self.num_observed

    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        """``loss``, and ``validation_loss``, the mean squared error on the hidden entries where there are any."""
        found = super().evaluate(params, instance)
        hidden = 1.0 - instance["observed"]
        count = hidden.flatten(1).sum(dim=1)
        if bool((count > 0).all()):
            lower, upper = self.layers.weights(params)
            wrong = (hidden * (product(upper, lower) - instance["target"])).square().flatten(1).sum(dim=1)
            found["validation_loss"] = wrong / count
        return found

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """Three products of the sizes of ``U V'``, a multiplication and an addition each."""
        features, rank, rows = self.layers.widths
        return 6.0 * rows * rank * features

    # -- least squares -------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> int:
        """``V'``, then ``U``."""
        return 2

    def block_minimum(self, block: int, params: Tensor, instance: Instance) -> Tensor:
        """Every column of ``V'``, or row of ``U``, by its own normal equations, on the entries observed of it."""
        lower, upper = self.layers.weights(params)
        observed, target = instance["observed"], instance["observed"] * instance["target"]
        if block == 0:
            observed, target, held = observed.transpose(1, 2), target.transpose(1, 2), upper
        else:
            held = lower.transpose(1, 2)
        outer = (held[:, :, :, None] * held[:, :, None, :]).flatten(2)
        rank = self.rank
        normal = product(observed, outer).view(len(params), -1, rank, rank)
        if self.ridge > 0:
            normal = normal + self.ridge * torch.eye(rank, dtype=params.dtype, device=params.device)
        solved = torch.linalg.solve_ex(normal, product(target, held)[:, :, :, None])[0][:, :, :, 0]
        return self.layers.flatten([solved.transpose(1, 2), upper] if block == 0 else [lower, solved])

    def block_flops(self, block: int, instance: Instance) -> float:
        """Normal equations ``rank^2`` per observed entry and factor pair, and one factorization per column or row."""
        features, rank, rows = self.layers.widths
        solved = features if block == 0 else rows
        return 2.0 * self.num_observed * (rank * (rank + 1) / 2 + rank) + solved * (rank**3 / 3.0 + 2.0 * rank**2)
