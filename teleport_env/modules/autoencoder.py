"""An autoencoder of handwritten digits: a family of problems made of a `torch.nn.Module` and real data."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from teleport_env.modules.problem import Data, ModuleProblem
from teleport_env.modules.report import Found
from teleport_env.problems.base import SPLITS
from teleport_env.problems.data import check_digits, digits
from teleport_env.random import Streams, key_of
from teleport_env.reading import integer

PIXELS = 64
_VALIDATION = 60
_LARGEST = 1797 // 3 - _VALIDATION
_FOUND: dict[tuple[type, int, int], Found] = {}


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of an image, the mean over images."""
    return 0.5 * (outputs - targets).square().sum(dim=1).mean()


class Autoencoder(ModuleProblem):
    """Reconstruct handwritten digits from a code of few numbers, by a `torch.nn.Module`.

    ## Description
    ``L(w) = 0.5 |f(x) - x|^2``, the mean over the training images. The network has widths 64, *hidden*, *code*,
    *hidden*, 64 and biases. ReLU stands between image and hidden layer on both sides, and nothing around the code. The
    code is narrower than the data, so that the minimum is not 0; it is not known. Deep autoencoders are the classical
    test of optimizers for networks (Hinton and Salakhutdinov, Science 313, 2006; Martens, ICML 2010).

    ## Symmetry
    Found in the module: ``scaling`` of all hidden units and of the code (default), ``general_linear`` on the code, and
    ``permutation``. None changes the outputs, so that no teleport lowers the loss by itself.

    ## Starting State
    torch's own initialisation of linear layers. A fixed random order of scikit-learn's digits is cut in three pools, one for
    each of ``"train"``, ``"validation"`` and ``"test"``; ``"paper"`` draws from all (the publication has no such
    experiment). Of a pool the first ``images`` are trained on and the next 60 are for validation.

    ## Arguments
    * ``hidden``, ``code``: widths.
    * ``images``: training images.

    ## Defaults
    Gradient descent within 100 evaluations; the rate is the best constant one of seven tried on 32 instances of the train
    split.

    Needs scikit-learn (``pip install teleport-env[compare]``), at the first instance and not before.
    """

    def __init__(self, hidden: int = 24, code: int = 6, images: int = 120) -> None:
        self.hidden, self.code = integer("hidden", hidden, least=1), integer("code", code, least=1)
        self.images = integer("images", images, least=4, most=_LARGEST)
        # stands for the images until one is asked for
        grey = torch.linspace(0.0, 1.0, self.images * PIXELS, dtype=torch.float64, device="cpu")
        data = (grey.view(self.images, PIXELS),) * 2
        super().__init__(self._layers(), squared_error, data, name="Autoencoder", learning_rate=0.2, budget=100.0)

    def _layers(self) -> nn.Module:
        """The network; every instance draws its weights anew."""

        def linear(inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, device="cpu", dtype=torch.float64)

        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            return nn.Sequential(
                linear(PIXELS, self.hidden),
                nn.ReLU(),
                linear(self.hidden, self.code),
                linear(self.code, self.hidden),
                nn.ReLU(),
                linear(self.hidden, PIXELS),
            )

    @cached_property
    def found(self) -> Found:
        """As for any module, but found once per process for all problems of equal widths."""
        key = (type(self), self.hidden, self.code)
        if key not in _FOUND:
            _FOUND[key] = super().found
        return _FOUND[key]

    def check_data(self) -> None:
        check_digits()

    def data_of(self, split: str) -> tuple[Data, Data | None]:
        pool = digits().images
        key = torch.tensor([key_of(f"{self.name}/images")], device="cpu")
        order = Streams(key).permutation(len(pool))[0]
        if split != "paper":
            third = len(pool) // 3
            start = (SPLITS.index(split) - 1) * third
            order = order[start : start + third]
        images = len(self._data["targets"])
        training, rest = pool[order[:images]], pool[order[images : images + _VALIDATION]]
        return (training, training), (rest, rest)
