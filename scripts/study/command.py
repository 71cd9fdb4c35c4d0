"""The command line of ``scripts/compare.py``: one parser for the quick comparison and the full protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from study.protocol import Protocol
from study.transfer import QUESTIONS, Transfer
from teleport_env.agents.comparison.parallel import BACKENDS
from teleport_env.agents.comparison.study import Study, known_agents

SPLITS = ["paper", "train", "validation", "test"]
TUPLES = ("problems", "agents", "policies", "questions")

PROTOCOLS: dict[str, type[Study] | type[Protocol] | type[Transfer]] = {
    "study": Study,
    "full": Protocol,
    "transfer": Transfer,
}

QUICK: dict[str, Any] = {
    "instances": 12,
    "train_seeds": 2,
    "train_decisions": 4096,
    "plans": 24,
    "rules": 16,
    "tuning_instances": 4,
    "training": {"runs": 32, "rollout": 16, "segment": 2, "plans": 16, "validation_instances": 16},
}
"""The full protocol, and that of transfers, so small that nothing is learned from it, in a minute or two a problem."""


def parser(description: str) -> argparse.ArgumentParser:
    """Options of both; what is not given is left out, so that each has its own defaults."""
    made = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        default="study",
        help="full: tune, train, play, and say what holds; transfer: the same where policies were not trained",
    )
    made.add_argument("--problems", nargs="+", help=f"registered problems; default: {', '.join(Study.problems)}")
    made.add_argument("--policies", nargs="+", type=Path, help="files that scripts/train.py has written")
    made.add_argument("--split", choices=SPLITS, help="default: test")
    made.add_argument("--instances", type=int, help=f"a problem; default: {Study.instances}, full {Protocol.instances}")
    made.add_argument(
        "--budget",
        nargs="+",
        metavar="NUMBER or PROBLEM=NUMBER",
        help="gradient evaluations an episode, of all problems or (full protocol) by problem; default: the problem's",
    )
    made.add_argument(
        "--tuning-instances",
        type=int,
        help=f"of the train split; default: {Study.tuning_instances} (0: default rates), full {Protocol.tuning_instances}",
    )
    made.add_argument("--seed", type=int, help="of the choice of instances")
    made.add_argument("--jobs", type=int, help="workers; default -1: one a core")
    made.add_argument(
        "--backend", choices=BACKENDS, help="where the workers are; ray: on a cluster. Default: processes"
    )
    made.add_argument("--out", type=Path, help=f"folder; default: {Study.out}, full {Protocol.out}")

    study = made.add_argument_group("a study")
    study.add_argument("--agents", nargs="+", help=f"default: each problem's roster; of {known_agents()}")
    study.add_argument("--seeds", type=int, help=f"episodes an instance and agent; default: {Study.seeds}")
    study.add_argument("--no-references", dest="references", action="store_false", help="without SciPy's methods")

    study.add_argument(
        "--no-pretrained", dest="pretrained", action="store_false", help="without the policy that the package brings"
    )

    full = made.add_argument_group("the full protocol")
    full.add_argument("--quick", action="store_true", default=False, help="everything tiny: a rehearsal of the code")
    full.add_argument("--plans", type=int, help=f"configurations a family of schedules; default: {Protocol.plans}")
    full.add_argument("--rules", type=int, help=f"configurations a family of rules; default: {Protocol.rules}")
    full.add_argument("--oracle", type=int, help="candidates that the oracles choose among; default: all tried")
    full.add_argument("--train-seeds", type=int, help=f"trainings of each policy; default: {Protocol.train_seeds}")
    full.add_argument("--train-decisions", type=int, help="of each training; default: the recipe's")
    full.add_argument("--no-momentum", dest="momentum", action="store_false", help="no trainings on momentum")
    full.add_argument("--page", type=Path, help="write the page here, its pictures beside it; default: in out")

    transfer = made.add_argument_group("transfer, which takes most options of the full protocol too")
    transfer.add_argument("--questions", nargs="+", choices=QUESTIONS, help="default: all")
    transfer.add_argument("--teachers", type=Path, help="folder of a full protocol; default: train its policies first")
    transfer.add_argument("--teacher-seed", type=int, help="which of the folder's trainings; default: 0")
    sentence = "policies that leave one out begin as clones of those for single problems; default: from nothing"
    transfer.add_argument("--cloned", action="store_true", help=sentence)
    return made


def read(given: argparse.Namespace) -> Study | Protocol | Transfer:
    """The settings that were asked for.

    Raises:
        ValueError: An option of another protocol, or a value that is not allowed.
    """
    options = vars(given)
    name, quick = options.pop("protocol"), options.pop("quick")
    kind = PROTOCOLS[name]
    if quick and kind is Study:
        raise ValueError("--quick makes the full protocol or that of transfers small: give --protocol full or transfer")
    options = {name: tuple(value) if name in TUPLES else value for name, value in options.items()}
    if "budget" in options:
        options["budget"] = _budget(options["budget"])
        if isinstance(options["budget"], dict) and kind is not Protocol:
            raise ValueError(f"--budget {' '.join(given.budget)}: budgets by problem are for --protocol full")
    foreign = sorted(set(options) - set(kind.__dataclass_fields__))
    if foreign:
        names = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise ValueError(f"{names}: no option of --protocol {name}")
    small = {key: value for key, value in QUICK.items() if key in kind.__dataclass_fields__} if quick else {}
    return kind(**{**small, **options})


def _budget(words: list[str]) -> float | dict[str, float]:
    """One number for all problems, or one for each that is named."""
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        named = dict(word.split("=") for word in words)
        if len(named) == len(words):
            return {problem: float(number) for problem, number in named.items()}
    except ValueError:
        pass
    raise ValueError(f"--budget takes a number, or PROBLEM=NUMBER for different problems, got {' '.join(words)}")
