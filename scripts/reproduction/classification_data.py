"""Classification of digits in mini-batches: the data sets and their settings (figures 4 and 5)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from reproduction.course import Begun, Course, begin, play
from reproduction.results import Setup
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Never
from teleport_env.problems import problem_from
from teleport_env.problems.data import mnist_files

BATCH, MINI_BATCHES, ASCENT_STEPS = 20, 4, 10
FORMS = {"general_linear_published": "published", "general_linear": "residual", "scaling": "scaling"}
ASCENT_RATES = {
    "general_linear_published": (2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5),
    "general_linear": (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    "scaling": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2),
}
WIDE_ASCENT_RATES = {
    "general_linear_published": (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
    "general_linear": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    "scaling": (5e-2, 0.1, 0.2, 0.5, 1.0, 2.0),
}
"""Of MNIST's wide layers: from where the gradient begins to grow to where teleports are refused."""

WITH_PROJECTION = f"By the published form, which also projects the weights onto {BATCH} images."
"""What a verdict by the published form is on."""

NAMES = {"gd": "SGD", "adagrad": "AdaGrad", "momentum": "momentum", "rmsprop": "RMSProp", "adam": "Adam"}


@dataclass(frozen=True)
class Dataset:
    """What is classified, and with which settings.

    Attributes:
        label: Name in titles.
        problem: Registered name.
        arguments: Keyword arguments of the environment.
        epochs: Epochs per run.
        seeds: Runs a schedule.
        rates: Optimizer -> learning rates to choose from.
        tuning_epochs, tuning_seeds: Epochs and number of seeds of the sweeps, which have seeds of their own.
        ascent_rates: Action -> ascent rates to choose from, in ascending order.
        variants: Play also what is ours or another reading of Algorithm 2: `TOGETHER`, `BOUNDED` and the reset.
        by_growth: Take the ascent rate that lengthens the gradient most, without a sweep of losses.
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

    @cached_property
    def epoch(self) -> int:
        """Gradient steps of an epoch. Counted once, because the images are read for it."""
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

    def first_epoch(self, optimizer: str, rate: float, seeds: Sequence[int]) -> Begun:
        """The epoch before any teleport, measured before and after."""
        agent = Never(environment={"optimizer": optimizer, "learning_rate": rate})
        return begin(self.problem, agent, self.epoch, instances=seeds, measure_every=self.epoch, **self.arguments)


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


def _of_test_file(settings: Mapping[str, Any]) -> str:
    """Where the images come from, in words, if it is not MNIST's training file."""
    images, _ = mnist_files(settings.get("folder"))
    return " (t10k)" if images.name.startswith("t10k") else ""


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
        label=f"MNIST, {images} training images{_of_test_file(settings)}",
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
