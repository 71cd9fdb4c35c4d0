"""Training by the on-policy algorithms of stable-baselines3, in segments that can be resumed.

How a segment is made independent of how the process came to it: the weights and the state of Adam come from the checkpoint,
the episodes begin anew, and everything random (instances, actions, the order of minibatches) follows from the seed and the
segment's number. So a checkpoint is a file of tensors, read without unpickling anything. The library draws from global
generators; they are put back when a segment ends.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from teleport_env.agents.comparison.play import draw_instances, play
from teleport_env.agents.learned import LearnedSchedule
from teleport_env.agents.learning.plans import Plan, Searched, search_plans
from teleport_env.agents.learning.rules import FoundRule, search_rules
from teleport_env.agents.learning.settings import Training
from teleport_env.agents.learning.warm_start import clone, lesson_of
from teleport_env.agents.policy_file import CHECKPOINT, PolicyFileError, read_policy_file, write_policy_file
from teleport_env.agents.sb3 import SB3VecEnv
from teleport_env.envs.features import INDEX
from teleport_env.registration import id_of

try:
    import gymnasium as gym
    from stable_baselines3 import A2C, PPO
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnvWrapper
except ImportError as error:
    raise ImportError("training needs stable-baselines3: pip install stable-baselines3") from error

VALIDATION_SEED = 20222
"""Of the choice of validation instances on which the best policy is kept; a report of its worth uses others."""


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        policy: The best on validation instances.
        gained: Its mean orders of magnitude there (it was chosen there: not what it is worth).
        plan: What the search for plans found, if there was one.
        history: A dict a segment: ``segment``, ``decisions``, ``gained`` (on validation instances), ``entropy``, ``return``
            (mean of the episodes that ended, in orders of magnitude).
    """

    policy: LearnedSchedule
    gained: float
    plan: Searched | None
    history: list[dict[str, float]]


class Scaled(VecEnvWrapper):
    """Rewards times a factor, for the critic's sake; the returns that infos report stay what they are."""

    def __init__(self, venv: SB3VecEnv, factor: float) -> None:
        super().__init__(venv)
        self._factor = factor

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observation, reward, done, infos = self.venv.step_wait()
        return observation, reward * np.float32(self._factor), done, infos


class NamedFeatures(BaseFeaturesExtractor):
    """The features that a policy reads, out of the observation."""

    def __init__(self, observation_space: gym.Space[Any], names: tuple[str, ...]) -> None:
        super().__init__(observation_space, features_dim=len(names))
        self._columns = [INDEX[name] for name in names]

    def forward(self, observations: Tensor) -> Tensor:
        return observations[:, self._columns]


def train(training: Training, report: Callable[[str], None] = print, until: int | None = None) -> Trained:
    """Train a schedule, or go on with a training whose checkpoint lies in ``training.out``.

    Args:
        training: The settings.
        report: Called with a line of text now and then.
        until: Stop before this segment, as if cut off; None: train to the end.

    Raises:
        ValueError: The folder holds the checkpoint of another training.
        PolicyFileError: The checkpoint is damaged.
    """
    run = _Run(training, report)
    for segment in run.remaining(until):
        run.segment(segment)
    return run.finish()


class _Run:
    """A training under way."""

    def __init__(self, training: Training, report: Callable[[str], None]) -> None:
        self.training, self.report = training, report
        self.path = Path(training.out) / "checkpoint.json"
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, LearnedSchedule | None] = (-np.inf, None)
        saved = read_policy_file(self.path, CHECKPOINT) if self.path.exists() else None
        if saved is not None and not training.same_course(saved.settings.get("training", {})):
            raise ValueError(
                f"{self.path} belongs to a training with other settings; give another folder with --out, or remove it"
            )
        self.writer = _writer(training) if training.tensorboard else None
        torch.set_num_threads(1)  # the tensors are small
        self.searched = self._searched(saved.settings.get("plan") if saved else None)
        self.rule = self._rule(saved.settings.get("rule") if saved else None)
        rate = training.learning_rate or (self.searched.plan.learning_rate if self.searched else None)
        self.learning_rate = rate or training.settings().learning_rate
        arguments = {**training.environment, "learning_rate": self.learning_rate}
        env = SB3VecEnv(id_of(training.problem), training.runs, bootstrap_truncated=False, split="train", **arguments)
        self.env = Scaled(env, training.reward_scale)
        with _generators(training.seed, 0):
            self.model = _build(training, self.env)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.ids = draw_instances(training.problem, "validation", training.validation_instances, VALIDATION_SEED)
        self.begin = 0
        if saved is None and training.warm_start:
            self._warm_start()
        elif saved is not None:
            try:
                self._restore(saved.settings, saved.tensors)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise PolicyFileError(f"{self.path} is refused: it does not fit the network ({error})") from error

    # -- the parts -----------------------------------------------------------------------------------------------------

    def _searched(self, saved: dict[str, Any] | None) -> Searched | None:
        if saved is not None:
            return Searched(**{**saved, "plan": Plan(**saved["plan"])})
        if not self.training.plans:
            return None
        self.report(f"Searching {self.training.plans} fixed schedules on the train split")
        found = search_plans(self.training)
        self.report(f"The best of {found.tried} gains {found.gained:.2f} orders of magnitude: {found.plan}")
        return found

    def _rule(self, saved: dict[str, Any] | None) -> FoundRule | None:
        if saved is not None:
            return FoundRule(**saved)
        if not self.training.rules or not self.training.settings().searches:
            return None
        self.report(f"Searching {self.training.rules} rules on the train split")
        found = search_rules(self.training)
        self.report(
            f"The best of {found.tried} gains {found.gained:.2f} orders of magnitude: {found.rule} {found.settings}"
        )
        return found

    def _warm_start(self) -> None:
        assert self.searched is not None
        lesson = lesson_of(self.training, self.searched.plan)
        policy = self.model.policy
        network = nn.Sequential(policy.features_extractor, policy.mlp_extractor.policy_net, policy.action_net)
        share = clone(network, lesson, torch.Generator().manual_seed(self.training.seed))
        self.report(f"The warm start chooses {share:.1%} of the best plan's actions")

    def remaining(self, until: int | None) -> Iterator[int]:
        """Numbers of the segments to do, with a progress bar where rich is installed."""
        end = self.training.segments if until is None else min(until, self.training.segments)
        numbers = range(self.begin, end)
        if self.begin and len(numbers):
            self.report(f"Resuming before segment {self.begin} of {self.training.segments}")
        try:
            from rich.progress import track
        except ImportError:
            return iter(numbers)
        return iter(track(numbers, description="training", transient=True))

    def segment(self, number: int) -> None:
        """One segment, an evaluation, and a checkpoint."""
        training, model = self.training, self.model
        share = 1.0 - number / training.segments
        model.lr_schedule = lambda _: training.step_size * (0.1 + 0.9 * share)
        model.ent_coef = training.entropy * share
        critic_only = number < training.critic_segments
        for part in (model.policy.mlp_extractor.policy_net, model.policy.action_net):
            part.requires_grad_(not critic_only)
        size = training.runs * training.rollout * training.segment
        with _generators(training.seed, number + 1) as seed:
            self.env.seed(seed)
            model.learn(size, log_interval=None)  # type: ignore[arg-type]  # None: never, says its docstring
        policy = self._policy()
        gained = _worth(training, policy, self.ids)
        values = model.logger.name_to_value
        self.history.append(
            {
                "segment": number,
                "decisions": (number + 1) * size,
                "gained": gained,
                "entropy": -float(values["train/entropy_loss"]),
                "return": float(np.mean([episode["r"] for episode in model.ep_info_buffer or []])),
            }
        )
        if gained > self.best[0]:
            self.best = (gained, policy)
            policy.save(Path(training.out) / "policy.json")
        self._save(number + 1)
        if self.writer is not None:
            for name, value in self.history[-1].items():
                self.writer.add_scalar(f"schedule/{name}", value, (number + 1) * size)
            for name, value in values.items():
                self.writer.add_scalar(name, value, (number + 1) * size)

    def finish(self) -> Trained:
        """The best policy, written and returned."""
        self.env.close()
        gained, policy = self.best
        if policy is None:
            policy = self._policy()
            gained = _worth(self.training, policy, self.ids)
        policy.save(Path(self.training.out) / "policy.json")
        if self.writer is not None:
            self.writer.close()
        content = {
            "training": self.training.to_json(),
            "gained": gained,
            "learning_rate": self.learning_rate,
            "plan": _plain(self.searched),
            "rule": _plain(self.rule),
            "history": self.history,
        }
        path = Path(self.training.out) / "training.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return Trained(policy, gained, self.searched, self.history)

    def _policy(self) -> LearnedSchedule:
        """The network as it is now, as an agent."""
        policy: Any = self.model.policy
        linear = [part for part in policy.mlp_extractor.policy_net if isinstance(part, nn.Linear)]
        layers = tuple(
            (part.weight.detach().numpy().copy(), part.bias.detach().numpy().copy())
            for part in [*linear, policy.action_net]
        )
        training = self.training
        provenance = {
            "training": {**training.to_json(), "out": ""},
            "versions": _versions(),
            "plan": _plain(self.searched),
            "rule": _plain(self.rule),
        }
        return LearnedSchedule(
            name=training.name,
            kind="control" if training.control else "learned",
            problems=(training.problem,),
            features=training.features,
            layers=layers,
            environment=training.policy_environment(self.learning_rate),
            provenance=provenance,
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _save(self, begin: int) -> None:
        policy = self.model.policy
        tensors = {f"policy.{name}": value.numpy() for name, value in policy.state_dict().items()}
        for index, entries in policy.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.numpy() for name, value in entries.items()}
        gained, best = self.best
        assert best is not None
        for number, pair in enumerate(best.layers):
            tensors |= {f"best.{number}.{name}": value for name, value in zip(("weight", "bias"), pair, strict=True)}
        settings = {
            "training": self.training.to_json(),
            "begin": begin,
            "history": self.history,
            "gained": gained,
            "plan": _plain(self.searched),
            "rule": _plain(self.rule),
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
        count = sum(name.startswith("best.") for name in tensors) // 2
        layers = tuple((tensors[f"best.{n}.weight"], tensors[f"best.{n}.bias"]) for n in range(count))
        self.best = (settings["gained"], dataclasses.replace(self._policy(), layers=layers))


def _build(training: Training, env: Scaled) -> OnPolicyAlgorithm:
    shared: dict[str, Any] = {
        "n_steps": training.rollout,
        "learning_rate": training.step_size,
        "gamma": training.discount,
        "gae_lambda": training.trace,
        "ent_coef": training.entropy,
        "device": "cpu",
        "policy_kwargs": {
            "net_arch": {"pi": list(training.hidden), "vf": list(training.hidden)},
            "activation_fn": nn.Tanh,
            "features_extractor_class": NamedFeatures,
            "features_extractor_kwargs": {"names": training.features},
        },
    }
    if training.algorithm == "a2c":
        return A2C("MlpPolicy", env, use_rms_prop=False, **shared)
    size = training.runs * training.rollout // training.minibatches
    return PPO("MlpPolicy", env, batch_size=size, n_epochs=training.epochs, **shared)


def _worth(training: Training, policy: LearnedSchedule, ids: np.ndarray) -> float:
    played = play(training.problem, policy, ids, split="validation", budget=training.budget, seed=VALIDATION_SEED)
    return float(np.mean([row["gained"] for row in played.rows]))


@contextmanager
def _generators(seed: int, number: int) -> Iterator[int]:
    """The global generators seeded from two numbers, and put back at the end; gives a seed for the episodes."""
    words = np.random.SeedSequence([seed, number]).generate_state(3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 (the library draws from it)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    try:
        yield int(words[2])
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _plain(searched: Searched | FoundRule | None) -> dict[str, Any] | None:
    return None if searched is None else json.loads(json.dumps(dataclasses.asdict(searched), default=float))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("teleport-env", "torch", "numpy", "stable-baselines3")}


def _writer(training: Training) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard is missing: pip install "teleport-env[train]"') from error
    return SummaryWriter(str(Path(training.out) / "tensorboard"))
