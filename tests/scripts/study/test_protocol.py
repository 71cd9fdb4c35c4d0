"""The full protocol, so small that nothing is learned from it: every stage, the page, and going on after a cut."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study import pieces
from study import protocol as full
from study.baselines import DISTILLED, FIXED, families_of
from study.contestants import MOMENTUM, RATE_ONLY_MOMENTUM, contestants_of, settings_of
from study.pieces import Piece, complete, write_piece
from study.pieces import read as read_piece
from study.playing import play_one
from study.protocol import Protocol, further_policies, gather, plays_on
from study.results_page import write_results
from teleport_env.agents.comparison.report import read_results
from teleport_env.agents.comparison.targets import area
from teleport_env.agents.known_score import SCORE
from teleport_env.agents.learning.recipes import MOMENTUM as MOMENTUM_RECIPE
from teleport_env.agents.learning.warm_start import rule_content, rule_from
from teleport_env.agents.policies.learned import PRETRAINED, LearnedSchedule
from teleport_env.agents.policies.learned_moves import policy_of
from teleport_env.agents.tuning.own_menu import fallback_of, plan_of, rule_played
from teleport_env.agents.tuning.plans import Plan
from teleport_env.agents.tuning.search import Found
from teleport_env.agents.tuning.tuning import Family
from teleport_env.envs.features import NAMES
from teleport_env.files import checksum
from teleport_env.searches import search_from, to_dict

TINY: dict[str, Any] = {
    "problems": ("Booth",),
    "split": "validation",
    "instances": 3,
    "train_seeds": 2,
    "train_decisions": 64,
    "plans": 8,
    "rules": 8,
    "oracle": 6,
    "tuning_instances": 1,
    "budget": 10.0,
    "momentum": False,
    "training": {"runs": 4, "rollout": 8, "segment": 1, "plans": 2, "validation_instances": 2},
    "jobs": 1,
}

TUNED = Found({"rate": 1.0}, 0.0, 1, 1, (), ())


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Protocol, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("full")
    several = (PRETRAINED,)
    protocol = Protocol(**TINY, policies=several, out=folder / "out", page=folder / "docs" / "results.md")
    return protocol, write_results(gather(protocol, quiet))


def test_everyone_plays_the_same_episodes(made: tuple[Protocol, dict[str, Any]]) -> None:
    protocol, _ = made
    results = read_results(protocol.out / "results.csv")
    played = {
        agent: set(zip(rows["seed"], rows["instance_id"], strict=True)) for agent, rows in results.groupby("agent")
    }
    assert len(played["never"]) == 6
    assert all(pairs == played["never"] for pairs in played.values())
    assert set(results["split"]) == {"validation"}
    assert (results["cost"] <= 10 + 1e-6).all()
    expected = {
        "learned",
        "learned rate only",
        "learned rate, line search",
        "learned teleports, no rates",
        "fixed schedule",
        "fixed schedule, teleports taken out",
        "best plan of learned",
        "best plan of learned rate only",
        "rate schedule",
        "rate line search",
        "best of N random",
        "L-BFGS",
        "momentum with line search",
    }
    assert expected <= set(played)
    without = results[results["agent"].str.contains("taken out|masked|rate only|line search|schedule, tele")]
    assert (without["teleports"] == 0).all()


def test_the_page_says_what_the_episodes_say(made: tuple[Protocol, dict[str, Any]]) -> None:
    protocol, found = made
    assert protocol.page is not None
    page = protocol.page.read_text(encoding="utf-8")
    results = read_results(protocol.out / "results.csv")
    means = results.groupby("agent")["gained"].mean()
    baselines = results[results["kind"].isin(["fixed", "adaptive", "control"])].groupby("agent")["gained"].mean()
    versus = means["learned"] - baselines.max()
    assert f"| Booth | {baselines.max():.2f} ({baselines.idxmax()}) | {means['learned']:.2f} | {versus:+.2f} [" in page
    assert "which is not held out" in page
    assert len(page.splitlines()) <= 150
    verdict = next(
        one for one in found["findings"] if one.target.startswith("Nowhere significantly worse than the best")
    )
    others = means["learned"] - baselines.drop("edge of stability").max()
    assert f"Booth {others:+.2f}" in verdict.detail
    assert f"| {verdict.target} | {verdict.holds} |" in page
    settings = json.loads((protocol.out / "settings.json").read_text())
    assert settings["training_decisions"] == 64 * 2 * 4
    assert f"{settings['tuning_runs']:,} episodes of tuning" in page
    named = set(re.findall(r"\]\(((?:images|results-data)/[^)]*)\)", page))
    assert {"images/results/decisions-booth.png", "images/results/actions-booth.png"} <= named
    assert {"images/results/scores.png", "results-data/results/agents.csv", "results-data/results/tuned.csv"} <= named
    assert all((protocol.page.parent / name).exists() for name in named)


def test_the_score_of_record_is_that_of_the_targets(made: tuple[Protocol, dict[str, Any]]) -> None:
    """The main table against the file of all targets, which anyone may score again."""
    protocol, found = made
    assert protocol.page is not None
    costs = pd.read_csv(protocol.out / "targets.csv.gz")
    ladder = [name for name in costs.columns if name.replace(".", "").isdigit()]
    scores = {
        agent: np.mean([area(row[~np.isnan(row)], 10.0) for row in rows[ladder].to_numpy()])
        for agent, rows in costs.groupby("agent")
    }
    table = found["summary"].set_index("agent")
    baselines = table.index[table["kind"].isin(["fixed", "adaptive", "control"])]
    best = max(baselines, key=scores.__getitem__)
    page = protocol.page.read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| Booth |") and "**" in line)
    assert f"| {scores[best]:.3f} ({best}) | **{scores['learned']:.3f}** [" in row
    assert f"| {scores['learned'] - scores[best]:+.3f} [".replace("+0.000", "0.000") in row
    assert table.loc["learned", "score"] == pytest.approx(scores["learned"], abs=1e-5)
    details = pd.read_csv(protocol.page.parent / "results-data/results/agents.csv").set_index("agent")
    assert details.loc["learned", "score"] == pytest.approx(scores["learned"], abs=1e-5)
    assert details.loc[best, "time_score"] <= 1.0


def test_what_is_done_is_not_done_again_and_what_is_lost_comes_back(
    made: tuple[Protocol, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, found = made
    done: list[str] = []
    inner = pieces._named

    def spy(path: str, work: Any, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        done.append(path)
        return inner(path, work, arguments)

    monkeypatch.setattr(pieces, "_named", spy)
    lost = ("Booth/tuned/stall.json", "Booth/played/fixed-schedule.json", "Booth/trained/learned-1.json")
    for path in lost:
        (protocol.out / path).unlink()
    again = gather(protocol, quiet).rows
    assert sorted(done) == sorted(lost)
    before = found["results"].to_dict("records")
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in before]


def test_a_policy_for_several_problems_is_measured_by_its_own_target(made: tuple[Protocol, dict[str, Any]]) -> None:
    protocol, found = made
    (name,) = further_policies(protocol)
    assert (found["results"]["agent"] == name).sum() == 6
    verdict = next(one for one in found["findings"] if one.target.startswith(f"One policy ({name})"))
    assert "Booth" in verdict.detail
    assert verdict.holds in ("no", "not measured")  # one problem of seven


def test_policies_of_one_name_go_by_their_files_names(tmp_path: Path) -> None:
    layer = (np.zeros((1, len(NAMES)), dtype=np.float32), np.zeros(1, dtype=np.float32))
    policy = LearnedSchedule(features=NAMES, layers=(layer,), problems=("Booth",), name="mixed")
    paths = tuple(policy.save(tmp_path / name) for name in ("a.json", "b.json"))
    assert set(further_policies(Protocol(policies=paths, out=tmp_path))) == {"a", "b"}
    assert set(further_policies(Protocol(policies=paths[:1], out=tmp_path))) == {"mixed"}
    learned = dataclasses.replace(policy, name="learned").save(tmp_path / "c.json")
    assert set(further_policies(Protocol(policies=(learned,), out=tmp_path))) == {"c"}
    assert plays_on(policy, "Booth")
    assert not plays_on(policy, "Quadratic")  # its menu means nothing there
    (tmp_path / "d").mkdir()
    twin = policy.save(tmp_path / "d" / "a.json")
    with pytest.raises(ValueError, match="and lie in the file of"):
        further_policies(Protocol(policies=(paths[0], twin), out=tmp_path))


def test_a_folder_of_other_settings_is_refused(made: tuple[Protocol, dict[str, Any]]) -> None:
    protocol, _ = made
    with pytest.raises(ValueError, match=r"other settings \(count\); give another folder"):
        gather(dataclasses.replace(protocol, plans=9), quiet)


def test_a_setting_that_did_not_exist_yet_was_none(tmp_path: Path) -> None:
    """Regression: the piece was refused, and the message named no difference."""
    write_piece(tmp_path / "a.json", {"count": 2}, "result")
    assert read_piece(tmp_path / "a.json", {"count": 2, "reward": None}) == "result"
    with pytest.raises(ValueError, match=r"other settings \(reward\)"):
        read_piece(tmp_path / "a.json", {"count": 2, "reward": "score"})


def test_a_tuned_schedule_belongs_to_its_menu(
    made: tuple[Protocol, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a configuration names its search by number, and was played with whatever menu a later version had."""
    before, _ = made
    monkeypatch.setattr(full, "menu_of", lambda problem: [])
    with pytest.raises(ValueError, match=r"other settings \(menu\)"):
        gather(before, quiet)


def test_settings_are_checked_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'Both'"):
        Protocol(problems=("Both",), out=tmp_path)
    with pytest.raises(ValueError, match="instances must be an integer of at least 2"):
        Protocol(instances=1, out=tmp_path)


def test_everything_is_tuned_and_trained_by_the_reward_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before there was a choice of the reward goes on counting."""
    asked = {}
    monkeypatch.setattr(full, "tune", lambda problem, family, **rest: asked.setdefault(rest.get("reward"), TUNED))
    for reward in (None, "score"):
        protocol = Protocol(**TINY, trained=("learned", "learned rate only"), reward=reward)
        tuning = full._tuning_piece(protocol, "x.json", "Booth", "never")
        assert ("reward" in tuning.settings) == bool(reward)
        assert tuning.work(*tuning.arguments)["config"] == {"rate": 1.0}
        chosen = protocol.contestants("Booth")
        assert [one.name for one in chosen] == ["learned", "learned rate only"]
        for one in chosen:
            assert full._training_piece(protocol, "x.json", "Booth", one, 0).settings["reward"] == reward
    assert [*asked] == [None, "score"]


def as_found(config: Mapping[str, Any], gained: float) -> dict[str, Any]:
    return dataclasses.asdict(Found(dict(config), gained, 1, 1, (), ()))


def drawn(family: Family, generator: np.random.Generator) -> dict[str, Any]:
    chosen = {name: axis.values[generator.integers(len(axis.values))] for name, axis in family.axes.items()}
    return dict(family.canonical(chosen))


@pytest.mark.parametrize("problem", [name for name, one in SCORE.items() if one.get("rule")])
def test_a_training_by_the_score_begins_from_its_strongest_rival(problem: str) -> None:
    families = families_of(problem)
    generator = np.random.default_rng(7)
    protocol = Protocol(problems=(problem,), trained=("learned", "learned rate only"), reward="score")
    for name in (DISTILLED, DISTILLED, FIXED, "accept if better", "rate schedule"):
        family, config = families[name], drawn(families[name], generator)
        # those that are stronger cannot be said: an optimizer of its own, a reference, times by chance
        others = dict.fromkeys(("rate line search", "momentum", "random timing"), 2.0) | {"never": 0.0, "stall": 0.5}
        tuned = {other: as_found(drawn(families[other], generator), gained) for other, gained in others.items()}
        learned, control = protocol.contestants(problem, {**tuned, name: as_found(config, 1.0)})
        training = learned.training(0, Path("x"), {"plans": 1})
        rival, begins = family.build(config), rule_from(training)
        assert begins is not None
        played = rule_played(rule_content(training) or {})
        assert dataclasses.asdict(played) == {**dataclasses.asdict(rival), "environment": played.environment}
        same = {name: played.environment[name] for name in rival.environment if name != "searches"}
        assert same == {name: value for name, value in rival.environment.items() if name != "searches"}
        assert [*map(to_dict, map(search_from, played.environment["searches"]))] == rival.environment["searches"]
        assert not control.training(0, Path("x"), {"plans": 1}).teaching.rule


def test_what_was_trained_before_a_setting_existed_goes_on_counting() -> None:
    one = contestants_of("DigitsFull", reward="score")[0]
    usual = settings_of(one.training(0, Path("x"), {}))
    assert not {"rule", "smoothing", "divergence_cost"} & usual.keys()
    changed = settings_of(one.training(0, Path("x"), {"smoothing": 0.0, "divergence_cost": 1.0}))
    assert changed == {**usual, "smoothing": 0.0, "divergence_cost": 1.0}


def test_a_policy_plays_without_its_teleports_too(tmp_path: Path) -> None:
    """Where no fallback plays in its place, as in the tiny trainings above."""
    text = LearnedSchedule.pretrained("Booth").save(tmp_path / "p.json").read_text(encoding="utf-8")
    settings = {**Protocol(**TINY).played("Booth"), "seeds": 1, "name": "learned", "kind": "learned", "bare": True}
    entries = full._play_policies(settings, [text])
    names = [{row["agent"] for row in entry["rows"]} for entry in entries]
    assert names == [{"learned"}, {"learned, teleports taken out"}, {"learned, teleports masked"}]
    assert [any(row["teleports"] for row in entry["rows"]) for entry in entries] == [True, False, False]


def test_a_seed_whose_teleports_did_not_pay_plays_without_beside_one_that_keeps_them(tmp_path: Path) -> None:
    """Both have their controls, and nothing is lost by taking out what is not there."""
    own = LearnedSchedule.pretrained("Booth")
    content = {"masked": True, "what": "the policy with its teleports masked", "gained": 1.0, "policy_gained": 0.0}
    bare = dataclasses.replace(own, provenance={**own.provenance, "fallback": content})
    settings = {**Protocol(**TINY).played("Booth"), "seeds": 2, "name": "learned", "kind": "learned", "bare": True}
    texts = [one.save(tmp_path / "p.json").read_text(encoding="utf-8") for one in (own, bare)]
    entries = full._play_policies({**settings, "fallbacks": 1}, texts)
    by_agent = {
        entry["rows"][0]["agent"]: [[row for row in entry["rows"] if row["seed"] == seed] for seed in (0, 1)]
        for entry in entries
    }
    assert [*by_agent] == ["learned", "learned, teleports taken out", "learned, teleports masked"]
    keeps, without = by_agent.pop("learned")
    assert all(row["teleports"] for row in keeps)
    assert not any(row["teleports"] for row in without)
    assert {row["kind"] for row in keeps + without} == {"learned"}
    for first, second in by_agent.values():
        assert [row["gained"] for row in first] != [row["gained"] for row in keeps]
        assert [row["gained"] for row in second] == [row["gained"] for row in without]
    trained = {("Booth", "learned"): [{"policy": text} for text in texts]}
    evidence = full.Evidence(Protocol(**TINY), trained=trained)
    counts = full.fallbacks_of(evidence, "Booth", "learned"), full.masked_of(evidence, "Booth", "learned")
    assert counts == (0, 1)


def beside_a_fallback(content: dict[str, Any], folder: Path) -> tuple[dict[str, list[list[dict[str, Any]]]], list[Any]]:
    """Episodes by agent and seed where the first seed's policy plays, and a fallback in place of the second's."""
    own = LearnedSchedule.pretrained("Booth")
    worse = dataclasses.replace(own, provenance={**own.provenance, "fallback": content})
    settings = {**Protocol(**TINY).played("Booth"), "seeds": 2, "name": "learned", "kind": "learned", "bare": True}
    texts = [one.save(folder / "p.json").read_text(encoding="utf-8") for one in (own, worse)]
    entries = full._play_policies({**settings, "fallbacks": 1}, texts)
    by_agent = {
        entry["rows"][0]["agent"]: [[row for row in entry["rows"] if row["seed"] == seed] for seed in (0, 1)]
        for entry in entries
    }
    fallback = fallback_of(worse)
    assert fallback is not None
    return by_agent, play_one(settings, fallback, 1).rows


def test_a_plan_that_is_better_than_the_policy_plays_in_its_place(tmp_path: Path) -> None:
    """Regression: where a plan played in place of one seed, no seed had the controls without teleports."""
    plan = dataclasses.asdict(Plan(0.05, every=3, which=0))
    by_agent, alone = beside_a_fallback({"plan": plan}, tmp_path)
    assert [*by_agent] == ["learned", "learned, teleports taken out", "learned, teleports masked"]
    policy, instead = by_agent["learned"]
    assert [row["gained"] for row in instead] == [row["gained"] for row in alone]
    assert [row["gained"] for row in instead] != [row["gained"] for row in policy]
    assert {(row["agent"], row["kind"]) for row in policy + instead} == {("learned", "learned")}
    assert all(row["teleports"] for row in policy + instead)
    own = LearnedSchedule.pretrained("Booth")
    settings = {**Protocol(**TINY).played("Booth"), "seeds": 2}
    still = play_one(settings, Plan(0.05).agent(own.environment), 1).rows
    for name in ("learned, teleports taken out", "learned, teleports masked"):
        first, second = by_agent[name]
        assert not any(row["teleports"] for row in first + second)
        assert {row["kind"] for row in first + second} == {"control"}
        assert [row["gained"] for row in first] != [row["gained"] for row in policy]
        assert [row["gained"] for row in second] == [row["gained"] for row in still]  # its rate is constant


def test_a_rule_that_plays_for_a_policy_is_played_without_its_teleports_too(tmp_path: Path) -> None:
    """It decides again, as where it cannot pay: not the decisions that it made on the run with teleports."""
    environment = {**LearnedSchedule.pretrained("Booth").environment, "learning_rate": 0.03}
    del environment["rate_factors"]
    rule = {"rule": "edge_of_stability", "settings": {"cooldown": 2, "up": 1.6}, "environment": environment}
    by_agent, alone = beside_a_fallback({"rule": rule}, tmp_path)
    assert [row["gained"] for row in by_agent["learned"][1]] == [row["gained"] for row in alone]
    assert all(row["teleports"] for row in alone)
    replayed, decided = (by_agent[f"learned, teleports {how}"][1] for how in ("taken out", "masked"))
    assert not any(row["teleports"] for row in replayed + decided)
    settings = {**Protocol(**TINY).played("Booth"), "seeds": 2}
    # no teleport leaves so many steps
    guarded = rule_played({**rule, "settings": {**rule["settings"], "least_steps": 10**6}})
    assert [row["gained"] for row in decided] == [row["gained"] for row in play_one(settings, guarded, 1).rows]
    assert [row["gained"] for row in decided] != [row["gained"] for row in replayed]


def test_the_best_plan_of_each_training_is_a_baseline(made: tuple[Protocol, dict[str, Any]]) -> None:
    protocol, found = made
    results = found["results"].set_index("agent")
    assert set(results.loc["best plan of learned", "kind"]) == {"fixed"}
    assert set(results.loc["best plan of learned rate only", "kind"]) == {"control"}
    assert not results.loc["best plan of learned rate only", "teleports"].any()
    for seed in range(2):
        policy = policy_of(read_piece(protocol.out / f"Booth/trained/learned-{seed}.json")["policy"])
        plan = plan_of(policy)
        assert plan is not None
        assert plan.name == "best plan of learned"
        rows = play_one(protocol.played("Booth"), plan, seed).rows
        mine = results.loc["best plan of learned"].query(f"seed == {seed}")
        assert mine["gained"].tolist() == [row["gained"] for row in rows]


def test_who_is_trained_and_by_which_reward_is_checked() -> None:
    with pytest.raises(ValueError, match="trained on Booth"):
        Protocol(**TINY, trained=("lerned",)).contestants("Booth")
    with pytest.raises(ValueError, match="reward"):
        Protocol(**TINY, reward="scores")


def test_controls_are_trained_with_the_same_effort() -> None:
    """A control differs from the policy in what it may do, never in how long it learns."""
    for problem in ("Ellipse", "MatrixFactorization", "MLPRegression"):
        found = {one.name: one.training(3, Path("x"), {}) for one in contestants_of(problem)}
        policy = found["learned"]
        whitened = found.pop("learned, whitening", policy)  # of a menu of its own, and no control
        assert whitened.schedule.decisions <= policy.schedule.decisions
        for name, one in found.items():
            like = found["learned, momentum"] if name.endswith("momentum") else policy
            assert (one.schedule.decisions, one.teaching.plans, one.seed) == (
                like.schedule.decisions,
                like.teaching.plans,
                3,
            )
        assert found["learned rate only"].task.searches == ()
        assert found["learned rate, line search"].task.optimizer == "gd_line_search"
        assert found["learned rate only"].control
        assert not policy.control
        # without rates to choose, the policy itself is the control that has none
        assert ("learned teleports, no rates" in found) == (len(policy.task.rate_factors) > 1)


def double(number: int) -> float:
    return 2.0 * number if number < 5 else np.inf


def test_pieces_survive_a_cut_in_the_middle(tmp_path: Path) -> None:
    listed = [Piece(f"a/{n}.json", {"n": n}, double, (n,)) for n in (1, 2, 7)]
    assert complete(listed[:2], tmp_path, jobs=1, report=quiet) == {"a/1.json": 2.0, "a/2.json": 4.0}
    assert complete(listed, tmp_path, jobs=1, report=quiet) == {"a/1.json": 2.0, "a/2.json": 4.0, "a/7.json": np.inf}
    (tmp_path / "a" / "1.json").write_text("half a fi")
    with pytest.raises(ValueError, match="not a finished piece"):
        complete(listed, tmp_path, jobs=1, report=quiet)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no settings": lambda content: content.update(settings=None),
    "no result": lambda content: content.update(result={}),
    "another figure": lambda content: content.update(result=2.5),
    "other settings": lambda content: content.update(settings={"n": 2}),
    "no checksum": lambda content: content.pop("sha256"),
    "more": lambda content: content.update(more=1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_piece_is_refused(tmp_path: Path, edit: str) -> None:
    """Regression: pieces without settings or with an empty or forged result were taken as they were."""
    piece = Piece("a/1.json", {"n": 1}, double, (1,))
    complete([piece], tmp_path, jobs=1, report=quiet)
    path = tmp_path / piece.path
    content = json.loads(path.read_text())
    EDITS[edit](content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"1.json is not a finished piece of a comparison \(.*\); remove it"):
        complete([piece], tmp_path, jobs=1, report=quiet)


def test_a_piece_without_settings_is_refused_whatever_its_checksum(tmp_path: Path) -> None:
    content: dict[str, Any] = {"settings": None, "result": {}}
    (tmp_path / "1.json").write_text(json.dumps({**content, "sha256": checksum(content)}))
    with pytest.raises(ValueError, match="is not a finished piece"):
        complete([Piece("1.json", {}, double, (1,))], tmp_path, jobs=1, report=quiet)


def test_a_piece_is_read_as_it_was_written_whatever_its_keys(tmp_path: Path) -> None:
    result = {10: [1.5, np.inf], 9: (None, "ä"), "x": {"y": []}}
    write_piece(tmp_path / "1.json", {"n": 1}, result)
    assert read_piece(tmp_path / "1.json", {"n": 1}) == {"10": [1.5, np.inf], "9": [None, "ä"], "x": {"y": []}}


def test_pieces_of_one_file_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one file, 1.json"):
        complete([Piece("1.json", {"n": n}, double, (n,)) for n in (1, 2)], tmp_path, jobs=1, report=quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("mine v1", "mine-v1"), "'mine-v1' and lie in the file of 'mine v1'"),
        (("mine", "Mine"), "'Mine' and lie in the file of 'mine'"),
        ((FIXED.replace(" ", "-"),), f"and lie in the file of '{FIXED}'"),
        (("l bfgs",), "and lie in the file of 'L-BFGS'"),
    ],
)
def test_policies_whose_names_make_one_file_are_refused_before_the_work(
    tmp_path: Path, names: tuple[str, ...], reason: str
) -> None:
    """Regression: after everything was played, one of them was found to have been made with other settings."""
    policy, paths = LearnedSchedule.pretrained(), []
    for number, name in enumerate(names):
        paths.append(dataclasses.replace(policy, name=name).save(tmp_path / f"p{number}.json"))
    with pytest.raises(ValueError, match=reason):
        further_policies(Protocol(problems=("Booth",), policies=tuple(paths), out=tmp_path / "out"))


def test_budgets_may_differ_by_problem() -> None:
    problems = ("Booth", "Rosenbrock", "Quadratic")
    found = Protocol(problems=problems, budget={"Rosenbrock": 20.0, "Booth": 12.0})
    assert [found.budget_of(problem) for problem in problems] == [12.0, 20.0, None]
    assert found.played("Booth")["budget"] == found.changes("Booth")["budget"] == 12.0
    assert "budget" not in found.changes("Quadratic")
    assert {Protocol(problems=problems, budget=7.0).budget_of(problem) for problem in problems} == {7.0}
    with pytest.raises(ValueError, match="budget names Boot, but the problems are Booth, Rosenbrock, Quadratic"):
        Protocol(problems=problems, budget={"Boot": 3.0})


def test_searches_may_differ_by_problem() -> None:
    found = Protocol(problems=("Booth", "Rosenbrock"), starts={"Booth": 4})
    assert [found.starts_of(problem) for problem in found.problems] == [4, 1]
    assert Protocol(problems=("Booth",), starts=3).starts_of("Booth") == 3
    with pytest.raises(ValueError, match="starts names Boot, but the problems are Booth"):
        Protocol(problems=("Booth",), starts={"Boot": 3})
    for wrong in (0, {"Booth": 0}, {"Booth": 2.5}):
        with pytest.raises(ValueError, match="starts"):
            Protocol(problems=("Booth",), starts=wrong)


def test_at_a_short_budget_every_step_is_a_decision() -> None:
    for budget, stride in ((None, 4), (80.0, 4), (41.0, 4), (40.0, 1), (20.0, 1)):
        found = Protocol(problems=("Rosenbrock",), budget=budget).contestants("Rosenbrock")
        trained = [one.training(0, Path("x"), {}) for one in found]
        assert {one.task.steps_per_action for one in trained} == {stride}


def test_momentum_is_trained_by_its_own_recipe(tmp_path: Path) -> None:
    """Regression: momentum was trained by plain descent's settings, which come to plain momentum."""
    found = {one.name: one for one in contestants_of("MLPRegression")}
    for name in (MOMENTUM, RATE_ONLY_MOMENTUM):
        training = found[name].training(0, tmp_path, {})
        assert training.task.optimizer == "momentum"
        assert {key: training.flat()[key] for key in MOMENTUM_RECIPE} == MOMENTUM_RECIPE
        assert "momentum of 0.9" in found[name].about
    assert found[RATE_ONLY_MOMENTUM].training(0, tmp_path, {}).task.searches == ()
    found = {one.name: one for one in contestants_of("MatrixFactorization")}
    for name in (MOMENTUM, RATE_ONLY_MOMENTUM):
        assert found[name].training(0, tmp_path, {}).task.optimizer == {"optimizer": "momentum", "momentum": 0.5}
        assert "momentum of 0.5" in found[name].about
    assert found[RATE_ONLY_MOMENTUM].training(0, tmp_path, {}).task.searches == ()
