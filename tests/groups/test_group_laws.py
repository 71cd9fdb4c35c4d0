"""Every law over every built-in group, and for every law a group that breaks it."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teleport_env.groups import BUILT_IN, GL, SO, SO2, Group, Permutations, PositiveScaling, Product
from teleport_env.groups import laws as laws_module
from teleport_env.groups.base import Element
from teleport_env.groups.laws import AXIOMS, LIE_LAWS, Case, Law, group_laws, laws_of
from teleport_env.random import Streams

PAIRS = [(group, law) for group in BUILT_IN for law in laws_of(group)]


def pair_id(value: object) -> str:
    return repr(value) if isinstance(value, Group) else getattr(value, "__name__", repr(value))


@pytest.mark.parametrize(("group", "law"), PAIRS, ids=pair_id)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), count=st.sampled_from([1, 2, 7, 16]))
def test_law(group: Group, law: Law, seed: int, count: int) -> None:
    verdict = law(Case(group, seed, count))
    assert verdict.ok, f"{group!r}: {verdict.reason}"


def test_a_third_of_the_coordinates_lie_near_the_identity() -> None:
    norms = Case(SO(3), 0, 3000).coordinates("xi").norm(dim=1)
    assert 0.30 < float((norms < 1e-6).double().mean()) < 0.37
    assert float((norms[norms >= 1e-6] > 1.5).double().mean()) > 0.4
    assert float(norms.max()) < 3.0


def test_every_law_of_the_module_is_registered() -> None:
    written = {
        name
        for name, value in vars(laws_module).items()
        if callable(value)
        and getattr(value, "__module__", "") == laws_module.__name__
        and not name.startswith("_")
        and name not in {"laws_of", "group_laws"}
    }
    assert written == {law.__name__ for law in AXIOMS + LIE_LAWS}


def test_group_laws_reports_every_law_by_name() -> None:
    results = group_laws(GL(2), seed=3)
    assert [name for name, _, _ in results] == [law.__name__ for law in AXIOMS + LIE_LAWS]
    assert all(ok and reason == "" for _, ok, reason in results)
    assert len(group_laws(Permutations(3))) == len(AXIOMS)


# -- laws that are broken on purpose -----------------------------------------------------------------------------------


class NotNeutral(GL):
    def identity(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        return 2.0 * super().identity(count, dtype, device)


class NotAssociative(GL):
    def compose(self, second: Element, first: Element) -> Tensor:
        assert isinstance(first, Tensor)
        product = super().compose(second, first)
        return product + product @ (first - self.identity(len(first), first.dtype)) @ product


class FirstOrderInverse(GL):
    """The published shortcut: the inverse of 1 + T taken for 1 - T."""

    def inverse(self, element: Element) -> Tensor:
        assert isinstance(element, Tensor)
        return 2.0 * self.identity(len(element), element.dtype) - element


class TransposedOrder(Permutations):
    def compose(self, second: Element, first: Element) -> Tensor:
        return super().compose(first, second)


class InverseOfAnOrthogonalMatrix(GL):
    def inverse(self, element: Element) -> Tensor:
        assert isinstance(element, Tensor)
        return element.mT.contiguous()


class Drifting(SO):
    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        return (1.0 + 1e-6) * super().sample(streams, scale, dtype)


class InexactAtZero(PositiveScaling):
    def exp(self, xi: Tensor) -> Tensor:
        return torch.exp(xi) + 1e-16 + torch.finfo(torch.float64).eps


class FirstOrderExponential(GL):
    def exp(self, xi: Tensor) -> Tensor:
        return self.identity(len(xi), xi.dtype) + self.algebra(xi)


class HalfRetraction(SO):
    def retract(self, xi: Tensor) -> Tensor:
        return super().retract(0.999 * xi)


class RodriguesWithoutCare(SO):
    """The textbook formula with a guard at zero: right values, NaN derivatives where every ascent starts."""

    def exp(self, xi: Tensor) -> Tensor:
        matrix = self.algebra(xi)
        angle = xi.norm(dim=1)[:, None, None]
        one = self.identity(len(xi), xi.dtype)
        full = one + torch.sin(angle) / angle * matrix + (1 - torch.cos(angle)) / angle**2 * (matrix @ matrix)
        return torch.where(angle > 0, full, one)


class LookedUpExponential(PositiveScaling):
    """Right values and first derivatives; the second are silently zero."""

    def exp(self, xi: Tensor) -> Tensor:
        value = torch.exp(xi).detach()
        return value + value * (xi - xi.detach())


class ProductAlongTheBatch(PositiveScaling):
    def compose(self, second: Element, first: Element) -> Tensor:
        product = super().compose(second, first)
        return product + 1e-16 * product.mean(dim=0)


class TorchExponential(GL):
    """torch.matrix_exp picks another routine for one matrix than for several."""

    def exp(self, xi: Tensor) -> Tensor:
        return torch.matrix_exp(self.algebra(xi))


class RaisingInverse(GL):
    def inverse(self, element: Element) -> Tensor:
        assert isinstance(element, Tensor)
        if not bool(torch.isfinite(element).all()):
            raise RuntimeError("singular")
        return super().inverse(element)


class HidingInverse(GL):
    def inverse(self, element: Element) -> Tensor:
        return torch.nan_to_num(super().inverse(element))


class ScaleIsIgnored(SO2):
    def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
        return super().sample(streams, 1.0, dtype)


class AlwaysDouble(SO2):
    def exp(self, xi: Tensor) -> Tensor:
        return super().exp(xi.to(torch.float64))


class TransposedMatrices(GL):
    def as_matrices(self, element: Element) -> Tensor:
        return super().as_matrices(element).mT


class SilentDiscrete(Permutations):
    def exp(self, xi: Tensor) -> Tensor:
        return self.identity(len(xi))


BROKEN: list[tuple[Group, str]] = [
    (NotNeutral(2), "identity_is_neutral"),
    (NotAssociative(2), "composition_is_associative"),
    (FirstOrderInverse(3), "inverse_undoes"),
    (InverseOfAnOrthogonalMatrix(3), "inverse_undoes"),
    (FirstOrderInverse(3), "inverse_reverses_products"),
    (TransposedOrder(5), "matrices_are_a_homomorphism"),
    (TransposedMatrices(3), "matrices_are_a_homomorphism"),
    (Drifting(3), "operations_stay_in_the_group"),
    (InexactAtZero(3), "exp_of_zero_is_the_identity"),
    (SilentDiscrete(3), "exp_of_zero_is_the_identity"),
    (FirstOrderExponential(3), "exp_of_minus_xi_is_the_inverse"),
    (FirstOrderExponential(3), "exp_is_additive_along_a_line"),
    (HalfRetraction(3), "retract_agrees_to_first_order"),
    (RodriguesWithoutCare(3), "exp_is_twice_differentiable"),
    (LookedUpExponential(3), "exp_is_twice_differentiable"),
    (ProductAlongTheBatch(3), "rows_are_independent"),
    (TorchExponential(4), "rows_are_independent"),
    (RaisingInverse(3), "broken_rows_harm_nobody"),
    (HidingInverse(3), "broken_rows_harm_nobody"),
    (ScaleIsIgnored(), "scale_zero_samples_the_identity"),
    (AlwaysDouble(), "precision_is_kept"),
]


@pytest.mark.parametrize(("group", "law"), BROKEN, ids=lambda v: type(v).__name__ if isinstance(v, Group) else v)
def test_a_broken_law_is_found_and_explained(group: Group, law: str) -> None:
    verdicts = {name: (ok, reason) for name, ok, reason in group_laws(group, seed=1)}
    ok, reason = verdicts[law]
    assert not ok
    assert reason


def test_every_law_is_shown_to_fail() -> None:
    assert {law for _, law in BROKEN} == {law.__name__ for law in AXIOMS + LIE_LAWS}


def test_a_check_that_raises_counts_as_broken() -> None:
    class Raising(SO2):
        def compose(self, second: Element, first: Element) -> Tensor:
            raise ArithmeticError("no product today")

    verdicts = {name: (ok, reason) for name, ok, reason in group_laws(Raising())}
    assert verdicts["identity_is_neutral"] == (False, "ArithmeticError: no product today")


def test_wrong_shapes_are_named() -> None:
    class Wide(SO2):
        def sample(self, streams: Streams, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
            return super().sample(streams, scale, dtype).repeat(1, 1, 2)

    verdicts = {name: (ok, reason) for name, ok, reason in group_laws(Wide())}
    reason = verdicts["scale_zero_samples_the_identity"][1]
    assert "shape (7, 2, 4) instead of (7, 2, 2)" in reason


# -- groups as values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", BUILT_IN, ids=repr)
def test_groups_are_values(group: Group) -> None:
    copy = pickle.loads(pickle.dumps(group))
    assert copy == group
    assert hash(copy) == hash(group)
    assert (copy.name, copy.dim, copy.exp_flops) == (group.name, group.dim, group.exp_flops)
    assert eval(repr(group)) == group
    assert group.continuous == (group.dim > 0)


def test_different_groups_differ() -> None:
    assert len(set(BUILT_IN)) == len(BUILT_IN)
    assert SO(2) != SO2()  # the same rotations, but coordinates of the opposite sign
    with pytest.raises(AttributeError):
        SO(3).n = 4  # type: ignore[misc]


MAKERS: list[tuple[Callable[[object], Group], int]] = [(SO, 2), (GL, 1), (PositiveScaling, 1), (Permutations, 1)]  # type: ignore[list-item]


@pytest.mark.parametrize(("make", "least"), MAKERS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_bad_size_is_named(make: Callable[[object], Group], least: int) -> None:
    for bad in (least - 1, -3):
        with pytest.raises(ValueError, match=rf"of at least {least}, got {bad}"):
            make(bad)
    for wrong in (2.5, "3", True, None):
        with pytest.raises(ValueError, match="must be an integer"):
            make(wrong)
    assert make(torch.tensor(3)) == make(3)


@pytest.mark.parametrize("group", BUILT_IN, ids=repr)
@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_a_bad_scale_is_refused(group: Group, scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be a finite number of at least 0"):
        group.sample(Streams.from_seeds([1, 2]), scale=scale)


@pytest.mark.parametrize("group", [g for g in BUILT_IN if g.continuous], ids=repr)
def test_wrong_coordinates_are_refused(group: Group) -> None:
    for shape in ((2, group.dim + 1), (group.dim,)):
        with pytest.raises(ValueError, match=rf"must have shape \(B, {group.dim}\)"):
            group.exp(torch.zeros(shape))


def test_a_tuple_given_to_a_plain_group_is_explained() -> None:
    pair = Product(GL(2), GL(2)).identity(3)
    with pytest.raises(TypeError, match=r"a tuple of 2, which belongs to a Product"):
        GL(2).inverse(pair)


@pytest.mark.parametrize("group", BUILT_IN, ids=repr)
def test_empty_batches_pass_through(group: Group) -> None:
    none = group.identity(0)
    assert group.contains(group.inverse(group.compose(none, none))).shape == (0,)
    if group.continuous:
        xi = torch.zeros(0, group.dim, dtype=torch.float64)
        assert group.contains(group.exp(xi)).shape == group.contains(group.retract(xi)).shape == (0,)


def test_contains_of_the_base_asks_for_finite_numbers() -> None:
    @dataclass(frozen=True)
    class Plain(GL):
        contains = Group.contains

    element = torch.eye(2).repeat(2, 1, 1)
    element[1, 0, 0] = torch.inf
    assert Plain(2).contains(element).tolist() == [True, False]
