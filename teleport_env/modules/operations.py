"""What each operation of torch says about the units of what goes into it and comes out of it.

Operations are those that torch executes (ATen), a few dozen for all modules: a linear layer, a fused projection and
``einsum`` all are matrix products there. A rule gets the books, the operation's arguments and its result, and returns the
shadow of the result, for several results a sequence of them. What has no rule is *opaque*: no unit that enters it is moved.

The rules hold for one group at a time, ``books.kind``:

* ``"scaling"``: units are multiplied by positive factors. ReLU and its like pass them, sums need equal ones, products with
  what does not scale pass them, and a weight that multiplies entry by entry absorbs any factor.
* ``"permutation"``: units change places. Everything that acts on each entry alone passes them.
* ``"general_linear"``: units are mixed by an invertible matrix. Only what is linear and the same for all units passes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from teleport_env.modules.tracing import NOISE, Books, Noise, Scalar, Weights, compact, folded, varies_along

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}

HOMOGENEOUS = frozenset({"relu", "leaky_relu", "neg", "abs", "rrelu_with_noise"})
UNTAGGED = frozenset({"leaky_relu", "hardswish"})
"""Operations on each entry alone that torch does not tag as such: the first in 2.6, the second in 2.13 too."""

NAMES = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "elu": "ELU",
    "native_layer_norm": "LayerNorm",
    "_softmax": "softmax",
    "linalg_vector_norm": "a norm",
}
NAMES |= {
    "_safe_softmax": "softmax",
    "_log_softmax": "log-softmax",
    "native_group_norm": "GroupNorm",
    "hardtanh": "hardtanh (ReLU6)",
    "pow": "a power",
    "div": "a division that rounds",
}
_SHARES = ": its results are shares of a sum, which a factor per unit changes"
_BOUNDS = ": its bounds stay where they are while units are multiplied (bounds of 0, and trained ones, move along)"
WHY = dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax"), _SHARES)
WHY |= dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh"), _BOUNDS)
"""Why factors do not pass, where the name does not say it."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule under the names of operations, without their overloads and the underscore of those in place."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def name_of(func: Any) -> str:
    """``relu`` of ``aten.relu_.default``."""
    name: str = func.overloadpacket.__name__
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def opaque(books: Books, name: str, args: Any, why: str | None = None) -> None:
    """No unit and no weight that enters is moved; ``why``: in place of what the name says."""
    for tensor in _tensors(args):
        shadow = books.shadow(tensor)
        if isinstance(shadow, Weights):
            books.refuse(shadow, why or f"{NAMES.get(name, name)} is applied to it before it is used")
        elif isinstance(shadow, Tensor):
            books.fix(shadow, why or _unlike(books, name))


def _unlike(books: Books, name: str) -> str:
    how = {"scaling": "is not homogeneous", "general_linear": "is not linear", "permutation": "mixes its entries"}
    why = WHY.get(name, "") if books.kind == "scaling" else ""
    return f"{NAMES.get(name, name)} {how[books.kind]}{why}"


def _tensors(args: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for arg in args:
        found += [arg] if isinstance(arg, Tensor) else _tensors(arg) if isinstance(arg, list | tuple) else []
    return found


def rounded(books: Books, args: Any, results: Sequence[Any]) -> None:
    """Numbers that become integers, or numbers of fewer digits, are rounded: only a permutation passes that.

    Entered for every operation, because many can change the type: casts, copies into a tensor, sums, views of the bits.
    """
    if books.kind == "permutation":
        return
    before = [tensor.dtype for tensor in _tensors(args) if _has_units(books, tensor)]
    for result in results:
        if before and _has_units(books, result) and any(_narrower(result.dtype, dtype) for dtype in before):
            opaque(books, "", [result], f"it is cast to {str(result.dtype).removeprefix('torch.')}, which rounds")


def _has_units(books: Books, value: Any) -> bool:
    return isinstance(value, Tensor) and isinstance(books.shadow(value), Tensor | Weights)


def _narrower(new: torch.dtype, old: torch.dtype) -> bool:
    """Whether numbers of the type ``old`` lose digits or range in the type ``new``."""
    if not (old.is_floating_point or old.is_complex):
        return False
    if not (new.is_floating_point or new.is_complex):
        return True
    return torch.finfo(new).eps > torch.finfo(old).eps or torch.finfo(new).max < torch.finfo(old).max


# -- views -------------------------------------------------------------------------------------------------------------


_VIEWS = (
    "t transpose permute movedim expand slice select narrow split split_with_sizes chunk unsafe_split unsafe_chunk unbind "
    "squeeze unsqueeze alias detach diagonal flip roll repeat index_select unfold "
    "channel_shuffle pixel_shuffle pixel_unshuffle index gather"
)


@rule(*_VIEWS.split())
def view(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    shadow = books.shadow(args[0])
    if isinstance(shadow, Weights):
        moved = func(shadow.places, *args[1:], **kwargs)
        return [Weights(part) for part in moved] if isinstance(moved, list | tuple) else Weights(moved)
    if isinstance(shadow, Tensor):
        return func(shadow, *args[1:], **kwargs)
    return [shadow] * len(out) if isinstance(out, list | tuple) else shadow


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided")
def reshape(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    shadow = books.shadow(args[0])
    if isinstance(shadow, Weights):
        return Weights(shadow.places.reshape(out.shape))
    return folded(shadow.reshape(out.shape)) if isinstance(shadow, Tensor) else shadow


@rule("clone", "_to_copy", "contiguous", "lift_fresh", "positive")
def same(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return books.shadow(args[0])


@rule("copy")
def copied(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    shadow = books.shadow(args[1])
    if isinstance(shadow, Weights):
        return Weights(shadow.places.expand(out.shape))
    return shadow.expand(out.shape) if isinstance(shadow, Tensor) else shadow


_MADE = (
    "empty_like zeros_like ones_like full_like rand_like randn_like randint_like "
    "new_empty new_empty_strided new_zeros new_ones new_full fill zero"
)


@rule(*_MADE.split())
def made(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """Of the shape of a tensor, and nothing else."""
    opaque(books, name_of(func), args[1:])
    return None


@rule("cat", "stack")
def together(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    parts = args[0]
    shadows = [books.shadow(part) for part in parts]
    if all(isinstance(shadow, Weights) for shadow in shadows):
        return Weights(func([shadow.places for shadow in shadows], *args[1:], **kwargs))
    labels = [books.labels(part) for part in parts]
    if all(label is None for label in labels):
        return None
    filled = [
        torch.zeros(part.shape, dtype=torch.int64, device="cpu") if label is None else label
        for part, label in zip(parts, labels, strict=True)
    ]
    return folded(func(filled, *args[1:], **kwargs))


# -- entry by entry ----------------------------------------------------------------------------------------------------


def _fit(books: Books, labels: Tensor, other: Any, reason: str) -> Tensor:
    """The labels, beside an operand that is not moved: fixed where it differs between units that change places or mix."""
    shape = torch.broadcast_shapes(labels.shape, other.shape)
    differs = [axis for axis in varies_along(labels) if -axis <= other.ndim and other.shape[axis] > 1]
    differs = [axis for axis in differs if other.stride(axis) != 0]  # an expanded one is the same for all
    if differs:
        books.fix(labels, reason)
    return labels.expand(shape)


def _moving(books: Books, tensor: Any) -> Tensor | None:
    """The labels of an operand. One number is the same for all units, which may change places: it stays."""
    return None if books.kind == "permutation" and books.single(tensor) else books.labels(tensor)


@rule("add", "sub")
def added(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    one, other = (_moving(books, arg) for arg in args[:2])
    if one is None and other is None:
        return None
    if one is not None and other is not None:
        books.join(one, other, "what is added does not move alike")
        return torch.broadcast_tensors(one, other)[0]
    labels, constant = (one, args[1]) if one is not None else (other, args[0])
    assert labels is not None
    if books.kind == "permutation":
        if not isinstance(constant, Tensor):
            return labels
        return _fit(books, labels, constant, "what is added differs between its units")
    if isinstance(constant, Tensor) or constant != 0:
        books.fix(labels, "what is added does not move")
    return labels.expand(out.shape)


_PRODUCT_OF_WEIGHTS = "it is one number in a quotient or a product of weights: multiply units by one number alone"


@rule("mul", "div")
def multiplied(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    if kwargs.get("rounding_mode") is not None:
        return pointwise(books, func, args, kwargs, out)
    one, other = args[:2]
    divided = name_of(func) == "div"
    noise = [isinstance(books.shadow(arg), Noise) for arg in (one, other)]
    if noise[0] and not isinstance(other, Tensor):
        return NOISE
    if any(noise):
        labels = books.labels(one if noise[1] else other)
        if books.kind == "general_linear":
            books.fix(labels, "dropout is not the same for all units")
        return labels
    weights = [arg for arg in (one, other) if isinstance(books.shadow(arg), Weights)]
    if divided or len(weights) == 2:
        for weight in filter(books.single, weights):
            books.refuse(books.shadow(weight), _PRODUCT_OF_WEIGHTS)
    elif weights:
        value, weight = (other, one) if weights[0] is one else (one, other)
        if not books.single(weight):
            return _gain(books, value, books.shadow(weight), out)
        if books.kind == "scaling":
            return _scalar_gain(books, value, books.shadow(weight), out)
    a, b = (None if books.single(arg) else books.labels(arg) for arg in (one, other))
    if a is not None and b is not None:
        if books.kind == "permutation":
            books.join(a, b, "what is multiplied does not move alike")
            return torch.broadcast_tensors(a, b)[0]
        if books.kind == "scaling" and one is not other and not divided:
            books.fix(b, "it is multiplied by what scales already")
            return a.expand(out.shape)
        books.fix(a, "it is multiplied by what moves")
        books.fix(b, "it is multiplied by what moves")
        return None
    labels, constant = (a, other) if a is not None else (b, one)
    if labels is None:
        return None
    if divided and labels is b and books.kind != "permutation":
        if books.kind == "general_linear":
            books.fix(labels, "it is divided by")
        labels = -labels
    if books.kind != "scaling" and isinstance(constant, Tensor):
        return _fit(books, labels, constant, "what it is multiplied by differs between its units")
    return labels.expand(out.shape)


def _gain(books: Books, value: Any, weights: Weights, out: Tensor) -> Any:
    """A product with weights entry by entry, such as the gain of a normalization."""
    labels = books.labels(value)
    places = weights.places.expand(out.shape)
    if books.kind == "scaling":
        if not books.use(weights):
            books.fix(labels, "it is multiplied by weights that do not move")
            return None
        distinct, back = np.unique(places.numpy(), return_inverse=True)
        fresh = books.fresh(len(distinct))
        written = torch.from_numpy(np.asarray(fresh[back]).reshape(out.shape))
        books.bind(places, written)
        if labels is not None:
            labels = labels.expand(out.shape)
            first = np.unique(places.numpy(), return_index=True)[1]
            flat = labels.reshape(-1)
            books.join(flat, flat[torch.from_numpy(first[back].ravel())], "its units share a weight")
            books.bind(places, -labels)
        return folded(written)
    if labels is None or books.kind == "general_linear":
        books.refuse(weights, "each of its entries multiplies one unit, which does not move")
        books.fix(labels, "it is multiplied by one weight per unit")
        return None
    gains = books.as_units(weights)
    if gains is None:
        books.fix(labels, "it is multiplied by weights that do not move")
        return None
    books.join(labels, gains, "what is multiplied does not move alike")
    return labels.expand(out.shape)


def _scalar_gain(books: Books, value: Any, weight: Weights, out: Tensor) -> Any:
    """A product with one trained number: factors of the units pass, and it has one of its own against what writes them."""
    labels = books.labels(value)
    if labels is None:
        return _gain(books, value, weight, out)
    if books.use(weight):
        books.scalars.append(Scalar(books.where, int(compact(weight.places).reshape(-1)[0]), books.writers(labels)))
    return labels.expand(out.shape)


@rule("glu")
def gated(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """The first half times the sigmoid of the second: factors of the first pass, places are shared."""
    labels = books.labels(args[0])
    if labels is None:
        return None
    value, gate = labels.chunk(2, dim=args[1] if len(args) > 1 else -1)
    if books.kind == "permutation":
        books.join(value, gate, "what is multiplied does not move alike")
        return value
    books.fix(gate, _unlike(books, "the sigmoid of a gated unit"))
    if books.kind == "general_linear":
        books.fix(value, "what it is multiplied by differs between its units")
    return value


@rule("_prelu_kernel", "prelu")
def prelu(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    labels, slopes = books.labels(args[0]), books.shadow(args[1])
    if labels is None:
        return None
    if books.kind == "general_linear":
        books.fix(labels, _unlike(books, "PReLU"))
        return None
    if books.kind == "permutation" and args[1].numel() > 1:
        own = books.as_units(slopes) if isinstance(slopes, Weights) else None
        if own is None:
            books.fix(labels, "the slopes of PReLU do not move")
            return None
        if name_of(func) == "prelu":
            own = own.reshape(-1, *[1] * (labels.ndim - 2))
        books.join(labels, own, "PReLU")
    return labels


@rule("bernoulli")
def mask(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return NOISE


@rule("native_dropout")
def dropout(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    labels = books.labels(args[0])
    if books.kind == "general_linear":
        books.fix(labels, "dropout is not the same for all units")
    return labels, None


def _homogeneous(name: str, args: Any, moved: int) -> bool:
    """Whether positive factors pass; ``moved``: how many operands have units."""
    if name in ("clamp", "clamp_min", "clamp_max", "threshold"):
        # a bound that is a tensor and does not move may be anything later, and bites where this example does not reach
        tensors = sum(isinstance(arg, Tensor) for arg in args)
        zero = all(isinstance(bound, Tensor | None) or bound == 0 for bound in args[1:])
        return moved == tensors and zero
    if name == "masked_fill":
        return moved == 1 and [bound for bound in args[1:] if not isinstance(bound, Tensor)] == [0]
    return name in HOMOGENEOUS or (name in ("maximum", "minimum") and moved == 2)


def pointwise(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """Every other operation on each entry alone."""
    name = name_of(func)
    tensors = _tensors(args)
    found = [(tensor, label) for tensor in tensors if (label := _moving(books, tensor)) is not None]
    if not found:
        return None
    if books.kind == "scaling" and _homogeneous(name, args, len(found)):
        for _, other in found[1:]:
            books.join(found[0][1], other, "what meets does not move alike")
        return found[0][1].expand(out.shape)
    if books.kind != "permutation" and not (books.kind == "general_linear" and name == "neg"):
        opaque(books, name, tensors)
        return None
    labels = found[0][1]
    for _, other in found[1:]:
        books.join(labels, other, "what meets does not move alike")
        labels = torch.broadcast_tensors(labels, other)[0]
    for tensor in tensors:
        if all(tensor is not moved for moved, _ in found):
            labels = _fit(books, labels, tensor, "what it meets differs between its units")
    return labels.expand(out.shape)
