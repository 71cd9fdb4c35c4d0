"""A whole comparison: tune, play, measure, write.

`Study` is its settings (they become the command line of ``scripts/compare.py``), `run_study` the work. Agents of a problem
are tuned and play side by side where they can share an environment. Tasks, some agents of a problem each, go to processes;
each keeps torch to one thread, so that processes and threads do not fight over the cores. How agents are dealt to tasks and
batches changes no result but the time.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.described import described, sentences, settings_of, tuning_in_words
from teleport_env.agents.comparison.parallel import Task, beside, check_backend, run_tasks, workers
from teleport_env.agents.comparison.recording import record
from teleport_env.agents.comparison.references import REFERENCES, play_solver
from teleport_env.agents.comparison.solvers import optimize, solvers_of
from teleport_env.agents.comparison.summary import COLUMNS, import_pandas
from teleport_env.agents.comparison.targets import paces_of, paid_kinds, rows_of_targets, timed_actions, with_scores
from teleport_env.agents.known import compared
from teleport_env.agents.naming import SHIPPED, parse, players
from teleport_env.agents.outside import Outside, as_agent
from teleport_env.agents.play import Played, curve, draw_instances, play, play_all, rows_at_once, trace
from teleport_env.agents.policies.learned import shipped_for
from teleport_env.agents.policies.learned_moves import load_policy
from teleport_env.agents.policies.network import NetworkAgent
from teleport_env.agents.presets import default_agents
from teleport_env.agents.schedules import Never
from teleport_env.agents.tuned_settings import read_tuned, why_not
from teleport_env.agents.tuning.own_menu import fallback_of, plan_of, rule_of
from teleport_env.agents.tuning.roster import EVERYTHING, NARROW, WIDE, Tuned, tune_roster
from teleport_env.agents.versions import versions
from teleport_env.envs.recording import require_pyarrow
from teleport_env.envs.settings import Settings
from teleport_env.files import check_file, check_folder
from teleport_env.optimizers import optimizer_from
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.problems.base import SPLITS
from teleport_env.reading import entries, integer, known, read_fields, refuse
from teleport_env.registration import problem_named

if TYPE_CHECKING:
    from teleport_env.agents.comparison.report import Picture

__all__ = ["Study", "run_study"]

MOST = 1_000_000
"""Largest count that a comparison takes, of instances, seeds or configurations."""

TIMED, ENOUGH = 3, 8
"""Episodes that an agent plays once more, one at a time, to find its processor seconds per gradient evaluation, at most; it
stops once each kind of action was timed so often."""

WATCHED = 64
"""Episodes from which the pictures of a policy's decisions are drawn."""


def check_settings(asked: Any, **least: int) -> None:
    """Read the settings that every comparison has, and its counts, of which ``least`` says the smallest values.

    This is for the ``__post_init__`` of a frozen dataclass.

    Raises:
        ValueError: A value that is not allowed.
        ImportError: The backend needs what is not installed.
    """
    read_fields("a comparison", asked)
    for name, bound in least.items():
        integer(name, getattr(asked, name), bound, MOST)
    integer("seed", asked.seed, 0, (1 << 63) - 1)
    if asked.jobs != -1:
        integer("jobs (-1: one per core)", asked.jobs, 1, MOST)
    check_backend(asked.backend)
    object.__setattr__(asked, "split", known("split", asked.split, SPLITS))
    problems = entries("problems", asked.problems, "names")
    object.__setattr__(asked, "problems", tuple(map(problem_named, problems)))
    if hasattr(asked, "policies"):
        policies = entries("policies", asked.policies, "files")
        if not all(isinstance(file, str | Path) for file in policies):
            refuse("policies", "a list of files", asked.policies)
        object.__setattr__(asked, "policies", tuple(map(Path, policies)))
    for name in ("problems", "policies"):
        given = getattr(asked, name, ())
        if len(set(given)) < len(given):
            refuse(name, "different from each other", [str(one) for one in given])
    if not asked.problems:
        raise ValueError(f"problems is empty; name one or more of {', '.join(PROBLEMS)}")
    budgets = asked.budget if isinstance(asked.budget, Mapping) else dict.fromkeys(asked.problems, asked.budget)
    for problem in asked.problems:
        Settings.build(problem, budget=budgets.get(problem))


def check_work(problems: Sequence[str], splits: Sequence[str], out: Path, page: Path | None = None) -> None:
    """See that instances of the splits can be made, and that the folder ``out`` and the file ``page`` can be written.

    Raises:
        FileNotFoundError: A problem's data are missing.
        ImportError: A problem's data come with a package that is not installed.
        ValueError: A problem's data are damaged, or the folder or the file cannot be written.
    """
    for problem in problems:
        for split in splits:
            Settings.build(problem, split=split).problem.instances(torch.zeros(1, dtype=torch.int64), split)
    check_folder(out)
    if page is not None:
        check_file(page)


@dataclass(frozen=True)
class Study:
    """Settings of a comparison.

    Attributes:
        problems: Registered names, or ``module:Name``.
        agents: Names of agents with settings, such as ``every:k=3`` (``--agents help`` lists them); in Python also `Agent`
            objects and whatever `teleport_env.agents.as_agent` takes; empty: the roster of each problem.
        policies: Files of trained policies, played beside the agents on the problems they were trained on, each with the
            best fixed schedule and the best rule that its training found. Of a policy with a fallback that is played
            instead. ``pretrained``: the policies that the package brings, the problem's own and the generalist, on any
            problem.
        trust: Read models of stable-baselines3 named among the agents, such as ``model.zip``: their files can run any code.
        pretrained: Play the policies that the package brings too, where whole rosters are played, on the problems that they
            were trained on.
        split: Split from which the played instances come.
        instances: Number of instances per problem.
        seeds: Plays per instance, each with other random numbers for the searches.
        budget: Gradient evaluations per episode; None: the problem's default.
        tune: Tune every agent anew. Else those whose tuned settings the package keeps, for the problem and the budget
            (`teleport_env.agents.tuned_settings`), play with these, and the others alone are tuned.
        tuning_instances: Instances of the train split that agents are tuned on; 0: rates and thresholds as they are.
        tuning_rules: Configurations of each rule that are tried on them: thresholds, cooldown and learning rate together; 0:
            thresholds as they are. On a problem with mini-batches, whose steps take far longer, a third of so many.
        references: Play solvers of libraries beside the agents, those that know the problem's structure among them.
        seed: Seed of the choice of instances.
        jobs: Processes; -1: one per core.
        backend: ``"processes"`` of this machine, or ``"ray"``, a cluster's.
        out: Folder for the results.
        record: Folder for the trajectories: every step of every agent as Parquet files, which need the extra ``record``. The
            agents play a second time for this, with the same numbers as in the results. None: no files.
        pictures: Write every picture as PNG and SVG too, curves and profiles among them, which the page draws by itself.
    """

    problems: tuple[str, ...] = compared()
    agents: tuple[Any, ...] = ()
    policies: tuple[Path, ...] = ()
    trust: bool = False
    pretrained: bool = True
    split: str = "test"
    instances: int = 64
    seeds: int = 1
    budget: float | None = None
    tune: bool = False
    tuning_instances: int = 24
    tuning_rules: int = 24
    references: bool = True
    seed: int = 1
    jobs: int = -1
    backend: str = "processes"
    out: Path = Path("results/compare")
    record: Path | None = None
    pictures: bool = False

    def __post_init__(self) -> None:
        check_settings(self, instances=1, seeds=1, tuning_instances=0, tuning_rules=0)
        for name in ("out", "record"):
            given = getattr(self, name)
            if not isinstance(given, str | Path) and (name, given) != ("record", None):
                refuse(name, "a folder", given)
            object.__setattr__(self, name, given and Path(given))
        if self.tune and not self.tuning_instances:
            raise ValueError("to tune anew takes tuning_instances of at least 1, got 0; without tune none are needed")
        object.__setattr__(self, "agents", tuple(entries("agents", self.agents, "names")))
        for one in self.agents:
            if not isinstance(one, str):
                as_agent(one)


def run_study(study: Study, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Make a comparison and write its results; ``report`` is called with a line of text now and then.

    Returns:
        ``results`` (a data frame), ``summary`` (a data frame), ``settings`` (a dict) and ``page`` (the path of the report).

    Raises:
        ValueError: An unknown problem or agent, or a folder that cannot be written to, before anything is computed.
        FileNotFoundError: A problem's data are missing, before anything is computed.
    """
    if find_spec("pandas") is None:
        import_pandas()  # says what to install. Where it is, it waits: it starts a thread
    if study.references:
        optimize()
    drawing = (f"{__package__}.{name}" for name in ("decisions", "report"))
    with beside(study.jobs if study.backend == "processes" else 1, __name__, *drawing):
        return _run_study(study, report)


def _run_study(study: Study, report: Callable[[str], None]) -> dict[str, Any]:
    pandas = import_pandas()
    from teleport_env.agents.comparison.report import write_report
    from teleport_env.agents.comparison.summary import oracle_rows, summary_table

    began = time.perf_counter()
    said: list[str] = []
    rosters = {problem: _roster(problem, study, said.append) for problem in study.problems}
    _check_kinds(rosters)
    check_work(study.problems, ("train", study.split), study.out)
    if study.record is not None:
        require_pyarrow()
        check_folder(study.record)
    for line in said:
        report(line)
    kept = _kept(study, report)
    settled, lean = _settled(study), dataclasses.replace(study, agents=())  # agents travel to the tasks by themselves
    tuned = _tune(lean, rosters, settled, report) if study.tuning_instances else {}
    report(f"Playing {sum(map(len, rosters.values()))} agents on the {study.split} split")
    shared = (study.split, study.instances, study.seeds, study.budget, study.seed)
    # the longest first, so that no process ends long after the others: single solvers, then large problems, long episodes
    largest = sorted(study.problems, key=lambda p: (rows_at_once(p), -Settings.build(p, budget=study.budget).budget))
    tasks: list[tuple[Callable[..., Any], tuple[Any, ...]]]
    tasks = [
        (_reference_task, (problem, name, *shared))
        for problem in largest
        for name in solvers_of(problem_from(problem))
        if study.references or name in map(_solver, study.agents)
    ]
    tasks += [
        (_play_task, (lean, problem, [_as_tuned(agent, tuned.get((problem, agent.name))) for agent in some]))
        for problem in largest
        for some in _dealt(rosters[problem], _portion(study, problem, len(rosters[problem])))
    ]
    # pictures of decisions last: one process draws them while another makes tables of what was played
    ids = {p: draw_instances(p, study.split, min(WATCHED, study.instances), study.seed) for p in study.problems}
    learned = [(p, one) for p, roster in rosters.items() for one in roster if isinstance(one, NetworkAgent)]
    watching = [(_watch_task, (p, policy, ids[p], study.split, study.budget, study.pictures)) for p, policy in learned]
    played: dict[tuple[str, str], list[Played]] = {}
    pictures: dict[tuple[str, str], list[Picture]] = {}
    rows: list[dict[str, Any]] = []
    ladders: list[dict[str, Any]] = []
    done, left = _run([*tasks, *watching], study, "playing and drawing"), len(tasks)
    while left:
        some = next(done)
        if isinstance(some, dict):
            pictures |= some
            continue
        left -= 1
        for key, found, more, costs in some:
            if found:
                played[key] = found
            rows += more
            ladders += costs
    results = pandas.DataFrame(rows, columns=list(COLUMNS))
    if results["kind"].eq("fixed").any():
        # in hindsight the best fixed schedule of each episode: the most that choosing well could gain
        results = pandas.concat([results, oracle_rows(results)], ignore_index=True)
    # tasks end in any order; the files do not depend on it
    order = {name: i for i, name in enumerate(study.problems)}
    keys = ["problem", "agent", "seed", "instance_id"]
    results, targets = (
        frame.sort_values(
            keys, key=lambda c: c.map(order) if c.name == "problem" else c, kind="stable", ignore_index=True
        )
        for frame in (results, pandas.DataFrame(ladders))
    )
    curves, traces = _curves(study, played)
    settings = {
        **{f.name: getattr(study, f.name) for f in dataclasses.fields(study)},
        "out": str(study.out),
        "record": study.record and str(study.record),
        "agents": [one if isinstance(one, str) else _name_of(one) for one in study.agents],
        "policies": [str(path) for path in study.policies],
        "versions": versions(),
        "command": " ".join(["scripts/compare.py", *sys.argv[1:]]),
        "learning_rates": {f"{p}/{a}": described(t) for (p, a), t in tuned.items()},
        "tuning_runs": sum(t.runs for t in tuned.values()),
        "tuning": tuning_in_words(study.tuning_instances, study.tuning_rules, tuned, kept),
        "seconds_of_playing": round(time.perf_counter() - began, 1),
    }
    summary = with_scores(summary_table(results), targets)
    playing = {
        (p, one.name): _as_tuned(one, tuned.get((p, one.name))) for p, roster in rosters.items() for one in roster
    }
    pairs = zip(summary["problem"], summary["agent"], strict=True)
    summary["settings"] = [settings_of(playing.get(pair)) for pair in pairs]
    for some in done:
        pictures |= some
    page = write_report(
        study.out,
        results,
        curves,
        traces,
        settings,
        table=summary,
        jobs=study.jobs,
        targets=targets,
        about=sentences(playing.values()),
        files=study.pictures,
        pictures=[picture for p, policy in learned for picture in pictures[p, policy.name]],
    )
    return {"results": results, "summary": summary, "settings": settings, "page": page}


def _solver(asked: Any) -> str | None:
    """The name in `REFERENCES` that is meant, if one is.

    Raises:
        ValueError: It has settings.
    """
    spoken = {spelled.casefold(): name for name, title in REFERENCES.items() for spelled in (name, title)}
    if not isinstance(asked, str):
        return None
    name, colon, _ = asked.partition(":")
    if colon and name.casefold() in spoken:
        refuse(f"the solver {name}", "named without settings", asked)
    return spoken.get(asked.casefold())


def _name_of(player: Any) -> str:
    return as_agent(player).name


def _settled(study: Study) -> dict[str, Sequence[str]]:
    """Settings that were asked for and are not tuned, by the agent's name; `EVERYTHING` of objects."""
    named = [one for one in study.agents if isinstance(one, str) and ":" in one]
    objects: dict[str, Sequence[str]] = {_name_of(one): EVERYTHING for one in study.agents if not isinstance(one, str)}
    return {**objects, **{parse(one)[1].get("name", one): tuple(parse(one)[1]) for one in named}}


def _kept(study: Study, report: Callable[[str], None]) -> dict[str, str]:
    """The commands that made the tuned settings which agents play with, by problem; says where they do not hold."""
    found = {}
    for problem in () if study.tune else study.problems:
        kept, reason = read_tuned(problem), why_not(problem, study.budget)
        if kept is not None and reason is None:
            found[problem] = kept.command
        elif kept is not None:
            report(f"Note: {reason}")
    return found


def _plays_as_kept(study: Study, asked: Any) -> bool:
    """Whether an agent that was asked for takes what the package keeps: with settings of its own it is tuned to them."""
    bare = isinstance(asked, str) and parse(asked)[1].keys() <= {"name", "learning_rate"}
    return not study.tune and (bare or not study.tuning_instances)


def _roster(problem: str, study: Study, report: Callable[[str], None]) -> list[Agent]:
    asked = [one for one in study.agents if _solver(one) is None]
    serving = solvers_of(problem_from(problem))
    for one in study.agents:
        if (solver := _solver(one)) is not None and solver not in serving:
            refuse(f"a solver that serves {problem}", " or ".join(map(repr, serving)), one)
    if study.agents:
        how: dict[str, Any] = {"trust": study.trust, "budget": study.budget}
        roster = [agent for one in asked for agent in players(problem, [one], **how, tuned=_plays_as_kept(study, one))]
    else:
        roster = default_agents(problem, tuned=not study.tune, budget=study.budget)
    policies = [load_policy(path) for path in study.policies if str(path) != SHIPPED]
    wanted = Path(SHIPPED) in study.policies
    if wanted or (study.pretrained and not study.agents):
        policies += shipped_for(problem)
    for policy in policies:
        anywhere = wanted and policy is policies[-1]  # the generalist
        if policy.problems and problem not in policy.problems and not anywhere:
            continue
        own = policy.for_problem(problem)
        fallback = fallback_of(own)
        if fallback is not None:
            report(
                f"On {problem} a rival was at least as good as {own.name} in training: {fallback.name!r} plays in its place"
            )
        roster += [agent for agent in (fallback or own, plan_of(own), rule_of(own)) if agent is not None]
    names = [agent.name for agent in roster]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several agents on {problem} are called {', '.join(twice)}; name each agent once, or apart by a setting "
            "name=..., and train policies with --name to tell them apart"
        )
    return roster


def _check_kinds(rosters: Mapping[str, Sequence[Agent]]) -> None:
    """Raise ValueError if agents of one name are of several kinds, which no table can tell apart."""
    kinds: dict[str, str] = {}
    for agent in itertools.chain.from_iterable(rosters.values()):
        if kinds.setdefault(agent.name, agent.kind) != agent.kind:
            raise ValueError(
                f"{agent.name} is {kinds[agent.name]} on one problem and {agent.kind} on another: tables have one kind per "
                "name. Compare these problems apart, or give the agents names"
            )


def _optimizer_of(problem: str, agent: Agent) -> str:
    spec = agent.environment.get("optimizer")
    chosen = Settings.build(problem).optimizer if spec is None else optimizer_from(spec)
    return chosen.name


def _tune(
    study: Study,
    rosters: dict[str, list[Agent]],
    settled: Mapping[str, Sequence[str]],
    report: Callable[[str], None],
) -> dict[tuple[str, str], Tuned]:
    """First each optimizer alone, over a wide grid; then each agent around its optimizer's best."""
    # an agent that brings a rate has it from the train split already, kept or by its training, or was asked for it;
    # a model from outside has learned at the rate that its environment had
    free = [
        (p, agent)
        for p, roster in rosters.items()
        for agent in roster
        if "learning_rate" not in agent.environment and not (isinstance(agent, Outside) and agent.kind == "learned")
    ]
    if free:
        report(f"Tuning {len(free)} agents on the train split ({study.tuning_instances} instances per problem)")
    alone: dict[tuple[str, str], Agent] = {}
    for problem, agent in free:
        name = _optimizer_of(problem, agent)
        environment = {k: v for k, v in agent.environment.items() if k == "optimizer"}
        alone.setdefault((problem, name), Never(name=name, environment=environment))

    def tuned(work: Iterable[tuple[str, Agent, Sequence[float]]], title: str) -> dict[tuple[str, str], Tuned]:
        of: dict[str, list[tuple[Agent, Sequence[float]]]] = {}
        for problem, agent, rates in work:
            of.setdefault(problem, []).append((agent, rates))
        tasks = [
            (_tune_task, (study, problem, some, settled))
            for problem, all_ in of.items()
            for some in _dealt(all_, _few(study, problem))
        ]
        return {key: found for some in _run(tasks, study, title) for key, found in some}

    wide = [(problem, agent, [_centre(problem, agent) * one for one in WIDE]) for (problem, _), agent in alone.items()]
    best = tuned(wide, "tuning optimizers")
    base = {(problem, agent.name): best[problem, _optimizer_of(problem, agent)] for problem, agent in free}
    narrow = [(p, a, [base[p, a.name].rate * one for one in NARROW]) for p, a in free if not isinstance(a, Never)]
    found = {(p, a.name): dataclasses.replace(base[p, a.name], agent=a) for p, a in free if isinstance(a, Never)}
    return found | tuned(narrow, "tuning agents")


def _configurations(study: Study, problem: str) -> int:
    """How many of each rule are tried."""
    return -(-study.tuning_rules // (1 if problem_from(problem).batch_size is None else 3))


def _few(study: Study, problem: str) -> int:
    """How many agents make a round of tuning as wide as pays."""
    return rows_at_once(problem) // (study.tuning_instances * len(NARROW))


def _portion(study: Study, problem: str, agents: int) -> int:
    """How many agents of a problem a task plays: as many as pay side by side, but so that no process is left without."""
    tasks = -(-2 * workers(study.jobs) // len(study.problems))
    return min(rows_at_once(problem) // study.instances, -(-agents // tasks))


def _dealt(values: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Portions of at most so many."""
    return [values[begin : begin + max(1, most)] for begin in range(0, len(values), max(1, most))]


def _centre(problem: str, agent: Agent) -> float:
    # adaptive optimizers measure their rates in parameters, not in gradients: their grid starts elsewhere
    adaptive = _optimizer_of(problem, agent) in ("adam", "rmsprop", "adagrad")
    return 0.05 if adaptive else Settings.build(problem).learning_rate


def _tune_task(
    study: Study,
    problem: str,
    roster: Sequence[tuple[Agent, Sequence[float]]],
    settled: Mapping[str, Sequence[str]],
) -> list[tuple[tuple[str, str], Tuned]]:
    shared: dict[str, Any] = {"instances": study.tuning_instances, "budget": study.budget, "settled": settled}
    found = tune_roster(problem, roster, rules=_configurations(study, problem), **shared)
    return [((problem, agent.name), one) for (agent, _), one in zip(roster, found, strict=True)]


def _as_tuned(agent: Agent, tuned: Tuned | None) -> Agent:
    if tuned is None:
        return agent
    environment = {"learning_rate": tuned.rate, **tuned.agent.environment}
    return dataclasses.replace(tuned.agent, environment=environment)


_Found = tuple[tuple[str, str], list[Played], list[dict[str, Any]], list[dict[str, Any]]]
"""What came of an agent on a problem: its names, its episodes, their rows, and their costs to targets."""


def _play_task(study: Study, problem: str, agents: Sequence[Agent]) -> list[_Found]:
    ids = draw_instances(problem, study.split, study.instances, study.seed)
    shared: dict[str, Any] = {"split": study.split, "budget": study.budget}
    seeds = [play_all(problem, agents, ids, seed=seed, **shared) for seed in range(study.seeds)]
    if study.record is not None:
        for agent in agents:
            for seed in range(study.seeds):
                record(study.record, problem, agent, ids, seed=seed, **shared)
    found: list[_Found] = []
    for agent, played in zip(agents, zip(*seeds, strict=True), strict=True):
        alone = play_alone(problem, agent, ids, played, **shared)
        found.append(_with_targets((problem, agent.name), list(played), alone, study.split, agent.step_actions))
    return found


def play_alone(problem: str, agent: Agent, ids: Any, played: Sequence[Played], **shared: Any) -> list[Played]:
    """A few episodes of an agent by itself, since those that share a batch share its time, each up to its last action that
    is still to be timed.

    Args:
        problem: Registered name.
        agent: Agent that plays.
        ids: Instances to take the episodes from.
        played: Results of its play on all of them, by one seed or several, which show what kinds of actions are to be timed.
            The first is played again, and shows when they come: it has to be of this agent.
        shared: Further arguments of `play`, but for the seed.
    """
    missing = Counter({kind: ENOUGH for one in played for kind in timed_actions(one, agent.step_actions)})
    found: list[Played] = []
    for place in range(min(TIMED, len(ids))):
        last = 0
        for number, kind in paid_kinds(played[0], place, agent.step_actions):
            if missing[kind] > 0:
                missing[kind], last = missing[kind] - 1, number
        if last:
            seed = played[0].rows[place]["seed"]
            found.append(play(problem, agent, ids[place : place + 1], seed=seed, actions=last, **shared))
    return found


def _with_targets(
    key: tuple[str, str], played: list[Played], alone: list[Played], split: str, steps: int = 1
) -> _Found:
    tolerance, paces = Settings.build(key[0], split=split).tolerance, paces_of(alone, steps)
    costs = [row for one in played for row in rows_of_targets(one, tolerance, paces, steps)]
    return key, played, [row for one in played for row in one.rows], costs


def _reference_task(problem: str, name: str, split: str, *arguments: Any) -> list[_Found]:
    key, played, _ = play_solver(problem, name, split, *arguments)
    return [_with_targets(key, played, played, split)]


def _watch_task(
    problem: str, policy: Agent, ids: Any, split: str, budget: float | None, more: bool
) -> dict[tuple[str, str], list[Picture]]:
    """The pictures of what a policy decides, under the problem's name and its own."""
    from teleport_env.agents.comparison.decisions import decision_drawings, watch
    from teleport_env.agents.comparison.report import drawn

    drawings = decision_drawings(problem, watch(problem, policy, ids, split=split, budget=budget))
    return {(problem, policy.name): [drawn(one, more) for one in drawings]}


def _curves(study: Study, played: dict[tuple[str, str], list[Played]]) -> tuple[Any, list[dict[str, Any]]]:
    pandas = import_pandas()
    frames, traces = [], []
    for (problem, agent), found in sorted(played.items()):
        budget = found[0].rows[0]["budget"]
        frames.append(pandas.DataFrame({"problem": problem, "agent": agent, **curve(found, budget)}))
        if found[0].rows[0]["kind"] not in ("reference", "structure"):
            traces.append(trace(found[0], 0, problem, agent))
    columns = ["problem", "agent", "cost", "q25", "median", "q75"]
    return (pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=columns)), traces


def _run(tasks: Iterable[Task], study: Study, title: str) -> Iterator[Any]:
    return run_tasks(tasks, jobs=study.jobs, backend=study.backend, title=title, joining=True)
