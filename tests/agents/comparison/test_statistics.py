"""The statistics of a comparison against numbers derived by hand, SciPy, and known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from teleport_env.agents.comparison import statistics


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- interquartile mean ------------------------------------------------------------------------------------------------


def test_iqm_of_eight_is_the_mean_of_the_middle_four() -> None:
    assert statistics.iqm([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -50.0]) == 3.5


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 10, 101])
def test_iqm_is_scipys_trimmed_mean(count: int) -> None:
    values = rng().standard_normal((3, count))
    np.testing.assert_allclose(statistics.iqm(values), scipy.stats.trim_mean(values, 0.25, axis=1), rtol=1e-13)
    np.testing.assert_allclose(statistics.iqm(values.T, axis=0), statistics.iqm(values), rtol=1e-15)


@pytest.mark.parametrize("count", [1, 3, 4, 9, 40])
def test_weights_mean_the_same_as_copies(count: int) -> None:
    values = np.round(rng(count).standard_normal(count), 1)  # with ties
    weights = rng(1).integers(0, 4, size=(20, count))
    weights[:, 0] += 1
    for statistic in (statistics.iqm, statistics.mean):
        copies = [statistic(np.repeat(values, row)) for row in weights]
        np.testing.assert_allclose(statistic(values, weights=weights), copies, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_iqm_refuses_what_has_none(values: list[float]) -> None:
    with pytest.raises(ValueError, match="empty|non-finite"):
        statistics.iqm(values)


# -- bootstrap ---------------------------------------------------------------------------------------------------------


def crossed_sample(generator: np.random.Generator, seeds: int, instances: int, seed_effect: float) -> np.ndarray:
    """Scores ``(seeds, instances)`` around 0 with effects of the instance (1), the seed and the episode (0.3)."""
    return (
        generator.standard_normal(instances)
        + seed_effect * generator.standard_normal((seeds, 1))
        + 0.3 * generator.standard_normal((seeds, instances))
    )


def coverage(seeds: int, instances: int, seed_effect: float, repetitions: int) -> float:
    generator, hits = rng(6), 0
    rows, columns = np.divmod(np.arange(seeds * instances), instances)
    for _ in range(repetitions):
        sample = crossed_sample(generator, seeds, instances, seed_effect)
        interval = statistics.crossed_bootstrap(
            sample.reshape(-1), rows, columns, statistics.mean, rng=generator, resamples=400
        )
        hits += interval.low <= 0.0 <= interval.high
    return hits / repetitions


def test_the_crossed_interval_covers_where_seeds_share_their_instances() -> None:
    assert 0.92 <= coverage(seeds=20, instances=40, seed_effect=0.3, repetitions=800) <= 0.98


def test_seeds_on_shared_instances_add_no_independent_values() -> None:
    """Regression: five seeds on the same 40 instances are not 200 independent values."""
    assert coverage(seeds=5, instances=40, seed_effect=0.0, repetitions=200) > 0.92


def test_the_bootstrap_of_three_values_by_hand() -> None:
    """Two draws of 0, 1 and 2: resampled means are 0 and 2 with probability 1/9, 1/2 and 3/2 with 2/9, and 1 with 3/9."""
    for confidence, low, high in ((0.3, 1.0, 1.0), (0.6, 0.5, 1.5), (0.9, 0.0, 2.0)):
        interval = statistics.crossed_bootstrap(
            [0.0, 1.0, 2.0], [0, 0, 0], [0, 1, 2], statistics.mean, confidence=confidence, resamples=4000
        )
        assert interval == (1.0, low, high)


def test_an_agent_that_ignores_its_seed_gets_the_interval_of_its_instances() -> None:
    values = rng(3).standard_normal(30)
    once = statistics.crossed_bootstrap(values, np.zeros(30), np.arange(30), rng=rng(), resamples=4000)
    copies = statistics.crossed_bootstrap(
        np.tile(values, 4), np.repeat(np.arange(4), 30), np.tile(np.arange(30), 4), rng=rng(), resamples=4000
    )
    assert copies.low == pytest.approx(once.low, abs=0.04)
    assert copies.high == pytest.approx(once.high, abs=0.04)


def test_instances_that_each_seed_drew_for_itself_are_resampled_too() -> None:
    """A nested design: some drawn seeds meet none of the drawn instances, and such resamples are left out."""
    interval = statistics.crossed_bootstrap([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], [10, 11, 12, 13], rng=rng())
    assert 0.0 <= interval.low < interval.estimate == 1.5 < interval.high <= 3.0


def test_intervals_are_reproducible_and_ordered() -> None:
    values = rng().standard_normal(50)
    first, second, other = (
        statistics.crossed_bootstrap(values, np.zeros(50), np.arange(50), rng=rng(seed)) for seed in (0, 0, 1)
    )
    assert first == second != other
    assert first.low <= first.estimate <= first.high


def test_resamples_come_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng().standard_normal(50)
    sizes = []

    def recording(sample: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
        sizes.append(np.shape(weights))
        return statistics.iqm(sample, weights=weights)

    monkeypatch.setattr(statistics, "_BLOCK", 50 * 64)
    units = (np.repeat(np.arange(2), 25), np.tile(np.arange(25), 2))
    small = statistics.crossed_bootstrap(values, *units, recording, rng=rng(), resamples=101)
    assert sizes == [(64, 50), (37, 50), (1, 50)]
    monkeypatch.undo()
    large = statistics.crossed_bootstrap(values, *units, rng=rng(), resamples=101)
    assert small == pytest.approx(large, rel=1e-12)


@pytest.mark.parametrize("copies", [1, 3])
def test_one_seed_on_one_instance_gives_an_estimate_without_an_interval(copies: int) -> None:
    labels = np.zeros(copies)
    for found in (
        statistics.crossed_bootstrap([4.0] * copies, labels, labels),
        statistics.ratio_of_means([4.0] * copies, [1.0] * copies, labels, labels),
    ):
        assert found.estimate == 4.0
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_crossed_bootstrap_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="non-finite"):
        statistics.crossed_bootstrap([1.0, math.nan], [0, 0], [0, 1], rng=rng())
    with pytest.raises(ValueError, match="empty"):
        statistics.crossed_bootstrap([], [], [], rng=rng())
    with pytest.raises(ValueError, match="seeds must have one entry per value: 1 entries, 2 values"):
        statistics.crossed_bootstrap([1.0, 2.0], [0], [0, 1], rng=rng())
    with pytest.raises(ValueError, match="confidence"):
        statistics.crossed_bootstrap([1.0, 2.0], [0, 0], [0, 1], rng=rng(), confidence=95)
    with pytest.raises(ValueError, match="resamples"):
        statistics.crossed_bootstrap([1.0, 2.0], [0, 0], [0, 1], rng=rng(), resamples=0)


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_are_matched_by_key_whatever_their_order() -> None:
    keys, x, y = statistics.match_pairs(["a", "b", "c"], [1, 2, 3], ["c", "a", "b"], [30, 10, 20])
    assert keys == ["a", "b", "c"]
    np.testing.assert_array_equal(y, 10 * x)


def test_missing_and_repeated_pairs_are_named() -> None:
    with pytest.raises(ValueError, match=r"'stall' lacks 1 episodes that 'ppo' played: \('Booth', 0, 7\)"):
        statistics.match_pairs(
            [("Booth", 0, 6), ("Booth", 0, 7)], [1, 2], [("Booth", 0, 6)], [1], names=("ppo", "stall")
        )
    with pytest.raises(ValueError, match=r"'x' lacks 1 episodes that 'y' played: b"):
        statistics.match_pairs(["a"], [1], ["a", "b"], [1, 2])
    with pytest.raises(ValueError, match="more than once: a"):
        statistics.match_pairs(["a", "a"], [1, 2], ["a"], [1])


def test_pairing_removes_what_the_instances_share() -> None:
    difficulty = 5 * rng().standard_normal(60)
    noise = 0.1 * rng(1).standard_normal(60)
    units = (np.zeros(60), np.arange(60))
    paired = statistics.crossed_bootstrap(0.2 + noise, *units, statistics.mean)
    assert 0.1 < paired.low < paired.estimate < paired.high < 0.3
    assert paired.estimate == pytest.approx(0.2 + noise.mean())
    alone = statistics.crossed_bootstrap(difficulty + 0.2 + noise, *units, statistics.mean)
    assert alone.high - alone.low > 10 * (paired.high - paired.low)


def test_improvement_counts_ties_half() -> None:
    np.testing.assert_array_equal(statistics.improvement([3, 1, 0, 9], [2, 1, 5, 0]), [1, 0.5, 0, 1])
    with pytest.raises(ValueError, match="as many on both sides, got 2 and 3"):
        statistics.improvement([1, 2], [0, 1, 3])


# -- profiles, shares, costs, oracles ----------------------------------------------------------------------------------


def test_a_profile_counts_what_reaches_the_threshold() -> None:
    profile = statistics.performance_profile([1.0, 2.0, 2.0, 5.0], [0.0, 1.0, 1.5, 2.0, 2.1, 5.0, 6.0])
    np.testing.assert_allclose(profile, [1.0, 1.0, 0.75, 0.75, 0.25, 0.25, 0.0])
    with pytest.raises(ValueError, match="empty"):
        statistics.performance_profile([], [0.0])


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (3, 10), (10, 10), (1, 1), (77, 512)])
def test_wilsons_interval_is_scipys(successes: int, count: int) -> None:
    expected = scipy.stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    ours = statistics.wilson_interval(successes, count)
    assert ours.estimate == successes / count
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilsons_interval_needs_a_count() -> None:
    for successes, count in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"got {successes} of {count}"):
            statistics.wilson_interval(successes, count)


def test_expected_cost_charges_the_misses_to_the_hits() -> None:
    # two hits at 10 and 30, a miss that spent 100: 140 for two successes
    assert statistics.expected_cost_to_target([10, math.inf, 30], [100, 100, 30]) == 70.0
    assert statistics.expected_cost_to_target([10, math.inf, 30], 100) == 70.0
    assert statistics.expected_cost_to_target([math.inf], [100]) == math.inf


def test_expected_cost_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="episode 1 met the target at cost 101"):
        statistics.expected_cost_to_target([10, 101], 100)
    for costs in ([], [math.nan], [-1.0]):
        with pytest.raises(ValueError, match="non-negative"):
            statistics.expected_cost_to_target(costs, 100)
    with pytest.raises(ValueError, match="spent holds 1 non-finite"):
        statistics.expected_cost_to_target([1.0], math.inf)


def test_a_ratio_of_means_is_that_and_its_interval_covers_it() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        gap = 2.0 + generator.normal(size=60)
        part = 0.6 * gap + 0.3 * generator.normal(size=60)
        interval = statistics.ratio_of_means(
            part, gap, np.zeros(60), np.arange(60), rng=np.random.default_rng(trial), resamples=400
        )
        assert interval.estimate == pytest.approx(part.mean() / gap.mean())
        covered += interval.low <= 0.6 <= interval.high
    assert 180 <= covered <= 199


def test_a_ratio_without_a_gap_is_none() -> None:
    labels = np.arange(4)
    rng = np.random.default_rng(0)
    none = statistics.ratio_of_means([1.0, 2, 3, 4], [0.0, 0, 0, 0], np.zeros(4), labels, rng=rng)
    assert all(np.isnan(none))
    unsure = statistics.ratio_of_means([1.0, 2, 3, 4], [10.0, -3, -3, -3], np.zeros(4), labels, rng=rng)
    assert (unsure.estimate, unsure.low, unsure.high) == (10.0, -np.inf, np.inf)
    with pytest.raises(ValueError, match="as many values"):
        statistics.ratio_of_means([1.0], [1.0, 2.0], [0, 1], [0, 1], rng=rng)
