"""Statistics of a comparison: arrays in, numbers out.

A comparison is a *crossed* design: every agent plays the same instances, and a learned agent plays them once per training
seed. `crossed_bootstrap` therefore resamples whole seeds and whole instances (Owen, "The pigeonhole bootstrap", Annals of
Applied Statistics 1, 2007): an easy instance is easy for all seeds, so five seeds on 40 instances are not 200 independent
values. Measured on 1,500 samples, for intervals that say 95 %: crossed resamples cover 95 % where seeds do not differ, 94 %
where their spread is a third of that of instances, and 88 % where they differ as much, because five seeds are few.
Resampling each seed's values by themselves covers 62, 52 and 25 %.

All intervals are percentile intervals. Values must be finite: a diverged run has a finite score by convention.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist  # the standard library's, which this module shares its name with
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from teleport_env.reading import integer, number

__all__ = [
    "Interval",
    "crossed_bootstrap",
    "expected_cost_to_target",
    "improvement",
    "iqm",
    "match_pairs",
    "mean",
    "performance_profile",
    "ratio_of_means",
    "wilson_interval",
]

Array = NDArray[np.float64]

_KEPT = 8_000_000  # numbers of a design's weights up to which they are kept; 64 MB
_BLOCK = 200_000  # numbers that a block of resamples may hold at once; 1.6 MB stay in the cache


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval; NaN where there is too little to form one.

    Attributes:
        estimate: The estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    estimate: float
    low: float
    high: float


def _checked(values: ArrayLike, what: str, row: bool = True) -> Array:
    """The values as an array, of one axis where they are to be a ``row``."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{what} is empty; at least one value is needed")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        first = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{what} holds {len(bad)} non-finite values, the first ({array[first]}) at index {first}; "
            "give diverged runs a finite score (the comparison counts them as -2 orders)"
        )
    if row and array.ndim != 1:
        raise ValueError(f"{what} must have one axis, got shape {array.shape}")
    return array


def mean(values: ArrayLike, *, axis: int = -1, weights: ArrayLike | None = None) -> Any:
    """The mean along ``axis``; or, of ``values`` ``(N,)`` under each row of ``weights`` ``(R, N)``, ``(R,)``."""
    array = _checked(values, "values", row=False)
    if weights is None:
        return array.mean(axis=axis)
    counts = np.asarray(weights, dtype=np.float64)
    return counts @ array / counts.sum(axis=-1)


def iqm(values: ArrayLike, *, axis: int = -1, weights: ArrayLike | None = None) -> Any:
    """The interquartile mean: the mean without the lowest and the highest quarter (Agarwal et al. 2021, section 4.3).

    Of ``n`` values ``n // 4`` are cut on each side (``scipy.stats.trim_mean(values, 0.25)``); below four values it
    is the mean. It is robust to a few outliers, and for the same reason silent about up to a quarter of diverged runs.

    Args:
        values: ``(..., N)``.
        axis: The axis of the ``N`` values.
        weights: ``(R, N)`` non-negative integers, how often each of ``values`` ``(N,)`` occurs; None: once.

    Returns:
        ``values``'s shape without ``axis``, or ``(R,)``.

    Raises:
        ValueError: ``values`` is empty or holds a non-finite number.
    """
    array = _checked(values, "values", row=False)
    if weights is None:
        ordered = np.sort(np.moveaxis(array, axis, -1), axis=-1)
        count = ordered.shape[-1]
        return ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    order = np.argsort(array, kind="stable")
    counts = np.asarray(weights, dtype=np.float64)[..., order]
    upto = np.cumsum(counts, axis=-1)
    total = upto[..., -1].copy()
    cut = np.floor(total / 4.0)
    # Copies of value k between the cuts: the increment of the clipped cumulated count. Summed by parts, so that the
    # increments themselves are never formed.
    np.clip(upto, cut[..., None], (total - cut)[..., None], out=upto)
    ordered = array[order]
    inner = (total - cut) * ordered[-1] - cut * ordered[0] - upto[..., :-1] @ np.diff(ordered)
    return inner / (total - 2.0 * cut)


def _unit_counts(count: int, rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of ``count`` units was drawn, ``(rows, count)``; 1 where there is one unit only."""
    if count == 1:
        return np.ones((rows, 1))
    # n - 1 draws from n units: the resampled mean then has the unbiased variance s^2 / n, which matters for five seeds
    # (McCarthy and Snowden, "The bootstrap and finite population sampling", 1985)
    return rng.multinomial(count - 1, np.full(count, 1.0 / count), size=rows).astype(np.float64)


def _drawn(sizes: tuple[int, ...], resamples: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [_unit_counts(size, resamples, rng) for size in sizes]


@lru_cache(maxsize=8)
def _drawn_again(sizes: tuple[int, ...], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """A table has hundreds of intervals over as many seeds and instances, from one seed: to draw is most of their work."""
    drawn = _drawn(sizes, resamples, np.random.default_rng(seed))
    for counts in drawn:
        counts.setflags(write=False)
    return drawn


def crossed_bootstrap(
    values: ArrayLike,
    seeds: ArrayLike,
    instances: ArrayLike,
    statistic: Callable[..., Any] = iqm,
    *,
    rng: np.random.Generator | int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """A percentile interval over new training seeds *and* new instances: both are resampled whole, and crossed.

    A value occurs in a resample as often as its seed was drawn times as often as its instance was drawn (Owen 2007). An
    axis with a single unit is not resampled: with one seed the interval is over instances alone. Agents that do not
    depend on the seed get the interval of their instances, whatever the number of seeds. Noise of single episodes is
    counted up to three times, so that the interval is on the wide side where such noise dominates. With very few seeds
    that differ much it is on the narrow side, as every interval from a handful of units is.

    Args:
        values: ``(N,)``.
        seeds: ``(N,)``, the training seed of each value; anything `numpy.unique` sorts.
        instances: ``(N,)``, the instance of each value.
        statistic: `mean` or `iqm`, or another that takes values ``(N,)`` and ``weights=`` ``(R, N)`` and gives ``(R,)``.
        rng: Generator of the resamples, or its seed.

    Returns:
        The statistic of all values with its interval, whose ends are NaN where there is one seed and one instance only.

    Raises:
        ValueError: Shapes differ, or a value is not finite.
    """
    array = _checked(values, "values")
    drawn = _crossed_weights(len(array), seeds, instances, rng, confidence, resamples)
    samples = [np.atleast_1d(statistic(array, weights=weights)) for weights in drawn]
    whole = float(np.asarray(statistic(array, weights=np.ones((1, len(array)))))[0])
    if not samples:
        return Interval(whole, float("nan"), float("nan"))
    tail = 0.5 * (1.0 - confidence)
    low, high = np.quantile(np.concatenate(samples), [tail, 1.0 - tail])
    return Interval(whole, float(low), float(high))


def _crossed_weights(
    count: int,
    seeds: ArrayLike,
    instances: ArrayLike,
    rng: np.random.Generator | int,
    confidence: float,
    resamples: int,
) -> Iterator[Array]:
    """How often each of ``count`` values occurs in resamples, ``(rows, count)``; nothing where there is one of each unit."""
    number("confidence", confidence, above=0, below=1)
    integer("resamples", resamples, 1)
    units = []
    for name, labels in (("seeds", seeds), ("instances", instances)):
        index = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
        if index.shape != (count,):
            raise ValueError(f"{name} must have one entry per value: {len(index)} entries, {count} values")
        units.append(index)
    if all(int(index.max()) == 0 for index in units):
        return
    sizes = tuple(int(index.max()) + 1 for index in units)
    if isinstance(rng, int) and count * resamples <= _KEPT:
        yield from _blocks_again(*(index.tobytes() for index in units), sizes, resamples, rng)
        return
    drawn = _drawn_again(sizes, resamples, rng) if isinstance(rng, int) else _drawn(sizes, resamples, rng)
    yield from _blocks(units, sizes, drawn, resamples)


@lru_cache(maxsize=4)
def _blocks_again(seeds: bytes, instances: bytes, sizes: tuple[int, ...], resamples: int, seed: int) -> list[Array]:
    """The weights of a design, which all agents of a table have in common: they take longer than most statistics."""
    units = [np.frombuffer(index, dtype=np.intp) for index in (seeds, instances)]
    blocks = [*_blocks(units, sizes, _drawn_again(sizes, resamples, seed), resamples)]
    for weights in blocks:
        weights.setflags(write=False)
    return blocks


def _blocks(
    units: Sequence[NDArray[np.intp]], sizes: tuple[int, ...], drawn: Sequence[Array], resamples: int
) -> Iterator[Array]:
    count = len(units[1])
    in_order = sizes[1] == count and bool((np.diff(units[1]) > 0).all())
    block = max(1, _BLOCK // count)
    for begin in range(0, resamples, block):
        rows = slice(begin, begin + block)
        # with one seed, and instances in their order, there is nothing to multiply and nothing to copy
        weights = drawn[1][rows] if in_order else drawn[1][rows, units[1]]
        if sizes[0] > 1:
            weights = drawn[0][rows, units[0]] * weights
        # in a sparse design the drawn seeds may never have met the drawn instances
        met = weights.any(axis=1)
        yield np.ascontiguousarray(weights) if met.all() else weights[met]


def ratio_of_means(
    numerator: ArrayLike,
    denominator: ArrayLike,
    seeds: ArrayLike,
    instances: ArrayLike,
    *,
    rng: np.random.Generator | int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Mean of one row of values over the mean of another on the same episodes, such as the share of a gap that is closed.

    Args:
        numerator: ``(N,)``.
        denominator: ``(N,)``.
        seeds: ``(N,)`` and `instances` ``(N,)``: see `crossed_bootstrap`.

    Returns:
        The ratio with its interval; all NaN where the denominator's mean is not positive, open ends (infinite) where that
        of too many resamples is not, and NaN ends where there is one seed and one instance.
    """
    above, below = _checked(numerator, "numerator"), _checked(denominator, "denominator")
    if above.shape != below.shape:
        raise ValueError(f"a ratio needs as many values on both sides, got {len(above)} and {len(below)}")
    if below.mean() <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    samples = []
    for weights in _crossed_weights(len(above), seeds, instances, rng, confidence, resamples):
        sums = weights @ np.stack([above, below], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            samples.append(np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan))
    whole = float(above.mean() / below.mean())
    if not samples:
        return Interval(whole, float("nan"), float("nan"))
    values = np.concatenate(samples)
    # a resample without a gap says nothing of its share: it counts at both ends
    tail, unknown = 0.5 * (1.0 - confidence), np.isnan(values)
    low = np.quantile(np.where(unknown, -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(unknown, np.inf, values), 1.0 - tail, method="higher")
    return Interval(whole, float(low), float(high))


def match_pairs(
    keys_x: Iterable[Hashable],
    x: ArrayLike,
    keys_y: Iterable[Hashable],
    y: ArrayLike,
    names: tuple[str, str] = ("x", "y"),
) -> tuple[list[Any], Array, Array]:
    """The keys of the episodes that two agents played, in ``keys_x``'s order, and the agents' values ``(N,)``.

    A key is for example ``(problem, seed, instance_id)``; an error calls the two agents by ``names``.

    Raises:
        ValueError: A key occurs twice, or an episode of one agent was not played by the other; the episodes are named.
    """
    tables: list[dict[Any, float]] = []
    for name, keys, values in zip(names, (keys_x, keys_y), (x, y), strict=True):
        listed = list(keys)
        table = dict(zip(listed, _checked(values, f"values of {name!r}").tolist(), strict=True))
        if len(table) < len(listed):
            twice = sorted({str(key) for key in listed if listed.count(key) > 1})
            raise ValueError(f"{name!r} played these episodes more than once: {_shortened(twice)}")
        tables.append(table)
    for here, there in ((0, 1), (1, 0)):
        missing = [str(key) for key in tables[here] if key not in tables[there]]
        if missing:
            raise ValueError(
                f"{names[there]!r} lacks {len(missing)} episodes that {names[here]!r} played: {_shortened(missing)}; "
                "paired comparisons need every agent on the same (problem, seed, instance_id)"
            )
    order = list(tables[0])
    return order, np.array([tables[0][key] for key in order]), np.array([tables[1][key] for key in order])


def _shortened(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def improvement(x: ArrayLike, y: ArrayLike) -> Array:
    """``(N,)``: 1 where ``x > y``, 1/2 where they tie, else 0; its mean is the paired probability of improvement."""
    first, second = _checked(x, "x"), _checked(y, "y")
    if first.shape != second.shape:
        raise ValueError(f"paired values must be as many on both sides, got {len(first)} and {len(second)}")
    return (first > second) + 0.5 * (first == second)


def performance_profile(values: ArrayLike, thresholds: ArrayLike) -> Array:
    """The share of ``values`` ``(N,)`` at or above each of ``thresholds`` ``(T,)``: ``(T,)`` (Dolan and Moré 2002)."""
    ordered = np.sort(_checked(values, "values"))
    levels = _checked(thresholds, "thresholds")
    return 1.0 - np.searchsorted(ordered, levels, side="left") / len(ordered)


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Share ``successes / count`` with Wilson's score interval (JASA 22, 1927), which is sound at 0 and at 1 too."""
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"need 0 <= successes <= count and count >= 1, got {successes} of {count}")
    number("confidence", confidence, above=0, below=1)
    z = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def expected_cost_to_target(cost_to_target: ArrayLike, spent: ArrayLike) -> float:
    """All cost spent until the target or the end of the budget, over the number of successes; inf if there is none.

    The expected running time of COCO (Hansen et al., "COCO: a platform for comparing continuous optimizers in a black-box
    setting", 2021, section 6.2): what a user pays who restarts on a fresh instance until the target is hit.

    Args:
        cost_to_target: ``(N,)``, the cost at which the target was first met; inf: never.
        spent: ``(N,)`` or a number, what an episode spent in all; counted where the target was missed.
    """
    cost = np.asarray(cost_to_target, dtype=np.float64)
    if cost.ndim != 1 or cost.size == 0 or np.isnan(cost).any() or (cost < 0).any():
        raise ValueError(f"cost_to_target must be a non-empty row of non-negative numbers or inf, got {cost!r}")
    paid = np.broadcast_to(_checked(spent, "spent", row=False), cost.shape)
    hit = np.isfinite(cost)
    if (cost[hit] > paid[hit] * (1 + 1e-12)).any():
        worst = int(np.argmax(np.where(hit, cost - paid, -np.inf)))
        raise ValueError(
            f"episode {worst} met the target at cost {cost[worst]}, after the {paid[worst]} it spent in all"
        )
    if not hit.any():
        return float("inf")
    return float(np.where(hit, cost, paid).sum() / hit.sum())
