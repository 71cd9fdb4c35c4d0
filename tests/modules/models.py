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


# -- the models that the finder's table goes over ----------------------------------------------------------------------


class Residual(nn.Module):
    """A residual block with a projection shortcut, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(4, 8, 1)
        self.c = nn.Conv2d(8, 5, 3, padding=1)
        self.d = nn.Conv2d(5, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.b(F.relu(self.a(x))) + self.shortcut(x))
        x = F.relu(self.d(F.relu(self.c(x))) + x)
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenated features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.first(x))
        two = F.relu(self.second(one))
        return self.head(F.adaptive_avg_pool2d(torch.cat([one, two], 1), 1).flatten(1))


class NormedMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.norm(self.first(x))))


class SwiGLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Rotary(nn.Module):
    """Multi-head attention with rotary embeddings and `scaled_dot_product_attention`."""

    def __init__(self, width: int = 8, heads: int = 2, length: int = 5) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        half = width // heads // 2
        angles = torch.arange(length)[:, None] / 100.0 ** (torch.arange(half) / half)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], 1).sin())

    def turn(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-two, one], dim=-1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
        return self.o(out.transpose(1, 2).flatten(2))


class LowRank(nn.Module):
    """A frozen layer with a low-rank update, as a second path and merged into the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(5, 4)
        self.base.requires_grad_(False)
        self.down, self.up = nn.Linear(5, 2, bias=False), nn.Linear(2, 4, bias=False)
        self.a, self.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.zeros(3, 3))
        self.last = nn.Linear(4, 3)
        self.last.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.base(x) + 0.5 * self.up(self.down(x)))
        return F.linear(x, self.last.weight + 2.0 * (self.b @ self.a), self.last.bias)


class Tied(nn.Module):
    """An autoencoder with one weight for both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.middle, self.decode = nn.Linear(6, 9), nn.Linear(9, 9), nn.Linear(9, 6)
        self.tied_encode, self.tied_decode = nn.Linear(9, 9), nn.Linear(9, 9)
        self.tied_decode.weight = self.tied_encode.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.encode(x))
        return self.decode(F.relu(self.tied_decode(F.relu(self.tied_encode(F.relu(self.middle(x)))))))


class Recurrent(nn.Module):
    def __init__(self, nonlinearity: str = "tanh") -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 4, nonlinearity=nonlinearity, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Twice(nn.Module):
    """A module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(3, 9), nn.Linear(9, 9)
        self.hidden, self.last = nn.Linear(9, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.again(F.relu(self.again(F.relu(self.first(x))))))
        return self.last(F.relu(self.hidden(x)))


class Gated(nn.Module):
    """Convolutions with a gated unit in one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.last = nn.Conv1d(2, 8, 3), nn.Conv1d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.glu(self.both(x), 1))


class Clamped(nn.Module):
    """ReLU written in other words, padding, a maximum of two branches, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pad = nn.Conv2d(1, 3, 3), nn.ReplicationPad2d(1)
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(self.first(x).clamp(min=0))
        x = torch.maximum(self.one(x), self.two(x)).clamp_min(0)
        x = x.masked_fill(torch.eye(x.shape[-1], dtype=torch.bool), 0.0)
        return self.head(x.amax((2, 3)))


class Sliced(nn.Module):
    """Two branches that are assigned to slices of one tensor; half of what each computes is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(len(x), 8)
        hidden[:, :3] = F.relu(self.one(x))[:, :3]
        hidden[:, 3:6] = F.relu(self.two(x))[:, 3:]
        return self.head(hidden)


class ReZero(nn.Module):
    """A residual branch with one trained number as its gain, another in a quotient, and a layer without use."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.gain, self.heat = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(2.0))
        self.idle = nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.gain * F.relu(self.branch(x))) / self.heat


class Pact(nn.Module):
    """ReLU with a trained cap, one for all units, and then a share per unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 3)
        self.cap = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(F.relu(self.first(x)).clamp(max=self.cap)).softmax(-1))


class Pairs(nn.Module):
    """A bilinear layer on two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(4, 6)
        self.both, self.head = nn.Bilinear(5, 6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.both(F.relu(self.one(x)), self.two(x)))


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bags, self.head = nn.EmbeddingBag(7, 5, mode=mode), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bags(x))


class Positions(nn.Module):
    """Tokens with an embedding per place, of which there are more than the sequence has."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place, self.head = nn.Linear(4, 5), nn.Parameter(torch.randn(6, 5)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.embed(x) + self.place[: x.shape[1]]))


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3),
    )  # fmt: skip


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def mlp(activation: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5), activation or nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 6), nn.LeakyReLU(0.1), nn.Linear(6, 3)
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 3, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip


def normed_by_groups() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.ReLU(), nn.ChannelShuffle(2), nn.Conv2d(6, 2, 3),
    )  # fmt: skip


class Maxout(nn.Module):
    """Vectors of length one, then the largest of two pieces per unit."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.pieces, self.upper = nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.pieces(F.normalize(self.lower(x), dim=1)).reshape(-1, 4, 2).amax(2))


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 6, 3), nn.PReLU(6), nn.Conv1d(6, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 2))


def linear_pairs() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5, bias=False), nn.Linear(5, 2))


def weight_norm() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)
    )


def frozen() -> nn.Module:
    module = mlp()
    module[3].requires_grad_(False)  # type: ignore[index]
    return module


def encoder(activation: str) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 12, activation=activation, batch_first=True, norm_first=True)


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))
