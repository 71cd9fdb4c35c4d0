"""The laws of every symmetry, and that each of them can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy_losses import B, Toy, inputs, network, network_toy, squared_error, toys

from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.symmetries import FirstOrder, HiddenUnits, LinearPairs, ScalingSymmetry, product
from teleport_env.symmetries.hidden_units import times_pseudo_inverse
from teleport_env.symmetries.laws import (
    SymmetryCase,
    ascent_direction_is_the_derivative,
    broken_rows_harm_nobody,
    composition_is_kept,
    gradient_after_is_the_gradient,
    identity_moves_nothing,
    laws_of,
    loss_is_kept,
    loss_is_kept_nearby,
    nothing_is_overwritten,
    rows_are_independent,
    symmetry_laws,
)
from teleport_env.symmetries.pairs import parts_of

TOYS = toys()


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("seed", [0, 1])
def test_laws(name: str, seed: int) -> None:
    toy = TOYS[name]
    results = symmetry_laws(toy.case(seed=seed))
    assert len(results) == len(laws_of(toy.symmetry)) >= 5
    assert [(law, reason) for law, ok, reason in results if not ok] == []


@pytest.mark.parametrize("name", TOYS)
def test_single_precision_keeps_the_loss(name: str) -> None:
    toy = TOYS[name].to(torch.float32)
    case = toy.case()
    moved = case.act(case.element("g"))
    assert moved.dtype == torch.float32
    for law in (loss_is_kept, identity_moves_nothing, nothing_is_overwritten):
        verdict = law(case)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize("name", TOYS)
def test_identity_on_the_weights(name: str) -> None:
    """Bit for bit on networks; rounding of the coordinates themselves elsewhere; not at all in the published form."""
    case = TOYS[name].case()
    moved = case.act(case.identity())
    if "published" in name:
        assert bool(((moved - case.params).abs().amax(dim=1) > 1e-2).all())
    elif "affine" in name:
        torch.testing.assert_close(moved, case.params, rtol=0.0, atol=1e-13)
    elif "rosenbrock" in name:
        torch.testing.assert_close(moved, case.params, rtol=0.0, atol=1e-15)
    else:
        assert torch.equal(moved, case.params)


def test_first_order_variant_has_independent_rows() -> None:
    for form in ("published", "residual"):
        toy = network_toy(lambda net, form=form: FirstOrder(net, form=form), network((6, 7, 5, 3), "leaky_relu"), 4)
        results = symmetry_laws(toy.case())
        assert [name for name, ok, _ in results] == [law.__name__ for law in laws_of(toy.symmetry)]
        assert all(ok for _, ok, _ in results), results


# -- every law can fail ------------------------------------------------------------------------------------------------


class DroppedInverse(LinearPairs):
    """``U -> U g`` instead of ``U g^-1``."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        parts = parts_of(g, len(self.layers.hidden))
        return self._multiply(parts, parts, params)


class Transposed(LinearPairs):
    """``g'`` instead of ``g``: keeps the loss, but is no action, because it reverses products."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().act(tuple(part.mT for part in parts_of(g, len(self.layers.hidden))), params, instance, batch)


class TransposedBelow(LinearPairs):
    """``V -> g' V``, ``U -> U g^-1``."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        parts = parts_of(g, len(self.layers.hidden))
        inverses = parts_of(self.group.inverse(g), len(parts))
        return self._multiply([part.mT for part in parts], inverses, params)


class WrongDirection(LinearPairs):
    """The sign of one Gram matrix the other way round."""

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        lower, upper = self.pairs(gradient, instance)[0]
        return 2.0 * (product(lower, lower.mT) + product(upper.mT, upper)).flatten(1)


class UntransposedGradient(LinearPairs):
    """``gradient_after`` by ``g^-1`` where it takes its transpose."""

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        return super().act(self.group.inverse(g), gradient, instance)


class MixedRows(LinearPairs):
    """A row's result depends on the other rows in its last bits."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().act(g, params, instance, batch) + 1e-15 * params.mean(dim=0)


class Raises(LinearPairs):
    """One singular row raises for all."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        for part in parts_of(g, len(self.layers.hidden)):
            torch.linalg.inv(part)
        return super().act(g, params, instance, batch)


class InPlace(LinearPairs):
    """Hands the parameters back."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return params


def linear(cls: type[LinearPairs], bias: bool = False) -> SymmetryCase:
    return network_toy(lambda net: cls(net.layers), network((3, 4, 5), bias=bias), 6).case()


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (DroppedInverse, loss_is_kept),
        (DroppedInverse, loss_is_kept_nearby),
        (Transposed, composition_is_kept),
        (TransposedBelow, loss_is_kept),
        (WrongDirection, ascent_direction_is_the_derivative),
        (UntransposedGradient, gradient_after_is_the_gradient),
        (MixedRows, rows_are_independent),
        (Raises, broken_rows_harm_nobody),
        (InPlace, nothing_is_overwritten),
    ],
)
def test_a_mutated_action_turns_its_law_red(cls: type[LinearPairs], law) -> None:  # type: ignore[no-untyped-def]
    assert law(linear(LinearPairs)).ok
    verdict = law(linear(cls))
    assert not verdict.ok
    assert verdict.reason


def test_a_transposed_element_alone_keeps_the_loss() -> None:
    """Why composition must be checked besides invariance."""
    assert loss_is_kept(linear(Transposed)).ok


class DroppedResidual(HiddenUnits):
    """``V -> V + s^-1(g s(V h)) h^+``: what V did on the batch is counted twice."""

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        lower, upper = self.layers.weights(params)
        h = self.network.inputs(instance, batch)
        (part,) = parts_of(g, 1)
        (inverse,) = parts_of(self.group.inverse(g), 1)
        target = self.network.activation.inverse(product(part, self.network.activation(product(lower, h))))
        return self.layers.flatten([lower + times_pseudo_inverse(target, h), product(upper, inverse)])


def test_a_dropped_residual_turns_the_laws_red() -> None:
    toy = network_toy(DroppedResidual, network((6, 5, 3), "asinh"), 4)
    assert not loss_is_kept(toy.case()).ok
    assert not identity_moves_nothing(toy.case()).ok


def test_the_first_order_variant_does_not_keep_the_loss() -> None:
    toy = network_toy(FirstOrder, network((6, 5, 3), "asinh"), 4)
    assert not loss_is_kept(toy.case(length=1.0)).ok


@pytest.mark.parametrize("form", ["residual", "published"])
def test_more_examples_than_units_are_not_exact(form: str) -> None:
    """At n = k the loss is kept to rounding, at n = k + 1 it moves."""
    for examples, kept in ((5, True), (6, False), (12, False)):
        toy = network_toy(
            lambda net: HiddenUnits(net, form=form), network((5, 6, 3), "leaky_relu"), examples, seed=examples
        )
        verdict = loss_is_kept(toy.case())
        assert verdict.ok is kept, verdict.reason
        assert toy.symmetry.largest_batch == 5  # type: ignore[attr-defined]


def test_scaling_fails_for_an_activation_that_is_not_homogeneous() -> None:
    def unchecked(net) -> ScalingSymmetry:  # type: ignore[no-untyped-def]
        return ScalingSymmetry(net.layers)

    assert not loss_is_kept(network_toy(unchecked, network((3, 4, 2), "tanh"), 5).case()).ok
    assert loss_is_kept(network_toy(unchecked, network((3, 4, 2), "relu"), 5).case()).ok


def test_scaling_fails_for_negative_factors() -> None:
    toy = TOYS["scaling, leaky ReLU"]
    case = toy.case()
    negative = tuple(-part for part in case.element("g"))
    # past the group, which gives a negative factor no inverse
    weights = toy.symmetry._multiply(negative, tuple(1.0 / part for part in negative), toy.params)  # type: ignore[attr-defined]
    change = (case.value(weights) / case.value(toy.params) - 1.0).abs()
    assert bool((change > 1e-3).all())


def test_moved_weights_without_moved_data_do_not_keep_the_loss() -> None:
    toy = TOYS["input transform"]
    case = toy.case()
    after = case.value(case.act(case.element("g")))
    assert bool(((after / case.value(toy.params) - 1.0).abs() > 1e-3).any())
    without = replace(toy, data="inputs")
    results = symmetry_laws(without.case())
    assert any(not ok and "KeyError: 'inputs'" in reason for _, ok, reason in results)


def test_expanded_data_gives_the_same_bits() -> None:
    """Data that all runs share comes expanded, with stride 0 along the runs."""
    net = network((6, 7, 5, 3), "tanh", bias=True)
    toy: Toy = network_toy(HiddenUnits, net, 5)
    own = Instance(toy.params, {name: tensor[:1].repeat(B, 1, 1) for name, tensor in toy.instance.tensors.items()})
    shared = Instance(toy.params, {}, {name: tensor[:1] for name, tensor in own.tensors.items()})

    def expanded(instance: Instance, batch: Batch) -> Tensor:
        return inputs(instance, batch).expand(len(instance), -1, -1)

    symmetry = HiddenUnits(replace(net, inputs=expanded))
    case = toy.case()
    g = case.element("g")
    assert torch.equal(symmetry.act(g, toy.params, shared), toy.symmetry.act(g, toy.params, own))
    loss = squared_error(net)
    shared_case = SymmetryCase(
        symmetry, lambda w, i, b=None: loss(w, own.select(torch.arange(len(w)))), toy.params, shared
    )
    verdict = rows_are_independent(shared_case)
    assert verdict.ok, verdict.reason
