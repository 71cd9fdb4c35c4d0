"""The paper's experiments, figure by figure, and what became of its claims.

Zhao, Dehmamy, Walters, Yu, "Symmetry Teleportation for Accelerated Optimization", NeurIPS 2022 (arXiv 2205.10637), called
*the paper* here. Experiments are played through the public environments: `gym.make_vec` makes them, a schedule issues
the teleports, the environment does the rest. `plain` does not, the published formulas of which times are taken, nor does the
gradient flow of `discussion`.

A figure is a function ``Setup -> Findings`` in the table `FIGURES`. It plays its independent pieces in several processes
(`pieces.play_all`) and writes pictures, CSV files and its `Row`s: a claim of the paper or a question of this project, what
came out, and whether the claim holds. The words of the rows are in ``claims.toml``. `page` makes of them
``docs/reproduction.md`` and its appendix.
"""

from reproduction.figures import FIGURES, Figure, reproduce
from reproduction.results import HOLDS, Findings, Row, Setup, page

__all__ = ["FIGURES", "HOLDS", "Figure", "Findings", "Row", "Setup", "page", "reproduce"]
