"""Training by the on-policy algorithms of stable-baselines3, in segments that can be resumed.

How a segment is made independent of how the process came to it: the weights and the state of Adam come from the checkpoint,
the episodes begin anew, and everything random (instances, actions, the order of minibatches) follows from the seed and the
segment's number. So a checkpoint is a file of tensors, read without unpickling anything. The library draws from global
generators; they are put back when a segment ends.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from teleport_env.agents.base import Agent
from teleport_env.agents.learning.algorithm import MaskedPolicy, build, generators, writer
from teleport_env.agents.learning.fallback import gained_over_tolerances, judged
from teleport_env.agents.learning.recipes import command, recipe
from teleport_env.agents.learning.sb3 import SB3VecEnv
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.vec_env import Mixture, Moves, Shares, with_shares
from teleport_env.agents.learning.warm_start import Demonstration, clone, rule_from, shown, teacher_of
from teleport_env.agents.naming import typed
from teleport_env.agents.play import draw_instances, play_many
from teleport_env.agents.policies.file import CHECKPOINT, PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.policies.learned_moves import MovePlan, Policy
from teleport_env.agents.policies.network import Layers
from teleport_env.agents.policies.settings import Family
from teleport_env.agents.policies.slots import relative, search_prices
from teleport_env.agents.tuning.own_menu import Menu, plan_from, search_plans, search_rules
from teleport_env.agents.tuning.plans import Plan
from teleport_env.agents.versions import versions
from teleport_env.files import check_folder, write
from teleport_env.reading import counted
from teleport_env.registration import id_of

VALIDATION_SEED = 20222
"""Of the choice of validation instances on which the best policy is kept; a report of its worth uses others."""

LESSON, LESSONS = 512, 2048
"""Largest number of instances on which a teacher is shown: of one problem, and of all together. With 512 of each of ten,
cloning takes longer than a short training after it."""


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        policy: The best on validation instances.
        gained: Its mean there, in `Task.unit` (it was chosen there: elsewhere it gains less); of several problems, the
            mean of their means.
        plans: Plans that `search_plans` found, by problem, where it searched.
        history: A dict per segment: ``segment``, ``decisions``, ``gained`` (on validation instances), the same of each of
            several problems, ``entropy``, ``return`` (mean of the last 100 episodes that ended).
        below: A sentence for each problem on which the policy gains less than one of its rivals, or no more than with its
            teleports masked (`teleport_env.agents.learning.fallback`); the policy's file holds that as its fallback.
    """

    policy: Policy
    gained: float
    plans: dict[str, dict[str, Any]]
    history: list[dict[str, float]]
    below: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Game:
    """One problem of a training: settings on it alone, `Shares`, base rate, validation instances, and what is cloned."""

    training: Training
    slots: tuple[int, ...]
    prices: tuple[float, ...] | None
    learning_rate: float
    ids: np.ndarray
    teacher: Agent | Plan | MovePlan | None


class Course:
    """A training under way; the arguments are those of `teleport_env.agents.learning.training.train`."""

    def __init__(self, training: Training, report: Callable[[str], None], beside: Executor | None = None) -> None:
        self.training, self.report, self.beside = training, report, beside
        self.under_way: list[tuple[dict[str, dict[str, Any]], str, Future[dict[str, Any]]]] = []
        self.path = training.out / "checkpoint.json"
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, Policy | None] = (-np.inf, None)
        saved = read_policy_file(self.path, CHECKPOINT) if self.path.exists() else None
        found = saved.settings if saved else {}
        if saved is not None and not training.same_course(found.get("training", {})):
            raise ValueError(
                f"{self.path} belongs to a training with other settings; give another folder with --out, or remove it"
            )
        self._look_first()
        self.writer = writer(training) if training.tensorboard else None
        self.plans: dict[str, dict[str, Any]] = dict(found.get("plans", {}))
        self.rules: dict[str, dict[str, Any]] = dict(found.get("rules", {}))
        self.games = {problem: self._game(problem) for problem in training.task.problems}
        self.teleports = len(training.task.slots) if training.task.several else len(training.settings().searches)
        self.env: Mixture | Moves = self._environment()
        with generators(training.seed, 0):
            self.model = self._network()
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.begin = 0
        if saved is None and any(game.teacher for game in self.games.values()):
            self._warm_start()
        elif saved is not None:
            try:
                self._restore(saved.settings, saved.tensors)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise PolicyFileError(f"{self.path} is refused: it does not fit the network ({error})") from error

    def _look_first(self) -> None:
        """Whether the results can be written and the data are there, before any problem is searched on."""
        task, schedule = self.training.task, self.training.schedule
        check_folder(self.training.out)
        for problem in task.problems:
            made = task.alone(problem).settings().problem
            for split in ("train", "validation"):
                made.instances(torch.zeros(1, dtype=torch.int64), split)
        if (seen := schedule.rollout * schedule.segment) < task.longest:
            self.report(
                f"Episodes take up to {task.longest} decisions, but a segment ends after {seen}: nothing will be "
                "learned of what comes later. Raise segment, or steps_per_action"
            )

    # -- the parts -----------------------------------------------------------------------------------------------------

    def _environment(self, segment: int = 0) -> Mixture | Moves:
        task, scale = self.training.task, self.training.learner.reward_scale
        steps, cost = len(task.rate_factors), task.divergence_cost
        parts = [
            Shares(self._runs(game, rate=one, **goal), game.slots, game.prices, self.teleports, steps, scale, cost)
            for game in self.games.values()
            for one in task.rate_multiples
            for goal in task.drawn(self.training.seed, segment)
        ]
        return Mixture(parts, steps + self.teleports)

    def _network(self) -> OnPolicyAlgorithm:
        settings = {"teleports": self.teleports}
        return build(self.training, MaskedPolicy, self.env, self.teleports * self.training.task.price_inputs, settings)

    def _game(self, problem: str) -> _Game:
        """A problem with its rate, prices and teacher, after the search for plans and rules on it, if there is one."""
        alone = self.training.alone(problem)
        teaching, several = alone.teaching, self.training.task.several
        rule = rule_from(alone)  # rejects what is wrong with it before anything is computed
        settings = alone.settings()
        environment = alone.policy_environment(settings.learning_rate)
        cloned = teacher_of(alone, teaching.teachers)
        begins = cloned or rule
        rate = begins.environment["learning_rate"] if begins else alone.task.learning_rate
        # where an episode takes long, few instances choose the policy, and the search would take longer than the training
        instances = min(Menu.instances, 2 * alone.schedule.validation_instances)
        kept = alone.task.learning_rate is not None
        menu = Menu(alone.only, environment, teaching.plans, alone.task.budget, kept, instances, alone.task.reward)
        if teaching.plans and problem not in self.plans:
            self._search(search_plans, menu, self.plans, first=cloned is None and (teaching.warm_start or rate is None))
        if teaching.rules and settings.searches and problem not in self.rules:
            self._search(search_rules, dataclasses.replace(menu, count=teaching.rules), self.rules, first=False)
        plan = plan_from(self.plans[problem]["plan"], environment) if problem in self.plans else None
        teacher = begins or (plan if teaching.warm_start else None)
        if rule and isinstance(plan, Plan) and teaching.warm_start and self._gains_more(plan, rule, alone, environment):
            teacher, rate = plan, plan.learning_rate
        slots = tuple(range(len(settings.searches)))
        if several:
            slots = tuple(slot for slot, one in enumerate(self.training.task.filled(problem)) if one is not None)
        prices = None
        if self.training.task.masks:
            prices = relative(search_prices(problem, settings.searches, **alone.environment))
        ids = draw_instances(problem, "validation", alone.schedule.validation_instances, VALIDATION_SEED)
        rate = rate or (plan.learning_rate if plan else settings.learning_rate)
        return _Game(alone, slots, prices, rate, ids, teacher)

    def _gains_more(self, plan: Plan, rule: Agent, alone: Training, environment: Mapping[str, Any]) -> bool:
        """Whether the best plan gains more than the rule on instances of the train split."""
        ids = draw_instances(alone.only, "train", LESSON, alone.seed + 2)
        shared: dict[str, Any] = {"split": "train", "budget": alone.task.budget, "reward": alone.task.reward}
        its, other = play_many(alone.only, [plan.agent(environment), rule], ids, **shared).mean(axis=1).tolist()
        better = its > other
        self.report(f"The plan gains {its:.2f}, the rule {other:.2f}: the {'plan' if better else 'rule'} is cloned")
        return bool(better)

    def _search(
        self,
        search: Callable[[Menu], dict[str, Any]],
        menu: Menu,
        found: dict[str, dict[str, Any]],
        first: bool,
    ) -> None:
        """Put the best plan or rule into ``found``: at once, or beside a training that does not need it ``first``."""
        sort = counted(menu.count, "fixed schedule" if search is search_plans else "rule")
        where = f" of {menu.problem}" if self.training.task.several else ""
        self.report(f"Searching {sort} on the train split{where}")
        if self.beside is None or first:
            found[menu.problem] = search(menu)
            self._say(found[menu.problem], menu.environment)
        else:
            self.under_way.append((found, menu.problem, self.beside.submit(search, menu)))

    def _say(self, found: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        if "plan" in found:
            said = plan_from(found["plan"], environment).in_words(environment)
        else:
            said = typed(found["rule"], found["settings"])
        self.report(f"The best of {found['tried']} gains {found['gained']:.2f} {self.training.task.unit}: {said}")

    def _gather(self, wait: bool) -> None:
        """Take in what searches beside the training have found; all of it, or what is there by now."""
        going = []
        for found, problem, future in self.under_way:
            if wait or future.done():
                found[problem] = future.result()
                alone = self.training.alone(problem)
                self._say(found[problem], alone.policy_environment(alone.settings().learning_rate))
            else:
                going.append((found, problem, future))
        self.under_way = going

    def _runs(self, game: _Game, rate: float = 1.0, tolerance: float = 1.0, budget: float = 1.0) -> SB3VecEnv:
        """A part of the runs, at multiples of the base learning rate, of the tolerance and of the budget."""
        training, usual, task = game.training, game.training.settings(), self.training.task
        arguments = {
            **training.environment,
            "learning_rate": rate * game.learning_rate,
            "tolerance": tolerance * usual.tolerance,
            "budget": budget * usual.budget,
        }
        count = self.training.schedule.runs // (len(self.games) * len(task.rate_multiples) * task.goals)
        return SB3VecEnv(id_of(training.only), count, bootstrap_truncated=False, split="train", **arguments)

    def _warm_start(self) -> None:
        seen, wanted = [], []
        for game in self.games.values():
            if game.teacher is None:
                continue
            assert not isinstance(game.teacher, MovePlan)
            one = shown(game.training, game.teacher, max(1, min(LESSON, LESSONS // len(self.games))))
            seen.append(with_shares(one.observations, game.slots, game.prices, self.teleports))
            steps = len(game.training.task.rate_factors)
            probabilities = np.zeros((len(one.probabilities), steps + self.teleports), dtype=np.float32)
            probabilities[:, [*range(steps), *(steps + slot for slot in game.slots)]] = one.probabilities
            wanted.append(probabilities)
        lesson = Demonstration(np.concatenate(seen), np.concatenate(wanted))
        policy: Any = self.model.policy
        share = clone(policy.actor, lesson, torch.Generator().manual_seed(self.training.seed))
        self.report(f"The warm start chooses {share:.1%} of the actions it was shown")

    def remaining(self, until: int | None) -> Iterator[int]:
        """Numbers of the segments to do, with a progress bar where rich is installed."""
        end = self.training.schedule.segments if until is None else min(until, self.training.schedule.segments)
        numbers = range(self.begin, end)
        if self.begin and len(numbers):
            self.report(f"Resuming before segment {self.begin} of {self.training.schedule.segments}")
        try:
            from rich.progress import track
        except ImportError:
            return iter(numbers)
        return iter(track(numbers, description="training", transient=True))

    def segment(self, number: int) -> None:
        """One segment, an evaluation, and a checkpoint."""
        training, model = self.training, self.model
        share = 1.0 - number / training.schedule.segments
        model.lr_schedule = lambda _: training.learner.step_size * (0.1 + 0.9 * share)
        model.ent_coef = training.learner.entropy * share
        critic_only = number < training.teaching.critic_segments
        for part in (model.policy.mlp_extractor.policy_net, model.policy.action_net):
            part.requires_grad_(not critic_only)
        size = training.schedule.runs * training.schedule.rollout * training.schedule.segment
        if training.task.goals > 1:
            self.env.close()
            self.env = self._environment(number)
            model.set_env(self.env)
        with generators(training.seed, number + 1) as seed:
            self.env.seed(seed)
            began = time.perf_counter()
            model.learn(size, log_interval=None)  # type: ignore[arg-type]  # None: never, says its docstring
            seconds = time.perf_counter() - began
        policy, temperature, worth = self._best_play()
        gained = float(np.mean([*worth.values()]))
        values = model.logger.name_to_value
        self.history.append(
            {
                "segment": number,
                "decisions": (number + 1) * size,
                "gained": gained,
                "temperature": temperature,
                **({f"gained_{problem}": one for problem, one in worth.items()} if training.task.several else {}),
                "entropy": -float(values["train/entropy_loss"]),
            }
        )
        ended = [episode["r"] for episode in model.ep_info_buffer or []]
        if ended:  # a short segment may end none
            self.history[-1]["return"] = float(np.mean(ended))
        if gained > self.best[0]:
            self.best = (gained, policy)
            policy.save(training.out / "policy.json")
        self._gather(wait=number + 1 == training.schedule.segments)
        self._save(number + 1)
        if self.writer is not None:
            for name, value in self.history[-1].items():
                self.writer.add_scalar(f"schedule/{name}", value, (number + 1) * size)
            for name, value in {**values, **_rollout(model.ep_info_buffer or []), "time/fps": size / seconds}.items():
                self.writer.add_scalar(name, value, (number + 1) * size)

    def finish(self) -> Trained:
        """The best policy, written and returned."""
        self.env.close()
        self._gather(wait=True)
        gained, policy = self.best
        if policy is None:
            policy, _, worth = self._best_play()
            gained = float(np.mean([*worth.values()]))
        policy = dataclasses.replace(policy, provenance={**policy.provenance, **self._found()})
        trainings = {problem: (game.training, game.learning_rate) for problem, game in self.games.items()}
        policy, below = judged(policy, trainings, self.plans)
        policy.save(self.training.out / "policy.json")
        if self.writer is not None:
            self.writer.close()
        content = {
            "training": self.training.to_json(),
            "gained": gained,
            "learning_rates": {problem: game.learning_rate for problem, game in self.games.items()},
            "plans": self.plans,
            "rules": self.rules,
            "history": self.history,
            "below": below,
        }
        write(self.training.out / "training.json", json.dumps(content, indent=1) + "\n")
        return Trained(policy, gained, self.plans, self.history, below)

    def _best_play(self) -> tuple[Policy, float, dict[str, float]]:
        """The network as it is, played at the temperature that gains most, which, and what it gains on each problem."""
        temperatures = self.training.schedule.temperatures
        policies = [self._policy(temperature) for temperature in temperatures]
        worth = {problem: self._worth(policies, problem) for problem in self.games}
        best = int(np.argmax(np.mean([*worth.values()], axis=0)))
        return policies[best], temperatures[best], {problem: float(gained[best]) for problem, gained in worth.items()}

    def _worth(self, policies: list[Policy], problem: str) -> np.ndarray:
        """What each policy ``(policies,)`` gains on the validation instances of a problem.

        That is the mean over all multiples of its rate, and over both ends of the tolerances. All rates play side by side,
        because a step of many runs costs hardly more than one of few.
        """
        game, agents = self.games[problem], []
        for agent in (policy.for_problem(problem) for policy in policies):
            for multiple in self.training.task.rate_multiples:
                rate = multiple * agent.environment["learning_rate"]
                agents.append(dataclasses.replace(agent, environment={**agent.environment, "learning_rate": rate}))
        gained = gained_over_tolerances(game.training, problem, agents, game.ids, VALIDATION_SEED).mean(axis=0)
        return gained.mean(axis=1).reshape(len(policies), -1).mean(axis=1)

    def _layers(self) -> Layers:
        """Weights and biases of the policy's network, copies."""
        policy: Any = self.model.policy
        linear = [part for part in policy.mlp_extractor.policy_net if isinstance(part, nn.Linear)]
        return tuple(
            (part.weight.detach().numpy().copy(), part.bias.detach().numpy().copy())
            for part in [*linear, policy.action_net]
        )

    @cached_property
    def _origin(self) -> dict[str, Any]:
        """The command, the settings and the versions that make this training."""
        training, task = self.training, self.training.task
        start = recipe(task.problem, task.optimizer, task.action_mode, task.budget, task.reward)
        settings = {**training.to_json(), "out": ""}
        return {"command": command(training, start), "training": settings, "versions": versions()}

    def _shared(self, temperature: float) -> dict[str, Any]:
        """What every policy of this training has, whatever its mode."""
        training, task = self.training, self.training.task
        return {
            "name": training.name,
            "kind": "control" if training.control else "learned",
            "problems": task.problems,
            "features": task.features,
            "stochastic": temperature > 0.0,
            "layers": self._layers(),
            "provenance": dict(self._origin),
        }

    def _found(self) -> dict[str, Any]:
        """What the searches have found by now, for a policy's file."""
        if self.training.task.several:
            return {"plans": self.plans, "rules": self.rules}
        problem = self.training.only
        found = {"plan": self.plans.get(problem)}
        return found if self.training.task.action_mode == "group" else {**found, "rule": self.rules.get(problem)}

    def _policy(self, temperature: float = 0.0) -> Policy:
        """The network as it is now, as an agent; a temperature above 0 divides the logits that it draws from."""
        training, shared = self.training, self._shared(temperature)
        if temperature not in (0.0, 1.0):
            *rest, last = shared["layers"]
            shared["layers"] = (*rest, tuple(part / np.float32(temperature) for part in last))
        provenance = shared["provenance"]
        if training.teaching.teachers:
            taught = {p: game.teacher for p, game in self.games.items() if isinstance(game.teacher, LearnedSchedule)}
            provenance["teachers"] = {p: teacher.provenance.get("command") for p, teacher in taught.items()}
        provenance |= self._found()
        shared["price_inputs"] = training.task.price_inputs
        environments = {p: game.training.policy_environment(game.learning_rate) for p, game in self.games.items()}
        if training.task.several:
            task = training.task
            # what all problems share goes along to one that the policy has not seen
            shared_names = ("rate_factors", "steps_per_action", "optimizer", "on_teleport")
            environment = {name: value for name in shared_names if (value := getattr(task, name)) is not None}
            environment["rate_factors"] = list(task.rate_factors)
            families = {p: Family(environments[p], game.slots, game.prices or ()) for p, game in self.games.items()}
            return LearnedSchedule(**shared, environment=environment, families=families, slots=task.slots)
        problem = training.only
        return LearnedSchedule(**shared, environment=environments[problem], prices=self.games[problem].prices)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _save(self, begin: int) -> None:
        policy = self.model.policy
        tensors = {f"policy.{name}": value.numpy() for name, value in policy.state_dict().items()}
        for index, entries in policy.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.numpy() for name, value in entries.items()}
        gained, best = self.best
        assert best is not None
        tensors |= {f"best.{name}": value for name, value in best.tensors().items()}
        settings = {
            "training": self.training.to_json(),
            "begin": begin,
            "history": self.history,
            "gained": gained,
            "stochastic": best.stochastic,
            "plans": self.plans,
            "rules": self.rules,
        }
        write_policy_file(self.path, settings, tensors, CHECKPOINT)

    def _restore(self, settings: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        policy = self.model.policy
        own = {name: torch.from_numpy(tensors[f"policy.{name}"]) for name in policy.state_dict()}
        policy.load_state_dict(own)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, entry = name.split(".")
                state.setdefault(int(index), {})[entry] = torch.from_numpy(value)
        policy.optimizer.load_state_dict({**policy.optimizer.state_dict(), "state": state})
        self.begin, self.history = settings["begin"], settings["history"]
        now = self._policy()
        kept = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        best = dataclasses.replace(now, **now.parts(kept), stochastic=settings["stochastic"])
        self.best = (settings["gained"], best)


def _rollout(episodes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Scalars of the last training episodes, under the names that stable-baselines3 gives them; empty if there are none."""
    ended = list(episodes)
    names = {"ep_rew_mean": "r", "ep_len_mean": "l", "diverged_share": "diverged", "teleports_mean": "teleports"}
    return {f"rollout/{name}": float(np.mean([one[key] for one in ended])) for name, key in names.items() if ended}
