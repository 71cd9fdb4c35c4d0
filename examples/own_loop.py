"""A schedule of teleports in a training loop of one's own, on scikit-learn's digits, with the controls that explain it.

Run: python examples/own_loop.py --model mlp      (or cnn, transformer, lora)
It prints the mean loss of the last tenth of the steps for each way to train, and costs: the time of a training step, and in
such steps that of a teleport, of a step under a fixed schedule, and of one under a schedule that reads losses and gradients.
--costs-only prints the costs of all four models.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teleport_env.agents import Teleporter, agent_from
from teleport_env.problems.data import digits

MODELS = ("mlp", "cnn", "transformer", "lora")


class Transformer(nn.Module):
    """Eight rows of an image are eight tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x.view(-1, 8, 8))).mean(dim=1))


class LowRank(nn.Module):
    """A frozen layer and a trained update of rank 4, which begins at zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def pretrained() -> list[nn.Module]:
    """The layers of a perceptron that has learned upright digits."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = inputs("mlp")
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return [*model]


def inputs(name: str) -> tuple[Tensor, Tensor]:
    """Images ``(N, 64)`` and labels; for low-rank updates a quarter turn from those that the base has learned."""
    images = digits().images.float()
    return (images.rot90(dims=(-2, -1)) if name == "lora" else images).reshape(-1, 64), digits().labels


def make(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if name == "mlp":
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    if name == "cnn":
        first = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        second = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
        return nn.Sequential(*first, *second)
    if name == "transformer":
        return Transformer()
    first, relu, second = pretrained()
    return nn.Sequential(LowRank(first), relu, LowRank(second))


def train(
    name: str, steps: int, rate: float, seed: int, factor: float = 1.0, first: float = 1.0, search: str = ""
) -> list[float]:
    """The losses; ``search``: what a teleport does every fifty steps."""
    images, labels = inputs(name)
    model = make(name, seed)
    params = [p for p in model.parameters() if p.requires_grad]
    half = len(params) // 2
    groups = [{"params": params[:half], "lr": rate * factor * first}, {"params": params[half:], "lr": rate * factor}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = (
        agent_from("every", k=50, offset=50, environment={"searches": [search] if search else []}) if search else None
    )
    teleporter = Teleporter(model, optimizer, schedule, steps=steps) if schedule else None
    draws, losses = torch.Generator().manual_seed(seed + 1), []
    for _ in range(steps):
        batch = torch.randint(len(images), (128,), generator=draws)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        if teleporter:
            teleporter.observe(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def looping(name: str, way: str) -> Callable[[int], None]:
    """Makes so many training steps on one batch, plain, observed or with a teleport each."""
    images, labels = (part[:128] for part in inputs(name))
    model = make(name)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    schedules = {
        "never": ("never", {}),
        "stall": ("stall", {"threshold": 0.0, "watch": "gradient"}),
        "teleports": ("every", {"k": 1}),
    }
    teleporter = None
    if way in schedules:
        schedule, settings = schedules[way]
        teleporter = Teleporter(model, optimizer, agent_from(schedule, **settings), searches=["balance_weights"])

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            if teleporter:
                teleporter.observe(loss)
            optimizer.step()

    return steps


def costs(name: str, turns: int) -> tuple[float, float, float, float]:
    """Milliseconds of a training step; over it those of a teleport, of the work of a schedule that reads no losses, and of
    the work of one that does: the least of several turns, which the ways take one after the other."""
    loops = {way: looping(name, way) for way in ("plain", "never", "stall", "teleports")}
    times = dict.fromkeys(loops, 1e9)
    for turn in range(turns + 1):
        for way, steps in loops.items():
            begun = time.process_time()
            steps(10)
            if turn:  # the first finds symmetries
                times[way] = min(times[way], time.process_time() - begun)
    plain, never, stall, moved = times.values()
    return 100.0 * plain, (moved - never) / plain, (never - plain) / plain, (stall - plain) / plain


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=20, help="of the measurement of time")
    parser.add_argument("--costs-only", action="store_true", help="the costs of all four models and nothing else")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    last = max(1, asked.steps // 10)
    ways: dict[str, dict] = {
        "no teleports": {},
        "teleports, balance_weights": {"search": "balance_weights"},
        "teleports, normalized_ascent": {"search": "normalized_ascent"},
        "reset of momentum, no teleport": {"search": "reset_optimizer"},
        "rate times 2": {"factor": 2.0},
        "rate of the first half times 2": {"first": 2.0},
    }
    for label, way in {} if asked.costs_only else ways.items():
        every = [train(asked.model, asked.steps, asked.rate, seed, **way)[-last:] for seed in range(asked.seeds)]
        means = [sum(losses) / last for losses in every]
        print(f"{label:32s} loss {sum(means) / len(means):.4f} ({min(means):.4f} to {max(means):.4f})")
    print(f"{'in training steps':18s} {'step, ms':>9s} {'teleport':>9s} {'fixed':>9s} {'observed':>9s}")
    for name in MODELS if asked.costs_only else (asked.model,):
        took, *shares = costs(name, asked.turns)
        print(f"{name:18s} {took:9.2f} " + " ".join(f"{share:9.2f}" for share in shares))
