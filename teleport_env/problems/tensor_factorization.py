"""The canonical polyadic decomposition of real tensors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.problems.base import SPLITS, Defaults
from teleport_env.problems.data import check_digits, digits
from teleport_env.problems.factor_model import FactorModel
from teleport_env.problems.network_problem import CLOSED_FORM_MENU
from teleport_env.random import Streams, key_of
from teleport_env.reading import integer, number
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coupled import CoupledPermutation, CoupledScaling, Coupling
from teleport_env.symmetries.networks import product

SIDE = 8
CLASSES = 10


class TensorFactorization(FactorModel):
    """Decompose a stack of handwritten digits into a sum of few rank-one tensors (CP, or PARAFAC).

    ## Description
    ``L(A, B, C) = |X - sum_r a_r o b_r o c_r|^2 / |X|^2 - floor``: the relative squared error above the least that is known.
    ``X`` ``(images, 8, 8)`` is a stack of images from scikit-learn's digits, which is not of low rank; ``A``
    ``(rank, images)``, ``B`` ``(rank, 8)`` and ``C`` ``(rank, 8)`` hold the factors, row by row in the flat parameters.

    The floor is the least error that alternating least squares found from six starts. A run that reaches it has
    converged. Alternating least squares crawls through swamps on such data (Comon, Luciani and de Almeida, "Tensor
    decompositions, alternating least squares and other tales", Journal of Chemometrics 23, 2009).

    ## Symmetry
    ``scaling`` (default): ``(a_r, b_r, c_r) -> (s a_r, t b_r / s, c_r / t)`` for positive ``s`` and ``t``, and
    ``permutation`` of the terms. Neither changes the sum, so that no teleport lowers the error by itself.

    ## Starting State
    A split has eight stacks of its own. Each holds ``images`` digits of one class, which differs from stack to stack; no
    image belongs to two splits, but ``"paper"`` draws from all (the publication has no such experiment). An instance is one
    of them, with normal factors scaled so that the model is about as large as ``X``, then imbalanced. ``s`` and ``t``
    of each term are ``exp(z)``, ``z`` normal with deviation ``imbalance``.

    ## Arguments
    * ``images``, ``rank``: the sizes.
    * ``imbalance``: of the start, see above.

    ## Defaults
    Gradient descent within 150 evaluations; the rate is the best constant one of six tried on 128 instances of the train
    split.

    Needs scikit-learn (``pip install teleport-env[compare]``), at the first instance and not before.
    """

    name = "TensorFactorization"
    sets = 8

    def __init__(self, images: int = 20, rank: int = 3, imbalance: float = 0.5) -> None:
        self.images = integer("images (at most those of a class in a split)", images, least=2, most=50)
        self.rank = integer("rank", rank, least=1, most=SIDE * SIDE)
        self.imbalance = number("imbalance", imbalance, least=0)
        self._sizes = [self.rank * length for length in (images, SIDE, SIDE)]
        super().__init__(images, rank, imbalance)

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Scalings between the three factors, and permutations of the terms."""
        place = torch.arange(sum(self._sizes), device="cpu")
        first, second, third = (part.view(self.rank, -1) for part in place.split(self._sizes))
        pairs = [Coupling(first, second.T.contiguous(), "A B"), Coupling(second, third.T.contiguous(), "B C")]
        terms = Coupling(torch.cat([first, second], dim=1), third.T.contiguous(), "terms")
        return {"scaling": CoupledScaling(pairs), "permutation": CoupledPermutation([terms])}

    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(learning_rate=0.17, searches=CLOSED_FORM_MENU, symmetry="scaling", budget=150.0, tolerance=1e-8)

    def searches_for(self, symmetry: str, split: str = "train") -> tuple[Any, ...]:
        return CLOSED_FORM_MENU if symmetry == "scaling" else super().searches_for(symmetry, split)

    def check_data(self) -> None:
        check_digits()

    def data_sets(self, split: str) -> dict[str, Tensor]:
        pool = digits()
        order = Streams(torch.tensor([key_of(f"{self.name}/images")], device="cpu")).permutation(len(pool))[0]
        if split != "paper":
            third = len(pool) // 3
            start = (SPLITS.index(split) - 1) * third
            order = order[start : start + third]
        key = torch.tensor([key_of(f"{self.name}/{split}/classes")], device="cpu")
        chosen = Streams(key).permutation(CLASSES)[0, : self.sets]
        labels = pool.labels[order]
        rows = torch.stack([order[labels == label][: self.images] for label in chosen])
        stack = pool.images[rows]  # (sets, images, 64)
        return {"target": stack / stack.flatten(1).norm(dim=1)[:, None, None]}

    def starts(self, generator: Streams) -> Tensor:
        first, second, third = self._factors(generator.normal((sum(self._sizes),)))
        spread = torch.exp(self.imbalance * generator.normal((2, self.rank)))
        s, t = spread[:, 0, :, None], spread[:, 1, :, None]
        size = (self.rank * self.images * SIDE * SIDE) ** (-1.0 / 6.0)
        return torch.cat([(part * size).flatten(1) for part in (first * s, second * t / s, third / t)], dim=1)

    def _factors(self, params: Tensor) -> list[Tensor]:
        """``A``, ``B`` and ``C``, one row per term, views ``(B, rank, length)``."""
        return [part.view(params.shape[0], self.rank, -1) for part in params.split(self._sizes, dim=1)]

    def _residual(self, params: Tensor, instance: Instance) -> tuple[list[Tensor], Tensor, Tensor]:
        """The factors, the products ``b_r o c_r`` ``(B, rank, 64)`` and model minus data ``(B, images, 64)``."""
        first, second, third = factors = self._factors(params)
        pages = _outer(second, third)
        return factors, pages, product(first.transpose(1, 2), pages) - instance["target"]

    def error(self, params: Tensor, instance: Instance) -> Tensor:
        return self._residual(params, instance)[2].square().flatten(1).sum(dim=1)

    def error_and_gradient(self, params: Tensor, instance: Instance) -> tuple[Tensor, Tensor]:
        """With ``R`` the model minus the data: ``2 <R, b_r o c_r>`` for ``a_r``, and so on."""
        (first, second, third), pages, residual = self._residual(params, instance)
        twice = 2.0 * residual
        back = product(first, twice).view(params.shape[0], self.rank, SIDE, SIDE)  # <R, a_r>
        parts = [
            product(pages, twice.transpose(1, 2)),
            (back * third[:, :, None, :]).sum(dim=3),
            (back * second[:, :, :, None]).sum(dim=2),
        ]
        return residual.square().flatten(1).sum(dim=1), torch.cat([part.flatten(1) for part in parts], dim=1)

    def factor_arguments(self, instance: Instance) -> tuple[Any, ...] | None:
        if not self._has_parts_of(TensorFactorization):
            return None
        return instance["target"], instance["floor"], None, self.rank, SIDE, 1.0

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        """Three products of the size of the model, a multiplication and an addition each, and the work on the pages."""
        pages = self.rank * SIDE * SIDE
        return 6.0 * self.images * pages + 5.0 * pages

    # -- least squares -------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> int:
        """``A``, ``B``, then ``C``."""
        return 3

    def block_minimum(self, block: int, params: Tensor, instance: Instance) -> Tensor:
        """One factor by the normal equations, whose matrix is the elementwise product of the Gram matrices of the others."""
        factors = self._factors(params)
        data = instance["target"].view(-1, self.images, SIDE, SIDE)
        one, other = (factors[index] for index in range(3) if index != block)
        order = [axis + 1 for axis in range(3) if axis != block]
        unfolded = data.permute(0, 1 + block, *order).flatten(2)
        gram = product(one, one.transpose(1, 2)) * product(other, other.transpose(1, 2))
        right = product(_outer(one, other), unfolded.transpose(1, 2))
        solved = torch.linalg.solve_ex(gram, right)[0]
        return torch.cat([(solved if index == block else part).flatten(1) for index, part in enumerate(factors)], dim=1)

    def block_flops(self, block: int, instance: Instance) -> float:
        """The product of the data with the pairs of factors, two Gram matrices, one factorization."""
        lengths, rank = (self.images, SIDE, SIDE), self.rank
        others = [length for index, length in enumerate(lengths) if index != block]
        data = 2.0 * self.images * SIDE * SIDE * rank
        return (
            data
            + sum(2.0 * rank**2 * length for length in others)
            + 2.0 / 3.0 * rank**3
            + 2.0 * rank**2 * lengths[block]
        )


def _outer(one: Tensor, other: Tensor) -> Tensor:
    """The flattened outer products of the rows, ``(B, rank, length * length)``."""
    return (one[:, :, :, None] * other[:, :, None, :]).flatten(2)
