"""What a run of the full protocol writes: the episodes, the pictures, the HTML report, and a page in Markdown.

Every number and every verdict on the page is computed from the evidence; nothing is typed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.baselines import FIXED, WHITENING_CYCLE, menu_of, opening_of
from study.contestants import LEARNED, MOMENTUM, RATE_LINE_SEARCH, RATE_ONLY, WHITENED
from study.findings import DISTILLED, L_BFGS, Finding, Measured, findings, hindsight, told
from study.protocol import Evidence, policies_of, protocol_settings
from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.decisions import decision_drawings, watch
from teleport_env.agents.comparison.report import Drawing, write_report
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.study import WATCHED
from teleport_env.agents.comparison.summary import budget_of, cost_to_target, spread, versus_best
from teleport_env.agents.comparison.tables import (
    Cell,
    Column,
    Table,
    interval,
    listed,
    number,
    percent,
    render,
    setting,
)
from teleport_env.agents.play import draw_instances
from teleport_env.files import write
from teleport_env.searches import describe, search_from

TEMPLATES = Path(__file__).parent / "templates"


def write_results(evidence: Evidence) -> dict[str, Any]:
    """Write everything into the protocol's folder, and the page where it says.

    Returns:
        ``results`` and ``summary`` (data frames), ``findings``, ``settings`` (a dict), ``page`` (the report's path) and
        ``markdown`` (the page's path).
    """
    pandas = summary.import_pandas()
    protocol = evidence.protocol
    results = pandas.DataFrame(evidence.rows, columns=list(summary.COLUMNS))
    table = summary.summary_table(results)
    measured = Measured(evidence, results, table)
    found = findings(measured)
    frames = [
        pandas.DataFrame({"problem": problem, "agent": agent, **quartiles})
        for (problem, agent), quartiles in evidence.curves.items()
    ]
    settings = protocol_settings(evidence)
    settings["findings"] = {one.target: {"holds": one.holds, "detail": one.detail} for one in found}
    settings["tuning"] = (
        f"every family on {protocol.tuning_instances} instances of the train split, {settings['tuning_runs']} episodes in "
        f"all; the policies and learned controls took {settings['training_decisions']} decisions"
    )
    shown = {(problem, agent) for problem in measured.problems for agent in _protagonists(measured, problem)}
    drawings = _decisions(evidence, measured)
    page = write_report(
        protocol.out,
        results,
        pandas.concat(frames, ignore_index=True),
        evidence.traces,
        {"title": "Learned schedules against everything, at equal compute", **settings},
        table=table,
        shown=shown,
        further=drawings,
        files=True,
    )
    markdown = protocol.page or protocol.out / "results.md"
    images = "." if protocol.page is None else f"images/{markdown.stem}"
    pictures = [("gained", "Orders gained"), ("differences", "Against the best baseline or control")]
    pictures += [("curves", "Loss against compute"), ("profiles", "Performance profiles")]
    if protocol.page is not None:
        for name in [*(name for name, _ in pictures), *(drawing.name for drawing in drawings)]:
            picture = protocol.out / f"{name}.png"
            if picture.exists():
                write(markdown.parent / images / picture.name, picture.read_bytes())
    text = render(
        "results.md.j2",
        TEMPLATES,
        command=evidence.command,
        protocol=protocol,
        versions=versions_in_words(evidence.versions),
        findings=table_of_findings(found),
        across=_across(measured),
        distilled=DISTILLED,
        problems=[_problem(evidence, measured, problem) for problem in measured.problems],
        fixed=FIXED,
        effort=_effort(evidence, measured),
        settings=settings,
        tuned={key: _chosen(key[0], one["config"]) for key, one in evidence.tuned.items()},
        pictures=[(name, title) for name, title in pictures if (protocol.out / f"{name}.png").exists()],
        images=images,
        drawings=drawings,
    )
    write(markdown, text.rstrip() + "\n")
    return {
        "results": results,
        "summary": table,
        "findings": found,
        "settings": settings,
        "page": page,
        "markdown": markdown,
    }


def _protagonists(measured: Measured, problem: str) -> list[str]:
    """Those that a picture of curves can tell apart: the policy, its nearest controls, and the best of each kind."""
    names = [LEARNED, WHITENED, MOMENTUM, RATE_ONLY, RATE_LINE_SEARCH, f"{LEARNED}, teleports taken out"]
    names += [summary.PLAIN, L_BFGS]
    names += [name for kind in ("fixed", "adaptive") if (name := measured.best(problem, [kind])) is not None]
    names += ["momentum with line search", WHITENING_CYCLE]
    return [name for name in dict.fromkeys(names) if measured.has(problem, name)]


def _decisions(evidence: Evidence, measured: Measured) -> list[Drawing]:
    """Pictures of what the first seed's policy does on each problem."""
    protocol = evidence.protocol
    drawings = []
    for problem in measured.problems:
        policies = policies_of(evidence, problem, LEARNED)
        if policies:
            ids = draw_instances(problem, protocol.split, min(WATCHED, protocol.instances), protocol.seed)
            drawings += decision_drawings(
                problem, watch(problem, policies[0], ids, split=protocol.split, budget=protocol.budget_of(problem))
            )
    return drawings


# -- the page ----------------------------------------------------------------------------------------------------------


def versions_in_words(versions: Mapping[str, str]) -> str:
    """Names and versions of the packages."""
    return ", ".join(f"{name} {version}" for name, version in versions.items() if name != "platform")


def table_of_findings(found: Sequence[Finding]) -> Table:
    """A row per target."""
    return listed(("target", "holds", "figures"), [(one.target, one.holds, one.detail) for one in found], words=3)


def _across(measured: Measured) -> Table:
    """A row per problem."""

    def best(kinds: Sequence[str], problem: str) -> str | None:
        return measured.best(problem, kinds, [DISTILLED])

    def mean(agent: str | None, problem: str, named: bool = False) -> str:
        if agent is None or not measured.has(problem, agent):
            return ""
        return number(measured.row(problem, agent)["mean"]) + (f" ({agent})" if named else "")

    def versus(other: str | None, problem: str) -> Cell | str:
        if other is None or not measured.has(problem, LEARNED) or not measured.has(problem, other):
            return ""
        return interval(measured.difference(problem, LEARNED, other), sign=True)

    def closed(share: Any, problem: str) -> Cell | str:
        if not measured.has(problem, LEARNED) or best(summary.BASELINES, problem) is None:
            return ""
        return _share(share(problem, LEARNED))

    columns = (
        Column("problem", lambda problem: problem, words=True),
        Column("plain descent", lambda problem: mean(summary.PLAIN, problem)),
        Column("best fixed", lambda problem: mean(best(["fixed"], problem), problem, named=True)),
        Column(
            f"best of all baselines and controls, {DISTILLED} apart",
            lambda problem: mean(best(summary.BASELINES, problem), problem, named=True),
        ),
        Column(DISTILLED, lambda problem: mean(DISTILLED, problem)),
        Column("learned rate only", lambda problem: mean(RATE_ONLY, problem)),
        Column("learned", lambda problem: Cell(mean(LEARNED, problem), look="top")),
        Column("minus the best", lambda problem: versus(best(summary.BASELINES, problem), problem)),
        Column("minus that rule", lambda problem: versus(DISTILLED, problem)),
        Column("gap to the oracle closed", lambda problem: closed(measured.gap_closed, problem)),
        Column("way to L-BFGS closed", lambda problem: closed(measured.distance_closed, problem)),
        Column("L-BFGS", lambda problem: mean(L_BFGS, problem)),
    )
    return Table(columns, measured.problems)


def _problem(evidence: Evidence, measured: Measured, problem: str) -> dict[str, Any]:
    """The table of a problem, what choosing in hindsight would give, and what the rows are that no earlier page explains."""
    summarised = measured.table[measured.table["problem"] == problem]
    best = measured.best(problem, summary.BASELINES)

    def learned(row: Mapping[str, Any]) -> bool:
        return row["kind"] == "learned"

    def beats(row: Mapping[str, Any]) -> str:
        if best is None or row["agent"] == best:
            return ""
        return number(measured.improvement(problem, row["agent"], best))

    def way(row: Mapping[str, Any]) -> Cell:
        found = _share(measured.distance_closed(problem, row["agent"]))
        return found if learned(row) else Cell(found.text)

    columns = (
        Column("agent", lambda row: Cell(row["agent"], look="top" if learned(row) else ""), words=True),
        Column("kind", lambda row: row["kind"], words=True),
        Column("IQM gained", lambda row: spread(row, "iqm")),
        Column("mean", lambda row: number(row["mean"])),
        Column("minus the best", lambda row: versus_best(row)._replace(look="")),
        Column("P(beats the best)", beats),
        Column("gap closed", lambda row: _share(measured.gap_closed(problem, row["agent"])) if learned(row) else ""),
        Column("way to L-BFGS", way),
        Column("diverged", lambda row: percent(row["diverged"])),
        Column("teleports", lambda row: number(row["teleports"], 1)),
        Column(
            f"cost to {measured.target(problem):g} orders",
            lambda row: cost_to_target(measured.expected_cost(problem, row["agent"])),
        ),
    )
    rows = summarised.to_dict("records")
    earlier: dict[str, str] = {}
    for before in measured.problems[: measured.problems.index(problem)]:
        earlier |= {agent: sentence for (where, agent), sentence in evidence.about.items() if where == before}
    about = {row["agent"]: evidence.about.get((problem, row["agent"]), "") for row in rows}
    oracles = [(name, number(mean), str(among)) for name, (mean, among) in hindsight(measured, problem).items()]
    return {
        "name": problem,
        "budget": budget_of(measured.results, problem),
        "best": best,
        "table": Table(columns, rows),
        "hindsight": listed(("of each instance", "mean gained", "chosen among"), oracles),
        "with_teleports": told(measured.oracle_difference(problem)),
        "about": {agent: one for agent, one in about.items() if one and earlier.get(agent) != one},
        "later": bool(earlier),
    }


def _effort(evidence: Evidence, measured: Measured) -> Table:
    """A row per tuned family and per trained policy."""

    def rows() -> Iterator[tuple[str, ...]]:
        for problem in measured.problems:
            for (where, family), found in evidence.tuned.items():
                if where == problem:
                    edges = ", ".join(found["edges"]) or "none"
                    yield problem, family, f"{found['tried']:,}", f"{found['episodes']:,}", "", "", edges
            for (where, name), seeds in evidence.trained.items():
                if where == problem:
                    decisions, episodes = (sum(one[key] for one in seeds) for key in ("decisions", "searched_episodes"))
                    spent = sum(one["seconds"] for one in seeds) / len(seeds)
                    yield problem, name, "", f"{episodes:,}", f"{decisions:,}", f"{spent:.0f}", ""

    heads = ["problem", "tuned or trained", "configurations", "episodes"]
    heads += ["decisions, all seeds", "seconds a seed", "edges"]
    return listed(heads, rows(), words=2)


def _chosen(problem: str, configuration: Mapping[str, Any]) -> str:
    """A tuned configuration in words."""
    config = dict(configuration)
    moves = menu_of(problem) if config.keys() & {"which", "search"} else []
    opening = opening_of(moves, config)
    chosen = [
        f"{symmetry}: {describe(search_from(one))}"
        for key in ("which", "search")
        if key in config
        for symmetry, one in [moves[config.pop(key)]]
    ]
    config.pop("opening", None)
    if opening is not None:
        chosen.append(f"the first {config.pop('looks')} by {describe(search_from(opening))}")
    return ", ".join([*chosen, *(f"{key} {setting(value)}" for key, value in sorted(config.items()))])


def _share(share: Interval) -> Cell:
    """A share in percent; nothing where there is none."""
    return Cell("") if math.isnan(share.estimate) else interval(share, 0, unit=" %", scale=100.0)
