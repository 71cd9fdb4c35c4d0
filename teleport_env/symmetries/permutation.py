"""Permutations of the hidden units of a network."""

from __future__ import annotations

from torch import Tensor

from teleport_env.groups import Permutations
from teleport_env.instances import Batch, Instance
from teleport_env.ledger import elementwise_price
from teleport_env.symmetries.base import Pair
from teleport_env.symmetries.networks import Layers
from teleport_env.symmetries.pairs import PairSymmetry, hidden_group


class PermutationSymmetry(PairSymmetry):
    """``V, b -> P V, P b`` and ``U -> U P'``: hidden unit ``i`` takes place ``p[i]``.

    Exact for every activation and all data, and orthogonal: no norm changes, neither of the weights nor of the gradient
    (Zhao et al., 2022, Cor. 5.2), so a search by gradient norm finds nothing here; a control, and a symmetry for
    optimizers whose state does not move along. Discrete: searched by sampling.

    Args:
        layers: Layout of the network.
        name: What a user types for ``symmetry=``.
        activated: Whether the network has activations, for `work_price`.

    Raises:
        ValueError: The network has no hidden layer.
    """

    weightwise = True
    exact_when = "Always, on all data: an elementwise activation commutes with permutations."

    def __init__(self, layers: Layers, name: str = "permutation", *, activated: bool = True) -> None:
        super().__init__(layers, name, hidden_group(layers, [Permutations(width) for width in layers.hidden]))
        self._activated = activated
        # every weight is gathered by an index; the random order of the units is part of it
        self.move_flops = 12.0 * layers.num_params + 75.0 * sum(layers.hidden)
        self.gradient_flops = 1.5 * self.move_flops  # of several candidates it goes through colder memory, as measured

    def work_price(self, gradient_flops: float) -> float:
        return elementwise_price(gradient_flops, self._activated)

    def _left(self, part: Tensor, matrix: Tensor) -> Tensor:
        # (P V)[p[i]] = V[i], so row j of P V is row p^-1[j] of V
        source = part.argsort(dim=1)
        return matrix.gather(1, source[:, :, None].expand_as(matrix))

    def _right(self, matrix: Tensor, part: Tensor) -> Tensor:
        # column i of U P is column p[i] of U
        return matrix.gather(2, part[:, None, :].expand_as(matrix))

    def _transpose(self, part: Tensor) -> Tensor:
        return part.argsort(dim=1)

    def pairs(self, vector: Tensor, instance: Instance) -> list[Pair]:
        """Empty: closed-form searches move along a Lie algebra, and this group has none."""
        return []

    def ascent_direction(self, params: Tensor, gradient: Tensor, instance: Instance, batch: Batch = None) -> Tensor:
        """Raises NotImplementedError: a discrete group has no directions."""
        raise NotImplementedError(
            f"{self.group.name} is discrete and has no direction of ascent: search it by sampling"
        )
