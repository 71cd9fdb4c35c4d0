"""The matrix exponential against references, its bits, its price and its derivatives."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from teleport_env.groups import GL, SO, SO2
from teleport_env.groups import matrix as matrix_module
from teleport_env.groups.matrix import exponential_flops, inverse_or_nan, matrix_exponential
from teleport_env.random import Streams


def coordinates(dim: int, length: float, count: int = 7, seed: int = 0) -> Tensor:
    xi = Streams(torch.arange(count)).fork(seed).normal((dim,))
    return length * xi / xi.norm(dim=1, keepdim=True)


def exact(matrix: Tensor) -> np.ndarray:
    """The exponential in extended precision (64 bits of mantissa): scaled far down, Taylor, squared up."""
    a = matrix.numpy().astype(np.longdouble) / 2**12
    term: np.ndarray = np.eye(len(a), dtype=np.longdouble)
    below = np.zeros_like(term)  # exp - 1, so that squaring keeps the small digits
    for j in range(1, 20):
        term = term @ a / j
        below = below + term
    for _ in range(12):
        below = 2 * below + below @ below
    return below + np.eye(len(a), dtype=np.longdouble)


needs_reference = pytest.mark.skipif(bool(np.finfo(np.longdouble).eps > 1e-18), reason="needs extended precision")


def worst_relative_error(matrix: Tensor) -> float:
    errors = []
    for got, one in zip(matrix_exponential(matrix).numpy(), matrix, strict=True):
        reference = exact(one)
        errors.append(float(np.abs(got - reference).max() / np.abs(reference).max()))
    return max(errors)


@needs_reference
@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("length", [1e-7, 0.1, 1.0, math.pi, 10 * math.pi])
def test_rotations_are_right_to_1e_14(n: int, length: float) -> None:
    assert worst_relative_error(SO(n).algebra(coordinates(n * (n - 1) // 2, length))) < 1e-14


@needs_reference
@pytest.mark.parametrize("n", [2, 4, 16, 32])
@pytest.mark.parametrize("length", [1e-7, 1.0, 5.0, 10 * math.pi])
def test_general_matrices_are_right_to_2e_14(n: int, length: float) -> None:
    assert worst_relative_error(GL(n).algebra(coordinates(n * n, length))) < 2e-14


@pytest.mark.parametrize("n", [1, 2, 4, 16, 32])
@pytest.mark.parametrize("length", [1e-7, 1.0, 5.0])
def test_agrees_with_scipy_and_torch(n: int, length: float) -> None:
    """Looser than the test above: SciPy's own error was measured at 3e-13 for 2 x 2 matrices of length 5."""
    matrix = GL(n).algebra(coordinates(n * n, length))
    got = matrix_exponential(matrix)
    scale = got.abs().amax(dim=(1, 2), keepdim=True)
    scipys = torch.from_numpy(np.stack([scipy.linalg.expm(one) for one in matrix.numpy()]))
    assert float(((got - scipys) / scale).abs().max()) < 1e-11
    assert float(((got - torch.matrix_exp(matrix)) / scale).abs().max()) < 1e-13


def test_far_negative_matrices_keep_their_relative_accuracy() -> None:
    """Squaring exp - 1 throughout would leave 1e-16 absolute where the whole result is 1e-13."""
    matrix = -30.0 * torch.eye(3, dtype=torch.float64)[None]
    diagonal = matrix_exponential(matrix).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonal, torch.full_like(diagonal, math.exp(-30.0)), rtol=2e-14, atol=0.0)


def test_nilpotent_matrices_are_exact() -> None:
    shift = torch.diag(torch.ones(3, dtype=torch.float64), 1)[None] * 0.25
    powers = [torch.linalg.matrix_power(shift, j) / math.factorial(j) for j in range(4)]
    torch.testing.assert_close(matrix_exponential(shift), sum(powers[1:], powers[0]), rtol=1e-15, atol=1e-18)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_orthogonality_up_to_ten_pi(n: int) -> None:
    rotation = SO(n).exp(coordinates(n * (n - 1) // 2, 10 * math.pi))
    deviation = rotation.mT @ rotation - torch.eye(n, dtype=torch.float64)
    assert float(deviation.abs().max()) < 1e-13


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12, 16, 24, 32])
def test_bits_do_not_depend_on_the_batch(n: int) -> None:
    """Rows of very different norm, so that the neighbours are squared more often."""
    lengths = torch.tensor([1e-7, 0.0, 0.3, 1.0, 4.0, 30.0, 500.0], dtype=torch.float64)
    matrix = GL(n).algebra(coordinates(n * n, 1.0) * lengths[:, None])
    together = matrix_exponential(matrix)
    inverse = inverse_or_nan(together)
    for row in range(7):
        assert torch.equal(matrix_exponential(matrix[row : row + 1])[0], together[row])
        alone = inverse_or_nan(together[row : row + 1])[0]
        torch.testing.assert_close(alone, inverse[row], rtol=0.0, atol=0.0, equal_nan=True)
    tiled = matrix_exponential(matrix.repeat(37, 1, 1))
    assert torch.equal(tiled, together.repeat(37, 1, 1))


def test_hopeless_rows_are_nan_and_alone() -> None:
    matrix = GL(3).algebra(coordinates(9, 1.0, count=6))
    sound = matrix_exponential(matrix)
    spoiled = matrix.clone()
    spoiled[1] = torch.nan
    spoiled[2, 0, 1] = torch.inf
    spoiled[4] *= 1e17  # 1-norm above 1 / eps
    result = matrix_exponential(spoiled)
    assert bool(torch.isnan(result[[1, 2, 4]]).all())
    assert torch.equal(result[[0, 3, 5]], sound[[0, 3, 5]])


def test_gradients_of_sound_rows_survive_their_neighbours() -> None:
    """A neighbour that overflows while it waits for others to be squared must not spread NaN backwards."""
    matrix = GL(2).algebra(coordinates(4, 1.0, count=3)).clone()
    matrix[1] = 700.0 * torch.eye(2)
    matrix[2] = torch.nan

    def gradient(x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_(True)
        return torch.autograd.grad(matrix_exponential(leaf)[0].square().sum(), leaf)[0][0]

    assert torch.equal(gradient(matrix), gradient(matrix[:1]))


@pytest.mark.parametrize("group", [SO2(), SO(3), SO(4), GL(2), GL(3)], ids=repr)
@pytest.mark.parametrize("length", [0.0, 1e-7, 0.5, 6.0])
def test_first_and_second_derivatives(group: SO2 | SO | GL, length: float) -> None:
    xi = coordinates(group.dim, 1.0, count=2) * length
    xi.requires_grad_(True)
    weights = [Streams.from_seeds(3).normal(tuple(group.exp(xi).shape[1:])).expand(2, -1, -1)]
    assert torch.autograd.gradcheck(group.exp, (xi,), rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(group.exp, (xi,), grad_outputs=weights, rtol=1e-5, atol=1e-6)


def test_flops_are_those_of_the_products_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price counts three squarings; the products really made are counted here, on tensors that count."""

    class Counting(torch.Tensor):
        products = 0

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            Counting.products += function in (torch.Tensor.__matmul__, torch.Tensor.matmul, torch.matmul)
            return super().__torch_function__(function, types, args, kwargs or {})

    def products(norm: float) -> int:
        Counting.products = 0
        matrix_exponential((norm * torch.eye(4, dtype=torch.float64))[None].as_subclass(Counting))
        return Counting.products

    n = 4
    assert 2.0 * n**3 * products(5.0) == exponential_flops(n) == GL(n).exp_flops == SO(n).exp_flops
    assert [products(norm) for norm in (0.0, 0.7, 1.5, 3.1, 6.3, 12.7, 25.0)] == [6, 6, 7, 8, 9, 10, 11]
    assert SO2().exp_flops == 0.0


def test_the_largest_norm_is_not_a_limit_of_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were fewer squarings made than the polynomial needs, the error would show."""
    matrix = SO(3).algebra(coordinates(3, 5.0))
    reference = torch.from_numpy(np.stack([scipy.linalg.expm(one) for one in matrix.numpy()]))
    assert float((matrix_exponential(matrix) - reference).abs().max()) < 1e-13
    monkeypatch.setattr(matrix_module, "_LARGEST_NORM", 8.0)
    assert float((matrix_exponential(matrix) - reference).abs().max()) > 1e-10


def test_singular_matrices_have_nan_for_an_inverse() -> None:
    one = torch.eye(3, dtype=torch.float64)
    counting = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(3, 3)  # rank 2, though no pivot is exactly zero
    matrix = torch.stack(
        (one, counting, 2 * one, torch.zeros_like(one), torch.ones_like(one), one * torch.nan, 4 * one)
    )
    inverse = inverse_or_nan(matrix)
    assert torch.equal(inverse[[0, 2, 6]], torch.stack((one, one / 2, one / 4)))
    assert bool(torch.isnan(inverse[[1, 3, 4, 5]]).all())
    # badly scaled is not singular
    assert torch.equal(inverse_or_nan(1e-200 * matrix[:1]), 1e200 * matrix[:1])


@pytest.mark.parametrize("n", [1, 2, 3, 6, 8])
def test_small_inverses_by_the_kernel_are_those_of_lapack(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any layout, with zeros for first pivots, and NaN in the same rows."""
    matrix = Streams(torch.arange(40)).normal((n, n))
    matrix[:4, 0, 0] = 0.0
    matrix[1] = torch.nan
    matrix[2, :, -1] = 0.0
    matrix[3] *= 1e-150
    found = [inverse_or_nan(matrix), inverse_or_nan(matrix.mT.contiguous().mT)]
    monkeypatch.setattr(matrix_module, "KERNELS", None)
    expected = inverse_or_nan(matrix)
    assert torch.isnan(expected[[1, 2]]).all()
    assert n == 1 or torch.isfinite(expected[[0, 3]]).all()
    error = 1e-12 if n > 1 else 0.0
    for inverse in found:
        torch.testing.assert_close(inverse, found[0], rtol=0.0, atol=0.0, equal_nan=True)
        scale = expected.abs().amax(dim=(1, 2), keepdim=True)
        assert torch.equal(torch.isnan(inverse), torch.isnan(expected))
        assert float(((inverse - expected) / scale).nan_to_num().abs().max()) <= error


def test_gradients_pass_beside_singular_rows() -> None:
    matrix = torch.stack((torch.eye(2), torch.zeros(2, 2), torch.full((2, 2), torch.nan))).to(torch.float64)
    matrix.requires_grad_(True)
    (gradient,) = torch.autograd.grad(inverse_or_nan(matrix)[0].diagonal().sum(), matrix)
    assert torch.equal(gradient[0], -torch.eye(2, dtype=torch.float64))
