"""Take policies of a full protocol into the package: of each problem's training seeds the best on validation instances.

python scripts/ship.py --study results/score --problems Rosenbrock Booth

Seeds whose training was worse than a rival, which its file keeps as the fallback, are left out. Files are named after the
problems, and lie in a folder named after the reward. The command in a file trains that policy again.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import command_line
from study.contestants import LEARNED
from study.pieces import read
from teleport_env.agents.learning.recipes import command, recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.naming import SCORE_SPECIALIST
from teleport_env.agents.policies.learned import SHIPPED
from teleport_env.agents.policies.learned_moves import Policy, policy_of
from teleport_env.agents.tuning.own_menu import fallback_of


@dataclass(frozen=True)
class Shipping:
    """Which policies are taken, and to where.

    Attributes:
        study: Folder of a full protocol by the reward ``score``.
        problems: Registered names.
        out: Folder for the files.
    """

    study: Path = Path("results/score")
    problems: tuple[str, ...] = (
        "Ellipse",
        "Quadratic",
        "Rosenbrock",
        "RosenbrockND",
        "Booth",
        "MatrixFactorization",
        "MatrixCompletion",
    )
    out: Path = SHIPPED / "score"


def best_of(folder: Path) -> tuple[Policy, float]:
    """The policy with the highest return on validation instances, under the name that it is shipped by, and that return.

    Args:
        folder: Folder of the trainings of one problem.

    Raises:
        ValueError: There is none without a fallback.
    """
    found = [read(path) for path in sorted(folder.glob(f"{LEARNED}-[0-9]*.json"))]
    policies = [(policy_of(one["policy"]), float(one["validation"])) for one in found]
    whole = [one for one in policies if fallback_of(one[0]) is None]
    if not whole:
        raise ValueError(f"of {len(policies)} policies in {folder} none is without a fallback: nothing to ship")
    policy, validation = max(whole, key=lambda one: one[1])
    kept = {**policy.provenance["training"], "name": SCORE_SPECIALIST}
    training = Training.of(**{name: tuple(one) if isinstance(one, list) else one for name, one in kept.items()})
    begun = recipe(policy.problems[0], reward=training.task.reward)
    # recipes may have changed since: the command says what differs from today's
    provenance = {**policy.provenance, "command": command(training, begun), "training": kept}
    return dataclasses.replace(policy, name=SCORE_SPECIALIST, provenance=provenance), validation


def main() -> None:
    console = Console()
    try:
        asked = command_line.read(Shipping, description=__doc__)
        for problem in asked.problems:
            policy, validation = best_of(asked.study / problem / "trained")
            path = policy.save(asked.out / f"{problem}.json")
            seed = policy.provenance["training"]["seed"]
            console.print(f"{problem}: seed {seed}, {validation:.3f} on validation instances. Written: {path.name}")
    except (ValueError, OSError) as error:
        sys.exit(f"ship: {error}")


if __name__ == "__main__":
    main()
