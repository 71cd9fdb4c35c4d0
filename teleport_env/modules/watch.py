"""A module runs on an example, and the books are kept of every operation that torch executes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from teleport_env.modules import layers, normalizations  # noqa: F401  # enter their rules
from teleport_env.modules.attention import plain_attention
from teleport_env.modules.operations import RULES, UNTAGGED, name_of, opaque, pointwise, rounded
from teleport_env.modules.tracing import OUTPUT, Books, Frozen, Kind, Weights, layout
from teleport_env.modules.units import Reason
from teleport_env.reading import shown

_UNKNOWN = "has no rule: what it does to units is not known, and a module can state it (teleport_symmetries)"
_READS = frozenset({"_local_scalar_dense", "is_nonzero", "equal"})
"""Operations by which Python reads a number of a tensor, on which a branch may depend."""

_LEAVES_TORCH = frozenset({"tolist", "numpy", "__array__", "__dlpack__", "data_ptr"})


class _Reads(TorchFunctionMode):
    """Notes where all numbers of a tensor leave torch at once, which executes no operation."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        self._books = books

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LEAVES_TORCH:
            self._books.branches.add(self._books.where)
        return func(*args, **(kwargs or {}))


class _Watch(TorchDispatchMode):
    def __init__(self, books: Books) -> None:
        super().__init__()
        self._books = books
        self.operands: set[int] = set()  # identities of what entered an operation

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        books, kwargs = self._books, kwargs or {}
        name = name_of(func)
        alone = torch.Tag.pointwise in func.tags or name in UNTAGGED
        found = RULES.get(name) or (pointwise if alone else None)
        for tensor in leaves([*args, *kwargs.values()]):
            self.operands.add(id(tensor))
            if not books.knows(tensor):
                books.cast(tensor, None)
        out = func(*args, **kwargs)
        if name in _READS:
            books.branches.add(books.where)
        results = out if isinstance(out, list | tuple) else [out]
        shadow: Any = None
        try:
            if found is None:
                opaque(books, name, args, f"{name} {_UNKNOWN}")
            else:
                shadow = found(books, func, args, kwargs, out)
            self._cast(results, shadow)
            rounded(books, args, results)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # a way of calling that the rule does not know: what enters is refused, and the module still runs
            opaque(books, name, args, f"{name} could not be followed: {error}")
            self._cast(results, None)
        if func._schema.is_mutable:
            for index, argument in enumerate(func._schema.arguments):
                value = args[index] if index < len(args) else kwargs.get(argument.name)
                if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor):
                    books.written(value)
        return out

    def _cast(self, results: Any, shadow: Any) -> None:
        shadows = shadow if isinstance(shadow, list | tuple) else [shadow] * len(results)
        for result, own in zip(results, shadows, strict=False):
            if isinstance(result, Tensor):
                self._books.cast(result, own)


def books_of(
    module: nn.Module,
    example: Any,
    kind: Kind,
    frozen: Mapping[str, str],
) -> Books:
    """What one run of ``module`` on ``example`` says about one kind of symmetry.

    Args:
        module: The module, in float64 and in the mode to run it in; its buffers may change.
        example: Input of the module, as `call` takes it.
        kind: The group to follow units for.
        frozen: Names of parameters that are not to move, with the reason.
    """
    parameters = dict(module.named_parameters())
    names, ends = layout({name: value for name, value in parameters.items() if value.requires_grad})
    books = Books(kind, names, ends)
    starts = {name: int(end) - parameters[name].numel() for name, end in zip(names, ends, strict=True)}
    for name, value in parameters.items():
        shadow: Any
        if name in frozen or name not in starts:
            shadow = Frozen(frozen.get(name, f"`{name}` is frozen"))
            if name in starts:
                books.weights_refused[name] = Reason(frozen[name])
        else:
            places = torch.arange(starts[name], starts[name] + value.numel(), device="cpu")
            shadow = Weights(places.reshape(value.shape))
        books.cast(value, shadow)
    with _places(module, books), plain_attention(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        with _Reads(books), _Watch(books) as watch:
            out = call(module, example)
    books.unused = [name for name in names if id(parameters[name]) not in watch.operands and name not in frozen]
    if not leaves(out):
        raise ValueError(f"it returns no tensor, but {shown(out)}")
    for tensor in leaves(out):
        books.where = ""
        if isinstance(shadow := books.shadow(tensor), Weights):
            books.refuse(shadow, OUTPUT)
        books.fix(books.labels(tensor), OUTPUT)
    books.require_whole()
    return books


@contextmanager
def _places(module: nn.Module, books: Books) -> Iterator[None]:
    """While the module runs, the books know which submodule is at work."""
    stack: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            stack.append(name)
            books.where = name

        return hook

    def leave(*_: Any) -> None:
        stack.pop()
        books.where = stack[-1] if stack else ""

    handles = []
    for name, part in module.named_modules():
        handles += [part.register_forward_pre_hook(enter(name)), part.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def call(function: Callable[..., Any], example: Any) -> Any:
    """``function`` of an example: one argument, a tuple of arguments, or a mapping of arguments by name."""
    if isinstance(example, Mapping):
        return function(**example)
    return function(*example) if isinstance(example, tuple) else function(example)


def leaves(out: Any) -> list[Tensor]:
    """All tensors in what a module returned, also in the attributes of objects, such as a distribution's."""
    return _leaves(out, {})


def _leaves(out: Any, seen: dict[int, Any]) -> list[Tensor]:
    """``seen``: objects by identity, because some hold themselves."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, Mapping):
        parts = list(out.values())
    elif isinstance(out, list | tuple | set | frozenset | deque):
        parts = list(out)
    elif isinstance(out, type | ModuleType | nn.Module):
        return []
    else:
        slots = [name for kind in type(out).__mro__ for name in np.ravel(getattr(kind, "__slots__", ())).tolist()]
        parts = [getattr(out, name, None) for name in slots if not name.startswith("__")]
        parts += getattr(out, "__dict__", {}).values()
    if not parts or id(out) in seen:
        return []
    seen[id(out)] = out
    return [tensor for part in parts for tensor in _leaves(part, seen)]
