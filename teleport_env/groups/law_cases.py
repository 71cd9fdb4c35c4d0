"""What the laws of groups are checked on, and how they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group, map_element, parts, select
from teleport_env.random import Streams, key_of

C = TypeVar("C")

NEAR = 1e-7
FAR = 3.0


class Verdict(NamedTuple):
    """Whether a law holds; where it does not, ``reason`` is a sentence with the numbers."""

    ok: bool
    reason: str = ""


HOLDS = Verdict(True)


@dataclass(frozen=True)
class Case:
    """What a law is checked on.

    Attributes:
        group: The group.
        seed: Seed of the random elements; a case always has the same numbers.
        count: Number of elements ``B``.
        tolerance: Largest error, relative to the larger of 1 and the entries of the row, that counts as rounding.
    """

    group: Group
    seed: int = 0
    count: int = 7
    tolerance: float = 1e-10
    streams: Streams = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a law needs at least one element, got count = {self.count}")
        # row i's numbers do not depend on the count
        keys = torch.arange(self.count, device="cpu")
        object.__setattr__(self, "streams", Streams(keys).fork(key_of(f"group laws {self.seed}")))

    def coordinates(self, name: str, length: float = FAR) -> Tensor:
        """Random ``xi`` ``(B, dim)``; the norm is about 1e-7 with probability 1/3, else uniform up to ``length``."""
        streams = self.streams.fork(key_of(name))
        direction = streams.normal((self.group.dim,))
        direction = direction / direction.square().sum(dim=1, keepdim=True).sqrt()
        size, near = streams.uniform(size=(1,)), streams.uniform(size=(1,)) < 1 / 3
        return direction * torch.where(near, NEAR * size, length * size)

    def element(self, name: str) -> Element:
        """Random elements: exponentials of `coordinates`, or samples of a group without an exponential."""
        if self.group.continuous:
            return self.group.exp(self.coordinates(name))
        return self.group.sample(self.streams.fork(key_of(name)))

    def identity(self) -> Element:
        return self.group.identity(self.count)

    def equal(self, got: Element, wanted: Element, what: str) -> Verdict:
        """Whether two elements agree within the tolerance; ``what`` opens the reason."""
        verdicts = (
            agree(*both, self.tolerance, what, least=1.0) for both in zip(parts(got), parts(wanted), strict=True)
        )
        return next((verdict for verdict in verdicts if not verdict.ok), HOLDS)


def agree(got: Tensor, wanted: Tensor, tolerance: float, what: str, least: float = 1e-300) -> Verdict:
    """Whether two tensors ``(B, ...)`` agree to ``tolerance`` times the largest entry of each row, or ``least``."""
    if got.shape != wanted.shape:
        return Verdict(False, f"{what}: shape {tuple(got.shape)} instead of {tuple(wanted.shape)}")
    difference = (got - wanted).to(torch.float64).abs().reshape(len(got), -1).amax(dim=1)
    size = wanted.to(torch.float64).abs().reshape(len(got), -1).amax(dim=1).clamp_min(least)
    right = difference <= tolerance * size  # false for NaN
    if bool(right.all()):
        return HOLDS
    row = int((~right).nonzero()[0])
    return Verdict(
        False, f"{what}: off by {float(difference[row] / size[row]):.3g} (relative) in row {row} of {len(got)}"
    )


def check_laws(laws: Iterable[Callable[[C], Verdict]], case: Callable[[], C]) -> list[tuple[str, bool, str]]:
    """For each law its name, whether it holds, and if not, why.

    A law whose check raises counts as broken, with the exception as the reason.

    Args:
        laws: The laws.
        case: Function that makes what a law is checked on, anew for each.
    """
    results = []
    for law in laws:
        try:
            verdict = law(case())
        except Exception as error:
            verdict = Verdict(False, f"{type(error).__name__}: {error}")
        results.append((getattr(law, "__name__", repr(law)), verdict.ok, verdict.reason))
    return results


def same_bits(one: Element, other: Element) -> bool:
    """Whether two elements agree in every bit."""
    return all(torch.equal(part, target) for part, target in zip(parts(one), parts(other), strict=True))


def spoiled_rows(element: Element, value: float) -> Element:
    """The elements with row 0 filled with ``value``."""
    return map_element(lambda part: torch.cat([torch.full_like(part[:1], value), part[1:]]), element)


def same_alone(operations: Mapping[str, Callable[[Tensor], Element]], count: int) -> Verdict:
    """Whether each operation on the rows of an index ``(R,)`` gives a row the same bits alone and among ``count``."""
    every = torch.arange(count, device="cpu")
    for name, operation in operations.items():
        together = operation(every)
        for row in every.split(1):
            if not same_bits(operation(row), select(together, row)):
                return Verdict(False, f"{name} gives row {int(row)} other bits alone than among {count}")
    return HOLDS


def contained(operations: Mapping[str, tuple[Callable[[], Element], Callable[[], Element]]], value: float) -> Verdict:
    """Whether a row 0 of ``value`` stays in its row: each operation with that row, and without it."""
    for name, (broken, sound) in operations.items():
        try:
            got = broken()
        except Exception as error:
            return Verdict(False, f"{name} raised {type(error).__name__} because of one row of {value}: {error}")
        if not same_bits(map_element(lambda part: part[1:], got), map_element(lambda part: part[1:], sound())):
            return Verdict(False, f"{name}: a row of {value} changed other rows")
        # a rotation of zeros, or the first-order variant's g = 0, is wrong but not singular
        if value != 0.0 and all(bool(torch.isfinite(part[0]).all()) for part in parts(got)):
            return Verdict(False, f"{name} turned a row of {value} into finite numbers")
    return HOLDS
