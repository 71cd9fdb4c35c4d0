"""Rules for normalizations: statistics fix the units that enter, gains and shifts write new ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from teleport_env.modules.layers import apart, channels_of, over_channels
from teleport_env.modules.operations import name_of, rule
from teleport_env.modules.tracing import Books, Weights


def _affine(books: Books, labels: Tensor | None, gain: Any, shift: Any, shape: tuple[int, ...], out: Tensor) -> Any:
    """Gain and shift per unit after a normalization; ``labels``: units that pass it; ``shape``: of the gain beside them."""
    own = [(what, books.shadow(what)) for what in (gain, shift) if what is not None]
    weights = [Weights(shadow.places.reshape(shape)) for _, shadow in own if isinstance(shadow, Weights)]
    if books.kind == "scaling" and gain is not None and len(weights) == len(own):
        free = [books.use(weight) for weight in weights]
        if not all(free):
            return None
        written = torch.from_numpy(books.fresh(math.prod(shape)).reshape(shape))
        for weight in weights:
            books.bind(weight.places, written)
        return written.expand(out.shape)
    if books.kind == "permutation" and labels is not None and len(weights) == len(own):
        for weight in weights:
            units = books.as_units(weight)
            if units is None:
                books.fix(labels, "its gain does not move")
                return None
            books.join(labels, units, "the gain of the normalization does not move alike")
        return labels
    for weight in weights:
        books.refuse(weight, "it belongs to units of a normalization that do not move")
    books.fix(labels, "its gain does not move")
    return None


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def batch_norm(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    value, gain, shift, mean = args[0], args[1], args[2], args[3]
    stored = isinstance(mean, Tensor)
    reads_stored = stored and ("no_training" in name_of(func) or not args[5])
    # torch hands over the examples of InstanceNorm as further channels of one example
    norm = "InstanceNorm" if len(value) == 1 else "BatchNorm"
    labels = books.labels(value)
    if books.kind != "permutation":
        keeps = ", and keeps running statistics, which do not move" if stored else ""
        books.fix(labels, f"{norm} adds eps to a variance{keeps}")
        labels = None
    elif reads_stored:
        books.fix(labels, f"the running statistics of {norm} are buffers, which do not move")
        labels = None
    shape = (1, value.shape[1], *[1] * (value.ndim - 2))
    return [_affine(books, labels, gain, shift, shape, out[0]), None, None]


@rule("native_layer_norm", "_fused_rms_norm")
def layer_norm(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    value, shape, gain = args[0], tuple(args[1]), args[2]
    shift = args[3] if isinstance(args[3], Tensor) else None
    labels = books.labels(value)
    if books.kind != "permutation":
        books.fix(labels, "LayerNorm divides by a mean over all units")
        labels = None
    return [_affine(books, labels, gain, shift, shape, out[0]), *[None] * (len(out) - 1)]


@rule("native_group_norm")
def group_norm(books: Books, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    value, gain, shift, groups = args[0], args[1], args[2], args[6]
    labels, count = None, value.shape[1]
    if books.kind != "permutation":
        books.fix(books.labels(value), "GroupNorm divides by a mean over the units of a group")
    elif (channels := channels_of(books, value)) is not None:
        if 1 < groups < count:
            apart(books, channels.reshape(groups, -1))
        labels = over_channels(channels, out[0])
    shape = (1, count, *[1] * (value.ndim - 2))
    return [_affine(books, labels, gain, shift, shape, out[0]), None, None]
