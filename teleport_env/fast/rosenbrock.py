"""The gradient norms of Rosenbrock's function along the circle of its symmetry."""

from __future__ import annotations

import torch
from torch import Tensor

from teleport_env.arrays import Array, Arrays, arrays_of
from teleport_env.instances import Instance
from teleport_env.problems.base import Problem
from teleport_env.problems.rosenbrock import Rosenbrock
from teleport_env.symmetries.base import Symmetry


def serves(problem: Problem) -> bool:
    """Whether what is written here stands for the problem's own loss and gradient.

    Not where a subclass, or somebody who watches, may have replaced them.
    """
    return type(problem) is Rosenbrock and not {"loss", "loss_and_gradient"} & vars(problem).keys()


# -- the circle --------------------------------------------------------------------------------------------------------

_CHUNK = 64  # runs whose circles are worked through together: a few such arrays fit into the nearest cache


def knows_norms(problem: Problem, symmetry: Symmetry) -> bool:
    """Whether `norms_on_circle` gives the gradient norms along the orbit of that symmetry, and nobody watches gradients."""
    return serves(problem) and problem.symmetries.get(symmetry.name) is symmetry


def norms_on_circle(problem: Problem, params: Tensor, instance: Instance, circle: Tensor) -> Tensor:
    """Squared gradient norms ``(R, K)`` of runs at ``params`` ``(R, 2)``, over 4; -inf where they are not finite.

    ``circle`` holds the rotations ``(K, 2, 2)``, the same for every run; ``problem`` is one that `knows_norms`.
    """
    assert isinstance(problem, Rosenbrock)
    coordinates = problem.forward(params, instance)
    xp = arrays_of(coordinates.device)
    runs, points = len(coordinates), len(circle)
    found = xp.empty(xp.view(circle), runs, points, dtype=coordinates.dtype)
    (a, b), (c, d) = (tuple(xp.view(circle[:, i, j].contiguous()) for j in (0, 1)) for i in (0, 1))
    u, v = (xp.view(part.contiguous())[:, None] for part in coordinates.unbind(1))
    curvature = xp.view(instance["curvature"])[:, None]
    chunk = min(_CHUNK, runs)
    memory = xp.empty(found, 3, chunk, points, dtype=coordinates.dtype)
    with xp.quiet():
        for low in range(0, runs, chunk):
            rows = slice(low, min(low + chunk, runs))
            first, second, spare = memory[:, : rows.stop - low]
            xp.multiply(u[rows], a, out=first)
            xp.multiply(v[rows], b, out=spare)
            xp.add(first, spare, out=first)
            xp.multiply(u[rows], c, out=second)
            xp.multiply(v[rows], d, out=spare)
            xp.add(second, spare, out=second)
            write_squared_norms(xp, first, second, curvature[rows], found[rows], spare)
    scores = xp.tensor(found)
    # a sum is finite only if all its terms are
    return scores if bool(torch.isfinite(scores.sum())) else torch.where(torch.isfinite(scores), scores, -torch.inf)


def write_squared_norms(xp: Arrays, u: Array, v: Array, curvature: Array, out: Array, spare: Array) -> None:
    """A quarter of the squared gradient norm at coordinates ``(u, v)``: ``(2 sqrt(b) x u + v)^2 + b u^2``, ``x = v + 1``.

    All are ``(R, K)``, ``K`` points per run, but ``curvature``, ``b`` ``(R, 1)``; ``out`` and ``spare`` are overwritten.
    """
    double_root = 2.0 * xp.sqrt(curvature)
    xp.add(v, 1.0, out=spare)
    xp.multiply(spare, double_root, out=spare)
    xp.multiply(spare, u, out=spare)
    xp.add(spare, v, out=spare)
    xp.multiply(spare, spare, out=spare)
    xp.multiply(u, u, out=out)
    xp.multiply(out, curvature, out=out)
    xp.add(out, spare, out=out)
