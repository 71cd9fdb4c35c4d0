"""A schedule in a loop of one's own decides and moves as in the environment, and the optimizer's state moves along."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from teleport_env import ModuleProblem
from teleport_env.agents import Teleporter, agent_from
from teleport_env.agents.policies.learned import LearnedSchedule
from teleport_env.agents.transport import Transport
from teleport_env.envs.features import INDEX
from teleport_env.instances import Instance
from teleport_env.modules import find_symmetries
from teleport_env.searches.pair_algebra import solve

OUTER = {"searches": ["balance_weights"]}


def at_steps(*steps: int, **environment: Any) -> Any:
    return agent_from("at_steps", steps=steps, environment={**OUTER, **environment})


def network(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 7), nn.LeakyReLU(0.1), nn.Linear(7, 3)).to(dtype)


def examples(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(8, n, generator=generator, dtype=torch.float64).to(dtype) for n in (5, 3))
    return x, y


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum()


def train(model: nn.Module, optimizer: Any, teleporter: Teleporter | None, steps: int) -> list[float]:
    x, y = examples(next(model.parameters()).dtype)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = squared(model(x), y)
        loss.backward()
        losses.append(loss.item())
        if teleporter is not None:
            teleporter.observe(loss)
        optimizer.step()
    return losses


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# -- the environment's trajectory --------------------------------------------------------------------------------------


class Watched:
    """A schedule, with what it saw and did."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.environment = agent, agent.environment
        self.seen: list[np.ndarray] = []
        self.done: list[int] = []

    def predict(self, observation: np.ndarray, **others: Any) -> Any:
        action, state = self.agent.predict(observation, **others)
        self.seen.append(observation[0].copy())
        self.done.append(int(action[0]))
        return action, state


SCHEDULES: dict[str, Callable[[], Any]] = {
    "relative_decrease": lambda: agent_from("relative_decrease", environment={"rate_factors": (1.0,)}),
    "every": lambda: agent_from("every", k=7),
    "stall": lambda: agent_from("stall", threshold=0.2, which=1),
    "accept_if_better": lambda: agent_from("accept_if_better", which=2),
    "learned": lambda: LearnedSchedule.pretrained("generalist_seven").for_problem("MLPRegression"),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_loop_is_the_environment(name: str) -> None:
    agent, steps = SCHEDULES[name](), 300 if name == "learned" else 60
    settings = {"split": "test", **agent.environment, "budget": steps + 1, "symmetry": "scaling"}
    env = gym.make("Teleport/MLPRegression-v0", **settings).unwrapped
    observation, info = env.reset(seed=3, options={"instance_id": 5})
    runs = env.episodes.runs if hasattr(env, "episodes") else env._episodes.runs
    problem, instance = runs.problem, runs.instance
    model = nn.Sequential(
        *(nn.Linear(5, 6, bias=False), nn.LeakyReLU(0.1), nn.Linear(6, 7, bias=False), nn.LeakyReLU(0.1)),
        nn.Linear(7, 8, bias=False),
    ).double()
    nn.utils.vector_to_parameters(runs.params[0].clone(), model.parameters())
    x, y = (instance[key][0].T.contiguous() for key in ("inputs", "targets"))

    state, begins, over = None, True, False
    seen, done, infos = [], [], []
    while not over:
        action, state = agent.predict(observation[None], state, np.array([begins]))
        begins = False
        seen.append(observation.copy())
        done.append(int(action[0]))
        observation, _, terminated, truncated, info = env.step(done[-1])
        over = terminated or truncated
        infos.append(info)

    watched = Watched(agent)
    optimizer = torch.optim.SGD(model.parameters(), lr=env.settings.learning_rate)
    teleporter = Teleporter(
        model,
        optimizer,
        watched,
        symmetry=problem.symmetries["scaling"],
        searches=env.settings.searches,
        steps=steps,
        tolerance=env.settings.tolerance,
        gradient_flops=problem.gradient_flops(instance),
    )
    losses = []
    for _ in range(infos[-1]["step"]):
        optimizer.zero_grad()
        loss = squared(model(x), y)
        loss.backward()
        losses.append(loss.item())
        teleporter.observe(loss, again=(lambda: squared(model(x), y)) if name == "learned" else None)
        optimizer.step()
    assert watched.done == done
    assert infos[-1]["teleports"] == sum(row["moved"] for row in teleporter.history) > 0
    np.testing.assert_allclose(np.array(watched.seen), np.array(seen), atol=2e-6)
    known = {info["step"]: info["loss"] for info in infos[:-1]}
    found = [losses[step] for step in known]
    np.testing.assert_allclose(found, list(known.values()), rtol=1e-12, atol=1e-12 * losses[0])
    np.testing.assert_allclose(weights(model), runs.params[0], rtol=1e-12, atol=1e-12)


def test_without_an_end_a_schedule_sees_the_same_budget_ahead() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watched = Watched(at_steps(2, 5))
    train(model, optimizer, Teleporter(model, optimizer, watched), 8)
    left = [row[INDEX["budget_left"]] for row in watched.seen]
    assert len(set(left)) == 1
    assert left[0] > 0.99
    assert watched.done.count(1) == 2


def test_a_schedule_is_named_with_settings() -> None:
    found = []
    for schedule in (
        'every:k=3,offset=2,searches=["balance_weights"]',
        agent_from("every", k=3, offset=2, environment=OUTER),
    ):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        teleporter = Teleporter(model, optimizer, schedule)
        train(model, optimizer, teleporter, 9)
        found.append(teleporter.history)
    assert found[0] == found[1]
    assert [row["step"] for row in found[0]] == [2, 5, 8]


BLIND: dict[str, dict[str, Any]] = {
    "every": {"k": 3, "retry": True, "least_steps": 4},
    "at_steps": {"steps": (0, 4, 4, 9)},
    "first": {"k": 2},
    "never": {},
}


@pytest.mark.parametrize(("steps", "rate"), [(None, 1e-3), (20, 1e-3), (None, 0.0)])
@pytest.mark.parametrize("name", BLIND)
def test_a_schedule_that_reads_no_losses_decides_alike_without_them(name: str, steps: int | None, rate: float) -> None:
    """At a rate of zero all teleports but the first are refused, which a schedule may answer."""
    best = {"search": "closed_form", "objective": "balance_weights", "sweeps": 2 if rate else 60}
    agent = agent_from(name, **BLIND[name], environment={"searches": [best]})
    assert agent.blind
    found = []
    for schedule in (agent, Watched(agent)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        teleporter = Teleporter(model, optimizer, schedule, steps=steps)
        for _ in range(20):
            train(model, optimizer, teleporter, 1)
            falling.step()
        left = [
            INDEX[entry]
            for entry in (
                "budget_left",
                "log_budget_left",
                "price",
                "refused",
                "since_teleport",
                "teleport_gain",
                "teleports",
            )
        ]
        found.append((weights(model), teleporter.history, teleporter.features[0, left]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert len(found[0][1]) > 1 or name == "never"
    assert rate or name == "never" or any("refused" in row["status"] for row in found[0][1])
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_a_teleport_that_the_budget_cannot_pay_is_not_made() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = agent_from("cycle", pattern=(1, 0), environment=OUTER)
    teleporter = Teleporter(model, optimizer, schedule, steps=5, gradient_flops=1.0)
    before = weights(model)
    with pytest.warns(UserWarning, match="no teleport will come"):
        train(model, optimizer, teleporter, 1)
    (row,) = teleporter.history
    assert row["status"] == "refused: the budget cannot pay for it"
    assert torch.equal(weights(model), before)


def test_a_blind_schedule_sees_that_a_run_diverges() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e3)
    teleporter = Teleporter(model, optimizer, agent_from("every", k=4, offset=4, environment=OUTER))
    train(model, optimizer, teleporter, 8)
    assert teleporter.diverged
    assert teleporter.history == []


def both_ways(make: Callable[[], nn.Module], symmetry: str, searches: list[Any] | None) -> float:
    """The largest relative difference of losses in 12 steps of environment and loop, with teleports at 0, 5 and 10."""
    x, y = (torch.randn(64, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 3))
    problem = ModuleProblem(make(), F.mse_loss, (x, y), learning_rate=0.05, budget=201, start="keep")
    menu = {} if searches is None else {"searches": searches}
    env = gym.make("Teleport/Module-v0", problem=problem, dtype=torch.float64, symmetry=symmetry, **menu)
    env.reset(seed=4)
    played = []
    for step in range(12):
        if step % 5 == 0:
            env.step(1)
        played.append(env.step(0)[-1]["loss"])
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = agent_from("at_steps", steps=(0, 5, 10))
    teleporter = Teleporter(model, optimizer, schedule, searches=searches, symmetry=symmetry, steps=200, seed=4)
    losses = []
    for _ in range(13):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        losses.append(loss.item())
        teleporter.observe(loss, again=lambda: F.mse_loss(model(x), y))
        optimizer.step()
    assert [row["moved"] for row in teleporter.history] == [True] * 3
    return float(np.abs(np.array(losses[1:]) / np.array(played) - 1.0).max())


def pair(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, width), nn.Linear(width, 3)).double()


@pytest.mark.parametrize("searches", [None, ["balance_weights"], ["virtual_step"], ["relative"]], ids=str)
def test_under_matrices_a_loop_is_the_environment(searches: Any) -> None:
    assert both_ways(lambda: pair(3), "general_linear", searches) < 1e-12


def test_closed_forms_of_matrices_magnify_rounding_where_units_outnumber_outputs() -> None:
    """Gram matrices of 8 units and 3 outputs have rank 3: the minimum lies at infinity, and rounding picks the basis."""
    assert 1e-9 < both_ways(lambda: pair(8), "general_linear", None) < 1e-3
    assert both_ways(lambda: pair(8), "general_linear", ["virtual_step"]) < 1e-12
    changes = {}
    for width in (3, 8):
        x, y = examples()
        model = pair(width)
        squared(model(x), y).backward()
        lower = torch.cat([model[0].weight.grad, model[0].bias.grad[:, None]], dim=1)
        upper = model[1].weight.grad
        rounded = lower + 1e-16 * lower.abs().max() * torch.randn(lower.shape, dtype=torch.float64)
        one, other = (
            solve("balance_gradient", (g @ g.T)[None], (upper.T @ upper)[None], 1.0) for g in (lower, rounded)
        )
        changes[width] = float((one.element() - other.element()).abs().max())
    assert changes[3] < 1e-11
    assert changes[8] > 1e-4


def test_random_elements_are_those_of_an_environment_of_that_seed() -> None:
    assert both_ways(network, "scaling", ["random_element"]) < 1e-12


# -- the optimizer's state ---------------------------------------------------------------------------------------------


def fed(
    kind: Any, settings: dict[str, Any], factors: list[Tensor] | None, count: int = 6, size: float = 1.0
) -> tuple[Any, list[Any], Any]:
    """Steps by given gradients, divided by the factors: the state that they leave, and the gradients."""
    model = network()
    optimizer = kind(model.parameters(), **settings)
    generator = torch.Generator().manual_seed(2)
    gradients = []
    for _ in range(count):
        for index, p in enumerate(model.parameters()):
            drawn = size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.grad = drawn if factors is None else drawn / factors[index]
        gradients.append([p.grad.clone() for p in model.parameters()])
        optimizer.step()
    return optimizer, gradients, model


def moved_after_steps(kind: Any, settings: dict[str, Any], size: float = 1.0) -> tuple[Any, list[Tensor], list[Any]]:
    """The same with a teleport right before step 6: the optimizer, the factor of every weight, gradients before it."""
    optimizer, gradients, model = fed(kind, settings, None, size=size)
    symmetry = find_symmetries(model, examples()[0]).symmetries["scaling"]
    element = tuple(torch.linspace(0.5, 2.0, n, dtype=torch.float64)[None] for n in (6, 7))
    params = list(model.parameters())
    transport = Transport(symmetry, element, params, torch.float64)
    teleporter = Teleporter(model, optimizer)
    ones = torch.ones(1, sum(p.numel() for p in params), dtype=torch.float64)
    flat = symmetry.act(element, ones, Instance(ones))[0]
    factors = [part.view(p.shape) for part, p in zip(flat.split([p.numel() for p in params]), params, strict=True)]
    transport.move_state(optimizer, teleporter._roles)
    teleporter.remove()
    return optimizer, factors, gradients


def weighted(gradients: list[Any], index: int, decay: float, power: int, factor: Tensor) -> Tensor:
    """``sum_k decay^(t - k) (g_k / F)^power``."""
    count = len(gradients)
    return sum(decay ** (count - 1 - k) * (gradients[k][index] / factor) ** power for k in range(count))


CLOSED_FORMS: dict[str, tuple[Any, dict[str, Any], dict[str, Callable[..., Tensor]]]] = {
    "momentum": (
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9},
        {"momentum_buffer": lambda g, i, f: weighted(g, i, 0.9, 1, f)},
    ),
    "Adam": (
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.8, 0.95)},
        {
            "exp_avg": lambda g, i, f: 0.2 * weighted(g, i, 0.8, 1, f),
            "exp_avg_sq": lambda g, i, f: 0.05 * weighted(g, i, 0.95, 2, f),
        },
    ),
    "AdamW": (
        torch.optim.AdamW,
        {"lr": 0.1, "amsgrad": True},
        {
            "exp_avg": lambda g, i, f: 0.1 * weighted(g, i, 0.9, 1, f),
            "exp_avg_sq": lambda g, i, f: 0.001 * weighted(g, i, 0.999, 2, f),
            "max_exp_avg_sq": lambda g, i, f: torch.stack(
                [0.001 * weighted(g[: n + 1], i, 0.999, 2, f) for n in range(len(g))]
            ).amax(0),
        },
    ),
    "AdaGrad": (torch.optim.Adagrad, {"lr": 0.1}, {"sum": lambda g, i, f: weighted(g, i, 1.0, 2, f)}),
    "RMSProp": (
        torch.optim.RMSprop,
        {"lr": 0.1, "centered": True},
        {
            "square_avg": lambda g, i, f: 0.01 * weighted(g, i, 0.99, 2, f),
            "grad_avg": lambda g, i, f: 0.01 * weighted(g, i, 0.99, 1, f),
        },
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_state_is_that_of_the_moved_gradients(name: str) -> None:
    kind, settings, forms = CLOSED_FORMS[name]
    optimizer, factors, gradients = moved_after_steps(kind, settings)
    params = optimizer.param_groups[0]["params"]
    assert max(float((factor - 1).abs().max()) for factor in factors) > 0.5
    for index, p in enumerate(params):
        assert {key for key, value in optimizer.state[p].items() if value.ndim} == set(forms)
        for key, form in forms.items():
            expected = form(gradients, index, factors[index])
            torch.testing.assert_close(optimizer.state[p][key], expected, rtol=1e-12, atol=0.0)


OTHERS = [
    (torch.optim.NAdam, {}),
    (torch.optim.RAdam, {}),
    (torch.optim.Adamax, {"eps": 0.0}),
    (torch.optim.RMSprop, {"momentum": 0.9, "eps": 0.0}),
    (torch.optim.Adadelta, {"eps": 1e-18}),
    (torch.optim.Rprop, {}),
    (torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "dampening": 0.0}),
]


@pytest.mark.parametrize(("kind", "settings"), OTHERS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_state_is_that_of_a_run_with_moved_gradients(kind: Any, settings: dict[str, Any]) -> None:
    optimizer, factors, _ = moved_after_steps(kind, settings)
    reference, _, _ = fed(kind, settings, factors)
    for p, q in zip(optimizer.param_groups[0]["params"], reference.param_groups[0]["params"], strict=True):
        for key, value in reference.state[q].items():
            torch.testing.assert_close(optimizer.state[p][key], value, rtol=1e-9, atol=0.0)


EPS = [
    (torch.optim.Adadelta, {}, "acc_delta", {1.0: 0.045, 0.01: 0.32}),
    (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}, "momentum_buffer", {1.0: 2.2e-6, 0.01: 2.2e-4}),
    (torch.optim.Adamax, {}, "exp_inf", {1.0: 4.2e-9, 0.01: 4.2e-7}),
]


@pytest.mark.parametrize(("kind", "settings", "name", "figures"), EPS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_eps_breaks(kind: Any, settings: dict[str, Any], name: str, figures: dict[float, float]) -> None:
    """What updates add to a gradient's size does not move with it: these are the figures of docs/own-loop.md."""
    for size, figure in figures.items():
        optimizer, factors, _ = moved_after_steps(kind, settings, size)
        reference, _, _ = fed(kind, settings, factors, size=size)
        pairs = [
            (optimizer.state[p][name], reference.state[q][name])
            for p, q in zip(optimizer.param_groups[0]["params"], reference.param_groups[0]["params"], strict=True)
        ]
        assert max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs) == pytest.approx(figure, rel=0.05)


def test_permutations_move_every_tensor_of_the_state_alike() -> None:
    optimizer, _, model = fed(torch.optim.RMSprop, {"momentum": 0.9, "centered": True}, None)
    symmetry = find_symmetries(model, examples()[0]).symmetries["permutation"]
    params = list(model.parameters())
    element = tuple(torch.randperm(n, generator=torch.Generator().manual_seed(n))[None] for n in (6, 7))
    before = {
        key: [optimizer.state[p][key].clone() for p in params] for key in ("square_avg", "grad_avg", "momentum_buffer")
    }
    Transport(symmetry, element, params, torch.float64).move_state(
        optimizer, {"square_avg": "covector squared", "grad_avg": "covector", "momentum_buffer": "ratio"}
    )
    for key, old in before.items():
        flat = torch.cat([tensor.flatten() for tensor in old])[None]
        moved = symmetry.act(element, flat, Instance(flat))[0]
        assert torch.equal(torch.cat([optimizer.state[p][key].flatten() for p in params]), moved)
        assert not torch.equal(moved, flat[0])


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(5, 2, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop])
def test_under_matrices_first_moments_move_and_second_begin_anew(kind: Any) -> None:
    torch.manual_seed(3)
    model = LowRank().double()
    extra = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
    optimizer = kind(model.parameters(), lr=0.01, **extra)
    spread = dict.fromkeys(("exp_avg", "momentum_buffer") if kind is not torch.optim.RMSprop else ())
    teleporter = Teleporter(model, optimizer, at_steps(5), symmetry="general_linear")
    train(model, optimizer, teleporter, 5)
    state = {id(p): {k: v.clone() for k, v in optimizer.state[p].items()} for p in model.parameters()}
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, teleporter, 1)
    (row,) = teleporter.history
    assert row["moved"]
    assert row["norm_after"] != row["norm_before"]
    element = teleporter._course.runs.found.element[0][0]
    assert float((element - torch.eye(2)).abs().max()) > 1e-3
    length = max(
        float((p.detach() - old_p).abs().max())
        for p, old_p in zip(model.parameters(), moved_to(old, element), strict=True)
    )
    assert length < 0.011 * (1.0 if kind in (torch.optim.AdamW, torch.optim.Adagrad) else 100.0)
    for name in spread:
        if name not in state[id(model.up.weight)]:
            continue
        decay = 0.9
        down, up = (state[id(p)][name] for p in (model.down.weight, model.up.weight))
        inverse = torch.linalg.inv(element)
        scale = 1.0 if name == "momentum_buffer" else 1.0 - decay
        for p, expected in ((model.down.weight, inverse.T @ down), (model.up.weight, up @ element.T)):
            torch.testing.assert_close(
                optimizer.state[p][name], decay * expected + scale * p.grad, rtol=1e-10, atol=1e-13
            )


def states_after_a_matrix(kind: Any, **settings: Any) -> tuple[Any, Any, list[Tensor]]:
    """An optimizer's state, and that of a copy, right after a teleport by a matrix; the gradients there."""
    torch.manual_seed(3)
    model = LowRank().double()
    optimizer = kind(model.parameters(), lr=0.01, **settings)
    teleporter = Teleporter(model, optimizer, at_steps(5), symmetry="general_linear")
    train(model, optimizer, teleporter, 5)
    before = [{name: value.clone() for name, value in optimizer.state[p].items()} for p in model.parameters()]
    found: list[Any] = []

    def note(*_: Any) -> None:  # after the teleporter's hook, before the update
        found.extend({n: v.clone() for n, v in optimizer.state[p].items()} for p in model.parameters())
        found.extend(p.grad.clone() for p in model.parameters())

    optimizer.register_step_pre_hook(note)
    train(model, optimizer, teleporter, 1)
    assert teleporter.history[0]["moved"]
    return before, found[:2], found[2:]


def test_second_moments_begin_anew_as_large_as_what_is_known() -> None:
    """The squares of mixed entries are not known: of gradient and first moment at hand the larger takes their place."""
    before, after, gradients = states_after_a_matrix(torch.optim.AdamW, betas=(0.8, 0.9), amsgrad=True)
    for old, state, gradient in zip(before, after, gradients, strict=True):
        mean = state["exp_avg"] / (1 - 0.8**5)
        assert not torch.allclose(state["exp_avg"], old["exp_avg"])
        known = (1 - 0.9**5) * torch.maximum(gradient.square(), mean.square())
        assert bool((gradient.abs() > mean.abs()).any())
        assert bool((gradient.abs() < mean.abs()).any())
        for name in ("exp_avg_sq", "max_exp_avg_sq"):
            torch.testing.assert_close(state[name], known, rtol=1e-12, atol=0.0)
    _, after, gradients = states_after_a_matrix(torch.optim.RMSprop, centered=True, momentum=0.9)
    for state, gradient in zip(after, gradients, strict=True):
        known = torch.maximum(gradient.square(), state["grad_avg"].square())
        torch.testing.assert_close(state["square_avg"], known, rtol=1e-12, atol=0.0)
        assert not state["momentum_buffer"].any()
    _, after, _ = states_after_a_matrix(torch.optim.Adagrad, initial_accumulator_value=0.25)
    assert all(bool((state["sum"] == 0.25).all()) for state in after)


@pytest.mark.parametrize("symmetry", ["scaling", "general_linear"])
def test_averaged_weights_of_the_optimizer_stay_a_network_of_the_same_outputs(symmetry: str) -> None:
    """ASGD averages weights, which move with the weights."""
    torch.manual_seed(3)
    model = LowRank().double() if symmetry == "general_linear" else network()
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.01, t0=0.0, lambd=0.1)
    averaged, (x, _) = copy.deepcopy(model), examples()

    def outputs() -> Tensor:
        with torch.no_grad():
            for mine, p in zip(averaged.parameters(), model.parameters(), strict=True):
                mine.copy_(optimizer.state[p]["ax"])
        return averaged(x).detach()

    copies = [p.detach().clone() for p in model.parameters()]
    teleporter = Teleporter(model, optimizer, at_steps(5), symmetry=symmetry, also=[copies])
    train(model, optimizer, teleporter, 5)
    before = outputs()
    for mine, p in zip(copies, model.parameters(), strict=True):
        mine.copy_(optimizer.state[p]["ax"])
    found: list[Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: found.append(outputs()))  # after the teleporter's
    train(model, optimizer, teleporter, 1)
    assert teleporter.history[0]["moved"], teleporter.history
    torch.testing.assert_close(found[0], before, rtol=1e-11, atol=1e-12)
    for mine, p in zip(copies, averaged.parameters(), strict=True):  # the inverse would keep the outputs too
        torch.testing.assert_close(p, mine, rtol=1e-12, atol=0.0)
    assert float((before - model(x).detach()).abs().max()) > 1e-6, "averages must differ from weights"


def moved_to(old: dict[str, Tensor], element: Tensor) -> list[Tensor]:
    return [element @ old["down.weight"], old["up.weight"] @ torch.linalg.inv(element)]


@pytest.mark.parametrize("state", ["keep", "reset", "transport"])
def test_a_state_can_be_kept_and_reset(state: str) -> None:
    for kind, names in ((torch.optim.Adam, ("exp_avg", "exp_avg_sq")), (torch.optim.Adagrad, ("sum",))):
        model = network()
        optimizer = kind(model.parameters(), lr=1e-3)
        teleporter = Teleporter(model, optimizer, at_steps(4), state=state)
        train(model, optimizer, teleporter, 4)
        held: dict[str, Any] = {}

        def note(optimizer: Any, args: Any, kwargs: Any, names: Any = names, held: Any = held) -> None:
            states = [(p, optimizer.state[p]) for p in optimizer.param_groups[0]["params"]]
            held["step"] = sum(float(state.get("step", 0.0)) for _, state in states)
            for n in names:
                held[n] = torch.cat([state.get(n, torch.zeros_like(p)).flatten() for p, state in states]).clone()

        handle = optimizer.register_step_pre_hook(note)  # after the teleporter's
        before = {n: torch.cat([optimizer.state[p][n].flatten() for p in model.parameters()]) for n in names}
        train(model, optimizer, teleporter, 1)
        handle.remove()
        assert teleporter.history[0]["moved"]
        assert held["step"] == (0.0 if state == "reset" else 24.0), "of six parameters"
        for name in names:
            same = torch.equal(held[name], before[name])
            assert same == (state == "keep")
            assert bool((held[name] == 0).all()) == (state == "reset")


# -- the loop's side ---------------------------------------------------------------------------------------------------


def test_a_teleport_keeps_the_outputs_and_moves_gradients_and_copies() -> None:
    model = network()
    x, y = examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    average = torch.optim.swa_utils.AveragedModel(model)
    shadow = [p.detach().clone() for p in model.parameters()]
    teleporter = Teleporter(model, optimizer, at_steps(0), also=[average, shadow])
    before = model(x).detach()
    train(model, optimizer, teleporter, 1)
    carried = [p.grad.clone() for p in model.parameters()]
    optimizer.zero_grad()
    squared(model(x), y).backward()
    assert teleporter.history[0]["moved"]
    assert teleporter.history[0]["status"] == "moved"
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    for grad, p, copied, own in zip(carried, model.parameters(), average.module.parameters(), shadow, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(copied, p, rtol=1e-14, atol=0)
        torch.testing.assert_close(own, p.detach(), rtol=1e-14, atol=0)


def test_a_resumed_training_is_the_same() -> None:
    def made(seed: int) -> tuple[Any, Any, Any, Teleporter]:
        model = network(seed=seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
        schedule = agent_from("accept_if_better", k=3, environment={"rate_factors": (1.0,), **OUTER})
        return model, optimizer, scheduler, Teleporter(model, optimizer, schedule, steps=40)

    def go(parts: Any, steps: int) -> None:
        for _ in range(steps):
            train(parts[0], parts[1], parts[3], 1)
            parts[2].step()

    whole = made(0)
    go(whole, 13)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in whole], file)
    file.seek(0)
    resumed = made(1)
    for part, saved in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(saved)
    go(whole, 20)
    go(resumed, 20)
    assert torch.equal(weights(whole[0]), weights(resumed[0]))
    assert whole[3].history == resumed[3].history
    assert {row["step"] for row in resumed[3].history} & set(range(14, 40)), "the second half must have teleports"
    np.testing.assert_array_equal(whole[3].features, resumed[3].features)


def test_a_resumed_training_evaluates_as_before() -> None:
    """Regression: a search that evaluates the loss could not be loaded, since no `observe` had said yet how."""

    def made(seed: int) -> tuple[nn.Module, Any, Teleporter]:
        model = network(seed=seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=5e-3)
        return model, optimizer, Teleporter(model, optimizer, "every:k=3", searches=["virtual_step"], steps=20)

    def go(parts: tuple[nn.Module, Any, Teleporter], steps: int) -> None:
        model, optimizer, teleporter = parts
        x, y = examples(next(model.parameters()).dtype)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = squared(model(x), y)
            loss.backward()
            teleporter.observe(loss, again=lambda: squared(model(x), y))
            optimizer.step()

    whole, resumed = made(0), made(1)
    go(whole, 7)
    for part, saved in zip(resumed, [copy.deepcopy(part.state_dict()) for part in whole], strict=True):
        part.load_state_dict(saved)
    go(whole, 7)
    go(resumed, 7)
    assert torch.equal(weights(whole[0]), weights(resumed[0]))
    assert len(whole[2].history) > 2
    assert whole[2].history == resumed[2].history


def test_a_state_saved_before_the_first_step_is_loaded() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    saved = Teleporter(model, optimizer, at_steps(1)).state_dict()
    other = network()
    again = torch.optim.SGD(other.parameters(), lr=1e-3)
    teleporter = Teleporter(other, again, at_steps(1))
    teleporter.load_state_dict(saved)
    train(other, again, teleporter, 3)
    assert teleporter.history[0]["moved"]


@pytest.mark.parametrize("settings", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
def test_the_kernels_of_an_optimizer_agree(settings: dict[str, Any]) -> None:
    def weights_after(**how: Any) -> Tensor:
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, **how)
        teleporter = Teleporter(model, optimizer, at_steps(2, 5))
        train(model, optimizer, teleporter, 9)
        assert [row["moved"] for row in teleporter.history] == [True, True]
        return weights(model)

    torch.testing.assert_close(weights_after(**settings), weights_after(), rtol=1e-10, atol=1e-12)


def test_rates_are_multiplied_for_the_update_alone() -> None:
    """A schedule's factors and a scheduler's rates are independent of each other."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    class Halves:
        environment: ClassVar = {"rate_factors": (0.5, 1.0), "searches": []}

        def predict(self, observation: np.ndarray, state: Any = None, **others: Any) -> Any:
            count = 0 if state is None else state
            return np.array([0 if count == 1 else 1]), count + 1

    teleporter = Teleporter(model, optimizer, Halves())
    for expected in (1e-3, 0.25e-3, 0.125e-3):
        before = weights(model)
        train(model, optimizer, teleporter, 1)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(before - weights(model), expected * gradient, rtol=1e-9, atol=1e-15)
        assert optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
        scheduler.step()


def test_groups_with_rates_of_their_own_promise_their_sum() -> None:
    model = network()
    groups = [
        {"params": list(model[0].parameters()), "lr": 1e-2},
        {"params": [*model[2].parameters(), *model[4].parameters()]},
    ]
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    teleporter = Teleporter(model, optimizer, at_steps(1))
    (loss,) = train(model, optimizer, teleporter, 1)
    promised = (
        sum(g["lr"] * float(sum(p.grad.square().sum() for p in g["params"])) for g in optimizer.param_groups) / loss
    )
    seen = teleporter.features[0, INDEX["rate_decrease"]]
    assert seen == pytest.approx(0.5 * np.log10(promised), abs=1e-6)
    train(model, optimizer, teleporter, 2)
    assert teleporter.history[0]["moved"]


def test_parts_of_an_accumulated_gradient_add_up() -> None:
    x, y = examples()
    seen = []
    for parts in (1, 4):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        teleporter = Teleporter(model, optimizer, at_steps(2), gradient_flops=1e4)
        for _ in range(4):
            optimizer.zero_grad()
            for rows, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
                loss = squared(model(rows), targets)
                loss.backward()
                teleporter.observe(loss)
            optimizer.step()
        seen.append((weights(model), teleporter.features))
        assert teleporter.history[0]["moved"]
    torch.testing.assert_close(seen[0][0], seen[1][0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(seen[0][1], seen[1][1], atol=1e-6)


def test_a_clipped_loop_stays_clipped() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    outward = at_steps(2, searches=[{"search": "normalized_ascent", "steps": 3}])
    teleporter = Teleporter(model, optimizer, outward, max_norm=1.0)
    x, y = examples()
    for _ in range(4):
        optimizer.zero_grad()
        loss = squared(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        teleporter.observe(loss)
        optimizer.step()
        assert float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()) < 1.0 + 1e-6
    assert teleporter.history[0]["norm_after"] > teleporter.history[0]["norm_before"] > 0.9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_precisions(dtype: torch.dtype) -> None:
    model = network(dtype)
    x, _ = examples(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    teleporter = Teleporter(model, optimizer, at_steps(1))
    before = model(x).detach()
    train(model, optimizer, teleporter, 2)
    assert teleporter.history[0]["moved"]
    assert all(p.dtype == dtype for p in model.parameters())
    rounding = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(model(x), before, rtol=rounding, atol=rounding * float(before.abs().max()))


def test_a_compiled_model_is_its_model() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=1e-3)
    teleporter = Teleporter(compiled, optimizer, at_steps(2))
    losses = train(compiled, optimizer, teleporter, 4)
    plain = network()
    again = torch.optim.SGD(plain.parameters(), lr=1e-3)
    teleports = Teleporter(plain, again, at_steps(2))
    np.testing.assert_allclose(losses, train(plain, again, teleports, 4), rtol=1e-12)
    assert teleporter.history[0]["moved"]


@pytest.mark.parametrize("to_none", [True, False])
def test_a_skipped_update_adds_no_loss_and_accumulation_does(to_none: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a loop that skips calls no ``step``; the loss of that batch was added to the next one's."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    teleporter = Teleporter(model, optimizer, agent_from("relative_decrease"))
    x, y = examples()
    seen: list[float] = []
    here = teleporter._point
    monkeypatch.setattr(teleporter, "_point", lambda loss: (seen.append(float(loss)), here(loss))[1])

    def part(count: int) -> float:
        loss = squared(model(x[:count]), y[:count])
        loss.backward()
        teleporter.observe(loss)
        return loss.item()

    part(4)
    optimizer.step()
    optimizer.zero_grad(set_to_none=to_none)
    seen.clear()
    part(3)
    optimizer.zero_grad(set_to_none=to_none)  # no step: the update was skipped
    expected = [part(5)]
    optimizer.step()
    optimizer.zero_grad(set_to_none=to_none)
    expected.append(part(3) + part(5))
    optimizer.step()
    assert [seen[0], seen[-1]] == pytest.approx(expected, rel=1e-12)  # a teleport asks again


def test_losses_of_two_backward_passes_that_are_observed_later_add_up() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    teleporter = Teleporter(model, optimizer, at_steps(5))
    x, y = examples()
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        losses = [squared(model(x[:3]), y[:3]), squared(model(x[3:]), y[3:])]
        for loss in losses:
            loss.backward()
        for loss in losses:
            teleporter.observe(loss)
        assert teleporter._observed is not None
        assert float(teleporter._observed) == pytest.approx(sum(loss.item() for loss in losses))
        optimizer.step()


@pytest.mark.parametrize("index", [0, 3])
def test_a_parameter_that_is_frozen_later_is_not_moved(index: int) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    teleporter = Teleporter(model, optimizer, at_steps(2, 4))
    train(model, optimizer, teleporter, 3)
    assert teleporter.history[0]["moved"]
    frozen = list(model.parameters())[index].requires_grad_(False)
    before = frozen.clone()
    with pytest.raises(ValueError, match="was frozen since the Teleporter was made"):
        train(model, optimizer, teleporter, 2)
    assert torch.equal(frozen, before)
    teleporter.remove()
    again = Teleporter(model, optimizer, at_steps(1))  # by the symmetries that are left
    train(model, optimizer, again, 2)
    assert again.history[0]["moved"]
    assert torch.equal(frozen, before)


def test_an_update_that_fails_gives_the_rate_back() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    teleporter = Teleporter(model, optimizer, agent_from("rate_warmup_decay"))
    train(model, optimizer, teleporter, 1)
    assert optimizer.param_groups[0]["lr"] == 0.1
    teleporter._rates, optimizer.param_groups[0]["lr"] = [0.1], 0.025  # as an update leaves it that raises
    train(model, optimizer, teleporter, 1)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_loop_that_cannot_pay_for_a_teleport_is_told() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    teleporter = Teleporter(model, optimizer, "every:k=2", symmetry="general_linear", steps=20)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = model(x).square().mean()
    loss.backward()
    teleporter.observe(loss)
    with pytest.warns(
        UserWarning, match="no teleport will come: the cheapest costs .* needs a budget of .*, and it is 21"
    ):
        optimizer.step()


def test_a_gradient_costs_what_the_first_step_computes() -> None:
    """Regression: it was that of the first call of the model, which may be a trial with one example."""
    x, y = examples()
    flops = []
    for parts, trial in ((1, False), (1, True), (2, False)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        teleporter = Teleporter(model, optimizer, at_steps(5))
        if trial:
            model(x[:1])
        for _ in range(parts):
            loss = squared(model(x), y)
            loss.backward()
            teleporter.observe(loss)
        with torch.no_grad():
            model(x[:1])  # for a table of the loop's own
        optimizer.step()
        assert teleporter._course is not None
        flops.append(teleporter._course.flops)
        assert not model._forward_pre_hooks
    assert flops[0] == flops[1] > 0
    assert flops[2] == 2 * flops[0]


def test_scaled_gradients() -> None:
    """`GradScaler` unscales before `step`, but not where a fused optimizer does so itself."""
    model = network(torch.float32)
    x, y = examples(torch.float32)
    for fused, unscales, works in ((False, False, True), (True, True, True), (True, False, False)):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        teleporter = Teleporter(model, optimizer, at_steps(0))
        loss = squared(model(x), y)
        norm = float(
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)]
            ).norm()
        )
        scaler.scale(loss).backward()
        if unscales:
            scaler.unscale_(optimizer)
        teleporter.observe(loss)
        if works:
            scaler.step(optimizer)
            assert teleporter.history[0]["norm_before"] == pytest.approx(norm, rel=1e-4)
        else:
            with pytest.raises(ValueError, match="unscale_"):
                scaler.step(optimizer)
        teleporter.remove()
        optimizer.zero_grad()


def test_removed_it_does_nothing() -> None:
    losses = []
    for removed in (True, False):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        if removed:
            teleporter = Teleporter(model, optimizer, at_steps(0))
            teleporter.remove()
        losses.append(train(model, optimizer, None, 3))
    assert losses[0] == losses[1]
    assert teleporter.history == []


def test_a_run_that_diverges_is_left_alone() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e3)
    teleporter = Teleporter(model, optimizer, agent_from("every", k=1, environment=OUTER))
    train(model, optimizer, teleporter, 6)
    assert teleporter.diverged
    assert len(teleporter.history) < 3


class Strange(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            self.state[p]["memory"] = p.detach().clone()
        return super().step()


class Own(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-3})

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            self.state[p]["slow"] = self.state[p].get("slow", torch.zeros_like(p)) + p.grad


def test_an_optimizer_of_ones_own_says_how_its_state_moves() -> None:
    model = network()
    optimizer = Own(model.parameters())
    teleporter = Teleporter(model, optimizer, at_steps(3), state={"slow": "covector"})
    train(model, optimizer, teleporter, 4)
    for p in model.parameters():  # the weights have only been moved: all gradients are those of one point
        torch.testing.assert_close(optimizer.state[p]["slow"], 4 * p.grad, rtol=1e-10, atol=1e-12)
    assert teleporter.history[0]["moved"]


def refusals() -> dict[str, tuple[Callable[[nn.Module], Any], str]]:
    sgd = torch.optim.SGD

    def half(model: Any) -> Any:
        return Teleporter(model, sgd(model[0].parameters(), lr=1.0))

    def foreign(model: Any) -> Any:
        return Teleporter(model, sgd([*model.parameters(), nn.Parameter(torch.ones(2))], lr=1.0))

    def twice(model: Any) -> Any:
        optimizer = sgd(model.parameters(), lr=1.0)
        Teleporter(model, optimizer).remove()
        Teleporter(model, optimizer)
        return Teleporter(model, optimizer)

    def muon(_: Any) -> Any:  # takes matrices alone
        kind, low_rank = getattr(torch.optim, "Muon", None) or type("Muon", (Own,), {}), LowRank()
        return Teleporter(low_rank, kind(low_rank.parameters()))

    def on(optimizer: Any, *args: Any, **settings: Any) -> Callable[[Any], Any]:
        return lambda model: Teleporter(model, optimizer(model.parameters()), *args, **settings)

    return {
        "closures": (on(torch.optim.LBFGS), "closure"),
        "sparse": (on(torch.optim.SparseAdam), "sparse"),
        "unknown state": (on(Own), "state of Own is not known"),
        "factored state": (on(torch.optim.Adafactor), "state='keep'"),
        "orthogonal updates": (muon, "state of Muon is not known"),
        "several optimizers": (half, "groups of one"),
        "foreign parameters": (foreign, "not the model's"),
        "state": (on(sgd, state="move"), "transport"),
        "kind": (on(Own, state={"slow": "tensor"}), "covector"),
        "schedule": (on(sgd, 3), "predict"),
        "several problems": (on(sgd, LearnedSchedule.pretrained()), "for_problem"),
        "group mode": (on(sgd, Acts()), "action_mode"),
        "steps": (on(sgd, steps=0), "steps"),
        "half a step": (on(sgd, steps=2.5), "steps must be an integer of at least 1, got 2.5"),
        "no menu": (on(sgd, "every:k=5", searches=[]), "its menu is empty"),
        "no teleport": (on(sgd, "at_steps:steps=[]"), "its settings name no teleport"),
        "too late": (on(sgd, "at_steps:steps=[10]", steps=10), "comes after 10 gradient steps, and the budget is 11"),
        "another's name": (
            on(sgd, "every:name=never"),
            "name of agent 'every' must be .*not the name of another agent",
        ),
        "name that is no text": (on(sgd, "every:name=3"), "name of agent 'every' must be"),
        "torch.jit": (lambda model: on(sgd)(torch.jit.script(model)), "compiled by torch.jit"),
        "two teleporters": (twice, "remove"),
        "name": (on(sgd, "evry:k=3"), "every"),
        "setting": (on(sgd, "every:n=3"), "k"),
        "value": (on(sgd, "every:k=0"), "k"),
        "file": (on(sgd, "model.zip"), "load it"),
        "seed": (on(sgd, seed="a"), "seed must be an integer of at least 0, got 'a'"),
        "symmetry": (on(sgd, symmetry="scalings"), "symmetry must be one of .* mean 'scaling'"),
        "no copies": (on(sgd, also=3), "also must be a list of modules"),
        "copies that are text": (on(sgd, also=["x"]), "an entry of also must be a module, or a list of tensors"),
        "copies by name": (
            lambda model: on(sgd, also=[model.state_dict()])(model),
            "an entry of also must be a module, or a list of tensors",
        ),
        "maximized": (lambda model: Teleporter(model, sgd(model.parameters(), lr=1.0, maximize=True)), "the negative"),
        "copies": (on(sgd, also=[nn.Linear(2, 2)]), "also="),
        "copies of other shapes": (on(sgd, also=[[torch.ones(2)]]), "shapes"),
    }


class Acts:
    environment: ClassVar = {"action_mode": "group"}

    def predict(self, observation: Any, **others: Any) -> Any:
        return np.zeros(1), None


@pytest.mark.parametrize("what", refusals())
def test_refusals_name_what_to_do(what: str) -> None:
    make, words = refusals()[what]
    with pytest.raises(ValueError, match=words):
        make(network())


def test_refusals_at_the_first_step() -> None:
    x, y = examples()

    def stepped(model: nn.Module, optimizer: Any, closure: Any = None, observes: bool = True, **settings: Any) -> None:
        teleporter = Teleporter(model, optimizer, **{"schedule": at_steps(0), **settings})
        loss = squared(model(x), y)
        loss.backward()
        if observes:
            teleporter.observe(loss)
        optimizer.step(closure) if closure else optimizer.step()

    def sgd(model: nn.Module) -> Any:
        return torch.optim.SGD(model.parameters(), lr=1e-3)

    tanh = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for model, settings, words in (
        (network(), {"closure": lambda: None}, "call backward before"),
        (network(), {"observes": False}, "observe"),
        (network(), {"searches": ["virtual_step"]}, "evaluates the loss"),
        (network(), {"schedule": "every:k=5,which=7"}, "its menu has 3 searches"),
        (tanh, {"symmetry": "scaling"}, "scaling"),
        (nn.Linear(5, 3).double(), {}, "no symmetry"),
    ):
        before = weights(model)
        with pytest.raises(ValueError, match=words):
            stepped(model, sgd(model), **settings)
        assert torch.equal(before, weights(model))


@pytest.mark.parametrize("kind", [torch.optim.Adamax, torch.optim.Adadelta, torch.optim.Rprop])
def test_what_matrices_make_of_a_state_is_known_or_refused(kind: Any) -> None:
    model = LowRank().double()
    optimizer = kind(model.parameters())
    teleporter = Teleporter(model, optimizer, at_steps(1), symmetry="general_linear")
    before = weights(model)
    with pytest.raises(ValueError, match=f"invertible matrix makes of the state of {kind.__name__}"):
        train(model, optimizer, teleporter, 1)
    assert torch.equal(before, weights(model))


def test_a_tensor_of_an_unknown_kind_is_refused_before_anything_moves() -> None:
    model = network()
    optimizer = Strange(model.parameters(), lr=0.0)
    teleporter = Teleporter(model, optimizer, at_steps(2))
    before = weights(model)
    with pytest.raises(ValueError, match="memory"):
        train(model, optimizer, teleporter, 3)
    assert torch.equal(before, weights(model))


def test_a_parameter_without_gradient_moves_too() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    teleporter = Teleporter(model, optimizer, at_steps(0))
    x, y = examples()
    before = model(x).detach()
    loss = squared(model(x), y)
    loss.backward()
    model[0].bias.grad = None
    teleporter.observe(loss)
    optimizer.step()
    assert model[0].bias.grad is None
    assert teleporter.history[0]["moved"]
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)


def test_copies_of_a_model_are_made_without_its_teleporter() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    teleporter = Teleporter(model, optimizer, at_steps(0))
    train(model, optimizer, teleporter, 1)
    copied = copy.deepcopy(model)
    assert torch.equal(weights(copied), weights(model))
