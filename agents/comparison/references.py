"""The solvers of `teleport_env.agents.comparison.solvers` on instances of a problem, beside the agents.

They play on the same ledger as everyone else (`teleport_env.agents.comparison.counted`).
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from teleport_env.agents.comparison.counted import Counted, Finished
from teleport_env.agents.comparison.solvers import SOLVERS, solvers_of
from teleport_env.agents.play import NO_MENU, Played, draw_instances, rows_of
from teleport_env.envs.rewards import DIVERGED_RETURN
from teleport_env.envs.settings import Settings
from teleport_env.instances import Instance
from teleport_env.problems.base import Problem
from teleport_env.reading import known, number, refuse

REFERENCES = {name: solver.title for name, solver in SOLVERS.items()}
"""Names of the references -> their names in tables."""


def play_reference(
    name: str, problem: Problem, instance: Instance, budget: float, tolerance: float
) -> dict[str, NDArray[Any]]:
    """Play one of `REFERENCES` on every row of ``instance``, in float64 and on the full training set.

    The score is that of the best point evaluated.

    Args:
        name: One of `REFERENCES` that serves the problem (`solvers_of`).
        problem: The problem.
        instance: ``B`` instances; each is played by itself, so no row depends on another.
        budget: Gradient evaluations *of the full training set* that a row may spend; never exceeded.
        tolerance: Loss at which a row has converged and stops.

    Returns:
        Arrays with leading axis ``B``: ``cost``; ``initial_loss``; ``loss``, the best seen; ``gained``, orders of magnitude
        between them, both floored at the tolerance, or -2 where diverged; ``converged`` and ``diverged`` (the loss is not
        finite at the very start) bool; ``steps``,
        loss-and-gradient evaluations; ``hessian_products``; ``seconds`` of the processor; ``params`` ``(B, P)``, the best
        point; and ``trace_cost``, ``trace_loss`` ``(B, T)``: the best loss after each evaluation, from
        ``(0, initial_loss)`` on, a shorter row continued by its last value.

    Raises:
        ValueError: The name is unknown, the solver does not serve the problem, or the budget is negative or not finite.
        ImportError: SciPy is not installed.
    """
    name, budget = known("reference", name, REFERENCES), number("budget", budget, least=0)
    solver = SOLVERS[name]
    if not solver.serves(problem):
        refuse(f"a reference for {problem.name}", " or ".join(map(repr, solvers_of(problem))), name)
    instance = instance.to(torch.float64, "cpu")
    records: dict[str, list[Any]] = {}
    for row in range(len(instance)):
        alone = instance.select(torch.tensor([row]))
        objective = Counted(problem, alone, budget, tolerance, keep_graph=solver.keep_graph)
        begun = time.process_time()
        with contextlib.suppress(Finished):
            solver.run(objective)
        seconds = time.process_time() - begun
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


def play_solver(
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
    solver = SOLVERS[name]
    shared = {"problem": problem, "agent": solver.title, "kind": solver.kind, "split": split, "budget": budget}
    shared |= {"menu": NO_MENU, "learning_rate": 0.0}  # they have none: line searches choose their steps
    kept = ("gained", "initial_loss", "loss", "steps", "converged", "diverged", "seconds")
    columns = {key: found[key] for key in kept}
    columns |= {"instance_id": ids, "cost": found["cost"] * unit, "teleports": np.zeros(len(ids), dtype=np.int64)}
    rows = [row for one in range(seeds) for row in rows_of({**shared, "seed": one}, **columns)]
    start, course = (np.log10(np.maximum(found[key], settings.tolerance)) for key in ("initial_loss", "trace_loss"))
    cost, loss = found["trace_cost"].T * unit, found["trace_loss"].T
    unknown, nowhere = np.full(cost.shape, np.nan), np.zeros(cost.shape, dtype=bool)
    return (problem, solver.title), [Played(rows, cost, loss, (course - start[:, None]).T, unknown, nowhere)], rows
