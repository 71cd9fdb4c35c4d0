"""Names, dicts, JSON and complaints."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar

import pytest
from search_cases import SEARCHES, problem_named

from teleport_env.searches import (
    KINDS,
    NAMED,
    ClosedForm,
    GradientAscent,
    MiniBatch,
    RandomSampling,
    Search,
    VirtualStep,
    kind,
    search_from,
    to_dict,
)
from teleport_env.searches.objectives import OBJECTIVES, objective_named


@pytest.mark.parametrize("search", [*NAMED.values(), *(search_from(spec) for spec in SEARCHES)], ids=repr)
def test_searches_survive_json(search: Search) -> None:
    again = search_from(json.loads(json.dumps(to_dict(search))))
    assert again == search
    assert type(again) is type(search)
    assert hash(again) == hash(search)


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_its_search(name: str) -> None:
    assert search_from(name) is NAMED[name]
    assert search_from({"search": name}) == NAMED[name]


def test_a_kind_by_its_name_is_its_default() -> None:
    """A name that is a kind too must not mean two things."""
    for name, cls in KINDS.items():
        assert search_from(name) == cls()


def test_settings_override_a_named_search() -> None:
    assert search_from({"search": "balance_weights", "trust_radius": 0.5}) == ClosedForm(
        objective="balance_weights", trust_radius=0.5
    )
    nested = search_from({"search": "mini_batch", "batches": 2, "inner": {"search": "random", "candidates": 3}})
    assert nested == MiniBatch(batches=2, inner=RandomSampling(candidates=3))
    assert search_from({"search": "virtual_step", "radii": [0.1, 0.2]}) == VirtualStep(radii=(0.1, 0.2))
    assert search_from(nested) is nested


@pytest.mark.parametrize("name", NAMED)
def test_searches_are_frozen(name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        NAMED[name].objective = "any"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_search", "one of 'gradient_ascent'.*'reset_optimizer'.*got 'no_such_search'"),
        ({"search": "no_such_search"}, "got 'no_such_search'"),
        ({"steps": 3}, "lacks the key 'search'"),
        ("gird", "got 'gird'. Did you mean 'grid'"),
        ({"search": "mini_batch", "inner": {"search": "Grid", "point": 3}}, "it has .*Did you mean 'points'"),
        ({"search": "grid", "angles": 3}, r"'grid' has no setting 'angles'; it has .*points"),
        ({"search": "gradient_ascent", "steps": 0}, "steps of search 'gradient_ascent' must be an integer.*got 0"),
        ({"search": "gradient_ascent", "steps": True}, "steps .* got True"),
        ({"search": "gradient_ascent", "steps": 2.5}, "steps .* got 2.5"),
        ({"search": "gradient_ascent", "rate": -1.0}, "rate .* positive number, got -1.0"),
        ({"search": "gradient_ascent", "rate": float("nan")}, "rate .* a number, got nan"),
        ({"search": "gradient_ascent", "rate": "fast"}, "rate .* a number, got 'fast'"),
        ({"search": "gradient_ascent", "start": "origin"}, "one of 'identity', 'random', got 'origin'"),
        ({"search": "gradient_ascent", "derivative": "exact"}, "'auto', 'hessian_free', 'double_backward', got"),
        ({"search": "gradient_ascent", "objective": "balance_weights"}, "one of 'gradient_norm', 'any', got"),
        ({"search": "gradient_ascent", "retract": 1}, "retract .* True or False, got 1"),
        ({"search": "gradient_ascent", "trust_radius": 0.0}, "trust_radius .* positive number, got 0.0"),
        ({"search": "gradient_ascent", "loss_tolerance": 0}, "loss_tolerance .* positive number, got 0"),
        ({"search": "normalized_ascent", "decay": 1.5}, "decay .* above 0 and at most 1, got 1.5"),
        ({"search": "random", "candidates": 4, "objective": "any"}, "candidates .* must be 1 for objective 'any'"),
        ({"search": "grid", "objective": "any"}, "objective of search 'grid' must be one of"),
        ({"search": "closed_form", "trust_radius": 1e3}, "at most 100, got 1000.0"),
        ({"search": "virtual_step", "radii": []}, "radii .* tuple of positive numbers, got"),
        ({"search": "virtual_step", "radii": [0.1, -0.1]}, "radii .* tuple of positive numbers, got"),
        ({"search": "virtual_step", "max_factor": 0.5}, "max_factor .* at least 1, got 0.5"),
        ({"search": "reset_optimizer", "resets_optimizer": False}, "must be True, got False"),
        ({"search": "mini_batch", "inner": "no_such_search"}, "got 'no_such_search'"),
    ],
)
def test_complaints_name_the_value_and_what_is_allowed(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_from(spec)


def test_something_else_is_no_search() -> None:
    with pytest.raises(ValueError, match="a search must be a name, a dict with the key 'search', or a Search, got 3"):
        search_from(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("search", "problem", "symmetry", "message"),
    [
        ("gradient_ascent", "LinearNetwork", "permutation", "discrete; use the search 'random'"),
        ("normalized_ascent", "LinearNetwork", "permutation", "discrete"),
        ("virtual_step", "LinearNetwork", "permutation", "discrete"),
        ("grid", "LinearNetwork", "scaling", r"circle of SO\(2\)"),
        ("grid", "Quadratic", "rotation", r"circle of SO\(2\)"),
        ("closed_form", "Rosenbrock", "rotation", "no closed form .* use the search 'normalized_ascent'"),
        ("balance_weights", "Booth", "rotation", "use objective 'gradient_norm' or 'balance_gradient'"),
        ("closed_form", "MLPRegression", "general_linear", "or symmetry 'scaling'"),
        ("relative", "MLPRegression", "general_linear", "use symmetry 'scaling'"),
        ("relative", "Rosenbrock", "rotation", "use another objective"),
        ("mini_batch", "MLPRegression", "scaling", "use its inner search 'gradient_ascent' by itself"),
        ("virtual_step", "LinearNetwork", "input_transform", "moves the data along"),
        (
            {"search": "gradient_ascent", "derivative": "hessian_free"},
            "MLPRegression",
            "general_linear_first_order",
            "use 'auto' or 'double_backward'",
        ),
    ],
)
def test_check_says_what_to_use_instead(search: Any, problem: str, symmetry: str, message: str) -> None:
    chosen = problem_named(problem)
    with pytest.raises(ValueError, match=message):
        search_from(search).check(chosen, chosen.symmetries[symmetry])


def test_users_register_their_own() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(GradientAscent):
        kind: ClassVar[str] = "mine"

    with pytest.raises(ValueError, match="not registered"):
        to_dict(Mine())
    try:
        kind(Mine)
        assert search_from(to_dict(Mine(steps=2))) == Mine(steps=2)

        @dataclass(frozen=True, kw_only=True)
        class Thief(GradientAscent):
            kind: ClassVar[str] = "mine"

        with pytest.raises(ValueError, match="the kind 'mine' is taken by Mine"):
            kind(Thief)
    finally:
        KINDS.pop("mine", None)


def test_every_setting_is_documented() -> None:
    own = {field.name for field in fields(Search)}
    for cls in KINDS.values():
        for field in fields(cls):
            if field.name not in own:
                assert f"{field.name}:" in (cls.__doc__ or ""), f"{cls.__name__}.{field.name}"


def test_objectives_are_found_by_name() -> None:
    for name, objective in OBJECTIVES.items():
        if objective is not None:
            assert objective_named(name) is objective
            assert objective.name == name
    for name in ("any", "steepness"):
        with pytest.raises(ValueError, match=f"a score must be one of 'gradient_norm'.*got {name!r}"):
            objective_named(name)
