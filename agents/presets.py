"""Agents ready to play: the published experiments, and the roster of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch

from teleport_env.agents.base import Agent, register_agent
from teleport_env.agents.edge_rule import EdgeOfStability
from teleport_env.agents.rules import AcceptIfBetter, Alignment, MomentumTrigger, RelativeDecrease, Stall
from teleport_env.agents.schedules import (
    AtSteps,
    Cycle,
    Every,
    First,
    Never,
    RandomElement,
    RandomTiming,
    RateAndTeleport,
    RateWarmupDecay,
    ResetOptimizer,
    line_search,
)
from teleport_env.optimizers import OPTIMIZERS, optimizer_from
from teleport_env.problems import problem_from
from teleport_env.registration import id_of
from teleport_env.symmetries.coordinate_change import CoordinateChange

# -- the publication ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published experiment (Zhao et al., NeurIPS 2022).

    Attributes:
        problem: Registered name.
        agent: The published schedule; its ``environment`` is `arguments`.
        steps: Gradient steps of the published run. The budget pays for them and more: stop here.
        source: Where it stands, and what the publication leaves open.
    """

    problem: str
    agent: AtSteps
    steps: int
    source: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `gym.make` and `gym.make_vec`."""
        return dict(self.agent.environment)

    @property
    def env_id(self) -> str:
        """The environment's id."""
        return id_of(self.problem)

    def make(self, **arguments: Any) -> gym.Env[Any, Any]:
        """The environment, made; ``arguments`` go before the preset's."""
        return gym.make(self.env_id, **{**self.arguments, **arguments})


@dataclass(frozen=True, kw_only=True)
class _Published:
    problem: str
    optimizer: str
    learning_rate: float
    steps: int
    at: tuple[int, ...]
    search: Mapping[str, Any]
    ascent_steps: int
    source: str


def _ascent(steps: int, rate: float, **settings: Any) -> dict[str, Any]:
    # the publication moves wherever its ascent ended; "any" asks for no improvement
    return {"search": "gradient_ascent", "steps": steps, "rate": rate, "objective": "any", **settings}


_EPOCH = 48_000 // 20
_EXACT = (
    "The published figures are those of the released code's first-order form, symmetry='general_linear_first_order'; exact "
    "teleports at the published rates may go further than gradient descent survives"
)
_MNIST = "Section 6.3: teleport once right after the first epoch, on 4 mini-batches; the rates are not published"

_PUBLISHED: dict[str, _Published] = {
    "Ellipse": _Published(
        problem="Ellipse",
        optimizer="gd",
        learning_rate=0.05,
        steps=20,
        at=(3,),
        search=_ascent(10, 1e-3, start="random"),
        ascent_steps=10,
        source="Figure 1 is a picture without settings: start, rate and schedule are this project's, the ascent is Booth's",
    ),
    "Rosenbrock": _Published(
        problem="Rosenbrock",
        optimizer="gd",
        learning_rate=1e-3,
        steps=1000,
        at=tuple(range(99, 1000, 100)),
        search=_ascent(10, 0.1, start="random"),
        ascent_steps=10,
        source="Section 6.1: from (-1, -1), before steps 99, 199, ..., 999; the ascent starts at a random angle in (0, pi)",
    ),
    "Booth": _Published(
        problem="Booth",
        optimizer="gd",
        learning_rate=0.08,
        steps=10,
        at=(4,),
        search=_ascent(10, 1e-3, start="random"),
        ascent_steps=10,
        source="Section 6.1: from (5, -5), once before step 4; the ascent starts at a random angle in (0, pi)",
    ),
    "MLPRegression": _Published(
        problem="MLPRegression",
        optimizer="gd",
        learning_rate=1e-4,
        steps=300,
        at=(5,),
        search=_ascent(8, 1e-7),
        ascent_steps=8,
        source="Section 6.2: once before step 5, gradient descent. " + _EXACT,
    ),
    "MLPRegression/adagrad": _Published(
        problem="MLPRegression",
        optimizer="adagrad",
        learning_rate=0.1,
        steps=300,
        at=(5,),
        search=_ascent(2, 1e-5),
        ascent_steps=2,
        source="Section 6.2: once before step 5, AdaGrad. " + _EXACT,
    ),
    "MNIST": _Published(
        problem="MNIST",
        optimizer="gd",
        learning_rate=0.1,
        steps=80 * _EPOCH,
        at=(_EPOCH,),
        search={"search": "mini_batch", "batches": 4, "inner": _ascent(10, 1e-7)},
        ascent_steps=40,
        source=_MNIST,
    ),
    "MNIST/adagrad": _Published(
        problem="MNIST",
        optimizer="adagrad",
        learning_rate=1e-2,
        steps=80 * _EPOCH,
        at=(_EPOCH,),
        search={"search": "mini_batch", "batches": 4, "inner": _ascent(10, 1e-7)},
        ascent_steps=40,
        source=_MNIST,
    ),
}

PAPER: tuple[str, ...] = tuple(_PUBLISHED)
"""Names that `paper` knows."""

# Above what one ascent step of these searches costs with any symmetry, in gradient evaluations: on networks of a few dozen
# weights a pseudo-inverse weighs as much as dozens of gradients.
_ASCENT_STEP_PRICE = 100.0


def paper(name: str, **arguments: Any) -> Preset:
    """A published experiment by name.

    Args:
        name: One of `PAPER`.
        arguments: Further keyword arguments of the environment, which go before the preset's; for example
            ``symmetry="general_linear_first_order"`` plays the released code's form of the MLP experiments.

    Raises:
        ValueError: There is no such experiment.
    """
    if name not in _PUBLISHED:
        raise ValueError(f"there is no published experiment {name!r}; there are {', '.join(PAPER)}")
    p = _PUBLISHED[name]
    environment = {
        "split": "paper",
        "optimizer": p.optimizer,
        "learning_rate": p.learning_rate,
        "searches": [dict(p.search)],
        "steps_per_action": 1,
        "budget": float(1 + p.steps + _ASCENT_STEP_PRICE * (p.ascent_steps + 1) * len(p.at)),
        **arguments,
    }
    agent = AtSteps(name=f"published {name}", at=p.at, environment=environment)
    return Preset(problem=p.problem, agent=agent, steps=p.steps, source=p.source)


# -- without teleports, with another optimizer -------------------------------------------------------------------------

REFERENCES: dict[str, str] = {
    "adam": "Adam",
    "momentum": "momentum",
    "momentum_line_search": "momentum with line search",
    "polyak": "Polyak's step",
}
"""Optimizers that a user would take instead of any schedule of gradient descent, and what tables call them."""


def reference(optimizer: str, **settings: Any) -> Never:
    """An optimizer without teleports, of kind ``"reference"``; its rate is the problem's default until it is tuned.

    Raises:
        ValueError: There is no such optimizer.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
    environment = {"optimizer": optimizer, **settings.pop("environment", {})}
    name = REFERENCES.get(optimizer, optimizer)
    return Never(**{"name": name, "kind": "reference", "environment": environment, **settings})


def _register_reference(optimizer: str) -> None:
    register_agent(optimizer, lambda **settings: reference(optimizer, **settings))


for _optimizer in REFERENCES:
    _register_reference(_optimizer)


# -- Newton's step in one layer at a time ------------------------------------------------------------------------------


def whiten_search(side: str, hidden: int, calm: float) -> dict[str, Any]:
    """The search `teleport_env.searches.whiten.Whiten` with these settings, as a dict."""
    return {"search": "whiten", "side": side, "hidden": hidden, "calm": calm}


WHITENING: dict[str, tuple[dict[str, Any], ...]] = {
    "MatrixFactorization": (whiten_search("inputs", -1, 1e-3), whiten_search("outputs", -1, 1e-3)),
    "LinearNetwork": (
        whiten_search("inputs", 0, 3e-3),
        whiten_search("inputs", -1, 3e-3),
        whiten_search("outputs", -1, 3e-3),
    ),
    "MLPRegression": (whiten_search("inputs", 0, 0.03), whiten_search("inputs", -1, 0.03)),
}
"""The teleports that `whitening` goes through in turn, the best of a few tried on the validation split."""


def whitening(problem_name: str) -> Cycle:
    """Teleport, step, next teleport, step: every step is Newton's in one layer (`teleport_env.searches.whiten`).

    On a factorization this is alternating least squares. Plain descent at the problem's default rate, which the teleports
    lower.

    Raises:
        ValueError: A problem for which no such teleports are known.
    """
    if problem_name not in WHITENING:
        raise ValueError(f"whitening is known for {', '.join(WHITENING)}, not for {problem_name!r}")
    searches = [dict(search) for search in WHITENING[problem_name]]
    pattern = tuple(action for number in range(len(searches)) for action in (1 + number, 0))
    return Cycle(name="whitening", pattern=pattern, environment={"symmetry": "general_linear", "searches": searches})


# -- the roster --------------------------------------------------------------------------------------------------------

BEST_SEARCH: dict[str, Any] = {
    "RosenbrockND": "virtual_step",
    "Ellipse": {"search": "normalized_ascent", "steps": 3},
    "Booth": {"search": "normalized_ascent", "steps": 3},
    "MatrixFactorization": "balance_weights",
    "LinearNetwork": "balance_weights",
    "MLPRegression": "balance_weights",
    "Digits": "balance_weights",
    "MNIST": "balance_weights",
    "MNISTSmall": "balance_weights",
}
"""The search that served `First`, `RelativeDecrease` and `AcceptIfBetter` best, untuned, on 32 instances of the problem's
train split; for the others the first of the default menu."""

FLATTENING: dict[str, Any] = {
    "slow": 0.0,
    "flatten": 2.0,
    "edge": 1.5,
    "first": 1,
    "cooldown": 20,
    "landing": "same",
}
"""`EdgeOfStability` on matrices and networks, where a teleport makes room for a larger rate; its own defaults suit
coordinate changes, where a teleport makes the next step promise more."""


def default_agents(problem_name: str) -> list[Agent]:
    """The agents that a comparison plays on a problem: baselines, rules, controls and references.

    All that search have the same menu of one, so that they know its price and differ in timing alone; all but `whitening`,
    whose searches are its own. Learning rates are
    left open: they are tuned per agent, or else the problem's default.

    Args:
        problem_name: A registered name. On a problem without symmetries only agents that do not teleport are left.

    Raises:
        ValueError: There is no such problem.
    """
    problem = problem_from(problem_name)
    defaults = problem.defaults("train")
    still: list[Agent] = [Never(), line_search(), RateWarmupDecay()]
    references: list[Agent] = [reference(optimizer) for optimizer in REFERENCES]
    if not problem.symmetries:
        return still + references
    symmetry = defaults.symmetry or next(iter(problem.symmetries))
    menu = tuple(defaults.searches) or problem.searches_for(symmetry, "train")
    environment = {"searches": [BEST_SEARCH.get(problem_name, menu[0])]}
    coordinates = isinstance(problem.symmetries[symmetry], CoordinateChange)
    period = max(2, round(defaults.budget / 12))
    searching: list[Agent] = [
        First(k=3, environment=environment),
        Every(k=period, environment=environment),
        RandomTiming(probability=min(1.0, 1.0 / period), environment=environment),
        RandomElement(k=period),
        RateAndTeleport(every=period, environment=environment),
        Stall(environment=environment),
        Alignment(environment=environment),
        RelativeDecrease(environment=environment),
        AcceptIfBetter(environment=environment),
        MomentumTrigger(environment=environment),
        EdgeOfStability(**({} if coordinates else FLATTENING), environment=environment),
    ]
    if problem_name in WHITENING:
        searching.append(whitening(problem_name))
    if optimizer_from(defaults.optimizer).init(torch.zeros(1, 1)):
        searching.append(ResetOptimizer(k=period, offset=period))
    return still + searching + references
