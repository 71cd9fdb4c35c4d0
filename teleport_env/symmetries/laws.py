"""The laws of a symmetry, each a function that says whether it holds and if not, where.

`symmetry_laws` goes over those that apply to a symmetry; it serves users who write one of their own and the tests of this
project alike. A law is checked at given parameters on random elements, a third of which lie about 1e-7 from the
identity. What rounding may do is relative to the largest entry of a row, in float64 unless said otherwise; rows must be
independent bit for bit.

What is asked of whom:

* Actions on the weights alone: the identity and the composition law, on the weights.
* Actions built from the data (`Symmetry.data_dependent`): both on the loss. On the weights the identity fails for the
  published form, and composition for several pairs.
* The first-order variant (`Symmetry.keeps_loss` false) is no action and keeps no loss: only that its rows are independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element, parts, select
from teleport_env.groups.law_cases import HOLDS, Verdict, agree, check_laws, contained, same_alone, spoiled_rows
from teleport_env.groups.law_cases import Case as GroupCase
from teleport_env.instances import Batch, Instance
from teleport_env.symmetries.base import Symmetry

Loss = Callable[[Tensor, Instance, Batch], Tensor]

LOSS_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest relative change of the loss that counts as rounding."""


@dataclass(frozen=True)
class SymmetryCase:
    """What a law is checked on.

    Attributes:
        symmetry: The symmetry.
        loss: ``(params, instance, batch) -> (B,)``, differentiable twice.
        params: ``(B, P)``, generic: not at a minimum.
        instance: ``B`` instances.
        batch: The current mini-batch, or None.
        data: Name of the tensor of the instance that holds the data, for a symmetry that moves them.
        seed: Seed of the random elements.
        length: Largest norm of ``xi``, for non-compact groups.
    """

    symmetry: Symmetry
    loss: Loss
    params: Tensor
    instance: Instance
    batch: Batch = None
    data: str = "inputs"
    seed: int = 0
    length: float = 0.5

    @property
    def count(self) -> int:
        return self.params.shape[0]

    def element(self, name: str) -> Element:
        """Random elements in the parameters' precision."""
        group = self.symmetry.group
        case = GroupCase(group, self.seed, self.count)
        drawn = group.exp(case.coordinates(name, self.length)) if group.continuous else case.element(name)
        return map_element(lambda part: part.to(self.params.dtype) if part.is_floating_point() else part, drawn)

    def identity(self) -> Element:
        return self.symmetry.group.identity(self.count, self.params.dtype, self.params.device)

    def act(self, g: Element, params: Tensor | None = None, instance: Instance | None = None) -> Tensor:
        return self.symmetry.act(g, self.params if params is None else params, instance or self.instance, self.batch)

    def moved(self, g: Element) -> Instance:
        """The instance on which the loss after the move is to be taken."""
        if not self.symmetry.moves_data:
            return self.instance
        data = self.symmetry.move_data(g, self.instance[self.data], self.instance)
        return replace(self.instance, tensors={**self.instance.tensors, self.data: data})

    def value(self, params: Tensor, instance: Instance | None = None) -> Tensor:
        with torch.no_grad():
            return self.loss(params, instance or self.instance, self.batch)

    def gradient(self, params: Tensor, instance: Instance | None = None) -> Tensor:
        """The gradient of the loss ``(B, P)`` at ``params``, by autograd."""
        with torch.enable_grad():
            w = params.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.loss(w, instance or self.instance, self.batch).sum(), w)
        return gradient


# -- an action ---------------------------------------------------------------------------------------------------------


def _same_point(case: SymmetryCase, got: Tensor, wanted: Tensor, rounding: tuple[float, float], what: str) -> Verdict:
    """Agreement of parameters to the rounding in float64 and float32; for actions built from the data, of their losses."""
    if case.symmetry.data_dependent:
        return agree(case.value(got), case.value(wanted), LOSS_TOLERANCE[got.dtype], f"{what}, in their losses")
    return agree(got, wanted, rounding[got.dtype != torch.float64], what)


def identity_moves_nothing(case: SymmetryCase) -> Verdict:
    """``e.w = w``; for actions built from the data ``L(e.w) = L(w)``."""
    return _same_point(case, case.act(case.identity()), case.params, (1e-12, 1e-5), "e.w is not w")


def composition_is_kept(case: SymmetryCase) -> Verdict:
    """``g2.(g1.w) = (g2 g1).w``; for actions built from the data, of the loss."""
    g1, g2 = case.element("first"), case.element("second")
    twice = case.act(g2, case.act(g1), case.moved(g1))
    once = case.act(case.symmetry.group.compose(g2, g1))
    return _same_point(case, twice, once, (1e-11, 1e-4), "g2.(g1.w) is not (g2 g1).w")


# -- a symmetry of the loss --------------------------------------------------------------------------------------------


def loss_is_kept(case: SymmetryCase) -> Verdict:
    """``L(g.w) = L(w)``."""
    g = case.element("g")
    after = case.value(case.act(g), case.moved(g))
    return agree(after, case.value(case.params), LOSS_TOLERANCE[after.dtype], "L(g.w) is not L(w)")


def loss_is_kept_nearby(case: SymmetryCase) -> Verdict:
    """The derivative of ``w -> L(g.w)`` is ``grad L(w)``: the loss is kept around ``w`` too, not at ``w`` alone."""
    g = case.element("g")
    with torch.enable_grad():
        w = case.params.detach().clone().requires_grad_(True)
        (derivative,) = torch.autograd.grad(case.loss(case.act(g, w), case.moved(g), case.batch).sum(), w)
    return agree(derivative, case.gradient(case.params), 1e-8, "the gradient of L(g.w) in w is not grad L(w)")


def gradient_after_is_the_gradient(case: SymmetryCase) -> Verdict:
    """``gradient_after`` is the gradient of the loss at ``g.w``."""
    g = case.element("g")
    predicted = case.symmetry.gradient_after(g, case.gradient(case.params), case.instance)
    actual = case.gradient(case.act(g), case.moved(g))
    return agree(predicted, actual, 1e-9, "gradient_after is not grad L(g.w)")


def ascent_direction_is_the_derivative(case: SymmetryCase) -> Verdict:
    """``ascent_direction`` is the derivative of ``|grad L(exp(xi).w)|^2`` at ``xi = 0``, by double backward."""
    symmetry = case.symmetry
    direction = symmetry.ascent_direction(case.params, case.gradient(case.params), case.instance, case.batch)
    with torch.enable_grad():
        xi = case.params.new_zeros(case.count, symmetry.group.dim, requires_grad=True)
        g = symmetry.group.exp(xi)
        moved = case.act(g)
        losses = case.loss(moved, case.moved(g), case.batch)
        (gradient,) = torch.autograd.grad(losses.sum(), moved, create_graph=True)
        (derivative,) = torch.autograd.grad(gradient.square().sum(), xi)
    return agree(direction, derivative, 1e-9, "ascent_direction is not the derivative of the squared gradient norm")


# -- rows --------------------------------------------------------------------------------------------------------------


def _operations(case: SymmetryCase) -> dict[str, Callable[[Element, Tensor], Tensor]]:
    """What is computed of elements, for the rows of an index."""
    symmetry, params, gradient = case.symmetry, case.params, case.gradient(case.params)

    def data(rows: Tensor) -> tuple[Instance, Batch]:
        return case.instance.select(rows), None if case.batch is None else case.batch[rows]

    operations: dict[str, Callable[[Element, Tensor], Tensor]] = {
        "act": lambda g, rows: symmetry.act(g, params[rows], *data(rows))
    }
    if symmetry.linear:
        operations["gradient_after"] = lambda g, rows: symmetry.gradient_after(g, gradient[rows], data(rows)[0])
    if symmetry.group.continuous and symmetry.keeps_loss:
        operations["ascent_direction"] = lambda _, rows: symmetry.ascent_direction(
            params[rows], gradient[rows], *data(rows)
        )
    return operations


def rows_are_independent(case: SymmetryCase) -> Verdict:
    """Every operation gives a row the same numbers, bit for bit, alone and among others."""
    g = case.element("g")

    def of_rows(operation: Callable[[Element, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda rows: operation(select(g, rows), rows)

    return same_alone({name: of_rows(operation) for name, operation in _operations(case).items()}, case.count)


def broken_rows_harm_nobody(case: SymmetryCase) -> Verdict:
    """An element of zeros or of NaN makes nothing raise, is visible in its row, and leaves the other rows' bits alone."""
    g = case.element("g")
    if not all(part.is_floating_point() for part in parts(g)):
        return HOLDS  # integers cannot be NaN
    every = torch.arange(case.count, device="cpu")
    operations = _operations(case)
    operations.pop("ascent_direction", None)  # made without an element
    for value in (torch.nan, 0.0):
        broken = spoiled_rows(g, value)
        pairs = {name: (partial(of, broken, every), partial(of, g, every)) for name, of in operations.items()}
        verdict = contained(pairs, value)
        if not verdict.ok:
            return verdict
    return HOLDS


def nothing_is_overwritten(case: SymmetryCase) -> Verdict:
    """``act`` returns a new tensor of the parameters' shape and precision, and leaves its arguments alone."""
    before, start = case.params.clone(), case.instance.start.clone()
    moved = case.act(case.element("g"))
    if moved.shape != before.shape or moved.dtype != before.dtype:
        return Verdict(False, f"act gives {moved.dtype} {tuple(moved.shape)} for {before.dtype} {tuple(before.shape)}")
    moved.add_(1.0)
    if not (torch.equal(case.params, before) and torch.equal(case.instance.start, start)):
        return Verdict(False, "act's result shares memory with the parameters or the instance")
    return HOLDS


Law = Callable[[SymmetryCase], Verdict]


def laws_of(symmetry: Symmetry) -> list[Law]:
    """The laws that apply to a symmetry (head of this module)."""
    laws: list[Law] = [nothing_is_overwritten, rows_are_independent, broken_rows_harm_nobody]
    if not symmetry.keeps_loss:
        return laws
    laws += [identity_moves_nothing, composition_is_kept, loss_is_kept, loss_is_kept_nearby]
    if symmetry.linear:
        laws.append(gradient_after_is_the_gradient)
    if symmetry.group.continuous and symmetry.direction_exact:
        laws.append(ascent_direction_is_the_derivative)
    return laws


def symmetry_laws(case: SymmetryCase) -> list[tuple[str, bool, str]]:
    """Check all laws that apply (`check_laws`), in float64; for each its name, whether it holds, and if not, why."""
    return check_laws(laws_of(case.symmetry), lambda: case)
