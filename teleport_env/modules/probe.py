"""Whether an action on the weights keeps the outputs of a module: tried, in float64, at random weights.

Structure proposes symmetries, and this accepts or refuses them. All weights and running statistics are moved to random
places first, because a module as it was made hides errors: biases of 0, gains of 1, factors of adapters that are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from teleport_env.instances import Instance
from teleport_env.modules.attention import plain_attention
from teleport_env.modules.watch import call, leaves
from teleport_env.random import Streams
from teleport_env.symmetries.base import Symmetry

TOLERANCE = 1e-12
"""Largest change of an output that counts as rounding, relative to its size or to what is typical of the outputs."""

MODES = ("train", "eval")
_SMALL = 100_000


class _KeepAll(TorchDispatchMode):
    """Masks of dropout that drop nothing: a permutation keeps dropout's distribution and not its draws."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "bernoulli_":
            kept = args[1] if len(args) > 1 else (kwargs or {}).get("p", 0.5)
            return args[0].fill_(kept)  # the mask is divided by it
        return func(*args, **(kwargs or {}))


@dataclass
class _Point:
    """Random weights, and what the module makes of the example there, by mode and whether dropout drops nothing."""

    weights: Tensor
    fixed: dict[str, Tensor]
    outputs: dict[tuple[str, bool], list[Tensor]] = field(default_factory=dict)


class Probe:
    """A module and an example at random weights, several times: units that ReLU silences at one place speak at another.

    Args:
        module: The module, in float64; it is not changed.
        example: Input of the module, as `teleport_env.modules.watch.call` takes it.
        modes: Modes to try, ``"train"`` or ``"eval"`` or both.
        seed: Seed of the random weights and elements.
        points: Number of random weights, at least two; None: four for small modules, two for others, which are rarely
            silent.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Any,
        modes: Sequence[str] = MODES,
        seed: int = 0,
        points: int | None = None,
    ) -> None:
        self._module, self._example, self._modes, self._seed = module, example, tuple(modes), seed
        self._shapes = {name: value.shape for name, value in module.named_parameters() if value.requires_grad}
        if points is None:
            points = 4 if sum(shape.numel() for shape in self._shapes.values()) < _SMALL else 2
        self._points = [self._point(seed + index) for index in range(points)]

    def _point(self, seed: int) -> _Point:
        generator = torch.Generator(device="cpu").manual_seed(seed)

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, dtype=torch.float64, device="cpu")

        trained, fixed = [torch.zeros(0, dtype=torch.float64, device="cpu")], {}
        for name, parameter in self._module.named_parameters():
            value = parameter.detach()
            spread = value.std() if value.numel() > 1 else value.abs().mean()
            moved = value + (0.5 * torch.nan_to_num(spread) + 0.05) * normal(value)
            if parameter.requires_grad:
                trained.append(moved.reshape(-1))
            else:
                fixed[name] = moved
        for name, buffer in self._module.named_buffers():
            kept = buffer.detach().clone()
            if name.endswith("running_var"):
                kept = 0.5 + torch.rand(kept.shape, generator=generator, dtype=torch.float64, device="cpu")
            elif name.endswith("running_mean"):
                kept = 0.1 * normal(kept)
            fixed[name] = kept
        return _Point(torch.cat(trained)[None], fixed)

    def deviation(self, symmetry: Symmetry) -> tuple[float, str]:
        """Largest change of an output under random elements, relative to the outputs' size, and the mode it is in."""
        group, keep = symmetry.group, not symmetry.group.continuous
        scale = 1.0 if keep else 0.3
        if group.factors[0].metrics == "all":  # well-conditioned matrices
            scale = 0.3 / max(factor.dim for factor in group.factors) ** 0.25
        worst = (0.0, self._modes[0])
        for index, point in enumerate(self._points):
            element = group.sample(Streams.from_seeds(self._seed + index), scale)
            moved = symmetry.act(element, point.weights, Instance(point.weights))
            for mode in self._modes:
                before, elsewhere = (self._at(here, mode, keep) for here in (point, self._points[index - 1]))
                after = self._outputs(moved, point.fixed, mode, keep)
                worst = max(worst, (_relative(after, before, elsewhere), mode), key=lambda entry: entry[0])
        return worst

    def _at(self, point: _Point, mode: str, keep: bool) -> list[Tensor]:
        if (mode, keep) not in point.outputs:
            point.outputs[mode, keep] = self._outputs(point.weights, point.fixed, mode, keep)
        return point.outputs[mode, keep]

    def _outputs(self, weights: Tensor, fixed: dict[str, Tensor], mode: str, keep: bool) -> list[Tensor]:
        parts = weights[0].split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        own = {name: value.clone() for name, value in fixed.items()}  # batch normalization writes to them
        before = [(part, part.training) for part in self._module.modules()]
        self._module.train(mode == "train")
        try:
            with torch.no_grad(), plain_attention(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed)
                with _KeepAll() if keep else nullcontext():
                    values = {**own, **named}
                    out = call(
                        lambda *args, **kwargs: functional_call(self._module, values, args, kwargs), self._example
                    )
        finally:
            for part, training in before:
                part.training = training
        return leaves(out)


def _relative(after: Sequence[Tensor], before: Sequence[Tensor], elsewhere: Sequence[Tensor]) -> float:
    """The largest change of an entry over its size, or over the size that is typical of its tensor if that is larger.

    Numbers that the outputs ``elsewhere``, at other weights, hold as well do not depend on weights, such as what a mask
    fills in. They say nothing about what is typical, and neither do large constants that are added. Equal infinities are
    equal; infinite where something else is not finite.
    """
    worst = 0.0
    for a, b, other in zip(after, before, elsewhere, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not (b.is_floating_point() or b.is_complex()):
            worst = max(worst, 0.0 if torch.equal(a, b) else 1.0)
            continue
        a, b, other = (torch.view_as_real(part) if part.is_complex() else part for part in (a, b, other))
        moved = a != b
        if not moved.any():
            continue
        size = b.abs()
        small = torch.minimum(size, (b - other).abs()) if b.shape == other.shape else size
        own = small[~torch.isin(b, other) & small.isfinite()]
        typical = own.median() if own.numel() else b.new_tensor(0.0)
        change = (a - b).abs() / torch.maximum(size, typical).clamp_min(torch.finfo(b.dtype).tiny)
        worst = max(worst, float(torch.nan_to_num(change[moved], nan=float("inf")).max()))
    return worst
