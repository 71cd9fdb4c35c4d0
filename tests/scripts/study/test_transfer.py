"""Transfers, so small that nothing is learned: who sees what, units that carry over, going on after a cut, the page."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import study.transfer
from study import pieces
from study.pieces import write_piece
from study.shared import digest
from study.transfer import FAMILIES, RATES, SIZES, TOLERANCES, Carried, Gathering, Transfer, gather_transfer
from study.transfer_page import Results, verdicts_of, write_transfer
from study.transfer_schedules import (
    axes_of,
    ground,
    plain_rate,
    plan_on,
    schedule_on,
    tune_schedule,
)
from study.transfer_work import (
    CARRIED,
    CARRIED_STEPS,
    LEFT_OUT,
    LINES,
    OWN,
    OWN_FIXED,
    PLAIN,
    RULE,
    STEPS,
    can_teach,
    kept_rule,
    mixture,
    resized,
)
from teleport_env.agents import agent_for
from teleport_env.agents.learning import course
from teleport_env.agents.play import draw_instances, play
from teleport_env.agents.policies.learned import SHIPPED, LearnedSchedule
from teleport_env.agents.policies.learned_moves import policy_of
from teleport_env.agents.schedules import Never
from teleport_env.agents.tuning.own_menu import fallback_of
from teleport_env.agents.tuning.tuning import TUNING_SEED
from teleport_env.envs.settings import Settings
from teleport_env.envs.vector import TeleportVectorEnv

THREE = ("Booth", "Rosenbrock", "MatrixFactorization")

TINY: dict[str, Any] = {
    "problems": THREE,
    "split": "validation",
    "instances": 3,
    "train_decisions": 32,
    "plans": 8,
    "tuning_instances": 1,
    "budget": 24.0,
    "longer": (2.0,),
    "factors": (0.5, 1.0),
    "shapes": {"MatrixFactorization": {"rank 2": {"rank": 2}}},
    "rules": 8,
    "tolerances": (1.0, 1e-6),
    "training": {"runs": 4, "rollout": 8, "segment": 1, "plans": 1, "validation_instances": 2, "temperatures": (0.0,)},
    "jobs": 1,
}

MIDDLING = {
    "multiple": 0.5,
    "up": 2.0,
    "warmup": 0.1,
    "down": 0.5,
    "decay_every": 0.25,
    "coordinates": "look",
    "networks": "flatten",
    "first": 3,
    "every": 0.2,
}
"""A schedule that uses everything."""

Seen = dict[str, set[tuple[str, str]]]
"""By piece of work: problems and splits of the environments it made."""


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def short_lessons() -> Iterator[None]:
    """Cloning shows hundreds of episodes, which takes longer than everything else here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "LESSON", 8)
        yield


@pytest.fixture(scope="module")
def made(short_lessons: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Carried, Seen]:
    folder = tmp_path_factory.mktemp("transfer")
    seen: Seen = {}
    now = ["elsewhere"]
    inner, init = pieces._named, TeleportVectorEnv.__init__

    def named(path: str, work: Any, arguments: tuple[Any, ...]) -> Any:
        now[0] = path
        try:
            return inner(path, work, arguments)
        finally:
            now[0] = "elsewhere"

    def watched(self: TeleportVectorEnv, *args: Any, **settings: Any) -> None:
        init(self, *args, **settings)
        seen.setdefault(now[0], set()).add((self.settings.problem.name, self.settings.split))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_named", named)
        patch.setattr(TeleportVectorEnv, "__init__", watched)
        transfer = Transfer(**TINY, cloned=True, out=folder / "out", page=folder / "docs" / "transfer.md")
        found = gather_transfer(transfer, quiet)
    return found, seen


@pytest.mark.parametrize("left_out", THREE)
def test_what_is_left_out_is_seen_by_neither_policy_nor_schedule(made: tuple[Carried, Seen], left_out: str) -> None:
    found, seen = made
    others = {name for name in THREE if name != left_out}
    tuning, training = (
        seen[f"families/{kind}/without-{left_out}{seed}.json"] for kind, seed in (("tuned", ""), ("trained", "-0"))
    )
    assert tuning == {(name, "train") for name in others}
    assert {name for name, _ in training} == others
    assert {split for _, split in training} == {"train", "validation"}
    (policy,) = (policy_of(one["policy"]) for one in found.trained[LEFT_OUT, left_out])
    assert set(policy.problems) == others


def test_rates_and_schedules_are_tuned_on_the_train_split_alone(made: tuple[Carried, Seen]) -> None:
    _, seen = made
    tunings = [path for path in seen if path.startswith(("plain/", "tuned/", "families/tuned/"))]
    rules = [name for name in THREE if kept_rule(name, TINY["budget"]) is None]  # Booth's budget is its default
    assert {path for path in tunings if path.endswith("-rule.json")} == {f"tuned/{name}-rule.json" for name in rules}
    assert len(tunings) == 4 + 6 + 3 + len(rules)
    assert {split for path in tunings for _, split in seen[path]} == {"train"}
    plays = [path for path in seen if "/played/" in path]
    # prices of searches are asked of an environment that plays nothing
    assert all("validation" in {split for _, split in seen[path]} for path in plays)
    assert not any(split == "test" for ones in seen.values() for _, split in ones)


def test_everyone_plays_the_same_episodes(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    ids = {name: set(draw_instances(name, "validation", 3, 1).tolist()) for name in THREE}
    assert {key[0] for key in found.played} == {"families", "budgets", "rates", "sizes", "tolerances"}
    for (_, problem, _, _), rows in found.played.items():
        assert {row["instance_id"] for row in rows} == ids[problem]
        assert all(np.isfinite(row["gained"]) for row in rows)
    left_out = found.played[FAMILIES, "Booth", "", LEFT_OUT]
    assert left_out != found.played[FAMILIES, "Booth", "", OWN]


def test_at_its_own_rate_the_policy_is_what_it_was(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    for problem in THREE:
        for agent in (OWN, OWN_FIXED):
            here = found.played[FAMILIES, problem, "", agent]
            assert found.played[RATES, problem, "1", agent] == here
            assert found.played[RATES, problem, "0.5", agent] != here


def test_what_is_done_is_not_done_again_and_what_is_lost_comes_back(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    transfer = found.transfer
    lost = ["plain/Booth.json", "families/tuned/without-Booth.json", "families/trained/without-Booth-0.json"]
    lost += [f"families/played/Booth-{name.replace(' ', '-')}.json" for name in (LEFT_OUT, CARRIED)]
    for path in lost:
        (transfer.out / path).unlink()
    done: list[str] = []
    inner = pieces._named

    def named(path: str, work: Any, arguments: tuple[Any, ...]) -> Any:
        done.append(path)
        return inner(path, work, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_named", named)
        again = gather_transfer(transfer, quiet)
    assert sorted(done) == sorted(lost)
    assert again.played == found.played
    assert again.tuned == found.tuned
    with pytest.raises(ValueError, match=r"other settings \(instances\)"):
        gather_transfer(dataclasses.replace(transfer, instances=2), quiet)


def test_policies_of_a_full_protocol_are_not_trained_again(made: tuple[Carried, Seen], tmp_path: Path) -> None:
    found, _ = made
    texts = {problem: found.trained[OWN, problem][0]["policy"] for problem in THREE}
    teachers = tmp_path / "full"
    settings = {**TINY, "questions": (RATES,), "teachers": teachers, "teacher_seed": 2, "out": tmp_path / "out"}
    with pytest.raises(FileNotFoundError, match=r"learned-2\.json.*leave --teachers out"):
        gather_transfer(Transfer(**settings), quiet)
    for problem, text in texts.items():
        path = teachers / problem / "trained" / "learned-2.json"
        path.parent.mkdir(parents=True)
        write_piece(path, {"budget": 24.0}, {"policy": text})
    with pytest.raises(
        ValueError, match=r"trained on a budget of 24, and this comparison has the problem's own budget"
    ):
        gather_transfer(Transfer(**{**settings, "budget": None}), quiet)
    again = gather_transfer(Transfer(**settings), quiet)
    assert not (tmp_path / "out" / "single").exists()
    for key, rows in again.played.items():
        assert rows == found.played[key]


def test_a_policy_with_another_menu_cannot_teach(made: tuple[Carried, Seen], tmp_path: Path) -> None:
    found, _ = made
    # so small a budget cannot pay all searches of their recipes, which leaves slots empty
    assert found.retaught == ["Rosenbrock", "MatrixFactorization"]
    assert {problem for kind, problem in found.trained if kind == "teacher"} == {*found.retaught}
    known = found.transfer.others("Rosenbrock")
    training = mixture(known, found.transfer.changes(), 0, tmp_path, {}, dict.fromkeys(known, 0.1)).alone("Booth")
    text = found.trained[OWN, "Booth"][0]["policy"]
    assert can_teach(training, text)
    policy = policy_of(text)
    menu = policy.environment["searches"]
    other = dataclasses.replace(policy, environment={**policy.environment, "searches": menu[::-1]})
    assert not can_teach(training, other.save(tmp_path / "other.json").read_text(encoding="utf-8"))
    assert not can_teach(training, found.trained[OWN, "Rosenbrock"][0]["policy"])


def test_policies_play_other_sizes_at_their_prices(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    policy = policy_of(found.trained[OWN, "MatrixFactorization"][0]["policy"])
    assert isinstance(policy, LearnedSchedule)
    same, larger = (resized(policy, "MatrixFactorization", {"rank": rank}) for rank in (3, 5))
    assert isinstance(same, LearnedSchedule)
    assert isinstance(larger, LearnedSchedule)
    assert same.prices == policy.prices
    assert larger.prices != policy.prices
    rates = {name: found.rates["MatrixFactorization", name]["rate"] for name in ("", "rank 2")}
    assert [key[2:] for key in found.played if key[0] == SIZES][:2] == [("rank 2", OWN), ("rank 2", OWN_FIXED)]
    content = json.loads(
        (found.transfer.out / "sizes/played/MatrixFactorization-rank-2-learned-on-it.json").read_text()
    )
    (agent,) = content["settings"]["agents"]
    expected = policy.environment["learning_rate"] * rates["rank 2"] / rates[""]
    assert agent["environment"]["learning_rate"] == pytest.approx(expected)


def test_the_page_says_what_the_episodes_say(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    written = write_transfer(found)
    page = written["markdown"].read_text(encoding="utf-8")
    folder = written["markdown"].parent
    results = Results(found)
    score = {agent: results.worth.mean("families / Booth / ", agent, "score") for agent in (LEFT_OUT, CARRIED)}
    row = next(line for line in page.splitlines() if line.startswith("| Booth | ") and "**" in line)
    versus = f"{score[LEFT_OUT] - score[CARRIED]:+.3f}".replace("+0.000", "0.000").replace("-0.000", "0.000")
    assert f"| Booth | **{score[LEFT_OUT]:.3f}** [" in row
    assert f"| {versus} [" in row
    assert "which is not held out" in page
    assert len(page.splitlines()) <= 150
    for one in written["findings"]:
        assert f"| {one.target} | {one.holds} |" in page
    names = ("question", "problem", "variant", "agent")
    with (folder / "results-data/transfer/cases.csv").open(encoding="utf-8") as file:
        cases = {tuple(line[name] for name in names): line for line in csv.DictReader(file)}
    assert set(cases) == set(found.played)
    for key, rows in found.played.items():
        assert float(cases[key]["gained"]) == pytest.approx(np.mean([one["gained"] for one in rows]), abs=1e-4)
    assert (folder / "results-data/transfer/effort.csv").exists()
    assert (folder / "images" / "transfer" / "transfer.png").exists()


def test_policies_and_the_rule_play_to_the_tolerance_asked_for(made: tuple[Carried, Seen]) -> None:
    """At a lower tolerance there are more targets, and a loss that was floored before counts in full."""
    found, _ = made
    for agent in (OWN, RULE):
        usual, lower = (found.targets[TOLERANCES, "Booth", variant, agent] for variant in ("1", "1e-06"))
        assert all(len(b["costs"]) - len(a["costs"]) == 30 for a, b in zip(usual, lower, strict=True))
    assert found.played[TOLERANCES, "Booth", "1", OWN] == found.played[RATES, "Booth", "1", OWN]


def test_shipped_policies_are_played_as_they_are(short_lessons: None, tmp_path: Path) -> None:
    """Against the tuned rules that the package keeps: nothing is trained and no schedule is tuned."""
    asked: dict[str, Any] = {"problems": ("Booth",), "split": "validation", "instances": 2, "jobs": 1, "out": tmp_path}
    asked |= {"questions": (TOLERANCES,), "tolerances": (1.0, 1e-6), "tuning_instances": 1, "shipped": True}
    found = gather_transfer(Transfer(**asked), quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "tolerances"}
    ids = draw_instances("Booth", "validation", 2, 1)
    mine = play("Booth", LearnedSchedule.pretrained("Booth").for_problem("Booth"), ids, split="validation")
    assert [row["gained"] for row in found.played[TOLERANCES, "Booth", "1", OWN]] == mine.gained.tolist()
    own = {"generalist": "generalist", "learned on it for the score": "score_specialist"}
    for name, asked_for in own.items():
        lower = {"tolerance": 1e-6 * Settings.build("Booth", split="validation").tolerance}
        played = play("Booth", agent_for("Booth", asked_for), ids, split="validation", settings=lower)
        assert [row["gained"] for row in found.played[TOLERANCES, "Booth", "1e-06", name]] == played.gained.tolist()
    written = write_transfer(found)
    page = written["markdown"].read_text(encoding="utf-8")
    assert "### Generalist\n\n| problem | x 1 | x 1e-06 |" in page
    assert "### Learned on it for the score\n\n| problem | x 1 | x 1e-06 |" in page
    assert any(one.target.startswith("Generalist: at lower tolerances") for one in written["findings"])
    assert "| Booth: at lower tolerances the policy loses no more than 0.5 orders against the best rule |" in page
    with pytest.raises(ValueError, match="the package brings no policy for MNIST; it has"):
        Transfer(**{**asked, "problems": ("Booth", "MNIST")})
    with pytest.raises(ValueError, match="one policy per problem"):
        Transfer(**{**asked, "budget": 12.0})


def test_a_plan_that_is_shipped_in_the_place_of_a_policy_plays() -> None:
    pytest.importorskip("sklearn")
    name = "TensorFactorization"
    gathering = Gathering(Carried(Transfer(problems=(name,), questions=(TOLERANCES,), shipped=True)), quiet)
    gathering.singles[name, 0] = (SHIPPED / f"{name}.json").read_text(encoding="utf-8")
    plan = fallback_of(LearnedSchedule.pretrained(name))
    assert plan is not None
    assert gathering.learned(name) == [plan]
    (faster,) = gathering.learned(name, 2.0)
    assert faster.environment["learning_rate"] == 2.0 * plan.environment["learning_rate"]


def test_all_seeds_are_cloned_from_the_policies_that_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy whose menu is not that of the slots is taught anew, once."""
    transfer = Transfer(problems=THREE, shipped=True, cloned=True, train_seeds=2, out=tmp_path)
    found, asked = Carried(transfer, rates={(name, ""): {"rate": 0.01} for name in THREE}), []

    def done(pieces: Any, title: str) -> dict[str, Any]:
        asked.extend(pieces)
        return {piece.path: {"policy": "taught anew"} for piece in asked}

    gathering = Gathering(found, quiet)
    monkeypatch.setattr(gathering, "complete", done)
    for name in THREE:
        gathering.singles[name, 0] = (SHIPPED / f"{name}.json").read_text(encoding="utf-8")
    gathering.mixtures()
    # the rates of Rosenbrock's are not those that problems share, and the menu of MatrixFactorization's is another
    assert found.retaught == ["Rosenbrock", "MatrixFactorization"]
    by_path = {piece.path: piece for piece in asked}
    taught = [f"families/teachers/{name}-0.json" for name in found.retaught]
    assert [path for path in by_path if "teachers" in path] == taught
    one, other = (by_path[f"families/trained/without-Rosenbrock-{seed}.json"].settings for seed in (0, 1))
    assert (
        one["teachers"]
        == other["teachers"]
        == {
            "Booth": digest(gathering.singles["Booth", 0]),
            "MatrixFactorization": digest("taught anew"),
        }
    )
    assert (one["seed"], other["seed"]) == (0, 1)


def test_policies_that_leave_one_out_are_measured_against_plain_descent(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    moved = {key: [dict(row) for row in rows] for key, rows in found.played.items()}
    for problem, shift in zip(THREE, (-0.5, 0.5, 0.5), strict=True):
        rows = [{**row, "diverged": shift < 0} for row in moved[FAMILIES, problem, "", PLAIN]]
        moved[FAMILIES, problem, "", LEFT_OUT] = [{**row, "gained": row["gained"] + shift} for row in rows]
    held = {one.target: one for one in verdicts_of(Results(dataclasses.replace(found, played=moved)))}
    better = held["Left out, each in turn: better than plain descent on two thirds of the problems"]
    assert better.holds == "yes"
    assert better.detail.endswith("significantly worse on 1 of 3 (Booth)")
    diverges = held["Left out, each in turn: diverges in at most 5 % of the episodes"]
    assert (diverges.holds, diverges.detail) == ("no", "more on 1 of 3: Booth 100.0 %")


def test_a_policy_that_loses_at_lower_tolerances_is_named(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    moved = {key: [dict(row) for row in rows] for key, rows in found.played.items()}
    for problem, lost in (("Booth", 0.4), ("Rosenbrock", 0.6)):
        for variant in ("1", "1e-06"):
            base = moved[TOLERANCES, problem, variant, RULE]
            shift = lost if variant == "1e-06" else 0.0
            moved[TOLERANCES, problem, variant, OWN] = [{**row, "gained": row["gained"] - shift} for row in base]
    held = {one.target.split(":")[0]: one for one in verdicts_of(Results(dataclasses.replace(found, played=moved)))}
    assert held["Booth"].holds == "yes"
    assert held["Rosenbrock"].holds == "no"
    assert held["Rosenbrock"].detail.startswith("at the worst, tolerance x 1e-06: -0.60 [")


def test_what_the_generalist_loses_at_lower_tolerances_is_said_with_the_problem(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    moved = {key: [dict(row) for row in rows] for key, rows in found.played.items()}
    targets = dict(found.targets)
    for problem, lost in (("Booth", 0.4), ("Rosenbrock", 0.6)):
        for variant in ("1", "1e-06"):
            base, shift = moved[TOLERANCES, problem, variant, RULE], lost if variant == "1e-06" else 0.0
            key = TOLERANCES, problem, variant, "generalist"
            moved[key] = [{**row, "gained": row["gained"] - shift} for row in base]
            targets[key] = found.targets[TOLERANCES, problem, variant, RULE]
    both = verdicts_of(Results(dataclasses.replace(found, played=moved, targets=targets)))
    (lost_most, by_targets) = (one for one in both if one.target.startswith("Generalist"))
    assert lost_most.holds == "no"
    assert lost_most.detail.startswith("Booth -0.40 [-0.40, -0.40] (x 1e-06); Rosenbrock -0.60 [")
    assert by_targets.detail == "significantly better in 0 of 4 cases, worse in 0"


def test_verdicts_follow_the_intervals(made: tuple[Carried, Seen]) -> None:
    found, _ = made
    moved = {key: [dict(row) for row in rows] for key, rows in found.played.items()}
    for problem, shift in zip(THREE, (1.0, -1.0, 0.0), strict=True):
        base = moved[FAMILIES, problem, "", CARRIED]
        moved[FAMILIES, problem, "", LEFT_OUT] = [{**row, "gained": row["gained"] + shift} for row in base]
    held = {one.target: one for one in verdicts_of(Results(dataclasses.replace(found, played=moved)))}
    verdict = [one.holds for target, one in held.items() if "left out: not significantly worse than" in target]
    assert verdict == ["yes", "no", "yes"]
    together = next(one for target, one in held.items() if target.startswith("Left out, each in turn"))
    assert together.holds == "no"
    assert together.detail == "significantly better on 1 of 3 (Booth); significantly worse on 1 of 3 (Rosenbrock)"


def test_kin_are_left_out_together(tmp_path: Path) -> None:
    both = ("Rosenbrock", "RosenbrockND")
    transfer = Transfer(problems=(*both, "Booth", "MatrixFactorization", "Quadratic"))
    assert {transfer.others(name) for name in both} == {("Booth", "MatrixFactorization", "Quadratic")}
    assert transfer.others("Booth") == transfer.others("Quadratic") == (*both, "MatrixFactorization")
    with pytest.raises(ValueError, match="Booth; got Rosenbrock, RosenbrockND, Booth"):
        Transfer(problems=(*both, "Booth"))


def test_other_teachers_make_another_training(tmp_path: Path) -> None:
    """Regression: an interrupted training went on with whatever teachers lay in its folder."""
    known = ("Booth", "Quadratic")
    trainings = [mixture(known, {}, 0, tmp_path, dict.fromkeys(known, text), {}) for text in ("one", "one", "another")]
    assert trainings[1].same_course(trainings[0].to_json())
    assert not trainings[2].same_course(trainings[0].to_json())


@pytest.fixture(scope="module")
def stepping(short_lessons: None, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """Without teachers, on steps that search for their rate; schedules are given, since their tuning takes longest."""
    training = {**TINY["training"], "optimizer": "momentum_line_search"}
    settings = {**TINY, "questions": (FAMILIES,), "training": training, "actions": 8}
    with pytest.MonkeyPatch.context() as patch:
        given = {"config": MIDDLING, "gained": 0.0, "tried": 1, "episodes": 1, "edges": []}
        patch.setattr(study.transfer, "tune_carried", lambda grounds, count, instances: given)
        return gather_transfer(Transfer(**settings, out=tmp_path_factory.mktemp("stepping")), quiet)


def test_a_policy_steps_on_the_problem_left_out_as_it_learned_to(stepping: Carried) -> None:
    """The same optimizer, and as many actions to a budget, for it and for its controls."""
    folder = stepping.transfer.out / "families/played"
    for problem, steps in dict.fromkeys(THREE, 3).items():
        for name in (LEFT_OUT, STEPS, CARRIED_STEPS, CARRIED, LINES):
            path = folder / f"{problem}-{name.replace(', ', '--').replace(' ', '-')}.json"
            (agent,) = json.loads(path.read_text(encoding="utf-8"))["settings"]["agents"]
            optimizer = {LINES: "gd_line_search", CARRIED: None}.get(name, "momentum_line_search")
            assert agent["environment"].get("optimizer") == optimizer
            if name in (LEFT_OUT, CARRIED_STEPS, CARRIED):
                assert agent["environment"]["steps_per_action"] == steps
        training = stepping.trained[LEFT_OUT, problem][0]["policy"]
        families = policy_of(training).families  # type: ignore[union-attr]
        assert {one.environment["optimizer"] for one in families.values()} == {"momentum_line_search"}
        assert {name: families[name].environment["steps_per_action"] for name in families} == {
            name: stepping.transfer.stride(name) for name in stepping.transfer.others(problem)
        }
        assert stepping.played[FAMILIES, problem, "", STEPS] != stepping.played[FAMILIES, problem, "", PLAIN]


def test_the_page_shows_what_the_steps_alone_gain(stepping: Carried) -> None:
    written = write_transfer(stepping)
    held = {one.target: one.detail for one in written["findings"]}
    assert f"Left out, each in turn: nowhere significantly worse than {STEPS}" in held
    page = written["markdown"].read_text(encoding="utf-8")
    heads = [line for line in page.splitlines() if line.startswith("| left out |")]
    assert all(head.count("|") <= 6 for head in heads)  # five columns: as many as a reader can follow
    assert f"| left out | {PLAIN} | {LEFT_OUT} | minus {PLAIN} | minus {STEPS} |" in heads
    gained = {
        name: np.mean([one["gained"] for one in stepping.played[FAMILIES, "Rosenbrock", "", name]])
        for name in (PLAIN, LEFT_OUT, STEPS)
    }
    row = page.split(f"| minus {STEPS} |")[1].split("| Rosenbrock | ")[1].split("\n")[0].split(" | ")
    assert [cell.split()[0] for cell in row[:2]] == [f"{gained[PLAIN]:.2f}", f"{gained[LEFT_OUT]:.2f}"]
    assert row[3].split()[0] == f"{gained[LEFT_OUT] - gained[STEPS]:+.2f}".replace("+0.00", "0.00").replace(
        "-0.00", "0.00"
    )
    with (written["markdown"].parent / "results-data/transfer/carried.csv").open(encoding="utf-8") as file:
        carried = [line for line in csv.DictReader(file) if line["played on"] == "Booth"]
    assert [(line["what"], line["networks"]) for line in carried] == [(CARRIED, "flatten"), (CARRIED_STEPS, "flatten")]


def test_without_teachers_a_policy_begins_from_the_rates_of_plain_descent(tmp_path: Path, stepping: Carried) -> None:
    found, transfer = stepping, stepping.transfer
    assert not found.retaught
    assert not any(kind == "teacher" for kind, _ in found.trained)
    for problem in transfer.problems:
        policy = policy_of(found.trained[LEFT_OUT, problem][0]["policy"])
        assert set(policy.problems) == {*transfer.others(problem)}
        for name in policy.problems:
            assert policy.for_problem(name).environment["learning_rate"] == found.rates[name, ""]["rate"]
        known = transfer.others(problem)
        training = mixture(
            known, transfer.changes(), 0, tmp_path, {}, {name: found.rates[name, ""]["rate"] for name in known}
        )
        assert training.task.rate_multiples == (0.25, 1.0, 4.0)
        assert not training.teaching.teachers


# -- schedules that carry over -----------------------------------------------------------------------------------------


def test_a_schedule_is_carried_in_units_of_the_problem() -> None:
    known = ("Quadratic", "LinearNetwork")
    quadratic, network = (ground(name, known, rate) for name, rate in (("Quadratic", 0.5), ("LinearNetwork", 0.01)))
    plan = plan_on(MIDDLING, quadratic)  # budget 80, one step per action
    assert (plan.learning_rate, plan.warmup, plan.decay_every, plan.first, plan.every) == (0.25, 8, 20, 3, 16)
    assert [*quadratic.menu][plan.which] == "look"
    plan = plan_on(MIDDLING, network)  # budget 300, five steps per action: before the steps 0, 5 and 10
    assert (plan.learning_rate, plan.warmup, plan.decay_every, plan.first, plan.every) == (0.005, 30, 75, 11, 60)
    assert [*network.menu][plan.which] == "flatten"
    assert network.symmetry == "scaling"
    # a slot that a problem leaves empty makes a schedule of rates alone
    rates = plan_on({**MIDDLING, "coordinates": "balance_weights"}, quadratic)
    assert (rates.first, rates.every, rates.warmup) == (0, 0, 8)


def test_what_is_left_out_is_played_as_the_others_are() -> None:
    """Regression: a problem's own recipe must have no part in how it is played when it is left out."""
    place = ground("LinearNetwork", ("Quadratic", "MLPRegression", "MatrixFactorization"), 0.01)
    assert (place.steps_per_action, place.symmetry, place.kind) == (1, "scaling", "networks")
    place = ground("LinearNetwork", ("Quadratic", "Booth", "Rosenbrock"), 0.01)
    assert (place.steps_per_action, place.symmetry) == (1, "general_linear")
    assert ground("LinearNetwork", ("LinearNetwork",), 0.01).steps_per_action == 5


def test_the_best_schedule_has_the_best_mean_over_the_problems() -> None:
    """The agent that is played gains what the search said, each problem with the same weight."""
    grounds = [ground(name, ("Booth", "Quadratic"), rate, 16.0) for name, rate in (("Booth", 0.1), ("Quadratic", 0.9))]
    found = tune_schedule(grounds, count=8, instances=2)
    assert set(found.config) == {*axes_of(("coordinates",))}
    means = []
    for place in grounds:
        ids = draw_instances(place.problem, "train", 22, TUNING_SEED)[2:]
        agent = schedule_on(found.config, place, CARRIED)
        played = play(place.problem, agent, ids, split="train", budget=16.0, seed=TUNING_SEED)
        means.append(np.mean([row["gained"] for row in played.rows]))
    assert found.gained == pytest.approx(np.mean(means), abs=1e-9)
    assert found.episodes % 2 == 0


def test_the_rate_of_plain_descent_lies_inside_what_was_tried() -> None:
    found = plain_rate("Booth", instances=8, budget=None, shape=None)
    ids = draw_instances("Booth", "train", 8, TUNING_SEED)

    def gained(rate: float) -> float:
        agent = Never(environment={"learning_rate": rate})
        return float(np.mean([row["gained"] for row in play("Booth", agent, ids, split="train").rows]))

    assert found["gained"] == pytest.approx(gained(found["rate"]))
    assert all(gained(found["rate"] * factor) < found["gained"] for factor in (0.25, 0.5, 2.0, 4.0))


# -- settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": ("Booth", "Quadratic")}, "at least 2 others"),
        ({"factors": (2.0,)}, "1 must be among the factors"),
        ({"questions": ("weather",)}, "questions of a transfer must be one of"),
        ({"plans": 3}, "plans must be an integer of at least 8 and at most 1000000, got 3"),
        ({"problems": ("Booth", "Quadratic", "Nowhere")}, "got 'Nowhere'"),
    ],
)
def test_what_is_not_allowed_is_told_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transfer(**settings)
