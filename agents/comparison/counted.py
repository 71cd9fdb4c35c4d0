"""The loss of one instance for solvers that are no schedules: every evaluation counted, none that the budget does not cover.

Evaluations have the ledger's prices (gradient 1, forward pass 1/3, Hessian-vector product 2), and other work that of its
floating-point operations. What the budget cannot pay for ends the run: SciPy's own ``maxfun`` is checked between iterations
only and overshoots by a line search.

Points that a solver asks for again are remembered and are not evaluated again. For Newton-CG the graph of the gradient is
kept at the last few points, so that a Hessian-vector product at one of them is one backward pass through it, which is what
its price means; at a forgotten point the gradient is evaluated, and paid for, anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teleport_env.instances import Instance
from teleport_env.ledger import FORWARD, GRADIENT, HESSIAN_VECTOR
from teleport_env.problems.base import Problem

_REMEMBERED = 4  # points; a line search rarely accepts an older one


class Finished(Exception):
    """Raised inside an objective to leave a solver: the budget is spent, the tolerance met, or the point not finite."""


@dataclass
class Point:
    """Loss and gradient ``(P,)`` at a point, and with a graph the leaf and its gradient, still attached."""

    loss: float
    gradient: NDArray[np.float64]
    weights: Tensor | None = None
    graph: Tensor | None = None


@dataclass
class Counted:
    """The loss of one instance, every evaluation counted, none made that the budget does not cover."""

    problem: Problem
    instance: Instance
    budget: float
    tolerance: float
    keep_graph: bool
    cost: float = 0.0
    gradients: int = 0
    products: int = 0
    best: float = float("inf")
    best_at: NDArray[np.float64] | None = None
    trace: list[tuple[float, float]] = field(default_factory=list)
    known: OrderedDict[bytes, Point] = field(default_factory=OrderedDict)

    @property
    def start(self) -> NDArray[np.float64]:
        """A copy of the start ``(P,)``."""
        return self.instance.start[0].numpy().copy()

    @cached_property
    def unit(self) -> float:
        """Floating-point operations of one gradient."""
        return self.problem.gradient_flops(self.instance)

    def work(self, flops: float) -> None:
        """Pay for matrix work outside evaluations."""
        self.pay(flops / self.unit)

    def pay(self, price: float) -> None:
        """Spend so many gradient evaluations, or raise `Finished`."""
        # a budget converted from another unit may miss a whole number by its last bit
        if self.cost + price > self.budget * (1 + 1e-12):
            raise Finished
        self.cost += price

    def at(self, x: NDArray[np.float64]) -> Point:
        """Loss and gradient at ``x`` ``(P,)``, paid for unless it is remembered."""
        key = x.tobytes()
        if key in self.known:
            self.known.move_to_end(key)
            return self.known[key]
        if not np.isfinite(x).all():
            raise Finished
        self.pay(GRADIENT)
        self.gradients += 1
        if self.keep_graph:
            with torch.enable_grad():
                weights = torch.tensor(x[None], dtype=torch.float64, requires_grad=True)
                loss = self.problem.loss(weights, self.instance, None)
                (graph,) = torch.autograd.grad(loss.sum(), weights, create_graph=True)
            point = Point(float(loss.detach()), graph.detach()[0].numpy().copy(), weights, graph)
        else:
            loss, gradient = self.problem.loss_and_gradient(torch.from_numpy(x[None]), self.instance, None)
            point = Point(float(loss), gradient.numpy()[0].copy())
        self.known[key] = point
        if len(self.known) > _REMEMBERED:
            self.known.popitem(last=False)
        self.seen(x, point.loss)
        return point

    def loss_at(self, x: NDArray[np.float64], price: float = FORWARD) -> float:
        """The loss at ``x`` by a forward pass, whose ``price`` is 0 where a solver knows the loss without one."""
        if not np.isfinite(x).all():
            raise Finished
        self.pay(price)
        with torch.no_grad():
            loss = float(self.problem.loss(torch.from_numpy(x)[None], self.instance, None))
        self.seen(x, loss)
        return loss

    def seen(self, x: NDArray[np.float64], loss: float) -> None:
        """Note the loss of a point; raise `Finished` where it meets the tolerance."""
        if not self.trace:
            self.trace.append((0.0, loss))
        if loss < self.best:
            self.best, self.best_at = loss, x.copy()
        self.trace.append((self.cost, self.best))
        if self.best <= self.tolerance:
            raise Finished

    def loss_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        point = self.at(x)
        return point.loss, point.gradient.copy()

    def hessian_vector(self, x: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
        point = self.at(x)
        assert point.weights is not None
        assert point.graph is not None
        self.pay(HESSIAN_VECTOR)
        self.products += 1
        if not point.graph.requires_grad:  # the loss is linear here
            return np.zeros_like(x)
        along = (point.graph * torch.from_numpy(vector)[None]).sum()
        (product,) = torch.autograd.grad(along, point.weights, retain_graph=True)
        return product[0].numpy().copy()
