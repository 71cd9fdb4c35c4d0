"""Problems, symmetries and searches that the tests of this folder go over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from teleport_env.groups import SO2
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.problems.booth import Booth
from teleport_env.problems.linear_network import LinearNetwork
from teleport_env.problems.matrix_factorization import MatrixFactorization
from teleport_env.problems.mlp_regression import MLPRegression
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock, RosenbrockND
from teleport_env.random import Streams
from teleport_env.searches import Found, Search, Start, search_from
from teleport_env.symmetries.base import Symmetry

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Rosenbrock": Rosenbrock,
    "RosenbrockND": lambda: RosenbrockND(pairs=2),
    "Booth": Booth,
    "Quadratic": lambda: Quadratic(dimension=5),
    "MatrixFactorization": MatrixFactorization,
    "LinearNetwork": LinearNetwork,
    "MLPRegression": MLPRegression,
}

# An ascent's rate is a problem's own: it moves by some tenths in these.
RATES = {
    "Rosenbrock": 1e-7,
    "RosenbrockND": 1e-8,
    "Booth": 1e-4,
    "Quadratic": 1e-2,
    "MatrixFactorization": 1e-4,
    "LinearNetwork": 1e-6,
    "MLPRegression": 1e-9,
}

LEARNING_RATES = {
    "Rosenbrock": 1e-3,
    "RosenbrockND": 1e-3,
    "Booth": 0.08,
    "Quadratic": 0.5,
    "MatrixFactorization": 0.02,
    "LinearNetwork": 0.01,
    "MLPRegression": 1e-4,
}

SEARCHES: list[dict[str, Any]] = [
    {"search": "gradient_ascent", "steps": 3},
    {"search": "gradient_ascent", "steps": 3, "derivative": "double_backward"},
    {"search": "gradient_ascent", "steps": 2, "start": "random", "start_scale": 0.1, "retract": True},
    {"search": "gradient_ascent", "steps": 2, "objective": "any", "verify": True},
    {"search": "normalized_ascent"},
    {"search": "normalized_ascent", "objective": "balance_gradient", "retract": False, "verify": True},
    {"search": "normalized_ascent", "derivative": "double_backward"},
    {"search": "normalized_ascent", "objective": "relative"},
    {"search": "random", "candidates": 4, "scale": 0.2},
    {"search": "random", "candidates": 3, "scale": 0.2, "objective": "balance_gradient", "verify": True},
    {"search": "random", "candidates": 3, "scale": 0.2, "objective": "balance_weights"},
    {"search": "random", "candidates": 3, "scale": 0.2, "objective": "virtual_step"},
    {"search": "random_element", "scale": 0.2},
    {"search": "grid"},
    {"search": "grid", "points": 8, "objective": "virtual_step"},
    {"search": "closed_form"},
    {"search": "closed_form", "objective": "balance_gradient"},
    {"search": "closed_form", "objective": "balance_weights", "verify": True},
    {"search": "closed_form", "objective": "relative", "trust_radius": 0.5},
    {"search": "virtual_step"},
    {"search": "virtual_step", "radii": [0.1, 0.5], "fit_rate": True},
    {"search": "whiten_inputs"},
    {"search": "whiten_outputs", "hidden": 0, "scale": "trace", "verify": True},
    {"search": "reset_optimizer"},
]


@cache
def problem_named(name: str) -> Problem:
    return PROBLEMS[name]()


@dataclass(frozen=True)
class Case:
    """One search on one symmetry of one problem."""

    problem_name: str
    symmetry_name: str
    search: Search

    @property
    def problem(self) -> Problem:
        return problem_named(self.problem_name)

    @property
    def symmetry(self) -> Symmetry:
        return self.problem.symmetries[self.symmetry_name]

    def __str__(self) -> str:
        settings = [self.search.kind, self.search.objective]
        for name in ("derivative", "start", "fit_rate", "verify"):
            value = getattr(self.search, name, None)
            if value not in (None, False, "auto", "identity"):
                settings.append(f"{name}={value}")
        return f"{self.problem_name}/{self.symmetry_name}:{','.join(settings)}"


def cases() -> list[Case]:
    """Every search on every symmetry that it says it can serve."""
    found = []
    for problem_name in PROBLEMS:
        problem = problem_named(problem_name)
        for symmetry_name, symmetry in problem.symmetries.items():
            for spec in SEARCHES:
                settings = dict(spec)
                if settings["search"] == "gradient_ascent":
                    settings["rate"] = RATES[problem_name]
                search = search_from(settings)
                try:
                    search.check(problem, symmetry)
                except ValueError:
                    continue
                found.append(Case(problem_name, symmetry_name, search))
    return found


def start_of(
    problem: Problem,
    symmetry: Symmetry,
    ids: list[int],
    learning_rate: float = 1e-3,
    split: str = "train",
    counted: Problem | None = None,
) -> Start:
    """The start of some instances; row ``i`` has its id's stream, in any company.

    Args:
        counted: The problem that the evaluator is to ask, in place of ``problem``.
    """
    instance = problem.instances(torch.tensor(ids, device="cpu"), split)
    loss, gradient = problem.loss_and_gradient(instance.start, instance)
    rate = torch.full_like(loss, learning_rate)
    evaluator = Evaluator(problem if counted is None else counted, instance)
    return Start(instance.start, loss, gradient, rate, symmetry, evaluator, Streams.from_seeds(ids))


def start_of_case(case: Case, ids: list[int], counted: Problem | None = None) -> Start:
    return start_of(case.problem, case.symmetry, ids, LEARNING_RATES[case.problem_name], counted=counted)


def per_run(count: Tensor | float, runs: int) -> Tensor:
    """A field of `Counts` as ``(R,)``."""
    return torch.as_tensor(count, dtype=torch.float64).expand(runs)


def parts(counts: Counts, runs: int) -> dict[str, Tensor]:
    """All of them."""
    return {name: per_run(getattr(counts, name), runs) for name in ("forward", "gradient", "hessian_vector", "flops")}


def same_bits(found: Found, row: int, alone: Found) -> bool:
    """Whether row ``row`` of one answer is the other answer's only row, bit for bit."""
    return all(
        torch.equal(getattr(found, name)[row], getattr(alone, name)[0])
        for name in ("params", "loss", "gradient", "moved", "status", "loss_change", "rate_factor")
    )


class BatchedSquares(Problem):
    """``|A_b w - c_b|^2`` over the examples ``b`` of a mini-batch of two, in two parameters: a toy with mini-batches.

    Its symmetry turns the residuals of the current mini-batch, and so keeps the loss on that mini-batch alone.
    """

    name = "BatchedSquares"
    examples = 12

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(
            generator.normal((2,)),
            {"rows": generator.normal((self.examples, 2)), "offsets": generator.normal((self.examples,))},
        )

    def residual(self, params: Tensor, instance: Instance, batch: Batch) -> Tensor:
        rows, offsets = self.data(instance, batch)
        return (rows * params[:, None, :]).sum(dim=2) - offsets

    @staticmethod
    def data(instance: Instance, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch is not None
        rows = instance["rows"].gather(1, batch[:, :, None].expand(-1, -1, 2))
        return rows, instance["offsets"].gather(1, batch)

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self.residual(params, instance, batch).square().sum(dim=1)

    @property
    def symmetries(self) -> dict[str, Symmetry]:
        return {"turn": TurnResiduals(self)}

    @property
    def batch_size(self) -> int:
        return 2

    def num_examples(self, instance: Instance) -> int:
        return self.examples


class TurnResiduals(Symmetry):
    """``w -> A_b^-1 (R (A_b w - c_b) + c_b)``."""

    name = "turn"
    exact_when = "on the mini-batch it is built from"
    data_dependent = True

    def __init__(self, problem: BatchedSquares) -> None:
        self.group = SO2()
        self.problem = problem

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        assert isinstance(g, Tensor)
        rows, offsets = self.problem.data(instance, batch)
        residual = self.problem.residual(params, instance, batch)
        target = (g * residual[:, None, :]).sum(dim=2) + offsets
        return torch.linalg.solve_ex(rows, target[:, :, None])[0][:, :, 0]


class Pairings:
    """The ``b``-th mini-batch is the examples ``2 b`` and ``2 b + 1``."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.asked: list[int] = []

    def __call__(self, offset: int) -> Tensor:
        self.asked.append(offset)
        return torch.tensor([2 * offset, 2 * offset + 1]).expand(self.runs, 2)


def start_with_batches(ids: list[int], counted: Problem | None = None) -> Start:
    problem = BatchedSquares()
    instance = problem.instances(torch.tensor(ids), "train")
    source = Pairings(len(ids))
    batch = source(0)
    source.asked.clear()
    loss, gradient = problem.loss_and_gradient(instance.start, instance, batch)
    return Start(
        instance.start,
        loss,
        gradient,
        torch.full((len(ids),), 0.05, dtype=torch.float64),
        problem.symmetries["turn"],
        Evaluator(problem if counted is None else counted, instance, batch),
        Streams.from_seeds(ids),
        source,
    )
