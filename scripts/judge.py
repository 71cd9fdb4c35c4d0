"""Judge a policy that was trained before anew, and write it with the fallbacks that this gives.

python scripts/judge.py --policy results/train/policy.json --out results/judged/policy.json

The rivals are plain descent, the best plan and the rule that its training found or began from, the policy with its teleports
masked, and, of a policy for several problems, the best rule that the package keeps tuned. Where one of them gains more on a
problem, the file keeps it, and compare.py plays it in the policy's place. Teleports have to pay: masked, as much is enough.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import command_line
from teleport_env.reading import integer


@dataclass(frozen=True)
class Judging:
    """A policy, and how it is judged.

    Attributes:
        policy: File of the policy.
        out: File to write.
        instances: Number of validation instances per problem.
        tolerance_multiples: Multiples of the tolerance that it is judged at, by the mean; None: those of its training.
    """

    policy: Path = Path("results/train/policy.json")
    out: Path = Path("results/judged/policy.json")
    instances: int = 256
    tolerance_multiples: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        integer("instances", self.instances, 1, 1_000_000)


def main() -> None:
    console = Console()
    try:
        judging = command_line.read(Judging, description=__doc__)
        from teleport_env.agents.learning.fallback import judge
        from teleport_env.agents.policies.learned_moves import load_policy

        policy, said = judge(load_policy(judging.policy), judging.instances, judging.tolerance_multiples)
        policy.save(judging.out)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"judge: {error}")
    for sentence in said.values():
        console.print(sentence, highlight=False)
    console.print(f"Written: {judging.out}")


if __name__ == "__main__":
    main()
