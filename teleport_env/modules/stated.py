"""Symmetries that a module, or a rule for its type, states: what cannot be seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from teleport_env.modules.tracing import KINDS, Kind, layout
from teleport_env.reading import entries, integer, known, refuse
from teleport_env.symmetries.coupled import Coupling


@dataclass(frozen=True)
class Coupled:
    """A hidden space of a module, as a rule of one's own states it.

    Attributes:
        kind: ``"scaling"``, ``"general_linear"`` or ``"permutation"``.
        written: Parameters that write the units, by name within the module, with the axis that counts the units.
        read: Those that read them.
    """

    kind: Kind
    written: Mapping[str, int]
    read: Mapping[str, int]


Rule = Callable[[Any], Iterable[Coupled]]
_RULES: dict[type, Rule] = {}


def register_rule(kind: type[nn.Module], function: Rule) -> None:
    """State the symmetries of a type of module, beside those that are found.

    ``function(module)`` returns `Coupled` objects; each is probed as those that are found. A method
    ``teleport_symmetries(self)`` of the module does the same.

    Raises:
        ValueError: The type is no module, or the function cannot be called.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        refuse("the type of a rule", "a subclass of torch.nn.Module", kind)
    if not callable(function):
        refuse("the function of a rule", "a function that takes a module and returns Coupled objects", function)
    _RULES[kind] = function


def stated_couplings(module: nn.Module, trained: Mapping[str, Tensor]) -> dict[Kind, list[Coupling]]:
    """Couplings that rules of one's own state."""
    names, ends = layout(trained)
    places = {
        name: torch.arange(int(end) - trained[name].numel(), int(end), device="cpu").reshape(trained[name].shape)
        for name, end in zip(names, ends, strict=True)
    }
    found: dict[Kind, list[Coupling]] = {kind: [] for kind in KINDS}
    for where, part in module.named_modules():
        stated: list[Coupled] = []
        if type(part) in _RULES:
            stated += entries(
                f"what the rule of {type(part).__name__} states", _RULES[type(part)](part), "Coupled objects"
            )
        if hasattr(part, "teleport_symmetries"):
            own = part.teleport_symmetries()
            stated += entries(f"what {type(part).__name__}.teleport_symmetries returns", own, "Coupled objects")
        for entry in stated:
            if not isinstance(entry, Coupled):
                refuse(f"what {type(part).__name__} states", "a list of Coupled objects", entry)
            kind = known("kind of symmetry", entry.kind, KINDS)

            def rows(side: Mapping[str, int], where: str = where) -> Tensor:
                whole = []
                for name, axis in side.items():
                    full = known("parameter", f"{where}.{name}".lstrip("."), places)
                    axis = integer(f"the axis of {full}", axis, 0, places[full].ndim - 1)
                    moved = places[full].movedim(axis, 0)
                    whole.append(moved.reshape(len(moved), -1))
                return torch.cat(whole, dim=1)

            name = f"{', '.join(entry.written)} -> {', '.join(entry.read)}" + (f" of {where}" if where else "")
            found[kind].append(Coupling(rows(entry.written), rows(entry.read).mT.contiguous(), name))  # type: ignore[index]
    return found
