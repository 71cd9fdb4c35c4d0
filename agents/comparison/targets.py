"""The score of a comparison by targets: what each of many losses costs an agent, as COCO measures optimizers.

Every episode has a ladder of targets, each a loss lower by a fifth of an order of magnitude, from its start down to the
tolerance. A target has the cost at which the loss first met it, infinite where it never did (`rows_of_targets`, the file
``targets.csv.gz``). From these costs follow

* the empirical cumulative distribution (ECDF): the share of targets that are reached within a cost, every episode with the
  same weight (Hansen et al., "COCO: a platform for comparing continuous optimizers in a black-box setting", 2021, section
  7; `reached_within`);
* the score: the area below that curve over the logarithm of the cost, from 1 gradient evaluation to the budget, as a share
  of the whole; 1 would be every target at once (`scores`);
* the expected running time per target (`statistics.expected_cost_to_target`, `running_times`, `expected_time`).

The same is said of processor seconds. Their unit is one gradient step of plain descent, so that the budget is the time in
which plain descent spends its own.

**Seconds** are those of runs that play one at a time with one thread, agents and solvers alike. Each kind of action has a
pace, its processor seconds per gradient evaluation: gradient steps (line searches among them) one, and each teleport of the
menu its own (`paces_of`). A course then takes the sum over its actions of cost times pace, so that an agent pays for its
teleports what they really take. A solver has one pace.

On a problem with mini-batches an agent's loss is that of its own mini-batch, and a solver's that of the training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.summary import PLAIN, import_pandas
from teleport_env.agents.play import Played, cost_to_target, orders_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

STEP = 0.2
"""Orders of magnitude from one target to the next, as in COCO's problem suite bbob."""

MOST = 30.0
"""Orders of magnitude to the last target at most."""

GRADIENT_STEP = 0
"""The kind of all gradient steps; teleport ``i`` of the menu is kind ``i + 1``."""

_END = "\x1e\n"  # between lines: a name may hold the end of one
_SLACK = 1e-9  # of a logarithm: a loss at the tolerance has met the target at the tolerance
_EPISODE = ["problem", "agent", "seed", "instance_id"]
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


# -- what targets cost -------------------------------------------------------------------------------------------------


def rows_of_targets(
    played: Played, tolerance: float, paces: Mapping[int, float], steps: int = 1
) -> list[dict[str, Any]]:
    """Costs and seconds to all targets, one dict per episode.

    Args:
        played: Episodes of one agent; where there are more rows than courses, as of a solver that is deterministic, the
            courses are repeated.
        tolerance: Loss at which an episode converges; no target lies below it.
        paces: Processor seconds per gradient evaluation of each kind of action, from `paces_of`.
        steps: Number of the agent's actions that are gradient steps.

    Returns:
        The episode's names, ``budget``, ``spent`` (its cost in all), ``pace`` (its seconds per gradient evaluation),
        ``costs`` and ``seconds``: tuples with an entry per target, infinite where it was not reached. A start that is not
        finite, or too close to the tolerance, has none.
    """
    first = played.loss[0]
    room = np.where(np.isfinite(first), orders_of(first, tolerance) - np.log10(tolerance), 0.0)
    counts = np.floor((np.minimum(room, MOST) + _SLACK) / STEP).astype(int)
    ladder = STEP * np.arange(1, counts.max(initial=0) + 1)
    clock = _clock(played, paces, steps)
    shape = len(ladder), len(first)
    costs = np.array([cost_to_target(played, target - _SLACK) for target in ladder]).reshape(shape)
    seconds = np.array([cost_to_target(played, target - _SLACK, clock) for target in ladder]).reshape(shape)
    spent = played.cost[-1]
    pace = np.divide(clock[-1], spent, out=np.full(len(first), paces[GRADIENT_STEP]), where=spent > 0)
    return [
        {
            **{name: row[name] for name in (*_EPISODE, "budget")},
            "spent": row["cost"],
            "pace": float(pace[place]),
            "costs": tuple(costs[: counts[place], place].tolist()),
            "seconds": tuple(seconds[: counts[place], place].tolist()),
        }
        for index, row in enumerate(played.rows)
        for place in [index % len(first)]
    ]


def paces_of(alone: Sequence[Played], steps: int = 1) -> dict[int, float]:
    """Processor seconds per gradient evaluation of each kind of action, the median over the actions of some episodes.

    Args:
        alone: Episodes that were played one at a time, or a solver's, which have no actions and one pace.
        steps: Number of the agent's actions that are gradient steps.
    """
    found: dict[int, list[float]] = {}
    for played in alone:
        for kind, values in timed_actions(played, steps).items():
            found.setdefault(kind, []).extend(values)
    # a clock too coarse for single actions, as on some systems, is right in the mean; one that saw nothing says nothing
    paces = {kind: float(np.median(values) or np.mean(values) or np.nan) for kind, values in found.items() if values}
    # an agent that was seen to do nothing but teleport has no other pace for its steps
    paces.setdefault(GRADIENT_STEP, float(np.median([*paces.values()])) if paces else float("nan"))
    return paces


def timed_actions(played: Played, steps: int = 1) -> dict[int, list[float]]:
    """Processor seconds per gradient evaluation of single actions, by their kind; of a solver those of whole episodes."""
    if played.actions is None or played.seconds is None:
        return {GRADIENT_STEP: [row["seconds"] / row["cost"] for row in played.rows if row["cost"] > 0]}
    paid, kinds = np.diff(played.cost, axis=0), _kinds(played.actions, steps)
    each = [(kind, (kinds == kind) & (paid > 0)) for kind in np.unique(kinds[paid > 0]).tolist()]
    return {kind: (played.seconds[mine] / paid[mine]).tolist() for kind, mine in each}


def paid_kinds(played: Played, place: int, steps: int = 1) -> list[tuple[int, int]]:
    """Number, from 1 on, and kind of each action of the episode at ``place`` that cost something."""
    assert played.actions is not None
    paid = np.flatnonzero(np.diff(played.cost[:, place]) > 0)
    return list(zip((paid + 1).tolist(), _kinds(played.actions[paid, place], steps).tolist(), strict=True))


def _kinds(actions: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    return np.maximum(actions - steps + 1, GRADIENT_STEP)


def _clock(played: Played, paces: Mapping[int, float], steps: int) -> Array:
    """Processor seconds ``(T + 1, B)`` that each course has taken after each action."""
    if played.actions is None:
        return played.cost * paces[GRADIENT_STEP]
    kinds = _kinds(played.actions, steps)
    table = np.full(int(kinds.max(initial=0)) + 1, np.nan)
    for kind in range(len(table)):
        # a teleport too rare to have been timed takes as long per evaluation as the others
        others = [pace for one, pace in paces.items() if one != GRADIENT_STEP]
        usual = float(np.median(others)) if kind and others else paces[GRADIENT_STEP]
        table[kind] = paces.get(kind, usual)
    took = np.diff(played.cost, axis=0) * table[kinds]
    return np.concatenate([np.zeros((1, took.shape[1])), np.cumsum(took, axis=0)])


def to_csv(targets: pd.DataFrame) -> str:
    """The costs as a file: a column per target, named by its orders, then one of its seconds; ``inf`` where it was missed,
    empty where it is none."""
    names: list[str] = []
    texts: list[list[str]] = []
    for column, ending in (("costs", ""), ("seconds", " seconds")):
        most = max(map(len, targets[column]), default=0)
        names += [f"{STEP * (place + 1):g}{ending}" for place in range(most)]
        # cells are numbers, which need no quotes: a row of them is made at once, in a fifth of the time
        shapes = [",%.6g" * length + "," * (most - length) for length in range(most + 1)]
        texts.append([shapes[len(values)] % tuple(values) for values in targets[column]])
    first = targets.drop(columns=["costs", "seconds"]).to_csv(index=False, float_format="%.6g", lineterminator=_END)
    head, *lines, _ = first.split(_END)
    rows = [line + costs + seconds for line, costs, seconds in zip(lines, *texts, strict=True)]
    return "\n".join([",".join([head, *names]), *rows, ""])


def within_reach(targets: pd.DataFrame) -> pd.DataFrame:
    """The ladders without the targets that no agent of the comparison reached on an instance.

    Where the least loss is not known, as with noisy data, the ladder goes on below it. COCO, too, measures from the best
    value that is known. What is left out was missed by all alike, so that the order of agents on an instance stays.
    """
    reached = targets["costs"].map(lambda costs: int(np.isfinite(costs).sum()))
    most = reached.groupby([targets["problem"], targets["instance_id"]]).transform("max")
    cut = {
        name: [values[:count] for values, count in zip(targets[name], most, strict=True)]
        for name in ("costs", "seconds")
    }
    return targets.assign(**cut)


# -- what follows ------------------------------------------------------------------------------------------------------


def reached_within(costs: Sequence[Sequence[float]], limits: ArrayLike) -> Array:
    """The share of targets reached within each of ``limits`` ``(L,)``, ``(L,)``: the mean over episodes that have targets.

    Args:
        costs: The targets' costs or seconds, per episode.
        limits: Limits, in the same unit.
    """
    # a missed target is not reached within any limit
    asked = np.minimum(np.asarray(limits, dtype=np.float64), 1e300)
    shares = [np.searchsorted(row, asked * (1.0 + _SLACK), side="right") / len(row) for row in costs if len(row)]
    return np.mean(shares, axis=0) if shares else np.full(asked.shape, np.nan)


def area(costs: ArrayLike, budget: float) -> float:
    """The area below an episode's ECDF over the logarithm of the cost, from 1 to the budget, as a share of the whole."""
    return float(_areas(np.asarray(costs, dtype=np.float64)[None], np.array([budget]))[0])


def _areas(costs: Array, budgets: Array) -> Array:
    """`area` of each row ``(N, T)``, ``(N,)``; a row with fewer targets ends in NaN."""
    at = np.clip(costs, 1.0, np.maximum(budgets, 1.0)[:, None])
    # where the budget is one evaluation there is no axis to speak of: what counts is whether it was enough
    room = np.log(np.maximum(budgets, 1.0 + _SLACK))
    return np.where(budgets > 1.0, 1.0 - np.nanmean(np.log(at), axis=1) / room, _share(costs, np.inf))


def _share(costs: Array, limit: ArrayLike) -> Array:
    """The share of each row's targets within a limit, one or one per row; a missed target is not reached within any."""
    within = (costs <= np.reshape(limit, (-1, 1))) & (costs < np.inf)
    return within.sum(axis=1) / (~np.isnan(costs)).sum(axis=1)


def _padded(rows: Sequence[Sequence[float]]) -> Array:
    """Rows of different lengths ``(N, T)``, the shorter ones continued by NaN."""
    lengths = np.array([len(row) for row in rows])
    found = np.full((len(rows), lengths.max(initial=0)), np.nan)
    found[np.arange(found.shape[1]) < lengths[:, None]] = np.concatenate([*rows, ()])
    return found


def measures(targets: pd.DataFrame) -> pd.DataFrame:
    """Worth of each episode, one row per episode that has targets, columns problem, agent, seed, instance_id, and

    * ``score``: `area` over the cost; ``reached``: share of targets within the budget;
    * ``time_score``, ``time_reached``: the same over processor seconds, in gradient steps of plain descent; NaN where that
      was not played.
    """
    pandas = import_pandas()
    some = targets[[len(costs) > 0 for costs in targets["costs"]]].reset_index(drop=True)
    if some.empty:
        return pandas.DataFrame(columns=[*_EPISODE, *MEASURES])
    plain = targets[targets["agent"] == PLAIN].groupby("problem")["pace"].mean()
    pace = some["problem"].map(plain).to_numpy(dtype=np.float64)
    budget = some["budget"].to_numpy(dtype=np.float64)
    costs, steps = _padded([*some["costs"]]), _padded([*some["seconds"]]) / pace[:, None]
    values = [_areas(costs, budget), _share(costs, np.inf)]
    known, time = np.isfinite(pace), [np.full(len(some), np.nan) for _ in range(2)]
    time[0][known] = _areas(steps[known], budget[known])
    time[1][known] = _share(steps[known], budget[known] * (1.0 + _SLACK))
    return some[_EPISODE].assign(**dict(zip(MEASURES, [*values, *time], strict=True)))


MEASURES = ("score", "reached", "time_score", "time_reached")
"""Columns of `measures`, of which `scores` gives the means with their intervals."""


def scores(targets: pd.DataFrame, *, resamples: int = 2000) -> pd.DataFrame:
    """One row per problem and agent, the index: means of `measures` over its episodes.

    Columns: each of `MEASURES`, and with ``_low`` and ``_high`` the ends of its interval over seeds and instances; NaN where
    there is none.
    """
    pandas = import_pandas()
    worth = measures(targets)
    rows: list[dict[str, Any]] = []
    for (problem, agent), _ in targets.groupby(["problem", "agent"], sort=False):
        own = worth[(worth["problem"] == problem) & (worth["agent"] == agent)]
        row: dict[str, Any] = {"problem": problem, "agent": agent}
        for name in MEASURES:
            found = _UNKNOWN
            if len(own) and own[name].notna().all():
                units = own["seed"], own["instance_id"]
                settings: dict[str, Any] = {"statistic": statistics.mean, "resamples": resamples}
                found = statistics.crossed_bootstrap(own[name], *units, **settings)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        rows.append(row)
    return pandas.DataFrame(rows).set_index(["problem", "agent"])


def with_scores(table: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """`summary.summary_table` with the columns of `scores`, NaN where an agent has no targets, such as an oracle."""
    return table.join(scores(targets), on=["problem", "agent"])


def running_times(episodes: pd.DataFrame) -> Array:
    """The expected cost of each target over an agent's episodes that have it ``(T,)``; infinite where none reached it."""
    ladders = _ladders(episodes, "costs")
    most = ladders[0].shape[1]
    return np.array([statistics.expected_cost_to_target(*_met(*ladders, place)[:2]) for place in range(most)])


def expected_time(episodes: pd.DataFrame, place: int, column: str = "costs") -> Interval:
    """The expected cost of one target with its interval over seeds and instances; NaN where no episode reached it.

    Args:
        episodes: An agent's, on one problem.
        place: Index of the target on the ladder.
        column: ``"costs"`` or ``"seconds"``.
    """
    reached, spent, having = _met(*_ladders(episodes, column), place)
    hit = np.isfinite(reached)
    if not len(hit) or not hit.any():
        return _UNKNOWN
    paid = np.where(hit, reached, spent)
    units = (episodes[name].to_numpy()[having] for name in ("seed", "instance_id"))
    return statistics.ratio_of_means(paid, hit.astype(float), *units)


def _ladders(episodes: pd.DataFrame, column: str) -> tuple[Array, NDArray[np.int64], Array]:
    """What each target cost ``(N, T)``, how many targets each episode has, and what it spent in all, both ``(N,)``."""
    counts = np.array([len(one) for one in episodes[column]], dtype=np.int64)
    values = _padded([*episodes[column]])
    spent = episodes["spent"].to_numpy(dtype=np.float64)
    return values, counts, spent * episodes["pace"].to_numpy(dtype=np.float64) if column == "seconds" else spent


def _met(values: Array, counts: NDArray[np.int64], spent: Array, place: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """What a target cost, what the episode spent in all, and which of `_ladders` have the target ``(N,)``."""
    having = counts > place
    reached = values[having, place] if place < values.shape[1] else np.zeros(0)
    # an episode that met its tolerance while it paid for more has spent what the target cost at least
    return reached, np.maximum(spent[having], np.where(np.isfinite(reached), reached, 0.0)), having
