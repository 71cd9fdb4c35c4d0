"""Cloning: a network learns to do what a plan, a rule or another policy does, before it learns to do better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from teleport_env.agents.base import Agent, State, agent_from
from teleport_env.agents.eager import Adam
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.slots import search_prices
from teleport_env.agents.rules import Rule
from teleport_env.agents.tuning.plans import Plan
from teleport_env.envs.features import INDEX
from teleport_env.searches import search_from, to_dict

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

_PASSES = 30
_BATCH = 2048


@dataclass(frozen=True)
class Demonstration:
    """What a teacher saw, and how it decides there.

    Attributes:
        observations: ``(N, F)`` float32.
        probabilities: ``(N, actions)`` float32.
    """

    observations: np.ndarray
    probabilities: np.ndarray


def shown(training: Training, teacher: Agent | Plan, instances: int) -> Demonstration:
    """How a teacher decides on instances of the train split.

    Args:
        training: Training on the one problem.
        teacher: A policy of the training's environment, which draws its actions; a plan; or a rule, whose actions are
            translated (`check_rule`). A share of what plans and rules do, `Teaching.smoothing`, is anything.
        instances: Number of instances.
    """
    ids = draw_instances(training.only, "train", instances, training.seed + 1)
    count = training.settings().action_count
    if isinstance(teacher, Plan):
        own = teacher.agent(training.policy_environment(teacher.learning_rate))
        prices = search_prices(training.only, own.environment["searches"], **training.environment)
        share = prices[0] / training.settings().budget if prices else None
        agent = _Teacher(agent=own, translated=_translated(training, own), price=share)
    elif isinstance(teacher, LearnedSchedule):
        agent = _Teacher(agent=replace(teacher, stochastic=True), translated=np.arange(count))
    else:
        agent = _Teacher(agent=teacher, translated=check_rule(training, teacher))
    environment = {**training.environment, "learning_rate": agent.agent.environment["learning_rate"]}
    agent = replace(agent, environment=environment)
    played = play(training.only, agent, ids, split="train", seed=training.seed, observations=True)
    assert played.actions is not None
    assert played.observations is not None
    made = played.actions >= 0  # not where episodes have ended
    seen, actions = played.observations[made], played.actions[made]
    if isinstance(teacher, LearnedSchedule):
        return Demonstration(seen, teacher.probabilities(seen).astype(np.float32))
    chosen = np.eye(count, dtype=np.float32)[actions]
    smoothing = training.teaching.smoothing
    return Demonstration(seen, (1.0 - smoothing) * chosen + np.float32(smoothing / count))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Teacher(Agent):
    """An agent in an environment that is not its own, which sees and does there what it would at home.

    Attributes:
        agent: Agent that decides.
        translated: Actions of the environment that its own stand for.
        price: Price of its teleports, as a share of the whole budget; None: that of the cheapest teleport there.
    """

    agent: Agent
    translated: np.ndarray
    price: float | None = None

    def initial_state(self, count: int) -> State:
        return self.agent.initial_state(count)

    def decide(self, observation: np.ndarray, memory: State) -> np.ndarray:
        if self.price is not None:
            observation = observation.copy()
            left = np.maximum(observation[:, INDEX["budget_left"]], 1e-9)
            observation[:, INDEX["price"]] = np.minimum(np.float32(self.price) / left, 1.0)
        return self.translated[self.agent.decide(observation, memory)]


def rule_content(training: Training) -> dict[str, Any] | None:
    """The rule that a training begins from, as a policy's file says it: ``rule``, ``settings`` and ``environment``."""
    if not training.teaching.rule:
        return None
    own = {"searches": [], **training.teaching.rule}
    name, rate, indices = (own.pop(key) for key in ("agent", "learning_rate", "searches"))
    environment = training.policy_environment(rate)
    searches = [environment["searches"][index] for index in indices]
    del environment["rate_factors"]  # the rule has its own
    return {"rule": name, "settings": own, "environment": {**environment, "searches": searches}}


def rule_from(training: Training) -> Agent | None:
    """The rule that a training begins from, in the training's environment; None if it has none.

    Raises:
        ValueError: There is no such rule, its settings are not allowed, or it does what the training's actions cannot.
    """
    if not training.teaching.rule:
        return None
    chosen = {"searches": [], **training.teaching.rule}
    missing = [name for name in ("agent", "learning_rate") if name not in chosen]
    if missing:
        raise ValueError(f"rule needs {' and '.join(missing)}, got {dict(training.teaching.rule)}")
    name = chosen.pop("agent")
    settings = training.settings()
    indices = chosen.pop("searches")
    if not all(isinstance(index, int) and 0 <= index < len(settings.searches) for index in indices):
        raise ValueError(
            f"searches of the rule must be indices of the menu, below {len(settings.searches)}, got {indices}"
        )
    menu = [settings.searches[index] for index in indices]
    environment = {"learning_rate": chosen.pop("learning_rate"), "searches": menu}
    environment["steps_per_action"] = settings.steps_per_action
    rule = agent_from(name, **chosen, environment=environment)
    check_rule(training, rule)
    if not 0 <= getattr(rule, "which", 0) < max(1, len(menu)) or (isinstance(rule, Rule) and not menu):
        raise ValueError(
            f"the rule {name!r} teleports by search {getattr(rule, 'which', 0)} of its own, but its searches are {indices}: "
            "name as many indices of the training's menu"
        )
    return rule


def check_rule(training: Training, rule: Agent) -> np.ndarray:
    """Indices of the training's actions that a rule's stand for.

    Raises:
        ValueError: A rate factor or a search is not among the training's, or the rule asks for another optimizer or
            symmetry.
    """
    foreign = sorted(rule.environment.keys() - {"learning_rate", "searches", "steps_per_action", "rate_factors"})
    if foreign:
        raise ValueError(
            f"the rule asks for {', '.join(foreign)}, which is the training's own: such a rule cannot teach"
        )
    return _translated(training, rule)


def _translated(training: Training, rule: Agent) -> np.ndarray:
    settings = training.settings()
    factors = list(settings.rate_factors)
    menu = [to_dict(search) for search in settings.searches]
    found: list[int] = []
    for factor in rule.environment.get("rate_factors", (1.0,)):
        if factor not in factors:
            raise ValueError(f"the rule has the rate factor {factor}, but the training {factors}")
        found.append(factors.index(factor))
    for search in map(to_dict, map(search_from, rule.environment.get("searches", ()))):
        if search not in menu:
            raise ValueError(f"the rule has the search {search}, but the training {menu}")
        found.append(len(factors) + menu.index(search))
    return np.array(found)


def teacher_of(training: Training, paths: tuple[Path, ...]) -> LearnedSchedule | None:
    """The first of some policies that was trained on a training's one problem; None if none was.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: It plays in another environment than the training's: its actions would mean something else.
    """
    for path in paths:
        policy = LearnedSchedule.load(path)
        if training.only not in policy.problems:
            continue
        teacher = policy.for_problem(training.only)
        mine, its = (_meaning(one) for one in (training.policy_environment(1.0), teacher.environment))
        if mine != its:
            raise ValueError(f"the teacher {path} plays {training.only} in {its}, but the training in {mine}")
        return teacher
    return None


def _meaning(environment: Mapping[str, Any]) -> dict[str, Any]:
    """An environment without its learning rate, in one form."""
    searches = [to_dict(search_from(search)) for search in environment.get("searches") or ()]
    kept = {name: value for name, value in environment.items() if name != "learning_rate"}
    return {**kept, "searches": searches}


def clone(network: nn.Module, lesson: Demonstration, generator: torch.Generator) -> float:
    """Teach a network, observations ``(N, F)`` to logits ``(N, actions)``, to decide as shown; it is changed in place.

    Returns:
        The share of the lesson's likeliest actions that the network would choose.
    """
    observations, targets = torch.as_tensor(lesson.observations), torch.as_tensor(lesson.probabilities)
    entropy = nn.CrossEntropyLoss()
    _fit(network, len(targets), lambda rows: entropy(network(observations[rows]), targets[rows]), generator)
    with torch.no_grad():
        return float((network(observations).argmax(dim=1) == targets.argmax(dim=1)).float().mean())


def _fit(
    network: nn.Module, count: int, loss: Callable[[torch.Tensor], torch.Tensor], generator: torch.Generator
) -> None:
    """Adam on the loss of some of ``count`` examples at a time, with a rate that falls linearly."""
    optimizer = Adam(network.parameters(), lr=3e-3)
    for number in range(_PASSES):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1.0 - number / _PASSES)
        for rows in torch.randperm(count, generator=generator).split(_BATCH):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()


# -- the group mode ----------------------------------------------------------------------------------------------------

_GATE = 0.3
"""The first number of a cloned action: near enough to 0 that a Gaussian around it tries the other side."""


def shown_by_moves(env: VecEnv, teacher: Agent, actions: int) -> Demonstration:
    """What an agent of the group mode does in so many ``actions`` of each run; they stand in place of probabilities."""
    observation: Any = env.reset()
    begins, state = np.ones(env.num_envs, dtype=bool), None
    seen, shown = [], []
    for _ in range(actions):
        action, state = teacher.predict(observation, state, begins)
        seen.append(observation.copy())
        shown.append(action.copy())
        observation, _, begins, _ = env.step(action)
    return Demonstration(np.concatenate(seen), np.concatenate(shown))


def clone_moves(network: nn.Module, lesson: Demonstration, generator: torch.Generator) -> float:
    """As `clone`, from observations to actions ``(N, 1 + d)``; the element counts where it is used.

    Returns:
        The root mean square error of what it learned.
    """
    observations, targets = torch.as_tensor(lesson.observations), torch.as_tensor(lesson.probabilities)
    weights = (targets[:, :1] > 0).to(targets.dtype).repeat(1, targets.shape[1])
    weights[:, 0] = 1.0
    targets = torch.cat([_GATE * targets[:, :1].sign(), targets[:, 1:]], dim=1)

    def loss(rows: torch.Tensor | slice) -> torch.Tensor:
        error = weights[rows] * (network(observations[rows]) - targets[rows]) ** 2
        return error.sum() / weights[rows].sum()

    _fit(network, len(targets), loss, generator)
    with torch.no_grad():
        return float(loss(slice(None)).sqrt())
