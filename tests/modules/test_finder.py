"""What is found and what is refused, model by model; that it is exact; and that an error in a coupling is noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from modules.models import (
    Bags,
    Clamped,
    Classifier,
    Dense,
    Gated,
    LowRank,
    Maxout,
    NormedMLP,
    Pact,
    Pairs,
    Positions,
    Recurrent,
    Residual,
    ReZero,
    Rotary,
    Sliced,
    SwiGLU,
    Tied,
    Transformer,
    Twice,
    depthwise,
    encoder,
    frozen,
    grouped,
    lenet,
    linear_pairs,
    mlp,
    normed_by_groups,
    rows,
    vgg,
    weight_norm,
)
from torch import Tensor, nn
from torch.func import functional_call

from teleport_env import find_symmetries
from teleport_env.instances import Instance
from teleport_env.modules import Coupled, Found, register_rule
from teleport_env.modules.finder import MAKERS
from teleport_env.modules.operations import WHY
from teleport_env.modules.probe import TOLERANCE, Probe, _relative
from teleport_env.modules.stated import _RULES
from teleport_env.random import Streams
from teleport_env.symmetries import Coupling

SCALING, LINEAR, PERMUTATION = "scaling", "general_linear", "permutation"
NORM = "it belongs to units of a normalization that do not move"
BATCH_NORM = "BatchNorm adds eps to a variance, and keeps running statistics, which do not move"
STATISTICS = "the running statistics of BatchNorm are buffers, which do not move"
LAYER_NORM = "LayerNorm divides by a mean over all units"
QUOTIENT = "it is one number in a quotient or a product of weights: multiply units by one number alone"
STREAM, STREAM_ORDER = "what is added does not move", "what is added differs between its units"
HEADS = {f"self_attn.in_proj -> self_attn.{reader} #{head}": 4 for reader in ("in_proj", "out_proj") for head in (1, 2)}
ENCODER_SCALING = {
    "self_attn.in_proj -> self_attn.in_proj": 8,
    "self_attn.in_proj -> self_attn.out_proj": 8,
    "norm1 -> self_attn.in_proj": 8,
    "norm2 -> linear1": 8,
}
ENCODER_REFUSED = {
    (SCALING, "self_attn", STREAM),
    (SCALING, "linear2", STREAM),
    (LINEAR, "norm1", NORM),
    (LINEAR, "norm2", NORM),
    (LINEAR, "self_attn", "dropout is not the same for all units"),
    (LINEAR, "linear2", "dropout is not the same for all units"),
    (LINEAR, "self_attn", STREAM),  # where dropout is off
    (LINEAR, "linear2", STREAM),
    (PERMUTATION, "norm1", NORM),
    (PERMUTATION, "norm2", NORM),
    (PERMUTATION, "self_attn", STREAM_ORDER),
    (PERMUTATION, "linear2", STREAM_ORDER),
}


def twice_of(name: str) -> str:
    return f"`{name}` is used more than once: its module is called again, or shares it"


def added(*names: str) -> set[tuple[str, str, str]]:
    """What is refused of biases of layers whose weights do not move."""
    reasons = {SCALING: STREAM, LINEAR: STREAM, PERMUTATION: STREAM_ORDER}
    return {(kind, name, why) for kind, why in reasons.items() for name in names}


def every(name: str, why: str) -> tuple[str, str, str]:
    return "every symmetry", name, f"`{name}` is {why}"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Modules draw their weights from torch's own generator."""
    torch.manual_seed(0)


@dataclass(frozen=True)
class Row:
    """A model with what is to be found (units by coupling) and refused (kind, where, why)."""

    make: Callable[[], nn.Module]
    example: Any
    found: dict[str, dict[str, int]]
    refused: set[tuple[str, str, str]]


def both(**units: int) -> dict[str, dict[str, int]]:
    named = {name.replace("_to_", " -> ").replace("_and_", ", ").lstrip("_"): size for name, size in units.items()}
    return {SCALING: named, PERMUTATION: named}


def linear_refused(why: str, *where: str) -> set[tuple[str, str, str]]:
    return {(LINEAR, name, why) for name in where}


TABLE: dict[str, Row] = {
    "MLP with bias and dropout": Row(
        mlp,
        rows(3, 4),
        both(_0_to_3=5, _3_to_5=6),
        {(LINEAR, "0", "ReLU is not linear"), (LINEAR, "3", "LeakyReLU is not linear")},
    ),
    "MLP with tanh": Row(
        lambda: mlp(nn.Tanh()),
        rows(3, 4),
        {SCALING: {"3 -> 5": 6}, PERMUTATION: {"0 -> 3": 5, "3 -> 5": 6}},
        {
            (SCALING, "0", "tanh is not homogeneous"),
            (LINEAR, "0", "tanh is not linear"),
            (LINEAR, "3", "LeakyReLU is not linear"),
        },
    ),
    "LeNet": Row(
        lenet,
        rows(2, 1, 8, 8),
        both(_0_to_3=3, _3_to_7=4, _7_to_9=6),
        linear_refused("ReLU is not linear", "0", "3", "7"),
    ),
    "VGG with BatchNorm": Row(
        vgg,
        rows(3, 1, 8, 8),
        {SCALING: {"1 -> 3": 4, "4 -> 8": 4, "8 -> 11": 6}, PERMUTATION: {"8 -> 11": 6}},
        {(kind, name, BATCH_NORM) for kind in (SCALING, LINEAR) for name in ("0", "3")}
        | {(PERMUTATION, name, STATISTICS) for name in ("0", "3")}
        | {(kind, name, NORM) for kind in (LINEAR, PERMUTATION) for name in ("1", "4")}
        | {(LINEAR, "8", "ReLU is not linear")},
    ),
    "ResNet block with a projection shortcut": Row(
        Residual,
        rows(2, 1, 6, 6),
        {
            kind: {"stem -> a, shortcut": 4, "a -> b": 6, "b, shortcut, d -> c, head": 8, "c -> d": 5}
            for kind in (SCALING, PERMUTATION)
        },
        linear_refused("ReLU is not linear", "stem", "a", "b", "shortcut", "c") | linear_refused(STREAM, "d"),
    ),
    "concatenation": Row(
        Dense,
        rows(2, 1, 6, 6),
        {kind: {"first -> second, head": 3, "second -> head": 4} for kind in (SCALING, PERMUTATION)},
        linear_refused("ReLU is not linear", "first", "second"),
    ),
    "depthwise convolution": Row(
        depthwise,
        rows(2, 1, 5, 5),
        {
            SCALING: {"0 -> 2": 4, "2 -> 4": 4, "4 -> 7": 3},
            LINEAR: {"4 -> 7": 3},
            PERMUTATION: {"0, 2 -> 4": 4, "4 -> 7": 3},
        },
        {
            (LINEAR, "0", "ReLU is not linear"),
            (LINEAR, "2", "it is one filter per channel, and the channels do not move"),
        },
    ),
    "grouped convolution and PReLU": Row(
        grouped,
        rows(2, 2, 8),
        {
            SCALING: {"0 -> 2": 6, "2 -> 4": 4},
            LINEAR: {"2 -> 4 #1": 2, "2 -> 4 #2": 2},
            PERMUTATION: {"0, 1 -> 2 #1": 3, "0, 1 -> 2 #2": 3, "2 -> 4 #1": 2, "2 -> 4 #2": 2},
        },
        {
            (kind, "2", "its 2 groups break the axis: units of different groups stay apart")
            for kind in (LINEAR, PERMUTATION)
        }
        | {(LINEAR, "0", "PReLU is not linear")},
    ),
    "InstanceNorm and GroupNorm": Row(
        normed_by_groups,
        rows(2, 1, 6, 6),
        {
            SCALING: {"1 -> 3": 4, "4 -> 7": 6},
            PERMUTATION: {"0, 1 -> 3": 4, "3, 4 -> 7 #1": 3, "3, 4 -> 7 #2": 3},  # within a group
        },
        {(kind, "0", "InstanceNorm adds eps to a variance") for kind in (SCALING, LINEAR)}
        | {(kind, "3", "GroupNorm divides by a mean over the units of a group") for kind in (SCALING, LINEAR)}
        | {(LINEAR, "1", NORM), (LINEAR, "4", NORM)},
    ),
    "normalized vectors and maxout": Row(
        Maxout,
        rows(3, 4),
        {SCALING: {"pieces -> upper": 4}, PERMUTATION: {"lower -> pieces": 6}},
        {
            (SCALING, "lower", f"clamp_min is not homogeneous{WHY['clamp_min']}"),
            (LINEAR, "lower", "a norm is not linear"),
            (LINEAR, "pieces", "amax is not linear"),
            (
                PERMUTATION,
                "pieces",
                "amax makes one number of several units, and which of them change places together is not followed",
            ),
        },
    ),
    "LayerNorm MLP": Row(
        NormedMLP,
        rows(3, 5),
        {SCALING: {"norm -> second": 6}, PERMUTATION: {"first, norm -> second": 6}},
        {(SCALING, "first", LAYER_NORM), (LINEAR, "first", LAYER_NORM), (LINEAR, "norm", NORM)},
    ),
    "encoder layer with ReLU": Row(
        lambda: encoder("relu"),
        rows(2, 5, 8),
        {
            SCALING: ENCODER_SCALING | {"linear1 -> linear2": 12},
            LINEAR: HEADS,
            PERMUTATION: HEADS | {"linear1 -> linear2": 12},
        },
        ENCODER_REFUSED | {(LINEAR, "linear1", "ReLU is not linear")},
    ),
    "encoder layer with GELU": Row(
        lambda: encoder("gelu"),
        rows(2, 5, 8),
        {SCALING: ENCODER_SCALING, LINEAR: HEADS, PERMUTATION: HEADS | {"linear1 -> linear2": 12}},
        ENCODER_REFUSED | {(SCALING, "linear1", "GELU is not homogeneous"), (LINEAR, "linear1", "GELU is not linear")},
    ),
    "attention with rotary embedding": Row(
        Rotary,
        rows(2, 5, 8),
        {
            SCALING: {"q -> k": 4, "v -> o": 8},  # a factor per pair that is turned
            LINEAR: {"v -> o #1": 4, "v -> o #2": 4},
            PERMUTATION: {"v -> o #1": 4, "v -> o #2": 4},
        },
        {
            (kind, name, "what it is multiplied by differs between its units")
            for kind in (LINEAR, PERMUTATION)
            for name in ("q", "k")
        },
    ),
    "LoRA": Row(
        LowRank,
        rows(3, 5),
        {kind: {"a -> b": 3, "down -> up": 2} for kind in (SCALING, LINEAR, PERMUTATION)},
        {every(f"{name}.{what}", "frozen") for name in ("base", "last") for what in ("weight", "bias")}
        | {(SCALING, "up", STREAM), (LINEAR, "up", STREAM), (PERMUTATION, "up", STREAM_ORDER)},
    ),
    "tied autoencoder": Row(
        Tied,
        rows(12, 6),
        both(encode_to_middle=9),
        {every("tied_encode.weight", "tied to `tied_decode.weight`")}
        | added("tied_encode.bias", "tied_decode.bias")
        | {(kind, "middle", "`tied_encode.weight` is tied to `tied_decode.weight`") for kind in (SCALING, PERMUTATION)}
        | linear_refused("ReLU is not linear", "encode", "middle"),
    ),
    "weight norm": Row(
        weight_norm,
        rows(3, 4),
        both(_2_to_4=6),
        {every(f"0.parametrizations.weight.original{index}", "parametrized") for index in (0, 1)}
        | added("0.bias")
        | linear_refused("ReLU is not linear", "2"),
    ),
    "RNN": Row(
        Recurrent,
        rows(2, 4, 3),
        {},
        {
            (kind, f"rnn.{name}", twice_of(f"rnn.{name}"))
            for kind in (SCALING, LINEAR, PERMUTATION)
            for name in ("weight_hh_l0", "bias_hh_l0")
        }
        | {
            (SCALING, "rnn", "tanh is not homogeneous"),
            (LINEAR, "rnn", "tanh is not linear"),
            (PERMUTATION, "rnn", twice_of("rnn.weight_hh_l0")),
        },
    ),
    "SwiGLU": Row(
        SwiGLU,
        rows(2, 3, 4),
        {SCALING: {"up -> down": 6}, PERMUTATION: {"gate, up -> down": 6}},
        {
            (SCALING, "gate", "SiLU is not homogeneous"),
            (LINEAR, "gate", "SiLU is not linear"),
            (LINEAR, "up", "what it is multiplied by differs between its units"),
        },
    ),
    "linear pairs": Row(
        linear_pairs,
        rows(3, 4),
        {kind: {"0 -> 1": 3, "1 -> 2": 5} for kind in (SCALING, LINEAR, PERMUTATION)},
        set(),
    ),
    "a module called twice": Row(
        Twice,
        rows(12, 3),
        both(hidden_to_last=8),
        {(kind, name, twice_of("again.weight")) for kind in (SCALING, PERMUTATION) for name in ("first", "again")}
        | {(kind, "again", twice_of("again.weight")) for kind in (LINEAR,)}
        | {(kind, "again", twice_of("again.bias")) for kind in (SCALING, LINEAR, PERMUTATION)}
        | linear_refused("ReLU is not linear", "first", "again", "hidden"),
    ),
    "frozen layer": Row(
        frozen,
        rows(3, 4),
        {},
        {every("3.weight", "frozen"), every("3.bias", "frozen")}
        | {(kind, "0", "`3.weight` is frozen") for kind in (SCALING, PERMUTATION)}
        | {(LINEAR, "0", "ReLU is not linear")},
    ),
    "gated convolution": Row(
        Gated,
        rows(2, 2, 9),
        both(both_to_last=4),
        {
            (SCALING, "both", "the sigmoid of a gated unit is not homogeneous"),
            (LINEAR, "both", "the sigmoid of a gated unit is not linear"),
            (LINEAR, "both", "what it is multiplied by differs between its units"),
        },
    ),
    "clamps, a maximum and a mask": Row(
        Clamped,
        rows(2, 1, 6, 6),
        {kind: {"first -> one, two": 3, "one, two -> head": 4} for kind in (SCALING, PERMUTATION)},
        {(LINEAR, "first", "clamp is not linear")} | linear_refused("maximum is not linear", "one", "two"),
    ),
    "slices that are assigned": Row(
        Sliced,
        rows(3, 4),
        both(one_to_head=3, two_to_head=3),
        {(kind, name, "no weights read its units") for kind in (SCALING, PERMUTATION) for name in ("one", "two")}
        | linear_refused("ReLU is not linear", "one", "two"),
    ),
    "one number as a gain": Row(
        ReZero,
        rows(3, 4),
        {
            SCALING: {"gain -> branch": 1},
            PERMUTATION: {"stem, branch -> branch, head": 6},
        },
        {("every symmetry", "idle.weight", "it enters no operation on this example")}
        | {(SCALING, "stem, branch -> branch, head", "the same weights read and write its units")}
        | {(kind, "heat", QUOTIENT) for kind in (SCALING, LINEAR, PERMUTATION)}
        | linear_refused("ReLU is not linear", "branch")
        | linear_refused(STREAM, "stem"),
    ),
    "a trained cap, and softmax": Row(
        Pact,
        rows(3, 4),
        {SCALING: {"cap, first -> second": 1}, PERMUTATION: {"first -> second": 5, "second -> head": 6}},
        {
            (SCALING, "second", f"softmax is not homogeneous{WHY['_softmax']}"),
            (LINEAR, "second", "softmax is not linear"),
            (LINEAR, "first", "ReLU is not linear"),
            (LINEAR, "cap", "clamp is applied to it before it is used"),
        },
    ),
    "bilinear layer": Row(
        Pairs,
        rows(3, 4),
        {kind: {"one -> both": 5, "two -> both": 6, "both -> head": 4} for kind in (SCALING, PERMUTATION)}
        | {LINEAR: {"two -> both": 6, "both -> head": 4}},
        linear_refused("ReLU is not linear", "one"),
    ),
    "bags of embeddings": Row(
        lambda: Bags("mean"),
        torch.tensor([[1, 4], [2, 6], [0, 5]]),
        {kind: {"bags -> head": 5} for kind in (SCALING, LINEAR, PERMUTATION)},
        set(),
    ),
    "largest of bags": Row(
        lambda: Bags("max"),
        torch.tensor([[1, 4], [2, 6], [0, 5]]),
        both(bags_to_head=5),
        linear_refused("the largest of a bag of embeddings is not linear", "bags"),
    ),
    "convolutional classifier": Row(
        Classifier,
        rows(3, 1, 8, 8),
        {SCALING: {"norm -> second": 4, "second -> head": 6}, PERMUTATION: {"second -> head": 6}},
        {(SCALING, "first", BATCH_NORM), (LINEAR, "first", BATCH_NORM), (PERMUTATION, "first", STATISTICS)}
        | {(LINEAR, "norm", NORM), (PERMUTATION, "norm", NORM), (LINEAR, "second", "ReLU is not linear")},
    ),
}


@cache
def found_of(name: str) -> tuple[nn.Module, Found]:
    torch.manual_seed(0)
    module = TABLE[name].make()
    return module, find_symmetries(module, TABLE[name].example)


@pytest.mark.parametrize("name", TABLE)
def test_what_is_found_and_what_is_refused(name: str) -> None:
    row, (module, found) = TABLE[name], found_of(name)
    units = {kind: {c.name: c.width for c in found.couplings(kind)} for kind in found.symmetries}
    assert units == row.found
    assert {(entry.kind, entry.where, entry.why) for entry in found.refused} == row.refused
    printed = str(found)
    for entry in found.refused:
        assert entry.why in printed
    assert found_of(name)[0] is module


def as_double(example: Tensor) -> Tensor:
    return example.double() if example.is_floating_point() else example


def outputs(module: nn.Module, weights: Tensor, example: Tensor, mode: str) -> Tensor:
    """What the module makes of the example with its trainable parameters taken from a vector, without dropout."""
    module = copy.deepcopy(module).double().train(mode == "train")
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    named, first = {}, 0
    for name, value in module.named_parameters():
        if value.requires_grad:
            named[name] = weights[0, first : first + value.numel()].view_as(value)
            first += value.numel()
    with torch.no_grad():
        result: Tensor = functional_call(module, named, (as_double(example),))
    return result


def moved_pairs(name: str, scale: float) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Outputs before and after random elements of every symmetry, at random weights, in both modes."""
    module, found = found_of(name)
    size = sum(value.numel() for value in module.parameters() if value.requires_grad)
    weights = 0.5 * torch.randn(1, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for kind, symmetry in found.symmetries.items():
        g = symmetry.group.sample(Streams.from_seeds(7), 1.0 if kind == PERMUTATION else scale)
        moved = symmetry.act(g, weights, Instance(weights))
        assert not torch.equal(moved, weights)
        for mode in ("train", "eval"):
            yield (
                f"{kind} in mode {mode}",
                outputs(module, weights, TABLE[name].example, mode),
                outputs(module, moved, TABLE[name].example, mode),
            )


@pytest.mark.parametrize("name", TABLE)
def test_accepted_symmetries_are_exact(name: str) -> None:
    """By a route of its own, at other weights than the probe's."""
    for where, before, after in moved_pairs(name, 0.2):
        change = float((after - before).abs().max() / before.abs().max())
        assert change <= TOLERANCE, f"{where}: {change}"


def broken(coupling: Coupling, side: str) -> Coupling | None:
    """The coupling without the first half of its readers, or of its writers; None where it has only one."""
    half = len(coupling.upper) // 2 if side == "upper" else coupling.lower.shape[1] // 2
    if half == 0:
        return None
    if side == "upper":
        return Coupling(coupling.lower, coupling.upper[half:], coupling.name)
    return Coupling(coupling.lower[:, half:], coupling.upper, coupling.name)


@pytest.mark.parametrize("name", TABLE)
def test_a_coupling_left_out_is_noticed(name: str) -> None:
    """Half of what reads or writes each unit is forgotten, and the probe sees it."""
    module, found = found_of(name)
    probe = Probe(copy.deepcopy(module).double(), (as_double(TABLE[name].example),))
    for kind, make in MAKERS.items():
        for coupling in found.couplings(kind)[:3]:
            assert probe.deviation(make([coupling]))[0] <= TOLERANCE
            for side in ("upper", "lower"):
                wrong = broken(coupling, side)
                if wrong is not None:
                    assert probe.deviation(make([wrong]))[0] > 1e3 * TOLERANCE, (kind, coupling.name, side)


def test_a_rule_that_is_wrong_is_caught_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were GELU taken for homogeneous, the structure would propose its units and the probe refuse them."""
    from teleport_env.modules import operations

    monkeypatch.setattr(operations, "HOMOGENEOUS", operations.HOMOGENEOUS | {"gelu"})
    found = find_symmetries(mlp(nn.GELU()), rows(3, 4))
    assert [coupling.name for coupling in found.couplings(SCALING)] == ["3 -> 5"]
    (refused,) = [entry for entry in found.refused if entry.kind == SCALING]
    assert refused.where == "0 -> 3"
    assert "the probe moved the outputs by" in refused.why


def test_a_rule_that_fails_refuses_and_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    from teleport_env.modules import operations

    def fails(*_: Any) -> None:
        raise IndexError("a way of calling that it does not know")

    monkeypatch.setitem(operations.RULES, "relu", fails)
    found = find_symmetries(mlp(), rows(3, 4))
    assert [coupling.name for coupling in found.couplings(SCALING)] == ["3 -> 5"]
    why = "relu could not be followed: a way of calling that it does not know"
    assert (SCALING, "0", why) in {(entry.kind, entry.where, entry.why) for entry in found.refused}


@pytest.mark.parametrize("half", ["a", "b"])
def test_a_low_rank_update_with_one_frozen_factor(half: str) -> None:
    module = LowRank()
    getattr(module, half).requires_grad_(False)
    found = find_symmetries(module, rows(3, 5))
    assert [coupling.name for coupling in found.couplings(LINEAR)] == ["down -> up"]
    assert every(half, "frozen") in {(entry.kind, entry.where, entry.why) for entry in found.refused}
    assert not any("could not be followed" in entry.why for entry in found.refused)


def test_an_example_by_name() -> None:
    named = {name: rows(2, 3, 4) for name in ("query", "key", "value")}
    found = find_symmetries(nn.MultiheadAttention(4, 1, batch_first=True), named)
    assert found.symmetries[LINEAR].group.name == "GL(4) x GL(4)"


def test_a_compiled_module() -> None:
    found = find_symmetries(torch.compile(mlp()), rows(3, 4))
    assert [coupling.name for coupling in found.couplings(SCALING)] == ["0 -> 3", "3 -> 5"]


def test_a_module_without_weights() -> None:
    found = find_symmetries(nn.ReLU(), rows(2, 3))
    assert not found.symmetries
    assert not found.refused
    assert str(found) == "no symmetry"


class Returned(nn.Module):
    """Its hidden units are read by a layer and enter the output beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.second(hidden) + hidden.sum(-1, keepdim=True)


def test_hidden_units_that_are_returned_are_refused_by_name() -> None:
    report = find_symmetries(Returned(), torch.randn(5, 3))
    assert list(report.symmetries) == [PERMUTATION]
    reasons = {(entry.where, entry.kind): entry.why for entry in report.refused}
    assert reasons["first", SCALING] == "it is an output of the module"
    assert ("second", SCALING) not in reasons  # nothing reads them: they are no hidden units


def test_modes() -> None:
    """Dropout and running statistics matter in the mode that has them alone."""
    pair = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    assert LINEAR not in find_symmetries(pair, rows(2, 3)).symmetries
    assert LINEAR in find_symmetries(pair, rows(2, 3), modes=("eval",)).symmetries
    image = rows(3, 1, 8, 8)
    names = [c.name for c in find_symmetries(vgg(), image, modes=("train",)).couplings(PERMUTATION)]
    assert names == ["0, 1 -> 3", "3, 4 -> 8", "8 -> 11"]


class Modal(nn.Module):
    """Something of its own in one mode."""

    def __init__(self, what: str, mode: str) -> None:
        super().__init__()
        self.what, self.mode = what, mode
        self.first, self.last, self.more = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        own = self.training is (self.mode == "train")
        if own and self.what == "clamp":
            hidden = hidden.clamp(max=1e6)
        return self.last(hidden) + (self.more(hidden) if own and self.what == "reader" else 0.0)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("what", ["clamp", "reader"])
def test_what_one_mode_has_alone_is_refused(what: str, mode: str) -> None:
    """Regression: the structure was that of one mode, and a clamp that the example does not reach passed the probe."""
    found = find_symmetries(Modal(what, mode), rows(3, 3))
    other = {"train": "eval", "eval": "train"}[mode]
    assert SCALING not in found.symmetries
    (entry,) = [
        entry for entry in found.refused if entry.kind == SCALING and entry.mode == mode and entry.where != "more"
    ]
    assert ("clamp is not homogeneous" if what == "clamp" else "other units there than in the other mode") in entry.why
    assert f"(in mode {mode} alone)" in str(found)
    alone = find_symmetries(Modal(what, mode), rows(3, 3), modes=(other,))
    assert [coupling.name for coupling in alone.couplings(SCALING)] == ["first -> last"]
    assert not any(entry.mode for entry in alone.refused)


class Chooses(nn.Module):
    """Which path is taken depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        return self.last(hidden.clamp(max=2.0) if x.max() > 100 else hidden)


def test_a_path_that_a_value_chooses_is_noted() -> None:
    found = find_symmetries(nn.Sequential(nn.Identity(), Chooses()), rows(3, 3))
    assert SCALING in found.symmetries
    (note,) = found.notes
    assert note.startswith("Python reads a number of a tensor in 1 ")
    assert note in str(found)
    assert not find_symmetries(mlp(), rows(3, 4)).notes


def test_a_part_of_a_parameter_is_not_all_of_it() -> None:
    """Regression: places that a longer sequence uses would have stayed behind."""
    whole = find_symmetries(Positions(), rows(2, 6, 4))
    assert [coupling.name for coupling in whole.couplings(PERMUTATION)] == ["place, embed -> head"]
    part = find_symmetries(Positions(), rows(2, 4, 4))
    assert not part.symmetries
    why = "this example uses only a part of `place`: give one that uses all of it"
    assert (PERMUTATION, "embed", why) in {(entry.kind, entry.where, entry.why) for entry in part.refused}


class Takes(nn.Module):
    """Units are put in another order by an index, and one of them is replaced by a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()[:, [2, 0, 1, 3]]
        hidden[:, 3] = 1.0
        return self.last(hidden)


def test_units_are_followed_through_indices() -> None:
    found = find_symmetries(Takes(), rows(3, 3))
    assert [c.width for kind in (SCALING, PERMUTATION) for c in found.couplings(kind)] == [3, 3]
    assert (SCALING, "first", "no weights read its units") in {(e.kind, e.where, e.why) for e in found.refused}


class Branches(nn.Module):
    """Two linear branches whose outputs are multiplied and then sorted, which has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        return self.down(hidden) + 0.0 * hidden.sort(dim=1).values.sum()


class Stated(Branches):
    """The same, whose author knows better."""

    def teleport_symmetries(self) -> list[Coupled]:
        return [Coupled(LINEAR, {"up.weight": 0}, {"down.weight": 1})]


def test_symmetries_of_a_module_of_one_s_own() -> None:
    """What has no rule is refused, unless the module or a registered rule states it; and a wrong statement is refused."""
    plain = find_symmetries(Branches(), rows(3, 3))
    assert not plain.symmetries
    reasons = {(entry.kind, entry.where): entry.why for entry in plain.refused}
    assert reasons[LINEAR, "up"].startswith("sort has no rule: what it does to units is not known")

    stated = find_symmetries(nn.Sequential(Stated()), rows(3, 3))
    assert [c.name for c in stated.couplings(LINEAR)] == ["up.weight -> down.weight of 0"]

    register_rule(Branches, lambda module: [Coupled(SCALING, {"up.weight": 0}, {"down.weight": 1})])
    try:
        assert find_symmetries(Branches(), rows(3, 3)).couplings(SCALING)[0].width == 4
        register_rule(Branches, lambda module: [Coupled(SCALING, {"up.weight": 1}, {"down.weight": 0})])
        with pytest.raises(ValueError, match="3 rows below and 2 columns above"):
            find_symmetries(Branches(), rows(3, 3))
        register_rule(Branches, lambda module: [Coupled(SCALING, {"over.weight": 0}, {"down.weight": 1})])
        with pytest.raises(ValueError, match="parameter"):
            find_symmetries(Branches(), rows(3, 3))
        register_rule(Branches, lambda module: [Coupled(SCALING, {"up.weight": 5}, {"down.weight": 1})])
        with pytest.raises(ValueError, match="axis of up.weight must be an integer of at least 0 and at most 1, got 5"):
            find_symmetries(Branches(), rows(3, 3))
        for stated, message in (
            (None, "rule of Branches states must be a list of Coupled"),
            ([3], "list of Coupled .*3"),
        ):
            register_rule(Branches, lambda module, stated=stated: stated)
            with pytest.raises(ValueError, match=message):
                find_symmetries(Branches(), rows(3, 3))
    finally:
        del _RULES[Branches]
    with pytest.raises(ValueError, match="a subclass of torch.nn.Module"):
        register_rule(int, lambda module: [])  # type: ignore[arg-type]


class OneMode(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise NotImplementedError("no evaluation")
        return super().forward(x)


class Silent(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> None:  # type: ignore[override]
        super().forward(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear(3, 2), rows(2, 4)), "cannot be run on the example"),
        ((nn.LazyLinear(2), rows(2, 4)), "lazy parameters.*call it once"),
        ((nn.Linear(3, 2), rows(2, 3), ()), "modes must be 'train', 'eval' or both, got"),
        (
            (OneMode(), rows(2, 3)),
            "in mode eval: no evaluation. Where it is not used in that mode, pass modes=\\('train',\\)",
        ),
        ((torch.jit.script(nn.Linear(3, 2)), rows(2, 3)), "the module is compiled by torch.jit, which hides"),
        (("cnn", rows(2, 4)), "module must be a torch.nn.Module, got 'cnn'"),
        ((nn.Linear(3, 2), rows(0, 3)), "example must be what the module is called with, with at least one entry"),
        ((nn.Linear(3, 2), rows(2, 3), "train"), "modes must be a list of names, got 'train'"),
        ((Silent(), rows(2, 3)), "it returns no tensor, but None"),
        ((nn.Linear(3, 2), rows(2, 3), ("test",)), "mode must be one of 'train', 'eval', got 'test'"),
    ],
)
def test_what_cannot_be_searched(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_symmetries(*arguments)


def test_the_module_is_left_alone() -> None:
    module = vgg()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    find_symmetries(module, rows(3, 1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_whole_transformer() -> None:
    """The residual stream of a model that writes it itself changes places as a whole."""
    found = find_symmetries(Transformer(), rows(3, 1, 8, 8))
    widths = {coupling.name.partition(" ->")[0]: coupling.width for coupling in found.couplings(PERMUTATION)}
    stream = "position, embed, layer.self_attn.out_proj, layer.linear2, layer.norm1, layer.norm2, norm"
    assert widths[stream] == 8


class Capped(nn.Module):
    """Units that a tensor bounds, far above what the example reaches."""

    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        cap = torch.tensor(50.0)
        if trained:
            self.cap = nn.Parameter(cap, requires_grad=False)
        else:
            self.register_buffer("cap", cap)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().clamp(max=self.cap))


@pytest.mark.parametrize("trained", [False, True])
def test_a_bound_that_is_a_tensor_is_no_scaling(trained: bool) -> None:
    """Regression: a bound that the example does not reach passed the probe, and larger inputs moved the outputs."""
    report = find_symmetries(Capped(trained), torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert SCALING not in report.symmetries
    assert any("clamp" in entry.why for entry in report.refused if entry.kind == SCALING)


class Beside(nn.Module):
    """Hidden units are read twice: as they are, and after a function that is handed in."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.one, self.other = nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(7, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        return self.one(hidden) + self.other(self.function(hidden))


ROUNDED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "trunc": (lambda h: torch.div(h, 20, rounding_mode="trunc"), "a division that rounds is not homogeneous"),
    "floor": (lambda h: h.clone().div_(20, rounding_mode="floor"), "a division that rounds is not homogeneous"),
    "integers": (lambda h: (h / 20).to(torch.int32).to(h.dtype), "it is cast to int32, which rounds"),
    "halves": (lambda h: (h * 1e-9).half().to(h.dtype), "it is cast to float16, which rounds"),
    "a sum": (lambda h: h + (h * 1e-9).sum(0, dtype=torch.float16), "it is cast to float16, which rounds"),
    "a copy": (
        lambda h: h + torch.zeros(h.shape, dtype=torch.int64).copy_(h / 20),
        "it is cast to int64, which rounds",
    ),
    "bits": (lambda h: h.view(torch.int64).clone().view(h.dtype), "it is cast to int64, which rounds"),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_what_rounds_is_no_scaling(name: str) -> None:
    """Regression: units that round to zero on the example passed the probe, and larger inputs moved the outputs."""
    function, why = ROUNDED[name]
    report = find_symmetries(Beside(function), rows(6, 5))
    assert SCALING not in report.symmetries
    assert why in {entry.why for entry in report.refused if entry.kind == SCALING and entry.where == "first"}
    assert PERMUTATION in report.symmetries


def test_the_largest_over_examples_scales() -> None:
    """Its places, which come with it, are integers and no units."""
    report = find_symmetries(Beside(lambda h: h.max(0, keepdim=True).values), rows(6, 5))
    assert SCALING in report.symmetries


def test_a_cast_to_more_digits_rounds_nothing() -> None:
    report = find_symmetries(Beside(lambda h: h.to(torch.complex128).abs()), rows(6, 5))
    assert SCALING in report.symmetries


class Masking(nn.Module):
    """Some outputs are a constant; the module states a scaling, which ReLU has and tanh has not."""

    def __init__(self, mask: Callable[[Tensor, Tensor], Tensor], wrong: bool) -> None:
        super().__init__()
        self.first, self.last, self.mask = nn.Linear(5, 7), nn.Linear(7, 3), mask
        self.activation = torch.tanh if wrong else torch.relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.last(self.activation(self.first(x)))
        return self.mask(out, torch.ones_like(out, dtype=torch.bool).tril(-1))

    def teleport_symmetries(self) -> list[Coupled]:
        return [Coupled(SCALING, {"first.weight": 0, "first.bias": 0}, {"last.weight": 1})]


MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "least": lambda out, mask: out.masked_fill(mask, torch.finfo(out.dtype).min),
    "-1e15": lambda out, mask: out.masked_fill(mask, -1e15),
    "infinite": lambda out, mask: out.masked_fill(mask, -torch.inf),
    "added": lambda out, mask: out - 1e9 * mask,
    "all but the largest": lambda out, mask: out.masked_fill(out < out.amax(-1, keepdim=True), -1e15),
    "complex": lambda out, mask: torch.complex(out, out.masked_fill(mask, -1e15)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_does_not_hide_what_moves(name: str) -> None:
    """Regression: changes were compared with the largest output, the constant of a mask; infinities refused all."""
    right, wrong = (find_symmetries(Masking(MASKS[name], wrong), rows(6, 5)) for wrong in (False, True))
    assert SCALING in right.symmetries
    assert SCALING not in wrong.symmetries
    assert any("the probe moved the outputs by" in entry.why for entry in wrong.refused)


def test_the_probe_sees_infinities_and_other_shapes() -> None:
    before, elsewhere = [torch.tensor([1.0, torch.inf, -2.0])], [torch.tensor([2.0, torch.inf, 1.0])]
    for after in ([1.0, -torch.inf, -2.0], [1.0, torch.nan, -2.0], [1.0, 5.0, -2.0], [1.0, torch.inf]):
        assert _relative([torch.tensor(after)], before, elsewhere) == torch.inf
    assert _relative(before, before, elsewhere) == 0.0


@pytest.mark.parametrize("read", ["tolist", "numpy", "array"])
def test_numbers_that_leave_torch_all_at_once_are_noted(read: str) -> None:
    """Regression: these execute no operation of torch, and branches on them left no note."""
    largest = {
        "tolist": lambda h: max(max(row) for row in h.tolist()),
        "numpy": lambda h: h.detach().numpy().max(),
        "array": lambda h: np.asarray(h.detach()).max(),
    }[read]
    found = find_symmetries(Beside(lambda h: h.clamp(max=20.0) if largest(h) > 20 else h), rows(6, 5))
    assert SCALING in found.symmetries
    assert [note.partition(":")[0] for note in found.notes] == [
        "Python reads a number of a tensor in the module (item(), tolist(), numpy(), if)"
    ]


@dataclass
class Fields:
    hidden: Tensor


class Attributes:
    def __init__(self, hidden: Tensor) -> None:
        self.inner, self.itself = Slotted(hidden), self


class Slotted:
    __slots__ = ("hidden",)

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


@pytest.mark.parametrize("kind", [Fields, Attributes, Slotted, lambda h: {"states": SimpleNamespace(all=[h])}])
def test_units_that_are_returned_inside_an_object_are_outputs(kind: Any) -> None:
    """Regression: tensors in attributes of what a module returns were no outputs, and the units moved."""

    class Holds(Beside):
        def forward(self, x: Tensor) -> Any:
            hidden = self.first(x).relu()
            return self.one(hidden), kind(hidden)

    report = find_symmetries(Holds(lambda h: h), rows(6, 5))
    assert not report.symmetries
    assert (SCALING, "first", "it is an output of the module") in {(e.kind, e.where, e.why) for e in report.refused}


def test_a_distribution_that_is_returned() -> None:
    class Policy(Beside):
        def forward(self, x: Tensor) -> Any:
            return torch.distributions.Normal(self.one(self.first(x).relu()), 0.1)

    report = find_symmetries(Policy(lambda h: h), rows(6, 5))
    assert [coupling.name for coupling in report.couplings(SCALING)] == ["first -> one"]
