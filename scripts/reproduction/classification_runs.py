"""Classification of digits (figure 4): its schedules, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reproduction.classification_data import FORMS, MINI_BATCHES, Dataset
from reproduction.classification_rates import STILL, Tuned, first_epochs
from reproduction.course import Begun, Course
from reproduction.pieces import play_all
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import AtSteps, Never, ResetOptimizer

ALONE, BOUNDED, TOGETHER = "projection alone", "bounded steps", "no step between"
RADIUS = 0.01
"""Length of the first of the bounded steps, in logarithms of the group's elements."""
STAYING = ("no teleport", "reset alone")
"""Schedules that move nothing."""


def teleporting(
    data: Dataset,
    optimizer: str,
    rate: float,
    form: str,
    search: Mapping[str, Any],
    at: tuple[int, ...] | None = None,
) -> Agent:
    """A schedule of one search; by default Algorithm 2 right after the first epoch."""
    environment = {"optimizer": optimizer, "learning_rate": rate, "symmetry": form, "searches": [dict(search)]}
    return AtSteps(steps=data.algorithm2((1,)) if at is None else at, environment=environment)


def schedules(data: Dataset, optimizer: str, tuned: Tuned) -> dict[str, Agent]:
    """The schedules of one optimizer, by what tables call them."""
    environment = {"optimizer": optimizer, "learning_rate": tuned.rates[optimizer]}
    agents: dict[str, Agent] = {"no teleport": Never(environment=environment)}
    ascents = {form: tuned.ascents[optimizer, form] for form in FORMS}
    common = (data, optimizer, tuned.rates[optimizer])
    for form, label in FORMS.items():
        agents[label] = teleporting(*common, form, data.ascent(ascents[form]))
    # one step of no length projects like ten
    agents[ALONE] = teleporting(*common, "general_linear_published", data.ascent(STILL, 1))
    if not data.variants:
        return agents
    together = {"search": "mini_batch", "batches": MINI_BATCHES, "inner": data.ascent(ascents["general_linear"])}
    agents[TOGETHER] = teleporting(*common, "general_linear", together, (data.epoch,))
    bounded = {"search": "normalized_ascent", "steps": 3, "radius": RADIUS, "retract": data.retract}
    agents[BOUNDED] = teleporting(*common, "general_linear", bounded)
    if optimizer != "gd":
        reset = {**environment, "searches": ["reset_optimizer"]}
        agents["reset alone"] = ResetOptimizer(k=10**9, offset=data.epoch, environment=reset)
    return agents


def play_schedules(data: Dataset, optimizers: Sequence[str], tuned: Tuned, jobs: int) -> dict[str, dict[str, Course]]:
    """Optimizer -> schedule -> its runs."""
    agents = {optimizer: schedules(data, optimizer, tuned) for optimizer in optimizers}
    # long pieces first: the published form, and optimizers with a state; what moves nothing last
    labels = sorted(dict.fromkeys(label for each in agents.values() for label in each), key=STAYING.__contains__)
    listed = [
        (optimizer, label) for label in labels for optimizer in reversed(optimizers) if label in agents[optimizer]
    ]
    begun = first_epochs(data, {name: tuned.rates[name] for name in optimizers}, range(data.seeds), jobs)
    pieces = {
        (one, label): (played, (data, agents[one][label], begun[one], label not in STAYING)) for one, label in listed
    }
    found = play_all(pieces, f"{data.label}, schedules", jobs)
    return {optimizer: {label: found[optimizer, label] for label in agents[optimizer]} for optimizer in optimizers}


def played(data: Dataset, agent: Agent, begun: Begun | None, measure_jumps: bool = False) -> Course:
    """All seeds of a schedule, measured after every epoch; from their first epoch on, where it is played."""
    recorded: dict[str, Any] = {"measure_every": data.epoch, "measure_jumps": measure_jumps}
    return data.play(agent, data.epochs, range(data.seeds), begun=begun, **recorded)
