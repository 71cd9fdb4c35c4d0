"""Section 4 of Zhao et al. (NeurIPS 2022): which group leaves which loss alone, each claim beside an action that breaks it.

Proposition 4.1 is of test functions, 4.2 of linear networks, 4.3 of networks with a bijective activation. What an activation
that commutes with the group adds is this project's own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from teleport_env.groups.base import Element, map_element
from teleport_env.instances import Instance
from teleport_env.problems import problem_from
from teleport_env.problems.base import Problem
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry

COUNT = 6
SEEDS = range(COUNT)


def drawn(name: str, split: str = "train", **settings: object) -> tuple[Problem, Instance]:
    problem = problem_from(name, **settings)
    return problem, problem.instances(torch.arange(COUNT), split)


def element(symmetry: Symmetry, scale: float = 0.2) -> Element:
    return symmetry.group.sample(Streams.from_seeds(SEEDS), scale=scale)


def change(problem: Problem, instance: Instance, moved: Tensor) -> Tensor:
    """Relative change of the loss ``(B,)`` from the start to the moved weights."""
    before = problem.loss(instance.start, instance)
    return (problem.loss(moved, instance) / before - 1.0).abs()


def matrices(problem: Problem, params: Tensor) -> list[Tensor]:
    return [matrix.clone() for matrix in problem.layers.weights(params)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Ellipse", "Booth", "Rosenbrock", "Quadratic", "RosenbrockND"])
def test_proposition_4_1_rotations_of_test_functions(name: str) -> None:
    """In the coordinates in which the loss is a squared length, every rotation keeps it (section B.1, rotations):
    Rosenbrock's and Booth's functions, as the paper states it, and by the same argument the others."""
    problem, instance = drawn(name)
    symmetry = problem.symmetries["rotation"]
    g = symmetry.group.sample(Streams.from_seeds(SEEDS))
    moved = symmetry.act(g, instance.start, instance)
    assert bool((change(problem, instance, moved) < 1e-10).all())
    assert bool(((moved - instance.start).norm(dim=1) > 1e-3).all())  # and it does go somewhere
    if name != "Quadratic":  # the same rotation of the parameters themselves
        matrix = symmetry.group.as_matrices(g)
        assert isinstance(matrix, Tensor)
        turned = (matrix @ instance.start[:, :, None])[:, :, 0]
        assert bool((change(problem, instance, turned) > 1e-4).all())


@pytest.mark.parametrize("wrong", ["", "transposed", "no inverse", "first order"])
def test_proposition_4_2_linear_networks(wrong: str) -> None:
    """``W_l -> g_l W_l g_(l-1)^-1`` leaves a product of matrices alone, for all data (eq. 6)."""
    problem, instance = drawn("LinearNetwork")
    symmetry = problem.symmetries["general_linear"]
    g = element(symmetry)
    assert isinstance(g, tuple)
    lower, middle, upper = matrices(problem, instance.start)
    first, second = g
    inverses = [torch.linalg.inv(part) for part in g]
    if wrong == "transposed":
        inverses = [part.mT for part in g]
    elif wrong == "no inverse":
        inverses = list(g)
    elif wrong == "first order":
        inverses = [2.0 * torch.eye(part.shape[1], dtype=part.dtype) - part for part in g]
    moved = problem.layers.flatten([first @ lower, second @ middle @ inverses[0], upper @ inverses[1]])  # type: ignore[attr-defined]
    assert bool((change(problem, instance, moved) < 1e-11).all()) is not bool(wrong)
    if not wrong:
        torch.testing.assert_close(symmetry.act(g, instance.start, instance), moved, rtol=1e-10, atol=1e-12)
        others = instance["inputs"].flip(2) ** 2  # for all data, these too
        elsewhere = replace(instance, tensors={**instance.tensors, "inputs": others})
        assert bool((change(problem, elsewhere, moved) < 1e-11).all())


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh", "asinh"])
def test_activations_that_commute_with_the_group_keep_it(activation: str) -> None:
    """Ours: ``s(g z) = g s(z)`` is enough, positive diagonal ``g`` where ``s`` is homogeneous, permutations always."""
    problem, instance = drawn("MLPRegression", activation=activation)
    offered = problem.symmetries
    permutation = offered["permutation"]
    moved = permutation.act(element(permutation), instance.start, instance)
    assert bool((change(problem, instance, moved) < 1e-12).all())
    assert ("scaling" in offered) is (activation == "leaky_relu")

    symmetry = offered.get("scaling") or ScalingSymmetry(problem.layers)  # type: ignore[attr-defined]
    g = element(symmetry)
    moved = symmetry.act(g, instance.start, instance)
    assert bool(((moved - instance.start).norm(dim=1) > 1e-2 * instance.start.norm(dim=1)).all())
    assert bool((change(problem, instance, moved) < 1e-12).all()) is (activation == "leaky_relu")
    if activation == "leaky_relu":  # the same for all data
        elsewhere = replace(instance, tensors={**instance.tensors, "inputs": -(instance["inputs"] ** 2)})
        assert bool((change(problem, elsewhere, moved) < 1e-12).all())

    def scaled(factors: tuple[float, float]) -> Tensor:
        weights = matrices(problem, instance.start)
        for index, factor in enumerate(factors):
            weights[index][:, 0] *= factor
            weights[index + 1][:, :, 0] /= factor
        return problem.layers.flatten(weights)  # type: ignore[attr-defined]

    kept = bool((change(problem, instance, scaled((3.0, 0.2))) < 1e-12).all())
    assert kept is (activation == "leaky_relu")
    # a negative factor commutes with odd functions alone, and leaky ReLU is none
    assert bool((change(problem, instance, scaled((-1.0, 1.0))) < 1e-12).all()) is (activation != "leaky_relu")


@pytest.mark.parametrize("form", ["general_linear", "general_linear_published"])
@pytest.mark.parametrize("activation", ["leaky_relu", "tanh", "sigmoid", "asinh"])
def test_proposition_4_3_any_bijective_activation(activation: str, form: str) -> None:
    """``U -> U g^-1``, ``V h -> s^-1(g s(V h))`` (eq. 11) keeps the outputs on the data that it is built from."""
    problem, instance = drawn("MLPRegression", activation=activation)
    symmetry = problem.symmetries[form]
    g = element(symmetry, scale=0.05)
    moved = symmetry.act(g, instance.start, instance)
    assert bool((change(problem, instance, moved) < 1e-9).all())
    network = problem.network  # type: ignore[attr-defined]
    before = network.forward(instance.start, instance["inputs"])
    torch.testing.assert_close(network.forward(moved, instance["inputs"]), before, rtol=1e-7, atol=1e-8)
    # the first hidden layer's activations were multiplied by g
    values, _ = network.layer_values(instance.start, instance["inputs"])
    after, _ = network.layer_values(moved, instance["inputs"])
    assert isinstance(g, tuple)
    torch.testing.assert_close(after[1], g[0] @ values[1], rtol=1e-7, atol=1e-8)


def test_proposition_4_3_needs_invertible_layer_inputs() -> None:
    """More examples than a layer has inputs: ``h`` has no left inverse, and the loss moves."""
    for samples, exact in ((4, True), (5, True), (6, False), (12, False)):
        # not leaky ReLU: on this problem's positive data and weights it is linear
        problem, instance = drawn("MLPRegression", samples=samples, activation="asinh")
        symmetry = problem.symmetries["general_linear"]
        moved = symmetry.act(element(symmetry, scale=0.05), instance.start, instance)
        assert bool((change(problem, instance, moved) < 1e-9).all()) is exact
        assert bool((change(problem, instance, moved) > 1e-9).all()) is not exact


@pytest.mark.parametrize("power", [1, 2])
def test_first_order_form_of_section_6_1_does_not_keep_the_loss(power: int) -> None:
    """``1 - T`` for ``(1 + T)^-1`` and stale inputs: not invariant. The error is first order in T where n < m."""
    problem, instance = drawn("MLPRegression")
    symmetry = problem.symmetries["general_linear_first_order"]

    def leak(size: float) -> Tensor:
        g = map_element(
            lambda part: torch.eye(part.shape[1], dtype=part.dtype) + size * (part - torch.eye(part.shape[1])),
            element(symmetry, scale=0.2),
        )
        return change(problem, instance, symmetry.act(g, instance.start, instance))

    ratio = leak(1e-3) / leak(1e-3 / 2**power)
    assert bool((leak(1.0) > 1e-3).all())
    torch.testing.assert_close(ratio.median(), torch.tensor(2.0**power, dtype=ratio.dtype), rtol=0.05, atol=0.0)


def test_the_identity_is_the_identity_in_the_residual_form_alone() -> None:
    """Both forms act alike on the batch; the published one projects V onto what the batch spans, even for g = 1."""
    problem, instance = drawn("MLPRegression", samples=3)
    distances = {}
    for form in ("general_linear", "general_linear_published"):
        symmetry = problem.symmetries[form]
        neutral = symmetry.group.identity(COUNT)
        moved = symmetry.act(neutral, instance.start, instance)
        assert bool((change(problem, instance, moved) < 1e-12).all())
        distances[form] = (moved - instance.start).norm(dim=1) / instance.start.norm(dim=1)
    assert bool((distances["general_linear"] < 1e-13).all())
    assert bool((distances["general_linear_published"] > 1e-2).all())
