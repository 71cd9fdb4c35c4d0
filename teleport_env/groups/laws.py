"""The laws of a group, each a function that says whether it holds and if not, where.

`group_laws` goes over all of them; it serves users who write a group of their own and the tests of this project alike.
A law is checked on random elements, a third of which lie about 1e-7 from the identity, where series and divisions by
small numbers go wrong, and the others up to a length of three in ``xi``. All of it in float64. Rows must be independent
bit for bit: row ``i`` of seven is computed again alone, and a difference in the last bit is a failure.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, map_element, parts, select, single
from teleport_env.groups.law_cases import (
    HOLDS,
    NEAR,
    Case,
    Verdict,
    check_laws,
    contained,
    same_alone,
    same_bits,
    spoiled_rows,
)
from teleport_env.random import key_of

Law = Callable[[Case], Verdict]


def _first_failure(*verdicts: Verdict) -> Verdict:
    return next((verdict for verdict in verdicts if not verdict.ok), HOLDS)


# -- the axioms --------------------------------------------------------------------------------------------------------


def identity_is_neutral(case: Case) -> Verdict:
    """``e a = a = a e``."""
    a, e = case.element("a"), case.identity()
    compose = case.group.compose
    return _first_failure(case.equal(compose(e, a), a, "e a is not a"), case.equal(compose(a, e), a, "a e is not a"))


def composition_is_associative(case: Case) -> Verdict:
    """``(a b) c = a (b c)``."""
    a, b, c = case.element("a"), case.element("b"), case.element("c")
    compose = case.group.compose
    return case.equal(compose(compose(a, b), c), compose(a, compose(b, c)), "(a b) c is not a (b c)")


def inverse_undoes(case: Case) -> Verdict:
    """``a^-1 a = e = a a^-1``."""
    a, e = case.element("a"), case.identity()
    inverse, compose = case.group.inverse(a), case.group.compose
    one, other = compose(inverse, a), compose(a, inverse)
    return _first_failure(case.equal(one, e, "a^-1 a is not e"), case.equal(other, e, "a a^-1 is not e"))


def inverse_reverses_products(case: Case) -> Verdict:
    """``(a b)^-1 = b^-1 a^-1``."""
    a, b = case.element("a"), case.element("b")
    inverse, compose = case.group.inverse, case.group.compose
    return case.equal(inverse(compose(a, b)), compose(inverse(b), inverse(a)), "(a b)^-1 is not b^-1 a^-1")


def operations_stay_in_the_group(case: Case) -> Verdict:
    """The identity, samples, products, inverses, exponentials and retractions are elements, by `Group.contains`."""
    group = case.group
    a, b = case.element("a"), case.element("b")
    candidates = {
        "the identity": case.identity(),
        "a sample": group.sample(case.streams),
        "a product": group.compose(a, b),
        "an inverse": group.inverse(a),
    }
    if group.continuous:
        candidates["an exponential"] = a
        candidates["a retraction"] = group.retract(case.coordinates("xi", length=1.5))
    for what, element in candidates.items():
        inside = group.contains(element)
        if inside.shape != (case.count,):
            return Verdict(False, f"contains answers with shape {tuple(inside.shape)} instead of ({case.count},)")
        if not bool(inside.all()):
            return Verdict(False, f"{what} is outside the group in row {int((~inside).nonzero()[0])} of {case.count}")
    return HOLDS


def matrices_are_a_homomorphism(case: Case) -> Verdict:
    """``M(e) = 1``, ``M(a b) = M(a) M(b)`` and ``M(a^-1) M(a) = 1``."""
    group = case.group
    a, b = case.element("a"), case.element("b")
    matrices, of_a, of_b = group.as_matrices, group.as_matrices(a), group.as_matrices(b)
    one = map_element(lambda m: torch.eye(m.shape[-1], dtype=m.dtype, device=m.device).expand_as(m), of_a)
    return _first_failure(
        case.equal(matrices(case.identity()), one, "M(e) is not 1"),
        case.equal(matrices(group.compose(a, b)), map_element(torch.matmul, of_a, of_b), "M(a b) is not M(a) M(b)"),
        case.equal(map_element(torch.matmul, matrices(group.inverse(a)), of_a), one, "M(a^-1) M(a) is not 1"),
    )


# -- the exponential ---------------------------------------------------------------------------------------------------


def exp_of_zero_is_the_identity(case: Case) -> Verdict:
    """``exp(0) = e`` and ``retract(0) = e``, exactly. Discrete groups instead: exp raises TypeError."""
    group = case.group
    zero = torch.zeros(case.count, group.dim, dtype=torch.float64, device="cpu")
    if not group.continuous:
        try:
            group.exp(zero)
        except TypeError:
            return HOLDS
        return Verdict(False, "the group has dim 0, so exp must raise TypeError, and it does not")
    for what, element in {"exp(0)": group.exp(zero), "retract(0)": group.retract(zero)}.items():
        if not same_bits(element, case.identity()):
            return Verdict(False, f"{what} is not exactly the identity")
    return HOLDS


def exp_of_minus_xi_is_the_inverse(case: Case) -> Verdict:
    """``exp(-xi) = exp(xi)^-1``."""
    group, xi = case.group, case.coordinates("xi")
    return case.equal(group.exp(-xi), group.inverse(group.exp(xi)), "exp(-xi) is not the inverse of exp(xi)")


def exp_is_additive_along_a_line(case: Case) -> Verdict:
    """``exp((s + t) xi) = exp(s xi) exp(t xi)``."""
    group, xi = case.group, case.coordinates("xi")
    s, t = case.streams.fork(key_of("s and t")).uniform(-1.0, 1.0, (2, 1)).unbind(dim=1)
    product = group.compose(group.exp(s * xi), group.exp(t * xi))
    return case.equal(group.exp((s + t) * xi), product, "exp((s + t) xi) is not exp(s xi) exp(t xi)")


def retract_agrees_to_first_order(case: Case) -> Verdict:
    """``retract(h xi) - exp(h xi)`` is of second order: halving ``h`` quarters it at least, up to rounding."""
    group, xi = case.group, case.coordinates("xi", length=0.2)
    errors = []
    for h in (1.0, 0.5):
        pairs = zip(parts(group.retract(h * xi)), parts(group.exp(h * xi)), strict=True)
        errors.append(torch.stack([(a - b).abs().flatten(1).amax(dim=1) for a, b in pairs]).amax(dim=0))
    right = errors[1] <= errors[0] / 3.0 + 1e-14
    if bool(right.all()):
        return HOLDS
    row = int((~right).nonzero()[0])
    first, second = float(errors[0][row]), float(errors[1][row])
    return Verdict(False, f"retract is off exp by {first:.3g}, and by {second:.3g} at half of xi, in row {row}")


def exp_is_twice_differentiable(case: Case) -> Verdict:
    """First and second derivatives of ``exp`` at 0, at 1e-7 and far away are what central differences say."""
    group = case.group
    direction = case.coordinates("direction", length=1.0)
    direction = direction / direction.square().sum(dim=1, keepdim=True).sqrt()
    streams = case.streams.fork(key_of("weights"))
    weights = [streams.normal(tuple(part.shape[1:])) for part in parts(case.identity())]

    def value(xi: Tensor) -> Tensor:
        pairs = zip(weights, parts(group.exp(xi)), strict=True)
        return torch.stack([(w * part).flatten(1).sum(dim=1) for w, part in pairs]).sum(dim=0)

    def derivatives(xi: Tensor) -> tuple[Tensor, Tensor]:
        """Of `value` along ``direction``: first and second, each ``(B,)``."""
        with torch.enable_grad():
            leaf = xi.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(value(leaf).sum(), leaf, create_graph=True)
            first = (gradient * direction).sum(dim=1)
            if not first.requires_grad:  # the exponential of the algebra of translations, say, is linear
                return first, torch.zeros_like(first)
            (second,) = torch.autograd.grad(first.sum(), leaf)
        return first.detach(), (second * direction).sum(dim=1)

    step = 1e-5
    far = case.coordinates("xi")
    for where, point in {"0": torch.zeros_like(far), "1e-7": NEAR * direction, "xi": far}.items():
        first, second = derivatives(point)
        ahead, behind = point + step * direction, point - step * direction
        with torch.no_grad():
            slope = (value(ahead) - value(behind)) / (2.0 * step)
        bend = (derivatives(ahead)[0] - derivatives(behind)[0]) / (2.0 * step)
        for order, got, wanted in (("first", first, slope), ("second", second, bend)):
            right = (got - wanted).abs() <= 1e-6 * wanted.abs().clamp_min(1.0)  # false for NaN
            if not bool(right.all()):
                row = int((~right).nonzero()[0])
                numbers = f"{float(got[row]):.8g}, and by central differences {float(wanted[row]):.8g}"
                return Verdict(False, f"the {order} derivative of exp at {where} is {numbers}, in row {row}")
    return HOLDS


# -- rows --------------------------------------------------------------------------------------------------------------


def rows_are_independent(case: Case) -> Verdict:
    """Every operation gives a row the same numbers, bit for bit, alone and among others."""
    group = case.group
    a, b = case.element("a"), case.element("b")
    operations: dict[str, Callable[[Tensor], Element]] = {
        "compose": lambda rows: group.compose(select(a, rows), select(b, rows)),
        "inverse": lambda rows: group.inverse(select(a, rows)),
        "as_matrices": lambda rows: group.as_matrices(select(a, rows)),
        "sample": lambda rows: group.sample(case.streams.select(rows)),
        "sample at scale 0.1": lambda rows: group.sample(case.streams.select(rows), scale=0.1),
        "identity": lambda rows: group.identity(len(rows)),
    }
    if group.continuous:
        xi = case.coordinates("xi")
        operations["exp"] = lambda rows: group.exp(xi[rows])
        operations["retract"] = lambda rows: group.retract(0.5 * xi[rows])
    return same_alone(operations, case.count)


def broken_rows_harm_nobody(case: Case) -> Verdict:
    """A row of NaN makes nothing raise, stays visibly broken, and leaves the bits of the other rows alone."""
    group = case.group
    a, b = case.element("a"), case.element("b")
    if not all(part.is_floating_point() for part in parts(a)):
        return HOLDS  # integers cannot be NaN
    operations: dict[str, tuple[Callable[[], Element], Callable[[], Element]]] = {
        "compose": (lambda: group.compose(spoiled_rows(a, torch.nan), b), lambda: group.compose(a, b)),
        "inverse": (lambda: group.inverse(spoiled_rows(a, torch.nan)), lambda: group.inverse(a)),
    }
    if group.continuous:
        xi = case.coordinates("xi", length=1.0)
        broken_xi = single(spoiled_rows(xi, torch.nan))
        operations["exp"] = (lambda: group.exp(broken_xi), lambda: group.exp(xi))
        operations["retract"] = (lambda: group.retract(broken_xi), lambda: group.retract(xi))
    return contained(operations, torch.nan)


def scale_zero_samples_the_identity(case: Case) -> Verdict:
    """``sample(scale=0)`` is the identity."""
    return case.equal(case.group.sample(case.streams, scale=0.0), case.identity(), "sample(scale=0) is not e")


def precision_is_kept(case: Case) -> Verdict:
    """float32 in, float32 out, and the numbers of float64 up to its rounding. Integer elements stay integers."""
    group = case.group
    candidates = {
        "identity": (group.identity(case.count, torch.float32), case.identity()),
        "sample": (
            group.sample(case.streams.fork(0), scale=0.1, dtype=torch.float32),
            group.sample(case.streams.fork(0), scale=0.1),
        ),
    }
    if group.continuous:
        xi = case.coordinates("xi", length=1.0).to(torch.float32)
        single, double = group.exp(xi), group.exp(xi.to(torch.float64))
        candidates["exp"] = (single, double)
        candidates["inverse"] = (group.inverse(single), group.inverse(double))
        candidates["compose"] = (group.compose(single, single), group.compose(double, double))
        half = 0.5 * xi
        candidates["retract"] = (group.retract(half), group.retract(half.to(torch.float64)))
    loose = Case(group, case.seed, case.count, tolerance=1e-4)
    for name, (got, wanted) in candidates.items():
        for part, target in zip(parts(got), parts(wanted), strict=True):
            expected = torch.float32 if target.is_floating_point() else target.dtype
            if part.dtype != expected:
                return Verdict(False, f"{name} gives {part.dtype} where {expected} was asked for")
        verdict = loose.equal(map_element(lambda part: part.to(torch.float64), got), wanted, f"{name} in float32")
        if not verdict.ok:
            return verdict
    return HOLDS


AXIOMS: tuple[Law, ...] = (
    identity_is_neutral,
    composition_is_associative,
    inverse_undoes,
    inverse_reverses_products,
    operations_stay_in_the_group,
    matrices_are_a_homomorphism,
    exp_of_zero_is_the_identity,
    rows_are_independent,
    broken_rows_harm_nobody,
    scale_zero_samples_the_identity,
    precision_is_kept,
)
"""Laws of every group."""

LIE_LAWS: tuple[Law, ...] = (
    exp_of_minus_xi_is_the_inverse,
    exp_is_additive_along_a_line,
    retract_agrees_to_first_order,
    exp_is_twice_differentiable,
)
"""Laws of a group with an exponential."""


def laws_of(group: Group) -> tuple[Law, ...]:
    """The laws that apply to a group."""
    return AXIOMS + LIE_LAWS if group.continuous else AXIOMS


def group_laws(group: Group, seed: int = 0, count: int = 7) -> list[tuple[str, bool, str]]:
    """Check all laws of a group (`check_laws`); for each its name, whether it holds, and if not, why.

    Args:
        group: The group.
        seed: Seed of the random elements.
        count: Number of elements ``B``.
    """
    return check_laws(laws_of(group), lambda: Case(group, seed, count))
