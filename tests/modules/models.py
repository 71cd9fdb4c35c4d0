"""Small modules of every kind that the finder and the problem are tested on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """A small convolutional network with batch normalization and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        x = F.avg_pool2d(F.relu(self.second(x)), 2)
        return self.head(self.drop(x.flatten(1)))


class Transformer(nn.Module):
    """Rows of an image as tokens, one encoder layer, the mean over the tokens."""

    def __init__(self, width: int = 8, activation: str = "relu") -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, activation=activation, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1)) + self.position
        return self.head(self.norm(self.layer(x)).mean(1))
