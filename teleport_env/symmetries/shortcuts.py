"""What a chain of layers offers to searches that walk along its orbits: less than all weights to walk on.

A symmetry that sets `Symmetry.shortcut` to one of these says that its action is the one described here, on parameters that
lie in memory as `Layers` says. Searches find the way to walk by the class of the description, never by that of the symmetry
(`teleport_env.searches.trail_choice`, where descriptions of one's own are entered too).
"""

from __future__ import annotations

from dataclasses import dataclass

from teleport_env.symmetries.networks import FeedForward, Layers


class Shortcut:
    """Something that determines loss and gradient norm along an orbit and is smaller than the weights."""


@dataclass(frozen=True)
class LinearChain(Shortcut):
    """Invertible matrices between the layers of a chain without biases and activations.

    Searches walk on the gradients, in the space that these span.

    Attributes:
        layers: Layout of the chain.
        gradient_rank: A bound on the rank of every layer's gradient, such as the number of examples; None: no bound.
    """

    layers: Layers
    gradient_rank: int | None = None


@dataclass(frozen=True)
class CachedActivations(Shortcut):
    """Invertible matrices on the hidden units of a network, in the residual form of `HiddenUnits`.

    Searches walk on the values of the layers.

    Attributes:
        network: The network, with its inputs.
        examples: How many examples its inputs have; no more than the narrowest layer input.
    """

    network: FeedForward
    examples: int
