"""The small digits that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from teleport_env.problems.base import Defaults
from teleport_env.problems.classification import Classification
from teleport_env.problems.data import LabelledImages, digits


class Digits(Classification):
    """Classify 8 x 8 digits with a small network: real data, seconds to train.

    ## Description
    Cross-entropy of a network with widths 64, *hidden*, 10 on scikit-learn's 1,797 digits, grey values in ``[0, 1]``. A
    gradient step sees a mini-batch of 20, drawn without replacement from the training set in an order of the run's own.

    ## Symmetry
    * ``scaling`` (default of the splits on which schedules are learned): exact for all data.
    * ``general_linear`` (default of the paper split), ``general_linear_published``, ``general_linear_first_order``: built
      from the mini-batch and exact on it alone, and only while it has no more images than every layer that is acted on
      has inputs (a bias counts as one).
    * ``permutation`` of hidden units.

    ## Starting State
    Normal weights (He et al., ICCV 2015), zero biases. A fixed random order of the images is cut in three pools of 599,
    one for each of ``"train"``, ``"validation"`` and ``"test"``, so that no image of the test split is ever seen in the
    other two. ``"paper"`` has all 1,797, those of the three pools too: it is no held-out set (the publication has no
    experiment on these digits, the name stands for its setting). Of each pool 80 % are the training set, the others are
    for validation.

    ## Arguments
    * ``hidden``: widths of the hidden layers.
    * ``batch_size``: images in a mini-batch; None: gradient steps on the whole training set.
    * ``activation``: ``"leaky_relu"`` (slope 0.1), ``"tanh"``, ``"sigmoid"``, ``"asinh"``, ``"relu"``.
    * ``bias``: whether the layers have one.

    Needs scikit-learn (``pip install teleport-env[compare]``), at the first instance and not before.

    ## Version History
    * v0: first version.
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

    def defaults(self, split: str = "train") -> Defaults:
        if split == "paper":
            return Defaults(
                learning_rate=0.4, symmetry="general_linear", searches=(self.published_search,), budget=300.0
            )
        return self._learning_defaults(learning_rate=0.4, budget=300.0)

    @property
    def published_search(self) -> dict[str, Any]:
        return {"search": "gradient_ascent", "steps": 8, "rate": 1e-4}
