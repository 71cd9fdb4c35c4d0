"""A plugin of pytest for a checkout of Gymnasium: its own tests over all ids, over ours. ``make test-gymnasium`` loads it.

Those tests take the ids whose entry point lies in ``gymnasium.envs``, so ours get one there. They also get back the wrappers
that Gymnasium adds by default, or its passive checker would have nothing to see.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import teleport_env.envs

sys.modules["gymnasium.envs.teleport"] = teleport_env.envs
for spec in gym.registry.values():
    if spec.namespace == "Teleport":
        spec.entry_point = "gymnasium.envs.teleport:TeleportEnv"
        spec.order_enforce, spec.disable_env_checker = True, False

WRAPPED: list[tuple[str, str, dict[str, Any]]] = [
    ("Teleport/Booth-v0", "FlattenObservation", {}),
    ("Teleport/Booth-v0", "ReshapeObservation", {"shape": (2, 9)}),
    ("Teleport/Booth-v0", "RescaleObservation", {"min_obs": np.full(18, -1.0), "max_obs": np.ones(18)}),
    ("Teleport/Booth-v0", "DtypeObservation", {"dtype": np.float64}),
    ("Teleport/Booth-v0", "ClipReward", {"min_reward": -0.2, "max_reward": 0.3}),
]
"""Id, wrapper and its arguments. Gymnasium names its own ids in its test of vector wrappers."""


def pytest_report_header() -> str:
    return f"Gymnasium {gym.__version__} from {gym.__file__}"


def pytest_pycollect_makeitem(name: str, obj: Any) -> None:
    if name == "test_vector_wrapper_equivalence":
        ours = pytest.mark.parametrize(("env_id", "wrapper_name", "kwargs"), WRAPPED).mark
        obj.pytestmark = [mark for mark in obj.pytestmark if "env_id" not in mark.args[0]] + [ours]
