"""What is tried of each setting: the grids from which families of plans and rules are made."""

from __future__ import annotations

import dataclasses

from teleport_env.agents.edge_rule import NEVER_FLATTEN
from teleport_env.agents.tuning.search import Axis

SHARES = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3)
"""Times, as shares of the budget."""

_CLOSE = 1.02
"""Factor between neighbours of a thorough refinement: learned policies have factors as fine."""

FACTORS: dict[str, Axis] = {
    "up": Axis((1.0, 1.1, 1.3, 2.0, 4.0), factor=2.0, low=1.0, high=64.0, closest=_CLOSE),
    "down": Axis((0.25, 0.5, 0.7, 0.9, 1.0), factor=2.0, low=1.0 / 64.0, high=1.0, closest=_CLOSE),
}
"""Rate factors of a plan."""

_BIG = 2.0**12


def rate_axis(base: float) -> Axis:
    """Learning rates from a sixteenth of a base to 16 times it; on from there up to 4096 times, and down to the inverse."""
    rates = tuple(base * 2.0**k for k in range(-4, 5))
    return Axis(rates, factor=2.0, low=base / _BIG, high=base * _BIG, closest=_CLOSE)


def period_axis(budget: float, stride: int = 1) -> Axis:
    """Times in gradient steps, multiples of the ``stride`` of an action."""
    times = sorted({stride * max(1, round(budget * share / stride)) for share in SHARES})
    return Axis(tuple(times), factor=2.0, low=1, high=int(budget))


def rule_axes(budget: float, searches: int = 1) -> dict[str, dict[str, Axis]]:
    """The settings of each rule, by its registered name.

    Args:
        budget: Gradient evaluations per episode.
        searches: Number of searches to choose from for the first teleports of `EdgeOfStability`, its ``opening``.
    """
    most = int(budget)
    booleans = Axis((False, True), ordered=False)
    shared = {
        "cooldown": Axis((1, 2, 3, 5, 8, 12, 20), factor=2.0, low=1, high=most),
        "least_steps": Axis((1, 3, 6, 12), factor=2.0, low=1, high=most),
    }
    own = {
        "stall": {
            "threshold": Axis((0.003, 0.01, 0.03, 0.1, 0.3), factor=3.0, low=1e-5, high=1.0),
            "patience": Axis((1, 2, 3, 5), factor=2.0, low=1, high=50),
            "watch": Axis(("loss", "gradient"), ordered=False),
        },
        "alignment": {
            "threshold": Axis((-0.9, -0.5, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
            "above": booleans,
        },
        "relative_decrease": {
            "threshold": Axis((0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0), factor=2.0, low=1e-4, high=1e4)
        },
        "accept_if_better": {
            "k": Axis((1, 2, 4, 8, 16), factor=2.0, low=1, high=64),
            "longest": Axis((64, 1024)),
            "least_gain": Axis((0.0, 0.03, 0.1, 0.3, 1.0), factor=2.0, high=4.0),
        },
        "momentum_trigger": {
            "threshold": Axis((0.01, 0.03, 0.1, 0.3, 1.0, 3.0), factor=3.0, low=1e-6, high=1e6),
            "after": Axis((1, 2, 5, 10), factor=2.0, low=1, high=most),
        },
        "edge_of_stability": {
            "edge": Axis((0.8, 1.0, 1.2, 1.5, 2.0), factor=1.5, low=0.2, high=4.0, closest=_CLOSE),
            "up": Axis((1.0, 1.3, 1.6, 2.0), factor=2.0, low=1.0, high=64.0, closest=_CLOSE),
            "down": Axis((0.25, 0.5, 0.7), factor=2.0, low=1.0 / 64.0, high=1.0, closest=_CLOSE),
            "slow": Axis((0.0, 0.3, 0.7, 1.0, 1.5), factor=2.0, high=1e4, closest=_CLOSE),
            "flatten": Axis((1.5, 2.0, 4.0), factor=1.5, low=0.25, high=NEVER_FLATTEN, closest=_CLOSE),
            "first": Axis((0, 1, 2), factor=2.0, high=64),
            "looks": Axis((0, 1, 3), factor=2.0, high=64),
            "opening": Axis(tuple(range(searches)), ordered=False),
            "landing": Axis(("up", "same", "down"), ordered=False),
        },
    }
    found = {name: {**axes, **shared} for name, axes in own.items()}
    # nearly everywhere the best rival of policies, so that all its numbers are tuned in small steps
    found["edge_of_stability"] |= {name: dataclasses.replace(axis, closest=_CLOSE) for name, axis in shared.items()}
    return found
