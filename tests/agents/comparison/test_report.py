"""The table, the pictures and the page of a comparison, from made-up episodes whose truth is known."""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fresh
from teleport_env.agents.comparison import page as pages
from teleport_env.agents.comparison import plots, report, statistics, summary, verdict
from teleport_env.agents.comparison.described import sentences
from teleport_env.agents.comparison.solvers import SOLVERS
from teleport_env.agents.comparison.tables import html
from teleport_env.agents.comparison.targets import with_scores
from teleport_env.agents.policies.learned import shipped_for
from teleport_env.agents.presets import default_agents

AWKWARD = '<b>"rule" & $x_1$'
AGENTS = {  # name -> kind, orders gained above the instance's difficulty, teleports
    "never": ("fixed", 2.0, 0),
    "every_10": ("fixed", 3.0, 10),
    AWKWARD: ("adaptive", 4.0, 5),
    "NA": ("control", 1.5, 0),
    "_ppo": ("learned", 4.6, 7),
    "l_bfgs": ("reference", 8.0, 0),
}


def episodes(
    agents: dict[str, tuple[str, float, int]] = AGENTS,
    problems: tuple[str, ...] = ("Booth", "Bowl & <i>"),
    seeds: int = 2,
    instances: int = 12,
) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for problem in problems:
        difficulty = generator.standard_normal(instances)
        for agent, (kind, gain, teleports) in agents.items():
            for seed in range(seeds):
                for instance in range(instances):
                    diverged = agent == "every_10" and instance == 0
                    gained = -2.0 if diverged else gain + difficulty[instance] + 0.2 * generator.standard_normal()
                    rows.append(
                        {
                            "problem": problem,
                            "agent": agent,
                            "kind": kind,
                            "seed": seed,
                            "instance_id": 100 + instance,
                            "split": "test",
                            "budget": 60.0,
                            "cost": 60.0 - generator.random(),
                            "gained": gained,
                            "initial_loss": 10.0 / 3.0,
                            "loss": math.nan if diverged else 10.0 / 3.0 * 10**-gained,
                            "steps": 50,
                            "teleports": teleports,
                            "converged": gained > 9.0,
                            "diverged": diverged,
                            "seconds": generator.random() / 100,
                            "menu": "none",
                            "learning_rate": 0.1,
                        }
                    )
    return pd.DataFrame(rows)


def curves_of(results: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (problem, agent), played in results.groupby(["problem", "agent"], sort=False):
        for cost in np.linspace(0.0, 60.0, 13):
            low, middle, high = -np.quantile(played["gained"], [0.75, 0.5, 0.25]) * cost / 60.0
            rows.append({"problem": problem, "agent": agent, "cost": cost, "q25": low, "median": middle, "q75": high})
    return pd.DataFrame(rows)


def trace(problem: str, agent: str) -> dict[str, Any]:
    return {
        "problem": problem,
        "agent": agent,
        "cost": [0.0, 1.0, 2.0, 3.0],
        "loss": [1.0, 0.1, 0.1, math.nan],
        "grad_norm": [1.0, 0.3, 3.0, 0.0],
        "teleports": [2],
    }


def targets_of(results: pd.DataFrame) -> pd.DataFrame:
    """A target every six gradient evaluations, as many as the orders that an episode gained twice over, of 24."""
    rows = []
    for row in results[results["kind"] != "oracle"].to_dict("records"):
        reached = int(np.clip(2 * row["gained"], 0, 9))
        costs = (*(6.0 * (1 + place) for place in range(reached)), *[math.inf] * (24 - reached))
        names = ("problem", "agent", "seed", "instance_id", "budget")
        seconds = tuple(0.001 * cost for cost in costs)
        own = {"spent": row["cost"], "pace": 0.001, "costs": costs, "seconds": seconds}
        rows.append({**{name: row[name] for name in names}, **own})
    return pd.DataFrame(rows)


ABOUT = {"never": "Plain <descent>."}


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_measures_what_it_says() -> None:
    results = episodes()
    table = summary.summary_table(results)
    assert len(table) == 2 * len(AGENTS)
    row = table[(table["problem"] == "Booth") & (table["agent"] == "_ppo")].iloc[0]
    mine = results[(results["problem"] == "Booth") & (results["agent"] == "_ppo")]
    best = results[(results["problem"] == "Booth") & (results["agent"] == AWKWARD)]
    assert row["n"] == 24
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(mine["gained"].mean())
    assert row["iqm"] == pytest.approx(statistics.iqm(mine["gained"]))
    assert row["baseline"] == AWKWARD
    assert row["difference"] == pytest.approx(mine["gained"].mean() - best["gained"].mean())
    assert row["difference_low"] < 0.6 < row["difference_high"]
    assert row["verdict"] == "win"
    assert row["improvement"] == 1.0
    assert row["teleports"] == 7
    assert row["cost"] == pytest.approx(mine["cost"].mean())
    assert row["expected_cost"] == math.inf
    assert (table["iqm_low"] <= table["iqm"]).all()
    assert (table["iqm"] <= table["iqm_high"]).all()


def test_rows_are_sorted_with_references_and_oracles_apart() -> None:
    results = episodes(problems=("Booth",))
    table = summary.summary_table(pd.concat([results, summary.oracle_rows(results)], ignore_index=True))
    assert table["agent"].tolist() == ["_ppo", AWKWARD, "every_10", "never", "NA", "l_bfgs", "oracle"]


def test_verdicts_follow_the_intervals() -> None:
    table = summary.summary_table(episodes(problems=("Booth",))).set_index("agent")
    verdicts = {"_ppo": "win", AWKWARD: "baseline", "never": "loss", "NA": "loss", "l_bfgs": "win"}
    assert {agent: table.loc[agent, "verdict"] for agent in verdicts} == verdicts
    same = {**AGENTS, "_ppo": ("learned", 4.0, 7)}
    table = summary.summary_table(episodes(same, problems=("Booth",)))
    assert table.set_index("agent").loc["_ppo", "verdict"] == "undecided"
    (sentence,) = summary.statements(table)
    assert "_ppo is not separated from" in sentence
    worse = summary.summary_table(episodes({**AGENTS, "_ppo": ("learned", 1.0, 7)}, problems=("Booth",)))
    assert "loses to" in summary.statements(worse)[0]
    assert summary.below_plain(worse)["agent"].tolist() == ["_ppo", "NA"]  # the worst first


def test_divergence_shows_in_the_mean_and_in_its_share() -> None:
    table = summary.summary_table(episodes(problems=("Booth",))).set_index("agent")
    assert table.loc["every_10", "diverged"] == 1 / 12
    assert table.loc["never", "diverged"] == 0
    assert table.loc["never", "diverged_high"] > 0.1  # none of 24 is no proof of none


def test_a_row_does_not_depend_on_who_else_was_played() -> None:
    few = summary.summary_table(episodes(problems=("Booth",)).query("agent in ['never', '_ppo']"))
    many = summary.summary_table(episodes(problems=("Booth",)))
    columns = ["iqm", "iqm_low", "iqm_high", "plain_difference_low", "improvement"]
    for agent in ("never", "_ppo"):
        pd.testing.assert_frame_equal(
            few.loc[few["agent"] == agent, columns].reset_index(drop=True),
            many.loc[many["agent"] == agent, columns].reset_index(drop=True),
        )


def test_unpaired_episodes_are_named() -> None:
    results = episodes(problems=("Booth",))
    lacking = results.drop(results[(results["agent"] == "_ppo") & (results["instance_id"] == 103)].index)
    with pytest.raises(ValueError, match=r"'_ppo' lacks 2 episodes that .* played: \('Booth', 0, 103\), \('Booth', 1"):
        summary.summary_table(lacking)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="cost"), r"lacks the columns \['cost'\]"),
        (lambda frame: frame.iloc[:0], "results is empty"),
        (lambda frame: frame.assign(kind="best"), r"unknown kinds \['best'\]; a kind is one of"),
        (lambda frame: frame.assign(agent="one"), r"more than one kind: \['one'\]"),
        (lambda frame: frame.assign(gained=math.nan), "non-finite `gained`, the first: problem 'Booth'"),
    ],
)
def test_a_malformed_frame_is_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summary.summary_table(change(episodes()))


def test_the_oracle_is_each_episodes_best_fixed_agent() -> None:
    results = episodes(problems=("Booth",))
    rows = summary.oracle_rows(results)
    assert (rows["kind"] == "oracle").all()
    assert list(rows.columns) == list(results.columns)
    fixed = results[results["kind"] == "fixed"]
    best = fixed.groupby(["seed", "instance_id"])["gained"].max()
    np.testing.assert_array_equal(rows.set_index(["seed", "instance_id"])["gained"].sort_index(), best.sort_index())
    assert (rows.loc[rows["instance_id"] == 100, "teleports"] == 0).all()  # every_10 diverged there
    with pytest.raises(ValueError, match=r"not among the agents played: \['unknown'\]"):
        summary.oracle_rows(results, ["never", "unknown"])
    with pytest.raises(ValueError, match=r"\['never'\] did not play every episode"):
        summary.oracle_rows(results.iloc[1:])


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_no_two_agents_look_the_same() -> None:
    names = {f"rule_{index}": ("adaptive", 1.0, 1) for index in range(14)}
    names |= {f"learned_{index}": ("learned", 1.0, 1) for index in range(4)}
    names |= {f"reference_{index}": ("reference", 1.0, 0) for index in range(4)}
    styles = plots.agent_styles(episodes({**AGENTS, **names}, problems=("Booth",), seeds=1, instances=1))
    looks = {(style.color, style.marker, str(style.dashes)) for style in styles.values()}
    assert len(looks) == len(styles) == len(names) + len(AGENTS)
    assert all(style.aside == agent.startswith(("reference", "l_bfgs")) for agent, style in styles.items())


@pytest.mark.parametrize("problems", [("Booth",), ("Booth", "$"), ("a", "b", "c")])
def test_every_picture_has_a_panel_a_problem(problems: tuple[str, ...]) -> None:
    results = episodes(problems=problems)
    styles, table = plots.agent_styles(results), summary.summary_table(results, resamples=50)
    for figure in (
        plots.loss_curves(curves_of(results), styles),
        plots.gained_forest(table, styles),
        plots.difference_forest(table, styles),
        plots.performance_profiles(results, styles),
        plots.gained_against_teleports(results, styles),
    ):
        assert [axis.get_title(loc="left").replace(r"\$", "$") for axis in figure.axes] == list(problems)
        figure.canvas.draw()
    assert len(plots.episode_traces([trace(problem, "_ppo") for problem in problems], styles).axes) == 2 * len(problems)


def test_a_forest_shows_the_tables_numbers() -> None:
    table = summary.summary_table(episodes(problems=("Booth",)), resamples=50)
    (axis,) = plots.gained_forest(table, plots.agent_styles(table)).axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [" _ppo", r'<b>"rule" & \$x_1\$', "every_10", "never", "NA", "l_bfgs"]
    drawn = next(line.get_xdata() for line in axis.lines if len(np.atleast_1d(line.get_xdata())) == 2)
    np.testing.assert_allclose(drawn, table.loc[0, ["iqm_low", "iqm_high"]].astype(float))


def test_labels_of_a_forest_lie_within_the_picture() -> None:
    """Regression: names of agents are long, so that the axis is narrower than a label of one line below it."""
    names = {**AGENTS, "learned, momentum, teleports taken out": ("reference", 1.0, 0)}
    table = summary.summary_table(episodes(names, problems=("Booth", "Rosenbrock")), resamples=50)
    styles = plots.agent_styles(table)
    for figure in (plots.gained_forest(table, styles), plots.difference_forest(table, styles)):
        figure.canvas.draw()
        assert all(axis.xaxis.label.get_window_extent().x1 <= figure.bbox.x1 for axis in figure.axes)


def test_the_profile_starts_at_one_and_falls() -> None:
    results = episodes(problems=("Booth",))
    (axis,) = plots.performance_profiles(results, plots.agent_styles(results)).axes
    for line in axis.lines:
        shares = np.asarray(line.get_ydata())
        assert shares[0] == 1.0
        assert (np.diff(shares) <= 0).all()


def test_pictures_of_nothing_say_so() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.loss_curves(curves_of(episodes()).iloc[:0], {})
    with pytest.raises(ValueError, match="no traces"):
        plots.episode_traces([], {})


def test_pyplot_is_left_alone() -> None:
    code = (
        "import sys, teleport_env.agents.comparison.report; "
        "sys.exit('pyplot' if 'matplotlib.pyplot' in sys.modules else 0)"
    )
    assert fresh.run(["-c", code]).returncode == 0


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page shows, and insists that its tags nest."""

    VOID = ("meta", "img", "br", "wbr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.cells: dict[str, list[str]] = {}
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data
        if self.open:
            self.cells.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = episodes()
    results = pd.concat([results, summary.oracle_rows(results)], ignore_index=True)
    traces = [trace(problem, agent) for problem in results["problem"].unique() for agent in ("never", "_ppo")]
    settings = {
        "title": "A <title> & more",
        "command": "python scripts/compare.py --agents 'a<b'",
        "tuning": "by `tune <Booth>` on split train.",
        "instances": 12,
        "folder": Path("somewhere"),
    }
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    more = {"targets": targets_of(results), "about": ABOUT}
    table = with_scores(summary.summary_table(results), more["targets"])
    page = report.write_report(folder, results, curves_of(results), traces, settings, table, **more, files=True)
    assert page == folder / "report.html"
    return folder


def test_results_read_back_are_the_same(written: Path) -> None:
    results = episodes()
    expected = pd.concat([results, summary.oracle_rows(results)], ignore_index=True)
    pd.testing.assert_frame_equal(report.read_results(written / "results.csv"), expected, check_exact=True)
    assert (written / "results.csv").read_text().splitlines()[0] == ",".join(summary.COLUMNS)


def test_settings_hold_the_versions(written: Path) -> None:
    settings = json.loads((written / "settings.json").read_text())
    assert settings["instances"] == 12
    assert settings["versions"]["numpy"] == np.__version__
    assert {"python", "torch", "scipy", "teleport-env"} <= set(settings["versions"])


def test_the_page_is_whole_and_needs_nothing_else(written: Path) -> None:
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    assert page.addresses
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in page.addresses)
    assert not page.tags & {"link", "iframe", "object", "b", "i"}
    assert (written / "report.html").stat().st_size < 3_000_000
    assert "url(" not in "".join(page.cells["style"])
    assert "@import" not in "".join(page.cells["style"])


def test_every_picture_is_in_the_folder_and_those_without_a_chart_are_on_the_page(written: Path) -> None:
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    names = ["gained", "differences", "teleports", "episodes"]
    assert {path.stem for path in written.glob("*.png")} == {*names, "curves", "profiles"}
    assert {path.stem for path in written.glob("*.webp")} == set(names)
    assert len(page.images) == len(names)
    for name, attributes in zip(names, page.images, strict=True):
        data = base64.b64decode((attributes["src"] or "").removeprefix("data:image/webp;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as image, Image.open(written / f"{name}.png") as whole:
            assert image.format == "WEBP"
            assert abs(image.width / image.height - whole.width / whole.height) < 0.01
            assert min(image.size) > 300
            assert len(set(image.convert("L").resize((50, 50)).tobytes())) > 5  # something is drawn
        assert len(attributes["alt"] or "") > 20
    assert all(path.stat().st_size <= report.SMALL_SVG for path in written.glob("*.svg"))
    assert (written / "gained.svg").exists()


def test_names_are_escaped_and_still_read_as_they_are(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    page = Page(text)
    assert AWKWARD in page.cells["th"]
    assert "Bowl & <i>" in page.cells["h3"]
    assert page.cells["h1"] == ["A <title> & more"]
    assert page.cells["code"] == ["tune <Booth>", "python scripts/compare.py --agents 'a<b'"]


def test_the_page_tells_wins_and_losses(written: Path) -> None:
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    items = page.cells["li"]
    assert sum("_ppo wins against" in item for item in items) == 2
    assert any("Use _ppo: " in item and "evaluations on average. The best solver, l_bfgs" in item for item in items)
    losers = page.text.split("Worse than plain descent")[-1].split("How to read this")[0]
    assert "NA" in losers
    assert "_ppo" not in losers
    assert "Plain <descent>." in page.cells["td"]
    assert "A trained policy." in page.cells["td"]
    assert "Hindsight" in page.text
    assert "References" in page.text
    assert "Tuning: by tune <Booth> on split train." in page.text  # the backticks are markup
    assert ".." not in page.text  # regression: the sentence ends once, whether its setting does or not


def test_equal_results_give_equal_files(written: Path, tmp_path: Path) -> None:
    results = report.read_results(written / "results.csv")
    traces = [trace(problem, agent) for problem in results["problem"].unique() for agent in ("never", "_ppo")]
    settings = {
        key: value for key, value in json.loads((written / "settings.json").read_text()).items() if key != "versions"
    }
    more = {"targets": targets_of(results), "about": ABOUT}
    table = with_scores(summary.summary_table(results), more["targets"])
    report.write_report(tmp_path, results, curves_of(results), traces, settings, table, **more, files=True)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_the_smallest_comparison_is_written_too(tmp_path: Path) -> None:
    """One instance, one seed, one agent: no interval, no baseline to differ from, no curve, no trace."""
    results = episodes({"never": AGENTS["never"]}, problems=("Booth",), seeds=1, instances=1)
    page = Page(report.write_report(tmp_path, results, curves_of(results).iloc[:0], None, {}).read_text())
    assert len(page.images) == 2
    assert "No learned agent could be compared" in page.text
    assert "nan" not in page.text.lower()
    results = episodes({"l_bfgs": AGENTS["l_bfgs"]}, problems=("Booth",), seeds=1, instances=2)
    page = Page(report.write_report(tmp_path, results, curves_of(results), None, {}).read_text())
    assert "plain descent (never) was not played" in page.text


def charts(written: Path) -> Any:
    """Data of the page's curves."""
    text = (written / "report.html").read_text(encoding="utf-8").split('id="charts-data">')[1]
    return json.loads(text.split("</script>")[0])


def test_charts_hold_every_agent_and_show_the_main_ones(written: Path) -> None:
    chart = charts(written)["Bowl & <i>"]
    assert {agent["name"] for agent in chart["agents"] if agent["on"]} == {"never", AWKWARD, "_ppo"}
    assert set(chart["views"]) == {"loss", "reached", "time", "expected"}
    for view in chart["views"].values():
        assert set(view["y"]) >= set(AGENTS)
        assert all(len(values) == len(view["x"]) for values in view["y"].values())
    assert set(chart["views"]["loss"]["low"]) == {"never", "_ppo"}
    assert "oracle" not in chart["views"]["reached"]["y"]


def test_a_lead_that_the_interval_does_not_support_is_no_win() -> None:
    table = summary.summary_table(episodes({**AGENTS, AWKWARD: ("adaptive", 2.0, 5), "_ppo": ("learned", 2.0, 7)}))
    table = table[table["agent"].isin(["never", "_ppo"])].assign(mean=lambda rows: rows["agent"].map(len))
    for _, words in verdict.winners(table):
        assert words.startswith(
            "Use plain descent (never): 5.00 orders of magnitude gained, and no agent that teleports"
        )
    assert verdict.advice(table) == "Schedule to use: never on Booth and Bowl & <i>."
    table = table.assign(mean=-table["mean"])
    for _, words in verdict.winners(table):
        assert "_ppo gained the most" in words
        assert "is not separated from plain descent" in words
    assert verdict.advice(table) == "Schedule to use: plain descent (never) on Booth and Bowl & <i>."
    assert verdict.overall(table).startswith("The best schedule outperforms plain descent on 0 of 2 problems.")


def test_a_tie_is_no_win_and_names_what_one_can_ask_for() -> None:
    """Regression: the first of six agents that gained the same, which has no name to ask for, was said to have won."""
    equal = {
        "best plan of specialist": ("fixed", 6.0, 1),
        "first": ("fixed", 6.0, 1),
        "specialist": ("learned", 6.0, 1),
    }
    table = summary.summary_table(episodes({**AGENTS, **equal}, problems=("Booth",)), resamples=50)
    table.loc[table["agent"].isin([*equal, "l_bfgs"]), "mean"] = 6.0
    table["cost"] = table["agent"].map({"specialist": 7.5, "l_bfgs": 5.0, "best plan of specialist": 3.0}).fillna(7.5)
    ((_, words),) = verdict.winners(table)
    assert words.startswith("Use first: 6.00 orders of magnitude gained, +")
    assert "against plain descent. It cost 7.5 gradient evaluations on average." in words
    assert "The same was gained, at the cost in brackets, by specialist (7.5) and best plan of specialist (3)." in words
    assert "The best solver, l_bfgs, gained the same at a cost of 5." in words
    assert verdict.advice(table) == (
        "Schedule to use: first on Booth. A solver gains at least as much, and needs no schedule: l_bfgs on Booth."
    )
    assert verdict.overall(table) == ""  # "on 1 of 1 problems" says nothing
    # Regression: of agents that gained the same the dearer one was named
    table.loc[table["agent"] == "specialist", "cost"] = 7.4
    assert verdict.advice(table).startswith("Schedule to use: specialist on Booth.")


def test_no_figure_is_a_negative_zero_and_no_line_ends_within_a_name() -> None:
    table = summary.summary_table(episodes({**AGENTS, "L-BFGS": ("reference", 2.0, 7)}, problems=("Booth",)))
    for name in ("difference", "difference_low"):
        table.loc[table["agent"] == "_ppo", name] = -1e-9
    (said,) = summary.statements(table)
    assert ": 0.00 [0.00, " in said
    assert said.endswith("] orders of magnitude")
    assert '<th scope="row"><span class="whole-word">L-BFGS</span></th>' in html(summary.table_of(table))


def test_a_table_shows_few_columns_at_first(written: Path) -> None:
    results = episodes(problems=("Booth",))
    table = with_scores(summary.summary_table(results, resamples=50), targets_of(results)).assign(settings="")
    columns = summary.table_of(table).columns
    assert len([column for column in columns if not column.more]) <= 8 < len(columns)


def test_every_agent_has_a_sentence_without_code_or_a_question() -> None:
    """Regression: the page showed a Python dict in place of an optimizer, and nothing on the solvers."""
    agents = [one for problem in ("Booth", "MLPRegression") for one in default_agents(problem)]
    policies = [policy for problem in ("Booth", "MLPRegression") for policy in shipped_for(problem)]
    found = sentences([*agents, *policies])
    assert set(found) >= {"L-BFGS", "Newton-CG", "Adam", "line search", "specialist", "generalist", "random element"}
    for name, text in found.items():
        assert text.endswith("."), (name, text)
        assert not set(text) & set("{}`?"), (name, text)
        assert len(text.split()) > 5, (name, text)
    solvers = [found[one.title] for one in SOLVERS.values()]
    assert len(set(solvers)) == len(solvers)
    assert found["specialist"] != found["generalist"]


def test_pictures_without_room_are_named(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = episodes(problems=("Booth",), seeds=1, instances=2)
    shot = {"title": "A", "caption": "B", "data": (written / "gained.webp").read_bytes()}
    monkeypatch.setattr(pages, "ROOM", 40_000)
    made = [{**shot, "file": f"{number}.webp"} for number in range(5)]
    table, settings = summary.summary_table(results, resamples=50), {"versions": {}}
    page = Page(pages.render_page(results, table, curves_of(results), None, made, settings, {}))
    assert 0 < len(page.images) < 5
    assert (
        "in the folder of this page: " + ", ".join(f"{number}.webp" for number in range(len(page.images), 5))
        in page.text
    )


def test_a_missing_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"teleport-env\[compare\]"):
        report.read_results("results.csv")
