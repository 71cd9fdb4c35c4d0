"""Tuning the agents of comparisons once, for the settings that the package keeps as data.

The families are those of the full protocol, made to build the agents of the roster.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from study.baselines import FIXED, RATE_SCHEDULE, families_of
from teleport_env.agents.base import AGENTS, Agent, agent_from
from teleport_env.agents.presets import roster, whitening
from teleport_env.agents.schedules import Schedule
from teleport_env.agents.tuned_settings import FOLDER, TunedSettings, circumstances
from teleport_env.agents.tuning.axes import rate_axis
from teleport_env.agents.tuning.search import Axis, Config
from teleport_env.agents.tuning.tuning import Family, tune_all
from teleport_env.agents.versions import versions
from teleport_env.envs.settings import Settings
from teleport_env.problems import PROBLEMS
from teleport_env.reading import integer, read_fields
from teleport_env.registration import problem_named

SLOW = ("DigitsFull", "Autoencoder")
"""Problems whose tuning takes more than minutes, unless it tries little."""
TUNED = tuple(name for name in PROBLEMS if name not in (*SLOW, "MNIST", "MNISTSmall"))
"""Problems that are tuned where none is named: those that take minutes, from data that are always at hand."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned, and how thoroughly.

    Attributes:
        problems: Registered names, or ``module:Name``.
        count: Configurations tried for each agent before the best is refined.
        instances: Instances of the train split that each configuration is tried on.
        finals: The last choice is made on so many times as many other instances.
        out: Folder for the files.
    """

    problems: tuple[str, ...] = TUNED
    count: int = 96
    instances: int = 16
    finals: int = 6
    out: Path = FOLDER

    def __post_init__(self) -> None:
        read_fields("a tuning", self)
        object.__setattr__(self, "problems", tuple(map(problem_named, self.problems)))
        for name in ("count", "instances", "finals"):
            integer(name, getattr(self, name), 1, 1_000_000)


def families(problem: str) -> dict[str, Family]:
    """What is searched for each agent of a problem's roster, by registered name."""
    made = families_of(problem)
    settings = Settings.build(problem)
    shown = {agent_from(name, **own).name: name for name, own in roster(problem, tuned=False).items() if name in AGENTS}
    found = {shown[name]: family for name, family in made.items() if name in shown}
    found["line_search"] = made["rate line search"]
    found["rate_warmup_decay"] = _scheduled(made[RATE_SCHEDULE], "rate_warmup_decay", ())
    if "every" in shown.values():
        rates = made[FIXED]
        # an agent of that name teleports: no schedule of rates alone takes its place
        first = Axis((1, 2, 4, 8), factor=2.0, low=1, high=int(settings.budget))
        neutral = {name: value for name, value in rates.neutral.items() if name != "first"}
        teleporting = dataclasses.replace(rates, axes={**rates.axes, "first": first}, neutral=neutral)
        found["rate_and_teleport"] = _scheduled(teleporting, "rate_and_teleport", ("first", "every"))
        timed = made["random timing"]
        period = made["random element"].axes["k"]
        for name, times in {"every": period, "first": Axis((1, 2, 3, 5, 8))}.items():
            axes = {**{key: axis for key, axis in timed.axes.items() if key != "probability"}, "k": times}
            found[name] = Family(axes, _timed(name, timed))
    if "whitening" in roster(problem, tuned=False):
        cycle = whitening(problem, tuned=False)
        found["whitening"] = Family(
            {"rate": rate_axis(settings.learning_rate)},
            lambda c: dataclasses.replace(cycle, environment={**cycle.environment, "learning_rate": c["rate"]}),
        )
    return {name: found[name] for name in roster(problem, tuned=False)}


def _scheduled(family: Family, name: str, times: tuple[str, ...]) -> Family:
    """A family of plans whose members are the agents of a registered name."""

    def build(config: Config) -> Agent:
        own = {key: config[key] for key in ("up", "warmup", "down", "decay_every", *times)}
        environment = {key: one for key, one in family.build(config).environment.items() if key != "rate_factors"}
        if not times:
            environment.pop("searches")
        return agent_from(name, **own, environment=environment)

    return dataclasses.replace(family, build=build)


def _timed(name: str, family: Family) -> Callable[[Config], Agent]:
    """Teleports ``k`` of a registered name, in the environment of a family of random times."""

    def build(config: Config) -> Agent:
        return agent_from(name, k=config["k"], environment=family.build({**config, "probability": 1.0}).environment)

    return build


def settings_of(name: str, agent: Agent) -> dict[str, Any]:
    """The settings with which `agent_from` builds an agent of a registered name, in JSON's types.

    Raises:
        ValueError: The agent cannot be built again from them.
    """
    usual = type(agent)() if isinstance(agent, Schedule) else agent
    own = {
        one.name: getattr(agent, one.name)
        for one in dataclasses.fields(agent)
        if one.name not in ("name", "kind", "environment") and getattr(agent, one.name) != getattr(usual, one.name)
    }
    imposed = agent.imposed() if isinstance(agent, Schedule) else {}
    own["environment"] = {key: one for key, one in agent.environment.items() if key not in imposed}
    found: dict[str, Any] = json.loads(json.dumps(own))
    if name in AGENTS and _plain(agent_from(name, **found)) != _plain(agent):
        raise ValueError(f"the agent {name!r} is not built again from {found}")
    return found


def _plain(agent: Agent) -> str:
    content = {key: one for key, one in dataclasses.asdict(agent).items() if key not in ("name", "kind")}
    return json.dumps([type(agent).__name__, content], sort_keys=True)


def tune(problem: str, tuning: Tuning) -> TunedSettings:
    """Tune the agents of a problem's roster."""
    torch.set_num_threads(1)
    wanted = families(problem)
    effort: dict[str, Any] = {"count": tuning.count, "instances": tuning.instances, "finals": tuning.finals}
    found = tune_all([{problem: family} for family in wanted.values()], **effort)
    agents = {}
    for (name, family), one in zip(wanted.items(), found, strict=True):
        own = settings_of(name, family.build(one.config))
        counts = {"tried": one.tried, "episodes": one.episodes, "instances": tuning.instances * tuning.finals}
        agents[name] = {"settings": own, "gained": one.gained, **counts}
    usual = {one.name: one.default for one in dataclasses.fields(Tuning) if one.name in effort}
    asked = [f"--{key} {value}" for key, value in effort.items() if value != usual[key]]
    command = " ".join(["python scripts/tune.py --problems", shlex.quote(problem), *asked])
    return TunedSettings(problem, circumstances(problem), command, versions(), agents)
