"""A ``torch.nn.Module`` of one's own as a problem."""

from teleport_env.modules.problem import ModuleProblem

__all__ = ["ModuleProblem"]
