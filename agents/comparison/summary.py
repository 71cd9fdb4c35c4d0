"""The table of a comparison: one row per problem and agent, made from the frame of episodes, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from teleport_env.agents.base import KINDS
from teleport_env.agents.comparison import statistics
from teleport_env.agents.comparison.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    interval,
    number,
    percent,
    setting,
    significant,
)
from teleport_env.agents.play import NO_MENU

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "problem",
    "agent",
    "kind",
    "seed",
    "instance_id",
    "split",
    "budget",
    "cost",
    "gained",
    "initial_loss",
    "loss",
    "steps",
    "teleports",
    "converged",
    "diverged",
    "seconds",
    "menu",
    "learning_rate",
)
"""The columns of ``results.csv``, one row per played episode."""
BASELINES = ("fixed", "adaptive", "control")
PLAIN = "never"
"""The agent that never teleports: plain descent."""

_PAIR = ["problem", "seed", "instance_id"]


def import_pandas() -> Any:
    """The module pandas.

    Raises:
        ImportError: It is not installed; the message names the extra.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError('comparisons need pandas: pip install "teleport-env[compare]"') from error
    return pandas


def check_results(results: pd.DataFrame) -> None:
    """Say what is wrong with a frame of episodes.

    Raises:
        ValueError: It is empty, lacks a column, has an unknown kind, an agent of two kinds, or a non-finite ``gained``.
    """
    missing = [column for column in COLUMNS if column not in results.columns]
    if missing:
        raise ValueError(f"results lacks the columns {missing}; it needs {list(COLUMNS)}")
    if results.empty:
        raise ValueError("results is empty; play at least one episode")
    unknown = sorted(set(results["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds {unknown}; a kind is one of {list(KINDS)}")
    kinds = results.groupby("agent", sort=False)["kind"].nunique()
    if (kinds > 1).any():
        raise ValueError(f"these agents have more than one kind: {kinds[kinds > 1].index.tolist()}")
    bad = results[~np.isfinite(results["gained"].to_numpy(dtype=np.float64))]
    if len(bad):
        row = bad.iloc[0]
        raise ValueError(
            f"{len(bad)} episodes have a non-finite `gained`, the first: problem {row['problem']!r}, agent "
            f"{row['agent']!r}, instance {row['instance_id']}; a diverged run counts as -2"
        )


def best_baseline(results: pd.DataFrame) -> dict[str, str]:
    """Problem -> its fixed, adaptive or control agent with the highest mean of ``gained``; absent where it has none.

    Chosen on the very episodes that are compared, which favours the baseline.
    """
    baselines = results[results["kind"].isin(BASELINES)]
    means = baselines.groupby(["problem", "agent"], sort=False)["gained"].mean()
    return {str(problem): str(row.idxmax()[1]) for problem, row in means.groupby("problem", sort=False)}


def summary_table(results: pd.DataFrame, *, resamples: int = 2000) -> pd.DataFrame:
    """One row per problem and agent; per problem the schedules first, then references, then oracles, each by falling mean.

    Columns, where ``_low`` and ``_high`` are the ends of an interval and NaN where there is too little to form one:

    * ``problem, agent, kind, n`` (episodes), ``seeds``;
    * ``iqm, iqm_low, iqm_high, mean`` of the orders of magnitude gained;
    * ``baseline``: the problem's best baseline by mean; ``difference, difference_low, difference_high``: mean paired
      difference to it; NaN for the baseline itself;
    * ``verdict``: ``win`` (the interval of the mean difference lies above zero), ``loss`` (below), ``undecided``, or
      ``baseline``, or ``""`` where there is none;
    * ``plain_difference...``: mean paired difference to plain descent; ``improvement...``: probability of improvement over
      it, ties half;
    * ``diverged...``: share with Wilson's interval; ``teleports``, ``cost``: means; ``seconds``: mean of the episodes'
      shares of the time of all that played beside them;
    * ``menu`` and ``learning_rate`` that it played with, where all its episodes had the same, else empty and NaN;
    * ``expected_cost``: total cost over the number of runs that converged to the tolerance; inf if none did.

    Intervals are over training seeds and instances (`statistics.crossed_bootstrap`), unadjusted for their number.

    Raises:
        ValueError: See `check_results`; or agents of one problem did not play the same episodes.
    """
    pandas = import_pandas()
    check_results(results)
    baselines = best_baseline(results)
    # the same seed for all agents: they are resampled alike, and a row does not depend on who else was played
    settings: dict[str, Any] = {"resamples": resamples, "rng": 0}
    to_plain: dict[str, Any] = {"plain_difference": np.subtract, "improvement": statistics.improvement}
    rows: list[dict[str, Any]] = []
    for problem, played in results.groupby("problem", sort=False):
        agents = dict(list(played.groupby("agent", sort=False)))
        for agent, episodes in agents.items():
            row = _measure(episodes, settings)
            baseline = baselines.get(str(problem))
            row |= {"problem": problem, "agent": agent, "kind": episodes["kind"].iloc[0], "baseline": baseline or ""}
            versus = None if baseline in (None, agent) else agents[baseline]
            row |= _to(versus, episodes, {"difference": np.subtract}, settings)
            row |= _to(None if agent == PLAIN else agents.get(PLAIN), episodes, to_plain, settings)
            low, high = row["difference_low"], row["difference_high"]
            verdict = "" if np.isnan(low) else "win" if low > 0 else "loss" if high < 0 else "undecided"
            row["verdict"] = "baseline" if agent == baseline else verdict
            rows.append(row)
    table = pandas.DataFrame(rows)
    group = table["kind"].map({kind: number for number, kind in enumerate(ASIDE, 1)}).fillna(0)
    problems = {problem: index for index, problem in enumerate(results["problem"].unique())}
    order = np.lexsort((-table["mean"], group, table["problem"].map(problems)))
    first = ["problem", "agent", "kind", "n", "seeds", "iqm", "iqm_low", "iqm_high", "mean", "baseline", "verdict"]
    columns = first + [column for column in table.columns if column not in first]
    return table.iloc[order][columns].reset_index(drop=True)


def _spread(name: str, interval: statistics.Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


_UNKNOWN = statistics.Interval(float("nan"), float("nan"), float("nan"))


def _measure(episodes: pd.DataFrame, settings: dict[str, Any]) -> dict[str, Any]:
    gained = episodes["gained"].to_numpy(dtype=np.float64)
    centre = statistics.crossed_bootstrap(gained, episodes["seed"], episodes["instance_id"], **settings)
    cost = episodes["cost"].to_numpy(dtype=np.float64)
    # a converged run stops, so its cost is its cost to the target
    reached = np.where(episodes["converged"], cost, np.inf)
    return {
        "n": len(gained),
        "seeds": episodes["seed"].nunique(),
        **_spread("iqm", centre),
        "mean": float(gained.mean()),
        **_spread("diverged", statistics.wilson_interval(int(episodes["diverged"].sum()), len(gained))),
        "teleports": float(episodes["teleports"].mean()),
        "cost": float(cost.mean()),
        "expected_cost": statistics.expected_cost_to_target(reached, cost),
        "seconds": float(episodes["seconds"].mean()),
        "menu": _one(episodes["menu"], ""),
        "learning_rate": _one(episodes["learning_rate"], float("nan")),
    }


def _one(values: pd.Series, missing: Any) -> Any:
    """The value that all episodes share, else ``missing``: the oracle's are of several agents, training seeds may differ."""
    kinds = values.unique()
    return kinds[0] if len(kinds) == 1 and kinds[0] == kinds[0] else missing


def _to(
    other: pd.DataFrame | None,
    episodes: pd.DataFrame,
    measures: Mapping[str, Callable[[Any, Any], Any]],
    settings: dict[str, Any],
) -> dict[str, float]:
    """Means, by name, of measures of pairs of episodes: the agent's and another's; NaN where there is no other."""
    if other is None:
        return {key: value for name in measures for key, value in _spread(name, _UNKNOWN).items()}
    keys = [frame[_PAIR].itertuples(index=False, name=None) for frame in (episodes, other)]
    names = (str(episodes["agent"].iloc[0]), str(other["agent"].iloc[0]))
    matched, x, y = statistics.match_pairs(keys[0], episodes["gained"], keys[1], other["gained"], names)
    units: dict[str, Any] = {"seeds": [key[1] for key in matched], "instances": [key[2] for key in matched]}
    found: dict[str, float] = {}
    for name, measure in measures.items():
        ends = statistics.crossed_bootstrap(measure(x, y), statistic=statistics.mean, **units, **settings)
        found |= _spread(name, ends)
    return found


def statements(table: pd.DataFrame) -> list[str]:
    """Sentences saying where learned agents won, lost or neither against the best baseline."""
    words = {"win": "wins against", "loss": "loses to", "undecided": "is not separated from"}
    return [
        f"{row['problem']}: {row['agent']} {words[row['verdict']]} {row['baseline']}, the best baseline: "
        f"{spread(row, 'difference', sign=True)} orders of magnitude"
        for row in table[(table["kind"] == "learned") & table["verdict"].isin(list(words))].to_dict("records")
    ]


def below_plain(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `summary_table` whose agent is significantly worse than plain descent, the worst first."""
    return table[table["plain_difference_high"] < 0].sort_values("plain_difference", kind="stable")


def oracle_rows(results: pd.DataFrame, agents: Sequence[str] | None = None) -> pd.DataFrame:
    """Episodes of a hindsight oracle, to be appended to ``results``: per episode the best of some agents.

    It chooses from ``agents``; None: every agent of kind ``fixed``. What the choice itself would cost (playing them all) is
    not charged; that is why its kind is ``oracle``.

    Raises:
        ValueError: An agent is unknown, or an episode was not played by all of them.
    """
    pandas = import_pandas()
    if agents is None:
        agents = [str(agent) for agent in results.loc[results["kind"] == "fixed", "agent"].unique()]
    unknown = sorted(set(agents) - set(results["agent"]))
    if unknown or not agents:
        raise ValueError(f"the oracle cannot choose from {list(agents)}: not among the agents played: {unknown}")
    chosen = []
    for problem, played in results[results["agent"].isin(agents)].groupby("problem", sort=False):
        names = [agent for agent in agents if agent in set(played["agent"])]
        values = played.pivot(index=["seed", "instance_id"], columns="agent", values="gained")[names]
        if values.isna().any(axis=None):
            lacking = values.columns[values.isna().any()].tolist()
            raise ValueError(f"on {problem!r} the agents {lacking} did not play every episode; an oracle needs all")
        winner = values.idxmax(axis=1)  # of equals the first
        pick = pandas.MultiIndex.from_arrays([*(values.index.get_level_values(level) for level in (0, 1)), winner])
        chosen.append(played.set_index(["seed", "instance_id", "agent"]).loc[pick].reset_index())
    return pandas.concat(chosen, ignore_index=True).assign(agent="oracle", kind="oracle")[list(results.columns)]


# -- shown -------------------------------------------------------------------------------------------------------------


ASIDE = {
    "reference": "References: what one would take instead. Not schedules of gradient descent; not baselines.",
    "structure": "Knows the structure: solvers that know more than losses and gradients, such as least squares by blocks.",
    "oracle": "Hindsight: chosen after the fact, at no charge. It cannot be played; over random agents part of it is luck.",
}


def spread(row: Mapping[str, Any], name: str, **how: Any) -> Cell:
    """An estimate of a row of the summary with its interval; `tables.interval` says what ``how`` may hold."""
    return interval([row[name], row[f"{name}_low"], row[f"{name}_high"]], **how)


def versus_best(row: Mapping[str, Any]) -> Cell:
    """The mean paired difference to the best baseline; won or lost where the agent is a learned one."""
    if row["verdict"] == "baseline":
        return Cell("best baseline")
    # the claim is the learned agents'; that other baselines lie below the best of them goes without saying
    look = row["verdict"] if row["verdict"] in ("win", "loss") and row["kind"] == "learned" else ""
    return spread(row, "difference", sign=True)._replace(look=look)


def table_of(summary_rows: pd.DataFrame, title: str = "") -> Table:
    """The table of one problem's rows of `summary_table`: schedules, then references, then what hindsight knows."""
    rows = summary_rows.to_dict("records")
    schedules = [row for row in rows if row["kind"] not in ASIDE]
    best = {name: max((row[name] for row in schedules), default=None) for name in ("mean", "iqm")}

    def leading(row: Mapping[str, Any], name: str) -> bool:
        return row["kind"] not in ASIDE and row[name] == best[name]

    columns = (
        Column("Agent", lambda row: row["agent"], "the agent", words=True, short="agent", width=20),
        Column(
            "Kind",
            lambda row: row["kind"],
            "fixed, adaptive, learned, control, reference, structure or oracle",
            words=True,
        ),
        Column(
            "Mean",
            lambda row: Cell(number(row["mean"]), look="top" if leading(row, "mean") else ""),
            "mean of the orders gained; it counts divergences in full",
            short="mean",
        ),
        Column(
            "Minus best baseline [95\u00a0%]",
            versus_best,
            "mean paired difference to the best fixed, adaptive or control agent",
            short="minus best [95 %]",
        ),
        *(_OF_TARGETS if "score" in summary_rows else ()),
        Column("Diverged", lambda row: percent(row["diverged"]), "share of episodes that diverged", short="div."),
        Column(
            "Teleports", lambda row: number(row["teleports"], 1), "mean number in an episode", short="tel.", more=True
        ),
        Column(
            "Rate",
            lambda row: setting(row["learning_rate"] or float("nan")),
            "its base learning rate",
            short="rate",
            more=True,
        ),
        Column("n", lambda row: str(row["n"]), "episodes: instances times seeds", more=True),
        Column(
            "IQM gained [95\u00a0%]",
            lambda row: spread(row, "iqm")._replace(look="top" if leading(row, "iqm") else ""),
            "interquartile mean of the orders of magnitude gained",
            more=True,
        ),
        Column(
            "P(beats plain)",
            lambda row: number(row["improvement"]),
            "probability that an episode gains more than plain descent's on the same instance, ties half",
            more=True,
        ),
        Column(
            "Cost", lambda row: significant(row["cost"]), "mean cost in gradient evaluations", short="cost", more=True
        ),
        Column(
            "Cost to tolerance",
            lambda row: cost_to_target(row["expected_cost"]),
            "expected cost to reach the tolerance: total cost over the number of runs that did",
            more=True,
        ),
        Column(
            "Seconds",
            lambda row: significant(row["seconds"]),
            "mean processor time of an episode; runs that share a batch share its time",
            more=True,
        ),
        Column(
            "Menu", lambda row: row["menu"] or MISSING, "the teleports that it could ask for", words=True, more=True
        ),
        *(_OF_SETTINGS if "settings" in summary_rows else ()),
    )
    asides = [(label, [row for row in rows if row["kind"] == kind]) for kind, label in ASIDE.items()]
    return Table(columns, schedules, asides, title, lambda row: leading(row, "mean"))


_OF_TARGETS = (
    Column(
        "Score [95\u00a0%]",
        lambda row: spread(row, "score"),
        "area below the curve of targets reached over the logarithm of the cost: 1 is every target at once",
        more=True,
    ),
    Column(
        "Targets reached",
        lambda row: percent(row["reached"], 0),
        "share of the targets, one per fifth of an order of magnitude of the loss, that are reached within the budget",
        more=True,
    ),
    Column(
        "In equal time",
        lambda row: percent(row["time_reached"], 0),
        "share of the targets that are reached in the processor time in which plain descent spends its budget",
        more=True,
    ),
)


_OF_SETTINGS = (
    Column(
        "Settings",
        lambda row: row["settings"] or "none",
        "the agent with its settings, as one types it after --agents",
        words=True,
    ),
)


def cost_to_target(cost: float) -> str:
    """An expected cost, which is infinite where no run reached the target."""
    return "never" if cost == float("inf") else significant(cost)


def terminal_tables(summary_table: pd.DataFrame, split: str) -> list[Table]:
    """The tables of all problems with what fits into 80 columns; ``split`` is named in their titles."""
    titles = ("Agent", "Rate", "Mean", "Minus best baseline [95\u00a0%]", "Diverged", "Teleports")
    return [
        table_of(rows, f"{problem}, {split} split: orders of magnitude gained").only(*titles)
        for problem, rows in summary_table.groupby("problem", sort=False)
    ]


def menus_of(summary_rows: pd.DataFrame) -> list[str]:
    """Which agents could ask for which teleports, a line per menu; the table of a terminal has no place for it."""
    told = summary_rows[(summary_rows["menu"] != "") & (summary_rows["kind"] != "oracle")]
    menus = told.groupby("menu", sort=False)
    named = {menu: ", ".join(rows["agent"]) for menu, rows in menus}
    without = named.pop(NO_MENU, "")
    return [f"Menu of {agents}: {menu}" for menu, agents in named.items()] + [f"No teleports: {without}"] * bool(
        without
    )


def budget_of(results: pd.DataFrame, problem: str) -> str:
    """The budgets that a problem was played at, in words."""
    return ", ".join(f"{budget:g}" for budget in sorted(set(results.loc[results["problem"] == problem, "budget"])))
