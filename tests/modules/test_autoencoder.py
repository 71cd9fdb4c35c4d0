"""A family of problems made of a module: its splits have images of their own, and nothing that a teleport does solves it."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from torch import nn

import teleport_env
from teleport_env.modules import Autoencoder, find_symmetries
from teleport_env.random import Streams
from teleport_env.runs import Runs

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def problem() -> Autoencoder:
    return Autoencoder(hidden=8, code=3, images=20)


def test_the_loss_is_half_the_squared_error_of_an_image(problem: Autoencoder) -> None:
    instance = problem.instances(torch.arange(2), "train")
    images = instance["inputs_0"]
    w = problem.unflatten(instance.start[1])
    code = torch.relu(images @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"]
    out = torch.relu(code @ w["3.weight"].T + w["3.bias"]) @ w["5.weight"].T + w["5.bias"]
    expected = 0.5 * (out - images).square().sum(1).mean()
    torch.testing.assert_close(problem.loss(instance.start, instance)[1], expected)


def test_no_image_belongs_to_two_splits(problem: Autoencoder) -> None:
    seen = []
    for split in ("train", "validation", "test"):
        shared = problem.instances(torch.arange(1), split).shared
        assert shared["inputs_0"].shape == (20, 64)
        assert shared["validation_targets"].shape == (60, 64)
        assert torch.equal(shared["inputs_0"], shared["targets"])
        both = torch.cat([shared["inputs_0"], shared["validation_inputs_0"]])
        seen.append({tuple(row) for row in both.tolist()})
        assert len(seen[-1]) == 80
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


@pytest.mark.parametrize("symmetry", ["scaling", "general_linear"])
def test_no_teleport_is_the_answer(problem: Autoencoder, symmetry: str) -> None:
    """Three teleports and the best of many gradient steps after them gain less than half an order."""
    assert set(problem.symmetries) == {"scaling", "general_linear", "permutation"}
    for search in problem.searches_for(symmetry):
        runs = Runs(problem, 4, symmetry=symmetry, searches=(search,), learning_rate=1e-30)
        runs.reset(Streams.from_seeds([0, 1, 2, 3]).keys, torch.arange(4))
        before = problem.loss(runs.params, runs.instance)
        for _ in range(3):
            runs.teleport(torch.zeros(4, dtype=torch.int64))
        loss, gradient = problem.loss_and_gradient(runs.params, runs.instance)
        torch.testing.assert_close(loss, before, rtol=1e-9, atol=0.0)
        rate = (loss / gradient.square().sum(1))[:, None]
        found = [problem.loss(runs.params - rate * 2.0**k * gradient, runs.instance) for k in range(-6, 3)]
        best = torch.stack([loss, *found]).nan_to_num(torch.inf).min(dim=0).values
        assert float(torch.log10(before / best).mean()) < 0.5


def test_it_has_a_name_of_its_own() -> None:
    env = gym.make("Teleport/Autoencoder-v0", problem={"hidden": 8, "code": 3, "images": 20}, split="test", budget=6)
    env.reset(seed=0)
    over, info = False, {}
    while not over:
        *_, terminated, truncated, info = env.step(0)
        over = terminated or truncated
    assert info["validation_loss"] > 0
    with pytest.raises(ValueError, match="Autoencoder is a built-in problem"):
        teleport_env.register_problem("Autoencoder", lambda: Autoencoder(hidden=8))


def test_more_images_than_a_split_has_are_refused() -> None:
    with pytest.raises(ValueError, match="images"):
        Autoencoder(images=1000)


def test_symmetries_are_those_of_the_widths(problem: Autoencoder) -> None:
    """They are found once for all problems of equal widths."""
    assert Autoencoder(hidden=8, code=3, images=30).found is problem.found
    for hidden, code in ((8, 3), (9, 3), (8, 2)):
        found = Autoencoder(hidden=hidden, code=code, images=20).symmetries
        layers = nn.Sequential(
            *(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, code)),
            *(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 64)),
        )
        expected = find_symmetries(layers, torch.rand(3, 64)).symmetries
        assert {kind: own.group for kind, own in found.items()} == {kind: own.group for kind, own in expected.items()}
