"""Closed forms on whole problems."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from search_cases import LEARNING_RATES, problem_named, start_of

from teleport_env.problems.linear_network import LinearNetwork
from teleport_env.random import Streams
from teleport_env.searches import ClosedForm, Grid, NormalizedAscent, Start
from teleport_env.searches.base import Found
from teleport_env.symmetries.base import Pair


def start_at(problem_name: str, symmetry: str, ids: list[int] | None = None, split: str = "train") -> Start:
    problem = problem_named(problem_name)
    ids = [0, 1, 2, 3] if ids is None else ids
    return start_of(problem, problem.symmetries[symmetry], ids, LEARNING_RATES[problem_name], split)


def g2(found: Found | Start) -> torch.Tensor:
    return found.gradient.square().sum(dim=1)


def test_booth_reaches_its_largest_gradient() -> None:
    """Along the published run the largest squared gradient norm on a level set is 36 L."""
    start = start_at("Booth", "rotation", [0], split="paper")
    found = ClosedForm().find(start)
    torch.testing.assert_close(g2(found), 36.0 * start.loss, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(found.loss, start.loss)
    by_grid = Grid().find(start_at("Booth", "rotation", [0], split="paper"))
    # 65 equally spaced angles: at most half a spacing away, where g2 = L (4 + 32 cos^2)
    assert 36.0 * 0.997 < float(g2(by_grid) / start.loss) <= 36.0 * (1 + 1e-12)


def test_the_grid_goes_all_around_the_circle() -> None:
    """In Rosenbrock's coordinates the two halves of the circle are not alike; the best angle lies in either."""
    ids, points = list(range(20)), 128
    angles = torch.arange(1, points + 1, dtype=torch.float64) * (2 * torch.pi / (points + 1))
    where = []
    for objective, sign in (("gradient_norm", 1.0), ("balance_gradient", -1.0)):
        start = start_at("Rosenbrock", "rotation", ids)
        elements = start.symmetry.group.exp(angles[:, None])
        found = Grid(points=points, objective=objective).find(start)
        for row in found.moved.nonzero()[:, 0].tolist():
            rows = torch.full((points,), row)
            params = start.symmetry.act(elements, start.params[rows], start.instance.select(rows))
            gradient = start.evaluator.problem.loss_and_gradient(params, start.instance.select(rows))[1]
            best = int((sign * gradient.square().sum(1)).argmax())
            where.append(float(angles[best]))
            torch.testing.assert_close(found.params[row], params[best])
    assert min(where) < torch.pi < max(where)


def test_booth_reaches_its_smallest_gradient() -> None:
    start = start_at("Booth", "rotation", [0], split="paper")
    found = ClosedForm(objective="balance_gradient").find(start)
    torch.testing.assert_close(g2(found), 4.0 * start.loss, rtol=1e-12, atol=0.0)


def test_quadratic_reaches_the_top_eigenvector() -> None:
    start = start_at("Quadratic", "rotation")
    found = ClosedForm().find(start)
    root = start.symmetry.matrix(start.instance)  # type: ignore[attr-defined]
    largest = torch.linalg.eigvalsh(root.mT @ root)[:, -1]
    torch.testing.assert_close(g2(found), 4.0 * largest * start.loss, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("objective", ["balance_gradient", "balance_weights"])
@pytest.mark.parametrize("symmetry", ["general_linear", "scaling"])
@pytest.mark.parametrize("widths", [(8, 4, 4, 8), (8, 4, 4, 4, 8)])
def test_sweeps_over_a_chain_converge_to_a_stationary_point(
    widths: tuple[int, ...], symmetry: str, objective: str
) -> None:
    """Where the layers have full rank; elsewhere the minimum lies at infinity and the trust region decides."""
    problem = LinearNetwork(widths=widths, samples=12)
    slopes = []
    for sweeps in (1, 3, 300):
        start = start_of(problem, problem.symmetries[symmetry], [0, 1, 2], 0.01)
        found = ClosedForm(objective=objective, sweeps=sweeps, trust_radius=20.0).find(start)
        assert bool(found.moved.all())
        vector = found.params if objective == "balance_weights" else found.gradient
        slopes.append(float(_slope(start.symmetry.pairs(vector, start.instance), symmetry)))
    assert slopes[1] < slopes[0]
    assert slopes[2] < 1e-6 < slopes[0]


def _slope(pairs: list[Pair], symmetry: str) -> torch.Tensor:
    """Largest relative difference of the two Gram matrices of any pair, which vanishes where the norm is stationary."""
    differences = []
    for pair in pairs:
        below, above = pair.lower @ pair.lower.mT, pair.upper.mT @ pair.upper
        if symmetry == "scaling":
            below, above = torch.diagonal(below, dim1=1, dim2=2), torch.diagonal(above, dim1=1, dim2=2)
        differences.append((below - above).abs().amax() / (below.abs().amax() + above.abs().amax()))
    return torch.stack(differences).max()


@pytest.mark.parametrize("objective", ["balance_gradient", "balance_weights", "gradient_norm"])
@pytest.mark.parametrize("symmetry", ["general_linear", "scaling"])
def test_no_sweep_worsens_a_chain(symmetry: str, objective: str) -> None:
    sign = 1.0 if objective == "gradient_norm" else -1.0
    scores = []
    for sweeps in (1, 2, 3, 9):
        found = ClosedForm(objective=objective, sweeps=sweeps, trust_radius=0.4).find(
            start_at("LinearNetwork", symmetry)
        )
        vector = found.params if objective == "balance_weights" else found.gradient
        scores.append(sign * vector.square().sum(dim=1))
    for fewer, more in pairwise(scores):
        assert bool((more >= fewer * (1 - sign * 1e-12)).all())


@pytest.mark.parametrize("objective", ["balance_gradient", "balance_weights", "gradient_norm"])
def test_no_random_scaling_in_the_trust_region_beats_a_single_pair(objective: str) -> None:
    radius = 0.6
    best = ClosedForm(objective=objective, trust_radius=radius).find(start_at("MatrixFactorization", "scaling"))
    start = start_at("MatrixFactorization", "scaling")
    sign = 1.0 if objective == "gradient_norm" else -1.0

    def score(params: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return sign * (params if objective == "balance_weights" else gradient).square().sum(dim=1)

    reached = score(best.params, best.gradient)
    streams = Streams.from_seeds([0, 1, 2, 3])
    for _ in range(300):
        element = (torch.exp(streams.uniform(-radius, radius, (3,))),)
        params = start.symmetry.act(element, start.params, start.instance)
        gradient = start.symmetry.gradient_after(element, start.gradient, start.instance)
        assert bool((score(params, gradient) <= reached * (1 + sign * 1e-12)).all())


@pytest.mark.parametrize("objective", ["balance_gradient", "balance_weights", "gradient_norm"])
def test_no_random_element_in_the_trust_region_beats_a_single_pair(objective: str) -> None:
    """The maximum is global in the region, the balanced points are so where the region holds them (radius 10)."""
    radius = 0.6 if objective == "gradient_norm" else 10.0
    best = ClosedForm(objective=objective, trust_radius=radius).find(start_at("MatrixFactorization", "general_linear"))
    start = start_at("MatrixFactorization", "general_linear")
    sign = 1.0 if objective == "gradient_norm" else -1.0

    def score(params: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return sign * (params if objective == "balance_weights" else gradient).square().sum(dim=1)

    reached = score(best.params, best.gradient)
    streams = Streams.from_seeds([0, 1, 2, 3])
    for _ in range(300):
        left, right = (torch.linalg.qr(streams.normal((3, 3)))[0] for _ in range(2))
        stretch = torch.exp(streams.uniform(-0.6, 0.6, (3,)))
        element = (left @ (stretch[:, :, None] * right),)
        params = start.symmetry.act(element, start.params, start.instance)
        gradient = start.symmetry.gradient_after(element, start.gradient, start.instance)
        assert bool((score(params, gradient) <= reached * (1 + sign * 1e-12)).all())


@pytest.mark.parametrize("objective", ["gradient_norm", "relative", "balance_gradient"])
def test_elements_stay_within_the_trust_radius(objective: str) -> None:
    found = ClosedForm(objective=objective, trust_radius=0.3, sweeps=3).find(
        start_at("LinearNetwork", "general_linear")
    )
    assert isinstance(found.element, tuple)
    for part in found.element:
        stretch = torch.linalg.svdvals(part).log()
        assert float(stretch.abs().max()) <= 0.3 * (1 + 1e-9)
        torch.testing.assert_close(part, part.mT)


def test_balanced_weights_of_scaled_units_have_equal_norms() -> None:
    start = start_at("MatrixFactorization", "scaling")
    found = ClosedForm(objective="balance_weights", trust_radius=20.0).find(start)
    (pair,) = start.symmetry.pairs(found.params, start.instance)
    torch.testing.assert_close(pair.lower.square().sum(2), pair.upper.square().sum(1))


def test_one_pair_needs_one_sweep() -> None:
    problem = problem_named("MatrixFactorization")
    symmetry = problem.symmetries["general_linear"]
    assert ClosedForm(sweeps=1).price(problem, symmetry) == ClosedForm(sweeps=7).price(problem, symmetry)
    chain = problem_named("LinearNetwork").symmetries["general_linear"]
    assert ClosedForm(sweeps=7).price(problem, chain).flops > ClosedForm(sweeps=1).price(problem, chain).flops


def test_the_ascents_do_not_beat_the_maximum_of_a_single_pair() -> None:
    ascent = NormalizedAscent(steps=6, radius=0.3, decay=1.0, trust_radius=0.6, retract=False)
    climbed = ascent.find(start_at("MatrixFactorization", "general_linear"))
    best = ClosedForm(trust_radius=0.6).find(start_at("MatrixFactorization", "general_linear"))
    assert bool((g2(best) > g2(climbed)).all())
    assert bool((g2(climbed) > g2(start_at("MatrixFactorization", "general_linear"))).all())
