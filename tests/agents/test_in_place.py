"""Scalings in a model's own tensors are those of the general way, which works on a vector of all weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from teleport_env.agents import Teleporter, agent_from, in_place, teleporter
from teleport_env.native import KERNELS

pytestmark = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")


class Branches(nn.Module):
    """A residual stream that two layers write and two read, one with a repeated axis, and a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.mixed = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.enter(x))
        return self.leave(torch.relu(self.inner(hidden))) + hidden @ self.mixed


def low_rank() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 2, bias=False), nn.Linear(2, 5, bias=False), nn.ReLU(), nn.Linear(5, 3))


def convolutions() -> nn.Module:
    first = (nn.Unflatten(1, (1, 6, 1)), nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
    return nn.Sequential(*first, nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x[:, None, :] * torch.arange(1.0, 4.0, dtype=x.dtype)[None, :, None]).mean(dim=1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "chain": lambda: nn.Sequential(
        *(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 1), nn.ReLU(), nn.Linear(1, 5), nn.LeakyReLU(0.1), nn.Linear(5, 3))
    ),
    "branches": Branches,
    "convolutions": convolutions,
    "attention": Attention,
    "low rank": low_rank,
}

SEARCHES = [
    {"search": "closed_form", "objective": "balance_weights", "sweeps": 3},
    {"search": "closed_form", "objective": "balance_weights", "trust_radius": 0.05},
    {"search": "closed_form", "objective": "balance_gradient"},
    {"search": "closed_form", "objective": "gradient_norm", "trust_radius": 0.3},
    {"search": "closed_form", "objective": "relative"},
]


class Reads:
    """A schedule that the loop shows every step."""

    def __init__(self, agent: Any) -> None:
        self.predict, self.environment = agent.predict, agent.environment


def trained(
    model: str,
    search: dict[str, Any],
    dtype: torch.dtype = torch.float64,
    spoil: Callable[[Any], None] = lambda _: None,
    kind: Any = torch.optim.Adam,
    **settings: Any,
) -> tuple[list[Tensor], Teleporter]:
    """Everything that two teleports move, and the teleporter."""
    torch.manual_seed(0)
    module = MODELS[model]().to(dtype)
    average = MODELS[model]().to(dtype)
    average.load_state_dict(module.state_dict())
    x, y = torch.randn(9, 6, dtype=torch.float64).to(dtype), torch.arange(9) % 3
    optimizer = kind(module.parameters(), lr=1e-2, **(settings or {"amsgrad": True}))
    schedule = agent_from("at_steps", steps=(2, 4), environment={"searches": [search]})
    found = Teleporter(module, optimizer, Reads(schedule), symmetry="scaling", also=[average], steps=40)
    spoil(module)
    for _ in range(6):  # of the last step features say how it went
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x), y)
        loss.backward()
        found.observe(loss)
        optimizer.step()
    moments = [value for p in module.parameters() for value in optimizer.state[p].values() if value.ndim]
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return [p.detach() for p in (*module.parameters(), *average.parameters())] + moments + gradients, found


WORDS = ("step", "search", "status", "moved")


def general(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teleporter, "in_place", lambda *_: None)


def close(one: tuple[list[Tensor], Teleporter], other: tuple[list[Tensor], Teleporter], precision: float) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=precision, atol=precision * float(theirs.abs().max()))
    assert len(one[1].history) == 2
    for row, expected in zip(one[1].history, other[1].history, strict=True):
        assert [row[name] for name in WORDS] == [expected[name] for name in WORDS]
        for name in ("loss", "norm_before", "norm_after"):
            assert row[name] == pytest.approx(expected[name], rel=10 * precision)
    np.testing.assert_allclose(one[1].features, other[1].features, atol=1e-5)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: "-".join(map(str, [*search.values()][1:])))
@pytest.mark.parametrize("model", MODELS)
def test_in_place_is_the_general_way(model: str, search: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = trained(model, search)
    assert mine[1]._units is not None
    general(monkeypatch)
    theirs = trained(model, search)
    assert theirs[1]._units is None
    assert any(row["moved"] for row in theirs[1].history)
    close(mine, theirs, 1e-9)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
        (torch.optim.ASGD, {"t0": 0.0}),
        (torch.optim.Rprop, {"etas": (0.5, 1.2)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_kind_of_state(kind: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = trained("chain", SEARCHES[0], kind=kind, **settings)
    general(monkeypatch)
    close(mine, trained("chain", SEARCHES[0], kind=kind, **settings), 1e-9)


@pytest.mark.parametrize("search", SEARCHES[:1])
def test_in_single_precision(search: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = trained("convolutions", search, torch.float32)
    assert mine[1]._units is not None
    general(monkeypatch)
    theirs = trained("convolutions", search, torch.float32)
    assert all(row["moved"] for row in theirs[1].history)
    for one, other in zip(mine[0], theirs[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_what_the_kernel_cannot_read_goes_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(module: Any) -> None:
        module[4].weight.data = module[4].weight.data.to(memory_format=torch.channels_last)

    mine = trained("convolutions", SEARCHES[0], spoil=spoil)
    assert mine[1]._units is not None
    assert mine[1]._units.find(mine[1]._course.runs.searches[0]) is None
    general(monkeypatch)
    close(mine, trained("convolutions", SEARCHES[0], spoil=spoil), 1e-9)


def test_a_move_that_gains_nothing_or_is_not_finite_is_refused_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[bool, list[str]] = {}
    for alone in (False, True):
        if alone:
            general(monkeypatch)
        torch.manual_seed(0)
        module = MODELS["chain"]().double()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
        schedule = agent_from("at_steps", steps=(0, 0, 1), environment={"searches": [SEARCHES[0] | {"sweeps": 60}]})
        teleports = Teleporter(module, optimizer, schedule, symmetry="scaling")
        x = torch.randn(9, 6, dtype=torch.float64)
        for large in (1.0, 1e200):
            optimizer.zero_grad()
            loss = module(x).square().mean()
            loss.backward()
            for p in module.parameters():
                p.grad *= large
            teleports.observe(loss)
            optimizer.step()
        found[alone] = [row["status"] for row in teleports.history]
    assert found[False] == found[True]
    assert found[True][:2] == ["moved", "refused: no candidate improved the objective"]


def test_slots_of_rows_and_columns() -> None:
    rows, columns = torch.tensor([3, 0, 5]), torch.tensor([1, 1, 0, 2])
    first = torch.maximum(rows[:, None], columns[None, :])
    second = torch.minimum(rows[:, None], columns[None, :])
    for pair in ((first, second), (second, first), (first.t(), second.t())):
        found = in_place.separated(*pair)
        assert found is not None
        assert torch.equal(torch.maximum(found[0][:, None], found[1][None, :]), torch.maximum(*pair))
        assert torch.equal(torch.minimum(found[0][:, None], found[1][None, :]), torch.minimum(*pair))
    first[1, 1] = 4
    assert in_place.separated(first, second) is None


def test_a_state_that_the_kernel_cannot_read_moves_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turned(torch.optim.SGD):
        """Keeps its state in another order in memory."""

        def step(self, closure: Any = None) -> Any:
            done = super().step(closure)
            for state in self.state.values():
                state["momentum_buffer"] = state["momentum_buffer"].t().contiguous().t()
            return done

    mine = trained("chain", SEARCHES[0], kind=Turned, momentum=0.9)
    general(monkeypatch)
    close(mine, trained("chain", SEARCHES[0], kind=torch.optim.SGD, momentum=0.9), 1e-9)
