"""A run that fails harms no other, and says what was wrong."""

from __future__ import annotations

import pytest
import torch
from search_cases import Case, cases, start_of, start_of_case
from torch import Tensor

from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.problems.booth import Booth
from teleport_env.searches import Search, Status, search_from
from teleport_env.symmetries.coordinate_change import CoordinateChange

IDS = [3, 1, 4, 15, 9, 2, 6]
BAD = 4
OTHERS = [row for row in range(len(IDS)) if row != BAD]

CASES = [case for case in cases() if case.search.kind != "reset_optimizer"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_diverged_run_is_not_finite_and_harms_nobody(case: Case) -> None:
    sound = case.search.find(start_of_case(case, IDS))
    start = start_of_case(case, IDS)
    start.params = start.params.clone()
    start.params[BAD] = torch.nan
    start.loss, start.gradient = case.problem.loss_and_gradient(start.params, start.instance)
    found = case.search.find(start)
    assert int(found.status[BAD]) == int(Status.NOT_FINITE)
    assert not bool(found.moved[BAD])
    assert float(found.rate_factor[BAD]) == 1.0
    for name in ("params", "loss", "gradient", "status", "loss_change"):
        assert torch.equal(getattr(found, name)[OTHERS], getattr(sound, name)[OTHERS]), name


class Faulty(CoordinateChange):
    """Booth's rotations, not given as affine, that fail where the run's id says: see `fault`."""

    def __init__(self, problem: Booth, fault: str) -> None:
        super().__init__(problem.forward, problem.backward, 2)
        self.fault = fault

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        moved = super().act(g, params, instance, batch)
        assert instance.ids is not None
        bad = (instance.ids == IDS[BAD])[:, None]
        if self.fault == "singular":
            return torch.where(bad, torch.nan, moved)
        return torch.where(bad, 1.01 * moved, moved)


FAULTY_SEARCHES: list[Search] = [
    search_from(spec)
    for spec in (
        {"search": "gradient_ascent", "rate": 1e-4, "steps": 3, "objective": "any"},
        {"search": "gradient_ascent", "rate": 1e-4, "steps": 3, "derivative": "double_backward", "objective": "any"},
        "normalized_ascent",
        "normalized_descent",
        {"search": "random", "candidates": 4},
        "random_element",
        "grid",
        "virtual_step",
        {"search": "virtual_step", "fit_rate": True},
    )
]


@pytest.mark.parametrize("search", FAULTY_SEARCHES, ids=lambda search: f"{search.kind}-{search.objective}")
@pytest.mark.parametrize(("fault", "status"), [("singular", Status.NOT_FINITE), ("leaks", Status.LOSS_MOVED)])
def test_a_faulty_element_is_rejected_for_its_run_alone(search: Search, fault: str, status: Status) -> None:
    problem = Booth()
    sound = search.find(start_of(problem, Faulty(problem, "none at all"), IDS[:BAD] + [100] + IDS[BAD + 1 :], 0.05))
    start = start_of(problem, Faulty(problem, fault), IDS, 0.05)
    found = search.find(start)
    assert int(found.status[BAD]) == int(status)
    assert torch.equal(found.params[BAD], start.params[BAD])
    assert torch.equal(found.loss[BAD], start.loss[BAD])
    assert float(found.rate_factor[BAD]) == 1.0
    assert float(found.loss_change[BAD].abs()) > 1e-6
    for name in ("params", "loss", "gradient", "status"):
        assert torch.equal(getattr(found, name)[OTHERS], getattr(sound, name)[OTHERS]), name
    assert bool(found.moved[OTHERS].any())


def test_a_sound_candidate_is_taken_in_place_of_a_better_one_that_leaks() -> None:
    """Of many candidates those that do not keep the loss rank below all others."""

    class LeaksUphill(Faulty):
        def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            moved = CoordinateChange.act(self, g, params, instance, batch)
            assert isinstance(g, Tensor)
            return torch.where(g[:, :1, 0] < 0, 3.0 * moved, moved)  # the far half of the circle

    problem = Booth()
    start = start_of(problem, LeaksUphill(problem, ""), IDS, 0.05)
    found = search_from("grid").find(start)
    assert bool(found.moved.any())
    assert int(Status.LOSS_MOVED) not in found.status.tolist()
    assert float(found.loss_change.abs().max()) < 1e-10


def test_a_start_at_the_minimum_stays() -> None:
    problem = Booth()
    start = start_of(problem, problem.symmetries["rotation"], IDS, 0.05)
    start.params = problem.minimum(start.instance)
    start.loss, start.gradient = torch.zeros_like(start.loss), torch.zeros_like(start.gradient)
    for name in ("normalized_ascent", "closed_form", "random", "grid"):
        found = search_from(name).find(start)
        assert not bool(found.moved.any()), name
        # rounding makes a loss of exactly zero a tiny one, which counts as moved
        assert set(found.status.tolist()) <= {int(Status.NO_GAIN), int(Status.LOSS_MOVED)}, name
