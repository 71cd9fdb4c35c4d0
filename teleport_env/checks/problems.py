"""Checks of problems: their instances, mini-batches and measurements, and that they can be played."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.checks.actions import check_symmetry
from teleport_env.checks.cases import batch_at, ids_of, problem_of, streams_of, tensors_of
from teleport_env.checks.losses import check_float32, check_gradient, check_kernels, check_loss, check_minimum
from teleport_env.checks.report import Checks, Report, identical
from teleport_env.envs import TeleportEnv, TeleportVectorEnv
from teleport_env.envs.settings import Settings
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import SPLITS, Defaults, Problem
from teleport_env.searches import describe
from teleport_env.symmetries.base import Symmetry

LARGEST_DATA_SET = 5000
"""Training sets with more examples are not evaluated as a whole."""


def check_problem(problem: str | Problem, count: int = 5) -> Report:
    """Check everything that environments, searches and comparisons rely on in a problem.

    Instances and splits, the loss and its gradient, rows, precision, the minimum, mini-batches, measurements, pickling,
    every symmetry (`check_symmetry`), and a few actions in an environment of every split and symmetry.

    Args:
        problem: The problem, or its registered name.
        count: Number of instances ``B`` to check on, at least 2.

    Raises:
        CheckFailed: Something does not hold.
        TypeError: It is no problem.
        ValueError: An unknown name, or ``count`` below 2.
    """
    problem = problem_of(problem)
    if count < 2:
        raise ValueError(f"count must be at least 2 to compare rows, got {count}")
    checks = Checks(f"problem {problem.name or type(problem).__name__}")
    checks.require(
        isinstance(problem.name, str) and problem.name.strip() != "",
        "`name` is empty",
        f'Write name = "{type(problem).__name__}" in the class: random streams and messages go by it',
    )
    for split in SPLITS:
        _check_instances(checks, problem, split, count)
    _check_splits(checks, problem)
    instance = problem.instances(ids_of(problem, "train", count), "train")
    batch = _check_mini_batches(checks, problem, instance)
    check_loss(checks, problem, instance, batch)
    check_gradient(checks, problem, instance, batch)
    check_kernels(checks, problem, instance, batch)
    check_float32(checks, problem, instance, batch)
    check_minimum(checks, problem, instance, batch)
    _check_measurements(checks, problem, instance)
    _check_pickling(checks, problem, instance, batch)
    for name, symmetry in problem.symmetries.items():
        given = type(symmetry).__name__
        checks.require(isinstance(symmetry, Symmetry), f"symmetries[{name!r}] is a {given}", "Give a Symmetry")
        checks.require(
            symmetry.name == name,
            f"symmetries[{name!r}] calls itself {symmetry.name!r}",
            "Use the symmetry's name as its key: tables and messages show the one, users type the other",
        )
        found = check_symmetry(symmetry, problem, instance, batch=batch)
        checks.passed.append(f"symmetry {name!r}: {len(found.passed)} laws")
        for note in found.notes:
            checks.note(note)
    _check_play(checks, problem, count)
    return checks.report()


def _check_instances(checks: Checks, problem: Problem, split: str, count: int) -> None:
    """What `sample` draws: shapes, precision, finite, and the same alone and among others."""
    where = f"sample(..., split={split!r})"
    with checks.trying("num_instances", "Return a positive integer, or None for as many as there are integers"):
        limit = problem.num_instances(split)
        checks.require(limit is None or limit >= 1, f"num_instances({split!r}) is {limit!r}", "Give 1 or more, or None")
    with checks.trying(where, f"It is called with all of {', '.join(map(repr, SPLITS))}; draw them alike if in doubt"):
        drawn = problem.sample(streams_of(count), count, split)
    checks.require(isinstance(drawn, Instance), f"{where} returned a {type(drawn).__name__}", "Return an Instance")
    remedy = "Draw as many rows as `count` says, in float64; environments convert"
    checks.returned(f"{where}.start", drawn.start, (count, *drawn.start.shape[1:]), torch.float64, remedy)
    ids = ids_of(problem, split, count)
    with checks.trying(f"instances(ids, {split!r})", "See `Problem.instances`"):
        together = problem.instances(ids, split)
        again = problem.instances(ids.flip(0), split)
    checks.require(
        together.ids is not None and torch.equal(together.ids, ids),
        f"instances(ids, {split!r}) has other ids",
        "Keep `Instance.ids` when overriding `instances` or `place`",
    )
    for name, tensor in tensors_of(together).items():
        if tensor.is_floating_point():
            remedy = "Keep the ranges of the distribution where its formulas are finite"
            checks.finite(f"{where} drew {name!r}, which", tensor, remedy)
        shares = "Row i of every draw may use row i of the generator's numbers only; use no other source of randomness"
        for row in (0, count - 1):
            checks.require(
                identical(tensor[row], tensors_of(again)[name][count - 1 - row]),
                f"{where}: {name!r} of instance {int(ids[row])} was another in the second of two calls",
                shares,
            )
            alone = tensors_of(problem.instances(ids[row : row + 1], split))[name][0]
            checks.same_row(f"{where}, {name!r}", alone, tensor[row], row, count, shares)
    checks.passed.append(f"instances of split {split!r}")


def _check_splits(checks: Checks, problem: Problem) -> None:
    """No instance stands in two of the splits that schedules are learned, chosen and judged on."""
    seen: dict[bytes, str] = {}
    for split in SPLITS[1:]:
        some = problem.instances(ids_of(problem, split, 16), split)
        shared = [(name, _fingerprint(value)) for name, value in sorted(some.shared.items())]
        rows = [
            pickle.dumps((shared, [(name, tensor[row].tolist()) for name, tensor in tensors_of(some).items()]))
            for row in range(len(some))
        ]
        distinct = set(rows)
        limit = problem.num_instances(split)
        if len(distinct) == 1 and limit is None:
            checks.note(
                f"all instances of split {split!r} are the same: draw the start, or the data, from the generator"
            )
            continue
        for one in distinct:
            other = seen.setdefault(one, split)
            checks.require(
                other == split,
                f"an instance of split {split!r} is also one of split {other!r}",
                "Draw from the generator that `sample` is given, which differs from split to split: results on instances "
                "that were trained on say nothing",
            )
    checks.passed.append("splits are disjoint")


def _fingerprint(value: Any) -> Any:
    """What tells a shared object from another without reading all of it."""
    if not isinstance(value, Tensor):
        return repr(value)
    return tuple(value.shape), float(value.to(torch.float64).sum()), value.flatten()[:16].tolist()


def _check_mini_batches(checks: Checks, problem: Problem, instance: Instance) -> Batch:
    size = problem.batch_size
    if size is None:
        return None
    with checks.trying("num_examples", "Return the size of the training set: mini-batches are drawn from it"):
        examples = problem.num_examples(instance)
    checks.require(
        isinstance(size, int) and 1 <= size <= examples,
        f"batch_size is {size!r} of {examples} examples",
        "Give an integer from 1 to the number of examples, or None",
    )
    key = instance.tensors.get("order_key")
    checks.require(
        key is not None and key.dtype == torch.int64 and key.shape == (len(instance),),
        "batch_size is set, and the instance has no tensor 'order_key' (B,) of int64",
        'Add {"order_key": generator.bits()} to its tensors: the key of the run\'s order of mini-batches',
    )
    checks.require(
        len(torch.unique(instance["order_key"])) > 1 or problem.num_instances("train") == 1,
        "'order_key' is the same for all instances",
        "Draw it by generator.bits()",
    )
    batch = batch_at(problem, instance)
    following = batch_at(problem, instance, step=1)
    with torch.no_grad(), checks.trying("loss on a mini-batch", "`batch` holds (B, n) int64 indices of examples"):
        here, there = (problem.loss(instance.start, instance, examples_) for examples_ in (batch, following))
    checks.require(
        examples == size or not torch.equal(here, there),
        "loss is the same on different mini-batches",
        "Use `batch`: the loss is that of the examples in it, and of all where it is None",
    )
    checks.passed.append("mini-batches")
    return batch


def _check_measurements(checks: Checks, problem: Problem, instance: Instance) -> None:
    flops = problem.gradient_flops(instance, problem.batch_size)
    checks.require(
        isinstance(flops, (int, float)) and 0 < flops < math.inf,
        f"gradient_flops is {flops!r}",
        "Return the floating-point operations of one loss and gradient of one run, a positive number",
    )
    large = problem.batch_size is not None and problem.num_examples(instance) > LARGEST_DATA_SET
    some = instance.select(torch.arange(2, device="cpu"))
    with checks.trying("evaluate", "See `Problem.evaluate`"):
        found = problem.evaluate(some.start, some)
    checks.require("loss" in found, f"evaluate measures {sorted(found)}", "Measure 'loss', on the whole training set")
    for name, value in found.items():
        remedy = "Return one number per run, a tensor (B,), under torch.no_grad()"
        checks.returned(f"evaluate()[{name!r}]", value, (2,), getattr(value, "dtype", torch.float64), remedy)
        checks.finite(f"evaluate()[{name!r}]", value, "Check it at the start")
    if not large:
        with torch.no_grad(), checks.trying("loss on the whole training set", "`batch` is None: use all examples"):
            whole = problem.loss(some.start, some)
        checks.require(
            torch.allclose(whole, found["loss"], rtol=1e-8),
            f"evaluate measures the loss {found['loss'].tolist()}, and loss(..., batch=None) is {whole.tolist()}",
            "Both are the loss on the whole training set",
        )
    checks.passed.append("evaluate, gradient_flops")


def _check_pickling(checks: Checks, problem: Problem, instance: Instance, batch: Batch) -> None:
    with checks.trying(
        "pickling",
        "Define the class and everything it holds at the top of a module, without lambdas: comparisons and trainers send "
        "problems to other processes",
    ):
        twin = pickle.loads(pickle.dumps(problem))
        assert instance.ids is not None
        drawn = twin.instances(instance.ids, "train")
        with torch.no_grad():
            same = identical(twin.loss(drawn.start, drawn, batch), problem.loss(instance.start, instance, batch))
    checks.require(same, "after pickling the loss is another", "Keep everything the loss depends on in the object")
    checks.passed.append("pickling")


def _check_play(checks: Checks, problem: Problem, count: int) -> None:
    """A few actions in an environment of every split, and of every symmetry on the train split."""
    cases: list[dict[str, Any]] = [{"split": split} for split in SPLITS]
    cases += [{"split": "train", "symmetry": name} for name in problem.symmetries]
    for arguments in cases:
        where = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        with checks.trying(f"defaults({arguments['split']!r})", "Return a Defaults"):
            defaults = problem.defaults(arguments["split"])
        given = type(defaults).__name__
        checks.require(isinstance(defaults, Defaults), f"defaults returned a {given}", "Return a Defaults")
        remedy = "Correct `defaults`, or `searches_for` for a symmetry that is not the default"
        with checks.trying(f"an environment with {where}", remedy):
            Settings.build(problem.name, problem=problem, **arguments)
            env = TeleportEnv(problem.name, problem=problem, **arguments)
            env.reset(seed=0)
            for action in range(int(env.action_space.n)):  # type: ignore[attr-defined]
                observation, reward, terminated, truncated, _ = env.step(action)
                checks.require(
                    env.observation_space.contains(observation) and math.isfinite(reward),
                    f"action {action} with {where} gave a reward of {reward} or an observation out of bounds",
                    "See `loss` at the point it went to",
                )
                if terminated or truncated:
                    env.reset()
    checks.passed.append("plays in every split and with every symmetry")
    settings = Settings.build(problem.name, problem=problem)
    vector = TeleportVectorEnv(problem.name, count, problem=problem, searches=[], autoreset_mode="Disabled")
    vector.reset(seed=0)
    for _ in range(10):
        *_, info = vector.step(np.zeros(count, dtype=np.int64))
    diverged = int(info["diverged"].sum())
    if diverged > count // 2:
        checks.note(
            f"{diverged} of {count} runs diverged within 10 steps of {settings.optimizer.name} at the default learning rate "
            f"{settings.learning_rate:g}: give a smaller one in `defaults`"
        )
    elif settings.searches:
        _check_menu(checks, problem, settings, count)


def _check_menu(checks: Checks, problem: Problem, settings: Settings, count: int) -> None:
    """Whether some rule gets along with some search of the default menu, at the default rate."""
    from teleport_env.agents.play import episodes
    from teleport_env.agents.rules import AcceptIfBetter, Alignment, MomentumTrigger, RelativeDecrease, Stall

    rules = (RelativeDecrease, Stall, Alignment, AcceptIfBetter, MomentumTrigger)
    for search in settings.searches:
        for rule in rules:
            env = TeleportVectorEnv(problem.name, count, problem=problem, searches=[search], autoreset_mode="Disabled")
            *_, last = episodes(env, rule(), seed=0)
            if int(last.info["diverged"].sum()) <= count // 2:
                return
    names = ", ".join(describe(search) for search in settings.searches)
    checks.note(
        f"with each search of the default menu ({names}) most runs of every rule diverge at the default learning rate "
        f"{settings.learning_rate:g}, and those of plain descent do not: teleports lead to steeper places. Give a smaller "
        "learning rate or other searches, such as balance_weights or virtual_step, in `defaults`"
    )
