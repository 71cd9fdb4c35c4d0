"""Algorithm 3: an action on weights and data together, composed over several teleports and applied at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reproduction.course import keeps_loss, play, would_change
from reproduction.pictures import COLOURS, panels
from reproduction.pieces import play_all
from reproduction.results import Findings, Setup, interval_of, largest, rows, settings_of
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import AtSteps, Never
from teleport_env.envs.vector import TeleportVectorEnv
from teleport_env.groups.base import Element
from teleport_env.problems.linear_network import LinearNetwork
from teleport_env.random import Streams

AT = (5, 15, 30)
STEPS = 60
EXAMPLES = 200  # unseen
SEARCHED = 3  # steps of a search
_UP: dict[str, Any] = {"search": "normalized_ascent", "steps": SEARCHED, "radius": 0.1}
SEARCHES = {"up the gradient norm": _UP, "down the gradient norm": {**_UP, "objective": "balance_gradient"}}


def _predictions(env: TeleportVectorEnv, inputs: Tensor, transform: Element | None) -> Tensor:
    """The model's outputs ``(B, p, n)`` on new inputs ``(B, m, n)``, which go through ``transform`` first."""
    problem = env.settings.problem
    assert isinstance(problem, LinearNetwork)
    if transform is not None:
        instance = problem.instances(torch.arange(env.num_envs), "test")
        inputs = problem.symmetries["input_transform"].move_data(transform, inputs, instance)
    return problem.network.forward(torch.from_numpy(env.params), inputs)


def _distance(a: Tensor, b: Tensor) -> np.ndarray:
    """Largest difference ``(B,)`` relative to the largest output."""
    return ((a - b).abs().amax((1, 2)) / b.abs().amax((1, 2))).numpy()


def _play(count: int, label: str = "") -> tuple[pd.DataFrame, np.ndarray]:
    """A row per teleport and run, and losses ``(T + 1, B)``; without a label nothing teleports."""
    with torch.no_grad():
        return _without_graphs(count, label)


def _without_graphs(count: int, label: str) -> tuple[pd.DataFrame, np.ndarray]:
    environment: dict[str, Any] = {"split": "test", "symmetry": "input_transform"}
    agent: Agent = Never(environment=environment)
    if label:
        agent = AtSteps(steps=AT, environment={**environment, "searches": [SEARCHES[label]]})
    problem = LinearNetwork()
    fresh = Streams.from_seeds(range(count)).normal((problem.layers.widths[0], EXAMPLES))
    rows: list[dict[str, Any]] = []

    def look(env: TeleportVectorEnv) -> dict[str, np.ndarray]:
        return {
            "with": _predictions(env, fresh, env.data_element).numpy(),
            "without": _predictions(env, fresh, None).numpy(),
        }

    def finish(env: TeleportVectorEnv) -> None:
        """The same function in the old coordinates: the composed move taken back."""
        transform = env.data_element
        if not label or transform is None:
            return
        action = problem.symmetries["input_transform"]
        moved = _predictions(env, fresh, transform)
        instance = problem.instances(torch.arange(count), "test")
        old = action.act(action.group.inverse(transform), torch.from_numpy(env.params), instance)
        error = _distance(moved, problem.network.forward(old, fresh))
        rows.extend(
            {"search": label, "step": STEPS, "run": run, "moved": False, "unkept": False, "with_transform": error[run]}
            for run in range(count)
        )

    course = play(
        "LinearNetwork",
        agent,
        STEPS,
        instances=range(count),
        measure_jumps=True,  # the loss evaluated anew: info carries it over
        look=look,
        finish=finish,
    )
    for jump in course.jumps:
        change = np.abs(jump.after["training_loss"] / jump.before["training_loss"] - 1.0)
        before, after, bare = (
            torch.from_numpy(values) for values in (jump.before["with"], jump.after["with"], jump.after["without"])
        )
        distances = _distance(after, before), _distance(bare, before)
        rows += [
            {"search": label, "step": jump.step, "run": run, "moved": bool(jump.moved[run])}
            | {"loss_change": float(change[run]), "unkept": bool(jump.unkept[run])}
            | {"with_transform": distances[0][run], "without_transform": distances[1][run]}
            for run in range(count)
        ]
    return pd.DataFrame(rows), course.loss


def _gain(losses: np.ndarray, plain: np.ndarray) -> tuple[float, float]:
    """Mean orders of magnitude below the plain runs, and half the width of its 95 % interval."""
    worst = 100.0 * plain[0]
    ends = [np.where(np.isfinite(end), np.minimum(end, worst), worst) for end in (losses[-1], plain[-1])]
    return interval_of(np.log10(ends[1] / ends[0]), normal=True)


def _kept(table: pd.DataFrame) -> list[tuple[float, list[bool | None]]]:
    """Largest change of the loss in the teleports that move, and of the predictions, each with the check of its claim; no
    check where nothing moves. From rows of `_play`."""
    moved, unkept = (table[name].to_numpy(bool) for name in ("moved", "unkept"))
    change, predictions = table["loss_change"].to_numpy()[moved], largest(table["with_transform"].to_numpy())
    predicts: list[bool | None] = [predictions < 1e-9] if moved.any() else []
    return [(largest(change), keeps_loss(change, unkept, 1e-9)), (predictions, predicts)]


def data_transform(setup: Setup) -> Findings:
    """Algorithm 3 on a linear network."""
    count = setup.pick(full=64, quick=32, tiny=2)
    played = play_all({label: (_play, (count, label)) for label in (*SEARCHES, "")}, "teleports", setup.jobs)
    plain = played.pop("")[1]
    table = pd.concat([frame for frame, _ in played.values()], ignore_index=True)
    jumps = table[table["step"] < STEPS]
    (change, stays), (worst, predicts) = _kept(table)
    refused = would_change(table["unkept"].to_numpy(bool))
    bare = float(jumps["without_transform"].median())
    gains = {label: _gain(losses, plain) for label, (_, losses) in played.items()}
    claims = rows(
        {
            "algorithm3.stays": stays,
            "algorithm3.predictions": predicts,
            "algorithm3.speed": "not comparable",
        },
        globals() | locals(),
    )
    with panels(1, 2, width=9.0, height=3.2) as (figure, axes):
        shown = {"no teleport": plain, **{label: losses for label, (_, losses) in played.items()}}
        for (label, values), colour in zip(shown.items(), COLOURS, strict=False):
            low, line, high = np.percentile(values, [25, 50, 75], axis=1)
            axes[0].plot(line, color=colour, label=label)
            axes[0].fill_between(np.arange(STEPS + 1), low, high, color=colour, alpha=0.15, linewidth=0)
        axes[0].set(yscale="log", title="loss: median and quartiles", xlabel="gradient step")
        axes[0].legend()
        for name, marker, colour in (("with_transform", "o", COLOURS[1]), ("without_transform", "x", COLOURS[2])):
            values = np.where(jumps["moved"], np.maximum(jumps[name], 1e-17), np.nan)
            axes[1].plot(jumps["step"] + (jumps["run"] - count / 2) * 0.08, values, marker, color=colour, markersize=3)
            axes[1].plot([], [], marker, color=colour, label=name.replace("_", " "))
        axes[1].set(yscale="log", title="predictions on new inputs: change", xlabel="teleport before step")
        axes[1].set_xticks(AT)
        axes[1].legend(loc="center right")
    settings = settings_of("algorithm3", count=count, at=AT, searched=SEARCHED)
    return Findings(claims, {"algorithm3": figure}, {"algorithm3": table}, settings)
