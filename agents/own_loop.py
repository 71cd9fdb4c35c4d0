"""The environment's engine under a training loop of somebody's own: `Course`.

The loop is an optimizer of `teleport_env.runs.Runs` that was stepped elsewhere, and a problem of known loss and gradient
at one point. So losses, features and prices come from the same code as the environment's. A search may use what follows
from the gradient at hand. One that evaluates the loss elsewhere needs a loop that says how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.envs.boundary import first_episode
from teleport_env.envs.features import INDEX, Allowance, FeatureWriter
from teleport_env.envs.menu import Menu
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.optimizers import Optimizer, State, Step
from teleport_env.problems.base import Problem
from teleport_env.problems.network_problem import CLOSED_FORM_MENU
from teleport_env.progress import AT, Blocks
from teleport_env.random import Streams
from teleport_env.runs import Asked, Runs
from teleport_env.searches.base import Found, Start, Status
from teleport_env.searches.moves import verify_price
from teleport_env.searches.settings import describe
from teleport_env.stepping import Snapshot
from teleport_env.symmetries.base import Symmetry

Elsewhere = Callable[[Tensor, bool], tuple[Tensor, Tensor]]
"""Loss, and where it is asked for the gradient ``(P,)``, at parameters ``(P,)``."""

_REFUSED = INDEX["refused"]
_SLACK = 1e-9  # sums of prices are not exact


class Loop(Problem):
    """The loss of somebody's loop, known at the loop's parameters alone.

    Attributes:
        here: Loss ``(1,)`` and gradient ``(1, P)`` that the loop has computed last.
        params: Parameters, ``(1, P)``.
        elsewhere: Function that evaluates the loss at other parameters ``(P,)``; None: nothing does.
    """

    name = "own loop"

    def __init__(self, symmetry: Symmetry, flops: float) -> None:
        self._symmetries, self._flops = {symmetry.name: symmetry}, flops
        self.here: tuple[Tensor, Tensor]
        self.params: Tensor
        self.elsewhere: Elsewhere | None = None

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return self._symmetries

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(self.params.to("cpu", torch.float64))

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if self.elsewhere is None:  # a point on the orbit: `Course` accepts no search that asks for another
            return self.here[0].expand(len(params))
        return torch.stack([self.elsewhere(row, False)[0] for row in params]).to(params.dtype)

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        if params is self.params or self.elsewhere is None:
            return self.here
        found = [self.elsewhere(row, True) for row in params]
        losses, gradients = (torch.stack(parts).to(params.dtype) for parts in zip(*found, strict=True))
        return losses, gradients

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return self._flops


class _SteppedElsewhere(Optimizer):
    name = "own loop"

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def update(self, step: Step) -> tuple[Tensor, State]:
        return self._loop.params, {}


class LoopRuns(Runs):
    """Runs that keep what the last search has found."""

    found: Found

    def _wire(self) -> None:
        super()._wire()
        self.books.dot = torch.linalg.vecdot  # one run has no neighbours that it must not depend on

    def _teleport(self, rows: Tensor, parts: Sequence[Asked]) -> None:
        (part,) = parts

        def find(start: Start) -> Found:
            self.found = part.find(start)
            return self.found

        super()._teleport(rows, [replace(part, find=find)])


class Course:
    """One run, stepped by somebody's loop.

    Args:
        symmetry: Symmetry that moves the parameters.
        searches: The menu; None: the environment's default for the symmetry.
        flops: Floating-point operations of one gradient.
        budget: Gradient evaluations that the schedule sees.
        endless: Whether the schedule always sees the whole budget ahead.
        tolerance: The loss at which a run has converged.
        step_actions: Number of kinds of gradient steps.
        seed: Seed of random elements, which are those of an environment's first episode after ``reset(seed=seed)``.
        params: ``(1, P)``, where the loop is.
        loss: ``(1,)`` there.
        gradient: ``(1, P)`` there.
        rate: Learning rate of the coming update.
        elsewhere: Function that evaluates the loss elsewhere; None: no search may ask for it.

    Attributes:
        names: The searches of the menu, in words.

    Raises:
        ValueError: The symmetry is not linear, or a search evaluates what it cannot.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        searches: Sequence[Any] | None,
        flops: float,
        budget: float,
        endless: bool,
        tolerance: float,
        step_actions: int,
        seed: int,
        params: Tensor,
        loss: Tensor,
        gradient: Tensor,
        rate: float,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        if not symmetry.carries:
            raise ValueError(
                f"the symmetry {symmetry.name!r} is not linear: its teleports need a gradient of their own"
            )
        self._loop = Loop(symmetry, flops)
        self._loop.params, self._loop.here = params, (loss, gradient)
        if searches is None:
            searches = CLOSED_FORM_MENU if symmetry.acts_on_pairs else ("random",)
        self.symmetry, self.flops = symmetry, flops
        self.runs = runs = LoopRuns(
            self._loop,
            1,
            symmetry=symmetry.name,
            searches=searches,
            optimizer=_SteppedElsewhere(self._loop),
            learning_rate=max(rate, torch.finfo(params.dtype).tiny),
            dtype=params.dtype,
            device=params.device,
        )
        for search in runs.searches:
            self._check_price(describe(search), search.price(self._loop, symmetry), elsewhere is not None)
        runs.reset(first_episode(seed), torch.zeros(1, dtype=torch.int64), params=params)
        self._loop.elsewhere = elsewhere
        counted = [search.price(self._loop, symmetry) for search in runs.searches]
        self._prices = [float(counts.cost(runs.ledger.gradient_flops)) for counts in counted]
        self.names = [describe(search) for search in runs.searches]
        self._accounts = runs.books.xp.view(runs.ledger.accounts)
        self._amounts = [runs.books.xp.view(runs.ledger.amounts(counts)) for counts in counted]
        self._booked: tuple[float, float, float, bool] | None = None
        self._menu = Menu(self._prices, 1, None, params.device, step_actions)
        self._budget = budget
        self._spent = torch.ones_like(runs.ledger.cost) if endless else runs.ledger.cost
        self._spent_view = runs.books.xp.view(self._spent)
        self._seen: tuple[int, Tensor] | None = None
        self._writer = FeatureWriter(runs.books, Allowance(self._spent, budget, tolerance, self._menu.cheapest))

    def _check_price(self, search: str, price: Counts, evaluates: bool) -> None:
        if price.hessian_vector:
            raise ValueError(
                f"the search {search} needs Hessian-vector products, which a loop does not offer: use another"
            )
        # the loss of a point that was carried over is not evaluated again
        carried = float(verify_price(self.symmetry, False).forward)
        if not evaluates and (price.gradient or float(price.forward) > carried):
            raise ValueError(
                f"the search {search} evaluates the loss: pass observe(loss, again=lambda: criterion(model(x), y)), "
                "or use a closed form, such as searches=['balance_weights']"
            )

    @property
    def cheapest(self) -> float:
        """Price of the cheapest teleport; infinite where there is none."""
        return min(self._prices, default=math.inf)

    @property
    def features(self) -> np.ndarray:
        """What the schedule sees now, ``(1, F)`` float32."""
        self.settle()
        return self._features().t().cpu().numpy()

    @property
    def steps(self) -> int:
        """Gradient steps taken."""
        return int(self.runs.progress.steps)

    @property
    def over(self) -> bool:
        """Whether the environment would have ended the episode: no gradient is left, or the run has diverged."""
        return bool(self.runs.books.diverged[0]) or self._left < 1.0

    @property
    def _left(self) -> float:
        return self._budget - float(self._spent_view[0]) + _SLACK

    @property
    def loss(self) -> Tensor:
        """The loss ``(1,)`` that was looked at last."""
        return self._loop.here[0]

    @property
    def grad_norm(self) -> float:
        self.settle()
        return float(self.runs.progress.grad_norm2) ** 0.5

    @property
    def left(self) -> np.ndarray:
        """The features that it saw last, with what is left of the budget now."""
        if self._seen is None or self._seen[0] != self.runs.changes:
            self.settle()
            self._seen = self.runs.changes, self._features()
        elif self._spent is self.runs.ledger.cost:
            self._writer.write_left(self._seen[1])
        return self._seen[1].t().cpu().numpy()

    def _features(self) -> Tensor:
        return self.runs.books.xp.tensor(self._writer.write(self.runs.changes))

    def look(self, params: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """The loop has made a step, to ``params`` ``(1, P)``."""
        self.settle()
        self._loop.params, self._loop.here = params, (loss, gradient)
        self.runs.step()

    def glance(self, loss: Tensor) -> bool:
        """The loop has made a step of which only the loss is read; whether this is sane."""
        self._count(1)
        return float(loss) <= float(self.runs.books.row["limit"][0])

    def look_again(self, params: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """Look at the step that `glance` has counted."""
        self._count(-1)
        self.look(params, loss, gradient)

    def _count(self, by: int) -> None:
        counts = self.runs.books.integers
        counts[AT["steps"]] += by
        counts[AT["since_teleport"]] += by
        self.runs.ledger.gradients[...] += by

    def show_rate(self, rate: float) -> None:
        """The learning rate of the coming update is ``rate``."""
        self.settle()
        if float(self.runs.progress.learning_rate) != rate:
            self.runs.progress.learning_rate.fill_(rate)
            with self.runs.quiet():
                self.runs.books.refresh()
            self.runs.changes += 1

    def affords(self, which: int) -> bool:
        """Whether the rest of the budget pays for a teleport."""
        return self._prices[which] <= self._left

    def book(self, which: int, loss: float, before: float, after: float, status: Status) -> None:
        """Write down a teleport that the loop has made or refused itself.

        Args:
            which: The search.
            loss: The loss here.
            before: Squared gradient norm before.
            after: The same where the run is now.
            status: Outcome of the teleport.
        """
        moved = status is Status.MOVED
        self._accounts += self._amounts[which]
        self.runs._count_teleports(self.runs.books.integers, moved, int(status))
        self._booked = loss, before, after, moved or (self._booked is not None and self._booked[3])
        if self._seen is not None:  # what a blind schedule sees of it
            self._seen[1].numpy()[_REFUSED, 0] = status > Status.MOVED

    def settle(self) -> None:
        """Make the run's numbers agree with `book`: not at once, because blind schedules read none of them."""
        if self._booked is None:
            return
        (loss, before, after, moved), self._booked = self._booked, None
        books = self.runs.books
        books.row["loss"][...], books.row["grad_norm2"][...] = loss, before
        changes = torch.tensor([[loss], [after], [0.0], [1.0]], dtype=self.runs.dtype)
        with self.runs.quiet():
            self.runs._book_teleports(books.floats, books.xp.view(changes), books.xp.view(torch.tensor([moved])))
        self.runs.changes += 1

    def adopt(self, params: Tensor, gradient: Tensor) -> None:
        """The loop has moved to ``params`` ``(1, P)`` with their ``gradient``."""
        self._loop.params, self._loop.here = params, (self._loop.here[0], gradient)
        self.runs.params, self.runs.gradient = params, gradient
        self.runs.changes += 1

    def teleport(self, which: int) -> Found | None:
        """Search from where the loop is; None where the run stays."""
        self.settle()
        if not self.affords(which):
            self.runs.refuse(self.runs.everyone)
            return None
        self.runs.teleport(torch.full((1,), which, dtype=torch.int64, device=self.runs.device))
        return self.runs.found if bool(self.runs.found.moved) else None

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and names."""
        self.settle()
        content = self.runs.snapshot().content
        names = ("params", "gradient", "keys", "ledger")
        return {name: content[name] for name in names} | {"blocks": list(content["blocks"]), "flops": self.flops}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        device, self._booked = self.runs.device, None
        content = {name: saved[name].to(device) for name in ("params", "gradient", "keys", "ledger")}
        content |= {"blocks": Blocks(*(block.to(device) for block in saved["blocks"]))}
        self.runs.restore(
            Snapshot(
                {**content, "instance": self.runs.instance, "batch": None, "optimizer_state": {}, "data_element": None}
            )
        )
