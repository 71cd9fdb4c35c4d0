"""Checks of groups and of their actions on the parameters of a loss."""

from __future__ import annotations

from teleport_env.checks.cases import batch_at, generic_point, ids_of, problem_of, symmetry_of
from teleport_env.checks.report import ROUNDING_REMEDY, SAFE_REMEDY, Checks, Report
from teleport_env.groups.base import Group
from teleport_env.groups.laws import group_laws
from teleport_env.instances import Batch, Instance
from teleport_env.problems.base import Problem
from teleport_env.symmetries.base import Symmetry
from teleport_env.symmetries.laws import SymmetryCase, symmetry_laws

LARGEST_GROUP = 4096
"""Groups with more coordinates are not checked by `check_symmetry` itself: their laws take minutes."""

REMEDIES = {
    "identity_is_neutral": "Correct `identity` or `compose`",
    "composition_is_associative": "Correct `compose(second, first)`: the group's product, `first` done first",
    "exp_of_zero_is_the_identity": "Correct `exp`: xi = 0 is the identity; a discrete group (dim 0) raises TypeError",
    "exp_is_additive_along_a_line": "Correct `exp`: multiples of one xi add up, which a first-order formula does not do",
    "inverse_undoes": "Correct `inverse`",
    "inverse_reverses_products": "Correct `inverse` or `compose`: the inverse of a product is taken in reverse order",
    "exp_of_minus_xi_is_the_inverse": "Correct `exp`, or `inverse`",
    "operations_stay_in_the_group": "Correct that operation, or `contains`",
    "matrices_are_a_homomorphism": "Correct `as_matrices`, or the order of factors in `compose`",
    "retract_agrees_to_first_order": "Correct `retract`, or leave it out: `exp` takes its place",
    "exp_is_twice_differentiable": "Avoid what has no derivative at 0 in `exp`, such as a norm or a division: use a series",
    "scale_zero_samples_the_identity": "Correct `sample`: `scale` is how far from the identity",
    "precision_is_kept": "Make every tensor in the precision of the arguments",
    "nothing_is_overwritten": "Let `act` return a new tensor and not write into its arguments",
    "identity_moves_nothing": "Correct `act`: the identity moves nothing; an action through a pseudo-inverse has to change "
    "the weights by a difference, w + (target - output) h^+, and not to build them anew",
    "loss_is_kept": "Correct `act`: what g does on one side its inverse has to undo on the other",
    "loss_is_kept_nearby": "Correct `act`: it keeps the loss at w alone, and not around it; is something detached?",
    "composition_is_kept": "Correct `act`: moving by g1, then by g2, has to be moving by compose(g2, g1); is g "
    "transposed or inverted?",
    "gradient_after_is_the_gradient": "Correct `gradient_after`: J^-T times the gradient, J the Jacobian of w -> g.w; or "
    "set linear = False, and the gradient will be evaluated",
    "ascent_direction_is_the_derivative": "Correct `ascent_direction`, or leave it out: the base class differentiates `act`",
    "rows_are_independent": ROUNDING_REMEDY,
    "broken_rows_harm_nobody": SAFE_REMEDY,
}
"""What to do about a broken law of a group or of a symmetry; in the order in which they are reported."""


def check_group(group: Group, seed: int = 0) -> Report:
    """Check the laws of a group (`teleport_env.groups.laws`): axioms, exponential, derivatives, rows, precision.

    Raises:
        CheckFailed: A law is broken.
        TypeError: It is no group.
    """
    if not isinstance(group, Group):
        raise TypeError(f"check_group takes a Group, got {type(group).__name__}")
    checks = Checks(f"group {group.name}")
    checks.laws(group_laws(group, seed), REMEDIES)
    return checks.report()


def check_symmetry(
    symmetry: str | Symmetry,
    problem: str | Problem,
    instance: Instance | None = None,
    *,
    batch: Batch = None,
    count: int = 5,
    seed: int = 0,
    length: float = 0.5,
) -> Report:
    """Check that an action is one, and that it keeps the loss of a problem.

    The laws of `teleport_env.symmetries.laws`, in float64, at parameters near the instances' starts; the group's own laws
    too, unless it is large.

    Args:
        symmetry: The symmetry, or the name of one of the problem's.
        problem: The problem, or its registered name.
        instance: Instances to check on, float64; None: the first ``count`` of the train split.
        batch: The examples of a mini-batch; None: the first of each run, where the problem has mini-batches.
        count: Number of instances.
        seed: Seed of the random elements.
        length: Largest length of ``xi``: how far from the identity.

    Raises:
        CheckFailed: A law is broken.
        ValueError: The problem has no symmetry of that name.
    """
    problem = problem_of(problem)
    symmetry = symmetry_of(symmetry, problem)
    checks = Checks(f"symmetry {symmetry.name!r} of {problem.name}")
    has_group = isinstance(getattr(symmetry, "group", None), Group)
    checks.require(has_group, "`group` is no Group", "Set it in the constructor")
    said = getattr(symmetry, "exact_when", "")
    checks.require(
        isinstance(said, str) and said.strip() != "",
        "`exact_when` is empty",
        "Say in one sentence under which condition the loss is kept, for example 'Always, on all data.'",
    )
    group = symmetry.group
    if group.dim > LARGEST_GROUP:
        checks.note(
            f"the laws of {group.name} were not checked, it has {group.dim} coordinates: try check_group on a smaller one"
        )
    else:
        check_group(group, seed)
        checks.passed.append(f"laws of the group {group.name}")
    if instance is None:
        instance = problem.instances(ids_of(problem, "train", count), "train")
    if batch is None:
        batch = batch_at(problem, instance)
    checks.require(
        not symmetry.moves_data or "inputs" in instance.tensors,
        f"it moves data, and the instance has no tensor 'inputs' (it has {sorted(instance.tensors)})",
        "Call the tensor (B, ...) that `move_data` moves 'inputs'",
    )
    point = generic_point(problem, instance, batch)
    found = symmetry_laws(SymmetryCase(symmetry, problem.loss, point, instance, batch, seed=seed, length=length))
    remedies = REMEDIES
    if symmetry.data_dependent:
        condition = f"{remedies['loss_is_kept']}. `exact_when` says: {said.rstrip('.')}"
        remedies = {**remedies, "loss_is_kept": condition}
    checks.laws(found, remedies)
    return checks.report()
