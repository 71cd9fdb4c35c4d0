"""Train a schedule and keep the best policy; started again with the same settings, it goes on from its checkpoint.

python scripts/train.py --problem Rosenbrock --out results/train/rosenbrock

python scripts/train.py --problem Booth --action-mode group --out results/train/booth_group

Several problems make one policy for all of them; then --searches names slots (teleport_env.agents.policies.slots).
The defaults below are the recipe of the problem that is named.

Exit status: 0; 1 for what cannot be done; 2 for a command line that is not allowed; 3 for a policy that was written, but is
worse than the best plan of its own menu, the rule it began from or plain descent, which the file then keeps as its fallback.
So it does with the best rule that the package keeps tuned, where the policy is for several problems, and with the policy's
own steps where its teleports do not pay. judge.py judges again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from rich.console import Console

import command_line
from teleport_env.agents.comparison.parallel import additions, adopt
from teleport_env.agents.learning.recipes import recipe, teacher, whitening, without_teleports
from teleport_env.agents.learning.settings import Training
from teleport_env.problems import DEFAULT_PROBLEM


@dataclass(frozen=True)
class Sort:
    """The recipe of the problem to begin with.

    Attributes:
        rate_only: The control without teleports, which learns rates alone.
        whitening: Teleports after which a step is Newton's in one layer.
        teacher: Recipe with the rate factors that a policy for several problems can learn from.
    """

    rate_only: bool = False
    whitening: bool = False
    teacher: bool = False


@dataclass(frozen=True)
class Beginning(Sort):
    """What decides which recipe a training begins with, and with that the defaults of all other options."""

    problem: str | tuple[str, ...] = DEFAULT_PROBLEM
    optimizer: str | Mapping[str, Any] | None = None
    action_mode: str = "schedule"
    budget: float | None = None
    reward: str | None = None

    def settings(self) -> dict[str, Any]:
        """The recipe.

        Raises:
            ValueError: There is none, or the options do not go together.
        """
        if (self.whitening and (self.rate_only or self.teacher)) or (self.teacher and self.optimizer):
            raise ValueError("--whitening goes with neither --rate-only nor --teacher, nor --teacher with --optimizer")
        one = self.problem if isinstance(self.problem, str) else ", ".join(self.problem)
        if self.whitening or self.teacher:
            start = whitening(one) if self.whitening else teacher(one)
        else:
            start = recipe(self.problem, self.optimizer, self.action_mode, self.budget, self.reward)
        return without_teleports(start) if self.rate_only else start


@dataclass(frozen=True)
class Asked:
    """The command line.

    Attributes:
        sort: Name of the recipe.
        training: Settings that differ from the recipe.
    """

    sort: Sort = field(default_factory=Sort)
    training: Training = field(default_factory=Training)


def settings(words: Sequence[str] | None = None) -> Training:
    """The training that a command line asks for; what it says goes before the recipe.

    Raises:
        ValueError: A recipe that there is not.
        SystemExit: As `command_line.read`.
    """
    start = command_line.glance(Beginning, words).settings()
    asked = command_line.read(Asked, words, default=Asked(training=Training.of(**start)), description=__doc__).training
    own = start.get("optimizer")
    if isinstance(own, Mapping) and asked.task.optimizer == own["optimizer"]:
        return asked.changed(optimizer=own)  # a bare name of the recipe's optimizer keeps its settings
    return asked


BELOW = 3
"""Exit status of a training whose policy was written, but is worse than a rival, which the file keeps."""


def second_process() -> AbstractContextManager[Executor | None]:
    """For the searches that a training does not need; None where there is one core. It begins with the first of them."""
    if (os.cpu_count() or 1) < 2:
        return nullcontext()
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=adopt, initargs=(additions(),))


def main() -> None:
    console = Console()
    try:
        training = settings()
        from teleport_env.agents.learning.training import train

        with second_process() as beside:
            found = train(training, console.print, beside=beside)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"train: {error}") from error
    console.print(
        f"{found.gained:.2f} {training.task.unit} on validation instances. Policy: {training.out.resolve() / 'policy.json'}"
    )
    if found.below:
        console.print(
            f"Warning: {'; '.join(found.below.values())}. compare.py plays that in the policy's place. More --decisions or "
            "--warm-start may help, and --policies pretrained needs no training"
        )
        raise SystemExit(BELOW)


if __name__ == "__main__":
    main()
