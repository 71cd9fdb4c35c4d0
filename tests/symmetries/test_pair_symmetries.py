"""Linear actions on the pairs of a chain, and the action on inputs: closed forms and refusals."""

from __future__ import annotations

import pickle

import pytest
import torch
from toy_losses import B, Toy, network, network_toy, toys

from teleport_env.groups import GL, SO, Permutations
from teleport_env.symmetries import (
    InputTransform,
    Layers,
    LinearPairs,
    PermutationSymmetry,
    ScalingSymmetry,
    activation,
    gram_matrices,
    product,
)

TOYS = toys()


def gradient_norm2_after(g: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """``tr(S^-1 A) + tr(S B)`` with ``S = g'g``: the squared gradient norm of one pair after the move by ``g``."""
    inverse = torch.linalg.inv_ex(g)[0]
    return (product(inverse, inverse.mT) * lower).sum((1, 2)) + (product(g.mT, g) * upper).sum((1, 2))


def finite_difference(toy: Toy, step: float = 1e-5) -> torch.Tensor:
    """Central differences of ``|grad L(exp(xi).w)|^2`` at 0."""
    case, group = toy.case(), toy.symmetry.group
    columns = []
    for index in range(group.dim):
        xi = torch.zeros(B, group.dim, dtype=torch.float64)
        xi[:, index] = step
        ends = [case.gradient(case.act(group.exp(sign * xi))).square().sum(1) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * step))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize(
    "name",
    [
        "linear, three pairs",
        "linear, three pairs with bias",
        "scaling, leaky ReLU with bias",
        "hidden units, asinh with bias",
        "hidden units, leaky_relu",
        "affine 5",
    ],
)
def test_ascent_direction_against_finite_differences(name: str) -> None:
    toy = TOYS[name]
    direction = toy.symmetry.ascent_direction(toy.params, toy.case().gradient(toy.params), toy.instance)
    expected = finite_difference(toy)
    torch.testing.assert_close(direction, expected, rtol=0.0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["linear, three pairs", "linear, three pairs with bias", "linear, one pair"])
def test_gradient_norm_of_one_pair_from_gram_matrices(name: str) -> None:
    toy = TOYS[name]
    case, symmetry = toy.case(), toy.symmetry
    gradient = case.gradient(toy.params)
    before = gradient.square().sum(1)
    for index, pair in enumerate(symmetry.pairs(gradient, toy.instance)):
        g = list(case.identity())
        g[index] = case.element("g")[index]  # type: ignore[index]
        after = case.gradient(case.act(tuple(g))).square().sum(1)
        lower, upper = gram_matrices(pair)
        rest = before - pair.lower.square().sum((1, 2)) - pair.upper.square().sum((1, 2))
        torch.testing.assert_close(gradient_norm2_after(g[index], lower, upper) + rest, after, rtol=1e-11, atol=0.0)
        xi = torch.zeros(B, lower.shape[1] ** 2, dtype=torch.float64, requires_grad=True)
        moved = GL(lower.shape[1]).exp(xi)
        (derivative,) = torch.autograd.grad(gradient_norm2_after(moved, lower, upper).sum(), xi)
        torch.testing.assert_close(derivative, 2.0 * (upper - lower).flatten(1), rtol=1e-12, atol=1e-12)


def test_pairs_are_views_without_the_upper_bias() -> None:
    layers = Layers((3, 4, 5, 2), bias=True)
    vector = torch.zeros(B, layers.num_params, dtype=torch.float64)
    pairs = LinearPairs(layers).pairs(vector, TOYS["linear, one pair"].instance)
    assert [(pair.lower.shape[1:], pair.upper.shape[1:]) for pair in pairs] == [((4, 4), (5, 4)), ((5, 5), (2, 5))]
    for pair in pairs:
        pair.lower.add_(1.0)
        pair.upper.add_(1.0)
    # the middle matrix is in both pairs, its bias column in the upper role in neither, the last bias in none
    expected = [torch.ones(4, 4), torch.full((5, 5), 2.0), torch.ones(2, 6)]
    expected[1][:, -1] = 1.0
    expected[2][:, -1] = 0.0
    for got, wanted in zip(layers.weights(vector), expected, strict=True):
        assert torch.equal(got[0], wanted.to(torch.float64))


def test_scaling_is_the_diagonal_part_of_the_linear_action() -> None:
    net = network((3, 4, 2, 5), "identity", bias=True)
    toy = network_toy(lambda n: ScalingSymmetry(n.layers), net, 6)
    general = LinearPairs(net.layers)
    d = toy.case().element("g")
    matrices = toy.symmetry.group.as_matrices(d)
    gradient = toy.case().gradient(toy.params)
    for a, b in [
        (toy.symmetry.act(d, toy.params, toy.instance), general.act(matrices, toy.params, toy.instance)),
        (
            toy.symmetry.gradient_after(d, gradient, toy.instance),
            general.gradient_after(matrices, gradient, toy.instance),
        ),
    ]:
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_permutation_is_its_matrix() -> None:
    net = network((3, 4, 6, 5), "identity", bias=True)
    toy = network_toy(lambda n: PermutationSymmetry(n.layers), net, 6)
    p = toy.case().element("g")
    matrices = toy.symmetry.group.as_matrices(p)
    expected = LinearPairs(net.layers).act(matrices, toy.params, toy.instance)
    torch.testing.assert_close(toy.symmetry.act(p, toy.params, toy.instance), expected, rtol=1e-14, atol=1e-14)
    assert Permutations(4) == toy.symmetry.group.factors[0]  # type: ignore[attr-defined]
    norm = toy.case().gradient(toy.symmetry.act(p, toy.params, toy.instance)).square().sum(1)
    torch.testing.assert_close(norm, toy.case().gradient(toy.params).square().sum(1))
    assert toy.symmetry.pairs(toy.params, toy.instance) == []
    with pytest.raises(NotImplementedError, match="discrete"):
        toy.symmetry.ascent_direction(toy.params, toy.params, toy.instance)


def test_input_moves_compose_for_inference() -> None:
    """Algorithm 3: a new input goes through the composition of all moves before it meets the moved weights."""
    net = network((4, 5, 3), "tanh", bias=True)
    toy = network_toy(InputTransform, net, 6)
    case, symmetry = toy.case(), toy.symmetry
    assert symmetry.moves_data
    first, second = case.element("first"), case.element("second")
    params = symmetry.act(second, symmetry.act(first, toy.params, toy.instance), toy.instance)
    total = symmetry.group.compose(second, first)
    fresh = toy.instance["X"].flip(2).square()
    moved = symmetry.move_data(total, fresh, toy.instance)
    torch.testing.assert_close(net.forward(params, moved), net.forward(toy.params, fresh), rtol=1e-11, atol=1e-12)
    assert symmetry.move_flops == 2 * 4**3 + 2 * 5 * 4**2
    gradient = case.gradient(toy.params)
    rotation = InputTransform(net, group=SO(4))
    g = rotation.group.exp(torch.randn(B, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    after = rotation.gradient_after(g, gradient, toy.instance)
    torch.testing.assert_close(after.square().sum(1), gradient.square().sum(1))
    with pytest.raises(ValueError, match=r"have 4 components, and GL\(3\) acts on 3"):
        InputTransform(net, group=GL(3))


def test_flops_of_a_linear_chain() -> None:
    symmetry = LinearPairs(Layers((3, 4, 5), bias=True))
    assert symmetry.move_flops == symmetry.gradient_flops == 2 * 4**3 + 2 * 4**2 * (4 + 5)
    assert ScalingSymmetry(Layers((3, 4, 5))).move_flops == 9 * (3 * 4 + 4 * 5) + 54 * 4 + 160


def test_refusals_name_the_alternatives() -> None:
    with pytest.raises(ValueError, match=r"no hidden layer .*\(input, hidden, output\)"):
        LinearPairs(Layers((3, 4)))
    with pytest.raises(ValueError, match=r"homogeneous activation .*'leaky_relu'.*got 'tanh': use 'general_linear'"):
        ScalingSymmetry(Layers((3, 4, 2)), activation("tanh"))
    toy = TOYS["linear, one pair"]
    with pytest.raises(TypeError, match="tuple"):
        toy.symmetry.act(torch.eye(4).expand(B, 4, 4), toy.params, toy.instance)


@pytest.mark.parametrize("name", [name for name in TOYS if "published" not in name and "affine" not in name])
def test_symmetries_pickle(name: str) -> None:
    symmetry = TOYS[name].symmetry
    again = pickle.loads(pickle.dumps(symmetry))
    case = TOYS[name].case()
    g = case.element("g")
    assert torch.equal(again.act(g, case.params, case.instance), case.act(g))
