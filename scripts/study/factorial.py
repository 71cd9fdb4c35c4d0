"""The factorial that isolates teleports: three ways to choose the rate, two optimizers, each with teleports and without.

Everything is tuned alike: as many configurations or decisions for a cell with teleports as for the same cell without. Cells
are tuned and trained on the train split, policies are kept by the validation split, and the test split is played at the end
alone. As in the full protocol every finished piece is a file (`study.pieces`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.baselines import PLAIN, families_of, menu_of
from study.contestants import settings_of, train_policy
from study.factorial_cells import CELLS, Cell, begun_from, trained_cells, tuned_cells
from study.look_ahead import foreseen
from study.pieces import Piece
from study.playing import entry, instances_of, play_one, timed
from study.shared import NEW, SEVEN, Gathered, Shared, command, digest, slug
from teleport_env.agents.comparison.study import MOST, check_settings, check_work
from teleport_env.agents.policies.learned_moves import policy_of
from teleport_env.agents.tuning.tuning import Family
from teleport_env.agents.tuning.tuning import tune as tune_family
from teleport_env.reading import integer


@dataclass(frozen=True)
class Factorial(Shared):
    """Settings of the factorial.

    Attributes:
        problems: Registered names, each of a problem with a symmetry.
        train_seeds: Trainings of each learned cell, and plays of each tuned one with other numbers for the searches.
        rules: Configurations tried in each tuned cell, before the refinement.
        oracle: Configurations of each tuned cell that the oracles choose among in hindsight, the best on the train split
            first; 0: no oracles.
        look_ahead: Instances that the look-ahead plays, the first of those that all play; 0: no look-ahead.
        budget: Gradient evaluations per episode; None: the problem's default.
        out: Folder for the results.
    """

    problems: tuple[str, ...] = (*SEVEN, *NEW)
    train_seeds: int = 3
    rules: int = 300
    oracle: int = 64
    look_ahead: int = 64
    budget: float | None = None
    out: Path = Path("results/factorial")

    def __post_init__(self) -> None:
        check_settings(self, instances=2, train_seeds=1, rules=8, tuning_instances=1)
        for name in ("oracle", "look_ahead"):
            integer(name, getattr(self, name), 0, MOST)
        if self.train_decisions is not None:
            integer("train_decisions", self.train_decisions, 1, MOST**2)
        for problem in self.problems:
            if not menu_of(problem):
                raise ValueError(
                    f"{problem} has no symmetry: there is nothing to teleport; take it out of the problems"
                )


@dataclass
class Factored(Gathered):
    """Everything that a run found.

    Attributes:
        factorial: The settings.
        rows: One dict per episode of a cell, see `teleport_env.agents.comparison.summary.COLUMNS`.
        targets: One dict per episode, see `teleport_env.agents.comparison.targets.rows_of_targets`.
        tuned: ``(problem, cell)`` to what its tuning found, as in `teleport_env.agents.tuning.search.Found`.
        trained: ``(problem, cell)`` to one dict per seed, as `train_policy` returns it.
        oracles: ``(problem, cell)`` to the best of its configurations, per instance ``(B,)``.
        foreseen: ``(problem, teleports)`` to what the look-ahead came to, as `study.look_ahead.foreseen` has it.
    """

    factorial: Factorial
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    tuned: dict[tuple[str, Cell], dict[str, Any]] = field(default_factory=dict)
    trained: dict[tuple[str, Cell], list[dict[str, Any]]] = field(default_factory=dict)
    oracles: dict[tuple[str, Cell], list[float]] = field(default_factory=dict)
    foreseen: dict[tuple[str, bool], dict[str, list[float]]] = field(default_factory=dict)


def gather_factorial(factorial: Factorial, report: Callable[[str], None] = print) -> Factored:
    """Do what is not yet done, and collect all; ``report`` is called with a line of text now and then.

    Raises:
        FileNotFoundError: A problem's data are missing, before anything is computed.
        ValueError: A folder that cannot be written to, before anything is computed; or one that belongs to other settings.
    """
    began = time.perf_counter()
    found = Factored(factorial, command=command())
    check_work(factorial.problems, ("train", "validation", factorial.split), factorial.out, factorial.page)
    tunings: dict[tuple[str, Cell | None], Piece] = {}  # None: plain descent
    trainings: dict[tuple[str, Cell, int], Piece] = {}
    for problem in factorial.problems:
        for cell in tuned_cells(problem, factorial.budget):
            if not cell.teleports:
                tunings[problem, cell] = _tuning(factorial, problem, cell.name)
        tunings[problem, None] = _tuning(factorial, problem, PLAIN)
        for cell, one in trained_cells(problem, factorial.budget).items():
            for seed in range(factorial.train_seeds):
                place = f"{problem}/trained/{slug(cell.name)}-{seed}"
                training = one.training(seed, (factorial.out / place).absolute(), factorial.changed(factorial.budget))
                trainings[problem, cell, seed] = Piece(
                    f"{place}.json", settings_of(training), train_policy, (training,)
                )
    # problem by problem, so that an interrupted run has whole problems
    work = sorted([*tunings.values(), *trainings.values()], key=lambda one: _problem_of(factorial, one))
    done = factorial.complete(work, factorial.out, "tuning and training", report)
    for (problem, tuned), piece in tunings.items():
        if tuned is not None:
            found.tuned[problem, tuned], found.tuned[problem, tuned.with_teleports] = done[piece.path]
    for (problem, cell, _), piece in trainings.items():
        found.trained.setdefault((problem, cell), []).append(done[piece.path])

    plays: dict[tuple[str, str, Cell | bool | None], Piece] = {}
    for problem in factorial.problems:
        shared = factorial.episodes(problem, factorial.budget, factorial.train_seeds)
        plays["play", problem, None] = _playing(shared, PLAIN, done[tunings[problem, None].path][0])
        for teleports in (False, True) if factorial.look_ahead else ():
            settings = {**shared, "first": factorial.look_ahead, "teleports": teleports}
            path = f"{problem}/look-ahead/{'with' if teleports else 'without'}.json"
            plays["look ahead", problem, teleports] = Piece(path, settings, foreseen, (settings,))
        for cell in CELLS:
            if (problem, cell) in found.tuned:
                plays["play", problem, cell] = _playing(shared, cell.name, found.tuned[problem, cell])
                if factorial.oracle:
                    candidates = found.tuned[problem, cell]["candidates"][: factorial.oracle]
                    settings = {**shared, "family": cell.name, "candidates": candidates, "menu": menu_of(problem)}
                    path = f"{problem}/oracle/{slug(cell.name)}.json"
                    plays["oracle", problem, cell] = Piece(path, settings, _play_oracle, (settings,))
            else:
                texts = [one["policy"] for one in found.trained[problem, cell]]
                settings = {**shared, "name": cell.name, "policies": [*map(digest, texts)]}
                path = f"{problem}/played/{slug(cell.name)}.json"
                plays["play", problem, cell] = Piece(path, settings, _play_policies, (settings, texts))
    played = factorial.complete(plays.values(), factorial.out, "playing", report)
    for (kind, problem, player), piece in plays.items():
        result = played[piece.path]
        if isinstance(player, bool):
            found.foreseen[problem, player] = result
        elif kind == "oracle" and player is not None:
            found.oracles[problem, player] = result
        else:
            found.rows += result["rows"]
            found.targets += result["targets"]
    found.seconds = time.perf_counter() - began
    return found


def _problem_of(factorial: Factorial, piece: Piece) -> int:
    return factorial.problems.index(piece.path.split("/")[0])


def _family(settings: Mapping[str, Any]) -> Family:
    problem, budget, name = settings["problem"], settings["budget"], settings["family"]
    if name == PLAIN:
        return families_of(problem, budget)[PLAIN]
    return next(family for cell, family in tuned_cells(problem, budget).items() if cell.name == name)


def _tuning(factorial: Factorial, problem: str, name: str) -> Piece:
    settings = {
        "problem": problem,
        "family": name,
        "count": factorial.rules,
        "instances": factorial.tuning_instances,
        "budget": factorial.budget,
        "menu": menu_of(problem),
    }
    return Piece(f"{problem}/tuned/{slug(name)}.json", settings, _tune, (settings,))


def _tune(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A cell without teleports, then the same with them, which begins from the best of the former."""
    asked = {name: settings[name] for name in ("count", "instances", "budget")}
    problem, families = settings["problem"], tuned_cells(settings["problem"], settings["budget"])
    found = [tune_family({problem: _family(settings)}, **asked)]
    for cell, family in families.items():
        if cell.teleports and cell.without.name == settings["family"]:
            found.append(tune_family({problem: begun_from(family, [found[0].config])}, **asked))
    return [dataclasses.asdict(one) for one in found]


def _playing(shared: Mapping[str, Any], name: str, tuned: Mapping[str, Any]) -> Piece:
    settings = {**shared, "family": name, "config": tuned["config"], "menu": menu_of(shared["problem"])}
    return Piece(f"{shared['problem']}/played/{slug(name)}.json", settings, _play_family, (settings,))


def _play_family(settings: Mapping[str, Any]) -> dict[str, Any]:
    family = _family(settings)
    agent = family.agent(settings["config"])
    played = [play_one(settings, agent, seed) for seed in range(settings["seeds"])]
    return entry(played, family.about, timed(settings, agent, played), agent.step_actions)


def _play_policies(settings: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Policies of a cell, one per training seed."""
    policies = [
        dataclasses.replace(policy_of(text).for_problem(settings["problem"]), name=settings["name"]) for text in texts
    ]
    played = [play_one(settings, policy, seed) for seed, policy in enumerate(policies)]
    paces, steps = timed(settings, policies[0], played), policies[0].step_actions
    found = entry(played, "policies, one per training seed", paces, steps)
    for row in found["rows"]:
        row["kind"] = "learned" if "teleports" in settings["name"] else "control"
    return found


def _play_oracle(settings: Mapping[str, Any]) -> list[float]:
    """In hindsight: the best of a cell's configurations, instance by instance ``(B,)``."""
    asked = {name: settings[name] for name in ("split", "budget")}
    family = _family(settings)
    gained = family.play(settings["problem"], settings["candidates"], instances_of(settings), seed=0, **asked)
    best: list[float] = gained.max(axis=0).tolist()
    return best
