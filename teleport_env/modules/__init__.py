"""A ``torch.nn.Module`` of one's own as a problem, and its symmetries."""

from teleport_env.modules.autoencoder import Autoencoder
from teleport_env.modules.finder import Coupled, Found, Refused, find_symmetries, register_rule
from teleport_env.modules.problem import ModuleProblem

__all__ = ["Autoencoder", "Coupled", "Found", "ModuleProblem", "Refused", "find_symmetries", "register_rule"]
