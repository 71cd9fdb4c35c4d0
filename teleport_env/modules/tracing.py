"""What is known of the tensors of a module while it runs on an example: the books that the rules of operations keep.

A tensor has a *shadow*, which says to which units its entries belong:

* `Weights`: the tensor is made of trainable parameters by views alone; the shadow has the places of its entries in the flat
  vector of parameters. Views of it stay weights, so that a fused projection may be cut in three.
* an int64 tensor of the same shape: the signed unit of each entry (`units`);
* `NOISE`: a mask of dropout;
* `Frozen`: a parameter that is not moved, with the reason;
* nothing: entries that no action moves.

A rule that lets weights write or read units *binds* places of the vector to units. At the end, all places that are bound to
``+u`` are the rows of unit ``u`` and those bound to ``-u`` its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from teleport_env.modules.units import Labels, Reason, Units, distinct_pairs

Kind = Literal["scaling", "general_linear", "permutation"]
KINDS: tuple[Kind, ...] = ("scaling", "general_linear", "permutation")

OUTPUT = "it is an output of the module"
"""The reason of units that nothing reads: no hidden space, and not worth a line in a report."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Places ``places`` of the entries of a tensor in the vector of parameters."""

    places: Tensor


@dataclass(frozen=True, eq=False)
class Frozen:
    """A parameter that no action moves."""

    reason: str


class Noise:
    """A mask of dropout."""


NOISE = Noise()


@dataclass
class Family:
    """Units that came into being together.

    Attributes:
        where: The submodule that writes them.
        labels: ``(k,)``.
    """

    where: str
    labels: Labels


@dataclass(frozen=True, eq=False)
class Scalar:
    """One trained number that multiplies units, and what it can be moved against.

    Attributes:
        where: The submodule that multiplies.
        place: Its place in the vector of parameters.
        against: Places of the weights that write what it multiplies.
    """

    where: str
    place: int
    against: np.ndarray


@dataclass
class Books:
    """What was learned in one run.

    Args:
        kind: The group that the units are followed for.
        names: Names of the trainable parameters.
        ends: End of each parameter in the vector.
    """

    kind: Kind
    names: Sequence[str]
    ends: np.ndarray
    where: str = ""
    families: list[Family] = field(default_factory=list)
    alone: list[Family] = field(default_factory=list)  # of weights that are added or multiplied entry by entry
    scalars: list[Scalar] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # parameters that entered no operation
    branches: set[str] = field(default_factory=set)  # submodules in which Python reads a number of a tensor
    fibers: list[Labels] = field(default_factory=list)
    gathered: list[tuple[str, Labels]] = field(default_factory=list)
    weights_refused: dict[str, Reason] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    _bound: list[tuple[np.ndarray, Labels]] = field(default_factory=list)
    _shadows: dict[int, tuple[Tensor, Any]] = field(default_factory=dict)
    _memory: dict[int, list[Tensor]] = field(default_factory=dict)  # the tensors by the memory that they share

    def __post_init__(self) -> None:
        self.units = Units(signed=self.kind != "permutation")
        self._used = np.zeros(int(self.ends[-1]) if len(self.ends) else 0, dtype=bool)

    # -- shadows -------------------------------------------------------------------------------------------------------

    def shadow(self, tensor: Any) -> Any:
        """The shadow of a tensor; None for whatever has none."""
        found = self._shadows.get(id(tensor))
        return None if found is None else found[1]

    def cast(self, tensor: Tensor, shadow: Any) -> None:
        """Give a tensor its shadow. The tensor is kept, so that no other gets its identity."""
        if isinstance(shadow, Tensor) and tuple(shadow.shape) != tuple(tensor.shape):
            raise RuntimeError(f"a shadow of shape {tuple(shadow.shape)} for a tensor of {tuple(tensor.shape)}")
        if id(tensor) not in self._shadows:
            self._memory.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        self._shadows[id(tensor)] = (tensor, shadow)

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor was given a shadow, if only none."""
        return id(tensor) in self._shadows

    def written(self, tensor: Tensor) -> None:
        """A tensor was written to in place: what shares its memory has the same units there."""
        others = [other for other in self._memory[tensor.untyped_storage().data_ptr()] if other is not tensor]
        if not others or tensor.numel() == 0:
            return
        labels = self.labels(tensor)
        if not isinstance(self.shadow(tensor), Tensor):
            self.cast(tensor, labels)
        count = tensor.untyped_storage().nbytes() // tensor.element_size()
        units = torch.zeros(count, dtype=torch.int64, device="cpu")
        known = torch.zeros(count, dtype=torch.bool, device="cpu")

        def seen(whole: Tensor, by: Tensor) -> Tensor:
            return whole.as_strided(by.shape, by.stride(), by.storage_offset())

        seen(known, tensor).fill_(True)
        if labels is not None:
            seen(units, tensor).copy_(labels)
        for other in others:
            if other.element_size() != tensor.element_size():
                self.fix(self.labels(other), "it is written to as numbers of another size")
                self.fix(labels, "it is written to as numbers of another size")
            elif (here := seen(known, other)).any():
                if isinstance(shadow := self.shadow(other), Weights):
                    self.refuse(shadow, "it is written to in place")
                old = (
                    shadow if isinstance(shadow, Tensor) else torch.zeros(other.shape, dtype=torch.int64, device="cpu")
                )
                self.cast(other, folded(torch.where(here, seen(units, other), old)))

    def labels(self, tensor: Any) -> Tensor | None:
        """The units of a tensor's entries; None where all of them are fixed. Weights become units of their own."""
        shadow = self.shadow(tensor)
        if isinstance(shadow, Weights):
            return self.as_units(shadow)
        if not isinstance(shadow, Tensor):
            return None
        distinct = np.unique(compact(shadow).numpy())
        return shadow if any(label and not self.units.reason(int(label)) for label in distinct) else None

    def as_units(self, weights: Weights) -> Tensor | None:
        """Weights that are added or multiplied entry by entry: one unit each, which it writes."""
        if not self.use(weights):
            return None
        places, back = np.unique(weights.places.numpy(), return_inverse=True)
        fresh = self.units.fresh(len(places))
        self.alone.append(Family(self.parameter(int(places[0])), fresh))
        self.bind(places, fresh)
        return torch.from_numpy(np.asarray(fresh[back]).reshape(weights.places.shape))

    def require_whole(self) -> None:
        """Refuse parameters of which this example used a part: another may use another part, which would not have moved."""
        for name, places in zip(self.names, np.split(np.arange(len(self._used)), self.ends[:-1]), strict=False):
            used = self._used[places]
            if used.any() and not used.all():
                self.where = ""
                self.refuse(
                    Weights(torch.from_numpy(places)),
                    f"this example uses only a part of `{name}`: give one that uses all of it",
                )

    def single(self, tensor: Any) -> bool:
        """Whether a tensor is one trained number, of whatever shape."""
        shadow = self.shadow(tensor)
        return isinstance(shadow, Weights) and compact(shadow.places).numel() == 1

    def writers(self, labels: Tensor) -> np.ndarray:
        """Places of the weights that are known so far to write these units."""
        wanted = np.unique(self.units.roots(_numbers(labels).ravel()))
        found = [places[np.isin(self.units.roots(units), wanted[wanted != 0])] for places, units in self._bound]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    # -- weights -------------------------------------------------------------------------------------------------------

    def parameter(self, place: int) -> str:
        """The name of the parameter that a place of the vector belongs to."""
        return self.names[int(np.searchsorted(self.ends, place, side="right"))]

    def use(self, weights: Weights) -> bool:
        """Note that weights enter an operation; False, with the units they write and read fixed, if they did before."""
        places = compact(weights.places).numpy().ravel()
        again = self._used[places]
        self._used[places] = True
        if not again.any():
            return True
        name = self.parameter(int(places[again.argmax()]))
        self.refuse(weights, f"`{name}` is used more than once: its module is called again, or shares it")
        return False

    def refuse(self, weights: Weights, reason: str) -> None:
        """These weights are not moved, and neither are the units that they write and read."""
        places = compact(weights.places).numpy().ravel()
        self.weights_refused.setdefault(self.parameter(int(places[0])), Reason(reason, self.where))
        for bound, labels in self._bound:
            if bound.min(initial=0) <= places.max() and places.min() <= bound.max(initial=0):
                hit = np.isin(bound, places)
                self.units.fix(labels[hit], Reason(reason, self.where))
        self._used[places] = True

    def bind(self, places: Any, labels: Any) -> None:
        """Weights at ``places`` are moved by the units ``labels``, entry by entry."""
        places, labels = np.broadcast_arrays(_numbers(places), _numbers(labels))
        self._bound.append((places.ravel(), labels.ravel()))

    def fresh(self, count: int) -> Labels:
        """New units that the current submodule writes."""
        labels = self.units.fresh(count)
        self.families.append(Family(self.where, labels))
        return labels

    # -- units ---------------------------------------------------------------------------------------------------------

    def fix(self, labels: Tensor | None, reason: str) -> None:
        if labels is not None:
            self.units.fix(_numbers(labels), Reason(reason, self.where))

    def join(self, one: Tensor, other: Tensor, reason: str) -> None:
        one, other = torch.broadcast_tensors(one, other)
        common = [axis for axis in range(one.ndim) if one.stride(axis) == 0 and other.stride(axis) == 0]
        for axis in common:
            one, other = one.narrow(axis, 0, 1), other.narrow(axis, 0, 1)
        self.units.join(one.numpy(), other.numpy(), Reason(reason, self.where))

    def constant_along(self, labels: Tensor, axis: int) -> Tensor:
        """The labels with one entry along an axis, after all along it were joined."""
        first = labels.narrow(axis, 0, 1)
        if labels.shape[axis] > 1 and labels.stride(axis) != 0:
            self.join(labels, first, "all of them are summed")
        return first

    def read(self) -> set[int]:
        """The units, as they were made, that some weights read."""
        return {-label for _, labels in self._bound for label in np.unique(labels).tolist() if label < 0}

    def stranded(self) -> set[int]:
        """Roots of free units that no weights move against."""
        roots = set(np.unique(self.bound()[1]).tolist())
        return {abs(root) for root in roots if -root not in roots}

    def bound(self) -> tuple[np.ndarray, Labels]:
        """All places that are bound to free units, and the roots of these units, signed."""
        if not self._bound:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        places = np.concatenate([places for places, _ in self._bound])
        roots = self.units.roots(np.concatenate([labels for _, labels in self._bound]))
        return distinct_pairs(places[roots != 0], roots[roots != 0])


def compact(tensor: Tensor) -> Tensor:
    """The entries of an expanded tensor, each once."""
    for axis in range(tensor.ndim):
        if tensor.stride(axis) == 0:
            tensor = tensor.narrow(axis, 0, min(1, tensor.shape[axis]))
    return tensor


def folded(labels: Tensor) -> Tensor:
    """The same, expanded (stride 0) along every axis that its entries do not depend on."""
    shape = labels.shape
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1:
            first = labels.narrow(axis, 0, 1)
            if labels.stride(axis) == 0 or bool((labels == first).all()):
                labels = first
    return labels.expand(shape)


def varies_along(labels: Tensor) -> list[int]:
    """The axes, counted from the last (-1), that the entries depend on."""
    labels = folded(labels)
    return [axis - labels.ndim for axis in range(labels.ndim) if labels.shape[axis] > 1 and labels.stride(axis) != 0]


def _numbers(value: Any) -> np.ndarray:
    return compact(value).numpy() if isinstance(value, Tensor) else np.asarray(value)


def layout(parameters: Mapping[str, Tensor]) -> tuple[list[str], np.ndarray]:
    """Names of parameters, and where each ends in their vector."""
    return list(parameters), np.cumsum([value.numel() for value in parameters.values()], dtype=np.int64)
