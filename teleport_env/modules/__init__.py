"""A ``torch.nn.Module`` of one's own as a problem, and its symmetries."""

from teleport_env.modules.autoencoder import Autoencoder
from teleport_env.modules.finder import find_symmetries
from teleport_env.modules.problem import ModuleProblem
from teleport_env.modules.report import Found, Refused
from teleport_env.modules.stated import Coupled, register_rule

__all__ = ["Autoencoder", "Coupled", "Found", "ModuleProblem", "Refused", "find_symmetries", "register_rule"]
