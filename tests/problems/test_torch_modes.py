"""Losses where torch does more with tensors than to compute with their numbers: kernels leave these to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from teleport_env.instances import Instance
from teleport_env.native import KERNELS
from teleport_env.problems import PROBLEMS
from teleport_env.problems.base import Problem

OTHERS = ("MatrixCompletion", "Autoencoder", "DigitsFull", "MNIST", "MNISTSmall")
"""Problems left out: their code is that of another one, or autograd's, which is no part of a transformed function."""
OWN_GRADIENTS = [make() for name, make in PROBLEMS.items() if name not in OTHERS]
every_problem = pytest.mark.parametrize("problem", OWN_GRADIENTS, ids=lambda problem: problem.name)


class Seen(TorchDispatchMode):
    """Keeps the names of the operators that torch is called for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


def start(problem: Problem) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Parameters, the function from them to loss and gradient in one tensor, its value there and at their double."""
    instance: Instance = problem.instances(torch.arange(3), "train")
    params = instance.start.clone()

    def both(at: Tensor) -> Tensor:
        loss, gradient = problem.loss_and_gradient(at, instance)
        return torch.cat([loss[:, None], gradient], dim=1)

    return params, both, both(params), both(2.0 * params)


def negative(tensor: Tensor) -> Tensor:
    """The same numbers, in a view of their negatives."""
    view = torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    assert view.is_neg()
    return view


@every_problem
def test_views_of_negatives_are_read_as_what_they_are(problem: Problem) -> None:
    params, both, value, _ = start(problem)
    torch.testing.assert_close(both(negative(params)), value)


@every_problem
@pytest.mark.filterwarnings("ignore:Converting a tensor", "ignore:.torch.jit:DeprecationWarning")
def test_functions_are_transformed_and_traced(problem: Problem) -> None:
    params, both, value, doubled = start(problem)
    torch.testing.assert_close(torch.func.functionalize(both)(params), value)
    for traced in (make_fx(both)(params), torch.jit.trace(both, (params,))):
        torch.testing.assert_close(traced(2.0 * params), doubled)


@every_problem
def test_tangents_go_through_a_loss_without_gradients(problem: Problem) -> None:
    params, _, value, _ = start(problem)
    instance = problem.instances(torch.arange(3), "train")
    with torch.no_grad(), forward_ad.dual_level():
        loss = problem.loss(forward_ad.make_dual(params, torch.ones_like(params)), instance)
        tangent = forward_ad.unpack_dual(loss).tangent
    torch.testing.assert_close(tangent, value[:, 1:].sum(dim=1))


@every_problem
def test_modes_see_what_is_computed(problem: Problem) -> None:
    params, both, value, _ = start(problem)
    with Seen() as seen:
        found = both(params)
    torch.testing.assert_close(found, value)
    assert "mul.Tensor" in seen.names


@pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")
def test_searches_refuse_what_is_more_than_numbers() -> None:
    params, curvature = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    if KERNELS.turn_direction("rosenbrock", params, params, curvature) is None:
        pytest.skip("torch is too old to show kernels its tensors")
    assert KERNELS.turn_direction("rosenbrock", params, negative(params), curvature) is None
    none = torch._efficientzerotensor(params.shape, dtype=params.dtype, device="cpu")  # has no memory
    assert KERNELS.turn_direction("rosenbrock", params, none, curvature) is None
    with Seen():
        assert KERNELS.turn_direction("rosenbrock", params, params, curvature) is None
