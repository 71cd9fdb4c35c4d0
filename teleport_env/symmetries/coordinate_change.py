"""Rotations in the coordinates in which a loss is the squared distance from the origin.

Where ``L(w) = |phi(w)|^2`` for a bijection ``phi``, level sets are spheres in ``u = phi(w)``, and every rotation ``R``
gives a symmetry ``g.w = phi^-1(R phi(w))`` (Zhao et al., NeurIPS 2022: the ellipse, Rosenbrock's and Booth's function).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from teleport_env.groups import SO, SO2, Group
from teleport_env.groups.base import Element, single
from teleport_env.instances import Batch, Instance
from teleport_env.symmetries.base import Coordinates, Slope, Sphere, Symmetry
from teleport_env.symmetries.networks import product

Matrix = Callable[[Instance], Tensor]


class CoordinateChange(Symmetry):
    """``g.w = phi^-1(R phi(w))`` for a loss ``L(w) = |phi(w)|^2``.

    Where ``phi`` is affine, ``u = A w + c``, the action is affine too and its Jacobian is ``J = A^-1 R A``. The gradient
    after a move and the best rotation of all are then closed forms.

    Flops, for ``n > 2``: a move takes ``2 n^2`` for ``R u``, and with ``matrix`` another ``4 n^2`` for ``A w`` and
    ``A^-1 u``, where ``A^-1`` (or a factorization) is taken as kept by the problem. `gradient_after` factorizes ``A`` and
    takes ``2/3 n^3 + 6 n^2``. In the plane all of it is a dozen operations, which are free.

    Args:
        forward: ``phi``: ``(params (B, n), instance) -> u (B, n)``.
        backward: ``phi^-1``: ``(u (B, n), instance) -> params (B, n)``.
        dimension: ``n``, at least 2.
        name: Name by which ``symmetry=`` chooses it.
        matrix: ``instance -> A`` ``(B, n, n)`` where ``phi`` is affine; else None.
        group: The rotations; by default SO(2) in the plane and SO(n) in space.
        slope: Derivative of ``|grad L|^2`` in the coordinates, as in `Sphere`.
        on_arrays: Whether the three functions also take the arrays of `teleport_env.arrays`, as in `Sphere`.

    Raises:
        ValueError: The dimension is below 2.
    """

    changes_coordinates = True
    # Carrying solves with phi's matrix, which takes as much as evaluating the gradient in the plane, and a factorization
    # more in space. A move by a rotation costs one gradient, always.
    carries = False
    exact_when = "Always: the loss is the squared distance from the origin in the rotated coordinates."

    _own_act = _own_optimum = False

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls._own_act = cls._own_act or "act" in vars(cls)  # which searches on the sphere would pass by
        cls._own_optimum = cls._own_optimum or "optimal_element" in vars(cls)

    def __init__(
        self,
        forward: Coordinates,
        backward: Coordinates,
        dimension: int,
        *,
        name: str = "rotation",
        matrix: Matrix | None = None,
        group: Group | None = None,
        slope: Slope | None = None,
        on_arrays: bool = False,
    ) -> None:
        if dimension < 2:
            raise ValueError(f"dimension must be at least 2 for rotations to exist, got {dimension}")
        self.name = name
        usual: Group = SO2() if dimension == 2 else SO(dimension)
        self.group = usual if group is None else group
        self.forward = forward
        self.backward = backward
        self.dimension = dimension
        self.matrix = matrix
        self.linear = matrix is not None
        if dimension > 2:
            self.move_flops = (6.0 if self.linear else 2.0) * dimension**2
            self.gradient_flops = 2.0 / 3.0 * dimension**3 + 6.0 * dimension**2 if self.linear else 0.0
        if self.group == usual and not self._own_act:
            flops = self.move_flops - 2.0 * dimension**2 if dimension > 2 else 0.0
            affine = self.linear and not self._own_optimum
            self.sphere = Sphere(forward, backward, dimension, flops, slope, on_arrays, affine)
        if self.linear:
            self.optima = ("gradient_norm", "balance_gradient")
            # ``A A'``, its eigenvectors, a product of reflections; free in the plane
            self.optimum_flops = (2.0 + 9.0 + 2.0) * dimension**3 if dimension > 2 else 0.0

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        rotated = product(single(self.group.as_matrices(g)), self.forward(params, instance)[:, :, None])
        return self.backward(rotated[:, :, 0], instance)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        """``J^-T grad = A' R A^-T grad`` ``(B, n)``, where ``phi`` is affine.

        Raises:
            NotImplementedError: ``phi`` is not affine.
        """
        if self.matrix is None:
            return super().gradient_after(g, gradient, instance)
        matrix = self.matrix(instance)
        # Through the transposed solve rather than A^-1, so that an ill-conditioned A costs accuracy once.
        pulled = torch.linalg.solve_ex(matrix.mT, gradient[:, :, None])[0]
        return product(matrix.mT, product(single(self.group.as_matrices(g)), pulled))[:, :, 0]

    def optimal_element(self, objective: str, params: Tensor, instance: Instance) -> Tensor:
        """The rotation ``(B, n, n)`` to the largest gradient norm, or for ``"balance_gradient"`` to the smallest.

        On the sphere ``|u| = r`` the squared gradient norm is ``|2 A'u|^2``, extremal at ``u = +-r e`` with ``e`` the top
        (bottom) left singular vector of ``A``. Of the two the nearer one is taken; a run at the minimum stays.

        Raises:
            NotImplementedError: ``phi`` is not affine: the extremal point has no closed form.
        """
        if self.matrix is None:
            return single(super().optimal_element(objective, params, instance))
        with torch.no_grad():
            matrix = self.matrix(instance)
            broken = ~torch.isfinite(matrix).all(2).all(1)
            # eigh raises for all rows where one is not finite
            sound = torch.where(
                broken[:, None, None], torch.eye(self.dimension, dtype=matrix.dtype, device=matrix.device), matrix
            )
            axes = torch.linalg.eigh(product(sound, sound.mT)).eigenvectors
            axis = axes[:, :, -1 if objective == "gradient_norm" else 0]
            axis = torch.where(broken[:, None], torch.full_like(axis, torch.nan), axis)
            return rotation_between(self.forward(params, instance), axis)


def rotation_between(u: Tensor, axis: Tensor) -> Tensor:
    """The rotation ``(B, n, n)`` in the plane of ``u`` and ``axis`` that carries ``u`` to the nearer of ``+-|u| axis``.

    Two reflections, first in the hyperplane normal to ``a + b`` and then in that normal to ``b``, with ``a = u / |u|`` and
    ``b`` the nearer of ``+-axis``: the determinant is +1 and no angle is computed. Since ``a . b >= 0``, ``a + b`` is
    never short. Vectors that are aligned or opposite already give the identity, and so does ``u = 0``.

    Args:
        u: ``(B, n)``.
        axis: ``(B, n)`` of unit length.
    """
    length = u.square().sum(1, keepdim=True).sqrt()
    still = length == 0
    a = torch.where(still, axis, u / torch.where(still, torch.ones_like(length), length))
    b = torch.where((a * axis).sum(1, keepdim=True) < 0, -axis, axis)
    return product(_reflection(b), _reflection(a + b))


def _reflection(normal: Tensor) -> Tensor:
    """``1 - 2 v v' / |v|^2`` ``(B, n, n)`` for ``v`` ``(B, n)``."""
    outer = normal[:, :, None] * normal[:, None, :]
    identity = torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device)
    return identity - 2.0 * outer / normal.square().sum(1)[:, None, None]
