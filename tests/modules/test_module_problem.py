"""A module of one's own as a problem: its loss is the module's, its runs are independent, what has no meaning is refused."""

from __future__ import annotations

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from modules.models import Classifier, Pact, Recurrent, Transformer, linear_pairs
from torch import Tensor, nn

from teleport_env import ModuleProblem
from teleport_env.checks import check_problem
from teleport_env.envs.single import TeleportEnv
from teleport_env.random import Streams

N = 24


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Modules draw their weights from torch's own generator."""
    torch.manual_seed(0)


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, 1, 8, 8, generator=generator), torch.randint(10, (N,), generator=generator)


def problem_of(module: nn.Module, **settings: object) -> ModuleProblem:
    return ModuleProblem(
        module, F.cross_entropy, data(), **{"batch_size": 8, "validation": data(1), "budget": 12, **settings}
    )  # type: ignore[arg-type]


MODULES = {"cnn": Classifier, "transformer": Transformer}


@pytest.mark.parametrize("name", MODULES)
def test_every_run_is_the_module_with_its_own_parameters(name: str) -> None:
    """Against a loop over copies of the module: dropout off, batch normalization by the statistics of the batch."""
    problem = problem_of(MODULES[name]())
    instance = problem.instances(torch.arange(3), "train")
    batch = torch.arange(24).reshape(3, 8)
    losses, gradients = problem.loss_and_gradient(instance.start, instance, batch)
    inputs, targets = data()
    for row in range(3):
        module = MODULES[name]().double().train()
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            if isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0
        start = problem.unflatten(instance.start[row])
        module.load_state_dict({**module.state_dict(), **start})
        loss = F.cross_entropy(module(inputs[batch[row]].double()), targets[batch[row]])
        loss.backward()
        torch.testing.assert_close(losses[row], loss.detach(), rtol=1e-12, atol=1e-12)
        expected = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])  # type: ignore[union-attr]
        torch.testing.assert_close(gradients[row], expected, rtol=1e-9, atol=1e-12)


def test_one_number_is_a_parameter() -> None:
    """Regression: a parameter without axes could not be taken from the vector. Its scaling keeps the loss."""
    examples = torch.randn(6, 4), torch.randint(3, (6,))
    problem = ModuleProblem(Pact(), F.cross_entropy, examples, batch_size=3, budget=5)
    instance = problem.instances(torch.arange(2), "train")
    assert problem.unflatten(instance.start)["cap"].shape == (2,)
    symmetry = problem.symmetries["scaling"]
    assert symmetry.couplings[0].name == "cap, first -> second"  # type: ignore[attr-defined]
    moved = symmetry.act(symmetry.group.sample(Streams.from_seeds([1, 2]), 1.0), instance.start, instance)
    losses = (problem.loss(where, instance) for where in (moved, instance.start))
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0.0)


def test_stored_statistics_are_constants() -> None:
    module = Classifier()
    with torch.no_grad():
        module.norm.running_mean.fill_(0.3)  # type: ignore[union-attr, operator]
        module.norm.running_var.fill_(2.0)  # type: ignore[union-attr, operator]
    problem = problem_of(module, batch_statistics=False, start="keep")
    instance = problem.instances(torch.arange(1), "train")
    inputs, targets = data()
    expected = F.cross_entropy(module.double().eval()(inputs.double()), targets)
    torch.testing.assert_close(problem.loss(instance.start, instance)[0], expected.detach(), rtol=1e-12, atol=0.0)
    with_batch = problem_of(module, start="keep").loss(instance.start, instance)[0]
    assert abs(with_batch - expected) > 1e-3


def test_starts_come_from_the_run_s_own_stream() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    problem = problem_of(Classifier())
    torch.random.set_rng_state(before)
    together = problem.instances(torch.tensor([4, 9]), "train").start
    assert torch.equal(torch.random.get_rng_state(), before)  # torch's own generator is not touched
    alone = problem.instances(torch.tensor([9]), "train").start
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(problem.instances(torch.tensor([9]), "test").start, alone)

    kept = problem_of(module := Classifier(), start="keep").instances(torch.arange(2), "train").start
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], torch.cat([p.detach().flatten() for p in module.parameters()]).double())

    def zeros(module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.zero_()

    assert not problem_of(Classifier(), start=zeros).instances(torch.arange(1), "train").start.any()


def test_frozen_parameters_are_constants() -> None:
    module = Classifier()
    module.first.weight.requires_grad_(False)
    problem = problem_of(module)
    total = sum(parameter.numel() for parameter in module.parameters())
    assert problem.instances(torch.arange(1), "train").start.shape == (1, total - module.first.weight.numel())
    assert "first.weight" not in problem.parameter_names


def test_modules_that_cannot_be_vectorized_are_called_once_per_run() -> None:
    """`vmap` has no rule for recurrent layers; rows are then the same bits alone and among others."""
    inputs, targets = torch.randn(N, 4, 3), torch.randint(2, (N,))
    with pytest.warns(UserWarning, match="calls its module once per run.*vmap") as caught:
        problem = ModuleProblem(Recurrent(), F.cross_entropy, (inputs, targets), 8, (inputs, targets), budget=10)
    assert caught[0].filename == __file__
    assert not problem.vectorized
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem_of(Classifier()).vectorized
    instance = problem.instances(torch.arange(3), "train")
    batch = torch.arange(24).reshape(3, 8)
    losses, gradients = problem.loss_and_gradient(instance.start, instance, batch)
    alone = problem.instances(torch.tensor([2]), "train")
    loss, gradient = problem.loss_and_gradient(alone.start, alone, batch[2:])
    assert torch.equal(loss[0], losses[2])
    assert torch.equal(gradient[0], gradients[2])
    assert set(problem.evaluate(instance.start, instance)) == {"loss", "validation_loss", "validation_accuracy"}
    env = gym.make("Teleport/Module-v0", problem=problem)
    _, before = env.reset(seed=0)
    for _ in range(5):
        _, _, _, _, info = env.step(0)
    assert info["step"] == 5
    assert info["loss"] != before["loss"]


class Counts(nn.Module):
    """A module that writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1.0
        return self.linear(x.flatten(1))


class CountsInPlace(Counts):
    """Regression: the count is written into the tensor that all runs share, so that losses depended on the calls before."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1.0
        return self.linear(x.flatten(1)) * self.calls


class Derived(nn.Linear):
    """Its weight is computed ahead, as by hooks of old; torch copies no such tensor."""

    def __init__(self) -> None:
        super().__init__(64, 10)
        self.ahead = 2.0 * self.weight


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x.flatten(1)), 0.5, training=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModuleProblem("cnn", F.cross_entropy, data()), "module must be a torch.nn.Module, got 'cnn'"),
        (lambda: ModuleProblem(nn.ReLU(), F.cross_entropy, data()), "no trainable parameter"),
        (lambda: problem_of(CountsInPlace()), "writes to its buffer 'calls' when called"),
        (lambda: problem_of(Derived()), "the module cannot be copied"),
        (lambda: problem_of(Noisy()), "draws random numbers, but a loss must be a function of its parameters"),
        (lambda: problem_of(Classifier(), batch_size=100), "batch_size .*24"),
        (lambda: problem_of(Classifier(), start="zero"), "start must be one of 'reset', 'keep', got 'zero'"),
        (lambda: ModuleProblem(Classifier(), F.cross_entropy, (data()[0],)), "data must be .inputs, targets."),
        (lambda: ModuleProblem(Classifier(), F.cross_entropy, (data()[0], data()[1][:3])), "as many targets"),
        (lambda: ModuleProblem(Classifier(), lambda out, y: out, data()), "one number for a batch"),
        (lambda: ModuleProblem(Classifier(), lambda out, y: out.sum() / 0, data()), "is (inf|-inf|nan)"),
        (
            lambda: problem_of(Classifier(), validation=(data()[0][:, :, :5], data()[1])),
            "4 examples of validation fails",
        ),
        (lambda: problem_of(Classifier(), name=3), "name must be a string, got 3"),
        (lambda: TeleportEnv("Module"), "pass problem=teleport_env.ModuleProblem"),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_buffers_that_are_written_to_do_not_change_the_problem() -> None:
    """`functional_call` hands every evaluation the same buffers."""
    problem = problem_of(Counts())
    instance = problem.instances(torch.arange(2), "train")
    assert torch.equal(problem.loss(instance.start, instance), problem.loss(instance.start, instance))
    assert float(problem.module.calls) == 0.0  # type: ignore[arg-type]


def test_the_price_of_a_gradient_is_counted() -> None:
    """A linear layer: two operations per weight and example forward, and two for the gradient of the weights."""
    problem = ModuleProblem(nn.Linear(6, 3), F.mse_loss, (torch.randn(10, 6), torch.randn(10, 3)), batch_size=5)
    instance = problem.instances(torch.arange(1), "train")
    assert problem.gradient_flops(instance, 5) == 2 * 2 * 5 * 18
    assert problem.gradient_flops(instance) == 2 * 2 * 10 * 18


def test_measurements() -> None:
    problem = problem_of(Classifier())
    instance = problem.instances(torch.arange(2), "train", dtype=torch.float32)
    found = problem.evaluate(instance.start, instance)
    assert set(found) == {"loss", "validation_loss", "validation_accuracy"}
    outputs = problem.outputs(instance.start, data(1)[0])
    expected = (outputs.argmax(2) == data(1)[1]).float().mean(1)
    torch.testing.assert_close(found["validation_accuracy"], expected)


def test_pickling() -> None:
    problem = problem_of(Classifier())
    again = pickle.loads(pickle.dumps(problem))
    instance = problem.instances(torch.arange(2), "train")
    assert torch.equal(
        again.loss(instance.start, again.instances(torch.arange(2), "train")), problem.loss(instance.start, instance)
    )


def test_modules_pass_every_check() -> None:
    """Instances, rows, gradients against differences, the laws of all symmetries, and a few actions in every split."""
    regression = (torch.randn(6, 4), torch.randn(6, 2))
    report = check_problem(ModuleProblem(linear_pairs(), F.mse_loss, regression, 3, regression, budget=6), count=2)
    laws = {"scaling": 10, "general_linear": 10, "permutation": 9}
    assert {f"symmetry '{name}': {count} laws" for name, count in laws.items()} <= set(report.passed)


@pytest.mark.parametrize("name", MODULES)
def test_training_side_by_side_and_alone(name: str) -> None:
    """64 runs under `gym.make_vec`, and three of them alone: to rounding."""
    problem = problem_of(MODULES[name](), learning_rate=0.1)
    envs = gym.make_vec(
        "Teleport/Module-v0", num_envs=64, vectorization_mode="vector_entry_point", problem=problem, dtype="float64"
    )
    ids = np.arange(64)
    _, info = envs.reset(seed=0, options={"instance_id": ids})
    runs = envs.unwrapped.episodes.runs  # type: ignore[attr-defined]
    start = problem.evaluate(runs.params, runs.instance)["loss"]
    for _ in range(6):
        _, _, _, _, info = envs.step(np.zeros(64, dtype=np.int64))
    end = problem.evaluate(runs.params, runs.instance)["loss"]
    assert (end < start).to(torch.float64).mean() > 0.9
    for row in (0, 31, 63):
        env = gym.make("Teleport/Module-v0", problem=problem, dtype="float64")
        _, alone = env.reset(seed=0, options={"instance_id": row})
        for _ in range(6):
            _, _, _, _, alone = env.step(0)
        np.testing.assert_allclose(alone["loss"], info["loss"][row], rtol=1e-10)


def test_linear_layers_agree_bit_for_bit() -> None:
    """Products of matrices keep the runs as their batch axis; in float64 a run is the same alone and among others."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    problem = problem_of(module)
    together = problem.instances(torch.arange(7), "train")
    batch = torch.arange(8).repeat(7, 1)
    losses, gradients = problem.loss_and_gradient(together.start, together, batch)
    for row in (0, 3):
        alone = problem.instances(torch.tensor([row]), "train")
        loss, gradient = problem.loss_and_gradient(alone.start, alone, batch[:1])
        assert torch.equal(loss[0], losses[row])
        assert torch.equal(gradient[0], gradients[row])


@pytest.mark.parametrize("name", MODULES)
def test_teleports_keep_the_loss_and_carry_the_gradient(name: str) -> None:
    """Every symmetry and every search of its menu, on 64 runs, against an evaluation where they arrive."""
    problem = problem_of(MODULES[name](), learning_rate=0.1)
    assert set(problem.symmetries) >= {"scaling", "permutation"}
    for symmetry in problem.symmetries:
        envs = gym.make_vec(
            "Teleport/Module-v0",
            num_envs=64,
            vectorization_mode="vector_entry_point",
            problem=problem,
            dtype="float64",
            symmetry=symmetry,
        )
        _, info = envs.reset(seed=0)
        runs = envs.unwrapped.episodes.runs  # type: ignore[attr-defined]
        for search in range(1, envs.single_action_space.n):  # type: ignore[attr-defined]
            before = info["loss"].copy()
            _, _, _, _, info = envs.step(np.full(64, search))
            loss, gradient = problem.loss_and_gradient(runs.params, runs.instance, runs.batch)
            np.testing.assert_allclose(loss.numpy(), before, rtol=1e-10)
            torch.testing.assert_close(runs.gradient, gradient, rtol=1e-8, atol=1e-12)
            if symmetry != "permutation":
                assert info["teleports"].sum() > 0
