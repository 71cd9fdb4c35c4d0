"""Trails give what walking point by point gives: the same loss, the same gradient, the same place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from search_cases import start_of

from teleport_env.arrays import NUMPY, TORCH, Arrays
from teleport_env.instances import Instance
from teleport_env.problems import LinearNetwork, MLPRegression
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.searches import Start, search_from
from teleport_env.searches.fast.linear_chain import LinearTrail, ReducedChain, reduced
from teleport_env.searches.fast.low_rank import LowRank, exponentials, moved_by
from teleport_env.searches.trail_choice import trail_of
from teleport_env.searches.trails import PointTrail, Trail
from teleport_env.symmetries import LinearChain, LinearPairs


class Kinked(MLPRegression):
    """Weights of both signs, so that both sides of the leaky ReLU are met."""

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        instance = super().sample(generator, count, split)
        instance.start.sub_(0.5)
        return instance


def wide(name: str) -> tuple[Problem, str]:
    """Problems with few examples for their widths."""
    if name == "linear":
        return LinearNetwork(widths=(11, 16, 20, 9), samples=3), "general_linear"
    if name == "partly":
        return LinearNetwork(widths=(2, 16, 5, 9), samples=3), "general_linear"
    if name == "hidden":
        return MLPRegression(widths=(9, 12, 13, 10), samples=4, activation="asinh"), "general_linear"
    if name == "bias":
        return MLPRegression(widths=(9, 12, 13, 10), samples=4, bias=True), "general_linear"
    if name == "kinked":
        return Kinked(widths=(9, 12, 13, 10), samples=4), "general_linear"
    return MLPRegression(widths=(9, 12, 13, 10), samples=4, bias=True), "scaling"


NAMES = ["linear", "partly", "hidden", "bias", "kinked", "scaling"]


def start(name: str, ids: tuple[int, ...] = (1, 2, 3)) -> tuple[Problem, Start]:
    problem, symmetry = wide(name)
    return problem, start_of(problem, problem.symmetries[symmetry], list(ids))


def walked(trail: Trail, steps: int, length: float, retract: bool) -> Any:
    place = trail.begin()
    for _ in range(steps):
        direction = trail.direction(place, "auto", relative=False)
        place = trail.along(place, direction, length / trail.length(direction), retract)
    return place.norm2, trail.end(place)


@pytest.mark.parametrize("retract", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_trail_ends_where_points_do(name: str, retract: bool) -> None:
    problem, begin = start(name)
    fast, slow = trail_of(begin, "auto"), PointTrail(start(name)[1])
    assert type(fast) is not PointTrail
    norm2, point = walked(fast, 3, 0.2, retract)
    slow_norm2, slow_point = walked(slow, 3, 0.2, retract)
    torch.testing.assert_close(point.params, slow_point.params, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(norm2, slow_norm2, rtol=1e-9, atol=0.0)
    loss, gradient = problem.loss_and_gradient(point.params, begin.instance)
    torch.testing.assert_close(point.loss, loss, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(point.gradient, gradient, rtol=1e-8, atol=1e-9 * float(gradient.abs().max()))


@pytest.mark.parametrize("name", ["linear", "partly"])
@pytest.mark.parametrize("objective", ["balance_gradient", "gradient_norm", "relative"])
def test_closed_forms_on_the_smaller_chain_are_those_of_the_whole(name: str, objective: str) -> None:
    spec = {"search": "closed_form", "objective": objective, "trust_radius": 0.7}
    _, begin = start(name)
    assert isinstance(begin.symmetry, LinearPairs)
    found = search_from(spec).find(begin)
    begin.symmetry = LinearPairs(begin.symmetry.layers)  # the same without a bound on the rank
    whole = search_from(spec).find(begin)
    assert bool(found.moved.all())
    # the minimum where the trust region cuts it depends on how rounding turns the basis of what no gradient spans
    tolerance = 0.05 if objective == "balance_gradient" else 1e-7
    torch.testing.assert_close(found.gradient.square().sum(1), whole.gradient.square().sum(1), rtol=tolerance, atol=0.0)


def test_the_smaller_chain_has_the_announced_widths_and_norm() -> None:
    for name in ("linear", "partly"):
        _, begin = start(name)
        whole = begin.symmetry.shortcut
        assert isinstance(whole, LinearChain)
        chain = ReducedChain(whole, begin.gradient)
        assert chain.symmetry is reduced(whole)
        assert chain.gradient.shape[1] == chain.symmetry.layers.num_params < whole.layers.num_params
        torch.testing.assert_close(chain.gradient.square().sum(1), begin.gradient.square().sum(1))
        torch.testing.assert_close(chain.gradients(chain.gradient), begin.gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("search", ["gradient_ascent", "normalized_ascent", "balance_gradient"])
def test_rows_do_not_depend_on_their_neighbours(name: str, search: str) -> None:
    problem, _ = start(name)
    spec: dict[str, Any] = {"search": search}
    if search == "gradient_ascent":
        spec |= {"rate": 1e-5, "steps": 3}
    try:
        search_from(spec).check(problem, start(name)[1].symmetry)
    except ValueError:
        pytest.skip("no closed form")
    together = search_from(spec).find(start(name, (4, 5, 6, 7, 8))[1])
    for row, identity in enumerate((4, 5, 6, 7, 8)):
        alone = search_from(spec).find(start(name, (identity,))[1])
        assert torch.equal(together.params[row], alone.params[0])
        assert torch.equal(together.gradient[row], alone.gradient[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("search", ["gradient_ascent", "normalized_ascent", "balance_gradient", "closed_form"])
def test_tensors_give_what_numpy_does(monkeypatch: pytest.MonkeyPatch, name: str, search: str) -> None:
    """What runs on other devices, on this one."""
    problem, begin = start(name)
    spec: dict[str, Any] = {"search": search}
    if search == "gradient_ascent":
        spec |= {"rate": 1e-5, "steps": 3}
    try:
        search_from(spec).check(problem, begin.symmetry)
    except ValueError:
        pytest.skip("no closed form")
    fast = search_from(spec).find(begin)
    for module in ("base", "trails", "ascent", "fast.scalings", "pair_algebra"):
        monkeypatch.setattr(f"teleport_env.searches.{module}.arrays_of", lambda device: TORCH)
    monkeypatch.setattr("teleport_env.symmetries.positive_scaling.arrays_of", lambda device: TORCH)
    other = search_from(spec).find(start(name)[1])
    assert torch.equal(fast.moved, other.moved)
    assert torch.equal(fast.status, other.status)
    torch.testing.assert_close(other.params, fast.params, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(other.gradient, fast.gradient, rtol=1e-6, atol=1e-8 * float(fast.gradient.abs().max()))


@pytest.mark.parametrize("xp", [NUMPY, TORCH])
@pytest.mark.parametrize("size", [1e-9, 0.04, 0.5, 6.0])
def test_low_rank_elements(xp: Arrays, size: float) -> None:
    generator = torch.Generator().manual_seed(1)
    left, right, other = (
        torch.randn(3, 12, columns, generator=generator, dtype=torch.float64) for columns in (4, 4, 5)
    )
    direction = LowRank.of(xp, xp.view(torch.cat([left, 1e6 * right], dim=2)))
    factor = size / direction.norm2**0.5
    whole = xp.tensor(factor)[:, None, None] * left @ (1e6 * right).mT
    element = torch.matrix_exp(whole)
    moved = moved_by(direction, factor, retract=False)
    torch.testing.assert_close(xp.tensor(moved.times(xp.view(other))), element @ other)
    inverse = torch.linalg.inv(element)
    from_right = xp.tensor(moved.from_right(xp.view(other).swapaxes(1, 2)))
    torch.testing.assert_close(from_right, other.mT @ inverse, rtol=1e-9, atol=1e-9)
    forth, back = map(xp.tensor, exponentials(xp, xp.view(whole)))
    torch.testing.assert_close(forth, element)
    torch.testing.assert_close(back, inverse, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("xp", [NUMPY, TORCH])
def test_rows_of_exponentials_do_not_depend_on_their_neighbours(xp: Arrays) -> None:
    generator = torch.Generator().manual_seed(2)
    sizes = torch.tensor([1e-3, 0.3, 0.9, 3.0, 40.0], dtype=torch.float64)  # of every path, and all at once
    matrices = sizes[:, None, None] * torch.randn(5, 7, 7, generator=generator, dtype=torch.float64) / 7.0
    together = exponentials(xp, xp.view(matrices))
    for row in range(5):
        for one, all_rows in zip(exponentials(xp, xp.view(matrices[row : row + 1])), together, strict=True):
            assert torch.equal(xp.tensor(one[0]), xp.tensor(all_rows[row]))


@pytest.mark.parametrize("xp", [NUMPY, TORCH])
def test_a_row_that_is_not_finite_harms_nobody(xp: Arrays) -> None:
    whole = torch.full((2, 3, 3), 0.1, dtype=torch.float64)
    whole[1, 0, 0] = torch.inf
    with xp.quiet():
        forth, back = map(xp.tensor, exponentials(xp, xp.view(whole)))
        alone = xp.tensor(exponentials(xp, xp.view(whole[:1]))[0])
    assert bool(torch.isnan(forth[1]).all())
    assert bool(torch.isnan(back[1]).all())
    assert torch.equal(forth[0], alone[0])


def test_linear_trails_are_for_linear_chains() -> None:
    assert isinstance(trail_of(start("linear")[1], "auto"), LinearTrail)
    assert type(trail_of(start("linear")[1], "double_backward")) is PointTrail
