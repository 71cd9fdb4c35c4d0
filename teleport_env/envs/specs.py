"""Arguments of an environment as JSON has them, so that its `EnvSpec` survives `EnvSpec.to_json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from torch import Tensor

from teleport_env.envs.rewards import REWARDS, Reward
from teleport_env.envs.settings import DTYPES
from teleport_env.optimizers import OPTIMIZERS, Optimizer
from teleport_env.problems import PROBLEMS, Problem
from teleport_env.reading import parameters
from teleport_env.searches import Search
from teleport_env.searches.settings import KINDS, to_dict


def plain_spec(spec: EnvSpec) -> EnvSpec:
    """The same spec, whose arguments are names, numbers, lists and dicts where these make an equal environment.

    What has no such form stays an object, and `EnvSpec.to_json` refuses it: a problem, search, optimizer or reward of a
    class that is not registered, and a problem whose constructor has arguments that are not attributes.
    """
    kwargs = {key: _plain(value) for key, value in spec.kwargs.items()}
    problem = spec.kwargs.get("problem")
    if isinstance(problem, Problem) and PROBLEMS.get(problem.name) is type(problem):
        settings = {key: _plain(getattr(problem, key, problem)) for key in parameters(type(problem))[0]}
        if _is_json(settings):
            kwargs |= {"name": problem.name, "problem": settings}
    return replace(spec, kwargs=kwargs)


def _plain(value: Any) -> Any:
    if isinstance(value, AutoresetMode):
        return value.value
    if isinstance(value, torch.dtype):
        return next((name for name, dtype in DTYPES.items() if dtype == value), value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, Search):
        return to_dict(value) if KINDS.get(value.kind) is type(value) else value
    if isinstance(value, Optimizer):
        if OPTIMIZERS.get(value.name) is not type(value):
            return value
        return {"optimizer": value.name} | {field.name: _plain(getattr(value, field.name)) for field in fields(value)}  # type: ignore[arg-type]
    if isinstance(value, Reward):
        return next((name for name, reward in REWARDS.items() if type(reward) is type(value)), value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
