"""Activations: bijective, smooth where they say so, the same bits in every row."""

from __future__ import annotations

import pickle

import pytest
import torch

from teleport_env.symmetries import activation, activation_names
from teleport_env.symmetries.activations import Sigmoid, Tanh, bijective_names, homogeneous_names

GRID = torch.linspace(-9.0, 9.0, 2002, dtype=torch.float64)  # without the kinks at 0, 2 and 4


@pytest.mark.parametrize("name", bijective_names())
def test_the_inverse_undoes(name: str) -> None:
    s = activation(name)
    torch.testing.assert_close(s.inverse(s(GRID)), GRID, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(s(s.inverse(GRID)), GRID, rtol=1e-13, atol=1e-14)
    assert bool((s(GRID).diff() > 0).all())
    single = GRID.to(torch.float32)
    assert s(single).dtype == s.inverse(single).dtype == torch.float32
    torch.testing.assert_close(s.inverse(s(single)), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", activation_names())
def test_derivatives_are_those_of_autograd(name: str) -> None:
    s = activation(name)
    z = GRID.clone().requires_grad_(True)
    (first,) = torch.autograd.grad(s(z).sum(), z, create_graph=True)
    torch.testing.assert_close(s.derivative(GRID), first.detach(), rtol=1e-13, atol=1e-15)
    second = torch.autograd.grad(first.sum(), z)[0] if first.requires_grad else torch.zeros_like(GRID)
    torch.testing.assert_close(s.second_derivative(GRID), second, rtol=1e-12, atol=1e-15)
    assert s.derivative(GRID.to(torch.float32)).dtype == torch.float32


@pytest.mark.parametrize("name", activation_names())
def test_homogeneous_means_commuting_with_positive_factors(name: str) -> None:
    s = activation(name)
    commutes = torch.allclose(s(3.0 * GRID), 3.0 * s(GRID), rtol=1e-12, atol=0.0)
    assert commutes is s.homogeneous is (name in homogeneous_names())


@pytest.mark.parametrize("s", [Tanh(), Sigmoid()], ids=lambda s: s.name)
def test_the_continuation_is_smooth_and_agrees_inside(s: Tanh | Sigmoid) -> None:
    inside = GRID[GRID.abs() <= s.limit]
    plain = torch.tanh(inside) if isinstance(s, Tanh) else torch.sigmoid(inside)
    torch.testing.assert_close(s(inside), plain, rtol=1e-14, atol=1e-15)
    for c in (s.limit, -s.limit):
        around = torch.tensor([c - 1e-7, c, c + 1e-7], dtype=torch.float64)
        # C^1: no jump of the value, none of the slope
        assert float(s(around).diff().max()) < 3e-7 * float(s.derivative(around).max())
        assert float(s.derivative(around).diff().abs().max()) < 1e-7
    far = torch.tensor([s.limit, 1e6], dtype=torch.float64)
    slope, origin = s.derivative(far), s.derivative(torch.zeros(1, dtype=torch.float64))
    assert torch.equal(slope[0], slope[1])
    assert 0.07 < float(slope[1] / origin) < 0.071


@pytest.mark.parametrize("name", activation_names())
@pytest.mark.parametrize("width", [1, 3, 37, 130])
def test_rows_do_not_depend_on_their_neighbours(name: str, width: int) -> None:
    s = activation(name)
    z = 3.0 * torch.randn(7, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(width))
    functions = [s, s.derivative, s.second_derivative] + ([s.inverse] if s.bijective else [])
    for function in functions:
        together = function(z)
        for row in range(7):
            assert torch.equal(function(z[row : row + 1].clone())[0], together[row]), (function, row)


@pytest.mark.parametrize("name", activation_names())
def test_pickles(name: str) -> None:
    assert pickle.loads(pickle.dumps(activation(name))) == activation(name)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="one of .*'tanh'.*got 'gelu'. Did you mean 'relu'"):
        activation("gelu")
    with pytest.raises(ValueError, match="'relu' has no inverse; use one of 'identity'"):
        activation("relu").inverse(GRID)
