"""The one reader of what callers hand in: numbers, lists, arrays, names and the settings of objects.

Values are read and not guessed: a flag is no number, a string is no list, 1.7 is no integer. Scalars of NumPy and torch are
numbers like Python's. What is not allowed raises a `ValueError` that names the argument, the value and what is allowed.
Arrays leave here in a precision that torch computes with, in memory of their own, so that torch never sees foreign memory
that is read-only or in the wrong byte order.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from types import FunctionType, NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

_LONGEST = 200  # letters of a value in a message


def shown(value: object) -> str:
    """``repr(value)`` on one line and of bounded length, for messages."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write integers of more than 4300 digits
        text = f"an object of type {type(value).__name__} that is too long to show"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}...{text[-15:]}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def refuse(name: str, allowed: str, value: object) -> NoReturn:
    """Raise the `ValueError` that says what ``name`` must be and what it is."""
    raise ValueError(f"{name} must be {allowed}, got {shown(value)}")


# -- names -------------------------------------------------------------------------------------------------------------


def suggestion(name: object, names: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the closest of ``names``, or ``""``; cases do not count."""
    folded = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1) if isinstance(name, str) else []
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def known(what: str, name: object, names: Collection[str], remedy: str = "") -> str:
    """The one of ``names`` that is meant; upper and lower case do not count where only one name remains.

    Args:
        what: Kind of thing that the name stands for, such as ``"search"``.
        name: The name that the caller wrote.
        names: The names there are.
        remedy: A further sentence for the message.

    Raises:
        ValueError: There is none; the message lists the names and suggests the closest.
    """
    if isinstance(name, str) and name in names:
        return str(name)
    allowed = list(dict.fromkeys(names))
    if isinstance(name, str):
        same = [other for other in allowed if other.casefold() == name.casefold()]
        if len(same) == 1:
            return same[0]
    listed = f"one of {', '.join(map(repr, allowed))}" if allowed else "left out, as there are none"
    help_ = suggestion(name, allowed) + (remedy and f" {remedy}")
    raise ValueError(f"{what} must be {listed}, got {shown(name)}{help_ and '.' + help_}")


def choose(what: str, made: Any, name: str, names: Collection[str]) -> None:
    """Replace a field of a frozen dataclass by the one of ``names`` that is meant; for its ``__post_init__``."""
    object.__setattr__(made, name, known(f"{name} of {what}", getattr(made, name), names))


def choose_some(what: str, made: Any, name: str, names: Collection[str], least: int = 1) -> None:
    """Likewise a field of at least ``least`` different names, which becomes a tuple."""
    given = getattr(made, name)
    found = tuple(
        known(f"an entry of {name} of {what}", one, names) for one in entries(f"{name} of {what}", given, "names")
    )
    if len(found) < least or len(set(found)) < len(found):
        some = f"{least} or more different names" if least else "different names"
        refuse(f"{name} of {what}", f"{some} among {', '.join(names)}", given)
    object.__setattr__(made, name, found)


# -- numbers -----------------------------------------------------------------------------------------------------------


def _scalar(value: Any) -> Any:
    """A tensor or array without axes as a Python number; everything else as it is."""
    return value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """``value`` as a Python integer, from ``least`` to ``most``.

    Raises:
        ValueError: It is no integer (a flag and 2.0 are none) or outside the bounds.
    """
    found = _scalar(value)
    whole = isinstance(found, Integral) and not isinstance(found, bool)
    if not whole or (least is not None and found < least) or (most is not None and found > most):
        bounds = [f"of at least {least}"] if least is not None else []
        bounds += [f"at most {most}"] if most is not None else []
        refuse(name, " ".join(["an integer", " and ".join(bounds)]).strip(), value)
    return int(found)


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """``value`` as a Python float within the bounds.

    Args:
        name: The argument, for the message.
        value: A real number of Python, NumPy or torch.
        least: Smallest value allowed.
        above: Bound that the value must exceed.
        most: Largest value allowed.
        below: Bound that the value must not reach.
        finite: Whether infinity is refused; NaN always is.

    Raises:
        ValueError: It is no such number, or too large for a float.
    """
    found = _scalar(value)
    try:
        real = float(found) if isinstance(found, Real) and not isinstance(found, bool) else math.nan
    except OverflowError:  # an integer such as 10**400
        real = math.nan
    inside = (
        not math.isnan(real)
        and (not finite or math.isfinite(real))
        and (least is None or real >= least)
        and (above is None or real > above)
        and (most is None or real <= most)
        and (below is None or real < below)
    )
    if not inside:
        texts = {"of at least": least, "above": above, "at most": most, "below": below}
        bounds = " and ".join(f"{text} {bound:g}" for text, bound in texts.items() if bound is not None)
        plain = "a positive number" if bounds == "above 0" else f"a {'finite ' * finite}number {bounds}".strip()
        refuse(name, plain, value)
    return real


def flag(name: str, value: Any) -> bool:
    """``value`` as it is if it is True or False (of Python, NumPy or torch); raises ValueError otherwise."""
    found = _scalar(value)
    if not isinstance(found, bool | np.bool_):
        refuse(name, "True or False", value)
    return bool(found)


def entries(name: str, value: Any, what: str = "values") -> list[Any]:
    """The entries of a list, a tuple, or an array or tensor with one axis.

    Raises:
        ValueError: It is something else; a string is no list.
    """
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim == 1:
            return list(value.tolist())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return list(value)
    refuse(name, f"a list of {what}", value)


# -- arrays ------------------------------------------------------------------------------------------------------------


def tensor(name: str, value: Any, *, integers: bool = False, flags: bool = False) -> Tensor:
    """``value`` as a tensor: int64 for whole numbers, float32 or float64 for others.

    Args:
        name: The argument, for the message.
        value: A number, nested lists of numbers, an array of any real dtype and byte order, an object array of numbers, or
            a tensor (which stays on its device and may share its memory).
        integers: Whether only whole numbers are allowed.
        flags: Whether booleans are allowed, as 0 and 1.

    Raises:
        ValueError: It holds something else, or an integer beyond 64 signed bits.
    """
    allowed = f"{'integers' if integers else 'numbers'} of at most 64 bits"
    if isinstance(value, Tensor):
        found = value.detach()
        kind = "c" if found.is_complex() else "f" if found.is_floating_point() else "i"
        kind = "b" if found.dtype == torch.bool else kind
        too_large = found.dtype == torch.uint64 and bool((found.view(torch.int64) < 0).any())
    else:
        array = _array(value)
        kind, too_large = array.dtype.kind, array.dtype.kind == "u" and bool((array > np.iinfo(np.int64).max).any())
    if kind not in ("iu" if integers else "iuf") + ("b" if flags else "") or too_large:
        refuse(name, allowed, value)
    if isinstance(value, Tensor):
        if kind == "f":
            return found.to(torch.float32) if found.dtype in (torch.float16, torch.bfloat16) else found
        return found.to(torch.int64)
    wide = (np.float32 if array.dtype.itemsize <= 4 else np.float64) if kind == "f" else np.int64
    return torch.from_numpy(
        np.array(array, dtype=wide, order="K")
    )  # a copy: native, writable, the caller's is not shared


def _array(value: Any) -> np.ndarray:
    """``value`` as an array; one of objects becomes one of numbers where all of them are, else stays."""
    try:
        # entry by entry where NumPy would turn the flags among numbers into numbers
        array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else np.asarray(value, dtype=object)
    except (ValueError, TypeError, RuntimeError):  # tensors or arrays that make no rectangle
        return np.empty(0, dtype=object)
    if array.dtype != object:
        return array
    items = [_scalar(item) for item in array.ravel()]
    kinds = set(map(type, items))
    if kinds == {bool}:
        return np.array(items, dtype=bool).reshape(array.shape)
    if not all(issubclass(kind, Real) and kind is not bool for kind in kinds):
        return array
    try:
        wide = np.int64 if all(issubclass(kind, Integral) for kind in kinds) else np.float64
        return np.array(items, dtype=wide).reshape(array.shape)
    except OverflowError:
        return array


# -- settings of objects -----------------------------------------------------------------------------------------------


def arguments(what: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for ``factory``, each read by its annotation.

    Args:
        what: The thing that is built, such as ``"optimizer 'adam'"``.
        factory: A class, a dataclass or a function.
        settings: The settings that the caller wrote.

    Raises:
        ValueError: A setting that the factory does not have, or a value of another kind than its annotation.
    """
    allowed, open_ended = parameters(factory)
    for name in settings:
        if name not in allowed and not open_ended:
            listed = ", ".join(allowed) or "none"
            raise ValueError(f"{what} has no setting {shown(name)}; it has {listed}.{suggestion(name, allowed)}")
    return {name: _read(f"{name} of {what}", value, allowed.get(name)) for name, value in settings.items()}


def read_fields(what: str, made: Any) -> None:
    """Replace each field of a frozen dataclass by what `arguments` would read; for its ``__post_init__``."""
    hints = _hints(type(made))
    for field in fields(made):
        value = _read(f"{field.name} of {what}", getattr(made, field.name), hints.get(field.name))
        object.__setattr__(made, field.name, value)


_resolved = lru_cache(maxsize=1024)(get_type_hints)


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return _resolved(owner) if isinstance(owner, type | FunctionType) else get_type_hints(owner)
    except (NameError, TypeError):  # annotations that only a type checker can resolve say nothing here
        return {}


def parameters(factory: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Annotations of the keyword arguments by name, and whether there may be more.

    A class that hands on ``**others`` takes what its base classes take.
    """
    found: dict[str, Any] = {}
    makers = (
        [vars(cls)["__init__"] for cls in factory.__mro__ if "__init__" in vars(cls)]
        if isinstance(factory, type)
        else [factory]
    )
    for maker in makers:
        hints, more = _hints(maker), False
        for parameter in inspect.signature(maker).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                more = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != "self":
                found.setdefault(parameter.name, hints.get(parameter.name))
        if not more or maker is object.__init__:
            return found, more and not isinstance(factory, type)
    return found, True


def _read(name: str, value: Any, hint: Any) -> Any:
    """``value`` by the annotation ``hint``; where that is no number, flag, text or list of them, as it is."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        rest = [part for part in parts if part is not NoneType]
        if len(rest) > 1 or (value is None and NoneType in parts):
            return value
        hint, origin, parts = rest[0], get_origin(rest[0]), get_args(rest[0])
    if hint is bool:
        return flag(name, value)
    if hint is int:
        return integer(name, value)
    if hint is float:
        return number(name, value, finite=False)
    if hint is str and not isinstance(value, str):
        refuse(name, "a string", value)
    if origin in (tuple, list, Sequence) and parts and parts[0] in (int, float):
        items = entries(name, value, "integers" if parts[0] is int else "numbers")
        if origin is tuple and ... not in parts and len(items) != len(parts):
            refuse(name, f"{len(parts)} numbers", value)
        return tuple(_read(f"an entry of {name}", item, parts[0]) for item in items)
    return value
