"""Losses with their symmetries and the distributions their instances come from.

`PROBLEMS` is the one table of them: environment ids, the documentation's tables and the parametrised tests follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import SPLITS, Defaults, Evaluator, Problem
from teleport_env.problems.booth import Booth
from teleport_env.problems.digits import MNIST, Digits, DigitsFull, MNISTSmall
from teleport_env.problems.ellipse import Ellipse
from teleport_env.problems.linear_network import LinearNetwork
from teleport_env.problems.matrix_completion import MatrixCompletion
from teleport_env.problems.matrix_factorization import MatrixFactorization
from teleport_env.problems.mlp_regression import MLPRegression
from teleport_env.problems.quadratic import Quadratic
from teleport_env.problems.rosenbrock import Rosenbrock, RosenbrockND
from teleport_env.problems.tensor_factorization import TensorFactorization
from teleport_env.problems.two_layer_regression import TwoLayerRegression
from teleport_env.reading import arguments, known, refuse, shown

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "Ellipse": Ellipse,
    "Quadratic": Quadratic,
    "Rosenbrock": Rosenbrock,
    "RosenbrockND": RosenbrockND,
    "Booth": Booth,
    "MatrixFactorization": MatrixFactorization,
    "MatrixCompletion": MatrixCompletion,
    "TensorFactorization": TensorFactorization,
    "LinearNetwork": LinearNetwork,
    "MLPRegression": MLPRegression,
    "TwoLayerRegression": TwoLayerRegression,
    "Digits": Digits,
    "DigitsFull": DigitsFull,
    "MNIST": MNIST,
    "MNISTSmall": MNISTSmall,
}
"""Names to what builds them; `teleport_env.register_problem` adds a user's own."""

DEFAULT_PROBLEM = "Rosenbrock"
"""Where none is named."""


def problem_from(name: str, **settings: Any) -> Problem:
    """The problem of that name, built with ``settings``.

    Raises:
        ValueError: There is no such problem, or it does not take these settings.
    """
    name = known("problem", name, PROBLEMS, "Your own is added by teleport_env.register_problem(name, factory)")
    read = arguments(f"problem {name!r}", PROBLEMS[name], settings)
    try:
        made = PROBLEMS[name](**read)
    except TypeError as error:  # a setting that is missing
        raise ValueError(f"{name} cannot be built with {shown(settings)}: {error}") from error
    if not isinstance(made, Problem):
        refuse(f"what the factory of {name} returns", "a Problem", made)
    return made


__all__ = [
    "DEFAULT_PROBLEM",
    "MNIST",
    "PROBLEMS",
    "SPLITS",
    "Batch",
    "Booth",
    "Defaults",
    "Digits",
    "DigitsFull",
    "Ellipse",
    "Evaluator",
    "Instance",
    "LinearNetwork",
    "MLPRegression",
    "MNISTSmall",
    "MatrixCompletion",
    "MatrixFactorization",
    "Problem",
    "Quadratic",
    "Rosenbrock",
    "RosenbrockND",
    "TensorFactorization",
    "TwoLayerRegression",
    "problem_from",
]
