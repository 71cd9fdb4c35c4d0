"""One search on several mini-batches, and Algorithm 2, which steps in between."""

from __future__ import annotations

import pytest
import torch
from search_cases import BatchedSquares, Pairings, parts, problem_named, same_bits, start_with_batches

from counting import CountingProblem
from teleport_env.groups.base import where
from teleport_env.problems.base import Evaluator
from teleport_env.searches import MiniBatch, NormalizedAscent, RandomSampling, ResetOptimizer, Start, Status

IDS = [4, 0, 7, 2, 9, 1, 3]
INNER = {"search": "normalized_ascent", "steps": 2, "radius": 0.2}


def by_hand(start: Start, batches: int, inner: NormalizedAscent) -> torch.Tensor:
    """Every batch's own teleport, one after the other."""
    problem, params = start.evaluator.problem, start.params
    assert start.batches is not None
    for offset in range(batches):
        batch = start.batches(offset)
        loss, gradient = problem.loss_and_gradient(params, start.instance, batch)
        evaluator = Evaluator(problem, start.instance, batch)
        found = inner.find(Start(params, loss, gradient, start.learning_rate, start.symmetry, evaluator, start.streams))
        params = found.params
    return params


def test_it_is_one_teleport_after_the_other() -> None:
    start = start_with_batches(IDS)
    found = MiniBatch(batches=3, inner=INNER).find(start)
    inner = MiniBatch(inner=INNER).inner
    torch.testing.assert_close(found.params, by_hand(start_with_batches(IDS), 3, inner), rtol=0.0, atol=0.0)
    assert isinstance(start.batches, Pairings)
    assert start.batches.asked == [0, 1, 2]


def test_loss_and_gradient_come_back_to_the_current_batch() -> None:
    start = start_with_batches(IDS)
    found = MiniBatch(batches=3, inner=INNER).find(start)
    loss, gradient = start.evaluator.problem.loss_and_gradient(found.params, start.instance, start.batch)
    assert bool(found.moved.all())
    torch.testing.assert_close(found.loss, loss)
    torch.testing.assert_close(found.gradient, gradient)
    # exact on every batch it used, and yet the current batch's loss has moved under the later ones
    assert float(found.loss_change.abs().max()) < 1e-10
    assert float((found.loss / start.loss - 1).abs().max()) > 1e-3


def test_one_batch_is_the_inner_search() -> None:
    found = MiniBatch(batches=1, inner=INNER).find(start_with_batches(IDS))
    inner = MiniBatch(inner=INNER).inner.find(start_with_batches(IDS))
    assert torch.equal(found.params, inner.params)
    assert torch.equal(found.status, inner.status)
    torch.testing.assert_close(found.loss, inner.loss)


def test_the_ledger_is_an_independent_count() -> None:
    counted = CountingProblem(BatchedSquares())
    start = start_with_batches(IDS, counted)
    search = MiniBatch(batches=4, inner=INNER)
    search.find(start)
    # a gradient on each of the three new batches, two in each inner search, one to come back
    assert counted.evaluations().gradient == len(IDS) * (3 + 4 * 2 + 1)
    booked = parts(start.evaluator.counts, len(IDS))
    price = search.price(counted, start.symmetry)
    for name in ("forward", "gradient", "hessian_vector"):
        assert float(booked[name].sum()) == getattr(counted.evaluations(), name)
        assert bool((booked[name] == getattr(price, name)).all())


def test_rows_are_independent_bit_for_bit() -> None:
    search = MiniBatch(batches=3, inner={"search": "random", "candidates": 3, "scale": 0.1})
    together = search.find(start_with_batches(IDS))
    for row, identity in enumerate(IDS):
        assert same_bits(together, row, search.find(start_with_batches([identity])))


def test_elements_compose_over_the_accepted_moves() -> None:
    found = MiniBatch(batches=3, inner={"search": "random_element", "scale": 0.3}).find(start_with_batches(IDS))
    start = start_with_batches(IDS)
    product = start.symmetry.group.identity(len(IDS))
    for _ in range(3):
        product = start.symmetry.group.compose(start.symmetry.group.sample(start.streams, 0.3), product)
    assert isinstance(found.element, torch.Tensor)
    assert isinstance(product, torch.Tensor)
    torch.testing.assert_close(found.element, product)


def test_a_rejected_move_leaves_no_trace_in_the_element() -> None:
    inner = RandomSampling(candidates=1, scale=0.5)
    found = MiniBatch(batches=4, inner=inner).find(start_with_batches(IDS))
    start = start_with_batches(IDS)
    assert start.batches is not None
    problem, group, params = start.evaluator.problem, start.symmetry.group, start.params
    product, accepted = group.identity(len(IDS)), []
    for offset in range(4):
        evaluator = Evaluator(problem, start.instance, start.batches(offset))
        loss, gradient = problem.loss_and_gradient(params, start.instance, evaluator.batch)
        one = inner.find(Start(params, loss, gradient, start.learning_rate, start.symmetry, evaluator, start.streams))
        assert one.element is not None
        product = where(one.moved, group.compose(one.element, product), product)
        params = one.params
        accepted.append(one.moved)
    late = torch.stack(accepted)[1:].any(dim=0) & ~accepted[0]
    assert bool(late.any())  # some runs reject their first move and accept a later one
    assert isinstance(found.element, torch.Tensor)
    assert isinstance(product, torch.Tensor)
    torch.testing.assert_close(found.element[found.moved], product[found.moved])


def test_nothing_accepted_is_nothing_moved() -> None:
    """The status is the current batch's; the run pays all the same."""
    start = start_with_batches(IDS)
    search = MiniBatch(batches=2, inner=RandomSampling(candidates=1, scale=1e-300, objective="gradient_norm"))
    found = search.find(start)
    assert not bool(found.moved.any())
    assert set(found.status.tolist()) == {int(Status.NO_GAIN)}
    assert torch.equal(found.params, start.params)
    assert torch.equal(found.loss, start.loss)
    assert bool((parts(start.evaluator.counts, len(IDS))["gradient"] == 4).all())


def test_a_failing_row_harms_nobody() -> None:
    sound = MiniBatch(batches=2, inner=INNER).find(start_with_batches(IDS))
    start = start_with_batches(IDS)
    start.params[2] = torch.nan
    start.loss, start.gradient = start.evaluator.problem.loss_and_gradient(start.params, start.instance, start.batch)
    found = MiniBatch(batches=2, inner=INNER).find(start)
    assert int(found.status[2]) == int(Status.NOT_FINITE)
    others = [row for row in range(len(IDS)) if row != 2]
    assert torch.equal(found.params[others], sound.params[others])


def test_without_mini_batches_it_says_so() -> None:
    problem = problem_named("MLPRegression")
    with pytest.raises(ValueError, match=r"needs mini-batches, which MLPRegression does not have"):
        MiniBatch().check(problem, problem.symmetries["scaling"])
    start = start_with_batches(IDS)
    start.batches = None
    with pytest.raises(ValueError, match=r"Start\.batches"):
        MiniBatch().find(start)


def test_the_inner_search_is_checked() -> None:
    problem = BatchedSquares()
    with pytest.raises(ValueError, match="closed form"):
        MiniBatch(inner="closed_form").check(problem, problem.symmetries["turn"])
    MiniBatch(inner="normalized_ascent").check(problem, problem.symmetries["turn"])
    with pytest.raises(ValueError, match="cannot be a 'mini_batch' itself"):
        MiniBatch(inner=MiniBatch())
    with pytest.raises(ValueError, match="inner of search"):
        MiniBatch(inner=3)
    assert MiniBatch(inner=ResetOptimizer()).objective == "any"
