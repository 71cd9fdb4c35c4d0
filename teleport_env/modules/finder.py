"""The symmetries of a module: read off its structure, accepted by a probe, refused with a reason.

`find_symmetries` runs the module once per kind of group and mode (`teleport_env.modules.watch`), gathers the weights of each
unit to couplings, and tries those that all modes have in common (`teleport_env.modules.probe`).
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from teleport_env.modules.probe import MODES, TOLERANCE, Probe
from teleport_env.modules.tracing import KINDS, OUTPUT, Books, Family, Kind, layout
from teleport_env.modules.watch import books_of, leaves
from teleport_env.reading import entries, integer, known, refuse
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.coupled import (
    CoupledLinear,
    CoupledPermutation,
    CoupledScaling,
    Coupling,
)

MAKERS: dict[Kind, Callable[[Sequence[Coupling]], Symmetry]] = {
    "scaling": CoupledScaling,
    "general_linear": CoupledLinear,
    "permutation": CoupledPermutation,
}
"""The symmetry for each kind."""


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


@dataclass(frozen=True)
class Refused:
    """What is no symmetry, and why.

    Attributes:
        where: The submodule whose units, or the parameter that, would have moved.
        kind: Of what symmetry.
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
        refused: What was not accepted.
        deviations: How far each accepted coupling moved the outputs, relative to the largest, by kind and name. Couplings
            are tried together, and one by one only where that fails.
        notes: What could not be followed, and what that means.
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


def find_symmetries(module: nn.Module, example: Any, modes: Sequence[str] = MODES) -> Found:
    """The scalings, linear changes and permutations of hidden units that keep the outputs of a module.

    Args:
        module: The module; it is copied and not changed.
        example: What it is called with: a tensor, a tuple of arguments, or a mapping of arguments by name. Two or more
            examples, because batch normalization needs them.
        modes: The modes that a symmetry must hold in: ``"train"``, ``"eval"`` or both.

    Raises:
        ValueError: It is no module, or it cannot be run on the example.
    """
    check_module(module)
    asked = entries("modes", modes, "names")
    if not asked:
        refuse("modes", "'train', 'eval' or both", modes)
    module = getattr(module, "_orig_mod", module)  # of a compiled one
    modes = tuple(known("mode", mode, MODES) for mode in asked)
    given = _double(example)
    if not all(tensor.numel() for tensor in leaves(given)):
        refuse("example", "what the module is called with, with at least one entry", example)
    frozen = _frozen(module)
    try:
        double = copy.deepcopy(module).cpu().double().train("train" in modes)
    except Exception as error:
        raise ValueError(f"the module cannot be copied in float64: {error}") from error
    probe = Probe(double, given, modes)
    found: dict[Kind, list[Coupling]] = {kind: [] for kind in KINDS}
    refused: list[Refused] = [Refused(name, "every symmetry", why) for name, why in frozen.items()]
    deviations: dict[tuple[str, str], float] = {}
    trained = {name: value for name, value in double.named_parameters() if value.requires_grad}
    stated = _stated(double, trained)
    branches: set[str] = set()
    for kind in KINDS:
        seen = {}
        for mode in modes:
            try:
                books = books_of(copy.deepcopy(double).train(mode == "train"), given, kind, frozen)
            except Exception as error:
                raise ValueError(
                    f"the module cannot be run on the example in float64, in mode {mode}: {error}"
                ) from error
            branches |= books.branches
            seen[mode] = _couplings(books, frozen)
        candidates, reasons = _in_every_mode(kind, seen)
        refused += reasons
        if stated[kind]:
            places = {_fingerprint(candidate) for candidate in candidates}
            candidates += [own for own in stated[kind] if _fingerprint(own) not in places]
        if kind != "permutation":
            twice = [coupling for coupling in candidates if not coupling.disjoint]
            refused += [Refused(own.name, kind, "the same weights read and write its units") for own in twice]
            candidates = [coupling for coupling in candidates if coupling.disjoint]
        if not candidates:
            continue
        # a product of random elements keeps the outputs only if each of them does
        change, mode = probe.deviation(MAKERS[kind](candidates))
        together = change <= TOLERANCE
        for coupling in candidates:
            if not together:
                change, mode = probe.deviation(MAKERS[kind]([coupling]))
            if change <= TOLERANCE:
                found[kind].append(coupling)
                deviations[kind, coupling.name] = change
            else:
                why = (
                    f"the probe moved the outputs by {change:.1e} of the largest in mode {mode}, allowed {TOLERANCE:g}"
                )
                refused.append(Refused(coupling.name, kind, why))
    symmetries: dict[str, Symmetry] = {kind: MAKERS[kind](couplings) for kind, couplings in found.items() if couplings}
    notes = [
        f"Python reads a number of a tensor in {where or 'the module'} (item(), if): with another number the module may "
        "take a path that this example did not, and symmetries were not tried there"
        for where in sorted(branches)
    ]
    return Found(symmetries, tuple(dict.fromkeys(refused)), deviations, tuple(notes))


def _in_every_mode(
    kind: Kind, seen: Mapping[str, tuple[list[Coupling], list[Refused]]]
) -> tuple[list[Coupling], list[Refused]]:
    """The candidates that all modes have in common, and what is refused; ``seen``: by mode."""
    places = {mode: {_fingerprint(candidate) for candidate in candidates} for mode, (candidates, _) in seen.items()}
    (first, _), *_ = seen.values()
    common = [candidate for candidate in first if all(_fingerprint(candidate) in here for here in places.values())]
    refused = []
    for mode, (candidates, reasons) in seen.items():
        others = [other for other in seen if other != mode]
        for entry in reasons:
            everywhere = all(entry in seen[other][1] for other in others)
            refused.append(entry if everywhere else replace(entry, mode=mode))
        for candidate in candidates:
            for other in others:
                if _fingerprint(candidate) not in places[other] and not _explained(candidate, seen[other][1]):
                    why = "its weights write and read other units there than in the other mode"
                    refused.append(Refused(candidate.name, kind, why, mode=other))
    return common, refused


def _explained(candidate: Coupling, reasons: Sequence[Refused]) -> bool:
    """Whether a reason speaks of what writes the units of a candidate."""
    writers = candidate.name.partition(" -> ")[0].split(", ")
    return any(f"{writer}.".startswith(f"{entry.where}.") for entry in reasons for writer in writers)


def check_module(module: Any) -> None:
    """Raise ValueError unless it is a module whose parameters all have shapes."""
    if not isinstance(module, nn.Module):
        refuse("module", "a torch.nn.Module", module)
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(
                f"{name or 'the module'} is compiled by torch.jit, which hides its operations: pass the module that it was "
                "made of, or one that torch.compile has made"
            )
    if any(is_lazy(value) for value in module.parameters()):
        raise ValueError(
            "the module has lazy parameters, whose shapes are not known yet: call it once on an example before"
        )


def _double(value: Any) -> Any:
    """The tensors of an example in float64 on the CPU; integers stay integers."""
    if isinstance(value, Mapping):
        return {name: _double(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_double(entry) for entry in value)
    if not isinstance(value, Tensor):
        return value
    return value.detach().to("cpu", torch.float64 if value.is_floating_point() else None)


def _frozen(module: nn.Module) -> dict[str, str]:
    """Parameters that no action moves, by name, with the reason."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, value in module.named_parameters(remove_duplicate=False):
        names[id(value)].append(name)
    found = {}
    for name, value in module.named_parameters():
        shared = [other for other in names[id(value)] if other != name]
        owner, _, own = name.rpartition(".")
        part = module.get_submodule(owner)
        if not value.requires_grad:
            found[name] = f"`{name}` is frozen"
        elif shared:
            found[name] = f"`{name}` is tied to `{shared[0]}`"
        elif ".parametrizations." in f".{name}" or (own[-2:] in ("_g", "_v") and hasattr(part, own[:-2])):
            found[name] = f"`{name}` is parametrized"
    return found


def _fingerprint(coupling: Coupling) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(coupling.lower.flatten().tolist()), tuple(coupling.upper.flatten().tolist())


def _stated(module: nn.Module, trained: Mapping[str, Tensor]) -> dict[Kind, list[Coupling]]:
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


def _couplings(books: Books, frozen: Mapping[str, str]) -> tuple[list[Coupling], list[Refused]]:
    """What the weights of free units form, and what is refused."""
    places, roots = books.bound()
    owners = np.searchsorted(books.ends, places, side="right")
    order = np.argsort(roots, kind="stable")  # the places of a unit stay in order
    places, roots, owners = places[order], roots[order], owners[order]
    cuts = np.flatnonzero(np.diff(roots)) + 1
    sides = (
        dict(zip(roots[np.r_[0, cuts]].tolist(), np.split(np.arange(len(roots)), cuts), strict=True))
        if len(roots)
        else {}
    )
    apart = {} if books.kind == "scaling" else _tags(books)
    groups: dict[Any, list[int]] = defaultdict(list)
    refused: list[Refused] = []
    for unit, rows in sides.items():
        if unit < 0 or -unit not in sides:
            continue  # nothing reads it, or writes it: there is no weight to move against
        signature = tuple(tuple(np.bincount(owners[side]).tolist()) for side in (rows, sides[-unit]))
        groups[signature, apart.get(unit)].append(unit)
    couplings = []
    for members in groups.values():
        members.sort(key=lambda unit: places[sides[unit][0]])
    for members in sorted(groups.values(), key=lambda members: places[sides[members[0]][0]]):  # the lowest first
        below, above = ([sides[sign * unit] for unit in members] for sign in (1, -1))
        lower = torch.from_numpy(np.stack([places[side] for side in below]))
        upper = torch.from_numpy(np.stack([places[side] for side in above], axis=1))
        name = " -> ".join(
            ", ".join(dict.fromkeys(_owner(books.names[owner]) for owner in np.unique(owners[side])))
            for side in (below[0], above[0])
        )
        couplings.append(Coupling(lower, upper, name))
    for scalar in books.scalars if books.kind == "scaling" else ():
        one = books.parameter(scalar.place)
        if one in books.weights_refused or not len(scalar.against):
            continue
        against = dict.fromkeys(_owner(books.parameter(int(place))) for place in scalar.against)
        place = torch.tensor([[scalar.place]], dtype=torch.int64, device="cpu")
        couplings.append(Coupling(place, torch.from_numpy(scalar.against)[:, None], f"{one} -> {', '.join(against)}"))
    couplings = _numbered(couplings)
    if books.kind != "scaling":
        alone = [coupling for coupling in couplings if coupling.width == 1]
        couplings = [coupling for coupling in couplings if coupling.width > 1]
        why = "its units are alone: each is read in a way of its own"
        refused += [Refused(coupling.name.partition(" #")[0], books.kind, why) for coupling in alone]
    return couplings, refused + _reasons(books, frozen)


def _reasons(books: Books, frozen: Mapping[str, str]) -> list[Refused]:
    """Weights, layers and units that do not move; ``frozen`` parameters are listed once for all kinds."""
    stated = set(frozen.values())
    refused = [
        Refused(_owner(name), books.kind, reason.why)
        for name, reason in books.weights_refused.items()
        if reason.why != OUTPUT and reason.why not in stated
    ]
    refused += [Refused(where, books.kind, why) for where, why in books.broken.items()]
    hidden = books.read()
    stranded, known = books.stranded(), {abs(books.units.find(int(label))) for label in _labels_of(books.families)}
    families = [
        *books.families,
        *(own for own in books.alone if not {abs(books.units.find(int(label))) for label in own.labels} <= known),
    ]
    for family in families:
        left = set(np.abs(books.units.roots(family.labels)).tolist()) & stranded
        if left:
            gathers = (
                f", which {name} gathers"
                for name, rows in books.gathered
                if left & set(np.abs(books.units.roots(np.intersect1d(family.labels, rows))).tolist())
            )
            why = f"no weights read its units{next(gathers, '')}"
            refused.append(Refused(family.where or "the module", books.kind, why))
    refused += [Refused(name, "every symmetry", "it enters no operation on this example") for name in books.unused]
    for family in families:
        reasons = dict.fromkeys((books.units.reason(label), label in hidden) for label in family.labels.tolist())
        refused += [
            Refused(family.where or "the module", books.kind, reason.why, reason.place)
            for reason, read in reasons
            if reason is not None and (read or reason.why != OUTPUT)
        ]
    return refused


def _labels_of(families: Sequence[Family]) -> list[int]:
    return [label for family in families for label in family.labels.tolist()]


def _tags(books: Books) -> dict[int, tuple[tuple[int, int], ...]]:
    """For every unit that somewhere stays apart from others, where, and the smallest unit of the row that it is in."""
    tags: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for event, rows in enumerate(books.fibers):
        roots = np.abs(books.units.roots(rows))
        smallest: dict[int, int] = {}
        for row in np.unique(roots, axis=0):
            free = row[row != 0]
            for unit in free.tolist():
                smallest[unit] = min(smallest.get(unit, int(free.min())), int(free.min()))
        for unit, tag in smallest.items():
            tags[unit].append((event, tag))
    return {unit: tuple(found) for unit, found in tags.items()}


def _owner(parameter: str) -> str:
    """``linear1`` of ``linear1.weight``, ``attention.in_proj`` of ``attention.in_proj_bias``."""
    return re.sub(r"[._](weight|bias)$", "", parameter)


def _numbered(couplings: Iterable[Coupling]) -> list[Coupling]:
    """Heads of one layer have the same name and get a number."""
    couplings = list(couplings)
    counts: dict[str, int] = defaultdict(int)
    total = {name: sum(c.name == name for c in couplings) for name in {c.name for c in couplings}}
    named = []
    for coupling in couplings:
        counts[coupling.name] += 1
        suffix = f" #{counts[coupling.name]}" if total[coupling.name] > 1 else ""
        named.append(Coupling(coupling.lower, coupling.upper, coupling.name + suffix))
    return named
