"""The engine: ``B`` optimization runs side by side, each its own problem instance.

A run stands at some parameters and knows the loss and the gradient there on its current data; both are computed once per
change and kept. It can do two things:

* `Runs.step`: one update of the optimizer, then loss and gradient at the new point (on the next mini-batch where the
  problem has mini-batches);
* `Runs.teleport`: a search looks for a group element, and the run moves along its level set if the search finds one that
  keeps the loss and improves the search's objective. A teleport does not advance the step count. Where the action is
  linear the new gradient is carried over in closed form and nothing is evaluated.

Both work under a mask, so that some runs step while others teleport and others wait. Everything evaluated is booked in
`Runs.ledger`. No run's numbers depend on its neighbours or on ``B``, bit for bit in float64; no autograd graph outlives a
call. The environments, single and vectorised, are two faces of this class.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element
from teleport_env.instances import Instance
from teleport_env.ledger import FORWARD, GRADIENT, Ledger
from teleport_env.optimizers import GradientDescent, Optimizer, State, Step, optimizer_from, row_dot
from teleport_env.problems.base import Evaluator, Problem, writes_in_place
from teleport_env.problems.data import MiniBatches
from teleport_env.progress import AT, COLUMNS, Aside, Blocks, Bookkeeper, Columns, Progress
from teleport_env.random import Streams, fold_in
from teleport_env.searches import Search, search_from
from teleport_env.searches.base import BatchSource, Start, Status
from teleport_env.searches.given import GivenElement, coordinates
from teleport_env.symmetries.base import Symmetry

RATE_RANGE = 1024.0
"""The learning rate stays within this factor of its base, above and below."""

_FEW = 64  # runs with up to so many parameters step together, those that do not step being put back


@dataclass
class Snapshot:
    """The whole state of some runs at one moment; made by `Runs.snapshot`, handed to `Runs.restore`."""

    content: dict[str, Any] = field(repr=False)


class Runs:
    """``B`` runs of one problem.

    Args:
        problem: The problem.
        count: ``B``.
        split: The split its instances come from.
        optimizer: Name, dict or `Optimizer`: what a step does.
        learning_rate: Base learning rate.
        symmetry: Name of one of the problem's symmetries; None: no teleports.
        searches: The menu of teleports: names, dicts or `Search` objects.
        on_teleport: ``"keep"`` or ``"reset"``: what becomes of the optimizer's state after a teleport that moved.
        dtype: Precision of everything but the ledger.
        device: Where everything is computed.

    Attributes:
        instance: The ``B`` instances.
        params: ``(B, P)``.
        gradient: ``(B, P)``, on the current data.
        progress: The runs' own numbers.
        ledger: What they spent.
        books: What keeps ``progress`` up to date, with NumPy views of it on the CPU.
        plain: Whether a step is gradient descent, in place.
        changes: Goes up when numbers change by something else than a gradient step.
        data_element: For symmetries that move data: the composition of all moves so far (Algorithm 3), else None.

    Raises:
        ValueError: An unknown name, or a search that cannot serve the symmetry.
    """

    def __init__(
        self,
        problem: Problem,
        count: int,
        *,
        split: str = "train",
        optimizer: str | dict[str, Any] | Optimizer = "gd",
        learning_rate: float,
        symmetry: str | None = None,
        searches: Sequence[str | dict[str, Any] | Search] = (),
        on_teleport: str = "keep",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not learning_rate > 0 or learning_rate == float("inf"):
            raise ValueError(f"learning_rate must be a positive number, got {learning_rate}")
        if on_teleport not in ("keep", "reset"):
            raise ValueError(f"on_teleport must be 'keep' or 'reset', got {on_teleport!r}")
        self.problem = problem
        self.count = count
        self.split = split
        self.optimizer = optimizer_from(optimizer)
        self.base_rate = float(learning_rate)
        self.symmetry = self._find_symmetry(problem, symmetry)
        self.searches = tuple(search_from(search) for search in searches)
        if self.searches and self.symmetry is None:
            raise ValueError(f"{problem.name} has no symmetry to search over; give searches=()")
        for search in self.searches:
            search.check(problem, self._symmetry)
        self.on_teleport = on_teleport
        self.dtype = dtype
        self.device = torch.device(device)
        self.everyone = torch.ones(count, dtype=torch.bool, device=self.device)
        self.keys = torch.zeros(count, dtype=torch.int64, device=self.device)
        self._blocks = Blocks.empty(count, dtype, self.device)
        self._columns: Columns | None = None  # parameters and gradients, where there are few
        self._wire()
        self.changes = 0
        self.plain = False
        # the rest needs an instance and is made by the first reset
        self.instance: Instance
        self.params: Tensor
        self.gradient: Tensor
        self.optimizer_state: State = {}
        self.ledger: Ledger
        self.batch: Tensor | None = None
        self.data_element: Element | None = None
        self._batches: MiniBatches | None = None
        self._ready = False

    @staticmethod
    def _find_symmetry(problem: Problem, name: str | None) -> Symmetry | None:
        if name is None:
            return None
        if name not in problem.symmetries:
            known = ", ".join(map(repr, problem.symmetries)) or "none"
            raise ValueError(f"{problem.name} has no symmetry {name!r}; it has {known}")
        return problem.symmetries[name]

    @property
    def _symmetry(self) -> Symmetry:
        if self.symmetry is None:
            raise ValueError(f"these runs of {self.problem.name} were built without a symmetry: they cannot teleport")
        return self.symmetry

    # -- memory --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """Everything that is a view of the runs' memory."""
        self.progress = Progress.of(self._blocks)
        self.optimizer_count = self._blocks.integers[AT["updates"]]
        self.books = Bookkeeper(self._blocks, self._columns)
        if self._columns is not None:
            self.params, self.gradient = self._columns.params.t(), self._columns.gradient.t()

    def __getstate__(self) -> dict[str, Any]:
        # a copied view would be memory of its own
        views = {"progress", "optimizer_count", "books"} | ({"params", "gradient"} if self._columns else set())
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._wire()

    def quiet(self) -> AbstractContextManager[Any]:
        """Overflows and NaNs of a run that diverges are its features, and no reason for NumPy to warn."""
        return np.errstate(all="ignore") if self.device.type == "cpu" else nullcontext()

    # -- beginning -----------------------------------------------------------------------------------------------------

    def reset(self, keys: Tensor, ids: Tensor, mask: Tensor | None = None, params: Tensor | None = None) -> None:
        """Start new runs.

        Args:
            keys: ``(R,)`` int64: the key of each new run's random numbers.
            ids: ``(R,)`` int64: its instance.
            mask: ``(B,)`` bool, which runs start anew (``R`` of them); None: all.
            params: ``(R, P)``: where they start; None: where the instances say.
        """
        if not self._ready:
            if mask is not None and not bool(mask.all()):
                raise RuntimeError("the first reset must start every run: call reset without a mask first")
            mask = None
        fresh = self.problem.instances(ids, self.split, self.dtype, self.device)
        start = fresh.start if params is None else params.to(self.dtype).to(self.device)
        if start.shape != fresh.start.shape:
            raise ValueError(f"params must have shape {tuple(fresh.start.shape)}, got {tuple(start.shape)}")
        rows = slice(None) if mask is None else mask.nonzero().squeeze(1)
        if mask is None:
            self.instance = fresh.clone()
            self._prepare(start)
        else:
            self.instance.put(mask, fresh)
            self.params[rows] = start
        self.keys[rows] = keys.to(self.device)
        for name, empty in self.optimizer.init(start).items():
            self.optimizer_state[name][rows] = empty
        for memory in self._blocks.tensors():
            memory[..., rows] = 0
        p = self.progress
        p.learning_rate[rows] = self.base_rate
        p.base_rate[rows] = self.base_rate
        self.ledger.clear(self.everyone if mask is None else mask)
        if self.data_element is not None:
            neutral = self._symmetry.group.identity(len(fresh), self.dtype, self.device)
            self._assign(self.data_element, rows, neutral)
        self._draw_batches(rows)
        evaluator = Evaluator(self.problem, fresh, None if self.batch is None else self.batch[rows])
        # A row's result does not depend on the layout, but a row of a matrix of columns is slow to read.
        loss, gradient = evaluator.loss_and_gradient(start.t().contiguous().t() if self._columns else start)
        self.gradient[rows] = gradient
        self.ledger.charge(rows if isinstance(rows, Tensor) else None, evaluator.counts)
        norm2 = row_dot(gradient, gradient)
        p.loss[rows] = loss
        p.initial_loss[rows] = loss
        p.grad_norm2[rows] = norm2
        p.initial_grad_norm2[rows] = norm2
        p.diverged[rows] = ~(torch.isfinite(loss) & torch.isfinite(norm2))
        self._changed(rows if isinstance(rows, Tensor) else None)

    def of_count(self, count: int) -> Runs:
        """As many runs of the same kind, to be reset."""
        others = copy.copy(self)
        others.count = count
        others.everyone = torch.ones(count, dtype=torch.bool, device=self.device)
        others.keys = torch.zeros(count, dtype=torch.int64, device=self.device)
        others._blocks, others._columns = Blocks.empty(count, self.dtype, self.device), None
        others.batch = others.data_element = None
        others._ready = False
        others._wire()
        return others

    def adopt(self, rows: Tensor, others: Runs, theirs: Tensor) -> None:
        """Let ``rows`` ``(R,)`` go on as ``theirs`` ``(R,)`` of others of the same kind, which have no mini-batches.

        Raises:
            ValueError: The runs have mini-batches, or their data move.
        """
        if self._columns is None or others._columns is None or self.batch is not None or self.data_element is not None:
            raise ValueError("only runs with few parameters, without mini-batches and moving data can be adopted")
        view = self.books.xp.view
        at, of = view(rows), view(theirs)
        for mine, other in zip(self._blocks.tensors(), others._blocks.tensors(), strict=True):
            view(mine)[..., at] = view(other)[..., of]
        self.books.params[:, at] = others.books.params[:, of]
        self.books.gradient[:, at] = others.books.gradient[:, of]
        pairs = [(self.keys, others.keys), (self.instance.start, others.instance.start)]
        pairs += [(tensor, others.instance.tensors[name]) for name, tensor in self.instance.tensors.items()]
        pairs += [(tensor, others.optimizer_state[name]) for name, tensor in self.optimizer_state.items()]
        for tensor, other in pairs:
            view(tensor)[at] = view(other)[of]
        if self.instance.ids is not None and others.instance.ids is not None:
            self.instance.ids[rows] = others.instance.ids[theirs]
        self.ledger.adopt(rows, others.ledger, theirs)
        self.books.some_diverged = True  # perhaps
        self.changes += 1

    def _changed(self, rows: Tensor | None = None) -> None:
        """Numbers of ``rows`` ``(R,)`` (None: all) were changed by something else than a gradient step."""
        self.changes += 1
        with self.quiet():
            self.books.refresh(rows)

    def _prepare(self, params: Tensor) -> None:
        """Everything whose size depends on the instance, with the runs at ``params``."""
        if params.shape[1] > COLUMNS:
            self.params, self.gradient = params.clone(), torch.zeros_like(params)
        else:
            if self._columns is None:
                self._columns = Columns(self._blocks, params.shape[1])
                self._wire()
            self.params.copy_(params)
        self.optimizer_state = {name: t.clone() for name, t in self.optimizer.init(self.params).items()}
        if not self._ready:
            size = self.problem.batch_size
            flops = self.problem.gradient_flops(self.instance, size)
            # in operations of a teleport's work, which may take longer than the gradient's
            unit = flops if self.symmetry is None else flops / self.symmetry.work_price(flops)
            self.ledger = Ledger(self.count, unit, self.device)
            if size is not None:
                self._batches = MiniBatches(self.problem.num_examples(self.instance), size)
            self._ready = True
            self.plain = self._is_plain()
        if self.symmetry is not None and self.symmetry.moves_data:
            self.data_element = self.symmetry.group.identity(self.count, self.dtype, self.device)

    def _draw_batches(self, rows: Tensor | slice) -> None:
        """The mini-batch of each run's coming step."""
        if self._batches is None:
            return
        drawn = self._batches.indices(self.instance["order_key"][rows], self.progress.steps[rows])
        if self.batch is None or isinstance(rows, slice):
            self.batch = drawn
        else:
            self.batch[rows] = drawn

    # -- the two things a run can do -----------------------------------------------------------------------------------

    def step(self, mask: Tensor | None = None, factor: Tensor | None = None, allowance: Tensor | None = None) -> None:
        """One update of the optimizer.

        Args:
            mask: ``(B,)`` bool, which runs step; None: all.
            factor: ``(B,)``: multiplies the runs' learning rates first and for good; None: 1.
            allowance: ``(B,)``: gradient evaluations that a step may cost, at least 1; a line search stops where the
                next trial would leave less than the gradient that follows it. None: no limit.
        """
        if mask is not None and bool(mask.all()):
            mask = None
        if mask is not None and self.params.shape[1] > _FEW:
            # A big network is evaluated for the runs that step alone; for a few numbers a run, picking rows costs more.
            rows = mask.nonzero().squeeze(1)
            if len(rows):
                picked = [None if value is None else value[rows] for value in (factor, allowance)]
                self._step_rows(rows, *picked)
            return
        aside = None
        if mask is not None:
            beside = (self.ledger.gradients,) if self.plain else ()
            aside = Aside(self._blocks, self._columns, (~mask).nonzero().squeeze(1), beside)
        with self.quiet():
            if factor is not None:
                rate = self.progress.learning_rate
                rate.mul_(factor).clamp_(self.base_rate / RATE_RANGE, self.base_rate * RATE_RANGE)
                self.changes += 1
            if self.plain:
                self._step_columns()
            else:
                self._step_any(mask, allowance)
        if aside is not None:
            aside.put_back()
            self.changes += 1

    def _is_plain(self) -> bool:
        """Whether a step is gradient descent on a problem that writes its few gradients in place."""
        return (
            self._columns is not None
            and self._batches is None
            and type(self.optimizer) is GradientDescent
            and writes_in_place(self.problem)
        )

    def _step_columns(self) -> None:
        """A step of gradient descent, in place."""
        books, xp = self.books, self.books.xp
        xp.multiply(books.gradient, books.row["learning_rate"], out=books.update)
        xp.subtract(books.params, books.update, out=books.params)
        self.problem.write_loss_and_gradient(
            xp, books.params, self.instance, books.row["loss"], books.new_gradient, books.scratch
        )
        self.ledger.charge_gradient()
        books.book_descent()

    def _step_any(self, mask: Tensor | None, allowance: Tensor | None) -> None:
        """A step by any rule, for all runs; those outside ``mask`` are not charged and put back by the caller."""
        p = self.progress
        evaluator = Evaluator(self.problem, self.instance, self.batch)

        def trial(params: Tensor, where: Tensor) -> Tensor:
            if allowance is not None:
                where = where & (FORWARD * (evaluator.counts.forward + 1.0) + GRADIENT <= allowance)
            return evaluator.loss(params, where)

        moved, state = self.optimizer.update(
            Step(
                self.params,
                p.loss,
                self.gradient,
                p.learning_rate,
                self.optimizer_count,
                self.optimizer_state,
                mask,
                trial,
            )
        )
        if self._batches is not None:
            following = self._batches.indices(self.instance["order_key"], p.steps + 1)
            after = Evaluator(self.problem, self.instance, following)
        else:
            following, after = None, evaluator
        loss, gradient = after.loss_and_gradient(moved)
        if after is not evaluator:
            evaluator.charge(after.counts)
        self.ledger.charge(mask, evaluator.counts)
        if self._columns is not None:
            work = self._columns.work
            torch.sub(self._columns.params, moved.t(), out=work[3])
            work[1].copy_(gradient.t())
            p.loss.copy_(loss)
            self.params.copy_(moved)
            self.books.book_columns()
        else:
            if type(self.optimizer) is GradientDescent:
                self.books.book_descent_rows(self.gradient, gradient, loss)
            else:
                self.books.book_rows(self.params, moved, self.gradient, gradient, loss)
            if mask is not None:
                column = mask[:, None]
                moved = torch.where(column, moved, self.params)
                gradient = torch.where(column, gradient, self.gradient)
            self.params, self.gradient = moved, gradient
        if mask is not None:
            state = {
                name: torch.where(mask.reshape(-1, *([1] * (new.ndim - 1))), new, self.optimizer_state[name])
                for name, new in state.items()
            }
            if following is not None and self.batch is not None:
                following = torch.where(mask[:, None], following, self.batch)
        self.optimizer_state = state
        if following is not None:
            self.batch = following

    def _step_rows(self, rows: Tensor, factor: Tensor | None, allowance: Tensor | None) -> None:
        """A step of some runs, evaluated apart from the others."""
        part = self._select(rows)
        part.step(None, factor, allowance)
        self._put(rows, part)

    def teleport(self, which: Tensor) -> None:
        """Teleport by searches of the menu.

        Args:
            which: ``(B,)`` int64: index of the search, or -1 for the runs that do nothing.
        """
        for index, search in enumerate(self.searches):
            rows = (which == index).nonzero().squeeze(1)
            if len(rows):
                self._teleport(search, rows)

    def move(self, xi: Tensor, mask: Tensor | None = None) -> None:
        """Teleport by the group element ``exp(xi)``.

        The move is refused (see ``progress.status``) where it is not finite or does not keep the loss.

        Args:
            xi: ``(B, d)`` coordinates, see `teleport_env.searches.given.coordinates`.
            mask: ``(B,)`` bool, which runs move; None: all.
        """
        symmetry = self._symmetry
        if not symmetry.group.continuous:
            raise ValueError(f"the group {symmetry.group.name} is discrete: it has no coordinates xi to move by")
        rows = (self.everyone if mask is None else mask).nonzero().squeeze(1)
        if len(rows):
            self._teleport(GivenElement(xi=xi[rows].to(self.dtype)), rows)

    def price(self, search: Search) -> float:
        """The most that a teleport by ``search`` can cost, in gradient evaluations; call after the first reset."""
        return float(search.price(self.problem, self._symmetry).cost(self.ledger.gradient_flops))

    def price_of_move(self) -> float:
        """The same of a move by a given element."""
        return self.price(GivenElement(xi=torch.zeros(1, coordinates(self._symmetry), device=self.device)))

    def refuse(self, mask: Tensor) -> None:
        """Mark the runs in ``mask`` as having asked for a teleport that the budget cannot pay."""
        self.progress.status.masked_fill_(mask, int(Status.NOT_PAID))
        self.changes += 1

    def _teleport(self, search: Search, rows: Tensor) -> None:
        everyone = len(rows) == self.count
        # Picking every row of a tensor copies it; a whole batch that teleports together is spared that.
        index: Tensor | slice = slice(None) if everyone else rows
        instance = self.instance if everyone else self.instance.select(rows)
        evaluator = Evaluator(self.problem, instance, None if self.batch is None else self.batch[index])
        source = None
        if self._batches is not None:
            source = _ComingBatches(self._batches, instance["order_key"], self.progress.steps[index])
        # One copy of all their numbers, worked on and written back: an indexed write costs as much as the arithmetic of ten.
        blocks = self._blocks if everyone else self._blocks.select(rows)
        p = self.progress if everyone else Progress.of(blocks)
        start = Start(
            # few parameters lie column by column, in which the rounding of a sum may depend on the number of runs
            params=self.params[index].contiguous(),
            loss=p.loss,
            gradient=self.gradient[index].contiguous(),
            learning_rate=p.learning_rate,
            symmetry=self._symmetry,
            evaluator=evaluator,
            streams=Streams(fold_in(self.keys[index], p.attempts)),
            batches=source,
            scale=p.initial_loss,
            lowest_rate=p.base_rate / RATE_RANGE,
        )
        found = search.find(start)
        self.ledger.charge(None if everyone else rows, evaluator.counts)
        moved, norm2 = found.moved, row_dot(found.gradient, found.gradient)
        some_stay = not bool(moved.all())
        self.params[index] = found.params
        self.gradient[index] = found.gradient
        # the logarithm's argument is clamped so that a zero gradient on either side stays finite
        gain = torch.log10(norm2.clamp_min(1e-300) / p.grad_norm2.clamp_min(1e-300))
        p.teleport_gain.copy_(gain.masked_fill_(~moved, 0.0) if some_stay else gain)
        p.loss.copy_(found.loss)
        p.grad_norm2.copy_(norm2)
        low, high = self.base_rate / RATE_RANGE, self.base_rate * RATE_RANGE
        p.learning_rate.mul_(found.rate_factor).clamp_(low, high)
        p.attempts += 1
        p.teleports += moved
        p.status.copy_(found.status)
        p.loss_change.copy_(found.loss_change)
        for stale in (p.since_teleport, p.cosine, p.curvature, p.alignment):  # they speak of the place the run has left
            stale.masked_fill_(moved, 0)
        with self.quiet():
            self.books.derive(self.books.xp.view(blocks.floats))
        if not everyone:
            self._blocks.put(rows, blocks)
        self.changes += 1
        if self.data_element is not None and found.element is not None:
            self._move_data(found.element, rows, moved)
        if search.resets_optimizer or self.on_teleport == "reset":
            self._reset_optimizer(rows[moved])

    def _move_data(self, element: Element, rows: Tensor, moved: Tensor) -> None:
        """Algorithm 3: the data move with the weights, and the moves are composed for inference."""
        symmetry, chosen = self._symmetry, rows[moved]
        element = map_element(lambda part: part[moved], element)
        inputs = self.instance["inputs"]
        inputs[chosen] = symmetry.move_data(element, inputs[chosen], self.instance.select(chosen))
        assert self.data_element is not None
        before = map_element(lambda part: part[chosen], self.data_element)
        self._assign(self.data_element, chosen, symmetry.group.compose(element, before))

    @staticmethod
    def _assign(target: Element, rows: Tensor | slice, value: Element) -> None:
        def put(part: Tensor, new: Tensor) -> Tensor:
            part[rows] = new
            return part

        map_element(put, target, value)

    def _reset_optimizer(self, rows: Tensor) -> None:
        if len(rows):
            for name, fresh in self.optimizer.init(self.params[rows]).items():
                self.optimizer_state[name][rows] = fresh
            self.optimizer_count[rows] = 0

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
                "blocks": self._blocks.clone(),
                "ledger": self.ledger.snapshot(),
                "data_element": copy.deepcopy(self.data_element),
            }
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of these runs, or of others built with the same settings and count."""
        saved = snapshot.content
        if len(saved["keys"]) != self.count:
            raise ValueError(f"the snapshot holds {len(saved['keys'])} runs, these are {self.count}")
        # copies, because a snapshot may be gone back to more than once; a shared data set is not copied
        self.instance = saved["instance"].clone()
        self._prepare(saved["params"].clone())
        self.gradient.copy_(saved["gradient"])
        self.keys = saved["keys"].clone()
        self.batch = None if saved["batch"] is None else saved["batch"].clone()
        self.optimizer_state = {name: tensor.clone() for name, tensor in saved["optimizer_state"].items()}
        self._blocks.copy_from(saved["blocks"])
        self.ledger.restore(saved["ledger"])
        self.data_element = copy.deepcopy(saved["data_element"])
        self._changed()

    def _select(self, rows: Tensor) -> Runs:
        """Some of the runs as runs of their own, to be put back by `_put`."""
        part = copy.copy(self)
        part.count = len(rows)
        part.everyone = self.everyone[rows]
        part.keys = self.keys[rows]
        part.instance = self.instance.select(rows)
        part.params, part.gradient = self.params[rows], self.gradient[rows]
        part.batch = None if self.batch is None else self.batch[rows]
        part.optimizer_state = {name: t[rows] for name, t in self.optimizer_state.items()}
        part._blocks = self._blocks.select(rows)
        part._wire()
        part.ledger = Ledger(part.count, self.ledger.gradient_flops, self.device)
        return part

    def _put(self, rows: Tensor, part: Runs) -> None:
        """Write back what a step changed."""
        self.params[rows], self.gradient[rows] = part.params, part.gradient
        if self.batch is not None and part.batch is not None:
            self.batch[rows] = part.batch
        for name, tensor in part.optimizer_state.items():
            self.optimizer_state[name][rows] = tensor
        self._blocks.put(rows, part._blocks)
        self.books.sane = self.books.sane and part.books.sane
        self.books.some_diverged = self.books.some_diverged or part.books.some_diverged
        self.changes += 1
        self.ledger.charge(rows, part.ledger.counts)


class _ComingBatches(BatchSource):
    """The mini-batches that runs will meet, by their offset from the current one."""

    def __init__(self, batches: MiniBatches, keys: Tensor, steps: Tensor) -> None:
        self._batches, self._keys, self._steps = batches, keys, steps

    def __call__(self, offset: int) -> Tensor:
        return self._batches.indices(self._keys, self._steps + offset)
