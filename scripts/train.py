"""Train a schedule and keep the best policy; started again with the same settings, it goes on from its checkpoint.

python scripts/train.py --problem Rosenbrock --out results/train/rosenbrock
python scripts/train.py --problem Booth --action-mode group --out results/train/booth_group

Several problems make one policy for all of them; then --searches names slots (teleport_env.agents.policies.slots).
"""

from __future__ import annotations

import argparse

from rich.console import Console

from teleport_env.agents.learning.arguments import add_arguments, from_arguments
from teleport_env.agents.learning.recipes import recipe, teacher, whitening, without_teleports
from teleport_env.agents.learning.settings import Training

FLAGS = {
    "--rate-only": "The control without teleports, which learns rates alone",
    "--whitening": "Teleports after which a step is Newton's in one layer",
    "--teacher": "With the rate factors that a policy for several problems can learn from",
}


def settings() -> Training:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    for flag, sentence in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=sentence)
    given = vars(parser.parse_args())
    problem, optimizer = given.get("problem", "Rosenbrock"), given.get("optimizer")
    rates, newton, teaches = given.pop("rate_only"), given.pop("whitening"), given.pop("teacher")
    if (newton and (rates or teaches)) or (teaches and optimizer):
        parser.error("--whitening goes with neither --rate-only nor --teacher, nor --teacher with --optimizer")
    one = problem if isinstance(problem, str) else ", ".join(problem)
    if newton or teaches:
        start = whitening(one) if newton else teacher(one)
    else:
        start = recipe(problem, optimizer, given.get("action_mode", "schedule"), given.get("budget"))
    return from_arguments(given, without_teleports(start) if rates else start)


def main() -> None:
    console = Console()
    try:
        training = settings()
        from teleport_env.agents.learning.training import train

        found = train(training, console.print)
    except (ValueError, ImportError) as error:
        raise SystemExit(f"train: {error}") from error
    console.print(
        f"{found.gained:.2f} orders of magnitude on validation instances. Policy: {training.out / 'policy.json'}"
    )


if __name__ == "__main__":
    main()
