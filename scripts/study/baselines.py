"""Families of baselines, controls and references, and how each is tuned on the train split.

Search, timing, learning rate, warm-up and decay are chosen together, by `teleport_env.agents.tuning.tuning`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from teleport_env.agents.base import Agent, agent_from
from teleport_env.agents.edge_rule import NEVER_FLATTEN
from teleport_env.agents.known import known_of, whiten_search
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.presets import REFERENCES
from teleport_env.agents.schedules import Cycle, Every, Never, RandomElement, RandomTiming, ResetOptimizer
from teleport_env.agents.tuning.axes import FACTORS, period_axis, rate_axis, rule_axes
from teleport_env.agents.tuning.plans import NEUTRAL, Plan, canonical
from teleport_env.agents.tuning.roster import including
from teleport_env.agents.tuning.search import Axis, Config, Found
from teleport_env.agents.tuning.tuning import Family
from teleport_env.agents.tuning.tuning import tune as tune_family
from teleport_env.envs.settings import Settings
from teleport_env.searches import search_from, to_dict
from teleport_env.searches.whiten import SIDES

PLAIN = "never"
FIXED = "fixed schedule"
RATE_SCHEDULE = "rate schedule"
WHITENING_CYCLE = "whitening cycle"
DISTILLED = "edge of stability"
"""The rule that was read off learned policies. It is a baseline like any other, but not one that was there before them."""

NEUTRAL_EDGE: dict[str, Any] = {
    "first": 0,
    "looks": 0,
    "opening": 0,
    "flatten": NEVER_FLATTEN,
    "landing": "up",
    "cooldown": 1,
    "least_steps": 1,
}
"""Values at which the many settings of `EdgeOfStability` do nothing."""

TOGETHER = (("looks", "opening"), ("search", "looks", "opening"))
"""Settings of `EdgeOfStability` that act together: which search its first teleports are by, and how many these are."""


def families_of(problem: str, budget: float | None = None) -> dict[str, Family]:
    """The families of a problem by name: teleporting ones where it has a symmetry, layers' rates where it has layers."""
    return {family.name: family for family in Families(problem, budget).all()}


def tune(
    problem: str,
    name: str,
    *,
    count: int,
    instances: int,
    budget: float | None = None,
    reward: str | None = None,
    starts: int = 1,
) -> Found:
    """The best agent of a family on the train split.

    Args:
        problem: Registered name.
        name: Name of the family.
        count: Configurations tried before the refinement.
        instances: Number of instances of the train split that each is tried on; the last choice, a thorough one, is made on
            ten times as many others.
        budget: Gradient evaluations per episode, as in the comparison to come.
        reward: Name of the reward whose return chooses; None: orders gained choose.
        starts: Number of searches, each of so many configurations; the best counts.
    """
    family = families_of(problem, budget)[name]
    asked: dict[str, Any] = {"budget": budget, "reward": reward, "starts": starts, "thorough": True}
    return tune_family({problem: family}, count=count, instances=instances, **asked)


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


def known_of_rule(problem: str, menu: Sequence[tuple[str, dict[str, Any]]], agent: str) -> list[Config]:
    """Settings of an agent that recipes of a problem begin from: a tuned baseline is no worse than what policies begin from.

    Args:
        problem: Registered name.
        menu: `menu_of` the problem; rules that teleport by a search without a place there are left out.
        agent: Registered name of a rule, or of a fixed schedule.
    """
    found: list[Config] = []
    for one in [*_recipes(problem), recipe(problem, reward="score")]:
        rule = dict(one.get("rule") or {})
        if rule.pop("agent", None) != agent:
            continue
        here = Settings.build(problem, **{name: one[name] for name in ("symmetry", "searches") if name in one})
        if here.symmetry is None:
            continue
        places = [(here.symmetry, to_dict(here.searches[index])) for index in rule.pop("searches", ())]
        config = {
            "rate": rule.pop("learning_rate"),
            "stride": one.get("steps_per_action", here.steps_per_action),
            **rule,
        }
        main = config.pop("which", 0)
        if len(places) <= main or any(place not in menu for place in places):
            continue
        same = [place for place in menu if place[0] == here.symmetry]
        config |= {"search": menu.index(places[main]), "opening": same.index(places[0]) if main else 0}
        found.append(config)
    return found


def opening_of(menu: Sequence[tuple[str, dict[str, Any]]], config: Config) -> dict[str, Any] | None:
    """The search of a rule's first teleports, if it has another for them: one that serves the symmetry of the others.

    Args:
        menu: `menu_of` the problem.
        config: Settings of the rule; its ``opening`` is counted round the searches of that symmetry.
    """
    if not config.get("looks"):
        return None
    same = _of_its_symmetry(menu, config)
    return same[config["opening"] % len(same)]


def _of_its_symmetry(menu: Sequence[tuple[str, dict[str, Any]]], config: Config) -> list[dict[str, Any]]:
    return [search_ for symmetry, search_ in menu if symmetry == menu[config["search"]][0]]


def canonical_opening(menu: Sequence[tuple[str, dict[str, Any]]], config: Config) -> Config:
    """A rule's settings without the search of its first teleports where that is the search of all others, so that no rule
    is tried twice and no menu has one search twice; arguments as of `opening_of`."""
    opening = opening_of(menu, config)
    if opening is not None and opening != menu[config["search"]][1]:
        return {**config, "opening": _of_its_symmetry(menu, config).index(opening)}
    return {**config, **{name: 0 for name in ("looks", "opening") if name in config}}


def with_known(
    axes: Mapping[str, Axis], usual: Mapping[str, Any], known: Sequence[Config]
) -> tuple[dict[str, Axis], list[Config]]:
    """Axes that have the values of known settings, and those settings: ``usual`` values are those that they do not name."""
    first = [{name: one[name] if name in one else usual[name] for name in axes} for one in known]
    for one in first:
        axes = {name: including(axis, one[name]) for name, axis in axes.items()}
    return dict(axes), first


class Families:
    """The axes that families of a problem share, and the families."""

    def __init__(self, problem: str, budget: float | None) -> None:
        self.problem = problem
        self.settings = Settings.build(problem, budget=budget)
        self.menu = menu_of(problem)
        self.rate = rate_axis(self.settings.learning_rate)
        strides = {1, self.settings.steps_per_action, *(one.get("steps_per_action", 1) for one in _recipes(problem))}
        self.stride = Axis(tuple(sorted(strides)))
        self.most = int(self.settings.budget)
        self.period = period_axis(self.settings.budget)

    def all(self) -> list[Family]:
        """All families of baselines, controls and references."""
        families = [self.plain(), self.plans(RATE_SCHEDULE, "control", "warm-up and decay, no teleports", False, True)]
        families.append(self.line_search())
        if self.menu:
            families += [
                self.plans(FIXED, "fixed", "teleports and rates at fixed times", True, True),
                self.plans("fixed teleports", "fixed", "teleports at fixed times, one constant rate", True, False),
                *(self.random_timing(), self.random_element(), self.best_of_random()),
                *(self.rule(name, axes) for name, axes in rule_axes(self.settings.budget, len(self.menu)).items()),
            ]
            if self.settings.optimizer.init(torch.zeros(1, 1)):
                families.append(self.reset())
        if hasattr(self.settings.problem, "layers"):
            families.append(self.layer_rates())
        if known_of(self.problem).whitening:
            families.append(self.whitening())
        return families + [self.reference(name) for name in REFERENCES]

    def known(self, agent: str) -> list[Config]:
        """See `known_of_rule`."""
        return known_of_rule(self.problem, self.menu, agent)

    def here(self, config: Config, **more: Any) -> dict[str, Any]:
        """The environment that settings ask for, and whatever ``more`` there is."""
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
        return Family({"rate": self.rate}, lambda c: Never(environment=self.here(c)), PLAIN, "fixed", about)

    def plans(self, name: str, kind: str, about: str, teleports: bool, rates: bool) -> Family:
        zero = (0, *self.period.values)
        times = dataclasses.replace(self.period, values=zero)
        axes = {"rate": self.rate, "stride": self.stride}
        if rates:
            warmup = Axis((0, 1, 2, 4, 8, 16), factor=2.0, high=self.most)
            axes |= {"up": FACTORS["up"], "warmup": warmup, "down": FACTORS["down"], "decay_every": times}
        if teleports:
            axes["which"] = Axis(tuple(range(len(self.menu))), ordered=False)
            axes["first"] = Axis((0, 1, 2, 4, 8), factor=2.0, high=self.most)
            axes["every"] = times

        def build(config: Config) -> Agent:
            rest = {key: value for key, value in config.items() if key not in ("rate", "stride", "which")}
            here = self.here(config, searches=[])
            if "which" in config:
                here = self.here({**config, "search": config["which"]})
            return Plan(config["rate"], **rest).agent(here)

        neutral = {name: value for name, value in NEUTRAL.items() if name in axes}
        known = (
            [{**one, "which": one["search"]} for one in self.known("rate_and_teleport")] if teleports and rates else []
        )
        axes, first = with_known(axes, neutral, known)
        return Family(axes, build, name, kind, about, canonical, neutral, first)

    def _teleporting(self, **axes: Axis) -> dict[str, Axis]:
        searches = Axis(tuple(range(len(self.menu))), ordered=False)
        return {"rate": self.rate, "stride": self.stride, "search": searches, **axes}

    def random_timing(self) -> Family:
        axes = self._teleporting(probability=Axis((0.03, 0.06, 0.12, 0.25, 0.5, 1.0), factor=2.0, low=0.001, high=1.0))
        about = "teleports at random times"
        return Family(
            axes,
            lambda c: RandomTiming(probability=c["probability"], environment=self.here(c)),
            "random timing",
            "fixed",
            about,
        )

    def random_element(self) -> Family:
        about = "a random element, at an interval, whatever it does"
        return Family(
            self._random(),
            lambda c: RandomElement(k=c["k"], scale=c["scale"], environment=self.here(c)),
            "random element",
            "fixed",
            about,
        )

    def _random(self) -> dict[str, Axis]:
        """What settles random elements at an interval."""
        scale = Axis((0.03, 0.1, 0.3, 1.0), factor=3.0, low=0.001, high=1.0)
        axes = {"rate": self.rate, "stride": self.stride, "k": self.period, "scale": scale}
        named = symmetries_of(self.problem)
        return axes | ({"symmetry": Axis(tuple(named), ordered=False)} if len(named) > 1 else {})

    def best_of_random(self) -> Family:
        axes = self._random()
        axes["candidates"] = Axis((1, 2, 4, 8, 16), factor=2.0, low=1, high=64)
        objectives = ("gradient_norm", "balance_gradient", "virtual_step")
        axes["objective"] = Axis(objectives, ordered=False)

        def build(config: Config) -> Agent:
            chosen = {key: config[key] for key in ("scale", "candidates", "objective")}
            return Every(k=config["k"], environment=self.here(config, searches=[{"search": "random", **chosen}]))

        return Family(axes, build, "best of N random", "fixed", "the best of N random elements, at an interval")

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
            here = self.here(config, symmetry="general_linear", searches=searches, steps_per_action=1)
            return Cycle(pattern=tuple(pattern), environment=here)

        about = "whitenings in turn, tuned, a direct method; only the policy that whitens has them in its menu too"
        return Family(axes, build, WHITENING_CYCLE, "reference", about)

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rule(self, name: str, own: Mapping[str, Axis]) -> Family:
        axes = self._teleporting(**own)
        neutral = NEUTRAL_EDGE if "looks" in own else {}

        def build(config: Config) -> Agent:
            here, chosen = self.here(config), {key: config[key] for key in own if key != "opening"}
            opening = opening_of(self.menu, config)
            if opening is not None:
                here["searches"] = [opening, *here["searches"]]
                chosen["which"] = 1
            return agent_from(name, **chosen, environment=here)

        example = agent_from(name)
        about = f"the rule {example.name}"
        usual = {**neutral, **{one: getattr(example, one) for one in own if hasattr(example, one)}}
        axes, first = with_known(axes, usual, self.known(name))
        return Family(
            axes,
            build,
            example.name,
            "adaptive",
            about,
            canonical=lambda config: canonical_opening(self.menu, config),
            neutral=neutral,
            first=first,
            together=TOGETHER if "looks" in own else (),
            # nearly everywhere the best rival of policies, which a policy begins from
            polish=4 if "looks" in own else 0,
        )

    # -- without teleports ---------------------------------------------------------------------------------------------

    def line_search(self) -> Family:
        axes = {"rate": self.rate, **ARMIJO}

        def build(config: Config) -> Agent:
            optimizer = {"optimizer": "gd_line_search", "growth": config["growth"], "armijo": config["armijo"]}
            return Never(environment=self.here(config, optimizer=optimizer))

        return Family(axes, build, "rate line search", "control", "descent that searches its rate and pays for it")

    def layer_rates(self) -> Family:
        sizes = [rows * columns for rows, columns in self.settings.problem.layers.shapes]  # type: ignore[attr-defined]
        axes = {"rate": self.rate, **{f"layer_{number}": rate_axis(1.0) for number in range(1, len(sizes))}}

        def build(config: Config) -> Agent:
            factors = [1.0, *(config[f"layer_{number}"] for number in range(1, len(sizes)))]
            optimizer = {"optimizer": "layer_rates", "sizes": sizes, "factors": factors}
            return Never(environment=self.here(config, optimizer=optimizer))

        return Family(axes, build, "layer rates", "control", "descent with a constant rate for each layer")

    def reset(self) -> Family:
        axes = {"rate": self.rate, "stride": self.stride, "k": self.period}

        def build(config: Config) -> Agent:
            return ResetOptimizer(k=config["k"], offset=config["k"], environment=self.here(config))

        return Family(axes, build, "reset optimizer", "control", "the optimizer's state cleared, nothing moved")

    def reference(self, optimizer: str) -> Family:
        axes: dict[str, Axis] = {"rate": self.rate}
        if optimizer == "adam":
            # its rate is a length in parameters, not a multiple of gradients
            axes["rate"] = Axis(tuple(0.05 * 2.0**k for k in range(-4, 5)), factor=2.0, low=1e-6, high=100.0)
            axes["beta1"] = Axis((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
            axes["beta2"] = Axis((0.5, 0.8, 0.9, 0.99, 0.999))
        elif optimizer.startswith("momentum"):
            axes["momentum"] = Axis((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999))
            axes |= ARMIJO if optimizer.endswith("line_search") else {"nesterov": Axis((False, True), ordered=False)}

        def build(config: Config) -> Agent:
            chosen = {key: value for key, value in config.items() if key != "rate"}
            return Never(environment=self.here(config, optimizer={"optimizer": optimizer, **chosen}))

        about = "an optimizer that one would take instead, tuned"
        return Family(axes, build, REFERENCES[optimizer], "reference", about)


ARMIJO = {
    "growth": Axis((1.0, 1.1, 1.5, 2.0, 4.0), factor=2.0, low=1.0, high=16.0),
    "armijo": Axis((1e-4, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.9)),
}
"""Settings of a line search."""
