"""A small transformer, whose tokens are the rows of an image, trained with and without teleports, and the controls.

python examples/own_loop_transformer.py
"""

from __future__ import annotations

import own_loop
import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """Scalings act on queries against keys, on values against the output, and on the units of the feed-forward part."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(side, 32), nn.Parameter(0.02 * torch.randn(side, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x) + self.place).mean(dim=1))


def main(words: list[str] | None = None) -> None:
    asked = own_loop.parser(__doc__).parse_args(words)
    images, labels = own_loop.data(asked.data_dir)
    model = lambda: Transformer(images.shape[1])  # noqa: E731
    own_loop.report(own_loop.Task(images, labels, model, torch.optim.AdamW, 3e-3), asked)


if __name__ == "__main__":
    main()
