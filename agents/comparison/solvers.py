"""What a user would take instead of any schedule of gradient descent: solvers of the libraries, on the same ledger.

Two kinds. The first takes losses and gradients alone, like schedules: quasi-Newton and Newton methods. The second **knows
the structure** of the problem, which no schedule sees: that it is a quadratic form, a sum of squared residuals, or least
squares in some block of its parameters. What it computes beside evaluations is charged by its floating-point operations.

No solver has a stopping rule of its own before the last digit: budget and tolerance are the rules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from teleport_env.agents.comparison.counted import Counted, Finished
from teleport_env.agents.eager import LBFGS
from teleport_env.ledger import GRADIENT
from teleport_env.problems.base import Problem

Vector = NDArray[np.float64]

_MOST = 10**9


@dataclass(frozen=True)
class Solver:
    """A solver of a library.

    Attributes:
        title: Its name in tables.
        about: A sentence on what it does.
        run: Plays one instance; it ends by itself or by `Finished`.
        kind: ``"reference"``, or ``"structure"`` where it knows more than losses and gradients.
        serves: Whether a problem has what it asks for.
        keep_graph: Whether it asks for Hessian-vector products.
    """

    title: str
    about: str
    run: Callable[[Counted], None]
    kind: str = "reference"
    serves: Callable[[Problem], bool] = lambda problem: True
    keep_graph: bool = False


def optimize() -> ModuleType:
    """`scipy.optimize`.

    Raises:
        ImportError: SciPy is not installed.
    """
    try:
        import scipy.optimize
    except ImportError as error:
        raise ImportError('reference optimizers need SciPy: pip install "teleport-env[compare]"') from error
    module: ModuleType = scipy.optimize
    return module


def _again(objective: Counted) -> Iterator[Vector]:
    """The start, then the best point as long as each attempt found a better one.

    Libraries give up on a failed line search; with a fresh memory they go on for as long as that helps.
    """
    x, before = objective.start, np.inf
    while True:
        yield x
        if objective.best_at is None or not objective.best < before:
            return
        x, before = objective.best_at, objective.best


# -- losses and gradients ----------------------------------------------------------------------------------------------


def _scipy(method: str, options: dict[str, Any], objective: Counted) -> None:
    """A minimizer of SciPy, which sees losses and gradients alone."""
    minimize = optimize().minimize
    extra = {"hessp": objective.hessian_vector} if objective.keep_graph else {}
    for x in _again(objective):
        with np.errstate(all="ignore"):
            minimize(objective.loss_and_gradient, x, jac=True, method=method, options=dict(options), **extra)


def _l_bfgs(pairs: int) -> Callable[[Counted], None]:
    options = {"ftol": 0.0, "gtol": 0.0, "maxiter": _MOST, "maxfun": _MOST, "maxcor": pairs}
    return partial(_scipy, "L-BFGS-B", options)


def _torch_l_bfgs(pairs: int) -> Callable[[Counted], None]:
    def run(objective: Counted) -> None:
        """The minimizer of torch, with a strong Wolfe search; it sees losses and gradients alone."""
        for x in _again(objective):
            weights = torch.from_numpy(x.copy())
            settings: dict[str, Any] = {"max_iter": _MOST, "max_eval": _MOST, "history_size": pairs}
            settings |= {"tolerance_grad": 0.0, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}

            @torch.inference_mode(mode=False)
            def closure(weights: torch.Tensor = weights) -> torch.Tensor:
                loss, gradient = objective.loss_and_gradient(weights.numpy())
                weights.grad = torch.from_numpy(gradient)
                return torch.tensor(loss, dtype=torch.float64)

            with torch.inference_mode():  # calls of torch take three quarters of their time
                LBFGS([weights], **settings).step(closure)

    return run


# -- what knows the structure ------------------------------------------------------------------------------------------


def _has_minimum(problem: Problem) -> bool:
    return type(problem).minimum is not Problem.minimum


def _closed_form(objective: Counted) -> None:
    """The minimum itself: a solve of the coordinates' map, or a truncated singular value decomposition."""
    objective.at(objective.start)
    objective.work(objective.problem.minimum_flops(objective.instance))
    minimum = objective.problem.minimum(objective.instance)
    if minimum is not None:
        objective.at(minimum[0].numpy().astype(np.float64))


def _is_quadratic(problem: Problem) -> bool:
    return any(action.changes_coordinates and action.linear for action in problem.symmetries.values())


def _conjugate_gradients(objective: Counted) -> None:
    """SciPy's, on the Hessian, whose product with a vector is the difference of two gradients: one evaluation."""
    optimize()
    from scipy.sparse.linalg import LinearOperator, cg

    for start in _again(objective):
        slope = objective.at(start).gradient
        size = max(1.0, float(np.linalg.norm(start)))

        def times(vector: Vector, start: Vector = start, slope: Vector = slope, size: float = size) -> Vector:
            length = float(np.linalg.norm(vector))
            if length == 0:
                raise Finished
            objective.pay(GRADIENT)  # the point is no iterate: its loss does not count
            objective.gradients += 1
            far = torch.from_numpy(start + vector * (size / length))[None]  # a short difference would cancel
            gradient = objective.problem.loss_and_gradient(far, objective.instance, None)[1][0].numpy()
            return (gradient - slope) * (length / size)

        count = len(start)
        hessian = LinearOperator((count, count), matvec=times, dtype=np.float64)
        with np.errstate(all="ignore"):
            # the residual of an iterate is its gradient, from which a quadratic form's value follows
            cg(hessian, -slope, rtol=0.0, maxiter=_MOST, callback=partial(_visit, objective, start))


def _visit(objective: Counted, start: Vector, step: Vector) -> None:
    objective.loss_at(start + step, price=0.0)


def _alternate(objective: Counted) -> None:
    """Each block at its minimum in turn, until a round gains nothing."""
    problem, instance = objective.problem, objective.instance
    objective.at(objective.start)
    weights, before = instance.start, np.inf
    while objective.best < before:
        before = objective.best
        for block in range(problem.blocks):
            objective.work(problem.block_flops(block, instance))
            weights = problem.block_minimum(block, weights, instance)
            objective.loss_at(weights[0].numpy())


def _project(objective: Counted) -> None:
    """L-BFGS on the other parameters, with the last block at its minimum at every point.

    There the derivative in the last block is 0, so that the gradient of the rest is what is left.
    G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
    separate", SIAM Journal on Numerical Analysis 10, 1973.
    """
    problem, instance = objective.problem, objective.instance
    objective.at(objective.start)

    def projected(x: Vector) -> tuple[float, Vector]:
        objective.work(problem.block_flops(problem.blocks - 1, instance))
        best = problem.block_minimum(problem.blocks - 1, torch.from_numpy(x.copy())[None], instance)
        return objective.loss_and_gradient(best[0].numpy())

    minimize = optimize().minimize
    options = {"ftol": 0.0, "gtol": 0.0, "maxiter": _MOST, "maxfun": _MOST}
    for x in _again(objective):
        with np.errstate(all="ignore"):
            minimize(projected, x, jac=True, method="L-BFGS-B", options=options)


def _has_residuals(problem: Problem) -> bool:
    return type(problem).residuals is not Problem.residuals


def _levenberg_marquardt(objective: Counted) -> None:
    """SciPy's; where there are fewer residuals than parameters its trust-region method, as MINPACK refuses that."""
    problem, instance = objective.problem, objective.instance
    loss = objective.at(objective.start).loss
    known = {objective.start.tobytes(): loss}  # the start is paid for with its gradient

    def residuals(x: Vector) -> Vector:
        if x.tobytes() not in known:
            objective.loss_at(x.copy())
        with torch.no_grad():
            return problem.residuals(torch.from_numpy(x.copy())[None], instance)[0].numpy()

    def derivative(x: Vector) -> Vector:
        objective.pay(problem.jacobian_price(instance))
        rows = torch.autograd.functional.jacobian(
            lambda weights: problem.residuals(weights[None], instance)[0], torch.from_numpy(x.copy()), vectorize=True
        )
        few, many = sorted(rows.shape)
        objective.work(2.0 * many * few**2 if many == rows.shape[0] else 4.0 * many * few**2 + 8.0 * few**3)
        return rows.numpy()

    least_squares = optimize().least_squares
    count = len(residuals(objective.start))
    settings: dict[str, Any] = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": _MOST}
    method = "lm" if count >= len(objective.start) else "trf"
    for x in _again(objective):
        known[x.tobytes()] = objective.best
        with np.errstate(all="ignore"), contextlib.suppress(np.linalg.LinAlgError, ValueError):
            least_squares(residuals, x, jac=derivative, method=method, **settings)


def _structured(title: str, about: str, run: Callable[[Counted], None], serves: Callable[[Problem], bool]) -> Solver:
    return Solver(title, about, run, "structure", serves)


_QUASI_NEWTON = "{}'s quasi-Newton method, which estimates curvature from the last {} steps and gradient changes."

SOLVERS: dict[str, Solver] = {
    "l_bfgs": Solver("L-BFGS", _QUASI_NEWTON.format("SciPy", 10), _l_bfgs(10)),
    "l_bfgs_40": Solver("L-BFGS, 40 pairs", _QUASI_NEWTON.format("SciPy", 40), _l_bfgs(40)),
    "torch_l_bfgs": Solver("L-BFGS of torch", _QUASI_NEWTON.format("torch", 10), _torch_l_bfgs(10)),
    "torch_l_bfgs_40": Solver("L-BFGS of torch, 40 pairs", _QUASI_NEWTON.format("torch", 40), _torch_l_bfgs(40)),
    "newton_cg": Solver(
        "Newton-CG",
        "SciPy's Newton method, whose steps conjugate gradients find by Hessian-vector products.",
        partial(_scipy, "Newton-CG", {"xtol": 0.0, "maxiter": _MOST}),
        keep_graph=True,
    ),
    "closed_form": _structured(
        "closed form",
        "The minimum itself, by a linear solve or a truncated singular value decomposition.",
        _closed_form,
        _has_minimum,
    ),
    "conjugate_gradients": _structured(
        "conjugate gradients",
        "SciPy's conjugate gradients on the Hessian of a quadratic form.",
        _conjugate_gradients,
        _is_quadratic,
    ),
    "alternating_least_squares": _structured(
        "alternating least squares",
        "Least squares in one block of parameters after the other, until a round gains nothing.",
        _alternate,
        lambda p: p.blocks > 1,
    ),
    "variable_projection": _structured(
        "variable projection",
        "L-BFGS on all blocks of parameters but the last, which least squares solves at every point.",
        _project,
        lambda p: p.blocks > 0,
    ),
    "levenberg_marquardt": _structured(
        "Levenberg-Marquardt",
        "SciPy's damped Gauss-Newton method on the residuals, or its trust-region method where residuals are few.",
        _levenberg_marquardt,
        _has_residuals,
    ),
}
"""Names to solvers: those that take losses and gradients first, then those that know the structure."""


def solvers_of(problem: Problem) -> list[str]:
    """Names of the solvers that serve a problem."""
    return [name for name, solver in SOLVERS.items() if solver.serves(problem)]
