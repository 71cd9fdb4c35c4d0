"""The cells of the factorial that isolates teleports: who chooses the rate, with or without teleports, on which optimizer.

A cell with teleports has all settings of the cell without, and those that say when and by which search to teleport: the
triggers of `EdgeOfStability`, for every way to choose the rate. Its tuning begins from the best settings without, and
every policy begins as a clone of the best fixed schedule of its own menu. Each cell may play what its counterpart was
tuned to (`study.factorial_pairs`). So a difference is that of teleports, and not of a search in more dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.baselines import ARMIJO, NEUTRAL_EDGE, PLAIN, TOGETHER, Families, canonical_opening, families_of, opening_of
from study.contestants import LEARNED, MOMENTUM, RATE_ONLY, RATE_ONLY_MOMENTUM, Contestant, contestants_of
from teleport_env.agents.base import Agent
from teleport_env.agents.edge_rule import NEVER_FLATTEN, EdgeOfStability
from teleport_env.agents.learning.recipes import plan_first
from teleport_env.agents.tuning.axes import rule_axes
from teleport_env.agents.tuning.search import Axis, Config
from teleport_env.agents.tuning.tuning import Family

CONTROLLER, LEARNED_RATES, LINE_SEARCH = RATES = ("edge of stability", "learned rates", "line search")
DESCENT, HEAVY_BALL = OPTIMIZERS = ("descent", "momentum")

_RATE_SETTINGS = ("edge", "up", "down")
_TRIGGERS = ("slow", "flatten", "first", "looks", "opening", "cooldown", "least_steps")
_STILL: dict[str, Any] = {"slow": 0.0, "flatten": NEVER_FLATTEN, "first": 0}
"""Triggers that never fire."""
_IDLE: dict[str, Any] = {"search": 0, "on_teleport": "keep"}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        rates: One of `RATES`.
        optimizer: One of `OPTIMIZERS`.
        teleports: Whether it may teleport.
    """

    rates: str
    optimizer: str
    teleports: bool

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"{self.rates}, {self.optimizer}" + ", teleports" * self.teleports

    @property
    def without(self) -> Cell:
        """The same without teleports."""
        return replace(self, teleports=False)

    @property
    def with_teleports(self) -> Cell:
        """The same with teleports."""
        return replace(self, teleports=True)


CELLS = tuple(Cell(rates, optimizer, on) for optimizer in OPTIMIZERS for rates in RATES for on in (False, True))
_TRAINED = {
    Cell(LEARNED_RATES, DESCENT, True): LEARNED,
    Cell(LEARNED_RATES, DESCENT, False): RATE_ONLY,
    Cell(LEARNED_RATES, HEAVY_BALL, True): MOMENTUM,
    Cell(LEARNED_RATES, HEAVY_BALL, False): RATE_ONLY_MOMENTUM,
}


def trained_cells(problem: str, budget: float | None) -> dict[Cell, Contestant]:
    """What is trained on a problem, by cell."""
    made = {one.name: one for one in contestants_of(problem, momentum=True, budget=budget)}
    return {cell: _cloning(made[name]) for cell, name in _TRAINED.items()}


def _cloning(one: Contestant) -> Contestant:
    settings = {**plan_first(dict(one.settings)), "warm_start": True}
    # a critic that knows nothing yet would undo what was cloned
    settings["critic_segments"] = max(1, settings.get("critic_segments", 0))
    return replace(one, settings=settings)


def tuned_cells(problem: str, budget: float | None) -> dict[Cell, Family]:
    """What is tuned on a problem, by cell."""
    return dict(_Cells(problem, budget).families())


def family_of(problem: str, budget: float | None, name: str) -> Family:
    """The family of a tuned cell, or of plain descent, by name."""
    if name == PLAIN:
        return families_of(problem, budget)[PLAIN]
    return next(family for cell, family in tuned_cells(problem, budget).items() if cell.name == name)


def begun_from(family: Family, found: Sequence[Config]) -> Family:
    """A family with teleports whose search begins from settings found without them."""
    still = {name: value for name, value in {**_IDLE, **NEUTRAL_EDGE, **_STILL}.items() if name in family.axes}
    first = [{**still, **config} for config in found]
    # the search without may have moved an end of its grid
    wider = {
        name: replace(axis, values=tuple(sorted({*axis.values, *(config[name] for config in first)})))
        for name, axis in family.axes.items()
        if axis.ordered
    }
    return replace(family, axes={**family.axes, **wider}, first=first)


class _Cells(Families):
    def families(self) -> Iterator[tuple[Cell, Family]]:
        for cell in CELLS:
            if cell not in _TRAINED:
                yield cell, self._family(cell)

    def _family(self, cell: Cell) -> Family:
        rules = rule_axes(self.settings.budget, len(self.menu))["edge_of_stability"]
        axes: dict[str, Axis] = {"rate": self.rate, "stride": self.stride}
        axes |= {name: rules[name] for name in _RATE_SETTINGS} if cell.rates == CONTROLLER else ARMIJO
        if cell.optimizer == HEAVY_BALL:
            axes["momentum"] = Axis((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), finest=0.005)
        neutral: dict[str, Any] = {}
        if cell.teleports:
            axes["search"] = Axis(tuple(range(len(self.menu))), ordered=False)
            axes |= {name: rules[name] for name in _TRIGGERS}
            neutral = {**NEUTRAL_EDGE, **_STILL}
            if cell.rates == CONTROLLER:
                axes["landing"] = rules["landing"]
            if cell.optimizer == HEAVY_BALL:
                axes["on_teleport"] = Axis(("keep", "reset"), ordered=False)
        neutral = {name: value for name, value in neutral.items() if name in axes}
        return Family(
            axes,
            lambda config: self._agent(cell, config),
            cell.name,
            "adaptive" if cell.teleports else "control",
            f"rates by {cell.rates}, on {cell.optimizer}, {'with' if cell.teleports else 'without'} teleports",
            self._canonical,
            neutral,
            together=TOGETHER if cell.teleports else (),
        )

    def _agent(self, cell: Cell, config: Config) -> Agent:
        momentum = {"momentum": config["momentum"]} if cell.optimizer == HEAVY_BALL else {}
        chosen: dict[str, Any] = {name: config[name] for name in _RATE_SETTINGS if name in config}
        if cell.rates == CONTROLLER:
            optimizer = {"optimizer": "momentum", **momentum} if momentum else {"optimizer": "gd"}
        else:
            chosen |= {"up": 1.0, "down": 1.0}  # the line search chooses the rate
            name = "momentum_line_search" if momentum else "gd_line_search"
            optimizer = {"optimizer": name, **{key: config[key] for key in ARMIJO}, **momentum}
        if not cell.teleports:
            return EdgeOfStability(**chosen, **_STILL, environment=self.here(config, optimizer=optimizer, searches=[]))
        here = self.here(config, optimizer=optimizer)
        chosen |= {name: config[name] for name in (*_TRIGGERS, "landing") if name in config and name != "opening"}
        if "on_teleport" in config:
            here["on_teleport"] = config["on_teleport"]
        opening = opening_of(self.menu, config)
        if opening is not None:
            here["searches"] = [opening, *here["searches"]]
            chosen["which"] = 1
        return EdgeOfStability(**chosen, environment=here)

    def _canonical(self, config: Config) -> Config:
        """Without settings that do nothing, so that nothing is tried twice."""
        if any(config.get(name, value) != value for name, value in _STILL.items()):
            return canonical_opening(self.menu, config)
        still = {**_IDLE, **NEUTRAL_EDGE, **_STILL}
        return {**config, **{name: value for name, value in still.items() if name in config}}
