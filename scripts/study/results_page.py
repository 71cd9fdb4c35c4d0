"""What a run of the full protocol writes: the episodes, the pictures, the HTML report, and a page in Markdown.

Every number and every verdict on the page is computed from the evidence; nothing is typed. What a reader looks up, such as
every agent on every problem and all tuned settings, goes to tables (CSV) beside the page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

from study.baselines import DISTILLED, WHITENING_CYCLE, menu_of, opening_of
from study.contestants import LEARNED, MOMENTUM, RATE_LINE_SEARCH, RATE_ONLY, WHITENED
from study.findings import L_BFGS, Measured, findings, hindsight
from study.page import TEMPLATES, table_of_findings, told, versions_in_words, write_data
from study.protocol import Evidence, fallbacks_of, masked_of, policies_of, protocol_settings
from study.worth import orders
from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.decisions import decision_drawings, watch
from teleport_env.agents.comparison.plots import SETTINGS, panels
from teleport_env.agents.comparison.report import Drawing, write_report
from teleport_env.agents.comparison.statistics import Interval
from teleport_env.agents.comparison.study import WATCHED
from teleport_env.agents.comparison.tables import (
    MISSING,
    Cell,
    Table,
    interval,
    listed,
    number,
    render,
    setting,
    significant,
)
from teleport_env.agents.comparison.targets import with_scores
from teleport_env.agents.play import draw_instances
from teleport_env.files import write
from teleport_env.searches import describe, search_from


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
    table = with_scores(table, measured.worth.targets)
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
        targets=measured.worth.targets,
        files=True,
    )
    markdown = protocol.page or protocol.out / "results.md"
    images = "." if protocol.page is None else f"images/{markdown.stem}"
    write(markdown.parent / images / "scores.png", _drawn(measured))
    pictures = [("gained", "orders gained"), ("differences", "against the best baseline or control")]
    pictures += [("curves", "loss against compute"), ("profiles", "performance profiles")]
    pictures += [(drawing.name, drawing.title) for drawing in drawings]
    pictures = [(name, title) for name, title in pictures if (protocol.out / f"{name}.png").exists()]
    for name, _ in pictures if protocol.page is not None else ():
        write(markdown.parent / images / f"{name}.png", (protocol.out / f"{name}.png").read_bytes())
    rows = [_row(evidence, measured, one) for one in table.to_dict("records")]
    details = write_data(markdown, {"agents": rows, "tuned": _effort(evidence)})
    text = render(
        "results.md.j2",
        TEMPLATES,
        command=evidence.command,
        protocol=protocol,
        versions=versions_in_words(evidence.versions),
        findings=table_of_findings([one for one in found if not one.aside]),
        aside=table_of_findings(aside) if (aside := [one for one in found if one.aside]) else None,
        scores=_scores(measured),
        times=_times(measured),
        gained=_gained(measured),
        distilled=DISTILLED,
        fallbacks=[
            f"{problem} {count}" for problem in measured.problems if (count := fallbacks_of(evidence, problem, LEARNED))
        ],
        masked=[
            f"{problem} {count}" for problem in measured.problems if (count := masked_of(evidence, problem, LEARNED))
        ],
        oracles=[
            (problem, told(measured.oracle_difference(problem))) for problem in measured.problems if evidence.oracles
        ],
        settings=settings,
        pictures=pictures,
        images=images,
        details=details,
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


def _scores(measured: Measured) -> Table:
    """A row per problem: the score of the policy and of the best baseline or control, at equal cost and in equal time."""

    def cells(problem: str) -> Sequence[Cell | str]:
        learned, other = measured.has(problem, LEARNED), measured.best_by(problem, "score")
        timed = measured.best_by(problem, "time_score")
        best = f"{number(measured.worth.mean(problem, other, 'score'), 3)} ({other})" if other else ""
        score = interval(measured.worth.interval(problem, LEARNED, "score"), 3)._replace(look="top") if learned else ""
        equal_cost, in_time = (
            interval(measured.worth.difference(problem, LEARNED, one, measure), 3, sign=True) if learned and one else ""
            for one, measure in ((other, "score"), (timed, "time_score"))
        )
        return (problem, best, score, equal_cost, f"{in_time} ({timed})" if in_time else "")

    heads = ("problem", "best baseline or control", "learned", "minus the best", "in equal time, minus the best there")
    return listed(heads, map(cells, measured.problems))


def _times(measured: Measured) -> Table:
    """A row per problem: what the hardest target that half of the best baseline's episodes reach is expected to cost."""

    def cells(problem: str) -> Sequence[Cell | str]:
        place, other = measured.target(problem), measured.best_by(problem, "score")

        def expected(agent: str | None, column: str = "costs") -> Cell | str:
            if agent is None or not measured.has(problem, agent):
                return ""
            found = measured.worth.expected_time(problem, agent, place, column)
            return _expected(found, 1e3 if column == "seconds" else 1.0)

        seconds = [str(expected(one, "seconds")) for one in (LEARNED, other)]
        where = f"{problem}, {orders(place):.1f} orders"
        return (where, expected(LEARNED), expected(other), seconds[0], seconds[1])

    heads = (
        "problem, target",
        "learned: evaluations",
        "best baseline: evaluations",
        "learned: ms",
        "best baseline: ms",
    )
    return listed(heads, map(cells, measured.problems))


def _expected(found: Interval, scale: float) -> Cell:
    """An expected running time, which has no end where too few resamples reached the target."""
    if math.isnan(found.estimate):
        return Cell("never")
    middle, low, high = (significant(scale * value) for value in found)
    if math.isnan(found.low):
        return Cell(middle)
    return Cell(middle, f"[{low.replace(MISSING, '?')}, {high.replace(MISSING, '?')}]")


def _gained(measured: Measured) -> Table:
    """A row per problem: orders of magnitude gained."""

    def mean(problem: str, agent: str | None, named: bool = False) -> str:
        if agent is None or not measured.has(problem, agent):
            return ""
        return number(measured.row(problem, agent)["mean"]) + (f" ({agent})" if named else "")

    def cells(problem: str) -> Sequence[Cell | str]:
        best = measured.best(problem, summary.BASELINES)
        both = best is not None and measured.has(problem, LEARNED)
        versus = interval(measured.difference(problem, LEARNED, best), sign=True) if both and best else ""
        return (problem, mean(problem, best, named=True), mean(problem, LEARNED), versus, mean(problem, L_BFGS))

    return listed(
        ("problem", "best baseline or control", "learned", "minus the best", "L-BFGS"), map(cells, measured.problems)
    )


# -- what is looked up -------------------------------------------------------------------------------------------------


def _row(evidence: Evidence, measured: Measured, row: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of an agent on a problem."""
    problem, agent = row["problem"], row["agent"]
    place = measured.target(problem)
    found = dict(row)
    found |= {"target_orders": orders(place)}
    shares = {"gap_closed": measured.gap_closed, "way_to_l_bfgs": measured.distance_closed}
    for name, column in (("expected_cost_to_target", "costs"), ("expected_seconds_to_target", "seconds")):
        found |= _ends(name, measured.worth.expected_time(problem, agent, place, column))
    for name, share in shares.items():
        found |= _ends(name, share(problem, agent))
    for name, (mean, among) in hindsight(measured, problem).items():
        found |= {f"{name}, mean gained": mean, f"{name}, chosen among": among}
    return {**found, "about": evidence.about.get((problem, agent), "")}


def _ends(name: str, found: Interval) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def _effort(evidence: Evidence) -> list[dict[str, Any]]:
    """A row per tuned family and per trained policy: what it took, and what came of it."""
    rows = []
    for (problem, family), found in evidence.tuned.items():
        taken = {name: found[name] for name in ("tried", "episodes", "gained")}
        edges = ", ".join(found["edges"])
        rows.append(
            {"problem": problem, "name": family, **taken, "edges": edges, "chosen": _chosen(problem, found["config"])}
        )
    for (problem, name), seeds in evidence.trained.items():
        taken = {key: sum(one[key] for one in seeds) for key in ("decisions", "seconds")}
        episodes = sum(one["searched_episodes"] for one in seeds)
        rows.append({"problem": problem, "name": name, "episodes": episodes, **taken, "seeds": len(seeds)})
    return rows


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


# -- the picture -------------------------------------------------------------------------------------------------------


@matplotlib.rc_context(SETTINGS)
def _drawn(measured: Measured) -> bytes:
    """Scores of the policy, the best baseline or control, plain descent and L-BFGS: a row per problem, both clocks."""
    problems = measured.problems
    figure, axes = panels(2, 0.42 * len(problems) + 0.8)
    kinds = {
        "learned": "#D55E00",
        "best baseline or control": "#0072B2",
        "plain descent": "#111111",
        "L-BFGS": "#8A8A8A",
    }
    for axis, (measure, title) in zip(
        axes, (("score", "equal cost"), ("time_score", "equal processor seconds")), strict=True
    ):
        for row, problem in enumerate(problems):
            agents = (LEARNED, measured.best_by(problem, measure), summary.PLAIN, L_BFGS)
            for place, (agent, (kind, colour)) in enumerate(zip(agents, kinds.items(), strict=True)):
                if agent is None or not measured.has(problem, agent):
                    continue
                ends, height = measured.worth.interval(problem, agent, measure), row + 0.16 * (place - 1.5)
                axis.plot(ends[1:], [height, height], color=colour, linewidth=1.6)
                axis.plot(ends[0], height, "o", color=colour, markersize=4.5, label=kind if row == 0 else None)
        axis.set_yticks(range(len(problems)), problems)
        axis.set_ylim(len(problems) - 0.5, -0.5)
        axis.set_title(title)
        axis.set_xlabel("score by targets (95 %)")
        axis.grid(visible=False, axis="y")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()
