"""Scalings, permutations and invertible matrices on hidden spaces whose weights lie anywhere in the vector of parameters.

In a chain of layers the weights below and above a hidden space are two matrices side by side. In other networks they are
spread: a residual stream is written by several layers and read by several others, a convolution is read by a linear layer
after flattening, so that each channel has many columns there. All of that is one form, `Coupling`: two matrices gathered
from the vector, ``lower`` ``(k, m)``, one row per unit, and ``upper`` ``(p, k)``, one column per unit. The group moves
``lower`` by ``g`` from the left and ``upper`` by ``g^-1`` from the right, as it does on a chain, so that everything that
searches ask of pairs (`teleport_env.symmetries.pairs`) holds here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from teleport_env.groups import GL, Permutations, PositiveScaling, Product
from teleport_env.groups.base import Group
from teleport_env.instances import Instance
from teleport_env.ledger import elementwise_price
from teleport_env.reading import refuse
from teleport_env.symmetries.base import Pair, Shortcut, UnitSlots
from teleport_env.symmetries.pairs import LinearPairs, PairSymmetry, PermutationSymmetry
from teleport_env.symmetries.positive_scaling import ScalingSymmetry


@dataclass(frozen=True, eq=False)
class Coupling:
    """Where the weights of one hidden space of ``k`` units lie in a flat vector of parameters.

    Attributes:
        lower: ``(k, m)`` int64, what writes the units, one row per unit; biases belong to it.
        upper: ``(p, k)`` int64, what reads them, one column per unit.
        name: Name of the units in reports.

    Raises:
        ValueError: The two have no axis ``k`` in common, or are no indices.
    """

    lower: Tensor
    upper: Tensor
    name: str = ""

    def __post_init__(self) -> None:
        for what, indices in (("lower", self.lower), ("upper", self.upper)):
            if indices.dtype != torch.int64 or indices.ndim != 2 or indices.numel() == 0 or int(indices.min()) < 0:
                refuse(f"{what} of the coupling {self.name!r}", "a matrix of indices, int64 and not negative", indices)
        if len(self.lower) != self.upper.shape[1]:
            raise ValueError(
                f"the coupling {self.name!r} has {len(self.lower)} rows below and {self.upper.shape[1]} columns above; "
                "both are the number of its units"
            )

    @property
    def width(self) -> int:
        """``k``."""
        return len(self.lower)

    @property
    def size(self) -> int:
        """Number of weights that move."""
        return self.lower.numel() + self.upper.numel()

    @property
    def disjoint(self) -> bool:
        """Whether no weight occurs twice: a layer that reads and writes the same units is moved from both sides."""
        places = torch.cat([self.lower.flatten(), self.upper.flatten()]).sort().values
        return not bool((places[1:] == places[:-1]).any())


_AUTOGRAD = 0.3
"""How long an elementwise operation takes beside the gradient of a module, over what it takes beside one that is written out
as products of matrices (`elementwise_price`): autograd under `vmap` takes longer for its operations. Measured with 64 runs,
one thread: 0.1 for small attention to 0.6 for a multilayer perceptron."""
_GATHERED = 3.0
"""The same for small matrices that are gathered and written back, over `small_matrices_price`; measured 2.4 to 5."""


class CoupledPairs(PairSymmetry):
    """What the three groups have in common.

    Args:
        couplings: The hidden spaces, one factor of the group each.
        name: Name by which ``symmetry=`` chooses it.
        factor: Function that makes the group that acts on a hidden space of a given width.

    Raises:
        ValueError: There is no coupling.
    """

    gathered = True

    def __init__(self, couplings: Sequence[Coupling], name: str, factor: Callable[[int], Group]) -> None:
        if not couplings:
            raise ValueError("a symmetry needs at least one coupling, a hidden space for a group to act on")
        self.couplings = tuple(couplings)
        self.widths = tuple(coupling.width for coupling in couplings)
        self.name = name
        self.group = Product(*map(factor, self.widths))
        self._size = sum(coupling.size for coupling in couplings)

    def _multiply(self, lefts: Sequence[Tensor], rights: Sequence[Tensor], vector: Tensor) -> Tensor:
        out = vector.clone(memory_format=torch.contiguous_format)
        for coupling, left, right in zip(self.couplings, lefts, rights, strict=True):
            _put(out, coupling.lower, self._left(left, _take(out, coupling.lower)))
            _put(out, coupling.upper, self._right(_take(out, coupling.upper), right))
        return out

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        """Copies (`Symmetry.gathered`)."""
        return [self.pair_at(index, vector, instance) for index in range(len(self.couplings))]

    def pair_at(self, index: int, vector: Tensor, instance: Instance) -> Pair:
        coupling = self.couplings[index]
        return Pair(_take(vector, coupling.lower), _take(vector, coupling.upper))

    def put_pair(self, index: int, pair: Pair, vector: Tensor) -> None:
        _put(vector, self.couplings[index].lower, pair.lower)
        _put(vector, self.couplings[index].upper, pair.upper)


def _take(vector: Tensor, places: Tensor) -> Tensor:
    """``(B, *places.shape)``."""
    taken = vector.index_select(1, places.flatten().to(vector.device))
    return taken.view(len(vector), *places.shape)


def _put(vector: Tensor, places: Tensor, values: Tensor) -> None:
    vector.index_copy_(1, places.flatten().to(vector.device), values.flatten(1))


def _require_disjoint(couplings: Sequence[Coupling], group: str) -> None:
    for coupling in couplings:
        if not coupling.disjoint:
            raise ValueError(
                f"the coupling {coupling.name!r} reads and writes its units by the same weights, for which {group} knows no "
                "pair of matrices; leave it out, or permute"
            )


@dataclass(frozen=True)
class Link:
    """The weights that two couplings share, a matrix of their units.

    Attributes:
        couplings: The two, by number.
        below: Whether the weights write the units of each, rather than read them.
        place: Position of the matrix ``(k, k')`` among the sums of `CoupledUnits.sums`.
    """

    couplings: tuple[int, int]
    below: tuple[bool, bool]
    place: slice


class CoupledUnits(Shortcut):
    """One positive factor per unit of every coupling; what searches may walk on in place of all weights.

    Attributes:
        couplings: The couplings.
        units: Positions of each coupling's units among those of all, side by side.
        size: Number of weights that move, each counted as often as it does.
    """

    def __init__(self, couplings: Sequence[Coupling]) -> None:
        self.couplings = tuple(couplings)
        ends = list(accumulate((coupling.width for coupling in couplings), initial=0))
        self.units = [slice(*both) for both in pairwise(ends)]
        self.count = ends[-1]
        self.size = sum(coupling.size for coupling in couplings)
        self._whole: dict[tuple[int, torch.device], list[Tensor]] = {}

    def factors(self, rows: Tensor, columns: Tensor, num_params: int) -> Tensor:
        """The product of the factors of every weight ``(B, P)``, from those of its writing and reading ``(B, K)``."""
        table = torch.cat([torch.ones_like(rows[:, :1]), rows, columns], dim=1)
        out = None
        for slot in self.slots_of(num_params, rows.device):
            # one row is taken from in half the time where it is no matrix
            taken = table.index_select(1, slot) if len(table) > 1 else table[0].index_select(0, slot)[None]
            out = taken if out is None else out * taken
        assert out is not None
        return out

    @torch.inference_mode(False)
    def slots_of(self, num_params: int, device: torch.device) -> list[Tensor]:
        """`_slots` of all parameters, kept: making them takes as long as a product of all weights."""
        if (num_params, device) not in self._whole:
            self._whole[num_params, device] = [
                torch.nn.functional.pad(slot, (0, num_params - len(slot))).to(device) for slot in self._slots
            ]
        return self._whole[num_params, device]

    @cached_property
    @torch.inference_mode(False)
    def _occurrences(self) -> tuple[Tensor, Tensor]:
        """Places of weights, in order, as often as each moves, and its factors in ``(1, rows, columns)``."""
        places, factors = [], []
        for coupling, here in zip(self.couplings, self.units, strict=True):
            unit = torch.arange(here.start + 1, here.stop + 1, device="cpu")
            for side, factor in ((coupling.lower, unit[:, None]), (coupling.upper, unit[None, :] + self.count)):
                places.append(side.flatten())
                factors.append(factor.expand(side.shape).flatten())
        ordered = torch.cat(places).sort(stable=True)
        return ordered.values, torch.cat(factors)[ordered.indices]

    @cached_property
    @torch.inference_mode(False)
    def _slots(self) -> list[Tensor]:
        """For every weight up to the last that moves, which of ``(1, rows, columns)`` it is multiplied by, in turn."""
        places, factors = self._occurrences
        first = torch.searchsorted(places, places)  # of the same place
        number = torch.arange(len(places), device="cpu") - first
        slots = []
        for index in range(int(number.max()) + 1):
            here = number == index
            slots.append(torch.zeros(int(places[-1]) + 1, dtype=torch.int64, device="cpu"))
            slots[-1][places[here]] = factors[here]
        return slots

    @cached_property
    @torch.inference_mode(False)
    def _bins(self) -> tuple[Tensor, Tensor, list[Link], int] | None:
        """Places that move, the sum that each belongs to, the links, the number of sums; None: no form for that."""
        if len(self._slots) > 2:
            return None
        slots = self._slots if len(self._slots) == 2 else [self._slots[0], torch.zeros_like(self._slots[0])]
        moved = slots[0].nonzero()[:, 0]
        one, other = (slot[moved] for slot in slots)
        bins, total = one - 1, 2 * self.count
        starts = torch.tensor([here.start for here in self.units], device="cpu")
        owners = [
            torch.searchsorted(starts, (slot - 1).clamp_min(0) % self.count, right=True) - 1 for slot in (one, other)
        ]
        below = [slot <= self.count for slot in (one, other)]
        keys = ((owners[0] * 2 + below[0]) * len(starts) + owners[1]) * 2 + below[1]
        links = []
        for key in keys[other > 0].unique().tolist():
            here = (keys == key) & (other > 0)
            pair = tuple(int(owner[here][0]) for owner in owners)
            a, b = (
                (slot[here] - 1) % self.count - starts[number] for slot, number in zip((one, other), pair, strict=True)
            )
            width = self.couplings[pair[0]].width, self.couplings[pair[1]].width
            if width[0] * width[1] > 4 * len(a):
                return None  # mostly empty, such as one filter per channel
            bins[here] = total + a * width[1] + b
            place = slice(total, total + width[0] * width[1])
            links.append(Link(pair, tuple(bool(side[here][0]) for side in below), place))  # type: ignore[arg-type]
            total = place.stop
        return moved, bins, links, total

    @property
    def summable(self) -> bool:
        """Whether `sums` knows these couplings."""
        return self._bins is not None

    @property
    def links(self) -> list[Link]:
        assert self._bins is not None
        return self._bins[2]

    def sums(self, squares: Tensor) -> Tensor:
        """Sums of the squares ``(B, P)`` of weights: what each unit alone writes, what it alone reads, and every link."""
        assert self._bins is not None
        moved, bins, _, total = self._bins
        taken = squares.index_select(1, moved.to(squares.device))
        bins = bins.to(squares.device).expand_as(taken)
        return squares.new_zeros(len(squares), total).scatter_add_(1, bins, taken)


class CoupledScaling(CoupledPairs, ScalingSymmetry):
    """`ScalingSymmetry` on couplings: one positive factor per unit.

    Raises:
        ValueError: There is no coupling, or one has a weight twice.
    """

    exact_when = (
        "Always, on all data: what lies between the weights that write a unit and that read it passes a factor."
    )

    def __init__(self, couplings: Sequence[Coupling], name: str = "scaling") -> None:
        _require_disjoint(couplings, "scaling")
        CoupledPairs.__init__(self, couplings, name, PositiveScaling)
        self._units = CoupledUnits(couplings)
        self.move_flops = self.gradient_flops = 9.0 * self._size + 54.0 * sum(self.widths) + 160.0
        self.direction_flops = 4.0 * self._size

    @property
    def shortcut(self) -> Shortcut | None:  # type: ignore[override]
        """The coupled units, where their factors may be summed; else None."""
        return self._units if self._units.summable else None

    def work_price(self, gradient_flops: float) -> float:
        return _AUTOGRAD * elementwise_price(gradient_flops)

    def unit_slots(self, num_params: int) -> UnitSlots:
        slots = self._units.slots_of(num_params, torch.device("cpu"))
        return UnitSlots([coupling.width for coupling in self.couplings], slots)

    def _scale(self, rows: Tensor, columns: Tensor, vector: Tensor) -> Tensor:
        return vector * self._units.factors(rows, columns, vector.shape[1])


class CoupledLinear(CoupledPairs, LinearPairs):
    """`LinearPairs` on couplings: one invertible matrix per hidden space.

    Raises:
        ValueError: There is no coupling, or one has a weight twice.
    """

    exact_when = "Always, on all data: what lies between the weights that write a space and that read it is linear."

    def __init__(self, couplings: Sequence[Coupling], name: str = "general_linear") -> None:
        _require_disjoint(couplings, "the general linear group")
        CoupledPairs.__init__(self, couplings, name, GL)
        products = [2.0 * c.width**2 * (c.lower.shape[1] + c.upper.shape[0]) for c in couplings]
        self.direction_flops = sum(products)
        self.move_flops = self.gradient_flops = sum(products) + sum(2.0 * width**3 for width in self.widths)

    def work_price(self, gradient_flops: float) -> float:
        return _GATHERED * LinearPairs.work_price(self, gradient_flops)


class CoupledPermutation(CoupledPairs, PermutationSymmetry):
    """`PermutationSymmetry` on couplings: one permutation per hidden space.

    Raises:
        ValueError: There is no coupling.
    """

    exact_when = "Always, on all data: what lies between the weights treats all units of a space alike."

    def __init__(self, couplings: Sequence[Coupling], name: str = "permutation") -> None:
        CoupledPairs.__init__(self, couplings, name, Permutations)
        self.move_flops = 12.0 * self._size + 75.0 * sum(self.widths)
        self.gradient_flops = 1.5 * self.move_flops

    def work_price(self, gradient_flops: float) -> float:
        return _AUTOGRAD * elementwise_price(gradient_flops)

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        return PermutationSymmetry.pairs(self, vector, instance)
