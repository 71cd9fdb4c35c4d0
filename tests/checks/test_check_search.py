"""`check_search` is able to fail: searches that worsen, leak, lie, undercharge, or let runs meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from checks.bowl import Products

from teleport_env.checks import CheckFailed, check_search
from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches import KINDS, Candidate, Found, Search, Start, kind
from teleport_env.symmetries.base import Symmetry


@dataclass(frozen=True, kw_only=True)
class Nearby(Search):
    """A sound search to break: one random element."""

    kind = "nearby_for_tests"
    scale: float = 0.3

    def propose(self, start: Start) -> Candidate:
        g = start.symmetry.group.sample(start.streams, self.scale, start.params.dtype)
        params = start.symmetry.act(g, start.params, start.instance, start.batch)
        loss, gradient = start.evaluator.loss_and_gradient(params)
        start_score, score = start.gradient.square().sum(1), gradient.square().sum(1)
        return Candidate(params, loss, gradient, score=score, start_score=start_score, element=g)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return Counts(gradient=1.0)


class Worsens(Nearby):
    """Descends where the objective asks for ascent."""

    def propose(self, start: Start) -> Candidate:
        found = super().propose(start)
        assert found.score is not None
        assert found.start_score is not None
        return replace(found, score=-found.score, start_score=-found.start_score)


class Leaks(Nearby):
    """Takes a gradient step and calls it a teleport, past the rules of `find`."""

    def find(self, start: Start) -> Found:
        found = super().find(start)
        params = torch.where(found.moved[:, None], found.params - 1e-3 * found.gradient, found.params)
        loss, gradient = start.evaluator.problem.loss_and_gradient(params, start.instance, start.batch)
        return replace(found, params=params, loss=loss, gradient=gradient)


class LiesAboutTheLoss(Nearby):
    def propose(self, start: Start) -> Candidate:
        found = super().propose(start)
        return replace(found, params=found.params * 1.01, loss=start.loss)


class CarriesAStaleGradient(Nearby):
    def propose(self, start: Start) -> Candidate:
        return replace(super().propose(start), gradient=start.gradient, score=None)


class Undercharges(Nearby):
    """Evaluates behind the evaluator's back."""

    def propose(self, start: Start) -> Candidate:
        start.evaluator.problem.loss(start.params, start.instance, start.batch)
        return super().propose(start)


class UnderchargesGradients(Nearby):
    def propose(self, start: Start) -> Candidate:
        start.evaluator.problem.loss_and_gradient(start.params, start.instance, start.batch)
        return super().propose(start)


class UnderchargesAutograd(Nearby):
    def propose(self, start: Start) -> Candidate:
        w = start.params.clone().requires_grad_(True)
        start.evaluator.problem.loss(w, start.instance, start.batch)
        return super().propose(start)


class Overcharges(Nearby):
    def propose(self, start: Start) -> Candidate:
        start.evaluator.loss(start.params)
        return super().propose(start)


class Priceless(Nearby):
    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return Counts(gradient=float("inf"))


class MeetsOthers(Nearby):
    """One draw for all runs: the average of the rows."""

    def propose(self, start: Start) -> Candidate:
        found = super().propose(start)
        assert found.score is not None
        return replace(found, start_score=found.score.mean().expand_as(found.score) - 1.0)


class SharesRandomNumbers(Nearby):
    def propose(self, start: Start) -> Candidate:
        drawn = torch.Generator().manual_seed(0)
        xi = 0.3 * torch.randn(len(start), start.symmetry.group.dim, generator=drawn, dtype=torch.float64)
        g = start.symmetry.group.exp(xi.flip(0))
        params = start.symmetry.act(g, start.params, start.instance)
        return Candidate(params, *start.evaluator.loss_and_gradient(params))


class ChargesByTheCrowd(Nearby):
    def propose(self, start: Start) -> Candidate:
        start.evaluator.charge(Counts(flops=float(len(start))))
        return super().propose(start)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return Counts(gradient=1.0, flops=100.0)


class OverwritesTheStart(Nearby):
    def propose(self, start: Start) -> Candidate:
        start.params.mul_(1.0)
        start.gradient.zero_()
        return super().propose(start)


class ProposesWithAGraph(Nearby):
    def propose(self, start: Start) -> Candidate:
        found = super().propose(start)
        return replace(found, params=found.params.clone().requires_grad_(True))


class KeepsTheGraph(Nearby):
    def find(self, start: Start) -> Found:
        found = super().find(start)
        return replace(found, params=found.params.clone().requires_grad_(True))


class RaisesOnNaN(Nearby):
    def propose(self, start: Start) -> Candidate:
        torch.linalg.eigvalsh(start.gradient[:, :, None] * start.gradient[:, None, :])
        return super().propose(start)


class MovesTheBroken(Nearby):
    def find(self, start: Start) -> Found:
        found = super().find(start)
        broken = torch.isnan(start.loss)
        return replace(found, moved=found.moved | broken, status=torch.where(broken, 1, found.status))


class MovesInSecret(Nearby):
    def find(self, start: Start) -> Found:
        found = super().find(start)
        return replace(found, moved=torch.zeros_like(found.moved))


class Stays(Nearby):
    def propose(self, start: Start) -> Candidate:
        found = super().propose(start)
        return replace(found, start_score=torch.full_like(start.loss, torch.inf))


class Crashes(Nearby):
    def propose(self, start: Start) -> Candidate:
        raise RuntimeError("no such luck")


BROKEN: dict[type[Nearby], str] = {
    Worsens: r"it moved row \d to a worse point: gradient_norm scores .* there and .* at the start",
    Leaks: r"the loss of row \d changed by .* more than 1e-06.*symmetry.act",
    LiesAboutTheLoss: r"found.loss is .* in row \d, and the loss at found.params",
    CarriesAStaleGradient: r"found.gradient is off the gradient at found.params .* in row \d",
    Undercharges: r"it made 5 forward evaluations of 5 runs, and charged 0.*start.evaluator",
    UnderchargesGradients: r"it made 10 gradient evaluations of 5 runs, and charged 5",
    UnderchargesAutograd: r"it made 10 gradient evaluations of 5 runs, and charged 5",
    Overcharges: r"a run was charged 1 \(forward\), and price says at most 0",
    Priceless: r"price is inf",
    MeetsOthers: r"it moved row|found\.\w+: row \d is",
    SharesRandomNumbers: r"found.params: row 0 is .* alone and .* among 5.*start.streams",
    ChargesByTheCrowd: r"row 0 is charged 1 \(flops\) alone and 5 among 5",
    OverwritesTheStart: r"find writes into its start",
    KeepsTheGraph: r"found.params is .* with a graph",
    RaisesOnNaN: r"find with one run of NaN raised",
    MovesTheBroken: r"it moved a run of NaN",
    MovesInSecret: r"found.moved and found.status disagree",
    Crashes: r"find raised RuntimeError: no such luck",
}


def test_a_graph_ends_where_a_proposal_is_judged() -> None:
    assert "never worsens its objective 'gradient_norm'" in check_search(ProposesWithAGraph(), Products()).passed


def test_a_sound_search() -> None:
    report = check_search(Nearby(), Products())
    assert "never worsens its objective 'gradient_norm'" in report.passed
    (note,) = report.notes
    assert note.startswith("it cannot be written as JSON")


@pytest.mark.parametrize("search", BROKEN, ids=lambda search: search.__name__)
def test_a_broken_search(search: Any) -> None:
    with pytest.raises(CheckFailed, match=BROKEN[search]) as caught:
        check_search(search(objective="any") if search is SharesRandomNumbers else search(), Products())
    assert str(caught.value).startswith(f"search {search.__name__} on Products with symmetry 'squeeze': ")


class Anonymous(Nearby):
    """Carries loss and gradient over, and does not say by which element it moved."""

    def propose(self, start: Start) -> Candidate:
        g = start.symmetry.group.sample(start.streams, self.scale, start.params.dtype)
        params = start.symmetry.act(g, start.params, start.instance, start.batch)
        return Candidate(params, start.loss, start.symmetry.gradient_after(g, start.gradient, start.instance))


def test_moved_data_need_the_element() -> None:
    """The engine cannot move the data along with the weights unless it knows by what."""
    with pytest.raises(CheckFailed, match="'input_transform' moves data, and found.element is None"):
        check_search(Anonymous(objective="any"), "LinearNetwork", "input_transform")
    assert check_search(Anonymous(objective="any"), "LinearNetwork", "general_linear").passed


def test_one_run_is_too_few() -> None:
    with pytest.raises(ValueError, match="count must be at least 2"):
        check_search(Nearby(), Products(), count=1)


def test_settings_that_do_not_survive_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "listed_for_tests", Nearby)

    @kind
    @dataclass(frozen=True, kw_only=True)
    class Listed(Nearby):
        kind = "tuple_for_tests"
        radii: object = (0.1,)  # an annotation that the reader of settings cannot follow

    try:
        with pytest.raises(CheckFailed, match="after a way to JSON and back .*Turn lists back into tuples"):
            check_search(Listed(), Products())
    finally:
        del KINDS["tuple_for_tests"]


def test_an_unknown_objective_is_noted() -> None:
    report = check_search(Nearby(objective="beauty"), Products())
    assert any("the objective 'beauty' is not one of" in note for note in report.notes)


def test_a_search_that_never_moves_is_noted() -> None:
    report = check_search(Stays(), Products())
    assert [note for note in report.notes if note.startswith("no run moved") and "NO_GAIN" in note]
