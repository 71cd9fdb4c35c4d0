"""Low-rank updates (LoRA) of a frozen perceptron, trained with and without teleports, and the controls.

The perceptron has learned upright digits; the updates learn digits turned by a quarter.

python examples/own_loop_lora.py
"""

from __future__ import annotations

import copy

import own_loop
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRank(nn.Module):
    """A frozen layer and a trained update of rank 4, which begins at zero.

    The update is a product of two matrices, between which positive factors, or any invertible matrix, may stand.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def pretrained(images: Tensor, labels: Tensor) -> nn.Sequential:
    """A perceptron that has learned the upright digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        batch = torch.randint(len(labels), (1024,))
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model


def main(words: list[str] | None = None) -> None:
    asked = own_loop.parser(__doc__).parse_args(words)
    images, labels = own_loop.data(asked.data_dir)
    base = pretrained(images, labels)

    def model() -> nn.Module:
        flat, first, relu, second = copy.deepcopy(base)
        return nn.Sequential(flat, LowRank(first), relu, LowRank(second))

    turned = images.rot90(dims=(1, 2)).contiguous()
    own_loop.report(own_loop.Task(turned, labels, model, torch.optim.AdamW, 3e-2), asked)


if __name__ == "__main__":
    main()
