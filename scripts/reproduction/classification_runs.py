"""Classification of digits in mini-batches: data sets, sweeps, and what is played and measured (figures 4 and 5)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from reproduction.course import Course, OneEach, play
from reproduction.pieces import play_all
from reproduction.results import Setup, interval_of, sign, signed
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import AtSteps, Never, ResetOptimizer
from teleport_env.problems import problem_from

BATCH, MINI_BATCHES, ASCENT_STEPS = 20, 4, 10
FORMS = {"general_linear_published": "published", "general_linear": "residual", "scaling": "scaling"}
ASCENT_RATES = {
    "general_linear_published": (5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4),
    "general_linear": (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    "scaling": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2),
}
WIDE_ASCENT_RATES = {
    "general_linear_published": (1e-6, 1e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
    "general_linear": (1e-6, 1e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
    "scaling": (1e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0),
}
STILL = 1e-300
"""An ascent rate that moves nothing: what the form does by itself, which in the published one is a projection."""

LONGER = 1.05
"""A teleport lengthens the gradient where its median growth exceeds the control's by this factor."""

ALONE, BOUNDED, TOGETHER = "projection alone", "bounded steps", "no step between"
RADIUS = 0.01
"""Length of the first of the bounded steps, in logarithms of the group's elements."""
STAYING = ("no teleport", "reset alone")
"""Schedules that move nothing."""
NAMES = {"gd": "SGD", "adagrad": "AdaGrad", "momentum": "momentum", "rmsprop": "RMSProp", "adam": "Adam"}


@dataclass(frozen=True)
class Dataset:
    """What is classified, and with which settings.

    Attributes:
        label: For titles.
        problem: Registered name.
        arguments: Keyword arguments of the environment.
        epochs: Of a run.
        seeds: Runs a schedule.
        rates: Optimizer -> learning rates to choose from.
        tuning_epochs, tuning_seeds: Of the sweeps, on seeds of their own.
        ascent_rates: Action -> ascent rates to choose from, in ascending order.
        by_growth: Take the least ascent rate that lengthens the gradient, without a sweep of losses: of one run after one
            epoch, on one mini-batch.
        retract: Take the ascent's steps by the Cayley transform in place of the exponential, which takes most of the
            time of a teleport where layers are wide.
    """

    label: str
    problem: str
    arguments: Mapping[str, Any]
    epochs: int
    seeds: int
    rates: Mapping[str, Sequence[float]]
    tuning_epochs: int
    tuning_seeds: int
    ascent_rates: Mapping[str, Sequence[float]] = field(default_factory=lambda: ASCENT_RATES)
    by_growth: bool = False
    retract: bool = False

    @property
    def epoch(self) -> int:
        """Gradient steps of an epoch."""
        settings = dict(self.arguments.get("problem", {}))
        problem = problem_from(self.problem, **settings)
        return problem.num_examples(problem.instances(torch.zeros(1, dtype=torch.int64), "paper")) // BATCH

    def ascent(self, rate: float, steps: int = ASCENT_STEPS) -> dict[str, Any]:
        """The ascent on one mini-batch, without a bound, moving wherever it ends."""
        settings = {"rate": rate, "trust_radius": None, "objective": "any", "retract": self.retract}
        return {"search": "gradient_ascent", "steps": steps, **settings}

    def algorithm2(self, epochs: Sequence[int], batches: int = MINI_BATCHES) -> tuple[int, ...]:
        """Step counts of the teleports of Algorithm 2: before the steps on the first mini-batches of these epochs."""
        return tuple(epoch * self.epoch + batch for epoch in epochs for batch in range(batches))

    def play(self, agent: Agent, epochs: int, seeds: Sequence[int], **arguments: Any) -> Course:
        return play(self.problem, agent, epochs * self.epoch, instances=seeds, **{**self.arguments, **arguments})


_RATES = {
    "gd": (0.2, 0.4, 0.8),
    "adagrad": (0.03, 0.1, 0.3),
    "momentum": (0.02, 0.05, 0.1),
    "rmsprop": (3e-3, 1e-2, 3e-2),
    "adam": (3e-3, 1e-2, 3e-2),
}


def datasets(setup: Setup) -> list[Dataset]:
    """The digits of scikit-learn always; MNIST where its files are."""
    pick = setup.pick
    found = [
        Dataset(
            label="8 x 8 digits",
            problem="Digits",
            arguments={},
            epochs=pick(full=80, quick=12, tiny=2),
            seeds=pick(full=20, quick=5, tiny=2),
            rates={name: (_RATES[name][1],) for name in ("gd", "adagrad")} if setup.tiny else _RATES,
            tuning_epochs=pick(full=20, quick=3, tiny=1),
            tuning_seeds=pick(full=8, quick=4, tiny=1),
            ascent_rates={form: rates[1:2] for form, rates in ASCENT_RATES.items()} if setup.tiny else ASCENT_RATES,
        )
    ]
    if not setup.tiny and (setup.data_dir or os.environ.get("TELEPORT_ENV_DATA")):
        found += _mnist(setup)
    return [
        replace(
            data,
            epochs=setup.epochs or data.epochs,
            seeds=setup.seeds or data.seeds,
            tuning_epochs=min(data.tuning_epochs, setup.epochs or data.tuning_epochs),
            tuning_seeds=min(data.tuning_seeds, setup.seeds or data.tuning_seeds),
        )
        for data in found
    ]


def _mnist(setup: Setup) -> list[Dataset]:
    """MNIST in a list; none, with a warning, where no folder was given and the files are not there."""
    settings = {"folder": str(setup.data_dir)} if setup.data_dir else {}
    try:
        problem = problem_from("MNIST", **settings)
        images = problem.num_examples(problem.instances(torch.zeros(1, dtype=torch.int64), "paper"))
    except FileNotFoundError as error:
        if setup.data_dir:
            raise
        warnings.warn(f"MNIST is left out: {error}", stacklevel=2)
        return []
    narrow = {"gd": (0.1,), "adagrad": (0.01,)}  # those of the presets
    mnist = Dataset(
        label=f"MNIST, {images} training images",
        problem="MNIST",
        arguments={"problem": settings},
        epochs=80 if not setup.quick else 3,
        seeds=5,
        rates=_RATES if not setup.quick else narrow,
        tuning_epochs=5 if not setup.quick else 2,
        tuning_seeds=1,
        ascent_rates=WIDE_ASCENT_RATES,
        by_growth=setup.quick,
        retract=setup.quick,
    )
    return [mnist]


@dataclass(frozen=True)
class Tuned:
    """What the sweeps chose.

    Attributes:
        rates: Optimizer -> learning rate, by the training loss at the sweep's end.
        ascents: (optimizer, symmetry) -> ascent rate, by the same among those that lengthen the gradient (`LONGER`).
        table: Every setting that was tried: ``loss`` a mean over seeds, infinite if one diverged; of ascent rates also the
            median ``growth`` of the gradient norm net of the control, and ``chosen``.
    """

    rates: Mapping[str, float]
    ascents: Mapping[tuple[str, str], float]
    table: pd.DataFrame


def tune(data: Dataset, optimizers: Sequence[str], forms: Sequence[str] = tuple(FORMS), jobs: int = 1) -> Tuned:
    """Choose the settings that the paper does not give, on seeds that are played nowhere else; ``jobs`` as of `play_all`."""
    seeds = tuple(range(1000, 1000 + data.tuning_seeds))
    listed = [(optimizer, rate) for optimizer in optimizers for rate in data.rates[optimizer]]
    open_rates = [(optimizer, rate) for optimizer, rate in listed if len(data.rates[optimizer]) > 1]
    ends = dict.fromkeys(listed, np.nan)  # where there is nothing to choose
    ends |= play_all({one: (_end, (data, *one, seeds)) for one in open_rates}, f"{data.label}, learning rates", jobs)
    rates = {optimizer: min(data.rates[optimizer], key=lambda rate: ends[optimizer, rate]) for optimizer in optimizers}
    ways = [(optimizer, form) for optimizer in optimizers for form in forms]
    ascents = {(optimizer, form): data.ascent_rates[form][0] for optimizer, form in ways}
    work = _scanned if data.by_growth else _swept
    swept = play_all(
        {
            (optimizer, form): (work, (data, optimizer, rates[optimizer], form, seeds))
            for optimizer, form in ways
            if len(data.ascent_rates[form]) > 1
        },
        f"{data.label}, ascent rates",
        jobs,
    )
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


def choice(found: Sequence[Mapping[str, float]]) -> float:
    """Of those ascent rates that lengthen the gradient the one with the least training loss, the smaller of two alike; if
    none lengthens it, the one that does most."""
    longer = [row for row in found if np.isfinite(row["growth"]) and row["growth"] >= LONGER]
    if longer:
        return min(longer, key=lambda row: (row["loss"], row["growth"]))["ascent_rate"]
    return max(found, key=lambda row: np.nan_to_num(row["growth"], posinf=0.0))["ascent_rate"]


def _swept(data: Dataset, optimizer: str, rate: float, form: str, seeds: Sequence[int]) -> list[dict[str, float]]:
    """A row an ascent rate: all of them, and the control, side by side."""
    grid = (STILL, *data.ascent_rates[form])
    environment = {"optimizer": optimizer, "learning_rate": rate, "symmetry": form}
    agent = OneEach(
        at=data.epoch,
        searches=tuple(np.repeat(range(len(grid)), len(seeds))),
        times=MINI_BATCHES,
        environment={**environment, "searches": [data.ascent(ascent) for ascent in grid]},
    )
    steps = data.epoch * max(data.tuning_epochs, 2)  # at least an epoch after the teleport
    course = data.play(agent, steps // data.epoch, [*seeds] * len(grid), measure_every=steps)
    losses = np.where(course.diverged, np.inf, course.measured[-1][1]["training_loss"]).reshape(len(grid), -1)
    growths = np.nan_to_num(effect(course)["growth"], nan=np.inf).reshape(len(grid), -1)
    return [
        {"ascent_rate": grid[i], "loss": float(losses[i].mean()), "growth": float(np.median(growths[i] / growths[0]))}
        for i in range(1, len(grid))
    ]


def _scanned(data: Dataset, optimizer: str, rate: float, form: str, seeds: Sequence[int]) -> list[dict[str, float]]:
    """A row an ascent rate, upwards until one lengthens the gradient of a run of the first seed after one epoch."""
    environment = {"optimizer": optimizer, "learning_rate": rate}
    begun: list[np.ndarray] = []
    data.play(Never(environment=environment), 1, seeds[:1], finish=lambda env: begun.append(np.array(env.params)))

    def growth(ascent: float, steps: int) -> float:
        searches = {"symmetry": form, "searches": [data.ascent(ascent, steps)]}
        agent = AtSteps(steps=(0,), environment={**environment, **searches})
        course = play(data.problem, agent, 1, instances=seeds[:1], begin=lambda _: begun[0].copy(), **data.arguments)
        return float(course.jumps[0].growth[0])

    control = growth(STILL, 1)
    found: list[dict[str, float]] = []
    for ascent in data.ascent_rates[form]:
        found.append({"ascent_rate": ascent, "loss": np.nan, "growth": growth(ascent, ASCENT_STEPS) / control})
        if found[-1]["growth"] >= LONGER:
            break
    return found


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


def _end(data: Dataset, optimizer: str, rate: float, seeds: Sequence[int]) -> float:
    """Mean training loss at the end of a sweep's run without teleports; infinite if any diverged."""
    agent = Never(environment={"optimizer": optimizer, "learning_rate": rate})
    course = data.play(agent, data.tuning_epochs, seeds, measure_every=data.epoch * data.tuning_epochs)
    if course.diverged.any() or course.measured[-1][0] == 0:
        return np.inf
    return float(np.nan_to_num(course.measured[-1][1]["training_loss"], nan=np.inf).mean())


def schedules(data: Dataset, optimizer: str, tuned: Tuned) -> dict[str, Agent]:
    """The schedules of one optimizer, by what tables call them."""
    environment = {"optimizer": optimizer, "learning_rate": tuned.rates[optimizer]}
    agents: dict[str, Agent] = {"no teleport": Never(environment=environment)}
    ascents = {form: tuned.ascents[optimizer, form] for form in FORMS}
    common = (data, optimizer, tuned.rates[optimizer])
    for form, label in FORMS.items():
        agents[label] = teleporting(*common, form, data.ascent(ascents[form]))
    together = {"search": "mini_batch", "batches": MINI_BATCHES, "inner": data.ascent(ascents["general_linear"])}
    agents[TOGETHER] = teleporting(*common, "general_linear", together, (data.epoch,))
    # one step of no length projects as ten do
    agents[ALONE] = teleporting(*common, "general_linear_published", data.ascent(STILL, 1))
    bounded = {"search": "normalized_ascent", "steps": 3, "radius": RADIUS, "retract": data.retract}
    agents[BOUNDED] = teleporting(*common, "general_linear", bounded)
    if optimizer != "gd":
        reset = {**environment, "searches": ["reset_optimizer"]}
        agents["reset alone"] = ResetOptimizer(k=10**9, offset=data.epoch, environment=reset)
    return agents


def play_schedules(data: Dataset, optimizers: Sequence[str], tuned: Tuned, jobs: int) -> dict[str, dict[str, Course]]:
    """Optimizer -> schedule -> its runs."""
    agents = {optimizer: schedules(data, optimizer, tuned) for optimizer in optimizers}
    listed = {(optimizer, label): agent for optimizer, each in agents.items() for label, agent in each.items()}
    pieces = {key: (played, (data, agent, key[1] not in STAYING)) for key, agent in listed.items()}
    found = play_all(pieces, f"{data.label}, schedules", jobs)
    return {optimizer: {label: found[optimizer, label] for label in agents[optimizer]} for optimizer in optimizers}


def played(data: Dataset, agent: Agent, measure_jumps: bool = False) -> Course:
    """All seeds of a schedule, measured after every epoch."""
    return data.play(agent, data.epochs, range(data.seeds), measure_every=data.epoch, measure_jumps=measure_jumps)


def final(course: Course, name: str = "training_loss", epoch: int = -1) -> np.ndarray:
    """``(B,)``, the measurement after an epoch, or the last; infinite for a diverged run. ``"overfit"``: the validation loss
    over the training loss, not a number for a diverged run."""
    last = len(course.measured) - 1
    if name == "overfit":
        with np.errstate(invalid="ignore"):
            return final(course, "validation_loss", epoch) / final(course, epoch=epoch)
    return np.where(course.diverged, np.inf, course.measured[min(epoch, last)][1][name])


def differences(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> np.ndarray:
    """To the base, of the seeds that neither loses. A loss's is that of ``log10``, an accuracy's in percentage points."""
    values, others = final(course, name, epoch), final(base, name, epoch)
    both = np.isfinite(values) & np.isfinite(others)
    if name.endswith("accuracy"):
        return 100.0 * (values[both] - others[both])
    return np.log10(np.maximum(values[both], 1e-12)) - np.log10(np.maximum(others[both], 1e-12))


def paired(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> tuple[float, float]:
    """Mean of the `differences`, and half the width of its 95 % interval (Student's t, over seeds; infinite where fewer than
    `results.FEWEST` last)."""
    return interval_of(differences(course, base, name, epoch))


def interval(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> str:
    """`paired` in words, or each seed's where too few last for an interval, with the number of runs that diverged."""
    lost = int(course.diverged.sum())
    if lost == len(course.diverged):
        return "all diverge"
    middle, half = paired(course, base, name, epoch)
    each = differences(course, base, name, epoch)
    told = signed(middle, half) if np.isfinite(half) else " / ".join(f"{value:+.2f}" for value in each)
    return told + (f" ({lost} of {len(course.diverged)} diverge)" if lost else "")


def loses_half(course: Course) -> bool:
    """Whether half of the runs or more diverge, so that the median run does."""
    return bool(course.diverged.mean() >= 0.5)


def below(course: Course, base: Course, epoch: int = -1) -> bool | None:
    """Whether the training loss is lower: True or False with 95 % confidence, else None. A schedule that loses a run is not
    lower, and one that loses half of them is higher, whatever the others do."""
    if loses_half(course):
        return False
    return sign(*paired(course, base, epoch=epoch), clean=not course.diverged.any())


def effect(course: Course) -> dict[str, np.ndarray]:
    """What the teleports did together, ``(B,)`` each: the largest change of the loss of a batch, the factors on the loss of
    the whole training set (where it was measured) and on the gradient norm, and whether all moved."""
    found = {
        "batch": np.max([np.abs(jump.loss_change) for jump in course.jumps], axis=0),
        "growth": np.prod([jump.growth for jump in course.jumps], axis=0),
        "moved": np.all([jump.moved for jump in course.jumps], axis=0),
    }
    if course.jumps[0].before:
        ratios = [jump.after["training_loss"] / jump.before["training_loss"] for jump in course.jumps]
        found["set"] = np.prod(ratios, axis=0)
    return found
