"""What the full protocol trains: the policy, and controls that learn by the same effort."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from study import keeping
from study.baselines import families_of
from teleport_env.agents.base import AGENTS, Agent
from teleport_env.agents.known import known_of
from teleport_env.agents.learning.recipes import plan_first, rate_only, recipe, whitening
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.policies.slots import serves
from teleport_env.agents.schedules import RandomTiming
from teleport_env.agents.tuning.search import Config
from teleport_env.optimizers import Momentum, optimizer_from
from teleport_env.problems import problem_from
from teleport_env.searches import search_from, to_dict

LEARNED = "learned"
RATE_ONLY = "learned rate only"
RATE_LINE_SEARCH = "learned rate, line search"
TELEPORTS_ALONE = "learned teleports, no rates"
MOMENTUM = "learned, momentum"
WHITENED = "learned, whitening"
RATE_ONLY_MOMENTUM = "learned rate only, momentum"


@dataclass(frozen=True)
class Contestant:
    """Something that is trained once per seed.

    Attributes:
        name: Name in tables.
        kind: Kind in tables. A learned schedule of momentum without teleports is a reference: it competes with no
            schedule of plain descent.
        about: Description of the row, in a sentence.
        settings: Settings of a `Training`.
    """

    name: str
    kind: str
    about: str
    settings: Mapping[str, Any]

    def training(self, seed: int, out: Path, changes: Mapping[str, Any]) -> Training:
        """The training of one seed."""
        control = {"name": self.name, "control": self.kind != "learned", "rules": 0}
        return Training.of(**{**self.settings, **changes, **control, "seed": seed, "out": out})

    def begun(self, problem: str, tuned: Mapping[str, Mapping[str, Any]], budget: float | None = None) -> Contestant:
        """The same where its training begins from a rule: from the strongest rival that a rule can say.

        That is the rule or fixed schedule that gained most on the train split. Its searches join the menu, its factors the
        rate factors; a search that does not serve its symmetry leaves the menu.

        Args:
            problem: Registered name.
            tuned: Findings of the tunings of the problem's families, by name (`teleport_env.agents.tuning.search.Found`).
            budget: Gradient evaluations per episode, if not the problem's default.
        """
        if not self.settings.get("rule"):
            return self
        families = families_of(problem, budget)
        for name in sorted(tuned, key=lambda name: tuned[name]["gained"], reverse=True):
            config = tuned[name]["config"]
            agent = families[name].agent(config)
            if (said := said_as_rule(agent, config)) is not None:
                return self._from(problem, agent, said)
        return self

    def _from(self, problem: str, agent: Agent, said: Mapping[str, Any]) -> Contestant:
        """The same, begun from an agent that is ``said`` as a rule."""
        here = agent.environment
        symmetry = here.get("symmetry", self.settings.get("symmetry"))
        made, wanted = problem_from(problem), here["searches"]
        searches = [*self.settings["searches"]]
        if wanted:
            searches = [to_dict(search_from(one)) for one in searches if serves(one, made, symmetry)]
            searches += [one for one in wanted if one not in searches]
        factors = dict.fromkeys((1.0, *here.get("rate_factors", ()), *self.settings["rate_factors"]))
        begins = {**said, "learning_rate": here["learning_rate"], "searches": [searches.index(one) for one in wanted]}
        chosen = {"rule": begins, "symmetry": symmetry, "searches": tuple(searches), "rate_factors": tuple(factors)}
        return replace(self, settings={**self.settings, **chosen, "steps_per_action": here["steps_per_action"]})


def said_as_rule(agent: Agent, config: Config) -> dict[str, Any] | None:
    """An agent as the rule of a training, but for rate and searches; None where a policy's menu cannot say it.

    An optimizer of its own cannot be said, nor can teleports at random times, which no clone could learn.

    Args:
        agent: A tuned agent.
        config: Settings that it was tuned in: those that it has itself are said even where they are the usual ones.
    """
    names = [name for name, made in AGENTS.items() if made is type(agent)]
    own = {"learning_rate", "searches", "symmetry", "steps_per_action", "rate_factors"}
    if not names or agent.kind == "reference" or agent.environment.keys() - own or isinstance(agent, RandomTiming):
        return None
    settings = keeping.settings_of(names[0], agent)
    del settings["environment"]
    settings |= {one.name: getattr(agent, one.name) for one in fields(agent) if one.name in ("which", *config)}
    return {"agent": names[0], **settings}


def contestants_of(
    problem: str, momentum: bool = True, budget: float | None = None, reward: str | None = None
) -> list[Contestant]:
    """Whom to train on a problem, at a budget and by a reward if not its defaults."""
    full, rates = (made(problem, budget=budget, reward=reward) for made in (recipe, rate_only))
    # without a rate to choose, a cloned plan has none to teach either
    alone = {**plan_first(full), "rate_factors": (1.0,)}
    lines = {**rates, "optimizer": "gd_line_search"}
    found = [
        Contestant(LEARNED, "learned", "the policy: teleports and rates", full),
        Contestant(RATE_ONLY, "control", "the same training without teleports", rates),
        Contestant(RATE_LINE_SEARCH, "control", "the same without teleports, each step a line search", lines),
    ]
    if len(full.get("rate_factors", (1.0,))) > 1:
        about = "the same training with teleports and one constant rate"
        found.append(Contestant(TELEPORTS_ALONE, "learned", about, alone))
    if known_of(problem).whitening_menu:
        found.append(Contestant(WHITENED, "learned", "the policy with whitenings for a menu", whitening(problem)))
    if momentum:
        # momentum begins from settings of its own, and so does its control
        learned, control = (
            {"optimizer": "momentum", **made(problem, "momentum", budget=budget)} for made in (recipe, rate_only)
        )
        heavy_ball = optimizer_from(learned["optimizer"])
        assert isinstance(heavy_ball, Momentum)
        about = f"the same on momentum of {heavy_ball.momentum} without teleports"
        its = f"a policy on momentum of {heavy_ball.momentum}, from a recipe of its own"
        found.append(Contestant(MOMENTUM, "learned", its, learned))
        found.append(Contestant(RATE_ONLY_MOMENTUM, "reference", about, control))
    return found


def train_policy(training: Training) -> dict[str, Any]:
    """Train, going on from a checkpoint if there is one; what the policy's file holds, and what it took."""
    from teleport_env.agents.learning.training import train

    began = time.perf_counter()
    resumed = (Path(training.out) / "checkpoint.json").exists()
    found = train(training, report=lambda line: None)
    text = (Path(training.out) / "policy.json").read_text(encoding="utf-8")
    searched = list(_values(found.policy.provenance, "episodes"))
    return {
        "policy": text,
        "validation": found.gained,
        "decisions": int(found.history[-1]["decisions"]) if found.history else 0,
        "searched_episodes": sum(searched),
        "seconds": time.perf_counter() - began,
        "resumed": resumed,
    }


def settings_of(training: Training) -> dict[str, Any]:
    """What a training's result depends on: everything but where it is written."""
    content, usual = training.to_json(), Training().to_json()
    # a setting that came later says nothing where it is the usual one: what was trained before it goes on counting
    idle = [name for name in _LATER if content[name] == usual[name] or content[name] == {}]
    return {name: value for name, value in content.items() if name not in ("out", "tensorboard", *idle)}


_LATER = ("rule", "smoothing", "divergence_cost")
"""Settings that there were not when the first kept trainings were made."""


def _values(content: Any, key: str) -> list[int]:
    """All values of a key, at any depth."""
    if isinstance(content, Mapping):
        own = [content[key]] if isinstance(content.get(key), int) else []
        return own + [value for part in content.values() for value in _values(part, key)]
    return []
