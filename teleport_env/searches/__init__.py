"""Searches for the group element of a teleport.

`search_from` reads a name, a dict or a `Search`; `to_dict` writes one; `NAMED` lists the ready-made ones. How a search
works and what it promises stands at the head of `teleport_env.searches.base`.
"""

from teleport_env.searches.ascent import GradientAscent, NormalizedAscent
from teleport_env.searches.base import Candidate, Found, Search, Start, Status
from teleport_env.searches.closed_form import ClosedForm
from teleport_env.searches.mini_batch import MiniBatch
from teleport_env.searches.objectives import OBJECTIVES, Objective
from teleport_env.searches.sampling import Grid, RandomSampling, ResetOptimizer, VirtualStep
from teleport_env.searches.settings import KINDS, NAMED, describe, kind, search_from, to_dict
from teleport_env.searches.whiten import Whiten

NAMED.update(
    {
        "gradient_ascent": GradientAscent(),
        "normalized_ascent": NormalizedAscent(),
        "normalized_descent": NormalizedAscent(objective="balance_gradient"),
        "relative": NormalizedAscent(objective="relative", steps=1),
        "random": RandomSampling(),
        "random_element": RandomSampling(candidates=1, objective="any"),
        "grid": Grid(),
        "closed_form": ClosedForm(),
        "balance_weights": ClosedForm(objective="balance_weights"),
        "balance_gradient": ClosedForm(objective="balance_gradient"),
        "virtual_step": VirtualStep(),
        "virtual_step_fit_rate": VirtualStep(fit_rate=True),
        "mini_batch": MiniBatch(),
        "whiten_inputs": Whiten(),
        "whiten_outputs": Whiten(side="outputs"),
        "reset_optimizer": ResetOptimizer(),
    }
)

__all__ = [
    "Candidate",
    "ClosedForm",
    "Found",
    "GradientAscent",
    "Grid",
    "KINDS",
    "MiniBatch",
    "NAMED",
    "NormalizedAscent",
    "OBJECTIVES",
    "Objective",
    "RandomSampling",
    "ResetOptimizer",
    "Search",
    "Start",
    "Status",
    "VirtualStep",
    "Whiten",
    "describe",
    "kind",
    "search_from",
    "to_dict",
]
