"""The general linear group on hidden units: composition, forms, the first-order variant, conditioning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_losses import B, Toy, network, network_toy

from teleport_env.groups.base import Element, map_element
from teleport_env.symmetries import FirstOrder, HiddenUnits


def published(net) -> HiddenUnits:  # type: ignore[no-untyped-def]
    return HiddenUnits(net, form="published")


def outputs(toy: Toy, params: torch.Tensor) -> torch.Tensor:
    return toy.symmetry.network.forward(params, toy.instance["X"])  # type: ignore[attr-defined, no-any-return]


def twice_and_once(toy: Toy) -> tuple[torch.Tensor, torch.Tensor]:
    case = toy.case()
    g1, g2 = case.element("first"), case.element("second")
    return case.act(g2, case.act(g1)), case.act(toy.symmetry.group.compose(g2, g1))


@pytest.mark.parametrize("make", [HiddenUnits, published])
@pytest.mark.parametrize("bias", [False, True])
def test_one_pair_composes_on_the_weights(make, bias: bool) -> None:  # type: ignore[no-untyped-def]
    twice, once = twice_and_once(network_toy(make, network((6, 5, 3), "asinh", bias), 3))
    torch.testing.assert_close(twice, once, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_two_pairs_compose_on_the_outputs_alone(bias: bool) -> None:
    """The Moore-Penrose inverse is not equivariant: with n < k the weights differ by percents."""
    toy = network_toy(HiddenUnits, network((6, 7, 5, 3), "asinh", bias), 3)
    twice, once = twice_and_once(toy)
    torch.testing.assert_close(outputs(toy, twice), outputs(toy, once), rtol=1e-11, atol=1e-12)
    assert float((twice - once).abs().max()) > 1e-3


def test_two_pairs_without_slack_compose_on_the_weights() -> None:
    twice, once = twice_and_once(network_toy(HiddenUnits, network((4, 4, 4, 3), "asinh"), 4))
    torch.testing.assert_close(twice, once, rtol=0.0, atol=1e-9)


def test_the_forms_agree_on_the_batch_and_differ_off_it() -> None:
    net = network((6, 5, 3), "tanh", bias=True)
    residual, projected = (network_toy(make, net, 4) for make in (HiddenUnits, published))
    g = residual.case().element("g")
    a, b = residual.case().act(g), projected.case().act(g)
    torch.testing.assert_close(outputs(residual, a), outputs(residual, b), rtol=1e-11, atol=1e-12)
    assert float((a - b).abs().max()) > 1e-2
    # on an input orthogonal to the batch, the residual form leaves what the first layer does
    h = net.augmented(residual.instance["X"])
    fresh = torch.randn(B, 7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fresh = fresh - h @ torch.linalg.lstsq(h, fresh).solution
    before, after, shortest = (net.layers.weights(w)[0] @ fresh for w in (residual.params, a, b))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(shortest, torch.zeros_like(shortest), rtol=0.0, atol=1e-11)


def test_activations_become_g_times_activations() -> None:
    toy = network_toy(HiddenUnits, network((6, 7, 5, 3), "sigmoid", bias=True), 4)
    net = toy.symmetry.network  # type: ignore[attr-defined]
    g = toy.case().element("g")
    before = net.layer_values(toy.params, toy.instance["X"])[0]
    after = net.layer_values(toy.case().act(g), toy.instance["X"])[0]
    for part, a, b in zip(g, before[1:], after[1:], strict=True):
        torch.testing.assert_close(b, part @ a, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("examples", [9, 6])
def test_beyond_the_largest_batch_the_published_equations_are_followed(examples: int) -> None:
    """Against a transcription with a fresh forward pass before every pair; 6 examples are exact in the first layer alone."""
    toy = network_toy(HiddenUnits, network((6, 5, 7, 3), "asinh"), examples)
    net = toy.symmetry.network  # type: ignore[attr-defined]
    g = toy.case().element("g")
    weights = [w.clone() for w in net.layers.weights(toy.params)]
    for index, part in enumerate(g):
        h = net.layer_values(net.layers.flatten(weights), toy.instance["X"])[0][index]
        z = weights[index] @ h
        weights[index] = weights[index] + (net.activation.inverse(part @ net.activation(z)) - z) @ torch.linalg.pinv(h)
        weights[index + 1] = weights[index + 1] @ torch.linalg.inv(part)
    torch.testing.assert_close(toy.case().act(g), net.layers.flatten(weights), rtol=1e-9, atol=1e-10)
    change = toy.case().value(toy.case().act(g)) / toy.case().value(toy.params) - 1.0
    assert float(change.abs().max()) > 1e-6


def test_a_direction_is_an_approximation_for_the_published_form_of_several_pairs() -> None:
    toy = network_toy(published, network((6, 7, 5, 3), "asinh"), 3)
    assert not toy.symmetry.direction_exact
    assert published(network((6, 5, 3), "asinh")).direction_exact
    symmetry, zero = toy.symmetry, torch.zeros(B, 74, dtype=torch.float64)
    projected = toy.case().act(symmetry.group.exp(zero))
    for params, least in ((projected, 0.95), (toy.params, 0.4)):
        case = replace(toy, params=params).case()
        xi = zero.clone().requires_grad_(True)
        moved = case.act(symmetry.group.exp(xi))
        loss = toy.loss(moved, toy.instance, None).sum()
        (gradient,) = torch.autograd.grad(loss, moved, create_graph=True)
        (true,) = torch.autograd.grad(gradient.square().sum(), xi)
        direction = symmetry.ascent_direction(params, case.gradient(params), toy.instance)
        cosine = torch.cosine_similarity(direction, true)
        assert bool((cosine > least).all())
        assert not torch.allclose(direction, true, rtol=1e-3)


# -- the first-order variant -------------------------------------------------------------------------------------------


def leak(toy: Toy, scale: float) -> torch.Tensor:
    """Change of the loss by ``g = 1 + T`` with ``|T|`` of each factor about ``scale``, relative ``(B,)``."""
    case = toy.case()
    generator = torch.Generator().manual_seed(0)

    def one_plus(part: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(part.shape, dtype=part.dtype, generator=generator)
        return part + scale * noise / noise.norm(dim=(1, 2), keepdim=True)

    g: Element = map_element(one_plus, case.identity())
    return case.value(case.act(g)) / case.value(toy.params) - 1.0


@pytest.mark.parametrize(
    ("form", "widths", "order"),
    [
        ("published", (6, 5, 3), 2),
        ("residual", (6, 5, 3), 2),
        ("residual", (6, 7, 5, 3), 2),
        ("published", (3, 3, 3, 3), 2),
        ("published", (6, 7, 5, 3), 1),
    ],
)
def test_order_of_the_leak(form: str, widths: tuple[int, ...], order: int) -> None:
    """Halving T quarters the error, but in the published form of several pairs with n < k it only halves it."""
    toy = network_toy(lambda net: FirstOrder(net, form=form), network(widths, "asinh"), 3)
    ratio = (leak(toy, 2e-4) / leak(toy, 1e-4)).median()
    assert float(ratio) == pytest.approx(2.0**order, rel=0.05)
    exact = network_toy(lambda net: HiddenUnits(net, form=form), network(widths, "asinh"), 3)
    assert float(leak(exact, 1e-2).abs().max()) < 1e-10 < float(leak(toy, 1e-2).abs().max())


def test_first_order_follows_the_released_equations() -> None:
    toy = network_toy(FirstOrder, network((5, 6, 7, 8), "leaky_relu"), 4)
    net, case = toy.symmetry.network, toy.case()  # type: ignore[attr-defined]
    g = case.element("g")
    old = net.layers.weights(toy.params)
    weights = list(old)
    h = toy.instance["X"]
    for index, part in enumerate(g):
        tangent = part - torch.eye(part.shape[1], dtype=part.dtype)
        target = net.activation.inverse((tangent + torch.eye(part.shape[1])) @ net.activation(weights[index] @ h))
        weights[index + 1] = weights[index + 1] @ (torch.eye(part.shape[1]) - tangent)
        weights[index] = target @ torch.linalg.pinv(h)
        h = net.activation(old[index] @ h)
    torch.testing.assert_close(case.act(g), net.layers.flatten(weights), rtol=1e-9, atol=1e-10)
    assert not toy.symmetry.keeps_loss
    with pytest.raises(NotImplementedError, match="differentiate .* twice"):
        toy.symmetry.ascent_direction(toy.params, toy.params, toy.instance)


# -- hazards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.0, 1e-7, 1.0])
def test_second_derivatives_are_finite_at_and_near_the_identity(length: float) -> None:
    toy = network_toy(HiddenUnits, network((4, 4, 3), "tanh", bias=True), 4, count=2)
    group = toy.symmetry.group

    def moved(direction: torch.Tensor) -> torch.Tensor:
        xi = direction[None].expand(2, -1) * torch.ones(2, 1, dtype=torch.float64)
        return toy.symmetry.act(group.exp(xi), toy.params, toy.instance).square().sum()

    at = torch.full((group.dim,), length / group.dim**0.5, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(moved, at)
    assert bool(torch.isfinite(hessian).all())
    assert float(hessian.abs().max()) > 0.0


def test_a_batch_without_full_column_rank_harms_its_own_row_alone() -> None:
    toy = network_toy(HiddenUnits, network((6, 5, 3), "asinh"), 4)
    case = toy.case()
    g, gradient = case.element("g"), case.gradient(toy.params)
    sound, direction = case.act(g), toy.symmetry.ascent_direction(toy.params, gradient, toy.instance)
    toy.instance["X"][0] = 0.0
    toy.instance["X"][1] = torch.nan
    broken, crooked = case.act(g), toy.symmetry.ascent_direction(toy.params, gradient, toy.instance)
    assert not bool(torch.isfinite(broken[:2]).all(1).any())
    assert not bool(torch.isfinite(crooked[:2]).all(1).any())
    assert torch.equal(broken[2:], sound[2:])
    assert torch.equal(crooked[2:], direction[2:])


def test_more_examples_than_units_with_a_broken_row() -> None:
    toy = network_toy(HiddenUnits, network((6, 5, 3), "asinh"), 9)
    case = toy.case()
    g = case.element("g")
    sound = case.act(g)
    toy.instance["X"][0] = torch.nan
    broken = case.act(g)
    assert not bool(torch.isfinite(broken[0]).all())
    assert torch.equal(broken[1:], sound[1:])


def test_ill_conditioned_inputs_cost_accuracy_once() -> None:
    """By QR the loss is kept to eps cond(h); by Cholesky of h'h it would be eps cond(h)^2, 1e-4 here."""
    toy = network_toy(HiddenUnits, network((6, 5, 3), "asinh"), 4)
    toy.instance["X"][:, :, 1] = toy.instance["X"][:, :, 0] + 1e-6 * toy.instance["X"][:, :, 1]
    case = toy.case()
    change = case.value(case.act(case.element("g"))) / case.value(toy.params) - 1.0
    assert float(change.abs().max()) < 1e-9


def test_refusals_and_conditions() -> None:
    for make in (HiddenUnits, FirstOrder):
        with pytest.raises(ValueError, match="'relu' has none: use the symmetry 'scaling' or 'permutation'"):
            make(network((4, 4, 3), "relu"))
        with pytest.raises(ValueError, match="form must be one of 'residual', 'published', got 'residuum'"):
            make(network((4, 4, 3), "tanh"), form="residuum")
    symmetry = HiddenUnits(network((6, 4, 5, 3), "tanh", bias=True))
    assert symmetry.largest_batch == 5
    assert "at most 5 examples" in symmetry.exact_when
    assert symmetry.data_dependent
    assert not symmetry.linear


def test_flops() -> None:
    net = network((6, 5, 3), "tanh")
    n, m, k, p = 4, 6, 5, 3
    forward, inverse, factorization = 2 * k * m * n, 2 * k**3 + 2 * p * k * k, 4 * m * n * n
    exact = HiddenUnits(net, examples=n)
    assert exact.move_flops == forward + 2 * k * k * n + factorization + k * n * n + 2 * k * m * n + inverse
    assert HiddenUnits(net).move_flops == HiddenUnits(net, examples=6).move_flops
    assert FirstOrder(net, examples=n).move_flops == exact.move_flops + forward - 2 * k**3
