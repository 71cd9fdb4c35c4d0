"""Agents by name on a problem: ``stall``, ``every:k=3``, ``my_module:my_rule``, ``model.zip:learning_rate=0.1``.

A name means one thing: the agent that the comparison's roster has on the problem, with its menu and its settings, unless
others are given. What cannot play as it is asked for is refused before anything is played.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from teleport_env.agents.base import AGENTS, Agent, agent_from
from teleport_env.agents.outside import ARGUMENTS, Outside, as_agent
from teleport_env.agents.policies.learned import (
    GENERALIST,
    LearnedSchedule,
    generalists,
    shipped,
    shipped_for,
    specialists,
)
from teleport_env.agents.policies.learned_moves import Policy, load_policy
from teleport_env.agents.policies.slots import search_prices
from teleport_env.agents.presets import roster, whitening, with_menu
from teleport_env.agents.schedules import (
    AtSteps,
    Cycle,
    Every,
    First,
    Never,
    RandomTiming,
    RateAndTeleport,
    RateWarmupDecay,
    Schedule,
)
from teleport_env.agents.tuned_settings import read_tuned, tuned_settings
from teleport_env.agents.tuning.own_menu import fallback_of, found_in_menu, menu_baseline
from teleport_env.envs.settings import Settings
from teleport_env.optimizers import optimizer_from
from teleport_env.reading import known, parameters, refuse, suggestion
from teleport_env.registration import import_own

MODEL = ".zip"
"""Ending of the files that stable-baselines3 writes."""

POLICY = ".json"
"""Ending of the files that ``scripts/train.py`` writes."""

SHIPPED = "pretrained"
"""Name of the policies that the package brings: a problem's own, or else the generalist."""

SPECIALIST = "specialist"
"""Name of the policy that the package brings for one problem."""

SCORE_SPECIALIST = "score_specialist"
"""Name of the one that was trained by the reward ``score``, to be early."""

HOW = """\
An agent is a name with settings: every:k=3   at_steps:steps=[4,8]   stall:patience=3,threshold=0.05
Values are JSON. Every agent also takes what it asks of the environment: learning_rate, rate_factors, steps_per_action,
searches, symmetry, optimizer, on_teleport. Settings that are not given are those that were tuned for the problem
and are kept in the package, else those of the problem's roster, else those below.
my_module:my_rule imports my_module and plays what that registers as my_rule.
policy.json plays a policy that scripts/train.py has written, and pretrained the one that the package brings for the problem:
its specialist where there is one, or else the generalist. Both can be asked for by these names too, and so can
generalist_seven, score_specialist (on some problems: trained by the reward score, to be early), and what their
training found beside them: "best plan of specialist", "best rule of specialist".
model.zip plays a model of stable-baselines3 or sb3-contrib; its settings are those of the environment that it was made for.
"""


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings of ``"name:setting=value,setting=value"``; values are JSON, or else text.

    A module of one's own stands before the name, ``"module:name:setting=value"``, and stays part of it.

    Raises:
        ValueError: A setting without a value, or one that stands twice.
    """
    if not isinstance(text, str):
        refuse("an agent's name", "text such as 'every:k=3'", text)
    name, colon, rest = text.partition(":")
    first = rest.partition(":")[0]
    if colon and "=" not in first and name not in AGENTS:
        own, colon, rest = rest.partition(":")
        name = f"{name}:{own}"
    settings: dict[str, Any] = {}
    for part in _split(rest) if colon else ():
        key, sign, value = part.partition("=")
        if not sign or not key.strip().isidentifier() or key.strip() in settings:
            raise ValueError(
                f"agent {text!r}: {part!r} is no setting, or stands twice; write name:setting=value,setting=value, such as "
                "every:k=3,offset=2"
            )
        settings[key.strip()] = _value(value.strip())
    return name, settings


def typed(name: str, settings: Mapping[str, Any]) -> str:
    """A name with settings as one types them: `parse` reads it."""
    return name + ":" * bool(settings) + ",".join(f"{key}={_shown(value)}" for key, value in settings.items())


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no bracket and in no string."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += (letter in "[{(") - (letter in "]})") if not quoted else 0
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def agent_for(
    problem: str, text: str, *, trust: bool = False, budget: float | None = None, tuned: bool = True
) -> Agent:
    """The agent that a text names, as it plays a problem.

    Args:
        problem: Registered name.
        text: Text in the form that the head of this module describes.
        trust: Read the file of a model, which is unpickled: it can run any code.
        budget: Gradient evaluations per episode; None: the problem's.
        tuned: Take the settings that the package keeps, where they hold, for what the text leaves open. They hold for no
            other environment: where the text asks for something of it besides the rate, they are not taken.

    Raises:
        ValueError: There is no such agent, it has no such settings, or it cannot play the problem with them.
        ImportError: A model's library is not installed.
        FileNotFoundError: There is no such file.
    """
    name, given = parse(text)
    called = _label(name, given) or (text if given else None)  # what was asked distinguishes two of a name
    beside = menu_baseline(name)
    if beside is not None and (policy := _policy(problem, beside[1])) is not None:
        agent: Agent = _beside(policy.for_problem(problem), name, beside[0], given)
    elif (policy := _policy(problem, name)) is not None:
        policy = policy.for_problem(problem, **given)
        # a policy was judged in its own environment: in another it plays itself
        fallback = None if given else fallback_of(policy)
        if fallback is not None:  # it was played when it was chosen, and that of plain descent has no teleport
            return fallback if called is None else dataclasses.replace(fallback, name=called)
        agent = policy
        if called == text:  # a policy's name stands in names of files
            called = re.sub(r"[^\w .,:;+*()~-]+", " ", text.replace(name, Path(name).stem, 1))[:80]
    elif name.endswith(MODEL):
        if not trust:
            raise ValueError(
                f"{name} is a model that is read by unpickling, which can run any code: pass --trust (trust=True) if you "
                "trust its author"
            )
        from teleport_env.agents.saved import saved_policy

        agent = as_agent(saved_policy(name), environment=given)
        called = Path(name).stem if called in (None, text) else called
    else:
        agent = _named(problem, name, given, tuned, budget)
    if called is not None:
        agent = dataclasses.replace(agent, name=called)
    check_player(problem, agent, budget)
    return agent


def best_rule(problem: str, budget: float | None = None) -> str | None:
    """Name of the rule as shipped: of those whose tuned settings the package keeps, the best on the train split.

    Args:
        problem: Registered name.
        budget: Gradient evaluations per episode; None: the problem's.

    Returns:
        The name that `agent_for` takes, of equals the first that the package keeps; None where no tuned settings hold.
    """
    return next(iter(kept_rules(problem, budget)), None)


def kept_rules(problem: str, budget: float | None = None) -> dict[str, dict[str, Any]]:
    """Settings of the rules that the package keeps tuned, by name, the best on the train split first; as `best_rule`."""
    kept, settings = read_tuned(problem), tuned_settings(problem, budget)
    if not kept:
        return {}
    rules = [name for name in settings if name in AGENTS and agent_from(name, **settings[name]).kind == "adaptive"]
    return {name: settings[name] for name in sorted(rules, key=lambda name: -kept.agents[name]["gained"])}


def _policy(problem: str, name: str) -> Policy | None:
    """The policy that a name stands for: a file's, or one that the package brings; None where it is no policy's name."""
    if name.endswith(POLICY):
        return load_policy(name)
    asked = name.casefold()
    if asked == SPECIALIST and problem not in shipped():
        raise ValueError(
            f"the package brings no specialist for {problem}; it brings one for {', '.join(specialists())}. "
            f"{GENERALIST!r} plays every problem that has a symmetry, and scripts/train.py trains a policy"
        )
    if asked == SCORE_SPECIALIST:
        if problem not in specialists("score"):
            raise ValueError(
                f"the package brings no {SCORE_SPECIALIST} for {problem}; it brings one for "
                f"{', '.join(specialists('score'))}. scripts/train.py --reward score trains a policy"
            )
        return LearnedSchedule.pretrained(problem, reward="score")
    if asked in (SHIPPED, SPECIALIST):
        return shipped_for(problem)[0]
    if not asked.startswith(GENERALIST):
        return None
    several = {one: LearnedSchedule.pretrained(one) for one in generalists()}
    return next((policy for one, policy in several.items() if asked in (one, policy.name)), None)


def _beside(policy: Policy, name: str, find: Callable[[Policy], Agent | None], given: Mapping[str, Any]) -> Agent:
    """What the training of a policy found beside it."""
    if given:
        raise ValueError(f"{name!r} has no settings, got {', '.join(given)}: its training chose them")
    found = find(policy)
    if found is None:
        raise ValueError(
            f"there is no {name!r}: the training of that policy kept none. {policy.name!r} plays by itself"
        )
    return found


def _named(problem: str, name: str, given: Mapping[str, Any], tuned: bool, budget: float | None) -> Agent:
    module, _, own = name.rpartition(":")
    if module:
        import_own(module)
    elsewhere = given.keys() & {"environment", *ARGUMENTS} - {"learning_rate"}
    which: dict[str, Any] = {"tuned": tuned and not elsewhere, "budget": budget}
    listed = roster(problem, **which)
    name = _titles(listed).get(own, own)  # tables write "at steps"
    if name.casefold() == "whitening":
        if given:
            raise ValueError(f"whitening has no settings, got {', '.join(given)}")
        return whitening(problem, **which)
    name = known(
        "agent", name, [*AGENTS, "whitening", SHIPPED, SPECIALIST, SCORE_SPECIALIST, *generalists()], _ELSEWHERE
    )
    return with_menu(problem, _built(name, given, listed.get(name, {})))


_ELSEWHERE = (
    "--agents help lists them. Solvers such as L-BFGS, the oracle, and what a page of results tuned or trained for itself "
    "play in comparisons alone"
)


def _titles(listed: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The registered names of agents by what tables call them, as they are ``listed`` in a roster."""
    found = {}
    for name in AGENTS:
        with contextlib.suppress(ValueError):  # one of a user's, which needs settings
            found[agent_from(name, **listed.get(name, {})).name] = name
    return found


def _built(name: str, given: Mapping[str, Any], others: Mapping[str, Any]) -> Agent:
    """The agent of that name, with settings that were ``given`` and others; those of the environment may be among both."""
    fields, more = parameters(AGENTS[name])
    for key in given:
        if not more and key not in fields and key not in ARGUMENTS:
            raise ValueError(
                f"agent {name!r} has no setting {key!r}; it has {', '.join(fields)}, and what it asks of the environment: "
                f"{', '.join(ARGUMENTS)}.{suggestion(key, (*fields, *ARGUMENTS))}"
            )
    settings = {**others, **given}
    asked = {key: settings.pop(key) for key in list(settings) if key in ARGUMENTS and key not in fields}
    if asked:
        settings["environment"] = {**settings.get("environment", {}), **asked}
    return agent_from(name, **settings)


def agent_named(text: str) -> Agent:
    """The agent that a text names, for no problem in particular: what the text leaves open has the agent's own defaults.

    Args:
        text: A name with settings, as the head of this module says; not the file of a model.

    Raises:
        ValueError: There is no such agent, or it has no such settings.
    """
    name, given = parse(text)
    if name.endswith(MODEL):
        raise ValueError(f"{name} is the file of a model: load it, and pass the object")
    module, _, own = name.rpartition(":")
    if module:
        import_own(module)
    label = _label(name, given)
    agent = _built(known("agent", own, AGENTS, "python scripts/compare.py --agents help lists them"), given, {})
    return agent if label is None else dataclasses.replace(agent, name=label)


def _label(agent: str, given: dict[str, Any]) -> str | None:
    """Take the name that tables are to show from the settings.

    Raises:
        ValueError: It is that of another agent.
    """
    label: str | None = given.pop("name", None)
    if label is not None and (not isinstance(label, str) or (label in AGENTS and label != agent)):
        refuse(f"name of agent {agent!r}", "what tables are to call it, and not the name of another agent", label)
    return label


def check_player(problem: str, agent: Agent, budget: float | None = None) -> None:
    """See that an agent can play a problem, and that one which is to teleport can do so within the budget.

    Raises:
        ValueError: It cannot; why, and what to change.
    """
    environment = {**agent.environment, **({} if budget is None else {"budget": budget})}
    settings = Settings.build(problem, **{"split": "train", **environment})
    if isinstance(agent, Never | Schedule | Cycle) and settings.action_mode != "schedule":
        raise ValueError(
            f"agent {agent.name!r} chooses among gradient steps and searches: it needs action_mode='schedule', and its "
            f"environment has {settings.action_mode!r}"
        )
    if isinstance(agent, Outside):
        agent.check_actions(settings)
    if first_teleport(agent) is None:
        return
    asked = {key: value for key, value in environment.items() if key != "searches"}
    check_teleports(
        f"agent {agent.name!r} cannot teleport on {problem}",
        agent,
        len(settings.searches),
        settings.budget,
        lambda which: search_prices(problem, [settings.searches[which]], **asked)[0],
    )


def check_teleports(
    what: str, agent: Any, menu: int | None, budget: float, price_of: Callable[[int], float] = lambda which: 0.0
) -> None:
    """See that the first teleport of an agent that is meant to teleport can come.

    Args:
        what: Subject of the message: the thing that cannot work.
        agent: The agent.
        menu: Number of searches; None: not known.
        budget: Gradient evaluations per episode.
        price_of: Price of the search with a given number, in gradient evaluations.

    Raises:
        ValueError: It cannot; why, and what to change.
    """
    first = first_teleport(agent)
    if first is None:
        return
    if first == math.inf:
        raise ValueError(f"{what}: its settings name no teleport. The agent 'never' plays plain descent")
    if menu == 0:
        raise ValueError(f"{what}: its menu is empty; name searches=[...] for a problem that has a symmetry")
    which, actions = getattr(agent, "which", 0), None if menu is None else agent.step_actions + menu
    if actions is not None and (
        which >= actions - agent.step_actions or actions <= max(getattr(agent, "pattern", (0,)))
    ):
        raise ValueError(
            f"{what} as it is asked to: its menu has {menu} searches, and actions 0 to {actions - 1}; name more "
            "searches=[...], or a smaller which or pattern"
        )
    price = price_of(which)
    if least_budget(agent, price) > budget:
        costs = f" and costs up to {price:.3g} gradient evaluations" if price else ""
        raise ValueError(
            f"{what}: its first teleport comes after {first:g} gradient steps{costs}, and the budget is {budget:g} gradient "
            "evaluations; teleport earlier, or raise the budget"
        )


def least_budget(agent: Any, price: float) -> float:
    """Gradient evaluations that the first teleport of an agent needs, where it costs ``price``."""
    # one evaluation at the start; the steps to be taken before and after the teleport
    return 1.0 + (first_teleport(agent) or 0.0) + price + getattr(agent, "least_steps", 0)


def first_teleport(agent: Any) -> float | None:
    """Gradient steps before the first teleport that an agent can ask for; None: it is not meant to, or not known."""
    match agent:
        case AtSteps():
            return float(agent.steps[0]) if agent.steps else math.inf
        case Every():
            return float(agent.offset)
        case First():
            return 0.0 if agent.k else math.inf
        case RandomTiming():
            return 0.0 if agent.probability else math.inf
        case RateAndTeleport():
            return 0.0 if agent.first else 1.0 if agent.every else math.inf  # no step is long after a teleport yet
        case RateWarmupDecay():
            return None
        case Cycle():
            teleports = [place for place, action in enumerate(agent.pattern) if action >= agent.step_actions]
            return float(teleports[0]) if teleports else math.inf  # all actions before it are steps
        case Schedule():
            return 0.0
    return None


def players(
    problem: str, asked: Sequence[Any], *, trust: bool = False, budget: float | None = None, tuned: bool = True
) -> list[Agent]:
    """Agents from names (`agent_for`), and from whatever `as_agent` takes; each is checked like those of `agent_for`."""
    found = []
    for one in asked:
        if isinstance(one, str):
            found.append(agent_for(problem, one, trust=trust, budget=budget, tuned=tuned))
        else:
            found.append(as_agent(one))
            check_player(problem, found[-1], budget)
    return found


def described_agents() -> str:
    """How agents are named, and every registered one with its settings and defaults: what ``--agents help`` prints."""
    lines = [HOW]
    for name in AGENTS:
        try:
            agent = agent_from(name)
        except ValueError as error:  # one of a user's, which needs settings
            lines.append(f"{name}: {error}")
            continue
        fields, _ = parameters(AGENTS[name])
        own = [key for key in fields if key not in ("name", "kind", "environment") and hasattr(agent, key)]
        settings = ", ".join(f"{key}={_shown(getattr(agent, key))}" for key in own)
        lines.append(f"{name} ({agent.kind}): {about(agent)}" + (f"\n    {settings}" if settings else ""))
    lines.append(
        "whitening (fixed): Steps that are Newton's in one layer; on the problems where such teleports are known."
    )
    return "\n".join(lines)


def about(agent: Agent) -> str:
    """A sentence on what an agent does."""
    if agent.kind == "learned" and agent.name in _SHIPPED_ABOUT:
        return _SHIPPED_ABOUT[agent.name]
    optimizer = agent.environment.get("optimizer") if isinstance(agent, Never) else None
    if isinstance(agent, Never) and not optimizer:
        return "Plain descent: gradient steps and no teleports."
    if optimizer:
        words = _summary(optimizer_from(optimizer)).rstrip(".") + ". It never teleports"
        given = (
            {key: one for key, one in optimizer.items() if key != "optimizer"} if isinstance(optimizer, Mapping) else {}
        )
        return words + (f" ({', '.join(f'{key} {_shown(one)}' for key, one in given.items())})." if given else ".")
    within = ", the best found within a policy's own menu" if found_in_menu(agent.name) else ""
    return _summary(agent).rstrip(".") + within + "."


_SHIPPED_ABOUT = {
    SPECIALIST: "A policy network that was trained on this problem alone and chooses each action from what it sees.",
    SCORE_SPECIALIST: "A policy network that was trained on this problem alone to be early, by the reward score.",
    GENERALIST: "One policy network for many problems, trained on all of them together, that chooses each action.",
}


def _summary(thing: Any) -> str:
    return " ".join((type(thing).__doc__ or "").strip().split("\n\n")[0].split())


def _shown(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
