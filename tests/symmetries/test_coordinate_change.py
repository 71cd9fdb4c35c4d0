"""Rotations in the coordinates in which a loss is a squared distance."""

from __future__ import annotations

import math

import pytest
import torch
from toy_losses import B, affine_toy, rosenbrock_toy

from teleport_env.groups import SO, SO2
from teleport_env.symmetries import CoordinateChange, rotation_between


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm(dim=1, keepdim=True)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_rotation_between_carries_to_the_nearer_pole(n: int) -> None:
    axis = unit(normal(B, n))
    u = 3.0 * normal(B, n, seed=1)
    u[0], u[1], u[2] = 2.0 * axis[0], -2.0 * axis[1], 0.0
    across = normal(1, n, seed=2)[0]
    u[3] = across - (across * axis[3]).sum() * axis[3]  # orthogonal: both poles are equally near
    rotation = rotation_between(u, axis)
    identity = torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.mT, identity.expand_as(rotation), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(B, dtype=torch.float64))
    moved = (rotation @ u[:, :, None])[:, :, 0]
    length = u.norm(dim=1)
    torch.testing.assert_close((moved * axis).sum(1).abs(), length, rtol=1e-14, atol=1e-14)
    # the nearer pole: never more than a quarter turn
    assert bool(((moved * u).sum(1) >= -1e-12).all())
    torch.testing.assert_close(rotation[:3], identity.expand(3, n, n), rtol=0.0, atol=1e-14)
    for row in range(B):
        assert torch.equal(rotation_between(u[row : row + 1], axis[row : row + 1])[0], rotation[row])


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("maximise", [True, False])
def test_optimal_element_is_extremal_on_the_level_set(n: int, maximise: bool) -> None:
    toy = affine_toy(n)
    case = toy.case()
    symmetry = toy.symmetry
    assert isinstance(symmetry, CoordinateChange)
    best = symmetry.optimal_element("gradient_norm" if maximise else "balance_gradient", toy.params, toy.instance)
    moved = case.act(best)
    torch.testing.assert_close(case.value(moved), case.value(toy.params), rtol=1e-12, atol=0.0)
    reached = case.gradient(moved).square().sum(1)
    singular = torch.linalg.svdvals(toy.instance["A"])[:, 0 if maximise else -1]
    # g2 = 4 sigma^2 L there
    torch.testing.assert_close(reached, 4.0 * singular.square() * case.value(toy.params), rtol=1e-10, atol=0.0)
    for seed in range(20):
        other = symmetry.group.exp(3.0 * normal(B, symmetry.group.dim, seed=seed))
        there = case.gradient(case.act(other)).square().sum(1)
        assert bool(((there <= reached * (1 + 1e-12)) if maximise else (there >= reached * (1 - 1e-12))).all())
    predicted = symmetry.gradient_after(best, case.gradient(toy.params), toy.instance)
    torch.testing.assert_close(predicted, case.gradient(moved), rtol=1e-10, atol=1e-10)


def test_optimal_element_rows_are_independent_and_survive_a_broken_one() -> None:
    toy = affine_toy(5)
    symmetry = toy.symmetry
    assert isinstance(symmetry, CoordinateChange)
    together = symmetry.optimal_element("gradient_norm", toy.params, toy.instance)
    for row in range(B):
        only = torch.tensor([row])
        assert torch.equal(
            symmetry.optimal_element("gradient_norm", toy.params[only], toy.instance.select(only))[0], together[row]
        )
    toy.instance["A"][2] = torch.nan
    broken = symmetry.optimal_element("gradient_norm", toy.params, toy.instance)
    assert bool(torch.isnan(broken[2]).all())
    assert torch.equal(broken[3:], together[3:])


def test_a_singular_matrix_harms_its_own_row_alone() -> None:
    toy = affine_toy(5)
    case = toy.case()
    g, gradient = case.element("g"), case.gradient(toy.params)
    sound = toy.symmetry.gradient_after(g, gradient, toy.instance)
    toy.instance["A"][0] = 0.0
    broken = toy.symmetry.gradient_after(g, gradient, toy.instance)
    assert not bool(torch.isfinite(broken[0]).all())
    assert torch.equal(broken[1:], sound[1:])


def test_groups_and_refusals() -> None:
    assert isinstance(affine_toy(2).symmetry.group, SO2)
    assert affine_toy(4).symmetry.group == SO(4)
    toy = rosenbrock_toy()
    symmetry = toy.symmetry
    assert isinstance(symmetry, CoordinateChange)
    assert not symmetry.linear
    g = symmetry.group.exp(torch.full((B, 1), math.pi / 3, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="evaluate the gradient"):
        symmetry.gradient_after(g, toy.params, toy.instance)
    with pytest.raises(NotImplementedError, match="closed form"):
        symmetry.optimal_element("gradient_norm", toy.params, toy.instance)
    with pytest.raises(ValueError, match="dimension must be at least 2 .* got 1"):
        CoordinateChange(symmetry.forward, symmetry.backward, 1)


def test_flops() -> None:
    assert affine_toy(2).symmetry.move_flops == affine_toy(2).symmetry.gradient_flops == 0.0
    assert affine_toy(5).symmetry.move_flops == 6 * 25
    assert affine_toy(5).symmetry.gradient_flops == pytest.approx(2 / 3 * 125 + 6 * 25)
