"""Cross-entropy on mini-batches by kernels, against the torch code that it stands for and against longer numbers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from torch import Tensor

from teleport_env.checks.report import identical
from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS
from teleport_env.problems import Digits
from teleport_env.problems.classification import Classification, image_inputs
from teleport_env.problems.data import MiniBatches

pytest.importorskip("sklearn")
pytestmark = pytest.mark.skipif(KERNELS is None, reason="the package was built without a C compiler")

PROBLEMS = (
    Digits(),
    Digits(hidden=(7,), batch_size=1, bias=False),
    Digits(hidden=(9, 3, 5), batch_size=17, activation="relu"),
)
every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.layers.widths[1:-1]))


def drawn(problem: Digits, count: int) -> tuple[Instance, Tensor, Tensor]:
    """Instances, a mini-batch of each, and starts, some of them moved far away or beyond all numbers."""
    instance = problem.instances(torch.arange(count), "train")
    assert problem.batch_size is not None
    batches = MiniBatches(problem.num_examples(instance), problem.batch_size)
    w = instance.start.clone()
    for row, value in enumerate((torch.nan, torch.inf, -torch.inf, 1e200, 0.0, 1e-320)):
        w[3 * row + 1 :: 25] = value
        w[3 * row + 2 :: 25, 0] = value
        w[3 * row + 3 :: 25] *= 3.0**row
    return instance, batches.indices(instance["order_key"], torch.arange(count)), w


def plain(problem: Digits, w: Tensor, instance: Instance, batch: Batch) -> tuple[Tensor, Tensor]:
    return type(problem).loss_and_gradient.plain(problem, w, instance, batch)  # type: ignore[attr-defined]


def loss_of(problem: Digits, w: Tensor, instance: Instance, batch: Batch) -> Tensor:
    with torch.no_grad():
        return problem.loss(w, instance, batch)


@every_problem
@pytest.mark.parametrize("count", [1, 8, 61])
def test_kernels_agree_with_torch(problem: Digits, count: int) -> None:
    instance, batch, w = drawn(problem, count)
    assert KERNELS.classifier(w, True, *problem.network_arguments(instance, batch)) is not None
    wanted_loss, wanted = plain(problem, w, instance, batch)
    columns = w.t().contiguous().t()
    spread = torch.stack([batch, -batch], dim=2)[:, :, 0]
    for laid, chosen in ((w, batch), (columns, batch), (w, spread)):
        loss, gradient = problem.loss_and_gradient(laid, instance, chosen)
        assert identical(loss, loss_of(problem, laid, instance, chosen))
        sound = torch.isfinite(wanted_loss)
        assert torch.equal(torch.isfinite(loss), sound)
        # a loss is a difference of logits, whose rounding stays
        size = wanted_loss + 1e-3 * torch.stack([logits_of(problem, w, instance, batch), torch.ones(count)]).amax(0)
        assert ((loss - wanted_loss).abs() <= 1e-12 * size)[sound].all()
        length = (wanted.abs().amax(dim=1) + 1e-3)[:, None]
        assert ((gradient - wanted).abs() <= 1e-12 * length)[sound].all()


def logits_of(problem: Digits, w: Tensor, instance: Instance, batch: Tensor) -> Tensor:
    """The largest logit of each run, by its size."""
    outputs = problem.network.forward(w, problem.network.inputs(instance, batch))
    return outputs.abs().flatten(1).amax(dim=1)


@every_problem
def test_a_row_has_the_same_bits_alone_and_in_company(problem: Digits) -> None:
    instance, batch, w = drawn(problem, 70)
    for laid in (w, w.t().contiguous().t()):
        loss, gradient = problem.loss_and_gradient(laid, instance, batch)
        measured = problem.evaluate(laid, instance)
        for rows in (torch.tensor([0]), torch.tensor([5, 6, 7, 3]), torch.arange(9, 26), torch.arange(69, 30, -1)):
            alone = problem.loss_and_gradient(laid[rows], instance.select(rows), batch[rows])
            assert identical(alone[0], loss[rows])
            assert identical(alone[1], gradient[rows])
            for name, values in problem.evaluate(laid[rows], instance.select(rows)).items():
                assert identical(values, measured[name][rows]), name


@every_problem
def test_whole_sets_are_measured_as_torch_does(problem: Digits) -> None:
    instance, _, w = drawn(problem, 29)
    for images, labels in (("images", "labels"), ("validation_images", "validation_labels")):
        data = instance[images], instance[labels]
        wanted_loss, wanted_share = problem.measured_in_torch(w, *data)
        loss, share = KERNELS.measure(w, problem.packed_for(Classification, image_inputs), *data)
        sound = torch.isfinite(wanted_loss)
        assert torch.equal(torch.isfinite(loss), sound)
        assert ((loss - wanted_loss).abs() <= 1e-12 * (1.0 + wanted_loss))[sound & (wanted_loss < 1e6)].all()
        near = w.abs().amax(dim=1) < 1e100  # beyond it logits are rounded to ties
        assert torch.equal(share[near], wanted_share[near])
    found = problem.evaluate(w, instance)
    assert identical(found["validation_loss"], loss)
    assert identical(found["validation_accuracy"], share)


def two_classes(distance: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient by the second logit of a classifier whose logits are 0 and some distance."""
    w = torch.zeros(len(distance), 2, dtype=torch.float64)
    w[:, 1] = torch.from_numpy(distance)
    network = struct.pack("=3q2d", 0, 1, 2, 1.0, 1.0)
    one, labels = torch.ones(1, 1, dtype=torch.float64), torch.tensor([label])
    loss, gradient = KERNELS.classifier(w, True, network, one, labels, torch.zeros(len(w), 1, dtype=torch.int64))
    return loss.numpy(), gradient[:, 1].numpy()


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="numbers of more than 64 bits are needed")
def test_exponentials_and_logarithms_are_right_to_the_last_digits() -> None:
    """exp and log within one unit in the last place each: sums and quotients of them within 6e-16."""
    draw = np.random.default_rng(0)
    distance = np.concatenate(
        [draw.uniform(-708, 0, 40000), draw.uniform(-1, 1, 40000), -(10.0 ** draw.uniform(-20, 2, 9999))]
    )
    loss, gradient = two_classes(distance, 0)
    longer = distance.astype(np.longdouble)
    share = np.exp(longer) / (1 + np.exp(longer))
    near = np.abs(distance) < 1.0
    assert np.max(np.abs(gradient / share - 1)) < 6e-16
    assert np.max(np.abs(loss / np.log1p(np.exp(longer)) - 1)[near]) < 6e-16
    assert np.max(np.abs(loss - np.log1p(np.exp(longer)))) < 4e-16  # it is the logarithm of 1 plus little
    loss, gradient = two_classes(distance, 1)
    assert np.max(np.abs(loss / (np.log1p(np.exp(longer)) - longer) - 1)) < 6e-16
    assert np.max(np.abs(gradient - (share - 1))) < 4e-16


def test_extreme_logits() -> None:
    distance = np.array([0.0, 1e300, -1e300, 800.0, -800.0, -740.0, np.inf, -np.inf, np.nan])
    loss, gradient = two_classes(distance, 0)
    assert np.array_equal(loss[:5], [np.log(2.0), 1e300, 0.0, 800.0, 0.0])
    assert np.array_equal(gradient[:5], [0.5, 1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(gradient[5], np.exp(-740.0), atol=2 * 5e-324, rtol=0)  # a subnormal number
    wanted = torch.logsumexp(torch.stack([torch.zeros(9), torch.from_numpy(distance)], dim=1), dim=1).numpy()
    assert np.array_equal(loss[6:], wanted[6:], equal_nan=True)


def test_what_the_kernel_does_not_serve_goes_the_way_of_torch() -> None:
    problem = Digits()
    instance, batch, w = drawn(problem, 3)
    own = problem.network_arguments(instance, batch)
    assert own is not None
    network, images, labels, _ = own
    assert KERNELS.classifier(w, True, *own) is not None
    for refused in (
        (network, images, labels, batch + problem.num_examples(instance)),
        (network, images, labels, -batch - 1),
        (network, images, labels, batch[:2]),
        (network, images, labels, batch.to(torch.int32)),
        (network, images, labels - 10, batch),
        (network, images, labels + 1, batch),
        (network, images, labels[1:], batch),
        (network, images[:, 1:], labels, batch),
        (network, images.float(), labels, batch),
        (network, images, labels, batch.repeat(1, 40)),
    ):
        assert KERNELS.classifier(w, True, *refused) is None
    assert KERNELS.measure(w, network, images, labels + 1) is None
    assert problem.network_arguments(instance, None) is None
    single = problem.instances(torch.arange(3), "train", dtype=torch.float32)
    assert problem.loss_and_gradient(single.start, single, batch)[1].dtype == torch.float32
    assert problem.evaluate(single.start, single)["loss"].dtype == torch.float32
    w = w.clone().requires_grad_(True)
    (automatic,) = torch.autograd.grad(problem.loss(w, instance, batch)[0], w)
    torch.testing.assert_close(
        automatic[0], problem.loss_and_gradient(w, instance, batch)[1][0], rtol=1e-12, atol=1e-14
    )


def test_replaced_parts_are_not_bypassed() -> None:
    class Smoothed(Digits):
        def output_loss(self, outputs: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
            return 2.0 * super().output_loss(outputs, instance, batch)

    usual, smoothed, curved = Digits(), Smoothed(), Digits(activation="tanh")
    instance, batch, _ = drawn(usual, 3)
    assert smoothed.network_arguments(instance, batch) is None
    assert curved.network_arguments(instance, batch) is None
    twice = loss_of(smoothed, instance.start, instance, batch)
    torch.testing.assert_close(twice, 2.0 * loss_of(usual, instance.start, instance, batch))
