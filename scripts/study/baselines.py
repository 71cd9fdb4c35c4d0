"""Families of baselines, controls and references, and how each is tuned on the train split.

A family is a grid of settings and what builds an agent of them. Search, timing, learning rate, warm-up and decay are chosen
together, by `teleport_env.agents.tuning.search`. No instance of the validation or the test split is read.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from teleport_env.agents.base import Agent, agent_from
from teleport_env.agents.edge_rule import NEVER_FLATTEN
from teleport_env.agents.known import known_of, whiten_search
from teleport_env.agents.learning.plans import Plan, play_plans
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.presets import REFERENCES
from teleport_env.agents.schedules import Cycle, Every, Never, RandomElement, RandomTiming, ResetOptimizer
from teleport_env.agents.tuning.search import Axis, Config, Found, search
from teleport_env.agents.tuning.tuning import TUNING_SEED
from teleport_env.envs.settings import Settings
from teleport_env.searches import search_from, to_dict
from teleport_env.searches.whiten import SIDES

PLAIN = "never"
FIXED = "fixed schedule"
RATE_SCHEDULE = "rate schedule"
WHITENING_CYCLE = "whitening cycle"

NEUTRAL: dict[str, Any] = {"up": 1.0, "warmup": 0, "down": 1.0, "decay_every": 0, "first": 0, "every": 0}
"""Values at which the settings of a plan do nothing."""

NEUTRAL_EDGE: dict[str, Any] = {
    "first": 0,
    "looks": 0,
    "opening": 0,
    "flatten": NEVER_FLATTEN,
    "landing": "up",
    "cooldown": 1,
    "least_steps": 1,
}
"""The same of the many settings of `EdgeOfStability`."""

_BIG = 2.0**12  # a rate is extended up to this multiple of its start, and down to the inverse


@dataclass(frozen=True)
class Family:
    """Agents that differ in settings.

    Attributes:
        name: What tables call the tuned agent.
        kind: As `Agent.kind`.
        about: What the row is, in a sentence.
        axes: The settings.
        build: Settings to the agent, its name and kind left to `agent`.
        plan: Settings to a `Plan`, the gradient steps of an action and the symmetry, whose searches the plan counts. Given
            where the agents are plans, which play quicker.
    """

    name: str
    kind: str
    about: str
    axes: Mapping[str, Axis]
    build: Callable[[Config], Agent]
    plan: Callable[[Config], tuple[Plan, int, str | None]] | None = field(default=None)

    def agent(self, config: Config) -> Agent:
        """The agent with some settings."""
        return dataclasses.replace(self.build(config), name=self.name, kind=self.kind)


def families_of(problem: str, budget: float | None = None) -> dict[str, Family]:
    """The families of a problem by name: teleporting ones where it has a symmetry, layers' rates where it has layers."""
    return {family.name: family for family in _Families(problem, budget).all()}


def tune(problem: str, name: str, *, count: int, instances: int, budget: float | None = None) -> Found:
    """The best agent of a family on the train split.

    Args:
        problem: Registered name.
        name: Of the family.
        count: Configurations tried before the refinement.
        instances: Of the train split that each is tried on; the last choice is made on ten times as many others.
        budget: As in the comparison to come.
    """
    ids = draw_instances(problem, "train", 11 * instances, TUNING_SEED)
    few, many = ids[:instances], ids[instances:] if len(ids) > instances else ids
    family = families_of(problem, budget)[name]

    def score(configs: Sequence[Config], chosen: np.ndarray) -> np.ndarray:
        return play_configs(problem, family, configs, chosen, "train", budget, TUNING_SEED).mean(axis=1)

    generator = np.random.default_rng(np.random.SeedSequence(TUNING_SEED))
    canonical = _canonical if family.plan else _as_it_is
    common = NEUTRAL if family.plan else NEUTRAL_EDGE if "looks" in family.axes else {}
    neutral = {name: value for name, value in common.items() if name in family.axes}
    shared: dict[str, Any] = {"generator": generator, "canonical": canonical, "neutral": neutral}
    return search(family.axes, score, count=count, few=few, many=many, **shared)


def play_configs(
    problem: str,
    family: Family,
    configs: Sequence[Config],
    ids: np.ndarray,
    split: str,
    budget: float | None,
    seed: int,
) -> np.ndarray:
    """Orders of magnitude gained ``(configurations, instances)``."""
    if family.plan is None:
        return play_many(problem, [family.build(c) for c in configs], ids, split=split, budget=budget, seed=seed)
    gained = np.zeros((len(configs), len(ids)))
    made = [family.plan(config) for config in configs]
    for stride, symmetry in dict.fromkeys(one[1:] for one in made):
        same = [index for index, one in enumerate(made) if one[1:] == (stride, symmetry)]
        plans = [made[index][0] for index in same]
        training = _training(problem, stride, symmetry, budget, plans)
        gained[same], _ = play_plans(training, plans, ids, seed=seed, split=split)
    return gained


def symmetries_of(problem: str) -> list[str]:
    """The symmetries that baselines choose from: the problem's own, and those of its recipes."""
    named = [Settings.build(problem).symmetry, *(one.get("symmetry") for one in _recipes(problem))]
    return [name for name in dict.fromkeys(named) if name is not None]


def _recipes(problem: str) -> list[dict[str, Any]]:
    """What policies on a problem begin from: alone, and as teachers of one for several."""
    return [dict(known_of(problem).teacher or {}), recipe(problem)]


def menu_of(problem: str) -> list[tuple[str, dict[str, Any]]]:
    """Pairs of symmetry and search that baselines choose from.

    For each symmetry the problem's own searches, those of the recipe, and what served rules best, as far as they can serve
    it.
    """
    offered: list[tuple[str, dict[str, Any]]] = []
    best = known_of(problem).search
    further = [search_ for one in _recipes(problem) for search_ in one.get("searches") or ()]
    further += [*([best] if best else []), "virtual_step"]
    for symmetry in symmetries_of(problem):
        settings = Settings.build(problem, symmetry=symmetry)
        for one in [*settings.searches, *map(search_from, further)]:
            try:
                one.check(settings.problem, settings.problem.symmetries[symmetry])
            except ValueError:
                continue  # a search of one symmetry may be none of another
            if (symmetry, to_dict(one)) not in offered:
                offered.append((symmetry, to_dict(one)))
    return offered


def _training(problem: str, stride: int, symmetry: str | None, budget: float | None, plans: Sequence[Plan]) -> Training:
    """The environment of plans: their rate factors and all searches of a symmetry."""
    factors = {1.0, *(plan.up for plan in plans), *(plan.down for plan in plans)}
    return Training.of(
        problem=problem,
        searches=tuple(search_ for name, search_ in menu_of(problem) if name == symmetry),
        rate_factors=tuple(sorted(factors)),
        steps_per_action=stride,
        symmetry=symmetry,
        budget=budget,
    )


def _as_it_is(config: Config) -> Config:
    # without such teleports their search does nothing
    return {**config, "opening": 0} if config.get("looks") == 0 else config


def _canonical(config: Config) -> Config:
    """Without settings of a plan that do nothing."""
    cleared = {name: config.get(name, value) for name, value in {**NEUTRAL, "which": 0}.items()}
    for factor, length in (("up", "warmup"), ("down", "decay_every")):
        if cleared[factor] == 1.0 or not cleared[length]:
            cleared |= {factor: 1.0, length: 0}
    if not cleared["first"] and not cleared["every"]:
        cleared["which"] = 0
    return {**config, **{name: value for name, value in cleared.items() if name in config}}


def opening_of(menu: Sequence[tuple[str, dict[str, Any]]], config: Config) -> dict[str, Any] | None:
    """The search of a rule's first teleports, if it has another for them: one that serves the symmetry of the others.

    Args:
        menu: `menu_of` the problem.
        config: Of the rule; its ``opening`` is counted round the searches of that symmetry.
    """
    if not config.get("looks"):
        return None
    same = [search_ for symmetry, search_ in menu if symmetry == menu[config["search"]][0]]
    return same[config["opening"] % len(same)]


class _Families:
    def __init__(self, problem: str, budget: float | None) -> None:
        self.problem = problem
        self.settings = Settings.build(problem, budget=budget)
        self.menu = menu_of(problem)
        base = self.settings.learning_rate
        self.rate = Axis(tuple(base * 2.0**k for k in range(-4, 5)), factor=2.0, low=base / _BIG, high=base * _BIG)
        strides = {1, self.settings.steps_per_action, *(one.get("steps_per_action", 1) for one in _recipes(problem))}
        self.stride = Axis(tuple(sorted(strides)))
        budget = self.settings.budget
        self.most = int(budget)
        times = sorted({max(1, round(budget * share)) for share in (0.01, 0.02, 0.04, 0.08, 0.15, 0.3)})
        self.period = Axis(tuple(times), factor=2.0, low=1, high=self.most)

    def all(self) -> list[Family]:
        families = [self.plain(), self.plans(RATE_SCHEDULE, "control", "warm-up and decay, no teleports", False, True)]
        families.append(self.line_search())
        if self.menu:
            families += [
                self.plans(FIXED, "fixed", "teleports and rates at fixed times", True, True),
                self.plans("fixed teleports", "fixed", "teleports at fixed times, one constant rate", True, False),
                *(self.random_timing(), self.random_element(), self.best_of_random()),
                *(self.rule(name, axes) for name, axes in self.rules().items()),
            ]
            if self.settings.optimizer.init(torch.zeros(1, 1)):
                families.append(self.reset())
        if hasattr(self.settings.problem, "layers"):
            families.append(self.layer_rates())
        if known_of(self.problem).whitening:
            families.append(self.whitening())
        return families + [self.reference(name) for name in REFERENCES]

    def _here(self, config: Config, **more: Any) -> dict[str, Any]:
        """The environment that settings ask for."""
        here: dict[str, Any] = {"learning_rate": config["rate"], **more}
        if "stride" in config:
            here["steps_per_action"] = config["stride"]
        if "search" in config:
            here["symmetry"], search_ = self.menu[config["search"]]
            here["searches"] = [search_]
        if "symmetry" in config:
            here["symmetry"] = config["symmetry"]
        return here

    # -- fixed ---------------------------------------------------------------------------------------------------------

    def plain(self) -> Family:
        about = "plain descent at its best constant rate"
        return Family(PLAIN, "fixed", about, {"rate": self.rate}, lambda c: Never(environment=self._here(c)))

    def plans(self, name: str, kind: str, about: str, teleports: bool, rates: bool) -> Family:
        zero = (0, *self.period.values)
        times = dataclasses.replace(self.period, values=zero)
        axes = {"rate": self.rate, "stride": self.stride}
        if rates:
            axes["up"] = Axis((1.0, 1.1, 1.3, 2.0, 4.0), factor=2.0, low=1.0, high=64.0)
            axes["warmup"] = Axis((0, 1, 2, 4, 8, 16), factor=2.0, high=self.most)
            # below 1, and in ascending order: a quarter, ..., 1
            axes["down"] = Axis((0.25, 0.5, 0.7, 0.9, 1.0), factor=2.0, low=1.0 / 64.0, high=1.0)
            axes["decay_every"] = times
        if teleports:
            axes["which"] = Axis(tuple(range(len(self.menu))), ordered=False)
            axes["first"] = Axis((0, 1, 2, 4, 8), factor=2.0, high=self.most)
            axes["every"] = times

        def plan(config: Config) -> tuple[Plan, int, str | None]:
            rest = {key: value for key, value in config.items() if key not in ("rate", "stride", "which")}
            symmetry = self.menu[config["which"]][0] if "which" in config else None
            own = [index for index, (name, _) in enumerate(self.menu) if name == symmetry]
            place = own.index(config["which"]) if own else 0
            return Plan(config["rate"], which=place, **rest), config["stride"], symmetry

        def build(config: Config) -> Agent:
            made, stride, symmetry = plan(config)
            here: dict[str, Any] = {"searches": [search_ for name, search_ in self.menu if name == symmetry]}
            if symmetry is not None:
                here["symmetry"] = symmetry
            return made.agent(self._here({"rate": made.learning_rate, "stride": stride}, **here))

        return Family(name, kind, about, axes, build, plan)

    def _teleporting(self, **axes: Axis) -> dict[str, Axis]:
        searches = Axis(tuple(range(len(self.menu))), ordered=False)
        return {"rate": self.rate, "stride": self.stride, "search": searches, **axes}

    def random_timing(self) -> Family:
        axes = self._teleporting(probability=Axis((0.03, 0.06, 0.12, 0.25, 0.5, 1.0), factor=2.0, low=0.001, high=1.0))

        def build(config: Config) -> Agent:
            return RandomTiming(probability=config["probability"], environment=self._here(config))

        return Family("random timing", "fixed", "teleports at random times", axes, build)

    def random_element(self) -> Family:
        axes = {"rate": self.rate, "stride": self.stride, "k": self.period, "scale": self._scale(), **self._symmetry()}

        def build(config: Config) -> Agent:
            return RandomElement(k=config["k"], scale=config["scale"], environment=self._here(config))

        return Family("random element", "fixed", "a random element, at an interval, whatever it does", axes, build)

    def best_of_random(self) -> Family:
        axes = {"rate": self.rate, "stride": self.stride, "k": self.period, "scale": self._scale(), **self._symmetry()}
        axes["candidates"] = Axis((1, 2, 4, 8, 16), factor=2.0, low=1, high=64)
        objectives = ("gradient_norm", "balance_gradient", "virtual_step")
        axes["objective"] = Axis(objectives, ordered=False)

        def build(config: Config) -> Agent:
            chosen = {key: config[key] for key in ("scale", "candidates", "objective")}
            return Every(k=config["k"], environment=self._here(config, searches=[{"search": "random", **chosen}]))

        return Family("best of N random", "fixed", "the best of N random elements, at an interval", axes, build)

    def whitening(self) -> Family:
        """Up to three whitenings in turn, each followed by steps: a direct method rather than a schedule of descent."""
        hidden = len(self.settings.problem.layers.hidden)  # type: ignore[attr-defined]
        ends = [(side, layer) for layer in range(hidden) for side in SIDES]
        orders = tuple(order for count in (1, 2, 3) for order in itertools.permutations(ends, count))
        axes = {"rate": self.rate, "order": Axis(tuple(range(len(orders))), ordered=False)}
        axes["calm"] = Axis((3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1), factor=3.0, low=1e-6, high=1.0)
        axes["steps"] = Axis((1, 2, 4, 8), factor=2.0, low=1, high=self.most)

        def build(config: Config) -> Agent:
            order = orders[config["order"]]
            pattern = [action for number in range(len(order)) for action in (1 + number, *[0] * config["steps"])]
            searches = [whiten_search(side, layer, config["calm"]) for side, layer in order]
            here = self._here(config, symmetry="general_linear", searches=searches, steps_per_action=1)
            return Cycle(pattern=tuple(pattern), environment=here)

        about = "whitenings in turn, tuned, a direct method; only the policy that whitens has them in its menu too"
        return Family(WHITENING_CYCLE, "reference", about, axes, build)

    def _symmetry(self) -> dict[str, Axis]:
        named = symmetries_of(self.problem)
        return {"symmetry": Axis(tuple(named), ordered=False)} if len(named) > 1 else {}

    def _scale(self) -> Axis:
        return Axis((0.03, 0.1, 0.3, 1.0), factor=3.0, low=0.001, high=1.0)

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rules(self) -> dict[str, dict[str, Axis]]:
        booleans = Axis((False, True), ordered=False)
        return {
            "stall": {
                "threshold": Axis((0.003, 0.01, 0.03, 0.1, 0.3), factor=3.0, low=1e-5, high=1.0),
                "patience": Axis((1, 2, 3, 5), factor=2.0, low=1, high=50),
                "watch": Axis(("loss", "gradient"), ordered=False),
            },
            "alignment": {
                "threshold": Axis((-0.9, -0.5, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
                "above": booleans,
            },
            "relative_decrease": {
                "threshold": Axis((0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0), factor=2.0, low=1e-4, high=1e4)
            },
            "accept_if_better": {
                "k": Axis((1, 2, 4, 8, 16), factor=2.0, low=1, high=64),
                "longest": Axis((64, 1024)),
                "least_gain": Axis((0.0, 0.03, 0.1, 0.3, 1.0), factor=2.0, high=4.0),
            },
            "momentum_trigger": {
                "threshold": Axis((0.01, 0.03, 0.1, 0.3, 1.0, 3.0), factor=3.0, low=1e-6, high=1e6),
                "after": Axis((1, 2, 5, 10), factor=2.0, low=1, high=self.most),
            },
            "edge_of_stability": {
                "edge": Axis((0.8, 1.0, 1.2, 1.5, 2.0), factor=1.5, low=0.2, high=4.0),
                "up": Axis((1.0, 1.3, 1.6, 2.0), factor=2.0, low=1.0, high=64.0),
                "down": Axis((0.25, 0.5, 0.7), factor=2.0, low=1.0 / 64.0, high=1.0),
                "slow": Axis((0.0, 0.3, 0.7, 1.0, 1.5), factor=2.0, high=1e4),
                "flatten": Axis((1.5, 2.0, 4.0)),
                "first": Axis((0, 1, 2), factor=2.0, high=64),
                "looks": Axis((0, 1, 3), factor=2.0, high=64),
                "opening": Axis(tuple(range(len(self.menu))), ordered=False),
                "landing": Axis(("up", "same", "down"), ordered=False),
            },
        }

    def rule(self, name: str, own: Mapping[str, Axis]) -> Family:
        axes = self._teleporting(**own)
        axes["cooldown"] = Axis((1, 2, 3, 5, 8, 12, 20), factor=2.0, low=1, high=self.most)
        axes["least_steps"] = Axis((1, 3, 6, 12), factor=2.0, low=1, high=self.most)
        settings = [key for key in (*own, "cooldown", "least_steps") if key != "opening"]

        def build(config: Config) -> Agent:
            here, chosen = self._here(config), {key: config[key] for key in settings}
            opening = opening_of(self.menu, config)
            if opening is not None:
                here["searches"] = [opening, *here["searches"]]
                chosen["which"] = 1
            return agent_from(name, **chosen, environment=here)

        example = agent_from(name)
        return Family(example.name, "adaptive", f"the rule {example.name}", axes, build)

    # -- without teleports ---------------------------------------------------------------------------------------------

    def line_search(self) -> Family:
        axes = {"rate": self.rate, **_ARMIJO}

        def build(config: Config) -> Agent:
            optimizer = {"optimizer": "gd_line_search", "growth": config["growth"], "armijo": config["armijo"]}
            return Never(environment=self._here(config, optimizer=optimizer))

        return Family("rate line search", "control", "descent that searches its rate and pays for it", axes, build)

    def layer_rates(self) -> Family:
        sizes = [rows * columns for rows, columns in self.settings.problem.layers.shapes]  # type: ignore[attr-defined]
        factor = Axis(tuple(2.0**k for k in range(-4, 5)), factor=2.0, low=1 / _BIG, high=_BIG)
        axes = {"rate": self.rate, **{f"layer_{number}": factor for number in range(1, len(sizes))}}

        def build(config: Config) -> Agent:
            factors = [1.0, *(config[f"layer_{number}"] for number in range(1, len(sizes)))]
            optimizer = {"optimizer": "layer_rates", "sizes": sizes, "factors": factors}
            return Never(environment=self._here(config, optimizer=optimizer))

        return Family("layer rates", "control", "descent with a constant rate for each layer", axes, build)

    def reset(self) -> Family:
        axes = {"rate": self.rate, "stride": self.stride, "k": self.period}

        def build(config: Config) -> Agent:
            return ResetOptimizer(k=config["k"], offset=config["k"], environment=self._here(config))

        return Family("reset optimizer", "control", "the optimizer's state cleared, nothing moved", axes, build)

    def reference(self, optimizer: str) -> Family:
        axes: dict[str, Axis] = {"rate": self.rate}
        if optimizer == "adam":
            # its rate is a length in parameters, not a multiple of gradients
            axes["rate"] = Axis(tuple(0.05 * 2.0**k for k in range(-4, 5)), factor=2.0, low=1e-6, high=100.0)
            axes |= {
                "beta1": Axis((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
                "beta2": Axis((0.5, 0.8, 0.9, 0.99, 0.999)),
            }
        elif optimizer.startswith("momentum"):
            axes["momentum"] = Axis((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999))
            axes |= _ARMIJO if optimizer.endswith("line_search") else {"nesterov": Axis((False, True), ordered=False)}

        def build(config: Config) -> Agent:
            chosen = {key: value for key, value in config.items() if key != "rate"}
            return Never(environment=self._here(config, optimizer={"optimizer": optimizer, **chosen}))

        return Family(
            REFERENCES[optimizer], "reference", "an optimizer that one would take instead, tuned", axes, build
        )


_ARMIJO = {
    "growth": Axis((1.0, 1.1, 1.5, 2.0, 4.0), factor=2.0, low=1.0, high=16.0),
    "armijo": Axis((1e-4, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.9)),
}
