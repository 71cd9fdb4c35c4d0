"""Transfer: how much learned schedules gain where they were not trained, against schedules and rules carried there alike.

Five questions: a problem that the policy has not seen, a longer budget, another learning rate, another size of network, a
lower tolerance. As in the full protocol every rate, tuning, training and played agent is a file under the output folder
(`study.pieces`), and the test split is read by playing alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.baselines import DISTILLED, FIXED, families_of, menu_of
from study.contestants import LEARNED, contestants_of, settings_of, train_policy
from study.pieces import Piece
from study.shared import Gathered, Shared, command, digest, given_policies, slug
from study.transfer_schedules import Ground, ground, schedule_on
from study.transfer_work import (
    CARRIED,
    CARRIED_STEPS,
    LEFT_OUT,
    LINES,
    LONGER,
    OWN,
    OWN_FIXED,
    PLAIN,
    RULE,
    SHAPES,
    STEPS,
    at_rate,
    can_teach,
    describe,
    kept_rule,
    mixture,
    play_agents,
    resized,
    shipped_too,
    sweep,
    text_of,
    train_mixture,
    tune_carried,
    tune_fixed,
    tune_rule,
)
from teleport_env.agents.base import Agent
from teleport_env.agents.comparison.study import MOST, check_settings, check_work
from teleport_env.agents.known import known_of
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.policies.learned import SHIPPED, shipped
from teleport_env.agents.policies.learned_moves import policy_of
from teleport_env.agents.schedules import Never, line_search
from teleport_env.agents.tuning.own_menu import fallback_of
from teleport_env.envs.settings import Settings
from teleport_env.reading import choose_some, integer, number

FAMILIES, BUDGETS, RATES, SIZES, TOLERANCES = QUESTIONS = ("families", "budgets", "rates", "sizes", "tolerances")

KIN = (("Rosenbrock", "RosenbrockND"), ("Ellipse", "Quadratic", "Booth"))
"""Problems that are alike but for dimension, shift and scale: one function of Rosenbrock, positive quadratic forms. What has
seen one has seen the others, so that they are left out together."""


@dataclass(frozen=True)
class Transfer(Shared):
    """Settings of the comparison.

    Attributes:
        problems: Registered names, each of them left out once.
        questions: Names among `QUESTIONS` to ask.
        teachers: Folder of a full protocol, whose policies for single problems are played, and teach; None: train them.
        shipped: The policies for single problems are those that the package brings; no others are trained. At other
            tolerances the generalist plays too, and those that were trained for the score.
        teacher_seed: The first of their training seeds.
        cloned: Whether policies that leave one out begin as clones of those for single problems.
        policies: Files of further policies for several problems, shown beside those that leave one out.
        train_seeds: Policies of each kind; where they are cloned, seed ``s`` from teachers of seed ``teacher_seed + s``, or
            all from those that the package brings.
        train_decisions: Decisions of each training; None: `MIXTURE`'s or `CLONE`'s, or for one problem the recipe's.
        actions: Step actions that a budget of plain steps makes where one is left out, so that steps per action follow
            from the budget; None: those of the recipes, and one step on the problem left out.
        plans: Fixed schedules tried in each tuning, before the refinement.
        budget: Gradient evaluations per episode; None: the problem's default.
        longer: Multiples of the budget.
        factors: Multiples of a schedule's own learning rate; 1 is among them, so that a loss of gain shows.
        shapes: Shapes to play, as in `SHAPES`.
        rules: Configurations tried of the edge of stability rule, before the refinement: policies are compared with it at
            other tolerances where the package keeps no tuned rules.
        tolerances: Multiples of the tolerance.
        out: Folder for the results.
    """

    questions: tuple[str, ...] = QUESTIONS
    teachers: Path | None = None
    shipped: bool = False
    teacher_seed: int = 0
    cloned: bool = False
    policies: tuple[Path, ...] = ()
    train_seeds: int = 1
    actions: int | None = None
    plans: int = 300
    budget: float | None = None
    longer: tuple[float, ...] = (2.0, 4.0)
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    shapes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=lambda: SHAPES)
    rules: int = 120
    tolerances: tuple[float, ...] = (1.0, 1e-2, 1e-4, 1e-6)
    out: Path = Path("results/transfer")

    def __post_init__(self) -> None:
        check_settings(self, instances=2, train_seeds=1, plans=8, rules=8, tuning_instances=1)
        integer("teacher_seed", self.teacher_seed, 0, MOST)
        for name in ("train_decisions", "actions"):
            if (count := getattr(self, name)) is not None:
                integer(name, count, 1, MOST**2)
        for name in ("longer", "factors", "tolerances"):
            for factor in getattr(self, name):
                number(f"a number of {name}", factor, above=0.0, most=MOST)
        choose_some("a transfer", self, "questions", QUESTIONS)
        if self.shipped and (self.teachers or self.budget):
            raise ValueError("shipped: one policy per problem, for its own budget; leave teachers and budget out")
        missing = sorted(set(self.problems) - set(shipped())) if self.shipped else []
        if missing:
            raise ValueError(f"the package brings no policy for {', '.join(missing)}; it has {', '.join(shipped())}")
        if 1.0 not in self.factors:
            raise ValueError(f"1 must be among the factors, got {self.factors}")
        if FAMILIES in self.questions and min(len(self.others(problem)) for problem in self.problems) < 2:
            kin = "; ".join(", ".join(names) for names in KIN)
            raise ValueError(
                "to leave one out takes at least 2 others that are not kin; kin are "
                f"{kin}; got {', '.join(self.problems)}"
            )

    @property
    def seeds(self) -> range:
        """Numbers of the trainings."""
        return range(self.train_seeds)

    @property
    def single_seeds(self) -> range:
        """Numbers of the policies for single problems, and of the teachers."""
        return range(1) if self.shipped else self.seeds

    def together(self, problem: str) -> tuple[str, ...]:
        """What is left out where a problem is: itself and its kin."""
        family = next((kin for kin in KIN if problem in kin), (problem,))
        return tuple(name for name in self.problems if name in family)

    def others(self, problem: str) -> tuple[str, ...]:
        """All problems but one and its kin."""
        return tuple(name for name in self.problems if name not in self.together(problem))

    def budget_of(self, problem: str) -> float:
        """Gradient evaluations of an ordinary episode."""
        return Settings.build(problem, budget=self.budget).budget

    def stride(self, problem: str) -> int | None:
        """Gradient steps of an action where one is left out; None: as recipes have it."""
        return None if self.actions is None else max(1, round(self.budget_of(problem) / self.actions))

    @property
    def optimizer(self) -> Any:
        """What policies that leave one out step with; None: each problem's own."""
        return self.training.get("optimizer")

    def changes(self) -> dict[str, Any]:
        """What all trainings have other than their recipes."""
        return self.changed(self.budget)


Key = tuple[str, str, str, str]
"""Question, problem, variant (a budget, a factor, a size) and agent."""


@dataclass
class Carried(Gathered):
    """Everything that a run found.

    Attributes:
        transfer: The settings.
        played: Episodes, one dict each: ``seed``, ``instance_id``, ``gained``, ``diverged``, ``teleports``.
        targets: Their costs to targets, see `teleport_env.agents.comparison.targets.rows_of_targets`.
        tuned: Kind of tuning and problem (and budget) to what it found, without its candidates.
        trained: Kind of training and problem to one dict per seed, as `train_policy` returns it.
        rates: Problem and shape (``""``: its default) to the rate of plain descent.
        grounds: Problems left out: where they are played.
        retaught: Problems whose given policy has another menu than the slots, so that a teacher was trained for them.
    """

    transfer: Transfer
    played: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)
    targets: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)
    tuned: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    trained: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    rates: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    grounds: dict[str, Ground] = field(default_factory=dict)
    retaught: list[str] = field(default_factory=list)


def gather_transfer(transfer: Transfer, report: Callable[[str], None] = print) -> Carried:
    """Do what is not yet done, and collect all.

    Args:
        transfer: The settings.
        report: Callback for a line of text on progress.

    Raises:
        FileNotFoundError: The folder of teachers lacks some, or a problem's data are missing, before anything is computed.
        ValueError: A folder that cannot be written to, before anything is computed; or one that belongs to other settings.
    """
    began = time.perf_counter()
    found = Carried(transfer, command=command())
    Gathering(found, report).run()
    found.seconds = time.perf_counter() - began
    return found


class Gathering:
    """The stages, each of which needs what the one before found."""

    def __init__(self, found: Carried, report: Callable[[str], None]) -> None:
        self.found, self.transfer, self.report = found, found.transfer, report
        taken = (LEFT_OUT, CARRIED, CARRIED_STEPS, PLAIN, LINES, STEPS, OWN, OWN_FIXED, RULE)
        self.given_policies = given_policies(self.transfer.policies, taken)
        self.singles: dict[tuple[str, int], str] = {}  # texts of policies for one problem, by problem and seed

    def run(self) -> None:
        transfer = self.transfer
        check_work(transfer.problems, ("train", "validation", transfer.split), transfer.out, transfer.page)
        self.alone()
        if FAMILIES in self.transfer.questions:
            self.mixtures()
        self.report(f"Playing on the {self.transfer.split} split")
        plays: dict[Key, Piece] = {}
        for question in self.transfer.questions:
            agents = getattr(self, question)
            for problem in self.transfer.problems:
                for (variant, name), (playing, budget, shape) in agents(problem).items():
                    key = question, problem, variant, name
                    plays[key] = self.playing(key, playing, budget, shape)
        done = self.complete(plays.values(), "playing")
        self.found.played = {key: done[piece.path]["rows"] for key, piece in plays.items()}
        self.found.targets = {key: done[piece.path]["targets"] for key, piece in plays.items()}

    def complete(self, pieces: Any, title: str) -> dict[str, Any]:
        return self.transfer.complete(pieces, self.transfer.out, title, self.report)

    # -- what each problem has for itself ------------------------------------------------------------------------------

    def alone(self) -> None:
        """Policies for single problems, rates of plain descent, tuned fixed schedules."""
        transfer, found = self.transfer, self.found
        work: dict[tuple[str, ...], Piece] = {}
        given = {} if transfer.shipped else {key: self.given(*key) for key in self.wanted()}
        for problem, seed in self.wanted() if transfer.shipped else ():
            self.singles[problem, seed] = (SHIPPED / f"{problem}.json").read_text(encoding="utf-8")
        missing = [str(path) for path in given.values() if path is not None and not path.exists()]
        if missing:
            raise FileNotFoundError(
                f"there is no {', '.join(missing)}: let the full protocol train these policies, or leave --teachers out"
            )
        self.singles |= {key: text_of(path, transfer.budget) for key, path in given.items() if path is not None}
        for (problem, seed), path in given.items():
            if path is None:
                trained = contestants_of(problem, momentum=False, budget=transfer.budget)
                one = next(one for one in trained if one.name == LEARNED)
                place = f"single/{problem}-{seed}"
                training = one.training(seed, self.folder(place), transfer.changes())
                work["single", problem, str(seed)] = Piece(
                    f"{place}.json", settings_of(training), train_policy, (training,)
                )
        for problem, shapes in self.shapes().items():
            for name, shape in shapes.items():
                shared: dict[str, Any] = {"problem": problem, "instances": transfer.tuning_instances}
                arguments = {**shared, "budget": transfer.budget, "shape": shape}
                place = "-".join(["plain/" + problem, *name.split()])
                work["rate", problem, name] = Piece(f"{place}.json", arguments, sweep, (arguments,))
        longer = transfer.longer if BUDGETS in transfer.questions else ()
        scheduled = {*transfer.questions} != {TOLERANCES}  # there policies are compared with a rule alone
        for problem in transfer.problems:
            for factor in (1.0, *longer) if scheduled else ():
                shared = {"problem": problem, "instances": transfer.tuning_instances}
                arguments = {**shared, "count": transfer.plans, "budget": factor * transfer.budget_of(problem)}
                # a configuration names its search by number: with another menu it would be another schedule
                settings = {**arguments, "menu": menu_of(problem)}
                work["tuned", problem, f"{factor:g}"] = Piece(
                    f"tuned/{problem}-{factor:g}.json", settings, tune_fixed, (arguments,)
                )
            if TOLERANCES in transfer.questions and kept_rule(problem, transfer.budget) is None:
                shared = {"problem": problem, "instances": transfer.tuning_instances}
                arguments = {**shared, "count": transfer.rules, "budget": transfer.budget}
                settings = {**arguments, "family": DISTILLED, "menu": menu_of(problem)}
                work["rule", problem, ""] = Piece(f"tuned/{problem}-rule.json", settings, tune_rule, (arguments,))
        done = self.complete(work.values(), "tuning and training alone")
        for (kind, problem, name), piece in work.items():
            result = done[piece.path]
            if kind == "single":
                self.singles[problem, int(name)] = result["policy"]
                found.trained.setdefault((OWN, problem), []).append(result)
            elif kind == "rate":
                found.rates[problem, name] = result
            elif kind == "rule":
                found.tuned[RULE, problem] = result
            else:
                found.tuned[f"{FIXED}, budget x {name}", problem] = result

    def wanted(self) -> list[tuple[str, int]]:
        return [(problem, seed) for problem in self.transfer.problems for seed in self.transfer.single_seeds]

    def given(self, problem: str, seed: int) -> Path | None:
        folder = self.transfer.teachers
        if folder is None:
            return None
        return folder / problem / "trained" / f"{LEARNED}-{self.transfer.teacher_seed + seed}.json"

    def shapes(self) -> dict[str, dict[str, Mapping[str, Any] | None]]:
        """Of each problem the shapes that are played, its default first."""
        sizes = self.transfer.shapes if SIZES in self.transfer.questions else {}
        return {problem: {"": None, **sizes.get(problem, {})} for problem in self.transfer.problems}

    def folder(self, place: str) -> Path:
        return (self.transfer.out / place).absolute()  # a worker may stand in another folder

    # -- one left out --------------------------------------------------------------------------------------------------

    def mixtures(self) -> None:
        """For each problem a policy and a fixed schedule of all others."""
        transfer, found = self.transfer, self.found
        lessons = self.lessons() if transfer.cloned else {}
        rates = {name: self.plain(name) for name in transfer.problems}
        work: dict[tuple[str, str], list[Piece]] = {}
        for problem in transfer.problems:
            known, group = transfer.others(problem), "-".join(transfer.together(problem))
            for seed in transfer.seeds:
                place = f"families/trained/without-{group}-{seed}"
                texts = {name: lessons[name, seed % len(transfer.single_seeds)] for name in known if lessons}
                training = mixture(known, self.changes(known), seed, self.folder(place), texts, rates)
                settings = {**settings_of(training), "teachers": {name: digest(text) for name, text in texts.items()}}
                piece = Piece(f"{place}.json", settings, train_mixture, (training, texts))
                work.setdefault((LEFT_OUT, problem), []).append(piece)
            grounds = [self.ground(name, known) for name in known]
            found.grounds[problem] = self.ground(problem, known)
            settings = {
                "grounds": [dataclasses.asdict(one) for one in grounds],
                "count": transfer.plans,
                "instances": transfer.tuning_instances,
            }
            arguments = grounds, transfer.plans, transfer.tuning_instances
            work[CARRIED, problem] = [Piece(f"families/tuned/without-{group}.json", settings, tune_carried, arguments)]
            if transfer.optimizer is not None:
                stepping = [dataclasses.replace(one, optimizer=transfer.optimizer) for one in grounds]
                settings = {**settings, "grounds": [dataclasses.asdict(one) for one in stepping]}
                place = f"families/tuned/stepping-without-{group}.json"
                work[CARRIED_STEPS, problem] = [Piece(place, settings, tune_carried, (stepping, *arguments[1:]))]
        # kin share theirs; the trainings first, which take longest
        longest_first = sorted(work, key=lambda key: key[0] != LEFT_OUT)
        once = {piece.path: piece for key in longest_first for piece in work[key]}
        done = self.complete(once.values(), "one left out")
        for (kind, problem), pieces in work.items():
            results = [done[piece.path] for piece in pieces]
            if kind == LEFT_OUT:
                found.trained[kind, problem] = results
            else:
                (found.tuned[kind, problem],) = results

    def ground(self, problem: str, known: Sequence[str]) -> Ground:
        transfer = self.transfer
        return ground(problem, known, self.plain(problem), transfer.budget, transfer.stride(problem))

    def changes(self, known: Sequence[str]) -> dict[str, Any]:
        """What a training on some problems has other than its recipe."""
        changes, strides = self.transfer.changes(), {name: self.transfer.stride(name) for name in known}
        families = {name: {"steps_per_action": one} for name, one in strides.items() if one is not None}
        return {**changes, "families": families} if families else changes

    def lessons(self) -> dict[tuple[str, int], str]:
        """Texts of policies that can teach, by problem and seed: those for one problem, or others with the slots' menu."""
        transfer = self.transfer
        texts: dict[tuple[str, int], str] = {}
        work: dict[tuple[str, int], Piece] = {}
        for problem, seed in self.wanted():
            known = next(known for name in transfer.problems if problem in (known := transfer.others(name)))
            place = f"families/teachers/{problem}-{seed}"
            rates = {name: self.plain(name) for name in known}
            alone = mixture(known, self.changes(known), seed, self.folder(place), {}, rates).alone(problem)
            text = self.singles[problem, seed]
            if can_teach(alone, text):
                texts[problem, seed] = text
                continue
            if problem not in self.found.retaught:
                self.found.retaught.append(problem)
                self.report(f"The policy of {problem} has another menu than the slots: a teacher is trained for it")
            names = ("searches", "rate_factors", "steps_per_action", "symmetry")
            settings = {"problem": problem, **(known_of(problem).teacher or {})}
            settings |= {name: getattr(alone.task, name) for name in names}
            settings |= {"rules": 0, **transfer.changes(), "seed": seed, "out": alone.out}
            training = Training.of(**settings)
            work[problem, seed] = Piece(f"{place}.json", settings_of(training), train_policy, (training,))
        done = self.complete(work.values(), "teachers")
        for (problem, seed), piece in work.items():
            texts[problem, seed] = done[piece.path]["policy"]
            self.found.trained.setdefault(("teacher", problem), []).append(done[piece.path])
        return texts

    def plain(self, problem: str, shape: str = "") -> float:
        """The learning rate of plain descent."""
        rate: float = self.found.rates[problem, shape]["rate"]
        return rate

    # -- who plays -----------------------------------------------------------------------------------------------------

    def playing(self, key: Key, agents: Sequence[Agent], budget: float, shape: Mapping[str, Any] | None) -> Piece:
        question, problem, variant, name = key
        played = self.transfer.episodes(problem, budget, self.transfer.train_seeds)
        settings = {**played, "shape": shape}
        if question == TOLERANCES:
            settings["tolerance"] = float(variant)
        place = "-".join(slug(part) for part in (problem, variant, name) if part)
        described = {**settings, "agents": [describe(agent) for agent in agents]}
        return Piece(f"{question}/played/{place}.json", described, play_agents, (settings, list(agents)))

    def fixed(self, problem: str, factor: float = 1.0, rate: float = 1.0) -> list[Agent]:
        """The fixed schedule tuned on a problem at a multiple of its budget, at a multiple of its rate."""
        agent = families_of(problem, self.transfer.budget)[FIXED].agent(
            self.found.tuned[f"{FIXED}, budget x {factor:g}", problem]["config"]
        )
        return [at_rate(agent, rate)]

    def learned(self, problem: str, rate: float = 1.0, shape: Mapping[str, Any] | None = None) -> list[Agent]:
        """The policies for a problem, one per seed, at a multiple of their rate and of another size.

        Where the package brings a plan in a policy's place, the plan plays.
        """
        found: list[Agent] = []
        for seed in self.transfer.single_seeds:
            policy = policy_of(self.singles[problem, seed]).for_problem(problem)
            plan = fallback_of(policy) if self.transfer.shipped else None
            if plan is not None:
                found.append(at_rate(plan, rate))
                continue
            base = policy.environment.get("learning_rate", Settings.build(problem).learning_rate) * rate
            policy = policy.for_problem(problem, learning_rate=base)
            found.append(resized(policy, problem, shape) if shape else policy)
        return found

    def families(self, problem: str) -> dict[tuple[str, str], Any]:
        found, transfer = self.found, self.transfer
        place, budget = found.grounds[problem], transfer.budget_of(problem)
        asked = {"learning_rate": place.rate, **place.asked}
        if transfer.budget is not None:
            asked["budget"] = transfer.budget  # of which a search that fills a slot costs no more than a share
        texts = [one["policy"] for one in found.trained[LEFT_OUT, problem]]
        agents: dict[str, list[Agent]] = {
            LEFT_OUT: [policy_of(text).for_problem(problem, **asked) for text in texts],
            CARRIED: [schedule_on(found.tuned[CARRIED, problem]["config"], place, CARRIED)],
            PLAIN: [Never(environment={"learning_rate": place.rate})],
            LINES: [line_search(environment={"learning_rate": place.rate})],
            OWN_FIXED: self.fixed(problem),
            OWN: self.learned(problem),
        }
        if (rule := kept_rule(problem, transfer.budget)) is not None:
            agents[RULE] = [rule]
        if transfer.optimizer is not None:
            stepping = dataclasses.replace(place, optimizer=transfer.optimizer)
            config = found.tuned[CARRIED_STEPS, problem]["config"]
            agents[STEPS] = [Never(environment={"learning_rate": place.rate, "optimizer": transfer.optimizer})]
            agents[CARRIED_STEPS] = [schedule_on(config, stepping, CARRIED_STEPS)]
        for name, (policy, _) in self.given_policies.items():
            if not policy.problems or problem in policy.problems:
                agents[name] = [policy.for_problem(problem)]
        return {("", name): (playing, budget, None) for name, playing in agents.items()}

    def budgets(self, problem: str) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for factor in self.transfer.longer:
            budget, variant = factor * self.transfer.budget_of(problem), f"{factor:g}"
            found[variant, OWN] = (self.learned(problem), budget, None)
            found[variant, OWN_FIXED] = (self.fixed(problem), budget, None)
            found[variant, LONGER] = (self.fixed(problem, factor), budget, None)
            found[variant, PLAIN] = (self.still(problem), budget, None)
        return found

    def rates(self, problem: str) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for factor in self.transfer.factors:
            budget, variant = self.transfer.budget_of(problem), f"{factor:g}"
            found[variant, OWN] = (self.learned(problem, factor), budget, None)
            found[variant, OWN_FIXED] = (self.fixed(problem, rate=factor), budget, None)
            found[variant, PLAIN] = (self.still(problem), budget, None)
        return found

    def tolerances(self, problem: str) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        rule = kept_rule(problem, self.transfer.budget)
        if rule is None:
            config = self.found.tuned[RULE, problem]["config"]
            rule = families_of(problem, self.transfer.budget)[DISTILLED].agent(config)
        further = shipped_too(problem) if self.transfer.shipped else {}
        for factor in self.transfer.tolerances:
            budget, variant = self.transfer.budget_of(problem), f"{factor:g}"
            found[variant, OWN] = (self.learned(problem), budget, None)
            found[variant, RULE] = ([rule], budget, None)
            for name, agent in further.items():
                found[variant, name] = ([agent], budget, None)
            found[variant, PLAIN] = (self.still(problem), budget, None)
        return found

    def still(self, problem: str, shape: str = "") -> list[Agent]:
        """Plain descent at its tuned rate."""
        return [Never(environment={"learning_rate": self.plain(problem, shape)})]

    def sizes(self, problem: str) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for variant, shape in self.transfer.shapes.get(problem, {}).items():
            rate, budget = self.plain(problem, variant), self.transfer.budget_of(problem)
            rescaled = rate / self.plain(problem)
            found[variant, OWN] = (self.learned(problem, rescaled, shape), budget, shape)
            found[variant, OWN_FIXED] = (self.fixed(problem, rate=rescaled), budget, shape)
            found[variant, PLAIN] = (self.still(problem, variant), budget, shape)
        return found
