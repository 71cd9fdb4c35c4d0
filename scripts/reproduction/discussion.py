"""The paper's discussion: the imbalance that gradient flow keeps and teleports change, and discrete symmetries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from reproduction.course import Course, play
from reproduction.pictures import COLOURS, panels
from reproduction.results import Findings, Row, Setup, interval_of, rows, settings_of, sign, signed
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Every, First, Never
from teleport_env.problems.matrix_factorization import MatrixFactorization

IMBALANCES = (0.0, 0.3, 0.6, 1.0)
STEPS, RATES = 60, (0.005, 0.02)
MOVES: dict[str, Any] = {
    "up the gradient norm": {"search": "normalized_ascent", "steps": 3},
    "a short way up": {"search": "normalized_ascent", "steps": 3, "radius": 0.1},
    "down the gradient norm": {"search": "closed_form", "objective": "balance_gradient"},
    "balance the weights": {"search": "closed_form", "objective": "balance_weights"},
}


def _imbalance(problem: MatrixFactorization, params: np.ndarray) -> np.ndarray:
    """``|V V' - U'U|`` in the Frobenius norm ``(B,)``, which gradient flow keeps."""
    lower, upper = problem.layers.weights(torch.from_numpy(params))
    return (lower @ lower.mT - upper.mT @ upper).flatten(1).norm(dim=1).numpy()


def _factorize(value: float, count: int, rate: float) -> dict[str, Course]:
    problem = MatrixFactorization(imbalance=value)
    environment = {"problem": problem, "learning_rate": rate, "split": "test"}
    agents: dict[str, Agent] = {"no teleport": Never(environment=environment)}
    for label, search in MOVES.items():
        agents[label] = First(k=1, environment={**environment, "searches": [search]})
    return {
        label: play("MatrixFactorization", agent, STEPS, instances=range(count), watch_params=True)
        for label, agent in agents.items()
    }


def _orders(course: Course, step: int = -1) -> np.ndarray:
    """``log10`` of the loss at the end ``(B,)``, or after a step; a run's that has diverged by then is 2 above its start."""
    start, loss = np.log10(course.loss[0]), course.loss[min(step, course.steps)]  # over earlier if all diverged
    return np.where(np.isfinite(loss), np.log10(np.clip(loss, 1e-12, 1e12)), start + 2.0)


def _interval(difference: np.ndarray) -> str:
    return signed(*interval_of(difference, normal=True))


def _best(gains: Mapping[tuple[str, float], Sequence[np.ndarray]], rate: float) -> str:
    """The move after which the mean loss is lowest at a rate, with that mean."""
    means = {label: float(np.concatenate(gains[label, rate]).mean()) for label in MOVES}
    label = min(means, key=means.__getitem__)
    return f"{label} ({means[label]:+.2f})"


def _permutations(count: int, steps: int) -> list[Row]:
    settings: dict[str, Any] = {"symmetry": "permutation", "split": "test"}
    sampled = {**settings, "searches": [{"search": "random", "candidates": 32}]}
    looked = play("MLPRegression", Every(k=10, offset=10, environment=sampled), steps, instances=range(count))
    taken = np.concatenate([jump.moved for jump in looked.jumps])
    ends = {}
    for optimizer, rate in (("gd", 7e-4), ("momentum", 2e-4), ("adagrad", 0.1)):
        base = {**settings, "optimizer": optimizer, "learning_rate": rate}
        plain = play("MLPRegression", Never(environment=base), steps, instances=range(count))
        blind = {**base, "searches": ["random_element"]}
        moved = play("MLPRegression", Every(k=10, offset=10, environment=blind), steps, instances=range(count))
        growth = np.concatenate([jump.growth for jump in moved.jumps])
        ends[optimizer] = (_orders(moved) - _orders(plain), float(np.abs(growth - 1.0).max()))
    norms = max(change for _, change in ends.values())
    return rows(
        {"discussion.permutations": [bool(taken.mean() > 0.5), norms > 0.05], "discussion.random": "not comparable"},
        globals() | locals(),
    )


def _ranks(played: Sequence[dict[str, Course]]) -> tuple[float, float]:
    """Of the change of the imbalance by a teleport with that of the log loss after 10 and after all steps."""
    problem = MatrixFactorization()
    grown, orders = [], {10: [], -1: []}  # type: ignore[var-annotated]
    for courses in played:
        for label in MOVES:
            course = courses[label]
            grown.append(np.log(_imbalance(problem, course.params[0]) / _imbalance(problem, course.jumps[0].left)))
            for step, found in orders.items():
                found.append(_orders(course, step) - _orders(courses["no teleport"], step))
    change = pd.Series(np.concatenate(grown)).rank()
    early, late = (float(change.corr(pd.Series(np.concatenate(found)).rank())) for found in orders.values())
    return early, late


def discussion(setup: Setup) -> Findings:
    """Matrix factorization, the imbalance, and permutations."""
    count = setup.pick(full=512, quick=128, tiny=3)
    played = {(value, rate): _factorize(value, count, rate) for rate in RATES for value in IMBALANCES}
    frames, kept, changed = [], [], []
    for (value, rate), courses in played.items():
        problem = MatrixFactorization(imbalance=value)
        for label, course in courses.items():
            start, end = (_imbalance(problem, course.params[index]) for index in (0, -1))
            left = _imbalance(problem, course.jumps[0].left) if course.jumps else start
            good = ~course.diverged
            if course.jumps:
                changed.append(np.abs(start - left) / left)
            else:
                kept.append(np.abs(end - start)[good] / start[good])
            frames.append(
                pd.DataFrame(
                    {
                        "drawn_imbalance": value,
                        "rate": rate,
                        "schedule": label,
                        "run": np.arange(count),
                        "imbalance_before": left,
                        "imbalance_after": start,
                        "imbalance_at_end": end,
                        "final_loss": course.loss[-1],
                        "diverged": course.diverged,
                    }
                )
            )

    def against_none(label: str, rate: float, step: int = -1) -> list[np.ndarray]:
        """Orders of magnitude after a move less those without, at each imbalance."""
        courses = [found for (_, r), found in played.items() if r == rate]
        return [_orders(found[label], step) - _orders(found["no teleport"], step) for found in courses]

    gains = {(label, rate): against_none(label, rate) for label in MOVES for rate in RATES}
    early = np.concatenate(against_none("up the gradient norm", RATES[0], 10))
    upward = ("up the gradient norm", "a short way up")
    up = {(label, rate): np.concatenate(gains[label, rate]) for label in upward for rate in RATES}
    ranks = {rate: _ranks([c for (_, r), c in played.items() if r == rate]) for rate in RATES}
    drift, jump = np.median(np.concatenate(kept)), np.median(np.concatenate(changed))
    claims = rows(
        {
            "discussion.imbalance": [bool(drift < 0.1 * jump)],
            "discussion.start": [sign(*interval_of(differences, normal=True)) for differences in up.values()],
            "discussion.faster": [value < -0.2 for pair in ranks.values() for value in pair],
        },
        globals() | locals(),
    )
    claims += _permutations(count if not setup.tiny else 2, 100 if not setup.tiny else 12)
    return Findings(
        claims,
        {"discussion": _picture(played, list(MOVES))},
        {"discussion": pd.concat(frames, ignore_index=True)},
        settings_of("discussion", count=count),
    )


def _picture(played: dict[tuple[float, float], dict[str, Course]], moves: Sequence[str]) -> Any:
    with panels(len(RATES), len(IMBALANCES), width=12.0, height=2.7) as (figure, axes):
        for axis, ((value, rate), courses) in zip(axes, played.items(), strict=False):
            for label, colour in zip(["no teleport", *moves], COLOURS, strict=False):
                axis.plot(
                    np.median(courses[label].loss, axis=1), color=colour, label=label
                )  # a diverged run is at infinity
            axis.set(yscale="log", title=f"imbalance {value:g}, rate {rate:g}", xlabel="gradient step")
        axes[0].set_ylabel("median loss")
        axes[0].legend(fontsize=7, loc="upper right", frameon=True, framealpha=0.85)
    return figure
