"""The two Gymnasium faces of the engine: one run, and many runs in one tensor."""

from teleport_env.envs.episodes import Episodes
from teleport_env.envs.features import FEATURES, Feature, compute_features
from teleport_env.envs.masking import MaskedObservation, MaskedVectorObservation
from teleport_env.envs.menu import describe_status
from teleport_env.envs.rewards import Reward, Turn
from teleport_env.envs.settings import Settings
from teleport_env.envs.single import TeleportEnv
from teleport_env.envs.vector import TeleportVectorEnv

__all__ = [
    "FEATURES",
    "Episodes",
    "Feature",
    "MaskedObservation",
    "MaskedVectorObservation",
    "Reward",
    "Settings",
    "TeleportEnv",
    "TeleportVectorEnv",
    "Turn",
    "compute_features",
    "describe_status",
]
