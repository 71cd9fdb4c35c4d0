"""The symmetries of a module: read off its structure, accepted by a probe, refused with a reason.

`find_symmetries` runs the module once per kind of group and mode (`teleport_env.modules.watch`), gathers the weights of each
unit to couplings, and tries those that all modes have in common (`teleport_env.modules.probe`).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from teleport_env.modules.gathered import couplings_of
from teleport_env.modules.probe import MODES, TOLERANCE, Probe
from teleport_env.modules.report import Found, Refused
from teleport_env.modules.stated import stated_couplings
from teleport_env.modules.tracing import KINDS, Kind
from teleport_env.modules.watch import books_of, leaves
from teleport_env.reading import entries, known, refuse
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


def find_symmetries(module: nn.Module, example: Any, modes: Sequence[str] = MODES) -> Found:
    """The scalings, linear changes and permutations of hidden units that keep the outputs of a module.

    Args:
        module: The module; it is copied and not changed.
        example: Input of the module: a tensor, a tuple of arguments, or a mapping of arguments by name. Two or more
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
    stated = stated_couplings(double, trained)
    branches: set[str] = set()
    for kind in KINDS:
        seen = {}
        for mode in modes:
            try:
                books = books_of(copy.deepcopy(double).train(mode == "train"), given, kind, frozen)
            except Exception as error:
                raise ValueError(
                    f"the module cannot be run on the example in float64, in mode {mode}: {_words(error, mode, modes)}"
                ) from error
            branches |= books.branches
            seen[mode] = couplings_of(books, frozen)
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
                why = f"the probe moved the outputs by {change:.1e} of their size in mode {mode}, allowed {TOLERANCE:g}"
                refused.append(Refused(coupling.name, kind, why))
    symmetries: dict[str, Symmetry] = {kind: MAKERS[kind](couplings) for kind, couplings in found.items() if couplings}
    notes = [
        f"Python reads a number of a tensor in {where or 'the module'} (item(), tolist(), numpy(), if): with "
        "another number the module may take a path that this example did not, and symmetries were not tried there"
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


def _words(error: Exception, mode: str, modes: Sequence[str]) -> str:
    if "HigherOrderOperator" in str(error):
        return "it uses torch.cond or another operator that takes functions, which are not followed; write it with if"
    others = tuple(other for other in modes if other != mode)
    return f"{error}" + (f". Where it is not used in that mode, pass modes={others}" if others else "")


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
