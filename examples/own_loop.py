"""A schedule of teleports in a training loop of one's own, on scikit-learn's digits, with the controls that explain it.

Run: python examples/own_loop.py --model mlp      (or cnn, transformer, lora)
It prints the mean loss of the last tenth of the steps for each way to train, and the time of a teleport in training steps.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teleport_env.agents import Teleporter, agent_from
from teleport_env.problems.data import digits


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
    """A frozen layer and a trained update of rank 4."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.base = nn.Linear(size, out).requires_grad_(False)
        self.down, self.up = nn.Linear(size, 4, bias=False), nn.Linear(4, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "mlp":
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    if name == "cnn":
        first = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        second = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
        return nn.Sequential(*first, *second)
    return Transformer() if name == "transformer" else nn.Sequential(LowRank(64, 128), nn.ReLU(), LowRank(128, 10))


def train(name: str, steps: int, rate: float, factor: float = 1.0, first: float = 1.0, search: str = "") -> list[float]:
    """The losses; ``search``: what a teleport does every fifty steps."""
    data = digits()
    images, labels = data.images.float().reshape(-1, 64), data.labels
    model = make(name)
    params = [p for p in model.parameters() if p.requires_grad]
    half = len(params) // 2
    groups = [{"params": params[:half], "lr": rate * factor * first}, {"params": params[half:], "lr": rate * factor}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = agent_from("every", k=50, environment={"searches": [search] if search else []}) if search else None
    teleporter = Teleporter(model, optimizer, schedule, steps=steps) if schedule else None
    draws, losses = torch.Generator().manual_seed(1), []
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


def cost(name: str, turns: int) -> tuple[float, float]:
    """Time of a teleport, and of observing alone, each over that of a training step: the least of several turns."""
    images, labels = digits().images.float().reshape(-1, 64)[:128], digits().labels[:128]
    times = {}
    for way in ("plain", "observed", "teleports"):
        model = make(name)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
        schedule = agent_from("every" if way == "teleports" else "never", **({"k": 1} if way == "teleports" else {}))
        teleporter = None if way == "plain" else Teleporter(model, optimizer, schedule, searches=["balance_weights"])
        for turn in range(turns + 2):
            begun = time.process_time()
            for _ in range(10):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images), labels)
                loss.backward()
                if teleporter:
                    teleporter.observe(loss)
                optimizer.step()
            if turn > 1:
                times[way] = min(times.get(way, 1e9), time.process_time() - begun)
    plain, observed, moved = times.values()
    return (moved - observed) / plain, (observed - plain) / plain


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mlp", "cnn", "transformer", "lora"), default="mlp")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--turns", type=int, default=10, help="of the measurement of time")
    parser.add_argument("--costs-only", action="store_true")
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
        losses = train(asked.model, asked.steps, asked.rate, **way)
        print(f"{label:32s} loss {sum(losses[-last:]) / last:.4f}")
    teleport, watching = cost(asked.model, asked.turns)
    print(f"{asked.model}: a teleport takes {teleport:.2f} training steps, observing {watching:.2f} per step")
