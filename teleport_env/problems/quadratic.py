"""A convex quadratic form with a prescribed spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from teleport_env.arrays import Array, library
from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS
from teleport_env.problems.analytic import AFFINE_SEARCHES, AnalyticProblem, Seen, log_uniform, positive_range
from teleport_env.problems.base import Defaults
from teleport_env.problems.compiled import compiled
from teleport_env.random import Streams
from teleport_env.reading import integer

PAPER_SEARCHES = ({"search": "closed_form"}, {"search": "normalized_ascent", "steps": 3}, {"search": "virtual_step"})
"""The menu: the steepest point of the level set is known, so nothing is left to chance."""

_KERNEL = compiled("quadratic", lambda problem, instance, batch: (instance["matrix"],))


def _drawn(normals: Tensor, eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors and matrix ``(B, n, n)`` each, from normal numbers of that shape, which are used up.

    The eigenvectors are the factor ``Q`` of a decomposition ``Q R`` for which the diagonal of ``R`` is positive. That of any
    other is not uniform on the group: Mezzadri, Notices of the AMS 54 (2007), eq. 5.12.
    """
    matrix = None if KERNELS is None else KERNELS.spectra(normals, eigenvalues)
    if matrix is not None:
        return normals, matrix.view(normals.shape)
    basis, triangle = torch.linalg.qr(normals)
    basis = basis.mul_(torch.sign(torch.diagonal(triangle, dim1=1, dim2=2))[:, None, :]).contiguous()
    return basis, _matrix(basis, eigenvalues)


def _matrix(basis: Tensor, eigenvalues: Tensor) -> Tensor:
    """The symmetric matrix with these eigenvectors (the columns) and eigenvalues."""
    matrix = torch.bmm(basis * eigenvalues[:, None, :], basis.transpose(1, 2))
    return (matrix + matrix.transpose(1, 2)).mul_(0.5)


class Quadratic(AnalyticProblem):
    """A convex quadratic form in ``n`` variables, the case for which the publication's theory is complete.

    ## Description
    ``L(w) = w' A w`` with ``A = Q diag(lambda) Q'`` positive definite; minimum 0 at the origin. On the level set ``c`` the
    gradient norm is largest at ``sqrt(c / lambda_max)`` times the steepest eigenvector (Zhao et al., NeurIPS 2022,
    Proposition C.2), with ``|grad|^2 = 4 lambda_max c``. It also is the point nearest to the minimum (Proposition 5.6).
    From there descent stays on the ray (Proposition 5.5).

    ## Symmetries
    ``"rotation"``: SO(n) turns ``phi(w) = diag(sqrt(lambda)) Q' w``, in which ``L = |phi|^2``. Exact everywhere and linear
    in the parameters: the gradient after a move is known from the one before.

    ## Starting State
    * ``"paper"``: one instance, this project's own because the publication states theorems and no experiment here. ``Q
      = 1``, eigenvalues from 1 down to one over the geometric mean of ``condition``, evenly spaced in the logarithm,
      all coordinates of the start equal to ``1 / sqrt(n)``.
    * ``"train"``, ``"validation"``, ``"test"``: condition number log-uniform in ``condition``, largest eigenvalue
      log-uniform in ``largest``. The other ones are evenly spaced in the logarithm and shifted at random by up to 0.4
      of a spacing. ``Q`` is uniform on the orthogonal group, and the start on the unit sphere.

    ## Arguments
    * ``dimension``: ``n``, 2 or more.
    * ``condition``: range ``(low, high)`` of the condition number, not below 1.
    * ``largest``: range of the largest eigenvalue; it bounds the usable learning rate.

    ## Defaults
    Gradient descent. The rate is the best constant one for plain descent within 80 evaluations on the train split. The
    tolerance is about 12 orders of magnitude below a typical initial loss.

    Raises:
        ValueError: ``dimension`` is not an integer above 1, or a range is not a positive range.
    """

    name = "Quadratic"
    turns = ("quadratic", lambda _, instance: (instance["matrix"], instance["basis"], instance["eigenvalues"]))

    def __init__(
        self,
        dimension: int = 10,
        condition: Sequence[float] = (10.0, 1e4),
        largest: Sequence[float] = (0.5, 1.0),
    ) -> None:
        self.dimension = dimension = integer("dimension", dimension, least=2)
        self.condition = positive_range("condition", condition, least=1.0)
        self.largest = positive_range("largest", largest)
        super().__init__(dimension, matrix=self.matrix)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        n = self.dimension
        spacing = torch.arange(n, dtype=torch.float64, device=generator.device).expand(count, n) / (n - 1)
        if split == "paper":
            condition = torch.full_like(spacing[:, 0], math.sqrt(self.condition[0] * self.condition[1]))
            eigenvalues = torch.exp(-spacing * torch.log(condition)[:, None])
            basis = torch.eye(n, dtype=torch.float64, device=generator.device).repeat(count, 1, 1)
            start = torch.full_like(spacing, 1.0 / math.sqrt(n))
            return Instance(start, {"matrix": _matrix(basis, eigenvalues), "basis": basis, "eigenvalues": eigenvalues})
        condition = log_uniform(generator, self.condition)
        largest = log_uniform(generator, self.largest)
        jitter = generator.uniform(-0.4, 0.4, (n,)) / (n - 1)
        jitter[:, [0, -1]] = 0.0  # both ends stay, so that the condition number is what it says
        eigenvalues = largest[:, None] * torch.exp(-(spacing + jitter) * torch.log(condition)[:, None])
        basis, matrix = _drawn(generator.normal((n, n)), eigenvalues)
        start = generator.normal((n,))
        start = start / torch.sqrt((start * start).sum(dim=1, keepdim=True))
        return Instance(start, {"matrix": matrix, "basis": basis, "eigenvalues": eigenvalues})

    @classmethod
    def _times(cls, matrix: Array, vector: Array) -> Array:
        if not isinstance(vector, Tensor):
            return cls._times(torch.from_numpy(matrix), torch.from_numpy(vector)).numpy()
        # As products and sums in one fixed memory layout: a batched matrix-vector product rounds differently at B = 1 from
        # dimension 20 on, and the order of a sum follows the layout.
        return (matrix * vector.contiguous()[:, None, :]).contiguous().sum(dim=2)

    @_KERNEL
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        params = params.contiguous()
        return (params * self._times(instance["matrix"], params)).sum(dim=1)

    @_KERNEL
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        params = params.detach().contiguous()
        half_gradient = self._times(instance["matrix"], params)
        return (params * half_gradient).sum(dim=1), half_gradient.mul_(2.0)

    def forward(self, params: Array, instance: Seen) -> Array:
        """``phi(w)`` ``(B, n)`` with ``L = |phi|^2``; coordinate ``i`` belongs to the i-th eigenvalue, steepest first."""
        root = library(params).sqrt(instance["eigenvalues"])
        return root * self._times(instance["basis"].swapaxes(1, 2), params)

    def backward(self, coordinates: Array, instance: Seen) -> Array:
        """The parameters ``(B, n)`` of ``phi``."""
        return self._times(instance["basis"], coordinates / library(coordinates).sqrt(instance["eigenvalues"]))

    def slope(self, params: Array, gradient: Array, instance: Seen) -> Array:
        return 4.0 * self.forward(gradient, instance)

    def matrix(self, instance: Instance) -> Tensor:
        """The matrix of ``phi``, ``(B, n, n)``."""
        return torch.sqrt(instance["eigenvalues"])[:, :, None] * instance["basis"].transpose(1, 2)

    def defaults(self, split: str = "train") -> Defaults:
        searches = PAPER_SEARCHES if split == "paper" else AFFINE_SEARCHES
        return Defaults(learning_rate=0.95, searches=searches, budget=80, tolerance=1e-13, group_scale=torch.pi)

    def minimum(self, instance: Instance) -> Tensor:
        return torch.zeros_like(instance.start)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        n = self.dimension
        return 2.0 * n * n + 2.0 * n  # one product with the matrix serves both
