"""The page of a comparison: one self-contained HTML file without scripts, fonts or any other request."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from teleport_env.agents.comparison import summary

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #5b6570; --rule: #d9dee3; --card: #f5f7f9;
  --best: #fdf1dc; --win: #0b6b43; --loss: #a8321c; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e6e8ea; --soft: #9aa4ae; --rule: #343a41;
  --card: #1d2126; --best: #3a2f17; --win: #5fce9c; --loss: #ff9580; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1140px; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .4rem; } p { max-width: 80ch; } p.lead { max-width: none; }
.lead, figcaption, .note { color: var(--soft); } .note { font-size: .87rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .25rem 1.1rem; }
.card p { max-width: none; margin: .8rem 0; } ul { padding-left: 1.2rem; } li { margin: .2rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .82rem; }
th, td { padding: .28rem .42rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid var(--rule); color: var(--soft); font-weight: 600; vertical-align: bottom;
  white-space: normal; }
tbody th, thead th:nth-child(-n+2) { text-align: left; font-weight: 500; } tbody tr { border-bottom: 1px solid var(--rule); }
tbody.aside { border-top: 3px double var(--soft); color: var(--soft); }
tbody.aside tr.label th { font-size: .78rem; font-style: italic; font-weight: 400; padding-top: .5rem; }
tr.best { background: var(--best); } tr.best th, td.top { font-weight: 700; }
.kind { color: var(--soft); font-size: .92em; text-align: left; } .range { color: var(--soft); font-size: .92em; }
.win { color: var(--win); font-weight: 700; } .loss { color: var(--loss); font-weight: 700; }
figure { margin: 1.5rem 0; } figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 8px;
  border: 1px solid var(--rule); padding: 6px; } figcaption { font-size: .88rem; margin-top: .4rem; max-width: 90ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .88rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .7rem 1rem; overflow-x: auto; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture on the page: PNG bytes with a heading and a caption, which together are its alternative text too."""

    title: str
    caption: str
    png: bytes


def _escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(value: float, digits: int = 2, sign: bool = False) -> str:
    if math.isnan(value):
        return "&ndash;"
    if math.isinf(value):
        return "&infin;" if value > 0 else "&minus;&infin;"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")  # no "+0.00"
    return text.replace("-", "&minus;")


def _significant(value: float) -> str:
    """Costs and times, whose sizes differ by orders: three digits."""
    if not math.isfinite(value) or value == 0:
        return _number(value, 0)
    return _number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def _interval(row: Mapping[str, Any], name: str, sign: bool = False) -> str:
    if math.isnan(row[name]):
        return "&ndash;"
    middle = _number(row[name], sign=sign)
    if math.isnan(row[f"{name}_low"]):
        return middle
    low, high = (_number(row[f"{name}_{end}"], sign=sign) for end in ("low", "high"))
    return f'{middle} <span class="range">[{low}, {high}]</span>'


_HEADINGS = (
    ("Agent", "the agent"),
    ("Kind", "fixed, adaptive, learned, control, reference or oracle"),
    ("n", "episodes: instances times seeds"),
    ("IQM gained [95\u00a0%]", "interquartile mean of the orders of magnitude gained"),
    ("Mean", "mean of the orders gained; it counts divergences in full"),
    ("To best baseline [95\u00a0%]", "mean paired difference to the best fixed, adaptive or control agent"),
    ("P(beats plain)", "probability that an episode gains more than plain descent's on the same instance, ties half"),
    ("Diverged", "share of episodes that diverged"),
    ("Teleports", "mean number in an episode"),
    ("Cost", "mean cost in gradient evaluations"),
    ("Cost to target", "expected cost to reach the tolerance: total cost over the number of runs that did"),
    ("Seconds", "mean wall-clock of an episode, for orientation; runs that share a batch share its time"),
)


def _row(row: Mapping[str, Any], best: bool, top: bool) -> str:
    # the claim is the learned agents'; that other baselines lie below the best of them goes without saying
    verdict = row["verdict"] if row["verdict"] in ("win", "loss") and row["kind"] == "learned" else ""
    difference = "best baseline" if row["verdict"] == "baseline" else _interval(row, "difference", sign=True)
    cells = [
        (_escape(row["kind"]), "kind"),
        (str(row["n"]), ""),
        (_interval(row, "iqm"), "top" if top else ""),
        (_number(row["mean"]), "top" if best else ""),
        (difference, verdict),
        (_number(row["improvement"]), ""),
        (_number(100 * row["diverged"], 1) + " %", ""),
        (_number(row["teleports"], 1), ""),
        (_significant(row["cost"]), ""),
        (_significant(row["expected_cost"]), ""),
        (_significant(row["seconds"]), ""),
    ]
    columns = "".join(f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>" for text, kind in cells)
    return f'<tr{" class=best" if best else ""}><th scope="row">{_escape(row["agent"])}</th>{columns}</tr>'


_ASIDE = {
    "reference": "References: what one would take instead. Not schedules of gradient descent; not baselines.",
    "oracle": "Hindsight: chosen after the fact, at no charge. Nobody can play it; over random agents part of it is luck.",
}


def _table(rows: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col" title="{_escape(title)}">{_escape(name)}</th>' for name, title in _HEADINGS)
    schedules = rows[~rows["kind"].isin(list(_ASIDE))].to_dict("records")
    means = [row["mean"] for row in schedules]
    centres = [row["iqm"] for row in schedules]
    body = "".join(_row(row, row["mean"] == max(means), row["iqm"] == max(centres)) for row in schedules)
    parts = [f"<tbody>{body}</tbody>"] if schedules else []
    for kind, label in _ASIDE.items():
        aside = rows[rows["kind"] == kind].to_dict("records")
        if aside:
            title = f'<tr class="label"><th scope="rowgroup" colspan="{len(_HEADINGS)}">{_escape(label)}</th></tr>'
            parts.append(f'<tbody class="aside">{title}{"".join(_row(row, False, False) for row in aside)}</tbody>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(parts)}</table></div>'


def _list(items: Sequence[str], otherwise: str) -> str:
    if not items:
        return f"<p>{_escape(otherwise)}</p>"
    return "<ul>" + "".join(f"<li>{_escape(item)}</li>" for item in items) + "</ul>"


def _guide(results: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    splits = ", ".join(sorted({str(split) for split in results["split"]}))
    seeds, instances = results["seed"].nunique(), results.groupby("problem")["instance_id"].nunique().max()
    tuned = settings.get("tuning", "not stated in the settings")
    over = (
        "training seeds and instances, both resampled whole"
        if seeds > 1
        else "instances alone, since there is one seed"
    )
    return (
        "<p><strong>How to read this.</strong> <em>Gained</em> is log10 of the initial loss over the final loss: 3 means a "
        "loss a thousand times smaller. It is floored at the tolerance, and a diverged run counts as &minus;2. <em>Equal "
        "compute</em> means an equal budget in gradient evaluations: a loss with its gradient costs 1, a loss alone 1/3, a "
        "Hessian-vector product 2, and every search for a teleport pays for what it evaluates and for its matrix work. An "
        f"<em>interval</em> says 95 % and is over {_escape(over)}; it is not adjusted for the number of comparisons. The "
        "<em>IQM</em> leaves out the lowest and the highest quarter, and with them up to a quarter of divergences: read it "
        "beside the mean. A <em>win</em> is an interval of the mean paired difference to the best baseline above zero, a "
        "<em>loss</em> one below; the best baseline is the fixed, adaptive or control agent with the highest mean on these "
        f"very episodes, which favours it. Played on split {_escape(splits)}: {instances} instances a problem, {seeds} "
        f"seed{'s' if seeds != 1 else ''}. Tuning: {_escape(tuned)}.</p>"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in settings.items() if key not in ("title", "command", "versions")}
    shown |= {f"version of {key}": value for key, value in settings["versions"].items()}

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return "<dl>" + "".join(f"<dt>{_escape(k)}</dt><dd>{_escape(text(v))}</dd>" for k, v in shown.items()) + "</dl>"


def render_page(
    results: pd.DataFrame, table: pd.DataFrame, pictures: Sequence[Picture], settings: Mapping[str, Any]
) -> str:
    """The page's HTML.

    Args:
        results: One row an episode.
        table: Its `summary.summary_table`.
        pictures: In the order they are shown.
        settings: ``title``, ``command``, ``tuning`` (a sentence) and ``versions`` have their places; the rest is listed.
    """
    title = settings.get("title", "Teleport schedules at equal compute")
    problems = list(dict.fromkeys(table["problem"]))
    below = [
        f"{row.problem}: {row.agent} is {-row.plain_difference:.2f} orders below plain descent "
        f"[{-row.plain_difference_high:.2f}, {-row.plain_difference_low:.2f}]"
        for row in summary.below_plain(table).itertuples(index=False)
    ]
    plain = (table["agent"] == summary.PLAIN).any()
    nothing = "Nowhere, by these intervals." if plain else f"Not known: plain descent ({summary.PLAIN}) was not played."
    tables = "".join(
        f"<h3>{_escape(problem)}</h3>"
        f'<p class="note">Budget: {_budget(results, problem)} gradient evaluations an episode.</p>'
        + _table(table[table["problem"] == problem])
        for problem in problems
    )
    figures = "".join(
        f"<figure><h3>{_escape(picture.title)}</h3>"
        f'<img src="data:image/png;base64,{base64.b64encode(picture.png).decode("ascii")}" '
        f'alt="{_escape(picture.title + ": " + picture.caption)}">'
        f"<figcaption>{_escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
    )
    command = settings.get("command")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n<header><h1>{_escape(title)}</h1>"
        f'<p class="lead">{len(results):,} episodes, {table["agent"].nunique()} agents, {len(problems)} '
        f"problem{'s' if len(problems) != 1 else ''}: {_escape(', '.join(map(str, problems)))}</p></header>\n"
        f'<section class="card">{_guide(results, settings)}</section>\n'
        "<section><h2>Verdict on the learned schedules</h2>"
        + _list(summary.statements(table), "No learned agent could be compared with a baseline.")
        + "<h2>Where an agent is significantly below plain descent</h2>"
        + _list(below, nothing)
        + f"</section>\n<section><h2>Tables</h2>{tables}</section>\n<section><h2>Pictures</h2>{figures}</section>\n"
        "<section><h2>Settings</h2>"
        + (f"<pre><code>{_escape(command)}</code></pre>" if command else "")
        + _settings(settings)
        + "</section>\n</body></html>\n"
    )


def _budget(results: pd.DataFrame, problem: str) -> str:
    budgets = sorted(results.loc[results["problem"] == problem, "budget"].unique())
    return ", ".join(f"{budget:g}" for budget in budgets)
