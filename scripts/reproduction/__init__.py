"""The publication's experiments, figure by figure, and what became of its claims.

Zhao, Dehmamy, Walters, Yu, "Symmetry Teleportation for Accelerated Optimization", NeurIPS 2022 (arXiv 2205.10637), called
*the paper* here. Every experiment is played through the public environments: `gym.make_vec` makes them, a schedule issues
the teleports, the environment does the rest. A figure writes a picture, a CSV and its `Row`s: the published claim, the
figure obtained, and whether the claim holds. `page` makes ``docs/reproduction.md`` of the rows.
"""

from reproduction.figures import FIGURES, Figure, reproduce
from reproduction.results import HOLDS, Findings, Row, Setup, page

__all__ = ["FIGURES", "HOLDS", "Figure", "Findings", "Row", "Setup", "page", "reproduce"]
