"""What a user would take instead of any schedule of gradient descent: SciPy's quasi-Newton and Newton methods.

They play an instance on the same ledger as everyone else. Every evaluation is counted where it happens, at the ledger's
prices (gradient 1, Hessian-vector product 2), and the next one that the budget cannot pay for ends the run: SciPy's own
``maxfun`` is checked between iterations only and overshoots by a line search.

SciPy's `minimize` is called with loss and gradient together, as both methods want both at nearly every point. Points that
it asks for again are remembered and are not evaluated again. For Newton-CG the graph of the gradient is kept at the last
few points, so that a Hessian-vector product at one of them is one backward pass through it, which is what its price means;
at a forgotten point the gradient is evaluated, and paid for, anew.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teleport_env.agents.play import NO_MENU, Played, draw_instances, rows_of
from teleport_env.envs.rewards import DIVERGED_RETURN
from teleport_env.envs.settings import Settings
from teleport_env.instances import Instance
from teleport_env.ledger import GRADIENT, HESSIAN_VECTOR
from teleport_env.problems.base import Problem
from teleport_env.reading import known, number

REFERENCES = {"l_bfgs": "L-BFGS", "newton_cg": "Newton-CG"}
"""Names of the references -> their names in tables."""

_REMEMBERED = 4  # points; a line search rarely accepts an older one
_MOST_ITERATIONS = 10**9
_SCIPY: dict[str, tuple[str, dict[str, Any]]] = {
    # no stopping rule of SciPy's own before the last digit: the budget and the tolerance are the rules
    "l_bfgs": ("L-BFGS-B", {"ftol": 0.0, "gtol": 0.0, "maxiter": _MOST_ITERATIONS, "maxfun": _MOST_ITERATIONS}),
    "newton_cg": ("Newton-CG", {"xtol": 0.0, "maxiter": _MOST_ITERATIONS}),
}


class _Finished(Exception):
    """Raised inside the objective to leave SciPy: the budget is spent, the tolerance met, or the point not finite."""


@dataclass
class _Point:
    loss: float
    gradient: NDArray[np.float64]
    weights: Tensor | None = None  # with `graph`: the leaf and its gradient, still attached
    graph: Tensor | None = None


@dataclass
class _Counted:
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
    known: OrderedDict[bytes, _Point] = field(default_factory=OrderedDict)

    def pay(self, price: float) -> None:
        # a budget converted from another unit may miss a whole number by its last bit
        if self.cost + price > self.budget * (1 + 1e-12):
            raise _Finished
        self.cost += price

    def at(self, x: NDArray[np.float64]) -> _Point:
        key = x.tobytes()
        if key in self.known:
            self.known.move_to_end(key)
            return self.known[key]
        if not np.isfinite(x).all():
            raise _Finished
        self.pay(GRADIENT)
        self.gradients += 1
        params = torch.tensor(x, dtype=torch.float64)[None]
        if self.keep_graph:
            with torch.enable_grad():
                weights = params.requires_grad_(True)
                loss = self.problem.loss(weights, self.instance, None)
                (graph,) = torch.autograd.grad(loss.sum(), weights, create_graph=True)
            point = _Point(float(loss.detach()), graph.detach()[0].numpy().copy(), weights, graph)
        else:
            loss, gradient = self.problem.loss_and_gradient(params, self.instance, None)
            point = _Point(float(loss), gradient[0].numpy().copy())
        self.known[key] = point
        if len(self.known) > _REMEMBERED:
            self.known.popitem(last=False)
        if not self.trace:
            self.trace.append((0.0, point.loss))
        if point.loss < self.best:
            self.best, self.best_at = point.loss, x.copy()
        self.trace.append((self.cost, self.best))
        if self.best <= self.tolerance:
            raise _Finished
        return point

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

    def minimize(self, name: str) -> None:
        try:
            from scipy.optimize import minimize
        except ImportError as error:
            raise ImportError('reference optimizers need SciPy: pip install "teleport-env[compare]"') from error
        x = self.instance.start[0].numpy().copy()
        method, options = _SCIPY[name]
        extra = {"hessp": self.hessian_vector} if self.keep_graph else {}
        try:
            while True:
                before = self.best
                with np.errstate(all="ignore"):
                    minimize(self.loss_and_gradient, x, jac=True, method=method, options=dict(options), **extra)
                # SciPy gives up on a failed line search; with a fresh memory it goes on for as long as that helps
                if self.best_at is None or not self.best < before:
                    return
                x = self.best_at
        except _Finished:
            return


def play_reference(
    name: str, problem: Problem, instance: Instance, budget: float, tolerance: float
) -> dict[str, NDArray[Any]]:
    """Play one of `REFERENCES` on every row of ``instance``, in float64 and on the full training set.

    The score is that of the best point evaluated.

    Args:
        name: ``"l_bfgs"`` or ``"newton_cg"``.
        problem: The problem.
        instance: ``B`` instances; each is played by itself, so no row depends on another.
        budget: Gradient evaluations *of the full training set* that a row may spend; never exceeded.
        tolerance: Loss at which a row has converged and stops.

    Returns:
        Arrays with leading axis ``B``: ``cost``; ``initial_loss``; ``loss``, the best seen; ``gained``, orders of magnitude
        between them, both floored at the tolerance, or -2 where diverged; ``converged`` and ``diverged`` (the loss is not
        finite at the very start; later such points are passed over) bool; ``steps``,
        loss-and-gradient evaluations; ``hessian_products``; ``seconds``; ``params`` ``(B, P)``, the best point; and
        ``trace_cost``, ``trace_loss`` ``(B, T)``: the best loss after each evaluation, from ``(0, initial_loss)`` on, a
        shorter row continued by its last value.

    Raises:
        ValueError: The name is unknown or the budget negative or not finite.
        ImportError: SciPy is not installed.
    """
    name, budget = known("reference", name, REFERENCES), number("budget", budget, least=0)
    instance = instance.to(torch.float64, "cpu")
    records: dict[str, list[Any]] = {}
    for row in range(len(instance)):
        alone = instance.select(torch.tensor([row]))
        objective = _Counted(problem, alone, budget, tolerance, keep_graph=name == "newton_cg")
        begun = time.perf_counter()
        objective.minimize(name)
        seconds = time.perf_counter() - begun
        if not objective.trace:  # not even the start could be paid for: a measurement, not an evaluation
            objective.trace.append((0.0, float(problem.evaluate(alone.start, alone)["loss"])))
        start = objective.trace[0][1]
        diverged = not np.isfinite(start)
        loss, orders = start, DIVERGED_RETURN
        if not diverged:
            loss = min(objective.best, start)
            orders = float(np.log10(max(start, tolerance, 1e-300) / max(loss, tolerance, 1e-300)))
        record = {
            "cost": objective.cost,
            "initial_loss": start,
            "loss": loss,
            "gained": orders,
            "converged": loss <= tolerance,
            "diverged": diverged,
            "steps": objective.gradients,
            "hessian_products": objective.products,
            "seconds": seconds,
            "params": alone.start[0].numpy() if objective.best_at is None else objective.best_at,
            "trace": objective.trace,
        }
        for key, value in record.items():
            records.setdefault(key, []).append(value)
    traces = records.pop("trace", [])
    longest = max(map(len, traces), default=0)
    padded = np.array([trace + [trace[-1]] * (longest - len(trace)) for trace in traces]).reshape(
        len(traces), longest, 2
    )
    found = {key: np.array(values) for key, values in records.items()}
    return {**found, "trace_cost": padded[:, :, 0], "trace_loss": padded[:, :, 1]}


def play_scipy(
    problem: str, name: str, split: str, instances: int, seeds: int, budget: float | None, seed: int
) -> tuple[tuple[str, str], list[Played], list[dict[str, Any]]]:
    """One of `REFERENCES` on instances of a problem; it is deterministic, so its one episode stands for every seed.

    Returns:
        The problem with the name in tables, the episodes, and their rows for every seed.
    """
    settings = Settings.build(problem, split=split)
    made, budget = settings.problem, budget or settings.budget
    ids = draw_instances(problem, split, instances, seed)
    instance = made.instances(torch.as_tensor(ids), split)
    # these methods need the whole training set; a budget in mini-batch gradients pays for fewer of its gradients
    unit = made.gradient_flops(instance) / made.gradient_flops(instance, made.batch_size)
    found = play_reference(name, made, instance, budget / unit, settings.tolerance)
    shared = {"problem": problem, "agent": REFERENCES[name], "kind": "reference", "split": split, "budget": budget}
    shared |= {"menu": NO_MENU, "learning_rate": 0.0}  # they have none: line searches choose their steps
    kept = ("gained", "initial_loss", "loss", "steps", "converged", "diverged", "seconds")
    columns = {key: found[key] for key in kept}
    columns |= {"instance_id": ids, "cost": found["cost"] * unit, "teleports": np.zeros(len(ids), dtype=np.int64)}
    rows = [row for one in range(seeds) for row in rows_of({**shared, "seed": one}, **columns)]
    start, course = (np.log10(np.maximum(found[key], settings.tolerance)) for key in ("initial_loss", "trace_loss"))
    cost, loss = found["trace_cost"].T * unit, found["trace_loss"].T
    unknown, nowhere = np.full(cost.shape, np.nan), np.zeros(cost.shape, dtype=bool)
    return (problem, REFERENCES[name]), [Played(rows, cost, loss, (course - start[:, None]).T, unknown, nowhere)], rows
