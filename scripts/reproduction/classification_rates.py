"""Classification of digits: learning and ascent rates, chosen on seeds that are played nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reproduction.classification_data import ASCENT_STEPS, FORMS, MINI_BATCHES, Dataset
from reproduction.classification_measures import effect
from reproduction.course import Begun, Course, OneEach, play
from reproduction.pieces import play_all
from teleport_env.agents.comparison.parallel import Task
from teleport_env.agents.schedules import Never

STILL = 1e-300
"""An ascent rate that moves nothing: what the form does by itself, which in the published one is a projection."""

LONGER = 1.05
"""A teleport lengthens the gradient where its median growth exceeds the control's by this factor."""

LASTING = 100
"""Steps from the first teleport on that a rate must last where no losses are swept."""


@dataclass(frozen=True)
class Tuned:
    """What the sweeps chose.

    Attributes:
        rates: Optimizer -> learning rate, by the training loss at the sweep's end, of those with room (`roomy`).
        ascents: (optimizer, symmetry) -> ascent rate, by `choice`. A rate lasts if no run of the sweep diverges and none of
            its teleports is refused.
        table: Every setting that was tried: ``loss`` a mean over seeds, infinite if one diverged; of ascent rates also the
            median ``growth`` of the gradient norm net of the control, whether it ``lasts``, and ``chosen``.
    """

    rates: Mapping[str, float]
    ascents: Mapping[tuple[str, str], float]
    table: pd.DataFrame


def tune(
    data: Dataset,
    optimizers: Sequence[str],
    forms: Sequence[str] = tuple(FORMS),
    jobs: int = 1,
    teleports: int = MINI_BATCHES,
) -> Tuned:
    """Choose the settings that the paper does not give, on seeds that are played nowhere else.

    Args:
        data: Data to classify.
        optimizers, forms: Optimizers and forms for which settings are chosen.
        jobs: Number of processes, as of `play_all`.
        teleports: Number of teleports in a row that an ascent rate must last.
    """
    seeds = tuple(range(1000, 1000 + data.tuning_seeds))
    listed = [(optimizer, rate) for optimizer in optimizers for rate in data.rates[optimizer]]
    open_rates = [(optimizer, rate) for optimizer, rate in listed if len(data.rates[optimizer]) > 1]
    ends = dict.fromkeys(listed, np.nan)  # where there is nothing to choose
    ends |= play_all({one: (_end, (data, *one, seeds)) for one in open_rates}, f"{data.label}, learning rates", jobs)
    rates = {}
    for optimizer in optimizers:
        lasts = [bool(np.isfinite(ends[optimizer, rate])) for rate in data.rates[optimizer]]
        rates[optimizer] = min(roomy(data.rates[optimizer], lasts), key=lambda rate: ends[optimizer, rate])
    ways = [(optimizer, form) for optimizer in optimizers for form in forms]
    ascents = {(optimizer, form): data.ascent_rates[form][0] for optimizer, form in ways}
    # long pieces first: the published form, and optimizers with a state
    open_ways = [(o, form) for form in forms for o in reversed(optimizers) if len(data.ascent_rates[form]) > 1]
    pieces: dict[tuple[str, str], Task]
    if data.by_growth:
        begun = first_epochs(data, {o: rates[o] for o, _ in open_ways}, seeds, jobs)
        pieces = {(o, form): (_scanned, (data, o, rates[o], form, seeds, teleports, begun[o])) for o, form in open_ways}
    else:
        pieces = {(o, form): (_swept, (data, o, rates[o], form, seeds, teleports)) for o, form in open_ways}
    swept = play_all(pieces, f"{data.label}, ascent rates", jobs)
    tried: list[dict[str, Any]] = []
    for optimizer in optimizers:
        common: dict[str, Any] = {"optimizer": optimizer, "symmetry": ""}
        tried += [{**common, "learning_rate": rate, "loss": ends[o, rate]} for o, rate in open_rates if o == optimizer]
        for form in forms:
            found = swept.get((optimizer, form), [])
            if found:
                ascents[optimizer, form] = choice(found)
            common = {"optimizer": optimizer, "symmetry": form, "learning_rate": rates[optimizer]}
            tried += [{**common, **row, "chosen": row["ascent_rate"] == ascents[optimizer, form]} for row in found]
    return Tuned(rates, ascents, pd.DataFrame(tried))


def first_epochs(data: Dataset, rates: Mapping[str, float], seeds: Sequence[int], jobs: int) -> dict[str, Begun]:
    """Optimizer -> the epoch before any teleport at its learning rate, with which all of its schedules begin."""
    pieces = {optimizer: (data.first_epoch, (optimizer, rate, seeds)) for optimizer, rate in rates.items()}
    return play_all(pieces, f"{data.label}, first epochs", jobs)


def roomy(rates: Sequence[float], lasts: Sequence[bool]) -> list[float]:
    """Of an ascending grid, the rates that last and below another that does: a teleport changes the gradient, so that a rate
    at the edge of what lasts loses runs. The smallest if there is none."""
    return [rates[i] for i in range(len(rates) - 1) if lasts[i] and lasts[i + 1]] or [rates[0]]


def choice(found: Sequence[Mapping[str, float]]) -> float:
    """Of the ascent rates with room (`roomy`) those that lengthen the gradient, and of these the one with the least training
    loss, the smaller of two alike. If none lengthens it, or no losses are swept, the one that lengthens it most."""
    allowed = roomy([row["ascent_rate"] for row in found], [bool(row["lasts"]) for row in found])
    left = [row for row in found if row["ascent_rate"] in allowed]
    longer = [row for row in left if row["growth"] >= LONGER and not np.isnan(row["loss"])]
    if longer:
        return min(longer, key=lambda row: (row["loss"], row["growth"]))["ascent_rate"]
    return max(left, key=lambda row: row["growth"])["ascent_rate"]


def _tried(ascent: float, losses: np.ndarray, growths: np.ndarray, lasts: np.ndarray) -> dict[str, float]:
    """A row of a sweep, from ``(seeds,)`` each."""
    growths = np.nan_to_num(growths, nan=np.inf)
    values = {"loss": float(losses.mean()), "growth": float(np.median(growths)), "lasts": bool(lasts.all())}
    return {"ascent_rate": ascent, **values}


def _swept(
    data: Dataset, optimizer: str, rate: float, form: str, seeds: Sequence[int], teleports: int
) -> list[dict[str, float]]:
    """A row an ascent rate: all of them, and the control, side by side."""
    grid = (STILL, *data.ascent_rates[form])
    environment = {"optimizer": optimizer, "learning_rate": rate, "symmetry": form}
    agent = OneEach(
        at=data.epoch,
        searches=tuple(np.repeat(range(len(grid)), len(seeds))),
        times=teleports,
        environment={**environment, "searches": [data.ascent(ascent) for ascent in grid]},
    )
    steps = data.epoch * max(data.tuning_epochs, 2)  # at least an epoch after the teleport
    course = data.play(agent, steps // data.epoch, [*seeds] * len(grid), measure_every=steps)
    losses = np.where(course.diverged, np.inf, course.measured[-1][1]["training_loss"]).reshape(len(grid), -1)
    done = {name: value.reshape(len(grid), -1) for name, value in effect(course).items()}
    lasts = ~course.diverged.reshape(len(grid), -1) & (done["refused"] == 0)
    growths = done["growth"] / done["growth"][0]
    return [_tried(grid[i], losses[i], growths[i], lasts[i]) for i in range(1, len(grid))]


def _scanned(
    data: Dataset, optimizer: str, rate: float, form: str, seeds: Sequence[int], teleports: int, begun: Begun
) -> list[dict[str, float]]:
    """A row an ascent rate, upwards to the first that does not last, from where one epoch leads."""
    grid = (STILL, *data.ascent_rates[form])
    searches = [data.ascent(ascent, ASCENT_STEPS if ascent != STILL else 1) for ascent in grid]
    environment = {"optimizer": optimizer, "learning_rate": rate, "symmetry": form, "searches": searches}

    def teleported(which: int, steps: int) -> Course:
        agent = OneEach(at=data.epoch, searches=(which,) * len(seeds), times=teleports, environment=environment)
        return play(data.problem, agent, data.epoch + steps, instances=seeds, begun=begun, **data.arguments)

    control = effect(teleported(0, teleports))["growth"]
    found: list[dict[str, float]] = []
    for which, ascent in enumerate(grid[1:], start=1):
        course = teleported(which, LASTING)
        done = effect(course)
        lasts = ~course.diverged & (done["refused"] == 0)
        unknown = np.full(len(seeds), np.nan)  # losses, which are not swept
        found.append(_tried(ascent, unknown, done["growth"] / control, lasts))
        if not found[-1]["lasts"]:
            break
    return found


def _end(data: Dataset, optimizer: str, rate: float, seeds: Sequence[int]) -> float:
    """Mean training loss at the end of a sweep's run without teleports; infinite if any diverged."""
    agent = Never(environment={"optimizer": optimizer, "learning_rate": rate})
    course = data.play(agent, data.tuning_epochs, seeds, measure_every=data.epoch * data.tuning_epochs)
    if course.diverged.any() or course.measured[-1][0] == 0:
        return np.inf
    return float(np.nan_to_num(course.measured[-1][1]["training_loss"], nan=np.inf).mean())
