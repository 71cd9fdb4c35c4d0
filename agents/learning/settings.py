"""Settings of a training in four parts, each of which checks itself, and what one part asks of another.

Recipes, families, checkpoints and the command line know every setting by its own name, whatever part it belongs to:
`Training.of` sorts them, `Training.flat` lists them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from teleport_env.agents.learning.task import OWN_TEACHING, Task
from teleport_env.agents.policies.settings import check_name
from teleport_env.envs.settings import Settings
from teleport_env.reading import choose, integer, number, read_fields, refuse

__all__ = ["Learner", "Schedule", "Teaching", "Training"]

ALGORITHMS = ("ppo", "a2c")
_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Searches before the training, and lessons of the policy before it learns.

    Attributes:
        plans: Fixed schedules tried before the training, for the base learning rate and the teacher; 0: none.
        rules: Adaptive rules tried beforehand, for a table's sake; 0: none, as without a menu.
        warm_start: Clone the best plan before the training; with a rule, whichever of both gains more on the train split.
        rule: Clone this rule, which brings the base learning rate: ``agent``, ``learning_rate``, ``searches``
            (indices of the menu, in the rule's order) and the agent's settings. Its rate factors are among the
            training's; empty: no rule.
        teachers: Policies to clone before the training, on the problems they know, in place of a plan; each must play in the
            training's environment, and brings the base learning rate.
        smoothing: Share of the probability that the clone of a plan or rule spreads over all actions. Without any the
            policy would try nothing else; with much of it training learns what to do amid mistakes that play does not make.
        critic_segments: First segments in which only the critic learns: a cloned policy would be undone by a critic that
            knows nothing yet.
    """

    plans: int = 512
    rules: int = 256
    warm_start: bool = False
    rule: Mapping[str, Any] | None = None
    teachers: tuple[Path, ...] = ()
    smoothing: float = 0.1
    critic_segments: int = 0

    def __post_init__(self) -> None:
        read_fields("a training", self)
        for name in ("plans", "rules", "critic_segments"):
            integer(name, getattr(self, name), 0, _MOST)
        number("smoothing", self.smoothing, least=0, most=1)
        if self.rule and self.teachers:
            raise ValueError(_no_rule(["teachers"], self.rule))


def _no_rule(against: list[str], rule: Mapping[str, Any]) -> str:
    return (
        "a rule to clone goes without teachers, several problems and action_mode='group'; asked for: "
        f"{', '.join(against)}. A recipe may bring the rule: an empty one, {{}}, leaves it out. Got {dict(rule)}"
    )


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The algorithm and the network.

    Attributes:
        algorithm: ``"ppo"`` or ``"a2c"``.
        epochs: Passes over a rollout (PPO).
        minibatches: Parts of a pass (PPO).
        step_size: Step size of Adam; falls linearly, segment by segment, to a tenth.
        entropy: Weight of the entropy bonus; falls linearly to 0.
        discount: 1 makes the return the orders of magnitude gained.
        trace: ``lambda`` of the advantage estimate.
        reward_scale: Factor of the rewards that the critic learns.
        hidden: Units of each hidden layer, of the policy and of the critic.
        deviation: Standard deviation of the group mode's Gaussian, at the start.
    """

    algorithm: str = "ppo"
    epochs: int = 4
    minibatches: int = 4
    step_size: float = 1e-3
    entropy: float = 0.01
    discount: float = 1.0
    trace: float = 0.95
    reward_scale: float = 0.25
    hidden: tuple[int, ...] = (64, 64)
    deviation: float = 0.5

    def __post_init__(self) -> None:
        read_fields("a training", self)
        choose("a training", self, "algorithm", ALGORITHMS)
        for name in ("epochs", "minibatches"):
            integer(name, getattr(self, name), 1, _MOST)
        for name in ("step_size", "reward_scale", "deviation"):
            number(name, getattr(self, name), above=0)
        number("entropy", self.entropy, least=0)
        for name in ("discount", "trace"):
            number(name, getattr(self, name), least=0, most=1)
        for units in self.hidden:
            integer("an entry of hidden", units, 1, 4096)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How much is played, side by side and in turn, and how the best policy is chosen.

    Attributes:
        decisions: Number of decisions in all, of all runs together.
        runs: Number of runs side by side; several problems have equal parts of them.
        rollout: Decisions of a run between two updates.
        segment: Updates between two checkpoints. A segment should hold an episode (`Task.longest`): it begins with fresh
            ones, so that nothing is learned of what comes later.
        temperatures: Ways of playing tried on the validation instances: 0 takes the likeliest action, 1 draws from the
            policy's distribution, in between from sharper ones. A policy that always takes the likeliest action may ask for
            the same in vain for ever.
        validation_instances: Number of instances of the validation split, on which the best policy is chosen.
    """

    decisions: int = 500_000
    runs: int = 256
    rollout: int = 32
    segment: int = 4
    temperatures: tuple[float, ...] = (0.0, 0.5, 1.0)
    validation_instances: int = 256

    def __post_init__(self) -> None:
        read_fields("a training", self)
        integer("decisions", self.decisions, 1, _MOST**2)
        for name in ("runs", "rollout", "segment", "validation_instances"):
            integer(name, getattr(self, name), 1, _MOST)
        if not self.temperatures or not all(0 <= value < math.inf for value in self.temperatures):
            refuse("temperatures", "one or more numbers of at least 0", self.temperatures)

    @property
    def segments(self) -> int:
        """How many there are; the last one may take the number of decisions above what was asked."""
        return math.ceil(self.decisions / (self.runs * self.rollout * self.segment))


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of a training.

    A training is a chain of segments. Each begins with fresh episodes and with random numbers that follow from ``seed`` and
    its own number, so that it depends on the network and the optimizer that it starts from and on nothing else: a training
    that is interrupted and resumed ends where it would have ended anyway.

    Attributes:
        task: Problems, actions and environment that are played.
        teaching: Preparation before the training: plans, teachers and imitation.
        learner: The algorithm.
        schedule: Length of the training.
        control: The policy is a control (kind ``"control"`` in tables), such as one without teleports.
        name: Name of the policy in tables.
        seed: Seed of all random numbers.
        tensorboard: Write TensorBoard's files.
        out: Folder for ``policy.json``, ``checkpoint.json`` and ``training.json``.
    """

    task: Task = field(default_factory=Task)
    teaching: Teaching = field(default_factory=Teaching)
    learner: Learner = field(default_factory=Learner)
    schedule: Schedule = field(default_factory=Schedule)
    control: bool = False
    name: str = "learned"
    seed: int = 0
    tensorboard: bool = False
    out: Path = Path("results/train")

    def __post_init__(self) -> None:
        read_fields("a training", self)
        object.__setattr__(self, "out", Path(self.out))
        integer("seed", self.seed, 0, (1 << 62) - 1)
        check_name(self.name)
        self._check_teaching()
        problems, rates, goals = len(self.task.problems), len(self.task.rate_multiples), self.task.goals
        if self.schedule.runs % (problems * rates * goals):
            raise ValueError(
                f"runs must be a multiple of {problems * rates * goals}, for {problems} problems, {rates} rate_multiples "
                f"and {goals} goals, got {self.schedule.runs}"
            )
        size = self.schedule.runs * self.schedule.rollout
        if size % self.learner.minibatches:
            raise ValueError(
                f"minibatches must divide the {size} decisions of a rollout, got {self.learner.minibatches}"
            )
        for name in self.task.problems if self.task.several else ():
            self.alone(name)

    def _check_teaching(self) -> None:
        task, teaching = self.task, self.teaching
        if not task.several and teaching.warm_start and not teaching.plans:
            raise ValueError("warm_start clones the best of some plans: plans must be at least 1, got 0")
        if task.action_mode == "group" and (teaching.rules or teaching.teachers):
            other = "rules" if teaching.rules else "teachers"
            raise ValueError(f"action_mode='group' leaves rules, teachers at 0, (); change {other}")
        if not teaching.rule:
            return
        against = {"several problems": task.several, "action_mode='group'": task.action_mode == "group"}
        if any(against.values()):
            raise ValueError(_no_rule([name for name, asked in against.items() if asked], teaching.rule))
        if task.learning_rate is not None:
            raise ValueError(
                f"the rule brings the base learning rate, {teaching.rule.get('learning_rate')}; learning_rate must be None, "
                f"got {task.learning_rate}; leave the rule out with an empty one, {{}}, or change the rate in it"
            )

    @classmethod
    def of(cls, **settings: Any) -> Training:
        """A training from settings by their own names, whatever part they belong to; all others have their defaults.

        Raises:
            ValueError: A value that is not allowed, or values that do not go together.
            TypeError: There is no such setting.
        """
        own = {name: value for name, value in settings.items() if name not in _PART}
        parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        for name in settings.keys() - own.keys():
            parts[_PART[name]][name] = settings[name]
        return cls(**{part: PARTS[part](**values) for part, values in parts.items()}, **own)

    def flat(self) -> dict[str, Any]:
        """All settings by their own names."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in PARTS}
        return {name: getattr(getattr(self, part), name) for name, part in _PART.items()} | found

    def changed(self, **settings: Any) -> Training:
        """The same training with some settings, by their own names, replaced."""
        return Training.of(**{**self.flat(), **settings})

    @property
    def only(self) -> str:
        """`Task.only`."""
        return self.task.only

    @property
    def environment(self) -> dict[str, Any]:
        """`Task.environment`."""
        return self.task.environment

    def settings(self) -> Settings:
        """`Task.settings`."""
        return self.task.settings()

    def policy_environment(self, learning_rate: float) -> dict[str, Any]:
        """`Task.policy_environment`."""
        return self.task.policy_environment(learning_rate)

    def alone(self, problem: str) -> Training:
        """The same training on one of the problems: with its own settings, and the searches that fill its slots."""
        if not self.task.several:
            return self
        own = {name: value for name, value in self.task.families.get(problem, {}).items() if name in OWN_TEACHING}
        return replace(self, task=self.task.alone(problem), teaching=replace(self.teaching, **own))

    def to_json(self) -> dict[str, Any]:
        """All settings by their own names, in JSON's types."""
        content: dict[str, Any] = json.loads(json.dumps(self.flat(), default=str))
        return content

    def same_course(self, other: Mapping[str, Any]) -> bool:
        """Whether `to_json` of another training describes the same course: where it is written does not matter."""
        free = ("out", "tensorboard")
        mine = {name: value for name, value in self.to_json().items() if name not in free}
        return mine == {name: value for name, value in other.items() if name not in free}


PARTS: dict[str, Any] = {"task": Task, "teaching": Teaching, "learner": Learner, "schedule": Schedule}
"""The parts of a `Training`, by the attribute that holds each."""

_PART = {one.name: part for part, kind in PARTS.items() for one in fields(kind)}
