"""Rotations in space, without a matrix.

A loss ``L = |u|^2`` in ``n`` coordinates ``u = phi(w)`` is kept by all of SO(n). One exponential there costs ``18 n^3``
operations, a hundred gradients of a loss of ten parameters, and a search needs none. Along the group the gradient of any
function ``f(u)`` is the skew matrix ``v u' - u v'`` with ``v = grad_u f``: of rank two, so that its exponential turns the
plane of ``u`` and ``v`` and leaves the rest alone. Ascent on SO(n) is therefore ascent on the sphere ``|u| = r``, and a
direction is an *angle vector*: tangent to the sphere at ``u``, as long as the angle to turn by. It is as long as the
coordinates ``xi`` of the skew matrix, and `rotate` moves to the same point as ``exp(xi)`` does, at a cost linear in ``n``
besides ``phi`` and its inverse. A uniformly random rotation likewise moves ``u`` to a uniformly random point of the
sphere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.random import Streams
from teleport_env.searches.objectives import squared_norm
from teleport_env.symmetries.base import Sphere


def rotate(sphere: Sphere, params: Tensor, angles: Tensor, instance: Instance) -> Tensor:
    """Turn ``u = phi(w)`` by ``|angles|`` towards ``angles``; `Sphere.flops`, as `angle_gradient` has.

    Args:
        params: ``(B, n)``.
        angles: Angle vectors ``(B, n)``, tangent at ``u``.
    """
    u = sphere.forward(params, instance)
    tiny = torch.finfo(u.dtype).tiny
    angle = torch.sqrt(squared_norm(angles))[:, None]
    radius = torch.sqrt(squared_norm(u))[:, None]
    turned = torch.cos(angle) * u + (torch.sin(angle) * radius / angle.clamp_min(tiny)) * angles
    # What rounding left of `angles` along u would change the radius, that is, the loss.
    turned = turned * (radius / torch.sqrt(squared_norm(turned))[:, None].clamp_min(tiny))
    return sphere.backward(turned, instance)


def angle_gradient(sphere: Sphere, params: Tensor, gradient: Tensor, instance: Instance) -> Tensor:
    """The gradient of ``|grad L|^2`` over the sphere, as an angle vector ``(B, n)``, without a Hessian.

    With ``Omega`` the skew matrix of a direction, ``-2 <grad, D X[grad]>`` (head of `teleport_env.symmetries.base`) is
    ``<v, Omega u>``, ``v = 2 (c.u / u.u) du - 2 dc``. Here ``c`` is the gradient pulled back to the coordinates, parallel to
    ``u`` because ``L`` depends on ``|u|`` alone, and ``du``, ``dc`` are the changes along the gradient.
    """
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
    ratio = (c * u).contiguous().sum(dim=1) / squared_norm(u).clamp_min(torch.finfo(u.dtype).tiny)
    return _tangent(u, 2.0 * (ratio[:, None] * tangent - change))


def pulled_back(sphere: Sphere, params: Tensor, covector: Tensor, instance: Instance) -> Tensor:
    """A covector ``(B, n)`` at ``params`` as an angle vector: its rate of change under rotations."""
    with torch.enable_grad():
        u = sphere.forward(params.detach(), instance).detach().requires_grad_(True)
        (along,) = torch.autograd.grad((sphere.backward(u, instance) * covector).sum(), u)
    return _tangent(u.detach(), along)


def random_angles(sphere: Sphere, params: Tensor, instance: Instance, streams: Streams, scale: float) -> Tensor:
    """Angle vectors ``(B, n)`` of random rotations, as `SO.sample` moves ``u``: uniform on the sphere from ``scale = 1`` on,
    below it a normal tangent vector of deviation ``scale`` in every direction."""
    u = sphere.forward(params, instance)
    drawn = streams.normal((sphere.dimension,), dtype=u.dtype)
    tiny = torch.finfo(u.dtype).tiny
    radius = torch.sqrt(squared_norm(u)).clamp_min(tiny)
    tangent = _tangent(u, drawn) / radius[:, None]
    if scale < 1.0:
        return scale * tangent
    # The angle between u and a uniform direction; its cosine's last bits decide nothing, but acos must not leave [-1, 1].
    cosine = (u * drawn).contiguous().sum(dim=1) / (radius * torch.sqrt(squared_norm(drawn)).clamp_min(tiny))
    angle = 0.5 * math.pi - torch.asin(cosine.clamp(-1.0, 1.0))
    return tangent * (angle / torch.sqrt(squared_norm(tangent)).clamp_min(tiny))[:, None]


def _tangent(u: Tensor, v: Tensor) -> Tensor:
    """``|u|`` times the part of ``v`` normal to ``u``."""
    norm2 = squared_norm(u)[:, None]
    along = (u * v).contiguous().sum(dim=1)[:, None] / norm2.clamp_min(torch.finfo(u.dtype).tiny)
    return torch.sqrt(norm2) * (v - along * u)
