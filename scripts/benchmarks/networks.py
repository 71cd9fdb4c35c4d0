"""Rows about networks and their teleports.

A gradient step is, on our side and on the other, loss and gradient by backpropagation (`Problem.loss_and_gradient`), the
update of the weights and the norm of the gradient, of one run; a teleport is `Search.find`, search and move. Where a row
speaks of several sizes each has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.rows import Curve, Measured, Row, Scale, timed
from reproduction import plain
from teleport_env.agents.known import default_symmetry
from teleport_env.problems import LinearNetwork, MatrixFactorization, MLPRegression, problem_from
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.problems.network_problem import SquaredErrorProblem
from teleport_env.random import Streams
from teleport_env.runs import Runs
from teleport_env.searches import search_from
from teleport_env.searches.base import Search, Start
from teleport_env.symmetries.networks import Layers

WIDTHS = (64, 128, 256, 512)
SAMPLES = (20, 128)
PRICED = {"Digits": 64}  # runs at which prices are compared with times; 1024 for the others
STEPS = 10


def centred(problem: Problem, count: int = 1) -> tuple[Any, torch.Tensor]:
    """Instances, and weights of both signs that keep the size of what goes through a network."""
    instance = problem.instances(torch.arange(count), "train")
    params = instance.start.clone()
    layers: Layers | None = getattr(problem, "layers", None)
    if isinstance(problem, MLPRegression) and layers is not None:
        for weight in layers.weights(params):
            weight.sub_(0.5).mul_((12.0 / weight.shape[2]) ** 0.5)
    return instance, params


def start_of(problem: Problem, symmetry: str) -> Start:
    """One run before a teleport."""
    instance, params = centred(problem)
    loss, gradient = problem.loss_and_gradient(params, instance)
    rate = torch.full((1,), 1e-4, dtype=params.dtype)
    evaluator, streams = Evaluator(problem, instance), Streams.from_seeds([0])
    return Start(params, loss, gradient, rate, problem.symmetries[symmetry], evaluator, streams)


def gradient_step(problem: Problem, start: Start) -> Callable[[], object]:
    """See the head of this module."""

    def step() -> object:
        loss, gradient = problem.loss_and_gradient(start.params, start.instance)
        return start.params - start.learning_rate[:, None] * gradient, loss, gradient.square().sum(1)

    return step


def ascent(start: Start, steps: int) -> Search:
    """The publication's ascent, with a rate at which the steps are a few hundredths long."""
    symmetry = start.symmetry
    direction = symmetry.ascent_direction(start.params, start.gradient, start.instance, start.batch)
    return search_from({"search": "gradient_ascent", "steps": steps, "rate": 0.05 / float(direction.norm())})


def _teleports(problem: Problem, symmetry: str, searches: Mapping[str, Any], scale: Scale) -> Measured:
    """The slowest of some teleports over a gradient step."""
    start = start_of(problem, symmetry)
    work: dict[str, Callable[[], object]] = {"step": gradient_step(problem, start)}
    for name, spec in searches.items():
        search = ascent(start, STEPS) if spec is None else search_from(spec)
        work[name] = partial(search.find, start)
    seconds = timed(work, scale)
    step = seconds.pop("step")
    slowest = max(seconds.values())
    details = {f"{name} / step": value / step for name, value in seconds.items()}
    return Measured(slowest / step, 1e6 * slowest, 1e6 * step, "us", details)


CLOSED = {
    "balance_gradient": "balance_gradient",
    "balance_weights": "balance_weights",
    "gradient_norm": "closed_form",
}
WALKS: dict[str, Any] = {"normalized ascent of 3 steps": "normalized_ascent", "ascent of 10 steps": None}


def by_scaling(searches: Mapping[str, Any], width: int, samples: int, scale: Scale) -> Measured:
    problem = MLPRegression(4 * (scale.of(width, 8),), samples=scale.of(samples))
    return _teleports(problem, "scaling", searches, scale)


def by_linear_network(width: int, samples: int, scale: Scale) -> Measured:
    problem = LinearNetwork(4 * (scale.of(width, 8),), samples=scale.of(samples))
    searches = {"balance_gradient": "balance_gradient", "gradient_norm": "closed_form", **WALKS}
    return _teleports(problem, "general_linear", searches, scale)


def by_factorization(width: int, rank: int, scale: Scale) -> Measured:
    problem = MatrixFactorization(scale.of(width, 8), scale.of(width, 8), scale.of(rank))
    return _teleports(problem, "general_linear", CLOSED | WALKS, scale)


def hidden_step(width: int, samples: int, scale: Scale) -> Measured:
    """A tenth of a teleport by ten steps; with the loss evaluated at its end."""
    problem = MLPRegression(4 * (scale.of(width, 8),), samples=scale.of(samples))
    start = start_of(problem, "general_linear")
    work: dict[str, Callable[[], object]] = {"step": gradient_step(problem, start)}
    work |= {name: partial(ascent(start, steps).find, start) for name, steps in (("ten", STEPS), ("one", 1))}
    seconds = timed(work, scale)
    ours, step = seconds["ten"] / STEPS, seconds["step"]
    details = {
        "whole teleport of one step / step": seconds["one"] / step,
        "a further step / step": (seconds["ten"] - seconds["one"]) / (STEPS - 1) / step,
    }
    return Measured(ours / step, 1e6 * ours, 1e6 * step, "us", details)


def against_published(width: int, samples: int, linear: bool, scale: Scale) -> Measured:
    """Teleports by ten steps of ascent in three layers."""
    width, samples = scale.of(width, 8), scale.of(samples)
    network = LinearNetwork if linear else MLPRegression
    problem: SquaredErrorProblem = network(4 * (width,), samples=samples)
    start = start_of(problem, "general_linear")
    weights = [weight[0] for weight in problem.layers.weights(start.params)]
    inputs, targets = start.instance["inputs"][0], start.instance["targets"][0]
    search = ascent(start, STEPS)
    # Steps of theirs are shorter: the first-order inverse and ill-conditioned data end in NaN soon. It takes no less time.
    slope, rate = (1.0 if linear else 0.1), 1e-6 * search.rate  # type: ignore[attr-defined]
    work: dict[str, Callable[[], object]] = {
        "ours": partial(search.find, start),
        "theirs": partial(plain.teleport, weights, inputs, targets, STEPS, rate, slope, released=True),
    }
    seconds = timed(work, replace(scale, repeats=min(scale.repeats, 2)) if width > 128 else scale)
    return Measured(seconds["theirs"] / seconds["ours"], 1e3 * seconds["ours"], 1e3 * seconds["theirs"], "ms")


# -- prices ------------------------------------------------------------------------------------------------------------


def menu_of(problem: Problem, symmetry: str) -> list[Search]:
    """Searches that serve the symmetry, those of the problem's menus among them."""
    defaults = problem.defaults("train")
    own = defaults.searches if symmetry == defaults.symmetry else problem.searches_for(symmetry, "train")
    others: tuple[str, ...] = ("random", "random_element", "closed_form", "balance_weights", "normalized_ascent")
    others += ("virtual_step", "grid", "whiten_inputs", "whiten_outputs")
    found: list[Search] = []
    for spec in (*own, *others):
        search = search_from(spec)
        try:
            search.check(problem, problem.symmetries[symmetry])
        except ValueError:
            continue
        if search not in found:
            found.append(search)
    return found


def prices(name: str, symmetry: str, scale: Scale) -> Measured:
    """The farthest that a search's price lies from its time, either way; with many runs, in gradient evaluations."""
    searches = menu_of(problem_from(name), symmetry)
    seconds, price, details = _searches(name, symmetry, searches, scale.of(PRICED.get(name, 1024)), scale)
    return _farthest({s: max(seconds[s] / price[s], price[s] / seconds[s]) for s in price}, seconds, price, details)


def dearest(name: str, scale: Scale) -> Measured:
    """The search of the default menu that takes longest for its price, with 256 runs, in gradient evaluations.

    These are the ones that an environment makes, compiled where the problem has a kernel. The details have the same in
    gradients of torch, for which the prices were made, and what were left if calls were free: without the time of four runs.
    """
    defaults = problem_from(name).defaults("train")
    symmetry = default_symmetry(problem_from(name))
    assert symmetry is not None
    searches = [search_from(spec) for spec in defaults.searches]
    many, few = scale.of(256), 4
    seconds, price, details = _searches(name, symmetry, searches, many, scale)
    calls, _, _ = _searches(name, symmetry, searches, few, scale)
    found = _farthest({search: seconds[search] / price[search] for search in price}, seconds, price, details)
    worst = max(price, key=lambda search: seconds[search] / price[search])
    free = (many * seconds[worst] - few * calls[worst]) / (many * price[worst])
    left = {"calls for free": free, "calls for free, in gradients of torch": free / details["gradient of torch"]}
    return replace(found, details={**left, **found.details})


def _farthest(
    off: Mapping[str, float], seconds: Mapping[str, float], price: Mapping[str, float], details: Mapping[str, float]
) -> Measured:
    worst = max(off, key=lambda search: off[search])
    return Measured(off[worst], 1e6 * seconds[worst], 1e6 * price[worst], "us", details)


def _searches(
    name: str, symmetry: str, searches: Sequence[Search], count: int, scale: Scale
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Seconds per run that searches take, what their prices stand for, and details."""
    problem = problem_from(name)
    defaults = problem.defaults("train")
    rest: dict[str, Any] = {"learning_rate": defaults.learning_rate, "dtype": defaults.dtype}
    runs = Runs(problem, count, symmetry=symmetry, searches=searches, **rest)
    runs.reset(Streams.from_seeds(range(count)).keys, torch.arange(count))
    action = problem.symmetries[symmetry]

    compiled = type(problem).loss_and_gradient
    plain: Callable[..., object] = getattr(compiled, "plain", compiled)

    def find(search: Search) -> object:
        progress = runs.progress
        evaluator = Evaluator(problem, runs.instance, runs.batch)
        streams = Streams(runs.keys)
        start = Start(runs.params, progress.loss, runs.gradient, progress.learning_rate, action, evaluator, streams)
        return search.find(start)

    def forward() -> object:
        with torch.no_grad():
            return problem.loss(runs.params, runs.instance, runs.batch)

    work: dict[str, Callable[[], object]] = {
        "gradient": lambda: problem.loss_and_gradient(runs.params, runs.instance, runs.batch),
        "gradient of torch": lambda: plain(problem, runs.params, runs.instance, runs.batch),
        "forward": forward,
        "hessian": lambda: Evaluator(problem, runs.instance, runs.batch).hessian_vector(runs.params),
    }
    names = [f"{search.kind} for {search.objective}, {index}" for index, search in enumerate(searches)]
    for label, search in zip(names, searches, strict=True):
        work[label] = partial(find, search)
    seconds = timed(work, scale)
    unit = seconds["gradient"]
    details = {"forward pass": seconds["forward"] / unit}
    details["gradient and Hessian-vector product"] = seconds["hessian"] / unit
    price = {label: runs.price(search) * unit for label, search in zip(names, searches, strict=True)}
    details["gradient of torch"] = by_torch = seconds["gradient of torch"] / unit
    for label in names:
        details[f"{label}: time over price"] = over = seconds[label] / price[label]
        details[f"{label}: the same in gradients of torch"] = over / by_torch
    each = {label: seconds[label] / count for label in names}
    return each, {label: value / count for label, value in price.items()}, details


# -- growth ------------------------------------------------------------------------------------------------------------


def _grown(sizes: Mapping[int, tuple[int, ...]], samples: int, scale: Scale) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of a step and of a teleport over what the widths of a network are named by."""
    lines: dict[str, list[tuple[float, float]]] = {}
    networks: dict[str, Callable[..., SquaredErrorProblem]] = {"leaky ReLU": MLPRegression, "linear": LinearNetwork}
    for label, network in networks.items():
        for x, widths in sizes.items():
            problem = network(widths, samples=samples)
            start = start_of(problem, "general_linear")
            work: dict[str, Callable[[], object]] = {
                "a gradient step": gradient_step(problem, start),
                "a teleport": partial(ascent(start, STEPS).find, start),
            }
            for name, seconds in timed(work, replace(scale, repeats=min(scale.repeats, 3))).items():
                lines.setdefault(f"{label}: {name}", []).append((float(x), 1e3 * seconds))
    return lines


def by_width(scale: Scale) -> dict[str, list[tuple[float, float]]]:
    """With 16 examples, in networks of three layers."""
    widths = [scale.of(width, 8) for width in (16, 32, 64, 128, 256, 512)]
    return _grown({width: 4 * (width,) for width in widths}, scale.of(16), scale)


def by_depth(scale: Scale) -> dict[str, list[tuple[float, float]]]:
    """With 20 examples, width 128."""
    width = scale.of(128, 8)
    return _grown({depth: (depth + 1) * (width,) for depth in range(2, 9)}, scale.of(20), scale)


STEP = "one gradient step of the same network"
SIZES = [(width, samples) for width in WIDTHS for samples in SAMPLES]
FAMILIES: list[tuple[str, float, Callable[..., Measured], Sequence[tuple[int, int]]]] = [
    ("teleport by scaling, width {}, {} examples", 0.5, partial(by_scaling, CLOSED), SIZES),
    ("ascents by scaling, width {}, {} examples", 0.5, partial(by_scaling, WALKS), SIZES),
    ("teleport of linear pairs, width {}, {} examples", 2.5, by_linear_network, SIZES),
    ("teleport of a factorization, {0} x {0}, rank {1}", 2.5, by_factorization, [(width, 20) for width in WIDTHS]),
    (
        "an ascent step, leaky ReLU, width {}, {} examples",
        2.0,
        hidden_step,
        ((64, 20), (64, 64), (128, 20), (128, 128), (512, 20), (512, 128)),
    ),
]
"""What is compared with a gradient step: name, at most how many, what measures it, and the sizes it is given."""

ROWS: list[Row] = [
    *[
        Row(name.format(*size), STEP, target, "at most", partial(measure, *size))
        for name, target, measure, sizes in FAMILIES
        for size in sizes
    ],
    *[
        Row(
            f"teleport of {STEPS} steps, {'linear' if linear else 'leaky ReLU'}, width {d}, {n} examples",
            "the published formulas, plainly",
            20.0 if linear else 4.0,
            "at least",
            partial(against_published, d, n, linear),
        )
        for linear in (False, True)
        for d in (16, 32, 64, 128, 256, 512)
        for n in sorted({min(20, d), d})
    ],
    *[
        Row(
            f"prices, {name}, {symmetry}: farthest of all searches",
            "measured time",
            1.5,
            "at most",
            partial(prices, name, symmetry),
        )
        for name in (
            "MatrixFactorization",
            "LinearNetwork",
            "MLPRegression",
            "Digits",
            "Quadratic",
            "Rosenbrock",
            "Booth",
        )
        for symmetry in problem_from(name).symmetries
    ],
    *[
        Row(
            f"the dearest search of the default menu, {name}, 256 runs",
            "its price in gradients",
            3.0,
            "at most",
            partial(dearest, name),
        )
        for name in (
            "Rosenbrock",
            "Ellipse",
            "RosenbrockND",
            "Booth",
            "Quadratic",
            "MatrixFactorization",
            "LinearNetwork",
            "MLPRegression",
        )
    ],
]
CURVES: list[Curve] = [
    Curve("Teleports of ten steps against width", "teleport-width", "width", "milliseconds", by_width),
    Curve("Teleports of ten steps against depth", "teleport-depth", "layers", "milliseconds", by_depth),
]
