"""The layout of feed-forward networks, and products whose bits do not depend on the number of runs."""

from __future__ import annotations

import itertools
import pickle
import warnings

import pytest
import torch
from toy_losses import network

from teleport_env.symmetries import Layers, product

B = 7


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_weights_are_views_stored_row_by_row() -> None:
    layers = Layers((2, 3, 1), bias=True)
    assert layers.num_params == 3 * 3 + 1 * 4
    assert layers.hidden == (3,)
    vector = torch.arange(2.0 * layers.num_params).reshape(2, -1)
    first, second = layers.weights(vector)
    assert torch.equal(first[0], torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]))
    assert torch.equal(second[1], torch.tensor([[22.0, 23.0, 24.0, 25.0]]))
    assert torch.equal(layers.flatten([first, second]), vector)
    first[0, 0, 0] = -1.0
    assert vector[0, 0] == -1.0
    assert [w.shape for w in layers.weights(vector[:, :].index_select(0, torch.tensor([1])))] == [(1, 3, 3), (1, 1, 4)]


def test_layers_refuse_what_they_cannot_lay_out() -> None:
    with pytest.raises(ValueError, match=r"widths must be at least two positive integers .*got \(3,\)"):
        Layers((3,))
    with pytest.raises(ValueError, match=r"got \(3, 0, 2\)"):
        Layers((3, 0, 2))
    with pytest.raises(ValueError, match=r"has \(B, 16\) parameters, got \(2, 15\)"):
        Layers((3, 4, 1)).weights(torch.zeros(2, 15))
    with pytest.raises(ValueError, match="has 2 matrices, got 1"):
        Layers((3, 4, 1)).flatten([torch.zeros(2, 4, 3)])


@pytest.mark.parametrize("bias", [False, True])
def test_forward_is_the_network(bias: bool) -> None:
    net = network((3, 4, 2), "tanh", bias)
    params, data = 0.3 * normal(B, net.layers.num_params), normal(B, 3, 5, seed=1)
    first, second = net.layers.weights(params)
    ones = torch.ones(B, 1, 5, dtype=torch.float64)
    h = torch.cat([data, ones], dim=1) if bias else data
    assert torch.equal(net.augmented(data), h)
    a = net.activation(first @ h)
    expected = second @ (torch.cat([a, ones], dim=1) if bias else a)
    torch.testing.assert_close(net.forward(params, data), expected, rtol=1e-13, atol=1e-14)
    values, outputs = net.layer_values(params, data)
    assert values[0] is data
    torch.testing.assert_close(values[1], a)
    assert torch.equal(outputs[1], net.forward(params, data))
    assert net.gradient_flops(5) == 3 * 2 * 5 * net.layers.num_params


def test_networks_pickle() -> None:
    net = network((3, 4, 2), "tanh", True)
    assert pickle.loads(pickle.dumps(net)) == net


def test_product_of_a_diverged_run_warns_of_nothing() -> None:
    left, right = normal(2, 3, 3), normal(2, 3, 3, seed=1)
    left[0] = 1e300
    right[0] = torch.tensor([1e300, -1e300, 1e300])[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = product(left, right)
    assert not bool(torch.isfinite(found[0]).any())
    assert bool(torch.isfinite(found[1]).all())


@pytest.mark.parametrize("mode", ["own", "expanded", "strided"])
def test_product_gives_the_same_bits_alone_and_among_others(mode: str) -> None:
    for m, k, n in itertools.product((1, 2, 5, 33, 200), repeat=3):
        left, right = normal(B, m, k), normal(B, k, n, seed=1)
        if mode == "expanded":
            right = right[:1].expand(B, -1, -1)
        if mode == "strided":
            left, right = normal(B, m, k + 1)[:, :, :-1], normal(B, n, k, seed=1).mT
        together = product(left, right)
        torch.testing.assert_close(together, left @ right, rtol=1e-11, atol=1e-12)
        for row in (0, 3, 6):
            alone = product(left[row : row + 1], right[row : row + 1])[0]
            assert torch.equal(alone, together[row]), (m, k, n, row)


@pytest.mark.parametrize("widths", [(1, 1, 1), (3, 2, 1), (1, 64, 33, 1), (64, 32, 32, 10), (200, 7, 2)])
@pytest.mark.parametrize("examples", [1, 5, 64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_loss_and_gradient_have_independent_rows(
    widths: tuple[int, ...], examples: int, bias: bool, shared: bool
) -> None:
    net = network(widths, "tanh", bias)
    params = 0.3 * normal(B, net.layers.num_params)
    data = normal(1, widths[0], examples, seed=1).expand(B, -1, -1) if shared else normal(B, widths[0], examples)

    def loss_and_gradient(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        w = params[rows].clone().requires_grad_(True)
        loss = net.forward(w, data[rows]).square().sum((1, 2))
        return loss.detach(), torch.autograd.grad(loss.sum(), w)[0]

    losses, gradients = loss_and_gradient(slice(None))
    for row in range(B):
        loss, gradient = loss_and_gradient(slice(row, row + 1))
        assert torch.equal(loss[0], losses[row])
        assert torch.equal(gradient[0], gradients[row])
