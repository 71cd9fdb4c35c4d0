"""The factorial that isolates teleports: three ways to choose the rate, two optimizers, each with teleports and without.

Everything is tuned alike: as many configurations or decisions for a cell with teleports as for the same cell without, and
each of the two may play what the other was tuned to (`study.factorial_pairs`). Cells are tuned and trained on the train
split, policies are chosen on the validation split, and the test split is played at the end alone. As in the full protocol
every finished piece is a file (`study.pieces`).
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from study.baselines import PLAIN, menu_of
from study.contestants import settings_of, train_policy
from study.factorial_cells import CELLS, Cell, begun_from, family_of, trained_cells, tuned_cells
from study.factorial_pairs import Pair, judging, judging_policies, masked, stripped
from study.look_ahead import foreseen
from study.pieces import Piece
from study.playing import entry, instances_of, play_one, timed
from study.shared import NEW, SEVEN, Gathered, Shared, command, digest, slug
from teleport_env.agents.comparison.study import MOST, check_settings, check_work
from teleport_env.agents.policies.learned_moves import policy_of
from teleport_env.agents.tuning.search import Config
from teleport_env.agents.tuning.tuning import tune as tune_family
from teleport_env.reading import integer


@dataclass(frozen=True)
class Factorial(Shared):
    """Settings of the factorial.

    Attributes:
        problems: Registered names, each of a problem with a symmetry.
        train_seeds: Trainings of each learned cell, and plays of each tuned one with other numbers for the searches.
        rules: Configurations tried in each tuned cell, before the refinement.
        starts: Number of searches of each tuned cell, each of so many configurations. The best counts.
        oracle: Configurations of each tuned cell that the oracles choose among in hindsight, the best on the train split
            first; 0: no oracles.
        look_ahead: Instances that the look-ahead plays, the first of those that all play; 0: no look-ahead.
        budget: Gradient evaluations per episode; None: the problem's default.
        out: Folder for the results.
    """

    problems: tuple[str, ...] = (*SEVEN, *NEW)
    train_seeds: int = 3
    rules: int = 300
    starts: int = 1
    oracle: int = 64
    look_ahead: int = 64
    budget: float | None = None
    out: Path = Path("results/factorial")

    def __post_init__(self) -> None:
        check_settings(self, instances=2, train_seeds=1, rules=8, starts=1, tuning_instances=1)
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
        pairs: ``(problem, cell with teleports)`` to what it and its counterpart may play, per tuning or training seed.
        judged: Episodes that judged settings without their teleports.
        configs: ``(problem, cell)`` to the settings that a tuned cell plays; None: a trained one.
        oracles: ``(problem, cell)`` to the best of the configurations that it may play, per instance ``(B,)``.
        foreseen: ``(problem, teleports)`` to what the look-ahead came to, as `study.look_ahead.foreseen` has it.
    """

    factorial: Factorial
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    tuned: dict[tuple[str, Cell], dict[str, Any]] = field(default_factory=dict)
    trained: dict[tuple[str, Cell], list[dict[str, Any]]] = field(default_factory=dict)
    pairs: dict[tuple[str, Cell], list[Pair]] = field(default_factory=dict)
    judged: int = 0
    configs: dict[tuple[str, Cell], Config | None] = field(default_factory=dict)
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

    judgings: dict[tuple[str, Cell], list[Piece]] = {}
    for problem, cell in ((problem, cell) for problem in factorial.problems for cell in CELLS if cell.teleports):
        if (problem, cell) in found.tuned:
            asked = tunings[problem, cell.without].settings
            judgings[problem, cell] = [judging(asked, cell, found.tuned[problem, cell]["config"])]
        else:
            texts = zip(*(_texts(found, problem, one) for one in (cell.without, cell)), strict=True)
            judgings[problem, cell] = [
                judging_policies(trainings[problem, cell, seed].arguments[0], cell, both)
                for seed, both in enumerate(texts)
            ]
    judged = factorial.complete(itertools.chain(*judgings.values()), factorial.out, "judging", report)
    for (problem, cell), pieces in judgings.items():
        results = [judged[piece.path] for piece in pieces]
        if (problem, cell) in found.tuned:
            own, teleporting = (found.tuned[problem, one]["gained"] for one in (cell.without, cell))
            found.pairs[problem, cell] = [Pair(own, teleporting, one["gained"]) for one in results]
            found.judged += sum(one["episodes"] for one in results)
        else:
            found.pairs[problem, cell] = [Pair(*gains) for gains in results]

    plays: dict[tuple[str, Cell | bool | None], Piece] = {}  # None: plain descent; bool: the look-ahead
    oracles: dict[tuple[str, Cell], list[Piece]] = {}
    for problem in factorial.problems:
        shared = factorial.episodes(problem, factorial.budget, factorial.train_seeds)
        plays[problem, None] = _playing(shared, PLAIN, done[tunings[problem, None].path][0]["config"])
        for teleports in (False, True) if factorial.look_ahead else ():
            settings = {**shared, "first": factorial.look_ahead, "teleports": teleports}
            path = f"{problem}/look-ahead/{'with' if teleports else 'without'}.json"
            plays[problem, teleports] = Piece(path, settings, foreseen, (settings,))
        for cell in CELLS:
            playing = _playing_settings if (problem, cell) in found.tuned else _playing_policies
            plays[problem, cell] = playing(found, shared, cell)
            if (problem, cell) in found.tuned and factorial.oracle:
                oracles[problem, cell] = _oracles(found, shared, cell)
    played = factorial.complete(
        [*plays.values(), *itertools.chain(*oracles.values())], factorial.out, "playing", report
    )
    for (problem, player), piece in plays.items():
        result = played[piece.path]
        if isinstance(player, bool):
            found.foreseen[problem, player] = result
        else:
            name = PLAIN if player is None else player.name  # what a cell borrows was played under another name
            found.rows += [{**row, "agent": name} for row in result["rows"]]
            found.targets += [{**row, "agent": name} for row in result["targets"]]
            if player is not None:
                found.configs[problem, player] = piece.settings.get("config")
    for key, pieces in oracles.items():
        found.oracles[key] = np.max([played[piece.path] for piece in pieces], axis=0).tolist()
    found.seconds = time.perf_counter() - began
    return found


def _problem_of(factorial: Factorial, piece: Piece) -> int:
    return factorial.problems.index(piece.path.split("/")[0])


def _tuning(factorial: Factorial, problem: str, name: str) -> Piece:
    settings = {
        "problem": problem,
        "family": name,
        "count": factorial.rules,
        "instances": factorial.tuning_instances,
        "budget": factorial.budget,
        "menu": menu_of(problem),
        "starts": factorial.starts,
        "thorough": True,
    }
    return Piece(f"{problem}/tuned/{slug(name)}.json", settings, _tune, (settings,))


def _tune(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A cell without teleports, then the same with them, which begins from the best of the former."""
    asked = {name: settings[name] for name in ("count", "instances", "budget", "starts", "thorough")}
    problem, families = settings["problem"], tuned_cells(settings["problem"], settings["budget"])
    found = [tune_family({problem: family_of(problem, settings["budget"], settings["family"])}, **asked)]
    for cell, family in families.items():
        if cell.teleports and cell.without.name == settings["family"]:
            found.append(tune_family({problem: begun_from(family, [found[0].config])}, **asked))
    return [dataclasses.asdict(one) for one in found]


def _texts(found: Factored, problem: str, cell: Cell) -> list[str]:
    """The files of a cell's policies, one per training seed."""
    return [one["policy"] for one in found.trained[problem, cell]]


def _playing(shared: Mapping[str, Any], name: str, config: Config, mark: str = "") -> Piece:
    settings = {**shared, "family": name, "config": config, "menu": menu_of(shared["problem"])}
    return Piece(f"{shared['problem']}/played/{slug(name)}{mark}.json", settings, _play_family, (settings,))


def _playing_settings(found: Factored, shared: Mapping[str, Any], cell: Cell) -> Piece:
    """What a tuned cell plays, its own settings or its counterpart's."""
    problem, (pair,) = shared["problem"], found.pairs[shared["problem"], cell.with_teleports]
    if not pair.borrows(cell):
        return _playing(shared, cell.name, found.tuned[problem, cell]["config"])
    if cell.teleports:
        return _playing(shared, cell.without.name, found.tuned[problem, cell.without]["config"])
    config = found.tuned[problem, cell.with_teleports]["config"]
    return _playing(shared, cell.name, stripped(problem, shared["budget"], cell, config), "-stripped")


def _playing_policies(found: Factored, shared: Mapping[str, Any], cell: Cell) -> Piece:
    """What a trained cell plays: of each training seed its own policy or its counterpart's."""
    problem = shared["problem"]
    borrowed = [pair.borrows(cell) for pair in found.pairs[problem, cell.with_teleports]]
    if cell.teleports and all(borrowed):
        cell, borrowed = cell.without, [False] * len(borrowed)
    other = cell.without if cell.teleports else cell.with_teleports
    pairs = zip(_texts(found, problem, cell), _texts(found, problem, other), borrowed, strict=True)
    texts = [its if borrows else own for own, its, borrows in pairs]
    settings = {**shared, "name": cell.name, "policies": [*map(digest, texts)]}
    path = f"{problem}/played/{slug(cell.name)}.json"
    if any(borrowed):
        settings["masked"] = [borrows and not cell.teleports for borrows in borrowed]
        path = f"{problem}/played/{slug(cell.name)}-borrowed.json"
    return Piece(path, settings, _play_policies, (settings, texts))


def _oracles(found: Factored, shared: Mapping[str, Any], cell: Cell) -> list[Piece]:
    """The pieces of hindsight: as many configurations of a tuned cell as of its counterpart, which may play them too."""
    problem, count = shared["problem"], found.factorial.oracle
    own, teleporting = (found.tuned[problem, one]["candidates"][:count] for one in (cell.without, cell.with_teleports))
    bare = [stripped(problem, shared["budget"], cell, one) for one in teleporting]
    asked = [(cell.without, own, ""), (cell, teleporting, "") if cell.teleports else (cell, bare, "-stripped")]
    pieces = []
    for player, candidates, mark in asked:
        settings = {**shared, "family": player.name, "candidates": candidates, "menu": menu_of(problem)}
        path = f"{problem}/oracle/{slug(player.name)}{mark}.json"
        pieces.append(Piece(path, settings, _play_oracle, (settings,)))
    return pieces


def _play_family(settings: Mapping[str, Any]) -> dict[str, Any]:
    family = family_of(settings["problem"], settings["budget"], settings["family"])
    agent = family.agent(settings["config"])
    played = [play_one(settings, agent, seed) for seed in range(settings["seeds"])]
    return entry(played, family.about, timed(settings, agent, played), agent.step_actions)


def _play_policies(settings: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Policies of a cell, one per training seed; its counterpart's have their teleports masked."""
    problem, bare = settings["problem"], settings.get("masked", [False] * len(texts))
    policies = [dataclasses.replace(policy_of(text).for_problem(problem), name=settings["name"]) for text in texts]
    agents = [masked(one) if strip else one for one, strip in zip(policies, bare, strict=True)]
    played = [play_one(settings, agent, seed) for seed, agent in enumerate(agents)]
    # policies of a cell and of its counterpart may have different menus
    paces = [timed(settings, agent, [one]) for agent, one in zip(agents, played, strict=True)]
    found = entry(played, "policies, one per training seed", paces, [agent.step_actions for agent in agents])
    for row in found["rows"]:
        row["kind"] = "learned" if "teleports" in settings["name"] else "control"
    return found


def _play_oracle(settings: Mapping[str, Any]) -> list[float]:
    """In hindsight: the best of a cell's configurations, instance by instance ``(B,)``."""
    asked = {name: settings[name] for name in ("split", "budget")}
    family = family_of(settings["problem"], settings["budget"], settings["family"])
    gained = family.play(settings["problem"], settings["candidates"], instances_of(settings), seed=0, **asked)
    best: list[float] = gained.max(axis=0).tolist()
    return best
