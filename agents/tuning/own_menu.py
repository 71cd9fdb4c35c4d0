"""Baselines within one policy's own menu, searched for before its training: the best plan, rule or constant move.

Each has the policy's searches, rate factors and steps per action. The best plan brings the base learning rate and is the
teacher of a warm start; all of them stand in tables beside the policy. Everything tried is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from teleport_env.agents.base import Agent, agent_from
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.policies.learned_moves import MovePlan, Policy
from teleport_env.agents.policies.settings import check_environment
from teleport_env.agents.tuning.axes import period_axis, rate_axis, rule_axes
from teleport_env.agents.tuning.plans import NEUTRAL, Plan, canonical
from teleport_env.agents.tuning.search import Axis, Config, Found
from teleport_env.agents.tuning.tuning import Family, tune
from teleport_env.envs.settings import Settings

RULES = ("relative_decrease", "stall", "alignment", "accept_if_better")
"""Rules that are searched."""


@dataclass(frozen=True)
class Menu:
    """A policy's environment, and how much is tried within it.

    Attributes:
        problem: Registered name.
        environment: Keyword arguments that decide what the policy's actions mean, the base learning rate among them.
        count: Configurations tried before the refinement, whose rounds are a sixteenth as many.
        budget: Gradient evaluations per episode; None: the problem's.
        keep_rate: The base learning rate is settled.
        instances: Number of instances of the train split that everything is tried on; ten times as many others make the
            last choice.
        reward: Name of the reward whose return chooses; None: orders gained choose.
    """

    problem: str
    environment: Mapping[str, Any]
    count: int
    budget: float | None = None
    keep_rate: bool = False
    instances: int = 32
    reward: str | None = None

    @property
    def settings(self) -> Settings:
        return Settings.build(self.problem, budget=self.budget, **self.environment)

    def rate(self) -> Axis:
        base = self.settings.learning_rate
        return Axis((base,)) if self.keep_rate else rate_axis(base)

    def tune(self, family: Family) -> Found:
        rounds = min(24, self.count // 16)
        shared = {name: getattr(self, name) for name in ("count", "instances", "budget", "reward")}
        return tune({self.problem: family}, rounds=rounds, **shared)


def plan_from(content: Mapping[str, Any], environment: Mapping[str, Any]) -> Plan | MovePlan:
    """A plan from its attributes, of the kind that an environment plays.

    Raises:
        TypeError, KeyError: They are not a plan's.
    """
    if environment.get("action_mode") == "group":
        return MovePlan(**{**content, "xi": tuple(content["xi"])})
    return Plan(**content)


def search_plans(menu: Menu) -> dict[str, Any]:
    """The best fixed schedule of rates and teleports, or in the group mode of one element.

    Returns:
        In JSON's types: ``plan``, the attributes of a `Plan` or `MovePlan`; ``gained``, its mean on instances of the train
        split that did not choose the last few; how many plans were ``tried``; ``episodes`` played.
    """
    settings = menu.settings
    if settings.action_mode == "group":
        return _search_moves(menu)
    stride, factors = settings.steps_per_action, settings.rate_factors
    period = period_axis(settings.budget, stride)
    times = replace(period, values=(0, *period.values))
    axes = {
        "learning_rate": menu.rate(),
        "up": Axis(tuple(sorted(factor for factor in factors if factor >= 1.0))),
        "warmup": replace(times, values=(0, *(stride * count for count in (1, 2, 3, 4, 6, 8)))),
        "down": Axis(tuple(sorted(factor for factor in factors if factor <= 1.0))),
        "decay_every": times,
    }
    if settings.searches:
        axes["which"] = Axis(tuple(range(len(settings.searches))), ordered=False)
        axes["first"] = replace(times, values=(0, 1, *(stride * count + 1 for count in (1, 2, 4))))
        axes["every"] = times
    family = Family(
        axes,
        lambda config: Plan(**config).agent(menu.environment),
        canonical=canonical,
        neutral={name: value for name, value in NEUTRAL.items() if name in axes},
    )
    found = menu.tune(family)
    return {"plan": asdict(Plan(**found.config)), **_counts(found)}


def _counts(found: Found) -> dict[str, Any]:
    return {"gained": found.gained, "tried": found.tried, "episodes": found.episodes}


def search_rules(menu: Menu) -> dict[str, Any]:
    """The best of `RULES`: threshold, cooldown, guard of the budget, search, rate and steps per action chosen together.

    Rules have no rate factors.

    Returns:
        In JSON's types: name of the ``rule``, its ``settings`` and ``environment``; the rest as from `search_plans`.
    """
    settings = menu.settings
    known = rule_axes(settings.budget)
    own = {f"{rule}.{name}": axis for rule in RULES for name, axis in known[rule].items()}
    axes = {
        "rule": Axis(RULES, ordered=False),
        "learning_rate": menu.rate(),
        "search": Axis(tuple(range(len(settings.searches))), ordered=False),
        "steps_per_action": Axis(tuple(sorted({1, settings.steps_per_action}))),
        **own,
    }

    def parts(config: Config) -> dict[str, Any]:
        rule = config["rule"]
        chosen = {name.partition(".")[2]: value for name, value in config.items() if name.startswith(f"{rule}.")}
        environment = {name: value for name, value in menu.environment.items() if name != "rate_factors"}
        environment |= {name: config[name] for name in ("learning_rate", "steps_per_action")}
        environment["searches"] = [environment["searches"][config["search"]]]
        return {"rule": rule, "settings": chosen, "environment": environment}

    def alone(config: Config) -> Config:
        """Without settings of other rules than the chosen one."""
        others = [name for name in own if not name.startswith(f"{config['rule']}.")]
        return {**config, **{name: own[name].values[0] for name in others}}

    found = menu.tune(Family(axes, lambda config: rule_played(parts(config)), canonical=alone))
    return {**parts(found.config), **_counts(found)}


def rule_played(found: Mapping[str, Any]) -> Agent:
    """The agent that a file's ``rule``, ``settings`` and ``environment`` are."""
    return agent_from(found["rule"], **found["settings"], environment=found["environment"])


def _search_moves(menu: Menu) -> dict[str, Any]:
    """The best fixed schedule of the group mode: the same element again and again.

    The rate is searched for even where the policy's is settled, which need not suit a plan. It is chosen more finely than in
    a menu, whose rate factors make up for it: on Booth a quarter turn is worth two orders of magnitude more at 0.07 than at
    0.105.
    """
    settings = menu.settings
    base = settings.learning_rate
    coordinates = [f"xi_{number}" for number in range(settings.group_dim)]
    axes = {
        "learning_rate": Axis(tuple(base * 2.0 ** (k / 4) for k in range(-16, 13)), factor=2.0**0.25),
        "every": Axis((0, 1, 2, 3, 4, 6, 8)),
        "first": Axis((0, 1, 2, 4)),
        **dict.fromkeys(coordinates, Axis(tuple(k / 8 for k in range(-8, 9)), finest=0.02)),
    }
    idle = {**dict.fromkeys(coordinates, 0.0), "first": 0}

    def plan(config: Config) -> MovePlan:
        xi = tuple(config[name] for name in coordinates)
        return MovePlan(config["learning_rate"], xi, config["every"], config["first"])

    family = Family(
        axes,
        lambda config: plan(config).agent(menu.environment),
        canonical=lambda config: config if config["every"] else {**config, **idle},
        neutral=idle,
    )
    found = menu.tune(family)
    best = asdict(plan(found.config))
    return {"plan": {**best, "xi": list(best["xi"])}, **_counts(found)}


def plan_of(policy: Policy) -> Agent | None:
    """The best fixed schedule that the training of a policy found, as an agent; None if it searched for none.

    Raises:
        ValueError: The policy's file says something else than a plan.
    """
    return _best(policy, "plan", lambda found: plan_from(found["plan"], policy.environment).agent(policy.environment))


def rule_of(policy: Policy) -> Agent | None:
    """The best rule that the training of a policy found, as an agent; None if it searched for none.

    Raises:
        ValueError: The policy's file says something else than a rule.
    """
    return _best(policy, "rule", _known_rule)


def fallback_of(policy: Policy) -> Agent | None:
    """What to play in place of a policy that its training found to be worth less: a plan, a rule, plain descent, or the
    policy with its teleports masked (`Masked`).

    It is of the policy's kind, whatever it is by itself: tables have one kind per name, and it is another thing per problem.

    Raises:
        ValueError: The policy's file says something else.
    """

    def build(found: Mapping[str, Any]) -> Agent:
        if found.get("masked") is True:
            if not isinstance(policy, LearnedSchedule):
                raise ValueError("a policy of the group mode has no teleports to mask")
            return Masked(policy=policy)
        if "rule" in found:
            check_environment(found["rule"]["environment"])
            return rule_played(found["rule"])
        return plan_from(found["plan"], policy.environment).agent(policy.environment)

    found = _best(policy, "fallback", build)
    return found and replace(found, name=f"{policy.name}{_FALLBACK}", kind=policy.kind)


_FALLBACK = ", fallback"
_BASELINES: Mapping[str, Callable[[Policy], Agent | None]] = {"best plan of ": plan_of, "best rule of ": rule_of}


def menu_baseline(agent: str) -> tuple[Callable[[Policy], Agent | None], str] | None:
    """What finds a baseline of a policy's menu, and the policy's name, from the baseline's; None for any other name."""
    for opening, find in _BASELINES.items():
        if agent.startswith(opening):
            return find, agent.removeprefix(opening)
    return (fallback_of, agent.removesuffix(_FALLBACK)) if agent.endswith(_FALLBACK) else None


def found_in_menu(agent: str) -> bool:
    """Whether a name is that of a baseline of a policy's menu, which is no agent by itself."""
    return menu_baseline(agent) is not None


def _known_rule(found: Mapping[str, Any]) -> Agent:
    check_environment(found["environment"])
    if found["rule"] not in RULES:
        raise ValueError(f"{found['rule']!r} is none of {', '.join(RULES)}")
    return rule_played(found)


def _best(policy: Policy, kind: str, build: Callable[[Any], Agent]) -> Agent | None:
    found = policy.provenance.get(kind)
    if found is None:
        return None
    try:
        return replace(build(found), name=f"best {kind} of {policy.name}")
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the {kind} in the file of the policy {policy.name!r} is none: {error}") from error
