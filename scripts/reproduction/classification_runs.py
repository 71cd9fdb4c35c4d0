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
from teleport_env.envs.boundary import EnvSnapshot
from teleport_env.problems import problem_from

BATCH, MINI_BATCHES, ASCENT_STEPS = 20, 4, 10
FORMS = {"general_linear_published": "published", "general_linear": "residual", "scaling": "scaling"}
ASCENT_RATES = {
    "general_linear_published": (2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5),
    "general_linear": (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    "scaling": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2),
}
WIDE_ASCENT_RATES = {
    "general_linear_published": (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    "general_linear": (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
    "scaling": (2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0),
}
"""Of MNIST's wide layers: from where the gradient begins to grow."""

STILL = 1e-300
"""An ascent rate that moves nothing: what the form does by itself, which in the published one is a projection."""

LONGER = 1.05
"""A teleport lengthens the gradient where its median growth exceeds the control's by this factor."""

LASTING = 100
"""Steps from the first teleport on that a rate must last where no losses are swept."""

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
        variants: Play also what is ours or another reading of Algorithm 2: `TOGETHER`, `BOUNDED` and the reset.
        by_growth: Take the least ascent rate that lengthens the gradient, without a sweep of losses.
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
    variants: bool = True
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
    "gd": (0.1, 0.2, 0.4, 0.8),
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
            tuning_seeds=pick(full=32, quick=32, tiny=1),
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
        tuning_seeds=2,
        ascent_rates=WIDE_ASCENT_RATES,
        variants=not setup.quick,
        by_growth=setup.quick,
        retract=setup.quick,
    )
    return [mnist]


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
        data: What is classified.
        optimizers, forms: To choose for.
        jobs: As of `play_all`.
        teleports: In a row, that an ascent rate must last.
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
    work = _scanned if data.by_growth else _swept
    swept = play_all(
        {
            (optimizer, form): (work, (data, optimizer, rates[optimizer], form, seeds, teleports))
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


def roomy(rates: Sequence[float], lasts: Sequence[bool]) -> list[float]:
    """Of an ascending grid, the rates that last and below another that does: a teleport changes the gradient, so that a rate
    at the edge of what lasts loses runs. The smallest if there is none."""
    return [rates[i] for i in range(len(rates) - 1) if lasts[i] and lasts[i + 1]] or [rates[0]]


def choice(found: Sequence[Mapping[str, float]]) -> float:
    """Of the ascent rates with room (`roomy`) those that lengthen the gradient, and of these the one with the least training
    loss, the smaller of two alike. If none lengthens it, the one that does most."""
    allowed = roomy([row["ascent_rate"] for row in found], [bool(row["lasts"]) for row in found])
    left = [row for row in found if row["ascent_rate"] in allowed]
    longer = [row for row in left if row["growth"] >= LONGER]
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
    data: Dataset, optimizer: str, rate: float, form: str, seeds: Sequence[int], teleports: int
) -> list[dict[str, float]]:
    """A row an ascent rate, upwards to the one above the first that lengthens the gradient, or to one that does not last,
    from where one epoch leads."""
    grid = (STILL, *data.ascent_rates[form])
    searches = [data.ascent(ascent, ASCENT_STEPS if ascent != STILL else 1) for ascent in grid]
    environment = {"optimizer": optimizer, "learning_rate": rate, "symmetry": form, "searches": searches}
    begun: list[EnvSnapshot] = []
    data.play(Never(environment=environment), 1, seeds, finish=lambda env: begun.append(env.snapshot()))

    def teleported(which: int, steps: int) -> Course:
        agent = OneEach(at=0, searches=(which,) * len(seeds), times=teleports, environment=environment)
        return play(data.problem, agent, steps, instances=seeds, resume=begun[0], **data.arguments)

    control = effect(teleported(0, teleports))["growth"]
    found: list[dict[str, float]] = []
    for which, ascent in enumerate(grid[1:], start=1):
        course = teleported(which, LASTING)
        done = effect(course)
        lasts = ~course.diverged & (done["refused"] == 0)
        unknown = np.full(len(seeds), np.nan)  # losses, which are not swept: the smallest growth is chosen
        found.append(_tried(ascent, unknown, done["growth"] / control, lasts))
        if not found[-1]["lasts"] or (len(found) > 1 and found[-2]["growth"] >= LONGER):
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
    # one step of no length projects as ten do
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
    """`paired` in words, or each seed's where too few last for an interval, with what went wrong."""
    if course.diverged.all():
        return "all diverge"
    middle, half = paired(course, base, name, epoch)
    each = differences(course, base, name, epoch)
    told = signed(middle, half) if np.isfinite(half) else " / ".join(f"{value:+.2f}" for value in each)
    return told + mishaps(course)


def times(course: Course, base: Course, name: str = "training_loss", epoch: int = -1) -> str:
    """`paired` as a factor on the base's loss, its interval in brackets, with what went wrong."""
    if course.diverged.all():
        return "all diverge"
    return factor(*paired(course, base, name, epoch)) + mishaps(course)


def factor(middle: float, half: float) -> str:
    """An interval of ``log10`` in words, as factors."""
    least, most = 10.0 ** (middle - half), 10.0 ** (middle + half)
    return f"{10.0**middle:.2f}" + (f" ({least:.2f} to {most:.2f})" if np.isfinite(half) else "")


def mishaps(course: Course) -> str:
    """How many runs diverged, and how many teleports were refused, in brackets; nothing where there are none."""
    lost, runs = int(course.diverged.sum()), len(course.diverged)
    refused = np.sum([jump.refused for jump in course.jumps], axis=0) if course.jumps else np.zeros(1)
    told = [f"{lost} of {runs} diverge"] if lost else []
    told += [f"{refused.sum()} teleports refused, in {(refused > 0).sum()} of {runs} runs"] if refused.any() else []
    return f" ({'; '.join(told)})" if told else ""


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
    """What the teleports that moved did together, ``(B,)`` each: the largest change of the loss of a batch, the factors on
    the loss of the whole training set (where it was measured) and on the gradient norm. And how many were refused."""
    moved = np.stack([jump.moved for jump in course.jumps])

    def over(values: Sequence[np.ndarray], otherwise: float) -> np.ndarray:
        return np.where(moved, np.stack(values), otherwise)

    found = {
        "batch": over([np.abs(jump.loss_change) for jump in course.jumps], 0.0).max(axis=0),
        "growth": over([jump.growth for jump in course.jumps], 1.0).prod(axis=0),
        "refused": np.sum([jump.refused for jump in course.jumps], axis=0),
    }
    if course.jumps[0].before:
        ratios = [jump.after["training_loss"] / jump.before["training_loss"] for jump in course.jumps]
        found["set"] = over(ratios, 1.0).prod(axis=0)
    return found
