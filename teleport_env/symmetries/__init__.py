"""How groups move the weights of a loss and leave the loss where it is."""

from teleport_env.symmetries.activations import Activation, activation, activation_names
from teleport_env.symmetries.base import Pair, Shortcut, Sphere, Symmetry
from teleport_env.symmetries.coordinate_change import CoordinateChange, rotation_between
from teleport_env.symmetries.coupled import CoupledLinear, CoupledPermutation, CoupledScaling, Coupling
from teleport_env.symmetries.hidden_units import CachedActivations, FirstOrder, HiddenUnits
from teleport_env.symmetries.input_transform import InputTransform
from teleport_env.symmetries.networks import FeedForward, Layers, product
from teleport_env.symmetries.pairs import (
    LinearChain,
    LinearPairs,
    PairSymmetry,
    PermutationSymmetry,
    gram_matrices,
)
from teleport_env.symmetries.positive_scaling import Scalings, ScalingSymmetry

__all__ = [
    "Activation",
    "CachedActivations",
    "CoordinateChange",
    "CoupledLinear",
    "CoupledPermutation",
    "CoupledScaling",
    "Coupling",
    "FeedForward",
    "FirstOrder",
    "HiddenUnits",
    "InputTransform",
    "Layers",
    "LinearChain",
    "LinearPairs",
    "Pair",
    "PairSymmetry",
    "PermutationSymmetry",
    "ScalingSymmetry",
    "Scalings",
    "Shortcut",
    "Sphere",
    "Symmetry",
    "activation",
    "activation_names",
    "gram_matrices",
    "product",
    "rotation_between",
]
