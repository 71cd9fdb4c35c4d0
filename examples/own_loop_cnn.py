"""A convolutional network with batch normalization, trained with and without teleports, and the controls.

python examples/own_loop_cnn.py
"""

from __future__ import annotations

from functools import partial

import own_loop
import torch
from torch import nn


def main(words: list[str] | None = None) -> None:
    asked = own_loop.parser(__doc__).parse_args(words)
    images, labels = own_loop.data(asked.data_dir)
    side = images.shape[1]

    def model() -> nn.Module:
        # a convolution before batch normalization is not scaled, the gain and bias of the normalization are
        first = (nn.Unflatten(1, (1, side)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        second = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        return nn.Sequential(*first, *second, nn.Linear(32 * (side // 2) ** 2, 10))

    own_loop.report(own_loop.Task(images, labels, model, partial(torch.optim.SGD, momentum=0.9), 0.05), asked)


if __name__ == "__main__":
    main()
