"""The whole protocol in one command: tune the baselines, train the policies and controls, play all, and say what holds.

Every finished tuning, training and played agent is a file under the output folder (`study.pieces`),
so that an interrupted run is resumed where it was. The test split is read at the end alone: by playing, and by the
oracles, which choose in hindsight and are no schedules.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from study.baselines import FIXED, RATE_SCHEDULE, families_of, menu_of, tune
from study.contestants import LEARNED, MOMENTUM, RATE_ONLY, Contestant, contestants_of, settings_of, train_policy
from study.controls import masked, without_teleports
from study.pieces import Piece
from study.playing import entry, instances_of, play_one, timed
from study.shared import Gathered, Shared, command, digest, given_policies, slug
from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.references import REFERENCES, play_solver
from teleport_env.agents.comparison.solvers import solvers_of
from teleport_env.agents.comparison.study import MOST, check_settings, check_work
from teleport_env.agents.comparison.targets import paces_of
from teleport_env.agents.play import Played, play_many
from teleport_env.agents.policies.learned import LearnedSchedule, Masked
from teleport_env.agents.policies.learned_moves import Policy, policy_of
from teleport_env.agents.tuning.own_menu import fallback_of, plan_of
from teleport_env.agents.tuning.search import Config
from teleport_env.agents.tuning.tuning import Family
from teleport_env.envs.rewards import REWARDS
from teleport_env.envs.settings import Settings
from teleport_env.problems import problem_from
from teleport_env.reading import integer, known


@dataclass(frozen=True)
class Protocol(Shared):
    """Settings of the full protocol.

    Attributes:
        policies: Files of further policies, such as a generalist; each is played on the problems it knows.
        train_seeds: Trainings of each policy and control, and plays of each baseline with other numbers for the searches.
        plans: Configurations tried in each family of fixed schedules, controls and references, before the refinement.
        rules: Configurations tried in each family of rules and of random teleports.
        starts: Number of searches of each family, each of so many configurations, of all problems or by problem; not
            named: 1. The best counts.
        oracle: Candidates that the oracles choose among, the best on the train split first; None: all that were tried; 0:
            there are no oracles.
        budget: Gradient evaluations per episode, of all problems or by problem; None, or not named: the problem's default.
        momentum: Train on momentum too.
        trained: Names of the policies and controls to train, such as ``"learned"``; empty: all.
        reward: Name of the reward by whose return everything is tuned and trained, such as ``"score"``; None: orders gained.
        out: Folder for the results.
    """

    policies: tuple[Path, ...] = ()
    train_seeds: int = 5
    plans: int = 1000
    rules: int = 300
    starts: int | Mapping[str, int] = 1
    oracle: int | None = None
    budget: float | Mapping[str, float] | None = None
    momentum: bool = True
    trained: tuple[str, ...] = ()
    reward: str | None = None
    out: Path = Path("results/full")

    def __post_init__(self) -> None:
        check_settings(self, instances=2, train_seeds=1, plans=8, rules=8, tuning_instances=1)
        for name in ("train_decisions", "oracle"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 0 if name == "oracle" else 1, MOST**2)
        if self.reward is not None:
            known("reward", self.reward, REWARDS)
        for name in ("budget", "starts"):
            given = getattr(self, name)
            strangers = sorted(set(given) - set(self.problems)) if isinstance(given, Mapping) else []
            if strangers:
                raise ValueError(
                    f"{name} names {', '.join(strangers)}, but the problems are {', '.join(self.problems)}"
                )
        for problem in self.problems:
            integer("starts", self.starts_of(problem), 1, MOST)

    def budget_of(self, problem: str) -> float | None:
        """Gradient evaluations of an episode; None: the problem's default."""
        return self.budget.get(problem) if isinstance(self.budget, Mapping) else self.budget

    def starts_of(self, problem: str) -> int:
        """Number of searches of each family."""
        return self.starts.get(problem, 1) if isinstance(self.starts, Mapping) else self.starts

    def contestants(self, problem: str, tuned: Mapping[str, Mapping[str, Any]] | None = None) -> list[Contestant]:
        """Whom to train on a problem.

        Args:
            problem: Registered name.
            tuned: Findings of the tunings of the problem's families, by name: trainings that begin from a rule begin from
                the best of these (`Contestant.begun`).

        Raises:
            ValueError: ``trained`` names something else than a policy or control of the problem.
        """
        every = {one.name: one for one in contestants_of(problem, self.momentum, self.budget_of(problem), self.reward)}
        chosen = [every[known(f"trained on {problem}", name, every)] for name in self.trained or every]
        return chosen if tuned is None else [one.begun(problem, tuned, self.budget_of(problem)) for one in chosen]

    def changes(self, problem: str) -> dict[str, Any]:
        """What the trainings on a problem have other than their recipes."""
        return {**self.changed(self.budget_of(problem)), **self.by_reward}

    @property
    def by_reward(self) -> dict[str, Any]:
        """The reward as a setting of tunings and trainings; none where orders gained choose."""
        return {} if self.reward is None else {"reward": self.reward}

    def played(self, problem: str) -> dict[str, Any]:
        """What every played episode of a problem depends on beside the agent."""
        return self.episodes(problem, self.budget_of(problem), self.train_seeds)


@dataclass(frozen=True)
class Oracle:
    """A choice in hindsight.

    Attributes:
        best: Instance id to the best orders of magnitude gained on it.
        among: Number of candidates that it chose among.
    """

    best: dict[int, float]
    among: int


@dataclass
class Evidence(Gathered):
    """Everything that a run of the protocol found.

    Attributes:
        protocol: The settings.
        rows: One dict per episode, see `teleport_env.agents.comparison.summary.COLUMNS`.
        targets: One dict per episode, see `teleport_env.agents.comparison.targets.rows_of_targets`.
        curves: ``(problem, agent)`` to the quartiles of its loss over compute.
        traces: Single episodes, for a picture.
        tuned: ``(problem, family)`` to what its tuning found, as in `teleport_env.agents.tuning.search.Found`.
        trained: ``(problem, contestant)`` to one dict per seed, as `train_policy` returns it.
        oracles: ``(problem, name)`` to a choice in hindsight.
        about: ``(problem, agent)`` to a description of the row.
    """

    protocol: Protocol
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, str], dict[str, np.ndarray]] = field(default_factory=dict)
    traces: list[dict[str, Any]] = field(default_factory=list)
    tuned: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    trained: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    oracles: dict[tuple[str, str], Oracle] = field(default_factory=dict)
    about: dict[tuple[str, str], str] = field(default_factory=dict)


PLANNING = {LEARNED: "fixed", RATE_ONLY: "control"}
"""Contestants whose trainings bring a best plan as a baseline, and its kind: all are policies on plain descent."""


def best_plan_of(contestant: str) -> str:
    """Name in tables of the best plans that a contestant's trainings found."""
    return f"best plan of {contestant}"


def gather(protocol: Protocol, report: Callable[[str], None] = print) -> Evidence:
    """Do what is not yet done, and collect all.

    Args:
        protocol: The settings.
        report: Callback for a line of text on progress.

    Raises:
        FileNotFoundError: A problem's data are missing, before anything is computed.
        ValueError: A folder that cannot be written to, before anything is computed; or one that belongs to other settings.
    """
    began = time.perf_counter()
    evidence = Evidence(protocol, command=command())
    policies = further_policies(protocol)
    check_work(protocol.problems, ("train", "validation", protocol.split), protocol.out, protocol.page)

    tunings = {
        f"{problem}/tuned/{slug(name)}.json": (problem, name)
        for problem in protocol.problems
        for name in families_of(problem, protocol.budget_of(problem))
    }
    # the longest first, here and below: a process that is done early takes the short ones
    polished: list[Piece] = []
    short: list[Piece] = []
    for path, (problem, name) in tunings.items():
        family = families_of(problem, protocol.budget_of(problem))[name]
        (polished if family.polish else short).append(_tuning_piece(protocol, path, problem, name))
    short.reverse()  # problems are listed from the small to the large
    rivals: dict[str, dict[str, dict[str, Any]]] = {}
    if protocol.reward is not None:
        # a policy that begins from a rule begins from its strongest rival
        found = protocol.complete(polished + short, protocol.out, "tuning", report)
        for path, (problem, name) in tunings.items():
            rivals.setdefault(problem, {})[name] = found[path]
    trainings = {
        f"{problem}/trained/{slug(one.name)}-{seed}.json": (problem, one, seed)
        for problem in protocol.problems
        for one in protocol.contestants(problem, rivals.get(problem))
        for seed in range(protocol.train_seeds)
    }
    training = [_training_piece(protocol, path, *key) for path, key in trainings.items()]
    done = protocol.complete(polished + training + short, protocol.out, "tuning and training", report)
    evidence.tuned = {key: done[path] for path, key in tunings.items()}
    for path, (problem, one, _) in trainings.items():
        evidence.trained.setdefault((problem, one.name), []).append(done[path])

    report(f"Playing on the {protocol.split} split")
    plays = [piece for problem in protocol.problems for piece in _plays(protocol, problem, evidence, policies)]
    oracles = [piece for piece in plays if "/oracle/" in piece.path]
    played = protocol.complete([*oracles, *plays], protocol.out, "playing", report)
    for piece in plays:
        problem = piece.path.split("/")[0]
        for one in played[piece.path]:
            _take(evidence, problem, one)
    evidence.seconds = time.perf_counter() - began
    return evidence


def further_policies(protocol: Protocol) -> dict[str, tuple[Policy, str]]:
    """The policies of ``protocol.policies``; see `given_policies`."""
    taken = {one.name for problem in protocol.problems for one in protocol.contestants(problem)}
    taken |= {name for problem in protocol.problems for name in families_of(problem, protocol.budget_of(problem))}
    taken |= {*map(best_plan_of, PLANNING)}
    return given_policies(protocol.policies, taken | set(REFERENCES.values()))


def plays_on(policy: Policy, problem: str) -> bool:
    """Whether a policy can play a problem: one that it was trained on, or any that has teleports if it knows several."""
    known = not policy.problems or problem in policy.problems
    several = isinstance(policy, LearnedSchedule) and policy.families
    return known or bool(several and Settings.build(problem).symmetry)


# -- tuning and training -----------------------------------------------------------------------------------------------


def _tuning_piece(protocol: Protocol, path: str, problem: str, name: str) -> Piece:
    budget = protocol.budget_of(problem)
    family = families_of(problem, budget)[name]
    many = not family.axes.keys() & {"search", "scale"}
    settings = {
        "problem": problem,
        "family": name,
        "count": protocol.plans if many else protocol.rules,
        "instances": protocol.tuning_instances,
        "budget": budget,
        "first": [*family.first],
        "starts": protocol.starts_of(problem),
        "thorough": True,
        **protocol.by_reward,
        **_menu(problem, family),
    }
    return Piece(path, settings, _tune, (settings,))


def _menu(problem: str, family: Family) -> dict[str, Any]:
    """The searches that a family's configurations name by number: with another menu they would be other schedules."""
    return {"menu": menu_of(problem)} if family.axes.keys() & {"search", "which"} else {}


def _tune(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: settings[name] for name in ("count", "starts", "instances", "budget", "reward") if name in settings}
    return dataclasses.asdict(tune(settings["problem"], settings["family"], **rest))


def _training_piece(protocol: Protocol, path: str, problem: str, one: Contestant, seed: int) -> Piece:
    out = (protocol.out / path.removesuffix(".json")).absolute()  # a worker may stand in another folder
    training = one.training(seed, out, protocol.changes(problem))
    return Piece(path, settings_of(training), train_policy, (training,))


# -- playing -----------------------------------------------------------------------------------------------------------


def _plays(
    protocol: Protocol, problem: str, evidence: Evidence, policies: Mapping[str, tuple[Policy, str]]
) -> list[Piece]:
    pieces = []
    played = protocol.played(problem)
    families = families_of(problem, protocol.budget_of(problem))
    for name, family in families.items():
        evidence.about[problem, name] = family.about
        config = evidence.tuned[problem, name]["config"]
        settings = {**played, "family": name, "config": config, **_menu(problem, family)}
        pieces.append(Piece(f"{problem}/played/{slug(name)}.json", settings, _play_family, (settings,)))
    for one in protocol.contestants(problem):
        evidence.about[problem, one.name] = one.about
        texts = [found["policy"] for found in evidence.trained[problem, one.name]]
        settings = {**played, "name": one.name, "kind": one.kind, "policies": [*map(digest, texts)]}
        instead, bare = fallbacks_of(evidence, problem, one.name), masked_of(evidence, problem, one.name)
        if instead:
            evidence.about[problem, one.name] += f"; a plan or a rule plays in place of {instead} of {len(texts)} seeds"
        if bare:
            evidence.about[problem, one.name] += f"; {bare} of {len(texts)} seeds play with their teleports masked"
        if instead + bare:
            settings["fallbacks"] = instead + bare
        settings["bare"] = one.name in (LEARNED, MOMENTUM)
        pieces.append(Piece(f"{problem}/played/{slug(one.name)}.json", settings, _play_policies, (settings, texts)))
        if one.name in PLANNING and all(map(plan_of, policies_of(evidence, problem, one.name))):
            name = best_plan_of(one.name)
            settings = {**played, "name": name, "kind": PLANNING[one.name], "policies": settings["policies"]}
            pieces.append(Piece(f"{problem}/played/{slug(name)}.json", settings, _play_plans, (settings, texts)))
    for name, (policy, text) in policies.items():
        if not plays_on(policy, problem):
            continue
        seen = "and not on this one" if policy.problems and problem not in policy.problems else "in one training"
        evidence.about[problem, name] = f"a policy trained on {', '.join(policy.problems) or 'any problem'}, {seen}"
        settings = {**played, "name": name, "kind": policy.kind, "policies": [digest(text)]}
        settings["bare"] = policy.kind == "learned"
        if fallback_of(policy.for_problem(problem)) is not None:
            settings["fallbacks"] = 1
        pieces.append(Piece(f"{problem}/played/file-{slug(name)}.json", settings, _play_policies, (settings, [text])))
    for scipy_name in solvers_of(problem_from(problem)):
        settings = {**played, "method": scipy_name}
        pieces.append(Piece(f"{problem}/played/{slug(scipy_name)}.json", settings, _play_scipy, (settings,)))
    for name in () if protocol.oracle == 0 else (FIXED, RATE_SCHEDULE):
        if (problem, name) in evidence.tuned:
            found = evidence.tuned[problem, name]
            candidates = found["candidates"][: protocol.oracle]
            settings = {**played, "family": name, "config": found["config"], "candidates": candidates}
            settings |= _menu(problem, families[name])
            pieces.append(Piece(f"{problem}/oracle/{slug(name)}.json", settings, _play_oracle, (settings,)))
    return pieces


def _play_family(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A tuned baseline, once per seed; the fixed schedule also without its teleports."""
    family = families_of(settings["problem"], settings["budget"])[settings["family"]]
    agent = family.agent(settings["config"])
    played = [play_one(settings, agent, seed) for seed in range(settings["seeds"])]
    paces = timed(settings, agent, played)
    entries = [entry(played, family.about, paces, agent.step_actions)]
    if family.name == FIXED:
        bare = [play_one(settings, without_teleports(agent, found), seed) for seed, found in enumerate(played)]
        about = "the fixed schedule's own rates at its own steps, without its teleports"
        entries.append(entry(bare, about, paces, agent.step_actions))
    return entries


def _play_policies(settings: Mapping[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Policies of one name, one per training seed (or one for all); a policy that teleports also without doing so.

    Where a training found its policy to be worse than a plan of its menu, the rule it began from, or itself without
    teleports, that plays, and the controls are of what plays: so each control has every episode, paired.
    """
    played: dict[str, list[Played]] = {}
    agents: list[Agent] = []
    for seed in range(settings["seeds"]):
        own = policy_of(texts[seed % len(texts)]).for_problem(settings["problem"])
        policy: Agent = dataclasses.replace(fallback_of(own) or own, name=settings["name"])
        found = play_one(settings, policy, seed)
        agents.append(policy)
        played.setdefault("", []).append(found)
        if settings["bare"] and isinstance(own, LearnedSchedule) and own.environment.get("searches"):
            replayed = play_one(settings, without_teleports(policy, found), seed)
            played.setdefault("its decisions without the teleports, the freed budget spent on steps", []).append(
                replayed
            )
            again = play_one(settings, masked(policy), seed)
            played.setdefault("it decides again at every step, among gradient steps alone", []).append(again)
    if "fallbacks" in settings:  # seeds play different schedules
        paces = [timed(settings, agent, [found]) for agent, found in zip(agents, played[""], strict=True)]
    else:
        paces = [timed(settings, agents[0], played[""])] * len(agents)
    # decisions and steps take as long without teleports
    steps = [agent.step_actions for agent in agents]
    entries = [entry(found, about, paces, steps) for about, found in played.items()]
    for row in entries[0]["rows"]:
        row["kind"] = settings["kind"]
    if "optimizer" in policy.environment:  # whatever is left of momentum competes with no schedule of plain descent
        for bare in entries[1:]:
            for row in bare["rows"]:
                row["kind"] = "reference"
    return entries


def _play_plans(settings: Mapping[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The best plan that each training found before it learned, one per seed."""
    agents: list[Agent] = []
    for text in texts:
        plan = plan_of(policy_of(text))
        assert plan is not None
        agents.append(dataclasses.replace(plan, name=settings["name"], kind=settings["kind"]))
    played = [play_one(settings, agent, seed) for seed, agent in enumerate(agents)]
    paces = [timed(settings, agent, [found]) for agent, found in zip(agents, played, strict=True)]
    about = "the best fixed schedule of a policy's own menu, which its training found before it learned"
    return [entry(played, about, paces, [agent.step_actions for agent in agents])]


def _play_scipy(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    shared = {name: settings[name] for name in ("split", "instances", "seeds", "budget", "seed")}
    # it draws no random numbers: its one episode on an instance stands for every seed
    _, played, _ = play_solver(settings["problem"], settings["method"], **shared)
    return [entry(played, "a library's solver at the same evaluations and flops", paces_of(played))]


def _play_oracle(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """In hindsight: the best of all candidates of each instance, and the best of as many seeds of the tuned one."""
    problem, split, budget = settings["problem"], settings["split"], settings["budget"]
    family, ids = families_of(problem, budget)[settings["family"]], instances_of(settings)
    candidates: list[Config] = settings["candidates"]
    best = family.play(problem, candidates, ids, split=split, budget=budget, seed=0).max(axis=0)
    agent = family.agent(settings["config"])
    once = play_many(problem, [agent], ids, split=split, budget=budget, seed=0)[0]
    lucky = _best_seed(problem, family, settings["config"], ids, split, budget, len(candidates))
    found = {f"oracle of {family.name}s": best, f"best seed of the {family.name}": lucky}
    shared = {"ids": ids.tolist(), "among": len(candidates)}
    # the tuned one is among the candidates, whatever random numbers it drew among them
    return [{"oracle": name, "best": np.maximum(values, once).tolist(), **shared} for name, values in found.items()]


def _best_seed(
    problem: str, family: Family, config: Config, ids: np.ndarray, split: str, budget: float | None, count: int
) -> np.ndarray:
    """The best of ``count`` seeds of one configuration, instance by instance ``(instances,)``."""
    at_once = max(1, 2048 // len(ids))
    best = np.full(len(ids), -np.inf)
    for number, begin in enumerate(range(0, count, at_once)):
        copies = min(at_once, count - begin)
        gained = family.play(problem, [config], np.tile(ids, copies), split=split, budget=budget, seed=1 + number)
        gained = gained.reshape(copies, len(ids))
        best = np.maximum(best, gained.max(axis=0))
        if copies > 1 and (gained == gained[0]).all():
            break  # it draws no random numbers
    return best


def _take(evidence: Evidence, problem: str, found: Mapping[str, Any]) -> None:
    if "oracle" in found:
        best = dict(zip(found["ids"], found["best"], strict=True))
        evidence.oracles[problem, found["oracle"]] = Oracle(best, found["among"])
        return
    key = problem, found["agent"]
    evidence.rows += found["rows"]
    evidence.targets += found["targets"]
    evidence.curves[key] = {name: np.array(values) for name, values in found["curve"].items()}
    evidence.about[key] = evidence.about.get(key) or found["about"]
    if found["rows"][0]["kind"] not in ("reference", "structure"):
        evidence.traces.append(dict(found["trace"]))


def policies_of(evidence: Evidence, problem: str, name: str) -> list[Policy]:
    """The trained policies of a contestant, one per seed."""
    return [policy_of(found["policy"]) for found in evidence.trained.get((problem, name), [])]


def fallbacks_of(evidence: Evidence, problem: str, name: str) -> int:
    """Number of seeds where a plan or a rule plays in place of a contestant's policy."""
    played = map(fallback_of, policies_of(evidence, problem, name))
    return sum(not isinstance(agent, Masked | None) for agent in played)


def masked_of(evidence: Evidence, problem: str, name: str) -> int:
    """Number of seeds where a contestant's policy plays with its teleports masked, because they did not pay."""
    return sum(isinstance(fallback_of(policy), Masked) for policy in policies_of(evidence, problem, name))


def protocol_settings(evidence: Evidence) -> dict[str, Any]:
    """Settings and versions of the results, for ``settings.json``."""
    protocol = evidence.protocol
    content = json.loads(json.dumps(dataclasses.asdict(protocol), default=str))
    return {
        **content,
        "command": evidence.command,
        "versions": evidence.versions,
        "seconds": round(evidence.seconds, 1),
        "tuning_runs": sum(found["episodes"] for found in evidence.tuned.values()),
        "training_decisions": sum(one["decisions"] for found in evidence.trained.values() for one in found),
    }
