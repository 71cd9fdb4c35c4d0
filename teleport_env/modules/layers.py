"""Rules for the operations that weights write and read units by: products, convolutions, normalizations, pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from teleport_env.modules.operations import added, name_of, opaque, rule
from teleport_env.modules.tracing import Books, Frozen, Weights, folded, varies_along

# -- products of matrices ----------------------------------------------------------------------------------------------


def _as_batch(shadow: Any) -> Any:
    """The shadow of a matrix as that of a batch of one."""
    if isinstance(shadow, Weights):
        return Weights(shadow.places[None])
    return shadow[None] if isinstance(shadow, Tensor) else shadow


def _turned(shadow: Any) -> Any:
    if isinstance(shadow, Weights):
        return Weights(shadow.places.mT)
    return shadow.mT if isinstance(shadow, Tensor) else shadow


def _product(books: Books, left: Any, right: Any, shape: tuple[int, int, int]) -> Tensor | None:
    """Labels of a product ``(n, a, b)`` of what has the shadows ``left`` ``(n, a, c)`` and ``right`` ``(n, c, b)``."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Frozen):
            if isinstance(other, Weights):
                books.refuse(other, one.reason)
            elif isinstance(other, Tensor):
                books.fix(other, one.reason)
            return None
    if isinstance(left, Weights) and isinstance(right, Weights):
        _factors(books, left, right)
        return None
    if isinstance(left, Weights):
        turned = _product(books, _turned(right), _turned(left), (shape[0], shape[2], shape[1]))
        return None if turned is None else turned.mT
    if isinstance(right, Weights):
        return _read(books, left, right, shape)
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        return None
    if isinstance(left, Tensor) and isinstance(right, Tensor):  # queries and keys
        one, other = books.constant_along(left, 1), books.constant_along(right, 2)
        books.join(one.mT, -other, "what meets in a product does not move inversely")
        apart(books, one[:, 0])
        return None
    if isinstance(right, Tensor):  # attention weights and values
        one = books.constant_along(right, 1)
        apart(books, one[:, 0])
        return one.expand(shape)
    one = books.constant_along(left, 2)
    apart(books, one[:, :, 0])
    return one.expand(shape)


def apart(books: Books, labels: Tensor) -> None:
    """Units of different rows of ``labels`` ``(n, k)`` never mix, nor change places: each row has a matrix of its own."""
    if len(labels) > 1:
        books.fibers.append(labels.numpy())


def _factors(books: Books, left: Weights, right: Weights) -> None:
    """The product of two weights, such as a low-rank update: between them lies a space; what comes out is not moved."""
    if not (books.use(left) & books.use(right)):
        return
    one, other = folded(left.places), folded(right.places)
    count = 1 if one.stride(0) == 0 and other.stride(0) == 0 else len(one)
    inner = torch.from_numpy(books.fresh(count * one.shape[2]).reshape(count, 1, -1))
    books.bind(other[:count], inner.mT)
    books.bind(one[:count], -inner)
    apart(books, inner[:, 0])


def _read(books: Books, labels: Tensor | None, weights: Weights, shape: tuple[int, int, int]) -> Tensor | None:
    """Weights ``(n, c, b)`` read ``c`` units and write ``b`` new ones."""
    if not books.use(weights):
        books.fix(labels, "it is read by weights that do not move")
        return None
    places = folded(weights.places)
    count = 1 if places.stride(0) == 0 else len(places)
    places = places[:count]
    written = torch.from_numpy(books.fresh(count * shape[2]).reshape(count, 1, -1))
    books.bind(places, written)
    apart(books, written[:, 0])
    if labels is not None:
        row = books.constant_along(labels, 1)
        if count == 1:
            row = books.constant_along(row, 0)
        books.bind(places, -row.mT)
        apart(books, row[:, 0])
    return written.expand(shape)


def _live(books: Books, tensor: Tensor) -> Any:
    """The shadow of an operand; labels only where one is free."""
    shadow = books.shadow(tensor)
    return books.labels(tensor) if isinstance(shadow, Tensor) else shadow


@rule("mm")
def mm(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    left, right = (_as_batch(_live(books, arg)) for arg in args[:2])
    labels = _product(books, left, right, (1, *out.shape))
    return None if labels is None else labels[0]


@rule("bmm")
def bmm(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return _product(books, _live(books, args[0]), _live(books, args[1]), tuple(out.shape))


@rule("addmm", "baddbmm")
def plus(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    labels = (mm if args[1].ndim == 2 else bmm)(books, func, args[1:], {}, out)
    books.cast(out, labels)
    return added(books, func, (out, args[0]), {}, out)


# -- convolutions ------------------------------------------------------------------------------------------------------


def channels_of(books: Books, tensor: Tensor) -> Tensor | None:
    """The units of the channels ``(C,)`` of ``(N, C, ...)``."""
    labels = books.labels(tensor)
    if labels is None:
        return None
    for axis in (0, *range(2, labels.ndim)):
        labels = books.constant_along(labels, axis)
    return labels.reshape(-1)


def over_channels(labels: Tensor, out: Tensor) -> Tensor:
    return labels.reshape(1, -1, *[1] * (out.ndim - 2)).expand(out.shape)


@rule("convolution", "_convolution", "mkldnn_convolution")
def convolution(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    value, weight, bias = args[:3]
    transposed, groups = bool(args[6]), int(args[8])
    labels, weights = channels_of(books, value), books.shadow(weight)
    into, onto = value.shape[1], out.shape[1]
    if not isinstance(weights, Weights) or not books.use(weights):
        known = isinstance(weights, Frozen)
        books.fix(labels, weights.reason if known else "it is read by weights that do not move")
        return None
    if groups == into == onto and groups > 1 and books.kind != "scaling":
        return _depthwise(books, labels, weights, bias, out)
    written = torch.from_numpy(books.fresh(onto))
    inner = (into // groups, onto // groups) if transposed else (onto // groups, into // groups)
    places = weights.places.reshape(groups, *inner, -1)
    read_axis, write_axis = (1, 2) if transposed else (2, 1)

    def along(axis: int, units: Tensor) -> Tensor:
        shape = [groups, 1, 1, 1]
        shape[axis] = -1
        return units.reshape(shape)

    books.bind(places, along(write_axis, written))
    if labels is not None:
        books.bind(places, -along(read_axis, labels))
    if groups > 1:
        for units in (written, labels):
            if units is not None:
                apart(books, units.reshape(groups, -1))
        if books.kind != "scaling":
            books.broken[books.where] = f"its {groups} groups break the axis: units of different groups stay apart"
    return _with_bias(books, written, bias, out)


def _with_bias(books: Books, written: Tensor, bias: Any, out: Tensor) -> Tensor:
    shadow = books.shadow(bias)
    if isinstance(shadow, Weights) and books.use(shadow):
        books.bind(shadow.places, written)
    elif bias is not None:
        books.fix(written, shadow.reason if isinstance(shadow, Frozen) else "its bias does not move")
    return over_channels(written, out)


def _depthwise(books: Books, labels: Tensor | None, weights: Weights, bias: Any, out: Tensor) -> Tensor | None:
    """One filter per channel: it goes where its channel goes."""
    if labels is None or books.kind == "general_linear":
        for shadow in (weights, books.shadow(bias)):
            if isinstance(shadow, Weights):
                books.refuse(shadow, "it is one filter per channel, and the channels do not move")
        books.fix(labels, "a depthwise convolution has one filter per channel")
        return None
    books.bind(weights.places, labels.reshape(-1, *[1] * (weights.places.ndim - 1)))
    return _with_bias(books, labels, bias, out)


# -- embeddings, bilinear layers, softmax -------------------------------------------------------------------------------

_LARGEST_OF_BAG = 2  # torch's number for mode="max"


@rule("embedding")
def embedding(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    shadow = books.shadow(args[0])
    if not isinstance(shadow, Weights) or not books.use(shadow):
        return None
    written = torch.from_numpy(books.fresh(out.shape[-1]))
    books.bind(shadow.places, written[None])
    return written.expand(out.shape)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def bag(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    weights, mode = args[0], args[4] if len(args) > 4 else kwargs.get("mode", 0)
    opaque(books, "a bag of embeddings", args[1:], "it weighs the entries of a bag, which has no rule")
    if mode == _LARGEST_OF_BAG and books.kind == "general_linear":
        opaque(books, "the largest of a bag", [weights], "the largest of a bag of embeddings is not linear")
        return [None] * len(out)
    return [embedding(books, func, [weights], {}, out[0]), *[None] * (len(out) - 1)]


@rule("_trilinear")
def bilinear(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """Outputs ``x' W_k y`` of `torch.nn.Bilinear`: ``W`` ``(k, i, j)`` reads both inputs."""
    one, weight, other = args[:3]
    weights = books.shadow(weight)
    if not isinstance(weights, Weights) or [list(axes) for axes in args[3:7]] != [[1, 3], [0], [1, 2], [2, 3]]:
        opaque(
            books, "trilinear", args, "a product of three tensors, of which the middle one is no weight, has no rule"
        )
        return None
    if not books.use(weights):
        for tensor in (one, other):
            books.fix(books.labels(tensor), "it is read by weights that do not move")
        return None
    written = torch.from_numpy(books.fresh(out.shape[-1]))
    books.bind(weights.places, written[:, None, None])
    for tensor, shape in ((one, (1, -1, 1)), (other, (1, 1, -1))):
        if (labels := books.labels(tensor)) is not None:
            books.bind(weights.places, -books.constant_along(labels, 0).reshape(shape))
    return written.expand(out.shape)


@rule("_softmax", "_safe_softmax", "_log_softmax")
def softmax(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    labels = books.labels(args[0])
    if labels is None or books.kind != "permutation":
        opaque(books, name_of(func), args)
        return None
    if args[1] % labels.ndim - labels.ndim in varies_along(labels):  # units change places among those of one sum
        books.fibers.append(labels.movedim(args[1], -1).reshape(-1, labels.shape[args[1]]).numpy())
    return labels


# -- over places -------------------------------------------------------------------------------------------------------

_LARGEST = "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "max_pool1d_with_indices"
_MEANS = "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d"
_RESIZED = "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"
_EDGES = "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"


@rule(*_LARGEST, *_MEANS, *_RESIZED, *_EDGES)
def pool(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    several = isinstance(out, list | tuple)
    result = out[0] if several else out
    labels = books.labels(args[0])
    if labels is None:
        return [None] * len(out) if several else None
    name = func.overloadpacket.__name__
    if name in _LARGEST and books.kind == "general_linear":
        books.fix(labels, "max pooling is not linear")
        labels = torch.zeros_like(labels)
    for axis in range(labels.ndim):
        if labels.shape[axis] != result.shape[axis]:
            labels = books.constant_along(labels, axis)
    labels = labels.expand(result.shape)
    for axis in range(2, labels.ndim):  # also where a stride of one leaves the size alone
        labels = books.constant_along(labels, axis).expand(result.shape)
    return [labels, *[None] * (len(out) - 1)] if several else labels


@rule("mean", "sum", "amax", "max", "var", "std", "var_mean", "linalg_vector_norm")
def reduced(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    several = isinstance(out, list | tuple)
    result = out[0] if several else out
    name = func.overloadpacket.__name__
    labels = books.labels(args[0])
    linear, homogeneous = name in ("mean", "sum"), name not in ("var", "std", "var_mean")
    if (
        labels is None
        or (len(args) > 1 and isinstance(args[1], Tensor))  # the larger of two
        or (books.kind == "general_linear" and not linear)
        or (books.kind == "scaling" and not homogeneous)
    ):
        opaque(books, name, args)
        return [None] * len(out) if several else None
    place = 2 if name == "linalg_vector_norm" else 1
    axes = args[place] if len(args) > place and args[place] is not None else list(range(labels.ndim))
    axes = [axes] if isinstance(axes, int) else axes
    axes = sorted({axis % labels.ndim for axis in axes} or range(labels.ndim), reverse=True)
    for axis in axes:
        if books.kind == "permutation" and axis - labels.ndim in varies_along(labels):
            # their order does not matter, but none may change places with what is not among them
            books.fibers.append(labels.movedim(axis, -1).reshape(-1, labels.shape[axis]).numpy())
            books.gathered.append((name, books.fibers[-1]))
            return [None] * len(out) if several else None
        labels = books.constant_along(labels, axis)
    if labels.ndim != result.ndim:
        for axis in axes:
            labels = labels.squeeze(axis)
    if not several:
        return labels
    # places of the largest change with the order of units alone
    return [labels if books.kind == "permutation" or part.is_floating_point() else None for part in out]


@rule("constant_pad_nd")
def padded(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    labels = books.labels(args[0])
    if labels is None:
        return None
    widths = [axis for index, axis in enumerate(range(-1, -len(args[1]) // 2 - 1, -1)) if any(args[1][2 * index :][:2])]
    if (len(args) > 2 and args[2] != 0 and books.kind != "permutation") or set(widths) & set(varies_along(labels)):
        books.fix(labels, "it is padded")
        return None
    for axis in widths:
        labels = books.constant_along(labels, axis % labels.ndim)
    return labels.expand(out.shape)
