"""What a run of the full protocol writes: the episodes, the pictures, the HTML report, and a page in Markdown.

Every number and every verdict on the page is computed from the evidence; nothing is typed.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study.baselines import FIXED, WHITENING_CYCLE, menu_of, opening_of
from study.contestants import (
    LEARNED,
    MOMENTUM,
    RATE_LINE_SEARCH,
    RATE_ONLY,
    WHITENED,
)
from study.findings import DISTILLED, L_BFGS, Finding, Measured, findings, hindsight, text
from study.protocol import Evidence, policies_of, protocol_settings
from teleport_env.agents.comparison import summary
from teleport_env.agents.comparison.decisions import decision_drawings, label_of, watch
from teleport_env.agents.comparison.report import Drawing, write_report
from teleport_env.agents.comparison.study import WATCHED
from teleport_env.agents.play import draw_instances


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
    )
    markdown = protocol.page or protocol.out / "results.md"
    images = "." if protocol.page is None else f"images/{markdown.stem}"
    pictures = [("gained", "Orders gained"), ("differences", "Against the best baseline or control")]
    pictures += [("curves", "Loss against compute"), ("profiles", "Performance profiles")]
    if protocol.page is not None:
        (markdown.parent / images).mkdir(parents=True, exist_ok=True)
        for name in [*(name for name, _ in pictures), *(drawing.name for drawing in drawings)]:
            if (protocol.out / f"{name}.png").exists():
                shutil.copy(protocol.out / f"{name}.png", markdown.parent / images)
    lines = _page(evidence, measured, found, settings)
    lines += ["## Pictures", ""]
    for name, title in pictures:
        if (protocol.out / f"{name}.png").exists():
            lines += [f"![{title}]({images}/{name}.png)", ""]
    if drawings:
        lines += ["## What the policies do", ""]
        for drawing in drawings:
            lines += [f"![{drawing.title}]({images}/{drawing.name}.png)", "", drawing.caption, ""]
    markdown.parent.mkdir(parents=True, exist_ok=True)
    markdown.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
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


def _page(evidence: Evidence, measured: Measured, found: Sequence[Finding], settings: Mapping[str, Any]) -> list[str]:
    protocol = evidence.protocol
    lines = ["# Learned schedules against everything, at equal compute", ""]
    lines += ["```", f"python {evidence.command}", "```", ""]
    if protocol.split != "test":
        lines += [
            f"**A rehearsal on the {protocol.split} split, which is not held out:** these figures are no result. Policies "
            "are kept, and everything else is tried out, on validation instances.",
            "",
        ]
    lines += [
        f"{protocol.instances} instances of the {protocol.split} split a problem, {protocol.train_seeds} training seeds, "
        f"{protocol.tuning_instances} training instances for each tuned configuration and {11 * protocol.tuning_instances} "
        "in all; "
        + ", ".join(f"{name} {version}" for name, version in evidence.versions.items() if name != "platform")
        + ". Written by the command.",
        "",
        "*Gained* is log10 of the initial loss over the final loss, floored at the tolerance; a diverged run counts as -2. "
        "Everyone plays the same instances and pays for every evaluation from the same budget. Intervals are 95 %, over "
        "training seeds and instances, both resampled whole. The best baseline is chosen on the very episodes that are "
        "compared, which favours it.",
        "",
        "## What holds",
        "",
        "| target | holds | figures |",
        "|---|---|---|",
        *(f"| {_cell(one.target)} | {one.holds} | {_cell(one.detail)} |" for one in found),
        "",
        "Other budgets, rates and sizes of networks than a policy was trained on: `--protocol transfer`.",
        "",
        *_across(measured),
    ]
    for problem in measured.problems:
        lines += _problem(evidence, measured, problem)
    lines += _effort(evidence, measured, settings)
    return lines


def _across(measured: Measured) -> Iterator[str]:
    """A row a problem."""
    yield "## All problems"
    yield ""
    yield (
        f"| problem | plain descent | best fixed | best of all baselines and controls, {DISTILLED} apart | {DISTILLED} | "
        "learned rate only | learned | minus the best | minus that rule | gap to the oracle closed | way to L-BFGS closed | "
        "L-BFGS |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for problem in measured.problems:
        best, fixed = (measured.best(problem, kinds, [DISTILLED]) for kinds in (summary.BASELINES, ["fixed"]))
        cells = [problem, _mean(measured, problem, summary.PLAIN), _named(measured, problem, fixed)]
        cells += [
            _named(measured, problem, best),
            _mean(measured, problem, DISTILLED),
            _mean(measured, problem, RATE_ONLY),
        ]
        cells.append(f"**{_mean(measured, problem, LEARNED)}**")
        if measured.has(problem, LEARNED) and best is not None:
            cells.append(text(measured.difference(problem, LEARNED, best)))
            ruled = measured.has(problem, DISTILLED)
            cells.append(text(measured.difference(problem, LEARNED, DISTILLED)) if ruled else "")
            cells += [_share(measured.gap_closed(problem, LEARNED)), _share(measured.distance_closed(problem, LEARNED))]
        else:
            cells += [""] * 4
        cells.append(_mean(measured, problem, L_BFGS))
        yield _line(cells)
    yield ""
    yield (
        f"Means of the orders of magnitude gained. {DISTILLED.capitalize()} is what policies such as these were found to "
        "do, written down by hand and tuned like the other rules "
        "([what the policies found](learning.md#what-the-policies-found))."
    )
    yield ""


def _problem(evidence: Evidence, measured: Measured, problem: str) -> Iterator[str]:
    """The table of a problem, and what choosing in hindsight would give."""
    rows = measured.table[measured.table["problem"] == problem].to_dict("records")
    best = measured.best(problem, summary.BASELINES)
    target = measured.target(problem)
    budgets = sorted(set(measured.results.loc[measured.results["problem"] == problem, "budget"]))
    yield f"## {problem}"
    yield ""
    yield f"Budget: {', '.join(f'{budget:g}' for budget in budgets)} gradient evaluations. Best baseline or control: {best}."
    yield ""
    yield (
        f"| agent | kind | IQM gained | mean | minus the best | P(beats the best) | gap closed | way to L-BFGS | diverged | "
        f"teleports | cost to {target:g} orders |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        agent = row["agent"]
        learned = row["kind"] == "learned"
        name = f"**{agent}**" if learned else agent
        versus = best is not None and agent != best
        cells = [
            name,
            row["kind"],
            f"{row['iqm']:.2f} [{row['iqm_low']:.2f}, {row['iqm_high']:.2f}]",
            f"{row['mean']:.2f}",
        ]
        cells.append(_difference(row) if versus else "the best")
        cells.append(f"{measured.improvement(problem, agent, best):.2f}" if versus and best else "")
        cells.append(_share(measured.gap_closed(problem, agent)) if learned else "")
        cells.append(_share(measured.distance_closed(problem, agent), interval=learned))
        cells += [f"{row['diverged']:.1%}", f"{row['teleports']:.1f}", _cost(measured.expected_cost(problem, agent))]
        yield _line(cells)
    yield ""
    oracles = hindsight(measured, problem)
    if oracles:
        yield "In hindsight, at no charge; nobody can play it:"
        yield ""
        yield "| of each instance | mean gained | chosen among |"
        yield "|---|---|---|"
        for name, (mean, among) in oracles.items():
            yield _line([name, f"{mean:.2f}", str(among)])
        yield ""
        yield (
            f"The best seed of the {FIXED} is the luck in its oracle: as many plays of the one tuned configuration. The "
            "oracle of rate schedules has no teleports; the gap is to the best of both. With teleports minus without: "
            f"{text(measured.oracle_difference(problem))}."
        )
        yield ""
    told: dict[str, str] = {}
    for earlier in measured.problems[: measured.problems.index(problem)]:
        told |= {agent: sentence for (where, agent), sentence in evidence.about.items() if where == earlier}
    about = {agent: evidence.about.get((problem, agent), "") for agent in (row["agent"] for row in rows)}
    new = {agent: sentence for agent, sentence in about.items() if sentence and told.get(agent) != sentence}
    if new:
        yield "What the rows are:" if not told else "Rows that are new here, or are something else than above:"
        yield ""
        for agent, sentence in new.items():
            yield f"* {agent}: {sentence}."
        yield ""


def _effort(evidence: Evidence, measured: Measured, settings: Mapping[str, Any]) -> Iterator[str]:
    yield "## What it took"
    yield ""
    yield (
        "Episodes and configurations of each tuned family beside the decisions of each training; an episode of a baseline "
        "is dozens of decisions. Edges: settings whose best value lies at an end of the grid that could be moved further."
    )
    yield ""
    yield "| problem | tuned or trained | configurations | episodes | decisions, all seeds | seconds a seed | edges |"
    yield "|---|---|---|---|---|---|---|"
    for problem in measured.problems:
        for (where, family), found in evidence.tuned.items():
            if where == problem:
                edges = ", ".join(found["edges"]) or "none"
                yield _line([problem, family, f"{found['tried']:,}", f"{found['episodes']:,}", "", "", edges])
        for (where, name), seeds in evidence.trained.items():
            if where == problem:
                decisions = f"{sum(one['decisions'] for one in seeds):,}"
                episodes = f"{sum(one['searched_episodes'] for one in seeds):,}"
                spent = f"{sum(one['seconds'] for one in seeds) / len(seeds):.0f}"
                yield _line([problem, name, "", episodes, decisions, spent, ""])
    yield ""
    yield (
        f"In all {settings['tuning_runs']:,} episodes of tuning, {settings['training_decisions']:,} decisions of training. "
        "The episodes of a training are those of the fixed schedules that give it its base learning rate and its teacher."
    )
    yield ""
    yield "Tuned settings:"
    yield ""
    for (problem, family), found in evidence.tuned.items():
        config = dict(found["config"])
        moves = menu_of(problem) if config.keys() & {"which", "search"} else []
        opening = opening_of(moves, config)
        chosen = [
            f"{symmetry}: {label_of(one)}"
            for key in ("which", "search")
            if key in config
            for symmetry, one in [moves[config.pop(key)]]
        ]
        config.pop("opening", None)
        if opening is not None:
            chosen.append(f"the first {config.pop('looks')} by {label_of(opening)}")
        chosen += [f"{key} {_setting(value)}" for key, value in sorted(config.items())]
        yield f"* {problem}, {family}: {', '.join(chosen)}"
    yield ""


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _mean(measured: Measured, problem: str, agent: str) -> str:
    return f"{measured.row(problem, agent)['mean']:.2f}" if measured.has(problem, agent) else ""


def _named(measured: Measured, problem: str, agent: str | None) -> str:
    return "" if agent is None else f"{_mean(measured, problem, agent)} ({agent})"


def _difference(row: Mapping[str, Any]) -> str:
    if math.isnan(row["difference_low"]):
        return ""
    return f"{row['difference']:+.2f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"


def _share(share: Any, interval: bool = True) -> str:
    if math.isnan(share.estimate):
        return ""
    middle = f"{share.estimate:.0%}"
    if not interval:
        return middle
    low, high = (f"{end:.0%}" if math.isfinite(end) else "?" for end in (share.low, share.high))
    return f"{middle} [{low}, {high}]"


def _cost(cost: float) -> str:
    return "never" if math.isinf(cost) else f"{cost:.0f}"


def _cell(content: str) -> str:
    return " ".join(content.split()).replace("|", "\\|")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def terminal_lines(found: Mapping[str, Any]) -> list[str]:
    """The findings in short, for a terminal."""
    return [f"{one.holds:>12}  {one.target}" for one in found["findings"]]
