"""Checks of searches: what they answer, what they charge, and that runs do not meet each other."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from teleport_env.checks.cases import batch_at, ids_of, problem_of, rows_of, streams_of, symmetry_of
from teleport_env.checks.report import SAFE_REMEDY, Checks, Report, identical, worst
from teleport_env.envs.settings import Settings
from teleport_env.groups.base import map_element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.random import Streams
from teleport_env.searches import OBJECTIVES, Search, Status, search_from, to_dict
from teleport_env.searches.base import Found, Start
from teleport_env.symmetries.base import Symmetry


class _Counting:
    """A twin of a problem that counts the rows evaluated: what a search should have charged."""

    def __init__(self, problem: Problem) -> None:
        self.forward = self.gradient = 0
        self._own = problem
        self.problem = copy.copy(problem)
        vars(self.problem).update(loss=self._loss, loss_and_gradient=self._loss_and_gradient)

    def _loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if params.requires_grad and torch.is_grad_enabled():
            self.gradient += len(params)  # the forward half of a gradient
        else:
            self.forward += len(params)
        return self._own.loss(params, instance, batch)

    def _loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        self.gradient += len(params)
        return self._own.loss_and_gradient(params, instance, batch)


class _Batches:
    """The mini-batches that runs meet; remembers whether a search looked beyond the current one."""

    def __init__(self, problem: Problem, instance: Instance) -> None:
        self.problem, self.instance = problem, instance
        self.looked_ahead = False

    def __call__(self, offset: int) -> Tensor:
        self.looked_ahead |= offset > 0
        drawn = batch_at(self.problem, self.instance, offset)
        assert drawn is not None
        return drawn


class _Trial:
    """One call of a search on some rows, with what it really evaluated."""

    def __init__(self, search: Search, problem: Problem, origin: Start) -> None:
        self.counting = _Counting(problem)
        self.evaluator = Evaluator(self.counting.problem, origin.instance, origin.batch)
        self.source = None if problem.batch_size is None else _Batches(problem, origin.instance)
        self.start = replace(
            origin, evaluator=self.evaluator, streams=Streams(origin.streams.keys.clone()), batches=self.source
        )
        self.before = [tensor.clone() for tensor in self._own()]
        self.found = search.find(self.start)

    def _own(self) -> list[Tensor]:
        return [self.start.params, self.start.loss, self.start.gradient, self.start.learning_rate]

    def overwritten(self) -> bool:
        return not all(identical(a, b) for a, b in zip(self._own(), self.before, strict=True))

    def booked(self, name: str) -> Tensor:
        """What was charged, ``(R,)``."""
        amount = getattr(self.evaluator.counts, name)
        return torch.as_tensor(amount, dtype=torch.float64, device="cpu").expand(len(self.start))


_FOUND = ("params", "loss", "gradient", "moved", "status", "loss_change", "rate_factor")


def check_search(
    search: str | Mapping[str, Any] | Search,
    problem: str | Problem,
    symmetry: str | Symmetry | None = None,
    count: int = 5,
) -> Report:
    """Check a search on the starts of a problem's instances.

    It keeps the loss, never worsens its objective, reports loss and gradient as they are, charges what it evaluates and
    never more than its price, treats rows alone as among others, survives a broken row, and (where it is a kind that
    `search_from` knows) the way to JSON and back.

    Args:
        search: The search, its name, or a dict.
        problem: The problem, or its registered name.
        symmetry: The symmetry, or its name; None: the problem's default.
        count: Number of runs, at least 2.

    Raises:
        CheckFailed: Something does not hold.
        ValueError: The search cannot serve that symmetry, or an unknown name.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2 to compare rows, got {count}")
    problem = problem_of(problem)
    if symmetry is None:
        symmetry = problem.defaults("train").symmetry or next(iter(problem.symmetries))
    symmetry = symmetry_of(symmetry, problem)
    search = search_from(search)
    checks = Checks(f"search {type(search).__name__} on {problem.name} with symmetry {symmetry.name!r}")
    search.check(problem, symmetry)
    _check_json(checks, search)

    instance = problem.instances(ids_of(problem, "train", count), "train")
    batch = batch_at(problem, instance)
    loss, gradient = problem.loss_and_gradient(instance.start, instance, batch)
    rate = Settings.build(problem.name, problem=problem).learning_rate
    origin = Start(
        params=instance.start.clone(),
        loss=loss,
        gradient=gradient,
        learning_rate=torch.full_like(loss, rate),
        symmetry=symmetry,
        evaluator=Evaluator(problem, instance, batch),
        streams=streams_of(count, "check_search"),
    )
    with checks.trying("find", "See `Search.propose`"):
        trial = _Trial(search, problem, origin)
    _check_found(checks, search, problem, trial)
    _check_account(checks, search, problem, trial)
    _check_search_rows(checks, search, problem, origin, trial)
    if not bool(trial.found.moved.any()):
        statuses = sorted({Status(int(status)).name for status in trial.found.status})
        checks.note(f"no run moved from its start (status {', '.join(statuses)}), so that little could be checked")
    return checks.report()


def _check_json(checks: Checks, search: Search) -> None:
    try:
        written = json.dumps(to_dict(search))
    except (ValueError, TypeError) as error:
        checks.note(f"it cannot be written as JSON ({error}), so that an EnvSpec that holds it cannot be saved")
        return
    read = search_from(json.loads(written))
    checks.require(
        read == search,
        f"after a way to JSON and back it is {read!r} instead of {search!r}",
        "Turn lists back into tuples in __post_init__, and let equal settings make equal searches (a frozen dataclass)",
    )
    checks.passed.append("JSON and back")


def _check_found(checks: Checks, search: Search, problem: Problem, trial: _Trial) -> None:
    """The answer of a search is true, and within its promises."""
    start, found = trial.start, trial.found
    checks.require(not trial.overwritten(), "find writes into its start", "Compute out of place")
    moved, stays = found.moved, {"params": start.params, "loss": start.loss, "gradient": start.gradient}
    for name, like in {**stays, "rate_factor": start.learning_rate}.items():
        checks.returned(f"found.{name}", getattr(found, name), like.shape, like.dtype)
    agree = torch.equal(moved, found.status == int(Status.MOVED))
    checks.require(agree, "found.moved and found.status disagree", "Leave `find` alone")
    for name, like in stays.items():
        checks.require(
            identical(getattr(found, name)[~moved], like[~moved]),
            f"found.{name} of a run that did not move is not its start's",
            "Leave `find` alone, or give such rows their start's values",
        )
    reached = _instance_after(checks, start, found)
    loss, gradient = problem.loss_and_gradient(found.params, reached, start.batch)
    off, row = worst(found.loss, loss)
    checks.require(
        (off <= 1e-6).all(),
        f"found.loss is {float(found.loss[row]):.8g} in row {row}, and the loss at found.params {float(loss[row]):.8g}",
        "Propose the loss at the candidate's params: evaluate it, or carry it over where the action keeps it",
    )
    size = gradient.abs().amax(dim=1).clamp_min(1e-300)
    off = ((found.gradient - gradient).abs().amax(dim=1) / size).nan_to_num(math.inf)
    row = int(off.argmax())
    checks.require(
        (off <= 1e-5).all(),
        f"found.gradient is off the gradient at found.params by {float(off[row]):.2g} (relative) in row {row}",
        "Propose the gradient at the candidate's params: evaluate it, or use symmetry.gradient_after",
    )
    checks.passed.append("loss and gradient are those of the new point")
    if trial.source is not None and trial.source.looked_ahead and start.symmetry.data_dependent:
        checks.passed.append("accepts batch by batch: objective and loss hold on each batch's own data")
        return
    if start.symmetry.keeps_loss:
        tolerance = 1e-6 if search.loss_tolerance is None else search.loss_tolerance
        change, row = worst(loss, start.loss)
        checks.require(
            (change <= 1.01 * tolerance + 1e-12).all(),
            f"the loss of row {row} changed by {float(change[row]):.2g} (relative), more than {tolerance:g}",
            "Move along the orbit only, by symmetry.act; `find` rejects the rest if the candidate's loss is the true one",
        )
        checks.passed.append("keeps the loss")
    _check_objective(checks, search, problem, start, found, reached)


def _instance_after(checks: Checks, start: Start, found: Found) -> Instance:
    """The instances as they are after the move: where the symmetry moves data, the runs that moved have other data."""
    rows = found.moved.nonzero().squeeze(1)
    if not start.symmetry.moves_data or identical(found.params, start.params):
        return start.instance
    if found.element is None:
        checks.fail(
            f"symmetry {start.symmetry.name!r} moves data, and found.element is None", "Propose the element of the move"
        )
    after, some = start.instance.clone(), start.instance.select(rows)
    element = map_element(lambda part: part[rows], found.element)
    after["inputs"][rows] = start.symmetry.move_data(element, some["inputs"], some)
    return after


def _check_objective(
    checks: Checks, search: Search, problem: Problem, start: Start, found: Found, reached: Instance
) -> None:
    objective = OBJECTIVES.get(search.objective)
    if objective is None:
        if search.objective not in OBJECTIVES:
            checks.note(f"the objective {search.objective!r} is not one of {sorted(OBJECTIVES)}: it was not checked")
        return
    here = replace(start, evaluator=Evaluator(problem, start.instance, start.batch))
    # a search that chooses the rate too is judged by the step at its own rate
    rate = start.learning_rate * found.rate_factor
    there = replace(start, evaluator=Evaluator(problem, reached, start.batch), learning_rate=rate)
    before = objective.score(here, start.params, start.gradient)
    after = objective.score(there, found.params, found.gradient)
    worse = found.moved & ~(after >= before - 1e-9 * before.abs())
    row = int(worse.int().argmax())
    checks.require(
        ~worse.any(),
        f"it moved row {row} to a worse point: {search.objective} scores {float(after[row]):.8g} there and "
        f"{float(before[row]):.8g} at the start",
        "Propose score and start_score of the same objective (larger is better), both at their own points; `find` then "
        "rejects what is worse",
    )
    checks.passed.append(f"never worsens its objective {search.objective!r}")


def _check_account(checks: Checks, search: Search, problem: Problem, trial: _Trial) -> None:
    """Everything evaluated was charged, and no more than the price."""
    for name, real in (("forward", trial.counting.forward), ("gradient", trial.counting.gradient)):
        charged = float(trial.booked(name).sum())
        checks.require(
            real <= charged + 1e-6,
            f"it made {real} {name} evaluations of {len(trial.start)} runs, and charged {charged:g}",
            "Evaluate through start.evaluator, which counts, or charge it for what was evaluated elsewhere (`charge`)",
        )
    flops = problem.gradient_flops(trial.start.instance, problem.batch_size)
    with checks.trying("price", "Return Counts of floats: the most that one run can pay"):
        price = search.price(problem, trial.start.symmetry)
        most = float(price.cost(flops))
    checks.require(math.isfinite(most) and most >= 0, f"price is {most}", "Return a finite price")
    for field in fields(Counts):
        charged, limit = float(trial.booked(field.name).max()), float(getattr(price, field.name))
        checks.require(
            charged <= limit * (1 + 1e-9) + 1e-9,
            f"a run was charged {charged:g} ({field.name}), and price says at most {limit:g}",
            "Let `price` say the most that `propose` can charge a run: an episode is not begun that cannot be paid",
        )
    checks.passed += ["charges what it evaluates", f"charges no more than its price of {most:.3g} gradients"]


def _check_search_rows(checks: Checks, search: Search, problem: Problem, origin: Start, trial: _Trial) -> None:
    count = len(origin)
    remedy = "Row i of the answer may depend on row i of the start, and on row i of start.streams, alone"
    for row in (0, count - 1):
        only = torch.tensor([row], device="cpu")
        alone = _Trial(search, problem, _rows(origin, only))
        for name in _FOUND:
            together = getattr(trial.found, name)[row]
            checks.same_row(f"found.{name}", getattr(alone.found, name)[0], together, row, count, remedy)
        for field in fields(Counts):
            one, among = float(alone.booked(field.name)[0]), float(trial.booked(field.name)[row])
            checks.require(
                abs(one - among) < 1e-9,
                f"row {row} is charged {one:g} ({field.name}) alone and {among:g} among {count}",
                "Charge (R,) amounts where runs differ in what is evaluated for them",
            )
    checks.passed.append("rows are independent")
    broken = replace(origin, params=origin.params.clone(), loss=origin.loss.clone(), gradient=origin.gradient.clone())
    for tensor in (broken.params, broken.loss, broken.gradient):
        tensor[0] = torch.nan
    with checks.trying("find with one run of NaN", SAFE_REMEDY):
        spoiled = _Trial(search, problem, broken).found
    if search.objective != "any" or bool(torch.isfinite(spoiled.params[0]).all()):
        checks.require(~spoiled.moved[0], "it moved a run of NaN", "Leave `find` alone")
    for name in _FOUND:
        same = identical(getattr(spoiled, name)[1:], getattr(trial.found, name)[1:])
        checks.require(same, f"found.{name}: a run of NaN changes other rows", remedy)
    checks.passed.append("a broken run harms no other")


def _rows(start: Start, rows: Tensor) -> Start:
    params, instance, batch = rows_of(rows, start.params, start.instance, start.batch)
    return replace(
        start,
        params=params,
        loss=start.loss[rows],
        gradient=start.gradient[rows],
        learning_rate=start.learning_rate[rows],
        evaluator=Evaluator(start.evaluator.problem, instance, batch),
        streams=start.streams.select(rows),
    )
