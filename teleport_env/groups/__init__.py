"""Groups and their elements, batched: what moves, without what is moved."""

from teleport_env.groups.base import Element, Group, map_element, select, where
from teleport_env.groups.general_linear import GL
from teleport_env.groups.permutations import Permutations
from teleport_env.groups.product import Product
from teleport_env.groups.rotations import SO, SO2
from teleport_env.groups.scaling import PositiveScaling

BUILT_IN: tuple[Group, ...] = (
    SO2(),
    SO(2),
    SO(3),
    SO(5),
    GL(1),
    GL(4),
    PositiveScaling(1),
    PositiveScaling(3),
    Permutations(1),
    Permutations(5),
    Product(SO(3)),
    Product(GL(3), GL(2)),
    Product(PositiveScaling(3), SO2()),
    Product(Permutations(4), Permutations(3)),
    Product(GL(2), Permutations(3)),
)
"""A small example of every group here, for checks that go over all of them."""

__all__ = [
    "BUILT_IN",
    "Element",
    "GL",
    "Group",
    "Permutations",
    "PositiveScaling",
    "Product",
    "SO",
    "SO2",
    "map_element",
    "select",
    "where",
]
