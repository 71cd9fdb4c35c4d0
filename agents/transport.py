"""What becomes of an optimizer's state when the weights move along a level set.

The state of an optimizer is made of the gradients that it has seen. Each tensor of it is of one of the kinds below. After
a move ``w -> g.w`` the gradients would have been ``g^-T grad``, so that the state which a run at the new place would have
follows. For positive factors ``F`` per weight, ``w -> F w``:

====================  ==================================================  =============
kind                  example                                             becomes
====================  ==================================================  =============
``covector``          ``momentum_buffer``, Adam's ``exp_avg``             ``s / F``
``covector squared``  ``exp_avg_sq``, ``max_exp_avg_sq``, Adagrad's sum   ``s / F^2``
``vector``            ASGD's averaged weights                             ``s F``
``vector squared``    squared weights, in an optimizer of one's own       ``s F^2``
``ratio``             RMSprop's ``momentum_buffer``, Rprop's step sizes   ``s``
====================  ==================================================  =============

Permutations move all of them alike. Under an invertible matrix covectors and vectors move exactly. Squares of entries do not
say what the squares of mixed entries are: they begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from teleport_env.agents.in_place import UnitsInPlace
from teleport_env.groups.base import Element
from teleport_env.instances import Instance
from teleport_env.reading import known
from teleport_env.symmetries.base import Symmetry

ROLES = ("covector", "covector squared", "vector", "vector squared", "ratio")
_ADAM = {"exp_avg": "covector", "exp_avg_sq": "covector squared", "max_exp_avg_sq": "covector squared"}
STATES: dict[str, Mapping[str, str]] = {
    "SGD": {"momentum_buffer": "covector"},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "NAdam": _ADAM,
    "RAdam": _ADAM,
    "Adamax": {"exp_avg": "covector", "exp_inf": "covector"},
    "Adagrad": {"sum": "covector squared"},
    "Adadelta": {"square_avg": "covector squared", "acc_delta": "ratio"},
    "RMSprop": {"square_avg": "covector squared", "grad_avg": "covector", "momentum_buffer": "ratio"},
    "Rprop": {"prev": "covector", "step_size": "ratio"},
    "ASGD": {"ax": "vector"},
}
"""Kinds of the tensors with one entry per weight in the state of optimizers of `torch.optim`, by the optimizer's name."""

_MIXED = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "RMSprop", "ASGD")  # what matrices may move


def roles_of(optimizer: Optimizer, state: str | Mapping[str, str], exact: bool = True) -> Mapping[str, str] | None:
    """The kinds of an optimizer's tensors; None where its state is kept or reset.

    Args:
        optimizer: The optimizer.
        state: ``"transport"``, ``"keep"``, ``"reset"``, or kinds by the tensors' names for an optimizer of one's own.
        exact: Whether every weight is moved by a factor or to a place of its own.

    Raises:
        ValueError: How the state would move is not known.
    """
    if not isinstance(state, str):
        for role in state.values():
            known("kind of an optimizer's tensor", role, ROLES)
        return state
    if state != "transport":
        return None
    # by name, because subclasses may add tensors, which `require_known_tensors` refuses
    name = next((base.__name__ for base in type(optimizer).__mro__ if _known_class(base)), None)
    if name is None:
        raise ValueError(
            f"the state of {type(optimizer).__name__} is not known: pass state='keep' or state='reset', or the kinds of its "
            f"tensors, such as state={{'momentum': 'covector'}} with {', '.join(map(repr, ROLES))}"
        )
    if not exact and name not in _MIXED:
        raise ValueError(
            f"what an invertible matrix makes of the state of {name} is not known: pass state='keep' or state='reset', or "
            "symmetry='scaling'"
        )
    return STATES[name]


def _known_class(base: type) -> bool:
    return base.__name__ in STATES and base.__module__.startswith("torch.optim")


class Transport:
    """One move, and what it makes of tensors of one entry per weight.

    Args:
        symmetry: Symmetry that moved the weights; linear.
        element: The element, a batch of one; None: that of ``units``.
        params: The parameters, in the order in which they lie in the symmetry's vector.
        dtype: Precision of the move.
        units: The same move in place, where it was made so.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        element: Element | None,
        params: Sequence[Tensor],
        dtype: torch.dtype,
        units: UnitsInPlace | None = None,
    ) -> None:
        self._symmetry, self._given, self._params, self._dtype = symmetry, element, params, dtype
        self._units, self._diagonal = units, all(factor.metrics == "diagonal" for factor in symmetry.group.factors)

    @cached_property
    def _element(self) -> Element:
        if self._given is not None:
            return self._given
        assert self._units is not None
        return self._units.element

    @cached_property
    def _factors(self) -> list[Tensor]:
        """Of every weight, shaped as the parameters."""
        ones = torch.ones(1, sum(p.numel() for p in self._params), dtype=self._dtype, device=self._params[0].device)
        return self._split(self._symmetry.act(self._element, ones, Instance(ones)))

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = vector[0].split([p.numel() for p in self._params])
        return [part.view(p.shape) for part, p in zip(parts, self._params, strict=True)]

    def move(self, tensors: Sequence[Tensor | None], role: str) -> None:
        """Move tensors of a kind in place, one per parameter; None: there is none, and it counts as zero."""
        if self._units is not None and self._units.move(tensors, role):
            return
        if self._diagonal:
            for tensor, factor in zip(tensors, self._factors, strict=True):
                if tensor is None or role == "ratio":
                    continue
                if role.endswith("squared"):
                    factor = factor.square()
                (tensor.mul_ if role.startswith("vector") else tensor.div_)(factor)
            return
        whole = torch.cat(
            [
                torch.zeros_like(p).flatten() if tensor is None else tensor.flatten()
                for p, tensor in zip(self._params, tensors, strict=True)
            ]
        ).to(self._dtype)[None]
        instance = Instance(whole)
        if role.startswith("vector"):
            moved = self._symmetry.act(self._element, whole, instance)
        else:
            moved = self._symmetry.gradient_after(self._element, whole, instance)
        for tensor, new in zip(tensors, self._split(moved), strict=True):
            if tensor is not None:
                tensor.copy_(new)

    def move_state(self, optimizer: Optimizer, roles: Mapping[str, str]) -> None:
        """Move the state of an optimizer in place, after the gradients."""
        exact = self._symmetry.weightwise
        states = [optimizer.state.get(p, {}) for p in self._params]
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        began = [
            (state["sum"], _start_of(groups[id(p)]))
            for p, state in zip(self._params, states, strict=True)
            if "sum" in state
        ]
        for total, start in began:
            total.sub_(start)  # no gradient has put it there
        for name, role in roles.items():
            if exact or role in ("covector", "vector"):
                self.move([state.get(name) for state in states], role)
        for total, start in began:
            total.add_(start)
        if exact:
            return
        for p, state in zip(self._params, states, strict=True):
            for name, role in roles.items():
                if name in state and role not in ("covector", "vector"):
                    state[name].copy_(_anew(name, p, state, groups[id(p)]))


def _anew(name: str, param: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Second moments that begin anew: the largest that gradient and first moment at hand allow, as if always so.

    The next update of a weight is then no longer than the first of a fresh optimizer. From zero it would be longer: a first
    moment that is not small would be divided by nearly nothing.
    """
    gradient = torch.zeros_like(param) if param.grad is None else param.grad
    if "exp_avg" in state:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        step = float(state["step"])  # a tensor of single precision
        mean = state["exp_avg"] / (1.0 - beta1**step)
        return (1.0 - beta2**step) * torch.maximum(gradient.square(), mean.square())
    if name == "square_avg":
        mean = state.get("grad_avg", gradient)
        return torch.maximum(gradient.square(), mean.square())
    return torch.full_like(param, _start_of(group))  # a sum, or a momentum of steps


def _start_of(group: Mapping[str, Any]) -> float:
    """What Adagrad's sums begin with."""
    return float(group.get("initial_accumulator_value", 0.0))


def require_known_tensors(optimizer: Optimizer, roles: Mapping[str, str], params: Sequence[Tensor]) -> None:
    """Raise ValueError if the state holds a tensor with more than one entry whose kind is not known."""
    for p in params:
        for name, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor) and value.ndim > 0 and name not in roles:
                raise ValueError(
                    f"the state of {type(optimizer).__name__} holds {name!r}, of a kind that is not known: pass "
                    f"state='keep', state='reset', or all kinds, as in state={{{name!r}: 'covector'}}"
                )


def reset(optimizer: Optimizer, params: Sequence[Tensor]) -> None:
    """Make the optimizer forget what it has seen of the parameters."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for p in params:
        state = optimizer.state.get(p)
        if not state:
            continue
        if "sum" in state:  # Adagrad's is made with the optimizer and never again
            state["sum"].fill_(_start_of(groups[id(p)]))
            state["step"].zero_()
        else:
            state.clear()
