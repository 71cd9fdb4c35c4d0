"""Couplings given by places: on a chain they are the chain's own symmetries, for actions and for every search."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from toy_losses import couplings_of, network, network_toy

from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Evaluator, Problem
from teleport_env.random import Streams
from teleport_env.searches import Start, search_from
from teleport_env.symmetries import (
    CoupledLinear,
    CoupledPermutation,
    CoupledScaling,
    Coupling,
    Layers,
    LinearPairs,
    PermutationSymmetry,
    ScalingSymmetry,
    Symmetry,
)
from teleport_env.symmetries.coupled import CoupledUnits
from teleport_env.symmetries.laws import agree

LAYERS = Layers((3, 4, 5, 2), bias=True)
TWINS: dict[str, tuple[Symmetry, Symmetry]] = {
    "scaling": (ScalingSymmetry(LAYERS), CoupledScaling(couplings_of(LAYERS))),
    "general_linear": (LinearPairs(LAYERS), CoupledLinear(couplings_of(LAYERS))),
    "permutation": (PermutationSymmetry(LAYERS), CoupledPermutation(couplings_of(LAYERS))),
}


class Toy(Problem):
    """A linear network, on which all three act."""

    name = "Toy"

    def __init__(self) -> None:
        self.toy = network_toy(lambda net: LinearPairs(net.layers), network(LAYERS.widths, bias=True), 6)

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return self.toy.instance

    def loss(self, params: torch.Tensor, instance: Instance, batch: Batch = None) -> torch.Tensor:
        return self.toy.loss(params, instance, batch)


class Bowl(Problem):
    """The product of three layers on one input, the second of them diagonal."""

    name = "Bowl"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.normal((48,)))

    def loss(self, params: torch.Tensor, instance: Instance, batch: Batch = None) -> torch.Tensor:
        hidden = params[:, :16].reshape(-1, 8, 2).sum(2) * params[:, 16:24]
        return ((params[:, 24:].reshape(-1, 3, 8) * hidden[:, None, :]).sum(2) - 1.0).square().sum(1)


@pytest.mark.parametrize("name", TWINS)
def test_actions_are_those_of_the_chain(name: str) -> None:
    chain, coupled = TWINS[name]
    toy = Toy().toy
    g = chain.group.sample(Streams.from_seeds(list(range(7))), scale=0.3)
    for act in ("act", "gradient_after"):
        expected = getattr(chain, act)(g, toy.params, toy.instance)
        moved = getattr(coupled, act)(g, toy.params, toy.instance)
        torch.testing.assert_close(moved, expected, rtol=1e-14, atol=1e-14)
        assert not torch.equal(moved, toy.params)
    again = pickle.loads(pickle.dumps(coupled))
    assert torch.equal(again.act(g, toy.params, toy.instance), coupled.act(g, toy.params, toy.instance))


SEARCHES: list[dict[str, Any]] = [
    {"search": "closed_form", "objective": "balance_gradient"},
    {"search": "closed_form", "objective": "balance_weights", "sweeps": 3},
    {"search": "closed_form", "objective": "relative", "trust_radius": 0.5},
    {"search": "closed_form"},
    {"search": "normalized_ascent", "steps": 3},
    {"search": "normalized_ascent", "objective": "relative"},
    {"search": "virtual_step"},
    {"search": "random", "candidates": 3, "scale": 0.2},
]


@pytest.mark.parametrize("settings", SEARCHES, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("name", ["scaling", "general_linear"])
def test_searches_find_what_they_find_on_the_chain(name: str, settings: dict[str, Any]) -> None:
    problem, search = Toy(), search_from(settings)
    found = []
    for symmetry in TWINS[name]:
        params, instance = problem.toy.params, problem.toy.instance
        evaluator = Evaluator(problem, instance)
        loss, gradient = problem.loss_and_gradient(params, instance)
        rate = torch.full((7,), 0.01, dtype=torch.float64)
        start = Start(params, loss, gradient, rate, symmetry, evaluator, Streams.from_seeds(list(range(7))))
        search.check(problem, symmetry)
        found.append(search.find(start))
    assert found[0].moved.any()
    assert torch.equal(found[0].moved, found[1].moved)
    verdict = agree(found[1].params, found[0].params, 1e-9, "found elsewhere")
    assert verdict.ok, verdict.reason


def test_scalings_of_most_couplings_have_a_closed_form_on_sums() -> None:
    """One filter per channel makes a link that is nearly empty: there the pairs are moved one by one, to the same end."""
    assert isinstance(TWINS["scaling"][1].shortcut, CoupledUnits)
    # two spaces of eight units, the second written by one weight per unit of the first
    first, gains, last = torch.arange(16).reshape(8, 2), torch.arange(16, 24), torch.arange(24, 48).reshape(3, 8)
    couplings = [Coupling(first, gains[None], "a"), Coupling(gains[:, None], last, "b")]
    sparse = CoupledScaling(couplings)
    assert sparse.shortcut is None
    params = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = Bowl()
    instance = Instance(params)
    loss, gradient = problem.loss_and_gradient(params, instance)
    rate, streams = torch.full((5,), 0.1, dtype=torch.float64), Streams.from_seeds([0, 1, 2, 3, 4])
    start = Start(params, loss, gradient, rate, sparse, Evaluator(problem, instance), streams)
    search = {"search": "closed_form", "objective": "balance_gradient", "sweeps": 60, "trust_radius": 20.0}
    found = search_from(search).find(start)
    assert found.moved.all()
    for pair in sparse.pairs(found.gradient, instance):  # balanced: what writes a unit has the norm of what reads it
        torch.testing.assert_close(pair.lower.square().sum(2), pair.upper.square().sum(1), rtol=1e-6, atol=0.0)


def test_a_weight_that_is_read_and_written_is_permuted_but_not_scaled() -> None:
    """A layer from a space to itself: ``W -> P W P'``."""
    places = torch.arange(9).reshape(3, 3)
    own = Coupling(places, places, "loop")
    assert not own.disjoint
    for symmetry in (CoupledScaling, CoupledLinear):
        with pytest.raises(ValueError, match="'loop' reads and writes its units by the same weights"):
            symmetry([own])
    weights = torch.randn(2, 9, dtype=torch.float64)
    symmetry = CoupledPermutation([own])
    g = symmetry.group.sample(Streams.from_seeds([0, 1]))
    matrix = symmetry.group.as_matrices(g)[0]
    expected = matrix @ weights.reshape(2, 3, 3) @ matrix.mT
    instance = Instance(weights)
    assert torch.equal(symmetry.act(g, weights, instance), expected.flatten(1))


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (torch.arange(6).reshape(2, 3), torch.arange(6, 12).reshape(2, 3), "2 rows below and 3 columns above"),
        (torch.arange(6), torch.arange(6, 12).reshape(3, 2), "lower of the coupling 'x' must be a matrix of indices"),
        (torch.ones(2, 3), torch.arange(6, 12).reshape(3, 2), "lower of the coupling 'x' must be a matrix of indices"),
    ],
)
def test_what_is_no_coupling(lower: torch.Tensor, upper: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Coupling(lower, upper, "x")
    with pytest.raises(ValueError, match="at least one coupling"):
        CoupledScaling([])
