"""Figure 3: regression by a small network, gradient descent and AdaGrad, five seeds, in three variants and with controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from reproduction.course import Course, play
from reproduction.published import (
    PUBLISHED,
    RELEASED,
    RESIDUAL,
    PublishedRegression,
    released_direction,
)
from reproduction.regression_claims import claims, mean_loss
from reproduction.regression_picture import SHOWN, regression_picture
from reproduction.results import Findings, Setup, settings_of
from teleport_env.agents.base import Agent
from teleport_env.agents.paper import Preset, paper
from teleport_env.agents.schedules import AtSteps, Never, ResetOptimizer
from teleport_env.problems.base import Evaluator
from teleport_env.random import Streams
from teleport_env.searches.base import Start

SEEDS = range(5)
ASCENTS = {"gd": (8, 1e-7), "adagrad": (2, 1e-5)}
"""Published ascent steps and rate."""

RATES = {
    "gd": (3e-5, 1e-4, 2e-4, 5e-4, 7e-4, 1e-3, 1.4e-3, 2e-3),
    "adagrad": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}
"""Our sweep of plain learning rates; the published ones are 1e-4 and 0.1."""

VARIANTS = {
    "released": (RELEASED, True),
    "published, exact": (PUBLISHED, True),
    "residual, exact": (RESIDUAL, True),
    "released, true norm": (RELEASED, False),
    "published, exact, true norm": (PUBLISHED, False),
    "residual, exact, true norm": (RESIDUAL, False),
}
"""Name -> action, and whether the ascent squares what the released code squares (`published.ReleasedAscent`)."""


def _preset(optimizer: str) -> Preset:
    return paper("MLPRegression" if optimizer == "gd" else "MLPRegression/adagrad")


def _teleport(optimizer: str, symmetry: str, as_released: bool, descend: bool = False, **settings: Any) -> Agent:
    preset = _preset(optimizer)
    steps, rate = ASCENTS[optimizer]
    rate = -rate if descend else rate
    search = {"search": "released_ascent", "steps": steps, "rate": rate, "as_released": as_released}
    environment = {"searches": [search], "symmetry": symmetry, "problem": PublishedRegression(), **settings}
    return AtSteps(at=(5,), environment={**preset.arguments, **environment})


def agents(optimizer: str) -> dict[str, Agent]:
    """Everything that is played with one optimizer at the published learning rate."""
    without = {**_preset(optimizer).arguments, "searches": []}
    played: dict[str, Agent] = {"no teleport": Never(environment=without)}
    for label, (symmetry, as_released) in VARIANTS.items():
        played[label] = _teleport(optimizer, symmetry, as_released)
    played["published, exact, descent"] = _teleport(optimizer, PUBLISHED, True, descend=True)
    bounded = {"search": "normalized_ascent", "steps": 3, "radius": 0.1}
    played["ours: three short steps up"] = AtSteps(at=(5,), environment={**without, "searches": [bounded]})
    down = {**bounded, "objective": "balance_gradient"}
    played["ours: three short steps down"] = AtSteps(at=(5,), environment={**without, "searches": [down]})
    if optimizer == "adagrad":
        reset = {**without, "searches": ["reset_optimizer"]}
        played["reset alone"] = ResetOptimizer(k=10**6, offset=5, environment=reset)
        played["published, exact, and reset"] = _teleport(optimizer, PUBLISHED, True, on_teleport="reset")
    return played


def agreement(optimizer: str) -> dict[str, np.ndarray]:
    """Form -> cosine ``(5,)`` of the direction that the released code climbs and that of the gradient norm's ascent, from
    where the published teleport begins."""
    preset = _preset(optimizer)
    plain = play(
        "MLPRegression", Never(environment={**preset.arguments, "searches": []}), 5, instances=SEEDS, watch_params=True
    )
    problem, params = PublishedRegression(), torch.from_numpy(plain.params[5])
    instance = problem.instances(torch.arange(len(SEEDS)), "paper")
    evaluator = Evaluator(problem, instance)
    loss, gradient = evaluator.loss_and_gradient(params)
    rates, streams = torch.full_like(loss, float(preset.arguments["learning_rate"])), Streams.from_seeds(SEEDS)
    found = {}
    for label, name in (("released", RELEASED), ("published, exact", PUBLISHED), ("residual, exact", RESIDUAL)):
        start = Start(params, loss, gradient, rates, problem.symmetries[name], evaluator, streams)
        climbed, true = (released_direction(start, params, as_released) for as_released in (True, False))
        found[label] = torch.nn.functional.cosine_similarity(climbed, true, dim=1).numpy()
    return found


def _frame(courses: Mapping[str, Mapping[str, Course]]) -> pd.DataFrame:
    rows = []
    for optimizer, played in courses.items():
        for label, course in played.items():
            for seed in range(course.loss.shape[1]):
                values = {f"loss_{step}": course.loss[step, seed] for step in (6, 10, 50, 100) if step <= course.steps}
                rows.append(
                    {
                        "optimizer": optimizer,
                        "schedule": label,
                        "seed": seed,
                        **values,
                        "final_loss": course.loss[-1, seed],
                        "loss_change": course.jumps[0].loss_change[seed] if course.jumps else 0.0,
                        "growth_of_squared_norm": course.jumps[0].growth[seed] ** 2 if course.jumps else 1.0,
                        "cost": course.cost[-1, seed],
                        "seconds": course.seconds[-1] / course.loss.shape[1],
                    }
                )
    return pd.DataFrame(rows)


def _timed(optimizer: str, courses: Mapping[str, Course], repeats: int) -> dict[str, np.ndarray]:
    """Seconds ``(T + 1,)`` of one of a schedule's runs, the least of several for every step, the schedules taking turns.

    Without the seeds that diverge: once a run is over, the environment steps the others row by row, which takes longer.
    """
    lasting = {name: [seed for seed in SEEDS if not courses[name].diverged[seed]] or list(SEEDS) for name in SHOWN}
    steps = courses[SHOWN[0]].steps
    played = {name: agent for name, agent in agents(optimizer).items() if name in SHOWN}
    gaps: dict[str, list[np.ndarray]] = {name: [] for name in played}
    for _ in range(repeats):
        for name, agent in played.items():
            course = play("MLPRegression", agent, steps, instances=lasting[name])
            gaps[name].append(np.diff(course.seconds, prepend=0.0))
    return {name: np.cumsum(np.min(taken, axis=0)) / len(lasting[name]) for name, taken in gaps.items()}


def regression(setup: Setup) -> Findings:
    """Figure 3."""
    steps = setup.pick(full=300, quick=300, tiny=12)
    problem = "MLPRegression"
    courses = {
        optimizer: {name: play(problem, agent, steps, instances=SEEDS) for name, agent in agents(optimizer).items()}
        for optimizer in ("gd", "adagrad")
    }
    swept: dict[str, dict[float, Course]] = {}
    for optimizer, rates in RATES.items():
        swept[optimizer] = {}
        for rate in rates:
            environment = {"optimizer": optimizer, "learning_rate": rate}
            swept[optimizer][rate] = play(problem, Never(environment=environment), steps, instances=SEEDS)
    ends = {name: {rate: mean_loss(course) for rate, course in runs.items()} for name, runs in swept.items()}
    best = {name: min(values, key=values.__getitem__) for name, values in ends.items()}
    tuned = {name: swept[name][rate] for name, rate in best.items()}
    sweep = pd.DataFrame(
        [
            {"optimizer": name, "rate": rate, "final_loss": loss}
            for name, values in ends.items()
            for rate, loss in values.items()
        ]
    )
    seconds = {
        optimizer: _timed(optimizer, courses[optimizer], setup.pick(full=9, quick=4, tiny=1))
        for optimizer in ("gd", "adagrad")
    }
    rows = (
        claims(courses, ends, best, seconds["gd"], {name: agreement(name) for name in courses}) if steps == 300 else []
    )
    return Findings(
        rows,
        {"figure3": regression_picture(courses, tuned, seconds)},
        {"figure3": _frame(courses), "figure3_rates": sweep},
        settings_of("figure3", ends=ends),
    )
