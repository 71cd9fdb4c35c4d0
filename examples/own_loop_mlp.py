"""A perceptron trained with and without teleports, and the controls that explain the difference.

python examples/own_loop_mlp.py
"""

from __future__ import annotations

from functools import partial

import own_loop
import torch
from torch import nn


def main(words: list[str] | None = None) -> None:
    parser = own_loop.parser(__doc__)
    parser.add_argument("--width", type=int, default=256, help="units of each of two hidden layers")
    asked = parser.parse_args(words)
    if asked.width < 1:
        parser.error("--width must be at least 1")
    images, labels = own_loop.data(asked.data_dir)

    def model() -> nn.Module:
        # every hidden unit may be scaled: ReLU passes positive factors on to the next layer
        inner = (nn.Linear(images[0].numel(), asked.width), nn.ReLU(), nn.Linear(asked.width, asked.width), nn.ReLU())
        return nn.Sequential(nn.Flatten(), *inner, nn.Linear(asked.width, 10))

    own_loop.report(own_loop.Task(images, labels, model, partial(torch.optim.SGD, momentum=0.9), 0.1), asked)


if __name__ == "__main__":
    main()
