"""Union-find with signs: what follows from equal units, and what fixes them."""

from __future__ import annotations

import numpy as np

from teleport_env.modules.units import Reason, Units, distinct_pairs

WHY = Reason("why", "place")


def labels(*entries: int) -> np.ndarray:
    return np.array(entries, dtype=np.int64)


def test_signs_go_through_chains() -> None:
    """c = -b and a = b make a = -c, whichever is the root."""
    units = Units(signed=True)
    a, b, c, d = units.fresh(4).tolist()
    units.join(labels(c), labels(-b), WHY)
    units.join(labels(a), labels(b), WHY)
    assert units.find(c) == -units.find(a) == -units.find(b)
    assert units.roots(labels(c, -c, d, 0)).tolist() == [-units.find(a), units.find(a), d, 0]


def test_a_unit_that_is_its_own_inverse_is_fixed_for_factors_alone() -> None:
    for signed in (True, False):
        units = Units(signed)
        a, b = units.fresh(2).tolist()
        units.join(labels(a), labels(b), WHY)
        units.join(labels(a), labels(-b), WHY)
        assert (units.reason(b) == WHY) == signed
        assert bool(units.roots(labels(b))[0]) != signed


def test_what_equals_a_fixed_unit_is_fixed_for_its_reason() -> None:
    units = Units(signed=True)
    a, b, c = units.fresh(3).tolist()
    assert units.reason(a) is None
    units.fix(labels(b), Reason("first"))
    units.fix(labels(b), Reason("second"))
    units.join(labels(a), labels(b), WHY)
    units.join(labels(c), labels(0), WHY)
    assert units.reason(a) == Reason("first")
    assert units.reason(c) == WHY
    assert not units.roots(labels(a, b, c)).any()


def test_distinct_pairs() -> None:
    one, other = distinct_pairs(labels(3, 1, 3, 1, 1), labels(-2, 5, -2, -5, 5))
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == [(1, -5), (1, 5), (3, -2)]
    assert not len(distinct_pairs(labels(), labels())[0])
