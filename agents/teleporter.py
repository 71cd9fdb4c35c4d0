"""A schedule in a training loop of one's own: `Teleporter`.

The loop is anybody's, with any optimizer of ``torch.optim``. Before each update the teleporter looks at the loss and the
gradients that the loop has computed, asks the schedule, and moves weights, gradients and the optimizer's state in place.
`teleport_env.agents.own_loop` is where the numbers come from that the schedule sees.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from teleport_env.agents.in_place import UnitsInPlace, in_place
from teleport_env.agents.loop_inputs import (
    as_arrays,
    as_tensors,
    evaluated,
    first_examples,
    flat,
    flops_of,
    hooks_of,
    put,
    rate_of,
    require_one_optimizer,
    size_of,
    tensors_of,
)
from teleport_env.agents.naming import agent_named, check_teleports, least_budget
from teleport_env.agents.own_loop import Course
from teleport_env.agents.transport import Transport, require_known_tensors, reset, roles_of
from teleport_env.groups.base import Element
from teleport_env.modules import find_symmetries
from teleport_env.modules.finder import MAKERS, check_module
from teleport_env.progress import HUGE
from teleport_env.reading import entries, integer, known, number, refuse
from teleport_env.runs import RATE_RANGE
from teleport_env.searches import Search
from teleport_env.searches.base import Status
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coupled import Coupling

STATES = ("transport", "keep", "reset")
HORIZON = 1000
"""Gradient steps that a schedule sees ahead of it where their number is not given."""
_CANNOT = "the schedule cannot teleport"
MOST_TELEPORTS = 10
"""Teleports between two updates."""


class Teleporter:
    """Teleports the parameters of a model in a training loop, when a schedule says so.

    Call `observe` with the loss after ``backward`` and before ``optimizer.step()``. Teleports that are due happen within
    ``optimizer.step()``, before its update.

    Args:
        model: The model, or what `torch.compile` made of it.
        optimizer: Its optimizer, of `torch.optim` or derived from it. It holds all trainable parameters of the model and no
            others.
        schedule: Name of an agent with settings, such as ``"every:k=50"`` (`teleport_env.agents.naming`), an `Agent`, a
            `LearnedSchedule`, or any object with ``predict(observation, state, episode_start, deterministic)``, which sees
            the features ``(1, F)``. Of its ``environment``, ``searches``, ``rate_factors``, ``steps_per_action`` and
            ``symmetry`` hold. Optimizer and learning rate are the loop's.
        searches: Menu of teleports: names, dicts or `Search` objects; None: the schedule's own, else the environment's
            default, closed forms.
        symmetry: ``"scaling"``, ``"general_linear"`` or ``"permutation"``, one of those found in the model; or a linear
            `Symmetry` on the vector of trainable parameters. None: the schedule's own, else the first found.
        steps: Gradient steps of the whole training; a schedule sees how many are left and makes no teleport after them.
            None: not known, and the schedule always sees 1000 ahead. An environment with ``budget=steps + 1`` plays the
            same: it pays for a gradient at the point that its last step reaches, which a loop never computes.
        state: Treatment of the optimizer's state. ``"transport"``: that of a run which has always been at the new place
            (`teleport_env.agents.transport`); ``"keep"``; ``"reset"``; or the kinds of its tensors by name, for an
            optimizer of one's own.
        also: Copies of the weights that move along, such as averages: modules with parameters of the same names, an
            `AveragedModel`, or lists of tensors in the order of the trainable parameters.
        example: Inputs of the model that symmetries are found with, as `find_symmetries` takes them; None: those of the
            model's last call before the first step.
        max_norm: Largest gradient norm after a teleport, for loops that clip: clipping comes before the teleport.
        tolerance: Loss at which a run counts as converged, which one feature is measured against.
        gradient_flops: Floating-point operations of one gradient, the unit in which teleports are priced; None: those of the
            first step are counted, a batch (``example``, or the model's last call) for each loss that was observed.
        seed: Seed of searches that draw random elements: those of an environment after ``reset(seed=seed)``.

    Attributes:
        history: One row per teleport that was asked for, dicts: ``step`` (gradient steps before it), ``search``, ``status``
            (in words), ``moved``, ``loss``, and the gradient norm ``norm_before`` and ``norm_after`` it.
        report: Report of `find_symmetries`; None before the first step, or where a symmetry was given.

    Raises:
        ValueError: Something that cannot work, with what to do instead; also where the optimizer has a Teleporter already.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Any = "relative_decrease",
        *,
        searches: Sequence[Any] | None = None,
        symmetry: str | Symmetry | None = None,
        steps: int | None = None,
        state: str | Mapping[str, str] = "transport",
        also: Sequence[Any] = (),
        example: Any = None,
        max_norm: float | None = None,
        tolerance: float = 1e-12,
        gradient_flops: float | None = None,
        seed: int = 0,
    ) -> None:
        check_module(getattr(model, "_orig_mod", model))
        if not isinstance(optimizer, Optimizer):
            refuse("optimizer", "a torch.optim.Optimizer", optimizer)
        if any(isinstance(getattr(hook, "__self__", None), Teleporter) for hook in hooks_of(optimizer)):
            raise ValueError(
                "the optimizer has a Teleporter, and two would move the same weights: call its remove() first"
            )
        self.model = getattr(model, "_orig_mod", model)  # of a compiled one
        self.optimizer = optimizer
        self.schedule = agent_named(schedule) if isinstance(schedule, str) else schedule
        self._read_schedule(searches, symmetry)
        names = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        require_one_optimizer(self.model, optimizer, names)
        self._params = list(names.values())
        self._blind = bool(getattr(self.schedule, "blind", False))
        self._unseen: Tensor | None = None  # loss of a step that was only counted
        self._dtype = torch.float64 if any(p.dtype == torch.float64 for p in self._params) else torch.float32
        self._device = self._params[0].device
        self._state = known("state", state, STATES) if isinstance(state, str) else dict(state)
        self._roles = roles_of(optimizer, self._state)
        self._also = [tensors_of(entry, names) for entry in entries("also", also, "modules or lists of tensors")]
        self._endless = steps is None
        self._budget = (HORIZON if steps is None else integer("steps", steps, least=1)) + 1.0
        menu = None if self._searches is None else len(self._searches)
        check_teleports(_CANNOT, self.schedule, menu, math.inf if self._endless else self._budget)
        self._tolerance = number("tolerance", tolerance, least=0)
        self._max_norm = None if max_norm is None else number("max_norm", max_norm, above=0)
        self._flops = None if gradient_flops is None else number("gradient_flops", gradient_flops, above=0)
        self._seed = integer("seed", seed, least=0)
        self.history: list[dict[str, Any]] = []
        self.report: Any = None
        self._observed: Tensor | None = None
        self._again: Callable[[], Tensor] | None = None
        self._first: dict[int, bool] = {}  # of parameters by identity, whether the first gradient since found none
        self._evaluates = False  # whether the loop says how to evaluate a loss
        self._depth = 0  # of calls of step(): that of a subclass may call its base's, and both have hooks
        self._example, self._share = example, 1.0
        self._parts = 0  # losses that were observed since the last step
        self._course: Course | None = None
        self._units: UnitsInPlace | None = None
        self._memory: Any = None
        self._begins, self._rest, self._factor = True, 0, 1.0
        self._rates: list[Any] = []
        self._handles: list[Any] = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        self._handles += [p.register_hook(self._watch_gradient(p)) for p in self._params]
        self._watch: Any = None
        if example is None and self._needs_example:
            self._watch = model.register_forward_pre_hook(self._keep_inputs, with_kwargs=True)
            self._handles.append(self._watch)

    @property
    def _needs_example(self) -> bool:
        return not isinstance(self._symmetry, Symmetry) or self._flops is None

    def _read_schedule(self, searches: Sequence[Any] | None, symmetry: str | Symmetry | None) -> None:
        if not callable(getattr(self.schedule, "predict", None)):
            refuse(
                "schedule",
                "the name of an agent, an Agent, an object with predict, or as_agent(function)",
                self.schedule,
            )
        if getattr(self.schedule, "families", None):
            raise ValueError(
                "this policy is for several problems: register a ModuleProblem of the model, and pass "
                "schedule=policy.for_problem(name)"
            )
        wanted = getattr(self.schedule, "environment", None) or {}
        mode, seen = wanted.get("action_mode", "schedule"), wanted.get("observation", "features")
        if mode != "schedule" or seen != "features":
            raise ValueError(
                f"the schedule acts in action_mode={mode!r} on observation={seen!r}; a loop offers 'schedule' on 'features'"
            )
        self._factors = tuple(float(factor) for factor in wanted.get("rate_factors", (1.0,)))
        self._stride = int(wanted.get("steps_per_action", 1))
        self._searches = wanted.get("searches") if searches is None else searches
        self._symmetry = wanted.get("symmetry") if symmetry is None else symmetry
        if not isinstance(self._symmetry, Symmetry | None):
            self._symmetry = known("symmetry", self._symmetry, MAKERS)

    def _keep_inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._example is not None and not torch.is_grad_enabled():
            return  # no training
        self._example = args
        if kwargs:
            self._example = dict(inspect.signature(self.model.forward).bind(*args, **kwargs).arguments)

    # -- the loop's side -----------------------------------------------------------------------------------------------

    def observe(self, loss: Tensor, again: Callable[[], Tensor] | None = None) -> None:
        """Note the loss of the coming update, after ``backward``.

        The loss must depend on the outputs of the model alone: a penalty on weights changes with a teleport, unnoticed.
        With accumulated gradients call it for each part, with the loss that ``backward`` was called on: parts add up, and
        so do gradients. With a `GradScaler` pass the loss that was not scaled.

        Args:
            loss: The loss, a tensor of one number.
            again: Function that computes the loss anew at the model's parameters, on the same examples and without drawing
                random numbers. Searches that evaluate the loss call it, such as ``"virtual_step"``.

        Raises:
            ValueError: The loss is not one number.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            refuse("loss", "a tensor of one number", loss)
        value = loss.detach().reshape(1).to(self._device, self._dtype)
        # an update that is skipped calls no step(), and the gradients that follow begin at zero
        skipped = bool(self._first) and all(self._first.values())
        before = None if skipped else self._observed
        self._observed, self._parts = (value, 1) if before is None else (before + value, self._parts + 1)
        self._first.clear()
        self._give_back()  # what an update that failed has kept
        self._again, self._evaluates = again, again is not None
        self._depth = 0  # which an update that failed has left open

    def _watch_gradient(self, param: Tensor) -> Callable[[Tensor], None]:
        """A hook that runs before a gradient is added to what `param.grad` has, and looks where a loss was observed."""

        def look(_: Tensor) -> None:
            if self._observed is not None and id(param) not in self._first:
                self._first[id(param)] = param.grad is None or not bool(param.grad.any())

        return look

    def remove(self) -> None:
        """Let go of model and optimizer: no more teleports."""
        for handle in self._handles:
            handle.remove()

    @property
    def symmetry(self) -> Symmetry | None:
        """The action that moves the parameters; None before the first step."""
        return None if self._course is None else self._course.symmetry

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite or far above its start. No more teleports are made then."""
        return self._course is not None and bool(self._course.runs.progress.diverged)

    @property
    def features(self) -> np.ndarray:
        """What the schedule saw last, ``(1, F)`` float32, by the names in `teleport_env.envs.features.NAMES`.

        For a schedule that reads none (`Agent.blind`), losses and gradients are those of its last teleport, and what
        they say of single steps is not up to date.

        Raises:
            ValueError: There was no step.
        """
        if self._course is None:
            raise ValueError("there are no features before the first optimizer.step()")
        return self._course.features

    # -- within optimizer.step() ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is not None:
            raise ValueError("optimizer.step(closure) evaluates the loss itself: call backward before step() instead")
        if getattr(optimizer, "grad_scale", None) is not None:
            raise ValueError(
                "the gradients are still scaled: call scaler.unscale_(optimizer) before scaler.step(optimizer)"
            )
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf) > 0:
            self._observed = None  # the scaler skips this update
            return
        if self._observed is None:
            raise ValueError("no loss was observed: call teleporter.observe(loss) before every optimizer.step()")
        if any(p.grad is not None and p.grad.is_sparse for p in self._params):
            raise ValueError("a gradient is sparse, which no action moves: use dense gradients (sparse=False)")
        if not all(p.requires_grad for p in self._params):
            raise ValueError(
                "a parameter was frozen since the Teleporter was made, and a teleport would move it: call remove() and "
                "make a new one, which leaves the symmetries of frozen parameters out"
            )
        loss, self._observed = self._observed, None
        rate, self._unseen = rate_of(self.optimizer), None
        if self._course is None:
            self._begin(*self._point(loss), rate)
        elif self._blind and self._course.glance(loss):
            self._unseen = loss
        else:
            (self._course.look_again if self._blind else self._course.look)(*self._point(loss))
            self._course.show_rate(rate * self._factor)
        if self._rest:
            self._rest -= 1
        else:
            self._decide(rate)
        if self._factor != 1.0:
            self._rates = [group["lr"] for group in optimizer.param_groups]
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * self._factor

    def _point(self, loss: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters, loss and gradient."""
        gradients = [p.grad for p in self._params]
        return flat(self._params, self._dtype, self._params), loss, flat(self._params, self._dtype, gradients)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Give the rates back to the loop and its scheduler."""
        self._depth -= 1
        if self._depth > 0:
            return
        self._give_back()

    def _give_back(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=False):
            group["lr"] = rate
        self._rates = []

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _begin(self, params: Tensor, loss: Tensor, gradient: Tensor, rate: float) -> None:
        if self._needs_example and self._example is None:
            raise ValueError("the model was not called since the Teleporter was made: pass example=inputs")
        symmetry = self._symmetry if isinstance(self._symmetry, Symmetry) else self._find()
        self._build(
            symmetry,
            self._flops or self._parts * flops_of(self.model, self._example, self._share, self._params),
            params,
            loss,
            gradient,
            rate,
        )
        self._example = None
        if self._watch is not None:
            self._watch.remove()

    def _find(self) -> Symmetry:
        """The symmetry that was asked for, found in the model."""
        whole, few = self._example, first_examples(self._example)
        try:
            self.report = find_symmetries(self.model, few)
            self._share, self._example = size_of(few) / size_of(whole), few
        except ValueError:  # the first axis does not count examples
            self.report = find_symmetries(self.model, whole)
        found = self.report.symmetries
        if not found:
            raise ValueError(f"the model has no symmetry to teleport by:\n{self.report}")
        return found[next(iter(found)) if self._symmetry is None else known("symmetry", self._symmetry, found)]

    def _build(self, symmetry: Symmetry, flops: float, *here: Any) -> None:
        """``here``: parameters, loss, gradient, rate."""
        self._roles = roles_of(self.optimizer, self._state, exact=symmetry.weightwise)
        params, loss, gradient, rate = here
        settings = self._searches, flops, self._budget, self._endless, self._tolerance, len(self._factors), self._seed
        self._units = in_place(symmetry, self._params)
        self._course = Course(
            symmetry, *settings, params, loss, gradient, rate, self._evaluate if self._evaluates else None
        )
        check_teleports(_CANNOT, self.schedule, len(self._course.names), math.inf)
        cheapest = self._course.cheapest
        least = cheapest if self._endless else least_budget(self.schedule, cheapest)
        if math.isfinite(cheapest) and least > self._budget:
            warnings.warn(
                f"no teleport will come: the cheapest costs {cheapest:.4g} gradient evaluations, the first needs a budget "
                f"of {least:.4g}, and it is {self._budget:.4g}; give more steps, or another search",
                stacklevel=2,
            )

    def _evaluate(self, point: Tensor, differentiates: bool) -> tuple[Tensor, Tensor]:
        """`evaluated` by the function that was handed to `observe`."""
        if self._again is None:
            raise ValueError("a search evaluates the loss: pass again= to every observe()")
        return evaluated(self._again, self.model, self._params, self._dtype, point, differentiates)

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _decide(self, rate: float) -> None:
        """Ask the schedule until it steps; ``rate``: the loop's."""
        course = self._course
        assert course is not None
        steps, menu = len(self._factors), course.runs.searches
        for _ in range(MOST_TELEPORTS):
            if course.over:
                return
            action, self._memory = self.schedule.predict(
                course.left if self._blind else course.features,
                state=self._memory,
                episode_start=np.array([self._begins]),
                deterministic=True,
            )
            self._begins = False
            chosen = int(np.asarray(action).reshape(-1)[0])
            if not 0 <= chosen < steps + len(menu):
                raise ValueError(
                    f"the schedule chose action {chosen}; there are {steps} steps and {len(menu)} teleports: pass the menu "
                    "that it was made for as searches="
                )
            if chosen < steps:
                if self._factors[chosen] != 1.0:
                    self._multiply_rate(self._factors[chosen], rate)
                self._rest = self._stride - 1
                return
            self._teleport(course, chosen - steps, rate)

    def _catch_up(self, course: Course, rate: float) -> bool:
        """Look at a step that was only counted; whether the run goes on."""
        if self._unseen is None:
            return True
        course.look_again(*self._point(self._unseen))
        course.show_rate(rate * self._factor)
        self._unseen = None
        return not course.over

    def _multiply_rate(self, factor: float, rate: float) -> None:
        self._factor = min(max(self._factor * factor, 1.0 / RATE_RANGE), RATE_RANGE)
        assert self._course is not None
        self._course.show_rate(rate * self._factor)

    def _teleport(self, course: Course, which: int, rate: float) -> None:
        if self._roles is not None:
            require_known_tensors(self.optimizer, self._roles, self._params)
        search = course.runs.searches[which]
        row = self._teleport_in_place(course, which, search)
        if row is None:
            if not self._catch_up(course, rate):
                return
            before = course.grad_norm
            found = course.teleport(which)
            if found is not None:
                put(self._params, course.runs.params[0], self._params)
                put([p.grad for p in self._params], course.runs.gradient[0], self._params)
                self._carry_along(search, found.element, None)
                self._multiply_rate(float(found.rate_factor), rate)
            progress = course.runs.progress
            row = float(progress.loss), before, course.grad_norm, Status(int(progress.status))
        names = ("loss", "norm_before", "norm_after")
        status = row[3]
        entry = {"step": course.steps, "search": course.names[which], "status": status.words}
        self.history.append({**entry, "moved": status is Status.MOVED, **dict(zip(names, row, strict=False))})

    def _teleport_in_place(
        self, course: Course, which: int, search: Search
    ) -> tuple[float, float, float, Status] | None:
        """Teleport without a vector of all weights.

        Returns:
            Loss, gradient norm before and after, and what became of it; None, and nothing done, where that fails.
        """
        units = self._units
        if units is None or not units.serves(search) or not course.affords(which):
            return None
        squares = units.find(search)
        if squares is None or not squares.gradient < HUGE[self._dtype]:
            return None
        loss = float(course.loss if self._unseen is None else self._unseen)
        status = units.judge(search, loss, squares)
        after = squares.moved_gradient if status is Status.MOVED else squares.gradient
        course.book(which, loss, squares.gradient, after, status)
        if status is Status.MOVED:
            units.move([p.data for p in self._params], "vector")
            units.move([p.grad for p in self._params], "covector")
            if self._unseen is None:
                params, _, gradient = self._point(course.loss)
                course.adopt(params, gradient)
            self._carry_along(search, None, units)
        return loss, squares.gradient**0.5, after**0.5, status

    def _carry_along(self, search: Search, element: Element | None, units: UnitsInPlace | None) -> None:
        """Move copies and the optimizer's state after weights and gradients."""
        course = self._course
        assert course is not None
        resets = self._state == "reset" or search.resets_optimizer
        roles = None if resets else self._roles
        if (element is not None or units is not None) and (self._also or roles):
            transport = Transport(course.symmetry, element, self._params, self._dtype, units)
            for copies in self._also:
                transport.move(copies, "vector")
            if roles:
                transport.move_state(self.optimizer, roles)
        if resets:
            reset(self.optimizer, self._params)
        if self._max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._params, self._max_norm)

    # -- resuming ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next decision depends on, beside the states of model and optimizer: tensors, numbers, names.

        `torch.save` writes it, and `torch.load` reads it with ``weights_only=True``.
        """
        saved: dict[str, Any] = {"history": [dict(row) for row in self.history], "factor": self._factor}
        saved |= {"evaluates": self._evaluates}
        saved |= {"rest": self._rest, "begins": self._begins, "memory": as_tensors(self._memory), "course": None}
        if self._course is not None:
            symmetry = self._course.symmetry
            couplings = [
                {"name": one.name, "lower": one.lower, "upper": one.upper} for one in getattr(symmetry, "couplings", ())
            ]
            saved["course"] = {"symmetry": symmetry.name, "couplings": couplings, **self._course.state_dict()}
        return saved

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called, with model and optimizer as they were then.

        Symmetries are taken from there and not searched for.

        Raises:
            ValueError: The model has another number of parameters.
        """
        kept, self._evaluates = saved["course"], saved["evaluates"]
        if kept is not None:
            count = sum(p.numel() for p in self._params)
            if kept["params"].shape[1] != count:
                raise ValueError(f"the state is that of {kept['params'].shape[1]} parameters, the model has {count}")
            symmetry = self._symmetry
            if not isinstance(symmetry, Symmetry):
                couplings = [Coupling(one["lower"].cpu(), one["upper"].cpu(), one["name"]) for one in kept["couplings"]]
                symmetry = MAKERS[kept["symmetry"]](couplings)
            params, gradient = (kept[name].to(self._device, self._dtype) for name in ("params", "gradient"))
            self._build(symmetry, kept["flops"], params, params.new_ones(1), gradient, rate_of(self.optimizer))
            assert self._course is not None
            self._course.load_state_dict(kept)
        self.history = [dict(row) for row in saved["history"]]
        self._factor, self._rest, self._begins = saved["factor"], saved["rest"], saved["begins"]
        self._memory, self._observed = as_arrays(saved["memory"]), None
