"""The optimum itself, where algebra gives it: nothing is evaluated to find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from teleport_env.ledger import Counts
from teleport_env.problems.base import Problem
from teleport_env.searches.base import Candidate, Search, Start
from teleport_env.searches.fast.chains import Chains
from teleport_env.searches.fast.turns import Turns
from teleport_env.searches.moves import at_start, move, move_price, verified, verify_price
from teleport_env.searches.objectives import objective_named
from teleport_env.searches.pair_algebra import PAIR_OBJECTIVES, Sweeps
from teleport_env.searches.settings import kind, require_common, require_count, require_positive
from teleport_env.searches.trail_choice import form_of
from teleport_env.symmetries.base import Symmetry


@kind
@dataclass(frozen=True, kw_only=True)
class ClosedForm(Search):
    """The best element in closed form, at the price of its matrix work.

    * Actions that know their best element, `Symmetry.optimal_element`: the global optimum on the level set. Affine
      coordinate changes do; their group is compact, so the trust radius plays no part.
    * Pairs of matrices under the general linear group or positive scalings (`Symmetry.acts_on_pairs`): pair by
      pair from the lowest up. Neighbours share a matrix, so a chain is swept several times (Gauss and Seidel). Each pair's
      element is the best given the others', within the trust region around where the run stands (what optimum that is,
      where the region cuts it, stands there), and no sweep makes the objective worse. For one pair one sweep suffices.

    Attributes:
        trust_radius: ``r``: the eigenvalues of each pair's ``log g`` stay in ``[-r, r]``.
        sweeps: Passes over a chain of two or more pairs.
        verify: Whether to spend a forward pass on the loss where it was carried over, and report its real change.
        objective: ``"balance_weights"``, ``"balance_gradient"``, ``"gradient_norm"`` or ``"relative"``; for coordinate
            changes the middle two. ``"relative"`` bounds its step by the trust radius and has no optimum to sweep to: each
            sweep starts anew from what the neighbours did.
    """

    kind: ClassVar[str] = "closed_form"

    trust_radius: float = 2.0
    sweeps: int = 2
    verify: bool = False

    def __post_init__(self) -> None:
        require_common(self, PAIR_OBJECTIVES)
        require_positive(self, "trust_radius", most=100.0)
        require_count(self, "sweeps")

    def check(self, problem: Problem, symmetry: Symmetry) -> None:
        if symmetry.acts_on_pairs or self.objective in symmetry.optima or form_of(symmetry, self._sweeps) is not None:
            return
        if symmetry.optima:
            hint = f"here use objective {' or '.join(map(repr, symmetry.optima))}"
        else:
            others = [repr(name) for name, other in problem.symmetries.items() if other.acts_on_pairs]
            hint = "use the search 'normalized_ascent'" + (f" or symmetry {' or '.join(others)}" if others else "")
        raise ValueError(
            f"search {self.kind!r} with objective {self.objective!r} knows no closed form for symmetry "
            f"{symmetry.name!r}; {hint}"
        )

    @property
    def _sweeps(self) -> Sweeps:
        return Sweeps(self.objective, self.trust_radius, self.sweeps)

    def price(self, problem: Problem, symmetry: Symmetry) -> Counts:
        return self._price(symmetry) + verify_price(symmetry, self.verify)

    def _price(self, symmetry: Symmetry) -> Counts:
        form = form_of(symmetry, self._sweeps)
        if form is not None:
            return form.price()
        work = self._sweeps.flops(symmetry) if symmetry.acts_on_pairs else symmetry.optimum_flops
        return Counts(flops=work) + move_price(symmetry)

    def propose(self, start: Start) -> Candidate:
        with torch.no_grad():
            found = self._compiled(start)
            if found is not None:
                start.evaluator.charge(self._price(start.symmetry))
            else:
                form = form_of(start.symmetry, self._sweeps)
                found = self._moved(start) if form is None else form.propose(start)
        return verified(start, found, self.verify)

    def _compiled(self, start: Start) -> Candidate | None:
        """By a kernel, where there is one; not charged."""
        turns = Turns.of(start)
        if turns is not None:
            return turns.extreme(-1.0 if self.objective == "balance_gradient" else 1.0, self.loss_tolerance)
        chains = Chains.of(start)
        return None if chains is None else chains.settled(self._sweeps)

    def _moved(self, start: Start) -> Candidate:
        """Moved as a whole by the symmetry itself, so that rounding in the sweeps does not matter."""
        symmetry = start.symmetry
        if symmetry.acts_on_pairs:
            vector = (start.params if self._sweeps.on_weights else start.gradient).clone()
            element = symmetry.group.of_factors([forth for forth, _ in self._sweeps.run(start, symmetry, vector)])
        else:
            element = symmetry.optimal_element(self.objective, start.params, start.instance)
            start.evaluator.charge(Counts(flops=symmetry.optimum_flops))
        point = move(start, at_start(start), element)
        objective = objective_named(self.objective)
        point.score = objective.score(start, point.params, point.gradient)
        point.start_score = objective.start_score(start)
        return point
