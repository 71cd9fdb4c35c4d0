"""The paper's discussion: a factorization along the gradient flow, and permutations.

Plain flow and the flow from where a teleport at the start leads are integrated, not stepped: no learning rate is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

from reproduction.course import MOST, Course, play
from reproduction.pictures import COLOURS, panels
from reproduction.pieces import play_all
from reproduction.results import (
    Findings,
    Row,
    Setup,
    above,
    both_of,
    interval_of,
    note_of,
    of_each,
    ranked,
    rising,
    rows,
    settings_of,
    sign,
    signed,
)
from teleport_env.agents.base import Agent
from teleport_env.agents.schedules import Every, First, Never
from teleport_env.groups.base import map_element
from teleport_env.problems.matrix_factorization import MatrixFactorization

CASES = {"scalar": (1, 1, 1), "5 x 5 with 10 hidden units": (5, 5, 10), "6 x 5 with 3 hidden units": (6, 5, 3)}
"""Rows, columns and hidden units: scalars, an over-parametrised problem, and one with no more units than the rank."""

FACTORS = tuple(2.0**power for power in range(1, 8))
"""Multiples of the identity that are tried for `g`, 2 to 128, which are ours: the paper says "a large g"."""

FLOWN = FACTORS[:4]
"""Those that a flow starts from. Steps of the integration shorten with the square of the factor, and at the last of them the
gradient and the imbalance are larger in most runs (`since`)."""

PLAIN, UP, _LARGE = "no teleport", "up the gradient norm", "g = {:g}"
STARTS = (PLAIN, UP, *map(_LARGE.format, FLOWN))
TIMES = np.concatenate([[0.0], 10.0 ** (np.arange(-30, 4) / 10.0)])
EARLY, LATE = TIMES.tolist().index(0.1), TIMES.tolist().index(1.0)
"""Places of the times at which losses are compared: 0.1 and 1."""

_FLOOR = 1e-12  # relative to which the integration is exact
_EQUAL = 1e-8  # difference of log10 of two losses that the integration leaves


def _imbalance(problem: MatrixFactorization, params: np.ndarray) -> np.ndarray:
    """``|V V' - U'U|`` in the Frobenius norm ``(B,)``, which gradient flow keeps."""
    lower, upper = problem.layers.weights(torch.from_numpy(params))
    return (lower @ lower.mT - upper.mT @ upper).flatten(1).norm(dim=1).numpy()


def flow(problem: MatrixFactorization, ids: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses ``(T, B)`` at `TIMES`, and the parameters ``(B, P)`` at the last, along ``dw/dt = -grad L``."""
    instance = problem.instances(torch.from_numpy(ids), "test")

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        params = torch.from_numpy(flat.reshape(start.shape))
        return -problem.loss_and_gradient(params, instance)[1].numpy().ravel()

    solved = solve_ivp(slope, (0.0, TIMES[-1]), start.ravel(), method="DOP853", rtol=1e-9, atol=_FLOOR, t_eval=TIMES)
    points = np.ascontiguousarray(solved.y.T).reshape(len(TIMES), *start.shape)
    return np.stack([problem.loss(torch.from_numpy(params), instance).numpy() for params in points]), points[-1]


def _starts(problem: MatrixFactorization, count: int) -> dict[str, np.ndarray]:
    """Where the flows begin ``(B, P)``: at the start, where a schedule's teleport leads, and at ``g = factor``."""
    environment = {"problem": problem, "split": "test", "learning_rate": 1e-6}
    environment["searches"] = [{"search": "normalized_ascent", "steps": 3}]
    course = play(
        "MatrixFactorization", First(k=1, environment=environment), 1, instances=range(count), watch_params=True
    )
    found = {PLAIN: course.jumps[0].left, UP: course.params[0]}
    return found | {_LARGE.format(factor): multiplied(problem, factor, count) for factor in FLOWN}


def multiplied(problem: MatrixFactorization, factor: float, count: int) -> np.ndarray:
    """Where ``g``, ``factor`` times the identity, takes the starts ``(B, P)``."""
    action, instance = problem.symmetries["general_linear"], problem.instances(torch.arange(count), "test")
    large = map_element(lambda part: factor * part, action.group.identity(count))
    return action.act(large, instance.start, instance).numpy()


def _norms(problem: MatrixFactorization, params: np.ndarray) -> np.ndarray:
    """Gradient norms ``(B,)``."""
    instance = problem.instances(torch.arange(len(params)), "test")
    return problem.loss_and_gradient(torch.from_numpy(params), instance)[1].norm(dim=1).numpy()


def enlarged(case: str, count: int) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Factor -> ``log10`` of gradient norm and of imbalance ``(B,)`` against no teleport, for all `FACTORS`."""
    height, width, units = CASES[case]
    problem = MatrixFactorization(rows=height, columns=width, rank=units)
    found = {factor: multiplied(problem, factor, count) for factor in (1.0, *FACTORS)}
    norms, imbalances = ({f: np.log10(of(problem, at)) for f, at in found.items()} for of in (_norms, _imbalance))
    return {f: (norms[f] - norms[1.0], imbalances[f] - imbalances[1.0]) for f in FACTORS}


def _factorize(case: str, label: str, count: int) -> pd.DataFrame:
    """A row per run, from one of the starts."""
    height, width, units = CASES[case]
    problem, ids = MatrixFactorization(rows=height, columns=width, rank=units), np.arange(count)
    start = _starts(problem, count)[label]
    losses, end = flow(problem, ids, start)
    return pd.DataFrame(
        {
            "case": case,
            "start": label,
            "run": ids,
            "grad_norm": _norms(problem, start),
            "imbalance": _imbalance(problem, start),
            "imbalance_at_end": _imbalance(problem, end),
            **{f"loss_{place}": np.log10(np.maximum(values, _FLOOR)) for place, values in enumerate(losses)},
        }
    )


def _against(frame: pd.DataFrame, case: str, label: str, place: int) -> np.ndarray:
    """``log10`` of the loss at a time against that of the plain flow ``(B,)``."""
    values = frame[frame["case"] == case].pivot(index="run", columns="start", values=f"loss_{place}")
    return (values[label] - values[PLAIN]).to_numpy()


def _ranks(frame: pd.DataFrame, case: str) -> tuple[float, float]:
    """Rank correlation of the imbalance with the loss at the late time over the factors, run by run. A run whose losses are
    all below the accuracy of the integration is left out."""
    part = frame[(frame["case"] == case) & (frame["start"] != UP)]
    late = [(run["imbalance"], run[f"loss_{LATE}"]) for _, run in part.groupby("run")]
    found = [ranked(imbalance, loss) for imbalance, loss in late if (loss > np.log10(_FLOOR)).any()]
    return interval_of(np.array(found), normal=True)


def _interval(difference: np.ndarray) -> str:
    return signed(*interval_of(difference, normal=True))


def _orders(course: Course) -> np.ndarray:
    """``log10`` of the loss at the end ``(B,)``; a run's that has diverged is 2 above its start."""
    start, loss = np.log10(course.loss[0]), course.loss[-1]
    return np.where(np.isfinite(loss), np.log10(np.clip(loss, 1e-12, 1e12)), start + 2.0)


NAMES = {"gd": "GD", "momentum": "momentum", "adagrad": "AdaGrad"}


def _permutations(count: int, steps: int, jobs: int) -> list[Row]:
    settings: dict[str, Any] = {"symmetry": "permutation", "split": "test"}
    sampled = {**settings, "searches": [{"search": "random", "candidates": 32}]}
    agents: dict[tuple[str, str], Agent] = {("", "sampled"): Every(k=10, offset=10, environment=sampled)}
    for optimizer, rate in (("gd", 7e-4), ("momentum", 2e-4), ("adagrad", 0.1)):
        base = {**settings, "optimizer": optimizer, "learning_rate": rate}
        agents[optimizer, "plain"] = Never(environment=base)
        blind = {**base, "searches": ["random_element"]}
        agents[optimizer, "moved"] = Every(k=10, offset=10, environment=blind)
    work = partial(play, instances=range(count))
    pieces = {key: (work, ("MLPRegression", agent, steps)) for key, agent in agents.items()}
    played = play_all(pieces, "permutations", jobs)
    taken = np.concatenate([jump.moved for jump in played["", "sampled"].jumps])
    ends = {}
    for optimizer, label in agents:
        if label == "moved":
            plain, moved = played[optimizer, "plain"], played[optimizer, "moved"]
            growth = np.concatenate([jump.growth for jump in moved.jumps])
            ends[optimizer] = (_orders(moved) - _orders(plain), float(np.abs(growth - 1.0).max()))
    norms = max(change for _, change in ends.values())
    lower = [NAMES[name] for name, (found, _) in ends.items() if sign(*interval_of(found, normal=True))]
    return rows(
        {"discussion.sampling": "not comparable", "discussion.permutations": "not comparable"},
        globals() | locals(),
    )


def _guaranteed(better: Iterable[np.ndarray]) -> list[bool | None]:
    """Whether all runs of all cases are better: one counterexample anywhere is enough for no guarantee. A case without runs
    is undecided beside others that hold; no check where no case has any."""
    checks = of_each([bool(runs.all())] if len(runs) else [] for runs in better)
    return [both_of(*checks)] if checks else []


class Better(NamedTuple):
    """Whether a teleport's flow has no higher loss than plain flow's ``(R,)``, of the runs whose gradient and imbalance it
    makes larger: at the late time, and at all."""

    late: np.ndarray
    always: np.ndarray


def _better(frame: pd.DataFrame, case: str, label: str) -> Better:
    part = frame[frame["case"] == case].pivot(index="run", columns="start")
    larger = np.all([part[name][label] > part[name][PLAIN] for name in ("grad_norm", "imbalance")], axis=0)
    lower = np.stack([_against(frame, case, label, place) <= _EQUAL for place in range(1, len(TIMES))])[:, larger]
    return Better(lower[LATE - 1], np.all(lower, axis=0))


def _without_exception(better: Mapping[tuple[str, str], Better]) -> str:
    """The teleports and cases in which no run ends higher, in words."""
    cases: dict[str, list[str]] = {}
    for (label, case), found in better.items():
        if len(found.late) and found.late.all():
            cases.setdefault(label, []).append(case.split(" with ")[0])
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in cases.items())


def _larger(orders: np.ndarray) -> list[bool | None]:
    """Whether ``log10`` of ratios ``(B,)`` lies above 0: the interval of the mean, and `MOST` of the runs."""
    return [above(*interval_of(orders, normal=True)), float((orders > 0.0).mean()) > MOST]


def since(orders: Mapping[float, Sequence[np.ndarray]]) -> float | None:
    """The least factor from which on `_larger` holds in all cases; None where it does not for the largest."""
    held = [all(check for found in orders[factor] for check in _larger(found)) for factor in sorted(orders)]
    last = next((place for place in reversed(range(len(held))) if not held[place]), -1) + 1
    return sorted(orders)[last] if last < len(held) else None


def some_of(checks: Sequence[bool | None]) -> bool | None:
    """Whether one check holds; None where none does and one is undecided."""
    return True if True in checks else None if None in checks else False


def discussion(setup: Setup) -> Findings:
    """Matrix factorization along the flow, and permutations."""
    count = setup.pick(full=512, quick=128, tiny=3)
    pieces = {(case, label): (_factorize, (case, label, count)) for case in reversed(CASES) for label in STARTS}
    flows = play_all(pieces, "gradient flows", setup.jobs)
    frame = pd.concat([flows[case, label] for case in CASES for label in STARTS], ignore_index=True)
    plain = frame[frame["start"] == PLAIN]
    drift = float((plain["imbalance_at_end"] / plain["imbalance"] - 1.0).abs().max())
    wide = frame.pivot(index=["case", "run"], columns="start", values="imbalance")
    jump = float((wide[UP] / wide[PLAIN] - 1.0).abs().median())
    large = _LARGE.format(FLOWN[-1])
    gains = {
        label: {case: [_against(frame, case, label, place) for place in (EARLY, LATE)] for case in CASES}
        for label in (UP, large)
    }
    norms = frame.pivot(index=["case", "run"], columns="start", values="grad_norm")
    growth = {label: float((norms[label] / norms[PLAIN]).median()) for label in gains}
    grown = {case: enlarged(case, count) for case in CASES}
    lengthens, unbalances = (
        {factor: [grown[case][factor][which] for case in CASES] for factor in FACTORS} for which in (0, 1)
    )
    ranks = {case: _ranks(frame, case) for case in CASES}
    better = {(label, case): _better(frame, case, label) for label in gains for case in CASES}
    sure, held = _guaranteed(found.late for found in better.values()), _without_exception(better)
    local = [sign(*interval_of(found[1], normal=True)) for found in gains[UP].values()]
    claims = rows(
        {
            "discussion.imbalance": [drift < 1e-6, jump > 0.01],
            "discussion.gradient": [check for found in lengthens[FACTORS[-1]] for check in _larger(found)],
            "discussion.large": [check for found in unbalances[FACTORS[-1]] for check in _larger(found)],
            "discussion.guaranteed": sure,
            "discussion.local": [some_of(local)],
            "discussion.faster": rising((-middle, half) for middle, half in ranks.values()),
        },
        globals() | locals(),
    )
    claims += _permutations(count if not setup.tiny else 2, 100 if not setup.tiny else 12, setup.jobs)
    table = frame.drop(columns=[f"loss_{place}" for place in range(len(TIMES)) if place not in (EARLY, LATE)])
    return Findings(
        claims,
        {"discussion": _picture(frame)},
        {"discussion": table},
        settings_of("discussion", count=count),
        note=note_of("discussion"),
    )


def _picture(frame: pd.DataFrame) -> Figure:
    columns = [f"loss_{place}" for place in range(1, len(TIMES))]
    with panels(1, len(CASES), width=12.0, height=3.3) as (figure, axes):
        for axis, (case, part) in zip(axes, frame.groupby("case", sort=False), strict=True):
            for (label, runs), colour in zip(part.groupby("start", sort=False), COLOURS, strict=False):
                axis.plot(TIMES[1:], 10.0 ** runs[columns].median().to_numpy(), color=colour, label=label)
            axis.set(xscale="log", yscale="log", title=str(case), xlabel="time of the flow")
            axis.set_ylim(
                max(1e-11, 0.3 * float(10.0 ** part.groupby("start")[columns].median().to_numpy().min())), None
            )
        axes[0].set_ylabel("median loss")
        axes[0].legend(fontsize=7.5)
    return figure
