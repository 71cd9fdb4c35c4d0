"""What a comparison of transfers does in its workers, and what goes to them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.baselines import DISTILLED, FIXED, tune
from study.contestants import train_policy
from study.pieces import content_of
from study.shared import digest
from study.transfer_schedules import Ground, plain_rate, tune_schedule
from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.study import play_alone
from teleport_env.agents.comparison.targets import paces_of, rows_of_targets
from teleport_env.agents.learning.recipes import recipe
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.warm_start import teacher_of
from teleport_env.agents.naming import SCORE_SPECIALIST, agent_for, best_rule
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned import GENERALIST, LearnedSchedule, Masked, specialists
from teleport_env.agents.policies.network import NetworkAgent
from teleport_env.agents.policies.slots import relative, search_prices
from teleport_env.agents.tuning.search import Found
from teleport_env.envs.settings import Settings
from teleport_env.files import write

LEFT_OUT = "learned on the others"
CARRIED = "fixed schedule of the others"
PLAIN = "plain descent"
LINES = "line search"
STEPS = "the same steps without teleports"
CARRIED_STEPS = "the same steps, teleports of the others"
OWN = "learned on it"
OWN_FIXED = "fixed schedule tuned on it"
LONGER = "fixed schedule of this budget"
RULE = "best rule"
SHIPPED_TOO = {"generalist": GENERALIST, "learned on it for the score": SCORE_SPECIALIST}
"""Names in tables of further policies that the package brings, and the names by which it knows them."""

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "MatrixFactorization": {
        "rank 2": {"rank": 2},
        "rank 5": {"rank": 5},
        "all doubled": {"rows": 12, "columns": 10, "rank": 6},
    },
    "LinearNetwork": {
        "half the width": {"widths": (5, 3, 3, 4)},
        "double the width": {"widths": (5, 12, 12, 4)},
        "two layers": {"widths": (5, 6, 4)},
        "four layers": {"widths": (5, 6, 6, 6, 4)},
    },
    "MLPRegression": {
        "half the width": {"widths": (5, 3, 4, 8)},
        "double the width": {"widths": (5, 12, 14, 8)},
        "two layers": {"widths": (5, 6, 8)},
        "four layers": {"widths": (5, 6, 6, 7, 8)},
    },
}
"""Other sizes of a problem, as its arguments."""

MIXTURE: dict[str, Any] = {
    "decisions": 800_000,
    "critic_segments": 0,
    "plans": 0,
    "rules": 0,
    "warm_start": False,
    "temperatures": (0.0, 0.5),
    "rate_multiples": (0.25, 1.0, 4.0),
    "name": LEFT_OUT,
}
"""What a policy for all problems but one has other than the recipe of several. Without the multiples of rates it trusts a
base rate that is another problem's."""

CLONE: dict[str, Any] = {"decisions": 400_000, "step_size": 5e-4, "entropy": 0.005, "critic_segments": 2}
"""What it has besides where it begins as a clone of policies for single problems, like the pretrained one."""


def mixture(
    known: Sequence[str],
    changes: Mapping[str, Any],
    seed: int,
    out: Path,
    texts: Mapping[str, str],
    rates: Mapping[str, float],
) -> Training:
    """The training of a policy for some problems.

    Args:
        known: The problems.
        changes: Settings other than those of `MIXTURE` and `CLONE`; those of families are added to the recipe's.
        seed: Seed of the training.
        out: Its folder.
        texts: Files of its teachers by problem, if it has some; they lie beside the checkpoint, under names that tell them
            from others.
        rates: Base learning rates by problem, where no teacher brings one.
    """
    begins, asked = recipe(known), changes.get("families", {})
    settings = {**begins, **MIXTURE, **(CLONE if texts else {}), **changes, "seed": seed, "out": out}
    settings["families"] = {name: {**begins["families"].get(name, {}), **asked.get(name, {})} for name in known}
    if not texts:
        families = {name: {**settings["families"].get(name, {}), "learning_rate": rates[name]} for name in known}
        settings["families"] = families
    # nothing is searched for beforehand: rates are given, or teachers bring what plans have found
    settings |= {name: MIXTURE[name] for name in ("plans", "rules", "warm_start")}
    # equal parts of the runs for each problem and rate
    parts = len(known) * len(settings["rate_multiples"])
    settings["runs"] = parts * max(1, settings["runs"] // parts)
    settings["teachers"] = tuple(_lesson(out, name, text) for name, text in texts.items())
    return Training.of(**settings)


def can_teach(training: Training, text: str) -> bool:
    """Whether a policy, given as its file's text, plays in the environment of a training on its problem."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        write(path, text)
        try:
            return teacher_of(training, (path,)) is not None
        except ValueError:  # its actions mean something else
            return False


def resized(policy: NetworkAgent, problem: str, shape: Mapping[str, Any]) -> NetworkAgent:
    """A policy on another size of its problem, with what searches cost there."""
    if not isinstance(policy, LearnedSchedule) or policy.prices is None:
        return policy
    environment = dict(policy.environment)
    prices = search_prices(problem, environment.pop("searches", ()), problem=dict(shape), **environment)
    return dataclasses.replace(policy, prices=relative(prices))


def at_rate(agent: Agent, multiple: float) -> Agent:
    """An agent at a multiple of its learning rate."""
    rate = multiple * agent.environment["learning_rate"]
    return dataclasses.replace(agent, environment={**agent.environment, "learning_rate": rate})


def describe(agent: Agent) -> dict[str, Any]:
    """All that an agent's play depends on, in JSON's types."""
    apart = ("layers", "provenance")
    content = {one.name: getattr(agent, one.name) for one in dataclasses.fields(agent) if one.name not in apart}
    if isinstance(agent, NetworkAgent):
        content["layers"] = hashlib.sha256(
            b"".join(part.tobytes() for layer in agent.layers for part in layer)
        ).hexdigest()
    if isinstance(agent, Masked):
        content["policy"] = describe(agent.policy)
    described: dict[str, Any] = json.loads(json.dumps({"class": type(agent).__name__, **content}, default=repr))
    return described


def _lesson(out: Path, problem: str, text: str) -> Path:
    return out / "teachers" / f"{problem}-{digest(text)[:12]}.json"


def text_of(path: Path, budget: float | None) -> str:
    """The policy's file within a finished training of a full protocol.

    Args:
        path: The piece.
        budget: Budget that it must have been trained on; None: the problem's.

    Raises:
        ValueError: It is none, or was trained on another budget.
    """
    try:
        content = content_of(path)
        text: str = content["result"]["policy"]
        trained = content["settings"]["budget"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a finished training of a full protocol ({error})") from error
    if trained != budget:
        told = ["the problem's own budget" if one is None else f"a budget of {one:g}" for one in (trained, budget)]
        raise ValueError(f"{path} was trained on {told[0]}, and this comparison has {told[1]}; give other --teachers")
    return text


# -- what is done in workers -------------------------------------------------------------------------------------------


def sweep(settings: Mapping[str, Any]) -> dict[str, Any]:
    return plain_rate(**settings)


def tune_fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: settings[name] for name in ("count", "instances", "budget")}
    return _without_candidates(tune(settings["problem"], FIXED, **rest))


def tune_carried(grounds: Sequence[Ground], count: int, instances: int) -> dict[str, Any]:
    return _without_candidates(tune_schedule(grounds, count=count, instances=instances))


def _without_candidates(found: Found) -> dict[str, Any]:
    kept = {name: value for name, value in dataclasses.asdict(found).items() if name != "candidates"}
    return {**kept, "edges": list(found.edges)}  # as its file will say


def train_mixture(training: Training, texts: Mapping[str, str]) -> dict[str, Any]:
    for problem, text in texts.items():
        path = _lesson(training.out, problem, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text)
    return train_policy(training)


def tune_rule(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: settings[name] for name in ("count", "instances", "budget")}
    return _without_candidates(tune(settings["problem"], DISTILLED, **rest))


def kept_rule(problem: str, budget: float | None) -> Agent | None:
    """The best of the rules whose tuned settings the package keeps; None where it keeps none."""
    name = best_rule(problem, budget)
    return None if name is None else agent_for(problem, name, budget=budget)


def shipped_too(problem: str) -> dict[str, Agent]:
    """What plays of `SHIPPED_TOO` on a problem, fallbacks in their places; those by the score are brought for some alone."""
    kept = [name for name, one in SHIPPED_TOO.items() if one != SCORE_SPECIALIST or problem in specialists("score")]
    return {name: agent_for(problem, SHIPPED_TOO[name]) for name in kept}


def play_agents(settings: Mapping[str, Any], agents: Sequence[Agent]) -> dict[str, Any]:
    """One agent for all seeds, or one per seed; a seed is also that of the searches' random numbers.

    Returns:
        ``rows`` and ``targets``, one of each per episode.
    """
    more: dict[str, Any] = {"problem": dict(settings["shape"])} if settings["shape"] else {}
    problem, split = settings["problem"], settings["split"]
    tolerance = Settings.build(problem, split=split).tolerance * settings.get("tolerance", 1.0)
    ids = draw_instances(problem, split, settings["instances"], settings["seed"], more)
    more |= {"tolerance": tolerance} if "tolerance" in settings else {}
    asked: dict[str, Any] = {"split": split, "budget": settings["budget"], "settings": more}
    played = [play(problem, agents[seed % len(agents)], ids, seed=seed, **asked) for seed in range(settings["seeds"])]
    steps = agents[0].step_actions
    paces = paces_of(play_alone(problem, agents[0], ids, played, **asked), steps)
    names = ("seed", "instance_id", "gained", "diverged", "teleports")
    return {
        "rows": [{name: row[name] for name in names} for one in played for row in one.rows],
        "targets": [row for one in played for row in rows_of_targets(one, tolerance, paces, steps)],
    }
