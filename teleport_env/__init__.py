"""Symmetry teleportation as a Gymnasium environment.

Importing this package registers the ids ``Teleport/<Problem>-v0`` and loads torch, numpy and gymnasium alone. It also asks
Intel's MKL, which torch computes with, for results that do not depend on where in memory a matrix lies, if the environment
variable ``MKL_CBWR`` says nothing else.
"""

import os

# Otherwise, on AMD's processors, a matrix of odd size is rounded in another way as every second one of a batch, and a run
# depends on its company. MKL reads this once, at its first call; it costs no time that could be measured.
os.environ.setdefault("MKL_CBWR", "AUTO")

from teleport_env.envs import TeleportEnv, TeleportVectorEnv
from teleport_env.instances import Instance
from teleport_env.modules import ModuleProblem, find_symmetries, register_rule
from teleport_env.problems import Problem
from teleport_env.registration import list_ids, register_all, register_problem
from teleport_env.searches import Search
from teleport_env.symmetries.base import Symmetry

__version__ = "0.1.0"

__all__ = [
    "Instance",
    "ModuleProblem",
    "Problem",
    "Search",
    "Symmetry",
    "TeleportEnv",
    "TeleportVectorEnv",
    "find_symmetries",
    "list_ids",
    "register_problem",
    "register_rule",
]

register_all()
