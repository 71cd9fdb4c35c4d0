"""Optimizers of torch that leave its compiler alone.

To keep the compiler from reading their methods, torch imports it at the first call, one or two seconds of every process.
These are never compiled, and nothing is differentiated through their steps, as by default.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)

_KEPT_FROM_THE_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _eager(kind: type[Kind]) -> type[Kind]:
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _KEPT_FROM_THE_COMPILER}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


Adam = _eager(torch.optim.Adam)
LBFGS = _eager(torch.optim.LBFGS)
