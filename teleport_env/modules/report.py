"""What `find_symmetries` hands back: what was found, and what was refused and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coupled import Coupling


@dataclass(frozen=True)
class Refused:
    """What is no symmetry, and why.

    Attributes:
        where: The submodule whose units, or the parameter that, would have moved.
        kind: Kind of symmetry.
        why: The reason.
        at: The submodule where that was found, where it is another.
        mode: The mode, ``"train"`` or ``"eval"``, where it is so in one of several alone.
    """

    where: str
    kind: str
    why: str
    at: str = ""
    mode: str = ""


@dataclass(frozen=True)
class Found:
    """What `find_symmetries` found; prints readably.

    Attributes:
        symmetries: The accepted symmetries by kind, each a product over its couplings, in the order ``"scaling"``,
            ``"general_linear"``, ``"permutation"``. They act on the vector of trainable parameters, one after the other in
            the order of ``module.named_parameters()``.
        refused: Couplings that were not accepted, with the reason.
        deviations: Change of the outputs by each accepted coupling, relative to their size, by kind and name. Couplings
            are tried together, and one by one only where that fails.
        notes: Parts of the module that could not be followed, and the consequence.
    """

    symmetries: Mapping[str, Symmetry]
    refused: tuple[Refused, ...]
    deviations: Mapping[tuple[str, str], float]
    notes: tuple[str, ...] = ()

    def couplings(self, kind: str) -> tuple[Coupling, ...]:
        """The accepted couplings of a kind; empty where there are none."""
        return tuple(getattr(self.symmetries.get(kind), "couplings", ()))

    def __str__(self) -> str:
        lines = []
        for kind, symmetry in self.symmetries.items():
            lines.append(f"{kind}: {symmetry.group.name}")
            for coupling in self.couplings(kind):
                lines.append(f"  {coupling.name} ({coupling.width} units, {self.deviations[kind, coupling.name]:.0e})")
        if not lines:
            lines = ["no symmetry"]
        grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
        for entry in self.refused:
            why = entry.why + (f" (in mode {entry.mode} alone)" if entry.mode else "")
            grouped[entry.kind, why].append(entry.where + (f" (at {entry.at})" if entry.at else ""))
        if grouped:
            lines.append("refused:")
        for (kind, why), where in grouped.items():
            lines.append(f"  {kind} of {', '.join(dict.fromkeys(where))}: {why}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
