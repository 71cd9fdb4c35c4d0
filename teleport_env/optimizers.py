"""Batched update rules: what one gradient step does to ``B`` runs at once.

A rule is handed where the runs stand (`Step`) and answers with new parameters and a new state. It owns nothing: the settings
of a rule are a frozen dataclass, what it remembers is a dictionary of tensors with leading axis ``B`` that the caller
keeps, clears row by row and copies for a snapshot. Hence three rules for every rule:

1. **Rows are independent**, bit for bit in float64: a run's numbers depend neither on its neighbours nor on ``B``. Learning
   rates and step counts are per run, because runs reset at different times and choose their own rates.
2. **A returned state is new**, and no tensor in it is shared with the old state, the parameters or the gradient: the
   caller writes into it.
3. **A run that fails harms no other.** Non-finite numbers stay in their row, a zero gradient is no step.

The first five rules equal `torch.optim`'s (without weight decay). The line searches pay for what they evaluate through
`Step.evaluate`, which counts it. `OPTIMIZERS` names all of them; `optimizer_from` builds one from a name or a dict.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from teleport_env.arrays import arrays_of, row_dots
from teleport_env.reading import arguments, choose, integer, known, number, read_fields, refuse, shown

State = dict[str, Tensor]
"""What a rule remembers, tensors with leading axis ``B``; empty for plain gradient descent."""


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """``<a_i, b_i>`` for the rows of two ``(..., P)`` tensors without graphs, ``(...)``: `row_dots`."""
    xp = arrays_of(a.device)
    with xp.quiet():
        return xp.tensor(row_dots(xp, xp.view(a), xp.view(b)))


@dataclass
class Step:
    """What an update rule works from.

    Attributes:
        params: ``(B, P)``.
        loss: ``(B,)`` at ``params`` on the current data.
        gradient: ``(B, P)`` of the same.
        learning_rate: ``(B,)``.
        count: ``(B,)`` int64: updates made since the optimizer's state was last cleared, 0 before the first.
        state: The rule's state; a rule returns a new one and leaves this alone.
        mask: ``(B,)`` bool or None: the runs that really step. Rules that evaluate losses do so for these alone.
        evaluate: ``(params, where) -> losses``: a counted forward pass on the current data for the runs in ``where``.
    """

    params: Tensor
    loss: Tensor
    gradient: Tensor
    learning_rate: Tensor
    count: Tensor
    state: State
    mask: Tensor | None
    evaluate: Callable[[Tensor, Tensor], Tensor]


class Optimizer(ABC):
    """An update rule for ``B`` runs at once."""

    name: ClassVar[str]
    bounds: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that must be finite, and between which bounds."""

    def __post_init__(self) -> None:
        """Read the settings of a dataclass by their annotations, and check those that have bounds."""
        read_fields(f"optimizer {self.name!r}", self)
        for setting, within in self.bounds.items():
            value = getattr(self, setting)
            read = integer if isinstance(value, int) else number
            read(f"{setting} of optimizer {self.name!r}", value, **within)

    def init(self, params: Tensor) -> State:
        """A fresh state for ``params`` ``(B, P)``."""
        return {}

    @abstractmethod
    def update(self, step: Step) -> tuple[Tensor, State]:
        """New parameters ``(B, P)`` and new state. Rows outside ``step.mask`` are ignored by the caller."""


_SHARE = {"least": 0, "below": 1}
_POSITIVE = {"above": 0}


def _descend(params: Tensor, rate: Tensor, direction: Tensor) -> Tensor:
    """``params - rate * direction`` for rates ``(B,)``, in one pass."""
    return torch.addcmul(params, rate[:, None], direction, value=-1)


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Optimizer):
    """``w - lr g``."""

    name: ClassVar[str] = "gd"

    def update(self, step: Step) -> tuple[Tensor, State]:
        return _descend(step.params, step.learning_rate, step.gradient), {}


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """Heavy ball as in `torch.optim.SGD`: ``v' = m v + g``, ``w - lr v'``; Polyak (1964).

    Attributes:
        momentum: ``m``.
        nesterov: Step along ``g + m v'`` instead (Sutskever et al., ICML 2013).
    """

    name: ClassVar[str] = "momentum"
    bounds: ClassVar = {"momentum": _SHARE}
    momentum: float = 0.9
    nesterov: bool = False

    def init(self, params: Tensor) -> State:
        return {"velocity": torch.zeros_like(params)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        velocity = torch.add(step.gradient, step.state["velocity"], alpha=self.momentum)
        direction = torch.add(step.gradient, velocity, alpha=self.momentum) if self.nesterov else velocity
        return _descend(step.params, step.learning_rate, direction), {"velocity": velocity}


@dataclass(frozen=True, kw_only=True)
class AdaGrad(Optimizer):
    """``s' = s + g^2``, ``w - lr g / (sqrt(s') + eps)``, as `torch.optim.Adagrad`; Duchi, Hazan and Singer (JMLR 2011)."""

    name: ClassVar[str] = "adagrad"
    bounds: ClassVar = {"eps": _POSITIVE}  # zero is no option: a zero gradient would be divided by it
    eps: float = 1e-10

    def init(self, params: Tensor) -> State:
        return {"square_sum": torch.zeros_like(params)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        square_sum = torch.addcmul(step.state["square_sum"], step.gradient, step.gradient)
        direction = step.gradient / square_sum.sqrt().add_(self.eps)
        return _descend(step.params, step.learning_rate, direction), {"square_sum": square_sum}


@dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
    """``s' = a s + (1 - a) g^2``, ``w - lr g / (sqrt(s') + eps)``, as `torch.optim.RMSprop`; Tieleman and Hinton (2012)."""

    name: ClassVar[str] = "rmsprop"
    bounds: ClassVar = {"alpha": _SHARE, "eps": _POSITIVE}
    alpha: float = 0.99
    eps: float = 1e-8

    def init(self, params: Tensor) -> State:
        return {"square_mean": torch.zeros_like(params)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        gradient = step.gradient
        square_mean = (step.state["square_mean"] * self.alpha).addcmul_(gradient, gradient, value=1.0 - self.alpha)
        direction = gradient / square_mean.sqrt().add_(self.eps)
        return _descend(step.params, step.learning_rate, direction), {"square_mean": square_mean}


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam as `torch.optim.Adam`: Kingma and Ba (ICLR 2015), Algorithm 1, each run with its own bias correction."""

    name: ClassVar[str] = "adam"
    bounds: ClassVar = {"beta1": _SHARE, "beta2": _SHARE, "eps": _POSITIVE}
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def init(self, params: Tensor) -> State:
        return {"mean": torch.zeros_like(params), "square_mean": torch.zeros_like(params)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        gradient = step.gradient
        mean = (step.state["mean"] * self.beta1).add_(gradient, alpha=1.0 - self.beta1)
        square_mean = (step.state["square_mean"] * self.beta2).addcmul_(gradient, gradient, value=1.0 - self.beta2)
        rate = step.learning_rate / self._correction(self.beta1, step)
        scale = self._correction(self.beta2, step).sqrt()
        denominator = square_mean.sqrt().div_(scale[:, None]).add_(self.eps)
        return _descend(step.params, rate, mean / denominator), {"mean": mean, "square_mean": square_mean}

    @staticmethod
    def _correction(beta: float, step: Step) -> Tensor:
        """``1 - beta^t`` ``(B,)`` for the update number ``t = count + 1``."""
        if beta == 0.0:
            return torch.ones_like(step.learning_rate)
        # Not beta ** t: a vectorised power differs from a scalar one in the last bit. In float64 at any precision of
        # the run, because 1 - 0.999 has lost three digits.
        exponent = (step.count + 1).to(torch.float64) * math.log(beta)
        return exponent.expm1_().neg_().to(step.params.dtype)


@dataclass(frozen=True, kw_only=True)
class Polyak(Optimizer):
    """Polyak's step ``w - min((L - L_min) / |g|^2, lr) g``; Polyak (1969), capped as in Loizou et al. (AISTATS 2021).

    The rule finds its own rate. The run's learning rate is the largest that it may take, which keeps it from leaping
    where the gradient nearly vanishes away from a minimum.

    Attributes:
        target_loss: ``L_min``, the loss at the minimum; a run at or below it takes no step.
        capped: Whether the learning rate caps the step; False is the classical rule, which ignores the learning rate.
    """

    name: ClassVar[str] = "polyak"
    bounds: ClassVar = {"target_loss": {}}
    target_loss: float = 0.0
    capped: bool = True

    def update(self, step: Step) -> tuple[Tensor, State]:
        norm2 = row_dot(step.gradient, step.gradient)
        rate = ((step.loss - self.target_loss).clamp_min_(0.0) / norm2).masked_fill_(norm2 == 0, 0.0)
        if self.capped:
            rate = torch.minimum(rate, step.learning_rate)
        return _descend(step.params, rate, step.gradient), {}


@dataclass(frozen=True, kw_only=True)
class NormalizedGradient(Optimizer):
    """``w - lr g / |g|``: every step is as long as the learning rate (Nesterov 1984; Cortes, Automatica 2006)."""

    name: ClassVar[str] = "normalized_gd"

    def update(self, step: Step) -> tuple[Tensor, State]:
        # divided by its largest entry first: the square of a small gradient underflows, that of a large one overflows
        largest = step.gradient.abs().amax(dim=1)
        unit = step.gradient / largest.masked_fill(largest == 0, 1.0)[:, None]
        length = row_dot(unit, unit).sqrt().clamp_min_(1.0)  # is at least 1, but for a zero gradient
        return _descend(step.params, step.learning_rate / length, unit), {}


@dataclass(frozen=True, kw_only=True)
class LayerRates(Optimizer):
    """A rule with a constant rate of its own for each block of the parameters, such as a layer of a network.

    The inner rule sees the gradient times the block's factor. It is linear in the gradient, so that its step is the step it
    would take, times that factor.

    Attributes:
        sizes: Parameters of each block, in the order of the flat vector; they add up to ``P``. Empty: a single block.
        factors: The rate of each block over the run's learning rate; as many as sizes, empty: 1.
        inner: ``"gd"`` or ``"momentum"``.
        momentum: Momentum of ``"momentum"``.
    """

    name: ClassVar[str] = "layer_rates"
    bounds: ClassVar = {"momentum": _SHARE}
    sizes: tuple[int, ...] = ()
    factors: tuple[float, ...] = ()
    inner: str = "gd"
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        for size in self.sizes:
            integer("a size of layer_rates", size, least=1)
        for factor in self.factors:
            number("a factor of layer_rates", factor, above=0)
        if len(self.factors) != len(self.sizes):
            refuse("factors of layer_rates", f"as many as sizes, {len(self.sizes)}", self.factors)
        choose("layer_rates", self, "inner", ("gd", "momentum"))

    @property
    def _rule(self) -> Optimizer:
        return Momentum(momentum=self.momentum) if self.inner == "momentum" else GradientDescent()

    def init(self, params: Tensor) -> State:
        total = sum(self.sizes)
        if total and total != params.shape[1]:
            refuse("sizes of layer_rates", f"sizes that add up to {params.shape[1]}", self.sizes)
        return self._rule.init(params)

    def update(self, step: Step) -> tuple[Tensor, State]:
        if self.sizes:
            parts = step.gradient.split(list(self.sizes), dim=1)
            gradient = torch.cat([part * factor for part, factor in zip(parts, self.factors, strict=True)], dim=1)
            step = replace(step, gradient=gradient)
        return self._rule.update(step)


# keeps the factor of a line search from reaching 0 or infinity, which it never left
_FACTOR_RANGE = (2.0**-100, 2.0**100)


@dataclass(frozen=True, kw_only=True)
class LineSearch(Optimizer):
    """Gradient descent that halves its rate until the loss decreases enough; Armijo (1966).

    The first trial is at the learning rate times ``growth`` times the factor accepted last (at the learning rate itself in
    the beginning); a trial at rate ``t`` is accepted where ``L(w - t d) <= L(w) - armijo t <g, d>`` for the direction
    ``d``, here ``g``. A run whose search fails takes no step, and its next search goes on from where this one stopped.

    Every trial is a forward pass, evaluated and paid for by the runs still searching. Runs outside the mask, with a zero
    gradient or with numbers that are not finite do not search and pay nothing.

    Attributes:
        armijo: Share of the decrease promised by the slope that a trial must keep.
        growth: Ratio of the first trial to the last accepted factor.
        max_halvings: Number of halvings after which the search has failed; it evaluates one trial more than this.
    """

    name: ClassVar[str] = "gd_line_search"
    bounds: ClassVar = {"armijo": {"above": 0, "below": 1}, "growth": {"least": 1}, "max_halvings": {"least": 0}}
    armijo: float = 1e-4
    growth: float = 2.0
    max_halvings: int = 20

    def init(self, params: Tensor) -> State:
        return {"factor": params.new_full((len(params),), 1.0 / self.growth)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        params, factor, _ = self._search(step, step.gradient, row_dot(step.gradient, step.gradient))
        return params, {"factor": factor}

    def _search(self, step: Step, direction: Tensor, decrease: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters, factor and which runs found a step along ``-direction``; ``decrease``: ``<g, direction>``."""
        searching = (decrease > 0) & torch.isfinite(decrease) & torch.isfinite(step.loss)
        if step.mask is not None:
            searching = searching & step.mask
        first = (step.state["factor"] * self.growth).clamp_(*_FACTOR_RANGE)
        factor = torch.where(searching, first, step.state["factor"])
        params, found = step.params.clone(), torch.zeros_like(searching)
        for _ in range(self.max_halvings + 1):
            if not bool(searching.any()):
                break
            rate = step.learning_rate * factor
            trial = _descend(step.params, rate, direction)
            # a trial that is not finite compares false, and is halved like any other
            good = searching & (step.evaluate(trial, searching) <= step.loss - self.armijo * rate * decrease)
            params[good] = trial[good]  # of large networks a choice among all rows is a quarter of a search
            found = found | good
            searching = searching & ~good
            factor = torch.where(searching, 0.5 * factor, factor)
        return params, factor, found


@dataclass(frozen=True, kw_only=True)
class MomentumLineSearch(LineSearch):
    """The line search along the momentum direction ``v' = m v + g``, where that is a descent direction.

    Where it is not, momentum restarts from the gradient (O'Donoghue and Candes, 2015); a run that takes no step forgets it.

    Attributes:
        momentum: ``m``.
    """

    name: ClassVar[str] = "momentum_line_search"
    bounds: ClassVar = {**LineSearch.bounds, "momentum": _SHARE}
    momentum: float = 0.9

    def init(self, params: Tensor) -> State:
        return {**super().init(params), "velocity": torch.zeros_like(params)}

    def update(self, step: Step) -> tuple[Tensor, State]:
        velocity = torch.add(step.gradient, step.state["velocity"], alpha=self.momentum)
        decrease = row_dot(step.gradient, velocity)
        descends = decrease > 0
        velocity = torch.where(descends[:, None], velocity, step.gradient)
        decrease = torch.where(descends, decrease, row_dot(step.gradient, step.gradient))
        params, factor, found = self._search(step, velocity, decrease)
        return params, {"factor": factor, "velocity": velocity.masked_fill(~found[:, None], 0.0)}


_PLAIN = (GradientDescent, Momentum, AdaGrad, RMSProp, Adam, Polyak, NormalizedGradient)
OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.name: rule for rule in (*_PLAIN, LineSearch, MomentumLineSearch, LayerRates)
}
"""The update rules by name."""


def optimizer_from(spec: str | Mapping[str, Any] | Optimizer) -> Optimizer:
    """The update rule that ``spec`` describes.

    Args:
        spec: A name in `OPTIMIZERS`, ``{"optimizer": name, **settings}``, or an `Optimizer`, which is returned as it is.

    Raises:
        ValueError: ``spec`` is none of these, an unknown name or setting, or a setting's value that is not allowed.
    """
    if isinstance(spec, Optimizer):
        return spec
    if isinstance(spec, str):
        spec = {"optimizer": spec}
    if not isinstance(spec, Mapping):
        refuse("an optimizer", "a name, a dict with the key 'optimizer', or an Optimizer", spec)
    settings = dict(spec)
    if "optimizer" not in settings:
        listed = ", ".join(map(repr, OPTIMIZERS))
        raise ValueError(f"{shown(settings)} names no optimizer; add the key 'optimizer' with one of {listed}")
    name = known("optimizer", settings.pop("optimizer"), OPTIMIZERS)
    return OPTIMIZERS[name](**arguments(f"optimizer {name!r}", OPTIMIZERS[name], settings))
