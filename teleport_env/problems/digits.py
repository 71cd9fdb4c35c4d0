"""Handwritten digits: the small ones that come with scikit-learn, and MNIST as published and with cheap runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from teleport_env.problems.base import Defaults
from teleport_env.problems.classification import Classification
from teleport_env.problems.data import LabelledImages, check_digits, digits, mnist, mnist_files
from teleport_env.symmetries.base import Symmetry


class Digits(Classification):
    """Classify 8 x 8 digits with a small network: real data, seconds to train.

    ## Description
    Cross-entropy of a network with widths 64, *hidden*, 10 on scikit-learn's 1,797 digits, grey values in ``[0, 1]``. A
    gradient step sees a mini-batch of 20, drawn without replacement from the training set in an order of the run's own.

    ## Symmetry
    * ``scaling`` (default of the splits on which schedules are learned): exact for all data.
    * ``general_linear`` (default of the paper split), ``general_linear_published``, ``general_linear_first_order``: built
      from the mini-batch and exact on it alone. The mini-batch must have no more images than each moved layer has
      inputs (a bias counts as one).
    * ``permutation`` of hidden units.

    ## Starting State
    Normal weights (He et al., ICCV 2015), zero biases. A fixed random order of the images is cut in three pools of 599,
    one for each of ``"train"``, ``"validation"`` and ``"test"``. So no image of the test split is ever seen in the
    other two. ``"paper"`` has all 1,797, those of the three pools too: it is no held-out set. The publication has no
    experiment on these digits, so the name stands for its setting. Of each pool 80 % are the training set, the others are
    for validation.

    ## Arguments
    * ``hidden``: widths of the hidden layers.
    * ``batch_size``: images in a mini-batch; None: gradient steps on the whole training set.
    * ``activation``: ``"leaky_relu"`` (slope 0.1), ``"tanh"``, ``"sigmoid"``, ``"asinh"``, ``"relu"``.
    * ``bias``: whether the layers have one.

    Needs scikit-learn (``pip install teleport-env[compare]``), at the first instance and not before.
    """

    name = "Digits"

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        batch_size: int | None = 20,
        activation: str = "leaky_relu",
        bias: bool = True,
    ) -> None:
        super().__init__(64, hidden, batch_size, activation, bias)

    def read_images(self) -> LabelledImages:
        return digits()

    def check_data(self) -> None:
        check_digits()

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            return Defaults(
                learning_rate=0.4, symmetry="general_linear", searches=(self.published_search,), budget=300.0
            )
        return self._learning_defaults(learning_rate=0.4, budget=300.0)

    @property
    def published_search(self) -> dict[str, Any]:
        return {"search": "gradient_ascent", "steps": 8, "rate": 1e-4}


class DigitsFull(Digits):
    """Classify 8 x 8 digits by gradients of the whole training set: ten thousand weights and no noise of mini-batches.

    ## Description
    Cross-entropy of a network with widths 64, *hidden*, 10 and leaky ReLU on all training images of a split, grey values in
    ``[0, 1]``. The loss has no minimum: it tends to 0 as the weights grow.

    ## Symmetry
    ``scaling`` of hidden units (default) and ``permutation``, both exact for all data. The general linear actions of
    `Digits` are not exact on so many images and are not offered.

    ## Starting State
    As in `Digits`, with the same pools of images, so that no image of the test split is ever seen in the other two.

    ## Arguments
    * ``hidden``: widths of the hidden layers; the default has 10,510 weights.
    * ``activation``, ``bias``: as in `Digits`.

    ## Defaults
    Gradient descent within 60 evaluations. The rate lies between the two best constant ones of six tried on 16 instances of
    the train split; at 2.4 nearly all diverge.
    """

    name = "DigitsFull"

    def __init__(self, hidden: Sequence[int] = (140,), activation: str = "leaky_relu", bias: bool = True) -> None:
        super().__init__(hidden, None, activation, bias)

    @property
    def pools_of(self) -> str:
        return Digits.name

    @cached_property
    def symmetries(self) -> Mapping[str, Symmetry]:
        """Scalings and permutations of the hidden units."""
        return {name: one for name, one in super().symmetries.items() if name in ("scaling", "permutation")}

    def defaults(self, split: str = "train") -> Defaults:
        first = next(iter(self.symmetries))
        searches = self.searches_for(first, split)
        return Defaults(learning_rate=1.4, symmetry=first, searches=searches, budget=60.0)


class MNIST(Classification):
    """Classify MNIST with the publication's network (Zhao et al., NeurIPS 2022, section 6.1).

    ## Description
    Cross-entropy of a network 784-512-512-10 with leaky ReLU on mini-batches of 20 images, grey values in ``[0, 1]``.

    ## Symmetry
    As in `Digits`: ``general_linear`` (default of the paper split), its published and first-order forms, ``scaling``
    (default elsewhere), ``permutation``.

    ## Starting State
    Normal weights (He et al., ICCV 2015), zero biases. ``"paper"`` has all images of the training files, 48,000 to train on
    and 12,000 for validation. For the other splits a fixed random order of the images is cut in three pools of 20,000,
    one for each. So no image of the test split is ever seen in the other two. 80 % of a pool are its training set.
    Where only the t10k files are there, the same is made of their 10,000 images.

    ## Data
    Nothing is read before the first instance is drawn. The files are ``train-images-idx3-ubyte`` and
    ``train-labels-idx1-ubyte``, or the two of ``t10k``, gzip-compressed or not. They are looked for in ``folder``, else
    in the folder that the environment variable ``TELEPORT_ENV_DATA`` names, and in ``mnist`` inside it.
    ``source="openml"`` lets scikit-learn download the set.

    ## Arguments
    * ``folder``, ``source``: see above. ``part``: ``"train"``, ``"t10k"`` or None (train if it is there, else t10k).
    * ``hidden``: widths of the hidden layers.
    * ``batch_size``: images in a mini-batch; None: gradient steps on the whole training set.
    * ``activation``, ``bias``: as in `Digits`.

    The precision is float32 by default. The publication trains for 80 epochs of 2,400 steps and teleports right after the
    first, on 4 mini-batches with 10 ascent steps each. It gives its rates, but our copy of the text has lost the numbers:
    the rates here are ours. The ascent's is about the largest on which the ascent stays finite after some 50 steps.
    """

    name = "MNIST"

    def __init__(
        self,
        folder: str | Path | None = None,
        hidden: Sequence[int] = (512, 512),
        batch_size: int | None = 20,
        activation: str = "leaky_relu",
        bias: bool = True,
        part: str | None = None,
        source: str = "files",
    ) -> None:
        super().__init__(784, hidden, batch_size, activation, bias)
        self.folder = folder
        self.part = part
        self.source = source

    def read_images(self) -> LabelledImages:
        return mnist(self.folder, self.part, self.source)

    def check_data(self) -> None:
        if self.source == "files":
            mnist_files(self.folder, self.part)

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            epochs, batches_per_epoch = 80, 2400
            return Defaults(
                learning_rate=0.1,
                symmetry="general_linear",
                searches=({"search": "mini_batch", "batches": 4, "inner": self.published_search},),
                budget=float(epochs * batches_per_epoch),
                dtype=torch.float32,
            )
        return self._learning_defaults(learning_rate=0.2, budget=300.0, dtype=torch.float32)

    @property
    def published_search(self) -> dict[str, Any]:
        return {"search": "gradient_ascent", "steps": 10, "rate": 1e-3, "retract": True}


class MNISTSmall(MNIST):
    """Classify MNIST with the small network of `Digits`, so that schedules can be tuned and learned on it.

    ## Description
    `MNIST` with a network 784-32-32-10. Its gradient step takes a tenth of the time or less where several runs share a
    tensor. The loss is cross-entropy with leaky ReLU on mini-batches of 20 images, grey values in ``[0, 1]``.

    Symmetry, starting state, pools of images, data and arguments are those of `MNIST`, but for the default of ``hidden``.
    The publication has no such network: ``"paper"`` stands for its setting, with the settings of `MNIST`.
    """

    name = "MNISTSmall"

    def __init__(self, folder: str | Path | None = None, hidden: Sequence[int] = (32, 32), **others: Any) -> None:
        super().__init__(folder, hidden, **others)

    @property
    def pools_of(self) -> str:
        return MNIST.name
