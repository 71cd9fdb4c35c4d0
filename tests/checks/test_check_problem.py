"""`check_problem` is able to fail, once for every thing it checks, and names the culprit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from checks.bowl import Products, Samples, Squeeze
from torch import Tensor

from teleport_env.checks import CheckFailed, check_problem
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Defaults, Problem
from teleport_env.random import Streams
from teleport_env.symmetries import Layers, LinearPairs, product
from teleport_env.symmetries.base import Symmetry


class Automatic(Products):
    """The gradient is autograd's, so that `loss` alone can be broken."""

    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        return Problem.loss_and_gradient(self, params, instance, batch)


# -- instances ---------------------------------------------------------------------------------------------------------


class Nameless(Products):
    name = ""


class DrawsOneTooFew(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return super().sample(generator, count, split).select(torch.arange(count - 1))


class DrawsInFloat32(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return super().sample(generator, count, split).to(torch.float32, "cpu")


class KnowsNoPaper(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        if split == "paper":
            raise KeyError("paper")
        return super().sample(generator, count, split)


class StartsAtInfinity(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        drawn = super().sample(generator, count, split)
        return replace(drawn, start=torch.where(generator.uniform(size=(1,)) < 0.7, drawn.start, torch.inf))


class DrawsFromTorch(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return replace(super().sample(generator, count, split), start=torch.randn(count, 4, dtype=torch.float64))


class DrawsFromOneGenerator(Products):
    """Reproducible, and yet an instance depends on how many are drawn before it."""

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        own = torch.Generator().manual_seed(0)
        return replace(
            super().sample(generator, count, split), start=torch.randn(count, 4, generator=own, dtype=torch.float64)
        )


class CentresTheStarts(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        drawn = super().sample(generator, count, split)
        return replace(drawn, start=drawn.start - drawn.start.mean(0))


class SameTestAsTrain(Products):
    def num_instances(self, split: str) -> int | None:
        return 6

    def instances(self, ids: Tensor, split: str, dtype: Any = torch.float64, device: Any = "cpu") -> Instance:
        return super().instances(ids, "train" if split == "test" else split, dtype, device)


class ForgetsIds(Products):
    def instances(self, ids: Tensor, split: str, dtype: Any = torch.float64, device: Any = "cpu") -> Instance:
        return replace(super().instances(ids, split, dtype, device), ids=None)


# -- the loss ----------------------------------------------------------------------------------------------------------


class OneLossForAll(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance).mean()


class SharesRows(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        each = super().loss(params, instance)
        return each + 0.1 * each.mean()


class DividesByTheBatch(Automatic):
    """What a mean over everything, times B, looks like."""

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance) / len(params)


class InfiniteAtTheStart(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance) + torch.log(params[:, 0])


class Dice(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance) * (1.0 + 1e-3 * torch.rand(()).to(params.dtype))


class Normalises(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        if not params.requires_grad:
            params.clamp_(-0.5, 0.5)
        return super().loss(params, instance)


class HidesDivergence(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return torch.nan_to_num(super().loss(params, instance), nan=1.0)


class RaisesOnNaN(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        torch.linalg.eigvalsh(params[:, :, None] * params[:, None, :])
        return super().loss(params, instance)


# -- the gradient ------------------------------------------------------------------------------------------------------


class WrongGradient(Products):
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance)
        gradient[:, 2] *= 0.5
        return loss, gradient


class OtherLoss(Products):
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance)
        return loss + 1.0, gradient


class KeepsTheGraph(Products):
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        w = params.detach().requires_grad_(True)
        loss = self.loss(w, instance)
        (gradient,) = torch.autograd.grad(loss.sum(), w, create_graph=True)
        return loss, gradient


class MixesGradients(Products):
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance)
        return loss, gradient * (1.0 + 5e-9 * (len(params) > 1))  # too little for the comparison with autograd


class DetachesAFactor(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return (u * v.detach() - instance["c"]).square().sum(1)


class NotDifferentiable(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params.detach(), instance)


class DetachesAmongMany(Automatic):
    """More parameters than are tried one by one."""

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.normal((100,)), {"c": generator.uniform(0.5, 2.0, (50,))})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return (u * v.detach() - instance["c"]).square().sum(1)

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {}


# -- the rest ----------------------------------------------------------------------------------------------------------


class AlwaysFloat64(Automatic):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance) * torch.ones(len(params), dtype=torch.float64)


class GradientInFloat64(Products):
    def loss_and_gradient(self, params: Tensor, instance: Instance, batch: Batch = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().loss_and_gradient(params, instance)
        return loss, gradient.to(torch.float64)


class WrongMinimum(Products):
    def minimum(self, instance: Instance) -> Tensor | None:
        return torch.cat([instance["c"], instance["c"]], dim=1)


class SteepMinimum(Products):
    def minimum(self, instance: Instance) -> Tensor | None:
        found = super().minimum(instance)
        assert found is not None
        return found + 1e-3


class MeasuresNothing(Products):
    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        return {"accuracy": torch.ones(len(params))}


class MeasuresOneNumber(Products):
    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        return {"loss": self.loss(params, instance).mean()}


class MeasuresAnotherLoss(Products):
    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        return {"loss": 2.0 * self.loss(params, instance)}


class Free(Products):
    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 0.0


class HoldsALambda(Products):
    def __init__(self) -> None:
        self.hook = lambda: None


class MisnamedSymmetry(Products):
    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {"scaling": Squeeze()}


class HalfASqueeze(Squeeze):
    def act(self, g: Any, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        u, v = params.chunk(2, dim=1)
        return torch.cat([u * g, v], dim=1)


class BrokenSymmetry(Products):
    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {"squeeze": HalfASqueeze()}


class UnknownSearch(Products):
    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(searches=("quantum",) if split == "test" else ())


class UnfitSearch(Products):
    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(searches=("grid",))


class NoOrderKey(Samples):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        drawn = super().sample(generator, count, split)
        return replace(drawn, tensors={})


class OneOrderForAll(Samples):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        drawn = super().sample(generator, count, split)
        return replace(drawn, tensors={"order_key": torch.zeros(count, dtype=torch.int64)})


class BatchTooLarge(Samples):
    @property
    def batch_size(self) -> int | None:
        return 13


class IgnoresBatch(Samples):
    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return super().loss(params, instance, None)


BROKEN: dict[type[Problem], str] = {
    Nameless: r"`name` is empty.*Write name = \"Nameless\"",
    DrawsOneTooFew: r"sample\(.*split='paper'\)\.start is torch.float64 \(4, 4\)\. .*as many rows",
    DrawsInFloat32: r"sample\(.*\)\.start is torch.float32 \(5, 4\)\. .*in float64",
    KnowsNoPaper: r"sample\(.*split='paper'\) raised KeyError",
    StartsAtInfinity: r"drew 'start', which is inf in row \d",
    DrawsFromTorch: r"sample\(.*'start' of instance 0 was another in the second of two calls",
    DrawsFromOneGenerator: r"'start' of instance 0 was another",
    CentresTheStarts: r"'start': row 0 is .* alone and .* among 5",
    SameTestAsTrain: r"an instance of split 'test' is also one of split 'train'",
    ForgetsIds: r"instances\(ids, 'paper'\) has other ids",
    OneLossForAll: r"loss is torch.float64 \(\)\. Return torch.float64 \(5,\)",
    SharesRows: r"loss: row 0 is .* alone and .* among 5.*no sum, mean or maximum",
    DividesByTheBatch: r"loss: row 0 is .* alone and .* among 5",
    InfiniteAtTheStart: r"loss at the start is (nan|-inf) in row \d",
    Dice: r"loss differs between two calls.*random numbers in `sample`",
    Normalises: r"loss writes into the parameters",
    HidesDivergence: r"loss of a run of NaN is 1\.0",
    RaisesOnNaN: r"loss with one run of NaN raised",
    WrongGradient: r"loss_and_gradient gives .* for parameter 2 in row \d at the start, and autograd",
    OtherLoss: r"loss_and_gradient gives the loss .* in row \d, and `loss`",
    KeepsTheGraph: r"loss_and_gradient, loss is torch.float64 \(5,\) with a graph",
    MixesGradients: r"loss_and_gradient, gradient: row 0 is .* alone and .* among 5",
    DetachesAFactor: r"the gradient of `loss` by autograd is .* along parameter 2 in row \d, and by central differences",
    DetachesAmongMany: r"the gradient of `loss` by autograd is .* along a direction in row \d",
    NotDifferentiable: r"the gradient of loss at the start raised RuntimeError.*differentiable torch operations",
    AlwaysFloat64: r"in float32, loss is torch.float64.*dtype=params.dtype",
    GradientInFloat64: r"in float32, gradient is torch.float64",
    WrongMinimum: r"(loss|the gradient) at minimum is .* in row \d",
    SteepMinimum: r"the gradient at minimum is .* times that at the start in row \d",
    MeasuresNothing: r"evaluate measures \['accuracy'\]",
    MeasuresOneNumber: r"evaluate\(\)\['loss'\] is torch.float64 \(\)\. .* a tensor \(B,\)",
    MeasuresAnotherLoss: r"evaluate measures the loss .*batch=None",
    Free: r"gradient_flops is 0\.0",
    HoldsALambda: r"pickling raised .*without lambdas",
    MisnamedSymmetry: r"symmetries\['scaling'\] calls itself 'squeeze'",
    BrokenSymmetry: r"symmetry 'squeeze' of Products: the law loss_is_kept",
    UnknownSearch: r"an environment with split='test' raised ValueError: search must be one of .*got 'quantum'.*`defaults`",
    UnfitSearch: r"an environment with split='paper' raised ValueError: search 'grid' covers the circle",
    NoOrderKey: r"no tensor 'order_key' \(B,\) of int64.*generator.bits\(\)",
    OneOrderForAll: r"'order_key' is the same for all instances",
    BatchTooLarge: r"batch_size is 13 of 12 examples",
    IgnoresBatch: r"loss is the same on different mini-batches",
}


@pytest.mark.parametrize("problem", [Products, Automatic, Samples])
def test_a_sound_problem(problem: type[Problem]) -> None:
    assert check_problem(problem()).notes == ()


@pytest.mark.parametrize("problem", BROKEN, ids=lambda problem: problem.__name__)
def test_a_broken_problem(problem: type[Problem]) -> None:
    with pytest.raises(CheckFailed, match=BROKEN[problem]) as caught:
        check_problem(problem())
    subject, _, sentence = str(caught.value).partition(": ")
    assert subject.split()[0] in ("problem", "symmetry")
    assert sentence.endswith(".")


# -- what is only a note -----------------------------------------------------------------------------------------------


class Rounds(Automatic):
    """A matrix product in which the batch is a dimension."""

    mixer = Streams(torch.arange(40)).normal((40,))

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(generator.normal((40,)))

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return (params @ self.mixer.to(params.dtype)).square().sum(1)

    def minimum(self, instance: Instance) -> Tensor | None:
        return None

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {}


class OneInstance(Products):
    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        return Instance(torch.ones(count, 4, dtype=torch.float64), {"c": torch.full((count, 2), 2.0).double()})


class TooFast(Products):
    def defaults(self, split: str = "train") -> Defaults:
        return Defaults(learning_rate=50.0, searches=())


def test_differences_in_the_last_bit_are_noted_with_their_cause() -> None:
    notes = check_problem(Rounds()).notes
    assert any("not the same alone and among 5" in note and "torch.bmm" in note for note in notes)


def test_a_distribution_of_one_is_noted() -> None:
    notes = check_problem(OneInstance()).notes
    assert [note for note in notes if "split 'test' are the same" in note]


def test_a_rate_that_diverges_is_noted() -> None:
    (note,) = check_problem(TooFast()).notes
    assert "runs diverged" in note
    assert "learning rate 50" in note


class Steep(Problem):
    """Plain descent gets along with the rate; what every rule teleports to does not."""

    name = "Steep"
    layers = Layers((3, 2, 3))

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        start = 0.5 * generator.normal((self.layers.num_params,))
        return Instance(start, {"truth": generator.normal((3, 3))})

    def loss(self, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        lower, upper = self.layers.weights(params)
        return (product(upper, lower) - instance["truth"]).square().flatten(1).sum(1)

    def gradient_flops(self, instance: Instance, batch_size: int | None = None) -> float:
        return 1e6  # so that teleports are cheap

    @property
    def symmetries(self) -> Mapping[str, Symmetry]:
        return {"general_linear": LinearPairs(self.layers)}

    def defaults(self, split: str = "train") -> Defaults:
        far = {"search": "normalized_ascent", "radius": 1.9, "steps": 8}
        return Defaults(learning_rate=0.05, budget=60.0, searches=(far,))


class Balanced(Steep):
    def defaults(self, split: str = "train") -> Defaults:
        menu = (*super().defaults(split).searches, "balance_weights")
        return Defaults(learning_rate=0.05, budget=60.0, searches=menu)


def test_a_menu_on_which_every_rule_diverges_is_noted() -> None:
    (note,) = check_problem(Steep()).notes
    assert "most runs of every rule diverge at the default learning rate 0.05" in note
    assert "normalized ascent, gradient norm, steps 8, radius 1.9" in note
    assert check_problem(Balanced()).notes == ()
