"""Symmetry teleportation as a Gymnasium environment.

Importing this package registers the ids ``Teleport/<Problem>-v0`` and loads torch, numpy and gymnasium alone.
"""

from teleport_env.envs import TeleportEnv, TeleportVectorEnv
from teleport_env.problems import Instance, Problem
from teleport_env.registration import list_ids, register_all, register_problem
from teleport_env.searches import Search
from teleport_env.symmetries.base import Symmetry

__version__ = "0.1.0"

__all__ = [
    "Instance",
    "Problem",
    "Search",
    "Symmetry",
    "TeleportEnv",
    "TeleportVectorEnv",
    "list_ids",
    "register_problem",
]

register_all()
