"""Products: how coordinates and elements are laid out, and what mixing discrete factors means."""

import pytest
import torch

from teleport_env.groups import GL, SO2, Permutations, PositiveScaling, Product, map_element, select, where
from teleport_env.random import Streams


def test_coordinates_are_the_factors_one_after_the_other() -> None:
    group = Product(PositiveScaling(2), SO2())
    assert (group.name, group.dim) == ("R+^2 x SO(2)", 3)
    xi = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    for method in ("exp", "retract"):
        scaling, rotation = getattr(group, method)(xi)
        assert torch.equal(scaling, getattr(PositiveScaling(2), method)(xi[:, :2]))
        assert torch.equal(rotation, getattr(SO2(), method)(xi[:, 2:]))
    assert torch.equal(group.coordinates(group.algebra(xi)), xi)


def test_flops_add_up() -> None:
    assert Product(GL(3), GL(2), SO2()).exp_flops == GL(3).exp_flops + GL(2).exp_flops


def test_one_factor_is_still_a_tuple() -> None:
    group = Product(GL(2))
    xi = torch.zeros(3, 4, dtype=torch.float64)
    for element in (group.exp(xi), group.identity(3), group.sample(Streams.from_seeds([1, 2, 3]))):
        assert isinstance(element, tuple)
        assert len(element) == 1
        assert element[0].shape == (3, 2, 2)


def test_factors_are_sampled_independently() -> None:
    first, second = Product(GL(2), GL(2)).sample(Streams.from_seeds([1, 2]))
    assert not torch.equal(first, second)


def test_a_discrete_factor_leaves_no_exponential() -> None:
    mixed = Product(GL(2), Permutations(3))
    assert mixed.dim == 0
    assert not mixed.continuous
    assert mixed.exp_flops == 0.0
    for call in (mixed.exp, mixed.retract, mixed.algebra):
        with pytest.raises(TypeError, match=r"because S\(3\) is discrete"):
            call(torch.zeros(1, 0))
    assert Product(Permutations(3), Permutations(2)).dim == 0


def test_bad_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one group"):
        Product()
    with pytest.raises(TypeError, match=r"must be groups, got 3 of type int"):
        Product(GL(2), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unpack it"):
        Product(Product(GL(2)), GL(2))


def test_foreign_elements_are_refused() -> None:
    group = Product(GL(2), GL(2))
    with pytest.raises(TypeError, match="tuple of 2 tensors, got Tensor"):
        group.inverse(torch.eye(2)[None])
    with pytest.raises(TypeError, match="tuple of 2 tensors, got a tuple of 1"):
        group.inverse((torch.eye(2)[None],))


def test_rows_are_selected_and_merged_in_every_factor() -> None:
    group = Product(GL(2), PositiveScaling(3))
    streams = Streams.from_seeds([1, 2, 3])
    a, b = group.sample(streams), group.sample(streams)
    mask = torch.tensor([True, False, True])
    merged = where(mask, a, b)
    assert isinstance(merged, tuple)
    for part, x, y in zip(merged, a, b, strict=True):
        assert torch.equal(part[0], x[0])
        assert torch.equal(part[1], y[1])
    chosen = select(a, torch.tensor([2]))
    assert torch.equal(chosen[1], a[1][2:])
    doubled = map_element(lambda part: 2 * part, a)
    assert torch.equal(doubled[0], 2 * a[0])


def test_contains_asks_every_factor() -> None:
    element = Product(GL(1), PositiveScaling(1)).identity(3)
    element[0][1] = 0.0
    element[1][2] = -1.0
    assert Product(GL(1), PositiveScaling(1)).contains(element).tolist() == [True, False, False]
