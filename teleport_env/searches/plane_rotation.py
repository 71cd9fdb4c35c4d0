"""Rotations of coordinates, without a matrix.

A loss ``L = |u|^2`` in ``n`` coordinates ``u = phi(w)`` is kept by all of SO(n). One exponential there costs ``18 n^3``
operations, a hundred gradients of a loss of ten parameters, and a search needs none. Along the group the gradient of any
function ``f(u)`` is the skew matrix ``v u' - u v'`` with ``v = grad_u f``: of rank two, so that its exponential turns the
plane of ``u`` and ``v`` and leaves the rest alone. Ascent on SO(n) is therefore ascent on the sphere ``|u| = r``, and a
direction is an *angle vector*: tangent to the sphere at ``u``, as long as the angle to turn by. It is as long as the
coordinates ``xi`` of the skew matrix, and `Turning.turned` moves to the point of ``exp(xi)``, at a cost linear in
``n`` besides ``phi`` and its inverse. A uniformly random rotation likewise moves ``u`` to a uniformly random point of the
sphere. In the plane a direction is the angle itself, ``(R, 1)``.

Everything is elementwise work on a few numbers per run, and so written on arrays (`teleport_env.arrays`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from teleport_env.arrays import TINY, TORCH, Array, arrays_of, row_dots
from teleport_env.problems.base import Evaluator
from teleport_env.random import Streams
from teleport_env.symmetries.base import Sphere

if TYPE_CHECKING:
    from teleport_env.searches.fast.turns import Turns


class Turning:
    """What rotations make of ``R`` runs.

    Points in coordinates are arrays ``u`` ``(R, n)``, or ``(R, K, n)`` for ``K`` points per run; directions and angles are
    ``(R, d)`` or ``(R, K, d)``, ``d`` 1 in the plane and ``n`` in space.

    Args:
        sphere: The coordinates.
        evaluator: Evaluator that has the instances of the runs.

    Attributes:
        xp: Array library; torch where the coordinates are functions of tensors alone.
    """

    def __init__(self, sphere: Sphere, evaluator: Evaluator) -> None:
        instance = evaluator.instance
        self.xp = arrays_of(instance.start.device) if sphere.on_arrays else TORCH
        self._sphere, self._instance, self._evaluator = sphere, instance, evaluator
        self._seen = instance.seen_by(self.xp)
        self._in_plane = sphere.dimension == 2

    def coordinates(self, params: Array) -> Array:
        """``phi(w)`` ``(R, n)``."""
        return self._sphere.forward(params, self._seen)

    def back(self, u: Array) -> Array:
        """The parameters of ``u``, of the same shape."""
        if u.ndim == 2:
            return self._sphere.backward(u, self._seen)
        runs, count, size = u.shape
        repeated = self._evaluator.repeated(count).seen_by(self.xp)
        return self._sphere.backward(u.reshape(-1, size), repeated).reshape(runs, count, size)

    def turned(self, u: Array, angles: Array) -> Array:
        """``u`` turned by ``angles``; where ``angles`` has an axis ``K``, ``u`` has one of length 1 or ``K`` too."""
        xp = self.xp
        if self._in_plane:
            angle, like = xp.tensor(angles[..., 0]), xp.tensor(u)
            cosine, sine = (xp.view(function(angle).to(like.dtype)) for function in (torch.cos, torch.sin))
            first, second = u[..., 0], u[..., 1]
            out = xp.empty(u, 2, *cosine.shape, dtype=like.dtype)
            xp.subtract(cosine * first, sine * second, out=out[0])
            xp.add(sine * first, cosine * second, out=out[1])
            return out.T if out.ndim == 2 else out.swapaxes(0, 1).swapaxes(1, 2)
        tiny = TINY[u.dtype]
        angle = xp.sqrt(row_dots(xp, angles, angles))[..., None]
        radius = xp.sqrt(row_dots(xp, u, u))[..., None]
        turned = xp.cos(angle) * u + (xp.sin(angle) * radius / xp.at_least(angle, tiny)) * angles
        # What rounding left of `angles` along u would change the radius, that is, the loss.
        return turned * (radius / xp.at_least(xp.sqrt(row_dots(xp, turned, turned))[..., None], tiny))

    def direction(self, u: Array, params: Array, gradient: Array) -> Array:
        """The gradient ``(R, d)`` of ``|grad L|^2`` over the rotations, without a Hessian.

        All are ``(R, n)``: where the runs are, in both coordinates, and the loss's gradient there.
        """
        if self._sphere.slope is not None:
            return self._along(u, self._sphere.slope(params, gradient, self._seen))
        xp = self.xp
        return self._along(u, xp.view(self._slope(*map(xp.tensor, (params, gradient)))))

    def _slope(self, params: Tensor, gradient: Tensor) -> Tensor:
        """The derivative of ``|grad L|^2`` in the coordinates, but for a multiple of ``u``, from those of ``phi``.

        With ``Omega`` the skew matrix of a direction, ``-2 <grad, D X[grad]>`` (head of `teleport_env.symmetries.base`) is
        ``<v, Omega u>``, ``v = 2 (c.u / u.u) du - 2 dc``. Here ``c`` is the gradient pulled back to the coordinates. It is
        parallel to ``u`` because ``L`` depends on ``|u|`` alone. ``du`` and ``dc`` are the changes along the gradient.
        """
        sphere, instance = self._sphere, self._instance
        with torch.enable_grad():
            w = params.detach().requires_grad_(True)
            at = sphere.forward(w, instance)
            # Forward tangent by two backward passes: d phi [grad] is the derivative of <(d phi)' y, grad> in y.
            y = torch.zeros_like(at, requires_grad=True)
            (pulled,) = torch.autograd.grad(at, w, y, create_graph=True)
            (tangent,) = torch.autograd.grad((pulled * gradient).sum(), y)
            u = at.detach().requires_grad_(True)
            (c,) = torch.autograd.grad((sphere.backward(u, instance) * gradient).sum(), u, create_graph=True)
            change = torch.zeros_like(c)
            if c.requires_grad:  # else phi is affine
                (found,) = torch.autograd.grad((c * tangent).sum(), u, allow_unused=True)
                change = change if found is None else found
        u, c = u.detach(), c.detach()
        ratio = row_dots(TORCH, c, u) / row_dots(TORCH, u, u).clamp_min(TINY[u.dtype])
        return 2.0 * (ratio[:, None] * tangent - change)

    def pulled_back(self, params: Tensor, covector: Tensor) -> Tensor:
        """A covector ``(R, n)`` at ``params`` as a direction: its rate of change under rotations."""
        sphere, instance, xp = self._sphere, self._instance, self.xp
        with torch.enable_grad():
            u = sphere.forward(params.detach(), instance).detach().requires_grad_(True)
            (along,) = torch.autograd.grad((sphere.backward(u, instance) * covector).sum(), u)
        return xp.tensor(self._along(xp.view(u.detach()), xp.view(along)))

    def random(
        self,
        params: Array,
        streams: Streams,
        count: int,
        scale: float,
        begins: bool = False,
        turns: Turns | None = None,
    ) -> Array:
        """``(R, K, d)``, ``K = count`` random rotations of `Group.sample` (or with ``begins`` `sample_start`).

        In space they are those of `SO.sample`: they move ``u`` uniformly on the sphere from ``scale = 1`` on, and below it
        by a normal tangent vector of deviation ``scale`` in every direction. ``turns``: the kernels for these runs.
        """
        xp, dtype = self.xp, self.xp.tensor(params).dtype
        if self._in_plane:
            if begins:
                return xp.view(streams.uniform(0.0, math.pi * scale, (count, 1), dtype))
            bound = math.pi * min(scale, 1.0)
            return xp.view(streams.uniform(-bound, bound, (count, 1)))
        drawn = streams.normals(count, (self._sphere.dimension,), dtype)
        if scale < 1.0:
            return scale * self._tangents(params, xp.view(drawn))[0]
        found = None if turns is None else turns.tangents(drawn)
        if found is None:
            tangent, cosine, length = self._tangents(params, xp.view(drawn))
        else:
            tangent, cosine, length = map(xp.view, (drawn, *found))
        # The angle between u and a uniform direction; its cosine's last bits decide nothing, but must not leave [-1, 1].
        angle = 0.5 * math.pi - xp.arcsin(xp.at_most(xp.at_least(cosine, -1.0), 1.0))
        return tangent * (angle / xp.at_least(length, TINY[tangent.dtype]))[..., None]

    def _tangents(self, params: Array, drawn: Array) -> tuple[Array, Array, Array]:
        """Of vectors ``(R, K, n)`` what is tangent to the sphere at the runs; the cosines ``(R, K)`` of the angles to the
        vectors, and the lengths ``(R, K)`` of the tangents."""
        xp, tiny, u = self.xp, TINY[params.dtype], self.coordinates(params)[:, None, :]
        radius = xp.at_least(xp.sqrt(row_dots(xp, u, u)), tiny)
        tangent = self._tangent(u, drawn) / radius[..., None]
        cosine = row_dots(xp, u, drawn) / (radius * xp.at_least(xp.sqrt(row_dots(xp, drawn, drawn)), tiny))
        return tangent, cosine, xp.sqrt(row_dots(xp, tangent, tangent))

    def _along(self, u: Array, slope: Array) -> Array:
        """A derivative ``(R, n)`` in the coordinates as a direction."""
        if self._in_plane:
            return (u[:, 0] * slope[:, 1] - u[:, 1] * slope[:, 0])[:, None]
        return self._tangent(u, slope)

    def _tangent(self, u: Array, v: Array) -> Array:
        """``|u|`` times the part of ``v`` normal to ``u``."""
        xp = self.xp
        norm2 = row_dots(xp, u, u)
        along = row_dots(xp, u, v) / xp.at_least(norm2, TINY[u.dtype])
        return xp.sqrt(norm2)[..., None] * (v - along[..., None] * u)
