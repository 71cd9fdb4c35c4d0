"""How a group moves the weights of a loss and leaves the loss where it is.

A symmetry of a loss ``L`` is a group action ``w -> g.w`` with ``L(g.w) = L(w)`` (Zhao et al., NeurIPS 2022, section 3). It
carries a group, the action, and a sentence that says when the invariance is exact: for some actions always, for others
only on the data that the action was built from.

Two facts make teleports cheap, and a symmetry that can offer them does:

1. **The gradient after the move is known from the gradient before.** Differentiating ``L(g.w) = L(w)`` in ``w`` gives
   ``grad L(g.w) = J^-T grad L(w)`` with ``J`` the Jacobian of ``w -> g.w``. For actions that are linear in ``w`` this is
   a few matrix products (`gradient_after`), and no loss is evaluated.
2. **The ascent direction of the gradient norm needs no Hessian.** Invariance gives ``<grad L(w), X(w)> = 0`` for every
   field ``X`` of the action; differentiating that along the gradient gives ``grad' H X = -<grad, DX[grad]>``. The right
   side contains derivatives of the *action* alone (`ascent_direction`).

No search asks which class a symmetry is of. It asks what the symmetry offers, and a symmetry of one's own is served as the
built-in ones are if it offers the same:

===================================  =================================================================================
offer                                what it is for
===================================  =================================================================================
`Symmetry.pairs`, and a group with   Closed forms and the bounded direction ``"relative"`` on pairs of weight matrices,
`metrics` (`GL`, `PositiveScaling`)  ``(V, U) -> (g V, U g^-1)``: the gradient norm is a function of two Gram matrices.
`Symmetry.optimal_element`           The closed form of an action of another kind, for the objectives in ``optima``.
`Symmetry.sphere`                    Searches over all rotations, by vectors and without a matrix.
`Symmetry.shortcut`                  Walks on less than all weights (`Shortcut`).
`Symmetry.ascent_direction`          The direction of ascent in closed form.
`Symmetry.unit_slots`                Scalings made where the weights of a model lie, by a compiled kernel.
===================================  =================================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from teleport_env.groups.base import Element, Group
from teleport_env.instances import Batch, Instance
from teleport_env.symmetries.networks import Layers

Coordinates: TypeAlias = Callable[[Any, Any], Any]
"""``(points (B, n), instance) -> points (B, n)``."""

Slope: TypeAlias = Callable[[Any, Any, Any], Any]
"""``(params (B, n), gradient (B, n), instance) -> (B, n)``."""


class Sphere(NamedTuple):
    """Level sets that are spheres ``|u| = r`` in coordinates ``u = phi(w)``, in the plane circles.

    Attributes:
        forward: ``phi``: ``(params (B, n), instance) -> u (B, n)``, differentiable.
        backward: ``phi^-1``, differentiable.
        dimension: ``n``.
        flops: Matrix work of the two for one run.
        slope: The derivative of ``|grad L|^2`` in the coordinates ``u``, from parameters and the loss's gradient there.
            None: it follows from the derivatives of ``phi`` and ``phi^-1``.
        on_arrays: Whether the three also take the arrays of `teleport_env.arrays` and `Instance.seen_by`, which is several
            times faster than tensors for few runs.
        affine: Whether ``phi`` is affine and `Symmetry.optimal_element` its closed form, not one of a subclass.
    """

    forward: Coordinates
    backward: Coordinates
    dimension: int
    flops: float
    slope: Slope | None = None
    on_arrays: bool = False
    affine: bool = False


class Pair(NamedTuple):
    """Two matrices between which a hidden space of width ``k`` lies, views into a flat vector.

    Attributes:
        lower: ``(B, k, m)``, moved by ``g`` from the left (a bias is its last column).
        upper: ``(B, p, k)``, moved by ``g^-1`` from the right.
    """

    lower: Tensor
    upper: Tensor


class Shortcut:
    """What determines loss and gradient norm along an orbit and is smaller than the weights.

    A symmetry that sets `Symmetry.shortcut` says that its action is the one described there, on parameters that lie in
    memory as `Layers` says. Searches choose how to walk by the class of the description
    (`teleport_env.searches.trail_choice`, where descriptions of one's own are entered too).
    """


class UnitSlots(NamedTuple):
    """Which factor of a hidden unit each weight is multiplied by, for an action that scales units.

    Attributes:
        widths: Numbers of units, coupling by coupling.
        slots: One or two tensors ``(P,)`` int64: for every weight the place in ``(1, factors, reciprocals)`` of what
            multiplies it, in turn.
    """

    widths: list[int]
    slots: list[Tensor]


class Symmetry(ABC):
    """A group action on the parameters of a loss.

    Attributes:
        name: Name by which ``symmetry=`` chooses it.
        group: The group that acts.
        exact_when: One sentence: under which condition the loss is kept.
        data_dependent: The action is built from the current data (it then is exact on that data only).
        keeps_loss: False for the published first-order variant alone, whose leak is part of a result. Searches then do
            not reject a candidate because its loss moved.
        linear: ``w -> g.w`` is linear in ``w``, and `gradient_after` needs no loss.
        weightwise: Every weight is moved by a factor or to a place of its own, so that rounding stays in its last bit
            however often it is moved. Elsewhere the rounding of matrix products grows with the condition of ``g`` and
            adds up, and searches do not take a carried loss on trust.
        move_flops: Floating-point operations of the matrix work of one action on one run, for the ledger.
        gradient_flops: The same of one `gradient_after`.
        direction_flops: The same of one `ascent_direction`; None: four times an exponential and a move, which is what
            differentiating the action twice takes.
        changes_coordinates: The action is a change of coordinates of a loss that is a squared distance, and not one on the
            layers of a network. Agents choose their settings by it.
        optima: Objectives of which `optimal_element` knows the optimum on the whole level set.
        optimum_flops: Floating-point operations of the matrix work of one `optimal_element`.
        sphere: Coordinates of the spheres that the action of all rotations moves along; else None.
        shortcut: Representation, smaller than all weights, that searches may walk on; None: there is none.
        layers: Layout of the parameters, for actions on a chain of layers; else None.
        examples: Largest number of examples that the current data have, where the symmetry knows it.
        gathered: Whether `pairs` are copies, which `put_pair` writes back, and not views.
        direction_exact: False where `ascent_direction` is an approximation although the loss is kept: where exactness
            matters, differentiate through the loss instead.
    """

    name: str
    group: Group
    exact_when: str
    data_dependent: bool = False
    keeps_loss: bool = True
    linear: bool = False
    weightwise: bool = False
    move_flops: float = 0.0
    gradient_flops: float = 0.0
    direction_flops: float | None = None
    direction_exact: bool = True
    changes_coordinates: bool = False
    optima: tuple[str, ...] = ()
    optimum_flops: float = 0.0
    sphere: Sphere | None = None
    shortcut: Shortcut | None = None
    layers: Layers | None = None
    examples: int | None = None
    gathered: bool = False

    @property
    def carries(self) -> bool:
        """Whether searches carry loss and gradient over to the point after a move, and evaluate nothing there."""
        return self.linear and self.keeps_loss and not self.data_dependent

    @property
    def acts_on_pairs(self) -> bool:
        """Whether the action is one on `pairs` of matrices of which the best element is known in closed form."""
        offered = type(self).pairs is not Symmetry.pairs
        return offered and self.carries and all(factor.metrics is not None for factor in self.group.factors)

    @abstractmethod
    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """Move the parameters.

        Args:
            g: A batch of ``B`` elements of ``group``.
            params: ``(B, P)``.
            instance: ``B`` instances.
            batch: The examples of the current mini-batch, where the problem has mini-batches; else None.

        Returns:
            ``g.w`` ``(B, P)``, a new tensor, differentiable in ``g`` and ``params``. A row that cannot be moved (a singular
            element) is NaN and leaves the others alone.
        """

    def unit_slots(self, num_params: int) -> UnitSlots | None:
        """The slots of the weights ``(P,)``, where the action scales hidden units; else None."""
        return None

    def move_data(self, g: Element, data: Tensor, instance: Instance) -> Tensor:
        """Move the inputs ``(B, ...)`` of the model, for actions on weights *and* data (Algorithm 3); here unchanged.

        An agent that teleports with such a symmetry composes the moves of all its teleports, and at inference a new input
        goes through the composition before it meets the weights.
        """
        return data

    @property
    def moves_data(self) -> bool:
        """Whether `move_data` does anything."""
        return type(self).move_data is not Symmetry.move_data

    def gradient_after(self, g: Element, gradient: Tensor, instance: Instance) -> Tensor:
        """``grad L(g.w) = J^-T grad L(w)`` ``(B, P)`` for a linear action.

        Raises:
            NotImplementedError: The action is not linear.
        """
        raise NotImplementedError(f"{self.name} is not linear in the parameters: evaluate the gradient at g.w instead")

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        """The pairs of matrices, lowest first, that a linear action moves, as views of ``vector`` ``(B, P)``.

        ``vector`` is the parameters or their gradient. An empty list where the action is not one on pairs. A symmetry that
        is `gathered` gives copies, and has `pair_at` and `put_pair`.
        """
        return []

    def pair_at(self, index: int, vector: Tensor, instance: Instance) -> Pair:
        """The pair of that number, as `pairs` has it."""
        return self.pairs(vector, instance)[index]

    def put_pair(self, index: int, pair: Pair, vector: Tensor) -> None:  # noqa: B027 (most are views)
        """Write a pair that was changed back into ``vector`` ``(B, P)``; of views nothing is left to do."""

    def optimal_element(self, objective: str, params: Tensor, instance: Instance) -> Element:
        """The element that moves ``params`` ``(B, P)`` to the best point of the level set.

        Args:
            objective: One of `optima`.

        Raises:
            NotImplementedError: The symmetry has no closed form.
        """
        raise NotImplementedError(
            f"{self.name} knows no best element in closed form: use the search 'normalized_ascent'"
        )

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """The gradient of ``xi -> |grad L(exp(xi).w)|^2`` at ``xi = 0``, ``(B, group.dim)``, without a Hessian.

        It is ``-2 <grad, D X_i(w)[grad]>`` for the field ``X_i`` of the i-th coordinate (head of this module). Right only
        where the action keeps the loss on a neighbourhood of ``w``, not merely at ``w``. This version differentiates
        the action; a symmetry with a closed form overrides it.

        Raises:
            NotImplementedError: The group is discrete, or the symmetry does not keep the loss.
        """
        if not (self.group.continuous and self.keeps_loss):
            raise NotImplementedError(
                f"{self.name} has no direction of ascent in closed form: where the group is discrete, search by sampling; "
                "where the loss is not kept, differentiate |grad L(g.w)|^2 twice through the loss"
            )
        gradient = gradient.detach()
        with torch.enable_grad():
            xi = params.new_zeros(params.shape[0], self.group.dim, requires_grad=True)
            w = params.detach().clone().requires_grad_(True)
            moved = self.act(self.group.exp(xi), w, instance, batch)
            # s = <grad, exp(xi).w>; its derivative in w along grad, then in xi, is <grad, D X_i[grad]>.
            (pulled,) = torch.autograd.grad((moved * gradient).sum(), w, create_graph=True)
            (direction,) = torch.autograd.grad((pulled * gradient).sum(), xi)
        return -2.0 * direction

    def work_price(self, gradient_flops: float) -> float:
        """How long one operation of this action, and of searches over it, takes, in operations of the problem's gradient.

        1 where both are matrix products of about one size. `teleport_env.ledger` says how the constants were measured.

        ``gradient_flops`` are the floating-point operations of one gradient of one run.
        """
        return 1.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self.group!r}>"
