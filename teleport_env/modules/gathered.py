"""The couplings that the books of one run amount to, and what is refused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from teleport_env.modules.report import Refused
from teleport_env.modules.tracing import OUTPUT, Books, Family
from teleport_env.symmetries.coupled import Coupling


def couplings_of(books: Books, frozen: Mapping[str, str]) -> tuple[list[Coupling], list[Refused]]:
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
                f"{name} makes one number of several units, and which of them change places together is not followed"
                for name, rows in books.gathered
                if left & set(np.abs(books.units.roots(np.intersect1d(family.labels, rows))).tolist())
            )
            why = next(gathers, "no weights read its units")
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
