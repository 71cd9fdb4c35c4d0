"""The general linear group on the hidden units of a network with a bijective activation.

Between the layers ``V`` and ``U`` of a network stands an activation ``s``, which no general matrix commutes with. On the
data at hand, a matrix of layer inputs ``h`` ``(m, n)`` with one column per example, the group acts all the same (Zhao et
al., NeurIPS 2022, eq. 11): the activations ``a = s(V h)`` become ``g a`` if ``V`` is changed so that it sends ``h`` to
``s^-1(g a)``, and ``U -> U g^-1`` makes up for it. Finding such a ``V`` is a linear system with a solution where the columns
of ``h`` are linearly independent, which takes ``n <= m`` (a bias's row of ones is part of ``h``). Two solutions:

* ``"residual"``: ``V -> V + (s^-1(g s(V h)) - V h) h^+``, the nearest to ``V``. The identity acts as the identity, and what
  the batch does not span is left alone.
* ``"published"``: ``V -> s^-1(g s(V h)) h^+``, the shortest. It agrees on the batch, but it projects ``V`` onto the batch's
  span: for ``n < m`` not even ``g = 1`` is the identity, and the loss on other data moves.

Several pairs are moved in order, the lowest first, with ``h`` taken from the weights moved so far. Because the action is
exact, that ``h`` is known without another forward pass: it is ``g a``, and the next layer's output has not changed.
Composition holds on the weights for one pair, for several on the outputs alone, because the Moore-Penrose inverse is not
equivariant.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from teleport_env.groups import GL
from teleport_env.groups.base import Element
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import small_matrices_price
from teleport_env.reading import known
from teleport_env.symmetries.activations import bijective_names
from teleport_env.symmetries.base import Shortcut, Symmetry
from teleport_env.symmetries.networks import FeedForward, Layers, product
from teleport_env.symmetries.pairs import hidden_group, parts_of

FORMS = ("residual", "published")


class Factors(NamedTuple):
    """``h = Q R`` of a layer's inputs ``h`` ``(B, m, n)`` with ``n <= m``.

    Householder's factorization, not Cholesky's of ``h'h``: it keeps the loss to ``eps cond(h)`` instead of
    ``eps cond(h)^2``, and is as differentiable.

    Attributes:
        q: ``(B, m, n)``, orthonormal columns.
        r: ``(B, n, n)``, upper triangular; singular where the columns of ``h`` are linearly dependent, and what is computed
            from it is then not finite, or so large that no search accepts it.
    """

    q: Tensor
    r: Tensor

    @classmethod
    def of(cls, h: Tensor) -> Factors:
        return cls(*torch.linalg.qr(h))

    def times_inverse(self, matrix: Tensor) -> Tensor:
        """``matrix h^+`` ``(B, k, m)`` for ``matrix`` ``(B, k, n)``."""
        divided: Tensor = torch.linalg.solve_triangular(self.r, matrix, upper=True, left=False)
        return product(divided, self.q.mT)

    def inverse(self) -> Tensor:
        """``h^+`` ``(B, n, m)``."""
        return torch.linalg.solve_triangular(self.r, self.q.mT, upper=True).contiguous()

    def inverse_times(self, matrix: Tensor) -> Tensor:
        """``h^+ matrix`` ``(B, n, k)`` for ``matrix`` ``(B, m, k)``."""
        solution: Tensor = torch.linalg.solve_triangular(self.r, product(self.q.mT, matrix), upper=True)
        return solution

    def times_inverse_transposed(self, matrix: Tensor) -> Tensor:
        """``matrix h^+'`` ``(B, k, n)`` for ``matrix`` ``(B, k, m)``."""
        return self.inverse_times(matrix.mT).mT


def times_pseudo_inverse(matrix: Tensor, h: Tensor) -> Tensor:
    """``matrix h^+`` ``(B, k, m)`` for ``matrix`` ``(B, k, n)`` and ``h`` ``(B, m, n)`` of any shape.

    For ``n > m`` this is the least-squares solution, by singular values, so that units that are silent on the whole batch
    do no harm. Rows with a value that is not finite are NaN.
    """
    if h.shape[2] <= h.shape[1]:
        return Factors.of(h).times_inverse(matrix)
    broken = ~torch.isfinite(h).all(2).all(1)[:, None, None]
    # the singular value decomposition raises for all rows where one is not finite
    inverse = torch.linalg.pinv(torch.where(broken, torch.zeros_like(h), h))
    return product(matrix, torch.where(broken, torch.full_like(inverse, torch.nan), inverse))


class OnData(Symmetry):
    """What the actions through the inverse of an activation share; `HiddenUnits` says what the arguments mean."""

    data_dependent = True
    layers: Layers
    examples: int

    def __init__(self, network: FeedForward, name: str, form: str, examples: int | None) -> None:
        activation = network.activation
        if not activation.bijective:
            other = "'scaling' or 'permutation'" if activation.homogeneous else "'permutation'"
            raise ValueError(
                f"{name} needs the inverse of the activation, and {activation.name!r} has none: use the symmetry {other}, "
                f"or one of the activations {', '.join(map(repr, bijective_names()))}"
            )
        self.form = known("form", form, FORMS)
        self.network, self.layers, self.name = network, network.layers, name
        self.group = hidden_group(self.layers, [GL(width) for width in self.layers.hidden])
        self.examples = n = self.largest_batch if examples is None else examples
        # width of a hidden layer, of its inputs (bias included) and of the layer above, the lowest first
        self.sizes = [(k, m, p) for (k, m), (p, _) in pairwise(self.layers.shapes)]
        # on n examples: the forward pass 2 k m n, g a 2 k^2 n, the factorization of h 4 m n^2, h^+ applied k n^2 + 2 k m n,
        # U on a matrix 2 p k^2
        self.move_flops = sum(
            4.0 * k * m * n + 2.0 * k * k * n + 4.0 * m * n * n + 1.0 * k * n * n + 2.0 * p * k * k
            for k, m, p in self.sizes
        )

    @property
    def largest_batch(self) -> int:
        """The largest number of examples on which the action can be exact."""
        return min(columns for _, columns in self.layers.shapes[:-1])


@dataclass(frozen=True)
class CachedActivations(Shortcut):
    """Invertible matrices on the hidden units of a network, in the residual form; walks on the values of the layers.

    Attributes:
        network: The network, with its inputs.
        examples: Number of examples of its inputs; no more than the narrowest layer input.
    """

    network: FeedForward
    examples: int


class HiddenUnits(OnData):
    """``U -> U g^-1``, ``V -> V + (s^-1(g s(V h)) - V h) h^+`` for every hidden layer (head of this module).

    Args:
        network: The network, with its inputs.
        name: Name by which ``symmetry=`` chooses it.
        form: ``"residual"`` or ``"published"``.
        examples: ``n``, for `move_flops` and the searches' prices; by default the most that the action is exact on. Where
            it is given and the action is exact, ascents walk on cached activations (`CachedActivations`).

    Raises:
        ValueError: The activation is not a bijection, the form is unknown, or there is no hidden layer.
    """

    def __init__(
        self,
        network: FeedForward,
        name: str = "general_linear",
        form: str = "residual",
        *,
        examples: int | None = None,
    ) -> None:
        super().__init__(network, name, form, examples)
        form, layers, n = self.form, self.layers, self.examples
        self.exact_when = (
            f"On the batch that the action is built from, if it has at most {self.largest_batch} examples, the narrowest "
            f"layer input{' and its bias' if layers.bias else ''}, and every layer's inputs have full column rank."
        )
        if form == "residual" and examples is not None and examples <= min(columns for _, columns in layers.shapes):
            self.shortcut = CachedActivations(network, examples)
        self.move_flops += sum(2.0 * k**3 for k, _, _ in self.sizes)  # the inverse of g
        self.direction_exact = form == "residual" or len(layers.hidden) == 1
        if form == "residual":  # of the closed form of `ascent_direction`, product by product
            self.direction_flops = sum(
                8.0 * k * m * n + 6.0 * m * n * n + 3.0 * k * n * n + 1.0 * n**3 + 4.0 * k * k * n + 2.0 * p * k * k
                for k, m, p in self.sizes
            )

    def work_price(self, gradient_flops: float) -> float:
        # half a dozen calls a product, which are felt where matrices are small: measured 2.4 for width 6, 1.4 for 32
        price = 1.0 + 5.1 / min(self.layers.hidden) ** 0.7
        return price if self.form == "residual" else 0.92 * price

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """Move the parameters; see the base class. Differentiable twice in ``g`` and ``params`` where it is exact."""
        parts = parts_of(g, len(self.layers.hidden))
        inverses = parts_of(self.group.inverse(g), len(parts))
        network = self.network
        weights = list(self.layers.weights(params))
        value = network.inputs(instance, batch)  # input of the current layer, the layers below moved
        output = network.apply(weights[0], value)  # what it gives before the current pair is moved
        for index, (part, inverse) in enumerate(zip(parts, inverses, strict=True)):
            activated = network.activation(output)
            moved = product(part, activated)
            target = network.activation.inverse(moved)
            h = network.augmented(value)
            if self.form == "residual":
                # s^-1(s(z)) rather than z: its rounding is the target's, so that the identity moves nothing at all
                lower = weights[index] + times_pseudo_inverse(target - network.activation.inverse(activated), h)
            else:
                lower = times_pseudo_inverse(target, h)
            width = self.layers.hidden[index]
            upper = weights[index + 1]
            weights[index] = lower
            weights[index + 1] = torch.cat([product(upper[:, :, :width], inverse), upper[:, :, width:]], dim=2)
            if index + 1 == len(parts):
                break
            if h.shape[2] <= h.shape[1]:
                # (U g^-1)(g a) = U a: nothing has to be recomputed
                output = network.apply(upper, activated)
                value = moved
            else:
                value = network.activation(network.apply(lower, value))
                output = network.apply(weights[index + 1], value)
        return self.layers.flatten(weights)

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """The gradient of ``xi -> |grad L(exp(xi).w)|^2`` at ``xi = 0``, ``(B, group.dim)``: see the base class.

        For hidden layer ``l`` twice ``G_(l+1)' G_(l+1) - e_l a._l' + [(d_l M') / s' + d_l z._l s'' / s'^2] a_l'``, where
        ``z_l``, ``a_l`` are the layer's values, ``d_l = dL/dz_l``, ``e_l = dL/da_l``, dots the tangent along the gradient,
        and ``M = h^+ h.`` with ``h`` the layer's input. Since ``G_l = d_l h'`` and ``h^+ h = 1``, ``d_l = G_l h^+'`` comes
        from the gradient: no pass through the loss, only a forward tangent pass through the hidden layers. The gradient
        must be that of a loss of this network's outputs on this batch, without a penalty on the weights.

        In the published form, and for more examples than the action is exact on, this is the base class's version. It is
        exact for the published form of a single pair; for several it is an approximation (`direction_exact`), because
        ``exp(0)`` already moves the weights: on small networks the cosine with the true direction was 0.97 and more at
        weights that lie in the batch's span, as they do after one move, and 0.5 to 0.9 at others.
        """
        network, activation = self.network, self.network.activation
        with torch.no_grad():
            value = network.inputs(instance, batch)
        if self.form != "residual" or value.shape[2] > self.largest_batch:
            return super().ascent_direction(params, gradient, instance, batch)
        with torch.no_grad():
            weights, gradients = self.layers.weights(params), self.layers.weights(gradient)
            tangent = torch.zeros_like(value)  # of the data
            directions = []
            for index, width in enumerate(self.layers.hidden):
                weight, slope = weights[index], gradients[index]
                factors = Factors.of(network.augmented(value))
                # a bias multiplies a constant, whose tangent is 0
                along = torch.nn.functional.pad(tangent, (0, 0, 0, int(self.layers.bias)))
                output = network.apply(weight, value)
                output_tangent = network.apply(slope, value) + product(weight[:, :, : tangent.shape[1]], tangent)
                first, second = activation.derivative(output), activation.second_derivative(output)
                activated, activated_tangent = activation(output), first * output_tangent

                backward = factors.times_inverse_transposed(slope)  # d_l
                error = backward / first  # e_l
                inner = factors.inverse_times(along)  # M
                bracket = product(backward, inner.mT) / first + error * output_tangent * second / first
                upper = gradients[index + 1][:, :, :width]
                direction = (
                    product(upper.mT, upper) - product(error, activated_tangent.mT) + product(bracket, activated.mT)
                )
                directions.append(2.0 * direction.flatten(1))
                value, tangent = activated, activated_tangent
            return torch.cat(directions, dim=1)


class FirstOrder(OnData):
    """The publication's first-order approximation: ``U -> U (1 - T)``, ``V -> s^-1((1 + T) s(V h)) h^+`` with ``T = g - 1``.

    It is here for the reproduction only. Section 6.1 of the publication states ``1 + T`` and ``1 - T``; that ``h``
    comes from the weights before the move is its released code's. But ``(1 - T)(1 + T) = 1 - T^2``, and the layer below has
    moved. The loss changes, on the publication's regression by 37 to
    98 % at one teleport, and that leak is part of the published gain. `HiddenUnits` is the action that keeps the loss.

    Pairs are moved in order, so that the ``V`` of a pair is already the ``U`` of the pair below. For a single pair the error
    of the loss is ``O(|T|^2)``. For several it is so in the residual form. The published form projects ``V`` onto the old
    inputs, and where the batch does not span the layer (``n < m``) its error is ``O(|T|)``. Not an action of the group: it
    does not compose.

    The element is ``1 + T`` itself, whatever ``T``: a search over this variant takes ``T`` as its coordinates and builds
    ``1 + T``, not an exponential.

    Args:
        network: The network, with its inputs.
        name: Name by which ``symmetry=`` chooses it.
        form: ``"published"``, as the released code has it, or ``"residual"``.
        examples: ``n``, for `move_flops`; by default the narrowest layer input.

    Raises:
        ValueError: The activation is not a bijection, the form is unknown, or there is no hidden layer.
    """

    keeps_loss = False
    exact_when = "Never: g^-1 is replaced by 1 - T, and layer inputs are taken from the weights before the move."

    def __init__(
        self,
        network: FeedForward,
        name: str = "general_linear_first_order",
        form: str = "published",
        *,
        examples: int | None = None,
    ) -> None:
        super().__init__(network, name, form, examples)
        self.move_flops += sum(2.0 * k * m * self.examples for k, m, _ in self.sizes)  # the second forward pass

    def work_price(self, gradient_flops: float) -> float:
        return small_matrices_price(min(self.layers.hidden))

    def act(self, g: Element, params: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        network = self.network
        old = self.layers.weights(params)
        weights = list(old)
        value = network.inputs(instance, batch)
        for index, part in enumerate(parts_of(g, len(self.layers.hidden))):
            width = self.layers.hidden[index]
            output = network.apply(weights[index], value)
            target = network.activation.inverse(product(part, network.activation(output)))
            h = network.augmented(value)
            if self.form == "residual":
                weights[index] = weights[index] + times_pseudo_inverse(target - output, h)
            else:
                weights[index] = times_pseudo_inverse(target, h)
            upper = weights[index + 1]
            # U (1 - T) = 2 U - U g
            moved = 2.0 * upper[:, :, :width] - product(upper[:, :, :width], part)
            weights[index + 1] = torch.cat([moved, upper[:, :, width:]], dim=2)
            value = network.activation(network.apply(old[index], value))
        return self.layers.flatten(weights)
