"""What the examples own_loop_*.py share: a training loop with a `Teleporter`, the ways to train it, and its costs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teleport_env.agents import Teleporter
from teleport_env.problems.data import DataMissing, digits, mnist


class Task(NamedTuple):
    """What is trained.

    Attributes:
        images: ``(N, side, side)`` grey values.
        labels: ``(N,)``.
        model: Function that makes a fresh model, which takes images and gives logits.
        optimizer: Function that makes its optimizer of parameter groups.
        rate: Its learning rate.
    """

    images: Tensor
    labels: Tensor
    model: Callable[[], nn.Module]
    optimizer: Callable[..., torch.optim.Optimizer]
    rate: float


def data(folder: str | None) -> tuple[Tensor, Tensor]:
    """Images ``(N, side, side)`` and labels: MNIST from a folder with its IDX files, else scikit-learn's digits."""
    try:
        found = digits() if folder is None else mnist(folder)
    except DataMissing as error:
        raise SystemExit(f"--data-dir: {error}") from error
    side = round(found.images.shape[1] ** 0.5) if found.images.ndim == 2 else found.images.shape[-1]
    return found.images.float().view(-1, side, side), found.labels


def train(
    task: Task, steps: int, seed: int, search: str = "", factor: float = 1.0, halves: tuple[float, float] = (1.0, 1.0)
) -> list[float]:
    """The loss of every step.

    Args:
        task: Task that is trained.
        steps: Gradient steps on batches of 128.
        seed: Seed of the model and of the batches.
        search: Change every fifty steps, a search of teleports or ``"reset_optimizer"``; empty: none.
        factor: Factor of the learning rate.
        halves: Two more, of the first half of the parameters and of the second.
    """
    torch.manual_seed(seed)
    model = task.model()
    params = [p for p in model.parameters() if p.requires_grad]
    parts = params[: len(params) // 2], params[len(params) // 2 :]
    groups = [
        {"params": part, "lr": task.rate * factor * half} for part, half in zip(parts, halves, strict=True) if part
    ]
    optimizer = task.optimizer(groups)
    teleporter = None
    if search:
        teleporter = Teleporter(model, optimizer, "every:k=50,offset=50", searches=[search])
    draws, losses = torch.Generator().manual_seed(seed + 1), []
    for _ in range(steps):
        batch = torch.randint(len(task.labels), (128,), generator=draws)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(task.images[batch]), task.labels[batch])
        loss.backward()
        if teleporter:
            teleporter.observe(loss)
        optimizer.step()  # teleports happen here
        losses.append(loss.item())
    return losses


WAYS: dict[str, dict[str, Any]] = {
    "no teleports": {},
    "teleports, balance_weights": {"search": "balance_weights"},
    "teleports, normalized_ascent": {"search": "normalized_ascent"},
    "reset of the state, no teleport": {"search": "reset_optimizer"},
    "rate times 2": {"factor": 2.0},
    "rate times 1/2": {"factor": 0.5},
    "rate of the first half times 2": {"halves": (2.0, 1.0)},
    "rate of the second half times 2": {"halves": (1.0, 2.0)},
}
"""With and without teleports, and the controls that may explain the difference."""


def looping(task: Task, way: str) -> Callable[[int], list[float]]:
    """Makes so many training steps on one batch, plain, observed by a schedule, or with a teleport each: seconds of each."""
    torch.manual_seed(0)
    model, images, labels = task.model(), task.images[:128], task.labels[:128]
    optimizer = task.optimizer([{"params": [p for p in model.parameters() if p.requires_grad], "lr": 1e-5}])
    schedules = {
        "never": "never",
        "reads": 'stall:threshold=0,watch="gradient"',
        "teleports": "cycle:pattern=[1,0,2,0]",  # to two places in turn, so that every teleport moves
    }
    menu = [
        {"search": "closed_form", "objective": "balance_weights"},
        {"search": "closed_form", "objective": "relative", "trust_radius": 0.1},
    ]
    teleporter = Teleporter(model, optimizer, schedules[way], searches=menu) if way in schedules else None

    def steps(count: int) -> list[float]:
        times = [time.process_time()]
        for _ in range(count):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            if teleporter:
                teleporter.observe(loss)
            optimizer.step()
            times.append(time.process_time())
        assert not teleporter or way != "teleports" or all(row["moved"] for row in teleporter.history[-count:])
        return [after - before for before, after in pairwise(times)]

    return steps


def costs(task: Task, turns: int) -> tuple[float, float, float, float]:
    """Milliseconds of a training step; over it those of a teleport, of the work of a schedule that reads no losses, and of
    one that does. Processor time: of every turn, which the ways take one after the other, the median step, and the least
    of those."""
    loops = {way: looping(task, way) for way in ("plain", "never", "reads", "teleports")}
    times = dict.fromkeys(loops, 1e9)
    for turn in range(turns + 1):
        for way, steps in loops.items():
            step = median(steps(10))
            if turn:  # the first finds symmetries
                times[way] = min(times[way], step)
    plain, never, reads, moved = times.values()
    return 1000.0 * plain, (moved - never) / plain, (never - plain) / plain, (reads - plain) / plain


def parser(text: str | None) -> argparse.ArgumentParser:
    """Of the options that all examples have."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data-dir", help="folder with MNIST's IDX files; default: scikit-learn's digits")
    made.add_argument("--steps", type=int, default=400, help="training steps")
    made.add_argument("--seeds", type=int, default=3, help="runs per way to train")
    made.add_argument("--rate", type=float, help="learning rate")
    made.add_argument("--turns", type=int, default=40, help="turns of the measurement of time")
    made.add_argument("--costs-only", action="store_true", help="measure costs and train nothing")
    return made


def report(task: Task, asked: argparse.Namespace) -> None:
    """Print what each way to train ends at, the mean over the last tenth of the steps, and the costs."""
    if min(asked.steps, asked.seeds, asked.turns) < 1:
        raise SystemExit("--steps, --seeds and --turns must be at least 1")
    torch.set_num_threads(1)
    if asked.rate is not None and not 0.0 < asked.rate < float("inf"):
        raise SystemExit(f"--rate must be a positive number, got {asked.rate}")
    task = task if asked.rate is None else task._replace(rate=asked.rate)
    last = max(1, asked.steps // 10)
    for label, way in {} if asked.costs_only else WAYS.items():
        runs = [train(task, asked.steps, seed, **way)[-last:] for seed in range(asked.seeds)]
        means = [sum(losses) / last for losses in runs]
        print(f"{label:32s} loss {sum(means) / len(means):.4f} ({min(means):.4f} to {max(means):.4f})", flush=True)
    step, *shares = costs(task, asked.turns)
    words = zip(("teleport", "step, fixed schedule", "step, other schedule"), shares, strict=True)
    print(f"training step {step:.2f} ms; in such steps: " + ", ".join(f"{word} {share:.2f}" for word, share in words))
