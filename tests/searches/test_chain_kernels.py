"""Compiled searches over the hidden layers of small networks find what the same searches on arrays find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.problems import problem_from
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.random import Streams
from teleport_env.searches import search_from
from teleport_env.searches.base import Found, Start, Status
from teleport_env.searches.fast import chains
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.networks import Layers, product
from teleport_env.symmetries.pairs import LinearPairs
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

SEARCHES: tuple[Any, ...] = (
    {"search": "closed_form", "objective": "balance_gradient"},
    {"search": "closed_form", "objective": "balance_weights", "sweeps": 3},
    {"search": "closed_form", "objective": "balance_weights", "sweeps": 2, "trust_radius": 0.2},
    {"search": "closed_form", "objective": "balance_gradient", "sweeps": 4, "trust_radius": 0.05},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "normalized_ascent", "steps": 6, "radius": 1.9, "shrink": 0.3, "objective": "balance_gradient"},
    {"search": "normalized_ascent", "steps": 5, "trust_radius": 0.9},
)
LARGEST: tuple[Any, ...] = (
    {"search": "closed_form", "objective": "gradient_norm", "sweeps": 3},
    {"search": "closed_form", "objective": "relative", "trust_radius": 0.5},
)
"""Of scalings alone."""
WIDTHS = ((4, 3, 5), (9, 8, 9), (1, 1, 1), (6, 4, 4, 6), (5, 3, 3, 3, 6))
CHAINS = [("general_linear", False, search) for search in SEARCHES]
CHAINS += [("scaling", bias, search) for bias in (False, True) for search in (*SEARCHES, *LARGEST)]

needs_kernels = pytest.mark.skipif(not hasattr(chains.KERNELS, "chain_ascend"), reason="built without kernels")


class Chain(Problem):
    """The outputs of a chain of layers; its gradient is never asked for where it is carried over, and may be any."""

    name = "Chain"

    def __init__(self, layers: Layers, gradient_rank: int | None = None) -> None:
        self.layers = layers
        self._symmetries: dict[str, Symmetry] = {"scaling": ScalingSymmetry(layers)}
        if not layers.bias:
            self._symmetries["general_linear"] = LinearPairs(layers, gradient_rank=gradient_rank)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return self._symmetries

    @property
    def num_params(self) -> int:
        return self.layers.num_params

    def sample(self, *_: Any) -> Instance:
        raise NotImplementedError

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        values = torch.eye(self.layers.widths[0], dtype=params.dtype).expand(len(params), -1, -1)
        for weight in self.layers.weights(params):
            width = values.shape[1]
            values = product(weight[:, :, :width], values) + weight[:, :, width:].sum(2, keepdim=True)
        return values.square().flatten(1).sum(1)

    def gradient_flops(self, instance: Any, batch_size: int | None = None) -> float:
        return 1000.0


def start_on(
    widths: tuple[int, ...],
    symmetry: str = "general_linear",
    *,
    runs: int = 21,
    bias: bool = False,
    dtype: torch.dtype = torch.float64,
    rank: int | None = None,
) -> Start:
    """Random weights and gradients of all sizes."""
    problem = Chain(Layers(widths, bias), rank)
    generator = torch.Generator().manual_seed(len(widths))

    def drawn() -> Tensor:
        size = torch.exp(2.0 * torch.randn(runs, 1, generator=generator, dtype=torch.float64))
        return (size * torch.randn(runs, problem.num_params, generator=generator, dtype=torch.float64)).to(dtype)

    params = drawn()
    instance = Instance(params)
    rate = torch.full((runs,), 0.1, dtype=dtype)
    streams, evaluator = Streams.from_seeds(range(runs)), Evaluator(problem, instance)
    loss = problem.loss(params, instance)
    return Start(params, loss, drawn(), rate, problem.symmetries[symmetry], evaluator, streams)


def found_from(start: Start, search: Any) -> tuple[Found, Counts]:
    begun = replace(start, evaluator=Evaluator(start.evaluator.problem, start.evaluator.instance))
    found = search_from(search).find(begun)
    return found, begun.evaluator.counts


def on_arrays(start: Start, search: Any) -> tuple[Found, Counts]:
    with mock.patch.object(chains, "KERNELS", None):
        return found_from(start, search)


def rows_of(start: Start, rows: slice) -> Start:
    parts = {name: getattr(start, name)[rows] for name in ("params", "loss", "gradient", "learning_rate")}
    return replace(start, **parts, streams=start.streams)


@needs_kernels
@pytest.mark.parametrize(("symmetry", "bias", "search"), CHAINS)
@pytest.mark.parametrize("widths", WIDTHS)
def test_the_same_points_at_the_same_price(widths: tuple[int, ...], symmetry: str, bias: bool, search: Any) -> None:
    start = start_on(widths, symmetry, bias=bias)
    with mock.patch.object(chains, "KERNELS", mock.Mock(wraps=chains.KERNELS)) as kernels:
        found, counts = found_from(start, search)
    assert len(kernels.method_calls) == 1
    plain, formerly = on_arrays(start, search)
    assert torch.equal(found.status, plain.status)
    assert bool((found.status == Status.MOVED).any())
    for one, other in ((found.params, plain.params), (found.gradient, plain.gradient)):
        size = other.abs().amax(dim=1, keepdim=True)
        torch.testing.assert_close(one / size, other / size, rtol=0.0, atol=1e-7)
    torch.testing.assert_close(found.loss, start.loss, rtol=1e-10, atol=0.0)
    assert isinstance(found.element, tuple)
    assert isinstance(plain.element, tuple)
    for part, other in zip(found.element, plain.element, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-7, atol=1e-7)
    assert counts.flops == pytest.approx(formerly.flops, rel=1e-12)
    assert replace(counts, flops=0.0) == replace(formerly, flops=0.0)


@needs_kernels
@pytest.mark.parametrize("search", SEARCHES[:4])
@pytest.mark.parametrize("widths", [(2, 8, 1), (5, 3, 4, 2, 6)])
def test_where_many_elements_are_best_one_as_good_is_found(widths: tuple[int, ...], search: Any) -> None:
    """Gram matrices that lack rank leave the basis to rounding, and which element of those as good it is."""
    start = start_on(widths, runs=200)
    found, plain = found_from(start, search)[0], on_arrays(start, search)[0]
    name = "params" if search["objective"] == "balance_weights" else "gradient"
    before, here, there = (getattr(one, name).square().sum(1).log() for one in (start, found, plain))
    assert bool((here <= before).all())
    assert float((before - here).mean()) == pytest.approx(float((before - there).mean()), rel=0.02)


@needs_kernels
@pytest.mark.parametrize(("symmetry", "bias", "search"), CHAINS)
def test_the_point_is_that_of_the_element(symmetry: str, bias: bool, search: Any) -> None:
    """Weights and gradient are moved by it, so that products along the chain stay, and with them the loss."""
    start = start_on((5, 3, 4, 2, 6), symmetry, bias=bias)
    found, _ = found_from(start, search)
    assert found.element is not None
    moved = start.symmetry.act(found.element, start.params, start.evaluator.instance)
    carried = start.symmetry.gradient_after(found.element, start.gradient, start.evaluator.instance)
    rows = found.moved
    torch.testing.assert_close(found.params[rows], moved[rows], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.gradient[rows], carried[rows], rtol=1e-9, atol=1e-9)


@needs_kernels
@pytest.mark.parametrize(("symmetry", "bias", "search"), CHAINS)
def test_a_run_has_the_same_bits_alone_and_among_others(symmetry: str, bias: bool, search: Any) -> None:
    start = start_on((5, 3, 4, 2, 6), symmetry, bias=bias)
    together, _ = found_from(start, search)
    for row in (0, 7, 20):
        alone, _ = found_from(rows_of(start, slice(row, row + 1)), search)
        assert torch.equal(alone.params[0], together.params[row])
        assert torch.equal(alone.gradient[0], together.gradient[row])


@needs_kernels
@pytest.mark.parametrize(("symmetry", "bias", "search"), CHAINS)
def test_numbers_out_of_bounds_fail_alone(symmetry: str, bias: bool, search: Any) -> None:
    start, sound = (start_on((4, 3, 5), symmetry, bias=bias) for _ in range(2))
    for row, value in enumerate((torch.nan, torch.inf, 1e200, 0.0)):
        start.params[row], start.gradient[row] = value, value
    found, _ = found_from(start, search)
    plain, _ = on_arrays(start, search)
    rest, _ = found_from(sound, search)
    assert not bool(found.moved[:4].any())
    assert not bool(plain.moved[:4].any())
    assert torch.equal(found.params[4:], rest.params[4:])
    assert torch.equal(found.params[:4].nan_to_num(), start.params[:4].nan_to_num())


@needs_kernels
@pytest.mark.parametrize(("symmetry", "bias", "search"), CHAINS[::3])
def test_what_lies_otherwise_in_memory_is_read_alike(symmetry: str, bias: bool, search: Any) -> None:
    start = start_on((4, 3, 5), symmetry, bias=bias)
    turned = replace(start, params=start.params.T.contiguous().T, gradient=start.gradient.T.contiguous().T)
    assert torch.equal(found_from(start, search)[0].params, found_from(turned, search)[0].params)


@needs_kernels
@pytest.mark.parametrize(
    ("start", "search"),
    [
        (start_on((4, 9, 5)), SEARCHES[4]),
        (start_on((4, 9, 5)), SEARCHES[1]),
        (start_on((4, 3, 5), dtype=torch.float32), SEARCHES[4]),
        (start_on((4, 3, 5)), {**SEARCHES[4], "retract": False}),
        (start_on((4, 3, 5)), {**SEARCHES[4], "objective": "relative"}),
        (start_on((4, 3, 5)), LARGEST[0]),
        (start_on((4, 3, 5), "scaling"), {**SEARCHES[4], "retract": False}),
        (start_on((70, 60, 5), "scaling"), SEARCHES[1]),
        (start_on((9, 8, 9), rank=2), SEARCHES[0]),  # gradients span half of the layer, where the search takes place
    ],
    ids=[
        "wide",
        "wide, balanced",
        "float32",
        "exponential",
        "relative",
        "largest",
        "exponential, scaled",
        "many",
        "spans",
    ],
)
def test_what_kernels_do_not_serve_is_found_on_arrays(start: Start, search: Any) -> None:
    found, plain = found_from(start, search)[0], on_arrays(start, search)[0]
    assert torch.equal(found.params, plain.params)
    assert torch.equal(found.status, plain.status)


@needs_kernels
def test_environments_take_the_kernels() -> None:
    """Of these problems all searches that are offered by default are compiled."""
    for name in ("MatrixFactorization", "LinearNetwork", "MLPRegression", "TwoLayerRegression", "MatrixCompletion"):
        defaults = problem_from(name).defaults("train")
        symmetry = problem_from(name).symmetries[str(defaults.symmetry)]
        assert symmetry.layers is not None
        start = start_on(symmetry.layers.widths, symmetry.name, bias=symmetry.layers.bias, runs=3)
        for search in defaults.searches:
            with mock.patch.object(chains, "KERNELS", mock.Mock(wraps=chains.KERNELS)) as kernels:
                found_from(start, search)
            assert len(kernels.method_calls) == 1
