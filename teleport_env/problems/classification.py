"""Classification of images by a network: what `Digits` and `MNIST` share.

All runs of a problem see the same images, so these live in `Instance.shared`, already in the precision and on the device of
the runs, and are converted once and not at every reset. A run's own are its start and the order of its mini-batches.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from teleport_env.instances import Batch, Instance
from teleport_env.native import KERNELS
from teleport_env.problems.base import SPLITS
from teleport_env.problems.compiled import compiled
from teleport_env.problems.data import LabelledImages
from teleport_env.problems.network_problem import NetworkProblem
from teleport_env.random import Streams, key_of
from teleport_env.reading import integer
from teleport_env.symmetries.activations import LeakyReLU
from teleport_env.symmetries.activations import activation as activation_named
from teleport_env.symmetries.networks import FeedForward, Layers

NUM_CLASSES = 10
_EVALUATION_ELEMENTS = 1 << 24  # bounds the memory of one layer's values over the whole training set

_KERNEL = compiled("classifier", lambda problem, instance, batch: problem.network_arguments(instance, batch))


def image_inputs(instance: Instance, batch: Batch) -> Tensor:
    """The images of the mini-batch, or all training images, ``(B, d, n)``, an image per column."""
    images: Tensor = instance["images"]
    if batch is None:
        return images.T.expand(len(instance), -1, -1)
    return images[batch].transpose(1, 2)


class Classification(NetworkProblem):
    """Cross-entropy of a network's logits, the mean over the mini-batch or the training set.

    Instance tensors: ``order_key`` ``(B,)`` int64, the key of the run's order of mini-batches. Shared: ``images`` ``(N, d)``
    and ``labels`` ``(N,)`` of the training set, ``validation_images`` and ``validation_labels``.

    Rows are the same bits alone and among others in float64 and with one thread of torch: a product of a single run may be
    split among threads along its examples.

    Args:
        pixels: Length ``d`` of an image.
        hidden: Widths of the hidden layers.
        batch_size: Examples in a mini-batch; None: every step sees the whole training set.
        activation: Name of the activation of the hidden layers.
        bias: Whether the layers have one.
    """

    def __init__(self, pixels: int, hidden: Sequence[int], batch_size: int | None, activation: str, bias: bool) -> None:
        if not hidden:
            raise ValueError("hidden must name the width of at least one hidden layer, got ()")
        if batch_size is not None:
            batch_size = integer("batch_size (None: the whole training set)", batch_size, least=1)
        layers = Layers((pixels, *hidden, NUM_CLASSES), bias=bias)
        super().__init__(FeedForward(layers, activation_named(activation), image_inputs), batch_size)
        self._batch_size = batch_size
        self._all_images: LabelledImages | None = None
        self._shared: dict[tuple[str, torch.dtype, torch.device], dict[str, Any]] = {}

    @abstractmethod
    def read_images(self) -> LabelledImages:
        """All images of the problem; called once, at the first instance."""

    @property
    def pools_of(self) -> str:
        """The problem whose cut of the images this one shares, so that what one is tested on the other never trains on."""
        return self.name

    # -- images --------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Images are read again rather than sent to every worker process.
        return {**self.__dict__, "_all_images": None, "_shared": {}}

    def image_rows(self, split: str) -> tuple[Tensor, Tensor]:
        """Which images a split trains on and which it validates on, int64 indices into `read_images`.

        A fixed random order of the images is cut in three equal pools, one for each of ``"train"``, ``"validation"`` and
        ``"test"``; ``"paper"`` has them all. The first 80 % of each are trained on.
        """
        count = len(self._read())
        key = torch.tensor([key_of(f"{self.pools_of}/images")], device="cpu")
        order = Streams(key).permutation(count)[0]
        if split != "paper":
            pool = count // 3
            start = (SPLITS.index(split) - 1) * pool
            order = order[start : start + pool]
        cut = len(order) * 4 // 5
        return order[:cut], order[cut:]

    def _read(self) -> LabelledImages:
        if self._all_images is None:
            images = self.read_images()
            found, wanted = images.images.shape[1], self.layers.widths[0]
            if found != wanted:
                raise ValueError(f"images of {images.origin} have {found} pixels, {self.name} takes {wanted}")
            self._all_images = images
        return self._all_images

    @torch.inference_mode(False)  # kept, and needed for gradients later
    def _shared_images(self, split: str, dtype: torch.dtype, device: torch.device | str) -> dict[str, Any]:
        """`Instance.shared` of a split, the same objects whenever asked."""
        key = (split, dtype, torch.device(device))
        if key not in self._shared:
            source = self._read()
            training, validation = self.image_rows(split)
            self._shared[key] = {
                "images": source.images[training].to(device, dtype),
                "labels": source.labels[training].to(device),
                "validation_images": source.images[validation].to(device, dtype),
                "validation_labels": source.labels[validation].to(device),
            }
        return self._shared[key]

    # -- instances -----------------------------------------------------------------------------------------------------

    def sample(self, generator: Streams, count: int, split: str) -> Instance:
        """Starts: normal weights of variance ``2 / ((1 + slope^2) fan-in)`` (He et al., ICCV 2015; slope: of the leaky ReLU;
        ``1 / fan-in`` for other activations), biases 0."""
        activation = self.network.activation
        gain = 2.0 / (1.0 + activation.slope**2) if isinstance(activation, LeakyReLU) else 1.0
        weights = []
        for (out, columns), into in zip(self.layers.shapes, self.layers.widths, strict=False):
            weight = generator.normal((out, into)) * (gain / into) ** 0.5
            weights.append(torch.cat([weight, weight.new_zeros(count, out, columns - into)], dim=2))
        return Instance(
            self.layers.flatten(weights),
            {"order_key": generator.bits()},
            self._shared_images(split, self._read().images.dtype, generator.device),
        )

    def place(self, drawn: Instance, split: str, dtype: torch.dtype, device: torch.device | str) -> Instance:
        rows = replace(drawn, shared={}).to(dtype, device)
        return replace(rows, shared=self._shared_images(split, dtype, device))

    @property
    def batch_size(self) -> int | None:
        return self._batch_size

    def num_examples(self, instance: Instance) -> int:
        return instance["labels"].shape[0]

    # -- loss ----------------------------------------------------------------------------------------------------------

    loss = _KERNEL(NetworkProblem.loss)
    loss_and_gradient = _KERNEL(NetworkProblem.loss_and_gradient)

    def network_arguments(self, instance: Instance, batch: Batch = None) -> tuple[Any, ...] | None:
        """What the kernel of classifiers needs; None where it would not compute what this problem's methods do."""
        own = None if batch is None else self.packed_for(Classification, image_inputs)
        return None if own is None else (own, instance["images"], instance["labels"], batch)

    def output_loss(self, outputs: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        return _cross_entropy(outputs, _labels(instance["labels"], outputs, batch))

    def output_loss_and_gradient(
        self, outputs: Tensor, instance: Instance, batch: Batch = None
    ) -> tuple[Tensor, Tensor]:
        labels = _labels(instance["labels"], outputs, batch)
        log_partition = torch.logsumexp(outputs, dim=1, keepdim=True)
        loss = (log_partition - outputs.gather(1, labels)).squeeze(1).mean(dim=1)
        delta = torch.exp(outputs - log_partition)
        delta.scatter_add_(1, labels, torch.full_like(log_partition, -1.0))
        return loss, delta / outputs.shape[2]

    def evaluate(self, params: Tensor, instance: Instance) -> dict[str, Tensor]:
        """Mean cross-entropy on the whole training and validation sets, and the share of validation images whose largest
        logit is their label's."""
        loss, _ = self._measured(params, instance["images"], instance["labels"])
        validation = self._measured(params, instance["validation_images"], instance["validation_labels"])
        return {"loss": loss, "validation_loss": validation[0], "validation_accuracy": validation[1]}

    def _measured(self, params: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy ``(B,)`` on all of some images, and the share of them that is classified right."""
        own = self.packed_for(Classification, image_inputs)
        found = None if own is None or KERNELS is None else KERNELS.measure(params, own, images, labels)
        return self.measured_in_torch(params, images, labels) if found is None else found

    @torch.no_grad()
    def measured_in_torch(self, params: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy ``(B,)`` and share of right labels ``(B,)``, where no compiled kernel measures them."""
        losses, shares = [], []
        for part in params.split(max(1, _EVALUATION_ELEMENTS // (max(self.layers.widths[1:]) * len(images)))):
            outputs = self.network.forward(part, images.T.expand(len(part), -1, -1))
            wanted = _labels(labels, outputs, None)
            losses.append(_cross_entropy(outputs, wanted))
            shares.append((outputs.argmax(dim=1, keepdim=True) == wanted).squeeze(1).to(params.dtype).mean(dim=1))
        return torch.cat(losses), torch.cat(shares)


def _labels(labels: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
    """Labels of the examples that ``outputs`` ``(B, classes, n)`` belong to, ``(B, 1, n)``."""
    if batch is None:
        return labels.expand(outputs.shape[0], 1, -1)
    return labels[batch].unsqueeze(1)


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over the examples of ``-log softmax(outputs)[label]``, ``(B,)``."""
    chosen = outputs.gather(1, labels).squeeze(1)
    return (torch.logsumexp(outputs, dim=1) - chosen).mean(dim=1)
