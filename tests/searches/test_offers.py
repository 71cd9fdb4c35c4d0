"""A symmetry that the library does not know is served by what it offers."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from search_cases import start_of
from torch import Tensor

import teleport_env
from teleport_env.groups import GL, SO, Element, PositiveScaling, Product
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.searches import search_from, trail_choice
from teleport_env.searches.fast.scalings import ScalingTrail
from teleport_env.searches.trail_choice import trail_of
from teleport_env.searches.trails import FastTrail, PointTrail
from teleport_env.symmetries import Layers, Pair, Scalings, Shortcut, Sphere, Symmetry, product

LAYERS = Layers((3, 2, 4))


class Factors(Symmetry):
    """``(V, U) -> (g V, U g^-1)`` of two matrices, written without a class of the library that knows layers."""

    name = "factors"
    exact_when = "Always, on all data."
    linear = True

    def __init__(self) -> None:
        self.group = GL(2)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return self._moved(g, self.group.inverse(g), params)

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        assert isinstance(g, Tensor)
        inverse = self.group.inverse(g)
        assert isinstance(inverse, Tensor)
        return self._moved(inverse.mT, g.mT, gradient)

    def _moved(self, left: Element, right: Element, vector: Tensor) -> Tensor:
        assert isinstance(left, Tensor)
        assert isinstance(right, Tensor)
        lower, upper = LAYERS.weights(vector)
        return LAYERS.flatten([product(left, lower), product(upper, right)])

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        return [Pair(*LAYERS.weights(vector))]


class Sizes(Symmetry):
    """Positive scalings, with the shortcut of the library's."""

    name = "sizes"
    exact_when = "Always, on all data."
    linear = True
    weightwise = True

    def __init__(self) -> None:
        self.group = Product(PositiveScaling(2))
        self.shortcut = Scalings(LAYERS)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        (d,) = g
        lower, upper = LAYERS.weights(params)
        return LAYERS.flatten([d[:, :, None] * lower, upper / d[:, None, :]])

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        return self.act(self.group.inverse(g), gradient, instance)


class Turns(Symmetry):
    """Rotations of ``L = |w|^2`` in space that know the sphere and the best element, here a half turn of one plane."""

    name = "turns"
    exact_when = "Always."
    changes_coordinates = True
    optima = ("balance_weights",)

    def __init__(self, size: int) -> None:
        self.group = SO(size)
        self.sphere = Sphere(lambda w, instance: w, lambda u, instance: u, size, 0.0)

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        assert isinstance(g, Tensor)
        return product(g, params[:, :, None])[:, :, 0]

    def optimal_element(self, objective: str, params: Tensor, instance: Instance) -> Element:
        turn = torch.eye(params.shape[1], dtype=params.dtype, device=params.device).repeat(len(params), 1, 1)
        turn[:, 0, 0] = turn[:, 1, 1] = -1.0
        return turn


class Fit(Problem):
    """``|U V - 1|^2``, and ``|w|^2`` weighed by coordinate for what turns."""

    name = "Fit"

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.normal((LAYERS.num_params,)), {})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        lower, upper = LAYERS.weights(params)
        return (product(upper, lower) - 1.0).square().flatten(1).sum(1)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {symmetry.name: symmetry for symmetry in (Factors(), Sizes())}


class Ball(Fit):
    """``|w|^2``."""

    name = "Ball"

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return params.square().sum(1)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {"turns": Turns(LAYERS.num_params)}


@pytest.mark.parametrize("search", ["closed_form", "balance_gradient", "balance_weights", "relative"])
def test_pairs_are_served_by_closed_forms(search: str) -> None:
    problem, symmetry, known = Fit(), Factors(), teleport_env.symmetries.LinearPairs(LAYERS)
    search_from(search).check(problem, symmetry)
    found = search_from(search).find(start_of(problem, symmetry, [0, 1, 2]))
    same = search_from(search).find(start_of(problem, known, [0, 1, 2]))
    assert bool(found.moved.all())
    torch.testing.assert_close(found.params, same.params, rtol=1e-9, atol=1e-10)


def test_a_shortcut_is_walked_on_and_priced() -> None:
    problem, symmetry = Fit(), Sizes()
    start = start_of(problem, symmetry, [0, 1, 2])
    assert type(trail_of(start, "auto")) is ScalingTrail
    for name in ("normalized_ascent", "closed_form"):
        search, start = search_from(name), start_of(problem, symmetry, [0, 1, 2])
        search.check(problem, symmetry)
        found = search.find(start)
        assert bool(found.moved.all())
        price = search.price(problem, symmetry)
        assert price.gradient == price.forward == 0.0
        assert float(start.evaluator.counts.flops) == pytest.approx(float(price.flops))


def test_a_sphere_is_walked_without_a_matrix() -> None:
    problem, symmetry = Ball(), Turns(LAYERS.num_params)
    search = search_from({"search": "random", "objective": "any", "candidates": 1})
    found = search.find(start_of(problem, symmetry, [0, 1, 2]))
    assert bool(found.moved.all())
    assert found.element is None
    assert search.price(problem, symmetry) == Counts(gradient=1.0)


def test_a_best_element_of_ones_own() -> None:
    problem, symmetry = Ball(), Turns(LAYERS.num_params)
    search_from("balance_weights").check(problem, symmetry)
    with pytest.raises(ValueError, match="here use objective 'balance_weights'"):
        search_from("closed_form").check(problem, symmetry)
    start = start_of(problem, symmetry, [0, 1])
    proposed = search_from("balance_weights").propose(start)
    assert torch.equal(proposed.params[:, :2], -start.params[:, :2])


class Halves(Shortcut):
    """A shortcut that the library does not know."""


class HalfTrail(PointTrail, FastTrail[Halves]):
    """Walks by points, at a price of its own."""

    def __init__(self, start: teleport_env.searches.Start, shortcut: Halves) -> None:
        FastTrail.__init__(self, start, shortcut)
        self._evaluates = True

    @staticmethod
    def price(shortcut: Halves, steps: int, retract: bool, relative: bool) -> Counts:
        return Counts(flops=77.0 * steps)


def test_a_shortcut_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    symmetry = Factors()
    symmetry.shortcut = Halves()
    search, start = search_from("normalized_ascent"), start_of(Fit(), symmetry, [0, 1])
    assert type(trail_of(start, "auto")) is PointTrail
    monkeypatch.setitem(trail_choice.TRAILS, Halves, HalfTrail)
    assert type(trail_of(start, "auto")) is HalfTrail
    assert float(search.price(Fit(), symmetry).flops) == 77.0 * 3
    assert bool(search.find(start).moved.all())


def test_no_search_asks_for_the_class_of_a_symmetry_or_a_group() -> None:
    """Whole kind: neither ``isinstance`` nor ``type(...) is`` of one, in searches, symmetries and agents."""
    root = Path(__file__).resolve().parents[2]
    concrete = {
        name
        for package in (teleport_env.symmetries, teleport_env.groups)
        for name in package.__all__
        if isinstance(value := getattr(package, name), type)
        and issubclass(value, teleport_env.symmetries.Symmetry | teleport_env.groups.Group)
    } - {"Symmetry", "Group"}
    assert {"CoordinateChange", "LinearPairs", "GL", "Product"} <= concrete
    guilty = []
    for folder in ("teleport_env/searches", "teleport_env/symmetries", "teleport_env/envs", "agents"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                asks = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
                asks |= isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type(")
                if asks and concrete & {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}:
                    guilty.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not guilty
