"""Permutations: their convention, and that samples are uniform."""

import math

import pytest
import torch

from teleport_env.groups import Permutations
from teleport_env.random import Streams


def test_the_image_of_every_index() -> None:
    group = Permutations(3)
    p = torch.tensor([[1, 2, 0]])  # 0 goes to 1, 1 to 2, 2 to 0
    values = torch.tensor([[10.0, 20.0, 30.0]], dtype=torch.float64)
    moved = group.apply(p, values)
    assert moved.tolist() == [[30.0, 10.0, 20.0]]
    assert moved[0, p[0]].tolist() == values[0].tolist()
    assert (group.as_matrices(p) @ values[:, :, None])[0, :, 0].tolist() == moved[0].tolist()
    assert group.as_matrices(p).sum(dim=1).tolist() == [[1.0, 1.0, 1.0]]


def test_apply_is_an_action_on_any_trailing_shape() -> None:
    group = Permutations(5)
    streams = Streams(torch.arange(7))
    p, q = group.sample(streams), group.sample(streams)
    values = streams.normal((5, 2, 3))
    assert torch.equal(group.apply(group.compose(q, p), values), group.apply(q, group.apply(p, values)))
    assert not torch.equal(group.apply(group.compose(p, q), values), group.apply(q, group.apply(p, values)))
    assert torch.equal(group.apply(group.inverse(p), group.apply(p, values)), values)


def test_elements_are_integers_whatever_the_precision() -> None:
    group = Permutations(4)
    assert group.identity(2, torch.float32).dtype == torch.int64
    assert group.sample(Streams.from_seeds(1), dtype=torch.float32).dtype == torch.int64


def test_exp_says_what_to_do_instead() -> None:
    with pytest.raises(TypeError, match=r"S\(4\) is discrete .* draw elements with sample"):
        Permutations(4).exp(torch.zeros(1, 0))
    with pytest.raises(TypeError, match="discrete"):
        Permutations(4).retract(torch.zeros(1, 0))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_samples_are_uniform(scale: float) -> None:
    """All 24 orders of four things, by chi-squared with 23 degrees of freedom."""
    count = 24_000
    element = Permutations(4).sample(Streams(torch.arange(count)), scale=scale)
    code = (element * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    found, times = torch.unique(code, return_counts=True)
    assert len(found) == 24
    statistic = float(((times - count / 24) ** 2 / (count / 24)).sum())
    assert statistic < 23 + 5 * math.sqrt(2 * 23)


def test_small_scales_move_few_and_stay_permutations() -> None:
    group = Permutations(50)
    own = torch.arange(50)
    shares = []
    for scale in (0.0, 0.1, 0.5, 1.0):
        element = group.sample(Streams(torch.arange(200)), scale=scale)
        assert bool(group.contains(element).all())
        shares.append(float((element != own).double().mean()))
    # of m chosen, one stays at its place on average
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.08, abs=0.01)
    assert shares[2] == pytest.approx(0.48, abs=0.02)
    assert shares[3] == pytest.approx(0.98, abs=0.01)


def test_contains_asks_for_every_index_once() -> None:
    elements = torch.tensor([[2, 0, 1], [0, 0, 1], [1, 2, 3]])
    assert Permutations(3).contains(elements).tolist() == [True, False, False]
