"""`check_group` and `check_symmetry` are able to fail, and name the law and the method."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.bowl import Products, Squeeze
from torch import Tensor

from teleport_env.checks import CheckFailed, check_group, check_symmetry
from teleport_env.groups import GL, SO2, PositiveScaling
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.problems import problem_from
from teleport_env.symmetries import HiddenUnits, InputTransform, LinearPairs, ScalingSymmetry, Symmetry

# -- groups ------------------------------------------------------------------------------------------------------------


class ReversedProduct(GL):
    def compose(self, second: Element, first: Element) -> Tensor:
        return super().compose(first, second)


class TransposedInverse(GL):
    def inverse(self, element: Element) -> Tensor:
        return super().inverse(element).mT


class FirstOrderRotation(SO2):
    def exp(self, xi: Tensor) -> Tensor:
        one = torch.ones_like(xi)
        return torch.cat([one, -xi, xi, one], dim=1).reshape(-1, 2, 2)


class SumOfLogarithms(PositiveScaling):
    def exp(self, xi: Tensor) -> Tensor:
        return super().exp(xi - xi.mean(dim=0))


BROKEN_GROUPS = {
    ReversedProduct: (2, r"group GL\(2\): the law matrices_are_a_homomorphism is broken.*`compose`"),
    TransposedInverse: (
        2,
        r"the law inverse_undoes is broken: .* off by .* in row \d of 7.*Correct `inverse`.*Also broken",
    ),
    FirstOrderRotation: (None, r"group SO\(2\): the law exp_is_additive_along_a_line is broken.*Correct `exp`"),
    SumOfLogarithms: (2, r"group R\+\^2: the law .* is broken.*rows_are_independent"),
}


@pytest.mark.parametrize("group", BROKEN_GROUPS, ids=lambda group: group.__name__)
def test_a_broken_group(group: Any) -> None:
    size, message = BROKEN_GROUPS[group]
    with pytest.raises(CheckFailed, match=message):
        check_group(group() if size is None else group(size))


# -- symmetries --------------------------------------------------------------------------------------------------------


class DropsTheInverse(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return torch.cat([u * g, v], dim=1)


class FirstOrderInverse(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return torch.cat([u * g, v * (2.0 - g)], dim=1)


class GradientTheWrongWay(Squeeze):
    def gradient_after(self, g: Any, gradient: Tensor, instance: Instance) -> Tensor:
        return self.act(g, gradient, instance)


class NoGradientAfter(Squeeze):
    def gradient_after(self, g: Any, gradient: Tensor, instance: Instance) -> Tensor:
        return Symmetry.gradient_after(self, g, gradient, instance)


class WrongDirection(Squeeze):
    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return -super().ascent_direction(params, gradient, instance, batch)


class InPlace(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if params.requires_grad:
            return super().act(g, params, instance, batch)
        params[:, :2] *= g
        params[:, 2:] /= g
        return params


class MovesAllAlike(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().act(g.mean(0, keepdim=True).expand_as(g), params, instance, batch)


class RefusesNaN(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if not torch.isfinite(g).all():
            raise ValueError("g is not finite")
        return super().act(g, params, instance, batch)


class NotAnAction(Squeeze):
    """Keeps the loss and leaves the identity alone, but two moves are not the move by their product."""

    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().act(torch.exp(torch.sinh(torch.log(g))), params, instance, batch)


class SaysNothing(Squeeze):
    exact_when = ""


BROKEN = {
    DropsTheInverse: r"the law loss_is_kept is broken: .* in row \d of 5.*inverse has to undo",
    FirstOrderInverse: r"the law loss_is_kept is broken.*Also broken: composition_is_kept",
    GradientTheWrongWay: r"the law gradient_after_is_the_gradient is broken.*Correct `gradient_after`",
    NoGradientAfter: r"gradient_after.*NotImplementedError",
    WrongDirection: r"the law ascent_direction_is_the_derivative is broken.*leave it out",
    InPlace: r"the law nothing_is_overwritten is broken.*return a new tensor",
    MovesAllAlike: r"composition_is_kept|rows_are_independent",
    RefusesNaN: r"the law broken_rows_harm_nobody is broken: act raised ValueError",
    NotAnAction: r"the law composition_is_kept is broken.*has to be moving by compose\(g2, g1\)",
    SaysNothing: r"`exact_when` is empty.*one sentence",
}


def test_a_sound_symmetry() -> None:
    assert len(check_symmetry(Squeeze(), Products()).passed) == 10


@pytest.mark.parametrize("symmetry", BROKEN, ids=lambda symmetry: symmetry.__name__)
def test_a_broken_symmetry(symmetry: type[Squeeze]) -> None:
    with pytest.raises(CheckFailed, match=BROKEN[symmetry]) as caught:
        check_symmetry(symmetry(), Products())
    assert str(caught.value).startswith("symmetry 'squeeze' of Products: ")


class TransposedPairs(LinearPairs):
    """``V -> g' V``: keeps neither the loss nor the composition."""

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        return super()._left(part.mT, matrix)


class WithoutResidual(HiddenUnits):
    """``V -> (s^-1(g s(V h)) - V h) h^+``: the old weights are dropped."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        moved = super().act(g, params, instance, batch)
        count = self.layers.shapes[0][0] * self.layers.shapes[0][1]
        return torch.cat([moved[:, :count] - params[:, :count], moved[:, count:]], dim=1)


def test_transposed_elements() -> None:
    problem = problem_from("MatrixFactorization")
    with pytest.raises(CheckFailed, match="the law loss_is_kept is broken"):
        check_symmetry(TransposedPairs(problem.layers), problem)


def test_a_dropped_residual() -> None:
    problem = problem_from("MLPRegression", activation="asinh")
    with pytest.raises(CheckFailed, match="the law identity_moves_nothing is broken.*not to build them anew"):
        check_symmetry(WithoutResidual(problem.network), problem)


def test_scaling_through_a_saturating_activation() -> None:
    problem = problem_from("MLPRegression", activation="tanh")
    scaling = ScalingSymmetry(problem.layers)
    with pytest.raises(CheckFailed, match="the law loss_is_kept is broken"):
        check_symmetry(scaling, problem)


def test_data_that_nobody_moves() -> None:
    """A symmetry that moves data on a problem whose instances hold none by the name the engine moves."""
    problem = problem_from("MatrixFactorization")
    with pytest.raises(
        CheckFailed, match=r"moves data, and the instance has no tensor 'inputs' \(it has \['target'\]\)"
    ):
        check_symmetry(InputTransform(problem.layers), problem)


def test_given_instances() -> None:
    """The first-order inverse is wrong everywhere but at the identity."""
    problem = Products()
    instance = problem.instances(torch.tensor([7, 8, 9]), "test")
    with pytest.raises(CheckFailed, match="row . of 3"):
        check_symmetry(FirstOrderInverse(), problem, instance)
    assert check_symmetry(Squeeze(), problem, instance).passed
