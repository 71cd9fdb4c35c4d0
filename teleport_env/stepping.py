"""``B`` optimization runs side by side that take gradient steps, each its own problem instance.

A run stands at some parameters and knows the loss and the gradient there on its current data; both are computed once per
change and kept. A step is one update of the optimizer, then loss and gradient at the new point, on the next mini-batch where
the problem has mini-batches. `teleport_env.runs` adds the teleports.

Runs step under a mask, so that some step while others teleport and others wait. Everything evaluated is booked in the
ledger. No run's numbers depend on its neighbours or on ``B``, bit for bit in float64 and with one thread of torch. No
autograd graph outlives a call.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from teleport_env.bookkeeping import Bookkeeper
from teleport_env.instances import Instance
from teleport_env.ledger import FORWARD, GRADIENT, Ledger
from teleport_env.optimizers import GradientDescent, Optimizer, State, Step, optimizer_from, row_dot
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.problems.data import MiniBatches
from teleport_env.progress import AT, COLUMNS, Blocks, Memory, Progress, columns_put, instances_put, runs_put
from teleport_env.reading import integer, number

RATE_RANGE = 1024.0
"""The learning rate stays within this factor of its base, above and below."""

# Runs step together and those that wait are put back, because to pick rows costs more; but for runs of more parameters than
# this of which more than one in so many waits: to pick some of those costs a quarter of a step.
_FEW, _APART = 64, 4

_SMALL = 256  # parameters and data of a run together


@dataclass
class Snapshot:
    """The whole state of some runs at one moment; made by ``snapshot()``, handed to ``restore()``."""

    content: dict[str, Any] = field(repr=False)


class SteppingRuns:
    """``B`` runs of one problem.

    Args:
        problem: The problem.
        count: ``B``.
        split: The split its instances come from.
        optimizer: Name, dict or `Optimizer`: what a step does.
        learning_rate: Base learning rate of runs that are given none of their own at their reset.
        dtype: Precision of everything but the ledger.
        device: Device of all computation.

    Attributes:
        instance: The ``B`` instances.
        params: ``(B, P)``.
        gradient: ``(B, P)``, on the current data.
        progress: The runs' own numbers.
        ledger: Account of the compute that the runs spent.
        books: Keeper of ``progress``, with NumPy views of it on the CPU.
        changes: Count of changes of numbers by something else than a gradient step.

    Raises:
        ValueError: An unknown name, or a number that is not allowed.
    """

    def __init__(
        self,
        problem: Problem,
        count: int,
        *,
        split: str = "train",
        optimizer: str | dict[str, Any] | Optimizer = "gd",
        learning_rate: float,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.problem = problem
        self.count = count = integer("count", count, least=1)
        self.split = split
        self.optimizer = optimizer_from(optimizer)
        self.base_rate = number("learning_rate", learning_rate, above=0)
        self.dtype = dtype
        self.device = torch.device(device)
        self.everyone = torch.ones(count, dtype=torch.bool, device=self.device)
        self.keys = torch.zeros(count, dtype=torch.int64, device=self.device)
        self._blocks = Blocks.empty(count, dtype, self.device)
        self._columns: Tensor | None = None  # parameters and gradients, where there are few: see `Bookkeeper`
        self._wire()
        self.changes = 0
        # the rest needs an instance and is made by the first reset
        self.instance: Instance
        self.params: Tensor
        self.gradient: Tensor
        self.optimizer_state: State = {}
        self.ledger: Ledger
        self.batch: Tensor | None = None
        self._batches: MiniBatches | None = None
        self._ready = False

    @property
    def small(self) -> bool:
        """Whether the runs had their first reset, and are of so few numbers that to begin one costs as much as a step."""
        if not self._ready or self._columns is not None:
            return self._ready
        return self.params.shape[1] + sum(one[0].numel() for one in self.instance.tensors.values()) <= _SMALL

    # -- memory --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """Everything that is a view of the runs' memory."""
        self.progress = Progress.of(self._blocks)
        self.optimizer_count = self._blocks.integers[AT["updates"]]
        self.books = Bookkeeper(self._blocks, self._columns)
        if self._columns is not None:
            self.params, self.gradient = self._columns[0].t(), self._columns[1].t()

    def __getstate__(self) -> dict[str, Any]:
        # a copied view would be memory of its own
        views = {"progress", "optimizer_count", "books"} | (set() if self._columns is None else {"params", "gradient"})
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._wire()

    def memory(self) -> Memory:
        """All that a step changes."""
        view = self.books.xp.view
        columns = [view(tensor) for tensor in (*self._blocks, self.ledger.accounts)]
        rows = [self.optimizer_state[name] for name in sorted(self.optimizer_state)]
        if self.batch is not None:
            rows.append(self.batch)
        if self._columns is None:
            rows += [self.params, self.gradient]
        else:
            columns += [self.books.params, self.books.gradient]
        return Memory(self.books.xp, columns, rows)

    def quiet(self) -> AbstractContextManager[Any]:
        """Overflows and NaNs of a run that diverges are its features, and no reason for NumPy to warn."""
        return self.books.xp.quiet()

    # -- beginning -----------------------------------------------------------------------------------------------------

    def reset(
        self,
        keys: Tensor,
        ids: Tensor,
        mask: Tensor | None = None,
        params: Tensor | None = None,
        learning_rate: Tensor | float | None = None,
    ) -> None:
        """Start new runs.

        Args:
            keys: ``(R,)`` int64: the key of each new run's random numbers.
            ids: ``(R,)`` int64: its instance.
            mask: ``(B,)`` bool, which runs start anew (``R`` of them); None: all.
            params: ``(R, P)``: where they start; None: where the instances say.
            learning_rate: Their base, ``(R,)`` or one for all; None: that of the constructor.

        Raises:
            RuntimeError: The first reset has a mask.
            ValueError: ``params`` has another shape, or an id lies outside the split.

        Whatever raises, a problem's own code included, does so before a run has changed.
        """
        if not self._ready:
            if mask is not None and not bool(mask.all()):
                raise RuntimeError("the first reset must start every run: call reset without a mask first")
            mask = None
        fresh = self.problem.instances(ids, self.split, self.dtype, self.device)
        start = fresh.start if params is None else params.to(self.dtype).to(self.device)
        if start.shape != fresh.start.shape:
            raise ValueError(f"params must have shape {tuple(fresh.start.shape)}, got {tuple(start.shape)}")
        if not self._ready:
            self._open(fresh)
        batch = None
        if self._batches is not None:
            batch = self._batches.indices(fresh["order_key"], torch.zeros_like(ids, device=self.device))
        evaluator = Evaluator(self.problem, fresh, batch)
        # A row's result does not depend on the layout, but a row of a matrix of columns is slow to read.
        start = start if start.shape[1] > COLUMNS else start.t().contiguous().t()
        loss, gradient = evaluator.loss_and_gradient(start)
        norm2, state = row_dot(gradient, gradient), self.optimizer.init(start)
        rows = None if mask is None else mask.nonzero().squeeze(1)
        at = slice(None) if rows is None else rows
        self.changes += 1  # first, so that an interrupt amid the writes is seen
        # some runs' numbers are written apart and then put in place together: an indexed write costs as much as ten others
        numbers = self._blocks if rows is None else Blocks.empty(len(rows), self.dtype, self.device)
        # runs that have done nothing have no other numbers than those that follow
        if rows is None and self.books.integers.any():
            for memory in numbers:
                memory.zero_()
        p = Progress.of(numbers)
        base = self.base_rate if learning_rate is None else torch.as_tensor(learning_rate).to(self.device)
        p.learning_rate[:] = base
        p.base_rate[:] = base
        p.loss[:] = loss
        p.initial_loss[:] = loss
        p.grad_norm2[:] = norm2
        p.initial_grad_norm2[:] = norm2
        p.diverged[:] = ~((loss <= self.books.huge) & (norm2 < self.books.huge))  # so is NaN
        with self.quiet():
            self.books.derive(self.books.xp.view(numbers.floats))
        if rows is None:
            self.instance = fresh.clone()
            self._prepare(start)
            self.gradient.copy_(gradient)
        else:
            self._put(rows, numbers, fresh, start, gradient)
        self.keys[at] = keys.to(self.device)
        for name, empty in state.items():
            self.optimizer_state[name][at] = empty
        self.ledger.accounts[:, at] = self.ledger.amounts(evaluator.counts)
        if rows is None or self.batch is None:
            self.batch = batch
        elif batch is not None:
            self.batch[rows] = batch
        self.books.some_diverged = bool(self.progress.diverged.any())

    def _put(self, rows: Tensor, numbers: Blocks, instance: Instance, params: Tensor, gradient: Tensor) -> None:
        """Let ``rows`` ``(R,)`` have these numbers, instances, parameters and gradients ``(R, P)``."""
        xp = self.books.xp
        at, of = xp.view(rows), xp.view(torch.arange(len(rows), device=self.device))
        puts = [columns_put(xp.view(mine), xp.view(new)) for mine, new in zip(self._blocks, numbers, strict=True)]
        puts += [
            runs_put(xp.view(mine), xp.view(new)) for mine, new in ((self.params, params), (self.gradient, gradient))
        ]
        for put in (*puts, *instances_put(xp, self.instance, instance)):
            put(at, of)

    def _changed(self) -> None:
        """The numbers of the runs were changed by something else than a gradient step."""
        self.changes += 1
        with self.quiet():
            self.books.refresh()

    def _prepare(self, params: Tensor) -> None:
        """Everything whose size depends on the instance, with the runs at ``params``."""
        if params.shape[1] > COLUMNS:
            self.params = params.clone(memory_format=torch.contiguous_format)
            self.gradient = torch.zeros_like(self.params)
        else:
            if self._columns is None:
                self._columns = params.new_zeros(5, params.shape[1], self.count)
                self._wire()
            self.params.copy_(params)
        self.optimizer_state = {name: t.clone() for name, t in self.optimizer.init(self.params).items()}
        self._ready = True

    def _open(self, instance: Instance) -> None:
        """The account and the order of mini-batches, from the first instances."""
        size = self.problem.batch_size
        self.ledger = Ledger(self.count, self._unit(self.problem.gradient_flops(instance, size)), self.device)
        if size is not None:
            self._batches = MiniBatches(self.problem.num_examples(instance), size)

    def _unit(self, gradient_flops: float) -> float:
        """The floating-point operations of a teleport's work that cost as much as one gradient."""
        return gradient_flops

    # -- stepping ------------------------------------------------------------------------------------------------------

    def step(self, mask: Tensor | None = None, factor: Tensor | None = None, allowance: Tensor | None = None) -> None:
        """One update of the optimizer.

        Args:
            mask: ``(B,)`` bool, which runs step; None: all.
            factor: ``(B,)``: multiplies the runs' learning rates first and for good; None: 1.
            allowance: ``(B,)``: gradient evaluations that a step may cost, at least 1; a line search stops where the
                next trial would leave less than the gradient that follows it. None: no limit.
        """
        waiting, kept = None, None
        descends = type(self.optimizer) is GradientDescent
        if mask is not None and not bool(mask.all()):
            waiting = ~mask
            if self.params.shape[1] > _FEW and _APART * int(waiting.sum()) > self.count:
                self._step_apart(mask.nonzero().squeeze(1), factor, allowance)
                return
            if not descends or self.books.kernels is None:  # for a few numbers per run, picking rows costs more
                rows = waiting.nonzero().squeeze(1)
                kept = self.memory().read(rows)
        # kernels never warn
        with self.quiet() if self.books.kernels is None else nullcontext():
            if factor is not None:
                if waiting is not None and kept is None:
                    factor = factor.masked_fill(waiting, 1.0)
                self.books.scale_rates(factor, RATE_RANGE)
                self.changes += 1
            if descends:
                self._descend(waiting if kept is None else None)
            else:
                self._step(mask if waiting is not None else None, allowance)
        if kept is not None:
            self.memory().write(rows, kept)
            self.changes += 1

    def _descend(self, waiting: Tensor | None) -> None:
        """A step of gradient descent of all runs but those that wait."""
        self.params = self.books.descend(self.params, self.gradient, waiting)
        if self._batches is not None:
            batch = self._batches.indices(self.instance["order_key"], self.progress.steps + 1)
            if waiting is not None and self.batch is not None:
                batch = torch.where(waiting[:, None], self.batch, batch)
            self.batch = batch
        loss, gradient = self.problem.loss_and_gradient(self.params, self.instance, self.batch)
        self.gradient = self.books.book_descent(loss, self.gradient, gradient, self.ledger.gradients, waiting)

    def _step(self, mask: Tensor | None, allowance: Tensor | None) -> None:
        """A step of all runs; those outside ``mask`` are put back by the caller, so that no loss is evaluated for them."""
        p = self.progress
        evaluator = Evaluator(self.problem, self.instance, self.batch)

        def trial(params: Tensor, where: Tensor) -> Tensor:
            if allowance is not None:
                where = where & (FORWARD * (evaluator.counts.forward + 1.0) + GRADIENT <= allowance)
            return evaluator.loss(params, where)

        at = self.params, p.loss, self.gradient, p.learning_rate, self.optimizer_count
        moved, state = self.optimizer.update(Step(*at, self.optimizer_state, mask, trial))
        if self._batches is not None:
            evaluator.batch = self._batches.indices(self.instance["order_key"], p.steps + 1)
        loss, gradient = evaluator.loss_and_gradient(moved)
        self.ledger.charge(None, evaluator.counts)
        self.optimizer_state, self.batch = state, evaluator.batch
        self.gradient = self.books.book(loss, self.params, moved, self.gradient, gradient, self.ledger.gradients)
        if self._columns is None:
            self.params = moved
        else:
            self.params.copy_(moved)

    def _step_apart(self, rows: Tensor, factor: Tensor | None, allowance: Tensor | None) -> None:
        """A step of some runs, evaluated apart from the others."""
        if not len(rows):
            return
        part = self._part(rows)
        part.step(None, *(None if value is None else value[rows] for value in (factor, allowance)))
        self.memory().write(rows, part.memory())
        self.books.sane = self.books.sane and part.books.sane
        self.books.some_diverged = self.books.some_diverged or part.books.some_diverged
        self.changes += 1

    def _part(self, rows: Tensor) -> Self:
        """Copies of some runs with many parameters, as runs of their own."""
        part = copy.copy(self)
        part.count = len(rows)
        part.instance = self.instance.select(rows)
        part.params, part.gradient = self.params[rows], self.gradient[rows]
        part.batch = None if self.batch is None else self.batch[rows]
        part.optimizer_state = {name: t[rows] for name, t in self.optimizer_state.items()}
        part._blocks = self._blocks.select(rows)
        part._wire()
        part.ledger = self.ledger.select(rows)
        return part

    # -- looking -------------------------------------------------------------------------------------------------------

    def evaluate(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Measurements on the whole training and validation set that no budget pays for; see `Problem.evaluate`."""
        if rows is None:
            return self.problem.evaluate(self.params, self.instance)
        return self.problem.evaluate(self.params[rows], self.instance.select(rows))

    # -- the whole state -----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A copy of the whole state: parameters, data, optimizer, numbers, random streams and ledger."""
        return Snapshot(
            {
                "instance": self.instance.clone(),
                "params": self.params.clone(),
                "gradient": self.gradient.clone(),
                "keys": self.keys.clone(),
                "batch": None if self.batch is None else self.batch.clone(),
                "optimizer_state": {name: t.clone() for name, t in self.optimizer_state.items()},
                "blocks": Blocks(*map(Tensor.clone, self._blocks)),
                "ledger": self.ledger.accounts.clone(),
            }
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of these runs, or of others built with the same settings and count."""
        saved = snapshot.content
        if len(saved["keys"]) != self.count:
            raise ValueError(f"the snapshot holds {len(saved['keys'])} runs, these are {self.count}")
        # copies, because a snapshot may be gone back to more than once; a shared data set is not copied
        self.instance = saved["instance"].clone()
        if not self._ready:
            self._open(self.instance)
        self._prepare(saved["params"].clone())
        self.gradient.copy_(saved["gradient"])
        self.keys = saved["keys"].clone()
        self.batch = None if saved["batch"] is None else saved["batch"].clone()
        self.optimizer_state = {name: tensor.clone() for name, tensor in saved["optimizer_state"].items()}
        self._blocks.put(slice(None), saved["blocks"])
        self.ledger.accounts.copy_(saved["ledger"])
        self._changed()
