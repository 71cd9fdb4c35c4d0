"""Optimizers of torch that leave its compiler alone."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)

_KEPT_FROM_THE_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(kind: type[Kind]) -> type[Kind]:
    """The same class of optimizer, without what keeps torch's compiler from reading its methods.

    To keep it off, torch imports the compiler at the first call, one or two seconds of every process. These optimizers
    are never compiled. Nothing is differentiated through their steps, as by default.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _KEPT_FROM_THE_COMPILER}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})
