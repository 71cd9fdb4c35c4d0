"""What a training loop hands to a `Teleporter`: a model, an optimizer, inputs, copies of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from teleport_env.modules.problem import counted_flops
from teleport_env.modules.watch import call, leaves
from teleport_env.reading import refuse

_FEW = 16  # examples that symmetries are tried on: what more of them cost is not noticed beside the search


def require_one_optimizer(model: nn.Module, optimizer: Optimizer, names: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the optimizer holds all trainable parameters, by ``names``, of the model and no others."""
    if not names:
        raise ValueError("model has no trainable parameter: at least one needs requires_grad=True")
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        why = (
            "evaluates the loss by a closure" if isinstance(optimizer, torch.optim.LBFGS) else "needs sparse gradients"
        )
        raise ValueError(f"{type(optimizer).__name__} {why}: use an optimizer that takes one dense gradient per step")
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in names.items() if id(p) not in held]
    if missing:
        raise ValueError(
            f"the optimizer does not hold the parameters {', '.join(missing[:3])} of the model. A teleport moves all "
            "trainable parameters: put those of several optimizers into the groups of one, or freeze what is not trained "
            "with requires_grad_(False)"
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise ValueError(
            "the optimizer maximizes, and schedules and searches are made for losses that fall: use maximize=False and the "
            "negative of what is maximized"
        )
    foreign = len(held) - len({id(p) for p in model.parameters()} & held.keys())
    if foreign:
        raise ValueError(
            f"the optimizer holds {foreign} parameters that are not the model's: hand in a module that holds all of them"
        )
    if any(not p.is_floating_point() for p in names.values()):
        raise ValueError("a parameter is not real: only floating-point parameters can be moved")
    if len({p.device for p in names.values()}) > 1:
        raise ValueError("the parameters lie on several devices: a teleport needs them on one")


def hooks_of(optimizer: Optimizer) -> list[Callable[..., Any]]:
    """What is called before the optimizer's updates."""
    return list(optimizer._optimizer_step_pre_hooks.values())  # torch has no public way to ask


def flat(params: Sequence[Tensor], dtype: torch.dtype, tensors: Sequence[Tensor | None]) -> Tensor:
    """The vector ``(1, P)`` of tensors shaped as the parameters; None counts as zeros."""
    parts = [torch.zeros_like(p) if tensor is None else tensor for p, tensor in zip(params, tensors, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts])[None].to(dtype)


def put(tensors: Sequence[Tensor | None], vector: Tensor, params: Sequence[Tensor]) -> None:
    """Write a vector ``(P,)`` into tensors shaped as the parameters."""
    for tensor, part in zip(tensors, vector.split([p.numel() for p in params]), strict=True):
        if tensor is not None:
            tensor.copy_(part.view(tensor.shape))


def rate_of(optimizer: Optimizer) -> float:
    """Learning rate of the coming update; of groups with different ones, that by which ``lr |g|^2`` is the sum of theirs."""
    groups = optimizer.param_groups
    rates = [float(group["lr"]) for group in groups]
    if len(set(rates)) == 1:
        return rates[0]
    squares = [sum(float(p.grad.square().sum()) for p in group["params"] if p.grad is not None) for group in groups]
    whole = sum(squares)
    return sum(rate * square for rate, square in zip(rates, squares, strict=True)) / whole if whole > 0 else rates[0]


def tensors_of(entry: Any, names: Mapping[str, Tensor]) -> list[Tensor]:
    """A copy of the weights, in the order of the trainable parameters."""
    if isinstance(entry, nn.Module):
        module = entry.module if isinstance(entry, AveragedModel) else entry
        module = getattr(module, "_orig_mod", module)
        held = {name.removeprefix("_orig_mod."): p for name, p in module.named_parameters()}
        missing = [name for name in names if name not in held]
        if missing:
            raise ValueError(f"a module of also= has no parameter {missing[0]!r}: it must be a copy of the model")
        found = [held[name] for name in names]
    elif isinstance(entry, list | tuple) and all(isinstance(part, Tensor) for part in entry):
        found = list(entry)
    else:
        refuse("an entry of also", "a module, or a list of tensors in the order of the trainable parameters", entry)
    shapes, own = [tuple(t.shape) for t in found], [tuple(p.shape) for p in names.values()]
    if shapes != own:
        raise ValueError(f"an entry of also= has tensors of the shapes {shapes}, the parameters have {own}")
    return [tensor.detach() for tensor in found]


def first_examples(example: Any) -> Any:
    """The first examples of inputs whose tensors all begin with an axis of one length."""
    entries = (
        list(example.values())
        if isinstance(example, Mapping)
        else list(example if isinstance(example, tuple) else [example])
    )
    tensors = [entry for entry in entries if isinstance(entry, Tensor)]
    if not tensors or any(t.ndim == 0 for t in tensors) or len({len(t) for t in tensors}) > 1:
        return example

    def cut(entry: Any) -> Any:
        return entry[:_FEW].detach().clone() if isinstance(entry, Tensor) else entry

    if isinstance(example, Mapping):
        return {name: cut(entry) for name, entry in example.items()}
    return tuple(map(cut, example)) if isinstance(example, tuple) else cut(example)


def size_of(example: Any) -> int:
    """Numbers of the first tensor."""
    return next((tensor.numel() for tensor in leaves(example if not isinstance(example, tuple) else list(example))), 1)


def total(out: Any) -> Tensor:
    total: Tensor = sum(tensor.sum() for tensor in leaves(out) if tensor.requires_grad)  # type: ignore[assignment]
    return total


def flops_of(model: nn.Module, example: Any, share: float, params: Sequence[Tensor]) -> float:
    """Floating-point operations of one gradient of a batch, of which the example is a share."""
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        flops = counted_flops(lambda: total(call(model, example)), 0)
    return max(flops / share, 6.0 * sum(p.numel() for p in params))


def evaluated(
    again: Callable[[], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    dtype: torch.dtype,
    point: Tensor,
    differentiates: bool,
) -> tuple[Tensor, Tensor]:
    """The loss at other parameters ``(P,)``, and the gradient there; the model is as before afterwards."""
    held = [*params, *model.buffers()]
    before = [tensor.detach().clone() for tensor in held]
    put(params, point, params)
    try:
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(differentiates):
            loss = again()
            gradients = torch.autograd.grad(loss, params, allow_unused=True) if differentiates else ()
    finally:
        for tensor, old in zip(held, before, strict=True):
            tensor.copy_(old)
    return loss.detach().reshape(()), flat(params, dtype, gradients)[0] if differentiates else point


def as_tensors(memory: Any) -> Any:
    """What a schedule remembers, as `torch.load` reads it without unpickling: arrays become tensors."""
    if isinstance(memory, dict):
        return {name: as_tensors(value) for name, value in memory.items()}
    if isinstance(memory, tuple | list):
        return [as_tensors(value) for value in memory]
    return {"array": torch.from_numpy(memory.copy())} if isinstance(memory, np.ndarray) else memory


def as_arrays(memory: Any) -> Any:
    if isinstance(memory, dict):
        if set(memory) == {"array"} and isinstance(memory["array"], Tensor):
            return memory["array"].cpu().numpy().copy()
        return {name: as_arrays(value) for name, value in memory.items()}
    return tuple(as_arrays(value) for value in memory) if isinstance(memory, list) else memory
