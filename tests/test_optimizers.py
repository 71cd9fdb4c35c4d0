"""The update rules: equal to torch's, row by row, and honest about what they evaluate."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import pytest
import torch
from torch import Tensor

from teleport_env.optimizers import OPTIMIZERS, Optimizer, State, Step, optimizer_from, row_dot

RULES = sorted(OPTIMIZERS)
LINE_SEARCHES = ["gd_line_search", "momentum_line_search"]

TORCH: list[tuple[dict[str, Any], Callable[..., torch.optim.Optimizer], dict[str, Any]]] = [
    ({"optimizer": "gd"}, torch.optim.SGD, {}),
    ({"optimizer": "momentum"}, torch.optim.SGD, {"momentum": 0.9}),
    (
        {"optimizer": "momentum", "momentum": 0.5, "nesterov": True},
        torch.optim.SGD,
        {"momentum": 0.5, "nesterov": True},
    ),
    ({"optimizer": "adagrad"}, torch.optim.Adagrad, {}),
    ({"optimizer": "rmsprop"}, torch.optim.RMSprop, {}),
    ({"optimizer": "rmsprop", "alpha": 0.9, "eps": 1e-3}, torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-3}),
    ({"optimizer": "adam"}, torch.optim.Adam, {}),
    ({"optimizer": "adam", "beta1": 0.5, "beta2": 0.9}, torch.optim.Adam, {"betas": (0.5, 0.9)}),
    ({"optimizer": "adam", "beta1": 0.0, "beta2": 0.0}, torch.optim.Adam, {"betas": (0.0, 0.0)}),
]


def rosenbrock(w: Tensor) -> Tensor:
    """Coupled Rosenbrock valleys over neighbouring parameters, elementwise so that rows stay apart."""
    left, right = w[:, :-1], w[:, 1:]
    terms = 100.0 * (left * left - right) * (left * left - right) + (left - 1.0) * (left - 1.0)
    return reduce(add, terms.unbind(1))


def with_gradient(loss: Callable[[Tensor], Tensor], params: Tensor) -> tuple[Tensor, Tensor]:
    w = params.detach().clone().requires_grad_(True)
    value = loss(w)
    (gradient,) = torch.autograd.grad(value.sum(), w)
    return value.detach(), gradient


class Counter:
    """`Step.evaluate` that writes down who was evaluated how often; to read the others' losses is a mistake it tempts to."""

    def __init__(self, loss: Callable[[Tensor], Tensor], count: int) -> None:
        self.loss = loss
        self.calls = 0
        self.evaluations = torch.zeros(count, dtype=torch.int64)
        self.trials: list[Tensor] = []

    def __call__(self, params: Tensor, where: Tensor) -> Tensor:
        assert where.dtype == torch.bool
        assert where.any(), "an evaluation for no run"
        self.calls += 1
        self.evaluations += where
        self.trials.append(params)
        out = params.new_full((len(params),), -torch.inf)
        out[where] = self.loss(params[where])
        return out


def step_of(
    params: Tensor,
    rate: Tensor | float,
    state: State,
    *,
    loss: Callable[[Tensor], Tensor] = rosenbrock,
    count: Tensor | None = None,
    mask: Tensor | None = None,
    evaluate: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Step:
    value, gradient = with_gradient(loss, params)
    size = len(params)
    rates = rate if isinstance(rate, Tensor) else params.new_full((size,), rate)
    counts = torch.zeros(size, dtype=torch.int64) if count is None else count
    return Step(params, value, gradient, rates, counts, state, mask, evaluate or Counter(loss, size))


def play(rule: Optimizer, params: Tensor, rates: Tensor, steps: int, start: Tensor) -> Tensor:
    """``steps`` updates on Rosenbrock valleys; row ``i`` joins at step ``start[i]``, as after a reset of its own."""
    state = rule.init(params)
    count = torch.zeros(len(params), dtype=torch.int64)
    for t in range(steps):
        mask = start <= t
        moved, new = rule.update(step_of(params, rates, state, count=count, mask=mask))
        params = torch.where(mask[:, None], moved, params)
        state = {k: torch.where(mask.reshape(-1, *[1] * (v.ndim - 1)), v, state[k]) for k, v in new.items()}
        count = count + mask
    return params


@pytest.mark.parametrize(
    ("spec", "factory", "settings"), TORCH, ids=lambda v: json.dumps(v) if isinstance(v, dict) else ""
)
def test_equals_torch_run_by_run(
    spec: dict[str, Any], factory: Callable[..., torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    """Every run, with its own rate and its own step count, ends where torch's optimizer ends alone."""
    steps, size, width = 50, 5, 6
    draw = torch.Generator().manual_seed(1)
    gradients = torch.randn(steps, size, width, dtype=torch.float64, generator=draw)
    start_params = torch.randn(size, width, dtype=torch.float64, generator=draw)
    rates = torch.tensor([1e-3, 0.1, 0.02, 1.0, 0.3], dtype=torch.float64)
    joins = torch.tensor([0, 7, 20, 3, 45])

    rule = optimizer_from(spec)
    params, state, count = start_params, rule.init(start_params), torch.zeros(size, dtype=torch.int64)
    for t in range(steps):
        mask = joins <= t
        evaluate = Counter(rosenbrock, size)
        moved, new = rule.update(Step(params, params.sum(1), gradients[t], rates, count, state, mask, evaluate))
        assert evaluate.calls == 0
        params = torch.where(mask[:, None], moved, params)
        state = {key: torch.where(mask[:, None], value, state[key]) for key, value in new.items()}
        count = count + mask

    for row in range(size):
        w = start_params[row].clone().requires_grad_(True)
        reference = factory([w], lr=rates[row].item(), **settings)
        for t in range(int(joins[row]), steps):
            w.grad = gradients[t, row].clone()
            reference.step()
        torch.testing.assert_close(params[row], w.detach(), rtol=1e-12, atol=1e-14)


def test_bias_correction_is_the_runs_own() -> None:
    """From a fresh mean the first update is as long as the rate; counted as the 31st it must be another."""
    rule = optimizer_from("adam")
    params = torch.zeros(2, 3, dtype=torch.float64)
    moved, _ = rule.update(step_of(params, 0.1, rule.init(params), count=torch.tensor([0, 30])))
    expected = 0.1 * (1 - 0.9) / (1 - 0.9**31) * ((1 - 0.999**31) / (1 - 0.999)) ** 0.5
    torch.testing.assert_close(moved[0, 0].item(), 0.1, rtol=1e-7, atol=0)
    torch.testing.assert_close(moved[1, 0].item(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("width", [2, 11, 300])
def test_rows_are_independent_bit_for_bit(name: str, width: int) -> None:
    draw = torch.Generator().manual_seed(2)
    params = 0.7 * torch.randn(7, width, dtype=torch.float64, generator=draw)
    rates = 10.0 ** (-4 - 2 * torch.rand(7, dtype=torch.float64, generator=draw))
    start = torch.tensor([0, 0, 3, 5, 0, 11, 1])
    together = play(optimizer_from(name), params, rates, 15, start)
    assert not torch.equal(together, params)
    transposed = play(optimizer_from(name), params.t().contiguous().t(), rates, 15, start)
    assert torch.equal(together, transposed), "depends on the memory layout"
    for row in range(7):
        alone = play(optimizer_from(name), params[row : row + 1], rates[row : row + 1], 15, start[row : row + 1])
        assert torch.equal(alone[0], together[row]), f"row {row}"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_state(name: str, dtype: torch.dtype) -> None:
    """The run's precision is kept, and the returned state is new memory that the caller may write into."""
    rule = optimizer_from(name)
    params = torch.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4)
    state = rule.init(params)
    before = {key: value.clone() for key, value in state.items()}
    step = step_of(params, 1e-3, state)
    gradient = step.gradient.clone()
    moved, new = rule.update(step)
    assert moved.dtype == dtype
    assert moved.shape == params.shape
    assert new.keys() == state.keys()
    for key, value in new.items():
        assert value.dtype == dtype
        assert value.shape == state[key].shape
        assert torch.equal(state[key], before[key]), "the old state was written to"
        assert not value.requires_grad
        value.fill_(7.0)
    assert torch.equal(step.gradient, gradient)
    assert torch.equal(step.params, params)
    assert all(torch.equal(state[key], before[key]) for key in state)


@pytest.mark.parametrize("name", RULES)
def test_a_zero_gradient_is_no_step(name: str) -> None:
    rule = optimizer_from(name)
    params = torch.ones(2, 4, dtype=torch.float64)  # the minimum of every valley
    counter = Counter(rosenbrock, 2)
    moved, state = rule.update(step_of(params, 0.5, rule.init(params), evaluate=counter))
    assert torch.equal(moved, params)
    assert counter.calls == 0
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200])
def test_a_broken_row_harms_nobody(name: str, bad: float) -> None:
    rule = optimizer_from(name)
    params = torch.tensor([[-1.0, 0.5], [bad, 1.0], [0.3, 2.0]], dtype=torch.float64)
    healthy = torch.tensor([0, 2])
    counter = Counter(rosenbrock, 3)
    moved, state = rule.update(step_of(params, 1e-3, rule.init(params), evaluate=counter))
    assert counter.evaluations[1] == 0, "it paid for a search that could not succeed"
    alone, alone_state = rule.update(step_of(params[healthy], 1e-3, rule.init(params[healthy])))
    assert torch.isfinite(alone).all()
    assert torch.equal(moved[healthy], alone)
    for key, value in state.items():
        assert torch.equal(value[healthy], alone_state[key])


# -- rules that find their own step ------------------------------------------------------------------------------------


def test_polyak_step() -> None:
    """On ``c |w|^2 + L*`` the step is half the way to the minimum whatever ``c``; the learning rate caps it."""
    curvature = torch.tensor([0.5, 3.0, 100.0], dtype=torch.float64)
    params = torch.tensor([[3.0, -4.0]], dtype=torch.float64).repeat(3, 1)

    def loss(w: Tensor) -> Tensor:
        return curvature * (w * w).sum(1) + 2.0

    rule = optimizer_from({"optimizer": "polyak", "target_loss": 2.0})
    moved, _ = rule.update(step_of(params, 10.0, {}, loss=loss))
    torch.testing.assert_close(moved, params / 2, rtol=1e-14, atol=0)
    capped, _ = rule.update(step_of(params, 1e-3, {}, loss=loss))
    torch.testing.assert_close(capped[1], params[1] * (1 - 2 * 3.0 * 1e-3), rtol=1e-14, atol=0)
    torch.testing.assert_close(capped[2], params[2] * (1 - 2 * 100.0 * 1e-3), rtol=1e-14, atol=0)
    free = optimizer_from({"optimizer": "polyak", "target_loss": 2.0, "capped": False})
    assert torch.equal(free.update(step_of(params, 1e-3, {}, loss=loss))[0], moved)
    beyond = optimizer_from({"optimizer": "polyak", "target_loss": 1e9})
    assert torch.equal(beyond.update(step_of(params, 1.0, {}, loss=loss))[0], params)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e-310, 1e200])
def test_normalized_step_is_as_long_as_the_rate(scale: float) -> None:
    """Also where the squared norm of the gradient underflows or overflows."""
    gradient = scale * torch.tensor([[3.0, -4.0], [0.0, 1.0]], dtype=torch.float64)
    params, rates = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([5.0, 2.0], dtype=torch.float64)
    rule = optimizer_from("normalized_gd")
    zeros = torch.zeros(2)
    step = Step(params, zeros, gradient, rates, zeros.to(torch.int64), {}, None, Counter(rosenbrock, 2))
    moved, _ = rule.update(step)
    expected = torch.tensor([[-3.0, 4.0], [0.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=0)


# -- line searches -----------------------------------------------------------------------------------------------------


def half_square(w: Tensor) -> Tensor:
    return 0.5 * (w * w).sum(1)


def test_line_search_halves_until_the_loss_decreases_enough() -> None:
    """On ``|w|^2 / 2`` a rate ``t`` is accepted exactly where ``t <= 2 (1 - armijo)``: the halvings are known."""
    params = torch.tensor([[1.0, 2.0], [-3.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    rates = torch.tensor([0.5, 5.0, 1.9], dtype=torch.float64)
    rule = optimizer_from({"optimizer": "gd_line_search", "armijo": 0.25})
    counter = Counter(half_square, 3)
    moved, state = rule.update(step_of(params, rates, rule.init(params), loss=half_square, evaluate=counter))
    assert counter.evaluations.tolist() == [1, 3, 2]  # 0.5 | 5, 2.5, 1.25 | 1.9, 0.95
    assert state["factor"].tolist() == [1.0, 0.25, 0.5]
    torch.testing.assert_close(moved, params * torch.tensor([[0.5], [-0.25], [0.05]], dtype=torch.float64))
    assert torch.equal(counter.trials[0], params * (1 - rates)[:, None]), (
        "the first trial is at the learning rate itself"
    )

    counter = Counter(half_square, 3)
    rule.update(step_of(moved, rates, state, loss=half_square, evaluate=counter))
    assert counter.evaluations.tolist() == [1, 2, 2]  # 1.0 | 2.5, 1.25 | 1.9, 0.95: growth doubles what was accepted


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_line_search_keeps_armijos_promise(name: str) -> None:
    """Every step taken decreases the loss by the promised share; plain descent at this rate does not."""
    rule = optimizer_from(name)
    draw = torch.Generator().manual_seed(3)
    params = torch.randn(6, 4, dtype=torch.float64, generator=draw)
    state = rule.init(params)
    first = rosenbrock(params)
    for _ in range(40):
        step = step_of(params, 1.0, state)
        params, state = rule.update(step)
        assert (rosenbrock(params) < step.loss).all()
    assert (rosenbrock(params) < 0.1 * first).all()
    assert not (rosenbrock(optimizer_from("gd").update(step_of(params, 1.0, {}))[0]) < rosenbrock(params)).all()


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_line_search_evaluates_the_masked_runs_alone(name: str) -> None:
    rule = optimizer_from(name)
    params = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mask = torch.tensor([True, False, True, False, True])
    state = rule.init(params)
    counter, everyone = Counter(rosenbrock, 5), Counter(rosenbrock, 5)
    moved, new = rule.update(step_of(params, 1.0, state, mask=mask, evaluate=counter))
    reference, reference_state = rule.update(step_of(params, 1.0, state, evaluate=everyone))
    assert counter.evaluations[~mask].tolist() == [0, 0]
    assert torch.equal(counter.evaluations[mask], everyone.evaluations[mask])
    assert torch.equal(moved[mask], reference[mask])
    assert torch.equal(moved[~mask], params[~mask])
    for key, value in new.items():
        assert torch.equal(value[mask], reference_state[key][mask])
    nobody = Counter(rosenbrock, 5)
    rule.update(step_of(params, 1.0, state, mask=torch.zeros(5, dtype=torch.bool), evaluate=nobody))
    assert nobody.calls == 0


@pytest.mark.parametrize("name", LINE_SEARCHES)
@pytest.mark.parametrize(("loss", "entry"), [(torch.nan, 1.0), (-torch.inf, 1.0), (1.0, 1e200), (1.0, torch.nan)])
def test_a_search_that_cannot_succeed_is_not_begun(name: str, loss: float, entry: float) -> None:
    rule = optimizer_from(name)
    params = torch.ones(2, 3, dtype=torch.float64)
    step = step_of(params, 0.1, rule.init(params), loss=half_square)
    step.loss[0], step.gradient[0] = loss, entry
    moved, _ = rule.update(step)
    assert step.evaluate.evaluations.tolist() == [0, 1]  # type: ignore[attr-defined]
    assert torch.equal(moved[0], params[0])


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_a_failed_search_takes_no_step_and_resumes(name: str) -> None:
    """A loss above its start everywhere else, whatever the gradient says: no trial can be accepted."""
    rule = optimizer_from({"optimizer": name, "max_halvings": 3})
    params = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    counter = Counter(lambda w: half_square(w) + 1e6 * (w[:, 0] < 2), 2)  # the first run starts on the wrong side
    step = step_of(params, 0.1, rule.init(params), loss=half_square, evaluate=counter)
    moved, state = rule.update(step)
    assert counter.evaluations.tolist() == [4, 1]
    assert torch.equal(moved[0], params[0])
    assert not torch.equal(moved[1], params[1])
    assert state["factor"][0] * rule.growth == 1.0 / 8.0, "the next search begins at the last rate tried"  # type: ignore[attr-defined]
    if name == "momentum_line_search":
        assert torch.equal(state["velocity"][0], torch.zeros(2, dtype=torch.float64))
        assert torch.equal(state["velocity"][1], step.gradient[1])


def test_the_factor_survives_any_number_of_failures_and_successes() -> None:
    rule = optimizer_from("gd_line_search")
    params = torch.ones(2, 1, dtype=torch.float64)
    state = rule.init(params)
    for _ in range(120):
        step = step_of(params, 1e-3, state, loss=half_square)
        # the first run's loss rises everywhere, the second's falls everywhere
        step.evaluate = lambda w, where: torch.tensor([1e9, -1e300], dtype=torch.float64)
        _, state = rule.update(step)
    assert torch.isfinite(state["factor"]).all()
    assert (state["factor"] > 0).all()


def test_momentum_line_search_goes_along_the_momentum_or_restarts() -> None:
    rule = optimizer_from("momentum_line_search")
    params = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    state = rule.init(params)
    state["velocity"] = torch.tensor([[1.0, 1.0], [-5.0, 1.0]], dtype=torch.float64)  # with the gradient, against it
    moved, new = rule.update(step_of(params, 0.1, state, loss=half_square))
    expected = torch.tensor([[1.9, 0.9], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(new["velocity"], expected)
    torch.testing.assert_close(moved, params - 0.1 * expected)


# -- names and settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_rules_by_name_and_dict(name: str) -> None:
    rule = optimizer_from(name)
    assert type(rule) is OPTIMIZERS[name]
    assert rule.name == name
    assert optimizer_from(rule) is rule
    settings = dataclasses.asdict(rule)  # type: ignore[call-overload]
    assert optimizer_from(json.loads(json.dumps({"optimizer": name, **settings}))) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("adamw", "one of 'gd', 'momentum'.*'momentum_line_search'.*got 'adamw'. Did you mean 'adam'"),
        ({"optimizer": ["gd"]}, r"one of 'gd'.*got \['gd'\]"),
        ({"beta1": 0.5}, "names no optimizer.*'adam'"),
        ({"optimizer": "adam", "betas": 1}, "no setting 'betas'; it has beta1, beta2, eps"),
        ({"optimizer": "gd", "momentum": 0.9}, "no setting 'momentum'; it has none"),
        (
            {"optimizer": "momentum", "momentum": 1.0},
            "momentum of optimizer 'momentum' must be a finite number of at least 0 and below 1, got 1.0",
        ),
        ({"optimizer": "adam", "eps": 0.0}, "eps of optimizer 'adam' must be a positive number, got 0.0"),
        ({"optimizer": "adam", "beta2": -0.1}, "beta2"),
        ({"optimizer": "rmsprop", "alpha": 2}, "alpha"),
        (
            {"optimizer": "polyak", "target_loss": float("nan")},
            "target_loss of optimizer 'polyak' must be a number, got nan",
        ),
        ({"optimizer": "gd_line_search", "armijo": 1.0}, "armijo .* above 0 and below 1"),
        ({"optimizer": "gd_line_search", "growth": 0.5}, "growth"),
        ({"optimizer": "momentum_line_search", "max_halvings": 2.5}, "max_halvings .* must be an integer"),
        ({"optimizer": "momentum_line_search", "momentum": -1.0}, "momentum"),
    ],
)
def test_errors_say_what_exists(spec: str | dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        optimizer_from(spec)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="an optimizer must be a name, a dict with the key 'optimizer', .*, got 3"):
        optimizer_from(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 8, 9, 4096, 10_000, 50_000])
def test_row_dot(width: int) -> None:
    """The same bits alone and in company, in either layout, and with several threads sharing a long row."""
    a, b = torch.randn(2, 7, width, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    together = row_dot(a, b)
    torch.testing.assert_close(together, (a * b).sum(1), rtol=1e-11, atol=1e-11)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(row_dot(a.t().contiguous().t(), b), together)
        for row in range(7):
            assert torch.equal(row_dot(a[row : row + 1], b[row : row + 1])[0], together[row])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("inner", ["gd", "momentum"])
def test_layer_rates_are_a_rate_for_each_block_bit_for_bit(inner: str) -> None:
    """Each block goes where the inner rule takes it at its own rate; factors of 1 change no bit."""
    sizes, factors = (1, 3, 2), (1.0, 0.3, 4.0)
    rule = optimizer_from({"optimizer": "layer_rates", "sizes": sizes, "factors": factors, "inner": inner})
    alone = optimizer_from(inner)
    generator = torch.Generator().manual_seed(1)
    params = torch.randn(5, 6, dtype=torch.float64, generator=generator)
    state, states = rule.init(params), [alone.init(params) for _ in factors]
    blocks = [slice(0, 1), slice(1, 4), slice(4, 6)]
    expected = params.clone()
    rate = torch.full((5,), 0.05, dtype=torch.float64)
    for number in range(4):
        gradient = torch.randn(5, 6, dtype=torch.float64, generator=generator)

        def step(at: Tensor, along: Tensor, kept: State, count: int = number) -> Step:
            counts = torch.full((5,), count)
            return Step(at, torch.zeros(5), along, rate, counts, kept, None, lambda params, where: torch.zeros(5))

        params, state = rule.update(step(params, gradient, state))
        following = expected.clone()
        for index, (block, factor) in enumerate(zip(blocks, factors, strict=True)):
            moved, states[index] = alone.update(step(expected, gradient * factor, states[index]))
            following[:, block] = moved[:, block]
        expected = following
        assert torch.equal(params, expected)
    ones = optimizer_from({"optimizer": "layer_rates", "sizes": sizes, "factors": (1.0,) * 3, "inner": inner})
    first = step(params, gradient, alone.init(params))
    assert torch.equal(ones.update(first)[0], alone.update(first)[0])


def test_layer_rates_that_fit_no_parameters_are_refused() -> None:
    rule = optimizer_from({"optimizer": "layer_rates", "sizes": (2, 3), "factors": (1.0, 2.0)})
    with pytest.raises(ValueError, match="add up to 6"):
        rule.init(torch.zeros(1, 6))
    for settings, match in (
        ({"sizes": (2, 3), "factors": (1.0,)}, "as many as sizes"),
        ({"sizes": (2, 0), "factors": (1.0, 1.0)}, "a size of layer_rates"),
        ({"sizes": (2,), "factors": (-1.0,)}, "a factor of layer_rates"),
        ({"inner": "adam"}, "one of 'gd', 'momentum', got 'adam'"),
        ({"sizes": "12", "factors": (1.0, 1.0)}, "sizes .* must be a list of integers, got '12'"),
    ):
        with pytest.raises(ValueError, match=match):
            optimizer_from({"optimizer": "layer_rates", **settings})
