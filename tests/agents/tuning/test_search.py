"""The search for configurations: it finds what is there, beyond the grid too, and counts what it tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from teleport_env.agents.tuning import search as searching
from teleport_env.agents.tuning.search import Axis, Config, Found, Round, run

FEW, MANY = np.arange(4), np.arange(4, 24)
MORE = np.arange(1000, 1040)


def search(axes: Mapping[str, Axis], score: Callable[[Any, np.ndarray], np.ndarray], **settings: Any) -> Found:
    """A search by itself."""
    return run([searching.search(axes, **settings)], lambda rounds: {0: score(*rounds[0])})[0]


class Landscape:
    """A peak at ``(rate, period, kind)``, in units of the grid's steps, and a book of what was asked."""

    def __init__(self, rate: float, period: int, kind: str) -> None:
        self.peak = (rate, period, kind)
        self.configs: list[Config] = []
        self.episodes = 0

    def __call__(self, configs: list[Config], ids: np.ndarray) -> np.ndarray:
        self.configs += configs
        self.episodes += len(configs) * len(ids)
        rate, period, kind = self.peak
        return np.array(
            [
                -abs(np.log2(c["rate"] / rate)) - abs(np.log2(c["period"] / period)) - (c["kind"] != kind)
                for c in configs
            ]
        )


AXES = {
    "rate": Axis((0.5, 1.0, 2.0), factor=2.0, low=2.0**-8, high=2.0**8),
    "period": Axis((2, 4, 8), factor=2.0, low=1, high=64),
    "kind": Axis(("a", "b", "c"), ordered=False),
}


@pytest.mark.parametrize(("rate", "period", "kind"), [(1.0, 4, "b"), (64.0, 1, "c"), (2.0**-7, 32, "a")])
def test_the_best_is_found_beyond_the_edges_of_the_grid(rate: float, period: int, kind: str) -> None:
    landscape = Landscape(rate, period, kind)
    found = search(AXES, landscape, count=16, few=FEW, many=MANY, generator=np.random.default_rng(0))
    assert found.config == {"rate": rate, "period": period, "kind": kind}
    assert found.gained == 0.0
    assert found.edges == ()
    assert found.episodes == landscape.episodes
    distinct = {tuple(sorted(config.items())) for config in landscape.configs}
    assert found.tried == len(distinct)
    assert found.candidates[0] == found.config


def test_a_limit_is_no_edge_and_an_unfinished_refinement_is_told() -> None:
    landscape = Landscape(2.0**12, 4, "b")
    found = search(AXES, landscape, count=16, few=FEW, many=MANY, generator=np.random.default_rng(0))
    assert found.config["rate"] == 2.0**8
    assert found.edges == ()
    short = search(AXES, landscape, count=16, few=FEW, many=MANY, generator=np.random.default_rng(0), rounds=1)
    assert short.edges == ("rate",)


def test_a_small_grid_is_tried_in_full_once() -> None:
    landscape = Landscape(1.0, 4, "b")
    axes = {name: Axis(axis.values, axis.ordered) for name, axis in AXES.items()}
    found = search(axes, landscape, count=27, few=FEW, many=MANY, generator=np.random.default_rng(0))
    assert found.tried == 27
    assert found.episodes == 27 * len(FEW) + 8 * len(MANY)


def test_the_last_choice_is_made_on_other_instances() -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        sign = 1.0 if len(ids) == len(FEW) else -1.0  # what is best on the few is worst on the many
        return np.array([sign * config["rate"] for config in configs])

    axes = {"rate": Axis(tuple(float(n) for n in range(1, 13)))}
    found = search(axes, score, count=12, few=FEW, many=MANY, generator=np.random.default_rng(0))
    assert found.config["rate"] == 5.0  # the eight best of the few are 5 .. 12


def test_a_thorough_last_choice_is_among_an_eighth_and_refined_on_the_many() -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        best = 100.0 if len(ids) == len(FEW) else 40.0  # the many have another peak, beyond the eighth
        return np.array([-abs(config["rate"] - best) for config in configs])

    axes = {"rate": Axis(tuple(float(n) for n in range(1, 161)))}
    found = {
        thorough: search(
            axes,
            score,
            count=160,
            few=FEW,
            many=MANY,
            generator=np.random.default_rng(0),
            thorough=thorough,
            rounds=160,
        )
        for thorough in (False, True)
    }
    assert found[False].config["rate"] == 96.0  # the eight best of the few are 96 .. 104
    assert found[True].config["rate"] == 40.0
    once = search(
        axes, score, count=160, few=FEW, many=MANY, generator=np.random.default_rng(0), thorough=True, rounds=0
    )
    assert once.config["rate"] == 90.0  # an eighth of 160 are 90 .. 110


def test_settings_that_do_nothing_are_tried_once() -> None:
    landscape = Landscape(1.0, 4, "b")
    found = search(
        AXES,
        landscape,
        count=27,
        few=FEW,
        many=MANY,
        generator=np.random.default_rng(0),
        canonical=lambda config: {**config, "kind": "b"},
        rounds=0,
    )
    assert found.tried == 9


def test_simple_configurations_are_among_the_random_ones() -> None:
    axes = {f"setting_{n}": Axis(tuple(range(10))) for n in range(6)}
    seen: list[Config] = []

    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        seen.extend(configs)
        return np.zeros(len(configs))

    for neutral in ({}, dict.fromkeys(axes, 0)):
        seen.clear()
        found = search(
            axes, score, count=400, few=FEW, many=MANY, generator=np.random.default_rng(0), neutral=neutral, rounds=0
        )
        idle = np.mean([[value == 0 for value in config.values()] for config in seen[:100]])
        assert idle == pytest.approx(0.55 if neutral else 0.1, abs=0.06)
        assert found.tried == 400  # and none of them twice


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="axes with values"):
        search({}, Landscape(1, 1, "a"), count=3, few=FEW, many=MANY, generator=np.random.default_rng(0))


def test_without_a_last_choice_the_first_instances_decide() -> None:
    landscape = Landscape(1.0, 4, "b")
    axes = {name: Axis(axis.values, axis.ordered) for name, axis in AXES.items()}
    nobody = np.arange(0)
    found = search(axes, landscape, count=27, few=FEW, many=nobody, generator=np.random.default_rng(0))
    assert found.config == {"rate": 1.0, "period": 4, "kind": "b"}
    assert (found.gained, found.tried, found.episodes) == (0.0, 27, 27 * len(FEW))


@pytest.mark.parametrize("finest", [0.0, 0.01])
def test_steps_are_halved_around_the_best_where_an_axis_says_so(finest: float) -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        return np.array([-abs(config["x"] - 0.3) for config in configs])

    axes = {"x": Axis((-1.0, 0.0, 1.0), finest=finest)}
    found = search(axes, score, count=3, few=FEW, many=MANY, generator=np.random.default_rng(0))
    assert abs(found.config["x"] - 0.3) <= (0.01 if finest else 0.3)
    assert (found.config["x"] == 0.0) == (finest == 0.0)


def test_searches_side_by_side_find_what_each_finds_and_ask_together() -> None:
    peaks = [Landscape(1.0, 4, "b"), Landscape(64.0, 1, "c"), Landscape(2.0**-7, 32, "a")]
    shared: dict[str, Any] = {"count": 16, "few": FEW, "many": MANY}
    alone = [search(AXES, peak, generator=np.random.default_rng(0), **shared) for peak in peaks]
    asked: list[int] = []
    started = [searching.search(AXES, generator=np.random.default_rng(0), **shared) for _ in peaks]

    def together(rounds: Mapping[int, Round]) -> dict[int, np.ndarray]:
        asked.append(len(rounds))
        return {number: peaks[number](list(configs), ids) for number, (configs, ids) in rounds.items()}

    assert run(started, together) == alone
    assert asked[0] == 3
    assert sum(asked) > len(asked)


def test_some_configurations_are_tried_in_any_case() -> None:
    peak = Landscape(1.0, 4, "b")
    wanted = [{"rate": 2.0, "period": 8, "kind": "c"}, {"rate": 0.5, "period": 2, "kind": "a"}]
    search(AXES, peak, count=16, few=FEW, many=MANY[:0], generator=np.random.default_rng(0), rounds=0, first=wanted)
    assert peak.configs[:2] == wanted
    assert 12 <= len(peak.configs) <= 16


def test_a_grid_grows_to_a_limit_that_its_factor_does_not_hit() -> None:
    share = Axis((0.25, 0.5, 0.7), factor=2.0, low=0.2, high=1.0)
    assert (share.beyond(0.7, True), share.beyond(1.0, True)) == (1.0, None)
    assert (share.beyond(0.25, False), share.beyond(0.2, False)) == (0.2, None)
    count = Axis((3, 8), factor=2.0, low=2, high=13)
    assert (count.beyond(8, True), count.beyond(13, True)) == (13, None)
    assert (count.beyond(3, False), count.beyond(2, False)) == (2, None)


def test_a_thorough_refinement_is_finer_than_the_grid() -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        return np.array([-abs(np.log(config["rate"] / 1.15)) for config in configs])

    axes = {"rate": Axis((0.5, 1.0, 2.0), closest=1.02)}
    shared: dict[str, Any] = {"count": 3, "few": FEW, "many": MANY}
    coarse = search(axes, score, generator=np.random.default_rng(0), **shared)
    assert coarse.config["rate"] == 1.0
    fine = search(axes, score, generator=np.random.default_rng(0), thorough=True, **shared)
    assert 1 / 1.02 <= fine.config["rate"] / 1.15 <= 1.02


def test_a_polish_leaves_a_ridge_where_one_setting_at_a_time_is_stuck() -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        # good along a = b, best at 5; the number of instances is part of it, to tell them apart
        return -len(ids) + np.array([-4 * abs(np.log(c["a"] / c["b"])) - abs(np.log(c["a"] / 5)) for c in configs])

    axes = {name: Axis((1.0, 2.0), low=0.5, high=4.0 * np.sqrt(2), closest=1.02) for name in "ab"} | {"n": Axis((0, 3))}
    shared: dict[str, Any] = {"count": 8, "few": FEW, "many": MANY, "thorough": True}
    stuck = search(axes, score, generator=np.random.default_rng(0), **shared)
    found = search(axes, score, generator=np.random.default_rng(0), polish=MORE, **shared)
    assert stuck.config["a"] == 2.0
    assert found.config["a"] == pytest.approx(5.0, rel=0.02)
    assert found.config["n"] in (0, 3), "what has no closest value stays on its grid"
    assert found.gained == score([found.config], MORE)[0]
    assert found.episodes > stuck.episodes


def test_a_polish_keeps_to_the_limits_and_to_integers() -> None:
    seen: list[Config] = []

    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        seen.extend(configs)
        return np.array([c["steps"] + c["slow"] for c in configs], dtype=float)

    axes = {"steps": Axis((1, 7), low=1, high=12, closest=1.02), "slow": Axis((0.0, 0.5), high=2.0, closest=1.02)}
    shared: dict[str, Any] = {"count": 4, "few": FEW, "many": MANY, "thorough": True, "polish": MORE}
    found = search(axes, score, generator=np.random.default_rng(0), **shared).config
    assert found == {"steps": 12, "slow": 2.0}
    assert search(axes, score, generator=np.random.default_rng(0), **shared).edges == ()
    assert all(type(c["steps"]) is int and 1 <= c["steps"] <= 12 and 0.0 <= c["slow"] <= 2.0 for c in seen)


def test_what_a_polish_ends_at_is_an_edge_where_nothing_beyond_was_tried() -> None:
    """Regression: it lay on no grid, and so at no end of one."""

    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        return np.array([c["rate"] for c in configs])

    axes = {"rate": Axis((1.0, 2.0), factor=2.0, closest=1.02)}
    shared: dict[str, Any] = {"count": 2, "few": FEW, "many": MANY, "rounds": 1, "polish": MORE}
    found = search(axes, score, generator=np.random.default_rng(0), **shared)
    assert found.config["rate"] >= 40.0
    assert found.edges == ("rate",)


def test_a_thorough_refinement_reaches_every_integer() -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        return np.array([-abs(config["steps"] - 17) for config in configs])

    axes = {"steps": Axis((1, 12, 20), closest=1.02)}
    shared: dict[str, Any] = {"count": 3, "few": FEW, "many": MANY, "generator": np.random.default_rng(0)}
    assert search(axes, score, **shared).config["steps"] == 20
    found = search(axes, score, thorough=True, **shared).config["steps"]
    assert found == 17
    assert isinstance(found, int)
    assert axes["steps"].between(2, 3, True) is None


@pytest.mark.parametrize("together", [(), (("a", "b"),)])
def test_settings_that_act_together_are_tried_together(together: tuple[tuple[str, str], ...]) -> None:
    def score(configs: list[Config], ids: np.ndarray) -> np.ndarray:
        # either alone is worse, both at once are best
        return np.array([3.0 if (c["a"], c["b"]) == (3, 3) else -c["a"] - c["b"] for c in configs])

    axes = {name: Axis((0, 1, 2, 3)) for name in "ab"}
    first = [{"a": 0, "b": 0}]
    asked: dict[str, Any] = {"few": FEW, "many": MANY[:0], "generator": np.random.default_rng(0), "first": first}
    found = search(axes, score, count=2, together=together, **asked)
    assert (found.config == {"a": 3, "b": 3}) == bool(together)
