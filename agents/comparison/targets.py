"""The score of a comparison by targets: what each of many losses costs an agent, as COCO measures optimizers.

Every episode has a ladder of targets, a loss lower by half an order of magnitude at each, from its start down to the
tolerance. A target has the cost at which the loss first met it, infinite where it never did (`rows_of_targets`, the file
``targets.csv.gz``). From these costs follow

* the empirical cumulative distribution (ECDF): the share of targets that are reached within a cost, every episode with the
  same weight (Hansen et al., "COCO: a platform for comparing continuous optimizers in a black-box setting", 2021, section
  7; `reached_within`);
* the score: the area below that curve over the logarithm of the cost, from 1 gradient evaluation to the budget, as a share
  of the whole; 1 would be every target at once (`scores`);
* the expected running time per target (`statistics.expected_cost_to_target`, `running_times`).

Processor seconds are costs times the agent's ``pace``: processor seconds per gradient evaluation of runs that play one at a
time with one thread, agents and solvers alike.

On a problem with mini-batches an agent's loss is that of its own mini-batch, and a solver's that of the training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.summary import PLAIN, import_pandas
from teleport_env.agents.play import Played, cost_to_target, orders_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

STEP = 0.5
"""Orders of magnitude from one target to the next."""

MOST = 30.0
"""Orders of magnitude to the last target at most."""

_SLACK = 1e-9  # of a logarithm: a loss at the tolerance has met the target at the tolerance
_EPISODE = ["problem", "agent", "seed", "instance_id"]


def rows_of_targets(played: Played, tolerance: float, pace: float) -> list[dict[str, Any]]:
    """Costs to all targets, one dict per episode.

    Args:
        played: Episodes of one agent; where there are more rows than courses, as of a solver that is deterministic, the
            courses are repeated.
        tolerance: Loss at which an episode converges; no target lies below it.
        pace: Processor seconds per gradient evaluation.

    Returns:
        The episode's names, ``budget``, ``spent`` (its cost in all), ``pace``, and ``costs``: a tuple with an entry per
        target, infinite where it was not reached. A start that is not finite, or too close to the tolerance, has none.
    """
    first = played.loss[0]
    room = np.where(np.isfinite(first), orders_of(first, tolerance) - np.log10(tolerance), 0.0)
    counts = np.floor((np.minimum(room, MOST) + _SLACK) / STEP).astype(int)
    ladder = STEP * np.arange(1, counts.max(initial=0) + 1)
    costs = np.array([cost_to_target(played, target - _SLACK) for target in ladder]).reshape(len(ladder), len(first))
    return [
        {
            **{name: row[name] for name in (*_EPISODE, "budget")},
            "spent": row["cost"],
            "pace": pace,
            "costs": tuple(costs[: counts[place], place].tolist()),
        }
        for index, row in enumerate(played.rows)
        for place in [index % len(first)]
    ]


def to_csv(targets: pd.DataFrame) -> str:
    """The costs as a file: a column per target, named by its orders; ``inf`` where it was missed, empty where it is none."""
    pandas = import_pandas()
    most = max(map(len, targets["costs"]), default=0)
    wide = [[f"{cost:.6g}" for cost in costs] + [""] * (most - len(costs)) for costs in targets["costs"]]
    names = [f"{STEP * (place + 1):g}" for place in range(most)]
    costs = pandas.DataFrame(wide, columns=names, index=targets.index)
    return str(pandas.concat([targets.drop(columns="costs"), costs], axis=1).to_csv(index=False, float_format="%.6g"))


def reached_within(costs: Sequence[Sequence[float]], limits: ArrayLike, paces: ArrayLike = 1.0) -> Array:
    """The share of targets reached within each of ``limits`` ``(L,)``, ``(L,)``: the mean over episodes that have targets.

    Args:
        costs: The targets' costs, per episode.
        limits: Costs; or processor seconds, where ``paces`` holds the episodes' seconds per gradient evaluation.
        paces: A number, or one per episode.
    """
    # a missed target is not reached within any limit
    asked = np.minimum(np.asarray(limits, dtype=np.float64), 1e300)
    scale = np.broadcast_to(np.asarray(paces, dtype=np.float64), (len(costs),))
    shares = [
        np.searchsorted(pace * np.asarray(row), asked * (1.0 + _SLACK), side="right") / len(row)
        for row, pace in zip(costs, scale.tolist(), strict=True)
        if len(row)
    ]
    return np.mean(shares, axis=0) if shares else np.full(asked.shape, np.nan)


def area(costs: Sequence[float], budget: float) -> float:
    """The area below an episode's ECDF over the logarithm of the cost, from 1 to the budget, as a share of the whole."""
    at = np.clip(np.asarray(costs, dtype=np.float64), 1.0, budget)
    return float(1.0 - np.mean(np.log(at)) / np.log(budget)) if budget > 1.0 else float(np.mean(at < np.inf))


def scores(targets: pd.DataFrame, *, resamples: int = 2000) -> pd.DataFrame:
    """One row per problem and agent, the index: what its targets say.

    Columns: ``score, score_low, score_high``, the mean area of its episodes with its interval over seeds and instances;
    ``reached``, the share of targets within the budget; ``reached_in_time``, the share within the processor seconds in which
    plain descent spends its budget, NaN where it was not played.
    """
    pandas = import_pandas()
    rows = []
    for problem, played in targets.groupby("problem", sort=False):
        plain = played[played["agent"] == PLAIN]
        limit = float((plain["pace"] * plain["budget"]).mean()) if len(plain) else float("nan")
        for agent, episodes in played.groupby("agent", sort=False):
            some = episodes[[len(costs) > 0 for costs in episodes["costs"]]]
            found = statistics.Interval(*[float("nan")] * 3)
            if len(some):
                areas = [area(costs, budget) for costs, budget in zip(some["costs"], some["budget"], strict=True)]
                units = (some["seed"], some["instance_id"])
                found = statistics.crossed_bootstrap(areas, *units, statistic=statistics.mean, resamples=resamples)
            within = float(reached_within(some["costs"], [np.inf if some.empty else some["budget"].max()])[0])
            timed = float(reached_within(some["costs"], [limit], some["pace"])[0]) if limit == limit else limit
            row = dict(zip(("score", "score_low", "score_high"), found, strict=True))
            rows.append({"problem": problem, "agent": agent, **row, "reached": within, "reached_in_time": timed})
    return pandas.DataFrame(rows).set_index(["problem", "agent"])


def with_scores(table: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """`summary.summary_table` with the columns of `scores`, NaN where an agent has no targets, such as an oracle."""
    return table.join(scores(targets), on=["problem", "agent"])


def running_times(episodes: pd.DataFrame) -> Array:
    """The expected cost of each target over an agent's episodes that have it ``(T,)``; infinite where none reached it."""
    most = max(map(len, episodes["costs"]), default=0)
    found = np.empty(most)
    for place in range(most):
        having = [
            (row[place], spent)
            for row, spent in zip(episodes["costs"], episodes["spent"], strict=True)
            if len(row) > place
        ]
        costs, spent = np.array(having).T
        # an episode that met its tolerance while it paid for more has spent what the target cost at least
        found[place] = statistics.expected_cost_to_target(
            costs, np.maximum(spent, np.where(np.isfinite(costs), costs, 0.0))
        )
    return found


def pace_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """Processor seconds per gradient evaluation, the median of episodes that were played one at a time."""
    return float(np.median([row["seconds"] / row["cost"] for row in rows if row["cost"] > 0] or [np.nan]))
